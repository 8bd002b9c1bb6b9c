r"""Checks for gradients, public: what our own tests use, for your own ops and layers too.

- :func:`gradcheck`: backward() against central differences, for any function of Tensors.
- :mod:`minimask.testing.strategies`: Hypothesis strategies for shapes and arrays (extra ``test``).
- :mod:`minimask.testing.oracle`: values and gradients against PyTorch (extra ``oracle``).

An op of your own and its proof:

>>> import numpy as np
>>> from minimask.engine import op
>>> @op(register=False)
... def softplus(xp, x):
...     e = xp.exp(-xp.abs(x))  # at most 1: nothing overflows
...     return xp.maximum(x, 0 * x) + xp.log1p(e), lambda g: (g * (xp.tanh(x / 2) + 1) / 2,)
>>> gradcheck(softplus, np.random.default_rng(0).standard_normal((3, 4)))
"""

from .gradients import GradientError, elsewhere, gradcheck

__all__ = ["GradientError", "elsewhere", "gradcheck"]
