"""Shrinking in training: which units are dead for ever, and that training without them is the same training."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimask import MinimaskError, UsageError, checkpoint, data, nn, ops, optim, recipes, runs, shrink, train
from minimask.engine import Tensor
from minimask.layers import Bias, Dropout, GroupedConv2D, Sigmoid, Tanh
from minimask.loop import Training
from minimask.mask import BinarySupermask, EdgePopup, SignedSupermask, Trained
from minimask.resnet import AvgPool2D, BatchNorm, GlobalAvgPool, Residual

TAU, MU = 0.05, 0.9


class Shift(nn.Layer):
    """A bias: what a layer of one's own may be."""

    def __call__(self, x, training=False):
        return x + 0.5


def net_of(kind, rng, source=None, dtype="float64"):
    """A small net with a link or two: by kind, dense layers, convolutions before them, or what forbids to leave out."""
    source = source or SignedSupermask(tau=TAU)

    def dense(inputs, outputs):
        return nn.Dense(inputs, outputs, source, rng, dtype)

    def conv(inputs, outputs, kernel=3):
        return nn.Conv2D(inputs, outputs, kernel, source, rng, dtype=dtype)

    twice = nn.Dense(9, 9, source, rng, dtype)
    block = Residual([conv(4, 6), nn.ELU(), conv(6, 4)])
    layers, shape = {
        "mean of windows": ([conv(2, 6), Tanh(), AvgPool2D(2), nn.Flatten(), dense(24, 4)], (4, 4, 2)),
        "own bias": ([dense(24, 12), Bias(12, dtype), nn.ELU(), dense(12, 4)], (24,)),
        "sigmoid": ([dense(24, 12), Sigmoid(), dense(12, 4)], (24,)),
        "dropout": ([dense(24, 12), nn.ELU(), Dropout(0.5, np.random.default_rng(0)), dense(12, 4)], (24,)),
        "groups": ([conv(2, 6), nn.ELU(), GroupedConv2D(6, 6, 3, 6, source, rng, dtype=dtype), nn.Flatten(),
                    dense(96, 4)], (4, 4, 2)),
        "dense": ([nn.Flatten(), dense(24, 12), nn.ELU(), dense(12, 9), nn.ReLU(), dense(9, 4)], (4, 3, 2)),
        "plain rows": ([dense(24, 12), nn.ELU(0.5), dense(12, 4)], (24,)),
        "convs": ([conv(2, 7), nn.ELU(), conv(7, 5), nn.MaxPool2D(2), nn.ELU(), nn.Flatten(), dense(20, 8), nn.ELU(),
                   dense(8, 4)], (4, 4, 2)),
        "mean": ([conv(2, 6), nn.ELU(), GlobalAvgPool(), dense(6, 4)], (4, 4, 2)),
        "block": ([conv(2, 4), nn.ELU(), block, nn.MaxPool2D(2), nn.Flatten(), dense(16, 4)], (4, 4, 2)),
        "bias": ([dense(24, 12), Shift(), nn.ELU(), dense(12, 4)], (24,)),
        "batch norm": ([conv(2, 6), BatchNorm(6, dtype=dtype), nn.ELU(), nn.Flatten(), dense(96, 4)], (4, 4, 2)),
        "used twice": ([dense(24, 9), nn.ELU(), twice, nn.ELU(), twice, nn.ELU(), dense(9, 4)], (24,)),
    }[kind]
    return nn.Sequential(layers, shape)


KINDS = ("dense", "plain rows", "convs", "mean", "mean of windows", "block")


def sources(net):
    return {name: (layer, layer.weight) for name, layer in net.walk() if layer.weight is not None}


def dying(kind, seed, share=0.5, source=None, dtype="float64", wd=0.01, edge=1.0):
    """A net and its optimizer in the middle of training, units of every layer but the last dead for ever, or almost.

    `edge`: how near to its bound a dead unit's weights are; above 1 they are beyond it, and their masks still 0.
    """
    rng = np.random.default_rng(seed)
    net = net_of(kind, rng, source, dtype)
    optimizer = optim.SGDW(net.parameters(), lr=0.1, wd=wd, momentum=MU, schedule=optim.exponential(0.9, 7))
    optimizer.steps = int(rng.integers(20))
    velocity = {id(p): v for p, v in zip(optimizer.parameters, optimizer.velocity)}
    layers = sources(net)
    for _, source in layers.values():
        if isinstance(source, (SignedSupermask, BinarySupermask)):
            source.scores.data[...] = rng.uniform(-3 * TAU, 3 * TAU, source.scores.shape)
            velocity[id(source.scores)][...] = rng.normal(0, TAU / 5, source.scores.shape)
    for layer in net.layers.values():
        for tensor in [layer.shift] if isinstance(layer, BatchNorm) else [layer.bias] if isinstance(layer, Bias) else []:
            tensor.data[...] = rng.normal(0, 1, tensor.shape)
    order = list(layers)
    for made, read in itertools.pairwise(order):
        shape, after = layers[made][0].shape, layers[read][0].shape
        units = np.flatnonzero(rng.random(shape[-1]) < share)
        inputs = [i for i in range(after[-2]) if i % shape[-1] in units]
        for source, index in ((layers[made][1], (..., units)), (layers[read][1], (..., inputs, slice(None)))):
            count = source.scores.data[index].shape
            part = rng.random(count)  # of the bound: the score's; the velocity has the rest
            sign = rng.choice([-1, 1], (2, *count))
            reach = edge * TAU * (1 - 1e-9) if dtype == "float64" else edge * TAU * 0.999
            source.scores.data[index] = sign[0] * np.minimum(part * reach, TAU * 0.999)
            velocity[id(source.scores)][index] = sign[1] * (1 - part) * reach * (1 - MU) / MU**2
    return net, optimizer


def batch_for(net, seed):
    rng = np.random.default_rng(seed)
    dtype = net.parameters()[0].dtype
    return rng.normal(0, 1, (6, *net.input_shape)).astype(dtype), rng.integers(0, 4, 6)


def steps(net, optimizer, count, seed=0):
    for i in range(count):
        x, labels = batch_for(net, (seed, i))
        loss = ops.cross_entropy(net(x, training=True), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def state(net, optimizer):
    return {**{name: a for name, a in net.arrays().items() if a.ndim}, **{f"optimizer.{k}": np.array(v) for k, v in optimizer.slots().items()}}


def shrunk(net, optimizer):
    out = {name: units for name, units in shrink.dead(net, optimizer).items() if units.any()}
    return shrink.Shrunk(net, optimizer, out, optimizer.steps) if out else None


def distance(kind, seed, count, **choices):
    """How far training the shrunk net ends from training the whole, as a share of the largest entry; None: nothing out.

    inf where a mask that was left out is not 0 when it is back.
    """
    (whole, by), (net, optimizer) = (dying(kind, seed, **choices) for _ in range(2))
    small = shrunk(net, optimizer)
    if small is None:
        return None
    steps(whole, by, count, seed)
    steps(small.net, small.optimizer, count, seed)
    before = state(small.net, small.optimizer)
    small.settle()
    after, expected = state(net, optimizer), state(whole, by)
    assert optimizer.steps == by.steps and set(before) == set(after) == set(expected)
    if not all(np.array_equal(small.net.masks()[name], mask) for name, mask in net.masks().items()):
        return np.inf
    return max(np.abs(after[name] - expected[name]).max() / max(np.abs(expected[name]).max(), 1e-300) for name in expected)


@given(st.sampled_from(KINDS), st.integers(0, 10_000), st.floats(0, 1), st.booleans(), st.sampled_from([0.0, 0.01, 0.5]))
def test_a_step_without_the_dead_is_the_step_of_the_whole_net(kind, seed, share, binary, wd):
    source = BinarySupermask(tau=TAU) if binary else SignedSupermask(tau=TAU)
    far = distance(kind, seed, 1, share=share, source=source, wd=wd)
    assert far is None or far < 1e-12


@settings(max_examples=30)
@given(st.sampled_from(KINDS), st.integers(0, 10_000))
def test_so_are_many_steps_under_a_falling_schedule(kind, seed):
    far = distance(kind, seed, 20)
    assert far is None or far < 1e-11


@pytest.mark.parametrize("kind, made", [("dense", ["dense1", "dense2"]), ("plain rows", ["dense1"]), ("mean", ["conv2d1"]),
                                        ("convs", ["conv2d1", "conv2d2", "dense1"]), ("block", ["residual1.conv2d1"]),
                                        ("mean of windows", ["conv2d1"]), ("bias", []), ("own bias", []),
                                        ("batch norm", []), ("sigmoid", []), ("dropout", []), ("groups", []),
                                        ("used twice", [])])
def test_where_units_may_be_left_out_and_that_some_are(kind, made):
    net, optimizer = dying(kind, 3)
    assert [link.made for link in shrink.links(net, optimizer)] == made
    found = shrink.dead(net, optimizer)
    assert list(found) == made and all(units.any() and not units.all() for units in found.values())


def test_what_is_not_known_to_be_safe_is_left_alone():
    class Mine(optim.SGDW):
        pass

    class Wider(nn.Sequential):
        pass

    class Other(SignedSupermask):
        pass

    net, optimizer = dying("dense", 0)
    assert shrink.dead(net, optimizer)
    parameters = net.parameters()
    for other in (optim.SGD(parameters, 0.1), Mine(parameters, 0.1), optim.SGDW(parameters[:2], 0.1),
                  optim.SGDW([*parameters, Tensor(np.ones(3), requires_grad=True)], 0.1)):
        assert shrink.links(net, other) == [] and shrink.dead(net, other) == {}
    wider = Wider(net.layers.values(), net.input_shape)
    assert shrink.dead(wider, optimizer) == {}
    for source in (Trained(), EdgePopup(share=0.1), Other(tau=TAU)):
        rng = np.random.default_rng(0)
        other = net_of("dense", rng, source)
        assert shrink.dead(other, optim.SGDW(other.parameters(), 0.1)) == {}
    first, second = net.layers["dense1"], net.layers["dense3"]
    tied = nn.Sequential([nn.Flatten(), first, nn.ELU(), net.layers["dense2"], nn.ReLU(), second], net.input_shape)
    second.weight.scores = first.weight.scores  # of two layers, one tensor: which no optimizer has twice
    assert shrink.dead(tied, optim.SGDW([first.weight.scores, net.layers["dense2"].weight.scores], 0.1)) == {}


def test_at_least_one_unit_stays():
    for kind in KINDS:
        assert distance(kind, 0, 3, share=1.0) < 1e-12
        net, optimizer = dying(kind, 0, share=1.0)
        small = shrunk(net, optimizer)
        assert all(units.all() for units in small.out.values()) and min(s.scores.size for _, s in small.net.sources.values()) > 0


def stirred(kind, seed, count=5, **choices):
    """The largest gradient of a score next to a unit that is called dead for ever, in steps of the whole net."""
    net, optimizer = dying(kind, seed, **choices)
    found, layers, largest = shrink.dead(net, optimizer), sources(net), 0.0
    order = list(layers)
    for i in range(count):
        steps(net, optimizer, 1, 100 * seed + i)
        for made, units in found.items():
            read = order[order.index(made) + 1]
            inputs = units[np.arange(layers[read][0].shape[-2]) % len(units)]
            largest = max(largest, np.abs(layers[made][1].scores.grad[..., units]).max(initial=0),
                          np.abs(layers[read][1].scores.grad[..., inputs, :]).max(initial=0))
    return largest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_the_dead_not_the_smallest(kind, dtype):
    assert all(stirred(kind, seed, dtype=dtype) == 0 for seed in range(5))


# ---- planted faults ------------------------------------------------------------------------------------------------


def without_momentum(source, velocity, momentum):
    return shrink.SPEAKS[type(source)](source.scores.data) <= source.tau


def one_side(into, out_of):
    return into.all(axis=tuple(range(into.ndim - 1)))


def the_other_side(into, out_of):
    units = into.shape[-1]
    return out_of.all(axis=(*range(out_of.ndim - 2), out_of.ndim - 1)).reshape(-1, units).all(axis=0)


def places_innermost(inputs, units):
    return np.arange(inputs) // (inputs // units)


def gradient_forgotten(optimizer, start, stop, dtype, decay=shrink.decay):
    return decay(optimizer, start, stop, dtype)[0], 0.0, 0.0


def far(**choices):
    return max((each for each in (distance("dense", seed, 40, **choices) for seed in range(5)) if each is not None), default=0.0)


def far_in_convs():
    return max(distance("convs", seed, 5, share=0.8) or 0.0 for seed in range(10))


def half_dead(side):
    """distance() for a net whose first units have lost one side only."""
    pairs = []
    for _ in range(2):
        net, optimizer = dying("dense", 0, share=0.0)
        source, index = (net.layers["dense1"].weight, (..., slice(0, 4))) if side == "in" else (net.layers["dense2"].weight, slice(0, 4))
        source.scores.data[index] *= 0.3
        optimizer.velocity[0 if side == "in" else 1][index] = 0
        pairs.append((net, optimizer))
    (whole, by), (net, optimizer) = pairs
    small = shrunk(net, optimizer)
    if small is None:
        return 0.0
    steps(whole, by, 40)
    steps(small.net, small.optimizer, 40)
    small.settle()
    after, expected = state(net, optimizer), state(whole, by)
    return max(np.abs(after[name] - expected[name]).max() for name in expected)


#: What is changed in shrink.py, and a number that is as good as 0 only while nothing is.
FAULTS = {"the bound without momentum": ({"stays_hidden": without_momentum}, lambda: far(edge=3.0)),
          "only what comes in is looked at": ({"_both_sides": one_side}, lambda: half_dead("in")),
          "only what goes out is looked at": ({"_both_sides": the_other_side}, lambda: half_dead("out")),
          "a bias is overlooked": ({"KEEP_ZEROS": (*shrink.KEEP_ZEROS, Shift)}, lambda: stirred("bias", 0)),
          "the package's own bias is": ({"KEEP_ZEROS": (*shrink.KEEP_ZEROS, Bias)}, lambda: stirred("own bias", 0)),
          "half of one is taken for zero": ({"KEEP_ZEROS": (*shrink.KEEP_ZEROS, Sigmoid)}, lambda: stirred("sigmoid", 0)),
          "dropout draws for fewer units": ({"KEEP_ZEROS": (*shrink.KEEP_ZEROS, Dropout)}, lambda: distance("dropout", 0, 5) or 0.0),
          "batch norm is overlooked": ({"KEEP_ZEROS": (*shrink.KEEP_ZEROS, BatchNorm)}, lambda: stirred("batch norm", 0)),
          "channels are not innermost behind Flatten": ({"origins": places_innermost}, far_in_convs),
          "what is left out does not decay": ({"decay": lambda *_: (1.0, 0.0, 1.0)}, far),
          "momentum ends with the gradient": ({"decay": gradient_forgotten}, far)}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    changes, measure = FAULTS[fault]
    assert measure() < 1e-9
    for name, value in changes.items():
        monkeypatch.setattr(shrink, name, value)
    assert measure() > 1e-6


# ---- the bound and the closed form ---------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(["float32", "float64"]), st.floats(0, 0.99), st.floats(1e-6, 10), st.integers(0, 2**32))
def test_within_the_bound_no_mask_changes_ever_in_floats(data, dtype, momentum, tau, seed):
    """Scores right at the bound, stepped with what is worst for them: no decay, or a weak one."""
    rng = np.random.default_rng(seed)
    part = rng.random(200)
    m = (part * tau * rng.choice([-1, 1], 200)).astype(dtype)
    v = ((1 - part) * tau * (1 - momentum) / max(momentum, 1e-3)**2 * rng.choice([-1, 1], 200)).astype(dtype)
    source = SignedSupermask(tau=tau)
    source.scores = Tensor(m, requires_grad=True)
    held = shrink.stays_hidden(source, v, momentum)
    keep, zero = 1.0 - data.draw(st.sampled_from([0.0, 1e-5, 1e-3, 2.0])), np.zeros_like(m)
    for _ in range(300):
        optim.nesterov(np, m, v, zero, 0.1, keep, momentum)
        assert not source.mask()[held].any()


def test_the_bound_is_no_larger_than_it_must_be():
    """Where it is missed by a thousandth, a mask does come back."""
    source = SignedSupermask(tau=1.0)
    v = np.full(3, 0.5 * (1 - MU) / MU**2 * 1.002)
    source.scores = Tensor(np.full(3, 0.5), requires_grad=True)
    assert not shrink.stays_hidden(source, v, MU).any()
    for _ in range(100):
        optim.nesterov(np, source.scores.data, v, np.zeros(3), 0.1, 1.0, MU)
    assert source.mask().all()


@given(st.integers(0, 1000), st.integers(0, 300), st.floats(0, 0.99), st.floats(0, 0.5), st.integers(0, 1000))
def test_the_closed_form_is_step_after_step(start, count, momentum, wd, seed):
    m, v = np.random.default_rng(seed).normal(0, 1, (2, 50))
    optimizer = optim.SGDW([Tensor(m.copy(), requires_grad=True)], 0.1, wd, momentum, optim.exponential(0.5, 100))
    optimizer.velocity, optimizer.steps = [v.copy()], start
    a, b, c = shrink.decay(optimizer, start, start + count, "float64")
    for _ in range(count):
        optimizer.parameters[0].grad = np.zeros(50)
        optimizer.step()
    np.testing.assert_allclose(a * m + b * v, optimizer.parameters[0].data, rtol=0, atol=1e-11)
    np.testing.assert_allclose(c * v, optimizer.velocity[0], rtol=1e-11, atol=1e-300)


def test_in_float32_the_closed_form_differs_in_the_last_digits_alone():
    m, v = np.random.default_rng(0).normal(0, 1, (2, 10_000)).astype(np.float32)
    optimizer = optim.SGDW([Tensor(m.copy(), requires_grad=True)], 0.1, 5e-4, MU, optim.exponential(0.9, 4690))
    optimizer.velocity = [v.copy()]
    a, b, c = shrink.decay(optimizer, 0, 469, m.dtype)
    for _ in range(469):
        optimizer.parameters[0].grad = np.zeros_like(m)
        optimizer.step()
    assert (a * m + b * v).dtype == np.float32
    assert np.abs(a * m + b * v - optimizer.parameters[0].data).max() < 469 * np.finfo(np.float32).eps * (1 + 10)


def test_a_schedule_under_which_scores_may_grow_leaves_nothing_out():
    net, optimizer = dying("dense", 0, wd=0.1)
    assert shrink.contracts(optimizer, 0, 1000)
    for factor, good in ((20.0, True), (20.1, False), (-1e-9, False), (float("nan"), False)):
        optimizer.schedule = lambda step, factor=factor: factor if step == 7 else 1.0
        assert shrink.contracts(optimizer, 0, 10) == good and shrink.contracts(optimizer, 0, 7)


# ---- whole trainings -----------------------------------------------------------------------------------------------

EPOCHS = 17  # of 12 steps: 204


def digits_net(kind, dtype, rng):
    source, draw = SignedSupermask(tau=0.02), {"rng": rng, "dtype": dtype}
    if kind == "dense":
        return nn.Sequential([nn.Flatten(), nn.Dense(64, 60, source, **draw), nn.ELU(), nn.Dense(60, 30, source, **draw),
                              nn.ELU(), nn.Dense(30, 10, source, **draw)], (8, 8, 1))
    return nn.Sequential([nn.MaxPool2D(2), nn.Conv2D(1, 8, 3, source, **draw), nn.ELU(), nn.Conv2D(8, 12, 3, source, **draw),
                          nn.ELU(), nn.Flatten(), nn.Dense(192, 24, source, **draw), nn.ELU(),
                          nn.Dense(24, 10, source, **draw)], (8, 8, 1))


def run_of(kind, dtype="float32", seed=0):
    """What fit takes, of a run in which units die from its second half on."""
    rng = np.random.default_rng(seed)
    net = digits_net(kind, dtype, rng)
    wd = 0.05 if kind == "dense" else 0.1
    optimizer = optim.SGDW(net.parameters(), 0.1, wd, schedule=optim.exponential(0.9, 8))
    return net, data.digits(), optimizer, EPOCHS, rng


def dead_by_layer(record):
    return [{layer["name"]: layer["dead"] for layer in entry["layers"] if "dead" in layer} for entry in record["epochs"]]


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_two_hundred_steps_with_and_without_end_in_the_same_masks(kind):
    """In float64, where rounding moves no score across its threshold in so few steps."""
    ends = []
    for chosen in (False, True):
        arguments = run_of(kind, "float64")
        ends.append((arguments[0], arguments[2], train.fit(*arguments, shrink=chosen)))
    (whole, by, plain), (net, optimizer, record) = ends
    for name, mask in whole.masks().items():
        np.testing.assert_array_equal(net.masks()[name], mask)
    for name, array in state(whole, by).items():
        np.testing.assert_allclose(state(net, optimizer)[name], array, rtol=0, atol=1e-12 * np.abs(array).max())
    assert sum(dead_by_layer(record)[-1].values()) >= 10 and sum(sum(each.values()) > 0 for each in dead_by_layer(record)) >= 4
    assert dead_by_layer(record)[-1] == {name: units.sum() for name, units in shrink.dead(whole, by).items()}
    assert plain.get("shrink") is None and record["shrink"] is True
    for entry, other in zip(plain["epochs"], record["epochs"]):
        layers = [{key: value for key, value in layer.items() if key not in ("units", "dead")} for layer in other["layers"]]
        assert layers == entry["layers"]
        assert all(entry[key] == other[key] for key in ("flips", "weights_left", "test_accuracy", "train_accuracy"))


class Never:
    """That no unit that was called dead for ever has a mask, and that none is called alive again."""

    def __init__(self, net, optimizer):
        self.net, self.optimizer, self.found, self.called = net, optimizer, {}, 0

    def __call__(self, record):
        now, order, masks = shrink.dead(self.net, self.optimizer), list(self.net.masks()), self.net.masks()
        for made, units in self.found.items():
            read = masks[order[order.index(made) + 1]]
            assert not masks[made][..., units].any(), (made, len(record["epochs"]))
            assert not read[..., units[np.arange(read.shape[-2]) % len(units)], :].any()
            assert now[made][units].all()
        self.found = now
        self.called = sum(int(units.sum()) for units in now.values())


@pytest.mark.once
def test_no_unit_of_the_digits_recipe_comes_back():
    recipe = recipes.find("digits")
    rng = np.random.default_rng(1)
    net = recipe.build(data.digits(), rng)
    never = Never(net, recipe.optimizer_of(net, data.digits()))
    train.fit(net, data.digits(), never.optimizer, recipe.epochs, rng, recipe.batch, on_epoch=never)
    assert never.called > 100


@pytest.mark.parametrize("seed", range(2))
def test_nor_does_a_channel_of_a_convolution(seed):
    net, dataset, optimizer, epochs, rng = run_of("conv", seed=seed)
    never = Never(net, optimizer)
    train.fit(net, dataset, optimizer, epochs + 20, rng, on_epoch=never)
    assert never.found["conv2d2"].any() and never.called > 5


class Stopped(train.Progress):
    """Ctrl-C after so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def step(self, *told):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def epoch(self, *told):
        pass

    stop = lambda self: None  # noqa: E731


def end_of(path, record, net, optimizer):
    for entry in record["epochs"]:
        entry["seconds"] = 0
    return checkpoint.load(path).digest(), record["epochs"], {name: a.tobytes() for name, a in state(net, optimizer).items()}


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_stopped_anywhere_and_taken_up_it_ends_in_the_same_bits(kind, tmp_path):
    arguments = run_of(kind)
    record = train.fit(*arguments, checkpoint=tmp_path / "whole.npz", shrink=True)
    expected = end_of(tmp_path / "whole.npz", record, arguments[0], arguments[2])
    assert sum(dead_by_layer(record)[-1].values()) > 5
    rng, path, stops, resume, seen = np.random.default_rng(0), tmp_path / "stopped.npz", 0, False, []
    plan = iter([12 * 9, 1, 11, 5, 7, 12, 13, *rng.integers(1, 20, 100)])  # ends of epochs, and the steps beside them
    while True:
        arguments = run_of(kind)
        try:
            record = train.fit(*arguments, progress=Stopped(next(plan)), checkpoint=path, resume=resume, every=1e9, shrink=True)
            break
        except KeyboardInterrupt:
            resume, stops = True, stops + 1
            run = checkpoint.load(path).run
            seen += [run["left_out"]["since"] != run["steps"]] if "left_out" in run else []
            assert net_is_whole(arguments[0], record_of=run["record"])
    assert stops > 10 and any(seen) and not all(seen)
    assert end_of(path, record, arguments[0], arguments[2]) == expected


def net_is_whole(net, record_of):
    """Whether the net is back at the end of the record's last epoch."""
    return type(net) is nn.Sequential and net.weights_left() == record_of["epochs"][-1]["weights_left"]


@pytest.mark.parametrize("when", ["before it settles", "before it looks"])
def test_a_stop_between_an_epochs_last_step_and_the_look_changes_nothing(when, tmp_path):
    arguments = run_of("dense")
    record = train.fit(*arguments, checkpoint=tmp_path / "whole.npz", shrink=True)
    expected = end_of(tmp_path / "whole.npz", record, arguments[0], arguments[2])

    class Bomb(train.Listener):
        def step(self, training, loss):
            if training.epoch == 12 and training.step == training.steps and when == "before it settles":
                raise KeyboardInterrupt

        def epoch(self, training, entry, last):
            if entry["epoch"] == 12 and when == "before it looks":
                raise KeyboardInterrupt

    net, dataset, optimizer, epochs, rng = run_of("dense")
    record = train.new_record() | {"shrink": True, "dataset": record["dataset"]}  # as fit notes them
    training = Training(net, dataset, optimizer, rng, 128, record)
    path = tmp_path / "stopped.npz"
    with pytest.raises(KeyboardInterrupt):
        training.run(epochs, [Bomb(), shrink.Shrinker(), checkpoint.Keeper(path, 1e9)])
    assert training.net is net and training.optimizer is optimizer
    arguments = run_of("dense")
    record = train.fit(*arguments, checkpoint=path, resume=True, shrink=True)
    assert end_of(path, record, arguments[0], arguments[2]) == expected


def test_whoever_looks_at_the_end_of_an_epoch_sees_the_whole_net():
    net, dataset, optimizer, epochs, rng = run_of("dense")
    seen = []

    def look(record):
        entry = record["epochs"][-1]
        assert net.layer_counts() == [{k: v for k, v in layer.items() if k not in ("units", "dead")} for layer in entry["layers"]]
        assert net.weights_left() == entry["weights_left"] and optimizer.steps == entry["step"]
        assert train.evaluate(net, dataset.test_images, dataset.test_labels) == entry["test_accuracy"]
        seen.append(sum(layer.get("dead", 0) for layer in entry["layers"]))

    train.fit(net, dataset, optimizer, epochs, rng, on_epoch=look, shrink=True)
    assert len(seen) == epochs and seen[-1] > seen[0] == 0


def test_within_an_epoch_the_whole_net_takes_no_memory_where_units_are_out(monkeypatch):
    net, dataset, optimizer, epochs, rng = run_of("dense")
    sizes = []  # (bytes of the whole net and its velocities, whether some units are out) at every step

    class Sizes(train.Progress):
        def step(self, epoch, step, steps, loss):
            arrays = [*(p.data for p in net.parameters()), *(s.frozen for s in net.weights().values()), *optimizer.velocity]
            sizes.append((sum(a.itemsize if a.strides == (0, 0) else a.nbytes for a in arrays), bool(training.left_out), step < steps))

    made = train.Training.__init__

    def init(self, *arguments):
        nonlocal training
        training = self
        made(self, *arguments)

    training = None
    monkeypatch.setattr(train.Training, "__init__", init)
    train.fit(net, dataset, optimizer, epochs, rng, progress=Sizes(), shrink=True)
    whole = [size for size, out, _ in sizes if not out]
    within = [size for size, out, inside in sizes if out and inside]
    assert within and max(within) < min(whole) / 4  # dense2 and dense3 are small
    assert {size for size, out, inside in sizes if out and not inside} == set(whole)  # settled at the last step


def test_stopped_anywhere_while_it_settles_it_settles_again(monkeypatch):
    """Ctrl-C at the n-th array that settling makes or moves; then as if it had not been."""
    moved, ends, stops = shrink.asarray, [], 0
    for stop in itertools.count(-1):
        net, optimizer = dying("convs", 5)
        small = shrunk(net, optimizer)
        small.optimizer.steps += 7
        calls = itertools.count()

        def stopping(*arguments, calls=calls, stop=stop):
            if next(calls) == stop:
                raise KeyboardInterrupt
            return moved(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(shrink, "asarray", stopping)
            try:
                small.settle()
            except KeyboardInterrupt:
                stops += 1
                small.settle()
            else:
                if stop >= 0:
                    break
        ends.append({**net.arrays(), **{f"velocity{i}": v for i, v in enumerate(optimizer.velocity)}})
    assert stops > 10 and all(np.array_equal(end[name], ends[0][name]) for end in ends for name in ends[0])


def test_a_gathered_net_answers_for_the_whole_and_takes_its_arrays():
    for kind in KINDS:
        net, optimizer = dying(kind, 5)
        small = shrunk(net, optimizer).net
        for ask in ("masks", "arrays"):
            here, there = getattr(small, ask)(), getattr(net, ask)()
            assert list(here) == list(there) and all(np.array_equal(here[name], there[name]) for name in there)
        for ask in ("sizes", "size", "counts", "layer_counts", "weights_left"):
            assert getattr(small, ask)() == getattr(net, ask)()
        assert small.weights_left() < 1 and sum(p.size for p in small.parameters()) < sum(p.size for p in net.parameters())
        x, _ = batch_for(net, 0)
        np.testing.assert_allclose(small(x).data, net(x).data, rtol=0, atol=1e-12)
        other, _ = dying(kind, 6)
        small.load(other.arrays())
        x, _ = batch_for(net, 1)
        assert all(np.array_equal(small.arrays()[name], a) for name, a in other.arrays().items())
    (net, optimizer), (_, other) = dying("convs", 5), dying("convs", 6)
    small = shrunk(net, optimizer).optimizer
    small.load_slots(other.slots())
    assert all(np.array_equal(small.slots()[name], v) for name, v in other.slots().items())
    assert small.settings() == optimizer.settings() and small.lr == optimizer.lr
    optimizer.lr = 7.0
    assert small.lr == 7.0


def test_a_checkpoint_that_leaves_out_what_is_not_dead_is_refused(tmp_path):
    arguments, path = run_of("dense"), tmp_path / "a.npz"
    with pytest.raises(KeyboardInterrupt):
        train.fit(*arguments, progress=Stopped(12 * 15 + 3), checkpoint=path, shrink=True)
    good = checkpoint.load(path)
    alive = next(i for i in range(60) if i not in good.run["left_out"]["units"]["dense1"])
    since = good.run["left_out"]["since"]
    for left_out, sentence in (({"since": since, "units": {"dense1": [alive]}}, "units of dense1 that are not dead for ever"),
                               ({"since": since, "units": {"dense1": [60]}}, "not dead"), ({"since": since, "units": {"dense3": [0]}}, "not dead"),
                               ({"since": since, "units": {"nothing": [0]}}, "not dead"), ({"since": since, "units": {"dense1": [1, 1]}}, "left out are"),
                               ({"since": since, "units": {"dense1": [0.5]}}, "left out are"), ({"since": since, "units": {"dense1": []}}, "left out are"),
                               ({"since": since, "units": {"dense1": [-1]}}, "left out are"), ({"since": 10**6, "units": {}}, "since"),
                               ({"since": since}, "units"), ([1], "left_out"), ({"since": since, "units": {}, "more": 1}, "more")):
        checkpoint.save(path, replace(good, run={**good.run, "left_out": left_out}))
        with pytest.raises(MinimaskError, match=sentence):
            train.fit(*run_of("dense"), checkpoint=path, resume=True, shrink=True)
    checkpoint.save(path, good)
    with pytest.raises(UsageError, match="its shrink is True, but False was asked for"):
        train.fit(*run_of("dense"), checkpoint=path, resume=True)
    train.fit(*run_of("dense"), checkpoint=path, resume=True, shrink=True)


def test_a_run_shrinks_unless_it_is_told_not_to_and_goes_on_as_it_began(tmp_path):
    recipe = replace(recipes.find("digits"), epochs=1)
    for shrinks in (None, False):
        net, record = runs.run(recipe, data.digits(), 0, tmp_path / str(shrinks), shrink=shrinks)
        assert record.get("shrink", False) == (shrinks is None)
        _, record = runs.run(replace(recipe, epochs=2), data.digits(), 0, tmp_path / str(shrinks), resume=True)
        assert record.get("shrink", False) == (shrinks is None)
    assert runs.run(recipe, data.digits(), 0)[1]["shrink"] and "shrink" not in runs.run(recipe, data.digits(), 0, shrink=False)[1]
    with pytest.raises(UsageError, match="its shrink is False, but True was asked for"):
        runs.run(replace(recipe, epochs=3), data.digits(), 0, tmp_path / "False", resume=True, shrink=True)


# ---- what shows it -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a short run in which units die, and its record."""
    folder = tmp_path_factory.mktemp("shrunk") / "run"
    recipe = replace(recipes.find("digits"), name="fast", epochs=6, schedule_settings={"epochs": 1.0}, wd=0.1,
                     source_settings={"tau": 0.01})
    return folder, runs.run(recipe, data.digits(), 0, folder)[1]


def test_tables_pictures_and_pages_count_the_dead(finished):
    from minimask import plot
    from minimask.anatomy import page
    from minimask.cli.common import layer_table
    from minimask.runs import records, report

    folder, record = finished
    end = record["epochs"][-1]["layers"]
    assert [layer.get("units") for layer in end] == [300, 100, None] and end[0]["dead"] > 200
    assert layer_table(record).splitlines()[1].endswith(f" {end[0]['dead']}")
    assert layer_table(record).splitlines()[-1].endswith(f" {end[0]['dead'] + end[1]['dead']}")
    panels = [panel for row in plot.course(record).rows for panel in row if "dead for ever" in panel.title]
    assert [panel.title.split()[0] for panel in panels] == ["dense1", "dense2"]
    assert panels[0].items[-1].y[-1] == pytest.approx(100 * end[0]["dead"] / 300)
    group, = records.groups(records.read([folder]).runs)
    assert report._dead(group, 5) == f" Units dead for ever: dense1 {end[0]['dead']} of 300; dense2 {end[1]['dead']} of 100."
    net, _ = runs.load(folder)
    counted = page.numbers(net, record, data.digits(), repeats=1)
    assert [row["dead_for_ever"] for row in counted["degrees"]] == [end[0]["dead"], end[1]["dead"], None]


@pytest.mark.parametrize("change", [{"dead": 301}, {"dead": -1}, {"dead": 1.5}, {"units": 10}, {"units": True}, {"dead": None}])
def test_a_record_that_counts_wrong_is_refused(finished, change):
    import copy

    from minimask.runs import schema

    _, record = finished
    schema.record(record)
    wrong = copy.deepcopy(record)
    wrong["epochs"][2]["layers"][0] |= change
    with pytest.raises(ValueError, match="epoch 3 has a layer with"):
        schema.record(wrong)
    del wrong["epochs"][2]["layers"][0]["units"]
    with pytest.raises(ValueError, match="epoch 3 has a layer with"):
        schema.record(wrong)


@pytest.mark.once
@pytest.mark.parametrize("words, shrinks", [([], True), (["--no-shrink"], False), (["--plain"], False)])
def test_the_command_shrinks_unless_it_is_told_not_to(words, shrinks, tmp_path, capsys):
    from minimask.__main__ import main

    common = ["train", "digits", "--out", str(tmp_path / "a"), "--quiet"]
    assert main([*common, "--epochs", "1", *words]) == 0
    assert main([*common, "--epochs", "2", "--resume"]) == 0  # as it began, whatever is the rule
    assert runs.read_record(tmp_path / "a").get("shrink", False) == shrinks
    assert ("dead units" in capsys.readouterr().out) == shrinks
    if shrinks:
        assert main([*common, "--epochs", "3", "--resume", "--no-shrink"]) == 2
        assert "its shrink is True, but False was asked for" in capsys.readouterr().err
