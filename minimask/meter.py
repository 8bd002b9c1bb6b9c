"""How far something is, told on a terminal or in a log: lines, and the meter of a download."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TextIO

from . import escape

#: What ends a line that is renewed: a terminal clears what is left of the one before.
RENEWED = "\x1b[K"


class Line:
    """Words on a stream: lines that stay, and on a terminal one that renews itself. A stream that is gone is no error.

    Args:
        stream: where to write; None is silent.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream, self.renewed = stream, False
        self.terminal = stream is not None and stream.isatty()

    def renew(self, line: str) -> None:
        """The line that renews itself, cut to the terminal's width."""
        import shutil  # imported where it is used: `import minimask` stays quick

        self._write("\r" + escape.line(line)[:shutil.get_terminal_size().columns - 1] + RENEWED)
        self.renewed = True

    def say(self, line: str) -> None:
        """A line that stays."""
        self.stop()
        self._write(escape.line(line) + "\n")

    def stop(self) -> None:
        """Ends the line that renews itself."""
        if self.renewed:
            self._write("\n")
            self.renewed = False

    def _write(self, text: str) -> None:
        if self.stream is not None:
            with contextlib.suppress(OSError, ValueError):  # nobody listens any more: no reason to end the work
                try:
                    self.stream.write(text)
                except UnicodeEncodeError:  # a terminal of few letters
                    self.stream.write(text.encode("ascii", "backslashreplace").decode())
                self.stream.flush()


class Meter(Line):
    """How far a download is: a line that renews itself on a terminal, plain lines in a log, at most one a `pause`.

    Args:
        stream: where to write; None is silent. pause: seconds between the lines of a log. clock: tells the time.
        unit: what is counted; bytes unless given.
    """

    def __init__(self, stream: TextIO | None = None, pause: float = 10.0, clock: Callable[[], float] = time.monotonic,
                 unit: str = ""):
        super().__init__(stream)
        self.pause, self.clock, self.unit = pause, clock, unit
        self.name, self.first = "", 0
        self.size: int | None = None
        self.started = self.written = clock()

    def start(self, name: str, size: int | None, position: int) -> None:
        """A try begins, with the byte at `position`."""
        self.name, self.size, self.first = name, size, position
        self.started = self.written = self.clock()

    def at(self, position: int) -> None:
        """So many bytes of the file are here."""
        now = self.clock()
        if self.stream is None or (now - self.written < (0.1 if self.terminal else self.pause)
                                   and not (self.terminal and position == self.size)):
            return
        self.written = now
        rate = (position - self.first) / max(now - self.started, 1e-9)
        amount: Callable[[int], str] = (lambda count: f"{count:,} {self.unit}") if self.unit else megabytes
        line = f"{self.name} · {amount(position)}"
        if self.size:
            line += f" of {amount(self.size)} · {position / self.size:.0%}"
        line += f" · {rate:,.0f} {self.unit}/s" if self.unit else f" · {rate / 1e3:,.0f} kB/s"
        if self.size and rate:
            line += f" · {(self.size - position) / rate:.0f} s to go"
        if self.terminal:
            self.renew(line)
        else:
            self.say(line)


def megabytes(count: int) -> str:
    """A size in bytes, for people."""
    return f"{count / 1e6:,.1f} MB" if count >= 50_000 else f"{count:,} bytes"
