"""Which weights of a layer a page shows: everywhere the same ones, and those first where something happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .recording import Recording

#: The most units (columns) and inputs (rows) of a weight in one picture, and the most channels of an image and their
#: numbers, and the most numbers of any other array.
UNITS, INPUTS, CHANNELS, PIXELS, SHOWN = 24, 24, 4, 2048, 1024


@dataclass(frozen=True, eq=False)
class Selection:
    """Rows and columns of a layer's weight as a matrix, (everything that goes into a unit) x (units).

    Attributes: name: of the layer. shape: of its weight.
    """

    name: str
    shape: tuple[int, ...]
    rows: np.ndarray
    columns: np.ndarray

    def of(self, weight: np.ndarray) -> np.ndarray:
        """The selected entries of an array of the weight's shape, (rows, columns)."""
        return weight.reshape(-1, self.shape[-1])[np.ix_(self.rows, self.columns)]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"shape": self.shape, "rows": self.rows.tolist(), "columns": self.columns.tolist()}


def select(recordings: Sequence[Recording]) -> dict[str, Selection]:
    """For every layer with a weight, the units in which most changes in these steps, and there the inputs; then those
    in use, then the first. By layer name."""
    selections = {}
    for update in recordings[0].updates:
        layer, shape = update.name.rpartition(".")[0], update.before.shape
        if len(shape) < 2:
            continue
        interest = np.zeros(shape)
        for recording in recordings:
            for chain in recording.chains:
                if chain.layer == layer:
                    interest += 8.0 * (chain.before != chain.after) + (chain.after != 0)
        selections[layer] = _of(layer, shape, interest)
    return selections


def _of(name: str, shape: tuple[int, ...], interest: np.ndarray) -> Selection:
    """The most interesting columns, and of a kernel whole windows: all places of the most interesting channels."""
    *places, inputs, units = shape
    interest = interest.reshape(-1, inputs, units)  # (places, inputs, units)
    columns = _best(interest.sum(axis=(0, 1)), UNITS)
    window = int(np.prod(places, dtype=int))
    chosen = _best(interest[:, :, columns].sum(axis=(0, 2)), max(1, INPUTS // window))
    rows = (np.arange(window)[:, None] * inputs + chosen).ravel()
    return Selection(name, shape, rows, columns)


def _best(interest: np.ndarray, count: int) -> np.ndarray:
    """The indices of the `count` largest, in order; of equal ones the first."""
    return np.sort(np.argsort(-interest, kind="stable")[:count])
