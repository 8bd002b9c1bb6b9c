"""Layers, nets and the FCN: counts, names, printing, gradients through a whole net, saving and loading."""

import doctest

import numpy as np
import pytest

from minimask import (
    MinimaskError,
    Tensor,
    UsageError,
    models,
    nn,
    ops,
    optim,
)
from minimask.mask import SignedSupermask, Supermask, Trained
from minimask.testing import gradcheck


def net_of(weights, rng, **options):
    return models.fcn(**{"weights": weights, "rng": rng, "input_shape": (3, 3, 2), "units": (6, 5, 4), **options})


def test_fcn_has_the_papers_weights(rng):
    for weights in (SignedSupermask(), Trained()):
        net = models.fcn(weights=weights, rng=rng)
        assert net.size() == 266_200
        assert [p.size for p in net.parameters()] == [235_200, 30_000, 1_000]
        assert [p.shape for p in net.parameters()] == [(784, 300), (300, 100), (100, 10)]


def test_counts_are_integers_and_complete(rng):
    net = models.fcn(weights=SignedSupermask(tau=0.01), rng=rng)
    assert [sum(c) for c in net.counts()] == [235_200, 30_000, 1_000]
    assert all(type(n) is int for c in net.counts() for n in c)
    assert net.weights_left() == sum(c[0] + c[2] for c in net.counts()) / 266_200
    dense = models.fcn(weights=Trained(), rng=rng)
    assert dense.counts() == [] and dense.weights_left() == 1.0


def test_parameters_come_in_order_and_frozen_weights_apart(rng):
    net = net_of(SignedSupermask(tau=0.02), rng)
    assert list(net.named_parameters()) == ["dense1.scores", "dense2.scores", "dense3.scores"]
    assert list(net.state()) == [f"dense{i}.{part}" for i in (1, 2, 3) for part in ("frozen", "tau")]
    assert list(net_of(Trained(), rng).named_parameters()) == ["dense1.weight", "dense2.weight", "dense3.weight"]
    assert list(net.layers) == ["flatten1", "dense1", "elu1", "dense2", "elu2", "dense3"]


def test_print_shows_shapes_and_counts(rng):
    text = repr(models.fcn(weights=SignedSupermask(), rng=rng))
    assert text.splitlines()[3].split() == ["dense1", "Dense(784,", "300)", "n", "x", "300", "235,200", "235,200",
                                            "scores", "235,200"]
    assert text.splitlines()[-1].startswith("266,200 weights, 8")
    assert repr(nn.Sequential([nn.Flatten(), nn.ReLU(), nn.ELU(0.5)], (2, 2))).splitlines()[-2].split()[:2] == [
        "elu1", "ELU(alpha=0.5)"]


def test_forward_is_what_one_would_write_by_hand(rng):
    net = net_of(SignedSupermask(tau=0.1), rng, dtype="float64")
    x = rng.standard_normal((7, 3, 3, 2))
    h = x.reshape(7, 18)
    for i, (frozen, mask) in enumerate(zip([s.frozen for s in net.weights().values()], net.masks().values())):
        h = h @ (frozen * mask)
        h = np.where(h > 0, h, np.expm1(h)) if i < 2 else h
    np.testing.assert_allclose(net(x).data, h, rtol=1e-12)


@pytest.mark.parametrize("weights", [Trained(), Trained(init="he", distribution="normal")])
def test_gradient_of_a_whole_net(weights, rng):
    net = net_of(weights, rng, dtype="float64")
    x, labels = rng.standard_normal((5, 3, 3, 2)), rng.integers(0, 4, 5)
    sources = list(net.weights().values())

    def loss(images, *values):
        for source, value in zip(sources, values):
            source.weight = value
        return ops.cross_entropy(net(images), labels)

    gradcheck(loss, x, *[p.data.copy() for p in net.parameters()])


def test_score_gradients_of_a_whole_net_follow_the_rule(rng):
    """dL/dm = dL/dW_eff * W in every layer, with dL/dW_eff taken from a dense net with the same weights."""
    net = net_of(SignedSupermask(tau=0.1), rng, dtype="float64")
    dense = net_of(Trained(), rng, dtype="float64")
    for source, twin in zip(net.weights().values(), dense.weights().values()):
        twin.weight.data = source.frozen * source.mask()
    x, labels = rng.standard_normal((5, 3, 3, 2)), rng.integers(0, 4, 5)
    for each in (net, dense):
        ops.cross_entropy(each(x), labels).backward()
    for p, q, source in zip(net.parameters(), dense.parameters(), net.weights().values()):
        np.testing.assert_allclose(p.grad, q.grad * source.frozen, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("weights", [Trained(), SignedSupermask()])
def test_float32_stays_float32_through_net_loss_and_step(weights, rng):
    net = net_of(weights, rng)
    loss = ops.cross_entropy(net(rng.standard_normal((5, 3, 3, 2)).astype(np.float32)), rng.integers(0, 4, 5))
    loss.backward()
    optimizer = optim.SGDW(net.parameters(), lr=0.1, wd=1e-3)
    optimizer.step()
    arrays = [loss.data, *[p.data for p in net.parameters()], *[p.grad for p in net.parameters()], *optimizer.velocity,
              *[a for a in net.state().values() if hasattr(a, "dtype")]]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


def test_arrays_and_load_make_an_equal_net(rng):
    net, other = net_of(SignedSupermask(), rng), net_of(SignedSupermask(), rng)
    x = rng.standard_normal((2, 3, 3, 2)).astype(np.float32)
    assert not np.array_equal(net(x).data, other(x).data)
    other.load(net.arrays())
    np.testing.assert_array_equal(net(x).data, other(x).data)
    other.parameters()[0].data *= 2  # what was loaded is a copy
    assert not np.array_equal(net.arrays()["dense1.scores"], other.arrays()["dense1.scores"])


def test_load_checks_before_it_changes(rng):
    net = net_of(SignedSupermask(), rng)
    before = net.arrays()
    wrong = {"missing": {k: v for k, v in before.items() if k != "dense3.tau"},
             "unknown": {**before, "dense9.scores": np.ones(1)},
             "dense3.scores is": {**before, "dense1.scores": before["dense1.scores"] + 1,
                                  "dense3.scores": np.ones((2, 2), np.float32)},
             "float64, but": {**before, "dense1.scores": before["dense1.scores"].astype(np.float64)}}
    for sentence, arrays in wrong.items():
        with pytest.raises(MinimaskError, match=sentence):
            net.load(arrays)
        assert all(np.array_equal(a, b) for a, b in zip(net.arrays().values(), before.values()))


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda rng: net_of(Trained(), rng)(np.ones((3, 3, 2))), r"net: the input is \(3, 3, 2\), but \(n, 3, 3, 2\) is needed"),
    (lambda rng: nn.Sequential([nn.Dense(4, 2, Trained(), rng)], (2, 2)), r"Dense: one sample has shape \(2, 2\)"),
    (lambda rng: net_of(Trained(), rng, units=()), "units"),
    (lambda rng: net_of(Trained(), rng, units=(3, 0)), "must be positive"),
])
def test_mistakes(call, sentence, rng):
    with pytest.raises(ValueError, match=sentence):
        call(rng)


def test_a_layer_that_is_used_twice_is_trained_once(rng):
    layer = nn.Dense(4, 4, Trained(), rng)
    net = nn.Sequential([layer, nn.ELU(), layer], (4,))
    assert len(net.parameters()) == 1 and net.size() == 16 and list(net.named_parameters()) == ["dense1.weight"]


def test_a_weight_source_without_its_brackets_is_named(rng):
    with pytest.raises(UsageError, match="Dense: weights is <class .*SignedSupermask.*with its brackets"):
        net_of(SignedSupermask, rng)


def test_a_method_of_ones_own_needs_a_step_and_nothing_else(rng):
    """What mask.py promises: keep or hide, by a subclass with one method; and a source with a parameter more."""
    class KeepOrHide(Supermask):
        def step(self, scores):
            return scores.keep_hide_invert(0.05).maximum(0.0)

    net = net_of(KeepOrHide(), rng)
    kept, hidden, inverted = net.counts()[0]
    assert inverted == 0 and kept > 0 and kept + hidden == 18 * 6

    class Scaled(SignedSupermask):
        def draw(self, *arguments):
            drawn = super().draw(*arguments)
            drawn.scale = Tensor(np.ones(1, np.float32), requires_grad=True)
            return drawn

        def effective(self):
            return super().effective() * self.scale

        def parameters(self):
            return {**super().parameters(), "scale": self.scale}

    net = net_of(Scaled(), rng)
    assert net.size() == 18 * 6 + 6 * 5 + 5 * 4 and sum(map(sum, net.counts())) == net.size()
    net.load(net.arrays())


def test_the_docstrings_examples():
    assert doctest.testmod(models).attempted and not doctest.testmod(models).failed


def test_activation_layers_compute():
    x = Tensor(np.array([[-1.0, 2.0]]))
    np.testing.assert_allclose(nn.ELU(0.5)(x).data, [[0.5 * np.expm1(-1), 2]])
    np.testing.assert_array_equal(nn.ReLU()(x).data, [[0, 2]])


def test_repr_tells_frozen_from_trained():
    rows = repr(models.fcn(Trained(), np.random.default_rng(0))).splitlines()
    assert rows[3].split()[-2:] == ["235,200", "0"]
