"""Which part of a trained mask carries the information? Accuracies after one part was replaced by chance.

    python benchmarks/shuffles.py RUN... --data DIR --json benchmarks/records/shuffles.json

Every RUN is a folder of a trained supermask, or zoo:NAME for a net that comes with the package. The changes are those
of minimask.anatomy.CHANGES: signs shuffled among the weights that are left, the whole mask shuffled within each layer,
magnitudes or frozen weights drawn anew. All layers are changed at once, nothing is trained again, and each change is
drawn --repeats times for every run.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np

from minimask import anatomy, data, runs, zoo
from minimask.backend import MinimaskError


def measure(folder, folder_of_data, repeats, images=None):
    """One run: what it is, and its accuracies by change."""
    if folder.startswith("zoo:"):
        net, entry = zoo.masked(folder.removeprefix("zoo:"))
        dataset = data.load(entry.dataset, folder_of_data, entry.unverified)
        return {"name": entry.recipe, "seed": entry.seed, "dataset": entry.dataset, "epochs": entry.epochs,
                "weights_left": net.weights_left(), "accuracy": worth(net, dataset, repeats, images)}
    try:
        trained_on = json.loads((Path(folder) / "record.json").read_text())["dataset"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{folder} holds no run ({error}); give folders as `minimask train` leaves them") from error
    dataset = data.load(trained_on, folder_of_data)
    net, record = runs.load(folder, dataset)
    return {"name": record["recipe"]["name"], "seed": record["seed"], "dataset": trained_on,
            "epochs": len(record["epochs"]), "weights_left": net.weights_left(),
            "accuracy": worth(net, dataset, repeats, images)}


def worth(net, dataset, repeats, images):
    """The accuracies by change, on the first so many held-out images."""
    some = replace(dataset, test_images=dataset.test_images[:images], test_labels=dataset.test_labels[:images])
    return anatomy.worth(net, some, np.random.default_rng(0), repeats)


def summary(measured):
    """Per change over all runs: mean, least and most, and how much is left of what is better than guessing."""
    names = list(measured[0]["accuracy"])
    values = {name: [a for run in measured for a in run["accuracy"][name]] for name in names}
    trained = statistics.mean(values["as trained"])
    return {name: {"mean": statistics.mean(v), "least": min(v), "most": max(v),
                   "left": (statistics.mean(v) - 0.1) / (trained - 0.1)} for name, v in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs on data of ten classes, or zoo:NAME")
    parser.add_argument("--data", metavar="DIR", help="the folder that data sets lie in (default: $MINIMASK_DATA)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="draws of each change, a run (default: 5)")
    parser.add_argument("--images", type=int, metavar="N", help="held-out images to measure on (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record there")
    options = parser.parse_args()
    try:
        measured = [measure(folder, options.data, options.repeats, options.images) for folder in options.runs]
    except MinimaskError as error:
        raise SystemExit(str(error)) from error
    result = {"repeats": options.repeats, "images": options.images, "summary": summary(measured), "runs": measured}
    for name, row in result["summary"].items():
        print(f"{name:20} {row['mean']:7.2%} ({row['least']:.2%} to {row['most']:.2%}), "
              f"{row['left']:.0%} of what is better than guessing")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
