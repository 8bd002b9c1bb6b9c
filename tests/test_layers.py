"""Layers beside the paper's: what they compute, how they train, and where they stand in files, costs and figures."""

import math

import numpy as np
import pytest

from minimask import (
    MinimaskError,
    Tensor,
    UsageError,
    anatomy,
    cost,
    data,
    export,
    layers,
    models,
    nn,
    ops,
    optim,
    plain,
    predict,
    recipes,
    runs,
    train,
)
from minimask.export import header
from minimask.mask import SignedSupermask, Trained
from minimask.testing import gradcheck

TEN = tuple("0123456789")


def everything(weights, dtype="float32", seed=0):
    """A net with all of them, in a residual block too; biases are no zeros."""
    rng = np.random.default_rng(seed)
    draw = {"weights": weights, "rng": rng, "dtype": dtype}
    net = nn.Sequential([
        nn.Conv2D(1, 4, 3, **draw), nn.Bias(4, dtype), nn.Tanh(), nn.GroupedConv2D(4, 8, 3, groups=4, **draw), nn.ReLU(),
        nn.Residual([nn.GroupedConv2D(8, 8, 3, groups=2, **draw), nn.Bias(8, dtype)], activation="sigmoid"), nn.AvgPool2D(3, 2, "same"),
        nn.Dropout(0.25, rng), nn.Flatten(), nn.Dense(128, 10, **draw), nn.Bias(10, dtype)], (8, 8, 1))
    for _, layer in net.walk():
        if isinstance(layer, nn.Bias):
            layer.bias.data = np.random.default_rng(1).normal(0, 0.3, layer.bias.shape).astype(dtype)
    return net


def ungrouped(layer, weight):
    """An array of the shape of a layer's weight, as one that joins every input with every output: zeros between groups.

    (kh, kw, c_in/groups, c_out) -> (kh, kw, c_in, c_out).
    """
    kh, kw, inputs, outputs = layer.shape
    whole = np.zeros((kh, kw, layer.groups, inputs, layer.groups, outputs // layer.groups), weight.dtype)
    for group in range(layer.groups):
        whole[:, :, group, :, group] = weight.reshape(kh, kw, inputs, layer.groups, -1)[:, :, :, group]
    return whole.reshape(kh, kw, layer.groups * inputs, outputs)


# ---- convolution in groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups, inputs, outputs", [(1, 3, 4), (2, 3, 4), (4, 1, 1), (3, 1, 2)])
@pytest.mark.parametrize("way", ["fast", "plain"])
def test_groups_are_convolutions_side_by_side(groups, inputs, outputs, way):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 6, 5, groups * inputs)), rng.standard_normal((3, 2, inputs, groups * outputs))
    parts = [ops.conv2d(x[..., i * inputs:(i + 1) * inputs], w[..., i * outputs:(i + 1) * outputs], 2).data for i in range(groups)]
    expected = np.concatenate(parts, axis=3)
    if way == "fast":
        y = ops.grouped_conv2d(x, w, groups, 2)
    else:
        with plain():
            y = ops.grouped_conv2d(x, w, groups, 2)
    np.testing.assert_allclose(y.data, expected, rtol=0, atol=1e-13)


def test_groups_equal_the_convolution_of_the_ungrouped_kernel():
    rng = np.random.default_rng(0)
    layer = nn.GroupedConv2D(6, 4, 3, 2, Trained(), rng, dtype="float64")
    whole = ungrouped(layer, layer.weight.effective().data)
    assert whole.shape == (3, 3, 6, 4) and np.count_nonzero(whole) == layer.weight.effective().size
    x = rng.standard_normal((2, 5, 5, 6))
    np.testing.assert_allclose(layer(Tensor(x)).data, ops.conv2d(x, whole).data, rtol=0, atol=1e-13)


def test_a_batch_of_no_images_gives_none_and_gradients_of_zeros():
    for groups, kernel in ((4, (3, 3, 1, 4)), (2, (3, 3, 2, 6))):
        x, w = (Tensor(np.ones(shape, np.float32), requires_grad=True) for shape in ((0, 5, 5, 4), kernel))
        y = ops.grouped_conv2d(x, w, groups)
        y.backward(np.ones(y.shape, np.float32))
        assert y.shape == (0, 5, 5, kernel[3]) and x.grad.shape == x.shape and not w.grad.any()


def test_the_layer_of_groups_has_the_gradients_of_pytorchs(torch):
    rng = np.random.default_rng(0)
    layer = nn.GroupedConv2D(4, 8, 3, 4, Trained(), rng, stride=2, padding=1, dtype="float64")
    other = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4, bias=False, dtype=torch.float64)
    weight = layer.weight.effective()
    other.weight.data = torch.tensor(weight.data.transpose(3, 2, 0, 1).copy())
    x = rng.standard_normal((3, 7, 6, 4))
    leaf, theirs = Tensor(x, requires_grad=True), torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    ops.sum(ops.tanh(layer(leaf))).backward()
    torch.tanh(other(theirs)).sum().backward()
    np.testing.assert_allclose(leaf.grad, theirs.grad.numpy().transpose(0, 2, 3, 1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(weight.grad, other.weight.grad.numpy().transpose(2, 3, 1, 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make, sentence", [
    (lambda rng: nn.GroupedConv2D(4, 6, 3, 4, Trained(), rng), "groups is 4, but must divide 4 inputs and 6 outputs"),
    (lambda rng: nn.GroupedConv2D(4, 6, 3, 0, Trained(), rng), "groups is 0, but must divide"),
    (lambda rng: nn.Sequential([nn.GroupedConv2D(4, 4, 3, 2, Trained(), rng)], (5, 5, 6)), "2 groups do not divide the channels"),
    (lambda rng: ops.grouped_conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 1, 3)), 2), "grouped_conv2d: 2 groups do not divide"),
    (lambda rng: ops.grouped_conv2d(np.ones((1, 4, 4, 3)), np.ones((3, 3, 1, 3)), 1.0), "groups is 1.0; give a whole number"),
    (lambda rng: ops.grouped_conv2d(np.ones((4, 4, 3)), np.ones((3, 3, 1, 3)), 3), "both need four axes"),
    (lambda rng: nn.Sequential([nn.Bias(3)], (5, 4)), "Bias: one sample has shape .5, 4., but 3 channels"),
    (lambda rng: nn.Dropout(1.0, rng), "Dropout: share is 1.0, but must be a number from 0 to below 1"),
    (lambda rng: nn.Dropout(0.5, rng).load_own_state({"seed": 1, "calls": -1}), "must be 0 or more"),
    (lambda rng: nn.Sequential([nn.AvgPool2D(2, padding=2)], (4, 4, 1)), "AvgPool2D: padding .* is as wide as the window"),
])
def test_what_does_not_fit_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(np.random.default_rng(0))


# ---- dropout -------------------------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_does_nothing_once_trained():
    layer = nn.Dropout(0.3, np.random.default_rng(0))
    x = Tensor(np.ones((1000, 100), np.float32), requires_grad=True)
    y = layer(x, training=True)
    values, counts = np.unique(y.data, return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
    assert abs(counts[0] / y.size - 0.3) < 5 * math.sqrt(0.3 * 0.7 / y.size)  # five standard deviations
    y.backward(np.full(y.shape, 2, np.float32))
    np.testing.assert_array_equal(x.grad, 2 * y.data)
    assert layer(x) is x and layer.calls == 1


def test_dropout_draws_by_its_seed_and_the_number_of_the_call_and_by_nothing_else():
    x = Tensor(np.ones((4, 50)))
    one, other = (nn.Dropout(0.5, np.random.default_rng(seed)) for seed in (0, 1))
    first, second = one(x, True).data, one(x, True).data
    assert (first != second).any() and (other(x, True).data != first).any()
    other.load_own_state({**one.own_state(), "calls": 1})
    np.testing.assert_array_equal(other(x, True).data, second)


def test_the_same_seed_gives_the_same_weights_with_dropout_as_without():
    def net(*more):
        rng = np.random.default_rng(7)
        build = [nn.Dense(5, 4, Trained(), rng), *(each(rng) for each in more), nn.Dense(4, 3, Trained(), rng)]
        return [w.effective().data for w in nn.Sequential(build, (5,)).weights().values()]

    for one, other in zip(net(), net(lambda rng: nn.Dropout(0.5, rng), lambda rng: nn.Dropout(0.5, rng))):
        np.testing.assert_array_equal(one, other)


def test_two_dropouts_of_one_generator_draw_differently():
    rng, x = np.random.default_rng(0), Tensor(np.ones((4, 50)))
    one, other = nn.Dropout(0.5, rng), nn.Dropout(0.5, rng)
    assert (one(x, True).data != other(x, True).data).any()


def test_another_library_drops_the_same():
    strict = pytest.importorskip("array_api_strict")
    x = np.ones((4, 50), np.float32)
    ours = nn.Dropout(0.5, np.random.default_rng(0))(Tensor(x), True).data
    theirs = nn.Dropout(0.5, np.random.default_rng(0))(Tensor(strict.asarray(x)), True).data
    np.testing.assert_array_equal(np.from_dlpack(theirs), ours)


def test_the_cause_of_a_loss_that_is_no_number_is_looked_for_under_the_same_dropout(monkeypatch):
    """It begins where a number was not dropped; drawn anew, it might be. And the state is as before the step."""
    digits = data.digits()
    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.Flatten(), nn.Dropout(0.9, rng), nn.Dense(64, 10, Trained(), rng)], (8, 8, 1))
    seen, call = [], nn.Dropout.__call__
    monkeypatch.setattr(nn.Dropout, "__call__", lambda self, x, training=False: (
        seen.append(self.calls) if training else None, call(self, x, training))[1])
    net.layers["dense1"].weight.weight.data[0, 0] = np.inf
    with np.errstate(all="ignore"), pytest.raises(train.TrainingError, match="it begins in layer dense1"):
        train.fit(net, digits, optim.SGD(net.parameters(), 0.1), 1, rng, 64)
    assert seen == [0, 0] and net.layers["dropout1"].calls == 0


# ---- bias and activations ------------------------------------------------------------------------------------------


def test_bias_adds_a_trained_number_per_channel():
    layer = nn.Bias(3, "float64")
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3))
    np.testing.assert_array_equal(layer(Tensor(x)).data, x)
    layer.bias.data = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(layer(Tensor(x)).data, x + np.array([1, 2, 3]))
    ops.sum(layer(Tensor(x))).backward()
    np.testing.assert_array_equal(layer.bias.grad, [32, 32, 32])
    assert list(layer.own_parameters()) == ["bias"] and layer.weight is None  # it counts among no weights


@pytest.mark.parametrize("weights", [SignedSupermask(tau=0.01), Trained()], ids=["masked", "dense"])
def test_a_net_of_all_layers_has_the_gradients_of_finite_differences(weights):
    net = everything(Trained(), "float64")  # of a mask, gradients are declared
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 1))
    gradcheck(lambda x: net(x), x)
    assert net(Tensor(x)).shape == (2, 10) and everything(weights).size() == net.size()


@pytest.mark.parametrize("name, options", [("fcn", {}), ("conv2", {"input_shape": (8, 8, 1)}), ("resnet20", {"norm": "none"})])
@pytest.mark.parametrize("activation", [*layers.ACTIVATIONS, lambda: nn.ELU(0.5)], ids=[*layers.ACTIVATIONS, "own"])
def test_every_builder_takes_an_activation(name, options, activation):
    net = models.MODELS[name](Trained(), np.random.default_rng(0), activation=activation, **options)
    kind = type(layers.activation_layer(activation))
    activations = [layer for _, layer in net.walk() if isinstance(layer, (nn.ELU, nn.ReLU, nn.Tanh, nn.Sigmoid))]
    default = models.MODELS[name](Trained(), np.random.default_rng(0), **options)
    assert {type(layer) for layer in activations} == {kind} and len({id(layer) for layer in activations}) == len(activations)
    assert len(activations) == sum(isinstance(layer, nn.ELU) for _, layer in default.walk())
    for one, other in zip(net.parameters(), default.parameters()):  # the same draws
        np.testing.assert_array_equal(one.data, other.data)


def test_an_activation_that_is_none_is_refused():
    for given, sentence in (("rely", "unknown activation 'rely': did you mean 'relu'"), (nn.ELU(), r"ELU\(alpha=1\) makes no layer"),
                            (dict, "makes no layer"), (3, "3 makes no layer; give one of elu, relu")):
        with pytest.raises(UsageError, match=sentence):
            models.fcn(Trained(), np.random.default_rng(0), activation=given)
    with pytest.raises(UsageError, match="unknown activation 'rely'"):
        recipes.from_dict({**recipes.find("fcn").as_dict(), "model_settings": {"activation": "rely"}})


def test_a_recipe_with_an_activation_trains_and_is_found_again(tmp_path):
    recipe = recipes.from_dict({"name": "relus", "about": "", "epochs": 1, "lr": 0.1, "wd": 1e-4, "dataset": "digits",
                                "source": "signed-supermask", "source_settings": {"tau": 0.01},
                                "model_settings": {"activation": "relu"}})
    runs.run(recipe, data.digits(), 0, tmp_path / "run")
    net, record = runs.load(tmp_path / "run")
    assert record["recipe"]["model_settings"] == {"activation": "relu"} and "relu1" in net.layers and "elu1" not in net.layers
    (tmp_path / "relus.toml").write_text(recipe.toml())
    assert recipes.find(str(tmp_path / "relus.toml")) == recipe


# ---- in files, costs and figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [SignedSupermask(tau=0.01), SignedSupermask(tau=0.01, frozen_distribution="normal"), Trained()],
                         ids=["signs", "drawn again", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_gives_all_layers_back(weights, dtype, tmp_path):
    net = everything(weights, dtype)
    export.save(tmp_path / "net.mmk", net, TEN, seed=0)
    again = export.load(tmp_path / "net.mmk").net
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 1)).astype(dtype)
    np.testing.assert_array_equal(again(x).data, net(x).data)
    np.testing.assert_allclose(predict.forward(again)(x), net(x).data, rtol=0, atol=1e-5)
    assert [repr(layer).replace("(1, 1)", "1") for _, layer in again.walk()][1:] == [repr(layer) for _, layer in net.walk()][1:]
    assert cost.of(again) == cost.of(net)


def test_a_layer_of_your_own_is_not_taken_for_ours_of_the_same_name():
    class Dropout(nn.Layer):
        def __call__(self, x, training=False):
            return x + 1.0

    net = nn.Sequential([nn.Flatten(), Dropout(), nn.Dense(4, 2, Trained(), np.random.default_rng(0))], (2, 2, 1))
    with pytest.raises(MinimaskError, match="a layer of kind Dropout cannot be exported"):
        export.file.encoded(net, ("a", "b"))


@pytest.mark.parametrize("kind, settings, sentence", [
    ("Bias", {"channels": 3}, "Bias: one sample has shape"), ("Bias", {"channels": 1 << 60}, "must be a whole number"),
    ("Bias", {"channels": 1}, "its layers promise"), ("Dropout", {"share": 1}, "from 0 to below 1"),
    ("Dropout", {"share": True}, "from 0 to below 1"), ("Dropout", {}, "has no 'share'"),
    ("AvgPool2D", {"window": 60, "stride": 1, "padding": "same"}, "the window of avgpool2d1 is 60 wide"),
    ("AvgPool2D", {"window": 2, "stride": 2, "padding": [[2, 0], [0, 0]]}, "four numbers below 2"),
    ("GroupedConv2D", {"stride": [1, 1], "padding": "same", "groups": 2, "weight": {
        "shape": [3, 3, 1, 3], "codec": "base243", "bytes": 0, "plus": 0, "minus": 0, "magnitude": 1.0}}, "in 2 groups; needed is"),
    ("GroupedConv2D", {"stride": [1, 1], "padding": "same", "groups": 4, "weight": {
        "shape": [3, 3, 1, 4], "codec": "base243", "bytes": 0, "plus": 0, "minus": 0, "magnitude": 1.0}}, "4 groups do not divide"),
    ("Residual", {"main": [], "shortcut": [], "activation": []}, "has 0 layers as its activation"),
    ("Residual", {"main": [], "shortcut": [], "activation": [{"kind": "Dense", "weight": {
        "shape": [2, 2], "codec": "base243", "bytes": 0, "plus": 0, "minus": 0, "magnitude": 1.0}}]}, "needed is one, without weights"),
])
def test_a_header_that_is_not_right_is_refused(kind, settings, sentence, monkeypatch):
    net = nn.Sequential([nn.AvgPool2D(1), nn.Flatten(), nn.Dense(4, 2, Trained(), np.random.default_rng(0))], (2, 2, 1))
    monkeypatch.setitem(header.KINDS, "AvgPool2D", header.KINDS["AvgPool2D"]._replace(write=lambda *_: {"wrong": 0}))
    content = export.file.encoded(net, ("a", "b"))
    wrong, right = b'{"kind":"AvgPool2D","wrong":0}', export.file.json.dumps({"kind": kind, **settings}).encode()
    start = content.index(b"{")
    length = int.from_bytes(content[start - 3:start], "little") - len(wrong) + len(right)
    content = content[:start - 3] + length.to_bytes(3, "little") + content[start:-32].replace(wrong, right)
    with pytest.raises(MinimaskError, match=sentence):
        export.read(content + export.file.hashlib.sha256(content).digest(), "net.mmk")


def test_paths_pass_all_layers():
    """The gradient of the net of |t| without nonlinearities, taken by hand, group by group."""
    net = everything(SignedSupermask(tau=0.01), "float64")
    found = anatomy.paths(net)
    signs = {name: np.abs(sign).astype(float) for name, sign in anatomy.signs(net).items()}
    x = Tensor(np.zeros((1, 8, 8, 1)), requires_grad=True)
    y = ops.conv2d(x, signs["conv2d1"])
    y = ops.conv2d(y, ungrouped(net.layers["groupedconv2d1"], signs["groupedconv2d1"]))
    inner = net.layers["residual1"].main["groupedconv2d1"]
    y = y + ops.conv2d(y, ungrouped(inner, signs["residual1.groupedconv2d1"]))
    y = ops.conv2d(y, np.broadcast_to(np.eye(8), (3, 3, 8, 8)).copy(), 2)
    y = ops.matmul(ops.reshape(y, (1, 128)), signs["dense1"])
    y.backward(np.eye(10)[3:4])
    np.testing.assert_array_equal(found[3], x.grad[0])


def test_degrees_count_every_input_of_a_convolution_in_groups():
    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.GroupedConv2D(6, 4, 3, 2, SignedSupermask(tau=0.05), rng), nn.Flatten(),
                         nn.Dense(100, 2, SignedSupermask(tau=0.05), rng)], (5, 5, 6))
    out, into = anatomy.degrees(net.masks(), anatomy.groups(net))["groupedconv2d1"]
    mask = net.masks()["groupedconv2d1"]
    assert out.shape == (6,) and into.shape == (4,) and out.sum() == into.sum() == np.count_nonzero(mask)
    assert out[4] == np.count_nonzero(mask[:, :, 1, 2:])  # input 4 is the second of the second group


def test_work_is_counted_as_it_is_done():
    rng = np.random.default_rng(0)
    whole, grouped = (nn.Sequential([layer], (8, 8, 16)) for layer in (
        nn.Conv2D(16, 16, 3, Trained(), rng), nn.GroupedConv2D(16, 16, 3, 4, Trained(), rng)))
    assert cost.of(whole).work - cost.of(grouped).work == 8 * 8 * 9 * 16 * (16 - 4)
    assert cost.of(nn.Sequential([nn.AvgPool2D(2)], (8, 8, 16))) == cost.of(nn.Sequential([nn.MaxPool2D(2)], (8, 8, 16)))


def test_a_net_shows_its_layers():
    text = repr(everything(SignedSupermask(tau=0.01)))
    for line in ("GroupedConv2D(4, 8, 3x3, groups=4, stride=1, same)", "Bias(4)", "Dropout(0.25)", "AvgPool2D(3x3, stride=2, same)", "Tanh()"):
        assert line in text
    assert everything(Trained()).size() == 36 + 72 + 288 + 1280
    assert "Residual(groupedconv2d1, bias1; Sigmoid())" in text
    assert repr(nn.Residual([nn.ReLU()])) == "Residual(relu1)"
