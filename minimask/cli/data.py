"""`minimask data fetch NAME...` and `minimask data check [NAME...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import data
from ..errors import UsageError, unknown
from ..mishaps import Interrupted
from .common import Parser


def command(words: Sequence[str]) -> None:
    """Fetches data sets, or says which are whole."""
    options = _parser().parse_intermixed_args(words)
    from .. import meter
    from ..data import fetch  # and with them the parts of the standard library that speak with servers

    if options.action not in ("fetch", "check"):
        raise unknown("data command", options.action, ("fetch", "check"))
    ours = ("digits", "digits-validation")
    if set(ours) & set(options.names):
        print("digits: comes with minimask; nothing to fetch")
    names = [name for name in options.names if name not in ours]
    if options.action == "check":
        if names or not options.names:
            fetch.check(names, options.data)
        return
    if not options.names:
        raise UsageError(f"which data set? minimask data fetch NAME; there are {', '.join(data.DATASETS)}")
    progress = meter.Meter(None if options.quiet else sys.stderr)
    try:
        for name in names:
            fetch.fetch(name, options.data, options.overwrite, meter=progress)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; what has arrived is kept, and the same command goes on from there") from None


def _parser() -> Parser:
    parser = Parser(prog="minimask data",
                    usage="minimask data fetch NAME... [--data DIR] [--overwrite] [--quiet]\n"
                          "       minimask data check [NAME...] [--data DIR]",
                    description="Get data sets from the net, or see whether those you have are whole.\n\n"
                                "fetch   download what is lacking into DIR; an interrupted download goes on\n"
                                "        where it stopped when you give the same command again\n"
                                "check   compare the files in DIR with the official checksums; changes nothing",
                    epilog="data sets:           to download   folder\n"
                           "  mnist                   11.6 MB   DIR/mnist/\n"
                           "  fashion-mnist            31 MB*   DIR/fashion-mnist/\n"
                           "  cifar10                170.1 MB   DIR/cifar-10-batches-bin/\n"
                           "  cifar100               168.5 MB   DIR/cifar-100-binary/\n"
                           "* about; no checksum of it is known to minimask, so it stays unverified\n\n"
                           "example:\n  minimask data fetch mnist --data DIR\n"
                           "  minimask train fcn --data DIR\n\n"
                           "check exits with 1 if a data set is damaged, or one that you named is missing.\n"
                           "Nothing is downloaded by any other command.")
    parser.add_argument("action", metavar="fetch|check", help="what to do")
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets, from the list below")
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--overwrite", action="store_true", help="fetch: replace damaged files, which stay otherwise")
    parser.add_argument("--quiet", action="store_true", help="fetch: no progress while it runs")
    return parser
