"""Recipes: what to train and how, as frozen data with a name. `minimask recipes` lists them.

A recipe is plain data: ``recipes.find("fcn").toml()`` writes it down, and :func:`find` reads such a file back.
PUBLISHED is the paper's table (Koster et al. 2022, arXiv:2201.13361, and its published configurations); RECIPES makes
several recipes of each of its rows, by these names:

- ``conv2``: the signed supermask with one absolute threshold, tau 0.01, which lands on the paper's row for the FCN;
  ``conv2-published-config``: with the published rule, tau_l = tau_ratio * max|m_l|; ``conv2-dense``: the baseline.
- ``resnet20`` is the published rule, ``resnet20-tau`` the absolute threshold: that left 87 to 90 % of a fresh ResNet,
  and logits of size 264 in ResNet20 (published rule: 0.7), 2e6 in ResNet56 and 3e10 in ResNet110 (once, on eight
  images of noise). The latter two have no such recipe.
- ``conv2-extreme``, ``conv2-extreme-published-config``: pruned further, at a small learning rate (not for ResNets).
- ``conv2-binary``, ``conv2-edge-popup`` (10 % kept), ``-30``, ``-50``: the relatives, in deterministic forms of ours.
- ``fcn-best``: more wd, and lr and wd fall sooner; chosen on held-out training images (benchmarks/README.md).
- ``fcn-he-xavier``: the initialisation study, the scheme of the frozen weights, then that of the scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import data, init, models, nn, optim
from .backend import UsageError, unknown
from .mask import BinarySupermask, EdgePopup, SignedSupermask, Trained, WeightSource

SOURCES: dict[str, Any] = {"trained": Trained, "signed-supermask": SignedSupermask, "binary": BinarySupermask,
                           "edge-popup": EdgePopup}
SCHEDULES = ("exponential", "plateau")

Types = Mapping[str, type]
_INITIAL: Types = {"frozen": str, "frozen_distribution": str, "frozen_factor": float, "scores": str,
                   "scores_distribution": str}
_RESNET: Types = {"width": int, "norm": str}
#: The settings of every weight source, schedule and model that has some, and their types.
SETTINGS: dict[str, Types] = {
    "trained": {"init": str, "distribution": str, "factor": float},
    "signed-supermask": {**_INITIAL, "tau": float, "tau_ratio": float},
    "binary": {**_INITIAL, "tau": float, "tau_ratio": float},
    "edge-popup": {**_INITIAL, "share": float},
    "exponential": {"rate": float, "epochs": float},
    "plateau": {"factor": float, "patience": int, "cooldown": int, "min_delta": float, "max_cuts": int},
    **{name: _RESNET for name in models.RESNETS}}
TYPES: Types = {"name": str, "about": str, "epochs": int, "lr": float, "wd": float, "model": str,
                "model_settings": dict, "dataset": str, "augment": bool, "source": str, "source_settings": dict,
                "batch": int, "momentum": float, "schedule": str, "schedule_settings": dict}
#: From where to where a number may lie, the ends included.
RANGES = {"epochs": (1, 1_000_000), "batch": (1, 1_000_000), "lr": (1e-9, 1e3), "wd": (0, 0.999),
          "momentum": (0, 0.999)}


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of but its seed; checked when it is made.

    Attributes:
        name: letters, digits, '.', '_' and '-'; a run's folder has that name. about: one line on what it is.
        epochs, batch: passes over the training images, images a step.
        lr, wd, momentum: of :class:`minimask.optim.SGDW`.
        model, model_settings: builder in :data:`minimask.models.MODELS`, and a ResNet's `width` and `norm`.
        dataset: name in :mod:`minimask.data`. augment: pad, flip and crop its training images.
        source, source_settings: the weight source, a name in SOURCES, and its arguments.
        schedule, schedule_settings: of lr and wd. 'exponential': they fall by the factor `rate` (0.9) every so many
            `epochs` (10), smoothly. 'plateau': they are cut when the training loss stops falling, with the arguments
            of :class:`minimask.optim.Plateau`.

    Raises:
        UsageError: an unknown name or setting, a wrong type, a number out of range; the sentence gives the nearest
            valid one.
    """

    name: str
    about: str
    epochs: int
    lr: float
    wd: float
    model: str = "fcn"
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = "mnist"
    augment: bool = False
    source: str = "signed-supermask"
    source_settings: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 128
    momentum: float = 0.9
    schedule: str = "exponential"
    schedule_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"recipe {self.name!r}"
        _check(where, vars(self), TYPES)
        if not self.name.strip(".") or not all(c.isascii() and (c.isalnum() or c in "._-") for c in self.name):
            raise UsageError(f"{where}: a name is made of letters, digits, '.', '_' and '-'")
        for key, (low, high) in RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise UsageError(f"{where}: {key} is {value}; the nearest that it may be is "
                                 f"{low if value < low else high:g}")
        for kind, known in (("source", SOURCES), ("schedule", SCHEDULES), ("model", models.MODELS)):
            chosen = getattr(self, kind)
            if chosen not in known:
                raise UsageError(f"{where}: {unknown({'source': 'weight source'}.get(kind, kind), chosen, known)}")
            _check(f"{where}: {kind} {chosen!r}", getattr(self, f"{kind}_settings"), SETTINGS.get(chosen, {}))
        try:  # the values of the settings, by those who know them
            self.weights()
            self.schedule_of(1)
            models.check(**self.model_settings)
        except (UsageError, ValueError) as error:
            raise UsageError(f"{where}: {error}") from error

    def weights(self) -> WeightSource:
        """The weight source, as a template."""
        return SOURCES[self.source](**self.source_settings)

    def schedule_of(self, steps_per_epoch: int) -> optim.Schedule:
        """The factor on lr and wd, as a function of the step."""
        if self.schedule == "plateau":
            return optim.Plateau(**self.schedule_settings)
        settings = {"rate": 0.9, "epochs": 10.0, **self.schedule_settings}
        return optim.exponential(settings["rate"], every=settings["epochs"] * steps_per_epoch)

    def build(self, dataset: data.Dataset, rng: np.random.Generator, backend: str = "numpy") -> nn.Sequential:
        """The net, sized for the data set's images and classes, drawn from rng."""
        return self._build(dataset.input_shape, len(dataset.classes), self.weights(), rng, backend)

    def _build(self, input_shape: tuple[int, ...], classes: int, weights: WeightSource, rng: np.random.Generator,
               backend: str = "numpy") -> nn.Sequential:
        end: dict[str, Any] = {"units": (*models.FCN[:-1], classes)} if self.model == "fcn" else {"classes": classes}
        return models.MODELS[self.model](weights=weights, rng=rng, input_shape=input_shape, backend=backend,
                                         **end, **self.model_settings)

    def size(self) -> int:
        """How many weights its net has on its data set."""
        shape, classes = data.outline(self.dataset)
        return self._build(shape, len(classes), Trained(distribution="constant"), np.random.default_rng(0)).size()

    def optimizer(self, net: nn.Sequential, dataset: data.Dataset) -> optim.SGDW:
        """SGDW over the net's parameters with this recipe's schedule."""
        schedule = self.schedule_of(math.ceil(len(dataset.train_images) / self.batch))
        return optim.SGDW(net.parameters(), self.lr, self.wd, self.momentum, schedule)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for record.json; ``Recipe(**that)`` is this recipe again."""
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in vars(self).items()}

    def toml(self) -> str:
        """The recipe as TOML, which :func:`find` reads back from a file."""
        values = self.as_dict()
        tables = {key: values.pop(key) for key in TYPES if TYPES[key] is dict}
        return "\n".join([_lines(values), *(f"[{name}]\n{_lines(table)}" for name, table in tables.items() if table)])


def _lines(values: Mapping[str, Any]) -> str:
    """A line of TOML per value; JSON's texts (but for DEL), numbers and booleans are TOML's too."""
    texts = {key: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") for key, value in values.items()}
    return "".join(f"{key} = {text}\n" for key, text in texts.items())


def _check(where: str, values: Mapping[str, Any], types: Types) -> None:
    """UsageError unless every key is known and every value of its type; a whole number will do for a float."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "a table"}
    for key, value in values.items():
        if not types:
            raise UsageError(f"{where} takes no settings, but {key!r} was given; leave it out")
        if key not in types:
            raise UsageError(f"{where}: {unknown('key', key, types)}")
        wanted = {float: (int, float), dict: Mapping}.get(types[key], types[key])
        if not isinstance(value, wanted) or (isinstance(value, bool) and types[key] is not bool):  # type: ignore[arg-type]
            raise UsageError(f"{where}: {key} is {value!r}, but must be {words[types[key]]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{where}: {key} is {value}, but must be finite")


# ---- the paper's table ---------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A net of the paper: its data, the published configurations of both methods, and the results, in percent."""

    dataset: str
    tau_ratio: float
    lr: float
    wd: float
    epochs: int
    dense_lr: float
    dense_wd: float
    dense_decay: float  # epochs in which lr and wd fall to 0.9; 0: a plateau
    dense_epochs: int
    dense: float  # test accuracy
    masked: float  # test accuracy
    left: float  # weights left


PUBLISHED = {  # tau_ratio  lr     wd  epochs | dense lr  wd decay epochs | dense masked   left
    "fcn": Row("mnist", 0.40, 0.05, 5e-4, 100, 0.010, 5e-4, 10, 50, 97.42, 97.48, 3.77),
    "conv2": Row("cifar10", 0.40, 0.04, 5e-4, 100, 0.008, 7e-4, 5, 50, 68.79, 68.37, 0.60),
    "conv4": Row("cifar10", 0.40, 0.05, 5e-4, 100, 0.008, 7e-4, 5, 50, 74.50, 77.40, 2.91),
    "conv6": Row("cifar10", 0.40, 0.05, 5e-4, 100, 0.010, 7e-4, 10, 50, 75.91, 79.17, 2.36),
    "conv8": Row("cifar10", 0.40, 0.05, 5e-4, 100, 0.010, 7e-4, 10, 50, 72.24, 80.91, 1.17),
    "resnet20": Row("cifar10", 0.75, 0.30, 3e-4, 110, 0.300, 3e-4, 0, 80, 84.91, 81.68, 21.13),
    "resnet20-x2": Row("cifar10", 0.75, 0.30, 3e-4, 110, 0.300, 3e-4, 0, 80, 86.80, 84.42, 7.69),
    "resnet20-x3": Row("cifar10", 0.75, 0.30, 3e-4, 110, 0.300, 3e-4, 0, 80, 87.32, 84.89, 4.06),
    "resnet56": Row("cifar100", 0.80, 0.15, 1e-4, 120, 0.150, 1e-4, 0, 90, 68.04, 60.01, 29.39),
    "resnet110": Row("cifar100", 0.85, 0.08, 1e-5, 110, 0.150, 1e-4, 0, 100, 62.70, 46.42, 20.64),
}
#: tau_ratio, lr and wd of the "extreme" configurations.
EXTREME = (0.6, 0.008, 3e-4)


def _of_row(net: str, row: Row) -> Iterator[Recipe]:
    """The signed supermask under both threshold rules, and the dense baseline."""
    title = net.capitalize().replace("Fcn", "FCN").replace("Resnet", "ResNet")
    model, _, width = net.partition("-x")
    resnet = model.startswith("resnet")
    masked: dict[str, Any] = {"model": model, "dataset": row.dataset, "augment": row.dataset == "cifar100"}
    settings: dict[str, Any] = {}
    if resnet:
        wide = {"width": int(width)} if width else {}
        cuts = {"factor": 0.2, "max_cuts": 5} if model == "resnet20" else {"factor": 0.1, "max_cuts": 7}
        masked |= {"schedule": "plateau", "schedule_settings": cuts,
                   "model_settings": {**wide, "norm": "stem" if model == "resnet20" else "none"}}
        settings |= {} if model == "resnet20" else {"frozen_factor": 2.6}
        settings |= {"scores": "elu"} if model == "resnet110" else {}
    data_name = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[row.dataset]
    about = f"{title} on {data_name}, signed supermask with"
    absolute = Recipe(net, f"{about} one absolute threshold", row.epochs, row.lr, row.wd,
                      source_settings={**settings, "tau": 0.01}, **masked)
    published = replace(absolute, about=f"{about} the published threshold rule",
                        source_settings={**settings, "tau_ratio": row.tau_ratio})
    if resnet:
        yield published
        if model == "resnet20":
            yield replace(absolute, name=f"{net}-tau")
    else:
        yield absolute
        yield replace(published, name=f"{net}-published-config")
    dense = {**masked, "source": "trained", "source_settings": {"init": "elu"}}
    if resnet:
        dense |= {"model": "resnet110-dense" if model == "resnet110" else model,
                  "model_settings": {**wide, "norm": "all"}}
    elif row.dense_decay != 10:
        dense["schedule_settings"] = {"epochs": row.dense_decay}
    yield Recipe(f"{net}-dense", f"{title}'s dense baseline: every weight trained", row.dense_epochs, row.dense_lr,
                 row.dense_wd, **dense)
    if not resnet:
        ratio, lr, wd = EXTREME
        yield replace(absolute, name=f"{net}-extreme", about=f"{title} pruned further, one absolute threshold", lr=lr,
                      wd=wd)
        yield replace(absolute, name=f"{net}-extreme-published-config", about=f"{title} pruned further, published rule",
                      lr=lr, wd=wd, source_settings={"tau_ratio": ratio})
        yield replace(absolute, name=f"{net}-binary", source="binary",
                      about=f"{title} with a binary mask: keep or hide (after Zhou et al. 2019)")
        for share, end in ((0.1, ""), (0.3, "-30"), (0.5, "-50")):
            yield replace(absolute, name=f"{net}-edge-popup{end}", source="edge-popup",
                          source_settings={"share": share},
                          about=f"{title}, the largest {share:.0%} kept (after Ramanujan et al. 2020)")


def _of_mnist(fcn: Recipe) -> Iterator[Recipe]:
    """The best of the frontier, the initialisation study, and a signed mask on uniform weights."""
    yield replace(fcn, name="fcn-best", wd=6e-4, schedule_settings={"epochs": 3},
                  about="FCN above the paper's row on both axes, chosen on held-out training images")
    for frozen in init.SCHEMES:
        for scores in init.SCHEMES:
            yield replace(fcn, name=f"fcn-{frozen}-{scores}",
                          about=f"FCN, frozen weights {frozen} (signed constant), scores {scores} (uniform)",
                          source_settings={"frozen": frozen, "scores": scores, "tau": 0.01})
    yield replace(fcn, name="fcn-uniform", about="FCN, signed supermask on uniform ELUS weights",
                  source_settings={"frozen_distribution": "uniform", "tau": 0.01})


def _all() -> Iterator[Recipe]:
    for net, row in PUBLISHED.items():
        yield from _of_row(net, row)
    yield from _of_mnist(next(_of_row("fcn", PUBLISHED["fcn"])))
    yield Recipe("digits", "the demo: FCN on the bundled digits", dataset="digits", epochs=150, lr=0.05, wd=3e-3,
                 schedule_settings={"epochs": 15}, source_settings={"tau": 0.01})
    yield Recipe("digits-dense", "the demo's dense baseline", dataset="digits", epochs=50, lr=0.01, wd=5e-4,
                 source="trained", source_settings={"init": "elu"})


RECIPES = {recipe.name: recipe for recipe in _all()}
#: The paper's results, (test accuracy, weights left) as shares, of every recipe that stands for a row of it.
PAPER = {f"{net}{end}": (accuracy / 100, left / 100) for net, row in PUBLISHED.items() for end, accuracy, left in (
    *((end, row.masked, row.left) for end in ("", "-best", "-published-config", "-tau")),
    ("-dense", row.dense, 100)) if f"{net}{end}" in RECIPES}
#: What was measured for this project, the same way: means over seeds of the records in benchmarks/records/.
MEASURED: dict[str, tuple[float, float]] = {
    "fcn": (0.9762, 0.0407), "fcn-best": (0.9767, 0.0364), "fcn-published-config": (0.9600, 0.0209),
    "fcn-dense": (0.9768, 1.0), "fcn-binary": (0.9716, 0.0468), "fcn-edge-popup": (0.9592, 0.1000),
}


def find(name: str) -> Recipe:
    """The recipe of that name, or in the file of that name if it ends in '.toml'.

    Raises:
        UsageError: there is none (the nearest name is given), or the file holds no recipe (what is wrong with it).
    """
    if name.endswith(".toml"):
        return read(name)
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES, f"`minimask recipes` lists all {len(RECIPES)}")
    return RECIPES[name]


def read(path: str | Path) -> Recipe:
    """The recipe in a TOML file, as :meth:`Recipe.toml` writes it; UsageError for anything else."""
    import tomllib

    try:
        return from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); `minimask recipes fcn > my.toml` writes a recipe "
                         "to begin with") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data; UsageError for unknown and missing keys and for what :class:`Recipe` refuses."""
    _check("recipe", {key: value for key, value in values.items() if key not in TYPES}, TYPES)
    missing = [key for key in ("name", "about", "epochs", "lr", "wd") if key not in values]
    if missing:
        raise UsageError(f"recipe lacks {', '.join(missing)}; `minimask recipes fcn` shows a whole one")
    return Recipe(**values)
