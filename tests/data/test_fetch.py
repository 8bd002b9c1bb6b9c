"""Downloads from a server that misbehaves, archives that should not be unpacked, and the data commands."""

import contextlib
import gzip
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import hostile
import pytest

from minimask import MinimaskError, UsageError, data, meter
from minimask.__main__ import main
from minimask.data import archive, download, fetch
from minimask.data import files as datafiles
from minimask.data.download import Patience, Published
from minimask.data.files import DataError, State

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


@pytest.fixture
def fashion(monkeypatch):
    server = served(monkeypatch, "fashion-mnist", hostile.small_mnist(verified=False))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cifar(monkeypatch):
    server = served(monkeypatch, "cifar10", hostile.small_cifar())
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


def holds_no_data(folder, name="mnist"):
    """What is there, no loader takes for a data file."""
    below = folder / datafiles.SETS[name].below
    return all(datafiles.state(below, file)[0] is State.MISSING for file in datafiles.SETS[name].files)


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


BODY = {"404": (hostile.status(404), "answered 404 (Not Found)"), "403": (hostile.status(403), "answered 403 (Forbidden)"),
        "redirect loop": (hostile.redirect(f"{IMAGES}.gz"), "answered 302 (Found): it redirects in a circle"),
        "redirect to a file": (hostile.redirect("file:///etc/passwd"), "it redirects in a circle or to where nothing"),
        "an empty success": (hostile.status(204), "answered 204"),
        "wrong bytes of the right size": (lambda h, body, asked: hostile.ranged(h, bytes(len(body)), asked), "sent wrong bytes (sha256"),
        "longer without a length": (lambda h, body, asked: hostile.no_length(h, body + b"0", asked), "sent more than the"),
        "shorter": (lambda h, body, asked: hostile.whole(h, body[:-1], asked), "bytes, but"),
        "another length": (lambda h, body, asked: hostile.whole(h, body + b"0", asked), "bytes, but")}


@pytest.mark.parametrize("case", BODY)
def test_a_mirror_that_has_not_the_file_is_asked_once_and_the_next_one_taken(mnist, tmp_path, patience, waits, case):
    behaviour, reason = BODY[case]
    asked = 5 if "loop" in case else 1  # urllib follows a loop a few times
    mnist.script[f"{IMAGES}.gz"] = [behaviour] * asked + [hostile.ranged]
    told = io.StringIO()
    fetch.fetch("mnist", tmp_path, patience=patience, meter=meter.Meter(told))
    is_whole(tmp_path, "mnist", mnist)
    assert not waits and [name for name, _ in mnist.requests].count(f"{IMAGES}.gz") == asked + 1
    assert reason in told.getvalue()


@pytest.mark.parametrize("case", BODY)
def test_when_no_mirror_has_it_the_sentence_says_what_to_put_where(mnist, tmp_path, patience, case):
    behaviour, reason = BODY[case]
    mnist.script[f"{IMAGES}.gz"] = [behaviour]
    with pytest.raises(MinimaskError) as caught:
        fetch.fetch("mnist", tmp_path, patience=patience)
    sentence = str(caught.value)
    published = fetch.PUBLISHED["mnist"][0]
    assert sentence.startswith("mnist could not be fetched: 127.0.0.1") and sentence.count(reason) == 2
    assert f"get {IMAGES}.gz ({published.size:,} bytes, sha256 {published.sha256}), train-labels" in sentence
    assert f"from {mnist.mirrors[0]} or elsewhere, and put them into {tmp_path / 'mnist'}" in sentence
    assert "\n" not in sentence and holds_no_data(tmp_path)


@pytest.mark.parametrize("code", download.TRY_AGAIN)
def test_a_server_in_trouble_is_asked_again_after_growing_pauses(mnist, tmp_path, patience, waits, code):
    mnist.script[f"{IMAGES}.gz"] = [hostile.status(code), hostile.status(code), hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert waits == [1.0, 2.0]


def test_tries_are_bounded_and_pauses_too(mnist, tmp_path, patience, waits):
    mnist.script[f"{IMAGES}.gz"] = [hostile.status(503)]
    with pytest.raises(MinimaskError, match="answered 503 .Service Unavailable., the last of 6 tries in a row"):
        fetch.fetch("mnist", tmp_path, patience=replace(patience, tries=6))
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0] * 2 and len(mnist.requests) == 12


def test_a_server_that_names_a_pause_gets_it_within_reason(mnist, tmp_path, patience, waits):
    mnist.script[f"{IMAGES}.gz"] = [hostile.status(429, Retry_After=5), hostile.status(429, Retry_After=10**6), hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience)
    assert waits == [5.0, 8.0]


def test_a_cut_connection_is_resumed_by_range(mnist, tmp_path, patience, waits):
    mnist.script[f"{IMAGES}.gz"] = [hostile.cut(40_000), hostile.cut(30_000), hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert [asked for name, asked in mnist.requests if name == f"{IMAGES}.gz"] == [None, "bytes=40000-", "bytes=70000-"]
    assert waits == [1.0, 2.0]


def test_a_cut_connection_is_resumed_by_the_next_mirror_and_by_the_next_process(mnist, tmp_path, patience):
    name = f"{IMAGES}.gz"
    mnist.script[name] = [hostile.cut(40_000), hostile.status(404), hostile.status(404), hostile.ranged]
    with pytest.raises(MinimaskError, match="; what has arrived is kept, and the same command goes on from there; or by"):
        fetch.fetch("mnist", tmp_path, patience=patience)
    assert holds_no_data(tmp_path)
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert [asked for n, asked in mnist.requests if n == name] == [None] + ["bytes=40000-"] * 3


def test_tries_that_bring_something_are_not_counted(mnist, tmp_path, patience, waits, monkeypatch):
    """A host that cuts every connection: as long as each brings enough, it goes on, with short pauses."""
    monkeypatch.setattr(download, "WORTH_GOING_ON", 10_000)
    mnist.script[f"{IMAGES}.gz"] = [hostile.cut(11_000)]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert len(waits) >= 5 and set(waits) == {1.0}


def test_tries_that_bring_next_to_nothing_are_counted(mnist, tmp_path, patience):
    mnist.script[f"{IMAGES}.gz"] = [hostile.cut(10)]
    with pytest.raises(MinimaskError, match="broke off after 30 of .* the last of 3 tries.* broke off after 60 of"):
        fetch.fetch("mnist", tmp_path, patience=patience)
    assert holds_no_data(tmp_path)


@pytest.mark.parametrize("behaviour", [hostile.whole, hostile.wrong_range, hostile.no_length, hostile.chunked])
def test_a_range_request_that_is_not_honoured_does_not_corrupt(mnist, tmp_path, patience, behaviour):
    mnist.script[f"{IMAGES}.gz"] = [hostile.cut(40_000), behaviour]
    fetch.fetch("mnist", tmp_path, patience=patience, mirrors=mnist.mirrors[:1])
    is_whole(tmp_path, "mnist", mnist)
    assert ("train-images-idx3-ubyte.gz", "bytes=40000-") in mnist.requests


def test_a_range_behind_the_end_starts_anew(fashion, tmp_path, patience):
    """A part of a file of unknown size that has all its bytes and more: status 416."""
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / f"fashion-mnist/.{IMAGES}.gz.part").write_bytes(bytes(len(fashion.files[f"{IMAGES}.gz"]) + 10))
    fashion.script[f"{IMAGES}.gz"] = [hostile.ranged]
    fetch.fetch("fashion-mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "fashion-mnist", fashion)
    assert [asked for n, asked in fashion.requests if n == f"{IMAGES}.gz"][1] is None


def test_a_whole_answer_in_place_of_a_range_leaves_nothing_of_the_old_part(fashion, tmp_path, patience):
    """The old part is longer than the file: its end must go."""
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / f"fashion-mnist/.{IMAGES}.gz.part").write_bytes(b"x" * (len(fashion.files[f"{IMAGES}.gz"]) + 10))
    fetch.fetch("fashion-mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "fashion-mnist", fashion)
    assert [name for name, _ in fashion.requests].count(f"{IMAGES}.gz") == 1


def test_a_host_that_starts_over_and_over_brings_nothing(mnist, tmp_path, patience, monkeypatch):
    """No ranges, and every connection is cut, sooner or later: what was there before counts for nothing new."""
    monkeypatch.setattr(download, "WORTH_GOING_ON", 10_000)
    cuts = [hostile.cut(50_000, hostile.whole), hostile.cut(5_000, hostile.whole)]
    mnist.script[f"{IMAGES}.gz"] = cuts * 30
    with pytest.raises(MinimaskError, match="broke off after .* the last of 3 tries in a row"):
        fetch.fetch("mnist", tmp_path, patience=patience, mirrors=mnist.mirrors[:1])
    assert len(mnist.requests) == 3


@pytest.mark.parametrize("size", [40_000, "same", "longer"])
def test_a_part_with_wrong_bytes_is_fetched_once_more_from_the_start(mnist, tmp_path, patience, size):
    """Left by an earlier run, or by another mirror."""
    right = mnist.files[f"{IMAGES}.gz"]
    (tmp_path / "mnist").mkdir()
    size = {"same": len(right), "longer": len(right) + 10}.get(size, size)
    (tmp_path / f"mnist/.{IMAGES}.gz.part").write_bytes(bytes(size))
    mnist.script[f"{IMAGES}.gz"] = [hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience, mirrors=mnist.mirrors[:1])
    is_whole(tmp_path, "mnist", mnist)


def test_wrong_bytes_after_cuts_end_too(mnist, tmp_path, patience):
    """A host that cuts and lies: every part is resumed, so its fault could always be an older one's."""
    wrong = bytes(len(mnist.files[f"{IMAGES}.gz"]))
    mnist.script[f"{IMAGES}.gz"] = [hostile.cut(len(wrong) // 2 + 1, hostile.instead(wrong))]
    with pytest.raises(MinimaskError, match=r"sent wrong bytes .*sent wrong bytes"):
        fetch.fetch("mnist", tmp_path, patience=patience)
    assert len(mnist.requests) <= 8 and holds_no_data(tmp_path)


@pytest.mark.parametrize("behaviour", [hostile.no_length, hostile.chunked, hostile.longer(10**6)])
def test_other_ways_to_send_a_file(mnist, tmp_path, patience, waits, behaviour):
    """No Content-Length, in chunks, and a body longer than promised: what is too much is never read."""
    mnist.script[f"{IMAGES}.gz"] = [behaviour]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert not waits


@pytest.mark.parametrize("behaviour", [hostile.no_length, hostile.chunked])
def test_a_cut_without_a_length(mnist, tmp_path, patience, waits, behaviour):
    mnist.script[f"{IMAGES}.gz"] = [hostile.cut(40_000, behaviour), hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert waits == [1.0]


@pytest.mark.parametrize("behaviour", [hostile.drip, hostile.drip_head, hostile.drip_after_a_burst, hostile.stall])
def test_a_server_that_is_too_slow_is_left(mnist, tmp_path, patience, behaviour):
    """Bytes that drip, in the body or before it, and none at all; over in seconds, where the server has 20."""
    mnist.script[f"{IMAGES}.gz"] = [behaviour]
    start = time.monotonic()
    with pytest.raises(MinimaskError, match="was too slow .* or by hand"):
        fetch.fetch("mnist", tmp_path, patience=replace(patience, tries=2), mirrors=mnist.mirrors[:1])
    assert time.monotonic() - start < 8 and holds_no_data(tmp_path)


def test_what_came_before_a_stall_is_kept(mnist, tmp_path, patience):
    mnist.script[f"{IMAGES}.gz"] = [hostile.stall, hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert mnist.requests[1] == (f"{IMAGES}.gz", "bytes=1000-")


def test_a_slow_server_that_is_fast_enough_is_not_left(mnist, tmp_path, patience, waits):
    def steady(handler, body, asked):
        handler.head(Content_Length=len(body))
        for start in range(0, len(body), 5000):
            handler.wfile.write(body[start:start + 5000])
            time.sleep(0.05)

    mnist.script[f"{IMAGES}.gz"] = [steady]
    fetch.fetch("mnist", tmp_path, patience=patience)  # over a second, with windows of half of one
    is_whole(tmp_path, "mnist", mnist)
    assert not waits


def test_no_http_and_nobody_there(mnist, tmp_path, patience):
    mnist.script[f"{IMAGES}.gz"] = [hostile.garbage]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(MinimaskError) as caught:
            fetch.fetch("mnist", tmp_path, patience=patience, mirrors=(mnist.mirrors[0], nobody))
    sentence = str(caught.value)
    assert "Connection refused" in sentence and sentence.count("failed (") == 2 and sentence.isprintable()
    assert holds_no_data(tmp_path)


def test_only_http_is_spoken(mnist, tmp_path, patience):
    (tmp_path / f"{IMAGES}.gz").write_bytes(mnist.files[f"{IMAGES}.gz"])
    with pytest.raises(MinimaskError, match="unknown url type: file"):
        fetch.fetch("mnist", tmp_path / "data", patience=patience, mirrors=[f"{tmp_path.as_uri()}/"])


def test_a_redirect_is_followed_and_the_range_goes_with_it(mnist, tmp_path, patience):
    mnist.files["moved"] = mnist.files[f"{IMAGES}.gz"]
    mnist.script = {f"{IMAGES}.gz": [hostile.redirect("/c/moved")], "moved": [hostile.cut(40_000), hostile.ranged]}
    fetch.fetch("mnist", tmp_path, patience=patience)
    assert ("moved", "bytes=40000-") in mnist.requests
    del mnist.files["moved"]
    is_whole(tmp_path, "mnist", mnist)


def test_the_content_has_the_last_word(mnist, tmp_path, patience, monkeypatch):
    """A published file that is the one in the table and holds other content: the table is wrong, the content counts."""
    other = gzip.compress(mnist.contents[IMAGES][:-1] + b"\0", mtime=0)
    mnist.files[f"{IMAGES}.gz"] = other
    monkeypatch.setitem(fetch.PUBLISHED, "mnist", (
        Published(f"{IMAGES}.gz", len(other), hostile.sha256(other), len(other)), *fetch.PUBLISHED["mnist"][1:]))
    with pytest.raises(MinimaskError, match="sent wrong bytes .*expected sha256 .* of its content, found"):
        fetch.fetch("mnist", tmp_path, patience=patience)
    assert holds_no_data(tmp_path)


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


def test_an_endless_body_of_unknown_length_is_ended(fashion, tmp_path, patience):
    sent = []

    def endless(handler, body, asked):
        handler.head()
        for _ in range(1000):
            handler.wfile.write(bytes(100_000))
            sent.append(1)

    fashion.script[f"{IMAGES}.gz"] = [endless]
    with pytest.raises(MinimaskError, match="sent more than the"):
        fetch.fetch("fashion-mnist", tmp_path, patience=patience, mirrors=fashion.mirrors[:1])
    assert len(sent) < 1000 and holds_no_data(tmp_path, "fashion-mnist")
    assert not (tmp_path / f"fashion-mnist/.{IMAGES}.gz.part").stat().st_size


# ---- archives --------------------------------------------------------------------------------------------------------


def test_cifar_comes_in_an_archive_and_is_resumed(cifar, tmp_path, patience):
    name = "cifar-10-binary.tar.gz"
    cifar.script[name] = [hostile.cut(200_000), hostile.ranged]
    fetch.fetch("cifar10", tmp_path, patience=patience)
    is_whole(tmp_path, "cifar10", cifar)
    assert cifar.requests == [(name, None), (name, "bytes=200000-")]
    assert os.listdir(tmp_path) == ["cifar-10-batches-bin"]


def test_an_archive_put_there_by_hand_is_used_and_stays(cifar, tmp_path, patience):
    name, right = "cifar-10-binary.tar.gz", cifar.files["cifar-10-binary.tar.gz"]
    (tmp_path / name).write_bytes(right)
    fetch.fetch("cifar10", tmp_path, patience=patience)
    assert not cifar.requests and (tmp_path / name).read_bytes() == right
    is_whole(tmp_path, "cifar10", cifar)


def test_a_wrong_archive_put_there_by_hand_is_left_alone(cifar, tmp_path, patience):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"half")
    said = []
    fetch.fetch("cifar10", tmp_path, patience=patience, say=said.append)
    assert "is not the published file" in said[0] and len(cifar.requests) == 1
    assert (tmp_path / "cifar-10-binary.tar.gz").read_bytes() == b"half"
    is_whole(tmp_path, "cifar10", cifar)


def test_by_hand_for_an_archive(cifar, tmp_path, patience):
    cifar.script["cifar-10-binary.tar.gz"] = [hostile.status(404)]
    with pytest.raises(MinimaskError, match=rf"get cifar-10-binary.tar.gz \(.* bytes, sha256 .*\) from .* or elsewhere, and put it into {tmp_path} and give the same command again"):
        fetch.fetch("cifar10", tmp_path, patience=patience)


def test_only_what_is_lacking_is_taken_from_an_archive(cifar, tmp_path, patience):
    fetch.fetch("cifar10", tmp_path, patience=patience)
    kept, lost = (tmp_path / "cifar-10-batches-bin" / f"data_batch_{i}.bin" for i in (1, 2))
    os.utime(kept, (1, 1))
    lost.unlink()
    fetch.fetch("cifar10", tmp_path, patience=patience)
    is_whole(tmp_path, "cifar10", cifar)
    assert kept.stat().st_mtime == 1


BELOW = "cifar-10-batches-bin"


def info(name, kind=tarfile.REGTYPE, link="", size=0):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


def members(contents, *changed, **others):
    """The set's files, with those in `changed` ((name, content) or (TarInfo, content)) in their places or added."""
    right = {f"{BELOW}/{name}": content for name, content in contents.items()}
    names = {getattr(one[0], "name", one[0]) for one in changed}
    return [*changed, *((name, content) for name, content in right.items() if name not in names)]


FIRST = f"{BELOW}/data_batch_1.bin"
ARCHIVES = {
    "a symbolic link": (lambda c: members(c, (info(FIRST, tarfile.SYMTYPE, "/etc/passwd"), b"")), "is a link or the like"),
    "a hard link": (lambda c: members(c, (info(FIRST, tarfile.LNKTYPE, f"{BELOW}/test_batch.bin"), b"")), "is a link or the like"),
    "a folder": (lambda c: members(c, (info(FIRST, tarfile.DIRTYPE), b"")), "is a link or the like"),
    "a pipe": (lambda c: members(c, (info(FIRST, tarfile.FIFOTYPE), b"")), "is a link or the like"),
    "a device": (lambda c: members(c, (info(FIRST, tarfile.CHRTYPE), b"")), "is a link or the like"),
    "a shorter file": (lambda c: members(c, (FIRST, c["data_batch_1.bin"][:-1])), "bytes, but 92,190 are needed"),
    "a longer file": (lambda c: members(c, (FIRST, c["data_batch_1.bin"] + b"0")), "bytes, but 92,190 are needed"),
    "other content": (lambda c: members(c, (FIRST, bytes(92_190))), "expected sha256"),
    "a file twice": (lambda c: [*members(c), (FIRST, c["data_batch_1.bin"])], "are needed, once"),
    "a missing file": (lambda c: members(c)[1:], f"lacks {FIRST}"),
    "a bomb beside the files": (lambda c: members(c, ("zeros", bytes(3_000_000))), "unpacks to more than its files"),
    "a bomb of members": (lambda c: [*((f"{i}", b"") for i in range(1001)), *members(c)], "more than 1,000 members"),
    "a path in place of the folder": (lambda c: [(name.replace(BELOW, f"../{BELOW}"), content) for name, content in members(c)], "lacks"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_is_not_as_it_should_be_is_not_unpacked(tmp_path, case):
    """Nothing is left behind, neither of the file in question nor of those that came before or after it."""
    files, _, contents, _ = hostile.small_cifar()
    make, reason = ARCHIVES[case]
    (tmp_path / "x.tar.gz").write_bytes(hostile.tar(make(contents)))
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=reason):
        archive.extract(tmp_path / "x.tar.gz", files, files.files, tmp_path / "in")
    assert os.listdir(tmp_path / "in") == [] and sorted(os.listdir(tmp_path)) == ["in", "x.tar.gz"]


@pytest.mark.parametrize("damage", [lambda b: b[:1000], lambda b: b"no tar", lambda b: b"", lambda b: gzip.compress(bytes(99), mtime=0),
                                    lambda b: b[:5000] + bytes(100) + b[5100:]])
def test_a_damaged_archive_is_one_sentence(tmp_path, damage):
    files, _, _, right = hostile.small_cifar()
    (tmp_path / "x.tar.gz").write_bytes(damage(right))
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="cannot be unpacked|lacks|expected sha256"):
        archive.extract(tmp_path / "x.tar.gz", files, files.files, tmp_path / "in")
    assert os.listdir(tmp_path / "in") == []


def test_what_else_an_archive_holds_is_never_written(tmp_path):
    """Absolute and parent paths, links out of the folder and through them, and strangers in it."""
    files, _, contents, _ = hostile.small_cifar()
    strangers = [(f"{tmp_path}/absolute", b"x"), ("../parent", b"x"), (f"{BELOW}/../../parent", b"x"), ("./loose", b"x"),
                 (f"{BELOW}/readme.html", b"x"), (info(f"{BELOW}/link", tarfile.SYMTYPE, str(tmp_path)), b""),
                 (f"{BELOW}/link/through", b"x"), (info(BELOW, tarfile.DIRTYPE), b"")]
    (tmp_path / "x.tar.gz").write_bytes(hostile.tar([*strangers, *members(contents)]))
    (tmp_path / "a" / "in").mkdir(parents=True)
    archive.extract(tmp_path / "x.tar.gz", files, files.files, tmp_path / "a" / "in")
    assert sorted(os.listdir(tmp_path / "a" / "in")) == sorted(contents)
    assert sorted(os.listdir(tmp_path)) == ["a", "x.tar.gz"] and os.listdir(tmp_path / "a") == ["in"]


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path, monkeypatch):
    read = []
    bounded = archive._Bounded.read
    monkeypatch.setattr(archive._Bounded, "read", lambda self, size: read.append(size) or bounded(self, size))
    files, _, contents, _ = hostile.small_cifar()
    (tmp_path / "x.tar.gz").write_bytes(hostile.tar([("zeros", bytes(50_000_000)), *members(contents)]))
    with pytest.raises(DataError, match="unpacks to more"):
        archive.extract(tmp_path / "x.tar.gz", files, files.files, tmp_path)
    assert sum(read) < sum(file.size for file in files.files) + 2_000_000


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


# ---- the command line ------------------------------------------------------------------------------------------------


def words(*arguments):
    return [str(argument) for argument in arguments]


def test_fetch_then_check_then_train(mnist, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINIMASK_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "--quiet", "mnist"]) == 0
    out, error = capsys.readouterr()
    assert f"mnist: present and verified in {tmp_path / 'data/mnist'}" in out and error == ""
    assert main(["data", "check", "mnist"]) == 0
    assert capsys.readouterr().out == f"mnist: present and verified in {tmp_path / 'data/mnist'}\n"
    assert main(["train", "fcn", "--epochs", "1", "--quiet"]) == 0
    assert "fcn on mnist" in capsys.readouterr().out
    assert main(["data", "fetch", "mnist"]) == 0
    assert "nothing to fetch" in capsys.readouterr().out


def test_check_tells_the_four_states_apart(mnist, fashion, cifar, tmp_path, capsys):
    for name, server in (("mnist", mnist), ("fashion-mnist", fashion), ("cifar10", cifar)):
        below = tmp_path / datafiles.SETS[name].below
        below.mkdir()
        for file, content in server.contents.items():
            (below / file).write_bytes(content)
    assert main(words("data", "check", "--data", tmp_path)) == 0  # nobody asked for cifar100
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mnist: present and verified in ")
    assert lines[1].startswith("fashion-mnist: present, unverified, in ") and "no official checksum" in lines[1]
    assert lines[2].startswith("cifar10: present and verified")
    assert lines[3] == f"cifar100: missing; `minimask data fetch cifar100 --data {tmp_path}` gets it (168.5 MB)"
    assert main(words("data", "check", "cifar100", "mnist", "--data", tmp_path)) == 1
    assert capsys.readouterr().err == "minimask: cifar100 is missing\n"
    changed = tmp_path / BELOW / "data_batch_3.bin"
    changed.write_bytes(bytes(changed.stat().st_size))
    (tmp_path / BELOW / "data_batch_4.bin").unlink()
    assert main(words("data", "check", "--data", tmp_path)) == 1
    out, error = capsys.readouterr()
    expected, found = datafiles.SETS["cifar10"].files[2].sha256, hostile.sha256(changed.read_bytes())
    assert f"cifar10: damaged, or not the official files; `minimask data fetch cifar10 --data {tmp_path} --overwrite`" in out
    assert f"  {changed}: expected sha256 {expected} of its content, found {found}" in out and error == "minimask: cifar10 is damaged\n"
    (tmp_path / "mnist" / IMAGES).unlink()
    assert main(words("data", "check", "mnist", "--data", tmp_path)) == 1
    assert f"mnist: missing (in part: {IMAGES}); `minimask data fetch mnist" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["data"], "the following arguments are required"),
    (["data", "fecth", "mnist"], "unknown data command 'fecth': did you mean 'fetch'"),
    (["data", "fetch", "fashon"], "unknown dataset 'fashon': did you mean 'fashion-mnist'"),
    (["data", "check", "cifar-10"], "unknown dataset 'cifar-10': did you mean 'cifar10'"),
    (["data", "fetch"], "which data set? minimask data fetch NAME; there are mnist, fashion-mnist"),
    (["data", "fetch", "mnist", "--overwite"], "did you mean --overwrite?"),
    (["data", "fetch", "mnist"], "no data folder: give --data DIR"),
    (["data", "check", "--data", "nowhere"], "the data folder 'nowhere' does not exist"),
    (["dat", "fetch"], "unknown command 'dat': did you mean 'data'"),
])
def test_wrong_usage_is_one_sentence_and_status_2(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("minimask: ") and sentence in error and error.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_the_sets_own_folder_is_told_apart(mnist, tmp_path, monkeypatch, capsys):
    (tmp_path / "mnist").mkdir()
    assert main(words("data", "fetch", "mnist", "--data", tmp_path / "mnist")) == 2
    assert f"is the data set's own; give the folder above it, '{tmp_path}'" in capsys.readouterr().err


def test_the_digits_need_no_fetching(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    assert main(["data", "fetch", "digits"]) == main(["data", "check", "digits"]) == 0
    assert capsys.readouterr().out == "digits: comes with minimask; nothing to fetch\n" * 2


def test_an_interrupted_fetch_keeps_what_arrived(mnist, tmp_path, capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(meter.Meter, "at", lambda self, position: interrupted(self) if position > 40_000 else None)
    arguments = words("data", "fetch", "mnist", "--data", tmp_path, "--quiet")
    assert main(arguments) == 1
    assert capsys.readouterr().err == ("minimask: interrupted; what has arrived is kept, and the same command goes on "
                                       "from there\n")
    assert (tmp_path / f"mnist/.{IMAGES}.gz.part").stat().st_size > 40_000 and holds_no_data(tmp_path)
    monkeypatch.undo()


def test_help_is_there(capsys):
    with pytest.raises(SystemExit) as end:
        main(["data", "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert all(f"DIR/{files.below}/" in out and name in out for name, files in datafiles.SETS.items())


def test_the_helps_sizes_are_those_of_the_table(capsys):
    with pytest.raises(SystemExit):
        main(["data", "--help"])
    out = capsys.readouterr().out
    for name in ("mnist", "cifar10", "cifar100"):
        assert meter.megabytes(sum(one.size for one in fetch.PUBLISHED[name])) in out


def test_nothing_is_fetched_without_being_asked_for(tmp_path, monkeypatch):
    """Missing data, a check, the demo's data: no other command so much as opens a connection."""
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in data.DATASETS:
        with pytest.raises(DataError, match=f"is missing: put .*, or let `minimask data fetch {name} --data {tmp_path / 'data'}` get it"):
            data.load(name, tmp_path / "data")
    assert main(["data", "check", "--data", "data"]) == 0
    assert main(["train", "fcn", "--data", "data"]) == 1
    assert main(["train", "digits", "--epochs", "1", "--quiet"]) == 0


def test_importing_minimask_loads_nothing_that_speaks_with_servers():
    code = "import sys, minimask, minimask.__main__; print([m for m in ('urllib.request', 'http.client', 'ssl', 'tarfile') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_tables_are_complete():
    """Every set has a loader, published files and mirrors; a published .gz per file or one archive; https or said so."""
    assert set(data.DATASETS) == set(datafiles.SETS) == set(fetch.PUBLISHED) == set(fetch.MIRRORS)
    for name, files in datafiles.SETS.items():
        published = fetch.PUBLISHED[name]
        assert fetch.is_archive(name) or [one.name for one in published] == [f"{file.name}.gz" for file in files.files]
        assert all(mirror.endswith("/") for mirror in fetch.MIRRORS[name])
        verified = files.verified
        assert all(mirror.startswith("https://") for mirror in fetch.MIRRORS[name]) or not verified
        assert all((one.sha256 is not None) == (one.size is not None) == verified for one in published)
        assert all(one.limit == one.size or one.size is None for one in published)
    sizes = {name: [file.size for file in files.files] for name, files in datafiles.SETS.items()}
    assert sizes["mnist"] == sizes["fashion-mnist"] == [47_040_016, 60_008, 7_840_016, 10_008]
    assert sizes["cifar10"] == [30_730_000] * 6 and sizes["cifar100"] == [153_700_000, 30_740_000]


# ---- the meter -------------------------------------------------------------------------------------------------------


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
