"""The tables of README.md, docs/, benchmarks/ and the syllabus, from benchmarks/records/, the package and the lessons.

    python benchmarks/readme.py            # print them
    python benchmarks/readme.py --write    # and put each into its file between its two markers
"""

import argparse
import importlib.util
import json
import re
import statistics
from pathlib import Path

from minimask import export, init, zoo
from minimask.runs import records, report

HERE = Path(__file__).parent
README, SYLLABUS, STUDIES = HERE.parent / "README.md", HERE.parent / "tutorials/README.md", HERE / "README.md"
DOCS = HERE.parent / "docs"
#: The reading path, and what a reader learns there.
PATH = {"backend.py": "one code for every array library; random numbers on the host",
        "engine.py": "Tensor, what an op is, how gradients walk back",
        "ops.py": "every operation: value and gradient, side by side",
        "conv.py": "convolution as a matrix product; max-pooling",
        "init.py": "Xavier, He, ELU, ELUS: how large random weights must be",
        "mask.py": "keep, hide, invert: the method itself",
        "nn.py": "layers and nets that ask a mask for their weight",
        "models.py": "the paper's nets as tables",
        "optim.py": "Nesterov momentum with decoupled decay; schedules",
        "loop.py": "one training step, one epoch, until it is enough"}


specification = importlib.util.spec_from_file_location("demo", HERE / "demo.py")
demos = importlib.util.module_from_spec(specification)
specification.loader.exec_module(demos)


def runs(places):
    """The runs in files or folders of records; one that does not count stops everything."""
    reading = records.read(places)
    if left_out := report.left_out(reading):
        raise SystemExit("; ".join(left_out))
    return reading.runs


def results():
    """A row per recipe, as `minimask report` makes it; studies in folders below are not in it."""
    return report.results_table(runs(sorted((HERE / "records").glob("*.json"))))


#: The paper's rows for CIFAR-10, Koster et al. 2022: signed supermask, weights left, dense baseline; percent.
PAPER_CIFAR = {"conv2": (68.37, 0.60, 68.79), "conv4": (77.40, 2.91, 74.50), "conv6": (79.17, 2.36, 75.91),
               "conv8": (80.91, 1.17, 72.24)}


def rule(recipe):
    """Its threshold rule and what both rates do, as the cells of a table."""
    settings = recipe.source_settings
    masked = recipe.source != "trained"
    threshold = " ".join(f"{key} {value:g}" for key, value in settings.items()) if masked else "dense"
    fall = "cosine, to 0" if recipe.schedule == "cosine" else f"{recipe.schedule_settings.get('epochs', 10):g}"
    return f"{threshold} | {recipe.wd:g} | {fall}"


def cifar10():
    """A row per recipe and net, beside the paper's row."""
    lines = ["| net | threshold | wd | both fall to 0.9 in, epochs | epochs | seeds | test accuracy†, % "
             "| weights left†, % | paper, % | paper, left |", "|---|---|---|---|---|---|---|---|---|---|"]
    for group in records.groups(runs(sorted((HERE / "records/cifar10").glob("*.json")))):
        recipe, (accuracy, left) = group.recipe, ends(group)
        masked, share, dense = PAPER_CIFAR[recipe.model]
        seeds = group.ends("test_accuracy")
        spread = f" ({100 * min(seeds):.2f} to {100 * max(seeds):.2f})" if len(seeds) > 1 else ""
        paper = f"{dense:.2f} | 100" if recipe.source == "trained" else f"{masked:.2f} | {share:.2f}"
        lines.append(f"| {recipe.model} | {rule(recipe)} | {recipe.epochs} | {len(seeds)} "
                     f"| {100 * accuracy:.2f}{spread} | {100 * left:.2f} | {paper} |")
    return "\n".join(lines) + "\n"


def cifar10_grid():
    """The points on held-out training images, densest first, and what is left in each layer."""
    lines = ["| threshold | wd | both fall to 0.9 in, epochs | held-out accuracy†, % | weights left†, % "
             "| left in conv1, conv2, dense1, dense2, dense3, % |", "|---|---|---|---|---|---|"]
    for group in sorted(records.groups(runs([HERE / "records/cifar10/grid"])), key=lambda group: -ends(group)[1]):
        accuracy, left = ends(group)
        layers = ", ".join(f"{100 * (1 - layer['hidden'] / layer['weights']):.3g}"
                           for layer in group.runs[0].epochs[-1]["layers"])
        lines.append(f"| {rule(group.recipe)} | {100 * accuracy:.2f} | {100 * left:.2f} | {layers} |")
    return "\n".join(lines) + "\n"


def cifar10_unfinished():
    """Runs that the time cut short: where they stood."""
    lines = ["| run | epoch | test accuracy†, % | weights left†, % |", "|---|---|---|---|"]
    for run in records.read([HERE / "records/cifar10/unfinished"]).unfinished:
        entry = run.epochs[-1]
        lines.append(f"| `{run.recipe.name}` | {entry['epoch']} of {run.recipe.epochs} "
                     f"| {100 * entry['test_accuracy']:.2f} | {100 * entry['weights_left']:.2f} |")
    return "\n".join(lines) + "\n"


def gpu_steps():
    """Steps beside PyTorch eager on the same GPU."""
    record = json.loads((HERE / "records/gpu/steps-cupy.json").read_text())
    lines = [f"| {record['device']} | minimask | PyTorch {record['torch']} eager | ratio | share of GEMM peak |",
             "|---|---|---|---|---|"]
    for step in record["steps"]:
        lines.append(f"| {step['net']} step | {step['ours_ms']:.2f} ms "
                     f"| {step['torch_ms']:.2f} ms ({step['torch_layout']}) "
                     f"| **{step['ratio']:.2f}** | {step['gemm_share']:.0%} |")
    return "\n".join(lines) + "\n"


def ends(group):
    """Test accuracy and weights left at the end, means over a group's seeds."""
    return [statistics.mean(group.ends(name)) for name in ("test_accuracy", "weights_left")]


def initialisations():
    """Test accuracy / weights left: a row per scheme of the frozen weights, a column per scheme of the scores."""
    cells = {group.recipe.name: "{:.2%} / {:.2%}".format(*ends(group))
             for group in records.groups(runs([HERE / "records/init"]))}
    lines = [f"| weights | {' | '.join(f'scores {scheme}' for scheme in init.SCHEMES)} |",
             "|---" * (1 + len(init.SCHEMES)) + "|"]
    for frozen in init.SCHEMES:
        lines.append(f"| {frozen} | {' | '.join(cells[f'fcn-{frozen}-{scores}'] for scores in init.SCHEMES)} |")
    return "\n".join(lines) + "\n"


def frontier():
    """Accuracy on held-out training images against weights left, both of each seed: a row per point, densest first."""
    lines = ["| tau | wd | lr | both fall to 0.9 in | accuracy, % | weights left, % |", "|---|---|---|---|---|---|"]
    for group in sorted(records.groups(runs([HERE / "records/frontier"])), key=lambda group: -ends(group)[1]):
        recipe = group.recipe
        both = (f"{100 * value:.2f} ({', '.join(f'{100 * each:.2f}' for each in group.ends(name))})"
                for name, value in zip(("test_accuracy", "weights_left"), ends(group)))
        lines.append(f"| {recipe.source_settings['tau']:g} | {recipe.wd:g} | {recipe.lr:g} "
                     f"| {recipe.schedule_settings.get('epochs', 10)} epochs | {' | '.join(both)} |")
    return "\n".join(lines) + "\n"


def speed():
    """Steps and the epoch beside PyTorch, on two threads and, for the FCN, on one."""
    lines = ["| | threads | minimask | PyTorch eager | ratio | share of GEMM peak |", "|---|---|---|---|---|---|"]
    for name in ("steps", "steps-1-thread"):
        record = json.loads((HERE / "records" / f"{name}.json").read_text())
        for step in record["steps"]:
            digits = 2 if step["net"] == "fcn" else 0
            lines.append(f"| {step['net']} step | {record['threads']} | {step['ours_ms']:.{digits}f} ms "
                         f"| {step['torch_ms']:.{digits}f} ms | **{step['ratio']:.2f}** | {step['gemm_share']:.0%} |")
        for epoch in record["epochs"]:
            lines.append(f"| fcn epoch | {record['threads']} | {epoch['ours_s']:.2f} s | {epoch['torch_s']:.2f} s "
                         f"| **{epoch['ratio']:.2f}** | |")
    return "\n".join(lines) + "\n"


def compiled():
    """Steps beside PyTorch eager, torch.compile and JAX, on another machine than the table of all nets."""
    record = json.loads((HERE / "records/speed/steps-compiled.json").read_text())
    lines = ["| | minimask | PyTorch eager | ours / it | torch.compile | ours / it | JAX jit | ours / it |",
             "|---" * 8 + "|"]
    for step in record["steps"]:
        digits = 2 if step["net"] == "fcn" else 0
        cells = [f"{step[f'{side}_ms']:.{digits}f} ms | **{step[key]:.2f}**" for side, key in (
            ("torch", "ratio"), ("compile", "compile_ratio"), ("jax", "jax_ratio"))]
        lines.append(f"| {step['net']} step | {step['ours_ms']:.{digits}f} ms | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def whole_runs():
    """A whole training of recipe fcn, ours to each of the others."""
    record = json.loads((HERE / "records/speed/runs.json").read_text())
    lines = ["| a whole run, on 2 threads | seconds | ours / it | seconds of compiling | test accuracy, % |",
             "|---" * 5 + "|"]
    for name, words in (("shrink", "minimask"), ("whole", "minimask, `--no-shrink`"), ("eager", "PyTorch eager"),
                        ("compile", "torch.compile"), ("jax", "JAX jit")):
        rounds = [each for each in record["rounds"] if name in each]
        if rounds:
            middle, runs = statistics.median, [each[name] for each in rounds]
            ratio = middle(sum(each["shrink"]["seconds"]) / sum(each[name]["seconds"]) for each in rounds)
            lines.append(f"| {words} | {middle(sum(run['seconds']) for run in runs):.1f} | **{ratio:.2f}** "
                         f"| {middle(run['compile_s'] for run in runs):.1f} "
                         f"| {100 * middle(run['accuracy'] for run in runs):.2f} |")
    return "\n".join(lines) + "\n"


def demo():
    """Recipes digits and digits-dense: ten seeds under each kernel."""
    rows = ["| recipe | OpenBLAS kernel | test accuracy, % | weights left, % | runs |", "|---|---|---|---|---|"]
    for (name, kernel), of in sorted(demos.groups(demos.lines([HERE / "records/demo-seeds.jsonl"])).items()):
        rows.append(f"| `{name}` | {kernel} | {demos.spread(of['accuracy'])} | {demos.spread(of['left'])} "
                    f"| {len(of['accuracy'])} |")
    return "\n".join(rows) + "\n"


def choice():
    """The grid that the demo's recipe was chosen from, on held-out training digits."""
    rows = ["| point | lowest of the last 20 epochs, % | accuracy at the end, % | weights left, % | runs |",
            "|---|---|---|---|---|"]
    for (name, _), of in demos.ranked(demos.lines([HERE / "records/demo-choice.jsonl"])).items():
        rows.append(f"| {name} | {demos.spread(of['least']) or ''} | {demos.spread(of['accuracy'])} "
                    f"| {demos.spread(of['left'])} | {len(of['accuracy'])} |")
    return "\n".join(rows) + "\n"


#: The changes of minimask.anatomy.CHANGES, in words.
CHANGES = {"as trained": "as trained",
           "signs shuffled": "signs shuffled among the weights that are left",
           "mask shuffled": "mask shuffled: places and signs",
           "magnitudes uniform": "magnitudes drawn anew, uniform, signs kept",
           "magnitudes normal": "magnitudes drawn anew, normal, signs kept",
           "frozen weights anew": "frozen weights drawn anew under the same mask"}


def shuffles():
    """Accuracy of trained supermasks of which one part was replaced by chance."""
    record = json.loads((HERE / "records" / "shuffles.json").read_text())
    lines = ["| in every layer | test accuracy, % | left of what is better than guessing |", "|---|---|---|"]
    for name, row in record["summary"].items():
        spread = f"{100 * row['mean']:.1f} ({100 * row['least']:.1f} to {100 * row['most']:.1f})"
        lines.append(f"| {CHANGES[name]} | {spread} | {round(row['left'], 2) + 0.0:.0%} |")
    return "\n".join(lines) + "\n"


def shuffles_cifar10():
    """The same of the trained Conv nets: a column each, accuracy in percent, means over the draws."""
    found = json.loads((HERE / "records" / "shuffles-cifar10.json").read_text())["runs"]
    lines = ["| in every layer | " + " | ".join(f"`{run['name']}`" for run in found) + " |",
             "|---" * (1 + len(found)) + "|"]
    for name in found[0]["accuracy"]:
        cells = " | ".join(f"{100 * statistics.mean(run['accuracy'][name]):.1f}" for run in found)
        lines.append(f"| {CHANGES[name]} | {cells} |")
    return "\n".join(lines) + "\n"


def reading():
    """The files of the reading path, in order, with their lines."""
    lines = ["| file | what you learn | lines |", "|---|---|---|"]
    for name, what in PATH.items():
        count = len((HERE.parent / "minimask" / name).read_text().splitlines())
        lines.append(f"| [`{name}`](minimask/{name}) | {what} | {count} |")
    return "\n".join(lines) + "\n"


def sizes():
    """What the file of a net takes: the first seed of each net of the zoo."""
    lines = ["| net | epochs | test accuracy, % | weights left, % | bytes | entropy of its signs | as float32 |",
             "|---|---|---|---|---|---|---|"]
    for name, entry in zoo.entries().items():
        if entry.seed:
            continue
        exported = export.load(entry.path)
        stored = exported.stored.values()
        entropy, weights = sum(each.bound for each in stored), sum(each.weights for each in stored)
        mark = "†" * entry.unverified
        lines.append(f"| `{name}` | {entry.epochs} | {100 * entry.test_accuracy:.1f}{mark} "
                     f"| {100 * entry.weights_left:.2f} | {exported.size:,} | {entropy:,.0f} | {4 * weights:,} |")
    return "\n".join(lines) + "\n"


def syllabus():
    """The lessons, from what their scripts say of themselves, and how many tasks their exercises have."""
    lines = ["| lesson | | minutes | tasks |", "|---|---|---|---|"]
    total = [0, 0]
    for path in sorted(SYLLABUS.parent.glob("[0-9][0-9]_*.py")):
        text = path.read_text()
        title = re.search(r"^# # (.+)$", text, re.MULTILINE)[1]
        minutes = int(re.search(r"\*\*It takes\*\* about (\d+) minutes", text)[1])
        tests = SYLLABUS.parent / f"exercises/test_lesson{path.name[:2]}.py"
        tasks = len(set(re.findall(r"def test_(task\d+)_", tests.read_text()))) if tests.exists() else 0
        lines.append(f"| [`{path.name}`]({path.name}) | {title} | {minutes} | {tasks or ''} |")
        total = [total[0] + minutes, total[1] + tasks]
    return "\n".join([*lines, f"| all | | {total[0]} | {total[1]} |"]) + "\n"


#: The files with tables, and what makes each table.
TABLES = {README: {"results": results, "reading": reading},
          DOCS / "results.md": {"demo": demo},
          DOCS / "exports.md": {"sizes": sizes},
          DOCS / "reports.md": {"shuffles": shuffles},
          DOCS / "speed.md": {"speed": speed, "compiled": compiled, "whole_runs": whole_runs},
          STUDIES: {"initialisations": initialisations, "frontier": frontier, "choice": choice, "cifar10": cifar10,
                    "cifar10_grid": cifar10_grid, "cifar10_unfinished": cifar10_unfinished, "gpu_steps": gpu_steps,
                    "shuffles_cifar10": shuffles_cifar10},
          SYLLABUS: {"syllabus": syllabus}}


def filled(path):
    """A file's text with every table between its markers made anew."""
    text = path.read_text()
    for name, table in TABLES[path].items():
        before, begin, rest = text.partition(f"<!-- {name}: made by benchmarks/readme.py -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
        if not begin or not end:
            raise SystemExit(f"{path} lacks the markers of table {name!r}")
        text = before + begin + table() + end + after
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into their files")
    if parser.parse_args().write:
        for path in TABLES:
            path.write_text(filled(path))
    print("\n".join(table() for tables in TABLES.values() for table in tables.values()), end="")
