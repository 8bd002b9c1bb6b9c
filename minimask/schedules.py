r"""Schedules beside exponential decay and the plateau: cosine, linear, steps, a warm-up, and several composed.

Each is a frozen dataclass and a function of the step t = 0, 1, 2, ..., as optim.py has it; what it was made of is in a
checkpoint, so that no run goes on with another one. SCHEDULES has them by name, for recipes, which count in epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .errors import UsageError
from .optim import Plateau, Schedule, constant, exponential


def described(schedule: Any) -> Any:
    """What a schedule is made of, as plain data: {} for a function, which does not tell."""
    return schedule.settings() if hasattr(schedule, "settings") else {}


class Described:
    """A schedule that tells what it is made of."""

    def settings(self) -> dict[str, Any]:
        """Its kind and its fields, those of schedules in it, too: plain data for JSON."""
        told: dict[str, Any] = {"kind": type(self).__name__}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            told[field.name] = ([described(each) if callable(each) else each for each in value]
                                if isinstance(value, tuple) else described(value) if callable(value) else value)
        return told


@dataclass(frozen=True)
class Cosine(Described):
    r"""least + (1 - least) (1 + cos(pi t / steps)) / 2, then `least` (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    steps: float
    least: float = 0.0

    def __post_init__(self) -> None:
        _check_fall("cosine", self.steps, self.least)

    def __call__(self, step: int) -> float:
        return self.least + (1 - self.least) * (1 + math.cos(math.pi * min(step / self.steps, 1.0))) / 2


@dataclass(frozen=True)
class Linear(Described):
    """From 1 to `least` in a straight line, in so many steps; then `least`."""

    steps: float
    least: float = 0.0

    def __post_init__(self) -> None:
        _check_fall("linear", self.steps, self.least)

    def __call__(self, step: int) -> float:
        return 1 + (self.least - 1) * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class Step(Described):
    """factor^k after k times `every` steps: stairs."""

    every: float
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.every < math.inf or not 0 < self.factor <= 1:
            raise UsageError(f"step: every {self.every} must be above 0 and factor {self.factor} lie in (0, 1]")

    def __call__(self, step: int) -> float:
        return float(self.factor ** (step // self.every))


@dataclass(frozen=True)
class Warmup(Described):
    """(t + 1) / steps in the first `steps` steps, then another schedule from its own step 0 on."""

    steps: int
    then: Schedule = constant

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UsageError(f"warm-up: {self.steps} steps; give 0 or more")
        _refuse_plateau("warm-up", self.then)

    def __call__(self, step: int) -> float:
        return min((step + 1) / self.steps, 1.0) if step < self.steps else self.then(step - self.steps)


@dataclass(frozen=True)
class Sequence(Described):
    """One schedule after the other, each from its own step 0 on: ``Sequence((100, 400), (a, b, c))``.

    Args:
        until: the steps at which the next one begins, rising; one fewer than schedules.
    """

    until: tuple[int, ...]
    schedules: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "until", tuple(self.until))
        object.__setattr__(self, "schedules", tuple(self.schedules))
        if len(self.schedules) != len(self.until) + 1 or not all(
                a < b for a, b in zip((0, *self.until), self.until)):
            raise UsageError(f"Sequence: {len(self.schedules)} schedules and the steps {self.until}; give one more "
                             "schedule than steps at which the next begins, which rise from above 0")
        _refuse_plateau("Sequence", *self.schedules)

    def __call__(self, step: int) -> float:
        at = sum(step >= until for until in self.until)
        return self.schedules[at](step - (0, *self.until)[at])


@dataclass(frozen=True)
class Product(Described):
    """The factors of several schedules, multiplied: ``Product((Warmup(500), Step(10_000)))``."""

    schedules: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedules", tuple(self.schedules))
        _refuse_plateau("Product", *self.schedules)

    def __call__(self, step: int) -> float:
        return math.prod(float(schedule(step)) for schedule in self.schedules)


def _check_fall(name: str, steps: float, least: float) -> None:
    if not 0 < steps < math.inf or not 0 <= least <= 1:
        raise UsageError(f"{name}: it falls in {steps:g} steps to {least:g}; give more than 0 steps (in a recipe: "
                         "epochs), and a least factor from 0 to 1")


def _refuse_plateau(name: str, *schedules: Any) -> None:
    for each in schedules:
        if isinstance(each, Plateau) or not callable(each):
            raise UsageError(f"{name}: {type(each).__name__} cannot be part of another schedule; give functions of the "
                             "step, and use a Plateau, which watches the loss, alone")


# ---- by name, in epochs --------------------------------------------------------------------------------------------


def _constant(steps_per_epoch: int, warmup: float = 0.0) -> Schedule:
    """The factor 1."""
    return _warmed(constant, steps_per_epoch, warmup)


def _exponential(steps_per_epoch: int, rate: float = 0.9, epochs: float = 10.0, warmup: float = 0.0) -> Schedule:
    """It falls by `rate` every so many epochs, smoothly."""
    return _warmed(exponential(rate, every=epochs * steps_per_epoch), steps_per_epoch, warmup)


def _plateau(steps_per_epoch: int, **settings: Any) -> Schedule:
    """It is cut when the training loss stops falling, which is looked at once an epoch."""
    return Plateau(**settings)


def _cosine(steps_per_epoch: int, epochs: float = 0.0, least: float = 0.0, warmup: float = 0.0) -> Schedule:
    """Half a cosine from 1 to `least` in so many epochs, which must be said: no step depends on how many there are."""
    return _warmed(Cosine(epochs * steps_per_epoch, least), steps_per_epoch, warmup)


def _linear(steps_per_epoch: int, epochs: float = 0.0, least: float = 0.0, warmup: float = 0.0) -> Schedule:
    """From 1 to `least` in a straight line, in so many epochs."""
    return _warmed(Linear(epochs * steps_per_epoch, least), steps_per_epoch, warmup)


def _step(steps_per_epoch: int, epochs: float = 30.0, factor: float = 0.1, warmup: float = 0.0) -> Schedule:
    """Times `factor` every so many epochs."""
    return _warmed(Step(epochs * steps_per_epoch, factor), steps_per_epoch, warmup)


def _warmed(schedule: Schedule, steps_per_epoch: int, warmup: float) -> Schedule:
    """After so many epochs of linear warm-up, from there on; without one the schedule itself."""
    if not 0 <= warmup < 1e9:
        raise UsageError(f"warmup is {warmup} epochs; give 0 or more")
    return Warmup(math.ceil(warmup * steps_per_epoch), schedule) if warmup else schedule


#: By name, as recipes have them: (steps_per_epoch, **settings) -> schedule.
SCHEDULES: dict[str, Any] = {"exponential": _exponential, "plateau": _plateau, "constant": _constant, "cosine": _cosine,
                             "linear": _linear, "step": _step}
_WARM: Mapping[str, type] = {"warmup": float}
#: Their settings, and the types of these.
SETTINGS: Mapping[str, Mapping[str, type]] = {
    "exponential": {"rate": float, "epochs": float, **_WARM},
    "plateau": {"factor": float, "patience": int, "cooldown": int, "min_delta": float, "max_cuts": int},
    "constant": _WARM,
    "cosine": {"epochs": float, "least": float, **_WARM},
    "linear": {"epochs": float, "least": float, **_WARM},
    "step": {"epochs": float, "factor": float, **_WARM}}
