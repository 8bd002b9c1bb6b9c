"""Twins of ops and of the optimizer's step, in blocks and on two threads, and of batch norm in long rows.

Each takes and gives what its plain version does; what it computes is said there.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from .. import ops as plain
from .. import optim, resnet
from ..backend import Array
from ..inputs import check_factors, indices_of, kept_count, threshold
from ..ops import Result
from .blocks import elementwise, in_place, product


def multiply(xp: ModuleType, x: Array, y: Array, /) -> Result:
    """The same in blocks."""
    return elementwise(np.multiply, x, y), lambda g: (lambda: elementwise(np.multiply, g, y),
                                                      lambda: elementwise(np.multiply, g, x))


def elu(xp: ModuleType, x: Array, /, alpha: float = 1.0) -> Result:
    """For alpha 1: the lower branch, of -|x|, lies below x in the upper one; the slope is min(y, 0) + 1.

    Another formula than the plain one, so its last bits may differ.
    """
    if alpha != 1:
        return plain.elu.__wrapped__(xp, x, alpha)
    y = elementwise(_elu, x)
    return y, lambda g: (elementwise(_elu_transpose, g, y),)


def _elu(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """max(x, e^-|x| - 1), the latter as 2t / (1 - t), t = tanh(-|x|/2): nothing cancels near 0, and NumPy's float32
    tanh is five times as fast as its expm1. Written into one array, which stays in the cache."""
    t = np.abs(x, out=_room(x, out))
    t *= -0.5
    np.tanh(t, out=t)
    t /= 1 - t
    t *= 2
    return np.maximum(x, t, out=t)


def _elu_transpose(g: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """g (min(y, 0) + 1)."""
    slope = np.clip(y, -1.0, 0.0, out=out)
    slope += 1
    slope *= g
    return slope


def _room(x: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """`out`, or where there is none a new array like x."""
    return np.empty_like(x) if out is None else out


def take(xp: ModuleType, x: Array, indices: Array, /, axis: int = 0) -> Result:
    """The same; the cotangent is added where it belongs, without a one-hot matrix."""
    axis, positions = indices_of(np, x, indices, axis)

    def pullback(g: np.ndarray) -> tuple[np.ndarray, None]:
        dx = np.zeros_like(x)
        np.add.at(np.moveaxis(dx, axis, 0), positions, np.moveaxis(g, axis, 0))
        return dx, None

    return np.take(x, positions, axis=axis), pullback


def matmul(xp: ModuleType, x: Array, y: Array, /) -> Result:
    """The same; a large product on two threads of ours."""
    check_factors(x.shape, y.shape)
    return product(x, y), lambda g: (lambda: product(g, y.mT), lambda: product(x.mT, g))


# ---- the method ----------------------------------------------------------------------------------------------------


def keep_hide_invert(xp: ModuleType, m: Array, /, tau: float) -> Result:
    """The same in blocks, the difference of both comparisons in int8: a quarter of the memory to go through."""
    tau = threshold("keep_hide_invert", tau)

    def step(m: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.subtract((m > tau).view(np.int8), (m < -tau).view(np.int8), out=_room(m, out))

    return elementwise(step, m), lambda g: (g,)


def keep_hide(xp: ModuleType, m: Array, /, tau: float) -> Result:
    """The same in blocks."""
    tau = threshold("keep_hide", tau)
    return elementwise(lambda m, out=None: np.greater(m, tau, out=_room(m, out)), m), lambda g: (g,)


def keep_largest(xp: ModuleType, m: Array, /, share: float) -> Result:
    """The same without a full sort."""
    k, sizes = kept_count(share, m), np.abs(m).reshape(-1)
    chosen = np.full(sizes.shape, k > 0)
    if 0 < k < sizes.size:
        edge = np.partition(sizes, sizes.size - k)[sizes.size - k]  # the k-th largest
        chosen = sizes > edge
        chosen[np.flatnonzero(sizes == edge)[:k - np.count_nonzero(chosen)]] = True
    return chosen.reshape(m.shape).astype(m.dtype), lambda g: (g * np.sign(m),)


def nesterov(xp: ModuleType, p: Array, v: Array, g: Array, rate: float, keep: float, momentum: float) -> None:
    """The same in blocks."""
    in_place(lambda p, v, g: optim.nesterov(np, p, v, g, rate, keep, momentum), p, v, g)


# ---- batch norm in long rows: inner loops over more than c numbers -------------------------------------------------


def _long_rows(xp: ModuleType, x: Array) -> Array:
    """(..., c) -> (rows, k*c), k a power of 2 up to 64."""
    c, values = x.shape[-1], math.prod(x.shape[:-1])
    return xp.reshape(x, (-1, math.gcd(values, 64) * c)) if c and values else xp.reshape(x, (values, c))


def _along(xp: ModuleType, rows: Array) -> Callable[[Array], Array]:
    """A function that repeats numbers per channel, (c,), as often as channels lie side by side in long rows: (k*c,)."""
    return lambda each: xp.tile(each, (rows.shape[1] // each.shape[0],)) if each.shape[0] else each


def _per_channel(xp: ModuleType, rows: Array, c: int) -> Array:
    """The sum of long rows per channel: (rows, k*c) -> (c,)."""
    return xp.sum(xp.reshape(xp.sum(rows, axis=0), (-1, c)), axis=0)


def moments(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """The same, for NumPy and CuPy."""
    values, c, rows = resnet.values_per_channel(x.shape), x.shape[-1], _long_rows(xp, x)
    mean = _per_channel(xp, rows, c) / values
    centred = rows - _along(xp, rows)(mean)
    return mean, _per_channel(xp, centred * centred, c) / values


def batch_norm(xp: ModuleType, x: Array, scale: Array, shift: Array, /, mean: Array, variance: Array,
               eps: float = 1e-3, training: bool = True) -> Result:
    """The same, for NumPy and CuPy."""
    resnet.check_per_channel(x, scale, shift, mean, variance)
    inverse = 1 / xp.sqrt(variance + eps)  # (c,)
    factor = scale * inverse
    values, c = math.prod(x.shape[:-1]), x.shape[-1]
    rows = _long_rows(xp, x)  # (rows, k*c)
    wide = _along(xp, rows)  # (c,) -> (k*c,)

    def pullback(g: Array) -> tuple[Any, ...]:
        g = xp.reshape(g, rows.shape)
        z = (rows - wide(mean)) * wide(inverse)
        dshift, dscale = _per_channel(xp, g, c), _per_channel(xp, g * z, c)

        def dx() -> Array:
            if not training:
                return xp.reshape(g * wide(factor), x.shape)
            return xp.reshape(wide(factor) * (g - (wide(dshift) + z * wide(dscale)) / values), x.shape)

        return dx, dscale, dshift

    return xp.reshape(rows * wide(factor) + wide(shift - mean * factor), x.shape), pullback
