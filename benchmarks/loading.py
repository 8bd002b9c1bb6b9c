"""How long a net of the zoo takes to load, beside the same arrays read from an .npz: in turn, in one process.

    python benchmarks/loading.py                 # every net of the zoo
    python benchmarks/loading.py fcn-seed0 --rounds 200 --json FILE
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from minimask import export, zoo


def read(path):
    """All arrays of an .npz."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def seconds(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(name, rounds, folder):
    """Medians in milliseconds, and of the ratios of neighbours; sizes of the files in bytes."""
    arrays = export.dense_weights(zoo.load(name))
    plain, packed = folder / "plain.npz", folder / "packed.npz"
    np.savez(plain, **arrays)
    np.savez_compressed(packed, **arrays)
    ways = {"zoo": lambda: zoo.load(name), "npz": lambda: read(plain), "compressed": lambda: read(packed)}
    times = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            times[way].append(seconds(work))
    row = {"net": name, **{f"{way}_ms": 1e3 * statistics.median(taken) for way, taken in times.items()},
           "ratio": statistics.median(a / b for a, b in zip(times["zoo"], times["npz"])),
           "bytes": zoo.find(name).bytes, "npz_bytes": plain.stat().st_size, "compressed_bytes": packed.stat().st_size}
    print(f"{name:38} {row['zoo_ms']:8.2f} ms  npz {row['npz_ms']:7.2f}  compressed {row['compressed_ms']:7.2f}  "
          f"ratio {row['ratio']:5.2f}  {row['bytes']:7,} of {row['npz_bytes']:11,} bytes")
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="nets of the zoo (default: all)")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, options.rounds, Path(folder)) for name in options.names or zoo.entries()]
    if options.json:
        options.json.write_text(json.dumps({"numpy": np.__version__, "loads": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
