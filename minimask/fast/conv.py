"""The blocked convolution, twin of conv2d on NumPy and CuPy arrays, and of max-pool on NumPy's: equal up to rounding.

Taking the windows of a whole batch at once (im2col) writes arrays of hundreds of megabytes and reads them back.
Here the batch goes through in *blocks*: on NumPy of windows that stay in a core's cache, half of the blocks on each of
two threads, with a BLAS of one thread; on CuPy of windows that leave room on the device. Wide 3x3 layers go to
winograd.py.

The block is a fixed function of the shapes and a byte budget, and the sums over blocks are taken in block order, so
runs repeat bit for bit, with one thread as with two. Functions that the array API has not got (as_strided, out=) have
the same name and arguments in both libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from .. import conv as plain
from ..backend import Array, namespace
from ..ops import Result
from ..windows import Geometry, Padding, Pair, of_convolution, of_pool
from . import winograd
from .blocks import in_blocks
from .threads import in_parts

#: Bytes of windows in a block unless told otherwise. NumPy: what a core's second-level cache holds, found by measuring
#: (benchmarks/ops.py). CuPy: enough work for a kernel; not measured yet.
BUDGET = {"numpy": 1 << 20, "cupy": 1 << 28}


def conv2d(xp: ModuleType, x: Array, w: Array, /, stride: Pair = 1, padding: Padding = "same",
           budget: int | None = None) -> Result:
    """The same block by block, windows of `budget` bytes at a time."""
    at = of_convolution("conv2d", x.shape, w.shape, stride, padding, budget)
    return forward(x, w, at, budget), lambda g: (lambda: backward_image(g, w, x.shape, at, budget),
                                                 lambda: backward_kernel(x, g, at, budget))


def max_pool2d(xp: ModuleType, x: Array, /, window: Pair, stride: Pair | None = None,
               padding: Padding = "valid") -> Result:
    """The same, some images at a time."""
    at = of_pool("max_pool2d", x.shape, window, stride, padding)
    y = in_blocks(lambda x: plain.largest(xp, x, at), x)
    return y, lambda g: (in_blocks(lambda x, y, g: plain.largest_transpose(xp, x, y, g, at), x, y, g),)


class Windows:
    """The windows of a few images at a time, as rows of a buffer that is used again and again.

    Args:
        x: (n, h, w, c). at: where the windows lie. budget: bytes of windows at a time.
    """

    def __init__(self, x: Array, at: Geometry, budget: int):
        self.x, self.at, xp = x, at, namespace(x)
        _, h, w, c = x.shape
        (top, bottom), (left, right) = at.padding
        (kh, kw), (oh, ow) = at.kernel, at.output
        row_bytes = ow * kh * kw * c * x.itemsize  # of the windows in one row of the output
        self.images = max(1, min(x.shape[0], budget // (row_bytes * oh)))
        self.rows = oh if self.images > 1 else min(oh, max(1, budget // row_bytes))
        self.direct = (kh, kw) == (1, 1) and not any((top, bottom, left, right))  # the image is its own windows
        if not self.direct:
            self.padded = xp.zeros((self.images, h + top + bottom, w + left + right, c), x.dtype)
            self.buffer = xp.empty((self.images * self.rows * ow, kh * kw * c), x.dtype)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, slice, Array]]:
        """For images start to stop: (images, output rows, windows of both as (images*rows*ow, kh*kw*c))."""
        xp, (top, _), (left, _) = namespace(self.x), *self.at.padding
        (kh, kw), (sh, sw), (oh, ow) = self.at.kernel, self.at.stride, self.at.output
        _, h, w, c = self.x.shape
        for first in range(start, stop, self.images):
            n = min(self.images, stop - first)
            chosen = slice(first, first + n)
            if self.direct:
                yield chosen, slice(0, oh), self.x[chosen, ::sh, ::sw].reshape(-1, c)
                continue
            padded = self.padded[:n]
            padded[:, top:top + h, left:left + w] = self.x[chosen]
            s0, s1, s2, s3 = padded.strides
            for row in range(0, oh, self.rows):
                count = min(self.rows, oh - row)
                view = xp.lib.stride_tricks.as_strided(
                    padded[:, row * sh:], (n, count, ow, kh, kw, c), (s0, s1 * sh, s2 * sw, s1, s2, s3))
                filled = self.buffer[:n * count * ow]
                xp.copyto(filled.reshape(view.shape), view)
                yield chosen, slice(row, row + count), filled


def parts(xp: ModuleType, work: Callable[[int, int], Any], count: int) -> list[Any]:
    """work(start, stop) over ranges of 0..count, results in order: on two threads for NumPy; a GPU is handed all."""
    return in_parts(work, count) if xp is np else [work(0, count)]


def forward(x: Array, w: Array, at: Geometry, budget: int | None = None) -> Array:
    """conv2d: (n, h, w, c_in), (kh, kw, c_in, c_out) -> (n, oh, ow, c_out)."""
    xp, c_out = namespace(x), w.shape[3]
    if winograd.pays(x, w.shape, at):
        return winograd.forward(x, w, at, budget or winograd.BUDGET)
    matrix = xp.ascontiguousarray(w).reshape(-1, c_out)
    y = xp.empty((x.shape[0], *at.output, c_out), x.dtype)

    def work(start: int, stop: int) -> None:
        for images, rows, windows in Windows(x, at, budget or BUDGET[xp.__name__]).blocks(start, stop):
            part = y[images, rows]
            if part.flags.c_contiguous:
                xp.matmul(windows, matrix, out=part.reshape(-1, c_out))
            else:
                part[...] = xp.matmul(windows, matrix).reshape(part.shape)

    parts(xp, work, x.shape[0])
    return y


def backward_kernel(x: Array, g: Array, at: Geometry, budget: int | None = None) -> Array:
    """dW of conv2d: windows^T g, summed over blocks, the parts in order -> (kh, kw, c_in, c_out)."""
    xp, c_in, c_out = namespace(x), x.shape[3], g.shape[3]
    if winograd.pays(x, (*at.kernel, c_in, c_out), at):
        return winograd.backward_kernel(x, g, at, budget or winograd.BUDGET)

    def work(start: int, stop: int) -> Array:
        total = xp.zeros((at.kernel[0] * at.kernel[1] * c_in, c_out), x.dtype)
        product = xp.empty_like(total)
        for images, rows, windows in Windows(x, at, budget or BUDGET[xp.__name__]).blocks(start, stop):
            total += xp.matmul(windows.T, g[images, rows].reshape(-1, c_out), out=product)
        return total

    first, *others = parts(xp, work, x.shape[0]) or [work(0, 0)]  # zeros for a batch of no images
    for part in others:
        first += part
    return first.reshape(*at.kernel, c_in, c_out)


def geometry_of_image(shape: tuple[int, ...], at: Geometry) -> Geometry:
    """Where the windows on g lie in the convolution that gives dx of `shape`, for stride 1."""
    (kh, kw), (top, bottom), (left, right) = at.kernel, *at.padding
    sides = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
    return Geometry(at.kernel, (1, 1), sides, (shape[1], shape[2]))


def backward_image(g: Array, w: Array, shape: tuple[int, ...], at: Geometry, budget: int | None = None) -> Array:
    """dx of conv2d -> `shape`. For stride 1 it is the convolution of g with the kernel turned by 180 degrees."""
    (kh, kw), (top, bottom), (left, right) = at.kernel, *at.padding
    (n, h, width, c_in), xp = shape, namespace(g)
    if at.stride == (1, 1) and max(top, bottom) < kh and max(left, right) < kw:
        turned = xp.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, c_out, c_in)
        return forward(g, turned, geometry_of_image(shape, at), budget)
    dx = xp.zeros((n, h + top + bottom, width + left + right, c_in), g.dtype)
    transposed = xp.ascontiguousarray(w.reshape(-1, w.shape[3]).T)  # (c_out, kh*kw*c_in)
    row = at.output[0] * at.output[1] * transposed.shape[1] * g.dtype.itemsize  # bytes of windows of an image
    images = max(1, (budget or BUDGET[xp.__name__]) // row)

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, images):
            part = g[first:min(first + images, stop)]
            rows = xp.matmul(part.reshape(-1, w.shape[3]), transposed).reshape(*part.shape[:3], -1)
            for i, (vertical, horizontal) in enumerate(at.slices()):
                dx[first:first + len(part), vertical, horizontal] += rows[..., i * c_in:(i + 1) * c_in]

    parts(xp, work, n)
    return dx[:, top:top + h, left:left + width]
