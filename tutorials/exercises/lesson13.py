"""Exercises of lesson 13, dead for ever. ``pytest -m lesson13`` marks them, ``pytest -m lesson13 -k task1`` one."""

import numpy as np


def reach(m, v, mu):
    """Task 1. The least number that |score| never exceeds without a gradient, whatever decays between 0 and 1 come.

    One step of SGDW without a gradient: first v becomes mu v, then m becomes (1 - wd) m + mu v, with the new v.

    Args:
        m, v: arrays of one shape, scores and velocities now. mu: momentum, 0 or more and below 1.

    Returns:
        array of that shape.
    """
    raise NotImplementedError("Lesson 13, task 1: |m| and all that momentum can still add to it")


def dead_for_ever(scores, velocities, tau, mu):
    """Task 2. The units of every hidden layer that will never come back, by the bound of task 1.

    A weight is hidden where |score| <= tau. A unit is dead for ever if every weight into it and every weight out of it
    stays hidden without gradients.

    Args:
        scores: list of (inputs, units) arrays, from the first layer to the last; the units of one are the inputs of the
            next. velocities: the same for the velocities. tau, mu: threshold and momentum.

    Returns:
        list of boolean arrays, one for each layer but the last: True where the unit is dead for ever.
    """
    raise NotImplementedError("Lesson 13, task 2: the units whose weights stay hidden on both sides")


def after(m, v, decays, mu):
    """Task 3. Scores and velocities after steps without a gradient, without stepping through arrays.

    Step t is v <- mu v, then m <- (1 - decays[t]) m + mu v with the new v. Work out how m and v at the end depend on m
    and v now (numbers, for all entries the same), and apply that once.

    Args:
        m, v: arrays of one shape. decays: list of numbers, one a step, in order; it may be empty. mu: momentum.

    Returns:
        (m, v) at the end.
    """
    raise NotImplementedError("Lesson 13, task 3: m becomes a m + b v, and v becomes c v; find a, b and c")
