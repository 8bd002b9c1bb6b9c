"""Marks lesson 00: ``pytest exercises/test_lesson00.py``, one task with ``-k task1``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask.testing.marking import expect
from minimask.testing.strategies import shapes, whole

pytestmark = pytest.mark.lesson00
TASK1, TASK2, TASK3 = (f"Lesson 0, task {i}" for i in (1, 2, 3))
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "For each pair of states (old, new) one number: np.sum((before == old) & (after == new)), with both "
       "running over 1, 0, -1 in this order.",
    2: "Two sums over the layers, and one division at the end: entries that are not 0 (np.count_nonzero) over "
       "entries (mask.size). A mean of the layers' shares is another number.",
    3: "Per layer: sum(-k / n * log2(k / n) for k in layer if k), times n. The `if k` leaves out 0 log 0. Divide "
       "the sum of all layers by 8.",
}


@st.composite
def two_masks(draw):
    """A mask at two times."""
    shape = draw(shapes(min_rank=1, max_rank=2, max_side=3))
    return draw(whole(shape, 1, 1, "int8")), draw(whole(shape, 1, 1, "int8"))


@given(masks=two_masks())
def test_task1_the_moves_of_any_mask(lesson, masks):
    before, after = masks
    table = np.zeros((3, 3), int)
    for old, new in zip(before.ravel().tolist(), after.ravel().tolist()):
        table[[1, 0, -1].index(old), [1, 0, -1].index(new)] += 1
    expect(lesson.moves(before, after), table, TASK1, {"before": before, "after": after}, tolerance=0,
           hint="the state before chooses the row, the state after the column; both in the order +1, 0, -1")


layers = st.dictionaries(st.sampled_from(["dense1", "dense2", "dense3"]),
                         whole(shapes(min_rank=1, max_side=3), largest=1), min_size=1)


@given(masks=layers)
def test_task2_the_share_of_all_weights(lesson, masks):
    entries = np.concatenate([mask.ravel() for mask in masks.values()])
    expect(lesson.weights_left(masks), np.mean(entries != 0), TASK2, masks, tolerance=1e-9,
           hint="count the entries that are not 0 over all layers, and divide once, by the number of all weights; "
                "-1 is in use, too")


counted = st.tuples(*(st.integers(0, 64),) * 3).filter(any)


@given(counts=st.lists(counted, min_size=1, max_size=3))
def test_task3_the_bytes_of_any_counts(lesson, counts):
    bits = 0.0
    for layer in counts:
        for value in layer:
            bits += 0.0 if value == 0 else value * (np.log2(sum(layer)) - np.log2(value))
    with np.errstate(all="ignore"):
        found = lesson.entropy_bytes(counts)
    expect(found, bits / 8, TASK3, {"counts": counts}, tolerance=1e-9,
           hint="each layer has shares of its own; base 2; a count of 0 has no logarithm and adds nothing; at last / 8")
