r"""Read 3 of 10 · needs engine · the operations: each one short function, value and pullback together.

Notation: x, y inputs, g the cotangent of the value (dL/dvalue), xp the array library. A pullback returns
one cotangent per array; where an operation broadcast, the engine sums the cotangent back to the input's
shape, so no function here does. A cotangent that costs something and may not be wanted is written as a
function (``lambda: ...``), which the engine calls only if it is.

Dtypes: float32 in, float32 out, gradients too. Python numbers beside an array take its dtype. Every
operation raises ValueError for shapes that do not fit, IndexError for axes and indices out of range, and
TypeError for mixed dtypes, mixed array libraries or integers in floating-point arithmetic.

Each number is right to a few roundings of its own size, slopes too, but for differences from 1 of log_softmax and
cross_entropy: a loss under 1e-7 may be 0 in float32. NaN in, NaN out: what picks an entry (max, maximum, minimum, clip,
relu, max_pool2d) picks it and hands it g; elsewhere its slope is NaN.
"""

import math
from collections.abc import Sequence
from typing import Any

from . import inputs
from .backend import Array, asarray, on_device_of
from .engine import OPS, Pullback, op
from .inputs import Axis

Result = tuple[Array, Pullback]


def cast(xp: Any, x: Array, dtype: Any) -> Array:
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
    exponent = inputs.python_number(exponent)
    if exponent == 0:
        return xp.ones_like(x), lambda g: (xp.zeros_like(x),)
    return x ** exponent, lambda g: (g * (exponent * x ** (exponent - 1)),)


@op
def abs(xp: Any, x: Array, /) -> Result:
    """|x|, elementwise: any shape -> same shape. d/dx = sign(x), 0 at 0, NaN at NaN."""
    return xp.abs(x), lambda g: (g * xp.where(xp.isnan(x), x, xp.sign(x)),)  # not every library's sign keeps NaN


@op
def maximum(xp: Any, x: Array, y: Array, /) -> Result:
    """The larger: broadcastable shapes -> their common shape. A tie gives half of g to each; NaN takes it."""
    return xp.maximum(x, y), lambda g: (lambda: g * _share(xp, x, y), lambda: g * _share(xp, y, x))


@op
def minimum(xp: Any, x: Array, y: Array, /) -> Result:
    """The smaller: broadcastable shapes -> their common shape. A tie gives half of g to each; NaN takes it."""
    return xp.minimum(x, y), lambda g: (lambda: g * _share(xp, -x, -y), lambda: g * _share(xp, -y, -x))


def _share(xp: Any, x: Array, y: Array) -> Array:
    """1 where x > y or x is NaN, 1/2 where they are equal, 0 elsewhere, in x's dtype."""
    nan = xp.isnan(x)
    return (cast(xp, (x > y) | nan, x.dtype) + cast(xp, (x >= y) | nan, x.dtype)) / 2


@op
def clip(xp: Any, x: Array, /, low: float | None = None, high: float | None = None) -> Result:
    """x held between low and high (Python numbers, None for no bound): any shape -> same shape.

    The slope is 1 inside and on the bounds, and at NaN; 0 outside.
    """
    inputs.check_bounds(low, high)
    y, inside = x, xp.ones_like(x)
    if low is not None:
        y, inside = xp.maximum(y, asarray(low, x)), inside * cast(xp, ~(x < low), x.dtype)
    if high is not None:
        y, inside = xp.minimum(y, asarray(high, x)), inside * cast(xp, ~(x > high), x.dtype)
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
    """e^x - 1 without cancellation near 0: any shape -> same shape. d/dx = e^x."""
    return xp.expm1(x), lambda g: (g * xp.exp(x),)


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
    """Hyperbolic tangent, elementwise: any shape -> same shape. d/dx = 1 - y^2, computed as 4e / (1 + e)^2."""
    e = xp.exp(-2 * xp.abs(x))  # y rounds to 1 where its slope is far from rounding to 0
    return xp.tanh(x), lambda g: (g * (4 * e / (1 + e) / (1 + e)),)


@op
def sigmoid(xp: Any, x: Array, /) -> Result:
    r"""1 / (1 + e^-x), elementwise: any shape -> same shape. d/dx = y (1 - y).

    With e = e^-|x|, which cannot overflow, it is 1 or e over 1 + e, and its slope e / (1 + e)^2: right for small y too.
    """
    e = xp.exp(-xp.abs(x))
    return (xp.where(x >= 0, asarray(1.0, x), e) / (1 + e), lambda g: (g * (e / (1 + e) / (1 + e)),))


@op
def relu(xp: Any, x: Array, /) -> Result:
    """max(x, 0), elementwise: any shape -> same shape. The slope at 0 is 0, at NaN 1."""
    return xp.maximum(x, asarray(0.0, x)), lambda g: (g * cast(xp, ~(x <= 0), x.dtype),)


@op
def elu(xp: Any, x: Array, /, alpha: float = 1.0) -> Result:
    r"""x where x > 0, alpha (e^x - 1) elsewhere: any shape -> same shape (Clevert et al. 2016, arXiv:1511.07289).

    d/dx = 1 where x > 0, alpha e^x elsewhere; alpha is positive. The twins for alpha 1 may differ in the last bits, and
    keep y alone: their slope is y + 1, which is right to a rounding of 1, not of e^x.
    """
    alpha = inputs.positive("elu", "alpha", alpha)
    zero, one = asarray(0.0, x), asarray(1.0, x)
    y = xp.maximum(x, zero) + alpha * xp.expm1(xp.minimum(x, zero))
    return y, lambda g: (g * xp.where(x > 0, one, alpha * xp.exp(xp.minimum(x, zero))),)


# ---- reductions ----------------------------------------------------------------------------------------------------


@op
def sum(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Result:
    """Sum over an axis, several, or all (None): the axes go, or stay with length 1 under keepdims."""
    axes = inputs.axes_of("sum", axis, x)
    spread = _kept(x.shape, axes)
    return (xp.sum(x, axis=axes, keepdims=keepdims),
            lambda g: (xp.broadcast_to(xp.reshape(g, spread), x.shape),))


@op
def mean(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Result:
    """Mean over an axis, several, or all (None). ValueError over no entries."""
    axes = inputs.axes_of("mean", axis, x)
    spread, count = _kept(x.shape, axes), inputs.count_of("mean", x, axes)
    return (xp.mean(x, axis=axes, keepdims=keepdims),
            lambda g: (xp.broadcast_to(xp.reshape(g, spread) / count, x.shape),))


@op
def max(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Result:
    """Largest entry over an axis, several, or all (None). ValueError over no entries.

    Tie rule: entries that share the maximum share its cotangent equally, as in ``torch.amax``; NaN entries do.
    """
    axes = inputs.axes_of("max", axis, x)
    inputs.count_of("max", x, axes)
    spread = _kept(x.shape, axes)
    y = xp.max(x, axis=axes, keepdims=keepdims)

    def pullback(g: Array) -> tuple[Array]:
        ties = cast(xp, (x == xp.reshape(y, spread)) | xp.isnan(x), x.dtype)
        return (ties * (xp.reshape(g, spread) / xp.sum(ties, axis=axes, keepdims=True)),)

    return y, pullback


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with length 1 on the reduced axes."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


# ---- shapes --------------------------------------------------------------------------------------------------------


@op
def reshape(xp: Any, x: Array, /, shape: Sequence[int] | int) -> Result:
    """The same entries in row-major order under another shape; one length may be -1 and is worked out."""
    return xp.reshape(x, inputs.filled_shape(x.shape, shape)), lambda g: (xp.reshape(g, x.shape),)


@op
def permute_dims(xp: Any, x: Array, /, axes: Sequence[int]) -> Result:
    """Axes in another order: y.shape[i] = x.shape[axes[i]]."""
    order = inputs.axes_of("permute_dims", inputs.integers("permute_dims", "axes", axes), x)
    if len(order) != len(x.shape):
        raise ValueError(f"permute_dims: axes {tuple(axes)} must name every axis of {x.shape} once")
    inverse = tuple(order.index(i) for i in range(len(order)))
    return xp.permute_dims(x, order), lambda g: (xp.permute_dims(g, inverse),)


@op
def broadcast_to(xp: Any, x: Array, /, shape: Sequence[int]) -> Result:
    """x repeated along new and length-1 axes; the engine sums g back."""
    return xp.broadcast_to(x, inputs.broadcast_shape(x.shape, shape)), lambda g: (g,)


@op
def concat(xp: Any, /, *arrays: Array, axis: int = 0) -> Result:
    """Arrays one after the other along an axis: ``concat([x, y], axis=1)`` or ``concat(x, y, axis=1)``.

    Their other axes agree.
    """
    axis, = inputs.axes_of("concat", axis, arrays[0])
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
    index = inputs.basic_index(index, len(x.shape))

    def pullback(g: Array) -> tuple[Array]:
        dx = xp.zeros_like(x)
        picked = tuple(i for i in index if i is not None)  # the standard has no None in an assignment
        dx[picked] = xp.reshape(g, x[picked].shape)
        return (dx,)

    return x[index], pullback


@op(discrete=("indices",))
def take(xp: Any, x: Array, indices: Array, /, axis: int = 0) -> Result:
    """The entries of x at integer `indices` (1-D) along an axis: ``(..., n, ...) -> (..., len(indices), ...)``.

    Indices may repeat (their cotangents add up); negative ones count from the end.
    """
    axis, positions = inputs.indices_of(xp, x, indices, axis)

    def pullback(g: Array) -> tuple[Array, None]:  # a product with a one-hot matrix: the standard has no scatter-add
        grid = xp.arange(x.shape[axis], dtype=positions.dtype, **on_device_of(g))
        one_hot = cast(xp, positions[:, None] == grid[None, :], g.dtype)  # (len(indices), n)
        return xp.moveaxis(xp.matmul(xp.moveaxis(g, axis, -1), one_hot), -1, axis), None

    return xp.take(x, positions, axis=axis), pullback


# ---- products ------------------------------------------------------------------------------------------------------


@op
def matmul(xp: Any, x: Array, y: Array, /) -> Result:
    """x @ y: (..., n, k), (..., k, m) -> (..., n, m); leading axes broadcast. dx = g y^T, dy = x^T g."""
    inputs.check_factors(x.shape, y.shape)
    return xp.matmul(x, y), lambda g: (lambda: xp.matmul(g, xp.matrix_transpose(y)),
                                       lambda: xp.matmul(xp.matrix_transpose(x), g))


# ---- softmax and loss ----------------------------------------------------------------------------------------------


@op
def softmax(xp: Any, x: Array, /, axis: int = -1) -> Result:
    r"""e^x / sum e^x along an axis: any shape -> same shape. dx = y (g - sum(g y)).

    The y add up to 1, so any number may be taken off g first. Taking off that of the largest entry keeps small slopes.
    """
    axes = inputs.axes_of("softmax", axis, x)
    inputs.count_of("softmax", x, axes)
    e = xp.exp(x - xp.max(x, axis=axes, keepdims=True))  # the shift cancels; it keeps exp from overflowing
    y = e / xp.sum(e, axis=axes, keepdims=True)

    def pullback(g: Array) -> tuple[Array]:
        g = g - xp.max(xp.where(e == 1, g, asarray(-math.inf, g)), axis=axes, keepdims=True)
        return (y * (g - xp.sum(g * y, axis=axes, keepdims=True)),)

    return y, pullback


@op
def log_softmax(xp: Any, x: Array, /, axis: int = -1) -> Result:
    r"""x - log sum e^x along an axis: any shape -> same shape. dx = g - softmax(x) sum(g)."""
    axes = inputs.axes_of("log_softmax", axis, x)
    inputs.count_of("log_softmax", x, axes)
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
    inputs.check_labels(xp, logits, labels)
    n, k = logits.shape
    log_p = _log_softmax(xp, logits, (1,))  # (n, k)
    classes = xp.arange(k, dtype=labels.dtype, **on_device_of(logits))
    right = labels[:, None] == classes[None, :]  # (n, k)
    picked = xp.where(right, log_p, asarray(0.0, log_p))  # a product would make NaN of a logit of -infinity
    return (-xp.sum(picked) / n,
            lambda g: ((xp.exp(log_p) - cast(xp, right, logits.dtype)) * (g / n), None))


# ---- ops of other files: conv.py, mask.py, resnet.py, your own ------------------------------------------------------


def __dir__() -> list[str]:
    return sorted({*globals(), *OPS})


def __getattr__(name: str) -> Any:
    """They are found here too: ops.conv2d, ops.keep_hide_invert."""
    if name in OPS:
        return OPS[name]
    raise AttributeError(f"minimask.ops has no op {name!r}; there are {', '.join(sorted(OPS))}")
