"""A stand-in for CuPy where there is no GPU: its arrays live in NumPy, and are as unlike NumPy's as CuPy's are.

What differs between the two, and what the package must not trip over: an array of the module "cupy" has no
``__array_namespace__``, never turns into a NumPy array unless ``get()`` is called, does not mix with NumPy arrays, and
stays an array under reductions and integer indices; functions take no ``device=``; memory runs out with CuPy's words.
It holds the branches of backend.py to their promises. It says nothing about CuPy's kernels: for that, a GPU is needed
(``pytest --cupy device``). test_portability.py holds its functions to those of an installed CuPy.
"""

import operator
import types
import weakref
from typing import ClassVar

import numpy as np


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory.OutOfMemoryError: bytes asked for, and bytes held."""

    def __init__(self, size, total):
        self._size, self._total = size, total
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


class Device:
    def __init__(self, id):
        self.id = id

    def __eq__(self, other):
        return self.id == other.id

    def __str__(self):
        return f"<CUDA Device {self.id}>"


class Memory:
    """The bytes that arrays hold; above `limit` (None: no limit) an array is refused. Views hold none of their own."""

    limit = None
    held = 0
    known: ClassVar[set[int]] = set()  # ids of the arrays counted

    @classmethod
    def take(cls, array):
        if array.base is None and id(array) not in cls.known:
            if cls.limit is not None and cls.held + array.nbytes > cls.limit:
                raise OutOfMemoryError(array.nbytes, cls.held)
            cls.held += array.nbytes
            cls.known.add(id(array))
            weakref.finalize(array, cls.give_back, id(array), array.nbytes)

    @classmethod
    def give_back(cls, which, size):
        cls.known.remove(which)
        cls.held -= size


class ndarray:
    """An array on the pretended device."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, host, device=0):
        self._host, self.device = np.asarray(host), Device(device)
        Memory.take(self._host)

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: ndarray(self._host.T))

    def reshape(self, *shape):
        return ndarray(self._host.reshape(*shape))

    def transpose(self, *axes):
        return ndarray(self._host.transpose(*axes))

    def get(self):
        return self._host.copy()

    def __array__(self, *arguments, **settings):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
                        "array explicitly.")

    def __getitem__(self, index):
        return ndarray(self._host[index, ...] if not isinstance(index, tuple) else
                       self._host[index if ... in index else (*index, ...)])  # a view, also of one entry

    def __setitem__(self, index, value):
        self._host[index] = _host(value)

    def __iter__(self):
        return (self[i] for i in range(len(self._host)))

    def __len__(self):
        return len(self._host)

    def __bool__(self):
        return bool(self._host)

    def __int__(self):
        return int(self._host)

    def __float__(self):
        return float(self._host)


ndarray.__module__ = "cupy"


def _host(value):
    """An operand's NumPy array, or the number that it is; NumPy's own arrays are refused, as CuPy does."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _operators():
    def binary(function):
        return lambda self, other: (NotImplemented if getattr(type(other), "__array_ufunc__", 0) is None
                                    and not isinstance(other, ndarray) else ndarray(function(self._host, _host(other))))

    def reverse(function):
        return lambda self, other: ndarray(function(_host(other), self._host))

    def in_place(function):
        def call(self, other):
            self._host = function(self._host, _host(other))
            return self
        return call

    for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "lt", "le", "gt", "ge", "eq", "ne"):
        function = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__{name}__", binary(function))
        if hasattr(operator, f"__i{name}__"):
            setattr(ndarray, f"__r{name}__", reverse(function))
            setattr(ndarray, f"__i{name}__", in_place(getattr(operator, f"__i{name}__")))
    ndarray.__neg__ = lambda self: ndarray(-self._host)
    ndarray.__invert__ = lambda self: ndarray(~self._host)


_operators()


def _wrapped(function):
    """A function of NumPy on arrays of ours; an argument that is a list or tuple of arrays goes with it."""
    def call(*arguments, **settings):
        def host(value):
            return type(value)(map(host, value)) if isinstance(value, (list, tuple)) else _host(value)

        return ndarray(function(*map(host, arguments), **{name: host(value) for name, value in settings.items()}))

    return call


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if isinstance(a, ndarray) and not copy and dtype in (None, a.dtype):
        return a
    return ndarray(np.array(a.get() if isinstance(a, ndarray) else a, dtype=dtype))


def astype(x, dtype, /, *, copy=True):
    return ndarray(x._host.astype(dtype, copy=copy))


def copyto(dst, src, casting="same_kind", where=None):
    np.copyto(dst._host, _host(src), casting)


def as_strided(x, shape=None, strides=None):
    return ndarray(np.lib.stride_tricks.as_strided(x._host, shape, strides))


def module():
    """The module to put into sys.modules as "cupy"."""
    cupy = types.ModuleType("cupy")
    for name in ("abs", "arange", "argsort", "ascontiguousarray", "broadcast_to", "clip", "concat", "empty", "empty_like", "exp",
                 "expm1", "isfinite", "log", "matmul", "matrix_transpose", "max", "maximum", "mean", "min", "minimum",
                 "moveaxis", "multiply", "ones", "ones_like", "permute_dims", "reshape", "sign", "sqrt", "sum", "take",
                 "tanh", "tile", "where", "zeros", "zeros_like"):
        setattr(cupy, name, _wrapped(getattr(np, name)))
    for name in ("bool", "int8", "int64", "float32", "float64", "isdtype"):
        setattr(cupy, name, getattr(np, name))
    cupy.ndarray, cupy.asarray, cupy.astype, cupy.copyto = ndarray, asarray, astype, copyto
    cupy.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=as_strided))
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1)
    memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cupy.cuda = types.SimpleNamespace(runtime=runtime, memory=memory)
    return cupy
