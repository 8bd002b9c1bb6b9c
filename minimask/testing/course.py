"""`minimask course`: the lessons as notebooks, and the exercises, in a folder of one's own (extra ``course``).

The lessons' only source are the scripts in tutorials/, which a wheel carries inside the package, as notebooks, too. A
folder that was written knows what was written (:data:`MANIFEST`), so that an update replaces what nobody has touched,
and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__, files
from ..errors import MinimaskError, UsageError, unknown
from ..files import claim
from . import notebook as _notebook
from .notebook import as_notebooks, cells

HERE = Path(__file__).parent.parent  # the package
#: In a course's folder: which lessons it has, and the digest of every file as it was written.
MANIFEST = ".minimask-course.json"
#: Where an update puts what is new of a file that is no longer as it was written.
ASIDE = "new"


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


def contents(lessons: Sequence[str] | None = None) -> dict[str, str]:
    """Path inside the course -> text: a notebook per lesson, the exercises, and what pytest and a reader need.

    Args:
        lessons: their numbers, two digits each; unless given, all. UsageError where there is none of that number.
    """
    folder = source()
    scripts = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}
    for number in lessons or ():
        if number not in scripts:
            raise unknown("lesson", number, scripts)
    chosen = list(scripts) if lessons is None else sorted(lessons)
    course = {name: (folder / name).read_text(encoding="utf-8") for name in ("README.md", "conftest.py", "pytest.ini")}
    course["README.md"] = as_notebooks(course["README.md"])
    for number in chosen:
        course[f"{scripts[number].stem}.ipynb"] = notebook(scripts[number])
    names = [f"{kind}lesson{number}.py" for number in chosen for kind in ("", "test_")]
    names += ["engine.py", "test_engine.py"] if "01" in chosen else []
    for name in names:
        if (folder / "exercises" / name).is_file():
            course[f"exercises/{name}"] = (folder / "exercises" / name).read_text(encoding="utf-8")
    return course


def notebook(script: Path) -> str:
    """A lesson's script as the text of a notebook without output: the wheel's, or made here."""
    ready = script.with_suffix(".ipynb")
    return (ready.read_text(encoding="utf-8") if ready.is_file()
            else _notebook.notebook(script.read_text(encoding="utf-8")))


def write(folder: Path, lessons: Sequence[str] | None = None) -> list[str]:
    """Writes the course into `folder`, which is made, or empty but for names that begin with a dot: -> what it wrote.

    Raises:
        UsageError: there is something in the folder, or it is a file; nothing of it is touched; or an unknown lesson.
        MinimaskError: the lessons are missing. OSError: a file cannot be written; then none is left.
    """
    claim(folder, "something already, which is not overwritten",
          "name a folder that is empty or new, or give --update to renew the lessons of a course that is there")
    course, written = contents(lessons), []
    try:
        for name, text in {**course, MANIFEST: _manifest(course, lessons)}.items():
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


def _digest(name: str, text: str) -> str:
    """Of what a file says; of a notebook without what running it has added."""
    said = json.dumps(cells(text)) if name.endswith(".ipynb") else text.replace("\r\n", "\n")
    return hashlib.sha256(said.encode()).hexdigest()


def _manifest(course: dict[str, str], lessons: Sequence[str] | None) -> str:
    written = {name: _digest(name, text) for name, text in course.items()}
    return json.dumps({"minimask": __version__, "lessons": None if lessons is None else sorted(lessons),
                       "files": written}, indent=1) + "\n"


# ---- later -----------------------------------------------------------------------------------------------------------


@dataclass
class Update:
    """What an update did, as names of files: new ones, renewed ones, and those of the student's that stay.

    What is new of the last lies in the folder :data:`ASIDE`.
    """

    added: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def update(folder: Path, lessons: Sequence[str] | None = None) -> Update:
    """Brings a course's folder up to this version of minimask; what somebody has changed there stays as it is.

    A file is renewed if it is as it was written, a notebook also if it was run, and there is something new in it. Of
    any other file the new text goes into new/, beside it in name.

    Args:
        lessons: more of them; unless given, those that the folder has.

    Raises:
        UsageError: the folder holds no course. OSError: a file cannot be written; every file is old or new.
    """
    try:
        old = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        wanted, known = old["lessons"], dict(old["files"])
    except FileNotFoundError:
        if not (folder / "exercises").is_dir():
            raise UsageError(f"{folder} holds no course to update; `minimask course {folder}` writes one") from None
        wanted, known = None, {}  # written before there was a manifest: whatever differs may be the student's
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / MANIFEST} is damaged ({error}); remove it, and every file that differs counts as "
                         "yours") from error
    if lessons is not None:
        wanted = None if wanted is None and known else sorted({*(wanted or ()), *lessons})
    course, done = contents(wanted), Update()
    for name, text in course.items():
        path, new = folder / name, _digest(name, text)
        if not path.exists() and name not in known:
            _put(folder, name, text)
            done.added.append(name)
        elif path.exists() and (now := _digest(name, path.read_text(encoding="utf-8", errors="replace"))) != new:
            if now == known.get(name):
                _put(folder, name, text)
                done.renewed.append(name)
            elif known.get(name) != new:  # there is something new, and something of the student's
                _put(folder, f"{ASIDE}/{name}", text)
                done.kept.append(name)
    files.write(folder / MANIFEST, _manifest(course, wanted).encode())
    return done


def _put(folder: Path, name: str, text: str) -> None:
    path = folder / name
    files.own_folder(folder, str(path.parent.relative_to(folder))).mkdir(parents=True, exist_ok=True)
    files.write(path, text.encode())


def titles(folder: Path) -> dict[str, str]:
    """Number -> title of the lessons in a course's folder, notebooks or scripts."""
    found = {}
    for path in sorted([*folder.glob("[0-9][0-9]_*.ipynb"), *folder.glob("[0-9][0-9]_*.py")]):
        text = path.read_text(encoding="utf-8", errors="replace")
        first = "\n".join(cells(text)[:1]) if path.suffix == ".ipynb" else text
        match = re.search(r"(?m)^(?:# )?# (.+)", first)
        found[path.name[:2]] = match[1] if match else path.stem
    return found
