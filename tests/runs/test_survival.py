"""Runs that are killed, files that are mutated, processes that differ in what does not matter: all in child processes."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from survivor import MOMENTS

from minimask import checkpoint, data, files, recipes, runs, train

pytestmark = pytest.mark.once
HERE = Path(__file__).parent
EPOCHS = 12
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1",
               "PYTHONPATH": os.pathsep.join([str(Path(train.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}


def start(*words, **options):
    return subprocess.Popen([sys.executable, *map(str, words)], env=ENVIRONMENT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


def finish(*words, timeout=120, **options):
    process = start(*words, **options)
    try:
        out, error = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, error


def result(folder):
    """What a run has come to: digest, record without its clock, every array."""
    record = json.loads((folder / "record.json").read_text())
    for entry in record["epochs"]:
        del entry["seconds"]
    with np.load(folder / "network.npz", allow_pickle=False) as file:
        arrays = {name: file[name].tobytes() for name in file}
    return checkpoint.load(folder / runs.CHECKPOINT).digest(), record, arrays


def left_over(folder):
    """Names of checkpoints that were being written when their process was killed."""
    return {path.name for path in folder.glob(f".{runs.CHECKPOINT}.*{files.NEW}")}


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory):
    """The folder of the run that is never stopped, and how long it took."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    begun = time.monotonic()
    status, _, error = finish(HERE / "survivor.py", folder, EPOCHS)
    assert status == 0, error
    return folder, time.monotonic() - begun


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_runs_that_are_killed_end_as_if_they_had_not_been(count, unstopped, tmp_path, capsys):
    """SIGKILL at random moments, then resumed, then killed again, until a run gets through."""
    whole, seconds = unstopped
    expected, draw = result(whole), random.Random(count)
    assert expected[1]["shrink"] and expected[1]["epochs"][-1]["layers"][0]["dead"] > 100  # its net shrinks meanwhile
    kills = half_written = in_mid_epoch = number = 0
    while number < count:
        folder, before = tmp_path / str(number), kills
        while True:
            was_left, process = left_over(folder), start(HERE / "survivor.py", folder, EPOCHS)
            try:
                process.wait(draw.uniform(0.1 * seconds, 1.1 * seconds))
            except subprocess.TimeoutExpired:
                process.kill()
            _, error = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -9, error
            kills += 1
            assert kills < 100 * count, "no run gets through"
            half_written += bool(left_over(folder) - was_left)
            if (folder / runs.CHECKPOINT).exists():  # whatever the moment, it is whole
                in_mid_epoch += checkpoint.load(folder / runs.CHECKPOINT).run["step"] > 0
        assert result(folder) == expected, number
        assert set(os.listdir(folder)) == {"record.json", "network.npz", runs.CHECKPOINT}
        if kills > before:
            number += 1
        else:  # it got through at once, so it is run again, and the next kill comes sooner
            shutil.rmtree(folder)
            seconds *= 0.9
    with capsys.disabled():
        print(f"\n{count} runs, {kills} kills: {half_written} in the middle of writing a checkpoint, "
              f"{in_mid_epoch} left a state in mid-epoch; all ended in the same bits")
    assert kills >= count
    assert (half_written and in_mid_epoch) or count < 50


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_in_the_writing_of_a_checkpoint_leaves_the_old_or_the_new_one(moment, unstopped, tmp_path):
    status, _, error = finish(HERE / "survivor.py", tmp_path / "a", EPOCHS, moment)
    assert status == -9, error
    state = checkpoint.load(tmp_path / "a" / runs.CHECKPOINT)
    assert (state.run["steps"] > 0) == (moment == "after the rename")
    assert len(left_over(tmp_path / "a")) == (moment != "after the rename")
    status, _, error = finish(HERE / "survivor.py", tmp_path / "a", EPOCHS)
    assert status == 0, error
    assert result(tmp_path / "a") == result(unstopped[0])
    assert not left_over(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
@pytest.mark.parametrize("count", [175, pytest.param(3400, marks=pytest.mark.slow)])
def test_mutated_checkpoints_are_refused_or_load_as_they_were(count, capsys):
    """In 200 MB: only MinimaskError comes out, never a crash, a hang, a MemoryError or another state."""
    status, out, error = finish(HERE.parent / "fuzz_checkpoint.py", count, 0, 200, timeout=600)
    assert status == 0, error[-2000:]
    tally = json.loads(out)
    assert sum(sum(each.values()) for each in tally.values()) == count
    for kind in ("flip", "truncate", "edit_members", "edit_text"):
        assert tally[kind]["refused"] > 0.7 * count / len(tally), tally
    with capsys.disabled():
        print("\nmutated checkpoints:", ", ".join(f"{kind} {each['refused']}/{sum(each.values())}" for kind, each in tally.items()), "refused")


ABSURD = """
import json, resource, sys, zipfile
from minimask import MinimaskError, checkpoint, data, files, recipes, runs
import numpy as np
path, what = sys.argv[1:]
run = {"settings": {}, "begun": 0, "step": 0, "loss_sum": 0.0, "right": 0, "seconds": 1.0, "steps": 0, "schedule": 1.0,
       "rng": {}, "record": {"epochs": []}}
header = "{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000), }"
member = b"\\x93NUMPY\\x01\\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(1 << 16)
if what == "promise":  # the text and the member promise 40 GB, the file has 64 kB
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run.json", json.dumps({"format": 1, "digest": "0", "text": checkpoint._sha256(run), "arrays": {"x": ["<f4", [10**5, 10**5]]}, "run": run}))
        archive.writestr("x.npy", member)
elif what == "size":  # so does the archive's own table
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run.json", json.dumps({"format": 1, "digest": "0", "text": checkpoint._sha256(run), "arrays": {"x": ["<f4", [30000, 30000]]}, "run": run}))
        archive.writestr("x.npy", member.replace(b"(100000, 100000)", b"(30000, 30000)  "))
    content = bytearray(open(path, "rb").read())
    for signature, at in ((b"PK\\x03\\x04", 18), (b"PK\\x01\\x02", 20)):
        place = content.rindex(signature) + at
        content[place:place + 8] = (10 + len(header) + 4 * 30000**2).to_bytes(4, "little") * 2
    open(path, "wb").write(content)
elif what == "text":  # a text of 200 MB of spaces, compressed
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("run.json", "w") as file:
        for _ in range(200):
            file.write(b" " * (1 << 20))
else:  # an array and 200 MB of zeros, compressed, in the place of a net's
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        file.write(member.replace(b"(100000, 100000), }", b"(2, 2), }          "))
        for _ in range(200):
            file.write(bytes(1 << 20))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
try:
    files.read_arrays(path, {"x": ("<f4", (2, 2))}) if what == "network" else checkpoint.load(path)
except MinimaskError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
@pytest.mark.parametrize(("what", "sentence"), [
    ("promise", "x.npy promises 65,615 bytes, but 40,000,000,079 are needed"), ("size", "its members promise 3,600,"),
    ("text", "run.json promises 209,715,200 bytes, but at most"), ("network", "x.npy promises 209,780,815 bytes, but 95 are")])
def test_absurd_sizes_are_refused_before_memory_is_taken(what, sentence, tmp_path):
    status, out, error = finish("-c", ABSURD, tmp_path / "c.npz", what)
    assert status == 0 and sentence in out, (out, error[-500:])


WITHIN = """
import sys
sys.argv = ["x"]
{before}
from dataclasses import replace
from minimask import checkpoint, data, recipes, runs
from minimask.fast import threads
with threads.blas_threads(1):
    runs.run(replace(recipes.find("digits"), epochs=2), data.digits(), {seed}, "out")
print(checkpoint.peek("out/checkpoint.npz")[1])
"""


def test_the_seed_alone_decides_the_digest(tmp_path):
    """The same seed twice, another seed, other imports, another folder, another hash seed, another locale."""
    def run(name, seed=0, before="", **environment):
        (tmp_path / name).mkdir()
        process = subprocess.run([sys.executable, "-c", WITHIN.format(seed=seed, before=before)], cwd=tmp_path / name,
                                 capture_output=True, text=True, env={**ENVIRONMENT, **environment}, timeout=120)
        assert process.returncode == 0, process.stderr
        return process.stdout.split()[-1]

    first = run("a")
    assert len(first) == 64 and run("b", seed=1) != first
    imports = "import matplotlib.figure, random, numpy\nnumpy.random.seed(5)\nnumpy.random.rand(3)\nrandom.random()\n"
    assert run("c", before=imports, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="1") == first
    if importlib.util.find_spec("torch"):
        assert run("d", before="import torch; torch.manual_seed(1)") == first


@pytest.mark.slow
def test_checkpoints_cost_less_than_a_fiftieth_of_an_fcn_run_on_mnist(mnist_folder, tmp_path, monkeypatch, capsys):
    """Recipe fcn with the default of 30 s, for two minutes or so: time in saves and in what else they need, over all."""
    spent, real_save = [0.0, 0.0], checkpoint.Keeper.save

    def save(keeper, training):
        begun = time.perf_counter()
        real_save(keeper, training)
        spent[0] += time.perf_counter() - begun
        spent[1] += 1

    monkeypatch.setattr(checkpoint.Keeper, "save", save)
    begun = time.perf_counter()
    runs.run(replace(recipes.find("fcn"), epochs=50), data.load("mnist", mnist_folder), 0, tmp_path / "a")
    whole = time.perf_counter() - begun
    with capsys.disabled():
        print(f"\n{spent[1]:.0f} checkpoints, {spent[0]:.2f} s of {whole:.1f} s: {spent[0] / whole:.2%}")
    assert spent[1] >= 3 and spent[0] < 0.02 * whole
