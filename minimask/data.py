"""Data sets: the bundled digits, MNIST from its IDX files, standardisation and seeded batches. All host work.

Images stay as they are stored (uint8, NHWC); :func:`standardise` turns a batch into float when it is used.
Nothing is ever downloaded here, and nothing is unpickled.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .backend import MinimaskError, UsageError, unknown

if TYPE_CHECKING:  # pathlib, gzip and hashlib are imported where files are read: `import minimask` stays quick
    from pathlib import Path


class DataError(MinimaskError):
    """A data file is missing, damaged or not what its name says; the message tells which, and where to put it."""


@dataclass(frozen=True)
class Dataset:
    """Labelled images, to train and held out.

    Attributes:
        name: 'digits', 'mnist', or what you call your own.
        train_images, test_images: (n, height, width, channels), uint8 or floating.
        train_labels, test_labels: (n,), integers 0..len(classes)-1.
        classes: names of the classes, by label.

    Raises:
        DataError: empty parts, shapes that do not fit, labels that are no integers or out of range.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]

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
            if images.ndim != 4 or labels.shape != images.shape[:1]:
                raise DataError(f"{where}: images {images.shape} and labels {labels.shape}; "
                                "needed are (n, height, width, channels) and (n,)")
            if len(images) == 0:
                raise DataError(f"{where}: is empty; give at least one image")
            if labels.dtype.kind not in "iu":
                raise DataError(f"{where}: labels are {labels.dtype}, but must be integers 0..{len(self.classes) - 1}")
            if not 0 <= labels.min() <= labels.max() < len(self.classes):
                raise DataError(f"{where}: labels from {labels.min()} to {labels.max()}, but there are "
                                f"{len(self.classes)} classes; labels must lie in 0..{len(self.classes) - 1}")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(f"data set {self.name!r}: images to train are {self.train_images.shape[1:]}, "
                            f"those held out {self.test_images.shape[1:]}; both must agree")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels) of one image."""
        return self.train_images.shape[1:]


def standardise(images: np.ndarray, dtype: str = "float32") -> np.ndarray:
    r"""Every image by itself: (x - mean) / max(std, 1/sqrt(number of values)). (n, H, W, C) -> same, floating.

    Mean and population standard deviation over all pixels and channels of the raw values, as TensorFlow's
    ``per_image_standardization`` does, which the paper's code uses. A constant image becomes all zeros.
    """
    flat = images.reshape(len(images), -1).astype(dtype)  # (n, H*W*C)
    values = flat.shape[1]
    flat -= flat.mean(axis=1, keepdims=True)
    std = np.sqrt(np.einsum("ij,ij->i", flat, flat) / values)  # (n,)
    flat /= np.maximum(std, 1 / math.sqrt(values))[:, None]
    return flat.reshape(images.shape)


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


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The indices 0..count-1 in a fresh random order, `size` at a time; the short last batch is kept."""
    order = rng.permutation(count)
    return (order[start:start + size] for start in range(0, count, size))


# ---- the sets ------------------------------------------------------------------------------------------------------


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


#: MNIST's files: name -> (sha256 of the decompressed bytes, shape in its header).
MNIST = {
    "train-images-idx3-ubyte": ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", (60000, 28, 28)),
    "train-labels-idx1-ubyte": ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", (60000,)),
    "t10k-images-idx3-ubyte": ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", (10000, 28, 28)),
    "t10k-labels-idx1-ubyte": ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", (10000,)),
}


def mnist(folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """MNIST, 60,000 + 10,000 handwritten digits of 28x28 pixels, from its four IDX files (LeCun et al. 1998).

    Args:
        folder: holds ``mnist/`` with the four files, raw or as .gz; None takes the variable MINIMASK_DATA.
        allow_unverified: take files of the right size and header whose content is not the official one; it warns.

    Raises:
        DataError: a file is missing, damaged, or its content has another sha256 than the official one.
    """
    folder = data_folder(folder)
    if folder.name == "mnist" and not (folder / "mnist").exists():
        raise UsageError(f"the data folder {str(folder)!r} is the data set's own; give the folder above it, "
                         f"{str(folder.parent)!r}")
    folder = folder / "mnist"
    parts = [read_idx(folder, name, digest, shape, allow_unverified) for name, (digest, shape) in MNIST.items()]
    return Dataset("mnist", parts[0][..., None], parts[1], parts[2][..., None], parts[3], tuple("0123456789"))


#: CIFAR's binary files: data set -> (folder, label bytes per record, sha256 by file; the last file is the test part).
CIFAR = {
    "cifar10": ("cifar-10-batches-bin", 1, {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"}),
    "cifar100": ("cifar-100-binary", 2, {
        "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"}),
}
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
    return _cifar("cifar10", folder, allow_unverified, 10_000, CIFAR10_CLASSES)


def cifar100(folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """CIFAR-100, 50,000 + 10,000 images in 100 fine classes, in its binary format; otherwise as :func:`cifar10`.

    Looked for in ``cifar-100-binary/`` as train.bin and test.bin. The coarse labels are not used.
    """
    return _cifar("cifar100", folder, allow_unverified, 50_000, tuple(map(str, range(100))))


def _cifar(name: str, folder: str | Path | None, allow_unverified: bool, records: int,
           classes: tuple[str, ...]) -> Dataset:
    """Reads a CIFAR set; a training file holds `records` records, the test file 10,000."""
    below, label_bytes, files = CIFAR[name]
    folder, parts = data_folder(folder) / below, []
    for file, digest in files.items():
        count = 10_000 if file.startswith("test") else records
        content = read_content(folder, file, count * (label_bytes + 3072), digest, b"", allow_unverified)
        rows = np.frombuffer(content, np.uint8).reshape(count, label_bytes + 3072)
        planes = rows[:, label_bytes:].reshape(count, 3, 32, 32)  # red, green, blue, row by row
        parts.append((planes.transpose(0, 2, 3, 1), rows[:, label_bytes - 1]))  # the last label byte is the fine one
    images, labels = (np.concatenate(column) for column in zip(*parts[:-1]))
    return Dataset(name, images, labels, np.ascontiguousarray(parts[-1][0]), parts[-1][1].copy(), classes)


def data_folder(folder: str | Path | None = None) -> Path:
    """The folder that data sets lie in: the argument, else MINIMASK_DATA; UsageError where it is missing."""
    from pathlib import Path

    named = folder if folder is not None else os.environ.get("MINIMASK_DATA")
    if not named:
        raise UsageError("no data folder: give --data DIR (folder=DIR in Python) or set MINIMASK_DATA=DIR; "
                         "MNIST is looked for in DIR/mnist/")
    if not Path(named).is_dir():
        wrong = "is no folder" if Path(named).exists() else "does not exist"
        raise UsageError(f"the data folder {str(named)!r} {wrong}; give another with --data DIR or MINIMASK_DATA")
    return Path(named)


def read_idx(folder: Path, name: str, digest: str, shape: tuple[int, ...],
             allow_unverified: bool = False) -> np.ndarray:
    """The IDX file `name` or `name`.gz in `folder` as a uint8 array of `shape`; DataError if it is anything else."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    content = read_content(folder, name, len(header) + math.prod(shape), digest, header, allow_unverified)
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def read_content(folder: Path, name: str, size: int, digest: str, header: bytes, allow_unverified: bool) -> bytes:
    """The content of file `name` or `name`.gz in `folder`: `size` bytes that begin with `header` and have this sha256.

    Raises DataError if it is anything else. With `allow_unverified` another sha256 is only warned about.
    """
    import gzip
    import hashlib
    import zlib

    try:
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
        if path is None:
            raise DataError(f"{name} is missing: put {name} or {name}.gz into {folder} "
                            f"(sha256 of its content: {digest})")
        opened = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
        with opened as file:
            content = file.read(size + 1)  # one more than is needed: tells a longer file, and stops a bomb
    except PermissionError as error:
        raise DataError(f"{error.filename} may not be read ({error.strerror}); allow it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): it is truncated or no gzip file; get it again") from error
    if len(content) != size:
        found_size = f"{len(content):,}" if len(content) < size else f"more than {size:,}"
        raise DataError(f"{path}: {found_size} bytes of content, but {size:,} are needed (with sha256 {digest}): "
                        f"it is truncated or another file; put the official {name} there")
    found = hashlib.sha256(content).hexdigest()
    if content[:len(header)] != header or (found != digest and not allow_unverified):
        raise DataError(f"{path}: expected sha256 {digest} of its content, found {found}: "
                        f"it is damaged or another file; put the official {name} there"
                        + ("" if allow_unverified else ", or take it as it is with --allow-unverified"))
    if found != digest:
        warnings.warn(f"{path} is not the official file (sha256 {found}, official {digest}); numbers measured on it "
                      "are not comparable", UserWarning, stacklevel=2)
    return content


#: Data sets by name.
DATASETS: dict[str, Callable[..., Dataset]] = {"mnist": mnist, "cifar10": cifar10, "cifar100": cifar100}


def load(name: str, folder: str | Path | None = None, allow_unverified: bool = False) -> Dataset:
    """The data set of that name: 'digits', or one of those below `folder`. UsageError for an unknown name."""
    if name == "digits":
        return digits()
    if name not in DATASETS:
        raise unknown("dataset", name, ["digits", *DATASETS])
    return DATASETS[name](folder, allow_unverified)
