"""The demo's recipe: which point of a grid it is, chosen on held-out training digits, and what ten seeds of it give.

    python benchmarks/demo.py choose FILE                # three seeds; no test image has a part in it
    python benchmarks/demo.py choose FILE --seeds 6 --only NAME...
    python benchmarks/demo.py seeds FILE                 # digits and digits-dense, ten seeds, on the test images
    python benchmarks/demo.py table FILE...

FILE gets a line of JSON for every run, as soon as it is done; runs that it holds are not done again. The last digits,
and so an image or two, depend on OpenBLAS's kernel: OPENBLAS_CORETYPE=Haswell (or SkylakeX) in front chooses one.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np

from minimask import data, recipes, runs, train

#: tau, epochs in which lr and wd fall to 0.9 -> weight decays.
GRID = {(0.02, 8): (2e-3,), (0.02, 5): (2e-3, 3e-3), (0.01, 15): (3e-3,), (0.01, 8): (3e-3, 4e-3),
        (0.01, 5): (3e-3, 4e-3, 6e-3), (0.01, 3): (4e-3, 6e-3), (0.005, 15): (4e-3, 5e-3), (0.005, 10): (5e-3, 6e-3),
        (0.005, 8): (5e-3, 6e-3, 7e-3), (0.005, 5): (5e-3, 7e-3, 9e-3), (0.005, 4): (1.1e-2,),
        (0.0025, 15): (5e-3, 7e-3), (0.0025, 10): (7e-3, 9e-3), (0.0025, 8): (9e-3,), (0.0025, 5): (1e-2, 1.2e-2),
        (0.0025, 4): (1.2e-2,), (0.001, 10): (9e-3,), (0.001, 5): (1.5e-2,), (0.001, 4): (1.8e-2, 2e-2),
        (0.001, 3): (2.5e-2,), (0.0005, 4): (2.5e-2, 2.8e-2), (0.0005, 3): (3.2e-2,)}
#: The lowest accuracy of so many epochs at the end: what one epoch's luck is worth.
LAST = 20
#: Of the training images, this part is held out; another one for every seed, so that ten seeds see all of them.
PART = 10


def points():
    """The recipes of the grid, by a name that says what they are."""
    found = [replace(recipes.find("digits"), name=f"tau{tau:g}-fall{fall}-wd{wd:g}", about="a point of the grid",
                     wd=wd, source_settings={"tau": tau}, schedule_settings={"epochs": fall})
             for (tau, fall), decays in GRID.items() for wd in decays]
    return {recipe.name: recipe for recipe in [*found, recipes.find("digits-dense")]}


def held_out(seed):
    """The digits without their test images: tenth `seed` of the training images is held out in their place."""
    digits = data.digits()
    out = np.arange(len(digits.train_images)) % PART == seed % PART
    images, labels = digits.train_images, digits.train_labels
    return replace(digits, train_images=images[~out], train_labels=labels[~out], test_images=images[out],
                   test_labels=labels[out])


def lines(paths):
    """What the files hold, a run each."""
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]


def measure(path, wanted, dataset_of):
    """Trains what the file does not hold yet; a line each: name, seed, accuracy, weights left, where."""
    done = {(run["name"], run["seed"]) for run in lines([path])}
    environment = train.environment()
    for recipe, seed in wanted:
        if (recipe.name, seed) not in done:
            _, record = runs.run(recipe, dataset_of(seed), seed)
            last = record["epochs"][-1]
            line = {"name": recipe.name, "seed": seed, "accuracy": last["test_accuracy"], "left": last["weights_left"],
                    "least": min(entry["test_accuracy"] for entry in record["epochs"][-LAST:]),
                    "kernel": environment["blas_kernel"]}
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def groups(found):
    """The runs by recipe and kernel: accuracy, least and left of each, in percent (least: where it was recorded)."""
    named = {}
    for run in sorted(found, key=lambda run: run["seed"]):
        named.setdefault((run["name"], run["kernel"]), []).append(run)
    return {key: {what: [100 * run[what] for run in some if run.get(what) is not None]
                  for what in ("accuracy", "least", "left")} for key, some in named.items()}


def ranked(found):
    """Groups by the rule of the choice: 8 % left at most in every run; highest `least`, then accuracy, fewest left.

    Of seeds 0 to 2, which every point has: the tenths differ. Points of which `least` is not recorded come last.
    """
    def order(each):
        least, accuracy, left = (each[1][what] for what in ("least", "accuracy", "left"))
        ruled_out = not least, max(left) > 8
        least, accuracy, left = (round(statistics.mean(each[:3]), 6) for each in (least or accuracy, accuracy, left))
        return *ruled_out, -least, -accuracy, left

    return dict(sorted(groups(found).items(), key=order))


def spread(values):
    """Mean (least to most); nothing of nothing."""
    return values and f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "table", "seeds"))
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="points of the grid (default: all)")
    options = parser.parse_args()
    if options.what == "choose":
        chosen = [recipe for name, recipe in points().items() if name in (options.only or points())]
        measure(options.files[0], [(recipe, seed) for seed in range(options.seeds or 3) for recipe in chosen], held_out)
    elif options.what == "seeds":
        both = [recipes.find(name) for name in ("digits", "digits-dense")]
        digits = data.digits()
        measure(options.files[0], [(recipe, seed) for seed in range(options.seeds or 10) for recipe in both],
                lambda seed: digits)
    for (name, kernel), of in ranked(lines(options.files)).items():
        print(f"{name:24} {kernel!s:10} {len(of['accuracy']):2} runs", *(
            f"{what} {spread(values)}" for what, values in of.items() if values), sep="   ")


if __name__ == "__main__":
    main()
