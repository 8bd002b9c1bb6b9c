"""Imported before the rest: Ctrl-C while the command line still loads ends it in silence, as a shell expects."""

import os
import signal
import sys


def end_quietly() -> None:
    """Where this process is the command `minimask` (or `python -m minimask`), Ctrl-C gets the system's own handling.

    Nothing is begun yet that could be saved, and Python's handling would show where in an import it was. The command
    takes signals over when it has begun. Whoever imports the package is left alone.
    """
    line, words = getattr(sys, "orig_argv", []), getattr(sys, "argv", [])
    program = os.path.basename(line[-len(words)]) if 0 < len(words) < len(line) else ""
    if program in ("minimask", "minimask.exe") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


end_quietly()  # at import: the only moment before the others are imported
