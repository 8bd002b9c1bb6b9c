"""Preprocessing: by name, learned from the training images, and the same wherever a net is used."""

import numpy as np
import pytest

from minimask import UsageError, data, export, loop, models, optim, predict, train
from minimask.data import preprocess
from minimask.mask import SignedSupermask


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def doubled(images):
    return images * 2.0


class Shifted:
    """Learns the mean of all values."""

    @staticmethod
    def fit(images):
        return {"mean": images.mean()}

    @staticmethod
    def apply(images, dtype, mean):
        return (images - mean).astype(dtype)


def test_every_feature_has_mean_0_and_spread_1(rng):
    images = rng.normal(50, 20, (500, 3, 4, 2)).astype(np.float32)
    images[:, 1, 1, 1] = 0.1  # one that never changes, and whose mean rounds
    mine = preprocess.fitted("feature", images)
    x = mine(images, "float64")
    assert x.dtype == np.float64 and x.shape == images.shape
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-10)  # sums of 500 in float64
    spread = x.std(axis=0)
    assert spread[1, 1, 1] == 0 and not x[:, 1, 1, 1].any()
    np.testing.assert_allclose(np.delete(spread.ravel(), 1 * 8 + 1 * 2 + 1), 1, rtol=1e-10)


@pytest.mark.parametrize("count", [3, 10, 49])
def test_what_never_changes_is_exactly_0(count):
    same = np.full((count, 1, 1, 1), 0.1)  # the sum of so many, divided by their number, is not 0.1 again
    assert not preprocess.fitted("feature", same)(same, "float64").any()


@pytest.mark.parametrize("block", [1, 24, 1 << 20])
def test_moments_in_blocks_are_those_of_all(block, rng):
    images = rng.integers(0, 256, (101, 3, 4, 2), np.uint8)
    found = preprocess._moments(images, block)
    np.testing.assert_allclose(found["mean"], images.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["spread"], images.std(axis=0), rtol=1e-12)


def test_large_numbers_that_differ_by_little_are_told_apart():
    times = 1.7e9 + np.arange(8.0).reshape(8, 1, 1, 1)
    x = preprocess.fitted("feature", times)(times)
    assert x.dtype == np.float32 and len(np.unique(x)) == 8
    np.testing.assert_allclose(x.std(), 1, rtol=1e-6)


@pytest.mark.parametrize("asked, name, expected", [
    (None, "image", data.standardise), ("image", "image", data.standardise),
    ("none", "none", lambda x: x.astype(np.float32)),
    (doubled, ":doubled", lambda x: (x * 2.0).astype(np.float32)),
    (Shifted, None, lambda x: (x - x.mean()).astype(np.float32)), (Shifted(), None, None)])
def test_a_data_set_is_preprocessed_as_it_is_asked_for(asked, name, expected, digits):
    mine = data.Dataset("mine", digits.train_images, digits.train_labels, digits.test_images, digits.test_labels,
                        digits.classes, preprocess=asked)
    x = mine.prepare(digits.train_images)
    assert mine.prepare.name.endswith(name or ":Shifted")
    if expected is not None:
        np.testing.assert_array_equal(x, expected(digits.train_images))
    assert mine.prepare.asked == (asked is not None) and x.dtype == np.float32


def in_place(images):
    images *= 0.5
    return images


class InPlace:
    def apply(self, images, dtype, **arrays):
        return in_place(images).astype(dtype)


@pytest.mark.parametrize("asked", [in_place, InPlace()])
def test_what_it_does_in_place_does_not_reach_the_data_set(asked, digits):
    held = digits.test_images.astype(np.float32)
    mine = data.Dataset("mine", digits.train_images, digits.train_labels, held, digits.test_labels, digits.classes,
                        preprocess=asked)
    first = mine.prepare(mine.test_images[:9])  # a view, as an evaluation has it
    assert np.array_equal(mine.prepare(mine.test_images[:9]), first) and held.max() == 16


def test_what_learns_in_place_is_refused(digits):
    class Greedy(InPlace):
        def fit(self, images):
            images -= 1
            return {}

    with pytest.raises(ValueError, match="read-only"):
        preprocess.fitted(Greedy(), digits.train_images)


@pytest.mark.parametrize("change", [lambda x: x[:, :4], lambda x: x.reshape(len(x), -1), lambda x: x.astype(str)])
def test_what_gives_other_shapes_is_refused(change, digits):
    with pytest.raises(UsageError, match=r"preprocess .*lambda.* gives .* for images \(9, 8, 8, 1\); needed are numbers"):
        preprocess.fitted(change, digits.train_images)(digits.train_images[:9])


def test_only_training_images_teach_it(digits):
    held = np.full_like(digits.test_images, 255)
    mine = data.Dataset("mine", digits.train_images, digits.train_labels, held, digits.test_labels, digits.classes,
                        preprocess="feature")
    assert np.array_equal(mine.prepare.arrays["mean"], digits.train_images.mean(axis=0))
    part = data.validation(mine)
    assert np.array_equal(part.prepare.arrays["mean"], part.train_images.mean(axis=0))


@pytest.mark.parametrize("asked, sentence", [("feture", "did you mean 'feature'"), (3, "preprocess is 3")])
def test_what_is_no_preprocessing_is_refused(asked, sentence, digits):
    with pytest.raises(UsageError, match=sentence):
        preprocess.fitted(asked, digits.train_images)


@pytest.mark.parametrize("shape, asked, said", [
    ((8, 8, 1), None, False), ((1, 4, 1), None, True), ((1, 1, 4), None, True), ((2, 2, 1), None, True),
    ((1, 4, 1), "image", False), ((1, 4, 1), "feature", False)])
def test_the_default_is_said_aloud_where_nothing_looks_like_images(shape, asked, said, recwarn):
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((20, *shape)), np.arange(20) % 2
    mine = data.Dataset("t", images, labels, images, labels, ("a", "b"), preprocess=asked)
    net = models.fcn(SignedSupermask(tau=0.01), rng, shape, (2,))
    train.fit(net, mine, optim.SGDW(net.parameters(), 0.1), 1, rng)
    sentences = [str(each.message) for each in recwarn if "does not look like images" in str(each.message)]
    assert len(sentences) == said
    assert all("standardised by itself" in each and __file__.endswith("test_preprocess.py") for each in sentences)


def test_the_same_everywhere(digits, tmp_path):
    """Training, evaluation, a saved net and predict see the very numbers that the data set's preprocessing gives."""
    mine = data.Dataset("mine", digits.train_images, digits.train_labels, digits.test_images, digits.test_labels,
                        digits.classes, preprocess="feature")
    rng = np.random.default_rng(0)
    net, other = (models.fcn(SignedSupermask(tau=0.01), np.random.default_rng(0), mine.input_shape, (10,)) for _ in "ab")
    record = train.fit(net, mine, optim.SGDW(net.parameters(), 0.05), 2, rng)
    by_hand = data.Dataset("by hand", mine.prepare(digits.train_images), digits.train_labels,
                           mine.prepare(digits.test_images), digits.test_labels, digits.classes, preprocess="none")
    same = train.fit(other, by_hand, optim.SGDW(other.parameters(), 0.05), 2, np.random.default_rng(0))
    for one, two in zip(record["epochs"], same["epochs"]):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    accuracy = record["epochs"][-1]["test_accuracy"]
    assert loop.evaluate(net, mine.test_images, mine.test_labels, mine.prepare) == accuracy
    assert train.evaluate(net, mine.test_images, mine.test_labels, prepare=mine.prepare) == accuracy
    assert train.evaluate(net, mine.test_images, mine.test_labels) != accuracy  # of another preprocessing
    saved = export.save(tmp_path / "n.mmk", net, mine.classes, prepare=mine.prepare)
    found = predict.classify(saved.net, mine.test_images, prepare=saved.prepare)[0]
    assert np.mean(found == mine.test_labels) == accuracy
    for name, array in mine.prepare.arrays.items():
        assert np.array_equal(saved.prepare.arrays[name], array)


@pytest.mark.parametrize("name", ["none", doubled, Shifted])
def test_a_file_names_its_preprocessing(name, digits, tmp_path):
    mine = data.Dataset("mine", digits.train_images, digits.train_labels, digits.test_images, digits.test_labels,
                        digits.classes, preprocess=name)
    net = models.fcn(SignedSupermask(tau=0.01), np.random.default_rng(0), mine.input_shape, (10,))
    found = export.save(tmp_path / "n.mmk", net, mine.classes, prepare=mine.prepare).prepare
    assert found.name == mine.prepare.name and {*found.arrays} == {*mine.prepare.arrays}
    if name == "none":
        assert np.array_equal(found(mine.test_images), mine.test_images)
        return
    with pytest.raises(UsageError, match="is no part of minimask: give it"):
        predict.classify(net, mine.test_images, prepare=found)
    given = preprocess.restored(found.name, found.arrays, None, name)
    assert np.array_equal(given(mine.test_images), mine.prepare(mine.test_images))


def test_the_files_of_before_have_the_same_bytes(digits, tmp_path):
    net = models.fcn(SignedSupermask(tau=0.01), np.random.default_rng(0), digits.input_shape, (10,))
    with_, without = (export.file.encoded(net, digits.classes, prepare=each) for each in (digits.prepare, None))
    assert with_ == without and b'"standardise":"per image","classes"' in with_
    assert "data" not in train.fit(net, digits, optim.SGDW(net.parameters(), 0.1), 1, np.random.default_rng(0))


@pytest.mark.parametrize("arrays, sentence", [
    ({}, "needs mean, spread, but none"), ({"mean": np.zeros((8, 8, 1))}, "but mean are there"),
    ({"mean": np.zeros((8, 8, 2)), "spread": np.ones((8, 8, 1))}, "mean of float64"),
    ({"mean": np.zeros((8, 8, 1)), "spread": np.zeros((8, 8, 1))}, "not positive"),
    ({"mean": np.full((8, 8, 1), np.nan), "spread": np.ones((8, 8, 1))}, "not finite")])
def test_what_was_learned_must_fit(arrays, sentence):
    with pytest.raises(ValueError, match=sentence):
        preprocess.restored("feature", arrays, (8, 8, 1))
