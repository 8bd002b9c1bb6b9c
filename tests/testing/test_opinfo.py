"""PyTorch's operator samples through every op with a counterpart; the table itself: python tests/opinfo.py."""

import opinfo
import pytest

from minimask.engine import OPS


def test_every_op_has_a_row_or_a_reason():
    assert set(opinfo.ROWS) | opinfo.WITHOUT == set(OPS) and not set(opinfo.ROWS) & opinfo.WITHOUT


@pytest.mark.slow
def test_no_value_or_gradient_differs_from_pytorchs(torch):
    pytest.importorskip("expecttest", reason="expecttest is not installed: pip install '.[oracle]' for PyTorch's samples")
    counts, different = opinfo.table(5.0)
    assert different == {}
    assert all(count["equal"] for count in counts.values()), counts
