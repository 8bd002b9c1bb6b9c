"""`minimask predict FILE IMAGES...`: the class of every image, and how sure the net is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import escape, export, own, prune
from ..data import images as imagefiles
from ..data.preprocess import restored
from ..errors import MinimaskError, UsageError
from ..losses import CLASS, NUMBER
from ..predict import classify, outputs
from .common import Parser, read_net, warnings_as_sentences, whole_number


def command(words: Sequence[str]) -> None:
    """Prints a line per image: file and number, class, confidence; at the end, which files could not be taken."""
    options: Any = _parser().parse_args(words)
    exported = read_net(options.file, options.backend)
    net, prepare = prune.prune(exported.net), exported.prepare
    if options.trust and own.is_own(prepare.name):
        code = _code(Path(options.file), prepare.name.partition(":")[0])
        prepare = restored(prepare.name, prepare.arrays, None, own.find("its preprocessing", prepare.name, code))
    failed: list[tuple[str, MinimaskError]] = []
    for path in options.images:
        try:
            with warnings_as_sentences():
                for line in _lines(path, replace(exported, net=net, prepare=prepare), options.first):
                    print(line)
        except MinimaskError as error:
            failed.append((path, error))
    if failed:
        raise _summary(failed, len(options.images))


def _code(file: Path, module: str) -> own.Code:
    """The leave to import own code: from the file's folder, as that of a run from the run's; else from this one."""
    top, folder = module.partition(".")[0], file.resolve().parent
    beside = (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()
    return own.Code(str(folder if beside else Path.cwd()))


def _lines(path: str, exported: export.Exported, first: int | None) -> Iterator[str]:
    """What is printed of a file's first images; MinimaskError, which names the file, where it cannot be taken."""
    net, classes, prepare = exported.net, exported.classes, exported.prepare
    images = imagefiles.read(path, net.input_shape)[:first]
    if not len(images):
        raise UsageError(f"{path} holds no image")
    try:
        if [kind for kind, _ in exported.answers] == [CLASS]:
            answers: Any = ([escape.line(classes[label]), f"{confidence:.1%}"] for label, confidence in zip(
                *classify(net, images, prepare=prepare)))
        else:
            answers = (list(_answers(row, exported)) for row in outputs(net, images, prepare=prepare))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    for number, answer in enumerate(answers):
        name = f"{path}[{number}]" if len(images) > 1 else path
        yield "\t".join([escape.line(name), *answer])


def _answers(row: np.ndarray, exported: export.Exported) -> Iterator[str]:
    """What a net's outputs (k,) for one image say, which are more than one class: a class and how sure the net is of
    it, a number with its name, a name with the chance of yes."""
    place = 0
    for kind, count in exported.answers:
        part, names = row[place:place + count], [escape.line(each) for each in exported.classes[place:place + count]]
        place += count
        if kind == CLASS:
            yield names[part.argmax()]
            yield f"{1 / np.exp(part - part.max()).sum():.1%}"
        for name, value in zip(names, part) if kind != CLASS else ():
            yield f"{name} {value:.4g}" if kind == NUMBER else f"{name} {1 / (1 + math.exp(-max(value, -700))):.1%}"


def _summary(failed: list[tuple[str, MinimaskError]], count: int) -> MinimaskError:
    """One error for all files that could not be taken: the first few with the reason, the others by name."""
    if len(failed) == 1:
        return failed[0][1]
    more = ", ".join(path for path, _ in failed[3:])
    kind = UsageError if all(isinstance(error, UsageError) for _, error in failed) else MinimaskError
    reasons = "; ".join(str(error) for _, error in failed[:3]) + (f"; and {more}" if more else "")
    return kind(f"{len(failed)} of {count} files could not be classified: {reasons}")


def _parser() -> Parser:
    parser = Parser(prog="minimask predict",
                    description="Classify images with an exported net: a line per image with its class and the net's\n"
                                "confidence, the largest entry of the softmax. Of a net that says something else,\n"
                                "what it says: a number, or the chance of yes, with its name.",
                    epilog="Images are of the size that the net takes, light on dark where it was trained so: MNIST's\n"
                           "digits are white on black.\n\n"
                           "example:\n  minimask predict fcn digit.png\n"
                           "  minimask predict tiny.mmk DIR/mnist/t10k-images-idx3-ubyte.gz --first 20")
    parser.add_argument("file", metavar="FILE", help="what `minimask export` wrote (.mmk, .safetensors, .onnx), or "
                                                      "a net of `minimask zoo`")
    parser.add_argument("images", metavar="IMAGES", nargs="+",
                        help="IDX as MNIST's (.gz too), .npy of one image or many, .csv of a table's rows without "
                             "their class, or PNG or JPEG (needs Pillow)")
    parser.add_argument("--first", type=whole_number(1), metavar="N", help="of each file the first N images only")
    parser.add_argument("--trust", action="store_true",
                        help="import the own code that preprocesses the images, from the file's folder, this one or "
                             "Python's path, if the file names some; yours, or code that you have read")
    parser.add_argument("--backend", metavar="LIBRARY", default="numpy",
                        help="array library: numpy, cupy or strict (default: numpy)")
    return parser
