"""Hypothesis' settings, the array libraries to test with, and what to do where PyTorch or MNIST is missing."""

import base64
import importlib
import importlib.util
import os
import signal
from pathlib import Path

import hypothesis
import libraries
import numpy as np
import pytest
from served import cifar, fashion, mnist, no_proxy, patience, waits  # noqa: F401 - fixtures

from minimask import plot

# A shell starts its background jobs with Ctrl-C ignored, and nohup its command with SIGHUP; here both are tested.
signal.signal(signal.SIGINT, signal.default_int_handler)
for each in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, each):
        signal.signal(getattr(signal, each), signal.SIG_DFL)

IN_CI = os.environ.get("CI", "").lower() == "true"

# Derandomised in CI, so that a change decides whether it is green. No deadline: machines are noisy.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=60,
                                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("local", deadline=None, max_examples=60)
# For a second run, on another NumPy or Python (--hypothesis-profile fewer).
hypothesis.settings.register_profile("fewer", hypothesis.settings.get_profile("ci"), max_examples=15)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


def pytest_addoption(parser):
    parser.addoption("--cupy", choices=("package", "device"),
                     help="fail, in place of a skip, where CuPy or its GPU is missing")


def pytest_configure(config):
    """With a worker for each core (-n) a test's matrix products need no second thread: it waits for another test's core."""
    if getattr(config.option, "numprocesses", None):
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(config, items):
    """Slow tests run only when -m asks for them."""
    if "slow" not in config.getoption("-m"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))


def needed(module, name, install):
    """Where a package is missing, tests that need it skip for a user, and fail in CI."""
    if importlib.util.find_spec(module) is None:
        (pytest.fail if IN_CI else pytest.skip)(f"{name} is not installed: pip install {install}")


@pytest.fixture(scope="session")
def torch():
    """PyTorch, the oracle. Without it these tests skip for a user and fail in CI."""
    needed("torch", "PyTorch", "'.[oracle]' to compare with it")
    import torch

    # oneDNN's float32 convolution in PyTorch 2.13 is wrong for some small shapes, so it can be no oracle: x (2, 7, 2, 1)
    # padded by 1, kernel (4, 3, 1, 7), stride (1, 2) differs by 9.8 from its own float64 result, and by NaN at times.
    torch.backends.mkldnn.set_flags(False)
    return torch


@pytest.fixture(scope="session")
def mnist_folder():
    """The folder that holds mnist/; without it these tests skip."""
    folder = os.environ.get("MINIMASK_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("MNIST is not there: set MINIMASK_DATA to the folder that holds mnist/")
    return folder


@pytest.fixture(scope="module", params=libraries.NAMES)
def library(request):
    """Every array library in turn; see libraries.py."""
    with libraries.opened(request.param, request.config.getoption("--cupy")) as opened:
        yield opened


@pytest.fixture(scope="session")
def cupy(request):
    """The module CuPy, which imports without a GPU; its functions can be looked at, not called."""
    if importlib.util.find_spec("cupy") is None:
        if request.config.getoption("--cupy"):
            pytest.fail("CuPy is missing: pip install cupy-cuda12x")
        pytest.skip("CuPy is not installed: pip install cupy-cuda12x to check the calls")
    return importlib.import_module("cupy")


#: The content of a PNG file of one pixel, and what draws real ones.
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
DRAW = plot.png


@pytest.fixture(scope="session", autouse=True)
def _of_one_pixel():
    """Drawing a figure takes longer than most runs do, so runs, reports and pages of tests hold pictures of one pixel.

    Their figures are made all the same. What looks at a picture, or at text that is drawn, asks for `drawn`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "png", lambda figure: PIXEL)
        yield


@pytest.fixture
def drawn(monkeypatch):
    """Pictures as users get them."""
    monkeypatch.setattr(plot, "png", DRAW)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
