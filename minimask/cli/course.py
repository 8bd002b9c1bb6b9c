"""`minimask course DIR`: the lessons and their exercises into a folder of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..testing import course
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Writes the course and says how to begin."""
    options = _parser().parse_args(words)
    folder = Path(options.folder)
    written = course.write(folder)
    lessons = [name for name in written if name.endswith(".ipynb")]
    exercises = [name for name in written if name.startswith("exercises/lesson")]
    print(f"{folder}/: {len(lessons)} lessons, exercises to {len(exercises)} of them; README.md says how to start")
    print(f"first: open {folder / lessons[0]} in Jupyter or VS Code; later, in {folder}: pytest -m lesson01")


def _parser() -> Parser:
    parser = Parser(prog="minimask course",
                    description="Write the lessons as notebooks, and their exercises, into an empty folder.\n"
                                "Needs jupytext (the extra `course` has it).")
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder; nothing in it is ever overwritten")
    return parser
