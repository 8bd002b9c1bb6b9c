"""Reference solutions of lesson 10."""

import numpy as np

from minimask import op


def largest(m, share):
    order = np.argsort(-np.abs(m).reshape(-1), stable=True)
    s = np.zeros(m.size, m.dtype)
    s[order[:round(share * m.size)]] = 1
    return s.reshape(m.shape)


def declared(method, m, g):
    return np.sign(m) * g if method == "edge-popup" else g.copy()


@op(surrogate=True, register=False)
def relative_step(xp, m, /, share):
    return xp.sign(m) * largest(m, share), lambda g: (g,)
