"""Does a unit that was called dead for ever come back? Whole trainings of all units, looked at after every epoch.

    python benchmarks/dead.py FILE                       # fcn on MNIST, seeds 0 to 4; a small conv net on the digits
    python benchmarks/dead.py FILE --nets conv           # one of both
    python benchmarks/dead.py FILE --seeds 2 --epochs 20 # shorter

Nothing is left out in these runs: what :func:`minimask.shrink.dead` calls dead for ever goes on being trained, and
after every epoch it is asked whether any mask next to it has changed, or whether it is no longer called dead. FILE gets
a line of JSON for every run, as soon as it is done; runs that it holds are not done again. Without MNIST the images of
fcn are drawn.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from runs import mnist_or_drawn

from minimask import data, recipes, shrink, train

#: The conv net: Conv2 on the digits of 8 x 8 pixels, with rates that let channels die within its epochs.
CONV = replace(recipes.find("conv2"), name="conv2-digits", dataset="digits", epochs=40, lr=0.05, wd=0.02,
               source_settings={"tau": 0.005}, schedule_settings={"epochs": 3.0})
NETS = {"fcn": recipes.find("fcn"), "conv": CONV}


class Watch:
    """Told after every epoch of a run of `net`: counts units called dead, and what of them ever moved."""

    def __init__(self, net, optimizer):
        self.net, self.optimizer = net, optimizer
        self.called, self.alive_again, self.masks_again, self.course = {}, 0, 0, []

    def __call__(self, record):
        now, masks = shrink.dead(self.net, self.optimizer), self.net.masks()
        for link in shrink.links(self.net, self.optimizer):
            units = self.called.get(link.made, np.zeros(masks[link.made].shape[-1], bool))
            inputs = units[np.arange(masks[link.read].shape[-2]) % len(units)]
            self.masks_again += int(np.count_nonzero(masks[link.made][..., units]))
            self.masks_again += int(np.count_nonzero(masks[link.read][..., inputs, :]))
            self.alive_again += int(np.count_nonzero(units & ~now[link.made]))
            self.called[link.made] = units | now[link.made]
        self.course.append({name: int(units.sum()) for name, units in now.items()})


def watched(recipe, dataset, seed):
    """A whole training, all units in it, as a line for FILE."""
    rng = np.random.default_rng(seed)
    net = recipe.build(dataset, rng)
    watch = Watch(net, recipe.optimizer_of(net, dataset))
    record = train.fit(net, dataset, watch.optimizer, recipe.epochs, rng, recipe.batch, on_epoch=watch)
    last = record["epochs"][-1]
    return {"net": recipe.name, "dataset": dataset.name, "seed": seed, "epochs": recipe.epochs, "dead": watch.course,
            "masks_that_came_back": watch.masks_again, "units_called_alive_again": watch.alive_again,
            "accuracy": last["test_accuracy"], "left": last["weights_left"],
            "kernel": train.environment()["blas_kernel"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--nets", default=",".join(NETS), help=f"of {', '.join(NETS)} (default: both)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... of each (default: 5)")
    parser.add_argument("--epochs", type=int, help="of each run (default: the recipe's)")
    options = parser.parse_args()
    lines = options.file.read_text().splitlines() if options.file.exists() else []
    done = {(run["net"], run["dataset"], run["seed"], run["epochs"]) for run in map(json.loads, lines)}
    returned = sum(run["masks_that_came_back"] + run["units_called_alive_again"] for run in map(json.loads, lines))
    for kind in options.nets.split(","):
        recipe = replace(NETS[kind], **({"epochs": options.epochs} if options.epochs else {}))
        dataset = mnist_or_drawn() if kind == "fcn" else data.digits()
        for seed in range(options.seeds):
            if (recipe.name, dataset.name, seed, recipe.epochs) in done:
                continue
            run = watched(recipe, dataset, seed)
            returned += run["masks_that_came_back"] + run["units_called_alive_again"]
            print(f"{recipe.name} on {dataset.name}, seed {seed}, {recipe.epochs} epochs: dead for ever at the end "
                  f"{run['dead'][-1]}; {run['masks_that_came_back']} masks and {run['units_called_alive_again']} units "
                  "came back", flush=True)
            with options.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
    if returned:
        raise SystemExit(f"{returned} came back: the bound in minimask/shrink.py is wrong, or what it is applied to")


if __name__ == "__main__":
    main()
