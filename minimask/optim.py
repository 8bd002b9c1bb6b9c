r"""Read 9 of 10 · needs engine · SGD with Nesterov momentum and decoupled weight decay, and its schedules.

A schedule is a function of the step t = 0, 1, 2, ... that gives a factor; learning rate and weight decay are
both multiplied by it: lr_t = lr * schedule(t), wd_t = wd * schedule(t).
"""

from collections.abc import Callable, Iterable
from typing import Any

from .backend import Array, asarray, namespace
from .engine import Tensor, version
from .errors import UsageError
from .inputs import check_gradients, check_optimizer
from .plateau import Plateau as Plateau

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


class SGD:
    """Plain gradient descent, p <- p - lr_t g, without momentum or decay.

    Args:
        parameters: leaf Tensors; their order is kept.
        lr: learning rate, above 0. schedule: step -> factor.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, schedule: Schedule = constant):
        self.parameters = [] if isinstance(parameters, Tensor) else list(parameters)
        self.schedule, self.lr, self.steps = schedule, float(lr), 0
        check_optimizer(type(self).__name__, self.parameters, self.lr, schedule)

    def step(self) -> None:
        """Updates every parameter from its `.grad`, in place, and counts the step.

        Raises:
            UsageError: a parameter has no gradient; call backward() first.
        """
        check_gradients(type(self).__name__, self.parameters)  # all of them before the first is changed
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
