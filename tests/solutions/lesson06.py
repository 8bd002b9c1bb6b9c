"""Reference solutions of lesson 06."""

import math

import numpy as np


def second_moment(f):
    z = np.linspace(-12, 12, 100_001)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(np.sum(f(z) ** 2 * density) * (z[1] - z[0]))


def signed_elus(shape, rng, factor=3.0):
    fan_in = math.prod(shape[:-1])
    return math.sqrt(factor / fan_in) * (2.0 * rng.integers(0, 2, shape) - 1)


def signal_sizes(x, weights):
    sizes = []
    for w in weights:
        z = x @ w
        sizes.append(float(np.mean(z**2)))
        x = np.where(z > 0, z, np.expm1(np.minimum(z, 0)))
    return sizes
