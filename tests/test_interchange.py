"""Nets in other systems' files: PyTorch and onnxruntime compute what ours do, on the same images."""

import json
import os
import re
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from pages import PAGES, blocks

# In CI a missing package is a failure; but onnxruntime has no build for Python 3.15 yet.
if os.environ.get("CI", "").lower() != "true" or sys.version_info >= (3, 15):
    for package in ("onnx", "onnxruntime", "safetensors"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[oracle]'")

import onnx
import onnx.reference
import onnxruntime
from safetensors.numpy import load as load_safetensors

from minimask import MinimaskError, UsageError, data, interchange, models, nn, runs
from minimask.__main__ import main
from minimask.files import WriteError
from minimask.interchange import dense as dense_module
from minimask.interchange import layers as layers_module
from minimask.interchange import writers
from minimask.mask import SignedSupermask, Trained

#: Of the largest absolute logit: how far two systems may be apart, and how close two classes must be to swap places.
TOLERANCE = 1e-4


def images(rng, shape, count):
    """Standardised images, half of each an even patch, so that not all of them look alike: (count, *shape)."""
    raw = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    raw[:, : shape[0] // 2] = rng.integers(0, 256, (count, 1, 1, shape[-1]))
    return data.standardise(raw)


def lively(net, rng, x=None):
    """The net with batch norm that has seen images `x`, and scales and shifts that differ from channel to channel."""
    norms = [layer for _, layer in net.walk() if isinstance(layer, nn.BatchNorm)]
    for layer in (layer for _, layer in net.walk() if isinstance(layer, nn.Bias)):
        layer.bias.data = rng.standard_normal(layer.bias.shape).astype(layer.bias.dtype)
    for layer in norms:
        layer.momentum = 0.0  # its running statistics become those of the next batch
        for tensor in layer.own_parameters().values():
            tensor.data = tensor.data + 0.3 * rng.standard_normal(tensor.shape).astype(tensor.dtype)
    if norms:
        net(rng.standard_normal((50, *net.input_shape)).astype("float32") if x is None else x, training=True)
    return net


def nchw(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def from_onnx(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": nchw(x)})
    return logits


def assert_same(theirs, ours):
    """Within TOLERANCE of the largest logit, and the same class wherever the two best differ by more than that."""
    allowed = TOLERANCE * np.abs(ours).max()
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=allowed)
    best = np.sort(ours, axis=1)
    sure = best[:, -1] - best[:, -2] > allowed
    assert sure.mean() > 0.8 and np.array_equal(theirs.argmax(axis=1)[sure], ours.argmax(axis=1)[sure])


@pytest.mark.parametrize(("name", "source", "count"), [
    pytest.param(name, source, count, marks=marks, id=f"{name}, {kind}, {count} images")
    for name, few in (("fcn", 1000), ("conv2", 200), ("resnet20", 200))
    for kind, source, count, marks in (("dense", Trained(), 100, ()), ("masked", SignedSupermask(tau=0.01), few, ()),
                                       ("masked", SignedSupermask(tau=0.01), 1000, pytest.mark.slow))
    if name != "fcn" or not marks])
def test_pytorch_and_onnxruntime_agree(name, source, count, rng, torch, tmp_path):
    """On 1,000 images of every net where slow tests are asked for; on 200 of a convolutional one otherwise."""
    import safetensors.torch

    options = {"norm": "stem"} if name == "resnet20" and isinstance(source, SignedSupermask) else {}
    net = models.MODELS[name](source, rng, **options)
    x = images(rng, net.input_shape, count)
    lively(net, rng, x[:100])
    ours = net(x).data
    assert len(set(ours.argmax(axis=1))) > 1
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), ours)
    interchange.write_safetensors(net, tmp_path / "net.safetensors")
    module = interchange.torch_module(models.MODELS[name](source, np.random.default_rng(1), **options))  # other weights
    module.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    with torch.no_grad():
        assert_same(module(torch.tensor(nchw(x))).numpy(), ours)


def test_a_net_written_by_hand_in_pytorch_loads_the_file(rng, torch, tmp_path):
    """Without anything of ours on the other side but the layers' names."""
    import safetensors.torch

    net = models.conv2(SignedSupermask(tau=0.01), rng, input_shape=(8, 8, 3), classes=7)
    interchange.write_safetensors(net, tmp_path / "net.safetensors")
    t = torch.nn
    theirs = t.Sequential(OrderedDict(
        conv2d1=t.Conv2d(3, 64, 3, padding=1, bias=False), elu1=t.ELU(),
        conv2d2=t.Conv2d(64, 64, 3, padding=1, bias=False), elu2=t.ELU(), maxpool2d1=t.MaxPool2d(2),
        flatten1=t.Flatten(), dense1=t.Linear(1024, 256, bias=False), elu3=t.ELU(),
        dense2=t.Linear(256, 256, bias=False), elu4=t.ELU(), dense3=t.Linear(256, 7, bias=False)))
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    x = images(rng, (8, 8, 3), 50)
    with torch.no_grad():
        assert_same(theirs(torch.tensor(nchw(x))).numpy(), net(x).data)


def test_rows_after_flatten_are_put_in_the_other_order_once(rng):
    """Ours: row, column, channel; there: channel, row, column. Later dense layers stay as they are."""
    net = nn.Sequential([nn.Flatten(), nn.BatchNorm(12), nn.ELU(), nn.Dense(12, 4, Trained(), rng), nn.ReLU(),
                         nn.Dense(4, 2, Trained(), rng)], (2, 3, 2))
    lively(net, rng)
    arrays = interchange.state_dict(net)
    first, second = (net.weights()[name].effective().data for name in ("dense1", "dense2"))
    np.testing.assert_array_equal(arrays["dense1.weight"].reshape(4, 2, 2, 3),
                                  first.reshape(2, 3, 2, 4).transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(arrays["dense2.weight"], second.T)
    mean = dict(net.walk())["batchnorm1"].mean
    np.testing.assert_array_equal(arrays["batchnorm1.running_mean"].reshape(2, 2, 3),
                                  mean.reshape(2, 3, 2).transpose(2, 0, 1))


@pytest.mark.parametrize("layers, shape", [
    (lambda rng: [nn.Flatten(), nn.BatchNorm(12), nn.Dense(12, 3, Trained(), rng)], (2, 3, 2)),
    (lambda rng: [nn.Dense(5, 4, Trained(), rng), nn.ReLU(), nn.Dense(4, 3, Trained(), rng)], (5,)),
    (lambda rng: [nn.Residual([nn.Conv2D(2, 4, 1, Trained(), rng, stride=2, padding="valid")],
                              [nn.MaxPool2D(1, 2), nn.Conv2D(2, 4, 3, Trained(), rng)]),
                  nn.ELU(0.5), nn.GlobalAvgPool(), nn.Dense(4, 3, Trained(), rng)], (6, 4, 2)),
    (lambda rng: [nn.GroupedConv2D(4, 4, 3, 4, Trained(), rng, stride=2, padding=1), nn.Bias(4), nn.Tanh(),
                  nn.GroupedConv2D(4, 6, 1, 2, Trained(), rng), nn.Dropout(0.5, rng), nn.AvgPool2D(2, 1, 1), nn.Flatten(),
                  nn.Bias(120), nn.Sigmoid(), nn.Dropout(0.2, rng), nn.Dense(120, 5, Trained(), rng), nn.Bias(5)], (5, 7, 4)),
    (lambda rng: [nn.Residual([nn.Flatten(), nn.Dense(18, 18, Trained(), rng)], [nn.Flatten()], "sigmoid"),
                  nn.Residual([nn.Dense(18, 18, Trained(), rng)], activation=nn.Tanh), nn.Dense(18, 4, Trained(), rng)],
     (3, 3, 2)),
], ids=["batch norm of a vector", "no image", "residual with layers on both ways", "layers of one's own nets",
        "residuals with other activations"])
def test_layers_in_other_places(layers, shape, rng, torch, tmp_path):
    net = lively(nn.Sequential(layers(rng), shape), rng)
    x = rng.standard_normal((20, *shape)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), net(x).data)
    assert_same(interchange.torch_module(net)(torch.tensor(nchw(x))).numpy(), net(x).data)


def dense(inputs, outputs, rng):
    return nn.Dense(inputs, outputs, Trained(), rng)


def conv(inputs, outputs, rng):
    return nn.Conv2D(inputs, outputs, 3, Trained(), rng)


def shared(rng):
    layer = dense(12, 12, rng)
    return [nn.Flatten(), layer, nn.ELU(), layer, nn.Residual([layer], [layer]), dense(12, 3, rng)]


#: Nets whose vectors behind Flatten stand in another order there, in more ways than a chain has.
ORDERS = {
    "dense in a residual behind Flatten":
        lambda rng: [nn.Flatten(), nn.Residual([dense(12, 12, rng)]), dense(12, 3, rng)],
    "dense in the shortcut":
        lambda rng: [nn.Flatten(), nn.Residual([nn.ELU()], [dense(12, 12, rng)]), dense(12, 3, rng)],
    "dense in both ways":
        lambda rng: [nn.Flatten(), nn.Residual([dense(12, 7, rng)], [dense(12, 7, rng)]), dense(7, 3, rng)],
    "bottleneck":
        lambda rng: [nn.Flatten(), nn.Residual([dense(12, 4, rng), nn.ELU(), dense(4, 12, rng)]), dense(12, 3, rng)],
    "residual in a residual":
        lambda rng: [nn.Flatten(), nn.Residual([dense(12, 12, rng), nn.Residual([dense(12, 12, rng), nn.BatchNorm(12)])]),
                     dense(12, 3, rng)],
    "residual in the shortcut of a residual":
        lambda rng: [nn.Flatten(), nn.Residual([dense(12, 12, rng)], [nn.Residual([dense(12, 12, rng)])]),
                     dense(12, 3, rng)],
    "two residuals, batch norm between":
        lambda rng: [nn.Flatten(), nn.Residual([dense(12, 12, rng)]), nn.BatchNorm(12), nn.Residual([dense(12, 12, rng)]),
                     dense(12, 3, rng)],
    "Flatten twice": lambda rng: [nn.Flatten(), nn.ReLU(), nn.Flatten(), dense(12, 3, rng)],
    "Flatten again behind dense": lambda rng: [nn.Flatten(), dense(12, 6, rng), nn.Flatten(), dense(6, 3, rng)],
    "Flatten in both ways": lambda rng: [nn.Residual([conv(2, 2, rng), nn.Flatten()], [nn.Flatten()]), dense(12, 3, rng)],
    "Flatten in both ways, dense in one":
        lambda rng: [nn.Residual([nn.Flatten(), dense(12, 12, rng)], [nn.Flatten()]), dense(12, 3, rng)],
    "one layer in four places": shared,
}


@pytest.mark.parametrize("name", ORDERS)
def test_vectors_behind_flatten_in_every_way(name, rng, torch, tmp_path):
    import safetensors.torch

    net = lively(nn.Sequential(ORDERS[name](rng), (2, 3, 2)), rng)
    x = rng.standard_normal((40, 2, 3, 2)).astype("float32")
    ours = net(x).data
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), ours)
    module = interchange.torch_module(net)
    assert_same(module(torch.tensor(nchw(x))).numpy(), ours)
    interchange.write_safetensors(net, tmp_path / "net.safetensors")
    for parameter in module.state_dict().values():
        parameter.zero_()
    module.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    assert_same(module(torch.tensor(nchw(x))).numpy(), ours)


def test_orders_that_cannot_be_written(rng, tmp_path):
    """Two Flattens of images of two shapes meet, with nothing between that could put one in the other's order."""
    for layers, sentence in (
            ([nn.Residual([nn.Conv2D(4, 2, 1, Trained(), rng), nn.Flatten()],
                          [nn.Conv2D(4, 4, 1, Trained(), rng, stride=(1, 2), padding="valid"), nn.Flatten()]),
              dense(8, 3, rng)], "residual1 is Residual.*its two ways end in two orders there; put Dense into one"),
            ([nn.Flatten(), nn.Residual([dense(16, 16, rng)])], "ends in Residual.* behind Flatten: its outputs would"),
            ([], "the net has no layer")):
        net = nn.Sequential(layers, (2, 2, 4))
        for write in (interchange.write_onnx, interchange.write_safetensors):
            with pytest.raises(MinimaskError, match=sentence):
                write(net, tmp_path / "net")
    net = nn.Sequential([nn.BatchNorm(4), nn.Flatten(), dense(16, 3, rng)], (4, 4))  # there, channels would be the rows
    with pytest.raises(MinimaskError, match=r"batchnorm1 is BatchNorm\(4\) on samples of shape \(4, 4\)"):
        interchange.write_onnx(net, tmp_path / "net")
    assert not list(tmp_path.iterdir())
    gray = nn.Sequential([nn.Flatten()], (2, 3, 1))  # one channel: the order is the same
    interchange.write_onnx(gray, tmp_path / "net.onnx")
    x = rng.standard_normal((3, 2, 3, 1)).astype("float32")
    np.testing.assert_array_equal(from_onnx(tmp_path / "net.onnx", x), gray(x).data)


def test_a_net_that_ends_in_an_image(rng, torch, tmp_path):
    net = nn.Sequential([conv(2, 5, rng)], (4, 3, 2))
    x = rng.standard_normal((6, 4, 3, 2)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    for theirs in (from_onnx(tmp_path / "net.onnx", x), interchange.torch_module(net)(torch.tensor(nchw(x))).numpy()):
        np.testing.assert_allclose(theirs, nchw(net(x).data), rtol=1e-4, atol=1e-5)


def test_pools_that_pad_more_than_half_a_window(rng, torch, tmp_path):
    """PyTorch's refuse when they run; ours says so when the module is built. ONNX has them."""
    net = nn.Sequential([nn.MaxPool2D(3, 1, 2), nn.Flatten(), dense(6 * 6 * 2, 3, rng)], (4, 4, 2))
    with pytest.raises(MinimaskError, match=r"maxpool2d1 is MaxPool2D.*pads \(\(2, 2\), \(2, 2\)\); PyTorch's pools pad at "
                                            r"most half of the window \(3, 3\): write ONNX"):
        interchange.torch_module(net)
    x = rng.standard_normal((20, 4, 4, 2)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), net(x).data)
    half = nn.Sequential([nn.MaxPool2D(2, 1, 1), nn.Flatten(), dense(5 * 5 * 2, 3, rng)], (4, 4, 2))
    assert_same(interchange.torch_module(half)(torch.tensor(nchw(x))).numpy(), half(x).data)


def test_safetensors_are_what_the_package_reads(rng, torch, tmp_path):
    """0-d arrays stay 0-d; the package and PyTorch read every byte back, and every array begins aligned."""
    import safetensors.torch

    for dtype in ("float64", "float32"):
        net = nn.Sequential([nn.BatchNorm(3, dtype=dtype), nn.Dense(3, 5, Trained(), rng, dtype=dtype)], (3,))
        interchange.write_safetensors(net, tmp_path / "net.safetensors")
        read, ours = safetensors.torch.load_file(tmp_path / "net.safetensors"), interchange.state_dict(net)
        assert read["batchnorm1.num_batches_tracked"].shape == ours["batchnorm1.num_batches_tracked"].shape == ()
        assert set(read) == set(ours) and {array.dtype.name for array in ours.values()} == {"int64", dtype}
        for name, array in ours.items():
            assert read[name].numpy().dtype == array.dtype
            np.testing.assert_array_equal(read[name].numpy(), array)
    content = (tmp_path / "net.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + length])
    assert length % 8 == 0 and all(entry["data_offsets"][0] % ours[name].itemsize == 0
                                   for name, entry in header.items() if name != "__metadata__")


@pytest.mark.parametrize("opset", [13, 14, 15, 17, 21, 23])
@pytest.mark.parametrize("name", ["fcn", "resnet20"])
def test_older_and_newer_opsets(name, opset, rng, tmp_path):
    """Checked by onnx when it is written; the runtime, and onnx's own evaluator, give our logits."""
    shape = (8, 8, 3) if name == "resnet20" else (4, 4, 2)
    net = lively(models.MODELS[name](SignedSupermask(tau=0.01), rng, shape), rng)
    x = rng.standard_normal((20, *shape)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx", opset=opset)
    model = onnx.load(tmp_path / "net.onnx")
    assert model.opset_import[0].version == opset and model.ir_version == {13: 7, 14: 7, 15: 8, 17: 8, 21: 10, 23: 11}[opset]
    assert_same(from_onnx(tmp_path / "net.onnx", x), net(x).data)
    if name != "resnet20" or opset >= 14:  # before, onnx's evaluator mixes the batch into batch norm: findings/
        (logits,) = onnx.reference.ReferenceEvaluator(model).run(None, {"images": nchw(x)})
        assert_same(logits, net(x).data)


def plain_and_compact(net, folder, opset):
    interchange.write_onnx(net, folder / "plain.onnx")
    interchange.write_onnx(net, folder / "compact.onnx", opset=opset, compact=True)
    return folder / "plain.onnx", folder / "compact.onnx"


#: What the runtime dequantizes, to be seen as an output.
def dequantized(path):
    model = onnx.load(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    for name in names:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = [1 if isinstance(size, str) else size for size in session.get_inputs()[0].shape]
    return dict(zip(names, session.run(names, {"images": np.zeros(shape, "float32")})))


@pytest.mark.parametrize("opset, kind, most", [(15, "INT8", 0.26), (21, "INT4", 0.14), (25, "INT2", 0.075)])
def test_compact_onnx(opset, kind, most, rng, tmp_path):
    """Signs in 8, 4 or 2 bits and one number a layer; the runtime multiplies with the same weights, bit for bit."""
    net = models.fcn(SignedSupermask(tau=0.01), rng, (8, 8, 1))
    x = images(rng, (8, 8, 1), 100)
    plain, compact = plain_and_compact(net, tmp_path, opset)
    assert compact.stat().st_size < most * plain.stat().st_size
    assert all(re.search(rf"\b{path.stat().st_size:,}\b", PAGES["docs/exports.md"]) for path in (plain, compact))
    kinds = {each.name: each.data_type for each in onnx.load(compact).graph.initializer if each.name.endswith(".signs")}
    assert list(kinds) == [f"dense{i}.weight.signs" for i in (1, 2, 3)]
    assert set(kinds.values()) == {getattr(onnx.TensorProto, kind)}
    weights, arrays = dequantized(compact), interchange.state_dict(net)
    assert list(weights) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights[name].view(np.uint32), array.view(np.uint32))
    assert_same(from_onnx(compact, x), net(x).data)


@pytest.mark.parametrize("opset", [15, 21, 25])
def test_compact_onnx_of_other_shapes(opset, rng, tmp_path):
    """Kernels, sizes that fill no byte, a layer without weights left, batch norm and trained weights that stay floats."""
    source = SignedSupermask(tau=0.01)
    net = nn.Sequential([nn.Conv2D(1, 3, 3, source, rng), nn.BatchNorm(3), nn.Residual([nn.Conv2D(3, 3, 1, source, rng)]),
                         nn.Flatten(), nn.Dense(75, 7, source, rng), nn.Dense(7, 5, Trained(), rng)], (5, 5, 1))
    lively(net, rng)
    x = rng.standard_normal((20, 5, 5, 1)).astype("float32")
    net.layers["residual1"].main["conv2d1"].weight.scores.data *= 0  # hides all of it
    assert net.counts()[1] == (0, 9, 0)
    _, compact = plain_and_compact(net, tmp_path, opset)
    weights, arrays = dequantized(compact), interchange.state_dict(net)
    assert list(weights) == ["conv2d1.weight", "residual1.conv2d1.weight", "dense1.weight"]
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight.view(np.uint32), arrays[name].view(np.uint32))
    assert_same(from_onnx(compact, x), net(x).data)


def test_the_bits_of_a_compact_file_are_onnx_own():
    for bits, kind in ((8, "INT8"), (4, "INT4"), (2, "INT2")):
        for trits in ([1], [0, 1, -1], [-1, -1, 0, 1, 1], [1, 0, -1, 0, -1, 1, 1, -1, 0]):
            made = onnx.helper.make_tensor("t", getattr(onnx.TensorProto, kind), [len(trits)],
                                           writers.pack(np.array(trits, np.int8), bits), raw=True)
            assert onnx.numpy_helper.to_array(made).astype(int).tolist() == trits


def test_opsets_and_compactness_that_do_not_go(rng, tmp_path):
    net = models.fcn(Trained(), rng, (4, 4, 1), (6, 3))
    for opset in (12, 99, 15.0, "15"):
        with pytest.raises(UsageError, match=f"opset {opset}: the onnx that is installed .* writes 13 to .*; give one"):
            interchange.write_onnx(net, tmp_path / "net.onnx", opset=opset)
    with pytest.raises(UsageError, match="no layer has weights of one magnitude .*leave it out"):
        interchange.write_onnx(net, tmp_path / "net.onnx", compact=True)
    assert not list(tmp_path.iterdir())


def test_padding_that_is_not_even(rng, torch, tmp_path):
    """TensorFlow's 'same' with stride 2 pads one side more: ONNX can say so, PyTorch's layers cannot."""
    net = nn.Sequential([nn.Conv2D(2, 3, 3, Trained(), rng, stride=2), nn.MaxPool2D(2, 1, "same"), nn.Flatten(),
                         nn.Dense(27, 4, Trained(), rng)], (6, 5, 2))
    x = rng.standard_normal((20, 6, 5, 2)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), net(x).data)
    with pytest.raises(MinimaskError, match=r"conv2d1 is Conv2D\(2, 3, 3x3.*pads \(\(0, 1\), \(1, 1\)\).*write ONNX"):
        interchange.torch_module(net)


def test_strides_and_paddings_that_differ_from_axis_to_axis(rng, torch, tmp_path):
    net = nn.Sequential([nn.Conv2D(2, 3, 3, Trained(), rng, stride=(2, 1), padding=((0, 0), (1, 1))),
                         nn.MaxPool2D(3, 1, ((1, 1), (0, 0))), nn.Flatten(), nn.Dense(54, 4, Trained(), rng)], (7, 8, 2))
    x = rng.standard_normal((20, 7, 8, 2)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), net(x).data)
    assert_same(interchange.torch_module(net)(torch.tensor(nchw(x))).numpy(), net(x).data)


def test_a_module_in_training_keeps_our_momentum(rng, torch):
    net = nn.Sequential([nn.BatchNorm(3, momentum=0.8), nn.Dense(3, 2, Trained(), rng)], (3,))
    x = rng.standard_normal((50, 3)).astype("float32") + 2
    module = interchange.torch_module(net).train()
    module(torch.tensor(x))
    net(x, training=True)
    np.testing.assert_allclose(module.state_dict()["batchnorm1.running_mean"].numpy(), dict(net.walk())["batchnorm1"].mean,
                               rtol=1e-4)


def test_the_files_say_what_they_are_and_repeat_byte_by_byte(rng, tmp_path):
    net = models.fcn(SignedSupermask(tau=0.05), rng, (4, 4, 1), (6, 3))
    for name in ("a", "b"):
        interchange.write_safetensors(net, tmp_path / f"{name}.safetensors")
        interchange.write_onnx(net, tmp_path / f"{name}.onnx")
    for kind in ("safetensors", "onnx"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    content = (tmp_path / "a.safetensors").read_bytes()
    metadata = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert metadata["format"] == "pt"  # accelerate's loader refuses files that have metadata and not this
    about = json.loads(metadata["minimask"])
    assert "standardised" in about["input"] and about["layers"]["dense1"] == "Dense(16, 6)"
    arrays = load_safetensors(content)
    zeros = arrays["dense1.weight"][arrays["dense1.weight"] == 0]
    assert net.counts()[0][1] == zeros.size > 0 and not np.signbit(zeros).any()
    model = onnx.load(tmp_path / "a.onnx")
    graph = model.graph
    assert model.opset_import[0].version == 15 and model.ir_version == 8
    assert [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)] == [["n", 1, 4, 4], ["n", 3]]
    assert "standardised" in graph.input[0].doc_string  # onnxslim drops this, onnx's Extractor the other
    assert {each.key: each.value for each in model.metadata_props} == {
        "input": graph.input[0].doc_string, "minimask": metadata["minimask"]}


def test_dtypes_and_other_array_libraries(rng, tmp_path):
    doubles = models.fcn(SignedSupermask(), rng, (4, 4, 1), (6, 3), dtype="float64")
    assert interchange.state_dict(doubles)["dense1.weight"].dtype == np.float64
    interchange.write_onnx(doubles, tmp_path / "net.onnx")
    x = rng.standard_normal((9, 4, 4, 1))
    assert_same(from_onnx(tmp_path / "net.onnx", x.astype("float32")), doubles(x).data)
    pytest.importorskip("array_api_strict")
    here, there = (models.fcn(SignedSupermask(), np.random.default_rng(3), (4, 4, 1), (6, 3), backend=library)
                   for library in ("numpy", "strict"))
    for name, array in interchange.state_dict(here).items():
        np.testing.assert_array_equal(array, interchange.state_dict(there)[name])


def test_the_pages_example(rng, torch, tmp_path, monkeypatch):
    """It writes both files, and its module gives our logits."""
    example, = (block for block in blocks("python") if "write_onnx" in block)
    monkeypatch.chdir(tmp_path)
    names = {"net": models.fcn(SignedSupermask(), rng, (4, 4, 1), (6, 3))}
    exec(compile(example, "docs/exports.md", "exec"), names)
    x = rng.standard_normal((9, 4, 4, 1)).astype("float32")
    assert_same(from_onnx("net.onnx", x), names["net"](x).data)
    assert_same(names["module"](torch.tensor(nchw(x))).numpy(), names["net"](x).data)
    assert set(load_safetensors(Path("net.safetensors").read_bytes())) == set(names["module"].state_dict())


def test_the_command_writes_what_the_ending_says(tmp_path, capsys, rng):
    assert main(["train", "digits", "--epochs", "1", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    net, _ = runs.load(tmp_path / "run", data.digits())
    for name, write in interchange.WRITERS.items():
        out = tmp_path / f"net{name}"
        assert main(["export", str(tmp_path / "run"), "-o", str(out)]) == 0
        assert f"{out.stat().st_size:,} bytes" in capsys.readouterr().out
        write(net, tmp_path / "same", classes=data.digits().classes, prepare=data.digits().prepare)
        assert (tmp_path / "same").read_bytes() == out.read_bytes()
        assert main(["export", str(tmp_path / "run"), "-o", str(out)]) == 2  # there already
        assert main(["export", str(tmp_path / "run"), "-o", str(out), "--overwrite", "--codec", "base243"]) == 2
        assert "--codec is for .mmk files" in capsys.readouterr().err
    for opset, most in ((15, 52_000), (21, 27_000)):
        words = ["export", str(tmp_path / "run"), "-o", str(tmp_path / f"{opset}.onnx"), "--compact"]
        assert main([*words, *(() if opset == 15 else ("--opset", str(opset)))]) == 0
        out = capsys.readouterr().out
        assert "signs and a magnitude for each layer" in out
        assert (tmp_path / f"{opset}.onnx").stat().st_size < most
        x = data.standardise(data.digits().test_images)
        assert_same(from_onnx(tmp_path / f"{opset}.onnx", x), net(x).data)
        assert onnx.load(tmp_path / f"{opset}.onnx").opset_import[0].version == opset
    for name in ("other.safetensors", "other.mmk"):
        for words, sentence in ((["--opset", "13"], "--opset is for .onnx"), (["--compact"], "--compact is for .onnx")):
            assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / name), *words]) == 2
            assert f"{sentence} files, and {name} is none; leave it out" in capsys.readouterr().err
    for opset, sentence in (("12", "'12' is no whole number from 13 up"), ("99", "opset 99: the onnx that is installed")):
        assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "old.onnx"), "--opset", opset]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "-o", "net.pt"]) == 2
    assert "must end in .mmk, .safetensors or .onnx" in capsys.readouterr().err


class Doubled(nn.Layer):
    """A layer of somebody's own."""

    def __call__(self, x, training=False):
        return x + x

    def __repr__(self):
        return "Doubled()"


class Dropout(nn.Layer):
    """Does nothing once a net is trained."""

    def __call__(self, x, training=False):
        return x * 0.0 if training else x

    def __repr__(self):
        return "Dropout()"


class Offset(nn.Layer):
    """Adds a number to each entry: not the same for all, so it is not entrywise."""

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers, np.float32)

    def __call__(self, x, training=False):
        return x + self.numbers

    def __repr__(self):
        return "Offset()"


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten at its end."""
    table = dict(layers_module.COUNTERPARTS)
    for module in (layers_module, dense_module, writers):
        monkeypatch.setattr(module, "COUNTERPARTS", table)


def test_layers_of_ones_own(registered, rng, torch, tmp_path):
    class Sum(torch.nn.Module):
        def forward(self, x):
            return x + x

    class Plus(torch.nn.Module):
        def __init__(self, count):
            super().__init__()
            self.numbers = torch.nn.Parameter(torch.zeros(count))

        def forward(self, x):
            return x + self.numbers

    interchange.register(Dropout, interchange.IDENTITY)
    interchange.register(Doubled, interchange.Counterpart(
        onnx=lambda node, place, x, y: [node("Add", [x, x], [y], name=place.name)],
        torch=lambda torch, place: Sum(), entrywise=True))
    interchange.register(Offset, interchange.Counterpart(
        onnx=lambda node, place, x, y: [node("Add", [x, f"{place.name}.numbers"], [y], name=place.name)],
        torch=lambda torch, place: Plus(len(place.layer.numbers)),
        arrays=lambda place: {"numbers": place.layer.numbers}))
    net = nn.Sequential([nn.Residual([conv(2, 2, rng), Dropout()]), nn.Flatten(), Doubled(), Dropout(),
                         dense(12, 4, rng), Offset([1, 2, 3, 4]), Dropout()], (2, 3, 2))
    x = rng.standard_normal((20, 2, 3, 2)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), net(x).data)
    with torch.no_grad():
        assert_same(interchange.torch_module(net)(torch.tensor(nchw(x))).numpy(), net(x).data)
    interchange.write_safetensors(net, tmp_path / "net.safetensors")
    assert "offset1.numbers" in load_safetensors((tmp_path / "net.safetensors").read_bytes())
    with pytest.raises(MinimaskError, match=r"offset1 is Offset\(\) behind Flatten, where entries come in another order"):
        interchange.write_onnx(nn.Sequential([nn.Flatten(), Offset(range(12)), dense(12, 4, rng)], (2, 3, 2)), tmp_path / "n")
    interchange.write_onnx(nn.Sequential([nn.Flatten(), Offset(range(6)), dense(6, 4, rng)], (2, 3, 1)), tmp_path / "n")


def test_what_cannot_be_registered():
    for kind, counterpart, sentence in ((Dropout(), interchange.IDENTITY, r"Dropout\(\) is no class of layers"),
                                        (int, interchange.IDENTITY, "is no class of layers"),
                                        (Dropout, "Identity", "'Identity' is no Counterpart; give interchange.Counter")):
        with pytest.raises(UsageError, match=sentence):
            interchange.register(kind, counterpart)


def test_arrays_that_safetensors_has_no_name_for(registered, rng, tmp_path):
    interchange.register(Offset, interchange.Counterpart(onnx=None, torch=None, arrays=lambda place: {
        "numbers": np.array([1j])}))
    with pytest.raises(MinimaskError, match=r"offset1\.numbers is complex128, which safetensors has not; there are float16"):
        interchange.write_safetensors(nn.Sequential([Offset([1, 2])], (2,)), tmp_path / "net")


def test_mistakes(rng, tmp_path, monkeypatch):
    for layers, sentence in (
            ([Doubled(), nn.Flatten(), dense(8, 2, rng)], r"doubled1 is Doubled\(\), which has no counterpart .* known are Dense.*interchange\.register"),
            ([nn.Residual([Doubled()]), nn.Flatten(), dense(8, 2, rng)], r"residual1.doubled1 is Doubled\(\), which has no"),
            ([nn.Flatten()], r"ends in Flatten\(\) behind Flatten: its outputs would come in another order"),
            ([nn.ReLU(), nn.Flatten(), nn.ELU()], "ends in ELU.* behind Flatten")):
        for write in (interchange.write_onnx, interchange.write_safetensors):
            with pytest.raises(MinimaskError, match=sentence):
                write(nn.Sequential(layers, (2, 2, 2)), tmp_path / "net")
    assert not list(tmp_path.iterdir())
    net = nn.Sequential([nn.Flatten(), dense(8, 2, rng)], (2, 2, 2))
    with pytest.raises(WriteError, match="cannot be written"):
        interchange.write_onnx(net, tmp_path / "missing" / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MinimaskError, match="needs the package onnx: pip install onnx"):
        interchange.write_onnx(net, tmp_path / "net")
    for name in [each for each in sys.modules if each.partition(".")[0] == "safetensors"]:
        monkeypatch.setitem(sys.modules, name, None)
    interchange.write_safetensors(net, tmp_path / "net")  # needs NumPy alone
