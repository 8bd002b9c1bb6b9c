"""Read 2 of 10 · needs backend · Tensor, the op decorator and backward. This file knows no op.

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

from .backend import SWITCHES, Array, namespace, unshared
from .backend import no_grad as no_grad
from .errors import out_of_memory, ran_out
from .inputs import check_op, check_replacement, cotangent_of, explained, freed, of_one_kind, real_array, refuse_tensors
from .operators import OPS as OPS
from .operators import Operators
from .tape import held

P = ParamSpec("P")
Pullback = Callable[[Array], tuple[Any, ...]]

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
        self.inputs = inputs  # one per array parameter, as tape.held() gives it; None where no gradient is wanted
        self.versions = tuple(t._version if t is not None else 0 for t in inputs)
        self.pullback: Pullback | None = pullback  # None once backward has freed it


class Tensor(Operators):
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
        TypeError: for an array without numbers in it, integers with ``requires_grad=True``, or (lists of) tensors whose
            gradient would be lost.
    """

    __slots__ = ("__weakref__", "_data", "_node", "_place", "_version", "grad", "requires_grad")
    _data: Array
    _place: "Tensor | None"  # what the tape holds of self, where that is another: tape.held()

    def __init__(self, array: Any, requires_grad: bool = False):
        if isinstance(array, Tensor):
            array = array._data if requires_grad else array._read("Tensor(t)", "t.detach() says that it is meant")
        self._data = real_array(array, requires_grad)
        self._node: Node | None = None
        self._version, self._place = 0, None
        self.grad: Array | None = None
        self.requires_grad = requires_grad

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, array: Array) -> None:
        check_replacement(array, self._data)
        self._data, self._version = array, self._version + 1
        if self._place is not None:
            self._place._version += 1

    shape = property(lambda self: self._data.shape, doc="Lengths of the axes, a tuple of integers.")
    dtype = property(lambda self: self._data.dtype, doc="The array's dtype.")
    ndim = property(lambda self: len(self._data.shape), doc="Number of axes.")
    is_leaf = property(lambda self: self._node is None, doc="Whether no op on the tape made it: gradients end here.")
    size = property(lambda self: int(np.prod(self._data.shape)), doc="Number of entries.")

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
        given = cotangent._data if isinstance(cotangent, Tensor) else cotangent
        cotangents = {id(self): cotangent_of(given, self._data)}  # id(tensor) -> dL/d(tensor), summed so far
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
            if node is None:
                tensor._accumulate(g, handed_out)
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

    def _accumulate(self, g: Array, handed_out: set[int]) -> None:
        """Adds g to `.grad`, which is an array of its own: not one of those that were handed out, nor a view."""
        if self.grad is not None:
            self.grad = namespace(g).asarray(self.grad + g)
            return
        self.grad = namespace(g).asarray(g, copy=True) if id(g) in handed_out else unshared(g)
        handed_out.add(id(self.grad))

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
            else:
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
        if self._node is not None and self._node.pullback is None:
            raise freed(self._node.name)
        return () if self._node is None else self._node.inputs


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
    parameters = Parameters(function, discrete)
    name = parameters.name

    @functools.wraps(function)
    def call(*args: Any, **settings: Any) -> Tensor:
        inputs, static = parameters.split(args)
        if static or settings:
            refuse_tensors(name, parameters.settings, static, settings)
        xp, arrays = of_one_kind(name, [x._data if isinstance(x, Tensor) else x for x in inputs], parameters.discrete)
        try:
            made = (version(name, xp, function) if register else function)(xp, *arrays, *static, **settings)
        except (ValueError, TypeError, IndexError, RuntimeError, OverflowError, MemoryError) as error:
            raise explained(name, error, arrays, parameters.public, args, settings) from error
        if type(made) is not tuple or len(made) != 2 or not callable(made[1]):
            raise TypeError(f"{name}: an op returns two things, its value and its pullback: return y, lambda g: (...,)")
        value, pullback = made
        result = Tensor(value if type(value) is type(arrays[0]) else xp.asarray(value))
        if not SWITCHES.no_grad:
            wanted = tuple(held(x) if isinstance(x, Tensor) and x.requires_grad else None for x in inputs)
            if any(x is not None for x in wanted):
                result.requires_grad = True
                result._node = Node(name, wanted, pullback)
        return result

    public: Any = call
    public.__signature__ = parameters.public
    public.surrogate, public.discrete = surrogate, discrete
    public.__func__ = function  # where the debugger's `break` on the op's name goes, in place of call
    if register:
        check_op(name, function, OPS.get(name))
        OPS[name] = call
    return call


class Parameters:
    """How an op is called, read once from its function: arrays first, then settings."""

    def __init__(self, function: Callable[..., Any], discrete: tuple[str, ...]):
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]  # without xp
        split = any(p.kind is p.POSITIONAL_ONLY for p in parameters)
        self.name = function.__name__
        self.arrays = [p.name for p in parameters
                       if p.kind is p.POSITIONAL_ONLY or (not split and p.kind is not p.KEYWORD_ONLY)]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)  # its arrays are one parameter, *arrays
        self.discrete = tuple(name in discrete for name in self.arrays)
        self.settings = [p.name for p in parameters if p.name not in self.arrays]
        self.public = signature.replace(parameters=parameters, return_annotation=Tensor)  # without xp

    def split(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The arguments given by position: arrays, and settings. TypeError where arrays are missing."""
        if not self.variadic:
            count = len(self.arrays)
            if len(args) < count:
                raise TypeError(f"{self.name}: needs {count} array(s) ({', '.join(self.arrays)}), got {len(args)}")
            return args[:count], args[count:]
        if not args or not isinstance(args[0], (list, tuple)):
            return args, ()
        if len(args) > 1:
            raise TypeError(f"{self.name}: takes one list of arrays, and settings by name: {self.name}([x, y], axis=1)")
        return tuple(args[0]), ()


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
    return [None if input is None or entry is None else _fitted(node.name, input, entry)
            for input, entry in zip(node.inputs, entries)]


def _fitted(name: str, input: Tensor, entry: Any) -> Array:
    """A pullback's entry for an input that wants it: computed, unbroadcast, in the input's library and dtype."""
    gradient = entry() if callable(entry) else entry
    if type(gradient) is not type(input._data):
        gradient = namespace(input._data).asarray(gradient)
    if gradient.shape != input.shape:
        gradient = unbroadcast(name, gradient, input.shape)
    if gradient.dtype != input.dtype:
        raise RuntimeError(f"{name}: its pullback turned {input.dtype} into {gradient.dtype}; "
                           "a NumPy scalar in it? use Python numbers")
    return gradient


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
