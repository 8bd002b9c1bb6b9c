"""Checkpoints: the whole state of a training run in one file, from which it goes on as if it had never stopped.

The file is an ``.npz``, stored and not compressed: one ``.npy`` member per array, and one text, ``run.json``, for
all that is no array. The text begins with what the file promises::

    {"format": 1, "digest": "5f3a...", "text": "07c1...", "arrays": {"net.dense1.scores": ["<f4", [784, 300]], ...},
     "run": {...}}

:func:`load` holds every header to that promise before it takes memory for an array, and then the content to the
digest: sha256 over names, dtypes, shapes and bytes of the arrays and over "run", but for the clock and the machine.
So two runs that computed the same have the same digest, however long they took and however often they stopped.
"text" is the sha256 of "run" alone, the clock too.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files
from .backend import to_host
from .data.preprocess import DEFAULT
from .errors import MinimaskError, UsageError
from .fields import Fields, parse
from .loop import Listener
from .mask import SignedSupermask
from .mishaps import TrainingError, refuse_not_finite
from .plateau import Plateau
from .schedules import described

if TYPE_CHECKING:  # imported where files are read and written: `import minimask` stays quick
    from pathlib import Path
    from zipfile import ZipFile

    from .data import Dataset
    from .loop import Training

#: The layout described above. A file with a higher number is refused.
FORMAT = 1
#: The member that holds the text, and the most bytes that it may have.
TEXT, TEXT_LIMIT = "run.json", 1 << 26
#: What an array may hold.
DTYPES = ("<f4", "<f8", "|i1", "<i4", "<i8", "|u1")
#: Keys of "run", at any depth, that the digest leaves out: where and how fast it was computed.
UNDIGESTED = ("seconds", "environment")
#: The parts of "run" and their types. "schedule": a plateau's state, or else the factor at the next step.
RUN: dict[str, tuple[type, ...]] = {
    "settings": (dict,), "begun": (int,), "step": (int,), "loss_sum": (float,), "right": (int,), "seconds": (float,),
    "steps": (int,), "schedule": (dict, float), "rng": (dict,), "record": (dict,)}
#: What a record of a run holds, as far as it is there, and of which types; its epochs always are.
RECORD: dict[str, tuple[type, ...]] = {
    "recipe": (dict,), "environment": (dict,), "data": (dict,), "seed": (int, type(None)), "dataset": (str, type(None)),
    "init_seed": (int,), "order_seed": (int,), "made": (dict,)}
#: Keys of an environment that say where something lies, which changes nothing of a run.
ELSEWHERE = ("data", "own_folder")
#: At most this share of the time goes into checkpoints, however large the net and slow the disk.
SHARE = 0.02


@dataclass(frozen=True)
class State:
    """All that a run is at one moment: arrays by name, on the host, and "run", plain data for JSON, for the rest."""

    arrays: Mapping[str, np.ndarray]
    run: dict[str, Any]

    def digest(self) -> str:
        """sha256 of the state, 64 hexadecimal digits; the keys UNDIGESTED do not count."""
        import hashlib
        import json

        sha = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            sha.update(json.dumps([name, array.dtype.str, array.shape]).encode())
            sha.update(files.raw(array))
        sha.update(_sha256(_digested(self.run)).encode())
        return sha.hexdigest()


def _sha256(run: dict[str, Any]) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()


def _digested(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _digested(each) for key, each in value.items() if key not in UNDIGESTED}
    return [_digested(each) for each in value] if isinstance(value, (list, tuple)) else value


# ---- from a run and back -------------------------------------------------------------------------------------------


def capture(training: Training, known: dict[str, Any] | None = None) -> State:
    """The state of a run between two steps; `known`: its :func:`settings`, where they are at hand.

    Raises:
        TrainingError: it is not finite. UsageError: its generator is not PCG64.
    """
    net, optimizer, schedule = training.net, training.optimizer, training.optimizer.schedule
    bits = training.rng.bit_generator.state
    if bits["bit_generator"] != "PCG64":
        raise UsageError(f"fit: a checkpoint keeps the state of PCG64, not of {bits['bit_generator']}; "
                         "give rng=numpy.random.default_rng(seed)")
    arrays = {**_prefixed("net.", net.arrays()), **_prefixed("last.", training.last_arrays), "order": training.order,
              **_prefixed("optimizer.", {name: to_host(array) for name, array in optimizer.slots().items()})}
    refuse_not_finite(arrays, training.epoch, training.step)
    run = {"settings": known or settings(training), "begun": training.epochs_before, "step": training.step,
           "loss_sum": training.loss_sum, "right": training.right, "seconds": training.seconds,
           "steps": optimizer.steps, "rng": bits, "record": training.record,
           "schedule": schedule.state() if isinstance(schedule, Plateau) else float(schedule(optimizer.steps)),
           **({"left_out": training.left_out} if training.left_out else {})}
    return State(arrays, run)


def settings(training: Training) -> dict[str, Any]:
    """What must be as it was for a run to go on, beside what :func:`origin` finds in its record."""
    schedule = training.optimizer.schedule
    return {"dataset": training.dataset.name, "images": fingerprint(training.dataset), "batch": training.batch,
            "augment": training.augment, **training.judge.settings(),
            **({"preprocess": training.dataset.prepare.name} if training.dataset.prepare.name != DEFAULT else {}),
            "weights": {name: {"source": type(source).__name__, **source.settings}
                        for name, source in training.net.weights().items()},
            **training.optimizer.settings(), "schedule": described(schedule)}


def fingerprint(dataset: Dataset) -> str:
    """sha256 of the images and labels of a data set."""
    parts = ("train_images", "train_labels", "test_images", "test_labels")
    return State({part: getattr(dataset, part) for part in parts}, {}).digest()


def origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe and seeds of a record; without the number of epochs, since no step depends on it."""
    recipe = {name: value for name, value in record.get("recipe", {}).items() if name not in ("epochs", "about")}
    return {"recipe": recipe, **{name: record.get(name) for name in ("seed", "init_seed", "order_seed")}}


def restore(training: Training, path: str | Path, epochs: int) -> None:
    """Puts a run into the state that a checkpoint holds.

    Args:
        training: set up as that run was, with the same settings. epochs: how many it shall have.

    Raises:
        UsageError: there is no checkpoint, it is of another run, or it has more epochs already.
        MinimaskError: the file is damaged or of a newer format. Either way nothing has changed.
    """
    fresh = capture(training)

    def accept(run: dict[str, Any], promised: dict[str, files.Header]) -> None:
        _check_run(run)
        _refuse_another_run(path, run, fresh.run, training)
        needed = files.headers(fresh.arrays)
        order = promised.get("order")
        if order in (("<i8", (0,)), ("<i8", (len(training.dataset.train_images),))):
            needed["order"] = order
        if promised != needed:
            name = min(name for name in {**needed, **promised} if needed.get(name) != promised.get(name))
            raise UsageError(f"{path} is of another net or optimizer: {name} is {promised.get(name, 'missing')} there, "
                             f"but {needed.get(name, 'unknown')} is needed")
        under_way = len(run["record"]["epochs"]) + (1 if promised["order"][1] != (0,) else 0)
        if under_way > run["begun"] + epochs:
            raise UsageError(f"{path} is in epoch {under_way - run['begun']} already, but {epochs} are asked for; "
                             "give as many or more")

    state = load(path, accept)
    run, arrays = state.run, state.arrays
    try:  # a digest may be right, around nonsense
        _check_numbers(run, arrays, fresh.arrays, training)
        _check_left_out(run.get("left_out", {}), run["steps"])
        training.net.load(_without_prefix("last.", arrays))
        _refuse_other_counts(run, training)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        training.net.load(_without_prefix("net.", fresh.arrays))
        raise MinimaskError(f"{path} holds no state of a run: {error}; put back a copy of it, or begin anew") from error
    # From here on nothing fails.
    training.last_arrays, training.last_masks = training.net.arrays(), training.net.masks()  # flips are counted from it
    training.net.load(_without_prefix("net.", arrays))
    training.optimizer.load_slots(_without_prefix("optimizer.", arrays))
    training.optimizer.steps = run["steps"]
    if isinstance(training.optimizer.schedule, Plateau):
        training.optimizer.schedule.load_state(run["schedule"])
    training.rng.bit_generator.state = run["rng"]
    training.order, training.step, training.epochs_before = arrays["order"], run["step"], run["begun"]
    training.loss_sum, training.right, training.seconds = run["loss_sum"], run["right"], run["seconds"]
    training.left_out = run.get("left_out", {})
    _continue_record(training, run["record"])


def _check_numbers(run: dict[str, Any], arrays: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray],
                   training: Training) -> None:
    """ValueError, or what NumPy raises, where "run" and the arrays cannot be a state of this training.

    Args:
        fresh: the arrays of the training as it is set up.
    """
    generator, order, images = np.random.PCG64(), arrays["order"], len(training.dataset.train_images)
    generator.state = run["rng"]
    if repr(generator.state) != repr(run["rng"]):  # NumPy takes 0.5 for 0
        raise ValueError("rng is no state of PCG64")
    if isinstance(training.optimizer.schedule, Plateau):
        copy.copy(training.optimizer.schedule).load_state(run["schedule"])
    seen = min(run["step"] * training.batch, images)  # in the epoch under way
    if not 0 <= run["step"] <= training.steps or (run["step"] and not len(order)) or (
            len(order) and not np.array_equal(np.sort(order), np.arange(len(order)))):
        raise ValueError("step and order do not fit")
    least = -math.inf if "loss" in run["settings"] else 0  # a loss of one's own may be below 0
    if not 0 <= run["begun"] <= len(run["record"]["epochs"]) or not 0 <= run["right"] <= seen or not (
            least <= run["loss_sum"] < math.inf and 0 <= run["seconds"] < math.inf) or (
            run["steps"] < len(run["record"]["epochs"][run["begun"]:]) * training.steps + run["step"]):
        raise ValueError("its counts of epochs, steps, images and seconds do not fit together")
    for layer, source in training.net.weights().items():
        for name in (f"{part}.{layer}.tau" for part in ("net", "last") if isinstance(source, SignedSupermask)):
            if not (arrays[name] == fresh[name] if "tau" in source.settings else 0 <= arrays[name] < math.inf):
                raise ValueError(f"{name} is {float(arrays[name]):g}, which its settings do not give")
    for name, array in arrays.items():
        if name.endswith(".variance") and (array < 0).any():
            raise ValueError(f"{name} holds a variance below 0")
        if name.endswith((".seed", ".calls")) and array.dtype.kind == "i" and (array < 0).any():
            raise ValueError(f"{name} of a dropout is below 0")


def _refuse_other_counts(run: dict[str, Any], training: Training) -> None:
    """ValueError unless the net, at the end of its last epoch, has the masks that the record counts."""
    epochs, dead = run["record"]["epochs"], ("units", "dead")  # which shrink.py counts beside the masks
    if len(epochs) > run["begun"] and training.net.layer_counts() != [
            {name: count for name, count in layer.items() if name not in dead} for layer in epochs[-1]["layers"]]:
        raise ValueError("its net has other masks at the end of the last epoch than its record counts")


def _check_left_out(left_out: dict[str, Any], steps: int) -> None:
    """ValueError unless this says which units of which layers a run does without; shrink.py asks whether it may."""
    if left_out:
        parts = Fields(left_out, "left_out")
        parts.integer("since", 0, steps)
        for name, units in parts.of("units", dict).items():
            if not isinstance(units, list) or not all(type(unit) is int for unit in units) or (
                    not units or units[0] < 0 or sorted(set(units)) != units):
                raise ValueError(f"the units of {name} that are left out are {units!r:.60}")
        parts.end()


def _refuse_another_run(path: str | Path, run: dict[str, Any], fresh: dict[str, Any], training: Training) -> None:
    """UsageError where "run" is not of this run."""
    there, here = ({**each["settings"], **origin(each["record"]), "shrink": each["record"].get("shrink", False)}
                   for each in (run, fresh))
    if described := run["record"].get("data"):  # of one's own; older runs do not say it
        there["classes"], here["classes"] = described.get("classes"), list(training.dataset.classes)
    for sentence in differences(there, here):
        raise UsageError(f"{path} is of another run: {sentence}; resume it with the settings that it began with, or "
                         "begin a new one in another place")
    factor, schedule = run["schedule"], training.optimizer.schedule
    if isinstance(factor, dict) != isinstance(schedule, Plateau) or (
            not isinstance(schedule, Plateau) and factor != schedule(run["steps"])):
        raise UsageError(f"{path} is of another run: its schedule gives {factor} at step {run['steps']}, this one not; "
                         "resume it with the settings that it began with")


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """What differs between two settings, a sentence each."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in sorted({*there, *here}):
            yield from differences(there.get(key), here.get(key), key)
    elif there != (list(here) if isinstance(here, tuple) else here):
        yield f"its {name:.60} is {there!r:.60}, but {here!r:.60} was asked for"


def _continue_record(training: Training, stored: dict[str, Any]) -> None:
    """The record so far, with what has changed since noted in it; its recipe may have another number of epochs.

    What an older record does not tell of itself, its kernel say, is not known to have changed.
    """
    record, environment = training.record, training.record.get("environment", {})
    first = stored.get("environment", {})
    before = first["continued"][-1]["environment"] if first.get("continued") else first
    changed = {name: (before[name], value) for name, value in environment.items()
               if name in before and before[name] != value and name not in ELSEWHERE}
    if "own_folder" in environment:  # the way to own code is that of today
        first["own_folder"] = environment["own_folder"]
    if changed:
        first.setdefault("continued", []).append({"step": training.optimizer.steps, "environment": environment})
        for module, (old, new) in _by_module(*changed.pop("own_code", ({}, {}))).items():
            warnings.warn(f"{module} has changed since the run was begun or last resumed (digest {old} then, {new} "
                          f"now): from step {training.optimizer.steps} on the new code trains, and the record says so; "
                          "for a run of one code put the old one back, or begin anew", UserWarning, stacklevel=4)
    if changed:
        what = ", ".join(f"{name} was {old} and is {new}" for name, (old, new) in changed.items())
        warnings.warn(f"{what}: the rest of the run may differ in its last digits from one without a stop", UserWarning,
                      stacklevel=4)
    stored.update({name: record[name] for name in ("recipe",) if name in record})
    record.clear()
    record.update(stored)


def _by_module(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Digests of own code that differ, then and now, by module; what is no table of them has none."""
    then = old if isinstance(old, dict) else {}
    return {module: (then.get(module), digest) for module, digest in new.items() if then.get(module) != digest}


def _prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {prefix + name: array for name, array in arrays.items()}


def _without_prefix(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


# ---- the file ------------------------------------------------------------------------------------------------------


def save(path: str | Path, state: State) -> str:
    """Writes the state to `path`, durably and in one go; returns its digest.

    Raises:
        WriteError: the file cannot be written; the one before is untouched.
        MinimaskError: an array of a dtype that is not in DTYPES, something in "run" that JSON does not hold.
    """
    import json
    import pathlib
    import zipfile

    promised = files.headers(state.arrays)
    for name, (dtype, _) in promised.items():
        if dtype not in DTYPES:
            raise MinimaskError(f"checkpoint: {name} is {dtype}; an array may be {', '.join(DTYPES)}")
    try:
        digest = state.digest()
        text = json.dumps({"format": FORMAT, "digest": digest, "text": _sha256(state.run), "arrays": promised,
                           "run": state.run}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MinimaskError(f"checkpoint: the record or the settings hold what JSON does not: {error}") from error
    if len(text) > TEXT_LIMIT:
        raise MinimaskError(f"checkpoint: the record has grown to {len(text):,} bytes; at most {TEXT_LIMIT:,} are read")
    with files.atomically(pathlib.Path(path), durable=True) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(TEXT), text)
        files.write_arrays(archive, state.arrays)
    return digest


def load(path: str | Path, accept: Callable[[dict[str, Any], dict[str, files.Header]], None] | None = None) -> State:
    """The state that save() wrote to `path`.

    Args:
        accept: called with "run" and with the headers that the file promises, before any array is read; raises what
            there is to say against them.

    Raises:
        UsageError: there is no such file.
        MinimaskError: the file is damaged, of a newer format, or holds NaN. Memory is taken for what the file holds,
            not for what it promises: at most a few times its size.
    """
    with files.opened(path) as (archive, size):
        run, promised, digest = _promise(archive, size, path)
        if accept:
            accept(run, promised)
        members = files.members(archive, {TEXT, *(f"{name}.npy" for name in promised)}, size)
        state = State({name: files.read_array(archive, members[f"{name}.npy"], header)
                       for name, header in promised.items()}, run)
        found = state.digest()
    if found != digest:
        raise MinimaskError(f"{path} is damaged: its digest should be {digest:.80}, but is {found}")
    files.refuse_not_finite(path, state.arrays)
    return state


def peek(path: str | Path) -> tuple[dict[str, Any], str]:
    """"run" and the digest that the file promises, its arrays unread and so unchecked; raises as load()."""
    with files.opened(path) as (archive, size):
        run, _, digest = _promise(archive, size, path)
        _check_run(run)
    return run, digest


def _check_run(run: dict[str, Any]) -> None:
    """ValueError unless "run" has its parts."""
    parts = Fields(run, "the state of the run")
    for part, types in RUN.items():
        parts.of(part, *types)
    parts.left.pop("left_out", None)  # of runs that shrink their net
    parts.end()
    _check_record(run["record"], "loss" in run["settings"])


def _check_record(record: dict[str, Any], own_loss: bool) -> None:
    """ValueError unless the record of "run" has epochs in a row and whatever else of it is used here and when resumed.

    A run from Python may have no recipe, seed or name of its data, and an environment of its own.
    """
    where = "its record"
    for part, types in RECORD.items():
        if part in record:
            Fields(record, where).of(part, *types)
    recipe = record.get("recipe", {})
    for part, kind in (("name", str), ("dataset", str), ("epochs", int)):
        if part in recipe:
            Fields(recipe, f"the recipe of {where}").of(part, kind)
    environment = Fields(record.get("environment", {}), f"the environment of {where}")
    for number, later in enumerate(environment.of("continued", list) if "continued" in environment.left else (), 1):
        again = Fields(later, f"continued {number} in {environment.where}")
        again.of("step", int), again.of("environment", dict)
    for number, entry in enumerate(Fields(record, where).of("epochs", list), 1):
        _check_entry(Fields(entry, f"epoch {number} of {where}"), number, own_loss)
    if "epoch_0" in record:
        _check_entry(Fields(record["epoch_0"], f"epoch 0 of {where}"), 0, own_loss)


def _check_entry(entry: Fields, number: int, own_loss: bool) -> None:
    """ValueError unless an epoch of a record has its number, its numbers, and layers whose weights add up."""
    entry.integer("epoch", number, number), entry.integer("flips", 0, 1 << 53)
    entry.integer("step", 1 if number else 0, 1 << 53 if number else 0)
    least = -math.inf if own_loss else 0
    for name in ("train_accuracy", "test_accuracy"):
        if name in entry.left or "test_loss" not in entry.left:  # floats as targets have no accuracy
            entry.number(name, 0, math.nextafter(1, 2))
    entry.number("weights_left", 0, math.nextafter(1, 2))
    entry.number("train_loss", least, math.inf), entry.number("seconds", 0, math.inf)
    for name, low in (("test_loss", least), ("test_metric", -math.inf)):
        if name in entry.left:
            entry.number(name, low, math.inf)
    for layer in entry.take("layers", lambda value: isinstance(value, list) and bool(value), "a list of layers"):
        counts = Fields(layer, f"a layer in {entry.where}")
        counts.text("name")
        whole = counts.integer("weights", 1, 1 << 53)
        if sum(counts.integer(part, 0, whole) for part in ("kept", "hidden", "inverted")) != whole:
            raise ValueError(f"the weights of {counts.where} do not add up")


def _promise(archive: ZipFile, size: int, path: str | Path) -> tuple[dict[str, Any], dict[str, files.Header], str]:
    """"run", the headers and the digest that the text promises; ValueError where it is not as save() writes it."""
    info = archive.getinfo(TEXT)
    if info.file_size > min(size, TEXT_LIMIT) or info.compress_type:
        raise ValueError(f"{TEXT} promises {info.file_size:,} bytes, but at most {min(size, TEXT_LIMIT):,} are read")
    with archive.open(info) as member:
        promise = Fields(parse(files.exactly(member, info.file_size), TEXT), TEXT)
    layout = promise.take("format", lambda value: type(value) is int and value >= 1, "a whole number from 1 up")
    if layout > FORMAT:
        raise MinimaskError(f"{path} has format {layout}, but this version of minimask reads {FORMAT}: "
                            "a newer one wrote it, use that")
    digest, run, arrays = promise.of("digest", str), promise.of("run", dict), promise.of("arrays", dict)
    if promise.of("text", str) != _sha256(run):
        raise ValueError(f"{TEXT} does not have the sha256 that it promises")
    promise.end()
    return run, {name: _header(header) for name, header in arrays.items()}, digest


def _header(promised: Any) -> files.Header:
    """dtype and shape as JSON gives them, checked."""
    dtype, shape = promised if isinstance(promised, list) and len(promised) == 2 else (None, None)
    if dtype not in DTYPES or not isinstance(shape, list) or len(shape) > 32 or not all(
            type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{promised!r:.80} is no dtype and shape of an array in a checkpoint")
    return dtype, tuple(shape)


# ---- now and then --------------------------------------------------------------------------------------------------


class Keeper(Listener):
    """Saves a run now and then: at its start and end, when it is cut short, and when `every` seconds have passed.

    Where a checkpoint takes so long that this would cost more than SHARE of the time, it waits longer.

    Args:
        path: of the checkpoint. every: seconds. resumed: the run was taken up from this file, which is not written anew
            at the start.
    """

    def __init__(self, path: str | Path, every: float = 30.0, resumed: bool = False):
        self.path, self.every, self.resumed = path, every, resumed
        self.due = time.perf_counter() + every
        self.known: dict[str, Any] | None = None

    def save(self, training: Training) -> None:
        """Saves now. Raises WriteError where the file cannot be written; the one before is untouched."""
        start = time.perf_counter()
        try:
            self.known = self.known or settings(training)  # which reads the whole data set, once
            save(self.path, capture(training, self.known))
        finally:
            end = time.perf_counter()
            self.due = end + max(self.every, (end - start) / SHARE)

    def save_or_warn(self, training: Training) -> None:
        """Saves now; where the file cannot be written it warns, and the run may go on."""
        try:
            self.save(training)
        except files.WriteError as error:
            warnings.warn(f"no checkpoint this time: {error}", UserWarning, stacklevel=3)

    def begin(self, training: Training) -> None:
        """Saves, unless the file is where the run comes from; raises as save()."""
        if not self.resumed:
            self.save(training)

    def step(self, training: Training, loss: float) -> None:
        """Saves if it is time; warns as save_or_warn()."""
        if time.perf_counter() >= self.due:
            self.save_or_warn(training)

    def cut_short(self, training: Training) -> None:
        """Saves unless a step is half done, or a number is not finite: the last good state stays then."""
        if training.between_steps:
            with suppress(TrainingError):
                self.save_or_warn(training)

    def end(self, training: Training) -> None:
        """Saves; raises as save()."""
        self.save(training)
