"""Puts trained nets into the zoo that comes with the package: their .mmk files, and what their records say.

    python benchmarks/zoo.py FOLDER NAME...      # FOLDER/NAME.mmk and FOLDER/NAME.json, NAME is RECIPE-seedS
    python benchmarks/zoo.py runs/sweep          # every run of a sweep that has ended: exported, with its record.json
    python benchmarks/zoo.py --again             # the nets that are there, written anew in the codec of today
    python benchmarks/zoo.py --without NAME...   # takes nets out, to make room for better ones

A net that the zoo has already is replaced. At most 400,000 bytes in all.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from minimask import UsageError, export, zoo
from minimask.zoo import nets

MOST = 400_000


def entry(record, content, path):
    """The row of the index for a record and the bytes of the file at `path`, once both agree."""
    end, exported = record["epochs"][-1], export.load(path)
    counts = [(layer["kept"], layer["hidden"], layer["inverted"]) for layer in end["layers"]]
    left = [stored.plus + stored.minus for stored in exported.stored.values()]
    if record.get("init_seed", record["seed"]) != record["seed"]:
        raise SystemExit(f"zoo.py: {path} was drawn from an --init-seed of its own; the zoo knows one seed of a run")
    if left != [kept + inverted for kept, _, inverted in counts]:
        raise SystemExit(f"zoo.py: {path} and its record do not have the same weights left: {left}, {counts}")
    return zoo.Entry(record["recipe"]["name"], record["seed"], record["recipe"], record["dataset"], end["epoch"],
                     end["test_accuracy"],
                     end["weights_left"], bool(record.get("unverified")), tuple(counts), len(content),
                     hashlib.sha256(content).hexdigest())


def pairs(folder, names, work):
    """(record, .mmk file) of what is to go in."""
    if names:
        for name in names:
            yield json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), folder / f"{name}.mmk"
        return
    for path in sorted(folder.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if len(record["epochs"]) == record["recipe"]["epochs"]:
            file = work / f"{path.parent.name}.mmk"
            subprocess.run([sys.executable, "-m", "minimask", "export", str(path.parent), "-o", str(file)], check=True)
            yield record, file


def again(net):
    """Writes a net of the zoo anew, the same to the last bit: what becomes other in its row of the index."""
    old = export.load(net.path)
    content = export.encoded(old.net, old.classes, old.about)
    new = export.read(content, net.path)
    for name, weight in export.dense_weights(old.net).items():
        if export.dense_weights(new.net)[name].tobytes() != weight.tobytes():
            raise SystemExit(f"zoo.py: {name} of {net.name} does not come back as it is")
    net.path.write_bytes(content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write(index, known):
    """The index, by its rows."""
    rows = [known[name] for name in sorted(known, key=lambda name: (known[name]["dataset"], name))]
    total = sum(row["bytes"] for row in rows)
    if total > MOST:
        raise SystemExit(f"zoo.py: {total:,} bytes are more than {MOST:,}")
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    index.write_text(f'{{"nets": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(rows)} nets, {total:,} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--without", nargs="+", metavar="NAME")
    options = parser.parse_args()
    if (options.folder is not None) + options.again + bool(options.without) != 1:
        parser.error("a folder with nets, --again, or --without NAME...")
    index = nets.HERE / nets.INDEX
    known = {row["recipe"] + f"-seed{row['seed']}": row
             for row in (json.loads(index.read_text(encoding="utf-8"))["nets"] if index.exists() else [])}
    if options.again:
        for each in zoo.entries().values():
            known[each.name] |= again(each)
        return write(index, known)
    if options.without:
        try:
            out = [zoo.find(name) for name in options.without]
        except UsageError as error:
            parser.error(str(error))
        for each in out:
            del known[each.name]
        write(index, known)
        for each in out:
            each.path.unlink()
        return None
    with tempfile.TemporaryDirectory() as work:
        for record, path in pairs(options.folder, options.names, Path(work)):
            content = path.read_bytes()
            row = entry(record, content, path)
            known[row.name] = asdict(row)
            row.path.write_bytes(content)
    write(index, known)


if __name__ == "__main__":
    main()
