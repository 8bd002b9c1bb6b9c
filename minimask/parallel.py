"""How the faster versions of ops run on NumPy arrays: two threads, blocks that stay in cache, memory used again.

NumPy computes an expression pass by pass, and each pass over an array of 34 MB (the activations of a Conv2 layer) goes
to main memory and back on one core. Here a function goes over an array block by block, so that its passes meet in a
core's cache, and half of the blocks on each of two threads: NumPy lets go of the interpreter while it computes. How
work is cut depends on shapes alone, so runs repeat bit for bit, on one core as on two.
"""

import contextvars
import functools
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from .backend import Array, single_threaded_blas, takes_fast_path

#: Work is cut into this many parts, one after the other or on as many threads. A constant, so that sums over parts do
#: not depend on how many cores there are.
PARTS = 2
#: Bytes of one array in a block, and from where on blocks pay; multiplications from which on two threads do.
BLOCK, LARGE, LARGE_PRODUCT = 1 << 20, 1 << 20, 1 << 24


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


def in_blocks(xp: ModuleType, function: Callable[..., Array], *arrays: Array) -> Array:
    """function(*arrays), which works on every entry of axis 0 by itself, a block of entries at a time.

    For large NumPy arrays only: what function makes on the way stays in a core's cache, and two threads share the
    blocks. The numbers are the same. Anything else is handed to function as it is.
    """
    if not _worth_blocks(xp, arrays):
        return function(*arrays)
    probe = function(*(x[:1] for x in arrays))
    result = np.empty((arrays[0].shape[0], *probe.shape[1:]), probe.dtype)

    def fill(into: Array, *blocks: Array) -> None:
        into[...] = function(*blocks)

    _each_block(fill, arrays[0].nbytes, result, *arrays)
    return result


def elementwise(xp: ModuleType, function: Callable[..., Array], *arrays: Array) -> Array:
    """The same for a function of single entries of arrays of one shape: then blocks need not respect any axis."""
    if not _worth_blocks(xp, arrays) or not all(x.flags.c_contiguous for x in arrays):
        return function(*arrays)
    return in_blocks(xp, function, *(x.reshape(-1) for x in arrays)).reshape(arrays[0].shape)


def in_place(xp: ModuleType, function: Callable[..., None], *arrays: Array) -> None:
    """The same for a function that writes into its arrays and returns nothing."""
    if not _worth_blocks(xp, arrays) or not all(x.flags.c_contiguous for x in arrays):
        function(*arrays)
    else:
        _each_block(function, arrays[0].nbytes, *(x.reshape(-1) for x in arrays))


def _worth_blocks(xp: ModuleType, arrays: tuple[Array, ...]) -> bool:
    first = arrays[0]
    return takes_fast_path(xp) and first.nbytes >= LARGE and all(x.shape[:1] == first.shape[:1] for x in arrays)


def _each_block(function: Callable[..., None], size: int, *arrays: Array) -> None:
    """function on blocks of axis 0, of BLOCK bytes of an array of `size` bytes, in parts."""
    count = arrays[0].shape[0]
    step = max(1, BLOCK * count // size)

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, step):
            function(*(x[low:min(low + step, stop)] for x in arrays))

    in_parts(work, count)


def product(xp: ModuleType, x: Array, y: Array) -> Array:
    """x @ y. A large product of NumPy matrices is cut along its longer side, half on each of two threads.

    Not on BLAS's own threads: after every product OpenBLAS's spin for a while, waiting for more work, on the core that
    the next in_parts needs.
    """
    if not takes_fast_path(xp) or x.ndim != 2 or y.ndim != 2:
        return xp.matmul(x, y)
    rows, columns = x.shape[0], y.shape[1]
    if rows * x.shape[1] * columns < LARGE_PRODUCT:
        with single_threaded_blas():
            return np.matmul(x, y)
    result = np.empty((rows, columns), x.dtype)
    if rows >= columns:
        in_parts(lambda low, high: np.matmul(x[low:high], y, out=result[low:high]), rows)
    else:
        in_parts(lambda low, high: np.matmul(x, y[:, low:high], out=result[:, low:high]), columns)
    return result


class _Reused:
    """How many blocks of reused_memory() are open, in all threads: the C library's settings are the process's."""

    blocks = 0
    lock = threading.Lock()


@contextmanager
def reused_memory() -> Iterator[None]:
    """Inside the block freed memory stays with the process for the next array of its size; afterwards it goes back.

    A step makes the same large arrays again and again. By default the C library takes each from the operating system
    and gives it back, which clears and maps every page anew: that takes longer than writing to it. With glibc only;
    elsewhere nothing changes. Training and evaluation run inside such a block.
    """
    library = _glibc()
    if library is None:
        yield
        return
    trim_threshold, mmap_threshold = -1, -3  # mallopt's names for its settings, from malloc.h
    largest = 1 << 25  # that glibc would have come to by itself; older ones take no larger
    with _Reused.lock:
        _Reused.blocks += 1
        if _Reused.blocks == 1:
            library.mallopt(mmap_threshold, 1 << 30) or library.mallopt(mmap_threshold, largest)
            library.mallopt(trim_threshold, (1 << 31) - 1)
    try:
        yield
    finally:
        with _Reused.lock:
            _Reused.blocks -= 1
            if _Reused.blocks == 0:
                library.mallopt(mmap_threshold, largest)
                library.mallopt(trim_threshold, 1 << 26)
                library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library as a ctypes library where it is glibc, else None."""
    import ctypes
    import platform

    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
