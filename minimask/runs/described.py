"""A net in a record: its layers and rules as data, from which it is built where no recipe says how, or only own code.

Layers are told by the table that exported nets have, :data:`minimask.export.header.KINDS`; rules (weight sources) by
:data:`minimask.recipes.SOURCES`. Of a rule that is in no table the mask itself is kept, so that nothing of it has to be
run: network.npz holds ``NAME.mask`` beside the frozen weights, or ``NAME.effective`` where there is no mask. A layer
that is in no table is named as unknown; what needs no more than masks works all the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from .. import nn, ops, recipes
from ..backend import Array, asarray, load, to_host
from ..engine import Tensor, no_grad
from ..errors import MinimaskError, UsageError
from ..export.header import KINDS, MOST_NUMBERS, Spec, Stored
from ..fields import Fields, brief
from ..mask import Supermask, Trained, WeightSource


class Unknown(UsageError):
    """A net that nothing but its own code can build."""


#: Beside the arrays of the net in network.npz: the mask of a layer, or its effective weight.
MASK, EFFECTIVE = "mask", "effective"


class Kept(Supermask):
    """A mask that a rule without a name in minimask made, as it was at the end: it does not follow the scores.

    Args:
        rule: what it was called. initial: of the frozen weights and scores, see :class:`minimask.mask.Supermask`.
    """

    def __init__(self, rule: str, **initial: Any):
        super().__init__(**initial)
        self.rule = rule
        self.kept: Array = None

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: str = "float32",
             backend: str = "numpy") -> Self:
        drawn = super().draw(shape, rng, dtype, backend)
        drawn.kept = load(backend).asarray(np.zeros(shape, np.int8))
        return drawn

    def step(self, scores: Tensor) -> Tensor:
        mask = to_host(self.kept).astype(to_host(scores.data).dtype)
        return ops.multiply(asarray(mask, like=scores.data), 1.0)

    def state(self) -> dict[str, Array | float]:
        return {**super().state(), MASK: self.kept}

    def load_state(self, state: dict[str, Array]) -> None:
        super().load_state(state)
        self.kept = state[MASK]


class Given(Trained):
    """A weight that a source without a name in minimask made, as it was at the end. rule: what it was called."""

    def __init__(self, rule: str):
        super().__init__()
        self.rule = rule

    def parameters(self) -> dict[str, Tensor]:
        return {EFFECTIVE: self.effective()}


# ---- there ---------------------------------------------------------------------------------------------------------


def describe(net: nn.Sequential) -> dict[str, Any]:
    """Plain data for a record, from which build() makes a net with the same arrays; of a net with layers in no table,
    "unknown" names their kinds in place of "layers"."""
    rules = {name: _rule(source) for name, source in net.weights().items()}
    with no_grad():
        dtypes = sorted({to_host(source.effective().data).dtype.name for source in net.weights().values()})
    described: dict[str, Any] = {"input": list(net.input_shape), "dtype": dtypes[0] if len(dtypes) == 1 else "mixed",
                                 "rules": rules}
    unknown = sorted({type(layer).__name__ for _, layer in net.walk() if layer is not net and (
        type(layer).__name__ not in KINDS or not type(layer).__module__.startswith("minimask."))})
    if unknown or len(dtypes) != 1 or net.size() > MOST_NUMBERS:
        return {**described, "unknown": unknown or ["more than one dtype" if len(dtypes) != 1 else "very large"]}

    def layers(inside: Mapping[str, nn.Layer]) -> list[dict[str, Any]]:
        return [{"kind": type(each).__name__, **KINDS[type(each).__name__].write(each, weight, layers)}
                for each in inside.values()]

    def weight(layer: Any) -> dict[str, Any]:
        size = int(np.prod(layer.shape)) * np.dtype(described["dtype"]).itemsize
        return {"shape": [int(n) for n in layer.shape], "codec": "plain", "bytes": size, "plus": 0, "minus": 0}

    return {**described, "layers": layers(net.layers)}


def _rule(source: WeightSource) -> dict[str, Any]:
    """A weight source as data: its name in SOURCES and arguments; of another its class, and what of it is kept."""
    if isinstance(source, (Kept, Given)):
        kind, known = source.rule, None
    else:
        kind = type(source).__name__
        known = next((name for name, each in recipes.SOURCES.items() if each is type(source)), None)
    if known is not None:
        return {"source": known, "settings": _arguments(source.settings)}
    if not isinstance(source, Supermask):
        return {"kept": EFFECTIVE, "rule": kind}
    parts = {part: value for part, value in source.settings.items() if part in ("frozen", "scores")}
    return {"kept": MASK, "rule": kind, "settings": _arguments(parts)}


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a source was made with, from its settings: frozen.scheme is the argument frozen, and so on."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            names = {"scheme": key, "distribution": f"{key}_distribution", "factor": f"{key}_factor"}
            found |= {names[part]: each for part, each in value.items() if each is not None}
        elif value is not None:
            found["init" if key == "scheme" else key] = value
    return found


def more_arrays(net: nn.Sequential) -> dict[str, np.ndarray]:
    """What network.npz holds beside the arrays of a net whose layers or rules are in no table, so that it can be read
    without its code."""
    sources = net.weights()
    told = {name: _rule(source).get("kept") for name, source in sources.items()}
    if "unknown" in describe(net):
        told |= {name: MASK for name, source in sources.items() if isinstance(source, Supermask)}
    with no_grad():
        return {f"{name}.{part}": sources[name].mask() if part == MASK else to_host(sources[name].effective().data)  # type: ignore[attr-defined]
                for name, part in told.items() if part}


# ---- and back ------------------------------------------------------------------------------------------------------


def build(described: Mapping[str, Any], backend: str = "numpy") -> nn.Sequential:
    """A net with the layers and rules that were described, weights drawn anyhow: its arrays are still to be loaded.

    Nothing of it is imported. Raises ValueError where it is damaged, Unknown where a layer is in no table.
    """
    if "unknown" in described:
        raise Unknown(why(described))
    header = {key: value for key, value in described.items() if key != "rules"}
    spec = Spec(header, "its net")
    spec.dtype = dtype = spec.choice("dtype", ("float32", "float64"))
    try:
        net = nn.Sequential(spec.layers("layers"), spec.sizes("input"))
    except RecursionError:
        raise ValueError("its net is nested too deeply") from None
    spec.end()
    weighted: dict[str, Any] = net.weights()
    rules = Fields(described.get("rules"), "the rules of its net")
    if sum(stored.weights for stored in weighted.values() if isinstance(stored, Stored)) > MOST_NUMBERS:
        raise ValueError(f"its net promises more than {MOST_NUMBERS:,} weights")
    rng = np.random.default_rng(0)
    for name, layer in net.walk():
        if layer.weight is not None:
            layer.weight = _source(rules.of(name, dict), name).draw(weighted[name].shape, rng, dtype, backend)
        else:
            _grow(layer, dtype, backend)
    rules.end()
    return net


def why(described: Mapping[str, Any]) -> str:
    """What to say of a net that was described in part only."""
    return (f"its net has what no table of minimask's knows ({', '.join(map(str, described['unknown']))}), so only the "
            "code that it was trained with can build it: from Python, runs.load(DIR, net=NET)")


def _source(rule: Mapping[str, Any], name: str) -> WeightSource:
    """The weight source that _rule() told, as a template. ValueError where it is none."""
    kept, settings = rule.get("kept"), rule.get("settings", {})
    kind: Any = {MASK: Kept, EFFECTIVE: Given}.get(kept) if kept else recipes.SOURCES.get(rule.get("source", ""))
    more = {"rule": str(rule.get("rule", ""))[:200]} if kept else {}
    if kind is None or not isinstance(settings, dict) or (kept == EFFECTIVE and settings):
        raise ValueError(f"the rule of {name} is {brief(dict(rule))}, which is none")
    try:
        inspect.signature(kind).bind(**settings, **more)
        return kind(**settings, **more)
    except (TypeError, MinimaskError) as error:
        raise ValueError(f"the rule of {name} cannot have the settings {brief(settings)}: {error}") from error


def _grow(layer: nn.Layer, dtype: str, backend: str) -> None:
    """Gives a layer that was read arrays of its own: of those of one axis the longest says how long all are."""
    own = {**layer.own_parameters(), **layer.own_state()}
    rows: dict[str, Any] = {part: value for part, value in own.items() if len(getattr(value, "shape", ())) == 1}
    longest = max((value.shape[0] for value in rows.values()), default=0)
    for part, value in rows.items():
        zeros = load(backend).asarray(np.zeros(longest, dtype))
        setattr(layer, part, Tensor(zeros, requires_grad=True) if isinstance(value, Tensor) else zeros)
