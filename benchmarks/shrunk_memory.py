"""Peak memory of a training while channels are left out, whatever their number: each figure from a process of its own.

    python benchmarks/shrunk_memory.py              # Conv2, 0, 1, 13 and 32 of 64 channels out: a table
    python benchmarks/shrunk_memory.py --net conv4 --out 0,1

Two epochs of three steps at batch 128 on drawn images of CIFAR-10's size. The channels of the second convolution are
dead from the start: every score into and out of them is 0. What is printed is the process's peak, imports included.
"""

import argparse
import subprocess
import sys

import numpy as np

from minimask import data, mask, models, optim, train
from minimask.units import origins


def peak(name, out):
    """This process's peak in MB, after a training with so many channels dead."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (384, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, 384)
    dataset = data.Dataset("drawn", images, labels, images[:128], labels[:128], tuple("0123456789"))
    net = models.MODELS[name](weights=mask.SignedSupermask(tau=0.01), rng=rng)
    sources = net.weights()
    sources["conv2d2"].scores.data[..., :out] = 0
    following = list(sources.values())[list(sources).index("conv2d2") + 1]
    following.scores.data[..., origins(following.scores.shape[-2], 64) < out, :] = 0
    optimizer = optim.SGDW(net.parameters(), 0.04, 5e-4)
    record = train.fit(net, dataset, optimizer, 2, rng, shrink=True)
    dead = next(layer["dead"] for layer in record["epochs"][-1]["layers"] if layer["name"] == "conv2d2")
    assert dead == out, f"{dead} channels are dead, not {out}"
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="conv2", choices=("conv2", "conv4", "conv6", "conv8"), help="(default: conv2)")
    parser.add_argument("--out", default="0,1,13,32", help="comma-separated: channels left out (default: 0,1,13,32)")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        return print(peak(options.net, options.peak))
    for out in options.out.split(","):
        told = subprocess.run([sys.executable, __file__, "--net", options.net, "--peak", out], capture_output=True,
                              text=True, check=True).stdout
        print(f"{options.net}, {out} of 64 channels out: {float(told):.0f} MB")


if __name__ == "__main__":
    main()
