r"""Read 6 of 8 · needs ops, init · where a layer's weight comes from: trained, or frozen and masked.

A layer asks its *weight source* for the weight and knows nothing of masks. The sources here:

- :class:`Trained`: the weight itself is trained (the dense baseline).
- :class:`SignedSupermask`: random weights W stay frozen; a score m per weight is trained and decides to keep,
  hide or invert it: W_eff = W * s(m), s in {-1, 0, +1} (Koster et al. 2022, arXiv:2201.13361).
- :class:`BinarySupermask` keeps or hides (Zhou et al. 2019), :class:`EdgePopup` keeps a fixed share (Ramanujan et
  al. 2020): the relatives, in deterministic forms of ours.
- :class:`Fixed`: a weight that is given, in a net that is only used.

One interface, so that one model builder serves every method. A source is written down once as a template,
``SignedSupermask(tau=0.01)``, and each layer calls ``draw`` for a copy that holds arrays of its own:

- ``draw(shape, rng, dtype, backend)`` -> a copy of the source with its arrays;
- ``effective()`` -> the weight that the layer multiplies with, a Tensor of that shape;
- ``parameters()`` -> name -> Tensor, what is trained; ``state()`` -> name -> array, what is not;
- ``counts()`` -> (kept, hidden, inverted) as integers, None where nothing is masked.

A new method is a class with these; one that masks derives from :class:`Supermask` and gives ``step``.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np

from . import init, notebook, ops
from .backend import Array, load, to_host
from .engine import Tensor, no_grad
from .errors import UsageError
from .init import check

Shape = tuple[int, ...]


class Trained:
    """A weight that is trained itself, as usual: the dense baseline.

    Args (by name):
        init, distribution, factor: scheme, distribution and factor as in :func:`minimask.init.draw`. The paper's
            baselines: uniform ELU.
    """

    def __init__(self, *, init: str = "elu", distribution: str = "uniform", factor: float | None = None):
        check(init, distribution, factor)
        self.settings: dict[str, Any] = {"scheme": init, "distribution": distribution, "factor": factor}
        self.weight: Tensor | None = None

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        drawn = copy.copy(self)
        weight = init.draw(shape, rng, dtype=dtype, **self.settings)
        drawn.weight = Tensor(load(backend).asarray(weight), requires_grad=True)
        return drawn

    def effective(self) -> Tensor:
        return _drawn(self.weight)

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": _drawn(self.weight)}

    def state(self) -> dict[str, Array | float]:
        return {}

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes back what state() gave."""

    def counts(self) -> None:
        """Nothing is masked."""
        return None

    def __repr__(self) -> str:
        return f"Trained(init={self.settings['scheme']!r})" + (
            f", {self.weight.shape}" if self.weight is not None else "")


class Supermask:
    """Frozen weights W and trained scores m; what the mask is, a subclass says in ``step``, and in nothing else.

    Args (by name):
        frozen, frozen_distribution, frozen_factor: the frozen weights' scheme, distribution and factor, as in
            :func:`minimask.init.draw`. The paper's best: signed constant ELUS.
        scores, scores_distribution: the same for the scores. The paper's best: uniform Xavier.

    Attributes after draw():
        frozen: W, an array of the layer's shape; no code changes it.
        scores: m, a leaf Tensor of the same shape.
    """

    def __init__(self, *, frozen: str = "elus", frozen_distribution: str = "signed_constant",
                 frozen_factor: float | None = None, scores: str = "xavier", scores_distribution: str = "uniform"):
        check(frozen, frozen_distribution, frozen_factor)
        check(scores, scores_distribution)
        self.frozen_settings: dict[str, Any] = {"scheme": frozen, "distribution": frozen_distribution,
                                                "factor": frozen_factor}
        self.score_settings: dict[str, Any] = {"scheme": scores, "distribution": scores_distribution}
        self.settings: dict[str, Any] = {"frozen": self.frozen_settings, "scores": self.score_settings}
        self.frozen: Array = None
        self.scores: Tensor | None = None

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        """A copy with its own arrays: the frozen weights are drawn first, then the scores."""
        drawn, xp = copy.copy(self), load(backend)
        drawn.frozen = xp.asarray(init.draw(shape, rng, dtype=dtype, **self.frozen_settings))
        drawn.scores = Tensor(xp.asarray(init.draw(shape, rng, dtype=dtype, **self.score_settings)), requires_grad=True)
        return drawn

    def step(self, scores: Tensor) -> Tensor:
        """The mask s from the scores: exact {-1, 0, +1}, same shape, with a straight-through gradient."""
        raise NotImplementedError(f"{type(self).__name__} gives no step; a Supermask says how scores become a mask")

    def effective(self) -> Tensor:
        """W * s: every entry is 0, w or -w, exactly."""
        return ops.multiply(self.frozen, self.step(_drawn(self.scores)))

    def mask(self) -> np.ndarray:
        """The mask now, as int8 on the host: +1 kept, 0 hidden, -1 inverted."""
        with no_grad():
            return to_host(self.step(_drawn(self.scores)).data).astype(np.int8)

    def counts(self) -> tuple[int, int, int]:
        """(kept, hidden, inverted): how many weights have s = +1, 0, -1."""
        mask = self.mask()
        kept, inverted = int(np.count_nonzero(mask > 0)), int(np.count_nonzero(mask < 0))
        return kept, mask.size - kept - inverted, inverted

    def parameters(self) -> dict[str, Tensor]:
        return {"scores": _drawn(self.scores)}

    def state(self) -> dict[str, Array | float]:
        return {"frozen": self.frozen}

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes back what state() gave."""
        self.frozen = state["frozen"]

    def __repr__(self) -> str:
        rule = ", ".join(f"{name}={value:g}" for name, value in self.settings.items() if not isinstance(value, dict))
        if self.scores is None:
            return f"{type(self).__name__}({rule})"
        kept, hidden, inverted = self.counts()
        return (f"{type(self).__name__}({rule}), {self.scores.shape}: {kept:,} kept, {hidden:,} hidden, "
                f"{inverted:,} inverted")

    def _repr_html_(self) -> str:
        return (notebook.bar(*self.counts()) + " " if self.scores is not None else "") + repr(self)


class SignedSupermask(Supermask):
    r"""Keep, hide or invert: s = sign(m) where |m| > tau, else 0 (Koster et al. 2022, arXiv:2201.13361).

    ``SignedSupermask(tau=0.01)`` is the paper's set-up. Args (by name), beside those of :class:`Supermask`:
        tau: one absolute threshold for every layer, 0.01 unless `tau_ratio` is given.
        tau_ratio: instead, tau_l = tau_ratio * max|m_l| of each layer, fixed right after initialisation; the
            published configurations do this.

    After draw(), ``tau`` is the layer's threshold.

    Raises:
        UsageError: tau and tau_ratio both given, tau negative, or tau_ratio outside [0, 1).
    """

    def __init__(self, *, tau: float | None = None, tau_ratio: float | None = None, **initial: Any):
        super().__init__(**initial)
        kind = type(self).__name__
        if tau is not None and tau_ratio is not None:
            raise UsageError(f"{kind}: tau={tau} and tau_ratio={tau_ratio} are two rules; give one of them")
        if tau is not None and not tau >= 0:
            raise UsageError(f"{kind}: tau is {tau}, but a threshold on |score| must be 0 or more")
        if tau_ratio is not None and not 0 <= tau_ratio < 1:
            raise UsageError(f"{kind}: tau_ratio is {tau_ratio}, but must lie in [0, 1); at 1 all is hidden")
        self.tau, self.tau_ratio = 0.01 if tau is None else tau, tau_ratio
        self.settings |= {"tau": self.tau} if tau_ratio is None else {"tau_ratio": tau_ratio}

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        drawn = super().draw(shape, rng, dtype, backend)
        if self.tau_ratio is not None:  # tau_l = ratio * max|m_l|, once and for all
            drawn.tau = self.tau_ratio * float(np.abs(to_host(_drawn(drawn.scores).data)).max())
        return drawn

    def step(self, scores: Tensor) -> Tensor:
        return ops.keep_hide_invert(scores, self.tau)

    def state(self) -> dict[str, Array | float]:
        return {**super().state(), "tau": self.tau}

    def load_state(self, state: dict[str, Array]) -> None:
        super().load_state(state)
        self.tau = float(state["tau"])


class BinarySupermask(SignedSupermask):
    """Keep or hide: s = 1 where m > tau, else 0; nothing is inverted (after Zhou et al. 2019, arXiv:1905.01067).

    Arguments as for :class:`SignedSupermask`.
    """

    def step(self, scores: Tensor) -> Tensor:
        return ops.keep_hide(scores, self.tau)


class EdgePopup(Supermask):
    r"""Keep a fixed share: s = 1 for the round(share * n) largest |m| of the layer (after Ramanujan et al. 2020,
    arXiv:1911.13299).

    Args (by name), beside those of :class:`Supermask`:
        share: of each layer's weights that is kept, 0 to 1.

    Raises:
        UsageError: share outside [0, 1].
    """

    def __init__(self, *, share: float = 0.1, **initial: Any):
        super().__init__(**initial)
        if not 0 <= share <= 1:
            raise UsageError(f"EdgePopup: share is {share}, but the part of a layer's weights to keep lies in [0, 1]")
        self.share = share
        self.settings |= {"share": share}

    def step(self, scores: Tensor) -> Tensor:
        return ops.keep_largest(scores, self.share)


class Fixed:
    """A weight that is given and stays as it is: in a net that is used and no longer trained.

    Args:
        weight: an array of the layer's shape, of any library.
    """

    def __init__(self, weight: Array):
        self.settings: dict[str, Any] = {}
        self.weight = Tensor(weight)

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        if self.weight.shape != shape:
            raise ValueError(f"Fixed: the weight has shape {self.weight.shape}, but the layer needs {shape}")
        drawn = copy.copy(self)
        drawn.weight = Tensor(load(backend).asarray(to_host(self.weight.data).astype(dtype)))
        return drawn

    def effective(self) -> Tensor:
        return self.weight

    def parameters(self) -> dict[str, Tensor]:
        return {}

    def state(self) -> dict[str, Array | float]:
        return {"weight": self.weight.data}

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes back what state() gave."""
        self.weight = Tensor(state["weight"])

    def counts(self) -> tuple[int, int, int]:
        """(kept, hidden, inverted): what is not 0, what is, and none."""
        kept = int(np.count_nonzero(to_host(self.weight.data)))
        return kept, self.weight.size - kept, 0


#: What a layer may take its weight from.
WeightSource = Trained | Supermask | Fixed


def _drawn(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise UsageError("this weight source is a template without arrays; call draw(shape, rng) first, or give it "
                         "to a model builder, which does")
    return tensor
