"""The records of many runs: found in folders, checked, and grouped by recipe. `minimask report` is made of them.

A record counts only if it is whole, agrees with itself and with its recipe, and is finished; whatever does not count
is named with its reason. Two runs are in one group, and averaged, only if their recipes agree in everything but the
line ``about`` (the number of epochs and the data set are part of a recipe), if both or neither trained on unverified
files, if their arithmetic was of one kind (a processor's, a GPU's, a GPU's with TF32), if they came from one source
digest, if both or neither trained on without units that are dead for ever, and if their weights, or the order of their
images, came from one seed of its own, or from none; a seed counts once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import fields, recipes
from ..errors import UsageError
from ..fields import brief
from ..recipes import grid
from . import schema
from .folder import called, finished
from .sweep import INDEX

#: What a run's folder may hold of records; dense.json is the demo's baseline.
RUN_FILES = ("record.json", "dense.json")

@dataclass(frozen=True)
class Script:
    """In place of a recipe for a run that was trained from Python and kept by runs.save: what its record says.

    Attributes:
        name, dataset: as it says. epochs: how many it has. source: 'trained' for a dense net, else 'masked'.
        net: digest of the description of its net.
    """

    name: str
    dataset: str
    epochs: int
    source: str
    net: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, by which runs are told apart."""
        return dict(vars(self))


def _script(record: Mapping[str, Any]) -> Script:
    net = record["net"]
    masked = any(rule.get("source", rule.get("kept")) not in ("trained", "effective")
                 for rule in net.get("rules", {}).values() if isinstance(rule, Mapping))
    digest = hashlib.sha256(json.dumps(net, sort_keys=True).encode()).hexdigest()[:8]
    return Script(called(record), record["dataset"] or "unknown", len(record["epochs"]),
                  "masked" if masked else "trained", digest)


@dataclass(frozen=True)
class Run:
    """A run by its record.

    Attributes:
        path: the record's file. record: what is in it. recipe: its recipe, read back, or what stands for one.
    """

    path: Path
    record: dict[str, Any]
    recipe: recipes.Recipe | Script

    @property
    def seed(self) -> int | None:
        """None where a run from Python does not say."""
        return self.record["seed"]

    @property
    def own_seeds(self) -> dict[str, int]:
        """The seeds of weights and of order that are not the run's one seed, "init_seed" and "order_seed"."""
        return {name: self.record[name] for name in schema.SEEDS if name in self.record}

    @property
    def values(self) -> dict[str, Any]:
        """What was set to make its recipe, by dotted key; nothing where it is no recipe of a grid."""
        return self.record.get("made", {}).get("values", {})

    @property
    def base(self) -> str:
        """The name of the recipe that was set otherwise, or its own."""
        return self.record.get("made", {}).get("recipe", self.recipe.name)

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return self.record["epochs"]

    @property
    def course(self) -> list[dict[str, Any]]:
        """The entries of its epochs, that of epoch 0 before them where it was measured."""
        return [*(self.record[name] for name in ("epoch_0",) if name in self.record), *self.epochs]

    @property
    def unverified(self) -> bool:
        """Whether it trained on files that are not known to be the official ones."""
        return bool(self.record.get("unverified"))

    @property
    def seconds(self) -> float:
        """Of training, without evaluation."""
        return sum(entry["seconds"] for entry in self.epochs)

    @property
    def environment(self) -> dict[str, Any]:
        return self.record["environment"]

    @property
    def arithmetic(self) -> str:
        """What its products were made by: "CPU", "GPU" or "GPU with TF32"; of a resumed run, one after the other."""
        return ", then ".join(dict.fromkeys(
            "CPU" if each.get("backend") != "cupy" else "GPU with TF32" if each.get("tf32") else "GPU"
            for each in self._environments()))

    @property
    def source(self) -> str:
        """The digest of the package that trained it, or "unknown"; of a resumed run, one after the other."""
        return ", then ".join(dict.fromkeys(str(each.get("source_digest") or "unknown")
                                            for each in self._environments()))

    @property
    def own_code(self) -> str:
        """The digests of its own code, by module; of a resumed run, one after the other; "" where it has none."""
        told = [each.get("own_code") or {} for each in self._environments()]
        return ", then ".join(dict.fromkeys(" ".join(f"{module} {digest}" for module, digest in sorted(code.items()))
                                            for code in told if code))

    @property
    def shrunk(self) -> bool:
        """Whether units that are dead for ever were left out while it trained; no unit of some nets may be.

        A series of its own, as one of another arithmetic is: it is the same run up to rounding, yet it ends at other
        bits, its seconds are fewer, and it alone counts dead units. Averaged, seed 0 of both would be "again", and the
        time would be that of neither; apart, a reader sees what leaving them out has done.
        """
        return bool(self.record.get("shrink")) and any("dead" in layer for layer in self.epochs[-1]["layers"])

    @property
    def data(self) -> str:
        """What a data set of one's own was: the digest of its images and labels, and their preprocessing; else ""."""
        found = self.record.get("data", {})
        return f"data {_short(found['digest'])}, preprocess {found['preprocess']}" if found else ""

    def _environments(self) -> list[Mapping[str, Any]]:
        """That of its beginning, and of every place where it was resumed with another."""
        later = [each.get("environment") for each in self.environment.get("continued") or () if isinstance(each, dict)]
        return [self.environment, *(each for each in later if isinstance(each, dict))]

    @property
    def finished(self) -> bool:
        """Whether it has all its recipe's epochs, or its schedule made the last cut before."""
        return finished(self.record)


@dataclass(frozen=True)
class Group:
    """Runs of one recipe, made alike, by seed. label: the recipe's name, and what tells it from others of that name."""

    label: str
    runs: Sequence[Run]

    @property
    def recipe(self) -> recipes.Recipe | Script:
        return self.runs[0].recipe

    @property
    def title(self) -> str:
        """The label for people: of a recipe of a grid in words what was set in which recipe."""
        run = self.runs[0]
        return self.label if not run.values else (
            f"{run.base}, {grid.words(run.values)}{self.label.removeprefix(run.recipe.name)}")

    @property
    def unverified(self) -> bool:
        return self.runs[0].unverified

    @property
    def seeds(self) -> str:
        """How many, in words."""
        return f"{len(self.runs)} seeds" if len(self.runs) > 1 else "1 seed"

    @property
    def has_accuracy(self) -> bool:
        """Whether its runs have one: with floats as targets they have a loss alone."""
        return all("test_accuracy" in run.epochs[-1] for run in self.runs)

    def ends(self, key: str) -> list[float]:
        """One number of the last epoch of every run."""
        return [run.epochs[-1][key] for run in self.runs]


@dataclass
class Reading:
    """What was found: runs that count; unfinished ones; refused files with the reason; JSON of other kinds."""

    runs: list[Run] = field(default_factory=list)
    unfinished: list[Run] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)


# ---- finding and reading -------------------------------------------------------------------------------------------


def read(places: Iterable[str | Path]) -> Reading:
    """The records in run folders, sweep folders, folders of records, in any mix.

    In a folder that is no run's, every ``*.json`` is looked at, and every folder in it, one level deep; below a sweep's
    folder its runs are always found.

    Raises:
        UsageError: a place does not exist. A folder that cannot be listed is refused with the reason, as records are.
    """
    reading, counted = Reading(), dict[tuple[str, int | None], Run]()
    for path in dict.fromkeys(path for place in places for path in _files(Path(place), reading)):
        try:
            record = fields.read(path)
            if "made_by" in record or (
                    "recipe" not in record and "format" not in record and path.name not in RUN_FILES):
                reading.foreign.append(path)
                continue
            run = Run(path, record, check(record))
        except ValueError as error:
            reading.refused.append((path, str(error).removeprefix(f"{path.name} ")))
            continue
        first = counted.setdefault((key(run), run.seed), run) if run.finished else run
        if not run.finished:
            reading.unfinished.append(run)
        elif first is run:
            reading.runs.append(run)
        else:
            same = _results(first) == _results(run)
            reading.refused.append((path, f"seed {run.seed} of {run.recipe.name} again: {first.path} counts, this one "
                                    f"does not ({'their numbers agree' if same else 'and their numbers differ'})"))
    return reading


def _files(place: Path, reading: Reading) -> Iterator[Path]:
    """The files below a place that may be records, in order."""
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from _below(place, 1, reading)
    else:
        raise UsageError(f"there is no {place}; give folders of runs, of a sweep, or of records (*.json)")


def _below(folder: Path, levels: int, reading: Reading) -> Iterator[Path]:
    """A run's records; else every .json but the one that says what a sweep is, and so many levels of folders, too."""
    try:
        if (folder / "record.json").exists():
            found, folders = [folder / name for name in RUN_FILES if (folder / name).exists()], list[Path]()
        else:
            found = sorted(path for path in folder.glob("*.json") if path.is_file() and path.name != INDEX)
            deeper = levels or (folder / INDEX).exists()
            folders = sorted(each for each in folder.iterdir() if each.is_dir()) if deeper else []
    except OSError as error:
        reading.refused.append((folder, f"cannot be read ({error.strerror})"))
        return
    yield from found
    for below in folders:
        yield from _below(below, max(levels - 1, 0), reading)


def _results(run: Run) -> list[dict[str, Any]]:
    """All numbers of a run but its seconds."""
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in run.epochs]


# ---- checking ------------------------------------------------------------------------------------------------------


def check(record: Mapping[str, Any]) -> recipes.Recipe | Script:
    """The recipe of a record that is whole, within bounds, and agrees with itself and with that recipe.

    Nothing that it names is imported. Raises ValueError that says what is wrong, to be read after the file's name.
    """
    schema.record(record)
    if not record["recipe"] and "net" in record:
        return _script(record)
    recipe = schema.recipe_of(record)
    _check_name(recipe)
    if record["dataset"] != recipe.dataset:
        raise ValueError(f"disagrees with its recipe: trained on {brief(record['dataset'])}, but the recipe says "
                         f"{recipe.dataset!r}")
    if len(record["epochs"]) > recipe.epochs:
        raise ValueError(f"disagrees with its recipe: {len(record['epochs'])} epochs, but the recipe says "
                         f"{recipe.epochs}")
    schema.agree(record, recipe)
    return recipe


def _check_name(recipe: recipes.Recipe) -> None:
    """ValueError where a recipe that comes with minimask, or came with it, has other settings there than here."""
    known = recipes.RECIPES.get(recipe.name)
    if known is None or recipes.shipped(recipe) or recipes.shipped(recipe, recipes.FORMER):
        return
    for name, value in recipe.as_dict().items():
        if name not in ("about", "epochs", "dataset") and value != getattr(known, name):
            raise ValueError(f"disagrees with its recipe: it calls itself {recipe.name!r}, but its {name} is "
                             f"{value!r}, and {getattr(known, name)!r} in the recipe of that name; give other "
                             "settings another name")


# ---- grouping ------------------------------------------------------------------------------------------------------


def key(run: Run) -> str:
    """What two runs must have in common to be averaged, as text."""
    return json.dumps([run.unverified, {**run.recipe.as_dict(), "about": ""}, run.arithmetic, run.source,
                       run.own_seeds, *(each for each in (run.data, run.own_code) if each),
                       *(["shrunk"] if run.shrunk else []),
                       *([str(run.path)] if run.seed is None else [])], sort_keys=True)


def groups(found: Iterable[Run]) -> list[Group]:
    """Runs by recipe: first in the order of minimask's recipes, then by name; the seeds of each in order."""
    together: dict[str, list[Run]] = {}
    for run in found:
        together.setdefault(key(run), []).append(run)
    order = list(recipes.RECIPES)
    members = sorted(together.values(), key=lambda some: (
        order.index(some[0].base) if some[0].base in order else len(order), *_rank(some[0]), len(some[0].own_seeds),
        key(some[0])))
    return [Group(_label(some[0], [other[0] for other in members]), sorted(some, key=lambda run: run.seed or 0))
            for some in members]


def _rank(run: Run) -> tuple[str, list[tuple[str, bool, float, str]]]:
    """Orders the recipes of a grid by their values, numbers by their size, right behind the recipe they are made of."""
    if not run.values:
        return "", []
    numbers = {name: float(value) for name, value in run.values.items() if isinstance(value, (int, float))}
    return run.base, [(name, name not in numbers, numbers.get(name, 0.0), grid.plain(value))
                      for name, value in run.values.items()]


def _label(run: Run, others: Sequence[Run]) -> str:
    """The recipe's name, and the settings and circumstances that tell it from other groups of that name."""
    here = {**recipes.NEWER, **run.recipe.as_dict()}
    same = [other for other in others if other.recipe.name == run.recipe.name
            and isinstance(other.recipe, Script) == isinstance(run.recipe, Script)]
    there = [{**recipes.NEWER, **other.recipe.as_dict()} for other in same]
    differ = [name for name in here if name != "about" and any(other[name] != here[name] for other in there)]
    settings = [f"{name.replace('_', ' ')} {_plain(here[name])}" for name in differ]
    settings += [run.arithmetic] if any(other.arithmetic != run.arithmetic for other in same) else []
    settings += ["shrunk" if run.shrunk else "whole"] if any(other.shrunk != run.shrunk for other in same) else []
    there_too = [other for other in same if other.recipe.dataset == run.recipe.dataset]
    settings += [run.data or "as usual"] if any(other.data != run.data for other in there_too) else []
    settings += [f"own code {run.own_code}"] if any(other.own_code != run.own_code for other in same) else []
    settings += [f"source {_short(run.source)}"] if any(other.source != run.source for other in same) else []
    settings += [f"in {run.path.parent.name}"] if run.seed is None and len(same) > 1 else []
    settings += [f"{'weights' if name == 'init_seed' else 'order'} of seed {seed}"
                 for name, seed in run.own_seeds.items()]
    return run.recipe.name + (f" ({', '.join(settings)})" if settings else "")


def _short(source: str) -> str:
    """Digests by their first 8 digits."""
    return ", then ".join(each[:8] for each in source.split(", then "))


def kept_apart(groups: Iterable[Group]) -> str:
    """A sentence where runs of one recipe are in several groups for how they were made, else ""."""
    made = _by_recipe(groups).values()
    reasons = {
        "on CPU, on GPU or with TF32": any(len({run.arithmetic for run in some}) > 1 for some in made),
        "by packages of different source digests": any(len({run.source for run in some}) > 1 for some in made),
        "by own code of different digests": any(len({run.own_code for run in some}) > 1 for some in made),
        "with all units or without those that are dead for ever": any(len({run.shrunk for run in some}) > 1
                                                                      for some in made),
        "with different seeds for weights and order": any(len({str(run.own_seeds) for run in some}) > 1
                                                          for some in made)}
    words = " or ".join(reason for reason, given in reasons.items() if given)
    return f"Runs of one recipe that were made {words} are kept apart, never averaged." if words else ""


def recipes_of(groups: Iterable[Group]) -> int:
    """How many recipes there are, however their runs were made."""
    return len(_by_recipe(groups))


def _by_recipe(groups: Iterable[Group]) -> dict[str, list[Run]]:
    """A run of every group, by recipe and whether its data is verified."""
    made: dict[str, list[Run]] = {}
    for group in groups:
        run = group.runs[0]
        what = json.dumps([run.unverified, {**run.recipe.as_dict(), "about": ""}, run.data], sort_keys=True)
        made.setdefault(what, []).append(group.runs[0])
    return made


def _plain(value: Any) -> str:
    """A setting in words."""
    if value in ("", {}):
        return "as usual"
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, Mapping) else str(value)
