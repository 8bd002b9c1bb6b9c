"""`minimask train RECIPE`: one run, in words."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import backend, escape, files, own, recipes, runs
from ..display import MARK, result
from ..errors import UsageError
from ..fast.threads import blas_threads
from ..mishaps import in_words
from ..recipes import grid
from .common import (
    Parser,
    data_options,
    going_on,
    layer_table,
    load_data,
    log_of,
    on_data,
    recipe_options,
    run,
    say_files,
    shared_options,
    trust_option,
)


def command(words: Sequence[str]) -> None:
    """Trains, prints a table per layer and the accuracy, and says where everything is."""
    options: Any = _parser().parse_args(words)
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: give one of them")
    if None not in (options.seed, options.init_seed, options.order_seed):
        raise UsageError("--init-seed and --order-seed leave nothing for --seed to draw; leave one of the three out")
    told = [f"interrupted before it began; the same command begins: {shlex.join(['minimask', 'train', *words])}"]
    with in_words(lambda: told[-1]):
        _train(options, told)


def _train(options: Any, told: list[str]) -> None:
    """Adds to `told` what a signal is to be answered with from then on."""
    log = log_of(options)
    recipe, folder, made = _chosen(options)
    digest = _as_it_was(options, folder, recipe.name) if options.resume else ""
    if options.epochs is not None:
        recipe = replace(recipe, epochs=options.epochs)
    recipe = on_data(recipe, options)
    seed, library = options.seed or 0, options.backend or "numpy"
    backend.load(library)
    dataset = load_data(recipe, options)
    settings = ", ".join(f"{name} {value}" for name, value in recipe.source_settings.items())
    seeds = f"seed {seed}" + "".join(f", {name} of seed {value}" for name, value in (
        ("weights", options.init_seed), ("order", options.order_seed)) if value is not None)
    print(f"{recipe.name}: {recipe.model} on {dataset.name}, {recipe.source} ({settings}), {recipe.epochs} epochs, "
          f"{seeds}")
    with files.locked(folder), blas_threads(1 if options.plain else options.threads), \
            backend.plain() if options.plain else contextlib.nullcontext():
        net, record = run(recipe, dataset, folder, options.overwrite, options, seed, library, made=made, log=log,
                          init_seed=options.init_seed, order_seed=options.order_seed, epoch_0=options.epoch_0)
        told.append(f"interrupted when {recipe.name} was trained to its end, which is in {folder}; its table and "
                    f"pictures: {shlex.join(going_on(folder, options))}")
        if digest == runs.peek(folder)[1]:
            print(f"it was finished already, after {len(record['epochs'])} epochs; a larger --epochs N trains on")
        print(layer_table(record))
        end = record["epochs"][-1]
        print(f"{result(end, dataset.name, MARK * (not dataset.verified))} with "
              f"{end['weights_left']:.2%} of the weights left")
        say_files(folder, net, record, dataset)


def _chosen(options: Any) -> tuple[recipes.Recipe, Path, dict[str, Any] | None]:
    """What is trained, where, and what was set to make it: a recipe in a folder, or with --resume the run in a folder,
    whose recipe it has."""
    name = options.recipe
    if options.resume and name not in recipes.RECIPES and (not name.endswith(".toml") or Path(name).is_dir()):
        if not (Path(name) / runs.CHECKPOINT).exists():
            if (Path(name) / "record.json").exists() and not runs.read_record(name)["recipe"]:
                raise UsageError(f"{name} was trained from Python and kept without a checkpoint, so only its script "
                                 "can train it on: train.fit(..., checkpoint=FILE, resume=True)")
            raise UsageError(f"{name} is the folder of no run and the name of no recipe: say which run is to go on, "
                             "train --resume RUN, or what is to be begun where there is none, train RECIPE --resume "
                             "--out DIR (`minimask recipes` lists recipes)")
        if options.out is not None:
            raise UsageError(f"{name} is the run that is to go on, in its own folder: leave out --out {options.out}")
        if options.set:
            raise UsageError(f"{name} is the run that is to go on, with the recipe that it has: leave out --set "
                             f"{options.set[0]}")
        record = runs.peek(Path(name))[0]["record"]
        code = own.trusted(record, Path(name)) if options.trust else None
        return recipes.from_dict(record.get("recipe", {}), code).resolve(), Path(name), None
    recipe, made = on_data(recipes.find(name, options.trust), options), None
    if options.set:
        cells = grid.cells(recipe, grid.choices(options.set))
        if len(cells) > 1:
            raise UsageError(f"--set gives {len(cells)} recipes, and train takes one; `minimask sweep` trains all of "
                             "them")
        recipe, made = cells[0].recipe, cells[0].as_dict()
    called = runs.name_of(recipe.name, options.seed or 0, options.init_seed, options.order_seed)
    return recipe.resolve(), Path(options.out or f"runs/{called}"), made


def _as_it_was(options: Any, folder: Path, name: str) -> str:
    """Fills the options that were not given from the run in the folder, and says where it stands: -> its digest.

    Where there is no run yet, --resume is taken back: so the command that begins a run also goes on with it.
    """
    if not (folder / runs.CHECKPOINT).exists():
        if (folder / "record.json").exists():
            raise UsageError(f"{folder} holds a run without {runs.CHECKPOINT}, which cannot go on; begin it anew with "
                             "--overwrite in place of --resume, or name another folder with --out")
        print(f"{escape.line(folder)} holds no run yet: it begins")
        options.resume = False  # not None: what is said when it is stopped names --resume all the same
        return ""
    run, digest = runs.peek(folder)
    record, recipe = run["record"], run["record"].get("recipe", {})
    if recipe.get("name") != name:
        raise UsageError(f"{folder} holds a run of recipe {recipe.get('name')!r}, but {name!r} was asked for; resume "
                         "it with its own recipe, or name another folder with --out")
    if options.epochs is not None and options.epochs < recipe.get("epochs", 0):
        raise UsageError(f"--epochs {options.epochs} is fewer than the {recipe['epochs']} that the run in {folder} was "
                         "begun for; give as many or more, or leave it out")
    library = record.get("environment", {}).get("backend")
    was = {"seed": record.get("seed"), "epochs": recipe.get("epochs"),
           "dataset": record.get("dataset"), "init_seed": record.get("init_seed"),
           "order_seed": record.get("order_seed"),
           "backend": next((name for name, module in backend.LIBRARIES.items() if module == library), None)}
    for name, value in was.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.dataset == was["dataset"]:
        options.dataset_settings = recipe.get("dataset_settings")
        options.known = str(record.get("environment", {}).get("data") or "")
    print(f"{escape.line(folder)} holds a run after {len(record['epochs'])} epochs and {run['step']} steps, "
          f"digest {digest[:16]}")
    return digest


def _parser() -> Parser:
    parser = Parser(prog="minimask train",
                    description="Train one recipe and keep its record, its network and pictures of it in a folder.",
                    epilog="`minimask recipes` lists the recipes.\n\n"
                           "example:\n  minimask train fcn --data DIR --seed 0 --out runs/fcn-0\n"
                           "  where DIR/mnist/ holds the four MNIST files (train-images-idx3-ubyte.gz, ...);\n"
                           "  `minimask data fetch mnist --data DIR` gets them\n"
                           "  minimask train --resume runs/fcn-0 --data DIR    (goes on with it)")
    parser.add_argument("recipe", help="what to train: a name that `minimask recipes` lists, or a file NAME.toml; with "
                                       "--resume the folder of a run will do, which knows its recipe and seed")
    data_options(parser)
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run in the folder where it was stopped, or begin where there is none; "
                             "what is not said stays as it was, but for --threads and --plain, which are said again")
    trust_option(parser)
    parser.add_argument("--plain", action="store_true",
                        help="take the plain version of every op, on one thread: to step through it")
    recipe_options(parser)
    shared_options(parser, "runs/RECIPE-seedS", threads="as NumPy is set up")
    return parser
