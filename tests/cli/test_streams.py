"""What a command prints, and on what: streams that are full, closed, left by their reader, or of few letters."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from minimask import __main__, train
from minimask.__main__ import main
from minimask.cli import common, streams

pytestmark = pytest.mark.once
TRAIN = "train digits --epochs 2 --quiet --out a"


def shell(line, folder, **environment):
    """A line of shell, where $MINIMASK is the command. Without matplotlib, whose pictures take longer than the rest."""
    (folder / "matplotlib.py").write_text("raise ImportError")
    command = f"{sys.executable} -m minimask"
    return subprocess.run(["bash", "-c", line.replace("$MINIMASK", command)], cwd=folder, capture_output=True, timeout=120,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment})


class Full(io.StringIO):
    """A device without room: what is written is refused when it is flushed, or at once."""

    def __init__(self, error=None, at="flush"):
        super().__init__()
        self.error, self.at, self.tried = error or OSError(28, "No space left on device"), at, 0

    def flush(self):
        self.tried += 1
        if self.at == "flush":
            raise self.error

    def write(self, text):
        self.tried += 1
        if self.at == "write":
            raise self.error
        return super().write(text)


def test_a_full_stderr_ends_no_run(tmp_path, monkeypatch, capsys):
    """A warning after every epoch, as where the disk is full, and none of them can be told: all epochs are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common.runs, "write_pictures", lambda *_: [])
    monkeypatch.setattr(sys, "stderr", full := Full(at="write"))
    real = train.Called.epoch

    def warned(self, *arguments):
        import warnings

        warnings.warn("something is lacking", UserWarning, stacklevel=2)
        real(self, *arguments)

    monkeypatch.setattr(train.Called, "epoch", warned)
    assert main(TRAIN.replace("2", "4").split()) == 0
    assert full.tried == 1 and sys.stderr is full
    assert len(common.runs.read_record(tmp_path / "a")["epochs"]) == 4
    assert "test accuracy" in capsys.readouterr().out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(("line", "status", "error"), [
    (f"$MINIMASK {TRAIN} 2>/dev/full", 0, b""),
    (f"$MINIMASK {TRAIN} >&-", 0, b""),
    (f"$MINIMASK {TRAIN} >&- 2>&- <&-", 0, b""),
    ("$MINIMASK train nothing 2>&-", 2, b""),
    (f"$MINIMASK {TRAIN} >/dev/full", 1, b"minimask: the output could not be written: No space left on device; all else is "
                                         b"done\n"),
    ("$MINIMASK --help >/dev/full", 1, b"minimask: the output could not be written: No space left on device; all else is "
                                       b"done\n"),
    ("$MINIMASK recipes >/dev/full 2>/dev/full", 1, b"")])
def test_a_stream_that_takes_nothing(line, status, error, tmp_path):
    """One that is closed is no failure, since nobody has asked to read; one that is full is, when all else is done."""
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr) == (status, error)
    if "train digits" in line:
        names = {"record.json", "network.npz", "checkpoint.npz"}
        assert names <= set(os.listdir(tmp_path / "a"))


def test_files_opened_later_do_not_take_a_closed_streams_number(tmp_path):
    """With stdout closed, the next file opened would be number 1, and whatever prints there would print into it."""
    code = ("import os, sys; sys.argv = ['x']; from minimask.cli import streams\n"
            "with streams.steady():\n"
            "    print('lost'); sys.stdout.flush(); os.write(1, b'lost, too')\n"
            "    print(min(os.open('f', os.O_CREAT | os.O_WRONLY), 3), file=sys.stderr)\n")
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" >&- <&-', sys.executable, code], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr, (tmp_path / "f").read_bytes()) == (0, b"3\n", b"")


def test_a_reader_that_leaves_ends_a_command_that_prints_and_no_run(tmp_path):
    """Quiet, and 128 + SIGPIPE, as a shell shows for cat; a run is whole all the same.

    The reader has left before the first word. Where every line is written at once (-u), the first one meets nobody;
    else all of them at the end.
    """
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        for at_once, words in (("", "recipes"), ("-u", "recipes"), ("", TRAIN), ("-u", TRAIN)):
            done = subprocess.run([sys.executable, *at_once.split(), "-m", "minimask", *words.split()], cwd=tmp_path, stdout=writer,
                                  stderr=subprocess.PIPE, timeout=120)
            assert (done.returncode, done.stderr) == (141, b"")
            if words == TRAIN:
                assert len(common.runs.read_record(tmp_path / "a")["epochs"]) == 2
                assert (tmp_path / "a/network.npz").exists()
                shutil.rmtree(tmp_path / "a")
    finally:
        os.close(writer)


def test_a_reader_that_leaves_stops_a_printing_command_in_the_middle(monkeypatch):
    """It does not go on to classify a million images that nobody reads of."""
    printed = []

    def command(words):
        for number in range(100):
            print(number)
            sys.stdout.flush()
            printed.append(number)

    monkeypatch.setattr("minimask.cli.predict.command", command)
    monkeypatch.setattr(sys, "stdout", Full(BrokenPipeError(32, "Broken pipe")))
    assert main(["predict"]) == 141 and printed == []
    monkeypatch.setattr("minimask.cli.train.command", command)
    assert main(["train"]) == 141 and len(printed) == 100


def test_the_broken_pipe_of_something_else_is_an_error(monkeypatch, capsys):
    def command(words):
        raise BrokenPipeError(32, "Broken pipe", "a-socket")

    monkeypatch.setattr("minimask.cli.predict.command", command)
    assert main(["predict"]) == 1
    assert capsys.readouterr().err == "minimask: a-socket: Broken pipe\n"


def test_a_terminal_of_few_letters_spells_the_others(tmp_path):
    done = shell("$MINIMASK train digits --epochs 1 --out é--", tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"in \\xe9--/: record.json" in done.stdout and b"digits epoch 1/1 \\xb7 loss" in done.stderr


def test_the_streams_are_as_before_afterwards(monkeypatch, tmp_path):
    """Of a process that calls main(): the very streams, and what they do with letters that they have not."""
    out = io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["recipes", "digits"]) == 0
    assert sys.stdout is out and out.errors == "strict"
    with pytest.raises(RuntimeError), streams.steady():
        print("é")
        raise RuntimeError
    assert sys.stdout is out and out.errors == "strict"
    assert out.buffer.getvalue().endswith(b"\\xe9\n")


def test_progress_spells_letters_that_the_stream_has_not():
    """From Python, where nobody has changed the stream: a line would be lost."""
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict")
    train.Progress("é", stream, pause=0, clock=iter(range(9)).__next__).epoch(
        {"epoch": 1, "train_loss": 0.5, "test_accuracy": 0.5, "weights_left": 0.5}, 2)
    assert stream.buffer.getvalue().startswith(rb"\xe9 epoch 1/2 \xb7 loss 0.5000 \xb7 test 50.00%")


# ---- Ctrl-C before there is anything to save ----------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_while_the_package_is_imported_shows_no_traceback(tmp_path):
    """In the middle of the import of NumPy, here held up; the same program, imported by somebody else, keeps its own."""
    (tmp_path / "numpy.py").write_text("import os, sys, time\nos.write(2, b'!')\ntime.sleep(60)\n")
    root = os.path.dirname(os.path.dirname(__main__.__file__))
    for words, quiet in ((["-m", "minimask"], True), (["-c", "import minimask"], False)):
        with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, cwd=tmp_path,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), root])},
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as process:
            try:
                assert process.stderr.read(1) == b"!"
                time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                _, error = process.communicate(timeout=60)
            finally:
                process.kill()
        assert (error == b"") == quiet and (b"Traceback" in error) != quiet
        assert process.returncode == -signal.SIGINT  # which a shell shows as 130


@pytest.mark.parametrize("at", ["first", "second"])
def test_ctrl_c_in_main_is_a_sentence(at, monkeypatch, capsys):
    """And once more while that is being said."""
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__.importlib, "import_module", interrupted)
    if at == "second":
        monkeypatch.setattr(__main__, "_fail", interrupted)
    assert main(["report", "a"]) == 130
    assert capsys.readouterr().err == ("minimask: interrupted\n" if at == "first" else "")


def test_a_steady_stream_tries_once():
    for at in ("write", "flush"):
        stream = streams.Steady(full := Full(ValueError("I/O operation on closed file"), at))
        print("a", file=stream, flush=True)
        tried = full.tried
        print("b", file=stream, flush=True)
        assert isinstance(stream.error, ValueError) and full.tried == tried
    assert stream.getvalue is not None and stream.isatty() is False  # what is no writing is the stream's own
