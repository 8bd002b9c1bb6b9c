"""Mutated checkpoints through the loader, in bounded memory: python fuzz_checkpoint.py COUNT SEED MEGABYTES.

Run by test_survival.py in a process of its own. Every mutated file must be refused with a MinimaskError and leave the
run as it was, or give exactly the state that was saved (a flipped bit in a date changes nothing), or, where a mutation
wrote the digests anew, exactly the state that the file then holds. Anything else ends the process with the seed and the
number of the file. Prints, for every kind of mutation, how many were refused and how many loaded, as JSON.
"""

import copy
import io
import json
import random
import resource
import signal
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np

from minimask import MinimaskError, checkpoint, data, models, optim, train
from minimask.checkpoint import TEXT, State
from minimask.mask import SignedSupermask

#: Values that a number, a name or a list in the text is replaced by.
HOSTILE = [None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, 0.5, "", "x", "<f4", "|O", "<U9", "PCG64", [], {}, [[]], {"a": []},
           [10**9, 10**9], list(range(100))]


def training(seed: int) -> train.Training:
    """A small run: two layers and a plateau."""
    rng = np.random.default_rng(seed)
    images = np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2, 1) * 3
    labels = np.arange(20) % 2
    dataset = data.Dataset("small", images, labels, images[:5], labels[:5], ("a", "b"))
    net = models.fcn(SignedSupermask(tau=0.1), rng, (2, 2, 1), (5, 2))
    optimizer = optim.SGDW(net.parameters(), 0.1, 1e-3, schedule=optim.Plateau(patience=1, cooldown=0, min_delta=9.0))
    return train.Training(net, dataset, optimizer, rng, 4, {**train.new_record({"name": "small"}, 0, "small"),
                                                           "environment": {"cores": 2}})


def flip(content: bytes, draw: random.Random) -> bytes:
    """A few bits anywhere."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(content: bytes, draw: random.Random) -> bytes:
    return content[:draw.randrange(len(content))]


def grow(content: bytes, draw: random.Random) -> bytes:
    """Bytes put in somewhere: random, zero, or a piece of the file."""
    count, at = draw.choice((1, 10, 1000, 70_000)), draw.choice((0, len(content), draw.randrange(len(content))))
    start = draw.randrange(len(content))
    return content[:at] + draw.choice((draw.randbytes(count), bytes(count), content[start:start + count])) + content[at:]


def edit_header(content: bytes, draw: random.Random) -> bytes:
    """A field of one of the archive's own headers gets another value: sizes, offsets, counts, flags, lengths of names."""
    changed = bytearray(content)
    signature = draw.choice((b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"))
    places = [i for i in range(len(content)) if content.startswith(signature, i)]
    at = draw.choice(places) + 4 + draw.randrange(42)
    size = draw.choice((1, 2, 4, 8))
    value = draw.choice((0, 1, 8, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, draw.getrandbits(64)))
    changed[at:at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return bytes(changed[:len(content)])


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def archived(parts: list[tuple[str, bytes]], compression: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return buffer.getvalue()


def edit_members(content: bytes, draw: random.Random) -> bytes:
    """Members lost, doubled, renamed, exchanged, compressed, changed: with checksums of the archive that are right."""
    parts = list(members(content).items())
    i, j = draw.randrange(len(parts)), draw.randrange(len(parts))
    (name, first), (other, second) = parts[i], parts[j]
    what = draw.randrange(7)
    if what == 0:
        del parts[i]
    elif what == 1:
        parts.append((name, second))
    elif what == 2:
        parts[i] = (draw.choice((other, "x.npy", "../" + name, "/" + name, name + "/", "\x01", "a" * 60_000)), first)
    elif what == 3:
        parts[i], parts[j] = (name, second), (other, first)
    elif what == 4:
        return archived(parts, draw.choice((8, 12, 14)))
    elif what == 5:
        parts[i] = (name, flip(first, draw))
    else:
        header = draw.choice((b"(99999999999,)", b"(-1,)", b"(3, 4), 'x': ((((((((1", b"()", b"(" * 500, b"'|O'", b"'<f8'"))
        parts[i] = (name, first[:10] + header.ljust(int.from_bytes(first[8:10], "little"))[:1000] + first[128:])
    return archived(parts)


def edit_text(content: bytes, draw: random.Random) -> bytes:
    """Something in the text replaced by something hostile; most of the time the digests are written anew."""
    parts = members(content)
    text = json.loads(parts[TEXT])
    holder, key = text, draw.choice(list(text))
    while isinstance(holder[key], (dict, list)) and holder[key] and draw.random() < 0.8:
        holder = holder[key]
        key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
    if draw.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = copy.deepcopy(draw.choice(HOSTILE))
    if draw.random() < 0.7 and isinstance(text.get("run"), dict):
        text["digest"], text["text"] = State(arrays(parts), text["run"]).digest(), checkpoint._sha256(text["run"])
    parts[TEXT] = json.dumps(text).encode()
    return archived(list(parts.items()))


def edit_array(content: bytes, draw: random.Random) -> bytes:
    """Numbers in an array replaced, NaN among them, or the array cut short; the digest is written anew."""
    parts = members(content)
    held = arrays(parts)
    name = draw.choice(list(held))
    changed = held[name].copy().reshape(-1)
    if changed.size:
        changed[draw.randrange(changed.size)] = draw.choice((np.nan, np.inf, 0, 1e30)) if changed.dtype.kind == "f" else draw.choice((-1, 0, 1 << 40))
    held[name] = changed[:-1] if draw.random() < 0.2 else changed.reshape(held[name].shape)
    with tempfile.NamedTemporaryFile() as file:
        checkpoint.save(file.name, State(held, json.loads(parts[TEXT])["run"]))
        return Path(file.name).read_bytes()


def arrays(parts: dict[str, bytes]) -> dict[str, np.ndarray]:
    return {name.removesuffix(".npy"): np.load(io.BytesIO(part), allow_pickle=False) for name, part in parts.items() if name != TEXT}


KINDS = (flip, truncate, grow, edit_header, edit_members, edit_text, edit_array)


def everything(state: State) -> tuple[str, dict]:
    """What must agree: digest and "run", the clock too; not that it went on elsewhere, which is noted on the way."""
    run = json.loads(json.dumps(state.run))
    run["record"].get("environment", {}).pop("continued", None)
    return state.digest(), run


def stopped(path: Path) -> None:
    """A checkpoint of a run stopped in its second epoch."""
    begun = training(0)
    for _ in range(5):
        begun.train_step()
    begun.seconds = 1.0  # no clock: the same file every time
    begun.end_epoch()
    for _ in range(3):
        begun.train_step()
    begun.seconds = 0.5
    checkpoint.save(path, checkpoint.capture(begun))


def main(count: int, seed: int, megabytes: int) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.npz"
        stopped(path)
        content = path.read_bytes()
        checkpoint.restore(whole := training(1), path, 2)  # the file itself loads, and everything is imported
        original = everything(checkpoint.capture(whole))
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20),) * 2)
        tally = {kind.__name__: {"refused": 0, "loaded": 0} for kind in KINDS}
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            path.write_bytes(kind(content, random.Random(f"{seed}-{number}")))
            fresh = training(2)
            before = everything(checkpoint.capture(fresh))
            signal.alarm(20)  # a hang ends the process
            try:
                checkpoint.restore(fresh, path, 2)
            except MinimaskError as error:
                assert len(str(error)) < 2000, (number, "a long sentence")
                assert everything(checkpoint.capture(fresh)) == before, (number, "refused, but not left alone")
                tally[kind.__name__]["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"file {number} of seed {seed}, {kind.__name__}: {error!r}") from error
            else:
                got = everything(checkpoint.capture(fresh))
                if got != original:  # then the file must be one that says so, under a digest that is right
                    assert kind in (edit_text, edit_array), (number, kind.__name__, "a wrong success")
                    promised = checkpoint.load(path)
                    assert got == everything(promised), (number, kind.__name__, "not what the file says")
                tally[kind.__name__]["loaded"] += 1
            signal.alarm(0)
    print(json.dumps(tally))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
