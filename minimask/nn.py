"""Read 7 of 8 · needs mask, ops · layers, and a sequence of them. No layer has a bias, as in the paper.

A layer is callable on a Tensor. What it holds it tells by name and in order of declaration:
``named_parameters()`` is what is trained, ``state()`` what is not (frozen weights, thresholds).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from . import ops
from .backend import Array, MinimaskError, asarray, to_host
from .engine import Tensor
from .mask import Supermask, WeightSource


class Layer:
    """A layer without weights; the base of those that have some."""

    weight: WeightSource | None = None

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one sample after the layer, from the shape of one sample before it."""
        return shape


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
        self.weight: WeightSource = weights.draw(self.shape, rng, dtype, backend)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.matmul(x, self.weight.effective())  # (n, out)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != self.shape[:1]:
            raise ValueError(f"Dense: one sample has shape {shape}, but {self.shape[:1]} is needed; "
                             "put Flatten before it")
        return self.shape[1:]

    def __repr__(self) -> str:
        return f"Dense({self.shape[0]}, {self.shape[1]})"


class Flatten(Layer):
    """(n, ...) -> (n, product of the rest), row-major."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (int(np.prod(shape)),)

    def __repr__(self) -> str:
        return "Flatten()"


class ELU(Layer):
    """x where x > 0, alpha (e^x - 1) elsewhere; see :func:`minimask.ops.elu`."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def __call__(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)

    def __repr__(self) -> str:
        return f"ELU(alpha={self.alpha:g})"


class ReLU(Layer):
    """max(x, 0); see :func:`minimask.ops.relu`."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.relu(x)

    def __repr__(self) -> str:
        return "ReLU()"


class Sequential:
    """Layers one after the other, named by kind and number: flatten1, dense1, elu1, dense2, ...

    Callable on an array or a Tensor, (n, ...) -> (n, classes).

    Args:
        layers: in the order in which they run.
        input_shape: of one sample, for example (28, 28, 1); it is checked here, layer by layer.
    """

    def __init__(self, layers: Iterable[Layer], input_shape: tuple[int, ...]):
        self.layers: dict[str, Layer] = {}
        self.input_shape = tuple(input_shape)
        self.shapes: dict[str, tuple[int, ...]] = {}  # of one sample, after each layer
        numbers: dict[str, int] = {}
        shape = self.input_shape
        for layer in layers:
            kind = type(layer).__name__.lower()
            numbers[kind] = numbers.get(kind, 0) + 1
            name = f"{kind}{numbers[kind]}"
            shape = layer.output_shape(shape)
            self.layers[name], self.shapes[name] = layer, shape

    def __call__(self, x: Tensor | Array) -> Tensor:
        x = x if isinstance(x, Tensor) else Tensor(x)
        if x.shape[1:] != self.input_shape:
            sample = ", ".join(map(str, self.input_shape))
            raise ValueError(f"net: the input is {x.shape}, but (n, {sample}) is needed: a batch of samples")
        for layer in self.layers.values():
            x = layer(x)
        return x

    def weights(self) -> dict[str, WeightSource]:
        """The weight source of every layer that has one, by layer name, in order."""
        return {name: layer.weight for name, layer in self.layers.items() if layer.weight is not None}

    def parameters(self) -> list[Tensor]:
        """What is trained, in order of declaration."""
        return list(self.named_parameters().values())

    def named_parameters(self) -> dict[str, Tensor]:
        """What is trained, by name: 'dense1.scores', or 'dense1.weight' in a dense baseline."""
        return {f"{name}.{part}": tensor for name, source in self.weights().items()
                for part, tensor in source.parameters().items()}

    def state(self) -> dict[str, Array | float]:
        """What is not trained, by name: 'dense1.frozen', 'dense1.tau'."""
        return {f"{name}.{part}": array for name, source in self.weights().items()
                for part, array in source.state().items()}

    def masks(self) -> dict[str, np.ndarray]:
        """The mask of every masked layer by layer name: int8 on the host, +1 kept, 0 hidden, -1 inverted."""
        return {name: source.mask() for name, source in self.weights().items() if isinstance(source, Supermask)}

    def counts(self) -> list[tuple[int, int, int]]:
        """One (kept, hidden, inverted) per masked layer, in order, as integers."""
        return [counts for source in self.weights().values() if (counts := source.counts()) is not None]

    def size(self) -> int:
        """How many weights the net has, frozen or trained: scores do not count twice."""
        return sum(t.size for source in self.weights().values() for t in source.parameters().values())

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
        mine = self.arrays()
        if set(mine) != set(arrays):
            missing, foreign = sorted(set(mine) - set(arrays)), sorted(set(arrays) - set(mine))
            raise MinimaskError(f"load: these arrays are not this net's: missing {missing or 'none'}, "
                                f"unknown {foreign or 'none'}")
        for name, array in arrays.items():
            if array.shape != mine[name].shape or array.dtype != mine[name].dtype:
                raise MinimaskError(f"load: {name} is {array.shape} {array.dtype}, "
                                    f"but {mine[name].shape} {mine[name].dtype} is needed")
        for name, tensor in self.named_parameters().items():
            tensor.data = asarray(arrays[name].copy(), tensor.data)
        for name, source in self.weights().items():
            new = {part: arrays[f"{name}.{part}"] for part in source.state()}
            source.load_state({part: asarray(new[part].copy(), old) if hasattr(old, "shape") else new[part].item()
                               for part, old in source.state().items()})

    def __repr__(self) -> str:
        """One line per layer: name, what it is, the shape after it, its weights, how many are trained or frozen."""
        rows = [("layer", "", "output", "weights", "trained", "frozen"),
                ("input", "", _shape(self.input_shape), "", "", "")]
        for name, layer in self.layers.items():
            sizes = ("", "", "")
            if layer.weight is not None:
                trained = sum(t.size for t in layer.weight.parameters().values())
                frozen = sum(int(np.prod(a.shape)) for a in layer.weight.state().values() if hasattr(a, "shape"))
                what = " scores" if frozen else ""
                sizes = (f"{trained:,}", f"{trained:,}{what}", f"{frozen:,}")
            rows.append((name, repr(layer), _shape(self.shapes[name]), *sizes))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
                 for row in rows]
        total = f"{self.size():,} weights, {self.weights_left():.1%} left"
        return "\n".join([line.rstrip() for line in lines] + [total])


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, ("n", *shape)))
