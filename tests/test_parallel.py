"""Two threads, blocks, large products and memory that is used again: the same numbers as without."""

import os
import threading
import time

import numpy as np
import pytest

from minimask import Tensor, ops, optim, parallel, plain
from minimask.backend import blas_threads, single_threaded_blas


@pytest.mark.parametrize("shape", [(4, 600, 500), (5, 600, 500), (70_000, 30), (3, 1_200_000)])
def test_large_arrays_in_blocks_give_the_same_bits(shape):
    """ELU, the mask's step, products and pools on arrays above LARGE, against their plain versions."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    assert x.nbytes >= parallel.LARGE

    def everything():
        a, b = Tensor(x, requires_grad=True), Tensor(y, requires_grad=True)
        z = ops.multiply(ops.keep_hide_invert(ops.elu(a), 0.1), b)
        z.backward(y)
        return [array.tobytes() for array in (z.data, a.grad, b.grad)]

    fast = everything()
    with plain():
        assert everything() == fast


def test_large_pools_in_blocks_give_the_same_bits():
    x = np.random.default_rng(0).integers(0, 9, (16, 64, 64, 32)).astype(np.float32)  # many ties

    def everything():
        leaf = Tensor(x, requires_grad=True)
        y = ops.max_pool2d(leaf, 3, 2, "same")
        y.backward(y.data)
        return y.data.tobytes(), leaf.grad.tobytes()

    fast = everything()
    with plain():
        assert everything() == fast


def test_a_product_in_parts_is_the_product(rng):
    """Cut by rows or by columns, transposed operands too; one thread gives the bits of two."""
    for shapes in (((300, 400), (400, 200)), ((90, 800), (800, 700))):
        x, y = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        assert x.shape[0] * x.shape[1] * y.shape[1] >= parallel.LARGE_PRODUCT
        for a, b in ((x, y), (np.asfortranarray(x), np.asfortranarray(y))):
            with blas_threads(2):
                two = parallel.product(np, a, b)
            with blas_threads(1):
                one = parallel.product(np, a, b)
            np.testing.assert_allclose(two, a.astype(np.float64) @ b, rtol=0, atol=1e-4)  # sums of 800 products of size 1
            assert one.tobytes() == two.tobytes()


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
        parallel.product(np, np.ones((300, 400)), np.ones((400, 200)))
        parallel.product(np, np.ones((3, 4)), np.ones((4, 2)))
        with plain():
            parallel.product(np, np.ones((3, 4)), np.ones((4, 2)))
        with blas_threads(None) as after:
            assert after == 2
    assert seen == [1, 1, 1, 2]


def test_an_optimizer_in_blocks_gives_the_bits_of_the_plain_one(rng):
    start, gradients = rng.standard_normal((700, 600)).astype(np.float32), rng.standard_normal((3, 700, 600)).astype(np.float32)
    assert start.nbytes >= parallel.LARGE

    def train():
        p = Tensor(start.copy(), requires_grad=True)
        sgdw = optim.SGDW([p], lr=0.1, wd=0.01)
        for g in gradients:
            p.grad = g
            sgdw.step()
        return p.data.tobytes(), sgdw.velocity[0].tobytes()

    fast = train()
    with plain():
        assert train() == fast


def test_parts_come_back_in_order():
    with blas_threads(2):
        assert parallel.in_parts(lambda start, stop: (start, stop), 7) == [(0, 3), (3, 7)]
        assert parallel.in_parts(lambda start, stop: (start, stop), 1) == [(0, 1)]
        assert parallel.in_parts(lambda start, stop: (start, stop), 0) == []
        inner = parallel.in_parts(lambda *_: parallel.in_parts(lambda start, stop: stop, 4), 2)  # parts within parts
        assert inner == [[2, 4], [2, 4]]


@pytest.mark.parametrize("wrong", [0, 2])
def test_an_error_in_a_part_comes_out_when_the_other_part_is_done(wrong):
    """Of either thread; and it does not harm the next call."""
    done = []

    def work(start, stop):
        if start == wrong:
            raise ZeroDivisionError
        time.sleep(0.05)
        done.append(start)

    with blas_threads(2):
        with pytest.raises(ZeroDivisionError):
            parallel.in_parts(work, 4)
        assert done == [2 - wrong]
        with blas_threads(None) as threads:
            assert threads in (2, None)
        assert parallel.in_parts(lambda start, stop: stop, 4) == [2, 4]


def test_both_parts_run_at_once():
    with blas_threads(2), single_threaded_blas() as alone:
        if not alone or len(os.sched_getaffinity(0)) < 2:
            pytest.skip("one core, or a BLAS that cannot be told to leave threads to us")
    meeting = threading.Barrier(2, timeout=30)
    with blas_threads(2):
        parallel.in_parts(lambda start, stop: meeting.wait(), 2)  # a deadlock until the time-out otherwise


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    with blas_threads(2):
        parallel.in_parts(lambda start, stop: stop, 4)
        child = os.fork()
        if child == 0:
            os._exit(7 if parallel.in_parts(lambda start, stop: stop, 4) == [2, 4] else 1)
        for _ in range(300):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.1)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child waits for threads that it has not got")
    assert os.waitstatus_to_exitcode(status) == 7


def test_memory_settings_are_put_back(monkeypatch):
    calls = []

    class Library:
        @staticmethod
        def mallopt(setting, value):
            calls.append((setting, value))

        @staticmethod
        def malloc_trim(pad):
            calls.append(("trim", pad))

    monkeypatch.setattr(parallel, "_glibc", lambda: Library)
    with pytest.raises(KeyError), parallel.reused_memory(), parallel.reused_memory():
        assert len(calls) == 2
        raise KeyError
    assert calls[2:] == [(-3, 1 << 25), (-1, 1 << 26), ("trim", 0)]
    monkeypatch.setattr(parallel, "_glibc", lambda: None)
    with parallel.reused_memory():
        pass
    assert len(calls) == 5
