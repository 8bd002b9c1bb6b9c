"""The door to training: fit, evaluate, what is shown meanwhile, and the record of a run. The loop itself is loop.py."""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from . import loop
from .backend import namespace
from .checkpoint import Keeper, restore
from .data import Dataset, refuse_faint, refuse_no_numbers
from .errors import UsageError
from .fast.memory import give_back, kept_memory
from .fast.threads import blas_kernel, blas_threads
from .loop import Listener
from .loop import Training as Training
from .meter import Line
from .mishaps import TrainingError as TrainingError
from .nn import Sequential
from .optim import SGD
from .shrink import SetAside, Shrinker

if TYPE_CHECKING:
    from pathlib import Path


@kept_memory()
def fit(net: Sequential, dataset: Dataset, optimizer: SGD, epochs: int, rng: np.random.Generator, batch: int = 128,
        record: dict[str, Any] | None = None, progress: Progress | None = None,
        on_epoch: Callable[[dict[str, Any]], None] | None = None, checkpoint: str | Path | None = None,
        resume: bool = False, every: float = 30.0, augment: bool = False, shrink: bool = False) -> dict[str, Any]:
    """Trains the net in place and returns the record of the run.

    Args:
        net, dataset, optimizer: the optimizer was made for ``net.parameters()``.
        epochs: passes over the training images, 1 or more; each in a fresh order drawn from rng.
        batch: images a step; the short last batch is kept.
        record: a record to write into, so that the caller holds what there is if training is cut short; a new
            one unless given. Its "epochs" get one entry per epoch.
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

    Training runs where the net's arrays live: `backend=` of its builder says where that is.

    Raises:
        TrainingError: a loss is NaN or infinite; the message gives epoch, step, layer and cause.
        OutOfMemory: a step needs more memory than there is; the message says for what.
        UsageError: epochs or batch below 1, net and data set that do not fit, a checkpoint of another run, or one
            that is there without `resume`, or not there with it.
        MinimaskError: the checkpoint is damaged, or cannot be written at the start or at the end.

    Whatever ends it early, Ctrl-C too, the net is put back to the end of the last whole epoch, which is what
    the record's last entry describes. The checkpoint has the very step.
    """
    if checkpoint is not None and not resume and os.path.exists(checkpoint):
        raise UsageError(f"fit: {checkpoint} is there already: resume=True goes on with it; to begin anew name another "
                         "file, or remove this one")
    if checkpoint is None and resume:
        raise UsageError("fit: resume=True needs checkpoint=FILE, to know from where")
    training = Training(net, dataset, optimizer, rng, batch, new_record() if record is None else record, augment)
    shrinker = Shrinker()
    listeners: list[Listener] = [RoomForAll(), shrinker] if shrink else []
    training.record |= {"shrink": True} if shrink else {}
    if checkpoint is not None:
        if resume:
            restore(training, checkpoint, epochs)
        listeners.append(Keeper(checkpoint, every, resumed=resume))
    if progress:
        listeners.append(Shown(progress))
    if on_epoch:
        listeners.append(Called(on_epoch))
    if shrink:
        listeners += [SetAside(shrinker), RoomForAll()]
    return training.run(epochs, listeners)


@kept_memory()
def evaluate(net: Sequential, images: np.ndarray, labels: np.ndarray, batch: int = 250) -> float:
    """Accuracy, 0 to 1: the share of raw `images` (n, H, W, C) whose largest logit is at their label.

    Raises:
        TrainingError: the net gives NaN for an image, or there is no image.
        UsageError: labels that do not fit, images so faint that standardising would make all of them blank.
    """
    refuse_no_numbers(images, "evaluate")
    refuse_faint(np.asarray(images), "evaluate")
    return loop.evaluate(net, images, labels, batch)


# ---- the record ----------------------------------------------------------------------------------------------------


def new_record(recipe: dict[str, Any] | None = None, seed: int | None = None, dataset: str | None = None,
               net: Sequential | None = None) -> dict[str, Any]:
    """The record of a run before its first epoch: plain data for JSON, its layout is "format" 1."""
    return {"format": 1, "recipe": recipe or {}, "seed": seed, "dataset": dataset,
            "environment": environment(net), "epochs": []}


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
        self.done = 0

    def begin(self, done: int) -> None:
        """Training begins, after `done` epochs that an earlier run has done: they say nothing of how long one takes."""
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
        remaining = (now - self.started) / (done - self.done) * (epochs - done)
        numbers = (f"test {entry['test_accuracy']:.2%} · left {entry['weights_left']:.1%}"
                   + (f" · {remaining:.0f} s to go" if done < epochs else f" · {now - self.started:.1f} s"))
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
        self.progress.begin(training.epoch - 1)

    def step(self, training: Training, loss: float) -> None:
        self.progress.step(training.epoch, training.step, training.steps, loss)

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        self.progress.epoch(entry, last)

    def cut_short(self, training: Training) -> None:
        self.progress.stop()

    end = cut_short


class Called(Listener):
    """A function that is called with the record after every epoch, on the loop."""

    def __init__(self, function: Callable[[dict[str, Any]], None]):
        self.function = function

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        self.function(training.record)
