"""Twins of grouped_conv2d on NumPy arrays: group by group as blocked convolutions, or depthwise without any product.

The plain version stacks the windows of all groups in one array of kh*kw times the image. A group by itself is a
convolution like others, so fast/conv.py does it, in blocks. Where every group reads one channel, a product of matrices
is a waste: the kernel's row for one place in the window is multiplied with the shifted image, a few images at a time.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..backend import Array
from ..conv import crop, pad
from ..ops import Result
from ..windows import Geometry, Padding, Pair, of_grouped
from . import conv
from .threads import in_parts, sum_of_parts

#: Bytes of the padded images that are worked on at a time.
BUDGET = 1 << 19


def grouped_conv2d(xp: ModuleType, x: Array, w: Array, /, groups: int, stride: Pair = 1, padding: Padding = "same",
                   budget: int | None = None) -> Result:
    """The same, group by group; depthwise place by place."""
    at = of_grouped("grouped_conv2d", x.shape, w.shape, groups, stride, padding, budget)
    if w.shape[2] == 1 and w.shape[3] == groups:
        return depthwise(x, w, at, budget), lambda g: (lambda: depthwise_image(g, w, x.shape, at, budget),
                                                       lambda: depthwise_kernel(x, g, at, budget))
    inputs, outputs = _slices(x.shape[3], groups), _slices(w.shape[3], groups)
    y = np.empty((x.shape[0], *at.output, w.shape[3]), x.dtype)
    for here, there in zip(inputs, outputs):
        y[..., there] = conv.forward(_of(x, here), _of(w, there), at, budget)

    def dx(g: Array) -> Array:
        result, shape = np.empty(x.shape, g.dtype), (*x.shape[:3], w.shape[2])
        for here, there in zip(inputs, outputs):
            result[..., here] = conv.backward_image(_of(g, there), _of(w, there), shape, at, budget)
        return result

    def dw(g: Array) -> Array:
        result = np.empty(w.shape, g.dtype)
        for here, there in zip(inputs, outputs):
            result[..., there] = conv.backward_kernel(_of(x, here), _of(g, there), at, budget)
        return result

    return y, lambda g: (lambda: dx(g), lambda: dw(g))


def _slices(channels: int, groups: int) -> list[slice]:
    each = channels // groups
    return [slice(i * each, (i + 1) * each) for i in range(groups)]


def _of(array: np.ndarray, channels: slice) -> np.ndarray:
    """Some of the last axis, as an array of its own."""
    return np.ascontiguousarray(array[..., channels])


# ---- depthwise: one channel in, one out ----------------------------------------------------------------------------


def depthwise(x: np.ndarray, w: np.ndarray, at: Geometry, budget: int | None = None) -> np.ndarray:
    """(n, h, w, c), (kh, kw, 1, c) -> (n, oh, ow, c)."""
    y, places, rows = np.zeros((x.shape[0], *at.output, x.shape[3]), x.dtype), at.slices(), w.reshape(-1, w.shape[3])

    def work(start: int, stop: int) -> None:
        for low, high in _blocks(x, start, stop, budget):
            padded, product = pad(np, x[low:high], at.padding), np.empty_like(y[low:high])
            for (vertical, horizontal), row in zip(places, rows):
                y[low:high] += np.multiply(padded[:, vertical, horizontal], row, out=product)

    in_parts(work, x.shape[0])
    return y


def depthwise_image(g: np.ndarray, w: np.ndarray, shape: tuple[int, ...], at: Geometry,
                    budget: int | None = None) -> np.ndarray:
    """dx of depthwise -> `shape`."""
    (top, bottom), (left, right) = at.padding
    dx, rows, places = np.empty(shape, g.dtype), w.reshape(-1, w.shape[3]), at.slices()

    def work(start: int, stop: int) -> None:
        for low, high in _blocks(dx, start, stop, budget):
            part = g[low:high]
            padded = np.zeros((high - low, top + shape[1] + bottom, left + shape[2] + right, shape[3]), g.dtype)
            product = np.empty_like(part)
            for (vertical, horizontal), row in zip(places, rows):
                padded[:, vertical, horizontal] += np.multiply(part, row, out=product)
            dx[low:high] = crop(padded, at.padding)

    in_parts(work, shape[0])
    return dx


def depthwise_kernel(x: np.ndarray, g: np.ndarray, at: Geometry, budget: int | None = None) -> np.ndarray:
    """dW of depthwise -> (kh, kw, 1, c): for each place the sum of shifted image times g, the parts in order."""
    places, channels = at.slices(), x.shape[3]

    def work(start: int, stop: int) -> np.ndarray:
        total = np.zeros((len(places), channels), x.dtype)
        for low, high in _blocks(x, start, stop, budget):
            padded, part, product = pad(np, x[low:high], at.padding), g[low:high], np.empty_like(g[low:high])
            for into, (vertical, horizontal) in zip(total, places):
                into += np.multiply(padded[:, vertical, horizontal], part, out=product).sum(axis=(0, 1, 2))
        return total

    return sum_of_parts(work, len(x)).reshape(*at.kernel, 1, channels)


def _blocks(x: np.ndarray, start: int, stop: int, budget: int | None) -> Any:
    """(low, high) of a few images at a time, of so many bytes."""
    images = max(1, (budget or BUDGET) // max(1, x[:1].nbytes))
    return ((low, min(low + images, stop)) for low in range(start, stop, images))
