"""A stand-in for CuPy where there is no GPU: its arrays live in NumPy, and are as unlike NumPy's as CuPy's are.

What differs between the two, and what the package must not trip over: an array of the module "cupy" has no
``__array_namespace__``, never turns into a NumPy array unless ``get()`` is called, does not mix with NumPy arrays, and
stays an array under reductions and integer indices; functions take no ``device=``; memory runs out with CuPy's words.
It holds the branches of backend.py to their promises. It says nothing about CuPy's kernels: for that, a GPU is needed
(``pytest --cupy device``). test_portability.py holds its functions to those of an installed CuPy.
"""

import ctypes
import functools
import operator
import shutil
import subprocess
import sys
import tempfile
import types
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np

from minimask import engine


class Count:
    """What a GPU would have been asked for: kernels launched, arrays fetched from it, arrays sent to it."""

    launches = fetched = sent = 0

    @classmethod
    def reset(cls):
        cls.launches = cls.fetched = cls.sent = 0


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
        self.base = self._host.base
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

    def view(self, dtype):
        return ndarray(self._host.view(dtype))

    def get(self):
        Count.fetched += 1
        return self._host.copy()

    def __array__(self, *arguments, **settings):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
                        "array explicitly.")

    def __getitem__(self, index):
        return ndarray(self._host[index, ...] if not isinstance(index, tuple) else
                       self._host[index if ... in index else (*index, ...)])  # a view, also of one entry

    def __setitem__(self, index, value):
        Count.launches += 1
        self._host[index] = _host(value)

    def __iter__(self):
        return (self[i] for i in range(len(self._host)))

    def __len__(self):
        return len(self._host)

    def __bool__(self):
        Count.fetched += 1
        return bool(self._host)

    def __int__(self):
        Count.fetched += 1
        return int(self._host)

    def __float__(self):
        Count.fetched += 1
        return float(self._host)


ndarray.__module__ = "cupy"


def _host(value):
    """An operand's NumPy array, or the number that it is; NumPy's own arrays are refused, as CuPy does."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _launched(result):
    """The result of one kernel."""
    Count.launches += 1
    return ndarray(result)


def _operators():
    def binary(function):
        return lambda self, other: (NotImplemented if getattr(type(other), "__array_ufunc__", 0) is None
                                    and not isinstance(other, ndarray) else _launched(function(self._host, _host(other))))

    def reverse(function):
        return lambda self, other: _launched(function(_host(other), self._host))

    def in_place(function):
        def call(self, other):
            Count.launches += 1
            self._host = function(self._host, _host(other))
            return self
        return call

    for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "xor", "lt", "le", "gt", "ge", "eq", "ne"):
        function = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__{name}__", binary(function))
        if hasattr(operator, f"__i{name}__"):
            setattr(ndarray, f"__r{name}__", reverse(function))
            setattr(ndarray, f"__i{name}__", in_place(getattr(operator, f"__i{name}__")))
    ndarray.__neg__ = lambda self: _launched(-self._host)
    ndarray.__invert__ = lambda self: _launched(~self._host)


_operators()


VIEWS = ("broadcast_to", "matrix_transpose", "moveaxis", "permute_dims", "reshape")  # no kernel is launched for these


def _wrapped(function):
    """A function of NumPy on arrays of ours; an argument that is a list or tuple of arrays goes with it."""
    launches = function.__name__ not in (*VIEWS, "empty", "empty_like")

    def call(*arguments, **settings):
        Count.launches += launches
        def host(value):
            return type(value)(map(host, value)) if isinstance(value, (list, tuple)) else _host(value)

        return ndarray(function(*map(host, arguments), **{name: host(value) for name, value in settings.items()}))

    return call


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if isinstance(a, ndarray) and not copy and dtype in (None, a.dtype):
        return a
    if isinstance(a, ndarray):
        return _launched(np.array(a._host, dtype=dtype))
    Count.sent += 1
    return ndarray(np.array(a, dtype=dtype))


def astype(x, dtype, /, *, copy=True):
    Count.launches += 1
    return ndarray(x._host.astype(dtype, copy=copy))


def copyto(dst, src, casting="same_kind", where=None):
    Count.launches += 1
    np.copyto(dst._host, _host(src), casting)


def as_strided(x, shape=None, strides=None):
    return ndarray(np.lib.stride_tricks.as_strided(x._host, shape, strides))


TYPES = {"float32": "float", "float64": "double", "complex128": "std::complex<double>", "int32": "int"}


class ElementwiseKernel:
    """A kernel whose text is compiled for the host, so that what it says is tested where there is no GPU.

    Parameters as CuPy's: "T x, int32 n", with 'raw' for arrays that the operation indexes by hand; `i` is the number of
    the entry. Arrays must be contiguous here.
    """

    def __init__(self, in_params, out_params, operation, name):
        self.inputs, self.outputs = in_params.split(", "), out_params.split(", ")
        self.operation, self.name = operation, name

    def __call__(self, *arguments):
        Count.launches += 1
        names = self.inputs + self.outputs
        arrays = [a for a in arguments if isinstance(a, ndarray)]
        dtype = arrays[0].dtype
        assert all(a.dtype == dtype for a in arrays), [a.dtype for a in arrays]
        given = list(arguments)
        if len(given) < len(names):
            shape = np.broadcast_shapes(*(a.shape for a in arrays))
            given += [ndarray(np.empty(shape, dtype)) for _ in names[len(given):]]
        assert len(given) == len(names), f"{self.name} takes {len(names)} arguments"
        size, held, pointers = given[-1].size, [], (ctypes.c_void_p * len(names))()
        for place, (words, value) in enumerate(zip(names, given)):
            if not isinstance(value, ndarray):
                value = np.array(value, np.int32 if words.startswith("int32") else dtype)
            elif "raw" in words or place >= len(self.inputs):
                value = value._host
                assert value.flags.c_contiguous, f"{self.name}: {words} is not contiguous"
            else:
                value = np.ascontiguousarray(np.broadcast_to(value._host, given[-1].shape))
            held.append(value)
            pointers[place] = value.ctypes.data
        scalars = tuple(not isinstance(value, ndarray) for value in given)
        compiled(tuple(names), self.operation, dtype.name, scalars)(size, pointers)
        made = given[len(self.inputs):]
        return made[0] if len(made) == 1 else tuple(made)


@functools.cache
def compiled(names, operation, dtype, scalars):
    """The host's function for a kernel's text and one dtype T."""
    before, each = [], []
    for place, (words, scalar) in enumerate(zip(names, scalars)):
        *raw, kind, name = words.split()
        kind = TYPES[kind] if kind in TYPES else "T"
        before.append(f"{kind}* p{place} = ({kind}*)a[{place}];")
        if raw:
            before.append(f"{kind}* {name} = p{place};")
        else:
            each.append(f"{kind}& {name} = p{place}[{0 if scalar else 'i'}];")
    text = (f"#include <cmath>\n#include <complex>\nusing namespace std;\ntypedef {TYPES[dtype]} T;\n"
            f"extern \"C\" void run(long size, void** a) {{\n{' '.join(before)}\n"
            f"for (long i = 0; i < size; ++i) {{ {' '.join(each)}\n{operation};\n}} }}\n")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
        source.write_text(text)
        subprocess.run(["g++", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o", library, source], check=True)
        function = ctypes.CDLL(str(library)).run
    function.argtypes, function.restype = [ctypes.c_long, ctypes.c_void_p * len(names)], None
    return function


def module():
    """The module to put into sys.modules as "cupy"."""
    cupy = types.ModuleType("cupy")
    for name in ("abs", "arange", "argsort", "ascontiguousarray", "broadcast_to", "clip", "concat", "empty",
                 "empty_like", "exp", "expm1", "isfinite", "isnan", "log", "matmul", "matrix_transpose", "max",
                 "maximum", "mean", "min", "minimum", "moveaxis", "multiply", "ones", "ones_like", "permute_dims",
                 "reshape", "sign", "sqrt", "sum", "take", "tanh", "tile", "where", "zeros", "zeros_like",
                 # and what an op that is yet to come may take
                 "all", "any", "cos", "floor", "log1p", "logaddexp", "prod", "sin", "sinh", "square", "std", "var"):
        setattr(cupy, name, _wrapped(getattr(np, name)))
    for name in ("bool", "int8", "int64", "float32", "float64", "complex128", "isdtype"):
        setattr(cupy, name, getattr(np, name))
    cupy.ndarray, cupy.asarray, cupy.astype, cupy.copyto = ndarray, asarray, astype, copyto
    if shutil.which("g++"):
        cupy.ElementwiseKernel = ElementwiseKernel
    cupy.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=as_strided))
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1)
    memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cupy.cuda = types.SimpleNamespace(runtime=runtime, memory=memory)
    return cupy


def install(patch):
    """The stand-in as the module cupy until `patch`, a MonkeyPatch, is undone.

    Where there is no compiler, the twins that are kernels are left out, and their plain versions run.
    """
    pretended = module()
    patch.setitem(sys.modules, "cupy", pretended)
    for key, twin in list(engine.FAST.items()):
        if twin.__module__ == "minimask.fast.cupy" and not hasattr(pretended, "ElementwiseKernel"):
            patch.delitem(engine.FAST, key)
