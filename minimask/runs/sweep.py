"""Sweeps: recipes x seeds, a folder per run, on processes of this machine or on any ``concurrent.futures.Executor``.

A sweep's folder holds ``sweep.json``, which says what belongs to it, and a run's folder (see :mod:`minimask.runs`) for
every recipe and seed, ``fcn-seed0/`` and so on. All that a sweep knows of a run is in that folder, so it may be stopped
in any way and begun again: finished runs are left alone, others go on from their checkpoints.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any

from .. import checkpoint, fields, files, own, recipes, runs
from ..errors import MinimaskError, UsageError
from ..mishaps import uninterrupted
from . import schema
from .schema import FORMAT
from .workers import STOP, Outcome, Processes, Task, work

INDEX = "sweep.json"
#: A run whose worker dies is begun again until it has died so often without getting any further.
TRIES = 3
#: Seconds for which a run that is in use elsewhere is tried again, now and then: a worker that has been told to go has
#: its step, its evaluation and its checkpoint to finish.
PATIENCE, PAUSE = 300.0, 1.0


def tasks(chosen: Sequence[recipes.Recipe], seeds: Sequence[int], sweep: str | Path,
          made: Mapping[str, Mapping[str, Any]] | None = None, **common: Any) -> list[Task]:
    """Every recipe with every seed, all recipes with the first seed first.

    Args:
        made: of recipes of a grid, by their names, what was set (recipes.grid). common: of every Task.

    Raises UsageError where two runs have one name, or there are more than schema.MOST_RUNS.
    """
    refuse_many(len(chosen), len(seeds))
    for name, times in Counter(recipe.name for recipe in chosen).items():
        if times > 1:
            raise UsageError(f"two runs of the sweep are called {name}-seed{seeds[0]}; give every recipe once and a "
                             "name of its own")
    parts: list[dict[str, Any]] = [{
        "recipe": recipe.as_dict(), "code": recipe.code,
        "digests": own.digests(recipe.own_code().values(), recipe.code),
        "made": (made or {}).get(recipe.name)} for recipe in chosen]
    return [Task(seed=seed, sweep=str(sweep), **part, **common) for seed in seeds for part in parts]


def refuse_many(recipes: int, seeds: int) -> None:
    """UsageError where so many recipes with so many seeds each are more runs than schema.MOST_RUNS."""
    if recipes * seeds > schema.MOST_RUNS:
        raise UsageError(f"{recipes * seeds:,} runs ({seeds:,} seeds) are more than a sweep takes: "
                         f"{schema.MOST_RUNS:,}; give fewer --seeds")


def claim(folder: Path, todo: Iterable[Task], overwrite: bool = False) -> None:
    """Writes down in sweep.json what belongs to the sweep, beside what an earlier one in this folder left there.

    With `overwrite` the runs of `todo` that are there already go, to be begun again.

    Raises UsageError where the folder holds something else, a sweep of another format, or runs of a recipe of the same
    name that is another one.
    """
    index = folder / INDEX
    known: dict[str, Any] = {"format": FORMAT, "recipes": {}, "runs": []}
    if index.exists():
        known = read_index(folder)
    else:
        files.claim(folder, f"no {INDEX}, but other things", "give an empty or a new folder with --out")
    todo = list(todo)
    for task in todo:
        files.own_folder(folder, task.name)
    gone = [task for task in todo if task.folder.exists()] if overwrite else []
    begun = {name.rpartition("-seed")[0] for name in known["runs"] if (folder / name).exists()}
    bound = begun - {task.recipe["name"] for task in gone}  # to the recipe that the sweep knows by that name
    for recipe in {task.recipe["name"]: json.loads(json.dumps(task.recipe)) for task in todo}.values():
        name = recipe["name"]
        known["recipes"][name] = _agreed(folder, known["recipes"], recipe) if name in bound else recipe
    for task in gone:
        with _patiently_locked(task.folder):
            runs.claim(task.folder, overwrite)
    known["runs"] = list(dict.fromkeys([*known["runs"], *(task.name for task in todo)]))
    files.write(index, (json.dumps(known, indent=1) + "\n").encode())


def _agreed(folder: Path, known: Mapping[str, dict[str, Any]], recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe, if it is the one that the sweep knows by that name; for more epochs it may be, since no step differs.

    Raises UsageError for another one.
    """
    before = known.get(recipe["name"], recipe)
    there, here = ({**each, "about": "", "epochs": 0} for each in (before, recipe))
    for sentence in checkpoint.differences(there, here):
        raise UsageError(f"{folder} was begun with another recipe {recipe['name']!r}: {sentence}; give another folder "
                         "with --out, or the recipe another name")
    if recipe["epochs"] < before.get("epochs", 0):
        raise UsageError(f"{folder} was begun with {before['epochs']} epochs of {recipe['name']!r}, and "
                         f"{recipe['epochs']} are fewer; give as many or more, or another folder with --out")
    return recipe


@contextlib.contextmanager
def _patiently_locked(folder: Path) -> Iterator[None]:
    """files.locked(), which waits for the worker of a sweep that was killed a moment ago."""
    end = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(files.locked(folder))
                break
            except files.InUse:
                if time.monotonic() > end:
                    raise
                time.sleep(PAUSE)
        yield


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
          view: Callable[..., None] | None = None, pause: float = 1.0) -> dict[str, Outcome]:
    """Works off the tasks, `width()` at a time; returns every run's outcome by its name.

    Args:
        begin: makes the executor, again when it has broken.
        view: told of all outcomes so far, of what is running, waiting and held up, when something ends and every
            `pause` seconds.

    A run whose worker dies is begun again, from its checkpoint, until it has died TRIES times at one place; one that is
    held up is tried again for PATIENCE seconds. Ctrl-C lets running runs save their state; they and the rest are
    'stopped' then. Ctrl-C once more does not wait for that: they go on from their last checkpoints.
    """
    queue, outcomes = _Queue(todo), dict[str, Outcome]()
    workers = _Workers(begin)
    stop = Path(todo[0].sweep) / STOP
    stop.unlink(missing_ok=True)
    try:
        while queue.waiting or workers.at:
            while len(workers.at) < max(1, width()) and (task := queue.next()) and workers.begun(task):
                queue.waiting.remove(task)
            for task, result in workers.ended(pause):
                if outcome := queue.end(task, result):
                    outcomes[task.name] = outcome
            workers.mend()
            if view:
                view(outcomes, list(workers.at.values()), queue.waiting, queue.held)
    except KeyboardInterrupt:
        outcomes |= workers.let_save(stop, width, pause)
    except BaseException:
        files.mark(stop)  # the runs at work save, too
        workers.lost = True
        workers.executor.shutdown()
        raise
    finally:
        with uninterrupted():  # little is left to wait for, and half an end would be told by a traceback
            workers.executor.shutdown(wait=not workers.lost)
            if not (workers.lost and workers.hurried):  # else they are still to see it; the next sweep removes it
                stop.unlink(missing_ok=True)
    return {task.name: outcomes.get(task.name, Outcome(task.name, "stopped")) for task in todo}


class _Queue:
    """What is still to be done, and what is to be tried again.

    Attributes:
        waiting: in order. held: what is held up, and by what.
    """

    def __init__(self, todo: Iterable[Task]):
        self.waiting, self.held = list(todo), dict[str, Outcome]()
        self.deaths = dict[str, tuple[int, int]]()  # the step, and how often a worker has died there
        self.since, self.not_before = dict[str, float](), dict[str, float]()

    def next(self) -> Task | None:
        """The first that may be tried now."""
        now = time.monotonic()
        return next((task for task in self.waiting if self.not_before.get(task.name, 0.0) <= now), None)

    def end(self, task: Task, result: Outcome | Exception) -> Outcome | None:
        """The outcome of a task, or None where it is to be tried again."""
        if isinstance(result, Exception):
            outcome = self._died(task, result)
        elif result.state == "held":
            outcome = self._held_up(task, result)
        else:
            outcome = None if result.state == "left" else result
            self.since.pop(task.name, None)
        if outcome is None:
            self.waiting.append(task)
        return outcome

    def _held_up(self, task: Task, result: Outcome) -> Outcome | None:
        now = time.monotonic()
        self.held[task.name] = result
        if now - self.since.setdefault(task.name, now) > PATIENCE:
            return Outcome(task.name, "failed", f"{result.error} (tried for {PATIENCE:.0f} s)")
        self.not_before[task.name] = now + PAUSE
        return None

    def _died(self, task: Task, error: Exception) -> Outcome | None:
        """The outcome of a run whose worker has died too often at one place."""
        try:
            step = runs.peek(task.folder)[0]["steps"]
        except MinimaskError:
            step = 0
        last, count = self.deaths.get(task.name, (-1, 0))
        self.deaths[task.name] = step, count + 1 if step == last else 1
        if self.deaths[task.name][1] < TRIES:
            return None
        return Outcome(task.name, "failed", f"its worker died {TRIES} times after step {step}, the last time with "
                                            f"{type(error).__name__}: {error}"[:300])


class _Workers:
    """An executor, what it works at, and another executor when it has broken.

    Attributes:
        lost: nobody is there, or is waited for, who could end what is at work. hurried: Ctrl-C came again.
    """

    def __init__(self, begin: Callable[[], Executor]):
        self.begin, self.executor, self.broken = begin, begin(), False
        self.lost = self.hurried = False
        self.at: dict[Future[Outcome], Task] = {}

    def begun(self, task: Task) -> bool:
        """Whether the task could be handed over."""
        try:
            if not self.broken:
                self.at[self.executor.submit(work, task)] = task
        except BrokenExecutor:
            self.broken = True
        return not self.broken

    def ended(self, pause: float) -> Iterator[tuple[Task, Outcome | Exception]]:
        """What has ended before `pause` seconds are over, the first at once."""
        if not self.at:
            time.sleep(pause)  # all that waits is held up
        for future in concurrent.futures.wait(self.at, pause, concurrent.futures.FIRST_COMPLETED).done:
            task = self.at.pop(future)
            try:
                yield task, future.result()
            except Exception as error:  # not the run's own, which work() catches: its worker is gone
                self.broken = self.broken or isinstance(error, BrokenExecutor)
                yield task, error

    def let_save(self, stop: Path, width: Callable[[], int], pause: float) -> dict[str, Outcome]:
        """Has the runs at work save their state and stop; returns the outcomes of those that had come to their end.

        Ctrl-C ends the waiting: processes of ours are killed, which costs their runs what they did since their last
        checkpoints; workers elsewhere are left to save by themselves.
        """
        found: dict[str, Outcome] = {}
        try:
            files.mark(stop)
            while self.at and not self.lost:
                found |= {task.name: result for task, result in self.ended(pause)
                          if isinstance(result, Outcome) and result.state in ("done", "failed")}
                self.lost = bool(self.at) and width() < 1
        except KeyboardInterrupt:
            self.hurried = True
            with uninterrupted():
                if isinstance(self.executor, Processes):
                    self.executor.kill()
                else:
                    files.mark(stop)
                    self.lost = True
        return found

    def mend(self) -> None:
        """Begins anew where the executor has broken, once its other workers have gone with it."""
        if self.broken and not self.at:
            self.executor.shutdown()
            self.executor, self.broken = self.begin(), False
