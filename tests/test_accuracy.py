"""How far float32 values and slopes lie from the true ones, relative to their own size, over the whole float32 range.

The true ones are formulas in float64 that do not cancel; where PyTorch's float64 does not either, they are held to it.
"""

import numpy as np
import pytest

from minimask import Tensor, ops, plain
from minimask.engine import OPS

EPS = 2.0**-24  # half the distance from 1 to the next float32: what one rounding errs by, relatively
TINY = float(np.finfo(np.float32).tiny)  # below it numbers have fewer bits, and count as 0 here
HUGE = float(np.finfo(np.float32).max)


def everywhere():
    """Float32 numbers of both signs and every exponent, and many where exponentials live."""
    rng = np.random.default_rng(0)
    sizes = np.ldexp(rng.uniform(1, 2, (278, 40)), np.arange(-149, 129)[:, None] - 1).astype(np.float32).ravel()
    return np.concatenate([[0.0], sizes, -sizes, np.linspace(-120, 120, 48_001)]).astype(np.float32)


def value_and_slopes(function, *arrays):
    """Of an elementwise function of float32 arrays, in float64."""
    leaves = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    y = function(*leaves)
    y.backward(np.ones(y.shape, np.float32))
    return [a.astype(np.float64) for a in (y.data, *(leaf.grad for leaf in leaves))]


def assert_close(got, true, roundings, what=""):
    """|got - true| <= roundings * EPS * |true|; infinite where float32 overflows."""
    got, true, roundings = np.broadcast_arrays(got, true, roundings)
    with np.errstate(invalid="ignore"):
        good = (np.abs(got - true) <= roundings * EPS * np.abs(true) + TINY) | (got == true)
    good |= (np.abs(true) > HUGE * (1 - roundings * EPS)) & np.isinf(got) & (np.sign(got) == np.sign(true))
    worst = np.flatnonzero(~good.ravel())[:3]
    assert good.all(), f"{what}: {got.ravel()[worst]} for {true.ravel()[worst]}, {np.count_nonzero(~good)} of {good.size}"


def logistic_slope(x):
    e = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


SIGMOID = (lambda x: np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x))), logistic_slope)
#: Unary ops: function, true value, true slope, where.
UNARY = {
    "negative": (ops.negative, lambda x: -x, lambda x: -np.ones_like(x), None),
    "abs": (ops.abs, np.abs, np.sign, None),
    "exp": (ops.exp, np.exp, np.exp, None),
    "expm1": (ops.expm1, np.expm1, np.exp, None),
    "log": (ops.log, np.log, lambda x: 1 / x, lambda x: x > 0),
    "sqrt": (ops.sqrt, np.sqrt, lambda x: 0.5 / np.sqrt(x), lambda x: x > 0),
    "tanh": (ops.tanh, np.tanh, lambda x: 4 * logistic_slope(2 * x), None),
    "sigmoid": (ops.sigmoid, *SIGMOID, None),
    "relu": (ops.relu, lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, None),
    "clip": (lambda x: ops.clip(x, -2.0, 3.0), lambda x: np.clip(x, -2, 3), lambda x: ((-2 <= x) & (x <= 3)) * 1.0, None),
    "power": (lambda x: ops.power(x, 2.5), lambda x: x**2.5, lambda x: 2.5 * x**1.5, lambda x: x > 0),
    "power -1": (lambda x: ops.power(x, -1), lambda x: 1 / x, lambda x: -1 / x**2, lambda x: x != 0),
    "elu": (lambda x: ops.elu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0))),
            lambda x: np.where(x > 0, 1, 0.3 * np.exp(np.minimum(x, 0))), None),
    "elu 7": (lambda x: ops.elu(x, 7.0), lambda x: np.where(x > 0, x, 7 * np.expm1(np.minimum(x, 0))),
              lambda x: np.where(x > 0, 1, 7 * np.exp(np.minimum(x, 0))), None)}
ELU = (ops.elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
       lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0))))
ROUNDINGS = 8  # how far off each may be: NumPy's own exp and tanh err by 2 to 4
#: Binary ops: true value, true slopes.
BINARY = {
    "add": (np.add, [lambda x, y: np.ones_like(x)] * 2), "subtract": (
        np.subtract, [lambda x, y: np.ones_like(x), lambda x, y: -np.ones_like(x)]),
    "multiply": (np.multiply, [lambda x, y: y, lambda x, y: x]),
    "divide": (np.divide, [lambda x, y: 1 / y, lambda x, y: -x / y**2]),
    "maximum": (np.maximum, [lambda x, y: (x > y) * 1.0, lambda x, y: (y > x) * 1.0]),
    "minimum": (np.minimum, [lambda x, y: (x < y) * 1.0, lambda x, y: (y < x) * 1.0]),
    "where": (np.maximum, [lambda x, y: (x > y) * 1.0, lambda x, y: (y >= x) * 1.0])}
#: Ops that move numbers, or give 0, 1 and -1; and ops that sum, whose error depends on how many and how they cancel.
EXACT = {"reshape", "permute_dims", "broadcast_to", "concat", "getitem", "take", "max", "max_pool2d",
         "keep_hide_invert", "keep_hide", "keep_largest"}
SUMS = {"sum", "mean", "matmul", "conv2d", "grouped_conv2d", "avg_pool2d", "global_avg_pool", "batch_norm",
        "binary_cross_entropy"}


def test_every_op_is_bounded_here_or_is_exact_or_a_sum():
    ours = {name for name, call in OPS.items() if call.__module__.startswith("minimask.")}
    assert ours == {*(name.split()[0] for name in UNARY), *BINARY, *EXACT, *SUMS, "softmax", "log_softmax", "cross_entropy"}


@pytest.mark.parametrize("name", UNARY)
@np.errstate(all="ignore")
def test_values_and_slopes_are_right_to_a_few_roundings(name):
    function, value, slope, where = UNARY[name]
    x = everywhere()
    x = x if where is None else x[where(x)]
    y, dx = value_and_slopes(function, x)
    true = x.astype(np.float64)
    assert_close(y, value(true), ROUNDINGS, f"{name}: value")
    assert_close(dx, slope(true), ROUNDINGS, f"{name}: slope")


@np.errstate(all="ignore")
def test_the_plain_elu_is_right_to_a_few_roundings_and_its_twins_slope_to_one_of_1():
    function, value, slope = ELU
    x = everywhere()
    true = x.astype(np.float64)
    with plain():
        y, dx = value_and_slopes(function, x)
    assert_close(y, value(true), ROUNDINGS, "value")
    assert_close(dx, slope(true), ROUNDINGS, "slope")
    y, dx = value_and_slopes(function, x)
    assert_close(y, value(true), ROUNDINGS, "the twin's value")
    assert np.abs(dx - slope(true)).max() <= 4 * EPS


@pytest.mark.parametrize("name", UNARY)
@np.errstate(all="ignore")
def test_the_true_values_and_slopes_are_pytorchs(name, torch):
    function, value, slope, where = UNARY[name]
    theirs = {"negative": torch.neg, "clip": lambda x: torch.clip(x, -2, 3), "power": lambda x: x**2.5,
              "power -1": lambda x: x**-1, "elu": lambda x: torch.nn.functional.elu(x, 0.3),
              "elu 7": lambda x: torch.nn.functional.elu(x, 7.0)}.get(name) or getattr(torch, name)
    x = np.linspace(-15, 15, 3001)
    x = x if where is None else x[where(x)]
    leaf = torch.tensor(x, requires_grad=True)
    y = theirs(leaf)
    y.sum().backward()
    np.testing.assert_allclose(value(x), y.detach().numpy(), rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(slope(x), leaf.grad.numpy(), rtol=1e-3 if name == "tanh" else 1e-8)  # theirs cancels


@pytest.mark.parametrize("name", BINARY)
def test_two_numbers_of_all_sizes(name):
    """Sizes from 1e-9 to 1e9, so that nothing overflows, and an exact sum that rounds once."""
    value, slopes = BINARY[name]
    rng = np.random.default_rng(1)
    x, y = (np.float32(rng.choice([-1, 1], 20_000) * 10 ** rng.uniform(-9, 9, 20_000)) for _ in range(2))
    function = OPS[name] if name != "where" else lambda x, y: ops.where(x > y, x, y)
    got = value_and_slopes(function, x, y)
    x, y = x.astype(np.float64), y.astype(np.float64)
    for one, true in zip(got, [value(x, y), *(slope(x, y) for slope in slopes)]):
        assert_close(one, true, ROUNDINGS, name)


def rows():
    """Pairs and triples of logits, from equal ones to those of 100 apart, and g of 1 for one of them."""
    rng = np.random.default_rng(2)
    for k in (2, 3):
        x = np.float32(rng.uniform(-1, 1, (4000, k)) * 10 ** rng.uniform(-3, 2, (4000, 1)))
        for i in range(k):
            yield x, i


def true_softmax(x):
    """Softmax in float64; 1 - softmax, without a difference."""
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True), (e @ (1 - np.eye(x.shape[1]))) / e.sum(1, keepdims=True)


@pytest.mark.parametrize("in_plain", [False, True])
def test_softmax_and_its_slopes(in_plain):
    """The exponent's own rounding counts as much as the exponent is large. Slopes of one of the k numbers."""
    for x, i in rows():
        leaf = Tensor(x, requires_grad=True)
        y = ops.softmax(leaf)
        y.backward(np.eye(x.shape[1], dtype=np.float32)[[i] * len(x)])
        true, rest = true_softmax(x.astype(np.float64))
        roundings = 16 + 2 * np.ptp(x, axis=1, keepdims=True)
        assert_close(y.data, true, roundings, "value")
        slopes = -true * true[:, i:i + 1]
        slopes[:, i] = true[:, i] * rest[:, i]
        assert_close(leaf.grad, slopes, roundings, "slope")


def test_log_softmax_and_cross_entropy_are_right_to_a_rounding_of_1():
    """As the module says: a loss near 0 is a difference from 1, and not right to roundings of its own size."""
    for x, i in rows():
        with np.errstate(divide="ignore"):
            p, rest = true_softmax(x.astype(np.float64))
            z = x.astype(np.float64) - x.max(1, keepdims=True)
            true = z - np.log(np.exp(z).sum(1, keepdims=True))
        slopes = -p.copy()
        slopes[:, i] = rest[:, i]
        bound = (6 + np.ptp(x, axis=1, keepdims=True)) * EPS
        leaf = Tensor(x, requires_grad=True)
        y = ops.log_softmax(leaf)
        y.backward(np.eye(x.shape[1], dtype=np.float32)[[i] * len(x)])
        assert (np.abs(y.data - true) <= bound * (1 + np.abs(true))).all()
        ours = Tensor(x, requires_grad=True)
        loss = ops.cross_entropy(ours, np.full(len(x), i))
        loss.backward(np.float32(len(x)).reshape(()))
        assert abs(loss.item() + true[:, i].mean()) <= 8 * EPS * (1 + np.abs(true[:, i]).max())
        for grad, sign in ((leaf.grad, 1), (ours.grad, -1)):
            assert (np.abs(sign * grad - slopes) <= bound).all()


def test_small_values_of_the_sigmoid_and_its_logarithm():
    """float32 -10, -15, -20, where (1 + tanh(x/2)) / 2 gives 4.5389e-05, 2.98e-07 and 0."""
    x = Tensor(np.array([-10, -15, -20], np.float32), requires_grad=True)
    y = ops.sigmoid(x)
    np.testing.assert_allclose(y.data, [4.539787e-05, 3.059022e-07, 2.061154e-09], rtol=3e-7)
    log = ops.log(y)
    log.sum().backward()
    np.testing.assert_allclose(log.data[2], -20.000000002, rtol=1e-6)
    np.testing.assert_allclose(x.grad, 1.0, rtol=1e-4)
