"""A file from the net: mirrors in turn, tried again, resumed where it stopped, given up in bounded time.

:func:`download` knows no data set; :mod:`minimask.data.fetch` says what is wanted and from where. Bytes arrive in a
*part*, a file beside the right place that nobody reads as data; only when it is whole and checked may it be renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..errors import MinimaskError
from ..files import AS_IT_IS
from ..meter import Meter
from .connection import Broken, Exchange, Head, Patience, RangeRefused, Refused
from .files import DataError

WORTH_GOING_ON = 256 << 10  # bytes: a try that brought as many new ones was worth it, and starts the count anew


@dataclass(frozen=True)
class Published:
    """A file as its hosts publish it: its name there; its size and sha256, where known; the most bytes it can have."""

    name: str
    size: int | None
    sha256: str | None
    limit: int


def download(wanted: Published, mirrors: Sequence[str], part: Path, check: Callable[[Path], object],
             patience: Patience, meter: Meter) -> None:
    """Gets the file into `part`, whole and checked; goes on where an earlier download into it stopped.

    Args:
        mirrors: addresses that the file's name is appended to, taken in turn.
        check: raises DataError where the content of the whole file is not the right one.

    Raises:
        Refused: no mirror had it; says each one's reason. What arrived so far stays in `part`.
        MinimaskError: `part` cannot be written.
    """
    reasons = []
    for mirror in mirrors:
        try:
            return _from_mirror(mirror + wanted.name, wanted, part, check, patience, meter)
        except Refused as reason:
            reasons.append(f"{urlsplit(mirror).netloc} {reason}")
            meter.say(f"{wanted.name}: {reasons[-1]}")
    raise Refused("; ".join(reasons))


def _from_mirror(url: str, wanted: Published, part: Path, check: Callable[[Path], object], patience: Patience,
                 meter: Meter) -> None:
    """Tries one mirror until the file is whole and right, or Refused."""
    failed, again, furthest = 0, False, size_of(part)
    longest = patience.of_a_mirror(wanted.limit)
    ends = patience.clock() + longest
    while True:
        resumed = size_of(part) > 0
        try:
            if size_of(part) != wanted.size:
                _try(url, wanted, part, patience, meter)
            check_published(part, wanted)
            check(part)
            return
        except DataError as error:
            with writing(part):
                part.unlink()
            if again or not resumed:
                raise Refused(f"sent wrong bytes ({error})") from error
            again, failed, furthest = True, 0, 0  # the fault may be older than this try: once more, from the start
            meter.say(f"{wanted.name}: what had arrived was wrong; once more from the start")
        except Broken as error:
            brought, furthest = size_of(part) - furthest, max(furthest, size_of(part))
            failed = 1 if brought >= WORTH_GOING_ON else failed + 1
            if failed >= patience.tries:
                raise Refused(f"{error}, the last of {failed} tries in a row") from error
            pause = min(max(patience.pause * 2 ** (failed - 1), error.pause), patience.longest_pause)
            if patience.clock() + pause > ends:
                raise Refused(f"{error}, and has had {longest:,.0f} s") from error
            meter.say(f"{wanted.name}: {urlsplit(url).netloc} {error}; again in {pause:.0f} s")
            patience.sleep(pause)


def _try(url: str, wanted: Published, part: Path, patience: Patience, meter: Meter) -> None:
    """One request, for what `part` lacks; what it brings is in `part` afterwards, even if it ends in an exception."""
    asked_from = size_of(part)
    with Exchange(url, asked_from, patience) as answer:
        try:
            head = answer.head()
        except RangeRefused as error:
            _cut(part)
            raise Broken("has not the range asked for; it starts anew") from error
        position = _first_byte(head, asked_from, part)
        promised = None if head.length is None else position + head.length
        whole = wanted.size if wanted.size is not None else promised
        if promised is not None and (promised != whole or promised > wanted.limit):
            needed = f"{wanted.size:,}" if wanted.size is not None else f"at most {wanted.limit:,}"
            raise Refused(f"offers {promised:,} bytes, but {needed} are needed")
        meter.start(wanted.name, whole, position)
        with writing(part), opened(part) as file:
            file.truncate(position)  # an answer without a range starts at 0: nothing of it may land behind old bytes
            file.seek(position)
            for piece in answer.pieces():
                position += len(piece)
                if position > (wanted.limit if whole is None else whole):
                    file.truncate(0)
                    raise Refused(f"sent more than the {wanted.limit if whole is None else whole:,} bytes needed")
                file.write(piece)
                meter.at(position)
    if whole is not None and position < whole:
        raise Broken(f"broke off after {position:,} of {whole:,} bytes")


def _first_byte(head: Head, asked_from: int, part: Path) -> int:
    """Where in the file the content of the answer begins: 0, or where the range asked for does."""
    if head.status == 200:
        return 0
    if head.status != 206:
        raise Refused(f"answered {head.status}")
    found = re.match(r"bytes (\d{1,18})-", head.range)
    if not found or int(found[1]) != asked_from:
        _cut(part)
        raise Broken("answered with another range than the one asked for; it starts anew")
    return asked_from


def check_published(part: Path, wanted: Published) -> None:
    """DataError unless `part` has the size and checksum that the file is published with, as far as these are known."""
    if wanted.sha256 is None:
        return
    with open(part, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if (size_of(part), found) != (wanted.size, wanted.sha256):
        raise DataError(f"sha256 {found} in place of {wanted.sha256}")


def size_of(part: Path) -> int:
    """Bytes that have arrived."""
    return part.stat().st_size if part.exists() else 0


def opened(part: Path) -> IO[bytes]:
    """The part, to read and to write, made where it is not there; MinimaskError where it would lead elsewhere.

    Whoever else can write into the folder could have put a link there, and what is written would land behind it.
    """
    if not part.is_symlink():
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | AS_IT_IS, 0o666)
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            return open(descriptor, "rb+")
        os.close(descriptor)
    raise MinimaskError(f"{part} is a link or no regular file, and nothing is written through it; remove it, and give "
                        "the same command again")


def _cut(part: Path) -> None:
    """Forgets what has arrived."""
    with writing(part), opened(part) as file:
        file.truncate(0)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A failure of this machine's disk is no failure of the net: it ends the download, with a sentence."""
    try:
        yield
    except OSError as error:
        raise MinimaskError(f"{path} cannot be written ({error.strerror or error}); what has arrived is kept, and the "
                            "same command goes on from there") from error


def put(part: Path, target: Path) -> None:
    """Renames a whole and checked part into its place, in one step, its bytes safe from a power cut before."""
    with writing(target):
        with opened(part) as file:
            os.fsync(file.fileno())
        os.replace(part, target)
