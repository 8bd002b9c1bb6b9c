"""What was written for other systems is read back, to the bit; and nothing else is."""

import json

import numpy as np
import pytest
from test_layers import everything

from minimask import MinimaskError, UsageError, interchange, models, nn, recipes
from minimask.export import header
from minimask.interchange import readers, writers
from minimask.mask import BinarySupermask, EdgePopup, SignedSupermask, Trained

SOURCES = {"signs": SignedSupermask(tau=0.01), "ratio, normal": SignedSupermask(tau_ratio=0.5, frozen_distribution="normal"),
           "binary": BinarySupermask(tau=0.01), "edge-popup": EdgePopup(share=0.3), "dense": Trained()}


def shared(weights, rng):
    """Behind Flatten entries stand in another order there; and a layer that is used twice has two names."""
    layer = nn.Dense(12, 12, weights, rng)
    return nn.Sequential([nn.Flatten(), nn.Residual([layer]), nn.BatchNorm(12), nn.ELU(), layer, nn.Dense(12, 3, weights, rng)], (2, 3, 2))


NETS = {"fcn": lambda weights, rng: models.fcn(weights, rng, (6, 6, 1), (8, 5, 4)),
        "resnet20": lambda weights, rng: models.resnet20(weights, rng, input_shape=(8, 8, 3), classes=3),
        "own layers": lambda weights, rng: everything(weights, seed=int(rng.integers(99)))}


@pytest.fixture(params=[".safetensors", ".onnx"])
def path(request, tmp_path):
    if request.param == ".onnx":
        pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[export]'")
    return tmp_path / f"net{request.param}"


def write(net, path, **options):
    interchange.WRITERS[path.suffix](net, path, **options)


def logits(net):
    return net(np.random.default_rng(3).standard_normal((4, *net.input_shape)).astype(np.float32)).data


def assert_same_bits(one, other):
    one, other = one.arrays(), other.arrays()
    assert one.keys() == other.keys()
    for name, array in one.items():
        if not name.endswith((".seed", ".calls")):
            np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("kind", ["signs", "dense"])
@pytest.mark.parametrize("name", NETS)
def test_a_file_alone_gives_a_net_that_computes_the_same(name, kind, path):
    net = NETS[name](SOURCES[kind], np.random.default_rng(0))
    write(net, path)
    found = interchange.read(path)
    np.testing.assert_array_equal(logits(found.net), logits(net))
    assert found.about["producer"].startswith("minimask ") and not any(t.requires_grad for t in found.net.parameters())
    assert [type(layer) for _, layer in found.net.walk()] == [type(layer) for _, layer in net.walk()]


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("name", [*NETS, "shared"])
def test_scores_and_masks_come_back_into_a_net_that_was_built_alike(name, kind, path):
    build, masked = NETS.get(name, shared), kind != "dense"
    net, other = (build(SOURCES[kind], np.random.default_rng(seed)) for seed in (0, 1))
    write(net, path, scores=masked)
    found = interchange.read(path, other, scores=masked)
    assert found.net is other
    assert_same_bits(other, net)
    np.testing.assert_array_equal(logits(other), logits(net))
    assert all(tensor.requires_grad for tensor in other.parameters())
    if masked:  # in the layout of the weights beside them
        for name in (name for name in found.arrays if name.endswith(".mask")):
            weight, frozen = (found.arrays[name.replace(".mask", part)] for part in (".weight", ".frozen"))
            np.testing.assert_array_equal(weight, frozen * found.arrays[name])


@pytest.mark.parametrize("opset", [13, 21, 25])
def test_compact_files_are_read_too(opset, tmp_path):
    onnx = pytest.importorskip("onnx")
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"onnx {onnx.__version__} knows no opset {opset}")
    net, path = everything(SOURCES["signs"]), tmp_path / "net.onnx"
    write(net, path, opset=opset, compact=True, scores=True)
    np.testing.assert_array_equal(logits(interchange.read(path).net), logits(net))
    other = everything(SOURCES["signs"], seed=1)
    assert_same_bits(interchange.read(path, other, scores=True).net, net)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_is_packed_is_unpacked(bits):
    trits = np.random.default_rng(0).integers(-1, 2, 23).astype(np.int8)
    np.testing.assert_array_equal(readers.unpack(writers.pack(trits, bits), bits, 23), trits)


def test_float64_comes_back_as_float64(tmp_path):
    net, path = everything(SOURCES["signs"], "float64"), tmp_path / "net.safetensors"
    write(net, path, scores=True)
    other = everything(SOURCES["signs"], "float64", seed=1)
    assert_same_bits(interchange.read(path, other, scores=True).net, net)
    assert {a.dtype.name for a in interchange.read(path).net.arrays().values() if a.dtype.kind == "f"} == {"float64"}
    before = everything(SOURCES["signs"], seed=1).arrays()
    float32 = everything(SOURCES["signs"], seed=1)
    with pytest.raises(MinimaskError, match="float64.*float32"):
        interchange.read(path, float32, scores=True)
    assert all(np.array_equal(array, before[name]) for name, array in float32.arrays().items())  # as it was


def test_a_file_with_scores_is_taken_by_others(tmp_path, torch):
    """onnxruntime leaves out what no node reads; PyTorch takes what it knows under strict=False."""
    onnxruntime, safetensors = pytest.importorskip("onnxruntime"), pytest.importorskip("safetensors.torch")
    net = models.conv2(SOURCES["signs"], np.random.default_rng(0), input_shape=(8, 8, 1), classes=3)
    write(net, tmp_path / "net.onnx", scores=True)
    x = np.random.default_rng(3).standard_normal((4, 1, 8, 8)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of them
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"images": x})[0], net(x.transpose(0, 2, 3, 1)).data, rtol=0, atol=1e-4)
    write(net, tmp_path / "net.safetensors", scores=True)
    module = interchange.torch_module(net)
    said = module.load_state_dict(safetensors.load_file(tmp_path / "net.safetensors"), strict=False)
    assert not said.missing_keys and {name.rpartition(".")[2] for name in said.unexpected_keys} == {"scores", "frozen", "mask", "tau"}


# ---- what is refused -----------------------------------------------------------------------------------------------


def fcn(kind="signs", seed=0, **options):
    return models.fcn(SOURCES[kind], np.random.default_rng(seed), (6, 6, 1), (8, 5, 4), **options)


@pytest.mark.parametrize("call, sentence", [
    (lambda path: interchange.read(path, scores=True), "give net="),
    (lambda path: interchange.read(path, fcn()), r"dense1 is masked.*give scores=True.*or read the file without net="),
    (lambda path: interchange.read(path, fcn("dense"), scores=True), "no layer of the net that was given is masked"),
    (lambda path: interchange.read(path, fcn(), scores=True), r"it holds no dense1.(frozen|mask|scores) .it was not written with scores"),
    (lambda path: interchange.read(path, models.fcn(SOURCES["dense"], np.random.default_rng(0), (6, 6, 1), (9, 5, 4))),
     r"dense1.weight is float32 \(8, 36\), but float32 \(9, 36\) is needed"),
    (lambda path: interchange.read(path, models.fcn(SOURCES["dense"], np.random.default_rng(0), (6, 6, 1), (8, 4))),
     "dense2.weight is"),
    (lambda path: interchange.read(path, nn.Sequential([nn.Flatten()], (6, 6, 1))), "an array 'dense1.weight' that the net has not"),
    (lambda path: interchange.read(path.with_name("none" + path.suffix)), "there is no .*none"),
    (lambda path: interchange.read(path.with_suffix(".pt")), "must end in .safetensors or .onnx"),
])
def test_what_does_not_fit_is_said_and_changes_nothing(call, sentence, path):
    write(fcn(), path)
    with pytest.raises(MinimaskError, match=sentence):
        call(path)


def test_scores_that_do_not_give_the_mask_beside_them_are_refused(path):
    """The net was built with another tau ratio, or rule."""
    write(fcn(), path, scores=True)
    other = models.fcn(BinarySupermask(tau=0.01), np.random.default_rng(1), (6, 6, 1), (8, 5, 4))
    before = other.arrays()
    with pytest.raises(interchange.ReadError, match="the scores of dense1 do not give the mask"):
        interchange.read(path, other, scores=True)
    assert all(np.array_equal(array, before[name]) for name, array in other.arrays().items())


def test_a_net_without_masks_has_no_scores_to_write(path):
    with pytest.raises(UsageError, match="scores: no layer of this net is masked"):
        write(fcn("dense"), path, scores=True)
    assert not path.exists()


def test_a_layer_of_your_own_takes_a_net_to_read_it(path):
    class Same(nn.Layer):
        def __call__(self, x, training=False):
            return x

    def net(seed):
        return nn.Sequential([nn.Flatten(), Same(), nn.Dense(4, 2, Trained(), np.random.default_rng(seed))], (2, 2, 1))

    interchange.register(Same, interchange.IDENTITY)
    write(net(0), path)
    with pytest.raises(interchange.ReadError, match="does not say which layers there are; give net="):
        interchange.read(path)
    np.testing.assert_array_equal(logits(interchange.read(path, net(1)).net), logits(net(0)))


class Any:
    """Equal to every digest: what else is checked shows."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = None


def resaved(path, edit):
    """A safetensors file with its header edited, as JSON, and its data."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    found, data = json.loads(content[8:8 + length]), content[8 + length:]
    data = edit(found, data) or data
    text = found if isinstance(found, bytes) else json.dumps(found).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def said(found, **changes):
    """Changes what a file says of itself."""
    about = json.loads(found["__metadata__"]["minimask"])
    about.update(changes)
    found["__metadata__"]["minimask"] = json.dumps(about)


def of_net(found, edit):
    about = json.loads(found["__metadata__"]["minimask"])
    edit(about["net"])
    said(found, net=about["net"])


@pytest.mark.parametrize("edit, sentence", [
    (lambda h, d: h.pop("__metadata__") and None, "it does not say that minimask wrote it"),
    (lambda h, d: h["__metadata__"].update(minimask="[1]"), "it does not say that minimask wrote it"),
    (lambda h, d: h["__metadata__"].update(minimask="{"), "is damaged: no JSON"),
    (lambda h, d: said(h, producer="another 1"), "it does not say that minimask wrote it"),
    (lambda h, d: h["dense1.weight"].update(dtype="BF16"), "'dtype' of the array 'dense1.weight' is 'BF16'"),
    (lambda h, d: h["dense1.weight"].update(dtype="I32"), "its weights are int32|is int32"),
    (lambda h, d: h["dense1.weight"].update(shape=[8, -36]), "the array 'dense1.weight' has no shape"),
    (lambda h, d: h["dense1.weight"].update(shape=[8, 35]), "the array 'dense1.weight' lies from"),
    (lambda h, d: h["dense1.weight"].update(shape=[2**30, 2**30]), "has no shape|lies from"),
    (lambda h, d: h["dense1.weight"].update(data_offsets=[0, 10**12]), "must be two places in the file"),
    (lambda h, d: h["dense1.weight"].update(data_offsets=[4, 1156]), "lies from"),
    (lambda h, d: h["dense1.weight"].update(extra=1), "unknown 'extra'"),
    (lambda h, d: h.update({"dense1.weight": 3}), "the array 'dense1.weight' is 3, but must be an object"),
    (lambda h, d: h.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [len(d), len(d)]}), "an array 'extra' that the net has not"),
    (lambda h, d: d + b"1234", "its arrays end at"),
    (lambda h, d: np.full(len(d) // 4, np.nan, "<f4").tobytes(), "holds NaN or infinity"),
    (lambda h, d: of_net(h, lambda net: net.update(input=[6, 7, 1])), "Dense: one sample has shape"),
    (lambda h, d: of_net(h, lambda net: net["layers"][1].update(kind="Danse")), "'kind' of layer 2 of its outline is 'Danse'"),
    (lambda h, d: of_net(h, lambda net: net["layers"][1]["weight"].update(shape=[36])), "must be a list of sizes"),
    (lambda h, d: of_net(h, lambda net: net.update(input=[2**24, 1, 1], layers=[{"kind": "Flatten"}, {
        "kind": "Dense", "weight": {"shape": [2**24, 8]}}])), "promises more than 16,777,216 weights"),
    (lambda h, d: of_net(h, lambda net: net.update(input=[2**22], layers=[{"kind": "Bias", "channels": 2**22}])), "its layers promise 4,194,304 numbers"),
    (lambda h, d: said(h, net=[]), "its outline is .., but must be an object"),
    (lambda h, d: said(h, net=None), "does not say which layers there are"),
])
def test_a_safetensors_file_that_is_not_right_is_refused(edit, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "digest", lambda arrays: Any())
    path = tmp_path / "net.safetensors"
    write(fcn(), path)
    resaved(path, edit)
    with pytest.raises(interchange.ReadError, match=sentence) as caught:
        interchange.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 20, (2**60).to_bytes(8, "little") + b"{}", b"\2\0\0\0\0\0\0\0[]", b"PK\3\4" * 9,
                                     (40).to_bytes(8, "little") + b"[" * 40])
def test_what_is_no_such_file_is_refused(content, path):
    path.write_bytes(content)
    with pytest.raises(interchange.ReadError, match="is no file that minimask wrote"):
        interchange.read(path)


def test_a_file_larger_than_any_is_not_read(path, monkeypatch):
    write(fcn(), path)
    monkeypatch.setattr(readers, "MOST_BYTES", 1000)
    with pytest.raises(interchange.ReadError, match="but may have 1,000"):
        interchange.read(path)


def test_a_folder_or_a_pipe_is_no_file(tmp_path):
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(MinimaskError, match=r"net.onnx (cannot be read|is no file)"):
        interchange.read(tmp_path / "net.onnx")


def onnx_edits():
    def external(onnx, model):
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    def elsewhere(onnx, model):
        entry = model.graph.initializer[0].external_data.add()
        entry.key, entry.value = "location", "weights.bin"

    return {
        "external data": (external, "of a kind that minimask does not write"),
        "a place of external data": (elsewhere, "of a kind that minimask does not write"),
        "another node": (lambda onnx, model: setattr(model.graph.node[2], "op_type", "Relu"), "its graph is not the one"),
        "another attribute": (lambda onnx, model: setattr(model.graph.node[2].attribute[0], "f", 2.0), "its graph is not the one"),
        "a node more": (lambda onnx, model: model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["more"])), "its graph is not"),
        "a node of another domain": (lambda onnx, model: setattr(model.graph.node[2], "domain", "other"), "its graph is not"),
        "fewer bytes": (lambda onnx, model: setattr(model.graph.initializer[0], "raw_data", b"1234"), "has 4 bytes, but"),
        "negative sizes": (lambda onnx, model: model.graph.initializer[0].dims.__setitem__(0, -8), "of a kind that minimask"),
        "texts": (lambda onnx, model: setattr(model.graph.initializer[0], "data_type", onnx.TensorProto.STRING), "of a kind that minimask"),
        "a name twice": (lambda onnx, model: setattr(model.graph.initializer[1], "name", model.graph.initializer[0].name), "have one name"),
        "functions": (lambda onnx, model: model.functions.add(), "it holds functions"),
        "no texts": (lambda onnx, model: model.metadata_props.clear() if hasattr(model.metadata_props, "clear") else
                     model.ClearField("metadata_props"), "does not say that minimask wrote it"),
    }


@pytest.mark.parametrize("name", onnx_edits())
def test_an_onnx_file_that_is_not_as_it_was_written_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "digest", lambda arrays: Any())
    onnx = pytest.importorskip("onnx")
    path, (edit, sentence) = tmp_path / "net.onnx", onnx_edits()[name]
    write(fcn(), path)
    model = onnx.load(path)
    edit(onnx, model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(interchange.ReadError, match=sentence):
        interchange.read(path)


def test_a_single_bit_of_a_weight_is_missed(path):
    write(fcn(), path)
    content = bytearray(path.read_bytes())
    weight = fcn().weights()["dense1"].effective().data
    at = content.index(weight[weight != 0].max().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(interchange.ReadError, match="do not have the sha256 that it promises"):
        interchange.read(path)


@pytest.mark.parametrize("digested", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_are_refused_or_read_as_what_they_say(seed, digested, path, monkeypatch):
    """A few bytes changed, cut off or doubled: never anything but a net of finite numbers, or a ReadError."""
    if not digested:
        monkeypatch.setattr(readers, "digest", lambda arrays: Any())
    write(fcn(), path, scores=True)
    content, rng = path.read_bytes(), np.random.default_rng(seed)
    for _ in range(40):
        changed = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed)) if rng.random() < 0.5 else rng.integers(200)] = rng.integers(256)
        if rng.random() < 0.2:
            changed = changed[:rng.integers(len(changed))]
        path.write_bytes(changed)
        try:
            net = interchange.read(path).net
        except MinimaskError as error:
            assert "\n" not in str(error)
            continue
        assert all(np.isfinite(array).all() for array in net.arrays().values())


def test_every_kind_of_layer_that_an_outline_may_name_is_one_that_can_be_read():
    assert set(header.BUILT_IN) == {kind.__name__ for kind in interchange.layers.COUNTERPARTS if kind.__module__.startswith("minimask.")} | {"Residual"}


def test_the_command_writes_scores(tmp_path, capsys):
    from minimask import data, runs
    from minimask.__main__ import main

    recipe = recipes.from_dict({**recipes.find("fcn").as_dict(), "name": "small", "epochs": 1, "dataset": "digits"})
    net, _ = runs.run(recipe, data.digits(), 0, tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "net.safetensors"), "--scores"]) in (0, None)
    other = recipe.build(data.digits(), np.random.default_rng(5))
    assert_same_bits(interchange.read(tmp_path / "net.safetensors", other, scores=True).net, net)
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "net.mmk"), "--scores"]) not in (0, None)
    assert "--scores is for .safetensors and .onnx files" in capsys.readouterr().err
