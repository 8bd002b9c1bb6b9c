"""`minimask info FILE`: what is in an exported net, and what it takes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import cost, escape, export, prune, zoo
from ..data.preprocess import DEFAULT
from ..display import MARK, UNVERIFIED, columns
from ..errors import UsageError
from ..export.header import MOST_WORK, Stored
from ..interchange.readers import READERS
from ..losses import CLASS, NUMBER, YES
from ..predict import batch_size
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Prints where the net comes from, a row per layer, its size on disk and as floats, and what pruning leaves."""
    options: Any = _parser().parse_args(words)
    if Path(options.file).suffix in READERS:
        raise UsageError(f"{options.file}: info tells of .mmk files, whose weights are coded; `minimask predict` and "
                         "`minimask evaluate` take this one, and from Python minimask.interchange.read")
    path = zoo.path_of(options.file)
    exported = export.load(path)
    net, stored = exported.net, exported.stored
    known = next((entry for entry in zoo.entries().values() if entry.path == path), None)
    about = exported.about or "a net"
    about += MARK if known and known.unverified and MARK not in about else ""
    print(f"{escape.line(options.file)}: {escape.line(about)}")
    print(f"images of {' x '.join(map(str, net.input_shape))} -> {'; '.join(_outputs(exported))}\n")
    if exported.prepare.name != DEFAULT:
        print(f"preprocess: {escape.line(exported.prepare.name)}\n")
    print(table(stored))
    weights = sum(each.weights for each in stored.values())
    floats = 4 * weights
    print(f"\n{exported.size:,} bytes on disk, {exported.header_size:,} of them header, batch norm, bias and digest")
    times = f", {floats / exported.size:,.0f} times as many" if exported.size < floats else ""
    print(f"{floats:,} bytes as float32{times}")
    work, numbers = cost.of(net)
    print(f"one image: the work of {work:,} multiply-adds, {work / cost.LARGEST:.3f} times the paper's largest net's "
          f"(most: {MOST_WORK}),\n{numbers:,} numbers at a time, so that predict takes {batch_size(net):,} images at "
          "once")
    before, after = prune.size(net), prune.size(prune.prune(net))
    print(f"pruned: {after.units:,} of {before.units:,} units, {after.weights:,} of {weights:,} weights, "
          f"{after.multiply_adds:,} of {before.multiply_adds:,} multiply-adds an image")
    if MARK in about:
        print(textwrap.fill(UNVERIFIED, 100))


def _outputs(exported: export.Exported) -> Iterator[str]:
    """What the outputs say, with their names: "10 classes: 0, 1 ...", "1 number: ink"."""
    place = 0
    for kind, count in exported.answers:
        names = ", ".join(map(escape.line, exported.classes[place:place + min(count, 10)])) + " ..." * (count > 10)
        what = {CLASS: "classes", NUMBER: "number" + "s" * (count > 1), YES: "yes or no"}[kind]
        yield f"{count} {what}: {names}"
        place += count


def table(stored: dict[str, Stored]) -> str:
    """A row per layer and their sums: shape, weights, those left by sign, bytes, the entropy of its counts, codec."""
    rows: list[tuple[str, ...]] = [("layer", "codec", "shape", "weights", "+", "-", "left", "bytes", "entropy")]
    for name, each in stored.items():
        codec = f"{each.codec}, drawn again" if each.frozen else each.codec
        rows.append((name, codec, " x ".join(map(str, each.shape)), *_numbers([each])))
    return "\n".join(columns([*rows, ("all", "", "", *_numbers(list(stored.values())))], left=2))


def _numbers(stored: Sequence[Stored]) -> tuple[str, ...]:
    weights, plus, minus, size, bound = (sum(values) for values in zip(*(
        (each.weights, each.plus, each.minus, each.bytes, each.bound) for each in stored)))
    left = (plus + minus) / np.maximum(weights, 1)
    return f"{weights:,}", f"{plus:,}", f"{minus:,}", f"{left:.1%}", f"{size:,}", f"{bound:,.0f}"


def _parser() -> Parser:
    parser = Parser(prog="minimask info",
                    description="Show what is in an exported net: layers, signs, bytes on disk and as float32, the\n"
                                "bytes that the entropy of each layer's counts allows (a code that learns from the\n"
                                "order can need less), and what exact pruning leaves.",
                    epilog="example:\n  minimask info tiny.mmk")
    parser.add_argument("file", metavar="FILE", help="what `minimask export` wrote, or a net of `minimask zoo`")
    return parser
