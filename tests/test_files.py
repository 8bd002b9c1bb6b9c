"""Files that are never half there, arrays that are checked before they are believed, folders for one process."""

import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest

from minimask import (
    MinimaskError,
    UsageError,
    checkpoint,
    data,
    export,
    files,
    models,
    nn,
    optim,
    recipes,
    runs,
    train,
)
from minimask.checkpoint import State
from minimask.mask import SignedSupermask, Trained

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


def plateau():
    """Cuts every few epochs, since no loss falls by 10, and is never finished here."""
    return optim.Plateau(factor=0.5, patience=2, cooldown=1, min_delta=10.0, max_cuts=50)


#: name -> (net from a generator, schedule, optimizer class)
KINDS = {"supermask": (fcn, lambda: optim.exponential(0.7, every=STEPS), optim.SGDW),
         "dense": (lambda rng: fcn(rng, Trained()), lambda: optim.constant, optim.SGDW),
         "batch norm": (normed, lambda: optim.exponential(0.7, every=STEPS), optim.SGDW),
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


PARTS = {"settings": {}, "begun": 0, "step": 0, "loss_sum": 0.0, "right": 0, "seconds": 1.0, "steps": 0, "schedule": 1.0,
         "rng": {}, "record": {"epochs": [], "environment": {"cores": 2}}}


STATE = State({"x": np.arange(6, dtype=np.float32).reshape(2, 3), "tau": np.array(0.5), "empty": np.empty((0, 4), np.int64),
               "transposed": np.arange(6, dtype=np.int8).reshape(2, 3).T}, PARTS)


def test_a_network_file_is_held_to_what_the_net_needs(tmp_path):
    digits = data.digits()
    runs.run(replace(recipes.find("digits"), epochs=1), digits, 0, tmp_path / "a")
    path = tmp_path / "a/network.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    for save in (np.savez, np.savez_compressed):  # NumPy's own writing is fine
        save(path, **arrays)
        net, _ = runs.load(tmp_path / "a", digits)
        assert all(np.array_equal(net.arrays()[name], a) for name, a in arrays.items())
    nan = {**arrays, "dense1.scores": np.full_like(arrays["dense1.scores"], np.nan)}
    wide = {**arrays, "dense1.scores": np.zeros((10_000, 10_000), np.float32)}  # 400 MB from 400 kB
    double = {**arrays, "dense1.scores": arrays["dense1.scores"].astype(float)}
    for wrong, sentence in ((nan, "dense1.scores holds NaN"), (wide, r"says .*\(10000, 10000\)"), (double, "says .*<f8"),
                            ({**arrays, "more": np.zeros(2)}, "unknown ones: more.npy"),
                            ({k: v for k, v in arrays.items() if k != "dense1.tau"}, "missing members: dense1.tau.npy")):
        np.savez_compressed(path, **wrong)
        with pytest.raises(MinimaskError, match=f"holds no whole run: .*{sentence}"):
            runs.load(tmp_path / "a", digits)


def test_the_order_in_which_a_file_is_written(tmp_path, monkeypatch):
    """Content on the disk first, then the rename, then the folder: in any other order a power cut could lose both."""
    told, real = [], {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(descriptor):
        told.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else
                    f"file of {os.fstat(descriptor).st_size} bytes")
        real["fsync"](descriptor)

    def rename(source, target):
        told.append(f"rename to {os.path.basename(target)}")
        real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    checkpoint.save(tmp_path / "c", STATE)
    assert told == [f"file of {(tmp_path / 'c').stat().st_size} bytes", "rename to c", "folder"]


FULL = OSError(28, "No space left on device")


def failing(monkeypatch, when):
    """Makes writing fail, with the disk's own words, while `when()` says so; whichever call comes to it."""
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def call(*arguments, real=real):
            if when():
                raise FULL
            return real(*arguments)

        monkeypatch.setattr(os, name, call)


def test_a_disk_that_is_full_for_a_while(tmp_path, monkeypatch):
    """It is said, training goes on, the last good checkpoint stays, and the next one is written when there is room."""
    setup, path, whole = Setup(), tmp_path / "c", Setup()
    whole.fit(2, tmp_path / "whole")
    contents = []

    class Watch(train.Progress):
        def step(self, epoch, step, steps, loss):
            contents.append(path.read_bytes())

    failing(monkeypatch, lambda: setup.optimizer.steps in (3, 4, 5))
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    with pytest.warns(UserWarning, match=r"no checkpoint this time: .*c cannot be written \(No space left on device\); what was there is untouched"):
        setup.fit(2, path, every=0.0, progress=Watch())
    assert contents[1] == contents[2] == contents[4] != contents[5]
    assert setup.everything() == whole.everything() and digest(path) == digest(tmp_path / "whole")
    assert os.listdir(tmp_path) in (["c", "whole"], ["whole", "c"])


def test_a_disk_that_is_full_at_the_end(tmp_path, monkeypatch):
    setup, path, resumed, whole = Setup(), tmp_path / "c", Setup(seed=3), Setup()
    whole.fit(2, tmp_path / "whole")
    failing(monkeypatch, lambda: setup.optimizer.steps > 9)
    with pytest.raises(files.WriteError, match="No space left on device"):
        setup.fit(2, path)
    assert len(setup.record["epochs"]) == 2 and setup.everything() == whole.everything()
    monkeypatch.undo()
    assert checkpoint.peek(path)[0]["steps"] == 0
    resumed.fit(2, path, resume=True)
    assert resumed.everything() == whole.everything()


def test_ctrl_c_on_a_full_disk_is_still_ctrl_c(tmp_path, monkeypatch):
    setup = Setup()
    failing(monkeypatch, lambda: setup.optimizer.steps > 0)
    with pytest.warns(UserWarning, match="no checkpoint this time"), pytest.raises(KeyboardInterrupt):
        setup.fit(2, tmp_path / "c", progress=Stop(1, 4))
    assert checkpoint.load(tmp_path / "c").run["steps"] == 0


def test_a_folder_that_refuses_writes_is_said_before_training(tmp_path):
    with pytest.raises(files.WriteError, match="cannot be written .No such file or directory.; what was there is untouched"):
        Setup().fit(1, tmp_path / "nowhere/c")
    (tmp_path / "file").write_text("x")
    with pytest.raises(files.WriteError, match="cannot be written"):
        Setup().fit(1, tmp_path / "file/c")


LIMITED = """
import resource, sys, warnings
from dataclasses import replace
from pathlib import Path
from minimask import checkpoint, data, recipes, runs, train
folder, kilobytes = Path(sys.argv[1]), int(sys.argv[2])
class Limit(train.Progress):
    def step(self, epoch, step, steps, loss):
        if (epoch, step) == (2, 3):
            if kilobytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))
            else:
                (folder / "filler").write_bytes(bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - 40960))
import os
checkpoint.SHARE = 1e9
recipe = replace(recipes.find("digits"), epochs=3)
warnings.simplefilter("always")
try:
    runs.run(recipe, data.digits(), 0, folder, every=0.0, progress=Limit())
except checkpoint.MinimaskError as error:
    print(type(error).__name__, error)
"""


def ends_short(folder, kilobytes):
    """A run that can write no more from epoch 2, step 3 on; its last good checkpoint must resume to the right end."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(folder), str(kilobytes)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("WriteError") and "what was there is untouched" in done.stdout
    assert "no checkpoint this time" in done.stderr and "Traceback" not in done.stderr
    run, _ = checkpoint.peek(folder / "checkpoint.npz")
    assert (len(run["record"]["epochs"]), run["step"]) in ((1, 2), (1, 3))
    assert not [name for name in os.listdir(folder) if name.endswith(".new")]


def test_a_write_that_breaks_off_in_the_middle(tmp_path):
    """A limit on the size of files, which the system enforces: the checkpoint, 1 MB, breaks off after 300 kB."""
    ends_short(tmp_path / "a", 300)
    recipe, digits = replace(recipes.find("digits"), epochs=3), data.digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another number of threads
        runs.run(recipe, digits, 0, tmp_path / "a", resume=True)
    runs.run(recipe, digits, 0, tmp_path / "b")
    assert digest(tmp_path / "a/checkpoint.npz") == digest(tmp_path / "b/checkpoint.npz")


def test_a_disk_that_fills_up(tmp_path):
    """A small file system of its own, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        ends_short(disk / "a", 0)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


HOLDER = """
import sys, time
from pathlib import Path
from minimask import files
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_is_for_one_process_and_a_crash_leaves_it_free(holder, tmp_path):
    recipe, digits = replace(recipes.find("digits"), epochs=1), data.digits()
    before = os.listdir(tmp_path / "a")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(MinimaskError, match=rf"a is in use by another run \(process {holder.pid}\)"):
            runs.run(recipe, digits, 0, tmp_path / "a", **options)
    assert os.listdir(tmp_path / "a") == before == [files.LOCK]
    holder.kill()
    holder.wait()
    runs.run(recipe, digits, 0, tmp_path / "a")
    assert files.LOCK not in os.listdir(tmp_path / "a")


def test_a_lock_may_be_asked_for_again_by_its_thread_only(tmp_path):
    told = []

    def other():
        try:
            with files.locked(tmp_path):
                told.append("held")
        except MinimaskError as error:
            told.append(str(error))

    with files.locked(tmp_path):
        with files.locked(tmp_path / "../" / tmp_path.name):
            pass
        assert files.LOCK in os.listdir(tmp_path)  # the inner one has not let go of it
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "is in use by another run" in told[0]
    assert os.listdir(tmp_path) == []
    other()
    assert told[1] == "held"


def test_a_lock_file_that_was_removed_in_between_is_not_the_folders(tmp_path, monkeypatch):
    """Opened, then removed by its holder, then locked: that lock would keep nobody out, so it is asked for again."""
    import fcntl

    real, calls = fcntl.flock, []

    def flock(descriptor, how):
        calls.append(1)
        if len(calls) == 1:
            (tmp_path / files.LOCK).unlink()
        return real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.locked(tmp_path):
        assert len(calls) == 2 and (tmp_path / files.LOCK).exists()
    assert os.listdir(tmp_path) == []


def test_without_fcntl_nobody_is_kept_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with files.locked(tmp_path):
        assert os.listdir(tmp_path) == []


# ---- a folder that someone else made -----------------------------------------------------------------------------------


def test_what_a_killed_write_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    """Both have names of the same form; only the second is locked. A file of one's own of another form stays."""
    left, own = tmp_path / f".x.{'0' * 16}{files.NEW}", tmp_path / ".x.mine.new"
    left.write_bytes(b"half"), own.write_bytes(b"own")
    with files.atomically(tmp_path / "x") as outer:
        outer.write(b"outer")
        assert not left.exists()
        files.write(tmp_path / "x", b"inner")
    assert (tmp_path / "x").read_bytes() == b"outer" and sorted(os.listdir(tmp_path)) == [".x.mine.new", "x"]


def test_the_name_of_a_file_that_is_being_written_cannot_be_known_before(tmp_path):
    names = set()
    for _ in range(5):
        with files.atomically(tmp_path / "x"):
            names |= {name for name in os.listdir(tmp_path) if name != "x"}
    assert len(names) == 5


def test_a_long_name_can_be_written(tmp_path):
    name = "ä" * 120
    files.write(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("content", [b"somebody's", b"1234 ", b"7" * 19 + b"x"])
def test_a_file_called_as_the_lock_that_is_none_stays_as_it_is(tmp_path, content):
    (tmp_path / files.LOCK).write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot be written to \(its \.lock is a link, or else no lock of minimask's"), \
            files.locked(tmp_path):
        pass
    assert (tmp_path / files.LOCK).read_bytes() == content


def test_a_lock_that_a_killed_process_left_is_taken_over(tmp_path):
    (tmp_path / files.LOCK).write_bytes(b"12345678")
    with files.locked(tmp_path):
        assert (tmp_path / files.LOCK).read_bytes() == str(os.getpid()).encode()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_pipes_are_not_waited_for(tmp_path):
    """Neither as a lock nor as something to read: what nobody writes to would never end."""
    os.mkfifo(tmp_path / files.LOCK)
    with pytest.raises(UsageError, match="no lock of minimask's"), files.locked(tmp_path):
        pass
    for read in (lambda path: files.read_arrays(path, {}), checkpoint.load, checkpoint.peek, export.load):
        with pytest.raises(MinimaskError, match="it is a pipe or a device"):
            read(tmp_path / files.LOCK)


def test_a_folder_inside_of_a_runs_is_no_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert files.own_folder(tmp_path, "elsewhere") == tmp_path / "elsewhere" and files.own_folder(tmp_path, "new")
    with pytest.raises(UsageError, match="link is a link, and what it leads to is another folder's"):
        files.own_folder(tmp_path, "link")
