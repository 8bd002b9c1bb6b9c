"""Read 10 of 10 · needs optim, nn, data · one training step, one epoch, until it is enough; and who is told of it.

One training step, which you can follow with a debugger from here down to the arrays::

    logits = net(images, training=True)           # forward: every op remembers its pullback
    loss = loss_of(logits, labels)                # losses.py; ops.cross_entropy unless another is asked for
    optimizer.zero_grad()
    loss.backward()                               # reverse: cotangents arrive in every score's .grad
    optimizer.step()                              # SGDW on the scores; frozen weights stay as they are

What is kept on disk, or shown while it goes on, hangs on the loop as a :class:`Listener`; train.py does so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import Array, asarray, to_host
from .data import Dataset, standardise
from .data import augment as augmented
from .engine import no_grad
from .errors import UsageError
from .losses import Judge, accuracy
from .mishaps import TrainingError, cause, diverged, forget_frames, refuse_misfits, refuse_not_finite, uninterrupted
from .nn import Sequential
from .optim import SGD
from .plateau import Plateau

if TYPE_CHECKING:  # by this name: from Python 3.15 on @dataclass looks annotations up, and np.random would be imported
    from numpy.random import Generator


class Listener:
    """Told how training goes. This one does nothing; a subclass writes the methods of what it wants to hear."""

    def begin(self, training: Training) -> None:
        """Training begins, or goes on where an earlier run stopped."""

    def step(self, training: Training, loss: float) -> None:
        """A step is done; its mean loss."""

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        """An epoch is done: its entry in the record, and the number of the last epoch that is asked for."""

    def cut_short(self, training: Training) -> None:
        """An error or Ctrl-C ends training; afterwards the net is put back to the end of its last whole epoch."""

    def end(self, training: Training) -> None:
        """All epochs are done."""


@dataclass
class Training:
    """A training run under way: all that changes from step to step, and how it changes.

    Attributes:
        net, dataset, optimizer, rng, batch, record, augment: as in :func:`minimask.train.fit`. judge: has the loss.
        order: (n,) the order of the training images in the epoch under way; (0,) before its first step.
        step: how many of its steps are done. loss_sum, right: summed over the images so far. seconds: of training.
        between_steps: False while a step is half done, and after an error in the middle of one.
        epochs_before: how many epochs the record had when the run began.
        last_arrays, last_masks: of the net at the end of the last whole epoch; flips are counted from there.
        left_out: which units the net at work does without, and since which step (shrink.py); nothing unless some.
    """

    net: Sequential
    dataset: Dataset
    optimizer: SGD
    rng: Generator
    batch: int
    record: dict[str, Any]
    augment: bool = False
    judge: Judge = field(default_factory=Judge)
    order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    seconds: float = 0.0
    between_steps: bool = True
    left_out: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_misfits(self.net, self.dataset, self.batch, self.rng, self.judge.loss)
        self.epochs_before = len(self.record["epochs"])
        self.last_arrays, self.last_masks = self.net.arrays(), self.net.masks()

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return math.ceil(len(self.dataset.train_images) / self.batch)

    @property
    def epoch(self) -> int:
        """The number of the epoch under way, from 1."""
        return len(self.record["epochs"]) + 1

    def run(self, epochs: int, listeners: Sequence[Listener] = ()) -> dict[str, Any]:
        """Trains until there are `epochs` more than when the run began, from wherever it stands; see train.fit.

        Listeners are told in order, and of the end in reverse order.
        """
        if epochs < 1:
            raise UsageError(f"fit: epochs {epochs} must be 1 or more")
        last = self.epochs_before + epochs
        for listener in listeners:
            listener.begin(self)
        try:
            while not self.finished(last):
                self.train_epoch(listeners)
                entry = self.end_epoch()
                for listener in listeners:
                    listener.epoch(self, entry, last)
        except BaseException as error:
            if isinstance(error, MemoryError):
                forget_frames(error)
            with ExitStack() as last_words:  # everybody's, whatever happens meanwhile
                last_words.callback(self.net.load, self.last_arrays)
                for listener in listeners:
                    last_words.callback(listener.cut_short, self)
            raise
        for listener in reversed(listeners):
            listener.end(self)
        return self.record

    def finished(self, last: int) -> bool:
        """Whether epoch `last` is over, or the schedule has made its last cut."""
        schedule = self.optimizer.schedule
        return self.epoch > last or (isinstance(schedule, Plateau) and schedule.finished)

    def train_epoch(self, listeners: Sequence[Listener] = ()) -> None:
        """All steps of the epoch under way, or those that are left of it."""
        while self.step < self.steps:
            with uninterrupted():
                loss = self.train_step()
            for listener in listeners:
                listener.step(self, loss)

    def train_step(self) -> float:
        """One step, on the next batch of the epoch; returns its mean loss."""
        start, self.between_steps = time.perf_counter(), False
        images, labels, net, optimizer = self.dataset.train_images, self.dataset.train_labels, self.net, self.optimizer
        if not len(self.order):
            self.order = self.rng.permutation(len(images))  # (n,)
        chosen = self.order[self.step * self.batch:(self.step + 1) * self.batch]
        state, bits = net.state(), self.rng.bit_generator.state  # to go back to: batch norm renews its statistics
        raw, y = images.take(chosen, axis=0), labels[chosen]
        x = to_net(net, self.dataset.prepare(augmented(raw, self.rng) if self.augment else raw))
        logits = net(x, training=True)
        loss = self.judge.loss(logits, y)
        loss_value = loss.item()
        if not math.isfinite(loss_value):
            self.rng.bit_generator.state = bits
            raise diverged(self, loss_value, chosen, x, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.loss_sum += loss_value * len(chosen)
        self.right += self.judge.loss.right(to_host(logits.data), y)
        self.step += 1
        self.seconds += time.perf_counter() - start
        self.between_steps = True
        return loss_value

    def end_epoch(self) -> dict[str, Any]:
        """After the last step: evaluates the net, adds the epoch's entry to the record, and returns it."""
        arrays, masks, images = self.net.arrays(), self.net.masks(), len(self.dataset.train_images)
        refuse_not_finite(arrays, self.epoch, self.step)
        given = outputs(self.net, self.dataset.test_images, self.dataset.prepare)
        loss, told = self.loss_sum / images, self.judge(given, self.dataset.test_labels, self.right / images)
        entry = {"epoch": self.epoch, "step": self.optimizer.steps, "train_loss": loss, **told,
                 "weights_left": self.net.weights_left(),
                 "flips": sum(int(np.count_nonzero(mask != self.last_masks[name])) for name, mask in masks.items()),
                 "seconds": self.seconds, "layers": self.net.layer_counts()}
        with uninterrupted():  # these belong together
            self.record["epochs"].append(entry)
            self.last_arrays, self.last_masks, self.order = arrays, masks, self.order[:0]
            self.step, self.loss_sum, self.right, self.seconds = 0, 0.0, 0, 0.0
            if isinstance(self.optimizer.schedule, Plateau):
                self.optimizer.schedule.observe(loss)
        return entry


def evaluate(net: Sequential, images: np.ndarray, labels: np.ndarray,
             prepare: Callable[[np.ndarray], np.ndarray] = standardise, batch: int = 200) -> float:
    """Accuracy, 0 to 1: the share of raw `images` (n, H, W, C) whose largest output is at their label."""
    if len(images) and np.shape(labels) != (len(images),):
        raise UsageError(f"evaluate: {len(images)} images but labels of shape {np.shape(labels)}; give one label each")
    return accuracy(outputs(net, images, prepare, batch), labels)


def outputs(net: Sequential, images: np.ndarray, prepare: Any = standardise, batch: int = 200) -> Iterator[np.ndarray]:
    """What the net gives for raw images, on the host, (n, k) a batch; TrainingError for NaN, and without any image."""
    if len(images) == 0:
        raise TrainingError("evaluate: there are no images; give at least one")
    for start in range(0, len(images), batch):
        x = to_net(net, prepare(images[start:start + batch]))
        with no_grad():
            logits = to_host(net(x).data)
        if not np.isfinite(logits).all():
            chosen = np.arange(start, start + len(logits))
            raise TrainingError(f"evaluate: the net gives NaN or infinity for images {start} to {chosen[-1]}: "
                                f"{cause(net, images, chosen, x)}")
        yield logits


def to_net(net: Sequential, x: np.ndarray) -> Array:
    """A host array on the net's array library and device, in its dtype."""
    parameters = net.parameters() or [next(iter(net.weights().values())).effective()]  # an exported net trains none
    return asarray(x, like=parameters[0].data)
