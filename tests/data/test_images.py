"""Image files as they come: IDX, .npy and PNG, whole, damaged and of other sizes."""

import contextlib
import gzip
import os
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from minimask import (
    MinimaskError,
    UsageError,
    data,
    models,
    plot,
    predict,
    train,
)
from minimask.data import images as imagefiles
from minimask.mask import SignedSupermask

GREY = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 1)).astype(np.uint8)


COLOUR = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)


def idx(images):
    return bytes([0, 0, 8, images.ndim]) + b"".join(n.to_bytes(4, "big") for n in images.shape) + images.tobytes()


def png(path, pixels, **options):
    from matplotlib import image

    image.imsave(path, pixels, format="png", **options)


def test_idx_raw_and_packed(tmp_path):
    for images in (GREY[..., 0], GREY, COLOUR):
        (tmp_path / "raw").write_bytes(idx(images))
        (tmp_path / "packed").write_bytes(gzip.compress(idx(images), mtime=0))
        for name in ("raw", "packed"):
            read = imagefiles.read(tmp_path / name, images.shape[1:] if images.ndim == 4 else (4, 6, 1))
            assert np.array_equal(read.reshape(images.shape), images) and read.ndim == 4


@pytest.mark.parametrize("array", [GREY, GREY[0], GREY[..., 0], GREY[0, ..., 0], GREY / 255, GREY[:1].astype(np.int64)],
                         ids=lambda a: f"{a.shape} {a.dtype}")
def test_npy_of_one_or_many_grey_images(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    read = imagefiles.read(tmp_path / "a.npy", (4, 6, 1))
    assert np.array_equal(read, array.reshape(-1, 4, 6, 1)) and read.dtype == array.dtype


def test_colour_images_need_their_last_axis(tmp_path, monkeypatch):
    for array in (COLOUR[0, ..., 0], COLOUR[..., 0]):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(UsageError, match="but the net takes images of 4 x 6 x 3, one or n of them"):
            imagefiles.read(tmp_path / "a.npy", (4, 6, 3))
    monkeypatch.setattr(imagefiles, "LIMIT", COLOUR.nbytes - 1)
    np.save(tmp_path / "a.npy", COLOUR)
    with pytest.raises(UsageError, match="a.npy holds 360 bytes of uint8; needed are at most 359 of integers or floats"):
        imagefiles.read(tmp_path / "a.npy", (4, 6, 3))


def test_npy_of_colour_images(tmp_path):
    for array in (COLOUR, COLOUR[0]):
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(imagefiles.read(tmp_path / "a.npy", (4, 6, 3)), array.reshape(-1, 4, 6, 3))


def test_png_grey_and_colour(tmp_path):
    pytest.importorskip("matplotlib")
    png(tmp_path / "a.png", GREY[0, ..., 0], cmap="gray", vmin=0, vmax=255)  # written as red, green, blue, opaque
    assert np.array_equal(imagefiles.read(tmp_path / "a.png", (4, 6, 1)), GREY[:1])
    png(tmp_path / "a.png", COLOUR[0])
    assert np.array_equal(imagefiles.read(tmp_path / "a.png", (4, 6, 3)), COLOUR[:1])
    with pytest.raises(UsageError, match=r"a\.png is colour, but the net takes grey images; convert it"):
        imagefiles.read(tmp_path / "a.png", (4, 6, 1))
    png(tmp_path / "a.png", np.dstack([COLOUR[0], GREY[0]]))
    with pytest.raises(UsageError, match="is transparent, but the net takes colour images"):
        imagefiles.read(tmp_path / "a.png", (4, 6, 3))
    with pytest.raises(UsageError, match="is an image of 4 x 6 pixels, but the net takes 28 x 28 x 1: crop or scale"):
        imagefiles.read(tmp_path / "a.png", (28, 28, 1))
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:60])
    with pytest.raises(MinimaskError, match="cannot be decoded"):
        imagefiles.read(tmp_path / "a.png", (4, 6, 3))


def chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_a_png_is_as_large_as_its_decoder_says_and_no_pixel_is_decoded_before(tmp_path, monkeypatch):
    """A second header behind the first one counts for Pillow, so a look at the first is not enough."""
    plugin = pytest.importorskip("PIL.PngImagePlugin")
    def header(height, width):
        return chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0]))

    rows = chunk(b"IDAT", zlib.compress(bytes(13 * 8))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header(4, 6) + header(8, 12) + rows)
    monkeypatch.setattr(plugin.PngImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UsageError, match="is an image of 8 x 12 pixels, but the net takes 4 x 6 x 1"):
        imagefiles.read(tmp_path / "a.png", (4, 6, 1))


def test_png_of_other_kinds(tmp_path):
    image = pytest.importorskip("PIL.Image")
    grey, path = GREY[0, ..., 0], tmp_path / "a.png"
    image.fromarray(grey > 127).save(path)
    assert np.array_equal(imagefiles.read(path, (4, 6, 1))[0, ..., 0], (grey > 127) * 255)
    image.fromarray(grey.astype(np.uint16) * 257).save(path)
    assert np.array_equal(imagefiles.read(path, (4, 6, 1))[0, ..., 0], grey)
    image.fromarray(grey).convert("P").save(path)
    assert np.array_equal(imagefiles.read(path, (4, 6, 1))[0, ..., 0], grey)
    image.fromarray(np.dstack([grey, np.full_like(grey, 255)]), "LA").save(path)
    assert np.array_equal(imagefiles.read(path, (4, 6, 1))[0, ..., 0], grey)
    image.fromarray(np.dstack([grey, grey]), "LA").save(path)
    with pytest.raises(UsageError, match="is transparent, but the net takes grey images"):
        imagefiles.read(path, (4, 6, 1))
    image.fromarray(grey).save(path, transparency=int(grey[0, 0]))
    with pytest.raises(UsageError, match="is transparent, but the net takes grey images"):
        imagefiles.read(path, (4, 6, 1))


def test_the_shape_of_an_npy_is_held_to_the_nets_before_memory_is_taken(tmp_path):
    """A file with holes, of 256 MB that take no room on the disk."""
    with open(tmp_path / "a.npy", "wb") as file:
        file.write(npy_header((1 << 20, 16, 16)))
        file.truncate(128 + (1 << 28))
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="holds an array of 1048576 x 16 x 16, but the net takes"):
            imagefiles.read(tmp_path / "a.npy", (4, 6, 1))
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(MinimaskError, match="cannot be read .it is a pipe or a device"):
        imagefiles.read(tmp_path / "a.npy", (4, 6, 1))


NO_NUMBERS = {"text": np.full((2, 8, 8, 1), "1"), "complex": np.ones((2, 8, 8, 1), complex), "object": np.ones((2, 8, 8, 1), object),
              "time": np.ones((2, 8, 8, 1), "M8[s]"), "masked": np.ma.array(np.ones((2, 8, 8, 1)), mask=True)}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_array_of_numbers_is_no_image(tmp_path, kind):
    """Not as a file, where NumPy writes one, nor from Python: NumPy would take text for numbers, and what a mask hides."""
    images, labels = NO_NUMBERS[kind], np.zeros(2, int)
    with contextlib.suppress(NotImplementedError):  # of a masked array there is a header alone
        np.save(tmp_path / "a.npy", images)
    with pytest.raises(MinimaskError, match="needed are at most .* of integers or floats|save its filled"):
        imagefiles.read(tmp_path / "a.npy", (8, 8, 1))
    net = models.fcn(SignedSupermask(tau=0.01), np.random.default_rng(0), (8, 8, 1), (5, 10))
    whole = np.ones((2, 8, 8, 1)), labels
    for use in (lambda: predict.classify(net, images), lambda: train.evaluate(net, images, labels),
                lambda: data.Dataset("x", images, labels, *whole, ("a",)),
                lambda: data.Dataset("x", *whole, images, labels, ("a",))):
        with pytest.raises(data.DataError, match="needed are integers or floats|is masked"):
            use()
    assert predict.classify(net, whole[0])[0].shape == (2,)


def npy_header(shape, dtype="|u1"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(("content", "kind", "sentence"), [
    (b"", UsageError, "begins with b'': it is neither IDX"), (b"GIF89a", UsageError, "begins with b'GIF8'"),
    (idx(GREY[..., 0])[:-1], MinimaskError, "has 135 bytes, but its header promises 136"),
    (gzip.compress(idx(GREY[..., 0])[:-1], mtime=0), MinimaskError, "holds fewer than the 120 bytes"),
    (gzip.compress(idx(GREY[..., 0]) + b"1", mtime=0), MinimaskError, "holds more than the 120 bytes"),
    (gzip.compress(idx(GREY[..., 0]), mtime=0)[:-20], MinimaskError, "cannot be unpacked"),
    (idx(GREY[..., 0])[:9], UsageError, "its header is 00 00 08 03"),
    (b"\0\0\x0d\3" + bytes(99), UsageError, "its header is 00 00 0d 03"), (b"\0\0\x08\1" + bytes(99), UsageError, "00 00 08 01"),
    (idx(GREY[:, :3, :, 0]), UsageError, "holds an array of 5 x 3 x 6, but the net takes images of 4 x 6, one or n"),
    (bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" + bytes([0, 0, 0, 4, 0, 0, 0, 6]), UsageError, "at most 1,073,741,824 are"),
    (npy_header((40000, 4, 6)), MinimaskError, "is a damaged .npy file: its header promises 960,000 bytes of images, but 0"),
    (npy_header((10**9, 4, 6)), UsageError, "holds 24,000,000,000 bytes of uint8; needed are at most 1,073,741,824"),
    (npy_header((1, 4, 6), "|O") + bytes(99), UsageError, "bytes of object; needed are"),
    (npy_header((1, 4, 6), "<c8") + bytes(192), UsageError, "192 bytes of complex64; needed are"),
    (npy_header((1, 4, 7)) + bytes(28), UsageError, "holds an array of 1 x 4 x 7"),
    (b"\x93NUMPY\x01\x00", MinimaskError, "is no .npy file")])
def test_wrong_image_files(tmp_path, content, kind, sentence):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(kind, match=sentence) as caught:
        imagefiles.read(tmp_path / "a", (4, 6, 1))
    assert type(caught.value) is kind


def test_a_missing_image_file_and_a_folder(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        imagefiles.read(tmp_path / "a", (4, 6, 1))
    with pytest.raises(MinimaskError, match="cannot be read"):
        imagefiles.read(tmp_path, (4, 6, 1))


def test_damaged_image_files_end_in_a_sentence(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", GREY)
    contents = [idx(GREY), gzip.compress(idx(GREY), mtime=0), (tmp_path / "a.npy").read_bytes()]
    for number in range(600):
        changed = bytearray(contents[number % 3])
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(min(len(changed), 140)))] = int(rng.integers(256))
        (tmp_path / "b").write_bytes(bytes(changed[:int(rng.integers(len(changed) + 1))] if number % 5 == 0 else changed))
        try:
            assert imagefiles.read(tmp_path / "b", (4, 6, 1)).shape[1:] == (4, 6, 1)
        except MinimaskError as error:
            assert "\n" not in str(error) and str(error)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    return tmp_path


def test_without_matplotlib_a_png_is_refused_with_the_way_out(folder, monkeypatch):
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(plot.MissingMatplotlib, match="pip install matplotlib"):
        imagefiles.read("a.png", (4, 6, 1))


def test_mnists_own_files_are_images(mnist_folder):
    dataset = data.mnist(mnist_folder)
    path = next(path for name in ("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz")
                if os.path.exists(path := os.path.join(mnist_folder, "mnist", name)))
    assert np.array_equal(imagefiles.read(path, (28, 28, 1)), dataset.test_images)
