"""Two threads of ours, and BLAS's."""

import builtins
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from minimask import UsageError
from minimask.fast import threads
from minimask.fast.threads import blas_threads, single_threaded_blas


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    with blas_threads(2):
        threads.in_parts(lambda start, stop: stop, 4)
        child = os.fork()
        if child == 0:
            os._exit(7 if threads.in_parts(lambda start, stop: stop, 4) == [2, 4] else 1)
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


@pytest.mark.parametrize("how", ["threadpoolctl", "ctypes"])
def test_blas_threads_are_set_and_restored(how, monkeypatch):
    if how == "threadpoolctl":
        pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed: pip install '.[fast]'")
    else:
        real = builtins.__import__

        def without(name, *arguments, **options):
            if name == "threadpoolctl":
                raise ImportError(name)
            return real(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", without)
        if threads.openblas() is None:
            pytest.skip("NumPy here is not built on the OpenBLAS of its wheels")
    with blas_threads(None) as before:
        assert before >= 1
    with blas_threads(1) as count:
        assert count == 1
        with blas_threads(None) as inner:
            assert inner == 1
    with pytest.raises(KeyError), blas_threads(1):
        raise KeyError
    if how == "ctypes" and before > 1:
        with single_threaded_blas():
            telling = blas_threads(None)
            telling.__enter__()
        telling.__exit__(None, None, None)  # as in another thread: what was set meanwhile stays
    with blas_threads(None) as after:
        assert after == before


def test_where_blas_cannot_be_told_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(threads, "openblas", lambda: None)
    monkeypatch.setitem(__import__("sys").modules, "threadpoolctl", None)
    with blas_threads(1) as count:
        assert count is None


def test_threads_must_be_positive():
    with pytest.raises(UsageError, match="threads must be 1 or more, not 0"), blas_threads(0):
        pass
