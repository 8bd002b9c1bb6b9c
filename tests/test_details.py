"""Details: one test for each planted fault that the other tests let through. The faults: a changed default, a method that
calls another op, a gradient check ten times too wide, a picture with swapped colours, and so on.
"""

import io
import threading
import time
from dataclasses import replace

import array_api_strict as strict
import numpy as np
import pytest
from cases import CASES
from hypothesis import find, given
from hypothesis import strategies as st

from minimask import (
    Tensor,
    UsageError,
    data,
    init,
    loop,
    models,
    nn,
    no_grad,
    op,
    ops,
    optim,
    plot,
    recipes,
    runs,
    train,
)
from minimask.engine import OPS
from minimask.mask import SignedSupermask, Trained
from minimask.testing import GradientError, gradcheck, oracle
from minimask.testing.strategies import arrays


def leaf(*s, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(s), requires_grad=True)


def test_two_leaves_of_an_inner_sum_do_not_share():
    x, y = leaf(2), leaf(2, seed=1)
    ops.exp(x + y).sum().backward()
    before = y.grad.copy()
    x.grad *= 5
    np.testing.assert_array_equal(y.grad, before)


def test_a_shared_cotangent_is_not_added_into():
    a, b, c = leaf(2), leaf(2, seed=1), np.ones(2)
    ((a + b) + a).backward(c)
    np.testing.assert_array_equal(a.grad, 2)
    np.testing.assert_array_equal(b.grad, 1)
    np.testing.assert_array_equal(c, 1)


def test_no_grad_is_of_its_thread():
    seen = []
    with no_grad():
        t = threading.Thread(target=lambda: seen.append((leaf(2) * 2.0).requires_grad))
        t.start()
        t.join()
    assert seen == [True]


def test_backward_of_one_entry_in_any_shape():
    x = leaf(1, 1)
    (x * 2.0).backward()
    assert x.grad == 2


def test_cotangent_may_be_a_tensor():
    x = leaf(2)
    (x * 2.0).backward(Tensor(np.ones(2)))
    assert type(x.grad) is np.ndarray


def test_comparison_with_numpy_scalar_is_in_the_tensors_dtype():
    x = Tensor(np.array([0.1], np.float32))
    assert not (x > np.float64(0.1)).any() and (x == np.float64(0.1)).all() and (x >= np.float64(0.1)).all()


SPECIAL = {"where": lambda a, s: a[1].where(a[0], a[2]), "getitem": lambda a, s: a[0][s["index"]],
           "reshape": lambda a, s: a[0].reshape(s["shape"])}


@pytest.mark.parametrize("name", [name for name in CASES if name in SPECIAL or hasattr(Tensor, name)])
@given(data=st.data())
def test_every_method_is_its_op(name, data):
    e = data.draw(CASES[name].examples)
    arrays = [Tensor(x) if x.dtype.kind == "f" else x for x in e.arrays]
    method = SPECIAL.get(name) or (lambda a, s: getattr(a[0], name)(*a[1:], **s))
    np.testing.assert_array_equal(method(arrays, e.settings).data, OPS[name](*arrays, **e.settings).data)


BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "matmul")


@pytest.mark.parametrize(
    "name",
    [n for n in CASES if n not in ("where", "conv2d", "max_pool2d", "avg_pool2d", "global_avg_pool", "batch_norm")],
)
def test_every_op_refuses_integers(name):
    x = np.arange(1, 5).reshape(2, 2)
    rest = {"take": [np.array([0])], "cross_entropy": [np.array([0, 1])]}.get(name, [x] if name in BINARY else [])
    settings = {
        "power": dict(exponent=2),
        "reshape": dict(shape=(4,)),
        "permute_dims": dict(axes=(1, 0)),
        "broadcast_to": dict(shape=(2, 2)),
        "getitem": dict(index=0),
        "keep_hide_invert": dict(tau=0.1),
    }.get(name, {})
    with pytest.raises(TypeError, match="int64"):
        OPS[name](x, *rest, **settings)


def test_host_labels_go_to_the_logits_device():
    d = strict.Device("device1")
    x = Tensor(strict.ones((2, 3), device=d), requires_grad=True)
    loss = ops.cross_entropy(x, np.array([0, 1]))
    loss.backward()
    assert x.grad.device == d


def test_power_zero_at_zero():
    x = Tensor(np.zeros(2), requires_grad=True)
    (x**0).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, 0)


def test_power_numpy_exponent():
    with pytest.raises(TypeError, match="Python number"):
        ops.power(np.ones(2, np.float32), np.float64(2))


def test_small_arguments_do_not_cancel():
    x = np.array([1e-12, -1e-12])
    np.testing.assert_allclose(ops.expm1(x).data, x, rtol=1e-9)
    for alpha in (1.0, 0.5):
        np.testing.assert_allclose(ops.elu(x[1:], alpha).data, alpha * x[1:], rtol=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_elu_does_not_overflow(alpha):
    with np.errstate(all="raise", under="ignore"):
        x = Tensor(np.array([-1e4, 0, 1e4], np.float32), requires_grad=True)
        ops.elu(x, alpha).sum().backward()


def test_tau_ratio_is_of_the_largest_absolute_score_and_of_each_layer():
    for seed in range(8):
        t = SignedSupermask(tau_ratio=0.4)
        rng = np.random.default_rng(seed)
        for shape in ((3, 4), (30, 4)):
            s = t.draw(shape, rng)
            assert s.tau == pytest.approx(0.4 * np.abs(s.scores.data).max(), rel=1e-6)


def test_defaults_of_the_sources():
    rng = np.random.default_rng(0)
    assert np.abs(Trained().draw((200, 100), rng).weight.data).max() == pytest.approx(np.sqrt(4.5 / 200), rel=1e-3)
    s = SignedSupermask().draw((200, 100), rng)
    assert set(np.abs(s.frozen).ravel()) == {np.float32(np.sqrt(3 / 200))}
    assert np.abs(s.scores.data).max() == pytest.approx(np.sqrt(6 / 300), rel=1e-3)
    assert set(np.abs(SignedSupermask(frozen_factor=2.6).draw((200, 100), rng).frozen).ravel()) == {
        np.float32(np.sqrt(2.6 / 200))
    }
    assert np.abs(Trained(factor=1e-6).draw((200, 100), rng).weight.data).max() < 1e-3
    with pytest.raises(UsageError):
        SignedSupermask(tau_ratio=-0.1)


def test_frozen_before_scores():
    a = SignedSupermask().draw((5, 4), np.random.default_rng(3)).frozen
    np.testing.assert_array_equal(a, init.draw((5, 4), np.random.default_rng(3), "elus", "signed_constant"))


def test_constant_draws_nothing():
    rng = np.random.default_rng(0)
    init.draw((3, 4), rng, "he", "constant")
    assert rng.random() == np.random.default_rng(0).random()


def test_factor_inf():
    with pytest.raises(ValueError):
        init.draw((3, 4), np.random.default_rng(0), factor=np.inf)


def test_loading_takes_tau_and_copies():
    nets = [
        models.fcn(SignedSupermask(tau_ratio=0.4), np.random.default_rng(i), (3, 3, 2), (6, 5, 4)) for i in range(2)
    ]
    arrays = nets[0].arrays()
    nets[1].load(arrays)
    assert nets[1].counts() == nets[0].counts()
    assert [s.tau for s in nets[0].weights().values()] == [s.tau for s in nets[1].weights().values()]
    arrays["dense1.frozen"] *= 0
    arrays["dense1.scores"] *= 0
    assert nets[1].arrays()["dense1.frozen"].any() and nets[1].arrays()["dense1.scores"].any()


def test_activation_layers_compute():
    x = Tensor(np.array([[-1.0, 2.0]]))
    np.testing.assert_allclose(nn.ELU(0.5)(x).data, [[0.5 * np.expm1(-1), 2]])
    np.testing.assert_array_equal(nn.ReLU()(x).data, [[0, 2]])


def test_repr_tells_frozen_from_trained():
    rows = repr(models.fcn(Trained(), np.random.default_rng(0))).splitlines()
    assert rows[3].split()[-2:] == ["235,200", "0"]


def test_sgd_takes_its_schedule():
    p = Tensor(np.ones(2), requires_grad=True)
    p.grad = np.ones(2)
    optim.SGD([p], lr=1.0, schedule=lambda t: 0.5).step()
    np.testing.assert_array_equal(p.data, 0.5)


def test_step_leaves_the_gradient():
    for kind in (optim.SGD, optim.SGDW):
        p = Tensor(np.ones(2), requires_grad=True)
        p.grad = np.ones(2)
        kind([p], lr=0.1).step()
        np.testing.assert_array_equal(p.grad, 1)


def test_plateau_min_delta_decides():
    q = optim.Plateau(factor=0.5, patience=2, cooldown=0, min_delta=0.1)
    for loss in (1.0, 0.95, 0.92):
        q.observe(loss)
    assert q.cuts == 1
    d = optim.Plateau()
    assert (d.patience, d.cooldown, d.min_delta, d.max_cuts, d.factor) == (15, 10, 1e-4, 5, 0.2)


def tiny(n=20):
    r = np.random.default_rng(0)
    return data.Dataset(
        "t",
        r.integers(0, 255, (n, 2, 2, 1)).astype(np.uint8),
        r.integers(0, 2, n),
        r.integers(0, 255, (9, 2, 2, 1)).astype(np.uint8),
        r.integers(0, 2, 9),
        ("a", "b"),
    )


def net_opt(source=None, **k):
    rng = np.random.default_rng(0)
    net = models.fcn(source or SignedSupermask(tau=0.01), rng, (2, 2, 1), (5, 2))
    return net, optim.SGDW(net.parameters(), 0.05, 1e-3), rng


def test_evaluate_counts_every_image():
    net, _, _ = net_opt()
    d = tiny()
    right = net(data.standardise(d.test_images)).data.argmax(1)
    for b in (1, 2, 4, 9, 100):
        assert train.evaluate(net, d.test_images, right, b) == 1.0


def test_seconds_are_of_training_alone(monkeypatch):
    net, o, rng = net_opt()
    monkeypatch.setattr(train, "evaluate", lambda *a: time.sleep(0.3) or 0.5)
    t = time.perf_counter()
    s = train.fit(net, tiny(), o, 1, rng)["epochs"][0]["seconds"]
    assert s < 0.2 and s < time.perf_counter() - t


def test_every_epoch_has_a_fresh_order_of_rng(monkeypatch):
    seen, real = [], loop.standardise
    net, o, rng = net_opt()
    d = tiny()
    monkeypatch.setattr(
        loop, "standardise", lambda x, *a: (seen.append(x.tobytes()) if len(x) == 20 else None) or real(x, *a)
    )
    train.fit(net, d, o, 3, rng, batch=20)
    assert len(set(seen)) == 3 and d.train_images.tobytes() not in seen
    first = list(seen)
    seen.clear()
    net, o, rng = net_opt()
    rng.random()
    train.fit(net, d, o, 3, rng, batch=20)
    assert first != seen


def test_evaluation_leaves_no_tape(monkeypatch):
    net, _, _ = net_opt()
    d = tiny()
    flags = []
    real = type(net).__call__
    monkeypatch.setattr(
        type(net), "__call__", lambda self, x, *a: (lambda y: flags.append(y.requires_grad) or y)(real(self, x, *a))
    )
    train.evaluate(net, d.test_images, d.test_labels)
    assert flags == [False]


def test_float64_nets_train():
    net = models.fcn(Trained(), np.random.default_rng(0), (2, 2, 1), (5, 2), dtype="float64")
    train.fit(net, tiny(), optim.SGDW(net.parameters(), 0.05), 1, np.random.default_rng(0))


def test_infinite_loss_stops(monkeypatch):
    net, o, rng = net_opt(Trained())
    monkeypatch.setattr(loop.ops, "cross_entropy", lambda a, b: Tensor(np.float32(np.inf)))
    with pytest.raises(train.TrainingError, match="became inf in epoch 1, step 1"):
        train.fit(net, tiny(), o, 1, rng)


def test_plateau_sees_the_training_loss():
    net, o, rng = net_opt()
    seen = []

    class P(optim.Plateau):
        def observe(self, loss):
            seen.append(loss)

    o.schedule = P()
    rec = train.fit(net, tiny(), o, 3, rng)
    assert seen == [e["train_loss"] for e in rec["epochs"]]


def test_interrupt_in_on_epoch():
    net, o, rng = net_opt()
    rec = train.new_record()

    def cb(r):
        if len(r["epochs"]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(net, tiny(), o, 3, rng, record=rec, on_epoch=cb)
    assert (
        net.counts() == [(x["kept"], x["hidden"], x["inverted"]) for x in rec["epochs"][-1]["layers"]]
        and len(rec["epochs"]) == 2
    )
    assert rec["epochs"][-1]["test_accuracy"] == train.evaluate(net, tiny().test_images, tiny().test_labels)
    two, o, rng = net_opt()
    train.fit(two, tiny(), o, 2, rng)
    assert all(np.array_equal(a, b) for a, b in zip(net.arrays().values(), two.arrays().values()))


def test_fit_checks_the_input_shape():
    net = models.fcn(Trained(), np.random.default_rng(0), (4, 1, 1), (5, 2))
    with pytest.raises(UsageError, match="build the net with these shapes"):
        train.fit(net, tiny(), optim.SGDW(net.parameters(), 0.1), 1, np.random.default_rng(0))


def test_the_argument_goes_before_the_variable(tmp_path, monkeypatch):
    for n in ("a", "b"):
        (tmp_path / n).mkdir()
    monkeypatch.setenv("MINIMASK_DATA", str(tmp_path / "a"))
    data_folder = data.files.data_folder
    assert data_folder() == tmp_path / "a" and data_folder(tmp_path / "b") == tmp_path / "b"


def test_the_seed_is_used(tmp_path):
    r = replace(recipes.find("digits"), epochs=1)
    nets = [runs.run(r, data.digits(), s)[0] for s in (0, 1, 0)]
    f = [n.arrays()["dense1.frozen"].tobytes() for n in nets]
    assert f[0] == f[2] != f[1]


def test_overwrite_removes_the_old_files(tmp_path):
    for n in runs.FILES:
        (tmp_path / n).write_text("old")
    runs.claim(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_eta():
    clock = iter([0.0, 10.0])
    s = io.StringIO()
    train.Progress("x", s, pause=0, clock=lambda: next(clock)).epoch({"epoch": 2, "test_accuracy": 1, "weights_left": 1, "train_loss": 0}, 10)
    assert "40 s to go" in s.getvalue()


def test_a_terminal_shows_steps(monkeypatch):
    class TTY(io.StringIO):
        def isatty(self):
            return True

    s = TTY()
    p = train.Progress("x", s)
    p.written -= 1
    p.step(1, 2, 3, 0.5)
    assert "step 2/3" in s.getvalue()


REC = {
    "epochs": [
        {
            "epoch": i,
            "test_accuracy": 0.9,
            "train_accuracy": 0.5,
            "weights_left": 0.06,
            "flips": 10 * i,
            "layers": [
                {"name": n, "weights": 100, "kept": k + i, "hidden": 99 - 3 * i - 2 * k, "inverted": 1 + k + 2 * i}
                for n, k in (("dense1", 3), ("dense2", 10))
            ],
        }
        for i in (1, 2)
    ],
    "recipe": {},
}


def test_training_picture_shows_what_the_record_says():
    f = plot.training(REC)
    for i in range(2):
        tops = [c.get_paths()[0].vertices[:, 1].max() for c in f.axes[i].collections]
        e = [x["layers"][i] for x in REC["epochs"]]
        assert tops[0] == max(x["kept"] for x in e) and tops[1] == max(x["kept"] + x["inverted"] for x in e)
    lines = {line.get_label(): line.get_ydata().tolist() for ax in f.axes for line in ax.lines}
    assert lines == {"test accuracy": [90, 90], "weights left": [6, 6], "flips": [10, 20]}
    to_hex = pytest.importorskip("matplotlib.colors").to_hex
    assert [to_hex(c.get_facecolor()[0]) for c in f.axes[0].collections] == [plot.KEPT, plot.INVERTED, plot.HIDDEN]


def test_mask_picture_colours_label_and_ink():
    to_hex = pytest.importorskip("matplotlib.colors").to_hex
    d = data.digits()
    net = models.fcn(SignedSupermask(tau=0.05), np.random.default_rng(0), d.input_shape)
    i = int(np.argmax(d.test_labels == 7))
    f = plot.masks(net, d, i)
    im = next(a.images[0] for a in f.axes if a.images and a.images[0].get_array().shape == (300, 64))
    assert [to_hex(im.cmap(im.norm(v))) for v in (-1, 0, 1)] == [plot.INVERTED, plot.HIDDEN, plot.KEPT]
    leg = next(a.get_legend() for a in f.axes if a.get_legend())
    assert {t.get_text(): to_hex(h.get_facecolor()) for t, h in zip(leg.texts, leg.get_patches())} == {
        "kept": plot.KEPT,
        "inverted": plot.INVERTED,
        "hidden": plot.HIDDEN,
    }
    assert any("class 7" in a.get_title(loc="left") for a in f.axes)
    bars = next(a for a in f.axes if len(a.patches) == 64)
    np.testing.assert_allclose([b.get_height() for b in bars.patches], 100 * (net.masks()["dense1"] != 0).mean(1))
    all_kept = models.fcn(SignedSupermask(tau=0), np.random.default_rng(0), d.input_shape)
    all_kept.parameters()[0].data = np.ones((64, 300), np.float32)
    im = next(
        a.images[0] for a in plot.masks(all_kept, d).axes if a.images and a.images[0].get_array().shape == (300, 64)
    )
    assert to_hex(im.cmap(im.norm(1))) == plot.KEPT


def scaled(f):
    @op(register=False)
    def almost(xp, x):
        return xp.exp(x), lambda g: (g * xp.exp(x) * f,)

    return almost


def test_gradcheck_is_tight():
    x = np.random.default_rng(0).standard_normal((3, 4))
    gradcheck(scaled(1.0), x)
    for f in (1.0001, 1 - 1e-4):
        with pytest.raises(GradientError):
            gradcheck(scaled(f), x)

    @op(register=False)
    def tiny_fault(xp, x):
        return xp.exp(x) + 10, lambda g: (g * (xp.exp(x) + 5e-3 * (xp.arange(12).reshape(3, 4) == 5)),)

    with pytest.raises(GradientError):
        gradcheck(tiny_fault, x)


def test_gradcheck_refuses_nan():
    @op(register=False)
    def nan(xp, x):
        return xp.exp(x), lambda g: (g * np.nan,)

    with pytest.raises(GradientError):
        gradcheck(nan, np.ones(3))


def test_the_oracle_catches(torch):
    x = np.random.default_rng(0).standard_normal((3, 4))
    oracle.compare(ops.exp, torch.exp, [x])
    with pytest.raises(AssertionError, match="value"):
        oracle.compare(lambda t: ops.exp(t) + 1e-6, torch.exp, [x])
    with pytest.raises(AssertionError, match="gradient of input 0"):
        oracle.compare(scaled(1 + 1e-6), torch.exp, [x])

    @op(register=False)
    def blind(xp, x):
        y = ops.softmax(x).data
        return y, lambda g: (g * 0,)

    with pytest.raises(AssertionError):
        oracle.compare(blind, lambda t: torch.softmax(t, -1), [x])


def test_layouts_are_what_they_say():
    for want in (
        lambda a: not a.flags.writeable and 0 not in a.strides,
        lambda a: 0 in a.strides,
        lambda a: a.flags.f_contiguous and not a.flags.c_contiguous,
        lambda a: not a.flags.f_contiguous and not a.flags.c_contiguous,
    ):
        find(arrays((3, 4)), want)
