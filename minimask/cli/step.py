"""`minimask step [RECIPE or RUN]`: one training step, op by op, as a page to step through in a browser."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint, escape, files, own, recipes, runs, train
from ..data import Dataset
from ..data import augment as augmented
from ..errors import UsageError
from ..loop import Training, to_net
from ..losses import refuse_targets
from ..mishaps import uninterrupted
from ..plot import recording, stepper
from .common import Parser, load_data, load_data_of, trust_option, whole_number

#: Words for a step of a run, and what the page calls them.
WORDS = {"start": "before training", "middle": "in the middle", "end": "at the end"}
#: What every such page says near its beginning; nothing else is written over.
SIGN = '<meta name="generator" content="minimask step">'


def command(words: Sequence[str]) -> None:
    """Trains up to every step that is asked for, records it, writes the page, and says where it is."""
    options: Any = _parser().parse_args(words)
    out, folder = Path(options.out), Path(options.what or "digits")
    refuse_foreign(out)
    run = (folder / "record.json").exists() or folder.is_dir()
    record = runs.read_record(folder) if run else None
    if record and not record["recipe"]:
        raise UsageError(f"{folder} was trained from Python, and no recipe says how its steps are made: the page is of "
                         "a recipe, or of a run of one")
    if record:
        recipe = recipes.from_dict(record["recipe"], own.trusted(record, folder) if options.trust else None).resolve()
    else:
        recipe = recipes.find(options.what or "digits", options.trust).resolve()
    dataset = load_data_of(folder, record, options) if record else recipe.prepared(load_data(recipe, options))
    if recipe.loss != "cross-entropy" or recipe.loss_settings:
        raise UsageError(f"the page shows a step of plain cross-entropy, but {recipe.name} minimises {recipe.loss}; "
                         "take a recipe without loss and loss_settings")
    refuse_targets("step", dataset)
    training = _training(recipe, dataset, record["seed"] if record else options.seed or 0)
    at = options.at or ([] if record else ["start"] if options.what else list(WORDS))
    if at:
        moments = list(_moments(training, recipe, at, options))
    else:
        resume(training, folder)
        moments = [("the step after its last", _recorded(training, options.image))]
    of = recipe.name if recipe.name == dataset.name else f"{recipe.name} on {dataset.name}"
    title = f"One training step of {escape.line(of)}"
    page = stepper.page(moments, training.net, title, dataset.classes, recipe.epochs * training.steps if at else 0)
    files.write(out, page.encode())
    steps = ", ".join(f"{each.number:,}" for _, each in moments)
    print(f"{out}: step {steps} of {escape.line(of)}, {len(page.encode()):,} bytes; open it in a browser")


def resume(training: Training, folder: Path) -> None:
    """Puts the run where its checkpoint stands."""
    began, _ = runs.peek(folder)
    if began["record"].get("shrink"):  # it may train a smaller net; here the whole one does the step
        training.record["shrink"] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of last digits, which depend on threads
        checkpoint.restore(training, folder / runs.CHECKPOINT, training.record["recipe"]["epochs"])


def refuse_foreign(out: Path) -> None:
    """UsageError where the file is there and no page of ours, or has no folder to lie in."""
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}; make it, or give another name with --out")
    if out.is_dir() or (out.exists() and SIGN.encode() not in out.read_bytes()[:1000]):
        raise UsageError(f"{out} is there already, and is no page of `minimask step`; give another name with --out")


def _training(recipe: recipes.Recipe, dataset: Dataset, seed: int) -> Training:
    """The run as `minimask train` sets it up, before its first step."""
    rng = np.random.default_rng(seed)
    net = recipe.build(dataset, rng)
    record = train.new_record(recipe.as_dict(), seed, dataset.name, net)
    return Training(net, dataset, recipe.optimizer_of(net, dataset), rng, recipe.batch, record, recipe.augment,
                    recipe.judge())


def _moments(training: Training, recipe: recipes.Recipe, at: Sequence[str | int],
             options: Any) -> Iterator[tuple[str, recording.Recording]]:
    """Trains from the start, and records the steps that are asked for, each in its words."""
    total = recipe.epochs * training.steps
    numbers: dict[str, Any] = {"start": 1, "middle": max(1, total // 2), "end": total}
    wanted = {numbers.get(str(each), each): WORDS.get(str(each), "") for each in at}
    if max(wanted) > total:
        raise UsageError(f"--at {max(wanted)}: {recipe.name} has {total:,} steps, {recipe.epochs} epochs of "
                         f"{training.steps}; give one of them")
    progress = None if options.quiet else train.Progress(recipe.name)
    for number in sorted(wanted):
        while training.optimizer.steps < number - 1:
            if training.finished(recipe.epochs):  # a schedule may end a run before
                raise UsageError(f"--at {number}: the run ends at step {training.optimizer.steps:,}; give one before")
            with uninterrupted():
                loss = training.train_step()
            if progress:
                progress.step(training.epoch, training.step, training.steps, loss)
            if training.step == training.steps:
                training.end_epoch()
        yield wanted[number] or "training", _recorded(training, options.image)
    if progress:
        progress.stop()


def _recorded(training: Training, image: int) -> recording.Recording:
    """The step that comes next, recorded; the run stands afterwards where it stood."""
    bits, images = training.rng.bit_generator.state, training.dataset.train_images
    order = training.order if len(training.order) else training.rng.permutation(len(images))
    chosen = order[training.step * training.batch:(training.step + 1) * training.batch]
    raw = augmented(images[chosen], training.rng) if training.augment else images[chosen]
    training.rng.bit_generator.state = bits
    return recording.record(training.net, to_net(training.net, training.dataset.prepare(raw)),
                            training.dataset.train_labels[chosen], training.optimizer, image)


def _moment(text: str) -> str | int:
    """The type of --at."""
    if text in WORDS:
        return text
    if text.isdigit() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no step: give a number from 1 up, or {', '.join(WORDS)}")


def _parser() -> Parser:
    parser = Parser(prog="minimask step",
                    description="One training step, op by op, as a page to step through in a browser: forward,\n"
                                "backward, the optimizer's update, with the source of every op and the numbers of a\n"
                                "real step. Any of the weights shown can be followed on its way.",
                    epilog="examples:\n  minimask step              # the demo's net: first, middle and last step\n"
                           "  minimask step fcn --data DIR --at 1 --at 500\n"
                           "  minimask step runs/demo    # the step that would come next\n"
                           "To reach a step of a recipe it is trained from the start. The page is one file that needs\n"
                           "nothing else.")
    parser.add_argument("what", nargs="?", metavar="RECIPE or RUN",
                        help="a recipe's name or .toml file, or the folder of a run (default: the demo's recipe)")
    parser.add_argument("--out", metavar="FILE", default="step.html", help="the page (default: step.html)")
    parser.add_argument("--image", type=whole_number(0), default=0, metavar="N",
                        help="which image of the batch is shown, from 0 (default: 0)")
    parser.add_argument("--at", type=_moment, action="append", metavar="STEP",
                        help="a step of training, from 1, or start, middle, end; may be given several times (default: "
                             "the first; of a run the one after its last)")
    parser.add_argument("--seed", type=whole_number(0), metavar="S",
                        help="of a recipe's weights and batches (default: 0)")
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--allow-unverified", action="store_true",
                        help="take data files whose content is not the official one, and say so")
    trust_option(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress while it runs")
    return parser
