"""Marks lesson11.py: ``pytest -m lesson11``."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import backend
from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson11
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "xp = x.__array_namespace__(). centred = x - xp.mean(x, axis=1, keepdims=True), std from its squares; the "
       "least std as an array, xp.ones_like(std) / sqrt(n), for xp.maximum.",
    2: "Compare labels[:, None] with xp.arange(classes, dtype=labels.dtype, device=like.device)[None, :], and "
       "make numbers of it: xp.astype(..., like.dtype).",
    3: "int(xp.count_nonzero(part)) for s > 0, s == 0 and s < 0, with the xp of s; a tuple of three Python "
       "integers.",
}
HABITS = "only functions of xp = x.__array_namespace__(): no np., no methods such as x.mean(), no bool * float"


@pytest.fixture(params=["numpy", "strict", "strict on device1"], scope="module")
def move(request):
    """Brings a host array to a library (and device)."""
    if request.param == "numpy":
        return np.array
    strict = backend.load("strict")
    device = strict.Device("device1" if "device1" in request.param else "CPU_DEVICE")
    return lambda array: strict.asarray(array, device=device)


def answer(function, task, hint, inputs, *arguments):
    """function(*arguments), in which whatever the library refuses becomes a text that says what and where."""
    place = next(backend.place(a) for a in arguments if hasattr(a, "dtype"))
    try:
        return function(*arguments), place
    except NotImplementedError:
        raise
    except Exception as error:
        failure = f"{type(error).__name__}: {error}".rstrip(".")
    claim(False, task, f"on {place} your function raised {failure}; expected is a result, as on NumPy", hint, inputs)


def at_home(got, place, dtype, task, hint, inputs):
    """Claims that a result is an array of the place that the input came from, with a dtype."""
    claim(hasattr(got, "dtype"), task, f"your answer is a {type(got).__name__}, expected is an array", hint, inputs)
    claim(backend.place(got) == place, task, f"the input was an array of {place}, expected is a result there, too; "
          f"yours is one of {backend.place(got)}", hint, inputs)
    claim(got.dtype == dtype, task, f"the result is {got.dtype}, expected {dtype}", hint, inputs)


TENTHS = st.integers(-3, 3).map(lambda n: n / 2)


@given(rows=st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(TENTHS, min_size=n, max_size=n), min_size=1,
                                                         max_size=3)), dtype=st.sampled_from(["float32", "float64"]))
def test_task1_standardise(lesson, move, rows, dtype):
    host, task = np.array(rows, dtype), "Lesson 11, task 1"
    got, place = answer(lesson.standardise, task, HABITS, {"x": host}, move(host))
    at_home(got, place, move(host).dtype, task, HABITS, {"x": host})
    n = host.shape[1]
    std = np.sqrt(np.mean((host - host.mean(axis=1, keepdims=True)) ** 2, axis=1, keepdims=True))
    expect(got, (host - host.mean(axis=1, keepdims=True)) / np.maximum(std, 1 / math.sqrt(n)), task, {"x": host},
           tolerance=1e-5 if dtype == "float32" else 1e-12,
           hint="every row by itself (axis=1, keepdims=True); std divides by n; where it is below 1/sqrt(n), that "
                "takes its place, so a constant row becomes zeros")


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=4), dtype=st.sampled_from(["float32", "float64"]))
def test_task2_one_hot(lesson, move, labels, dtype):
    host, task = np.array(labels), "Lesson 11, task 2"
    like, inputs = move(np.zeros(1, dtype)), {"labels": host, "classes": 3, "like": np.zeros(1, dtype)}
    hint = "xp.arange(classes, ...) wants dtype= and device= to lie beside labels; xp.astype makes numbers of booleans"
    got, place = answer(lesson.one_hot, task, hint, inputs, move(host), 3, like)
    at_home(got, place, like.dtype, task, hint, inputs)
    expect(got, np.eye(3)[host], task, inputs, tolerance=0, hint="a row is a label, a column a class")


@given(entries=st.lists(st.sampled_from([1.0, 0.0, -1.0]), min_size=1, max_size=5))
def test_task3_mask_counts(lesson, move, entries):
    host, task = np.array(entries, "float32"), "Lesson 11, task 3"
    hint = "xp.count_nonzero counts booleans; int() makes a Python integer of its result; first kept, then hidden"
    got, _ = answer(lesson.mask_counts, task, hint, {"s": host}, move(host))
    claim(isinstance(got, (tuple, list)) and len(got) == 3 and all(type(n) is int for n in got), task,
          f"your answer is {got!r}, expected are three Python integers", hint, {"s": host})
    counts = entries.count(1.0), entries.count(0.0), entries.count(-1.0)
    claim(tuple(got) == counts, task, f"got {tuple(got)}, expected {counts} (kept, hidden, inverted)", hint,
          {"s": host})
