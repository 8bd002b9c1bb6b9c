"""What goes wrong while a net is trained, and what is said and saved then: Ctrl-C, NaN, memory. Beside the path."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import Array, to_host
from .engine import Tensor, no_grad
from .errors import MinimaskError, UsageError

if TYPE_CHECKING:
    from .data import Dataset
    from .loop import Training
    from .losses import Loss
    from .nn import Sequential


class TrainingError(MinimaskError):
    """Training cannot go on; the message says where and why, and the net is back at its last good state."""


#: What asks a process to end and lets it finish its step: Ctrl-C, a scheduler or `kill`, a terminal that was closed.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Told(KeyboardInterrupt):
    """A signal has asked this process to end; its number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Interrupted(MinimaskError):
    """A signal of SIGNALS ended the command; the message says what was kept, and how to go on."""


class Ear:
    """The handler of SIGNALS: raises Told, at once or at the end of a step.

    A second signal is no news while the state is being saved (a terminal that closes sends two, a scheduler TERM again
    and again). But Ctrl-C once more ends that, too.

    Attributes:
        number: of the first signal that came; None so far.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.busy = False
        self.waiting: list[int] = []

    def __call__(self, number: int, frame: object = None) -> None:
        if self.busy:
            self.waiting.append(number)
        elif self.number is None or number == signal.SIGINT:
            self.number = self.number or number
            raise Told(number)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """What comes inside the block is heard at its end."""
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before
        if not before:
            while self.waiting:
                self(self.waiting.pop(0))


_ear: Ear | None = None  # of the block that the main thread is in


@contextmanager
def signals_end_it() -> Iterator[Ear]:
    """Inside the block SIGTERM and SIGHUP do what Ctrl-C does: training ends after its step and saves its state.

    The command line runs in such a block; a program that trains with fit() may do the same. A signal that is ignored
    stays ignored (SIGHUP under nohup, SIGINT in a job that a script has started with `&`), and so does one that has a
    handler of its own. In Python's main thread only; elsewhere nothing changes.
    """
    global _ear
    ear, outer = Ear(), _ear
    if threading.current_thread() is not threading.main_thread():
        yield ear
        return
    ours = [signal.SIG_DFL, signal.default_int_handler, outer]
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _ear = ear
    try:
        for number, handler in before.items():
            if handler in ours and handler is not None:
                signal.signal(number, ear)
        yield ear
    finally:
        _ear = outer
        for number, handler in before.items():
            if signal.getsignal(number) is ear:
                signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside the block Ctrl-C waits for the end of the block, so that it never leaves half a step.

    In Python's main thread and under its own handler of Ctrl-C, or inside :func:`signals_end_it`; elsewhere nothing
    changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
    elif _ear is not None:
        with _ear.closed():
            yield
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        pressed: list[int] = []
        signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed:
            raise KeyboardInterrupt
    else:
        yield


@contextmanager
def in_words(sentence: Callable[[], str]) -> Iterator[None]:
    """A signal inside the block ends it as Interrupted, with the sentence that says what is there and how to go on.

    One that comes while the sentence is put together, from files perhaps, would say nothing new: it is dropped.
    """
    try:
        yield
    except KeyboardInterrupt:
        with uninterrupted():
            raise Interrupted(sentence()) from None


def heard() -> bool:
    """Whether a signal has asked this command to end, one that was obeyed already included."""
    return _ear is not None and _ear.number is not None


def forget_frames(error: BaseException) -> None:
    """Frees what the calls that led to an error hold, a step's activations: putting the net back needs room."""
    import traceback

    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def refuse_misfits(net: Sequential, dataset: Dataset, batch: int, rng: np.random.Generator, loss: Loss) -> None:
    """UsageError where a net cannot be trained on a data set so; TrainingError where a held-out image is not finite."""
    if batch < 1:
        raise UsageError(f"fit: batch {batch} must be 1 or more")
    if not isinstance(rng, np.random.Generator):
        raise UsageError(f"fit: rng is a {type(rng).__name__}, but must be a generator: numpy.random.default_rng(seed)")
    outputs = list(net.shapes.values())[-1]
    if net.input_shape != dataset.input_shape or outputs != (len(dataset.classes),):
        named = "" if dataset.test_labels.dtype.kind in "iu" else ", or name every output, classes="
        raise UsageError(f"fit: the net maps {net.input_shape} to {outputs}, but data set {dataset.name!r} needs "
                         f"{dataset.input_shape} to {(len(dataset.classes),)}; build the net with these shapes{named}")
    for targets in (dataset.train_labels, dataset.test_labels):
        loss.check(targets, *outputs)
    if dataset.test_images.dtype.kind == "f" and not np.isfinite(dataset.test_images).all():
        raise TrainingError("fit: before epoch 1, step 1: a held-out image holds NaN or infinity: "
                            f"{_bad_image(dataset.test_images, np.arange(len(dataset.test_images)))}")
    for part in ("train_images", "test_images"):
        dataset.prepare.refuse(getattr(dataset, part), f"fit: data set {dataset.name!r}, {part}")


def refuse_not_finite(arrays: Mapping[str, np.ndarray], epoch: int, step: int) -> None:
    """TrainingError where an array is not finite: a NaN score would hide its weight and never be noticed."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise TrainingError(f"fit: {name} holds NaN or infinity after epoch {epoch}, step {step} "
                                f"(its largest number is {_largest(array):.3g}): training diverged; try a smaller "
                                "learning rate; the net is back at its state before this epoch")


def diverged(training: Training, loss: float, chosen: np.ndarray, x: Array, state: dict[str, Any]) -> TrainingError:
    """What to say of a loss that is no number, of images `chosen`, as x; the net's state is that of before the step."""
    def restore() -> None:
        for name, layer in training.net.walk():
            layer.load_own_state({part: state[f"{name}.{part}"] for part in layer.own_state()})

    restore()  # dropout draws again what it drew in the step
    why = cause(training.net, training.dataset.train_images, chosen, x, training=True)
    restore()
    training.between_steps = True
    return TrainingError(f"fit: the loss became {loss} in epoch {training.epoch}, step {training.step + 1}: {why}; "
                         "the net is back at its state before this epoch")


def cause(net: Sequential, images: np.ndarray, chosen: np.ndarray, x: Array, training: bool = False) -> str:
    """Why the net gives NaN or infinity: an image that is not finite, or the layer where it begins, in words.

    Args:
        images, chosen: the raw images, and which of them went in, as `x`.
    """
    return _bad_image(images, chosen) or _bad_layer(net, x, training)


def _bad_image(images: np.ndarray, chosen: np.ndarray) -> str:
    """The first image that is not finite, in words; "" where all are."""
    if images.dtype.kind == "f":
        for i in chosen:
            if not np.isfinite(images[i]).all():
                return f"image {i} holds NaN or infinity, mend the data"
    return ""


def _bad_layer(net: Sequential, batch: Array, training: bool) -> str:
    """The first layer whose output is not finite, and the largest value that went in, in words."""
    with no_grad():
        x = Tensor(batch)
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
