"""`minimask export RUN -o FILE`: a trained net as one small file, or dense for PyTorch and ONNX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, escape, export, interchange, own, runs
from ..display import MARK, result
from ..errors import UsageError
from ..export import ternary
from ..nn import Sequential
from .common import Parser, say_untrained, trust_option, whole_number

#: What was done to images, in words.
DONE = {"image": "standardised one by one", "feature": "every value standardised over the training set",
        "none": "as they are"}


def command(words: Sequence[str]) -> None:
    """Writes the net of a run's folder into a file, and says how large it is."""
    options: Any = _parser().parse_args(words)
    folder, out = Path(options.run), Path(options.out)
    dense = interchange.WRITERS.get(out.suffix)
    if out.suffix != ".mmk" and dense is None:
        raise UsageError(f"-o {out}: the name says what to write, and must end in .mmk, "
                         f"{' or '.join(interchange.WRITERS)}")
    if dense is not None and options.codec:
        raise UsageError(f"--codec is for .mmk files; {out.suffix} holds plain floats, so leave it out")
    for_onnx = {name: value for name, value in (("opset", options.opset), ("compact", options.compact or None))
                if value is not None}
    if for_onnx and out.suffix != ".onnx":
        raise UsageError(f"--{next(iter(for_onnx))} is for .onnx files, and {out.name} is none; leave it out")
    if options.scores and dense is None:
        raise UsageError(f"--scores is for {' and '.join(interchange.WRITERS)} files; {out.suffix} holds a net to use, "
                         "so leave it out")
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} is there already: give another name, or --overwrite to replace it")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}; make it, or give another with -o")
    net, record = runs.load(folder, trust=options.trust)
    say_untrained(folder, record)
    code = own.trusted(record, folder) if options.trust else None
    classes, prepare = _classes(net, record), runs.prepare_of(folder, record, code)
    if dense is not None:
        dense(net, out, classes=classes, prepare=prepare, scores=options.scores, answers=record.get("answers", ()),
              **for_onnx)
        how = "signs and a magnitude for each layer" if options.compact else "every weight as it is used"
        print(f"{escape.line(out)}: {out.stat().st_size:,} bytes, {how}; images (n, channels, height, width), "
              f"{DONE.get(prepare.name, f'preprocessed by {prepare.name}')}")
        return
    end = record["epochs"][-1] if record["epochs"] else {}
    about = f"{runs.called(record)} on {record['dataset'] or 'unknown data'}"
    about += "" if record["seed"] is None else f", seed {record['seed']}"
    if end:
        mark = MARK * bool(record.get("unverified"))
        about += f", epoch {end['epoch']}: " + (f"{end['test_accuracy']:.2%}{mark} of the images held out"
                                                if "test_accuracy" in end else result(end, record["dataset"], mark))
    exported = export.save(out, net, classes, about, options.codec, record.get("init_seed", record["seed"]), prepare,
                           record.get("answers", ()))
    floats = 4 * net.size()
    ratio = f" ({floats / exported.size:,.0f} to 1)" if exported.size < floats else ", each weight as it is"
    print(f"{escape.line(out)}: {exported.size:,} bytes in place of {floats:,} as float32{ratio}")
    print("`minimask info {0}` tells more, `minimask predict {0} IMAGES` uses it".format(escape.line(out)))


def _classes(net: Sequential, record: dict[str, Any]) -> Sequence[str]:
    """The names of the classes; numbers where a run from Python does not say on what data it was trained."""
    if record["dataset"] is not None:
        return data.outline(record["dataset"], record.get("data"))[1]
    count = int(np.prod(list(net.shapes.values())[-1]))
    print(f"minimask: the run does not say what data it was trained on, so its {count} classes have numbers for names: "
          "runs.save(net, record, DIR, dataset) would tell them", file=sys.stderr)
    return tuple(map(str, range(count)))


def _parser() -> Parser:
    parser = Parser(prog="minimask export",
                    description="Write a trained net into one small file that classifies images without its run and\n"
                                "without the data set: a number and a ternary tensor for each layer. Or, dense, for\n"
                                "other systems: safetensors (PyTorch) and ONNX.",
                    epilog="example:\n  minimask export runs/fcn-0 -o tiny.mmk\n  minimask info tiny.mmk\n"
                           "  minimask predict tiny.mmk digit.png\n  minimask export runs/fcn-0 -o net.onnx\n"
                           "  minimask export runs/fcn-0 -o small.onnx --compact --opset 21")
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("-o", "--out", metavar="FILE", required=True,
                        help="the file to write: NAME.mmk, NAME.safetensors or NAME.onnx")
    parser.add_argument("--codec", choices=tuple(ternary.CODECS),
                        help="how ternary tensors are coded (default: for each layer what needs fewer bytes)")
    parser.add_argument("--opset", type=whole_number(interchange.OLDEST), metavar="N",
                        help=f"of an .onnx file, {interchange.OLDEST} or later (default {interchange.OPSET})")
    parser.add_argument("--compact", action="store_true",
                        help="an .onnx file of signs, not floats: 8 bits a weight, from opset 21 on 4, from 25 on 2")
    trust_option(parser)
    parser.add_argument("--scores", action="store_true",
                        help="a .safetensors or .onnx file with scores, frozen weights and masks, too")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    return parser
