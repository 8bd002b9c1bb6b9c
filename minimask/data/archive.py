"""Taking the files of a data set out of its .tar.gz, and nothing else: no links, no paths, no bombs."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .download import opened, put, writing
from .files import PIECE_BYTES, DataError, File, FileSet, verify

MOST_MEMBERS = 1000  # of an archive


def extract(archive: Path, files: FileSet, wanted: Sequence[File], folder: Path) -> None:
    """Takes the wanted ones of a set's files, and nothing else, out of its .tar.gz into `folder`; all or none.

    A member counts if it is called exactly as it should be; names in the archive never become paths here.

    Raises:
        DataError: a file is missing, there twice, no regular file (a link, say) or not the right one, the archive is
            damaged, or holds much more than the files.
    """
    expected = {f"{files.below}/{file.name}": file for file in wanted}
    parts: dict[str, Path] = {}
    try:
        _take_all(archive, sum(file.size for file in files.files) + PIECE_BYTES, expected, parts, folder)
        if len(parts) < len(expected):
            raise DataError(f"{archive} lacks {', '.join(name for name in expected if name not in parts)}")
        for name, part in parts.items():
            put(part, folder / expected[name].name)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _take_all(archive: Path, limit: int, expected: Mapping[str, File], parts: dict[str, Path], folder: Path) -> None:
    """The members that are expected, as :func:`_take`; no more than `limit` bytes are unpacked."""
    try:
        with gzip.open(archive) as unpacked:
            bounded: Any = _Bounded(unpacked, archive, limit)
            tar = tarfile.open(fileobj=bounded, mode="r|")  # a stream: members are taken as they come
            for count, member in enumerate(tar):
                if count >= MOST_MEMBERS:
                    raise DataError(f"{archive} holds more than {MOST_MEMBERS:,} members: it is not the right one")
                if member.name in expected:
                    _take(archive, tar, member, expected[member.name], parts, folder)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}): it is damaged or no .tar.gz") from error


def _take(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, file: File, parts: dict[str, Path],
          folder: Path) -> None:
    """One member into a temporary file in `folder`, checked; it is entered in `parts`."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise DataError(f"{archive}: {member.name} is a link or the like, but must be a regular file")
    if member.size != file.size or member.name in parts:
        raise DataError(f"{archive}: {member.name} has {member.size:,} bytes, but {file.size:,} are needed, once")
    part = parts[member.name] = folder / f".{file.name}.part"
    content: Any = tar.extractfile(member)
    with writing(part):
        out = opened(part)
        out.truncate(0)
    with out:
        while piece := content.read(PIECE_BYTES):
            with writing(part):  # and not around the loop: reading fails with an OSError, too
                out.write(piece)
                out.flush()
    verify(part, file, packed=False)


class _Bounded:
    """A stream that ends with a DataError behind `limit` bytes: an archive that unpacks to more is a bomb."""

    def __init__(self, stream: Any, archive: Path, limit: int):
        self.stream, self.archive, self.left = stream, archive, limit

    def read(self, size: int) -> bytes:
        piece = self.stream.read(size)
        self.left -= len(piece)
        if self.left < 0:
            raise DataError(f"{self.archive} unpacks to more than its files can have: it is not the right one")
        return piece
