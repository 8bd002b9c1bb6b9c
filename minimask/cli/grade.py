"""`minimask grade FOLDER`: marks what a class handed in."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..errors import MinimaskError, UsageError
from ..meter import Line
from ..mishaps import in_words
from .common import Parser, whole_number


def command(words: Sequence[str]) -> None:
    """Marks, writes what was asked for, and prints a summary."""
    options = _parser().parse_args(words)
    try:
        from ..testing import course, grading, handed_in, marks
    except ImportError as error:
        raise MinimaskError(f"marking needs pytest and Hypothesis, and {error.name} is not installed: "
                            "pip install 'minimask[course]'") from error
    tests = Path(options.tests) if options.tests else course.source() / "exercises"
    tests = tests / "exercises" if (tests / "exercises").is_dir() else tests
    lessons = course.numbers(options.lessons) if options.lessons else None
    found = handed_in.submissions(Path(options.folder), lessons)
    settings = grading.Settings(tests.resolve(), options.seed, options.limit, options.jobs)
    for path, folder in ((options.csv, False), (options.gradescope, len(found) > 1), (options.feedback, True)):
        if path:  # what cannot be written is said before an hour of marking
            (Path(path) if folder else Path(path).parent).mkdir(parents=True, exist_ok=True)
    with in_words(lambda: "interrupted; no marks were written, and the same command begins anew"):
        if options.solutions:
            numbers = lessons or sorted({number for each in found for number in each.work})
            _refuse_unsolvable(Path(options.solutions), numbers, settings)
        bar = _Bar(None if options.quiet else sys.stderr)
        marked = grading.grade(found, settings, bar.at, lessons)
        bar.stop()
    _write(options, marked, marks)
    print(marks.summary(marked))
    for mark in marked:
        for remark in dict.fromkeys(mark.remarks):
            print(f"{grading.tame(mark.name)}: {grading.tame(remark)}")


def _refuse_unsolvable(folder: Path, lessons: Sequence[str], settings: Any) -> None:
    """Marks the reference solutions first: MinimaskError where they do not solve every task with this seed."""
    from ..testing import grading, handed_in

    (reference, *others) = handed_in.submissions(folder, lessons)
    if others:
        raise UsageError(f"--solutions {folder} holds several submissions; name the folder in which lessonNN.py lie")
    (mark,) = grading.grade([reference], settings, lessons=lessons)
    for task in mark.tasks:
        if not task.solved:
            why = (task.failures or task.skipped or [""])[0]
            raise MinimaskError(f"the reference solution of {task.title} does not pass its tests with seed "
                                f"{settings.seed}, so nobody was marked; mend it, or take another seed: {why}")


def _write(options: Any, marked: Sequence[Any], marks: Any) -> None:
    """The files that were asked for."""
    if options.csv:
        files.write(Path(options.csv), marks.table(marked).encode())
    if options.feedback:
        for mark in marked:
            files.write(Path(options.feedback) / f"{mark.name}.md", marks.feedback(mark).encode())
    if options.gradescope and len(marked) == 1:
        files.write(Path(options.gradescope), marks.gradescope(marked[0]).encode())
    elif options.gradescope:
        for mark in marked:
            files.write(Path(options.gradescope) / f"{mark.name}.json", marks.gradescope(mark).encode())


class _Bar(Line):
    """How far the marking is: a bar that renews itself on a terminal, a line at every tenth in a log."""

    def __init__(self, stream: Any):
        super().__init__(stream)
        self.began, self.tenth = time.monotonic(), 0

    def at(self, done: int, of: int, name: str) -> None:
        """So many tests are through; `name` had the last one."""
        share = done / max(of, 1)
        name = "".join(c if c.isprintable() else "?" for c in name)[:30]
        if self.terminal:
            left = (time.monotonic() - self.began) * (1 / share - 1) if share else 0.0
            bar = f"[{'#' * int(30 * share):30}] {share:4.0%}"
            self.renew(f"{bar} · {done} of {of} tests · {left:.0f} s to go · {name}")
        elif int(10 * share) > self.tenth:
            self.tenth = int(10 * share)
            self.say(f"{share:4.0%} · {done} of {of} tests")


def seconds(text: str) -> float:
    """An option's type: seconds, more than none."""
    import argparse

    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def _parser() -> Parser:
    parser = Parser(prog="minimask grade", description=(
        "Mark what a class handed in: FOLDER has a sub-folder for each submission (its lessonNN.py\n"
        "anywhere below) or files such as ada_lesson03.py; or it is one submission itself.\n"
        "Every submission runs in processes of its own, under a time limit; that is no prison\n"
        "(docs/teaching.md). Needs the extra `course`."))
    parser.add_argument("folder", metavar="FOLDER", help="what was handed in; nothing in it is written to")
    parser.add_argument("--lessons", metavar="NN,...",
                        help="the lessons that count (default: those of which there is a file)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="S",
                        help="of all that tests draw: with one of your own they are hidden tests (default: 0)")
    parser.add_argument("--solutions", metavar="DIR",
                        help="your reference solutions, lessonNN.py: nobody is marked unless they solve every task")
    parser.add_argument("--tests", metavar="DIR", help="tests of your own, test_lessonNN.py (default: the course's)")
    parser.add_argument("--limit", type=seconds, default=60.0, metavar="SECONDS",
                        help="how long one test may take (default: 60)")
    parser.add_argument("--jobs", type=whole_number(1), default=os.cpu_count() or 1, metavar="N",
                        help="submissions that are marked at the same time (default: one for each core)")
    parser.add_argument("--csv", metavar="F",
                        help="write the points as a table: a line per submission, a column per task")
    parser.add_argument("--feedback", metavar="DIR", help="write NAME.md for each submission: what is wrong, in words")
    parser.add_argument("--gradescope", metavar="F",
                        help="write Gradescope's results.json; of several submissions NAME.json into a folder F")
    parser.add_argument("--quiet", action="store_true", help="no progress while it runs")
    return parser
