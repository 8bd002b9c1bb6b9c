"""The nets that come with the package: each is the one of its record, and says the right sentence where it cannot be."""

import io
import itertools
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from minimask import MinimaskError, UsageError, data, export, predict, zoo
from minimask.__main__ import main
from minimask.zoo import nets

RECORDS = Path(__file__).parent.parent / "benchmarks/records"
NAMES = list(zoo.entries())


@pytest.mark.parametrize("name", NAMES)
def test_a_net_is_the_one_of_its_record(name):
    """Counts of every layer, size and digest; what the index says of accuracy stands in the committed record."""
    entry = zoo.find(name)
    exported = export.load(entry.path)
    assert entry.bytes == exported.size == entry.path.stat().st_size
    assert [kept + inverted for kept, _, inverted in entry.counts] == [
        np.count_nonzero(source.effective().data) for source in zoo.load(name).weights().values()]
    weights = sum(map(sum, entry.counts))
    assert entry.weights_left == pytest.approx(1 - sum(hidden for _, hidden, _ in entry.counts) / weights, abs=1e-12)
    (path,) = (path for folder in (".", "zoo", "cifar10") for path in (RECORDS / folder).glob(f"{name}.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    end = record["epochs"][-1]
    assert (entry.test_accuracy, entry.weights_left, entry.epochs) == (
        end["test_accuracy"], end["weights_left"], len(record["epochs"]))
    assert entry.unverified == bool(record.get("unverified")) and entry.dataset == record["dataset"]
    assert entry.counts == tuple((layer["kept"], layer["hidden"], layer["inverted"]) for layer in end["layers"])


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory):
    """The images that the CIFAR nets were measured on, official or the JPEG copies, where one of them is there."""
    folder = Path(os.environ.get("MINIMASK_DATA") or "none")
    if (folder / "cifar-10-batches-bin").is_dir():
        return data.cifar10(folder, allow_unverified=True)
    if not (folder / "cifar10-jpeg/test.npz").exists():
        pytest.skip("CIFAR-10 is not there: set MINIMASK_DATA to the folder that holds it")
    pytest.importorskip("PIL", reason="Pillow decodes the JPEG copies of CIFAR-10: pip install pillow")
    from PIL import Image

    with np.load(folder / "cifar10-jpeg/test.npz", allow_pickle=False) as members:
        jpeg, offset, labels = members["jpeg"], members["offset"], members["label"]
    images = np.stack([np.asarray(Image.open(io.BytesIO(jpeg[start:stop].tobytes())).convert("RGB"))
                       for start, stop in itertools.pairwise(offset)])
    return data.Dataset("cifar10", images[:1], labels[:1], images, labels, data.outline("cifar10")[1], verified=False)


def accuracy(name, images, labels):
    found, _ = predict.classify(zoo.load(name), images)
    return np.mean(found == labels)


@pytest.mark.parametrize("name", [name for name, entry in zoo.entries().items() if entry.dataset == "digits"])
def test_a_net_of_the_digits_has_the_accuracy_of_its_record(name):
    digits = data.digits()
    assert accuracy(name, digits.test_images, digits.test_labels) == pytest.approx(zoo.find(name).test_accuracy, abs=0.006)


@pytest.mark.parametrize("name", [name for name, entry in zoo.entries().items() if entry.dataset == "mnist"])
def test_a_net_of_mnist_has_the_accuracy_of_its_record(name, mnist_folder):
    """One image in a thousand may fall to the other side: pruned products are summed in another order."""
    mnist = data.mnist(mnist_folder)
    assert accuracy(name, mnist.test_images, mnist.test_labels) == pytest.approx(zoo.find(name).test_accuracy, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in zoo.entries().items() if entry.dataset == "cifar10"])
def test_a_net_of_cifar_has_the_accuracy_of_its_record(name, cifar10):
    """It was measured on a GPU with TF32, which is coarser: up to three images in a thousand."""
    assert accuracy(name, cifar10.test_images, cifar10.test_labels) == pytest.approx(zoo.find(name).test_accuracy, abs=3e-3)


@pytest.mark.parametrize(("name", "seed", "sentence"), [
    ("conv2-binary", None, "unknown net of the zoo 'conv2-binary'"),  # a recipe, but the zoo has no net of it
    ("conv2-fast", 99, "no conv2-tau0.01-wd0.00075-cosine with seed 99; the nearest is"),
    ("conv2-publishd", None, "unknown net of the zoo 'conv2-publishd': did you mean 'conv2-published-config'"),
    ("conv2-tau0.01-wd0.001-fall1.5", 7, "no conv2-tau0.01-wd0.001-fall1.5 with seed 7; the nearest is conv2-tau0.01-wd0.001-fall1.5-seed2, there are seeds 0, 1, 2"),
    ("fcn", -1, "no fcn with seed -1; the nearest is fcn-seed0"),
    ("fcn-seed9", None, "no fcn with seed 9; the nearest is fcn-seed4, there are seeds 0, 1, 2, 3, 4"),
    ("fcn-best-seed12", None, "the nearest is fcn-best-seed4"),
    ("fcn-bst-seed1", None, "did you mean 'fcn-best-seed1'"),
    ("fcn-seed", None, "did you mean 'fcn-seed0'"),
    ("FCN", None, "did you mean 'fcn'"),
    ("", None, "unknown net of the zoo ''"),
    ("fcn-seed1", 0, "fcn-seed1 has seed 1 in its name, and seed 0 was asked for"),
    ("fcn", "3", "whole numbers for seeds, and '3' is none"),
    ("fcn", 1.0, "and 1.0 is none"),
    ("fcn", True, "and True is none")])
def test_names_and_seeds_that_are_not_there_get_the_nearest(name, seed, sentence, tmp_path, capsys):
    with pytest.raises(UsageError, match=re.escape(sentence)):
        zoo.load(name, seed=seed)
    if seed is None:
        assert main(["predict", name, str(tmp_path / "x.png")]) == 2 and sentence in capsys.readouterr().err


def test_a_net_is_found_by_its_recipe_its_whole_name_or_both():
    assert zoo.find("conv2-tau0.01-wd0.001-fall1.5").seed == 0
    assert zoo.find("conv2-fast").name == zoo.find("conv2-fast-seed0").name == "conv2-tau0.01-wd0.00075-cosine-seed0"
    assert zoo.find("conv2-tau0.01-wd0.001-fall1.5-seed2").seed == zoo.find("conv2-tau0.01-wd0.001-fall1.5-seed2", 2).seed == 2


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The zoo in a folder of its own, which a test may damage."""
    shutil.copytree(nets.HERE, tmp_path / "zoo")
    monkeypatch.setattr(nets, "HERE", tmp_path / "zoo")
    nets.entries.cache_clear()
    yield tmp_path / "zoo"
    nets.entries.cache_clear()


def test_a_damaged_net_is_named(copied):
    path = copied / "conv2-published-config-seed0.mmk"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(MinimaskError, match=r"conv2-published-config-seed0.mmk is damaged: .* sha256 .* install minimask anew"):
        zoo.load("conv2-published-config")
    path.unlink()
    with pytest.raises(MinimaskError, match=r"conv2-published-config-seed0.mmk cannot be read \(No such file"):
        zoo.load("conv2-published-config")


@pytest.mark.parametrize("text", ["{", '{"nets": [{"recipe": "fcn"}]}', "[]", '{"nets": 3}'])
def test_a_damaged_index_is_named(copied, text):
    (copied / "index.json").write_text(text)
    with pytest.raises(MinimaskError, match=r"the zoo's index.json is damaged \(.*\); install minimask anew"):
        zoo.entries()


def test_the_commands_take_a_name_where_they_take_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["zoo"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in NAMES) and "files that are not known to be the official ones" in listed
    np.save("picture.npy", np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8))
    assert main(["predict", "conv4-published-config", "picture.npy"]) == 0
    by_name = capsys.readouterr().out
    assert main(["predict", str(zoo.find("conv4-published-config").path), "picture.npy"]) == 0
    assert capsys.readouterr().out == by_name and by_name.split()[1] in data.outline("cifar10")[1]
    assert main(["info", "conv4-published-config-seed0"]) == 0
    assert "74.57% of the images held out" in capsys.readouterr().out
    assert main(["info", "conv9"]) == 2
    assert "unknown net of the zoo 'conv9'" in capsys.readouterr().err
    assert main(["info", "missing.mmk"]) == 2
    assert "there is no missing.mmk" in capsys.readouterr().err


def test_all_of_it_is_small():
    files = [path for path in nets.HERE.iterdir() if path.suffix == zoo.ENDING]
    assert {path.stem for path in files} == set(NAMES)
    assert sum(path.stat().st_size for path in files) <= 400_000


@pytest.mark.parametrize("name", ["conv2-published-config", "conv6-ratio0.4-wd0.0003-cosine"])
def test_a_net_comes_back_as_it_was_trained(name):
    """Its frozen weights are drawn from the seed, its mask has the counts of the record, its logits are the same."""
    net, entry = zoo.masked(name)
    assert tuple(net.counts()) == entry.counts
    images = np.random.default_rng(0).standard_normal((2, *net.input_shape)).astype(np.float32)
    np.testing.assert_array_equal(net(images).data, zoo.load(name)(images).data)


def test_frozen_weights_of_another_seed_are_refused(copied):
    text = (copied / "index.json").read_text()
    (copied / "index.json").write_text(text.replace('"conv2-published-config", "seed": 0', '"conv2-published-config", "seed": 9'))
    (copied / "conv2-published-config-seed0.mmk").rename(copied / "conv2-published-config-seed9.mmk")
    with pytest.raises(MinimaskError, match="frozen weights drawn again from seed 9 are not those of conv2-published-config-seed9"):
        zoo.masked("conv2-published-config")
