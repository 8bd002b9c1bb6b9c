"""Marks lesson 00: ``pytest exercises/test_lesson00.py``, one task with ``-k task1``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import ops
from minimask.testing.marking import claim, expect
from minimask.testing.strategies import shapes, whole

pytestmark = pytest.mark.lesson00
TASK1, TASK2, TASK3 = (f"Lesson 0, task {i}" for i in (1, 2, 3))


@given(m=whole(shapes(min_rank=1), step=0.25, largest=4, dtype="float32"), tau=st.sampled_from([0.0, 0.25, 0.5]))
def test_task1_the_mask_of_any_scores(lesson, m, tau):
    before = m.copy()
    s = lesson.signed_mask(m, tau)
    claim(np.array_equal(m, before), TASK1, f"your function changed its input: m was {before.tolist()} and is now "
          f"{m.tolist()}", "build a new array, and write into no argument", {"tau": tau})
    expect(s, ops.keep_hide_invert(m, tau).data, TASK1, {"m": m, "tau": tau}, tolerance=0, same_dtype=True,
           hint="two strict comparisons, m > tau and m < -tau; a score of exactly tau is hidden; the mask has m's dtype")


layers = st.dictionaries(st.sampled_from(["dense1", "dense2", "dense3"]), whole(shapes(min_rank=1, max_side=3), largest=1),
                         min_size=1)


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
