"""The tape as a picture in Mermaid text, which needs no system program: see :func:`graph`, also ``plot.graph``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backend import Array, namespace
from ..display import INVERTED, KEPT
from ..engine import OPS, Tensor, _pull
from ..inputs import cotangent_of


class Mermaid(str):
    """Mermaid text. JupyterLab (4.1 and later) draws it below the cell, GitHub in a block of its own language."""

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self}\n```"


def graph(loss: Tensor, names: Mapping[str, Tensor] | None = None, cotangent: Any = None) -> Mermaid:
    """The tape that leads to `loss` as a Mermaid flowchart: leaves above, the loss below, before backward().

    A box per tensor: the op that made it, its shape and dtype, and the norm of its gradient, which a walk back
    computes here; tape and `.grad` stay as they are. Where a tensor is used more than once, the arrows say what comes
    back along each; the sum is in its box. Dashed boxes are ops whose gradient is declared (straight-through). Inputs
    that want no gradient (images, frozen weights, labels) are constants and not on the tape: a box counts them.

    Args:
        names: what to call leaves, for example ``net.named_parameters()``.
        cotangent: as for ``backward``; a loss needs none.

    Raises:
        RuntimeError: there is no tape: nothing requires a gradient, or backward() has freed it.
    """
    if not loss.requires_grad:
        raise RuntimeError("graph: no input of this tensor requires a gradient, so there is no tape to draw")
    order = loss._tape_order()
    numbers = {id(tensor): i for i, tensor in enumerate(order)}
    called = {id(tensor): name for name, tensor in (names or {}).items()}
    given = cotangent.data if isinstance(cotangent, Tensor) else cotangent
    norms, sent = _walk(order, cotangent_of(given, loss.data))
    uses = [edge[0] for edge in sent]
    lines = ["flowchart TD"]
    for i, tensor in enumerate(order):
        name = called.get(id(tensor), "leaf") if tensor._node is None else tensor._node.name
        constants = sum(t is None for t in tensor._node.inputs) if tensor._node is not None else 0
        rows = [_escaped(name) + (f", {constants} constant{'s' * (constants > 1)}" if constants else ""),
                f"{tensor.shape} {tensor.dtype}" + (f" = {tensor.item():.4g}" if tensor.size == 1 else ""),
                f"gradient norm {norms[i]:.3g}"]
        left, right, kind = ("([", "])", "leaf") if tensor._node is None else ("[", "]", "op")
        if getattr(OPS.get(name), "surrogate", False):
            kind = "declared"
        lines.append(f'  t{i}{left}"{"<br/>".join(rows)}"{right}:::{kind}')
    for (start, end), norm in reversed(sent.items()):
        label = f'|"{norm:.3g} back"|' if uses.count(start) > 1 else ""
        lines.append(f"  t{numbers[start]} -->{label} t{numbers[end]}")
    lines += ["  classDef op fill:#ffffff,stroke:#555555,color:#000000",
              f"  classDef leaf fill:#dfe9f3,stroke:{KEPT},stroke-width:2px,color:#000000",
              f"  classDef declared fill:#fdf0e1,stroke:{INVERTED},stroke-width:2px,stroke-dasharray:6 4,color:#000000"]
    return Mermaid("\n".join(lines))


def _walk(order: list[Tensor], cotangent: Array) -> tuple[list[float], dict[tuple[int, int], float]]:
    """The norm of every tensor's gradient, and along every edge (id of input, id of result) what came back."""
    cotangents: dict[int, Array] = {id(order[-1]): cotangent}
    norms, sent = [0.0] * len(order), {}
    for i in reversed(range(len(order))):
        tensor = order[i]
        g = cotangents.pop(id(tensor), None)
        if g is None:  # nothing came back to it
            continue
        norms[i] = _norm(g)
        if tensor._node is None:
            continue
        back: dict[int, Array] = {}  # by input: an op may take one twice
        for input, gradient in zip(tensor._node.inputs, _pull(tensor._node, g)):
            if input is not None and gradient is not None:
                back[id(input)] = back[id(input)] + gradient if id(input) in back else gradient
        for key, gradient in back.items():
            sent[key, id(tensor)] = _norm(gradient)
            cotangents[key] = cotangents[key] + gradient if key in cotangents else gradient
    return norms, sent


def _norm(g: Array) -> float:
    xp = namespace(g)
    return float(xp.sqrt(xp.sum(g * g)))


def _escaped(text: str) -> str:
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(character, entity)
    return text
