"""Wrong solutions of lesson 12, as students write them: each must fail its task's tests."""

import numpy as np


def zero_times_its_logarithm(trits):
    shares = np.array([np.mean(trits == v) for v in (-1, 0, 1)])
    return float(-trits.size * np.sum(shares * np.log2(shares)))


def natural_logarithm(trits):
    counts = np.unique(trits, return_counts=True)[1]
    return float(np.sum(counts * np.log(trits.size / counts)))


def of_one_entry(trits):
    counts = np.unique(trits, return_counts=True)[1]
    return float(np.sum(counts / trits.size * np.log2(trits.size / counts)))


def left_or_not(trits):
    counts = np.unique(trits != 0, return_counts=True)[1]
    return float(np.sum(counts * np.log2(trits.size / counts)))


def highest_digit_first(code, size):
    packed = np.frombuffer(code, np.uint8).astype(int)
    digits = packed[:, None] // 3 ** np.arange(4, -1, -1) % 3
    return np.where(digits == 2, -1, digits).reshape(-1)[:size]


def two_stays_two(code, size):
    packed = np.frombuffer(code, np.uint8).astype(int)
    return (packed[:, None] // 3 ** np.arange(5) % 3).reshape(-1)[:size]


def digits_less_one(code, size):
    packed = np.frombuffer(code, np.uint8).astype(int)
    return (packed[:, None] // 3 ** np.arange(5) % 3 - 1).reshape(-1)[:size]


def the_filling_counts(code, size):
    packed = np.frombuffer(code, np.uint8).astype(int)
    digits = packed[:, None] // 3 ** np.arange(5) % 3
    return np.where(digits == 2, -1, digits).reshape(-1)


def a_transpose_alone(weight, shape):
    return weight.T.copy()


def reads_the_rows_as_channels_first(weight, shape):
    h, w, c = shape
    return weight.reshape(c, h, w, -1).transpose(3, 1, 2, 0).reshape(weight.shape[1], -1)


def rows_and_columns_swapped(weight, shape):
    return weight.reshape(*shape, -1).transpose(3, 2, 1, 0).reshape(weight.shape[1], -1)


def inputs_first(weight, shape):
    return weight.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(weight.shape)


WRONG = {"task1": [{"entropy_bits": wrong} for wrong in (zero_times_its_logarithm, natural_logarithm, of_one_entry,
                                                          left_or_not)],
         "task2": [{"unpack": wrong} for wrong in (highest_digit_first, two_stays_two, digits_less_one,
                                                    the_filling_counts)],
         "task3": [{"to_channels_first": wrong} for wrong in (a_transpose_alone, reads_the_rows_as_channels_first,
                                                               rows_and_columns_swapped, inputs_first)]}
