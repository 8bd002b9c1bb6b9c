"""Marks on paper: feedback for a student, a table of points, what Gradescope reads, a summary for the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence

from ..display import columns
from .grading import Mark, Task, tame

#: Spreadsheets take text that begins like this for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def number(points: float) -> str:
    """Points without a needless '.0'."""
    return f"{points:g}"


def feedback(mark: Mark) -> str:
    """What a student reads, as Markdown: the points, and of every task what is solved, or what is wrong and where."""
    head = f"# {tame(mark.name)}: {number(mark.points)} of {number(mark.of)} points"
    parts = [head]
    for task in mark.tasks:
        points = f"{number(task.points)} of {number(task.of)}"
        parts.append(f"## {task.title.capitalize()}: {'solved' if task.solved else 'not solved'} ({points})")
        parts += [_fenced(text) for text in task.failures]
        if not task.solved and not task.failures:
            parts.append("None of its tests could run here: " + "; ".join(task.skipped) + ".")
    if any(not task.solved for task in mark.tasks):
        first = next(task for task in mark.tasks if not task.solved)
        parts.append("To look into a task, in the folder of the course: "
                     f"`pytest -m lesson{first.lesson} -k task{first.number}`. "
                     "The inputs above may have been drawn for these marks; there it may be others that show it.")
    return "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    """Text as it stands, in a fence that it cannot close."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def table(marks: Sequence[Mark]) -> str:
    """The points as CSV: a line per submission, a column per task, the sum, what there was to have, and remarks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    tasks = marks[0].tasks if marks else []
    writer.writerow(["name", *(f"{task.lesson}.{task.number}" for task in tasks), "points", "of", "remarks"])
    for mark in marks:
        writer.writerow([_cell(mark.name), *(number(task.points) for task in mark.tasks), number(mark.points),
                         number(mark.of), _cell("; ".join(dict.fromkeys(mark.remarks)))])
    return out.getvalue()


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = tame(text).replace("\n", " ")
    return f"'{text}" if text.startswith(FORMULA) else text


def gradescope(mark: Mark) -> str:
    """One submission as the results.json that Gradescope's autograder reads: a test per task."""
    def entry(task: Task) -> dict[str, object]:
        return {"name": task.title.capitalize(), "score": task.points, "max_score": task.of,
                "status": "passed" if task.solved else "failed",
                "output": "\n\n".join(task.failures or ([] if task.solved else task.skipped)), "output_format": "text"}

    return json.dumps({"score": mark.points, "tests": [entry(task) for task in mark.tasks]}, indent=1) + "\n"


def summary(marks: Sequence[Mark]) -> str:
    """For the terminal: a line per submission, its solved tasks by lesson, and how many solved each task."""
    tasks = marks[0].tasks
    lessons = sorted({task.lesson for task in tasks})
    rows = [["submission", *lessons, "points"]]
    for mark in marks:
        rows.append([tame(mark.name).replace("\n", " "),
                     *("".join(str(t.number) if t.solved else "-" for t in mark.tasks if t.lesson == lesson)
                       for lesson in lessons), f"{number(mark.points)} of {number(mark.of)}"])
    lines = columns(rows)
    if len(marks) > 1:
        share = "".join(f"  {task.lesson}.{task.number}: {sum(mark.tasks[i].solved for mark in marks)}"
                        for i, task in enumerate(tasks))
        mean = round(sum(mark.points for mark in marks) / len(marks), 2)
        lines.append(f"{len(marks)} submissions, {number(mean)} points in the mean; so many solved each task:{share}")
    return "\n".join(lines)
