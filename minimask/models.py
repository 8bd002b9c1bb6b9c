"""Read 7 of 8, continued · needs nn, mask · the paper's networks as tables, one builder each, any weight source.

>>> import numpy as np
>>> from minimask.mask import SignedSupermask
>>> net = fcn(weights=SignedSupermask(tau=0.01), rng=np.random.default_rng(0))
>>> net.size()
266200
"""

from __future__ import annotations

import numpy as np

from . import nn
from .mask import WeightSource

#: Units of the hidden layers and the output (Koster et al. 2022; LeCun's 300-100-10).
FCN = (300, 100, 10)


def fcn(weights: WeightSource, rng: np.random.Generator, input_shape: tuple[int, ...] = (28, 28, 1),
        units: tuple[int, ...] = FCN, dtype: str = "float32", backend: str = "numpy") -> nn.Sequential:
    """The fully connected net: Flatten, then Dense layers with ELU between them, no biases. 266,200 weights.

    Args:
        weights: the weight source of every layer, for example ``SignedSupermask(tau=0.01)`` or ``Trained()``.
        rng: draws the weights, layer by layer.
        input_shape: of one sample; MNIST's unless given.
        units: of each Dense layer; the last is the number of classes.
        dtype: of weights and computation, 'float32' or 'float64'.
        backend: the array library the net lives on: 'numpy', 'cupy' or 'strict'.

    Returns:
        A net, (n, *input_shape) -> (n, units[-1]) logits.
    """
    if not units or min(units) < 1 or not input_shape or min(input_shape) < 1:
        raise ValueError(f"fcn: units {units} and input_shape {input_shape} must be positive and not empty")
    layers: list[nn.Layer] = [nn.Flatten()]
    inputs = int(np.prod(input_shape))
    for outputs in units:
        layers += [nn.Dense(inputs, outputs, weights, rng, dtype, backend), nn.ELU()]
        inputs = outputs
    return nn.Sequential(layers[:-1], input_shape)  # no ELU after the last


#: Builders by name; recipes look theirs up here.
MODELS = {"fcn": fcn}
