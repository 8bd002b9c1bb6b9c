"""Pictures (extra ``plot``): masks, kept/hidden/inverted over time, accuracy against weights left; and the tape.

Every picture is a matplotlib Figure and touches no global state; ``figure.savefig("x.png")`` writes it. A lesson draws
on a :func:`new_figure` and hands the drawing function to :func:`show`. Only ``graph``, of mermaid.py, gives text.
Kept is dark blue, inverted orange, hidden nearly white: told apart in grey and by the colour-blind.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import MinimaskError
from .data import Dataset
from .mermaid import graph as graph
from .nn import Sequential
from .notebook import HIDDEN, INVERTED, KEPT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MissingMatplotlib(MinimaskError):
    """matplotlib, the extra ``plot``, is not installed."""


def show(name: str, draw: Callable[[], Figure]) -> None:
    """Shows the figure that ``draw()`` makes: below the cell in a notebook, in a script as the file NAME.png.

    The file goes into the folder that the environment variable MINIMASK_FIGURES names, or into a temporary one. Without
    matplotlib the picture is skipped, with a line that says so: no claim of a lesson needs one.
    """
    try:
        figure = draw()
    except MissingMatplotlib as error:
        print(f"picture {name} skipped: {error}")
        return
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        display(Image(buffer.getvalue()))
    else:
        path = _folder() / f"{name}.png"
        figure.savefig(path)
        print("picture:", path)


@functools.cache
def _folder() -> Path:
    """Where the pictures of this process go."""
    folder = Path(os.environ.get("MINIMASK_FIGURES") or tempfile.mkdtemp(prefix="minimask-figures-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def masks(net: Sequential, dataset: Dataset, image: int = 0) -> Figure:
    """The first layer's mask under an input image, as in figure 1 of Koster et al. 2022.

    Above: one held-out image, flattened: a column per pixel. Below: the mask, a row per unit, in the same
    columns. Where digits never have ink, nothing is left.

    Args:
        net: its first masked layer is dense, (pixels, units). image: index among the held-out images.

    Raises:
        MinimaskError: matplotlib is missing, or the net has no mask over the image's pixels.
    """
    masks = net.masks()
    if not masks:
        raise MinimaskError("masks: this net has no masked layer, every weight is trained")
    mask = next(iter(masks.values()))  # (pixels, units)
    pixels = int(np.prod(dataset.input_shape))
    if mask.ndim != 2 or mask.shape[0] != pixels:
        raise MinimaskError(f"masks: the first mask is {mask.shape}, "
                            f"but ({pixels}, units) is needed to lie under an image")
    kept, inverted = int((mask > 0).sum()), int((mask < 0).sum())
    figure = new_figure(10, 6.4)
    grid = figure.add_gridspec(3, 2, height_ratios=(0.7, 5, 1.3), width_ratios=(5, 1))
    rows = figure.add_subplot(grid[1, 0])
    strip, share = figure.add_subplot(grid[0, 0], sharex=rows), figure.add_subplot(grid[2, 0], sharex=rows)
    picture, key = figure.add_subplot(grid[:2, 1]), figure.add_subplot(grid[2, 1])
    sample = dataset.test_images[image]
    label = dataset.classes[int(dataset.test_labels[image])]
    strip.imshow(sample.reshape(1, -1), cmap="Greys", aspect="auto", interpolation="nearest")
    strip.set_yticks([])
    strip.set_title(f"one held-out image (class {label}), its {pixels} pixels side by side", fontsize=10, loc="left")
    picture.imshow(sample.squeeze(), cmap="Greys", interpolation="nearest")
    picture.set_title("the image", fontsize=10)
    picture.set_xticks([])
    picture.set_yticks([])
    key.set_axis_off()
    for above in (strip, rows):
        above.tick_params(labelbottom=False)
    rows.imshow(mask.T, cmap=_colours(), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    rows.set_ylabel(f"{mask.shape[1]} units of the first layer")
    hidden = mask.size - kept - inverted
    rows.set_title(f"mask of the first layer: {kept:,} kept, {inverted:,} inverted, {hidden:,} hidden",
                   fontsize=10, loc="left")
    key.legend(handles=_legend(), loc="center left", frameon=True)
    ink = (mask != 0).mean(axis=1)  # (pixels,)
    share.bar(np.arange(pixels), 100 * ink, width=1.0, color="#555555")
    share.set_ylabel("% of units\nthat see it")
    share.set_xlabel("pixel (row by row through the image)")
    share.set_xlim(-0.5, pixels - 0.5)
    return figure


def training(record: dict[str, Any]) -> Figure:
    """Over the epochs of one record: share kept, hidden and inverted in each layer, then accuracy and weights left."""
    entries = _entries(record)
    if len(entries) == 1:  # one epoch has no course: show its shares as a band
        entries = [{**entries[0], "epoch": 0}, *entries]
    epochs = [e["epoch"] for e in entries]
    names = [layer["name"] for layer in entries[0]["layers"]]
    figure = new_figure(3.1 * (len(names) + 1), 3.4)
    axes = figure.subplots(1, len(names) + 1)
    for i, (name, ax) in enumerate(zip(names, axes)):
        layers = [e["layers"][i] for e in entries]
        shares = [[100 * layer[part] / layer["weights"] for layer in layers] for part in ("kept", "inverted", "hidden")]
        ax.stackplot(epochs, shares, colors=(KEPT, INVERTED, HIDDEN), linewidth=0)
        ax.set_title(f"{name}: {layers[0]['weights']:,} weights", fontsize=10)
        ax.set_ylim(0, 100)
        ax.set_ylabel("% of the layer's weights" if i == 0 else "")
    axes[0].legend(handles=_legend(), fontsize=8, loc="upper right")
    last = axes[-1]
    last.plot(epochs, [100 * e["test_accuracy"] for e in entries], color=KEPT, label="test accuracy")
    last.plot(epochs, [100 * e["weights_left"] for e in entries], color=INVERTED, linestyle="--", label="weights left")
    last.set_title("whole net", fontsize=10)
    last.set_ylim(0, 102)
    last.set_ylabel("%")
    last.legend(fontsize=8, loc="center right")
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.set_xlim(epochs[0], epochs[-1])
        ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


def accuracy_against_weights(records: Sequence[dict[str, Any]]) -> Figure:
    """Test accuracy over weights left at the end of each record, a marker per recipe; up and to the left is better."""
    figure = new_figure(6, 4)
    ax = figure.subplots()
    if isinstance(records, dict):
        records = [records]

    def name(record: dict[str, Any]) -> str:
        return record["recipe"].get("name", "without a recipe")

    recipes = sorted({name(record) for record in records})
    for recipe, marker in zip(recipes, "osD^vP*X" * (len(recipes) // 8 + 1)):
        ends = [_entries(record)[-1] for record in records if name(record) == recipe]
        ax.plot([100 * e["weights_left"] for e in ends], [100 * e["test_accuracy"] for e in ends], marker, label=recipe,
                markersize=7, alpha=0.8)
    ax.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("weights left, % (log scale)")
    ax.set_ylabel("test accuracy, %")
    ax.grid(True, alpha=0.3)
    ax.legend(fontsize=8)
    return figure


def _entries(record: dict[str, Any]) -> list[dict[str, Any]]:
    if not record.get("epochs"):
        raise MinimaskError("plot: the record has no epochs; train first")
    return record["epochs"]


def new_figure(width: float, height: float) -> Figure:
    """An empty Figure of so many inches, to draw on. MissingMatplotlib where there is none."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingMatplotlib("pictures need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _colours() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([INVERTED, HIDDEN, KEPT])  # -1, 0, +1


def _legend() -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(facecolor=colour, edgecolor="#888888", label=label)
            for colour, label in ((KEPT, "kept"), (INVERTED, "inverted"), (HIDDEN, "hidden"))]
