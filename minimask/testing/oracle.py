"""Values and gradients against PyTorch (extra ``oracle``)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import is_floating
from ..engine import Tensor
from .gradients import pulled, refuse_idle


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
        AssertionError: they differ, with the array that does. GradientError, an AssertionError, too: ours writes into
        an array that it was given. UsageError: with these tolerances nothing would be compared. ImportError: PyTorch
        is not installed.
    """
    import torch

    refuse_idle(rtol=rtol, atol=atol)
    settings = settings or {}
    rng = np.random.default_rng((0, 1)) if rng is None else rng  # not that of the inputs; see gradcheck
    name = getattr(ours, "__name__", "function")
    y, g, gradients = pulled(name, ours, inputs, [i for i, x in enumerate(inputs) if is_floating(x)], settings,
                             rng.standard_normal, finite=False)
    other: list[Any] = [torch.tensor(np.array(x), requires_grad=is_floating(x)) for x in inputs]
    z = theirs(*other, **settings)
    np.testing.assert_allclose(y, z.detach().numpy(), rtol, atol, err_msg="value")
    z.backward(torch.tensor(g))
    for i, gradient in gradients.items():
        expected = torch.zeros_like(other[i]) if other[i].grad is None else other[i].grad
        found = np.zeros(inputs[i].shape) if gradient is None else gradient
        np.testing.assert_allclose(found, expected.numpy(), rtol, atol, err_msg=f"gradient of input {i}")
