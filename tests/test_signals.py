"""What asks a process to end: SIGTERM and SIGHUP are Ctrl-C, once, and at the end of a step."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from test_train import BLOBS

from minimask import checkpoint, models, ops, optim, train
from minimask.__main__ import main
from minimask.mask import SignedSupermask
from minimask.mishaps import SIGNALS, Told, signals_end_it, uninterrupted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def tell(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
        time.sleep(0)  # lets Python see it


@pytest.fixture(autouse=True)
def handlers():
    """They are as they were, whatever a test did."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_ctrl_c(number):
    with pytest.raises(KeyboardInterrupt) as end, signals_end_it() as ear:
        tell(number)
        pytest.fail("nothing was raised")
    assert isinstance(end.value, Told) and end.value.number == ear.number == number


@pytest.mark.parametrize("number", SIGNALS)
def test_it_waits_for_the_end_of_a_step(number):
    done = []
    with pytest.raises(Told) as end, signals_end_it():
        with uninterrupted():
            with uninterrupted():
                tell(number)
            done.append("inner")
            tell(number)
            done.append("outer")
        pytest.fail("nothing was raised")
    assert done == ["inner", "outer"] and end.value.number == number


def test_the_first_one_counts_and_only_ctrl_c_may_come_again():
    """While the state is being saved a terminal says HUP once more and a scheduler TERM; a person may lose patience."""
    with signals_end_it() as ear:
        with pytest.raises(Told):
            tell(signal.SIGTERM)
        tell(signal.SIGTERM, signal.SIGHUP)
        with pytest.raises(Told) as again:
            tell(signal.SIGINT)
    assert ear.number == signal.SIGTERM and again.value.number == signal.SIGINT


def test_what_is_ignored_or_handled_stays_so():
    heard = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a job that a script has started with &
    signal.signal(signal.SIGHUP, lambda *_: heard.append("own"))
    try:
        with signals_end_it(), pytest.raises(Told):
            tell(signal.SIGINT, signal.SIGHUP)
            assert heard == ["own"]
            tell(signal.SIGTERM)
    finally:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_blocks_within_blocks_and_other_threads():
    """The inner block hears; the outer one hears again afterwards. In a thread nothing is changed, nothing fails."""
    before = signal.getsignal(signal.SIGTERM)
    with signals_end_it() as outer:
        with signals_end_it() as inner, pytest.raises(Told):
            tell(signal.SIGTERM)
        assert inner.number == signal.SIGTERM and outer.number is None
        with pytest.raises(Told):
            tell(signal.SIGTERM)
        assert outer.number == signal.SIGTERM
    found = []

    def elsewhere():
        with signals_end_it(), uninterrupted():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [before]


def test_an_error_in_a_step_goes_before_the_signal_that_came_meanwhile():
    with signals_end_it() as ear, pytest.raises(ZeroDivisionError), uninterrupted():
        tell(signal.SIGTERM)
        raise ZeroDivisionError
    assert ear.number is None


# ---- training ---------------------------------------------------------------------------------------------------------


def fit(path, resume=False):
    rng = np.random.default_rng(3)
    net = models.fcn(SignedSupermask(tau=0.01), rng, BLOBS.input_shape, units=(8, 3))
    optimizer = optim.SGDW(net.parameters(), 0.05, 1e-3)
    train.fit(net, BLOBS, optimizer, 3, rng, 32, checkpoint=path, resume=resume)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_training_from_python_ends_after_its_step_and_goes_on_to_the_same_bits(number, tmp_path, monkeypatch):
    """Told in the middle of step 11, and again while it saves."""
    fit(tmp_path / "whole")
    real, calls = ops.cross_entropy, []

    def told(*arguments):
        calls.append(1)
        if len(calls) == 11:
            tell(number)
        return real(*arguments)

    real_save = checkpoint.Keeper.save

    def save(keeper, training):
        real_save(keeper, training)
        if calls:
            tell(number, signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ops, "cross_entropy", told)
        patch.setattr(checkpoint.Keeper, "save", save)
        with pytest.raises(Told), signals_end_it():
            fit(tmp_path / "c")
    run = checkpoint.peek(tmp_path / "c")[0]
    assert run["steps"] == 11
    fit(tmp_path / "c", resume=True)
    assert checkpoint.peek(tmp_path / "c")[1] == checkpoint.peek(tmp_path / "whole")[1]


@pytest.mark.once
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, None)])
def test_a_job_in_the_background_of_a_script(number, status, tmp_path):
    """Which has Ctrl-C ignored: it passes; the others are heard, with the status that a shell has for them."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    words = "train digits --epochs 100000 --quiet --out a --resume".split()
    process = subprocess.Popen([sys.executable, "-m", "minimask", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "a/record.json").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        if status is None:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            return
        _, error = process.communicate(timeout=60)
        assert process.returncode == status
        assert error == ("minimask: interrupted while training digits; the record so far and the network of its last whole "
                         "epoch are in a; to go on: minimask train digits --resume --out a\n")
        assert {"record.json", "network.npz", "checkpoint.npz"} == set(os.listdir(tmp_path / "a"))
    finally:
        process.kill()
        process.communicate()




def test_a_run_that_is_stopped_before_its_first_checkpoint_leaves_nothing_and_begins_when_given_again(
        tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "train digits --epochs 1 --seed 3 --every-step --epoch-0 --quiet --out a --resume".split()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", lambda *_: signal.raise_signal(signal.SIGINT))
        assert main(words) == 130
    assert capsys.readouterr().err == ("minimask: interrupted while training digits; it had not begun, and nothing is kept; "
                                       "to begin: minimask train digits --resume --out a --seed=3 --epochs=1 --epoch-0 "
                                       "--every-step\n")
    assert set(os.listdir("a")) <= {".lock"}
    assert main(words) == 0 and "a holds no run yet: it begins" in capsys.readouterr().out
