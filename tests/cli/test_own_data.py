"""Data of one's own through every command: trained, stopped, found again, looked at, exported and used."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from minimask import (
    UsageError,
    data,
    export,
    interchange,
    loop,
    losses,
    mask,
    nn,
    optimizers,
    own,
    predict,
    runs,
    train,
)
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


def test_pictures_in_a_folder_with_an_own_preprocessing(work, capsys, monkeypatch):
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
    sys.modules.pop("halves", None)
    (work / "elsewhere").mkdir()
    monkeypatch.setattr(sys, "path", [each for each in sys.path if Path(each).resolve() != work.resolve()])
    monkeypatch.setattr(own, "_imported", {})  # as in another process
    monkeypatch.chdir(work / "elsewhere")  # own code lies beside the file, as a run's beside the run
    assert "\tl\t" in said(capsys, "predict", "../pics.mmk", "../pics/l/0.png", "--trust")


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


def test_predict_takes_every_file_that_export_writes(numbers, work, capsys):
    for loss, names in (("mse", ("height", "weight")), ("cross-entropy", ("ant", "bee"))):
        numbers(loss, lambda x, loss=loss: x[:, :2] if loss == "mse" else (x[:, 0] > 0).astype(int), names)
        lines = set()
        for file in ("n.mmk", "n.safetensors", *(["n.onnx"] if importlib.util.find_spec("onnx") else [])):
            said(capsys, "export", "run", "-o", file, "--overwrite")
            lines.add(said(capsys, "predict", file, "new.npy"))
        assert len(lines) == 1 and (names[0] in min(lines) or names[1] in min(lines))
    assert "info tells of .mmk files" in said(capsys, "info", "n.safetensors", status=2)
    assert "is read into NumPy" in said(capsys, "predict", "n.safetensors", "new.npy", "--backend", "strict", status=2)
    (work / "foreign.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert "is no file that minimask wrote" in said(capsys, "predict", "foreign.safetensors", "new.npy", status=1)


@pytest.fixture
def numbers(work):
    """saved(loss, targets, names): a net trained from Python on columns of targets, kept in run/, and its net."""
    def saved(loss, targets, names):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((80, 4)).astype(np.float32)
        mine = data.from_arrays(x, targets(x), names, preprocess="feature")
        net = nn.Sequential([nn.Flatten(), nn.Dense(4, len(names), mask.Trained(), rng)], mine.input_shape)
        record = train.fit(net, mine, optimizers.Adam(net.parameters(), 0.05), 5, rng, batch=16, loss=loss)
        runs.save(net, record, work / "run", mine, overwrite=True)
        np.save(work / "new.npy", x[:2].reshape(2, 1, 4, 1))
        return predict.outputs(net, x[:2].reshape(2, 1, 4, 1), prepare=mine.prepare)
    return saved


def test_what_says_numbers_is_not_called_a_class(numbers, work, capsys):
    """A mean square's outputs are the numbers themselves, of binary cross-entropy the chance of yes."""
    outputs = numbers("mse", lambda x: x[:, :2] * 3, ("height", "weight"))
    said(capsys, "export", "run", "-o", "n.mmk")
    lines = said(capsys, "predict", "n.mmk", "new.npy").splitlines()
    assert lines == [f"new.npy[{i}]\theight {a:.4g}\tweight {b:.4g}" for i, (a, b) in enumerate(outputs)]
    assert "-> 2 numbers: height, weight" in said(capsys, "info", "n.mmk")
    assert "it is about classes, but the outputs of n.mmk say something else" in said(
        capsys, "evaluate", "n.mmk", "--dataset", "digits", status=2)
    outputs = numbers("binary-cross-entropy", lambda x: (x[:, :2] > 0) * 1.0, ("tall", "old"))
    said(capsys, "export", "run", "-o", "n.mmk", "--overwrite")
    lines = said(capsys, "predict", "n.mmk", "new.npy").splitlines()
    assert lines == [f"new.npy[{i}]\ttall {1 / (1 + np.exp(-a)):.1%}\told {1 / (1 + np.exp(-b)):.1%}"
                     for i, (a, b) in enumerate(outputs)]
    assert "-> 2 yes or no: tall, old" in said(capsys, "info", "n.mmk")


def test_every_head_says_what_it_is_about(numbers, work, capsys):
    """The number is the largest of all outputs, and no class for that."""
    heads = losses.Heads([("cross-entropy", 2), ("mse", 1)])
    mine = data.from_arrays(np.eye(4), np.eye(4)[:, :2])  # a name for each column of targets, of which a class is one
    with pytest.raises(UsageError, match=r"to \(3,\), but .* needs .* or name every output, classes="):
        train.fit(nn.Sequential([nn.Flatten(), nn.Dense(4, 3, mask.Trained(), np.random.default_rng(0))], (1, 4, 1)), mine,
                  None, 1, np.random.default_rng(0), loss=heads)
    outputs = numbers(heads, lambda x: np.stack([x[:, 0] > 0, 50 + x[:, 1]], axis=1), ("left", "right", "far"))
    assert runs.read_record(work / "run")["answers"] == [["class", 2], ["number", 1]]
    said(capsys, "export", "run", "-o", "n.mmk")
    for line, row in zip(said(capsys, "predict", "n.mmk", "new.npy").splitlines(), outputs, strict=True):
        assert line.split("\t")[1] == ("left", "right")[row[:2].argmax()] and line.endswith(f"\tfar {row[2]:.4g}")
        assert line.split("\t")[2] == f"{1 / np.exp(row[:2] - row[:2].max()).sum():.1%}"
    assert "-> 2 classes: left, right; 1 number: far" in said(capsys, "info", "n.mmk")
    said(capsys, "export", "run", "-o", "n.safetensors")
    assert interchange.read("n.safetensors").about["answers"] == [["class", 2], ["number", 1]]
    path = work / "run" / "record.json"
    good = path.read_text()
    for wrong in ('[["class", 2], ["number", 2]]', '[["sort", 3]]', '[["class", 3, 1]]', "{}", "[]", '[["class", true]]'):
        path.write_text(good.replace('[["class", 2], ["number", 1]]', wrong))
        assert "its answers are" in said(capsys, "export", "run", "-o", "m.mmk", status=1)


def test_of_classes_nothing_more_is_noted(work, capsys):
    """Records and files of nets that say a class are what they always were, whatever the loss."""
    said(capsys, "train", "iris.toml", "--out", "run", "--quiet", "--epochs", "1", "--set", "loss=mse")
    said(capsys, "export", "run", "-o", "n.mmk")
    assert "answers" not in runs.read_record(work / "run") and b"answers" not in (work / "n.mmk").read_bytes()
    assert export.load(work / "n.mmk").answers == (("class", 3),)
    said(capsys, "export", "run", "-o", "n.safetensors")
    assert b"answers" not in (work / "n.safetensors").read_bytes()


FAULTS = {
    "a missing table": ("csv:no.csv", lambda work: None, "there is no no.csv"),
    "a table that is an image": ("csv:bad.csv", lambda work: (work / "bad.csv").write_bytes(bytes(range(256))), "bad.csv"),
    "an empty table": ("csv:bad.csv", lambda work: (work / "bad.csv").write_text(""), "bad.csv"),
    "a class of one row": ("csv:bad.csv", lambda work: (work / "bad.csv").write_text("1,a\n2,a\n3,b\n"), "b"),
    "a word for a number": ("csv:bad.csv", lambda work: (work / "bad.csv").write_text("1,a\n2,a\nx,b\n4,b\n"), "line 3"),
    "no archive": ("npz:bad.npz", lambda work: (work / "bad.npz").write_text("no"), "bad.npz"),
    "no folder": ("folder:bad", lambda work: None, "there is no folder bad|there is no bad"),
    "an empty folder": ("folder:bad", lambda work: (work / "bad").mkdir(), "needed is a folder of pictures for every"),
    "an empty class": ("folder:bad", lambda work: (_picture(work / "bad/a/1.png", 4), (work / "bad/b").mkdir()), "b holds no"),
    "a class of one picture": ("folder:bad", lambda work: [_picture(work / f"bad/{name}.png", 4) for name in (
        "a/1", "a/2", "b/1")], "b"),
    "pictures of two sizes": ("folder:bad", lambda work: [_picture(work / f"bad/{name}.png", size) for name, size in (
        ("a/1", 4), ("a/2", 4), ("b/1", 4), ("b/2", 5))], "is of 5 x 5 pixels, but"),
    "no picture": ("folder:bad", lambda work: [_picture(work / f"bad/{name}.png", 4) for name in (
        "a/1", "a/2", "b/1")] + [(work / "bad/b/2.png").write_text("no")], "2.png"),
}


def _picture(path, size):
    Image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size, size), np.uint8)).save(path)


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_data_ends_in_one_sentence_and_leaves_nothing(fault, work, capsys):
    """Nor does it take anything from a run that is there and was to be replaced."""
    name, make, sentence = FAULTS[fault]
    make(work)
    (work / "run").mkdir()
    (work / "run" / "record.json").write_text("{}")
    for words in (["--out", "new"], ["--out", "run", "--overwrite"], ["--out", "new", "--resume"]):
        assert main(["train", "fcn", "--dataset", name, *words]) in (1, 2)
        text = capsys.readouterr().err
        assert text.startswith("minimask: ") and text.count("\n") == 1 and re.search(sentence, text), text
        assert "bug" not in text and "Traceback" not in text
        assert not (work / "new").exists() and (work / "run" / "record.json").read_text() == "{}"
        assert [path.name for path in (work / "run").iterdir()] == ["record.json"]
