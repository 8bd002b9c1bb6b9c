"""Marks lesson09.py: ``pytest -m lesson09``."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson09
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "used = (mask != 0).sum(axis=0), inverted = (mask < 0).sum(axis=0); divide by np.maximum(used, 1), so that "
       "a unit without weights gives 0.",
    2: "Forwards, a unit is fed if any weight in use comes from a unit that is fed: ((s != 0) & fed[:, "
       "None]).any(axis=0). Backwards the same with axis=1. Dead is what is not both.",
    3: "Keep w[np.ix_(before, after)], where before and after say which units of the two layers live; for the "
       "inputs and the outputs that is all of them.",
}


@st.composite
def nets(draw, layers):
    """Masks that fit together, as integers; more hidden entries than others."""
    widths = draw(st.lists(st.integers(1, 3), min_size=layers + 1, max_size=layers + 1))
    entries = st.sampled_from([0, 0, 1, -1])
    return [np.array(draw(st.lists(st.lists(entries, min_size=b, max_size=b), min_size=a, max_size=a)))
            for a, b in itertools.pairwise(widths)]


def paths_to(masks, layer, unit):
    """Whether weights in use lead from some input to a unit of `layer` (0: the inputs), by trying every path."""
    return layer == 0 or any(masks[layer - 1][i, unit] and paths_to(masks, layer - 1, i)
                             for i in range(masks[layer - 1].shape[0]))


def paths_from(masks, layer, unit):
    """Whether weights in use lead from a unit of `layer` to some output."""
    return layer == len(masks) or any(masks[layer][unit, j] and paths_from(masks, layer + 1, j)
                                      for j in range(masks[layer].shape[1]))


def dead(masks):
    return [np.array([not (paths_to(masks, layer, unit) and paths_from(masks, layer, unit))
                      for unit in range(masks[layer].shape[0])]) for layer in range(1, len(masks))]


def listed(masks):
    return {f"masks[{i}]": mask for i, mask in enumerate(masks)}


@given(masks=nets(1))
def test_task1_inverted_share(lesson, masks):
    mask, = masks
    expected = np.array([0.0 if not column.any() else float(np.sum(column < 0)) / int(np.sum(column != 0))
                         for column in mask.T])
    with np.errstate(all="ignore"):  # a division by 0 shows in the result
        got = lesson.inverted_share(mask)
    expect(got, expected, "Lesson 9, task 1", {"mask": mask}, tolerance=1e-12,
           hint="a column is a unit; hidden weights do not count; where a column has no weight in use the share is 0.0")


@given(masks=st.integers(2, 4).flatmap(nets))
def test_task2_dead_units(lesson, masks):
    expected, got = dead(masks), lesson.dead_units([mask.copy() for mask in masks])
    claim(isinstance(got, (list, tuple)) and len(got) == len(expected), "Lesson 9, task 2", f"your answer is {got!r}, "
          f"expected is a list of {len(expected)} array(s), one for each hidden layer", inputs=listed(masks))
    for layer, (mine, right) in enumerate(zip(got, expected)):
        expect(mine, right, "Lesson 9, task 2", {**listed(masks), "units between masks": (layer, layer + 1)},
               tolerance=0,
               hint="True is dead. Walk from the inputs: a unit is fed if a weight in use comes from a fed unit. Walk "
                    "from the outputs: it is heard if one leads to a heard unit. Dead is who is not fed or not heard")


def outputs(weights, x):
    for w in weights[:-1]:
        x = x @ w
        x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return x @ weights[-1]


@given(masks=st.integers(2, 3).flatmap(nets), seed=st.integers(0, 1000))
def test_task3_compact(lesson, masks, seed):
    rng = np.random.default_rng(seed)
    weights = [mask * np.round(rng.uniform(0.5, 1.5, mask.shape), 1) for mask in masks]
    given = {f"weights[{i}]": w for i, w in enumerate(weights)}
    living = [masks[0].shape[0], *(int(np.sum(~gone)) for gone in dead(masks)), masks[-1].shape[1]]
    got = lesson.compact([w.copy() for w in weights])
    shapes, expected = [np.shape(w) for w in got], list(itertools.pairwise(living))
    claim(shapes == expected, "Lesson 9, task 3", f"the shapes are {shapes}, expected {expected}", inputs=given,
          hint="a dead unit's column goes from the matrix before it and its row from the matrix behind it; inputs and "
               "outputs all stay. w[np.ix_(rows, columns)] takes both at once")
    x = rng.standard_normal((3, masks[0].shape[0]))
    expect(outputs(got, x), outputs(weights, x), "Lesson 9, task 3", {**given, "x": x}, tolerance=1e-9,
           hint="compared are the outputs of both nets on x, with ELU between the layers: they are the same function")
