"""Using a trained net: logits without the machinery of training, classes with their confidence.

A pruned net (prune.py) runs here by smaller dense products, on NumPy and CuPy alike. benchmarks/inference.py measures
it, beside the other way to skip zeros: to gather what each unit reads, and to add that up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import nn
from .backend import Array, UsageError, asarray, namespace, single_threaded_blas, to_host
from .data import standardise
from .engine import OPS, Tensor, no_grad
from .parallel import LARGE_PRODUCT, product, reused_memory
from .prune import Take, size


def forward(net: nn.Sequential) -> Callable[[Array], Array]:
    """The net as a function of plain arrays: (n, *input_shape) -> (n, classes) logits, in the net's library and dtype.

    The weights are made once, here; what is trained afterwards does not reach them.
    """
    with no_grad():
        steps = [_step(layer) for layer in net.layers.values()]
    work = size(net).multiply_adds

    def logits(x: Array) -> Array:
        if x.shape[1:] != net.input_shape:
            raise UsageError(f"forward: the images are {x.shape}, but (n, {', '.join(map(str, net.input_shape))}) is "
                             "needed")
        if x.shape[0] * work < LARGE_PRODUCT:  # too little for two threads: said once, and not for every product
            with single_threaded_blas():
                return _run(steps, x)
        return _run(steps, x)

    return logits


def _run(steps: list[Callable[[Array], Array]], x: Array) -> Array:
    for step in steps:
        x = step(x)
    return x


def _step(layer: nn.Layer) -> Callable[[Array], Array]:
    """A layer as a function of an array. What takes a few microseconds goes round the Tensors, which take as many."""
    if isinstance(layer, nn.Dense):
        weight = layer.weight.effective().data
        xp = namespace(weight)
        return lambda x: product(xp, x, weight)
    if isinstance(layer, Take):
        places = layer.places
        return lambda x: namespace(x).take(x, places, axis=1)
    if isinstance(layer, nn.Flatten):
        return lambda x: namespace(x).reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    if isinstance(layer, nn.ELU):
        elu: Any = OPS["elu"]
        return lambda x: elu.__wrapped__(namespace(x), x, layer.alpha)[0]

    def step(x: Array) -> Array:
        with no_grad():
            return layer(Tensor(x)).data

    return step


@reused_memory()
def classify(net: nn.Sequential, images: np.ndarray, batch: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Raw images (n, *input_shape) on the host -> the class of each (n,), and the net's confidence in it (n,), 0 to 1.

    The confidence is the largest entry of the softmax of the logits. Images are standardised here, one by one.

    Raises:
        UsageError: images of another shape, or with NaN or infinity in them.
    """
    if images.shape[1:] != net.input_shape:
        raise UsageError(f"the images are {images.shape[1:]}, but the net takes {net.input_shape}")
    run, like = forward(net), next(iter(net.weights().values())).effective().data
    classes, confidences = np.zeros(len(images), np.int64), np.zeros(len(images))
    for start in range(0, len(images), batch):
        part = images[start:start + batch]
        if not np.isfinite(part).all():
            raise UsageError(f"an image of {start} to {start + len(part) - 1} holds NaN or infinity")
        x = standardise(part, np.dtype(str(like.dtype).rpartition(".")[2]).name)
        logits = to_host(run(asarray(x, like))).astype(np.float64)  # (batch, classes)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        classes[start:start + batch] = logits.argmax(axis=1)
        confidences[start:start + batch] = 1 / odds.sum(axis=1)  # the largest has odds of 1
    return classes, confidences
