"""`minimask report DIR...`: what many runs came to, from their records alone: tables, figures, one page.

Records become groups of runs (:mod:`minimask.runs.records`), groups become tables and charts, and these become
Markdown, PNG and SVG figures and a page of HTML (:mod:`minimask.plot.page`). Nothing is trained and no data set is
needed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from .. import backend, data, escape, files, plot, recipes
from ..display import MARK, UNVERIFIED, accuracy_name
from ..errors import MinimaskError, UsageError
from ..plot import page
from ..plot.page import Code, Table
from ..recipes import grid
from . import records, schema
from .records import Group, Reading, Run, Script

#: The first line of report.md, by which a later report knows that it may take its place.
MADE = "<!-- made by minimask report -->"
ABOUT = ("Numbers are those of each run's last epoch: the mean over runs of different seeds and, in brackets, their "
         "5th and 95th percentile. paper: test accuracy / weights left in its table; difference: ours less those.")
#: Of accuracies of NAME-validation, which held out a part of the training images.
HELD_OUT = ("Accuracy on NAME-validation is held-out accuracy: measured on training images that were held out, never "
            "on test images.")
MAKING = ("Times are those of training, without evaluation; other work on the machine makes them longer. A data folder "
          "is given with --data DIR, or by MINIMASK_DATA.")
LEFT_OUT = "Records that are in no table above, and why."


# ---- tables --------------------------------------------------------------------------------------------------------


def results_table(runs: Iterable[Run]) -> str:
    """The paper's row beside ours, in Markdown: a row per group of runs, and a footnote where one is needed."""
    groups = records.groups(runs)
    return results(groups).markdown() + (f"\n{UNVERIFIED}\n" if any(group.unverified for group in groups) else "")


def results(groups: Sequence[Group]) -> Table:
    """A row per group: recipe, data, epochs, runs, accuracy and weights left, the paper's, and the difference."""
    rows, metrics = [], [_metric(group) for group in groups]
    for group, metric in zip(groups, metrics):
        recipe, mark = group.recipe, MARK if group.unverified else ""
        paper = published(recipe)
        ours = [np.mean(group.ends(name)) for name in ("test_accuracy", "weights_left")] if paper else []
        rows.append([Code(group.label), result(group, mark),
                     spread(group.ends("weights_left"), mark),
                     " / ".join(f"{100 * value:.2f}" for value in paper) if paper else "",
                     " / ".join(f"{100 * (a - b):+.2f}{mark}" for a, b in zip(ours, paper)) if paper else "",
                     str(len(group.runs)), str(recipe.epochs), recipe.dataset + mark + preprocessed(group.runs[0]),
                     *([metric] * any(metrics))])
    return Table(["recipe", f"{accuracy(groups)}, %", "weights left, %", "paper", "difference", "runs", "epochs",
                  "data", *(["metric"] * any(metrics))], rows)


def _metric(group: Group) -> str:
    """Name and mean of a metric of one's own, told of the held-out samples; "" where there is none."""
    if not all("test_metric" in run.epochs[-1] for run in group.runs):
        return ""
    return f"{group.runs[0].record.get('metric', 'metric')} {np.mean(group.ends('test_metric')):.4g}"


def preprocessed(run: Run) -> str:
    """How the images of a data set of one's own were preprocessed, to be read after its name; else ""."""
    return f", preprocess {run.record['data']['preprocess']}" if run.data else ""


def accuracy(groups: Iterable[Group]) -> str:
    """What the accuracies of groups are called: test or held-out accuracy, or accuracy where there are both."""
    names = {accuracy_name(group.recipe.dataset) for group in groups}
    return names.pop() if len(names) == 1 else "accuracy"


def result(group: Group, mark: str = "") -> str:
    """The accuracy of a group's runs; the loss of their held-out samples where they have none."""
    if group.has_accuracy:
        return spread(group.ends("test_accuracy"), mark)
    return f"loss {np.mean(group.ends('test_loss')):.4g}{mark}"


def spread(shares: Sequence[float], mark: str = "") -> str:
    """Mean and, of several, 5th to 95th percentile, in percent."""
    low, high = (f"{value:.2f}" for value in 100 * np.percentile(shares, (5, 95)))
    between = f" ({low}{mark} to {high}{mark})" if len(shares) > 1 and low != high else ""
    return f"{100 * np.mean(shares):.2f}{mark}{between}"


def published(recipe: recipes.Recipe | Script) -> tuple[float, float] | None:
    """The paper's test accuracy and weights left for a recipe that is run as it is there, 0 to 1."""
    if isinstance(recipe, Script):
        return None
    shipped = recipes.RECIPES.get(recipe.name)
    whole = shipped is not None and (shipped.epochs, shipped.dataset) == (recipe.epochs, recipe.dataset)
    return recipes.PAPER.get(recipe.name) if whole else None


def making(groups: Sequence[Group]) -> Table:
    """A row per group and hardware: seeds, hardware, time, the command that makes such a run."""
    rows, bases = [], _bases(groups)
    for group in groups:
        on: dict[str, list[Run]] = {}
        for run in group.runs:
            on.setdefault(hardware(run.environment), []).append(run)
        for where, some in on.items():
            minutes = [run.seconds / 60 for run in some]
            least, most = (f"{each(minutes):.1f}" for each in (min, max))
            seeds = ", ".join("unknown" if run.seed is None else str(run.seed) for run in some)
            rows.append([Code(group.label), seeds, where,
                         f"{np.mean(minutes):.1f}{f' ({least} to {most})' if least != most else ''}",
                         Code(command) if (command := command_line(some[0], bases)) else
                         "from Python" if isinstance(group.recipe, Script) else "from Python: own data"])
    return Table(["recipe", "seeds S", "hardware", "training, minutes", "command"], rows)


def hardware(environment: dict[str, Any]) -> str:
    """Processor, cores, BLAS threads, array library and, where the record tells, BLAS kernel of a record."""
    text = (f"{environment.get('processor', 'unknown processor')}, {environment.get('cores', '?')} cores, "
            f"BLAS threads {environment.get('blas_threads') or 'unknown'}, {environment.get('backend', '?')}")
    text += f", {environment['blas_kernel']} kernels" if environment.get("blas_kernel") else ""
    return text + (", then resumed elsewhere" if environment.get("continued") else "")


def grids(groups: Sequence[Group]) -> list[tuple[str, Table]]:
    """Of every recipe that was trained with several values of its keys: its name, and a table by these values."""
    tables = []
    for (base, *keys), some in _grids(groups).items():
        rows = []
        for group in some:
            mark, values = MARK if group.unverified else "", group.runs[0].values
            rows.append([*(grid.plain(values[name]) for name in keys), result(group, mark),
                         spread(group.ends("weights_left"), mark), str(len(group.runs)), Code(group.label)])
        tables.append((base, Table([*(name.replace("_settings.", ".") for name in keys), f"{accuracy(some)}, %",
                                    "weights left, %", "runs", "recipe"], rows)))
    return tables


def _grids(groups: Iterable[Group]) -> dict[tuple[str, ...], list[Group]]:
    """Groups of one recipe in which the same keys were set, where there are two or more."""
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        if group.runs[0].values:
            found.setdefault((group.runs[0].base, *group.runs[0].values), []).append(group)
    return {name: some for name, some in found.items() if len(some) > 1}


def _bases(groups: Sequence[Group]) -> dict[str, recipes.Recipe]:
    """What grids of recipes of one's own were made of, by name: a cell's recipe, whose values --set sets anew."""
    found: dict[str, recipes.Recipe] = {}
    for (base, *_), some in _grids(groups).items():
        if not isinstance(some[0].recipe, Script) and base not in recipes.RECIPES:
            found.setdefault(base, replace(some[0].recipe, name=base))
    return found


def _set_in(bases: Mapping[str, recipes.Recipe], run: Run) -> list[str]:
    """The words that make a run's recipe of one that comes with minimask, or of `bases`: its name, or the file that it
    is in, and --set KEY=VALUE ...; or none."""
    base = recipes.RECIPES.get(run.base) or bases.get(run.base)
    if not run.values or base is None:
        return []
    try:
        made = grid.cell_of(base, run.values).recipe
    except UsageError:
        return []
    same = {**made.as_dict(), "epochs": 0, "dataset": ""} == {**run.recipe.as_dict(), "epochs": 0, "dataset": ""}
    name = run.base if run.base in recipes.RECIPES else f"{run.base}.toml"
    return [name, *(word for key, value in run.values.items()
                    for word in ("--set", f"{key}={_literal(value)}"))] if same else []


def _literal(value: Any) -> str:
    """A value as --set takes it."""
    return grid.plain(value) if not isinstance(value, str) or value.isidentifier() else f'"{value}"'


def command_line(run: Run, bases: Mapping[str, recipes.Recipe] = MappingProxyType({})) -> str:
    """The command that makes such a run, with S for the seed; "" where its data is in no file that a name tells.

    bases: recipes of one's own, by name, that grids were made of.
    """
    recipe, environment = run.recipe, run.environment
    if isinstance(recipe, Script) or (recipe.dataset.removesuffix("-validation") not in data.OUTLINES
                                      and not data.kind_of(recipe.dataset)):
        return ""
    shipped, made = recipes.shipped(recipe), _set_in(bases, run)
    words = ["minimask", "train", *(made or [recipe.name if shipped else f"{recipe.name}.toml"])]
    words += ["--seed", "S"] if len(run.own_seeds) < len(schema.SEEDS) else []
    words += [word for name, seed in run.own_seeds.items() for word in (f"--{name.replace('_', '-')}", str(seed))]
    shipped = shipped or ((recipes.RECIPES.get(run.base) or bases[run.base]) if made else None)
    if shipped and shipped.epochs != recipe.epochs and "epochs" not in run.values:
        words += ["--epochs", str(recipe.epochs)]
    if shipped and shipped.dataset != recipe.dataset and "dataset" not in run.values:
        words += ["--dataset", recipe.dataset]
    if environment.get("blas_threads"):
        words += ["--threads", str(environment["blas_threads"])]
    if environment.get("source_digest") and not run.record.get("shrink"):  # older records know of no shrinking
        words += ["--no-shrink"]
    for library, module in backend.LIBRARIES.items():
        if library != "numpy" and module == environment.get("backend"):
            words += ["--backend", library]
    return shlex.join(words + (["--allow-unverified"] if run.unverified else []))


def left_out(reading: Reading) -> list[str]:
    """A sentence for every record that is in no table."""
    unfinished = [f"{run.path} is unfinished: {run.recipe.name}, seed {run.seed}, after {len(run.epochs)} of "
                  f"{run.recipe.epochs} epochs" for run in reading.unfinished]
    return [f"{path} {reason}" for path, reason in reading.refused] + unfinished


# ---- charts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chart:
    """A picture, what it says in words (`details` for those who do not see it), and its numbers."""

    name: str  # of its files
    title: str
    note: str
    details: str
    picture: plot.Picture
    table: Table

    @property
    def caption(self) -> str:
        """Title and note, as a paper would have them."""
        return f"{self.title}. {self.note}"


def charts(groups: Sequence[Group]) -> list[Chart]:
    """Accuracy against weights left for every data set, then the course of every group that has a mask."""
    told = [group for group in groups if group.has_accuracy]
    found = [_accuracy([group for group in told if group.recipe.dataset == dataset], dataset)
             for dataset in dict.fromkeys(group.recipe.dataset for group in told)]
    found += [_course(group) for group in groups if group.recipe.source != "trained"]
    return [replace(each, name=f"{i:02}-{re.sub(r'[^a-z0-9]+', '-', each.name.lower()).strip('-')[:80]}")
            for i, each in enumerate(found, 1)]


def _accuracy(groups: Sequence[Group], dataset: str) -> Chart:
    """Accuracy against weights left, on one data set: a mark per run, another for every group."""
    labelled = {_marked(group.label, group): [run.record for run in group.runs] for group in groups}
    paper = {_marked(group.label, group): row for group in groups if (row := published(group.recipe))}
    sentences = [f"{_marked(group.label, group)}: {100 * np.mean(group.ends('test_accuracy')):.2f} % with "
                 f"{100 * np.mean(group.ends('weights_left')):.2f} % left ({group.seeds})" for group in groups]
    note = f" {UNVERIFIED}" if any(group.unverified for group in groups) else ""
    numbers = [len(group.runs) for group in groups]
    seeds = " to ".join(dict.fromkeys((str(min(numbers)), str(max(numbers)))))
    name = accuracy(groups)
    return Chart(f"accuracy {dataset}", f"{name[0].upper()}{name[1:]} against weights left, {dataset}",
                 f"A mark per run: {len(groups)} recipe{'s' * (len(groups) > 1)}, seeds of each (in brackets): {seeds}"
                 f"; up and to the left is better.{note}",
                 f"Means: {'; '.join(sentences)}.", plot.trade_off(labelled, paper), results(groups))


def _marked(label: str, group: Group) -> str:
    return f"{label} {MARK}" if group.unverified else label


def _mean(counts: list[int]) -> str:
    """A whole number where the mean is one."""
    return f"{np.mean(counts):.1f}".removesuffix(".0")


def _dead(group: Group, epoch: int) -> str:
    """How many units of each layer are dead for ever after an epoch, in words, where all runs have counted them."""
    layers = zip(*(run.epochs[epoch]["layers"] for run in group.runs))
    words = [f"{of[0]['name']} {_mean([layer['dead'] for layer in of])} of {of[0]['units']}" for of in layers
             if all("dead" in layer for layer in of)]
    return f" Units dead for ever: {'; '.join(words)}." if words else ""


def _course(group: Group) -> Chart:
    """Kept, hidden and inverted per layer, accuracy, weights left and flips over the epochs: means over the runs."""
    shortest = min(len(run.epochs) for run in group.runs)
    began = all("epoch_0" in run.record for run in group.runs)  # and its entry comes before that of epoch 1
    courses = [run.course if began else run.epochs for run in group.runs]
    names = [layer["name"] for layer in group.runs[0].epochs[0]["layers"]]
    last_one = shortest - 1 + began
    loss = ["test_loss"] * all("test_loss" in entry for course in courses for entry in course)
    shown = sorted({*range(0, last_one + 1, max(1, shortest // 20)), last_one})  # some 20 epochs, the last among them
    whole = {name: np.mean([[course[i][name] for i in shown] for course in courses], axis=0)
             for name in (*(["test_accuracy"] * group.has_accuracy), "weights_left", "flips", *loss)}
    counts = np.array([[[[layer[part] for part in schema.STATES] for layer in course[i]["layers"]] for i in shown]
                       for course in courses])  # (runs, epochs shown, layers, 3)
    shares = 100 * counts.mean(0) / counts[0].sum(-1, keepdims=True)  # (epochs shown, layers, 3)
    loss = loss if group.has_accuracy else []  # it comes first where there is no accuracy
    first = [f"{100 * each:.2f}" for each in whole["test_accuracy"]] if group.has_accuracy else [
        f"{each:.4g}" for each in whole["test_loss"]]
    heading = f"{accuracy([group])}, %" if group.has_accuracy else "test loss"
    measured = f"{accuracy([group])} {first[-1]} %" if group.has_accuracy else f"test loss {first[-1]}"
    rows = [[first[i], f"{100 * whole['weights_left'][i]:.2f}",
             f"{whole['flips'][i]:,.0f}", *(f"{whole[name][i]:.4f}" for name in loss),
             *(" / ".join(f"{share:.1f}" for share in layer) for layer in shares[i])]
            for i in range(len(shown))]
    table = Table(["epoch", heading, "weights left, %", "flips", *("test loss" for _ in loss),
                   *(f"{name}: kept / hidden / inverted, %" for name in names)],
                  [[str(i + 1 - began), *row] for i, row in zip(shown, rows)])
    _, left, flips, *layers = rows[-1]
    layers = layers[len(loss):]
    return Chart(f"course {group.label}", f"{_marked(group.label, group)}: kept, hidden and inverted over time",
                 f"{group.seeds}{', means over them' if len(group.runs) > 1 else ''}. After {shortest} epochs: "
                 f"{measured}, {left} % of the weights left ({rows[0][1]} % after epoch "
                 f"{1 - began}), {flips} flips in the epoch.{f' {UNVERIFIED}' if group.unverified else ''}",
                 f"Kept / hidden / inverted at the end, %: "
                 f"{'; '.join(f'{name} {share}' for name, share in zip(names, layers))}."
                 f"{_dead(group, shortest - 1)}",
                 plot.course([run.record for run in group.runs], columns=2), table)


# ---- files ---------------------------------------------------------------------------------------------------------


def counted(reading: Reading) -> list[Group]:
    """The groups of the runs that count; MinimaskError where there is none, with the first reasons."""
    groups, sentences = records.groups(reading.runs), left_out(reading)
    if not groups:
        more = f"; and {len(sentences) - 3} more" if len(sentences) > 3 else ""
        raise MinimaskError(f"no finished run among the records found: {'; '.join(sentences[:3])}{more}" if sentences
                            else "no record found; needed are folders with record.json, or of records")
    return groups


def write(reading: Reading, out: Path) -> tuple[str, list[str], str]:
    """Writes report.md, report.html and the figures into folder `out`, in place of an earlier report.

    Returns the Markdown, the files' names, and a sentence on what is missing and why ("" where nothing is).

    Raises:
        UsageError: `out` cannot be made, or holds a report.md or report.html that is none of ours.
        MinimaskError: no record counts, or a file cannot be written.
    """
    groups, sentences = counted(reading), left_out(reading)
    _claim(out)
    all_charts, names, missing = charts(groups), [], ""
    drawn, pngs = [], False
    for chart in all_charts:
        svg = plot.svg(chart.picture, f"c{chart.name}", chart.title, f"{chart.note} {chart.details}")
        files.write(out / f"{chart.name}.svg", svg.encode())
        names.append(f"{chart.name}.svg")
        drawn.append(page.chart(svg, chart.title, chart.note, chart.table))
        if not missing:
            try:
                files.write(out / f"{chart.name}.png", plot.png(plot.figure(chart.picture)))
                names.append(f"{chart.name}.png")
                pngs = True
            except plot.MissingMatplotlib as error:
                missing = f"figures as SVG alone, no PNG: {error}"
    kind = "png" if pngs else "svg"
    pictures = "".join(f"![{escape.markdown(f'{chart.title}. {chart.details}')}]({chart.name}.{kind})\n\n"
                       f"**{escape.markdown(chart.title)}.** {escape.markdown(chart.note)}\n\n" for chart in all_charts)
    markdown = _markdown(groups, sentences, pictures)
    files.write(out / "report.md", f"{MADE}\n{markdown}".encode())
    files.write(out / "report.html", _page(groups, sentences, drawn, missing).encode())
    return markdown, ["report.md", "report.html", *names], missing


def _claim(out: Path) -> None:
    """Makes the folder, without an earlier report's figures; UsageError where it cannot be, or a report is not ours."""
    signs = {"report.md": MADE, "report.html": 'content="minimask report"'}
    files.claim(out, "what was not made by minimask report and would be lost", "give another folder with --out", signs,
                lambda path: files.begins_with(path, signs[path.name]))
    make(out)
    try:
        earlier = (out / "report.md").read_text(encoding="utf-8") if (out / "report.md").exists() else ""
        for name in re.findall(r"^!\[.*\]\(([a-z0-9-]+)\.(?:png|svg)\)$", earlier, re.MULTILINE):
            for kind in ("png", "svg"):
                (out / f"{name}.{kind}").unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(out, error) from error


def make(out: Path) -> None:
    """Makes the folder; UsageError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or error
    return UsageError(f"{out} cannot be written to ({reason}); give another folder with --out")


def _summary(groups: Sequence[Group]) -> str:
    """What stands above the results, in both forms."""
    runs = sum(len(group.runs) for group in groups)
    of = records.recipes_of(groups)
    return " ".join([f"{runs} run{'s' * (runs > 1)} of {of} recipe{'s' * (of > 1)}. {ABOUT}", *remarks(groups)])


def remarks(groups: Sequence[Group]) -> list[str]:
    """What is to be said of numbers: what was kept apart, that none is of test images, that data is not verified."""
    return [sentence for sentence, given in (
        (records.kept_apart(groups), True),
        (HELD_OUT, any(group.recipe.dataset.endswith("-validation") for group in groups)),
        (UNVERIFIED, any(group.unverified for group in groups))) if given and sentence]


def _own(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Label and TOML of every recipe that does not come with minimask, nor is made of one that does; of a grid once."""
    bases, found = _bases(groups), dict[str, str]()
    for group in groups:
        run = group.runs[0]
        if isinstance(group.recipe, Script) or recipes.shipped(group.recipe):
            continue
        if not _set_in(bases, run):
            found[group.label] = group.recipe.toml()
        elif run.base in bases:
            found.setdefault(run.base, bases[run.base].toml())
    return list(found.items())


def _markdown(groups: Sequence[Group], sentences: Sequence[str], pictures: str) -> str:
    own = "".join(f"Recipe {escape.code(label)}:\n\n{_toml(text)}\n" for label, text in _own(groups))
    out = "".join(f"- {escape.markdown(sentence)}\n" for sentence in sentences)
    by_value = "".join(f"**{escape.markdown(f'{base}, by what was set')}**\n\n{table.markdown()}\n"
                       for base, table in grids(groups))
    return (f"## Results\n\n{escape.markdown(_summary(groups))}\n\n{results(groups).markdown()}\n{by_value}{pictures}"
            f"## How they were made\n\n{MAKING}\n\n{making(groups).markdown()}\n{own}"
            + (f"## Left out\n\n{LEFT_OUT}\n\n{out}" if out else ""))


def _toml(text: str) -> str:
    """A recipe as a block of code; JSON's texts in it hold no line that ends the block."""
    return f"```toml\n{escape.lines(text)}```\n"


def _page(groups: Sequence[Group], sentences: Sequence[str], drawn: Sequence[str], missing: str) -> str:
    own = "".join(f"<details><summary>recipe {page.inline(label)}</summary>{page.block(text)}</details>\n"
                  for label, text in _own(groups))
    return page.document("minimask: what the runs came to", "".join([
        "<p>Signed supermasks: frozen random weights, of which training only decides to keep, hide or invert each. "
        "The paper: Koster, Grothe and Rettinger, <cite>Signing the Supermask</cite>, ICLR 2022, "
        '<a href="https://arxiv.org/abs/2201.13361">arXiv:2201.13361</a>.</p>\n',
        f"<h2>Results</h2>\n<p>{page.inline(_summary(groups))}</p>\n", results(groups).html("Results"),
        *(table.html(f"{base}, by what was set") for base, table in grids(groups)),
        f"<h2>Charts</h2>\n{f'<p>{page.inline(missing)}</p>' if missing else ''}",
        f'<div class="charts">\n{"".join(drawn)}</div>\n',
        f"<h2>How they were made</h2>\n<p>{MAKING}</p>\n", making(groups).html("Hardware, time, command"), own,
        f"<h2>Left out</h2>\n<p>{LEFT_OUT}</p>\n{page.items(sentences)}" if sentences else ""]),
        command="report")
