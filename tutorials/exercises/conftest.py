pytest_plugins = ["minimask.testing.plugin"]
