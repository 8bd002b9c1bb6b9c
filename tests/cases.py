"""One row per op: how to draw inputs, what PyTorch calls it, in which inputs it is linear.

test_ops.py runs every row through every witness; a test there fails where a registered op has no row here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minimask import Tensor, resnet
from minimask.backend import namespace
from minimask.engine import OPS
from minimask.testing.strategies import arrays, axes, broadcastable, indices, shapes


@dataclass(frozen=True)
class Example:
    """One call: its arrays in order (floating ones get gradients) and its keyword arguments."""

    arrays: list[np.ndarray]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A row.

    Attributes:
        examples: strategy for an Example in float64.
        torch: (torch module, *tensors, **settings) -> tensor.
        linear: the inputs in which the op is linear (or affine), the others held still.
        surrogate: the gradient is declared; finite differences and the oracle's gradient do not apply.
        call: (op, *arrays, **settings) -> Tensor, for an op that takes something that depends on its inputs.
    """

    examples: st.SearchStrategy[Example]
    torch: Callable[..., Any]
    linear: tuple[int, ...] = ()
    surrogate: bool = False
    call: Callable[..., Any] | None = None


@st.composite
def unary(draw, domain="real", **settings):
    """One array of any shape, 0-d too; settings are values or strategies."""
    x = draw(arrays(draw(shapes()), domain))
    return Example([x], {k: draw(v) if isinstance(v, st.SearchStrategy) else v for k, v in settings.items()})


@st.composite
def binary(draw, domain="real", second=None):
    """Two arrays that broadcast."""
    first, other = draw(broadcastable(2))
    return Example([draw(arrays(first, domain, 0)), draw(arrays(other, second or domain, 1))], {})


@st.composite
def chosen(draw):
    """A boolean condition and two arrays, all broadcasting."""
    condition, first, other = draw(broadcastable(3))
    truth = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2, condition).astype(bool)
    return Example([truth, draw(arrays(first)), draw(arrays(other))], {})


@st.composite
def reduced(draw, domain="real"):
    x = draw(arrays(draw(shapes()), domain))
    return Example([x], {"axis": draw(axes(x.ndim)), "keepdims": draw(st.booleans())})


@st.composite
def along_axis(draw):
    x = draw(arrays(draw(shapes(min_rank=1))))
    return Example([x], {"axis": draw(st.integers(-x.ndim, x.ndim - 1))})


@st.composite
def reshaped(draw):
    x = draw(arrays(draw(shapes())))
    options = [x.shape[::-1], (x.size,), (-1,), (1, x.size, 1), (*x.shape, 1)]
    return Example([x], {"shape": draw(st.sampled_from(options))})


@st.composite
def permuted(draw):
    x = draw(arrays(draw(shapes())))
    return Example([x], {"axes": tuple(draw(st.permutations(range(x.ndim))))})


@st.composite
def spread(draw):
    """An array and a shape that it broadcasts to."""
    shape, target = draw(broadcastable(2))
    return Example([draw(arrays(shape))], {"shape": np.broadcast_shapes(shape, target)})


@st.composite
def joined(draw):
    shape = draw(shapes(min_rank=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for n in draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)):
        part = list(shape)
        part[axis] = n
        parts.append(draw(arrays(tuple(part))))
    return Example(parts, {"axis": axis})


@st.composite
def indexed(draw):
    """With an entry or more in what is picked: of none there is no slope to check."""
    x = draw(arrays(draw(shapes(min_rank=1))))
    return Example([x], {"index": draw(indices(x.shape).filter(lambda index: x[index].size))})


@st.composite
def taken(draw):
    """Indices repeat, and count from the end too."""
    x = draw(arrays(draw(shapes(min_rank=1))))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    n = x.shape[axis]
    positions = draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=6))
    return Example([x, np.array(positions, np.int64)], {"axis": axis})


@st.composite
def multiplied(draw):
    """Matrices with leading axes that broadcast."""
    n, k, m = (draw(st.integers(1, 4)) for _ in range(3))
    first, other = draw(broadcastable(2, max_rank=2))
    return Example([draw(arrays((*first, n, k))), draw(arrays((*other, k, m)))], {})


@st.composite
def classified(draw):
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    labels = np.array(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)), np.int64)
    return Example([draw(arrays((n, k))), labels], {})


@st.composite
def alike(draw):
    """Two arrays of one shape."""
    shape = draw(shapes())
    return Example([draw(arrays(shape)), draw(arrays(shape))], {})


PADDINGS = st.sampled_from(["same", "valid", 0, 1, (0, 1), ((1, 0), (0, 2))])


@st.composite
def convolved(draw):
    """Images and kernels of odd and even sizes, strides, paddings, 1 and prime channel counts."""
    n, h, w = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    c_in, c_out = draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 2, 3, 7]))
    padding, stride = draw(PADDINGS), draw(st.sampled_from([1, 2, 3, (1, 2)]))
    (top, bottom), (left, right) = ((3, 3), (3, 3)) if padding == "same" else pads(padding)
    kernel = draw(st.integers(1, min(5, h + top + bottom))), draw(st.integers(1, min(5, w + left + right)))
    return Example([draw(arrays((n, h, w, c_in))), draw(arrays((*kernel, c_in, c_out)))],
                   {"stride": stride, "padding": padding})


@st.composite
def grouped(draw):
    """The same with 1, 2, 3 or 5 groups of 1 or 2 channels in and out: depthwise ones, and with several outputs."""
    example, groups = draw(convolved()), draw(st.sampled_from([1, 2, 3, 5]))
    (n, h, w, _), kernel = example.arrays[0].shape, example.arrays[1].shape[:2]
    inputs, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return Example([draw(arrays((n, h, w, groups * inputs))), draw(arrays((*kernel, inputs, groups * outputs)))],
                   {"groups": groups, **example.settings})


@st.composite
def pooled(draw, domain="real"):
    """Windows that overlap, that leave gaps, that are padded by less than themselves."""
    n, c = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3]))
    h, w = draw(st.integers(2, 7)), draw(st.integers(2, 7))
    window = draw(st.integers(2, min(3, h))), draw(st.integers(2, min(3, w)))
    settings = {"window": window, "stride": draw(st.sampled_from([None, 1, 2, 3])),
                "padding": draw(st.sampled_from(["same", "valid", 1, (1, 0)]))}
    return Example([draw(arrays((n, h, w, c), domain))], settings)


@st.composite
def image(draw):
    return Example([draw(arrays(draw(shapes(min_rank=4, max_rank=4))))], {})


@st.composite
def normalised(draw):
    """Images with two values a channel or more, scale and shift."""
    shape = (draw(st.integers(2, 4)), *draw(shapes(min_rank=1, max_rank=3)))
    return Example([draw(arrays(shape)), draw(arrays(shape[-1:])), draw(arrays(shape[-1:]))],
                   {"training": draw(st.booleans())})


def _batch_norm_call(batch_norm, x, scale, shift, training):
    """Statistics of the batch itself in training, fixed ones else."""
    array = x.data if isinstance(x, Tensor) else x
    xp = namespace(array)
    fixed = xp.ones_like(array[(0,) * (len(array.shape) - 1) + (...,)])
    mean, variance = resnet.moments(xp, array) if training else (0.3 * fixed, 1.7 * fixed)
    return batch_norm(x, scale, shift, mean, variance, eps=0.1, training=training)


def _batch_norm(t, x, scale, shift, training):
    mean, variance = t.full_like(scale, 0.3).detach(), t.full_like(scale, 1.7).detach()
    flat = x.reshape(-1, x.shape[-1])
    return t.nn.functional.batch_norm(flat, mean, variance, scale, shift, training, eps=0.1).reshape(x.shape)


def pads(padding):
    """((top, bottom), (left, right)) of any padding but 'same'."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    return padding if isinstance(padding[0], tuple) else ((padding[0],) * 2, (padding[1],) * 2)


def _torch_image(t, x, window, stride, padding, value=0.0):
    """x as padded NCHW for PyTorch, with TensorFlow's 'same' worked out once more."""
    stride = stride if isinstance(stride, tuple) else (stride, stride)
    if padding == "same":
        totals = [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[1:3], window, stride)]
        padding = tuple((total // 2, total - total // 2) for total in totals)
    (top, bottom), (left, right) = pads(padding)
    return t.nn.functional.pad(x.permute(0, 3, 1, 2).contiguous(), (left, right, top, bottom), value=value), stride


def _conv2d(t, x, w, stride, padding):
    x, stride = _torch_image(t, x, w.shape[:2], stride, padding)
    return t.nn.functional.conv2d(x, w.permute(3, 2, 0, 1).contiguous(), stride=stride).permute(0, 2, 3, 1)


def _grouped_conv2d(t, x, w, groups, stride, padding):
    x, stride = _torch_image(t, x, w.shape[:2], stride, padding)
    w = w.permute(3, 2, 0, 1).contiguous()
    return t.nn.functional.conv2d(x, w, stride=stride, groups=groups).permute(0, 2, 3, 1)


def _max_pool2d(t, x, window, stride, padding):
    x, stride = _torch_image(t, x, window, stride or window, padding, -math.inf)
    return t.nn.functional.max_pool2d(x, window, stride).permute(0, 2, 3, 1)


def _avg_pool2d(t, x, window, stride, padding):
    inside, _ = _torch_image(t, t.ones_like(x), window, stride or window, padding)
    x, stride = _torch_image(t, x, window, stride or window, padding)
    pool = t.nn.functional.avg_pool2d
    return (pool(x, window, stride) / pool(inside, window, stride)).permute(0, 2, 3, 1)


def _all(x, axis):
    """PyTorch's dim= for our axis=None: every axis."""
    return tuple(range(x.ndim)) if axis is None else axis


def _sum(t, x, axis, keepdims):
    return x.clone() if _all(x, axis) == () else t.sum(x, _all(x, axis), keepdims)  # dim=() would mean all there


def _mean(t, x, axis, keepdims):
    return x.clone() if _all(x, axis) == () else t.mean(x, _all(x, axis), keepdims)


def _max(t, x, axis, keepdims):
    return x.clone() if _all(x, axis) == () else t.amax(x, _all(x, axis), keepdims)


def _keep_largest(t, m, share):
    kept = t.zeros(m.numel(), dtype=m.dtype)
    kept[t.topk(m.abs().reshape(-1), round(share * m.numel())).indices] = 1
    return kept.reshape(m.shape)


def _take(t, x, indices, axis):
    return t.index_select(x, axis, t.remainder(indices, x.shape[axis]))


CASES: dict[str, Case] = {
    "add": Case(binary(), lambda t, x, y: x + y, linear=(0, 1)),
    "subtract": Case(binary(), lambda t, x, y: x - y, linear=(0, 1)),
    "multiply": Case(binary(), lambda t, x, y: x * y, linear=(0, 1)),
    "divide": Case(binary(second="positive"), lambda t, x, y: x / y, linear=(0,)),
    "negative": Case(unary(), lambda t, x: -x, linear=(0,)),
    "power": Case(unary("positive", exponent=st.sampled_from([0, 1, 2, 3, -1, 0.5, 2.5])),
                  lambda t, x, exponent: x ** exponent),
    "abs": Case(unary("distinct"), lambda t, x: t.abs(x)),
    "maximum": Case(binary("distinct"), lambda t, x, y: t.maximum(x, y)),
    "minimum": Case(binary("distinct"), lambda t, x, y: t.minimum(x, y)),
    "clip": Case(unary("distinct", low=st.sampled_from([None, -0.5]), high=st.sampled_from([None, 0.5])),
                 lambda t, x, low, high: x.clone() if low is high else t.clamp(x, low, high)),
    "where": Case(chosen(), lambda t, c, x, y: t.where(c, x, y), linear=(1, 2)),
    "exp": Case(unary(), lambda t, x: t.exp(x)),
    "expm1": Case(unary(), lambda t, x: t.expm1(x)),
    "log": Case(unary("positive"), lambda t, x: t.log(x)),
    "sqrt": Case(unary("positive"), lambda t, x: t.sqrt(x)),
    "tanh": Case(unary(), lambda t, x: t.tanh(x)),
    "sigmoid": Case(unary(), lambda t, x: t.sigmoid(x)),
    "relu": Case(unary("distinct"), lambda t, x: t.relu(x)),
    "elu": Case(unary("distinct", alpha=st.sampled_from([1.0, 0.5, 2.0])),
                lambda t, x, alpha: t.nn.functional.elu(x, alpha)),
    "sum": Case(reduced(), _sum, linear=(0,)),
    "mean": Case(reduced(), _mean, linear=(0,)),
    "max": Case(reduced("distinct"), _max),
    "reshape": Case(reshaped(), lambda t, x, shape: t.reshape(x, shape), linear=(0,)),
    "permute_dims": Case(permuted(), lambda t, x, axes: x.permute(axes), linear=(0,)),
    "broadcast_to": Case(spread(), lambda t, x, shape: t.broadcast_to(x, shape), linear=(0,)),
    "concat": Case(joined(), lambda t, *xs, axis: t.cat(xs, axis), linear=(0,)),
    "getitem": Case(indexed(), lambda t, x, index: x[index], linear=(0,)),
    "take": Case(taken(), _take, linear=(0,)),
    "matmul": Case(multiplied(), lambda t, x, y: x @ y, linear=(0, 1)),
    "softmax": Case(along_axis(), lambda t, x, axis: t.softmax(x, axis)),
    "log_softmax": Case(along_axis(), lambda t, x, axis: t.log_softmax(x, axis)),
    "cross_entropy": Case(classified(), lambda t, x, labels: t.nn.functional.cross_entropy(x, labels)),
    "binary_cross_entropy": Case(alike(), lambda t, x, y: t.nn.functional.binary_cross_entropy_with_logits(x, y),
                                 linear=(1,)),
    "conv2d": Case(convolved(), _conv2d, linear=(0, 1)),
    "grouped_conv2d": Case(grouped(), _grouped_conv2d, linear=(0, 1)),
    "max_pool2d": Case(pooled("distinct"), _max_pool2d),
    "avg_pool2d": Case(pooled(), _avg_pool2d, linear=(0,)),
    "global_avg_pool": Case(image(), lambda t, x: t.mean(x, (1, 2)), linear=(0,)),
    "batch_norm": Case(normalised(), _batch_norm, linear=(1, 2), call=_batch_norm_call),
    "keep_hide_invert": Case(unary(tau=st.sampled_from([0.0, 0.5])),
                             lambda t, m, tau: t.sign(m) * (t.abs(m) > tau), surrogate=True),
    "keep_hide": Case(unary(tau=st.sampled_from([0.0, 0.5])), lambda t, m, tau: (m > tau).to(m.dtype), surrogate=True),
    "keep_largest": Case(unary("distinct", share=st.sampled_from([0.0, 0.1, 0.5, 1.0])), _keep_largest, surrogate=True),
}


def calling(name, op):
    """`op`, to be called with the arrays and settings of an Example of row `name`."""
    return partial(CASES[name].call, op) if CASES[name].call else op


#: How to call each op on an Example.
CALLS = {name: calling(name, OPS[name]) for name in CASES}
