"""Mutated files of all other formats that are read, in bounded memory: python fuzz_files.py COUNT SEED MEGABYTES.

Records, sweep.json, recipes, networks, masks, .npy, PNG and IDX images, in turn; checkpoints, .mmk and data sets have a
fuzzer of their own (fuzz_checkpoint.py, fuzz_export.py, fuzz.py). Run by test_fuzz_files.py in a process of its own.
Every mutated file must be refused with a MinimaskError of one line, or give what can be checked here: a net with the
masks that its record counts, the array that NumPy reads, images of the net's shape. Anything else, a hang too, ends the
process with the seed and the number of the file. Prints, for every format, how many were refused and how many loaded.
"""

import copy
import gzip
import io
import json
import random
import resource
import signal
import sys
import tempfile
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import fuzz_checkpoint
import numpy as np

from minimask import MinimaskError, data, recipes, runs
from minimask.data import images
from minimask.runs import compare, records, report, sweep

SECONDS = 60  # for one file
#: What a value of a text is replaced by.
HOSTILE = [None, True, -1, 0, 1, 7, 0.5, 1e308, -1e308, 2**31, 2**53, 2**63, 10**30, 10**400, "", "x", "\x1b[2J", "<b>", "../..", "/", "a" * 20_000,
           [], {}, [[]], [{}], {"a": []}, [None] * 50, {"name": "x"}, "digits", "fcn", "numpy"]
SHAPE = (4, 6, 1)


def flip(content, draw):
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content, draw):
    """Bytes lost at the end or in the middle, doubled, or put in."""
    a, b = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return draw.choice((content[:a], content[:a] + content[b:], content[:b] + content[a:], content[:a] + draw.randbytes(9) + content[a:],
                        content + bytes(draw.choice((1, 1000))), b""))


def edited(value, draw):
    """Plain data with something in it replaced, lost, doubled or renamed."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        holder = value
        if not holder:
            break
        key = draw.choice(list(holder))
        while isinstance(holder[key], (dict, list)) and holder[key] and draw.random() < 0.85:
            holder = holder[key]
            key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
        what = draw.random()
        if what < 0.15:
            del holder[key]
        elif what < 0.25 and isinstance(holder, dict):
            holder[draw.choice(("x", "\x1b[2J", "a" * 5000, "name"))] = holder.pop(key)
        elif what < 0.3 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif what < 0.5 and type(holder[key]) in (int, float):
            holder[key] += draw.choice((-1, 1, 0.5, holder[key]))
        else:
            holder[key] = copy.deepcopy(draw.choice(HOSTILE))
    return value


def edit_json(content, draw):
    text = json.dumps(edited(json.loads(content), draw)).encode()
    if draw.random() < 0.1:
        text = draw.choice((b"[" * 100_000, b"{}", b"null", b"[]", text.replace(b"1", b"NaN"), b'{"a":' * 5000, b"\xff" + text,
                            text.replace(b"1", b"9" * 5000), b" " * 100_000 + text, b"", text.replace(b"0", b"1e999")))
    return text


def edit_toml(content, draw):
    """Values and lines of a recipe, and what only TOML 1.1 has."""
    lines = content.decode().splitlines()
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(lines))
        name = lines[at].partition("=")[0]
        value = draw.choice(("nan", "inf", "-1", "0", "1e308", "9" * 5000, '"x"', '"\\u001b[2J"', "[]", "{}", "[[1]]", "true", "1979-05-27", "'",
                             "{a = 1,}", '"\\e"', "[" * 2000, '"' + "a" * 20_000 + '"', "2", "0.5", '"edge-popup"', '"digits"', '"conv8"', "100000000000000000000"))
        lines[at] = draw.choice((f"{name}= {value}", "", lines[at] + "\n" + lines[at], f"[{name.strip()}]", f"{value} = 1", f"a.b.{name}= {value}"))
    return "\n".join(lines).encode()


def edit_array(content, draw):
    """A network or masks whose archive is right, with other numbers, dtypes or shapes in an array."""
    arrays = fuzz_checkpoint.arrays(fuzz_checkpoint.members(content))
    name = draw.choice(list(arrays))
    changed = np.array(arrays[name]).reshape(-1)
    if changed.size:
        places = [draw.randrange(changed.size) for _ in range(draw.choice((1, 1, 50)))]
        with np.errstate(over="ignore"):
            changed[places] = draw.choice((np.nan, np.inf, -1, 0, 1, 1e30)) if changed.dtype.kind == "f" else draw.choice((-1, 0, 1, 2))
    changed = changed.reshape(arrays[name].shape)
    arrays[name] = draw.choice((changed, changed, changed, changed[..., None], changed.astype(draw.choice(("f8", "i8", "c8", "U3", "?")))))
    stream = io.BytesIO()
    draw.choice((np.savez, np.savez_compressed))(stream, **arrays)
    return stream.getvalue()


def edit_npy(content, draw):
    """The header of an array, at its own length or not."""
    text, rest = content[10:128].decode(), content[128:]
    text = text.replace(*draw.choice((("|u1", draw.choice(("<f8", "|O", "<U9", "<c8", "|V0", "|S0", ">i2", "M8[s]", "|b1", "f", "[('a','<i4')]", "<f99"))),
                                      ("False", draw.choice(("True", "None", "0", "1==1"))), ("(5,", draw.choice(("(-5,", "(0,", "(99999999999,", "(5,5,", "(5.0,", "((", "(True,"))),
                                      ("4, 6", draw.choice(("6, 4", "24", "1, 24", "4, 6, 1", "4, 6, 1, 1", ""))), ("shape", "shopé"), ("}", "}" * 40), ("{", "(" * 300))))
    body = text.encode("latin-1", "replace")
    length = len(body) if draw.random() < 0.7 else draw.randrange(1 << 16)
    return b"\x93NUMPY" + draw.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\0\0")) + length.to_bytes(2, "little") + body + rest


def edit_png(content, draw):
    """Chunks changed, doubled, lost, moved and put in, with checksums that are right."""
    chunks, at = [], 8
    while at < len(content):
        length = int.from_bytes(content[at:at + 4], "big")
        chunks.append((content[at + 4:at + 8], content[at + 8:at + 8 + length]))
        at += 12 + length
    for _ in range(draw.choice((1, 1, 2))):
        i = draw.randrange(len(chunks))
        kind, body = chunks[i]
        what = draw.randrange(5)
        if what == 0 and body:
            chunks[i] = kind, flip(body, draw)
        elif what == 1:
            chunks.insert(draw.randrange(len(chunks)), chunks[i])
        elif what == 2:
            del chunks[i]
        elif what == 3:
            header = bytearray(chunks[0][1] if len(chunks[0][1]) == 13 else bytes(13))
            header[draw.randrange(13)] = draw.choice((0, 1, 2, 3, 4, 6, 8, 16, 127, 255))
            chunks.insert(draw.choice((0, 1)), (b"IHDR", bytes(header)))
        else:
            chunks.insert(draw.randrange(len(chunks) + 1), (draw.choice((b"tEXt", b"tRNS", b"PLTE", b"gAMA", b"IDAT", b"acTL", b"abcd")), draw.randbytes(draw.choice((0, 1, 6, 300)))))
        if not chunks:
            break
    return content[:8] + b"".join(len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks)


def edit_idx(content, draw):
    """The header: another type, another number of axes, axes that are huge or zero; packed or not."""
    packed = content[:2] == b"\x1f\x8b"
    inner = bytearray(gzip.decompress(content) if packed else content)
    place = draw.choice((2, 3, 4, 8, 12))
    if place < 4:
        inner[place] = draw.choice((0, 1, 2, 4, 8, 9, 13, 255))
    else:
        inner[place:place + 4] = draw.choice((0, 1, 4, 6, 255, 1 << 16, (1 << 31) - 1, (1 << 32) - 1)).to_bytes(4, "big")
    return gzip.compress(bytes(inner), 1, mtime=0) if packed else bytes(inner)


# ---- the formats: how a file is read, and what must hold where it is taken -------------------------------------------


def read_record(path):
    """As report, export, compare and inspect do."""
    reading = records.read([path.parent])
    groups = records.groups(reading.runs)
    assert report.left_out(reading) or groups, "a record that nobody names"
    if groups:
        report.results(groups), report.making(groups), report.charts(groups)
    read_network(path)


def read_network(path):
    net, record = runs.load(path.parent)
    if record["epochs"]:
        counted = [[layer[part] for part in ("kept", "hidden", "inverted")] for layer in record["epochs"][-1]["layers"]]
        assert counted == [list(counts) for counts in net.counts()], "a wrong success"


def read_sweep(path):
    sweep.read_index(path.parent)
    sweep.claim(path.parent, sweep.tasks([recipes.find("digits")], range(2), path.parent))


def read_recipe(path):
    recipe = recipes.find(str(path))
    assert recipes.from_dict(recipe.as_dict()) == recipe and recipe.size() > 0


def read_masks(path):
    side = compare.read(path)
    compare.table(compare.overlaps(side.masks, side.masks))


def read_image(path):
    found = images.read(path, SHAPE)
    assert found.shape[1:] == SHAPE and found.dtype.kind in "iuf", "a wrong success"
    if path.suffix == ".npy":
        assert np.array_equal(found, np.load(path, allow_pickle=False).reshape(found.shape), equal_nan=True), "a wrong success"


def formats(folder):
    """Name -> (path that is read, contents that are right, mutations, reader)."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (5, *SHAPE[:2])).astype(np.uint8)
    for name in ("run", "net"):
        runs.run(replace(recipes.find("digits"), epochs=2), data.digits(), 0, folder / name)
    net, _ = runs.load(folder / "run")
    (folder / "sweep").mkdir()
    sweep.claim(folder / "sweep", sweep.tasks([recipes.find("digits"), recipes.find("fcn")], range(2), folder / "sweep"))
    streams = {name: io.BytesIO() for name in ("masks", "npy")}
    np.savez(streams["masks"], **net.masks())
    np.save(streams["npy"], grey)
    idx = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in grey.shape) + grey.tobytes()
    archive = (fuzz_checkpoint.edit_header, fuzz_checkpoint.edit_members, edit_array, edit_array)
    found = {
        "record": (folder / "run/record.json", [(folder / "run/record.json").read_bytes()], (edit_json, edit_json, edit_json), read_record),
        "sweep": (folder / "sweep/sweep.json", [(folder / "sweep/sweep.json").read_bytes()], (edit_json, edit_json), read_sweep),
        "recipe": (folder / "my.toml", [recipes.find(name).toml().encode() for name in ("digits", "resnet20", "fcn-edge-popup")],
                   (edit_toml, edit_toml, edit_toml), read_recipe),
        "network": (folder / "net/network.npz", [(folder / "net/network.npz").read_bytes()], archive, read_network),
        "masks": (folder / "masks.npz", [streams["masks"].getvalue()], archive, read_masks),
        "npy": (folder / "a.npy", [streams["npy"].getvalue()], (edit_npy, edit_npy), read_image),
        "idx": (folder / "a.idx", [idx, gzip.compress(idx, mtime=0)], (edit_idx, edit_idx), read_image)}
    try:
        from PIL import Image
    except ImportError:
        return found
    pictures = []
    for picture in (Image.fromarray(grey[0]), Image.fromarray(grey[0]).convert("RGBA"), Image.fromarray(grey[0]).convert("P")):
        stream = io.BytesIO()
        picture.save(stream, "png")
        pictures.append(stream.getvalue())
    found["png"] = (folder / "a.png", pictures, (edit_png, edit_png), read_image)
    return found


def main(count, seed, megabytes):
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        found = formats(Path(temporary))
        for path, originals, _, read in found.values():
            for content in originals:  # they are taken, and everything is imported
                path.write_bytes(content)
                read(path)
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20),) * 2)
        tally = {name: {"refused": 0, "loaded": 0} for name in found}
        for number in range(count):
            name = list(found)[number % len(found)]
            path, originals, mutations, read = found[name]
            draw = random.Random(f"{seed}-{number}")
            path.write_bytes(draw.choice((flip, cut, *mutations))(draw.choice(originals), draw))
            signal.alarm(SECONDS)  # a hang ends the process
            try:
                read(path)
                tally[name]["loaded"] += 1
            except MinimaskError as error:
                assert 0 < len(str(error)) < 2000 and "\n" not in str(error), (number, str(error))
                tally[name]["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"file {number} of seed {seed}, {name}: {error!r}") from error
            signal.alarm(0)
    print(json.dumps(tally))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
