"""What a tape holds, and how it reads, a row per tensor: trace() prints them, plot draws them. Beside the path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .backend import Array, namespace, on_device_of

if TYPE_CHECKING:
    from .engine import Tensor

#: Bytes of a result from which on a tape holds its shape, and not its array.
LARGE = 1 << 20


def stand_in(array: Array) -> Array:
    """Zeros of its shape and dtype that take no memory, and cannot be written to."""
    xp = namespace(array)
    return xp.broadcast_to(xp.zeros((), dtype=array.dtype, **on_device_of(array)), array.shape)  # made where it lies


def held(tensor: Tensor) -> Tensor:
    """What a tape holds of an op's input: itself, but of a large result of another op one with zeros in its place.

    These have its shape and dtype and take no memory. What is needed of the array the pullbacks keep, and often that is
    nothing: behind a convolution ELU keeps its own result, and the convolution's may go.
    """
    if tensor._node is None or getattr(tensor._data, "nbytes", 0) < LARGE:
        return tensor
    if tensor._place is None:
        tensor._place = type(tensor)(stand_in(tensor._data), requires_grad=True)
        tensor._place._node, tensor._place._version = tensor._node, tensor._version
    return tensor._place


@dataclass(frozen=True)
class Row:
    """A tensor on the tape.

    Attributes:
        number: its place; backward() walks from the last to the first. tensor: itself.
        op: the name of the op that made it; "" for a leaf.
        inputs: the numbers of that op's inputs; None for one that wants no gradient, and so is not on the tape.
    """

    number: int
    tensor: Tensor
    op: str
    inputs: tuple[int | None, ...]

    @property
    def made(self) -> str:
        """How it was made, in words: 'add(#0, -)', 'leaf', or 'constant' where no gradient is wanted."""
        if self.op:
            return f"{self.op}({', '.join('-' if i is None else f'#{i}' for i in self.inputs)})"
        return "leaf" if self.tensor.requires_grad else "constant"


def rows(tensor: Tensor) -> list[Row]:
    """The tape that leads to a tensor, in the order in which it was made; backward() has not freed it yet.

    Raises RuntimeError where it has.
    """
    order = tensor._tape_order()
    numbers = {id(each): i for i, each in enumerate(order)}
    return [Row(i, each, node.name if (node := each._node) else "",
                tuple(None if t is None else numbers[id(t)] for t in node.inputs) if node else ())
            for i, each in enumerate(order)]


def uses(tape: list[Row]) -> dict[int, list[int]]:
    """By number of a tensor that is used: the numbers of those made from it, once each. Of two and more, sums meet."""
    found: dict[int, list[int]] = {}
    for row in reversed(tape):  # as backward() comes along
        for start in dict.fromkeys(i for i in row.inputs if i is not None):
            found.setdefault(start, []).append(row.number)
    return found
