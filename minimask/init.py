r"""Read 5 of 10 · needs backend · initial weights: a variance (Xavier, He, ELU, ELUS) and a distribution.

A layer y = sum over fan_in of w x keeps the size of its signal if fan_in * Var(w) * E[x^2] = E[z^2], z the
value before the activation that made x. The four schemes are four answers to that; every one is a *variance*
here, and every distribution takes a variance, so each pairing is one call:

>>> import numpy as np
>>> weights = draw((784, 300), np.random.default_rng(0), "elus", "signed_constant")
>>> bool(np.all(np.abs(weights) == np.float32((3 / 784) ** 0.5)))
True
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .errors import unknown

Shape = tuple[int, ...]


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a dense weight (in, out) or a convolution's (kh, kw, c_in, c_out).

    A convolution's fans count its window: kh*kw*c_in and kh*kw*c_out. ValueError for any other shape.
    """
    if len(shape) not in (2, 4) or min(shape) < 1:
        raise ValueError(f"init: shape {shape}; needed is (in, out) for a dense or (kh, kw, c_in, c_out) for a conv "
                         "weight, all positive")
    window = math.prod(shape[:-2])  # 1 for dense
    return window * shape[-2], window * shape[-1]


# ---- schemes: the variance of one weight ---------------------------------------------------------------------------


def xavier(shape: Shape, factor: float = 2.0) -> float:
    """Variance 2/(fan_in + fan_out): the mean of what keeps activations and what keeps gradients, both linear.

    Glorot and Bengio 2010, AISTATS, equation 12.
    """
    fan_in, fan_out = fans(shape)
    return factor / (fan_in + fan_out)


def he(shape: Shape, factor: float = 2.0) -> float:
    """Variance 2/fan_in: a ReLU keeps half of E[z^2]. He et al. 2015, arXiv:1502.01852, equation 10."""
    return factor / fans(shape)[0]


def elu(shape: Shape, factor: float = 1.5) -> float:
    """Variance 1.5/fan_in: for z ~ N(0, 1), E[ELU(z)^2] = 0.645 and 1/0.645 = 1.55, which the paper rounds to 1.5.

    Koster et al. 2022, arXiv:2201.13361 (ELU initialisation).
    """
    return factor / fans(shape)[0]


def elus(shape: Shape, factor: float = 3.0) -> float:
    """Variance 3/fan_in, twice ELU's ("scaled"): a mask removes summands, so the survivors carry more each.

    Koster et al. 2022, arXiv:2201.13361 (ELUS initialisation). The published code also has a factor of 6 in an example
    script; its configurations, and we, take 3.
    """
    return factor / fans(shape)[0]


SCHEMES: dict[str, Callable[..., float]] = {"xavier": xavier, "he": he, "elu": elu, "elus": elus}

# ---- distributions: arrays of float64 with a given variance --------------------------------------------------------


def uniform(shape: Shape, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Uniform on [-b, b] with b = sqrt(3 variance)."""
    bound = math.sqrt(3 * variance)
    return rng.uniform(-bound, bound, shape)


def normal(shape: Shape, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Normal with mean 0, standard deviation sqrt(variance), not truncated."""
    return math.sqrt(variance) * rng.standard_normal(shape)


def constant(shape: Shape, variance: float, rng: np.random.Generator) -> np.ndarray:
    """c = sqrt(variance) everywhere: the "variance" is its second moment. Draws nothing from rng."""
    return np.full(shape, math.sqrt(variance))


def signed_constant(shape: Shape, variance: float, rng: np.random.Generator) -> np.ndarray:
    """+c or -c with probability 1/2 each, c = sqrt(variance) (Ramanujan et al. 2020, arXiv:1911.13299)."""
    return math.sqrt(variance) * (2.0 * rng.integers(0, 2, shape) - 1.0)


DISTRIBUTIONS: dict[str, Callable[[Shape, float, np.random.Generator], np.ndarray]] = {
    "uniform": uniform, "normal": normal, "constant": constant, "signed_constant": signed_constant}


def check(scheme: str, distribution: str, factor: float | None = None) -> None:
    """UsageError for an unknown scheme or distribution, ValueError for a factor not above 0."""
    if scheme not in SCHEMES:
        raise unknown("initialisation", scheme, SCHEMES)
    if distribution not in DISTRIBUTIONS:
        raise unknown("distribution", distribution, DISTRIBUTIONS)
    if factor is not None and not 0 < factor < math.inf:
        raise ValueError(f"init: factor is {factor}, but must be positive")


def draw(shape: Shape, rng: np.random.Generator, scheme: str = "elu", distribution: str = "uniform",
         factor: float | None = None, dtype: str = "float32") -> np.ndarray:
    """Initial weights of `shape`, on the host.

    Args:
        shape: (in, out) or (kh, kw, c_in, c_out).
        rng: where the randomness comes from; the same generator state gives the same weights.
        scheme: 'xavier', 'he', 'elu' or 'elus': the variance.
        distribution: 'uniform', 'normal', 'constant' or 'signed_constant'.
        factor: the number above the fan in the scheme's variance, None for its own (2, 2, 1.5, 3).
        dtype: of the result; numbers are drawn in float64 and rounded once.

    Raises:
        UsageError: unknown scheme or distribution. ValueError: a shape without fans, a factor not above 0.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"init: rng is a {type(rng).__name__}, but must be a generator: numpy.random.default_rng(seed)")
    check(scheme, distribution, factor)
    variance = SCHEMES[scheme](shape) if factor is None else SCHEMES[scheme](shape, factor)
    return DISTRIBUTIONS[distribution](shape, variance, rng).astype(dtype)
