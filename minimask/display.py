"""How masks and nets show themselves, as text and as HTML, and the three colours of every picture. Beside the path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .mask import Supermask
    from .nn import Sequential

#: Stands beside every number that was measured on such files, and what it says.
MARK = "†"
UNVERIFIED = (f"{MARK} trained and tested on files that are not known to be the official ones (a copy decoded from "
              "JPEG, for example): not comparable with published numbers.")
#: Dark blue, nearly white and orange: told apart in grey and by the colour-blind.
KEPT, HIDDEN, INVERTED = "#08457e", "#f2f2ee", "#f28e2b"
LEGEND = "blue: kept, orange: inverted, light: hidden"


def accuracy_name(dataset: str | None) -> str:
    """What accuracy on a data set's held-out images is to be called: of NAME-validation they are no test images."""
    return "held-out accuracy" if (dataset or "").endswith("-validation") else "test accuracy"


def result(entry: Mapping[str, Any], dataset: str | None = None, mark: str = "") -> str:
    """What an epoch's entry says of the held-out samples: "test accuracy 97.12%", or where there is none, the loss."""
    if "test_accuracy" in entry:
        return f"{accuracy_name(dataset)} {entry['test_accuracy']:.2%}{mark}"
    return f"{accuracy_name(dataset).replace('accuracy', 'loss')} {entry['test_loss']:.4g}{mark}"


def table(rows: Sequence[Sequence[str]], bars: Sequence[str], caption: str) -> str:
    """Rows of text as a table, the first of them its head, each of the others with a bar (or "") at its end."""
    import html  # with its table of entities; only notebooks need it

    head, *body = [[html.escape(cell) for cell in row] for row in rows]
    full = [[f"<b>{cell}</b>" for cell in [*head, LEGEND if any(bars) else ""]],
            *([*row, bar] for row, bar in zip(body, bars))]
    style = "style='text-align:left;white-space:nowrap;padding:2px 8px'"
    lines = "".join(f"<tr>{''.join(f'<td {style}>{cell}</td>' for cell in row)}</tr>" for row in full)
    return f"<table>{lines}</table><div>{html.escape(caption)}</div>"


def bar(kept: int, hidden: int, inverted: int) -> str:
    """The three counts as a bar of their shares, 12 em wide: kept, inverted, hidden."""
    total = kept + hidden + inverted
    parts = (("kept", kept, KEPT), ("inverted", inverted, INVERTED), ("hidden", hidden, HIDDEN))
    spans = "".join(f"<span title='{number:,} {name}' style='display:inline-block;height:1em;background:{colour};"
                    f"width:{12 * number / total:.3f}em'></span>" for name, number, colour in parts)
    return f"<span style='display:inline-block;white-space:nowrap;line-height:0;outline:1px solid #888'>{spans}</span>"


def columns(rows: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """Rows as lines of text in columns as wide as need be: the first `left` are flush left, the others flush right."""
    table = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table)]
    return ["  ".join(cell.ljust(width) if i < left else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in table]


def mask_text(source: Supermask) -> str:
    """Its rule, and once it is drawn what its mask does now."""
    rule = ", ".join(f"{name}={value:g}" for name, value in source.settings.items() if not isinstance(value, dict))
    text = f"{type(source).__name__}({rule})"
    if source.scores is None:
        return text
    kept, hidden, inverted = source.counts()
    return f"{text}, {source.scores.shape}: {kept:,} kept, {hidden:,} hidden, {inverted:,} inverted"


# ---- nets ----------------------------------------------------------------------------------------------------------


def net_text(net: Sequential) -> str:
    """A line per layer, and the net's weights in all."""
    return "\n".join([*columns(net_rows(net), left=3), _total(net)])


def net_html(net: Sequential) -> str:
    """The same as an HTML table, with a bar of what is kept, inverted and hidden for every masked layer."""
    bars, seen = [""], set[int]()  # the input's
    for layer in net.layers.values():
        inside = [each.weight.counts() for _, each in layer.walk(seen=seen) if each.weight is not None]
        masked = [counts for counts in inside if counts is not None]
        bars.append(bar(*map(sum, zip(*masked))) if masked else "")
    return table(net_rows(net), bars, _total(net))


def net_rows(net: Sequential) -> list[tuple[str, ...]]:
    """A head and a row per layer: name, what it is, the shape after it, its weights, how many are trained or frozen.

    Weights that are used twice count where they are used first, so that the rows add up to the net's.
    """
    first, seen = {id(layer): name for name, layer in net.walk()}, set[int]()
    rows: list[tuple[str, ...]] = [("layer", "", "output", "weights", "trained", "frozen"),
                                   ("input", "", _shape(net.input_shape), "", "", "")]
    for name, layer in net.layers.items():
        inside = [each for _, each in layer.walk(seen=seen)]
        sources = [each.weight for each in inside if each.weight is not None]
        weights = sum(int(np.prod(each.shape)) for each in inside if each.weight is not None)
        trained = sum(t.size for each in inside for t in each.own_parameters().values())
        frozen = sum(int(np.prod(a.shape)) for source in sources for a in source.state().values()
                     if hasattr(a, "shape"))
        what = " scores" if frozen else ""
        sizes = (f"{weights:,}", f"{trained:,}{what}", f"{frozen:,}") if trained else ("", "", "")
        again = "" if inside else f", {first[id(layer)]} again"
        rows.append((name, f"{layer!r}{again}", _shape(net.shapes[name]), *sizes))
    return rows


def _total(net: Sequential) -> str:
    return f"{net.size():,} weights, {net.weights_left():.1%} left"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, ("n", *shape)))
