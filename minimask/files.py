"""Files that are never half there, ``.npz`` files that are checked before they are believed, folders for one process.

Writing: beside the file, then renamed into its place. Reading an ``.npz``: every header is held to what is needed
before memory is taken, and nothing is unpickled. Locks: the operating system's, so that a crash leaves none behind.

A folder may have been made by someone else, and links may be planted in it. So whatever is written here is a new file
under a name that nobody can know before, or a regular file with no other name: nothing outside the folder changes.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from .errors import MinimaskError, UsageError

if TYPE_CHECKING:  # imported where it is used: `import minimask` stays quick
    from pathlib import Path
    from zipfile import ZipFile, ZipInfo

Header = tuple[str, tuple[int, ...]]  # dtype (as in dtype.str) and shape of an array


class InUse(MinimaskError):
    """Another process or thread has a folder's lock."""


class WriteError(MinimaskError):
    """A file cannot be written: no space left, no permission. What was there before is untouched."""


# ---- writing -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomically(path: Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """A file to write into, which takes the place of `path` when the block ends well; else `path` stays as it was.

    A link at `path` is replaced, not followed. What a killed process left of an earlier try is removed.

    Args:
        durable: wait until the disk has it, so that not even a power cut leaves less than the old file or the new.

    Raises WriteError where that fails.
    """
    try:
        _remove_left_over(path)
        descriptor, temporary = _new_beside(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                if os.name != "nt":
                    os.replace(temporary, path)  # while it is locked, or another process could take it for left over
            if os.name == "nt":
                os.replace(temporary, path)  # where no open file can be renamed
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path} cannot be written ({reason}); what was there is untouched") from error


#: With these a file is opened as it is, or not at all: no link is followed, no pipe is waited for.
AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
#: How the name of a file ends that is being written.
NEW = ".new"


def _beginning(path: Path) -> str:
    """Of the names of the files that are written beside `path` to take its place."""
    return f".{path.name[:50]}."


def _new_beside(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked as long as it is open, under a name that cannot be known before."""
    while True:
        temporary = path.with_name(f"{_beginning(path)}{os.urandom(8).hex()}{NEW}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | AS_IT_IS, 0o666)
        if _lock(descriptor) is not False and _lies_at(descriptor, temporary):
            return descriptor, temporary
        os.close(descriptor)  # another process took it for what a killed one had left


def _remove_left_over(path: Path) -> None:
    """Removes what killed processes left beside `path` of trying to write it; what is being written is locked."""
    ours = re.compile(re.escape(_beginning(path)) + r"[0-9a-f]{16}" + re.escape(NEW))
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for left in [entry.path for entry in entries if ours.fullmatch(entry.name)]:
            descriptor = os.open(left, os.O_RDWR | AS_IT_IS)
            try:
                if _lock(descriptor):
                    os.unlink(left)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether the open file is locked for us now; None where the system or its file system knows no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _lies_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has this name, itself and not by a link."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def _sync_folder(folder: Path) -> None:
    """Makes a rename in the folder last, where the system and its file system can."""
    with contextlib.suppress(OSError):  # Windows opens no folder, and the rename itself has been done
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write(path: Path, content: bytes) -> None:
    """Writes a file in one go; WriteError where that fails."""
    with atomically(path) as file:
        file.write(content)


def mark(path: Path) -> None:
    """Makes an empty file, unless there is something of its name already, which stays as it is."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | AS_IT_IS, 0o666))


def claim(folder: Path, what: str, way_out: str, names: Iterable[str] | None = None,
          ours: Callable[[Path], bool] = lambda path: False) -> list[Path]:
    """What is in a folder of the files that something is to be written over; nothing is touched.

    Args:
        what: those are that would be lost. way_out: what to do then. Both are for the sentence.
        names: of the files that will be written; None for whatever does not begin with a dot.
        ours: whether a file may go.

    Raises UsageError where the folder is a file, or holds one that may not go.
    """
    try:
        listed = [path for path in folder.iterdir() if path.name[0] != "."] if folder.exists() else []
        there = sorted(listed) if names is None else [folder / name for name in names if (folder / name).exists()]
        lost = [path.name for path in there if not ours(path)]
    except NotADirectoryError as error:
        raise UsageError(f"{folder} is a file; {way_out}") from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}); {way_out}") from error
    if lost:
        raise UsageError(f"{folder} holds {what} ({', '.join(lost[:6])}{', ...' * (len(lost) > 6)}); {way_out}")
    return there


def begins_with(path: Path, sign: str) -> bool:
    """Whether a text, such as a page that minimask makes, has the sign of its maker near its beginning."""
    if not path.exists():
        return False
    with to_read(path) as file:
        return sign in file.read(600).decode("utf-8", errors="replace")


def write_arrays(archive: ZipFile, arrays: Mapping[str, np.ndarray]) -> None:
    """Every array as a member NAME.npy, in NumPy's format 1.0, compressed as the archive is set up."""
    import zipfile

    for name, array in arrays.items():
        text = _npy_text(array.dtype.str, array.shape).encode()
        text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"  # data begin at a multiple of 64
        info = zipfile.ZipInfo(f"{name}.npy")  # its date is a constant: the same arrays, the same file
        info.compress_type, info.file_size = archive.compression, 10 + len(text) + array.nbytes
        with archive.open(info, "w") as member:
            member.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
            member.write(raw(array))


def _npy_text(dtype: str, shape: tuple[int, ...], fortran: bool = False) -> str:
    return f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"


#: What _npy_text gives for numbers and booleans, whatever their dtype and shape are.
NPY_TEXT = re.compile(r"\{'descr': '([<>|](?:[iu][1248]|f[248]|b1))', 'fortran_order': (True|False), "
                      r"'shape': \(((?:\d+, )*\d+|\d+,|)\), \}")


def headers(arrays: Mapping[str, np.ndarray]) -> dict[str, Header]:
    """dtype and shape of every array, by name."""
    return {name: (array.dtype.str, array.shape) for name, array in arrays.items()}


def raw(array: np.ndarray) -> memoryview:
    """The array's bytes in row-major order, without a copy where it lies so already."""
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data


# ---- reading -------------------------------------------------------------------------------------------------------


def to_read(path: str | Path) -> IO[bytes]:
    """A file, opened to be read. OSError for a pipe or a device, which may have no end, and as open() raises it."""
    descriptor = os.open(path, os.O_RDONLY | (AS_IT_IS & ~getattr(os, "O_NOFOLLOW", 0)))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, "it is a folder" if code == errno.EISDIR else "it is a pipe or a device", str(path))
    return os.fdopen(descriptor, "rb")


def read_arrays(path: str | Path, needed: Mapping[str, Header], others: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, compressed or not, that holds exactly these names, dtypes and shapes, all finite.

    others: it may hold more, which is not read.

    Raises MinimaskError for anything else, before more memory is taken than `needed` says.
    """
    with opened(path) as (archive, _):
        found = members(archive, None if others else {f"{name}.npy" for name in needed})
        missing = sorted(name for name in needed if f"{name}.npy" not in found)
        if missing:
            raise ValueError(f"missing members: {', '.join(missing[:3])}")
        arrays = {name: read_array(archive, found[f"{name}.npy"], header) for name, header in needed.items()}
    refuse_not_finite(path, arrays)
    return arrays


def some_arrays(path: str | Path, names: Sequence[str], most: int) -> dict[str, np.ndarray]:
    """Those of the named arrays that an ``.npz`` holds, together of `most` bytes, all finite; MinimaskError."""
    with opened(path) as (archive, _):
        members_there = members(archive, None)
        chosen = {name: members_there[f"{name}.npy"] for name in names if f"{name}.npy" in members_there}
        if sum(info.file_size for info in chosen.values()) > most:
            raise ValueError(f"it promises more than {most:,} bytes")
        arrays = {name: read_any_array(archive, info) for name, info in chosen.items()}
    refuse_not_finite(path, arrays)
    return arrays


def refuse_not_finite(where: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """MinimaskError that names the first array with NaN or infinity in it."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise MinimaskError(f"{where}: {name} holds NaN or infinity")


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[tuple[ZipFile, int]]:
    """The file as a ZIP archive, and its size in bytes; what is wrong with it, or in it, becomes a MinimaskError."""
    import struct
    import zipfile
    import zlib

    try:
        with to_read(path) as file, zipfile.ZipFile(file) as archive:
            yield archive, os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise UsageError(f"there is no {path}; begin without resuming, or name the file that is meant") from error
    except (OSError, EOFError, ValueError, KeyError, OverflowError, RuntimeError, struct.error, zlib.error,
            zipfile.BadZipFile) as error:  # what zipfile and json raise on files that are not what they should be
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise MinimaskError(f"{path} cannot be read ({reason:.200}); it is damaged or another kind of "
                            "file: put back a copy of it, or begin anew") from error


def members(archive: ZipFile, names: set[str] | None, size: int | None = None) -> dict[str, ZipInfo]:
    """The archive's members by name. ValueError unless they are exactly `names`, each once, and fit into `size` bytes.

    Args:
        names: None for any that end in ``.npy``.
        size: of the file, where nothing may be compressed; None for an archive that may be.
    """
    found = archive.infolist()
    listed = [info.filename for info in found]
    if len(set(listed)) < len(listed):
        raise ValueError("it has two members of one name")
    if names is None:
        names = {name for name in listed if name.endswith(".npy")}
    if set(listed) != names:
        raise ValueError(f"missing members: {_few(names - set(listed))}; unknown ones: {_few(set(listed) - names)}")
    for info in found:
        if info.compress_type not in ((0,) if size is not None else (0, 8)) or info.flag_bits & 1:
            raise ValueError(f"{info.filename} is compressed or encrypted in another way than minimask's")
    if size is not None and sum(info.file_size for info in found) > size:
        raise ValueError(f"its members promise {sum(info.file_size for info in found):,} bytes, "
                         f"but the whole file has {size:,}")
    return {info.filename: info for info in found}


def _few(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (" ..." if len(names) > 3 else "") if names else "none"


def read_array(archive: ZipFile, info: ZipInfo, header: Header, fortran: bool = False) -> np.ndarray:
    """The array in a member; ValueError unless its header says exactly what is promised and its size agrees.

    Args:
        fortran: whether its columns lie one after the other, not its rows.
    """
    dtype, shape = header
    with archive.open(info) as member:
        text, length = _npy_header(member)
        if text != _npy_text(dtype, shape, fortran).encode():
            raise ValueError(f"{info.filename} says {text[:120]!r}, but {dtype} {shape} is needed")
        nbytes = int(dtype[2:]) * math.prod(shape)  # Python integers: no overflow
        needed = length + nbytes
        if info.file_size != needed:
            raise ValueError(f"{info.filename} promises {info.file_size:,} bytes, but {needed:,} are needed")
        content = exactly(member, nbytes)
        if member.read(1):  # this also makes zipfile compare the checksum
            raise ValueError(f"{info.filename} goes on after its array")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def read_any_array(archive: ZipFile, info: ZipInfo) -> np.ndarray:
    """The array in a member, of whatever numbers or booleans, shape and order; ValueError where it is damaged."""
    with archive.open(info) as member:
        text = _npy_header(member)[0].decode("latin-1")
    said = NPY_TEXT.fullmatch(text)
    if said is None:
        raise ValueError(f"{info.filename} says {text[:120]!r}, which is no array of numbers")
    dtype, order, sizes = said.groups()
    shape = tuple(int(size) for size in sizes.split(",") if size)
    return read_array(archive, info, (dtype, shape), order == "True")


def _npy_header(member: IO[bytes]) -> tuple[bytes, int]:
    """The text at the beginning of an array in NumPy's format 1.0, and how many bytes it takes with all around it."""
    start = exactly(member, 10)  # magic, version 1.0, and the length of the text that follows
    if start[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError(f"a member begins with {start[:8]!r}, which is no array in NumPy's format 1.0")
    length = int.from_bytes(start[8:], "little")
    return exactly(member, length).rstrip(), 10 + length


def exactly(member: IO[bytes], count: int) -> bytes:
    """The next `count` bytes; ValueError where there are fewer."""
    content = member.read(count)
    if len(content) != count:
        raise ValueError(f"a member ends after {len(content):,} bytes of {count:,}")
    return content


# ---- folders -------------------------------------------------------------------------------------------------------

_held: set[tuple[str, int]] = set()  # folder and thread of every lock in this process: a second one passes


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder, and keeps every other process out of it until the block ends (those that ask here, too).

    The lock is the operating system's, on a file in the folder: it ends with the process, whatever ends that. Inside
    the block the same thread may ask again. Where Python has no fcntl (Windows) nobody is kept out.

    Raises:
        InUse: another process, or thread, has the folder.
        UsageError: the folder cannot be made or written to.
    """
    key = str(folder.resolve()), threading.get_ident()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if key not in _held:
                stack.enter_context(held(folder / LOCK))
                _held.add(key)
                stack.callback(_held.discard, key)
        except BlockingIOError as error:
            raise InUse(f"{folder} is in use by another run (process {error}); wait until it has ended, or "
                        "give another folder with --out") from None
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{folder} is a file or lies under one; give a folder with --out") from error
        except OSError as error:
            raise UsageError(f"{folder} cannot be written to ({error.strerror}); give another folder with "
                             "--out") from error
        yield


#: The file that a lock is on, while a run is under way.
LOCK = ".lock"


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds a lock on file `path`, which is there for that alone and goes with it, until the block ends.

    Raises BlockingIOError, which says whose process has it, where another holds it. Where Python (on Windows) or the
    file system knows no such locks, nobody is kept out.
    """
    descriptor = _locked_descriptor(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # first: whoever waits for this file sees that it is no longer the one to lock
            os.close(descriptor)


def _locked_descriptor(path: Path) -> int | None:
    """Of the file, locked and with our process's number in it; None where there are no locks."""
    while True:
        descriptor, holder = _opened_lock(path)
        locked = _lock(descriptor)
        if locked and _lies_at(descriptor, path):  # and not one that its holder has just removed
            with contextlib.suppress(OSError):  # of a full disk: the number is only for a sentence
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)
        if locked is False:
            raise BlockingIOError(holder or "unknown")
        if locked is None:
            path.unlink(missing_ok=True)
            return None


def _opened_lock(path: Path) -> tuple[int, str]:
    """The file of a lock, made where there is none, and the number in it of the process that holds it.

    OSError where something else stands there, a link for one: it may be anybody's, so it is neither followed nor
    written to.
    """
    other = OSError(errno.EPERM, f"its {path.name} is a link, or else no lock of minimask's: move it away")
    if path.is_symlink():  # O_NOFOLLOW says so too, but not on every system
        raise other
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | AS_IT_IS, 0o666)
    status = os.fstat(descriptor)
    holder = os.read(descriptor, 20) if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1 else b"?"
    if holder.strip(b"0123456789"):
        os.close(descriptor)
        raise other
    return descriptor, holder.decode()


def own_folder(folder: Path, name: str) -> Path:
    """The folder of that name in `folder`, to be written to; UsageError for a link on the way, which may lead anywhere.
    """
    import pathlib

    path = folder
    for part in pathlib.PurePath(name).parts:
        path /= part
        if path.is_symlink():
            raise UsageError(f"{path} is a link, and what it leads to is another folder's; remove it, or name another "
                             "place where the files shall go")
    return path
