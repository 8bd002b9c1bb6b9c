"""What a file of another system says of the net in it: its layers as JSON, from which readers.py builds them again.

The layers are written as in an exported net (:mod:`minimask.export.header`), but that of a weight only the shape is
said: its numbers are the file's.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import files, nn
from ..engine import Tensor
from ..export.header import FLOATS, KINDS, Spec, Stored, kind_of
from ..mask import Supermask
from ..prune import Fixed
from .dense import flat, places, state_dict


def outline(net: nn.Sequential) -> dict[str, Any] | None:
    """The net's layers and what goes in; None where one of them has no kind, so that it takes the net to read it."""
    def layers(inside: Mapping[str, nn.Layer]) -> list[dict[str, Any]]:
        return [{"kind": type(each).__name__, **KINDS[type(each).__name__].write(
            each, lambda layer: {"shape": list(layer.shape)}, layers)} for each in inside.values()]

    if any(kind_of(layer) is None for _, layer in net.walk() if layer is not net):
        return None
    return {"input": list(net.input_shape), "layers": layers(net.layers)}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 of arrays: their names, dtypes, shapes and bytes."""
    sha = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        little = array.astype(array.dtype.newbyteorder("<"))
        sha.update(f"{json.dumps(name)} {little.dtype.str} {little.shape}\n".encode())
        sha.update(files.raw(little))
    return sha.hexdigest()


class Outline(Spec):
    """A net's outline, taken key by key."""

    def weight(self, key: str, axes: int) -> Stored:
        spec = Spec(self.of(key, dict), f"the weight of {self.where}")
        shape = spec.sizes("shape", axes)
        spec.end()
        return Stored(shape, "plain", 0, 0, 0)


def net_of(value: Any, dtype: str) -> nn.Sequential:
    """The net of an outline, a :class:`Stored` in place of every weight; ValueError where it is none."""
    spec = Outline(value, "its outline", dtype)
    shape = spec.sizes("input")
    try:
        layers = spec.layers("layers")
    except RecursionError:
        raise ValueError("its outline is nested too deeply") from None
    spec.end()
    return nn.Sequential(layers, shape)


# ---- which number in a file is which of a net's ----------------------------------------------------------------------


class Places:
    """Where every number of a net lies in the arrays of a file.

    They are not worked out once more: state_dict() itself is asked, with the numbers 0, 1, 2 ... in place of those of
    the net. So what was written comes back, however layers behind a Flatten are put in order.

    Args:
        net: whose weights may be :class:`Stored`.

    Attributes:
        arrays: by name in the file, which number of the net lies where. counters: names of batch norm's counters, which
            say nothing. masked: by the name in the file of a layer with a mask, its name in the net; a layer that is
            used twice has two names there.
    """

    def __init__(self, net: nn.Sequential):
        probe, self.count = copy.deepcopy(net), 0
        self.starts = dict[tuple[str, str], tuple[int, tuple[int, ...]]]()  # of (layer, part): first number, shape
        names = {id(layer): name for name, layer in probe.walk()}
        masked = {name for name, layer in probe.walk() if isinstance(layer.weight, Supermask)}
        for name, layer in probe.walk():
            if layer.weight is not None:
                layer.weight = Fixed(self._numbered((name, "weight"), layer.shape))
            parts = FLOATS.get(type(layer), ())
            for part, old in [(part, getattr(layer, part)) for part in parts]:
                numbers = self._numbered((name, part), getattr(layer, parts[0]).shape)  # that is as long as promised
                setattr(layer, part, Tensor(numbers) if isinstance(old, Tensor) else numbers)
        found = state_dict(probe)
        self.counters = {name for name in found if name.endswith("num_batches_tracked")}
        self.arrays = {name: array.astype(np.int64) for name, array in found.items() if name not in self.counters}
        self.masked = {place.name: name for place in flat(places(probe)) if (name := names[id(place.layer)]) in masked}

    def _numbered(self, key: tuple[str, str], shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        self.starts[key], first = (self.count, shape), self.count
        self.count += size
        return np.arange(first, first + size, dtype=np.float64).reshape(shape)

    def laid_out(self, place: str, array: np.ndarray) -> np.ndarray:
        """An array of the shape of a masked layer's weight, as that weight lies in the file, where it is called so."""
        return array.reshape(-1)[self.arrays[f"{place}.weight"] - self.starts[self.masked[place], "weight"][0]]

    def taken(self, arrays: Mapping[str, np.ndarray], dtype: Any) -> Callable[[str, str], np.ndarray]:
        """(layer, part) -> its numbers, from a file's arrays by name, each of the shape that `arrays` has.

        ValueError where a number that lies in two places differs.
        """
        whole = np.zeros(self.count, dtype)
        given = {name: numbers for name, numbers in self.arrays.items() if name in arrays}
        for name, numbers in given.items():
            whole[numbers] = arrays[name]
        for name, numbers in given.items():
            if not np.array_equal(whole[numbers], arrays[name]):
                raise ValueError(f"{name} is of a layer that is used twice, and differs from the other")

        def part_of(layer: str, part: str) -> np.ndarray:
            start, shape = self.starts[layer, part]
            return whole[start:start + int(np.prod(shape))].reshape(shape)

        return part_of
