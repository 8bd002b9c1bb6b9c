"""What a net gets right and wrong: counted by hand, as training counts it, and shown by `minimask evaluate`."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from minimask import MinimaskError, UsageError, data, evaluation, loop, ops, plot, recipes, runs, train, zoo
from minimask.__main__ import main
from minimask.engine import no_grad
from minimask.evaluation import Evaluation
from minimask.mishaps import TrainingError
from minimask.runs import compare

TINY = replace(recipes.find("digits"), name="tiny", epochs=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return (folder, *runs.run(TINY, data.digits(), 0, folder))


@pytest.fixture
def run(trained, tmp_path):
    """A run of its own for a test that writes into it."""
    import shutil

    return shutil.copytree(trained[0], tmp_path / "run")


def counted(classes, pairs):
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for label, given in pairs:
        confusion[label, given] += 1
    return Evaluation(tuple(classes), confusion, 0.0, ())


def test_numbers_per_class_are_those_counted_by_hand():
    found = counted("abcd", [(0, 0)] * 3 + [(0, 1)] + [(1, 1)] * 2 + [(1, 0)] * 4 + [(2, 0)])
    assert (found.images, found.accuracy) == (11, 5 / 11)
    a, b, c, d = found.per_class()
    assert a == {"class": "a", "images": 4, "given": 8, "precision": 3 / 8, "recall": 3 / 4, "f1": 2 * 3 / 12}
    assert b == {"class": "b", "images": 6, "given": 3, "precision": 2 / 3, "recall": 2 / 6, "f1": 2 * 2 / 9}
    assert c == {"class": "c", "images": 1, "given": 0, "precision": None, "recall": 0.0, "f1": 0.0}
    assert d == {"class": "d", "images": 0, "given": 0, "precision": None, "recall": None, "f1": None}
    assert found.confused(2) == [(1, 0, 4), (0, 1, 1)] and len(found.confused(99)) == 3


def test_a_net_is_evaluated_as_training_does(trained):
    _, net, record = trained
    digits = data.digits()
    images, labels = digits.test_images, digits.test_labels
    found = evaluation.evaluate(net, images, labels, digits.classes)
    assert found.accuracy == loop.evaluate(net, images, labels) == record["epochs"][-1]["test_accuracy"]
    with no_grad():
        logits = net(data.standardise(images))
        loss = ops.cross_entropy(logits, labels).item()
    assert found.loss == pytest.approx(loss, rel=1e-5)
    naive, odds = np.zeros((10, 10), int), np.exp(logits.data - logits.data.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    for label, given in zip(labels, odds.argmax(1)):
        naive[label, given] += 1
    assert np.array_equal(found.confusion, naive)
    wrong = sorted(np.flatnonzero(odds.argmax(1) != labels), key=lambda i: -odds[i].max())[:10]
    assert [each.index for each in found.mistakes] == wrong and len(wrong) == 10
    for each in found.mistakes:
        assert (each.label, each.given) == (labels[each.index], odds[each.index].argmax())
        assert each.confidence == pytest.approx(odds[each.index].max(), rel=1e-4)
        assert each.of_label == pytest.approx(odds[each.index, each.label], rel=1e-3)
    assert json.loads(json.dumps(found.as_dict()))["confusion"] == naive.tolist()


def test_large_logits_and_nets_of_other_classes(trained):
    huge = np.array([[1e5, 0.0, -1e5], [0.0, 0.0, 0.0]])
    assert np.allclose(evaluation.log_softmax(huge), [[0, -1e5, -2e5], [-np.log(3)] * 3])
    digits = data.digits()
    with pytest.raises(UsageError, match="the net tells 10 classes apart, but the data has 2"):
        evaluation.evaluate(trained[1], digits.test_images, digits.test_labels, ("a", "b"))
    with pytest.raises(TrainingError, match="there are no images"):
        evaluation.logits(trained[1], digits.test_images[:0])


LOSSES = {"mse": ("mse", {}), "binary-cross-entropy": ("binary-cross-entropy", {}),
          "smoothed": ("cross-entropy", {"smoothing": 0.1}), "plain": ("cross-entropy", {})}


@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_the_one_that_the_run_minimised(kind, tmp_path, capsys):
    """Of a recipe's run and of one that was kept from Python: what training told of the same images."""
    (name, settings), digits = LOSSES[kind], data.digits()
    recipe = replace(TINY, loss=name, loss_settings=settings, test_loss=True)
    net, record = runs.run(recipe, digits, 0, tmp_path / "a")
    rng = np.random.default_rng(0)
    mine = recipe.build(digits, rng)
    told = train.fit(mine, digits, recipe.optimizer_of(mine, digits), 1, rng, recipe.batch, loss=recipe.loss_of(),
                     test_loss=True)
    runs.save(mine, told, tmp_path / "b", digits)
    for folder in ("a", "b"):
        written = json.loads(said(capsys, tmp_path / folder, "--json").out)
        end = runs.read_record(tmp_path / folder)["epochs"][-1]
        assert written["loss"] == pytest.approx(end["test_loss"], rel=1e-5) and written["loss_name"] == name
        assert f"mean {name} {written['loss']:.4f}" in said(capsys, tmp_path / folder).out


def test_a_loss_of_ones_own_is_named(tmp_path, capsys):
    def squared(outputs, targets):
        return ops.mean(outputs * outputs)

    digits, rng = data.digits(), np.random.default_rng(0)
    net = TINY.build(digits, rng)
    told = train.fit(net, digits, TINY.optimizer_of(net, digits), 1, rng, loss=squared)
    runs.save(net, told, tmp_path / "own", digits)
    assert "right, its loss, squared, is own code and not asked" in said(capsys, tmp_path / "own").out
    assert json.loads(said(capsys, tmp_path / "own", "--json").out)["loss"] is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_ended_in_its_first_epoch_is_said_to_be_untrained(tmp_path, capsys):
    with pytest.raises(TrainingError, match="in epoch 1"):
        runs.run(replace(TINY, lr=1000.0, source="trained", source_settings={}), data.digits(), 0, tmp_path / "a")
    with pytest.raises(MinimaskError, match="it has no whole epoch, so its mask is as it was drawn, untrained"):
        compare.read(tmp_path / "a")
    for words in (["evaluate", tmp_path / "a"], ["export", tmp_path / "a", "-o", tmp_path / "a.mmk"]):
        assert main([*map(str, words)]) == 0
        assert "a has no whole epoch, for training was cut short before: its net is as it was drawn" in (
            capsys.readouterr().err)


# ---- the command -----------------------------------------------------------------------------------------------------


def said(capsys, *words, status=0):
    assert main(["evaluate", *map(str, words)]) == status
    return capsys.readouterr()


def test_it_prints_the_tables_and_writes_json_and_a_picture(run, capsys):
    text = said(capsys, run).out
    end = runs.read_record(run)["epochs"][-1]
    assert f"tiny-seed0: 360 test images of digits, {end['test_accuracy']:.2%} right, mean cross-entropy" in text
    assert "label \\ given" in text and "the most confident mistakes:" in text
    written = json.loads((run / "evaluation.json").read_text())
    assert written["accuracy"] == end["test_accuracy"] and np.sum(written["confusion"]) == 360
    assert written["made_by"] == "minimask evaluate" and written["part"] == "test" and len(written["mistakes"]) == 10
    assert ((run / "mistakes.png").exists()) == ("mistakes.png" in text)
    again = json.loads(said(capsys, run, "--json", "--mistakes", "0").out)
    assert again["confusion"] == written["confusion"] and again["mistakes"] == []
    assert not (run / "mistakes.png").exists()  # it would be of another evaluation


def test_what_was_found_goes_when_the_run_goes_on(run, capsys, monkeypatch):
    monkeypatch.setattr(runs, "write_pictures", lambda *_: [])
    said(capsys, run)
    assert main(["train", "--resume", str(run), "--epochs", "2", "--quiet"]) == 0
    assert not (run / "evaluation.json").exists() and not (run / "mistakes.png").exists()


def test_an_exported_net_says_the_same_of_the_same_images(run, tmp_path, capsys):
    assert main(["export", str(run), "-o", str(tmp_path / "a.mmk")]) == 0
    capsys.readouterr()
    written = json.loads(said(capsys, run, "--json").out)
    found = json.loads(said(capsys, tmp_path / "a.mmk", "--dataset", "digits", "--json").out)
    assert (found["confusion"], found["data"]) == (written["confusion"], "digits")
    assert main(["export", str(run), "-o", str(tmp_path / "a.safetensors")]) == 0
    capsys.readouterr()
    again = json.loads(said(capsys, tmp_path / "a.safetensors", "--dataset", "digits", "--json").out)
    assert again["confusion"] == written["confusion"]
    assert "a.mmk does not say what data it was made for; name it with --dataset" in said(capsys, tmp_path / "a.mmk", status=2).err
    assert said(capsys, tmp_path / "a.mmk", "--dataset", "digits", "--out", tmp_path / "there").out.rstrip().startswith("tiny on digits")
    assert (tmp_path / "there/evaluation.json").exists()


def test_the_images_to_train_and_other_data(run, capsys):
    found = json.loads(said(capsys, run, "--train", "--json").out)
    assert (found["images"], found["part"]) == (len(data.digits().train_images), "training")
    held_out = said(capsys, run, "--dataset", "digits-validation")
    assert "held-out images of digits-validation" in held_out.out and "its record says" not in held_out.err


def test_a_record_that_says_otherwise_is_told_of(run, capsys):
    record = json.loads((run / "record.json").read_text())
    record["epochs"][-1]["test_accuracy"] = 0.25
    runs.write_record(run, record)
    assert "its record says 25.00%: other data, another NumPy or another machine measured that" in said(capsys, run).err


def test_a_net_of_the_zoo_needs_its_data_alone(mnist_folder, capsys):
    entry = zoo.find("fcn")
    text = said(capsys, "fcn", "--data", mnist_folder, "--mistakes", "3").out
    assert f"10,000 test images of mnist, {entry.test_accuracy:.2%} right" in text and "in " + str(mnist_folder) not in text


def test_many_classes_are_told_of_by_their_most_frequent_mistakes(run, capsys, monkeypatch):
    monkeypatch.setattr("minimask.cli.evaluate.MOST_CLASSES", 9)
    text = said(capsys, run).out
    assert "most frequent mistakes (evaluation.json has the whole matrix):" in text and "label \\ given" not in text


def test_without_matplotlib_the_rest_is_there(run, capsys, monkeypatch):
    def missing(*_):
        raise plot.MissingMatplotlib("pictures need matplotlib: pip install matplotlib")

    monkeypatch.setattr(plot, "gallery", missing)
    assert "evaluation.json (pictures need matplotlib" in said(capsys, run).out
    assert (run / "evaluation.json").exists() and not (run / "mistakes.png").exists()


@pytest.mark.parametrize(("words", "sentence"), [
    (["nowhere"], "unknown net of the zoo 'nowhere'"), (["."], "holds no record.json, so it is no run's folder"),
    (["fcn", "--dataset", "digits"], "takes images of 28 x 28 x 1, but those of digits are 8 x 8 x 1"),
    (["fcn", "--dataset", "mnits"], "unknown dataset 'mnits'"), ([], "the following arguments are required: RUN")])
def test_what_cannot_be_evaluated_is_a_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sentence in said(capsys, *words, status=2).err


def test_files_that_are_no_evaluation_stay(run, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mistakes.png").write_bytes(b"mine")
    error = said(capsys, run, "--out", tmp_path / "there", status=2).err
    assert "holds what was not made by minimask evaluate and would be lost (mistakes.png)" in error
    assert (tmp_path / "there/mistakes.png").read_bytes() == b"mine"


def test_a_gallery_shows_grey_and_coloured_images():
    pytest.importorskip("matplotlib")
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3)).astype(np.uint8)
    figure = plot.gallery(images, [f"name_{'x' * 50}\n$1$ {i}" for i in range(7)])
    drawn = [ax for ax in figure.axes if ax.images]
    assert len(drawn) == 7 and all(len(line) < 40 for ax in drawn for line in ax.get_title().split("\n"))
    assert np.allclose(drawn[3].images[0].get_array(), images[3] / 255)
    for some in (images[:1, ..., :1], images[..., :2].astype(np.float32), np.zeros((2, 1, 6, 1))):
        assert plot.png(plot.gallery(some, ["a"] * len(some))).startswith(b"\x89PNG")
    assert "matplotlib" in sys.modules
