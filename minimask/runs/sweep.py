"""Sweeps: recipes x seeds, a folder per run, on processes of this machine or on any ``concurrent.futures.Executor``.

A sweep's folder holds ``sweep.json``, which says what belongs to it, and a run's folder (see :mod:`minimask.runs`) for
every recipe and seed, ``fcn-seed0/`` and so on. All that a sweep knows of a run is in that folder, so it may be stopped
in any way and begun again: finished runs are left alone, others go on from their checkpoints.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import checkpoint, data, fields, files, recipes, runs, train
from ..backend import load
from ..errors import MinimaskError, UsageError, ran_out
from ..fast.threads import blas_threads, cores
from . import schema
from .schema import FORMAT

INDEX = "sweep.json"
#: While this file is in the sweep's folder, its runs save their state and stop.
STOP = ".stop"
#: A run whose worker dies is begun again until it has died so often without getting any further.
TRIES = 3


@dataclass(frozen=True)
class Task:
    """One run, as plain data that a worker in any process can take.

    Attributes:
        recipe: as a dict. seed: of weights and batches.
        sweep: the sweep's folder; every worker must see it under this name.
        data, allow_unverified: where data sets lie, and whether others than the official ones will do.
        backend: array library. threads: of the matrix products, None leaves them alone. shrink: see runs.run.
    """

    recipe: Mapping[str, Any]
    seed: int
    sweep: str
    data: str | None = None
    allow_unverified: bool = False
    backend: str = "numpy"
    threads: int | None = None
    shrink: bool | None = None

    @property
    def name(self) -> str:
        return f"{self.recipe['name']}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        return Path(self.sweep) / self.name


@dataclass(frozen=True)
class Outcome:
    """How a run ended: state 'done', 'failed' or 'stopped', and in words why it failed.

    Attributes:
        fresh: False for a run that was finished before. notes: what it warned of.
    """

    name: str
    state: str
    error: str = ""
    fresh: bool = True
    notes: tuple[str, ...] = ()


# ---- in a worker ---------------------------------------------------------------------------------------------------


def work(task: Task) -> Outcome:
    """Trains one run to its end, from its checkpoint if it has one. Whatever goes wrong is in the outcome."""
    with warnings.catch_warnings(record=True) as caught, _busy if _parent is not None else contextlib.nullcontext():
        warnings.simplefilter("always", UserWarning)
        try:
            fresh = _train(task)
            state, error = "done", ""
        except KeyboardInterrupt:
            fresh, state, error = True, "stopped", ""
        except Exception as trouble:
            fresh, state, error = True, "failed", str(trouble)
            if not isinstance(trouble, MinimaskError):
                error = "out of memory" if ran_out(trouble) else f"{type(trouble).__name__}: {trouble}"
    return Outcome(task.name, state, error, fresh, tuple(str(w.message) for w in caught if w.category is UserWarning))


def _train(task: Task) -> bool:
    """False if there was nothing left to do."""
    if finished(task):
        return False
    recipe, folder = recipes.from_dict(task.recipe), task.folder
    load(task.backend)
    dataset = _dataset(recipe.dataset, task.data, task.allow_unverified)
    with blas_threads(task.threads):
        runs.run(recipe, dataset, task.seed, folder, backend=task.backend, progress=Watch(Path(task.sweep) / STOP),
                 resume=(folder / runs.CHECKPOINT).exists(), shrink=task.shrink)
    return True


def finished(task: Task) -> bool:
    """Whether the run's folder holds the whole of it.

    Raises MinimaskError where it holds another run, or what is no run.
    """
    if not (task.folder / "record.json").exists():
        return False
    try:
        record = runs.read_record(task.folder)
    except MinimaskError as error:
        raise MinimaskError(f"{error}; remove the folder to begin that run again") from error
    there = {**checkpoint.origin(record), "dataset": record["dataset"]}
    here = {**checkpoint.origin({"recipe": task.recipe, "seed": task.seed}), "dataset": task.recipe["dataset"]}
    for sentence in checkpoint.differences(there, here):
        raise MinimaskError(f"{task.folder} holds another run: {sentence}; give another folder with --out")
    return runs.finished({**record, "recipe": task.recipe}) and (task.folder / "network.npz").exists()


@functools.lru_cache(maxsize=1)
def _dataset(name: str, folder: str | None, allow_unverified: bool) -> data.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # whoever began the sweep has been told
        return data.load(name, folder, allow_unverified)


class Watch(train.Progress):
    """Silent; it ends a run as Ctrl-C would when the sweep is stopped, or the process that began this one has died.

    Args:
        stop: the file that says so. pause: seconds between two looks.
    """

    def __init__(self, stop: Path, pause: float = 0.5):
        super().__init__()
        self.stop_file, self.pause, self.looked = stop, pause, 0.0

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.looked > self.pause:
            self.looked = now
            if self.stop_file.exists() or (_parent is not None and os.getppid() != _parent):
                raise KeyboardInterrupt

    def epoch(self, entry: dict[str, Any], epochs: int) -> None:
        pass

    def stop(self) -> None:
        pass


_parent: int | None = None  # of a worker of processes(): the process that began it
_busy = threading.Lock()  # held while such a worker trains


def _begin_worker(parent: int) -> None:
    """A worker leaves Ctrl-C to the process that began it, and ends when that has died, after its run has saved."""
    global _parent
    _parent = parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        with _busy:
            os._exit(1)

    threading.Thread(target=follow, name="minimask-follow", daemon=True).start()


# ---- where it is worked --------------------------------------------------------------------------------------------


def processes(jobs: int) -> Executor:
    """So many processes of this machine. They are spawned: a fork would take along locks that threads hold."""
    import multiprocessing

    return concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin_worker,
                                                  (os.getpid(),))


def share_of_cores(jobs: int) -> int:
    """Threads of the matrix products of each of `jobs` processes, so that all together use every core once."""
    return max(1, cores() // jobs)


# ---- the sweep -----------------------------------------------------------------------------------------------------


def tasks(chosen: Iterable[recipes.Recipe], seeds: Iterable[int], sweep: str | Path, **common: Any) -> list[Task]:
    """Every recipe with every seed, all recipes with the first seed first. UsageError where two have one name."""
    found = [Task(recipe.as_dict(), seed, str(sweep), **common) for seed in seeds
             for recipe in chosen]
    names = [task.name for task in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two runs of the sweep are called {name}; give every recipe once and a name of its own")
    return found


def claim(folder: Path, todo: Iterable[Task], overwrite: bool = False) -> None:
    """Writes down in sweep.json what belongs to the sweep, beside what an earlier one in this folder left there.

    With `overwrite` the runs of `todo` that are there already go, to be begun again.

    Raises UsageError where the folder holds something else, a sweep of another format, or a recipe of the same name
    that is another one.
    """
    index = folder / INDEX
    known: dict[str, Any] = {"format": FORMAT, "recipes": {}, "runs": []}
    if index.exists():
        known = read_index(folder)
    else:
        files.claim(folder, f"no {INDEX}, but other things", "give an empty or a new folder with --out")
    for task in todo:
        files.own_folder(folder, task.name)
        name, recipe = task.recipe["name"], json.loads(json.dumps(task.recipe))
        if overwrite and task.folder.exists():
            runs.claim(task.folder, overwrite)
            known["recipes"][name] = recipe
        for sentence in checkpoint.differences({**known["recipes"].get(name, recipe), "about": ""},
                                               {**recipe, "about": ""}):
            raise UsageError(f"{folder} was begun with another recipe {name!r}: {sentence}; give another folder with "
                             "--out, or the recipe another name")
        known["recipes"][name] = recipe
        if task.name not in known["runs"]:
            known["runs"].append(task.name)
    files.write(index, (json.dumps(known, indent=1) + "\n").encode())


def read_index(folder: Path) -> dict[str, Any]:
    """sweep.json. MinimaskError where it is damaged, UsageError where it is of another format."""
    try:
        known = fields.read(folder / INDEX)
        if type(known.get("format")) is int and known["format"] != FORMAT:
            raise UsageError(f"{folder} holds a sweep of format {known['format']}, this minimask knows {FORMAT}; use "
                             "the minimask that began it, or another folder with --out")
        schema.index(known, INDEX)
        return known
    except ValueError as error:
        raise MinimaskError(f"{folder} holds no sweep: {error}; put back a copy of the file, or move the runs to "
                            "a new folder") from error


def sweep(todo: list[Task], begin: Callable[[], Executor], width: Callable[[], int],
          view: Callable[[Mapping[str, Outcome], list[Task], list[Task]], None] | None = None,
          pause: float = 1.0) -> dict[str, Outcome]:
    """Works off the tasks, `width()` at a time; returns every run's outcome by its name.

    Args:
        begin: makes the executor, again when it has broken.
        view: told of all outcomes so far, what is running and what is waiting, when something ends and every `pause`
            seconds.

    A run whose worker dies is begun again, from its checkpoint, until it has died TRIES times at one place. Ctrl-C
    lets running runs save their state; they and the rest are 'stopped' then.
    """
    waiting, deaths, outcomes = list(todo), dict[str, tuple[int, int]](), dict[str, Outcome]()
    workers = _Workers(begin)
    stop = Path(todo[0].sweep) / STOP
    stop.unlink(missing_ok=True)
    try:
        while waiting or workers.at:
            while waiting and len(workers.at) < max(1, width()) and workers.begun(waiting[0]):
                del waiting[0]
            for task, result in workers.ended(pause):
                outcome = result if isinstance(result, Outcome) else _died(task, deaths, result)
                if outcome:
                    outcomes[task.name] = outcome
                else:
                    waiting.append(task)
            workers.mend()
            if view:
                view(outcomes, list(workers.at.values()), waiting)
    except KeyboardInterrupt:
        files.mark(stop)
        outcomes |= {task.name: result for task, result in workers.ended(None) if isinstance(result, Outcome)}
    finally:
        workers.executor.shutdown()
        stop.unlink(missing_ok=True)
    return {task.name: outcomes.get(task.name, Outcome(task.name, "stopped")) for task in todo}


class _Workers:
    """An executor, what it works at, and another executor when it has broken."""

    def __init__(self, begin: Callable[[], Executor]):
        self.begin, self.executor, self.broken = begin, begin(), False
        self.at: dict[Future[Outcome], Task] = {}

    def begun(self, task: Task) -> bool:
        """Whether the task could be handed over."""
        try:
            if not self.broken:
                self.at[self.executor.submit(work, task)] = task
        except BrokenExecutor:
            self.broken = True
        return not self.broken

    def ended(self, pause: float | None) -> Iterator[tuple[Task, Outcome | Exception]]:
        """What has ended before `pause` seconds are over, the first at once; None waits for all."""
        first = concurrent.futures.FIRST_COMPLETED if pause is not None else concurrent.futures.ALL_COMPLETED
        for future in concurrent.futures.wait(self.at, pause, first).done:
            task = self.at.pop(future)
            try:
                yield task, future.result()
            except Exception as error:  # not the run's own, which work() catches: its worker is gone
                self.broken = self.broken or isinstance(error, BrokenExecutor)
                yield task, error

    def mend(self) -> None:
        """Begins anew where the executor has broken, once its other workers have gone with it."""
        if self.broken and not self.at:
            self.executor.shutdown(wait=False)
            self.executor, self.broken = self.begin(), False


def _died(task: Task, deaths: dict[str, tuple[int, int]], error: Exception) -> Outcome | None:
    """The outcome of a run whose worker has died too often at one place, None if it may be begun again."""
    try:
        step = runs.peek(task.folder)[0]["steps"]
    except MinimaskError:
        step = 0
    last, count = deaths.get(task.name, (-1, 0))
    deaths[task.name] = step, count + 1 if step == last else 1
    if deaths[task.name][1] < TRIES:
        return None
    return Outcome(task.name, "failed", f"its worker died {TRIES} times after step {step}, the last time with "
                                        f"{type(error).__name__}: {error}"[:300])
