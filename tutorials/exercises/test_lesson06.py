"""Marks lesson06.py: ``pytest -m lesson06``."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import init
from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson06
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "z = np.linspace(-12, 12, 100_001); sum f(z)^2 times the density, times the width z[1] - z[0] of a slice. "
       "f(z) squared, not f(z^2).",
    2: "fan_in = math.prod(shape[:-1]), c = math.sqrt(factor / fan_in), and signs from rng.integers(0, 2, shape): "
       "2 * that - 1.",
    3: "In the loop: z = x @ w, note np.mean(z**2), then x = ELU(z) for the next layer. The square's mean, not "
       "the variance: do not subtract the mean.",
}
SEEDS = st.integers(0, 1000)


def elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


@pytest.mark.parametrize(("name", "f", "expected"), [
    ("f(z) = z", lambda z: z, 1.0),
    ("f(z) = z + 1", lambda z: z + 1, 2.0),  # z^2 + 2z + 1: the mean counts, too
    ("ReLU", lambda z: np.maximum(z, 0), 0.5),
    ("ELU", elu, 0.6449449),
    ("f(z) = z^2", lambda z: z * z, 3.0),  # E[z^4]
], ids=["identity", "shifted", "relu", "elu", "square"])
def test_task1_second_moment(lesson, name, f, expected):
    expect(lesson.second_moment(f), expected, "Lesson 6, task 1", {"f": name}, tolerance=1e-4,
           hint="E[f(z)^2] is the integral of f(z)^2 times the density, density e^(-z^2/2)/sqrt(2 pi); reach out far "
                "enough (|z| up to 10) and take small steps")


def shapes():
    return st.lists(st.integers(1, 4), min_size=2, max_size=2).map(tuple) | st.lists(
        st.integers(1, 3), min_size=4, max_size=4).map(tuple)


@given(shape=shapes(), factor=st.sampled_from([3.0, 1.5, 2.0]), seed=SEEDS)
def test_task2_size_of_the_constant(lesson, shape, factor, seed):
    got = lesson.signed_elus(shape, np.random.default_rng(seed), factor=factor)
    inputs = {"shape": shape, "factor": factor}
    terms = init.fans(shape)[0]
    expect(np.abs(got), np.full(shape, math.sqrt(factor / terms)), "Lesson 6, task 2", inputs, tolerance=1e-12,
           hint="compared are absolute values: all are c, with c^2 = factor / fan-in; one output of this shape adds up "
                f"{terms} term(s): every axis but the last counts")


def test_task2_the_default_is_elus(lesson, rng):
    expect(np.abs(lesson.signed_elus((12, 2), rng)), np.full((12, 2), 0.5), "Lesson 6, task 2", {"shape": (12, 2)},
           tolerance=1e-12, hint="compared are absolute values; without factor it is 3, so c^2 = 3/12")


def test_task2_signs(lesson, rng):
    got = np.asarray(lesson.signed_elus((100, 100), rng))
    again = np.asarray(lesson.signed_elus((100, 100), rng))
    positive = float(np.mean(got > 0))
    claim(0.45 < positive < 0.55, "Lesson 6, task 2", f"{positive:.0%} of 10,000 weights are positive, expected is "
          "about half", inputs={"shape": (100, 100)}, hint="toss a coin for every weight: rng.integers(0, 2, shape)")
    claim(0.45 < float(np.mean(got == again)) < 0.55, "Lesson 6, task 2", "two draws from one generator should agree "
          f"in about half of the weights, but agree in {np.mean(got == again):.0%}", inputs={"shape": (100, 100)},
          hint="draw from the rng that you are given; do not make one of your own")


@given(seed=SEEDS, samples=st.integers(1, 3), widths=st.lists(st.integers(1, 3), min_size=2, max_size=4))
def test_task3_signal_sizes(lesson, seed, samples, widths):
    rng = np.random.default_rng(seed)
    x = np.round(rng.standard_normal((samples, widths[0])) + 1, 1)
    weights = [np.round(rng.standard_normal((a, b)), 1) for a, b in itertools.pairwise(widths)]
    given, expected = {"x": x, **{f"weights[{i}]": w for i, w in enumerate(weights)}}, []
    signal = x
    for w in weights:
        z = signal @ w
        expected.append(float(np.mean(z * z)))
        signal = elu(z)
    got = lesson.signal_sizes(x, weights)
    claim(got is not None and len(got) == len(weights), "Lesson 6, task 3", f"your answer is {got!r}, expected are "
          f"{len(weights)} numbers, one for each matrix", inputs=given)
    expect(np.array(got, dtype=float), np.array(expected), "Lesson 6, task 3", given, tolerance=1e-9,
           hint="note np.mean(z**2) of z = x @ W, before ELU is applied; what goes into the next layer is ELU(z)")
