"""A recorded step as one page of HTML to step through: `plot.step`, `minimask step`.

The page holds what was recorded as data (JSON, arrays in base64), the sources, and the script that shows them
(the folder web). It loads nothing, and its own policy forbids it to; text becomes text, never markup.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .. import files, mask
from ..escape import html, line
from ..nn import Sequential
from ..optim import SGD, SGDW, nesterov
from . import source
from .recording import Call, Chain, Kept, Recording, Update, record
from .selection import CHANNELS, PIXELS, SHOWN, Selection, select

#: What a mask's whole picture shows at most, in weights; of a larger layer every so many rows and columns.
WHOLE = 120_000


class Page(str):
    """The text of a page of HTML, which needs nothing but itself. A notebook shows it in a frame."""

    def save(self, path: str | Path) -> Path:
        """Writes it as a file, to be opened in a browser; returns the path."""
        files.write(Path(path), self.encode())
        return Path(path)

    def show(self, name: str) -> None:
        """Writes NAME.html: in a notebook beside it, with a link, else into the folder of pictures; see plot.show."""
        if "ipykernel" in sys.modules:
            from IPython.display import HTML, display

            path = self.save(f"{name}.html")
            display(HTML(f'<a href="{html(path.name)}" target="_blank">step through it: {html(path.name)}</a>'))
        else:
            from .pictures import _folder

            print("page:", self.save(_folder() / f"{name}.html"))

    def _repr_html_(self) -> str:
        import html as entities

        return (f'<iframe srcdoc="{entities.escape(self)}" title="one training step, op by op" '
                'style="width:100%;height:52rem;border:1px solid #888"></iframe>')


def step(net: Sequential, x: Any, labels: Any, optimizer: SGD, image: int = 0, title: str = "",
         classes: Sequence[str] = ()) -> Page:
    """One training step of a net as a page to step through: forward, backward, update, with source and numbers.

    Net and optimizer are afterwards as they were. The ops run in their plain versions, which the page shows.

    Args:
        x, labels: a batch as the net takes it, (n, ...), and its n labels.
        optimizer: made for ``net.parameters()``. image: the one of the batch that is shown, 0 to n-1.
        title: of the page. classes: the names of the classes, in order.

    Raises:
        UsageError: there is no such image.

    Example::

        plot.step(net, x, y, sgdw).save("step.html")  # then open it in a browser
    """
    return page([("", record(net, x, labels, optimizer, image))], net, title or "One training step", classes)


def page(moments: Sequence[tuple[str, Recording]], net: Sequential, title: str, classes: Sequence[str] = (),
         total: int = 0, command: str = "step") -> Page:
    """Recorded steps of one net as a page; of several the reader picks one.

    Args:
        moments: when, in words ("before training"; "" of a single one), and the step. total: steps of the whole run.
        command: the command that made it, for the page's head.
    """
    store, recordings = Store(), [recording for _, recording in moments]
    selections = select(recordings)
    written = [{"when": when, **_moment(store, selections, recording)} for when, recording in moments]
    content = {"title": line(title), "total": total, "classes": list(map(line, classes)), "moments": written,
               "layers": [[line(name), line(repr(layer))] for name, layer in net.walk() if name],
               "selections": {name: each.as_dict() for name, each in selections.items()},
               "sources": store.sources, "arrays": store.arrays}
    return Page(_document(title, json.dumps(content, allow_nan=False, separators=(",", ":")), command))


def _document(title: str, content: str, command: str) -> str:
    """The page around its data. Its policy lets run the one script and the one style that it has."""
    web = resources.files(__package__).joinpath("web")
    page, style, *scripts = (web.joinpath(name).read_text("utf-8") for name in (
        "page.html", "style.css", *(f"{part}.js" for part in ("text", "pictures", "acts", "score", "rail"))))
    script = "\n".join(scripts)
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; " + "; ".join(
        f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for kind, text in (("script", script), ("style", style)))
    parts = {"title": html(title), "command": html(command), "policy": policy, "style": style,
             "data": content.replace("<", "\\u003c"), "script": script}
    head, *rest = page.split("{{")
    return head + "".join(parts[name] + text for name, text in (piece.split("}}", 1) for piece in rest))


# ---- from a recording to plain data --------------------------------------------------------------------------------


class Store:
    """Arrays and sources of a page, each once however often it is shown."""

    def __init__(self) -> None:
        self.arrays: list[list[str]] = []  # kind and base64
        self.sources: list[dict[str, Any]] = []
        self._places: dict[Any, int] = {}

    def array(self, values: np.ndarray) -> int:
        """The place of an array, in row-major order; numbers keep every bit, exact -1, 0 and 1 take a byte each."""
        kind = {"float32": "f4", "float64": "f8"}.get(str(values.dtype), "f8" if values.dtype.kind == "f" else "i4")
        if kind == "i4" or np.isin(values, (-1, 0, 1)).all():
            kind = "i1" if values.size and np.abs(values, dtype="f8").max() <= 127 else "i4"
        content = np.ascontiguousarray(values).astype(f"<{kind}").tobytes()
        return self._place(self.arrays, (kind, content), [kind, base64.b64encode(content).decode()])

    def source(self, found: source.Source) -> int:
        """The place of a source."""
        return self._place(self.sources, found, dataclasses.asdict(found))

    def _place(self, where: list[Any], key: Any, entry: Any) -> int:
        if key not in self._places:
            self._places[key] = len(where)
            where.append(entry)
        return self._places[key]


def _moment(store: Store, selections: dict[str, Selection], recording: Recording) -> dict[str, Any]:
    def view(kept: Kept | None, layer: str) -> dict[str, Any] | None:
        return None if kept is None else _view(store, selections.get(layer), kept)

    settings = {name: _number(value) for name, value in recording.rates.items()}
    return {"number": recording.number, "image": recording.image, "batch": len(recording.labels),
            "label": int(recording.labels[recording.image]), "loss": _number(recording.loss),
            "lossAfter": _number(recording.loss_after), "rates": settings, "optimizer": recording.optimizer.__name__,
            "logitsAfter": list(map(_number, recording.logits_after.ravel().tolist())),
            "calls": [_call(store, view, call) for call in recording.calls],
            "updates": [_update(view, update) for update in recording.updates],
            "updateSources": [store.source(each) for each in _update_sources(recording.optimizer)],
            "chains": [_chain(store, selections[chain.layer], chain) for chain in recording.chains]}


def _call(store: Store, view: Any, call: Call) -> dict[str, Any]:
    settings = [[name, f"array {value.shape}" if hasattr(value, "shape") else line(f"{value!r:.60}")]
                for name, value in call.settings.items()]
    return {"op": call.op, "layer": call.layer, "site": list(call.site), "number": call.number, "order": call.order,
            "source": store.source(call.source), "settings": settings, "declared": call.declared,
            "inputs": [{"name": name, "from": origin, "view": view(kept, call.layer), "back": view(back, call.layer)}
                       for name, origin, kept, back in zip(call.names, call.made_by, call.inputs,
                                                           call.leaving or [None] * len(call.inputs))],
            "value": view(call.value, call.layer), "arrived": view(call.arrived, call.layer), "parts": call.parts}


def _update(view: Any, update: Update) -> dict[str, Any]:
    layer = update.name.rpartition(".")[0]
    return {"name": update.name, "layer": layer, "parts": update.parts,
            **{part: view(getattr(update, part), layer) for part in ("before", "gradient", "after")},
            "slots": [{"name": name, "before": view(before, layer), "after": view(after, layer)}
                      for name, (before, after) in update.slots.items()]}


def _update_sources(optimizer: type[SGD]) -> list[source.Source]:
    """The method that updates a parameter; SGDW's calls a function, which says more."""
    return [*([source.of(nesterov)] if optimizer.update is SGDW.update else []), source.of(optimizer.update)]


def _chain(store: Store, selection: Selection, chain: Chain) -> dict[str, Any]:
    """A masked layer: its rule, its whole mask as a picture, and who went from where to where."""
    rule, thresholds = _rule(chain)
    states = (1, 0, -1)
    moves = [[int(np.count_nonzero((chain.before == a) & (chain.after == b))) for b in states] for a in states]
    before, after = (np.reshape(m, (-1, m.shape[-1])) for m in (chain.before, chain.after))
    every = max(1, math.ceil(math.sqrt(before.size / WHOLE)))
    codes = np.where(before == after, np.where(before < 0, 2, before), 3)[::every, ::every]  # 3: it changed
    packed = np.pad(codes.ravel(), (0, -codes.size % 4)).reshape(-1, 4) << np.array([0, 2, 4, 6])  # four to a byte
    return {"layer": chain.layer, "step": chain.step, "product": chain.product, "update": chain.update, "rule": rule,
            "thresholds": thresholds, "moves": moves, "shape": before.shape,
            "whole": {"rows": codes.shape[0], "columns": codes.shape[1], "every": every,
                      "data": base64.b64encode(packed.sum(axis=1).astype(np.uint8)).decode()},
            "after": _block(store, selection, Kept(chain.after, chain.after.shape, "int8", False))}


def _rule(chain: Chain) -> tuple[str, list[float]]:
    """How the source makes a mask of scores, in words, and its thresholds."""
    made = chain.source
    if isinstance(made, mask.BinarySupermask):
        return f"kept where m > {made.tau:g}, else hidden", [made.tau]
    if isinstance(made, mask.SignedSupermask):
        return (f"kept where m > {made.tau:g}, inverted where m < \N{MINUS SIGN}{made.tau:g}, else hidden",
                [-made.tau, made.tau])
    if isinstance(made, mask.EdgePopup):
        return f"kept are the {made.share:.0%} with the largest |m|, the others hidden", []
    return f"the step of {type(made).__name__}", []


# ---- what is shown of an array -------------------------------------------------------------------------------------


def _view(store: Store, selection: Selection | None, kept: Kept) -> dict[str, Any]:
    """A picture's numbers: all of a small array, of a layer's weights the selected ones, of an image some channels."""
    if selection is not None and not kept.of_image and kept.shape == selection.shape:
        return _block(store, selection, kept)
    values = kept.values
    common = {**_facts(kept), "ofImage": kept.of_image}
    if values.ndim == 3:  # height, width, channels
        channels = max(1, min(values.shape[2], CHANNELS, PIXELS // max(1, values.shape[0] * values.shape[1])))
        shown = np.moveaxis(values[:, :, :channels], 2, 0)
        return {**common, "panes": channels, "rows": shown.shape[1], "columns": shown.shape[2],
                "array": store.array(shown), "kind": "channels", "of": values.shape[2]}
    shown = values.ravel()[:SHOWN]
    columns = values.shape[1] if values.ndim == 2 and values.shape[1] <= 64 else _width(shown.size)
    return {**common, "panes": 1, "rows": -(-shown.size // columns) if shown.size else 0, "columns": columns,
            "array": store.array(shown), "kind": "flat", "of": values.size}


def _block(store: Store, selection: Selection, kept: Kept) -> dict[str, Any]:
    return {**_facts(kept), "ofImage": False, "panes": 1, "rows": len(selection.rows),
            "columns": len(selection.columns), "array": store.array(selection.of(kept.values)), "kind": "block",
            "selection": selection.name}


def _facts(kept: Kept) -> dict[str, Any]:
    """Shape, dtype, and from where to where the numbers go."""
    values = kept.values
    span = [_number(float(values.min())), _number(float(values.max()))] if values.size else []
    return {"shape": kept.shape, "dtype": kept.dtype, "span": span}


def _width(count: int) -> int:
    """How many of so many numbers stand in a row of a picture: all of a few, else a divisor near the square root."""
    if count <= 16:
        return max(1, count)
    root = math.isqrt(count)
    return next((n for n in range(root, min(count, 2 * root + 1)) if n * n >= count and count % n == 0), root + 1)


def _number(value: float) -> float | str:
    """A number for JSON, which knows no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)
