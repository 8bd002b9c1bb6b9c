"""The recipes that come with minimask, made from the paper's table; `minimask recipes` lists them.

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

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from .. import init
from ..errors import unknown
from .recipe import Recipe, read


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
#: Threshold, wd, and the epochs in which it and lr fall to 0 along a cosine: Conv2's was chosen on held-out training
#: images, Conv4 has the same with less decay, as its paper's share is larger. Conv6 and Conv8 have the published
#: threshold, with which they begin well, ResNet20 its own (benchmarks/README.md, CIFAR-10).
FAST: dict[str, tuple[dict[str, float], float, int]] = {
    "conv2": ({"tau": 0.01}, 7.5e-4, 24), "conv4": ({"tau": 0.01}, 5.25e-4, 24),
    "conv6": ({"tau_ratio": 0.4}, 3e-4, 24), "conv8": ({"tau_ratio": 0.4}, 3e-4, 24),
    "resnet20": ({"tau_ratio": 0.75}, 1e-4, 30)}
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
    if net in FAST:
        threshold, wd, epochs = FAST[net]
        like = absolute if "tau" in threshold else published
        yield replace(like, name=f"{net}-fast", about=f"{like.about}, in {epochs} epochs", wd=wd, epochs=epochs,
                      source_settings={**settings, **threshold}, schedule="cosine",
                      schedule_settings={"epochs": float(epochs)})
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
    yield Recipe("digits", "the demo: FCN on the bundled digits", dataset="digits", epochs=150, lr=0.05, wd=0.02,
                 schedule_settings={"epochs": 4}, source_settings={"tau": 0.001})
    yield Recipe("digits-dense", "the demo's dense baseline", dataset="digits", epochs=50, lr=0.01, wd=5e-4,
                 source="trained", source_settings={"init": "elu"})


RECIPES = {recipe.name: recipe for recipe in _all()}
#: What stood under a name in an earlier version: records of it still count.
FORMER = {"digits": replace(RECIPES["digits"], wd=3e-3, schedule_settings={"epochs": 15},
                            source_settings={"tau": 0.01})}
#: The paper's results, (test accuracy, weights left) as shares, of every recipe that stands for a row of it.
PAPER = {f"{net}{end}": (accuracy / 100, left / 100) for net, row in PUBLISHED.items() for end, accuracy, left in (
    *((end, row.masked, row.left) for end in ("", "-best", "-fast", "-published-config", "-tau")),
    ("-dense", row.dense, 100)) if f"{net}{end}" in RECIPES}
#: What was measured for this project, the same way: means over seeds of the records in benchmarks/records/.
MEASURED: dict[str, tuple[float, float]] = {
    "fcn": (0.9768, 0.0407), "fcn-best": (0.9752, 0.0366), "fcn-published-config": (0.9600, 0.0209),
    "fcn-dense": (0.9768, 1.0), "fcn-binary": (0.9716, 0.0468), "fcn-edge-popup": (0.9592, 0.1000),
}
#: The same of one seed on JPEG copies of CIFAR-10 (benchmarks/records/cifar10): not comparable with the paper's.
MEASURED_ON_COPIES: dict[str, tuple[float, float]] = {
    "conv2-fast": (0.6906, 0.0054), "conv2-published-config": (0.6587, 0.0069), "conv2-dense": (0.6805, 1.0),
    "conv4-fast": (0.7797, 0.0222), "conv4-published-config": (0.7457, 0.0132), "conv4-dense": (0.7197, 1.0),
    "conv6-fast": (0.7769, 0.0255),
}


def shipped(recipe: Recipe, table: Mapping[str, Recipe] = RECIPES) -> Recipe | None:
    """The recipe in `table` that this one is, but for what may be another each time: about, epochs, data set."""
    known = table.get(recipe.name)
    same = known and replace(known, about=recipe.about, epochs=recipe.epochs, dataset=recipe.dataset) == recipe
    return known if same else None


def find(name: str, trust: bool = False) -> Recipe:
    """The recipe of that name, or in the file of that name if it ends in '.toml'; trust: see :func:`read`.

    Raises:
        UsageError: there is none (the nearest name is given), or the file holds no recipe (what is wrong with it).
    """
    if name.endswith(".toml"):
        return read(name, trust)
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES, f"`minimask recipes` lists all {len(RECIPES)}")
    return RECIPES[name]
