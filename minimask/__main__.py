"""The command line: `minimask` runs the demo, `minimask COMMAND ...` one of the others; each is a file of cli/.

Exit status: 0 done, 1 failed, 2 wrong usage. A failure is one sentence; `--debug` adds the traceback.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from .cli.common import COMMANDS
from .errors import MinimaskError, UsageError, out_of_memory, ran_out, unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and hasattr(sys, "set_lazy_imports"):  # Python 3.15: matplotlib cannot bear "all"
        sys.set_lazy_imports("normal")
    debug = "--debug" in words
    try:
        name = words.pop(0) if words and not words[0].startswith("-") else "demo"
        if name not in COMMANDS:
            raise UsageError(f"{unknown('command', name, COMMANDS)}; without a command the demo runs, "
                             "`minimask --help` tells more")
        importlib.import_module(f"minimask.cli.{name}").command(words)
        sys.stdout.flush()
    except MinimaskError as error:
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1, debug)
    except KeyboardInterrupt:
        return _fail("interrupted", 1, debug)
    except BrokenPipeError:  # whoever read our output has left; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail("the output was closed before it was all written", 1, debug)
    except OSError as error:
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}", 1, debug)
    except Exception as error:
        if ran_out(error):  # outside any op, which would have said for what
            return _fail(str(out_of_memory("minimask", error)), 1, debug)
        # a fault of ours: one sentence all the same, and how to see more
        return _fail(f"{type(error).__name__}: {error} (this is a bug in minimask; --debug shows where)", 1, debug)
    return 0


def _fail(sentence: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        print(f"minimask: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
