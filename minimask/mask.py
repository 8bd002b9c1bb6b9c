r"""Read 6 of 10 · needs ops, init · the method: keep, hide or invert; and where a layer's weight comes from.

First the steps that make a mask of scores, as ops: :func:`keep_hide_invert` and its relatives. Then the *weight
sources*, which a layer asks for its weight and knows nothing of masks:

- :class:`Trained`: the weight itself is trained (the dense baseline).
- :class:`SignedSupermask`: random weights W stay frozen; a score m per weight is trained and decides to keep,
  hide or invert it: W_eff = W * s(m), s in {-1, 0, +1} (Koster et al. 2022, arXiv:2201.13361).
- :class:`BinarySupermask` keeps or hides (Zhou et al. 2019), :class:`EdgePopup` keeps a fixed share (Ramanujan et
  al. 2020): the relatives, in deterministic forms of ours.

One interface, so that one model builder serves every method. A new method is a class with the methods of
:class:`WeightSource`; one that masks derives from :class:`Supermask` and gives ``step``.
"""

from __future__ import annotations

import copy
from typing import Any, Protocol, Self

import numpy as np

from . import display, init, ops
from .backend import Array, load, to_host
from .engine import Tensor, no_grad, op
from .errors import UsageError
from .init import check
from .inputs import check_rule, kept_count, setting, threshold
from .ops import Result, cast

Shape = tuple[int, ...]

# ---- from scores to a mask -----------------------------------------------------------------------------------------


@op(surrogate=True)
def keep_hide_invert(xp: Any, m: Array, /, tau: float) -> Result:
    r"""The signed supermask s = sign(m) where |m| > tau, else 0: scores, any shape -> exact {-1, 0, +1}, same shape.

    The step has no useful slope, so one is declared (straight-through): dL/dm := dL/ds, for hidden entries
    too, which is how a hidden weight comes back. Koster et al. 2022 (arXiv:2201.13361).

    Args:
        tau: threshold, a Python number, 0 or more; |m| == tau is hidden.
    """
    tau = threshold("keep_hide_invert", tau)
    return cast(xp, m > tau, m.dtype) - cast(xp, m < -tau, m.dtype), lambda g: (g,)


@op(surrogate=True)
def keep_hide(xp: Any, m: Array, /, tau: float) -> Result:
    r"""The binary mask s = 1 where m > tau, else 0: scores, any shape -> exact {0, 1}, same shape. Inverts nothing.

    Straight-through as in keep_hide_invert: dL/dm := dL/ds. After Zhou et al. 2019 (arXiv:1905.01067), made
    deterministic.

    Args:
        tau: threshold, a Python number, 0 or more; m == tau is hidden.
    """
    tau = threshold("keep_hide", tau)
    return cast(xp, m > tau, m.dtype), lambda g: (g,)


@op(surrogate=True)
def keep_largest(xp: Any, m: Array, /, share: float) -> Result:
    r"""s = 1 for the k = round(share * size) largest |m|, else 0: scores, any shape -> exact {0, 1}, same shape.

    Of entries that tie at the edge those that come first in row-major order are kept, so exactly k are.
    Straight-through with the slope of |m|: dL/dm := sign(m) dL/ds. After Ramanujan et al. 2020 (edge-popup,
    arXiv:1911.13299).

    Args:
        share: of the entries to keep, a Python number from 0 to 1.
    """
    k = kept_count(share, m)
    sizes = xp.reshape(xp.abs(m), (-1,))
    order = np.argsort(-sizes, stable=True) if xp is np else xp.argsort(-sizes)  # elsewhere it always is
    chosen = xp.argsort(order) < k  # (size,) the rank of every entry
    return cast(xp, xp.reshape(chosen, m.shape), m.dtype), lambda g: (g * xp.sign(m),)


# ---- where a layer's weight comes from -----------------------------------------------------------------------------


class WeightSource(Protocol):
    """What a layer may take its weight from.

    A source is written down once as a template, ``SignedSupermask(tau=0.01)``; draw() gives each layer a copy.
    `settings` is what it was made with, plain data for JSON.
    """

    settings: dict[str, Any]

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        """A copy with arrays of its own, drawn from rng, in a dtype and in the library `backend`."""
        ...

    def effective(self) -> Tensor:
        """The weight that the layer multiplies with, of the shape that was drawn."""
        ...

    def parameters(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        ...

    def state(self) -> dict[str, Array | float]:
        """What is not trained, by name: frozen weights, thresholds."""
        ...

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes back what state() gave."""
        ...

    def counts(self) -> tuple[int, int, int] | None:
        """(kept, hidden, inverted): how many weights have s = +1, 0, -1; None where nothing is masked."""
        ...


class Trained:
    """A weight that is trained itself, as usual: the dense baseline.

    Args (by name):
        init, distribution, factor: scheme, distribution and factor as in :func:`minimask.init.draw`. The paper's
            baselines: uniform ELU.
    """

    def __init__(self, *, init: str = "elu", distribution: str = "uniform", factor: float | None = None):
        check(init, distribution, factor)
        self.settings: dict[str, Any] = {"scheme": init, "distribution": distribution, "factor": setting(factor)}
        self.weight: Tensor | None = None

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        drawn = copy.copy(self)
        weight = init.draw(shape, rng, dtype=dtype, **self.settings)
        drawn.weight = Tensor(load(backend).asarray(weight), requires_grad=True)
        return drawn

    def effective(self) -> Tensor:
        return _made(self.weight)

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": _made(self.weight)}

    def state(self) -> dict[str, Array | float]:
        return {}

    def load_state(self, state: dict[str, Array]) -> None:
        pass

    def counts(self) -> None:
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
        self.settings: dict[str, Any] = {
            "frozen": {"scheme": frozen, "distribution": frozen_distribution, "factor": setting(frozen_factor)},
            "scores": {"scheme": scores, "distribution": scores_distribution}}
        self.frozen: Array = None
        self.scores: Tensor | None = None

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        """A copy with its own arrays: the frozen weights are drawn first, then the scores."""
        drawn, xp = copy.copy(self), load(backend)
        frozen, scores = (init.draw(shape, rng, dtype=dtype, **self.settings[part]) for part in ("frozen", "scores"))
        drawn.frozen, drawn.scores = xp.asarray(frozen), Tensor(xp.asarray(scores), requires_grad=True)
        return drawn

    def step(self, scores: Tensor) -> Tensor:
        """The mask s from the scores: exact {-1, 0, +1}, same shape, with a straight-through gradient."""
        raise NotImplementedError(f"{type(self).__name__} gives no step; a Supermask says how scores become a mask")

    def effective(self) -> Tensor:
        """W * s: every entry is 0, w or -w, exactly."""
        return ops.multiply(self.frozen, self.step(_made(self.scores)))

    def mask(self) -> np.ndarray:
        """The mask now, as int8 on the host: +1 kept, 0 hidden, -1 inverted."""
        with no_grad():
            return to_host(self.step(_made(self.scores)).data).astype(np.int8)

    def counts(self) -> tuple[int, int, int]:
        mask = self.mask()
        kept, inverted = int(np.count_nonzero(mask > 0)), int(np.count_nonzero(mask < 0))
        return kept, mask.size - kept - inverted, inverted

    def parameters(self) -> dict[str, Tensor]:
        return {"scores": _made(self.scores)}

    def state(self) -> dict[str, Array | float]:
        return {"frozen": self.frozen}

    def load_state(self, state: dict[str, Array]) -> None:
        self.frozen = state["frozen"]

    def __repr__(self) -> str:
        return display.mask_text(self)

    def _repr_html_(self) -> str:
        return (display.bar(*self.counts()) + " " if self.scores is not None else "") + repr(self)


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
        check_rule(type(self).__name__, tau, tau_ratio)
        self.tau, self.tau_ratio = 0.01 if tau is None else float(tau) + 0.0, setting(tau_ratio)
        self.settings |= {"tau": self.tau} if tau_ratio is None else {"tau_ratio": self.tau_ratio}

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: str = "float32", backend: str = "numpy") -> Self:
        drawn = super().draw(shape, rng, dtype, backend)
        if self.tau_ratio is not None:  # tau_l = ratio * max|m_l|, once and for all
            drawn.tau = self.tau_ratio * float(np.abs(to_host(_made(drawn.scores).data)).max())
        return drawn

    def step(self, scores: Tensor) -> Tensor:
        return keep_hide_invert(scores, self.tau)

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
        return keep_hide(scores, self.tau)


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
        self.share = float(share) + 0.0
        self.settings |= {"share": self.share}

    def step(self, scores: Tensor) -> Tensor:
        return keep_largest(scores, self.share)


def _made(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise UsageError("this weight source is a template without arrays; call draw(shape, rng) first, or give it "
                         "to a model builder, which does")
    return tensor
