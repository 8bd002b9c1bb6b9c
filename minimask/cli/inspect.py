"""`minimask inspect RUN`: figures of what a trained mask learned, and a page that explains each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import escape, files, runs
from ..anatomy import page
from .common import Parser, load_data_of, whole_number


def command(words: Sequence[str]) -> None:
    """Reads a run, counts and draws, and says where the page is."""
    options = _parser().parse_args(words)
    folder = Path(options.run)
    dataset = load_data_of(folder, runs.read_record(folder), options)
    net, record = runs.load(folder, dataset)
    out = Path(options.out) if options.out else files.own_folder(folder, "anatomy")
    with files.locked(out):
        names = page.write(out, net, record, dataset, options.repeats)
    print(f"in {escape.line(out)}/: {', '.join(names)}")
    print(f"open {escape.line(out / 'index.html')} in a browser")


def _parser() -> Parser:
    parser = Parser(prog="minimask inspect",
                    description="See what a trained mask learned: figures, and one page that explains each.\n\n"
                                "Where weights are left over the image plane, per unit and per class; shares against\n"
                                "chance; who is connected to how many; paths from pixels to classes; the most used\n"
                                "filters; and what is left of the accuracy when signs, mask or magnitudes change.",
                    epilog="example:\n  minimask inspect runs/fcn-0 --data DIR\n"
                           "  writes runs/fcn-0/anatomy/index.html, a PNG per figure, and anatomy.json, the numbers.\n"
                           "The data set that the run was trained on is needed: to draw it and to measure accuracies.")
    parser.add_argument("run", metavar="RUN", help="folder of a run, as `minimask train` leaves it")
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--allow-unverified", action="store_true",
                        help="take data files whose content is not the official one, and say so")
    parser.add_argument("--out", metavar="DIR", help="folder for page and figures (default: RUN/anatomy)")
    parser.add_argument("--repeats", type=whole_number(1), default=5, metavar="N",
                        help="how often each change of the net is drawn (default: 5)")
    return parser
