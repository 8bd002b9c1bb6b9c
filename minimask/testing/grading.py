"""Marks many submissions of the course's exercises: one warm process, which forks for each submission.

The process that marks imports NumPy, pytest, Hypothesis and minimask and collects the tests once; it never runs a line
of a submission. For each submission and lesson it forks a process, which loads the submission from a folder of its own
(a copy), runs the tests one by one, and says through a pipe what became of each. A test that takes longer than the
limit, or a process that ends, is one unsolved test; the next runs in a new fork.

Where processes cannot fork (Windows), pytest runs once for each submission, which takes more time and marks the same.

This is no prison: a submission has the rights of whoever marks it. See docs/teaching.md for what that leaves open.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ..errors import MinimaskError, UsageError
from .handed_in import Submission, touched, written_out
from .submission import CHANGED, GRACE, changed, fingerprint, sealed, task_of

#: What a process of a submission may take: bytes of memory beyond those of the marking process, and bytes in one file.
MEMORY, FILE = 4 << 30, 64 << 20
#: Characters of one failure's text; a submission can make it as long as it likes.
TEXT = 6000
TASK = re.compile(r"test_task(\d+)")


@dataclass
class Task:
    """What one task of one submission is worth: `failures` are texts, one for each test that failed."""

    lesson: str
    number: int
    of: float = 1.0
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def solved(self) -> bool:
        """Whether all of its tests passed; those that the test itself skips are left out, but one must have passed."""
        return bool(self.passed) and not self.failures

    @property
    def points(self) -> float:
        """All of its points, or none."""
        return self.of if self.solved else 0.0

    @property
    def title(self) -> str:
        """'lesson 03, task 2'."""
        return f"lesson {self.lesson}, task {self.number}"


@dataclass
class Mark:
    """What one submission is worth. `remarks` are for whoever marks, not for the student."""

    name: str
    tasks: list[Task]
    remarks: list[str] = field(default_factory=list)

    @property
    def points(self) -> float:
        """The sum over the tasks."""
        return sum(task.points for task in self.tasks)

    @property
    def of(self) -> float:
        """What could be had."""
        return sum(task.of for task in self.tasks)


@dataclass(frozen=True)
class Settings:
    """How to mark: `tests` is the folder of the test files, `seed` draws their inputs, `limit` is seconds per test."""

    tests: Path
    seed: int = 0
    limit: float = 60.0
    jobs: int = 1


Progress = Callable[[int, int, str], None]


def grade(found: Sequence[Submission], settings: Settings, progress: Progress = lambda done, of, name: None,
          lessons: Sequence[str] | None = None) -> list[Mark]:
    """Marks every submission: -> a Mark for each, in their order; a lesson that was not handed in has unsolved tasks.

    Args:
        lessons: those that count; unless given, those of which there is a file. progress: called after every test.

    Raises:
        UsageError: there are no tests for a lesson. MinimaskError: the tests themselves cannot be loaded.
    """
    handed_in = {number for submission in found for number in submission.work}
    numbers = sorted(handed_in if lessons is None else set(lessons))
    paths = [settings.tests / f"test_lesson{number}.py" for number in numbers]
    for path in paths:
        if not path.is_file():
            raise UsageError(f"there are no tests for lesson {path.stem[-2:]}: {path} is missing; --lessons names those"
                             " to mark, --tests the folder of tests of your own")
    marker = _Forking(found, settings, progress) if hasattr(os, "fork") else _Calling(found, settings, progress)
    status = _session(paths, settings, marker)
    if marker.error is not None:
        raise marker.error
    if marker.marks is None:
        raise MinimaskError(f"the tests in {settings.tests} cannot be loaded (pytest ended with {status}); "
                            f"`pytest --collect-only {settings.tests}` shows why")
    return marker.marks


def _session(paths: Sequence[Path], settings: Settings, marker: _Marker) -> int:
    """One session of pytest in this process, whose loop over the tests is the marker's."""
    words = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler", "-s", "--tb=short", "-q",
             f"--minimask-seed={settings.seed}", f"--minimask-limit={settings.limit or 60}", *map(str, paths)]
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # what was marked leaves nothing behind
    kept = os.environ.pop("PYTEST_ADDOPTS", None)
    from hypothesis import configuration

    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="minimask-") as notes:
            warnings.simplefilter("ignore")  # of modules that pytest would have liked to rewrite
            configuration.set_hypothesis_home_dir(notes)  # else .hypothesis, here, which may be what was handed in
            return int(pytest.main(words, plugins=[marker]))
    finally:
        configuration.set_hypothesis_home_dir(None)
        sys.dont_write_bytecode = bytecode
        if kept is not None:
            os.environ["PYTEST_ADDOPTS"] = kept


class _Marker:
    """The plugin that takes the loop over the tests. `marks` is None until it is through."""

    def __init__(self, found: Sequence[Submission], settings: Settings, progress: Progress):
        self.found, self.settings, self.progress = found, settings, progress
        self.marks: list[Mark] | None = None
        self.error: BaseException | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """So that minimask's plugin knows that tests run where they are called, and pytest prints nothing."""
        config.pluginmanager.register(object(), "minimask-server")
        config.pluginmanager.unregister(name="terminalreporter")

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """A signal while the tests are collected, of which pytest would make a status like that of broken tests."""
        if isinstance(excinfo.value, KeyboardInterrupt):
            self.error = excinfo.value

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Marks everything."""
        if session.testsfailed:  # while they were collected
            return True
        try:
            self._mark(session)
        except BaseException as error:  # pytest would make a page of it
            self.error = error
        return True

    def _mark(self, session: pytest.Session) -> None:
        files: dict[str, list[pytest.Item]] = {}
        for item in session.items:
            if TASK.match(item.name):
                files.setdefault(item.path.stem[-2:], []).append(item)
        marks = {s.name: Mark(s.name, [task for number in sorted(files) for task in _tasks(number, files[number])],
                              list(s.remarks)) for s in self.found}
        with tempfile.TemporaryDirectory(prefix="minimask-grade-", ignore_cleanup_errors=True) as work:
            self.run(files, marks, Path(work))
        self.marks = list(marks.values())

    def run(self, files: dict[str, list[pytest.Item]], marks: dict[str, Mark], work: Path) -> None:
        """Marks all of `found`, lesson by lesson."""
        raise NotImplementedError


def _tasks(lesson: str, items: Sequence[pytest.Item]) -> list[Task]:
    """The tasks that the tests of a lesson mark, with the points that POINTS in the file of tests gives, or 1 each."""
    points = getattr(getattr(items[0], "module", None), "POINTS", {})
    numbers = sorted({int(match[1]) for item in items if (match := TASK.match(item.name))})
    return [Task(lesson, number, float(points.get(number, 1))) for number in numbers]


def _enter(mark: Mark, lesson: str, test: str, outcome: str, text: str) -> None:
    """One test's outcome, into the task that it belongs to."""
    match = TASK.match(test)
    (task,) = (task for task in mark.tasks if match and (task.lesson, task.number) == (lesson, int(match[1])))
    if outcome == "passed":
        task.passed += 1
    elif outcome == "skipped":
        task.skipped.append(tame(text))
    elif tame(text) not in task.failures:
        task.failures.append(tame(text))


def tame(text: str) -> str:
    """Text of a submission's making, fit for a terminal and a page: no control characters, and not without end."""
    text = "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.expandtabs(4))
    return text if len(text) <= TEXT else f"{text[:TEXT]} ... ({len(text) - TEXT:,} characters more)"


# ---- a fork for each submission --------------------------------------------------------------------------------------


class _Forking(_Marker):
    """Keeps up to `jobs` forks at work, and listens to them."""

    def run(self, files: dict[str, list[pytest.Item]], marks: dict[str, Mark], work: Path) -> None:
        """See :class:`_Marker`."""
        waiting = [_Sitting(submission, number, items, marks[submission.name], self.settings, work)
                   for submission in self.found for number, items in files.items() if number in submission.work]
        for submission in self.found:  # what was not handed in is unsolved, in words
            for task in marks[submission.name].tasks:
                if task.lesson not in submission.work:
                    task.failures.append(tame(submission.missing(task.lesson)))
        warm(files)
        total, done = sum(len(sitting.items) for sitting in waiting), 0
        rows = {number: fingerprint(items[0].module) for number, items in files.items()}  # type: ignore[attr-defined]
        waiting.reverse()
        busy: list[_Sitting] = []
        doubtful: list[_Sitting] = []  # ended while others were at work, who may have done it: again at the end, alone
        seen: set[str] = set()
        try:
            while waiting or busy or doubtful:
                while waiting and len(busy) < self.settings.jobs:
                    busy.append(waiting.pop())
                    busy[-1].begin(rows[busy[-1].number], busy)
                if not busy:
                    busy.append(doubtful.pop(0))
                    busy[-1].begin(rows[busy[-1].number], busy)
                pause = max(0.0, min(0.5, *(sitting.deadline - time.monotonic() for sitting in busy)))
                ready = select.select([sitting.pipe for sitting in busy], [], [], pause)[0]
                for sitting in list(busy):
                    ended = sitting.listen(sitting.pipe in ready)
                    now = done + sum(s.next for s in [*busy, *doubtful])
                    self.progress(now, total, sitting.submission.name)
                    if ended and sitting.doubt == sitting.next:
                        busy.remove(sitting)
                        doubtful.append(sitting)
                    elif ended and sitting.next < len(sitting.items):
                        sitting.begin(rows[sitting.number], busy)
                    elif ended:
                        new = sorted(set(touched(self.found)) - seen)
                        seen |= set(new)
                        for one in busy if new else ():  # whoever was at work may have done it
                            one.mark.remarks.append(
                                f"while it was marked{'' if len(busy) == 1 else ', with others,'} {', '.join(new)} "
                                f"{'was' if len(new) == 1 else 'were'} changed or removed")
                        busy.remove(sitting)
                        done += sitting.next
        finally:
            for sitting in busy:
                sitting.end()


class _Sitting:
    """One submission and one lesson: its tests, how far they are, and the process that they run in."""

    def __init__(self, submission: Submission, number: str, items: list[pytest.Item], mark: Mark, settings: Settings,
                 work: Path):
        self.submission, self.number, self.items, self.mark, self.settings = submission, number, items, mark, settings
        self.work, self.next, self.pid, self.pipe, self.deadline = work, 0, 0, -1, 0.0
        self.buffer, self.loaded, self.tainted = b"", False, False
        self.status: int | None = None
        self.company: set[str] = set()  # whose processes were there while its own was
        self.suspects, self.doubt = "", -1  # the test at which it was ended by somebody, perhaps one of those

    def begin(self, rows: list[Any], busy: Sequence[_Sitting]) -> None:
        """Forks a process for the tests that are left, which has the files in a folder of its own.

        Args:
            busy: all that are at work, this one too.
        """
        names = {one.submission.name for one in busy}
        self.company = names - {self.submission.name}
        for one in busy:
            one.company |= names - {one.submission.name}
        self.folder = Path(tempfile.mkdtemp(dir=self.work))
        self.trace = self.folder.with_name(f"{self.folder.name}.trace")
        written_out(self.submission.work[self.number], self.folder)
        self.token, self.buffer, self.loaded, self.status = secrets.token_hex(16), b"", False, None
        self.tainted = False
        self.pipe, theirs = os.pipe()
        os.set_blocking(self.pipe, False)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenBLAS has threads, and knows about forks
            self.pid = os.fork()
        if not self.pid:
            _sit(self, theirs, rows, [one.pipe for one in busy if one.pipe >= 0])
        os.close(theirs)
        self.deadline = time.monotonic() + self.settings.limit + GRACE

    def listen(self, ready: bool) -> bool:
        """Takes in what the process has said: -> whether it has ended, or had to be ended."""
        text = b""
        while ready:
            try:
                part = os.read(self.pipe, 1 << 16)
            except BlockingIOError:
                break
            text += part
            if not part or len(text) > 1 << 20:
                break
        closed = ready and not text
        self.buffer += text
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            if line:
                self._take(line)
        if self.next == len(self.items) or self.tainted:
            self.end()
            return True
        late = time.monotonic() > self.deadline
        gone = not ready and self.status is not None  # a while ago, and a child of its own holds the pipe open
        if closed or late or gone or len(self.buffer) > 1 << 20:
            self._lost(late)
            return True
        self._ended(os.WNOHANG)
        return False

    def _take(self, line: bytes) -> None:
        """One message; those that the process of the marker did not write are left aside."""
        try:
            said = json.loads(line)
            if said.pop("token") != self.token:
                raise ValueError
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            self.mark.remarks.append("something wrote into the pipe of the marking process")
            return
        if said["kind"] == "loaded":
            self.loaded = True
        else:
            while self.next < said["test"]:
                self._note("failed", f"{task_of(self.items[self.next])}: what became of this test was lost on the way")
            if said["test"] == self.doubt:  # alone, it came to its end
                self.mark.remarks.append(f"its process was ended while {self.suspects} being marked, and not when it "
                                         "was marked again alone: its points are of then")
            self._note(said["outcome"], str(said["text"]))
            self.tainted = said["tainted"]
        self.deadline = time.monotonic() + self.settings.limit + GRACE

    def _note(self, outcome: str, text: str) -> None:
        item = self.items[self.next]
        _enter(self.mark, self.number, item.name, outcome, text)
        self.next += 1

    def _lost(self, late: bool) -> None:
        """The process ended, or took too long: one unsolved test, or all of them if it was still being loaded.

        A signal may be another submission's, and so may be a silence that outlasts the process's own clock (SIGSTOP).
        Where others were at work, that is no test yet: `doubt` is its number, and it is to be marked again alone.
        """
        if not late:
            time.sleep(0.01)  # what closed the pipe may be about to end
            self._ended(os.WNOHANG)
        by_signal = self.status is not None and self.status < 0
        self.end()
        how = f"signal {-self.status}" if self.status is not None and self.status < 0 else f"exit status {self.status}"
        where = self.trace.read_text(errors="replace") if self.trace.is_file() else ""
        if self.company and self.doubt < 0 and (by_signal or (late and not where)):
            names = sorted(self.company)
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            self.suspects = f"{', '.join(names[:5])}{more} {'was' if len(names) == 1 else 'were'}"
            self.doubt = self.next
            return
        lines = [line.strip() for line in where.splitlines() if str(self.folder) in line]
        if late or where:
            at = f"; it was at {_place(lines[0])}" if lines else ""
            why = (f"no answer within {self.settings.limit:g} seconds{at}. Is there a loop that never ends, or a wait "
                   "for something that does not come?")
        else:
            why = (f"your code ended the whole process ({how}) in place of an answer. Leave out what ends a "
                   "program (os._exit, exit, quit)")
        for _ in range(1 if self.loaded else len(self.items) - self.next):
            item = self.items[self.next]
            loading = "" if self.loaded else "while it was being loaded, "
            self._note("failed", f"{task_of(item)}: {loading}{why}")

    def end(self) -> None:
        """Ends the process and whatever it has started in its group, and removes its folder."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # before it is waited for, while the number is still its own
            if self.status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)  # it may not have come so far as to have a group
            self._ended(0)
            self.pid = 0
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ended(self, how: int) -> bool:
        """Whether the process has ended; its exit status is kept."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, how)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None


def _place(line: str) -> str:
    """A line of faulthandler's as 'lesson03.py, line 12, in triple'."""
    match = re.match(r'File "(.*)", line (\d+) in (.*)', line)
    return f"{Path(match[1]).name}, line {match[2]}, in {match[3]}" if match else line


# ---- inside the fork -------------------------------------------------------------------------------------------------


def _sit(sitting: _Sitting, pipe: int, rows: list[Any], others: Sequence[int]) -> NoReturn:
    """The process of a submission, from fork to end: runs the tests that are left, and says what became of each.

    Args:
        others: the marker's ends of all pipes, through which what other submissions say could be taken away.
    """
    try:
        os.setsid()
        for end in others:
            os.close(end)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # At these the marker saves its work. This process ends, and its status tells of it.
            signal.signal(number, signal.SIG_DFL)
        _without_terminal()
        _limited()
        folder = sitting.folder
        os.chdir(folder)
        item = sitting.items[0]
        item.config.option.minimask_solutions = str(folder)
        _take_tests(item.config, sitting, pipe, rows)
    except BaseException:
        os._exit(99)
    os._exit(0)


def _take_tests(config: pytest.Config, sitting: _Sitting, pipe: int, rows: list[Any]) -> None:
    token, look, dumps, write = sitting.token, sealed(changed), sealed_dumps(), os.write  # out of reach of names

    def say(message: dict[str, Any]) -> None:
        write(pipe, dumps({**message, "token": token}))

    keeper = _Keeper(lambda: say({"kind": "loaded"}))
    config.pluginmanager.register(keeper)
    with open(sitting.trace, "w") as where:
        for i, item in list(enumerate(sitting.items))[sitting.next:]:
            following = sitting.items[i + 1] if i + 1 < len(sitting.items) else None
            keeper.reports = []
            faulthandler.dump_traceback_later(sitting.settings.limit, exit=True, file=where)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            faulthandler.cancel_dump_traceback_later()
            outcome, text = _verdict(item, keeper.reports, str(sitting.folder))
            tainted = look(rows)
            if tainted:
                outcome, text = "failed", f"{task_of(item)}: {CHANGED.format(tainted)}"
            say({"kind": "test", "test": i, "outcome": outcome, "text": text[:TEXT + 1000], "tainted": bool(tainted)})
            if tainted:
                os._exit(0)


def sealed_dumps() -> Callable[[Any], bytes]:
    """A function from a message to its line, which has its encoder at hand; what others began to write ends before it.
    """
    encode = json.JSONEncoder().encode

    return lambda message: b"\n" + encode(message).encode() + b"\n"


class _Keeper:
    """A plugin that keeps what becomes of one test, and knows when the submission is loaded."""

    def __init__(self, loaded: Callable[[], None]):
        self.reports: list[pytest.TestReport] = []
        self.loaded = loaded

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Every phase of the test."""
        self.reports.append(report)
        if report.when == "setup":
            self.loaded()


def _verdict(item: pytest.Item, reports: Sequence[pytest.TestReport], folder: str) -> tuple[str, str]:
    """What became of a test: "passed", "failed" or "skipped", and why in words."""
    bad = next((report for report in reports if report.failed), None)
    if bad is not None:
        return "failed", words(bad.longreprtext, folder, task_of(item))
    skipped = next((report for report in reports if report.skipped), None)
    if skipped is not None:
        reason = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else skipped.longreprtext
        return "skipped", str(reason).removeprefix("Skipped: ")
    if [report.when for report in reports] != ["setup", "call", "teardown"]:
        return "failed", f"{task_of(item)}: the test did not run to its end"
    return "passed", ""


def words(text: str, folder: str, task: str) -> str:
    """pytest's text of a failure as what a student needs: what was wrong, and the line of theirs where it happened."""
    lines = [line[4:] if line.startswith("E   ") else line[1:].strip()
             for line in text.splitlines() if re.match(r"E( |$)", line)] or text.strip().splitlines()[-1:]
    lines = [line for line in lines if not line.strip().startswith("lesson=<")]
    verdict = [i for i, line in enumerate(lines) if task and line.startswith(f"AssertionError: {task}")]
    if verdict:  # what it was made of, an exception of the student's, is in its words
        lines = lines[verdict[-1]:]
    broken = next((line for line in lines if re.match(r"(Syntax|Indentation|Tab)Error: ", line)), None)
    if broken and lines[0].lstrip().startswith("File "):
        lines = [broken, *(line for line in lines if line is not broken)]
    said = "\n".join(lines).strip().replace(f"{folder}/", "")
    if said.startswith("NotImplementedError"):
        return f"not begun: {lines[0].removeprefix('NotImplementedError').lstrip(': ')}"
    said = re.sub(r"^(AssertionError|Failed|minimask\.\w+\.\w+\.GradientError): ", "", said)
    if "EOF when reading a line" in said or "reading from stdin" in said:
        said = ("your code waits for input(), and nobody types while it is marked. Take it out; the input of a task "
                "are its arguments")
    places = re.findall(rf"^(?:{re.escape(folder)}/|\S*/)?([\w/]+\.py):(\d+): in (\S+)", text, re.MULTILINE)
    mine = [place for place in places if re.search(rf"{re.escape(place[0])}:{place[1]}:", text)
            and (Path(folder) / place[0]).is_file() and not place[0].startswith("test_")]
    if mine and (any(verdict) or not said.startswith(task or "\0")):
        said = f"{said}\nat {mine[-1][0]}, line {mine[-1][1]}, in {mine[-1][2]}"
    return said if not task or task in said else f"{task}: {said}"


def _without_terminal() -> None:
    """No input, and what is printed goes nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    sys.stdin = open(0, closefd=False)
    sys.stdout = sys.stderr = open(1, "w", closefd=False, errors="replace")


def _limited() -> None:
    """Limits of memory and of the size of a file, so that nobody fills what others need."""
    try:
        import resource
    except ImportError:
        return
    used = 0
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, amount in ((resource.RLIMIT_AS, used + MEMORY), (resource.RLIMIT_FSIZE, FILE), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def warm(files: dict[str, list[pytest.Item]]) -> None:
    """Imports and draws once what every fork would else import and build by itself."""
    import hypothesis
    from hypothesis import strategies
    from hypothesis.extra import numpy as _arrays  # noqa: F401

    from . import strategies as ours

    @hypothesis.settings(database=None, max_examples=3, deadline=None, phases=list(hypothesis.Phase)[2:4])
    @hypothesis.given(x=ours.shapes().flatmap(ours.arrays), n=strategies.integers(0, 5))
    def draws(x: Any, n: int) -> None:
        assert x is None, "so that it is made smaller, too"

    with contextlib.suppress(AssertionError), contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        draws()


# ---- where nothing forks ---------------------------------------------------------------------------------------------


class _Calling(_Marker):
    """Calls pytest once for each submission and lesson; its plugin keeps the submission in a process of its own."""

    def run(self, files: dict[str, list[pytest.Item]], marks: dict[str, Mark], work: Path) -> None:
        """See :class:`_Marker`."""
        import xml.etree.ElementTree as tree

        pairs = [(submission, number) for submission in self.found for number in files]
        for done, (submission, number) in enumerate(pairs):
            mark = marks[submission.name]
            for task in mark.tasks:
                if task.lesson == number and number not in submission.work:
                    task.failures.append(tame(submission.missing(number)))
            if number not in submission.work:
                continue
            folder = Path(tempfile.mkdtemp(dir=work))
            written_out(submission.work[number], folder)
            report = folder.with_name(f"{folder.name}.xml")
            subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(files[number][0].path),
                            f"--minimask-solutions={folder}", f"--minimask-seed={self.settings.seed}",
                            f"--minimask-limit={self.settings.limit:g}", f"--junitxml={report}"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for case in tree.parse(report).iter("testcase"):
                bad = [part for part in case if part.tag in ("failure", "error")]
                skipped = case.find("skipped")
                outcome = "failed" if bad else "skipped" if skipped is not None else "passed"
                part = bad[0] if bad else skipped
                text = "" if part is None else part.text or part.get("message") or ""
                test = str(case.get("name"))
                _enter(mark, number, test, outcome, words(text, str(folder), _named(number, test)) if bad else text)
            self.progress(done + 1, len(pairs), submission.name)


def _named(number: str, test: str) -> str:
    match = TASK.match(test)
    return f"Lesson {int(number)}, task {match[1]}" if match else ""
