r"""Read 3 of 8 · needs engine · the operations: each one short function, value and pullback together.

Notation: x, y inputs, g the cotangent of the value (dL/dvalue), xp the array library. A pullback returns
one cotangent per array; where an operation broadcast, the engine sums the cotangent back to the input's
shape, so no function here does. A cotangent that costs something and may not be wanted is written as a
function (``lambda: ...``), which the engine calls only if it is.

Dtypes: float32 in, float32 out, gradients too. Python numbers beside an array take its dtype. Every
operation raises ValueError for shapes that do not fit, IndexError for axes and indices out of range, and
TypeError for mixed dtypes, mixed array libraries or integers in floating-point arithmetic.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .backend import Array, asarray, beside
from .engine import OPS, Pullback, op

Axis = int | tuple[int, ...] | None
Result = tuple[Array, Pullback]


def _cast(xp: Any, x: Array, dtype: Any) -> Array:
    """x in another dtype; through asarray, since a comparison of 0-d NumPy arrays gives a scalar, not an array."""
    return xp.astype(xp.asarray(x), dtype)


# ---- arithmetic, elementwise with broadcasting ---------------------------------------------------------------------


@op
def add(xp: Any, x: Array, y: Array, /) -> Result:
    """x + y: broadcastable shapes -> their common shape."""
    return x + y, lambda g: (g, g)


@op
def subtract(xp: Any, x: Array, y: Array, /) -> Result:
    """x - y: broadcastable shapes -> their common shape."""
    return x - y, lambda g: (g, lambda: -g)


@op
def multiply(xp: Any, x: Array, y: Array, /) -> Result:
    """x * y: broadcastable shapes -> their common shape. d/dx = y, d/dy = x."""
    return x * y, lambda g: (lambda: g * y, lambda: g * x)


@op
def divide(xp: Any, x: Array, y: Array, /) -> Result:
    """x / y: broadcastable shapes -> their common shape. d/dx = 1/y, d/dy = -x/y^2."""
    z = x / y
    return z, lambda g: (lambda: g / y, lambda: -g * z / y)


@op
def negative(xp: Any, x: Array, /) -> Result:
    """-x, elementwise: any shape -> same shape."""
    return -x, lambda g: (-g,)


@op
def power(xp: Any, x: Array, /, exponent: float) -> Result:
    """x**exponent, elementwise, the exponent a Python number: any shape -> same shape. d/dx = n x^(n-1).

    A negative x with a fractional exponent is NaN. For an exponent that is a Tensor write exp(y * log(x)).
    """
    if not isinstance(exponent, (int, float)) or isinstance(exponent, np.generic):
        raise TypeError(f"power: the exponent is a {type(exponent).__name__}, but must be a Python number; "
                        "use float(exponent), or exp(exponent * log(x)) where it is a Tensor")
    if exponent == 0:
        return xp.ones_like(x), lambda g: (xp.zeros_like(x),)
    return x ** exponent, lambda g: (g * (exponent * x ** (exponent - 1)),)


@op
def abs(xp: Any, x: Array, /) -> Result:
    """|x|, elementwise: any shape -> same shape. d/dx = sign(x), 0 at 0."""
    return xp.abs(x), lambda g: (g * xp.sign(x),)


@op
def maximum(xp: Any, x: Array, y: Array, /) -> Result:
    """The larger of x and y: broadcastable shapes -> their common shape. A tie gives half of g to each."""
    return xp.maximum(x, y), lambda g: (lambda: g * _share(xp, x, y), lambda: g * _share(xp, y, x))


@op
def minimum(xp: Any, x: Array, y: Array, /) -> Result:
    """The smaller of x and y: broadcastable shapes -> their common shape. A tie gives half of g to each."""
    return xp.minimum(x, y), lambda g: (lambda: g * _share(xp, y, x), lambda: g * _share(xp, x, y))


def _share(xp: Any, x: Array, y: Array) -> Array:
    """1 where x > y, 1/2 where they are equal, 0 elsewhere, in x's dtype."""
    return (_cast(xp, x > y, x.dtype) + _cast(xp, x >= y, x.dtype)) / 2


@op
def clip(xp: Any, x: Array, /, low: float | None = None, high: float | None = None) -> Result:
    """x held between low and high (Python numbers, None for no bound): any shape -> same shape.

    The slope is 1 inside and on the bounds, 0 outside.
    """
    if low is not None and high is not None and low > high:
        raise ValueError(f"clip: low {low} lies above high {high}; swap them")
    y, inside = x, xp.ones_like(x)
    if low is not None:
        y, inside = xp.maximum(y, asarray(low, x)), inside * _cast(xp, x >= low, x.dtype)
    if high is not None:
        y, inside = xp.minimum(y, asarray(high, x)), inside * _cast(xp, x <= high, x.dtype)
    return y, lambda g: (g * inside,)


@op(discrete=("condition",))
def where(xp: Any, condition: Array, x: Array, y: Array, /) -> Result:
    """x where the condition holds, y elsewhere: broadcastable shapes -> their common shape."""
    if condition.dtype != xp.bool:
        raise TypeError(f"where: the condition is {condition.dtype}, but must be boolean; write c != 0")
    zero = asarray(0.0, x)
    return (xp.where(condition, x, y),
            lambda g: (None, lambda: xp.where(condition, g, zero), lambda: xp.where(condition, zero, g)))


# ---- functions of one array, elementwise ---------------------------------------------------------------------------


@op
def exp(xp: Any, x: Array, /) -> Result:
    """e^x, elementwise: any shape -> same shape. d/dx = e^x."""
    y = xp.exp(x)
    return y, lambda g: (g * y,)


@op
def expm1(xp: Any, x: Array, /) -> Result:
    """e^x - 1 without cancellation near 0: any shape -> same shape. d/dx = y + 1."""
    y = xp.expm1(x)
    return y, lambda g: (g * (y + 1),)


@op
def log(xp: Any, x: Array, /) -> Result:
    """Natural logarithm, elementwise: any shape -> same shape. d/dx = 1/x."""
    return xp.log(x), lambda g: (g / x,)


@op
def sqrt(xp: Any, x: Array, /) -> Result:
    """Square root, elementwise: any shape -> same shape. d/dx = 1/(2 sqrt(x)), infinite at 0."""
    y = xp.sqrt(x)
    return y, lambda g: (g / (2 * y),)


@op
def tanh(xp: Any, x: Array, /) -> Result:
    """Hyperbolic tangent, elementwise: any shape -> same shape. d/dx = 1 - y^2."""
    y = xp.tanh(x)
    return y, lambda g: (g * (1 - y * y),)


@op
def sigmoid(xp: Any, x: Array, /) -> Result:
    r"""1 / (1 + e^-x), elementwise: any shape -> same shape. d/dx = y (1 - y).

    Computed as (1 + tanh(x/2)) / 2, which cannot overflow.
    """
    y = (1 + xp.tanh(x / 2)) / 2
    return y, lambda g: (g * (y * (1 - y)),)


@op
def relu(xp: Any, x: Array, /) -> Result:
    """max(x, 0), elementwise: any shape -> same shape. The slope at 0 is 0."""
    return xp.maximum(x, asarray(0.0, x)), lambda g: (g * _cast(xp, x > 0, x.dtype),)


@op
def elu(xp: Any, x: Array, /, alpha: float = 1.0) -> Result:
    r"""x where x > 0, alpha (e^x - 1) elsewhere: any shape -> same shape (Clevert et al. 2016, arXiv:1511.07289).

    d/dx = 1 where x > 0, y + alpha elsewhere; alpha is positive. NumPy's twin has a faster exponential for alpha 1 and
    may differ in the last bits.
    """
    if alpha <= 0:
        raise ValueError(f"elu: alpha is {alpha}, but must be positive")
    alpha = float(alpha)  # a NumPy scalar would promote float32
    zero, one = asarray(0.0, x), asarray(1.0, x)
    y = xp.maximum(x, zero) + alpha * xp.expm1(xp.minimum(x, zero))
    return y, lambda g: (g * xp.where(x > 0, one, y + alpha),)


# ---- reductions ----------------------------------------------------------------------------------------------------


@op
def sum(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Result:
    """Sum over an axis, several, or all (None): the axes go, or stay with length 1 under keepdims."""
    axes = _axes("sum", axis, x)
    spread = _kept(x.shape, axes)
    return (xp.sum(x, axis=axes, keepdims=keepdims),
            lambda g: (xp.broadcast_to(xp.reshape(g, spread), x.shape),))


@op
def mean(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Result:
    """Mean over an axis, several, or all (None). ValueError over no entries."""
    axes = _axes("mean", axis, x)
    spread, count = _kept(x.shape, axes), _count("mean", x, axes)
    return (xp.mean(x, axis=axes, keepdims=keepdims),
            lambda g: (xp.broadcast_to(xp.reshape(g, spread) / count, x.shape),))


@op
def max(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Result:
    """Largest entry over an axis, several, or all (None). ValueError over no entries.

    Tie rule: entries that share the maximum share its cotangent equally, as in ``torch.amax``.
    """
    axes = _axes("max", axis, x)
    _count("max", x, axes)
    spread = _kept(x.shape, axes)
    y = xp.max(x, axis=axes, keepdims=keepdims)

    def pullback(g: Array) -> tuple[Array]:
        ties = _cast(xp, x == xp.reshape(y, spread), x.dtype)
        return (ties * (xp.reshape(g, spread) / xp.sum(ties, axis=axes, keepdims=True)),)

    return y, pullback


def _axes(name: str, axis: Axis, x: Array) -> tuple[int, ...]:
    """The axes as distinct non-negative integers; None means all."""
    rank = len(x.shape)
    if axis is None:
        return tuple(range(rank))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if not isinstance(a, (int, np.integer)):
            raise TypeError(f"{name}: axis {a!r} is no integer; give an integer, a tuple of them, or None for all")
        if not -rank <= a < rank:
            raise IndexError(f"{name}: axis {a} does not exist in shape {x.shape}; "
                             + (f"give {-rank} to {rank - 1}" if rank else "it is 0-d and has no axes"))
    axes = tuple(int(a) % rank for a in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: axis {axis} names an axis twice")
    return axes


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with length 1 on the reduced axes."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _count(name: str, x: Array, axes: tuple[int, ...]) -> int:
    """How many entries one result is made of; ValueError where there are none."""
    count = 1
    for a in axes:
        count *= x.shape[a]
    if count == 0:
        raise ValueError(f"{name}: no entries to reduce in shape {x.shape}; give at least one")
    return count


# ---- shapes --------------------------------------------------------------------------------------------------------


@op
def reshape(xp: Any, x: Array, /, shape: Sequence[int] | int) -> Result:
    """The same entries in row-major order under another shape; one length may be -1 and is worked out."""
    shape = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)
    try:
        y = xp.reshape(x, shape)
    except ValueError:
        raise ValueError(f"reshape: {x.shape} has {int(np.prod(x.shape))} entries and does not fill {shape}; "
                         "the products of both shapes must agree (one length may be -1)") from None
    return y, lambda g: (xp.reshape(g, x.shape),)


@op
def permute_dims(xp: Any, x: Array, /, axes: Sequence[int]) -> Result:
    """Axes in another order: y.shape[i] = x.shape[axes[i]]."""
    order = _axes("permute_dims", tuple(axes), x)
    if len(order) != len(x.shape):
        raise ValueError(f"permute_dims: axes {tuple(axes)} must name every axis of {x.shape} once")
    inverse = tuple(order.index(i) for i in range(len(order)))
    return xp.permute_dims(x, order), lambda g: (xp.permute_dims(g, inverse),)


@op
def broadcast_to(xp: Any, x: Array, /, shape: Sequence[int]) -> Result:
    """x repeated along new and length-1 axes; the engine sums g back."""
    try:
        y = xp.broadcast_to(x, tuple(shape))
    except ValueError:
        raise ValueError(f"broadcast_to: {x.shape} does not broadcast to {tuple(shape)}; "
                         "counted from the right, its axes must be 1 or equal") from None
    return y, lambda g: (g,)


@op
def concat(xp: Any, /, *arrays: Array, axis: int = 0) -> Result:
    """Arrays one after the other along an axis: ``concat([x, y], axis=1)`` or ``concat(x, y, axis=1)``.

    Their other axes agree.
    """
    axis, = _axes("concat", axis, arrays[0])
    shapes = [x.shape for x in arrays]
    if len({_kept(shape, (axis,)) for shape in shapes}) > 1:
        raise ValueError(f"concat: shapes {' and '.join(map(str, shapes))} differ outside axis {axis}; "
                         "only that axis may differ")

    def pullback(g: Array) -> tuple[Array, ...]:
        parts, start = [], 0
        for shape in shapes:
            index = (slice(None),) * axis + (slice(start, start + shape[axis]), ...)
            parts.append(g[index])
            start += shape[axis]
        return tuple(parts)

    return xp.concat(arrays, axis=axis), pullback


@op
def getitem(xp: Any, x: Array, /, index: Any) -> Result:
    """x[index] with integers, slices, ``...`` and None, also written ``x[index]``; for integer arrays see take."""
    for i in index if isinstance(index, tuple) else (index,):
        if not (i is None or i is ... or (isinstance(i, (slice, int, np.integer)) and not isinstance(i, bool))):
            raise TypeError(f"getitem: index of type {type(i).__name__}; use integers, slices, ... and None, "
                            "ops.take for integer arrays and ops.where for conditions")
    index = _complete(index, len(x.shape))

    def pullback(g: Array) -> tuple[Array]:
        dx = xp.zeros_like(x)
        picked = tuple(i for i in index if i is not None)  # the standard has no None in an assignment
        dx[picked] = xp.reshape(g, x[picked].shape)
        return (dx,)

    return x[index], pullback


def _complete(index: Any, rank: int) -> tuple[Any, ...]:
    """A basic index that names every axis, as the array API asks: '...' is added where axes are left out."""
    index = index if isinstance(index, tuple) else (index,)
    index = tuple(int(i) if isinstance(i, np.integer) else i for i in index)
    named = len([i for i in index if i is not None and i is not ...])
    return index if named >= rank or ... in index else (*index, ...)


@op(discrete=("indices",))
def take(xp: Any, x: Array, indices: Array, /, axis: int = 0) -> Result:
    """The entries of x at integer `indices` (1-D) along an axis: ``(..., n, ...) -> (..., len(indices), ...)``.

    Indices may repeat (their cotangents add up); negative ones count from the end.
    """
    axis, positions = positions_of(xp, x, indices, axis)

    def pullback(g: Array) -> tuple[Array, None]:  # a product with a one-hot matrix: the standard has no scatter-add
        grid = xp.arange(x.shape[axis], dtype=positions.dtype, **beside(g))
        one_hot = _cast(xp, positions[:, None] == grid[None, :], g.dtype)  # (len(indices), n)
        return xp.moveaxis(xp.matmul(xp.moveaxis(g, axis, -1), one_hot), -1, axis), None

    return xp.take(x, positions, axis=axis), pullback


def positions_of(xp: Any, x: Array, indices: Array, axis: int) -> tuple[int, Array]:
    """The axis that take goes along, from 0, and its indices, from 0; TypeError or IndexError where they are none."""
    axis, = _axes("take", axis, x)
    n = x.shape[axis]
    if len(indices.shape) != 1 or xp.isdtype(indices.dtype, "bool"):
        raise TypeError(f"take: indices are {indices.dtype} of shape {indices.shape}, but must be integers, 1-D")
    if indices.shape[0] and not -n <= int(xp.min(indices)) <= int(xp.max(indices)) < n:
        raise IndexError(f"take: indices from {int(xp.min(indices))} to {int(xp.max(indices))} "
                         f"on an axis of length {n}; give {-n} to {n - 1}")
    return axis, xp.where(indices < 0, indices + n, indices)


# ---- products ------------------------------------------------------------------------------------------------------


@op
def matmul(xp: Any, x: Array, y: Array, /) -> Result:
    """x @ y: (..., n, k), (..., k, m) -> (..., n, m); leading axes broadcast. dx = g y^T, dy = x^T g."""
    check_factors(x.shape, y.shape)
    return xp.matmul(x, y), lambda g: (lambda: xp.matmul(g, xp.matrix_transpose(y)),
                                       lambda: xp.matmul(xp.matrix_transpose(x), g))


def check_factors(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    """ValueError where matmul cannot multiply arrays of these shapes."""
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"matmul: shapes {x} and {y}; both need two axes or more, "
                         "reshape a vector to (1, k) or (k, 1)")
    if x[-1] != y[-2]:
        raise ValueError(f"matmul: {x} @ {y}: the last axis of the first ({x[-1]}) must equal "
                         f"the second to last of the second ({y[-2]})")


# ---- softmax and loss ----------------------------------------------------------------------------------------------


@op
def softmax(xp: Any, x: Array, /, axis: int = -1) -> Result:
    r"""e^x / sum e^x along an axis: any shape -> same shape. dx = y (g - sum(g y))."""
    axes = _axes("softmax", axis, x)
    _count("softmax", x, axes)
    e = xp.exp(x - xp.max(x, axis=axes, keepdims=True))  # the shift cancels; it keeps exp from overflowing
    y = e / xp.sum(e, axis=axes, keepdims=True)
    return y, lambda g: (y * (g - xp.sum(g * y, axis=axes, keepdims=True)),)


@op
def log_softmax(xp: Any, x: Array, /, axis: int = -1) -> Result:
    r"""x - log sum e^x along an axis: any shape -> same shape. dx = g - softmax(x) sum(g)."""
    axes = _axes("log_softmax", axis, x)
    _count("log_softmax", x, axes)
    y = _log_softmax(xp, x, axes)
    return y, lambda g: (g - xp.exp(y) * xp.sum(g, axis=axes, keepdims=True),)


def _log_softmax(xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
    z = x - xp.max(x, axis=axes, keepdims=True)
    return z - xp.log(xp.sum(xp.exp(z), axis=axes, keepdims=True))


@op(discrete=("labels",))
def cross_entropy(xp: Any, logits: Array, labels: Array, /) -> Result:
    r"""Mean of -log softmax(logits)[label] over a batch: (n, k), n integer labels -> scalar. dlogits = (p - onehot)/n.

    Labels lie in 0..k-1. That is checked for NumPy arrays; on a device the check would wait for it, so there
    the data set checks its labels once.
    """
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"cross_entropy: logits {logits.shape} and labels {labels.shape}; "
                         "needed are (n, k) and (n,), one integer label per row")
    n, k = logits.shape
    if n == 0:
        raise ValueError("cross_entropy: the batch is empty; give at least one row")
    if xp.isdtype(labels.dtype, "bool"):
        raise TypeError("cross_entropy: labels are booleans; give integers 0..k-1")
    if xp is np and not 0 <= labels.min() <= labels.max() < k:
        raise ValueError(f"cross_entropy: labels from {labels.min()} to {labels.max()} but {k} logits a row; "
                         f"labels must lie in 0..{k - 1}")
    log_p = _log_softmax(xp, logits, (1,))  # (n, k)
    classes = xp.arange(k, dtype=labels.dtype, **beside(logits))
    right = labels[:, None] == classes[None, :]  # (n, k)
    picked = xp.where(right, log_p, asarray(0.0, log_p))  # a product would make NaN of a logit of -infinity
    return (-xp.sum(picked) / n,
            lambda g: ((xp.exp(log_p) - _cast(xp, right, logits.dtype)) * (g / n), None))


# ---- the straight-through step -------------------------------------------------------------------------------------


@op(surrogate=True)
def keep_hide_invert(xp: Any, m: Array, /, tau: float) -> Result:
    r"""The signed supermask s = sign(m) where |m| > tau, else 0: scores, any shape -> exact {-1, 0, +1}, same shape.

    The step has no useful slope, so one is declared (straight-through): dL/dm := dL/ds, for hidden entries
    too, which is how a hidden weight comes back. Koster et al. 2022 (arXiv:2201.13361).

    Args:
        tau: threshold, a Python number, 0 or more; |m| == tau is hidden.
    """
    tau = threshold("keep_hide_invert", tau)
    return _cast(xp, m > tau, m.dtype) - _cast(xp, m < -tau, m.dtype), lambda g: (g,)


@op(surrogate=True)
def keep_hide(xp: Any, m: Array, /, tau: float) -> Result:
    r"""The binary mask s = 1 where m > tau, else 0: scores, any shape -> exact {0, 1}, same shape. Inverts nothing.

    Straight-through as in keep_hide_invert: dL/dm := dL/ds. After Zhou et al. 2019 (arXiv:1905.01067), made
    deterministic.

    Args:
        tau: threshold, a Python number, 0 or more; m == tau is hidden.
    """
    tau = threshold("keep_hide", tau)
    return _cast(xp, m > tau, m.dtype), lambda g: (g,)


@op(surrogate=True)
def keep_largest(xp: Any, m: Array, /, share: float) -> Result:
    r"""s = 1 for the k = round(share * size) largest |m|, else 0: scores, any shape -> exact {0, 1}, same shape.

    Of entries that tie at the edge those that come first in row-major order are kept, so exactly k are.
    Straight-through with the slope of |m|: dL/dm := sign(m) dL/ds. After Ramanujan et al. 2020 (edge-popup,
    arXiv:1911.13299).

    Args:
        share: of the entries to keep, a Python number from 0 to 1.
    """
    k = how_many(share, m)
    sizes = xp.reshape(xp.abs(m), (-1,))
    order = np.argsort(-sizes, stable=True) if xp is np else xp.argsort(-sizes)  # elsewhere it always is
    chosen = xp.argsort(order) < k  # (size,) the rank of every entry
    return _cast(xp, xp.reshape(chosen, m.shape), m.dtype), lambda g: (g * xp.sign(m),)


def how_many(share: object, m: Array) -> int:
    """k of keep_largest; ValueError where the share is none."""
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise ValueError(f"keep_largest: share is {share!r}, but must be a Python number from 0 to 1")
    return round(float(share) * math.prod(m.shape))


def threshold(name: str, tau: object) -> float:
    """tau as a Python float (a NumPy scalar would compare float32 scores in float64); TypeError, ValueError."""
    if not isinstance(tau, (int, float)):
        raise TypeError(f"{name}: tau is a {type(tau).__name__}, but must be one Python number, 0 or more")
    if not tau >= 0:
        raise ValueError(f"{name}: tau is {tau}, but a threshold on |m| must be 0 or more")
    return float(tau)


def __dir__() -> list[str]:
    return sorted({*globals(), *OPS})


def __getattr__(name: str) -> Any:
    """Ops that other files register (conv.py, your own) are found here too: ops.conv2d."""
    if name in OPS:
        return OPS[name]
    raise AttributeError(f"minimask.ops has no op {name!r}; there are {', '.join(sorted(OPS))}")
