"""Text that minimask did not write itself (a file's, a folder's name), made harmless for the place where it is shown.

A name in a file may hold what a terminal obeys, what Markdown, HTML and matplotlib take for markup, or what turns the
reading direction round. Whatever comes from a file passes through :func:`line`, or through one of the others, which
begin with it, on its way out.
"""

from __future__ import annotations

import re


def line(text: object) -> str:
    r"""One line that every terminal and log shows as it is: what is not printable becomes ``\n``, ``\x1b``, ``\u202e``.

    That takes in line ends, control characters and sequences that begin with one, marks of reading direction, spaces
    without width, and bytes of a file name that are no text.
    """
    text = str(text)
    return text if text.isprintable() else "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def lines(text: object) -> str:
    """The same for text of several lines, which stay lines, and with tabs, which stay tabs."""
    return "\n".join("\t".join(map(line, each.split("\t"))) for each in str(text).split("\n"))


def html(text: object) -> str:
    """As the content of an element, or of an attribute in quotes, of HTML, XML and SVG."""
    import html as entities  # with its table of entities; only pages need it

    return entities.escape(line(text))


#: What Markdown takes for markup: anywhere; an underscore that is not inside a word; what makes an address a link.
_MARKUP = re.compile(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.)")
#: What makes a paragraph a heading, a list or a quote, or the line before it a heading.
_BEGINNING = re.compile(r"^(\s*)(#(?=#{0,5}(?:\s|$))|[-+](?=\s|$)|>|[-=](?=[-=\s]*$))|^(\s*\d{1,9})([.)])(?=\s|$)")


def markdown(text: object) -> str:
    """As text of GitHub's Markdown, in a paragraph, a list or the cell of a table: no emphasis, tag, image or link.

    (Of a mail address GitHub makes one whatever is done.)
    """
    text = _MARKUP.sub(r"\\\1", line(text)).replace("&", "&amp;").replace("<", "&lt;")
    return _BEGINNING.sub(lambda found: f"{found[1] or found[3] or ''}\\{found[2] or found[4]}", text)


def code(text: object) -> str:
    """As code in Markdown; where a backquote or a table's bar would end it, as text."""
    text = line(text)
    return markdown(text) if not text.strip() or "`" in text or "|" in text else f"`{text}`"


#: What LaTeX takes for a command, and how it writes the character itself.
_LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
          "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
          "|": r"\textbar{}", "†": r"\dag{}", "±": r"$\pm$"}


def latex(text: object) -> str:
    """As text of LaTeX."""
    return "".join(_LATEX.get(each, each) for each in line(text))


def cell(text: object) -> str:
    """As a cell that no spreadsheet takes for a formula."""
    text = line(text)
    return f"'{text}" if text[:1] in tuple("=+-@") else text


def label(text: object) -> str:
    """As a label in matplotlib: a dollar is no formula, and an underscore at the beginning hides it from no legend."""
    text = line(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
