"""Marks lesson10.py: ``pytest -m lesson10``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import Tensor
from minimask.testing.marking import claim, expect, pull, stays

pytestmark = pytest.mark.lesson10
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "np.argsort(-np.abs(m).reshape(-1), stable=True) puts the largest first and keeps the order of ties. Set 1 "
       "at the first round(share * m.size), and reshape.",
    2: "Where the step pretends s = m, dL/dm = g. Where it pretends s = |m|, the slope of |m| is sign(m): "
       "np.sign(m) * g.",
    3: "The value is xp.sign(m) times the mask of task 1; the pullback gives (g,), since the step pretends that s "
       "was m.",
}
SHARES = st.sampled_from([0.0, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0])
SCORES = st.sampled_from([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75])  # few values, so that many tie; 0 has no sign
RULE = "sort |m| of all entries, flattened, from large to small with stable=True, and take the first k"


def ranked(m, share):
    """1 for the entries of the k smallest (-|m|, index), entry by entry."""
    flat = [float(value) for value in np.abs(m).ravel()]
    chosen = sorted(range(len(flat)), key=lambda i: (-flat[i], i))[:round(share * len(flat))]
    s = np.zeros(len(flat), m.dtype)
    s[chosen] = 1
    return s.reshape(m.shape)


@given(values=st.lists(SCORES, min_size=1, max_size=6), share=SHARES, dtype=st.sampled_from(["float32", "float64"]))
def test_task1_largest(lesson, values, share, dtype):
    m = np.array(values, dtype)
    k = round(share * m.size)
    expect(lesson.largest(m.copy(), share), ranked(m, share), "Lesson 10, task 1", {"m": m, "share": share},
           tolerance=0, same_dtype=True, hint=f"here k = round({share} * {m.size}) = {k}; {RULE}")


def test_task1_a_whole_layer(lesson, rng):
    m = rng.standard_normal((30, 20)).astype(np.float32)
    expect(lesson.largest(m.copy(), 0.1), ranked(m, 0.1), "Lesson 10, task 1", {"m": m, "share": 0.1}, tolerance=0,
           same_dtype=True, hint=f"the mask has m's shape; {RULE}")


@given(method=st.sampled_from(["signed", "binary", "edge-popup"]),
       pairs=st.lists(st.tuples(SCORES, st.integers(-3, 3).map(float)), min_size=1, max_size=4))
def test_task2_declared(lesson, method, pairs):
    m, g = (np.array(column) for column in zip(*pairs))
    slope = [(-1.0 if value < 0 else 1.0) if method == "edge-popup" else 1.0 for value in m]
    expect(lesson.declared(method, m.copy(), g.copy()), np.array(slope) * g, "Lesson 10, task 2",
           {"method": method, "m": m, "g": g}, tolerance=0,
           hint="dL/dm = dL/ds times the slope of what is pretended: of m that is 1 everywhere, of |m| it is sign(m)")


@given(values=st.lists(SCORES, min_size=1, max_size=6), share=SHARES, seed=st.integers(0, 1000))
def test_task3_relative_step(lesson, values, share, seed):
    m = np.array(values)
    g = np.round(np.random.default_rng(seed).standard_normal(m.shape), 1) + 0.05  # never 0
    leaf, task, inputs = Tensor(m.copy(), requires_grad=True), "Lesson 10, task 3", {"m": m, "share": share}
    s = lesson.relative_step(leaf, share)
    stays(m, leaf.data, task, "m")
    expect(s, ranked(m, share) * np.array([-1.0 if value < 0 else 1.0 for value in values]), task, inputs, tolerance=0,
           hint="this is the value: sign(m) for the k largest |m|, 0 elsewhere; ties as in task 1")
    pull(s, g.copy(), task, inputs)
    claim(leaf.grad is not None, task, "no gradient arrived at m, expected is g", inputs=inputs,
          hint="the pullback returns a tuple with one array: lambda g: (...,)")
    expect(leaf.grad, g, task, {**inputs, "g": g}, tolerance=0,
           hint="this is the gradient: dL/dm := dL/ds for every entry, hidden ones and negative ones too")
