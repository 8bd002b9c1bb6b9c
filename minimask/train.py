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
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from . import ops
from .backend import Array, MinimaskError, UsageError, asarray, blas_threads, namespace, to_host
from .data import Dataset, batches, standardise
from .engine import no_grad
from .nn import Sequential
from .optim import SGD, Plateau
from .parallel import reused_memory


class TrainingError(MinimaskError):
    """Training cannot go on; the message says where and why, and the net is back at its last good state."""


@reused_memory()
def fit(net: Sequential, dataset: Dataset, optimizer: SGD, epochs: int, rng: np.random.Generator, batch: int = 128,
        record: dict[str, Any] | None = None, progress: Progress | None = None,
        on_epoch: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Trains the net in place and returns the record of the run.

    Args:
        net, dataset, optimizer: the optimizer was made for ``net.parameters()``.
        epochs: passes over the training images, 1 or more; each in a fresh order drawn from rng.
        batch: images a step; the short last batch is kept.
        record: a record to write into, so that the caller holds what there is if training is cut short; a new
            one unless given. Its "epochs" get one entry per epoch.
        progress: told of every step and epoch; ``Progress()`` prints, None is silent.
        on_epoch: called with the record after every epoch, to save it for example.

    Training runs where the net's arrays live: `backend=` of its builder says where that is.

    Raises:
        TrainingError: a loss is NaN or infinite; the message gives epoch, step and cause.
        UsageError: epochs or batch below 1, or net and data set do not fit.
        OutOfMemory: a step needs more memory than there is; the message says for what.

    Whatever ends it early, Ctrl-C too, the net is put back to the end of the last whole epoch, which is what
    the record's last entry describes.
    """
    if epochs < 1 or batch < 1:
        raise UsageError(f"fit: epochs {epochs} and batch {batch} must be 1 or more")
    outputs = list(net.shapes.values())[-1]
    if net.input_shape != dataset.input_shape or outputs != (len(dataset.classes),):
        raise UsageError(f"fit: the net maps {net.input_shape} to {outputs}, but data set {dataset.name!r} needs "
                         f"{dataset.input_shape} to {(len(dataset.classes),)}; build the net with these shapes")
    record = new_record() if record is None else record
    if dataset.test_images.dtype.kind == "f" and not np.isfinite(dataset.test_images).all():
        raise TrainingError("fit: before epoch 1, step 1: a held-out image holds NaN or infinity: "
                            f"{_cause(dataset.test_images, np.arange(len(dataset.test_images)))}")
    done = len(record["epochs"])  # a record that was begun before is continued
    good, masks = net.arrays(), net.masks()  # as they were at the end of the last whole epoch
    try:
        for epoch in range(done + 1, done + epochs + 1):
            start = time.perf_counter()
            loss, accuracy = train_epoch(net, dataset, optimizer, rng, batch, epoch, progress)
            seconds = time.perf_counter() - start
            for name, p in net.named_parameters().items():  # a NaN score would hide its weight and never be noticed
                if not np.isfinite(to_host(p.data)).all():
                    raise TrainingError(f"fit: {name} holds NaN or infinity after epoch {epoch}, step "
                                        f"{optimizer.steps}: training diverged; try a smaller learning rate; "
                                        "the net is back at its state before this epoch")
            test_accuracy = evaluate(net, dataset.test_images, dataset.test_labels)
            before, masks = masks, net.masks()
            flips = sum(int(np.count_nonzero(masks[name] != before[name])) for name in masks)
            entry = {"epoch": epoch, "step": optimizer.steps, "train_loss": loss, "train_accuracy": accuracy,
                     "test_accuracy": test_accuracy, "weights_left": net.weights_left(), "flips": flips,
                     "seconds": seconds, "layers": layer_counts(net)}
            arrays = net.arrays()
            record["epochs"].append(entry)  # these two belong together: what an interruption leaves must agree
            good = arrays
            if progress:
                progress.epoch(entry, done + epochs)
            if on_epoch:
                on_epoch(record)
            if isinstance(optimizer.schedule, Plateau):
                optimizer.schedule.observe(loss)
                if optimizer.schedule.finished:
                    break
        if progress:
            progress.stop()
    except BaseException as error:
        if isinstance(error, MemoryError):
            let_go(error)
        net.load(good)
        if progress:
            progress.stop()
        raise
    return record


def train_epoch(net: Sequential, dataset: Dataset, optimizer: SGD, rng: np.random.Generator, batch: int,
                epoch: int = 1, progress: Progress | None = None) -> tuple[float, float]:
    """One pass over the training images; returns their mean loss and accuracy, measured while training."""
    images, labels = dataset.train_images, dataset.train_labels
    steps = math.ceil(len(images) / batch)
    loss_sum, right = 0.0, 0
    for step, chosen in enumerate(batches(len(images), batch, rng), start=1):
        x, y = to_net(net, standardise(images[chosen])), labels[chosen]
        logits = net(x, training=True)
        loss = ops.cross_entropy(logits, y)
        loss_value = loss.item()
        if not math.isfinite(loss_value):
            raise TrainingError(f"fit: the loss became {loss_value} in epoch {epoch}, step {step}: "
                                f"{_cause(images, chosen)}; the net is back at its state before this epoch")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss_value * len(chosen)
        right += int(np.count_nonzero(to_host(logits.data).argmax(axis=1) == y))
        if progress:
            progress.step(epoch, step, steps, loss_value)
    return loss_sum / len(images), right / len(images)


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
                                    f"{_cause(images, chosen)}")
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


def _cause(images: np.ndarray, chosen: np.ndarray) -> str:
    """Why a loss may not be finite: an image that is not, or else the step size."""
    if images.dtype.kind == "f":
        for i in chosen:
            if not np.isfinite(images[i]).all():
                return f"image {i} holds NaN or infinity, mend the data"
    return "every image of the batch is finite, so training diverged; try a smaller learning rate"


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
                "blas_threads": threads}


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

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        now = time.perf_counter()
        if self.terminal and now - self.written > 0.1:
            self.written = now
            self._renew(f"{self.label} epoch {epoch} · step {step}/{steps} · loss {loss:.4f}{self.last}")

    def epoch(self, entry: dict[str, Any], epochs: int) -> None:
        now, done = time.perf_counter(), entry["epoch"]
        remaining = (now - self.started) / done * (epochs - done)
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
