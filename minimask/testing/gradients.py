"""backward() against central differences, along random directions and for random cotangents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..backend import is_floating, load, to_host
from ..engine import Tensor, no_grad


class GradientError(AssertionError):
    """A gradient differs from central differences; the message gives the input and its first wrong element."""


def gradcheck(function: Callable[..., Tensor], *inputs: Any, rng: np.random.Generator | None = None,
              directions: int = 2, eps: float = 1e-5, rtol: float = 1e-5, cotangent: Any = None,
              **settings: Any) -> None:
    r"""Asserts that backward() through ``function(*inputs, **settings)`` gives the true derivative.

    With y = f(x), a random cotangent c and a random direction d, two numbers must agree for every input::

        <c, (f(x + eps d) - f(x - eps d)) / (2 eps)>    central differences
        <backward's gradient of <c, y>, d>

    The cotangent is never ones: a softmax sums to 1, so ones would pass a gradient of zero.

    Args:
        function: Tensors (and what else it takes) -> Tensor; smooth at the inputs: keep off kinks and ties.
        inputs: NumPy arrays of float64, which are checked; anything else is passed on as it is.
        rng: for c and d; unless given, a stream of its own: inputs are often drawn from default_rng(0), and a c that
            equals its x hides faults (a normalised row has no slope along itself).
        directions: how many d for each input.
        eps: step. Its error is of order eps^2 f''' = 1e-10, and rounding adds 1e-16 |y| / eps = 1e-11 |y|.
        rtol: relative tolerance, far above both errors and far below a factor of 1.01.
        cotangent: c, if it is to be a certain one: to see what a bad choice misses.

    Raises:
        GradientError: they disagree. TypeError: there is no float64 array to check, or the gradient is a surrogate.
    """
    rng = np.random.default_rng((0, 1)) if rng is None else rng
    checked = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and is_floating(x)]
    if not checked or any(inputs[i].dtype != np.float64 for i in checked):
        raise TypeError("gradcheck: give float64 arrays; float32 rounds too coarsely for central differences")
    leaves = [Tensor(x, requires_grad=True) if i in checked else x for i, x in enumerate(inputs)]
    y = function(*leaves, **settings)
    c = rng.standard_normal(y.shape) if cotangent is None else np.broadcast_to(cotangent, y.shape).astype(np.float64)
    if y.requires_grad:
        y.backward(c)
    name = getattr(function, "__name__", "function")
    if getattr(function, "surrogate", False):
        raise TypeError(f"gradcheck: the gradient of {name} is declared (straight-through), not derived; "
                        "differences cannot check it, compare it with its declaration")

    def change(i: int, d: np.ndarray) -> float:
        """<c, df> along direction d of input i."""
        with no_grad():
            ahead, behind = (function(*leaves[:i], Tensor(inputs[i] + step * d), *leaves[i + 1:], **settings).data
                             for step in (eps, -eps))
        return float(np.sum(c * (ahead - behind))) / (2 * eps)

    noise = 1e-10 * float(np.sum(np.abs(c * y.data)))  # what rounding of y alone may cause, times ten
    for i in checked:
        gradient = leaves[i].grad
        if gradient is None:  # f does not depend on it, says backward
            gradient = np.zeros_like(inputs[i])
        for _ in range(directions):
            d = rng.standard_normal(inputs[i].shape)
            expected, found = change(i, d), float(np.sum(gradient * d))
            if not abs(expected - found) <= rtol * max(abs(expected), abs(found)) + noise:
                raise GradientError(f"{name}: the gradient of input {i}, shape {inputs[i].shape}, is wrong: along a "
                                    f"random direction central differences give {expected:.8g}, backward {found:.8g}"
                                    f"{_first_wrong(gradient, partial(change, i), rtol, noise)}")


def elsewhere(function: Callable[..., Tensor], *inputs: Any, backend: str = "strict", rtol: float = 1e-10,
              atol: float = 1e-12, **settings: Any) -> None:
    """Asserts that ``function(*inputs, **settings)`` gives NumPy's value and gradients on another array library, too.

    Args:
        function, inputs: as for :func:`gradcheck`; floating arrays become leaves on both sides.
        backend: 'strict' (array-api-strict has the functions of the array API standard and no others, and a second
            device, used here, whose arrays NumPy's functions refuse) or 'cupy'.
        rtol, atol: how far the numbers may lie apart; another library may sum in another order.

    Raises:
        GradientError: value or a gradient differs. MinimaskError: the library or its device is not there.
    """
    xp, name = load(backend), getattr(function, "__name__", "function")
    move = partial(xp.asarray, device=xp.Device("device1")) if hasattr(xp, "Device") else xp.asarray
    moved = [[Tensor(side(x), requires_grad=True) if isinstance(x, np.ndarray) and is_floating(x) else x
              for x in inputs] for side in (np.asarray, move)]
    here, there = (function(*leaves, **settings) for leaves in moved)
    g = np.random.default_rng(0).standard_normal(here.shape).astype(here.dtype)
    for y, cotangent in ((here, g), (there, move(g))):
        if y.requires_grad:
            y.backward(cotangent)
    pairs = [("the value", here.data, there.data)] + [
        (f"the gradient of input {i}", a.grad, b.grad) for i, (a, b) in enumerate(zip(*moved)) if isinstance(a, Tensor)]
    for what, a, b in pairs:
        if (a is None) != (b is None) or (a is not None and not np.allclose(a, to_host(b), rtol, atol, equal_nan=True)):
            raise GradientError(f"{name}: {what} on backend {backend!r} is not NumPy's: "
                                f"{None if b is None else to_host(b)} in place of {a}")


def _first_wrong(gradient: np.ndarray, change: Callable[[np.ndarray], float], rtol: float, noise: float) -> str:
    """The first element that is wrong, as text; empty where there are too many to try."""
    if gradient.size > 1000:
        return ""
    for index in np.ndindex(gradient.shape):
        e = np.zeros_like(gradient)
        e[index] = 1.0
        expected = change(e)
        if not abs(expected - gradient[index]) <= rtol * max(abs(expected), abs(float(gradient[index]))) + noise:
            where = f"first at {list(index)}: " if index else ""
            return f"; {where}expected {expected:.8g}, got {gradient[index]:.8g}"
    return ""
