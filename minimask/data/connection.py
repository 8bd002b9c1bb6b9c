"""One request over http or https and its answer, within bounds: whatever a server sends, it is left in time.

The standard library's client bounds a single read and a single line, but neither their number nor the time of the
whole: interim answers, a redirect's body, the headers of a proxy and the trailers of a chunked body may go on without
end. So it is bounded from outside. It runs in a thread that is left when time is up, wherever it may be waiting; each
byte is counted before the client sees it; and what is quick enough is judged by the content alone.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # statuses that may be another one in a moment
#: Bytes that an answer may have beside its content, and as many again as its content has: status lines, headers,
#: redirects, what a proxy says, chunk sizes and trailers, all together; and what was read ahead.
MOST_BESIDE = 256 << 10
READ_BYTES = 64 << 10  # of content at once
WAITING = 4  # pieces that are read ahead of whoever takes them


@dataclass(frozen=True)
class Patience:
    """How long a download goes on trying; times in seconds.

    Attributes:
        tries: in a row, at one mirror, that bring next to nothing new.
        pause: before the second try; doubled with every further one, up to `longest_pause`.
        timeout: without a single byte.
        head: until the content begins: names looked up, connections, redirects and headers together.
        window, slowest: an answer that brings fewer than `slowest` bytes of content per second over a `window` is left.
        clock, sleep: tell the time and wait.
    """

    tries: int = 5
    pause: float = 1.0
    longest_pause: float = 60.0
    timeout: float = 30.0
    head: float = 60.0
    window: float = 60.0
    slowest: float = 5000.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep

    def of_a_try(self, size: int) -> float:
        """The most seconds that a try for `size` bytes can last: what is slower is left before."""
        return self.head + self.window + size / self.slowest

    def of_a_mirror(self, size: int) -> float:
        """The seconds after which a mirror that has still not brought `size` bytes, in however many tries, is left."""
        return 2 * self.of_a_try(size) + self.tries * self.longest_pause


class Refused(Exception):
    """A mirror that has not what is wanted, or was given up; the next one may have it."""


class Broken(Exception):
    """A try that failed and may succeed when repeated, after `pause` seconds if the server named them."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause


class RangeRefused(Exception):
    """Status 416: the file there ends before the range asked for begins."""


class Head(NamedTuple):
    """What an answer says before its content: its status, the content's length where it is known, the range sent."""

    status: int
    length: int | None
    range: str


class Exchange:
    """A request for the bytes of `url` from `start` on, and its answer: first :attr:`head`, then :meth:`pieces`.

    A context manager: the connection is given up when the block ends, at once, whatever it is doing.

    Raises (all of it): Refused, Broken or RangeRefused for whatever a connection or a server does wrong.
    """

    def __init__(self, url: str, start: int, patience: Patience):
        self.patience = patience
        self._arrived: queue.Queue[Any] = queue.Queue(WAITING)  # the Head, pieces, b"" at the end; or an exception
        self._line = _Line()
        request = urllib.request.Request(url, headers={"User-Agent": "minimask", "Accept-Encoding": "identity"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        # A daemon: not even a name server that never answers keeps the process from ending.
        threading.Thread(target=self._read, args=(request,), name="minimask download", daemon=True).start()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.cut()
        with contextlib.suppress(queue.Empty):
            while True:  # a reader that waits for room goes on, finds the line cut, and ends
                self._arrived.get_nowait()

    def head(self) -> Head:
        """Waits for it."""
        head: Head | None = self._next(self.patience.head)
        if head is None:
            raise Broken(f"was too slow (nothing of the file after {self.patience.head:g} s)")
        return head

    def pieces(self) -> Iterator[bytes]:
        """The content as it arrives."""
        patience = self.patience
        since, brought = patience.clock(), 0
        while True:
            piece: bytes | None = self._next(since + patience.window - patience.clock())
            brought += len(piece or b"")
            passed = patience.clock() - since
            if piece != b"" and passed >= patience.window:
                if brought < patience.slowest * passed:
                    raise Broken(f"was too slow ({brought:,} bytes of content in {passed:.0f} s)")
                since, brought = since + passed, 0
            if piece:
                yield piece
            elif piece is not None:
                return

    def _next(self, seconds: float) -> Any:
        """What the reader brings next; None if nothing comes in time."""
        try:
            item = self._arrived.get(timeout=max(seconds, 0))
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def _read(self, request: urllib.request.Request) -> None:
        """The reader's thread, from end to end."""
        try:
            with _network(), _opener(self._line).open(request, timeout=self.patience.timeout) as answer:
                self._arrived.put(Head(answer.status, answer.length, answer.headers.get("Content-Range", "")))
                while piece := answer.read1(READ_BYTES):  # never waits for more than what is there
                    self._line.content += len(piece)
                    self._arrived.put(piece)
            self._arrived.put(b"")
        except Exception as error:
            self._arrived.put(error)


# ---- what the client can do wrong ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Whatever a connection or a server does wrong, as Refused or Broken. Words of the server's are not repeated."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()  # what else it says is not read
        said = f"answered {error.code} ({http.client.responses.get(error.code, 'no known status')})"
        if error.code == 416:
            raise RangeRefused from error
        if 300 <= error.code < 400:
            raise Refused(f"{said}: it redirects in a circle or to where nothing can be fetched from") from error
        if error.code not in TRY_AGAIN:
            raise Refused(said) from error
        after = error.headers.get("Retry-After", "") if error.headers else ""
        raise Broken(said, float(after) if re.fullmatch(r"\d{1,9}", after) else 0.0) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)  # urllib wraps what happens before an answer
        if hasattr(reason, "verify_message"):  # an ssl.SSLCertVerificationError, on a Python that has ssl
            raise Refused("shows a certificate that does not prove who it is "
                          f"({_printable(reason.verify_message)})") from error
        slow = isinstance(reason, TimeoutError)
        raise Broken(f"was too slow ({reason})" if slow else f"failed ({_printable(reason)})") from error


def _printable(reason: object) -> str:
    """One line without control characters: what a server sent may be in it."""
    return "".join(c if c.isprintable() else "?" for c in str(reason))[:200] or type(reason).__name__


# ---- the line --------------------------------------------------------------------------------------------------------


class _Line:
    """All connections of a request, those of its redirects and of a proxy too: what they brought, and how to end it."""

    def __init__(self) -> None:
        self.taken, self.content = 0, 0  # bytes: in all, and of those the content
        self.is_cut = False
        self.socket: Any = None

    def count(self, taken: int) -> None:
        """So many more bytes were read; ends the reading where they are too many, or nobody wants them."""
        self.taken += taken
        if self.is_cut:
            raise Broken("was left")
        if self.taken > MOST_BESIDE + 2 * self.content:
            raise Broken(f"sent {self.taken:,} bytes that hold {self.content:,} bytes of content")

    def cut(self) -> None:
        """Ends the reading, from another thread, also while it waits."""
        self.is_cut = True
        if self.socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # an SSLSocket's own would let go of the cipher


class _Counted(io.RawIOBase):
    """Every byte of a connection passes here, status lines and headers too."""

    def __init__(self, raw: Any, line: _Line):
        self.raw, self.line = raw, line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self.raw.readinto(buffer)
        self.line.count(count or 0)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few of them, without reading what else they say, and never from https to what nobody vouches for."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in (("https",) if req.type == "https" else ("http", "https")):
            raise Refused(f"redirects from {req.type} to {_printable(scheme)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(line: _Line) -> urllib.request.OpenerDirector:
    """Opens http and https addresses and nothing else, over proxies where the environment names them."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: Any, *rest: Any, **more: Any):
            super().__init__(sock, *rest, **more)
            line.socket = sock
            line.count(0)  # cut before there was a socket: nothing is read from it
            stream: Any = self.fp
            self.fp = io.BufferedReader(_Counted(stream.detach(), line))

    class Counted(urllib.request.AbstractHTTPHandler):
        def do_open(self, http_class: Any, *arguments: Any, **settings: Any) -> Any:
            def connection(*where: Any, **how: Any) -> Any:
                made = http_class(*where, **how)
                made.response_class = Answer
                return made

            return super().do_open(connection, *arguments, **settings)

    class Http(Counted, urllib.request.HTTPHandler):
        pass

    class Https(Counted, urllib.request.HTTPSHandler):
        pass

    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), Http(), Https(), urllib.request.HTTPDefaultErrorHandler(),
                    _Redirects(), urllib.request.HTTPErrorProcessor(), urllib.request.UnknownHandler()):
        opener.add_handler(handler)
    return opener
