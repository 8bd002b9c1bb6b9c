"""An engine of your own, plugged in: five functions, and `pytest exercises/test_engine.py` checks its gradients.

Whatever you built in lesson 01, or elsewhere: fill in the five bodies so that they call it. Their names and parameters
stay as they are. Of lesson 01's class `Value`, for example, they are a line each. What your engine cannot do it need
not: an operation that raises NotImplementedError is skipped, and its test says so.
"""

from typing import Any

import numpy as np


def value(data: np.ndarray) -> Any:
    """A leaf of your engine that holds `data`, float64, of any shape, and wants a gradient."""
    raise NotImplementedError("the engine's leaf from an array")


def data(value: Any) -> np.ndarray:
    """The array that a value of your engine holds."""
    raise NotImplementedError("the array of a value")


def operation(name: str, *values: Any) -> Any:
    """The operation of that name on values of your engine -> a value.

    Args:
        name: "add", "multiply", "subtract", "divide" (elementwise, with broadcasting), "matmul" (of two matrices),
            "tanh", "exp", "log", "relu" (elementwise), "sum", "mean" (of all entries).
    """
    raise NotImplementedError(f"the operation {name}")


def backward(value: Any, g: np.ndarray) -> None:
    """Walks back from `value`, whose cotangent is `g`, of its shape: afterwards every leaf knows its gradient."""
    raise NotImplementedError("the walk back")


def gradient(value: Any) -> np.ndarray | None:
    """The gradient that the last walk left at a leaf; None if it did not come by."""
    raise NotImplementedError("the gradient of a leaf")
