"""`minimask inspect RUN`: figures of what a trained mask learned, and a page that explains each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import escape, files, own, runs
from ..anatomy import page
from ..errors import UsageError
from .common import Parser, load_data_of, other_data, say_untrained, trust_option, whole_number


def command(words: Sequence[str]) -> None:
    """Reads a run, counts and draws, and says where the page is."""
    options = _parser().parse_args(words)
    folder = Path(options.run)
    record = runs.read_record(folder)
    if options.dataset in (None, record["dataset"]):
        dataset = load_data_of(folder, record, options)
        net, record = runs.load(folder, dataset, trust=options.trust)
    else:
        code = own.trusted(record, folder) if options.trust else None
        dataset = replace(other_data(options.dataset, options), preprocess=runs.prepare_of(folder, record, code))
        net, record = runs.load(folder, trust=options.trust)
        if net.input_shape != dataset.input_shape:
            raise UsageError(f"{folder} takes images {net.input_shape}, but those of {dataset.name} are "
                             f"{dataset.input_shape}; name the data set that it was trained on")
        outputs = math.prod(list(net.shapes.values())[-1])
        if outputs != len(dataset.classes):
            raise UsageError(f"{folder} has {outputs} outputs, but {dataset.name} has names for {len(dataset.classes)} "
                             "of them; name the data set that it was trained on")
    say_untrained(folder, record)
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
    parser.add_argument("--dataset", metavar="NAME",
                        help="other data of the same shape, or where the data of a run from Python is in files: "
                             "folder:DIR, npz:FILE, csv:FILE")
    trust_option(parser)
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--allow-unverified", action="store_true",
                        help="take data files whose content is not the official one, and say so")
    parser.add_argument("--out", metavar="DIR", help="folder for page and figures (default: RUN/anatomy)")
    parser.add_argument("--repeats", type=whole_number(1), default=5, metavar="N",
                        help="how often each change of the net is drawn (default: 5)")
    return parser
