"""Marks lesson13.py: ``pytest -m lesson13``."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson13
HINTS = {
    1: "The geometric series mu^2 + mu^3 + ... is mu**2 / (1 - mu): np.abs(m) + mu**2 / (1 - mu) * np.abs(v).",
    2: "With task 1, stays = reach(m, v, mu) <= tau for each matrix; a unit is a column of one and a row of the next: "
       "stays[i].all(axis=0) & stays[i + 1].all(axis=1).",
    3: "In the loop over decays first c *= mu, then a, b = (1 - wd) * a, (1 - wd) * b + mu * c. At the end "
       "a * m + b * v, c * v.",
}
TENTHS = st.integers(-10, 10).map(lambda n: n / 10)
MOMENTA = st.sampled_from([0.0, 0.5, 0.8, 0.9])


@st.composite
def pairs(draw, shape=(3,)):
    """Scores and velocities of one shape, in tenths."""
    return [np.array(draw(st.lists(TENTHS, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))).reshape(shape)
            for _ in range(2)]


def stepped(m, v, decays, mu):
    for wd in decays:
        v = mu * v
        m = (1 - wd) * m + mu * v
    return m, v


@given(mv=pairs(), mu=MOMENTA)
def test_task1_reach(lesson, mv, mu):
    m, v = mv
    same = np.sign(m) * np.abs(v)  # the worst: it pushes where the score is already, and nothing decays
    same[m == 0] = np.abs(v[m == 0])
    expected = np.abs(stepped(m, same, [0.0] * 400, mu)[0])
    expect(lesson.reach(m.copy(), v.copy(), mu), expected, "Lesson 13, task 1", {"m": m, "v": v, "mu": mu},
           tolerance=1e-9, hint="without decay, and with a velocity of the score's sign, the score goes on by mu times "
                                "mu v, then mu times mu^2 v, ...: add them all up")


@st.composite
def nets(draw):
    """Scores and velocities of two or three layers, most of them small."""
    widths = draw(st.lists(st.integers(1, 3), min_size=3, max_size=4))
    near = st.sampled_from([0.0, 0.0, 0.1, -0.1, 0.25, -0.25, 0.5, -0.5, 0.75])
    slow = st.sampled_from([0.0, 0.0, 0.0, 0.125, -0.125, 0.5])

    def drawn(entries):
        return [np.array(draw(st.lists(st.lists(entries, min_size=b, max_size=b), min_size=a, max_size=a)))
                for a, b in itertools.pairwise(widths)]

    return drawn(near), drawn(slow)


@given(net=nets(), tau=st.sampled_from([0.25, 0.3, 0.5]))
def test_task2_dead_for_ever(lesson, net, tau):
    scores, velocities = net
    mu = 0.5  # binary fractions: the bound is exact
    stays = [np.abs(m) + mu**2 / (1 - mu) * np.abs(v) <= tau for m, v in zip(scores, velocities)]
    expected = [np.array([stays[i][:, unit].all() and stays[i + 1][unit].all() for unit in range(stays[i].shape[1])])
                for i in range(len(stays) - 1)]
    given = {**{f"scores[{i}]": m for i, m in enumerate(scores)},
             **{f"velocities[{i}]": v for i, v in enumerate(velocities)}, "tau": tau, "mu": mu}
    got = lesson.dead_for_ever([m.copy() for m in scores], [v.copy() for v in velocities], tau, mu)
    claim(isinstance(got, (list, tuple)) and len(got) == len(expected), "Lesson 13, task 2", f"your answer is {got!r}, "
          f"expected is a list of {len(expected)} array(s), one for each hidden layer", inputs=given)
    for layer, (mine, right) in enumerate(zip(got, expected)):
        expect(mine, right, "Lesson 13, task 2", {**given, "units between matrices": (layer, layer + 1)}, tolerance=0,
               hint="a column of one matrix and a row of the next belong to a unit; all of both must stay at or under tau")


@given(mv=pairs((2, 2)), mu=MOMENTA, decays=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), max_size=5))
def test_task3_after(lesson, mv, mu, decays):
    m, v = mv
    expect(lesson.after(m.copy(), v.copy(), list(decays), mu), stepped(m, v, decays, mu), "Lesson 13, task 3",
           {"m": m, "v": v, "decays": decays, "mu": mu}, tolerance=1e-9,
           hint="begin with a = 1, b = 0, c = 1; a step makes c = mu c, then a = (1 - wd) a and b = (1 - wd) b + mu c")
