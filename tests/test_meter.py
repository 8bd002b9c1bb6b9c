"""The line that renews itself, and the meter of a download."""

import gzip
import io
import os

import hostile
import pytest

from minimask import data, meter
from minimask.data import fetch
from minimask.data import files as datafiles
from minimask.data.download import Patience


class Waits(list):
    """Stands in for time.sleep and keeps the seconds."""

    __call__ = list.append


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def patience(waits):
    """Short, so that tests are; the pauses are only noted."""
    return Patience(tries=3, pause=1.0, longest_pause=8.0, timeout=1.0, window=0.5, slowest=1000.0, sleep=waits)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The environment's proxies are respected by minimask; the loopback server must be reached without them."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


def served(monkeypatch, name, small):
    """A server with a small data set in the place of `name`; the two mirrors are its folders a and b."""
    files, published, contents, packed = small
    monkeypatch.setitem(datafiles.SETS, name, files)
    monkeypatch.setitem(fetch.PUBLISHED, name, published)
    server = hostile.Server(packed if isinstance(packed, dict) else {published[0].name: packed})
    server.contents = contents
    server.mirrors = (f"{server.url}a/", f"{server.url}b/")
    monkeypatch.setitem(fetch.MIRRORS, name, server.mirrors)
    return server


@pytest.fixture
def mnist(monkeypatch):
    server = served(monkeypatch, "mnist", hostile.small_mnist())
    yield server
    server.shutdown()
    server.server_close()


def is_whole(folder, name, server):
    """Every file is there, right, and nothing else is."""
    below = folder / datafiles.SETS[name].below
    assert sorted(f.removesuffix(".gz") for f in os.listdir(below)) == sorted(server.contents)
    for file in datafiles.SETS[name].files:
        path = datafiles.find(below, file)
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert content == server.contents[file.name]
    data.load(name, folder, allow_unverified=True)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_meter_on_a_terminal_renews_one_line():
    stream, clock = Terminal(), Clock()
    told = meter.Meter(stream, clock=clock)
    told.start("x.gz", 10_000_000, 0)
    clock.now += 2
    told.at(4_000_000)
    clock.now += 0.05
    told.at(4_100_000)  # too soon to be worth a line
    told.at(10_000_000)
    told.stop()
    lines = stream.getvalue().split("\r")
    assert lines[1] == "x.gz · 4.0 MB of 10.0 MB · 40% · 2,000 kB/s · 3 s to go\x1b[K"
    assert lines[2].startswith("x.gz · 10.0 MB of 10.0 MB · 100%") and lines[2].endswith("\x1b[K\n") and len(lines) == 3


def test_the_meter_in_a_log_writes_plain_lines_now_and_then():
    stream, clock = io.StringIO(), Clock()
    told = meter.Meter(stream, pause=10, clock=clock)
    told.start("x.gz", None, 1_000_000)
    for count in range(25):
        clock.now += 1
        told.at(1_000_000 + 100_000 * (count + 1))
    told.stop()
    assert stream.getvalue().splitlines() == ["x.gz · 2.0 MB · 100 kB/s", "x.gz · 3.0 MB · 100 kB/s"]


def test_nobody_who_listens_is_no_reason_to_end_a_download(mnist, tmp_path, patience):
    stream = Terminal()
    stream.close = lambda: None
    stream.write = lambda _: (_ for _ in ()).throw(BrokenPipeError(32, "Broken pipe"))
    fetch.fetch("mnist", tmp_path, patience=patience, meter=meter.Meter(stream))
    is_whole(tmp_path, "mnist", mnist)
