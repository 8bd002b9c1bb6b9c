"""Lesson 04, exercises: two operations with their gradients, and a test of gradients of your own.

The operations get the array library `xp` and return the value and a pullback, as in the lesson. Take every function
from `xp`, never from NumPy by name. ``pytest exercises/test_lesson04.py -k task1`` marks task 1.
"""

from collections.abc import Callable

import numpy as np

from minimask import Tensor, op


@op(register=False)
def softplus(xp, x):
    r"""Task 1. ln(1 + e^x), elementwise: any shape -> same shape and dtype.

    dy/dx = 1 / (1 + e^-x). Neither value nor gradient may overflow, whatever x: softplus(1000) is 1000.
    """
    raise NotImplementedError("Lesson 4, task 1: write softplus, its value and its pullback")


@op(register=False)
def unit(xp, x):
    r"""Task 2. Unit vectors along the last axis: y = x / |x|, |x| = sqrt(sum x^2), (..., n) -> (..., n). No x is 0.

    The length is made of all entries of its row, so each of them changes the whole row of y.
    """
    raise NotImplementedError("Lesson 4, task 2: write unit, its value and its pullback")


def gradient_error(function: Callable[[Tensor], Tensor], x: np.ndarray, rng: np.random.Generator) -> float:
    r"""Task 3. How far the gradient of `function` at x is off, for one random cotangent and one random direction.

    With y = function(x), c of y's shape, d of x's shape and h = 1e-5, compare

        slope = <c, function(x + h d) - function(x - h d)> / (2 h)    and    found = <gradient of <c, y>, d>.

    Args:
        function: Tensor -> Tensor, of another shape perhaps. x: float64. rng: draws c and d, both standard normal.

    Returns:
        |slope - found|, a number, 0 or more. For a right gradient it is tiny, for a wrong one it is not; a test that
        calls everything right would be worth nothing. (``Tensor(x, requires_grad=True)`` makes a leaf;
        ``y.backward(c)`` leaves the gradient in its ``.grad``.)
    """
    raise NotImplementedError("Lesson 4, task 3: compare finite differences with backward")
