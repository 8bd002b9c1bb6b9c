"""The workers of a sweep: one run as a task, and the processes, threads or machines that it is worked off by.

A worker trains the run in its folder to the end, or saves it and stops: when the sweep is stopped, when the worker is
told to go (SIGTERM to a process of ours, to a worker of Dask), and when the process that began it has died.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import checkpoint, data, files, own, recipes, runs, train
from ..backend import load
from ..errors import MinimaskError, ran_out
from ..fast.threads import blas_threads, cores
from ..log import Log
from ..mishaps import SIGNALS

#: While this file is in the sweep's folder, its runs save their state and stop.
STOP = ".stop"


@dataclass(frozen=True)
class Task:
    """One run, as plain data that a worker in any process can take.

    Attributes:
        recipe: as a dict. seed: of weights and batches.
        sweep: the sweep's folder; every worker must see it under this name.
        data, allow_unverified: where data sets lie, and whether others than the official ones will do.
        backend: array library. threads: of the matrix products, None leaves them alone. shrink: see runs.run.
        source: digest of the package's source that the worker must have, see train.source_digest; None takes any.
        code: the leave to import the recipe's own code. digests: those that it must have, by module.
        init_seed, order_seed, made, epoch_0, log: see runs.run.
    """

    recipe: Mapping[str, Any]
    seed: int
    sweep: str
    data: str | None = None
    allow_unverified: bool = False
    backend: str = "numpy"
    threads: int | None = None
    shrink: bool | None = None
    source: str | None = None
    code: own.Code | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    init_seed: int | None = None
    order_seed: int | None = None
    made: Mapping[str, Any] | None = None
    epoch_0: bool = False
    log: Log | None = None

    @property
    def name(self) -> str:
        return runs.name_of(self.recipe["name"], self.seed, self.init_seed, self.order_seed)

    @property
    def folder(self) -> Path:
        return Path(self.sweep) / self.name


@dataclass(frozen=True)
class Outcome:
    """How a run ended: state 'done', 'failed' or 'stopped', and in words why it failed.

    Or why it cannot be worked off here and now: 'left', its worker was told to go and has saved it; 'held', it is in
    use elsewhere, or this worker has another source of minimask.

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
    if task.source not in (None, train.source_digest()):
        return Outcome(task.name, "held", another_source(train.source_digest(), task.source))
    leaving = _leaving()
    if task.code is not None and task.digests and not os.path.isdir(task.code.folder):
        return Outcome(task.name, "held", f"the worker does not see {task.code.folder}, where the recipe's own code is")
    try:
        there = own.digests((f"{module}:" for module in task.digests), task.code)
    except MinimaskError as trouble:
        return Outcome(task.name, "failed", str(trouble))
    if there != task.digests:
        return Outcome(task.name, "held", another_code(there, task.digests))
    with warnings.catch_warnings(record=True) as caught, _busy if _parent is not None else contextlib.nullcontext():
        warnings.simplefilter("always", UserWarning)
        try:
            fresh = _train(task, leaving)
            state, error = "done", ""
        except KeyboardInterrupt:
            fresh, state, error = True, "left" if leaving() else "stopped", ""
        except files.InUse as trouble:
            fresh, state, error = True, "held", str(trouble)
        except Exception as trouble:
            fresh, state, error = True, "failed", str(trouble)
            if not isinstance(trouble, MinimaskError):
                error = "out of memory" if ran_out(trouble) else f"{type(trouble).__name__}: {trouble}"
    return Outcome(task.name, state, error, fresh, tuple(str(w.message) for w in caught if w.category is UserWarning))


def another_source(there: str | None, here: str | None) -> str:
    """What to say of a worker whose minimask is another one, though it may have the same version number."""
    return (f"the worker has another source of minimask (digest {there}, not {here}); every worker needs this one, and "
            "to be begun anew after it was changed")


def another_code(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What to say of a worker whose own code is another one than that of whoever began the sweep."""
    module = next(module for module, digest in here.items() if there.get(module) != digest)
    return (f"the worker has another source of {module} (digest {there.get(module)}, not {here[module]}); own code "
            "stays as it is while a sweep runs, and a worker that read it before it was changed is to be begun anew")


def _train(task: Task, leaving: Callable[[], bool]) -> bool:
    """False if there was nothing left to do."""
    if finished(task):
        return False
    recipe, folder = recipes.from_dict(task.recipe, task.code), task.folder
    load(task.backend)
    dataset = _dataset(recipe.dataset, task.data, task.allow_unverified, tuple(sorted(recipe.dataset_settings.items())))
    watch = Watch(Path(task.sweep) / STOP, leaving)
    with files.locked(folder), blas_threads(task.threads):
        if finished(task):  # by the worker that had it before, meanwhile
            return False
        runs.run(recipe, dataset, task.seed, folder, backend=task.backend, progress=watch,
                 resume=(folder / runs.CHECKPOINT).exists(), shrink=task.shrink, init_seed=task.init_seed,
                 order_seed=task.order_seed, made=task.made, epoch_0=task.epoch_0, log=task.log)
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
    here = {**checkpoint.origin({"recipe": task.recipe, "seed": task.seed, "init_seed": task.init_seed,
                                 "order_seed": task.order_seed}), "dataset": task.recipe["dataset"]}
    for sentence in checkpoint.differences(there, here):
        raise MinimaskError(f"{task.folder} holds another run: {sentence}; give another folder with --out")
    return runs.finished({**record, "recipe": task.recipe}) and (task.folder / "network.npz").exists()


@functools.lru_cache(maxsize=1)
def _dataset(name: str, folder: str | None, allow_unverified: bool,
             settings: tuple[tuple[str, Any], ...] = ()) -> data.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # whoever began the sweep has been told
        return data.load(name, folder, allow_unverified, dict(settings))


class Watch(train.Progress):
    """Silent; it ends a run as Ctrl-C would when the sweep is stopped, or this worker has to go.

    Args:
        stop: the file that says that the sweep is. leaving: whether the worker has to go. pause: seconds between looks.
    """

    def __init__(self, stop: Path, leaving: Callable[[], bool], pause: float = 0.5):
        super().__init__()
        self.stop_file, self.leaving, self.pause, self.looked = stop, leaving, pause, 0.0

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.looked > self.pause:
            self.looked = now
            if self.leaving() or self.stop_file.exists():
                raise KeyboardInterrupt

    def epoch(self, entry: dict[str, Any], epochs: int) -> None:
        pass

    def stop(self) -> None:
        pass


def _leaving() -> Callable[[], bool]:
    """What says whether the worker that this is called in has to go: it was told to, or who began it has died."""
    closing = _closing()
    return lambda: closing() or _told.is_set() or (_parent is not None and os.getppid() != _parent)


def _closing() -> Callable[[], bool]:
    """What says whether the worker of Dask is closing whose task this is."""
    try:
        worker = sys.modules["distributed"].get_worker()
    except (KeyError, ValueError):  # no Dask here; no task of Dask's
        return lambda: False
    return lambda: worker.status.name in ("closing_gracefully", "closing", "closed", "stopping", "stopped", "failed")


_parent: int | None = None  # of a worker of Processes: the process that began it
_busy = threading.Lock()  # held while such a worker trains
_told = threading.Event()  # by SIGTERM or SIGHUP to go


def _begin_worker(parent: int) -> None:
    """Makes this process a worker.

    It leaves Ctrl-C to the process that began it, goes after its run has saved when another signal says so, and when
    that process has died.
    """
    global _parent
    _parent = parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: _told.set())
    _let_signals(through=True)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        with _busy:
            os._exit(1)

    threading.Thread(target=follow, name="minimask-follow", daemon=True).start()


# ---- where it is worked --------------------------------------------------------------------------------------------


class WorkerDied(RuntimeError):
    """The process that a run was in has ended, killed for example."""


class Processes(Executor):
    """So many processes of this machine; another begins where one has died or was told to go, and no other is harmed.

    They are spawned, on every system and by every Python: a fork would take along locks that threads hold. Each is an
    executor of one process, for one of several would break as a whole.
    """

    def __init__(self, jobs: int):
        self.pools: list[Executor | None] = [None] * jobs
        self.at: list[Future | None] = [None] * jobs
        self.gone: list[Executor] = []
        self.processes: list[Any] = []  # of multiprocessing, all that were begun here and may be alive

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future:
        """Hands over to a process that has nothing to do; RuntimeError where there is none."""
        free = [place for place, future in enumerate(self.at) if future is None or future.done()]
        if not free:
            raise RuntimeError(f"all {len(self.at)} processes are at work")
        self._end_gone()
        place, outcome = free[0], Future[Any]()
        _let_signals(through=False)  # or one would meet a process that is not ready for it yet
        others = multiprocessing.active_children()
        try:
            pool = self.pools[place] = self.pools[place] or _one_process()
            inner = pool.submit(function, *arguments, **options)
            begun = [child for child in multiprocessing.active_children() if child not in others]
            self.processes = [child for child in self.processes if child in others] + begun
        except BrokenExecutor:
            self.pools[place] = None
            return self.submit(function, *arguments, **options)
        finally:
            _let_signals(through=True)
        self.at[place] = outcome
        outcome.set_running_or_notify_cancel()
        inner.add_done_callback(lambda done: self._ended(place, done, outcome))
        return outcome

    def _ended(self, place: int, done: Future, outcome: Future) -> None:
        """Hands its outcome on; the next run at this place gets another process where this one is gone, or has to.

        Called by the pool, from Python 3.12 on inside its lock: so it is not ended here.
        """
        error = done.exception()
        left = error is not None or getattr(done.result(), "state", "") == "left"
        pool = self.pools[place]
        if left and pool is not None:
            self.pools[place] = None
            self.gone.append(pool)
        if isinstance(error, BrokenExecutor):
            error = WorkerDied(str(error))
        outcome.set_exception(error) if error is not None else outcome.set_result(done.result())

    def kill(self) -> None:
        """Ends the processes at once, whatever they are at; what they were at has WorkerDied as its outcome."""
        for child in self.processes:
            child.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes, those at work when their runs have ended."""
        self._end_gone(wait)
        for pool in self.pools:
            if pool is not None:
                pool.shutdown(wait, cancel_futures=cancel_futures)

    def _end_gone(self, wait: bool = True) -> None:
        """Ends what has no process any more, or one that leaves.

        It waits for the pool's own thread: at the end of the program that one would close the pipe into which the
        interpreter writes at that moment, and a traceback would follow the last sentence (seen with Python 3.11).
        """
        while self.gone:
            self.gone[0].shutdown(wait)  # once more, should a signal cut it short
            del self.gone[0]


def _one_process() -> Executor:
    from multiprocessing import resource_tracker

    # Begun now, with signals held up, which it inherits: a SIGHUP would end it. Of the others it takes care itself, and
    # lets them through to this process.
    resource_tracker.ensure_running()
    _let_signals(through=False)
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(1, spawn, _begin_worker, (os.getpid(),))


def _let_signals(through: bool) -> None:
    """Whether SIGNALS come through to this thread or wait; processes that it begins meanwhile inherit that."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK if through else signal.SIG_BLOCK, SIGNALS)


def share_of_cores(jobs: int) -> int:
    """Threads of the matrix products of each of `jobs` processes, so that all together use every core once."""
    return max(1, cores() // jobs)
