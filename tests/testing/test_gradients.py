"""gradcheck and the oracle are as strict as they say."""

import numpy as np
import pytest
from hypothesis import find

from minimask import (
    op,
    ops,
)
from minimask.testing import GradientError, gradcheck, oracle
from minimask.testing.strategies import arrays


def scaled(f):
    @op(register=False)
    def almost(xp, x):
        return xp.exp(x), lambda g: (g * xp.exp(x) * f,)

    return almost


def test_gradcheck_is_tight():
    x = np.random.default_rng(0).standard_normal((3, 4))
    gradcheck(scaled(1.0), x)
    for f in (1.0001, 1 - 1e-4):
        with pytest.raises(GradientError):
            gradcheck(scaled(f), x)

    @op(register=False)
    def tiny_fault(xp, x):
        return xp.exp(x) + 10, lambda g: (g * (xp.exp(x) + 5e-3 * (xp.arange(12).reshape(3, 4) == 5)),)

    with pytest.raises(GradientError):
        gradcheck(tiny_fault, x)


def test_gradcheck_refuses_nan():
    @op(register=False)
    def nan(xp, x):
        return xp.exp(x), lambda g: (g * np.nan,)

    with pytest.raises(GradientError):
        gradcheck(nan, np.ones(3))


def test_the_oracle_catches(torch):
    x = np.random.default_rng(0).standard_normal((3, 4))
    oracle.compare(ops.exp, torch.exp, [x])
    with pytest.raises(AssertionError, match="value"):
        oracle.compare(lambda t: ops.exp(t) + 1e-6, torch.exp, [x])
    with pytest.raises(AssertionError, match="gradient of input 0"):
        oracle.compare(scaled(1 + 1e-6), torch.exp, [x])

    @op(register=False)
    def blind(xp, x):
        y = ops.softmax(x).data
        return y, lambda g: (g * 0,)

    with pytest.raises(AssertionError):
        oracle.compare(blind, lambda t: torch.softmax(t, -1), [x])


def test_layouts_are_what_they_say():
    for want in (
        lambda a: not a.flags.writeable and 0 not in a.strides,
        lambda a: 0 in a.strides,
        lambda a: a.flags.f_contiguous and not a.flags.c_contiguous,
        lambda a: not a.flags.f_contiguous and not a.flags.c_contiguous,
    ):
        find(arrays((3, 4)), want)
