"""Memory that is used again: what makes an array of 34 MB cheap to make anew in every step."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Reused:
    """How many blocks of kept_memory() are open, in all threads: the C library's settings are the process's."""

    blocks = 0
    lock = threading.Lock()


@contextmanager
def kept_memory() -> Iterator[None]:
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


def give_back() -> None:
    """Gives the system what kept_memory() keeps and nobody uses, also between what is used. With glibc only."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library as a ctypes library where it is glibc, else None."""
    import ctypes
    import platform

    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
