"""A web server that misbehaves as it is told to, on the loopback interface; and data sets of a few images for it."""

import contextlib
import gzip
import hashlib
import http.server
import io
import re
import socket
import ssl
import tarfile
import threading
import time
from pathlib import Path

import numpy as np

from minimask.data import fetch
from minimask.data import files as datafiles
from minimask.data.download import Published
from minimask.data.files import FileSet

CERTIFICATES = Path(__file__).parent / "data" / "certificates"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` (name -> bytes); `script` (name -> behaviours) says how, the last behaviour for all that follow.

    As a proxy it serves what it is asked for of any host, and leads a CONNECT to this machine, or does as the script
    says of "CONNECT".

    Args:
        certificate: of CERTIFICATES; with one it speaks https.
    """

    daemon_threads = True

    def __init__(self, files, certificate=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.script, self.requests = files, {}, []
        self.asked, self.drained = [], []  # whole addresses; floods that somebody took to their end
        self.url = f"http://127.0.0.1:{self.server_port}/"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATES / f"{certificate}.pem")
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_):
        """A client that has left is part of the game."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        name = self.path.rpartition("/")[2]
        asked = self.headers.get("Range")
        self.server.requests.append((name, asked))
        self.server.asked.append(self.path)
        self.act(name, whole, asked)

    def do_CONNECT(self):
        self.close_connection = True
        self.server.asked.append(f"CONNECT {self.path}")
        self.act("CONNECT", tunnel, None)

    def act(self, name, otherwise, asked):
        steps = self.server.script.get(name, [otherwise])
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        with contextlib.suppress(OSError):
            step(self, self.server.files.get(name, b""), asked)

    def log_message(self, *_):
        pass

    def head(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()


def whole(handler, body, asked):
    """Takes no notice of a range."""
    handler.head(Content_Length=len(body))
    handler.wfile.write(body)


def ranged(handler, body, asked):
    """As servers should."""
    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
    if start >= len(body):
        return handler.head(416, Content_Length=0)
    if asked:
        handler.head(206, Content_Length=len(body) - start, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
    else:
        handler.head(Content_Length=len(body))
    handler.wfile.write(body[start:])


def status(code, **headers):
    return lambda handler, body, asked: handler.head(code, Content_Length=0, **headers)


def cut(count, then=ranged):
    """Sends `count` bytes of what it promised, and hangs up."""
    def behave(handler, body, asked):
        inner = io.BytesIO()
        wfile, handler.wfile = handler.wfile, inner
        then(handler, body, asked)
        head, _, rest = inner.getvalue().partition(b"\r\n\r\n")
        wfile.write(head + b"\r\n\r\n" + rest[:count])
        handler.wfile = wfile

    return behave


def instead(other, then=ranged):
    """Serves other bytes."""
    return lambda handler, body, asked: then(handler, other, asked)


def no_length(handler, body, asked):
    """The end of the connection is the end of the file."""
    handler.head()
    handler.wfile.write(body)


def chunked(handler, body, asked):
    handler.head(Transfer_Encoding="chunked")
    for start in range(0, len(body), 5000):
        piece = body[start:start + 5000]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def redirect(where, code=302):
    return lambda handler, body, asked: handler.head(code, Location=where, Content_Length=0)


def longer(count):
    """Promises the right size and sends more."""
    def behave(handler, body, asked):
        handler.head(Content_Length=len(body))
        handler.wfile.write(body + bytes(count))

    return behave


def drip(handler, body, asked, seconds=20.0):
    """A few bytes now and then, each in time for the time-out of a socket."""
    handler.head(Content_Length=len(body))
    dribble(handler, body, seconds)


def drip_after_a_burst(handler, body, asked):
    """Quick until nearly all is there, so that its average stays good."""
    handler.head(Content_Length=len(body))
    handler.wfile.write(body[:-4000])
    handler.wfile.flush()
    dribble(handler, body[-4000:], 20.0)


def drip_head(handler, body, asked):
    """The same before the body has begun: one header, letter by letter."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    dribble(handler, b"x" * 1000, 20.0)


def dribble(handler, body, seconds):
    end = time.monotonic() + seconds
    for start in range(0, len(body), 5):
        if time.monotonic() > end:
            return
        handler.wfile.write(body[start:start + 5])
        handler.wfile.flush()
        time.sleep(0.05)


def stall(handler, body, asked):
    """Promises, sends a little, and falls silent."""
    handler.head(Content_Length=len(body))
    handler.wfile.write(body[:1000])
    handler.wfile.flush()
    time.sleep(5)


def wrong_range(handler, body, asked):
    """Answers a range request with another range."""
    if not asked:
        return whole(handler, body, asked)
    handler.head(206, Content_Length=len(body) - 1, Content_Range=f"bytes 1-{len(body) - 1}/{len(body)}")
    handler.wfile.write(body[1:])


def garbage(handler, body, asked):
    handler.wfile.write(b"\x00\xff not HTTP\r\n\r\n" * 3)


# ---- without end -----------------------------------------------------------------------------------------------------

FLOOD_BYTES = 24 << 20  # that stand for no end, and are more than the system keeps between two of its sockets


def flood(start, piece, times=None):
    """Sends `start`, and then `piece` over and over, for as long as somebody takes it."""
    def behave(handler, body, asked):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        handler.wfile.write(start(body) if callable(start) else start)
        for _ in range(times or FLOOD_BYTES // len(piece)):
            handler.wfile.write(piece)
        handler.server.drained.append(handler.path)

    return behave


def drops(start, piece, seconds=20.0, pause=0.05):
    """Sends `start`, and then `piece` now and then."""
    def behave(handler, body, asked):
        handler.wfile.write(start(body) if callable(start) else start)
        for _ in range(int(seconds / pause)):
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)
        handler.server.drained.append(handler.path)

    return behave


def in_chunks(body):
    """An answer in one chunk, up to the line behind the last one, where trailers may follow."""
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(body), body)


def raw(content):
    """Sends these bytes and hangs up."""
    return lambda handler, body, asked: handler.wfile.write(content)


def tunnel(handler, body, asked):
    """As a proxy should: what both sides send goes to the other, until one hangs up."""
    handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    with socket.create_connection(("127.0.0.1", int(handler.path.rpartition(":")[2]))) as other:
        threading.Thread(target=pump, args=(other, handler.connection), daemon=True).start()
        pump(handler.connection, other)


def pump(source, sink):
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_RDWR)


# ---- small data sets -------------------------------------------------------------------------------------------------


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def small_mnist(images=150, seed=0, verified=True):
    """(FileSet, published files, content by file name, .gz by name): as MNIST, with few images."""
    rng = np.random.default_rng([seed, verified])
    files, contents = [], {}
    for name, shape, top in (("train-images-idx3-ubyte", (images, 28, 28), 256), ("train-labels-idx1-ubyte", (images,), 10),
                             ("t10k-images-idx3-ubyte", (20, 28, 28), 256), ("t10k-labels-idx1-ubyte", (20,), 10)):
        empty = datafiles.idx(name, shape, None)
        contents[name] = empty.header + rng.integers(0, top, shape, dtype=np.uint8).tobytes()
        files.append(datafiles.idx(name, shape, sha256(contents[name]) if verified else None))
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in contents.items()}
    published = tuple(Published(name, len(content), sha256(content), len(content)) if verified else
                      Published(name, None, None, file.packed_size)
                      for (name, content), file in zip(packed.items(), files))
    return FileSet("mnist" if verified else "fashion-mnist", tuple(files)), published, contents, packed


def small_cifar(name="cifar10", records=30, seed=0):
    """(FileSet, published archive, content by file name, archive's bytes): as CIFAR, with few images."""
    rng = np.random.default_rng(seed)
    real, label_bytes = datafiles.SETS[name], {"cifar10": 1, "cifar100": 2}[name]
    contents = {}
    for file in real.files:
        rows = rng.integers(0, 256, (records, label_bytes + 3072), dtype=np.uint8)
        rows[:, -3073] %= 10
        contents[file.name] = rows.tobytes()
    files = FileSet(real.below, tuple(datafiles.cifar(file, records, label_bytes, sha256(content))
                                      for file, content in contents.items()))
    archive = tar((f"{real.below}/{file}", content) for file, content in contents.items())
    published = Published(fetch.PUBLISHED[name][0].name, len(archive), sha256(archive), len(archive))
    return files, (published,), contents, archive


def tar(members):
    """A .tar.gz of (name, content) or ready-made (TarInfo, content)."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0, compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as file:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = info.size or len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()
