r"""Read 8 of 8 · needs engine · SGD with Nesterov momentum and decoupled weight decay, and its schedules.

A schedule is a function of the step t = 0, 1, 2, ... that gives a factor; learning rate and weight decay are
both multiplied by it: lr_t = lr * schedule(t), wd_t = wd * schedule(t).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from .backend import Array, UsageError, asarray, namespace
from .engine import Tensor, version

Schedule = Callable[[int], float]


def constant(step: int) -> float:
    """The factor 1 at every step."""
    return 1.0


def exponential(rate: float = 0.9, every: float = 1.0) -> Schedule:
    """rate^(t / every), smoothly: after `every` steps the factor has fallen by `rate`.

    The paper's FCN and Conv nets: 0.9 every 10 epochs, so ``exponential(0.9, every=10 * steps_per_epoch)``.
    """
    if not 0 < rate <= 1 or not every > 0:
        raise UsageError(f"exponential: rate {rate} must lie in (0, 1] and every {every} above 0")
    return lambda step: rate ** (step / every)


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
        self.factor, self.patience, self.cooldown = factor, patience, cooldown
        self.min_delta, self.max_cuts = min_delta, max_cuts
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


class SGD:
    """Plain gradient descent, p <- p - lr_t g, without momentum or decay.

    Args:
        parameters: leaf Tensors; their order is kept.
        lr: learning rate, above 0. schedule: step -> factor.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, schedule: Schedule = constant):
        kind = type(self).__name__
        self.parameters = [] if isinstance(parameters, Tensor) else list(parameters)
        self.schedule, self.lr, self.steps = schedule, float(lr), 0
        if not self.parameters:
            raise UsageError(f"{kind}: no parameters to train; give net.parameters(), or a list of leaf Tensors")
        for i, p in enumerate(self.parameters):
            if not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf:
                what = "made by an op" if isinstance(p, Tensor) and not p.is_leaf else (
                    "without a gradient" if isinstance(p, Tensor) else repr(p))
                raise UsageError(f"{kind}: parameter {i} is {what}, but must be a leaf Tensor with requires_grad=True; "
                                 "give net.parameters()")
        if not callable(schedule):
            raise UsageError(f"{kind}: schedule is {schedule!r}, but must be a function of the step, such as "
                             "exponential(0.9, every=1000)")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"{kind}: lr is {lr}, but must be above 0")

    def step(self) -> None:
        """Updates every parameter from its `.grad`, in place, and counts the step.

        Raises:
            UsageError: a parameter has no gradient; call backward() first.
        """
        for i, p in enumerate(self.parameters):  # all of them before the first is changed
            if p.grad is None:
                raise UsageError(f"{type(self).__name__}: parameter {i} of shape {p.shape} has no gradient; "
                                 "call loss.backward() before step(), and check that the loss depends on it")
        factor = float(self.schedule(self.steps))  # a NumPy scalar would promote float32
        for i, p in enumerate(self.parameters):
            p.data = self.update(i, p.data, p.grad, factor)
        self.steps += 1

    def update(self, i: int, p: Array, g: Array, factor: float) -> Array:
        """The new value of parameter i, written into p."""
        p -= g * (self.lr * factor)
        return p

    def settings(self) -> dict[str, Any]:
        """Kind and arguments, but for the parameters and the schedule."""
        return {"optimizer": type(self).__name__, "lr": self.lr}

    def slots(self) -> dict[str, Array]:
        """The arrays that it keeps from step to step, by name; a subclass that has some names them here."""
        return {}

    def load_slots(self, slots: dict[str, Array]) -> None:
        """Takes back what slots() gave, from the host; the arrays are copied."""

    def zero_grad(self) -> None:
        """Forgets every `.grad`, so that the next backward() starts from nothing."""
        for p in self.parameters:
            p.grad = None


class SGDW(SGD):
    r"""SGD with Nesterov momentum and decoupled weight decay, as the paper's code trains (Keras form).

    At step t, with g the gradient taken before the step::

        m <- m - wd_t m                  decay, not multiplied by the learning rate
        v <- mu v - lr_t g               the learning rate is inside the velocity
        m <- m + mu v - lr_t g           Nesterov

    Two differences to ``torch.optim.SGD(nesterov=True)``: there the decay enters g, and the learning rate
    multiplies the velocity outside. Decoupled decay: Loshchilov and Hutter 2019, arXiv:1711.05101.

    Args:
        parameters: leaf Tensors; all of them are decayed.
        lr: learning rate, above 0. wd: weight decay per step, in [0, 1). momentum: mu, in [0, 1).
        schedule: step -> factor on both lr and wd.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, wd: float = 0.0, momentum: float = 0.9,
                 schedule: Schedule = constant):
        super().__init__(parameters, lr, schedule)
        self.wd, self.momentum = float(wd), float(momentum)
        if not 0 <= self.wd < 1 or not 0 <= self.momentum < 1:
            raise UsageError(f"SGDW: wd {wd} and momentum {momentum} must lie in [0, 1)")
        self.velocity: list[Any] = [namespace(p.data).zeros_like(p.data) for p in self.parameters]

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "wd": self.wd, "momentum": self.momentum}

    def slots(self) -> dict[str, Array]:
        return {f"velocity.{i}": v for i, v in enumerate(self.velocity)}

    def load_slots(self, slots: dict[str, Array]) -> None:
        self.velocity = [asarray(slots[name].copy(), v) for name, v in self.slots().items()]

    def update(self, i: int, p: Array, g: Array, factor: float) -> Array:
        xp = namespace(p)
        step = version("optim.nesterov", xp, nesterov)
        step(xp, p, self.velocity[i], g, self.lr * factor, 1.0 - self.wd * factor, self.momentum)
        return p


def nesterov(xp: Any, p: Array, v: Array, g: Array, rate: float, keep: float, momentum: float) -> None:
    """The step of SGDW, written into p and v: lr_t is `rate`, 1 - wd_t `keep`, mu `momentum`."""
    change = g * rate
    p *= keep
    p -= change
    v *= momentum
    v -= change
    p += v * momentum
