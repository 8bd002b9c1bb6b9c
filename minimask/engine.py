"""Read 2 of 8 · needs backend · Tensor, the op decorator and backward. This file knows no op.

Reverse-mode differentiation in three ideas:

1. An *op* is a function from arrays to a value and a *pullback*. The pullback takes the cotangent of the
   value, g = dL/dy, and returns the cotangents of the arrays, dL/dx: a vector-Jacobian product.
2. :func:`op` wraps such a function so that it takes and gives :class:`Tensor` objects, and remembers the
   pullback and the inputs. Those memories are the tape.
3. :meth:`Tensor.backward` walks the tape from the loss to the leaves, newest op first, and sums what
   arrives at each tensor.

First order only: pullbacks compute with plain arrays, so a gradient has no gradient of its own.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec

import numpy as np

from .backend import (
    SWITCHES,
    Array,
    asarray,
    beside,
    is_floating,
    namespace,
    out_of_memory,
    own,
    ran_out,
    refuse_mixed,
    to_host,
)
from .backend import no_grad as no_grad

P = ParamSpec("P")
Pullback = Callable[[Array], tuple[Any, ...]]

#: Every registered op by name; :mod:`minimask.ops` fills it, Tensor's methods look their op up here.
OPS: dict[str, Callable[..., "Tensor"]] = {}

#: Faster twins: (array library, op) -> a function of the op's signature; the folder fast fills it. plain() ignores it.
FAST: dict[tuple[str, str], Callable[..., Any]] = {}


def version(name: str, xp: Any, plain: Callable[..., Any]) -> Callable[..., Any]:
    """What is called for `plain` on arrays of library xp: its twin, where FAST has one and plain() is not on."""
    return plain if SWITCHES.plain else FAST.get((xp.__name__, name), plain)


class Node:
    """What the tape remembers of one op call: whom to call back, and for whom."""

    __slots__ = ("inputs", "name", "pullback", "versions")

    def __init__(self, name: str, inputs: tuple["Tensor | None", ...], pullback: Pullback):
        self.name = name
        self.inputs = inputs  # one per array parameter; None where no gradient is wanted
        self.versions = tuple(t._version if t is not None else 0 for t in inputs)
        self.pullback: Pullback | None = pullback  # None once backward has freed it


class Tensor:
    """An array, the gradient of a loss with respect to it, and the op that made it.

    Args:
        array: an array of any library, or anything that ``numpy.asarray`` takes. Python floats and lists
            of them become float64, as in NumPy; say ``numpy.float32(...)`` for float32.
        requires_grad: whether backward() should leave a gradient in `.grad`. Floating dtypes only.

    Attributes:
        data: the array itself. Assigning it (``t.data -= step`` too) keeps shape and dtype and counts as a
            write, which backward() uses to refuse a tape whose inputs have changed since. A write into the
            array (``t.data[i] = 0``, or through another name of it) is not seen.
        grad: plain array of the same shape and dtype after backward(), summed over calls; None before.
        requires_grad: whether a gradient is wanted, of this leaf or of a leaf below it.

    Raises:
        TypeError: for an array without numbers in it, or integers with ``requires_grad=True``.
    """

    __slots__ = ("__weakref__", "_data", "_node", "_version", "grad", "requires_grad")
    _data: Array
    _version: int
    __array_ufunc__ = None  # so that `ndarray * tensor` is handed to Tensor.__rmul__
    __hash__ = object.__hash__  # == compares elementwise, identity still hashes

    def __init__(self, array: Any, requires_grad: bool = False):
        if isinstance(array, Tensor):
            array = array._data
        if not hasattr(array, "shape") or isinstance(array, np.generic):
            try:
                array = np.asarray(array)
            except ValueError:
                raise TypeError("Tensor: rows of different lengths; give real numbers in a rectangular array") from None
        if isinstance(array, np.ndarray) and array.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: {array.dtype} data; give real numbers in a rectangular array")
        if requires_grad and not is_floating(array):
            raise TypeError(f"Tensor: requires_grad needs a floating dtype, not {array.dtype}; convert it first")
        self._data = array
        self._node: Node | None = None
        self._version = 0
        self.grad: Array | None = None
        self.requires_grad = requires_grad

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, array: Array) -> None:
        if not hasattr(array, "dtype"):
            raise TypeError(f"Tensor.data: {type(array).__name__} is no array; give one of shape {self.shape}")
        refuse_mixed("Tensor.data", self._data, array)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(f"Tensor.data: {array.shape} {array.dtype} cannot replace {self.shape} {self.dtype}; "
                             "shape and dtype stay as they were, make a new Tensor instead")
        self._data = array
        self._version += 1

    shape = property(lambda self: self._data.shape, doc="Lengths of the axes, a tuple of integers.")
    dtype = property(lambda self: self._data.dtype, doc="The array's dtype.")
    ndim = property(lambda self: len(self._data.shape), doc="Number of axes.")
    is_leaf = property(lambda self: self._node is None, doc="Whether no op on the tape made it: gradients end here.")
    T = property(lambda self: OPS["permute_dims"](self, range(self.ndim)[::-1]), doc="The axes in reverse order.")
    size = property(lambda self: int(np.prod(self._data.shape)), doc="Number of entries.")

    def __repr__(self) -> str:
        role = f", made by {self._node.name}" if self._node else ", requires_grad=True" if self.requires_grad else ""
        if not 0 < self.size <= 20 or int(np.prod(self.shape[:-1])) > 5:  # none, many, or many lines
            return f"Tensor(shape={self.shape}, dtype={self.dtype}{role})"
        values = np.array2string(to_host(self._data), precision=4, separator=", ", prefix="Tensor(")
        return f"Tensor({values}, dtype={self.dtype}{role})"

    # ---- backward --------------------------------------------------------------------------------------------------

    def backward(self, cotangent: Any = None) -> None:
        """Adds d(self)/d(leaf), contracted with `cotangent`, to `.grad` of every leaf that requires it.

        Args:
            cotangent: dL/d(self), an array (or Tensor) of this tensor's shape and dtype. A tensor with one
                entry may leave it out; it is 1 then.

        Raises:
            RuntimeError: nothing here requires a gradient; the tape was freed by an earlier backward(); or a
                tensor on the tape was written to after the op that read it.
            ValueError: the cotangent is missing or has another shape or dtype.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: no input of this tensor requires a gradient; "
                               "create a leaf with Tensor(array, requires_grad=True), outside no_grad()")
        cotangents = {id(self): self._cotangent(cotangent)}  # id(tensor) -> dL/d(tensor), summed so far
        summed: set[int] = set()  # tensors whose cotangent is a sum that we allocated, so may add into
        handed_out: set[int] = {id(cotangents[id(self)])}  # arrays that somebody else holds
        order = self._tape_order()
        for tensor in order:  # before anything is pulled: a refused backward() leaves gradients and tape as they were
            tensor._refuse_if_written()
        while order:  # popping lets go of each tensor as soon as it is done, and of its array
            tensor = order.pop()
            g, node = cotangents.pop(id(tensor), None), tensor._node
            if g is None:
                continue
            if node is None:  # a leaf
                if tensor.grad is not None:
                    tensor.grad = namespace(g).asarray(tensor.grad + g)
                else:
                    g = namespace(g).asarray(g, copy=True) if id(g) in handed_out else own(g)
                    handed_out.add(id(g))
                    tensor.grad = g
                continue
            try:
                gradients = _pull(node, g)
            except Exception as error:
                if ran_out(error):
                    budget = node.name in OPS and "budget" in inspect.signature(OPS[node.name]).parameters
                    raise out_of_memory(f"backward of {node.name}, g {g.shape} {g.dtype}", error, budget) from error
                raise
            for input, gradient in zip(node.inputs, gradients):
                if input is None or gradient is None:
                    continue
                key = id(input)
                if key not in cotangents:
                    cotangents[key] = gradient
                elif key in summed:
                    cotangents[key] += gradient
                else:
                    cotangents[key] = namespace(gradient).asarray(cotangents[key] + gradient)
                    summed.add(key)
            node.pullback, node.inputs = None, ()  # free the tape behind us

    def _cotangent(self, cotangent: Any) -> Array:
        """The cotangent to start from, checked."""
        if cotangent is None:
            if self.size != 1:
                raise ValueError(f"backward: a tensor of shape {self.shape} needs a cotangent of that shape; "
                                 "backward(cotangent), or reduce it to one number with .sum() or .mean()")
            return namespace(self._data).ones_like(self._data)
        g = cotangent._data if isinstance(cotangent, Tensor) else cotangent
        if not hasattr(g, "dtype"):
            g = asarray(g, like=self._data)
        refuse_mixed("backward", self._data, g)
        if g.shape != self.shape or g.dtype != self.dtype:
            raise ValueError(f"backward: the cotangent is {g.shape} {g.dtype}, the tensor {self.shape} {self.dtype}; "
                             "both must agree")
        return g

    def _tape_order(self) -> list["Tensor"]:
        """Every tensor that self depends on and that wants a gradient, each after all its inputs.

        A topological order by depth-first search with a stack of our own: recursion would end at Python's
        limit of a thousand ops.
        """
        order: list[Tensor] = []
        seen: set[int] = {id(self)}
        stack: list[tuple[Tensor, Iterator[Tensor | None]]] = [(self, iter(self._inputs()))]
        while stack:
            tensor, inputs = stack[-1]
            for input in inputs:
                if input is not None and id(input) not in seen:
                    seen.add(id(input))
                    stack.append((input, iter(input._inputs())))
                    break
            else:  # all inputs are done
                order.append(tensor)
                stack.pop()
        return order

    def _refuse_if_written(self) -> None:
        """RuntimeError where an input of the op that made self, or self, was written to since."""
        node = self._node
        if node and (self._version or any(t is not None and t._version != v
                                          for t, v in zip(node.inputs, node.versions))):
            raise RuntimeError(f"backward: an input or the result of {node.name} was written to after the op ran; "
                               "update parameters after backward(), not before")

    def _inputs(self) -> tuple["Tensor | None", ...]:
        if self._node is None:
            return ()
        if self._node.pullback is None:
            raise RuntimeError(f"backward: the tape through {self._node.name} was freed by an earlier backward(); "
                               "compute the loss again (to look at its tape, before backward()), or add the losses "
                               "and call backward() once")
        return self._node.inputs

    def trace(self) -> None:
        """Prints the tape that leads to self, a line per tensor: its number, the op and its inputs, shape, dtype.

        backward() walks these lines from the last to the first. "-" stands for an input that wants no gradient.
        """
        order = self._tape_order()
        numbers = {id(tensor): i for i, tensor in enumerate(order)}
        for i, tensor in enumerate(order):
            if node := tensor._node:
                made = f"{node.name}({', '.join('-' if t is None else f'#{numbers[id(t)]}' for t in node.inputs)})"
            else:
                made = "leaf" if tensor.requires_grad else "constant"
            print(f"{f'#{i}':>5}  {made:32} {tensor.shape!s:20} {tensor.dtype}")

    def detach(self) -> "Tensor":
        """The same array (shared, not copied) in a tensor without a past: no gradient flows through it."""
        return Tensor(self._data)

    # ---- what people expect of an array ----------------------------------------------------------------------------

    def item(self) -> float:
        """The single entry as a Python number. Raises ValueError where there are more."""
        if self.size != 1:
            raise ValueError(f"item: a tensor of shape {self.shape} is not one number; index or reduce it first")
        return to_host(self._data).item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(to_host(self._data), dtype=dtype, copy=copy)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions on tensors: on their arrays where no gradient is wanted, refused where it would be lost."""
        def plain(value: Any) -> Any:
            if isinstance(value, Tensor):
                if value.requires_grad and not SWITCHES.no_grad:
                    raise TypeError(f"numpy.{function.__name__} would lose the gradient: take the function of "
                                    "minimask.ops, or t.data where none is wanted")
                return to_host(value._data)
            return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value

        return function(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()})

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if form else str(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("Tensor: no item assignment, the tape would not see it; "
                        "build the value with ops.where, or assign t.data of a leaf before it is used")

    def _refuse_in_place(self, sign: str) -> "Tensor":
        raise TypeError(f"Tensor: no {sign} on a tensor, it would make a new one and leave the old as it is; "
                        f"write t.data {sign} ... for a parameter, t = t {sign[0]} ... for a new tensor")

    # ---- every op as an operator or a method: one line each, so that type checkers and readers see them ----

    def __add__(self, other: Any) -> "Tensor": return OPS["add"](self, other)
    def __radd__(self, other: Any) -> "Tensor": return OPS["add"](other, self)
    def __sub__(self, other: Any) -> "Tensor": return OPS["subtract"](self, other)
    def __rsub__(self, other: Any) -> "Tensor": return OPS["subtract"](other, self)
    def __mul__(self, other: Any) -> "Tensor": return OPS["multiply"](self, other)
    def __rmul__(self, other: Any) -> "Tensor": return OPS["multiply"](other, self)
    def __truediv__(self, other: Any) -> "Tensor": return OPS["divide"](self, other)
    def __rtruediv__(self, other: Any) -> "Tensor": return OPS["divide"](other, self)
    def __matmul__(self, other: Any) -> "Tensor": return OPS["matmul"](self, other)
    def __rmatmul__(self, other: Any) -> "Tensor": return OPS["matmul"](other, self)
    def __pow__(self, exponent: float) -> "Tensor": return OPS["power"](self, exponent)
    def __neg__(self) -> "Tensor": return OPS["negative"](self)
    def __abs__(self) -> "Tensor": return OPS["abs"](self)
    def __getitem__(self, index: Any) -> "Tensor": return OPS["getitem"](self, index)

    def add(self, other: Any) -> "Tensor": return OPS["add"](self, other)
    def subtract(self, other: Any) -> "Tensor": return OPS["subtract"](self, other)
    def multiply(self, other: Any) -> "Tensor": return OPS["multiply"](self, other)
    def divide(self, other: Any) -> "Tensor": return OPS["divide"](self, other)
    def matmul(self, other: Any) -> "Tensor": return OPS["matmul"](self, other)
    def power(self, exponent: float) -> "Tensor": return OPS["power"](self, exponent)
    def negative(self) -> "Tensor": return OPS["negative"](self)
    def abs(self) -> "Tensor": return OPS["abs"](self)
    def exp(self) -> "Tensor": return OPS["exp"](self)
    def expm1(self) -> "Tensor": return OPS["expm1"](self)
    def log(self) -> "Tensor": return OPS["log"](self)
    def sqrt(self) -> "Tensor": return OPS["sqrt"](self)
    def tanh(self) -> "Tensor": return OPS["tanh"](self)
    def sigmoid(self) -> "Tensor": return OPS["sigmoid"](self)
    def relu(self) -> "Tensor": return OPS["relu"](self)
    def elu(self, alpha: float = 1.0) -> "Tensor": return OPS["elu"](self, alpha)
    def maximum(self, other: Any) -> "Tensor": return OPS["maximum"](self, other)
    def minimum(self, other: Any) -> "Tensor": return OPS["minimum"](self, other)
    def clip(self, low: float | None = None, high: float | None = None) -> "Tensor": return OPS["clip"](self, low, high)
    def where(self, condition: Any, other: Any) -> "Tensor": return OPS["where"](condition, self, other)
    def sum(self, axis: Any = None, keepdims: bool = False) -> "Tensor": return OPS["sum"](self, axis, keepdims)
    def mean(self, axis: Any = None, keepdims: bool = False) -> "Tensor": return OPS["mean"](self, axis, keepdims)
    def max(self, axis: Any = None, keepdims: bool = False) -> "Tensor": return OPS["max"](self, axis, keepdims)
    def reshape(self, *shape: Any) -> "Tensor": return OPS["reshape"](self, shape[0] if len(shape) == 1 else shape)
    def permute_dims(self, axes: Any) -> "Tensor": return OPS["permute_dims"](self, axes)
    def broadcast_to(self, shape: Any) -> "Tensor": return OPS["broadcast_to"](self, shape)
    def concat(self, *others: Any, axis: int = 0) -> "Tensor": return OPS["concat"](self, *others, axis=axis)
    def take(self, indices: Any, axis: int = 0) -> "Tensor": return OPS["take"](self, indices, axis)
    def softmax(self, axis: int = -1) -> "Tensor": return OPS["softmax"](self, axis)
    def log_softmax(self, axis: int = -1) -> "Tensor": return OPS["log_softmax"](self, axis)
    def cross_entropy(self, labels: Any) -> "Tensor": return OPS["cross_entropy"](self, labels)
    def keep_hide_invert(self, tau: float) -> "Tensor": return OPS["keep_hide_invert"](self, tau)
    def keep_hide(self, tau: float) -> "Tensor": return OPS["keep_hide"](self, tau)
    def keep_largest(self, share: float) -> "Tensor": return OPS["keep_largest"](self, share)

    def __iadd__(self, other: Any) -> "Tensor": return self._refuse_in_place("+=")
    def __isub__(self, other: Any) -> "Tensor": return self._refuse_in_place("-=")
    def __imul__(self, other: Any) -> "Tensor": return self._refuse_in_place("*=")
    def __itruediv__(self, other: Any) -> "Tensor": return self._refuse_in_place("/=")

    # Comparisons have no slope: they give plain boolean arrays.
    def __eq__(self, other: Any) -> Array: return self._data == _operand(other, self._data)
    def __ne__(self, other: Any) -> Array: return self._data != _operand(other, self._data)
    def __lt__(self, other: Any) -> Array: return self._data < _operand(other, self._data)
    def __le__(self, other: Any) -> Array: return self._data <= _operand(other, self._data)
    def __gt__(self, other: Any) -> Array: return self._data > _operand(other, self._data)
    def __ge__(self, other: Any) -> Array: return self._data >= _operand(other, self._data)


# ---- the op decorator ----------------------------------------------------------------------------------------------


def op(function: Callable[Concatenate[Any, P], tuple[Array, Pullback]] | None = None, *,
       surrogate: bool = False, discrete: tuple[str, ...] = (), register: bool = True) -> Any:
    r"""Turns ``function(xp, *arrays, *settings) -> (value, pullback)`` into an op on Tensors.

    Parameters before ``/`` are arrays (all of them where there is no ``/``; ``*arrays`` takes any number or
    one list); those after it are plain Python values such as an axis. The op is called without `xp`, the
    array library, which the decorator finds. The pullback maps g, the cotangent of the value, to one entry
    per array: its cotangent (a broadcast axis may stay unsummed, the engine sums it), None where there is
    none, or a function without arguments that computes it, which the engine calls only if it is needed.

    Neither function nor pullback may write into what it was given, and the pullback returns g itself, views of it or
    new arrays, never an array that it keeps; it keeps arrays, not Tensors.

    Args:
        surrogate: the gradient is declared, not derived (straight-through): finite differences do not apply.
        discrete: names of array parameters that hold labels, conditions or indices; they get no gradient and
            may be integer or boolean, and no other array may.
        register: enter the op in ``OPS`` under its name. False for an experiment or a wrong gradient in a test.

    Example::

        @op
        def square(xp, x):
            return x * x, lambda g: (2 * x * g,)
    """
    if function is None:
        return functools.partial(op, surrogate=surrogate, discrete=discrete, register=register)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]  # without xp
    split = any(p.kind is p.POSITIONAL_ONLY for p in parameters)
    array_names = [p.name for p in parameters
                   if p.kind is p.POSITIONAL_ONLY or (not split and p.kind is not p.KEYWORD_ONLY)]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    is_discrete = tuple(name in discrete for name in array_names)
    count, name = len(array_names), function.__name__

    @functools.wraps(function)
    def call(*args: Any, **settings: Any) -> Tensor:
        if variadic:
            inputs, static = (tuple(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) else args), ()
            if len(args) > 1 and isinstance(args[0], (list, tuple)):
                raise TypeError(f"{name}: takes one list of arrays, and settings by name: {name}([x, y], axis=1)")
        else:
            inputs, static = args[:count], args[count:]
            if len(inputs) < count:
                raise TypeError(f"{name}: needs {count} array(s) ({', '.join(array_names)}), got {len(inputs)}")
        xp, arrays = _unwrap(name, inputs, is_discrete)
        try:
            made = (version(name, xp, function) if register else function)(xp, *arrays, *static, **settings)
        except (ValueError, TypeError, IndexError, RuntimeError, MemoryError) as error:
            if ran_out(error):
                shapes = ", ".join(f"{x.shape} {x.dtype}" for x in arrays)
                raise out_of_memory(f"{name} of {shapes}", error, "budget" in signature.parameters) from error
            raise _named(name, error, arrays, public.__signature__, args, settings) from error
        if type(made) is not tuple or len(made) != 2 or not callable(made[1]):
            raise TypeError(f"{name}: an op returns two things, its value and its pullback: return y, lambda g: (...,)")
        value, pullback = made
        result = Tensor(value if type(value) is type(arrays[0]) else xp.asarray(value))
        if not SWITCHES.no_grad:
            wanted = tuple(x if isinstance(x, Tensor) and x.requires_grad else None for x in inputs)
            if any(x is not None for x in wanted):
                result.requires_grad = True
                result._node = Node(name, wanted, pullback)
        return result

    public: Any = call
    public.__signature__ = signature.replace(parameters=parameters, return_annotation=Tensor)
    public.surrogate, public.discrete = surrogate, discrete
    if register:
        if name in OPS:
            raise ValueError(f"op: {name!r} is registered already; choose another name or register=False")
        OPS[name] = call
    return call


def _unwrap(name: str, inputs: tuple[Any, ...], is_discrete: tuple[bool, ...]) -> tuple[Any, list[Array]]:
    """The array library of `inputs`, and the inputs as its arrays in one floating dtype; or a clear error."""
    arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
    if len(arrays) == 1 and isinstance(arrays[0], np.ndarray) and arrays[0].dtype.kind == "f":
        return np, arrays  # most calls, and nothing to compare
    like = None  # the first floating array: it decides library, device and dtype
    flags = is_discrete if len(is_discrete) == len(arrays) else (False,) * len(arrays)
    for x, discrete in zip(arrays, flags):
        if discrete or not hasattr(x, "shape") or isinstance(x, np.generic):
            continue
        if not is_floating(x):
            raise TypeError(f"{name}: {x.dtype} array of shape {x.shape} in floating-point arithmetic; "
                            "convert it first, for example x.astype(np.float32)")
        if like is None:
            like = x
        else:
            refuse_mixed(name, like, x)
            if x.dtype != like.dtype:
                raise TypeError(f"{name}: mixes {like.dtype} and {x.dtype}; convert one, so that nothing grows unseen")
    if like is None:  # no array at all: a NumPy scalar will do, it has a dtype
        like = next((np.asarray(x) for x in arrays if isinstance(x, np.floating)), None)
    if like is None:
        raise TypeError(f"{name}: needs a Tensor or a floating-point array, "
                        f"got {', '.join(type(x).__name__ for x in inputs) or 'nothing'}")
    for i, (x, discrete) in enumerate(zip(arrays, flags)):
        if discrete:
            arrays[i] = _discrete(name, x, like)
        elif not hasattr(x, "shape") or isinstance(x, np.generic):
            arrays[i] = _scalar(name, x, like)
    return namespace(like), arrays


def _scalar(name: str, x: Any, like: Array) -> Array:
    """A Python number or NumPy scalar in the dtype of the arrays beside it, so that it never promotes them."""
    if isinstance(x, (int, float, np.integer, np.floating)):
        return asarray(float(x), like)
    raise TypeError(f"{name}: {type(x).__name__} is neither a Tensor, an array nor a number; wrap it in Tensor(...)")


def _discrete(name: str, x: Any, like: Array) -> Array:
    """Labels, a condition or indices as an array of `like`'s library: integers or booleans."""
    if not hasattr(x, "shape") or isinstance(x, np.generic):
        x = np.asarray(x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        x = x.astype(np.int64)  # so that counting up to n classes cannot overflow uint8 labels
    if isinstance(x, np.ndarray) and not isinstance(like, np.ndarray):
        x = namespace(like).asarray(x, **beside(like))
    refuse_mixed(name, like, x)
    if not isinstance(x, np.ndarray) and namespace(x).isdtype(x.dtype, "integral"):
        x = namespace(x).astype(x, namespace(x).int64)
    if is_floating(x) or (isinstance(x, np.ndarray) and x.dtype.kind not in "iub"):
        raise TypeError(f"{name}: labels, conditions and indices are integers or booleans, not {x.dtype}")
    return x


def _operand(other: Any, like: Array) -> Array:
    """The right side of a comparison: unwrapped, and a NumPy scalar brought to the tensor's dtype."""
    if isinstance(other, Tensor):
        return other._data
    return asarray(other, like) if isinstance(other, np.generic) else other


def _named(name: str, error: Exception, arrays: list[Array], signature: inspect.Signature, args: Any,
           settings: Any) -> Exception:
    """The library's error with the op's name and the shapes that met; ops word their own errors themselves."""
    if str(error).startswith(f"{name}: ") or isinstance(error, NotImplementedError):  # an op that is yet to be written
        return error
    try:
        signature.bind(*args, **settings)
    except TypeError as wrong_call:
        return TypeError(f"{name}: {wrong_call}; it takes {', '.join(signature.parameters)}")
    shapes = [x.shape for x in arrays if hasattr(x, "shape")]
    if "broadcast" in str(error):
        text = (f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast; "
                "counted from the right, axes must be equal or 1")
    else:
        text = f"{name}: {error} (shapes {', '.join(map(str, shapes))})"
    kind = next(k for k in (IndexError, ValueError, TypeError, RuntimeError) if isinstance(error, k))
    return kind(text)


# ---- one step of backward ------------------------------------------------------------------------------------------


def _pull(node: Node, g: Array) -> list[Array | None]:
    """The cotangents of the node's inputs, each in its input's shape and dtype."""
    assert node.pullback is not None
    entries = node.pullback(g)
    if type(entries) is not tuple:
        raise RuntimeError(f"{node.name}: its pullback returned a {type(entries).__name__}, but must return a tuple, "
                           "one entry per array; for one array write (dx,) with the comma")
    if len(entries) != len(node.inputs):
        raise RuntimeError(f"{node.name}: its pullback gave {len(entries)} cotangents for {len(node.inputs)} arrays")
    gradients: list[Array | None] = []
    for input, entry in zip(node.inputs, entries):
        if input is None or entry is None:
            gradients.append(None)
            continue
        gradient = entry() if callable(entry) else entry
        if type(gradient) is not type(input._data):
            gradient = namespace(input._data).asarray(gradient)
        if gradient.shape != input.shape:
            gradient = unbroadcast(node.name, gradient, input.shape)
        if gradient.dtype != input.dtype:
            raise RuntimeError(f"{node.name}: its pullback turned {input.dtype} into {gradient.dtype}; "
                               "a NumPy scalar in it? use Python numbers")
        gradients.append(gradient)
    return gradients


def unbroadcast(name: str, g: Array, shape: tuple[int, ...]) -> Array:
    """Sums g over the axes that broadcasting added or stretched: the transpose of broadcast_to.

    g of a shape that `shape` broadcasts to -> `shape`. RuntimeError where it does not.
    """
    added = len(g.shape) - len(shape)
    padded = (1,) * added + tuple(shape)
    if added < 0 or any(n != 1 and n != m for n, m in zip(padded, g.shape)):
        raise RuntimeError(f"{name}: its pullback gave a cotangent of shape {g.shape} for an array of shape {shape}")
    axes = tuple(i for i, n in enumerate(padded) if i < added or (n == 1 and g.shape[i] != 1))
    xp = namespace(g)
    return xp.reshape(xp.sum(g, axis=axes, keepdims=True), tuple(shape))
