"""`minimask course DIR`: the lessons as notebooks, and the exercises, in a folder of one's own (extra ``course``).

The lessons' only source are the scripts in tutorials/, which a wheel carries inside the package.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import MinimaskError, UsageError
from ..files import claim

HERE = Path(__file__).parent.parent  # the package
LESSON = r"(\d\d_\w+)\.py"  # the name of a lesson's script


def source() -> Path:
    """The folder tutorials/: in the package where that was installed from a wheel, beside it in a checkout."""
    for folder in (HERE / "tutorials", HERE.parent / "tutorials"):
        if (folder / "pytest.ini").is_file():
            return folder
    raise MinimaskError(f"the lessons are missing beside {HERE}; install minimask from its wheel or work in a checkout")


def numbers(text: str) -> list[str]:
    """'3,04' -> ['03', '04']: lessons by number. UsageError for anything else."""
    words = [word.strip().removeprefix("lesson") for word in text.split(",")]
    for word in words:
        if not (word.isdecimal() and len(word) <= 2):
            raise UsageError(f"{word!r} is no number of a lesson; give two digits each, with commas between: 03,04")
    return sorted({word.zfill(2) for word in words})


def contents() -> dict[str, str]:
    """Path inside the course -> text: a notebook per lesson, the exercises, and what pytest and a reader need."""
    folder = source()
    course = {name: (folder / name).read_text(encoding="utf-8") for name in ("README.md", "conftest.py", "pytest.ini")}
    course["README.md"] = _as_notebooks(course["README.md"])
    for path in sorted(folder.glob("[0-9][0-9]_*.py")):
        course[f"{path.stem}.ipynb"] = notebook(path)
    for path in sorted((folder / "exercises").glob("*.py")):
        course[f"exercises/{path.name}"] = path.read_text(encoding="utf-8")
    return course


def notebook(script: Path) -> str:
    """A lesson's script as the text of a notebook without output; its names of lessons are those of notebooks.

    Raises MinimaskError where jupytext is not installed.
    """
    try:
        import jupytext
    except ImportError as error:
        raise MinimaskError("notebooks are made by jupytext, which is not installed: pip install jupytext") from error
    made = jupytext.reads(script.read_text(encoding="utf-8"), fmt="py:percent")
    made.metadata.pop("jupytext", None)  # which would pair the notebook with a script that is not there
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # in place of a random one: the same script gives the same notebook
        if cell.cell_type == "markdown":
            cell.source = _as_notebooks(cell.source)
    return str(jupytext.writes(made, fmt="ipynb"))


def write(folder: Path) -> list[str]:
    """Writes the course into `folder`, which is made, or empty but for names that begin with a dot: -> what it wrote.

    Raises:
        UsageError: there is something in the folder, or it is a file; nothing of it is touched.
        MinimaskError: jupytext or the lessons are missing. OSError: a file cannot be written; then none is left.
    """
    claim(folder, "something already, which is not overwritten", "name a folder that is empty or new")
    course, written = contents(), []
    try:
        for name, text in course.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="utf-8", newline="\n") as file:  # never over a file that came meanwhile
                written.append(path)
                file.write(text)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return list(course)


def _as_notebooks(text: str) -> str:
    """The text with every name of a lesson's script as that of its notebook."""
    return re.sub(LESSON, r"\1.ipynb", text)
