"""Read 7 of 10 · needs mask, ops · layers, and a sequence of them. No layer has a bias, as in the paper.

A layer is callable on a Tensor. What it holds it tells by name and in order of declaration:
``named_parameters()`` is what is trained, ``state()`` what is not (frozen weights, thresholds).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from . import conv, display, ops
from .backend import Array, asarray, to_host
from .engine import Tensor
from .inputs import check_arrays, check_source
from .mask import Supermask, WeightSource
from .windows import Padding, check_channels, geometry


class Layer:
    """A layer; this base has no weights and no layers inside.

    Attributes:
        weight: the weight source it multiplies with, None where there is none. shape: of that weight.
        children: the layers inside, by name, in the order in which they run.
    """

    weight: WeightSource | None = None
    shape: Any = ()
    children: Mapping[str, Layer] = MappingProxyType({})

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        """The layer's output. `training` makes batch norm use, and keep running, the batch's statistics."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one sample after the layer, from the shape of one sample before it."""
        return shape

    def own_parameters(self) -> dict[str, Tensor]:
        """What is trained in this layer itself, by name."""
        return self.weight.parameters() if self.weight is not None else {}

    def own_state(self) -> dict[str, Array | float]:
        """What is not trained in this layer itself (frozen weights, thresholds, running statistics), by name."""
        return self.weight.state() if self.weight is not None else {}

    def load_own_state(self, state: dict[str, Array | float]) -> None:
        """Takes back what own_state() gave."""
        if self.weight is not None:
            self.weight.load_state(state)

    def walk(self, name: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Layer]]:
        """This layer and all inside it, with their names, in order of declaration, each once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield name, self
        for part, child in self.children.items():
            yield from child.walk(f"{name}.{part}" if name else part, seen)


def through(layers: Mapping[str, Layer], x: Tensor, training: bool = False) -> Tensor:
    """x through layers one after the other."""
    for layer in layers.values():
        x = layer(x, training)
    return x


def shapes_after(layers: Mapping[str, Layer], shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of one sample after each of these layers, from its shape before the first. ValueError from a layer."""
    shapes = {}
    for name, layer in layers.items():
        shapes[name] = shape = layer.output_shape(shape)
    return shapes


def named(layers: Iterable[Layer]) -> dict[str, Layer]:
    """Layers by kind and number: conv2d1, elu1, conv2d2, ..."""
    named: dict[str, Layer] = {}
    numbers: dict[str, int] = {}
    for layer in layers:
        kind = type(layer).__name__.lower()
        numbers[kind] = numbers.get(kind, 0) + 1
        named[f"{kind}{numbers[kind]}"] = layer
    return named


def own_source(name: str, weights: WeightSource, *arguments: Any) -> WeightSource:
    """A layer's own copy of a weight source, with arrays."""
    check_source(name, weights)
    return weights.draw(*arguments)


class Dense(Layer):
    """x @ W: (n, in) -> (n, out), no bias.

    Args:
        inputs, outputs: lengths of the last axis before and after.
        weights: the weight source to draw from (a template; the layer gets a copy with arrays of its own).
        rng, dtype, backend: for drawing, see :meth:`minimask.mask.SignedSupermask.draw`.
    """

    def __init__(self, inputs: int, outputs: int, weights: WeightSource, rng: np.random.Generator,
                 dtype: str = "float32", backend: str = "numpy"):
        self.shape = (inputs, outputs)
        self.weight: WeightSource = own_source("Dense", weights, self.shape, rng, dtype, backend)

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.matmul(x, self.weight.effective())  # (n, out)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != self.shape[:1]:
            raise ValueError(f"Dense: one sample has shape {shape}, but {self.shape[:1]} is needed; "
                             "put Flatten before it")
        return self.shape[1:]

    def __repr__(self) -> str:
        return f"Dense({self.shape[0]}, {self.shape[1]})"


class Conv2D(Layer):
    """Convolution, no bias: (n, h, w, c_in) -> (n, oh, ow, c_out); see :func:`minimask.conv.conv2d`.

    Args:
        inputs, outputs: channels before and after.
        kernel: height and width of the window. stride, padding, budget: as in conv2d.
        weights, rng, dtype, backend: as in :class:`Dense`; the weight has shape (kernel, kernel, inputs, outputs).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, weights: WeightSource, rng: np.random.Generator,
                 stride: int = 1, padding: Padding = "same", dtype: str = "float32", backend: str = "numpy",
                 budget: int | None = None):
        self.shape, self.stride, self.padding = (kernel, kernel, inputs, outputs), stride, padding
        self.budget = budget
        self.weight: WeightSource = own_source("Conv2D", weights, self.shape, rng, dtype, backend)

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return conv.conv2d(x, self.weight.effective(), self.stride, self.padding, self.budget)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        check_channels("Conv2D", (1, *shape), self.shape)
        return (*geometry("Conv2D", (1, *shape), self.shape[:2], self.stride, self.padding).output, self.shape[3])

    def __repr__(self) -> str:
        kernel, _, inputs, outputs = self.shape
        return f"Conv2D({inputs}, {outputs}, {kernel}x{kernel}, stride={self.stride}, {self.padding})"


class MaxPool2D(Layer):
    """The largest entry of every window; see :func:`minimask.conv.max_pool2d`."""

    def __init__(self, window: int, stride: int | None = None, padding: Padding = "valid"):
        self.window, self.stride, self.padding = window, stride or window, padding

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return conv.max_pool2d(x, self.window, self.stride, self.padding)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*geometry("MaxPool2D", (1, *shape), self.window, self.stride, self.padding).output, shape[2])

    def __repr__(self) -> str:
        return f"MaxPool2D({self.window}x{self.window}, stride={self.stride}, {self.padding})"


class Flatten(Layer):
    """(n, ...) -> (n, product of the rest), row-major."""

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (int(np.prod(shape)),)

    def __repr__(self) -> str:
        return "Flatten()"


class ELU(Layer):
    """x where x > 0, alpha (e^x - 1) elsewhere; see :func:`minimask.ops.elu`."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.elu(x, self.alpha)

    def __repr__(self) -> str:
        return f"ELU(alpha={self.alpha:g})"


class ReLU(Layer):
    """max(x, 0); see :func:`minimask.ops.relu`."""

    def __call__(self, x: Tensor, training: bool = False) -> Tensor:
        return ops.relu(x)

    def __repr__(self) -> str:
        return "ReLU()"


class Sequential(Layer):
    """Layers one after the other, named by kind and number: flatten1, dense1, elu1, dense2, ...

    Callable on an array or a Tensor, (n, ...) -> (n, classes).

    Args:
        layers: in the order in which they run.
        input_shape: of one sample, for example (28, 28, 1); it is checked here, layer by layer.
    """

    def __init__(self, layers: Iterable[Layer], input_shape: tuple[int, ...]):
        self.layers = self.children = named(layers)
        self.input_shape = tuple(input_shape)
        self.shapes = shapes_after(self.layers, self.input_shape)  # of one sample, after each layer

    def __call__(self, x: Tensor | Array, training: bool = False) -> Tensor:
        x = x if isinstance(x, Tensor) else Tensor(x)
        if x.shape[1:] != self.input_shape:
            sample = ", ".join(map(str, self.input_shape))
            raise ValueError(f"net: the input is {x.shape}, but (n, {sample}) is needed: a batch of samples")
        return through(self.layers, x, training)

    def weights(self) -> dict[str, WeightSource]:
        """The weight source of every layer that has one, by layer name, in order."""
        return {name: layer.weight for name, layer in self.walk() if layer.weight is not None}

    def parameters(self) -> list[Tensor]:
        """What is trained, in order of declaration."""
        return list(self.named_parameters().values())

    def named_parameters(self) -> dict[str, Tensor]:
        """What is trained, by name: 'dense1.scores', or 'dense1.weight' in a dense baseline."""
        return {f"{name}.{part}": tensor for name, layer in self.walk()
                for part, tensor in layer.own_parameters().items()}

    def state(self) -> dict[str, Array | float]:
        """What is not trained, by name: 'dense1.frozen', 'dense1.tau'."""
        return {f"{name}.{part}": value for name, layer in self.walk() for part, value in layer.own_state().items()}

    def masks(self) -> dict[str, np.ndarray]:
        """Each layer's mask by name: int8, +1 kept, 0 hidden, -1 inverted; products wrap at 127 (see anatomy.paths)."""
        return {name: source.mask() for name, source in self.weights().items() if isinstance(source, Supermask)}

    def counts(self) -> list[tuple[int, int, int]]:
        """One (kept, hidden, inverted) per masked layer, in order, as integers."""
        return [counts for source in self.weights().values() if (counts := source.counts()) is not None]

    def size(self) -> int:
        """How many weights the net has, frozen or trained: scores do not count twice."""
        return sum(self.sizes().values())

    def sizes(self) -> dict[str, int]:
        """How many weights every layer has that has some, by layer name, in order."""
        return {name: int(np.prod(layer.shape)) for name, layer in self.walk() if layer.weight is not None}

    def weights_left(self) -> float:
        """Share of the weights that are not hidden, 0 to 1; 1.0 for a dense net."""
        hidden = sum(counts[1] for counts in self.counts())
        return (self.size() - hidden) / self.size() if hidden else 1.0

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything the net is, by name, copied to the host: parameters and state."""
        everything = {**{name: t.data for name, t in self.named_parameters().items()}, **self.state()}
        return {name: np.array(to_host(a) if hasattr(a, "shape") else a) for name, a in everything.items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what arrays() gave; names, shapes and dtypes are checked before anything changes.

        Raises:
            MinimaskError: a name is missing or unknown, or an array has another shape or dtype.
        """
        check_arrays(arrays, self.arrays())
        for name, tensor in self.named_parameters().items():
            tensor.data = asarray(arrays[name].copy(), tensor.data)
        for name, layer in self.walk():
            new = {part: arrays[f"{name}.{part}"] for part in layer.own_state()}
            layer.load_own_state({part: asarray(new[part].copy(), old) if hasattr(old, "shape") else new[part].item()
                                  for part, old in layer.own_state().items()})

    def layer_counts(self) -> list[dict[str, Any]]:
        """Per layer with weights: name, weights, kept, hidden, inverted, as integers; a dense layer keeps all."""
        rows, sizes = [], self.sizes()
        for name, source in self.weights().items():
            kept, hidden, inverted = source.counts() or (sizes[name], 0, 0)
            rows.append({"name": name, "weights": sizes[name], "kept": kept, "hidden": hidden, "inverted": inverted})
        return rows

    def __repr__(self) -> str:
        return display.net_text(self)

    def _repr_html_(self) -> str:
        return display.net_html(self)


def __getattr__(name: str) -> Any:
    """Layers that other files of the package define are found here too: nn.BatchNorm (resnet.py)."""
    for kind in Layer.__subclasses__():
        if kind.__name__ == name and kind.__module__.partition(".")[0] == __package__:
            return kind
    raise AttributeError(f"minimask.nn has no {name!r}")
