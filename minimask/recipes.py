"""Recipes: what to train and how, as frozen data with a name. `minimask train NAME` runs one.

The supermask rows and their dense baselines are the published configurations of Koster et al. 2022; which
threshold rule gives the paper's table is a finding of ours, said in each recipe's `about`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import models, nn, optim
from .backend import UsageError, unknown
from .data import Dataset
from .mask import SignedSupermask, Trained, WeightSource

SOURCES: dict[str, Any] = {"trained": Trained, "signed-supermask": SignedSupermask}


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made of but its seed.

    Attributes:
        name, about: what the recipe is called, and one line on what it is.
        model: builder in :mod:`minimask.models`; dataset: name in :mod:`minimask.data`.
        source, source_settings: the weight source ('signed-supermask' or 'trained') and its arguments.
        epochs, batch: passes over the training images, images a step.
        lr, wd, momentum: of :class:`minimask.optim.SGDW`.
        decay, decay_epochs: lr and wd fall by the factor `decay` every so many epochs, smoothly.
    """

    name: str
    about: str
    epochs: int
    lr: float
    wd: float
    model: str = "fcn"
    dataset: str = "mnist"
    source: str = "signed-supermask"
    source_settings: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 128
    momentum: float = 0.9
    decay: float = 0.9
    decay_epochs: float = 10.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise UsageError(f"recipe {self.name!r}: epochs {self.epochs} and batch {self.batch} must be 1 or more")
        if self.source not in SOURCES:
            raise unknown("weight source", self.source, SOURCES)
        if self.model not in models.MODELS:
            raise unknown("model", self.model, models.MODELS)

    def weights(self) -> WeightSource:
        """The weight source, as a template."""
        return SOURCES[self.source](**self.source_settings)

    def build(self, dataset: Dataset, rng: np.random.Generator, backend: str = "numpy") -> nn.Sequential:
        """The net, sized for the data set's images and classes, drawn from rng."""
        classes = len(dataset.classes)
        end: dict[str, Any] = {"units": (*models.FCN[:-1], classes)} if self.model == "fcn" else {"classes": classes}
        return models.MODELS[self.model](weights=self.weights(), rng=rng, input_shape=dataset.input_shape,
                                         backend=backend, **end)

    def optimizer(self, net: nn.Sequential, dataset: Dataset) -> optim.SGDW:
        """SGDW over the net's parameters with this recipe's schedule."""
        steps_per_epoch = math.ceil(len(dataset.train_images) / self.batch)
        schedule = optim.exponential(self.decay, every=self.decay_epochs * steps_per_epoch)
        return optim.SGDW(net.parameters(), self.lr, self.wd, self.momentum, schedule)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for record.json."""
        return {**vars(self), "source_settings": dict(self.source_settings)}


RECIPES = {recipe.name: recipe for recipe in (
    Recipe("fcn", "FCN on MNIST with one absolute threshold; lands on the paper's row",
           epochs=100, lr=0.05, wd=5e-4, source_settings={"tau": 0.01}),
    Recipe("fcn-published-config", "the same with the published threshold rule; prunes harder than the paper's row",
           epochs=100, lr=0.05, wd=5e-4, source_settings={"tau_ratio": 0.4}),
    Recipe("fcn-dense", "its dense baseline: the same net, every weight trained",
           epochs=50, lr=0.01, wd=5e-4, source="trained", source_settings={"init": "elu"}),
    *(Recipe(name, f"{name.capitalize()} on CIFAR-10 with one absolute threshold; whole runs are not measured yet",
             epochs=100, lr=lr, wd=5e-4, model=name, dataset="cifar10", source_settings={"tau": 0.01})
      for name, lr in (("conv2", 0.04), ("conv4", 0.05), ("conv6", 0.05), ("conv8", 0.05))),
    Recipe("digits", "the demo: FCN on the bundled digits",
           dataset="digits", epochs=150, lr=0.05, wd=3e-3, decay_epochs=15, source_settings={"tau": 0.01}),
    Recipe("digits-dense", "the demo's dense baseline",
           dataset="digits", epochs=50, lr=0.01, wd=5e-4, source="trained", source_settings={"init": "elu"}),
)}


def find(name: str) -> Recipe:
    """The recipe of that name; UsageError with the nearest one otherwise."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
