"""Getting the data sets: `minimask data fetch NAME`. The only place that downloads, and only when it is asked to.

What arrives is checked twice: the published file by its size and sha256, then the content by
:mod:`minimask.data.files`, which has the last word. A file is renamed into its place when it is right, never before.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import MinimaskError, UsageError, unknown
from ..files import held
from ..meter import Meter, megabytes
from . import files
from .archive import extract
from .connection import Patience, Refused
from .download import Published, check_published, download, put, size_of, writing
from .files import SETS, DataError, File, FileState

#: What the hosts publish, by data set: one file per file of the set, or one archive that holds them all.
PUBLISHED = {
    "mnist": tuple(Published(name, size, sha256, size) for name, size, sha256 in (
        ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"))),
    "fashion-mnist": tuple(Published(f"{file.name}.gz", None, None, file.packed_size)
                           for file in SETS["fashion-mnist"].files),
    "cifar10": (Published("cifar-10-binary.tar.gz", 170_052_171,
                          "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171),),
    "cifar100": (Published("cifar-100-binary.tar.gz", 168_513_733,
                           "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168_513_733),),
}
#: Where each is published; the file's name follows.
MIRRORS = {
    "mnist": ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/",),
    "cifar100": ("https://www.cs.toronto.edu/~kriz/",),
}


def fetch(name: str, folder: str | Path | None = None, overwrite: bool = False, mirrors: Sequence[str] | None = None,
          patience: Patience | None = None, meter: Meter | None = None, say: Callable[[str], object] = print) -> None:
    """Gets what a data set lacks, into its folder below `folder`; what is there and right stays untouched.

    Args:
        name: one of SETS, or one with '-validation' behind it, which has the same files.
        folder: made where it does not exist; None takes MINIMASK_DATA.
        overwrite: replace damaged files, which are left alone otherwise.
        mirrors: addresses to take in turn, in place of MIRRORS[name].
        patience, meter: how long to try, and who is told meanwhile. say: gets a line per thing done.

    Raises:
        UsageError: unknown name, or no folder.
        MinimaskError: a damaged file is there and `overwrite` is not set; no mirror has a file: then the message says
            which file to put where by hand; another process is fetching into the folder.
    """
    name = _of_files(name)
    below = files.set_folder(name, folder, must_exist=False)
    patience, meter, mirrors = patience or Patience(), meter or Meter(), mirrors or MIRRORS[name]
    lacking = _lacking(name, below, overwrite)
    if lacking:
        try:
            below.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{below} cannot be made ({error.strerror}); give another folder with --data") from error
        steps = _fetch_archive if is_archive(name) else _fetch_files
        try:
            with locked(below):
                lacking = _lacking(name, below, overwrite)  # once more: another process may just have been here
                if lacking:
                    steps(name, lacking, below, mirrors, patience, meter, say)
        except Refused as reason:
            raise MinimaskError(_by_hand(name, below, mirrors, str(reason))) from reason
        finally:
            meter.stop()
    say(f"{name}: {describe(name, below)}{'' if lacking else '; nothing to fetch'}")


def check(names: Sequence[str] = (), folder: str | Path | None = None, say: Callable[[str], object] = print) -> None:
    """Says of each data set, or of those named, how it stands below `folder`.

    Raises:
        UsageError: unknown name, or no folder.
        MinimaskError: one is damaged, or one that was named is missing.
    """
    names = [_of_files(name) for name in names]
    wrong = []
    for name in names or SETS:
        below = files.set_folder(name, folder)
        found = {file.name: files.state(below, file) for file in SETS[name].files}
        state = max(state for state, _ in found.values())
        of_that = {file: sentence for file, (file_state, sentence) in found.items() if file_state is state}
        command = f"`minimask data fetch {name} --data {below.parent}"
        if state is FileState.DAMAGED:
            say("\n  ".join([f"{name}: damaged, or not the official files; {command} --overwrite` replaces them",
                             *of_that.values()]))
        elif state is FileState.MISSING:
            listed = "" if len(of_that) == len(found) else f" (in part: {', '.join(of_that)})"
            say(f"{name}: missing{listed}; {command}` gets it{_download_size(name)}")
        else:
            say(f"{name}: {describe(name, below)}")
        if state is FileState.DAMAGED or (names and state is FileState.MISSING):
            wrong.append(f"{name} is {state.name.lower()}")
    if wrong:
        raise MinimaskError(", ".join(wrong))


def _of_files(name: str) -> str:
    """The set in SETS that has the files of data set `name`; UsageError where there is none."""
    whole = name.removesuffix("-validation")
    if whole not in SETS:
        raise unknown("dataset", name, SETS)
    return whole


def is_archive(name: str) -> bool:
    """Whether the set is published as one archive, not as a file per file."""
    return PUBLISHED[name][0].name.endswith(".tar.gz")


def _download_size(name: str) -> str:
    sizes = [one.size for one in PUBLISHED[name] if one.size is not None]
    return f" ({megabytes(sum(sizes))})" if sizes else ""


def _lacking(name: str, below: Path, overwrite: bool) -> list[File]:
    """The files that are missing, and, where they may be overwritten, those that are damaged."""
    lacking = []
    for file in SETS[name].files:
        state, wrong = files.state(below, file)
        if state is FileState.DAMAGED and not overwrite:
            raise DataError(f"{wrong}, or move it away, or let --overwrite replace it")
        if state is not FileState.WHOLE:
            lacking.append(file)
    return lacking


def _fetch_files(name: str, lacking: Sequence[File], below: Path, mirrors: Sequence[str], patience: Patience,
                 meter: Meter, say: Callable[[str], object]) -> None:
    """Gets the published .gz of each file that is lacking."""
    for file in lacking:
        wanted = next(one for one in PUBLISHED[name] if one.name == f"{file.name}.gz")
        part, target = part_of(below, wanted), below / wanted.name
        download(wanted, mirrors, part, functools.partial(files.verify, file=file, packed=True), patience, meter)
        put(part, target)
        with writing(below / file.name):
            (below / file.name).unlink(missing_ok=True)  # a damaged one that is not packed would be read first
        meter.stop()
        say(f"{target}: {megabytes(size_of(target))}")


def _fetch_archive(name: str, lacking: Sequence[File], below: Path, mirrors: Sequence[str], patience: Patience,
                   meter: Meter, say: Callable[[str], object]) -> None:
    """Gets the archive, unless it was put beside the set's folder by hand, and takes the files out of it."""
    wanted = PUBLISHED[name][0]
    by_hand, part = below.parent / wanted.name, part_of(below, wanted)
    if by_hand.is_file():
        try:
            check_published(by_hand, wanted)
        except DataError as error:
            say(f"{by_hand} is not the published file ({error}); it is left alone, and another one fetched")
        else:
            say(f"taking the files out of {by_hand}")
            return extract(by_hand, SETS[name], lacking, below)
    download(wanted, mirrors, part, lambda _: None, patience, meter)
    meter.stop()
    say(f"{wanted.name}: {megabytes(size_of(part))}, taking the files out of it")
    extract(part, SETS[name], lacking, below)
    with writing(part):
        part.unlink()


def part_of(below: Path, wanted: Published) -> Path:
    """Where a file lies while it arrives: no loader looks there."""
    return below / f".{wanted.name}.part"


def describe(name: str, below: Path) -> str:
    """The end of a sentence on a set that is whole."""
    found = (files.find(below, file) for file in SETS[name].files)
    where = " and ".join(dict.fromkeys(str(path.parent) for path in found if path)) or below
    if SETS[name].verified:
        return f"present and verified in {where}"
    return f"present, unverified, in {where} (sizes and headers are right; no official checksum is known to minimask)"


def _by_hand(name: str, below: Path, mirrors: Sequence[str], reason: str) -> str:
    """The sentence when all has failed: what to put where."""
    lacking = {f"{file.name}.gz" for file in _lacking(name, below, overwrite=True)}
    parts = [one for one in PUBLISHED[name] if is_archive(name) or one.name in lacking]
    listed = ", ".join(f"{one.name} ({one.size:,} bytes, sha256 {one.sha256})" if one.sha256 else one.name
                       for one in parts)
    put = (f"put it into {below.parent} and give the same command again" if is_archive(name)
           else f"put {'it' if len(parts) == 1 else 'them'} into {below}")
    kept = ("; what has arrived is kept, and the same command goes on from there"
            if any(size_of(part_of(below, one)) for one in parts) else "")
    return (f"{name} could not be fetched: {reason}{kept}; or by hand: get {listed} from {mirrors[0]} or elsewhere, "
            f"and {put}")


# ---- one at a time ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One fetch into a folder at a time; MinimaskError for the second. As :func:`minimask.files.held`."""
    path = folder / ".fetching"
    with contextlib.ExitStack() as stack:
        with writing(path):
            try:
                stack.enter_context(held(path))
            except BlockingIOError:
                raise MinimaskError(f"another `minimask data fetch` is at work in {folder}; wait for it to "
                                    "end") from None
        yield
