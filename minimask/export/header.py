"""The header of an exported net: every kind of layer as JSON, there and back; what comes back is checked key by key.

Nothing here takes memory for a weight: a layer that was read holds a :class:`Stored` in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import init, nn, resnet
from .. import layers as kinds
from ..engine import Tensor
from ..fields import Fields, is_integer
from . import ternary

#: Most weights that a file may hold, three times as many as the paper's largest net has (Conv8); and most numbers that
#: are held at a time for one image.
MOST_NUMBERS = 1 << 24
#: Most work for one image, as cost.py counts it, in that of the paper's largest net.
MOST_WORK = 20

#: In place of a generator: nothing is drawn, and to make one takes a tenth of the time that an FCN takes to load.
NO_RNG: Any = None
#: Orders in which a code may take the entries of a weight; see Stored.
BY = ("input", "output")


@dataclass(frozen=True)
class Stored:
    """How the weight of one layer lies in a file. Until it is read, this stands in the net for it.

    Attributes:
        shape: of the weight. codec: of ternary.CODECS, or 'plain'. bytes: in the file.
        by: 'input' where the code takes the entries in the order of the array, whose last axis are the outputs;
            'output' where all of the first output come first.
        plus, minus: entries that are +1 and -1 in the ternary tensor or the mask, or that are positive and negative.
        magnitude: c, where the weight is c times the ternary tensor.
        frozen: where the weights are drawn again: scheme, distribution and factor of init.draw, the generator's state
            (four numbers) and the sha256 of what is drawn.
    """

    shape: tuple[int, ...]
    codec: str
    bytes: int
    plus: int
    minus: int
    by: str = "input"
    magnitude: float | None = None
    frozen: dict[str, Any] | None = None

    @property
    def weights(self) -> int:
        """How many there are, zeros too."""
        return math.prod(self.shape)

    @property
    def bound(self) -> float:
        """Bytes that the entropy of its counts allows a code that knows nothing of their order; floats: their bytes."""
        counts = (self.plus, self.weights - self.plus - self.minus, self.minus)
        return self.bytes if self.codec == "plain" else ternary.entropy(counts)

    def draw(self, *arguments: Any) -> Stored:
        """Itself: a layer that is being built asks its weight source for a copy with arrays."""
        return self


# ---- every kind of layer, there and back -----------------------------------------------------------------------------


class Kind(NamedTuple):
    """A layer as JSON: write(layer, weight, layers) -> its settings; read(spec) -> the layer, weights still Stored.

    weight(layer) and layers(those inside) give the JSON of what is in it.
    """

    write: Callable[[Any, Callable[[Any], Any], Callable[[Any], Any]], dict[str, Any]]
    read: Callable[[Spec], nn.Layer]


def _read_dense(spec: Spec) -> nn.Layer:
    stored: Any = spec.weight("weight", axes=2)
    inputs, outputs = stored.shape
    return nn.Dense(inputs, outputs, stored, NO_RNG)


def _read_conv(spec: Spec) -> nn.Layer:
    stored: Any = spec.weight("weight", axes=4)
    kernel, width, inputs, outputs = stored.shape
    if kernel != width or min(stored.shape) < 1:
        raise ValueError(f"a convolution of shape {stored.shape}; needed is a square window and a channel in and out")
    stride: Any = spec.pair("stride")
    return nn.Conv2D(inputs, outputs, kernel, stored, NO_RNG, stride, spec.padding("padding", kernel))


def _read_norm(spec: Spec) -> nn.Layer:
    layer = resnet.BatchNorm(1, eps=spec.number("eps"), dtype=spec.dtype)
    layer.scale = Tensor(np.broadcast_to(layer.scale.data, (spec.integer("channels", 1),)))  # takes no memory yet
    return layer


def _read_grouped(spec: Spec) -> nn.Layer:
    stored: Any = spec.weight("weight", axes=4)
    kernel, width, inputs, outputs = stored.shape
    groups = spec.integer("groups", 1)
    if kernel != width or min(stored.shape) < 1 or outputs % groups:
        raise ValueError(f"a convolution of shape {stored.shape} in {groups} groups; needed is a square window, a "
                         "channel in, and as many out in every group")
    stride: Any = spec.pair("stride")
    return kinds.GroupedConv2D(inputs * groups, outputs, kernel, groups, stored, NO_RNG, stride,
                               spec.padding("padding", kernel))


def _read_pool(kind: type[nn.MaxPool2D] | type[resnet.AvgPool2D]) -> Callable[[Spec], nn.Layer]:
    def read(spec: Spec) -> nn.Layer:
        window = spec.integer("window", 1)
        return kind(window, spec.integer("stride", 1), spec.padding("padding", window))

    return read


def _read_bias(spec: Spec) -> nn.Layer:
    layer = kinds.Bias(1, spec.dtype)
    layer.bias = Tensor(np.broadcast_to(layer.bias.data, (spec.integer("channels", 1),)))  # takes no memory yet
    return layer


def _read_dropout(spec: Spec) -> nn.Layer:
    share = spec.take("share", lambda value: type(value) in (int, float) and 0 <= value < 1, "from 0 to below 1")
    return kinds.Dropout(share, np.random.default_rng(0))


def _write_residual(layer: resnet.Residual, _: Any, layers: Callable[[Any], Any]) -> dict[str, Any]:
    """Nothing is said of the paper's ELU, as in files that were written when there was no other."""
    ways = {"main": layers(layer.main), "shortcut": layers(layer.shortcut)}
    if type(layer.activation) is nn.ELU and layer.activation.alpha == 1:
        return ways
    return {**ways, "activation": layers({"activation": layer.activation})}


def _read_residual(spec: Spec) -> nn.Layer:
    main, shortcut = spec.layers("main"), spec.layers("shortcut")
    activation = spec.layers("activation") if "activation" in spec.left else [nn.ELU()]
    if len(activation) != 1 or activation[0].weight is not None:
        raise ValueError(f"{spec.where} has {len(activation)} layers as its activation; needed is one, without weights")
    return resnet.Residual(main, shortcut, lambda: activation[0])


#: By class name. A layer that is not here cannot be exported. One of one's own may enter, where files are written and
#: where they are read: KINDS["Noise"] = Kind(lambda *_: {}, lambda spec: Noise()).
KINDS: dict[str, Kind] = {
    "Dense": Kind(lambda layer, weight, _: {"weight": weight(layer)}, _read_dense),
    "Conv2D": Kind(lambda layer, weight, _: {"weight": weight(layer), "stride": _pair(layer.stride),
                                             "padding": _padding(layer.padding)}, _read_conv),
    "GroupedConv2D": Kind(lambda layer, weight, _: {"weight": weight(layer), "groups": int(layer.groups), "stride":
                                                    _pair(layer.stride), "padding": _padding(layer.padding)},
                          _read_grouped),
    "MaxPool2D": Kind(lambda layer, *_: _pool(layer), _read_pool(nn.MaxPool2D)),
    "AvgPool2D": Kind(lambda layer, *_: _pool(layer), _read_pool(resnet.AvgPool2D)),
    "BatchNorm": Kind(lambda layer, *_: {"channels": layer.scale.shape[0], "eps": layer.eps}, _read_norm),
    "Bias": Kind(lambda layer, *_: {"channels": layer.bias.shape[0]}, _read_bias),
    "Dropout": Kind(lambda layer, *_: {"share": layer.share}, _read_dropout),  # nothing is drawn: it is not trained on
    "Residual": Kind(_write_residual, _read_residual),
    "GlobalAvgPool": Kind(lambda *_: {}, lambda _: resnet.GlobalAvgPool()),
    "Flatten": Kind(lambda *_: {}, lambda _: nn.Flatten()),
    "ELU": Kind(lambda layer, *_: {"alpha": layer.alpha}, lambda spec: nn.ELU(spec.number("alpha", 1e-30))),
    "ReLU": Kind(lambda *_: {}, lambda _: nn.ReLU()),
    "Tanh": Kind(lambda *_: {}, lambda _: kinds.Tanh()),
    "Sigmoid": Kind(lambda *_: {}, lambda _: kinds.Sigmoid()),
}
BUILT_IN = dict(KINDS)
#: Layers with floats of their own, a number per channel in each array, beside a weight's: their attributes, in the
#: order in which they lie in a file.
FLOATS: dict[type[nn.Layer], tuple[str, ...]] = {
    resnet.BatchNorm: ("scale", "shift", "mean", "variance"), kinds.Bias: ("bias",)}


def kind_of(layer: nn.Layer) -> str | None:
    """The kind that a layer is written as; None where there is none: one of your own is not ours of the same name."""
    name = type(layer).__name__
    ours = type(layer).__module__.partition(".")[0] == __package__.partition(".")[0]
    return name if name in KINDS and (ours or KINDS[name] is not BUILT_IN.get(name)) else None


def _pool(layer: nn.MaxPool2D | resnet.AvgPool2D) -> dict[str, Any]:
    return {"window": layer.window, "stride": layer.stride, "padding": _padding(layer.padding)}


def _pair(value: Any) -> list[int]:
    return [int(n) for n in (value if isinstance(value, (tuple, list)) else (value, value))]


def _padding(value: Any) -> Any:
    """A padding as JSON: 'same', 'valid' or [[top, bottom], [left, right]]."""
    return value if isinstance(value, str) else [_pair(sides) for sides in (
        value if isinstance(value, (tuple, list)) else (value, value))]


# ---- reading it, key by key ------------------------------------------------------------------------------------------


class Spec(Fields):
    """A JSON object of the header, taken key by key; ValueError for what is not as it should be.

    Args:
        value: what JSON gave. where: it is, for the sentence. dtype: of the net.
    """

    def __init__(self, value: Any, where: str, dtype: str = "float32"):
        super().__init__(value, where)
        self.dtype: str = dtype

    def integer(self, key: str, least: int = 0, most: int = MOST_NUMBERS) -> int:
        return super().integer(key, least, most)

    def sizes(self, key: str, axes: int | None = None) -> tuple[int, ...]:
        return tuple(self.take(key, lambda value: isinstance(value, list) and len(value) <= 8 and all(
            is_integer(each, 0, MOST_NUMBERS) for each in value) and axes in (None, len(value)), "a list of sizes"))

    def pair(self, key: str) -> tuple[int, int]:
        vertical, horizontal = self.take(key, lambda value: _is_pair(value, 1, MOST_NUMBERS), "two numbers from 1 up")
        return vertical, horizontal

    def padding(self, key: str, window: int) -> Any:
        value = self.take(key, lambda value: value in ("same", "valid") if isinstance(value, str) else (
            isinstance(value, list) and len(value) == 2 and all(_is_pair(sides, 0, window - 1) for sides in value)),
            f"'same', 'valid' or four numbers below {window}, the window's size, as [[top, bottom], [left, right]]")
        return value if isinstance(value, str) else tuple(map(tuple, value))

    def layers(self, key: str) -> list[nn.Layer]:
        value = self.take(key, lambda value: isinstance(value, list), "a list of layers")
        read = []
        for number, each in enumerate(value, 1):
            spec = type(self)(each, f"layer {number} of {self.where}", self.dtype)
            read.append(KINDS[spec.choice("kind", KINDS)].read(spec))
            spec.end()
        return read

    def weight(self, key: str, axes: int) -> Stored:
        """How a weight with so many axes is stored."""
        spec = Spec(self.of(key, dict), f"the weight of {self.where}")
        shape, codec = spec.sizes("shape", axes), spec.choice("codec", (*ternary.CODECS, "plain"))
        weights = math.prod(shape)
        plain = weights * np.dtype(self.dtype).itemsize
        least, most = (plain, plain) if codec == "plain" else (0, weights // 3 + 64)
        stored = Stored(shape, codec, spec.integer("bytes", least, most), plus := spec.integer("plus", 0, weights),
                        spec.integer("minus", 0, weights - plus),
                        spec.choice("by", BY) if codec == "rice" else "input", *spec._values(codec))
        spec.end()
        return stored

    def _values(self, codec: str) -> tuple[float | None, dict[str, Any] | None]:
        """What the ternary tensor is to be multiplied with: a magnitude, or frozen weights; nothing for 'plain'."""
        if codec == "plain":
            return None, None
        if "frozen" not in self.left:
            return self.number("magnitude"), None
        rule = Spec(self.of("frozen", dict), f"'frozen' of {self.where}")
        large = (1 << 128) - 1
        values = {
            "scheme": rule.choice("scheme", init.SCHEMES),
            "distribution": rule.choice("distribution", init.DISTRIBUTIONS),
            "factor": rule.take("factor", lambda value: value is None or (
                type(value) in (int, float) and 0 < value < 1e30), "a positive number or null"),
            "generator": rule.take("generator", lambda value: isinstance(value, list) and len(value) == 4 and all(
                is_integer(each, 0, most) for each, most in zip(value, (large, large, 1, (1 << 32) - 1))),
                "the four numbers of a generator's state"),
            "sha256": rule.text("sha256")}
        rule.end()
        return None, values


def _is_pair(value: Any, least: int, most: int) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_integer(each, least, most) for each in value)
