"""`minimask report DIR...`: what many runs came to, as Markdown on stdout and as files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .. import escape
from ..runs import paper, records, report
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Prints the Markdown, writes the files, and names what was left out and what is missing on stderr."""
    options = _parser().parse_args(words)
    reading, out = records.read(options.places), Path(options.out)
    missing = ""
    if options.format:
        text, names = paper.write(report.counted(reading), out, options.format)
    else:
        text, names, missing = report.write(reading, out)
    print(text, end="")
    for sentence in (*report.left_out(reading), missing):
        if sentence:
            _say(sentence)
    if reading.foreign:
        _say(f"no records, passed over: {', '.join(map(str, reading.foreign))}")
    tables = [name for name in names if name.startswith(("report.", "results."))]
    figures = [f"{len(names) - len(tables)} figures"] if len(names) > len(tables) else []
    _say(f"in {options.out}/: {' and '.join([', '.join(tables), *figures] if tables else figures)}")


def _say(sentence: str) -> None:
    print(f"minimask: {escape.line(sentence)}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="minimask report",
                    description="Tables, figures and one page of HTML from the records of finished runs.\n\n"
                                "Runs of one recipe are averaged over their seeds; the paper's row is beside them.\n"
                                "Records that are damaged, unfinished, there twice, or at odds with their recipe are\n"
                                "named and left out. Nothing is trained, and no data set is needed.",
                    epilog="example:\n  minimask sweep fcn fcn-dense --seeds 5 --data DIR --out runs/mnist\n"
                           "  minimask report runs/mnist > results.md\n"
                           "  minimask report runs/mnist --format latex > table.tex   # mean, deviation, interval\n"
                           "  minimask report runs/mnist --format pdf                 # every figure, for a paper")
    parser.add_argument("places", nargs="+", metavar="DIR",
                        help="folders of runs, of sweeps, or of records (*.json), in any mix")
    parser.add_argument("--out", metavar="DIR", default="runs/report",
                        help="folder for report.md, report.html and the figures (default: runs/report)")
    parser.add_argument("--format", choices=paper.FORMATS,
                        help="for a paper, in place of the report: the table as csv, json or latex, with means, sample "
                             "standard deviations and, from five seeds on, bootstrap intervals; or every figure as pdf "
                             "or svg, with its caption")
    return parser
