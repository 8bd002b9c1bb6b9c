"""What to train and how, as frozen data with a name: a recipe. table.py has those that come with minimask.

A recipe is plain data: :meth:`Recipe.toml` writes it down, and :func:`read` reads such a file back.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data, models, nn, optim, plateau, resnet
from ..errors import UsageError, unknown
from ..fields import MOST_TEXT, MOST_WHOLE, brief, content
from ..inputs import setting
from ..mask import BinarySupermask, EdgePopup, SignedSupermask, Trained, WeightSource

if TYPE_CHECKING:  # imported where it is used: `import minimask` stays quick
    from pathlib import Path

SOURCES: dict[str, Any] = {"trained": Trained, "signed-supermask": SignedSupermask, "binary": BinarySupermask,
                           "edge-popup": EdgePopup}
SCHEDULES = ("exponential", "plateau")

Types = Mapping[str, type]
_INITIAL: Types = {"frozen": str, "frozen_distribution": str, "frozen_factor": float, "scores": str,
                   "scores_distribution": str}
_NET: Types = {"activation": str}
_RESNET: Types = {"width": int, "norm": str, **_NET}
#: The settings of every weight source, schedule and model that has some, and their types.
SETTINGS: dict[str, Types] = {
    "trained": {"init": str, "distribution": str, "factor": float},
    "signed-supermask": {**_INITIAL, "tau": float, "tau_ratio": float},
    "binary": {**_INITIAL, "tau": float, "tau_ratio": float},
    "edge-popup": {**_INITIAL, "share": float},
    "exponential": {"rate": float, "epochs": float},
    "plateau": {"factor": float, "patience": int, "cooldown": int, "min_delta": float, "max_cuts": int},
    **{name: _NET for name in models.MODELS}, **{name: _RESNET for name in resnet.RESNETS}}
TYPES: Types = {"name": str, "about": str, "epochs": int, "lr": float, "wd": float, "model": str,
                "model_settings": dict, "dataset": str, "augment": bool, "source": str, "source_settings": dict,
                "batch": int, "momentum": float, "schedule": str, "schedule_settings": dict}
#: The largest number that is finite: a whole one may be larger.
MOST = sys.float_info.max
#: From where to where a number may lie, the ends included.
RANGES = {"epochs": (1, 1_000_000), "batch": (1, 1_000_000), "lr": (1e-9, 1e3), "wd": (0, 0.999),
          "momentum": (0, 0.999)}
#: Characters of a name, which folders are called by; ResNets' width, times that of the paper; bytes of a file.
MOST_NAME, MOST_WIDTH, MOST_BYTES = 100, 64, 64_000


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of but its seed; checked when it is made.

    Attributes:
        name: letters, digits, '.', '_' and '-'; a run's folder has that name. about: one line on what it is.
        epochs, batch: passes over the training images, images a step.
        lr, wd, momentum: of :class:`minimask.optim.SGDW`.
        model, model_settings: builder in :data:`minimask.models.MODELS`, a ResNet's `width` and `norm`, and
            any net's `activation` (ELU unless given; minimask.layers.ACTIVATIONS).
        dataset: name in :mod:`minimask.data`. augment: pad, flip and crop its training images.
        source, source_settings: the weight source, a name in SOURCES, and its arguments.
        schedule, schedule_settings: of lr and wd. 'exponential': they fall by the factor `rate` (0.9) every so many
            `epochs` (10), smoothly. 'plateau': they are cut when the training loss stops falling, with the arguments
            of :class:`minimask.plateau.Plateau`.

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
        where = f"recipe {brief(self.name)}"
        _check(where, vars(self), TYPES)
        if not self.name.strip(".") or not all(c.isascii() and (c.isalnum() or c in "._-") for c in self.name):
            raise UsageError(f"{where}: a name is made of letters, digits, '.', '_' and '-'")
        for key in ("name", "dataset"):
            if not 0 < len(getattr(self, key)) <= MOST_NAME:
                raise UsageError(f"{where}: {key} has {len(getattr(self, key))} characters; it may have 1 to "
                                 f"{MOST_NAME}")
        for key, (low, high) in RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise UsageError(f"{where}: {key} is {value}; the nearest that it may be is "
                                 f"{low if value < low else high}")
        for kind, known in (("source", SOURCES), ("schedule", SCHEDULES), ("model", models.MODELS)):
            chosen = getattr(self, kind)
            if chosen not in known:
                raise UsageError(f"{where}: {unknown({'source': 'weight source'}.get(kind, kind), chosen, known)}")
            _check(f"{where}: {kind} {chosen!r}", getattr(self, f"{kind}_settings"), SETTINGS.get(chosen, {}))
        self._floats()
        try:  # the values of the settings, by those who know them
            self.weights()
            self.schedule_of(1)
            if self.model_settings.get("width", 1) > MOST_WIDTH:
                raise UsageError(f"width is {self.model_settings['width']}; the nearest that it may be is {MOST_WIDTH}")
            resnet.check_settings(**self.model_settings)
        except (UsageError, ValueError) as error:
            raise UsageError(f"{where}: {error}") from error

    def _floats(self) -> None:
        """A number that may have a fraction becomes a float: lr = 1 and lr = 1.0 are one recipe, with one digest."""
        for key, kind in TYPES.items():
            value = getattr(self, key)
            if kind is float:
                object.__setattr__(self, key, setting(value))
            elif kind is dict:
                types = SETTINGS.get(getattr(self, key.removesuffix("_settings")), {})
                object.__setattr__(self, key, {name: setting(each) if types[name] is float else each
                                               for name, each in value.items()})

    def weights(self) -> WeightSource:
        """The weight source, as a template."""
        return SOURCES[self.source](**self.source_settings)

    def schedule_of(self, steps_per_epoch: int) -> optim.Schedule:
        """The factor on lr and wd, as a function of the step."""
        if self.schedule == "plateau":
            return plateau.Plateau(**self.schedule_settings)
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

    def size(self, input_shape: tuple[int, ...] | None = None, classes: Sequence[str] | None = None) -> int:
        """How many weights its net has, on its data set unless others' shape and classes are given; none is drawn."""
        shape, classes = data.outline(self.dataset) if input_shape is None else (input_shape, classes)
        assert classes is not None
        undrawn: Any = _Undrawn()
        return self._build(shape, len(classes), undrawn, np.random.default_rng(0)).size()

    def optimizer(self, net: nn.Sequential, dataset: data.Dataset) -> optim.SGDW:
        """SGDW over the net's parameters with this recipe's schedule."""
        schedule = self.schedule_of(math.ceil(len(dataset.train_images) / self.batch))
        return optim.SGDW(net.parameters(), self.lr, self.wd, self.momentum, schedule)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for record.json; ``Recipe(**that)`` is this recipe again."""
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in vars(self).items()}

    def toml(self) -> str:
        """The recipe as TOML, which :func:`read` reads back from a file."""
        values = self.as_dict()
        tables = {key: values.pop(key) for key in TYPES if TYPES[key] is dict}
        return "\n".join([_lines(values), *(f"[{name}]\n{_lines(table)}" for name, table in tables.items() if table)])


class _Undrawn:
    """Stands for the weights of a net whose layers are only counted: nothing is drawn."""

    def draw(self, *arguments: Any) -> _Undrawn:
        return self


def _lines(values: Mapping[str, Any]) -> str:
    """A line of TOML per value; JSON's texts, numbers and booleans are TOML's too.

    What is not printable is written by its number, so that a terminal shows the recipe and obeys nothing in it.
    """
    import json

    texts = {key: "".join(each if each.isprintable() or "\ud800" <= each <= "\udfff" else f"\\U{ord(each):08x}"
                          for each in json.dumps(value, ensure_ascii=False)) for key, value in values.items()}
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
            raise UsageError(f"{where}: {key} is {brief(value)}, but must be {words[types[key]]}")
        if wanted == (int, float) and not -MOST <= value <= MOST:  # NaN is neither
            raise UsageError(f"{where}: {key} is {brief(value)}, but must be finite")
        if types[key] is int and not -MOST_WHOLE <= value <= MOST_WHOLE:
            low, high = RANGES.get(key, (-MOST_WHOLE, MOST_WHOLE))
            raise UsageError(f"{where}: {key} is {brief(value)}; the nearest that it may be is "
                             f"{high if value > 0 else low}")
        if types[key] is str and len(value) > MOST_TEXT:
            raise UsageError(f"{where}: {key} has {len(value):,} characters; it may have {MOST_TEXT:,}")


#: What TOML 1.1 has and 1.0 has not: \\e and \\x in texts, line ends and a last comma between braces.
NEW_IN_TOML = r"""\\[ex]|\{[^}"']*\n|,\s*\}"""


def read(path: str | Path) -> Recipe:
    """The recipe in a TOML file, as :meth:`Recipe.toml` writes it; UsageError for anything else."""
    import pathlib
    import tomllib

    text = ""
    try:
        text = content(pathlib.Path(path), MOST_BYTES).decode("utf-8").replace("\r\n", "\n")
        return from_dict(tomllib.loads(text))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); `minimask recipes fcn > my.toml` writes a recipe "
                         "to begin with") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is no TOML of a recipe: it is nested too deeply") from error
    except ValueError as error:  # no TOML, no text, too long, or a number of more digits than Python turns into one
        raise UsageError(f"{path} is no TOML: {error}{_newer(text)}") from error


def _newer(text: str) -> str:
    """What to say where a text may be no TOML only because this Python reads an earlier version of it."""
    import re

    if sys.version_info >= (3, 15) or not re.search(NEW_IN_TOML, text):
        return ""
    return (f"; Python {sys.version_info[0]}.{sys.version_info[1]} reads TOML 1.0, and what 1.1 added (\\e and \\x in "
            "texts, line ends and a last comma in a table between braces) needs Python 3.15")


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data; UsageError for unknown and missing keys and for what :class:`Recipe` refuses."""
    _check("recipe", {key: value for key, value in values.items() if key not in TYPES}, TYPES)
    missing = [key for key in ("name", "about", "epochs", "lr", "wd") if key not in values]
    if missing:
        raise UsageError(f"recipe lacks {', '.join(missing)}; `minimask recipes fcn` shows a whole one")
    return Recipe(**values)
