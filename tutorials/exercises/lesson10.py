"""Exercises of lesson 10, the relatives. ``pytest -m lesson10`` marks them, ``pytest -m lesson10 -k task1`` one."""

import numpy as np

from minimask import op


def largest(m, share):
    """Task 1. The mask of edge-popup: 1 for the k = round(share * size) entries of largest |m|, else 0.

    Exactly k, also where entries tie: of equal ones those that come first in row-major order are kept.

    Args:
        m: scores, floating, any shape. share: from 0 to 1.

    Returns:
        array of m's shape and dtype.
    """
    raise NotImplementedError("Lesson 10, task 1: 1 for the k entries of largest |m|, the first ones where they tie")


def declared(method, m, g):
    """Task 2. The declared gradient dL/dm of a step, from g = dL/ds.

    "signed" (keep, hide, invert by sign(m) and |m| > tau) and "binary" (keep where m > tau) pretend that s was m;
    "edge-popup" (keep the largest |m|) pretends that s was |m|.

    Args:
        method: "signed", "binary" or "edge-popup". m, g: arrays of one shape.

    Returns:
        array of that shape; it reaches hidden entries, too.
    """
    raise NotImplementedError("Lesson 10, task 2: dL/dm := dL/ds times the slope of what the step pretends to be")


@op(surrogate=True, register=False)
def relative_step(xp, m, /, share):
    """Task 3. Keep or invert the k = round(share * size) entries of largest |m|: s = sign(m) there, else 0.

    Ties as in task 1. As |m| decides about being in use and sign(m) about the side, the step pretends that s was m:
    declare dL/dm := dL/ds. `xp` is the array library of m (NumPy in the tests); return the value and the pullback.

    Args:
        m: scores, any shape. share: from 0 to 1.
    """
    raise NotImplementedError("Lesson 10, task 3: the value s, and a pullback that returns one gradient in a tuple")
