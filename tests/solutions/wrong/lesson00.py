"""Lesson 00: wrong solutions that a student might hand in. Each must fail its task."""

import math

import numpy as np


def border_is_kept(m, tau):
    return (m >= tau).astype(m.dtype) - (m <= -tau).astype(m.dtype)


def no_inverting(m, tau):
    return (np.abs(m) > tau).astype(m.dtype)


def writes_into_the_scores(m, tau):
    m[np.abs(m) <= tau] = 0
    return np.sign(m)


def grows_to_float64(m, tau):
    return np.where(m > tau, 1.0, np.where(m < -tau, -1.0, 0.0))


def mean_of_the_layers(masks):
    return np.mean([np.mean(mask != 0) for mask in masks.values()])


def only_the_kept(masks):
    return sum((mask > 0).sum() for mask in masks.values()) / sum(mask.size for mask in masks.values())


def natural_logarithm(counts):
    return sum(-k * math.log(k / sum(layer)) for layer in counts for k in layer if k) / 8


def one_distribution_for_all(counts):
    total = sum(map(sum, counts))
    sums = [sum(layer[i] for layer in counts) for i in range(3)]
    return sum(-k * math.log2(k / total) for k in sums if k) / 8


def zero_times_minus_infinity(counts):
    return sum(np.sum(-np.array(layer) * np.log2(np.array(layer) / sum(layer))) for layer in counts) / 8


WRONG = {
    "task1": [{"signed_mask": f} for f in (border_is_kept, no_inverting, writes_into_the_scores, grows_to_float64)],
    "task2": [{"weights_left": f} for f in (mean_of_the_layers, only_the_kept)],
    "task3": [{"entropy_bytes": f} for f in (natural_logarithm, one_distribution_for_all, zero_times_minus_infinity)],
}
