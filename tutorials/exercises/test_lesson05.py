"""Marks lesson 05: ``pytest exercises/test_lesson05.py``, one task with ``-k task1``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import Tensor, ops
from minimask.testing.marking import claim, expect
from minimask.testing.strategies import whole

pytestmark = pytest.mark.lesson05
TASK1, TASK2, TASK3 = (f"Lesson 5, task {i}" for i in (1, 2, 3))
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "E = frozen * s. Back: g @ E.T for x. For the scores, x.T @ g is the cotangent of E; that of s is frozen "
       "times it, and straight through it is m's.",
    2: "Subtract each row's maximum, then log_p = shifted - log(sum(exp(shifted))). The gradient is exp(log_p), "
       "minus 1 at [row, label], all divided by the number of rows.",
    3: "Two ways, so two cotangents for x: g itself, and through @ w.T with through = g times the slope of ELU, "
       "which is 1 where z > 0 and h + 1 elsewhere. w gets x.T @ through.",
}


def pair(task, answer, what, inputs):
    """An answer that must be two things."""
    claim(isinstance(answer, tuple) and len(answer) == 2, task,
          f"got {type(answer).__name__}, expected two things: {what}", inputs=inputs)
    return answer


@st.composite
def masked(draw):
    """x, frozen weights, scores, cotangent of task 1."""
    n, i, o = (draw(st.integers(1, 3)) for _ in range(3))
    frozen = draw(st.sampled_from([2.0, 0.5])) * (2.0 * draw(whole((i, o), largest=1)) - 1).clip(-1, 1)
    return (draw(whole((n, i), largest=3)), frozen, draw(whole((i, o), step=0.25, largest=3)),
            draw(whole((n, o), largest=3)))


@given(drawn=masked(), tau=st.sampled_from([0.25, 0.0]))
def test_task1_value_and_pullback(lesson, drawn, tau):
    x, frozen, m, g = drawn
    inputs = {"x": x, "frozen": frozen, "m": m, "tau": tau}
    y, pullback = pair(TASK1, lesson.masked_dense(x, frozen, m, tau), "y and the pullback", inputs)
    leaves = [Tensor(x, requires_grad=True), Tensor(m, requires_grad=True)]
    right = leaves[0] @ (frozen * ops.keep_hide_invert(leaves[1], tau))
    right.backward(g)
    expect(y, right.data, TASK1, inputs, "this is the value: x @ (frozen * s), both comparisons with tau strict")
    found = pair(TASK1, pullback(g), "dx and dm, a tuple", {**inputs, "g": g})
    for name, got, leaf, hint in zip(("dx", "dm"), found, leaves, (
            "x met frozen * s on the way forward; it meets the transpose of that on the way back",
            "s met frozen, and x: the gradient of frozen * s is x.T @ g; one more factor to s, and none for the step")):
        expect(got, leaf.grad, TASK1, {**inputs, "g": g, "this is": name}, hint)


@st.composite
def logits(draw):
    """Logits and labels of task 2."""
    n, k = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return draw(whole((n, k), largest=5)), np.array([draw(st.integers(0, k - 1)) for _ in range(n)])


@given(drawn=logits())
def test_task2_loss_and_gradient(lesson, drawn):
    marked_loss(lesson, *drawn, "the mean over the batch, in the loss and in the gradient; dL/dz = (p - onehot) / n")


@pytest.mark.parametrize("large", [800.0, -800.0, 1e6])
def test_task2_large_logits(lesson, large):
    marked_loss(lesson, np.array([[large, 0.0, 1.0]]), np.array([1]), "subtract the largest logit of each row first; "
                "and take log p as z - log(sum(exp(z))), not as the logarithm of p, which may be 0")


def marked_loss(lesson, z, labels, hint):
    inputs = {"z": z.copy(), "labels": labels}
    with np.errstate(all="ignore"):
        loss, gradient = pair(TASK2, lesson.cross_entropy(z, labels), "the loss and its gradient", inputs)
    claim(np.array_equal(z, inputs["z"]), TASK2, f"your function changed z, which is now {z.tolist()}",
          "z -= ... writes into the caller's array; write z = z - ...", inputs)
    leaf = Tensor(z, requires_grad=True)
    right = ops.cross_entropy(leaf, labels)
    right.backward()
    expect(loss, right.item(), TASK2, inputs, f"this is the loss. {hint}")
    expect(gradient, leaf.grad, TASK2, inputs, f"this is the gradient. {hint}")


@st.composite
def shortcut(draw):
    """x, w, g of task 3."""
    n, d = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return (draw(whole((n, d), largest=2)), draw(whole((d, d), step=0.5, largest=2)), draw(whole((n, d), largest=3)))


@given(drawn=shortcut())
def test_task3_value_and_pullback(lesson, drawn):
    x, w, g = drawn
    y, pullback = pair(TASK3, lesson.residual_dense(x, w), "y and the pullback", {"x": x, "w": w})
    leaves = [Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)]
    right = leaves[0] + ops.elu(leaves[0] @ leaves[1])
    right.backward(g)
    expect(y, right.data, TASK3, {"x": x, "w": w}, "this is the value: x + ELU(x @ w)")
    found = pair(TASK3, pullback(g), "dx and dw, a tuple", {"x": x, "w": w, "g": g})
    for name, got, leaf, hint in zip(("dx", "dw"), found, leaves, (
            "two ways lead from x to y, and what comes back on both is added: g itself, and what passes the ELU and w",
            "only the way through the ELU; its slope is min(h, 0) + 1 with h the value of the ELU, which y is not")):
        expect(got, leaf.grad, TASK3, {"x": x, "w": w, "g": g, "this is": name}, hint)
