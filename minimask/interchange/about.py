"""What a file for other systems says beside its arrays: what its input is, the names of its classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data import Preprocess
from ..data.preprocess import IMAGE
from .dense import channels_first

#: What every file says of its input, by the preprocessing of the images.
INPUTS = {
    "image": "images NCHW, float, each standardised by itself: (x - mean) / max(std, 1 / sqrt(number of values))",
    "feature": "images NCHW, float, every value standardised over the training set: (x - mean) / spread, which are "
               "under 'preprocess', (c, h, w) each",
    "none": "images NCHW, float, as they are"}
INPUT = INPUTS["image"]


def about(classes: Sequence[str] | None, prepare: Preprocess | None) -> dict[str, Any]:
    """Plain data: "input" in words, and what is known of "classes", names in the order of the logits, and "preprocess".

    This has its name and, in the layout of the images there, (c, h, w), what it learned.
    """
    name = (prepare or IMAGE).name
    found: dict[str, Any] = {"input": INPUTS.get(name, f"images NCHW, float, preprocessed by {name}")}
    if classes is not None:
        found["classes"] = list(map(str, classes))
    if prepare is not None:
        found["preprocess"] = {"name": name, **{
            key: np.transpose(array, channels_first(array.shape)).tolist() for key, array in prepare.arrays.items()}}
    return found


def texts(said: dict[str, Any]) -> dict[str, str]:
    """The same as texts by name, whatever is none as JSON: what an ONNX file holds."""
    return {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in said.items()}
