"""The blocked convolution, twin of conv2d on NumPy arrays, and max-pool some images at a time.

Taking the windows of a whole batch at once (im2col) writes arrays of hundreds of megabytes and reads them back.
Here the batch goes through in *blocks* of windows that stay in a core's cache, half of the blocks on each of two
threads, with a BLAS of one thread. Wide 3x3 layers go to winograd.py. In thin ones (16 channels, say) copying windows
takes longer than multiplying them, so there only windows of a single row are copied, see :func:`by_rows`.

The block is a fixed function of the shapes and a byte budget, and the sums over blocks are taken in block order, so
runs repeat bit for bit, with one thread as with two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import conv as plain
from ..backend import Array
from ..ops import Result
from ..windows import Geometry, Padding, Pair, of_convolution, of_pool
from . import winograd
from .blocks import filled, in_blocks
from .threads import in_parts, sum_of_parts

#: Bytes of windows in a block unless told otherwise, found by measuring (benchmarks/ops.py); see winograd.BUDGET.
BUDGET = 2 << 20
#: Channels in from which on by_rows() pays.
THIN = 8


def conv2d(xp: ModuleType, x: Array, w: Array, /, stride: Pair = 1, padding: Padding = "same",
           budget: int | None = None) -> Result:
    """The same block by block, windows of `budget` bytes at a time."""
    at = of_convolution("conv2d", x.shape, w.shape, stride, padding, budget)
    wide = winograd.wide(x) if winograd.pays(x, w.shape, at) else None  # looked at once, for y and for dw

    def pullback(g: Array) -> Any:
        wide_g = None if wide is None else winograd.wide(g)
        return (lambda: backward_image(g, w, x.shape, at, budget, wide_g),
                lambda: backward_kernel(x, g, at, budget, wide, wide_g))

    return forward(x, w, at, budget, wide), pullback


def max_pool2d(xp: ModuleType, x: Array, /, window: Pair, stride: Pair | None = None,
               padding: Padding = "valid") -> Result:
    """The same, some images at a time; NaN is looked for where there is any."""
    at = of_pool("max_pool2d", x.shape, window, stride, padding)
    y = in_blocks(lambda x: plain.largest(np, x, at), x)
    apart = at.stride[0] >= at.kernel[0] and at.stride[1] >= at.kernel[1] and not any(map(any, at.padding))

    def transpose(dx: np.ndarray, x: np.ndarray, y: np.ndarray, g: np.ndarray) -> None:
        if (with_nan := bool(np.isnan(y).any())) or not apart:
            dx[...] = plain.largest_transpose(np, x, y, g, at, with_nan)
        else:
            largest_transpose_apart(dx, x, y, g, at)

    return y, lambda g: (filled(transpose, np.empty(x.shape, x.dtype), x, y, g),)


def largest_transpose_apart(dx: np.ndarray, x: np.ndarray, y: np.ndarray, g: np.ndarray, at: Geometry) -> None:
    """plain.largest_transpose, into dx, where windows do not overlap: every place is written once, nothing is added."""
    if at.stride != at.kernel or x.shape[1:3] != (y.shape[1] * at.stride[0], y.shape[2] * at.stride[1]):
        dx[...] = 0  # places that lie in no window
    left = np.ones(y.shape, bool)  # windows whose largest entry is yet to be met
    for rows, columns in at.slices():
        first = x[:, rows, columns] == y
        first &= left
        left ^= first
        np.multiply(g, first, out=dx[:, rows, columns])


class Windows:
    """The windows of a few images at a time, as rows of a buffer that is used again and again.

    Args:
        x: (n, h, w, c). at: where the windows lie. budget: bytes of windows at a time.
    """

    def __init__(self, x: np.ndarray, at: Geometry, budget: int):
        self.x, self.at = x, at
        _, h, w, c = x.shape
        (top, bottom), (left, right) = at.padding
        (kh, kw), (oh, ow) = at.kernel, at.output
        row_bytes = ow * kh * kw * c * x.itemsize  # of the windows in one row of the output
        self.images = max(1, min(x.shape[0], budget // (row_bytes * oh)))
        self.rows = oh if self.images > 1 else min(oh, max(1, budget // row_bytes))
        self.direct = (kh, kw) == (1, 1) and not any((top, bottom, left, right))  # the image is its own windows
        if not self.direct:
            self.padded = np.zeros((self.images, h + top + bottom, w + left + right, c), x.dtype)
            self.buffer = np.empty((self.images * self.rows * ow, kh * kw * c), x.dtype)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """For images start to stop: (images, output rows, windows of both as (images*rows*ow, kh*kw*c))."""
        (top, _), (left, _) = self.at.padding
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
                view = as_strided(
                    padded[:, row * sh:], (n, count, ow, kh, kw, c), (s0, s1 * sh, s2 * sw, s1, s2, s3))
                filled = self.buffer[:n * count * ow]
                np.copyto(filled.reshape(view.shape), view)
                yield chosen, slice(row, row + count), filled


def forward(x: np.ndarray, w: np.ndarray, at: Geometry, budget: int | None = None,
            wide: np.ndarray | None = None) -> np.ndarray:
    """conv2d: (n, h, w, c_in), (kh, kw, c_in, c_out) -> (n, oh, ow, c_out). wide: winograd.wide(x), where it is known.

    Winograd's way where that pays, but image by image the direct one where it would spoil the result.
    """
    if not winograd.pays(x, w.shape, at):
        return direct(x, w, at, budget)
    wide = winograd.wide(x) if wide is None else wide
    if not wide.any():
        return winograd.forward(x, w, at, budget or winograd.BUDGET)
    y = np.empty((x.shape[0], *at.output, w.shape[3]), x.dtype)
    y[wide] = direct(x[wide], w, at, budget)
    if not wide.all():
        y[~wide] = winograd.forward(x[~wide], w, at, budget or winograd.BUDGET)
    return y


def direct(x: np.ndarray, w: np.ndarray, at: Geometry, budget: int | None = None) -> np.ndarray:
    """forward() as products of windows, whatever the layer."""
    if by_rows_pays(w.shape, at):
        return by_rows(x, w, at, budget)
    c_out = w.shape[3]
    matrix = np.ascontiguousarray(w).reshape(-1, c_out)
    y = np.empty((x.shape[0], *at.output, c_out), x.dtype)

    def work(start: int, stop: int) -> None:
        for images, rows, windows in Windows(x, at, budget or BUDGET).blocks(start, stop):
            part = y[images, rows]
            if part.flags.c_contiguous:
                np.matmul(windows, matrix, out=part.reshape(-1, c_out))
            else:
                part[...] = np.matmul(windows, matrix).reshape(part.shape)

    in_parts(work, x.shape[0])
    return y


def backward_kernel(x: np.ndarray, g: np.ndarray, at: Geometry, budget: int | None = None,
                    wide: np.ndarray | None = None, wide_g: np.ndarray | None = None) -> np.ndarray:
    """dW of conv2d: windows^T g, summed over blocks, the parts in order -> (kh, kw, c_in, c_out).

    wide, wide_g: winograd.wide of x and g, where they are known.
    """
    if not winograd.pays(x, (*at.kernel, x.shape[3], g.shape[3]), at):
        return direct_kernel(x, g, at, budget)
    wide = (winograd.wide(x) if wide is None else wide) | (winograd.wide(g) if wide_g is None else wide_g)
    if not wide.any():
        return winograd.backward_kernel(x, g, at, budget or winograd.BUDGET)
    dw = direct_kernel(x[wide], g[wide], at, budget)
    return dw if wide.all() else dw + winograd.backward_kernel(x[~wide], g[~wide], at, budget or winograd.BUDGET)


def direct_kernel(x: np.ndarray, g: np.ndarray, at: Geometry, budget: int | None = None) -> np.ndarray:
    """backward_kernel() as products of windows, whatever the layer."""
    c_in, c_out = x.shape[3], g.shape[3]
    if by_rows_pays((*at.kernel, c_in, c_out), at):
        return by_rows_kernel(x, g, at, budget)

    def work(start: int, stop: int) -> np.ndarray:
        total = np.zeros((at.kernel[0] * at.kernel[1] * c_in, c_out), x.dtype)
        product = np.empty_like(total)
        for images, rows, windows in Windows(x, at, budget or BUDGET).blocks(start, stop):
            total += np.matmul(windows.T, g[images, rows].reshape(-1, c_out), out=product)
        return total

    return sum_of_parts(work, len(x)).reshape(*at.kernel, c_in, c_out)


def by_rows_pays(kernel: tuple[int, ...], at: Geometry) -> bool:
    """Whether by_rows() copies and writes less than direct(), for a kernel of shape (kh, kw, c_in, c_out)."""
    kh, kw, c_in, c_out = kernel
    return kh > 1 and at.stride[0] == 1 and c_in >= THIN and kh * c_out <= 2 * kw * c_in


def by_rows(x: np.ndarray, w: np.ndarray, at: Geometry, budget: int | None = None) -> np.ndarray:
    """direct() for a vertical stride of 1: windows of one row each, and for every row of the kernel a product.

    y[i] = sum over k of (windows of row i + k of the padded image) @ w[k]: kw times the image is copied in place of
    kh*kw times, for kh arrays of results in place of one.
    """
    kh, kw, c_in, c_out = w.shape
    kernel, (oh, ow), high = np.ascontiguousarray(w).reshape(kh, kw * c_in, c_out), at.output, at.output[0] + kh - 1
    y = np.empty((len(x), oh, ow * c_out), x.dtype)

    def work(start: int, stop: int) -> None:
        source = row_windows(x, at, budget)
        products = np.empty((kh, source.images * high * ow, c_out), x.dtype)
        for images, _, windows in source.blocks(start, stop):
            found = np.matmul(windows, kernel, out=products[:, :len(windows)]).reshape(kh, -1, high, ow * c_out)
            part = np.add(found[0, :, :oh], found[1, :, 1:1 + oh], out=y[images])
            for k in range(2, kh):
                part += found[k, :, k:k + oh]

    in_parts(work, len(x))
    return y.reshape(len(x), oh, ow, c_out)


def by_rows_kernel(x: np.ndarray, g: np.ndarray, at: Geometry, budget: int | None = None) -> np.ndarray:
    """direct_kernel() for a vertical stride of 1: each row of dW from the windows of one row that it met."""
    (kh, kw), (oh, ow), c_in, c_out = at.kernel, at.output, x.shape[3], g.shape[3]

    def work(start: int, stop: int) -> np.ndarray:
        total = np.zeros((kh, kw * c_in, c_out), x.dtype)
        for images, _, windows in row_windows(x, at, budget).blocks(start, stop):
            n, row = images.stop - images.start, ow * windows.strides[0]  # row: bytes
            met = as_strided(windows, (n, kh, oh * ow, kw * c_in), ((oh + kh - 1) * row, row, *windows.strides))
            total += np.matmul(met.mT, g[images].reshape(n, 1, oh * ow, c_out)).sum(axis=0)
        return total

    return sum_of_parts(work, len(x)).reshape(kh, kw, c_in, c_out)


def row_windows(x: np.ndarray, at: Geometry, budget: int | None) -> Windows:
    """The windows of single rows, of whole images at a time, however small the budget."""
    rows = Geometry((1, at.kernel[1]), (1, at.stride[1]), at.padding, (at.output[0] + at.kernel[0] - 1, at.output[1]))
    image = math.prod(rows.output) * at.kernel[1] * x.shape[3] * x.itemsize  # bytes of its windows
    return Windows(x, rows, max(budget or BUDGET // 2, image))


def geometry_of_image(shape: tuple[int, ...], at: Geometry) -> Geometry:
    """Where the windows on g lie in the convolution that gives dx of `shape`, for stride 1."""
    (kh, kw), (top, bottom), (left, right) = at.kernel, *at.padding
    sides = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
    return Geometry(at.kernel, (1, 1), sides, (shape[1], shape[2]))


def backward_image(g: np.ndarray, w: np.ndarray, shape: tuple[int, ...], at: Geometry,
                   budget: int | None = None, wide: np.ndarray | None = None) -> np.ndarray:
    """dx of conv2d -> `shape`. For stride 1 it is the convolution of g with the kernel turned by 180 degrees.

    wide: winograd.wide(g), where it is known.
    """
    (kh, kw), (top, bottom), (left, right) = at.kernel, *at.padding
    n, h, width, c_in = shape
    if at.stride == (1, 1) and max(top, bottom) < kh and max(left, right) < kw:
        turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, c_out, c_in)
        return forward(g, turned, geometry_of_image(shape, at), budget, wide)
    dx = np.zeros((n, h + top + bottom, width + left + right, c_in), g.dtype)
    transposed = np.ascontiguousarray(w.reshape(-1, w.shape[3]).T)  # (c_out, kh*kw*c_in)
    row = at.output[0] * at.output[1] * transposed.shape[1] * g.dtype.itemsize  # bytes of windows of an image
    images = max(1, (budget or BUDGET) // row)

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, images):
            part = g[first:min(first + images, stop)]
            rows = np.matmul(part.reshape(-1, w.shape[3]), transposed).reshape(*part.shape[:3], -1)
            for i, (vertical, horizontal) in enumerate(at.slices()):
                dx[first:first + len(part), vertical, horizontal] += rows[..., i * c_in:(i + 1) * c_in]

    in_parts(work, n)
    return dx[:, top:top + h, left:left + width]
