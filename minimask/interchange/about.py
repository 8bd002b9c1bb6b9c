"""What a file for other systems says beside its arrays: what its input is, the names of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data import Preprocess
from ..data.preprocess import DEFAULT, IMAGE, restored
from ..errors import MinimaskError
from ..fields import Fields
from ..losses import Answers
from .dense import channels_first

#: What every file says of its input, by the preprocessing of the images.
INPUTS = {
    "image": "images NCHW, float, each standardised by itself: (x - mean) / max(std, 1 / sqrt(number of values))",
    "feature": "images NCHW, float, every value standardised over the training set: (x - mean) / spread, which are "
               "under 'preprocess', (c, h, w) each",
    "none": "images NCHW, float, as they are"}
#: Numbers that a preprocessing may have learned, at most, for a file that holds them as text.
MOST_LEARNED = 1 << 17


def about(classes: Sequence[str] | None, prepare: Preprocess | None, answers: Answers = ()) -> dict[str, Any]:
    """Plain data: "input" in words, and what is known of "classes", names in the order of the logits, and "preprocess".

    This has its name and, in the layout of the images there, (c, h, w), what it learned. Where the logits are not one
    class, "answers" says what they are (:meth:`minimask.losses.Loss.answers`), and "classes" are their names.

    Raises MinimaskError where that is more than MOST_LEARNED numbers.
    """
    name = (prepare or IMAGE).name
    found: dict[str, Any] = {"input": INPUTS.get(name, f"images NCHW, float, preprocessed by {name}")}
    if classes is not None:
        found["classes"] = list(map(str, classes))
    if answers:
        found["answers"] = [list(answer) for answer in answers]
    if prepare is not None:
        count = sum(array.size for array in prepare.arrays.values())
        if count > MOST_LEARNED:
            raise MinimaskError(f"the preprocessing {prepare.name!r} has learned {count:,} numbers, and such a file "
                                f"takes {MOST_LEARNED:,}: export the net as .mmk, or preprocess its images by 'image'")
        found["preprocess"] = {"name": name, **{
            key: np.transpose(array, channels_first(array.shape)).tolist() for key, array in prepare.arrays.items()}}
    return found


def prepare_of(said: Mapping[str, Any], shape: Sequence[int]) -> Preprocess:
    """The preprocessing that a file tells of, as :func:`about` says it; `shape` of an image here, (h, w, c).

    One of own code has its name, and cannot be used. ValueError where it is not as it should be.
    """
    parts = Fields(said.get("preprocess", {"name": DEFAULT}), "'preprocess'")
    name, order = parts.text("name"), np.argsort(channels_first(tuple(shape)))
    arrays = {}
    for key, value in parts.left.items():
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{key!r} of 'preprocess' is no array of numbers") from None
        arrays[key] = np.ascontiguousarray(array.transpose(order)) if array.ndim == len(order) else array
    try:
        return restored(name, arrays, shape)
    except ValueError as error:
        raise ValueError(f"its preprocessing {error}") from error
