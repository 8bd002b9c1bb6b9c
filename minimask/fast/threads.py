"""Two threads of ours, and how many BLAS may have: NumPy lets go of the interpreter while it computes.

After every product OpenBLAS's own threads spin for a while, waiting for more work. So either they work or ours do.
"""

import contextvars
import functools
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

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


def sum_of_parts(work: Callable[[int, int], Any], count: int) -> Any:
    """What work returns for the ranges of in_parts(), added up in their order; work(0, 0) where there are none."""
    first, *others = in_parts(work, count) or [work(0, 0)]
    for other in others:
        first += other
    return first


@functools.cache
def cores() -> int:
    """Cores that this process may use; from Python 3.13 on PYTHON_CPU_COUNT and `-X cpu_count` have the last word."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
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
    _helpers.take((functools.partial(context.run, work, *part), outcome, done))
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


class _Helpers:
    """Threads of ours: started when there is work, and ended before a fork, as OpenBLAS ends its own.

    A fork takes no threads along, and Python warns where a process has some then.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()  # while threads are started or ended, and during a fork
        self.jobs: queue.SimpleQueue = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.idents: set[int] = set()

    def take(self, job: tuple[Callable[[], Any], Outcome, threading.Lock]) -> None:
        """Work for one of them."""
        with self.lock:
            while len(self.threads) < PARTS - 1:
                self.threads.append(threading.Thread(target=self._serve, args=(self.jobs,), daemon=True,
                                                     name=f"minimask-{len(self.threads)}"))
                self.threads[-1].start()
            self.idents = {thread.ident or 0 for thread in self.threads}
            self.jobs.put(job)

    @staticmethod
    def _serve(jobs: queue.SimpleQueue) -> None:
        while (task := jobs.get()) is not None:
            job, outcome, done = task
            try:
                outcome.append((job(), None))
            except BaseException as error:
                outcome.append((None, error))
            done.release()
            del task, job, outcome, done  # or their arrays would live until the next job

    def before_fork(self) -> None:
        """Ends the threads when they have done their work; a fork in the middle of such work leaves them."""
        if threading.get_ident() in self.idents:
            return
        self.lock.acquire()
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            thread.join()
            _wait_for_the_system(thread)
        self.threads, self.idents = [], set()

    def after_fork(self) -> None:
        if threading.get_ident() not in self.idents:
            self.lock.release()

    def after_fork_in_child(self) -> None:
        self.threads, self.idents, self.jobs, self.lock = [], set(), queue.SimpleQueue(), threading.Lock()


def _wait_for_the_system(thread: threading.Thread) -> None:
    """Until the operating system, too, counts the thread no more, where it can be asked: Python's join is early."""
    for _ in range(1000):
        if not os.path.exists(f"/proc/self/task/{thread.native_id}"):
            return
        time.sleep(0.001)


_helpers = _Helpers()


# ---- BLAS ----------------------------------------------------------------------------------------------------------


#: One thread, of the one library that there is then.
ONE = [1]


class _Limit:
    """How many threads BLAS has: one number for the whole process, which blocks of several Python threads ask for.

    So no block puts back what it found: it takes back what it asked for, and what holds then is worked out anew. One
    thread while any block needs BLAS to itself; else what the block says that was entered last; else what was there
    before all blocks.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.before: list[int] = []  # of each library: before the first block, and now
        self.now: list[int] = []
        self.wanted: list[tuple[int, int]] = []  # Python thread, and the number that its block asks for
        self.alone: list[int] = []  # Python threads whose block needs one thread of BLAS; one entry a block

    @contextmanager
    def asked(self, blas: "_Blas", count: int) -> Iterator[int]:
        """Inside the block `count` threads; yields how many that are: BLAS may have a bound of its own."""
        entry = threading.get_ident(), count
        with self.lock:
            self._enter(blas)
            self.wanted.append(entry)
            self.restore(blas)
            allowed = self.allowed(blas)
        try:
            yield allowed
        finally:
            with self.lock:
                del self.wanted[len(self.wanted) - 1 - self.wanted[::-1].index(entry)]  # the last that is equal
                self.restore(blas)

    def allowed(self, blas: "_Blas") -> int:
        """How many threads it has when no block needs it alone."""
        if not self.alone:
            return min(blas.get())
        return self.wanted[-1][1] if self.wanted else min(self.before)

    def here(self, blas: "_Blas") -> int:
        """The same for this Python thread: one inside a block that needs BLAS alone, whose work helpers do, too."""
        thread = threading.get_ident()
        return 1 if thread in self.alone or thread in _helpers.idents else self.allowed(blas)

    def _enter(self, blas: "_Blas") -> None:
        if not self.wanted and not self.alone:
            self.before = self.now = blas.get()

    def restore(self, blas: "_Blas") -> None:
        """Sets what holds now that a block has begun or ended."""
        counts = self.before
        if self.alone or self.wanted:
            counts = [1 if self.alone else self.wanted[-1][1]] * len(counts)
        if counts != self.now:
            self.now = counts
            blas.set(counts)

    def after_fork_in_child(self) -> None:
        """The child has one thread; the blocks of others do not end in it."""
        me = threading.get_ident()
        self.wanted = [entry for entry in self.wanted if entry[0] == me]
        self.alone = [thread for thread in self.alone if thread == me]
        self.lock.release()


_limit = _Limit()


class _ToItself(AbstractContextManager[bool]):
    """Inside the block one thread; yields whether threads of ours may take the place of more.

    Every product of ours enters one: so it is written out, and no generator.
    """

    __slots__ = ("blas", "thread")

    def __init__(self, blas: "_Blas"):
        self.blas, self.thread = blas, threading.get_ident()

    def __enter__(self) -> bool:
        limit, thread = _limit, self.thread
        with limit.lock:
            if limit.alone:
                free = limit.here(self.blas) > 1
                limit.alone.append(thread)
                return free
            now = self.blas.get()
            if not limit.wanted:
                limit.before = now
            limit.alone.append(thread)
            if now != ONE:
                self.blas.set(ONE)
            limit.now = ONE
            return now != ONE and thread not in _helpers.idents

    def __exit__(self, *_: object) -> None:
        with _limit.lock:
            _limit.alone.remove(self.thread)
            if not _limit.alone:
                _limit.restore(self.blas)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_limit.lock.acquire, after_in_parent=_limit.lock.release,
                        after_in_child=_limit.after_fork_in_child)
    # What is registered last is called first before a fork: threads of ours may need the limit to come to their end.
    os.register_at_fork(before=_helpers.before_fork, after_in_parent=_helpers.after_fork,
                        after_in_child=_helpers.after_fork_in_child)


class _Blas(NamedTuple):
    """The BLAS libraries that are set together: how many threads each has, and how to say so."""

    get: Callable[[], list[int]]
    set: Callable[[list[int]], None]


@functools.cache
def _blas() -> _Blas | None:
    """NumPy's own OpenBLAS, through ctypes; else what threadpoolctl finds (extra ``fast``); else None."""
    library = openblas()
    if library is not None:
        get, put = library.scipy_openblas_get_num_threads64_, library.scipy_openblas_set_num_threads64_
        return _Blas(lambda: [get()], lambda counts: put(counts[0]))
    try:
        import threadpoolctl
    except ImportError:
        return None
    found = [each for each in threadpoolctl.ThreadpoolController().lib_controllers if each.user_api == "blas"]

    def put_all(counts: list[int]) -> None:
        for each, count in zip(found, counts):
            release = getattr(each, "clear_controlling_thread", None)  # 3.8: else only the thread that was first may
            if release is not None:
                release(force=True)
            each.set_num_threads(count)
            if release is not None:
                release(force=True)

    return _Blas(lambda: [each.get_num_threads() for each in found], put_all) if found else None


@contextmanager
def blas_threads(count: int | None) -> Iterator[int | None]:
    """Limit the threads of NumPy's matrix products to `count` inside the block; afterwards they are as before.

    The only place that sets BLAS, together with :func:`single_threaded_blas`: through ctypes on the OpenBLAS that
    NumPy's wheels carry, else through threadpoolctl where it is installed (extra ``fast``), else BLAS is left alone.
    Yields how many this Python thread's products now take, None where it cannot be told. ``count=None`` changes nothing
    and tells.

    The number is the whole process's. Where blocks of several Python threads overlap, the one entered last counts, and
    when all have ended, in whatever order, there are as many threads as before the first.
    """
    if count is not None and count < 1:
        raise UsageError(f"threads must be 1 or more, not {count}")
    blas = _blas()
    if blas is None:
        yield None
    elif count is None:
        yield _limit.here(blas)
    else:
        with _limit.asked(blas, count) as now:
            yield now


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


def single_threaded_blas() -> AbstractContextManager[bool]:
    """Inside the block every matrix product takes one thread, quick to enter: for threads of our own.

    Yields whether more were allowed, and threads of ours may take their place: not inside another such block, and not
    where BLAS is another than the OpenBLAS of NumPy's wheels. Whatever other Python threads do meanwhile, it stays one
    thread: two sum a long product in another order, and give other last digits.
    """
    blas = _blas() if openblas() is not None else None
    return nullcontext(False) if blas is None else _ToItself(blas)


@functools.cache
def openblas() -> Any:
    """The OpenBLAS inside NumPy's wheel as a ctypes library; None where NumPy was built on another BLAS."""
    import ctypes
    from pathlib import Path

    for folder in ("numpy.libs", "numpy/.dylibs"):
        for file in sorted((Path(np.__file__).parent.parent / folder).glob("libscipy_openblas64_*")):
            return ctypes.CDLL(str(file))
    return None
