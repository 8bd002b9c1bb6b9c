"""Lesson 02: wrong solutions that a student might hand in. Each must fail its task."""

import math

from minimask import op


@op(surrogate=True, register=False)
def gradient_only_where_kept(xp, m, /, tau):
    s = xp.astype(m > tau, m.dtype)
    return s, lambda g: (g * s,)


@op(surrogate=True, register=False)
def the_true_gradient(xp, m, /, tau):
    return xp.astype(m > tau, m.dtype), lambda g: (xp.zeros_like(g),)


@op(surrogate=True, register=False)
def keeps_large_negative_scores(xp, m, /, tau):
    return xp.astype(xp.abs(m) > tau, m.dtype), lambda g: (g,)


@op(surrogate=True, register=False)
def keeps_the_border(xp, m, /, tau):
    return xp.astype(m >= tau, m.dtype), lambda g: (g,)


@op(surrogate=True, register=False)
def boolean_value(xp, m, /, tau):
    return m > tau, lambda g: (g,)


def _signed(xp, m, tau):
    return xp.astype(m > tau, m.dtype) - xp.astype(m < -tau, m.dtype)


@op(surrogate=True, register=False)
def clips_the_gradient(xp, m, /, tau, bound):
    return _signed(xp, m, tau), lambda g: (xp.clip(g, -bound, bound),)


@op(surrogate=True, register=False)
def forgets_negative_scores(xp, m, /, tau, bound):
    return _signed(xp, m, tau), lambda g: (g * xp.astype(m <= bound, g.dtype),)


@op(surrogate=True, register=False)
def strict_bound(xp, m, /, tau, bound):
    return _signed(xp, m, tau), lambda g: (g * xp.astype(xp.abs(m) < bound, g.dtype),)


@op(surrogate=True, register=False)
def only_what_is_in_use(xp, m, /, tau, bound):
    s = _signed(xp, m, tau)
    return s, lambda g: (g * xp.abs(s) * xp.astype(xp.abs(m) <= bound, g.dtype),)


def rounds_down(m0, tau, wd):
    return 0 if abs(m0) <= tau else math.floor(math.log(abs(m0) / tau) / -math.log1p(-wd))


def positive_scores_only(m0, tau, wd):
    return 0 if m0 <= tau else math.ceil(math.log(m0 / tau) / -math.log1p(-wd))


def decay_by_subtraction(m0, tau, wd):
    return 0 if abs(m0) <= tau else math.ceil((abs(m0) - tau) / wd)


def hidden_before_the_start(m0, tau, wd):
    return math.ceil(math.log(max(abs(m0), 1e-9) / tau) / -math.log1p(-wd))


WRONG = {
    "task1": [{"binary_step": f} for f in (gradient_only_where_kept, the_true_gradient, keeps_large_negative_scores,
                                           keeps_the_border, boolean_value)],
    "task2": [{"clipped_step": f} for f in (clips_the_gradient, forgets_negative_scores, strict_bound,
                                            only_what_is_in_use)],
    "task3": [{"steps_until_hidden": f} for f in (rounds_down, positive_scores_only, decay_by_subtraction,
                                                  hidden_before_the_start)],
}
