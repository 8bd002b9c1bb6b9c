r"""Checks for gradients, public: what our own tests use, for your own ops and layers too.

- :func:`gradcheck`: backward() against central differences, for any function of Tensors; nothing may be written to.
- :func:`elsewhere`: value and gradients on another array library against NumPy's (array-api-strict, CuPy).
- :mod:`minimask.testing.strategies`: Hypothesis strategies for shapes and arrays (extra ``test``).
- :mod:`minimask.testing.oracle`: values and gradients against PyTorch (extra ``oracle``).
- :mod:`minimask.testing.plugin`: the same as pytest fixtures, for a conftest.py that asks for it; it marks the
  exercises of the course, too, with :mod:`minimask.testing.marking`, each submission in a process of its own
  (:mod:`minimask.testing.submission`).

An op of your own in six lines, and its proof in one:

>>> import numpy as np
>>> from minimask.engine import op
>>> @op(register=False)
... def silu(xp, x):
...     e = xp.exp(-xp.abs(x))  # at most 1: it cannot overflow
...     p = xp.where(x >= 0, 1, e) / (1 + e)  # the sigmoid, to the last digit where it is tiny, too
...     return x * p, lambda g: (g * (p + x * p * (1 - p)),)
>>> gradcheck(silu, np.random.default_rng(0).standard_normal((3, 4)))

Silence is the proof. Keep off kinks and ties (here there are none), and give float64. As a test, beside a conftest.py
with the line ``pytest_plugins = ["minimask.testing.plugin"]``::

    @settings(deadline=None)  # PyTorch's first call is slow
    @given(strategies.shapes().flatmap(strategies.arrays))
    def test_silu(gradcheck, torch_oracle, x):
        gradcheck(silu, x)
        torch_oracle(silu, torch.nn.functional.silu, [x])
"""

from .gradients import GradientError, elsewhere, gradcheck

__all__ = ["GradientError", "elsewhere", "gradcheck"]
