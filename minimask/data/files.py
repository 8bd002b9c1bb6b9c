"""The files of the data sets: what each is called, how long it is, which checksum it has; and reading one, sure of it.

What a file must be is known before it is opened, so nothing that it says of itself is believed: no header sets how
much is read, and no packed file is unpacked beyond what it must hold. :mod:`minimask.data.fetch` downloads them.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MinimaskError, UsageError
from ..files import to_read

if TYPE_CHECKING:  # pathlib, gzip and hashlib are imported where files are read: `import minimask` stays quick
    from pathlib import Path

PIECE_BYTES = 1 << 20  # bytes read at once
GZIP = b"\x1f\x8b"  # what a packed file begins with
MOST_LOOKED_AT = 100  # files of a folder, for one that lies there under another name


class DataError(MinimaskError):
    """A data file is missing, damaged or not what its name says; the message tells which, and where to put it."""


class FileState(enum.IntEnum):
    """How a file stands; of several files, the largest is how they stand together."""

    WHOLE = 0
    MISSING = 1
    DAMAGED = 2


@dataclass(frozen=True)
class File:
    """A file of a data set; on disk it lies as `name` or `name`.gz, packed or not: what it begins with decides.

    Attributes:
        name: without .gz.
        elsewhere: folders beside the set's own that it may lie in, too; "" is the one that all sets lie in.
        shape: of its content as bytes, behind the header.
        sha256: of the whole content, decompressed; None where no official one is known.
        header: the bytes that it begins with.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str | None
    header: bytes = b""
    elsewhere: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called: as it was published, or with the dot that some unpackers make of its first dash."""
        return tuple(dict.fromkeys((self.name, self.name.replace("-idx", ".idx"))))

    @property
    def size(self) -> int:
        """Bytes of content, header and all."""
        return len(self.header) + math.prod(self.shape)

    @property
    def packed_size(self) -> int:
        """The most bytes that a .gz of it can sensibly have: what cannot be compressed grows by under a thousandth."""
        return self.size + self.size // 1000 + PIECE_BYTES


@dataclass(frozen=True)
class FileSet:
    """A data set on disk: `files`, the test part's last, in the folder `below` the one that all sets lie in."""

    below: str
    files: tuple[File, ...]

    @property
    def verified(self) -> bool:
        """Whether a file that is whole is known to be the official one; else only its size and header are."""
        return all(file.sha256 is not None for file in self.files)


def idx(name: str, shape: tuple[int, ...], sha256: str | None, elsewhere: tuple[str, ...] = ()) -> File:
    """An IDX file of unsigned bytes: 0, 0, 8, the number of axes, each axis as 4 bytes, the values."""
    return File(name, shape, sha256, bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape),
                elsewhere)


def cifar(name: str, records: int, label_bytes: int, sha256: str | None) -> File:
    """A CIFAR file: records of 1 or 2 label bytes and 3 * 32 * 32 values, and no header."""
    elsewhere = ("",) if label_bytes == 1 else ()  # CIFAR-100's names, train.bin and test.bin, may be anything's
    return File(name, (records, label_bytes + 3072), sha256, elsewhere=elsewhere)


def mnist_files(*sha256: str | None, elsewhere: tuple[str, ...] = ()) -> tuple[File, ...]:
    """MNIST's four files by their checksums; those of Fashion-MNIST have the same names and shapes."""
    return tuple(idx(name, shape, checksum, elsewhere) for (name, shape), checksum in zip((
        ("train-images-idx3-ubyte", (60000, 28, 28)), ("train-labels-idx1-ubyte", (60000,)),
        ("t10k-images-idx3-ubyte", (10000, 28, 28)), ("t10k-labels-idx1-ubyte", (10000,))), sha256))


SETS = {
    "mnist": FileSet("mnist", mnist_files(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", elsewhere=("", "MNIST/raw"))),
    "fashion-mnist": FileSet("fashion-mnist", mnist_files(None, None, None, None, elsewhere=("FashionMNIST/raw",))),
    "cifar10": FileSet("cifar-10-batches-bin", tuple(cifar(name, 10_000, 1, sha256) for name, sha256 in (
        ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b")))),
    "cifar100": FileSet("cifar-100-binary", (
        cifar("train.bin", 50_000, 2, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),
        cifar("test.bin", 10_000, 2, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"))),
}


# ---- where they lie --------------------------------------------------------------------------------------------------


def data_folder(folder: str | Path | None = None, must_exist: bool = True, below: str = "mnist") -> Path:
    """The folder that data sets lie in: the argument, else MINIMASK_DATA; UsageError where it is not to be had.

    Args:
        below: the folder in it that is wanted, for the sentence.
    """
    from pathlib import Path

    named = folder if folder is not None else os.environ.get("MINIMASK_DATA")
    if not named:
        raise UsageError("no data folder: give --data DIR (folder=DIR in Python) or set MINIMASK_DATA=DIR; "
                         f"the files are looked for in DIR/{below}/")
    path = Path(os.path.expanduser(named))
    if not path.is_dir() and (must_exist or path.exists()):
        wrong = "is no folder" if path.exists() else "does not exist"
        raise UsageError(f"the data folder {str(named)!r} {wrong}; give another with --data DIR or MINIMASK_DATA")
    return path


def set_folder(name: str, folder: str | Path | None = None, must_exist: bool = True) -> Path:
    """The folder of data set `name` below that of all sets; UsageError where the set's own was given in its place.

    Unless its files are found there all the same, and nothing is to be put there.
    """
    below = SETS[name].below
    path = data_folder(folder, must_exist, below)
    if path.name == below and not (path / below).exists() and not (
            must_exist and any(places(path / below, file) for file in SETS[name].files)):
        raise UsageError(f"the data folder {str(path)!r} is the data set's own; give the folder above it, "
                         f"{str(path.parent)!r}")
    return path / below


def places(folder: Path, file: File) -> list[Path]:
    """Where `file` lies, the set's own folder first: under its names, packed or not; empty where it is nowhere."""
    folders = [folder, *(folder.parent / other for other in file.elsewhere)]
    try:
        return [path for each in folders for name in file.names for ending in ("", ".gz")
                if (path := each / f"{name}{ending}").is_file()]
    except PermissionError as error:
        raise DataError(f"{error.filename} may not be read ({error.strerror}); allow it") from error


def find(folder: Path, file: File) -> Path | None:
    """The first of the places where the file lies, None where there is none."""
    return next(iter(places(folder, file)), None)


def is_packed(path: Path) -> bool:
    """Whether a file's content is gzip's, whatever its name says: no data file begins so."""
    try:
        with to_read(path) as opened:
            return opened.read(2) == GZIP
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); allow it, or get it again") from error


# ---- reading one -----------------------------------------------------------------------------------------------------


def digest(path: Path, file: File, packed: bool, take: Callable[[bytes], object] | None = None) -> str:
    """The sha256 of the content at `path`, which has the size and the header of `file`.

    Args:
        packed: the content is the decompressed bytes. take: gets the content, piece by piece.

    Raises:
        DataError: it cannot be read, or is shorter, longer or begins otherwise; at most one byte too many is unpacked.
    """
    import hashlib

    found, size, start = hashlib.sha256(), 0, b""
    for piece in _pieces(path, file, packed):
        if size < len(file.header):
            start += piece[:len(file.header) - size]
            if not file.header.startswith(start):
                raise DataError(f"{path}: its header is {start.hex(' ')}, but {file.header.hex(' ')} is needed (IDX, "
                                f"unsigned bytes, shape {file.shape}): {_get_official(file)}")
        size += len(piece)
        if size > file.size:
            raise DataError(f"{path}: more than {file.size:,} {_bytes_needed(file)}")
        found.update(piece)
        if take:
            take(piece)
    if size < file.size:
        raise DataError(f"{path}: {size:,} {_bytes_needed(file)}")
    return found.hexdigest()


def verify(path: Path, file: File, packed: bool) -> None:
    """DataError unless the content at `path` is that of `file`, if that is known (`packed`: see :func:`digest`)."""
    found = digest(path, file, packed)
    if file.sha256 not in (None, found):
        raise DataError(other_content(path, file, found))
    _refuse_another_sets(path, file, found)


def _pieces(path: Path, file: File, packed: bool) -> Iterator[bytes]:
    """The content in pieces, at most one byte more than there should be; a file of impossible size is not opened."""
    import gzip
    import zlib

    try:
        on_disk = path.stat().st_size
        if not packed and on_disk != file.size:
            raise DataError(f"{path}: {on_disk:,} {_bytes_needed(file)}")
        if packed and on_disk > file.packed_size:
            raise DataError(f"{path}: {on_disk:,} bytes are more than a packed {file.name} has: {_get_official(file)}")
        left = file.size + 1  # one more than is needed: tells a longer file, and stops a bomb
        with to_read(path) as file_on_disk:
            opened: Any = gzip.GzipFile(fileobj=file_on_disk) if packed else file_on_disk
            while left and (piece := opened.read(min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece
    except PermissionError as error:
        raise DataError(f"{error.filename} may not be read ({error.strerror}); allow it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): it is truncated or no gzip file; get it again") from error


def read(folder: Path, name: str, file: File, allow_unverified: bool) -> tuple[np.ndarray, bool]:
    """The content of `file` of data set `name` in `folder`: a uint8 array of `file.shape`, and whether its sha256 fits.

    Raises as read_rows does.
    """
    content = np.empty(file.shape, np.uint8)
    rows = content.reshape(file.shape[0], -1)

    def take(piece: np.ndarray, first: int) -> None:
        rows[first:first + len(piece)] = piece

    return content, read_rows(folder, name, file, allow_unverified, take)


def read_rows(folder: Path, name: str, file: File, allow_unverified: bool,
              take: Callable[[np.ndarray, int], object]) -> bool:
    """Gives the content of `file` behind its header to `take`, row after row; returns whether its sha256 fits.

    Where the file lies there more than once, the first counts that is whole. With `allow_unverified` another sha256 is
    let pass.

    Args:
        take: gets (some rows, bytes in a row) of uint8, a megabyte or so at a time, and the number of the first of
            them, in order; from row 0 again where another file takes the place of a damaged one. What it makes of them
            is good only when this returns: a file is known to be the right one at its end.

    Raises DataError if there is none, or none is whole.
    """
    paths, faults, other = places(folder, file), list[str](), None
    if not paths:
        raise DataError(f"{missing(folder, file)}, or let `minimask data fetch {name} --data {folder.parent}` get it")
    for path in paths:
        try:
            found = _rows(path, file, take)
            _refuse_another_sets(path, file, found)
        except DataError as error:
            faults.append(str(error))
            continue
        if file.sha256 in (None, found):
            return True
        faults.append(f"{other_content(path, file, found)}, or take it as it is with --allow-unverified "
                      "(allow_unverified=True in Python)")
        other = path if other is None else other
    if other is None or not allow_unverified:
        raise DataError(_together(faults, paths))
    if other != paths[-1]:  # what was read after it has taken its place
        _rows(other, file, take)
    return False


def _rows(path: Path, file: File, take: Callable[[np.ndarray, int], object]) -> str:
    """The sha256 of the content at `path`, whose rows go to `take`; raises as digest does."""
    row, waiting, header, first = math.prod(file.shape[1:]), bytearray(), len(file.header), 0

    def pieces(piece: bytes) -> None:
        nonlocal header, first
        waiting.extend(piece)
        skipped, header = min(header, len(waiting)), max(header - len(waiting), 0)
        whole = skipped + (len(waiting) - skipped) // row * row
        rows = np.frombuffer(bytes(waiting[skipped:whole]), np.uint8).reshape(-1, row)
        take(rows, first)
        first += len(rows)
        del waiting[:whole]

    return digest(path, file, is_packed(path), pieces)


def _refuse_another_sets(path: Path, file: File, found: str) -> None:
    """DataError where no checksum of a file is known, but the sha256 of what lies there is that of another set's."""
    for name, each in SETS.items():
        if file.sha256 is None and any(other.sha256 == found for other in each.files):
            raise DataError(f"{path} is a file of {name}, not the one of that name which is needed")


def _together(faults: list[str], paths: list[Path]) -> str:
    """The fault of the first place, and that the others are no better."""
    return faults[0] + (f" (nor will do {', '.join(map(str, paths[1:]))})" if paths[1:] else "")


def state(folder: Path, file: File) -> tuple[FileState, str]:
    """How `file` stands in `folder`, and a sentence on what is wrong with it, "" where nothing is."""
    faults = []
    try:
        paths = places(folder, file)
        for path in paths:
            try:
                verify(path, file, is_packed(path))
                return FileState.WHOLE, ""
            except DataError as error:
                faults.append(str(error))
    except DataError as error:  # of the folder
        return FileState.DAMAGED, str(error)
    return (FileState.DAMAGED, _together(faults, paths)) if faults else (FileState.MISSING, missing(folder, file))


def missing(folder: Path, file: File) -> str:
    """The sentence for a file that is not there: which one, and where to put it."""
    checksum = f" (sha256 of its content: {file.sha256})" if file.sha256 else ""
    alike = _alike(folder, file)
    return (f"{file.name} is missing: put {file.name} or {file.name}.gz into {folder}{checksum}"
            + (f"; {alike} begins as it does: if that is it, name it so" if alike else ""))


def _alike(folder: Path, file: File) -> Path | None:
    """A file of another name, in the folder or the one above, that begins as `file` must, packed or not."""
    if not file.header:
        return None
    with contextlib.suppress(OSError, DataError):
        for each in (folder, folder.parent):
            names = sorted(os.listdir(each))[:MOST_LOOKED_AT] if each.is_dir() else []
            for path in (each / name for name in names if name[0] != "."):
                if path.is_file() and _beginning(path, len(file.header)) == file.header:
                    return path
    return None


def _beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file's content, unpacked; none where it cannot be unpacked."""
    import zlib

    with to_read(path) as opened:
        start = opened.read(1024)
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(31).decompress(start, count) if start.startswith(GZIP) else start[:count]
    return b""


def other_content(path: Path, file: File, found: str) -> str:
    """The sentence for a file of the right size with another checksum than the official one."""
    return (f"{path}: expected sha256 {file.sha256} of its content, found {found}: "
            f"it is damaged or another file; {_get_official(file)}")


def _bytes_needed(file: File) -> str:
    checksum = f" (with sha256 {file.sha256})" if file.sha256 else ""
    return (f"bytes of content, but {file.size:,} are needed{checksum}: it is truncated or another file; "
            f"{_get_official(file)}")


def _get_official(file: File) -> str:
    return f"put the official {file.name} there"
