"""What is done to raw images before a net sees them: by name, with what it learned from the training images.

A data set has one (:attr:`minimask.data.Dataset.prepare`), and so have its records and exported nets. `image`, the
default, is the paper's: every image by itself. `feature` suits tables, whose columns have scales of their own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError, unknown
from .files import DataError

#: Images whose values all differ by less than this share of standardisation's floor are refused as blank.
FAINT = 0.01
#: What holds for a data set of which nothing else is said.
DEFAULT = "image"
#: Below so many pixels high or wide, an array is no image but a table, say.
LEAST_SIDE = 3


@dataclass(frozen=True)
class Preprocess:
    """Raw images (n, ...) -> what a net sees, floating and of the same shape: ``prepare(images, dtype="float32")``.

    Attributes:
        name: of PREPROCESSINGS, or "module:object" of one's own.
        function: (images, dtype, **arrays) -> floating. arrays: what was learned from the training images.
        asked: whether somebody asked for it; else it is the default.
    """

    name: str
    function: Callable[..., np.ndarray] = field(repr=False, compare=False)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    asked: bool = True

    def __call__(self, images: np.ndarray, dtype: str = "float32") -> np.ndarray:
        return self.function(images, dtype, **self.arrays)

    def refuse(self, images: np.ndarray, where: str) -> None:
        """UsageError, in words that begin with `where`, for images that this would make blank."""
        if self.function is standardise:
            refuse_faint(images, where)


def fitted(asked: Any, images: np.ndarray, name: str | None = None) -> Preprocess:
    """The preprocessing that is asked for, with what it learns from these raw training images (n, h, w, c).

    Args:
        asked: None, the default; a name of PREPROCESSINGS; a Preprocess, which has learned already; a function of raw
            images; an object with ``apply(images, dtype, **arrays)`` and, where it learns, ``fit(images) -> arrays``.
        name: of a function or object of one's own, for records; its "module:name" unless given.

    Raises UsageError for an unknown name, or a thing that is none of these.
    """
    if isinstance(asked, Preprocess):
        return asked
    if asked is None or isinstance(asked, str):
        found = asked or DEFAULT
        if found not in PREPROCESSINGS:
            raise unknown("preprocessing", found, PREPROCESSINGS)
        fit, apply = PREPROCESSINGS[found]
        return Preprocess(found, apply, fit(images), asked=bool(asked))
    if isinstance(asked, type):
        asked = asked()
    name = name or f"{getattr(asked, '__module__', '')}:{getattr(asked, '__qualname__', type(asked).__qualname__)}"
    learned = asked.fit(_to_read(images)) if hasattr(asked, "fit") else {}
    if not isinstance(learned, Mapping):
        raise UsageError(f"preprocess {name}: fit gives a {type(learned).__name__}, but must give arrays by name")
    return Preprocess(name, _function(asked, name), {key: np.asarray(value) for key, value in learned.items()})


def _function(asked: Any, name: str) -> Callable[..., np.ndarray]:
    """(images, dtype, **arrays) -> floating, of a function of raw images or an object with `apply`.

    It is given a copy: what it does in place must not reach the data set. UsageError where it gives other shapes.
    """
    if not hasattr(asked, "apply") and not callable(asked):
        raise UsageError(f"preprocess is {asked!r:.60}, but must be one of {', '.join(PREPROCESSINGS)}, a function of "
                         "raw images, or an object with fit and apply")

    def prepare(images: np.ndarray, dtype: str, **arrays: np.ndarray) -> np.ndarray:
        given = np.array(images)
        found = np.asarray(asked.apply(given, dtype, **arrays) if hasattr(asked, "apply") else asked(given))
        if found.shape != images.shape or found.dtype.kind not in "biuf":
            raise UsageError(f"preprocess {name:.80} gives {found.dtype} {found.shape} for images {images.shape}; "
                             "needed are numbers of the same shape")
        return found.astype(dtype, copy=False)

    return prepare


def _to_read(images: np.ndarray) -> np.ndarray:
    """The same numbers, not to be written into."""
    shown = images.view()
    shown.flags.writeable = False
    return shown


def restored(name: str, arrays: Mapping[str, np.ndarray], shape: Sequence[int] | None = None,
             found: Any = None) -> Preprocess:
    """A preprocessing from its name and what it learned once.

    Args:
        shape: of an image. found: what the name is, where it is own code: a function, or an object with `apply`.
            Without it the preprocessing has a name and cannot be used.

    Raises ValueError, to be read after what the preprocessing is of, where the arrays are not its own.
    """
    if name not in PREPROCESSINGS:
        def refuse(images: np.ndarray, dtype: str, **arrays: np.ndarray) -> np.ndarray:
            raise UsageError(f"images were preprocessed by {name!r:.80}, which is no part of minimask: give it, "
                             "prepare=..., or export the net and preprocess images yourself")

        return Preprocess(name, refuse if found is None else _function(found() if isinstance(found, type) else found,
                                                                             name), arrays)
    needed = LEARNED.get(name, ())
    if set(arrays) != set(needed):
        raise ValueError(f"needs {', '.join(needed) or 'no arrays'}, but {', '.join(sorted(arrays)) or 'none'} are "
                         "there")
    for key, array in arrays.items():
        if array.dtype.kind != "f" or (shape is not None and array.shape != tuple(shape)):
            raise ValueError(f"has {key} of {array.dtype} {array.shape}, where floats {tuple(shape or ())} are needed")
        if not np.isfinite(array).all() or (key == "spread" and not (array > 0).all()):
            raise ValueError(f"has {key} that is not finite, or not positive")
    return Preprocess(name, PREPROCESSINGS[name][1], arrays)


def looks_like_images(shape: tuple[int, ...]) -> bool:
    """Whether samples of this shape, (height, width, channels), can be images, and not rows of a table."""
    return min(shape[:2], default=0) >= LEAST_SIDE


def said_aloud(name: str, shape: tuple[int, ...], prepare: Preprocess) -> str:
    """A sentence where the default was taken for samples that do not look like images; else ""."""
    if prepare.asked or looks_like_images(shape):
        return ""
    return (f"data set {name!r} does not look like images ({' x '.join(map(str, shape))}), and nothing is said of its "
            "preprocessing: every sample is standardised by itself, as the paper does with images; preprocess "
            "'feature' standardises every column over the training set, 'none' changes nothing, and 'image' says that "
            "it is meant so")


# ---- every image by itself ------------------------------------------------------------------------------------------


def standardise(images: np.ndarray, dtype: str = "float32") -> np.ndarray:
    r"""Every image by itself: (x - mean) / max(std, 1/sqrt(number of values)). (n, H, W, C) -> same, floating.

    Mean and population standard deviation over all pixels and channels of the raw values, as TensorFlow's
    ``per_image_standardization`` does, which the paper's code uses. A constant image becomes all zeros.

    Free of scale above the floor: an image whose squares would leave the range of `dtype` (from some 1e17 on in
    float32) is scaled by a power of two first. Below the floor, that is for values far below 1, it is the formula that
    makes images faint: see :func:`refuse_faint`.
    """
    flat = images.reshape(len(images), -1)  # (n, H*W*C)
    values, floor = flat.shape[1], np.full(len(flat), 1 / math.sqrt(flat.shape[1]))
    if images.dtype.kind == "f" or images.dtype.itemsize > 2:  # what two bytes hold needs no care, and keeps its bits
        flat, floor = _in_range(flat, floor, dtype)
    flat = flat.astype(dtype)
    flat -= flat.mean(axis=1, keepdims=True)
    std = np.sqrt(np.einsum("ij,ij->i", flat, flat) / values)  # (n,)
    flat /= np.maximum(std, floor.astype(dtype))[:, None]
    return flat.reshape(images.shape)


def _in_range(flat: np.ndarray, floor: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their floors, by a power of two smaller where `dtype` does not hold the sum of their squares.

    A constant row becomes zeros: its mean, rounded, need not be its value.
    """
    low, high = flat.min(axis=1), flat.max(axis=1)  # (n,)
    largest = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    large = np.isfinite(largest) & (largest > math.sqrt(np.finfo(dtype).max / flat.shape[1]) / 4)
    if large.any():
        exponent = np.where(large, np.frexp(largest)[1], 0)
        flat = np.ldexp(flat.astype(np.float64), -exponent[:, None]).astype(dtype)
        floor = np.ldexp(floor, -exponent)
        low, high = flat.min(axis=1), flat.max(axis=1)
    constant = (low == high) & np.isfinite(largest)
    return (np.where(constant[:, None], 0, flat) if constant.any() else flat), floor


def refuse_no_numbers(values: np.ndarray, where: str) -> None:
    """DataError for what NumPy would turn into numbers by itself: text, complex and masked arrays, objects, times."""
    values = np.asanyarray(values)
    masked = sys.modules.get("numpy.ma")  # else there is no such array
    if masked is not None and isinstance(values, masked.MaskedArray):
        raise DataError(f"{where}: the array is masked, and what is behind the mask would be taken for numbers; fill "
                        "it: array.filled(0)")
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: an array of {values.dtype}; needed are integers or floats")


def refuse_faint(images: np.ndarray, where: str) -> None:
    """UsageError where images differ from blank ones, but all so little that standardise would make them blank.

    That is: in every one the values lie within a hundredth of the floor. Floating images alone can be so.
    """
    if images.dtype.kind == "f" and images.size:
        flat = images.reshape(len(images), -1)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are refused elsewhere
            spread = float((flat.max(axis=1) - flat.min(axis=1)).max())
        floor = 1 / math.sqrt(flat.shape[1])
        if 0 < spread < FAINT * floor:
            raise UsageError(f"{where}: the values of an image differ by {spread:.2g} at most, but standardising takes "
                             f"less than {floor:.2g} for blank: multiply the images, so that they go up to 1 or 255")


# ---- every feature over the training set, or nothing -----------------------------------------------------------------


def features(images: np.ndarray, dtype: str, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(x - mean) / spread, for every value of an image by itself: (n, h, w, c), with (h, w, c) each -> same."""
    exact = "float64" if images.dtype.itemsize > 2 else dtype  # large numbers that differ by little lose nothing
    x = images.astype(exact)
    x -= mean.astype(exact)
    x /= spread.astype(exact)
    return x.astype(dtype, copy=False)


def _moments(images: np.ndarray, block: int = 1 << 20) -> dict[str, np.ndarray]:
    """Mean and standard deviation of every value over the images, float64; 1 for the deviation where all are alike.

    In two passes over blocks of so many values, so that not all images are held as floats.
    """
    step = max(1, block // max(1, math.prod(images.shape[1:])))
    parts = [slice(start, start + step) for start in range(0, len(images), step)]
    mean = sum(images[part].sum(axis=0, dtype=np.float64) for part in parts) / np.float64(len(images))
    square = sum(np.square(images[part] - mean).sum(axis=0) for part in parts) / np.float64(len(images))
    alike = images.min(axis=0) == images.max(axis=0)  # their mean, rounded, need not be their value
    spread = np.where(alike | (square == 0), 1.0, np.sqrt(square))
    return {"mean": np.where(alike, images[0], mean), "spread": spread}


def _nothing(images: np.ndarray) -> dict[str, np.ndarray]:
    return {}


#: What learns from the training images, and what is done to images with what it learned, by name.
PREPROCESSINGS: dict[str, tuple[Callable[[np.ndarray], dict[str, np.ndarray]], Callable[..., np.ndarray]]] = {
    "image": (_nothing, standardise),
    "feature": (_moments, features),
    "none": (_nothing, lambda images, dtype: images.astype(dtype)),
}
#: The arrays that each of them learns, where it learns.
LEARNED = {"feature": ("mean", "spread")}

#: The paper's preprocessing, for who has no data set at hand.
IMAGE = Preprocess("image", standardise)
