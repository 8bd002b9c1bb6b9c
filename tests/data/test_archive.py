"""Data sets that come in an archive: what is taken out of it, and what an archive cannot do."""

import gzip
import os
import tarfile

import hostile
import pytest
from served import is_whole

from minimask import MinimaskError
from minimask.data import archive, fetch
from minimask.data.files import DataError


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
