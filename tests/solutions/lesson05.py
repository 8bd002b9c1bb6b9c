"""Reference solutions of lesson 05."""

import numpy as np


def masked_dense(x, frozen, m, tau):
    effective = frozen * ((m > tau).astype(m.dtype) - (m < -tau).astype(m.dtype))
    return x @ effective, lambda g: (g @ effective.T, frozen * (x.T @ g))


def cross_entropy(z, labels):
    rows = np.arange(len(z))
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -log_p[rows, labels].mean(), gradient / len(z)


def residual_dense(x, w):
    z = x @ w
    h = np.where(z > 0, z, np.expm1(np.minimum(z, 0)))

    def pullback(g):
        through = g * (np.minimum(h, 0) + 1)
        return g + through @ w.T, x.T @ through

    return x + h, pullback
