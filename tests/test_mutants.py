"""The tests are tested: every planted wrong gradient must be caught, and ones cotangents are seen to miss some."""

import functools
import warnings

import numpy as np
import pytest
from cases import CASES, calling
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minimask import conv, engine, ops, windows
from minimask.engine import op
from minimask.testing import GradientError, gradcheck

pytestmark = pytest.mark.once


@functools.cache  # drawing takes longer than checking
def examples(name, count=20):
    """Some examples of an op's row, always the same ones."""
    drawn = []

    @settings(max_examples=count, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def draw(data):
        drawn.append(data.draw(CASES[name].examples))

    draw()
    return drawn


def caught(name, function, **choices):
    """In how many of the examples gradcheck refuses `function` in the place of op `name`."""
    count = 0
    for example in examples(name):
        try:
            gradcheck(calling(name, function), *example.arrays, **example.settings, **choices)
        except (GradientError, RuntimeError):  # the engine itself refuses a cotangent of the wrong shape
            count += 1
    return count


@functools.cache  # the same whatever is changed
def refused(name):
    """In how many of the examples gradcheck refuses the op itself."""
    return caught(name, engine.OPS[name])


def pulled(name, change):
    """Op `name` with its pullback's result changed: (gradients) -> gradients."""
    function = engine.OPS[name].__wrapped__

    def mutant(xp, *arguments, **static):
        value, pullback = function(xp, *arguments, **static)

        def wrong(g):
            entries = [entry() if callable(entry) else entry for entry in pullback(g)]
            return tuple(None if entry is None else change(entry) for entry in entries)

        return value, wrong

    mutant.__signature__ = __import__("inspect").signature(function)
    mutant.__name__ = name
    return op(mutant, register=False, discrete=engine.OPS[name].discrete)


DIFFERENTIABLE = [name for name, case in CASES.items() if not case.surrogate]
CHANGES = {"zero gradient": lambda g: g * 0, "wrong sign": lambda g: -g, "factor 1.01": lambda g: g * 1.01}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_changed_pullback_of_any_op_is_caught(name, change):
    assert refused(name) == 0, f"its own pullback is refused: see test_derivative[{name}]"
    assert caught(name, pulled(name, CHANGES[change])) > 0


# ---- faults that belong to one op ------------------------------------------------------------------------------


@op(register=False)
def multiply_missing_term(xp, x, y, /):
    return x * y, lambda g: (g * y, xp.zeros_like(y))


@op(register=False)
def divide_missing_term(xp, x, y, /):
    return x / y, lambda g: (g / y, None)


@op(register=False)
def permute_dims_swapped_axes(xp, x, /, axes):
    return xp.permute_dims(x, axes), lambda g: (xp.permute_dims(g, axes),)


@op(register=False)
def matmul_untransposed(xp, x, y, /):
    return xp.matmul(x, y), lambda g: (xp.matmul(g, xp.matrix_transpose(y)), xp.matmul(xp.matrix_transpose(g), x))


@op(register=False)
def mean_dropped_count(xp, x, /, axis=None, keepdims=False):
    y = xp.mean(x, axis=axis, keepdims=keepdims)
    return y, engine.OPS["sum"].__wrapped__(xp, x, axis, keepdims)[1]


@op(register=False)
def softmax_wrong_centring(xp, x, /, axis=-1):
    y = ops.softmax(x, axis).data
    return y, lambda g: (y * (g - xp.mean(g, axis=axis, keepdims=True)),)


@op(register=False)
def log_softmax_without_its_sum(xp, x, /, axis=-1):
    return ops.log_softmax(x, axis).data, lambda g: (g - xp.mean(g, axis=axis, keepdims=True),)


@op(register=False)
def elu_slope_off_by_one(xp, x, /, alpha=1.0):
    y = ops.elu(x, alpha).data
    return y, lambda g: (g * xp.where(x > 0, 1.0, y),)


@op(register=False)
def max_to_every_entry(xp, x, /, axis=None, keepdims=False):
    y = xp.max(x, axis=axis, keepdims=keepdims)
    return y, engine.OPS["sum"].__wrapped__(xp, x, axis, keepdims)[1]


@op(register=False, discrete=("indices",))
def take_overwrites_repeats(xp, x, indices, /, axis=0):
    def pullback(g):
        dx = np.zeros_like(x)
        np.moveaxis(dx, axis, 0)[indices] = np.moveaxis(g, axis, 0)
        return dx, None

    return np.take(x, indices, axis), pullback


@op(register=False, discrete=("labels",))
def cross_entropy_sum_for_mean(xp, logits, labels, /):
    value, pullback = engine.OPS["cross_entropy"].__wrapped__(xp, logits, labels)
    return value, lambda g: pullback(g * logits.shape[0])


def conv2d_parts(xp, x, w, stride, padding):
    at = windows.geometry("conv2d", x.shape, w.shape[:2], stride, padding)
    return at, w.reshape(-1, w.shape[3]), conv.pad(xp, x, at.padding)


@op(register=False)
def conv2d_flipped_kernel(xp, x, w, /, stride=1, padding="same"):
    value, pullback = engine.OPS["conv2d"].__wrapped__(xp, x, w, stride, padding)
    _, other = engine.OPS["conv2d"].__wrapped__(xp, x, w[::-1, ::-1], stride, padding)
    return value, lambda g: (other(g)[0](), pullback(g)[1]())


@op(register=False)
def conv2d_wrong_padding_side(xp, x, w, /, stride=1, padding="same"):
    value, pullback = engine.OPS["conv2d"].__wrapped__(xp, x, w, stride, padding)
    at, matrix, padded = conv2d_parts(xp, x, w, stride, padding)
    (top, bottom), (left, right) = at.padding

    def dx(g):
        return conv.crop(conv.windows_transpose(xp, g @ matrix.T, padded, at), ((bottom, top), (right, left)))

    return value, lambda g: (dx(g), pullback(g)[1]())


@op(register=False)
def conv2d_stride_ignored_in_dx(xp, x, w, /, stride=1, padding="same"):
    value, pullback = engine.OPS["conv2d"].__wrapped__(xp, x, w, stride, padding)
    at, matrix, padded = conv2d_parts(xp, x, w, stride, padding)
    at = windows.Geometry(at.kernel, (1, 1), at.padding, at.output)
    return value, lambda g: (conv.crop(conv.windows_transpose(xp, g @ matrix.T, padded, at), at.padding),
                             pullback(g)[1]())


@op(register=False)
def max_pool2d_to_every_tie(xp, x, /, window, stride=None, padding="valid"):
    value, _ = engine.OPS["max_pool2d"].__wrapped__(xp, x, window, stride, padding)
    return value, engine.OPS["avg_pool2d"].__wrapped__(xp, x, window, stride, padding)[1]


@op(register=False)
def batch_norm_without_its_variance_term(xp, x, scale, shift, /, mean, variance, eps=1e-3, training=True):
    value, pullback = engine.OPS["batch_norm"].__wrapped__(xp, x, scale, shift, mean, variance, eps, training)
    factor = scale / np.sqrt(variance + eps)
    return value, lambda g: (factor * (g - g.mean(axis=tuple(range(g.ndim - 1))) * training), *pullback(g)[1:])


@op(register=False)
def batch_norm_without_its_mean_term(xp, x, scale, shift, /, mean, variance, eps=1e-3, training=True):
    value, pullback = engine.OPS["batch_norm"].__wrapped__(xp, x, scale, shift, mean, variance, eps, training)
    inverse, axes = 1 / np.sqrt(variance + eps), tuple(range(x.ndim - 1))
    z = (x - mean) * inverse
    return value, lambda g: (scale * inverse * (g - z * (g * z).mean(axis=axes) * training), *pullback(g)[1:])


@op(register=False)
def grouped_conv2d_groups_in_another_order(xp, x, w, /, groups, stride=1, padding="same"):
    value, pullback = engine.OPS["grouped_conv2d"].__wrapped__(xp, x, w, groups, stride, padding)
    return value, lambda g: (pullback(g[..., ::-1])[0](), pullback(g)[1]())


@op(register=False)
def grouped_conv2d_kernel_of_the_first_group(xp, x, w, /, groups, stride=1, padding="same"):
    value, pullback = engine.OPS["grouped_conv2d"].__wrapped__(xp, x, w, groups, stride, padding)
    each = w.shape[3] // groups
    return value, lambda g: (pullback(g)[0](), np.tile(pullback(g)[1]()[..., :each], groups))


MUTANTS = [grouped_conv2d_groups_in_another_order, grouped_conv2d_kernel_of_the_first_group, conv2d_flipped_kernel, conv2d_wrong_padding_side, conv2d_stride_ignored_in_dx, max_pool2d_to_every_tie,
           batch_norm_without_its_variance_term, batch_norm_without_its_mean_term, multiply_missing_term, divide_missing_term, permute_dims_swapped_axes, matmul_untransposed, mean_dropped_count,
           softmax_wrong_centring, log_softmax_without_its_sum, elu_slope_off_by_one, max_to_every_entry,
           take_overwrites_repeats, cross_entropy_sum_for_mean]


def original(mutant):
    return max((name for name in CASES if mutant.__name__.startswith(name)), key=len)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_a_planted_fault_is_caught(mutant):
    assert caught(original(mutant), mutant) > 0


@pytest.mark.parametrize("fault", ["dropped sum", "mean for sum"])
@pytest.mark.parametrize("name", ["add", "multiply", "matmul", "broadcast_to", "where"])
def test_a_fault_in_undoing_broadcasting_is_caught(monkeypatch, name, fault):
    """The engine sums over broadcast axes for all ops: keep one entry instead, or average."""
    right = engine.unbroadcast

    def wrong(op_name, g, shape):
        summed = right(op_name, g, shape)
        if fault == "mean for sum":
            return summed * (summed.size / g.size)
        first = g[(0,) * (g.ndim - len(shape))]
        return first[tuple(slice(0, n) for n in shape)] * 1.0

    assert caught(name, engine.OPS[name]) == 0
    monkeypatch.setattr(engine, "unbroadcast", wrong)
    assert caught(name, engine.OPS[name]) > 0


MISSED_BY_ONES = {"softmax zero gradient": ("softmax", pulled("softmax", CHANGES["zero gradient"])),
                  "softmax wrong centring": ("softmax", softmax_wrong_centring),
                  "permute_dims swapped axes": ("permute_dims", permute_dims_swapped_axes)}


@pytest.mark.parametrize("fault", MISSED_BY_ONES)
def test_ones_cotangents_miss_what_random_ones_catch(fault):
    """Why gradcheck draws its cotangent: sum(softmax) is 1 whatever x is, and ones look alike in every order."""
    name, mutant = MISSED_BY_ONES[fault]
    same_shape = [e for e in examples(name) if name != "permute_dims" or len(set(e.arrays[0].shape)) < 2]
    assert same_shape
    for example in same_shape:
        gradcheck(mutant, *example.arrays, cotangent=1.0, **example.settings)  # passes: the fault is missed
    assert caught(name, mutant) > 0


def test_a_failure_names_the_first_wrong_element():
    @op(register=False)
    def wrong_last(xp, x, /):
        slope = xp.ones_like(x) * 3.0
        slope[-1] = 2.0
        return 3.0 * x, lambda g: (g * slope,)

    with pytest.raises(GradientError, match=r"wrong_last: the gradient of input 0, shape \(3,\).*first at \[2\]: expected"):
        gradcheck(wrong_last, np.arange(3.0))

    @op(register=False)
    def wrong_number(xp, x, /):
        return 3.0 * x, lambda g: (g * 2.0,)

    with pytest.raises(GradientError, match=r"shape \(\), is wrong: .*; expected [-0-9.]+, got "):  # the only one there is
        gradcheck(wrong_number, np.array(1.0))


def test_gradcheck_says_that_a_declared_gradient_cannot_be_checked():
    with pytest.raises(TypeError, match="gradient of keep_hide_invert is declared"):
        gradcheck(ops.keep_hide_invert, np.ones(3), tau=0.1)


def test_gradcheck_needs_float64():
    with pytest.raises(TypeError, match="float64"):
        gradcheck(ops.exp, np.ones(3, np.float32))


def test_gradcheck_notices_a_missing_gradient():
    """An op whose result does not know its input: backward gives nothing, central differences something."""
    from minimask import Tensor

    with warnings.catch_warnings(), pytest.raises(GradientError):
        gradcheck(lambda x: Tensor(np.exp(x.data)), np.ones(3))


def test_the_cotangent_is_no_stream_that_inputs_are_drawn_from():
    """A vector that is scaled to length 1 has no slope along itself: with c = x, zeros would be right, and there would be
    nothing but rounding to compare."""
    def unit(pull):
        def function(xp, x):
            length = xp.sqrt(xp.sum(x * x))
            y = x / length
            return y, lambda g: (pull((g - y * xp.sum(g * y)) / length),)
        return op(function, register=False)

    x = np.random.default_rng(0).standard_normal(5)
    gradcheck(unit(lambda g: g), x)
    with pytest.raises(GradientError):
        gradcheck(unit(lambda g: 0 * g), x)
