"""Reference solutions of lesson 04."""

import numpy as np

from minimask import Tensor, op


@op(register=False)
def softplus(xp, x):
    e = xp.exp(-xp.abs(x))
    p = xp.where(x >= 0, 1.0, e) / (1 + e)  # the logistic sigmoid of x
    return xp.log1p(e) + (x + xp.abs(x)) / 2, lambda g: (g * p,)


@op(register=False)
def unit(xp, x):
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    y = x / length
    return y, lambda g: ((g - y * xp.sum(g * y, axis=-1, keepdims=True)) / length,)


def gradient_error(function, x, rng):
    h = 1e-5
    leaf = Tensor(x, requires_grad=True)
    y = function(leaf)
    c, d = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    y.backward(c)
    slope = np.sum(c * (function(Tensor(x + h * d)).data - function(Tensor(x - h * d)).data)) / (2 * h)
    return abs(slope - np.sum(leaf.grad * d))
