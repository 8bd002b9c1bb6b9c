"""Using a trained net: logits without the machinery of training, classes with their confidence.

A pruned net (prune.py) runs here by smaller dense products, on NumPy and CuPy alike. The other way to skip zeros is to
gather what each unit reads and to add that up. It pays where a weight is too large for a core's cache and almost all of
it is hidden, for a few images (benchmarks/inference.py): the first dense layer of Conv2, say. There NumPy takes it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import cost, nn, resnet
from .backend import SWITCHES, Array, asarray, namespace, to_host
from .data import Preprocess, refuse_no_numbers
from .data.preprocess import IMAGE
from .engine import OPS, Tensor, no_grad, version
from .errors import UsageError
from .fast.blocks import LARGE_PRODUCT, product
from .fast.memory import kept_memory
from .fast.threads import single_threaded_blas
from .prune import Fixed, Take, size

#: Where gathering beats the dense product: from so many weights on, with at most this share of them left, for so many
#: images at most.
GATHER_WEIGHTS, GATHER_SHARE, GATHER_IMAGES = 1 << 19, 0.01, 16
#: How many images are computed at a time, and how many numbers are held for all of them: 256 MiB of float32.
MOST_IMAGES, BATCH_NUMBERS = 1000, 1 << 26
#: Numbers up to which calls cost more than what they compute.
FEW_NUMBERS = 4096

Function = Callable[[Array], Array]
#: A layer: what comes in, and whether all products are too small for two threads, as BLAS was told already.
Step = Callable[[Array, bool], Array]


def forward(net: nn.Sequential) -> Function:
    """The net as a function of plain arrays: (n, *input_shape) -> (n, classes) logits, in the net's library and dtype.

    The weights are made once, here: after more training ask for the function anew.
    """
    with no_grad():
        steps = [_step(layer) for layer in net.layers.values()]
    work = size(net).multiply_adds

    def logits(x: Array) -> Array:
        if x.shape[1:] != net.input_shape:
            raise UsageError(f"forward: the images are {x.shape}, but (n, {', '.join(map(str, net.input_shape))}) is "
                             "needed")
        if x.shape[0] * work < LARGE_PRODUCT:
            with single_threaded_blas():  # once, and not for every product
                for step in steps:
                    x = step(x, True)
        else:
            for step in steps:
                x = step(x, False)
        return x

    return logits


def _step(layer: nn.Layer) -> Step:
    """A layer as a function of an array. What takes a few microseconds goes round the Tensors, which take as many.

    A subclass may do anything, so types are compared, and not asked for.
    """
    if type(layer) is nn.Dense:
        return _dense(layer.weight.effective().data)
    if isinstance(layer, Take):
        places = layer.places
        return lambda x, small: namespace(x).take(x, places, axis=1)
    if type(layer) is nn.Flatten:
        return lambda x, small: namespace(x).reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    if type(layer) is nn.ELU:
        return _elu(layer.alpha)
    settled = _settled(layer)

    def step(x: Array, small: bool) -> Array:
        with no_grad():
            return settled(Tensor(x)).data

    return step


def _settled(layer: nn.Layer) -> nn.Layer:
    """The layer with its weights made: a mask is not applied again at every call."""
    if type(layer) is resnet.Residual:
        return resnet.Residual(map(_settled, layer.main.values()), map(_settled, layer.shortcut.values()),
                               lambda: _settled(layer.activation))
    settled = copy.copy(layer)
    if layer.weight is not None:
        settled.weight = Fixed(layer.weight.effective().data)
    return settled


def _dense(weight: Array) -> Step:
    xp = namespace(weight)

    def multiply(x: Array, small: bool) -> Array:
        return xp.matmul(x, weight) if small or not _is_fast(xp) else product(x, weight)

    if _is_fast(xp) and weight.size >= GATHER_WEIGHTS and (
            np.count_nonzero(weight) <= GATHER_SHARE * weight.size):
        gather = gathered(weight)
        return lambda x, small: gather(x) if x.shape[0] <= GATHER_IMAGES else multiply(x, small)
    return multiply


def _is_fast(xp: Any) -> bool:
    """Whether arrays of library xp go the ways here that are for NumPy alone."""
    return xp is np and not SWITCHES.plain


def _elu(alpha: float) -> Step:
    """ELU; of a few numbers in three passes: the op's seven take longer then than its faster exponential saves."""
    elu: Any = OPS["elu"]

    def step(x: Array, small: bool) -> Array:
        xp = namespace(x)
        if alpha != 1 or not _is_fast(xp) or x.size > FEW_NUMBERS:
            return version("elu", xp, elu.__wrapped__)(xp, x, alpha)[0]
        y = np.minimum(x, 0)
        return np.maximum(x, np.expm1(y, out=y), out=y)

    return step


def gathered(weight: np.ndarray) -> Function:
    """x @ weight, (n, in) -> (n, out), as sums over those weights (in, out) alone that are not 0."""
    units, places = np.nonzero(weight.T)  # unit by unit, what it reads
    values = weight[places, units]
    starts = np.flatnonzero(np.diff(units, prepend=-1))  # where each unit's weights begin
    present = units[starts]  # units that have some

    def multiply(x: np.ndarray) -> np.ndarray:
        y = np.zeros((x.shape[0], weight.shape[1]), weight.dtype)
        if len(starts):
            y[:, present] = np.add.reduceat(x.take(places, axis=1) * values, starts, axis=1)
        return y

    return multiply


def batch_size(net: nn.Sequential) -> int:
    """How many images to compute at a time: as many as BATCH_NUMBERS allows what is held for them, MOST_IMAGES at most.
    """
    return max(1, min(MOST_IMAGES, BATCH_NUMBERS // max(1, cost.of(net).numbers)))


@kept_memory()
def classify(net: nn.Sequential, images: np.ndarray, batch: int | None = None,
             prepare: Preprocess | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Raw images (n, *input_shape) on the host -> the class of each (n,), and the net's confidence in it (n,), 0 to 1.

    The confidence is the largest entry of the softmax of the logits. Images are preprocessed here.

    Args:
        batch: images at a time; by :func:`batch_size` unless given.
        prepare: what is done to raw images, that of the data set or of the exported net; unless given every image is
            standardised by itself.

    Raises:
        UsageError: images of another shape, with NaN or infinity in them, or all so faint that they become blank.
        DataError: text, complex, masked or other arrays that are no plain numbers.
    """
    classes, confidences = np.zeros(len(images), np.int64), np.zeros(len(images))
    for start, logits in _logits("classify", net, images, batch, prepare):
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        classes[start:start + len(logits)] = logits.argmax(axis=1)
        confidences[start:start + len(logits)] = 1 / odds.sum(axis=1)  # the largest has odds of 1
    return classes, confidences


@kept_memory()
def outputs(net: nn.Sequential, images: np.ndarray, batch: int | None = None,
            prepare: Preprocess | None = None) -> np.ndarray:
    """Raw images (n, *input_shape) on the host -> what the net gives for each, (n, outputs) in float64.

    For nets whose outputs are not one class of all; arguments and errors as of :func:`classify`.
    """
    return np.concatenate([logits for _, logits in _logits("outputs", net, images, batch, prepare)])


def _logits(name: str, net: nn.Sequential, images: np.ndarray, batch: int | None,
            prepare: Preprocess | None) -> Iterator[tuple[int, np.ndarray]]:
    """What the net gives for raw images, batch by batch, each with the place of its first image."""
    refuse_no_numbers(images, name)
    if images.shape[1:] != net.input_shape:
        raise UsageError(f"the images are {images.shape[1:]}, but the net takes {net.input_shape}")
    prepare = prepare or IMAGE
    prepare.refuse(images, name)
    batch = batch_size(net) if batch is None else batch
    run, like = forward(net), next(iter(net.weights().values())).effective().data
    for start in range(0, len(images), batch):
        part = images[start:start + batch]
        with np.errstate(over="ignore", invalid="ignore"):
            x = prepare(part, np.dtype(str(like.dtype).rpartition(".")[2]).name)
        bad = ~np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        if bad.any():
            raise UsageError(f"image {start + bad.argmax()} holds NaN or infinity: mend the data")
        yield start, to_host(run(asarray(x, like))).astype(np.float64)  # (batch, classes)
