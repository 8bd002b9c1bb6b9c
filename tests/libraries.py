"""The array libraries that the suite runs on, as one parametrised fixture: `library` in conftest.py.

NumPy; NumPy with read-only inputs, which show a write into what was given; array-api-strict, which has the standard's
functions only; its second device, where a hidden trip to the host raises; a stand-in for CuPy; and CuPy, where there is
a device.
"""

import sys
import types
from contextlib import contextmanager
from dataclasses import dataclass

import array_api_strict as strict
import numpy as np
import pytest
import standin

from minimask import Tensor, backend


@dataclass(frozen=True)
class Library:
    """Where a test computes.

    Attributes:
        name: of the parameter. backend: what `backend=` and `--backend` call it.
        like: an array that lives there.
        rtol, atol: how far float64 results may lie from NumPy's. A GPU sums in another order, and its exp and tanh may
            round otherwise: some ten roundings of 1e-16 each, and sums that cancel.
        read_only: whether arrays are handed out read-only.
    """

    name: str
    backend: str
    like: object
    rtol: float = 1e-12
    atol: float = 1e-14
    read_only: bool = False

    def array(self, host):
        """A host array here, with its dtype."""
        xp = backend.namespace(self.like)
        there = xp.asarray(np.array(host), **backend.on_device_of(self.like))
        if self.read_only:
            there.flags.writeable = False
        return there

    def leaf(self, *shape, dtype=np.float64, seed=0):
        """A random leaf Tensor here."""
        host = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
        return Tensor(self.array(host), requires_grad=True)

    def host(self, array):
        """The array (or Tensor) on the host, after a look whether it really was here."""
        array = array.data if isinstance(array, Tensor) else array
        assert type(array) is type(self.like), f"{type(array)} is no array of {self.name}"
        assert backend.place(array) == backend.place(self.like)
        return backend.to_host(array)

    def close(self, array, expected, loose=1.0):
        """Asserts that an array here holds the expected numbers; `loose` times the tolerances."""
        np.testing.assert_allclose(self.host(array), expected, loose * self.rtol, loose * self.atol)


NAMES = ("numpy", "read-only", "strict", "strict-device1", "cupy-stand-in", "cupy")


@contextmanager
def opened(name, cupy):
    """The Library of that name. `cupy` is the option --cupy: what must be there and may not be skipped."""
    with pytest.MonkeyPatch.context() as patch:
        if name in ("numpy", "read-only"):
            yield Library(name, "numpy", np.ones(1), read_only=name == "read-only")
        elif name == "strict":
            yield Library(name, "strict", strict.ones(1))
        elif name == "strict-device1":
            device = strict.Device("device1")
            # What backend="strict" loads, with device1 as the device that arrays are made on.
            module = types.ModuleType("strict_on_device1")
            module.asarray = lambda a, **settings: strict.asarray(a, **{"device": device, **settings})
            patch.setitem(sys.modules, module.__name__, module)
            patch.setitem(backend.LIBRARIES, "strict", module.__name__)
            yield Library(name, "strict", strict.ones(1, device=device))
        elif name == "cupy-stand-in":
            standin.install(patch)
            yield Library(name, "cupy", standin.ndarray(np.ones(1)))
        else:
            try:
                xp = backend.load("cupy")
            except backend.MinimaskError as error:
                if cupy == "device":
                    pytest.fail(f"--cupy device: {error}")
                pytest.skip(str(error))
            yield Library(name, "cupy", xp.ones(1), rtol=1e-10, atol=1e-11)
