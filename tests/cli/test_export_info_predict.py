"""The commands export, info and predict, one after the other."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from minimask import (
    cost,
    data,
    export,
    models,
    no_grad,
    predict,
    prune,
    recipes,
    runs,
    train,
)
from minimask.__main__ import main
from minimask.mask import SignedSupermask


def tensors(net, x):
    with no_grad():
        return net(x).data


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a short run on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run("digits", 15, 1, folder)
    return folder


def run(recipe, epochs, seed, folder):
    """What `minimask train --dataset digits` leaves, but for the pictures."""
    runs.run(replace(recipes.find(recipe), dataset="digits", epochs=epochs), data.digits(), seed, folder)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    return tmp_path


def test_export_info_predict(folder, trained, capsys):
    """The main job: a file that knows nothing of the run, and the same classes from it."""
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    size = os.path.getsize("tiny.mmk")
    assert f"tiny.mmk: {size:,} bytes in place of 200,800 as float32" in capsys.readouterr().out

    digits = data.digits()
    net, classes = export.load("tiny.mmk").net, tuple("0123456789")
    np.save("digits.npy", digits.test_images)
    assert main(["predict", "tiny.mmk", "digits.npy"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    found, confidences = predict.classify(net, digits.test_images)
    assert [line[0] for line in lines] == [f"digits.npy[{i}]" for i in range(360)]
    assert [line[1] for line in lines] == [classes[i] for i in found]
    assert [line[2] for line in lines] == [f"{c:.1%}" for c in confidences]
    assert (found == digits.test_labels).mean() > 0.9

    assert main(["predict", "tiny.mmk", "digits.npy", "digits.npy", "--first", "1", "--backend", "strict"]) == 0
    assert capsys.readouterr().out.splitlines() == ["\t".join(["digits.npy", *lines[0][1:]])] * 2

    assert main(["info", "tiny.mmk"]) == 0
    out = capsys.readouterr().out
    assert "tiny.mmk: digits on digits, seed 1, epoch 15: " in out
    assert "images of 8 x 8 x 1 -> 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in out
    assert f"{size:,} bytes on disk, {export.load('tiny.mmk').header_size:,} of them header" in out
    assert "200,800 bytes as float32" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("dense", "all"))}
    stored = export.load("tiny.mmk").stored
    for name, each in stored.items():
        assert rows[name][1] == each.codec and rows[name][-5:] == [f"{each.plus:,}", f"{each.minus:,}", f"{(each.plus + each.minus) / each.weights:.1%}",
                                   f"{each.bytes:,}", f"{each.bound:,.0f}"]
    work, numbers = cost.of(export.load("tiny.mmk").net)
    assert f"one image: the work of {work:,} multiply-adds, 0.002 times the paper's largest net's (most: 20)," in out
    assert f"\n{numbers:,} numbers at a time, so that predict takes 1,000 images at once\n" in out
    after = prune.size(prune.prune(net))
    assert f"pruned: {after.units:,} of 410 units, {after.weights:,} of 50,200 weights, {after.multiply_adds:,} of" in out


def test_what_is_exported_is_the_run(folder, trained):
    assert main(["export", str(trained), "-o", "tiny.mmk", "--codec", "base243"]) == 0
    net, record = runs.load(trained, data.digits())
    exported = export.load("tiny.mmk")
    x = data.standardise(data.digits().test_images)
    assert np.array_equal(tensors(exported.net, x), tensors(net, x)) and exported.classes == data.digits().classes
    assert {each.codec for each in exported.stored.values()} == {"base243"}
    assert f"{record['epochs'][-1]['test_accuracy']:.2%}" in exported.about


@pytest.mark.parametrize("command", [["export", "run", "-o", "tiny.mmk"], ["export", "run", "-o", "a.safetensors"],
                                     ["compare", "run", "run"], ["inspect", "run"]], ids=" ".join)
def test_a_network_is_held_to_its_record(folder, trained, command, capsys):
    """A threshold of 5 hides a whole layer, and the record still claims the accuracy of before: nothing comes of it."""
    shutil.copytree(trained, "run")
    with np.load("run/network.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert main(["compare", "run", "run"]) == 0
    np.savez("run/network.npz", **{**arrays, "dense2.tau": np.array(5.0)})
    there = sorted(os.listdir())
    capsys.readouterr()
    assert main(command) == 1
    out, error = capsys.readouterr()
    assert out == "" and "run disagrees with itself: of layer dense2 record.json counts (" in error
    assert "network.npz has (0, 30000, 0); one of them is from another run" in error and sorted(os.listdir()) == there


@pytest.mark.parametrize("recipe", ["digits-dense", "fcn-uniform", "fcn-binary", "fcn-edge-popup"])
def test_every_method_is_exported(folder, recipe):
    """On the digits, for an epoch; uniform frozen weights come back by seed and rule."""
    run(recipe, 1, 4, folder / "run")
    assert main(["export", "run", "-o", "tiny.mmk"]) == 0
    net, _ = runs.load("run", data.digits())
    x = data.standardise(data.digits().test_images)
    exported = export.load("tiny.mmk")
    assert np.array_equal(tensors(exported.net, x), tensors(net, x))
    drawn = {"fcn-uniform": True}.get(recipe, False)
    assert [each.frozen is not None for each in exported.stored.values()] == [drawn] * 3


@pytest.mark.parametrize(("words", "status", "sentence"), [
    (["export", "RUN"], 2, "the following arguments are required: -o/--out"),
    (["export", "RUN", "-o", "tiny.onx"], 2, "the name says what to write, and must end in .mmk"),
    (["export", "RUN", "-o", "no/tiny.mmk"], 2, "there is no folder no"),
    (["export", "RUN", "-o", "there.mmk"], 2, "there.mmk is there already: give another name, or --overwrite"),
    (["export", "nothing", "-o", "tiny.mmk"], 2, "nothing holds no record.json"),
    (["export", "RUN", "-o", "tiny.mmk", "--codec", "zip"], 2, "invalid choice: 'zip'"),
    (["exprot", "RUN"], 2, "did you mean 'export'"),
    (["info", "there.mmk"], 1, "it begins with b'not one' where b'minimask' is needed"),
    (["info", "nothing.mmk"], 2, "there is no nothing.mmk; `minimask export RUN -o nothing.mmk` makes one"),
    (["predict", "nothing.mmk", "a.png"], 2, "there is no nothing.mmk"),
    (["predict", "good.mmk", "nothing.png"], 2, "there is no nothing.png"),
    (["predict", "good.mmk"], 2, "the following arguments are required: IMAGES"),
    (["predict", "good.mmk", "there.mmk"], 2, "it is neither IDX (.gz too) nor .npy nor PNG nor JPEG"),
    (["predict", "good.mmk", "there.mmk", "--backend", "jax"], 2, "unknown backend 'jax'")])
def test_mistakes_get_one_sentence(folder, trained, capsys, words, status, sentence):
    (folder / "there.mmk").write_bytes(b"not one")
    export.save("good.mmk", models.fcn(SignedSupermask(), np.random.default_rng(0), (8, 8, 1), (10,)), tuple("0123456789"))
    assert main([str(trained) if word == "RUN" else word for word in words]) == status
    out, error = capsys.readouterr()
    assert not out and error.startswith("minimask: ") and error.count("\n") == 1 and sentence in error
    assert (folder / "there.mmk").read_bytes() == b"not one" and not (folder / "tiny.mmk").exists()


def test_overwrite_replaces(folder, trained):
    (folder / "there.mmk").write_bytes(b"not one")
    assert main(["export", str(trained), "-o", "there.mmk", "--overwrite"]) == 0
    assert export.load("there.mmk").size > 1000


def test_the_classes_have_the_names_of_the_data_set(folder, trained, monkeypatch):
    monkeypatch.setitem(data.OUTLINES, "digits", ((8, 8, 1), tuple("abcdefghij")))
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    assert export.load("tiny.mmk").classes == tuple("abcdefghij")


def test_images_that_are_none_are_named_with_their_file(folder, trained, capsys):
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    np.save("good.npy", np.ones((1, 8, 8)))
    for array, sentence in ((np.full((2, 8, 8), np.inf), "bad.npy: image 0 holds NaN or infinity: mend the data"),
                            (np.ones((0, 8, 8)), "bad.npy holds no image")):
        np.save("bad.npy", array)
        capsys.readouterr()
        assert main(["predict", "tiny.mmk", "good.npy", "bad.npy"]) == 2
        out, error = capsys.readouterr()
        assert out.startswith("good.npy\t") and error == f"minimask: {sentence}\n"
    assert main(["export", "good.npy", "-o", "b.mmk"]) == 2 and "good.npy holds no record.json" in capsys.readouterr().err


def test_a_run_on_data_that_only_python_knows(folder, trained, capsys):
    (folder / "run").mkdir()
    (folder / "run/record.json").write_text(json.dumps(train.new_record({}, 0, "mine")))
    assert main(["export", "run", "-o", "a.mmk"]) == 2
    assert "run was trained from Python, and its record describes no net: keep such a run with runs.save(" in \
        capsys.readouterr().err


def test_a_bad_file_among_many_is_named_at_the_end_and_the_others_are_classified(folder, trained, capsys):
    """One: its own sentence. Several of them: how many, the first three with the reason, the others by name."""
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    np.save("good.npy", data.digits().test_images[0])
    capsys.readouterr()
    assert main(["predict", "tiny.mmk", "good.npy", "lost.npy", "good.npy"]) == 2
    out, error = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["good.npy", "good.npy"]
    assert error.startswith("minimask: there is no lost.npy") and error.count("\n") == 1
    np.save("large.npy", np.zeros((9, 9), np.uint8))
    (folder / "text.npy").write_text("no array")
    lost = [f"lost{number}.npy" for number in range(30)]
    assert main(["predict", "tiny.mmk", "large.npy", "good.npy", "text.npy", *lost]) in (1, 2)
    out, error = capsys.readouterr()
    assert out.startswith("good.npy\t") and out.count("\n") == 1
    assert error.startswith("minimask: 32 of 33 files could not be classified: large.npy") and error.count("\n") == 1
    assert "; there is no lost0.npy" in error and "; and lost1.npy, lost2.npy, " in error and error.endswith(", lost29.npy\n")


def test_predicting_needs_no_more_than_the_file(folder, trained):
    """In a process of its own, with the run gone from sight, no data folder and no matplotlib."""
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    np.save("one.npy", data.digits().test_images[0])
    (folder / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "minimask", "predict", "tiny.mmk", "one.npy"], capture_output=True,
                          text=True, timeout=120, env=environment)
    assert done.returncode == 0 and done.stdout.startswith("one.npy\t") and done.stderr == ""
