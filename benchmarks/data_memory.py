"""What a training on CIFAR-10 holds in memory beside a step's: peaks of processes of their own.

    python benchmarks/data_memory.py --data DIR                # Conv2; --net NAME for another
    python benchmarks/data_memory.py --data DIR --json FILE

Three processes, each with the net, its optimizer and batches of 128, do the same three steps and an evaluation: on 384
random images that are all there is ("step"), on 384 of the data set's images, with its test images to be evaluated on
("training"), with augmentation and as the set to choose settings by too; and one only loads the set ("loading"). What
the second takes more than the first, in bytes of the data set, is what the data costs. The peak is VmHWM of
/proc/self/status, so Linux only; MB are 1,000,000 bytes.
"""

import argparse
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from minimask import data, recipes, train

BATCH, STEPS = 128, 3


def peak_mb():
    """This process's peak so far. (ru_maxrss would hold its parent's.)"""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("VmHWM"))


def few(dataset):
    """The same arrays, of which as many images are trained on as make three steps."""
    return replace(dataset, train_images=dataset.train_images[:BATCH * STEPS],
                   train_labels=dataset.train_labels[:BATCH * STEPS])


def drawn():
    """As few images of the same shape, and nothing else."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH * STEPS, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, BATCH * STEPS)
    return data.Dataset("drawn", images, labels, images, labels, data.outline("cifar10")[1])


def measure(what, net, folder):
    """Peak of this process, in MB, after `what`."""
    warnings.simplefilter("ignore")
    if what == "imports":
        return peak_mb()
    name = "cifar10-validation" if what == "validation" else "cifar10"
    whole = drawn() if what == "step" else data.load(name, folder, allow_unverified=True)
    if what != "loading":
        recipe = recipes.find(net)
        rng = np.random.default_rng(0)
        built = recipe.build(whole, rng)
        train.fit(built, few(whole), recipe.optimizer_of(built, whole), 1, rng, batch=BATCH,
                  augment=what == "augmented")
    return peak_mb()


def in_a_process(what, options):
    out = subprocess.run([sys.executable, __file__, "--data", str(options.data), "--net", options.net, "--what", what],
                         stdout=subprocess.PIPE, text=True, check=True)
    return float(out.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--net", default="conv2")
    parser.add_argument("--what", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.what:
        return print(measure(options.what, options.net, options.data))
    size = 60_000 * 3073 / 1e6
    peaks = {what: in_a_process(what, options)
             for what in ("imports", "step", "loading", "training", "augmented", "validation")}
    held = {what: (peaks[what] - peaks["imports" if what == "loading" else "step"]) / size
            for what in ("loading", "training", "augmented", "validation")}
    for what, peak in peaks.items():
        print(f"{what:10} {peak:7.0f} MB" + (f"   {held[what]:.2f} times the data set's {size:.0f} MB beside "
              f"{'the imports' if what == 'loading' else 'a step'}" if what in held else ""))
    if options.json:
        options.json.write_text(json.dumps({"net": options.net, "data_mb": size, "peaks_mb": peaks, "held": held},
                                           indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
