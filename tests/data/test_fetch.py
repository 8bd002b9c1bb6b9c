"""Downloads from a server that misbehaves, archives that should not be unpacked, and the data commands."""

import contextlib
import gzip
import io
import os
import signal
import subprocess
import sys

import hostile
import pytest
from served import IMAGES, holds_no_data, is_whole

from minimask import MinimaskError, UsageError, data
from minimask.data import download, fetch
from minimask.data import files as datafiles
from minimask.data.files import DataError

# ---- the server ------------------------------------------------------------------------------------------------------


def test_a_fetch_that_goes_well(mnist, tmp_path, patience, waits):
    said = []
    fetch.fetch("mnist", tmp_path / "new" / "folder", patience=patience, say=said.append)
    is_whole(tmp_path / "new" / "folder", "mnist", mnist)
    assert [name for name, _ in mnist.requests] == list(mnist.files) and not waits
    assert said[-1] == f"mnist: present and verified in {tmp_path / 'new' / 'folder' / 'mnist'}"


def test_what_is_there_and_right_is_not_fetched(mnist, tmp_path, patience):
    """Raw or packed, and packed otherwise than the published files are; then only what is lacking."""
    (tmp_path / "mnist").mkdir()
    for i, (name, content) in enumerate(mnist.contents.items()):
        if i < 2:
            (tmp_path / "mnist" / name).write_bytes(content)
        else:
            (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content, 1, mtime=0))
    before = {f: (tmp_path / "mnist" / f).read_bytes() for f in os.listdir(tmp_path / "mnist")}
    said = []
    fetch.fetch("mnist", tmp_path, patience=patience, say=said.append)
    assert not mnist.requests and said == [f"mnist: present and verified in {tmp_path / 'mnist'}; nothing to fetch"]
    assert before == {f: (tmp_path / "mnist" / f).read_bytes() for f in os.listdir(tmp_path / "mnist")}
    (tmp_path / "mnist" / IMAGES).unlink()
    fetch.fetch("mnist", tmp_path, patience=patience)
    assert mnist.requests == [(f"{IMAGES}.gz", None)]


# ---- Fashion-MNIST: no size or checksum is known beforehand ----------------------------------------------------------


def test_fashion_mnist_is_said_to_be_unverified(fashion, tmp_path, patience, capsys):
    fetch.fetch("fashion-mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "fashion-mnist", fashion)
    assert "fashion-mnist: present, unverified, in " in capsys.readouterr().out
    with pytest.warns(UserWarning, match="fashion-mnist is unverified"):
        dataset = data.load("fashion-mnist", tmp_path)
    assert dataset.name == "fashion-mnist" and dataset.train_images.shape == (150, 28, 28, 1)
    assert dataset.train_labels.tobytes() == fashion.contents["train-labels-idx1-ubyte"][8:]
    assert len(dataset.classes) == 10 and dataset.classes[9] == "boot"


def bomb(file, size=10**8):
    """A gzip file of a hundred million bytes that begins as it should."""
    return gzip.compress(file.header + bytes(size), mtime=0)


UNVERIFIED = {"a gzip bomb": (bomb, "more than .* bytes of content, but"),
              "another header": (lambda file: gzip.compress(bytes(file.size), mtime=0), "its header is 00 00 00"),
              "shorter": (lambda file: gzip.compress(file.header, mtime=0), "16 bytes of content, but"),
              "no gzip file": (lambda file: b"<html>busy</html>", "cannot be read"),
              "far too long": (lambda file: bytes(file.packed_size + 1), "offers .* bytes, but at most")}


@pytest.mark.parametrize("case", UNVERIFIED)
def test_what_is_no_fashion_mnist_is_not_taken(fashion, tmp_path, patience, case):
    make, reason = UNVERIFIED[case]
    file = datafiles.SETS["fashion-mnist"].files[0]
    fashion.script[f"{IMAGES}.gz"] = [hostile.instead(make(file))]
    with pytest.raises(MinimaskError, match=f"{reason}.* or by hand: get {IMAGES}.gz, train-labels-idx1-ubyte.gz, "):
        fetch.fetch("fashion-mnist", tmp_path, patience=patience)
    assert holds_no_data(tmp_path, "fashion-mnist")


# ---- the disk --------------------------------------------------------------------------------------------------------


def test_damaged_files_stay_until_overwrite(mnist, tmp_path, patience):
    """Raw and packed ones; a damaged raw file would be read before the packed one that is fetched."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / IMAGES).write_bytes(b"mine")
    (tmp_path / "mnist/t10k-labels-idx1-ubyte.gz").write_bytes(b"mine, too")
    with pytest.raises(DataError, match="4 bytes of content.* or let --overwrite replace it"):
        fetch.fetch("mnist", tmp_path, patience=patience)
    assert not mnist.requests and sorted(os.listdir(tmp_path / "mnist")) == ["t10k-labels-idx1-ubyte.gz", IMAGES]
    mnist.script[f"{IMAGES}.gz"] = [hostile.status(404), hostile.status(404), hostile.ranged]
    with pytest.raises(MinimaskError, match="could not be fetched"):
        fetch.fetch("mnist", tmp_path, overwrite=True, patience=patience)
    assert (tmp_path / "mnist" / IMAGES).read_bytes() == b"mine"  # nothing goes before its successor is there
    fetch.fetch("mnist", tmp_path, overwrite=True, patience=patience)
    is_whole(tmp_path, "mnist", mnist)


def test_a_full_disk_is_said_and_not_taken_for_a_bad_mirror(mnist, tmp_path, patience, monkeypatch):
    real = open

    class Full(io.FileIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "open", lambda path, mode="r", **k: Full(path, mode) if "+" in mode or "x" in mode
                        else real(path, mode, **k), raising=False)
    with pytest.raises(MinimaskError, match=r"\.part cannot be written .No space left on device.; what has arrived is kept"):
        fetch.fetch("mnist", tmp_path, patience=patience)
    assert len(mnist.requests) == 1 and holds_no_data(tmp_path)


def test_a_rename_that_fails_leaves_the_old_file(mnist, tmp_path, patience, monkeypatch):
    def fails(*_):
        raise OSError(5, "Input/output error")

    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / IMAGES).write_bytes(b"mine")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(MinimaskError, match=f"{IMAGES}.gz cannot be written .Input/output error"):
        fetch.fetch("mnist", tmp_path, overwrite=True, patience=patience)
    assert (tmp_path / "mnist" / IMAGES).read_bytes() == b"mine"
    assert not (tmp_path / f"mnist/{IMAGES}.gz").exists()


def test_a_file_is_safe_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    calls, fsync, replaced = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replaced(*paths))
    (tmp_path / "part").write_bytes(b"x")
    download.put(tmp_path / "part", tmp_path / "file")
    assert calls == ["fsync", "replace"] and os.listdir(tmp_path) == ["file"]


def test_a_file_in_the_place_of_the_folder(mnist, tmp_path, patience):
    (tmp_path / "mnist").write_text("x")
    with pytest.raises(UsageError, match="mnist cannot be made .File exists.; give another folder"):
        fetch.fetch("mnist", tmp_path, patience=patience)
    with pytest.raises(UsageError, match="is no folder"):
        fetch.fetch("mnist", tmp_path / "mnist", patience=patience)


# ---- two at once -----------------------------------------------------------------------------------------------------


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="locks are verified on Linux only")
HOLD = """import sys, time, pathlib
from minimask.data import fetch
with fetch.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)"""


@linux
def test_a_second_fetch_is_told_and_a_killed_one_leaves_no_lock(mnist, tmp_path, patience):
    (tmp_path / "mnist").mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "mnist")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MinimaskError, match="another `minimask data fetch` is at work in .*mnist; wait"):
            fetch.fetch("mnist", tmp_path, patience=patience)
        assert not mnist.requests
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert (tmp_path / "mnist/.fetching").exists()
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)


@linux
def test_a_lock_on_a_file_that_was_removed_is_none(tmp_path, monkeypatch):
    """The one before us removes the lock file between our opening and our locking it: a third one could make another."""
    import fcntl

    real, calls = fcntl.flock, []

    def flock(file, how):
        calls.append(1)
        if len(calls) == 1:
            (tmp_path / ".fetching").unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with fetch.locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(MinimaskError, match="at work"), fetch.locked(tmp_path):
            pass
    assert os.listdir(tmp_path) == []


@linux
def test_what_another_process_fetched_meanwhile_is_not_fetched_again(mnist, tmp_path, patience, monkeypatch):
    real = fetch.locked

    @contextlib.contextmanager
    def late(folder):
        with real(folder):
            for name, content in mnist.contents.items():
                (folder / name).write_bytes(content)
            yield

    monkeypatch.setattr(fetch, "locked", late)
    fetch.fetch("mnist", tmp_path, patience=patience)
    assert not mnist.requests
