"""What a record.json and a sweep.json may hold: checked once, here, for every command that reads one.

A record is plain data: numbers within bounds, epochs in order whose layers add up. Whether it also agrees with the
recipe that it names is a question for :func:`agree`; records.py asks what it may be averaged with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .. import data, recipes
from ..errors import MinimaskError, UsageError
from ..fields import MOST_WHOLE, Fields, brief, is_integer, is_line, refuse_unbounded
from ..losses import ANSWERS
from ..recipes import grid

#: From where to where the numbers of an epoch lie, and which of them are whole.
NUMBERS: dict[str, tuple[float, float]] = {
    "epoch": (1, MOST_WHOLE), "step": (1, MOST_WHOLE), "train_loss": (0, 1e300), "train_accuracy": (0, 1),
    "test_accuracy": (0, 1), "weights_left": (0, 1), "flips": (0, MOST_WHOLE), "seconds": (0, 1e12)}
WHOLE_NUMBERS = ("epoch", "step", "flips")
#: Numbers that an epoch may have. With floats as targets there is no accuracy, but the loss of held-out images is told.
MAY: dict[str, tuple[float, float]] = {"test_loss": (0, 1e300), "test_metric": (-1e300, 1e300)}
ACCURACIES = ("train_accuracy", "test_accuracy")
STATES = ("kept", "hidden", "inverted")
#: What an environment may say; None where that was not known. Whatever else is in it is only bounded.
TEXTS = ("minimask", "python", "numpy", "backend", "system", "processor", "blas_kernel", "simd", "device",
         "source_digest", "data")
ENVIRONMENT: dict[str, type] = {**dict.fromkeys(TEXTS, str), "cores": int, "blas_threads": int, "tf32": bool,
                                "continued": list, "own_code": dict, "own_folder": str}
#: Seeds that a record has only where weights and order came from two.
SEEDS = ("init_seed", "order_seed")
#: Layers of a net, characters of a name, and runs of a sweep, at most.
MOST_LAYERS, MOST_NAME, MOST_RUNS = 10_000, 200, 100_000
#: Characters of the name of a data set, pixels of a side of its images, and its classes, at most.
MOST_DATASET, MOST_SIDE, MOST_CLASSES = 1000, 1_000_000, 100_000
#: Weights of a net that a record may ask for: 19 times those of Conv8, the paper's largest.
MOST_WEIGHTS = 100_000_000


def record(value: Mapping[str, Any]) -> None:
    """ValueError, to be read after the file's name, unless it is a record of format 1, whole and within bounds."""
    if value.get("format") != 1:
        raise ValueError(f"has format {brief(value.get('format'), 40)}, but this version of minimask reads format 1")
    parts: dict[str, type] = {"recipe": dict, "environment": dict, "epochs": list, "seed": int, "dataset": str}
    from_python = value.get("recipe") == {}  # which may not say of what seed, on what data
    for part, kind in parts.items():
        if type(value.get(part)) is not kind and not (from_python and part in ("seed", "dataset")
                                                      and value.get(part, 0) is None):
            raise ValueError(f"is damaged or of another kind: its {part} is {brief(value.get(part), 40)}")
    for part, inside in value.items():
        if part != "epochs":
            refuse_unbounded({part: inside}, f"is damaged or of another kind: its {part:.40}")
    for name in ("seed", *(name for name in SEEDS if name in value)):
        if name == "seed" and value[name] is None:
            continue
        if type(value[name]) is not int or not 0 <= value[name] < 1 << 128:
            raise ValueError(f"is damaged or of another kind: its {name} is {brief(value[name], 40)}")
    if "made" in value and not (type(value["made"]) is dict and grid.agrees(value["made"], value["recipe"])):
        raise ValueError(f"is damaged or of another kind: its recipe was not made by {brief(value['made'], 80)}")
    if value["dataset"] is not None and not 0 < len(value["dataset"]) <= (
            MOST_DATASET if data.kind_of(value["dataset"]) else MOST_NAME):
        raise ValueError(f"is damaged or of another kind: its dataset is {brief(value['dataset'], 40)}")
    for name, kind in ENVIRONMENT.items():
        if type(value["environment"].get(name)) not in (kind, type(None)):
            raise ValueError("is damaged or of another kind: its environment says that "
                             f"{name} is {brief(value['environment'][name], 40)}")
    if "data" in value:
        _data(value["data"])
    if "answers" in value:
        _answers(value["answers"], len(value["data"]["classes"]) if "data" in value else None)
    if type(value.get("unverified", False)) is not bool:
        raise ValueError(f"is damaged or of another kind: its unverified is {brief(value['unverified'], 40)}")
    if "metric" in value and not (is_line(value["metric"]) and 0 < len(value["metric"]) <= MOST_NAME):
        raise ValueError(f"is damaged or of another kind: its metric is {brief(value['metric'], 40)}")
    loss = value.get("loss", {"name": "cross-entropy"})
    if type(loss) is not dict or not is_line(loss.get("name")) or not 0 < len(loss["name"]) <= MOST_NAME:
        raise ValueError(f"is damaged or of another kind: its loss is {brief(loss, 60)}")
    for part, kind in (("net", dict), ("name", str)):
        if part in value and not (type(value[part]) is kind and 0 < len(value[part]) <= MOST_NAME):
            raise ValueError(f"is damaged or of another kind: its {part} is {brief(value[part], 40)}")
    rules, unknown = (value.get("net", {}).get(part, kind()) for part, kind in (("rules", dict), ("unknown", list)))
    if type(rules) is not dict or type(unknown) is not list or not all(type(rule) is dict for rule in rules.values()):
        raise ValueError(f"is damaged or of another kind: its net has the rules {brief(rules, 60)} and "
                         f"the unknown parts {brief(unknown)}")
    before = value.get("steps_before", 0)
    if not is_integer(before, 0, MOST_WHOLE) or (before and not from_python):
        raise ValueError(f"is damaged or of another kind: its steps_before are {brief(before, 40)}")
    for number, entry in numbered(value):
        try:
            _entry(entry, number, value["epochs"][0] if value["epochs"] else entry,
                   "loss" in value["recipe"] or not value["recipe"], before)
        except ValueError as error:
            raise ValueError(f"epoch {number} {error}") from error


def _data(value: Any) -> None:
    """ValueError unless it describes a data set of one's own: digest, shape of an image, classes, preprocessing."""
    parts = Fields(value, "is damaged or of another kind: its data")
    parts.text("digest"), parts.text("preprocess")
    parts.take("input", lambda sizes: type(sizes) is list and len(sizes) == 3 and all(
        is_integer(size, 1, MOST_SIDE) for size in sizes), "height, width and channels of an image")
    if not 0 < len(parts.texts("classes")) <= MOST_CLASSES:
        raise ValueError(f"is damaged or of another kind: its data has no classes, or more than {MOST_CLASSES:,}")
    parts.end()


def _answers(value: Any, outputs: int | None) -> None:
    """ValueError unless it says what so many outputs say: pairs of a kind and a number of outputs."""
    if not isinstance(value, list) or not 0 < len(value) <= MOST_CLASSES or not all(
            type(each) is list and len(each) == 2 and each[0] in ANSWERS and is_integer(each[1], 1, MOST_CLASSES)
            for each in value) or outputs not in (None, sum(count for _, count in value)):
        raise ValueError(f"is damaged or of another kind: its answers are {brief(value, 60)}")


def numbered(value: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """The entries of a record with the numbers of their epochs; the last is that of epoch 0, where there is one."""
    return [*enumerate(value["epochs"], 1), *((0, value[name]) for name in ("epoch_0",) if name in value)]


def _entry(entry: Any, number: int, first: Mapping[str, Any], own_loss: bool = False, before: int = 0) -> None:
    """ValueError unless an epoch's entry has its numbers, in range, and fits to the first entry and to its layers.

    before: steps that the optimizer had made when the run began.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"is {brief(entry, 40)}, not an entry")
    for name, (low, high) in {**NUMBERS, **MAY}.items():
        if name not in entry and (name in MAY or (name in ACCURACIES and "test_loss" in entry)):
            continue
        low = -1e300 if own_loss and name.endswith("_loss") else low
        value: Any = entry.get(name)
        low = min(low, number)  # epoch 0 has no step
        if type(value) not in ((int,) if name in WHOLE_NUMBERS else (int, float)) or not low <= value <= high:
            raise ValueError(f"has {name} {brief(value, 40)}; needed is a "
                             f"{'whole ' if name in WHOLE_NUMBERS else ''}number from {low:g} to {high:g}")
    if entry["epoch"] != number or entry["step"] != before + number * (
            first["step"] - before) or (number and entry["step"] <= before):
        raise ValueError(f"calls itself epoch {entry['epoch']}, step {entry['step']}: epochs are missing, or there "
                         "twice")
    layers = entry.get("layers")
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("has no layers")
    if len(layers) > MOST_LAYERS:
        raise ValueError(f"has {len(layers):,} layers, but {MOST_LAYERS:,} are the most")
    for layer in layers:
        _layer(layer)
    for more in (entry, *layers) if len(entry) > len(NUMBERS) + 1 or any(len(layer) > 7 for layer in layers) else ():
        refuse_unbounded({name: value for name, value in more.items() if name != "layers"}, "is damaged: it")
    if any((name in entry) != (name in first) for name in (*ACCURACIES, *MAY)):
        raise ValueError("tells other numbers than epoch 1")
    if _names(layers) != _names(first["layers"]):
        raise ValueError("has other layers than epoch 1")
    weights, hidden = (sum(layer[part] for layer in layers) for part in ("weights", "hidden"))
    if not math.isclose(entry["weights_left"], (weights - hidden) / weights, abs_tol=1e-9) or entry["flips"] > weights:
        raise ValueError(f"says {entry['weights_left']:.4%} of the weights left and {entry['flips']:,} flips, but its "
                         f"layers have {weights - hidden:,} of {weights:,} left")


def _layer(layer: Mapping[str, Any]) -> None:
    """ValueError unless a layer has a name, and kept, hidden and inverted weights that add up to its weights."""
    counts: list[Any] = [layer.get(part) for part in (*STATES, "weights")]
    if any(type(count) is not int for count in counts) or min(counts) < 0 or not (
            0 < counts[3] == sum(counts[:3]) <= MOST_WHOLE):
        raise ValueError(f"has a layer whose kept, hidden and inverted weights do not add up: {brief(layer, 120)}")
    dead, units = layer.get("dead", 0), layer.get("units", 0)
    if ("dead" in layer) != ("units" in layer) or type(dead) is not int or type(units) is not int or not (
            0 <= dead <= units <= counts[3]):
        raise ValueError(f"has a layer with more units dead for ever than it has: {brief(layer, 120)}")
    if type(layer.get("name")) is not str or not 0 < len(layer["name"]) <= MOST_NAME:
        raise ValueError(f"has a layer without a name of up to {MOST_NAME} characters: {brief(layer, 120)}")


def _names(layers: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [(layer["name"], layer["weights"]) for layer in layers]


# ---- the recipe ----------------------------------------------------------------------------------------------------


def recipe_of(value: Mapping[str, Any]) -> recipes.Recipe:
    """The recipe that a record names; ValueError, to be read after the file's name, where there is none."""
    if not value["recipe"]:
        raise ValueError("names no recipe and describes no net (trained from Python): keep such a run with "
                         "minimask.runs.save(net, record, DIR)")
    try:
        return recipes.from_dict(value["recipe"])
    except UsageError as error:
        raise ValueError(f"holds a recipe that this version of minimask does not know: {error}") from error


def agree(value: Mapping[str, Any], recipe: recipes.Recipe, dataset: data.Dataset | None = None) -> None:
    """ValueError, to be read after the file's name, where a record's layers are not those of its recipe's net.

    No weight is drawn to count them.

    Args:
        value: what :func:`record` has passed. dataset: that sizes the net; the one that the record names unless given,
            and where its shape is not known only the weight source is compared with the layers.
    """
    known = data.OUTLINES.get(value["dataset"].removesuffix("-validation"))
    described: Any = value.get("data")
    shape = (dataset.input_shape, dataset.classes) if dataset else (
        data.outline(value["dataset"], described) if described else known)
    try:
        size = recipe.size(*shape) if shape and "model" not in recipe.own_code() else None
    except (MinimaskError, ValueError) as error:
        raise ValueError(f"disagrees with its recipe, whose net does not fit its data: {error}") from error
    if size is not None and size > MOST_WEIGHTS:
        raise ValueError(f"asks for a net of {size:,} weights, but {MOST_WEIGHTS:,} are the most")
    for number, entry in numbered(value):
        try:
            _agree(entry["layers"], recipe, size)
        except ValueError as error:
            raise ValueError(f"epoch {number} {error}") from error


def _agree(layers: Sequence[Mapping[str, Any]], recipe: recipes.Recipe, size: int | None) -> None:
    """ValueError where the layers cannot come from the recipe's net, of `size` weights, and its weight source."""
    weights = sum(layer["weights"] for layer in layers)
    if size is not None and weights != size:
        raise ValueError(f"disagrees with its recipe: {weights:,} weights, but its net has {size:,}")
    impossible: Callable[[Mapping[str, Any]], bool] = {
        "trained": lambda layer: layer["kept"] != layer["weights"],
        "binary": lambda layer: layer["inverted"] > 0,
        "edge-popup": lambda layer: layer["inverted"] > 0 or layer["kept"] != round(
            recipe.source_settings.get("share", 0.1) * layer["weights"]),
    }.get(recipe.source, lambda layer: False)
    for layer in layers:
        if impossible(layer):
            counts = ", ".join(f"{layer[part]:,} {part}" for part in STATES)
            raise ValueError(f"disagrees with its recipe: layer {layer['name']} has {counts}, which "
                             f"{recipe.source!r} cannot give")


# ---- a sweep -------------------------------------------------------------------------------------------------------

#: The layout of a sweep's folder. A folder with another number is refused.
FORMAT = 1


def index(value: Mapping[str, Any], where: str) -> None:
    """ValueError, in words that begin with `where`, unless it is what a sweep.json of format 1 holds."""
    refuse_unbounded({key: each for key, each in value.items() if key != "runs"}, where)
    parts = Fields(value, where)
    parts.integer("format", FORMAT, FORMAT)
    parts.take("recipes", lambda known: type(known) is dict and all(
        type(recipe) is dict and type(recipe.get("epochs", 0)) is int for recipe in known.values()),
        "an object of recipes")
    parts.take("runs", lambda names: type(names) is list and len(names) <= MOST_RUNS and all(
        type(name) is str and 0 < len(name) <= MOST_NAME for name in names), f"a list of up to {MOST_RUNS:,} names")
