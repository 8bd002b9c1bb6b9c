"""Writes out/beans.csv, measurements of beans of three kinds. Only to have a table; bring your own."""

from pathlib import Path

import numpy as np

rng = np.random.default_rng(0)
means = {"black": (9.1, 0.00021, 310.0), "kidney": (15.8, 0.00055, 300.0), "navy": (8.6, 0.00019, 270.0)}
lines = ["length in mm,weight in kg,farm,colour,kind"]  # farm says nothing about the kind
for number in range(450):
    kind = list(means)[number % 3]
    length, weight, colour = rng.normal(means[kind], (0.8, 0.00004, 9.0))
    lines.append(f"{length:.2f},{weight:.6f},{rng.integers(1, 9)},{colour:.0f},{kind}")
Path("out").mkdir(exist_ok=True)
Path("out/beans.csv").write_text("\n".join(lines) + "\n")
Path("out/new.csv").write_text("length in mm,weight in kg,farm,colour\n9.1,0.000210,3,311\n15.9,0.000540,7,301\n")
