"""The tape as a picture in Mermaid text, which needs no system program: see :func:`graph`, also ``plot.graph``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import tape
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
    rows = tape.rows(loss)
    called = {id(tensor): name for name, tensor in (names or {}).items()}
    given = cotangent.data if isinstance(cotangent, Tensor) else cotangent
    norms, sent = _walk(rows, cotangent_of(given, loss.data))
    uses = tape.uses(rows)
    lines = ["flowchart TD"]
    for row in rows:
        tensor = row.tensor
        name = row.op or called.get(id(tensor), "leaf")
        constants = row.inputs.count(None)
        words = [_escaped(name) + (f", {constants} constant{'s' * (constants > 1)}" if constants else ""),
                 f"{tensor.shape} {tensor.dtype}" + (f" = {tensor.item():.4g}" if tensor.size == 1 else ""),
                 f"gradient norm {norms[row.number]:.3g}"]
        left, right, kind = ("[", "]", "op") if row.op else ("([", "])", "leaf")
        if getattr(OPS.get(name), "surrogate", False):
            kind = "declared"
        lines.append(f'  t{row.number}{left}"{"<br/>".join(words)}"{right}:::{kind}')
    for (start, end), norm in reversed(sent.items()):
        label = f'|"{norm:.3g} back"|' if len(uses[start]) > 1 else ""
        lines.append(f"  t{start} -->{label} t{end}")
    lines += ["  classDef op fill:#ffffff,stroke:#555555,color:#000000",
              f"  classDef leaf fill:#dfe9f3,stroke:{KEPT},stroke-width:2px,color:#000000",
              f"  classDef declared fill:#fdf0e1,stroke:{INVERTED},stroke-width:2px,stroke-dasharray:6 4,color:#000000"]
    return Mermaid("\n".join(lines))


def _walk(rows: list[tape.Row], cotangent: Array) -> tuple[list[float], dict[tuple[int, int], float]]:
    """The norm of every tensor's gradient, and along every edge (number of input, of result) what came back."""
    cotangents: dict[int, Array] = {rows[-1].number: cotangent}
    norms, sent = [0.0] * len(rows), {}
    for row in reversed(rows):
        g = cotangents.pop(row.number, None)
        if g is None:  # nothing came back to it
            continue
        norms[row.number] = _norm(g)
        node = row.tensor._node
        if node is None:
            continue
        back: dict[int, Array] = {}  # by input: an op may take one twice
        for key, gradient in zip(row.inputs, _pull(node, g)):
            if key is not None and gradient is not None:
                back[key] = back[key] + gradient if key in back else gradient
        for key, gradient in back.items():
            sent[key, row.number] = _norm(gradient)
            cotangents[key] = cotangents[key] + gradient if key in cotangents else gradient
    return norms, sent


def _norm(g: Array) -> float:
    xp = namespace(g)
    return float(xp.sqrt(xp.sum(g * g)))


def _escaped(text: str) -> str:
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(character, entity)
    return text
