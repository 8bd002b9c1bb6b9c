"""A data set by its name: one that comes with minimask, or one's own as folder:DIR, npz:FILE and csv:FILE."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from . import sets
from .files import DataError
from .sets import Dataset

if TYPE_CHECKING:
    from pathlib import Path

    from ..meter import Meter

#: Kinds of data sets of one's own, and the settings of each and their types: arguments of from_folder and so on.
KINDS: dict[str, dict[str, type]] = {
    "folder": {"size": str, "fit": str, "mode": str, "held_out": float, "seed": int},
    "npz": {"held_out": float, "seed": int},
    "csv": {"label": str, "delimiter": str, "held_out": float, "seed": int, "numbers": bool}}
VALIDATION = "-validation"


def kind_of(name: str) -> str:
    """The kind of a data set of one's own, by its name; "" for any other name."""
    kind, colon, path = name.partition(":")
    return kind if colon and path and kind in KINDS else ""


def load(name: str, folder: str | Path | None = None, allow_unverified: bool = False,
         settings: Mapping[str, Any] | None = None, preprocess: Any = None, meter: Meter | None = None,
         cache: bool = False, known: str = "") -> Dataset:
    """The data set of that name: 'digits', one of those below `folder`, or 'folder:DIR', 'npz:FILE', 'csv:FILE'.

    With '-validation' behind the name a part of the training images is held out in place of the test images
    (:func:`minimask.data.validation`).

    Args:
        folder: that data sets lie in; None takes the variable MINIMASK_DATA. A relative DIR or FILE that is not here is
            looked for there.
        settings: of a data set of one's own, see KINDS. preprocess: as in :class:`Dataset`.
        meter, cache: see :func:`minimask.data.from_folder`. known: where the files were, once, if they are nowhere
            else.

    UsageError for an unknown name or setting, or where there is no such file. DataError: as those functions.
    """
    kind = kind_of(name)
    if not kind:
        if settings:
            raise UsageError(f"data set {name!r} takes no settings, but {min(settings)!r} was given; leave it out")
        dataset = sets.load(name, folder, allow_unverified)
        return dataset if preprocess is None else replace(dataset, preprocess=preprocess)
    if name.endswith(VALIDATION) and not any(map(os.path.exists, _places(name, folder, ""))):
        whole = load(name.removesuffix(VALIDATION), folder, settings=settings, preprocess=preprocess, meter=meter,
                     cache=cache, known=known)
        return sets.validation(whole)
    given = {"preprocess": preprocess, "name": name, **(settings or {})}
    path = found(name, folder, known)
    if kind == "folder":
        from .folder import from_folder

        return from_folder(path, meter=meter, cache=cache, **given)
    from . import own

    readers: dict[str, Callable[..., Dataset]] = {"npz": own.from_npz, "csv": own.from_csv}
    return readers[kind](path, **given)


def _places(name: str, folder: str | Path | None, known: str) -> list[str]:
    """Where the file or folder that a name of one's own says may lie."""
    path, below = os.path.expanduser(name.partition(":")[2]), folder or os.environ.get("MINIMASK_DATA")
    return [path, *([os.path.join(os.path.expanduser(below), path)] if below else []), *([known] if known else [])]


def found(name: str, folder: str | Path | None = None, known: str = "") -> str:
    """The path of a data set of one's own: as it is said, else below `folder`, else where it was, `known`.

    Raises UsageError where it is in none of these places.
    """
    places = _places(name, folder, known)
    there = next((path for path in places if os.path.exists(path)), None)
    if there is None:
        raise UsageError(f"there is no {' nor '.join(dict.fromkeys(places))}, which data set {name!r:.200} is made of; "
                         "give the right path, or with --data the folder that it lies in")
    return there


def outline(name: str, described: Mapping[str, Any] | None = None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """(height, width, channels) and class names of a data set, without its files.

    Args:
        described: "data" of a record, which says it of a set of one's own.

    Raises UsageError: an unknown name, or one's own that nothing describes.
    """
    if described:
        return tuple(described["input"]), tuple(described["classes"])
    if kind_of(name):
        raise UsageError(f"data set {name!r:.200} is one's own, and its shape is not known without its files: load it")
    return sets.outline(name)


def blank(name: str, described: Mapping[str, Any] | None = None) -> Dataset:
    """One black image of that data set's shape to train and one held out: what sizes a net where no file is at hand.

    Arguments and errors as of :func:`outline`.
    """
    shape, classes = outline(name, described)
    images, labels = np.zeros((1, *shape), np.uint8), np.zeros(1, np.uint8)
    return Dataset(name, images, labels, images, labels, classes, verified=False)


def refuse_other(dataset: Dataset, described: Mapping[str, Any], digest: str, where: str) -> None:
    """DataError unless a data set is the one that a record describes.

    Args:
        described: "data" of the record. digest: of the data set, as the record has it. where: the record is.
    """
    same = {"classes": list(dataset.classes), "input": list(dataset.input_shape), "digest": digest}
    for part, here in same.items():
        if described.get(part, here) != here:
            raise DataError(f"{dataset.name} is not the data that {where} was trained on: its {part} "
                            f"{'are' if part == 'classes' else 'is'} {here!r:.80}, there {described[part]!r:.80}; put "
                            "the files back as they were, or give with --data the folder that they lie in")
