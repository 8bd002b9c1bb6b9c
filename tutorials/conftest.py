"""Loads minimask's pytest plugin: fixtures, markers of the lessons, --minimask-seed and --minimask-solutions."""

pytest_plugins = ["minimask.testing.plugin"]
