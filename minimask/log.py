"""Logs beside the record: a line of JSON for every epoch, and every step if asked; and TensorBoard's event files.

``log.jsonl`` begins with a line on the run, then has one for each step and epoch, in order::

    {"kind": "run", "format": 1, "recipe": "fcn", "seed": 0, "dataset": "mnist", "every_step": true, ...}
    {"kind": "step", "epoch": 1, "step": 1, "train_loss": 2.4157700538635254, "lr": 0.05}
    {"kind": "epoch", "epoch": 1, "step": 469, "train_loss": 0.3304, "test_accuracy": 0.9512, ...}

A run that goes on drops the lines of steps that it makes again, so that its log is that of a run without a stop, but
for the seconds. Steps that were made while no log was kept are not in it. pandas.read_json(FILE, lines=True) reads it.

Event files (extra ``tensorboard``) hold the numbers of these lines, in the folder ``tensorboard`` beside the log. They
are written by tensorboardX, and all anew where a run goes on.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .errors import MinimaskError
from .fields import parse
from .loop import Listener, Training

FORMAT = 1
#: What a log begins with.
BEGINS = f'{{"kind": "run", "format": {FORMAT},'
FOLDER, EVENTS = "tensorboard", "events.out.tfevents.*"
#: Bytes of a line, at most: an epoch of the deepest net has 20,000.
MOST_LINE = 1_000_000
#: TensorBoard's name of each number of an epoch.
TAGS = {"train_loss": "loss/train", "test_loss": "loss/test", "train_accuracy": "accuracy/train",
        "test_accuracy": "accuracy/test", "test_metric": "metric/test", "weights_left": "mask/weights_left",
        "flips": "mask/flips", "seconds": "seconds"}


@dataclass(frozen=True)
class Log:
    """What is kept beside a record. every_step: a line for every step, too. tensorboard: event files, too."""

    every_step: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.tensorboard:
            _writer_class()  # what is missing is said now, not when all is trained


def listeners(path: Path, log: Log | None, resumed: bool) -> list[Listener]:
    """The log at `path` as something to hang on the loop; where there is none, nothing.

    A run that goes on keeps the log that it has, with what `log` asks for beside that.
    """
    if resumed and (head := _head(path)):
        asked, events = log or Log(), bool(head.get("tensorboard"))
        try:
            log = Log(asked.every_step or bool(head.get("every_step")), events or asked.tensorboard)
        except MinimaskError as error:  # it began where that was installed
            warnings.warn(f"{error}; training goes on", UserWarning, stacklevel=2)
            log = replace(log, tensorboard=False) if log else Log(bool(head.get("every_step")))
    return [Lines(path, log, resumed)] if log else []


def event_files(folder: Path) -> list[Path]:
    """The event files of a run's folder; none behind a link."""
    place = folder / FOLDER
    return [] if place.is_symlink() else [path for path in place.glob(EVENTS) if not path.is_symlink()]


class Lines(Listener):
    """Writes a log, on the loop. A file that cannot be written costs the log and a warning, not the run.

    Args:
        path: of log.jsonl. log: what is kept. resumed: the run goes on, and so does the log at `path`.
    """

    def __init__(self, path: str | Path, log: Log | None = None, resumed: bool = False):
        self.path, self.log, self.resumed = Path(path), log or Log(), resumed
        self.file: int | None = None
        self.writer: Any = None
        self.steps, self.loss_sum, self.epochs = 0, 0.0, 0  # of the run, as far as the log tells of it

    def begin(self, training: Training) -> None:
        """Begins the log, or puts the one that is there in order; raises MinimaskError where event files cannot be."""
        record = training.record
        head: dict[str, Any] = {
            "kind": "run", "format": FORMAT, "recipe": (record.get("recipe") or {}).get("name"),
                **{name: record[name] for name in ("seed", "init_seed", "order_seed", "dataset") if name in record},
                "every_step": self.log.every_step, "tensorboard": self.log.tensorboard}
        epochs = [_of_epoch(entry) for entry in (*(record[name] for name in ("epoch_0",) if name in record),
                                                 *record["epochs"])]
        steps = _steps(self.path, training.optimizer.steps) if self.resumed else iter(())
        folder = files.own_folder(self.path.parent, FOLDER) if self.log.tensorboard else None
        self._now(training)
        with self._kept():
            if folder is not None:
                self._begin_events(folder)
            with files.atomically(self.path) as file:
                lines = heapq.merge(steps, epochs, key=lambda line: (line["step"], line["kind"] == "epoch"))
                for line in itertools.chain([head], lines):
                    file.write(_text(line).encode())
                    self._tell(line)
            self.file = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))

    def _begin_events(self, folder: Path) -> None:
        for path in event_files(self.path.parent):
            path.unlink()
        # whoever looks at an earlier file forgets what it had from it
        self.writer = _writer_class()(str(folder), purge_step=0 if self.resumed else None)

    def _tell(self, line: Mapping[str, Any]) -> None:
        if self.writer is not None:
            _tell(self.writer, line)

    def step(self, training: Training, loss: float) -> None:
        self._write_step(training, loss)

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        self._write(_of_epoch(entry))
        self._now(training)
        if self.writer is not None:
            with self._kept():
                self.writer.flush()

    def cut_short(self, training: Training) -> None:
        """Writes what was done when nobody was told of it any more: Ctrl-C comes right behind a step, or an epoch."""
        if training.between_steps:
            if training.step and training.optimizer.steps == self.steps + 1:
                count = min(training.batch, len(training.dataset.train_images) - (training.step - 1) * training.batch)
                dtype = str(training.net.parameters()[0].data.dtype).rpartition(".")[2]
                loss = (training.loss_sum - self.loss_sum) / count  # off by less than float32 sees
                self._write_step(training, float(np.dtype(dtype).type(loss)))
            for entry in training.record["epochs"][self.epochs:]:
                self._write(_of_epoch(entry))
        self.end(training)

    def end(self, training: Training) -> None:
        with self._kept():
            if self.writer is not None:
                self.writer.close()
            if self.file is not None:
                os.close(self.file)
        self.file = self.writer = None

    def _write_step(self, training: Training, loss: float) -> None:
        optimizer = training.optimizer
        if self.log.every_step:
            self._write({"kind": "step", "epoch": training.epoch, "step": optimizer.steps, "train_loss": loss,
                         "lr": optimizer.lr * float(optimizer.schedule(optimizer.steps - 1))})
        self._now(training)

    def _now(self, training: Training) -> None:
        self.steps, self.loss_sum = training.optimizer.steps, training.loss_sum
        self.epochs = len(training.record["epochs"])

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._kept():
            if self.file is not None:
                os.write(self.file, _text(line).encode())
            self._tell(line)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Inside the block an error of the file system ends the log, not the run."""
        try:
            yield
        except (OSError, files.WriteError) as error:
            self.file = self.writer = None
            warnings.warn(f"{self.path} cannot be written ({getattr(error, 'strerror', None) or error}); training goes "
                          "on without a log", UserWarning, stacklevel=4)


# ---- lines ---------------------------------------------------------------------------------------------------------


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, allow_nan=False) + "\n"


def _of_epoch(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "epoch", **entry}


def read(path: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a log that are whole; what a kill or a hand left of others is passed over."""
    try:
        with files.to_read(path) as file:
            while text := file.readline(MOST_LINE):
                with contextlib.suppress(ValueError):
                    line = parse(text, "a line")
                    if isinstance(line, dict) and line.get("kind") in ("run", "step", "epoch"):
                        yield line
    except OSError:
        return


def _head(path: Path) -> dict[str, Any] | None:
    """The line on the run, where there is a log."""
    first = next(itertools.islice(read(path), 1), None)
    return first if first and first["kind"] == "run" else None


def _steps(path: Path, last: int) -> Iterator[dict[str, Any]]:
    """The lines of steps up to the last, each once and in order."""
    before = 0
    for line in read(path):
        if line["kind"] == "step" and all(type(line.get(name)) is int for name in ("step", "epoch")) and all(
                type(line.get(name)) is float for name in ("train_loss", "lr")) and before < line["step"] <= last:
            before = line["step"]
            yield line


# ---- TensorBoard ---------------------------------------------------------------------------------------------------


def _writer_class() -> Any:
    """tensorboardX's SummaryWriter. MinimaskError where that is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise MinimaskError("TensorBoard's event files need tensorboardX: pip install tensorboardX; without "
                            "--tensorboard the log has the same numbers") from error
    return SummaryWriter


def _tell(writer: Any, line: Mapping[str, Any]) -> None:
    """The numbers of a line, at its step of the run."""
    if line["kind"] == "step":
        writer.add_scalar("step/train_loss", line["train_loss"], line["step"])
        writer.add_scalar("step/lr", line["lr"], line["step"])
    elif line["kind"] == "epoch":
        for name, tag in TAGS.items():
            if name in line:
                writer.add_scalar(tag, line[name], line["step"])
        for layer in line["layers"]:
            for part in ("kept", "hidden", "inverted"):
                writer.add_scalar(f"{part}/{layer['name']}", layer[part] / layer["weights"], line["step"])
