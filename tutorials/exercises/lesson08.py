"""Exercises of lesson 08, the signed supermask. ``pytest -m lesson08`` marks them, ``-k task1`` added, one of them."""

import numpy as np


def signed_mask(m, tau):
    """Task 1. The signed supermask of an array of scores: sign(m) where |m| > tau, else 0.

    A score with |m| == tau exactly is hidden. The entries are exactly -1, 0 and +1, and have the dtype of m.

    Args:
        m: scores, floating, any shape. tau: threshold, 0 or more.

    Returns:
        array of m's shape and dtype.
    """
    raise NotImplementedError("Lesson 8, task 1: sign(m) where |m| > tau, else 0")


def sgdw_step(m, v, g, lr, wd, mu):
    """Task 2. One step of SGD with Nesterov momentum and decoupled weight decay.

        m <- (1 - wd) m            decay, not multiplied by the learning rate
        v <- mu v - lr g           the learning rate is inside the velocity
        m <- m + mu v - lr g       Nesterov

    Args:
        m, v, g: scores, velocity and gradient, arrays of one shape. None of them may be written to.
        lr, wd, mu: learning rate, weight decay of this step, momentum.

    Returns:
        (m, v): the new scores and the new velocity.
    """
    raise NotImplementedError("Lesson 8, task 2: the new scores and the new velocity")


def idle_share_left(b, tau, wd, steps):
    """Task 3. The share of weights left after some steps in which nothing but decay happens, between 0 and 1.

    The first scores are uniform on [-b, b]; every step multiplies each by 1 - wd. A weight is left while |m| > tau.

    Args:
        b: above 0. tau: 0 or more. wd: in [0, 1). steps: 0 or more.

    Returns:
        a Python float.
    """
    raise NotImplementedError("Lesson 8, task 3: from which first score on is a weight still left after these steps?")
