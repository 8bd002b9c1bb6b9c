"""Wrong solutions of lesson 06, as students write them: each must fail its task's tests."""

import math

import numpy as np

GRID = np.linspace(-12, 12, 100_001)
DENSITY = np.exp(-GRID * GRID / 2) / math.sqrt(2 * math.pi)
STEP = GRID[1] - GRID[0]


def mean_in_place_of_the_second_moment(f):
    return float(np.sum(f(GRID) * DENSITY) * STEP)


def variance_in_place_of_the_second_moment(f):
    return float(np.sum(f(GRID) ** 2 * DENSITY) * STEP - np.sum(f(GRID) * DENSITY) ** 2 * STEP**2)


def density_not_normalised(f):
    return float(np.sum(f(GRID) ** 2 * np.exp(-GRID * GRID / 2)) * STEP)


def few_random_numbers(f):
    return float(np.mean(f(np.random.default_rng(0).standard_normal(10_000)) ** 2))


def a_grid_that_is_too_short(f):
    z = np.linspace(-2, 2, 100_001)
    return float(np.sum(f(z) ** 2 * np.exp(-z * z / 2)) / math.sqrt(2 * math.pi) * (z[1] - z[0]))


def window_forgotten(shape, rng, factor=3.0):
    return math.sqrt(factor / shape[-2]) * (2.0 * rng.integers(0, 2, shape) - 1)


def fan_out_in_place_of_fan_in(shape, rng, factor=3.0):
    return math.sqrt(factor / (math.prod(shape[:-2]) * shape[-1])) * (2.0 * rng.integers(0, 2, shape) - 1)


def root_forgotten(shape, rng, factor=3.0):
    return factor / math.prod(shape[:-1]) * (2.0 * rng.integers(0, 2, shape) - 1)


def zero_among_the_signs(shape, rng, factor=3.0):
    return math.sqrt(factor / math.prod(shape[:-1])) * rng.integers(-1, 2, shape).astype(np.float64)


def factor_ignored(shape, rng, factor=3.0):
    return math.sqrt(3.0 / math.prod(shape[:-1])) * (2.0 * rng.integers(0, 2, shape) - 1)


def uniform_in_place_of_signs(shape, rng, factor=3.0):
    bound = math.sqrt(3 * factor / math.prod(shape[:-1]))
    return rng.uniform(-bound, bound, shape)


def elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def after_the_activation(x, weights):
    sizes = []
    for w in weights:
        x = elu(x @ w)
        sizes.append(float(np.mean(x**2)))
    return sizes


def no_activation(x, weights):
    sizes = []
    for w in weights:
        x = x @ w
        sizes.append(float(np.mean(x**2)))
    return sizes


def variance(x, weights):
    sizes = []
    for w in weights:
        z = x @ w
        sizes.append(float(np.var(z)))
        x = elu(z)
    return sizes


WRONG = {
    "task1": [{"second_moment": f} for f in (
        mean_in_place_of_the_second_moment, variance_in_place_of_the_second_moment, density_not_normalised,
        few_random_numbers, a_grid_that_is_too_short)],
    "task2": [{"signed_elus": f} for f in (
        window_forgotten, fan_out_in_place_of_fan_in, root_forgotten, zero_among_the_signs, factor_ignored,
        uniform_in_place_of_signs)],
    "task3": [{"signal_sizes": f} for f in (after_the_activation, no_activation, variance)],
}
