"""Masks over the plane of the image: maps of kept, inverted and hidden, and the picture of a first layer's mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import escape
from ..backend import to_host
from ..data import Dataset
from ..display import HIDDEN, INVERTED, KEPT
from ..errors import MinimaskError
from ..losses import has_classes
from ..nn import Dense, Sequential
from .pictures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: How the channels of a picture are called that has three.
COLOUR_CHANNELS = ("red", "green", "blue")


def masks(net: Sequential, dataset: Dataset, image: int = 0) -> Figure:
    """The first layer's mask: over the plane of the image, per class and unit, and whole, under an image's pixels.

    Above at the left: a held-out image, and how many units have a weight left at each of its pixels. At the right, as
    in figure 1 of Koster et al. 2022: the image's pixels side by side, and in the same columns the mask, a row a unit.
    Below: for each of the first ten classes the units that speak most for or against it, laid back over the image.

    Args:
        net: its first masked layer is dense, (pixels, units). image: index among the held-out images.

    Raises:
        MinimaskError: matplotlib is missing, or the net has no mask over the image's pixels.
    """
    found = net.masks()
    if not found:
        raise MinimaskError("masks: this net has no masked layer, every weight is trained")
    mask = next(iter(found.values()))  # (pixels, units)
    pixels, channels = int(np.prod(dataset.input_shape)), dataset.input_shape[-1]
    if mask.ndim != 2 or mask.shape[0] != pixels:
        raise MinimaskError(f"masks: the first mask is {mask.shape}, "
                            f"but ({pixels}, units) is needed to lie under an image")
    columns, each = (10, 4) if channels == 1 else (5, 2)
    names = [escape.label(name) for name in dataset.classes[:10]]
    blocks, across = -(-len(names) // columns), 10.0
    cell = across / columns * dataset.input_shape[0] / (dataset.input_shape[1] * channels)  # a map's height, inches
    below = blocks * (each * (min(cell, 2.0) + 0.22) + 0.3) + 0.3
    figure = new_figure(across, 3.6 + below)
    figure.set_layout_engine("constrained", wspace=0.04)
    parts: Any = figure.subfigures(2, 1, height_ratios=(3.6, below))
    above, under = parts
    _whole(above, mask, dataset, image)
    chosen, which = _speakers(net, mask, len(names), each)
    under.suptitle(which, fontsize=9)
    axes = under.subplots(blocks * each, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    word = "class " * has_classes(dataset)
    for label, (name, units) in enumerate(zip(names, chosen)):
        block, column = divmod(label, columns)
        for row, (unit, words) in enumerate(units):
            ax = axes[block * each + row, column]
            ax.set_axis_on()
            last = row == len(units) - 1 and (block == blocks - 1 or label + columns >= len(names))
            maps(ax, mask[:, unit].reshape(dataset.input_shape), named=last)
            ax.set_title((f"{word}{name}\n" if not row else "") + words, fontsize=7)
    return figure


def _whole(figure: Any, mask: np.ndarray, dataset: Dataset, image: int) -> None:
    """The upper half: image and units that see each pixel, beside the whole mask under the image's pixels."""
    grid = figure.add_gridspec(3, 2, height_ratios=(1.2, 4, 4), width_ratios=(1, 3.4))
    picture, seen = figure.add_subplot(grid[:2, 0]), figure.add_subplot(grid[2, 0])
    strip, rows = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1:, 1])
    sample, label = dataset.test_images[image], dataset.test_labels[image]
    told = (f"class {escape.label(dataset.classes[int(label)])}" if label.dtype.kind in "iu" and not label.ndim else
            f"target {', '.join(f'{each:.3g}' for each in np.ravel(label)[:3])}")
    flat = sample.shape[2] not in (3, 4)  # grey, or the columns of a table
    picture.imshow(sample.mean(axis=2) if flat else sample, cmap="Greys", interpolation="nearest")
    picture.set_title(f"a held-out image ({told})", fontsize=9, loc="left")
    share = 100 * (mask != 0).mean(axis=1).reshape(dataset.input_shape).mean(axis=2)  # (h, w)
    shown = seen.imshow(share, cmap=_shades(), interpolation="nearest", vmin=0)
    seen.set_title("units that see the pixel, %", fontsize=9, loc="left")
    figure.colorbar(shown, cax=seen.inset_axes((1.06, 0, 0.07, 1))).ax.tick_params(labelsize=7)
    strip.imshow(sample.reshape(1, -1), cmap="Greys", aspect="auto", interpolation="nearest")
    strip.set_title(f"its {mask.shape[0]} pixels side by side, row by row", fontsize=9, loc="left")
    for ax in (picture, seen, strip):
        ax.set_anchor("W")
        ax.set_xticks([])
        ax.set_yticks([])
    rows.imshow(mask.T, cmap=mask_colours(), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    kept, inverted = int((mask > 0).sum()), int((mask < 0).sum())
    rows.set_title(f"mask of the first layer: {kept:,} kept, {inverted:,} inverted, "
                   f"{mask.size - kept - inverted:,} hidden", fontsize=9, loc="left")
    rows.set_ylabel(f"{mask.shape[1]} units", fontsize=8)
    rows.set_xlabel("pixel", fontsize=8, labelpad=0)
    rows.tick_params(labelsize=7)
    figure.legend(handles=mask_legend(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def _speakers(net: Sequential, mask: np.ndarray, classes: int, each: int) -> tuple[list[list[tuple[int, str]]], str]:
    """Per class some units and what to say of each: by the balance of positive and negative paths to the class.

    Where the layers above are not all dense, the units with the most weights left, the same for every class. Also, in
    words, which units these are.
    """
    above = [np.sign(to_host(source.effective().data)) for source in list(net.weights().values())[1:]]
    known = {id(layer.weight) for layer in net.layers.values() if isinstance(layer, Dense)}
    each = min(each, mask.shape[1])
    if not above or not all(id(source) in known for source in net.weights().values()):
        left = np.count_nonzero(mask, axis=0)
        most = [(int(unit), f"unit {unit}: {left[unit]} left") for unit in np.argsort(-left, kind="stable")[:each]]
        return [most] * classes, "the units with the most weights left, over the image"
    to_class = above[0]
    for weight in above[1:]:
        to_class = to_class @ weight
    return ([[(int(unit), f"unit {unit}: {column[unit]:+.0f}") for unit in
              np.argsort(-np.abs(column), kind="stable")[:each]] for column in to_class.T[:classes]],
            "the units with most to say for (+) or against (−) each class, over the image; "
            "the number: positive less negative paths to it")


#: Images in a row of a gallery, and characters of a line of their titles.
ACROSS, MOST_TITLE = 5, 30


def gallery(images: np.ndarray, titles: Sequence[str]) -> Figure:
    """Images (n, h, w, c) in rows of five, each under its title; those of three channels in colour, others in grey.

    Of other numbers of channels the mean is shown; values lie between the least and the largest of each image.
    """
    rows = -(-len(images) // ACROSS)
    across = min(len(images), ACROSS)
    figure = new_figure(2.1 * across, 2.5 * rows)
    all_axes = figure.subplots(rows, across, squeeze=False).ravel()
    for ax, image, title in zip(all_axes, images, titles):
        values = np.asarray(image, np.float64)
        low, high = float(values.min()), float(values.max())
        values = (values - low) / ((high - low) or 1.0)
        if values.shape[-1] == 3:
            ax.imshow((np.asarray(image) / 255 if image.dtype == np.uint8 else values), interpolation="nearest")
        else:
            ax.imshow(values.mean(axis=-1), cmap="Greys", interpolation="nearest")
        lines = [line if len(line) <= MOST_TITLE else f"{line[:MOST_TITLE - 1]}…" for line in title.split("\n")]
        ax.set_title("\n".join(map(escape.label, lines)), fontsize=7)
    for ax in all_axes:
        ax.set_axis_off()
    return figure


def maps(ax: Axes, values: np.ndarray, named: bool = False) -> None:
    """Signs over a window (h, w, c): one channel as it is, several side by side, each in a frame of its own.

    named: whether the channels' names stand below them.
    """
    from matplotlib.patches import Rectangle

    h, w, c = values.shape
    gap = max(0.12 * w, 0.4)
    for channel in range(c):
        x = channel * (w + gap)
        ax.imshow(values[..., channel], cmap=mask_colours(), vmin=-1, vmax=1, interpolation="nearest",
                  extent=(x, x + w, h, 0))
        ax.add_patch(Rectangle((x, 0), w, h, fill=False, edgecolor="#808080", linewidth=0.6, clip_on=False))
        if named and c > 1:
            names = COLOUR_CHANNELS if c == 3 else [str(i + 1) for i in range(c)]
            ax.annotate(names[channel], (x + w / 2, h), (0, -2), textcoords="offset points", ha="center", va="top",
                        fontsize=6, annotation_clip=False)
    ax.set_xlim(0, c * w + (c - 1) * gap)
    ax.set_ylim(h, 0)
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)


def _shades() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", [HIDDEN, KEPT])


def mask_colours() -> Any:
    """A matplotlib colour map for -1, 0, +1."""
    from matplotlib.colors import ListedColormap

    return ListedColormap([INVERTED, HIDDEN, KEPT])  # -1, 0, +1


def mask_legend() -> list[Any]:
    """What a legend of kept, inverted and hidden is made of."""
    from matplotlib.patches import Patch

    return [Patch(facecolor=colour, edgecolor="#888888", label=label)
            for colour, label in ((KEPT, "kept"), (INVERTED, "inverted"), (HIDDEN, "hidden"))]
