"""Read 1 of 10 · needs nothing · which array library an array belongs to, and how to move it.

minimask computes with whatever array library its inputs come from: NumPy, CuPy, or any other that
follows the Python array API standard. The code on the reading path asks :func:`namespace` for that
library, calls it ``xp`` and uses only the functions of the standard, so one text serves every library.

Random numbers are always drawn on the host by NumPy's PCG64 and then moved by :func:`asarray`: one
seed gives the same weights and the same batches everywhere.
"""

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from .errors import MinimaskError as MinimaskError
from .errors import OutOfMemory as OutOfMemory
from .errors import UsageError as UsageError
from .errors import not_importable, out_of_memory, ran_out, refuse_without_device, unknown

Array = Any  # an array of any library; the standard has no common type to name


class Switches(threading.local):
    """What is on in this thread: `plain` inside plain(), `no_grad` inside no_grad()."""

    plain = no_grad = False


SWITCHES = Switches()

#: What ``backend=`` accepts: the library's name -> the module to import.
LIBRARIES = {"numpy": "numpy", "cupy": "cupy", "strict": "array_api_strict"}


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
        raise not_importable(library, name, error) from error
    if library == "cupy":
        refuse_without_device(xp)
    return xp


def asarray(value: Any, like: Array) -> Array:
    """`value` (a Python number, or a host array) as an array of `like`'s library, device and dtype.

    Raises OutOfMemory where there is no room for it.
    """
    try:
        return namespace(like).asarray(value, dtype=like.dtype, **on_device_of(like))
    except Exception as error:
        if ran_out(error):
            raise out_of_memory(f"moving an array of shape {np.shape(value)} to {place(like)}", error) from error
        raise


def on_device_of(like: Array) -> dict[str, Any]:
    """The keywords with which a creation function puts its array on `like`'s device.

    None for NumPy, which has one device, and for CuPy, which uses its current one and knows no ``device=``.
    """
    return {"device": like.device} if hasattr(like, "__array_namespace__") and not isinstance(like, np.ndarray) else {}


def place(array: Array) -> str:
    """The library and device that an array lives on, in words: 'numpy', 'cupy on <CUDA Device 0>'."""
    xp = namespace(array)
    return "numpy" if xp is np else f"{xp.__name__} on {array.device}"


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


def unshared(array: Array) -> Array:
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
def switched_on(name: str) -> Iterator[None]:
    """Inside the block the switch of that name is on, in this thread; afterwards it is as before."""
    before = getattr(SWITCHES, name)
    setattr(SWITCHES, name, True)
    try:
        yield
    finally:
        setattr(SWITCHES, name, before)


def plain() -> AbstractContextManager[None]:
    """Inside the block every op takes its plain version, in functions of the array API, to step through.

    Outside, NumPy and CuPy arrays take a faster twin where there is one (the folder fast); a test holds both equal.
    """
    return switched_on("plain")


def no_grad() -> AbstractContextManager[None]:
    """Inside the block ops compute values only and remember nothing (evaluation, updates by hand)."""
    return switched_on("no_grad")
