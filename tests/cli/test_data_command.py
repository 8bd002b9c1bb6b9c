"""`minimask data fetch` and `minimask data check`."""

import os
import socket
import subprocess
import sys

import hostile
import pytest
from served import IMAGES, holds_no_data

from minimask import data, meter
from minimask.__main__ import main
from minimask.data import fetch
from minimask.data import files as datafiles
from minimask.data.files import DataError

BELOW = "cifar-10-batches-bin"


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
    assert main(arguments) == 130
    assert capsys.readouterr().err == ("minimask: interrupted; what has arrived is kept, and the same command goes on "
                                       "from there\n")
    assert (tmp_path / f"mnist/.{IMAGES}.gz.part").stat().st_size > 40_000 and holds_no_data(tmp_path)
    monkeypatch.undo()


def test_a_set_to_choose_settings_by_has_the_files_of_its_whole(mnist, tmp_path, capsys):
    assert main(words("data", "fetch", "mnist-validation", "--data", tmp_path, "--quiet")) == 0
    assert main(words("data", "check", "mnist-validation", "--data", tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"mnist: present and verified in {tmp_path / 'mnist'}"
    assert main(["data", "fetch", "digits-validation"]) == 0


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
