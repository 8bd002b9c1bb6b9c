"""Figures of a trained mask (extra ``plot``), from what counts.py counts; every function returns a matplotlib Figure.

Blue is kept or positive, orange inverted or negative, nearly white hidden or zero, as in plot.py: the blue is the
darkest and the white the lightest, so that grey tells them apart, too. Where there are shades of both, a dash marks
what is clearly negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import escape, nn
from ..data import Dataset
from ..plot import HIDDEN, INVERTED, KEPT, maps, mask_legend, new_figure
from . import counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pixels(found: Mapping[str, np.ndarray]) -> Figure:
    """The image plane as the net sees it, from :func:`minimask.anatomy.pixels`: a panel each, and the dead pixels."""
    dense = "seen" in found
    figure = new_figure(9.2, 5.6 if dense else 3.0)
    axes = iter(figure.subplots(2 if dense else 1, 3).flat)
    if dense:
        _plane(next(axes), 100 * found["seen"], "units that see the pixel", "% of the units")
        _plane(next(axes), 100 * found["balance"], "kept less inverted", "% of the units", signed=True)
        _plane(next(axes), 100 * found["sign"], "positive less negative", "% of the units", signed=True)
    some = found["paths"] > 0
    logarithm = np.log10(np.where(some, found["paths"], np.nan))
    least = float(np.floor(np.nanmin(logarithm))) if some.any() else 0.0
    _plane(next(axes), logarithm, "paths (white: none)", "log10 of their number", least=least)
    _plane(next(axes), found["varies"], "how much the pixel varies", "standard deviation")
    dead = next(axes)
    dead.imshow(some, cmap=_shades(HIDDEN, KEPT), vmin=0, vmax=1, interpolation="nearest")
    dead.set_title(f"{int((~some).sum()):,} of {some.size:,} pixels are dead", fontsize=10)
    dead.set_xlabel("column (dark: alive)")
    dead.set_ylabel("row")
    return figure


def classes(net: nn.Sequential, dataset: Dataset, most: int = 10, columns: int = 5) -> Figure:
    """The first classes: above, the mean training image; below, positive less negative paths from each pixel to it."""
    names = dataset.classes[:most]
    means, balance = counts.class_means(dataset).mean(axis=3), counts.paths(net, signed=True).sum(axis=3)
    means, balance = (values / (np.abs(values).max() or 1.0) for values in (means[:len(names)], balance[:len(names)]))
    blocks = -(-len(names) // columns)
    figure = new_figure(1.45 * columns + 1.0, 3.1 * blocks)
    axes = figure.subplots(2 * blocks, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_visible(False)
    for label, name in enumerate(names):
        block, column = divmod(label, columns)
        for row, values in enumerate((means, balance)):
            ax = axes[2 * block + row, column]
            ax.set_visible(True)
            shown = _balance(ax, values[label], 1.0)
            ax.set_title(f"class {escape.label(name)}" if not row else "", fontsize=10)
            if not column:
                ax.set_ylabel("paths, + less −" if row else "mean image")
    figure.colorbar(shown, ax=list(axes.flat), label="share of the largest: mean, paths", shrink=0.6)
    return figure


def units(net: nn.Sequential, dataset: Dataset, each: int = 6, most: int = 10) -> Figure:
    """Per class, a row: the units of the first layer with the largest balance of paths to it, over the image plane.

    Args:
        net: its first layer is dense, over the image (:func:`minimask.anatomy.over_the_image`).
        each: units a class. most: classes.
    """
    name = counts.over_the_image(net)
    assert name is not None
    sign, balance = counts.signs(net)[name], counts.paths(net, signed=True, after=name)  # (pixels, n), (classes, n)
    names, each = dataset.classes[:most], min(each, sign.shape[1])
    across = 1.15 if net.input_shape[2] == 1 else 1.75  # inches, of a unit's maps side by side
    high = across * net.input_shape[0] / (net.input_shape[1] * (1.12 * net.input_shape[2] - 0.12))
    figure = new_figure(across * each + 0.09 * max(map(len, names)) + 0.3, (high + 0.3) * len(names) + 0.5)
    figure.set_layout_engine("constrained", wspace=0.04)
    for name, row, to_class in zip(names, figure.subplots(len(names), each, squeeze=False), balance):
        for ax, unit in zip(row, np.argsort(-np.abs(to_class), kind="stable")):
            maps(ax, sign[:, unit].reshape(net.input_shape), named=name is names[-1])
            ax.set_title(f"unit {unit}: {to_class[unit]:+.0f}", fontsize=8)
        row[0].set_ylabel(f"class\n{escape.label(name)}", fontsize=9, rotation=0, labelpad=6, ha="right", va="center")
    figure.legend(handles=_legend_of_signs(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def filters(net: nn.Sequential, most: int = 24) -> Figure:
    """The filters of a first convolution with the most paths to the classes, their input channels side by side."""
    name = next(iter(net.weights()))
    weight = counts.signs(net)[name]  # (kh, kw, c_in, c_out)
    through = counts.paths(net, after=name).sum(axis=(0, 1, 2))  # (c_out,)
    order = np.argsort(-through, kind="stable")[:most]
    kh, kw, channels = weight.shape[:3]
    columns = 8 if channels < 4 else 4
    rows = -(-len(order) // columns)
    high = 9.0 / columns * kh / (kw * channels + max(0.12 * kw, 0.4) * (channels - 1))  # inches, of a filter
    figure = new_figure(9.2, (min(high, 1.1) + 0.35) * rows + 0.6)
    total = through.sum() or 1.0
    for place, ax in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        if place >= len(order):
            ax.set_axis_off()
            continue
        unit = order[place]
        maps(ax, weight[..., unit], named=place + columns >= len(order) and channels == 3)
        ax.set_title(f"filter {unit}: {through[unit] / total:.1%}", fontsize=8)
    figure.legend(handles=_legend_of_signs(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def patterns(net: nn.Sequential, layers: int = 8, most: int = 8) -> Figure:
    """The most frequent filters of the first convolutions with a window, a row per layer: how often, and by chance."""
    found = [(name, sign, counts.patterns(sign, most)) for name, sign in counts.signs(net).items()
             if sign.ndim == 4 and sign.shape[0] * sign.shape[1] > 1][:layers]
    figure = new_figure(9.2, 1.35 * len(found) + 0.5)
    for (name, sign, rows), axes in zip(found, figure.subplots(len(found), most, squeeze=False)):
        for i, ax in enumerate(axes):
            if i < len(rows):
                pattern, count, chance = rows[i]
                maps(ax, pattern[..., None])
                ax.set_title(f"found {count:,}\n(chance {chance:.2g})", fontsize=7)
            else:
                ax.set_axis_off()
        axes[0].axis("on")
        axes[0].set_xticks([])
        axes[0].set_yticks([])
        axes[0].set_ylabel(f"{escape.label(name)}\n{sign.shape[2]} to {sign.shape[3]}", fontsize=8)
    figure.legend(handles=_legend_of_signs(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def shares(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Per layer: share kept, inverted and hidden, and where the kept and left would end by chance."""
    figure = new_figure(8, 0.42 * len(rows) + 1.5)
    ax = figure.subplots()
    places = np.arange(len(rows))[::-1]
    start = np.zeros(len(rows))
    for part, colour in (("kept", KEPT), ("inverted", INVERTED), ("hidden", HIDDEN)):
        width = np.array([100 * row[part] / row["weights"] for row in rows])
        ax.barh(places, width, left=start, color=colour, edgecolor="#888888", linewidth=0.5)
        start += width
    chance = [100 * row["left_by_chance"] / row["weights"] for row in rows]
    half = [50 * (row["kept"] + row["inverted"]) / row["weights"] for row in rows]
    inverts = any(row["inverted"] for row in rows)
    for values, style, label in ([(half, ":", "half of what is left")] * inverts +
                                 [(chance, "-", "left if strewn evenly")]):
        for place, value in zip(places, values):
            (line,) = ax.plot([value, value], [place - 0.48, place + 0.48], style, color="black", linewidth=1.6,
                              path_effects=_outline())
        line.set_label(label)
    ax.set_yticks(places, [escape.label(row["name"]) for row in rows], fontsize=8)
    ax.set_xlabel("% of the layer's weights")
    ax.set_xlim(0, 100)
    ax.legend(handles=[*mask_legend(), *ax.get_legend_handles_labels()[0]], fontsize=8, ncols=5, loc="lower center",
              bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


def degrees(masks: counts.Masks, rng: np.random.Generator, groups: Mapping[str, int] = MappingProxyType({}),
            layers: int = 6) -> Figure:
    """Weights left at each input and each unit of the first layers, beside those of the same mask shuffled."""
    names = list(masks)[:layers]
    shuffled = {name: counts.shuffled(masks[name], rng) for name in names}
    real, chance = counts.degrees(masks, groups), counts.degrees(shuffled, groups)
    figure = new_figure(8, 2.1 * len(names) + 0.4)
    for name, axes in zip(names, figure.subplots(len(names), 2, squeeze=False)):
        for ax, ours, theirs, what in zip(axes, real[name], chance[name], ("inputs (out-degree)", "units (in-degree)")):
            largest = int(max(ours.max(initial=0), theirs.max(initial=0), 1))
            least = int(min(ours.min(initial=largest), theirs.min(initial=largest)))
            step = -(-(largest - least + 1) // 40)
            edges = np.arange(least, largest + 2 * step, step) - 0.5
            ax.hist(ours, edges, color="#b3bac0", label="trained")
            ax.hist(theirs, edges, histtype="step", color="black", linewidth=1.4, label="same mask, shuffled")
            none = int((ours == 0).sum())
            ax.set_title(f"{escape.label(name)}: {len(ours):,} {what}, {none:,} with none", fontsize=9)
            ax.set_ylabel("how many")
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_major_locator().set_params(integer=True)
            ax.set_xlabel("weights left at it")
    figure.axes[0].legend(fontsize=8)
    return figure


def worth(results: Mapping[str, Sequence[float]], guessing: float) -> Figure:
    """Accuracy as trained and under each change, a mark per draw; from :func:`minimask.anatomy.worth`.

    guessing: the accuracy of a guess, 0 to 1, which a dashed line marks.
    """
    figure = new_figure(8, 0.45 * len(results) + 0.9)
    ax = figure.subplots()
    for place, accuracies in zip(range(len(results))[::-1], results.values()):
        mean = 100 * float(np.mean(accuracies))
        ax.barh(place, mean, color="#dde1e4", edgecolor="#808080", height=0.6)
        ax.plot([100 * a for a in accuracies], [place] * len(accuracies), "o", color="white", markersize=5,
                markeredgecolor="black", markeredgewidth=1.0)
        ax.text(101, place, f"{mean:.1f} %", va="center", fontsize=9)
    ax.axvline(100 * guessing, color="black", linestyle="--", linewidth=1.2)
    ax.set_yticks(range(len(results))[::-1], list(results))
    ax.set_xlim(0, 100)
    ax.set_xlabel("accuracy on held-out images, % (bar: mean; marks: draws; dashed: guessing)")
    return figure


# ---- parts ---------------------------------------------------------------------------------------------------------


def _plane(ax: Axes, values: np.ndarray, title: str, scale: str, signed: bool = False,
           least: float | None = 0.0) -> None:
    """One quantity over the image plane with its scale; NaN stays white."""
    limit = float(np.nanmax(np.abs(values), initial=0)) or 1.0
    shown = _balance(ax, values, limit) if signed else ax.imshow(
        values, cmap=_shades(HIDDEN, KEPT), interpolation="nearest", vmin=least, vmax=limit)
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    ax.figure.colorbar(shown, ax=ax, label=scale)


def _balance(ax: Axes, values: np.ndarray, limit: float) -> Any:
    """Positive in blue, negative in orange, and with a dash, since pale blue and orange are one grey."""
    rows, columns = np.nonzero(values < -limit / 5)
    width = 0.83 * ax.get_window_extent().width / ax.figure.dpi * 72 / values.shape[1]  # points, of a column
    ax.scatter(columns, rows, s=0.35 * width**2, marker="_", color="black", linewidths=min(0.09 * width, 1.0))
    return ax.imshow(values, cmap=_diverging(), vmin=-limit, vmax=limit, interpolation="nearest")


def _shades(light: str, dark: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", [light, dark])


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("signs", [INVERTED, HIDDEN, KEPT])


def _outline() -> list[Any]:
    """Makes a black line seen on dark ground."""
    from matplotlib import patheffects

    return [patheffects.Stroke(linewidth=3.4, foreground="white"), patheffects.Normal()]


def _legend_of_signs() -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(facecolor=colour, edgecolor="#888888", label=label)
            for colour, label in ((KEPT, "positive"), (INVERTED, "negative"), (HIDDEN, "hidden"))]
