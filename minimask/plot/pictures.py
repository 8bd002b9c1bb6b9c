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
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import escape, files
from ..display import HIDDEN, INVERTED, KEPT, accuracy_name
from ..errors import MinimaskError, MissingMatplotlib
from .drawing import INK, STYLES, Axis, Band, Key, Line, Marks, Panel, Picture, figure, ticks

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


Record = dict[str, Any]  # what training leaves, see minimask.train.new_record


#: Of several recipes in one figure: each has its marker, so that colour is not needed to tell them apart.
MARKERS, COLOURS = "osD^vP*X", ("#2f7fd1", "#d9730d", "#2a9d5c", "#b0459e", "#d33f49", "#1d93a6", "#8a6d3b", "#7a7a7a")


def show(name: str, draw: Callable[[], Figure], alt: str = "") -> None:
    """Shows the figure that ``draw()`` makes: below the cell in a notebook, in a script as the file NAME.png.

    With it goes what it shows in words, for who cannot see it: `alt`, or else the docstring of `draw`.
    The file goes into the folder that the environment variable MINIMASK_FIGURES names, or into a temporary one. Without
    matplotlib the picture is skipped, with a line that says so: no claim of a lesson needs one.
    """
    try:
        figure = draw()
    except MissingMatplotlib as error:
        print(f"picture {name} skipped: {error}")
        return
    alt = " ".join((alt or draw.__doc__ or "").split())
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        display(Image(png(figure), metadata={"alt": alt}))
    else:
        path = _folder() / f"{name}.png"
        files.write(path, png(figure))
        print("picture:", path, f"({alt})" if alt else "")


def png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 1})  # twice as quick, some percent larger
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as the content of a PDF file, its fonts in it as text, the same each time."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
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
        picture.__doc__ = draw.__doc__
        return picture
    return decorate


def _folder() -> Path:
    """Where the pictures of this process go."""
    return _made(os.path.expanduser(os.environ.get("MINIMASK_FIGURES", "")))


@functools.cache
def _made(named: str) -> Path:
    """The folder of that name, or for none a new one, always the same."""
    import pathlib
    import tempfile

    folder = pathlib.Path(named or tempfile.mkdtemp(prefix="minimask-figures-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def training(records: Record | Sequence[Record], columns: int = 3) -> Figure:
    """Over the epochs: share kept and inverted in each layer, accuracy, weights left, flips; see :func:`course`."""
    return figure(course(records, columns))


#: A line of a chart has no more points than this.
MOST_POINTS = 400


def course(records: Record | Sequence[Record], columns: int = 3) -> Picture:
    """Over the epochs: share kept (up) and inverted (down) in each layer, accuracy, weights left, flips, dead units.

    Shares are drawn by their root, so that a hundredth is seen beside the half; ink is for lines alone, blue, orange
    and white mean kept, inverted and hidden.

    Args:
        records: one, or several of one recipe: then means over them are shown, and as a band the 5th to the 95th
            percentile. columns: panels in a row; those of the last row fill it.

    Raises MinimaskError where a record has no epochs, or their recipes have not as many.
    """
    some = [records] if isinstance(records, dict) else list(records)
    runs = [_entries(record) for record in some]
    if all("epoch_0" in record for record in some):
        runs = [[record["epoch_0"], *entries] for record, entries in zip(some, runs)]
    planned = {record.get("recipe", {}).get("epochs") for record in some}
    if len(planned) > 1:
        raise MinimaskError(f"plot: records of {' and '.join(sorted(map(str, planned)))} epochs are no one series; "
                            "draw each for itself")
    length = min(map(len, runs))
    shown = sorted({*np.linspace(0, length - 1, min(length, MOST_POINTS)).astype(int).tolist()})
    epochs = [runs[0][i]["epoch"] for i in shown]
    if length == 1:  # one epoch has no course: show it as a band
        shown, epochs = [0, 0], [epochs[0] - 1, epochs[0]]
    x = Axis(epochs[0], epochs[-1], [tick for tick in ticks(epochs[0], epochs[-1], 5) if "." not in tick[1]], "epoch")
    layers = runs[0][0]["layers"]
    counts = np.array([[[[layer[part] for part in ("kept", "inverted")] for layer in run[i]["layers"]] for i in shown]
                       for run in runs])  # (runs, epochs, layers, 2)
    shares = 100 * counts.mean(0) / np.array([layer["weights"] for layer in layers])[:, None]  # (epochs, layers, 2)
    y = _both_ways(shares[..., 0].max(), shares[..., 1].max())
    none = [0.0] * len(epochs)
    panels = [Panel(f"{escape.line(layer['name'])}\n{layer['weights']:,} weights", x, y,
                    [Band(epochs, none, shares[:, i, 0].tolist(), KEPT),
                     Band(epochs, (-shares[:, i, 1]).tolist(), none, INVERTED),
                     Line([epochs[0], epochs[-1]], [0, 0], width=0.5)], HIDDEN, grid=False)
              for i, layer in enumerate(layers)]
    losses = all("test_loss" in entry for run in runs for entry in run)
    told = all("test_accuracy" in entry for run in runs for entry in run)  # floats as targets have no accuracy
    for name, title, label, factor in (*([("test_accuracy", accuracy_name(some[0].get("dataset")), "%", 100)] * told),
                                       *([("test_loss", "test loss", "mean over the images", 1)] if losses else ()),
                                       ("weights_left", "weights left", "%", 100),
                                       ("flips", "flips in an epoch", "weights", 1)):
        values = factor * np.array([[run[i][name] for i in shown] for run in runs], float)  # (runs, epochs)
        band = np.percentile(values, (5, 95), axis=0)
        items: list[Band | Line | Marks] = [Line(epochs, values.mean(0).tolist())]
        if len(runs) > 1:
            items.insert(0, Band(epochs, band[0].tolist(), band[1].tolist(), INK, 0.25))
        panels.append(Panel(title, x, _axis_of(name, values, label), items))
    panels += _dead_for_ever(runs, shown, x, epochs)
    legend = [Key("kept, upwards", Band([], [], [], KEPT)), Key("inverted, downwards", Band([], [], [], INVERTED)),
              Key("hidden, the rest", Band([], [], [], HIDDEN)),
              Key(f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed", Line([], []))]
    if len(runs) > 1:
        legend.append(Key("5th to 95th percentile", Band([], [], [], INK, 0.25)))
    rows = [panels[i:i + columns] for i in range(0, len(panels), columns)]
    return Picture([_said_once(row, row is rows[-1]) for row in rows], legend, columns, width=159.0 * columns)


def _dead_for_ever(runs: Sequence[Sequence[dict[str, Any]]], shown: Sequence[int], x: Axis,
                   epochs: Sequence[float]) -> Iterator[Panel]:
    """A panel for each layer some of whose units are dead for ever (shrink.py), if all runs have counted them."""
    for i, layer in enumerate(runs[0][0]["layers"]):
        counts = np.array([[run[number]["layers"][i].get("dead", np.nan) for number in shown] for run in runs])
        if np.nansum(counts) and not np.isnan(counts).any():
            values = 100 * counts / runs[0][shown[-1]]["layers"][i]["units"]  # (runs, epochs)
            band = np.percentile(values, (5, 95), axis=0)
            items: list[Band | Line | Marks] = [Line(epochs, values.mean(0).tolist())]
            if len(runs) > 1:
                items.insert(0, Band(epochs, band[0].tolist(), band[1].tolist(), INK, 0.25))
            yield Panel(f"{escape.line(layer['name'])}\nunits dead for ever", x,
                        Axis(0, 100, ticks(0, 100, 5), "% of its units"), items)


def _said_once(row: Sequence[Panel], last: bool) -> list[Panel]:
    """A row whose panels say what they measure where it is not what their neighbour says, below the last row alone."""
    return [replace(panel, x=panel.x if last else replace(panel.x, label=""),
                    y=replace(panel.y, label="") if before and before.y == panel.y else panel.y)
            for before, panel in zip([None, *row], row)]


def _both_ways(up: float, down: float) -> Axis:
    """Shares in percent, upwards and downwards, by their root; the same for all layers."""
    marks = [mark for mark in (1, 5, 20, 50, 100) if max(up, down) / 30 <= mark <= 1.05 * max(up, down, 1)]
    values = [*(-mark for mark in marks if mark <= 1.05 * down), 0, *(mark for mark in marks if mark <= 1.05 * up)]
    return Axis(-1.05 * down, 1.05 * max(up, 1), [(value, str(abs(value))) for value in values],
                "% of its weights, root scale", "root")


def _axis_of(name: str, values: np.ndarray, label: str) -> Axis:
    """Where the numbers are: accuracy from least to largest, weights left by their root, flips by their logarithm."""
    low, high = float(values.min()), float(values.max())
    if name == "flips":
        high = max(2 * high, 1)
        powers = [(10**i, text) for i, text in enumerate(("1", "10", "100", "1k", "10k", "100k", "1M", "10M", "100M"))]
        marks = [mark for mark in powers if mark[0] <= high and (mark[0] > 1 or high < 100)]
        return Axis(0, high, [(0, "0"), *marks], f"{label}, log scale", "counts")
    if name == "weights_left":
        high *= 1.05
        marks = [(mark, str(mark)) for mark in (0, 1, 5, 20, 50, 100) if mark <= high]
        return Axis(0, high, [mark for mark in marks if not 0 < mark[0] < high / 30], f"{label}, root scale", "root")
    room = 0.06 * (high - low) or 0.5
    most = high + room if name == "test_loss" else min(high + room, 100.0)
    return Axis(low - room, high + room, ticks(low - room, most, 5), label)


def accuracy_against_weights(records: Sequence[Record] | Mapping[str, Sequence[Record]],
                             paper: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Accuracy over weights left at the end of each record; see :func:`trade_off`."""
    return figure(trade_off(records, paper))


def trade_off(records: Sequence[Record] | Mapping[str, Sequence[Record]],
              paper: Mapping[str, tuple[float, float]] | None = None) -> Picture:
    """Accuracy over weights left at the end of each record, a mark per label; up and to the left is better.

    Marks differ in shape, fill and colour: 24 labels are told apart without colour.

    Args:
        records: by label; those of a plain list are labelled with their recipe's name, and what tells it from others.
        paper: label -> published test accuracy and weights left, 0 to 1: drawn as crosses, joined to the mean of that
            label's records where there are some.
    """
    labelled = _labelled(records)
    ends = {label: 100 * np.array([[_entries(record)[-1][name] for name in ("weights_left", "test_accuracy")]
                                   for record in some]) for label, some in labelled.items()}  # (records, 2)
    published = {label: 100 * np.array(row[::-1]) for label, row in (paper or {}).items()}
    items: list[Band | Line | Marks] = [
        _line(np.array([points.mean(0), published[label]]))
        for label, points in ends.items() if label in published]
    legend = []
    for i, (label, points) in enumerate(ends.items()):
        shape, style = MARKERS[i % len(MARKERS)], STYLES[i // len(MARKERS) % len(STYLES)]
        colour = COLOURS[(i + i // len(MARKERS)) % len(COLOURS)]
        marks = Marks(points[:, 0].tolist(), points[:, 1].tolist(), shape, style, colour)
        items.append(marks)
        legend.append(Key(f"{label} ({len(points)})", marks))
    if published:
        rows = np.array(list(published.values()))
        items.append(Marks(rows[:, 0].tolist(), rows[:, 1].tolist(), "+"))
        legend.append(Key("the paper's rows", items[-1]))
    whole = np.concatenate([*ends.values(), *(row[None] for row in published.values())])  # (points, 2)
    least, (low, high) = max(whole[:, 0].min(), 0.01), (whole[:, 1].min(), whole[:, 1].max())
    room = 0.06 * (high - low) or 0.5
    left, right = least / 1.3, 1.3 * max(whole[:, 0].max(), least)
    marks_x = [mark for mark in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if left <= mark <= right]
    names = {accuracy_name(record.get("dataset")) for some in labelled.values() for record in some}
    panel = Panel("", Axis(left, right, [(mark, f"{mark:g}") for mark in marks_x], "weights left, % (log scale)",
                           "log"),
                  Axis(low - room, high + room, ticks(low - room, min(high + room, 100.0), 8),
                       f"{names.pop() if len(names) == 1 else 'accuracy'}, %"), items)
    longest = max(len(key.label) for key in legend)
    return Picture([[panel]], legend, 2 if longest <= 28 else 1, width=331.0, row_height=245.0,
                   margins=(48.0, 10.0, 8.0, 34.0))


def _line(points: np.ndarray) -> Line:
    """From a label's mean to the paper's row."""
    return Line(points[:, 0].tolist(), points[:, 1].tolist(), "#888888", 0.8)


def _labelled(records: Any) -> Mapping[str, Sequence[Record]]:
    """Records by the name of their recipe, unless they have labels; a single record will do."""
    if isinstance(records, Mapping) and "epochs" not in records:
        return records
    together: dict[tuple[str, str, str], list[Record]] = {}
    for record in [records] if isinstance(records, dict) else records:
        name, epochs = (record["recipe"].get(key) for key in ("name", "epochs"))
        series = name or "without a recipe", str(record.get("dataset")), f"{epochs or len(_entries(record))} epochs"
        together.setdefault(series, []).append(record)
    names = [name for name, _, _ in together]
    return {name if names.count(name) == 1 else f"{name}, {data}, {epochs}": some
            for (name, data, epochs), some in sorted(together.items())}


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
