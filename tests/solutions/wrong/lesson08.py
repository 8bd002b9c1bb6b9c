"""Wrong solutions of lesson 08, as students write them: each must fail its task's tests."""

import math

import numpy as np


def at_the_threshold_is_kept(m, tau):
    return np.where(np.abs(m) >= tau, np.sign(m), 0).astype(m.dtype)


def never_inverts(m, tau):
    return (m > tau).astype(m.dtype)


def scores_in_place_of_signs(m, tau):
    return np.where(np.abs(m) > tau, m, 0).astype(m.dtype)


def integers(m, tau):
    return np.where(np.abs(m) > tau, np.sign(m), 0).astype(int)


def the_inexact_trick(m, tau):
    hard = np.where(np.abs(m) > tau, np.sign(m), 0).astype(m.dtype)
    return hard + m - m


def decay_times_learning_rate(m, v, g, lr, wd, mu):
    v = mu * v - lr * g
    return (1 - lr * wd) * m + mu * v - lr * g, v


def decay_in_the_gradient(m, v, g, lr, wd, mu):
    g = g + wd * m
    v = mu * v - lr * g
    return m + mu * v - lr * g, v


def without_nesterov(m, v, g, lr, wd, mu):
    v = mu * v - lr * g
    return (1 - wd) * m + v, v


def rate_outside_of_the_velocity(m, v, g, lr, wd, mu):
    v = mu * v + g
    return (1 - wd) * m - lr * (g + mu * v), v


def old_velocity(m, v, g, lr, wd, mu):
    return (1 - wd) * m + mu * v - lr * g, mu * v - lr * g


def decay_after_the_step(m, v, g, lr, wd, mu):
    v = mu * v - lr * g
    return (1 - wd) * (m + mu * v - lr * g), v


def writes_into_its_arguments(m, v, g, lr, wd, mu):
    m *= 1 - wd
    v *= mu
    v -= lr * g
    m += mu * v - lr * g
    return m, v


def may_fall_below_zero(b, tau, wd, steps):
    return 1 - tau / (b * (1 - wd) ** steps)


def decay_forgotten(b, tau, wd, steps):
    return 1 - min(tau / b, 1.0)


def linear_decay(b, tau, wd, steps):
    return 1 - min(tau / (b * max(1 - wd * steps, 1e-300)), 1.0)


def exponential_in_place_of_the_product(b, tau, wd, steps):
    return 1 - min(tau / b * math.exp(min(wd * steps, 700)), 1.0)


def one_side_only(b, tau, wd, steps):
    return (1 - min(tau / (b * (1 - wd) ** steps), 1.0)) / 2


WRONG = {
    "task1": [{"signed_mask": f} for f in (
        at_the_threshold_is_kept, never_inverts, scores_in_place_of_signs, integers, the_inexact_trick)],
    "task2": [{"sgdw_step": f} for f in (
        decay_times_learning_rate, decay_in_the_gradient, without_nesterov, rate_outside_of_the_velocity, old_velocity,
        decay_after_the_step, writes_into_its_arguments)],
    "task3": [{"idle_share_left": f} for f in (
        may_fall_below_zero, decay_forgotten, linear_decay, exponential_in_place_of_the_product, one_side_only)],
}
