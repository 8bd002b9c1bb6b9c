"""`minimask report --format ...`: what a paper takes from many runs: a table (CSV, JSON, LaTeX), figures (PDF, SVG).

A row per group of runs (:mod:`minimask.runs.records`): the mean of each run's last epoch over the seeds, the sample
standard deviation, and from five seeds on an interval that the bootstrap gives for the mean.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import escape, files, plot
from ..display import MARK, accuracy_name
from ..errors import MinimaskError
from ..recipes import grid
from . import report, schema
from .records import Group

#: File and first words of each form that is a table, by which a later report knows that it may take its place.
TABLES = {"csv": ("results.csv", "recipe,data,epochs,"), "json": ("results.json", '{"made_by": "minimask report"'),
          "latex": ("results.tex", "% made by minimask report")}
FIGURES = ("pdf", "svg")
FORMATS = (*TABLES, *FIGURES)
#: From so many seeds on there is an interval; samples that the bootstrap draws; what of the means lies in it, percent.
ENOUGH, SAMPLES, LEVEL = 5, 10_000, 95
NUMBERS = {"accuracy": "test_accuracy", "weights_left": "weights_left"}


# ---- numbers -------------------------------------------------------------------------------------------------------


def bootstrap(values: Sequence[float]) -> tuple[float, float] | None:
    """The percentile bootstrap's interval for the mean (Efron 1979), drawn from seed 0; None for fewer than ENOUGH.

    SAMPLES times as many values as there are are drawn with replacement; the interval is where the middle LEVEL percent
    of their means lie. Of few values it is too narrow: of 5 from a normal distribution 84 in 100 such intervals held
    the true mean, of 10 89, of 20 93 (4,000 tries each).
    """
    if len(values) < ENOUGH:
        return None
    drawn = np.random.default_rng(0).choice(np.asarray(values, float), (SAMPLES, len(values)))
    low, high = np.percentile(drawn.mean(1), (50 - LEVEL / 2, 50 + LEVEL / 2))
    return float(low), float(high)


def rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Per group what a paper needs, as plain data; shares between 0 and 1; None for what is not known."""
    found = []
    for group in groups:
        recipe, paper = group.recipe, report.published(group.recipe)
        row: dict[str, Any] = {
            "recipe": group.label, "data": recipe.dataset, "epochs": recipe.epochs, "seeds": len(group.runs),
            "unverified": group.unverified, "measured": accuracy_name(recipe.dataset)}
        for name, key in NUMBERS.items():
            values = group.ends(key) if key != "test_accuracy" or group.has_accuracy else []
            low, high = bootstrap(values) or (None, None)
            row |= {f"{name}_mean": float(np.mean(values)) if values else None,
                    f"{name}_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                    f"{name}_low": low, f"{name}_high": high, f"{name}_paper": None}
        if paper:
            row |= {"accuracy_paper": paper[0], "weights_left_paper": paper[1]}
        if not all(group.has_accuracy for group in groups):
            row["loss_mean"] = None if group.has_accuracy else float(np.mean(group.ends("test_loss")))
        if any(group.runs[0].values for group in groups):
            row["set"] = dict(group.runs[0].values)
        if any(group.runs[0].own_seeds for group in groups):
            row |= {name: group.runs[0].own_seeds.get(name) for name in schema.SEEDS}
        found.append({**row, "arithmetic": group.runs[0].arithmetic, "source": group.runs[0].source,
                      "shrunk": group.runs[0].shrunk,
                      "seed_numbers": [run.seed for run in group.runs],
                      "accuracy_values": group.ends("test_accuracy") if group.has_accuracy else [],
                      "weights_left_values": group.ends("weights_left")})
    return found


# ---- tables --------------------------------------------------------------------------------------------------------


def as_csv(groups: Sequence[Group]) -> str:
    """A line per group, a head above them; texts that a spreadsheet would take for a formula have an apostrophe."""
    written = io.StringIO()
    found = rows(groups)
    writer = csv.DictWriter(written, list(found[0]), lineterminator="\n")
    writer.writeheader()
    for row in found:
        writer.writerow({key: " ".join(map(repr, value)) if isinstance(value, list) else
                         escape.cell(grid.words(value)) if isinstance(value, dict) else
                         escape.cell(value) if isinstance(value, str) else value for key, value in row.items()})
    return written.getvalue()


def as_json(groups: Sequence[Group]) -> str:
    """The same as an object: how the numbers were made, and a list of rows."""
    what = {"made_by": "minimask report", "format": 1, "about": caption(groups), "interval_percent": LEVEL,
            "interval_from_seeds": ENOUGH, "bootstrap_samples": SAMPLES}
    head = json.dumps(what, ensure_ascii=True)[:-1]
    lines = ",\n  ".join(json.dumps(row, allow_nan=False) for row in rows(groups))
    return f'{head},\n "rows": [\n  {lines}]}}\n'


def as_latex(groups: Sequence[Group]) -> str:
    """A table environment, with a caption that says how many seeds there are; it needs the package booktabs."""
    found = rows(groups)
    head = ["recipe", "data", "epochs", "seeds", f"{report.accuracy(groups)}, %", "weights left, %", "paper"]
    lines = [" & ".join(map(escape.latex, head)) + r" \\"]
    for row, group in zip(found, groups):
        mark = MARK if row["unverified"] else ""
        paper = ("" if row["accuracy_paper"] is None else
                 f"{100 * row['accuracy_paper']:.2f} / {100 * row['weights_left_paper']:.2f}")
        cells = [escape.latex(cell) for cell in (group.title, row["data"] + mark, str(row["epochs"]),
                                                 str(row["seeds"]))]
        lines.append(" & ".join([*cells, *(_measured(row, name, mark) for name in NUMBERS), paper]) + r" \\")
    return "\n".join([f"{TABLES['latex'][1]}; it needs \\usepackage{{booktabs}}", r"\begin{table}", r"\centering",
                      f"\\caption{{{escape.latex(caption(groups))}}}", r"\begin{tabular}{llrrrrr}", r"\toprule",
                      lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _measured(row: dict[str, Any], name: str, mark: str) -> str:
    """Mean, standard deviation and interval in LaTeX, percent; where there is no accuracy, the loss."""
    if row[f"{name}_mean"] is None:
        return f"loss {row['loss_mean']:.4g}{escape.latex(mark)}"
    text = f"{100 * row[f'{name}_mean']:.2f}"
    text += "" if row[f"{name}_sd"] is None else f" $\\pm$ {100 * row[f'{name}_sd']:.2f}"
    text += escape.latex(mark)
    if row[f"{name}_low"] is not None:
        text += f" [{100 * row[f'{name}_low']:.2f}, {100 * row[f'{name}_high']:.2f}]"
    return text


def caption(groups: Sequence[Group]) -> str:
    """What the numbers of the table are, with the number of seeds."""
    counts = [len(group.runs) for group in groups]
    seeds = f"{counts[0]} seed{'s' * (counts[0] > 1)}" if len(set(counts)) == 1 else \
        f"{min(counts)} to {max(counts)} seeds (see the column)"
    name = report.accuracy(groups)
    words = f"{name[0].upper()}{name[1:]} and weights left after the last epoch: mean over {seeds}"
    if max(counts) > 1:
        words += ", ± the sample standard deviation"
    if max(counts) >= ENOUGH:
        words += (f", in brackets the {LEVEL} % interval of the mean by the percentile bootstrap "
                     f"({SAMPLES:,} samples; {ENOUGH} seeds or more)")
    return " ".join([f"{words}.", *report.remarks(groups)])


# ---- writing -------------------------------------------------------------------------------------------------------


def write(groups: Sequence[Group], out: Path, form: str) -> tuple[str, list[str]]:
    """Writes the table, or every figure, in one of FORMATS into folder `out`.

    Returns what to print, the table or the figures' captions, and the files' names.

    Raises UsageError where `out` holds a table of that name that is none of ours; MissingMatplotlib (PDF alone).
    """
    if form in TABLES:
        name, sign = TABLES[form]
        files.claim(out, "what was not made by minimask report and would be lost", "give another folder with --out",
                    [name], lambda path: files.begins_with(path, sign))
        report.make(out)
        text = {"csv": as_csv, "json": as_json, "latex": as_latex}[form](groups)
        files.write(out / name, text.encode())
        return text, [name]
    if form not in FIGURES:
        raise MinimaskError(f"no format {form!r}: there are {', '.join(FORMATS)}")
    report.make(out)
    captions, names = [], []
    for chart in report.charts(groups):
        name = f"{chart.name}.{form}"
        content = plot.svg(chart.picture, f"c{chart.name}", chart.title, f"{chart.note} {chart.details}").encode() \
            if form == "svg" else plot.pdf(plot.figure(chart.picture))
        files.write(out / name, content)
        names.append(name)
        captions.append(f"{name}: {escape.line(chart.caption)}")
    return "\n".join(captions) + "\n", names
