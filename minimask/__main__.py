"""The command line: `minimask` runs the demo, `minimask COMMAND ...` one of the others; each is a cli_COMMAND.py.

Exit status: 0 done, 1 failed, 2 wrong usage. A failure is one sentence; `--debug` adds the traceback.
"""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import __version__, backend, data, files, recipes, runs
from .backend import MinimaskError, UsageError, blas_threads
from .cli import COMMANDS, Parser, layer_table, run, say_files, shared_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and hasattr(sys, "set_lazy_imports"):  # Python 3.15: matplotlib cannot bear "all"
        sys.set_lazy_imports("normal")
    debug = "--debug" in words
    try:
        name = words.pop(0) if words and not words[0].startswith("-") else "demo"
        if name not in COMMANDS:
            raise UsageError(f"{backend.unknown('command', name, COMMANDS)}; without a command the demo runs, "
                             "`minimask --help` tells more")
        if name == "demo":
            demo_command(_demo_parser().parse_args(words))
        else:
            importlib.import_module(f"minimask.cli_{name}").command(words)
        sys.stdout.flush()
    except MinimaskError as error:
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1, debug)
    except KeyboardInterrupt:
        return _fail("interrupted", 1, debug)
    except BrokenPipeError:  # whoever read our output has left; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail("the output was closed before it was all written", 1, debug)
    except OSError as error:
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}", 1, debug)
    except Exception as error:
        if backend.ran_out(error):  # outside any op, which would have said for what
            return _fail(str(backend.out_of_memory("minimask", error)), 1, debug)
        # a fault of ours: one sentence all the same, and how to see more
        return _fail(f"{type(error).__name__}: {error} (this is a bug in minimask; --debug shows where)", 1, debug)
    return 0


def _fail(sentence: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        print(f"minimask: {sentence}", file=sys.stderr)
    return status


def _demo_parser() -> Parser:
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


def demo_command(options: Any) -> None:
    """`minimask`: a signed supermask and its dense baseline on the bundled digits."""
    dataset = data.digits()
    folder = Path(options.out or "runs/demo")
    demo, baseline = (replace(recipes.find(name), name=label)
                      for name, label in (("digits", "demo"), ("digits-dense", "demo-dense")))
    height, width, _ = dataset.input_shape
    print(f"A signed supermask on {len(dataset.train_images):,} images of handwritten digits "
          f"({height} x {width} pixels, {len(dataset.test_images)} more held out), beside a dense baseline.")
    overwrite, seed = options.overwrite or _holds_a_demo(folder), options.seed or 0
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
        return json.loads((folder / "record.json").read_text())["recipe"]["name"] == "demo"
    except (OSError, ValueError, KeyError, TypeError):
        return False


if __name__ == "__main__":
    sys.exit(main())
