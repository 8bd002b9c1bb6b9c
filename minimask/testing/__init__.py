r"""Checks for gradients, public: what our own tests use, for your own ops and layers too.

- :func:`gradcheck`: backward() against central differences, for any function of Tensors.
- :func:`elsewhere`: value and gradients on another array library against NumPy's (array-api-strict, CuPy).
- :mod:`minimask.testing.strategies`: Hypothesis strategies for shapes and arrays (extra ``test``).
- :mod:`minimask.testing.oracle`: values and gradients against PyTorch (extra ``oracle``).
- :mod:`minimask.testing.plugin`: the same as pytest fixtures, for a conftest.py that asks for it; it marks the
  exercises of the course, too, with :mod:`minimask.testing.marking`.

An op of your own in five lines, and its proof in one:

>>> import numpy as np
>>> from minimask.engine import op
>>> @op(register=False)
... def softplus(xp, x):
...     e = xp.exp(-xp.abs(x))  # at most 1: nothing overflows
...     return xp.maximum(x, 0 * x) + xp.log1p(e), lambda g: (g * (xp.tanh(x / 2) + 1) / 2,)
>>> gradcheck(softplus, np.random.default_rng(0).standard_normal((3, 4)))

Silence is the proof. Keep off kinks and ties (here there are none), and give float64. As a test, beside a conftest.py
with the line ``pytest_plugins = ["minimask.testing.plugin"]``::

    @given(strategies.shapes().flatmap(strategies.arrays))
    def test_softplus(gradcheck, torch_oracle, x):
        gradcheck(softplus, x)
        torch_oracle(softplus, torch.nn.functional.softplus, [x])
"""

from .gradients import GradientError, elsewhere, gradcheck

__all__ = ["GradientError", "elsewhere", "gradcheck"]
