"""The zoo: index.json says of every net what its record said, RECIPE-seedS.mmk beside it is the net.

One line classifies MNIST's test images, without training and without a network::

    classes, confidences = predict.classify(zoo.load("fcn", seed=1), images)   # images (n, 28, 28, 1), 0 to 255

`python benchmarks/zoo.py FOLDER` puts nets in, with the records that they were trained by.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, export, fields, nn, recipes
from ..errors import MinimaskError, UsageError, unknown
from ..mask import Supermask

HERE, INDEX, ENDING = Path(__file__).parent, "index.json", ".mmk"


@dataclass(frozen=True)
class Entry:
    """One net, by its record.

    Attributes:
        recipe, seed: what it was trained by, the recipe by its name. settings: that recipe, as plain data.
        dataset: what it was trained on. epochs: for how long.
        test_accuracy, weights_left: at the end, 0 to 1.
        unverified: trained and measured on files that are not known to be the official ones.
        counts: (kept, hidden, inverted) of each layer, in order.
        bytes, sha256: of its file.
    """

    recipe: str
    seed: int
    settings: Mapping[str, Any]
    dataset: str
    epochs: int
    test_accuracy: float
    weights_left: float
    unverified: bool
    counts: tuple[tuple[int, int, int], ...]
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.recipe}-seed{self.seed}"

    @property
    def path(self) -> Path:
        return HERE / f"{self.name}{ENDING}"


@functools.cache
def entries() -> dict[str, Entry]:
    """Every net of the zoo by its name, RECIPE-seedS, in the order of the index."""
    try:
        rows = fields.read(HERE / INDEX)["nets"]
        found = [Entry(**{**row, "counts": tuple(map(tuple, row["counts"]))}) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise MinimaskError(f"the zoo's {INDEX} is damaged ({error}); install minimask anew") from error
    return {entry.name: entry for entry in found}


def find(name: str, seed: int | None = None) -> Entry:
    """The net of that name: a recipe's ("fcn"; seed 0 unless given), or a recipe's and seed's ("fcn-seed3").

    A net whose recipe is one that comes with minimask under another name ("conv2-fast") has that name, too.

    Raises UsageError, with the nearest there is, for a recipe or a seed that the zoo has not got.
    """
    known = entries()
    if seed is not None and type(seed) is not int:
        raise UsageError(f"the zoo's nets have whole numbers for seeds, and {seed!r} is none")
    if seed is None and name in known:
        return known[name]
    named = re.fullmatch(r"(.+)-seed(-?\d{1,18})", str(name))
    recipe, wanted = (named[1], int(named[2])) if named else (str(name), seed)
    if named and seed not in (None, wanted):
        raise UsageError(f"{name} has seed {wanted} in its name, and seed {seed} was asked for; say one of them")
    recipe = _trained_by(recipe) or recipe
    seeds = [entry.seed for entry in known.values() if entry.recipe == recipe]
    if not seeds:
        listed = sorted({entry.recipe for entry in known.values()})
        raise unknown("net of the zoo", name, [*listed, *known], f"There are {', '.join(listed)}; `minimask zoo` lists "
                      "their seeds")
    wanted = min(seeds) if wanted is None else wanted
    if wanted not in seeds:
        nearest = min(seeds, key=lambda each: abs(each - wanted))
        raise UsageError(f"the zoo has no {recipe} with seed {wanted}; the nearest is {recipe}-seed{nearest}, there "
                         f"are seeds {', '.join(map(str, sorted(seeds)))}")
    return known[f"{recipe}-seed{wanted}"]


def _trained_by(name: str) -> str | None:
    """Under which name the zoo has nets of the recipe that comes with minimask under this one."""
    shipped = recipes.RECIPES.get(name)
    known = {entry.recipe: entry for entry in entries().values()}
    if shipped is None or name in known:
        return None
    return next((each for each, entry in known.items() if replace(
        recipes.from_dict(entry.settings), name=name, about=shipped.about) == shipped), None)


def load(name: str, seed: int | None = None, backend: str = "numpy") -> nn.Sequential:
    """A trained net of the zoo: (n, *input_shape) standardised images -> (n, classes) logits. Nothing in it is trained.

    Args:
        name, seed: as in :func:`find`. backend: array library that its weights live in.

    Raises:
        UsageError: the zoo has no such net. MinimaskError: its file is missing or is not the one of the index.
    """
    entry = find(name, seed)
    try:
        content = entry.path.read_bytes()
    except OSError as error:
        raise MinimaskError(f"the zoo's {entry.path.name} cannot be read ({error.strerror}); install minimask "
                            "anew") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise MinimaskError(f"the zoo's {entry.path.name} is damaged: it does not have the sha256 of the index; "
                            "install minimask anew")
    return export.read(content, str(entry.path), backend).net


def masked(name: str, seed: int | None = None) -> tuple[nn.Sequential, Entry]:
    """The same net as it was trained: frozen weights drawn from its seed, and scores that give its mask; and its entry.

    The scores are the mask itself (-1, 0, +1): what they were beside their decision, the zoo does not hold. So that
    :mod:`minimask.anatomy` can be asked of it.

    Raises, beside what load raises, MinimaskError where the frozen weights drawn here are not those of the net.
    """
    entry = find(name, seed)
    given, recipe = load(entry.name), recipes.from_dict(entry.settings)
    net = recipe.build(data.blank(entry.dataset), np.random.default_rng(entry.seed))
    for (layer, source), fixed in zip(net.weights().items(), given.weights().values()):
        effective = fixed.effective().data
        if not isinstance(source, Supermask):
            raise MinimaskError(f"zoo: layer {layer} of {entry.name} is not masked; zoo.load gives the net as it "
                                "is used")
        source.parameters()["scores"].data = np.sign(effective * source.frozen)
    if tuple(net.counts()) != entry.counts:
        raise MinimaskError(f"zoo: the frozen weights drawn again from seed {entry.seed} are not those of "
                            f"{entry.name}: NumPy {np.__version__} draws other numbers, or the index is damaged")
    return net, entry


def path_of(file: str) -> Path | str:
    """What a command was given for a file: itself where there is such a file or it looks like one, else the zoo's."""
    if (file and Path(file).exists()) or file.endswith(ENDING) or "/" in file or "\\" in file:
        return file
    return find(file).path
