"""Charts drawn once: panels with axes become shapes, and the shapes become SVG, PNG or PDF, all with the same texts.

A :class:`Picture` says what is to be seen; :func:`shapes` places it, in points (1/72 inch) from the upper left corner.
:func:`svg` writes them down, which needs no other package; :func:`figure` hands them to matplotlib. Nothing is measured
twice, no axis is built from a hundred objects: a report of many charts takes a fraction of the time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import escape
from ..errors import MissingMatplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FRAME, GRID = "#000000", "#808080", "#d5d5d0"
Anchor = Literal["start", "middle", "end"]

# ---- what is to be seen --------------------------------------------------------------------------------------------


def _linear(value: Any) -> Any:
    return value


def _root(value: Any) -> Any:
    return np.sign(value) * np.sqrt(np.abs(value))


def _counts(value: Any) -> Any:
    return np.log10(1 + np.maximum(value, 0))


#: How a value becomes a length: as it is; its root, so that small shares are seen, on both sides of 0; its logarithm;
#: the logarithm of 1 + value, where 0 may come.
SCALES: dict[str, Callable[[Any], Any]] = {"linear": _linear, "root": _root, "log": np.log10, "counts": _counts}


@dataclass(frozen=True)
class Axis:
    """One direction of a panel: from where to where, its marks as (value, text), what it measures, its scale."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    label: str = ""
    scale: str = "linear"

    def place(self, values: Any) -> np.ndarray:
        """Where values lie, 0 to 1 from low to high."""
        scale = SCALES[self.scale]
        low, high = scale(self.low), scale(self.high)
        return (scale(np.asarray(values, float)) - low) / ((high - low) or 1.0)


@dataclass(frozen=True)
class Band:
    """The area between two lines over x."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: str
    alpha: float = 1.0


@dataclass(frozen=True)
class Line:
    """A line through points."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str = INK
    width: float = 1.3


@dataclass(frozen=True)
class Marks:
    """A mark at each of some points: a shape of SHAPES, full, hollow, or with a dot in it."""

    x: Sequence[float]
    y: Sequence[float]
    shape: str
    style: str = "full"
    colour: str = INK


@dataclass(frozen=True)
class Panel:
    """Axes and what is between them, drawn in this order, on a ground of some colour or none."""

    title: str
    x: Axis
    y: Axis
    items: Sequence[Band | Line | Marks]
    ground: str = ""
    grid: bool = True


@dataclass(frozen=True)
class Key:
    """A line of the legend: a patch of colour, or a mark, or a line; and what it stands for."""

    label: str
    item: Band | Line | Marks


@dataclass(frozen=True)
class Picture:
    """Panels in rows that fill the width, and a legend below them, in so many columns; lengths in points."""

    rows: Sequence[Sequence[Panel]]
    legend: Sequence[Key] = ()
    legend_columns: int = 2
    width: float = 320.0
    row_height: float = 144.0
    size: float = 8.0
    margins: tuple[float, float, float, float] = field(default=(42.0, 8.0, 26.0, 34.0))  # left, right, top, bottom

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row]

    @property
    def legend_rows(self) -> list[list[Key]]:
        """The legend column by column, so that what belongs together stands together."""
        count = -(-len(self.legend) // self.legend_columns)
        return [list(self.legend[i::count]) for i in range(count)]

    @property
    def height(self) -> float:
        return self.row_height * len(self.rows) + 1.5 * self.size * len(self.legend_rows) + (6 if self.legend else 0)


def ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Round values from low to high, not more than so many, as (value, text) with as many decimals as they need."""
    span = high - low or abs(high) or 1.0
    for exponent in range(math.floor(math.log10(span / most)), 400):
        for factor in (1, 2, 2.5, 5):
            step = factor * 10.0**exponent
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                decimals = max(0, -exponent + (factor == 2.5))
                return [(i * step, f"{i * step + 0.0:.{decimals}f}") for i in range(first, last + 1)]
    return []


# ---- shapes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Points to be joined, in points from the upper left corner: an area where it has a fill, else a line."""

    points: np.ndarray
    fill: str = ""
    stroke: str = ""
    width: float = 0.8
    alpha: float = 1.0


@dataclass(frozen=True)
class Words:
    """A line of text at a point of its baseline."""

    x: float
    y: float
    text: str
    size: float
    anchor: Anchor = "middle"
    upright: bool = False  # read from below
    colour: str = INK


def _regular(corners: int, turned: float, inner: float = 1.0) -> list[tuple[float, float]]:
    """A polygon in a circle; with `inner` every other corner lies on a smaller one."""
    angles = [turned + 2 * math.pi * i / corners for i in range(corners)]
    return [((1 if i % 2 == 0 else inner) * math.cos(a), (1 if i % 2 == 0 else inner) * math.sin(a))
            for i, a in enumerate(angles)]


_PLUS = [(-.35, -1), (.35, -1), (.35, -.35), (1, -.35), (1, .35), (.35, .35), (.35, 1), (-.35, 1), (-.35, .35),
         (-1, .35), (-1, -.35), (-.35, -.35)]
#: Marks by matplotlib's letters, as corners; y grows downwards.
SHAPES: dict[str, list[tuple[float, float]]] = {
    "o": _regular(24, 0), "s": [(-.85, -.85), (.85, -.85), (.85, .85), (-.85, .85)], "D": _regular(4, 0),
    "^": _regular(3, -math.pi / 2), "v": _regular(3, math.pi / 2), "P": _PLUS,
    "*": _regular(10, -math.pi / 2, 0.45),
    "X": [((x - y) / 2**0.5, (x + y) / 2**0.5) for x, y in _PLUS],
    "+": [(-.1, -1.2), (.1, -1.2), (.1, -.1), (1.2, -.1), (1.2, .1), (.1, .1), (.1, 1.2), (-.1, 1.2), (-.1, .1),
          (-1.2, .1), (-1.2, -.1), (-.1, -.1)]}
STYLES = ("full", "hollow", "dotted")


def shapes(picture: Picture) -> Iterator[Shape | Words]:
    """All that is to be drawn, what lies behind first."""
    for i, row in enumerate(picture.rows):
        across = picture.width / len(row)
        for j, panel in enumerate(row):
            yield from _panel(picture, panel, j * across, i * picture.row_height, across)
    top = picture.row_height * len(picture.rows) + 6
    across = (picture.width - 20) / picture.legend_columns
    for i, keys in enumerate(picture.legend_rows):
        for j, key in enumerate(keys):
            x, y = 10 + j * across, top + (i + 0.7) * 1.5 * picture.size
            yield from _key(key, x, y - 0.35 * picture.size)
            yield Words(x + 22, y, key.label, picture.size, "start")


def _key(key: Key, x: float, y: float) -> Iterator[Shape]:
    """The patch, line or mark before a line of the legend, 16 points wide, around height y."""
    item = key.item
    if isinstance(item, Band):
        yield Shape(np.array([(x, y - 4), (x + 16, y - 4), (x + 16, y + 4), (x, y + 4)]), item.colour, FRAME, 0.5,
                    item.alpha)
    elif isinstance(item, Line):
        yield Shape(np.array([(x, y), (x + 16, y)]), "", item.colour, item.width)
    else:
        yield from _mark(item, x + 8, y)


def _mark(marks: Marks, x: float, y: float, radius: float = 3.2) -> Iterator[Shape]:
    corners = radius * np.array(SHAPES[marks.shape]) + (x, y)
    full = marks.style == "full"
    yield Shape(corners, marks.colour if full else "#ffffff", marks.colour, 0.6 if full else 1.1)
    if marks.style == "dotted":
        yield Shape(1.1 * np.array(SHAPES["o"]) + (x, y), marks.colour)


def _panel(picture: Picture, panel: Panel, left: float, top: float, across: float) -> Iterator[Shape | Words]:
    margin_left, margin_right, margin_top, margin_bottom = picture.margins
    x0, y0 = left + margin_left, top + margin_top
    width, height = across - margin_left - margin_right, picture.row_height - margin_top - margin_bottom
    size = picture.size

    def at(x: Any, y: Any) -> np.ndarray:
        return np.stack([x0 + width * panel.x.place(x), y0 + height * (1 - panel.y.place(y))], axis=-1)

    frame = np.array([(x0, y0), (x0 + width, y0), (x0 + width, y0 + height), (x0, y0 + height)])
    if panel.ground:
        yield Shape(frame, panel.ground)
    yield from _ticks(panel, x0, y0, width, height, size)
    for item in panel.items:
        if isinstance(item, Band):
            yield Shape(np.concatenate([at(item.x, item.high), at(item.x, item.low)[::-1]]), item.colour,
                        alpha=item.alpha)
        elif isinstance(item, Line):
            yield Shape(at(item.x, item.y), "", item.colour, item.width)
        else:
            for x, y in at(item.x, item.y):
                yield from _mark(item, x, y)
    yield Shape(np.concatenate([frame, frame[:1]]), "", FRAME, 0.8)
    for i, line in enumerate(reversed(panel.title.split("\n"))):
        yield Words(x0 + width / 2, y0 - 4 - 1.15 * size * i, line, size)
    yield Words(x0 + width / 2, y0 + height + 2.7 * size, panel.x.label, size)
    yield Words(left + size, y0 + height / 2, panel.y.label, size, upright=True)


def _ticks(panel: Panel, x0: float, y0: float, width: float, height: float, size: float) -> Iterator[Shape | Words]:
    """Marks, their texts, and faint lines across the panel."""
    bottom = y0 + height
    for value, text in panel.x.ticks:
        x = x0 + width * float(panel.x.place(value))
        if panel.grid:
            yield Shape(np.array([(x, y0), (x, bottom)]), "", GRID, 0.5)
        yield Shape(np.array([(x, bottom), (x, bottom + 3)]), "", INK, 0.8)
        yield Words(x, bottom + 4 + 0.9 * size, text, size)
    for value, text in panel.y.ticks:
        y = bottom - height * float(panel.y.place(value))
        if panel.grid:
            yield Shape(np.array([(x0, y), (x0 + width, y)]), "", GRID, 0.5)
        yield Shape(np.array([(x0 - 3, y), (x0, y)]), "", INK, 0.8)
        yield Words(x0 - 5, y + 0.35 * size, text, size, "end")


# ---- as SVG --------------------------------------------------------------------------------------------------------


def svg(picture: Picture, name: str, title: str, description: str) -> str:
    """The picture as an SVG element whose text is text, with title and description for those who do not see it.

    Args:
        name: begins its ids, so that several get along in one page; letters, digits and '-'.
    """
    lines = [f'<svg role="img" aria-labelledby="{name}-title {name}-description" xmlns="http://www.w3.org/2000/svg" '
             f'width="{picture.width:g}pt" height="{picture.height:g}pt" viewBox="0 0 {picture.width:g} '
             f'{picture.height:g}" font-family="DejaVu Sans, Verdana, sans-serif">',
             f'<title id="{name}-title">{escape.html(title)}</title>',
             f'<desc id="{name}-description">{escape.html(description)}</desc>']
    for each in shapes(picture):
        lines.append(_words_in_svg(each) if isinstance(each, Words) else _shape_in_svg(each))
    return "\n".join([*lines, "</svg>\n"])


def _shape_in_svg(shape: Shape) -> str:
    """A hundredth of a point will do for where a line goes; no other number is shortened."""
    path = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in shape.points.tolist()) + ("Z" if shape.fill else "")
    style = f'fill="{shape.fill or "none"}"'
    style += f' stroke="{shape.stroke}" stroke-width="{shape.width:g}"' if shape.stroke else ""
    style += f' opacity="{shape.alpha:g}"' if shape.alpha < 1 else ""
    return f'<path d="{path}" {style}/>'


def _words_in_svg(words: Words) -> str:
    turned = f' transform="rotate(-90 {words.x:.2f} {words.y:.2f})"' if words.upright else ""
    return (f'<text x="{words.x:.2f}" y="{words.y:.2f}" font-size="{words.size:g}" text-anchor="{words.anchor}" '
            f'fill="{words.colour}"{turned}>{escape.html(words.text)}</text>')


# ---- by matplotlib -------------------------------------------------------------------------------------------------


def figure(picture: Picture) -> Figure:
    """The picture as a matplotlib Figure, which saves itself as PNG, PDF and more; `artists[0].picture` is the picture.

    MissingMatplotlib where that is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingMatplotlib("pictures need matplotlib: pip install matplotlib") from error
    made = Figure(figsize=(picture.width / 72, picture.height / 72), dpi=130)
    made.add_artist(_drawn()(picture))
    return made


@functools.cache  # matplotlib takes a while to document a class of its kind
def _drawn() -> Any:
    """The class of an Artist that draws all shapes of a picture."""
    from matplotlib.artist import Artist

    class Drawn(Artist):
        def __init__(self, picture: Picture):
            super().__init__()
            self.picture = picture

        def draw(self, renderer: Any) -> None:
            _replay(self.picture, renderer)

    return Drawn


def _replay(picture: Picture, renderer: Any) -> None:
    """Draws with one of matplotlib's renderers, whose y grows upwards."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    scale = renderer.points_to_pixels(1.0)
    height = picture.height * scale
    to_pixels = Affine2D().scale(scale, -scale).translate(0, height)
    fonts: dict[float, FontProperties] = {}
    for each in shapes(picture):
        gc = renderer.new_gc()
        if isinstance(each, Words):
            font = fonts.setdefault(each.size, FontProperties(size=each.size))
            _write(renderer, gc, each, font, scale, height)
        else:
            colour = each.stroke or each.fill
            gc.set_foreground(colour)
            gc.set_alpha(each.alpha)
            gc.set_linewidth(each.width if each.stroke else 0)
            codes = None
            points = each.points
            if each.fill:
                points = np.concatenate([points, points[:1]])
                codes = [Path.MOVETO, *[Path.LINETO] * (len(points) - 2), Path.CLOSEPOLY]
            renderer.draw_path(gc, Path(points, codes), to_pixels, _rgb(each.fill) if each.fill else None)
        gc.restore()


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


#: How wide a text is, by renderer, its scale, and size: many charts say the same at their axes.
_widths: dict[tuple[str, float, float, str], float] = {}


def _write(renderer: Any, gc: Any, words: Words, font: Any, scale: float, height: float) -> None:
    """A line of text; where it ends in the middle or at its right, its width is measured."""
    text = escape.line(words.text)
    if not text:
        return
    gc.set_foreground(words.colour)
    x, y = words.x * scale, words.y * scale
    if words.anchor != "start":
        key = type(renderer).__name__, scale, words.size, text
        if key not in _widths:
            if len(_widths) > 10_000:
                _widths.clear()
            _widths[key] = renderer.get_text_width_height_descent(text, font, ismath=False)[0]
        width = _widths[key]
        back = width / (2 if words.anchor == "middle" else 1)
        x, y = (x, y + back) if words.upright else (x - back, y)
    renderer.draw_text(gc, x, y if renderer.flipy() else height - y, text, font, 90.0 if words.upright else 0.0,
                       ismath=False)
