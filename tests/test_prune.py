"""Exact pruning: the same outputs, nothing left that could go, and the counts of what is left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import backend, export, models, nn, no_grad, prune
from minimask.mask import SignedSupermask
from minimask.prune import Fixed


def fixed(rng, shape, density, dtype):
    """A weight of random numbers where a random mask keeps them."""
    return Fixed(np.where(rng.random(shape) < density, rng.standard_normal(shape), 0).astype(dtype))


def chain(kind, density, seed, dtype="float64"):
    """A small net with random masks: dense layers, convolutions before them, or convolutions and a mean."""
    rng = np.random.default_rng(seed)

    def dense(inputs, outputs):
        return nn.Dense(inputs, outputs, fixed(rng, (inputs, outputs), density, dtype), rng, dtype)

    def conv(inputs, outputs):
        return nn.Conv2D(inputs, outputs, 3, fixed(rng, (3, 3, inputs, outputs), density, dtype), rng, dtype=dtype)

    if kind == "dense":
        return nn.Sequential([nn.Flatten(), dense(24, 12), nn.ELU(), dense(12, 9), nn.ReLU(), dense(9, 4)], (4, 3, 2))
    if kind == "plain rows":
        return nn.Sequential([dense(24, 12), nn.ELU(0.5), dense(12, 4)], (24,))
    convs = [conv(2, 7), nn.ELU(), conv(7, 6), nn.ELU(), nn.MaxPool2D(2), conv(6, 5), nn.ReLU()]
    end = [nn.GlobalAvgPool(), dense(5, 4)] if kind == "mean" else [nn.Flatten(), dense(20, 8), nn.ELU(), dense(8, 4)]
    return nn.Sequential([*convs, *end], (4, 4, 2))


KINDS = ("dense", "plain rows", "convs", "mean")


def outputs(net, seed=0, n=5):
    dtype = next(iter(export.dense_weights(net).values())).dtype
    x = np.random.default_rng(seed).standard_normal((n, *net.input_shape)).astype(dtype)
    with no_grad():
        return net(x).data


def assert_same(net, smaller, tolerance):
    a, b = outputs(net), outputs(smaller)
    assert a.shape == b.shape and a.dtype == b.dtype
    assert np.abs(a - b).max() <= tolerance * max(np.abs(a).max(), 1e-300)


@given(st.sampled_from(KINDS), st.one_of(st.floats(0, 1), st.floats(0, 0.15)), st.integers(0, 500),
       st.sampled_from([("float32", 1e-5), ("float64", 1e-12)]))
def test_the_outputs_stay_as_they_were(kind, density, seed, precision):
    dtype, tolerance = precision
    net = chain(kind, density, seed, dtype)
    smaller = prune.prune(net)
    assert_same(net, smaller, tolerance)
    before, after = prune.size(net), prune.size(smaller)
    assert after.units <= before.units and after.multiply_adds <= before.multiply_adds


def connections(net):
    """Per layer with weights: (inputs, outputs) booleans."""
    return [(w != 0).any(axis=tuple(range(w.ndim - 2))) for w in export.dense_weights(net).values()]


def on_a_path(net):
    """Per layer, which units lie on a path of weights from an input to an output, found path by path from both ends."""
    pairs = connections(net)
    spread = [1] * len(pairs)
    for i in range(1, len(pairs)):
        spread[i] = pairs[i].shape[0] // pairs[i - 1].shape[1]  # features of a channel
    reached, reaching = [np.ones(pairs[0].shape[0], bool)], [np.ones(pairs[-1].shape[1], bool)]
    for i, each in enumerate(pairs):
        reached.append((each & np.tile(reached[-1], spread[i])[:, None]).any(axis=0))
    for i in range(len(pairs) - 1, 0, -1):
        features = (pairs[i] & reaching[0]).any(axis=1)
        reaching.insert(0, features.reshape(spread[i], -1).any(axis=0))
    return [a & b for a, b in zip(reached[1:], reaching)]


@given(st.sampled_from(KINDS), st.floats(0, 0.3), st.integers(0, 500))
def test_exactly_the_units_on_a_path_from_input_to_output_are_left(kind, density, seed):
    net = chain(kind, density, seed)
    smaller = prune.prune(net)
    units = [w.shape[-1] for w in export.dense_weights(smaller).values()]
    expected = [max(1, int(alive.sum())) for alive in on_a_path(net)[:-1]]
    assert units == [*expected, 4]
    assert prune.size(prune.prune(smaller)) == prune.size(smaller)


def beside(layers, shape, seed=0):
    """A chain with units that no weight reaches, and other layers than the paper's beside them."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((4, 3))
    first[:, 1] = 0
    dense = [nn.Dense(*weight.shape, Fixed(weight), rng, "float64") for weight in (first, rng.standard_normal((3, 2)))]
    return nn.Sequential([dense[0], *layers, dense[1]], shape)


def shifted():
    bias = nn.Bias(3, "float64")
    bias.bias.data = np.array([0.5, -1.5, 2.0])
    return bias


#: Layers after which a unit that no weight reaches is no 0.
SHIFTS = {"bias": lambda: [shifted(), nn.ELU()], "sigmoid": lambda: [nn.Sigmoid()]}


@pytest.mark.parametrize("kind", SHIFTS)
def test_a_unit_that_no_weight_reaches_stays_where_it_is_no_zero(kind, monkeypatch):
    net = beside(SHIFTS[kind](), (4,))
    assert prune.prune(net) is net
    monkeypatch.setattr(prune, "KEEP_ZEROS", (*prune.KEEP_ZEROS, nn.Bias, nn.Sigmoid))  # what would come of it
    monkeypatch.setattr(nn.Bias, "__call__", lambda self, x, training=False: x + self.bias.data[[0, 2]][:x.shape[1]]
                        if x.shape[1] < 3 else x + self.bias.data)
    monkeypatch.setattr(nn.Bias, "output_shape", lambda self, shape: shape)
    smaller = prune.prune(net)
    assert prune.size(smaller).units < prune.size(net).units
    assert np.abs(outputs(net) - outputs(smaller)).max() > 0.1


def test_dropout_goes_and_what_keeps_zeros_is_pruned_beside_it():
    rng = np.random.default_rng(0)
    net = beside([nn.Tanh(), nn.Dropout(0.5, rng)], (4,))
    smaller = prune.prune(net)
    assert list(smaller.layers) == ["dense1", "tanh1", "dense2"] and prune.size(smaller).units == 4
    assert_same(net, smaller, 1e-15)
    kernel = Fixed(rng.standard_normal((1, 1, 4, 3)) * [1, 0, 1])
    net = nn.Sequential([nn.Conv2D(4, 3, 1, kernel, rng, dtype="float64"), nn.AvgPool2D(2), nn.Flatten(),
                         nn.Dense(3, 2, Fixed(rng.standard_normal((3, 2))), rng, "float64")], (2, 2, 4))
    assert prune.size(prune.prune(net)).units == 4
    assert_same(net, prune.prune(net), 1e-15)


def test_a_net_with_groups_stays_whole():
    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.GroupedConv2D(4, 4, 3, 4, SignedSupermask(tau_ratio=0.9), rng), nn.Flatten()], (2, 2, 4))
    assert prune.prune(net) is net


def test_a_chain_of_consequences_by_hand():
    """Unit 1 of the second layer has no output, so unit 1 of the first has none, and pixel 2 is read by nobody."""
    first = np.array([[1, 0, 0], [0, 2, 0], [0, 3, 0], [4, 0, 0]], float)  # unit 2 has no input
    second = np.array([[1, 0, 1], [0, 5, 0], [0, 0, 7]], float)
    third = np.array([[1, 0], [0, 0], [0, 2]], float)
    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.Dense(4, 3, Fixed(first), rng, "float64"), nn.ELU(), nn.Dense(3, 3, Fixed(second), rng, "float64"),
                         nn.ELU(), nn.Dense(3, 2, Fixed(third), rng, "float64")], (4,))
    smaller = prune.prune(net)
    weights = list(export.dense_weights(smaller).values())
    assert [w.tolist() for w in weights] == [[[1.0], [4.0]], [[1.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]]
    assert smaller.layers["take1"].places.tolist() == [0, 3] and repr(smaller.layers["take1"]) == "Take(2 of 4)"
    assert_same(net, smaller, 1e-15)
    assert prune.size(net) == prune.Size(8, 10, 4 * 3 + 3 * 3 + 3 * 2)
    assert prune.size(smaller) == prune.Size(5, 6, 2 * 1 + 1 * 2 + 2 * 2)


def test_features_behind_a_flatten_go_one_by_one_and_channels_whole():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((1, 1, 1, 3))
    dense = np.zeros((2 * 2 * 3, 2))
    dense[[0 * 3 + 0, 3 * 3 + 0, 2 * 3 + 2], [0, 1, 1]] = 1.5, 2.5, 3.5  # channel 1 is never read
    net = nn.Sequential([nn.Conv2D(1, 3, 1, Fixed(kernel), rng, dtype="float64"), nn.Flatten(),
                         nn.Dense(12, 2, Fixed(dense), rng, "float64")], (2, 2, 1))
    smaller = prune.prune(net)
    assert [w.shape for w in export.dense_weights(smaller).values()] == [(1, 1, 1, 2), (3, 2)]
    assert smaller.layers["take1"].places.tolist() == [0, 5, 6]  # of 2 x 2 x 2: what was 0, 8 and 9 of 2 x 2 x 3
    assert_same(net, smaller, 1e-15)


@pytest.mark.parametrize("name", ["fcn", "conv2", "conv6"])
def test_the_papers_nets_at_their_densities(name):
    """Random masks at the shares of weights that the paper leaves (3.8, 0.6 and 2.4 %); float32."""
    ratio = {"fcn": 0.962, "conv2": 0.994, "conv6": 0.976}[name]
    options = {} if name == "fcn" else {"input_shape": (16, 16, 3)}
    net = models.MODELS[name](weights=SignedSupermask(tau_ratio=ratio), rng=np.random.default_rng(0), **options)
    smaller = prune.prune(net)
    assert_same(net, smaller, 1e-5)
    assert prune.size(smaller).multiply_adds < prune.size(net).multiply_adds
    assert list(smaller.shapes.values())[-1] == (10,)


def test_a_net_with_nothing_left_gives_zeros():
    for name in ("fcn", "conv2"):
        net = models.MODELS[name](weights=SignedSupermask(tau=9.0), rng=np.random.default_rng(0), input_shape=(8, 8, 1))
        smaller = prune.prune(net)
        assert not outputs(smaller).any() and outputs(smaller).shape == (5, 10)
        assert prune.size(smaller).weights == 0 and min(w.size for w in export.dense_weights(smaller).values()) > 0


def test_residual_nets_are_left_as_they_are():
    net = models.resnet20(weights=SignedSupermask(tau=0.1), rng=np.random.default_rng(0), norm="stem")
    assert prune.prune(net) is net
    assert prune.size(net).multiply_adds > 64 * 10 + 32 * 32 * 27 * 16  # the blocks inside count, too


def test_batch_norm_shifts_zeros_so_nets_with_it_are_left_as_they_are():
    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.Dense(6, 4, fixed(rng, (6, 4), 0.3, "float32"), rng), nn.BatchNorm(4), nn.ELU(),
                         nn.Dense(4, 2, fixed(rng, (4, 2), 0.3, "float32"), rng)], (6,))
    assert prune.prune(net) is net


def test_take_names_features_of_another_number():
    take = prune.Take(4, np.array([0, 3]))
    assert take.output_shape((4,)) == (2,)
    with pytest.raises(ValueError, match=r"Take: one sample has shape \(5,\), but \(4,\) is needed"):
        take.output_shape((5,))


def test_multiply_adds_of_the_papers_nets():
    rng = np.random.default_rng(0)
    assert prune.size(models.fcn(SignedSupermask(), rng)).multiply_adds == 266_200
    conv2 = models.conv2(weights=SignedSupermask(), rng=rng)
    assert prune.size(conv2).multiply_adds == 1024 * (27 * 64 + 576 * 64) + 16384 * 256 + 256 * 256 + 2560
    assert prune.size(conv2).units == 64 + 64 + 256 + 256 + 10


def test_a_pruned_net_lives_where_the_net_lived():
    net = models.fcn(SignedSupermask(tau=0.05), np.random.default_rng(0), (8, 8, 1), (9, 5, 4), backend="strict")
    smaller = prune.prune(net)
    x = np.random.default_rng(1).standard_normal((3, 8, 8, 1)).astype(np.float32)
    with no_grad():
        a, b = (each(backend.asarray(x, net.parameters()[0].data)).data for each in (net, smaller))
    assert backend.namespace(b).__name__ == "array_api_strict"
    assert np.allclose(backend.to_host(a), backend.to_host(b), rtol=1e-5, atol=1e-6)


def test_the_net_itself_is_not_touched():
    net = chain("convs", 0.2, 3)
    before = {name: w.copy() for name, w in export.dense_weights(net).items()}
    prune.prune(net)
    for name, weight in export.dense_weights(net).items():
        assert np.array_equal(weight, before[name]) and net.layers[name].shape == weight.shape
