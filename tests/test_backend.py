"""Which library an array belongs to, moving arrays, and the threads of BLAS."""

import types

import array_api_strict as strict
import numpy as np
import pytest

from minimask import MinimaskError, UsageError, backend, errors


def test_namespace():
    assert backend.namespace(np.ones(2)) is np
    assert backend.namespace(strict.ones(2)) is strict
    for thing in ([1.0], 1.0, "x", None):
        with pytest.raises(TypeError, match=f"not an array: {type(thing).__name__}"):
            backend.namespace(thing)


def test_load():
    assert backend.load("numpy") is np and backend.load("strict") is strict
    with pytest.raises(UsageError, match="unknown backend 'nunpy': did you mean 'numpy'"):
        backend.load("nunpy")


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(backend.importlib, "import_module", missing)
    with pytest.raises(MinimaskError, match="backend 'cupy' needs the package cupy-cuda12x or cupy-cuda13x: pip install"):
        backend.load("cupy")


def test_a_library_that_is_there_but_broken_is_not_called_missing(monkeypatch):
    """CuPy's own text is a page: what it gives as the cause is enough."""
    def broken(name):
        try:
            raise ImportError("libnvrtc.so.12: cannot open shared object file")
        except ImportError as cause:
            raise ImportError("\n====\nFailed to import CuPy.\n\nIf you installed CuPy via wheels, ...") from cause

    monkeypatch.setattr(backend.importlib, "import_module", broken)
    with pytest.raises(MinimaskError, match=r"cupy is installed but cannot be imported \(libnvrtc.so.12: cannot open .*\); "
                       "install cupy-cuda12x or cupy-cuda13x anew") as caught:
        backend.load("cupy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("count", "reason"), [(RuntimeError("cudaErrorNoDevice"), "cudaErrorNoDevice"), (0, "none is visible")])
def test_cupy_without_a_device_is_a_sentence(count, reason, monkeypatch):
    def devices():
        if isinstance(count, Exception):
            raise count
        return count

    runtime = types.SimpleNamespace(getDeviceCount=devices)
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setattr(backend.importlib, "import_module", lambda name: cupy)
    with pytest.raises(MinimaskError, match=f"backend 'cupy' finds no CUDA device .{reason}.; use --backend numpy"):
        backend.load("cupy")


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_arrays_there_and_back(device):
    like = strict.ones(1, dtype=strict.float32, device=strict.Device(device))
    there = backend.asarray(np.arange(3.0), like)
    assert (there.dtype, there.device) == (like.dtype, like.device)
    back = backend.to_host(there)
    assert type(back) is np.ndarray and back.tolist() == [0.0, 1.0, 2.0]
    assert backend.asarray(2.5, np.ones(1, np.float32)).dtype == np.float32


def test_own_copies_what_is_somebody_elses():
    a = np.ones((2, 3))
    assert backend.unshared(a) is a
    for view in (a.T, a[:1], np.broadcast_to(a, (4, 2, 3))):
        assert not np.shares_memory(backend.unshared(view), a) and backend.unshared(view).flags.writeable
    b = strict.ones(2)
    assert backend.unshared(b) is not b


def test_unknown_suggests_by_beginning_and_by_likeness():
    assert "did you mean 'mnist'?" in str(errors.unknown("dataset", "mn", ["digits", "mnist"]))
    assert "did you mean 'digits'?" in str(errors.unknown("dataset", "digist", ["digits", "mnist"]))
    assert "did you mean" not in str(errors.unknown("dataset", "q", ["digits", "xyz"]))
