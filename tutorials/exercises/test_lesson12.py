"""Marks lesson12.py: ``pytest -m lesson12``."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson12
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "counts of -1, 0, 1, those that are 0 left out; then sum(counts * log2(n / counts)). That is n H already: "
       "do not multiply by n again.",
    2: "np.frombuffer(code, np.uint8).astype(int)[:, None] // 3 ** np.arange(5) % 3 gives five digits per byte; 2 "
       "stands for -1, and what is beyond size is filling.",
    3: "weight.reshape(h, w, c, out).transpose(3, 2, 0, 1).reshape(out, -1): first give the rows their three axes "
       "back, then put channels first.",
}

trits = st.sampled_from([0, 1, -1])


@given(entries=st.lists(trits, min_size=1, max_size=12))
def test_task1_entropy_bits(lesson, entries):
    array = np.array(entries)
    expected = sum(entries.count(v) * math.log2(len(entries) / entries.count(v)) for v in set(entries))
    with np.errstate(all="ignore"):  # log2 of 0 shows in the result
        got = lesson.entropy_bits(array)
    expect(got, expected, "Lesson 12, task 1", {"trits": array}, tolerance=1e-9,
           hint="count each of -1, 0, +1; log2, not log; a value that does not occur adds nothing")


def test_task1_entropy_bits_of_a_matrix(lesson, rng):
    array = rng.choice([-1, 0, 1], (40, 30), p=[0.1, 0.8, 0.1]).astype(np.int8)
    shares = [np.mean(array == v) for v in (-1, 0, 1)]
    expect(lesson.entropy_bits(array), -1200 * sum(p * math.log2(p) for p in shares), "Lesson 12, task 1",
           {"trits": array}, tolerance=1e-9, hint="of all entries together, whatever the shape and the integer type")


@given(entries=st.lists(trits, max_size=12))
def test_task2_unpack(lesson, entries):
    code = bytearray(-(-len(entries) // 5))
    for i, entry in enumerate(entries):
        code[i // 5] += entry % 3 * 3 ** (i % 5)
    got = lesson.unpack(bytes(code), len(entries))
    expect(got, np.array(entries, int), "Lesson 12, task 2", {"code": bytes(code), "size": len(entries)}, tolerance=0,
           hint="divide by 3 again and again, the remainders are the digits, the first entry first; cut off at size")


@given(h=st.integers(1, 3), w=st.integers(1, 3), c=st.integers(1, 3), out=st.integers(1, 2))
def test_task3_to_channels_first(lesson, h, w, c, out):
    weight = np.arange(h * w * c * out, dtype=np.float32).reshape(h * w * c, out)
    expected = np.empty((out, c * h * w), np.float32)
    for i, j, k, o in np.ndindex(h, w, c, out):
        expected[o, (k * h + i) * w + j] = weight[(i * w + j) * c + k, o]
    given_weight = weight.copy()
    got = lesson.to_channels_first(given_weight, (h, w, c))
    expect(got, expected, "Lesson 12, task 3", {"weight": weight, "shape": (h, w, c)}, tolerance=0,
           hint="give the rows their three axes back, move axes, put them in a row again")
    claim(np.array_equal(given_weight, weight), "Lesson 12, task 3", "the weight that you were given has changed",
          hint="work on a copy")
