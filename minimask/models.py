"""Read 8 of 10 · needs nn, mask · the paper's networks as tables, one builder each, any weight source.

>>> import numpy as np
>>> from minimask.mask import SignedSupermask
>>> net = fcn(weights=SignedSupermask(tau=0.01), rng=np.random.default_rng(0))
>>> net.size()
266200

Every builder takes the weight source of all its layers (``SignedSupermask(tau=0.01)``, ``Trained()``), the generator
that draws them layer by layer, the `activation` between layers (layers.py), and where they live, `dtype` and `backend`.
It returns a net, (n, *input_shape) -> (n, classes) logits. No layer has a bias: layers.Bias is one of its own,
for nets that you put together yourself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import nn
from .layers import Activation, activation_layer
from .mask import WeightSource
from .resnet import resnet as resnet

#: Units of the FCN's hidden layers and output (Koster et al. 2022; LeCun's 300-100-10).
FCN = (300, 100, 10)
#: The Conv nets: channels of each pair of 3x3 convolutions, each pair followed by a 2x2 max-pool.
CONVS = {"conv2": (64,), "conv4": (64, 128), "conv6": (64, 128, 256), "conv8": (64, 128, 256, 512)}


def fcn(weights: WeightSource, rng: np.random.Generator, input_shape: tuple[int, ...] = (28, 28, 1),
        units: tuple[int, ...] = FCN, activation: Activation = "elu", dtype: str = "float32",
        backend: str = "numpy") -> nn.Sequential:
    """The fully connected net: Flatten, then Dense layers with ELU between them. 266,200 weights on MNIST.

    Args:
        weights, rng, activation, dtype, backend: as at the top. input_shape: of one sample; MNIST's unless given.
        units: of each Dense layer; the last is the number of classes.
    """
    if not units or min(units) < 1 or not input_shape or min(input_shape) < 1:
        raise ValueError(f"fcn: units {units} and input_shape {input_shape} must be positive and not empty")
    dense = _dense(int(np.prod(input_shape)), units, activation, weights=weights, rng=rng, dtype=dtype, backend=backend)
    return nn.Sequential([nn.Flatten(), *dense], input_shape)


def conv_net(name: str, weights: WeightSource, rng: np.random.Generator, input_shape: tuple[int, ...] = (32, 32, 3),
             classes: int = 10, activation: Activation = "elu", dtype: str = "float32",
             backend: str = "numpy") -> nn.Sequential:
    """Conv2, 4, 6 or 8: pairs of 3x3 convolutions and a max-pool, then Dense 256, 256, classes; ELU everywhere between.

    4,300,992, 2,425,024, 2,261,184 and 5,275,840 weights on CIFAR-10.
    """
    draw: dict[str, Any] = {"weights": weights, "rng": rng, "dtype": dtype, "backend": backend}
    layers: list[nn.Layer] = []
    height, width, channels = input_shape
    for outputs in CONVS[name]:
        for inputs in (channels, outputs):
            layers += [nn.Conv2D(inputs, outputs, 3, **draw), activation_layer(activation)]
        layers.append(nn.MaxPool2D(2))
        height, width, channels = height // 2, width // 2, outputs
    dense = _dense(height * width * channels, (256, 256, classes), activation, **draw)
    return nn.Sequential([*layers, nn.Flatten(), *dense], input_shape)


def _dense(inputs: int, units: tuple[int, ...], activation: Activation, **draw: Any) -> list[nn.Layer]:
    """Dense layers with an activation between them, none after the last."""
    return [layer for before, after in zip((inputs, *units), units)
            for layer in (nn.Dense(before, after, **draw), activation_layer(activation))][:-1]


conv2, conv4, conv6, conv8 = (partial(conv_net, name) for name in CONVS)
resnet20 = partial(resnet, "resnet20")
resnet56, resnet110 = partial(resnet, "resnet56", classes=100), partial(resnet, "resnet110", classes=100)

#: Builders by name; recipes look theirs up here.
MODELS: dict[str, Callable[..., nn.Sequential]] = {
    "fcn": fcn, "conv2": conv2, "conv4": conv4, "conv6": conv6, "conv8": conv8, "resnet20": resnet20,
    "resnet56": resnet56, "resnet110": resnet110, "resnet110-dense": partial(resnet, "resnet110-dense", classes=100)}
