r"""Read 4 of 10 · needs ops · convolution and max-pooling in functions of the array API standard.

Images are NHWC: (n, height, width, channels). Kernels are HWIO: (kh, kw, c_in, c_out). A convolution is a
matrix product: every window of the image becomes a row of kh*kw*c_in numbers, and the kernel a matrix with
that many rows. The standard has no strided views and no scatter-add, and needs none: the windows are kh*kw
shifted slices of the padded image, put side by side, and their transpose is kh*kw slice-additions.
"""

import math
from typing import Any

from .backend import Array
from .engine import op
from .ops import Result
from .windows import Geometry, Padding, Pair, of_convolution, of_pool


def pad(xp: Any, x: Array, padding: tuple[tuple[int, int], tuple[int, int]], value: float = 0.0) -> Array:
    """x (n, h, w, c) with a border of `value`: -> (n, h + top + bottom, w + left + right, c)."""
    n, _, w, c = x.shape
    (top, bottom), (left, right) = padding
    if not any((top, bottom, left, right)):
        return x
    fill = xp.zeros_like(x[:1, :1, :1, :1]) + value  # (1, 1, 1, 1), beside x

    def border(*shape: int) -> Array:
        return xp.broadcast_to(fill, shape)

    x = xp.concat([border(n, top, w, c), x, border(n, bottom, w, c)], axis=1)  # (n, top + h + bottom, w, c)
    tall = x.shape[1]
    return xp.concat([border(n, tall, left, c), x, border(n, tall, right, c)], axis=2)


def crop(x: Array, padding: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    """The transpose of pad: the border is cut off."""
    (top, bottom), (left, right) = padding
    return x[:, top:x.shape[1] - bottom, left:x.shape[2] - right, :]


def windows(xp: Any, padded: Array, at: Geometry) -> Array:
    """Every window of the padded image as a row: (n, h, w, c) -> (n, oh, ow, kh*kw*c)."""
    return xp.concat([padded[:, rows, columns, :] for rows, columns in at.slices()], axis=3)


def windows_transpose(xp: Any, rows: Array, padded: Array, at: Geometry) -> Array:
    """The transpose of windows, adding every number back where it came from: (n, oh, ow, kh*kw*c) -> padded's shape."""
    dx, c = xp.zeros_like(padded), padded.shape[3]
    for i, (vertical, horizontal) in enumerate(at.slices()):
        dx[:, vertical, horizontal, :] += rows[:, :, :, i * c:(i + 1) * c]
    return dx


@op
def conv2d(xp: Any, x: Array, w: Array, /, stride: Pair = 1, padding: Padding = "same",
           budget: int | None = None) -> Result:
    r"""Convolution (cross-correlation): (n, h, w, c_in), (kh, kw, c_in, c_out) -> (n, oh, ow, c_out).

    y[n, i, j, o] = sum over k, l, c of x[n, i*s + k - top, j*s + l - left, c] * w[k, l, c, o].
    With A the windows as rows and W the kernel as a matrix, y = A W, dW = A^T g, and dx is the transpose of
    taking windows applied to g W^T.

    Args:
        stride: an integer or (vertical, horizontal).
        padding: 'same' (TensorFlow's), 'valid' (none), an integer, (vertical, horizontal), or
            ((top, bottom), (left, right)).
        budget: bytes of windows at a time in the blocked twin (fast/conv.py), 1 or more; its own choice unless given.
    """
    at = of_convolution("conv2d", x.shape, w.shape, stride, padding, budget)
    kh, kw, c_in, c_out = w.shape
    matrix = xp.reshape(w, (kh * kw * c_in, c_out))
    padded = pad(xp, x, at.padding)
    a = xp.reshape(windows(xp, padded, at), (-1, kh * kw * c_in))  # (n*oh*ow, kh*kw*c_in)
    y = xp.reshape(xp.matmul(a, matrix), (x.shape[0], *at.output, c_out))

    def dx(g: Array) -> Array:
        rows = xp.matmul(xp.reshape(g, (-1, c_out)), xp.matrix_transpose(matrix))  # (n*oh*ow, kh*kw*c_in)
        rows = xp.reshape(rows, (x.shape[0], *at.output, kh * kw * c_in))
        return crop(windows_transpose(xp, rows, padded, at), at.padding)

    def dw(g: Array) -> Array:
        return xp.reshape(xp.matmul(xp.matrix_transpose(a), xp.reshape(g, (-1, c_out))), w.shape)

    return y, lambda g: (lambda: dx(g), lambda: dw(g))


@op
def max_pool2d(xp: Any, x: Array, /, window: Pair, stride: Pair | None = None, padding: Padding = "valid") -> Result:
    """The largest entry of every window, per channel: (n, h, w, c) -> (n, oh, ow, c). Windows may overlap.

    Padding counts as minus infinity. Tie rule: the first of equal entries inside the image, row by row, takes the
    whole cotangent, and NaN, the largest of all, as in PyTorch.

    Args:
        window: an integer or (vertical, horizontal). stride: the same, the window's unless given.
        padding: as in conv2d.
    """
    at = of_pool("max_pool2d", x.shape, window, stride, padding)
    y = largest(xp, x, at)
    return y, lambda g: (largest_transpose(xp, x, y, g, at),)


def largest(xp: Any, x: Array, at: Geometry) -> Array:
    """The largest entry of every window: (n, h, w, c) -> (n, oh, ow, c)."""
    padded = pad(xp, x, at.padding, -math.inf)
    y, *others = (padded[:, rows, columns, :] for rows, columns in at.slices())
    for other in others:
        y = xp.maximum(y, other)
    return y


def largest_transpose(xp: Any, x: Array, y: Array, g: Array, at: Geometry, with_nan: bool = True) -> Array:
    """The cotangent of x, where y = largest(x) has cotangent g: each g goes where its y came from.

    `with_nan`: whether NaN may be among y, which must be looked for, since it equals nothing; nor does the border here.
    """
    padded, nan = pad(xp, x, at.padding, math.nan), xp.isnan(pad(xp, x, at.padding)) if with_nan else None
    dx, left = xp.zeros_like(padded), xp.ones_like(y, dtype=xp.bool)  # windows whose largest entry is yet to be met
    for rows, columns in at.slices():
        found = padded[:, rows, columns, :] == y
        first = (found if nan is None else found | nan[:, rows, columns, :]) & left
        left = left ^ first
        dx[:, rows, columns, :] += g * xp.astype(first, g.dtype)
    return crop(dx, at.padding)
