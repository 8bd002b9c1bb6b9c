"""What `minimask inspect` leaves: the figures of a trained mask, one page that explains each, and the numbers.

A part is a figure with its explanation; every number in a sentence is counted for the very net that is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files, plot
from ..data import Dataset
from ..display import MARK, UNVERIFIED, result
from ..escape import html
from ..losses import has_classes
from ..nn import Sequential
from ..plot import page
from . import counts, figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What the numbers of anatomy.json are laid out as.
FORMAT = 1


@dataclass(frozen=True)
class Part:
    """One section of the page.

    Attributes:
        name: of its file, NAME.png. title: of the section. figure, caption: the picture, and in words what it shows,
            for those who do not see it.
        text: its paragraphs: what is shown, what chance would give, what is found here. table: numbers, if any.
    """

    name: str
    title: str
    figure: Figure
    caption: str
    text: Sequence[str]
    table: page.Table | None = None


def numbers(net: Sequential, record: dict[str, Any], dataset: Dataset, repeats: int = 5) -> dict[str, Any]:
    """Everything that is counted, as plain data for JSON; shares and accuracies between 0 and 1.

    Where the targets are no classes, what is about right and wrong is None: "guessing" and "worth".

    Args:
        net, record: of a run of a supermask. dataset: the one it was trained on.
        repeats: how often each change of the net is drawn; from seed 0, so that the same run gives the same numbers.
    """
    masks, found = counts.masks(net), counts.pixels(net, dataset)
    paths = counts.paths(net)
    alive = found["paths"] > 0
    dead = {layer["name"]: layer.get("dead") for layer in record["epochs"][-1].get("layers", ())}
    return {"format": FORMAT, "recipe": record["recipe"].get("name") or record.get("name"), "seed": record["seed"],
            "dataset": dataset.name,
            "test_accuracy": record["epochs"][-1].get("test_accuracy"),
            "result": result(record["epochs"][-1], dataset.name),
            "weights_left": net.weights_left(),
            "unverified": bool(record.get("unverified")),
            "layers": counts.shares(masks),
            "degrees": [{"name": name, "inputs": len(out), "inputs_with_none": int((out == 0).sum()),
                         "out_degree": _spread(out), "units": len(into), "units_with_none": int((into == 0).sum()),
                         "in_degree": _spread(into), "dead_for_ever": dead.get(name)}
                        for name, (out, into) in counts.degrees(masks, counts.groups(net)).items()],
            "pixels": {"all": alive.size, "dead": int((~alive).sum()),
                       "seen_by_no_unit": int((found["seen"] == 0).sum()) if "seen" in found else None,
                       "correlation_with_variation": _correlation(found.get("seen", found["paths"]), found["varies"])},
            "paths": {name: float(paths[label].sum()) for label, name in enumerate(dataset.classes)},
            "guessing": 1 / len(dataset.classes) if has_classes(dataset) else None, "repeats": repeats,
            "worth": counts.worth(net, dataset, np.random.default_rng(0), repeats) if has_classes(dataset) else None}


def _spread(degrees: np.ndarray) -> dict[str, float]:
    return {"least": int(degrees.min()), "mean": float(degrees.mean()), "most": int(degrees.max())}


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's, None where one of them is the same everywhere."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if np.ptp(a) and np.ptp(b) else None


# ---- the parts -----------------------------------------------------------------------------------------------------


def parts(net: Sequential, dataset: Dataset, counted: dict[str, Any]) -> Iterator[Part]:
    """The sections of the page, one after the other; without classes those alone that are not about them.

    counted: of :func:`numbers`.
    """
    masks, about_classes = counts.masks(net), has_classes(dataset)
    yield _shares(counted)
    dense = counts.over_the_image(net) is not None
    if dense:
        yield _first_mask(net, dataset)
    yield _pixels(net, dataset, counted)
    if about_classes:
        yield _classes(net, dataset, counted)
    if dense and about_classes:
        yield _units(net, dataset)
    elif not dense and next(iter(masks.values())).ndim == 4:
        yield _filters(net, dataset)
    if any(mask.ndim == 4 and mask.shape[0] * mask.shape[1] > 1 for mask in masks.values()):
        yield _patterns(net)
    yield _degrees(masks, counted, counts.groups(net))
    if about_classes:
        yield _worth(counted)


def _shares(counted: dict[str, Any]) -> Part:
    rows = counted["layers"]
    far, uneven = (sum(abs(row[f"{part}_deviation"]) > 3 for row in rows) for part in ("left", "kept"))
    inverts = _inverts(counted)
    table = page.Table(
        ["layer", "weights", "kept", "hidden", "inverted", "left", "deviation of left",
         *(["deviation of kept"] if inverts else [])],
        [[page.Code(row['name']), *(f"{row[part]:,}" for part in ("weights", "kept", "hidden", "inverted")),
          f"{1 - row['hidden'] / row['weights']:.1%}", f"{row['left_deviation']:+.1f}",
          *([f"{row['kept_deviation']:+.1f}"] if inverts else [])] for row in rows])
    return Part(
        "shares", "How much is kept, hidden and inverted", figures.shares(rows),
        "Stacked bars: share kept, inverted and hidden in each layer, with two marks for chance.",
        [f"{counted['weights_left']:.2%} of the weights are left. If they were strewn evenly over the net, every layer "
         "would keep the share that the solid line marks. The deviation of left says how many standard deviations a "
         f"layer is from that: {far} of {len(rows)} layers are more than 3 away.",
         "The frozen signs are random, so there is no reason to keep more weights than to invert. If a coin decided, "
         f"the blue would end at the dotted line: {uneven} of {len(rows)} layers are more than 3 standard deviations "
         "from it." if inverts else "This kind of mask keeps or hides and never inverts."], table)


def _inverts(counted: dict[str, Any]) -> bool:
    """Whether any weight is inverted; binary masks and edge-popup never do."""
    return any(row["inverted"] for row in counted["layers"])


def _first_mask(net: Sequential, dataset: Dataset) -> Part:
    return Part(
        "masks", "The mask of the first layer", plot.masks(net, dataset),
        "Above: an image, the share of units that see each of its pixels, and the whole mask under the image's pixels "
        "in a row. Below: kept, inverted and hidden weights of single units, laid over the image.",
        ["At the top right the picture of the paper's figure 1: one image with its pixels side by side; below it, in "
         "the same columns, the mask, a row per unit. Columns without colour are pixels that no unit looks at; at the "
         "left the share of units that do, back on the plane of the image.",
         "Below, the masks of single units over the image: blue is kept, orange inverted. These are the units with the "
         f"largest balance of paths to each {_end(dataset, 'class', 'output')} (numbers: positive paths less negative "
         "ones)."])


def _end(dataset: Dataset, classes: str, others: str) -> str:
    """What paths lead to, as the net is about classes or not."""
    return classes if has_classes(dataset) else others


def _pixels(net: Sequential, dataset: Dataset, counted: dict[str, Any]) -> Part:
    found = counted["pixels"]
    dense, correlation = found["seen_by_no_unit"] is not None, found["correlation_with_variation"]
    above = ["Above, means over the units of the first layer, laid back over the image plane. Left: the share of units "
             "that have a weight left at the pixel. Middle: kept less inverted" + (
                 "; since a frozen sign is a coin toss, this should look like noise. " if _inverts(counted) else
                 ", the same, since nothing is inverted. ") +
             "Right: positive less negative, the sign that units really multiply with."]
    unseen = f"; {found['seen_by_no_unit']:,} are seen by no unit of the first layer at all" if dense else ""
    end = _end(dataset, "a class", "an output")
    counts_still = (": it counts only in the image's mean and spread, by which every image is standardised"
                    if dataset.prepare.name == "image" else "")
    what = "The share of units that see a pixel" if dense else "The number of paths from a pixel"
    together = "" if correlation is None else (
        f" {what} and how much the pixel varies correlate with {correlation:.2f}.")
    return Part(
        "pixels", "What the net sees of the image", figures.pixels(counts.pixels(net, dataset)),
        "Maps over the image plane: units that see each pixel, paths, variation, dead pixels.",
        [*(above if dense else []),
         f"A path takes one weight that is left from every layer, from a pixel to {end}. A pixel without a path is dead"
         f"{counts_still}. {found['dead']:,} of {found['all']:,} pixels are dead{unseen}.",
         "Nobody told the net which pixels matter, but a pixel that is the same in every training image cannot tell "
         f"{_end(dataset, 'classes', 'images')} apart.{together}"])


def _classes(net: Sequential, dataset: Dataset, counted: dict[str, Any]) -> Part:
    most, least = (choose(counted["paths"], key=counted["paths"].get) for choose in (max, min))
    return Part(
        "classes", "Paths from each pixel to each class", figures.classes(net, dataset),
        "Per class: the mean image, and under it the balance of positive and negative paths over the image plane.",
        ["Under the mean training image of each class: the paths from each pixel to the class, those that multiply to "
         "a positive weight less the others. Blue pixels speak for the class, orange ones against it. The net's "
         "nonlinearities are left out here, so this is a sketch of what it computes, not the whole.",
         f"In all, {_count(counted['paths'][most])} paths lead to class {most}, the most, and "
         f"{_count(counted['paths'][least])} to class {least}, the fewest.",
         *([f"The first 10 of {len(dataset.classes)} classes are shown."] if len(dataset.classes) > 10 else [])])


def _count(number: float) -> str:
    """A number of paths: exact as far as float64 is, else three digits."""
    return f"{number:,.0f}" if number < 2**53 else f"about {number:.2e}"


def _units(net: Sequential, dataset: Dataset) -> Part:
    return Part(
        "units", "The units that speak for and against each class", figures.units(net, dataset),
        "A row per class: the effective signs of six units of the first layer over the image plane.",
        ["A row per class: the six units of the first layer with the largest balance of paths to it, and that balance. "
         "A unit's picture is what it multiplies the image with: blue where ink raises it, orange where ink lowers it. "
         "Above 0 the unit speaks for the class, below 0 against it.",
         "No weight was ever set: these pictures were found among random signs by keeping, inverting and hiding."])


def _filters(net: Sequential, dataset: Dataset) -> Part:
    return Part(
        "filters", "The most used filters of the first layer", figures.filters(net),
        "The first convolution's filters as small windows of positive, negative and hidden weights.",
        [f"The filters of {next(iter(net.weights()))} that the most paths to the {_end(dataset, 'classes', 'outputs')} "
         "pass through, with their share of all such paths; input channels side by side. Blue multiplies with a "
         "positive weight, orange with a negative one, and nearly white is hidden."])


def _patterns(net: Sequential) -> Part:
    return Part(
        "patterns", "The most frequent filters of each convolution", figures.patterns(net),
        "Per convolution, the most frequent patterns of positive, negative and hidden weights in one window.",
        ["What one output channel does with one input channel is a small window of signs. There are only so many (3 to "
         "the 9th power for a 3x3 window), so some occur again and again. Above each: how often it occurs, and how "
         "often it would if chance decided whether a weight is left, and its sign. Windows that are hidden as a whole "
         "are not counted."])


def _degrees(masks: counts.Masks, counted: dict[str, Any],
             groups: Mapping[str, int] = MappingProxyType({})) -> Part:
    rows = counted["degrees"]
    any_dead = any(row.get("dead_for_ever") is not None for row in rows)

    def words(row: dict[str, Any], part: str) -> str:
        return f"{row[part]['least']:,} / {row[part]['mean']:,.1f} / {row[part]['most']:,}"

    table = page.Table(
        ["layer", "inputs", "with none", "out-degree: least / mean / most", "units", "with none",
         "in-degree: least / mean / most", *(["dead for ever"] if any_dead else [])],
        [[page.Code(row['name']), f"{row['inputs']:,}", f"{row['inputs_with_none']:,}", words(row, "out_degree"),
          f"{row['units']:,}", f"{row['units_with_none']:,}", words(row, "in_degree"),
          *(["" if (dead := row.get("dead_for_ever")) is None else f"{dead:,}"] if any_dead else [])] for row in rows])
    return Part(
        "degrees", "Who is connected to how many", figures.degrees(masks, np.random.default_rng(0), groups),
        "Histograms of the weights left at each input and unit, beside those of the same masks shuffled.",
        ["Left: how many weights are left at each input of a layer (its out-degree); right: at each unit (its "
         "in-degree). The outline is the same mask with its entries in random order: what chance would give with as "
         "many weights. Where the filled histogram is wider, the net listens to some much more than to others. Inputs "
         "and units with none can be removed without any change, but where batch norm shifts them.",
         *(["Units that are dead for ever have no weight left on either side, and none of them could have come back: "
            "training went on without them (minimask/shrink.py)."] if any_dead else []),
         *(["The first 6 layers are drawn, the table has all."] if len(rows) > 6 else [])], table)


def _worth(counted: dict[str, Any]) -> Part:
    worth, guessing, repeats = counted["worth"], counted["guessing"], counted["repeats"]
    often = "once" if repeats == 1 else f"{repeats} times"
    better = worth["as trained"][0] - guessing
    kept = {name: f"{round((float(np.mean(values)) - guessing) / better, 2) + 0.0:.0%}" if better > 0 else "nothing"
            for name, values in worth.items()}
    mean = f"accuracy{MARK * counted['unverified']}: mean"
    table = page.Table(
        ["the net", mean, "least", "most", "left of what is better than guessing"],
        [[name, f"{np.mean(values):.2%}", f"{min(values):.2%}", f"{max(values):.2%}", kept[name]]
         for name, values in worth.items()])
    return Part(
        "worth", "Which part carries the information?", figures.worth(worth, guessing),
        "Bars: accuracy as trained, and after each part of the mask or the weights was replaced by chance.",
        ["A trained mask says which weights are left and with which sign; how large they are, the frozen weights say. "
         f"Each part is replaced by chance in all layers at once, {often}, and nothing is trained again. What follows "
         f"is how much is left of what the net does better than guessing ({guessing:.0%}); below 0, it is worse.",
         "Signs shuffled: the same weights are left, but which of them are kept and which inverted is shuffled within "
         f"each layer. {kept['signs shuffled']} is left." if _inverts(counted) else
         "Signs shuffled: this mask inverts nothing, so it has no signs, and nothing changes.",
         f"Mask shuffled: all entries of each layer's mask change places. {kept['mask shuffled']} is left.",
         "Magnitudes: all places and signs stay, and each magnitude is drawn anew, from a uniform or a normal "
         "distribution with the layer's second moment. "
         f"{kept['magnitudes uniform']} and {kept['magnitudes normal']} are left. (Where frozen weights are signed "
         "constants, all magnitudes of a layer are one number: a draw from their own rule would change nothing.)",
         "Frozen weights anew: the same mask over other frozen weights, drawn by the layer's own rule, signs and all. "
         f"{kept['frozen weights anew']} is left: this says whether a mask is worth anything without the weights that "
         "it was trained on."], table)


# ---- writing -------------------------------------------------------------------------------------------------------


def write(folder: Path, net: Sequential, record: dict[str, Any], dataset: Dataset, repeats: int = 5) -> list[str]:
    """Writes index.html, anatomy.json and a PNG per figure into the folder; returns the files' names.

    Raises:
        UsageError: the folder holds files of these names that are not of an earlier inspection.
        MissingMatplotlib, MinimaskError (no mask in the net), WriteError.
    """
    counted = numbers(net, record, dataset, repeats)
    body, figures = [], {}
    for part in parts(net, dataset, counted):
        figures[f"{part.name}.png"] = png = plot.png(part.figure)
        alt = f"{part.title}. {part.caption}"
        body.append(f"<h2>{html(part.title)}</h2>\n" + page.picture(png, alt, part.caption, part.name)
                    + "".join(f"<p>{html(text)}</p>\n" for text in part.text)
                    + (part.table.html(part.title) if part.table else ""))
    lead = (f"<p>{html(_lead(counted))}</p>\n<p>Blue is kept or positive, orange inverted or negative, nearly white "
            "hidden or zero; in grey the blue is the darkest. In maps with shades, a dash marks what is clearly "
            "negative.</p>\n")
    title = f"Inside {counted['recipe'] or 'a net'}"
    title += "" if counted["seed"] is None else f", seed {counted['seed']}"
    contents = {"index.html": page.document(title, lead + "".join(body), command="inspect").encode(),
                "anatomy.json": (json.dumps(counted, indent=1, allow_nan=False) + "\n").encode(), **figures}
    ours = files.begins_with(folder / "index.html", 'content="minimask inspect"')
    files.claim(folder, "what `minimask inspect` has not made and would be lost", "give another folder with --out",
                contents, lambda path: ours)
    for name, content in contents.items():
        files.write(folder / name, content)
    return list(contents)


def _lead(counted: dict[str, Any]) -> str:
    weights = sum(row["weights"] for row in counted["layers"])
    left = weights - sum(row["hidden"] for row in counted["layers"])
    by = "keeping, hiding or inverting" if _inverts(counted) else "keeping or hiding"
    mark, share = MARK * counted["unverified"], counted["test_accuracy"]
    told = (f"{share:.2%}{mark} of the held-out images get the right class" if share is not None else
            f"its {counted['result']}{mark}")
    return (f"A net trained on {counted['dataset']}{mark} by {by} random weights: {left:,} of {weights:,} are left, "
            f"and {told}. What did the mask learn?{f' {UNVERIFIED}' if mark else ''}")
