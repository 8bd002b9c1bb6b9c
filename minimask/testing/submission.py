"""What was handed in, at arm's length: a submission runs in a process of its own, on copies, under a time limit.

The process that marks collects the tests and writes the report; for each file of exercises it starts one more, which
loads the submission and runs its tests, one by one, and sends back what became of them. Whatever a submission does to
its process (os._exit, an endless loop, a crash), the one who marks notes the task as unsolved, says so in words, and
goes on with the next in a new process. This is no prison: a submission has the rights of whoever runs it.
"""

from __future__ import annotations

import builtins
import faulthandler
import functools
import json
import multiprocessing
import re
import sys
import tempfile
import types
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..engine import OPS, Tensor
from . import marking

#: Ways to leave a test that are no answer.
LEAVING = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception, unittest.SkipTest, SystemExit)
#: How long a process may take to start, in seconds, and to say that a test has ended, beyond the limit of the test.
START, GRACE = 120, 5
CHANGED = ("your code changed {}, which marks it or which marking uses; that is no answer, and the task counts as "
           "unsolved")


# ---- in the process of the submission: what is handed out, and what comes back --------------------------------------


class Submission:
    """A module whose functions are called with copies of their arrays, and must leave those as they are.

    So expected values may be computed before or after a call, from what the test holds. `task` begins the sentences.
    """

    def __init__(self, module: types.ModuleType):
        self.module = module
        self.task = ""

    def __repr__(self) -> str:
        return self.module.__name__

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.module, name)
        plain = isinstance(value, types.FunctionType) and not hasattr(value, "surrogate")  # an op is itself, in OPS too
        return _watched(value, self) if plain else value


def _watched(function: Callable[..., Any], submission: Submission) -> Callable[..., Any]:
    """The function on copies. What it returns is watched, too: pullbacks write later."""
    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        copies: dict[int, tuple[np.ndarray, np.ndarray, str]] = {}
        labels = {id(x): name for name, x in [*zip(_names(function), args), *named.items()]}

        def handed(x: Any) -> Any:
            if isinstance(x, np.ndarray) and type(x) is np.ndarray:
                if id(x) not in copies:
                    copies[id(x)] = x, x.copy(order="K"), labels.get(id(x), "an array that it was given")
                return copies[id(x)][1]
            return type(x)(map(handed, x)) if type(x) in (list, tuple) else x

        given = [(x.data, x.data.copy(), labels.get(id(x), "a Tensor"))  # a Tensor goes in itself: its .grad is wanted
                 for x in (*args, *named.values()) if isinstance(x, Tensor) and isinstance(x.data, np.ndarray)]
        inputs = [handed(x) for x in args], {name: handed(x) for name, x in named.items()}

        def checked(result: Any) -> Any:
            for before, now, what in [*copies.values(), *((old, x, what) for x, old, what in given)]:
                marking.stays(before, now, submission.task, what, function.__name__)
            return result

        return _followed(checked(staying(submission.task, function, *inputs[0], **inputs[1])), submission, checked)

    return call


def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[:code.co_argcount]


def _followed(result: Any, submission: Submission, checked: Callable[[Any], Any]) -> Any:
    """A result in which every function, a pullback, is watched; when it has run, so are the inputs of its maker."""
    if isinstance(result, types.FunctionType):
        watched = _watched(result, submission)
        return functools.wraps(result)(lambda *args, **named: checked(watched(*args, **named)))
    if type(result) is tuple:
        return tuple(_followed(part, submission, checked) for part in result)
    return result


def staying(task: str, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """function(...), in which a way to leave the test, in the place of an answer, is a failure said in words."""
    __tracebackhide__ = True
    try:
        return function(*args, **named)
    except BaseException as error:
        if not isinstance(error, LEAVING) and type(error).__name__ != "UnsatisfiedAssumption":
            raise
        raise AssertionError(left(task, error)) from error


def left(task: str, error: BaseException) -> str:
    """The sentence for a submission that left the test."""
    way = {"Skipped": "a skip", "SkipTest": "a skip", "XFailed": "an expected failure",
           "Exit": "the end of the session", "SystemExit": "the end of the program"}
    kind = type(error).__name__
    return (f"{task or 'exercise'}: your code raised {kind} ({error}), {way.get(kind, 'a wish for another example')}; "
            "that is no answer, and the task counts as unsolved. Take it out, and return the result")


def passes_through(error: BaseException, path: Path) -> bool:
    """Whether an exception came through code of the submission `path`: its folder's, or code that stands in no file.

    Tests, which may lie in the same folder, and Hypothesis, which makes functions out of text, are not the submission.
    """
    trace = error.__traceback__
    while trace:
        frame, file = trace.tb_frame, Path(trace.tb_frame.f_code.co_filename)
        tests = file.name.startswith("test_") or file.name == "conftest.py"
        if file == path or (file.is_relative_to(path.parent) and not tests):
            return True
        if file.name.startswith("<") and not str(frame.f_globals.get("__name__", "")).startswith("hypothesis"):
            return True
        trace = trace.tb_next
    return False


# ---- the code that marks must stay what it is ------------------------------------------------------------------------


#: What marks: these packages whole, and these modules.
MARKING, MODULES = ("minimask", "_pytest", "pluggy", "hypothesis"), ("pytest", "numpy", "numpy.random", "numpy.linalg")


def fingerprint(test: types.ModuleType) -> list[tuple[str, Any, str, Any, Any]]:
    """All that marks (minimask, the test, pytest, Hypothesis, NumPy, builtins), as rows for :func:`changed`.

    A row is a place in words, the names that it stands among, its own, its value, and a function's code and defaults.
    A row without a name of its own is of a whole class or module: the names there, and those that may not come to them:
    in a class all (they would hide a base class's), in a module the builtins'.
    """
    rows: list[tuple[str, Any, str, Any, Any]] = []
    hiding = frozenset(vars(builtins))

    def enter(place: str, names: Any, members: Any) -> None:
        for name, value in members:
            code = (value.__code__, value.__defaults__, value.__kwdefaults__) if isinstance(
                value, types.FunctionType) else None
            rows.append((f"{place}.{name}", names, name, value, code))

    modules = [m for name, m in list(sys.modules.items()) if m is not None and (
        name.partition(".")[0] in MARKING or name in MODULES)]
    for module in [*modules, builtins]:
        members = [(name, value) for name, value in list(vars(module).items())
                   if callable(value) or isinstance(value, types.ModuleType)]
        enter(module.__name__, vars(module), members)
        rows.append((module.__name__, vars(module), "", frozenset(vars(module)), hiding))
        for name, value in members:
            if isinstance(value, type) and module is not builtins and value.__module__ == module.__name__:
                enter(f"{module.__name__}.{name}", vars(value), [  # methods, properties, class methods
                    (n, f) for n, f in list(vars(value).items()) if callable(f) or hasattr(type(f), "__get__")])
                rows.append((f"{module.__name__}.{name}", vars(value), "", frozenset(vars(value)), None))
    enter(test.__name__, vars(test), list(vars(test).items()))
    for name, value in list(vars(test).items()):
        if hasattr(handle := getattr(value, "hypothesis", None), "inner_test"):  # the test that @given calls
            enter(f"{test.__name__}.{name}.hypothesis", vars(handle), list(vars(handle).items()))
    enter("minimask.engine.OPS", OPS, list(OPS.items()))
    return rows


def changed(rows: list[tuple[str, Any, str, Any, Any]]) -> str:
    """The place of something that marks and is no longer what it was; empty if all is well."""
    for place, names, name, value, code in rows:
        if not name:
            added = names.keys() - value if code is None else (names.keys() & code) - value
            for new in added:  # Python itself keeps lists and such there, as __slotnames__, and no functions
                if not new.startswith("__") or callable(names[new]):
                    return f"{place}.{new}"
            continue
        if names.get(name) is not value:
            return place
        if code is not None and (value.__code__, value.__defaults__, value.__kwdefaults__) != code:
            return f"{place}.__code__"
    return ""


def sealed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with globals and builtins of its own, so that patching the one in its module does not reach it."""
    assert isinstance(function, types.FunctionType)
    return types.FunctionType(function.__code__, {"__builtins__": dict(vars(builtins))}, function.__name__)


# ---- the two processes -------------------------------------------------------------------------------------------


class Apart:
    """The marking side: keeps a process for one file of exercises at a time, and asks it for one test after another."""

    def __init__(self, config: pytest.Config, limit: float):
        self.config, self.limit = config, limit
        self.process: Any = None
        self.path: Path | None = None
        self.lost: dict[Path, str] = {}  # file -> why its submission cannot even be loaded
        self.traces = tempfile.TemporaryDirectory(prefix="minimask-")

    def reports(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        """What became of a test: the reports of its process, or one that says how the process ended."""
        if item.path in self.lost:
            return [failed(item, self.lost[item.path])]
        try:
            if self.path != item.path or self.process is None:
                self._start(item)
            self._send(item, nextitem)
            found = []
            while True:
                message = self._receive(self.limit + GRACE)
                if message["kind"] == "report":
                    found.append(self.config.hook.pytest_report_from_serializable(config=self.config,
                                                                                   data=message["report"]))
                elif message["kind"] == "done":
                    if message["tainted"]:
                        self.stop()
                    for report in found:
                        report.nodeid, report.location = item.nodeid, item.location
                        if isinstance(report.longrepr, list):  # a skip's, which JSON made of a tuple
                            report.longrepr = tuple(report.longrepr)
                    return found
        except (EOFError, OSError, TimeoutError) as error:
            why, loading = self._obituary(error)
            if loading:
                self.lost[item.path] = why
            return [failed(item, why)]

    def _start(self, item: pytest.Item) -> None:
        self.stop()
        self.path = item.path
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.trace = Path(self.traces.name) / "where"
        self.trace.write_text("")
        options = {name: value for name, value in vars(self.config.option).items()
                   if _plain(value) and name != "file_or_dir" and not name.startswith("_")}
        options |= {"rootdir": str(self.config.rootpath), "inifilename": str(self.config.inipath or "") or None,
                    "usepdb": False, "maxfail": 0, "xmlpath": None, "numprocesses": None, "dist": "no", "tx": [],
                    "collectonly": False, "plugins": [], "keyword": "", "markexpr": "", "deselect": None}
        self.process = context.Process(target=serve, daemon=True, args=(
            theirs, options, str(item.path), str(self.trace), self.limit))
        self.process.start()
        theirs.close()
        if self._receive(START)["kind"] != "ready":
            raise EOFError

    def _send(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        follows = nextitem if nextitem is not None and nextitem.path == item.path else None
        self.connection.send_bytes(json.dumps([_within(item), _within(follows) if follows else None]).encode())

    def _receive(self, seconds: float) -> dict[str, Any]:
        if not self.connection.poll(seconds):
            raise TimeoutError
        return dict(json.loads(self.connection.recv_bytes()))

    def _obituary(self, error: Exception) -> tuple[str, bool]:
        """How the process ended, in words, and whether it did so while it loaded the submission."""
        self.process.join(GRACE)
        code, where = self.process.exitcode, self.trace.read_text(errors="replace")
        self.stop()
        lines = [line.strip() for line in where.splitlines() if f"{_file(self.path)}\"" in line]
        if isinstance(error, TimeoutError) or where:
            at = f"; it was at {lines[0].removeprefix('File ')}" if lines else ""
            return (f"no answer within {self.limit:g} seconds, so the task counts as unsolved{at}. Is there a loop "
                    "that never ends, or a wait for input? (--minimask-limit sets the seconds)",
                    any(line.endswith("in <module>") for line in lines))
        how = f"signal {-code}" if code and code < 0 else f"exit status {code}"
        return (f"your code ended the whole process ({how}) in place of an answer, so the task counts as unsolved. "
                "Leave out what ends a program (os._exit, exit, breakpoint()); to look inside, run pytest with --pdb"
                ), False

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self.process is not None:
            self.connection.close()
            self.process.join(0.5)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        self.process = None


def task_of(item: pytest.Item) -> str:
    """'Lesson 3, task 2' for a test called test_task2... in a file test_lesson03.py; empty for others."""
    lesson, task = re.fullmatch(r"test_lesson(\d+)", item.path.stem), re.match(r"test_task(\d+)", item.name)
    return f"Lesson {int(lesson[1])}, task {int(task[1])}" if lesson and task else ""


def failed(item: pytest.Item, why: str) -> pytest.TestReport:
    """The report of a test that could not end by itself."""
    return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed",
                             f"{task_of(item) or item.name}: {why}", "call", duration=0.0)


def _file(path: Path | None) -> str:
    return f"{path.stem.removeprefix('test_')}.py" if path else ""


def _within(item: pytest.Item) -> str:
    """An item's name inside its file, parameters too."""
    return item.nodeid.partition("::")[2]


def _module(item: pytest.Item) -> types.ModuleType:
    """The test file's module."""
    assert isinstance(item, pytest.Function)
    return item.module


def _plain(value: Any) -> bool:
    """Whether an option's value is made of numbers and text alone, so that another process can be given it."""
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def serve(connection: Connection, options: dict[str, Any], path: str, trace: str, limit: float) -> None:
    """The submission's side: collects one file, and runs the tests that it is asked for until nobody asks."""
    config = pytest.Config.fromdictargs(options, ["-p", "no:terminal", "-p", "no:cacheprovider", path])
    config.pluginmanager.register(_Server(connection, Path(trace), limit), "minimask-server")
    config.hook.pytest_cmdline_main(config=config)


class _Server:
    """A plugin whose loop over the tests is led by the process that marks."""

    def __init__(self, connection: Connection, trace: Path, limit: float):
        self.connection, self.trace, self.limit = connection, trace, limit

    def _say(self, kind: str, **more: Any) -> None:
        self.connection.send_bytes(json.dumps({"kind": kind, **more}).encode())

    @pytest.hookimpl
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs what is asked for; ends with the process that asks, and after a test that changed the marking code."""
        items = {_within(item): item for item in session.items}
        self.config = session.config
        rows, look = fingerprint(_module(session.items[0])), sealed(changed)
        self._say("ready")
        with open(self.trace, "w") as where:
            while True:
                try:
                    name, follows = json.loads(self.connection.recv_bytes())
                except EOFError:
                    return True
                item = items[name]
                self.reports: list[pytest.TestReport] = []
                faulthandler.dump_traceback_later(self.limit, exit=True, file=where)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=items.get(follows))
                faulthandler.cancel_dump_traceback_later()
                tainted = look(rows)
                if tainted:
                    self.reports = [failed(item, CHANGED.format(tainted))]
                for report in self.reports:
                    self._say("report", report=self.config.hook.pytest_report_to_serializable(
                        config=self.config, report=report))
                self._say("done", tainted=bool(tainted))
                if tainted:
                    return True

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps a report until the test is over, and the code that made it was looked at."""
        self.reports.append(report)


@contextmanager
def told(task: str, path: Path) -> Iterator[None]:
    """Inside, a skip or an exit that the submission in `path` raised is a failure said in words."""
    try:
        yield
    except LEAVING as error:
        if not passes_through(error, path):
            raise
        raise AssertionError(left(task, error)).with_traceback(error.__traceback__) from None
