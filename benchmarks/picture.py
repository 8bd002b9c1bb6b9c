"""The README's picture, docs/mask.svg: a trained mask over the image plane, and accuracy against weights left.

    python benchmarks/picture.py            # print it
    python benchmarks/picture.py --write    # and put it into docs/

The net is `fcn`, seed 0, of the zoo, and the course is the record in benchmarks/records. It is
written without matplotlib, so that the same numbers give the same bytes and a test can hold the file to them.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

import numpy as np

from minimask import zoo

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs/mask.svg"
#: Sizes in units of the picture, 800 wide: in a window of 400 pixels its letters are 10 pixels high.
CELL, TOP, PLANES, CHART = 8, 42, (4, 256), (584, 42, 208, 224)
#: What a shade stands for: at least so many weights left at a pixel.
SHADES = (1, 7, 14, 21, 28)
LIGHT = {"card": "#ffffff", "text": "#1f2328", "faint": "#d8dce1", "plane": "#f2f2ee", "kept": "#08457e",
         "inverted": "#f28e2b", "ink": "#08457e"}
DARK = {"card": "#0d1117", "text": "#e6edf3", "faint": "#3d444d", "plane": "#21262d", "kept": "#9ecbff",
        "inverted": "#e07b12", "ink": "#9ecbff"}


def cells(where, corner):
    """A path of squares: True in (28, 28) is a cell; neighbours in a row are one rectangle."""
    steps = []
    for row, line in enumerate(where):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        for begin, end in edges.reshape(-1, 2):
            steps.append(f"M{corner[0] + CELL * begin} {corner[1] + CELL * row}h{CELL * (end - begin)}v{CELL}"
                         f"h{-CELL * (end - begin)}z")
    return "".join(steps)


def text(x, y, words, anchor="start", kind=""):
    """Words at a place; `anchor` says which end of them is there, `kind` is a class of the style."""
    more = (f' text-anchor="{anchor}"' if anchor != "start" else "") + (f' class="{kind}"' if kind else "")
    return f'<text x="{x:g}" y="{y:g}"{more}>{words}</text>'


def plane(x, title, legend):
    """An empty image plane with its title above and its legend, (class, opacity, words), below."""
    size = 28 * CELL
    parts = [text(x, 28, title), f'<rect class="plane" x="{x}" y="{TOP}" width="{size}" height="{size}"/>']
    for kind, opacity, words in legend:
        parts.append(f'<rect class="{kind}" x="{x}" y="{TOP + size + 16}" width="15" height="15" '
                     f'fill-opacity="{opacity:g}"/>')
        if words:
            parts.append(text(x + 19, TOP + size + 30, words, kind="key"))
        x += 33 + 10 * len(words) if words else 17
    return parts


def all_units(mask):
    """How many of a pixel's weights, one to each unit, are left: five shades."""
    left = np.abs(mask).sum(axis=1).reshape(28, 28)
    opacity = [0.2 + 0.8 * i / (len(SHADES) - 1) for i in range(len(SHADES))]
    legend = [("ink", each, "") for each in opacity]
    parts = plane(PLANES[0], "weights left at a pixel", legend)
    parts.append(text(PLANES[0] + 17 * len(SHADES) + 6, TOP + 28 * CELL + 30,
                      f"1 to {left.max()} of {mask.shape[1]}", kind="key"))
    for low, high, each in zip(SHADES, [*SHADES[1:], left.max() + 1], opacity):
        shape = cells((left >= low) & (left < high), (PLANES[0], TOP))
        parts.append(f'<path class="ink" fill-opacity="{each:g}" d="{shape}"/>')
    return parts


def one_unit(mask):
    """The unit with the most weights left: kept, hidden or inverted, pixel by pixel."""
    unit = mask[:, np.argmax(np.abs(mask).sum(axis=0))].reshape(28, 28)
    parts = plane(PLANES[1], "the mask of one unit", [("kept", 1, "kept"), ("inverted", 1, "inverted"),
                                                     ("plane", 1, "hidden")])
    for kind, sign in (("kept", 1), ("inverted", -1)):
        parts.append(f'<path class="{kind}" d="{cells(unit == sign, (PLANES[1], TOP))}"/>')
    return parts


def course(epochs, dense):
    """Test accuracy after every epoch against the weights left then, 100 % to 2 % on a logarithmic axis."""
    x, y, width, height = CHART

    def across(share):
        return x + width * math.log(1 / share) / math.log(50)

    def up(accuracy):
        return y + height * (0.985 - accuracy) / 0.05

    parts = [text(x - 62, 28, "accuracy, weights left")]
    for accuracy in (0.94, 0.95, 0.96, 0.97, 0.98):
        parts += [f'<path class="grid" d="M{x} {up(accuracy):.1f}h{width}"/>',
                  text(x - 6, up(accuracy) + 7, f"{accuracy:.0%}", "end")]
    for share in (1, 0.3, 0.1, 0.03):
        parts += [f'<path class="grid" d="M{across(share):.1f} {y}v{height}"/>',
                  text(across(share), y + height + 30, f"{share:.0%}", "middle")]
    points = [(across(entry["weights_left"]), up(entry["test_accuracy"])) for entry in epochs]
    parts += [f'<path class="dense" d="M{x} {up(dense):.1f}h{width}"/>',
              text(x + 4, up(dense) - 8, f"dense: {dense:.1%}"),
              f'<path class="line" d="M{"L".join(f"{px:.1f} {py:.1f}" for px, py in points)}"/>',
              *(f'<circle class="ink" cx="{px:.1f}" cy="{py:.1f}" r="3"/>' for px, py in points[:10]),
              f'<circle class="end" cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="7"/>']
    last = epochs[-1]
    parts += [text(x + width, y + height - 94, f"epoch {last['epoch']}:", "end"),
              text(x + width, y + height - 68, f"{last['test_accuracy']:.1%} with", "end"),
              text(x + width, y + height - 42, f"{last['weights_left']:.1%} left", "end"),
              text(points[0][0] + 12, points[0][1] + 7, "epoch 1")]
    return parts


def style():
    def rules(colours):
        return "".join((f".card{{fill:{colours['card']}}}text{{fill:{colours['text']};stroke:{colours['card']}}}",
                        *(f".{name}{{fill:{colours[name]}}}" for name in ("plane", "kept", "inverted", "ink")),
                        f".grid,rect.plane{{stroke:{colours['faint']}}}.dense{{stroke:{colours['inverted']}}}",
                        f".line,.end{{stroke:{colours['ink']}}}.end{{fill:{colours['card']}}}"))
    return ("<style>text{font:22px system-ui,sans-serif}.key{font-size:20px}"
            ".grid,.dense,.line,.end{fill:none;stroke-width:1}text{paint-order:stroke;stroke-width:5;stroke-linejoin:round}rect.plane{stroke-width:1}"
            ".dense{stroke-width:2;stroke-dasharray:6 4}.line,.end{stroke-width:3;stroke-linejoin:round}"
            f"{rules(LIGHT)}@media(prefers-color-scheme:dark){{{rules(DARK)}}}</style>")


def picture():
    """The whole SVG."""
    net, entry = zoo.masked("fcn", seed=0)
    record = json.loads((HERE / f"records/{entry.name}.json").read_text())
    dense = statistics.mean(json.loads((HERE / f"records/fcn-dense-seed{seed}.json").read_text())
                            ["epochs"][-1]["test_accuracy"] for seed in range(5))
    mask = net.masks()["dense1"]  # (784, 300)
    body = [style(), '<rect class="card" width="800" height="312"/>', *all_units(mask), *one_unit(mask),
            *course(record["epochs"], dense)]
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 312" width="800" height="312" role="img">\n'
            "<title>A trained signed supermask, and its course</title>\n" + "\n".join(body) + "\n</svg>\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put it into docs/")
    if parser.parse_args().write:
        PICTURE.write_text(picture(), encoding="utf-8")
    else:
        print(picture(), end="")
