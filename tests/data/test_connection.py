"""Servers that never come to an end, slow ones, certificates and proxies: every download ends, and soon."""

import contextlib
import gzip
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import hostile
import hypothesis
import pytest
from hypothesis import strategies as st
from served import IMAGES, holds_no_data, is_whole

from minimask import MinimaskError, meter
from minimask.data import connection, download, fetch
from minimask.data.connection import Patience, Refused
from minimask.data.download import Published

NAME = f"{IMAGES}.gz"
LONG = b"X: " + b"x" * 60_000 + b"\r\n"  # a header of nearly the length that the standard library reads

# ---- bytes without end: the server's 24 MB stand for it, and it must still have some when it is left ------------------

FLOODS = {
    "status line": hostile.flood(b"HTTP/1.1 200 ", b"fine " * 10_000),
    "header": hostile.flood(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 60_000),
    "headers": hostile.flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
    "interim answers": hostile.flood(b"", b"HTTP/1.1 100 Continue\r\n" + LONG + b"\r\n"),
    "chunk extensions": hostile.flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                      b"1;x=" + b"x" * 60_000 + b"\r\n0\r\n"),
    "zeros before a chunk's size": hostile.flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                                 b"0" * 60_000 + b"1\r\n0\r\n"),
    "body of a redirect": hostile.flood(b"HTTP/1.1 302 Found\r\nLocation: elsewhere\r\n\r\n", b"x" * 60_000),
    "redirect that promises a petabyte": hostile.flood(
        b"HTTP/1.1 302 Found\r\nLocation: elsewhere\r\nContent-Length: 1000000000000000\r\n\r\n", b"x" * 60_000),
    "redirect in chunks": hostile.flood(
        b"HTTP/1.1 301 Gone\r\nLocation: elsewhere\r\nTransfer-Encoding: chunked\r\n\r\n", b"ea60\r\n" + b"x" * 60_000 + b"\r\n"),
    "error's body": hostile.flood(b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 60_000),
    "error that may pass": hostile.flood(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n", b"x" * 60_000),
    "body without a length": hostile.flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 60_000),
    "chunks": hostile.flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"ea60\r\n" + b"x" * 60_000 + b"\r\n"),
    "chunk of a petabyte": hostile.flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n38d7ea4c68000\r\n", b"x" * 60_000),
    "packed answer": hostile.flood(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10**7))[:-8], bytes(60_000)),
}


@pytest.mark.parametrize("case", FLOODS)
def test_a_flood_is_left(mnist, tmp_path, patience, case):
    """And the next mirror is taken; 15 MB are read at most where the client was unbounded."""
    mnist.script[NAME] = [FLOODS[case]]
    mnist.script["elsewhere"] = [hostile.status(404)]
    with pytest.raises(MinimaskError, match="mnist could not be fetched: .* or by hand: get"):
        fetch.fetch("mnist", tmp_path, patience=patience, mirrors=mnist.mirrors[:1])
    assert not mnist.drained and holds_no_data(tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "mnist").iterdir()) <= len(mnist.files[NAME])
    mnist.script[NAME] = [FLOODS[case]] * [name for name, _ in mnist.requests].count(NAME) + [hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)


AFTER_THE_END = {
    "trailers": hostile.flood(hostile.in_chunks, b"X: y\r\n" * 10_000),
    "trailers in drops": hostile.drops(hostile.in_chunks, b"X: " + b"y" * 200 + b"\r\n"),
    "bytes behind the last": hostile.flood(
        lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), b"x" * 60_000)}


@pytest.mark.parametrize("case", AFTER_THE_END)
def test_what_follows_the_content_does_not_matter(mnist, tmp_path, patience, case):
    """The file is whole and right; however long the server goes on, it is done."""
    mnist.script[NAME] = [AFTER_THE_END[case]]
    fetch.fetch("mnist", tmp_path, patience=patience)
    is_whole(tmp_path, "mnist", mnist)
    assert not mnist.drained and [name for name, _ in mnist.requests].count(NAME) == 1


@pytest.mark.parametrize("case", ["trailers", "interim answers"])
def test_a_flood_is_left_where_no_length_is_known_beforehand(fashion, tmp_path, patience, case):
    fashion.script[NAME] = [{**FLOODS, **AFTER_THE_END}[case]]
    with pytest.raises(MinimaskError, match="fashion-mnist could not be fetched"):
        fetch.fetch("fashion-mnist", tmp_path, patience=patience, mirrors=fashion.mirrors[:1])
    assert not fashion.drained and holds_no_data(tmp_path, "fashion-mnist")


def test_what_surrounds_the_content_may_be_as_long_as_it(cifar, tmp_path, patience, waits):
    """Chunks of sixteen bytes have six around each; of a file longer than what an answer may have beside it."""
    (name,), (body,) = cifar.files, cifar.files.values()
    assert len(body) > 2 * connection.MOST_BESIDE
    last = len(body) % 16 or 16
    chunks = b"".join(b"10\r\n%b\r\n" % body[start:start + 16] for start in range(0, len(body) - last, 16))
    cifar.script[name] = [hostile.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
                                      + b"%x\r\n%b\r\n0\r\n\r\n" % (last, body[-last:]))]
    fetch.fetch("cifar10", tmp_path, patience=patience)
    is_whole(tmp_path, "cifar10", cifar)
    assert not waits


# ---- time without end ------------------------------------------------------------------------------------------------

#: Each piece comes long before a socket's time-out, and more bytes a second than are needed; there is no content in them.
DROPS = {
    "chunk extensions": hostile.drops(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 200 + b"\r\n0\r\n"),
    "interim answers": hostile.drops(b"", b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 200 + b"\r\n\r\n"),
    "headers": hostile.drops(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 200),
    "body of a redirect": hostile.drops(b"HTTP/1.1 302 Found\r\nLocation: elsewhere\r\n\r\n", b"x" * 200),
    "content": hostile.drops(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("case", DROPS)
def test_drops_are_no_progress(mnist, tmp_path, patience, case):
    mnist.script[NAME] = [DROPS[case]]
    mnist.script["elsewhere"] = [hostile.status(404)]
    with pytest.raises(MinimaskError, match="was too slow|answered 404"):
        fetch.fetch("mnist", tmp_path, patience=replace(patience, head=1.0, tries=2), mirrors=mnist.mirrors[:1])
    assert not mnist.drained and holds_no_data(tmp_path)


def test_redirects_share_the_time_of_one_try(mnist, tmp_path, patience):
    """Each of ten is quick enough by itself."""
    def late(where):
        def behave(handler, body, asked):
            time.sleep(0.5)
            hostile.redirect(where)(handler, body, asked)
        return behave

    mnist.script[NAME] = [late("hop1")]
    mnist.script |= {f"hop{i}": [late(f"hop{i + 1}")] for i in range(1, 9)}
    mnist.script["hop9"] = [hostile.status(404)]
    with pytest.raises(MinimaskError, match="was too slow .nothing of the file after 1 s., the last of 2 tries"):
        fetch.fetch("mnist", tmp_path, patience=replace(patience, head=1.0, tries=2), mirrors=mnist.mirrors[:1])


def test_a_name_server_that_never_answers_holds_nobody(mnist, tmp_path, patience, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60) and [])
    try:
        with pytest.raises(MinimaskError, match="was too slow .nothing of the file after 0.2 s"):
            fetch.fetch("mnist", tmp_path, patience=replace(patience, head=0.2, tries=2), mirrors=["http://nowhere.invalid/"])
    finally:
        answered.set()


def test_a_mirror_has_a_time_for_all_its_tries(mnist, tmp_path, patience, monkeypatch):
    """Every try brings something new, so it is not counted; but they do not go on for days."""
    monkeypatch.setattr(download, "WORTH_GOING_ON", 1)
    now = [0.0]
    sleepy = replace(patience, clock=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + 100))
    limit = len(mnist.files[NAME])
    assert sleepy.of_a_mirror(limit) == 2 * (10.0 + 0.5 + limit / 1000) + 3 * 8.0
    mnist.script[NAME] = [hostile.cut(1000)]
    with pytest.raises(MinimaskError, match=f"broke off after .*, and has had {sleepy.of_a_mirror(limit):,.0f} s"):
        fetch.fetch("mnist", tmp_path, patience=sleepy, mirrors=mnist.mirrors[:1])
    assert len(mnist.requests) == 4  # at 0, 100, 200 and 300 seconds of 280


def test_progress_is_told_in_bytes_of_content(mnist, tmp_path, patience, monkeypatch):
    """Chunks with extensions ten times their size: the meter knows of none."""
    body = mnist.files[NAME]
    chunks = b"".join(b"%x;%b\r\n%b\r\n" % (len(piece), b"x" * 500, piece)
                      for piece in (body[start:start + 5000] for start in range(0, len(body), 5000)))
    mnist.script[NAME] = [hostile.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")]
    told = []
    monkeypatch.setattr(meter.Meter, "at", lambda self, position: told.append((self.name, position)))
    fetch.fetch("mnist", tmp_path, patience=patience)
    positions = [position for name, position in told if name == NAME]
    assert positions == sorted(positions) and positions[-1] == len(body)


def test_who_leaves_an_exchange_leaves_no_thread(mnist, patience):
    """Even one that waits for room for what it has read."""
    mnist.script[NAME] = [hostile.flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 60_000)]
    with connection.Exchange(mnist.mirrors[0] + NAME, 0, patience) as answer:
        assert answer.head().status == 200
        time.sleep(0.2)  # the queue is full by now
    end = time.monotonic() + 20
    while any(thread.name == "minimask download" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not mnist.drained


def test_who_leaves_before_there_is_a_connection_waits_for_no_answer(mnist, patience, monkeypatch):
    """The name is found when nobody is there any more; then the host says nothing, for longer than this test."""
    looked_up, real = threading.Event(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **how: looked_up.wait(60) and real(*given, **how))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with connection.Exchange(f"http://127.0.0.1:{silent.getsockname()[1]}/x", 0, replace(patience, timeout=120.0)):
            pass
        looked_up.set()
        end = time.monotonic() + 60
        while any(thread.name == "minimask download" for thread in threading.enumerate()):
            assert time.monotonic() < end
            time.sleep(0.01)


# ---- any answer at all -----------------------------------------------------------------------------------------------

BODY = gzip.compress(bytes(range(256)) * 40, mtime=0)
FRAGMENTS = st.one_of(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 206 Partial Content\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 302 Found\r\n",
                     b"HTTP/1.1 416 No\r\n", b"HTTP/1.1 503 Busy\r\n", b"HTTP/9 abc", b"\r\n", b"\r\n\r\n", b"\n", b"0\r\n\r\n", b"-5\r\n", b"ffffffffffff\r\n",
                     b"Transfer-Encoding: chunked\r\n", b"Location: elsewhere\r\n", b"Location: http://[\r\n", b"Location: ftp://x/\r\n",
                     b"Content-Length: -1\r\n", b"Content-Length: x\r\n", b"Content-Length: 9999999999999999999\r\n",
                     b"Content-Length: %d\r\n" % len(BODY), b"Content-Range: bytes 0-\r\n", b"Content-Range: bytes 5-9/3\r\n", BODY,
                     b"%x\r\n%b\r\n" % (len(BODY), BODY)]),
    st.binary(max_size=20), st.integers(0, len(BODY)).map(lambda count: BODY[:count]))


def whatever(server, answers, folder):
    """One file from a server that answers with these bytes: it is there and right, or the reason is told."""
    part = Path(folder) / ".part"
    part.unlink(missing_ok=True)
    wanted = Published("x", len(BODY), hostile.sha256(BODY), len(BODY))
    server.script = {name: [hostile.raw(answer) for answer in answers] for name in ("x", "elsewhere")}
    short = Patience(tries=3, timeout=5.0, head=20.0, sleep=lambda seconds: None)
    try:
        download.download(wanted, [server.url], part, lambda _: None, short, meter.Meter())
        assert part.read_bytes() == BODY
    except Refused as reason:
        assert str(reason).isprintable() and len(str(reason)) < 1000
    assert download.size_of(part) <= len(BODY)


@pytest.fixture
def anything(no_proxy):
    with hostile.Server({}) as server:
        yield server
        server.shutdown()


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(st.lists(st.lists(FRAGMENTS, max_size=8).map(b"".join), min_size=1, max_size=3))
def test_any_answer_ends_in_the_file_or_in_a_reason(anything, tmp_path, answers):
    whatever(anything, answers, tmp_path)


@pytest.mark.slow
@hypothesis.settings(max_examples=5000, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(st.lists(st.lists(FRAGMENTS, max_size=12).map(b"".join), min_size=1, max_size=4))
def test_many_more_answers(anything, tmp_path, answers):
    whatever(anything, answers, tmp_path)


# ---- https and proxies -----------------------------------------------------------------------------------------------


@pytest.fixture
def https(mnist, monkeypatch):
    """Opens a server with a certificate, of an authority that is trusted, beside `mnist`; gives its address by a host's name.

    The authority's key was thrown away, and `localhost` is all that it vouched for, so the keys in the folder protect
    nothing.
    """
    servers = []
    monkeypatch.setenv("SSL_CERT_FILE", str(hostile.CERTIFICATES / "authority.pem"))
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")

    def opened(certificate, host="localhost"):
        server = hostile.Server(mnist.files, certificate)
        servers.append(server)
        return server, f"https://{host}:{server.server_port}/"

    yield opened
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_certificate_that_proves_the_host_is_taken(https, mnist, tmp_path, patience):
    server, url = https("localhost")
    fetch.fetch("mnist", tmp_path, patience=patience, mirrors=[url])
    is_whole(tmp_path, "mnist", mnist)
    assert len(server.requests) == 4 and not mnist.requests


@pytest.mark.parametrize(("certificate", "host", "trusted", "reason"), [
    ("localhost", "127.0.0.1", True, "IP address mismatch"),
    ("expired", "localhost", True, "certificate has expired"),
    ("localhost", "localhost", False, "unable to get local issuer certificate")])
def test_a_certificate_that_does_not_is_refused_at_once(https, mnist, tmp_path, patience, waits, monkeypatch, certificate, host,
                                                        trusted, reason):
    """Not a byte is asked for; the next mirror is."""
    if not trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    server, url = https(certificate, host)
    with pytest.raises(MinimaskError, match=f"shows a certificate that does not prove who it is .*{reason}"):
        fetch.fetch("mnist", tmp_path, patience=patience, mirrors=[url])
    assert not server.requests and not waits and holds_no_data(tmp_path)
    fetch.fetch("mnist", tmp_path, patience=patience, mirrors=[url, mnist.mirrors[0]])
    is_whole(tmp_path, "mnist", mnist)


def test_https_does_not_become_http(https, mnist, tmp_path, patience):
    server, url = https("localhost")
    server.script = {f"{file}": [hostile.redirect(f"{mnist.mirrors[0]}{file}")] for file in mnist.files}
    with pytest.raises(MinimaskError, match="redirects from https to http"):
        fetch.fetch("mnist", tmp_path, patience=patience, mirrors=[url])
    assert not mnist.requests


def test_a_host_that_never_greets_is_left(mnist, tmp_path, patience):
    """It takes the connection, and sends a greeting of TLS byte by byte."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def greet():
            with contextlib.suppress(OSError):
                while True:
                    one, _ = listening.accept()
                    with one, contextlib.suppress(OSError):
                        one.sendall(b"\x16\x03\x03\x40\x00")
                        for _ in range(200):
                            one.sendall(b"\0")
                            time.sleep(0.1)

        threading.Thread(target=greet, daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(MinimaskError, match="was too slow|failed"):
            fetch.fetch("mnist", tmp_path, patience=replace(patience, head=0.5, tries=2),
                        mirrors=[f"https://127.0.0.1:{listening.getsockname()[1]}/"])
        assert time.monotonic() - begun < 15


def by_proxy(monkeypatch, server, scheme="http"):
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
        monkeypatch.setenv(name, server.url)


def test_a_proxy_is_asked_in_place_of_the_host(mnist, tmp_path, patience, monkeypatch):
    by_proxy(monkeypatch, mnist)
    fetch.fetch("mnist", tmp_path, patience=patience, mirrors=["http://data.invalid/mnist/"])
    is_whole(tmp_path, "mnist", mnist)
    assert mnist.asked == [f"http://data.invalid/mnist/{name}" for name in mnist.files]


def test_a_proxy_is_passed_by_for_hosts_that_need_none(mnist, tmp_path, patience, monkeypatch):
    with hostile.Server({}) as proxy:
        by_proxy(monkeypatch, proxy)
        fetch.fetch("mnist", tmp_path, patience=patience)  # 127.0.0.1 is in no_proxy
        assert not proxy.asked and mnist.asked
        proxy.shutdown()
    is_whole(tmp_path, "mnist", mnist)


def test_https_passes_through_a_proxy_and_is_still_checked(https, mnist, tmp_path, patience, monkeypatch):
    server, url = https("localhost")
    by_proxy(monkeypatch, mnist, "https")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(MinimaskError, match="does not prove who it is"):
        fetch.fetch("mnist", tmp_path, patience=patience, mirrors=[url.replace("localhost", "data.invalid")])
    assert mnist.asked == [f"CONNECT data.invalid:{server.server_port}"] and not server.requests
    fetch.fetch("mnist", tmp_path, patience=patience, mirrors=[url])
    is_whole(tmp_path, "mnist", mnist)
    assert mnist.asked[1:] == [f"CONNECT localhost:{server.server_port}"] * 4 and len(server.requests) == 4


@pytest.mark.parametrize(("behaviour", "reason"), [
    (hostile.status(403), "Tunnel connection failed: 403"),
    (hostile.flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000), "bytes of content|more than 100 headers"),
    (hostile.drops(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), "was too slow|more than 100 headers")])
def test_a_proxy_is_bounded_like_any_server(https, mnist, tmp_path, patience, monkeypatch, behaviour, reason):
    _, url = https("localhost")
    by_proxy(monkeypatch, mnist, "https")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    mnist.script["CONNECT"] = [behaviour]
    with pytest.raises(MinimaskError, match=reason):
        fetch.fetch("mnist", tmp_path, patience=replace(patience, head=1.0, tries=2), mirrors=[url])
    assert not mnist.drained and holds_no_data(tmp_path)


# ---- links, and signals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_nothing_is_written_through_a_link(mnist, cifar, tmp_path, patience, link):
    """Somebody else who may write into the folder has put one where the part of a download will lie."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    for name, part in (("mnist", f"mnist/.{NAME}.part"), ("cifar10", "cifar-10-batches-bin/.cifar-10-binary.tar.gz.part"),
                       ("cifar10", "cifar-10-batches-bin/.data_batch_2.bin.part")):
        planted = tmp_path / "data" / part
        planted.parent.mkdir(parents=True, exist_ok=True)
        link(victim, planted)
        with pytest.raises(MinimaskError, match=f"{planted.name} is a link or no regular file, and nothing is written through it"):
            fetch.fetch(name, tmp_path / "data", patience=patience)
        assert victim.read_bytes() == b"mine"
        planted.unlink(missing_ok=True)
    fetch.fetch("mnist", tmp_path / "data", patience=patience)
    fetch.fetch("cifar10", tmp_path / "data", patience=patience)
    assert victim.read_bytes() == b"mine"


FETCH = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[3])
    import hostile
    from minimask.data import fetch, files
    files.SETS["mnist"], fetch.PUBLISHED["mnist"], _, _ = hostile.small_mnist()
    fetch.MIRRORS["mnist"] = (sys.argv[1],)
    from minimask.__main__ import main
    print("begun", flush=True)
    sys.exit(main(["data", "fetch", "mnist", "--data", sys.argv[2], "--quiet"]))
""")


def killed(server, folder, name, wait=None):
    """Begins to fetch, and is killed after `wait` seconds, or when the server has been asked for something."""
    child = subprocess.Popen([sys.executable, "-c", FETCH, server.mirrors[0], folder, Path(hostile.__file__).parent],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    end = time.monotonic() + (60 if wait is None else wait)
    while time.monotonic() < end and (wait is not None or not server.requests):
        time.sleep(0.01)
    child.send_signal(name)
    return child.communicate(timeout=60)[1], child.returncode


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)])
def test_a_fetch_that_is_killed_goes_on_to_the_same_bytes(mnist, tmp_path, patience, name, status):
    mnist.script[NAME] = [hostile.drip]  # slow enough to be killed in it
    said, found = killed(mnist, tmp_path, getattr(signal, name))
    assert found == status and holds_no_data(tmp_path)
    assert said == ("" if name == "SIGKILL" else
                    "minimask: interrupted; what has arrived is kept, and the same command goes on from there\n")
    mnist.script[NAME] = [hostile.ranged]
    fetch.fetch("mnist", tmp_path, patience=patience)
    (tmp_path / "mnist/.fetching").unlink(missing_ok=True)  # a killed one's; nobody waits for it
    is_whole(tmp_path, "mnist", mnist)


@pytest.mark.slow
def test_a_hundred_fetches_are_killed(mnist, tmp_path, patience, rng):
    """Wherever they are: a server that takes its time for all four files; in the end the files are right."""
    def steady(handler, body, asked):
        start = int(asked[6:-1]) if asked else 0
        handler.head(206 if asked else 200, Content_Length=len(body) - start,
                     **({"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if asked else {}))
        for at in range(start, len(body), 2000):
            handler.wfile.write(body[at:at + 2000])
            time.sleep(0.005)

    mnist.script = {name: [steady] for name in mnist.files}
    for count in range(100):
        folder = tmp_path / str(count // 4)
        killed(mnist, folder, list(map(signal.Signals, (2, 15, 1, 9)))[count % 4], rng.uniform(0, 0.6))
        if count % 4 == 3:
            fetch.fetch("mnist", folder, patience=patience)
            (folder / "mnist/.fetching").unlink(missing_ok=True)
            is_whole(folder, "mnist", mnist)
