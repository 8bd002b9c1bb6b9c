"""Marks lesson08.py: ``pytest -m lesson08``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import Tensor, optim
from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson08
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "np.where(np.abs(m) > tau, np.sign(m), 0).astype(m.dtype): the comparison is strict, so |m| == tau is "
       "hidden.",
    2: "Three lines, each with a new array: m = m * (1 - wd); v = mu * v - lr * g; then the score m + mu * v - lr "
       "* g with the *new* v. Give (score, v).",
    3: "After the steps a score is left if it began above first = tau / (1 - wd)**steps. On [-b, b] the share "
       "above is 1 - first / b, and never below 0.",
}
TAU = 0.25  # a power of 2: tau and -tau are float32 numbers, and "exactly at the threshold" means something


@given(values=st.lists(st.sampled_from([-0.5, -TAU, -0.125, 0.0, 0.1, TAU, 0.3, 0.7]), min_size=1, max_size=4),
       dtype=st.sampled_from(["float32", "float64"]))
def test_task1_signed_mask(lesson, values, dtype):
    m = np.array(values, dtype)
    expected = np.array([0.0 if abs(value) <= TAU else 1.0 if value > 0 else -1.0 for value in values], dtype)
    expect(lesson.signed_mask(m.copy(), TAU), expected, "Lesson 8, task 1", {"m": m, "tau": TAU}, tolerance=0,
           same_dtype=True, hint="+1 where m > tau, -1 where m < -tau, 0 elsewhere: at the threshold, too; "
                                 "the result is exact and has the dtype of m")


def test_task1_many_scores(lesson, rng):
    m = rng.uniform(-1, 1, (40, 30)).astype(np.float32)
    got = np.asarray(lesson.signed_mask(m.copy(), TAU))
    expect(got, ((m > TAU).astype(np.float32) - (m < -TAU).astype(np.float32)), "Lesson 8, task 1",
           {"m": m, "tau": TAU}, tolerance=0, same_dtype=True,
           hint="1 + m - m is not 1 in float32: build the mask without adding scores")


TENTHS = st.integers(-9, 9).map(lambda n: n / 10)


@given(m=TENTHS, v=TENTHS, g=TENTHS, lr=st.sampled_from([0.1, 0.5]), wd=st.sampled_from([0.0, 0.2]),
       mu=st.sampled_from([0.0, 0.5, 0.9]))
def test_task2_sgdw_step(lesson, m, v, g, lr, wd, mu):
    inputs = {"m": np.array([m]), "v": np.array([v]), "g": np.array([g]), "lr": lr, "wd": wd, "mu": mu}
    given = {name: value.copy() if name in "mvg" else value for name, value in inputs.items()}
    velocity = mu * v - lr * g
    expected = np.array([(1 - wd) * m + mu * velocity - lr * g]), np.array([velocity])
    got = lesson.sgdw_step(**given)
    expect(got, expected, "Lesson 8, task 2", inputs, tolerance=1e-12,
           hint="number 0 are the scores, number 1 the velocity. Decay first: (1 - wd) m, without lr, not in g; then "
                "v <- mu v - lr g; then add mu times the new v, and - lr g once more")
    for name in "mvg":
        claim(np.array_equal(given[name], inputs[name]), "Lesson 8, task 2", f"the result is right, but {name} was "
              f"written to: it is now {given[name]}", hint="*= and -= write into the array; m = m * a makes a new one",
              inputs=inputs)


def test_task2_fifty_steps_as_the_package(lesson, rng):
    m = rng.standard_normal(3)
    leaf = Tensor(m.copy(), requires_grad=True)
    sgdw, v = optim.SGDW([leaf], lr=0.05, wd=0.01, momentum=0.9), np.zeros(3)
    for i in range(50):
        g = rng.standard_normal(3)
        before = {"m": m.copy(), "v": v.copy(), "g": g, "lr": 0.05, "wd": 0.01, "mu": 0.9}
        leaf.grad = g.copy()
        sgdw.step()
        m, v = lesson.sgdw_step(m, v, g, 0.05, 0.01, 0.9)
        expect(m, leaf.data, "Lesson 8, task 2", {"step (from 0)": i, **before}, tolerance=1e-12,
               hint="compared are the scores with minimask.optim.SGDW's after the same gradients")


@given(b=st.sampled_from([1.0, 0.2, 0.1]), tau=st.sampled_from([0.01, 0.0, 0.5]), wd=st.sampled_from([0.0, 0.01, 0.5]),
       steps=st.integers(0, 400))
def test_task3_idle_share_left(lesson, b, tau, wd, steps):
    smallest = tau / (1 - wd) ** steps  # first scores from here on are left
    got = lesson.idle_share_left(b, tau, wd, steps)
    expect(got, max(0.0, 1 - smallest / b), "Lesson 8, task 3", {"b": b, "tau": tau, "wd": wd, "steps": steps},
           tolerance=1e-9, hint="after `steps` steps a score is (1 - wd)^steps times what it was, so it is left if "
                                f"|first score| > tau / (1 - wd)^steps = {smallest:.6g}; |first score| is uniform on "
                                "[0, b]; a share is never below 0")
