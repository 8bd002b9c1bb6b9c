"""Exported nets: the same net comes back, from scratch too; damaged files end in a sentence; what cannot be exported."""

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import (
    MinimaskError,
    UsageError,
    backend,
    cost,
    data,
    export,
    init,
    mask,
    models,
    nn,
    no_grad,
    predict,
    recipes,
    zoo,
)
from minimask.export import file, header, ternary
from minimask.mask import SignedSupermask, Trained
from minimask.prune import Fixed

TEN = tuple("0123456789")
HERE = Path(__file__).parent


def logits(net, seed=0):
    dtype = next(iter(export.dense_weights(net).values())).dtype
    with no_grad():
        return net(np.random.default_rng(seed).standard_normal((3, *net.input_shape)).astype(dtype)).data


def small(weights, name="fcn", seed=5, dtype="float32", **options):
    """A net of the paper's shapes on 8 x 8 images, quick to code."""
    options |= {"units": (20, 10, 10)} if name == "fcn" else {}
    return models.MODELS[name](weights=weights, rng=np.random.default_rng(seed), dtype=dtype, **options)


def live_norm(net):
    """Batch norm as it is after training: no zeros and ones."""
    rng = np.random.default_rng(1)
    for _, layer in net.walk():
        if isinstance(layer, nn.BatchNorm):
            c, dtype = layer.mean.shape[0], layer.mean.dtype
            layer.scale.data, layer.shift.data = rng.random(c).astype(dtype), rng.random(c).astype(dtype)
            layer.mean, layer.variance = rng.random(c).astype(dtype), rng.random(c).astype(dtype)
    return net


def sources():
    """Every weight source that there is, with frozen weights of one magnitude and of many."""
    kinds = [kind for kind in vars(mask).values() if isinstance(kind, type) and issubclass(kind, mask.Supermask)]
    for kind in kinds:
        if "step" in vars(kind):
            for distribution in init.DISTRIBUTIONS:
                if kind is not mask.Supermask:
                    yield kind(frozen_distribution=distribution)
    yield Trained()
    yield Trained(distribution="constant")


def changed(path, edit):
    """Changes the header of a file as JSON, and its digest with it."""
    content = path.read_bytes()
    start = 12 + int.from_bytes(content[9:12], "little")
    header = json.loads(content[12:start])
    edit(header)
    text = json.dumps(header).encode()
    content = content[:9] + len(text).to_bytes(3, "little") + text + content[start:-32]
    path.write_bytes(content + hashlib.sha256(content).digest())


@pytest.fixture
def tiny(tmp_path):
    """A file of a small masked net."""
    export.save(tmp_path / "tiny.mmk", small(SignedSupermask(tau=0.05)), TEN, "a small net")
    return tmp_path / "tiny.mmk"


# ---- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", list(sources()), ids=lambda s: f"{type(s).__name__}-{s.settings}"[:60])
def test_every_weight_source_comes_back_exactly(tmp_path, source, dtype):
    net = small(source, dtype=dtype)
    saved = export.save(tmp_path / "a.mmk", net, TEN, seed=5)
    exported = export.load(tmp_path / "a.mmk")
    assert np.array_equal(logits(exported.net), logits(net)) and logits(net).dtype == dtype
    assert repr(exported.net) == repr(saved.net) and exported.stored == saved.stored
    assert (exported.classes, exported.about) == (TEN, "")
    assert exported.size == (tmp_path / "a.mmk").stat().st_size
    assert exported.header_size + sum(s.bytes for s in exported.stored.values()) == exported.size


@pytest.mark.parametrize(("name", "options"), [
    ("resnet20", {"norm": "all"}), ("resnet20", {"norm": "stem"}), ("resnet56", {"norm": "none", "classes": 10})])
def test_residual_nets_come_back_with_their_batch_norm(tmp_path, name, options):
    net = live_norm(small(SignedSupermask(tau_ratio=0.97), name, **options))
    export.save(tmp_path / "a.mmk", net, TEN)
    assert np.array_equal(logits(export.load(tmp_path / "a.mmk").net), logits(net))


def test_a_conv_net_comes_back(tmp_path):
    net = small(SignedSupermask(tau_ratio=0.97), "conv4", input_shape=(8, 8, 3))
    exported = export.save(tmp_path / "a.mmk", net, TEN)
    assert np.array_equal(logits(export.load(tmp_path / "a.mmk").net), logits(net))
    assert all(s.bytes <= 1.09 * s.bound + 16 for s in exported.stored.values())
    exported = export.save(tmp_path / "a.mmk", net, TEN, codec="arithmetic")
    assert all(s.bytes <= 1.01 * s.bound + 16 for s in exported.stored.values())


@pytest.mark.parametrize("codec", [None, *ternary.CODECS])
def test_the_codec_can_be_chosen(tmp_path, codec):
    net = small(SignedSupermask(tau=0.05))
    exported = export.save(tmp_path / "a.mmk", net, TEN, codec=codec)
    assert {s.codec for s in exported.stored.values()} <= ({codec} if codec else set(ternary.QUICK))  # no layer is large
    assert np.array_equal(logits(export.load(tmp_path / "a.mmk").net), logits(net))
    for name, weights in export.dense_weights(net).items():
        trits = np.sign(weights).astype(np.int8)
        sizes = {(quick, by): len(ternary.CODECS[quick].encode(order.ravel())) for quick in ternary.QUICK
                 for by, order in (("input", trits), ("output", trits.T))}
        assert codec or exported.stored[name].bytes == min(sizes.values())
        stored = exported.stored[name]
        assert codec or stored.bytes == sizes[stored.codec, stored.by]


@pytest.mark.parametrize("name", ["fcn", "conv2"])
def test_the_order_that_needs_fewer_bytes_is_taken(tmp_path, name):
    """Whole units that are hidden, as training leaves them: by output they are one gap; and by input."""
    net = small(Trained(), name, **({} if name == "fcn" else {"input_shape": (8, 8, 3)}))
    for number, source in enumerate(net.weights().values()):
        weight = np.where(np.random.default_rng(number).random(source.effective().shape) < 0.1, np.float32(0.5), np.float32(0))
        if number % 2:  # what is left is by turns one output and one input
            weight[..., 1:, :] = 0
        else:
            weight[..., 1:] = 0
        source.parameters()["weight"].data = weight
    exported = export.save(tmp_path / "a.mmk", net, TEN, codec="rice")
    assert {stored.by for stored in exported.stored.values()} == {"input", "output"}
    for (layer, weight), (_, back) in zip(export.dense_weights(net).items(), export.dense_weights(export.load(tmp_path / "a.mmk").net).items()):
        assert weight.tobytes() == back.tobytes(), layer


def test_a_code_that_is_slow_to_read_is_taken_where_it_saves_much():
    """Signs without gaps: a binary digit each, where five ternary ones to a byte take 1.6; but not for a small layer."""
    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.Dense(300, 100, Fixed(rng.choice([-1.0, 1.0], (300, 100)).astype(np.float32)), rng),
                         nn.Dense(100, 10, Fixed(rng.choice([-1.0, 1.0], (100, 10)).astype(np.float32)), rng)], (300,))
    stored = export.read(export.encoded(net, TEN), "here").stored
    assert [each.codec for each in stored.values()] == ["arithmetic", "base243"]
    assert 3750 < stored["dense1"].bytes < 3770 and stored["dense2"].bytes == 200


def test_a_file_of_before_is_still_read():
    """digits-seed0 of the zoo as it was written when the arithmetic code was the one to be taken."""
    old = export.load(Path(__file__).parent / "arithmetic.mmk")
    assert {stored.codec for stored in old.stored.values()} == {"arithmetic"} and old.size == 3136
    for weight, again in zip(export.dense_weights(old.net).values(), export.dense_weights(zoo.load("digits", seed=0)).values()):
        assert weight.tobytes() == again.tobytes()
    assert export.encoded(old.net, old.classes, old.about, codec="arithmetic") == (Path(__file__).parent / "arithmetic.mmk").read_bytes()


layer_shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(layer_shapes, st.floats(0, 1), st.integers(0, 99), st.sampled_from(["float32", "float64"]),
       st.sampled_from([None, *ternary.CODECS]))
def test_any_ternary_layer_comes_back(tmp_path_factory, shape, density, seed, dtype, codec):
    rng = np.random.default_rng(seed)
    weight = (np.where(rng.random(shape) < density, rng.choice([-1, 1], shape), 0) * rng.random()).astype(dtype)
    net = nn.Sequential([nn.Dense(*shape, Fixed(weight), rng, dtype)], shape[:1])
    path = tmp_path_factory.getbasetemp() / "any.mmk"
    stored = export.save(path, net, [str(i) for i in range(shape[1])], codec=codec).stored["dense1"]
    assert np.array_equal(export.dense_weights(export.load(path).net)["dense1"], weight)
    assert (stored.plus, stored.minus) == ((weight > 0).sum(), (weight < 0).sum()) and stored.codec != "plain"


def test_other_frozen_weights_cost_their_mask_and_a_line(tmp_path):
    """Uniform weights are drawn again, so the file grows by their rule and not by their floats."""
    constant, uniform = (small(SignedSupermask(tau=0.05, frozen_distribution=d)) for d in ("signed_constant", "uniform"))
    sizes = [export.save(tmp_path / "a.mmk", net, TEN, seed=5).size for net in (constant, uniform)]
    assert sizes[1] - sizes[0] < 3 * 330 < 4 * uniform.size() / 10


def test_a_net_without_any_weight_left(tmp_path):
    net = small(SignedSupermask(tau=9.0))
    exported = export.save(tmp_path / "a.mmk", net, TEN)
    assert sum(s.bytes for s in exported.stored.values()) == 0 and not logits(exported.net).any()


def test_a_file_is_exported_anew_from_what_was_read(tiny, tmp_path):
    first = export.load(tiny)
    export.save(tmp_path / "b.mmk", first.net, first.classes, first.about)
    assert (tmp_path / "b.mmk").read_bytes() == tiny.read_bytes()


def test_the_same_net_gives_the_same_file(tmp_path, tiny):
    export.save(tmp_path / "b.mmk", small(SignedSupermask(tau=0.05)), TEN, "a small net")
    assert (tmp_path / "b.mmk").read_bytes() == tiny.read_bytes()


def test_nets_of_another_array_library(tmp_path, tiny):
    """They are written from there and read to there."""
    net = small(SignedSupermask(tau=0.05), backend="strict")
    export.save(tmp_path / "b.mmk", net, TEN, "a small net")
    assert (tmp_path / "b.mmk").read_bytes() == tiny.read_bytes()
    there = export.load(tiny, "strict").net
    x = np.ones((2, 28, 28, 1), np.float32)
    result = there(backend.asarray(x, next(iter(there.weights().values())).effective().data)).data
    assert backend.namespace(result).__name__ == "array_api_strict"
    assert np.allclose(backend.to_host(result), export.load(tiny).net(x).data, rtol=1e-5, atol=1e-5)


def test_nothing_in_a_loaded_net_is_trained(tmp_path):
    net = live_norm(small(SignedSupermask(tau_ratio=0.99), "resnet20", norm="stem"))
    loaded = export.save(tmp_path / "a.mmk", net, TEN).net
    assert not any(t.requires_grad for t in loaded.parameters())
    assert sum(counts[0] for counts in loaded.counts()) == sum(c[0] + c[2] for c in net.counts())
    assert loaded.weights_left() == pytest.approx(net.weights_left())


# ---- the documented reader -------------------------------------------------------------------------------------------


def reader():
    """The lines in export.py's documentation."""
    return textwrap.dedent(re.search(r"a test runs them::\n\n(.*)\Z", file.__doc__, re.DOTALL)[1])


@pytest.mark.parametrize("by", [("input",), ("output",)])
def test_the_documented_reader_reads_the_file(tmp_path, monkeypatch, by):
    net = small(SignedSupermask(tau=0.02), units=(30, 10))
    monkeypatch.setattr(file, "BY", by)
    export.save(tmp_path / "tiny.mmk", net, TEN, codec="rice")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(reader(), "export.py", "exec"), names)
    for a, b in zip(names["weights"], export.dense_weights(net).values(), strict=True):
        assert np.array_equal(a.astype(np.float32), b)
    x = np.random.default_rng(0).standard_normal((2, 784))
    first, second, third = names["weights"]
    hidden = x @ first
    for weight in (second, third):
        hidden = np.where(hidden > 0, hidden, np.expm1(hidden)) @ weight
    with no_grad():
        assert np.allclose(hidden, net(x.reshape(2, 28, 28, 1).astype(np.float32)).data, rtol=1e-3, atol=1e-4)


def test_the_documented_reader_has_twenty_lines():
    lines = [line for line in reader().splitlines() if line.strip() and not line.startswith("import")]
    assert len(lines) <= 20


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("edit", "sentence"), [
    (lambda h: h.pop("classes"), "the header has no 'classes'"),
    (lambda h: h.update(extra=1), "the header has an unknown 'extra'"),
    (lambda h: h.update(dtype="float16"), "'dtype' of the header is 'float16', but must be one of float32, float64"),
    (lambda h: h.update(classes=["a"] * 9), "the net ends in (10,), but there are 9 classes"),
    (lambda h: h.update(classes=["\x1b[31m"] + ["a"] * 9), "must be a list of printable lines"),
    (lambda h: h.update(about="two\nlines"), "must be one printable line"),
    (lambda h: h.update(standardise="neither"), "must be one of per image"),
    (lambda h: h.update(answers=[["class", 9]]), "pairs of class, number, yes and a number of outputs, 10 in all"),
    (lambda h: h.update(answers=[["sort", 10]]), "pairs of class, number, yes"),
    (lambda h: h.update(answers=[["class", 10, 1]]), "pairs of"), (lambda h: h.update(answers=[]), "pairs of"),
    (lambda h: h.update(answers=[["number", True], ["number", 9]]), "pairs of"),
    (lambda h: h.update(input=[28, 27, 1]), "Dense: one sample has shape (756,)"),
    (lambda h: h.update(input=[2**24, 2**24, 4]), "Dense: one sample has shape"),
    (lambda h: h["layers"][1].update(kind="Danse"), "'kind' of layer 2 of the header is 'Danse'"),
    (lambda h: h["layers"][1].update(stride=1), "layer 2 of the header has an unknown 'stride'"),
    (lambda h: h["layers"][2].update(alpha=-1.0), "'alpha' of layer 3 of the header is -1.0, but must be a number from 1e-30 up"),
    (lambda h: h["layers"][2].update(alpha=0), "'alpha' of layer 3 of the header is 0, but must be a number from 1e-30 up"),
    (lambda h: h["layers"][1]["weight"].update(bytes=10**9), "must be a whole number from 0 to"),
    (lambda h: h["layers"][1]["weight"].update(bytes=5), "its layers promise"),
    (lambda h: h["layers"][1]["weight"].update(plus=True), "'plus' of the weight of layer 2 of the header is True"),
    (lambda h: h["layers"][1]["weight"].update(shape=[784, 20, 1]), "must be a list of sizes"),
    (lambda h: h["layers"].insert(1, {"kind": "GlobalAvgPool"}), "GlobalAvgPool: one sample has shape (784,)"),
    (lambda h: h["layers"].insert(1, {"kind": "BatchNorm", "channels": 9, "eps": 0.1}), "9 channels are needed"),
    (lambda h: h["layers"].insert(1, {"kind": "BatchNorm", "channels": 784, "eps": 0.1}), "its layers promise"),
    (lambda h: h["layers"].insert(0, {"kind": "MaxPool2D", "window": 2, "stride": 2, "padding": [[2, 0], [0, 0]]}),
     "four numbers below 2, the window's size"),
    (lambda h: h["layers"].insert(0, {"kind": "MaxPool2D", "window": 2, "stride": 0, "padding": "same"}), "from 1 to"),
    (lambda h: h["layers"].insert(0, {"kind": "Conv2D", "stride": [1, 1], "padding": "same", "weight": {
        "shape": [0, 0, 1, 1], "codec": "base243", "bytes": 0, "plus": 0, "minus": 0, "magnitude": 1.0}}),
     "needed is a square window"),
    (lambda h: h["layers"][1]["weight"].update(magnitude=1e39), "'magnitude' of the weight of layer 2"),
    (lambda h: h["layers"][1]["weight"].update(extra=1), "the weight of layer 2 of the header has an unknown 'extra'"),
    (lambda h: h.update(input=[4, 4, 1], layers=[{"kind": "GlobalAvgPool"}], classes=["a"]), "no layer with weights"),
    (lambda h: h["layers"].insert(0, {"kind": "MaxPool2D", "window": 58, "stride": 1, "padding": "same"}),
     "the window of maxpool2d1 is 58 wide, and images are (28, 28, 1)"),
    (lambda h: h.update(input=[2**24, 4, 1], classes=["a"], layers=[{"kind": "GlobalAvgPool"}, {
        "kind": "Dense", "weight": {"shape": [1, 1], "codec": "arithmetic", "bytes": 0, "plus": 0, "minus": 0,
                                    "magnitude": 1.0}}]), "and 16,777,216 are the most"),
    (lambda h: h["layers"][1]["weight"].update(plus=h["layers"][1]["weight"]["plus"] + 1,
                                               minus=h["layers"][1]["weight"]["minus"] - 1), "other counts of signs"),
])
def test_a_header_that_is_not_right_is_refused(tiny, edit, sentence):
    changed(tiny, edit)
    with pytest.raises(export.ExportError) as caught:
        export.load(tiny)
    assert sentence in str(caught.value) and "export it anew" in str(caught.value)


def test_more_weights_than_a_file_may_hold_are_refused_before_there_is_memory_for_them(tiny):
    """A bomb: 10^14 hidden weights take no byte of code."""
    def edit(header):
        header["layers"] = [{"kind": "Flatten"}] + [
            {"kind": "Dense", "weight": {"shape": shape, "codec": "arithmetic", "bytes": 0, "plus": 0, "minus": 0,
                                         "magnitude": 1.0}} for shape in ([784, 2**24 - 1], [2**24 - 1, 10])]
    changed(tiny, edit)
    with pytest.raises(export.ExportError, match="promises more than 16,777,216 weights"):
        export.load(tiny)


@pytest.mark.parametrize(("content", "sentence"), [
    (b"", "it begins with b'' where b'minimask' is needed"), (b"\x89PNG\r\n\x1a\n123", "it begins with b'.x89PNG"),
    (b"minimal\1", "it begins with b'minimal.x01'"), (b"minimask\0\0\0\0", "it is of version 00"),
    (b"minimask", "it is of version none"), (b"minimask\2\0\0\0", "it is of version 02, but this minimask reads version 1"),
    (b"minimask\1\xff\xff\xff" + bytes(99), "its header promises 16,777,215 bytes"),
    (b"minimask\1\1\0\0{" + bytes(32), "does not have the sha256 that it ends with")])
def test_other_files_are_told_apart(tmp_path, content, sentence):
    (tmp_path / "a.mmk").write_bytes(content)
    with pytest.raises(export.ExportError, match=sentence):
        export.load(tmp_path / "a.mmk")


def test_a_header_longer_than_any_is_not_read(tiny):
    content = tiny.read_bytes()
    start = 12 + int.from_bytes(content[9:12], "little")
    text = content[12:start] + b" " * export.HEADER_LIMIT
    content = content[:9] + len(text).to_bytes(3, "little") + text + content[start:-32]
    tiny.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(export.ExportError, match="its header promises .* and the header at most 1,048,576"):
        export.load(tiny)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(tmp_path, value):
    net = small(Trained())
    net.weights()["dense1"].weight.data[3, 4] = value
    with pytest.raises(export.ExportError, match="dense1 holds NaN or infinity"):
        export.save(tmp_path / "a.mmk", net, TEN)


@pytest.mark.parametrize(("row", "value"), [(0, np.nan), (2, np.inf), (3, -0.5), (3, np.nan)])
def test_batch_norm_that_cannot_be_is_refused(tmp_path, row, value):
    """row: scale, shift, mean, variance."""
    net = live_norm(small(SignedSupermask(tau_ratio=0.97), "resnet20", norm="stem"))
    norm = next(layer for _, layer in net.walk() if isinstance(layer, nn.BatchNorm))
    (norm.scale.data, norm.shift.data, norm.mean, norm.variance)[row][1] = value
    with pytest.raises(export.ExportError, match="batchnorm1 holds NaN, infinity or a variance that is not positive"):
        export.save(tmp_path / "a.mmk", net, TEN)


def test_settings_that_are_not_the_usual_ones_come_back(tmp_path):
    """Strides and paddings that differ from side to side, an eps, an alpha, a pool that pads."""
    rng = np.random.default_rng(0)
    norm = nn.BatchNorm(3, eps=0.25)
    net = nn.Sequential([nn.Conv2D(2, 3, 3, Trained(), rng, (2, 1), ((1, 0), (2, 1))), norm, nn.ELU(0.5),
                         nn.MaxPool2D(3, 2, "same"), nn.Flatten(), nn.Dense(36, 2, Trained(), rng)], (11, 7, 2))
    live_norm(net)
    norm.mean = norm.mean - 5  # a mean may be below 0
    loaded = export.save(tmp_path / "a.mmk", net, "ab").net
    assert list(map(repr, loaded.layers.values())) == list(map(repr, net.layers.values()))
    assert np.array_equal(logits(loaded), logits(net))


def test_a_file_of_more_than_a_megabyte(tmp_path):
    """The digest is taken piece by piece."""
    net = models.fcn(Trained(), np.random.default_rng(0), units=(350, 10))
    assert export.save(tmp_path / "a.mmk", net, TEN).size > 1 << 20
    assert np.array_equal(logits(export.load(tmp_path / "a.mmk").net), logits(net))


@pytest.mark.parametrize(("edit", "sentence"), [
    (lambda rule: rule.update(extra=1), "'frozen' of the weight of layer 2 of the header has an unknown 'extra'"),
    (lambda rule: rule["generator"].__setitem__(3, 1 << 40), "must be the four numbers of a generator's state"),
    (lambda rule: rule["generator"].__setitem__(0, 1 << 128), "must be the four numbers of a generator's state"),
    (lambda rule: rule["generator"].__setitem__(2, 2), "must be the four numbers of a generator's state")])
def test_a_rule_of_frozen_weights_that_is_not_right_is_refused(tmp_path, edit, sentence):
    path = tmp_path / "a.mmk"
    export.save(path, small(SignedSupermask(tau=0.05, frozen_distribution="normal")), TEN, seed=5)
    changed(path, lambda h: edit(h["layers"][1]["weight"]["frozen"]))
    with pytest.raises(export.ExportError, match=sentence):
        export.load(path)


def test_where_memory_runs_out_it_is_said(tiny, monkeypatch):
    def full(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(file, "_weight", full)
    with pytest.raises(backend.OutOfMemory, match="memory ran out while its net was read"):
        export.load(tiny)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"there is no .*a\.mmk; `minimask export RUN -o .*` makes one"):
        export.load(tmp_path / "a.mmk")
    with pytest.raises(MinimaskError, match="cannot be read"):
        export.load(tmp_path)


def test_frozen_weights_that_another_numpy_would_draw_are_noticed(tmp_path):
    path = tmp_path / "a.mmk"
    export.save(path, small(SignedSupermask(tau=0.05, frozen_distribution="normal")), TEN, seed=5)
    changed(path, lambda h: h["layers"][1]["weight"]["frozen"]["generator"].__setitem__(0, 12345))
    with pytest.raises(export.ExportError, match=r"the frozen weights of dense1, drawn again, do not have the sha256"):
        export.load(path)


def test_what_cannot_be_exported_is_said_and_nothing_is_written(tmp_path):
    path = tmp_path / "a.mmk"
    uniform = small(SignedSupermask(tau=0.05, frozen_distribution="uniform"))

    class Odd(nn.ELU):
        pass

    rng = np.random.default_rng(0)
    odd = nn.Sequential([nn.Dense(4, 2, Trained(), rng), Odd()], (4,))
    mixed = nn.Sequential([nn.Dense(4, 2, Trained(), rng), nn.Dense(2, 2, Trained(), rng, "float64")], (4,))
    nan = nn.Sequential([nn.Dense(1, 2, Fixed(np.array([[1, np.nan]], np.float32)), rng)], (1,))
    for call, kind, sentence in (
            (lambda: export.save(path, uniform, TEN), UsageError, "say with seed= which seed the net was built with"),
            (lambda: export.save(path, uniform, TEN, seed=6), export.ExportError, "seed 6 does not give the frozen weights"),
            (lambda: export.save(path, odd, "ab"), export.ExportError, "a layer of kind Odd cannot be exported"),
            (lambda: export.save(path, mixed, "ab"), export.ExportError, "weights are float32, float64"),
            (lambda: export.save(path, nan, "ab"), export.ExportError, "holds NaN or infinity"),
            (lambda: export.save(path, small(Trained()), "abc"), export.ExportError, "but there are 3 classes"),
            (lambda: export.save(path, small(Trained()), TEN, codec="base234"), UsageError, "did you mean 'base243'"),
            (lambda: export.save(tmp_path / "no/a.mmk", small(Trained()), TEN), MinimaskError, "cannot be written")):
        with pytest.raises(kind, match=sentence):
            call()
        assert not list(tmp_path.iterdir())


# ---- damaged files ---------------------------------------------------------------------------------------------------


def fuzz(count, seed):
    """What fuzz_export.py says, in a process of its own with 64 MB to load files of 1 to 4 kB in."""
    done = subprocess.run([sys.executable, str(HERE / "fuzz_export.py"), str(count), str(seed), "64"], capture_output=True,
                          text=True, timeout=3600, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    ends = json.loads(done.stdout)
    assert sum(sum(end.values()) for end in ends.values()) == count
    assert ends["flip"]["loaded"] == 0 and ends["cut"]["loaded"] < count / 100
    assert min(end["refused"] for end in ends.values()) > count / 20
    assert ends["edit_header"]["loaded"] > 0 and ends["edit_bytes"]["loaded"] > 0  # some hit what may be anything


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux only")


@linux
@pytest.mark.once
def test_damaged_files_end_in_a_sentence_or_in_what_they_say():
    fuzz(300, 0)


@linux
@pytest.mark.slow
def test_damaged_files_end_in_a_sentence_or_in_what_they_say_in_the_long_form():
    fuzz(10_000, 1)


# ---- the house -------------------------------------------------------------------------------------------------------


def test_the_outlines_of_data_sets_are_theirs():
    digits = data.digits()
    assert data.OUTLINES["digits"] == (digits.input_shape, digits.classes)
    assert set(data.OUTLINES) == {"digits", *data.DATASETS}
    assert data.blank("cifar100-validation").input_shape == (32, 32, 3)
    with pytest.raises(UsageError, match="did you mean 'mnist'"):
        data.blank("minst")


class Dropout(nn.Layer):
    """Of somebody's own: it does nothing once a net is trained."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, x, training=False):
        return x


def test_a_layer_of_ones_own(monkeypatch, tmp_path, rng):
    net = nn.Sequential([nn.Flatten(), Dropout(0.25), nn.Dense(4, 2, SignedSupermask(tau=0.01), rng)], (2, 2, 1))
    monkeypatch.setitem(header.KINDS, "Dropout", header.Kind(lambda layer, *_: {"rate": layer.rate},
                                                             lambda spec: Dropout(spec.number("rate"))))
    export.save(tmp_path / "net.mmk", net, "ab")
    again = export.load(tmp_path / "net.mmk").net
    x = rng.standard_normal((5, 2, 2, 1)).astype("float32")
    assert again.layers["dropout1"].rate == 0.25
    np.testing.assert_array_equal(again(x).data, net(x).data)
    monkeypatch.delitem(header.KINDS, "Dropout")
    with pytest.raises(MinimaskError, match="Dropout"):  # whoever reads it must know it, too
        export.load(tmp_path / "net.mmk")


# ---- what a net costs ------------------------------------------------------------------------------------------------


def pools(count, window, channels):
    """A header: a 1x1 convolution, so many pools that see the whole image from every place, and an end."""
    def weight(*shape):
        return {"shape": shape, "codec": "arithmetic", "bytes": 0, "plus": 0, "minus": 0, "magnitude": 1.0}

    conv = {"kind": "Conv2D", "stride": [1, 1], "padding": "same", "weight": weight(1, 1, 1, channels)}
    pool = {"kind": "MaxPool2D", "window": window, "stride": 1, "padding": "same"}
    return {"input": [8, 8, 1], "classes": ["a"], "layers": [
        conv, *[pool] * count, {"kind": "GlobalAvgPool"}, {"kind": "Dense", "weight": weight(channels, 1)}]}


def without_weights(path, edit):
    """The file with such a header and nothing behind it."""
    content = path.read_bytes()
    start = 12 + int.from_bytes(content[9:12], "little")
    text = json.dumps({**json.loads(content[12:start]), **edit}).encode()
    body = content[:9] + len(text).to_bytes(3, "little") + text
    path.write_bytes(body + hashlib.sha256(body).digest())


def test_work_without_end_is_refused_before_it_begins(tiny, monkeypatch):
    """A few kilobytes, valid by every other check; the sizes are the smallest that are refused, and none is computed."""
    monkeypatch.setattr(file, "_fill", lambda *_: pytest.fail("it began"))
    without_weights(tiny, pools(120, 17, 400))
    assert tiny.stat().st_size < 20_000
    with pytest.raises(export.ExportError, match=r"takes [\d.]+ times the work of the paper's largest net and [\d,]+ numbers at a "
                                                 "time, but 20 times and 16,777,216 are the most"):
        export.load(tiny)
    without_weights(tiny, {**pools(1, 17, 50_000)})
    with pytest.raises(export.ExportError, match="takes [0-9.]+ times the work"):
        export.load(tiny)


def test_a_few_such_layers_are_taken_on_and_take_no_time(tiny):
    without_weights(tiny, pools(3, 17, 2))
    exported = export.load(tiny)
    assert predict.classify(exported.net, np.zeros((2, 8, 8, 1)))[0].tolist() == [0, 0]


def test_the_papers_largest_net_is_the_measure():
    """By name in the constant: another net of the recipes may not take more."""
    found = {}
    for recipe in recipes.RECIPES.values():
        if (where := (recipe.model, recipe.dataset)) not in found:
            found[where] = cost.of(recipe.build(data.blank(recipe.dataset), np.random.default_rng(0))).work
    assert max(found.values()) == cost.LARGEST and max(found, key=found.get)[0] == "resnet110-dense"


def test_cost_counts_what_is_computed():
    """Against products, windows and numbers counted here."""
    rng, weights = np.random.default_rng(0), SignedSupermask(tau=0.05)
    dense = nn.Sequential([nn.Flatten(), nn.Dense(12, 5, weights, rng)], (2, 3, 2))
    calls = cost.CALLS * cost.CALL
    assert cost.of(dense) == (2 * calls + 12 * 5, 17)
    net = nn.Sequential([nn.Conv2D(2, 3, 3, weights, rng), nn.ReLU(), nn.MaxPool2D(2)], (4, 6, 2))
    conv = 24 * 9 * 2 * 3 + cost.PASS * (24 * 9 * 2 + 6 * 8 * 2) + 9 * cost.CALL
    pool = cost.PASS * (6 * 4 * 3 + 24 * 3) + 4 * cost.CALL
    assert cost.of(net) == (3 * calls + conv + cost.PASS * 2 * 72 + pool, 48 + 96 + 432 + 72)
    residual = nn.Sequential([nn.Residual([nn.ReLU()])], (4, 4, 2))
    assert cost.of(residual) == (2 * calls + cost.PASS * 64 + cost.PASS * 32, 32 + 32 + 64)


def test_images_are_taken_by_what_is_held_for_them(monkeypatch):
    """As many at a time as the numbers allow, at least one; the classes are the same."""
    net = small(SignedSupermask(tau=0.02))
    images, sizes = np.random.default_rng(0).integers(0, 256, (9, 28, 28, 1)), []
    whole = predict.classify(net, images)
    monkeypatch.setattr(
        data.Preprocess, "__call__", lambda self, part, dtype: sizes.append(len(part)) or data.standardise(part, dtype)
    )
    for allowed, expected in ((4 * cost.of(net).numbers, [4, 4, 1]), (1, [1] * 9), (1 << 26, [9])):
        monkeypatch.setattr(predict, "BATCH_NUMBERS", allowed)
        sizes.clear()
        assert np.array_equal(predict.classify(net, images)[0], whole[0]) and sizes == expected
