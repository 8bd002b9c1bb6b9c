"""Units and channels, and a net without some of them: which numbers are whose. Beside the path.

One place for everybody who makes a net smaller: prune.py, for one that is used, and shrink.py, for one that is trained.
A *unit* here is an output of a Dense layer or a channel of a Conv2D.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import layers, nn, resnet
from .backend import Array, to_host

#: Layers that give 0 where 0 comes in, and nothing else there, feature by feature or channel by channel; backward the
#: same holds of cotangents. A subclass may do anything, so types are compared, and not asked for. Not among them are
#: BatchNorm and Bias, which shift zeros, Sigmoid, which makes 1/2 of 0, and Dropout: it does keep zeros, but the
#: numbers that it draws depend on how many units there are, so training without some would be another run.
KEEP_ZEROS = (nn.ELU, nn.ReLU, layers.Tanh, nn.MaxPool2D, resnet.AvgPool2D, resnet.GlobalAvgPool, nn.Flatten)
#: Layers that multiply with their weight and do nothing else.
PRODUCTS = (nn.Dense, nn.Conv2D)
#: What is taken of a weight: which inputs and which outputs, as integers in order.
Chosen = tuple[np.ndarray, np.ndarray]


def origins(inputs: int, units: int) -> np.ndarray:
    """The unit that each input of a layer comes from, of `units` before it: -> (inputs,).

    A Flatten turns h x w x c numbers into features, channels innermost: feature i comes from channel i mod c.
    """
    return np.arange(inputs) % units


def part(array: np.ndarray, chosen: Chosen) -> np.ndarray:
    """Of a weight (..., in, out), or an array of its shape, these inputs and outputs, as an array of its own."""
    inputs, outputs = chosen
    return np.ascontiguousarray(array[..., inputs, :][..., outputs])


def put(array: np.ndarray, chosen: Chosen, values: np.ndarray) -> None:
    """Writes what part() gave back into the array that it came from."""
    inputs, outputs = chosen
    array[..., inputs[:, None], outputs] = values


def taken(layer: nn.Layer, source: Any, shape: tuple[int, ...]) -> nn.Layer:
    """The Dense or Conv2D layer with another weight source, that of some of its units, of `shape`."""
    smaller = copy.copy(layer)
    smaller.shape, smaller.weight = shape, source
    return smaller


def ways(net: nn.Sequential) -> Iterator[dict[str, nn.Layer]]:
    """Rows of layers that run one after the other, by their names in net.walk(): the net's own, those of its blocks."""
    yield net.layers
    for name, layer in net.layers.items():
        if type(layer) is resnet.Residual:
            yield {f"{name}.{inner}": each for inner, each in layer.main.items()}
            yield {f"{name}.shortcut_{inner}": each for inner, each in layer.shortcut.items()}


def replaced(layer: nn.Layer, name: str, new: Mapping[str, nn.Layer]) -> nn.Layer:
    """The layer called `name`, or the new one of that name; a residual block with the new ones inside it."""
    if name in new or type(layer) is not resnet.Residual:
        return new.get(name, layer)
    block = copy.copy(layer)
    block.main = {inner: replaced(each, f"{name}.{inner}", new) for inner, each in layer.main.items()}
    block.shortcut = {inner: replaced(each, f"{name}.shortcut_{inner}", new) for inner, each in layer.shortcut.items()}
    block.children = {**block.main, **{f"shortcut_{inner}": each for inner, each in block.shortcut.items()},
                      "activation": layer.activation}
    return block


def connected(weight: Array) -> np.ndarray:
    """Which input a weight connects with which output: (..., in, out) -> (in, out) booleans, on the host."""
    host = to_host(weight)
    return (host != 0).any(axis=tuple(range(host.ndim - 2)))
