"""Lesson 03, exercises: the rule of broadcasting, and two operations that undo it.

``pytest exercises/test_lesson03.py -k task1`` marks task 1.
"""

from collections.abc import Callable

import numpy as np


def broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Task 1. The shape to which arrays of shapes `a` and `b` stretch, without NumPy's help.

    Flush right; in each column the lengths are equal, or one of them is 1 or missing, and that one is stretched to the
    other. (To any other: a length of 1 is stretched to 0, too.)

    Raises:
        ValueError: they do not fit. Name both shapes, so that whoever reads it can mend it.
    """
    raise NotImplementedError("Lesson 3, task 1: work out the shape to which two shapes stretch")


def scale_and_shift(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Task 2. y = x * scale + shift with one scale and one shift per channel: the last step of a batch norm.

    Args:
        x: (..., c), with one axis or more. scale, shift: (c,). All float64.

    Returns:
        y, of the shape of x, and ``pullback(g) -> (dx, dscale, dshift)`` for g of that shape: three cotangents, each in
        the shape of its array. Whatever was stretched must be summed; here no engine does it for you.
    """
    raise NotImplementedError("Lesson 3, task 2: scale and shift, and sum the cotangents back")


def centre(x: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Task 3. y = x - mean(x), the mean taken over the first axis: (n, ...) -> (n, ...), n at least 1.

    Returns:
        y and ``pullback(g) -> (dx,)``, a tuple with one array of the shape of x. Every x goes into its own y, and
        through the mean into all the others of its column.
    """
    raise NotImplementedError("Lesson 3, task 3: centre the columns, and pull back through the mean, too")
