"""`minimask course DIR`: the lessons and their exercises into a folder of one's own, and how far one is in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..display import columns
from ..errors import MinimaskError, UsageError
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Writes the course and says how to begin; or renews one, or says how far one is."""
    if words and words[0] == "status":
        return _status(words[1:])
    from ..testing import course

    options = _parser().parse_args(words)
    folder = Path(options.folder)
    lessons = course.numbers(options.lessons) if options.lessons else None
    if options.template is not None:
        from ..testing import template

        written = template.write(folder, course.numbers(options.template))
        print(f"{folder}/: {', '.join(written)}; README.md says what to fill in")
    elif options.update:
        _say_update(folder, course.update(folder, lessons), course.ASIDE)
    else:
        written = course.write(folder, lessons)
        notebooks = [name for name in written if name.endswith(".ipynb")]
        exercises = [name for name in written if name.startswith("exercises/lesson")]
        print(f"{folder}/: {len(notebooks)} lessons, exercises to {len(exercises)} of them; README.md says how to "
              "start")
        first = exercises[0].removeprefix("exercises/").removesuffix(".py") if lessons else "lesson01"
        print(f"first: open {folder / notebooks[0]} in Jupyter or VS Code; later, in {folder}: pytest -m {first}")


def _say_update(folder: Path, done: Any, aside: str) -> None:
    for what, names in (("new", done.added), ("renewed", done.renewed)):
        if names:
            print(f"{what}: {', '.join(names)}")
    if done.kept:
        print(f"yours, and left as they are: {', '.join(done.kept)}; what is new of them is in {folder / aside}/")
    if not (done.added or done.renewed or done.kept):
        print(f"{folder}/ is up to date")


def _status(words: Sequence[str]) -> None:
    """Marks what is in a course's folder, and says which tasks are solved and which is next."""
    options = _status_parser().parse_args(words)
    folder = Path(options.folder)
    try:
        from ..testing import course, grading, handed_in
    except ImportError as error:
        raise MinimaskError(f"marking needs pytest and Hypothesis, and {error.name} is not installed: "
                            "pip install 'minimask[course]'") from error
    if not (folder / "exercises").is_dir():
        raise UsageError(f"{folder} holds no course; `minimask course {folder}` writes one")
    (mine,) = handed_in.submissions(folder)
    mine.work = {number: files for number, files in mine.work.items()
                 if (folder / f"exercises/test_lesson{number}.py").is_file()}
    settings = grading.Settings((folder / "exercises").resolve(), limit=options.limit, jobs=os.cpu_count() or 1)
    (mark,) = grading.grade([mine], settings)
    names = course.titles(folder)
    rows = [("lesson", "solved", "")]
    for lesson in sorted({task.lesson for task in mark.tasks}):
        solved = "".join(str(task.number) if task.solved else "-" for task in mark.tasks if task.lesson == lesson)
        rows.append((lesson, solved, names.get(lesson, "")))
    print("\n".join(columns(rows, left=3)))
    done = sum(task.solved for task in mark.tasks)
    if done == len(mark.tasks):
        return print(f"all {done} tasks are solved")
    following = next(task for task in mark.tasks if not task.solved)
    where = "" if folder == Path() else f", in {folder}"
    print(f"{done} of {len(mark.tasks)} tasks are solved; next: {following.title}{where}: "
          f"pytest -m lesson{following.lesson} -k task{following.number}")
    if following.failures:
        print("  " + following.failures[0].splitlines()[0])


def _parser() -> Parser:
    parser = Parser(prog="minimask course", usage="minimask course DIR [--lessons NN,...] [--update] [--template NN]\n"
                                                  "       minimask course status DIR",
                    description="Write the lessons as notebooks, and their exercises, into an empty folder; later,\n"
                                "with status, say which tasks are solved.")
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder; nothing in it is ever overwritten")
    parser.add_argument("--lessons", metavar="NN,...", help="these lessons alone, for example 03,04 (default: all)")
    parser.add_argument("--update", action="store_true",
                        help="DIR holds a course: renew what nobody has changed, and add what is new; a file of yours "
                             "stays, and what is new of it goes into DIR/new")
    parser.add_argument("--template", metavar="NN",
                        help="write a lesson of your own, number NN (20 to 99), to fill in: text, exercises, tests")
    return parser


def _status_parser() -> Parser:
    from .grade import seconds

    parser = Parser(prog="minimask course status",
                    description="Mark the exercises in a course's folder: which tasks are solved, which is next.")
    parser.add_argument("folder", metavar="DIR", help="the folder that `minimask course` wrote")
    parser.add_argument("--limit", type=seconds, default=60.0, metavar="SECONDS",
                        help="how long one test may take (default: 60)")
    return parser
