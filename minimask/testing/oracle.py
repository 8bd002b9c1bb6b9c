"""Values and gradients against PyTorch (extra ``oracle``)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import is_floating
from ..engine import Tensor


def compare(ours: Callable[..., Tensor], theirs: Callable[..., Any], inputs: Sequence[Any],
            settings: dict[str, Any] | None = None, rng: np.random.Generator | None = None,
            rtol: float = 1e-10, atol: float = 1e-12) -> None:
    """Asserts that value and gradients of our function equal those of a PyTorch function on the same arrays.

    Args:
        ours: Tensors -> Tensor. theirs: torch tensors -> torch tensor.
        inputs: floating arrays get a gradient on both sides; integer and boolean ones are passed on.
        settings: keyword arguments of both. rng: draws the cotangent.
        rtol, atol: for ``numpy.testing.assert_allclose``.

    Raises:
        AssertionError: they differ, with the array that does. ImportError: PyTorch is not installed.
    """
    import torch

    settings = settings or {}
    rng = np.random.default_rng((0, 1)) if rng is None else rng  # not that of the inputs; see gradcheck
    mine = [Tensor(x, requires_grad=True) if is_floating(x) else x for x in inputs]
    other = [torch.tensor(np.array(x), requires_grad=is_floating(x)) for x in inputs]
    y, z = ours(*mine, **settings), theirs(*other, **settings)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol, atol, err_msg="value")
    g = rng.standard_normal(y.shape).astype(y.dtype)
    y.backward(g)
    z.backward(torch.tensor(g))
    for i, (a, b) in enumerate(zip(mine, other)):
        if isinstance(a, Tensor):
            expected = torch.zeros_like(b) if b.grad is None else b.grad
            found = np.zeros(a.shape) if a.grad is None else a.grad
            np.testing.assert_allclose(found, expected.numpy(), rtol, atol, err_msg=f"gradient of input {i}")
