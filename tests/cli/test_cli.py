"""The command line: what it leaves behind, its sentences and exit statuses, Ctrl-C."""

import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from minimask import MinimaskError, UsageError, checkpoint, data, files, recipes, runs, train
from minimask.__main__ import main
from minimask.cli.common import COMMANDS, layer_table

FILES = {"record.json", "network.npz", "checkpoint.npz", "masks.png", "training.png"}


def run(*words, **options):
    """`minimask WORDS` in a process of its own."""
    return subprocess.run([sys.executable, "-m", "minimask", *map(str, words)], capture_output=True, text=True,
                          timeout=120, **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    return tmp_path


def train_digits(out, *words):
    return main(["train", "digits", "--epochs", "2", "--out", str(out), "--quiet", *words])


# ---- what it does ----------------------------------------------------------------------------------------------------


@pytest.mark.once
def test_the_demo(folder):
    """The main job, whole: accuracy and weights left as promised, and every file; twice, since it replaces its own."""
    for again in (False, True):
        done = run(cwd=folder)
        assert done.returncode == 0, done.stderr
        replaced = "runs/demo holds an earlier run of the demo, which this one replaces."
        assert (replaced in done.stdout) == again
        assert set(os.listdir(folder / "runs/demo")) == FILES | {"dense.json"}
    record, dense = (json.loads((folder / "runs/demo" / f).read_text()) for f in ("record.json", "dense.json"))
    end, baseline = record["epochs"][-1], dense["epochs"][-1]
    assert end["test_accuracy"] >= baseline["test_accuracy"] - 0.01 and baseline["test_accuracy"] > 0.97
    assert end["weights_left"] <= 0.08
    assert record["environment"]["blas_threads"] in (1, None)
    left = sum(layer["kept"] + layer["inverted"] for layer in end["layers"])
    assert f"weights left {left:6,} of 50,200 ({end['weights_left']:.1%})" in done.stdout
    assert "demo epoch 150/150" in done.stderr and "demo-dense epoch 50/50" in done.stderr
    lines = done.stdout.splitlines()[1:]
    assert lines[1].split()[:6] == ["layer", "weights", "kept", "hidden", "inverted", "left"]
    assert [line.split()[0] for line in lines[2:6]] == ["dense1", "dense2", "dense3", "all"]
    assert any(line.startswith("signed supermask") and f"{end['test_accuracy']:.2%}" in line for line in lines)
    assert any(line.startswith("dense baseline") and "50,200 of 50,200" in line for line in lines)


def test_train_keeps_record_network_and_pictures(folder, capsys, drawn):
    assert train_digits(folder / "a", "--seed", "3") == 0
    assert set(os.listdir(folder / "a")) == FILES
    assert all((folder / "a" / name).stat().st_size > 10_000 for name in FILES if name.endswith(".png"))
    out = capsys.readouterr().out
    record = json.loads((folder / "a/record.json").read_text())
    assert (record["format"], record["seed"], record["dataset"], len(record["epochs"])) == (1, 3, "digits", 2)
    assert record["recipe"]["name"] == "digits" and record["recipe"]["epochs"] == 2
    assert {"minimask", "python", "numpy", "backend", "processor", "cores", "blas_threads"} <= set(record["environment"])
    assert layer_table(record) in out and f"{record['epochs'][-1]['test_accuracy']:.2%}" in out
    with np.load(folder / "a/network.npz", allow_pickle=False) as file:
        assert set(file) == {f"dense{i}.{part}" for i in (1, 2, 3) for part in ("scores", "frozen", "tau")}


def test_the_table_of_layers():
    layers = [{"name": "dense1", "weights": 2000, "kept": 3, "hidden": 1995, "inverted": 2},
              {"name": "residual10.conv2d1", "weights": 40, "kept": 10, "hidden": 0, "inverted": 30}]
    assert layer_table({"epochs": [{"layers": []}, {"layers": layers}]}).splitlines() == [
        "layer               weights  kept  hidden  inverted    left",
        "dense1                2,000     3   1,995         2    0.2%",
        "residual10.conv2d1       40    10       0        30  100.0%",
        "all                   2,040    13   1,995        32    2.2%"]


def test_a_run_can_be_read_back(folder):
    assert train_digits(folder / "a") == 0
    digits = data.digits()
    net, record = runs.load(folder / "a", digits)
    end = record["epochs"][-1]
    assert train.evaluate(net, digits.test_images, digits.test_labels) == end["test_accuracy"]
    assert [(x["kept"], x["hidden"], x["inverted"]) for x in end["layers"]] == net.counts()
    (folder / "a/network.npz").write_bytes(b"PK broken")
    with pytest.raises(MinimaskError, match="holds no whole run"):
        runs.load(folder / "a", digits)


def test_a_tilde_is_the_home_folder_wherever_a_command_takes_a_path(folder, monkeypatch, capsys):
    """As programs give it that are no shells, and shells too: --out=~/a."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(folder / "home"))
    (folder / "home").mkdir()
    np.save(folder / "home/one.npy", data.digits().test_images[0])
    (folder / "home/my.toml").write_text(replace(recipes.find("digits"), name="my", epochs=1).toml())
    for command in (["train", "~/my.toml", "--out=~/a", "--quiet"], ["compare", "~/a", "~/a"], ["recipes", "~/my.toml"],
                    ["export", "~/a", "-o", "~/a.mmk"], ["predict", "~/a.mmk", "~/one.npy"], ["data", "check", "--data", "~"]):
        assert main(command) == 0, capsys.readouterr().err
    assert {"a", "a.mmk"} < set(os.listdir(folder / "home")) and os.listdir(folder) == ["home"]
    for name in COMMANDS:  # and the others, by the parser that they all have
        parser = importlib.import_module(f"minimask.cli.{name}")._parser()
        parser.add_argument("--some-path")
        parser.add_argument("--number", type=int)
        for action in parser._actions:
            action.required, action.nargs = False, "?" if not action.option_strings else action.nargs
        assert parser.parse_args(["--some-path=~/x"]).some_path == str(folder / "home/x")
    monkeypatch.setenv("MINIMASK_DATA", "~/nowhere")
    assert main(["train", "fcn"]) == 2 and "'~/nowhere' does not exist" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_run(folder):
    for name in ("a", "b"):
        assert train_digits(folder / name) == 0
    a, b = ((folder / name / "network.npz").read_bytes() for name in ("a", "b"))
    with (np.load(folder / "a/network.npz", allow_pickle=False) as x,
          np.load(folder / "b/network.npz", allow_pickle=False) as y):
        assert all(np.array_equal(x[k], y[k]) for k in x)
    assert len(a) == len(b)


def test_options_reach_the_run(folder, capsys):
    assert main(["train", "digits-dense", "--epochs", "1", "--backend", "strict", "--threads", "1", "--quiet"]) == 0
    record = json.loads((folder / "runs/digits-dense-seed0/record.json").read_text())
    assert record["environment"]["backend"] == "array_api_strict"
    assert record["environment"]["blas_threads"] in (1, None)
    assert main(["train", "fcn", "--dataset", "digits", "--epochs", "1", "--quiet"]) == 0
    record = json.loads((folder / "runs/fcn-seed0/record.json").read_text())
    assert record["dataset"] == "digits" and record["recipe"]["name"] == "fcn"
    assert sum(layer["weights"] for layer in record["epochs"][0]["layers"]) == 50_200


def test_progress_goes_to_stderr_and_quiet_is_quiet(folder, capsys):
    assert main(["train", "digits", "--epochs", "2", "--out", "a"]) == 0
    assert "digits epoch 2/2" in capsys.readouterr().err
    assert main(["train", "digits", "--epochs", "2", "--out", "b", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_help_is_for_newcomers():
    for words, expected in (([], ["the demo", *(f"\n  {name} " for name in COMMANDS)]),
                            (["train"], ["recipe", "MINIMASK_DATA", "--epochs N", "minimask recipes", "example:"]),
                            (["recipes"], ["fcn-he-xavier", "my.toml"]), (["sweep"], ["--seeds N", "--scheduler"])):
        done = run(*words, "--help")
        assert done.returncode == 0 and all(text in done.stdout for text in expected)
    assert run("--version").stdout == "minimask 0.1.0\n"


def test_without_matplotlib_everything_but_the_pictures_is_there(folder):
    (folder / "matplotlib.py").write_text("raise ImportError('not here')")
    done = run("train", "digits", "--epochs", "1", "--out", "a", "--quiet", cwd=folder,
               env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])})
    assert done.returncode == 0 and set(os.listdir(folder / "a")) == {"record.json", "network.npz", "checkpoint.npz"}
    assert "pictures need matplotlib: pip install matplotlib" in done.stdout


# ---- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "sentence"), [
    (["trian"], "unknown command 'trian': did you mean 'train'?"),
    (["train", "fnc"], "unknown recipe 'fnc': did you mean 'fcn'?"),
    (["train", "digits", "--dataset", "minst"], "unknown dataset 'minst': did you mean 'mnist'?"),
    (["train", "digits", "--epoch", "3"], "unrecognized arguments: --epoch 3; did you mean --epochs?"),
    (["--sed", "3"], "unrecognized arguments: --sed 3; did you mean --seed?"),
    (["train"], "the following arguments are required: recipe"),
    (["train", "digits", "--epochs", "many"], "argument --epochs: 'many' is no whole number from 1 up (`minimask train --help`"),
    (["train", "digits", "--epochs", "0"], "argument --epochs: '0' is no whole number from 1 up"),
    (["train", "digits", "--seed", "-1"], "argument --seed: '-1' is no whole number from 0 up"),
    (["train", "digits", "--threads", "0"], "argument --threads: '0' is no whole number from 1 up"),
    (["--threads", "0"], "argument --threads: '0' is no whole number from 1 up"),
    (["train", "FNC"], "unknown recipe 'FNC': did you mean 'fcn'?"),
    (["--seed", "1", "train", "digits"], "the command comes first: minimask train ..."),
    (["trian"], "unknown command 'trian': did you mean 'train'? There are compare, course, data, demo"),
    (["train", "digits", "--lr", "0.1"], "unrecognized arguments: --lr 0.1 (`minimask train --help`"),
    (["train", "digits", "--backend", "jax"], "unknown backend 'jax'"),
    (["train", "fcn"], "no data folder: give --data DIR"),
    (["train", "fcn", "--data", "nowhere"], "the data folder 'nowhere' does not exist"),
])
def test_wrong_usage_is_one_sentence_and_status_2(folder, capsys, words, sentence):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("minimask: ") and sentence in error and error.count("\n") == 1
    assert os.listdir(folder) == []


def test_a_missing_data_file_is_a_failure_and_status_1(folder, capsys):
    (folder / "mnist").mkdir()
    assert main(["train", "fcn", "--data", str(folder)]) == 1
    assert "train-images-idx3-ubyte is missing: put" in capsys.readouterr().err
    assert os.listdir(folder) == ["mnist"]


def test_a_damaged_data_file_names_expected_and_found(folder, capsys):
    (folder / "mnist").mkdir()
    header = data.files.SETS["mnist"].files[0].header
    (folder / "mnist/train-images-idx3-ubyte").write_bytes(header + bytes(47_040_000))
    assert main(["train", "fcn", "--data", str(folder)]) == 1
    error = capsys.readouterr().err
    assert "expected sha256 ba891046" in error and "found" in error and "put the official" in error


def test_a_missing_library_is_named(folder, capsys):
    try:
        import cupy  # noqa: F401
    except ImportError:
        assert main(["train", "digits", "--backend", "cupy"]) == 1
        assert "backend 'cupy' needs the package cupy-cuda12x or cupy-cuda13x" in capsys.readouterr().err


def test_a_folder_with_a_run_is_refused_and_untouched_until_overwrite(folder, capsys):
    assert train_digits("a") == 0
    (folder / "a/notes.txt").write_text("mine")
    before = {f: (folder / "a" / f).read_bytes() for f in os.listdir("a")}
    assert train_digits("a", "--seed", "1") == 2
    assert "a holds a run already" in capsys.readouterr().err
    assert before == {f: (folder / "a" / f).read_bytes() for f in os.listdir("a")}
    assert train_digits("a", "--seed", "1", "--overwrite") == 0
    assert json.loads((folder / "a/record.json").read_text())["seed"] == 1
    assert (folder / "a/notes.txt").read_text() == "mine"  # never ours to remove


def test_the_demo_replaces_its_own_folder_only(folder, capsys):
    assert train_digits("runs/demo") == 0
    assert main([]) == 2
    assert "runs/demo holds a run already" in capsys.readouterr().err
    assert len(json.loads((folder / "runs/demo/record.json").read_text())["epochs"]) == 2


@pytest.mark.once
def test_an_interrupted_demo_does_not_block_the_next(folder, capsys, monkeypatch):
    """Interrupted in the supermask, and in the baseline after it."""
    real, calls, stops = train.Training.train_epoch, [], []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == stops[-1]:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train.Training, "train_epoch", interrupted)
    for stop, word in ((3, "demo; the record so far"), (155, "demo-dense; what was finished before is kept")):
        calls.clear()
        stops.append(stop)
        assert main(["--quiet"]) == 130
        error = capsys.readouterr().err
        assert f"interrupted while training {word}" in error and "--resume" not in error
    assert len(json.loads((folder / "runs/demo/record.json").read_text())["epochs"]) == 150


@pytest.mark.python
@pytest.mark.once
def test_output_that_cannot_be_written_is_no_bug(folder):
    """A reader that leaves early, a full device."""
    command = f"{sys.executable} -m minimask train digits --epochs 2 --quiet --overwrite --out a"
    with open("/dev/full", "w") as full:
        done = subprocess.run(command.split(), stdout=full, stderr=subprocess.PIPE, text=True, cwd=folder)
    assert done.returncode == 1 and "No space left" in done.stderr and "bug" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command.split(), stdout=writer, stderr=subprocess.PIPE, text=True, cwd=folder)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""


def test_the_data_sets_own_folder_is_told_apart(folder, capsys):
    (folder / "mnist").mkdir()
    assert main(["train", "fcn", "--data", "mnist"]) == 2
    assert "is the data set's own; give the folder above it" in capsys.readouterr().err
    (folder / "file").write_text("x")
    assert main(["train", "fcn", "--data", "file"]) == 2
    assert "the data folder 'file' is no folder" in capsys.readouterr().err


def test_plain_trains_the_same(folder):
    for words in ([], ["--plain"]):
        assert main(["train", "digits", "--epochs", "1", "--quiet", "--threads", "1", "--out", f"x{len(words)}", *words]) == 0
    a, b = (json.loads((folder / name / "record.json").read_text())["epochs"][0] for name in ("x0", "x1"))
    assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-5)  # plain ELU: another formula, the last bits differ


def test_a_recipe_that_cannot_start_leaves_the_old_run(folder):
    recipe = replace(recipes.find("digits"), epochs=1)
    runs.run(recipe, data.digits(), np.int64(0), folder / "a")
    before = (folder / "a/record.json").read_bytes()
    with pytest.raises(UsageError, match="lr is -1"):
        runs.run(replace(recipe, lr=-1), data.digits(), 0, folder / "a", overwrite=True)
    assert (folder / "a/record.json").read_bytes() == before


def test_a_file_in_the_place_of_the_folder(folder, capsys):
    (folder / "a").write_text("x")
    assert train_digits("a") == 2
    assert train_digits("a/b") == 2
    assert "a is a file or lies under one" in capsys.readouterr().err
    assert (folder / "a").read_text() == "x"


def test_a_write_that_fails_leaves_the_old_file(folder, monkeypatch):
    files.write(folder / "x", b"old")

    def full(*_):  # a disk that fills up in the last moment
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MinimaskError, match="x cannot be written .No space left on device.; what was there"):
        files.write(folder / "x", b"new")
    assert (folder / "x").read_bytes() == b"old" and os.listdir(folder) == ["x"]


def test_a_record_never_holds_nan(folder):
    with pytest.raises(ValueError, match="JSON"):
        runs.write_record(folder, {"epochs": [{"train_loss": float("nan")}]})


def test_debug_shows_the_traceback_and_nothing_else_does(folder):
    plain, debug = run("train", "fcn", cwd=folder), run("train", "fcn", "--debug", cwd=folder)
    assert plain.returncode == debug.returncode == 2
    assert "Traceback" not in plain.stderr and "Traceback" in debug.stderr


def test_a_bug_is_one_sentence_too(folder, capsys, monkeypatch):
    monkeypatch.setattr(data, "digits", lambda: 1 / 0)
    assert main([]) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error and "--debug shows where" in error and error.count("\n") == 1


def test_a_failed_training_is_saved_and_status_1(folder, capsys, monkeypatch):
    """The record and the network of the last whole epoch are there; the message says where."""
    digits = data.digits()
    floats = data.Dataset("digits", digits.train_images.astype(float), digits.train_labels, digits.test_images,
                          digits.test_labels, digits.classes)
    floats.train_images[5] = np.nan
    monkeypatch.setattr(data.sets, "digits", lambda: floats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert train_digits("a") == 1
    error = capsys.readouterr().err
    assert "loss became nan in epoch 1, step " in error and "image 5 holds NaN" in error and "saved in a" in error
    net, record = runs.load("a", digits)
    assert record["epochs"] == [] and all(np.isfinite(p.data).all() for p in net.parameters())


def interrupt(words, folder, epochs=3, number=signal.SIGINT):
    """Runs `minimask WORDS --out a`, sends the signal when a/record.json has so many epochs; -> status, stderr."""
    process = subprocess.Popen([sys.executable, "-m", "minimask", *words, "--out", "a"], stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            path = folder / "a/record.json"
            if path.exists() and len(json.loads(path.read_text())["epochs"]) >= epochs:
                break
            time.sleep(0.01)
        else:
            pytest.fail("record.json does not grow while the run goes on")
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, error


def test_ctrl_c_writes_the_record_so_far(folder):
    status, error = interrupt(["train", "digits", "--epochs", "100000", "--data", ".", "--allow-unverified", "--plain",
                               "--threads", "1"], folder)
    assert status == 130 and "Traceback" not in error
    assert error.splitlines()[-1].startswith("minimask: interrupted while training digits; the record so far")
    assert error.endswith("; to go on: minimask train digits --resume --out a --data . --allow-unverified --threads 1 "
                          "--plain\n")
    digits = data.digits()
    net, record = runs.load(folder / "a", digits)
    assert len(record["epochs"]) >= 3
    assert train.evaluate(net, digits.test_images, digits.test_labels) == record["epochs"][-1]["test_accuracy"]


# ---- going on -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with two epochs of recipe digits."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    runs.run(replace(recipes.find("digits"), epochs=2), data.digits(), 0, folder)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """They take longer than these runs."""
    monkeypatch.setattr(runs, "write_pictures", lambda *_: [])


def outcome(folder):
    """Everything that must be the same: digest, record without the clock, the net's arrays."""
    record = json.loads((folder / "record.json").read_text())
    with np.load(folder / "network.npz", allow_pickle=False) as file:
        arrays = {name: file[name].tobytes() for name in file}
    return (checkpoint.load(folder / "checkpoint.npz").digest(), arrays,
            {**record, "epochs": [{k: v for k, v in e.items() if k != "seconds"} for e in record["epochs"]]})


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_to_the_same_end(number, folder):
    """By the very command that the message of Ctrl-C gives: seed, epochs and data set are those of the run."""
    words = ["train", "fcn", "--dataset", "digits", "--epochs", "40", "--seed", "5", "--threads", "1"]
    status, error = interrupt(words, folder, epochs=2, number=number)
    assert status == (130 if number == signal.SIGINT else -9)
    go_on = shlex.split(error.rpartition("to go on: ")[2]) if number == signal.SIGINT else "minimask train fcn --resume --out a".split()
    assert go_on.pop(0) == "minimask"
    stopped_at, digest = checkpoint.peek(folder / "a/checkpoint.npz")
    done = run(*go_on, "--threads", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    epochs, step = len(stopped_at["record"]["epochs"]), stopped_at["step"]
    assert done.stdout.startswith(f"a holds a run after {epochs} epochs and {step} steps, digest {digest[:16]}\n")
    whole = run(*words, "--out", "b", cwd=folder)
    assert outcome(folder / "a") == outcome(folder / "b")
    assert set(os.listdir(folder / "a")) == set(os.listdir(folder / "b")) == FILES
    end = checkpoint.peek(folder / "a/checkpoint.npz")[1]
    assert done.stdout.endswith(f"digest {end[:16]}\n") and whole.stdout.endswith(f"digest {end[:16]}\n")


def test_more_epochs_and_a_finished_run(folder, capsys, no_pictures):
    """train(2), --resume --epochs 4 is train(4); --resume once more finds it finished, and mends what is missing."""
    assert train_digits("a") == 0
    assert main(["train", "digits", "--resume", "--epochs", "4", "--out", "a", "--quiet"]) == 0
    assert main(["train", "digits", "--epochs", "4", "--out", "b", "--quiet"]) == 0
    assert outcome(folder / "a") == outcome(folder / "b")
    assert len(json.loads((folder / "a/record.json").read_text())["epochs"]) == 4
    before = outcome(folder / "a")
    (folder / "a/network.npz").unlink()
    capsys.readouterr()
    assert main(["train", "digits", "--resume", "--out", "a"]) == 0
    assert "it was finished already, after 4 epochs; a larger --epochs N trains on" in capsys.readouterr().out
    assert outcome(folder / "a") == before


def test_what_is_not_said_stays_as_it_was(folder, capsys, no_pictures):
    words = ["train", "digits-dense", "--epochs", "1", "--quiet", "--out", "a", "--seed", "4", "--backend", "strict"]
    assert main(words) == 0
    assert main(["train", "digits-dense", "--resume", "--out", "a", "--epochs", "2", "--quiet"]) == 0
    record = json.loads((folder / "a/record.json").read_text())
    assert record["seed"] == 4 and record["environment"]["backend"] == "array_api_strict"
    assert "continued" not in record["environment"] and capsys.readouterr().err == ""
    assert main(["train", "digits-dense", "--resume", "--out", "a", "--epochs", "3", "--quiet", "--backend", "numpy"]) == 0
    assert capsys.readouterr().err.startswith("minimask: backend was array_api_strict and is numpy: the rest of the run")
    record = json.loads((folder / "a/record.json").read_text())
    assert [note["step"] for note in record["environment"]["continued"]] == [24]


@pytest.mark.parametrize(("words", "status", "sentence"), [
    (["digits", "--out", "lost"], 2, "lost holds a run without checkpoint.npz, which cannot go on; begin it anew with"),
    (["nowhere"], 2, "nowhere is the folder of no run and the name of no recipe: say which run is to go on, train"),
    (["a", "--out", "b"], 2, "a is the run that is to go on, in its own folder: leave out --out b"),
    (["digits", "--out", "a", "--overwrite"], 2, "--resume goes on with a run, --overwrite replaces it: give one of them"),
    (["digits-dense", "--out", "a"], 2, "a holds a run of recipe 'digits', but 'digits-dense' was asked for"),
    (["digits", "--out", "a", "--seed", "1"], 2, "is of another run: its seed is 0, but 1 was asked for"),
    (["digits", "--out", "a", "--epochs", "1"], 2, "--epochs 1 is fewer than the 2 that the run in a was begun for"),
    (["digits", "--out", "damaged"], 1, "cannot be read"),
    (["digits", "--out", "newer"], 1, "has format 2, but this version of minimask reads 1"),
])
def test_what_cannot_be_resumed_is_a_sentence_and_nothing_is_touched(words, status, sentence, folder, begun, capsys):
    for name in ("a", "damaged", "newer", "lost"):
        shutil.copytree(begun, folder / name)
    (folder / "lost/checkpoint.npz").unlink()
    (folder / "damaged/checkpoint.npz").write_bytes((folder / "a/checkpoint.npz").read_bytes()[:-100])
    with zipfile.ZipFile(folder / "newer/checkpoint.npz", "w") as archive:
        archive.writestr("run.json", json.dumps({"format": 2, "anything": "else"}))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["train", *words, "--resume", "--quiet"]) == status
    error = capsys.readouterr().err
    assert error.startswith("minimask: ") and sentence in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert set(os.listdir(folder)) == {"a", "damaged", "newer", "lost"}


def test_one_command_begins_a_run_and_goes_on_with_it(folder, capsys, no_pictures):
    """As a scheduler gives it again after the job was put back into the queue."""
    words = ["train", "digits", "--epochs", "2", "--out", "a", "--quiet", "--resume"]
    assert main(words) == 0 and capsys.readouterr().out.startswith("a holds no run yet: it begins\ndigits: fcn on")
    assert train_digits("b") == 0
    assert outcome(folder / "a") == outcome(folder / "b")
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("a holds a run after 2 epochs and 0 steps, digest ")
    assert outcome(folder / "a") == outcome(folder / "b")


@pytest.mark.parametrize("words", [["train", "--resume", "fcn.toml"], ["train", "fcn.toml", "--resume"]])
def test_a_run_knows_its_recipe_and_seed(words, folder, capsys, no_pictures):
    """Here a recipe that is in no list, in a folder whose name would be a recipe's file."""
    (folder / "my.toml").write_text(replace(recipes.find("digits"), name="my", lr=0.04, epochs=1).toml())
    for name in ("fcn.toml", "b"):
        assert main(["train", "my.toml", "--seed", "7", "--quiet", "--out", name]) == 0
    (folder / "my.toml").unlink()
    capsys.readouterr()
    assert main([*words, "--epochs", "2", "--quiet"]) == 0
    assert "my: fcn on digits" in capsys.readouterr().out
    runs.run(replace(recipes.find("digits"), name="my", lr=0.04, epochs=2), data.digits(), 7, "b", resume=True)
    assert outcome(folder / "fcn.toml") == outcome(folder / "b")


def test_a_second_process_on_the_folder_is_told(folder, capsys, no_pictures):
    assert train_digits("a") == 0
    with subprocess.Popen([sys.executable, "-m", "minimask", "train", "digits", "--epochs", "100000", "--overwrite", "--quiet",
                           "--out", "a"], cwd=folder) as first:
        try:
            deadline = time.monotonic() + 60
            while not (folder / "a/.lock").exists() or not (folder / "a/record.json").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for words in (["--overwrite"], ["--resume"]):
                time.sleep(0.3)
                assert main(["train", "digits", "--out", "a", "--quiet", *words]) == 1
                assert f"a is in use by another run (process {first.pid})" in capsys.readouterr().err
            assert main(["--out", "a", "--quiet"]) == 1  # the demo, too
        finally:
            first.kill()
    assert main(["train", "digits", "--out", "a", "--quiet", "--overwrite", "--epochs", "1"]) == 0


def test_files_of_an_earlier_end_do_not_stay_beside_a_longer_record(folder):
    """Ctrl-C leaves network.npz; resumed and then killed, the run must not leave that net beside a later record."""
    status, _ = interrupt(["train", "digits", "--epochs", "100000"], folder)
    kept = len(json.loads((folder / "a/record.json").read_text())["epochs"])
    assert status == 130 and (folder / "a/network.npz").exists()
    status, _ = interrupt(["train", "digits", "--resume"], folder, epochs=kept + 2, number=signal.SIGKILL)
    assert status == -9 and not (folder / "a/network.npz").exists()
    with pytest.raises(MinimaskError, match="holds no whole run"):
        runs.load(folder / "a", data.digits())


def test_a_record_that_cannot_be_written_for_a_while_is_said_and_training_goes_on(folder, capsys, monkeypatch, no_pictures):
    real, epochs = runs.write_record, []

    def write_record(path, record, *name):
        epochs.append(len(record["epochs"]))
        if len(record["epochs"]) == 1:
            raise files.WriteError("a/record.json cannot be written (No space left on device); what was there is untouched")
        real(path, record, *name)

    monkeypatch.setattr(runs.folder, "write_record", write_record)
    assert train_digits("a") == 0
    assert "minimask: a/record.json cannot be written (No space left" in capsys.readouterr().err
    assert epochs == [1, 2, 2] and len(json.loads((folder / "a/record.json").read_text())["epochs"]) == 2


def test_a_disk_that_is_full_at_the_end_is_status_1_and_the_run_can_be_finished(folder, capsys, monkeypatch, no_pictures):
    real = os.replace

    def replace(source, target):
        if str(target).endswith("checkpoint.npz") and (folder / "a/record.json").exists():
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert train_digits("a") == 1
    assert "checkpoint.npz cannot be written (No space left on device); what was there is untouched" in capsys.readouterr().err
    monkeypatch.setattr(os, "replace", real)
    assert main(["train", "digits", "--resume", "--out", "a", "--quiet"]) == 0
    assert train_digits("b") == 0
    assert outcome(folder / "a") == outcome(folder / "b")


def test_other_warnings_are_left_as_they_are(folder, capsys, monkeypatch, no_pictures):
    def warn(*_, **__):
        warnings.warn("overflow", RuntimeWarning, stacklevel=1)
        warnings.warn("ours", UserWarning, stacklevel=1)
        raise train.TrainingError("stop")

    monkeypatch.setattr(runs, "run", warn)
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert train_digits("a") == 1
    assert capsys.readouterr().err == "minimask: ours\nminimask: stop\n"  # no checkpoint yet: nothing is saved
