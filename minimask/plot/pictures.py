"""Pictures (extra ``plot``): masks, kept/hidden/inverted over time, accuracy against weights left; and the tape.

Every picture is a matplotlib Figure and touches no global state; ``figure.savefig("x.png")`` writes it. A lesson draws
on the panels of a :func:`chart` and hands the drawing function to :func:`show`. Only ``graph``, of mermaid.py, gives
text.
Kept is dark blue, inverted orange, hidden nearly white: told apart in grey and by the colour-blind.
"""

from __future__ import annotations

import functools
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..data import Dataset
from ..display import HIDDEN, INVERTED, KEPT
from ..errors import MinimaskError, MissingMatplotlib
from ..nn import Sequential

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


Record = dict[str, Any]  # what training leaves, see minimask.train.new_record


#: Of several recipes in one figure: each has its marker, so that colour is not needed to tell them apart.
MARKERS, COLOURS = "osD^vP*X", ("#2f7fd1", "#d9730d", "#2a9d5c", "#b0459e", "#d33f49", "#1d93a6", "#8a6d3b", "#7a7a7a")


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

        display(Image(png(figure)))
    else:
        path = _folder() / f"{name}.png"
        path.write_bytes(png(figure))
        print("picture:", path)


def png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def chart(width: float, height: float, panels: int | tuple[int, int] = 1, *, x: str | Sequence[str] = "",
          y: str | Sequence[str] = "", title: str | Sequence[str] = "", share: bool = False, grid: str = "both",
          legend: str | Sequence[str] = "best", ncols: int = 1, **axes: Any
          ) -> Callable[[Callable[..., None]], Callable[[], Figure]]:
    """Decorates a function that draws on matplotlib's Axes: -> one without parameters that gives the whole Figure.

    What pictures repeat is said once, and :func:`show` takes what comes out::

        @plot.chart(6.5, 4, x="step", y="loss")
        def draw_losses(ax):
            ax.plot(losses, label="ours")

    Args:
        width, height: in inches. panels: how many side by side, or (rows, columns); the function gets the Axes of each,
            row by row.
        x, y, title: of each panel in turn, or one text for all.
        share: the panels have the same scales; only the outer ones bear them, and the labels.
        grid: "both", "x" or "y": lines across these axes; "": none.
        legend: where each panel explains what the function labelled, or "outside ...": once, beside all panels; "": not
            at all. ncols: its columns.
        axes: for all panels, as in matplotlib's ``Axes.set``: xlim, yscale, xticks ...
    """
    def of(texts: str | Sequence[str], panel: int) -> str:
        return texts if isinstance(texts, str) else texts[panel]

    def decorate(draw: Callable[..., None]) -> Callable[[], Figure]:
        def picture() -> Figure:
            figure = new_figure(width, height)
            rows, columns = panels if isinstance(panels, tuple) else (1, panels)
            all_axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
            for i, ax in enumerate(all_axes):
                ax.set(xlabel=of(x, i), ylabel=of(y, i), **axes)
                ax.set_title(of(title, i), fontsize=11)
                if grid:
                    ax.grid(True, axis=grid, alpha=0.3)
                if share:
                    ax.label_outer()
            draw(*all_axes)
            if isinstance(legend, str) and legend.startswith("outside"):
                place: Any = legend  # matplotlib's own type is a list of all places
                figure.legend(loc=place, ncols=ncols)
                return figure
            for i, ax in enumerate(all_axes):
                if of(legend, i) and ax.get_legend_handles_labels()[0]:
                    ax.legend(loc=of(legend, i), ncols=ncols)
            return figure
        return picture
    return decorate


@functools.cache
def _folder() -> Path:
    """Where the pictures of this process go."""
    import pathlib
    import tempfile

    folder = pathlib.Path(os.environ.get("MINIMASK_FIGURES") or tempfile.mkdtemp(prefix="minimask-figures-"))
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
    rows.imshow(mask.T, cmap=mask_colours(), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    rows.set_ylabel(f"{mask.shape[1]} units of the first layer")
    hidden = mask.size - kept - inverted
    rows.set_title(f"mask of the first layer: {kept:,} kept, {inverted:,} inverted, {hidden:,} hidden",
                   fontsize=10, loc="left")
    key.legend(handles=mask_legend(), loc="center left", frameon=True)
    ink = (mask != 0).mean(axis=1)  # (pixels,)
    share.bar(np.arange(pixels), 100 * ink, width=1.0, color="#555555")
    share.set_ylabel("% of units\nthat see it")
    share.set_xlabel("pixel (row by row through the image)")
    share.set_xlim(-0.5, pixels - 0.5)
    return figure


def training(records: Record | Sequence[Record], columns: int = 3) -> Figure:
    """Over the epochs: share kept, hidden and inverted in each layer, accuracy and weights left, flips.

    Where records count units that are dead for ever (shrink.py), their share is a dotted line in their layer's panel.

    Args:
        records: one, or several of one recipe: then means over them are shown, and as a band the 5th to the 95th
            percentile. columns: panels in a row.
    """
    runs = [_entries(record) for record in ([records] if isinstance(records, dict) else records)]
    shortest = min(map(len, runs))
    epochs = [entry["epoch"] for entry in runs[0][:shortest]]
    if shortest == 1:  # one epoch has no course: show it as a band
        runs, epochs = [[run[0], run[0]] for run in runs], [0, epochs[0]]
    layers, dead_lines = runs[0][0]["layers"], []
    figure, axes = _panels(len(layers) + 2, columns)
    for i, (layer, ax) in enumerate(zip(layers, axes)):
        counts = np.array([[[entry["layers"][i][part] for part in ("kept", "inverted", "hidden")]
                            for entry in run[:len(epochs)]] for run in runs])  # (runs, epochs, 3)
        ax.stackplot(epochs, *(100 * counts.mean(0) / layer["weights"]).T, colors=(KEPT, INVERTED, HIDDEN), linewidth=0)
        ax.set_title(f"{layer['name']}\n{layer['weights']:,} weights", fontsize=8)
        ax.set_ylim(0, 100)
        dead = [[entry["layers"][i].get("dead", np.nan) for entry in run[:len(epochs)]] for run in runs]
        if layer.get("units"):  # of runs that shrink their net; nothing is drawn where one of several did not
            dead_lines = ax.plot(epochs, 100 * np.mean(dead, axis=0) / layer["units"], color="black", linestyle=":",
                                 label="units dead for ever")
    whole, flips = axes[-2:]
    for ax, name, label, style, factor in ((whole, "test_accuracy", "test accuracy", {"color": COLOURS[0]}, 100),
                                           (whole, "weights_left", "weights left",
                                            {"color": COLOURS[1], "linestyle": "--"}, 100),
                                           (flips, "flips", "flips", {"color": "#333333"}, 1)):
        values = factor * np.array([[entry[name] for entry in run[:len(epochs)]] for run in runs])  # (runs, epochs)
        ax.plot(epochs, values.mean(0), label=label, **style)
        if len(runs) > 1:
            band = np.percentile(values, (5, 95), axis=0)
            ax.fill_between(epochs, *band, color=style["color"], alpha=0.25, linewidth=0)
    whole.set_title("whole net", fontsize=8)
    whole.set_ylim(0, 102)
    flips.set_title("flips in an epoch", fontsize=8)
    flips.set_yscale("symlog", linthresh=1)
    flips.set_yticks([0, *(10**i for i in range(7))], ["0", "1", "10", "100", "1k", "10k", "100k", "1M"])
    flips.set_ylim(0, 2 * max(1, *(entry["flips"] for run in runs for entry in run)))
    for ax in axes:
        ax.tick_params(labelsize=8)
        ax.minorticks_off()
        ax.set_xlabel("epoch", fontsize=8)
        ax.set_xlim(epochs[0], epochs[-1])
        ax.xaxis.get_major_locator().set_params(integer=True, nbins=4)
        if ax is not flips:
            ax.set_yticks([0, 50, 100])
        words = {whole: "%", flips: "weights, log scale"}
        ax.set_ylabel(words.get(ax, "% of its weights" if len(ax.lines) == 0 else "% of weights, of units"), fontsize=8,
                      labelpad=0)
    figure.legend(handles=[*mask_legend(), *whole.lines, *dead_lines], fontsize=8, loc="lower center", ncols=3,
                  frameon=False)
    return figure


def accuracy_against_weights(records: Sequence[Record] | Mapping[str, Sequence[Record]],
                             paper: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Test accuracy over weights left at the end of each record, a marker per label; up and to the left is better.

    Args:
        records: by label; those of a plain list are labelled with their recipe's name.
        paper: label -> published test accuracy and weights left, 0 to 1: drawn as crosses, joined to the mean of that
            label's records where there are some.
    """
    labelled = _labelled(records)
    ends = {label: 100 * np.array([[_entries(record)[-1][name] for name in ("weights_left", "test_accuracy")]
                                   for record in some]) for label, some in labelled.items()}  # (records, 2)
    published = {label: 100 * np.array(row[::-1]) for label, row in (paper or {}).items()}
    figure = new_figure(4.6, 3.5 + 0.1 * (len(ends) + 1))
    ax = figure.subplots()
    for i, (label, points) in enumerate(ends.items()):
        colour = COLOURS[(i + i // len(MARKERS)) % len(COLOURS)]
        ax.plot(*points.T, MARKERS[i % len(MARKERS)], color=colour, label=label, markersize=6, alpha=0.8)
        if label in published:
            ax.plot(*np.array([points.mean(0), published[label]]).T, color="#888888", linewidth=0.8)
    if published:
        ax.plot(*np.array(list(published.values())).T, "+", color="#000000", markersize=9, label="the paper's rows")
    least = min(points[:, 0].min() for points in (*ends.values(), *(row[None] for row in published.values())))
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlim(max(least, 0.01) / 1.3, 130)
    ax.set_xlabel("weights left, % (log scale)")
    ax.set_ylabel("test accuracy, %")
    ax.grid(True, alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return figure


def svg(figure: Figure, name: str, title: str, description: str) -> str:
    """A figure as an SVG element whose text is text, with title and description for those who do not see it.

    Args:
        name: begins all its ids, so that several figures get along in one page; letters, digits and '-'.
    """
    import html

    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):  # the salt: the same figure, the same ids
        figure.savefig(buffer, format="svg", transparent=True,
                       metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = re.sub(r"(\.\d\d)\d+", r"\1", buffer.getvalue()).partition("<svg ")[2]  # a hundredth of a point will do
    drawing = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", drawing)
    attributes, _, inside = drawing.partition(">")
    return (f'<svg role="img" aria-labelledby="{name}-title {name}-description" {attributes}>\n'
            f'<title id="{name}-title">{html.escape(title)}</title>\n'
            f'<desc id="{name}-description">{html.escape(description)}</desc>{inside}')


def _labelled(records: Any) -> Mapping[str, Sequence[Record]]:
    """Records by the name of their recipe, unless they have labels; a single record will do."""
    if isinstance(records, Mapping) and "epochs" not in records:
        return records
    labelled: dict[str, list[Record]] = {}
    for record in [records] if isinstance(records, dict) else records:
        labelled.setdefault(record["recipe"].get("name", "without a recipe"), []).append(record)
    return dict(sorted(labelled.items()))


def _entries(record: Record) -> list[dict[str, Any]]:
    if not record.get("epochs"):
        raise MinimaskError("plot: the record has no epochs; train first")
    return record["epochs"]


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty Figure of so many inches; `layout` as in matplotlib. MissingMatplotlib where that is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingMatplotlib("pictures need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), dpi=130, layout=layout)


def _panels(count: int, columns: int) -> tuple[Figure, list[Any]]:
    """A figure of so many equal panels, row by row, with two lines below them for a legend.

    Their places are computed here, in inches: to let matplotlib find them takes longer than to draw them.
    """
    width, height, below, rows = 2.2, 2.0, 0.5, -(-count // columns)
    across, up = width * columns, height * rows + below
    figure = new_figure(across, up, layout=None)
    return figure, [figure.add_axes(((width * (i % columns) + 0.55) / across,
                                     (below + height * (rows - 1 - i // columns) + 0.45) / up,
                                     (width - 0.75) / across, (height - 0.85) / up)) for i in range(count)]


def mask_colours() -> Any:
    """A matplotlib colour map for -1, 0, +1."""
    from matplotlib.colors import ListedColormap

    return ListedColormap([INVERTED, HIDDEN, KEPT])  # -1, 0, +1


def mask_legend() -> list[Any]:
    """What a legend of kept, inverted and hidden is made of."""
    from matplotlib.patches import Patch

    return [Patch(facecolor=colour, edgecolor="#888888", label=label)
            for colour, label in ((KEPT, "kept"), (INVERTED, "inverted"), (HIDDEN, "hidden"))]
