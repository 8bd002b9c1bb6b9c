"""Lesson 03: wrong solutions that a student might hand in. Each must fail its task."""

import numpy as np


def flush_left(a, b):
    rank = max(len(a), len(b))
    shape = []
    for n, m in zip(tuple(a) + (1,) * (rank - len(a)), tuple(b) + (1,) * (rank - len(b))):
        if n != m and 1 not in (n, m):
            raise ValueError(f"{a} and {b} do not fit")
        shape.append(m if n == 1 else n)
    return tuple(shape)


def takes_the_larger(a, b):
    rank = max(len(a), len(b))
    return tuple(max(n, m) for n, m in zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)))


def larger_but_checked(a, b):
    rank = max(len(a), len(b))
    pairs = list(zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)))
    if any(n != m and 1 not in (n, m) for n, m in pairs):
        raise ValueError(f"{a} and {b} do not fit")
    return tuple(max(pair) for pair in pairs)


def forgets_the_missing_axes(a, b):
    shape = []
    for n, m in zip(a[::-1], b[::-1]):
        if n != m and 1 not in (n, m):
            raise ValueError(f"{a} and {b} do not fit")
        shape.append(m if n == 1 else n)
    return tuple(shape[::-1])


def refuses_without_a_word(a, b):
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise ValueError("shapes do not fit") from None


def no_sums(x, scale, shift):
    return x * scale + shift, lambda g: (g * scale, g * x, g)


def sums_the_first_axis_only(x, scale, shift):
    return x * scale + shift, lambda g: (g * scale, (g * x).sum(axis=0), g.sum(axis=0))


def sums_everything(x, scale, shift):
    return x * scale + shift, lambda g: (g * scale, np.full_like(scale, (g * x).sum()), np.full_like(shift, g.sum()))


def means_for_sums(x, scale, shift):
    axes = tuple(range(x.ndim - 1))
    return x * scale + shift, lambda g: (g * scale, (g * x).mean(axis=axes), g.mean(axis=axes))


def through_the_mean_nothing(x):
    return x - x.mean(axis=0), lambda g: (g,)


def mean_of_everything(x):
    return x - x.mean(axis=0), lambda g: (g - g.mean(),)


def sum_in_place_of_the_mean(x):
    return x - x.mean(axis=0), lambda g: (g - g.sum(axis=0),)


def its_own_way_only(x):
    return x - x.mean(axis=0), lambda g: (g * (1 - 1 / len(x)),)


WRONG = {
    "task1": [{"broadcast_shape": f} for f in (flush_left, takes_the_larger, larger_but_checked,
                                               forgets_the_missing_axes, refuses_without_a_word)],
    "task2": [{"scale_and_shift": f} for f in (no_sums, sums_the_first_axis_only, sums_everything, means_for_sums)],
    "task3": [{"centre": f} for f in (through_the_mean_nothing, mean_of_everything, sum_in_place_of_the_mean,
                                      its_own_way_only)],
}
