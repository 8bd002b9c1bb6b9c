r"""Winograd's convolution: what conv2d does on float32 NumPy arrays with 3x3 kernels, stride 1 and many channels.

A 3x3 window slid over a 6x6 tile gives 4x4 results, 144 products a channel pair when written out. Toom and Cook
multiply polynomials in fewer: evaluate both at points, multiply there, interpolate. Taken twice, down and across
(Winograd; Lavin and Gray 2016, arXiv:1509.09308), 36 products do, a quarter::

    Y = A^T [ (G w G^T) * (B^T d B) ] A          d 6x6 tile, w 3x3 kernel, Y 4x4 results, * entry by entry

With many channels each of the 36 entries is a matrix product, (tiles, c_in) @ (c_in, c_out), which is where the time
goes. The transforms are matrix products too: B^T d B, with the tile written as 36 numbers, is (B^T kron B^T) d, here a
row of tiles at a time. So a block is three products and two copies. Both gradients are the same products transposed:

    dx = conv2d(g, w turned by 180 degrees),     dw = G^T [ sum over tiles of (B^T d B) (A g A^T) ] G

The price is rounding. At the usual points 0, 1, -1, 2, -2 float32 loses a digit; as the transforms are products anyway,
the points may be any numbers, and at 0, +-1/sqrt(2), +-sqrt(2) (Alam et al. 2022, arXiv:2201.10369) the error is 3
times that of the direct product (measured: 8e-7 beside 3e-7, root mean square, inputs and results of size 1).

That holds where the values of a tile are of one size. A result is made of its whole tile, so that it also has a share
in the rounding of values that its own window does not see: its error is below 6e-7 times the 2-norm of the tile times
that of its kernel (measured: up to 3.5e-7). One value of 1e4 among values of size 1 would err by 1e-3 up to three
places away, and one infinity would leave NaN there. So an image goes the direct way (fast/conv.py) where its largest
value is more than 1000 times the size of its values, or not finite: see :func:`wide`. What is left is, at worst, an
error of 6e-4 in results of size 1 beside a value of 1000.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..backend import Array
from ..windows import Geometry
from .blocks import product
from .threads import in_parts, sum_of_parts

OUT, KERNEL = 4, 3  # results and kernel, along one axis
TILE = OUT + KERNEL - 1
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))  # and infinity
#: Channels, in and out, from which on this is faster than the direct product (benchmarks/ops.py).
CHANNELS = 32
#: An image whose largest value is more than so many times the size of its values goes the direct way, see wide().
RANGE = 1000.0
#: The size of an image's values is taken of every 17th: prime, so that all places and channels have their turn.
EVERY, SAMPLED = 17, 1 << 14
#: Bytes of tiles in a block: if small they stay in the cache, if large the threads meet less often at the interpreter's
#: lock, where one sleeps. And the least tiles in one, for BLAS.
BUDGET, LEAST_TILES = 2 << 20, 64


def pays(x: Array, kernel: tuple[int, ...], at: Geometry) -> bool:
    """Whether this version takes a convolution of x (n, h, w, c_in) with a kernel of shape (kh, kw, c_in, c_out)."""
    small = max(max(sides) for sides in at.padding) < KERNEL  # so that dx is such a convolution too
    return (isinstance(x, np.ndarray) and x.dtype == np.float32 and at.kernel == (KERNEL, KERNEL) and small
            and at.stride == (1, 1) and min(kernel[2:]) >= CHANNELS and min(at.output) >= OUT and len(x) > 0)


def wide(x: np.ndarray) -> np.ndarray:
    """Which images (n, h, w, c) are not for this version, since their range is too wide or they are not finite: (n,).

    Those whose largest value is more than RANGE times the size of their values, which is the squared mean of
    sqrt(|x|) over those that are not 0: zeros are many in a gradient behind a pool, and one large value must not hide
    itself in a mean. From EVERY-th value alone where an image has more than SAMPLED.
    """
    found = np.empty(len(x), bool)
    every = EVERY if x[:1].size > SAMPLED else 1
    step = max(1, BUDGET // max(1, x[:1].nbytes))  # images at a time, so that they are read from memory once

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, step):
            rows = x[low:min(low + step, stop)].reshape(min(step, stop - low), -1)
            largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
            roots = np.sqrt(np.abs(rows[:, ::every]))
            mean = roots.sum(axis=1) / np.maximum(np.count_nonzero(roots, axis=1), 1)
            found[low:low + len(rows)] = ~(np.isfinite(largest) & (np.sqrt(largest) <= RANGE**0.5 * mean))

    in_parts(work, len(x))
    return found


@functools.cache
def matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (16, 36), B^T (36, 36), G (36, 9), each the Kronecker square of the one for a single axis."""
    p = np.array(POINTS)
    at = np.zeros((OUT, TILE))  # evaluates a polynomial of the results at the points; at infinity: its last coefficient
    at[:, :-1], at[-1, -1] = p ** np.arange(OUT)[:, None], 1.0
    g = np.zeros((TILE, KERNEL))  # the same for the kernel, over the denominators of Lagrange's interpolation
    others = [np.delete(p, i) for i in range(len(p))]
    g[:-1] = p[:, None] ** np.arange(KERNEL) / np.array([np.prod(p[i] - others[i]) for i in range(len(p))])[:, None]
    g[-1, -1] = 1.0
    bt = np.zeros((TILE, TILE))  # and its numerators, the polynomials that vanish at the other points
    for i, rest in enumerate(others):
        bt[i, :-1] = np.poly(rest)[::-1]
    bt[-1] = np.poly(p)[::-1]
    squares = [np.kron(m, m).astype(np.float32) for m in (at, bt, g)]
    return squares[0], squares[1], squares[2]


class Tiles:
    """The overlapping square tiles of a few images at a time, place by place, in a buffer that is used again and again.

    Args:
        x: (n, h, w, c). before: rows above and columns left of x, as zeros. size: of a tile; tiles lie OUT apart.
        count: tiles down and across; zeros where they reach beyond x. images, rows: of tiles, in a block.
    """

    def __init__(self, x: np.ndarray, before: tuple[int, int], size: int, count: tuple[int, int], images: int,
                 rows: int):
        self.x, self.size, self.across = x, size, count[1]
        c, (height, width) = x.shape[3], (OUT * (n - 1) + size for n in count)
        (self.top, self.left), self.height, self.width = before, height, width
        self.padded = np.zeros((images, height, width, c), x.dtype)
        self.buffer = np.empty((images * rows, size * size, self.across * c), x.dtype)
        self.loaded = -1

    def take(self, images: slice, rows: slice) -> np.ndarray:
        """The tiles of these images and rows of tiles: (rows, size*size, across*c), a row's tiles side by side."""
        n, count, c = images.stop - images.start, rows.stop - rows.start, self.x.shape[3]
        if self.loaded != images.start:
            inside = self.x[images, :self.height - self.top, :self.width - self.left]
            self.padded[:n, self.top:self.top + inside.shape[1], self.left:self.left + inside.shape[2]] = inside
            self.loaded = images.start
        s0, s1, s2, s3 = self.padded.strides
        shape = (n, count, self.size, self.size, self.across, c)
        view = as_strided(self.padded[:, OUT * rows.start:], shape, (s0, OUT * s1, s1, s2, OUT * s2, s3))
        tiles = self.buffer[:n * count]
        np.copyto(tiles.reshape(shape), view)
        return tiles


def tiling(output: tuple[int, int], channels: int, images: int, budget: int) -> tuple[tuple[int, int], int, int]:
    """Tiles down and across an image, and how many images, and rows of tiles, go into a block."""
    down, across = (-(-n // OUT) for n in output)
    tiles = max(LEAST_TILES, budget // (TILE * TILE * channels * 4))  # in a block
    together = min(images, max(1, tiles // (down * across)))
    return (down, across), together, down if together > 1 else min(down, max(1, tiles // across))


def blocks(start: int, stop: int, down: int, images: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """(images, rows of tiles) of every block of images start to stop."""
    for first in range(start, stop, images):
        for row in range(0, down, rows):
            yield slice(first, min(first + images, stop)), slice(row, min(row + rows, down))


def forward(x: np.ndarray, w: np.ndarray, at: Geometry, budget: int = BUDGET) -> np.ndarray:
    """conv2d: (n, h, w, c_in), (3, 3, c_in, c_out) -> (n, oh, ow, c_out)."""
    a, b, g = matrices()
    (oh, ow), (c_in, c_out), n = at.output, w.shape[2:], len(x)
    kernel = product(g, w.reshape(KERNEL * KERNEL, -1)).reshape(TILE * TILE, c_in, c_out)
    (down, across), images, rows = tiling(at.output, max(c_in, c_out), n, budget)
    whole = (n, OUT * down, OUT * across, c_out)
    y = np.empty(whole, x.dtype)
    grid = y.reshape(n, down, OUT, across, OUT, c_out)

    def work(start: int, stop: int) -> None:
        source = Tiles(x, (at.padding[0][0], at.padding[1][0]), TILE, (down, across), images, rows)
        many, ends = images * rows, (across * c_in, across * c_out)  # rows of tiles; what stands in a row
        inputs, products = (np.empty((TILE * TILE, many, end), x.dtype) for end in ends)
        results = np.empty((many, OUT * OUT, ends[1]), x.dtype)
        for chosen, row in blocks(start, stop, down, images, rows):
            tiles = source.take(chosen, row)  # (rows, 36, across*c_in)
            d, m, part = inputs[:, :len(tiles)], products[:, :len(tiles)], results[:len(tiles)]
            np.matmul(b, tiles, out=d.transpose(1, 0, 2))
            np.matmul(d.reshape(TILE * TILE, -1, c_in), kernel, out=m.reshape(TILE * TILE, -1, c_out))
            np.matmul(a, m.transpose(1, 0, 2), out=part)  # (rows, 16, across*c_out)
            shape = (chosen.stop - chosen.start, row.stop - row.start, OUT, OUT, across, c_out)
            grid[chosen, row] = part.reshape(shape).transpose(0, 1, 2, 4, 3, 5)

    in_parts(work, n)
    return y if whole[1:3] == (oh, ow) else np.ascontiguousarray(y[:, :oh, :ow])


def backward_kernel(x: np.ndarray, g: np.ndarray, at: Geometry, budget: int = BUDGET) -> np.ndarray:
    """dw of conv2d: the products of both kinds of tiles, summed over blocks, the parts in order."""
    a, b, k = matrices()
    c_in, c_out, n = x.shape[3], g.shape[3], len(x)
    (down, across), images, rows = tiling(at.output, max(c_in, c_out), n, budget)

    def work(start: int, stop: int) -> np.ndarray:
        source = Tiles(x, (at.padding[0][0], at.padding[1][0]), TILE, (down, across), images, rows)
        slopes = Tiles(g, (0, 0), OUT, (down, across), images, rows)
        inputs, cotangents = (np.empty((TILE * TILE, images * rows, across * c), x.dtype) for c in (c_in, c_out))
        total = np.zeros((TILE * TILE, c_in, c_out), x.dtype)
        part = np.empty_like(total)
        for chosen, row in blocks(start, stop, down, images, rows):
            tiles = source.take(chosen, row)  # (rows, 36, across*c_in)
            d, z = inputs[:, :len(tiles)], cotangents[:, :len(tiles)]
            np.matmul(b, tiles, out=d.transpose(1, 0, 2))
            np.matmul(a.T, slopes.take(chosen, row), out=z.transpose(1, 0, 2))
            d, z = d.reshape(TILE * TILE, -1, c_in), z.reshape(TILE * TILE, -1, c_out)  # (36, tiles, c)
            total += np.matmul(d.transpose(0, 2, 1), z, out=part)
        return total

    return product(k.T, sum_of_parts(work, n).reshape(TILE * TILE, -1)).reshape(KERNEL, KERNEL, c_in, c_out)
