"""What a second thread costs and brings in a net of small products: why the FCN's passes stay on one thread.

    python benchmarks/handover.py               # a table
    python benchmarks/handover.py --rounds 2    # quicker

Handing half of the work to a thread that sleeps, and waiting for it, takes so many microseconds; then a step of the
FCN, with all its hidden units and with the 93 that are alive late in a run, at several sizes from which on passes over
arrays and products are shared between two threads, in turn; and with the next batch standardised ahead on the other.
"""

import argparse
import queue
import statistics
import threading
import time

import numpy as np

from minimask import data, loop, mask, models, ops, optim
from minimask.fast import blocks
from minimask.fast.memory import kept_memory
from minimask.fast.threads import blas_threads, in_parts

BATCH = 128
#: Bytes of an array from which on passes are shared, and multiplications of a product.
SIZES = {"as it is": (blocks.LARGE, blocks.LARGE_PRODUCT), "passes from 256 kB": (1 << 18, blocks.LARGE_PRODUCT),
         "passes from 128 kB": (1 << 17, blocks.LARGE_PRODUCT), "products from 4 million": (blocks.LARGE, 1 << 22)}


class Steps:
    """Training steps of an FCN on drawn images of MNIST's size."""

    def __init__(self, units):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (BATCH * 40, 28, 28, 1)).astype(np.uint8)
        self.labels = rng.integers(0, 10, len(self.images))
        self.net = models.fcn(mask.SignedSupermask(tau=0.01), rng, (28, 28, 1), units=(units, 100, 10))
        self.optimizer = optim.SGDW(self.net.parameters(), 0.05, 5e-4)
        self.order, self.at = rng.permutation(len(self.images)), 0
        self.jobs, self.ready = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(target=self.prepare, daemon=True).start()

    def chosen(self):
        self.at = (self.at + BATCH) % len(self.order)
        return self.order[self.at:self.at + BATCH]

    def prepare(self):
        while True:
            self.ready.put(data.standardise(self.images[self.jobs.get()]))

    def step(self, x, labels):
        loss = ops.cross_entropy(self.net(loop.to_net(self.net, x), training=True), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def plain(self, steps):
        for _ in range(steps):
            chosen = self.chosen()
            self.step(data.standardise(self.images[chosen]), self.labels[chosen])

    def ahead(self, steps):
        now = self.chosen()
        self.jobs.put(now)
        for _ in range(steps):
            following = self.chosen()
            x = self.ready.get()
            self.jobs.put(following)
            self.step(x, self.labels[now])
            now = following
        self.ready.get()


def timed(call, *arguments):
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="turns of each, of 20 steps (default: 30)")
    rounds = parser.parse_args().rounds
    with blas_threads(2) as threads, kept_memory():
        alone = statistics.median(timed(in_parts, lambda start, stop: None, 2) for _ in range(50 * rounds))
        print(f"{threads} threads; handing over and waiting: {1e6 * alone:.0f} us")
        for units in (300, 93):
            steps, seconds = Steps(units), {name: [] for name in (*SIZES, "next batch ahead")}
            steps.plain(20)
            for _ in range(rounds):
                for name, turn in seconds.items():
                    blocks.LARGE, blocks.LARGE_PRODUCT = SIZES.get(name, SIZES["as it is"])
                    turn.append(timed(steps.ahead if name == "next batch ahead" else steps.plain, 20) / 20)
            blocks.LARGE, blocks.LARGE_PRODUCT = SIZES["as it is"]
            for name, turn in seconds.items():
                ratio = statistics.median(a / b for a, b in zip(turn, seconds["as it is"]))
                print(f"{units:4} units, {name:24}{1e3 * statistics.median(turn):6.2f} ms a step, {ratio:.2f} of as is")


if __name__ == "__main__":
    main()
