"""Twins on CuPy arrays: each one kernel where functions of the array API would take several.

A kernel is a line or two of C++, compiled by CuPy for the GPU at its first call. On a GPU a step of these nets waits
for memory and for kernels to be launched, so what counts is how often an array is gone through and how many kernels
there are. The numbers are those of the plain versions up to rounding; tests hold both equal, on a GPU (``pytest --cupy
device``) and, with the kernels' own text compiled for the host, without one.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from .. import ops as plain
from ..backend import Array
from ..inputs import threshold
from ..ops import Result
from ..windows import Geometry, Padding, Pair, of_convolution, of_pool

#: Bytes of windows that a convolution holds at a time unless told otherwise: what a layer of the paper's nets needs for
#: a whole batch, so that nothing is cut there.
BUDGET = 1 << 30

#: Kernels by name: parameters in, parameters out, what to do for entry i of the last. 'raw' arrays are indexed by hand.
#: A window is at (row, column) of the result; `same` tells equal numbers, NaN being equal to NaN.
_SAME = "[](T a, T b) { return a == b || (a != a && b != b); }"
_AT = ("raw T x, int32 h, int32 w, int32 c, int32 kh, int32 kw, int32 sh, int32 sw, int32 top, int32 left, "
       "int32 oh, int32 ow")
KERNELS = {
    "elu": ("T x", "T y", "y = x > 0 ? x : expm1(x)"),
    "elu_slope": ("T g, T y", "T dx", "dx = y > 0 ? g : g * (y + 1)"),
    "keep_hide_invert": ("T m, T tau", "T s", "s = m > tau ? T(1) : m < -tau ? T(-1) : T(0)"),
    "nesterov": ("T g, T rate, T keep, T momentum", "T p, T v",
                 "T change = rate * g; v = momentum * v - change; p = keep * p - change + momentum * v"),
    "windows": (_AT, "T rows", """
        int r = i; int channel = r % c; r /= c; int l = r % kw; r /= kw; int k = r % kh; r /= kh;
        int column = r % ow; r /= ow; int row = r % oh; r /= oh;
        int y = row * sh + k - top, z = column * sw + l - left;
        rows = y >= 0 && y < h && z >= 0 && z < w ? x[((r * h + y) * w + z) * c + channel] : T(0);
        """),
    "windows_transpose": (_AT, "T dx", """
        int r = i; int channel = r % c; r /= c; int z = r % w + left; r /= w; int y = r % h + top; r /= h;
        T sum = 0;
        for (int k = y % sh; k < kh && k <= y; k += sh) for (int l = z % sw; l < kw && l <= z; l += sw) {
            int row = (y - k) / sh, column = (z - l) / sw;
            if (row < oh && column < ow)
                sum += x[((((r * oh + row) * ow + column) * kh + k) * kw + l) * c + channel];
        }
        dx = sum;
        """),
    "largest": (_AT, "T largest", f"""
        auto same = {_SAME};
        int r = i; int channel = r % c; r /= c; int column = r % ow; r /= ow; int row = r % oh; r /= oh;
        bool begun = false;
        T best = 0;
        for (int k = 0; k < kh; ++k) for (int l = 0; l < kw; ++l) {{
            int y = row * sh + k - top, z = column * sw + l - left;
            if (y < 0 || y >= h || z < 0 || z >= w) continue;
            T value = x[((r * h + y) * w + z) * c + channel];
            if (!begun || value > best || (value != value && !same(value, best))) best = value;
            begun = true;
        }}
        largest = best;
        """),
    "largest_transpose": (_AT + ", raw T best, raw T g", "T dx", f"""
        auto same = {_SAME};
        int r = i; int channel = r % c; r /= c; int z = r % w; r /= w; int y = r % h; r /= h;
        T mine = x[i], sum = 0;
        for (int k = (y + top) % sh; k < kh && k <= y + top; k += sh)
        for (int l = (z + left) % sw; l < kw && l <= z + left; l += sw) {{
            int row = (y + top - k) / sh, column = (z + left - l) / sw;
            if (row >= oh || column >= ow) continue;
            int there = ((r * oh + row) * ow + column) * c + channel;
            bool first = same(mine, best[there]);
            for (int place = 0; first && place < k * kw + l; ++place) {{
                int a = row * sh + place / kw - top, b = column * sw + place % kw - left;
                if (a >= 0 && a < h && b >= 0 && b < w)
                    first = !same(x[((r * h + a) * w + b) * c + channel], best[there]);
            }}
            if (first) sum += g[there];
        }}
        dx = sum;
        """)}


@functools.cache
def kernel(xp: ModuleType, name: str) -> Any:
    """The kernel of that name, which CuPy compiles at its first call."""
    return xp.ElementwiseKernel(*KERNELS[name], f"minimask_{name}")


def elu(xp: ModuleType, x: Array, /, alpha: float = 1.0) -> Result:
    """ops.elu in one pass each way, for alpha 1."""
    if alpha != 1:
        return plain.elu.__wrapped__(xp, x, alpha)
    y = kernel(xp, "elu")(x)
    return y, lambda g: (kernel(xp, "elu_slope")(g, y),)


def keep_hide_invert(xp: ModuleType, m: Array, /, tau: float) -> Result:
    """ops.keep_hide_invert in one pass."""
    return kernel(xp, "keep_hide_invert")(m, threshold("keep_hide_invert", tau)), lambda g: (g,)


def nesterov(xp: ModuleType, p: Array, v: Array, g: Array, rate: float, keep: float, momentum: float) -> None:
    """SGDW's update of parameter p and velocity v, in place, in one pass."""
    kernel(xp, "nesterov")(g, rate, keep, momentum, p, v)


# ---- windows -------------------------------------------------------------------------------------------------------


def _numbers(image: tuple[int, ...], at: Geometry) -> tuple[int, ...]:
    """h, w, c, kh, kw, sh, sw, top, left, oh, ow: what the kernels know of where windows lie."""
    return (*image[1:], *at.kernel, *at.stride, at.padding[0][0], at.padding[1][0], *at.output)


def _wide(xp: ModuleType, x: Array) -> Array:
    """x (..., c), contiguous, as numbers of 16 bytes where they fill its last axis: windows are moved, not computed."""
    return x.view(xp.complex128) if x.shape[-1] * x.itemsize % 16 == 0 and x.itemsize < 16 else x


def windows(xp: ModuleType, x: Array, at: Geometry) -> Array:
    """(n, h, w, c) -> (n*oh*ow, kh*kw*c), a window a row; the image itself where a window is one pixel of it."""
    n, _, _, c = x.shape
    (kh, kw), (oh, ow) = at.kernel, at.output
    if (kh, kw) == (1, 1) and at.stride == (1, 1) and (oh, ow) == x.shape[1:3]:
        return x.reshape(-1, c)
    rows = xp.empty((n, oh, ow, kh * kw * c), x.dtype)
    image, into = _wide(xp, x), rows.reshape(n, oh, ow, kh * kw, c)
    into = _wide(xp, into)
    kernel(xp, "windows")(image, *_numbers(image.shape, at), into)
    return rows.reshape(-1, kh * kw * c)


class Blocks:
    """A batch cut into images whose windows fit into a byte budget: slices, most often one for all."""

    def __init__(self, shape: tuple[int, ...], at: Geometry, itemsize: int, budget: int | None):
        per_image = at.output[0] * at.output[1] * at.kernel[0] * at.kernel[1] * shape[3] * itemsize
        images = max(1, (budget or BUDGET) // max(1, per_image))
        self.slices = [slice(first, first + images) for first in range(0, shape[0], images)]


def forward(xp: ModuleType, x: Array, w: Array, at: Geometry, budget: int | None) -> tuple[Array, Array | None]:
    """conv2d's value: (n, h, w, c_in), (kh, kw, c_in, c_out) -> (n, oh, ow, c_out), and the windows of one block."""
    c_out = w.shape[3]
    x, matrix = xp.ascontiguousarray(x), xp.ascontiguousarray(w).reshape(-1, c_out)
    y, rows = xp.empty((x.shape[0], *at.output, c_out), x.dtype), None
    blocks = Blocks(x.shape, at, x.itemsize, budget).slices
    for images in blocks:
        rows = windows(xp, x[images], at)
        xp.matmul(rows, matrix, out=y[images].reshape(-1, c_out))
    return y, rows if len(blocks) == 1 else None


def backward_kernel(xp: ModuleType, x: Array, g: Array, at: Geometry, budget: int | None,
                    rows: Array | None = None) -> Array:
    """dW = windows^T g -> (kh, kw, c_in, c_out); `rows`: the windows, where they are at hand."""
    shape, g = (*at.kernel, x.shape[3], g.shape[3]), xp.ascontiguousarray(g)
    if rows is not None:
        return xp.matmul(rows.T, g.reshape(-1, shape[3])).reshape(shape)
    x, total = xp.ascontiguousarray(x), xp.zeros((shape[0] * shape[1] * shape[2], shape[3]), x.dtype)
    for images in Blocks(x.shape, at, x.itemsize, budget).slices:
        total += xp.matmul(windows(xp, x[images], at).T, g[images].reshape(-1, shape[3]))
    return total.reshape(shape)


def backward_image(xp: ModuleType, g: Array, w: Array, shape: tuple[int, ...], at: Geometry,
                   budget: int | None) -> Array:
    """dx of conv2d -> `shape`: the convolution of g with the turned kernel for stride 1, else windows' transpose."""
    (kh, kw), (top, bottom), (left, right) = at.kernel, *at.padding
    if at.stride == (1, 1) and max(top, bottom) < kh and max(left, right) < kw:
        turned = xp.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, c_out, c_in)
        sides = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
        return forward(xp, g, turned, Geometry(at.kernel, (1, 1), sides, (shape[1], shape[2])), budget)[0]
    g, transposed = xp.ascontiguousarray(g), xp.ascontiguousarray(w.reshape(-1, w.shape[3]).T)  # (c_out, kh*kw*c_in)
    dx = xp.empty(shape, g.dtype)
    for images in Blocks(shape, at, g.itemsize, budget).slices:
        rows = xp.matmul(g[images].reshape(-1, w.shape[3]), transposed)
        kernel(xp, "windows_transpose")(rows, *_numbers(shape, at), dx[images])
    return dx


def conv2d(xp: ModuleType, x: Array, w: Array, /, stride: Pair = 1, padding: Padding = "same",
           budget: int | None = None) -> Result:
    """conv.conv2d: windows by one kernel, then one product; the windows of a whole batch where they fit."""
    at = of_convolution("conv2d", x.shape, w.shape, stride, padding, budget)
    y, rows = forward(xp, x, w, at, budget)  # the windows are kept for dW: a GPU has the room, and waits for memory
    return y, lambda g: (lambda: backward_image(xp, g, w, x.shape, at, budget),
                         lambda: backward_kernel(xp, x, g, at, budget, rows))


def max_pool2d(xp: ModuleType, x: Array, /, window: Pair, stride: Pair | None = None,
               padding: Padding = "valid") -> Result:
    """conv.max_pool2d in one pass each way; the way back gathers, so nothing is added in an order that may change."""
    at = of_pool("max_pool2d", x.shape, window, stride, padding)
    x = xp.ascontiguousarray(x)
    numbers = _numbers(x.shape, at)
    y = xp.empty((x.shape[0], *at.output, x.shape[3]), x.dtype)
    kernel(xp, "largest")(x, *numbers, y)

    def pullback(g: Array) -> tuple[Array]:
        dx = xp.empty_like(x)
        kernel(xp, "largest_transpose")(x, *numbers, y, xp.ascontiguousarray(g), dx)
        return (dx,)

    return y, pullback
