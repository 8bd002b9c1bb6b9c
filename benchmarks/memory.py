"""Peak memory of a training step, ours beside PyTorch's, over batch sizes; each figure from a process of its own.

    python benchmarks/memory.py                 # Conv2 at batches 32 to 512: a table
    python benchmarks/memory.py --net conv4     # another net
    python benchmarks/memory.py --json FILE     # and writes a record

A process builds the net with signed supermasks and its optimizer, notes its peak so far ("fixed"), makes a batch of
random uint8 images, as a data set holds them, and takes three steps, standardising the batch in each as training does.
Its peak then is the "peak in all"; what it has grown by, over the batch, is the cost of an image. The peak is VmHWM of
/proc/self/status, so Linux only; MB are 1,000,000 bytes. Needs the extra `oracle`.
"""

import argparse
import json
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
from steps import NETS, OurSide

from minimask import data, train
from minimask.fast.memory import kept_memory

BATCHES = (32, 64, 128, 256, 512)
STEPS = 3


def peak_mb():
    """This process's peak so far. (ru_maxrss would hold its parent's.)"""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("VmHWM"))


def measure(name, side, batch):
    """Fixed and peak memory of one side in this process, which must have done nothing else: {"fixed_mb", "peak_mb"}."""
    ours = OurSide(name)
    step, move, labels_of = ours.step, np.asarray, np.asarray
    if side == "torch":
        import torch
        from torch_side import TorchSide

        theirs = TorchSide(ours.net, ours.recipe, channels_last=name != "fcn")
        step, move, labels_of = theirs.step, theirs.images, torch.tensor
    rng, shape = np.random.default_rng(0), ours.net.input_shape
    fixed = peak_mb()
    images = rng.integers(0, 256, (batch, *shape), dtype=np.uint8)
    labels = labels_of(rng.integers(0, 10, batch))
    with kept_memory() if side == "ours" else nullcontext():  # as in train.fit
        for _ in range(STEPS):
            step(move(data.standardise(images)), labels)
    return {"fixed_mb": fixed, "peak_mb": peak_mb()}


def in_a_process(name, side, batch):
    out = subprocess.run([sys.executable, __file__, "--net", name, "--side", side, "--batch", str(batch)],
                         capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def row(name, batch):
    """Both sides at one batch size: peak in all, and per image beyond what the net itself needs."""
    result = {"batch": batch}
    for side in ("ours", "torch"):
        found = in_a_process(name, side, batch)
        result |= {f"{side}_{key}": value for key, value in found.items()}
        result[f"{side}_per_image_mb"] = (found["peak_mb"] - found["fixed_mb"]) / batch
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="conv2", choices=NETS, help="default: conv2")
    every = ",".join(map(str, BATCHES))
    parser.add_argument("--batches", default=every, metavar="N,N", help=f"sizes to measure (default: {every})")
    parser.add_argument("--json", metavar="FILE", help="write a record there")
    parser.add_argument("--side", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = options.batches.split(",")
    if not all(size.isdigit() and int(size) > 0 for size in sizes):
        parser.error(f"--batches {options.batches}: give numbers from 1 up, with commas between them")
    if options.side:
        print(json.dumps(measure(options.net, options.side, options.batch)))
        return
    print(f"{options.net}, MB: {'batch':>8}{'ours, peak':>12}{'an image':>10}{'PyTorch, peak':>15}{'an image':>10}")
    rows = []
    for batch in map(int, sizes):
        rows.append(row(options.net, batch))
        found = rows[-1]
        print(f"{'':{len(options.net)}}{batch:>14}{found['ours_peak_mb']:>12.0f}{found['ours_per_image_mb']:>10.2f}"
              f"{found['torch_peak_mb']:>15.0f}{found['torch_per_image_mb']:>10.2f}", flush=True)
    if options.json:
        record = {"net": options.net, "steps": STEPS, "environment": train.environment(), "batches": rows}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
