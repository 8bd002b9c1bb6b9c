"""Exercises of lesson 06, signal size. ``pytest -m lesson06`` marks them, ``pytest -m lesson06 -k task1`` one."""

import numpy as np


def second_moment(f):
    """Task 1. E[f(z)^2] for a standard normal z, as a Python float, right to 1e-4.

    The integral over z of f(z)^2 times the normal density e^(-z^2/2) / sqrt(2 pi), by adding up thin slices, or any
    other way that is exact enough (random numbers are not: a million of them give two or three digits).

    Args:
        f: an activation; it takes an array of any length and returns one of the same shape.
    """
    raise NotImplementedError("Lesson 6, task 1: add up f(z)^2 times the normal density over a fine grid of z")


def signed_elus(shape, rng, factor=3.0):
    """Task 2. Frozen weights as the paper draws them: +c or -c, each with probability 1/2, c^2 = factor / fan-in.

    Args:
        shape: (in, out) of a dense layer, or (height, width, in, out) of a convolution. The fan-in is the number of
            terms that one output adds up.
        rng: a numpy.random.Generator; draw the signs from it.
        factor: 3 for ELUS, 1.5 for ELU, 2 for He.

    Returns:
        float64 array of that shape.
    """
    raise NotImplementedError("Lesson 6, task 2: +c or -c with c^2 = factor / fan-in")


def signal_sizes(x, weights):
    """Task 3. The second moment of z, the value before the activation, in every layer of a stack with ELU between.

    Layer by layer: z = x W, then x <- ELU(z). The second moment is the mean of z^2 over all samples and units; it is
    not the variance.

    Args:
        x: (samples, inputs). weights: a list of matrices, each (inputs, outputs); the first fits x.

    Returns:
        list of Python floats, one for each matrix.
    """
    raise NotImplementedError("Lesson 6, task 3: the mean of z^2 before each activation")
