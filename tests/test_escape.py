"""Text of others' files on its way out: to a terminal, Markdown, HTML, matplotlib."""

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import escape

HOSTILE = "a\x1b[31m\x07\r\nb\u202ec\u200b\x9b\udc80<i>&\"'"


def test_a_line_is_printable_and_readable():
    assert escape.line(HOSTILE) == r"a\x1b[31m\x07\r\nb\u202ec\u200b\x9b\udc80<i>&" + "\"'"
    assert escape.line("runs/größe 手 €") == "runs/größe 手 €" and escape.line(3) == "3"
    assert escape.lines("a\tb\nc\x1b\r") == "a\tb\nc\\x1b\\r"


@given(st.text())
def test_whatever_comes_no_line_has_what_a_terminal_obeys(text):
    assert escape.line(text).isprintable() and escape.line(escape.line(text)) == escape.line(text)
    assert escape.line(text) == text or not text.isprintable()
    for form in (escape.html, escape.markdown, escape.code, escape.label):
        assert form(text).isprintable()


@given(st.text())
def test_html_is_text_alone_in_an_element_and_in_an_attribute(text):
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__(convert_charrefs=True)
            self.tags, self.text = [], ""

        def handle_starttag(self, tag, attributes):
            self.tags.append((tag, attributes))

        def handle_data(self, data):
            self.text += data

    reader = Reader()
    reader.feed(f'<p title="{escape.html(text)}">{escape.html(text)}</p>')
    reader.close()
    assert reader.tags == [("p", [("title", escape.line(text))])] and reader.text == escape.line(text)


@pytest.mark.parametrize(("text", "markdown"), [
    ("fcn-seed1.json is unfinished: after 2 of 3 epochs, 2.5 % (x_y)", ...), ("-0.28 to +0.3", ...), ("a! #3 1. b", ...),
    ("*a* **b** _c_ __d__ ~~e~~", r"\*a\* \*\*b\*\* \_c\_ \_\_d\_\_ \~\~e\~\~"),
    ("[a](http://b) ![c](d) www.e.org", r"\[a\](http\://b) !\[c\](d) www\.e.org"),
    ("<img src=x> &lt; | `x` $y$ \\", r"&lt;img src=x> &amp;lt; \| \`x\` \$y\$ \\"),
    ("# a", r"\# a"), ("- a", r"\- a"), ("> a", r"\> a"), ("12) a", r"12\) a"), ("---", r"\---"), ("-- -", r"\-- -"),
])
def test_markdown_shows_it_as_it_is(text, markdown):
    assert escape.markdown(text) == (text if markdown is ... else markdown)


@given(st.text(alphabet="\\`*_[]()<>&|~$!#+-=.:/ a1\n"))
def test_no_markup_of_markdown_is_left_bare(text):
    """With every backslash and what it guards taken away, nothing is left that begins markup."""
    bare = re.sub(r"\\[\\`*\[\]|~$_:.)#>+=-]", "", escape.markdown(text))
    assert not re.search(r"[\\`*\[\]|~$<]|&(?!amp;|lt;)", bare)
    without = re.sub(r"\\([\\`*\[\]|~$_:.)#>+=-])", r"\1", escape.markdown(text))
    assert html.unescape(without) == escape.line(text)


def test_code_ends_where_it_should():
    assert escape.code("minimask train x") == "`minimask train x`"
    assert escape.code("a`b") == r"a\`b" and escape.code("a|b") == r"a\|b" and escape.code("") == ""


def test_a_label_is_no_formula_and_no_legend_forgets_it(drawn):
    assert escape.label("dense1 $x^2$") == r"dense1 \$x^2\$" and escape.label("_mine") == " _mine"
    pytest.importorskip("matplotlib")
    from minimask import plot

    figure = plot.new_figure(2, 1)
    ax = figure.subplots()
    ax.plot([1], label=escape.label("_$\\frac$\x1b"))
    (text,) = ax.legend().get_texts()
    plot.png(figure)  # a formula that is none would end this in an error
    assert text.get_text() == r" _\$\frac\$\x1b"


def test_latex_and_cells():
    assert escape.latex("50 % of a_b & c\x1b {$x^2$} †") == (
        r"50 \% of a\_b \& c\textbackslash{}x1b \{\$x\textasciicircum{}2\$\} \dag{}")
    assert [escape.cell(text) for text in ("=1+1", "@a", "-5", "fcn", "")] == ["'=1+1", "'@a", "'-5", "fcn", ""]
