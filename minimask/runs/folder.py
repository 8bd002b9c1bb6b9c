"""A run's folder: training a recipe into it, and reading it back.

A folder holds ``record.json`` (rewritten after every epoch), ``network.npz`` (every array of the net at the end of
the record's last epoch; written when training ends or is cut short), ``checkpoint.npz`` (the state of the run at its
very step, to resume from) and, where matplotlib is installed, ``masks.png`` and ``training.png``. Nothing is pickled,
no file is ever half there, and one process at a time has the folder.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint, data, fields, files, losses, own, plot, recipes, train
from ..data import Dataset
from ..errors import MinimaskError, UsageError
from ..log import BEGINS, Log, event_files, listeners
from ..nn import Sequential
from ..plateau import Plateau
from . import described, images, schema

#: What tells of the end of a run, and all that a run leaves.
END = ("network.npz", "masks.png", "training.png", "evaluation.json", "mistakes.png")
#: Preprocessing that has learned nothing from the training images.
UNLEARNED = ("image", "none")
CHECKPOINT, LOG = "checkpoint.npz", "log.jsonl"
FILES = ("record.json", *END, CHECKPOINT, images.LEARNED, "dense.json", LOG)


def run(recipe: recipes.Recipe, dataset: Dataset, seed: int, out: str | Path | None = None, overwrite: bool = False,
        backend: str = "numpy", progress: train.Progress | None = None, resume: bool = False,
        every: float = 30.0, shrink: bool | None = None, init_seed: int | None = None, order_seed: int | None = None,
        made: Mapping[str, Any] | None = None, epoch_0: bool = False,
        log: Log | None = None) -> tuple[Sequential, dict[str, Any]]:
    """Trains a recipe from a seed; returns the net and its record, and keeps both in folder `out` if one is given.

    Args:
        resume: go on where the checkpoint in `out` stands, see :func:`minimask.train.fit`. every: seconds between two
            checkpoints. shrink: train on without the units that are dead for ever; as the run began when it is resumed,
            else yes, unless said.
        init_seed: draws frozen weights and scores in place of `seed`: those of the run with that seed.
        order_seed: draws the order of the images and their augmentation in place of `seed`: that of the run with that
            seed. made: what was set to make this recipe (:meth:`minimask.recipes.grid.Cell.as_dict`), for the record.
        epoch_0: measure the net before its first step, too. log: what is kept beside the record, in `out`; a run that
            is resumed goes on with the log that it has.

    Raises:
        UsageError: `out` holds a run already and neither `overwrite` nor `resume` is set, or holds none to resume, or
            cannot be written to.
        MinimaskError: another process is at work in `out`.
        TrainingError, KeyboardInterrupt: training was cut short; record and net of the last whole epoch are in `out`,
            and the very step in its checkpoint; none of them before there is a first checkpoint.
    """
    if out is None and log is not None:
        raise UsageError("a log lies in the run's folder: say which, out=FOLDER")
    dataset = recipe.prepared(dataset)
    net, rng = drawn(recipe, dataset, seed, init_seed, order_seed, backend)
    optimizer, judge = recipe.optimizer_of(net, dataset), recipe.judge()
    told: dict[str, Any] = {"loss": judge.loss, "metric": judge.metric, "test_loss": judge.test_loss}
    record = train.new_record(recipe.as_dict(), int(seed), dataset.name, net)
    record["environment"] |= own.environment(recipe.own_code().values(), recipe.code, Path(out) if out else None)
    if {"model", "source"} & recipe.own_code().keys():
        record["net"] = described.describe(net)
    record |= {name: int(value) for name, value in (("init_seed", init_seed), ("order_seed", order_seed))
               if value is not None}
    record |= {"made": dict(made)} if made else {}
    record["environment"] |= {"data": dataset.path} if dataset.path else {}
    if not dataset.verified:
        record["unverified"] = True  # not known to be the official files
    if out is None:
        with own.blamed():
            return net, train.fit(net, dataset, optimizer, recipe.epochs, rng, recipe.batch, record, progress,
                                  augment=recipe.augment, shrink=shrink is not False, epoch_0=epoch_0, **told)
    folder = Path(out)
    if resume:
        began, _ = peek(folder)
        shrink = bool(began["record"].get("shrink")) if shrink is None else shrink

    def keep(record: dict[str, Any]) -> None:
        try:
            for path in (folder / name for name in END):
                path.unlink(missing_ok=True)  # of an earlier end of this run: it would not agree with a longer record
            _remove_anatomy(folder)
            write_record(folder, record)
        except (OSError, files.WriteError) as error:
            warnings.warn(f"{error}; training goes on", UserWarning, stacklevel=2)

    with files.locked(folder), own.blamed():
        if not resume:
            claim(folder, overwrite)
            images.keep(folder, dataset.prepare)
        epochs = record["epochs"]
        try:
            train.fit(net, dataset, optimizer, recipe.epochs, rng, recipe.batch, record, progress, keep,
                      folder / CHECKPOINT, resume, every, recipe.augment, shrink is not False, epoch_0,
                      listeners(folder / LOG, log, resume), **told)
        finally:
            taken_up = record["epochs"] is not epochs if resume else (folder / CHECKPOINT).exists()
            if isinstance(optimizer.schedule, Plateau) and optimizer.schedule.finished and recipe.own_code():
                record["ended"] = True
            if taken_up:  # else there is nothing to go on with, and what is there stays
                write_record(folder, record)
                write_network(folder, net)
            elif not resume:
                for path in [folder / LOG, *(event_files(folder) if log and log.tensorboard else [])]:
                    path.unlink(missing_ok=True)
    return net, record


def drawn(recipe: recipes.Recipe, dataset: Dataset, seed: int, init_seed: int | None = None,
          order_seed: int | None = None, backend: str = "numpy") -> tuple[Sequential, np.random.Generator]:
    """A run's net, and the generator that the order of its images comes from.

    One generator draws both, the net first. With a seed for each, both are what the run with that one seed has: so
    weights of seed 1 in the order of seed 2 share their weights with run 1 and their order with run 2, to the bit.

    Raises UsageError for a seed below 0.
    """
    for given in (seed, init_seed or 0, order_seed or 0):
        if given < 0:
            raise UsageError(f"seed {given}: give a whole number, 0 or more")
    rng = np.random.default_rng(seed if init_seed is None else init_seed)
    net = recipe.build(dataset, rng, backend)
    if init_seed is not None or order_seed is not None:
        ordered = np.random.default_rng(seed if order_seed is None else order_seed)
        recipe.build(dataset, ordered)  # for what is drawn before the order
        rng.bit_generator.state = ordered.bit_generator.state  # the very generator that a layer of one's own may hold
    return net, rng


def name_of(recipe: str, seed: int | None, init_seed: int | None = None, order_seed: int | None = None) -> str:
    """What a run's folder is called."""
    return (recipe + ("" if seed is None else f"-seed{seed}") + ("" if init_seed is None else f"-init{init_seed}")
            + ("" if order_seed is None else f"-order{order_seed}"))


def called(record: Mapping[str, Any]) -> str:
    """What a run is called: its recipe's name, or of one from Python what runs.save was given."""
    return str(record["recipe"].get("name") or record.get("name") or "a net without a name")


def loss_of(record: Mapping[str, Any], code: own.Code | None = None) -> losses.Loss | str:
    """What a run minimised; only its name where that is own code, and a recipe's `code` gives no leave to import it.

    Raises UsageError for settings that such a loss has not.
    """
    if record["recipe"]:
        recipe = recipes.from_dict(record["recipe"], code)
        return recipe.loss if own.is_own(recipe.loss) and code is None else recipe.loss_of()
    told = dict(record.get("loss", {"name": "cross-entropy"}))
    name = told.pop("name")
    if name not in losses.LOSSES:
        return str(name)
    try:
        return losses.LOSSES[name](**told)
    except TypeError as error:
        raise UsageError(f"the record says loss {name!r} with settings that it has not: {error}") from error


def finished(record: dict[str, Any]) -> bool:
    """Whether a record has all epochs of its recipe, or its plateau schedule has made the last cut.

    A run from Python has the epochs that it has.
    """
    if not record["recipe"]:
        return True
    recipe = recipes.from_dict(record["recipe"])
    if "schedule" in recipe.own_code():  # what it says is not asked: that would run it
        return len(record["epochs"]) >= recipe.epochs or record.get("ended") is True
    schedule = recipe.schedule_of(1)
    if isinstance(schedule, Plateau):
        for entry in record["epochs"]:
            schedule.observe(entry["train_loss"])
        if schedule.finished:
            return True
    return len(record["epochs"]) >= recipe.epochs


def peek(folder: Path) -> tuple[dict[str, Any], str]:
    """What the checkpoint in a run's folder says of the run, and its digest; see :func:`minimask.checkpoint.peek`."""
    if not (folder / CHECKPOINT).exists():
        raise UsageError(f"{folder} holds no {CHECKPOINT}, so there is nothing to resume; begin without --resume, "
                         "or say with --out where the run is")
    return checkpoint.peek(folder / CHECKPOINT)


def claim(folder: Path, overwrite: bool) -> None:
    """Makes a folder ready for a new run; the files of an old one go only with `overwrite`, others always stay."""
    # all that a run leaves which was killed before its first checkpoint: it has made no step
    barely = not any((folder / name).exists() for name in FILES if name != LOG) and files.begins_with(
        folder / LOG, BEGINS)
    present = files.claim(folder, "a run already", "give another folder with --out, --resume to go on with it, or "
                          "--overwrite to replace it", FILES, lambda path: overwrite or (path.name == LOG and barely))
    try:
        events = event_files(folder) if folder / LOG in present else []
        for path in [*present, *events]:
            path.unlink()
        _remove_anatomy(folder)
        if events:
            _remove_if_empty(events[0].parent)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to ({error.strerror}); give another folder with --out") from error


def _anatomy(folder: Path) -> list[Path]:
    """The files of an earlier inspection of the run in its folder, a page that says itself what else belongs to it."""
    page = folder / "anatomy" / "index.html"
    if page.parent.is_symlink() or page.is_symlink() or not files.begins_with(page, 'content="minimask inspect"'):
        return []
    figures = re.findall(r'<figure id="([a-z]+)">', page.read_text(encoding="utf-8", errors="replace"))
    others = [page.with_name("anatomy.json"), *(page.with_name(f"{name}.png") for name in figures)]
    return [*(path for path in others if path.exists()), page]


def _remove_anatomy(folder: Path) -> None:
    """Removes an earlier inspection of the run, and the folder that it was in unless that holds more."""
    found = _anatomy(folder)
    for path in found:
        path.unlink(missing_ok=True)
    if found:
        _remove_if_empty(folder / "anatomy")


def _remove_if_empty(folder: Path) -> None:
    """Removes a folder that holds nothing; one that holds something, a link, or what is no folder stays."""
    if not folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.rmdir()


def write_record(folder: Path, record: dict[str, Any], name: str = "record.json") -> None:
    """The record as JSON, a line per epoch; NaN is refused, so that every reader of JSON can take it."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
             for key, value in record.items() if key != "epochs"]
    epochs = ",\n  ".join(json.dumps(entry, allow_nan=False) for entry in record["epochs"])
    files.write(folder / name, ("{" + ",\n ".join([*lines, f'"epochs": [\n  {epochs}]']) + "}\n").encode())


def write_network(folder: Path, net: Sequential) -> None:
    """Every array of the net, by name, as an .npz of plain arrays."""
    with files.atomically(folder / "network.npz") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        files.write_arrays(archive, {**net.arrays(), **described.more_arrays(net)})


def write_pictures(folder: Path, net: Sequential, record: dict[str, Any], dataset: Dataset) -> list[str]:
    """Draws masks.png (where the first layer is dense and masked) and training.png; returns the files' names.

    Raises plot.MissingMatplotlib where that is so, MinimaskError where a file cannot be written.
    """
    names = []
    masks = net.masks()
    flat = bool(masks) and next(iter(masks.values())).ndim == 2  # a first layer over pixels
    for name, figure in (("masks.png", plot.masks(net, dataset) if flat else None),
                         ("training.png", plot.training(record))):
        if figure is not None:
            files.write(folder / name, plot.png(figure))
            names.append(name)
    return names


def read_record(folder: str | Path) -> dict[str, Any]:
    """The record in a run's folder; whole and within bounds (:mod:`minimask.runs.schema`).

    Raises UsageError where there is none, MinimaskError where it is damaged.
    """
    path = Path(folder) / "record.json"
    if not path.exists():
        raise UsageError(f"{folder} holds no record.json, so it is no run's folder; give one as `minimask train` "
                         "leaves it")
    try:
        record = fields.read(path)
        try:
            schema.record(record)
        except ValueError as error:
            raise ValueError(f"{path.name} {error}") from error
    except ValueError as error:
        raise MinimaskError(f"{folder} holds no whole run: {error}") from error
    return record


def _refuse_other_counts(folder: Path, net: Sequential, record: dict[str, Any]) -> None:
    """MinimaskError unless every layer has the mask that the record's last epoch counts: else its accuracy is not this
    net's."""
    if not record["epochs"]:
        return
    try:
        here = net.layer_counts()
    except ValueError as error:  # a threshold below 0
        raise MinimaskError(f"{folder} holds no whole run: network.npz is of no net ({error})") from error
    counted, there = ({layer.get("name"): tuple(layer.get(part) for part in ("kept", "hidden", "inverted"))
                       for layer in layers} for layers in (record["epochs"][-1]["layers"], here))
    for name in {**there, **counted}:
        if counted.get(name) != there.get(name):
            raise MinimaskError(f"{folder} disagrees with itself: of layer {name} record.json counts "
                                f"{counted.get(name)} kept, hidden and inverted weights, network.npz has "
                                f"{there.get(name)}; one of them is from another run")


def load(folder: str | Path, dataset: Dataset | None = None, backend: str = "numpy", net: Sequential | None = None,
         trust: bool = False) -> tuple[Sequential, dict[str, Any]]:
    """The trained net and the record in a run's folder.

    `dataset`, or one of the same shape, sizes the net of a recipe; without it the name in the record does, and no file
    of data is read. A net whose record describes it, for it was trained from Python or its recipe names own code, is
    built from that, and nothing of own code is run: a mask that an own rule made is there, the rule is not.

    Args:
        backend: where the net lives, 'numpy', 'cupy' or 'strict', wherever it was trained: files hold plain arrays.
        net: takes the arrays, built as the one that was trained; for a net that nothing but Python can build.
        trust: import the own code that the recipe names, and build its net.

    Raises:
        UsageError: there is no run, or its net takes `net` or `trust`. MinimaskError: a file is missing or damaged, or
            the arrays are not those of the record's recipe.
    """
    folder, record = Path(folder), read_record(folder)
    given, told = net is not None, _description(record, trust)
    if net is None and not told and not record["recipe"]:
        raise UsageError(f"{folder} was trained from Python, and its record describes no net: keep such a run with "
                         "runs.save(net, record, DIR), or give the net, runs.load(DIR, net=NET)")
    if net is None and not told and dataset is None:
        dataset = data.blank(record["dataset"], record.get("data"))
    try:
        if net is None:
            net = described.build(told, backend) if told else _built(folder, record, dataset, backend, trust)
        more = given or "net" in record  # network.npz has masks, too
        net.load(files.read_arrays(folder / "network.npz", files.headers(net.arrays()), more))
    except (own.Untrusted, own.OwnError):
        raise
    except described.Unknown as error:
        raise described.Unknown(f"{folder}: {error}") from error
    except (OSError, ValueError, TypeError, MinimaskError) as error:
        if given:
            raise MinimaskError(f"{folder} holds no arrays of the net that was given: {error}") from error
        if dataset is not None and record["dataset"] != dataset.name:
            raise MinimaskError(f"{folder} holds a run on {record['dataset']}, but the data set given is "
                                f"{dataset.name}: give the one it was trained on ({error})") from error
        raise MinimaskError(f"{folder} holds no whole run: {error}; needed are record.json and network.npz "
                            "as `minimask train` writes them") from error
    _refuse_other_counts(folder, net, record)
    return net, record


def _description(record: Mapping[str, Any], trust: bool) -> dict[str, Any] | None:
    """What a record says of its net, where that is to be built from it: not where a recipe's tables or code will do."""
    told = record.get("net")
    if told is None or (record["recipe"] and (trust or "unknown" in told)):
        return None
    return told


def _built(folder: Path, record: dict[str, Any], dataset: Dataset | None, backend: str, trust: bool) -> Sequential:
    """The net of a record's recipe, its arrays still to be loaded."""
    recipe = schema.recipe_of(record)
    if trust:
        recipe = recipes.from_dict(record["recipe"], own.trusted(record, folder))
    dataset = data.blank(record["dataset"], record.get("data")) if dataset is None else dataset
    schema.agree(record, recipe, dataset)
    return recipe.build(dataset, np.random.default_rng(0), backend)


def save(net: Sequential, record: Mapping[str, Any], folder: str | Path, dataset: Dataset | None = None,
         name: str | None = None, seed: int | None = None, overwrite: bool = False) -> None:
    """Keeps what was trained from Python in a folder, as `minimask train` does: record.json and network.npz.

    Every command that needs no more takes such a folder, and :func:`load` gives the net back: its record describes it.

    Args:
        record: what :func:`minimask.train.fit` returned for this net.
        dataset: it was trained on; its name, its classes and whether it is verified go into the record, so that
            commands find it again. name: what to call the run in reports; the folder's name unless given.
        seed: that net and order were drawn from, for reports, which average over seeds, and for exports of frozen
            weights of several magnitudes, which draw them again.
        overwrite: replace the run that is in the folder already.

    Raises:
        UsageError: the record is of another net, or has no epoch; a name that is none; the folder holds something.
    """
    folder = Path(folder)
    kept = {**record, "name": folder.resolve().name if name is None else name, "net": described.describe(net)}
    if seed is not None:
        kept["seed"] = int(seed)
    if dataset is not None:
        kept |= {"dataset": dataset.name, **({} if dataset.verified else {"unverified": True})}
        kept |= {"data": train.described(dataset)} if train.is_own(dataset) else {}
        kept["environment"] = {**kept.get("environment", {}), **({"data": dataset.path} if dataset.path else {})}
    elif "data" in kept and kept["data"].get("preprocess") not in (*UNLEARNED, None):
        raise UsageError(f"save: the images were preprocessed by {kept['data']['preprocess']!r}, which has learned "
                         "from the training images: give the data set, dataset=")
    kept["recipe"] = dict(kept.get("recipe", {}))
    try:
        schema.record(json.loads(json.dumps(kept, allow_nan=False)))
        _refuse_other_counts(folder, net, kept)
        if not kept["epochs"]:
            raise ValueError("has no epoch")
    except (MinimaskError, ValueError, TypeError) as error:
        raise UsageError(f"save: the record is not of this net, or of no training ({error}); give the net and what "
                         "train.fit returned for it") from error
    with files.locked(folder):
        claim(folder, overwrite)
        if dataset is not None:
            images.keep(folder, dataset.prepare)
        write_network(folder, net)
        write_record(folder, kept)
