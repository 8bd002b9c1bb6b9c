r"""What the ResNets add: pools that average, batch norm, residual blocks, and the nets as tables. Beside the path."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import nn
from .backend import Array, load, namespace
from .conv import crop, pad
from .engine import Tensor, op, version
from .layers import Activation, activation_layer
from .mask import WeightSource
from .ops import Result
from .windows import Padding, Pair, of_pool

#: The ResNets: per stage of 16, 32, 64 channels its blocks and the stride of each C block (METHOD of the paper's
#: code, not He et al.'s exact nets). "C" changes shape, "I" is an identity block.
RESNETS = {"resnet20": (("CII", (1,)), ("CII", (2,)), ("CII", (2,))),
           "resnet56": (("C" + 8 * "I", (1,)), ("C" + 8 * "I", (2,)), ("C" + 8 * "I", (2,))),
           "resnet110": ((2 * ("C" + 8 * "I"), (1, 1)), (2 * ("C" + 8 * "I"), (2, 2)), (2 * ("C" + 8 * "I"), (2, 2))),
           "resnet110-dense": (("C" + 17 * "I", (1,)), ("C" + 17 * "I", (2,)), ("C" + 17 * "I", (2,)))}

# ---- ops -----------------------------------------------------------------------------------------------------------


@op
def avg_pool2d(xp: Any, x: Array, /, window: Pair, stride: Pair | None = None, padding: Padding = "valid") -> Result:
    """The mean of every window, per channel: (n, h, w, c) -> (n, oh, ow, c). Padding is not counted in it.

    Args:
        window: an integer or (vertical, horizontal). stride: the same, the window's unless given.
        padding: as in conv2d. The mean is over the entries inside the image, as in TensorFlow (and in PyTorch with
            ``count_include_pad=False``).
    """
    at = of_pool("avg_pool2d", x.shape, window, stride, padding)
    padded = pad(xp, x, at.padding)
    inside = pad(xp, xp.ones_like(x[:1, :, :, :1]), at.padding)  # (1, h, w, 1)
    total, count = (sum(image[:, rows, columns, :] for rows, columns in at.slices()) for image in (padded, inside))

    def pullback(g: Array) -> tuple[Array]:
        dx, share = xp.zeros_like(padded), g / count
        for rows, columns in at.slices():
            dx[:, rows, columns, :] += share
        return (crop(dx, at.padding),)

    return total / count, pullback


@op
def global_avg_pool(xp: Any, x: Array, /) -> Result:
    """The mean over the image, per channel: (n, h, w, c) -> (n, c)."""
    if len(x.shape) != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"global_avg_pool: x has shape {x.shape}; needed is (n, height, width, channels)")
    h, w = x.shape[1:3]
    return (xp.mean(x, axis=(1, 2)),
            lambda g: (xp.broadcast_to(xp.reshape(g / (h * w), (g.shape[0], 1, 1, g.shape[1])), x.shape),))


def moments(xp: Any, x: Array) -> tuple[Array, Array]:
    """Mean and population variance per channel: (..., c) -> (c,), (c,). ValueError for under 2 values a channel."""
    values = values_per_channel(x.shape)
    rows = xp.reshape(x, (values, x.shape[-1]))
    mean = xp.sum(rows, axis=0) / values
    centred = rows - mean
    return mean, xp.sum(centred * centred, axis=0) / values


def values_per_channel(shape: tuple[int, ...]) -> int:
    """How many numbers of x a channel has; ValueError for under 2."""
    values = math.prod(shape[:-1])
    if values < 2:
        raise ValueError(f"batch_norm: x of shape {shape} has {values} value(s) a channel, but training needs 2 or "
                         "more; take a larger batch, or training=False")
    return values


@op
def batch_norm(xp: Any, x: Array, scale: Array, shift: Array, /, mean: Array, variance: Array, eps: float = 1e-3,
               training: bool = True) -> Result:
    r"""Batch normalisation: (..., c), scale (c,), shift (c,) -> (..., c). Ioffe and Szegedy 2015, arXiv:1502.03167.

    y = scale * z + shift with z = (x - mean) / sqrt(variance + eps), per channel.

    Args:
        mean, variance: (c,) arrays: of this very batch (``moments``) under `training`, where the pullback
            differentiates through them, else any, which count as constants.
        eps: added to the variance, 1e-3 as in the paper's code.
        training: whether mean and variance depend on x.
    """
    check_per_channel(x, scale, shift, mean, variance)
    inverse = 1 / xp.sqrt(variance + eps)  # (c,)
    axes, values = tuple(range(len(x.shape) - 1)), math.prod(x.shape[:-1])

    def pullback(g: Array) -> tuple[Any, ...]:
        z = (x - mean) * inverse
        dshift, dscale = xp.sum(g, axis=axes), xp.sum(g * z, axis=axes)  # (c,)

        def dx() -> Array:
            return scale * inverse * (g - (dshift + z * dscale) / values if training else g)

        return dx, dscale, dshift

    return scale * inverse * x + (shift - mean * scale * inverse), pullback


def check_per_channel(x: Array, scale: Array, shift: Array, mean: Array, variance: Array) -> None:
    """ValueError unless there is one number per channel of x in each of the others."""
    if not scale.shape == shift.shape == mean.shape == variance.shape == x.shape[-1:]:
        raise ValueError(f"batch_norm: x {x.shape}, scale {scale.shape}, shift {shift.shape}, mean {mean.shape}, "
                         f"variance {variance.shape}; all but x need one number per channel, the last axis of x")


# ---- layers --------------------------------------------------------------------------------------------------------


class GlobalAvgPool(nn.Layer):
    """The mean over the image: (n, h, w, c) -> (n, c)."""

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return global_avg_pool(x)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise ValueError(f"GlobalAvgPool: one sample has shape {shape}, but (height, width, channels) is needed")
        return shape[-1:]

    def __repr__(self) -> str:
        return "GlobalAvgPool()"


class AvgPool2D(nn.Layer):
    """The mean of every window; see :func:`minimask.resnet.avg_pool2d`. Arguments as of :class:`nn.MaxPool2D`."""

    def __init__(self, window: int, stride: int | None = None, padding: Padding = "valid"):
        self.window, self.stride, self.padding = window, window if stride is None else stride, padding

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return avg_pool2d(x, self.window, self.stride, self.padding)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*of_pool("AvgPool2D", (1, *shape), self.window, self.stride, self.padding).output, shape[2])

    def __repr__(self) -> str:
        return f"AvgPool2D({self.window}x{self.window}, stride={self.stride}, {self.padding})"


class BatchNorm(nn.Layer):
    """Batch norm over all axes but the last, with running statistics; see :func:`minimask.resnet.batch_norm`.

    Args:
        channels: length of the last axis.
        affine: whether there are a trained scale (from 1) and shift (from 0) per channel.
        momentum: running <- momentum * running + (1 - momentum) * batch, the variance with n/(n-1): the paper's 0.99 is
            what PyTorch calls 0.01. eps: added to the variance.
        dtype, backend: of its arrays.
    """

    def __init__(self, channels: int, affine: bool = True, momentum: float = 0.99, eps: float = 1e-3,
                 dtype: str = "float32", backend: str = "numpy"):
        xp = load(backend)
        ones, zeros = np.ones(channels, dtype), np.zeros(channels, dtype)
        self.affine, self.momentum, self.eps = affine, momentum, eps
        self.scale = Tensor(xp.asarray(ones), requires_grad=affine)
        self.shift = Tensor(xp.asarray(zeros), requires_grad=affine)
        self.mean, self.variance = xp.asarray(zeros, copy=True), xp.asarray(ones, copy=True)

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        mean, variance = self.mean, self.variance
        if training:
            values = int(np.prod(x.shape[:-1]))
            xp = namespace(x.data)
            mean, variance = version("resnet.moments", xp, moments)(xp, x.data)
            rest = 1.0 - self.momentum
            self.mean = self.momentum * self.mean + rest * mean
            self.variance = self.momentum * self.variance + rest * (values / (values - 1)) * variance
        return batch_norm(x, self.scale, self.shift, mean, variance, self.eps, training)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1:] != self.scale.shape:
            raise ValueError(f"BatchNorm: one sample has shape {shape}, but {self.scale.shape[0]} channels are needed")
        return shape

    def own_parameters(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "shift": self.shift} if self.affine else {}

    def own_state(self) -> dict[str, Array | float]:
        return {"mean": self.mean, "variance": self.variance}

    def load_own_state(self, state: dict[str, Array | float]) -> None:
        self.mean, self.variance = state["mean"], state["variance"]

    def __repr__(self) -> str:
        return f"BatchNorm({self.mean.shape[0]})"


class Residual(nn.Layer):
    """ELU(main(x) + shortcut(x)): two ways through, joined. Without shortcut layers x itself takes the second way.

    Args:
        main, shortcut: layers one after the other. activation: in place of ELU, as in :data:`layers.ACTIVATIONS`.
    """

    def __init__(self, main: Iterable[nn.Layer], shortcut: Iterable[nn.Layer] = (), activation: Activation = "elu"):
        self.main, self.shortcut, self.activation = nn.named(main), nn.named(shortcut), activation_layer(activation)
        self.children = {**self.main, **{f"shortcut_{name}": layer for name, layer in self.shortcut.items()},
                         "activation": self.activation}

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return self.activation(nn.through(self.main, x, training) + nn.through(self.shortcut, x, training), training)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        after, around = ([shape, *nn.shapes_after(way, shape).values()][-1] for way in (self.main, self.shortcut))
        if after != around:
            raise ValueError(f"Residual: the main way ends in {after}, the shortcut in {around}; both must agree")
        return after

    def __repr__(self) -> str:
        end = "" if type(self.activation) is nn.ELU else f"; {self.activation!r}"
        return f"Residual({', '.join(self.main)}{' | ' if self.shortcut else ''}{', '.join(self.shortcut)}{end})"


# ---- nets ----------------------------------------------------------------------------------------------------------


def resnet(name: str, weights: WeightSource, rng: np.random.Generator, input_shape: tuple[int, ...] = (32, 32, 3),
           classes: int = 10, width: int = 1, norm: str = "all", activation: Activation = "elu",
           dtype: str = "float32", backend: str = "numpy") -> nn.Sequential:
    """The paper's ResNet20, 56 or 110: stem, three stages of 16, 32 and 64 channels times `width`, mean, dense.

    Args:
        name: of a row of RESNETS; the published dense baseline of ResNet110 is another net, 'resnet110-dense'.
        norm: where batch norm is: 'all' (the dense baselines), 'stem' (masked ResNet20), 'none' (masked ResNet56 and
            110). In the paper's masked blocks it is frozen at mean 0 and variance 1, so it only divides by
            sqrt(1.001); that factor is left out here.
        activation: as in :data:`minimask.layers.ACTIVATIONS`.
    """
    check_settings(width, norm, activation)
    draw: dict[str, Any] = {"weights": weights, "rng": rng, "dtype": dtype, "backend": backend}

    def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: str = "same",
                  live: bool = norm == "all") -> list[nn.Layer]:
        batch_norm = [BatchNorm(outputs, dtype=dtype, backend=backend)] if live else []
        return [nn.Conv2D(inputs, outputs, kernel, stride=stride, padding=padding, **draw), *batch_norm]

    channels = 16 * width
    layers: list[nn.Layer] = [*conv_norm(input_shape[2], channels, 3, live=norm != "none"),
                              activation_layer(activation), nn.MaxPool2D(3, stride=1, padding="same")]
    for outputs, (blocks, strides) in zip((16 * width, 32 * width, 64 * width), RESNETS[name]):
        remaining = list(strides)
        for block in blocks:
            if block == "C":  # 1x1 with the stride, then 3x3; around it a 1x1 with the same stride
                stride = remaining.pop(0)
                main = [*conv_norm(channels, outputs, 1, stride, "valid"), activation_layer(activation),
                        *conv_norm(outputs, outputs, 3)]
                layers.append(Residual(main, conv_norm(channels, outputs, 1, stride, "valid"), activation))
            else:
                main = [*conv_norm(outputs, outputs, 3), activation_layer(activation), *conv_norm(outputs, outputs, 3)]
                layers.append(Residual(main, activation=activation))
            channels = outputs
    return nn.Sequential([*layers, GlobalAvgPool(), nn.Dense(channels, classes, **draw)], input_shape)


def check_settings(width: int = 1, norm: str = "all", activation: Activation = "elu") -> None:
    """ValueError unless these are settings of a ResNet, UsageError for an activation that there is not."""
    activation_layer(activation)
    if norm not in ("all", "stem", "none") or width < 1:
        raise ValueError(f"resnet: norm {norm!r} must be 'all', 'stem' or 'none', and width {width} 1 or more")
