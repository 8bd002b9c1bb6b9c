"""How long a folder of small PNGs takes to load, beside decoding the same files with Pillow alone: in turn.

    python benchmarks/pictures.py                 # 60,000 grey pictures of 28 x 28 pixels, as large as MNIST
    python benchmarks/pictures.py --count 2000 --rounds 2 --json FILE

Loading is listing, decoding, splitting and checking; `kept` takes what an earlier loading kept beside the folder.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from minimask import data
from minimask.data.folder import CACHE
from minimask.meter import Meter


def make(folder, count, side):
    """`count` pictures in ten classes: the bundled digits, enlarged, with a little noise as handwriting has."""
    digits, rng = data.digits(), np.random.default_rng(0)
    for number in range(count):
        at = number % len(digits.train_images)
        large = Image.fromarray((digits.train_images[at, ..., 0] * 15).astype(np.uint8)).resize((side, side))
        pixels = np.array(large)
        pixels[pixels > 40] += rng.integers(0, 15, int((pixels > 40).sum()), np.uint8)
        below = folder / str(digits.train_labels[at])
        below.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(below / f"{number}.png")


def decode(paths):
    """What anybody would write."""
    for path in paths:
        with Image.open(path) as picture:
            np.asarray(picture)


def seconds(work, *arguments, **options):
    begun = time.perf_counter()
    work(*arguments, **options)
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        make(folder, options.count, options.side)
        paths = sorted(map(str, folder.glob("*/*.png")))
        times = {"decoded": [], "loaded": [], "kept": []}
        for _ in range(options.rounds):
            times["decoded"].append(seconds(decode, paths))
            times["loaded"].append(seconds(data.from_folder, folder, meter=Meter(sys.stderr, unit="pictures")))
            data.from_folder(folder, cache=True)
            times["kept"].append(seconds(data.from_folder, folder))
            Path(f"{folder}{CACHE}").unlink()
    ratios = [loaded / decoded for loaded, decoded in zip(times["loaded"], times["decoded"])]
    row = {"pictures": options.count, "side": options.side, "numpy": np.__version__, "pillow": PIL.__version__,
           **{f"{way}_seconds": statistics.median(taken) for way, taken in times.items()},
           "ratio": statistics.median(ratios)}
    print(f"{options.count:,} PNGs of {options.side} x {options.side}: decoded {row['decoded_seconds']:.2f} s, loaded "
          f"{row['loaded_seconds']:.2f} s (ratio {row['ratio']:.2f}), kept {row['kept_seconds']:.2f} s")
    if options.json:
        options.json.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
