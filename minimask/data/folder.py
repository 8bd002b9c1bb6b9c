"""A data set from a folder of pictures, a folder per class: PNG and JPEG, by way of Pillow (extra ``images``).

What was decoded can be kept in one file beside the folder (NAME.minimask.npz), which is taken as long as the folder's
files have the sizes and times that they had.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import MinimaskError, UsageError, unknown
from ..meter import Meter
from .files import DataError
from .own import HELD_OUT, from_arrays
from .sets import Dataset

ENDINGS, FORMATS = (".png", ".jpg", ".jpeg"), ("PNG", "JPEG")
FITS, MODES = ("resize", "pad", "refuse"), ("grey", "colour")
#: Folders that hold class folders of their own: one to train on, and one of these to hold out, the first that is there.
#: In capitals, too.
TRAIN, HELD = "train", ("test", "val", "valid", "validation")
#: Pixels of a picture, at most; and of the side that all are brought to.
MOST_PIXELS, MOST_SIDE = 1 << 26, 4096
#: How the file ends that decoded pictures are kept in, and what its digest begins with: another layout, another number.
CACHE, LAYOUT = ".minimask.npz", b"pictures 1\n"


def from_folder(folder: str | Path, size: int | str | tuple[int, int] | None = None, fit: str | None = None,
                mode: str | None = None, held_out: float = HELD_OUT, seed: int = 0, preprocess: Any = None,
                meter: Meter | None = None, cache: bool = False, name: str | None = None) -> Dataset:
    """A data set from a folder with a folder per class, whose names are those of the classes: DIR/cat/1.png.

    Where DIR holds `train` and `test` (or `val`) with class folders in them, `test` is held out; else a share is, as in
    :func:`minimask.data.from_arrays`. Files whose names begin with a dot do not count.

    Args:
        size: (height, width) that all are brought to, "32x24" or 32 for a square; that of the first one unless given.
        fit: 'resize' stretches to that size; 'pad' keeps the proportions and fills up with black; 'refuse' takes only
            pictures of that size. 'resize' where a size is given, else 'refuse'.
        mode: 'grey' or 'colour' of all; unless given grey where all are grey.
        meter: shows how far it is. cache: keep the decoded pictures in one file beside the folder; one that is there
            and up to date is always taken.

    Raises:
        UsageError: there is no such folder, or an argument is none. MinimaskError: Pillow is not installed.
        DataError: no class, a class without pictures or with one, a file that is no picture, or of another size where
            none are resized.
    """
    folder = Path(folder)
    listing, rule = list_folder(folder), Rule.of(size, fit, mode)
    kept = Path(os.path.abspath(folder) + CACHE)
    digest = listing.digest(rule)
    images = _kept(kept, digest)
    if images is None or len(images) != len(listing.paths):
        images = decode(listing, rule, meter)
        if cache:
            _keep(kept, images, digest)
    labels = np.array(listing.labels, np.int64)
    cut = listing.held_out_from
    test = None if cut is None else (images[cut:], labels[cut:])
    return from_arrays(images[:cut], labels[:cut], listing.classes, test, held_out, seed, preprocess,
                       name or f"folder:{folder}", os.path.abspath(folder))


# ---- what is there -------------------------------------------------------------------------------------------------


@dataclass
class Listing:
    """The pictures of a folder: classes, and path, size in bytes, time and label of each, in order.

    Attributes:
        held_out_from: where those begin that are to be held out; None where none is.
    """

    folder: Path
    classes: tuple[str, ...]
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    stamps: list[tuple[int, int]] = field(default_factory=list)
    held_out_from: int | None = None

    def digest(self, rule: Rule) -> bytes:
        """sha256 of what decides how the decoded pictures are: names, sizes and times of the files, and the rule."""
        root = len(str(self.folder))
        rows = [f"{path[root:]}\0{stamp}\n" for path, stamp in zip(self.paths, self.stamps)]
        return hashlib.sha256(LAYOUT + repr(rule).encode() + "".join(rows).encode("utf-8", "surrogatepass")).digest()


def list_folder(folder: Path) -> Listing:
    """The pictures below a folder, class by class, in the order of their names."""
    below = _folders(folder)
    named = {name.lower(): name for name in below}
    held = next((named[name] for name in HELD if name in named), None)
    if TRAIN in named and held and named.keys() <= {TRAIN, *HELD} and len(named) == len(below):
        train = folder / named[TRAIN]
        classes = _classes(train, _folders(train))
        listing = Listing(folder, classes)
        _list(listing, train, classes)
        strange = _folders(folder / held) - set(classes)
        if strange:
            raise DataError(f"{folder / held} has a class {min(strange)!r}, but {train} has none to train on")
        listing.held_out_from = len(listing.paths)
        _list(listing, folder / held, [name for name in classes if name in _folders(folder / held)])
        return listing
    listing = Listing(folder, _classes(folder, below))
    with os.scandir(folder) as entries:
        loose = [entry.path for entry in entries if entry.name[0] != "." and entry.name.lower().endswith(ENDINGS)]
    if loose:
        warnings.warn(f"{len(loose)} pictures in {folder} itself are left out, for they lie in no class's folder: "
                      f"{min(loose)}{' ...' * (len(loose) > 1)}", UserWarning, stacklevel=4)
    _list(listing, folder, listing.classes)
    return listing


def _folders(folder: Path) -> set[str]:
    """The names of the folders in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()}
    except FileNotFoundError:
        raise UsageError(f"there is no folder {folder}; give one that holds a folder of pictures for every "
                         "class") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be read as a folder ({error.strerror})") from error


def _classes(folder: Path, names: set[str]) -> tuple[str, ...]:
    """Names of classes in order, numbers by their value. DataError for fewer than two."""
    if len(names) < 2:
        there = f"one folder, {min(names)}" if names else "no folder"
        raise DataError(f"{folder} holds {there}; needed is a folder of pictures for every class, of 2 or more: "
                        f"{folder}/cat/1.png, {folder}/dog/1.png ...")
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _list(listing: Listing, folder: Path, classes: Sequence[str]) -> None:
    """Adds the pictures of every class; says how many other files are left out. DataError for a class without any."""
    left_out: list[str] = []
    for name in classes:
        label, found = listing.classes.index(name), []
        with os.scandir(folder / name) as entries:
            for entry in entries:
                if entry.name[0] == ".":
                    continue
                if entry.is_dir():
                    raise DataError(f"{folder / name} holds a folder, {entry.name}; needed are the pictures of one "
                                    "class and nothing below them")
                if entry.name.lower().endswith(ENDINGS) and entry.is_file():
                    status = entry.stat()
                    found.append((entry.name, entry.path, (status.st_size, status.st_mtime_ns)))
                else:
                    left_out.append(entry.path)
        if not found:
            raise DataError(f"{folder / name} holds no PNG or JPEG; put pictures of this class into it, or remove it")
        found.sort()
        listing.paths += [path for _, path, _ in found]
        listing.stamps += [stamp for *_, stamp in found]
        listing.labels += [label] * len(found)
    if left_out:
        warnings.warn(f"{len(left_out)} files in {folder} are left out, for their names do not end in "
                      f"{', '.join(ENDINGS)}: {min(left_out)}{' ...' * (len(left_out) > 1)}", UserWarning, stacklevel=5)


# ---- decoding ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What pictures are brought to: size (height, width), None for the first one's; fit and mode as in from_folder."""

    size: tuple[int, int] | None
    fit: str
    mode: str | None

    @classmethod
    def of(cls, size: int | str | tuple[int, int] | None, fit: str | None, mode: str | None) -> Rule:
        """The rule that arguments of from_folder say; UsageError where they say none."""
        if fit is not None and fit not in FITS:
            raise unknown("fit", fit, FITS)
        if mode is not None and mode not in MODES:
            raise unknown("mode", mode, MODES)
        if size is None:
            if fit in ("resize", "pad"):
                raise UsageError(f"fit {fit!r} needs a size that all pictures are brought to, such as '32x32'")
            return cls(None, "refuse", mode)
        sides = size.split("x") if isinstance(size, str) else size if isinstance(size, (tuple, list)) else (size,)
        try:
            numbers = tuple(int(side) if isinstance(side, str) else index(side) for side in sides)
        except (ValueError, TypeError):
            numbers = ()
        if not 1 <= len(numbers) <= 2 or not all(1 <= number <= MOST_SIDE for number in numbers):
            raise UsageError(f"size is {size!r}, but must be height and width, '32x24', or one number for a square, "
                             f"of 1 to {MOST_SIDE:,} pixels")
        return cls((numbers[0], numbers[-1]), fit or "resize", mode)


def decode(listing: Listing, rule: Rule, meter: Meter | None = None) -> np.ndarray:
    """All pictures of a listing, brought to one size and mode: (n, height, width, 1 or 3) uint8."""
    Image = _pillow()
    count, images = len(listing.paths), np.empty((0, 0, 0, 0), np.uint8)
    if meter:
        meter.start(str(listing.folder), count, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        for place, path in enumerate(listing.paths):
            try:
                with open(path, "rb", buffering=0) as file:
                    content = io.BytesIO(file.read())
                pixels = _pixels(Image, Image.open(content, formats=FORMATS), rule)
            except Exception as error:
                raise _sentence(path, error) from error
            if pixels.shape != images.shape[1:]:
                images, pixels = _agreed(listing, place, images, pixels)
            images[place] = pixels
            if meter and not place % 256:
                meter.at(place)
    if meter:
        meter.at(count)
        meter.stop()
    return images


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MinimaskError("pictures are read by Pillow, which is not installed: pip install 'minimask[images]'; "
                            "from_npz and from_csv need nothing") from error
    return Image


def _sentence(path: str, error: Exception) -> MinimaskError:
    """What went wrong with a picture, whatever its decoder raised."""
    if isinstance(error, UsageError):
        return DataError(f"{path} {error}")
    reason = str(error).partition("\n")[0].partition(" <_io.")[0] or type(error).__name__
    return DataError(f"{path} is no PNG or JPEG that can be decoded, or damaged ({reason:.200})")


def _pixels(Image: Any, picture: Any, rule: Rule) -> np.ndarray:
    """A picture (height, width, 1 or 3) uint8, brought to the rule's size and mode. UsageError where that cannot be."""
    mode = picture.mode
    plain = mode in ("L", "RGB") and "transparency" not in picture.info and picture.format == "PNG"
    if not plain or (rule.mode and (rule.mode == "grey") != (mode == "L")) or (
            rule.size and rule.size != (picture.height, picture.width)) or picture.width * picture.height > MOST_PIXELS:
        picture = _brought(Image, picture, rule)
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _brought(Image: Any, picture: Any, rule: Rule) -> Any:
    """A picture as Pillow has it, in mode L or RGB, upright, of the rule's size."""
    if picture.width * picture.height > MOST_PIXELS:
        raise UsageError(f"has {picture.width * picture.height:,} pixels, but {MOST_PIXELS:,} are the most")
    if picture.format == "JPEG":
        from PIL import ImageOps

        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # grey of 16 bits
        picture = Image.fromarray(np.round(np.asarray(picture, np.float64) / 257).clip(0, 255).astype(np.uint8))
    if "transparency" in picture.info or picture.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        grey = picture.mode in ("LA", "La", "L")
        picture = picture.convert("RGBA")
        if rule.mode is None and picture.getextrema()[3][0] < 255:
            raise UsageError("is transparent in places; say mode='colour' or 'grey' to have it on black")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
        picture = picture.convert("L" if grey else "RGB")
    wanted = {"grey": "L", "colour": "RGB"}.get(rule.mode or "", "L" if picture.mode in ("L", "1") else "RGB")
    picture = picture if picture.mode == wanted else picture.convert(wanted)
    if rule.size is None or rule.size == (picture.height, picture.width):
        return picture
    if rule.fit == "refuse":
        raise UsageError(f"is of {picture.height} x {picture.width} pixels, but {rule.size[0]} x {rule.size[1]} are "
                         "needed: crop or scale it, or say fit='resize' or 'pad'")
    return _scaled(Image, picture, *rule.size, keep=rule.fit == "pad")


def _scaled(Image: Any, picture: Any, height: int, width: int, keep: bool) -> Any:
    """The picture of another size; with `keep` in its proportions, in the middle of black."""
    if not keep:
        return picture.resize((width, height), Image.Resampling.BILINEAR)
    factor = min(height / picture.height, width / picture.width)
    inner = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    whole = Image.new(picture.mode, (width, height))
    whole.paste(picture.resize(inner, Image.Resampling.BILINEAR), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return whole


def _agreed(listing: Listing, place: int, images: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The array for all pictures and the next one of them, of one shape: made by the first, in colour from the first on
    that has some. DataError for another size."""
    if place == 0:
        return np.empty((len(listing.paths), *pixels.shape), np.uint8), pixels
    if pixels.shape[:2] != images.shape[1:3]:
        raise DataError(f"{listing.paths[place]} is of {' x '.join(map(str, pixels.shape[:2]))} pixels, but "
                        f"{listing.paths[0]} of {' x '.join(map(str, images.shape[1:3]))}: say which size all shall "
                        "have, size='32x32', and perhaps fit='pad'")
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    return images, np.broadcast_to(pixels, images.shape[1:])


# ---- kept beside the folder ----------------------------------------------------------------------------------------


def _kept(path: Path, digest: bytes) -> np.ndarray | None:
    """The decoded pictures in a cache file; None where there is none, or it is not of these files and this rule."""
    if not path.exists():
        return None
    try:
        with files.opened(path) as (archive, size):
            members = files.members(archive, {"images.npy", "listing.npy"}, size)
            if files.read_any_array(archive, members["listing.npy"]).tobytes() != digest:
                return None
            images = files.read_any_array(archive, members["images.npy"])
    except MinimaskError as error:
        warnings.warn(f"{error}; the pictures are decoded anew", UserWarning, stacklevel=3)
        return None
    return images if images.ndim == 4 and images.dtype == np.uint8 and images.shape[3] in (1, 3) else None


def _keep(path: Path, images: np.ndarray, digest: bytes) -> None:
    """Writes the cache file; warns where that fails."""
    try:
        with files.atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
            files.write_arrays(archive, {"listing": np.frombuffer(digest, np.uint8), "images": images})
    except files.WriteError as error:
        warnings.warn(f"the decoded pictures are not kept: {error}", UserWarning, stacklevel=3)
