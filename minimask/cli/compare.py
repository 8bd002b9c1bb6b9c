"""`minimask compare A B`: which weights two masks both leave, with what signs, and what chance would give."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from .. import escape
from ..display import MARK, UNVERIFIED
from ..runs import compare
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Prints a table per layer, and what the same sign means for the frozen weights at hand."""
    options = _parser().parse_args(words)
    a, b = compare.read(options.A), compare.read(options.B)
    layers = compare.overlaps(a.masks, b.masks, (a.frozen, b.frozen) if a.frozen and b.frozen else None)
    frozen, meaning = compare.of_the_frozen(a, b, layers)
    if options.json:
        print(json.dumps({"a": a.about, "b": b.about, "frozen": frozen, "layers": [each.as_dict() for each in layers],
                          "all": compare.total(layers).as_dict()}, indent=1))
    else:
        for side, read in (("A", a), ("B", b)):
            print(f"{side}: {escape.line(read.about)}")
        print(f"\n{compare.table(layers)}\n\n{textwrap.fill(meaning, 100)}")
        if MARK in a.about + b.about:
            print(textwrap.fill(UNVERIFIED, 100))


def _parser() -> Parser:
    parser = Parser(prog="minimask compare",
                    description="How far two masks agree, layer by layer, beside what chance would give.",
                    epilog="columns:\n"
                           "  both         weights that are hidden in neither\n"
                           "  chance       of two random masks with the same share left in every layer\n"
                           "  z            how many standard deviations both is from that\n"
                           "  Jaccard      both / (left in A or in B)\n"
                           "  same sign    of both: those kept in both or inverted in both\n\n"
                           "example:\n  minimask compare runs/fcn-seed0 runs/fcn-seed1")
    for side in "AB":
        parser.add_argument(side, help="a run's folder, or an .npz of masks: numpy.savez(FILE, **net.masks())")
    parser.add_argument("--json", action="store_true", help="print JSON in place of text")
    return parser
