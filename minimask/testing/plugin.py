"""A pytest plugin for gradients and for exercises that mark themselves. Nothing loads it but a conftest.py that asks::

    pytest_plugins = ["minimask.testing.plugin"]

Fixtures: `gradcheck`, `rng`, `torch_oracle`, `minimask_backend`, and `lesson`, the module that a test file marks.
Markers: lesson00 to lesson12. Options: ``--minimask-seed``, ``--minimask-backend``, ``--minimask-solutions``,
``--minimask-limit``. In exercises (tests that use `lesson`) Hypothesis draws from ``--minimask-seed``, too, so that one
number fixes every input, and another gives others; in other tests only where the option is given. Settings, seeds and a
profile of your own win everywhere.

Each submission runs in a process of its own, under a time limit per test: see :mod:`minimask.testing.submission`. With
``--pdb``, ``--trace`` or ``--minimask-limit=0`` everything stays in one process.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from .. import backend
from ..engine import OPS
from ..errors import MinimaskError
from . import GradientError, elsewhere, marking
from . import gradcheck as _gradcheck
from .submission import LEAVING, Apart, Submission, left, passes_through, task_of, told

LESSONS = range(100)
#: What gradcheck takes for itself; everything else by name goes to the function.
SETTINGS = ("rng", "directions", "eps", "rtol", "cotangent")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("minimask")
    group.addoption("--minimask-seed", type=int, metavar="S",
                    help="seed of the fixture rng and of Hypothesis (default: 0)")
    group.addoption("--minimask-backend", choices=tuple(backend.LIBRARIES), default="numpy",
                    help="array library on which gradcheck repeats value and gradients, beside NumPy (default: numpy)")
    group.addoption("--minimask-solutions", metavar="DIR",
                    help="folder of the lessonNN.py to mark (default: the folder of the test file); "
                         "write it with the =, or pytest takes the folder for one with tests")
    group.addoption("--minimask-limit", type=float, default=60.0, metavar="SECONDS",
                    help="how long a test of an exercise may take before it counts as unsolved "
                         "(default: 60); 0: no limit, and no process of its own")
    parser.addini("minimask_one_task", type="bool", default=False,
                  help="pytest alone, without a choice of tests, stops at the first task that is not solved")


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
    if not 0 <= config.getoption("--minimask-limit") < math.inf:
        raise pytest.UsageError("--minimask-limit is a number of seconds, 0 or more; 0 stands for none")
    if _one_task(config):
        config.option.maxfail, config.stash[ONE_TASK] = 1, True


ONE_TASK = pytest.StashKey[bool]()


def _one_task(config: pytest.Config) -> bool:
    """Whether a learner has said just `pytest`, in a course: then one task at a time is shown."""
    chosen = (config.option.keyword, config.option.markexpr, config.option.collectonly, config.option.xmlpath,
              config.getoption("--minimask-solutions"), config.getoption("maxfail"))
    return (bool(config.getini("minimask_one_task")) and not any(chosen)
            and config.args_source is not pytest.Config.ArgsSource.ARGS)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """After `pytest` alone: how many tasks are solved before the one that is shown, and how to see it, or all."""
    if ONE_TASK not in config.stash:
        return

    def tasks(outcome: str) -> set[tuple[str, str]]:
        ids = (re.search(r"test_(lesson\d\d)\.py.*::test_(task\d+)", report.nodeid)
               for report in terminalreporter.stats.get(outcome, ()))
        return {(match[1], match[2]) for match in ids if match}

    failed = tasks("failed") | tasks("error")
    solved = len(tasks("passed") - failed)
    for lesson_name, task in sorted(failed):
        tasks_solved = f"{solved} task{'' if solved == 1 else 's'} solved"
        terminalreporter.write_line(f"{tasks_solved}; the next is {task} of {lesson_name}: write it in "
                                    f"exercises/{lesson_name}.py, then pytest -m {lesson_name} -k {task}")
        terminalreporter.write_line("all at once: pytest exercises; which are solved: minimask course status .")


@pytest.hookimpl(trylast=True)  # once pytest has left out what -k and -m do not name
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Settings and seed of Hypothesis' tests, where their owner has said nothing; one skip for what need not be there.

    A test file with a sentence OPTIONAL marks what need not be there: while that is a stub, or missing in the folder to
    mark, one skip with the sentence stands for all of the file's tests.
    """
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item.function, "hypothesis"):
            _settle(config, item)
    why = {path: why for path in {item.path for item in items} if (why := _unwritten(config, path, items))}
    told: set[Path] = set()
    for item in list(items):
        if item.path in told:
            items.remove(item)
        elif item.path in why:
            told.add(item.path)
            item.add_marker(pytest.mark.skip(reason=why[item.path]))


def _unwritten(config: pytest.Config, path: Path, items: list[pytest.Item]) -> str:
    """Why the tests of a file that says OPTIONAL have nothing to mark; empty if they have."""
    modules = (getattr(item, "module", None) for item in items if item.path == path)
    optional = next((sentence for module in modules if (sentence := getattr(module, "OPTIONAL", ""))), "")
    marked = _marked(config, path)
    if optional and not marked.is_file():
        return f"{marked} is not there, and need not be: {optional}"
    return f"{marked.name} is not filled in: {optional}" if optional and _is_stub(marked) else ""


def _is_stub(path: Path) -> bool:
    """Whether every function of a file still does no more than raise NotImplementedError."""
    try:
        functions = [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)]
    except (SyntaxError, ValueError):
        return False  # somebody's work, which its tests report
    ends = [node.body[-1] for node in functions]
    return bool(ends) and all(isinstance(end, ast.Raise) and "NotImplementedError" in ast.unparse(end) for end in ends)


def _settle(config: pytest.Config, item: pytest.Function) -> None:
    """Our settings for an exercise, and our seed for it, or for any test if --minimask-seed is given."""
    import hypothesis

    function, exercise = item.function, _is_exercise(item)
    builtin = [hypothesis.settings.get_profile(name) for name in ("default", "ci") if name == "default" or _has(name)]
    if exercise and hypothesis.settings.default in builtin and not config.getoption("--hypothesis-profile", None):
        # The same examples in every run, whatever an earlier one found; one failure at a time, and the smallest.
        ours = hypothesis.settings(
            deadline=None, database=None, derandomize=False, max_examples=50, print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is no wrong answer
            phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain])
        if not getattr(function, "_hypothesis_internal_settings_applied", False):
            ours(function)
    given = config.getoption("--minimask-seed") is not None
    own = getattr(function, "_hypothesis_internal_use_seed", None)
    if (exercise or given) and own is None and config.getoption("--hypothesis-seed", None) is None:
        hypothesis.seed(seed_of(config))(function)


def _has(profile: str) -> bool:
    """Whether Hypothesis knows a profile."""
    import hypothesis

    try:
        return hypothesis.settings.get_profile(profile) is not None
    except hypothesis.errors.InvalidArgument:
        return False


def seed_of(config: pytest.Config) -> int:
    """--minimask-seed; 0 unless given."""
    return int(config.getoption("--minimask-seed") or 0)


def _is_exercise(item: pytest.Item) -> bool:
    return "lesson" in getattr(item, "fixturenames", ())


APART = pytest.StashKey[Apart]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """An exercise runs in the process of its submission."""
    config = item.config
    limit = config.getoption("--minimask-limit")
    here = config.pluginmanager.has_plugin("minimask-server") or config.getoption("usepdb") or config.getoption("trace")
    if here or not limit or not _is_exercise(item) or item.get_closest_marker("skip"):
        return None
    if APART not in config.stash:
        config.stash[APART] = Apart(config, limit)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in config.stash[APART].reports(item, nextitem):
        _second_hint(item, report)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A second hint where the test ran in this process."""
    report = yield
    if _is_exercise(item):
        _second_hint(item, report)  # type: ignore[arg-type]
    return report


#: How many times a task must have failed, each in a run of its own, before its second hint is given.
TRIES = 3
COUNTS = pytest.StashKey[dict[str, set[str]]]()


def _second_hint(item: pytest.Item, report: pytest.TestReport) -> None:
    """Notes what became of a task; from its third failing run on its failures show what HINTS in its test file says."""
    task, cache = task_of(item), getattr(item.config, "cache", None)
    if not task or cache is None or item.config.pluginmanager.has_plugin("minimask-server"):
        return
    nothing: dict[str, set[str]] = {"failed": set(), "passed": set()}
    seen = item.config.stash.setdefault(COUNTS, nothing)
    if report.failed and "NotImplementedError" not in report.longreprtext:  # else nothing was tried
        seen["failed"].add(task)
        before = int((cache.get("minimask/tries", None) or {}).get(task, 0))
        hint = getattr(getattr(item, "module", None), "HINTS", {}).get(int(task.rpartition(" ")[2]))
        if hint and before + 1 >= TRIES:
            report.sections.append(("second hint", f"{task}: {hint}"))
    elif report.passed and report.when == "call":
        seen["passed"].add(task)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keeps how many runs have failed at each task; a task that is solved begins anew."""
    seen = session.config.stash.get(COUNTS, None)
    if seen is None:
        return
    cache: Any = session.config.cache
    tries = dict(cache.get("minimask/tries", None) or {})
    for task in seen["passed"] - seen["failed"]:
        tries.pop(task, None)
    for task in seen["failed"]:
        tries[task] = int(tries.get(task, 0)) + 1
    cache.set("minimask/tries", tries)


def pytest_unconfigure(config: pytest.Config) -> None:
    """No process is left behind."""
    if APART in config.stash:
        config.stash[APART].stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Whatever fails in an exercise names its lesson and task, an error in the student's code, too."""
    lesson, task = getattr(item, "funcargs", {}).get("lesson"), task_of(item)
    if isinstance(lesson, Submission):
        lesson.task = task
    try:
        return (yield)
    except LEAVING as error:
        if isinstance(lesson, Submission) and passes_through(error, Path(str(lesson.module.__file__))):
            raise AssertionError(left(task, error)) from error
        raise
    except Exception as error:
        if task and task not in str(error):
            drawn = getattr(item, "callspec", None)  # of a parametrized test
            if drawn and drawn.params:
                error.add_note(f"with\n{marking.shown(drawn.params)}")
            error.add_note(f"{task}: this is what its test met; the task is described in {_lesson_of(item.path)}.py")
        raise


def _lesson_of(path: Path) -> str:
    return path.stem.removeprefix("test_")


def _marked(config: pytest.Config, path: Path) -> Path:
    """What a test file marks: lesson03.py for test_lesson03.py, of the folder to mark."""
    return Path(config.getoption("--minimask-solutions") or path.parent) / f"{_lesson_of(path)}.py"


@pytest.fixture(scope="session")
def minimask_backend(pytestconfig: pytest.Config) -> str:
    """The array library to test on, as ``backend=`` takes it: ``--minimask-backend``."""
    return str(pytestconfig.getoption("--minimask-backend"))


@pytest.fixture
def rng(pytestconfig: pytest.Config) -> np.random.Generator:
    """A generator seeded with ``--minimask-seed``. With Hypothesis draw a seed in its place."""
    return np.random.default_rng(seed_of(pytestconfig))


@pytest.fixture(scope="session")
def gradcheck(pytestconfig: pytest.Config, minimask_backend: str) -> Callable[..., None]:
    """:func:`minimask.testing.gradcheck`, seeded; on another backend value and gradients must equal NumPy's, too."""
    def check(function: Callable[..., Any], *inputs: Any, **settings: Any) -> None:
        __tracebackhide__ = True
        settings.setdefault("rng", np.random.default_rng((seed_of(pytestconfig), 1)))  # not rng's
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
        settings.setdefault("rng", np.random.default_rng((seed_of(pytestconfig), 1)))  # not rng's
        compare(*arguments, **settings)

    return check


@pytest.fixture(scope="module")
def lesson(request: pytest.FixtureRequest) -> Iterator[Submission]:
    """The module that is marked, loaded anew: lesson03.py for test_lesson03.py, of the folder to mark.

    Its functions are called with copies of their arrays, and a write into one is named.
    """
    path = _marked(request.config, request.path)
    name, folder = path.stem, path.parent
    if not path.is_file():
        pytest.fail(f"{path} is missing; `minimask course` writes it into a new folder", pytrace=False)
    before = set(OPS)
    with _modules_of(folder.resolve()):
        number = name.removeprefix("lesson")
        with told(f"Lesson {int(number)}" if number.isdecimal() else name, path):
            module = _loaded(name, path)
        yield Submission(module)
    for added in set(OPS) - before:  # ops that the exercise registered
        del OPS[added]


def _loaded(name: str, path: Path) -> ModuleType:
    """The module in a file, which sys.modules holds under its name, too, so that it behaves like any other."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@contextmanager
def _modules_of(folder: Path) -> Iterator[None]:
    """Inside, what lies in the folder can be imported, before others of its name; later nothing of it is left."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(folder) and not name.startswith(("test_", "conftest")):
                del sys.modules[name]
