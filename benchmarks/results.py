"""The README's results table, made from the records in benchmarks/records/.

    python benchmarks/results.py            # print it
    python benchmarks/results.py --write    # and put it into README.md between its two markers
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results: made by benchmarks/results.py -->\n", "<!-- end of results -->\n"
#: The paper's row (Koster et al. 2022; FCN on MNIST): test accuracy and weights left, percent.
PAPER = {"fcn": "97.48 / 3.77", "fcn-published-config": "97.48 / 3.77", "fcn-dense": "97.42 / 100"}


def table(folder=HERE / "records"):
    """Markdown: a row per recipe, mean and range over seeds of the last epoch."""
    records = defaultdict(list)
    for path in sorted(folder.glob("fcn*-seed*.json")):
        record = json.loads(path.read_text())
        records[record["recipe"]["name"]].append(record)
    lines = ["| `minimask train` | seeds | epochs | test accuracy, % | weights left, % | paper: both |",
             "|---|---|---|---|---|---|"]
    for name in sorted(records, key=list(PAPER).index):
        ends = [record["epochs"][-1] for record in records[name]]
        seeds = ", ".join(str(record["seed"]) for record in records[name])
        lines.append(f"| `{name}` | {seeds} | {ends[0]['epoch']} | {spread([100 * e['test_accuracy'] for e in ends])} "
                     f"| {spread([100 * e['weights_left'] for e in ends])} | {PAPER[name]} |")
    return "\n".join(lines) + "\n"


def spread(values):
    """Mean, and the range where there is one."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return f"**{statistics.mean(values):.2f}**" + (f" ({low} to {high})" if low != high else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    if parser.parse_args().write:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
    print(table(), end="")
