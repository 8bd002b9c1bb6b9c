"""Lesson 00: wrong solutions that a student might hand in. Each must fail its task."""

import math

import numpy as np


def _table(before, after, rows, columns):
    return np.array([[np.sum((before == old) & (after == new)) for new in columns] for old in rows])


def columns_and_rows_swapped(before, after):
    return _table(before, after, (1, 0, -1), (1, 0, -1)).T


def sorted_by_number(before, after):
    return _table(before, after, (-1, 0, 1), (-1, 0, 1))


def only_what_changed(before, after):
    return _table(before, after, (1, 0, -1), (1, 0, -1)) * (1 - np.eye(3, dtype=int))


def shares(before, after):
    return _table(before, after, (1, 0, -1), (1, 0, -1)) / before.size


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
    "task1": [{"moves": f} for f in (columns_and_rows_swapped, sorted_by_number, only_what_changed, shares)],
    "task2": [{"weights_left": f} for f in (mean_of_the_layers, only_the_kept)],
    "task3": [{"entropy_bytes": f} for f in (natural_logarithm, one_distribution_for_all, zero_times_minus_infinity)],
}
