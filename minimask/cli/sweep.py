"""`minimask sweep RECIPE...`: recipes x seeds, side by side, in words."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from .. import backend, escape, files, recipes, train
from ..display import columns
from ..errors import MinimaskError, UsageError
from ..fast.threads import cores
from ..meter import Line
from ..mishaps import Interrupted, heard, in_words
from ..recipes import grid
from ..runs import cluster, read_record, sweep, workers
from .common import (
    Parser,
    data_options,
    load_data,
    log_of,
    on_data,
    recipe_options,
    shared_options,
    trust_option,
    whole_number,
)


def command(words: Sequence[str]) -> None:
    """Trains every recipe with every seed; prints how it goes on stderr and a table on stdout."""
    options: Any = _parser().parse_args(words)
    folder, begun = Path(options.out or "runs/sweep").resolve(), list[workers.Task]()
    with in_words(lambda: _interrupted(folder, begun, words)):
        todo = _tasks(options, folder)
        with files.locked(folder):
            sweep.claim(folder, todo, options.overwrite)
            begun += todo
            with _place(options, folder) as (begin, width):
                view = View(len(todo), width, None if options.quiet else sys.stderr)
                outcomes = sweep.sweep(todo, begin, width, view.tell)
            view.stop()
        _say(folder, todo, outcomes, words)


def _tasks(options: Any, folder: Path) -> list[workers.Task]:
    """The runs that are asked for, once all that can be wrong with them has been looked at."""
    if options.scheduler is not None:
        cluster.refuse_address(options.scheduler)
    choices, log = grid.choices(options.set), log_of(options)
    count = len(options.seeds) if isinstance(options.seeds, list) else options.seeds
    sweep.refuse_many(len(options.recipes) * math.prod(map(len, choices.values())), count)
    seeds = _seeds(options)
    chosen = [recipes.find(name, options.trust) for name in options.recipes]
    chosen = [replace(on_data(recipe, options), **({} if options.epochs is None else {"epochs": options.epochs}))
              for recipe in chosen]
    cells = [cell for recipe in chosen for cell in grid.cells(recipe, choices)] if choices else []
    made = {cell.recipe.name: cell.as_dict() for cell in cells}
    chosen = [recipe.resolve() for recipe in [cell.recipe for cell in cells] or chosen]
    library = options.backend or "numpy"
    backend.load(library)
    different = {(recipe.dataset, repr(recipe.dataset_settings)): recipe for recipe in chosen}
    for _, recipe in sorted(different.items()):
        load_data(recipe, options)  # what is wrong with it is said now, not by every run
    local = options.scheduler is None
    if local and options.jobs is None:
        options.jobs = cores()
    threads = options.threads or (workers.share_of_cores(options.jobs) if local else 1)
    place = _absolute(options.data or os.environ.get("MINIMASK_DATA"))
    return sweep.tasks(chosen, seeds, folder, made, source=train.source_digest(), data=place,
                       allow_unverified=options.allow_unverified, backend=library, threads=threads,
                       shrink=False if options.no_shrink else None, init_seed=options.init_seed,
                       order_seed=options.order_seed, epoch_0=options.epoch_0, log=log)


def _seeds(options: Any) -> Sequence[int]:
    """Every run's seed: so many from --seed up, or those that are listed."""
    listed = isinstance(options.seeds, list)
    if options.seed is not None and listed:
        raise UsageError(f"--seeds {','.join(map(str, options.seeds))} says all seeds, so --seed {options.seed} does "
                         "nothing; leave one of them out")
    seeds = options.seeds if listed else range(options.seed or 0, (options.seed or 0) + options.seeds)
    if None not in (options.init_seed, options.order_seed) and (options.seed is not None or len(seeds) > 1):
        raise UsageError("--init-seed and --order-seed leave nothing for --seed and --seeds to draw, and runs of all "
                         "seeds would be the same; leave one of them out")
    return seeds


def seeds(text: str) -> int | list[int]:
    """An option's type: how many seeds, or several of them, with commas between."""
    if "," not in text:
        return whole_number(1)(text)
    found = [whole_number(0)(part.strip()) for part in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} has a seed twice; give each once")
    return found


def _absolute(path: str | None) -> str | None:
    """For workers, whose working directory may be another."""
    return None if path is None else str(Path(path).resolve())


@contextlib.contextmanager
def _place(options: Any, folder: Path) -> Iterator[tuple[Callable[[], Executor], Callable[[], int]]]:
    """Where runs are worked off: what makes an executor, and how many runs at a time."""
    if options.scheduler is None:
        yield lambda: workers.Processes(options.jobs), lambda: options.jobs
        return
    with cluster.connected(options.scheduler, folder) as client:
        found = cluster.Found(client, folder)
        yield client.get_executor, lambda: min(found.threads(), options.jobs or sys.maxsize)


class View(Line):
    """How far a sweep is: a line that renews itself on a terminal; in a log a line per run, and one a minute.

    Args:
        count: runs in all. width: how many there are at a time, now. stream: where to write; None is silent.
        pause: seconds between the lines of a log.
    """

    def __init__(self, count: int, width: Callable[[], int], stream: TextIO | None, pause: float = 60.0):
        super().__init__(stream)
        self.count, self.width, self.pause = count, width, pause
        self.written = time.monotonic()
        self.told: set[str] = set()
        self.held: set[str] = set()
        self.paces: dict[str, float] = {}  # recipe -> seconds an epoch

    def tell(self, ended: Mapping[str, workers.Outcome], running: list[workers.Task], waiting: list[workers.Task],
             held: Mapping[str, workers.Outcome] | None = None) -> None:
        """Says what is new."""
        if self.stream is None:
            return
        for name, outcome in (held or {}).items():
            if name not in self.held:
                self.held.add(name)
                self.say(f"{name} waits: {outcome.error}")
        for outcome in ended.values():
            if outcome.name not in self.told:
                self.told.add(outcome.name)
                for note in outcome.notes:
                    self.say(f"{outcome.name}: {note}")
                self.say(f"{outcome.name} {outcome.state}" + (f": {outcome.error}" if outcome.error else "")
                           + ("" if outcome.fresh else ", it was finished before"))
        now = time.monotonic()
        if self.terminal or now - self.written > self.pause:
            self.written = now
            self._status(ended, running, waiting)

    def _status(self, ended: Mapping[str, workers.Outcome], running: list[workers.Task],
                waiting: list[workers.Task]) -> None:
        failed = sum(outcome.state == "failed" for outcome in ended.values())
        at = [(task, _epochs(task)) for task in running]
        words = ", ".join(f"{task.name} {len(epochs)}/{task.recipe['epochs']}" for task, epochs in at)
        line = f"{len(ended) - failed} of {self.count} runs done · {len(running)} running"
        line += (f" ({words})" if words else "") + f" · {failed} failed"
        left = self._seconds_left(at, waiting)
        line += "" if left is None else f" · {duration(left)} to go"
        if self.terminal:
            self.renew(line)
        else:
            self.say(line)

    def _seconds_left(self, running: list[tuple[workers.Task, list[dict[str, Any]]]],
                      waiting: list[workers.Task]) -> float | None:
        """From the pace of each recipe's epochs so far; of one that has none yet, the mean of the others."""
        for task, epochs in running:
            if epochs:
                self.paces[task.recipe["name"]] = sum(entry["seconds"] for entry in epochs) / len(epochs)
        if not self.paces:
            return None
        usual = sum(self.paces.values()) / len(self.paces)
        counts = [*((task, len(epochs)) for task, epochs in running), *((task, 0) for task in waiting)]
        left = [(task.recipe["epochs"] - done) * self.paces.get(task.recipe["name"], usual) for task, done in counts]
        return max(sum(left) / max(1, self.width()), *left, 0.0)


def _epochs(task: workers.Task) -> list[dict[str, Any]]:
    """The epochs that a run under way has written down."""
    try:
        return read_record(task.folder)["epochs"]
    except MinimaskError:
        return []


def duration(seconds: float) -> str:
    """For people: 45 s, 12 min, 3.5 h."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else \
        f"{seconds / 3600:.1f} h"


def _say(folder: Path, todo: list[workers.Task], outcomes: Mapping[str, workers.Outcome], words: Sequence[str]) -> None:
    """A table of the runs; MinimaskError where some failed or were stopped."""
    rows: list[tuple[str, ...]] = [("run", "epochs", "test", "left", "time", "")]
    for task in todo:
        epochs, state = _epochs(task), outcomes[task.name].state
        told = "" if not epochs else (f"{epochs[-1]['test_accuracy']:.2%}" if "test_accuracy" in epochs[-1] else
                                      f"loss {epochs[-1]['test_loss']:.4g}")
        end = [told, f"{epochs[-1]['weights_left']:.2%}" if epochs else ""]
        time = duration(sum(entry["seconds"] for entry in epochs)) if epochs else ""
        rows.append((task.name, str(len(epochs)), *end, time, "" if state == "done" else state))
    print(*columns(rows), sep="\n")
    print("in {0}/; its table and figures: minimask report {0}".format(escape.line(folder)))
    failed, why = [outcome for outcome in outcomes.values() if outcome.state == "failed"], ""
    if failed:
        reasons = "; ".join(f"{outcome.name}: {outcome.error}" for outcome in failed[:3])
        why = f"{len(failed)} of {len(todo)} runs failed ({reasons})"
    if heard() or any(outcome.state == "stopped" for outcome in outcomes.values()):
        raise Interrupted(_interrupted(folder, todo, words, why))
    if failed:
        raise MinimaskError(f"{why}; the others are done; the same command goes on from there: {_again(words)}")


def _interrupted(folder: Path, begun: Sequence[workers.Task], words: Sequence[str], why: str = "") -> str:
    """What to say when a signal has ended the sweep: what its folder holds, and the way on."""
    if not begun:
        command = shlex.join(["minimask", "sweep", *words])
        return f"interrupted before a run was begun; the same command begins: {command}"
    rest = sum(not _finished(task) for task in begun)
    if not rest:
        return (f"interrupted; all {len(begun)} runs are done, in {folder}; the same command shows their table: "
                f"{_again(words)}")
    return (f"interrupted; {rest} of {len(begun)} runs are not finished, those that had begun go on from what they "
            f"have saved{f'; {why}' if why else ''}; the same command goes on from there: {_again(words)}")


def _again(words: Sequence[str]) -> str:
    """The command that goes on with the runs there are: --overwrite would begin them anew."""
    return shlex.join(["minimask", "sweep", *(word for word in words if word != "--overwrite")])


def _finished(task: workers.Task) -> bool:
    try:
        return workers.finished(task)
    except MinimaskError:  # what is there is another run, or none
        return False


def _parser() -> Parser:
    parser = Parser(prog="minimask sweep",
                    description="Train several recipes with several seeds, a folder per run, several at a time.\n\n"
                                "A sweep that was stopped goes on when the same command is given again: finished runs\n"
                                "are not repeated, others go on from their checkpoints.",
                    epilog="`minimask recipes` lists the recipes.\n\nexample:\n"
                           "  minimask sweep fcn fcn-dense --seeds 5 --data DIR --out runs/mnist\n"
                           "  minimask report runs/mnist\n"
                           "  minimask sweep fcn --set wd=1e-4,3e-4 --set source_settings.tau=0.01,0.02 \\\n"
                           "    --seeds 0,3,7 --data DIR --out runs/grid    (12 runs, named by their values)\n\n"
                           "--scheduler needs Dask (the extra `cluster`: pip install distributed). Every worker must\n"
                           "see the folders of --out and --data under the same names.")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE",
                        help="names that `minimask recipes` lists, or files NAME.toml")
    parser.add_argument("--seeds", type=seeds, default=1, metavar="N|S,S,...",
                        help="how many seeds, from --seed up (default: 1); or the seeds themselves, 0,3,7")
    parser.add_argument("--jobs", type=whole_number(1), metavar="N",
                        help="how many runs at a time (default: one a core, which they share; on a cluster one a "
                             "thread of its workers)")
    parser.add_argument("--scheduler", metavar="ADDRESS",
                        help="work on the Dask cluster of this scheduler, such as tcp://host:8786")
    data_options(parser)
    trust_option(parser)
    recipe_options(parser)
    shared_options(parser, "runs/sweep", threads="the cores shared among the jobs; 1 on a cluster")
    return parser
