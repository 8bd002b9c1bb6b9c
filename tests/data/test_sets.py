"""Digits, MNIST's files whole and damaged, standardisation, batches, and what a data set refuses."""

import gzip
import hashlib
import tracemalloc
from dataclasses import replace

import hostile
import numpy as np
import pytest

from minimask import MinimaskError, UsageError, data, mask, models, optim, train
from minimask.data import DataError, Dataset, fetch
from minimask.data import files as datafiles

SHAPE = (5, 4, 3)
HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 3])
CONTENT = HEADER + bytes(range(60))
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = datafiles.idx("x", SHAPE, DIGEST)


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def read(folder, file=FILE, allow_unverified=False):
    return datafiles.read(folder, "set", file, allow_unverified)[0]


def test_digits_are_the_1797_of_uci():
    digits = data.digits()
    assert digits.train_images.shape == (1437, 8, 8, 1) and digits.test_images.shape == (360, 8, 8, 1)
    assert digits.train_images.dtype == np.uint8 and digits.train_images.max() == 16
    everything = np.concatenate([digits.train_images, digits.test_images]).reshape(1797, 64)
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    assert everything.sum() == 561_718  # scikit-learn's load_digits().images.sum()
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    again = data.digits()
    np.testing.assert_array_equal(digits.test_images, again.test_images)


def test_standardise_follows_its_formula(rng):
    images = rng.integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    images[1] = 7  # constant: all zeros
    images[2] = 0
    images[2, 0, 0, 0] = 1  # std below 1/sqrt(values): the floor counts
    x = images.reshape(4, -1).astype(np.float64)
    floor = 1 / np.sqrt(90)
    expected = (x - x.mean(1, keepdims=True)) / np.maximum(x.std(1, keepdims=True), floor)
    assert x[2].std() < x[0].std() and x[1].std() == 0
    y = data.standardise(images)
    assert y.dtype == np.float32 and y.shape == images.shape
    np.testing.assert_allclose(y.reshape(4, -1), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(data.standardise(images, "float64").reshape(4, -1), expected, rtol=1e-12, atol=1e-13)


def test_standardise_floor():
    """One bright pixel of 1/30 in 900: std 0.00111 lies below the floor 1/30."""
    image = np.zeros((1, 30, 30, 1))
    image[0, 0, 0, 0] = 1 / 30
    y = data.standardise(image, "float64").ravel()
    assert y[0] == pytest.approx((1 / 30 - 1 / 27000) * 30)


@pytest.mark.parametrize("into", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e3, 1e10, 1e17, 1e18, 1e20, 1e35, 1e150, 1e300])
def test_standardise_is_free_of_scale(scale, into, digits):
    """Before, images went blank from 1e18 on; float64 beyond float32's range became NaN."""
    images = digits.test_images[:50].astype(np.float64)
    right = data.standardise(images, into)
    for kind in ("float64", "float32") if scale < 1e36 else ("float64",):
        found = data.standardise((images * scale).astype(kind), into)
        assert found.dtype == into
        np.testing.assert_allclose(found, right, atol=2e-6)


def test_standardise_takes_images_of_all_scales_in_one_batch(digits):
    """Each by itself, and a constant one is blank at every scale; integers of 8 bytes, too."""
    images = np.repeat(digits.test_images[:1], 6, axis=0).astype(np.float64)
    right, scales = data.standardise(images[:1])[0], np.array([1, 1e20, 1e-3, 1e300, 1e19, 3])
    images *= scales[:, None, None, None]
    images[5] = 1e25 / 3
    found = data.standardise(images)
    for i in (0, 1, 3, 4):
        np.testing.assert_allclose(found[i], right, atol=1e-6)
    np.testing.assert_allclose(found[2], images[2] * 8 - (images[2] * 8).mean(), atol=1e-6)  # the floor, 1/8
    assert not found[5].any() and not data.standardise(np.full((2, 8, 8, 1), 1e6 / 3, np.float32)).any()
    large = digits.test_images[:1].astype(np.int64) << 58
    np.testing.assert_allclose(data.standardise(large)[0], right, atol=1e-6)
    one = np.zeros((1, 8, 8, 1))
    one[0, 3, 3, 0] = 3e38
    assert data.standardise(one)[0, 3, 3, 0] == pytest.approx(63**0.5)


def test_bytes_keep_their_bits(digits):
    """The digests of runs depend on them."""
    images = digits.train_images
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    std = np.sqrt(np.einsum("ij,ij->i", flat, flat) / 64)
    flat /= np.maximum(std, 1 / 8)[:, None]
    for kind in (np.uint8, np.int32, np.float32, np.float64):
        assert data.standardise(images.astype(kind)).tobytes() == flat.tobytes()


def test_what_is_not_finite_stays_so_and_harms_no_other_image():
    images = np.arange(192.0).reshape(3, 8, 8, 1)
    images[1, 2, 2, 0] = np.inf
    images[2] *= 1e30
    with np.errstate(invalid="ignore"):
        found = data.standardise(images)
    assert np.isfinite(found[[0, 2]]).all() and np.isnan(found[1]).any()


@pytest.mark.parametrize("scale", [1e-20, 1e-6])
def test_images_that_would_all_become_blank_are_refused(scale, digits, rng):
    faint = replace(digits, train_images=digits.train_images * scale)
    net = models.fcn(mask.SignedSupermask(tau=0.01), rng, digits.input_shape)
    with pytest.raises(UsageError, match=r"^fit: data set 'digits', train_images: the values of an image differ by "
                                         r"1.6e-\d+ at most, but .* blank: multiply the images"):
        train.fit(net, faint, optim.SGDW(net.parameters(), 0.05), 1, rng)
    with pytest.raises(UsageError, match="^evaluate: the values"):
        train.evaluate(net, digits.test_images * scale, digits.test_labels)
    one = digits.test_images * scale
    one[3] = digits.test_images[3]  # they are of another scale than this one, but that may be
    data.refuse_faint(one, "x")
    data.refuse_faint(np.ones((3, 8, 8, 1)), "blank ones are what they are")
    data.refuse_faint(digits.test_images / 255, "x")


@pytest.mark.parametrize("packed", [True, False])
def test_an_idx_file_raw_or_packed(tmp_path, packed):
    if packed:
        (tmp_path / "x.gz").write_bytes(gzip.compress(CONTENT, mtime=0))
    else:
        (tmp_path / "x").write_bytes(CONTENT)
    array = read(tmp_path)
    np.testing.assert_array_equal(array, np.arange(60, dtype=np.uint8).reshape(SHAPE))


def damaged(content):
    changed = bytearray(content)
    changed[30] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(("name", "content", "sentence"), [
    ("x", CONTENT[:-1], f"75 bytes of content, but 76 are needed .with sha256 {DIGEST}.: it is truncated .*put the official x there"),
    ("x", CONTENT + b"0", "77 bytes of content, but 76 are needed"),
    ("x", b"", "0 bytes of content"),
    ("x", damaged(CONTENT), f"expected sha256 {DIGEST} of its content, found [0-9a-f]{{64}}: it is damaged"),
    ("x.gz", gzip.compress(CONTENT, mtime=0)[:-9], "cannot be read .*truncated"),
    ("x.gz", datafiles.GZIP + b" and no more", "cannot be read .*no gzip file"),
    ("x.gz", b"no gzip at all", "x.gz: 14 bytes of content, but 76 are needed"),
    ("x.gz", gzip.compress(HEADER + bytes(10**7), mtime=0), "more than 76 bytes of content, but 76 are needed"),
    ("x.gz", gzip.compress(CONTENT[:-1], mtime=0), "75 bytes of content, but 76 are needed"),
    ("x.gz", datafiles.GZIP + bytes(1_999_998), "x.gz: 2,000,000 bytes are more than a packed x has: put the official x there"),
])
def test_a_damaged_file_is_named_with_what_was_expected(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        read(tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_no_more_is_read_than_the_file_should_hold(tmp_path, monkeypatch):
    """A gzip bomb is not unpacked: one byte more than needed tells that it is wrong."""
    asked = []

    class Endless:
        def read(self, size=-1):
            asked.append(size)
            return (CONTENT + bytes(10**6))[:size] if len(asked) == 1 else bytes(size)

    (tmp_path / "x.gz").write_bytes(datafiles.GZIP)
    monkeypatch.setattr("gzip.GzipFile", lambda fileobj: Endless())
    with pytest.raises(DataError, match="more than 76 bytes"):
        read(tmp_path)
    assert asked == [77]


def test_a_header_that_disagrees_with_its_shape(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    with pytest.raises(DataError, match=r"its header is 00 00 08 03 .* 04 00 00 00 03, but .* 03 00 00 00 04 is needed .IDX, unsigned bytes, shape \(5, 3, 4\)"):
        read(tmp_path, datafiles.idx("x", (5, 3, 4), DIGEST), allow_unverified=True)


@pytest.mark.parametrize("name", ["x", "x.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_a_file_begins_with_decides_whether_it_is_packed(tmp_path, name, packed):
    (tmp_path / name).write_bytes(gzip.compress(CONTENT, mtime=0) if packed else CONTENT)
    np.testing.assert_array_equal(read(tmp_path), np.arange(60, dtype=np.uint8).reshape(SHAPE))
    assert datafiles.state(tmp_path, FILE) == (datafiles.FileState.WHOLE, "")


WHOLE, PACKED = ("x", CONTENT), ("x.gz", gzip.compress(CONTENT, mtime=0))


@pytest.mark.parametrize("there", [[("x", CONTENT[:-9]), PACKED], [("x.gz", PACKED[1][:-9]), WHOLE], [("x", damaged(CONTENT)), PACKED],
                                   [("x", b""), PACKED]], ids=["truncated", "truncated .gz", "other content", "empty"])
def test_of_files_that_lie_side_by_side_the_whole_one_counts(tmp_path, there):
    for name, content in there:
        (tmp_path / name).write_bytes(content)
    assert read(tmp_path).nbytes == 60 and datafiles.read(tmp_path, "set", FILE, True)[1]  # the official one, whatever is allowed
    assert datafiles.state(tmp_path, FILE)[0] is datafiles.FileState.WHOLE


def test_where_none_is_whole_all_are_named(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT[:-1])
    (tmp_path / "x.gz").write_bytes(gzip.compress(damaged(CONTENT), mtime=0))
    sentence = r"x: 75 bytes of content, but 76 are needed .*\(nor will do .*x\.gz\)"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path)
    assert datafiles.state(tmp_path, FILE)[0] is datafiles.FileState.DAMAGED
    assert read(tmp_path, allow_unverified=True).reshape(-1)[14] == 15  # with another content, but of the right size


@pytest.fixture
def few(monkeypatch):
    """MNIST and Fashion-MNIST of few images, where the real ones may lie: name -> content by file name."""
    contents = {}
    for name in ("mnist", "fashion-mnist"):
        small, _, contents[name], _ = hostile.small_mnist(20, verified=name == "mnist")
        real = datafiles.SETS[name].files
        files = tuple(replace(file, elsewhere=one.elsewhere) for file, one in zip(small.files, real))
        monkeypatch.setitem(datafiles.SETS, name, replace(small, files=files))
    return contents


def put(folder, contents, rename=lambda name: name):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / rename(name)).write_bytes(content)


@pytest.mark.parametrize("where", ["mnist", ".", "MNIST/raw"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_are_found_under_other_common_names(few, tmp_path, where, ending):
    """A dot in the place of a dash, straight in the data folder, or where torchvision unpacks them."""
    put(tmp_path / where, few["mnist"], lambda name: name.replace("-idx", ".idx") + ending)
    dataset = data.mnist(tmp_path)
    assert fetch.describe("mnist", tmp_path / "mnist") == f"present and verified in {tmp_path / where}"
    assert dataset.verified and dataset.train_images.tobytes() == few["mnist"]["train-images-idx3-ubyte"][16:]
    with pytest.raises(DataError, match="train-images-idx3-ubyte is missing"):
        data.fashion_mnist(tmp_path)  # of the same names, which MNIST's own in the data folder are not


def test_a_data_folder_that_is_the_sets_own_is_taken_where_the_files_are_in_it(few, tmp_path):
    put(tmp_path / "mnist", few["mnist"])
    assert data.mnist(tmp_path / "mnist").verified
    (tmp_path / "mnist/train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="train-images-idx3-ubyte is missing"):
        data.mnist(tmp_path / "mnist")
    with pytest.raises(UsageError, match="is the data set's own; give the folder above it"):
        datafiles.set_folder("mnist", tmp_path / "mnist", must_exist=False)


def test_mnists_files_are_not_those_of_fashion_mnist(few, tmp_path):
    """Names, sizes and headers are the same, and no checksum of Fashion-MNIST is known; MNIST's are."""
    put(tmp_path / "fashion-mnist", few["mnist"])
    for allow in (False, True):
        with pytest.raises(DataError, match="train-images-idx3-ubyte is a file of mnist, not the one"):
            data.load("fashion-mnist", tmp_path, allow)
    put(tmp_path / "fashion-mnist", few["fashion-mnist"])
    assert not data.load("fashion-mnist", tmp_path, True).verified


@pytest.mark.parametrize("pack", [bytes, lambda content: gzip.compress(content, mtime=0)], ids=["raw", "packed"])
@pytest.mark.parametrize("where", ["mnist", "."])
def test_a_file_of_a_name_that_is_not_known_is_named(few, tmp_path, where, pack):
    put(tmp_path / "mnist", {})
    put(tmp_path / where, {"images (1)": pack(few["mnist"]["train-images-idx3-ubyte"]), "another": b"\x1f\x8b", "third": b""})
    with pytest.raises(DataError, match=r"images \(1\) begins as it does: if that is it, name it so"):
        data.mnist(tmp_path)


def test_a_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("MINIMASK_DATA", "~/data")
    assert datafiles.data_folder() == datafiles.data_folder("~/data") == tmp_path / "data"


def test_a_missing_file_says_where_to_put_it(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is missing: put train-images-idx3-ubyte or .*\.gz into .*sha256 of its content: ba891046"):
        data.mnist(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    with pytest.raises(UsageError, match="give --data DIR .* or set MINIMASK_DATA"):
        data.mnist()
    with pytest.raises(UsageError, match="'.*nowhere' does not exist"):
        data.mnist(tmp_path / "nowhere")


def test_an_unknown_data_set_suggests_the_nearest():
    with pytest.raises(UsageError, match="unknown dataset 'minst': did you mean 'mnist'"):
        data.load("minst")


def test_mnist_is_whole(mnist_folder):
    mnist = data.load("mnist", mnist_folder)
    assert mnist.train_images.shape == (60000, 28, 28, 1) and mnist.test_images.shape == (10000, 28, 28, 1)
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9] and mnist.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


IMAGES, LABELS = np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 1])


@pytest.mark.parametrize(("changes", "sentence"), [
    (dict(train_labels=np.array([0, 1, 2])), r"train part: labels from 0 to 2, but there are 2 classes.*0\.\.1"),
    (dict(train_labels=[0, 1, 1]), "train_labels is a list, but must be a NumPy array"),
    (dict(classes=2), "classes is 2, but must be a tuple"),
    (dict(test_labels=np.array([-1, 0, 1])), "test part: labels from -1"),
    (dict(train_labels=np.array([False, True, True])), "labels are bool, but must be integers"),
    (dict(train_labels=LABELS[:2]), r"images \(3, 2, 2, 1\) and labels \(2,\)"),
    (dict(train_images=IMAGES[..., 0]), r"needed are \(n, height, width, channels\)"),
    (dict(train_images=IMAGES[:0], train_labels=LABELS[:0]), "train part: is empty"),
    (dict(test_images=np.zeros((3, 4, 4, 1), np.uint8)), "both must agree"),
])
def test_a_data_set_refuses(changes, sentence):
    parts = dict(name="mine", train_images=IMAGES, train_labels=LABELS, test_images=IMAGES, test_labels=LABELS,
                 classes=("a", "b"))
    with pytest.raises(DataError, match=sentence):
        Dataset(**{**parts, **changes})


# ---- CIFAR -----------------------------------------------------------------------------------------------------------


def write_cifar(folder, name, rng):
    """Files of the right names and sizes with random content; returns the images as (n, 3, 32, 32) and the labels."""
    files = datafiles.SETS[name]
    (folder / files.below).mkdir()
    written = {}
    for file in files.files:
        rows = rng.integers(0, 256, file.shape, dtype=np.uint8)
        rows[:, -3073] %= 10 if name == "cifar10" else 100
        (folder / files.below / file.name).write_bytes(rows.tobytes())
        written[file.name] = rows
    return written


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_in_its_binary_format(tmp_path, rng, name):
    written = write_cifar(tmp_path, name, rng)
    with pytest.raises(DataError, match="expected sha256 .*or take it as it is with --allow-unverified"):
        data.load(name, tmp_path)
    with pytest.warns(UserWarning) as said:
        dataset = data.load(name, tmp_path, allow_unverified=True)
    text, = (str(warning.message) for warning in said)  # one sentence, however many files
    files = len(written)
    assert text.startswith(f"{files} of the {files} files of {name} are not the official ones (") and not dataset.verified
    assert dataset.train_images.shape == (50_000, 32, 32, 3) and dataset.test_images.shape == (10_000, 32, 32, 3)
    label_bytes = {"cifar10": 1, "cifar100": 2}[name]
    first, last = next(iter(written.values())), list(written.values())[-1]
    for rows, images, labels in ((first, dataset.train_images, dataset.train_labels),
                                 (last, dataset.test_images, dataset.test_labels)):
        for i in (0, 7, 9999):
            assert labels[i] == rows[i, label_bytes - 1]
            red, green, blue = rows[i, label_bytes:].reshape(3, 32, 32)
            np.testing.assert_array_equal(images[i], np.stack([red, green, blue], axis=-1))
    (tmp_path / datafiles.SETS[name].below / next(iter(written))).write_bytes(b"short")
    with pytest.raises(DataError, match="5 bytes of content"):
        data.load(name, tmp_path, allow_unverified=True)


def test_augmentation_is_a_crop_of_the_padded_maybe_flipped_image(rng):
    images = rng.integers(1, 256, (64, 6, 5, 3)).astype(np.uint8)
    augmented = data.augment(images, np.random.default_rng(1), border=2)
    assert augmented.shape == images.shape and augmented.dtype == np.uint8
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for before, after in zip(padded, augmented):
        places = [(i, j, flip) for i in range(5) for j in range(5) for flip in (False, True)
                  if np.array_equal(before[i:i + 6, j:j + 5][:, ::-1 if flip else 1], after)]
        assert len(places) == 1
        seen |= set(places)
    assert {flip for *_, flip in seen} == {True, False} and len({i for i, *_ in seen}) == len({j for _, j, _ in seen}) == 5
    np.testing.assert_array_equal(augmented, data.augment(images, np.random.default_rng(1), border=2))


def test_the_argument_goes_before_the_variable(tmp_path, monkeypatch):
    for n in ("a", "b"):
        (tmp_path / n).mkdir()
    monkeypatch.setenv("MINIMASK_DATA", str(tmp_path / "a"))
    data_folder = data.files.data_folder
    assert data_folder() == tmp_path / "a" and data_folder(tmp_path / "b") == tmp_path / "b"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist"])
def test_a_set_is_read_into_its_place(tmp_path, monkeypatch, name):
    """No file lies in memory a second time beside the arrays that it becomes: a fifth of them at most."""
    if name == "mnist":
        wanted, _, contents, _ = hostile.small_mnist(images=30_000)
    else:
        wanted, _, contents, _ = hostile.small_cifar(name, records=2000 if name == "cifar10" else 6000)
    monkeypatch.setitem(datafiles.SETS, name, wanted)
    (tmp_path / wanted.below).mkdir()
    for file, content in contents.items():
        (tmp_path / wanted.below / file).write_bytes(content)
    size = sum(map(len, contents.values()))
    data.load(name, tmp_path)  # imports and tables
    tracemalloc.start()
    dataset = data.load(name, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = sum(each.nbytes for each in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels))
    assert size > 20e6 and 0.99 * size < held <= size
    assert peak < 1.2 * size


@pytest.mark.parametrize(("name", "sentence"), [
    ("cifar10-validation", r"cifar10-validation is made of the training images of cifar10, so these are needed: data_batch_1.bin is missing.*`minimask data fetch cifar10 "),
    ("cifar10-validaton", "did you mean 'cifar10-validation'"),
    ("cifar10-validation-validation", "did you mean 'cifar10-validation'"),
    ("validation", "unknown dataset 'validation': there are")])
def test_a_set_to_choose_settings_by_says_what_it_is_made_of(tmp_path, name, sentence):
    """In a folder that holds another set."""
    (tmp_path / "mnist").mkdir()
    with pytest.raises(MinimaskError, match=sentence):
        data.load(name, tmp_path)


def test_a_set_to_choose_settings_by_needs_images_to_hold_out():
    few = replace(data.digits(), train_images=data.digits().train_images[:5], train_labels=data.digits().train_labels[:5])
    with pytest.raises(DataError, match="digits-validation holds out a sixth of the training images of digits, which has 5; needed are 6"):
        data.validation(few)
    assert len(data.validation(replace(few, train_images=data.digits().train_images[:6], train_labels=data.digits().train_labels[:6])).test_images) == 1


def test_a_copy_that_is_not_the_official_one_is_read_again_where_another_was_read_after_it(tmp_path, monkeypatch):
    """Two files of one name, neither whole: the first counts, and nothing of the other is in it."""
    wanted, _, contents, _ = hostile.small_cifar()
    monkeypatch.setitem(datafiles.SETS, "cifar10", wanted)
    (tmp_path / wanted.below).mkdir()
    for file, content in contents.items():
        (tmp_path / wanted.below / file).write_bytes(content)
    first, other = bytes(len(contents["data_batch_2.bin"])), b"\1" * len(contents["data_batch_2.bin"])
    (tmp_path / wanted.below / "data_batch_2.bin").write_bytes(first)
    (tmp_path / wanted.below / "data_batch_2.bin.gz").write_bytes(gzip.compress(other))
    with pytest.warns(UserWarning, match="1 of the 6 files"):
        dataset = data.load("cifar10", tmp_path, allow_unverified=True)
    assert not dataset.train_images[30:60].any() and not dataset.train_labels[30:60].any()
    assert dataset.train_images[60:].any()
