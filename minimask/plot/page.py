"""Tables as Markdown and as HTML, and one page of tables, charts and pictures that needs nothing but itself.

No script, no font, no picture from elsewhere: the page opens from disk, in light and dark, on wide and narrow screens,
and its own policy forbids it to load anything. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..display import HIDDEN, INVERTED, KEPT
from ..escape import code, html, markdown
from .drawing import GRID, INK
from .pictures import COLOURS


class Code(str):
    """A cell of a table, or a word, that is code."""


@dataclass(frozen=True)
class Table:
    """A head and rows of cells, as plain text or :class:`Code`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As GitHub's Markdown, a line a row."""
        lines = [map(_in_markdown, line) for line in (self.head, *self.rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in [lines[0], ["---"] * len(self.head), *lines[1:]])

    def html(self, caption: str) -> str:
        """As a table that scrolls sideways where it is too wide."""
        head = "".join(f'<th scope="col">{html(cell)}</th>' for cell in self.head)
        body = "".join(f"<tr>{''.join(f'<td>{inline(cell)}</td>' for cell in row)}</tr>\n" for row in self.rows)
        return (f'<div class="wide" role="region" tabindex="0" aria-label="{html(caption)}"><table>'
                f"<caption>{html(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n")


def _in_markdown(cell: str) -> str:
    """A cell that stays one cell, and its markup text."""
    cell_of = code if isinstance(cell, Code) else markdown
    return cell_of(" ".join(cell.split()))


def inline(text: str) -> str:
    """Plain text, or code, as HTML."""
    return f"<code>{html(text)}</code>" if isinstance(text, Code) else html(text)


def block(text: str) -> str:
    """Text of several lines as it is."""
    return f"<pre>{chr(10).join(map(html, text.splitlines()))}</pre>"


def items(sentences: Iterable[str]) -> str:
    """A list of plain sentences as HTML."""
    return f"<ul>{''.join(f'<li>{html(sentence)}</li>' for sentence in sentences)}</ul>\n"


def chart(svg: str, title: str, note: str, table: Table) -> str:
    """A figure with its title, a note, and its numbers as a table to unfold; `svg` "" leaves the table alone."""
    return (f"<figure><figcaption><strong>{html(title)}.</strong> {html(note)}</figcaption>\n{themed(svg)}\n"
            f"<details><summary>the numbers</summary>{table.html(title)}</details></figure>\n")


def picture(png: bytes, alt: str, caption: str, name: str) -> str:
    """A figure from the bytes of a PNG, which scrolls sideways where it would become too small to read.

    Args:
        alt: what it is, for those who cannot see it. caption: what it shows. name: the figure's id in the page.
    """
    import base64

    width, height = (int.from_bytes(png[i:i + 4], "big") for i in (16, 20))  # of the IHDR chunk
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (f'<figure id="{html(name)}"><div class="wide" role="region" tabindex="0" aria-label="{html(name)}">'
            f'<img src="{source}" width="{width * 2 // 3}" height="{height * 2 // 3}" alt="{html(alt)}"></div>\n'
            f"<figcaption>{html(caption)}</figcaption></figure>\n")


#: The colours of figures that the page has in light and in dark.
THEME = {INK: "currentColor", "#ffffff": "var(--page)", GRID: "var(--line)", KEPT: "var(--kept)",
         HIDDEN: "var(--hidden)", INVERTED: "var(--inverted)", COLOURS[0]: "var(--first)"}


def themed(svg: str) -> str:
    """An SVG element of drawing.py for the inside of a page: its size and colours are the page's."""
    import re

    svg = re.sub(r'(<svg [^>]*?)xmlns="[^"]*" width="[^"]*" height="[^"]*" ', r"\1", svg)
    return re.sub(r'(?<=fill=|roke=)"(#[0-9a-f]{6})"', lambda found: f'"{THEME.get(found[1], found[1])}"', svg)


def document(title: str, body: str, command: str) -> str:
    """The whole page around its body; it says in its head which command made it."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="minimask {command}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{html(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{html(title)}</h1>
{body}</main>
</body>
</html>
"""


STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1d2327; --faint: #5b646b; --line: #c9ced2; --soft: #f3f5f6;
  --kept: #08457e; --hidden: #ebebe6; --inverted: #f28e2b; --first: #2f7fd1; --link: #08589f; }
@media (prefers-color-scheme: dark) { :root { --page: #14181b; --text: #e4e8ea; --faint: #a3adb3; --line: #4a545b;
  --soft: #1e2428; --kept: #3b7fc6; --hidden: #2a3136; --inverted: #ffb266; --first: #6fb0f2; --link: #8cc2f7; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin-top: 2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: var(--link); }
p, ul { max-width: 46rem; }
li { overflow-wrap: anywhere; }
code { font: 0.875em ui-monospace, monospace; white-space: nowrap; }
pre { overflow-x: auto; background: var(--soft); padding: 0.75rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: 0.25rem; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
.charts { columns: 26rem; column-gap: 2rem; }
figure { margin: 0 0 2rem; break-inside: avoid; }
figcaption { font-size: 0.875rem; margin-bottom: 0.5rem; }
figure img { display: block; min-width: 32rem; max-width: 100%; height: auto; background: #ffffff; padding: 0.25rem; }
figure svg { display: block; width: 100%; max-width: 34rem; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg text { fill: currentColor; font-family: system-ui, sans-serif !important; }
details { margin-top: 0.5rem; }
summary { cursor: pointer; color: var(--link); font-size: 0.875rem; }
"""
