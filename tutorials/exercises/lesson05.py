"""Lesson 05, exercises: a masked layer, the loss, and a layer with a shortcut, in plain NumPy.

``pytest exercises/test_lesson05.py -k task1`` marks task 1.
"""

from collections.abc import Callable

import numpy as np


def masked_dense(x: np.ndarray, frozen: np.ndarray, m: np.ndarray, tau: float) -> tuple[np.ndarray, Callable]:
    r"""Task 1. A dense layer with a signed supermask: y = x @ (frozen * s).

    s = +1 where m > tau, -1 where m < -tau, 0 elsewhere.

    Args:
        x: (n, in). frozen: (in, out), the weights that never change. m: (in, out), their scores. tau: threshold.

    Returns:
        y, (n, out), and ``pullback(g) -> (dx, dm)`` for g of the shape of y: the cotangent of x, (n, in), and that of
        the scores, (in, out), straight through the step: dL/dm := dL/ds, for hidden weights, too.
    """
    raise NotImplementedError("Lesson 5, task 1: write a masked layer and its pullback")


def cross_entropy(z: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    r"""Task 2. The mean of -log softmax(z)[label] over a batch, and its gradient.

    Args:
        z: logits, (n, k), of any size: 1000 and -1000, too. labels: (n,), integers from 0 to k - 1.

    Returns:
        The loss, a number, and dL/dz, (n, k). `z` stays as it is.
    """
    raise NotImplementedError("Lesson 5, task 2: compute the loss and its gradient")


def residual_dense(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, Callable]:
    r"""Task 3. A layer with a shortcut, as ResNets have them: y = x + ELU(x @ w).

    Args:
        x: (n, d). w: (d, d), square, so that both ways end in the same shape.

    Returns:
        y, (n, d), and ``pullback(g) -> (dx, dw)`` for g of that shape. ELU(z) = z where z > 0, e^z - 1 elsewhere; its
        slope at 0 is 1.
    """
    raise NotImplementedError("Lesson 5, task 3: write a layer with a shortcut and its pullback")
