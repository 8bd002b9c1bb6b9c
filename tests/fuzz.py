"""Damaged data files through the loaders, in a process of bounded memory: `python tests/fuzz.py SEED COUNT`.

Each case takes a small data set, damages one of its files, and loads it. It may end in two ways: in MinimaskError, or
in a data set that is exactly what the files' bytes say, decoded here by other code; that is a wrong success where

- a checksum is known and was to be kept, and the content is not the original one,
- the arrays are not the decompressed bytes of the files, or have another shape than the table says,
- a label is outside of 0..classes-1.

Pixels and labels of an unverified file may be any that are in range: nobody can know better. Everything else is a
finding: another exception, MemoryError too, a case that takes over SECONDS, a file that an archive put elsewhere.
Prints a JSON object: how many cases ended how, and the findings, each with the number that repeats it.
"""

import contextlib
import gzip
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import hostile
import numpy as np

from minimask import MinimaskError, data
from minimask.data import archive
from minimask.data import files as datafiles
from minimask.data.files import FileSet

SPACE = 24 << 20  # bytes of address space that loading a small set may take beyond what the process has
LARGE = 72 << 20  # and for one with a file of 47 MB
SECONDS = 20  # for one case


class Hang(BaseException):
    pass


class WrongSuccess(Exception):
    pass


def alarm(*_):
    raise Hang


@contextlib.contextmanager
def bounded(space):
    """So much address space and no more inside the block."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + space, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# ---- damage ----------------------------------------------------------------------------------------------------------


def flip(rng, content):
    """1 to 8 bits, half of the time near the beginning."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(min(len(changed), rng.choice([24, 1 << 30]))))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(rng, content):
    return content[:int(rng.integers(0, rng.choice([min(40, len(content)), len(content)])))]


def grow(rng, content):
    more = int(rng.choice([1, 7, 1000, 3 << 20]))
    return content + [bytes(more), rng.bytes(more), content][int(rng.integers(3))]


def splice(rng, content):
    """A run of bytes taken out, doubled, or overwritten with noise."""
    a, b = sorted(int(i) for i in rng.integers(0, len(content), 2))
    return [content[:a] + content[b:], content[:b] + content[a:], content[:a] + rng.bytes(b - a) + content[b:]][
        int(rng.integers(3))]


def edit_header(rng, content):
    """An IDX header with another type, another number of axes, axes that are huge, zero, or overflow when multiplied."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 3))):
        place = int(rng.integers(4))
        if place < 2:
            changed[2 + place] = int(rng.choice([0, 1, 2, 3, 4, 8, 9, 0x0D, 0x0E, 127, 255]))
        else:
            axis = 4 * int(rng.integers(1, 4))
            value = int(rng.choice([0, 1, 2, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]))
            changed[axis:axis + 4] = value.to_bytes(4, "big")
    return bytes(changed)


def edit_labels(rng, content):
    """A byte in fifty becomes anything: in label files, and in CIFAR's label bytes, out of range."""
    values = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(values), max(1, len(values) // 50))
    values[places] = rng.integers(0, 256, len(places))
    return values.tobytes()


def bomb(rng, content):
    """Zeros without end behind what should be there, or in its place."""
    return content[:int(rng.choice([0, 16, len(content)]))] + bytes(int(rng.choice([1 << 20, 120 << 20])))


def nothing(rng, content):
    return content


DAMAGE = (flip, flip, flip, truncate, truncate, grow, splice, edit_header, edit_header, edit_labels, bomb, nothing)


def damaged(rng, content, packed):
    """What is on disk in the place of `content`: damaged before it is packed, or after, or both."""
    how = DAMAGE[int(rng.integers(len(DAMAGE)))]
    if not packed:
        return how(rng, content)
    inner = how(rng, content)
    if how is bomb or rng.integers(2):
        return gzip.compress(inner, 1, mtime=0)
    outer = DAMAGE[int(rng.integers(len(DAMAGE)))]
    if outer is bomb:
        outer = flip
    return outer(rng, gzip.compress(content, 1, mtime=0))


# ---- the cases -------------------------------------------------------------------------------------------------------


def decoded(folder, files):
    """The content of the set's files, by the other way to decompress."""
    contents = []
    for file in files.files:
        path = folder / file.name
        content = (path if path.exists() else folder / f"{file.name}.gz").read_bytes()
        contents.append(gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content)
    return contents


def check_success(dataset, contents, originals, files, verified):
    """WrongSuccess unless the data set is what the contents say."""
    if verified and contents != originals:
        raise WrongSuccess("other content than the checksum's")
    for file, content in zip(files.files, contents):
        if len(content) != file.size or not content.startswith(file.header):
            raise WrongSuccess(f"{file.name}: size or header")
    if dataset.name in ("mnist", "fashion-mnist"):
        parts = [np.frombuffer(c[len(f.header):], np.uint8).reshape(f.shape) for f, c in zip(files.files, contents)]
        expected = (parts[0][..., None], parts[1], parts[2][..., None], parts[3])
    else:
        rows = [[c[i:i + f.shape[1]] for i in range(0, len(c), f.shape[1])] for f, c in zip(files.files, contents)]
        train, test = [row for part in rows[:-1] for row in part], rows[-1]

        def images(part):
            return np.array([[[[r[len(r) - 3072 + 1024 * c + 32 * y + x] for c in range(3)] for x in range(32)]
                              for y in range(32)] for r in part], np.uint8)

        expected = (images(train), np.array([r[len(r) - 3073] for r in train]), images(test),
                    np.array([r[len(r) - 3073] for r in test]))
    found = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    for part, (a, b) in enumerate(zip(found, expected)):
        if a.shape != b.shape or not np.array_equal(a, b):
            raise WrongSuccess(f"part {part}: {a.shape} for {b.shape}, or other values")
    for labels in (found[1], found[3]):
        if labels.min() < 0 or labels.max() >= len(dataset.classes):
            raise WrongSuccess("labels out of range")


SMALL = {"mnist": hostile.small_mnist(12), "fashion-mnist": hostile.small_mnist(12, verified=False),
         "cifar10": hostile.small_cifar("cifar10", 2), "cifar100": hostile.small_cifar("cifar100", 2)}


def loader_case(rng, folder):
    """One damaged file of a small set, raw or packed, through data.load."""
    name = str(rng.choice(list(SMALL)))
    files, _, contents, _ = SMALL[name]
    below = folder / files.below
    below.mkdir()
    target, packed = int(rng.integers(len(files.files))), bool(rng.integers(2))
    called = packed != (rng.integers(5) == 0)  # one in five has a name that says the other thing
    for i, (file, content) in enumerate(contents.items()):
        on_disk = damaged(rng, content, packed) if i == target else content
        (below / (f"{file}.gz" if i == target and called else file)).write_bytes(on_disk)
    allow = bool(rng.integers(3))
    with bounded(SPACE):
        dataset = data.load(name, folder, allow)
    verified = not allow and files.verified
    check_success(dataset, decoded(below, files), list(contents.values()), files, verified)


def archive_case(rng, folder):
    """A damaged archive through archive.extract: right files, or none, and nothing anywhere else."""
    files, _, contents, packed = SMALL["cifar10"]
    content = packed if rng.integers(3) == 0 else gzip.decompress(packed)
    broken = (truncate, flip, splice, grow)[int(rng.integers(4))](rng, content)
    if content is not packed:
        if rng.integers(2):  # somewhere in a member's header, where it hurts
            place = bytearray(content)
            at = 512 * int(rng.integers(len(content) // 512))
            for _ in range(int(rng.integers(1, 5))):
                place[at + int(rng.integers(512))] = int(rng.integers(256))
            broken = bytes(place)
        broken = gzip.compress(broken, 1, mtime=0)
    (folder / "x.tar.gz").write_bytes(broken)
    (folder / "in").mkdir()
    try:
        with bounded(SPACE):
            archive.extract(folder / "x.tar.gz", files, files.files, folder / "in")
    except MinimaskError:
        if os.listdir(folder / "in"):
            raise WrongSuccess("files of a refused archive are left") from None
        raise
    finally:
        if sorted(os.listdir(folder)) != ["in", "x.tar.gz"]:
            raise WrongSuccess("something beside the folder")
    if {path.name: path.read_bytes() for path in (folder / "in").iterdir()} != contents:
        raise WrongSuccess("other files than the right ones")


def large_case(rng, folder):
    """A file of the real MNIST's size: a wrong header before 47 MB or beyond, raw (with holes) or packed."""
    real = FileSet("fashion-mnist", datafiles.mnist_files(None, None, None, None))
    below = folder / real.below
    below.mkdir()
    header = edit_header(rng, real.files[0].header) if rng.integers(2) else real.files[0].header
    size = int(rng.choice([0, 100, 47_039_999, 47_040_001, 1 << 28, 1 << 33]))
    if rng.integers(2):
        with open(below / real.files[0].name, "wb") as file:
            file.write(header)
            file.truncate(len(header) + size)
    else:
        with gzip.open(below / f"{real.files[0].name}.gz", "wb", 1) as packed:
            packed.write(header)
            for _ in range(0, min(size, 120 << 20), 1 << 20):
                packed.write(bytes(1 << 20))
    with swapped({"fashion-mnist": real}), bounded(LARGE):
        data.load("fashion-mnist", folder)
    raise WrongSuccess("three files are missing")


@contextlib.contextmanager
def swapped(sets):
    kept = dict(datafiles.SETS)
    datafiles.SETS.update(sets)
    try:
        yield
    finally:
        datafiles.SETS.update(kept)


def one(seed, number, folder):
    """How case `number` of `seed` ends: "success", "refused", or a finding."""
    rng = np.random.default_rng([seed, number])
    case = archive_case if number % 10 == 9 else large_case if number % 66 == 0 else loader_case
    signal.alarm(SECONDS)
    try:
        case(rng, folder)
        return "success"
    except MinimaskError as error:
        return "refused" if "\n" not in str(error) and str(error) else f"{number}: not one sentence: {error}"
    except (Exception, Hang) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{number}: {case.__name__}: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    finally:
        signal.alarm(0)


def run(seed, numbers):
    ends = {"success": 0, "refused": 0, "findings": []}
    with tempfile.TemporaryDirectory() as temporary, swapped({name: small[0] for name, small in SMALL.items()}), \
            warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for number in numbers:
            folder = Path(temporary, str(number))
            folder.mkdir()
            end = one(seed, number, folder)
            if end in ends:
                ends[end] += 1
            else:
                ends["findings"].append(end)
            shutil.rmtree(folder)
    return ends


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, alarm)
    print(json.dumps(run(int(sys.argv[1]), range(int(sys.argv[2])))))
