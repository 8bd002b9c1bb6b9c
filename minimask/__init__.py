"""minimask: frozen random weights, trained only by keep, hide or invert, on an autograd engine of its own.

A NumPy reference implementation of "Signing the Supermask: Keep, Hide, Invert" (Koster, Grothe and
Rettinger, ICLR 2022, arXiv:2201.13361). Read the files in the order that their first lines give:
backend, engine, ops, conv, init, mask, nn, models, optim, loop.
"""

from . import begin  # before all else: see there

# isort: split
from typing import TYPE_CHECKING, Any

from . import (
    checkpoint,
    conv,
    data,
    fast,
    init,
    layers,
    losses,
    mask,
    models,
    nn,
    ops,
    optim,
    optimizers,
    resnet,
    schedules,
    train,
)
from .backend import MinimaskError, UsageError, plain
from .engine import Tensor, no_grad, op

if TYPE_CHECKING:
    from . import plot, recipes, testing

# Named here, so that `python -X lazy_imports=all` (3.15) reads the files that fill the tables of ops and of twins.
_ = (begin, ops, conv, layers, losses, mask, resnet, fast)

__version__ = "0.1.0"
__all__ = ["MinimaskError", "Tensor", "UsageError", "checkpoint", "conv", "data", "fast", "init", "losses", "mask",
           "models", "nn", "no_grad", "op", "ops", "optim", "optimizers", "plain", "plot", "recipes", "schedules",
           "testing", "train"]


def __getattr__(name: str) -> Any:
    """Doors that training does not need open when somebody comes: `import minimask` stays quick."""
    if name in ("plot", "recipes", "testing"):
        import importlib

        return importlib.import_module(f"minimask.{name}")
    raise AttributeError(f"minimask has no {name!r}")
