"""What was handed in: which submissions a folder holds, and what is in them, read before any of it runs.

A submission is a sub-folder (its lessonNN.py anywhere below) or single files (`ada_lesson03.py`, `lesson03_ada.py`,
with `ada_helper.py` beside them). Everything is read once, at the start: what a submission writes while it is marked
changes no other's answer, and :func:`touched` says whose files it was. Links are not followed, so that nobody hands in
what they may not read.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError

LESSON = re.compile(r"lesson(\d\d)\.py")
#: `ada_lesson03.py`, `ada-lesson03.py`, `lesson03_ada.py`: a name, and which lesson it is.
NAMED = re.compile(r"(?:(?P<before>.+?)[-_ .]+)?lesson(?P<number>\d\d)(?:[-_ .]+(?P<after>.+))?\.py")
#: A submission holds so many files and bytes beside its lesson at most; the rest is left out, and that is said.
FILES, BYTES = 500, 32 << 20
LEFT_OUT = ("__pycache__", "node_modules", "venv", "site-packages")
#: What a file is called that was meant to be lessonNN.py: a word and a number in its name, and one of these endings.
WORD_NUMBER = re.compile(r"([^\W\d_]*)[-_ .]*(?<!\d)(\d{1,2})(?!\d)")
ENDINGS = (".py", ".pyw", ".py3", ".txt", ".ipynb", ".zip")


@dataclass
class Submission:
    """What one student handed in.

    `work`: a lesson's number -> its file and what lies beside it, path -> content. `read`: every file that was read.
    `near`: a lesson's number -> files that are called almost as its file is. `remarks`: sentences for whoever marks.
    """

    name: str
    work: dict[str, dict[str, bytes]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    near: dict[str, list[str]] = field(default_factory=dict)
    read: dict[Path, bytes] = field(default_factory=dict)
    changed_at: dict[Path, int] = field(default_factory=dict)  # by the system's clock, which nobody sets back

    def content(self, path: Path) -> bytes:
        """What is in a file, now; later :func:`touched` compares."""
        if path not in self.read:
            self.changed_at[path] = path.lstat().st_ctime_ns
            self.read[path] = path.read_bytes()
        return self.read[path]

    def missing(self, number: str) -> str:
        """Why there is nothing to mark of a lesson, in words."""
        names = self.near.get(number, ())
        if not names:
            return f"there is no file lesson{number}.py"
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return (f"there is no file lesson{number}.py; near to that name {'is' if len(names) == 1 else 'are'} "
                f"{', '.join(names[:5])}{more}")


def submissions(folder: Path, lessons: Iterable[str] | None = None) -> list[Submission]:
    """The submissions in a folder, by name; the folder is one itself where lessonNN.py lie in it, or in its exercises/.

    Args:
        lessons: two digits each; files of other lessons are left out, and with one lesson alone any NAME.py is its.

    Raises:
        UsageError: the folder is missing, or holds no submission.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name one with a sub-folder or a file for each submission")
    wanted = None if lessons is None else set(lessons)
    if any(LESSON.fullmatch(path.name) for place in (folder, folder / "exercises") for path in _regular(place)):
        found = [_of_folder(folder, folder.resolve().name)]
    else:
        found = [_of_folder(path, path.name) for path in sorted(folder.iterdir())
                 if path.is_dir() and not path.is_symlink() and not path.name.startswith((".", "_"))]
        found += _of_files(folder, wanted, alone=not found)
    for submission in found:
        submission.work = {number: work for number, work in sorted(submission.work.items())
                           if wanted is None or number in wanted}
        submission.remarks += [submission.missing(number) for number in sorted(submission.near)
                               if number not in submission.work and (wanted is None or number in wanted)]
    if not any(submission.work for submission in found):
        near = [f"{submission.name}: {remark}" for submission in found for remark in submission.remarks
                if "near to" in remark]
        which = f" of lesson {', '.join(sorted(wanted))}" if wanted else ""
        raise UsageError(f"{folder} holds no submission{which}; expected is NAME/lesson03.py, NAME_lesson03.py or "
                         "NAME/exercises/lesson03.py for every student (unpack archives first)"
                         + "".join(f"; {one}" for one in near[:3]))
    return sorted(found, key=lambda submission: submission.name)


def _of_folder(folder: Path, name: str) -> Submission:
    """A student's folder. Of two files for a lesson that in exercises/ counts, or the least deep one."""
    submission = Submission(name)
    found: dict[str, list[Path]] = {}
    links: list[str] = []
    for path in _below(folder, links):
        if match := LESSON.fullmatch(path.name):
            found.setdefault(match[1], []).append(path)
        elif nearest := near_to(path.name):
            submission.near.setdefault(nearest, []).append(str(path.relative_to(folder)))
    for number, paths in sorted(found.items()):
        paths.sort(key=lambda path: (path.parent.name != "exercises", len(path.parts), str(path)))
        if len(paths) > 1:
            submission.remarks.append(f"there are {len(paths)} files lesson{number}.py; marked is "
                                      f"{paths[0].relative_to(folder)}")
        submission.work[number] = _beside(paths[0], submission)
    submission.remarks += [f"{link} is a link, which is not followed" for link in links]
    return submission


def _of_files(folder: Path, wanted: set[str] | None, alone: bool) -> list[Submission]:
    """Single files, by the name of the student in theirs. alone: the folder holds no sub-folders of students."""
    found: dict[str, Submission] = {}
    plain = [path for path in _regular(folder) if path.suffix == ".py" and not path.name.startswith(".")]
    lessons = [(path, match) for path in plain if (match := NAMED.fullmatch(path.name))]
    if not lessons and wanted and len(wanted) == 1:  # of one lesson alone: NAME.py
        number = next(iter(wanted))
        for path in plain:
            submission = found.setdefault(path.stem, Submission(path.stem))
            submission.work[number] = {f"lesson{number}.py": submission.content(path)}
    for path, match in lessons:
        name, number = match["before"] or match["after"], match["number"]
        submission = found.setdefault(name, Submission(name))
        if number in submission.work:
            submission.remarks.append(f"there are several files for lesson {number}; marked is {path.name}")
        submission.work.setdefault(number, {})[f"lesson{number}.py"] = submission.content(path)
    for path in _regular(folder) if lessons or not found else ():
        number = "" if path.name.startswith(".") or NAMED.fullmatch(path.name) else near_to(path.name)
        if number:
            name = _student(path.name) or (folder.resolve().name if alone else "")
            if name:
                found.setdefault(name, Submission(name)).near.setdefault(number, []).append(path.name)
    for name, submission in found.items():  # one lesson may import another, and helpers that bear the name
        helpers = {path.name.removeprefix(f"{name}_"): submission.content(path) for path in plain
                   if path.name.startswith(f"{name}_") and not NAMED.fullmatch(path.name)}
        everything = {file: text for files in submission.work.values() for file, text in files.items()}
        submission.work = dict.fromkeys(submission.work, helpers | everything)
    return list(found.values())


def near_to(name: str) -> str:
    """The number, two digits, of the lesson whose file this one was meant to be, by its name; "" if of none.

    `Lesson3.py`, `lesson_03.py`, `leson03.PY`, `lesson03 (1).py`, `exercise3.py`, `03.ipynb`; no test of a lesson.
    """
    low = name.lower()
    ending = next((end for end in ENDINGS if low.endswith(end)), None)
    if ending is None or low.startswith(("test_", "conftest")):
        return ""
    stem = low.removesuffix(ending).removesuffix(".py")
    for word, digits in WORD_NUMBER.findall(stem):
        if stem == digits or difflib.get_close_matches(word, ("lesson", "exercise"), 1, cutoff=0.75):
            return f"{int(digits):02}"
    return ""


def _student(name: str) -> str:
    """Whose a file is that is near to a lesson's: what stands before that word in its name, or else behind the number.
    """
    stem = name.rpartition(".")[0].removesuffix(".py")
    for match in WORD_NUMBER.finditer(stem):
        if near_to(f"{match[0].strip('-_ .')}.py"):
            return stem[:match.start()].strip("-_ .") or re.sub(r"^[-_ .]*\(\d+\)|^[-_ .]+", "", stem[match.end():])
    return ""


def _beside(lesson: Path, submission: Submission) -> dict[str, bytes]:
    """What lies in the folder of a lesson and below it, path -> content: the student's own modules and data."""
    files, size = {lesson.name: submission.content(lesson)}, 0
    for path in _below(lesson.parent, []):
        if path == lesson or path.suffix == ".pyc":
            continue
        size += path.stat().st_size
        if len(files) >= FILES or size > BYTES:
            submission.remarks.append(f"beside {lesson.name} lie more than {FILES} files or {BYTES >> 20} MB; the rest "
                                      "is left out")
            break
        files[path.relative_to(lesson.parent).as_posix()] = submission.content(path)
    return files


def _below(folder: Path, links: list[str]) -> Iterator[Path]:
    """The regular files below a folder; hidden ones and other people's packages are left out, links are noted."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in LEFT_OUT)
        for name in (*folders, *sorted(names)):
            if (Path(place) / name).is_symlink():
                links.append(str((Path(place) / name).relative_to(folder)))
        yield from (path for path in _regular(Path(place)) if not path.name.startswith("."))


def _regular(folder: Path) -> list[Path]:
    """The regular files in a folder, by name: no links, no pipes, nothing that would block its reader."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries
                      if stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode))


def written_out(files: dict[str, bytes], folder: Path) -> None:
    """Writes the files of a submission into a folder of its own, which is new."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def touched(found: Iterable[Submission]) -> list[str]:
    """The files that are no longer what was read: whoever was being marked wrote there."""
    def same(submission: Submission, path: Path) -> bool:
        try:
            return path.lstat().st_ctime_ns == submission.changed_at[path] or (
                not path.is_symlink() and path.read_bytes() == submission.read[path])
        except OSError:
            return False

    return sorted(str(path) for submission in found for path in submission.read if not same(submission, path))
