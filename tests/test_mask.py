"""The keep/hide/invert step, its relatives and the weight sources."""

from contextlib import nullcontext

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minimask import (
    Tensor,
    UsageError,
    init,
    models,
    ops,
    plain,
)
from minimask.backend import to_host
from minimask.mask import BinarySupermask, EdgePopup, SignedSupermask, Trained

EDGES = [0.5, -0.5, np.nextafter(np.float32(0.5), np.float32(1)), -np.nextafter(np.float32(0.5), np.float32(1)), 0.0, -0.0]


def test_the_threshold_is_strict():
    """|m| == tau is hidden; the next float beyond is not."""
    s = ops.keep_hide_invert(np.array(EDGES, np.float32), 0.5)
    np.testing.assert_array_equal(s.data, [0, 0, 1, -1, 0, 0])
    assert s.dtype == np.float32


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3),
                  elements=st.floats(-2, 2, width=32)), st.floats(0, 1.5, width=32))
def test_the_mask_is_exact_and_follows_its_definition(m, tau):
    s = ops.keep_hide_invert(m, tau).data
    np.testing.assert_array_equal(s, np.where(np.abs(m) > np.float32(tau), np.sign(m), 0))
    assert set(np.unique(s)) <= {-1.0, 0.0, 1.0}


def test_the_textbook_trick_is_not_exact():
    """Why the step is an op: hard + (m - m) with stop_gradient rounds; about a fifth of the entries are off."""
    m = np.random.default_rng(0).uniform(-0.1, 0.1, 100_000).astype(np.float32)
    hard = np.where(np.abs(m) > 0.01, np.sign(m), 0).astype(np.float32)
    trick = (hard + m) - m
    off = np.mean(trick[hard != 0] != hard[hard != 0])
    assert 0.05 < off < 0.5 and np.abs(trick - hard).max() < 1e-7
    np.testing.assert_array_equal(ops.keep_hide_invert(m, 0.01).data, hard)


def test_the_declared_gradient_reaches_every_entry():
    """dL/dm := dL/ds, for hidden entries too."""
    m = Tensor(np.array([0.9, 0.001, -0.9]), requires_grad=True)
    g = np.array([2.0, 3.0, 5.0])
    ops.keep_hide_invert(m, 0.01).backward(g)
    np.testing.assert_array_equal(m.grad, g)


def test_score_gradient_is_the_weights_gradient_times_the_frozen_weight(rng):
    """METHOD section 1: dL/dm = dL/dW_eff * W."""
    source = SignedSupermask(tau=0.01).draw((5, 4), rng, dtype="float64")
    g = rng.standard_normal((5, 4))
    source.effective().backward(g)
    np.testing.assert_array_equal(source.scores.grad, g * source.frozen)


@pytest.mark.parametrize("shape", [(30, 20), (3, 3, 4, 5)])
def test_effective_weights_are_zero_or_plus_or_minus_the_frozen_ones(shape, rng):
    source = SignedSupermask(frozen="he", frozen_distribution="normal", tau=0.1).draw(shape, rng)
    w, s = source.effective().data, source.mask()
    assert np.array_equal(w, source.frozen * s) and s.dtype == np.int8 and set(np.unique(s)) == {-1, 0, 1}
    assert np.array_equal(np.abs(w)[s != 0], np.abs(source.frozen)[s != 0]) and np.all(w[s == 0] == 0)
    kept, hidden, inverted = source.counts()
    assert all(type(n) is int for n in source.counts())
    assert (kept, hidden, inverted) == ((s == 1).sum(), (s == 0).sum(), (s == -1).sum())
    assert kept + hidden + inverted == source.frozen.size


def test_the_two_threshold_rules(rng):
    assert SignedSupermask().draw((8, 8), rng).tau == 0.01
    assert SignedSupermask(tau=0.2).draw((8, 8), rng).tau == 0.2
    source = SignedSupermask(tau_ratio=0.4).draw((80, 60), rng)
    assert source.tau == pytest.approx(0.4 * np.abs(source.scores.data).max(), rel=1e-7)
    source.scores.data *= 2.0
    assert source.tau == pytest.approx(0.2 * np.abs(source.scores.data).max(), rel=1e-6)  # fixed once, at the start
    kept, hidden, inverted = SignedSupermask(tau_ratio=0.4).draw((400, 300), rng).counts()
    assert hidden / 120_000 == pytest.approx(0.4, abs=0.01)  # uniform scores: 40 % lie below 40 % of the largest


def test_a_template_gives_every_layer_arrays_of_its_own(rng):
    template = SignedSupermask()
    a, b = template.draw((4, 4), rng), template.draw((4, 4), rng)
    assert not np.array_equal(a.scores.data, b.scores.data)
    with pytest.raises(UsageError, match="template without arrays; call draw"):
        template.effective()
    with pytest.raises(UsageError, match="template"):
        Trained().parameters()


def test_trained(rng):
    source = Trained().draw((200, 100), rng)
    assert source.effective() is source.parameters()["weight"] and source.counts() is None and source.state() == {}
    assert np.abs(source.effective().data).max() <= np.float32(np.sqrt(4.5 / 200))


@pytest.mark.parametrize(("arguments", "sentence"), [
    (dict(tau=0.01, tau_ratio=0.4), "two rules; give one"),
    (dict(tau=-1.0), "tau is -1.0, but a threshold"),
    (dict(tau=float("nan")), "tau is nan"),
    (dict(tau_ratio=1.0), r"tau_ratio is 1.0, but must lie in \[0, 1\)"),
])
def test_mistakes(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        SignedSupermask(**arguments)


def test_one_seed_gives_the_same_weights_in_every_library():
    here = SignedSupermask().draw((6, 5), np.random.default_rng(7))
    there = SignedSupermask().draw((6, 5), np.random.default_rng(7), backend="strict")
    assert isinstance(there.frozen, type(strict.ones(1)))
    np.testing.assert_array_equal(here.frozen, to_host(there.frozen))
    np.testing.assert_array_equal(here.scores.data, to_host(there.scores.data))
    np.testing.assert_array_equal(here.mask(), there.mask())


# ---- the relatives ---------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3), elements=st.floats(-2, 2, width=32)),
       st.floats(0, 1.5, width=32))
def test_a_binary_mask_keeps_what_lies_above_tau_and_inverts_nothing(m, tau):
    s = ops.keep_hide(m, tau)
    np.testing.assert_array_equal(s.data, np.where(m > np.float32(tau), 1, 0))
    assert s.dtype == m.dtype


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
                  elements=st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])), st.floats(0, 1))
def test_keep_largest_keeps_exactly_k_and_the_first_of_those_that_tie(m, share):
    k = round(share * m.size)
    order = sorted(range(m.size), key=lambda i: (-abs(m.flat[i]), i))  # METHOD section 8, word by word
    expected = np.zeros(m.size)
    expected[order[:k]] = 1
    for version in (nullcontext(), plain()):
        with version:
            s = ops.keep_largest(m, share)
        np.testing.assert_array_equal(s.data.ravel(), expected)
        assert s.dtype == m.dtype and s.shape == m.shape and s.data.sum() == k


def test_keep_largest_is_the_same_with_and_without_a_full_sort(rng):
    m = rng.uniform(-1, 1, (300, 100)).astype(np.float32)
    for share in (0.001, 0.1, 0.5, 0.999):
        with plain():
            expected = ops.keep_largest(m, share).data
        np.testing.assert_array_equal(ops.keep_largest(m, share).data, expected)
    there = ops.keep_largest(strict.asarray(m), 0.1)
    np.testing.assert_array_equal(to_host(there.data), ops.keep_largest(m, 0.1).data)


def test_the_declared_gradients_of_the_relatives():
    """Binary: dL/dm := dL/ds. EdgePopup: dL/dm := sign(m) dL/ds, hidden entries too."""
    values, g = np.array([0.9, 0.001, -0.9, -0.001, 0.0]), np.array([2.0, 3.0, 5.0, 7.0, 11.0])
    m = Tensor(values, requires_grad=True)
    ops.keep_hide(m, 0.01).backward(g)
    np.testing.assert_array_equal(m.grad, g)
    m = Tensor(values, requires_grad=True)
    ops.keep_largest(m, 0.2).backward(g)
    np.testing.assert_array_equal(m.grad, [2.0, 3.0, -5.0, -7.0, 0.0])


def test_sources_count_what_they_keep(rng):
    binary = BinarySupermask(tau=0.05).draw((30, 20), rng)
    kept, hidden, inverted = binary.counts()
    assert kept == np.count_nonzero(binary.scores.data > np.float32(0.05)) and (hidden, inverted) == (600 - kept, 0)
    for share in (0.0, 0.1, 0.5, 1.0):
        assert EdgePopup(share=share).draw((30, 20), rng).counts() == (round(600 * share), 600 - round(600 * share), 0)


def test_a_binary_mask_with_a_ratio_has_a_threshold_per_layer(rng):
    source = BinarySupermask(tau_ratio=0.4)
    drawn = [source.draw((30, n), rng) for n in (20, 5)]
    assert all(d.tau == 0.4 * float(np.abs(d.scores.data).max()) for d in drawn) and drawn[0].tau != drawn[1].tau


@pytest.mark.parametrize(("make", "message"), [
    (lambda: EdgePopup(share=1.5), "EdgePopup: share is 1.5"),
    (lambda: EdgePopup(share=-0.1), "EdgePopup: share is -0.1"),
    (lambda: BinarySupermask(tau=-1), "BinarySupermask: tau is -1"),
    (lambda: BinarySupermask(tau=0.1, tau_ratio=0.4), "two rules"),
    (lambda: ops.keep_largest(np.ones(3), 1.1), "keep_largest: share is 1.1"),
    (lambda: ops.keep_largest(np.ones(3), float("nan")), "keep_largest: share is nan"),
    (lambda: ops.keep_hide(np.ones(3), -0.1), "keep_hide: tau is -0.1"),
    (lambda: ops.keep_hide(np.ones(3), float("nan")), "keep_hide: tau is nan")])
def test_mistakes_with_the_relatives(make, message):
    with pytest.raises((UsageError, ValueError), match=message):
        make()


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
