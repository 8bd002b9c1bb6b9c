"""Reference solutions of lesson 08."""

import numpy as np


def signed_mask(m, tau):
    return np.where(np.abs(m) > tau, np.sign(m), 0).astype(m.dtype)


def sgdw_step(m, v, g, lr, wd, mu):
    m = m * (1 - wd)
    v = mu * v - lr * g
    return m + mu * v - lr * g, v


def idle_share_left(b, tau, wd, steps):
    first = tau / (1 - wd) ** steps
    return 1 - min(first / b, 1.0)
