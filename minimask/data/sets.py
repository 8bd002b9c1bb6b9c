"""Data sets: the bundled digits, MNIST and CIFAR from their files. All host work.

Images stay as they are stored (uint8, NHWC); preprocess.py turns a batch into float when it is used.
Nothing is downloaded here (`minimask data fetch` does, when it is asked to), and nothing is unpickled.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError, unknown
from . import files
from .files import DataError
from .preprocess import Preprocess, fitted, refuse_no_numbers

if TYPE_CHECKING:
    from pathlib import Path

@dataclass(frozen=True)
class Dataset:
    """Labelled images, to train and held out.

    Attributes:
        name: 'digits', 'mnist', or what you call your own.
        train_images, test_images: (n, height, width, channels), uint8 or floating.
        train_labels, test_labels: (n,), integers 0..len(classes)-1; or targets of another loss than the usual one
            (losses.py): floats (n,), and numbers (n, k).
        classes: names of the classes, by label; of the net's outputs, where targets are no labels.
        verified: False for files that are not the official ones, or of which no checksum is known.
        preprocess: what is done to raw images before a net sees them, as in :func:`minimask.data.preprocess.fitted`;
            None is the default, every image by itself as the paper does.
        prepare: that, with what it learned from the training images: raw images -> floating.
        path: the file or folder that it was read from, absolute; "" where there is none.

    Raises:
        DataError: empty parts, shapes that do not fit, no plain numbers, labels out of range, targets not finite.
        UsageError: an unknown preprocessing.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    verified: bool = True
    preprocess: Any = None
    path: str = ""
    prepare: Preprocess = field(init=False)

    def __post_init__(self) -> None:
        for part in ("train_images", "train_labels", "test_images", "test_labels"):
            if not isinstance(getattr(self, part), np.ndarray):
                raise DataError(f"data set {self.name!r}: {part} is a {type(getattr(self, part)).__name__}, "
                                "but must be a NumPy array")
        if not isinstance(self.classes, tuple) or not self.classes:
            raise DataError(f"data set {self.name!r}: classes is {self.classes!r}, but must be a tuple of their names")
        for part, images, labels in (("train", self.train_images, self.train_labels),
                                     ("test", self.test_images, self.test_labels)):
            where = f"data set {self.name!r}, {part} part"
            for values in (images, labels):
                refuse_no_numbers(values, where)
            if images.ndim != 4 or labels.shape[:1] != images.shape[:1] or labels.ndim > 2 or 0 in labels.shape[1:]:
                raise DataError(f"{where}: images {images.shape} and labels {labels.shape}; "
                                "needed are (n, height, width, channels) and (n,), or targets (n, k)")
            if len(images) == 0:
                raise DataError(f"{where}: is empty; give at least one image")
            if labels.ndim == 2 or labels.dtype.kind == "f":
                _refuse_targets(where, labels)
            elif labels.dtype.kind not in "iu":
                raise DataError(f"{where}: labels are {labels.dtype}, but must be integers 0..{len(self.classes) - 1}")
            elif not 0 <= labels.min() <= labels.max() < len(self.classes):
                raise DataError(f"{where}: labels from {labels.min()} to {labels.max()}, but there are "
                                f"{len(self.classes)} classes; labels must lie in 0..{len(self.classes) - 1}")
        if self.train_labels.shape[1:] != self.test_labels.shape[1:] or (
                self.train_labels.dtype.kind == "f") != (self.test_labels.dtype.kind == "f"):
            raise DataError(f"data set {self.name!r}: labels to train are {self.train_labels.dtype} of shape "
                            f"{self.train_labels.shape}, those held out {self.test_labels.dtype} of shape "
                            f"{self.test_labels.shape}; both must be of one kind")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(f"data set {self.name!r}: images to train are {self.train_images.shape[1:]}, "
                            f"those held out {self.test_images.shape[1:]}; both must agree")
        object.__setattr__(self, "prepare", fitted(self.preprocess, self.train_images))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels) of one image."""
        return self.train_images.shape[1:]


def _refuse_targets(where: str, targets: np.ndarray) -> None:
    """DataError where targets that are no labels hold NaN or infinity."""
    if not np.isfinite(targets).all():
        at = np.unravel_index(np.flatnonzero(~np.isfinite(targets))[0], targets.shape)
        raise DataError(f"{where}: target {', '.join(map(str, at))} is {targets[at]}, but must be finite")


def augment(images: np.ndarray, rng: np.random.Generator, border: int = 4) -> np.ndarray:
    """Pads by `border` zeros, flips half of the images left to right, and crops a random window of the old size.

    (n, h, w, c) -> a new array of the same shape and dtype; everything is drawn from rng, all images at once.
    """
    n, h, w, _ = images.shape
    padded = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)))
    rows = rng.integers(0, 2 * border + 1, (n, 1)) + np.arange(h)  # (n, h)
    columns = rng.integers(0, 2 * border + 1, (n, 1)) + np.arange(w)  # (n, w)
    flipped = rng.integers(0, 2, n).astype(bool)
    columns[flipped] = columns[flipped, ::-1]
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def digits() -> Dataset:
    """1,797 handwritten digits, 8x8 pixels of 0..16: 1,437 to train, 360 held out, the same every time.

    "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
    doi:10.24432/C50P49, licence CC BY 4.0; the part that UCI calls its test set. It comes with the package.
    """
    with np.load(os.path.join(os.path.dirname(__file__), "digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"][..., None], file["labels"]  # (1797, 8, 8, 1), (1797,)
    order = np.random.default_rng(0).permutation(len(images))  # shuffled once: both parts are alike
    train, test = order[:1437], order[1437:]
    return Dataset("digits", images[train], labels[train], images[test], labels[test], tuple("0123456789"))


def mnist(folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """MNIST, 60,000 + 10,000 handwritten digits of 28x28 pixels, from its four IDX files (LeCun et al. 1998).

    Args:
        folder: holds ``mnist/`` with the four files, raw or as .gz; None takes the variable MINIMASK_DATA.
        allow_unverified: take files of the right size and header whose content is not the official one; it warns.

    Raises:
        DataError: a file is missing, damaged, or its content has another sha256 than the official one.
    """
    return _idx("mnist", folder, allow_unverified, tuple("0123456789"))


FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def fashion_mnist(folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """Fashion-MNIST, 60,000 + 10,000 articles of clothing in MNIST's format (Xiao, Rasul and Vollgraf 2017).

    Looked for in ``fashion-mnist/``. No checksum of it is known here: sizes, headers and the range of the labels are
    checked, and it warns that the content is unverified (with `allow_unverified` it does not).
    """
    dataset = _idx("fashion-mnist", folder, allow_unverified, FASHION_CLASSES)
    if not allow_unverified:
        warnings.warn("fashion-mnist is unverified: its files have the right sizes and headers, but no official "
                      "checksum of them is known to minimask", UserWarning, stacklevel=2)
    return dataset


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """CIFAR-10, 50,000 + 10,000 colour images of 32x32 pixels in 10 classes, in its binary format (Krizhevsky 2009).

    Args:
        folder: holds ``cifar-10-batches-bin/`` with data_batch_1.bin to _5.bin and test_batch.bin.
        allow_unverified: take files of the right size whose content is not the official one (a copy decoded from
            JPEG, say); it warns, and nothing measured on them is comparable with published numbers.

    Raises:
        DataError: a file is missing, of another size, or (unless allowed) of another content.
    """
    return _cifar("cifar10", folder, allow_unverified, CIFAR10_CLASSES)


def cifar100(folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """CIFAR-100, 50,000 + 10,000 images in 100 fine classes, in its binary format; otherwise as :func:`cifar10`.

    Looked for in ``cifar-100-binary/`` as train.bin and test.bin. The coarse labels are not used.
    """
    return _cifar("cifar100", folder, allow_unverified, tuple(map(str, range(100))))


def _idx(name: str, folder: str | Path | None, allow_unverified: bool, classes: tuple[str, ...]) -> Dataset:
    """Reads a set of four IDX files: images and labels to train, images and labels held out."""
    below, wanted = files.set_folder(name, folder), files.SETS[name]
    read = [files.read(below, name, file, allow_unverified) for file in wanted.files]
    images, labels, test_images, test_labels = (content for content, _ in read)
    verified = _verified(name, [official for _, official in read])
    return Dataset(name, images[..., None], labels, test_images[..., None], test_labels, classes, verified)


def _cifar(name: str, folder: str | Path | None, allow_unverified: bool, classes: tuple[str, ...]) -> Dataset:
    """Reads a CIFAR set: files of records, the last one held out. Each byte goes to its place as it is read."""
    below, wanted = files.set_folder(name, folder), files.SETS[name]
    ends = np.cumsum([file.shape[0] for file in wanted.files])
    parts = [(np.empty((n, 32, 32, 3), np.uint8), np.empty(n, np.uint8)) for n in (ends[-2], ends[-1] - ends[-2])]
    official = []
    for begin, file in zip([0, *ends[:-2], 0], wanted.files):
        images, labels = (part[begin:] for part in parts[file is wanted.files[-1]])
        place = functools.partial(_place, images, labels)
        official.append(files.read_rows(below, name, file, allow_unverified, place))
    (images, labels), (test_images, test_labels) = parts
    return Dataset(name, images, labels, test_images, test_labels, classes, _verified(name, official))


def _place(images: np.ndarray, labels: np.ndarray, rows: np.ndarray, first: int) -> None:
    """Writes records `first` and so on of a CIFAR file, (some, label bytes + 3072), into its images and labels."""
    at = slice(first, first + len(rows))
    images[at] = rows[:, -3072:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # from red, green, blue, row by row
    labels[at] = rows[:, -3073]  # the last label byte is the fine one


def _verified(name: str, official: list[bool]) -> bool:
    """Whether all files of a set, in order, are known to be the official ones; warns where some are not."""
    wanted = files.SETS[name]
    others = [file.name for file, good in zip(wanted.files, official) if not good]
    if others:
        warnings.warn(f"{len(others)} of the {len(official)} files of {name} are not the official ones "
                      f"({', '.join(others)}): numbers measured on them are not comparable", UserWarning, stacklevel=4)
    return wanted.verified and not others


#: Data sets by name.
DATASETS: dict[str, Callable[..., Dataset]] = {"mnist": mnist, "fashion-mnist": fashion_mnist, "cifar10": cifar10,
                                              "cifar100": cifar100}


#: Shape of an image and names of the classes of every data set.
OUTLINES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "digits": ((8, 8, 1), tuple("0123456789")), "mnist": ((28, 28, 1), tuple("0123456789")),
    "fashion-mnist": ((28, 28, 1), FASHION_CLASSES), "cifar10": ((32, 32, 3), CIFAR10_CLASSES),
    "cifar100": ((32, 32, 3), tuple(map(str, range(100))))}


def outline(name: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """(height, width, channels) and class names of a data set, without its files. UsageError: unknown name."""
    whole = name.removesuffix("-validation")
    if whole not in OUTLINES:
        raise unknown("dataset", name, OUTLINES)
    return OUTLINES[whole]


def validation(dataset: Dataset) -> Dataset:
    """The set to choose settings by: the last of the training images are held out in place of the test images.

    A sixth of them, 10,000 of MNIST's; of the CIFAR sets a tenth, 5,000. Nothing of the test images is in it. Its name
    ends in '-validation'. DataError where there are too few to hold any out.
    """
    count = len(dataset.train_images) // (10 if dataset.name in ("cifar10", "cifar100") else 6)
    images, labels = dataset.train_images, dataset.train_labels
    if not count:
        raise DataError(f"{dataset.name}-validation holds out a sixth of the training images of {dataset.name}, which "
                        f"has {len(images)}; needed are 6 or more")
    return replace(dataset, name=f"{dataset.name}-validation", train_images=images[:-count],
                   train_labels=labels[:-count], test_images=images[-count:], test_labels=labels[-count:])


def load(name: str, folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """The data set of that name: 'digits', or one of those below `folder`; 'mnist-validation' and so on, see above.

    UsageError for an unknown name. DataError: as those functions, and it says of which set the files are needed.
    """
    whole, there = name.removesuffix("-validation"), ["digits", *DATASETS]
    if whole not in there:
        if name.rpartition("-")[0]:  # perhaps meant for such a set
            raise unknown("dataset", name, [*there, *(f"{each}-validation" for each in there)])
        raise unknown("dataset", name, there)
    try:
        dataset = digits() if whole == "digits" else DATASETS[whole](folder, allow_unverified)
    except (DataError, UsageError) as error:
        if name == whole:
            raise
        raise type(error)(f"{name} is made of the training images of {whole}, so these are needed: {error}") from error
    return dataset if name == whole else validation(dataset)
