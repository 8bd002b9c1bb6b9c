"""Blocks that stay in a core's cache, half of them on each of two threads.

NumPy computes an expression pass by pass, and each pass over an array of 34 MB (the activations of a Conv2 layer) goes
to main memory and back on one core. Here a function goes over an array block by block, so that its passes meet in a
core's cache. How work is cut depends on shapes alone, so runs repeat bit for bit, on one core as on two.
"""

from collections.abc import Callable

import numpy as np

from .threads import in_parts, single_threaded_blas

#: Bytes of one array in a block, and from where on blocks pay; multiplications from which on two threads do.
BLOCK, LARGE, LARGE_PRODUCT = 1 << 20, 1 << 20, 1 << 24
#: Bytes of one array in a block of a function of many passes over arrays that are too small for two threads.
SMALL_BLOCK = 1 << 18


def in_blocks(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """function(*arrays), which works on every entry of axis 0 by itself, a block of entries at a time.

    For large NumPy arrays only: what function makes on the way stays in a core's cache, and two threads share the
    blocks. The numbers are the same. Anything else is handed to function as it is.
    """
    if not _worth_blocks(arrays):
        return function(*arrays)
    probe = function(*(x[:1] for x in arrays))
    result = np.empty((arrays[0].shape[0], *probe.shape[1:]), probe.dtype)

    def copy(into: np.ndarray, *blocks: np.ndarray) -> None:
        into[...] = function(*blocks)

    return filled(copy, result, *arrays)


def filled(function: Callable[..., None], result: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
    """The same for function(result, *arrays), which writes into result: no copy of what it has made. Returns result."""
    if _worth_blocks(arrays):
        _each_block(function, arrays[0].nbytes, result, *arrays)
    else:
        function(result, *arrays)
    return result


def elementwise(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """The same for function(*arrays, out=None) of single entries, of arrays of one shape: then blocks need not respect
    any axis. Like NumPy's own it gives a new array, or writes into `out`.
    """
    if not _worth_blocks(arrays) or not _alike(arrays):
        return function(*arrays)
    flat = [x.reshape(-1) for x in arrays]
    result = np.empty(flat[0].shape, function(*(x[:1] for x in flat)).dtype)

    def write(into: np.ndarray, *blocks: np.ndarray) -> None:
        function(*blocks, out=into)

    return filled(write, result, *flat).reshape(arrays[0].shape)


def in_place(function: Callable[..., None], *arrays: np.ndarray) -> None:
    """The same for a function that writes into its arrays and returns nothing; small arrays on this thread alone."""
    if not _alike(arrays) or arrays[0].nbytes < 2 * SMALL_BLOCK:
        function(*arrays)
        return
    flat = [x.reshape(-1) for x in arrays]
    if _worth_blocks(arrays):
        _each_block(function, arrays[0].nbytes, *flat)
        return
    step = SMALL_BLOCK // arrays[0].itemsize
    for low in range(0, arrays[0].size, step):
        function(*(x[low:low + step] for x in flat))


def _worth_blocks(arrays: tuple[np.ndarray, ...]) -> bool:
    first = arrays[0]
    return first.nbytes >= LARGE and all(x.shape[:1] == first.shape[:1] for x in arrays)


def _alike(arrays: tuple[np.ndarray, ...]) -> bool:
    """Whether entry i of one array lies where entry i of another does."""
    return all(x.shape == arrays[0].shape and x.flags.c_contiguous for x in arrays)


def _each_block(function: Callable[..., None], size: int, *arrays: np.ndarray) -> None:
    """function on blocks of axis 0, of BLOCK bytes of an array of `size` bytes, in parts."""
    count = arrays[0].shape[0]
    step = max(1, BLOCK * count // size)

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, step):
            function(*(x[low:min(low + step, stop)] for x in arrays))

    in_parts(work, count)


def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x @ y. A large product of NumPy matrices is cut along its longer side, half on each of two threads.

    Not on BLAS's own threads: after every product OpenBLAS's spin for a while, waiting for more work, on the core that
    the next in_parts needs.
    """
    if x.ndim != 2 or y.ndim != 2:
        return np.matmul(x, y)
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
