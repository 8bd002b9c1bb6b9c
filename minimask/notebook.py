"""Small HTML for notebooks, and the three colours of every picture. mask.py and nn.py show themselves with it."""

from collections.abc import Sequence

#: Dark blue, nearly white and orange: told apart in grey and by the colour-blind.
KEPT, HIDDEN, INVERTED = "#08457e", "#f2f2ee", "#f28e2b"
LEGEND = "blue: kept, orange: inverted, light: hidden"


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text as lines of equal columns: the first `left` begin together, the others end together."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ([*map(str.ljust, row[:left], widths), *map(str.rjust, row[left:], widths[left:])] for row in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


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
