"""Marks the exercises of one lesson many times over, in one process: python marked.py LESSON EXERCISES OUT.json

The stubs that students get, the reference solutions, and every wrong solution up to its first failure. OUT.json: name of the
run -> [[test, outcome, text of the failure], ...]. A process of its own, since pytest runs inside it.
"""

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

SOLUTIONS = Path(__file__).parent / "solutions"
SEEDS = (0, 1)  # of the wrong solutions in turn; the reference has the first
#: The plugin's settings, but for the search of the smallest input, which takes longer than all the rest: a wrong solution is
#: to be noticed and told here, and whether that is done well with a small input is for the plugin's own tests.
hypothesis.settings.register_profile(
    "noticed", deadline=None, database=None, derandomize=False, max_examples=50, print_blob=False, report_multiple_bugs=False,
    suppress_health_check=[hypothesis.HealthCheck.too_slow], phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
#: A solution that is the reference, but for the functions of one entry of WRONG.
MIXED = """
from pathlib import Path
exec(compile(Path({reference!r}).read_text(encoding="utf-8"), {reference!r}, "exec"))
import marked
globals().update(marked.wrong({lesson!r})[{task!r}][{number}])
"""


class Reports:
    """A plugin that keeps what became of every test."""

    def __init__(self):
        self.rows = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.rows.append([report.nodeid.partition("::")[2], report.outcome, report.longreprtext])


def wrong(lesson):
    """task -> the wrong solutions, each a dict of the functions that replace the reference's."""
    specification = importlib.util.spec_from_file_location(f"wrong_{lesson}", SOLUTIONS / f"wrong/{lesson}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return {task: [entry if isinstance(entry, dict) else {entry.__name__: entry} for entry in entries]
            for task, entries in module.WRONG.items()}


def mark(exercises, lesson, solutions, *options, seed=SEEDS[0]):
    """What pytest says of one folder of solutions."""
    reports = Reports()
    sys.modules.pop(f"test_{lesson}", None)  # its tests keep the settings and the seed of the run before
    pytest.main([str(exercises / f"test_{lesson}.py"), f"--minimask-solutions={solutions}", f"--minimask-seed={seed}",
                 "--minimask-limit=0",  # they are known to do no harm, and there are hundreds
                 "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin", *options], plugins=[reports])
    return reports.rows


def main(lesson, exercises, out):
    reference = SOLUTIONS / f"{lesson}.py"
    runs = {"stubs": mark(exercises, lesson, exercises)}
    runs["reference"] = mark(exercises, lesson, SOLUTIONS)
    for task, entries in wrong(lesson).items():
        for number, entry in enumerate(entries):
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / f"{lesson}.py").write_text(
                    MIXED.format(reference=str(reference), lesson=lesson, task=task, number=number), encoding="utf-8")
                name = ", ".join(getattr(f, "__name__", str(f)) for f in entry.values())
                runs[f"{task} {number}: {name}"] = mark(exercises, lesson, folder, "-x", "-k", f"test_{task}_",
                                                        "--hypothesis-profile=noticed", seed=SEEDS[number % 2])
    Path(out).write_text(json.dumps(runs), encoding="utf-8")


if __name__ == "__main__":
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # looking for plugins takes as long as marking
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
