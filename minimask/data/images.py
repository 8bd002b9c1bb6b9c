"""Images from files that users have: IDX as MNIST's, raw or .gz, .npy, .csv of a table's rows, PNG and JPEG by Pillow.

A file is opened once. What it says of its size is held to what the net takes by the reading that decodes it, before
memory is taken for its content. Values stay as they are stored; a PNG's are 0 to 255.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import files
from ..errors import MinimaskError, MissingMatplotlib, UsageError

#: What a camera says of how it was held, from 5 on across.
ORIENTATION = 0x0112
#: Most bytes of images that are read from one file.
LIMIT = 1 << 30


def read(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """The images in a file: (n, height, width, channels), n = 1 where it holds one.

    Args:
        shape: (height, width, channels) that each must have. Grey images may lack the last axis, and one image the
            first.

    Raises:
        UsageError: there is no such file, it is of another kind, or its images have another shape.
        MinimaskError: it is damaged. MissingMatplotlib: a PNG cannot be read without.
    """
    try:
        with files.to_read(path) as file:
            start = file.read(8)
            file.seek(0)
            if start.startswith(b"\x93NUMPY"):
                return _npy(Path(path), file, shape)
            if start == b"\x89PNG\r\n\x1a\n" or start.startswith(b"\xff\xd8\xff"):
                return _picture(Path(path), file, shape, jpeg=start[0] == 0xff)
            if start.startswith((b"\0\0", b"\x1f\x8b")):
                return _idx(Path(path), file, start.startswith(b"\x1f\x8b"), shape)
        if str(path).lower().endswith(".csv"):
            return _csv(path, shape)
    except FileNotFoundError:
        raise UsageError(f"there is no {path}; give a file of images: IDX (.gz too), .npy or .png") from None
    except OSError as error:
        raise MinimaskError(f"{path} cannot be read ({error.strerror or error})") from error
    raise UsageError(f"{path} begins with {start[:4]!r}: it is neither IDX (.gz too) nor .npy nor PNG nor JPEG, nor "
                     "is it called .csv")


@contextlib.contextmanager
def _decoding(path: Path, what: str) -> Iterator[None]:
    """Whatever a library's reader raises on a damaged file becomes a MinimaskError; its warnings are for others."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MinimaskError:
        raise
    except Exception as error:  # MemoryError too: parsers raise it for what is nested too deeply
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MinimaskError(f"{path} {what} ({reason:.200})") from error


def _fitted(path: Path, found: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape (n, height, width, channels) that images of shape `found` get; UsageError where none fits."""
    grey = shape[-1:] == (1,)
    if found == shape or (grey and found == shape[:-1]):
        return (1, *shape)
    if found[1:] == shape or (grey and len(found) == len(shape) and found[1:] == shape[:-1]):
        return (found[0], *shape)
    wanted = " x ".join(map(str, shape[:-1] if grey else shape))
    raise UsageError(f"{path} holds an array of {' x '.join(map(str, found)) or 'no axes'}, but the net takes images "
                     f"of {wanted}, one or n of them: crop or scale them first")


def _csv(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """The rows of a table, without classes, for a net that takes some."""
    from .own import csv_numbers

    if len(shape) != 3 or shape[0] != 1:
        raise UsageError(f"{path} is a table, but the net takes images of {' x '.join(map(str, shape))}")
    return csv_numbers(path, math.prod(shape)).reshape(-1, *shape)


def _npy(path: Path, file: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    from numpy.lib import format as layout

    readers: dict[tuple[int, int], Any] = {(1, 0): layout.read_array_header_1_0, (2, 0): layout.read_array_header_2_0}
    with _decoding(path, "is no .npy file that can be read, or a damaged one"):
        version = layout.read_magic(file)
        if version not in readers:
            raise ValueError(f"version {version[0]}.{version[1]}, which no array of numbers needs")
        found, columns_first, dtype = readers[version](file)
        if min(found, default=0) < 0:
            raise ValueError(f"shape {found}")
    size = math.prod(found) * dtype.itemsize
    if dtype.kind not in "iuf" or size > LIMIT:
        raise UsageError(f"{path} holds {size:,} bytes of {dtype}; needed are at most {LIMIT:,} of integers or floats")
    fitted, there = _fitted(path, found, shape), os.fstat(file.fileno()).st_size - file.tell()
    if there != size:
        hint = "" if there else "; of a masked array np.save leaves no more: save its filled(0)"
        raise MinimaskError(f"{path} is a damaged .npy file: its header promises {size:,} bytes of images, but "
                            f"{there:,} follow{hint}")
    content = np.frombuffer(bytearray(file.read(size)), dtype)
    return content.reshape(found, order="F" if columns_first else "C").reshape(fitted)


def _idx(path: Path, file: IO[bytes], packed: bool, shape: tuple[int, ...]) -> np.ndarray:
    """IDX of unsigned bytes: 0, 0, 8, the number of axes, each axis as 4 bytes, the values."""
    try:
        stream: Any = gzip.GzipFile(fileobj=file) if packed else file
        start = stream.read(4)
        axes = start[3] if len(start) == 4 else 0
        sizes = stream.read(4 * axes)
        if start[:3] != b"\0\0\x08" or len(sizes) < 4 * axes or not 2 <= axes <= 4:
            raise UsageError(f"{path}: its header is {start.hex(' ')}, but needed is IDX of unsigned bytes with 2 "
                             "to 4 axes: 00 00 08, and how many")
        found = tuple(int.from_bytes(sizes[i:i + 4], "big") for i in range(0, 4 * axes, 4))
        fitted, count = _fitted(path, found, shape), math.prod(found)
        if count > LIMIT:
            raise UsageError(f"{path} promises {count:,} bytes of images, but at most {LIMIT:,} are read at once")
        there = os.fstat(file.fileno()).st_size
        if not packed and there != 4 + 4 * axes + count:
            raise MinimaskError(f"{path} has {there:,} bytes, but its header promises {4 + 4 * axes + count:,}: it is "
                                "damaged")
        content = bytearray()
        while len(content) <= count and (piece := stream.read(min(1 << 20, count + 1 - len(content)))):
            content += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MinimaskError(f"{path} cannot be unpacked ({error}): it is damaged or no gzip file") from error
    if len(content) != count:
        raise MinimaskError(f"{path} holds {'more' if len(content) > count else 'fewer'} than the {count:,} bytes of "
                            "images that its header promises: it is damaged")
    return np.frombuffer(content, np.uint8).reshape(fitted)


def _picture(path: Path, file: IO[bytes], shape: tuple[int, ...], jpeg: bool) -> np.ndarray:
    """A PNG, or a JPEG turned upright."""
    try:
        from PIL import ImageOps, JpegImagePlugin, PngImagePlugin
    except ImportError as error:
        raise MissingMatplotlib("PNG images are read by Pillow, which comes with matplotlib: pip install "
                                "matplotlib") from error
    if os.fstat(file.fileno()).st_size > LIMIT:
        raise UsageError(f"{path} has more than {LIMIT:,} bytes, too many for an image of a net's size")
    with _decoding(path, "cannot be decoded, it is damaged"):
        # What it is made by reads up to the first pixels, which are decoded below by the same.
        image: Any = JpegImagePlugin.JpegImageFile(file) if jpeg else PngImagePlugin.PngImageFile(file)
        width, height = image.size[::-1] if jpeg and image.getexif().get(ORIENTATION, 1) > 4 else image.size
        if len(shape) != 3 or (height, width) != shape[:2]:
            raise UsageError(f"{path} is an image of {height} x {width} pixels, but the net takes "
                             f"{' x '.join(map(str, shape))}: crop or scale it first")
        pixels = _pixels(ImageOps.exif_transpose(image) if jpeg else image)
    if pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():
        pixels = pixels[..., :3]
    if shape[2] == 1 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]  # grey, stored as colour
    if pixels.shape != shape:
        kind = {1: "grey", 3: "colour", 4: "transparent"}.get(pixels.shape[2], "of another kind")
        needed = "grey" if shape[2] == 1 else "colour"
        raise UsageError(f"{path} is {kind}, but the net takes {needed} images; convert it")
    return pixels[None]


def _pixels(image: Any) -> np.ndarray:
    """A Pillow image as (height, width, 1, 3 or 4) of 0 to 255, 4 where it may be transparent."""
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        image = image.convert("RGBA")
    elif image.mode in ("P", "CMYK"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    elif pixels.dtype != np.uint8:  # grey of 16 bits
        pixels = np.round(pixels / 257).astype(np.float32)
    return pixels[..., None] if pixels.ndim == 2 else pixels
