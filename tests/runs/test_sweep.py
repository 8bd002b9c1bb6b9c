"""Sweeps: several runs at a time, workers that die, sweeps that are stopped, folders that are not what they should be."""

import concurrent.futures
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from minimask import MinimaskError, UsageError, data, files, recipes, runs, train
from minimask.__main__ import main
from minimask.cli import sweep as cli_sweep
from minimask.runs import sweep, workers

pytestmark = pytest.mark.once
TINY = replace(recipes.find("digits"), name="tiny", epochs=2)
LONG = replace(recipes.find("digits"), name="long", epochs=40)


def todo(folder, *chosen, seeds=2):
    folder.mkdir(exist_ok=True)
    return sweep.tasks(chosen or (TINY,), range(seeds), folder, threads=1)


def swept(tasks, jobs=2, begin=None, **options):
    """The tasks' outcomes: in threads of this process unless told where."""
    return sweep.sweep(tasks, begin or (lambda: concurrent.futures.ThreadPoolExecutor(jobs)), lambda: jobs, pause=0.05,
                       **options)


def digests(tasks):
    return {task.name: runs.peek(task.folder)[1] for task in tasks}


def alone(folder, tasks):
    """The digests of the same runs, each by itself."""
    found = {}
    for task in tasks:
        runs.run(recipes.from_dict(task.recipe), data.digits(), task.seed, folder / task.name)
        found[task.name] = runs.peek(folder / task.name)[1]
    return found


def toml(folder, recipe):
    path = folder / f"{recipe.name}.toml"
    path.write_text(recipe.toml())
    return str(path)


def start(folder, *words):
    """`minimask sweep` in a process (and a process group) of its own."""
    return subprocess.Popen([sys.executable, "-m", "minimask", "sweep", *map(str, words)], cwd=folder, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def parent(pid):
    """The process that started this one: /proc says it, and `ps` where there is none (macOS)."""
    if os.path.exists("/proc/self/stat"):
        with open(f"/proc/{pid}/stat") as file:  # number (name) state parent ...; the name may hold anything
            return int(file.read().rpartition(")")[2].split()[1])
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def epochs(folder):
    try:
        return len(json.loads((folder / "record.json").read_text())["epochs"])
    except (OSError, ValueError):
        return 0


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_every_run_of_a_sweep_is_what_it_is_alone(tmp_path):
    """On any executor, here threads; in the folder of its name, to the bit."""
    tasks = todo(tmp_path / "sweep", TINY, replace(TINY, name="dense", source="trained", source_settings={}))
    assert [task.name for task in tasks] == ["tiny-seed0", "dense-seed0", "tiny-seed1", "dense-seed1"]
    outcomes = swept(tasks)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {task.name: "done" for task in tasks}
    assert digests(tasks) == alone(tmp_path / "alone", tasks)


def test_a_sweep_in_processes_of_the_command_line(tmp_path, capsys):
    """Spawned, with the cores shared among them; records say one BLAS thread for two jobs on two cores."""
    out = tmp_path / "out"
    words = ["sweep", toml(tmp_path, TINY), "digits-dense", "--seeds", "2", "--epochs", "2", "--jobs", "2", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr()
    assert sorted(p.name for p in out.iterdir()) == ["digits-dense-seed0", "digits-dense-seed1", "sweep.json", "tiny-seed0",
                                                     "tiny-seed1"]
    assert {line.split()[0] for line in said.out.splitlines()[1:5]} == {"tiny-seed0", "tiny-seed1", "digits-dense-seed0",
                                                                      "digits-dense-seed1"}
    assert f"minimask report {out}" in said.out and said.err.count(" done") == 4
    record = json.loads((out / "tiny-seed1/record.json").read_text())
    assert record["environment"]["blas_threads"] in (workers.share_of_cores(2), None) and record["seed"] == 1
    tasks = sweep.tasks([TINY], range(2), out)
    before = digests(tasks)
    assert before == alone(tmp_path / "alone", tasks)
    times = {task.name: (task.folder / "checkpoint.npz").stat().st_mtime_ns for task in tasks}
    words[words.index("--seeds") + 1] = "3"
    assert main([*words, "--quiet"]) == 0  # one seed more: the others are left alone
    assert (out / "tiny-seed2").is_dir() and capsys.readouterr().err == ""
    assert digests(tasks) == before
    assert {task.name: (task.folder / "checkpoint.npz").stat().st_mtime_ns for task in tasks} == times


def test_the_cores_are_shared_among_the_jobs(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 8)
    assert [workers.share_of_cores(jobs) for jobs in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


def test_one_failed_run_does_not_lose_the_others(tmp_path, capsys):
    bad = replace(TINY, name="bad", lr=1e3, source="trained", source_settings={})
    out = tmp_path / "out"
    assert main(["sweep", toml(tmp_path, bad), toml(tmp_path, TINY), "--seeds", "2", "--jobs", "1", "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert "minimask: 2 of 4 runs failed (bad-seed0: " in said.err and "training diverged" in said.err
    assert "the same command goes on from there: minimask sweep" in said.err
    assert all(runs.finished(json.loads((out / f"tiny-seed{seed}/record.json").read_text())) for seed in (0, 1))


def test_a_plateau_that_made_its_last_cut_is_finished():
    recipe = replace(TINY, epochs=50, schedule="plateau", schedule_settings={"patience": 1, "cooldown": 0, "max_cuts": 2})
    record = {"recipe": recipe.as_dict(), "epochs": [{"train_loss": 1.0}] * 2}
    assert not runs.finished(record)
    record["epochs"].append({"train_loss": 1.0})  # 1 epoch to set the best, then a cut each
    assert runs.finished(record)
    assert not runs.finished({"recipe": TINY.as_dict(), "epochs": [{}]}) and runs.finished(
        {"recipe": TINY.as_dict(), "epochs": [{}, {}]})


# ---- stopped and killed ----------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path):
    """SIGKILL to a process that trains: its run goes on from its checkpoint in a new one, to the same bits."""
    out = tmp_path / "out"
    words = [toml(tmp_path, LONG), "--seeds", 4, "--jobs", 2, "--out", out]
    with start(tmp_path, *words) as process:
        wait_for(lambda: epochs(out / "long-seed0") > 2)
        holder = int((out / "long-seed0/.lock").read_text())
        assert parent(holder) == process.pid
        os.kill(holder, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    tasks = sweep.tasks([LONG], range(4), out)
    assert digests(tasks) == alone(tmp_path / "alone", tasks)
    assert [line.split()[0] for line in stdout.splitlines()[1:5]] == [task.name for task in tasks]  # each once
    assert stderr.count("long-seed0 done") == 1


@pytest.mark.parametrize("who", ["the group, as a terminal does", "the sweep alone"])
def test_ctrl_c_saves_every_run_and_the_same_command_goes_on(who, tmp_path):
    out = tmp_path / "out"
    words = [toml(tmp_path, LONG), "--seeds", 3, "--jobs", 2, "--out", out]
    with start(tmp_path, *words) as process:
        wait_for(lambda: epochs(out / "long-seed0") > 1 and epochs(out / "long-seed1") > 1)
        (os.killpg if who.startswith("the group") else os.kill)(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"minimask: interrupted; 3 of 3 runs are not finished.*minimask sweep ", stderr), stderr
    assert "Traceback" not in stderr and not (out / sweep.STOP).exists()
    stopped = runs.peek(out / "long-seed0")[0]
    assert stopped["steps"] > 0 and not (out / "long-seed2").exists()
    with start(tmp_path, *words) as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    tasks = sweep.tasks([LONG], range(3), out)
    assert digests(tasks) == alone(tmp_path / "alone", tasks)


def test_a_run_that_was_killed_at_its_very_end_is_ended_again(tmp_path):
    """All epochs are in its record and its checkpoint, but the net was not written yet."""
    tasks = todo(tmp_path / "sweep", seeds=2)
    swept(tasks)
    before, network = digests(tasks), (tasks[0].folder / "network.npz").read_bytes()
    (tasks[0].folder / "network.npz").unlink()
    outcomes = swept(tasks)
    assert [outcomes[task.name].fresh for task in tasks] == [True, False]
    assert (tasks[0].folder / "network.npz").read_bytes() == network and digests(tasks) == before


def test_when_the_sweep_is_killed_its_workers_save_and_leave(tmp_path):
    out = tmp_path / "out"
    with start(tmp_path, toml(tmp_path, replace(LONG, epochs=100_000)), "--seeds", 2, "--jobs", 2, "--out", out) as process:
        wait_for(lambda: epochs(out / "long-seed0") > 1 and epochs(out / "long-seed1") > 1)
        workers = [int((out / f"long-seed{seed}/.lock").read_text()) for seed in (0, 1)]
        process.kill()
    wait_for(lambda: not any(running(pid) for pid in workers), 30)
    for seed in (0, 1):
        assert runs.peek(out / f"long-seed{seed}")[0]["steps"] > 0
        assert not (out / f"long-seed{seed}/.lock").exists()  # it left in order, not by force


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Dying(concurrent.futures.Executor):
    """Does the work at once, in this thread; tasks in `deadly` break it, as a process pool breaks."""

    made = 0

    def __init__(self, deadly):
        type(self).made += 1
        self.deadly, self.broken = deadly, False

    def submit(self, function, task):
        if self.broken:
            raise concurrent.futures.BrokenExecutor("it is broken")
        future = concurrent.futures.Future()
        if task.name in self.deadly:
            self.broken = True
            future.set_exception(concurrent.futures.BrokenExecutor("a process died"))
        else:
            future.set_result(function(task))
        return future


def test_a_run_that_always_kills_its_worker_is_given_up(tmp_path):
    tasks, Dying.made = todo(tmp_path / "sweep", seeds=3), 0
    outcomes = swept(tasks, begin=lambda: Dying({"tiny-seed1"}), jobs=1)
    assert [outcomes[f"tiny-seed{seed}"].state for seed in range(3)] == ["done", "failed", "done"]
    assert outcomes["tiny-seed1"].error == ("its worker died 3 times after step 0, the last time with BrokenExecutor: a "
                                            "process died")
    assert Dying.made == 1 + sweep.TRIES


def test_a_worker_may_die_often_where_the_run_gets_further(tmp_path):
    """Other errors of an executor (a lost connection) are no reason to make a new one."""
    task, = todo(tmp_path / "sweep", replace(LONG, epochs=8), seeds=1)

    class Losing(concurrent.futures.Executor):
        def submit(self, function, task):
            future = concurrent.futures.Future()
            steps = epochs(task.folder)
            runs.run(replace(LONG, epochs=steps + 1), data.digits(), 0, task.folder, resume=steps > 0)
            future.set_result(function(task)) if steps == 6 else future.set_exception(ConnectionError("lost"))
            return future

    outcomes = swept([task], begin=Losing, jobs=1)
    assert outcomes[task.name].state == "done" and epochs(task.folder) == 8
    assert digests([task]) == alone(tmp_path / "alone", [task])


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "sentence"), [
    (["digits", "--jobs", "0"], "argument --jobs: '0' is no whole number from 1 up"),
    (["digits", "--seeds", "0"], "argument --seeds: '0' is no whole number from 1 up"),
    (["digits", "--jobs", "two"], "argument --jobs: 'two' is no whole number"),
    ([], "the following arguments are required: RECIPE"),
    (["digitz"], "unknown recipe 'digitz': did you mean 'digits'"),
    (["digits", "digits"], "two runs of the sweep are called digits-seed0"),
    (["digits", "no.toml"], "no.toml cannot be read"),
    (["digits", "--dataset", "mnits"], "unknown dataset 'mnits': did you mean 'mnist'"),
    (["digits", "--backend", "numpi"], "unknown backend 'numpi'"),
    (["fcn"], "MINIMASK_DATA")])
def test_wrong_usage_is_a_sentence_and_leaves_nothing(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    assert main(["sweep", *words, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def swept_once(folder):
    tasks = todo(folder, seeds=1)
    sweep.claim(folder, tasks)
    swept(tasks)
    return tasks


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["sweep", "digits", "--epochs", "1", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no sweep.json, but other things (thesis.txt); give an empty" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_sweep_of_another_format_or_recipe_is_left_alone(tmp_path):
    tasks = swept_once(tmp_path / "sweep")
    index, before = tmp_path / "sweep/sweep.json", digests(tasks)
    text = index.read_text()
    with pytest.raises(UsageError, match="was begun with another recipe 'tiny': its lr is 0.05, but 0.1 was asked for"):
        sweep.claim(tmp_path / "sweep", todo(tmp_path / "sweep", replace(TINY, lr=0.1), seeds=1))
    index.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(UsageError, match="holds a sweep of format 2, this minimask knows 1"):
        sweep.claim(tmp_path / "sweep", tasks)
    for damaged in (text[:40], "[]", "{}", text.replace('"runs": [', '"runs": 3, "walks": [')):
        index.write_text(damaged)
        with pytest.raises(MinimaskError, match=r"holds no sweep: .*sweep.json"):
            sweep.claim(tmp_path / "sweep", tasks)
    index.write_text(text)
    sweep.claim(tmp_path / "sweep", tasks)
    assert digests(tasks) == before and index.read_text() == text


def test_a_runs_folder_that_holds_something_else_fails_alone(tmp_path):
    """Another run, a damaged record, no record at all: named, untouched; the others are done."""
    folder = tmp_path / "sweep"
    tasks = todo(folder, seeds=5)
    runs.run(replace(TINY, lr=0.1), data.digits(), 0, tasks[0].folder)
    runs.run(TINY, data.digits(), 7, tasks[1].folder)
    for task, text in ((tasks[2], '{"format": 1'), (tasks[3], "[1, 2]")):
        task.folder.mkdir()
        (task.folder / "record.json").write_text(text)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    outcomes = swept(tasks)
    for task, sentence in zip(tasks, ("holds another run: its lr is 0.1", "holds another run: its seed is 7",
                                      "record.json is damaged", "record.json is damaged: a JSON list", "")):
        assert sentence in outcomes[task.name].error and outcomes[task.name].state == ("failed" if sentence else "done")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_overwrite_begins_anew(tmp_path, capsys):
    words = ["sweep", toml(tmp_path, TINY), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(words) == 0
    toml(tmp_path, replace(TINY, lr=0.1))
    assert main(words) == 2 and "was begun with another recipe" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    record = json.loads((tmp_path / "out/tiny-seed0/record.json").read_text())
    assert record["recipe"]["lr"] == 0.1


def test_one_sweep_at_a_time_has_the_folder(tmp_path, capsys):
    import threading

    (tmp_path / "out").mkdir()
    free, taken = threading.Event(), threading.Event()

    def hold():
        with files.locked(tmp_path / "out"):
            taken.set()
            free.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        assert main(["sweep", "digits", "--epochs", "1", "--out", str(tmp_path / "out")]) == 1
    finally:
        free.set()
        thread.join()
    assert "is in use by another run" in capsys.readouterr().err


# ---- the view --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_view_counts_and_estimates(tmp_path):
    """3 runs of 2 epochs, one done, one with an epoch of 10 s behind it, one of 20 s to come, which nothing shortens."""
    tasks = todo(tmp_path / "sweep", seeds=3)
    tasks[1].folder.mkdir()
    (tasks[1].folder / "record.json").write_text(json.dumps({**train.new_record({}, 1, "digits"), "epochs": [{
        "epoch": 1, "step": 12, "flips": 0, "seconds": 10.0,
        **dict.fromkeys(("train_loss", "train_accuracy", "test_accuracy", "weights_left"), 0.5),
        "layers": [{"name": "dense1", "weights": 2, "kept": 1, "hidden": 1, "inverted": 0}]}]}))
    stream = Terminal()
    view = cli_sweep.View(3, lambda: 2, stream)
    view.tell({tasks[0].name: sweep.Outcome(tasks[0].name, "done", notes=("mind this",))}, [tasks[1]], [tasks[2]])
    view.stop()
    assert stream.getvalue().startswith("tiny-seed0: mind this\ntiny-seed0 done\n\r1 of 3 runs done · 1 running (tiny-seed1 "
                                        "1/2) · 0 failed · 20 s to go\x1b[K")
    view = cli_sweep.View(4, lambda: 2, log := io.StringIO(), pause=0)
    failed = sweep.Outcome("tiny-seed0", "failed", "because")
    view.tell({"tiny-seed0": failed}, [tasks[1]], [tasks[2], tasks[0]])
    view.tell({"tiny-seed0": failed}, [], [tasks[2]])
    lines = log.getvalue().splitlines()
    assert lines[0] == "tiny-seed0 failed: because" and lines.count(lines[0]) == 1
    assert lines[1] == "0 of 4 runs done · 1 running (tiny-seed1 1/2) · 1 failed · 25 s to go"  # (10 + 20 + 20) / 2
    cli_sweep.View(1, lambda: 1, None, pause=0).tell({"tiny-seed0": failed}, [tasks[1]], [])  # silent, not broken
    assert [cli_sweep.duration(s) for s in (45, 720, 12600)] == ["45 s", "12 min", "3.5 h"]
