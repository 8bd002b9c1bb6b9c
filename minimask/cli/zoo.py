"""`minimask zoo`: the trained nets that come with the package, a line each."""

from __future__ import annotations

from collections.abc import Sequence

from .. import zoo
from ..display import MARK, columns
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Prints name, data, accuracy, weights left and size of every net."""
    _parser().parse_args(words)
    found = zoo.entries().values()
    rows: list[tuple[object, ...]] = [("net", "data", "epochs", "test accuracy", "weights left", "bytes")]
    rows += [(entry.name, entry.dataset + MARK * entry.unverified, entry.epochs, f"{entry.test_accuracy:.2%}",
              f"{entry.weights_left:.2%}", f"{entry.bytes:,}") for entry in found]
    print("\n".join(columns(rows, left=2)))
    print(f"\n{len(rows) - 1} nets, {sum(entry.bytes for entry in found):,} bytes. In Python: "
          "from minimask import zoo; zoo.load(\"fcn\", seed=1)")
    if any(entry.unverified for entry in found):
        print(f"{MARK} trained and measured on files that are not known to be the official ones")


def _parser() -> Parser:
    return Parser(prog="minimask zoo",
                  description="List the trained nets that come with the package.",
                  epilog="A command that takes an exported file takes a net's name too (RECIPE: its first seed):\n\n"
                         "example:\n  minimask predict fcn digit.png\n  minimask info fcn-best-seed1")
