"""Wrong solutions of lesson 11, as students write them: each must fail its task's tests."""

import math

import numpy as np


def numpy_only(x):
    centred = x - np.mean(x, axis=1, keepdims=True)
    return centred / np.maximum(np.std(x, axis=1, keepdims=True), 1 / math.sqrt(x.shape[1]))


def constant_rows_divided_by_zero(x):
    xp = x.__array_namespace__()
    with np.errstate(all="ignore"):
        return (x - xp.mean(x, axis=1, keepdims=True)) / xp.std(x, axis=1, keepdims=True)


def over_the_whole_array(x):
    xp = x.__array_namespace__()
    least = xp.ones_like(xp.std(x)) * (1 / math.sqrt(x.shape[1]))
    return (x - xp.mean(x)) / xp.maximum(xp.std(x), least)


def standard_deviation_of_a_sample(x):
    xp = x.__array_namespace__()
    std = xp.std(x, axis=1, keepdims=True, correction=1 if x.shape[1] > 1 else 0)
    return (x - xp.mean(x, axis=1, keepdims=True)) / xp.maximum(std, xp.ones_like(std) / math.sqrt(x.shape[1]))


def methods_of_numpy(x):
    std = x.std(axis=1, keepdims=True)
    return (x - x.mean(axis=1, keepdims=True)) / np.maximum(std, np.float32(1 / math.sqrt(x.shape[1])))


def back_to_the_host(x):
    x = np.asarray(x)
    std = np.maximum(x.std(axis=1, keepdims=True), np.asarray(1 / math.sqrt(x.shape[1]), x.dtype))
    return (x - x.mean(axis=1, keepdims=True)) / std


def index_by_an_array(labels, classes, like):
    xp = like.__array_namespace__()
    return xp.eye(classes, dtype=like.dtype)[labels]


def condition_times_number(labels, classes, like):
    xp = like.__array_namespace__()
    return (labels[:, None] == xp.arange(classes)[None, :]) * 1.0


def device_forgotten(labels, classes, like):
    xp = like.__array_namespace__()
    return xp.astype(labels[:, None] == xp.arange(classes)[None, :], like.dtype)


def booleans(labels, classes, like):
    xp = like.__array_namespace__()
    return labels[:, None] == xp.arange(classes, dtype=labels.dtype, device=like.device)[None, :]


def classes_in_rows(labels, classes, like):
    xp = like.__array_namespace__()
    columns = xp.arange(classes, dtype=labels.dtype, device=like.device)
    return xp.astype(columns[:, None] == labels[None, :], like.dtype)


def sum_of_conditions(s):
    xp = s.__array_namespace__()
    return tuple(int(xp.sum(part)) for part in (s > 0, s == 0, s < 0))


def numpy_counts(s):
    return tuple(int(np.count_nonzero(part)) for part in (s > 0, s == 0, s < 0))


def arrays_in_place_of_integers(s):
    xp = s.__array_namespace__()
    return tuple(xp.count_nonzero(part) for part in (s > 0, s == 0, s < 0))


def hidden_and_inverted_swapped(s):
    xp = s.__array_namespace__()
    return tuple(int(xp.count_nonzero(part)) for part in (s > 0, s < 0, s == 0))


WRONG = {
    "task1": [{"standardise": f} for f in (
        numpy_only, constant_rows_divided_by_zero, over_the_whole_array, standard_deviation_of_a_sample,
        methods_of_numpy, back_to_the_host)],
    "task2": [{"one_hot": f} for f in (
        index_by_an_array, condition_times_number, device_forgotten, booleans, classes_in_rows)],
    "task3": [{"mask_counts": f} for f in (
        sum_of_conditions, numpy_counts, arrays_in_place_of_integers, hidden_and_inverted_swapped)],
}
