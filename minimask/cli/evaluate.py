"""`minimask evaluate RUN`: what a trained net gets right and wrong, class by class, and its most confident mistakes."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import escape, evaluation, files, own, plot, runs, zoo
from ..data import Dataset, Preprocess
from ..display import MARK, UNVERIFIED, columns
from ..errors import UsageError
from ..evaluation import Evaluation
from ..fast.memory import kept_memory
from ..losses import CLASS, CrossEntropy, Loss, refuse_targets
from ..nn import Sequential
from .common import Parser, load_data_of, other_data, read_net, say_untrained, trust_option, whole_number

#: The first words of evaluation.json, by which a later one knows that it may take its place.
MADE = '{"made_by": "minimask evaluate"'
NAMES = ("evaluation.json", "mistakes.png")
#: Of so many classes the whole confusion matrix is printed; of more, so many of its most frequent mistakes.
MOST_CLASSES, MOST_PAIRS = 20, 20


class Asked(NamedTuple):
    """What is evaluated: in words, the net, what it does to raw images before, the data, the accuracy that it is known
    to have on it, the folder for what is found, None where it is only printed, and what the net was trained on."""

    about: str
    net: Sequential
    prepare: Preprocess
    dataset: Dataset
    known: float | None
    out: Path | None
    loss: Loss | str


def command(words: Sequence[str]) -> None:
    """Prints the tables, or JSON; writes evaluation.json and mistakes.png."""
    options: Any = _parser().parse_args(words)
    asked = _of_run(options) if Path(options.file).is_dir() else _of_file(options)
    dataset = asked.dataset
    refuse_targets("evaluate", dataset)
    if asked.net.input_shape != dataset.input_shape:
        raise UsageError(f"{options.file} takes images of {_shape(asked.net.input_shape)}, but those of {dataset.name} "
                         f"are {_shape(dataset.input_shape)}; name the data set that it was made for with --dataset")
    images, labels = ((dataset.train_images, dataset.train_labels) if options.train else
                      (dataset.test_images, dataset.test_labels))
    with kept_memory():
        found = evaluation.evaluate(asked.net, images, labels, dataset.classes, options.mistakes, asked.prepare,
                                    asked.loss)
    part = "training" if options.train else "held-out" if dataset.name.endswith("-validation") else "test"
    values = {"format": 1, "about": asked.about, "data": dataset.name, "part": part,
              "unverified": not dataset.verified, **found.as_dict()}
    names, reason = ([], "") if asked.out is None else _write(asked.out, found, values, images)
    if options.json:
        print(json.dumps(values, indent=1, allow_nan=False))
    else:
        print("\n".join(_text(found, f"{asked.about}: {found.images:,} {part} images of {dataset.name}",
                              MARK * (not dataset.verified))))
    if asked.known is not None and not options.train and found.accuracy != asked.known:
        print(f"minimask: its record says {asked.known:.2%}: other data, another NumPy or another machine measured "
              "that", file=sys.stderr)
    if names:
        print(f"in {escape.line(asked.out)}/: {', '.join(names)}{reason}",
              file=sys.stderr if options.json else sys.stdout)


def _of_run(options: Any) -> Asked:
    """A run's net on the data that it was trained on, or on other data of its shape."""
    folder = Path(options.file)
    record = runs.read_record(folder)
    same = options.dataset in (None, record["dataset"])
    dataset = load_data_of(folder, record, options) if same else other_data(options.dataset, options)
    net, record = runs.load(folder, dataset if same else None, trust=options.trust)
    say_untrained(folder, record)
    code = own.trusted(record, folder) if options.trust else None
    end = record["epochs"][-1] if record["epochs"] and same else {}
    called = runs.called(record)
    if record["seed"] is not None:  # of a net that was saved from Python it is not known
        called = runs.name_of(called, record["seed"], record.get("init_seed"), record.get("order_seed"))
    return Asked(called, net, dataset.prepare if same else runs.prepare_of(folder, record, code), dataset,
                 end.get("test_accuracy"), Path(options.out or folder), runs.loss_of(record, code))


def _of_file(options: Any) -> Asked:
    """An exported net, or one of the zoo's, which knows its data."""
    exported, path = read_net(options.file), zoo.path_of(options.file)
    if [kind for kind, _ in exported.answers] != [CLASS]:
        raise UsageError(f"evaluate: it is about classes, but the outputs of {options.file} say something else; "
                         "`minimask predict` tells what they say of an image")
    known = next((entry for entry in zoo.entries().values() if entry.path == path), None)
    name = options.dataset or (known.dataset if known else None)
    if name is None:
        raise UsageError(f"{options.file} does not say what data it was made for; name it with --dataset")
    dataset = other_data(name, options)
    if tuple(exported.classes) != dataset.classes:
        raise UsageError(f"{options.file} tells {len(exported.classes)} classes apart ({_few(exported.classes)}), and "
                         f"{dataset.name} has {len(dataset.classes)} ({_few(dataset.classes)}): they must be the same; "
                         "name the data set that it was made for with --dataset")
    return Asked(exported.about or str(path), exported.net, exported.prepare, dataset, None,
                 Path(options.out) if options.out else None, CrossEntropy())


def _few(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# ---- what is said --------------------------------------------------------------------------------------------------


def _text(found: Evaluation, about: str, mark: str) -> list[str]:
    """Accuracy, numbers per class, confusion and mistakes, as lines."""
    names = [escape.line(name) for name in found.classes]
    lines = [f"{escape.line(about)}, {found.accuracy:.2%}{mark} right, {_loss(found)}", ""]
    rows: list[tuple[object, ...]] = [("class", "images", "right", "recall", "precision", "F1")]
    rows += [(name, f"{row['images']:,}", f"{found.confusion[i, i]:,}", *map(_percent, (row["recall"], row["precision"],
              row["f1"]))) for i, (name, row) in enumerate(zip(names, found.per_class()))]
    lines += [*columns(rows), ""]
    if len(names) <= MOST_CLASSES:
        lines += [*columns([("label \\ given", *names), *((name, *(str(count or ".") for count in row))
                                                         for name, row in zip(names, found.confusion.tolist()))])]
    else:
        pairs = [(names[i], names[j], f"{count:,}") for i, j, count in found.confused(MOST_PAIRS)]
        lines += [f"the {len(pairs)} most frequent mistakes (evaluation.json has the whole matrix):",
                  *columns([("label", "given", "images"), *pairs], left=2)]
    if found.mistakes:
        lines += ["", "the most confident mistakes:", *columns([
            ("image", "label", "given", "confidence", "of the label"),
            *((each.index, names[each.label], names[each.given], f"{each.confidence:.1%}", f"{each.of_label:.1%}")
              for each in found.mistakes)])]
    return [*lines, *([textwrap.fill(UNVERIFIED, 100)] if mark else [])]


def _loss(found: Evaluation) -> str:
    """The mean of what the net was trained on, or why it is not told."""
    name = escape.line(found.loss_name)
    return f"its loss, {name}, is own code and not asked" if found.loss is None else f"mean {name} {found.loss:.4f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _write(out: Path, found: Evaluation, values: dict[str, Any], images: np.ndarray) -> tuple[list[str], str]:
    """Writes evaluation.json and, where matplotlib is installed, the picture; their names, and why one is missing."""
    def ours(path: Path) -> bool:
        return files.begins_with(out / NAMES[0], MADE)

    files.claim(out, "what was not made by minimask evaluate and would be lost", "give another folder with --out",
                NAMES, ours)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be written to ({error.strerror}); give another folder with --out") from error
    with files.locked(out):
        text = json.dumps(values, allow_nan=False)
        files.write(out / NAMES[0], f"{MADE}, {text[1:]}\n".encode())
        if not found.mistakes or 1 in images.shape[1:3]:  # a row of a table is no picture
            (out / NAMES[1]).unlink(missing_ok=True)
            return [NAMES[0]], ""
        names = [escape.line(name) for name in found.classes]
        titles = [f"{names[each.label]}, given {names[each.given]}\n{each.confidence:.1%} sure, image {each.index}"
                  for each in found.mistakes]
        try:
            figure = plot.gallery(images[[each.index for each in found.mistakes]], titles)
        except plot.MissingMatplotlib as error:
            (out / NAMES[1]).unlink(missing_ok=True)
            return [NAMES[0]], f" ({error})"
        files.write(out / NAMES[1], plot.png(figure))
    return list(NAMES), ""


def _parser() -> Parser:
    parser = Parser(prog="minimask evaluate",
                    description="What a trained net gets right and wrong: accuracy, precision, recall and F1 of each\n"
                                "class, the confusion matrix, and the mistakes that it is surest of, as a picture.",
                    epilog="example:\n  minimask evaluate runs/fcn-0 --data DIR\n"
                           "  writes evaluation.json and mistakes.png into runs/fcn-0\n"
                           "  minimask evaluate runs/fcn-0 --data DIR --json | jq .confusion\n"
                           "  minimask evaluate fcn --data DIR              (a net of the zoo: it is only printed)\n"
                           "  minimask evaluate tiny.mmk --dataset mnist --data DIR --out there")
    parser.add_argument("file", metavar="RUN", help="the folder of a run, what `minimask export` wrote (.mmk), or a "
                                                    "net of `minimask zoo`")
    parser.add_argument("--dataset", metavar="NAME", help="other data than it was trained on; what a .mmk is to be "
                                                          "tried on, which does not say")
    trust_option(parser)
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--allow-unverified", action="store_true",
                        help="take data files whose content is not the official one, and say so")
    parser.add_argument("--train", action="store_true", help="the images that it was trained on, not those held out")
    parser.add_argument("--mistakes", type=whole_number(0), default=10, metavar="N",
                        help="how many of the most confident mistakes (default: 10)")
    parser.add_argument("--out", metavar="DIR", help="folder for evaluation.json and mistakes.png (default: RUN's; "
                                                     "of a file none)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of text")
    return parser
