"""What the tests of downloads share: data sets of a few images on a server of the loopback, and a short patience."""

import gzip
import os

import hostile
import pytest

from minimask import data
from minimask.data import fetch
from minimask.data import files as datafiles
from minimask.data.connection import Patience
from minimask.data.files import FileState

IMAGES = "train-images-idx3-ubyte"


class Waits(list):
    """Stands in for time.sleep and keeps the seconds."""

    __call__ = list.append


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def patience(waits):
    """Short, so that tests are; the pauses are only noted."""
    return Patience(tries=3, pause=1.0, longest_pause=8.0, timeout=1.0, head=10.0, window=0.5, slowest=1000.0, sleep=waits)


@pytest.fixture
def no_proxy(monkeypatch):
    """The environment's proxies are respected by minimask; the loopback server must be reached without them."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


def served(monkeypatch, name, small):
    """A server with a small data set in the place of `name`; the two mirrors are its folders a and b."""
    files, published, contents, packed = small
    monkeypatch.setitem(datafiles.SETS, name, files)
    monkeypatch.setitem(fetch.PUBLISHED, name, published)
    with hostile.Server(packed if isinstance(packed, dict) else {published[0].name: packed}) as server:
        server.contents = contents
        server.mirrors = (f"{server.url}a/", f"{server.url}b/")
        monkeypatch.setitem(fetch.MIRRORS, name, server.mirrors)
        yield server
        server.shutdown()


@pytest.fixture
def mnist(monkeypatch, no_proxy):
    yield from served(monkeypatch, "mnist", hostile.small_mnist())


@pytest.fixture
def fashion(monkeypatch, no_proxy):
    yield from served(monkeypatch, "fashion-mnist", hostile.small_mnist(verified=False))


@pytest.fixture
def cifar(monkeypatch, no_proxy):
    yield from served(monkeypatch, "cifar10", hostile.small_cifar())


def is_whole(folder, name, server):
    """Every file is there, right, and nothing else is."""
    below = folder / datafiles.SETS[name].below
    assert sorted(f.removesuffix(".gz") for f in os.listdir(below)) == sorted(server.contents)
    for file in datafiles.SETS[name].files:
        path = datafiles.find(below, file)
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert content == server.contents[file.name]
    data.load(name, folder, allow_unverified=True)


def holds_no_data(folder, name="mnist"):
    """What is there, no loader takes for a data file."""
    below = folder / datafiles.SETS[name].below
    return all(datafiles.state(below, file)[0] is FileState.MISSING for file in datafiles.SETS[name].files)
