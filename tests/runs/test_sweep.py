"""Sweeps: several runs at a time, workers that die, sweeps that are stopped, folders that are not what they should be."""

import concurrent.futures
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from minimask import MinimaskError, UsageError, data, files, recipes, runs, train
from minimask.__main__ import main
from minimask.cli import sweep as cli_sweep
from minimask.runs import sweep, workers

pytestmark = pytest.mark.once
TINY = replace(recipes.find("digits"), name="tiny", epochs=2)
LONG = replace(recipes.find("digits"), name="long", epochs=25)


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


@pytest.mark.python
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


def others(session):
    """What the system counts as processes of a session, beside its leader."""
    found = []
    for entry in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        try:
            with open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if entry != str(session) and fields[3] == str(session) and fields[0] != "Z":
            found.append(entry)
    return found


@pytest.mark.parametrize(("who", "number", "status"), [
    ("the group, as a terminal does", signal.SIGINT, 130), ("the sweep alone", signal.SIGTERM, 143),
    ("the group, as a scheduler does", signal.SIGTERM, 143), ("the group, as its terminal closes", signal.SIGHUP, 129)])
def test_a_signal_saves_every_run_and_the_same_command_goes_on(who, number, status, tmp_path):
    """Nothing is left behind: no process, no lock, no sign to stop, no word of a resource tracker."""
    out, goes_on = tmp_path / "out", number == signal.SIGTERM and who.startswith("the group")
    recipe = replace(LONG, epochs=150 if goes_on else 100_000)  # one process may be seconds behind the other
    words = [toml(tmp_path, recipe), "--seeds", 3, "--jobs", 2, "--out", out]
    with start(tmp_path, *words) as process:
        wait_for(lambda: epochs(out / "long-seed0") > 1 and epochs(out / "long-seed1") > 1)
        (os.killpg if who.startswith("the group") else os.kill)(process.pid, number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    last = stderr.splitlines()[-1]
    assert re.match(r"minimask: interrupted; 3 of 3 runs are not finished.*minimask sweep ", last), stderr
    assert stderr == last + "\n"
    wait_for(lambda: not others(process.pid), 30)
    assert {path.name for path in out.glob("*")} == {"sweep.json", "long-seed0", "long-seed1"}
    for seed in (0, 1):
        assert runs.peek(out / f"long-seed{seed}")[0]["steps"] > 0
        assert set(os.listdir(out / f"long-seed{seed}")) == {"record.json", "network.npz", "checkpoint.npz"}
    if goes_on:
        with start(tmp_path, *words) as process:
            _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        tasks = sweep.tasks([recipe], range(3), out)
        assert digests(tasks) == alone(tmp_path / "alone", tasks)


@pytest.mark.parametrize("again", [True, False])
def test_workers_elsewhere_are_left_to_save_when_ctrl_c_comes_again_and_waited_for_after_an_error(again, tmp_path, monkeypatch):
    """The sign to stop stays where nobody waits until they have seen it; the next sweep removes it."""
    (task,) = todo(tmp_path / "sweep", replace(LONG, epochs=100_000), seeds=1)
    sign, real, pool = tmp_path / "sweep" / workers.STOP, files.mark, concurrent.futures.ThreadPoolExecutor(1)
    presses = iter([True])

    def view(*_):
        if epochs(task.folder):
            raise KeyboardInterrupt if again else ZeroDivisionError

    def mark(path):
        if again and next(presses, False):
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(files, "mark", mark)
    if again:
        assert swept([task], 1, lambda: pool, view=view)[task.name].state == "stopped" and sign.exists()
    else:
        with pytest.raises(ZeroDivisionError):
            swept([task], 1, lambda: pool, view=view)
        assert not sign.exists()
    pool.shutdown()
    assert 0 < runs.peek(task.folder)[0]["steps"] and (task.folder / "network.npz").exists()
    assert swept(todo(tmp_path / "sweep", seeds=1))["tiny-seed0"].state == "done" and not sign.exists()


def test_a_worker_that_is_told_to_go_saves_and_goes(tmp_path):
    """SIGTERM to one process: its run goes on in another, from the very step, and no worker has died."""
    out = tmp_path / "out"
    longer = replace(LONG, epochs=60)
    with start(tmp_path, toml(tmp_path, longer), "--jobs", 1, "--out", out) as process:
        wait_for(lambda: epochs(out / "long-seed0") > 2)
        holder = int((out / "long-seed0/.lock").read_text())
        os.kill(holder, signal.SIGTERM)
        wait_for(lambda: not running(holder))
        assert epochs(out / "long-seed0") < 60 and process.poll() is None
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0 and stderr == "long-seed0 done\n"
    tasks = sweep.tasks([longer], range(1), out)
    assert digests(tasks) == alone(tmp_path / "alone", tasks)


def test_a_process_that_dies_takes_no_other_with_it():
    """An executor of several processes breaks as a whole, and says of all their runs that their worker has died."""
    executor = workers.Processes(2)
    try:
        innocent, deadly = executor.submit(time.sleep, 2), executor.submit(os._exit, 3)
        with pytest.raises(RuntimeError, match="all 2 processes are at work"):
            executor.submit(abs, -1)
        with pytest.raises(workers.WorkerDied):
            deadly.result(timeout=60)
        assert executor.submit(abs, -1).result(timeout=60) == 1 and innocent.result(timeout=60) is None
        assert executor.pools[0]._mp_context.get_start_method() == "spawn"
    finally:
        executor.shutdown()


@pytest.mark.parametrize("how", ["left", "died"])
def test_when_the_processes_are_ended_no_thread_of_them_is_left(how):
    """Such a thread closes a pipe into which the interpreter writes as it goes: a traceback after the last sentence."""
    before = set(threading.enumerate())
    executor = workers.Processes(2)
    try:
        gone = executor.submit(os._exit, 3) if how == "died" else executor.submit(workers.Outcome, "a", "left")
        concurrent.futures.wait([gone], 60)
        assert executor.submit(abs, -1).result(timeout=60) == 1  # in another process; the first is ended beside it
        assert len([thread for thread in set(threading.enumerate()) - before if "Manager" in type(thread).__name__]) == 1
        again = executor.submit(workers.Outcome, "a", "left")
        concurrent.futures.wait([again], 60)
    finally:
        executor.shutdown()
    assert set(threading.enumerate()) <= before


def test_what_is_in_use_is_waited_for(tmp_path, monkeypatch):
    """The worker of a sweep that was killed a moment ago still has the folder; the other run goes first meanwhile."""
    monkeypatch.setattr(sweep, "PAUSE", 0.05)
    tasks, told, order = todo(tmp_path / "sweep", seeds=2), [], []
    lock = files.locked(tasks[0].folder)
    release = threading.Event()

    def hold():
        with lock:
            taken.set()
            release.wait(60)

    def view(outcomes, running, waiting, held):
        order.extend(name for name in outcomes if name not in order)
        told.extend(outcome.error for outcome in held.values())
        if tasks[1].name in outcomes and told:
            release.set()

    taken = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(60)
    try:
        outcomes = swept(tasks, jobs=1, view=view)
    finally:
        release.set()
        holder.join()
    assert order == [tasks[1].name, tasks[0].name] and f"{tasks[0].folder} is in use by another run" in told[0]
    assert {outcome.state for outcome in outcomes.values()} == {"done"}


def test_what_stays_in_use_fails_after_a_while_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "PAUSE", 0.05)
    monkeypatch.setattr(sweep, "PATIENCE", 0.3)
    tasks, results = todo(tmp_path / "sweep", seeds=2), []
    with files.locked(tasks[0].folder):
        thread = threading.Thread(target=lambda: results.append(swept(tasks, jobs=1)))
        thread.start()
        thread.join()
    outcome, other = (results[0][task.name] for task in tasks)
    assert outcome.state == "failed" and "is in use by another run" in outcome.error and outcome.error.endswith("s)")
    assert other.state == "done"


def test_a_sweep_given_again_right_after_it_was_killed_waits_for_its_own_workers(tmp_path):
    """They still have their step and their checkpoint to finish, with the locks of their folders."""
    out = tmp_path / "out"
    words = [toml(tmp_path, LONG), "--seeds", 2, "--jobs", 2, "--out", out]
    with start(tmp_path, *words) as process:
        wait_for(lambda: epochs(out / "long-seed0") > 1 and epochs(out / "long-seed1") > 1)
        process.kill()
    with start(tmp_path, *words) as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    tasks = sweep.tasks([LONG], range(2), out)
    assert digests(tasks) == alone(tmp_path / "alone", tasks)


def test_another_source_of_minimask_does_no_work(tmp_path):
    task = replace(todo(tmp_path / "sweep", seeds=1)[0], source="0123456789abcdef")
    outcome = workers.work(task)
    assert outcome.state == "held" and "has another source of minimask (digest" in outcome.error
    assert not task.folder.exists()
    assert workers.work(replace(task, source=train.source_digest())).state == "done"


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


def test_a_sweep_of_which_no_run_has_begun_may_be_another_one(tmp_path):
    """A scheduler that cannot be reached, say, leaves sweep.json alone behind."""
    folder = tmp_path / "sweep"
    sweep.claim(folder, todo(folder, seeds=2))
    other = replace(TINY, epochs=1, lr=0.1)
    sweep.claim(folder, todo(folder, other, seeds=1))
    assert sweep.read_index(folder)["recipes"]["tiny"] == json.loads(json.dumps(other.as_dict()))


def test_a_sweep_takes_more_epochs_and_not_fewer(tmp_path, capsys):
    words = ["sweep", toml(tmp_path, TINY), "--out", str(tmp_path / "out"), "--quiet", "--jobs", "1"]
    assert main(words) == 0
    assert main([*words, "--epochs", "3"]) == 0
    task, = sweep.tasks([replace(TINY, epochs=3)], range(1), tmp_path / "out")
    assert epochs(task.folder) == 3 and digests([task]) == alone(tmp_path / "alone", [task])
    assert sweep.read_index(tmp_path / "out")["recipes"]["tiny"]["epochs"] == 3
    assert main(words) == 2
    assert "was begun with 3 epochs of 'tiny', and 2 are fewer; give as many or more" in capsys.readouterr().err


@pytest.fixture
def not_worked_off(monkeypatch):
    """Sweeps are set up, and not begun: the list of their tasks."""
    found = []

    def sweep_nothing(todo, *_):
        found.extend(todo)
        return {task.name: sweep.Outcome(task.name, "done") for task in todo}

    monkeypatch.setattr(sweep, "sweep", sweep_nothing)
    return found


def test_what_a_kill_left_of_an_index_does_not_refuse_the_next_sweep(tmp_path, not_worked_off):
    """A process that dies in the middle of writing it leaves what it leaves, and the next sweep removes that."""
    (tmp_path / "out").mkdir()
    code = ("import os, pathlib, sys; from minimask import files\n"
            "with files.locked(pathlib.Path(sys.argv[1])), files.atomically(pathlib.Path(sys.argv[1], 'sweep.json')) as file:\n"
            "    file.write(b'{\"format\"'); file.flush(); os._exit(9)")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")]).returncode == 9
    left = set(os.listdir(tmp_path / "out")) - {".lock"}
    assert [name.startswith(".sweep.json.") and name.endswith(".new") for name in left] == [True]
    assert main(["sweep", "digits", "--out", str(tmp_path / "out")]) == 0
    assert sweep.read_index(tmp_path / "out")["runs"] == ["digits-seed0"]
    assert set(os.listdir(tmp_path / "out")) <= {"sweep.json", ".lock"}


def test_thirty_thousand_seeds_are_set_up_at_once(tmp_path, monkeypatch, not_worked_off, capsys):
    """What is done for each run is little, and nothing is done for each pair of them; there is a most."""
    calls, real = [], recipes.Recipe.as_dict
    monkeypatch.setattr(recipes.Recipe, "as_dict", lambda recipe: calls.append(1) or real(recipe))
    assert main(["sweep", "digits", "--seeds", "30000", "--out", str(tmp_path / "out")]) == 0
    assert len(not_worked_off) == 30_000 == len(sweep.read_index(tmp_path / "out")["runs"]) and len(calls) < 10
    capsys.readouterr()
    for seeds in (50_001, 10**40):
        assert main(["sweep", "digits", "digits-dense", "--seeds", str(seeds), "--out", str(tmp_path / "more")]) == 2
        assert f"{2 * seeds:,} runs ({seeds:,} seeds) are more than a sweep takes: 100,000" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


def test_the_data_folder_of_the_environment_reaches_the_workers(tmp_path, monkeypatch, not_worked_off):
    """Whose own environment may be another: --data does so, too, and goes before."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIMASK_DATA", "there")
    assert main(["sweep", "digits", "--out", "out"]) == main(["sweep", "digits", "--out", "out", "--data", "here"]) == 0
    assert [task.data for task in not_worked_off] == [str(tmp_path / "there"), str(tmp_path / "here")]


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
