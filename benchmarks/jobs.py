"""How long a sweep takes with one job after the other on all cores, and with a job a core; in turn.

    python benchmarks/jobs.py [--epochs 3] [--rounds 3] [--json benchmarks/records/jobs.json]     # MINIMASK_DATA is set
    python benchmarks/jobs.py --recipe conv2-fast --runs 2 --epochs 1                             # CIFAR-10, minutes
    python benchmarks/jobs.py --recipe digits                                                     # needs no data

Beside the seconds it tells those of the processor, user and system, of all processes of the sweep: with one thread each
(--threads 1), what two jobs cost beside one after the other.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minimask import train
from minimask.fast.threads import cores


def seconds(options: argparse.Namespace, jobs: int) -> tuple[float, float]:
    """Wall clock and processor time of the whole command, start of processes and reading of data included."""
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), processor()
        command = ["sweep", options.recipe, "--seeds", str(options.runs), "--jobs", str(jobs), "--epochs",
                   str(options.epochs), "--quiet", "--allow-unverified", "--out", f"{folder}/sweep",
                   *(["--threads", str(options.threads)] if options.threads else [])]
        subprocess.run([sys.executable, "-m", "minimask", *command], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start, processor() - before


def processor() -> float:
    """Seconds of the processor, user and system, that processes begun here have taken and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="fcn", help="default: fcn, on MNIST")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--threads", type=int, help="of every run; default: all cores one job, one each several")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times: dict[int, list[tuple[float, float]]] = {1: [], max(2, cores()): []}
    for _ in range(options.rounds):
        for jobs, found in times.items():
            found.append(seconds(options, jobs))
            print(f"--jobs {jobs}: {found[-1][0]:.1f} s, {found[-1][1]:.1f} s of the processor", flush=True)
    (one, worked), (many, worked_by_many) = ([statistics.median(each) for each in zip(*found)]
                                             for found in times.values())
    print(f"{max(times)} jobs take {many / one:.2f} of the time of one after the other, and "
          f"{worked_by_many / worked:.2f} of the processor's")
    if options.json:
        record = {"environment": train.environment(), "recipe": options.recipe, "runs": options.runs,
                  "epochs": options.epochs, "threads": options.threads,
                  "seconds": {str(jobs): [wall for wall, _ in found] for jobs, found in times.items()},
                  "processor": {str(jobs): [used for _, used in found] for jobs, found in times.items()},
                  "ratio": many / one, "processor_ratio": worked_by_many / worked}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
