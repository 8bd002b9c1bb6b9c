"""What a net costs, known before it runs: the work for one image, and the numbers that are held at a time for it.

Work is counted in multiply-adds of matrix products. What else is done is counted in them by what it takes on a
processor, in round numbers: a pass over a number as PASS, since it moves memory and adds nothing up; a call as CALL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from . import layers as kinds
from . import nn, resnet
from .windows import geometry

#: Multiply-adds that take as long as passing over a number, and as calling NumPy.
PASS, CALL = 10, 10_000
#: Calls of a layer, beside those of the places in a window.
CALLS = 10
#: The work of the paper's largest net in this: the dense baseline of ResNet110.
LARGEST = 435_810_184


class Cost(NamedTuple):
    """Of one image. work: in multiply-adds. numbers: held at a time, windows put side by side among them."""

    work: int
    numbers: int


def of(net: nn.Sequential) -> Cost:
    """The Cost of a net; its weights are not looked at."""
    return _through(net.layers, net.input_shape)


def _through(layers: Mapping[str, nn.Layer], shape: tuple[int, ...]) -> Cost:
    """Of layers one after the other, for a sample of this shape before the first."""
    work, most = 0, math.prod(shape)
    for layer, after in zip(layers.values(), nn.shapes_after(layers, shape).values()):
        cost = _layer(layer, shape, after)
        work, most, shape = work + cost.work + CALLS * CALL, max(most, cost.numbers), after
    return Cost(work, most)


def _layer(layer: nn.Layer, before: tuple[int, ...], after: tuple[int, ...]) -> Cost:
    """Of a layer that turns a sample of one shape into one of another; of an unknown kind, what passing over takes."""
    inputs, outputs = math.prod(before), math.prod(after)
    if isinstance(layer, nn.Dense):
        return Cost(math.prod(layer.shape), inputs + outputs)
    if isinstance(layer, nn.Flatten):
        return Cost(0, inputs)
    if isinstance(layer, (nn.Conv2D, kinds.GroupedConv2D, nn.MaxPool2D, resnet.AvgPool2D)):
        pool = isinstance(layer, (nn.MaxPool2D, resnet.AvgPool2D))
        window: int = layer.shape[0] if isinstance(layer, (nn.Conv2D, kinds.GroupedConv2D)) else layer.window
        (top, bottom), (left, right) = geometry("", (1, *before), window, layer.stride, layer.padding).padding
        padded = (before[0] + top + bottom) * (before[1] + left + right) * before[2]
        seen = window * window * math.prod(after[:2]) * before[2]  # numbers in all windows
        products, held = (0, 0) if pool else (math.prod(layer.shape) * math.prod(after[:2]), seen)
        return Cost(products + PASS * (seen + padded) + CALL * window * window, inputs + padded + held + outputs)
    if isinstance(layer, resnet.Residual):
        ways = [_through(way, before) for way in (layer.main, layer.shortcut)]
        return Cost(sum(way.work for way in ways) + PASS * outputs,
                    inputs + outputs + max(way.numbers for way in ways))
    return Cost(PASS * (inputs + outputs), inputs + outputs)
