"""The errors that one clear sentence explains: what came, what was needed, the way out. Beside the path."""

from collections.abc import Iterable
from typing import Any


class MinimaskError(Exception):
    """A failure that one clear sentence explains. The command line prints it and exits with 1."""


class UsageError(MinimaskError):
    """The caller asked for something that does not exist or does not fit: exit status 2."""


class MissingMatplotlib(MinimaskError):
    """matplotlib, which draws every picture and reads PNG files, is not installed."""


class OutOfMemory(MinimaskError, MemoryError):
    """The host or the device has no room for an array; the message says for what, and how to need less."""


def unknown(kind: str, name: object, known: Iterable[str], listed: str = "") -> UsageError:
    """The error for a name that is not in `known`; it suggests the nearest valid one.

    It names all that are known, unless `listed` says where many are listed.
    """
    import difflib

    names = sorted(known)
    lower = str(name).casefold()
    begun = [known_name for known_name in names if lower and known_name.startswith(lower)]
    near = begun or difflib.get_close_matches(lower, names, n=1, cutoff=0.4)
    if listed:
        return UsageError(f"unknown {kind} {name!r:.80}: " + (f"did you mean {near[0]!r}? " if near else "") + listed)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    return UsageError(f"unknown {kind} {name!r:.80}: {hint} {', '.join(names)}")


def not_importable(library: str, module: str, error: ImportError) -> MinimaskError:
    """The error for an array library, by its ``backend=`` name, whose module cannot be imported."""
    package = {"cupy": "cupy-cuda12x or cupy-cuda13x", "strict": "array-api-strict"}[library]
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return MinimaskError(f"backend {library!r} needs the package {package}: pip install it")
    reason = str(error.__cause__ or error).strip().partition("\n")[0]  # CuPy's own text is a page
    return MinimaskError(f"backend {library!r}: {module} is installed but cannot be imported ({reason}); "
                         f"install {package} anew, for the CUDA version of the driver")


def refuse_without_device(xp: Any) -> None:
    """MinimaskError where CuPy, which is imported, finds no GPU."""
    try:
        count, reason = xp.cuda.runtime.getDeviceCount(), "none is visible"
    except Exception as error:  # CuPy's own class, or a missing driver's
        count, reason = 0, str(error)
    if not count:
        raise MinimaskError(f"backend 'cupy' finds no CUDA device ({reason}); use --backend numpy")


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
