"""Every command that writes, stopped at random moments by every signal, and given again: it ends in the same bits."""

import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import hostile
import numpy as np
import pytest
from test_sweep import others, toml, wait_for

from minimask import checkpoint, data, log, recipes, runs

pytestmark = [pytest.mark.once, pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")]
HERE = Path(__file__).parent
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL)
SMALL = replace(recipes.find("digits"), name="small", epochs=15)


def run_of(folder):
    """What a run has come to: digest, record and log without their clock, every array."""
    record = json.loads((folder / "record.json").read_text())
    for entry in record["epochs"]:
        del entry["seconds"]
    record.pop("environment")
    with np.load(folder / "network.npz", allow_pickle=False) as file:
        arrays = {name: file[name].tobytes() for name in file}
    lines = [{**line, "seconds": 0} for line in log.read(folder / runs.LOG)]
    return checkpoint.load(folder / runs.CHECKPOINT).digest(), record, lines, arrays


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Job:
    """A command, the folder that it writes to, and what is to be compared of that."""

    def __init__(self, command, out, result=files_of, pictures=False, url="-"):
        self.command, self.out, self.result, self.pictures, self.url = command, out, result, pictures, url

    def start(self, place):
        place.mkdir(exist_ok=True)
        if not self.pictures:  # matplotlib's take longer than the rest
            (place / "hidden").mkdir(exist_ok=True)
            (place / "hidden/matplotlib.py").write_text("raise ImportError")
        path = [str(place / "hidden"), str(Path(runs.__file__).parent.parent.parent)]
        return subprocess.Popen([sys.executable, str(HERE / "command.py"), self.url, *self.command.split()], cwd=place,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)})

    def names(self, place):
        return {str(path.relative_to(place)) for path in (place / self.out).rglob("*")}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """By name; the run that export, report and inspect read is trained once."""
    folder = tmp_path_factory.mktemp("jobs")
    runs.run(replace(SMALL, epochs=3), data.digits(), 0, folder / "done")
    recipe = toml(folder, SMALL)
    with hostile.Server(hostile.small_mnist(20_000)[3]) as server:
        yield {"train": Job(f"train {recipe} --resume --quiet --every-step --epoch-0 --out a", "a", run_of),
               "sweep": Job(f"sweep {recipe} --set wd=0.001,0.01 --order-seed 3 --jobs 2 --log --quiet --out a", "a",
                            lambda out: [run_of(out / f"small-wd_{wd}-seed0-order3") for wd in (0.001, 0.01)]),
               "export": Job(f"export {folder / 'done'} --overwrite -o a/tiny.mmk", "a"),
               "report": Job(f"report {folder / 'done'} --out a", "a", pictures=True),
               "inspect": Job(f"inspect {folder / 'done'} --repeats 1 --out a", "a", pictures=True),
               "fetch": Job("data fetch mnist --quiet --data a", "a", url=server.url)}
        server.shutdown()


def finish(process, seconds=120):
    try:
        return process.communicate(timeout=seconds)[1]
    finally:
        process.kill()


def stop(process, number, moment):
    """Sends a signal after so many seconds, if the process is still there; the status is one that a shell expects."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    # a terminal and a scheduler tell the whole group; a kill is for one
    with contextlib.suppress(ProcessLookupError):
        (process.send_signal if number == signal.SIGKILL else lambda each: os.killpg(process.pid, each))(number)
    error = finish(process)
    assert process.returncode in (0, -number, 128 + number), (process.returncode, error)
    if process.returncode != -signal.SIGINT:  # else it may be that our first line was not reached yet
        assert "Traceback" not in error and "bug" not in error, error
    assert "resource_tracker" not in error or number == signal.SIGKILL, error
    wait_for(lambda: not others(process.pid), 60)
    return process.returncode


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_what_was_stopped_ends_in_the_same_bits(count, jobs, tmp_path, capsys):
    """`count` commands that a signal has stopped, each given again until it gets through, some of them stopped twice."""
    whole, seconds, names = {}, {}, {}
    draw, tally = random.Random(count), collections.Counter()
    order = [(name, number) for number in SIGNALS for name in jobs]
    short = count < len(order)
    if short:  # each signal once, and the commands that draw no pictures
        order = list(zip((name for name, job in jobs.items() if not job.pictures), SIGNALS))
    for name, job in ((name, jobs[name]) for name in dict(order)):
        place = tmp_path / f"{name}-whole"
        (place / job.out).mkdir(parents=True)
        begun, process = time.monotonic(), job.start(place)
        error = finish(process)
        assert process.returncode == 0, error
        seconds[name], whole[name], names[name] = time.monotonic() - begun, job.result(place / job.out), job.names(place)
    stopped = number = 0
    while stopped < count:
        name, sign = order[number % len(order)]
        job, place = jobs[name], tmp_path / str(number)
        (place / job.out).mkdir(parents=True)
        for _ in range(1 if short else draw.choice((1, 2))):
            status = stop(job.start(place), sign, draw.uniform(0.3, 0.9) * seconds[name])
            stopped += status != 0
            tally[f"{name} {sign.name}: {status}"] += 1
        process = job.start(place)
        error = finish(process)
        assert process.returncode == 0, (name, sign, error)
        assert job.result(place / job.out) == whole[name], (name, sign)
        assert job.names(place) == names[name], (name, sign)
        shutil.rmtree(place)
        number += 1
        assert number < 5 * count, f"nothing is stopped: {tally}"
        if short and number == len(order):
            break
    with capsys.disabled():
        print(f"\n{stopped} stopped commands, {number} ended in the same bits:", dict(sorted(tally.items())))
    assert stopped >= (1 if short else count)
