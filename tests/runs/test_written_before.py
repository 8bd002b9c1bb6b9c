"""Files of version 0.1.0, as it wrote them before its source was laid out in folders, are read as they were.

written/ holds the record of three epochs of `digits`, its export, the index of a sweep, a recipe, and the checkpoint of a
net of one layer after one epoch.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from minimask import checkpoint, data, export, models, optim, recipes, runs, train
from minimask.mask import SignedSupermask
from minimask.runs import records, report, sweep

WRITTEN = Path(__file__).parent / "written"


def test_a_record_counts_and_is_written_the_same(tmp_path):
    reading = records.read([WRITTEN / "record.json"])
    assert not reading.refused and [run.epochs[-1]["test_accuracy"] for run in reading.runs] == [343 / 360]
    record = runs.read_record(WRITTEN)
    runs.write_record(tmp_path, record)
    assert (tmp_path / "record.json").read_bytes() == (WRITTEN / "record.json").read_bytes()


def test_the_index_of_a_sweep(tmp_path):
    known = sweep.read_index(WRITTEN)
    assert known["runs"] == ["digits-seed0", "digits-dense-seed0"] and set(known["recipes"]) == {"digits", "digits-dense"}
    shutil.copy(WRITTEN / "sweep.json", tmp_path)
    todo = sweep.tasks([recipes.from_dict(recipe) for recipe in known["recipes"].values()], [0], tmp_path)
    sweep.claim(tmp_path, todo)
    assert json.loads((tmp_path / "sweep.json").read_text()) == known


def test_a_recipe_as_toml():
    assert recipes.find(str(WRITTEN / "fcn.toml")) == recipes.find("fcn")
    assert recipes.find("fcn").toml() == (WRITTEN / "fcn.toml").read_text()


def test_an_exported_net():
    exported = export.load(WRITTEN / "tiny.mmk")
    weights = export.dense_weights(exported.net).values()
    assert exported.about == "digits on digits, seed 0, epoch 3: 95.28% of the images held out"
    assert exported.classes == data.digits().classes
    assert hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest() == (
        "915ed015e3e31e27c4613e0c5b0d8a2a29c5406ecd7bd2d726600b6740c075e8")


@pytest.mark.filterwarnings("ignore:.*may differ in its last digits")  # other threads, perhaps
def test_a_checkpoint_goes_on(tmp_path):
    """Its digest is the one that it had; the net is in its state, and trains another epoch."""
    path = tmp_path / "checkpoint.npz"
    shutil.copy(WRITTEN / path.name, path)
    assert checkpoint.peek(path)[1] == "432518f31c714fcd0303a5069461406d5b231c946115324e0beaa70967c2a567"
    state, dataset, rng = checkpoint.load(path), data.digits(), np.random.default_rng(3)
    assert state.digest() == checkpoint.peek(path)[1]
    net = models.fcn(weights=SignedSupermask(tau=0.01), rng=rng, input_shape=dataset.input_shape, units=(10,))
    optimizer = optim.SGDW(net.parameters(), 0.05)
    record = train.fit(net, dataset, optimizer, 2, rng, checkpoint=path, resume=True)
    assert record["epochs"][0] == state.run["record"]["epochs"][0] and len(record["epochs"]) == 2
    assert record["epochs"][1]["train_loss"] < record["epochs"][0]["train_loss"]


def test_a_recipe_that_has_changed_since_is_told_from_todays():
    """`digits` has another tau and wd now: its record counts, in a group of its own, made by a recipe file."""
    (run,) = records.read([WRITTEN / "record.json"]).runs
    assert recipes.shipped(run.recipe) is None and recipes.shipped(run.recipe, recipes.FORMER)
    assert run.recipe.wd == 3e-3 != recipes.find("digits").wd
    assert report.command_line(run).startswith("minimask train digits.toml --seed S")
