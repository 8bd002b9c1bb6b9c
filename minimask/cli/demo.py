"""`minimask` without a command: the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__, data, escape, files, recipes, runs
from ..errors import MinimaskError
from ..fast.threads import blas_threads
from .common import COMMANDS, Parser, layer_table, run, say_files, shared_options


def command(words: Sequence[str]) -> None:
    """Trains a signed supermask and its dense baseline on the bundled digits, and says what is left of each."""
    options: Any = _parser().parse_args(words)
    dataset = data.digits()
    folder = Path(options.out or "runs/demo")
    demo, baseline = (replace(recipes.find(name), name=label)
                      for name, label in (("digits", "demo"), ("digits-dense", "demo-dense")))
    height, width, _ = dataset.input_shape
    print(f"A signed supermask on {len(dataset.train_images):,} images of handwritten digits "
          f"({height} x {width} pixels, {len(dataset.test_images)} more held out), beside a dense baseline.")
    again, seed = _holds_a_demo(folder), options.seed or 0
    overwrite = options.overwrite or again
    if again:
        print(f"{escape.line(folder)} holds an earlier run of the demo, which this one replaces.")
    with files.locked(folder), blas_threads(options.threads or 1):  # so small that a second thread mostly waits
        net, record = run(demo, dataset, folder, overwrite, options, seed)
        _, dense = run(baseline, dataset, None, False, options, seed)
        runs.write_record(folder, dense, "dense.json")
        _say_demo(folder, net, record, dense, dataset)


def _say_demo(folder: Path, net: Any, record: dict[str, Any], dense: dict[str, Any], dataset: data.Dataset) -> None:
    print(layer_table(record))
    print()
    for name, result in (("signed supermask", record), ("dense baseline", dense)):
        end = result["epochs"][-1]
        weights = sum(layer["weights"] for layer in end["layers"])
        left = weights - sum(layer["hidden"] for layer in end["layers"])
        print(f"{name:17} test accuracy {end['test_accuracy']:6.2%}   "
              f"weights left {left:6,} of {weights:,} ({left / weights:.1%})")
    say_files(folder, net, record, dataset, "dense.json")


def _holds_a_demo(folder: Path) -> bool:
    """Whether the run in the folder is a demo's, whole or interrupted: then a demo may replace it."""
    try:
        return runs.read_record(folder)["recipe"].get("name") == "demo"
    except MinimaskError:
        return False


def _parser() -> Parser:
    parser = Parser(prog="minimask",
                    description="Train a network by keeping, hiding or inverting its frozen random weights.\n\n"
                                "Without a command: the demo. It trains a signed supermask on bundled images of\n"
                                "handwritten digits, beside a dense baseline, in seconds, and leaves the result\n"
                                "in runs/demo/.",
                    epilog="commands (each has a --help):\n"
                           + "\n".join(f"  {name:9} {what}" for name, what in COMMANDS.items()))
    parser.add_argument("--version", action="version", version=f"minimask {__version__}")
    shared_options(parser, "runs/demo", threads="1")
    return parser
