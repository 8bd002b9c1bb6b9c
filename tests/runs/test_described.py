"""Runs that were trained from Python, or by own code: kept by runs.save, described in their record, and read by every
command that needs no more."""

import json
import re

import numpy as np
import pytest

from minimask import data, layers, mask, models, nn, op, optim, recipes, resnet, runs, train
from minimask.__main__ import main
from minimask.errors import MinimaskError, UsageError
from minimask.ops import cast
from minimask.runs import compare, described

DIGITS = data.digits()


@op(surrogate=True, register=False)
def two_of_four(xp, m):
    """Of every four scores in a row the two of larger size: 1; the others 0."""
    rows = xp.reshape(xp.abs(m), (-1, 4))
    s = xp.reshape(cast(xp, xp.argsort(xp.argsort(rows, axis=1), axis=1) >= 2, m.dtype), m.shape)
    return s, lambda g: (g * xp.sign(m),)


class TwoOfFour(mask.Supermask):
    def step(self, scores):
        return two_of_four(scores)


class Doubled(mask.Trained):
    """No mask, and another weight than the one that is trained."""

    def effective(self):
        return super().effective() * 2.0


class Twice(nn.Layer):
    def __call__(self, x, training=False):
        return x + x


def net_of(rule, *more, seed=0):
    rng = np.random.default_rng(seed)
    return nn.Sequential([nn.Flatten(), nn.Dense(64, 20, rule, rng), nn.ELU(0.5), *more, nn.Dense(20, 10, rule, rng)],
                         DIGITS.input_shape)


def cnn(rule):
    rng = np.random.default_rng(0)
    return nn.Sequential([
        nn.Conv2D(1, 4, 3, rule, rng, stride=2, padding=((1, 0), (0, 1))), resnet.BatchNorm(4), nn.ReLU(),
        resnet.Residual([nn.Conv2D(4, 4, 3, rule, rng)], []), nn.MaxPool2D(2), resnet.GlobalAvgPool(),
        nn.Dense(4, 10, rule, rng)], DIGITS.input_shape)


def new_layers(rule):
    rng = np.random.default_rng(0)
    return nn.Sequential([
        nn.Conv2D(1, 4, 3, rule, rng), layers.Bias(4), layers.Tanh(), layers.GroupedConv2D(4, 4, 3, 2, rule, rng),
        resnet.AvgPool2D(2), nn.Flatten(), layers.Dropout(0.2, rng), nn.Dense(64, 10, rule, rng), layers.Bias(10)],
        DIGITS.input_shape)


def trained(net, epochs=1):
    rng = np.random.default_rng(1)
    return train.fit(net, DIGITS, optim.SGDW(net.parameters(), 0.05, 1e-3), epochs, rng)


NETS = {
    "signed": lambda: net_of(mask.SignedSupermask(tau=0.001)),
    "by ratio, normal": lambda: net_of(mask.SignedSupermask(tau_ratio=0.3, frozen_distribution="normal")),
    "binary": lambda: net_of(mask.BinarySupermask(tau=0.001, frozen="he", frozen_factor=2)),
    "edge-popup": lambda: net_of(mask.EdgePopup(share=0.3)),
    "dense": lambda: net_of(mask.Trained(init="he", distribution="normal")),
    "own rule": lambda: net_of(TwoOfFour()),
    "own source without a mask": lambda: net_of(Doubled()),
    "cnn": lambda: cnn(mask.SignedSupermask(tau=0.001)),
    "new layers": lambda: new_layers(mask.SignedSupermask(tau=0.001)),
    "float64": lambda: models.fcn(mask.SignedSupermask(tau=0.001), np.random.default_rng(0), (8, 8, 1), dtype="float64"),
    "resnet": lambda: models.resnet20(mask.SignedSupermask(tau=0.001), np.random.default_rng(0), (8, 8, 1), width=1,
                                      norm="all")}


@pytest.mark.parametrize("kind", NETS)
def test_what_was_trained_from_python_comes_back(tmp_path, kind):
    net = NETS[kind]()
    record = trained(net) if kind != "resnet" else None
    if record is None:  # its training takes long
        record = train.new_record()
        train.loop.Training(net, DIGITS, optim.SGDW(net.parameters(), 0.05, 0), np.random.default_rng(0), 128,
                            record)
        record["epochs"].append({"epoch": 1, "step": 1, "train_loss": 1.0, "train_accuracy": 0.5, "test_accuracy": 0.5,
                                 "weights_left": net.weights_left(), "flips": 0, "seconds": 1.0,
                                 "layers": net.layer_counts()})
    runs.save(net, record, tmp_path / "run", DIGITS)
    again, read = runs.load(tmp_path / "run")
    x = data.standardise(DIGITS.test_images[:20]).astype(net.parameters()[0].dtype.name)
    assert np.array_equal(again(x).data, net(x).data)
    assert {name: m.tobytes() for name, m in again.masks().items()} == {n: m.tobytes() for n, m in net.masks().items()}
    assert again.layer_counts() == net.layer_counts() and list(again.layers) == list(net.layers)
    assert read["epochs"] == json.loads(json.dumps(record["epochs"])) and read["dataset"] == "digits"
    assert read["name"] == "run" and read["recipe"] == {}
    strict, _ = runs.load(tmp_path / "run", backend="strict")
    assert {name: m.tobytes() for name, m in strict.masks().items()} == {n: m.tobytes() for n, m in net.masks().items()}
    runs.save(strict, read, tmp_path / "on strict", DIGITS)
    runs.save(again, read, tmp_path / "once more", DIGITS)  # of what was read
    assert np.array_equal(runs.load(tmp_path / "once more")[0](x).data, net(x).data)


def test_a_layer_of_ones_own_takes_its_code(tmp_path):
    net = net_of(mask.SignedSupermask(tau=0.001), Twice())
    runs.save(net, trained(net), tmp_path / "run", DIGITS)
    with pytest.raises(UsageError, match=r"no table of minimask's knows \(Twice\), so only .*runs.load\(DIR, net=NET\)"):
        runs.load(tmp_path / "run")
    again, _ = runs.load(tmp_path / "run", net=net_of(mask.SignedSupermask(tau=0.001), Twice(), seed=5))
    assert all(np.array_equal(a, b) for a, b in zip(again.arrays().values(), net.arrays().values()))
    with pytest.raises(MinimaskError, match="run holds no arrays of the net that was given: .*dense3"):
        runs.load(tmp_path / "run", net=models.fcn(mask.SignedSupermask(), np.random.default_rng(0), (8, 8, 1)))


def test_save_refuses_a_record_of_another_net_and_a_folder_that_is_taken(tmp_path):
    net, other = net_of(mask.SignedSupermask(tau=0.001)), net_of(mask.SignedSupermask(tau=0.001), seed=1)
    record = trained(net)
    for wrong in ((other, record), (net, train.new_record()), (net, {**record, "epochs": [{}]}), (net, {})):
        with pytest.raises(UsageError, match="save: the record is not of this net, or of no training"):
            runs.save(*wrong, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="its name is ''"):
        runs.save(net, record, tmp_path / "run", name="")
    runs.save(net, record, tmp_path / "run")
    before = (tmp_path / "run/record.json").read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        runs.save(net, record, tmp_path / "run", seed=3)
    assert (tmp_path / "run/record.json").read_bytes() == before
    runs.save(net, record, tmp_path / "run", seed=3, overwrite=True)
    assert runs.read_record(tmp_path / "run")["seed"] == 3 and record["seed"] is None


def test_a_net_that_is_trained_on_is_kept(tmp_path):
    """In one record, or with a second one for what follows, whose steps go on from those of the optimizer before."""
    net, rng = net_of(mask.SignedSupermask(tau=0.001)), np.random.default_rng(1)
    sgdw = optim.SGDW(net.parameters(), 0.05, 1e-3)
    record = train.fit(net, DIGITS, sgdw, 2, rng)
    train.fit(net, DIGITS, sgdw, 1, rng, record=record)
    runs.save(net, record, tmp_path / "one", DIGITS)
    more = train.fit(net, DIGITS, sgdw, 2, rng)
    assert [entry["step"] for entry in (*record["epochs"], *more["epochs"])] == [12, 24, 36, 48, 60]
    runs.save(net, more, tmp_path / "more", DIGITS)
    again, read = runs.load(tmp_path / "more")
    assert read["steps_before"] == 36 and "steps_before" not in record
    assert all(np.array_equal(a, b) for a, b in zip(net.arrays().values(), again.arrays().values()))
    changed = train.fit(net, DIGITS, optim.SGDW(net.parameters(), 0.01), 1, rng)  # another optimizer: its own record
    runs.save(net, changed, tmp_path / "changed", DIGITS)
    for wrong in (35, 60, -1, "36"):
        with pytest.raises(UsageError, match="epochs are missing|its steps_before are"):
            runs.save(net, {**more, "steps_before": wrong}, tmp_path / "wrong", DIGITS)


def test_a_damaged_description_is_a_sentence(tmp_path):
    net = net_of(TwoOfFour())
    runs.save(net, trained(net), tmp_path / "run", DIGITS)
    good = json.loads((tmp_path / "run/record.json").read_text())

    def changed(change):
        record = json.loads(json.dumps(good))
        change(record["net"])
        (tmp_path / "run/record.json").write_text(json.dumps(record))
        return tmp_path / "run"

    for change, sentence in (
            (lambda net: net.pop("layers"), "has no 'layers'"),
            (lambda net: net["layers"].pop(), "the rules of its net has an unknown|unknown ones|disagrees"),
            (lambda net: net["layers"][1].update(kind="os.system"), "kind"),
            (lambda net: net["rules"].pop("dense1"), "the rules of its net has no 'dense1'"),
            (lambda net: net["rules"].update(dense1={"source": "none"}), "the rule of dense1 is .*, which is none"),
            (lambda net: net["rules"].update(dense1={"source": "edge-popup", "settings": {"x": 1}}), "cannot have the set"),
            (lambda net: net["rules"].update(dense1=[]), "its net has the rules .*'dense1'"),
            (lambda net: net.update(dtype="object"), "dtype"),
            (lambda net: net.update(input=[1 << 40]), "input"),
            (lambda net: net["layers"][1]["weight"].update(shape=[1 << 23, 1 << 23]), "weight|bytes|sample"),
            (lambda net: net["layers"][1]["weight"].update(shape=[64, 30]), "bytes|sample"),
            (lambda net: net.update(more=1), "unknown 'more'")):
        with pytest.raises(MinimaskError, match=sentence):
            runs.load(changed(change))
    assert runs.load(changed(lambda net: None))[0].masks()


def test_runs_of_recipes_keep_their_bytes(tmp_path):
    """No description, and no more arrays, where the recipe says what net it is."""
    recipe = recipes.from_dict({**recipes.find("digits").as_dict(), "epochs": 1})
    net, record = runs.run(recipe, DIGITS, 0, tmp_path)
    assert "net" not in record and "own_code" not in record["environment"]
    assert not described.more_arrays(net)


# ---- the commands --------------------------------------------------------------------------------------------------


def said(capsys, status, *words):
    """What a command printed, both streams, after it ended with that status."""
    assert main([str(word) for word in words]) == status, capsys.readouterr()
    found = capsys.readouterr()
    assert "bug in minimask" not in found.err
    return found.out + found.err


def test_every_command_takes_what_was_saved_from_python(tmp_path, capsys):
    for seed in (0, 1):
        net = net_of(TwoOfFour(), seed=seed)
        runs.save(net, trained(net), tmp_path / f"mine{seed}", DIGITS, name="mine", seed=seed)
    run, other = tmp_path / "mine0", tmp_path / "mine1"
    assert "mine, seed 0, digits, 1 epochs" in said(capsys, 0, "compare", run, other)
    assert "bytes in place of" in said(capsys, 0, "export", run, "-o", tmp_path / "mine.mmk")
    assert "mine on digits, seed 0, epoch 1" in said(capsys, 0, "info", tmp_path / "mine.mmk")
    np.save(tmp_path / "image.npy", DIGITS.test_images[0])
    assert "image.npy\t" in said(capsys, 0, "predict", tmp_path / "mine.mmk", tmp_path / "image.npy")
    said(capsys, 0, "export", run, "-o", tmp_path / "mine.safetensors")
    out = said(capsys, 0, "report", tmp_path, "--out", tmp_path / "report")
    assert "`mine`" in out and "| 2 | 1 | digits |" in out and "from Python" in out
    assert "mine" in said(capsys, 0, "report", tmp_path, "--out", tmp_path / "report", "--format", "latex")
    assert "mine-seed0" in said(capsys, 0, "evaluate", run)
    assert "mine0 was trained from Python and kept without a checkpoint" in said(capsys, 2, "train", "--resume", run)
    assert "mine0 was trained from Python, and no recipe says how" in said(capsys, 2, "step", run)


def test_inspect_of_what_was_saved_from_python(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    net = net_of(TwoOfFour())
    runs.save(net, trained(net), tmp_path / "mine", DIGITS)
    assert "index.html" in said(capsys, 0, "inspect", tmp_path / "mine", "--repeats", "1")
    assert "Inside mine<" in (tmp_path / "mine/anatomy/index.html").read_text()


def test_what_a_run_from_python_does_not_say_is_said(tmp_path, capsys):
    """No data set, no seed: the commands that need them say so, the others do without."""
    net = net_of(mask.SignedSupermask(tau=0.001, frozen_distribution="normal"))
    record = trained(net)
    record["dataset"] = None
    runs.save(net, record, tmp_path / "mine")
    assert "trained from Python on data without a name, which no command finds" in said(
        capsys, 2, "inspect", tmp_path / "mine")
    assert re.search("several magnitudes.*seed", said(capsys, 2, "export", tmp_path / "mine", "-o", tmp_path / "a.mmk"))
    assert "its 10 classes have numbers for names" in said(
        capsys, 0, "export", tmp_path / "mine", "-o", tmp_path / "a.safetensors")
    assert "mine, seed unknown, unknown data" in said(capsys, 0, "compare", tmp_path / "mine", tmp_path / "mine")
    assert "| unknown |" in said(capsys, 0, "report", tmp_path / "mine", "--out", tmp_path / "report")
    assert "mine is a run's folder" in said(capsys, 2, "predict", tmp_path / "mine", "image.npy")


def test_runs_that_say_no_seed_stand_each_for_itself(tmp_path, capsys):
    for number in range(2):
        net = net_of(mask.SignedSupermask(tau=0.001))
        runs.save(net, trained(net), tmp_path / f"runs/{number}", DIGITS, name="mine")
    out = said(capsys, 0, "report", tmp_path / "runs", "--out", tmp_path / "report")
    assert "2 runs of" in out and "of mine again" not in out
    assert all(out.count(f"| `mine (in {number})` | ") == 2 for number in range(2))  # a row in both tables


def test_a_net_with_layers_of_its_own_is_compared_and_reported(tmp_path, capsys):
    for seed in (0, 1):
        net = net_of(mask.SignedSupermask(tau=0.001), Twice(), seed=seed)
        runs.save(net, trained(net), tmp_path / f"mine{seed}", DIGITS)
    expected = compare.overlaps(*(compare.read(tmp_path / f"mine{seed}").masks for seed in (0, 1)))
    assert [each.layer for each in expected] == ["dense1", "dense2"]
    assert expected == compare.overlaps(compare.read(tmp_path / "mine0").masks, net.masks())
    assert "mine0" in said(capsys, 0, "compare", tmp_path / "mine0", tmp_path / "mine1")
    assert "`mine0`" in said(capsys, 0, "report", tmp_path, "--out", tmp_path / "report")
    for words in (["export", tmp_path / "mine0", "-o", tmp_path / "a.mmk"], ["inspect", tmp_path / "mine0"]):
        assert "(Twice), so only the code that it was trained with can build it" in said(capsys, 2, *words)
    with np.load(tmp_path / "mine0/network.npz", allow_pickle=False) as file:
        arrays = {**file}
    np.savez(tmp_path / "mine0/network.npz", **{**arrays, "dense1.mask": -arrays["dense1.mask"]})
    assert "disagrees with itself: of layer dense1" in said(capsys, 1, "compare", tmp_path / "mine0", tmp_path / "mine1")


def test_data_of_ones_own_is_found_again(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", images=DIGITS.train_images[:200], labels=DIGITS.train_labels[:200])
    dataset = data.load("npz:mine.npz", preprocess="feature")
    net, rng = net_of(mask.SignedSupermask(tau=0.001)), np.random.default_rng(0)
    record = train.fit(net, dataset, optim.SGDW(net.parameters(), 0.05, 0), 1, rng)
    with pytest.raises(UsageError, match="preprocessed by 'feature', which has learned .* dataset="):
        runs.save(net, record, "run")
    runs.save(net, record, "run", dataset)
    assert "index.html" in said(capsys, 0, "inspect", "run", "--repeats", "1")
    said(capsys, 0, "evaluate", "run")
    said(capsys, 0, "export", "run", "-o", "mine.mmk")
