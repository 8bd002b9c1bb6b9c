"""Read 8 of 8, continued · needs optim, nn, data · the training loop, evaluation, and the record of a run.

One training step, which you can follow with a debugger from here down to the arrays::

    logits = net(images, training=True)           # forward: every op remembers its pullback
    loss = ops.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()                               # reverse: cotangents arrive in every score's .grad
    optimizer.step()                              # SGDW on the scores; frozen weights stay as they are
"""

from __future__ import annotations

import io
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from . import ops
from .backend import Array, MinimaskError, UsageError, asarray, namespace, to_host
from .checkpoint import Keeper, State, restore
from .data import Dataset, standardise
from .data import augment as augmented
from .engine import Tensor, no_grad
from .fast.memory import reused_memory
from .fast.threads import blas_threads
from .nn import Sequential
from .optim import SGD, Plateau

if TYPE_CHECKING:
    from pathlib import Path

    # By this name: from Python 3.15 on @dataclass looks annotations up, and np.random would import numpy.random.
    from numpy.random import Generator


class TrainingError(MinimaskError):
    """Training cannot go on; the message says where and why, and the net is back at its last good state."""


@reused_memory()
def fit(net: Sequential, dataset: Dataset, optimizer: SGD, epochs: int, rng: np.random.Generator, batch: int = 128,
        record: dict[str, Any] | None = None, progress: Progress | None = None,
        on_epoch: Callable[[dict[str, Any]], None] | None = None, checkpoint: str | Path | None = None,
        resume: bool = False, every: float = 30.0, augment: bool = False) -> dict[str, Any]:
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
    training = Training(net, dataset, optimizer, rng, batch, new_record() if record is None else record, augment)
    keeper = Keeper(checkpoint, training, every)
    if not resume:
        keeper.save()
    elif checkpoint is None:
        raise UsageError("fit: resume=True needs checkpoint=FILE, to know from where")
    else:
        restore(training, checkpoint, epochs)
    return training.run(epochs, keeper, progress, on_epoch)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside the block Ctrl-C waits for the end of the block, so that it never leaves half a step.

    In Python's main thread and under its own handler of Ctrl-C only; elsewhere nothing changes.
    """
    if (threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


@dataclass
class Training:
    """A training run under way: all that changes from step to step, and how it changes.

    Attributes:
        net, dataset, optimizer, rng, batch, record, augment: as in :func:`fit`.
        order: (n,) the order of the training images in the epoch under way; (0,) before its first step.
        step: how many of its steps are done. loss_sum, right: summed over the images so far. seconds: of training.
        begun: how many epochs the record had when the run began.
        last, masks: the net's arrays and masks at the end of the last whole epoch; flips are counted from there.
        whole: False while a step is half done, and after an error in the middle of one.
    """

    net: Sequential
    dataset: Dataset
    optimizer: SGD
    rng: Generator
    batch: int
    record: dict[str, Any]
    augment: bool = False
    order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    seconds: float = 0.0
    whole: bool = True

    def __post_init__(self) -> None:
        net, dataset = self.net, self.dataset
        if self.batch < 1:
            raise UsageError(f"fit: batch {self.batch} must be 1 or more")
        outputs = list(net.shapes.values())[-1]
        if net.input_shape != dataset.input_shape or outputs != (len(dataset.classes),):
            raise UsageError(f"fit: the net maps {net.input_shape} to {outputs}, but data set {dataset.name!r} needs "
                             f"{dataset.input_shape} to {(len(dataset.classes),)}; build the net with these shapes")
        if dataset.test_images.dtype.kind == "f" and not np.isfinite(dataset.test_images).all():
            raise TrainingError("fit: before epoch 1, step 1: a held-out image holds NaN or infinity: "
                                f"{_bad_image(dataset.test_images, np.arange(len(dataset.test_images)))}")
        self.begun = len(self.record["epochs"])
        self.last, self.masks = self.net.arrays(), self.net.masks()

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return math.ceil(len(self.dataset.train_images) / self.batch)

    @property
    def epoch(self) -> int:
        """The number of the epoch under way, from 1."""
        return len(self.record["epochs"]) + 1

    @cached_property
    def images(self) -> str:
        """sha256 of the data set, which the state of a run names."""
        parts = ("train_images", "train_labels", "test_images", "test_labels")
        return State({part: getattr(self.dataset, part) for part in parts}, {}).digest()

    def run(self, epochs: int, keeper: Keeper, progress: Progress | None = None,
            on_epoch: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Trains until there are `epochs` more than when the run began, from wherever it stands; see :func:`fit`."""
        if epochs < 1:
            raise UsageError(f"fit: epochs {epochs} must be 1 or more")
        last = self.begun + epochs
        if progress:
            progress.begin(self.epoch - 1)
        try:
            while not self.finished(last):
                self.train_epoch(progress, keeper)
                entry = self.end_epoch()
                if progress:
                    progress.epoch(entry, last)
                if on_epoch:
                    on_epoch(self.record)
        except BaseException as error:
            if isinstance(error, MemoryError):
                let_go(error)
            try:
                if self.whole:
                    with suppress(TrainingError):  # a state that is not finite is not kept: the last good one stays
                        keeper.save_or_warn()
            finally:
                self.net.load(self.last)
            raise
        finally:
            if progress:
                progress.stop()
        keeper.save()
        return self.record

    def finished(self, last: int) -> bool:
        """Whether epoch `last` is over, or the schedule has made its last cut."""
        schedule = self.optimizer.schedule
        return self.epoch > last or (isinstance(schedule, Plateau) and schedule.finished)

    def train_epoch(self, progress: Progress | None = None, keeper: Keeper | None = None) -> None:
        """All steps of the epoch under way, or those that are left of it."""
        while self.step < self.steps:
            with uninterrupted():
                loss = self.train_step()
            if keeper:
                keeper.save_if_due()
            if progress:
                progress.step(self.epoch, self.step, self.steps, loss)

    def train_step(self) -> float:
        """One step, on the next batch of the epoch; returns its mean loss."""
        start, self.whole = time.perf_counter(), False
        images, labels, net, optimizer = self.dataset.train_images, self.dataset.train_labels, self.net, self.optimizer
        if not len(self.order):
            self.order = self.rng.permutation(len(images))  # (n,)
        chosen = self.order[self.step * self.batch:(self.step + 1) * self.batch]
        state, bits = net.state(), self.rng.bit_generator.state  # to go back to: batch norm renews its statistics
        raw, y = images[chosen], labels[chosen]
        x = to_net(net, standardise(augmented(raw, self.rng) if self.augment else raw))
        logits = net(x, training=True)
        loss = ops.cross_entropy(logits, y)
        loss_value = loss.item()
        if not math.isfinite(loss_value):
            self.rng.bit_generator.state = bits
            raise self._diverged(loss_value, chosen, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.loss_sum += loss_value * len(chosen)
        self.right += int(np.count_nonzero(to_host(logits.data).argmax(axis=1) == y))
        self.step += 1
        self.seconds += time.perf_counter() - start
        self.whole = True
        return loss_value

    def _diverged(self, loss: float, chosen: np.ndarray, state: dict[str, Any]) -> TrainingError:
        """What to say of a loss that is no number; the state is that of before the step again."""
        cause = _cause(self.net, self.dataset.train_images, chosen, training=True)
        for name, layer in self.net.walk():
            layer.load_own_state({part: state[f"{name}.{part}"] for part in layer.own_state()})
        self.whole = True
        return TrainingError(f"fit: the loss became {loss} in epoch {self.epoch}, step {self.step + 1}: {cause}; "
                             "the net is back at its state before this epoch")

    def end_epoch(self) -> dict[str, Any]:
        """After the last step: evaluates the net, adds the epoch's entry to the record, and returns it."""
        arrays, masks, images = self.net.arrays(), self.net.masks(), len(self.dataset.train_images)
        self.refuse_not_finite(arrays)
        test_accuracy = evaluate(self.net, self.dataset.test_images, self.dataset.test_labels)
        loss = self.loss_sum / images
        entry = {"epoch": self.epoch, "step": self.optimizer.steps, "train_loss": loss,
                 "train_accuracy": self.right / images, "test_accuracy": test_accuracy,
                 "weights_left": self.net.weights_left(),
                 "flips": sum(int(np.count_nonzero(mask != self.masks[name])) for name, mask in masks.items()),
                 "seconds": self.seconds, "layers": layer_counts(self.net)}
        with uninterrupted():  # these belong together
            self.record["epochs"].append(entry)
            self.last, self.masks, self.order = arrays, masks, self.order[:0]
            self.step, self.loss_sum, self.right, self.seconds = 0, 0.0, 0, 0.0
            if isinstance(self.optimizer.schedule, Plateau):
                self.optimizer.schedule.observe(loss)
        return entry

    def refuse_not_finite(self, arrays: Mapping[str, np.ndarray]) -> None:
        """TrainingError where an array is not finite: a NaN score would hide its weight and never be noticed."""
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise TrainingError(f"fit: {name} holds NaN or infinity after epoch {self.epoch}, step {self.step} "
                                    f"(its largest number is {_largest(array):.3g}): training diverged; try a smaller "
                                    "learning rate; the net is back at its state before this epoch")


@reused_memory()
def evaluate(net: Sequential, images: np.ndarray, labels: np.ndarray, batch: int = 1000) -> float:
    """Accuracy, 0 to 1: the share of raw `images` (n, H, W, C) whose largest logit is at their label.

    Raises:
        TrainingError: the net gives NaN for an image, or there is no image.
    """
    if len(images) == 0:
        raise TrainingError("evaluate: there are no images; give at least one")
    if np.shape(labels) != (len(images),):
        raise UsageError(f"evaluate: {len(images)} images but labels of shape {np.shape(labels)}; give one label each")
    right = 0
    with no_grad():
        for start in range(0, len(images), batch):
            logits = to_host(net(to_net(net, standardise(images[start:start + batch]))).data)
            if not np.isfinite(logits).all():
                chosen = np.arange(start, start + len(logits))
                raise TrainingError(f"evaluate: the net gives NaN or infinity for images {start} to {chosen[-1]}: "
                                    f"{_cause(net, images, chosen)}")
            right += int(np.count_nonzero(logits.argmax(axis=1) == labels[start:start + batch]))
    return right / len(images)


def let_go(error: BaseException) -> None:
    """Frees what the calls that led to an error hold, a step's activations: putting the net back needs room."""
    import traceback

    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def to_net(net: Sequential, x: np.ndarray) -> Array:
    """A host array on the net's array library and device, in its dtype."""
    return asarray(x, like=net.parameters()[0].data)


def _cause(net: Sequential, images: np.ndarray, chosen: np.ndarray, training: bool = False) -> str:
    """Why the net gives NaN or infinity for these images: one that is not finite, or the layer where it begins."""
    return _bad_image(images, chosen) or _bad_layer(net, images[chosen], training)


def _bad_image(images: np.ndarray, chosen: np.ndarray) -> str:
    """The first image that is not finite, in words; "" where all are."""
    if images.dtype.kind == "f":
        for i in chosen:
            if not np.isfinite(images[i]).all():
                return f"image {i} holds NaN or infinity, mend the data"
    return ""


def _bad_layer(net: Sequential, images: np.ndarray, training: bool) -> str:
    """The first layer whose output is not finite, and the largest value that went in, in words."""
    with no_grad():
        x = Tensor(to_net(net, standardise(images)))
        for name, layer in net.layers.items():
            y = layer(x, training)
            if not np.isfinite(to_host(y.data)).all():
                values = [x, *(p for _, inner in layer.walk() for p in inner.own_parameters().values())]
                largest = max(_largest(value.data) for value in values)
                where = f"it begins in layer {name}, with values up to {largest:.3g} going in"
                break
            x = y
        else:
            where = f"all layers are finite, the largest logit is {_largest(x.data):.3g}"
    return f"{where}: training diverged; try a smaller learning rate"


def _largest(array: Array) -> float:
    """The largest absolute value among those that are finite, 0 where none is."""
    values = np.abs(to_host(array))
    return float(values[np.isfinite(values)].max(initial=0.0))


# ---- the record ----------------------------------------------------------------------------------------------------


def new_record(recipe: dict[str, Any] | None = None, seed: int | None = None, dataset: str | None = None,
               net: Sequential | None = None) -> dict[str, Any]:
    """The record of a run before its first epoch: plain data for JSON, its layout is "format" 1."""
    return {"format": 1, "recipe": recipe or {}, "seed": seed, "dataset": dataset,
            "environment": environment(net), "epochs": []}


def environment(net: Sequential | None = None) -> dict[str, Any]:
    """What a run's numbers and seconds depend on beside its recipe: versions, hardware, threads."""
    from . import __version__

    with blas_threads(None) as threads:
        return {"minimask": __version__, "python": platform.python_version(), "numpy": np.__version__,
                "backend": namespace(net.parameters()[0].data).__name__ if net else "numpy",
                "system": platform.system(), "processor": _processor(), "cores": os.cpu_count(),
                "blas_threads": threads, **_device(net)}


def _device(net: Sequential | None) -> dict[str, Any]:
    """The GPU that a net lives on, by name, and whether its products may round to TF32 (CuPy's CUPY_TF32)."""
    xp = namespace(net.parameters()[0].data) if net and net.parameters() else np
    if not hasattr(xp, "cuda") or not hasattr(xp.cuda.runtime, "getDeviceProperties"):
        return {}
    name = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"].decode()
    return {"device": name, "tf32": os.environ.get("CUPY_TF32") == "1"}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def layer_counts(net: Sequential) -> list[dict[str, Any]]:
    """Per layer with weights: name, weights, kept, hidden, inverted, all integers; a dense layer keeps everything."""
    rows, sizes = [], net.sizes()
    for name, source in net.weights().items():
        weights = sizes[name]
        kept, hidden, inverted = source.counts() or (weights, 0, 0)
        rows.append({"name": name, "weights": weights, "kept": kept, "hidden": hidden, "inverted": inverted})
    return rows


# ---- telling how it goes -------------------------------------------------------------------------------------------


class Progress:
    """A line that renews itself on a terminal, plain lines in a log: at most one every `pause` seconds and the last.

    Args:
        label: what is being trained. stream: where to write; stderr unless given. pause: seconds between log lines.
    """

    def __init__(self, label: str = "", stream: TextIO | None = None, pause: float = 2.0):
        self.label, self.pause = label, pause
        self.stream = stream or sys.stderr or io.StringIO()  # a process may have no stderr
        self.terminal = self.stream.isatty()
        self.started = self.written = time.perf_counter()
        self.last = self.pending = ""  # the last epoch, as text
        self.done = 0

    def begin(self, done: int) -> None:
        """Training begins, after `done` epochs that an earlier run has done: they say nothing of how long one takes."""
        self.done = done

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        now = time.perf_counter()
        if self.terminal and now - self.written > 0.1:
            self.written = now
            self._renew(f"{self.label} epoch {epoch} · step {step}/{steps} · loss {loss:.4f}{self.last}")

    def epoch(self, entry: dict[str, Any], epochs: int) -> None:
        now, done = time.perf_counter(), entry["epoch"]
        remaining = (now - self.started) / (done - self.done) * (epochs - done)
        numbers = (f"test {entry['test_accuracy']:.2%} · left {entry['weights_left']:.1%}"
                   + (f" · {remaining:.0f} s to go" if done < epochs else f" · {now - self.started:.1f} s"))
        self.last = f" · {numbers}"
        line = f"{self.label} epoch {done}/{epochs} · loss {entry['train_loss']:.4f} · {numbers}"
        self.pending = line.strip()  # what a log has not been told yet
        if self.terminal:
            self._renew(line)
        elif now - self.written > self.pause:
            self.written, self.pending = now, ""
            self.stream.write(line.strip() + "\n")
            self.stream.flush()

    def stop(self) -> None:
        """The last word: ends the line on a terminal, tells a log of the last epoch if it has not been told."""
        self.stream.write("\n" if self.terminal else f"{self.pending}\n" if self.pending else "")
        self.stream.flush()
        self.pending = ""

    def columns(self) -> int:
        """Width of the terminal; a longer line would wrap and could not be renewed."""
        import shutil

        return shutil.get_terminal_size().columns

    def _renew(self, line: str) -> None:
        self.stream.write("\r" + line.strip()[:self.columns() - 1] + "\x1b[K")
        self.stream.flush()
