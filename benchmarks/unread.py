"""Does it pay to skip inputs that no weight left reads, forward and in dx? By now it does not, so training does not.

    python benchmarks/unread.py    # whole products, and products of the inputs that are read, in turn

A weight that is hidden today may come back, so dW needs all inputs, and which inputs are read must be looked at in
every step. What is measured is y = x W and, but for the first layer, dx = g W^T: with all of W; and with the rows of W
that are not 0, found and gathered, x gathered, and dx strewn back. Layers as training leaves them: the FCN's first with
93 and 300 units, 472 of 784 pixels read; conv2's first dense layer, half of its 16,384 inputs read, and a fifth.
"""

import statistics
import time

import numpy as np

from minimask.fast.blocks import product
from minimask.fast.memory import kept_memory
from minimask.fast.threads import blas_threads

BATCH, ROUNDS = 128, 9
#: inputs, units, inputs that are read, whether dx is wanted.
LAYERS = ((784, 93, 472, False), (784, 300, 472, False), (16_384, 256, 7_600, True), (16_384, 143, 3_000, True))


def best(call, repeats):
    """Seconds of the quickest of some calls."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def calls(inputs, units, read, dx):
    """The products of a layer, whole and without what is unread."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(inputs)[:read]
    w = np.zeros((inputs, units), np.float32)
    w[rows, rng.integers(0, units, read)] = 1  # a weight at least
    x, g = (rng.standard_normal((BATCH, n), np.float32) for n in (inputs, units))

    def whole():
        return product(x, w), product(g, w.mT) if dx else None

    def gathered():
        found = np.flatnonzero(w.any(axis=1))
        part = w[found]
        y, back = product(x[:, found], part), None
        if dx:
            back = np.zeros_like(x)
            back[:, found] = product(g, part.mT)
        return y, back

    assert all(a is b or np.allclose(a, b, atol=1e-3) for a, b in zip(whole(), gathered()))
    return whole, gathered


def main():
    print(f"{'layer':>14}{'read':>8}{'whole':>11}{'gathered':>11}{'ratio':>8}")
    with blas_threads(2), kept_memory():
        for inputs, units, read, dx in LAYERS:
            both = calls(inputs, units, read, dx)
            rounds = [[best(call, 40 if inputs < 1000 else 6) for call in both] for _ in range(ROUNDS)]
            seconds = [min(column) for column in zip(*rounds)]
            print(f"{inputs:>8} x {units:<3}{read:>8}{1e3 * seconds[0]:>8.2f} ms{1e3 * seconds[1]:>8.2f} ms"
                  f"{statistics.median(b / a for a, b in rounds):>8.2f}")


if __name__ == "__main__":
    main()
