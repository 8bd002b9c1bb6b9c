"""Draws pictures/shapes: a folder for each class, PNGs of 16 x 16 pixels. Only to have some; bring your own."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

rng = np.random.default_rng(0)
for kind in ("circle", "cross", "square"):
    folder = Path("out/shapes", kind)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(120):
        image = Image.new("L", (16, 16), int(rng.integers(0, 60)))
        draw, ink, radius = ImageDraw.Draw(image), int(rng.integers(160, 256)), int(rng.integers(3, 6))
        x, y = (int(n) for n in rng.integers(radius + 1, 15 - radius, 2))
        box = (x - radius, y - radius, x + radius, y + radius)
        if kind == "circle":
            draw.ellipse(box, outline=ink)
        elif kind == "square":
            draw.rectangle(box, outline=ink)
        else:
            draw.line(box, fill=ink)
            draw.line((x - radius, y + radius, x + radius, y - radius), fill=ink)
        noisy = np.asarray(image) + 30 * rng.standard_normal((16, 16))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")
