"""`minimask report DIR...`: what many runs came to, as Markdown on stdout and as files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..runs import records, report
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Prints the Markdown, writes the files, and names what was left out and what is missing on stderr."""
    options = _parser().parse_args(words)
    reading = records.read(options.places)
    markdown, names, missing = report.write(reading, Path(options.out))
    print(markdown, end="")
    for sentence in (*report.left_out(reading), missing):
        if sentence:
            print(f"minimask: {sentence}", file=sys.stderr)
    if reading.foreign:
        print(f"minimask: no records, passed over: {', '.join(map(str, reading.foreign))}", file=sys.stderr)
    figures = f" and {len(names) - 2} figures" if len(names) > 2 else ""
    print(f"minimask: in {options.out}/: report.md, report.html{figures}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="minimask report",
                    description="Tables, figures and one page of HTML from the records of finished runs.\n\n"
                                "Runs of one recipe are averaged over their seeds; the paper's row is beside them.\n"
                                "Records that are damaged, unfinished, there twice, or at odds with their recipe are\n"
                                "named and left out. Nothing is trained, and no data set is needed.",
                    epilog="example:\n  minimask sweep fcn fcn-dense --seeds 5 --data DIR --out runs/mnist\n"
                           "  minimask report runs/mnist > results.md")
    parser.add_argument("places", nargs="+", metavar="DIR",
                        help="folders of runs, of sweeps, or of records (*.json), in any mix")
    parser.add_argument("--out", metavar="DIR", default="runs/report",
                        help="folder for report.md, report.html and the figures (default: runs/report)")
    return parser
