"""Wrong solutions of lesson 10, as students write them: each must fail its task's tests."""

import numpy as np

from minimask import op


def everything_at_the_edge(m, share):
    k = round(share * m.size)
    if k == 0:
        return np.zeros_like(m)
    return (np.abs(m) >= np.sort(np.abs(m), axis=None)[-k]).astype(m.dtype)


def by_the_score_itself(m, share):
    order = np.argsort(-m.reshape(-1), stable=True)
    s = np.zeros(m.size, m.dtype)
    s[order[:round(share * m.size)]] = 1
    return s.reshape(m.shape)


def rounded_down(m, share):
    order = np.argsort(-np.abs(m).reshape(-1), stable=True)
    s = np.zeros(m.size, m.dtype)
    s[order[:int(share * m.size)]] = 1
    return s.reshape(m.shape)


def the_last_of_equals(m, share):
    order = np.argsort(np.abs(m).reshape(-1), stable=True)[::-1]
    s = np.zeros(m.size, m.dtype)
    s[order[:round(share * m.size)]] = 1
    return s.reshape(m.shape)


def signs_in_place_of_ones(m, share):
    order = np.argsort(-np.abs(m).reshape(-1), stable=True)
    s = np.zeros(m.size, m.dtype)
    s[order[:round(share * m.size)]] = np.sign(m.reshape(-1)[order[:round(share * m.size)]])
    return s.reshape(m.shape)


def straight_through_for_all(method, m, g):
    return g.copy()


def sign_for_all(method, m, g):
    return np.sign(m) * g


def positive_scores_only(method, m, g):
    return np.where(m > 0, g, 0.0) if method == "binary" else np.sign(m) * g if method == "edge-popup" else g.copy()


def score_in_place_of_its_sign(method, m, g):
    return m * g if method == "edge-popup" else g.copy()


def mask_of_the_largest(m, share):
    order = np.argsort(-np.abs(m).reshape(-1), stable=True)
    s = np.zeros(m.size, m.dtype)
    s[order[:round(share * m.size)]] = 1
    return s.reshape(m.shape)


@op(surrogate=True, register=False)
def nothing_inverted(xp, m, /, share):
    return mask_of_the_largest(m, share), lambda g: (g,)


@op(surrogate=True, register=False)
def gradient_of_edge_popup(xp, m, /, share):
    return xp.sign(m) * mask_of_the_largest(m, share), lambda g: (xp.sign(m) * g,)


@op(surrogate=True, register=False)
def hidden_entries_hear_nothing(xp, m, /, share):
    s = mask_of_the_largest(m, share)
    return xp.sign(m) * s, lambda g: (s * g,)


@op(surrogate=True, register=False)
def zero_slope(xp, m, /, share):
    return xp.sign(m) * mask_of_the_largest(m, share), lambda g: (xp.zeros_like(g),)


WRONG = {
    "task1": [{"largest": f} for f in (
        everything_at_the_edge, by_the_score_itself, rounded_down, the_last_of_equals, signs_in_place_of_ones)],
    "task2": [{"declared": f} for f in (
        straight_through_for_all, sign_for_all, positive_scores_only, score_in_place_of_its_sign)],
    "task3": [{"relative_step": f} for f in (
        nothing_inverted, gradient_of_edge_popup, hidden_entries_hear_nothing, zero_slope)],
}
