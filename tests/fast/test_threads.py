"""Two threads of ours, and BLAS's."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import types
import weakref

import numpy as np
import pytest

from minimask import UsageError, data, models, optim, train
from minimask.fast import blocks, conv, threads
from minimask.fast.threads import blas_threads, single_threaded_blas
from minimask.mask import Trained
from minimask.windows import of_convolution


@pytest.fixture
def two_threads():
    """BLAS is allowed two threads, and in_parts takes two; else the test skips."""
    with blas_threads(2):
        with single_threaded_blas() as alone:
            if not alone or threads.cores() < 2:
                pytest.skip("one core, or a BLAS that cannot be told to leave threads to us")
        yield


def test_parts_come_back_in_order():
    with blas_threads(2):
        assert threads.in_parts(lambda start, stop: (start, stop), 7) == [(0, 3), (3, 7)]
        assert threads.in_parts(lambda start, stop: (start, stop), 1) == [(0, 1)]
        assert threads.in_parts(lambda start, stop: (start, stop), 0) == []
        inner = threads.in_parts(lambda *_: threads.in_parts(lambda start, stop: stop, 4), 2)  # parts within parts
        assert inner == [[2, 4], [2, 4]]


def test_the_sum_of_parts_is_of_all_of_them_and_zero_of_none():
    with blas_threads(2):
        assert threads.sum_of_parts(lambda start, stop: stop - start, 7) == 7
        assert threads.sum_of_parts(lambda start, stop: stop - start, 0) == 0
    for c_out, way in ((2, True), (64, False)):  # the gradient of a batch of no images, by rows and not
        at = of_convolution("conv2d", (0, 5, 5, 8), (3, 3, 8, c_out), 1, "same")
        assert conv.by_rows_pays((3, 3, 8, c_out), at) is way
        dw = conv.direct_kernel(np.ones((0, 5, 5, 8)), np.ones((0, 5, 5, c_out)), at)
        assert dw.shape == (3, 3, 8, c_out) and not dw.any()


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
            threads.in_parts(work, 4)
        assert done == [2 - wrong]
        with blas_threads(None) as count:
            assert count in (2, None)
        assert threads.in_parts(lambda start, stop: stop, 4) == [2, 4]


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
            threads.in_parts(work, 4)
        assert done == [2]
    assert threads.in_parts(lambda start, stop: stop, 4) == [2, 4]


def test_both_parts_run_at_once(two_threads):
    meeting = threading.Barrier(2, timeout=30)
    threads.in_parts(lambda start, stop: meeting.wait(), 2)  # a deadlock until the time-out otherwise


def test_the_threads_keep_nothing_of_what_they_worked_on(two_threads):
    array = np.ones(4)
    kept = weakref.ref(array)
    threads.in_parts(lambda start, stop, array=array: stop, 4)
    del array
    for _ in range(100):  # the other thread lets go a little after its result is out
        if kept() is None:
            break
        time.sleep(0.05)
    assert kept() is None


FORKS = """
import os, threading
count = []
os.register_at_fork(before=lambda: count.append(threading.active_count()))  # before ours: so it is called after it
from minimask.fast import threads
from minimask.fast.threads import blas_threads, in_parts
def fork():
    child = os.fork()
    if child == 0:
        mine = [block for block in kept if block[0] == threading.get_ident()]
        os._exit(7 if in_parts(lambda start, stop: stop, 4) == [2, 4] and threads._limit.wanted == mine else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
with blas_threads(2):
    kept = list(threads._limit.wanted)
    for _ in range(3):
        assert in_parts(lambda start, stop: stop, 4) == [2, 4]
        assert fork() == 7 and count.pop() == 1
    assert in_parts(lambda start, stop: start, 4) == [0, 2]
    # in the middle of such work, from either thread: nothing waits for itself
    assert in_parts(lambda start, stop: fork(), 2) == [7, 7]
    # beside a Python thread that is at such work all the time, and that has a block of its own
    end, other = threading.Event(), []
    def busy():
        with blas_threads(1):
            while not end.is_set():
                other.append(in_parts(lambda start, stop: stop, 4) == [2, 4])
    thread = threading.Thread(target=busy)
    thread.start()
    while not other:
        pass
    assert [fork() for _ in range(20)] == [7] * 20
    end.set()
    thread.join()
    assert all(other)
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_finds_no_thread_of_ours_and_the_child_has_its_own():
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


POOL = """
import multiprocessing, sys, warnings
sys.argv = ["x"]
from minimask import data, mask, models, optim, train
from minimask.fast.threads import blas_threads, in_parts
import numpy as np
digits, rng = data.digits(), np.random.default_rng(0)
net = models.fcn(mask.Trained(), rng, digits.input_shape)
with blas_threads(2):
    train.fit(net, digits, optim.SGDW(net.parameters(), 0.05), 1, rng)
    in_parts(lambda start, stop: stop, 4)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-4, 0)) == [4, 3, 2, 1]
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_pool_after_training_is_no_warning():
    """From Python 3.12 on a fork beside other threads is one, and here an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", POOL], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr


@pytest.fixture(params=["ctypes", "threadpoolctl"])
def way(request, monkeypatch):
    """Both ways of setting BLAS, in turn; else the test skips."""
    if request.param == "threadpoolctl":
        pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed: pip install '.[fast]'")
        monkeypatch.setattr(threads, "openblas", lambda: None)
    else:
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)
        if threads.openblas() is None:
            pytest.skip("NumPy here is not built on the OpenBLAS of its wheels")
    threads._blas.cache_clear()
    yield request.param
    threads._blas.cache_clear()


def told():
    with blas_threads(None) as count:
        return count


def test_blas_threads_are_set_and_restored(way):
    before = told()
    assert before >= 1
    with blas_threads(1) as count:
        assert count == told() == 1
        with blas_threads(2) as inner:
            assert inner == told() == 2
        assert told() == 1
    with pytest.raises(KeyError), blas_threads(1):
        raise KeyError
    assert told() == before


@pytest.mark.parametrize("order", ["the first ends first", "the last ends first"])
@pytest.mark.parametrize("kinds", [(1, 2), (2, 1), (1, 1), ("alone", 2), (2, "alone"), ("alone", "alone")])
def test_blocks_of_two_python_threads_may_overlap(kinds, order, way):
    """Each ends in its own time; when both have, there are as many threads as before. A saved value would not say so."""
    if "alone" in kinds and way == "threadpoolctl":
        pytest.skip("threads of ours take the place of NumPy's own OpenBLAS only")
    jobs = [queue.SimpleQueue() for _ in kinds]
    seen = queue.SimpleQueue()

    def live(kind, words):
        block = single_threaded_blas() if kind == "alone" else blas_threads(kind)
        while (word := words.get()) != "end":
            block.__enter__() if word == "enter" else block.__exit__(None, None, None)
            seen.put(threads._blas().get())

    lives = [threading.Thread(target=live, args=each) for each in zip(kinds, jobs)]
    with blas_threads(2):
        before = threads._blas().get()
        for thread in lives:
            thread.start()
        steps = [(0, "enter"), (1, "enter"), *(((0, "exit"), (1, "exit")) if "first ends" in order else ((1, "exit"), (0, "exit")))]
        found = []
        for which, word in steps:
            jobs[which].put(word)
            found.append(seen.get(timeout=30))
        for which, thread in enumerate(lives):
            jobs[which].put("end")
            thread.join()
        numbers = [1 if kind == "alone" else kind for kind in kinds]
        both = 1 if "alone" in kinds else numbers[1]
        assert found == [[n] * len(before) for n in (numbers[0], both, numbers[1] if "first ends" in order else numbers[0], 2)]
    assert threads._limit.wanted == threads._limit.alone == []


def test_who_needs_blas_alone_is_told_the_same_beside_another():
    """Else a product would be worked in parts or not, by what another Python thread does at that moment."""
    found = []

    def elsewhere():
        with single_threaded_blas() as alone:
            found.append((alone, told()))

    with blas_threads(2):
        elsewhere()
        with single_threaded_blas():
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            elsewhere()  # within the block: its threads are busy
    assert found[0] == found[1] and found[2] == (False, found[0][1])


def test_training_beside_small_products_ends_in_the_same_bits(two_threads, monkeypatch):
    """Long products on two threads of BLAS have other last digits than on one, so they must never come to that.

    In the middle of every product of the training the block of another Python thread ends that was open before, one
    begins and ends, and one begins that stays open: no race decides what is met.
    """
    rng = np.random.default_rng(0)
    dataset = data.Dataset("noise", rng.integers(0, 255, (256, 28, 28, 1), np.uint8), rng.integers(0, 10, 256),
                           rng.integers(0, 255, (10, 28, 28, 1), np.uint8), np.arange(10), tuple("abcdefghij"))
    jobs, answers, one_at_a_time, seen = queue.SimpleQueue(), queue.SimpleQueue(), threading.Lock(), []
    small = np.ones((200, 200), np.float32)

    def train_once():
        rng = np.random.default_rng(1)
        net = models.fcn(Trained(), rng, units=(300, 300, 10))
        train.fit(net, dataset, optim.SGDW(net.parameters(), 0.05), 2, rng)
        return {name: array.tobytes() for name, array in net.arrays().items()}

    def elsewhere():
        while jobs.get():
            with single_threaded_blas():
                answers.put("entered")
                jobs.get()
            blocks.product(small, small)
            answers.put("left")

    def asked(word):
        jobs.put(word)
        return answers.get(timeout=60)

    def watched(*arrays, **options):
        if threading.current_thread() is not other:
            with one_at_a_time:  # half of a product is on a thread of ours
                asked("leave")
                seen.append(threads._blas().get())
                asked("enter")
                seen.append(threads._blas().get())
        return np.matmul(*arrays, **options)

    other = threading.Thread(target=elsewhere, daemon=True)
    alone = train_once()
    before = told()
    other.start()
    asked("enter")
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "np", types.SimpleNamespace(**{**vars(np), "matmul": watched}))
        beside = train_once()
    asked("leave")
    jobs.put(None)
    other.join(60)
    assert beside == alone and told() == before and len(seen) > 50
    assert all(set(counts) == {1} for counts in seen)


def test_where_blas_cannot_be_told_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(threads, "openblas", lambda: None)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    threads._blas.cache_clear()
    with blas_threads(1) as count, single_threaded_blas() as alone:
        assert count is None and alone is False
    threads._blas.cache_clear()


def test_the_cores_are_those_that_python_was_told_of(monkeypatch):
    """PYTHON_CPU_COUNT and -X cpu_count, from Python 3.13 on."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert threads.cores.__wrapped__() == 3
    monkeypatch.setattr(os, "process_cpu_count", lambda: None)
    assert threads.cores.__wrapped__() == 1
    monkeypatch.delattr(os, "process_cpu_count")
    if hasattr(os, "sched_getaffinity"):
        assert threads.cores.__wrapped__() == len(os.sched_getaffinity(0))


def test_threads_must_be_positive():
    with pytest.raises(UsageError, match="threads must be 1 or more, not 0"), blas_threads(0):
        pass
