"""An engine of somebody else's under our checks: what it computes, as an op of minimask's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..engine import Tensor, op
from .gradients import GradientError


class Engine(Protocol):
    """The five functions of an adapter (a module has them, too); `exercises/engine.py` of the course says what each is.
    """

    def value(self, data: np.ndarray, /) -> Any: ...

    def data(self, value: Any, /) -> np.ndarray: ...

    def operation(self, name: str, /, *values: Any) -> Any: ...

    def backward(self, value: Any, g: np.ndarray, /) -> None: ...

    def gradient(self, value: Any, /) -> np.ndarray | None: ...


def bridged(engine: Engine, build: Callable[..., Any], name: str = "the engine") -> Callable[..., Tensor]:
    """``build(operation, *values)`` in another engine, as a function of Tensors that gradcheck takes.

    Its value is what the engine computes; its pullback walks the engine's own graph, which each call builds anew.

    Args:
        build: values of the engine, made of the inputs -> the value at the end. name: what messages call it.
    """
    @op(register=False)
    def through(xp: Any, *arrays: Any) -> Any:
        leaves = [engine.value(x) for x in arrays]
        end = build(engine.operation, *leaves)

        def pullback(g: np.ndarray) -> tuple[np.ndarray, ...]:
            engine.backward(end, g)
            found = [engine.gradient(leaf) for leaf in leaves]
            parts = tuple(np.zeros_like(x) if part is None else np.asarray(part) for x, part in zip(arrays, found))
            for i, (x, part) in enumerate(zip(arrays, parts)):
                if part.shape != x.shape:  # ours would sum it, and nobody would know
                    raise GradientError(f"{name}: the gradient of input {i} has shape {part.shape}, expected is that "
                                        f"of the input, {x.shape}: sum over the axes that broadcasting stretched or "
                                        "added")
            return parts

        return np.asarray(engine.data(end)), pullback

    through.__name__ = name
    return through
