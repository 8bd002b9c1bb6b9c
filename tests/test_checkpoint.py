"""Checkpoints: a run that stops and goes on ends in the same bits as one that never stopped; what a file may hold; locks."""

import copy
import hashlib
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from minimask import (
    MinimaskError,
    UsageError,
    checkpoint,
    data,
    loop,
    losses,
    mishaps,
    models,
    nn,
    ops,
    optim,
    train,
)
from minimask.checkpoint import State
from minimask.fast import threads
from minimask.mask import SignedSupermask, Trained
from minimask.train import TrainingError

RNG = np.random.default_rng(0)
BLOBS = data.Dataset("blobs", RNG.integers(0, 255, (250, 4, 4, 1)).astype(np.uint8), RNG.integers(0, 3, 250),
                     RNG.integers(0, 255, (50, 4, 4, 1)).astype(np.uint8), RNG.integers(0, 3, 50), ("a", "b", "c"))
STEPS = 8  # of 32 images, the last of 26


def fcn(rng, weights=None, backend="numpy"):
    return models.fcn(weights or SignedSupermask(tau=0.02), rng, (4, 4, 1), (20, 10, 3), backend=backend)


def normed(rng):
    """Batch norm, whose running statistics are no parameters, inside a residual block too."""
    weights = SignedSupermask(tau_ratio=0.3)
    main = [nn.Conv2D(4, 4, 3, weights, rng), nn.BatchNorm(4)]
    return nn.Sequential([nn.Conv2D(1, 4, 3, weights, rng), nn.BatchNorm(4), nn.ELU(), nn.Residual(main),
                          nn.GlobalAvgPool(), nn.Dense(4, 3, weights, rng)], (4, 4, 1))


def own_layers(rng):
    """Dropout, whose state are a seed and a count, and what else is not the paper's."""
    weights = SignedSupermask(tau=0.02)
    return nn.Sequential([nn.Conv2D(1, 4, 3, weights, rng), nn.Bias(4), nn.Tanh(), nn.Dropout(0.3, rng),
                          nn.GroupedConv2D(4, 8, 3, 4, weights, rng), nn.AvgPool2D(2), nn.Flatten(), nn.Dropout(0.1, rng),
                          nn.Dense(32, 3, weights, rng)], (4, 4, 1))


def plateau():
    """Cuts every few epochs, since no loss falls by 10, and is never finished here."""
    return optim.Plateau(factor=0.5, patience=2, cooldown=1, min_delta=10.0, max_cuts=50)


#: name -> (net from a generator, schedule, optimizer class)
KINDS = {"supermask": (fcn, lambda: optim.exponential(0.7, every=STEPS), optim.SGDW),
         "dense": (lambda rng: fcn(rng, Trained()), lambda: optim.constant, optim.SGDW),
         "batch norm": (normed, lambda: optim.exponential(0.7, every=STEPS), optim.SGDW),
         "own layers": (own_layers, lambda: optim.exponential(0.7, every=STEPS), optim.SGDW),
         "plateau": (fcn, plateau, optim.SGDW),
         "plain SGD": (fcn, lambda: optim.exponential(0.7, every=STEPS), optim.SGD)}


class Setup:
    """Everything that fit takes, made from a seed."""

    def __init__(self, kind="supermask", seed=0, lr=0.05, **changes):
        build, schedule, optimizer = KINDS[kind]
        self.rng = np.random.default_rng(seed)
        self.net = build(self.rng)
        settings = {"wd": 4e-3} if optimizer is optim.SGDW else {}
        self.optimizer = optimizer(self.net.parameters(), lr=lr, schedule=schedule(), **{**settings, **changes})
        self.record = train.new_record({"name": kind, "epochs": 0}, 0, "blobs")

    def fit(self, epochs, path, dataset=BLOBS, batch=32, **options):
        options.setdefault("record", self.record)
        return train.fit(self.net, dataset, self.optimizer, epochs, self.rng, batch, checkpoint=path, **options)

    def everything(self):
        """All that must agree, as bytes and plain data."""
        schedule = self.optimizer.schedule
        return ({name: a.tobytes() for name, a in self.net.arrays().items()},
                {name: a.tobytes() for name, a in self.optimizer.slots().items()}, self.optimizer.steps,
                vars(schedule).copy() if isinstance(schedule, optim.Plateau) else schedule(self.optimizer.steps),
                self.rng.bit_generator.state, without_clock(self.record))


def without_clock(record):
    return {**record, "environment": None, "epochs": [{k: v for k, v in e.items() if k != "seconds"}
                                                     for e in record["epochs"]]}


def digest(path):
    return checkpoint.peek(path)[1]


class Stop(train.Progress):
    """Ctrl-C after a step of an epoch; in the epoch's evaluation for the last step."""

    def __init__(self, epoch, step):
        super().__init__()
        self.at = epoch, step

    def step(self, epoch, step, steps, loss):
        if (epoch, step) == self.at:
            raise KeyboardInterrupt


# ---- to the bit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[(1, 1)], [(2, STEPS)], [(3, 5)], [(1, 3), (1, 4), (2, 1), (3, STEPS)]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_ends_in_the_same_bits(kind, stops, tmp_path):
    """Everything but the file is made anew each time, from another seed: what is not restored shows."""
    whole, path = Setup(kind), tmp_path / "c.npz"
    whole.fit(4, tmp_path / "whole.npz")
    assert any(entry["flips"] for entry in whole.record["epochs"]) or kind == "dense"
    for i, stop in enumerate(stops):
        stopped = Setup(kind, seed=i)
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(4, path, resume=i > 0, progress=Stop(*stop))
        run, _ = checkpoint.peek(path)
        assert (len(run["record"]["epochs"]) + 1, run["step"]) == stop
    last = Setup(kind, seed=99)
    assert last.fit(4, path, resume=True) is last.record
    assert last.everything() == whole.everything()
    assert digest(path) == digest(tmp_path / "whole.npz")
    assert last.rng.integers(1 << 60) == whole.rng.integers(1 << 60)


@pytest.mark.parametrize("kind", KINDS)
def test_more_epochs_than_asked_for_at_first(kind, tmp_path):
    """train(2) and then resume to 5 is train(5), with the record's recipe naming 5."""
    whole, first, second = Setup(kind), Setup(kind), Setup(kind, seed=5)
    for setup, epochs, name in ((whole, 5, "whole"), (first, 2, "c"), (second, 5, "c")):
        setup.record["recipe"]["epochs"] = epochs
        setup.fit(epochs, tmp_path / name, resume=setup is second)
    assert second.everything() == whole.everything() and second.record["recipe"]["epochs"] == 5
    assert digest(tmp_path / "c") == digest(tmp_path / "whole")


def test_epochs_count_from_where_the_run_began(tmp_path):
    """A record with 2 epochs in it, continued by 3 with a checkpoint, stopped, resumed: 5 in all."""
    whole, parts = Setup(), Setup()
    whole.fit(5, None)
    parts.fit(2, None)
    with pytest.raises(KeyboardInterrupt):
        parts.fit(3, tmp_path / "c", progress=Stop(4, 2))
    resumed = Setup(seed=7)
    resumed.fit(3, tmp_path / "c", resume=True)
    assert resumed.everything() == whole.everything()


def test_a_finished_run_is_left_as_it_is(tmp_path):
    done, again = Setup(), Setup(seed=3)
    done.fit(2, tmp_path / "c")
    again.fit(2, tmp_path / "c", resume=True)
    assert again.everything() == done.everything()
    ended = Setup("plateau")
    ended.optimizer.schedule = optim.Plateau(factor=0.5, patience=1, cooldown=0, min_delta=10.0, max_cuts=2)
    again = Setup("plateau", seed=3)
    again.optimizer.schedule = optim.Plateau(factor=0.5, patience=1, cooldown=0, min_delta=10.0, max_cuts=2)
    ended.fit(50, tmp_path / "p")
    again.fit(50, tmp_path / "p", resume=True)
    assert len(ended.record["epochs"]) == 3 and again.everything() == ended.everything()


def test_an_interrupted_run_has_the_net_of_its_last_whole_epoch_also_when_resumed(tmp_path):
    first, second = Setup(), Setup(seed=1)
    nets = []
    with pytest.raises(KeyboardInterrupt):
        first.fit(4, tmp_path / "c", progress=Stop(3, 2), on_epoch=lambda record: nets.append(first.net.arrays()))
    for setup in (first, second):
        if setup is second:
            with pytest.raises(KeyboardInterrupt):
                second.fit(4, tmp_path / "c", resume=True, progress=Stop(3, 5))
        assert len(setup.record["epochs"]) == 2
        assert all(np.array_equal(a, b) for a, b in zip(nets[-1].values(), setup.net.arrays().values()))
        assert train.evaluate(setup.net, BLOBS.test_images, BLOBS.test_labels) == setup.record["epochs"][-1]["test_accuracy"]


@pytest.mark.parametrize("place", ["cross_entropy", "permutation", "step", "evaluate", "append"])
def test_ctrl_c_at_any_moment_leaves_no_half_step(place, tmp_path, monkeypatch):
    """The signal itself, in the middle of a step, of the optimizer, of an evaluation."""
    whole, stopped, resumed = Setup(), Setup(), Setup(seed=8)
    whole.fit(3, tmp_path / "whole")
    calls = []

    def interrupting(real, at):
        def call(*arguments):
            result = real(*arguments)
            calls.append(1)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0)  # lets Python see it
            return result

        return call

    if place == "cross_entropy":
        monkeypatch.setattr(ops, "cross_entropy", interrupting(ops.cross_entropy, 11))
    elif place == "permutation":  # the order is drawn, no step is done
        monkeypatch.setattr(data.Preprocess, "__call__", interrupting(data.Preprocess.__call__, 10))  # 8 of epoch 1, 1 test
    elif place == "step":  # of six updates, the second: one parameter is new, two are old
        monkeypatch.setattr(optim.SGDW, "update", interrupting(optim.SGDW.update, 3 * 9 + 1))
    elif place == "evaluate":
        monkeypatch.setattr(losses.Judge, "__call__", interrupting(losses.Judge.__call__, 2))
    else:
        monkeypatch.setattr(nn.Sequential, "layer_counts", interrupting(nn.Sequential.layer_counts, 2))
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(3, tmp_path / "c")
    assert len(stopped.record["epochs"]) in (1, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    run, _ = checkpoint.peek(tmp_path / "c")
    expected = {"cross_entropy": 3, "permutation": 1, "step": 2, "evaluate": 8, "append": 8}[place]
    assert (len(run["record"]["epochs"]), run["step"]) == (1, expected)
    resumed.fit(3, tmp_path / "c", resume=True)
    assert resumed.everything() == whole.everything() and digest(tmp_path / "c") == digest(tmp_path / "whole")


def test_ctrl_c_between_an_entry_and_what_belongs_to_it(tmp_path):
    """The record has its new entry, the net of the last whole epoch is still the one before: both or none."""
    whole, stopped, resumed = Setup("plateau"), Setup("plateau"), Setup("plateau", seed=8)
    whole.fit(3, tmp_path / "whole")

    class Interrupting(list):
        def append(self, entry):
            super().append(entry)
            if len(self) == 2:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0)

    stopped.record["epochs"] = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(3, tmp_path / "c")
    run, _ = checkpoint.peek(tmp_path / "c")
    assert (len(run["record"]["epochs"]), run["step"]) == (2, 0)
    assert train.evaluate(stopped.net, BLOBS.test_images, BLOBS.test_labels) == stopped.record["epochs"][-1]["test_accuracy"]
    resumed.fit(3, tmp_path / "c", resume=True)
    assert resumed.everything() == whole.everything()


def test_an_error_in_the_middle_of_a_step_does_not_spoil_the_checkpoint(tmp_path, monkeypatch):
    """Half a step is no state: what was saved before stays."""
    whole, broken, resumed = Setup(), Setup(), Setup(seed=8)
    whole.fit(3, tmp_path / "whole")
    real, calls = optim.SGDW.update, []

    def update(*arguments):
        calls.append(1)
        if len(calls) == 3 * 9 + 2:  # the second of three parameters
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(optim.SGDW, "update", update)
    with pytest.raises(MemoryError):
        broken.fit(3, tmp_path / "c", every=0.0)
    monkeypatch.undo()
    resumed.fit(3, tmp_path / "c", resume=True)
    assert resumed.everything() == whole.everything()


def test_in_another_thread_and_with_another_handler_of_ctrl_c_training_works(tmp_path):
    setup, handled = Setup(), []
    before = signal.signal(signal.SIGINT, lambda *_: handled.append(1))
    try:
        with mishaps.uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            assert handled == [1]  # left alone
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=lambda: setup.fit(2, tmp_path / "c"))
    thread.start()
    thread.join()
    assert len(setup.record["epochs"]) == 2


# ---- when it is saved ------------------------------------------------------------------------------------------------


def test_saved_at_the_start_at_the_end_and_when_it_is_time(tmp_path, monkeypatch):
    """A clock of our own: 10 s a step, and 30 s between checkpoints."""
    clock, saved, setup = [0.0], [], Setup()
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(checkpoint, "save", lambda path, state: saved.append((setup.optimizer.steps, clock[0])))

    class Clock(train.Progress):
        def step(self, epoch, step, steps, loss):
            clock[0] += 10

    setup.fit(1, tmp_path / "c", progress=Clock())
    assert [step for step, _ in saved] == [0, 4, 7, 8]  # due 30 s after the last: seen after the step that follows


def test_no_more_than_a_fiftieth_of_the_time_goes_into_checkpoints(tmp_path, monkeypatch):
    """One that takes 3 s is not written again before 150 s have passed."""
    clock, saved, setup = [0.0], [], Setup()

    def slow(path, state):
        clock[0] += 3.0
        saved.append(clock[0])

    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(checkpoint, "save", slow)
    training = train.Training(setup.net, BLOBS, setup.optimizer, setup.rng, 32, setup.record)
    keeper = checkpoint.Keeper(tmp_path / "c")
    for _ in range(400):
        clock[0] += 1.0
        keeper.step(training, 0.0)
    assert saved[0] == 33.0 and all(b - a >= 150 for a, b in itertools.pairwise(saved)) and len(saved) == 3


def test_without_a_checkpoint_nothing_is_written_or_fingerprinted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "capture", lambda *_: 1 / 0)
    Setup().fit(1, None)
    assert os.listdir(tmp_path) == []


# ---- numerical trouble -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["dense", "batch norm"])
def test_a_loss_that_is_no_number_leaves_the_state_before_that_step(kind, tmp_path, monkeypatch):
    """Resumed, it meets the same step again; the state is that of a run stopped there, running statistics too."""
    calls, real = [], loop.to_net

    def poisoned(net, x):
        calls.append(1)
        return real(net, x) * (np.float32(np.nan) if len(calls) >= STEPS + 1 + 4 else 1)  # epoch 2, step 4

    setup, stopped, again = Setup(kind), Setup(kind), Setup(kind, seed=4)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(3, tmp_path / "stopped", progress=Stop(2, 3))
    monkeypatch.setattr(loop, "to_net", poisoned)
    first = next(iter(setup.net.layers))
    with pytest.raises(TrainingError, match="the loss became nan in epoch 2, step 4: it begins in layer "
                                            f"{first}, with values up to [0-9.e+-]+ going in: training diverged"):
        setup.fit(3, tmp_path / "c")
    assert digest(tmp_path / "c") == digest(tmp_path / "stopped")
    with pytest.raises(TrainingError, match="epoch 2, step 4"):
        again.fit(3, tmp_path / "c", resume=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_layer_and_the_largest_value_are_named(tmp_path):
    setup = Setup("dense")
    setup.net.layers["dense2"].weight.weight.data = np.full((20, 10), 3e38, np.float32)
    with pytest.raises(TrainingError, match="it begins in layer dense2, with values up to 3e.38 going in"):
        setup.fit(1, tmp_path / "c")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("when", ["at the end of the epoch", "at a checkpoint"])
def test_a_state_that_is_not_finite_is_never_saved(when, tmp_path):
    """NaN scores hide their weights, so the loss stays finite: found at the next checkpoint or at the epoch's end."""
    setup, path = Setup(), tmp_path / "c"
    before = []

    class Poison(train.Progress):
        def step(self, epoch, step, steps, loss):
            if (epoch, step) == (2, 3):
                before.append(path.read_bytes())
                p = setup.net.parameters()[1]
                p.data = np.where(np.arange(10) < 5, np.float32(np.nan), p.data)

    with pytest.raises(TrainingError, match=r"dense2.scores holds NaN or infinity after epoch 2, step \d \(its largest number is 0\.\d+\)"):
        setup.fit(3, path, progress=Poison(), every=0.0 if when == "at a checkpoint" else 30.0)
    assert path.read_bytes() == before[0]
    Setup(seed=2).fit(3, path, resume=True)


def test_velocity_that_is_not_finite_is_not_saved(tmp_path):
    setup = Setup()
    training = train.Training(setup.net, BLOBS, setup.optimizer, setup.rng, 32, setup.record)
    setup.optimizer.velocity[2][0, 0] = np.inf
    with pytest.raises(TrainingError, match=r"optimizer.velocity.2 holds NaN or infinity"):
        checkpoint.capture(training)


# ---- another run -----------------------------------------------------------------------------------------------------


def other_images():
    images = BLOBS.train_images.copy()
    images[0, 0, 0, 0] ^= 1
    return replace(BLOBS, train_images=images)


def other_net(**settings):
    """The same setup, but for the settings of its weights."""
    setup = Setup()
    setup.net = fcn(np.random.default_rng(0), SignedSupermask(**settings))
    setup.optimizer = optim.SGDW(setup.net.parameters(), lr=0.05, wd=4e-3, schedule=setup.optimizer.schedule)
    return setup


OTHERS = {
    "tau": (lambda: other_net(tau=0.3), {}, "its tau is 0.02, but 0.3 was asked for"),
    "tau_ratio": (lambda: other_net(tau_ratio=0.3), {}, "its tau is 0.02, but None was asked for"),
    "frozen": (lambda: other_net(tau=0.02, frozen="he"), {}, "its scheme is 'elus', but 'he' was asked for"),
    "lr": (lambda: Setup(lr=0.04), {}, "its lr is 0.05, but 0.04 was asked for"),
    "wd": (lambda: Setup(wd=1e-3), {}, "its wd is 0.004, but 0.001"),
    "momentum": (lambda: Setup(momentum=0.8), {}, "its momentum is 0.9, but 0.8"),
    "optimizer": (lambda: Setup("plain SGD"), {"record": train.new_record({"name": "supermask"}, 0, "blobs")},
                  "its (optimizer is 'SGDW', but 'SGD'|momentum is 0.9, but None)"),
    "batch": (Setup, {"batch": 64}, "its batch is 32, but 64"),
    "images": (Setup, {"dataset": other_images()}, "its images is '[0-9a-f]{58}"),
    "dataset": (Setup, {"dataset": replace(BLOBS, name="bobs")}, "its dataset is 'blobs', but 'bobs'"),
    "seed": (Setup, {"record": train.new_record({"name": "supermask"}, 1)}, "its seed is 0, but 1"),
    "recipe": (Setup, {"record": train.new_record({"name": "another"}, 0)}, "its name is 'supermask', but 'another'"),
    "epochs": (Setup, {"epochs": 1}, "is in epoch 2 already, but 1 are asked for; give as many or more"),
    "resume": (Setup, {"path": None}, "resume=True needs checkpoint=FILE"),
    "file": (Setup, {"path": "nowhere.npz"}, "there is no nowhere.npz"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_run_is_told_apart_and_nothing_is_touched(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Setup().fit(3, "c", progress=Stop(2, 3))
    content = (tmp_path / "c").read_bytes()
    make, options, sentence = OTHERS[what]
    options, setup = {"epochs": 3, "path": "c", **options}, make()
    before = copy.deepcopy((setup.everything(), options.get("record")))
    with pytest.raises(UsageError, match=sentence):
        setup.fit(**options, resume=True)
    assert (setup.everything(), options.get("record")) == before
    assert (tmp_path / "c").read_bytes() == content and os.listdir(tmp_path) == ["c"]


def test_a_checkpoint_is_not_begun_anew_by_mistake(tmp_path):
    Setup().fit(1, tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    with pytest.raises(UsageError, match=r"c is there already: resume=True goes on with it; to begin anew name another file"):
        Setup().fit(1, tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == content


def test_another_schedule_or_net_is_told_apart(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Setup().fit(3, tmp_path / "c", progress=Stop(2, 3))
    setup = Setup()
    setup.optimizer.schedule = optim.exponential(0.8, every=STEPS)
    with pytest.raises(UsageError, match=r"its schedule gives 0\.6\d+ at step 11, this one not"):
        setup.fit(3, tmp_path / "c", resume=True)
    setup.optimizer.schedule = plateau()
    with pytest.raises(UsageError, match=r"is of another run: its (cooldown|schedule|factor)"):
        setup.fit(3, tmp_path / "c", resume=True)
    setup = Setup()
    setup.net = models.fcn(SignedSupermask(tau=0.02), setup.rng, (4, 4, 1), (20, 11, 3))
    setup.optimizer = optim.SGDW(setup.net.parameters(), lr=0.05, wd=4e-3, schedule=setup.optimizer.schedule)
    with pytest.raises(UsageError, match=r"of another net or optimizer: last.dense2.frozen is \('<f4', \(20, 10\)\) there"):
        setup.fit(3, tmp_path / "c", resume=True)
    plateaus = Setup("plateau"), Setup("plateau")
    plateaus[1].optimizer.schedule.patience = 3
    plateaus[0].fit(1, tmp_path / "p")
    with pytest.raises(UsageError, match="its patience is 2, but 3"):
        plateaus[1].fit(1, tmp_path / "p", resume=True)


def test_a_generator_other_than_pcg64_is_refused_before_training(tmp_path):
    setup = Setup()
    setup.rng = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(UsageError, match="keeps the state of PCG64, not of MT19937"):
        setup.fit(1, tmp_path / "c")
    assert setup.record["epochs"] == []


def test_a_record_that_json_does_not_hold_is_refused_before_training(tmp_path):
    for thing in (object(), float("nan")):
        setup = Setup()
        setup.record["note"] = thing
        with pytest.raises(MinimaskError, match="hold what JSON does not"):
            setup.fit(1, tmp_path / "c")
        assert setup.record["epochs"] == [] and os.listdir(tmp_path) == []


# ---- from one array library to another ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("strict", "numpy"), ("numpy", "strict")])
def test_a_checkpoint_moves_between_array_libraries(first, second, tmp_path):
    """Same arrays at the moment of moving; the record says where it went on; the end agrees to rounding."""
    def setup(library, seed=0):
        rng = np.random.default_rng(seed)
        net = fcn(rng, Trained(), library)
        return net, optim.SGDW(net.parameters(), 0.05, 4e-3), rng, train.new_record({"name": "x"}, 0, "blobs", net)

    net, optimizer, rng, record = setup(first)
    with pytest.raises(KeyboardInterrupt):
        train.fit(net, BLOBS, optimizer, 2, rng, 32, record, Stop(2, 3), checkpoint=tmp_path / "c")
    net, optimizer, rng, record = setup(second, 1)
    training = train.Training(net, BLOBS, optimizer, rng, 32, record)
    with pytest.warns(UserWarning, match="backend was .* and is .*: the rest of the run may differ in its last digits"):
        checkpoint.restore(training, tmp_path / "c", 2)
    stored, here = checkpoint.load(tmp_path / "c"), checkpoint.capture(training)
    assert stored.digest() == here.digest()
    assert type(optimizer.velocity[0]) is type(net.parameters()[0].data)
    training.run(2, [checkpoint.Keeper(tmp_path / "c", resumed=True)])
    assert record["environment"]["continued"][0]["step"] == 11
    whole = setup(first)
    train.fit(whole[0], BLOBS, whole[1], 2, whole[2], 32, whole[3])
    assert record["epochs"][1]["train_loss"] == pytest.approx(whole[3]["epochs"][1]["train_loss"], rel=1e-4)
    net, optimizer, rng, record = setup(second, 1)
    with warnings.catch_warnings():  # once more: nothing has changed since, so nothing is said
        warnings.simplefilter("error")
        checkpoint.restore(train.Training(net, BLOBS, optimizer, rng, 32, record), tmp_path / "c", 2)
    assert len(record["environment"]["continued"]) == 1


# ---- the file --------------------------------------------------------------------------------------------------------

PARTS = {"settings": {}, "begun": 0, "step": 0, "loss_sum": 0.0, "right": 0, "seconds": 1.0, "steps": 0, "schedule": 1.0,
         "rng": {}, "record": {"epochs": [], "environment": {"cores": 2}}}
STATE = State({"x": np.arange(6, dtype=np.float32).reshape(2, 3), "tau": np.array(0.5), "empty": np.empty((0, 4), np.int64),
               "transposed": np.arange(6, dtype=np.int8).reshape(2, 3).T}, PARTS)


def test_a_state_comes_back_as_it_was_and_numpy_reads_it(tmp_path):
    path = tmp_path / "c.npz"
    assert checkpoint.save(path, STATE) == STATE.digest() == digest(path)
    back = checkpoint.load(path)
    assert back.run == PARTS and back.digest() == STATE.digest()
    with np.load(path, allow_pickle=False) as file:
        for name, array in STATE.arrays.items():
            for other in (back.arrays[name], file[name]):
                assert other.dtype == array.dtype and other.shape == array.shape and np.array_equal(other, array)
    first = path.read_bytes()
    checkpoint.save(path, STATE)
    assert path.read_bytes() == first  # nothing of the clock in it
    assert os.listdir(tmp_path) == ["c.npz"]


def test_numbers_come_back_exactly(tmp_path):
    run = {**PARTS, "loss_sum": 0.1 + 0.2, "rng": np.random.default_rng(5).bit_generator.state, "seconds": 1e-300}
    checkpoint.save(tmp_path / "c", State({}, run))
    assert checkpoint.load(tmp_path / "c").run == run


@pytest.mark.parametrize("change", [
    {"x": np.array([[0, 1, 2], [3, 4, 6]], np.float32)}, {"x": np.arange(6, dtype=np.float32)},
    {"x": np.arange(6, dtype=np.float32).view(np.int32).reshape(2, 3)}, {"tau": np.array([0.5])}, {"y": np.zeros(0, np.int8)},
    {"run": {**PARTS, "step": 1}}, {"run": {**PARTS, "record": {"epochs": [{"flips": 1}]}}}], ids=lambda c: str(c)[:30])
def test_the_digest_is_of_everything(change):
    run = change.get("run", PARTS)
    assert State({**STATE.arrays, **{k: v for k, v in change.items() if k != "run"}}, run).digest() != STATE.digest()


def test_the_digest_leaves_out_the_clock_and_the_machine():
    run = copy.deepcopy(PARTS)
    run["seconds"], run["record"]["environment"] = 9.0, {"cores": 64}
    assert State(dict(reversed(STATE.arrays.items())), run).digest() == STATE.digest()
    run["record"]["epochs"] = [{"epoch": 1, "seconds": 1.0}]
    slower = copy.deepcopy(run)
    slower["record"]["epochs"][0]["seconds"] = 2.0
    assert State(STATE.arrays, run).digest() == State(STATE.arrays, slower).digest() != STATE.digest()


def test_what_a_checkpoint_cannot_hold_is_refused_when_it_is_written(tmp_path):
    for array in (np.array(["a"]), np.array([None]), np.zeros(2, np.float16), np.zeros(2, ">f4"), np.zeros(2, complex)):
        with pytest.raises(MinimaskError, match="checkpoint: x is .*; an array may be <f4"):
            checkpoint.save(tmp_path / "c", State({"x": array}, PARTS))
    assert os.listdir(tmp_path) == []


def rewritten(path, text=None, members=(), drop=(), compression=0, sealed=False, **promise):
    """The archive at `path` with its promise changed, members (name, bytes) added and some dropped; all checksums right."""
    if sealed:
        promise["text"] = hashlib.sha256(json.dumps(promise["run"], sort_keys=True).encode()).hexdigest()
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    contents[checkpoint.TEXT] = json.dumps({**json.loads(contents[checkpoint.TEXT]), **promise}).encode() if text is None else text
    kept = [(name, content) for name, content in contents.items() if name not in drop]
    with zipfile.ZipFile(path, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in [*kept, *members]:
            archive.writestr(name, content)


def npy(text, content=b""):
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n" + content
ABSURD = {
    "two members of one name": (dict(members=[("x.npy", b"")]), "two members of one name"),
    "a member too many": (dict(members=[("y.npy", b"")]), "missing members: none; unknown ones: y.npy"),
    "a member too few": (dict(drop=["x.npy"]), "missing members: x.npy"),
    "a member that goes up": (dict(members=[("../y", b"")]), r"unknown ones: \.\./y"),
    "no text": (dict(drop=[checkpoint.TEXT]), "no item named 'run.json'"),
    "an array of 4 TB": (dict(drop=["x.npy"], members=[("x.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"))],
                              arrays={"x": ["<f4", [10**6, 10**6]], "tau": ["<f8", []], "empty": ["<i8", [0, 4]], "transposed": ["|i1", [3, 2]]}),
                         r"x.npy promises \d+ bytes, but 4,000,000,000,0\d\d are needed"),
    "a promise that the array does not keep": (dict(arrays={"x": ["<f4", [3, 2]], "tau": ["<f8", []], "empty": ["<i8", [0, 4]], "transposed": ["|i1", [3, 2]]}),
                                               r"x.npy says .*\(2, 3\).*but <f4 \(3, 2\) is needed"),
    "objects": (dict(arrays={"x": ["|O", [2, 3]]}), r"\['\|O', \[2, 3\]\] is no dtype and shape"),
    "a header of objects": (dict(drop=["x.npy"], members=[("x.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }", bytes(24)))]),
                            "x.npy says .*O.*but <f4"),
    "columns first": (dict(drop=["x.npy"], members=[("x.npy", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", bytes(24)))]),
                      "x.npy says .*True.*but <f4"),
    "a negative length": (dict(arrays={"x": ["<f4", [-2, -3]]}), "is no dtype and shape"),
    "a length that is no integer": (dict(arrays={"x": ["<f4", [True, 6]]}), "is no dtype and shape"),
    "33 axes": (dict(arrays={"x": ["<f4", [1] * 33]}), "is no dtype and shape"),
    "NaN in the text": (dict(text=b'{"format": NaN}'), "run.json holds NaN"),
    "no JSON": (dict(text=b"{"), "cannot be read"),
    "no text at all": (dict(text=b"\xff\xfe\xfd"), "cannot be read"),
    "brackets without end": (dict(text=b"[" * 100_000), "cannot be read"),
    "a list": (dict(text=b"[]"), "run.json is .., but must be an object"),
    "no format": (dict(format="1"), "'format' of run.json is '1', but must be a whole number"),
    "a newer format": (dict(format=2), "has format 2, but this version of minimask reads 1: a newer one wrote it"),
    "another part": (dict(more=1), "run.json has an unknown 'more'"),
    "another digest": (dict(digest="0" * 64), "is damaged: its digest should be 000"),
    "another state": (dict(run={**PARTS, "step": 3}, sealed=True), "is damaged: its digest should be"),
    "another clock": (dict(run={**PARTS, "seconds": 1.5}), "run.json does not have the sha256 that it promises"),
    "compressed": (dict(compression=zipfile.ZIP_DEFLATED), "run.json promises|compressed or encrypted"),
}


@pytest.mark.parametrize("what", ABSURD)
def test_a_file_that_is_not_as_it_was_written_is_refused(what, tmp_path):
    checkpoint.save(tmp_path / "c", STATE)
    change, sentence = ABSURD[what]
    rewritten(tmp_path / "c", **change)
    with pytest.raises(MinimaskError, match=sentence) as caught:
        checkpoint.load(tmp_path / "c")
    assert len(str(caught.value)) < 500 and str(tmp_path / "c") in str(caught.value)


def test_a_compressed_array_is_refused_whatever_it_promises(tmp_path):
    """A bomb: four kilobytes that would become four megabytes."""
    path, zeros = tmp_path / "c", np.zeros(1 << 22, np.uint8)
    checkpoint.save(path, State({"x": zeros}, PARTS))
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(checkpoint.TEXT, contents[checkpoint.TEXT])
        archive.writestr("x.npy", contents["x.npy"], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(MinimaskError, match="x.npy is compressed"):
        checkpoint.load(path)


def test_nan_is_refused_although_the_digest_is_right(tmp_path):
    checkpoint.save(tmp_path / "c", State({"scores": np.array([1, np.nan], np.float32)}, PARTS))
    with pytest.raises(MinimaskError, match="scores holds NaN or infinity"):
        checkpoint.load(tmp_path / "c")


HALF = {"bit_generator": "PCG64", "state": {"state": 1, "inc": 0.5}, "has_uint32": 0, "uinteger": 0}


@pytest.mark.parametrize(("part", "value"), [("step", -1), ("rng", HALF), ("step", STEPS + 1), ("rng", {"bit_generator": "PCG64"}),
                                             ("schedule", {"best": None}), ("schedule", {"best": 1.0, "waited": 0, "cooling": -1, "cuts": 0}), ("order", np.arange(250) // 2)], ids=str)
def test_nonsense_under_a_right_digest_is_refused_and_nothing_is_touched(part, value, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Setup("plateau").fit(3, tmp_path / "c", progress=Stop(2, 3))
    state = checkpoint.load(tmp_path / "c")
    arrays = {**state.arrays, "order": value} if part == "order" else state.arrays
    checkpoint.save(tmp_path / "c", State(arrays, state.run if part == "order" else {**state.run, part: value}))
    setup = Setup("plateau", seed=3)
    before = setup.everything()
    with pytest.raises(MinimaskError, match="holds no state of a run"):
        setup.fit(3, tmp_path / "c", resume=True)
    assert setup.everything() == before


def entry(**changes):
    """An edit of the record's last epoch; None takes a key away."""
    def edit(arrays, run):
        last = run["record"]["epochs"][-1]
        last |= changes
        for key in [key for key in changes if changes[key] is None]:
            del last[key]

    return edit


def layer(**changes):
    """An edit of the first layer in it."""
    return lambda arrays, run: run["record"]["epochs"][-1]["layers"][0].update(changes)


def record(**changes):
    return lambda arrays, run: run["record"].update(changes)


def array(name, value):
    return lambda arrays, run: arrays.update({name: np.full_like(arrays[name], value)})


#: What a file may say under a digest that is right, and a part of the sentence about it.
FALSE = {
    "negative tau": (array("net.dense1.tau", -0.5), "net.dense1.tau is -0.5, which its settings do not give"),
    "another tau": (array("last.dense2.tau", 5.0), "last.dense2.tau is 5, which its settings do not give"),
    "scores of another net": (array("last.dense1.scores", 0.5), "other masks at the end of the last epoch than its record"),
    "a count": (layer(kept=1, hidden=319, inverted=0), "other masks at the end of the last epoch than its record"),
    "counts that do not add up": (layer(kept=10**6), "is 1000000, but must be a whole number from 0 to 320"),
    "no layers": (entry(layers=[]), "'layers' of epoch 1 of its record is .., but must be a list of layers"),
    "layers missing": (entry(layers=None), "epoch 1 of its record has no 'layers'"),
    "no number of a layer": (layer(weights="320"), "'weights' of a layer in epoch 1 of its record is '320'"),
    "an accuracy of text": (entry(test_accuracy="0.9"), "'test_accuracy' of epoch 1 of its record is '0.9'"),
    "an accuracy above 1": (entry(train_accuracy=1.5), "'train_accuracy' of epoch 1 of its record is 1.5"),
    "a text for a seed": (record(seed="0"), "'seed' of its record is '0', but must be a whole number or null"),
    "a list for a name": (record(recipe={"name": []}), "'name' of the recipe of its record is"),
    "epochs of text": (record(recipe={"epochs": "9"}), "'epochs' of the recipe of its record is '9'"),
    "continued, a text": (record(environment={"continued": "x"}), "'continued' of the environment of its record is 'x'"),
    "continued, of nothing": (record(environment={"continued": [3]}), "continued 1 in the environment of its record is 3"),
    "continued, a step of text": (record(environment={"continued": [{"step": "1", "environment": {}}]}), "'step' of continued 1"),
    "continued, nowhere": (record(environment={"continued": [{"step": 1, "environment": 2}]}), "'environment' of continued 1"),
    "begun later than it is": (lambda arrays, run: run.update(begun=7), "do not fit together"),
    "more right than seen": (lambda arrays, run: run.update(right=97), "do not fit together"),
    "fewer steps than done": (lambda arrays, run: run.update(steps=2), "do not fit together"),
    "a negative loss": (lambda arrays, run: run.update(loss_sum=-1.0), "do not fit together"),
    "seconds before the start": (lambda arrays, run: run.update(seconds=-1.0), "do not fit together")}


@pytest.mark.parametrize("what", FALSE)
def test_false_content_under_a_right_digest_ends_in_our_sentence_with_the_net_unchanged(what, tmp_path):
    edit, sentence = FALSE[what]
    setup, path = Setup("plateau"), tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        setup.fit(3, path, progress=Stop(2, 3))
    state = checkpoint.load(path)
    arrays, run = {name: a.copy() for name, a in state.arrays.items()}, copy.deepcopy(state.run)
    edit(arrays, run)
    checkpoint.save(path, State(arrays, run))
    fresh = Setup("plateau")
    before = fresh.everything()
    with pytest.raises(MinimaskError, match=sentence):
        fresh.fit(3, path, resume=True)
    assert fresh.everything() == before


def test_a_variance_below_zero_is_no_state(tmp_path):
    setup = Setup("batch norm")
    setup.fit(1, tmp_path / "c")
    state = checkpoint.load(tmp_path / "c")
    arrays = {**state.arrays, "net.batchnorm1.variance": -state.arrays["net.batchnorm1.variance"]}
    checkpoint.save(tmp_path / "c", State(arrays, state.run))
    fresh = Setup("batch norm", seed=3)
    before = fresh.everything()
    with pytest.raises(MinimaskError, match="net.batchnorm1.variance holds a variance below 0"):
        fresh.fit(2, tmp_path / "c", resume=True)
    assert fresh.everything() == before


def test_peek_looks_at_the_parts(tmp_path):
    for run in ({}, {**PARTS, "step": "1"}, {**PARTS, "record": {}}, {**PARTS, "record": {"epochs": [{"epoch": 2}]}},
                {**PARTS, "record": {"epochs": [], "recipe": []}}):
        checkpoint.save(tmp_path / "c", State({}, run))
        with pytest.raises(MinimaskError, match="the state of the run|its record has no 'epochs'|'epoch' of epoch 1 of its record is 2|'recipe' of its record is"):
            checkpoint.peek(tmp_path / "c")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "c").write_bytes(b"something else")
    (tmp_path / "folder").mkdir()
    for path in ("c", "folder"):
        with pytest.raises(MinimaskError, match="it is damaged or another kind of file"):
            checkpoint.load(tmp_path / path)


# ---- what the last digits hang on --------------------------------------------------------------------------------------

RUN_ON = """
import json, sys, warnings
import numpy as np
from minimask import data, mask, models, optim, train
digits, rng = data.digits(), np.random.default_rng(0)
net = models.fcn(mask.SignedSupermask(tau=0.01), rng, digits.input_shape, units=(20, 10))
record = train.new_record({"name": "x"}, 0, "digits", net)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    train.fit(net, digits, optim.SGDW(net.parameters(), 0.05, 4e-3), int(sys.argv[2]), rng, record=record,
              checkpoint=sys.argv[1], resume=int(sys.argv[2]) > 1)
print(json.dumps([record["environment"], [str(each.message) for each in said]]))
"""


def run_on(path, epochs, **environment):
    """Trains up to so many epochs in a process of its own: what the record says of where, and the warnings."""
    done = subprocess.run([sys.executable, "-c", RUN_ON, path, str(epochs)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("what", ["blas_kernel", "simd"])
def test_a_resume_under_another_kernel_or_other_vector_instructions_says_so(what, tmp_path):
    """Both decide the last digits; the record's environment was the same under all of them."""
    here = train.environment()
    if what == "blas_kernel":
        if threads.openblas() is None or here["processor"] is None or platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip("no OpenBLAS of NumPy's wheels that can be told to take another kernel")
        other = {"OPENBLAS_CORETYPE": "Sandybridge" if here["blas_kernel"] == "Haswell" else "Haswell"}
    else:
        found = np.show_config("dicts")["SIMD Extensions"].get("found")
        if not found:
            pytest.skip("NumPy has no vector instructions here that can be turned off")
        other = {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    begun, said = run_on(tmp_path / "c", 1)
    assert begun[what] == here[what] and said == [] and "continued" not in begun
    same, said = run_on(tmp_path / "c", 2)
    assert said == [] and "continued" not in same
    moved, said = run_on(tmp_path / "c", 3, **other)
    (note,) = moved["continued"]
    assert moved[what] == here[what] != note["environment"][what] and note["step"] == 24
    assert said == [f"{what} was {here[what]} and is {note['environment'][what]}: the rest of the run may differ in its "
                    "last digits from one without a stop"]


def test_a_checkpoint_from_before_the_kernel_was_recorded_is_taken_up_in_silence(tmp_path):
    def setup():
        rng = np.random.default_rng(0)
        net = fcn(rng, Trained())
        return net, optim.SGDW(net.parameters(), 0.05, 4e-3), rng, train.new_record({"name": "x"}, 0, "blobs", net)

    net, optimizer, rng, record = setup()
    assert {"blas_kernel", "simd", "numpy"} <= set(record["environment"])
    del record["environment"]["blas_kernel"], record["environment"]["simd"]
    train.fit(net, BLOBS, optimizer, 1, rng, 32, record, checkpoint=tmp_path / "c")
    net, optimizer, rng, record = setup()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train.fit(net, BLOBS, optimizer, 2, rng, 32, record, checkpoint=tmp_path / "c", resume=True)
    assert len(record["epochs"]) == 2 and "continued" not in record["environment"]
