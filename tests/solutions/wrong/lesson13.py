"""Wrong solutions of lesson 13, as students write them: each must fail its task's tests."""

import itertools

import numpy as np


def without_momentum(m, v, mu):
    return np.abs(m)


def one_step_only(m, v, mu):
    return np.abs(m) + mu**2 * np.abs(v)


def classical_momentum(m, v, mu):
    return np.abs(m) + mu / (1 - mu) * np.abs(v)


def signs_that_cancel(m, v, mu):
    return np.abs(m + mu**2 / (1 - mu) * v)


def right(m, v, mu):
    return np.abs(m) + mu**2 / (1 - mu) * np.abs(v)


def _dead(scores, velocities, stays, join=np.logical_and):
    held = [stays(m, v) for m, v in zip(scores, velocities)]
    return [join(into.all(axis=0), out.all(axis=1)) for into, out in itertools.pairwise(held)]


def masks_of_today(scores, velocities, tau, mu):
    return _dead(scores, velocities, lambda m, v: np.abs(m) <= tau)


def either_side(scores, velocities, tau, mu):
    return _dead(scores, velocities, lambda m, v: right(m, v, mu) <= tau, np.logical_or)


def only_what_comes_in(scores, velocities, tau, mu):
    return [(right(m, v, mu) <= tau).all(axis=0) for m, v in zip(scores[:-1], velocities)]


def only_what_goes_out(scores, velocities, tau, mu):
    return [(right(m, v, mu) <= tau).all(axis=1) for m, v in zip(scores[1:], velocities[1:])]


def under_tau(scores, velocities, tau, mu):
    return _dead(scores, velocities, lambda m, v: right(m, v, mu) < tau)


def any_weight(scores, velocities, tau, mu):
    held = [right(m, v, mu) <= tau for m, v in zip(scores, velocities)]
    return [into.any(axis=0) & out.any(axis=1) for into, out in itertools.pairwise(held)]


def mean_decay(m, v, decays, mu):
    n, wd = len(decays), float(np.mean(decays or [0.0]))
    a, b, c = 1.0, 0.0, 1.0
    for _ in range(n):
        c *= mu
        a, b = (1 - wd) * a, (1 - wd) * b + mu * c
    return a * m + b * v, c * v


def old_velocity(m, v, decays, mu):
    a, b, c = 1.0, 0.0, 1.0
    for wd in decays:
        a, b = (1 - wd) * a, (1 - wd) * b + mu * c
        c *= mu
    return a * m + b * v, c * v


def decay_alone(m, v, decays, mu):
    return np.prod([1 - wd for wd in decays]) * m, mu ** len(decays) * v


def velocity_decays_too(m, v, decays, mu):
    a, b, c = 1.0, 0.0, 1.0
    for wd in decays:
        c *= mu * (1 - wd)
        a, b = (1 - wd) * a, (1 - wd) * b + mu * c
    return a * m + b * v, c * v


def backwards(m, v, decays, mu):
    a, b, c = 1.0, 0.0, 1.0
    for wd in decays[::-1]:
        c *= mu
        a, b = (1 - wd) * a, (1 - wd) * b + mu * c
    return a * m + b * v, c * v


WRONG = {
    "task1": [{"reach": f} for f in (without_momentum, one_step_only, classical_momentum, signs_that_cancel)],
    "task2": [{"dead_for_ever": f} for f in (
        masks_of_today, either_side, only_what_comes_in, only_what_goes_out, under_tau, any_weight)],
    "task3": [{"after": f} for f in (mean_decay, old_velocity, decay_alone, velocity_decays_too, backwards)],
}
