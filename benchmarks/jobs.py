"""How long a sweep of four runs takes with one job after the other on all cores, and with a job a core; in turn.

    python benchmarks/jobs.py [--epochs 3] [--rounds 3] [--json benchmarks/records/jobs.json]     # MINIMASK_DATA is set
    python benchmarks/jobs.py --recipe digits                                                     # needs no MNIST
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minimask import train
from minimask.fast.threads import cores


def seconds(recipe: str, jobs: int, epochs: int) -> float:
    """Wall clock of the whole command, with the start of its processes and the reading of the data."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = ["sweep", recipe, "--seeds", "4", "--jobs", str(jobs), "--epochs", str(epochs), "--quiet",
                   "--out", f"{folder}/sweep"]
        subprocess.run([sys.executable, "-m", "minimask", *command], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="fcn", help="default: fcn, on MNIST")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times: dict[int, list[float]] = {1: [], max(2, cores()): []}
    for _ in range(options.rounds):
        for jobs, found in times.items():
            found.append(seconds(options.recipe, jobs, options.epochs))
            print(f"--jobs {jobs}: {found[-1]:.1f} s")
    one, many = (statistics.median(found) for found in times.values())
    print(f"{max(times)} jobs take {many / one:.2f} of the time of one after the other")
    if options.json:
        record = {"environment": train.environment(), "recipe": options.recipe, "runs": 4, "epochs": options.epochs,
                  "seconds": {str(jobs): found for jobs, found in times.items()}, "ratio": many / one}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
