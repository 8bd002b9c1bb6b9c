"""The door to training: fit, evaluate, what is shown meanwhile, and the record of a run. The loop itself is loop.py."""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from . import loop, losses
from .backend import namespace
from .checkpoint import Keeper, fingerprint, restore
from .data import OUTLINES, Dataset, Preprocess, refuse_no_numbers
from .data.preprocess import DEFAULT, IMAGE, said_aloud
from .engine import Tensor
from .errors import UsageError
from .fast.memory import give_back, kept_memory
from .fast.threads import blas_kernel, blas_threads
from .loop import Listener
from .loop import Training as Training
from .losses import Judge, Loss, Metric
from .meter import Line
from .mishaps import TrainingError as TrainingError
from .nn import Sequential
from .optim import SGD
from .shrink import SetAside, Shrinker, dead

if TYPE_CHECKING:
    from pathlib import Path


@kept_memory()
def fit(net: Sequential, dataset: Dataset, optimizer: SGD, epochs: int, rng: np.random.Generator, batch: int = 128,
        record: dict[str, Any] | None = None, progress: Progress | None = None,
        on_epoch: Callable[[dict[str, Any]], None] | None = None, checkpoint: str | Path | None = None,
        resume: bool = False, every: float = 30.0, augment: bool = False, shrink: bool = False, epoch_0: bool = False,
        listeners: Sequence[Listener] = (), loss: str | Loss | Callable[[Tensor, Any], Tensor] = "cross-entropy",
        metric: str | Metric | None = None, test_loss: bool = False) -> dict[str, Any]:
    """Trains the net in place and returns the record of the run.

    Args:
        net, dataset, optimizer: the optimizer was made for ``net.parameters()``. Images are preprocessed as the data
            set says; where nothing is said and they do not look like images, fit says aloud what it does.
        epochs: passes over the training images, 1 or more; each in a fresh order drawn from rng.
        batch: images a step; the short last batch is kept.
        record: a record to write into, so that the caller holds what there is if training is cut short; a new
            one unless given. Its "epochs" get one entry per epoch. One that has epochs already goes on with the net,
            the optimizer and the settings that made them; for others what follows is a record of its own.
        progress: told of every step and epoch; ``Progress()`` prints, None is silent.
        on_epoch: called with the record after every epoch, to save it for example.
        checkpoint: the file that the state of the run is kept in, from which it can be resumed; None keeps none. It
            is written at the start, when `every` seconds have passed since the last time, when training is cut short,
            and at the end. Where that fails, training goes on with a warning, and the last good one stays.
        resume: go on at the step where `checkpoint` stands. Net, optimizer, rng and record take over its state;
            everything else must be as it was. `epochs` counts from where the run began, and may be another number.
        augment: pad, flip and crop the training images anew in every step (:func:`minimask.data.augment`).
        shrink: train on without the units that are dead for ever (:mod:`minimask.shrink`): the same run up to rounding,
            and faster; the record says so, and how many there are. The net is whole at the end of every epoch; in
            between zeros stand in for the arrays of layers some of whose units are out.
        epoch_0: measure the net before its first step, on all images; the record keeps it as "epoch_0".
        listeners: told of every step and epoch, before a checkpoint is kept (:class:`minimask.loop.Listener`), a
            :class:`minimask.log.Lines` for example.
        loss: what is minimised: a name in :data:`minimask.losses.LOSSES`, a Loss with settings, or a function of
            outputs (n, k) and targets that gives the mean over a batch as a scalar Tensor. Targets are the data set's
            labels, which may be floats.
        metric: another number of the held-out images, told after every epoch: a name in
            :data:`minimask.losses.METRICS`, or a function of all outputs (n, k) and targets.
        test_loss: whether the loss of the held-out images is told, too; it is where there is no accuracy, as of floats.

    Training runs where the net's arrays live: `backend=` of its builder says where that is.

    Raises:
        TrainingError: a loss is NaN or infinite; the message gives epoch, step, layer and cause.
        OutOfMemory: a step needs more memory than there is; the message says for what.
        UsageError: epochs or batch below 1, net and data set that do not fit, a record or a checkpoint of another run,
            or a checkpoint that is there without `resume`, or not there with it.
        MinimaskError: the checkpoint is damaged, or cannot be written at the start or at the end.

    Whatever ends it early, Ctrl-C too, the net is put back to the end of the last whole epoch, which is what
    the record's last entry describes. The checkpoint has the very step.
    """
    if checkpoint is not None and not resume and os.path.exists(checkpoint):
        raise UsageError(f"fit: {checkpoint} is there already: resume=True goes on with it; to begin anew name another "
                         "file, or remove this one")
    if checkpoint is None and resume:
        raise UsageError("fit: resume=True needs checkpoint=FILE, to know from where")
    training = Training(net, dataset, optimizer, rng, batch, new_record() if record is None else record, augment,
                        Judge(losses.of(loss), test_loss, losses.metric_of(metric)))
    if sentence := said_aloud(dataset.name, dataset.input_shape, dataset.prepare):
        warnings.warn(sentence, UserWarning, stacklevel=3)
    told: list[Listener] = [Start(shrink)] if epoch_0 else []  # the whole net, before units of it are left out
    shrinker = Shrinker()
    told += [*([RoomForAll(), shrinker] if shrink else []), *listeners]
    training.record |= {"shrink": True} if shrink else {}
    said = _said(training)
    if checkpoint is not None and resume:
        restore(training, checkpoint, epochs)
    else:
        _refuse_another_record(training, said)
    for name, value in said.items():  # after these: a record that cannot be taken up is left as it is
        training.record.setdefault(name, value)
    if training.record.get("dataset") is None and not training.record.get("recipe"):
        training.record["dataset"] = dataset.name
    if checkpoint is not None:
        told.append(Keeper(checkpoint, every, resumed=resume))
    if progress:
        told.append(Shown(progress))
    if on_epoch:
        told.append(Called(on_epoch))
    if shrink:
        told += [SetAside(shrinker), RoomForAll()]
    return training.run(epochs, told)


@kept_memory()
def evaluate(net: Sequential, images: np.ndarray, labels: np.ndarray, batch: int = 200,
             prepare: Preprocess | None = None) -> float:
    """Accuracy, 0 to 1: the share of raw `images` (n, H, W, C) whose largest logit is at their label.

    Args:
        prepare: what is done to raw images, `dataset.prepare`; every image is standardised by itself unless given.

    Raises:
        TrainingError: the net gives NaN for an image, or there is no image.
        UsageError: labels that do not fit, images so faint that standardising would make all of them blank.
    """
    prepare = prepare or IMAGE
    refuse_no_numbers(images, "evaluate")
    prepare.refuse(np.asarray(images), "evaluate")
    return loop.evaluate(net, images, labels, prepare, batch)


# ---- the record ----------------------------------------------------------------------------------------------------


def new_record(recipe: dict[str, Any] | None = None, seed: int | None = None, dataset: str | None = None,
               net: Sequential | None = None) -> dict[str, Any]:
    """The record of a run before its first epoch: plain data for JSON, its layout is "format" 1."""
    return {"format": 1, "recipe": recipe or {}, "seed": seed, "dataset": dataset,
            "environment": environment(net), "epochs": []}


def _said(training: Training) -> dict[str, Any]:
    """What a record says of how it is trained: the loss, where no recipe says it, a metric, what the outputs say, a
    data set of one's own; each only where it is not the usual one."""
    judge, dataset = training.judge, training.dataset
    said = {} if training.record.get("recipe") else judge.loss.settings()
    if judge.metric is not None:
        said["metric"] = losses.metric_name(judge.metric)
    if (answers := judge.loss.answers(dataset.test_labels, len(dataset.classes))) != [
            (losses.CLASS, len(dataset.classes))]:
        said["answers"] = [list(answer) for answer in answers]
    return {**said, "data": described(dataset)} if is_own(dataset) else said


def _refuse_another_record(training: Training, said: dict[str, Any]) -> None:
    """UsageError where a record has epochs that this net, optimizer or these settings cannot follow: it says how a run
    went from its first step on, and has one word for each of them. An optimizer's earlier steps are noted in a new one.

    Args:
        said: :func:`_said` of the training.
    """
    record, net, dataset, judge = training.record, training.net, training.dataset, training.judge
    epochs, steps = record["epochs"], training.optimizer.steps
    if not epochs:
        record.update({"steps_before": steps} if steps else {})
        return
    last, recipe = epochs[-1], record.get("recipe", {})
    known = judge.loss.hits(np.zeros((1, len(dataset.classes))), dataset.test_labels[:1]) is not None
    parts: dict[str, tuple[Any, Any]] = {  # there, here
        "net": ([(layer["name"], layer["weights"]) for layer in last["layers"]],
                [(layer["name"], layer["weights"]) for layer in net.layer_counts()]),
        "data set": (record.get("dataset") or dataset.name, dataset.name),
        "steps an epoch": ((last["step"] - record.get("steps_before", 0)) / len(epochs), float(training.steps)),
        "optimizer's count of steps": (last["step"], steps),
        "augment": (recipe.get("augment", training.augment), training.augment),
        "test loss": ("told" if "test_loss" in last else "not told",
                      "told" if judge.test_loss or not known else "not told"),
        **{name: (record.get(name), said.get(name)) for name in ("loss", "metric", "answers", "data")}}
    for name, (there, here) in parts.items():
        if there != here:
            raise UsageError(f"fit: the record has {len(epochs)} epochs of another run, whose {name} was "
                             f"{there!r:.80}, and is {here!r:.80} here: go on with what made them, or leave out "
                             "record=, and what follows gets a record of its own")


def is_own(dataset: Dataset) -> bool:
    """Whether a record has to describe a data set: not one of minimask's, or preprocessed in another way than they are.
    """
    return dataset.name.removesuffix("-validation") not in OUTLINES or dataset.prepare.name != DEFAULT


def described(dataset: Dataset) -> dict[str, Any]:
    """What a record says of a data set of one's own: a digest of its raw images and labels, the shape of an image, the
    names of the classes, and how it is preprocessed."""
    return {"digest": fingerprint(dataset)[:16], "input": list(dataset.input_shape), "classes": list(dataset.classes),
            "preprocess": dataset.prepare.name}


def environment(net: Sequential | None = None) -> dict[str, Any]:
    """What a run's numbers and seconds depend on beside its recipe: versions, hardware, threads, kernels.

    The last digits hang on "numpy", on "blas_kernel" (of its matrix products) and on "simd" (of all its other
    functions), and all of them on "source_digest": a resume says so where one of them is another than before.
    """
    from . import __version__

    with blas_threads(None) as threads:
        return {"minimask": __version__, "source_digest": source_digest(),
                "python": platform.python_version(), "numpy": np.__version__,
                "backend": namespace(net.parameters()[0].data).__name__ if net else "numpy",
                "system": platform.system(), "processor": _processor(), "cores": os.cpu_count(),
                "blas_threads": threads, "blas_kernel": blas_kernel(), "simd": _simd(), **_device(net)}


@functools.cache
def source_digest() -> str | None:
    """sha256 of the package's own source, 16 hexadecimal digits: two versions of one number differ here.

    Taken once, when a process first asks: a process that goes on while its files are changed runs what it has read.
    Lessons, which a wheel has in the package and a checkout beside it, do not count. None where there is no source.
    """
    import hashlib
    import pathlib

    package, sha = pathlib.Path(__file__).parent, hashlib.sha256()
    sources = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    names = sorted(name for name in sources if not name.startswith("tutorials/"))
    for name in names:
        content = sources[name].read_bytes().replace(b"\r\n", b"\n")
        sha.update(f"{name} {len(content)}\n".encode() + content)
    return sha.hexdigest()[:16] if names else None


def _device(net: Sequential | None) -> dict[str, Any]:
    """The GPU that a net lives on, by name, and whether its products may round to TF32 (CuPy's CUPY_TF32)."""
    xp = namespace(net.parameters()[0].data) if net and net.parameters() else np
    if not hasattr(xp, "cuda") or not hasattr(xp.cuda.runtime, "getDeviceProperties"):
        return {}
    name = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"].decode()
    return {"device": name, "tf32": os.environ.get("CUPY_TF32") == "1"}


def _simd() -> str | None:
    """The vector instructions that NumPy uses here, by its own names; None where it does not tell."""
    found: Any = np.show_config("dicts")
    found = (found or {}).get("SIMD Extensions", {})
    return " ".join([*found.get("baseline", ()), *found.get("found", ())]) or None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# ---- telling how it goes -------------------------------------------------------------------------------------------


class Progress:
    """A line that renews itself on a terminal, plain lines in a log: at most one every `pause` seconds and the last.

    Args:
        label: what is being trained. stream: where to write; stderr unless given. pause: seconds between log lines.
        clock: tells the time, in seconds.
    """

    def __init__(self, label: str = "", stream: TextIO | None = None, pause: float = 2.0,
                 clock: Callable[[], float] = time.perf_counter):
        self.label, self.pause, self.clock = label, pause, clock
        self.line = Line(stream or sys.stderr)  # a process may have no stderr
        self.started = self.written = clock()
        self.last = self.pending = ""  # the last epoch, as text
        self.done = 0.0

    def begin(self, done: float) -> None:
        """Training begins, after `done` epochs of an earlier run, the last of them a part: they took no time here."""
        self.done = done

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """A step of an epoch is done."""
        now = self.clock()
        if self.line.terminal and now - self.written > 0.1:
            self.written = now
            self.line.renew(f"{self.label} epoch {epoch} · step {step}/{steps} · loss {loss:.4f}{self.last}".strip())

    def epoch(self, entry: dict[str, Any], epochs: int) -> None:
        """An epoch is done, of so many: its entry in the record."""
        now, done = self.clock(), entry["epoch"]
        ours = done - self.done  # 0 where the earlier run had all of an epoch's steps done
        ahead = f" · {(now - self.started) / ours * (epochs - done):.0f} s to go" if ours else ""
        told = [f"{entry['test_accuracy']:.2%}"] if "test_accuracy" in entry else []
        told += [f"loss {entry['test_loss']:.4f}"] if "test_loss" in entry else []
        told += [f"metric {entry['test_metric']:.4g}"] if "test_metric" in entry else []
        more = f" ({', '.join(told[1:])})" if told[1:] else ""
        numbers = (f"test {told[0]}{more} · left {entry['weights_left']:.1%}"
                   + (ahead if done < epochs else f" · {now - self.started:.1f} s"))
        self.last = f" · {numbers}"
        line = f"{self.label} epoch {done}/{epochs} · loss {entry['train_loss']:.4f} · {numbers}".strip()
        self.pending = line  # what a log has not been told yet
        if self.line.terminal:
            self.line.renew(line)
        elif now - self.written > self.pause:
            self.written, self.pending = now, ""
            self.line.say(line)

    def stop(self) -> None:
        """The last word: ends the line on a terminal, tells a log of the last epoch if it has not been told."""
        if self.pending and not self.line.terminal:
            self.line.say(self.pending)
        self.line.stop()
        self.pending = ""


class RoomForAll(Listener):
    """Of a shrunk net: memory that its steps took goes back to the system before the whole is there again at an epoch's
    end, and what that took once it has gone."""

    def step(self, training: Training, loss: float) -> None:
        if training.left_out and training.step == training.steps:
            give_back()

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        if training.left_out:
            give_back()


class Shown(Listener):
    """A Progress, on the loop."""

    def __init__(self, progress: Progress):
        self.progress = progress

    def begin(self, training: Training) -> None:
        self.progress.begin(training.epoch - 1 + training.step / training.steps)

    def step(self, training: Training, loss: float) -> None:
        self.progress.step(training.epoch, training.step, training.steps, loss)

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        self.progress.epoch(entry, last)

    def cut_short(self, training: Training) -> None:
        self.progress.stop()

    end = cut_short


class Start(Listener):
    """Measures a net before its first step, on the loop: "epoch_0" of the record, an entry like every epoch's.

    Its numbers of the training images are measured as those of the test images are, of each image as it is.

    Args:
        units: count those that are dead for ever, too, as the entries of a run that shrinks its net do.
    """

    def __init__(self, units: bool = False):
        self.units = units

    def begin(self, training: Training) -> None:
        record, net, dataset = training.record, training.net, training.dataset
        if "epoch_0" in record:
            return  # of a run that goes on
        if training.optimizer.steps or record["epochs"]:
            raise UsageError(f"fit: epoch 0 is over: the run has made {training.optimizer.steps} steps; begin it anew "
                             "to measure the net before its first")
        layers, found = net.layer_counts(), dead(net, training.optimizer) if self.units else {}
        for row in layers:
            if row["name"] in found:
                row |= {"units": len(found[row["name"]]), "dead": int(found[row["name"]].sum())}
        there = Judge(training.judge.loss, test_loss=True)(
            loop.outputs(net, dataset.train_images, dataset.prepare), dataset.train_labels, 0.0)
        told = training.judge(loop.outputs(net, dataset.test_images, dataset.prepare), dataset.test_labels,
                              there.get("test_accuracy", 0.0))
        record["epoch_0"] = {
            "epoch": 0, "step": 0, "train_loss": there["test_loss"], **told,
            "weights_left": net.weights_left(), "flips": 0, "seconds": 0.0, "layers": layers}


class Called(Listener):
    """A function that is called with the record after every epoch, on the loop."""

    def __init__(self, function: Callable[[dict[str, Any]], None]):
        self.function = function

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        self.function(training.record)
