"""Every op through every witness: derivatives, PyTorch, algebra, array libraries, dtypes. Rows: cases.py."""


import contextlib

import array_api_strict as strict
import numpy as np
import pytest
from cases import CALLS, CASES, Example
from hypothesis import given, settings
from hypothesis import strategies as st

from minimask import (
    Tensor,
    ops,
    plain,
)
from minimask.backend import to_host
from minimask.engine import OPS
from minimask.testing import gradcheck, oracle

every_op = pytest.mark.parametrize("name", CASES)


def test_every_registered_op_has_a_row():
    assert set(OPS) == set(CASES)


def test_every_op_is_a_function_of_the_module_and_a_method_or_operator_of_tensor():
    operators = {"getitem": "__getitem__"}
    for name in OPS:
        assert getattr(ops, name) is OPS[name]
        if OPS[name].__module__ == ops.__name__:  # convolution and pooling are functions only
            assert hasattr(Tensor, operators.get(name, name)), name


def test_every_ops_docstring_begins_with_a_sentence():
    for name, op in OPS.items():
        assert op.__doc__ and op.__doc__.splitlines()[0].strip().endswith((".", ":")), name


def floating(example):
    return [i for i, x in enumerate(example.arrays) if x.dtype.kind == "f"]


def run(name, example, move=np.array):
    """Value and gradients of one call on arrays that `move` makes, for a random cotangent."""
    arrays = [move(x) for x in example.arrays]
    leaves = [Tensor(x, requires_grad=True) if i in floating(example) else x for i, x in enumerate(arrays)]
    y = CALLS[name](*leaves, **example.settings)
    g = move(np.random.default_rng(1).standard_normal(y.shape).astype(example.arrays[floating(example)[0]].dtype))
    y.backward(g)
    return [y.data, *(leaf.grad for leaf in leaves if isinstance(leaf, Tensor))], [*arrays, g]


@every_op
@given(data=st.data())
def test_derivative(name, data):
    """Witness 1: central differences, random direction, random cotangent."""
    if CASES[name].surrogate:
        pytest.skip("its gradient is declared; test_mask.py states it")
    example = data.draw(CASES[name].examples)
    gradcheck(CALLS[name], *example.arrays, rng=np.random.default_rng(2), **example.settings)


@every_op
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("float64", 1e-10, 1e-12), ("float32", 2e-5, 2e-5)])
@given(data=st.data())
def test_value_and_gradient_equal_pytorch(torch, name, dtype, rtol, atol, data):
    """Witness 2. float32: 2e-5 is about 200 roundings of 1e-7, for sums of up to 64 terms in another order."""
    case = CASES[name]
    example = data.draw(case.examples)
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in example.arrays]
    if case.surrogate:
        y = CALLS[name](*inputs, **example.settings)
        expected = case.torch(torch, *map(torch.tensor, inputs), **example.settings)
        np.testing.assert_array_equal(y.data, expected.numpy())
        return
    oracle.compare(CALLS[name], lambda *xs, **settings: case.torch(torch, *xs, **settings), inputs, example.settings,
                   rtol=rtol, atol=atol)


@every_op
@given(data=st.data())
def test_pullback_is_linear_in_the_cotangent(name, data):
    """Witness 3: pulling 2g - 3h back gives 2 pull(g) - 3 pull(h)."""
    example = data.draw(CASES[name].examples)

    def pull(g):
        leaves = [Tensor(x, requires_grad=True) if i in floating(example) else x for i, x in enumerate(example.arrays)]
        CALLS[name](*leaves, **example.settings).backward(g)
        return [leaf.grad for leaf in leaves if isinstance(leaf, Tensor)]

    shape = CALLS[name](*example.arrays, **example.settings).shape
    rng = np.random.default_rng(3)
    g, h = rng.standard_normal(shape), rng.standard_normal(shape)
    for together, a, b in zip(pull(2 * g - 3 * h), pull(g), pull(h)):
        np.testing.assert_allclose(together, 2 * a - 3 * b, rtol=1e-9, atol=1e-9 * (1 + np.abs(a).max(initial=0)))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.linear])
@given(data=st.data())
def test_adjoint_of_linear_ops(name, data):
    """Witness 3: <A d, c> = <d, A^T c>, where A d = f(x + d) - f(x)."""
    example = data.draw(CASES[name].examples)
    rng = np.random.default_rng(4)
    for i in CASES[name].linear:
        d = rng.standard_normal(example.arrays[i].shape)
        moved = [*example.arrays]
        moved[i] = moved[i] + d
        before, after = (CALLS[name](*arrays, **example.settings).data for arrays in (example.arrays, moved))
        leaves = [Tensor(x, requires_grad=True) if i == j else x for j, x in enumerate(example.arrays)]
        c = rng.standard_normal(np.shape(before))
        CALLS[name](*leaves, **example.settings).backward(c)
        size = 1 + np.sum(np.abs(c)) * (1 + np.max(np.abs(before), initial=0))
        assert abs(np.sum((after - before) * c) - np.sum(leaves[i].grad * d)) < 1e-12 * size


@every_op
@settings(max_examples=20)  # on each of the libraries
@given(data=st.data())
def test_every_library_agrees_with_numpy(name, library, data):
    """Witness 4: value and gradients are arrays of the library, where its inputs are, and nothing given was written to.

    Read-only inputs show a write, array-api-strict what the standard does not have, its device1 a trip to the host.
    """
    example = data.draw(CASES[name].examples)
    expected, inputs = run(name, example)
    found, given_inputs = run(name, example, library.array)
    for ours, theirs in zip(expected, found):
        assert type(ours) is np.ndarray
        library.close(theirs, ours)
    for before, after in zip(inputs, given_inputs):
        np.testing.assert_array_equal(library.host(after), before)
    if library.backend == "numpy":
        for gradient in found[1:]:
            assert gradient.flags.writeable and not any(np.shares_memory(gradient, x) for x in given_inputs)


@every_op
@settings(max_examples=20)  # on each of the libraries
@given(data=st.data())
def test_float32_stays_float32(name, library, data):
    """Value and every gradient keep the dtype of the inputs; so they do in float64."""
    example = data.draw(CASES[name].examples)
    for dtype in (np.float32, np.float64):
        narrow = Example([x.astype(dtype) if x.dtype.kind == "f" else x for x in example.arrays], example.settings)
        assert {library.host(array).dtype for array in run(name, narrow, library.array)[0]} == {np.dtype(dtype)}


@pytest.mark.parametrize("number", [2, 2.5, np.float64(2.5), np.float32(2.5), np.int64(2), np.float64(2) / 784],
                         ids=lambda n: f"{type(n).__name__}-{n}")
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
def test_numbers_take_the_tensors_dtype(name, number):
    """Only Python scalars are weak in NumPy 2: a bare np.float64 would turn float32 into float64."""
    for shape in ((), (3,)):
        x = Tensor(np.full(shape, 1.5, np.float32), requires_grad=True)
        for y in (OPS[name](x, number), OPS[name](number, x)):
            assert y.dtype == np.float32
            y.sum().backward()
        assert x.grad.dtype == np.float32


def test_operators_take_numbers_and_arrays_on_either_side():
    a = np.array([[1.0, 2.0]])
    x = Tensor(a)
    cases = [(x + 1, a + 1), (1 + x, 1 + a), (x - a, a - a), (3 - x, 3 - a), (a * x, a * a), (x * 2, a * 2),
             (x / 2, a / 2), (2 / x, 2 / a), (x @ a.T, a @ a.T), (a @ x.T, a @ a.T), (x**2, a**2), (-x, -a), (abs(-x), a),
             (x[0, 1:], a[0, 1:])]
    for ours, expected in cases:
        assert isinstance(ours, Tensor)
        np.testing.assert_array_equal(ours.data, expected)
    for ours, expected in [(x > 1, a > 1), (x == a, a == a), (x != 1, a != 1), (x <= 1, a <= 1), (x < 2, a < 2),
                           (x >= 2, a >= 2)]:
        assert type(ours) is np.ndarray and ours.dtype == bool
        np.testing.assert_array_equal(ours, expected)


# ---- where two inputs meet: the rules that docstrings state -------------------------------------------------------


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_tie_of_two_shares_the_cotangent(torch, name):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 0.0])
    oracle.compare(OPS[name], getattr(torch, name), [a, b])


def test_max_shares_the_cotangent_among_ties(torch):
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    for axis in (0, 1, (0, 1)):
        oracle.compare(lambda x, axis=axis: ops.max(x, axis), lambda x, axis=axis: torch.amax(x, axis), [x])


def test_slopes_at_the_kinks():
    for function, at, slope in [(ops.relu, 0.0, 0.0), (ops.abs, 0.0, 0.0), (ops.elu, 0.0, 1.0),
                                (lambda x: ops.elu(x, 0.5), 0.0, 0.5)]:  # as in PyTorch
        x = Tensor(np.array([at]), requires_grad=True)
        function(x).backward(np.ones(1))
        assert x.grad[0] == slope
    x = Tensor(np.array([-1.0, -0.5, 0.5, 1.0]), requires_grad=True)
    ops.clip(x, -0.5, 0.5).backward(np.ones(4))
    np.testing.assert_array_equal(x.grad, [0, 1, 1, 0])


def test_indexing_with_negative_steps_and_newaxis():
    x = np.arange(24.0).reshape(2, 3, 4)
    for index in [(slice(None, None, -1),), (..., slice(3, 0, -2)), (0, None, slice(None, None, -1)), (None, ..., -1)]:
        np.testing.assert_array_equal(ops.getitem(x, index).data, x[index])
        gradcheck(lambda t, index=index: t[index], x)


def test_settings_that_are_numpy_scalars_do_not_promote():
    x = np.array([-1.0, 0.1], np.float32)
    leaf = Tensor(x, requires_grad=True)
    ops.elu(leaf, np.float64(0.5)).sum().backward()
    assert leaf.grad.dtype == np.float32
    np.testing.assert_array_equal(ops.keep_hide_invert(x, np.float64(0.1)).data, ops.keep_hide_invert(x, 0.1).data)
    indices = strict.asarray(np.array([5, 250], np.uint8))
    assert to_host(ops.take(Tensor(strict.arange(300, dtype=strict.float64)), indices).data).tolist() == [5.0, 250.0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_narrow_labels_and_indices_do_not_overflow(dtype):
    """300 classes counted in uint8 would wrap around."""
    z = np.random.default_rng(0).standard_normal((3, 300))
    labels = np.array([1, 2, 100])
    a, b = Tensor(z, requires_grad=True), Tensor(z, requires_grad=True)
    for leaf, narrow in ((a, labels), (b, labels.astype(dtype))):
        ops.cross_entropy(leaf, narrow).backward()
        ops.take(leaf, narrow, axis=1).sum().backward()
    np.testing.assert_array_equal(a.grad, b.grad)


def test_a_logit_of_minus_infinity_is_a_class_ruled_out():
    x = Tensor(np.array([[-np.inf, 0.0]]), requires_grad=True)
    loss = ops.cross_entropy(x, [1])
    loss.backward()
    assert loss.item() == 0.0 and x.grad.tolist() == [[0.0, 0.0]]


def test_extreme_inputs_stay_finite():
    """No overflow in sigmoid, softmax, log_softmax, cross_entropy and elu for float32 of any size; in value and slope."""
    x = np.array([[-1e4, 0.0, 1e4]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        for function in (ops.sigmoid, ops.softmax, ops.log_softmax, ops.tanh, lambda t: ops.cross_entropy(t, [0]),
                         lambda t: ops.elu(ops.minimum(t, 50.0))):
            leaf = Tensor(x, requires_grad=True)
            y = function(leaf)
            y.backward(np.ones(y.shape, np.float32))
            assert np.isfinite(y.data).all() and np.isfinite(leaf.grad).all()


#: The slope where x, or x and the number beside it, is NaN: what picks an entry picks NaN and hands it g.
AT_NAN = {
    "relu": (ops.relu, 1.0), "clip": (lambda x: ops.clip(x, -1.0, 1.0), 1.0), "max": (ops.max, 1.0),
    "maximum": (lambda x: ops.maximum(x, 1.0), 1.0), "its right side": (lambda x: ops.maximum(1.0, x), 1.0),
    "minimum": (lambda x: ops.minimum(x, 1.0), 1.0), "its right": (lambda x: ops.minimum(1.0, x), 1.0),
    "abs": (ops.abs, np.nan), "elu": (ops.elu, np.nan), "elu of 2": (lambda x: ops.elu(x, 2.0), np.nan),
    "exp": (ops.exp, np.nan), "sigmoid": (ops.sigmoid, np.nan), "tanh": (ops.tanh, np.nan), "sqrt": (ops.sqrt, np.nan)}


@pytest.mark.parametrize("name", AT_NAN)
def test_nan_in_nan_out_and_the_slope_that_the_module_states(library, name):
    function, slope = AT_NAN[name]
    for context in (plain, contextlib.nullcontext):
        x = Tensor(library.array(np.array([np.nan])), requires_grad=True)
        with context():
            y = function(x)
            (y * 3.0).sum().backward()
        assert np.isnan(library.host(y)).all()
        np.testing.assert_array_equal(library.host(x.grad), 3 * slope)


def test_the_number_beside_nan_gets_nothing(library):
    for function in (ops.maximum, ops.minimum, lambda x, y: ops.max(ops.concat([x, y]))):
        x, y = (Tensor(library.array(np.array([value])), requires_grad=True) for value in (np.nan, 1.0))
        function(x, y).sum().backward()
        assert library.host(x.grad) == 1.0 and library.host(y.grad) == 0.0


SPECIAL = {"where": lambda a, s: a[1].where(a[0], a[2]), "getitem": lambda a, s: a[0][s["index"]],
           "reshape": lambda a, s: a[0].reshape(s["shape"])}


@pytest.mark.parametrize("name", [name for name in CASES if name in SPECIAL or hasattr(Tensor, name)])
@given(data=st.data())
def test_every_method_is_its_op(name, data):
    e = data.draw(CASES[name].examples)
    arrays = [Tensor(x) if x.dtype.kind == "f" else x for x in e.arrays]
    method = SPECIAL.get(name) or (lambda a, s: getattr(a[0], name)(*a[1:], **s))
    np.testing.assert_array_equal(method(arrays, e.settings).data, OPS[name](*arrays, **e.settings).data)


BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "matmul", "binary_cross_entropy")


@pytest.mark.parametrize(
    "name",
    [n for n in CASES if n not in ("where", "conv2d", "grouped_conv2d", "max_pool2d", "avg_pool2d", "global_avg_pool", "batch_norm")],
)
def test_every_op_refuses_integers(name):
    x = np.arange(1, 5).reshape(2, 2)
    rest = {"take": [np.array([0])], "cross_entropy": [np.array([0, 1])]}.get(name, [x] if name in BINARY else [])
    settings = {
        "power": dict(exponent=2),
        "reshape": dict(shape=(4,)),
        "permute_dims": dict(axes=(1, 0)),
        "broadcast_to": dict(shape=(2, 2)),
        "getitem": dict(index=0),
        "keep_hide_invert": dict(tau=0.1),
    }.get(name, {})
    with pytest.raises(TypeError, match="int64"):
        OPS[name](x, *rest, **settings)


def test_host_labels_go_to_the_logits_device():
    d = strict.Device("device1")
    x = Tensor(strict.ones((2, 3), device=d), requires_grad=True)
    loss = ops.cross_entropy(x, np.array([0, 1]))
    loss.backward()
    assert x.grad.device == d


def test_power_zero_at_zero():
    x = Tensor(np.zeros(2), requires_grad=True)
    (x**0).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, 0)


def test_power_numpy_exponent():
    with pytest.raises(TypeError, match="Python number"):
        ops.power(np.ones(2, np.float32), np.float64(2))


def test_small_arguments_do_not_cancel():
    x = np.array([1e-12, -1e-12])
    np.testing.assert_allclose(ops.expm1(x).data, x, rtol=1e-9)
    for alpha in (1.0, 0.5):
        np.testing.assert_allclose(ops.elu(x[1:], alpha).data, alpha * x[1:], rtol=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_elu_does_not_overflow(alpha):
    with np.errstate(all="raise", under="ignore"):
        x = Tensor(np.array([-1e4, 0, 1e4], np.float32), requires_grad=True)
        ops.elu(x, alpha).sum().backward()


def test_an_index_that_picks_nothing_gives_an_empty_value_and_a_gradient_of_zeros():
    x = Tensor(np.ones((3, 2)), requires_grad=True)
    y = x[1:1]
    assert y.shape == (0, 2)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.zeros((3, 2)))
