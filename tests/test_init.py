"""Initial weights: variance, bounds and two-pointedness of every scheme x distribution, dense and conv."""

import doctest
import math

import numpy as np
import pytest

from minimask import (
    UsageError,
    init,
)

# Variance by scheme, written out once more from the papers' formulas: dense (300, 200), conv 3x3 from 40 to 60.
VARIANCE = {((300, 200), "xavier"): 2 / 500, ((300, 200), "he"): 2 / 300,
            ((300, 200), "elu"): 1.5 / 300, ((300, 200), "elus"): 3 / 300,
            ((3, 3, 40, 60), "xavier"): 2 / 900, ((3, 3, 40, 60), "he"): 2 / 360,
            ((3, 3, 40, 60), "elu"): 1.5 / 360, ((3, 3, 40, 60), "elus"): 3 / 360}


@pytest.mark.parametrize(("shape", "scheme"), VARIANCE)
@pytest.mark.parametrize("distribution", init.DISTRIBUTIONS)
def test_second_moment_and_support(shape, scheme, distribution, rng):
    variance = VARIANCE[shape, scheme]
    w = init.draw(shape, rng, scheme, distribution).astype(np.float64)
    n = w.size
    assert w.shape == shape
    if distribution == "uniform":
        bound = math.sqrt(3 * variance)
        assert bound * 0.999 < np.abs(w).max() <= bound * (1 + 1e-6)
        assert abs(w.mean()) < 5 * math.sqrt(variance / n)
        assert np.mean(w**2) == pytest.approx(variance, rel=5 * math.sqrt(0.8 / n))  # Var(w^2) = 0.8 variance^2
    elif distribution == "normal":
        assert np.abs(w).max() > 3.5 * math.sqrt(variance)  # not truncated
        assert np.mean(w**2) == pytest.approx(variance, rel=5 * math.sqrt(2 / n))
    else:
        c = np.float32(math.sqrt(variance))
        expected = {c} if distribution == "constant" else {c, -c}
        assert set(np.unique(w.astype(np.float32))) == expected
        if distribution == "signed_constant":
            many = init.draw((1000, 1000), rng, scheme, distribution)
            assert abs(np.mean(many > 0) - 0.5) < 5 * 0.5 / 1000


def test_the_papers_constants():
    """METHOD: FCN's first layer, signed constant ELUS, is +-sqrt(3/784); scores are within sqrt(6/(784+300))."""
    rng = np.random.default_rng(0)
    assert np.abs(init.draw((784, 300), rng, "elus", "signed_constant")).max() == np.float32(math.sqrt(3 / 784))
    assert np.abs(init.draw((784, 300), rng, "xavier", "uniform")).max() <= np.float32(math.sqrt(6 / 1084))


def test_where_the_1_5_of_elu_comes_from(rng):
    """E[ELU(z)^2] = 0.64494 for z ~ N(0, 1), by quadrature; the paper rounds 1/0.64494 = 1.5505 to 1.5."""
    z = np.linspace(-12, 12, 2_000_001)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    moment = np.trapezoid(np.maximum(z, np.expm1(np.minimum(z, 0))) ** 2 * density, z)
    assert moment == pytest.approx(0.64494, abs=1e-5)
    assert init.elu((784, 300)) == 1.5 / 784 and init.elus((784, 300)) == 2 * init.elu((784, 300))


def test_factor_replaces_the_schemes_own(rng):
    w = init.draw((100, 10), rng, "elus", "constant", factor=2.6)
    assert np.all(w == np.float32(math.sqrt(2.6 / 100)))


def test_the_seed_decides():
    def draw(seed):
        return init.draw((20, 30), np.random.default_rng(seed), "elu", "normal")

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distribution", init.DISTRIBUTIONS)
@pytest.mark.parametrize("scheme", init.SCHEMES)
def test_dtype(scheme, distribution, dtype, rng):
    assert init.draw((4, 3), rng, scheme, distribution, dtype=dtype).dtype == dtype


@pytest.mark.parametrize(("arguments", "kind", "sentence"), [
    (dict(scheme="xaver"), UsageError, "unknown initialisation 'xaver': did you mean 'xavier'"),
    (dict(distribution="signed-constant"), UsageError, "unknown distribution .*did you mean 'signed_constant'"),
    (dict(rng=0), TypeError, "init: rng is a int, but must be a generator"),
    (dict(factor=0.0), ValueError, "factor is 0.0, but must be positive"),
    (dict(shape=(3,)), ValueError, r"init: shape \(3,\); needed is \(in, out\)"),
    (dict(shape=(0, 3)), ValueError, "all positive"),
])
def test_mistakes(arguments, kind, sentence, rng):
    with pytest.raises(kind, match=sentence):
        init.draw(**{"shape": (3, 4), "rng": rng, **arguments})


def test_the_docstrings_examples():
    assert doctest.testmod(init).attempted and not doctest.testmod(init).failed


def test_constant_draws_nothing():
    rng = np.random.default_rng(0)
    init.draw((3, 4), rng, "he", "constant")
    assert rng.random() == np.random.default_rng(0).random()


def test_factor_inf():
    with pytest.raises(ValueError):
        init.draw((3, 4), np.random.default_rng(0), factor=np.inf)
