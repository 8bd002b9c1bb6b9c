"""Training steps and a whole epoch, side by side with PyTorch eager in one process, alternating.

    python benchmarks/steps.py                  # prints a table
    python benchmarks/steps.py --json FILE      # and writes a record
    python benchmarks/steps.py --threads 1      # both sides limited to one thread

A step is forward, backward and SGDW of a signed supermask at batch 128 in float32. Both sides do the same: the same
masks, no biases, the same update, PyTorch's with in-place operations. Machines are noisy: read the ratio, not the
milliseconds. "GEMM share" is the time the step's matrix products would take at the machine's peak, measured in the
same run with a large product, over our time. MNIST is used where MINIMASK_DATA has it, random images of its size
elsewhere. Needs the extra `oracle`.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from minimask import data, models, ops, optim, recipes, train
from minimask.backend import blas_threads

BATCH = 128


class OurSide:
    """The same with minimask, as `minimask train fcn` runs it."""

    def __init__(self, images):
        self.recipe = recipe = recipes.find("fcn")
        self.net = models.fcn(weights=recipe.weights(), rng=np.random.default_rng(0))
        schedule = optim.exponential(recipe.decay, every=recipe.decay_epochs * images / BATCH)
        self.optimizer = optim.SGDW(self.net.parameters(), recipe.lr, recipe.wd, recipe.momentum, schedule)

    def step(self, x, labels):
        loss = ops.cross_entropy(self.net(x), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def mnist_or_noise():
    """MNIST, or random images of its size: the time is the same."""
    try:
        return data.load("mnist")
    except data.MinimaskError:
        rng = np.random.default_rng(0)
        parts = [rng.integers(0, high, shape).astype(np.uint8) for n in (60_000, 10_000)
                 for high, shape in ((256, (n, 28, 28, 1)), (10, (n,)))]
        return data.Dataset("noise of MNIST's size", *parts, tuple("0123456789"))


def gemm_gflops(size=2048, repeats=9):
    """The machine's float32 peak in NumPy's BLAS: the best of several large products."""
    a = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    seconds = min(timed(lambda: a @ a) for _ in range(repeats))
    return 2 * size**3 / seconds / 1e9


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(ours, theirs, rounds, repeats):
    """Rounds of `repeats` calls of each in turn: (median seconds of ours, of theirs, median over rounds of the ratio).

    The ratio is taken within a round, seconds apart, so that a machine that slows down for a while slows both.
    The first call of each turn warms the caches and is not counted; nor is the first round.
    """
    seconds = []
    for _ in range(rounds + 1):
        turns = [[timed(call) for _ in range(repeats)] for call in (ours, theirs)]
        seconds.append([statistics.median(turn[1:] or turn) for turn in turns])
    mine, other = (statistics.median(column) for column in zip(*seconds[1:]))
    return mine, other, statistics.median(a / b for a, b in seconds[1:])


def turns(step, batches):
    """A call without arguments that takes the next batch each time."""
    endless = itertools.cycle(batches)
    return lambda: step(*next(endless))


def gemm_flop(net):
    """Multiplications and additions in the products of a step: forward, dW, and dx but for the first layer."""
    sizes = [p.size for p in net.parameters()]
    return 2 * BATCH * (3 * sum(sizes) - sizes[0])


def peak_mb(side):
    """Peak memory of one side alone, in a process of its own: 20 steps, imports included."""
    out = subprocess.run([sys.executable, __file__, "--peak", side], capture_output=True, text=True, check=True)
    return float(out.stdout)


def print_peak(side):
    """What `--peak` prints; the side that is not asked for is not imported. Images stay out: both would hold them."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((BATCH, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, BATCH)
    ours = OurSide(60_000)
    if side == "torch":
        import torch
        from torch_side import TorchSide

        ours, x, y = TorchSide(ours.net, ours.recipe), torch.tensor(x), torch.tensor(y)
    for _ in range(20):
        ours.step(x, y)
    with open("/proc/self/status", encoding="utf-8") as file:  # ru_maxrss would hold the parent's peak
        print(next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write a record there")
    parser.add_argument("--threads", type=int, help="threads of both sides (default: all cores)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of 20 steps each (default: 20)")
    parser.add_argument("--epochs", type=int, default=5, help="turns of a whole epoch each (default: 5)")
    parser.add_argument("--peak", choices=("ours", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        return print_peak(options.peak)
    import torch
    from torch_side import TorchSide

    with blas_threads(options.threads or os.cpu_count()) as threads:
        torch.set_num_threads(options.threads or os.cpu_count())
        dataset = mnist_or_noise()
        images, labels = dataset.train_images, dataset.train_labels.astype(np.int64)
        peak = gemm_gflops()

        ours = OurSide(len(images))
        theirs = TorchSide(ours.net, ours.recipe)
        batches = [(data.standardise(images[i:i + BATCH]), labels[i:i + BATCH]) for i in range(0, 50 * BATCH, BATCH)]
        torch_batches = [(torch.tensor(x), torch.tensor(y)) for x, y in batches]
        mine, other, ratio = alternate(turns(ours.step, batches), turns(theirs.step, torch_batches), options.rounds, 20)
        share = gemm_flop(ours.net) / (peak * 1e9) / mine
        step = {"net": "fcn", "ours_ms": 1e3 * mine, "torch_ms": 1e3 * other, "ratio": ratio,
                "ours_peak_mb": peak_mb("ours"), "torch_peak_mb": peak_mb("torch"), "gemm_share": share}

        ours = OurSide(len(images))  # both begin anew
        theirs = TorchSide(ours.net, ours.recipe)
        torch_images, torch_labels = torch.tensor(images), torch.tensor(labels)
        rng = np.random.default_rng(0)
        my_epoch, other_epoch, epoch_ratio = alternate(
            lambda: train.train_epoch(ours.net, dataset, ours.optimizer, rng, BATCH),
            lambda: theirs.epoch(torch_images, torch_labels, torch.tensor(rng.permutation(len(images)))),
            options.epochs, 1)
    epoch = {"net": "fcn", "data": dataset.name, "ours_s": my_epoch, "torch_s": other_epoch,
             "ratio": epoch_ratio}
    record = {"threads": threads, "gemm_gflops": peak, "torch": torch.__version__, "environment": train.environment(),
              "steps": [step], "epochs": [epoch]}
    print(f"{threads} threads, GEMM peak {peak:.0f} GFLOP/s, PyTorch {torch.__version__} eager, batch {BATCH}, float32")
    print(f"{'':12}{'ours':>10}{'PyTorch':>10}{'ratio':>8}{'GEMM share':>12}{'peak MB ours':>14}{'PyTorch':>9}")
    print(f"{'fcn step':12}{1e3 * mine:>7.2f} ms{1e3 * other:>7.2f} ms{ratio:>8.2f}{share:>12.0%}"
          f"{step['ours_peak_mb']:>14.0f}{step['torch_peak_mb']:>9.0f}")
    print(f"{'fcn epoch':12}{my_epoch:>8.2f} s{other_epoch:>8.2f} s{epoch_ratio:>8.2f}   ({dataset.name})")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
