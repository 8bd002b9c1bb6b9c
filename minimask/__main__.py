"""The command line: `minimask` runs the demo, `minimask train RECIPE` trains a recipe.

Exit status: 0 done, 1 failed, 2 wrong usage. A failure is one sentence; `--debug` adds the traceback.
"""

import argparse
import contextlib
import difflib
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from . import __version__, backend, data, files, plot, recipes, runs, train
from .backend import MinimaskError, UsageError, blas_threads

COMMANDS = ("train", "data", "inspect")


class Parser(argparse.ArgumentParser):
    """An argument parser that suggests the nearest option for one it does not know."""

    def error(self, message: str) -> NoReturn:
        for word in message.split() if "unrecognized" in message else ():
            if word.startswith("--"):
                near = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, n=1, cutoff=0.7)
                message += f"; did you mean {near[0]}?" if near else ""
            elif word in COMMANDS:
                message += f"; the command comes first: minimask {word} ..."
        raise UsageError(f"{message} (`{self.prog} --help` lists what there is)")


def whole_number(least: int) -> Callable[[str], int]:
    """An option's type: a whole number from `least` up."""
    def convert(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} up")
        return int(text)

    return convert


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        if words and not words[0].startswith("-"):
            if words[0] not in COMMANDS:
                raise UsageError(f"{backend.unknown('command', words[0], COMMANDS)}; without a command the demo runs, "
                                 "`minimask --help` tells more")
            if words[0] == "inspect":
                from . import cli_inspect

                cli_inspect.command(words[1:])
            elif words[0] == "data":
                data_command(_data_parser().parse_intermixed_args(words[1:]))
            else:
                train_command(_train_parser().parse_args(words[1:]))
        else:
            demo_command(_demo_parser().parse_args(words))
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
    parser = Parser(prog="minimask", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Train a network by keeping, hiding or inverting its frozen random weights.\n\n"
                                "Without a command: the demo. It trains a signed supermask on bundled images of\n"
                                "handwritten digits, beside a dense baseline, in seconds, and leaves the result\n"
                                "in runs/demo/.",
                    epilog="commands:\n  train RECIPE   train a network on MNIST, CIFAR-10 or the digits "
                           "(`minimask train --help`)\n"
                           "  data           fetch and check data sets (`minimask data --help`)")
    parser.add_argument("--version", action="version", version=f"minimask {__version__}")
    _shared_options(parser, "runs/demo", threads="1")
    return parser


def _train_parser() -> Parser:
    rows = "\n".join(f"  {r.name} ({r.dataset}, {r.epochs} epochs)\n      {r.about}" for r in recipes.RECIPES.values())
    parser = Parser(prog="minimask train", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Train one recipe and keep its record, its network and pictures of it in a folder.",
                    epilog=f"recipes:\n{rows}\n\nexample:\n  minimask train fcn --data DIR --seed 0 --out runs/fcn-0\n"
                           "  where DIR/mnist/ holds the four MNIST files (train-images-idx3-ubyte.gz, ...);\n"
                           "  `minimask data fetch mnist --data DIR` gets them")
    parser.add_argument("recipe", help="what to train, a name from the list below")
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"train on other data: {', '.join(['digits', *data.DATASETS])}")
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--allow-unverified", action="store_true",
                        help="take data files whose content is not the official one, and say so")
    parser.add_argument("--epochs", type=whole_number(1), metavar="N",
                        help="passes over the training images (default: the recipe's)")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run in the folder where it was stopped; what is not said stays as it was")
    parser.add_argument("--backend", metavar="LIBRARY",
                        help="array library: numpy, cupy or strict (default: numpy)")
    parser.add_argument("--plain", action="store_true",
                        help="take the plain version of every op, on one thread: to step through it")
    _shared_options(parser, "runs/RECIPE-seedS", threads="as NumPy is set up")
    return parser


def _data_parser() -> Parser:
    parser = Parser(prog="minimask data", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                    usage="minimask data fetch NAME... [--data DIR] [--overwrite] [--quiet]\n"
                          "       minimask data check [NAME...] [--data DIR]",
                    description="Get data sets from the net, or see whether those you have are whole.\n\n"
                                "fetch   download what is lacking into DIR; an interrupted download goes on\n"
                                "        where it stopped when you give the same command again\n"
                                "check   compare the files in DIR with the official checksums; changes nothing",
                    epilog="data sets:           to download   folder\n"
                           "  mnist                   11.6 MB   DIR/mnist/\n"
                           "  fashion-mnist            31 MB*   DIR/fashion-mnist/\n"
                           "  cifar10                170.1 MB   DIR/cifar-10-batches-bin/\n"
                           "  cifar100               168.5 MB   DIR/cifar-100-binary/\n"
                           "* about; no checksum of it is known to minimask, so it stays unverified\n\n"
                           "example:\n  minimask data fetch mnist --data DIR\n"
                           "  minimask train fcn --data DIR\n\n"
                           "check exits with 1 if a data set is damaged, or one that you named is missing.\n"
                           "Nothing is downloaded by any other command.")
    parser.add_argument("action", metavar="fetch|check", help="what to do")
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets, from the list below")
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--overwrite", action="store_true", help="fetch: replace damaged files, which stay otherwise")
    parser.add_argument("--quiet", action="store_true", help="fetch: no progress while it runs")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _shared_options(parser: Parser, out: str, threads: str) -> None:
    parser.add_argument("--seed", type=whole_number(0), metavar="S",
                        help="of weights and batches; same seed, same run (default: 0)")
    parser.add_argument("--out", metavar="DIR", help=f"folder for the results (default: {out})")
    parser.add_argument("--threads", type=whole_number(1), metavar="N",
                        help=f"threads of the matrix products (default: {threads})")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is in the folder already")
    parser.add_argument("--quiet", action="store_true", help="no progress while it runs")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def train_command(options: Any) -> None:
    """`minimask train RECIPE`: trains, prints a table per layer and the accuracy, and says where everything is."""
    recipe, digest = recipes.find(options.recipe), ""
    folder = Path(options.out or f"runs/{recipe.name}-seed{options.seed or 0}")
    if options.resume:
        digest = _as_it_was(options, folder, recipe.name)
    if options.epochs is not None:
        recipe = replace(recipe, epochs=options.epochs)
    if options.dataset is not None:
        recipe = replace(recipe, dataset=options.dataset)
    seed, library = options.seed or 0, options.backend or "numpy"
    backend.load(library)
    with warnings.catch_warnings(record=True) as caught:
        dataset = data.load(recipe.dataset, options.data, options.allow_unverified)
    for warning in caught:
        print(f"minimask: {warning.message}", file=sys.stderr)
    settings = ", ".join(f"{name} {value}" for name, value in recipe.source_settings.items())
    print(f"{recipe.name}: {recipe.model} on {dataset.name}, {recipe.source} ({settings}), {recipe.epochs} epochs, "
          f"seed {seed}")
    with files.locked(folder), blas_threads(1 if options.plain else options.threads), \
            backend.plain() if options.plain else contextlib.nullcontext():
        net, record = _run(recipe, dataset, folder, options.overwrite, options, seed, library)
        if digest == runs.begun(folder)[1]:
            print(f"it was finished already, after {len(record['epochs'])} epochs; a larger --epochs N trains on")
        print(layer_table(record))
        end = record["epochs"][-1]
        print(f"test accuracy {end['test_accuracy']:.2%} with {end['weights_left']:.2%} of the weights left")
        _say_files(folder, net, record, dataset)


def _as_it_was(options: Any, folder: Path, name: str) -> str:
    """Fills the options that were not given from the run in the folder, and says where it stands: -> its digest."""
    if options.overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: give one of them")
    run, digest = runs.begun(folder)
    record, recipe = run["record"], run["record"].get("recipe", {})
    if recipe.get("name") != name:
        raise UsageError(f"{folder} holds a run of recipe {recipe.get('name')!r}, but {name!r} was asked for; resume "
                         "it with its own recipe, or name another folder with --out")
    if options.epochs is not None and options.epochs < recipe.get("epochs", 0):
        raise UsageError(f"--epochs {options.epochs} is fewer than the {recipe['epochs']} that the run in {folder} was "
                         "begun for; give as many or more, or leave it out")
    library = record.get("environment", {}).get("backend")
    was = {"seed": record.get("seed"), "epochs": recipe.get("epochs"),
           "dataset": record.get("dataset"),
           "backend": next((name for name, module in backend.LIBRARIES.items() if module == library), None)}
    for name, value in was.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    print(f"{folder} holds a run after {len(record['epochs'])} epochs and {run['step']} steps, digest {digest[:16]}")
    return digest


def data_command(options: Any) -> None:
    """`minimask data fetch NAME...` and `minimask data check [NAME...]`."""
    from . import fetch, meter  # and with them the parts of the standard library that speak with servers

    if options.action not in ("fetch", "check"):
        raise backend.unknown("data command", options.action, ("fetch", "check"))
    if "digits" in options.names:
        print("digits: comes with minimask; nothing to fetch")
    names = [name for name in options.names if name != "digits"]
    if options.action == "check":
        if names or not options.names:
            fetch.check(names, options.data)
        return
    if not options.names:
        raise UsageError(f"which data set? minimask data fetch NAME; there are {', '.join(data.DATASETS)}")
    progress = meter.Meter(None if options.quiet else sys.stderr)
    try:
        for name in names:
            fetch.fetch(name, options.data, options.overwrite, meter=progress)
    except KeyboardInterrupt:
        raise MinimaskError("interrupted; what has arrived is kept, and the same command goes on from there") from None


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
        net, record = _run(demo, dataset, folder, overwrite, options, seed)
        _, dense = _run(baseline, dataset, None, False, options, seed)
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
    _say_files(folder, net, record, dataset, "dense.json")


def _holds_a_demo(folder: Path) -> bool:
    """Whether the run in the folder is a demo's, whole or interrupted: then a demo may replace it."""
    try:
        return json.loads((folder / "record.json").read_text())["recipe"]["name"] == "demo"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _run(recipe: recipes.Recipe, dataset: data.Dataset, folder: Path | None, overwrite: bool, options: Any, seed: int,
         library: str = "numpy") -> Any:
    """Trains; when it is cut short, the error says what was kept, where, and how to go on."""
    progress = None if options.quiet else train.Progress(recipe.name)
    resume = getattr(options, "resume", None)  # None: the demo, which takes seconds and is begun anew
    words = ["minimask", "train", recipe.name, "--resume", "--out", str(folder)]
    if resume is not None:
        words += ["--data", options.data] if options.data else []
        words += ["--allow-unverified"] if options.allow_unverified else []
    go_on = f"; to go on: {shlex.join(words)}" if resume is not None else ""
    try:
        with _warnings_as_sentences():
            return runs.run(recipe, dataset, seed, folder, overwrite, library, progress, bool(resume))
    except KeyboardInterrupt:
        kept = (f"the record so far and the network of its last whole epoch are in {folder}{go_on}" if folder
                else "what was finished before is kept")
        raise MinimaskError(f"interrupted while training {recipe.name}; {kept}") from None
    except (train.TrainingError, backend.OutOfMemory) as error:
        raise MinimaskError(f"{error}{f', saved in {folder}' if folder else ''}") from error


@contextlib.contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Inside the block minimask's own warnings are told like its errors, as they come; others stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # told once each, and never an error
        others = warnings.showwarning

        def show(message: Any, category: Any, *where: Any) -> None:
            if category is UserWarning:
                print(f"minimask: {message}", file=sys.stderr)
            else:
                others(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def layer_table(record: dict[str, Any]) -> str:
    """The layers at the end of a record: weights, kept, hidden, inverted and the share left, and their sums."""
    layers = record["epochs"][-1]["layers"]
    parts = ("weights", "kept", "hidden", "inverted")
    total = {"name": "all", **{part: sum(layer[part] for layer in layers) for part in parts}}
    wide = max(10, *(len(layer["name"]) + 2 for layer in layers))
    lines = [f"{'layer':{wide}}" + "".join(f"{part:>10}" for part in parts) + f"{'left':>9}"]
    for row in (*layers, total):
        left = 1 - row["hidden"] / row["weights"]
        lines.append(f"{row['name']:{wide}}" + "".join(f"{row[part]:>10,}" for part in parts) + f"{left:>9.1%}")
    return "\n".join(lines)


def _say_files(folder: Path, net: Any, record: dict[str, Any], dataset: data.Dataset, *more: str) -> None:
    try:
        pictures, reason = runs.write_pictures(folder, net, record, dataset), ""
    except plot.MissingMatplotlib as error:
        pictures, reason = [], f" ({error})"
    names = ["record.json", "network.npz", runs.CHECKPOINT, *pictures, *more]
    print(f"in {folder}/: {', '.join(names)}{reason}")
    print(f"digest {runs.begun(folder)[1][:16]}")


if __name__ == "__main__":
    sys.exit(main())
