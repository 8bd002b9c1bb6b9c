r"""Optimizers beside SGDW: Adam, and several as one, for parameter groups and clipped gradients.

Both are :class:`minimask.optim.SGD` to whoever holds them: slots, settings and steps are in a checkpoint, so a run that
was stopped goes on with the very numbers. OPTIMIZERS has those with a name, and :func:`build` makes those of recipes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from .backend import Array, asarray, namespace
from .engine import Tensor
from .errors import UsageError
from .inputs import check_gradients, check_optimizer
from .optim import SGD, SGDW, Schedule, constant

if TYPE_CHECKING:
    from .nn import Sequential


class Adam(SGD):
    r"""Adam (Kingma and Ba 2015, arXiv:1412.6980) with bias correction and decoupled weight decay (AdamW, 1711.05101).

    At step t = 1, 2, ..., with g the gradient taken before the step::

        p <- p - wd_t p                          decay, not multiplied by the learning rate, as SGDW has it
        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr_t (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    ``torch.optim.AdamW`` multiplies its decay by the learning rate: its weight_decay is wd / lr here.

    Args:
        parameters: leaf Tensors. lr: above 0. wd: weight decay per step, in [0, 1). beta1, beta2: in [0, 1). eps: above
            0. schedule: step -> factor on both lr and wd.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, wd: float = 0.0, beta1: float = 0.9,
                 beta2: float = 0.999, eps: float = 1e-8, schedule: Schedule = constant):
        super().__init__(parameters, lr, schedule)
        self.wd, self.beta1, self.beta2, self.eps = float(wd), float(beta1), float(beta2), float(eps)
        if not all(0 <= each < 1 for each in (self.wd, self.beta1, self.beta2)) or not 0 < self.eps < math.inf:
            raise UsageError(f"Adam: wd {wd}, beta1 {beta1} and beta2 {beta2} must lie in [0, 1), eps {eps} above 0")
        self.first: list[Any] = [namespace(p.data).zeros_like(p.data) for p in self.parameters]
        self.second: list[Any] = [namespace(p.data).zeros_like(p.data) for p in self.parameters]

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "wd": self.wd, "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}

    def slots(self) -> dict[str, Array]:
        return {f"{name}.{i}": array for name, arrays in (("first", self.first), ("second", self.second))
                for i, array in enumerate(arrays)}

    def load_slots(self, slots: dict[str, Array]) -> None:
        for name, arrays in (("first", self.first), ("second", self.second)):
            arrays[:] = [asarray(slots[f"{name}.{i}"].copy(), old) for i, old in enumerate(arrays)]

    def update(self, i: int, p: Array, g: Array, factor: float) -> Array:
        xp, m, v, t = namespace(p), self.first[i], self.second[i], self.steps + 1
        p *= 1 - self.wd * factor
        m *= self.beta1
        m += g * (1 - self.beta1)
        v *= self.beta2
        v += g * g * (1 - self.beta2)
        size = xp.sqrt(v / (1 - self.beta2**t)) + self.eps
        p -= m / size * (self.lr * factor / (1 - self.beta1**t))
        return p


class Groups(SGD):
    """Several optimizers as one: each has parameters, lr and wd of its own, and may be of another kind.

    ``Groups([SGDW(scores, 0.05, 5e-4), Adam(shifts, 1e-3)], clip_norm=1.0)``. With one in the list it only clips.

    Args:
        optimizers: of parameters of which none is in two, with one schedule for all.
        clip_norm: where the norm of all gradients together is larger, they are scaled down to it (Pascanu et al. 2013,
            arXiv:1211.5063); None leaves them.
    """

    def __init__(self, optimizers: Iterable[SGD], clip_norm: float | None = None):
        self.optimizers = list(optimizers)
        for each in self.optimizers:
            if not isinstance(each, SGD):
                raise UsageError(f"Groups: a {type(each).__name__} is no optimizer; give SGDW(...), Adam(...)")
            if each.schedule is not self.optimizers[0].schedule:
                raise UsageError("Groups: its optimizers have several schedules; make the schedule once and give it to "
                                 "each as schedule=")
        if clip_norm is not None and not 0 < clip_norm < math.inf:
            raise UsageError(f"Groups: clip_norm is {clip_norm}, but must be above 0; None clips nothing")
        self.clip_norm = None if clip_norm is None else float(clip_norm)
        self.parameters = [p for each in self.optimizers for p in each.parameters]
        check_optimizer("Groups", self.parameters, 1.0, constant)
        self.lr = self.optimizers[0].lr

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        return self.optimizers[0].schedule

    @property
    def steps(self) -> int:
        return self.optimizers[0].steps

    @steps.setter
    def steps(self, steps: int) -> None:
        for each in self.optimizers:
            each.steps = steps

    def step(self) -> None:
        check_gradients("Groups", self.parameters)  # all of them before the first is changed
        if self.clip_norm is not None:
            clip(self.parameters, self.clip_norm)
        for each in self.optimizers:
            each.step()

    def settings(self) -> dict[str, Any]:
        return {"optimizer": "Groups", "clip_norm": self.clip_norm, "groups": [each.settings()
                                                                              for each in self.optimizers]}

    def slots(self) -> dict[str, Array]:
        return {f"{i}.{name}": array for i, each in enumerate(self.optimizers) for name, array in each.slots().items()}

    def load_slots(self, slots: dict[str, Array]) -> None:
        for i, each in enumerate(self.optimizers):
            each.load_slots({name: slots[f"{i}.{name}"] for name in each.slots()})


def clip(parameters: Sequence[Tensor], norm: float) -> float:
    """Scales all gradients down where their norm, all together, is above `norm`; returns what it was.

    The sum of squares is that of gradients divided by the largest of them, so that it does not overflow.
    """
    gradients: list[Any] = [p.grad for p in parameters]
    largest = max((float(namespace(g).max(namespace(g).abs(g))) for g in gradients if math.prod(g.shape)), default=0.0)
    if not 0 < largest < math.inf:
        return largest  # NaN and infinity stay what they are, for whoever looks at the net
    found = largest * math.sqrt(sum(float(namespace(g).sum((g / largest) ** 2)) for g in gradients))
    if found > norm:
        for p, g in zip(parameters, gradients):
            p.grad = g * (norm / found)
    return found


#: By name, as recipes have them: (parameters, lr, wd, schedule=, **settings) -> optimizer.
OPTIMIZERS: dict[str, Any] = {"sgdw": SGDW, "adam": Adam}
#: Their settings in a recipe, and the types of these; SGDW's momentum is a key of its own there.
SETTINGS: dict[str, dict[str, type]] = {
    "sgdw": {"clip_norm": float, "undecayed": str},
    "adam": {"beta1": float, "beta2": float, "eps": float, "clip_norm": float, "undecayed": str}}


def build(name: str, net: Sequential, lr: float, wd: float, schedule: Schedule, clip_norm: float | None = None,
          undecayed: str = "", **settings: Any) -> SGD:
    """The optimizer of a recipe, over all of a net's parameters.

    Args:
        name: in OPTIMIZERS. clip_norm: see :class:`Groups`. settings: arguments of the optimizer itself.
        undecayed: patterns of parameters' names that get no weight decay, with commas: "*.scale, *.shift".

    Raises:
        UsageError: a pattern that no parameter's name fits.
    """
    named, patterns = net.named_parameters(), [each.strip() for each in undecayed.split(",") if each.strip()]
    for pattern in patterns:
        if not any(fnmatchcase(each, pattern) for each in named):
            raise UsageError(f"undecayed: no parameter is called {pattern!r:.60}; there are {', '.join(named)}")
    bare = {each: any(fnmatchcase(each, pattern) for pattern in patterns) for each in named}
    groups = [OPTIMIZERS[name](parameters, lr, decay, schedule=schedule, **settings) for parameters, decay in (
        ([p for each, p in named.items() if not bare[each]], wd), ([p for each, p in named.items() if bare[each]], 0.0))
        if parameters]
    return groups[0] if len(groups) == 1 and clip_norm is None and not patterns else Groups(groups, clip_norm)


def check(name: str, lr: float, wd: float, clip_norm: float | None = None, undecayed: str = "",
          **settings: Any) -> None:
    """UsageError where :func:`build` would refuse these, whatever the net."""
    import numpy as np

    trial = OPTIMIZERS[name]([Tensor(np.zeros(1), requires_grad=True)], lr, wd, **settings)
    Groups([trial], clip_norm)
