"""A sweep on a real Dask scheduler with two worker processes on loopback, one of which is killed."""

import concurrent.futures
import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import needed
from test_sweep import LONG, TINY, alone, digests, epochs, toml, wait_for

from minimask import MinimaskError, runs, train
from minimask.__main__ import main
from minimask.cli import sweep as cli_sweep
from minimask.runs import cluster, sweep, workers

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def dask():
    needed("distributed", "Dask", "'.[cluster]' to sweep on a cluster")


@contextlib.contextmanager
def process(*words, **environment):
    """A Dask command in a process of its own, ended with the block."""
    quiet = {"DASK_DISTRIBUTED__ADMIN__LOG_LEVEL": "critical", "OPENBLAS_NUM_THREADS": "1",
             "PYTHONPATH": str(Path(train.__file__).parent.parent), **environment}
    with subprocess.Popen([sys.executable, "-P", "-m", "dask", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          env={**os.environ, **quiet}) as started:
        try:
            yield started
        finally:
            started.kill()


@contextlib.contextmanager
def scheduler(folder):
    """A scheduler on loopback; yields its address."""
    file = folder / "scheduler.json"
    with process("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file",
                 str(file)):
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        yield json.loads(file.read_text())["address"]


def worker(address, folder, name, **environment):
    """A worker without a nanny, so that nobody begins it again."""
    return process("worker", address, "--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host",
                   "127.0.0.1", "--name", name, "--local-directory", str(folder / name), **environment)


def test_a_killed_worker_loses_no_run(dask, tmp_path, capsys):
    """6 runs on two workers, one SIGKILLed in the middle of a run: all are there, once each, as they are alone."""
    out, words = tmp_path / "out", [toml(tmp_path, LONG), "--seeds", "6"]
    with scheduler(tmp_path) as address, worker(address, tmp_path, "a") as victim, worker(address, tmp_path, "b"):
        command = [sys.executable, "-m", "minimask", "sweep", *words, "--scheduler", address, "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sweeping:
            def under_way():
                locks = [path for path in out.glob("long-seed*/.lock") if path.read_text() == str(victim.pid)]
                return locks and epochs(locks[0].parent) > 2

            wait_for(under_way, 90)
            victim.send_signal(signal.SIGKILL)
            stdout, stderr = sweeping.communicate(timeout=180)
    assert sweeping.returncode == 0, stderr
    tasks = sweep.tasks([LONG], range(6), out)
    assert [line.split()[:2] for line in stdout.splitlines()[1:7]] == [[task.name, "25"] for task in tasks]
    assert all(stderr.count(f"{task.name} done") == 1 for task in tasks) and "Traceback" not in stderr
    assert digests(tasks) == alone(tmp_path / "alone", tasks)


@pytest.mark.parametrize("whole_job", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_worker_that_is_told_to_go_saves_its_run(whole_job, dask, tmp_path):
    """SIGTERM to the busy one of two: the idle one waits for its lock and goes on. Or to all of them and the sweep: the run
    is saved, and the same command goes on with it elsewhere."""
    out, words = tmp_path / "out", [toml(tmp_path, replace(LONG, epochs=60)), "--out", str(tmp_path / "out")]
    with scheduler(tmp_path) as address, worker(address, tmp_path, "a") as a, worker(address, tmp_path, "b") as b:
        command = [sys.executable, "-m", "minimask", "sweep", *words, "--scheduler", address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sweeping:
            wait_for(lambda: epochs(out / "long-seed0") > 2, 90)
            holder = int((out / "long-seed0/.lock").read_text())
            busy = a if a.pid == holder else b
            assert busy.pid == holder
            told = (sweeping, a, b) if whole_job else (busy,)
            for each in told:
                each.send_signal(signal.SIGTERM)
            try:
                _, stderr = sweeping.communicate(timeout=100)
                busy.wait(60)
            finally:
                sweeping.kill()
    assert "Traceback" not in stderr and sweeping.returncode == (143 if whole_job else 0), stderr
    tasks = sweep.tasks([replace(LONG, epochs=60)], range(1), out)
    assert not (out / "long-seed0/.lock").exists() and not (out / ".stop").exists()
    if whole_job:
        assert 0 < runs.peek(out / "long-seed0")[0]["steps"] < 60 * 12 and "interrupted; 1 of 1 runs" in stderr
        assert main(["sweep", *words, "--quiet"]) == 0
    assert digests(tasks) == alone(tmp_path / "alone", tasks)


def copied_source(folder):
    """Another source of the same version: one comment more."""
    package = Path(train.__file__).parent
    shutil.copytree(package, folder / "minimask", ignore=shutil.ignore_patterns("__pycache__", "*.mmk"))
    with open(folder / "minimask/optim.py", "a") as file:
        file.write("# another learning rate, say\n")
    return str(folder)


def test_a_worker_with_another_source_of_the_same_version_is_refused(dask, tmp_path, monkeypatch):
    """One that is there, and one that joins later; and a run that got there all the same is not begun."""
    there = copied_source(tmp_path / "other")
    (tmp_path / "sweep.json").write_text("{}")
    with scheduler(tmp_path) as address, worker(address, tmp_path, "a") as good:
        monkeypatch.setattr(cluster, "TIMEOUT", 60.0)
        with cluster.connected(address, tmp_path) as client:
            found = cluster.Found(client, tmp_path)
            assert found.threads() == 1
            with worker(address, tmp_path, "b", PYTHONPATH=there):
                client.wait_for_workers(2, timeout=60)
                assert found.threads() == 1
                bad, = (each for each, what in found.wrong.items() if what)
                assert found.wrong[bad].startswith("has another source of minimask")
                with pytest.raises(MinimaskError, match=f"the worker at {bad} has another source of minimask .*digest"), \
                        cluster.connected(address, tmp_path):
                    pass
                task = replace(sweep.tasks([TINY], range(1), tmp_path)[0], source=train.source_digest())
                outcome = client.submit(workers.work, task, workers=[bad]).result(timeout=60)
                assert outcome.state == "held" and "has another source of minimask (digest" in outcome.error
                assert not task.folder.exists()
        assert good.poll() is None


def test_a_cluster_that_cannot_do_the_work(dask, tmp_path, monkeypatch):
    """No worker; then one that does not see the folder."""
    monkeypatch.setattr(cluster, "TIMEOUT", 3.0)
    with scheduler(tmp_path) as address:
        with pytest.raises(MinimaskError, match="has no worker; start some with `dask worker tcp://"), \
                cluster.connected(address, tmp_path):
            pass
        monkeypatch.setattr(cluster, "TIMEOUT", 60.0)
        with worker(address, tmp_path, "a"), pytest.raises(MinimaskError, match=f"does not see {tmp_path}; every worker"), \
                cluster.connected(address, tmp_path):
            pass


def test_a_scheduler_that_is_not_there_is_a_sentence(dask, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "TIMEOUT", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"  # bound, but nobody listens
        start = time.monotonic()
        assert main(["sweep", toml(tmp_path, TINY), "--scheduler", address, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"no Dask scheduler answers at {address} within 1 s" in error and error.count("\n") == 1
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("address", ["foo://x", "nonsense", "tcp://host", "tcp://:8786", "tcp://host:port", "tcp://a:b:1",
                                     "tcp://host:99999", "tls://host:0", ""])
def test_what_is_no_address_is_a_sentence_at_once(address, dask, tmp_path, monkeypatch, capfd):
    """Before data are read and a folder is made; and no client is left that complains at its end."""
    monkeypatch.setattr(cli_sweep, "load_data", lambda *_: pytest.fail("it reads data first"))
    assert main(["sweep", "fcn", "--scheduler", address, "--out", str(tmp_path / "out")]) == 2
    gc.collect()
    error = capfd.readouterr().err
    assert error.startswith(f"minimask: --scheduler {address} is no address of a Dask scheduler (") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("jobs", "width"), [([], 6), (["--jobs", "4"], 4), (["--jobs", "9"], 6)])
def test_jobs_is_a_limit_on_a_cluster(jobs, width, tmp_path, monkeypatch):
    """Two workers of 2 and 4 threads."""
    widths = []

    class Client:
        get_executor = staticmethod(lambda: concurrent.futures.ThreadPoolExecutor(1))

        def nthreads(self):
            return {"tcp://a": 2, "tcp://b": 4}

        def run(self, look, folder, workers, on_error):
            return {address: look(folder) for address in workers}

    monkeypatch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext(Client()))
    monkeypatch.setattr(sweep, "sweep", lambda todo, begin, width, view: widths.append(width()) or {
        task.name: sweep.Outcome(task.name, "done") for task in todo})
    assert main(["sweep", toml(tmp_path, TINY), "--scheduler", "tcp://c:1", "--out", str(tmp_path / "out"), *jobs]) == 0
    assert widths == [width]


def test_without_dask_a_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["sweep", toml(tmp_path, TINY), "--scheduler", "tcp://127.0.0.1:1", "--out", str(tmp_path / "out")]) == 1
    assert "pip install distributed" in capsys.readouterr().err
