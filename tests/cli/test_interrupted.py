"""Wherever a signal reaches `train` or `sweep`, the last line says how to go on, or that all is done; and that is so."""

import concurrent.futures
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from minimask import __main__, checkpoint, runs
from minimask.__main__ import main
from minimask.cli import common, train
from minimask.cli import sweep as cli_sweep
from minimask.runs import folder, sweep, workers

pytestmark = [pytest.mark.once, pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")]
INT, TERM = signal.SIGINT, signal.SIGTERM
TRAIN = "train digits --epochs 1 --quiet --out a"
SWEEP = "sweep digits --epochs 1 --seeds 2 --jobs 1 --quiet --out a"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to be in; no pictures, and a sweep in threads of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "Processes", concurrent.futures.ThreadPoolExecutor)
    monkeypatch.setattr(runs, "write_pictures", lambda *_: [])
    return tmp_path


def signals_at(monkeypatch, owner, name, *numbers):
    """Has the signals raised when the function is called, each while the one before is obeyed."""
    real = getattr(owner, name)

    def told(*arguments, **options):
        with contextlib.ExitStack() as stack:
            for number in reversed(numbers):
                stack.callback(signal.raise_signal, number)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, told)


def last_line(capsys):
    line, = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("owner", "name", "numbers", "says"), [
    (common.data, "load", [TERM], "interrupted before it began; the same command begins: minimask train digits --epochs 1"),
    (runs, "run", [INT], "interrupted while training digits; it had not begun, and nothing is kept; to begin: minimask"),
    (checkpoint.Keeper, "epoch", [TERM, TERM], "the network of its last whole epoch are in a; to go on: minimask train digits"),
    (folder, "write_network", [INT, INT], "its last checkpoint is in a; to go on: minimask train digits --resume --out a"),
    (train, "layer_table", [TERM], "interrupted when digits was trained to its end, which is in a; its table and pictures: "),
    (runs, "write_pictures", [INT, INT], "was trained to its end, which is in a; its table and pictures: minimask train ")])
def test_train_says_how_to_go_on(owner, name, numbers, says, place, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        signals_at(patch, owner, name, *numbers)
        assert main(TRAIN.split()) == 128 + numbers[0]
    line = last_line(capsys)
    assert says in line
    assert main(shlex.split(line.partition(": minimask ")[2])) == 0
    assert runs.finished(runs.read_record("a")) and (place / "a/network.npz").exists()


@pytest.mark.parametrize(("owner", "name", "numbers", "says"), [
    (cli_sweep, "load_data", [TERM], "interrupted before a run was begun; the same command begins: minimask sweep digits"),
    (sweep.files, "claim", [INT], "interrupted before a run was begun; the same command begins: minimask sweep digits"),
    (cli_sweep.View, "stop", [TERM], "interrupted; all 2 runs are done, in {out}; the same command shows their table: "),
    (cli_sweep, "columns", [INT, INT], "interrupted; all 2 runs are done, in {out}; the same command shows their table: "),
    (cli_sweep, "_epochs", [TERM, TERM], "interrupted; all 2 runs are done, in {out}; the same command shows their table: ")])
def test_sweep_says_how_to_go_on(owner, name, numbers, says, place, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        signals_at(patch, owner, name, *numbers)
        assert main(SWEEP.split()) == 128 + numbers[0]
    line = last_line(capsys)
    assert says.format(out=place / "a") in line and line.endswith(f"minimask {SWEEP}")
    assert main(SWEEP.split()) == 0
    assert all(runs.finished(runs.read_record(f"a/digits-seed{seed}")) for seed in (0, 1))


def test_what_overwrites_goes_on_without_overwriting(place, monkeypatch, capsys):
    """The line names the command that keeps what has just been trained; before that, the one that was given."""
    for words, owner, name in ((SWEEP, cli_sweep, "columns"), (TRAIN, train, "layer_table")):
        assert main(words.split()) == 0
        for patched, overwrites in (("load_data", True), (name, False)):
            capsys.readouterr()
            with monkeypatch.context() as patch:
                signals_at(patch, owner, patched, TERM)
                assert main([*words.split(), "--overwrite"]) == 143
            line = last_line(capsys)
            assert line.startswith("minimask: interrupted") and ("--overwrite" in line) == overwrites
        (place / "a").rename(place / words.split()[0])


def test_a_run_that_was_there_is_not_taken_for_the_one_that_had_not_begun(place, monkeypatch, capsys):
    assert main(TRAIN.split()) == 0
    before = (place / "a/record.json").read_bytes()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        signals_at(patch, runs, "run", INT)
        assert main([*TRAIN.split(), "--overwrite", "--seed", "1"]) == 130
    assert last_line(capsys) == ("minimask: interrupted while training digits; it had not begun, and a holds what it held; "
                                 "the same command begins")
    assert (place / "a/record.json").read_bytes() == before


def test_before_the_command_is_there_and_after_its_last_word(place, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        signals_at(patch, __main__.importlib, "import_module", TERM)
        assert main(TRAIN.split()) == 143
        assert last_line(capsys) == f"minimask: interrupted; the same command begins, or says how to go on: minimask {TRAIN}"
        assert main(["report", "a"]) == 143 and last_line(capsys) == "minimask: interrupted"
    signals_at(monkeypatch, __main__, "_printed", INT)
    assert main(["recipes"]) == 130 and capsys.readouterr().err == ""


@pytest.mark.parametrize("count", [2, 3])
def test_ctrl_c_again_ends_a_sweep_at_once_and_it_goes_on(count, tmp_path):
    """While its processes save, or do not come to it: no process, lock or sign to stop is left, and no traceback."""
    words = "sweep digits --epochs 100000 --seeds 2 --jobs 2 --quiet --out a".split()
    process = subprocess.Popen([sys.executable, "-m", "minimask", *words], cwd=tmp_path, text=True, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while not all((tmp_path / f"a/digits-seed{seed}/record.json").exists() for seed in (0, 1)):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        holders = [int((tmp_path / f"a/digits-seed{seed}/.lock").read_text()) for seed in (0, 1)]
        for holder in holders:
            os.kill(holder, signal.SIGSTOP)  # it does not come to its saving
        for _ in range(count):
            process.send_signal(INT)
            time.sleep(0.3)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130
        assert error == ("minimask: interrupted; 2 of 2 runs are not finished, those that had begun go on from what they "
                         f"have saved; the same command goes on from there: minimask {' '.join(words)}\n")
        for holder in holders:
            with pytest.raises(ProcessLookupError):
                os.kill(holder, 0)
        assert set(os.listdir(tmp_path / "a")) == {"sweep.json", "digits-seed0", "digits-seed1"}
        assert {path.name for path in tmp_path.glob("a/*/*")} - {".lock"} >= {"checkpoint.npz", "record.json"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
