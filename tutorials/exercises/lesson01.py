"""Lesson 01, exercises: the order of the walk, the walk, and an operation of your own.

A *value* here is any object with four attributes, those of the lesson's class ``Value``:

- ``data``: a NumPy array of float64;
- ``inputs``: the values that it was computed from, a tuple, () for a leaf;
- ``pullback``: a function from the cotangent of the value to a tuple with one cotangent per input; None for a leaf;
- ``grad``: None, or what an earlier walk left there.

``pytest exercises/test_lesson01.py -k task1`` marks task 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def topological_order(root: Any) -> list[Any]:
    """Task 1. Every value that `root` was computed from, and `root`: each once, and each after all of its inputs.

    Without recursion: Python stops that at a depth of about 1,000, and a chain of 5,000 operations is nothing unusual.
    (A list that you use as a stack does what the recursion did. `Tensor._tape_order` in minimask/engine.py is one way.)
    """
    raise NotImplementedError("Lesson 1, task 1: list the values, each after its inputs")


def backward(root: Any, g: np.ndarray) -> None:
    """Task 2. Leaves in ``.grad`` of `root`, and of every value that it was computed from, the cotangent of that value.

    Args:
        root: a value. g: its cotangent, of the shape of ``root.data``.

    The cotangent of a value is the *sum* over all its uses. Whatever an earlier call left in ``.grad`` is replaced, not
    added to. An array that a pullback returned may be used elsewhere: never write into it (``x.grad += h`` does).
    """
    raise NotImplementedError("Lesson 1, task 2: walk back and sum the cotangents")


def elu(x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[np.ndarray]]]:
    r"""Task 3. The ELU, elementwise, and its pullback: any shape -> (y, pullback).

    y = x where x > 0, e^x - 1 elsewhere. ``pullback(g)`` returns a tuple with one array, g * dy/dx; at x = 0 the slope
    is 1. No NaN and no infinity for any finite x: e^1000 overflows.
    """
    raise NotImplementedError("Lesson 1, task 3: compute the ELU and its pullback")
