"""The schedule that watches the training loss: the paper's ResNets. Beside the path."""

import math
from typing import Any

from .errors import UsageError


class Plateau:
    """Multiplies the factor by `factor` when the training loss stops falling: the paper's ResNets.

    Call ``observe(loss)`` after every epoch. A loss counts as lower if it is by more than `min_delta`; after
    `patience` epochs without that the factor is cut, then `cooldown` epochs are not counted. ``finished`` is
    True after `max_cuts` cuts: training may stop.

    Args:
        factor: in (0, 1); 0.2 for ResNet20, 0.1 for ResNet56 and 110. patience, cooldown: epochs.
    """

    def __init__(self, factor: float = 0.2, patience: int = 15, cooldown: int = 10, min_delta: float = 1e-4,
                 max_cuts: int = 5):
        if not 0 < factor < 1 or patience < 1 or cooldown < 0 or max_cuts < 1:
            raise UsageError(f"Plateau: factor {factor} must lie in (0, 1), patience {patience} and max_cuts "
                             f"{max_cuts} be 1 or more, cooldown {cooldown} 0 or more")
        self.factor, self.patience, self.cooldown = float(factor), patience, cooldown
        self.min_delta, self.max_cuts = float(min_delta) + 0.0, max_cuts
        self.best, self.waited, self.cooling, self.cuts = math.inf, 0, 0, 0

    def settings(self) -> dict[str, float]:
        """Its arguments, by name."""
        return {"factor": self.factor, "patience": self.patience, "cooldown": self.cooldown,
                "min_delta": self.min_delta, "max_cuts": self.max_cuts}

    def state(self) -> dict[str, Any]:
        """What it has seen, as plain data for JSON: best loss (None before the first), epochs waited, cooling, cuts."""
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "waited": self.waited, "cooling": self.cooling, "cuts": self.cuts}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what state() gave; ValueError for anything else."""
        best, counts = state["best"], [state["waited"], state["cooling"], state["cuts"]]
        if not (best is None or type(best) is float) or not all(type(n) is int and n >= 0 for n in counts):
            raise ValueError(f"Plateau: {state} is no state of it")
        self.best = math.inf if best is None else best
        self.waited, self.cooling, self.cuts = counts

    def __call__(self, step: int) -> float:
        return self.factor ** self.cuts

    @property
    def finished(self) -> bool:
        return self.cuts >= self.max_cuts

    def observe(self, loss: float) -> None:
        """Takes note of an epoch's training loss, and cuts if it is time."""
        if self.finished:
            return
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if loss < self.best - self.min_delta:
            self.best, self.waited = loss, 0
        elif not self.cooling:
            self.waited += 1
            if self.waited >= self.patience:
                self.cuts, self.cooling, self.waited = self.cuts + 1, self.cooldown, 0
