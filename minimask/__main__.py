"""The command line: `minimask` runs the demo, `minimask COMMAND ...` one of the others; each is a file of cli/.

Exit status: 0 done, 1 failed, 2 wrong usage; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP, after what was under
way has been saved; 141 whoever read the output has left. A failure is one sentence; `--debug` adds the traceback.
"""

import contextlib
import importlib
import shlex
import signal
import sys
from collections.abc import Sequence

from . import escape, own
from .cli.common import COMMANDS
from .cli.streams import Steady, steady
from .errors import MinimaskError, UsageError, out_of_memory, ran_out, unknown
from .mishaps import Ear, Interrupted, signals_end_it

#: Commands that do nothing but print: they end when nobody reads on.
PRINTING = ("compare", "info", "predict", "recipes", "zoo")
#: Commands that are always told how to go on, also when a signal comes before they can say it themselves.
LONG = ("train", "sweep")
#: What a shell says of a command whose reader has left: 128 and the number of SIGPIPE.
READER_LEFT = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and hasattr(sys, "set_lazy_imports"):  # Python 3.15: matplotlib cannot bear "all"
        sys.set_lazy_imports("normal")
    debug = "--debug" in words
    with steady(bool(words) and words[0] in PRINTING) as out, signals_end_it() as ear:
        try:
            status = _run(words, out, ear, debug)
        except KeyboardInterrupt:  # once more, while that was being said
            status = 128 + (ear.number or signal.SIGINT)
        except SystemExit:  # of --help and --version
            if lost := _printed(out, 0, debug):
                return lost
            raise
        try:
            return _printed(out, status, debug)
        except KeyboardInterrupt:  # while a slow reader had not taken all of it
            return 128 + (ear.number or signal.SIGINT)


def _run(words: list[str], out: Steady, ear: Ear, debug: bool) -> int:
    name = words.pop(0) if words and not words[0].startswith("-") else "demo"
    try:
        if name not in COMMANDS:
            raise UsageError(f"{unknown('command', name, COMMANDS)}; without a command the demo runs, "
                             "`minimask --help` tells more")
        with own.blamed():
            importlib.import_module(f"minimask.cli.{name}").command(words)
    except MinimaskError as error:
        stopped = 128 + (ear.number or signal.SIGINT)
        status = stopped if isinstance(error, Interrupted) else 2 if isinstance(error, UsageError) else 1
        return _fail(str(error), status, debug)
    except KeyboardInterrupt:
        way = f"; the same command begins, or says how to go on: {shlex.join(['minimask', name, *words])}"
        return _fail(f"interrupted{way if name in LONG else ''}", 128 + (ear.number or signal.SIGINT), debug)
    except OSError as error:
        if error is out.error:  # a command that only prints
            return READER_LEFT
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}", 1, debug)
    except Exception as error:
        if ran_out(error):  # outside any op, which would have said for what
            return _fail(str(out_of_memory("minimask", error)), 1, debug)
        # a fault of ours: one sentence all the same, and how to see more
        return _fail(f"{type(error).__name__}: {error} (this is a bug in minimask; --debug shows where)", 1, debug)
    return 0


def _printed(out: Steady, status: int, debug: bool) -> int:
    """The status of a command that ended so, if all that it printed has arrived; else what became of that."""
    with contextlib.suppress(BrokenPipeError):
        out.flush()
    if status or out.error is None:
        return status
    if isinstance(out.error, BrokenPipeError):
        return READER_LEFT
    reason = getattr(out.error, "strerror", None) or out.error
    return _fail(f"the output could not be written: {reason}; all else is done", 1, debug)


def _fail(sentence: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"minimask: {escape.line(sentence)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
