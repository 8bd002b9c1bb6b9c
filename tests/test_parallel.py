"""Two threads, blocks, large products and memory that is used again: the same numbers as without."""

import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from minimask import Tensor, data, models, ops, optim, parallel, plain, train
from minimask.backend import blas_threads, single_threaded_blas
from minimask.mask import SignedSupermask


@pytest.fixture
def two_threads():
    """BLAS is allowed two threads, and in_parts takes two; else the test skips."""
    with blas_threads(2):
        with single_threaded_blas() as alone:
            if not alone or parallel.cores() < 2:
                pytest.skip("one core, or a BLAS that cannot be told to leave threads to us")
        yield


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(4, 600, 500), (5, 600, 500), (70_000, 30), (3, 1_200_000)])
def test_large_arrays_in_blocks_give_the_same_bits(shape, order):
    """ELU, the mask's step, products and pools on arrays above LARGE, against their plain versions."""
    rng = np.random.default_rng(0)
    x, y = (np.asarray(rng.standard_normal(shape), np.float32, order=order) for _ in range(2))
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


def test_blocks_are_of_a_caches_size_and_cover_an_array_once():
    x = np.ones((3, 500_000), np.float32)
    x[-1, -1] = 2.0
    lengths, double = [], np.empty_like(x)

    def step(x, y):
        lengths.append(len(x))
        y[...] = 2 * x

    parallel.in_place(np, step, x, double)
    assert sum(lengths) == x.size and max(lengths) * 4 <= parallel.BLOCK and len(lengths) < 10
    np.testing.assert_array_equal(double, 2 * x)
    with plain():
        lengths.clear()
        parallel.in_place(np, step, x, double)
    assert lengths == [3]


def test_numpys_error_settings_hold_in_every_part():
    for place in (0, -1):
        x = np.ones((700, 600), np.float32)
        x[place] = 1e38
        assert x.nbytes >= parallel.LARGE
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            ops.multiply(x, x)


def test_a_large_product_of_stacks_of_matrices_is_the_product(rng):
    x, y = rng.standard_normal((3, 300, 400)), rng.standard_normal((400, 200))
    np.testing.assert_array_equal(parallel.product(np, x, y), np.matmul(x, y))


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
        parallel.product(np, np.ones(a[::-1], np.float32).T, np.ones(b[::-1], np.float32).T)
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
        parallel.product(np, np.ones((300, 400)), np.ones((400, 200)))
        parallel.product(np, np.ones((3, 4)), np.ones((4, 2)))
        with plain():
            parallel.product(np, np.ones((3, 4)), np.ones((4, 2)))
        with blas_threads(None) as after:
            assert after == 2
    assert seen == [1, 1, 1, 2]


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_optimizer_in_blocks_gives_the_bits_of_the_plain_one(rng, order):
    start, gradients = rng.standard_normal((700, 600)).astype(np.float32), rng.standard_normal((3, 700, 600)).astype(np.float32)
    assert start.nbytes >= parallel.LARGE

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


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
def test_ctrl_c_comes_out_when_the_other_part_is_done(two_threads):
    """Pressed while this thread waits for the other one: whose work is whole, and nothing hangs, then or later."""
    done, main = [], threading.main_thread().ident

    def work(start, stop):
        if start:
            for _ in range(3):
                time.sleep(0.05)
                signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.05)
            done.append(start)

    for _ in range(3):
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            parallel.in_parts(work, 4)
        assert done == [2]
    assert parallel.in_parts(lambda start, stop: stop, 4) == [2, 4]


def test_both_parts_run_at_once(two_threads):
    meeting = threading.Barrier(2, timeout=30)
    parallel.in_parts(lambda start, stop: meeting.wait(), 2)  # a deadlock until the time-out otherwise


def test_the_threads_keep_nothing_of_what_they_worked_on(two_threads):
    array = np.ones(4)
    kept = weakref.ref(array)
    parallel.in_parts(lambda start, stop, array=array: stop, 4)
    del array
    for _ in range(100):  # the other thread lets go a little after its result is out
        if kept() is None:
            break
        time.sleep(0.05)
    assert kept() is None


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


@pytest.fixture
def mallopt(monkeypatch):
    """The calls that reach a C library which takes thresholds up to `mallopt.limit`."""
    class Calls(list):
        limit = 1 << 40

    calls = Calls()

    class Library:
        @staticmethod
        def mallopt(setting, value):
            calls.append((setting, value))
            return int(value <= calls.limit)

        @staticmethod
        def malloc_trim(pad):
            calls.append(("trim", pad))

    monkeypatch.setattr(parallel, "_glibc", lambda: Library)
    return calls


SET, PUT_BACK = [(-3, 1 << 30), (-1, (1 << 31) - 1)], [(-3, 1 << 25), (-1, 1 << 26), ("trim", 0)]


def test_memory_settings_are_put_back(mallopt):
    for _ in range(2):
        mallopt.clear()
        with pytest.raises(KeyError), parallel.reused_memory(), parallel.reused_memory():
            assert mallopt == SET
            raise KeyError
        assert mallopt == SET + PUT_BACK


def test_memory_settings_stay_until_the_last_thread_is_done(mallopt):
    def other():
        with parallel.reused_memory():
            pass

    with parallel.reused_memory():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert mallopt == SET


def test_an_older_c_library_is_asked_for_what_it_takes(mallopt):
    """A refused threshold would stay at 128 KB for good, since setting the other one stops glibc from raising it."""
    mallopt.limit = (1 << 31) - 1
    with parallel.reused_memory():
        assert mallopt == SET
    mallopt.clear()
    mallopt.limit = 1 << 25
    with parallel.reused_memory():
        assert mallopt == [SET[0], (-3, 1 << 25), SET[1]]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(parallel, "_glibc", lambda: None)
    with parallel.reused_memory():
        pass


def test_training_and_evaluation_use_memory_again(monkeypatch, mallopt):
    seen, standardise = set(), train.standardise
    monkeypatch.setattr(train, "standardise", lambda images: seen.add(len(mallopt)) or standardise(images))
    digits, rng = data.digits(), np.random.default_rng(0)
    net = models.fcn(SignedSupermask(), rng, digits.input_shape, (10,))
    train.evaluate(net, digits.test_images, digits.test_labels)
    assert mallopt == SET + PUT_BACK
    mallopt.clear()
    train.fit(net, digits, optim.SGDW(net.parameters(), 0.01), 1, rng)
    assert mallopt == SET + PUT_BACK and seen == {2}  # within, and entered once
