"""Lesson 02, exercises: two more steps with a declared gradient, and what decay does to a score.

The first two are ops: they get the array library `xp` and return the value and a pullback, as in the lesson.
``pytest exercises/test_lesson02.py -k task1`` marks task 1.
"""

from minimask import op


@op(surrogate=True, register=False)
def binary_step(xp, m, /, tau):
    r"""Task 1. Keep or hide, nothing is inverted: s = 1 where m > tau, 0 elsewhere. Any shape -> same shape and dtype.

    Declared gradient: straight through, dL/dm := dL/ds, for every score, hidden ones too.
    `xp` is the array library (NumPy, here); ``xp.astype(condition, m.dtype)`` turns a condition into numbers.
    """
    raise NotImplementedError("Lesson 2, task 1: write the step that keeps or hides")


@op(surrogate=True, register=False)
def clipped_step(xp, m, /, tau, bound):
    r"""Task 2. Keep, hide or invert, with a gradient that stops far out. Any shape -> same shape and dtype.

    s = +1 where m > tau, -1 where m < -tau, 0 elsewhere.
    Declared gradient: dL/dm := dL/ds where |m| <= bound, and 0 elsewhere, so that no score runs away.
    """
    raise NotImplementedError("Lesson 2, task 2: write the step whose gradient is clipped")


def steps_until_hidden(m0: float, tau: float, wd: float) -> int:
    r"""Task 3. After how many steps of decoupled weight decay alone is a score hidden?

    Args:
        m0: the score at the start, of either sign. tau: threshold, above 0. wd: decay per step, in (0, 1).

    Every step multiplies the score by (1 - wd). The answer is the smallest whole number t >= 0 with
    |m0| (1 - wd)^t <= tau; a score that is hidden at the start takes 0 steps.
    """
    raise NotImplementedError("Lesson 2, task 3: compute when decay hides a score")
