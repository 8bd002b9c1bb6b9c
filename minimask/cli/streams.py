"""What a command prints on: streams that never end it, whoever has left them, however full they are."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from .. import escape
from ..meter import RENEWED


class Steady:
    """A text stream whose errors are kept and not raised: training goes on when nobody can read of it any more.

    Args:
        stream: what to write to. pipe_ends_it: a reader that has left is an error all the same (`minimask predict ... |
            head`): for commands that do nothing but print.

    Attributes:
        error: the first one; what is written after it is lost.
    """

    def __init__(self, stream: TextIO, pipe_ends_it: bool = False):
        self.stream, self.pipe_ends_it = stream, pipe_ends_it
        self.error: OSError | ValueError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self._try(self.stream.write, _harmless(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, action: Any, *arguments: Any) -> None:
        if self.error is None:
            try:
                action(*arguments)
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self.error = error
                self._let_go()
                if self.pipe_ends_it and isinstance(error, BrokenPipeError):
                    raise

    def _let_go(self) -> None:
        """What is still in its buffer goes nowhere, so that Python does not stumble over it at its end."""
        if self.stream in (sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


def _harmless(text: str) -> str:
    """Nothing that a terminal obeys, whatever file it came from, but ends of lines, tabs, and a renewed line."""
    if text.startswith("\r") and text.endswith(RENEWED):
        return f"\r{escape.line(text[1:-len(RENEWED)])}{RENEWED}"
    return escape.lines(text)


@contextlib.contextmanager
def steady(pipe_ends_it: bool = False) -> Iterator[Steady]:
    """Inside the block stdout and stderr are Steady; yields stdout. What they have no letters for, they spell \\xe9.

    A stream that was closed before we began (`>&-`) goes nowhere, and no file that is opened later takes its number.
    """
    _fill_low_descriptors()
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:
                stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            spelling = getattr(stream, "errors", None)
            if hasattr(stream, "reconfigure") and spelling is not None:
                stream.reconfigure(errors="backslashreplace")
                stack.callback(_spell, stream, spelling)
            stack.callback(setattr, sys, name, getattr(sys, name))
            setattr(sys, name, Steady(stream, pipe_ends_it and name == "stdout"))
        out: Any = sys.stdout
        yield out


def _spell(stream: Any, errors: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # reconfigure flushes first
        stream.reconfigure(errors=errors)


def _fill_low_descriptors() -> None:
    """Opens descriptors 0, 1 and 2 on nothing where they are closed; processes begun from here have them, too."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)
