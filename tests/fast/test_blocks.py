"""Blocks, and large products in parts: the same numbers as without."""

import numpy as np
import pytest

from minimask import Tensor, ops, optim, plain
from minimask.fast import blocks
from minimask.fast.threads import blas_threads


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(4, 600, 500), (5, 600, 500), (70_000, 30), (3, 1_200_000)])
def test_large_arrays_in_blocks_give_the_same_bits(shape, order):
    """The mask's step and products on arrays above LARGE, against their plain versions; for ELU see test_twins.py."""
    rng = np.random.default_rng(0)
    x, y = (np.asarray(rng.standard_normal(shape), np.float32, order=order) for _ in range(2))
    assert x.nbytes >= blocks.LARGE

    def everything():
        a, b = Tensor(x, requires_grad=True), Tensor(y, requires_grad=True)
        z = ops.multiply(ops.keep_hide_invert(a, 0.1), ops.keep_hide(b, 0.1))
        z.backward(y)
        return [array.tobytes() for array in (z.data, a.grad, b.grad)]

    fast = everything()
    with plain():
        assert everything() == fast


@pytest.mark.parametrize(("size", "window"), [
    ((64, 64), (3, 2, "same")), ((64, 64), (2, 2, "valid")), ((65, 63), (2, 2, "valid")), ((64, 64), (2, 3, "valid"))],
    ids=["overlapping", "every place in one window", "rows and columns in none", "gaps between windows"])
def test_large_pools_in_blocks_give_the_same_bits(size, window):
    x = np.random.default_rng(0).integers(0, 9, (16, *size, 32)).astype(np.float32)  # many ties

    def everything():
        leaf = Tensor(x, requires_grad=True)
        y = ops.max_pool2d(leaf, *window)
        np.full(x.shape, np.float32(7))  # memory that is not zero, for what comes next
        y.backward(y.data)
        return y.data.tobytes(), leaf.grad.tobytes()

    fast = everything()
    with plain():
        assert everything() == fast


def test_blocks_are_of_a_caches_size_and_cover_an_array_once():
    x = np.ones((3, 500_000), np.float32)
    x[-1, -1] = 2.0
    lengths, double = [], np.empty_like(x)

    def step(x, y):
        lengths.append(len(x))
        y[...] = 2 * x

    blocks.in_place(step, x, double)
    assert sum(lengths) == x.size and max(lengths) * 4 <= blocks.BLOCK and len(lengths) < 10
    np.testing.assert_array_equal(double, 2 * x)
    lengths.clear()
    blocks.in_place(step, x[:, ::2], double[:, ::2])  # entries that do not lie one after the other
    assert lengths == [3]


def test_numpys_error_settings_hold_in_every_part():
    for place in (0, -1):
        x = np.ones((700, 600), np.float32)
        x[place] = 1e38
        assert x.nbytes >= blocks.LARGE
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            ops.multiply(x, x)


def test_a_large_product_of_stacks_of_matrices_is_the_product(rng):
    x, y = rng.standard_normal((3, 300, 400)), rng.standard_normal((400, 200))
    np.testing.assert_array_equal(blocks.product(x, y), np.matmul(x, y))


def test_a_product_in_parts_is_the_product(rng):
    """Cut by rows or by columns, transposed operands too; one thread gives the bits of two."""
    for shapes in (((300, 400), (400, 200)), ((90, 800), (800, 700))):
        x, y = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        assert x.shape[0] * x.shape[1] * y.shape[1] >= blocks.LARGE_PRODUCT
        for a, b in ((x, y), (np.asfortranarray(x), np.asfortranarray(y))):
            with blas_threads(2):
                two = blocks.product(a, b)
            with blas_threads(1):
                one = blocks.product(a, b)
            np.testing.assert_allclose(two, a.astype(np.float64) @ b, rtol=0, atol=1e-4)  # sums of 800 products of size 1
            assert one.tobytes() == two.tobytes()


def test_no_product_is_written_into_a_transposed_array(rng, monkeypatch):
    """numpy.matmul of NumPy 2.3.0 gets those wrong (numpy/numpy#29164, mended in 2.3.1): the version may stay."""
    matmul, strides = np.matmul, []

    def watching(*arrays, out=None, **others):
        assert not others, "order='F' makes a transposed array"
        if out is not None:
            strides.append(out.strides[-2:])
        return matmul(*arrays, out=out)

    monkeypatch.setattr(np, "matmul", watching)
    for a, b in (((300, 400), (400, 200)), ((90, 800), (800, 700))):
        blocks.product(np.ones(a[::-1], np.float32).T, np.ones(b[::-1], np.float32).T)
    for size, stride in ((3, 1), (5, 1), (3, 2)):  # Winograd's convolution and that in blocks, forward and back
        x, w = (Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
                for shape in ((2, 12, 12, 32), (size, size, 32, 32)))
        ops.sum(ops.conv2d(x, w, stride=stride)).backward()
    assert len(strides) > 10 and all(row >= column > 0 for row, column in strides), strides


def test_products_leave_blas_on_one_thread_so_that_its_own_do_not_spin(monkeypatch):
    seen = []
    matmul = np.matmul

    def watching(*arrays, **out):
        with blas_threads(None) as threads:
            seen.append(threads)
        return matmul(*arrays, **out)

    monkeypatch.setattr(np, "matmul", watching)
    with blas_threads(2) as before:
        if before != 2:
            pytest.skip("BLAS cannot be given two threads here")
        blocks.product(np.ones((300, 400)), np.ones((400, 200)))
        blocks.product(np.ones((3, 4)), np.ones((4, 2)))
        with plain():
            ops.matmul(np.ones((3, 4)), np.ones((4, 2)))
        with blas_threads(None) as after:
            assert after == 2
    assert seen == [1, 1, 1, 2]


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_optimizer_in_blocks_gives_the_bits_of_the_plain_one(rng, order):
    start, gradients = rng.standard_normal((700, 600)).astype(np.float32), rng.standard_normal((3, 700, 600)).astype(np.float32)
    assert start.nbytes >= blocks.LARGE

    def train():
        p = Tensor(np.array(start, order=order), requires_grad=True)
        sgdw = optim.SGDW([p], lr=0.1, wd=0.01)
        for g in gradients:
            p.grad = g
            sgdw.step()
        return p.data.tobytes(), sgdw.velocity[0].tobytes()

    fast = train()
    with plain():
        assert train() == fast
