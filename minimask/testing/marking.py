"""Marks for exercises: a wrong answer raises AssertionError with a text that is enough to mend it.

The text names the task, shows the input (Hypothesis makes it small), the first wrong element, what was expected there,
shapes and dtypes where those differ, and a hint. The tests of the course are written with these two functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backend import to_host
from ..engine import Tensor
from .gradients import GradientError, refuse_idle, unwritten

#: Arrays with more entries are described, not printed.
PRINTED = 60


def expect(got: Any, expected: Any, task: str, inputs: Mapping[str, Any] | None = None, hint: str = "",
           tolerance: float = 1e-6, same_dtype: bool = False) -> None:
    """Asserts that an answer is the expected one: its shape, and every entry.

    Args:
        got: the student's answer: an array of any library, a Tensor, a number, or a tuple of them.
        expected: what it should be; a tuple (or list) of arrays is compared entry by entry.
        task: which one, for example "Lesson 3, task 2"; the text begins with it.
        inputs: name -> value of what the student's function was given.
        hint: one sentence that helps without giving the answer away.
        tolerance: |got - expected| may be this times max(1, |expected|); 0 for exact answers. NaN equals NaN only.
        same_dtype: whether another dtype is wrong, too.

    Raises:
        AssertionError: the answer is wrong. UsageError: a tolerance with which every answer would be right.
    """
    __tracebackhide__ = True
    refuse_idle(tolerance=tolerance)
    if isinstance(expected, (tuple, list)) and any(hasattr(e, "shape") for e in expected):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            many = f"{len(got)} values" if isinstance(got, (tuple, list)) else f"one {type(got).__name__}"
            _fail(task, f"your answer is {many}, expected are {len(expected)} values", inputs, hint)
        for i, (part, right) in enumerate(zip(got, expected)):
            wrong = _difference(part, right, tolerance, same_dtype)
            if wrong:
                _fail(task, f"of the {len(expected)} values that your answer has, number {i} (from 0) is wrong: "
                            f"{wrong}", inputs, hint)
        return
    wrong = _difference(got, expected, tolerance, same_dtype)
    if wrong:
        _fail(task, wrong, inputs, hint)


def claim(condition: Any, task: str, message: str, hint: str = "", inputs: Mapping[str, Any] | None = None) -> None:
    """Asserts whatever else a task asks for: `condition` holds, or AssertionError with `message` in the same form."""
    __tracebackhide__ = True
    if not condition:
        _fail(task, message, inputs, hint)


def stays(before: np.ndarray, now: Any, task: str, what: str, name: str = "function") -> None:
    """Asserts that an array which was handed out is what it was: a function of the student's wrote into it, or not."""
    __tracebackhide__ = True
    wrong = _difference(now, before, 0.0, False)
    if wrong:
        _fail(task, f"your {name} wrote into {what}, which others hold, too: {wrong}",
              {what: before} if what.isidentifier() else None,
              "x += ... and x[...] = ... write into the array that was given; x = x + ... makes a new one")


def pull(y: Any, g: np.ndarray, task: str, inputs: Mapping[str, Any] | None = None) -> None:
    """y.backward(g), in which no pullback may write into its g, into an input or into a value."""
    __tracebackhide__ = True
    claim(isinstance(y, Tensor), task, f"got {type(y).__name__}, expected a Tensor", inputs=inputs)
    try:
        with unwritten(y):
            y.backward(g)
    except GradientError as error:
        _fail(task, str(error), {**(inputs or {}), "g": g}, "g *= ... writes into g; g * ... makes a new array")


def shown(inputs: Mapping[str, Any] | None) -> str:
    """Inputs as lines of Python that can be pasted; large arrays by shape, dtype and range."""
    lines = []
    for name, value in (inputs or {}).items():
        array = _array(value)
        if not hasattr(value, "shape") or array is None:
            lines.append(f"{name} = {value!r}")
        elif array.size > PRINTED:
            lines.append(f"{name}: {array.dtype} array of shape {array.shape}, "
                         f"from {array.min():.6g} to {array.max():.6g}")
        else:
            text = np.array2string(array, precision=6, separator=", ", prefix=f"{name} = np.array(")
            dtype = f", dtype={str(array.dtype)!r}" if array.dtype not in (np.float64, np.int64, np.bool_) else ""
            lines.append(f"{name} = np.array({text}{dtype})" + (f"  # shape {array.shape}" if not array.size else ""))
    return "\n".join(lines)


def _difference(got: Any, expected: Any, tolerance: float, same_dtype: bool) -> str:
    """What is wrong with an answer, as text; empty where it is right."""
    if got is None and expected is not None:
        return "your function returned None; is there a `return`?"
    found, right = _array(got), _array(expected)
    if right is None or right.dtype.kind not in "biuf":
        return "" if type(got) is type(expected) and got == expected else f"got {got!r}, expected {expected!r}"
    if found is None or found.dtype.kind not in "biuf":
        return f"got {type(got).__name__} {got!r}, expected numbers of shape {right.shape}"
    if found.shape != right.shape:
        return f"the shape is wrong: got {found.shape}, expected {right.shape}"
    with np.errstate(invalid="ignore"):  # infinities
        distance = np.abs(found.astype(np.float64) - right.astype(np.float64))
        fine = (found == right) | (distance <= tolerance * np.maximum(1.0, np.abs(right.astype(np.float64))))
    fine |= np.isnan(found) & np.isnan(right)
    dtypes = f"; the dtype is {found.dtype}, expected {right.dtype}" if found.dtype != right.dtype else ""
    if not fine.all():
        index = tuple(int(i) for i in np.argwhere(~fine)[0])
        at = f" at [{', '.join(map(str, index))}]" if index else ""
        many = f" ({int((~fine).sum())} of {fine.size} entries are wrong{dtypes})" if fine.size > 1 else dtypes
        return f"wrong{at}: got {_number(found[index])}, expected {_number(right[index])}{many}"
    if same_dtype and dtypes:
        return f"the values are right, but the dtype is {found.dtype}, expected {right.dtype}"
    return ""


def _array(value: Any) -> np.ndarray | None:
    """The value as a host array; None where it is none."""
    value = value.data if isinstance(value, Tensor) else value
    try:
        host = to_host(value) if hasattr(value, "shape") and not isinstance(value, np.generic) else value
        return np.asarray(host)  # an array of a class of one's own could compare as it likes
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> str:
    return f"{value:.8g}" if value.dtype.kind == "f" else str(value)


def _fail(task: str, message: str, inputs: Mapping[str, Any] | None, hint: str) -> None:
    """The one text of a wrong answer."""
    __tracebackhide__ = True
    lines = [f"{task}: {message}"]
    if inputs:
        lines += ["with", *(f"  {line}" for line in shown(inputs).splitlines())]
    if hint:
        lines.append(f"hint: {hint}")
    raise AssertionError("\n".join(lines))
