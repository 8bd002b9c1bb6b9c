"""`x + y` is the op add: Tensor's operators and methods, NumPy's protocols, how a tensor shows itself. Beside the path.

Every method looks its op up by name, so that this file needs no op, and type checkers and readers see them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import tape
from .backend import SWITCHES, Array, asarray, to_host

if TYPE_CHECKING:
    from .engine import Tensor

#: Every registered op by name; the op decorator fills it.
OPS: dict[str, Callable[..., Tensor]] = {}

#: `array + tensor`, as NumPy hands it over -> what the tensor does then.
REFLECTED = {np.add: "__radd__", np.subtract: "__rsub__", np.multiply: "__rmul__", np.divide: "__rtruediv__",
             np.matmul: "__rmatmul__", np.equal: "__eq__", np.not_equal: "__ne__", np.less: "__gt__",
             np.less_equal: "__ge__", np.greater: "__lt__", np.greater_equal: "__le__"}

#: Functions of NumPy that look at shapes only: no gradient is lost.
SHAPES = (np.shape, np.ndim, np.size)


class Operators:
    """What Tensor is beside the tape: a number, a sequence, an array, and every op as an operator or a method."""

    __slots__ = ()
    __hash__ = object.__hash__  # == compares elementwise, identity still hashes

    T = property(lambda self: OPS["permute_dims"](self, range(self.ndim)[::-1]), doc="The axes in reverse order.")

    # ---- what people expect of an array ----------------------------------------------------------------------------

    def item(self: Any) -> float:
        """The single entry as a Python number. Raises ValueError where there are more."""
        if self.size != 1:
            raise ValueError(f"item: a tensor of shape {self.shape} is not one number; index or reduce it first")
        return to_host(self._data).item()

    def __float__(self) -> float:
        self._read("float(t)", "math.exp and its like have their op in minimask.ops, t.item() is the number")
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __len__(self: Any) -> int:
        if not self.shape:
            raise TypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def _read(self: Any, what: str, way_out: str) -> Array:
        """The array, for `what`, which knows no tape: TypeError where a gradient is wanted, it would be lost."""
        if self.requires_grad and not SWITCHES.no_grad:
            raise TypeError(f"{what} would lose the gradient: {way_out}")
        return self._data

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._read("an array of this tensor", "t.data is the array where none is wanted, and "
                           "ops.concat([a.reshape(1), b.reshape(1)]) makes a tensor of several")
        return np.array(to_host(array), dtype=dtype, copy=copy)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions on tensors: on their arrays where no gradient is wanted, refused where it would be lost."""
        of = getattr(function, "__self__", None)  # numpy.add is what numpy.add.reduce is a method of
        name = f"{of.__name__}.{function.__name__}" if isinstance(of, np.ufunc) else function.__name__
        ours = f"ops.{name}" if name in OPS else "the function of minimask.ops"
        way_out = f"take {ours}, or t.data where none is wanted"

        def plain(value: Any) -> Any:
            if isinstance(value, Operators):
                tensor: Any = value
                return to_host(tensor._data if function in SHAPES else value._read(f"numpy.{name}", way_out))
            return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value

        return function(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()})

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """`array * tensor`, which NumPy hands over as numpy.multiply, is ours; the rest is as for other functions."""
        if method == "__call__" and ufunc in REFLECTED and not kwargs and not isinstance(inputs[0], Operators):
            return getattr(self, REFLECTED[ufunc])(inputs[0])
        return self.__array_function__(ufunc if method == "__call__" else getattr(ufunc, method), (), inputs, kwargs)

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if form else str(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("Tensor: no item assignment, the tape would not see it; "
                        "build the value with ops.where, or assign t.data of a leaf before it is used")

    def _refuse_in_place(self, sign: str) -> Tensor:
        raise TypeError(f"Tensor: no {sign} on a tensor, it would make a new one and leave the old as it is; "
                        f"write t.data {sign} ... for a parameter, t = t {sign[0]} ... for a new tensor")

    def __repr__(self: Any) -> str:
        role = f", made by {self._node.name}" if self._node else ", requires_grad=True" if self.requires_grad else ""
        if not 0 < self.size <= 20 or int(np.prod(self.shape[:-1])) > 5:  # none, many, or many lines
            return f"Tensor(shape={self.shape}, dtype={self.dtype}{role})"
        values = np.array2string(to_host(self._data), precision=4, separator=", ", prefix="Tensor(")
        return f"Tensor({values}, dtype={self.dtype}{role})"

    def detach(self: Any) -> Tensor:
        """The same array (shared, not copied) in a tensor without a past: no gradient flows through it."""
        return type(self)(self._data)

    def trace(self: Any) -> None:
        """Prints the tape that leads to self, a line per tensor: its number, the op and its inputs, shape, dtype.

        backward() walks these lines from the last to the first. "-" stands for an input that wants no gradient.
        """
        for row in tape.rows(self):
            print(f"{f'#{row.number}':>5}  {row.made:32} {row.tensor.shape!s:20} {row.tensor.dtype}")

    # ---- every op as an operator or a method -----------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor: return OPS["add"](self, other)
    def __radd__(self, other: Any) -> Tensor: return OPS["add"](other, self)
    def __sub__(self, other: Any) -> Tensor: return OPS["subtract"](self, other)
    def __rsub__(self, other: Any) -> Tensor: return OPS["subtract"](other, self)
    def __mul__(self, other: Any) -> Tensor: return OPS["multiply"](self, other)
    def __rmul__(self, other: Any) -> Tensor: return OPS["multiply"](other, self)
    def __truediv__(self, other: Any) -> Tensor: return OPS["divide"](self, other)
    def __rtruediv__(self, other: Any) -> Tensor: return OPS["divide"](other, self)
    def __matmul__(self, other: Any) -> Tensor: return OPS["matmul"](self, other)
    def __rmatmul__(self, other: Any) -> Tensor: return OPS["matmul"](other, self)
    def __pow__(self, exponent: float) -> Tensor: return OPS["power"](self, exponent)
    def __neg__(self) -> Tensor: return OPS["negative"](self)
    def __abs__(self) -> Tensor: return OPS["abs"](self)
    def __getitem__(self, index: Any) -> Tensor: return OPS["getitem"](self, index)

    def add(self, other: Any) -> Tensor: return OPS["add"](self, other)
    def subtract(self, other: Any) -> Tensor: return OPS["subtract"](self, other)
    def multiply(self, other: Any) -> Tensor: return OPS["multiply"](self, other)
    def divide(self, other: Any) -> Tensor: return OPS["divide"](self, other)
    def matmul(self, other: Any) -> Tensor: return OPS["matmul"](self, other)
    def power(self, exponent: float) -> Tensor: return OPS["power"](self, exponent)
    def negative(self) -> Tensor: return OPS["negative"](self)
    def abs(self) -> Tensor: return OPS["abs"](self)
    def exp(self) -> Tensor: return OPS["exp"](self)
    def expm1(self) -> Tensor: return OPS["expm1"](self)
    def log(self) -> Tensor: return OPS["log"](self)
    def sqrt(self) -> Tensor: return OPS["sqrt"](self)
    def tanh(self) -> Tensor: return OPS["tanh"](self)
    def sigmoid(self) -> Tensor: return OPS["sigmoid"](self)
    def relu(self) -> Tensor: return OPS["relu"](self)
    def elu(self, alpha: float = 1.0) -> Tensor: return OPS["elu"](self, alpha)
    def maximum(self, other: Any) -> Tensor: return OPS["maximum"](self, other)
    def minimum(self, other: Any) -> Tensor: return OPS["minimum"](self, other)
    def clip(self, low: float | None = None, high: float | None = None) -> Tensor: return OPS["clip"](self, low, high)
    def where(self, condition: Any, other: Any) -> Tensor: return OPS["where"](condition, self, other)
    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: return OPS["sum"](self, axis, keepdims)
    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: return OPS["mean"](self, axis, keepdims)
    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: return OPS["max"](self, axis, keepdims)
    def reshape(self, *shape: Any) -> Tensor: return OPS["reshape"](self, shape[0] if len(shape) == 1 else shape)
    def permute_dims(self, axes: Any) -> Tensor: return OPS["permute_dims"](self, axes)
    def broadcast_to(self, shape: Any) -> Tensor: return OPS["broadcast_to"](self, shape)
    def concat(self, *others: Any, axis: int = 0) -> Tensor: return OPS["concat"](self, *others, axis=axis)
    def take(self, indices: Any, axis: int = 0) -> Tensor: return OPS["take"](self, indices, axis)
    def softmax(self, axis: int = -1) -> Tensor: return OPS["softmax"](self, axis)
    def log_softmax(self, axis: int = -1) -> Tensor: return OPS["log_softmax"](self, axis)
    def cross_entropy(self, labels: Any) -> Tensor: return OPS["cross_entropy"](self, labels)
    def keep_hide_invert(self, tau: float) -> Tensor: return OPS["keep_hide_invert"](self, tau)
    def keep_hide(self, tau: float) -> Tensor: return OPS["keep_hide"](self, tau)
    def keep_largest(self, share: float) -> Tensor: return OPS["keep_largest"](self, share)

    def __iadd__(self, other: Any) -> Tensor: return self._refuse_in_place("+=")
    def __isub__(self, other: Any) -> Tensor: return self._refuse_in_place("-=")
    def __imul__(self, other: Any) -> Tensor: return self._refuse_in_place("*=")
    def __itruediv__(self, other: Any) -> Tensor: return self._refuse_in_place("/=")

    # Comparisons have no slope: they give plain boolean arrays.
    def __eq__(self: Any, other: Any) -> Array: return self._data == _operand(other, self._data)
    def __ne__(self: Any, other: Any) -> Array: return self._data != _operand(other, self._data)
    def __lt__(self: Any, other: Any) -> Array: return self._data < _operand(other, self._data)
    def __le__(self: Any, other: Any) -> Array: return self._data <= _operand(other, self._data)
    def __gt__(self: Any, other: Any) -> Array: return self._data > _operand(other, self._data)
    def __ge__(self: Any, other: Any) -> Array: return self._data >= _operand(other, self._data)


def _operand(other: Any, like: Array) -> Array:
    """The right side of a comparison: unwrapped, and a NumPy scalar brought to the tensor's dtype."""
    if isinstance(other, Operators):
        return other._data  # type: ignore[attr-defined]
    return asarray(other, like) if isinstance(other, np.generic) else other
