"""Read 1 of 8 · needs nothing · which array library an array belongs to, and how to move it.

minimask computes with whatever array library its inputs come from: NumPy, CuPy, or any other that
follows the Python array API standard. The code on the reading path asks :func:`namespace` for that
library, calls it ``xp`` and uses only the functions of the standard, so one text serves every library.

Random numbers are always drawn on the host by NumPy's PCG64 and then moved by :func:`asarray`: one
seed gives the same weights and the same batches everywhere.
"""

import functools
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # an array of any library; the standard has no common type to name

_settings = threading.local()  # .plain is True inside plain()

#: What ``backend=`` accepts: the library's name -> the module to import.
LIBRARIES = {"numpy": "numpy", "cupy": "cupy", "strict": "array_api_strict"}


class MinimaskError(Exception):
    """A failure that one clear sentence explains. The command line prints it and exits with 1."""


class UsageError(MinimaskError):
    """The caller asked for something that does not exist or does not fit: exit status 2."""


class OutOfMemory(MinimaskError, MemoryError):
    """The host or the device has no room for an array; the message says for what, and how to need less."""


def unknown(kind: str, name: object, known: Any, listed: str = "") -> UsageError:
    """The error for a name that is not in `known`; it suggests the nearest valid one.

    It names all that are known, unless `listed` says where many are listed.
    """
    import difflib

    names = sorted(known)
    lower = str(name).casefold()
    begun = [known_name for known_name in names if lower and known_name.startswith(lower)]
    near = begun or difflib.get_close_matches(lower, names, n=1, cutoff=0.4)
    if listed:
        return UsageError(f"unknown {kind} {name!r}: " + (f"did you mean {near[0]!r}? " if near else "") + listed)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    return UsageError(f"unknown {kind} {name!r}: {hint} {', '.join(names)}")


def namespace(array: Array) -> ModuleType:
    """The array library `array` belongs to, as a module.

    Raises TypeError for anything that is no array.
    """
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    if type(array).__module__.partition(".")[0] == "cupy":  # CuPy's arrays have no __array_namespace__
        return sys.modules["cupy"]
    raise TypeError(f"not an array: {type(array).__name__}; give a NumPy, CuPy or array-API array")


def load(library: str) -> ModuleType:
    """The module of an array library by its ``backend=`` name: 'numpy', 'cupy' or 'strict'.

    Raises UsageError for an unknown name, MinimaskError where the library is not installed or finds no device.
    """
    if library not in LIBRARIES:
        raise unknown("backend", library, LIBRARIES)
    name = LIBRARIES[library]
    try:
        xp = importlib.import_module(name)
    except ImportError as error:
        package = {"cupy": "cupy-cuda12x or cupy-cuda13x", "strict": "array-api-strict"}[library]
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise MinimaskError(f"backend {library!r} needs the package {package}: pip install it") from error
        reason = str(error.__cause__ or error).strip().partition("\n")[0]  # CuPy's own text is a page
        raise MinimaskError(f"backend {library!r}: {name} is installed but cannot be imported ({reason}); "
                            f"install {package} anew, for the CUDA version of the driver") from error
    if library == "cupy":
        try:
            count, reason = xp.cuda.runtime.getDeviceCount(), "none is visible"
        except Exception as error:  # CuPy's own class, or a missing driver's
            count, reason = 0, str(error)
        if not count:
            raise MinimaskError(f"backend 'cupy' finds no CUDA device ({reason}); use --backend numpy")
    return xp


def asarray(value: Any, like: Array) -> Array:
    """`value` (a Python number, or a host array) as an array of `like`'s library, device and dtype.

    Raises OutOfMemory where there is no room for it.
    """
    try:
        return namespace(like).asarray(value, dtype=like.dtype, **beside(like))
    except Exception as error:
        if ran_out(error):
            raise out_of_memory(f"moving an array of shape {np.shape(value)} to {place(like)}", error) from error
        raise


def beside(like: Array) -> dict[str, Any]:
    """The keywords with which a creation function puts its array on `like`'s device.

    None for NumPy, which has one device, and for CuPy, which uses its current one and knows no ``device=``.
    """
    return {"device": like.device} if hasattr(like, "__array_namespace__") and not isinstance(like, np.ndarray) else {}


def place(array: Array) -> str:
    """The library and device that an array lives on, in words: 'numpy', 'cupy on <CUDA Device 0>'."""
    xp = namespace(array)
    return "numpy" if xp is np else f"{xp.__name__} on {array.device}"


def refuse_mixed(name: str, first: Array, second: Array) -> None:
    """TypeError, naming op `name` and both places, where two arrays are of two libraries or on two devices."""
    xp = namespace(first)
    if xp is not namespace(second) or (xp is not np and first.device != second.device):
        raise TypeError(f"{name}: mixes arrays of {place(first)} and {place(second)}; move one first: "
                        "minimask.backend.asarray(minimask.backend.to_host(x), like=y)")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, NumPy's or CuPy's own, or one of the CUDA libraries'."""
    return isinstance(error, MemoryError) or any(
        code in str(error) for code in ("cudaErrorMemoryAllocation", "CUBLAS_STATUS_ALLOC_FAILED"))


def out_of_memory(doing: str, error: BaseException, budget: bool = False) -> OutOfMemory:
    """The error for memory that ran out while `doing` something; the library's own words say how much was asked for.

    Args:
        budget: whether a byte budget may be given to what was being done; one to try is half of what was asked for.
    """
    if isinstance(error, OutOfMemory):  # said already, by an op inside
        return error
    asked = getattr(error, "_size", None) or getattr(error, "_total_size", None)  # bytes, of CuPy's error or NumPy's
    way_out = "take a smaller batch (batch= of the recipe and of train.fit)"
    if budget:
        way_out += f", or a smaller block: budget={asked // 2 if asked else 1 << 24} bytes"
    reason = str(error).strip().rstrip(".") or "no room"
    return OutOfMemory(f"{doing}: memory ran out: {reason[:1].lower()}{reason[1:]}; {way_out}")


def to_host(array: Array) -> np.ndarray:
    """`array` as a NumPy array, from whichever library and device; a NumPy array comes back as it is."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "get"):  # CuPy copies to the host only when asked
        return array.get()
    xp = namespace(array)
    if hasattr(xp, "Device"):  # array-api-strict: NumPy can read its CPU device only
        array = xp.asarray(array, device=xp.Device("CPU_DEVICE"), copy=True)
    return np.from_dlpack(array)


def own(array: Array) -> Array:
    """`array` itself where it surely is nobody else's view and can be written to, a copy of it elsewhere."""
    if isinstance(array, np.ndarray) and array.base is None and array.flags.writeable:
        return array
    if type(array).__module__.partition(".")[0] == "cupy" and array.base is None:  # CuPy knows no read-only arrays
        return array
    return namespace(array).asarray(array, copy=True)


def is_floating(array: Array) -> bool:
    """Whether the array holds real floating-point numbers."""
    if isinstance(array, np.ndarray):
        return array.dtype.kind == "f"
    return bool(namespace(array).isdtype(array.dtype, "real floating"))


@contextmanager
def blas_threads(count: int | None) -> Iterator[int | None]:
    """Limit the threads of NumPy's matrix products to `count` inside the block; restored afterwards.

    The only place that touches BLAS: through threadpoolctl where it is installed (extra ``fast``), else
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


@contextmanager
def plain() -> Iterator[None]:
    """Inside the block every op takes its plain version, in functions of the array API, to step through.

    Outside, NumPy arrays take a faster one where there is one (fastconv.py); tests hold both equal.
    """
    before = getattr(_settings, "plain", False)
    _settings.plain = True
    try:
        yield
    finally:
        _settings.plain = before


def is_plain() -> bool:
    """Whether we are inside plain()."""
    return getattr(_settings, "plain", False)


def takes_fast_path(xp: ModuleType) -> bool:
    """Whether ops on arrays of library xp take their faster version here: NumPy does, outside plain()."""
    return xp is np and not getattr(_settings, "plain", False)


def takes_blocks(xp: ModuleType) -> bool:
    """Whether convolutions go block by block here: NumPy's and CuPy's do, outside plain()."""
    return xp.__name__ in ("numpy", "cupy") and not getattr(_settings, "plain", False)


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
