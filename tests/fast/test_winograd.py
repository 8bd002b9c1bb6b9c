"""Winograd's convolution against the direct one: values, gradients, edges; what it takes and what it leaves alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import Tensor, ops, plain, windows
from minimask.fast import conv as fastconv
from minimask.fast import winograd
from minimask.fast.threads import blas_threads

#: Root mean square error of float32 results of size 1; measured 8e-7. A wrong digit in a matrix gives 1e-2 and more.
ERROR = 3e-6


@st.composite
def convolutions(draw):
    """x, w, padding for the 3x3 kernels that Winograd takes: odd sizes, paddings up to 2, any number of channels."""
    n, h, w, c_in, c_out = (draw(st.integers(low, high)) for low, high in ((1, 5), (4, 15), (4, 15), (1, 9), (1, 9)))
    side = st.integers(0, 2)
    padding = draw(st.one_of(st.just("same"), st.tuples(st.tuples(side, side), st.tuples(side, side))))
    at = windows.geometry("conv2d", (n, h, w, c_in), 3, 1, "same" if min(h, w) < 6 else padding)
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    return rng.standard_normal((n, h, w, c_in)), rng.standard_normal((3, 3, c_in, c_out)), at


@given(case=convolutions(), budget=st.sampled_from([1, 40_000, winograd.BUDGET]), least=st.sampled_from([1, 5, 64]))
def test_values_and_both_gradients_equal_the_direct_ones(case, budget, least):
    x, w, at = case
    y = fastconv.forward(x, w, at)  # float64: direct
    g = np.random.default_rng(1).standard_normal(y.shape)
    x32, w32, g32 = (a.astype(np.float32) for a in (x, w, g))
    before, winograd.LEAST_TILES = winograd.LEAST_TILES, least
    try:
        results = [(winograd.forward(x32, w32, at, budget), y, 9 * x.shape[3]),
                   (winograd.forward(g32, np.ascontiguousarray(w32[::-1, ::-1].transpose(0, 1, 3, 2)),
                                     fastconv.geometry_of_image(x.shape, at), budget),
                    fastconv.backward_image(g, w, x.shape, at), 9 * w.shape[3]),
                   (winograd.backward_kernel(x32, g32, at, budget), fastconv.backward_kernel(x, g, at), g.size / w.shape[3])]
    finally:
        winograd.LEAST_TILES = before
    for fast, slow, terms in results:
        assert fast.dtype == np.float32 and fast.flags.c_contiguous
        error = np.sqrt(np.mean((fast - slow) ** 2)) / np.sqrt(terms)  # a sum of that many products of size 1
        assert error < ERROR, error


def test_its_matrices_multiply_polynomials():
    """For one axis: A^T [(G w) * (B^T d)] slides w over d, for every single entry of both."""
    a, b, g = (m.astype(np.float64) for m in winograd.matrices())
    for i in range(36):
        for k in range(9):
            d, w = np.zeros((6, 6)), np.zeros((3, 3))
            d.flat[i] = w.flat[k] = 1.0
            y = (a @ ((g @ w.ravel()) * (b @ d.ravel()))).reshape(4, 4)
            expected = [[np.sum(d[r:r + 3, c:c + 3] * w) for c in range(4)] for r in range(4)]
            np.testing.assert_allclose(y, expected, atol=2e-6)  # the matrices are rounded to float32


def test_its_points_lose_half_a_digit_and_not_more(rng):
    """64 channels, results of size 1: at the usual points 0, 1, -1, 2, -2 the error is 1.8e-6, here 8e-7."""
    x, w = rng.standard_normal((2, 16, 16, 64)), rng.standard_normal((3, 3, 64, 64)) / 24
    at = windows.geometry("conv2d", x.shape, 3, 1, "valid")
    error = winograd.forward(x.astype(np.float32), w.astype(np.float32), at) - fastconv.forward(x, w, at)
    assert np.sqrt(np.mean(error**2)) < 1.1e-6


def net_sized(rng):
    x, w = rng.standard_normal((6, 12, 12, 32)), rng.standard_normal((3, 3, 32, 48)) / 17
    return x.astype(np.float32), w.astype(np.float32)


def test_conv2d_takes_it_for_float32_3x3_stride_1_and_many_channels(rng, monkeypatch):
    taken = []
    for name in ("forward", "backward_kernel"):
        original = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *a, name=name, original=original: taken.append(name) or original(*a))

    def call(x, w, **settings):
        taken.clear()
        leaves = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
        ops.conv2d(*leaves, **settings).sum().backward()
        return list(taken)

    x, w = net_sized(rng)
    assert call(x, w) == ["forward", "forward", "backward_kernel"]  # y, dx, dw
    for others in ((x.astype(np.float64), w.astype(np.float64)), (x[..., :8], w[:, :, :8]), (x, w[..., :8]),
                   (x, w[:2]), (x[:, :3], w)):
        assert call(*others) == []
    assert call(x, w, stride=2) == call(x, w, padding=3) == []
    with plain():
        assert call(x, w) == []


def test_conv2d_in_float32_equals_the_plain_one(rng):
    x, w = net_sized(rng)
    g = rng.standard_normal((6, 12, 12, 48)).astype(np.float32)

    def everything():
        leaves = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
        y = ops.conv2d(*leaves)
        y.backward(g)
        return y.data, leaves[0].grad, leaves[1].grad

    fast = everything()
    with plain():
        for a, b in zip(fast, everything()):
            assert np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)) < ERROR


def test_it_repeats_bit_for_bit_with_one_thread_as_with_two(rng):
    x, w = net_sized(rng)
    at = windows.geometry("conv2d", x.shape, 3, 1, "same")
    g = rng.standard_normal((6, 12, 12, 48)).astype(np.float32)

    def everything():
        return [a.tobytes() for a in (winograd.forward(x, w, at, 50_000), winograd.backward_kernel(x, g, at, 50_000))]

    with blas_threads(2):
        two = [everything() for _ in range(3)]
    with blas_threads(1):
        one = everything()
    assert all(each == one for each in two)


def test_it_leaves_what_it_is_given_alone(rng):
    x, w = net_sized(rng)
    at = windows.geometry("conv2d", x.shape, 3, 1, "same")
    before = x.tobytes(), w.tobytes()
    x.flags.writeable = w.flags.writeable = False
    y = winograd.forward(x, w, at)
    winograd.backward_kernel(x, y, at)
    assert (x.tobytes(), w.tobytes()) == before


@pytest.mark.parametrize("damage", ["point", "before", "order"])
def test_planted_faults_are_caught(damage, rng, monkeypatch):
    """A wrong point, tiles a pixel off, kernels not turned: each is far above ERROR."""
    x, w = net_sized(rng)
    at = windows.geometry("conv2d", x.shape, 3, 1, "same")
    right = winograd.forward(x, w, at)
    a, b, g = winograd.matrices()
    if damage == "point":
        b = b.copy()
        b[7, 9] *= 1.01
    if damage == "order":
        g = g[::-1]
    monkeypatch.setattr(winograd, "matrices", lambda: (a, b, g))
    if damage == "before":
        at = windows.Geometry(at.kernel, at.stride, ((0, 2), (1, 1)), at.output)
    assert np.sqrt(np.mean((winograd.forward(x, w, at) - right) ** 2)) > 10 * ERROR


# ---- images with a large range -----------------------------------------------------------------------------------------


def unseen(places, shape, reach=1):
    """Which results of a 3x3 convolution with "same" see none of these places (row, column)."""
    free = np.ones(shape, bool)
    for row, column in places:
        free[max(0, row - reach):row + reach + 1, max(0, column - reach):column + reach + 1] = False
    return free


@pytest.mark.parametrize("largest", [1.0, 100.0, 1e4, 1e6])
def test_the_error_is_bounded_by_the_tile_and_the_kernel(largest, rng):
    """|error| < 6e-7 |tile|_2 |kernel|_2, as the docstring says, for one large value and for a large pixel."""
    for channels in (slice(3, 4), slice(None)):
        for _ in range(10):
            x, w = rng.standard_normal((1, 12, 12, 32)), rng.standard_normal((3, 3, 32, 32))
            row, column = rng.integers(0, 12, 2)
            x[0, row, column, channels] *= largest
            at = windows.geometry("conv2d", x.shape, 3, 1, "same")
            x32, w32 = x.astype(np.float32), w.astype(np.float32)
            error = winograd.forward(x32, w32, at) - fastconv.direct(x32.astype(float), w32.astype(float), at)
            tiles = winograd.Tiles(x32.astype(float), (1, 1), winograd.TILE, (3, 3), 1, 3).take(slice(0, 1), slice(0, 3))
            norms = np.sqrt((tiles.reshape(3, 36, 3, 32)**2).sum(axis=(1, 3))).repeat(4, 0).repeat(4, 1)  # (12, 12)
            kernels = np.sqrt((w32.astype(float)**2).sum(axis=(0, 1, 2)))
            assert (np.abs(error[0]) / norms[..., None] / kernels).max() < 6e-7


@pytest.mark.parametrize("large", [1e4, -1e6, 1e30])
def test_one_large_pixel_does_not_harm_what_does_not_see_it(large, rng):
    """y, dx and dw by ops.conv2d, in an image of the batch; Winograd alone errs by 1e-3 and more there."""
    x, w = net_sized(rng)
    g = rng.standard_normal((6, 12, 12, 48)).astype(np.float32)
    ordinary = x.copy()
    x[2, 5, 5, 7], g[4, 8, 3] = large, large
    leaves = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    y = ops.conv2d(*leaves)
    y.backward(g)
    at = windows.geometry("conv2d", x.shape, 3, 1, "same")
    for found, raw, place in ((y.data[2], winograd.forward(x, w, at)[2], (5, 5)), (leaves[0].grad[4], None, (8, 3))):
        with plain():
            again = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
            z = ops.conv2d(*again)
            z.backward(g)
        right = z.data[2] if raw is not None else again[0].grad[4]
        free = unseen([place], (12, 12))
        assert np.abs(found - right)[free].max() < 1e-5
        assert raw is None or np.abs(raw - right)[free].max() > 5e-4
    others = [0, 1, 3, 4, 5]
    assert np.array_equal(y.data[others], ops.conv2d(Tensor(ordinary), Tensor(w)).data[others])
    dw, right = leaves[1].grad / abs(large), again[1].grad / abs(large)  # squares of 1e30 are no float32
    assert np.sqrt(np.mean((dw - right) ** 2) / np.mean(right**2)) < ERROR


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_spoils_what_sees_it_alone(bad, rng):
    x, w = net_sized(rng)
    x[2, 5, 5, 7] = bad
    with np.errstate(invalid="ignore"):
        y = ops.conv2d(Tensor(x), Tensor(w)).data
    assert np.array_equal(np.isfinite(y[2]).all(axis=2), unseen([(5, 5)], (12, 12)))
    assert np.isfinite(y[[0, 1, 3, 4, 5]]).all()


@pytest.mark.parametrize("channels", [32, 256])
def test_wide_knows_a_large_value_among_others_and_leaves_ordinary_images_alone(channels, rng):
    x = rng.standard_normal((9, 8, 8, channels)).astype(np.float32)
    x[1, 3, 3, 0], x[2, 3, 3] = 1e4, -1e4  # one value, one pixel
    x[3] *= 1e-20
    x[4] *= rng.random((8, 8, channels)) < 0.02  # nearly all zeros, as gradients are behind pools
    x[5], x[6, 0, 0, 0], x[7, 1, 2, 3] = 0, np.nan, -np.inf
    x[8].reshape(-1)[winograd.EVERY * 4] = 1e12  # one of those that are looked at
    assert winograd.wide(x).tolist() == [False, True, True, False, False, False, True, True, True]
    assert winograd.wide(x[:1]).tolist() == [False]
