"""Downloads from servers that break off, stall, send wrong bytes, or are not there: resumed, bounded, or refused."""

import gzip
import io
import socket
import time
from dataclasses import replace

import hostile
import pytest
from served import IMAGES, holds_no_data, is_whole

from minimask import MinimaskError, meter
from minimask.data import connection, download, fetch
from minimask.data.download import Published

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


@pytest.mark.parametrize("code", connection.TRY_AGAIN)
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
        fetch.fetch("mnist", tmp_path, patience=replace(patience, tries=2, head=1.0), mirrors=mnist.mirrors[:1])
    assert time.monotonic() - start < 12 and holds_no_data(tmp_path)


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
