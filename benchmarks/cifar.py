"""The CIFAR-10 rows: settings chosen on held-out training images, then the nets of the paper's table, as time allows.

    python benchmarks/cifar.py --data DIR --out runs/cifar --minutes 60             # one run at a time, on the CPU
    python benchmarks/cifar.py --data DIR --out runs/cifar --minutes 9 --jobs 8 --backend cupy

DIR holds cifar-10-batches-bin/, or train.npz and test.npz with JPEG copies of the images (members jpeg, offset, label),
which are decoded first (needs Pillow). Given again, it goes on where it stopped. What is done in which order:

1. GRID: Conv2 at ten settings of threshold, decay and schedule, 24 epochs each on cifar10-validation (45,000 images
   to train, 5,000 of the training images held out); beside them, two at a time, the recipes of 100 epochs in LONG
   where there are three jobs or more, else last.
2. The rule (`choose`): of the points with at most the paper's share of weights left, the most accurate on the held-out
   images; if there is none, the one with the fewest weights left.
3. ROWS: the chosen settings on all training images: Conv2 with three seeds; Conv4 with that decay and with 0.7 and 0.6
   times it, of which the one counts that has more weights left without exceeding the paper's share; no test image has a
   part in that. Conv6 and Conv8 have that schedule with the threshold and the decay of the GRID's published rule, since
   with the chosen threshold their first epochs are lost; ResNet20 its published threshold and a third of its published
   decay, at 30 epochs in place of 110. Then the dense baselines.

Every run has a folder below --out; its record is copied to --records as soon as it ends, and its net as a .mmk file
where it is masked. A run that the time cuts short keeps its checkpoint.
"""

import argparse
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minimask import recipes

#: tau or tau_ratio, wd, and in how many epochs both rates fall to 0.9, or "cosine": to 0 in the run's epochs.
GRID = [({"tau": 0.01}, 7e-4, 2.0), ({"tau": 0.01}, 1e-3, 2.0), ({"tau": 0.01}, 1.4e-3, 2.0),
        ({"tau": 0.005}, 1.4e-3, 2.0), ({"tau": 0.02}, 5e-4, 2.0), ({"tau_ratio": 0.2}, 7e-4, 2.0),
        ({"tau_ratio": 0.4}, 3e-4, 2.0), ({"tau": 0.01}, 1e-3, 1.5), ({"tau": 0.01}, 5.5e-4, 2.0),
        ({"tau": 0.01}, 7.5e-4, "cosine")]
LONG = ("conv2-published-config", "conv4-published-config")
LATER = ("conv8-published-config", "conv6-published-config")
DENSE = ("conv2-dense", "conv4-dense", "conv6-dense", "conv8-dense")
PAPER = {"conv2": 0.0060}  # weights left, Koster et al. 2022


@dataclass(frozen=True)
class Run:
    """One training: a recipe, a seed, the data set it is measured on."""

    recipe: recipes.Recipe
    seed: int = 0
    dataset: str = "cifar10"

    @property
    def name(self):
        where = "-validation" if self.dataset.endswith("validation") else ""
        return f"{self.recipe.name}{where}-seed{self.seed}"


def point(net, threshold, wd, fall, epochs=24, about="a point of benchmarks/cifar.py"):
    """A recipe with these settings, named after them."""
    rule, value = next(iter(threshold.items()))
    cosine = fall == "cosine"
    name = f"{net}-{rule.replace('tau_', '')}{value:g}-wd{wd:g}-{fall if cosine else f'fall{fall:g}'}"
    base = recipes.find(net)
    return replace(base, name=name, about=about, epochs=epochs, wd=wd, source_settings={rule: value},
                   schedule="cosine" if cosine else "exponential",
                   schedule_settings={"epochs": float(epochs if cosine else fall)})


def choose(records, limit):
    """The record of the rule in this file's text."""
    last = [record["epochs"][-1] for record in records]
    within = [i for i, entry in enumerate(last) if entry["weights_left"] <= limit]
    if within:
        return records[max(within, key=lambda i: last[i]["test_accuracy"])]
    return records[min(range(len(last)), key=lambda i: last[i]["weights_left"])]


def rows(chosen):
    """What follows from the chosen recipe, what is worth most first."""
    threshold, wd = dict(chosen.source_settings), chosen.wd
    fall = "cosine" if chosen.schedule == "cosine" else chosen.schedule_settings["epochs"]
    found = [Run(point("conv2", threshold, wd, fall), seed) for seed in range(3)]
    found += [Run(point("conv4", threshold, wd * factor, fall)) for factor in (1.0, 0.7, 0.6)]
    found += [Run(point(net, {"tau_ratio": 0.4}, 3e-4, fall)) for net in ("conv6", "conv8")]
    return [*found, Run(point("resnet20", {"tau_ratio": 0.75}, 1e-4, fall, 30))]


class Queue:
    """Runs in processes of their own, so many at a time, until the time is over."""

    def __init__(self, options, data):
        self.options, self.data, self.running, self.exports = options, data, {}, []
        self.deadline = time.monotonic() + 60 * options.minutes
        self.out, self.records = Path(options.out), Path(options.records or Path(options.out) / "records")
        for folder in (self.out, self.records):
            folder.mkdir(parents=True, exist_ok=True)

    def record(self, run):
        """The run's record, None where it has not ended."""
        file = self.out / run.name / "record.json"
        if not file.exists():
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
        return record if len(record["epochs"]) >= run.recipe.epochs else None

    def begin(self, run):
        if self.record(run):
            return
        folder = self.out / run.name
        recipe = self.out / f"{run.recipe.name}.toml"
        recipe.write_text(run.recipe.toml(), encoding="utf-8")
        command = [sys.executable, "-m", "minimask", "train", str(recipe), "--dataset", run.dataset, "--seed",
                   str(run.seed), "--data", self.data, "--allow-unverified", "--backend", self.options.backend,
                   "--threads", str(self.options.threads), "--out", str(folder),
                   *(["--resume"] if (folder / "checkpoint.npz").exists() else [])]
        with open(self.out / f"{run.name}.log", "a", encoding="utf-8") as log:
            self.running[run.name] = run, subprocess.Popen(command, stdout=log, stderr=log)
        print(f"{self.left():5.0f} s left: begun {run.name}", flush=True)

    def left(self):
        return self.deadline - time.monotonic()

    def ended(self):
        """The runs that have ended since the last call; their results are copied."""
        done = [name for name, (_, process) in self.running.items() if process.poll() is not None]
        found = []
        for name in done:
            run, process = self.running.pop(name)
            self.keep(run)
            record = self.record(run)
            end = f"{record['epochs'][-1]['test_accuracy']:.2%}, {record['epochs'][-1]['weights_left']:.2%} left" \
                if record else f"exit {process.returncode}"
            print(f"{self.left():5.0f} s left: {name} ended: {end}", flush=True)
            found.append(run)
        return found

    def keep(self, run):
        """Copies what a run has so far to --records: a finished one's record and masks, else its record as .part."""
        folder, record = self.out / run.name, self.record(run)
        if (folder / "record.json").exists():
            shutil.copy(folder / "record.json", self.records / f"{run.name}.json{'' if record else '.part'}")
        if record and run.recipe.source != "trained":
            command = [sys.executable, "-m", "minimask", "export", str(folder), "-o",
                       str(self.records / f"{run.name}.mmk")]
            self.exports.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def work(self, waiting, beside=()):
        """Works off `waiting`, with at most two of `beside` at a time beside them, until both are done or time is over.

        `waiting` may get more runs from a function in its place, called when all before it have ended.
        """
        waiting, beside = list(waiting), list(beside)
        longs = set()
        while self.left() > 0 and (waiting or beside or self.running):
            longs &= set(self.running)
            while beside and len(longs) < (2 if self.options.jobs > 2 or not waiting else 0) and (
                    len(self.running) < self.options.jobs):
                run = beside.pop(0)
                self.begin(run)
                longs |= {run.name} & set(self.running)
            while waiting and len(self.running) < self.options.jobs:
                if callable(waiting[0]):
                    needed, more = waiting[0]()
                    if any(name in self.running for name in needed):
                        ready = next((i for i, each in enumerate(waiting) if not callable(each)), None)
                        if ready is None:
                            break
                        self.begin(waiting.pop(ready))
                        continue
                    waiting[:1] = more()
                    continue
                self.begin(waiting.pop(0))
            time.sleep(0.5)
            self.ended()
        for _, process in self.running.values():
            process.send_signal(signal.SIGINT)
        for run, process in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            self.keep(run)
        for process in self.exports:
            process.wait()


def decoded(folder, out):
    """The folder with cifar-10-batches-bin/: `folder`, or `out` once the JPEG copies are decoded there."""
    folder, out = Path(folder), Path(out)
    if (folder / "cifar-10-batches-bin").is_dir():
        return str(folder)
    if not (folder / "train.npz").exists():
        raise SystemExit(f"cifar.py: {folder} holds neither cifar-10-batches-bin/ nor train.npz and test.npz")
    target = out / "cifar-10-batches-bin"
    if (target / "test_batch.bin").exists():
        return str(out)
    target.mkdir(parents=True, exist_ok=True)
    parts = [(str(folder), "train", 10_000 * i, 10_000 * (i + 1), str(target / f"data_batch_{i + 1}.bin"))
             for i in range(5)]
    with multiprocessing.get_context("spawn").Pool(min(6, os.cpu_count())) as pool:
        pool.starmap(decode, [*parts, (str(folder), "test", 0, 10_000, str(target / "test_batch.bin"))])
    return str(out)


def decode(folder, split, start, stop, file):
    """Writes records of CIFAR-10's binary format, 1 + 3,072 bytes: the label, then red, green, blue, row by row."""
    from PIL import Image

    with np.load(Path(folder) / f"{split}.npz", allow_pickle=False) as members:
        jpeg, offset, label = members["jpeg"], members["offset"], members["label"]
    records = np.empty((stop - start, 3073), np.uint8)
    records[:, 0] = label[start:stop]
    for row, i in enumerate(range(start, stop)):
        image = Image.open(io.BytesIO(jpeg[offset[i]:offset[i + 1]].tobytes())).convert("RGB")
        records[row, 1:] = np.asarray(image).transpose(2, 0, 1).reshape(-1)
    records.tofile(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="the folder with cifar-10-batches-bin/, or with the JPEG copies")
    parser.add_argument("--out", default="runs/cifar", help="where runs go (default: runs/cifar)")
    parser.add_argument("--records", help="where records and masks are copied to (default: OUT/records)")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so many; a run then keeps its checkpoint")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="of each run (default: 1)")
    parser.add_argument("--backend", default="numpy", choices=("numpy", "cupy"))
    parser.add_argument("--epochs", type=int, help="of every run, to try this script")
    options = parser.parse_args()
    data = decoded(options.data, Path(options.out) / "data")
    queue = Queue(options, data)

    def shortened(run):
        return replace(run, recipe=replace(run.recipe, epochs=options.epochs)) if options.epochs else run

    grid = [shortened(Run(point("conv2", *settings), dataset="cifar10-validation")) for settings in GRID]
    named = {group: [shortened(Run(recipes.find(name))) for name in group] for group in (LONG, LATER, DENSE)}

    def then():
        def more():
            records = [record for run in grid if (record := queue.record(run))]
            if not records:
                return []
            chosen = recipes.from_dict(choose(records, PAPER["conv2"])["recipe"])
            print(f"chosen: {chosen.name}", flush=True)
            return [shortened(run) for run in rows(chosen)]
        return [run.name for run in grid], more

    queue.work([*grid, then, *named[DENSE]], [*named[LONG], *named[LATER]])
    print(f"records in {queue.records}", flush=True)


if __name__ == "__main__":
    main()
