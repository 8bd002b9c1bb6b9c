"""Images from files that users have: IDX as MNIST's, raw or .gz, NumPy's .npy, and .png by way of matplotlib.

What a file says of its size is held to what the net takes before the content is read. Values stay as they are stored; a
PNG's are 0 to 255.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from ..errors import MinimaskError, MissingMatplotlib, UsageError

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
        with open(path, "rb") as file:
            start = file.read(24)
        if start.startswith(b"\x93NUMPY"):
            return _npy(Path(path), shape)
        if start.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(Path(path), start, shape)
        if start.startswith((b"\0\0", b"\x1f\x8b")):
            return _idx(Path(path), start.startswith(b"\x1f\x8b"), shape)
    except FileNotFoundError:
        raise UsageError(f"there is no {path}; give a file of images: IDX (.gz too), .npy or .png") from None
    except OSError as error:
        raise MinimaskError(f"{path} cannot be read ({error.strerror or error})") from error
    raise UsageError(f"{path} begins with {start[:4]!r}: it is neither IDX (.gz too) nor .npy nor .png")


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


def _npy(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # its size is compared with the file's
    except MemoryError:
        raise
    except Exception as error:  # NumPy reads the header with Python's tokenizer: any of its errors may come
        reason = str(error).partition("\n")[0]
        raise MinimaskError(f"{path} is no .npy file that can be read, or a damaged one ({reason:.200})") from error
    if mapped.dtype.kind not in "iuf" or mapped.nbytes > LIMIT:
        raise UsageError(f"{path} holds {mapped.nbytes:,} bytes of {mapped.dtype}; needed are at most {LIMIT:,} of "
                         "integers or floats")
    return np.array(mapped).reshape(_fitted(path, mapped.shape, shape))


def _idx(path: Path, packed: bool, shape: tuple[int, ...]) -> np.ndarray:
    """IDX of unsigned bytes: 0, 0, 8, the number of axes, each axis as 4 bytes, the values."""
    import gzip
    import zlib

    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            start = file.read(4)
            axes = start[3] if len(start) == 4 else 0
            sizes = file.read(4 * axes)
            if start[:3] != b"\0\0\x08" or len(sizes) < 4 * axes or not 2 <= axes <= 4:
                raise UsageError(f"{path}: its header is {start.hex(' ')}, but needed is IDX of unsigned bytes with 2 "
                                 "to 4 axes: 00 00 08, and how many")
            found = tuple(int.from_bytes(sizes[i:i + 4], "big") for i in range(0, 4 * axes, 4))
            fitted, count = _fitted(path, found, shape), math.prod(found)
            if count > LIMIT:
                raise UsageError(f"{path} promises {count:,} bytes of images, but at most {LIMIT:,} are read at once")
            if not packed and os.path.getsize(path) != 4 + 4 * axes + count:
                raise MinimaskError(f"{path} has {os.path.getsize(path):,} bytes, but its header promises "
                                    f"{4 + 4 * axes + count:,}: it is damaged")
            content = bytearray()
            while len(content) <= count and (piece := file.read(min(1 << 20, count + 1 - len(content)))):
                content += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MinimaskError(f"{path} cannot be unpacked ({error}): it is damaged or no gzip file") from error
    if len(content) != count:
        raise MinimaskError(f"{path} holds {'more' if len(content) > count else 'fewer'} than the {count:,} bytes of "
                            "images that its header promises: it is damaged")
    return np.frombuffer(content, np.uint8).reshape(fitted)


def _png(path: Path, start: bytes, shape: tuple[int, ...]) -> np.ndarray:
    try:
        from matplotlib import image
    except ImportError as error:
        raise MissingMatplotlib("PNG images are read by matplotlib: pip install matplotlib") from error
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    if len(shape) != 3 or (height, width) != shape[:2]:
        raise UsageError(f"{path} is an image of {height} x {width} pixels, but the net takes "
                         f"{' x '.join(map(str, shape))}: crop or scale it first")
    try:
        pixels = np.asarray(image.imread(path, format="png"))  # (h, w), (h, w, 3) or (h, w, 4), 0 to 1
    except MemoryError:
        raise
    except Exception as error:  # whatever the decoder raises on a damaged file
        reason = str(error).partition("\n")[0]
        raise MinimaskError(f"{path} cannot be decoded ({reason:.200}): it is damaged") from error
    if pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[..., 3] == 1).all():
        pixels = pixels[..., :3]
    if pixels.ndim == 3 and shape[2] == 1 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]  # grey, stored as colour
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape != shape:
        kind = {1: "grey", 3: "colour", 4: "transparent"}.get(pixels.shape[2], "of another kind")
        needed = "grey" if shape[2] == 1 else "colour"
        raise UsageError(f"{path} is {kind}, but the net takes {needed} images; convert it")
    return np.round(pixels * 255)[None]
