"""Marks lesson 03: ``pytest exercises/test_lesson03.py``, one task with ``-k task1``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minimask.testing.marking import claim, expect
from minimask.testing.strategies import shapes, whole

pytestmark = pytest.mark.lesson03
TASK1, TASK2, TASK3 = (f"Lesson 3, task {i}" for i in (1, 2, 3))
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "Fill the shorter shape with 1s on its left. Then column by column: equal lengths stay; of 1 and n, n "
       "counts (0 also); anything else is a ValueError that names both shapes.",
    2: "dx has the shape of x: g * scale. scale and shift were stretched over every axis but the last, so their "
       "cotangents are sums over these: (g * x).sum(axis=leading) and g.sum(axis=leading), leading = "
       "tuple(range(x.ndim - 1)).",
    3: "Each x changes its own entry, and through the mean all entries of its column. The second part sums to "
       "g.mean(axis=0), and it is subtracted: g - g.mean(axis=0).",
}

any_shape = shapes()


@given(pair=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=1, max_side=4))
def test_task1_shapes_that_fit(lesson, pair):
    marked_shape(lesson, *pair.input_shapes)


@given(a=any_shape, b=any_shape)
def test_task1_shapes_that_may_not_fit(lesson, a, b):
    marked_shape(lesson, a, b)


@pytest.mark.parametrize(("a", "b"), [((0,), (1,)), ((2, 1), (0,)), ((0, 3), (3,)), ((), (0,)), ((0,), (2,))])
def test_task1_axes_of_length_0(lesson, a, b):
    marked_shape(lesson, a, b)


def marked_shape(lesson, a, b):
    inputs = {"a": a, "b": b}
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        expected = None
    try:
        found = lesson.broadcast_shape(a, b)
    except ValueError as error:
        claim(expected is None, TASK1, f"got a ValueError ({error}), but these shapes fit: expected is {expected}",
              "flush right: begin at the last axes; where one of two lengths is 1, the other one counts", inputs)
        claim(str(a) in str(error) and str(b) in str(error), TASK1,
              f"the ValueError says {str(error)!r}, and not which shapes do not fit", "name both of them", inputs)
        return
    claim(expected is not None, TASK1, f"got {found}, but these shapes do not fit: expected is a ValueError",
          "flush right: two lengths in one column differ, and neither is 1", inputs)
    claim(isinstance(found, (tuple, list)) and tuple(found) == expected, TASK1, f"got {found}, expected {expected}",
          "flush right: begin at the last axes, and let a missing length be 1; where one is 1, the other one counts, "
          "even if that is 0", inputs)


@st.composite
def scaled(draw):
    """x, scale, shift, g of task 2."""
    shape = draw(shapes(min_rank=1, max_rank=3, max_side=3))
    return tuple(draw(whole(s, largest=3)) for s in (shape, shape[-1:], shape[-1:], shape))


@given(drawn=scaled())
def test_task2_value_and_pullback(lesson, drawn):
    x, scale, shift, g = drawn
    inputs = {"x": x, "scale": scale, "shift": shift}
    answer = lesson.scale_and_shift(x, scale, shift)
    y, pullback = parts(answer, TASK2, inputs)
    expect(y, x * scale + shift, TASK2, inputs, "this is the value: x * scale + shift")
    found = pullback(g)
    claim(isinstance(found, tuple) and len(found) == 3, TASK2, "the pullback must give a tuple of three cotangents",
          "return dx, dscale, dshift", inputs)
    dscale, dshift = np.zeros_like(scale), np.zeros_like(shift)
    for index in np.ndindex(x.shape):  # every use of a scale and of a shift sends back its part
        dscale[index[-1]] += g[index] * x[index]
        dshift[index[-1]] += g[index]
    for name, got, right in zip(("dx", "dscale", "dshift"), found, (g * scale, dscale, dshift)):
        expect(got, right, TASK2, {**inputs, "g": g, "this is": name},
               "scale and shift are used once per entry of all axes but the last: sum over those, and over no other")


@given(x=whole(shapes(min_rank=1, max_rank=2), largest=4), g=st.data())
def test_task3_value_and_pullback(lesson, x, g):
    g = g.draw(whole(x.shape, largest=4))
    y, pullback = parts(lesson.centre(x), TASK3, {"x": x})
    n = len(x)
    matrix = np.eye(n) - 1 / n  # y = matrix @ x
    expect(y, (matrix @ x.reshape(n, -1)).reshape(x.shape), TASK3, {"x": x},
           "this is the value: a mean per column, axis 0")
    found = pullback(g)
    claim(isinstance(found, tuple) and len(found) == 1, TASK3, "the pullback must give a tuple with one cotangent",
          "return (dx,), with the comma", {"x": x})
    expect(found[0], (matrix.T @ g.reshape(n, -1)).reshape(x.shape), TASK3, {"x": x, "g": g},
           "two ways: g itself, and what comes back through the mean: all g of a column are summed for it, and every x "
           "of the column feeds it with 1/n")


def parts(answer, task, inputs):
    """The value and the pullback of an answer."""
    claim(isinstance(answer, tuple) and len(answer) == 2 and callable(answer[1]), task,
          f"got {type(answer).__name__}, expected two things: the value and a function", "return y, pullback", inputs)
    return answer
