"""Marks lesson 04: ``pytest exercises/test_lesson04.py``, one task with ``-k task1``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import Tensor, op, ops
from minimask.testing import elsewhere
from minimask.testing.marking import claim, expect, pull, stays
from minimask.testing.strategies import shapes, whole

pytestmark = pytest.mark.lesson04
TASK1, TASK2, TASK3 = (f"Lesson 4, task {i}" for i in (1, 2, 3))
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "With e = exp(-|x|), at most 1: ln(1 + e^x) = log1p(e) + max(x, 0), and the slope is 1 / (1 + e) where x "
       ">= 0, e / (1 + e) elsewhere.",
    2: "With y = x / |x| the pullback is (g - y * sum(g * y)) / |x|, the sum along the last axis with "
       "keepdims=True: what points along x does not count.",
    3: "Two numbers: sum(c * (f(x + h d) - f(x - h d))) / (2 h), and sum(leaf.grad * d) after y.backward(c). c "
       "and d are both drawn from rng; give the absolute difference.",
}


def marked(task, function, x, value, slope_times, hint):
    """Marks value and gradient of an op at x. slope_times(g) is the right gradient for the cotangent g."""
    leaf = Tensor(x.copy(), requires_grad=True)
    y = function(leaf)
    stays(x, leaf.data, task, "x")
    expect(y, value, task, {"x": x}, f"this is the value. {hint}", same_dtype=True)
    g = np.arange(1, x.size + 1, dtype=x.dtype).reshape(x.shape)
    pull(y, g.copy(), task, {"x": x})
    expect(leaf.grad, slope_times(g), task, {"x": x, "g": g}, f"this is the gradient. {hint}", same_dtype=True)


@given(x=whole(shapes(), step=0.5, largest=8))
def test_task1_value_and_gradient(lesson, x):
    marked(TASK1, lesson.softplus, x, np.logaddexp(0.0, x), lambda g: g / (1 + np.exp(-x)),
           "ln(1 + e^x); its slope is the logistic sigmoid of x, not of y")


def test_task1_large_numbers_in_float32(lesson):
    x = np.float32([-1000.0, 0.0, 1000.0])
    with np.errstate(all="ignore"):
        marked(TASK1, lesson.softplus, x, np.float32([0.0, np.log(2), 1000.0]),
               lambda g: g * np.float32([0.0, 0.5, 1.0]),
               "ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), and the sigmoid is e^x / (1 + e^x) where x < 0, "
               "1 / (1 + e^-x) elsewhere; Python numbers keep float32 what it is")


def test_task1_passes_gradcheck(lesson, gradcheck, rng):
    gradcheck(lesson.softplus, rng.standard_normal((2, 3)))


def test_task1_on_another_array_library(lesson, rng):
    on_another_library(TASK1, lesson.softplus, rng.standard_normal((2, 3)))


def test_task1_equals_pytorch(lesson, rng, torch_oracle):
    import torch

    torch_oracle(lesson.softplus, torch.nn.functional.softplus, [rng.standard_normal((2, 3))], atol=1e-8, rtol=1e-8)


@given(x=whole(shapes(min_rank=1, max_rank=2), largest=4).filter(lambda x: np.any(x, axis=-1).all()))
def test_task2_value_and_gradient(lesson, x):
    length = np.sqrt(np.sum(x * x, axis=-1))[..., None]
    y = x / length

    def slope_times(g):
        """Row by row, with the matrix of slopes written out."""
        rows = [(np.eye(len(v)) - np.outer(v, v)) / n @ h
                for v, n, h in zip(y.reshape(-1, y.shape[-1]), length.ravel(), g.reshape(-1, y.shape[-1]))]
        return np.reshape(rows, x.shape)

    marked(TASK2, lesson.unit, x, y, slope_times,
           "x / |x|, a length for each row of the last axis, kept with keepdims=True; x reaches y directly and through "
           "|x|, and d|x|/dx = y")


def test_task2_passes_gradcheck(lesson, gradcheck, rng):
    gradcheck(lesson.unit, rng.standard_normal((2, 3, 4)))


def test_task2_on_another_array_library(lesson, rng):
    on_another_library(TASK2, lesson.unit, rng.standard_normal((2, 3)))


def on_another_library(task, function, x):
    pytest.importorskip("array_api_strict", reason="array-api-strict is not installed: pip install array-api-strict")
    try:
        elsewhere(function, x)
        complaint = ""
    except Exception as error:
        complaint = f"{type(error).__name__}: {error}"
    claim(not complaint, task, f"on array-api-strict, a library that has the standard's functions only: {complaint}",
          "take every function from xp, and give keywords by name", {"x": x})


def pulled(name, wrong):
    """Op `name` with wrong(right gradient, x) in the place of its gradient."""
    def function(xp, x):
        value, pullback = getattr(ops, name).__wrapped__(xp, x)
        return value, lambda g: (wrong(pullback(g)[0], x),)

    return op(function, register=False)


def first_wrong(gradient, x):
    changed = gradient.copy()
    changed[0, 0] += 1.0
    return changed


RIGHT = {"tanh": ops.tanh, "softmax": ops.softmax, "a sum over the rows": lambda x: ops.sum(x * x, axis=0),
         "a product with a matrix": lambda x: ops.matmul(x, np.ones((4, 2)) + np.eye(4)[:, :2])}
WRONG = {"tanh with a gradient of zeros": pulled("tanh", lambda gradient, x: 0 * gradient),
         "softmax with a gradient of zeros": pulled("softmax", lambda gradient, x: 0 * gradient),
         "softmax with the wrong sign": pulled("softmax", lambda gradient, x: -gradient),
         "tanh with the wrong sign": pulled("tanh", lambda gradient, x: -gradient),
         "tanh, all wrong by a constant whose sum is 0":
             pulled("tanh", lambda gradient, x: gradient + np.array([1.0, -1.0, 1.0, -1.0])),
         "exp, one element wrong": pulled("exp", first_wrong)}


@given(seed=st.integers(0, 2**32 - 1))
def test_task3_accepts_right_gradients(lesson, seed):
    for name, function in RIGHT.items():
        error = error_of(lesson, function, seed)
        claim(0 <= error < 1e-6, TASK3, f"gradient_error of {name}, whose gradient is right, is {error:.3g}, expected "
              "is a number from 0 to 1e-6", "central differences, both sides of x, h = 1e-5; an absolute value; the "
              "cotangent has the shape of y, the direction that of x", {"x and rng are drawn from seed": seed})


@given(seed=st.integers(0, 2**32 - 1))
def test_task3_refuses_wrong_gradients(lesson, seed):
    for name, function in WRONG.items():
        worst = max(error_of(lesson, function, seed + i) for i in range(5))  # once, d may lie at right angles, nearly
        claim(worst > 1e-3, TASK3, f"gradient_error of {name} is {worst:.3g} at most, in 5 trials; expected is more "
              "than 0.001", "draw c and d anew in every call, both from rng and neither of ones; the answer is an "
              "absolute value", {"x and rng are drawn from seed": seed})


def error_of(lesson, function, seed):
    """What the student's test says, as a float."""
    error = lesson.gradient_error(function, np.random.default_rng(seed).standard_normal((3, 4)),
                                  np.random.default_rng(seed + 1))
    claim(np.ndim(error) == 0 and error is not None, TASK3, f"got {error!r}, expected one number",
          "np.sum of a product is the scalar product of two arrays")
    return float(error)
