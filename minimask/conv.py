r"""Read 4 of 8 · needs ops · convolution, pooling and batch norm in functions of the array API standard.

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

    Padding counts as minus infinity. Tie rule: the first of equal entries, row by row, takes the whole cotangent,
    as in PyTorch.

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


def largest_transpose(xp: Any, x: Array, y: Array, g: Array, at: Geometry) -> Array:
    """The cotangent of x, where y = largest(x) has cotangent g: each g goes where its y came from."""
    padded = pad(xp, x, at.padding, -math.inf)
    dx, taken = xp.zeros_like(padded), xp.zeros_like(y, dtype=xp.bool)  # windows whose largest entry has been met
    for rows, columns in at.slices():
        first = (padded[:, rows, columns, :] == y) & ~taken
        taken = taken | first
        dx[:, rows, columns, :] += g * xp.astype(first, g.dtype)
    return crop(dx, at.padding)


@op
def avg_pool2d(xp: Any, x: Array, /, window: Pair, stride: Pair | None = None, padding: Padding = "valid") -> Result:
    """The mean of every window, per channel: (n, h, w, c) -> (n, oh, ow, c). Padding is not counted in it.

    Args:
        window: an integer or (vertical, horizontal). stride: the same, the window's unless given.
        padding: as in conv2d. The mean is over the entries inside the image, as in TensorFlow (and in PyTorch with
            ``count_include_pad=False``).
    """
    at = of_pool("avg_pool2d", x.shape, window, stride, padding)
    padded = pad(xp, x, at.padding)
    inside = pad(xp, xp.ones_like(x[:1, :, :, :1]), at.padding)  # (1, h, w, 1)
    total, count = (sum(image[:, rows, columns, :] for rows, columns in at.slices()) for image in (padded, inside))

    def pullback(g: Array) -> tuple[Array]:
        dx, share = xp.zeros_like(padded), g / count
        for rows, columns in at.slices():
            dx[:, rows, columns, :] += share
        return (crop(dx, at.padding),)

    return total / count, pullback


@op
def global_avg_pool(xp: Any, x: Array, /) -> Result:
    """The mean over the image, per channel: (n, h, w, c) -> (n, c)."""
    if len(x.shape) != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"global_avg_pool: x has shape {x.shape}; needed is (n, height, width, channels)")
    h, w = x.shape[1:3]
    return (xp.mean(x, axis=(1, 2)),
            lambda g: (xp.broadcast_to(xp.reshape(g / (h * w), (g.shape[0], 1, 1, g.shape[1])), x.shape),))


def moments(xp: Any, x: Array) -> tuple[Array, Array]:
    """Mean and population variance per channel: (..., c) -> (c,), (c,). ValueError for under 2 values a channel."""
    values = values_per_channel(x.shape)
    rows = xp.reshape(x, (values, x.shape[-1]))
    mean = xp.sum(rows, axis=0) / values
    centred = rows - mean
    return mean, xp.sum(centred * centred, axis=0) / values


def values_per_channel(shape: tuple[int, ...]) -> int:
    """How many numbers of x a channel has; ValueError for under 2."""
    values = math.prod(shape[:-1])
    if values < 2:
        raise ValueError(f"batch_norm: x of shape {shape} has {values} value(s) a channel, but training needs 2 or "
                         "more; take a larger batch, or training=False")
    return values


@op
def batch_norm(xp: Any, x: Array, scale: Array, shift: Array, /, mean: Array, variance: Array, eps: float = 1e-3,
               training: bool = True) -> Result:
    r"""Batch normalisation: (..., c), scale (c,), shift (c,) -> (..., c). Ioffe and Szegedy 2015, arXiv:1502.03167.

    y = scale * z + shift with z = (x - mean) / sqrt(variance + eps), per channel.

    Args:
        mean, variance: (c,) arrays: of this very batch (``moments``) under `training`, where the pullback
            differentiates through them, else any, which count as constants.
        eps: added to the variance, 1e-3 as in the paper's code.
        training: whether mean and variance depend on x.
    """
    check_per_channel(x, scale, shift, mean, variance)
    inverse = 1 / xp.sqrt(variance + eps)  # (c,)
    axes, values = tuple(range(len(x.shape) - 1)), math.prod(x.shape[:-1])

    def pullback(g: Array) -> tuple[Any, ...]:
        z = (x - mean) * inverse
        dshift, dscale = xp.sum(g, axis=axes), xp.sum(g * z, axis=axes)  # (c,)

        def dx() -> Array:
            return scale * inverse * (g - (dshift + z * dscale) / values if training else g)

        return dx, dscale, dshift

    return scale * inverse * x + (shift - mean * scale * inverse), pullback


def check_per_channel(x: Array, scale: Array, shift: Array, mean: Array, variance: Array) -> None:
    """ValueError unless there is one number per channel of x in each of the others."""
    if not scale.shape == shift.shape == mean.shape == variance.shape == x.shape[-1:]:
        raise ValueError(f"batch_norm: x {x.shape}, scale {scale.shape}, shift {shift.shape}, mean {mean.shape}, "
                         f"variance {variance.shape}; all but x need one number per channel, the last axis of x")
