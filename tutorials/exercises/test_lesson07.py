"""Marks lesson07.py: ``pytest -m lesson07``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimask
from minimask import Tensor, ops
from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson07
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "oh and ow from the formulas. For every (i, j) of the window the slice x[:, i:i+stride*(oh-1)+1:stride, "
       "j:j+stride*(ow-1)+1:stride, :]; concatenate these on the last axis, in this order, then reshape to "
       "n*oh*ow rows.",
    2: "rows = g.reshape(-1, outputs). dw = (windows(x, kh, kw).T @ rows).reshape(w.shape). For dx each window's "
       "cotangent, rows @ w.reshape(-1, outputs).T, is *added* (+=) where its window lay.",
    3: "Slices x[first:first + images] for first in range(0, len(x), images): the last may be shorter. "
       "np.concatenate the results along axis 0.",
}
SIDES = st.integers(1, 2)


def numbered(*shape):
    """1, 2, 3, ...: an image in which every entry tells where it came from."""
    return np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)


@given(n=SIDES, kh=SIDES, kw=SIDES, c=SIDES, more=st.tuples(st.integers(0, 3), st.integers(0, 3)),
       stride=st.integers(1, 3))
def test_task1_windows(lesson, n, kh, kw, c, more, stride):
    x = numbered(n, kh + more[0], kw + more[1], c)
    oh, ow = more[0] // stride + 1, more[1] // stride + 1
    expected = np.array([[x[image, i * stride + p, j * stride + q, channel]
                          for p in range(kh) for q in range(kw) for channel in range(c)]
                         for image in range(n) for i in range(oh) for j in range(ow)])
    inputs = {"x": x, "kh": kh, "kw": kw, "stride": stride}
    expect(lesson.windows(x, kh, kw, stride=stride), expected, "Lesson 7, task 1", inputs, tolerance=0,
           hint=f"there are n*oh*ow = {n}*{oh}*{ow} windows; a row holds the window's pixels row by row, each with all "
                "its channels; the slice of its pixel (p, q) begins at x[:, p, q] and takes every stride-th pixel")


def test_task1_stride_is_1_unless_given(lesson):
    x = numbered(1, 3, 2, 1)
    expect(lesson.windows(x, 2, 2), np.array([[1, 2, 3, 4], [3, 4, 5, 6]]), "Lesson 7, task 1",
           {"x": x, "kh": 2, "kw": 2}, tolerance=0)


@given(n=SIDES, kh=SIDES, kw=SIDES, c=SIDES, outputs=SIDES, more=st.tuples(st.integers(0, 2), st.integers(0, 2)),
       seed=st.integers(0, 1000))
def test_task2_conv_pullback(lesson, n, kh, kw, c, outputs, more, seed):
    rng = np.random.default_rng(seed)
    x, w, g = (np.round(rng.standard_normal(shape), 1) for shape in (
        (n, kh + more[0], kw + more[1], c), (kh, kw, c, outputs), (n, more[0] + 1, more[1] + 1, outputs)))
    leaves = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    with minimask.plain():
        ops.conv2d(*leaves, padding="valid").backward(g)
    expect(lesson.conv_pullback(x, w, g), tuple(leaf.grad for leaf in leaves), "Lesson 7, task 2",
           {"x": x, "w": w, "g": g}, tolerance=1e-9,
           hint="number 0 is dL/dx, number 1 dL/dw. The kernel's gradient is windows^T G, summed over all images and "
                "places; a pixel's gradient is the sum over all windows that it is in (+=, windows overlap)")


@given(n=st.integers(1, 7), images=st.integers(1, 8))
def test_task3_in_blocks(lesson, n, images):
    x, calls = numbered(n, 2, 1, 1), []

    def convolve(block):
        calls.append(len(block))
        return 10.0 * block.sum(axis=1, keepdims=True)  # (k, 1, 1, 1): a convolution with a kernel of tens

    got, inputs = lesson.in_blocks(convolve, x, images), {"x": x, "images": images}
    claim(hasattr(got, "shape"), "Lesson 7, task 3", f"your answer is a {type(got).__name__}, expected is one array "
          f"of shape ({n}, 1, 1, 1)", inputs=inputs, hint="np.concatenate puts blocks together")
    expect(got, 10.0 * x.sum(axis=1, keepdims=True), "Lesson 7, task 3", {**inputs, "convolve was given": calls},
           hint="`convolve was given` is how many images each of your calls had; the last block may be smaller")
    claim(max(calls, default=0) <= images and len(calls) == -(-n // images), "Lesson 7, task 3",
          f"the numbers are right, but convolve was given {calls} images, expected are {-(-n // images)} calls with at "
          f"most {images} each", inputs=inputs, hint="range(0, n, images) gives the first image of every block")
