"""Data sets from folders of pictures: sizes, modes, the cache beside the folder, and every fault with its file."""

import os
import warnings

import numpy as np
import pytest

from minimask import MinimaskError, UsageError, data, meter
from minimask.data import DataError, folder, images

Image = pytest.importorskip("PIL.Image")


def put(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


@pytest.fixture
def pets(tmp_path):
    """Three of each of two classes, grey, 5 x 4; the value of every pixel of a picture is its number."""
    for number in range(6):
        put(tmp_path / "pets" / ("cat", "dog")[number % 2] / f"{number}.png", np.full((5, 4), number, np.uint8))
    return tmp_path / "pets"


def values(found):
    """The first pixel of every picture and the name of its class, sorted."""
    images = np.concatenate([found.train_images, found.test_images])
    labels = np.concatenate([found.train_labels, found.test_labels])
    return sorted((int(image[0, 0, 0]), found.classes[label]) for image, label in zip(images, labels))


def test_a_folder_per_class(pets):
    (pets / ".DS_Store").write_text("no picture")
    (pets / "cat" / ".hidden.png").write_text("no picture")
    found = data.from_folder(pets)
    assert found.classes == ("cat", "dog") and found.input_shape == (5, 4, 1) and found.name == f"folder:{pets}"
    assert values(found) == [(n, ("cat", "dog")[n % 2]) for n in range(6)]
    assert len(found.test_images) == 2 and set(found.test_labels) == {0, 1}
    same = data.load(f"folder:{pets}")
    assert np.array_equal(same.train_images, found.train_images) and same.path == str(pets)


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    for label in range(12):
        for number in range(2):
            put(tmp_path / str(label) / f"{number}.PNG", np.full((3, 3), label, np.uint8))
    assert data.from_folder(tmp_path).classes == tuple(map(str, range(12)))


@pytest.mark.parametrize("held", ["test", "val", "validation"])
def test_parts_that_are_given_stay_as_they_are(held, pets, tmp_path):
    os.makedirs(tmp_path / "both")
    os.rename(pets, tmp_path / "both" / "train")
    put(tmp_path / "both" / held / "dog" / "x.jpeg", np.full((5, 4), 200, np.uint8))
    found = data.from_folder(tmp_path / "both")
    assert len(found.train_images) == 6 and found.test_labels.tolist() == [1]
    assert abs(int(found.test_images[0, 2, 2, 0]) - 200) < 5  # JPEG rounds
    put(tmp_path / "both" / held / "eel" / "x.png", np.zeros((5, 4), np.uint8))
    with pytest.raises(DataError, match=f"{held} has a class 'eel', but .*train has none to train on"):
        data.from_folder(tmp_path / "both")


def test_parts_in_capitals_are_parts_too(pets, tmp_path):
    os.makedirs(tmp_path / "both")
    os.rename(pets, tmp_path / "both" / "Train")
    put(tmp_path / "both" / "TEST" / "dog" / "x.png", np.full((5, 4), 200, np.uint8))
    found = data.from_folder(tmp_path / "both")
    assert found.classes == ("cat", "dog") and len(found.train_images) == 6 and found.test_labels.tolist() == [1]


# ---- size and mode ---------------------------------------------------------------------------------------------------


def test_pictures_of_two_sizes_need_a_rule(pets):
    put(pets / "dog" / "9.png", np.full((8, 4), 9, np.uint8))
    with pytest.raises(DataError, match=r"dog.9.png is of 8 x 4 pixels, but .*cat.0.png of 5 x 4.*size='32x32'"):
        data.from_folder(pets)
    with pytest.raises(DataError, match=r"dog.9.png is of 8 x 4 pixels, but 5 x 4 are needed"):
        data.from_folder(pets, size="5x4", fit="refuse")
    found = data.from_folder(pets, size="5x4")
    assert found.input_shape == (5, 4, 1) and (9, "dog") in values(found)
    assert data.load(f"folder:{pets}", settings={"size": "6", "fit": "pad"}).input_shape == (6, 6, 1)


def test_padding_keeps_the_proportions_in_the_middle_of_black(tmp_path):
    for label in "ab":
        for number in range(2):
            put(tmp_path / label / f"{number}.png", np.full((4, 8), 200, np.uint8))
    stretched, padded = (data.from_folder(tmp_path, 8, fit).train_images[0, ..., 0] for fit in ("resize", "pad"))
    assert (stretched == 200).all()
    assert (padded[2:6] == 200).all() and not padded[:2].any() and not padded[6:].any()


@pytest.mark.parametrize("settings, sentence", [
    ({"size": "0"}, "size is '0', but must be height and width"), ({"size": "3x3x3"}, "size is"),
    ({"size": "wide"}, "size is"), ({"size": 8.5}, "size is 8.5"), ({"size": [8, None]}, "size is"), ({"size": "9999"}, "size is"), ({"fit": "pad"}, "fit 'pad' needs a size"),
    ({"fit": "crop"}, "unknown fit 'crop'"), ({"mode": "gray"}, "unknown mode 'gray': did you mean 'grey'")])
def test_a_rule_that_is_none_is_refused(settings, sentence, pets):
    with pytest.raises(UsageError, match=sentence):
        data.from_folder(pets, **settings)


def test_one_picture_in_colour_makes_all_so(pets):
    put(pets / "dog" / "9.png", np.full((5, 4, 3), (9, 50, 60), np.uint8))
    found = data.from_folder(pets)
    assert found.input_shape == (5, 4, 3) and len(values(found)) == 7
    all_images = np.concatenate([found.train_images, found.test_images])
    grey = all_images[all_images[:, 0, 0, 0] < 6]
    assert (grey == grey[..., :1]).all() and len(grey) == 6
    assert data.from_folder(pets, mode="grey").input_shape == (5, 4, 1)
    os.rename(pets / "dog" / "9.png", pets / "cat" / "00.png")  # the first of all
    assert values(data.from_folder(pets)) == sorted([*values(found)[:6], (9, "cat")])


def test_modes_of_pictures_become_grey_or_colour(tmp_path):
    grey = np.arange(20, dtype=np.uint8).reshape(5, 4) * 12
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = Image.fromarray(grey)
    for number, picture in enumerate([whole, whole.convert("RGB"), whole.convert("P"), whole.convert("RGBA"),
                                      whole.convert("LA"), Image.fromarray(grey.astype(np.uint16) * 257)]):
        picture.save(tmp_path / "ab"[number % 2] / f"{number}.png")
    for mode, shape in (("grey", (5, 4, 1)), ("colour", (5, 4, 3)), (None, (5, 4, 3))):
        found = data.from_folder(tmp_path, mode=mode)
        for image in (*found.train_images, *found.test_images):
            assert image.shape == shape and (image == grey[..., None]).all()


def test_transparent_pictures_are_refused_or_lie_on_black(pets):
    pixels = np.full((5, 4, 4), 255, np.uint8)
    pixels[0, 0, 3] = 0
    put(pets / "dog" / "9.png", pixels)
    with pytest.raises(DataError, match="9.png is transparent in places; say mode='colour'"):
        data.from_folder(pets)
    assert (0, "dog") in values(data.from_folder(pets, mode="colour"))


def test_a_photo_is_turned_upright(tmp_path):
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 8:] = 255
    for label in "ab":
        for number in range(2):
            exif = Image.Exif()
            exif[0x0112] = 6  # the camera was held upright
            put(tmp_path / label / f"{number}.jpg", wide, exif=exif, quality=95)
    found = data.from_folder(tmp_path)
    assert found.input_shape == (16, 8, 1)
    assert found.train_images[0, 12:].min() > 200 and found.train_images[0, :4].max() < 50


def test_a_photo_to_predict_is_read_as_one_to_train_on(tmp_path):
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    for label in "ab":
        for number in range(2):
            path = put(tmp_path / label / f"{number}.jpg", wide, exif=exif, quality=95)
    assert np.array_equal(images.read(path, (16, 8, 1))[0], data.from_folder(tmp_path).train_images[0])
    with pytest.raises(UsageError, match="is an image of 16 x 8 pixels, but the net takes 8 x 16 x 1"):
        images.read(path, (8, 16, 1))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(MinimaskError, match="cannot be decoded, it is damaged"):
        images.read(path, (16, 8, 1))


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_folders_that_hold_no_classes(tmp_path, pets):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"there is no folder .*gone"):
        data.from_folder(tmp_path / "gone")
    with pytest.raises(UsageError, match="cannot be read as a folder"):
        data.from_folder(pets / "cat" / "0.png")
    with pytest.raises(DataError, match="empty holds no folder; needed is a folder of pictures for every class"):
        data.from_folder(tmp_path / "empty")
    with pytest.raises(DataError, match="holds one folder, pets; needed is"):
        data.from_folder(make_one(tmp_path / "one", pets))


def make_one(path, pets):
    path.mkdir()
    os.symlink(pets, path / "pets")
    return path


def test_a_class_that_is_empty_or_has_one_picture(pets):
    (pets / "eel").mkdir()
    with pytest.raises(DataError, match=r"eel holds no PNG or JPEG; put pictures of this class into it, or remove it"):
        data.from_folder(pets)
    put(pets / "eel" / "only.png", np.zeros((5, 4), np.uint8))
    with pytest.raises(DataError, match="class 'eel' has 1 image, but 2 are needed"):
        data.from_folder(pets)
    (pets / "eel" / "more").mkdir()
    with pytest.raises(DataError, match="eel holds a folder, more; needed are the pictures of one class"):
        data.from_folder(pets)


@pytest.mark.parametrize("name, content", [("9.png", b"no picture"), ("9.jpg", b""), ("9.png", None)])
def test_a_file_that_is_no_picture_is_named(name, content, pets):
    if content is None:
        content = put(pets / "dog" / "whole.png", np.random.default_rng(0).integers(0, 256, (5, 4), np.uint8)).read_bytes()
        os.remove(pets / "dog" / "whole.png")
        content = content[:len(content) - 30]
    (pets / "dog" / name).write_bytes(content)
    with pytest.raises(DataError, match=f"dog.{name} is no PNG or JPEG that can be decoded, or damaged"):
        data.from_folder(pets)


def test_a_picture_of_too_many_pixels_is_not_decoded(pets, monkeypatch):
    monkeypatch.setattr(folder, "MOST_PIXELS", 19)
    with pytest.raises(DataError, match="0.png has 20 pixels, but 19 are the most"):
        data.from_folder(pets)


def test_other_files_are_left_out_aloud(pets):
    for name in ("a.gif", "notes.txt"):
        (pets / "cat" / name).write_text("no picture")
    with pytest.warns(UserWarning, match=r"2 files in .*pets are left out.*a.gif \.\.\."):
        found = data.from_folder(pets)
    assert len(values(found)) == 6


def test_pictures_outside_of_the_classes_are_left_out_aloud(pets):
    put(pets / "loose.PNG", np.zeros((5, 4), np.uint8))
    with pytest.warns(UserWarning, match=r"1 pictures in .* itself are left out, .*no class's folder: .*loose.PNG"):
        count = len(data.from_folder(pets).train_labels)
    (pets / "loose.PNG").unlink()
    assert count == len(data.from_folder(pets).train_labels)


def test_without_pillow_there_is_a_way_out(pets, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MinimaskError, match=r"pip install 'minimask\[images\]'"):
        data.from_folder(pets)


# ---- progress and cache ----------------------------------------------------------------------------------------------


def test_it_says_how_far_it_is(pets, capsys):
    ticking = iter(range(0, 1000, 20))
    import sys

    data.from_folder(pets, meter=meter.Meter(sys.stderr, clock=lambda: next(ticking), unit="pictures"))
    said = capsys.readouterr().err
    assert f"{pets} · 6 pictures of 6 pictures · 100%" in said and "pictures/s" in said


@pytest.fixture
def decoded(monkeypatch):
    """How often pictures were decoded."""
    calls, real = [], folder.decode
    monkeypatch.setattr(folder, "decode", lambda *arguments: calls.append(1) or real(*arguments))
    return calls


def test_what_was_decoded_is_kept_as_long_as_nothing_changes(pets, decoded, tmp_path):
    kept = tmp_path / "pets.minimask.npz"
    plain = data.from_folder(pets)
    assert not kept.exists() and len(decoded) == 1
    data.from_folder(pets, cache=True)
    assert kept.exists() and len(decoded) == 2
    same = data.load(f"folder:{pets}")
    assert len(decoded) == 2 and values(same) == values(plain)
    assert np.array_equal(same.train_images, plain.train_images)
    assert values(data.from_folder(pets, seed=5)) == values(plain) and len(decoded) == 2  # another split of the same
    data.from_folder(pets, mode="colour")
    assert len(decoded) == 3
    put(pets / "dog" / "9.png", np.full((5, 4), 9, np.uint8))
    assert (9, "dog") in values(data.from_folder(pets)) and len(decoded) == 4
    os.remove(pets / "dog" / "9.png")
    os.utime(pets / "cat" / "0.png", ns=(1, 1))
    data.from_folder(pets)
    assert len(decoded) == 5
    os.rename(pets / "cat" / "0.png", pets / "dog" / "0.png")
    assert (0, "dog") in values(data.from_folder(pets))


def test_a_damaged_cache_is_told_of_and_made_anew(pets, decoded, tmp_path):
    kept = tmp_path / "pets.minimask.npz"
    data.from_folder(pets, cache=True)
    content = bytearray(kept.read_bytes())
    content[content.index(b"images.npy") + 200] ^= 1
    kept.write_bytes(content)
    with pytest.warns(UserWarning, match="the pictures are decoded anew"):
        data.from_folder(pets, cache=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.from_folder(pets)
    assert len(decoded) == 2


def test_a_cache_that_cannot_be_written_is_no_error(pets, monkeypatch):
    def refuse(path, durable=False):
        raise folder.files.WriteError(f"{path} cannot be written (no space left)")

    monkeypatch.setattr(folder.files, "atomically", refuse)
    with pytest.warns(UserWarning, match="the decoded pictures are not kept: .*no space left"):
        assert len(values(data.from_folder(pets, cache=True))) == 6
