"""A pytest plugin for gradients and for exercises that mark themselves. Nothing loads it but a conftest.py that asks::

    pytest_plugins = ["minimask.testing.plugin"]

Fixtures: `gradcheck`, `rng`, `torch_oracle`, `minimask_backend`, and `lesson`, the module that a test file marks.
Markers: lesson00 to lesson12. Options: ``--minimask-seed``, ``--minimask-backend``, ``--minimask-solutions``.
Hypothesis draws from ``--minimask-seed``, too, so that one number fixes every input, and another gives others.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from .. import backend
from ..backend import MinimaskError
from ..engine import OPS
from . import GradientError, elsewhere, marking
from . import gradcheck as _gradcheck

LESSONS = range(100)
#: What gradcheck takes for itself; everything else by name goes to the function.
SETTINGS = ("rng", "directions", "eps", "rtol", "cotangent")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("minimask")
    group.addoption("--minimask-seed", type=int, default=0, metavar="S",
                    help="seed of the fixture rng and of Hypothesis (default: 0)")
    group.addoption("--minimask-backend", choices=tuple(backend.LIBRARIES), default="numpy",
                    help="array library on which gradcheck repeats value and gradients, beside NumPy (default: numpy)")
    group.addoption("--minimask-solutions", metavar="DIR",
                    help="folder of the lessonNN.py to mark (default: the folder of the test file); "
                         "write it with the =, or pytest takes the folder for one with tests")


def pytest_configure(config: pytest.Config) -> None:
    """Markers, a look at the options, and Hypothesis' settings. UsageError for a backend or folder that is missing."""
    for number in LESSONS:
        config.addinivalue_line("markers", f"lesson{number:02}: an exercise of lesson {number:02}")
    try:
        backend.load(config.getoption("--minimask-backend"))
    except MinimaskError as error:
        raise pytest.UsageError(str(error)) from error
    folder = config.getoption("--minimask-solutions")
    if folder and not Path(folder).is_dir():
        raise pytest.UsageError(f"--minimask-solutions {folder}: there is no such folder")
    if importlib.util.find_spec("hypothesis") and not config.getoption("--hypothesis-profile", None):
        import hypothesis

        # The same examples in every run, whatever an earlier one found; one failure at a time, and the smallest.
        hypothesis.settings.register_profile(
            "minimask", deadline=None, database=None, max_examples=50, print_blob=False, report_multiple_bugs=False,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is no wrong answer
            phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain])
        hypothesis.settings.load_profile("minimask")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Seeds Hypothesis' tests."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item.function, "hypothesis"):
            import hypothesis

            hypothesis.seed(config.getoption("--minimask-seed"))(item.function)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Whatever fails in an exercise names its lesson and task, an error in the student's code, too."""
    try:
        return (yield)
    except Exception as error:
        task = task_of(item)
        if task and task not in str(error):
            drawn = getattr(item, "callspec", None)  # of a parametrized test
            if drawn and drawn.params:
                error.add_note(f"with\n{marking.shown(drawn.params)}")
            error.add_note(f"{task}: this is what its test met; the task is described in {_lesson_of(item.path)}.py")
        raise


def task_of(item: pytest.Item) -> str:
    """'Lesson 3, task 2' for a test called test_task2... in a file test_lesson03.py; empty for others."""
    lesson, task = re.fullmatch(r"test_lesson(\d+)", item.path.stem), re.match(r"test_task(\d+)", item.name)
    return f"Lesson {int(lesson[1])}, task {int(task[1])}" if lesson and task else ""


def _lesson_of(path: Path) -> str:
    return path.stem.removeprefix("test_")


@pytest.fixture(scope="session")
def minimask_backend(pytestconfig: pytest.Config) -> str:
    """The array library to test on, as ``backend=`` takes it: ``--minimask-backend``."""
    return str(pytestconfig.getoption("--minimask-backend"))


@pytest.fixture
def rng(pytestconfig: pytest.Config) -> np.random.Generator:
    """A generator seeded with ``--minimask-seed``. With Hypothesis draw a seed in its place."""
    return np.random.default_rng(pytestconfig.getoption("--minimask-seed"))


@pytest.fixture(scope="session")
def gradcheck(pytestconfig: pytest.Config, minimask_backend: str) -> Callable[..., None]:
    """:func:`minimask.testing.gradcheck`, seeded; on another backend value and gradients must equal NumPy's, too."""
    def check(function: Callable[..., Any], *inputs: Any, **settings: Any) -> None:
        __tracebackhide__ = True
        settings.setdefault("rng", np.random.default_rng((pytestconfig.getoption("--minimask-seed"), 1)))  # not rng's
        try:
            _gradcheck(function, *inputs, **settings)
            if minimask_backend != "numpy":
                for name in SETTINGS:
                    settings.pop(name, None)
                elsewhere(function, *inputs, backend=minimask_backend, **settings)
        except GradientError as error:
            names = {f"input_{i}": x for i, x in enumerate(inputs)}
            raise GradientError(f"{error}\nwith\n{marking.shown(names)}") from None

    return check


@pytest.fixture(scope="session")
def torch_oracle(pytestconfig: pytest.Config) -> Callable[..., None]:
    """:func:`minimask.testing.oracle.compare`, seeded. Skips, and says so, where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: pip install torch to compare with it")
    from .oracle import compare

    def check(*arguments: Any, **settings: Any) -> None:
        __tracebackhide__ = True
        settings.setdefault("rng", np.random.default_rng((pytestconfig.getoption("--minimask-seed"), 1)))  # not rng's
        compare(*arguments, **settings)

    return check


@pytest.fixture(scope="module")
def lesson(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module that is marked, loaded anew: lesson03.py for test_lesson03.py, of the folder to mark."""
    name = _lesson_of(request.path)
    folder = Path(request.config.getoption("--minimask-solutions") or request.path.parent)
    path = folder / f"{name}.py"
    if not path.is_file():
        pytest.fail(f"{path} is missing; `minimask course` writes it into a new folder", pytrace=False)
    before = set(OPS)
    yield _loaded(name, path)
    for added in set(OPS) - before:  # ops that the exercise registered
        del OPS[added]


def _loaded(name: str, path: Path) -> ModuleType:
    """The module in a file, which sys.modules holds under its name, too, so that it behaves like any other."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
