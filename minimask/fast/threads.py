"""Two threads of ours, and how many BLAS may have: NumPy lets go of the interpreter while it computes.

After every product OpenBLAS's own threads spin for a while, waiting for more work. So either they work or ours do.
"""

import contextvars
import functools
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from ..errors import UsageError

#: Work is cut into this many parts, one after the other or on as many threads. A constant, so that sums over parts do
#: not depend on how many cores there are.
PARTS = 2


def in_parts(work: Callable[[int, int], Any], count: int) -> list[Any]:
    """work(start, stop) over PARTS contiguous ranges of 0..count, on threads where BLAS may use some; results in order.

    NumPy lets go of the interpreter while it computes. On threads, every matrix product takes one of them. Without (one
    core, or a BLAS whose threads cannot be set) the parts are worked one after the other.
    """
    edges = [count * part // PARTS for part in range(PARTS + 1)]
    ranges = [(start, stop) for start, stop in itertools.pairwise(edges) if stop > start]
    with single_threaded_blas() as alone:
        if not alone or len(ranges) < 2 or cores() < 2:
            return [work(*each) for each in ranges]
        others = [_hand_over(work, each) for each in ranges[1:]]
        try:
            results = [work(*ranges[0])]  # this thread works too
        finally:
            ends = [_wait(*each) for each in others]  # whatever happened here, they are done before we go on
        for result, error in ends:
            if error is not None:
                raise error
            results.append(result)
        return results


@functools.cache
def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Outcome = list[tuple[Any, BaseException | None]]  # empty until the work is done, then its result or its error


def _hand_over(work: Callable[[int, int], Any], part: tuple[int, int]) -> tuple[Outcome, threading.Lock]:
    """Starts work(*part) on a thread of ours; returns where its outcome will be, and a lock that is released then.

    concurrent.futures would do, but takes 25 us longer (measured), a sixteenth of a product of the FCN.
    """
    outcome: Outcome = []
    done = threading.Lock()
    done.acquire()
    context = contextvars.copy_context()  # np.errstate of this thread holds there too
    _jobs().put((functools.partial(context.run, work, *part), outcome, done))
    return outcome, done


def _wait(outcome: Outcome, done: threading.Lock) -> tuple[Any, BaseException | None]:
    """The outcome, when it is there: Ctrl-C comes out afterwards, not while the other thread still writes."""
    interrupted = None
    while not outcome:
        try:
            done.acquire()
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted:
        raise interrupted
    return outcome[0]


@functools.cache
def _jobs() -> queue.SimpleQueue:
    """Where the threads of this process take their work from; they are started at the first call."""
    jobs: queue.SimpleQueue = queue.SimpleQueue()

    def serve() -> None:
        while True:
            job, outcome, done = jobs.get()
            try:
                outcome.append((job(), None))
            except BaseException as error:
                outcome.append((None, error))
            done.release()
            del job, outcome, done  # or their arrays would live until the next job

    for number in range(PARTS - 1):
        threading.Thread(target=serve, name=f"minimask-{number}", daemon=True).start()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_jobs.cache_clear)  # a fork takes no threads along
    return jobs


@contextmanager
def blas_threads(count: int | None) -> Iterator[int | None]:
    """Limit the threads of NumPy's matrix products to `count` inside the block; restored afterwards.

    The only place that sets BLAS: through threadpoolctl where it is installed (extra ``fast``), else
    through ctypes on the OpenBLAS that NumPy's wheels carry, else BLAS is left alone. Yields the number
    of threads now in force, None where it cannot be told. ``count=None`` changes nothing and tells.
    """
    if count is not None and count < 1:
        raise UsageError(f"threads must be 1 or more, not {count}")
    try:
        import threadpoolctl
    except ImportError:
        library = openblas()
        if library is None:
            yield None
            return
        before = library.scipy_openblas_get_num_threads64_()
        if count is not None:
            library.scipy_openblas_set_num_threads64_(count)
        try:
            yield library.scipy_openblas_get_num_threads64_()
        finally:
            if count is not None:  # telling must not undo what another thread has set meanwhile
                library.scipy_openblas_set_num_threads64_(before)
        return
    with nullcontext() if count is None else threadpoolctl.threadpool_limits(limits=count, user_api="blas"):
        threads = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        yield min(threads, default=None)


def blas_kernel() -> str | None:
    """Which of its kernels NumPy's OpenBLAS has taken for this processor, 'Haswell' say; None where it cannot be told.

    It decides the last digits of every product; the environment variable OPENBLAS_CORETYPE chooses another.
    """
    import ctypes

    library = openblas()
    if library is not None:
        library.scipy_openblas_get_corename64_.restype = ctypes.c_char_p
        return library.scipy_openblas_get_corename64_().decode()
    try:
        import threadpoolctl
    except ImportError:
        return None
    kernels = [pool.get("architecture") for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return kernels[0] if len(set(kernels)) == 1 else None


@contextmanager
def single_threaded_blas() -> Iterator[bool]:
    """Inside the block every matrix product takes one thread, quick to enter: for threads of our own.

    Yields whether that is so; False where BLAS is another than the OpenBLAS of NumPy's wheels, or allowed one thread
    only, and then nothing was changed.
    """
    library = openblas()
    before = library.scipy_openblas_get_num_threads64_() if library is not None else 1
    if before == 1:
        yield False
        return
    library.scipy_openblas_set_num_threads64_(1)
    try:
        yield True
    finally:
        library.scipy_openblas_set_num_threads64_(before)


@functools.cache
def openblas() -> Any:
    """The OpenBLAS inside NumPy's wheel as a ctypes library; None where NumPy was built on another BLAS."""
    import ctypes
    from pathlib import Path

    for folder in ("numpy.libs", "numpy/.dylibs"):
        for file in sorted((Path(np.__file__).parent.parent / folder).glob("libscipy_openblas64_*")):
            return ctypes.CDLL(str(file))
    return None
