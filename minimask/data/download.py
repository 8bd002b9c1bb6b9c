"""A file from the net: mirrors in turn, tried again, resumed where it stopped, given up in bounded time.

:func:`download` knows no data set; :mod:`minimask.data.fetch` says what is wanted and from where. Bytes arrive in a
*part*, a file beside the right place that nobody reads as data; only when it is whole and checked may it be renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import MinimaskError
from ..meter import Meter
from .files import PIECE_BYTES, DataError

WORTH_GOING_ON = 256 << 10  # bytes: a try that brought as many new ones was worth it, and starts the count anew
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # statuses that may be another one in a moment


@dataclass(frozen=True)
class Published:
    """A file as its hosts publish it: its name there; its size and sha256, where known; the most bytes it can have."""

    name: str
    size: int | None
    sha256: str | None
    limit: int


@dataclass(frozen=True)
class Patience:
    """How long a download goes on trying; times in seconds.

    Attributes:
        tries: in a row, at one mirror, that bring next to nothing new.
        pause: before the second try; doubled with every further one, up to `longest_pause`.
        timeout: without a single byte.
        window, slowest: a connection that brings fewer than `slowest` bytes per second over a `window` is ended.
        clock, sleep: tell the time and wait.
    """

    tries: int = 5
    pause: float = 1.0
    longest_pause: float = 60.0
    timeout: float = 30.0
    window: float = 60.0
    slowest: float = 1000.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


class Refused(Exception):
    """A mirror that has not what is wanted, or was given up; the next one may have it."""


class Broken(Exception):
    """A try that failed and may succeed when repeated, after `pause` seconds if the server named them."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause


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
            meter.say(f"{wanted.name}: {urlsplit(url).netloc} {error}; again in {pause:.0f} s")
            patience.sleep(pause)


def _try(url: str, wanted: Published, part: Path, patience: Patience, meter: Meter) -> None:
    """One request, for what `part` lacks; what it brings is in `part` afterwards, even if it ends in an exception."""
    asked_from = size_of(part)
    request = urllib.request.Request(url, headers={"User-Agent": "minimask", "Accept-Encoding": "identity"})
    if asked_from:
        request.add_header("Range", f"bytes={asked_from}-")
    try:
        with _network():
            answer = _opener(patience).open(request, timeout=patience.timeout)
    except _RangeRefused as error:
        _cut(part)
        raise Broken("has not the range asked for; it starts anew") from error
    with answer:
        position = _first_byte(answer, asked_from, part)
        promised = None if answer.length is None else position + answer.length
        whole = wanted.size if wanted.size is not None else promised
        if promised is not None and (promised != whole or promised > wanted.limit):
            needed = f"{wanted.size:,}" if wanted.size is not None else f"at most {wanted.limit:,}"
            raise Refused(f"offers {promised:,} bytes, but {needed} are needed")
        meter.start(wanted.name, whole, position)
        with writing(part), open(part, "r+b" if part.exists() else "xb") as file:
            file.truncate(position)  # an answer without a range starts at 0: nothing of it may land behind old bytes
            file.seek(position)
            for piece in _pieces(answer):
                position += len(piece)
                if position > (wanted.limit if whole is None else whole):
                    file.truncate(0)
                    raise Refused(f"sent more than the {wanted.limit if whole is None else whole:,} bytes needed")
                file.write(piece)
                meter.at(position)
    if whole is not None and position < whole:
        raise Broken(f"broke off after {position:,} of {whole:,} bytes")


def _first_byte(answer: Any, asked_from: int, part: Path) -> int:
    """Where in the file the body of the answer begins: 0, or where the range asked for does."""
    if answer.status == 200:
        return 0
    if answer.status != 206:
        raise Refused(f"answered {answer.status}")
    found = re.match(r"bytes (\d{1,18})-", answer.headers.get("Content-Range", ""))
    if not found or int(found[1]) != asked_from:
        _cut(part)
        raise Broken("answered with another range than the one asked for; it starts anew")
    return asked_from


def _pieces(answer: Any) -> Iterator[bytes]:
    """The body as it arrives."""
    while True:
        with _network():
            piece = answer.read1(PIECE_BYTES)  # never waits for more than what is there
        if not piece:
            return
        yield piece


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


def _cut(part: Path) -> None:
    """Forgets what has arrived."""
    with writing(part):
        part.write_bytes(b"")


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
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)


# ---- the connection --------------------------------------------------------------------------------------------------


class _RangeRefused(Exception):
    """Status 416: the file there ends before the range asked for begins."""


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Whatever a connection or a server does wrong, as Refused or Broken. Words of the server's are not repeated."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        said = f"answered {error.code} ({http.client.responses.get(error.code, 'no known status')})"
        if error.code == 416:
            raise _RangeRefused from error
        if 300 <= error.code < 400:
            raise Refused(f"{said}: it redirects in a circle or to where nothing can be fetched from") from error
        if error.code not in TRY_AGAIN:
            raise Refused(said) from error
        after = error.headers.get("Retry-After", "") if error.headers else ""
        raise Broken(said, float(after) if re.fullmatch(r"\d{1,9}", after) else 0.0) from error
    except TimeoutError as error:
        raise Broken(f"was too slow ({error})") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)  # urllib wraps what happens before an answer
        slow = isinstance(reason, TimeoutError)
        raise Broken(f"was too slow ({reason})" if slow else f"failed ({_printable(reason)})") from error


def _printable(reason: object) -> str:
    """One line without control characters: what a server sent may be in it."""
    return "".join(c if c.isprintable() else "?" for c in str(reason))[:200] or type(reason).__name__


class _Paced(io.RawIOBase):
    """Every byte of a connection passes here, status line and headers too; TimeoutError when they are too few.

    The time-out of a socket alone is no protection: a byte now and then is enough for it.
    """

    def __init__(self, raw: Any, patience: Patience):
        self.raw, self.patience = raw, patience
        self.since, self.count = patience.clock(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self.raw.readinto(buffer)
        self.count += count or 0
        passed = self.patience.clock() - self.since
        if count and passed >= self.patience.window:
            if self.count < self.patience.slowest * passed:
                raise TimeoutError(f"{self.count:,} bytes in {passed:.0f} s")
            self.since, self.count = self.since + passed, 0
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


def _opener(patience: Patience) -> urllib.request.OpenerDirector:
    """Opens http and https addresses and nothing else, over proxies where the environment names them."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: Any, *rest: Any, **more: Any):
            super().__init__(sock, *rest, **more)
            stream: Any = self.fp
            self.fp = io.BufferedReader(_Paced(stream.detach(), patience))

    class Paced(urllib.request.AbstractHTTPHandler):
        def do_open(self, http_class: Any, *arguments: Any, **settings: Any) -> Any:
            def connection(*where: Any, **how: Any) -> Any:
                made = http_class(*where, **how)
                made.response_class = Answer
                return made

            return super().do_open(connection, *arguments, **settings)

    class Http(Paced, urllib.request.HTTPHandler):
        pass

    class Https(Paced, urllib.request.HTTPSHandler):
        pass

    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), Http(), Https(), urllib.request.HTTPDefaultErrorHandler(),
                    urllib.request.HTTPRedirectHandler(), urllib.request.HTTPErrorProcessor(),
                    urllib.request.UnknownHandler()):
        opener.add_handler(handler)
    return opener
