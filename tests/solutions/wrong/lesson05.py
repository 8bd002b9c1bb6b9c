"""Lesson 05: wrong solutions that a student might hand in. Each must fail its task."""

import numpy as np


def _mask(m, tau):
    return (m > tau).astype(m.dtype) - (m < -tau).astype(m.dtype)


def gradient_of_the_weights(x, frozen, m, tau):
    effective = frozen * _mask(m, tau)
    return x @ effective, lambda g: (g @ effective.T, x.T @ g)


def only_what_is_in_use(x, frozen, m, tau):
    s = _mask(m, tau)
    return x @ (frozen * s), lambda g: (g @ (frozen * s).T, frozen * np.abs(s) * (x.T @ g))


def mask_twice(x, frozen, m, tau):
    effective = frozen * _mask(m, tau)
    return x @ effective, lambda g: (g @ effective.T, effective * (x.T @ g))


def back_through_all_weights(x, frozen, m, tau):
    return x @ (frozen * _mask(m, tau)), lambda g: (g @ frozen.T, frozen * (x.T @ g))


def scores_as_weights(x, frozen, m, tau):
    effective = frozen * m * (np.abs(m) > tau)
    return x @ effective, lambda g: (g @ effective.T, frozen * (x.T @ g))


def _parts(z, labels):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    onehot = np.zeros_like(z)
    onehot[np.arange(len(z)), labels] = 1
    log_p = z - z.max(axis=1, keepdims=True) - np.log(e.sum(axis=1, keepdims=True))
    return p, onehot, log_p


def overflows(z, labels):
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    _, onehot, _ = _parts(z, labels)
    return -np.log(p[np.arange(len(z)), labels]).mean(), (p - onehot) / len(z)


def logarithm_of_zero(z, labels):
    p, onehot, _ = _parts(z, labels)
    return -np.log(p[np.arange(len(z)), labels]).mean(), (p - onehot) / len(z)


def gradient_of_the_sum(z, labels):
    p, onehot, log_p = _parts(z, labels)
    return -(onehot * log_p).sum() / len(z), p - onehot


def only_the_right_class_learns(z, labels):
    p, onehot, log_p = _parts(z, labels)
    return -(onehot * log_p).sum() / len(z), (p - 1) * onehot / len(z)


def writes_into_the_logits(z, labels):
    z -= z.max(axis=1, keepdims=True)
    p, onehot, log_p = _parts(z, labels)
    return -(onehot * log_p).sum() / len(z), (p - onehot) / len(z)


def _elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def forgets_the_shortcut(x, w):
    h = _elu(x @ w)

    def pullback(g):
        through = g * (np.minimum(h, 0) + 1)
        return through @ w.T, x.T @ through

    return x + h, pullback


def slope_from_the_sum(x, w):
    y = x + _elu(x @ w)

    def pullback(g):
        through = g * (np.minimum(y, 0) + 1)
        return g + through @ w.T, x.T @ through

    return y, pullback


def slope_for_the_shortcut_too(x, w):
    h = _elu(x @ w)

    def pullback(g):
        through = g * (np.minimum(h, 0) + 1)
        return through + through @ w.T, x.T @ through

    return x + h, pullback


def no_slope(x, w):
    return x + _elu(x @ w), lambda g: (g + g @ w.T, x.T @ g)


def not_transposed(x, w):
    h = _elu(x @ w)

    def pullback(g):
        through = g * (np.minimum(h, 0) + 1)
        return g + through @ w, x.T @ through

    return x + h, pullback


WRONG = {
    "task1": [{"masked_dense": f} for f in (gradient_of_the_weights, only_what_is_in_use, mask_twice,
                                            back_through_all_weights, scores_as_weights)],
    "task2": [{"cross_entropy": f} for f in (overflows, logarithm_of_zero, gradient_of_the_sum,
                                             only_the_right_class_learns, writes_into_the_logits)],
    "task3": [{"residual_dense": f} for f in (forgets_the_shortcut, slope_from_the_sum, slope_for_the_shortcut_too,
                                              no_slope, not_transposed)],
}
