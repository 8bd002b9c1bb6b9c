"""Marks lesson 02: ``pytest exercises/test_lesson02.py``, one task with ``-k task1``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import Tensor
from minimask.testing.marking import claim, expect, pull, stays
from minimask.testing.strategies import shapes, whole

pytestmark = pytest.mark.lesson02
TASK1, TASK2, TASK3 = (f"Lesson 2, task {i}" for i in (1, 2, 3))
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "The value is xp.astype(m > tau, m.dtype). The pullback gives (g,), g itself, whatever m is: a mask on g "
       "would stop hidden scores.",
    2: "s is the difference of two conditions as numbers, (m > tau) - (m < -tau). The pullback multiplies g by "
       "xp.astype(xp.abs(m) <= bound, g.dtype): bound belongs to it, and tau does not.",
    3: "After n steps the score is |m0| (1 - wd)^n. Solve that = tau for n with logarithms, round up with "
       "math.ceil, and give 0 at once where |m0| <= tau.",
}

scores = whole(shapes(min_rank=1, max_rank=2), step=0.25, largest=8, dtype="float32")
thresholds = st.sampled_from([0.25, 0.0, 1.0])


def marked_step(task, step, m, settings, value, passes, value_hint, gradient_hint):
    """Marks the value of a step, and its gradient for the cotangent 1, 2, 3, ..., which is 0 where nothing passes."""
    leaf = Tensor(m.copy(), requires_grad=True)
    s = step(leaf, **settings)
    stays(m, leaf.data, task, "m")
    expect(s, np.float32(value).reshape(m.shape), task, {"m": m, **settings}, value_hint, 0, same_dtype=True)
    g = np.arange(1, m.size + 1, dtype=m.dtype).reshape(m.shape)
    pull(s, g.copy(), task, {"m": m, **settings})
    expect(leaf.grad, np.where(np.reshape(passes, m.shape), g, 0), task, {"m": m, **settings, "g": g}, gradient_hint, 0)


@given(m=scores, tau=thresholds)
def test_task1_value_and_declared_gradient(lesson, m, tau):
    marked_step(TASK1, lesson.binary_step, m, {"tau": tau},
                [1 if entry > tau else 0 for entry in m.ravel()], [True] * m.size,
                "this is the value: 1 strictly above tau, 0 elsewhere, in the dtype of m",
                "this is the gradient: straight through means that g comes out as it went in, for every score")


@given(m=scores, tau=thresholds, bound=st.sampled_from([1.0, 0.5, 1.5]))
def test_task2_value_and_declared_gradient(lesson, m, tau, bound):
    marked_step(TASK2, lesson.clipped_step, m, {"tau": tau, "bound": bound},
                [0 if -tau <= entry <= tau else 1 if entry > 0 else -1 for entry in m.ravel()],
                [-bound <= entry <= bound for entry in m.ravel()],
                "this is the value: two strict comparisons with tau, in the dtype of m",
                "this is the gradient: the score decides what passes, |m| <= bound; g itself is not clipped, and tau "
                "has no say")


@given(m0=st.integers(-40, 40), tau=st.sampled_from([0.01, 0.3]), wd=st.sampled_from([0.5, 0.1, 0.003]))
def test_task3_the_step_at_which_a_score_is_hidden(lesson, m0, tau, wd):
    m0 = m0 / 16
    steps, score = 0, abs(m0)
    while score > tau:  # none of these values meets tau but for rounding
        steps, score = steps + 1, score * (1 - wd)
    inputs = {"m0": m0, "tau": tau, "wd": wd}
    found = lesson.steps_until_hidden(m0, tau, wd)
    claim(isinstance(found, (int, np.integer)), TASK3, f"got {found!r}, expected a whole number of steps ({steps})",
          "math.ceil gives an int", inputs)
    expect(found, steps, TASK3, inputs, "solve |m0| (1 - wd)^t <= tau for t with a logarithm, mind its sign, and round "
           "up; nobody takes a negative number of steps")
