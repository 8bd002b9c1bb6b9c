"""Mutated .mmk files through the loader, in bounded memory: python fuzz_export.py COUNT SEED MEGABYTES.

Run by test_export.py in a process of its own. Every mutated file must be refused with a MinimaskError of one line, or
give exactly the weights that its bytes say, decoded here by other code, in a net that runs. Most mutations get a digest
that is right, or nothing behind it would ever be tried. Anything else, a hang too, ends the process with the seed and
the number of the file. Prints, for every kind of mutation, how many were refused and how many loaded, as JSON.
"""

import copy
import hashlib
import json
import random
import resource
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from minimask import MinimaskError, export, init, nn, no_grad
from minimask.mask import SignedSupermask, Trained

SECONDS = 60  # for one file
#: Values that something in the header is replaced by.
HOSTILE = [None, True, False, -1, 0, 1, 2, 7, 2**16, 2**24, 2**31, 2**63, 10**30, 1e308, 0.5, -0.5, "", "x", "same", "plain",
           "base243", "arithmetic", "rice", "input", "output", "Flatten", "ReLU", "Residual", "Bias", "Dropout", "AvgPool2D", "float64", "\x1b[2J", [], {}, [[]], [1, 1], [4, 4], [[1, 1], [1, 1]],
           [10**9, 10**9], list(range(100))]


def nets():
    """Small nets with everything that a file can hold."""
    rng = np.random.default_rng(0)

    def layers(weights, dtype):
        draw = {"weights": weights, "rng": rng, "dtype": dtype}
        norm = nn.BatchNorm(4, dtype=dtype)
        norm.mean, norm.variance = np.arange(4).astype(dtype) / 3, np.arange(1, 5).astype(dtype) / 2
        return [nn.Conv2D(2, 4, 3, **draw), norm, nn.ELU(), nn.MaxPool2D(2),
                nn.Residual([nn.Conv2D(4, 6, 3, stride=2, padding=1, **draw), nn.ReLU()],
                            [nn.Conv2D(4, 6, 1, stride=2, padding="valid", **draw)])]

    masked, uniform = SignedSupermask(tau=0.3), SignedSupermask(tau=0.3, frozen_distribution="uniform")
    yield nn.Sequential([nn.Flatten(), nn.Dense(12, 30, masked, rng), nn.ELU(), nn.Dense(30, 5, masked, rng), nn.ELU(0.5),
                         nn.Dense(5, 3, masked, rng)], (3, 2, 2)), "base243"
    yield nn.Sequential([nn.Flatten(), nn.Dense(12, 30, masked, rng), nn.Dense(30, 3, masked, rng)], (3, 2, 2)), "arithmetic"
    yield nn.Sequential([*layers(masked, "float32"), nn.GlobalAvgPool(), nn.Dense(6, 3, masked, rng)], (8, 8, 2)), None
    rng = np.random.default_rng(7)
    yield nn.Sequential([*layers(uniform, "float64"), nn.Flatten(), nn.Dense(24, 3, uniform, rng, "float64")], (8, 8, 2)), None
    yield nn.Sequential([*layers(Trained(), "float32"), nn.Flatten(), nn.Dense(24, 3, masked, rng)], (8, 8, 2)), None
    rng = np.random.default_rng(7)
    first, bias = nn.GroupedConv2D(2, 4, 3, 2, masked, rng), nn.Bias(4)
    bias.bias.data = np.arange(4, dtype=np.float32) / 3
    block = nn.Residual([nn.GroupedConv2D(4, 4, 3, 2, uniform, rng), nn.Tanh()], activation="sigmoid")
    yield nn.Sequential([first, bias, nn.AvgPool2D(2, 1, 1), block, nn.Dropout(0.5, rng),
                         nn.Flatten(), nn.Dense(100, 3, masked, rng)], (4, 4, 2)), None


def contents():
    found = [export.encoded(net, ("a", "b", "c"), "a net", codec, 7) for net, codec in nets()]
    return [*found, export.encoded(next(nets())[0], ("a", "b", "c"), answers=[("class", 2), ("number", 1)])]


def signed(content):
    """The same with a digest that is right."""
    return content + hashlib.sha256(content).digest()


def flip(content, draw):
    """A few bits anywhere; the digest is that of before."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content, draw):
    """Bytes lost at the end or put in somewhere, half of the time under a right digest."""
    body, at = content[:-32], draw.randrange(len(content) - 32)
    count = draw.choice((1, 10, 1000, 70_000))
    changed = draw.choice((body[:at], body[:at] + draw.randbytes(count) + body[at:], body + bytes(count), body[:-1],
                           body[:at] + body[at + count:], body[draw.choice((1, 8, 12)):]))
    return signed(changed) if draw.random() < 0.5 else draw.choice((content[:at], changed + content[-32:]))


def edit_frame(content, draw):
    """Magic, version, the length of the header."""
    changed = bytearray(content[:-32])
    for _ in range(draw.choice((1, 2))):
        changed[draw.randrange(12)] = draw.choice((0, 1, 2, 127, 255, draw.randrange(256)))
    return signed(bytes(changed))


def edit_bytes(content, draw):
    """The layers' bytes: bits flipped, runs replaced by zeros, ones or noise, under a right digest."""
    start = 12 + int.from_bytes(content[9:12], "little")
    changed = bytearray(content[:-32])
    for _ in range(draw.choice((1, 1, 3, 20))):
        at = draw.randrange(start, len(changed))
        run = min(draw.choice((1, 1, 4, 50)), len(changed) - at)
        changed[at:at + run] = draw.choice((bytes(run), b"\xff" * run, draw.randbytes(run), bytes([changed[at] ^ 1 << draw.randrange(8)]) + bytes(changed[at + 1:at + run])))
    return signed(bytes(changed))


def edit_header(content, draw):
    """Something in the header replaced, lost or doubled, under a right digest."""
    start = 12 + int.from_bytes(content[9:12], "little")
    header = json.loads(content[12:start])
    for _ in range(draw.choice((1, 1, 1, 2))):
        holder, key = header, draw.choice(list(header))
        while isinstance(holder[key], (dict, list)) and holder[key] and draw.random() < 0.9:
            holder = holder[key]
            key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
        value, what = holder[key], draw.random()
        if what < 0.15:
            del holder[key]
        elif what < 0.25 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(value))
        elif what < 0.3 and isinstance(holder, dict):
            holder[draw.choice(("x", "frozen", "magnitude", "weight"))] = copy.deepcopy(value)
        elif what < 0.6 and type(value) in (int, float):
            holder[key] = value + draw.choice((-1, 1, value))
        else:
            holder[key] = copy.deepcopy(draw.choice(HOSTILE))
        if not header:
            break
    text = json.dumps(header).encode()
    if draw.random() < 0.05:
        text = draw.choice((b"[" * 100_000, b"{}", b"null", text[:-1], text + b" ", text.replace(b"1", b"NaN"), b'{"a":' * 5000,
                            b"\xff" + text, text.replace(b"1", b"9" * 5000), b""))
    return signed(content[:9] + len(text).to_bytes(3, "little") + text + content[start:-32])


KINDS = (flip, cut, edit_frame, edit_bytes, edit_header, edit_header)


def decoded(content):
    """The weights that the bytes say, layer by layer in order, by other code than the loader's."""
    start = 12 + int.from_bytes(content[9:12], "little")
    header = json.loads(content[12:start])
    places = [start]
    dtype = np.dtype(header["dtype"]).newbyteorder("<")

    def take(count):
        places[0] += count
        return content[places[0] - count:places[0]]

    def walk(layers):
        for layer in layers:
            if layer["kind"] == "Residual":
                yield from walk(layer["main"] + layer["shortcut"] + layer.get("activation", []))
            elif layer["kind"] == "Bias":
                take(layer["channels"] * dtype.itemsize)
            elif layer["kind"] == "BatchNorm":
                take(4 * layer["channels"] * dtype.itemsize)
            elif "weight" in layer:
                w = layer["weight"]
                code, size = take(w["bytes"]), int(np.prod(w["shape"]))
                if w["codec"] == "plain":
                    yield np.frombuffer(code, dtype).reshape(w["shape"])
                    continue
                left = w["plus"] + w["minus"]
                trits = np.array(five_to_a_byte(code, size) if w["codec"] == "base243" else
                                 {"arithmetic": gaps, "rice": rice}[w["codec"]](code, size, left))
                by_output = w.get("by") == "output"
                trits = np.moveaxis(trits.reshape(w["shape"][-1:] + w["shape"][:-1]), 0, -1) if by_output else trits.reshape(w["shape"])
                if "magnitude" in w:
                    yield (trits * np.dtype(header["dtype"]).type(w["magnitude"])).astype(header["dtype"])
                else:
                    rule = w["frozen"]
                    bits = np.random.PCG64()
                    state, inc, has, spare = rule["generator"]
                    bits.state = {"bit_generator": "PCG64", "state": {"state": state, "inc": inc}, "has_uint32": has, "uinteger": spare}
                    yield trits * init.draw(tuple(w["shape"]), np.random.Generator(bits), rule["scheme"], rule["distribution"], rule["factor"], header["dtype"])
    return list(walk(header["layers"]))


def five_to_a_byte(code, size):
    digits = []
    for byte in code:
        for _ in range(5):
            digits.append((0, 1, -1)[byte % 3])
            byte //= 3
    return digits[:size]


def rice(code, size, left):
    """A binary digit after the other."""
    row = iter("".join(f"{byte:08b}" for byte in code))

    def number(digits):
        return int("0" + "".join(next(row) for _ in range(digits)), 2)

    ks = [number(4) for _ in range(-(-left // 16))]
    signs = [1 - 2 * number(1) for _ in range(left)]
    low = [number(ks[i // 16]) for i in range(left)]
    trits, place = [0] * size, -1
    for i in range(left):
        place += 1 + low[i]
        while next(row) == "0":
            place += 1 << ks[i // 16]
        trits[place] = signs[i]
    assert "1" not in (rest := "".join(row)) and len(rest) < 8
    return trits


def gaps(code, size, left):
    """With fractions of the whole code as one number: slow, exact, and nothing like the coder under test."""
    if not left:
        return [0] * size
    scale = len(code) + 6
    value, low, span, units = int.from_bytes(code + bytes(6), "big"), 0, 1 << 8 * scale, 1 << 8 * (scale - 6)
    k = (size // left).bit_length() - 1
    seen, trits, place = [[1, 1] for _ in range(k + 2)], [0] * size, -1

    def toss(coin):
        nonlocal low, span, units
        zeros, ones = seen[coin]
        middle = (span // units * zeros // (zeros + ones)) * units
        side = int(value - low >= middle)
        low, span = (low + middle, span - middle) if side else (low, middle)
        seen[coin][side] += 2
        while span // units <= 1 << 40:
            units = units >> 8 if units >= 256 else shifted()
        return side

    def shifted():
        nonlocal value, low, span
        value, low, span = value << 8, low << 8, span << 8
        return 1

    for _ in range(left):
        place += 1
        while toss(k):
            place += 1 << k
        place += sum(toss(i) << i for i in range(k))
        trits[place] = -1 if toss(k + 1) else 1
    return trits


def main(count, seed, megabytes):
    originals = contents()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.mmk"
        for content in originals:  # they load, they hold what they should, and everything is imported
            path.write_bytes(content)
            for a, b in zip(decoded(content), export.dense_weights(export.load(path).net).values(), strict=True):
                assert np.array_equal(a, b)
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20),) * 2)
        tally = {kind.__name__: {"refused": 0, "loaded": 0} for kind in KINDS}
        for number in range(count):
            draw, kind = random.Random(f"{seed}-{number}"), KINDS[number % len(KINDS)]
            content = kind(draw.choice(originals), draw)
            path.write_bytes(content)
            signal.alarm(SECONDS)  # a hang ends the process
            try:
                exported = export.load(path)
            except MinimaskError as error:
                assert 0 < len(str(error)) < 1000 and "\n" not in str(error), (number, str(error))
                tally[kind.__name__]["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"file {number} of seed {seed}, {kind.__name__}: {error!r}") from error
            else:
                weights = export.dense_weights(exported.net)
                for a, b in zip(decoded(content), weights.values(), strict=True):
                    assert a.shape == b.shape and np.array_equal(a, b), (number, kind.__name__, "a wrong success")
                with no_grad():
                    logits = exported.net(np.ones((1, *exported.net.input_shape), b.dtype)).data
                assert logits.shape == (1, len(exported.classes)), (number, kind.__name__, "a net that does not run")
                tally[kind.__name__]["loaded"] += 1
            signal.alarm(0)
    print(json.dumps(tally))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
