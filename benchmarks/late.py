"""Training steps as a run ends beside steps as it began: what leaving out the units that are dead for ever brings.

    python benchmarks/late.py                                   # the recipe `digits`, trained here first (seconds)
    python benchmarks/late.py RUN --data DIR --allow-unverified # a run that `minimask train` has kept
    python benchmarks/late.py --rounds 2 --steps 5              # fewer, to see that it works

The sides train in one process, in turn, without evaluation: one the recipe from its first step on, one from where the
run's checkpoint stands, without the units that are dead there, and one from there with no unit left out.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from minimask import checkpoint, data, recipes, runs, train
from minimask.fast.memory import kept_memory
from minimask.fast.threads import blas_threads
from minimask.shrink import Shrinker


def begun(record, dataset, path=None, shrink=True):
    """The training of a record's recipe: from its first step, or from its checkpoint with or without what is dead."""
    recipe = recipes.from_dict(record["recipe"])
    dataset = recipe.prepared(dataset)
    net, rng = runs.drawn(recipe, dataset, record["seed"])
    training = train.Training(net, dataset, recipe.optimizer_of(net, dataset), rng, recipe.batch,
                              train.new_record(recipe.as_dict(), record["seed"], dataset.name, net), recipe.augment,
                              recipe.judge())
    if path is not None:
        training.record |= {key: record[key] for key in ("shrink", "unverified") if key in record}
        checkpoint.restore(training, path, record["recipe"]["epochs"])
        if shrink:
            Shrinker().begin(training)
    return training


def milliseconds(training, steps):
    """Median time of a step, of so many; a new epoch begins where one has ended, without evaluation."""
    times = []
    for _ in range(steps):
        if training.step == training.steps:
            training.order, training.step = training.order[:0], 0
        start = time.perf_counter()
        training.train_step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


@kept_memory()
def compare(folder, dataset, rounds, steps):
    """The row: medians over the rounds, ratios within one; and per layer how many units were out."""
    record, path = runs.read_record(folder), folder / "checkpoint.npz"
    sides = [begun(record, dataset), begun(record, dataset, path), begun(record, dataset, path, shrink=False)]
    found = []
    for _ in range(rounds + 1):
        found.append([milliseconds(side, steps) for side in sides])
    found = found[1:]  # the first one warms the caches
    first, last, whole = (statistics.median(column) for column in zip(*found))
    return {"recipe": record["recipe"]["name"], "epochs": len(record["epochs"]), "first_ms": first, "last_ms": last,
            "whole_ms": whole, "last_to_first": statistics.median(row[1] / row[0] for row in found),
            "last_to_whole": statistics.median(row[1] / row[2] for row in found),
            "out": {name: len(units) for name, units in sides[1].left_out.get("units", {}).items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="the folder of a run (default: digits, trained here)")
    parser.add_argument("--data", help="the folder of its data (default: MINIMASK_DATA)")
    parser.add_argument("--allow-unverified", action="store_true", help="take files that are not the official ones")
    parser.add_argument("--rounds", type=int, default=6, help="(default: 6)")
    parser.add_argument("--steps", type=int, default=10, help="of each side in a round (default: 10)")
    parser.add_argument("--threads", type=int, help="of the matrix products (default: the cores)")
    parser.add_argument("--json", type=Path, help="write the row here, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, blas_threads(options.threads) as threads:
        folder = options.run or Path(temporary, "digits")
        if options.run is None:
            runs.run(recipes.find("digits"), data.load("digits"), 0, folder)
        dataset = data.load(runs.read_record(folder)["dataset"], options.data, options.allow_unverified)
        row = {"threads": threads, "environment": train.environment(), **compare(folder, dataset, options.rounds,
                                                                                 options.steps)}
    out = ", ".join(f"{count} of {name}" for name, count in row["out"].items()) or "none"
    print(f"{row['recipe']}, {threads} threads: a step takes {row['first_ms']:.2f} ms in the first epoch, "
          f"{row['last_ms']:.2f} after {row['epochs']} (ratio {row['last_to_first']:.2f}; units out: {out}), "
          f"{row['whole_ms']:.2f} with none left out ({row['last_to_whole']:.2f})")
    if options.json:
        options.json.write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
