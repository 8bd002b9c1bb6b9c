"""backward() against central differences, along random directions and for random cotangents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..backend import UsageError, is_floating, load, to_host
from ..engine import Node, Tensor, no_grad

#: Steps of the second look, each a quarter of the one before: from 1000 eps to 1000 eps / 4^11, 2e-9 with eps = 1e-5.
STEPS = 12


class GradientError(AssertionError):
    """A gradient differs from central differences, or is no gradient; the message says of what input, and where."""


def gradcheck(function: Callable[..., Tensor], *inputs: Any, rng: np.random.Generator | None = None,
              directions: int = 2, eps: float = 1e-5, rtol: float = 1e-5, cotangent: Any = None,
              **settings: Any) -> None:
    r"""Asserts that backward() through ``function(*inputs, **settings)`` gives the true derivative, and only that.

    With y = f(x), a random cotangent c and a random direction d, two numbers must agree for every input::

        <c, (f(x + eps d) - f(x - eps d)) / (2 eps)>    central differences
        <backward's gradient of <c, y>, d>

    The cotangent is never ones: a softmax sums to 1, so ones would pass a gradient of zero. Where the two differ, or
    rounding could hide that they do, other steps are tried before anything is called wrong: twelve of them,
    extrapolated to step 0 with an estimate of what is left of the error (Ridders, Adv. Eng. Softw. 4 (1982) 75). Every
    second d and its c are levelled: the larger the slopes of an entry, the smaller its share, so that one entry that is
    dropped shows among others a million times as large.

    Nothing may be written to: every array that the function and its pullbacks are given is read-only. And the same
    inputs and cotangent must give the same value and gradient a second time.

    Args:
        function: Tensors (and what else it takes) -> Tensor; smooth at the inputs: keep off kinks and ties.
        inputs: NumPy arrays of float64, which are checked; anything else is passed on as it is.
        rng: for c and d; unless given, a stream of its own: inputs are often drawn from default_rng(0), and a c that
            equals its x hides faults (a normalised row has no slope along itself).
        directions: how many d for each input, 1 or more.
        eps: step. Its error is of order eps^2 f''' = 1e-10, and rounding adds 1e-16 |y| / eps = 1e-11 |y|.
        rtol: relative tolerance, far above both errors and far below a factor of 1.01.
        cotangent: c, if it is to be a certain one: to see what a bad choice misses.

    Raises:
        GradientError: they disagree; a gradient is infinite or NaN; an array was written to; a second call differs.
        TypeError: there is no float64 array to check, or the gradient is a surrogate.
        UsageError: with these settings nothing would be checked.
    """
    name = getattr(function, "__name__", "function")
    refuse_idle(directions=directions, eps=eps, rtol=rtol)
    if getattr(function, "surrogate", False):
        raise TypeError(f"gradcheck: the gradient of {name} is declared (straight-through), not derived; "
                        "differences cannot check it, compare it with its declaration")
    checked = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and is_floating(x)]
    if not checked or any(inputs[i].dtype != np.float64 for i in checked):
        raise TypeError("gradcheck: give float64 arrays; float32 rounds too coarsely for central differences")
    rng = np.random.default_rng((0, 1)) if rng is None else rng

    def once(c: Any = None) -> tuple[np.ndarray, Any, dict[int, np.ndarray]]:
        """The value, the cotangent (drawn unless given), and the gradient of every input that is checked."""
        y, c, gradients = pulled(name, function, inputs, checked, settings, c or rng.standard_normal)
        return y, c, {i: np.zeros_like(inputs[i]) if gradients[i] is None else gradients[i] for i in checked}

    def value(moved: dict[int, np.ndarray]) -> np.ndarray:
        """f with some of its inputs moved."""
        with no_grad(), np.errstate(all="ignore"):  # a step may leave the domain of f: then a smaller one must do
            return function(*(Tensor(moved[i]) if i in moved else Tensor(x) if i in checked else x
                              for i, x in enumerate(inputs)), **settings).data

    def along(i: int, x: np.ndarray) -> np.ndarray:
        """f of input i alone."""
        return value({i: x})

    y, c, gradients = once(None if cotangent is None else _constant(cotangent))
    _refuse_change(name, (y, gradients), once(lambda shape: c)[::2])
    rounds = [(c, gradients)]
    if cotangent is None and directions > 1:
        moves = {i: eps * rng.standard_normal(inputs[i].shape) for i in checked}
        ahead, behind = (value({i: inputs[i] + sign * move for i, move in moves.items()}) for sign in (1, -1))
        _, c, gradients = once(lambda shape: _levelled(np.asarray(rng.standard_normal(shape)), ahead - behind))
        rounds.append((c, gradients))
    for i in checked:
        for number in range(directions if inputs[i].size else 0):
            c, gradients = rounds[number % len(rounds)]
            d = np.asarray(rng.standard_normal(inputs[i].shape))
            line = _Line(partial(along, i), inputs[i], y, c, gradients[i], eps, rtol)
            expected, found, complaint = line.compared(_levelled(d, gradients[i]) if number % 2 else d)
            if complaint:
                raise GradientError(f"{name}: the gradient of input {i}, shape {inputs[i].shape}, {complaint}: along a "
                                    f"random direction central differences give {expected:.8g}, backward {found:.8g}"
                                    f"{line.first_wrong()}")


def elsewhere(function: Callable[..., Tensor], *inputs: Any, backend: str = "strict", rtol: float = 1e-10,
              atol: float = 1e-12, **settings: Any) -> None:
    """Asserts that ``function(*inputs, **settings)`` gives NumPy's value and gradients on another array library, too.

    Args:
        function, inputs: as for :func:`gradcheck`; floating arrays become leaves on both sides.
        backend: 'strict' (array-api-strict has the functions of the array API standard and no others, and a second
            device, used here, whose arrays NumPy's functions refuse) or 'cupy'.
        rtol, atol: how far the numbers may lie apart; another library may sum in another order.

    Raises:
        GradientError: value or a gradient differs, or an array was written to. MinimaskError: the library or its
        device is not there. UsageError: with these tolerances nothing would be compared.
    """
    refuse_idle(rtol=rtol, atol=atol)
    xp, name = load(backend), getattr(function, "__name__", "function")
    device = {"device": xp.Device("device1")} if hasattr(xp, "Device") else {}
    move = partial(xp.asarray, copy=True, **device)
    arrays = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and is_floating(x)]
    here, g, gradients = pulled(name, function, inputs, arrays, settings, np.random.default_rng(0).standard_normal,
                                finite=False)
    moved = [Tensor(move(x), requires_grad=True) if i in arrays else x for i, x in enumerate(inputs)]
    cotangent = move(g)
    there = function(*moved, **settings)
    if there.requires_grad:
        there.backward(cotangent)
    for what, given, left in [("its cotangent", g, cotangent), *((f"input {i}", inputs[i], moved[i].data)
                                                                for i in arrays)]:
        if not np.array_equal(given, to_host(left), equal_nan=True):
            raise GradientError(f"{name}: on backend {backend!r} it writes into {what}; {NOT_ITS_OWN}")
    for what, a, b in [("the value", here, there.data)] + [(f"the gradient of input {i}", gradients[i], moved[i].grad)
                                                           for i in arrays]:
        if (a is None) != (b is None) or (a is not None and not np.allclose(a, to_host(b), rtol, atol, equal_nan=True)):
            raise GradientError(f"{name}: {what} on backend {backend!r} is not NumPy's: "
                                f"{None if b is None else to_host(b)} in place of {a}")


# ---- nothing is written to ---------------------------------------------------------------------------------------

NOT_ITS_OWN = "others use that array too, so compute a new one (g * x, not g *= x)"


@contextmanager
def unwritten(y: Tensor) -> Iterator[None]:
    """Inside the block every array on y's tape, and every cotangent that its pullbacks get, is read-only.

    Results of 1 MB and more on the way to y are not on it (tape.held).

    Raises GradientError where a pullback writes into one; it names the op and what was written to.
    """
    tensors = [t for t in y._tape_order() if isinstance(t._data, np.ndarray)] if y.requires_grad else []
    writeable = [t._data for t in tensors if t._data.flags.writeable]
    for tensor in tensors:
        if tensor._node and tensor._node.pullback:
            tensor._node.pullback = _watched(tensor._node, tensor._node.pullback)
    try:
        for array in writeable:
            array.flags.writeable = False
        yield
    finally:
        for array in writeable:
            array.flags.writeable = True


def _watched(node: Node, pullback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A pullback that is given a read-only g, and whose entries, which it may compute later, are watched as well."""
    def called(part: Callable[..., Any], g: np.ndarray, again: Callable[[np.ndarray], Any], *arguments: Any) -> Any:
        with _naming_writes(f"{node.name}: its pullback writes into "
                            f"{{}}; {NOT_ITS_OWN}", partial(again, np.array(g))):
            return part(*arguments)

    def later(i: int, g: np.ndarray) -> Any:
        return pullback(g)[i]()

    def watched(g: np.ndarray) -> Any:
        g = _read_only(g)
        entries = called(pullback, g, pullback, g)
        if type(entries) is not tuple:
            return entries  # the engine has a sentence for it
        return tuple(partial(called, entry, g, partial(later, i)) if callable(entry) else entry
                     for i, entry in enumerate(entries))

    return watched


@contextmanager
def _naming_writes(text: str, again: Callable[[], Any] | None = None) -> Iterator[None]:
    """GradientError for NumPy's refusal of a write: `text`, and in its {} what was written to.

    `again` repeats the call with a g that may be written to, which tells g from other arrays.
    """
    try:
        yield
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        what = "an array that it was given"
        if again:
            try:
                again()
                what = "its g"
            except ValueError:
                what = "an input of the op or its value"
        raise GradientError(text.format(what)) from error


def _read_only(array: np.ndarray) -> np.ndarray:
    """The same memory in the same layout, seen through a view that refuses writes."""
    view = array.view()
    view.flags.writeable = False
    return view


def pulled(name: str, function: Callable[..., Tensor], inputs: Any, checked: list[int], settings: dict[str, Any],
           cotangent: Callable[[tuple[int, ...]], Any], finite: bool = True
           ) -> tuple[np.ndarray, np.ndarray, dict[int, Any]]:
    """Value, cotangent and gradients (None where backward leaves none) of one call whose arrays are all read-only.

    Raises GradientError where one of them is written to and, if `finite`, where a gradient is infinite or NaN.
    """
    seen = [_read_only(x) if isinstance(x, np.ndarray) else x for x in inputs]
    leaves = [Tensor(x, requires_grad=True) if i in checked else x for i, x in enumerate(seen)]
    with _naming_writes(f"{name}: it writes into {{}}; {NOT_ITS_OWN}"):
        y = function(*leaves, **settings)
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: it returned a {type(y).__name__}, but gradients need a function that returns a "
                        "Tensor")
    c = np.asarray(cotangent(y.shape)).astype(y.dtype)
    if y.requires_grad:
        with unwritten(y):
            y.backward(_read_only(c))
    gradients: dict[int, Any] = {i: getattr(leaves[i], "grad", None) for i in checked}
    for i, gradient in gradients.items():
        if finite and gradient is not None and not np.isfinite(gradient).all():
            index = tuple(int(n) for n in np.argwhere(~np.isfinite(gradient))[0])
            where = f" at {list(index)}" if index else ""
            raise GradientError(f"{name}: the gradient of input {i}, shape {inputs[i].shape}, is {gradient[index]}"
                                f"{where}, where the input is {inputs[i][index]:.8g}; a gradient is finite, and inputs "
                                "are chosen where the function has one")
    return np.array(y.data), c, gradients


# ---- the numbers -------------------------------------------------------------------------------------------------


@dataclass
class _Line:
    """One input of f, along which differences are taken, beside what backward says of it.

    `f` maps the input to a value, which is `y` at x.
    """

    f: Callable[[np.ndarray], np.ndarray]
    x: np.ndarray
    y: np.ndarray
    c: np.ndarray
    gradient: np.ndarray
    eps: float
    rtol: float

    @property
    def size(self) -> float:
        """Sum of |c y|: rounding of y alone moves <c, y> by up to 1e-16 of it."""
        return float(np.sum(np.abs(self.c * self.y)))

    def difference(self, d: np.ndarray, h: float) -> tuple[float, float, float]:
        """Central difference along d, backward's slope for the same move, and how much of y moves at all.

        The move is what is left of x + h d and x - h d after rounding, so that rounding of x adds no error.
        """
        ahead, behind = self.x + h * d, self.x - h * d
        with np.errstate(all="ignore"):
            up, down = self.f(ahead), self.f(behind)
            slope = float(np.sum(self.c * (up - down))) / (2 * h)
            moved = float(np.sum(np.abs(self.c) * (np.abs(up - self.y) + np.abs(down - self.y)))) / (2 * h)
        return slope, float(np.sum(self.gradient * (ahead - behind))) / (2 * h), moved

    def compared(self, d: np.ndarray) -> tuple[float, float, str]:
        """The slope along d by differences and by backward, and what is wrong with the latter: nothing, if empty."""
        expected, found, _ = self.difference(d, self.eps)
        size, noise = max(abs(expected), abs(found)), 1e-15 * self.size / self.eps  # what rounding may cause, times ten
        if abs(expected - found) <= self.rtol * size + noise and noise <= 1e-3 * size:
            return expected, found, ""
        fault, error, moved = self.extrapolated(d, found)
        size = max(abs(found), abs(found + fault))
        if not error <= 1e-2 * max(size, moved) + noise:
            return expected, found, ("cannot be checked, differences do not settle for any step: is there a kink, a "
                                     "tie, noise or the end of its domain")
        nothing = 1e-12 * moved  # beside what y moves by at the largest step, float64 tells no smaller slope from 0
        return found + fault, found, "" if abs(fault) <= self.rtol * size + 2 * error + nothing else "is wrong"

    def extrapolated(self, d: np.ndarray, found: float) -> tuple[float, float, float]:
        """(differences - backward) at step 0, an estimate of its error, and how much of y moved at the largest step.

        Stops early only where they agree; "wrong" is said after all steps, with the rounding that the smallest show:
        from one of them to the next nothing else changes.
        """
        steps: list[float] = []
        faults: list[float] = []
        moved, noise, best, error = 0.0, 1e-16 * self.size, math.nan, math.inf
        for h in (1000 * self.eps / 4**k for k in range(STEPS)):
            slope, pulled, change = self.difference(d, h)
            if not math.isfinite(slope):  # the step leads out of the domain: begin with a smaller one
                steps, faults = [], []
                continue
            steps.append(h)
            faults.append(slope - pulled)
            moved = moved if len(steps) > 1 else change
            best, error = _at_zero(steps, faults, noise)
            if error <= self.rtol * abs(found) and abs(best) <= self.rtol * abs(found):
                return best, error, moved
        noise = max([noise, *(abs(a - b) * h for a, b, h in list(zip(faults[1:], faults, steps[1:]))[-4:])])
        return *_at_zero(steps, faults, noise), moved

    def first_wrong(self) -> str:
        """The first element that is wrong, as text; empty where there are too many to try."""
        for index in np.ndindex(self.x.shape if self.x.size <= 1000 else (0,)):
            e = np.zeros_like(self.x)
            e[index] = 1.0
            expected, _, complaint = self.compared(e)
            if complaint:
                where = f"first at {list(index)}: " if index else ""
                return f"; {where}expected {expected:.8g}, got {self.gradient[index]:.8g}"
        return ""


def _at_zero(steps: list[float], values: list[float], noise: float) -> tuple[float, float]:
    """What values at steps h, h/4, h/16 ... tend to, and an estimate of the error: Ridders' table.

    Central differences err in even powers of the step, so of two neighbours one combination has no error in h^2, of two
    such combinations one has none in h^4, and so on. Taken is the entry that agrees best with the two that it is made
    of; `noise` / h is what rounding adds to each.
    """
    best, least = math.nan, math.inf
    row: list[float] = []
    for h, value in zip(steps, values):
        above, row = row[:4], [value]
        for m, old in enumerate(above):
            row.append(row[m] + (row[m] - old) / (16**(m + 1) - 1))
            error = max(abs(row[m + 1] - row[m]), abs(row[m + 1] - old)) + noise / h
            if error < least:
                best, least = row[m + 1], error
    return best, least


def _levelled(drawn: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """`drawn`, the share of each entry lowered to that of the entry with the smallest of `sizes`, by 1e-6 at most."""
    sizes = np.abs(sizes)
    largest = float(np.max(sizes, initial=0.0))
    if not 0 < largest < math.inf:
        return drawn
    level = max(float(np.min(sizes)), 1e-6 * largest)
    return drawn * np.minimum(1.0, level / np.maximum(sizes, level))


def _constant(cotangent: Any) -> Callable[[tuple[int, ...]], np.ndarray]:
    """A cotangent that the caller chose, in the shape of y. UsageError where it would show nothing."""
    def broadcast(shape: tuple[int, ...]) -> np.ndarray:
        c = np.broadcast_to(cotangent, shape).astype(np.float64)
        if not np.isfinite(c).all() or (c.size and not c.any()):
            raise UsageError("gradcheck: a cotangent of zeros, or one that is infinite or NaN, checks nothing; "
                             "leave it out, and a random one is drawn")
        return c

    return broadcast


def refuse_idle(**settings: float) -> None:
    """UsageError for settings with which every gradient would pass: no direction, no step, an endless tolerance."""
    for name, value in settings.items():
        if name == "directions":
            fine, needed = isinstance(value, (int, np.integer)) and value >= 1, "a whole number, 1 or more"
        elif name == "eps":
            fine, needed = 0 < value < 1, "a step between 0 and 1, such as 1e-5"
        elif name in ("rtol", "tolerance"):
            fine, needed = 0 <= value < 1, "a share, 0 or more and below 1, such as 1e-5"
        else:
            fine, needed = 0 <= value < math.inf, "a finite number, 0 or more"
        if not fine:
            raise UsageError(f"{name}={value!r}: nothing would be checked; give {needed}")


def _refuse_change(name: str, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    """GradientError where a second call, with the same inputs and cotangent, gave another value or gradient."""
    def same(a: np.ndarray, b: np.ndarray) -> bool:
        return np.allclose(a, b, 1e-10, 1e-13 * float(np.max(np.abs(a), initial=0.0)), equal_nan=True)

    if not same(first[0], second[0]):
        raise GradientError(f"{name}: a second call with the same inputs gives another value; draw random numbers "
                            "before it, or from a generator that is made anew with one seed in every call")
    for i, gradient in first[1].items():
        if not same(gradient, second[1][i]):
            raise GradientError(f"{name}: the gradient of input {i} differs between two calls with the same inputs "
                                "and cotangent; a pullback computes from g and arrays alone, and keeps nothing between "
                                "calls")
