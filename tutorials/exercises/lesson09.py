"""Exercises of lesson 09, reading a mask. ``pytest -m lesson09`` marks them, ``pytest -m lesson09 -k task1`` one."""

import numpy as np


def inverted_share(mask):
    """Task 1. Of the weights in front of each unit that are in use, the share that is inverted.

    Args:
        mask: (inputs, units), integers: +1 kept, 0 hidden, -1 inverted.

    Returns:
        float array (units,), between 0 and 1; 0.0 for a unit that has no weight in use.
    """
    raise NotImplementedError("Lesson 9, task 1: inverted over (kept + inverted), for each unit")


def dead_units(masks):
    """Task 2. The units of every hidden layer that cannot change the answer.

    A unit is dead if no path of weights in use leads to it from an input, or none from it to an output: not fed, or
    not heard. Inputs count as fed and outputs as heard, always.

    Args:
        masks: list of (inputs, units) arrays of +1, 0, -1, from the first layer to the last; the units of one are the
            inputs of the next.

    Returns:
        list of boolean arrays, one for each layer but the last: True where the unit is dead.
    """
    raise NotImplementedError("Lesson 9, task 2: which units are not fed from the inputs, or not heard by an output")


def compact(weights):
    """Task 3. The same net without its dead hidden units (see task 2): smaller matrices, the same function.

    All inputs and all outputs stay, and so does the order of the units.

    Args:
        weights: list of effective weights (inputs, units), 0 where hidden, from the first layer to the last.

    Returns:
        list of as many matrices.
    """
    raise NotImplementedError("Lesson 9, task 3: the matrices without the rows and columns of dead units")
