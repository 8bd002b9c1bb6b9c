"""Nets in other systems' files: PyTorch and onnxruntime compute what ours do, on the same images."""

import json
import os
import re
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

# In CI a missing package is a failure; but onnxruntime has no build for Python 3.15 yet.
if os.environ.get("CI", "").lower() != "true" or sys.version_info >= (3, 15):
    for package in ("onnx", "onnxruntime", "safetensors"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[oracle]'")

import onnx
import onnxruntime
from safetensors.numpy import load as load_safetensors

from minimask import MinimaskError, data, interchange, models, nn, runs
from minimask.__main__ import main
from minimask.files import WriteError
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


@pytest.mark.parametrize("source, count", [(SignedSupermask(tau=0.01), 1000), (Trained(), 100)],
                         ids=["masked, 1000 images", "dense, 100 images"])
@pytest.mark.parametrize("name", ["fcn", "conv2", "resnet20"])
def test_pytorch_and_onnxruntime_agree(name, source, count, rng, torch, tmp_path):
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
], ids=["batch norm of a vector", "no image", "residual with layers on both ways"])
def test_layers_in_other_places(layers, shape, rng, torch, tmp_path):
    net = lively(nn.Sequential(layers(rng), shape), rng)
    x = rng.standard_normal((20, *shape)).astype("float32")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    assert_same(from_onnx(tmp_path / "net.onnx", x), net(x).data)
    assert_same(interchange.torch_module(net)(torch.tensor(nchw(x))).numpy(), net(x).data)


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
    about = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    about = json.loads(about["minimask"])
    assert "standardised" in about["input"] and about["layers"]["dense1"] == "Dense(16, 6)"
    arrays = load_safetensors(content)
    zeros = arrays["dense1.weight"][arrays["dense1.weight"] == 0]
    assert net.counts()[0][1] == zeros.size > 0 and not np.signbit(zeros).any()
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)] == [["n", 1, 4, 4], ["n", 3]]
    assert "standardised" in graph.input[0].doc_string


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


def test_the_readmes_example(rng, torch, tmp_path, monkeypatch):
    """It writes both files, and its module gives our logits."""
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    example, = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "interchange" in block)
    monkeypatch.chdir(tmp_path)
    names = {"net": models.fcn(SignedSupermask(), rng, (4, 4, 1), (6, 3))}
    exec(compile(example, "README.md", "exec"), names)
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
        write(net, tmp_path / "same")
        assert (tmp_path / "same").read_bytes() == out.read_bytes()
        assert main(["export", str(tmp_path / "run"), "-o", str(out)]) == 2  # there already
        assert main(["export", str(tmp_path / "run"), "-o", str(out), "--overwrite", "--codec", "base243"]) == 2
        assert "--codec is for .mmk files" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "-o", "net.pt"]) == 2
    assert "must end in .mmk, .safetensors or .onnx" in capsys.readouterr().err


class Doubled(nn.Layer):
    """A layer of somebody's own."""

    def __call__(self, x, training=False):
        return x + x

    def __repr__(self):
        return "Doubled()"


def test_mistakes(rng, tmp_path, monkeypatch):
    def dense(n):
        return nn.Dense(n, 2, Trained(), rng)

    for layers, sentence in (
            ([Doubled(), nn.Flatten(), dense(8)], r"doubled1 is Doubled\(\), which has no counterpart .* known are Dense"),
            ([nn.Residual([Doubled()]), nn.Flatten(), dense(8)], r"residual1.doubled1 is Doubled\(\) inside Residual"),
            ([nn.Flatten()], "ends in Flatten: its outputs would come in another order"),
            ([nn.ReLU(), nn.Flatten(), nn.ELU()], "ends in Flatten")):
        for write in (interchange.write_onnx, interchange.write_safetensors):
            with pytest.raises(MinimaskError, match=sentence):
                write(nn.Sequential(layers, (2, 2, 2)), tmp_path / "net")
    assert not list(tmp_path.iterdir())
    net = nn.Sequential([nn.Flatten(), dense(8)], (2, 2, 2))
    with pytest.raises(WriteError, match="cannot be written"):
        interchange.write_onnx(net, tmp_path / "missing" / "net.onnx")
    for module, package, write in (("onnx", "onnx", interchange.write_onnx),
                                   ("safetensors.numpy", "safetensors", interchange.write_safetensors)):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MinimaskError, match=f"needs the package {package}: pip install {package}"):
            write(net, tmp_path / "net")
