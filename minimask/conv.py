r"""Read 4 of 8 · needs ops · convolution, pooling and batch norm in functions of the array API standard.

Images are NHWC: (n, height, width, channels). Kernels are HWIO: (kh, kw, c_in, c_out). A convolution is a
matrix product: every window of the image becomes a row of kh*kw*c_in numbers, and the kernel a matrix with
that many rows. The standard has no strided views and no scatter-add, and needs none: the windows are kh*kw
shifted slices of the padded image, put side by side, and their transpose is kh*kw slice-additions.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import Array, takes_blocks
from .engine import op
from .ops import Result
from .parallel import in_blocks

INTEGERS = (int, np.integer)  # what counts as one; sizes are Python's from here on
Pair = int | tuple[int, int]
Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
FORMS = "'same', 'valid', an integer, (vertical, horizontal) or ((top, bottom), (left, right))"


@dataclass(frozen=True)
class Geometry:
    """Where windows lie on an image: kernel (kh, kw), strides (sh, sw), padding, and the size of the result."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
    output: tuple[int, int]  # (oh, ow)

    def slices(self) -> list[tuple[slice, slice]]:
        """For each place (i, j) in the window, row by row, which entries of the padded image meet it: (oh, ow) many."""
        (kh, kw), (sh, sw), (oh, ow) = self.kernel, self.stride, self.output
        return [(slice(i, i + sh * (oh - 1) + 1, sh), slice(j, j + sw * (ow - 1) + 1, sw))
                for i in range(kh) for j in range(kw)]


def geometry(name: str, image: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding) -> Geometry:
    """The Geometry of `kernel` on an `image` of shape (n, h, w, c); ValueError where it does not fit.

    'same' is TensorFlow's: ceil(size / stride) results, the padding as even as it can be, and the odd one after.
    """
    if len(image) != 4:
        raise ValueError(f"{name}: x has shape {image}; needed are four axes, (n, height, width, channels)")
    size, kernel, stride = image[1:3], _pair(name, "window", kernel), _pair(name, "stride", stride)
    sides = _sides(name, size, kernel, stride, padding)
    padded = tuple(n + before + after for n, (before, after) in zip(size, sides))
    output = tuple((n - k) // s + 1 for n, k, s in zip(padded, kernel, stride))
    if min(output) < 1:
        raise ValueError(f"{name}: a window of {kernel} does not fit into the padded image of {padded} "
                         f"(x {image}, padding {padding}); pad more or take a smaller window")
    return Geometry(kernel, stride, sides, (output[0], output[1]))


def _sides(name: str, size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int],
           padding: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of a padding in any of its forms."""
    if padding == "same":
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride)]
        padding = tuple((total // 2, total - total // 2) for total in totals)
    elif padding == "valid":
        padding = ((0, 0), (0, 0))
    elif isinstance(padding, INTEGERS):
        padding = ((padding, padding), (padding, padding))
    elif isinstance(padding, tuple) and len(padding) == 2 and all(isinstance(p, INTEGERS) for p in padding):
        padding = ((padding[0], padding[0]), (padding[1], padding[1]))
    if not (isinstance(padding, tuple) and len(padding) == 2
            and all(isinstance(p, tuple) and len(p) == 2 and all(isinstance(n, INTEGERS) and n >= 0 for n in p)
                    for p in padding)):
        raise ValueError(f"{name}: padding is {padding!r}; give {FORMS}")
    (top, bottom), (left, right) = padding
    return (int(top), int(bottom)), (int(left), int(right))


def _pair(name: str, what: str, value: Pair) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(n, INTEGERS) and n >= 1 for n in pair):
        raise ValueError(f"{name}: {what} is {value!r}; give an integer from 1 up, or a pair of them")
    return int(pair[0]), int(pair[1])


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
        budget: bytes of windows at a time where the blocked version runs, 1 or more; its own choice unless given.
    """
    check_channels("conv2d", x.shape, w.shape)
    at = geometry("conv2d", x.shape, w.shape[:2], stride, padding)
    if budget is not None and not (isinstance(budget, INTEGERS) and budget >= 1):
        raise ValueError(f"conv2d: budget is {budget!r}; give a number of bytes, 1 or more, or None")
    if takes_blocks(xp):  # the same block by block; a test holds both equal
        from . import fastconv

        return (fastconv.forward(x, w, at, budget),
                lambda g: (lambda: fastconv.backward_image(g, w, x.shape, at, budget),
                           lambda: fastconv.backward_kernel(x, g, at, budget)))
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


def check_channels(name: str, x: tuple[int, ...], w: tuple[int, ...]) -> None:
    """ValueError where kernel and image do not fit together; it tells an NCHW image or OIHW kernel apart."""
    axes = f"(x {x}, kernel {w}); axes are NHWC and HWIO"
    if len(x) != 4 or len(w) != 4:
        raise ValueError(f"{name}: both need four axes {axes}")
    if 0 in (x[3], *w[2:]):
        raise ValueError(f"{name}: both need a channel or more {axes}")
    if x[3] != w[2]:
        hint = ""
        if x[1] == w[2]:
            hint = "; x looks like NCHW: permute_dims(x, (0, 2, 3, 1))"
        elif x[3] == w[1] and w[2] == w[3] and w[0] != w[1]:
            hint = "; the kernel looks like OIHW: permute_dims(w, (2, 3, 1, 0))"
        raise ValueError(f"{name}: x has {x[3]} channels but the kernel expects {w[2]} {axes}{hint}")


@op
def max_pool2d(xp: Any, x: Array, /, window: Pair, stride: Pair | None = None, padding: Padding = "valid") -> Result:
    """The largest entry of every window, per channel: (n, h, w, c) -> (n, oh, ow, c). Windows may overlap.

    Padding counts as minus infinity. Tie rule: the first of equal entries, row by row, takes the whole cotangent,
    as in PyTorch.

    Args:
        window: an integer or (vertical, horizontal). stride: the same, the window's unless given.
        padding: as in conv2d.
    """
    at = geometry("max_pool2d", x.shape, window, window if stride is None else stride, padding)
    no_empty_window("max_pool2d", at)

    def largest(x: Array) -> Array:
        padded = pad(xp, x, at.padding, -math.inf)
        y, *others = (padded[:, rows, columns, :] for rows, columns in at.slices())
        for other in others:
            y = xp.maximum(y, other)
        return y

    def transpose(x: Array, y: Array, g: Array) -> Array:
        padded = pad(xp, x, at.padding, -math.inf)
        dx, taken = xp.zeros_like(padded), xp.zeros_like(y, dtype=xp.bool)  # windows whose largest entry has been met
        for rows, columns in at.slices():
            first = (padded[:, rows, columns, :] == y) & ~taken
            taken = taken | first
            dx[:, rows, columns, :] += g * xp.astype(first, g.dtype)
        return crop(dx, at.padding)

    y = in_blocks(xp, largest, x)
    return y, lambda g: (in_blocks(xp, transpose, x, y, g),)


@op
def avg_pool2d(xp: Any, x: Array, /, window: Pair, stride: Pair | None = None, padding: Padding = "valid") -> Result:
    """The mean of every window, per channel: (n, h, w, c) -> (n, oh, ow, c). Padding is not counted in it.

    Args:
        window: an integer or (vertical, horizontal). stride: the same, the window's unless given.
        padding: as in conv2d. The mean is over the entries inside the image, as in TensorFlow (and in PyTorch with
            ``count_include_pad=False``).
    """
    at = geometry("avg_pool2d", x.shape, window, window if stride is None else stride, padding)
    no_empty_window("avg_pool2d", at)
    padded = pad(xp, x, at.padding)
    inside = pad(xp, xp.ones_like(x[:1, :, :, :1]), at.padding)  # (1, h, w, 1)
    total, count = (sum(image[:, rows, columns, :] for rows, columns in at.slices()) for image in (padded, inside))

    def pullback(g: Array) -> tuple[Array]:
        dx, share = xp.zeros_like(padded), g / count
        for rows, columns in at.slices():
            dx[:, rows, columns, :] += share
        return (crop(dx, at.padding),)

    return total / count, pullback


def no_empty_window(name: str, at: Geometry) -> None:
    """ValueError where a window could lie in the padding alone: its maximum and mean would mean nothing."""
    if any(max(p) >= k for p, k in zip(at.padding, at.kernel)):
        raise ValueError(f"{name}: padding {at.padding} is as wide as the window {at.kernel}; pad less than a window")


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
    values = math.prod(x.shape[:-1])
    if values < 2:
        raise ValueError(f"batch_norm: x of shape {x.shape} has {values} value(s) a channel, but training needs 2 or "
                         "more; take a larger batch, or training=False")
    rows = long_rows(xp, x)
    mean = per_channel(xp, rows, x.shape[-1]) / values
    centred = rows - repeated(xp, mean, rows)
    return mean, per_channel(xp, centred * centred, x.shape[-1]) / values


def long_rows(xp: Any, x: Array) -> Array:
    """(..., c) -> (rows, k*c), k a power of 2 up to 64: inner loops over more than c numbers."""
    c, values = x.shape[-1], math.prod(x.shape[:-1])
    return xp.reshape(x, (-1, math.gcd(values, 64) * c)) if c and values else xp.reshape(x, (values, c))


def repeated(xp: Any, vector: Array, rows: Array) -> Array:
    """A number per channel, (c,), as often as long_rows put channels side by side: -> (k*c,)."""
    return xp.tile(vector, (rows.shape[1] // vector.shape[0],)) if vector.shape[0] else vector


def per_channel(xp: Any, rows: Array, c: int) -> Array:
    """The sum of long_rows per channel: (rows, k*c) -> (c,)."""
    return xp.sum(xp.reshape(xp.sum(rows, axis=0), (-1, c)), axis=0)


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
    if not scale.shape == shift.shape == mean.shape == variance.shape == x.shape[-1:]:
        raise ValueError(f"batch_norm: x {x.shape}, scale {scale.shape}, shift {shift.shape}, mean {mean.shape}, "
                         f"variance {variance.shape}; all but x need one number per channel, the last axis of x")
    inverse = 1 / xp.sqrt(variance + eps)  # (c,)
    factor = scale * inverse
    values, c = math.prod(x.shape[:-1]), x.shape[-1]
    rows = long_rows(xp, x)  # (rows, k*c)

    def wide(vector: Array) -> Array:
        return repeated(xp, vector, rows)  # (k*c,)

    def pullback(g: Array) -> tuple[Any, ...]:
        g = xp.reshape(g, rows.shape)
        z = (rows - wide(mean)) * wide(inverse)
        dshift, dscale = per_channel(xp, g, c), per_channel(xp, g * z, c)

        def dx() -> Array:
            if not training:
                return xp.reshape(g * wide(factor), x.shape)
            return xp.reshape(wide(factor) * (g - (wide(dshift) + z * wide(dscale)) / values), x.shape)

        return dx, dscale, dshift

    return xp.reshape(rows * wide(factor) + wide(shift - mean * factor), x.shape), pullback
