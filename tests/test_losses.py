"""Losses against PyTorch and by hand; what fit tells with them; targets that are no labels; nets of several heads."""

import json
import re

import numpy as np
import pytest

from minimask import (
    Tensor,
    UsageError,
    checkpoint,
    data,
    losses,
    models,
    nn,
    ops,
    optim,
    optimizers,
    recipes,
    runs,
    train,
)
from minimask.__main__ import main
from minimask.data import DataError
from minimask.losses import BinaryCrossEntropy, CrossEntropy, Heads, Judge, MeanSquare
from minimask.mask import SignedSupermask, Trained
from minimask.testing import gradcheck

RNG = np.random.default_rng(0)
OUTPUTS, LABELS = RNG.standard_normal((6, 4)) * 3, np.array([0, 3, 1, 1, 2, 0])
FLOATS, SHARES = RNG.standard_normal((6, 4)), RNG.dirichlet(np.ones(4), 6)
YES = RNG.integers(0, 2, (6, 4)).astype(float)
EASY = [(CrossEntropy(), LABELS), (CrossEntropy(0.1), LABELS), (CrossEntropy(), SHARES), (CrossEntropy(0.3), SHARES),
        (MeanSquare(), FLOATS), (MeanSquare(), LABELS), (BinaryCrossEntropy(), YES), (BinaryCrossEntropy(), LABELS),
        (BinaryCrossEntropy(), SHARES)]


def images(n=120, outputs=1, seed=0):
    """Noise of 3x3 pixels, and sums of them with weights: what a net can find."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3, 3, 1))
    return x, x.reshape(n, 9) @ rng.standard_normal((9, outputs))


def dataset(targets, classes, x=None):
    x = images(len(targets))[0] if x is None else x
    half = len(targets) // 2
    return data.Dataset("own", x[half:], targets[half:], x[:half], targets[:half], classes, preprocess="none")


def small(outputs, weights=None, seed=0):
    rng = np.random.default_rng(seed)
    return models.fcn(weights or Trained(), rng, (3, 3, 1), (16, outputs)), rng


def theirs(torch, loss, outputs, targets):
    f, x = torch.nn.functional, torch.tensor(outputs, requires_grad=True)
    y = torch.tensor(losses.spread(targets, 4)) if not isinstance(loss, CrossEntropy) else torch.tensor(targets)
    value = {CrossEntropy: lambda: f.cross_entropy(x, y, label_smoothing=loss.smoothing), MeanSquare: lambda: f.mse_loss(x, y),
             BinaryCrossEntropy: lambda: f.binary_cross_entropy_with_logits(x, y)}[type(loss)]()
    value.backward()
    return value.item(), x.grad.numpy()


@pytest.mark.parametrize(("loss", "targets"), EASY)
def test_values_and_slopes_are_pytorchs(loss, targets, torch):
    x = Tensor(OUTPUTS, requires_grad=True)
    value = loss(x, targets)
    value.backward()
    expected, slope = theirs(torch, loss, OUTPUTS, targets)
    assert value.shape == () and value.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(x.grad, slope, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("loss", "targets"), [*EASY, (Heads([(CrossEntropy(0.1), 3), (MeanSquare(), 1)], [2, 0.5]),
                                                       np.stack([LABELS % 3, FLOATS[:, 0]], 1))])
def test_slopes_are_those_of_the_value(loss, targets):
    gradcheck(lambda x: loss(x, targets), OUTPUTS)


def test_by_hand():
    x = Tensor(np.array([[2.0, 0.0], [-1.0, 1.0]]))
    p = np.exp(x.data) / np.exp(x.data).sum(1, keepdims=True)
    q = np.array([[0.95, 0.05], [0.05, 0.95]])  # smoothing 0.1 of two classes
    assert CrossEntropy(0.1)(x, np.array([0, 1])).item() == pytest.approx(-(q * np.log(p)).sum() / 2)
    assert MeanSquare()(x, np.array([0, 1])).item() == pytest.approx((1 + 0 + 1 + 0) / 4)  # (2-1)^2, 0, (-1-0)^2, (1-1)^2
    sigma = 1 / (1 + np.exp(-x.data))
    assert BinaryCrossEntropy()(x, np.array([[1, 0], [1, 1]])).item() == pytest.approx(
        -np.log([sigma[0, 0], 1 - sigma[0, 1], sigma[1, 0], sigma[1, 1]]).mean())
    heads = Heads([(CrossEntropy(), 1), (MeanSquare(), 1)], weights=[1, 3])
    assert heads(x, np.array([[0, 1.0], [0, 1.0]])).item() == pytest.approx(3 * 0.5)  # one class alone costs nothing


@pytest.mark.parametrize("loss", [CrossEntropy(0.1), MeanSquare(), BinaryCrossEntropy()])
def test_float32_stays_float32_and_the_targets_dtype_does_not_matter(loss):
    x = Tensor(OUTPUTS.astype(np.float32), requires_grad=True)
    value = loss(x, LABELS.astype(np.uint8))
    value.backward()
    assert value.dtype == x.grad.dtype == np.float32


def test_binary_cross_entropy_overflows_nowhere_and_keeps_small_slopes():
    x = Tensor(np.array([[1000.0, -1000.0, 30.0, -30.0]], np.float32), requires_grad=True)
    loss = ops.binary_cross_entropy(x, np.array([[1, 0, 1, 0]], np.float32))
    loss.backward()
    assert 0 < loss.item() < 1e-12
    np.testing.assert_allclose(x.grad[0, 2:] * 4, [-np.exp(-30), np.exp(-30)], rtol=1e-5)


def test_what_is_right():
    outputs = np.array([[2.0, 1.0], [0.0, 3.0], [-1.0, -2.0]])
    assert CrossEntropy().hits(outputs, np.array([0, 0, 0])).tolist() == [True, False, True]
    assert CrossEntropy().hits(outputs, np.array([[0.6, 0.4], [0.6, 0.4], [0, 1]])).tolist() == [True, False, False]
    assert MeanSquare().hits(outputs, np.array([0, 1, 1])).tolist() == [True, True, False]
    assert MeanSquare().hits(outputs, outputs) is None and MeanSquare().right(outputs, outputs) == 0
    assert BinaryCrossEntropy().hits(outputs, np.array([[1, 1], [1, 1], [0, 0]])).tolist() == [True, False, True]
    both = Heads([(CrossEntropy(), 2), (MeanSquare(), 0 + 1)])
    three = np.concatenate([outputs, outputs[:, :1]], axis=1)
    assert both.hits(three, np.array([[0, 5.5], [1, 5.5], [1, 5.5]])).tolist() == [True, True, False]
    assert Heads([(MeanSquare(), 2)]).hits(outputs, outputs) is None
    two = Heads([(CrossEntropy(), 2), (CrossEntropy(), 2)])  # right where both are
    assert two.hits(np.tile(outputs, 2), np.array([[0, 0], [0, 1], [0, 1]])).tolist() == [True, False, False]


# ---- in fit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross-entropy", CrossEntropy(0.1), "mse", "binary-cross-entropy"])
def test_every_loss_learns_classes_and_tells_their_accuracy(loss):
    x, y = images(400)
    labels = (y[:, 0] > 0).astype(np.int64)
    net, rng = small(2, SignedSupermask(tau=0.01))
    record = train.fit(net, dataset(labels, ("low", "high"), x), optimizers.Adam(net.parameters(), 0.01), 20, rng, 20, loss=loss,
                       test_loss=True)
    first, last = record["epochs"][0], record["epochs"][-1]
    assert last["test_accuracy"] > 0.7 and last["train_loss"] < first["train_loss"] and last["test_loss"] > 0
    assert list(last)[2:6] == ["train_loss", "train_accuracy", "test_accuracy", "test_loss"]


def test_floats_as_targets_are_learned_and_told_of_without_an_accuracy():
    x, y = images(400, 2)
    net, rng = small(2)
    record = train.fit(net, dataset(y, ("a", "b"), x), optimizers.Adam(net.parameters(), 0.01), 30, rng, 20, loss="mse",
                       metric="r2", progress=train.Progress(pause=1e9))
    last = record["epochs"][-1]
    assert record["metric"] == "r2" and last["test_metric"] > 0.9
    assert not {"train_accuracy", "test_accuracy"} & set(last) and last["test_loss"] < 0.2 * record["epochs"][0]["test_loss"]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_one_column_of_floats_needs_no_second_axis():
    x, y = images(100)
    net, rng = small(1)
    entry = train.fit(net, dataset(y[:, 0], ("a",), x), optimizers.Adam(net.parameters(), 0.01), 1, rng, loss="mse")["epochs"][0]
    outputs = net(x[:50].astype(np.float32)).data
    assert entry["test_loss"] == pytest.approx(float(np.mean((outputs[:, 0] - y[:50, 0]) ** 2)), rel=1e-5)


def test_several_outputs_of_yes_or_no():
    x, y = images(400, 3)
    net, rng = small(3)
    record = train.fit(net, dataset((y > 0).astype(float), ("a", "b", "c"), x), optimizers.Adam(net.parameters(), 0.02), 20, rng,
                       20, loss="binary-cross-entropy")
    right = (net(x[:200].astype(np.float32)).data > 0) == (y[:200] > 0)
    assert record["epochs"][-1]["test_accuracy"] == right.all(axis=1).mean() > 0.6 and "test_loss" not in record["epochs"][-1]


class TwoHeads(nn.Layer):
    """Two layers over the same features, their outputs side by side."""

    def __init__(self, first, second):
        self.children = {"first": first, "second": second}

    def __call__(self, x, training=False):
        return ops.concat([child(x, training) for child in self.children.values()], axis=1)

    def output_shape(self, shape):
        return (sum(child.output_shape(shape)[0] for child in self.children.values()),)


@pytest.mark.parametrize("weights", [SignedSupermask(tau=0.01), Trained()])
def test_a_net_of_two_heads_learns_both_is_stopped_and_goes_on(weights, tmp_path):
    x, y = images(200, 2)
    targets = np.stack([(y[:, 0] > 0), y[:, 1]], axis=1)  # a class and a number
    own = dataset(targets, ("low", "high", "number"), x)
    loss = Heads([(CrossEntropy(), 2), (MeanSquare(), 1)], weights=[1, 0.5])

    def fit(epochs, path, resume=False, seed=0):
        rng = np.random.default_rng(seed)
        heads = TwoHeads(nn.Dense(16, 2, weights, rng), nn.Dense(16, 1, weights, rng))
        net = nn.Sequential([nn.Flatten(), nn.Dense(9, 16, weights, rng), nn.ELU(), heads], (3, 3, 1))
        record = train.fit(net, own, optimizers.Adam(net.parameters(), 0.01), epochs, rng, 20, loss=loss, checkpoint=path,
                           resume=resume, test_loss=True)
        return net, record

    net, record = fit(6, tmp_path / "whole")
    fit(2, tmp_path / "cut")
    again, taken_up = fit(6, tmp_path / "cut", resume=True, seed=3)
    assert checkpoint.peek(tmp_path / "whole")[1] == checkpoint.peek(tmp_path / "cut")[1]
    assert all(np.array_equal(a, b) for a, b in zip(net.arrays().values(), again.arrays().values()))
    first, last = record["epochs"][0], record["epochs"][-1]
    assert last["test_loss"] < first["test_loss"] and last["test_accuracy"] > 0.7


def test_a_function_is_a_loss_and_one_is_a_metric():
    def largest(outputs, targets):
        return ops.mean(ops.abs(outputs - np.float32(losses.spread(targets, 2)))) - 5.0  # below 0

    def share_of_ones(outputs, targets):
        return np.mean(outputs.argmax(axis=1) == 1)

    labels = np.arange(100) % 2
    net, rng = small(2)
    record = train.fit(net, dataset(labels, ("a", "b")), optim.SGDW(net.parameters(), 0.01), 1, rng, loss=largest,
                       metric=share_of_ones, test_loss=True)
    entry = record["epochs"][0]
    assert record["metric"] == "share_of_ones" and entry["train_loss"] < 0 > entry["test_loss"]
    ones = net(images(100)[0][:50].astype(np.float32)).data.argmax(axis=1) == 1
    assert entry["test_metric"] == ones.mean() and 0 < entry["test_accuracy"] < 1


def test_targets_are_not_to_be_written_into():
    """They are those of the next epoch, too."""
    def greedy(outputs, targets):
        targets[:] = 0
        return ops.mean(outputs)

    labels = np.arange(100) % 2
    for told in ({"loss": greedy}, {"metric": lambda outputs, targets: float(greedy(outputs, targets).item())}):
        net, rng = small(2)
        mine = dataset(labels, ("a", "b"))
        with pytest.raises(ValueError, match="read-only"):
            train.fit(net, mine, optim.SGDW(net.parameters(), 0.01), 1, rng, **told)
        assert mine.test_labels.any()


@pytest.mark.parametrize("given", [np.ones(3), "much", None])
def test_a_metric_that_is_no_number_is_refused(given):
    judge = losses.Judge(metric=lambda outputs, targets: given)
    with pytest.raises(UsageError, match=f"metric <lambda> gave a {type(given).__name__}, but must give one number"):
        judge([np.zeros((2, 3))], np.zeros(2, int), 0.0)


def test_the_best_five_are_those_of_classes():
    with pytest.raises(UsageError, match=r"top5: targets are float64 of shape \(3, 2\), but must be the numbers of"):
        losses.METRICS["top5"](np.zeros((3, 2)), np.zeros((3, 2)))


def test_a_loss_that_does_not_hang_on_the_outputs_is_refused():
    loss = losses.of(lambda outputs, targets: ops.mean(Tensor(outputs.detach().data)))
    with pytest.raises(UsageError, match="was not made from the outputs by ops"):
        loss(Tensor(np.ones((2, 3)), requires_grad=True), np.zeros(2, int))
    assert loss(Tensor(np.ones((2, 3))), np.zeros(2, int)).item() == 1


def test_a_loss_below_0_is_kept_and_taken_up(tmp_path):
    def below(outputs, targets):
        return ops.cross_entropy(outputs, targets) - 100.0

    class Stop(train.Progress):
        def step(self, epoch, step, steps, loss):
            if (epoch, step) == (2, 2):  # the sum of its losses so far is below 0, too
                raise KeyboardInterrupt

    def fit(path, **more):
        net, rng = small(2)
        train.fit(net, dataset(np.arange(100) % 2, ("a", "b")), optim.SGDW(net.parameters(), 0.01), 3, rng, 20, loss=below,
                  checkpoint=path, test_loss=True, **more)

    fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", progress=Stop())
    fit(tmp_path / "cut", resume=True)
    assert checkpoint.peek(tmp_path / "whole")[1] == checkpoint.peek(tmp_path / "cut")[1]


def test_a_checkpoint_goes_on_with_its_loss_only(tmp_path):
    own = dataset(np.arange(100) % 2, ("a", "b"))

    def fit(resume=False, **told):
        net, rng = small(2)
        return train.fit(net, own, optim.SGDW(net.parameters(), 0.01), 2, rng, 20, checkpoint=tmp_path / "c", resume=resume, **told)

    fit(loss=CrossEntropy(0.1))
    for told in ({}, {"loss": CrossEntropy(0.2)}, {"loss": "mse"}, {"loss": CrossEntropy(0.1), "test_loss": True},
                 {"loss": CrossEntropy(0.1), "metric": "top5"}):
        with pytest.raises(UsageError, match=r"is of another run: its (loss|smoothing|name|test_loss|metric) is "):
            fit(resume=True, **told)
    fit(resume=True, loss=CrossEntropy(0.1))


def test_a_default_run_tells_and_keeps_what_it_always_did(tmp_path):
    net, rng = small(2)
    record = train.fit(net, dataset(np.arange(100) % 2, ("a", "b")), optim.SGDW(net.parameters(), 0.01), 1, rng,
                       checkpoint=tmp_path / "c")
    assert list(record["epochs"][0]) == ["epoch", "step", "train_loss", "train_accuracy", "test_accuracy", "weights_left",
                                         "flips", "seconds", "layers"]
    settings = checkpoint.peek(tmp_path / "c")[0]["settings"]
    assert not {"loss", "test_loss", "metric"} & set(settings) and settings["schedule"] == {}
    assert "metric" not in record


def test_metrics():
    outputs, labels = RNG.standard_normal((40, 8)), RNG.integers(0, 8, 40)
    top5 = losses.METRICS["top5"](outputs, labels)
    assert top5 == np.mean([label in np.argsort(-row)[:5] for row, label in zip(outputs, labels)])
    y = outputs + RNG.standard_normal((40, 8)) * 0.1
    assert losses.METRICS["mae"](outputs, y) == pytest.approx(np.abs(outputs - y).mean())
    r2 = 1 - ((outputs - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert losses.METRICS["r2"](outputs, y) == pytest.approx(r2.mean())
    assert losses.METRICS["r2"](outputs, np.ones((40, 8))) == 0


def test_judge_counts_every_sample_once_whatever_the_batches():
    judge = Judge(CrossEntropy(), test_loss=True)
    whole = judge([OUTPUTS], LABELS, 0.5)
    parts = judge([OUTPUTS[:1], OUTPUTS[1:5], OUTPUTS[5:]], LABELS, 0.5)
    assert whole["train_accuracy"] == 0.5 and parts["test_accuracy"] == whole["test_accuracy"]
    assert parts["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-12)


# ---- refused ---------------------------------------------------------------------------------------------------------


def fitted(targets, classes, outputs=None, **told):
    net, rng = small(len(classes) if outputs is None else outputs)
    train.fit(net, dataset(targets, classes), optim.SGDW(net.parameters(), 0.01), 1, rng, **told)


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: fitted(np.zeros(20), ("a", "b")), r"cross-entropy: labels are float64, but must be integers.*astype\(int\).*loss='mse'"),
    (lambda: fitted(np.zeros((20, 2)), ("a", "b")), "must be rows of shares, .* 1 in sum"),
    (lambda: fitted(np.zeros(20), ("a", "b"), loss="mse"), "mse: targets of shape .* are 1 numbers a sample, but the net has 2"),
    (lambda: fitted(np.full((20, 2), 2.0), ("a", "b"), loss="binary-cross-entropy"), "targets from 2 to 2, but must lie in 0..1"),
    (lambda: fitted(np.arange(20) % 2, ("a", "b"), loss="hinge"), "unknown loss 'hinge'"),
    (lambda: fitted(np.arange(20) % 2, ("a", "b"), loss=3), "loss is 3, but must be one of cross-entropy, mse"),
    (lambda: fitted(np.arange(20) % 2, ("a", "b"), loss=CrossEntropy), "loss is <class"),
    (lambda: fitted(np.arange(20) % 2, ("a", "b"), loss=lambda x, y: 3.0), "a loss gives one number.*this gave a float"),
    (lambda: fitted(np.arange(20) % 2, ("a", "b"), loss=lambda x, y: x), "gave a Tensor of shape"),
    (lambda: fitted(np.arange(20) % 2, ("a", "b"), metric="f2"), "unknown metric 'f2'"),
    (lambda: fitted(np.arange(20) % 2, ("a", "b"), metric=lambda x, y: np.nan), "gave nan, but a record holds finite numbers"),
    (lambda: CrossEntropy(1.0), r"smoothing is 1.0, but must lie in \[0, 1\)"),
    (lambda: Heads([]), "0 heads and 0 weights"),
    (lambda: Heads([("mse", 1)], [-1]), "weights .*must be 0 or more"),
    (lambda: fitted(np.zeros((20, 3)), ("a", "b", "c"), loss=Heads([("cross-entropy", 2), ("mse", 1)])),
     r"3 outputs and targets \(n, 2\) are needed, but the net has 3 and the targets are \(10, 3\)"),
    (lambda: fitted(np.full((20, 2), 2.0), ("a", "b", "c"), loss=Heads([("cross-entropy", 2), ("mse", 1)])),
     "classes from 2 to 2, but the head has 2 outputs"),
    (lambda: fitted(np.full((20, 2), 0.5), ("a", "b", "c"), loss=Heads([("cross-entropy", 2), ("mse", 1)])),
     "a column of classes holds a fraction"),
])
def test_mistakes(call, sentence):
    with pytest.raises(UsageError, match=sentence):
        call()


@pytest.mark.parametrize(("targets", "sentence"), [
    (np.array([1.0, np.nan] * 10), r"target 1 is nan, but must be finite"),
    (np.array([[1.0, np.inf]] * 20), r"target 0, 1 is inf"),
    (np.zeros((20, 2, 2)), r"needed are .* \(n,\), or targets \(n, k\)"),
    (np.zeros((20, 0)), r"needed are"),
])
def test_targets_that_no_net_can_have(targets, sentence):
    with pytest.raises(DataError, match=sentence):
        dataset(targets, ("a", "b"))


def test_the_two_parts_have_targets_of_one_kind():
    x = images(4)[0]
    with pytest.raises(DataError, match="labels to train are float64 of shape .* both must be of one kind"):
        data.Dataset("own", x, np.zeros(4), x, np.zeros(4, int), ("a",))


# ---- from files, and by the command line -----------------------------------------------------------------------------


def test_targets_from_arrays_npz_and_csv(tmp_path):
    x, y = images(50, 2)
    made = data.from_arrays(x, y, preprocess="none")
    assert made.classes == ("output 1", "output 2") and made.train_labels.shape == (40, 2) and len(made.test_labels) == 10
    whole = np.concatenate([made.train_labels, made.test_labels])
    assert sorted(map(tuple, whole)) == sorted(map(tuple, y))  # each once
    assert data.from_arrays(x, y, ["a", "b", "c"]).classes == ("a", "b", "c")  # of the outputs: heads have more of them
    assert data.from_arrays(x, (y > 0).astype(int)).train_labels.dtype.kind == "i"
    np.savez(tmp_path / "own.npz", x=x, y=y[:, 0])
    assert data.from_npz(tmp_path / "own.npz").train_labels.shape == (40,)
    (tmp_path / "own.csv").write_text("a,b,price\n" + "".join(f"{i},{i % 3},{i / 2}\n" for i in range(20)))
    table = data.from_csv(tmp_path / "own.csv", numbers=True, preprocess="feature")
    assert table.classes == ("price",) and table.train_labels.dtype == float
    assert set(np.concatenate([table.train_labels, table.test_labels])) == {i / 2 for i in range(20)}
    (tmp_path / "own.csv").write_text("a,b,price\n1,2,3\n4,5,dear\n")
    with pytest.raises(DataError, match=r"own.csv: column 'price' holds 'dear', which is no number"):
        data.from_csv(tmp_path / "own.csv", numbers=True)
    with pytest.raises(DataError, match="has 1 sample, but 2 are needed"):
        data.from_arrays(x[:1], y[:1])


REGRESSION = """name = "reg"
about = ""
epochs = 2
lr = 0.01
wd = 1e-4
dataset = "npz:own.npz"
preprocess = "none"
loss = "mse"
metric = "r2"
optimizer = "adam"
schedule = "cosine"
source_settings = { tau = 0.01 }
schedule_settings = { epochs = 2, warmup = 0.5 }
optimizer_settings = { clip_norm = 1.0 }
"""


def test_a_run_of_floats_goes_through_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = images(60, 2)
    np.savez("own.npz", x=x, y=y)
    (tmp_path / "reg.toml").write_text(REGRESSION)

    def say(*words, code=0):
        assert main(list(words)) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return out if not code else err

    assert re.search(r"test loss \d+\.\d+ with \d", say("train", "reg.toml", "--out", "run"))
    assert "holds a run after 2 epochs" in say("train", "--resume", "run", "--epochs", "3")
    record = json.loads((tmp_path / "run/record.json").read_text())
    entry = record["epochs"][-1]
    assert record["metric"] == "r2" and len(record["epochs"]) == 3 and "test_accuracy" not in entry
    assert f"| loss {entry['test_loss']:.4g} |" in say("report", "run", "--out", "report")
    assert f"| r2 {entry['test_metric']:.4g} |" in (tmp_path / "report/report.md").read_text()
    assert f"{entry['test_loss']}" in say("report", "run", "--out", "report", "--format", "csv")
    assert f"loss {entry['test_loss']:.4g} &" in say("report", "run", "--out", "report", "--format", "latex")
    assert f"test loss {entry['test_loss']:.4g}" in say("compare", "run", "run")
    say("export", "run", "-o", "reg.mmk")
    assert f"epoch 3: test loss {entry['test_loss']:.4g}" in say("info", "reg.mmk")
    assert re.search(r"reg-seed0 +2 +loss \d", say("sweep", "reg.toml", "--out", "sweep", "--jobs", "1"))
    assert "degrees.png" in say("inspect", "run", "--repeats", "1")
    page, counted = (tmp_path / "run/anatomy/index.html").read_text(), json.loads((
        tmp_path / "run/anatomy/anatomy.json").read_text())
    assert counted["guessing"] is counted["worth"] is None and len(counted["paths"]) == len(record["data"]["classes"])
    assert f"its test loss {entry['test_loss']:.4g}. What did" in page and "from a pixel to an output" in page
    assert "right class" not in page and "standardised" not in page and "guessing" not in page
    np.savez("other.npz", x=x, y=np.concatenate([y.reshape(len(y), -1)] * 2, axis=1))
    assert "outputs, but npz:other.npz has names for" in say("inspect", "run", "--dataset", "npz:other.npz", code=2)
    assert "evaluate: it is about classes, but the targets of data set 'npz:own.npz' are float64" in say(
        "evaluate", "run", code=2)
    assert "a step of plain cross-entropy, but reg minimises mse" in say("step", "run", code=2)


OWN = '''
import numpy as np
from minimask import losses, ops, optimizers, schedules
def loss(outputs, targets):
    return ops.cross_entropy(outputs, targets)
def smooth(by=0.1):
    return losses.CrossEntropy(by)
def heads():
    return losses.Heads([("mse", 10)])
def ones(outputs, targets):
    return np.mean(outputs.argmax(axis=1) == 1)
def adam(parameters, lr, wd, schedule, beta=0.9):
    return optimizers.Adam(parameters, lr, wd, beta, schedule=schedule)
def warm(steps_per_epoch, epochs=1):
    return schedules.Warmup(epochs * steps_per_epoch)
def none():
    return 3
'''


def test_losses_metrics_optimizers_and_schedules_of_ones_own_by_name(tmp_path, monkeypatch):
    (tmp_path / "mine_of_losses.py").write_text(OWN)
    code = recipes.recipe.own.Code(str(tmp_path))

    def recipe(**kinds):
        return recipes.Recipe("mine", "", 1, 0.01, 0.0, dataset="digits", code=code,
                              **{kind: f"mine_of_losses:{each}" if isinstance(each, str) else each for kind, each in kinds.items()})

    assert isinstance(recipe(loss="loss").judge().loss, losses.Own)
    assert recipe(loss="smooth").judge().loss == CrossEntropy(0.1)
    assert recipe(loss="smooth", loss_settings={"by": 0.3}).judge().loss == CrossEntropy(0.3)
    assert isinstance(recipe(loss="heads").judge().loss, Heads)
    with pytest.raises(UsageError, match="loss = 'mine_of_losses:none' gives a int, but needed is a loss"):
        recipe(loss="none").judge()
    whole = recipe(loss="smooth", metric="ones", optimizer="adam", optimizer_settings={"beta": 0.8}, schedule="warm",
                   schedule_settings={"epochs": 2})
    assert set(whole.own_code()) == {"loss", "metric", "optimizer", "schedule"}
    net, record = runs.run(whole, data.digits(), 0)
    assert record["metric"] == "ones" and 0 <= record["epochs"][0]["test_metric"] <= 1
    made = whole.optimizer_of(net, data.digits())
    assert type(made) is optimizers.Adam and made.beta1 == 0.8 and made.schedule(0) == 1 / 24
    assert recipes.from_dict(whole.as_dict()) == whole and len(record["environment"]["own_code"]) == 1
