"""Data of one's own through every command: trained, stopped, found again, looked at, exported and used."""

import json
import shutil
import sys

import numpy as np
import pytest

from minimask import data, export, interchange, loop, runs
from minimask.__main__ import main

RECIPE = """name = "iris"
about = "a table of one's own"
epochs = 4
lr = 0.05
wd = 0.0
batch = 16
dataset = "csv:iris.csv"
preprocess = "feature"
source_settings = {tau = 0.01}
dataset_settings = {label = "kind", held_out = 0.25}
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a table, iris.csv, whose columns have scales of their own, and a recipe for it, iris.toml."""
    rng = np.random.default_rng(0)
    rows = [f"{(rng.standard_normal() + 3 * (i % 3)) * 1e4:.6g},{('ant', 'bee', 'cat')[i % 3]},"
            f"{(rng.standard_normal() - 3 * (i % 3)) * 1e-3:.6g}" for i in range(120)]
    (tmp_path / "iris.csv").write_text("\n".join(["width,kind,length", *rows]) + "\n")
    (tmp_path / "iris.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "write_pictures", lambda *run: [])  # seconds, and no part of this
    return tmp_path


def said(capsys, *words, status=0):
    assert main(list(map(str, words))) == status, capsys.readouterr()
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_a_table_goes_through_every_command(work, capsys, monkeypatch):
    said(capsys, "train", "iris.toml", "--out", "run", "--quiet")
    record = json.loads((work / "run" / "record.json").read_text())
    assert record["data"] == {"digest": record["data"]["digest"], "input": [1, 2, 1], "classes": ["ant", "bee", "cat"],
                              "preprocess": "feature"} and len(record["data"]["digest"]) == 16
    assert record["epochs"][-1]["test_accuracy"] > 0.8 and record["environment"]["data"] == str(work / "iris.csv")
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")  # the table is found where it was
    assert "page" in said(capsys, "inspect", "../run", "--repeats", "1") or (work / "run/anatomy/index.html").exists()
    assert "iris on csv:iris.csv" in said(capsys, "step", "../run", "--out", "step.html")
    assert "5 epochs" in said(capsys, "train", "--resume", "../run", "--epochs", "5", "--quiet")
    assert "csv:iris.csv, preprocess feature" in said(capsys, "report", "../run", "--out", "report") + (
        work / "elsewhere" / "report" / "report.md").read_text()
    said(capsys, "compare", "../run", "../run")
    monkeypatch.setattr(data.named, "load", None)  # from here on there is no data to be had
    said(capsys, "export", "../run", "-o", "iris.mmk")
    found = said(capsys, "info", "iris.mmk")
    assert "preprocess: feature" in found and "3 classes: ant, bee, cat" in found
    (work / "elsewhere" / "new.csv").write_text("width,length\n0,0\n60000,-0.006\n")
    lines = said(capsys, "predict", "iris.mmk", "new.csv").splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["new.csv[0]", "ant"], ["new.csv[1]", "cat"]]
    (work / "elsewhere" / "more.csv").write_text("1,2,3\n")
    assert "more.csv, line 1: has 3 columns, but the net takes 2; leave out the class" in said(
        capsys, "predict", "iris.mmk", "more.csv", status=1)


def test_a_stopped_run_goes_on_to_the_same_bits(work, capsys, monkeypatch):
    said(capsys, "train", "iris.toml", "--out", "whole", "--quiet")
    steps, real = [], loop.Training.train_step

    def stopped(training):
        steps.append(1)
        if len(steps) == 11:
            raise KeyboardInterrupt
        return real(training)

    monkeypatch.setattr(loop.Training, "train_step", stopped)
    text = said(capsys, "train", "iris.toml", "--out", "cut", "--quiet", status=130)
    assert "to go on: minimask train iris.toml --resume" in text
    monkeypatch.undo()
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")
    said(capsys, "train", "--resume", "../cut", "--quiet")
    assert runs.peek(work / "cut")[1] == runs.peek(work / "whole")[1]


def test_what_was_held_out_to_choose_by_is_found_again(work, capsys, monkeypatch):
    said(capsys, "train", "iris.toml", "--dataset", "csv:iris.csv-validation", "--out", "run", "--quiet")
    record = runs.read_record(work / "run")
    assert record["dataset"] == "csv:iris.csv-validation"
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")
    found = runs.dataset_of(work / "run", record)
    assert found.name == "csv:iris.csv-validation" and found.prepare.name == "feature"


def test_data_that_changed_is_no_longer_that_of_the_run(work, capsys):
    said(capsys, "train", "iris.toml", "--out", "run", "--quiet")
    before = (work / "iris.csv").read_text()
    (work / "iris.csv").write_text(before.replace("ant", "arthropod"))
    text = said(capsys, "inspect", "run", status=1)
    assert "csv:iris.csv is not the data that the run in run was trained on: its classes are ['arthropod'" in text
    assert "its classes is ['ant'" in said(capsys, "train", "--resume", "run", "--epochs", "9", status=2)
    (work / "iris.csv").write_text(before.replace("cat,-0.00", "cat,-0.01"))
    assert "its digest is" in said(capsys, "inspect", "run", status=1)
    assert "is of another run: its images is" in said(capsys, "train", "--resume", "run", "--epochs", "9", status=2)
    (work / "iris.csv").unlink()
    assert "there is no iris.csv nor" in said(capsys, "inspect", "run", status=2)
    assert json.loads((work / "run" / "record.json").read_text())["epochs"][-1]["epoch"] == 4  # nothing is lost
    said(capsys, "export", "run", "-o", "iris.mmk")


@pytest.mark.parametrize("change", [{"digest": 3}, {"classes": []}, {"classes": ["a\n", "b"]}, {"input": [1, 2]},
                                    {"input": [1, 2, 0]}, {"preprocess": None}, {"more": 1}, 7])
def test_what_a_record_says_of_its_data_is_checked(change, work, capsys):
    said(capsys, "train", "iris.toml", "--out", "run", "--quiet", "--epochs", "1")
    record = json.loads((work / "run" / "record.json").read_text())
    record["data"] = {**record["data"], **change} if isinstance(change, dict) else change
    (work / "run" / "record.json").write_text(json.dumps(record))
    for words in (("inspect", "run"), ("export", "run", "-o", "n.mmk"), ("report", "run", "--out", "report")):
        assert "is damaged or of another kind: its data" in said(capsys, *words, status=1)


def test_what_was_learned_belongs_to_the_run(work, capsys):
    said(capsys, "train", "iris.toml", "--out", "run", "--quiet")
    shutil.copytree(work / "run", work / "other")
    (work / "other" / "preprocess.npz").unlink()
    assert "its preprocessing 'feature' needs mean, spread, but none are there" in said(
        capsys, "export", "other", "-o", "o.mmk", status=1)
    said(capsys, "train", "iris.toml", "--out", "run", "--overwrite", "--quiet", "--set", "preprocess=none", status=0)
    assert not (work / "run" / "preprocess.npz").exists()


def test_the_default_is_said_aloud_on_a_table(work, capsys):
    text = said(capsys, "train", "fcn", "--dataset", "csv:iris.csv", "--epochs", "1", "--quiet", "--out", "run", status=1)
    assert "iris.csv" in text and "column 'kind' is" in text  # the class is in the middle, and the last one was taken
    text = said(capsys, "train", "fcn", "--dataset", "csv:iris.csv", "--set", "dataset_settings.label=kind", "--epochs",
                "1", "--quiet", "--out", "run")
    assert "does not look like images (1 x 2 x 1)" in text and "preprocess 'feature'" in text


def test_a_sweep_over_preprocessings(work, capsys, monkeypatch):
    text = said(capsys, "sweep", "iris.toml", "--set", "preprocess=feature,none", "--epochs", "1", "--out", "swept",
                "--jobs", "1", "--quiet")
    assert "iris-preprocess_none-seed0" in text
    made = {path.parent.name: json.loads(path.read_text())["data"]["preprocess"]
            for path in (work / "swept").glob("*/record.json")}
    assert made == {"iris-preprocess_feature-seed0": "feature", "iris-preprocess_none-seed0": "none"}


def test_pictures_in_a_folder_with_an_own_preprocessing(work, capsys):
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(0, 40, (6, 6), np.uint8)
        pixels[:, 3 * (number % 2):3 + 3 * (number % 2)] += 200
        (work / "pics" / "lr"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(work / "pics" / "lr"[number % 2] / f"{number}.png")
    (work / "halves.py").write_text("def halved(images):\n    return images / 255 - 0.5\n")
    (work / "pics.toml").write_text(RECIPE.replace("iris.csv", "pics").replace("csv:", "folder:").replace(
        '"feature"', '"halves:halved"').replace('{label = "kind", held_out = 0.25}', '{size = "6x6", mode = "grey"}'))
    said(capsys, "train", "pics.toml", "--out", "run", "--cache", "--quiet")
    assert (work / "pics.minimask.npz").exists()
    record = json.loads((work / "run" / "record.json").read_text())
    assert record["data"]["preprocess"] == "halves:halved" and record["epochs"][-1]["test_accuracy"] == 1
    said(capsys, "export", "run", "-o", "pics.mmk")
    sys.modules.pop("halves", None)
    text = said(capsys, "predict", "pics.mmk", "pics/l/0.png", status=2)
    assert "images were preprocessed by 'halves:halved', which is no part of minimask" in text and (
        "halves" not in sys.modules)
    assert "\tl\t" in said(capsys, "predict", "pics.mmk", "pics/l/0.png", "--trust")
    assert export.load(work / "pics.mmk").classes == ("l", "r")


def test_exports_say_classes_and_preprocessing(work, capsys):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    said(capsys, "train", "iris.toml", "--out", "run", "--quiet")
    said(capsys, "export", "run", "-o", "n.onnx")
    said(capsys, "export", "run", "-o", "n.safetensors")
    model = onnx.load(work / "n.onnx")
    texts = {each.key: each.value for each in model.metadata_props}
    content = (work / "n.safetensors").read_bytes()
    header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])["__metadata__"]["minimask"]
    there = [json.loads(header), json.loads(texts["minimask"])]
    for said_ in there:
        assert said_["classes"] == ["ant", "bee", "cat"] and said_["preprocess"]["name"] == "feature"
        assert "standardised over the training set" in said_["input"]
    dataset = runs.dataset_of(work / "run", runs.read_record(work / "run"))
    for name in ("n.onnx", "n.safetensors"):
        read = interchange.read(work / name)
        assert read.classes == dataset.classes and read.prepare.name == "feature"
        assert np.array_equal(read.prepare(dataset.test_images), dataset.prepare(dataset.test_images))
    learned = there[1]["preprocess"]
    raw = dataset.test_images.transpose(0, 3, 1, 2)
    x = ((raw - learned["mean"]) / learned["spread"]).astype(np.float32)  # as a reader of that file does it
    logits = runtime.InferenceSession(str(work / "n.onnx")).run(None, {"images": x})[0]
    accuracy = np.mean(logits.argmax(axis=1) == dataset.test_labels)
    assert accuracy == runs.read_record(work / "run")["epochs"][-1]["test_accuracy"]
