"""What the commands of the command line share: their parser, common options, training with words, tables."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from .. import data, escape, export, own, plot, recipes, runs, train, zoo
from ..display import columns
from ..errors import MinimaskError, OutOfMemory, UsageError
from ..interchange.readers import READERS, read
from ..log import Log
from ..meter import Meter
from ..mishaps import in_words

#: The commands, and what each does. Each is the function `command` of module NAME.
COMMANDS = {"demo": "the same as no command",
            "train": "train on digits, MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100",
            "recipes": "list what can be trained, or show one recipe as TOML",
            "sweep": "train several recipes with several seeds, side by side",
            "step": "step through one training step in a browser, op by op",
            "inspect": "see what a trained mask learned: figures, and a page that explains each",
            "evaluate": "what a trained net gets right and wrong, class by class",
            "report": "tables, figures and a page from the records of many runs",
            "compare": "how far two masks agree, beside what chance would give",
            "export": "write a trained network into one small file",
            "info": "show what such a file holds",
            "predict": "classify images with such a file",
            "zoo": "list the trained networks that come with the package",
            "data": "fetch and check data sets",
            "course": "write the lessons and their exercises into a folder",
            "grade": "mark the exercises that a class handed in"}


class Parser(argparse.ArgumentParser):
    """The parser of one command: texts as they are written, whole option names, --debug, the nearest known option.

    A text that begins with ~ names a file or folder at home.
    """

    def __init__(self, prog: str, description: str, **texts: str):
        super().__init__(prog=prog, description=description, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter, **texts)  # type: ignore[arg-type]
        self.register("type", None, os.path.expanduser)  # ~/data is at home, also where no shell has said so
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

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


def data_options(parser: Parser) -> None:
    """Which data, from where, and how far it is trusted."""
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"train on other data: {', '.join(['digits', *data.DATASETS])}, or NAME-validation, which "
                             "holds out a sixth of the training images (CIFAR: a tenth) in place of the test images; "
                             "or on your own: folder:DIR (a folder of pictures per class), npz:FILE, csv:FILE")
    parser.add_argument("--cache", action="store_true",
                        help="keep the decoded pictures of folder:DIR in one file beside it, DIR.minimask.npz, which "
                             "is taken as long as no picture changes")
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--allow-unverified", action="store_true",
                        help="take data files whose content is not the official one, and say so")
    parser.add_argument("--epochs", type=whole_number(1), metavar="N",
                        help="passes over the training images (default: the recipe's)")
    parser.add_argument("--backend", metavar="LIBRARY",
                        help="array library: numpy, cupy or strict (default: numpy)")


def shared_options(parser: Parser, out: str, threads: str) -> None:
    """Seed, folder, threads, and how much is said."""
    parser.add_argument("--seed", type=whole_number(0), metavar="S",
                        help="of weights and batches; same seed, same run (default: 0)")
    parser.add_argument("--init-seed", type=whole_number(0), metavar="S",
                        help="draw frozen weights and scores from this seed: those of the run with that --seed")
    parser.add_argument("--order-seed", type=whole_number(0), metavar="S",
                        help="draw the order of the images and their augmentation from this seed: those of that run")
    parser.add_argument("--out", metavar="DIR", help=f"folder for the results (default: {out})")
    parser.add_argument("--threads", type=whole_number(1), metavar="N",
                        help=f"threads of the matrix products (default: {threads})")
    parser.add_argument("--no-shrink", action="store_true",
                        help="train with all units, those that are dead for ever too: the same up to rounding, slower")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is in the folder already")
    parser.add_argument("--quiet", action="store_true", help="no progress while it runs")


def trust_option(parser: Parser) -> None:
    """Whether own code that a record or a checkpoint names may be run."""
    parser.add_argument("--trust", action="store_true",
                        help="run the own code (module:object) that the run names; without it nothing that a record, a "
                             "checkpoint or a sweep's folder names is ever imported")


def recipe_options(parser: Parser) -> None:
    """What is set in a recipe, and what is written down while it trains."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="another value for a key of the recipe, as in its file: --set wd=1e-4, --set "
                             "source_settings.tau=0.02; may be given for several keys; `minimask sweep` takes several "
                             "values, KEY=VALUE,VALUE, and trains every combination")
    parser.add_argument("--epoch-0", action="store_true",
                        help="measure the net before its first step, too; the record keeps it as \"epoch_0\"")
    parser.add_argument("--log", action="store_true", help="write log.jsonl into a run's folder, a line an epoch")
    parser.add_argument("--every-step", action="store_true", help="the same with a line a step, too")
    parser.add_argument("--tensorboard", action="store_true",
                        help="write TensorBoard's event files, too (needs tensorboardX)")


def log_of(options: Any) -> Log | None:
    """What log is asked for."""
    if not (options.log or options.every_step or options.tensorboard):
        return None
    return Log(options.every_step, options.tensorboard)


def load_data(recipe: recipes.Recipe, options: Any) -> data.Dataset:
    """The data set of a recipe from --data; what there is to say of it is said on stderr."""
    with _told():
        return data.load(recipe.dataset, options.data, options.allow_unverified, recipe.dataset_settings,
                         meter=_meter(options), cache=getattr(options, "cache", False),
                         known=getattr(options, "known", ""))


def other_data(name: str, options: Any) -> data.Dataset:
    """The data set of a name that no recipe says; see load_data."""
    with _told():
        return data.load(name, options.data, options.allow_unverified, meter=_meter(options))


def load_data_of(folder: Path, record: dict[str, Any], options: Any) -> data.Dataset:
    """The data set that a run was trained on, as its images were preprocessed; see load_data."""
    code = own.trusted(record, folder) if getattr(options, "trust", False) else None
    how = str(record.get("data", {}).get("preprocess", ""))
    if code is None and own.is_own(how):
        raise own.untrusted(f"the preprocessing of {folder}", how)
    with _told():
        return runs.dataset_of(folder, record, options.data, options.allow_unverified, _meter(options), code)


def _meter(options: Any) -> Meter:
    return Meter(None if getattr(options, "quiet", False) else sys.stderr, unit="pictures")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What is warned of in the block is said on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        print(f"minimask: {escape.line(warning.message)}", file=sys.stderr)


def read_net(file: str, backend: str = "numpy") -> export.Exported:
    """The net in a file of ours, whatever its kind, or in the zoo."""
    if Path(file).suffix not in READERS:
        return export.load(zoo.path_of(file), backend)
    if backend != "numpy":
        raise UsageError(f"--backend {backend}: {file} is read into NumPy; export the run as .mmk for another library")
    found = read(file)
    outputs = math.prod(list(found.net.shapes.values())[-1])
    return export.Exported(found.net, found.classes or tuple(map(str, range(outputs))), "", {}, os.path.getsize(file),
                           found.prepare, found.answers)


def say_untrained(folder: Path, record: dict[str, Any]) -> None:
    """Says on stderr where a run has no whole epoch: its net is the one that it began with."""
    if not record["epochs"]:
        print(f"minimask: {escape.line(folder)} has no whole epoch, for training was cut short before: its net is as "
              "it was drawn, untrained", file=sys.stderr)


def on_data(recipe: recipes.Recipe, options: Any) -> recipes.Recipe:
    """The recipe on the data set of --dataset: with none of the settings that another one had, but those of a run that
    is resumed."""
    if options.dataset is None:
        return recipe
    if options.dataset.removesuffix(data.VALIDATION) == recipe.dataset.removesuffix(data.VALIDATION):
        return replace(recipe, dataset=options.dataset)
    return replace(recipe, dataset=options.dataset, dataset_settings=getattr(options, "dataset_settings", None) or {})


def run(recipe: recipes.Recipe, dataset: data.Dataset, folder: Path | None, overwrite: bool, options: Any, seed: int,
        library: str = "numpy", **how: Any) -> Any:
    """Trains, as `how` says beside (runs.run); when it is cut short, the error says what was kept, where, and how to
    go on."""
    progress = None if options.quiet else train.Progress(recipe.name)
    resume = getattr(options, "resume", None)  # None: the demo, which takes seconds and is begun anew
    shrink = False if options.no_shrink or (not resume and getattr(options, "plain", False)) else None  # as it began
    before = None if resume else _written(folder)
    try:
        with warnings_as_sentences(), in_words(lambda: f"interrupted while training {recipe.name}; "
                                               f"{_kept(folder, before, options)}"):
            return runs.run(recipe, dataset, seed, folder, overwrite, library, progress, bool(resume), shrink=shrink,
                            **how)
    except (train.TrainingError, OutOfMemory, own.OwnError) as error:
        begun = folder is not None and (folder / runs.CHECKPOINT).exists()
        raise MinimaskError(f"{error}{f', saved in {folder}' if begun else ''}") from error


def _written(folder: Path | None) -> tuple[int, int] | None:
    """What tells one checkpoint in a folder from another; None where there is none."""
    try:
        status = (folder / runs.CHECKPOINT).stat() if folder is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_ino, status.st_mtime_ns)


def _kept(folder: Path | None, before: tuple[int, int] | None, options: Any) -> str:
    """What there is of a run that a signal has ended, and how to go on with it.

    Args:
        before: the checkpoint of an earlier run that it replaces.
    """
    if folder is None:
        return "what was finished before is kept"
    again = getattr(options, "resume", None) is not None
    now = _written(folder)
    if now is None:
        begin = f"; to begin: {shlex.join([*going_on(folder, options), *_of_a_beginning(options)])}" if again else ""
        return f"it had not begun, and nothing is kept{begin}"
    if now == before:
        return f"it had not begun, and {folder} holds what it held; the same command begins"
    whole = "the record so far and the network of its last whole epoch are"
    if not (folder / "network.npz").exists():  # Ctrl-C once more, while they were written
        whole = "its last checkpoint is"
    return f"{whole} in {folder}" + (f"; to go on: {shlex.join(going_on(folder, options))}" if again else "")


def going_on(folder: Path, options: Any) -> list[str]:
    """The command that goes on with a run of `minimask train`."""
    words = ["minimask", "train", options.recipe, "--resume"]
    words += ["--out", str(folder)] if options.recipe != str(folder) else []  # --resume RUN
    words += ["--data", options.data] if options.data else []
    words += ["--allow-unverified"] if options.allow_unverified else []
    words += ["--threads", str(options.threads)] if options.threads else []
    words += ["--plain"] if options.plain else []
    words += ["--trust"] if options.trust else []
    return words + [word for each in options.set for word in ("--set", each)]


def _of_a_beginning(options: Any) -> list[str]:
    """The words that a run which goes on does not need, since it has them in its folder."""
    values = {name: getattr(options, name) for name in ("seed", "init_seed", "order_seed", "epochs", "dataset",
                                                        "backend")}
    given = [f"--{name}={value}" for name, value in values.items() if value is not None]
    given += [f"--{name}" for name in ("epoch_0", "log", "every_step", "tensorboard", "no_shrink")
              if getattr(options, name)]
    return [word.replace("_", "-", word.partition("=")[0].count("_")) for word in given]


@contextlib.contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Inside the block minimask's own warnings are told like its errors, as they come; others stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # told once each, and never an error
        others = warnings.showwarning

        def show(message: Any, category: Any, *where: Any) -> None:
            if category is UserWarning:
                print(f"minimask: {escape.line(message)}", file=sys.stderr)
            else:
                others(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def layer_table(record: dict[str, Any]) -> str:
    """The layers at the end of a record: weights, kept, hidden, inverted and the share left, and their sums.

    Where the record counts units that are dead for ever, how many.
    """
    layers = record["epochs"][-1]["layers"]
    parts = ("weights", "kept", "hidden", "inverted")
    total = {"name": "all", **{part: sum(layer[part] for layer in layers) for part in parts}}
    rows = [(row["name"], *(f"{row[part]:,}" for part in parts), f"{1 - row['hidden'] / row['weights']:.1%}")
            for row in (*layers, total)]
    if any("dead" in layer for layer in layers):
        dead = [row.get("dead") for row in layers]
        dead.append(sum(filter(None, dead)))
        rows = [(*row, "" if count is None else f"{count:,}") for row, count in zip(rows, dead)]
        return "\n".join(columns([("layer", *parts, "left", "dead units"), *rows]))
    return "\n".join(columns([("layer", *parts, "left"), *rows]))


def say_files(folder: Path, net: Any, record: dict[str, Any], dataset: data.Dataset, *more: str) -> None:
    """Draws the pictures; prints what is in the folder, and the run's digest."""
    try:
        pictures, reason = runs.write_pictures(folder, net, record, dataset), ""
    except plot.MissingMatplotlib as error:
        pictures, reason = [], f" ({error})"
    names = ["record.json", "network.npz", runs.CHECKPOINT, *pictures, *more]
    print(f"in {escape.line(folder)}/: {', '.join(names)}{reason}")
    print(f"digest {runs.peek(folder)[1][:16]}")
