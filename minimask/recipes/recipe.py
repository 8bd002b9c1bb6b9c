"""What to train and how, as frozen data with a name: a recipe. table.py has those that come with minimask.

A recipe is plain data: :meth:`Recipe.toml` writes it down, and :func:`read` reads such a file back.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data, losses, models, nn, optim, optimizers, own, resnet, schedules
from ..engine import Tensor
from ..errors import UsageError, unknown
from ..fields import MOST_TEXT, MOST_WHOLE, brief, content
from ..inputs import setting
from ..mask import BinarySupermask, EdgePopup, SignedSupermask, Trained, WeightSource

if TYPE_CHECKING:  # imported where it is used: `import minimask` stays quick
    from pathlib import Path

SOURCES: dict[str, Any] = {"trained": Trained, "signed-supermask": SignedSupermask, "binary": BinarySupermask,
                           "edge-popup": EdgePopup}
SCHEDULES, LOSSES, METRICS, OPTIMIZERS = schedules.SCHEDULES, losses.LOSSES, losses.METRICS, optimizers.OPTIMIZERS
#: The keys that name a thing which is made with settings, and what is known by name; a name with a colon is own code.
KINDS: dict[str, Collection[str]] = {"source": SOURCES, "schedule": SCHEDULES, "model": models.MODELS, "loss": LOSSES,
                                     "optimizer": OPTIMIZERS}

Types = Mapping[str, type]
_INITIAL: Types = {"frozen": str, "frozen_distribution": str, "frozen_factor": float, "scores": str,
                   "scores_distribution": str}
_NET: Types = {"activation": str}
_RESNET: Types = {"width": int, "norm": str, **_NET}
#: The settings of every weight source, schedule, model, loss and optimizer that has some, and their types.
SETTINGS: dict[str, Types] = {
    "trained": {"init": str, "distribution": str, "factor": float},
    "signed-supermask": {**_INITIAL, "tau": float, "tau_ratio": float},
    "binary": {**_INITIAL, "tau": float, "tau_ratio": float},
    "edge-popup": {**_INITIAL, "share": float},
    **schedules.SETTINGS, **losses.settings_types(), **optimizers.SETTINGS, **data.KINDS,
    **{name: _NET for name in models.MODELS}, **{name: _RESNET for name in resnet.RESNETS}}
TYPES: Types = {"name": str, "about": str, "epochs": int, "lr": float, "wd": float, "model": str,
                "model_settings": dict, "dataset": str, "augment": bool, "source": str, "source_settings": dict,
                "batch": int, "momentum": float, "schedule": str, "schedule_settings": dict,
                "dataset_settings": dict, "preprocess": str, "loss": str, "loss_settings": dict, "optimizer": str,
                "optimizer_settings": dict, "metric": str, "test_loss": bool}
#: Keys that recipes of before do not have: left out of records and files where they stand at these, their defaults.
NEWER: dict[str, Any] = {"dataset_settings": {}, "preprocess": "", "loss": "cross-entropy", "loss_settings": {},
                         "optimizer": "sgdw", "optimizer_settings": {}, "metric": "", "test_loss": False}
#: The largest number that is finite: a whole one may be larger.
MOST = sys.float_info.max
#: From where to where a number may lie, the ends included.
RANGES = {"epochs": (1, 1_000_000), "batch": (1, 1_000_000), "lr": (1e-9, 1e3), "wd": (0, 0.999),
          "momentum": (0, 0.999)}
#: Characters of a name, which folders are called by; of a data set's, which may hold a path; ResNets' width, times that
#: of the paper; bytes of a file.
MOST_NAME, MOST_DATASET, MOST_WIDTH, MOST_BYTES = 100, 1000, 64, 64_000


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of but its seed; checked when it is made.

    Attributes:
        name: letters, digits, '.', '_' and '-'; a run's folder has that name. about: one line on what it is.
        epochs, batch: passes over the training images, images a step.
        lr, wd: of the optimizer. momentum: of 'sgdw' (:class:`minimask.optim.SGDW`).
        model, model_settings: builder in :data:`minimask.models.MODELS`, a ResNet's `width` and `norm`, and
            any net's `activation` (ELU unless given; minimask.layers.ACTIVATIONS).
        dataset, dataset_settings: name in :mod:`minimask.data`, folder:DIR, npz:FILE or csv:FILE, and the settings of
            these (:data:`minimask.data.KINDS`). augment: pad, flip and crop its training images.
        preprocess: of its images, a name in :data:`minimask.data.PREPROCESSINGS`; "" for what the data set says.
        source, source_settings: the weight source, a name in SOURCES, and its arguments.
        schedule, schedule_settings: of lr and wd. 'exponential': they fall by the factor `rate` (0.9) every so many
            `epochs` (10), smoothly. 'plateau': they are cut when the training loss stops falling, with the arguments
            of :class:`minimask.plateau.Plateau`. Others are in :mod:`minimask.schedules`; each but 'plateau' takes a
            `warmup` of so many epochs.
        loss, loss_settings: a name in :data:`minimask.losses.LOSSES`, and its arguments. metric: a name in
            :data:`minimask.losses.METRICS`, told of the held-out images after every epoch; none unless given.
            test_loss: whether their loss is told, too.
        optimizer, optimizer_settings: a name in :data:`minimask.optimizers.OPTIMIZERS`, and its arguments, with those
            of :func:`minimask.optimizers.build`: `clip_norm`, `undecayed`.
        code: the leave to import own code, ``module:object`` in place of a name (:mod:`minimask.own`); no part of the
            recipe. A recipe without it can be read and compared, and only what is minimask's can be made of it.

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
    dataset_settings: Mapping[str, Any] = field(default_factory=dict)
    preprocess: str = ""
    loss: str = "cross-entropy"
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "sgdw"
    optimizer_settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    test_loss: bool = False
    code: own.Code | None = field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        where = f"recipe {brief(self.name)}"
        _check(where, self._values(), TYPES)
        self._texts()
        if not self.name.strip(".") or not all(c.isascii() and (c.isalnum() or c in "._-") for c in self.name):
            raise UsageError(f"{where}: a name is made of letters, digits, '.', '_' and '-'")
        for key, most in (("name", MOST_NAME), ("dataset", MOST_DATASET if data.kind_of(self.dataset) else MOST_NAME)):
            if not 0 < len(getattr(self, key)) <= most:
                raise UsageError(f"{where}: {key} has {len(getattr(self, key))} characters; it may have 1 to {most}")
        for key, (low, high) in RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise UsageError(f"{where}: {key} is {value}; the nearest that it may be is "
                                 f"{low if value < low else high}")
        for kind, known in KINDS.items():
            chosen = getattr(self, kind)
            if own.is_own(chosen):
                own.refuse_name(f"{where}: {kind}", chosen)
                own.refuse_settings(f"{where}: {kind} {chosen!r}", getattr(self, f"{kind}_settings"))
                continue
            if chosen not in known:
                raise UsageError(f"{where}: {unknown({'source': 'weight source'}.get(kind, kind), chosen, known)}")
            _check(f"{where}: {kind} {chosen!r}", getattr(self, f"{kind}_settings"), SETTINGS.get(chosen, {}))
        _check(f"{where}: dataset {brief(self.dataset)}", self.dataset_settings, self._types("dataset"))
        for kind in ("preprocess", "metric"):
            if own.is_own(getattr(self, kind)):
                own.refuse_name(f"{where}: {kind}", getattr(self, kind))
        if not own.is_own(self.preprocess) and self.preprocess not in ("", *data.PREPROCESSINGS):
            raise UsageError(f"{where}: {unknown('preprocessing', self.preprocess, data.PREPROCESSINGS)}")
        self._floats()
        try:  # the values of the settings, by those who know them
            if not own.is_own(self.source):
                self.weights()
            if not own.is_own(self.schedule):
                self.schedule_of(1)
            if not own.is_own(self.loss):
                LOSSES[self.loss](**self.loss_settings)
            if self.metric and not own.is_own(self.metric):
                losses.metric_of(self.metric)
            momentum = self._momentum()
            if not own.is_own(self.optimizer):
                optimizers.check(self.optimizer, self.lr, self.wd, **momentum, **self.optimizer_settings)
            if not own.is_own(self.model):
                if self.model_settings.get("width", 1) > MOST_WIDTH:
                    raise UsageError(f"width is {self.model_settings['width']}; the nearest that it may be is "
                                     f"{MOST_WIDTH}")
                resnet.check_settings(**self.model_settings)
        except (UsageError, ValueError) as error:
            raise UsageError(f"{where}: {error}") from error

    def _texts(self) -> None:
        """A whole number that a data set's setting may be, as a text: label = 1 and size = 32 need no quotes."""
        types, given = self._types("dataset"), self.dataset_settings
        if any(types.get(name) is str and type(value) is int for name, value in given.items()):
            object.__setattr__(self, "dataset_settings", {
                name: str(value) if types.get(name) is str and type(value) is int else value
                for name, value in given.items()})

    def _floats(self) -> None:
        """A number that may have a fraction becomes a float: lr = 1 and lr = 1.0 are one recipe, with one digest."""
        for key, kind in TYPES.items():
            value = getattr(self, key)
            if kind is float:
                object.__setattr__(self, key, setting(value))
            elif kind is dict:
                types = self._types(key.removesuffix("_settings"))
                object.__setattr__(self, key, {name: setting(each) if types.get(name) is float else each
                                               for name, each in value.items()})

    def _types(self, kind: str) -> Types:
        """The types of the settings of a source, schedule, model or data set."""
        chosen = data.kind_of(self.dataset) if kind == "dataset" else getattr(self, kind)
        return SETTINGS.get(chosen, {})

    def own_code(self) -> dict[str, str]:
        """What of it is own code: key -> ``module:object``."""
        return {kind: getattr(self, kind) for kind in (*KINDS, "preprocess", "metric")
                if own.is_own(getattr(self, kind))}

    def prepared(self, dataset: data.Dataset) -> data.Dataset:
        """The data set with this recipe's preprocessing, where it names one, learned from the training images."""
        if not self.preprocess:
            return dataset
        if not own.is_own(self.preprocess):
            return replace(dataset, preprocess=self.preprocess)
        with own.blamed(f"recipe {brief(self.name)}: preprocess = {self.preprocess!r}: "):
            found = data.fitted(self.own_preprocess(), dataset.train_images, self.preprocess)
        return replace(dataset, preprocess=found)

    def own_preprocess(self) -> Any:
        """The own code that its preprocessing is. Errors: see own.find."""
        return self._find("preprocess")

    def resolve(self) -> Recipe:
        """Itself, after its own code has been imported: what is wrong with it is said now. Errors: see own.find."""
        for kind in self.own_code():
            self._find(kind)
        return self

    def _find(self, kind: str) -> Callable[..., Any]:
        return own.find(f"recipe {brief(self.name)}: {kind}", getattr(self, kind), self.code)

    def _make_own(self, kind: str, fits: Callable[[Any], bool], needed: str, *args: Any, **more: Any) -> Any:
        """What own code makes of these arguments and its settings, which must fit; OwnError, UsageError."""
        function, settings = self._find(kind), getattr(self, f"{kind}_settings")
        where = f"recipe {brief(self.name)}: {kind} = {getattr(self, kind)!r}"
        with own.blamed(f"{where}: "):
            try:
                inspect.signature(function).bind(*args, **more, **settings)
            except TypeError as error:
                given = ", ".join([*(str(each)[:40] for each in args), *more, *settings])
                raise UsageError(f"{where} does not take what it is given ({given}): {error}") from error
            except ValueError:  # of what has no signature
                pass
            made = function(*args, **more, **settings)
        if not fits(made):
            raise UsageError(f"{where} gives a {type(made).__name__}, but needed is {needed}")
        return made

    def weights(self) -> WeightSource:
        """The weight source, as a template."""
        if own.is_own(self.source):
            return self._make_own("source", lambda made: hasattr(made, "draw"), "a weight source, with a method draw")
        return SOURCES[self.source](**self.source_settings)

    def schedule_of(self, steps_per_epoch: int) -> optim.Schedule:
        """The factor on lr and wd, as a function of the step."""
        if own.is_own(self.schedule):
            schedule = self._make_own("schedule", callable, "a function of the step", steps_per_epoch)
            self._refuse_factor(schedule)
            return schedule
        return SCHEDULES[self.schedule](steps_per_epoch, **self.schedule_settings)

    def _refuse_factor(self, schedule: Callable[[int], Any]) -> None:
        """UsageError where the factor at the first step is none."""
        where = f"recipe {brief(self.name)}: schedule = {self.schedule!r}"
        with own.blamed(f"{where}: "):
            factor = schedule(0)
        try:
            known = 0 <= float(factor) < math.inf
        except (TypeError, ValueError):
            known = False
        if not known:
            raise UsageError(f"{where} gives {brief(factor)} at step 0, but needed is a factor of 0 or more")

    def judge(self) -> losses.Judge:
        """What is minimised, and what is told of held-out images."""
        metric = self._find("metric") if own.is_own(self.metric) else losses.metric_of(self.metric or None)
        return losses.Judge(self.loss_of(), self.test_loss, metric)

    def loss_of(self) -> losses.Loss:
        """What is minimised; own code is the loss itself, or makes it: where it has settings or takes no pair."""
        if not own.is_own(self.loss):
            return LOSSES[self.loss](**self.loss_settings)
        loss = self._find("loss")
        if self.loss_settings or not losses.takes_two(loss):
            loss = self._make_own("loss", callable, "a loss, a function of outputs and targets")
        return losses.of(loss)

    def build(self, dataset: data.Dataset, rng: np.random.Generator, backend: str = "numpy") -> nn.Sequential:
        """The net, sized for the data set's images and classes, drawn from rng."""
        return self._build(dataset.input_shape, len(dataset.classes), self.weights(), rng, backend)

    def _build(self, input_shape: tuple[int, ...], classes: int, weights: WeightSource, rng: np.random.Generator,
               backend: str = "numpy") -> nn.Sequential:
        common: dict[str, Any] = {"weights": weights, "rng": rng, "input_shape": input_shape, "backend": backend}
        if own.is_own(self.model):
            return self._make_own("model", lambda made: isinstance(made, nn.Sequential), "a minimask.nn.Sequential",
                                  classes=classes, **common)
        end: dict[str, Any] = {"units": (*models.FCN[:-1], classes)} if self.model == "fcn" else {"classes": classes}
        try:
            return models.MODELS[self.model](**common, **end, **self.model_settings)
        except ValueError as error:
            raise UsageError(f"recipe {brief(self.name)}: model {self.model!r} is not for samples of "
                             f"{' x '.join(map(str, input_shape))}, smaller than it halves them ({error}); take 'fcn', "
                             "or larger images") from error

    def size(self, input_shape: tuple[int, ...] | None = None, classes: Sequence[str] | None = None) -> int:
        """How many weights its net has, on its data set unless others' shape and classes are given; none is drawn."""
        shape, classes = data.outline(self.dataset) if input_shape is None else (input_shape, classes)
        assert classes is not None
        undrawn: Any = _Undrawn()
        return self._build(shape, len(classes), undrawn, np.random.default_rng(0)).size()

    def optimizer_of(self, net: nn.Sequential, dataset: data.Dataset) -> optim.SGD:
        """The optimizer over the net's parameters, with this recipe's schedule."""
        schedule = self.schedule_of(math.ceil(len(dataset.train_images) / self.batch))
        if own.is_own(self.optimizer):
            made = self._make_own("optimizer", lambda made: isinstance(made, optim.SGD), "a minimask.optim.SGD",
                                  net.parameters(), self.lr, self.wd, schedule=schedule)
            if self.schedule != "constant" and self._ignores_schedule([p.data.ndim for p in net.parameters()]):
                warnings.warn(f"recipe {brief(self.name)}: optimizer = {self.optimizer!r} ignores the schedule that it "
                              f"is given, {self.schedule!r}: its steps are the same whatever the factor; hand schedule "
                              "to optim.SGD and multiply lr by update's factor, or say schedule = \"constant\"",
                              UserWarning, stacklevel=2)
            return made
        return optimizers.build(self.optimizer, net, self.lr, self.wd, schedule, **self._momentum(),
                                **self.optimizer_settings)

    def _ignores_schedule(self, axes: Sequence[int]) -> bool:
        """Whether own code's steps are the same under two factors: tried on as many parameters as the net has, with so
        many axes each, of one number. Where it takes none such it is not known, and nothing is said."""
        ends = []
        for factor in (1.0, 0.5):
            parameters = [Tensor(np.zeros((1,) * each), requires_grad=True) for each in axes]
            try:
                optimizer = self._find("optimizer")(parameters, self.lr, self.wd, schedule=lambda step, at=factor: at,
                                                    **self.optimizer_settings)
                for _ in range(3):  # a warm-up of its own may begin with 0
                    for p in parameters:
                        p.grad = np.ones_like(p.data)
                    optimizer.step()
            except Exception:
                return False
            ends.append([p.data for p in parameters])
        return all(np.array_equal(one, other) for one, other in zip(*ends))

    def _momentum(self) -> dict[str, Any]:
        """SGDW's, as an argument; UsageError where another optimizer would not look at it."""
        if self.optimizer == "sgdw":
            return {"momentum": self.momentum}
        if self.momentum != 0.9:
            raise UsageError(f"momentum {self.momentum} is of optimizer 'sgdw', and {self.optimizer!r} does not look "
                             "at it; leave it out")
        return {}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for record.json; ``Recipe(**that)`` is this recipe again."""
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in self._values().items()}

    def _values(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items()
                if key != "code" and not (key in NEWER and value == NEWER[key])}

    def toml(self) -> str:
        """The recipe as TOML, which :func:`read` reads back from a file."""
        values = self.as_dict()
        tables = {key: values.pop(key, {}) for key in TYPES if TYPES[key] is dict}
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


#: What tells that a folder is a run's or a sweep's.
MADE = ("record.json", "sweep.json")


def read(path: str | Path, trust: bool = False) -> Recipe:
    """The recipe in a TOML file, as :meth:`Recipe.toml` writes it; UsageError for anything else.

    Who names a recipe file gives it leave to import the own code that it names, from its folder first, as who starts a
    script lets it import what lies beside it; nothing is imported yet. But what lies in a run's or a sweep's folder,
    however deep, or is a link from there, came with that, and may be anybody's: it takes `trust`.
    """
    import pathlib
    import tomllib

    text = ""
    try:
        text = content(pathlib.Path(path), MOST_BYTES).decode("utf-8").replace("\r\n", "\n")
        folder = pathlib.Path(path).resolve().parent
        above = {*folder.parents, folder, *pathlib.Path(os.path.abspath(path)).parents}
        came_along = any((place / name).exists() for place in above for name in MADE)
        return from_dict(tomllib.loads(text), own.Code(str(folder)) if trust or not came_along else None)
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


def from_dict(values: Mapping[str, Any], code: own.Code | None = None) -> Recipe:
    """A recipe from plain data; UsageError for unknown and missing keys and for what :class:`Recipe` refuses.

    code: the leave to import own code that it names; plain data gives none, wherever it is from.
    """
    _check("recipe", {key: value for key, value in values.items() if key not in TYPES}, TYPES)
    missing = [key for key in ("name", "about", "epochs", "lr", "wd") if key not in values]
    if missing:
        raise UsageError(f"recipe lacks {', '.join(missing)}; `minimask recipes fcn` shows a whole one")
    return Recipe(**values, code=code)
