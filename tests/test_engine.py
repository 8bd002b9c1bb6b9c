"""Tensor, backward, the tape, and the sentences that errors are."""

import gc
import inspect
import math
import re
import subprocess
import sys
import threading
import weakref

import array_api_strict as strict
import numpy as np
import pytest

from minimask import (
    Tensor,
    engine,
    no_grad,
    op,
    ops,
    tape,
)
from minimask.testing import gradcheck


def leaf(*shape, dtype=np.float64, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


# ---- backward ------------------------------------------------------------------------------------------------------


def test_every_path_is_summed_once(library):
    """b = a + a, c = b + b: a walk that pulls at the first visit gives 2 or 3, the tape in order gives 4."""
    a = library.leaf()
    b = a + a
    c = b + b
    c.backward()
    assert library.host(a.grad) == 4.0


def test_a_diamond_of_many_paths():
    gradcheck(lambda x, y: (x * y + ops.exp(x)) * (x * y) + y * ops.tanh(x * y), *(leaf(3, 2, seed=i).data for i in (1, 2)))


def test_a_tape_of_many_paths_and_shapes_agrees_with_numpy(library):
    """Shared inputs, broadcasting, views, reductions, a matrix product and numbers, through one backward()."""
    def everything(make):
        x, y = make(3, 4, seed=1), make(4, seed=2)
        z = (x * y + 2.0) @ (x.T * 0.5) - x[:, 1:2]
        loss = (ops.softmax(z) * ops.concat([z[:, :1], z[:, 1:]], axis=1)).mean() + (1.0 / (y * y + 1.0)).sum()
        loss.backward()
        return [loss.data, x.grad, y.grad]

    for found, expected in zip(everything(library.leaf), everything(leaf)):
        library.close(found, expected)


@pytest.mark.python
@pytest.mark.once
def test_a_chain_of_100_000_ops():
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0
    y = x * 1.0
    for _ in range(100_000):
        y = y + 1.0
    del y  # a tape that is dropped without backward() goes without recursion, too


def test_gradients_add_up_over_calls_and_zero_grad_is_explicit(library):
    x = library.leaf(3)
    (x * 2.0).sum().backward()
    first = x.grad
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(library.host(x.grad), np.full(3, 5.0))
    np.testing.assert_array_equal(library.host(first), np.full(3, 2.0))  # what was handed out stays as it was


def test_gradients_are_arrays_of_their_own(library):
    """Two leaves never share a gradient, nor with the cotangent: x.grad *= 2 must not change y.grad."""
    x, y, c = library.leaf(2), library.leaf(2, seed=1), library.array(np.ones(2))
    (x + y).backward(c)
    x.grad *= 5.0
    np.testing.assert_array_equal(library.host(y.grad), 1.0)
    np.testing.assert_array_equal(library.host(c), 1.0)
    z = library.leaf(2, 3)
    z.sum().backward()  # the pullback gives a broadcast view
    z.grad *= 2.0
    np.testing.assert_array_equal(library.host(z.grad), 2.0)


def test_only_leaves_that_ask_get_a_gradient(library):
    x, constant = library.leaf(3), Tensor(library.array(np.ones(3)))
    middle = x * constant
    middle.sum().backward()
    assert constant.grad is None and middle.grad is None and x.grad is not None


def test_a_cotangent_that_nobody_wants_is_not_computed():
    asked = []

    @op(register=False)
    def watched(xp, x, y, /):
        return x * y, lambda g: (lambda: asked.append("x") or g * y, lambda: asked.append("y") or g * x)

    watched(leaf(2), Tensor(np.ones(2))).sum().backward()
    assert asked == ["x"]


def test_the_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        for backward in (True, False):
            x = leaf(3)
            y = ops.exp(x)
            loss = (y * y).sum()
            seen = weakref.ref(y)
            if backward:
                loss.backward()
            del y, loss
            assert seen() is None
    finally:
        gc.enable()


@op(register=False)
def doubled(xp, x):
    """Its pullback keeps no array."""
    return x * 2.0, lambda g: (g * 2.0,)


def test_the_tape_keeps_no_large_result_that_no_pullback_needs(library):
    """A convolution's array behind ELU, say; of a small one there is no need, and pictures show its number."""
    for side, stays in ((512, False), (3, True)):
        x = library.leaf(side, side)
        h = doubled(x)
        try:
            seen = weakref.ref(h.data)
        except TypeError:
            pytest.skip("arrays of this library take no weak references")
        y = doubled(h)
        assert (h.shape, h.dtype) == (y.shape, y.dtype) and bool(library.host(y)[0, 0] == 4 * library.host(x)[0, 0])
        del h
        gc.collect()
        assert (seen() is not None) == (stays or not hasattr(x.data, "nbytes"))
        y.backward(y.data)
        np.testing.assert_array_equal(library.host(x.grad), 16 * library.host(x))


def test_large_results_give_the_gradients_of_small_ones(monkeypatch):
    """Results used once, twice, and by themselves; the result itself among what is large."""
    def gradients():
        x, w = leaf(6, 4), leaf(4, 4, seed=1)
        h = ops.elu(x @ w)
        y = ops.exp(h * h + doubled(h)) @ w
        y.backward(np.ones((6, 4)))
        return x.grad.tobytes(), w.grad.tobytes()

    expected = gradients()
    monkeypatch.setattr(tape, "LARGE", 1)
    assert gradients() == expected


@pytest.mark.parametrize("used", [True, False])
def test_a_write_to_a_large_result_is_refused_as_to_a_small_one(used, monkeypatch):
    monkeypatch.setattr(tape, "LARGE", 1)
    x = leaf(3)
    h = ops.exp(x)
    if used:
        y = (h * h).sum()
    h.data = h.data * 2.0
    if not used:
        y = (h * h).sum()
    with pytest.raises(RuntimeError, match="an input or the result of exp was written to after the op ran"):
        y.backward()
    h = ops.exp(x)
    y = (h * h).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()
    with pytest.raises(RuntimeError, match="freed"):
        h.sum().backward()


def test_no_grad_remembers_nothing_and_nests(library):
    x = library.leaf(2)
    with no_grad():
        with no_grad():
            pass
        y = x * 2.0
    assert not y.requires_grad
    assert (x * 2.0).requires_grad


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (leaf(2) * 2.0).requires_grad


def test_detach_stops_the_gradient(library):
    x = library.leaf(2)
    (x * x.detach()).sum().backward()
    np.testing.assert_array_equal(library.host(x.grad), library.host(x))


def test_backward_frees_intermediate_arrays_as_it_goes():
    """When the oldest op pulls, what lies above it is gone already."""
    alive = []

    @op(register=False)
    def first(xp, x, /):
        return x * 1.0, lambda g: (alive.append(late() is not None) or g,)

    middle = first(leaf(4))
    last = ops.exp(middle)
    late = weakref.ref(last)
    loss = last.sum()
    del last
    loss.backward()
    assert alive == [False]


# ---- what is refused, and in which words ---------------------------------------------------------------------------


def test_a_second_backward_is_refused():
    x = leaf(2)
    y = ops.exp(x)
    loss = y.sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="tape through sum was freed by an earlier backward"):
        loss.backward()
    with pytest.raises(RuntimeError, match="tape through exp was freed"):
        (y * 2.0).sum().backward()


def test_writing_to_an_input_before_backward_is_refused():
    x = leaf(2)
    y = (x * x).sum()
    x.data -= 0.1
    with pytest.raises(RuntimeError, match="input or the result of multiply was written to"):
        y.backward()


def test_writing_to_a_result_before_backward_is_refused():
    x = leaf(2)
    y = ops.exp(x)
    y.data += 1.0
    with pytest.raises(RuntimeError, match="result of exp was written to"):
        (y * 2.0).sum().backward()


def test_a_refused_backward_leaves_everything_as_it_was(library):
    a, b = library.leaf(2), library.leaf(2, seed=1)
    loss = (a * 2.0 + b * 3.0 * b).sum()
    b.data = b.data - 1.0
    for _ in range(2):
        with pytest.raises(RuntimeError, match="was written to"):
            loss.backward()
        assert a.grad is None and b.grad is None


def test_gradients_of_scalars_stay_arrays(library):
    a = Tensor(library.array(1.0), requires_grad=True)
    for _ in range(3):
        (a + a * a).backward()
        library.host(a.grad)  # an array of the library, or it complains
    assert library.host(a.grad) == 9.0


def test_writing_after_backward_is_how_one_trains(library):
    x = library.leaf(2)
    start = library.host(x).copy()
    if not library.read_only:
        for _ in range(3):
            x.grad = None
            (x * x).sum().backward()
            x.data -= 0.1 * x.grad
        library.close(x, 0.8**3 * start)


def in_place(x):
    x -= 1.0


@op(register=False)
def no_pullback(xp, x):
    return x * x


@op(register=False)
def no_tuple(xp, x):
    return x * x, lambda g: 2 * x * g


@op(register=False)
def buggy(xp, x, y):
    return x + y + None, lambda g: (g, g)


@op(register=False)
def own_setting(xp, x, /, scale=1.0):
    return x * scale, lambda g: (g * scale,)


REFUSED = [
    (lambda: leaf(2, 3) + leaf(2), ValueError, r"add: shapes \(2, 3\) and \(2,\) do not broadcast; counted from the right"),
    (lambda: leaf(2, 3) @ leaf(2, 3), ValueError, r"matmul: \(2, 3\) @ \(2, 3\): the last axis of the first \(3\)"),
    (lambda: leaf(3) @ leaf(3, 2), ValueError, r"matmul: shapes \(3,\) and \(3, 2\); both need two axes or more"),
    (lambda: leaf(4, 2, 3) @ leaf(5, 3, 2), ValueError, r"matmul: .*\(4, 2, 3\)"),
    (lambda: leaf(2, 3).sum(axis=2), IndexError, r"sum: axis 2 does not exist in shape \(2, 3\); give -2 to 1"),
    (lambda: leaf(2, 3).sum(axis=(0, -2)), ValueError, r"sum: axis \(0, -2\) names an axis twice"),
    (lambda: leaf(2, 3).mean(axis=0.5), TypeError, r"mean: axis 0.5 is no integer"),
    (lambda: Tensor(np.zeros((0, 3))).mean(), ValueError, r"mean: no entries to reduce in shape \(0, 3\)"),
    (lambda: Tensor(np.zeros((0, 3))).max(axis=0), ValueError, "max: no entries"),
    (lambda: leaf(2, 3).reshape((4,)), ValueError, r"reshape: \(2, 3\) has 6 entries and does not fill \(4,\)"),
    (lambda: leaf(2, 3).permute_dims((0,)), ValueError, r"permute_dims: axes \(0,\) must name every axis of \(2, 3\)"),
    (lambda: leaf(2, 3).broadcast_to((3, 3)), ValueError, r"broadcast_to: \(2, 3\) does not broadcast to \(3, 3\)"),
    (lambda: ops.concat([leaf(2, 3), leaf(2, 2)]), ValueError, r"concat: shapes \(2, 3\) and \(2, 2\) differ outside axis 0"),
    (lambda: leaf(3)[np.array([0, 1])], TypeError, "getitem: index of type ndarray; .*ops.take"),
    (lambda: leaf(3)[5], IndexError, "getitem: .*out of bounds"),
    (lambda: leaf(3)["a"], TypeError, "getitem: index of type str"),
    (lambda: leaf(3).take([3]), IndexError, "take: indices from 3 to 3 on an axis of length 3; give -3 to 2"),
    (lambda: leaf(3).take([0.5]), TypeError, "take: labels, conditions and indices are integers or booleans, not float64"),
    (lambda: leaf(3).take([[0]]), TypeError, "take: indices are int64 of shape .*1-D"),
    (lambda: leaf(3) ** leaf(3), TypeError, r"power: exponent is a Tensor.*exp\(exponent \* log\(x\)\)"),
    (lambda: ops.clip(leaf(3), low=leaf()), TypeError, r"clip: low is a Tensor, but settings have no gradient.*maximum\("),
    (lambda: leaf(3).clip(None, leaf()), TypeError, "clip: high is a Tensor"),
    (lambda: leaf(3).elu(Tensor(1.0)), TypeError, r"elu: alpha is a Tensor.*give alpha.data or alpha.item\(\), or write"),
    (lambda: leaf(3).sum(axis=leaf()), TypeError, "sum: axis is a Tensor"),
    (lambda: leaf(3).keep_hide_invert(leaf()), TypeError, "keep_hide_invert: tau is a Tensor"),
    (lambda: ops.batch_norm(leaf(4, 2), leaf(2), leaf(2), np.ones(2), variance=leaf(2)), TypeError,
     "batch_norm: variance is a Tensor.*give variance.data"),
    (lambda: ops.batch_norm(leaf(4, 2), leaf(2), leaf(2), leaf(2), np.ones(2)), TypeError, "batch_norm: mean is a Tensor"),
    (lambda: own_setting(leaf(3), scale=leaf()), TypeError, "own_setting: scale is a Tensor"),
    (lambda: Tensor([leaf(), leaf()]), TypeError, r"lose the gradient: t.data is .*ops.concat\(\[a.reshape\(1\)"),
    (lambda: Tensor(leaf(2)), TypeError, r"Tensor\(t\) would lose the gradient: t.detach\(\)"),
    (lambda: np.array([leaf(), leaf()]), TypeError, "an array of this tensor would lose the gradient: t.data"),
    (lambda: np.asarray(leaf(2)), TypeError, "would lose the gradient: t.data"),
    (lambda: math.exp(leaf()), TypeError, r"would lose the gradient: math.exp .* minimask.ops, t.item\(\) is the number"),
    (lambda: np.exp(leaf(2)), TypeError, r"numpy.exp would lose the gradient: take ops.exp, or t.data"),
    (lambda: np.sin(leaf(2)), TypeError, r"numpy.sin would lose the gradient: take the function of minimask.ops"),
    (lambda: np.add.reduce(leaf(2)), TypeError, "numpy.add.reduce would lose the gradient"),
    (lambda: np.ones(2).__iadd__(leaf(2)), TypeError, "numpy.add would lose the gradient: take ops.add"),
    (lambda: leaf(3) ** 10**400, ValueError, "power: the exponent is an integer too large for a float; give a smaller"),
    (lambda: leaf(3) + 10**400, ValueError, "add: an integer too large for a float"),
    (lambda: leaf(3).clip(10**400), ValueError, "clip: int too large to convert to float"),
    (lambda: leaf(3).backward("a"), TypeError, r"backward: the cotangent is 'a'; give an array of shape \(3,\)"),
    (lambda: leaf(3).reshape(None), TypeError, "reshape: shape is None; give a tuple of integers"),
    (lambda: leaf(3).reshape((3.0, 1)), TypeError, r"reshape: shape is \(3.0, 1\); give a tuple of integers"),
    (lambda: leaf(3).reshape(-1, -1), ValueError, r"reshape: \(3,\) has 3 entries and does not fill \(-1, -1\)"),
    (lambda: leaf(4).reshape(-2, -2), ValueError, r"reshape: \(4,\) has 4 entries and does not fill \(-2, -2\)"),
    (lambda: leaf(0).reshape(-1, 0), ValueError, r"reshape: \(0,\) has 0 entries and does not fill \(-1, 0\)"),
    (lambda: leaf(3).broadcast_to(None), TypeError, "broadcast_to: shape is None; give a tuple of integers"),
    (lambda: leaf(3).permute_dims(None), TypeError, "permute_dims: axes is None; give a tuple of integers"),
    (lambda: Tensor(np.ones(3, ">f4"), requires_grad=True), TypeError, "Tensor: >f4 data has its bytes in another order.*"),
    (lambda: Tensor(np.ones(3, ">i4")), TypeError, r"Tensor: >i4 .* give array.astype\(array.dtype.newbyteorder\('='\)\)"),
    (lambda: leaf(3).clip(1, 0), ValueError, "clip: low 1 lies above high 0"),
    (lambda: leaf(3).elu(-1.0), ValueError, "elu: alpha is -1.0, but must be positive"),
    (lambda: leaf(3).where([1, 0, 1], 0.0), TypeError, "where: the condition is int64, but must be boolean"),
    (lambda: leaf(3).keep_hide_invert(-0.1), ValueError, "keep_hide_invert: tau is -0.1"),
    (lambda: leaf(3).keep_hide_invert(float("nan")), ValueError, "keep_hide_invert: tau is nan"),
    (lambda: leaf(2, 3).cross_entropy([0]), ValueError, r"cross_entropy: logits \(2, 3\) and labels \(1,\)"),
    (lambda: leaf(2, 3).cross_entropy([0, 3]), ValueError, r"cross_entropy: labels from 0 to 3 but 3 logits.*0\.\.2"),
    (lambda: leaf(2, 3).cross_entropy([-1, 0]), ValueError, "cross_entropy: labels from -1"),
    (lambda: leaf(2, 3).cross_entropy([0.0, 1.0]), TypeError, "cross_entropy: labels, .*integers"),
    (lambda: leaf(2, 3).cross_entropy([True, False]), TypeError, "cross_entropy: labels are booleans"),
    (lambda: leaf(0, 3).cross_entropy(np.zeros(0, int)), ValueError, "cross_entropy: the batch is empty"),
    (lambda: leaf(3) + leaf(3, dtype=np.float32), TypeError, "add: mixes float64 and float32; convert one"),
    (lambda: leaf(3) * np.arange(3), TypeError, r"multiply: int64 array of shape \(3,\) in floating-point arithmetic"),
    (lambda: leaf(3) * np.array([True, False, True]), TypeError, "multiply: bool array"),
    (lambda: leaf(3) + Tensor(strict.ones(3, dtype=strict.float64)), TypeError, "add: mixes arrays of numpy and array_api"),
    (lambda: leaf(3) + "1", TypeError, "add: str is neither a Tensor, an array nor a number"),
    (lambda: leaf(3) + None, TypeError, "add: NoneType is neither"),
    (lambda: ops.add(1.0, 2.0), TypeError, "add: needs a Tensor or a floating-point array, got float, float"),
    (lambda: ops.add(leaf(3)), TypeError, r"add: needs 2 array\(s\) \(x, y\), got 1"),
    (lambda: ops.concat([]), TypeError, "concat: needs a Tensor .*got nothing"),
    (lambda: ops.sum(leaf(3), axes=0), TypeError, "sum: .*unexpected keyword argument 'axes'"),
    (lambda: leaf(3).backward(), ValueError, r"backward: a tensor of shape \(3,\) needs a cotangent"),
    (lambda: leaf(3).backward(np.ones(2)), ValueError, r"backward: the cotangent is \(2,\) float64, the tensor \(3,\)"),
    (lambda: leaf(3).backward(np.ones(3, np.float32)), ValueError, "backward: the cotangent is .*float32"),
    (lambda: Tensor(np.ones(3)).sum().backward(), RuntimeError, "backward: no input of this tensor requires a gradient"),
    (lambda: Tensor(np.arange(3), requires_grad=True), TypeError, "Tensor: requires_grad needs a floating dtype, not int64"),
    (lambda: Tensor("abc"), TypeError, "Tensor: <U3 data"),
    (lambda: leaf(2).item(), ValueError, r"item: a tensor of shape \(2,\) is not one number"),
    (lambda: leaf(2).__setitem__(0, 1.0), TypeError, "no item assignment"),
    (lambda: in_place(leaf(2)), TypeError, r"no -= on a tensor.*write t.data -= .* for a parameter"),
    (lambda: np.concatenate([leaf(2), leaf(2)]), TypeError, "numpy.concatenate would lose the gradient"),
    (lambda: np.where(leaf(2) > 0, leaf(2), 0.0), TypeError, "numpy.where would lose the gradient"),
    (lambda: ops.concat([leaf(2), leaf(2)], 1), TypeError, r"concat: takes one list of arrays.*concat\(\[x, y\], axis=1\)"),
    (lambda: ops.exp(leaf(2), 1), TypeError, "exp: too many positional arguments; it takes x"),
    (lambda: ops.keep_hide_invert(leaf(2)), TypeError, "keep_hide_invert: missing a required argument: 'tau'; it takes m, tau"),
    (lambda: ops.keep_hide_invert(leaf(2), np.ones(2)), TypeError, "keep_hide_invert: tau is a ndarray"),
    (lambda: leaf(2, 3).cross_entropy(["a", "b"]), TypeError, "cross_entropy: labels, conditions and indices are integers"),
    (lambda: Tensor(np.array(["a"])), TypeError, "Tensor: <U1 data"),
    (lambda: Tensor(np.array([1j])), TypeError, "Tensor: complex128 data"),
    (lambda: Tensor([[1.0], [1.0, 2.0]]), TypeError, "Tensor: rows of different lengths"),
    (lambda: setattr(leaf(2), "data", 3.0), TypeError, r"Tensor.data: float is no array; give one of shape \(2,\)"),
    (lambda: no_pullback(leaf(2, 3)), TypeError, "no_pullback: an op returns two things, its value and its pullback"),
    (lambda: no_tuple(leaf(3)).sum().backward(), RuntimeError, r"no_tuple: its pullback returned a ndarray.*\(dx,\) with the comma"),
    (lambda: buggy(leaf(2, 3), leaf(3)), TypeError, r"buggy: unsupported operand.*\(shapes \(2, 3\), \(3,\)\)"),
    (lambda: len(leaf()), TypeError, "0-d tensor has no length"),
    (lambda: setattr(leaf(2), "data", np.zeros(3)), ValueError, r"Tensor.data: \(3,\) float64 cannot replace \(2,\)"),
    (lambda: setattr(leaf(2), "data", np.zeros(2, np.float32)), ValueError, "Tensor.data: .*float32 cannot replace"),
]


@pytest.mark.parametrize(("call", "kind", "sentence"), REFUSED, ids=[s[:40] for _, _, s in REFUSED])
def test_a_mistake_gets_one_sentence(call, kind, sentence):
    with pytest.raises(kind, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_pullback_that_is_wrong_in_kind_is_named():
    @op(register=False)
    def wrong_shape(xp, x, /):
        return x * 1.0, lambda g: (xp.ones((7,)),)

    @op(register=False)
    def wrong_dtype(xp, x, /):
        return x * np.float32(1), lambda g: (g * np.float64(1),)

    @op(register=False)
    def wrong_number(xp, x, y, /):
        return x * y, lambda g: (g,)

    with pytest.raises(RuntimeError, match=r"wrong_shape: its pullback gave a cotangent of shape \(7,\)"):
        wrong_shape(leaf(3)).sum().backward()
    with pytest.raises(RuntimeError, match="wrong_dtype: its pullback turned float32 into float64"):
        wrong_dtype(leaf(3, dtype=np.float32)).sum().backward()
    with pytest.raises(RuntimeError, match="wrong_number: its pullback gave 1 cotangents for 2 arrays"):
        wrong_number(leaf(3), leaf(3)).sum().backward()


def test_an_op_name_is_registered_once():
    with pytest.raises(ValueError, match="'exp' is registered already"):
        @op
        def exp(xp, x, /):
            return x, lambda g: (g,)
    assert ops.exp(np.zeros(1)).data == 1.0


def test_the_same_cell_run_again_replaces_its_op_and_nobody_elses():
    """As a notebook does: one module, __main__, and the same name twice. Then a reload of a module of ops."""
    cell = "from minimask import op\n@op\ndef cube(xp, x):\n    return {} * x, lambda g: ({} * g,)\n"
    code = f"""
import importlib
import numpy as np
import minimask
from minimask import ops
exec({cell.format(1, 1)!r})
exec({cell.format(7, 7)!r})
assert ops.cube(np.ones(1)).data == cube(np.ones(1)).data == minimask.Tensor(np.ones(1)).data * 7
for module in (minimask.conv, minimask.mask, minimask.resnet, minimask.ops):
    importlib.reload(module)
x = minimask.Tensor(np.ones((1, 2, 2, 1)), requires_grad=True)
ops.max_pool2d(ops.exp(x), 2).sum().backward()
assert x.grad.ravel().tolist() == [np.e, 0, 0, 0], x.grad
try:
    exec({cell.replace("cube", "exp").format(7, 7)!r})
except ValueError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "op: 'exp' is registered already, by minimask.ops; choose another name or register=False\n"


def test_a_breakpoint_on_an_ops_name_stops_in_that_op_alone(tmp_path):
    """pdb's `break NAME` asks an object for __func__ before it looks at its code."""
    script = tmp_path / "script.py"
    script.write_text("import numpy as np\nfrom minimask import ops, plain\nwith plain():\n"
                      "    ops.exp(np.ones(2))\n    ops.keep_hide_invert(np.ones(2), 0.1)\nprint('the end')\n")
    typed = "next\nnext\nnext\nbreak ops.keep_hide_invert\ncontinue\nargs\ncontinue\nquit\n"
    out = subprocess.run([sys.executable, "-m", "pdb", script], input=typed, capture_output=True, text=True, check=True).stdout
    where, rest = out.partition("Breakpoint 1 at ")[2].split("\n", 1)
    assert "mask.py" in where
    stops = re.findall(r"^.*> (\S+)\(\d+\)(\w+)\(\)$", rest, re.MULTILINE)
    assert [(path.rpartition("/")[2].rpartition("\\")[2], name) for path, name in stops] == [("mask.py", "keep_hide_invert")]
    assert "tau = 0.1" in rest and "the end" in rest


# ---- the op decorator ------------------------------------------------------------------------------------------------


def test_the_signature_is_published_without_xp():
    assert str(inspect.signature(ops.elu)).startswith("(x") and "alpha" in str(inspect.signature(ops.elu))
    assert "xp" not in str(inspect.signature(ops.matmul))
    assert ops.matmul.__doc__.startswith("x @ y")


def test_an_op_without_a_slash_takes_arrays_only():
    """The form of the design's example: def tanh(xp, x)."""
    @op(register=False)
    def cube(xp, x):
        return x**3, lambda g: (3 * x * x * g,)

    gradcheck(cube, np.arange(3.0))
    assert "cube" not in engine.OPS


def test_settings_work_by_position_and_by_name():
    x = leaf(2, 3)
    for y in (ops.sum(x, 1, True), ops.sum(x, axis=1, keepdims=True), x.sum(1, True)):
        assert y.shape == (2, 1)


# ---- Tensor as an array ----------------------------------------------------------------------------------------------


def test_numbers_text_and_comparisons_come_from_every_library(library):
    x = Tensor(library.array(np.array([1.5, -2.0])), requires_grad=True)
    one = x[:1]
    assert one.item() == float(one.detach()) == 1.5 and int(one) == 1 and bool(one) and f"{one:.2f}" == "1.50"
    assert repr(x) == f"Tensor([ 1.5, -2. ], dtype={x.dtype}, requires_grad=True)"
    assert [row.item() for row in x] == [1.5, -2.0] and len(x) == 2
    assert library.host(x > 0).tolist() == library.host(x == 1.5).tolist() == [True, False]
    assert library.host(x <= x).all() and not library.host(x != x).any()
    with no_grad():
        assert np.asarray(x).tolist() == [1.5, -2.0]


def test_conversions():
    x = Tensor(np.array([1.5], np.float32))
    assert x.item() == float(x) == 1.5 and int(x) == 1 and bool(x)
    assert np.asarray(x).dtype == np.float32 and np.asarray(x, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x, copy=True), x.data)
    assert [float(row) for row in Tensor(np.array([1.0, 2.0]))] == [1.0, 2.0]
    assert len({x, x}) == 1
    assert Tensor([1.0, 2.0]).dtype == np.float64 and Tensor(Tensor([1.0])).shape == (1,)
    assert leaf(2, 3).T.shape == (3, 2) and leaf(2, 3).ndim == 2 and leaf(2, 3).size == 6


def test_what_people_do_out_of_habit():
    x = Tensor(np.arange(6.0), requires_grad=True)
    assert f"{x[1]:.2f}" == "1.00" and f"{x.reshape(2, 3).shape}" == "(2, 3)" == f"{x.reshape((2, 3)).shape}"
    assert x[np.int64(2)].item() == 2.0 and x.reshape(2, 3).mean(np.int64(1)).shape == (2,)
    with no_grad():
        assert np.stack([x, x]).shape == (2, 6)
    assert type(np.clip(Tensor(np.arange(3.0)), 0, 1)) is np.ndarray
    assert np.array_equal(np.asarray(x.detach()), x.data)


def test_values_are_read_freely_where_no_gradient_is_wanted():
    """Tensors that want none, anything inside no_grad(), and what loses none: shapes, numbers, texts."""
    def reads(t):
        assert math.exp(t.sum()) == np.exp(t.sum()) == np.exp(3.0)
        assert np.array([t, t]).shape == Tensor([t, t]).shape == (2, 2)
        assert np.asarray(t).tolist() == np.add(t, 0.0).tolist() == np.array(Tensor(t).data).tolist() == [1.0, 2.0]

    x = Tensor([1.0, 2.0], requires_grad=True)
    reads(x.detach())
    with no_grad():
        reads(x)
    assert np.shape(x) == (2,) and np.ndim(x) == 1 and np.size(x) == 2
    assert x.sum().item() == 3.0 and f"{x.sum():.1f}" == "3.0" and Tensor(x, requires_grad=True) is not x


def test_what_the_sentence_says_in_place_of_a_list_of_tensors_is_right():
    a, b = leaf(), leaf(seed=1)
    v = ops.concat([(a * a).reshape(1), b.reshape(1)])
    (v.sum() + a).backward()
    assert a.grad == 2 * a.data + 1 and b.grad == 1


@pytest.mark.parametrize("array", [np.array([2.0, -3.0]), np.float64(2)])
def test_an_array_on_the_left_comes_to_the_tensor(array):
    """NumPy hands its operators over as ufuncs; value and gradient are those of the tensor on both sides."""
    for sign in ("+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!="):
        x, y = (Tensor([0.5, -3.0], requires_grad=True) for _ in range(2))
        ours, theirs = eval(f"array {sign} x"), eval(f"Tensor(array) {sign} y")
        if isinstance(theirs, Tensor):
            ours.sum().backward()
            theirs.sum().backward()
            np.testing.assert_array_equal(x.grad, y.grad)
            ours, theirs = ours.data, theirs.data
        assert type(ours) is np.ndarray
        np.testing.assert_array_equal(ours, theirs)
    if array.ndim:
        x = Tensor([[0.5], [-3.0]], requires_grad=True)
        (array[None] @ x).sum().backward()
        np.testing.assert_array_equal(x.grad[:, 0], array)


def test_repr_is_short_and_honest():
    assert repr(Tensor(np.array([1.0, 2.0]), requires_grad=True)) == "Tensor([1., 2.], dtype=float64, requires_grad=True)"
    assert repr(ops.exp(leaf(30, 2))) == "Tensor(shape=(30, 2), dtype=float64, made by exp)"
    assert repr(Tensor(np.zeros((30, 2), np.float32))) == "Tensor(shape=(30, 2), dtype=float32)"
    assert repr(Tensor(np.zeros((0, 2)))) == "Tensor(shape=(0, 2), dtype=float64)"
    assert repr(Tensor(np.float64(3))) == "Tensor(3., dtype=float64)"
    assert "\n" not in repr(Tensor(np.zeros((20, 1)))) and "\n" in repr(Tensor(np.zeros((5, 1))))


def test_trace_prints_the_tape_in_order(capsys):
    a, x = Tensor(np.ones(2, np.float32), requires_grad=True), np.ones((3, 2), np.float32)
    b = a + a
    loss = (x * b).sum()
    loss.trace()
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [number for number, _ in rows] == ["#0", "#1", "#2", "#3"]
    made = [re.split(r"  +", rest) for _, rest in rows]
    assert made == [["leaf", "(2,)", "float32"], ["add(#0, #0)", "(2,)", "float32"],
                    ["multiply(-, #1)", "(3, 2)", "float32"], ["sum(#2)", "()", "float32"]]
    loss.backward()  # looking changed nothing
    np.testing.assert_array_equal(a.grad, 6)
    with pytest.raises(RuntimeError, match=r"freed by an earlier backward\(\); compute the loss again \(to look at its"):
        loss.trace()
    ops.exp(x).trace()
    assert capsys.readouterr().out.split() == ["#0", "constant", "(3,", "2)", "float32"]


def test_random_ndarray_arithmetic_comes_to_us():
    a = np.ones(2)
    for y in (a + leaf(2), a * leaf(2), a / leaf(2), a - leaf(2)):
        assert isinstance(y, Tensor)
    assert type(a < leaf(2)) is np.ndarray


def test_import_brings_in_numpy_and_the_standard_library_only():
    code = ("import sys, numpy; before = set(sys.modules); import minimask; "
            "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['minimask']"


def test_import_leaves_out_what_is_slow_and_not_needed_yet():
    """How long it takes is measured by benchmarks/imports.py; here is what must not be part of it."""
    code = "import sys, numpy; before = set(sys.modules); import minimask; print(*set(sys.modules) - before)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    slow = {"numpy.random", "json", "tempfile", "pathlib", "shutil", "argparse", "subprocess", "multiprocessing", "zipfile",
            "concurrent.futures", "urllib", "http", "tomllib", "matplotlib"}
    assert "minimask.engine" in out and not slow & set(out)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="imports are never lazy before Python 3.15")
def test_lazy_imports_leave_no_op_and_no_twin_out():
    code = "from minimask import engine; print(*engine.OPS, *map(str, engine.FAST), sep='; ')"
    every, lazy = (subprocess.run([sys.executable, "-X", f"lazy_imports={mode}", "-c", code], capture_output=True, text=True,
                                  check=True).stdout.strip().split("; ") for mode in ("normal", "all"))
    assert sorted(every) == sorted(lazy) and {"conv2d", "('numpy', 'conv2d')"} < set(lazy)


def test_an_op_that_is_yet_to_be_written_says_so_itself():
    @op(register=False)
    def later(xp, x):
        raise NotImplementedError("Lesson 4, task 1: write it")

    with pytest.raises(NotImplementedError, match=r"^Lesson 4, task 1: write it$"):
        later(np.ones(2))


def test_two_leaves_of_an_inner_sum_do_not_share():
    x, y = leaf(2), leaf(2, seed=1)
    ops.exp(x + y).sum().backward()
    before = y.grad.copy()
    x.grad *= 5
    np.testing.assert_array_equal(y.grad, before)


def test_a_shared_cotangent_is_not_added_into():
    a, b, c = leaf(2), leaf(2, seed=1), np.ones(2)
    ((a + b) + a).backward(c)
    np.testing.assert_array_equal(a.grad, 2)
    np.testing.assert_array_equal(b.grad, 1)
    np.testing.assert_array_equal(c, 1)


def test_no_grad_is_of_its_thread():
    seen = []
    with no_grad():
        t = threading.Thread(target=lambda: seen.append((leaf(2) * 2.0).requires_grad))
        t.start()
        t.join()
    assert seen == [True]


def test_backward_of_one_entry_in_any_shape():
    x = leaf(1, 1)
    (x * 2.0).backward()
    assert x.grad == 2


def test_cotangent_may_be_a_tensor():
    x = leaf(2)
    (x * 2.0).backward(Tensor(np.ones(2)))
    assert type(x.grad) is np.ndarray


def test_comparison_with_numpy_scalar_is_in_the_tensors_dtype():
    x = Tensor(np.array([0.1], np.float32))
    assert not (x > np.float64(0.1)).any() and (x == np.float64(0.1)).all() and (x >= np.float64(0.1)).all()
