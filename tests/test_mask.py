"""The keep/hide/invert step and the weight sources."""

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minimask import Tensor, UsageError, ops
from minimask.backend import to_host
from minimask.mask import SignedSupermask, Trained

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
