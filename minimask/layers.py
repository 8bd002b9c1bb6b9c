r"""What nets of your own may need beside the paper's: bias, dropout, groups of channels, activations. Beside the path.

None of these is in the paper, and two of them make a claim of its method false, which shrink.py and prune.py know. A
unit without weights gives 0 in the paper's nets, and takes no part; behind a :class:`Bias`, or under a
:class:`Sigmoid`, it gives a constant. See units.KEEP_ZEROS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import nn, ops
from .backend import Array, asarray, load
from .conv import crop, pad, windows, windows_transpose
from .engine import Tensor, op
from .errors import UsageError, unknown
from .mask import WeightSource
from .ops import Result
from .windows import INTEGERS, Padding, Pair, of_grouped

# ---- convolution in groups -----------------------------------------------------------------------------------------


@op
def grouped_conv2d(xp: Any, x: Array, w: Array, /, groups: int, stride: Pair = 1, padding: Padding = "same",
                   budget: int | None = None) -> Result:
    r"""Convolutions side by side: (n, h, w, c_in), (kh, kw, c_in/groups, c_out) -> (n, oh, ow, c_out).

    Channels fall into groups, in order. The outputs of group i see the inputs of group i alone, as conv2d has it:
    y_i = conv2d(x_i, w_i), put side by side. With groups = c_in it is a depthwise convolution. All groups are one
    product of stacked matrices here, y = A W with A (groups, windows, kh*kw*c_in/groups).

    Args:
        groups: how many; they divide c_in and c_out. stride, padding, budget: as in :func:`minimask.conv.conv2d`.
    """
    at = of_grouped("grouped_conv2d", x.shape, w.shape, groups, stride, padding, budget)
    kh, kw, inputs, c_out = w.shape
    outputs, padded = c_out // groups, pad(xp, x, at.padding)
    split = (x.shape[0] * math.prod(at.output), kh * kw, groups, inputs)
    a = _by_group(xp, xp.reshape(windows(xp, padded, at), split))  # (groups, n*oh*ow, kh*kw*inputs)
    matrix = xp.reshape(xp.permute_dims(xp.reshape(w, (kh * kw * inputs, groups, outputs)), (1, 0, 2)),
                        (groups, kh * kw * inputs, outputs))

    def dx(g: Array) -> Array:
        rows = xp.matmul(_by_group(xp, xp.reshape(g, (split[0], 1, groups, outputs))), xp.matrix_transpose(matrix))
        rows = xp.permute_dims(xp.reshape(rows, (groups, split[0], kh * kw, inputs)), (1, 2, 0, 3))
        rows = xp.reshape(rows, (x.shape[0], *at.output, kh * kw * groups * inputs))
        return crop(windows_transpose(xp, rows, padded, at), at.padding)

    def dw(g: Array) -> Array:
        each = xp.matmul(xp.matrix_transpose(a), _by_group(xp, xp.reshape(g, (split[0], 1, groups, outputs))))
        return xp.reshape(xp.permute_dims(each, (1, 0, 2)), w.shape)

    y = xp.permute_dims(xp.matmul(a, matrix), (1, 0, 2))  # (n*oh*ow, groups, outputs)
    return xp.reshape(y, (x.shape[0], *at.output, c_out)), lambda g: (lambda: dx(g), lambda: dw(g))


def _by_group(xp: Any, rows: Array) -> Array:
    """(rows, places, groups, channels) -> (groups, rows, places*channels)."""
    n, places, groups, channels = rows.shape
    return xp.reshape(xp.permute_dims(rows, (2, 0, 1, 3)), (groups, n, places * channels))


class GroupedConv2D(nn.Layer):
    """Convolution in groups, no bias: (n, h, w, c_in) -> (n, oh, ow, c_out); see :func:`grouped_conv2d`.

    ``GroupedConv2D(c, c, 3, groups=c, ...)`` is a depthwise convolution; with 2*c outputs every channel gives two.

    Args:
        inputs, outputs: channels before and after. kernel: height and width of the window. groups: divides both.
        weights, rng, stride, padding, dtype, backend, budget: as in :class:`nn.Conv2D`; the weight has shape (kernel,
            kernel, inputs/groups, outputs), from which init.py takes its fans: in, what a unit reads; out, all units,
            as PyTorch has it.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int, weights: WeightSource,
                 rng: np.random.Generator, stride: int = 1, padding: Padding = "same", dtype: str = "float32",
                 backend: str = "numpy", budget: int | None = None):
        if not (isinstance(groups, INTEGERS) and groups >= 1) or inputs % groups or outputs % groups:
            raise ValueError(f"GroupedConv2D: groups is {groups!r}, but must divide {inputs} inputs and {outputs} "
                             "outputs")
        self.shape, self.groups = (kernel, kernel, inputs // groups, outputs), groups
        self.stride, self.padding, self.budget = stride, padding, budget
        self.weight: WeightSource = nn.own_source("GroupedConv2D", weights, self.shape, rng, dtype, backend)

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return grouped_conv2d(x, self.weight.effective(), self.groups, self.stride, self.padding, self.budget)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        at = of_grouped("GroupedConv2D", (1, *shape), self.shape, self.groups, self.stride, self.padding)
        return (*at.output, self.shape[3])

    def __repr__(self) -> str:
        kernel, _, inputs, outputs = self.shape
        return (f"GroupedConv2D({inputs * self.groups}, {outputs}, {kernel}x{kernel}, groups={self.groups}, "
                f"stride={self.stride}, {self.padding})")


# ---- bias, dropout -------------------------------------------------------------------------------------------------


class Bias(nn.Layer):
    """x + b, a trained number per channel, from 0: (..., c) -> (..., c).

    Under a supermask it is trained itself, beside the scores, and counts in no share of weights, as batch norm does.

    Args:
        channels: length of the last axis. dtype, backend: of its array.
    """

    def __init__(self, channels: int, dtype: str = "float32", backend: str = "numpy"):
        self.bias = Tensor(load(backend).asarray(np.zeros(channels, dtype)), requires_grad=True)

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.add(x, self.bias)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1:] != self.bias.shape:
            raise ValueError(f"Bias: one sample has shape {shape}, but {self.bias.shape[0]} channels are needed")
        return shape

    def own_parameters(self) -> dict[str, Tensor]:
        return {"bias": self.bias}

    def __repr__(self) -> str:
        return f"Bias({self.bias.shape[0]})"


class Dropout(nn.Layer):
    """In training every number is 0 with probability `share`, and divided by 1 - share elsewhere: its mean stays.

    Srivastava et al. 2014, inverted as everywhere now: nothing is done once the net is trained. Call number `calls` in
    training draws with ``default_rng((seed, calls))`` on the host, so that both numbers say all that comes, on every
    backend. They are the layer's state and in every checkpoint: a run that is resumed draws what it would have drawn.

    Args:
        share: what is left out on average, 0 to below 1.
        rng: gives the seed, through a child (``rng.spawn``): with dropout as without, the same seed gives a net the
            same weights.
    """

    def __init__(self, share: float, rng: np.random.Generator):
        if not 0 <= share < 1:
            raise ValueError(f"Dropout: share is {share!r}, but must be a number from 0 to below 1")
        self.share, self.seed, self.calls = float(share), int(rng.spawn(1)[0].integers(1 << 63)), 0

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        if not training:
            return x
        drawn = np.random.default_rng((self.seed, self.calls)).random(x.shape, np.float32)
        self.calls += 1
        return ops.multiply(x, Tensor(asarray((drawn >= self.share) / (1 - self.share), like=x.data)))

    def own_state(self) -> dict[str, Array | float]:
        return {"seed": self.seed, "calls": self.calls}

    def load_own_state(self, state: dict[str, Array | float]) -> None:
        seed, calls = int(state["seed"]), int(state["calls"])
        if min(seed, calls) < 0:
            raise ValueError(f"Dropout: seed {seed} and calls {calls} must be 0 or more")
        self.seed, self.calls = seed, calls

    def __repr__(self) -> str:
        return f"Dropout({self.share:g})"


# ---- activations ---------------------------------------------------------------------------------------------------


class Tanh(nn.Layer):
    """Hyperbolic tangent; see :func:`minimask.ops.tanh`."""

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.tanh(x)

    def __repr__(self) -> str:
        return "Tanh()"


class Sigmoid(nn.Layer):
    """1 / (1 + e^-x); see :func:`minimask.ops.sigmoid`. It makes 1/2 of 0, so no unit behind it is ever dead."""

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.sigmoid(x)

    def __repr__(self) -> str:
        return "Sigmoid()"


#: What `activation=` of a model's builder may be, by name; or anything that makes a layer when it is called.
ACTIVATIONS: dict[str, Callable[[], nn.Layer]] = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": Tanh, "sigmoid": Sigmoid}
Activation = str | Callable[[], nn.Layer]


def activation_layer(given: Activation) -> nn.Layer:
    """The layer that a builder's `activation=` asks for, a new one each time; UsageError for what makes none."""
    if isinstance(given, str) and given not in ACTIVATIONS:
        raise unknown("activation", given, ACTIVATIONS)
    make = ACTIVATIONS[given] if isinstance(given, str) else given
    layer = make() if callable(make) and not isinstance(make, nn.Layer) else None
    if not isinstance(layer, nn.Layer):
        raise UsageError(f"activation: {given!r} makes no layer; give one of {', '.join(ACTIVATIONS)}, or a class of "
                         "layers such as minimask.nn.ELU")
    return layer
