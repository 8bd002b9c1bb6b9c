"""Lesson 04: wrong solutions that a student might hand in. Each must fail its task."""

import numpy as np

from minimask import Tensor, op


@op(register=False)
def overflows(xp, x):
    y = xp.log(1 + xp.exp(x))
    return y, lambda g: (g * xp.exp(x) / (1 + xp.exp(x)),)


def _softplus(xp, x):
    return xp.log1p(xp.exp(-xp.abs(x))) + (x + xp.abs(x)) / 2


@op(register=False)
def sigmoid_of_the_value(xp, x):
    y = _softplus(xp, x)
    return y, lambda g: (g * (1 + xp.tanh(y / 2)) / 2,)


@op(register=False)
def forgets_the_cotangent(xp, x):
    return _softplus(xp, x), lambda g: ((1 + xp.tanh(x / 2)) / 2,)


@op(register=False)
def numpy_by_name(xp, x):
    return _softplus(np, x), lambda g: (g * (1 + np.tanh(x / 2)) / 2,)


@op(register=False)
def grows_to_float64(xp, x):
    return xp.logaddexp(x, np.zeros(x.shape)), lambda g: (g * (1 + xp.tanh(x / 2)) / 2,)


@op(register=False)
def no_comma(xp, x):
    return _softplus(xp, x), lambda g: g * (1 + xp.tanh(x / 2)) / 2


@op(register=False)
def length_held_constant(xp, x):
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x / length, lambda g: (g / length,)


@op(register=False)
def one_length_for_all(xp, x):
    length = xp.sqrt(xp.sum(x * x))
    y = x / length
    return y, lambda g: ((g - y * xp.sum(g * y)) / length,)


@op(register=False)
def projection_with_the_mean(xp, x):
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    y = x / length
    return y, lambda g: ((g - y * xp.mean(g * y, axis=-1, keepdims=True)) / length,)


@op(register=False)
def wrong_sign_of_the_second_way(xp, x):
    length = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    y = x / length
    return y, lambda g: ((g + y * xp.sum(g * y, axis=-1, keepdims=True)) / length,)


def _error(function, x, c, d, h=1e-5):
    leaf = Tensor(x, requires_grad=True)
    function(leaf).backward(c)
    slope = np.sum(c * (function(Tensor(x + h * d)).data - function(Tensor(x - h * d)).data)) / (2 * h)
    return slope - np.sum(leaf.grad * d)


def cotangent_of_ones(function, x, rng):
    return abs(_error(function, x, np.ones(function(Tensor(x)).shape), rng.standard_normal(x.shape)))


def direction_of_ones(function, x, rng):
    return abs(_error(function, x, rng.standard_normal(function(Tensor(x)).shape), np.ones(x.shape)))


def no_absolute_value(function, x, rng):
    return -abs(_error(function, x, rng.standard_normal(function(Tensor(x)).shape), rng.standard_normal(x.shape)))


def one_sided_and_coarse(function, x, rng):
    c, d, h = rng.standard_normal(function(Tensor(x)).shape), rng.standard_normal(x.shape), 1e-2
    leaf = Tensor(x, requires_grad=True)
    y = function(leaf)
    y.backward(c)
    return abs(np.sum(c * (function(Tensor(x + h * d)).data - y.data)) / h - np.sum(leaf.grad * d))


def never_objects(function, x, rng):
    return 0.0


WRONG = {
    "task1": [{"softplus": f} for f in (overflows, sigmoid_of_the_value, forgets_the_cotangent, numpy_by_name,
                                        grows_to_float64, no_comma)],
    "task2": [{"unit": f} for f in (length_held_constant, one_length_for_all, projection_with_the_mean,
                                    wrong_sign_of_the_second_way)],
    "task3": [{"gradient_error": f} for f in (cotangent_of_ones, direction_of_ones, no_absolute_value,
                                              one_sided_and_coarse, never_objects)],
}
