r"""Exact pruning: a masked net without the units and channels that cannot matter. The same outputs, smaller products.

A unit that no weight reaches gives 0 for every image, since no layer has a bias and ELU(0) = ReLU(0) = 0, as are the
largest and the mean of zeros; a unit that reaches no output has no say. Without one, others may be left without weights
in turn, so both rules are repeated until nothing changes. Pixels, and features behind a Flatten, that no weight reads
go too.

This holds for one layer after the other: the FCN and the Conv nets. In a ResNet ways meet; batch norm and bias shift
zeros, and a sigmoid makes 1/2 of them; a convolution in groups needs as many channels in each. A net with one of these
is left as it is. Dropout does nothing in a net that is used, and goes. What belongs to a unit is known by units.py,
which shrink.py asks, too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from . import layers as kinds
from . import nn, ops, resnet
from .backend import Array, asarray, load, namespace, on_device_of, to_host
from .engine import Tensor, no_grad
from .units import KEEP_ZEROS, PRODUCTS, connected, part, taken
from .units import origins as origins_of


class Fixed:
    """A weight that is given and stays as it is: in a net that is used and no longer trained.

    Args:
        weight: an array of the layer's shape, of any library.
    """

    def __init__(self, weight: Array):
        self.settings: dict[str, Any] = {}
        self.weight = Tensor(weight)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: str = "float32",
             backend: str = "numpy") -> Self:
        if self.weight.shape != shape:
            raise ValueError(f"Fixed: the weight has shape {self.weight.shape}, but the layer needs {shape}")
        drawn = copy.copy(self)
        drawn.weight = Tensor(load(backend).asarray(to_host(self.weight.data).astype(dtype)))
        return drawn

    def effective(self) -> Tensor:
        return self.weight

    def parameters(self) -> dict[str, Tensor]:
        return {}

    def state(self) -> dict[str, Array | float]:
        return {"weight": self.weight.data}

    def load_state(self, state: dict[str, Array]) -> None:
        self.weight = Tensor(state["weight"])

    def counts(self) -> tuple[int, int, int]:
        """(kept, hidden, inverted): what is not 0, what is, and none."""
        kept = int(np.count_nonzero(to_host(self.weight.data)))
        return kept, self.weight.size - kept, 0


class Take(nn.Layer):
    """Some of the features: (n, features) -> (n, k).

    Args:
        features: before. places: (k,) integers, which of them go on, in this order; in the net's array library.
    """

    def __init__(self, features: int, places: Array):
        self.features, self.places = features, places

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.take(x, self.places, axis=1)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != (self.features,):
            raise ValueError(f"Take: one sample has shape {shape}, but {(self.features,)} is needed")
        return (int(self.places.shape[0]),)

    def __repr__(self) -> str:
        return f"Take({self.places.shape[0]} of {self.features})"


@dataclass(frozen=True)
class Size:
    """How large a net is: hidden and output units (channels, in convolutions), weights that are not 0, and the
    multiply-adds of its products for one image, zeros and all."""

    units: int
    weights: int
    multiply_adds: int


def size(net: nn.Sequential) -> Size:
    """The Size of any net of ours."""
    units = sum(layer.shape[-1] for _, layer in net.walk() if layer.weight is not None)
    with no_grad():
        weights = sum(int(np.count_nonzero(to_host(source.effective().data))) for source in net.weights().values())
    return Size(units, weights, _multiply_adds(net.layers, net.input_shape))


def _multiply_adds(layers: Mapping[str, nn.Layer], shape: tuple[int, ...]) -> int:
    """Of layers one after the other, for a sample of this shape before the first."""
    total = 0
    for layer, after in zip(layers.values(), nn.shapes_after(layers, shape).values()):
        if isinstance(layer, resnet.Residual):
            total += _multiply_adds(layer.main, shape) + _multiply_adds(layer.shortcut, shape)
        if layer.weight is not None:
            total += math.prod(layer.shape) * math.prod(after[:-1])
        shape = after
    return total


def prune(net: nn.Sequential) -> nn.Sequential:
    """The net without units that no weight reaches or that reach no output; it maps images to logits as before.

    Its weights are new arrays in the same library and dtype, and nothing in it is trained. The outputs are the same but
    for rounding, since the products add up fewer zeros. At least one unit of every layer stays. A net with other layers
    than Dense, Conv2D, Dropout and those in KEEP_ZEROS comes back itself.
    """
    layers = [layer for layer in net.layers.values() if type(layer) is not kinds.Dropout]
    if not all(type(layer) in (*PRODUCTS, *KEEP_ZEROS) for layer in layers):
        return net
    weighted = [layer for layer in layers if layer.weight is not None]
    with no_grad():
        weights = [layer.weight.effective().data for layer in weighted if layer.weight is not None]
    before = [net.input_shape[-1], *(layer.shape[-1] for layer in weighted)]
    origins = [origins_of(layer.shape[-2], units) for layer, units in zip(weighted, before)]
    ins, outs = _alive([connected(weight) for weight in weights], origins, isinstance(weighted[0], nn.Conv2D))
    pruned: list[nn.Layer] = []
    number, channels = 0, np.arange(net.input_shape[-1])  # of those that came in at this place, which still do
    for layer in layers:
        if layer.weight is None:
            pruned.append(layer)
            continue
        here, there = np.flatnonzero(ins[number]), np.flatnonzero(np.isin(origins[number], channels))
        if len(here) < len(there):  # behind a Flatten
            places = np.searchsorted(there, here)
            pruned.append(Take(len(there), namespace(weights[number]).asarray(places, **on_device_of(weights[number]))))
        channels = np.flatnonzero(outs[number])
        weight = Fixed(asarray(part(to_host(weights[number]), (here, channels)), weights[number]))
        pruned.append(taken(layer, weight, weight.weight.shape))
        number += 1
    return nn.Sequential(pruned, net.input_shape)


def _alive(connected: Sequence[np.ndarray], origins: Sequence[np.ndarray],
           all_inputs: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Which inputs and outputs of every layer matter, as booleans: the most that both rules leave alone.

    Args:
        all_inputs: whether what comes into the first layer stays as it is.
    """
    ins = [np.ones(each.shape[0], bool) for each in connected]
    outs = [np.ones(each.shape[1], bool) for each in connected]
    last, changed = len(connected) - 1, True
    while changed:
        changed = False
        for i in [*range(last + 1), *range(last, -1, -1)]:  # both ways, as both rules go: two rounds are enough
            pairs = connected[i]
            kept = pairs & ins[i][:, None] & outs[i]  # (in, out)
            reading = ins[i] & (kept.any(axis=1) if i or not all_inputs else True)
            reached = outs[i]
            if i < last:
                reached = reached & kept.any(axis=0) & np.isin(np.arange(len(reached)), origins[i + 1][ins[i + 1]])
                ins[i + 1] &= reached[origins[i + 1]]
            changed |= bool((reading != ins[i]).any() or (reached != outs[i]).any())
            ins[i], outs[i] = reading, reached
    for some in (ins[0], *(some for i in range(last) for some in (outs[i], ins[i + 1]))):
        some[0] |= not some.any()  # layers of nothing are no layers
    return ins, outs
