"""One training step, kept as it goes: every op call, every pullback in the engine's own order, every update.

An op asks ``engine.FAST`` for its version. While a step is recorded that table holds, for every op, its plain version
with a pencil: what went in, what came out, what its pullback was given and gave. So the engine itself does the step,
the numbers are those of the lines that a reader sees, and nothing on the reading path knows of it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from .. import mask, nn, ops, tape
from ..backend import SWITCHES, Array, asarray, namespace, to_host
from ..engine import FAST, OPS, Parameters, Tensor, no_grad, unbroadcast
from ..errors import UsageError
from ..optim import SGD
from . import source
from .source import Source, shown_path

#: Whose frames stand between an op and the line that called it.
ENGINE = {"minimask/engine.py", "minimask/operators.py", "minimask/plot/recording.py"}
#: The table of versions is everybody's, so one thread at a time puts recorders into it.
TABLE = threading.RLock()


@dataclass(frozen=True, eq=False)
class Kept:
    """An array as it was: a copy on the host, whole, or the part of one image where it has one for every image."""

    values: np.ndarray
    shape: tuple[int, ...]
    dtype: str
    of_image: bool


@dataclass(eq=False)
class Call:
    """A call of an op, and of its pullback.

    Attributes:
        op, source, settings: its name, the source of its plain function, and its settings by name.
        declared: whether its gradient is declared, not derived (straight-through).
        layer, site: the layer that called it, "" outside; (file, line) of that call.
        names, inputs, made_by: of every array that went in: its name in the function, itself, and where it comes from:
            the index of a call, or a name ("dense1.scores", "images").
        value: what came out. number: its number on the tape, as trace() prints it; None where it is not on the tape.
        order: when its pullback was called, from 0; None if it was not. arrived: the cotangent that it was given.
        parts: what that is the sum of: (index of a call, which of its inputs); one where no paths meet.
        leaving: for every input its cotangent, None where none is wanted; summed over axes that were broadcast.
    """

    op: str
    source: Source
    settings: dict[str, Any]
    declared: bool
    layer: str
    site: tuple[str, int]
    names: list[str]
    inputs: list[Kept]
    value: Kept
    made_by: list[int | str] = field(default_factory=list)
    number: int | None = None
    order: int | None = None
    arrived: Kept | None = None
    parts: list[tuple[int, int]] = field(default_factory=list)
    leaving: list[Kept | None] = field(default_factory=list)


@dataclass(eq=False)
class Update:
    """What the optimizer did to a parameter: itself, its gradient, and the arrays kept for it from step to step.

    Attributes: slots: by name, before and after. parts: as in Call, of the gradient.
    """

    name: str
    before: Kept
    gradient: Kept
    after: Kept
    slots: dict[str, tuple[Kept, Kept]]
    parts: list[tuple[int, int]]


@dataclass(eq=False)
class Chain:
    """Where a masked layer's scores go: the calls that make its mask and its effective weight, and its update."""

    layer: str
    source: mask.Supermask
    step: int
    product: int
    update: int
    before: np.ndarray  # the mask, int8
    after: np.ndarray


@dataclass(eq=False)
class Recording:
    """A whole training step.

    Attributes:
        number: of the step, from 1. image: which image of the batch is shown. labels: of the batch.
        loss, loss_after: of the batch, before and after the update. logits_after: of the image.
        calls, updates, chains: in order. rates: what the optimizer multiplies with at this step, by name.
        optimizer: its class.
    """

    number: int
    image: int
    labels: np.ndarray
    loss: float
    loss_after: float
    logits_after: np.ndarray
    calls: list[Call]
    updates: list[Update]
    chains: list[Chain]
    rates: dict[str, float]
    optimizer: type[SGD]


def record(net: nn.Sequential, x: Any, labels: Any, optimizer: SGD, image: int = 0) -> Recording:
    """One training step of the net on a batch, recorded; net and optimizer are afterwards as they were.

    Args:
        x, labels: a batch as the net takes it, (n, ...), and n labels. image: the one to show, 0 to n-1.

    Raises:
        UsageError: there is no such image, or nothing that is trained has a gradient.
    """
    x = asarray(x.data if isinstance(x, Tensor) else x, like=net.parameters()[0].data)
    labels = np.asarray(labels)
    if not 0 <= image < len(labels):
        raise UsageError(f"image {image}: the batch has images 0 to {len(labels) - 1}; give one of them")
    pencil = Pencil(net, x, labels, image)
    with as_it_was(net, optimizer):
        with pencil.at_work():
            loss = ops.cross_entropy(net(Tensor(x), training=True), labels)
            pencil.read_tape(loss)
            loss_value = loss.item()
            optimizer.zero_grad()
            loss.backward()
            rates, updates = pencil.update(optimizer)
        pencil.link(updates)
        chains = [chain for name, source in net.weights().items() if isinstance(source, mask.Supermask)
                  and (chain := pencil.chain(name, source, updates))]
        with no_grad():
            logits = net(Tensor(x), training=True)
            after = ops.cross_entropy(logits, labels).item()
        return Recording(optimizer.steps, image, labels, loss_value, after, np.array(to_host(logits.data)[image]),
                         pencil.calls, updates, chains, rates, type(optimizer))


@contextlib.contextmanager
def as_it_was(net: nn.Sequential, optimizer: SGD) -> Iterator[None]:
    """After the block net and optimizer hold the arrays, gradients and numbers that they held before."""
    arrays, steps = net.arrays(), optimizer.steps
    slots = {name: np.array(to_host(slot)) for name, slot in optimizer.slots().items()}
    parameters = [(p, namespace(p.data).asarray(p.data, copy=True), p.grad) for p in optimizer.parameters]
    try:
        yield
    finally:
        for p, data, grad in parameters:
            p.data, p.grad = data, grad
        net.load(arrays)
        optimizer.load_slots(slots)
        optimizer.steps = steps


class Pencil:
    """Writes a step down while the engine does it."""

    def __init__(self, net: nn.Sequential, x: Array, labels: np.ndarray, image: int):
        self.calls: list[Call] = []
        self.library = namespace(x).__name__
        self.image, self.batch, self.pulled = image, len(labels), 0
        self.layers = {id(layer): name for name, layer in net.walk() if name}
        self.parameters = {id(tensor): name for name, tensor in net.named_parameters().items()}
        self.names = {id(x): "images", id(labels): "labels"}
        self.names |= {id(array): name for name, array in net.state().items()}
        self.per_image = {id(x), id(labels)}  # arrays with an entry for every image
        self.arrays: list[list[Array]] = []  # of every call, so that no id is given twice; its value last
        self.kept: dict[int, Kept] = {}
        self.tape: list[tape.Row] = []
        self.by_row: dict[int, int] = {}  # number on the tape -> index of the call that made it

    # ---- forward and backward --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside the block every op of this thread is written down, in its plain version."""
        plain, thread = SWITCHES.plain, threading.get_ident()

        def version(name: str) -> Callable[..., Any]:
            function = OPS[name].__func__  # type: ignore[attr-defined]
            parameters = Parameters(function, OPS[name].discrete)  # type: ignore[attr-defined]

            def recorded(xp: Any, *args: Any, **settings: Any) -> Any:
                if threading.get_ident() != thread:  # somebody else's work
                    return twins.get((xp.__name__, name), function)(xp, *args, **settings)
                return self.call(parameters, function, xp, args, settings)

            return recorded

        with TABLE:
            twins = dict(FAST)
            FAST.clear()
            FAST.update({(self.library, name): version(name) for name in OPS})
            SWITCHES.plain = False  # under plain() nobody asks the table
            try:
                yield
            finally:
                SWITCHES.plain = plain
                FAST.clear()
                FAST.update(twins)

    def call(self, parameters: Parameters, function: Callable[..., Any], xp: Any, args: tuple[Any, ...],
             settings: dict[str, Any]) -> Any:
        """Does an op's plain version, and writes it down; returns its value, and its pullback with the pencil."""
        count = len(args) if parameters.variadic else len(parameters.arrays)
        arrays, static = list(args[:count]), args[count:]
        for name, array in zip(parameters.arrays, arrays):
            if name == "labels" and array.shape == (self.batch,):  # ours, but for its dtype
                self.per_image.add(id(array))
                self.names[id(array)] = name
        inputs = [self.keep(array) for array in arrays]
        value, pullback = function(xp, *args, **settings)
        value = value if type(value) is type(arrays[0]) else xp.asarray(value)
        if value.shape[:1] == (self.batch,) and any(id(array) in self.per_image for array in arrays):
            self.per_image.add(id(value))
        self.arrays.append([*arrays, value])
        layer, site = self.caller()
        names = [f"{parameters.arrays[0]}[{i}]" for i in range(count)] if parameters.variadic else parameters.arrays
        line = getattr(getattr(pullback, "__code__", None), "co_firstlineno", 0)
        self.calls.append(Call(parameters.name, source.of_op(function, line),
                               {**dict(zip(parameters.settings, static)), **settings},
                               getattr(OPS[parameters.name], "surrogate", False), layer, site, names, inputs,
                               self.keep(value)))
        return value, Pulled(self, len(self.calls) - 1, pullback)

    def caller(self) -> tuple[str, tuple[str, int]]:
        """The layer that called the op, and file and line of the call."""
        layer, site = "", ("", 0)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not layer and frame.f_code is not record.__code__:
            place = shown_path(frame.f_code.co_filename)
            if not site[0] and place not in ENGINE:
                site = place, frame.f_lineno
            if frame.f_code.co_name == "__call__":
                layer = self.layers.get(id(frame.f_locals.get("self")), "")
            frame = frame.f_back
        return layer, site

    def keep(self, array: Array, of_image: bool | None = None) -> Kept:
        """A copy of what there is to show of an array; one that is kept already is not copied again."""
        if of_image is None:
            if id(array) in self.kept:
                return self.kept[id(array)]
            of_image = id(array) in self.per_image
            self.kept[id(array)] = self.keep(array, of_image)
            return self.kept[id(array)]
        host = to_host(array)
        return Kept(np.array(host[self.image] if of_image else host), tuple(host.shape), str(host.dtype), of_image)

    def read_tape(self, loss: Tensor) -> None:
        """Reads the tape before backward() frees it: which call made which tensor, and from which."""
        self.tape = tape.rows(loss)
        for row in self.tape:
            pulled = row.tensor._node and row.tensor._node.pullback
            if isinstance(pulled, Pulled):
                self.by_row[row.number] = pulled.index
                self.calls[pulled.index].number = row.number
        producers: dict[int, int] = {}
        for index, call in enumerate(self.calls):
            inputs = self.tape[call.number].inputs if call.number is not None else (None,) * len(call.inputs)
            for array, number in zip(self.arrays[index], inputs):
                call.made_by.append(self._origin(array, number, producers))
            producers[id(self.arrays[index][-1])] = index

    def _origin(self, array: Array, number: int | None, producers: dict[int, int]) -> int | str:
        """Where an input of a call comes from: the index of a call, or a name."""
        if number is not None:
            row = self.tape[number]
            name = f"#{number} {row.op}, an op that is not registered" if row.op else "a leaf"
            return self.by_row.get(number, self.parameters.get(id(row.tensor), name))
        return producers.get(id(array), self.names.get(id(array), "a constant"))

    # ---- the update, and what belongs together ---------------------------------------------------------------------

    def update(self, optimizer: SGD) -> tuple[dict[str, float], list[Update]]:
        """Lets the optimizer do its step; returns what it multiplied with, and what it did to every parameter."""
        factor = float(optimizer.schedule(optimizer.steps))
        settings = {name: value for name, value in optimizer.settings().items() if isinstance(value, float)}
        rates = {name: value * factor if name in ("lr", "wd") else value for name, value in settings.items()}
        found = [(self.parameters.get(id(p), f"parameter {i}"), p, self.keep(p.data, False), self.keep(p.grad, False))
                 for i, p in enumerate(optimizer.parameters) if p.grad is not None]
        slots = {name: self.keep(slot, False) for name, slot in optimizer.slots().items()}
        optimizer.step()
        after = {name: self.keep(slot, False) for name, slot in optimizer.slots().items()}
        places = {id(p): i for i, p in enumerate(optimizer.parameters)}
        updates = []
        for name, p, before, gradient in found:
            own = {slot.rpartition(".")[0]: (slots[slot], after[slot]) for slot in slots
                   if slot.rpartition(".")[2] == str(places[id(p)])}
            updates.append(Update(name, before, gradient, self.keep(p.data, False), own, []))
        return {"factor": factor, **rates}, updates

    def link(self, updates: list[Update]) -> None:
        """Fills in what every cotangent that arrived is the sum of."""
        sent: dict[int | str, list[tuple[int, int]]] = {}
        for index, call in sorted(enumerate(self.calls), key=lambda pair: (pair[1].order is None, pair[1].order)):
            for which, (origin, gradient) in enumerate(zip(call.made_by, call.leaving)):
                if gradient is not None:
                    sent.setdefault(origin, []).append((index, which))
        for index, call in enumerate(self.calls):
            call.parts = sent.get(index, [])
        for update in updates:
            update.parts = sent.get(update.name, [])

    def chain(self, layer: str, source: mask.Supermask, updates: list[Update]) -> Chain | None:
        """The way of a masked layer's scores through the step; None for a net that goes another way."""
        scores = self.parameters.get(id(source.scores), "")
        step = next((i for i, call in enumerate(self.calls) if scores in call.made_by), None)
        product = next((i for i, call in enumerate(self.calls) if f"{layer}.frozen" in call.made_by), None)
        update = next((i for i, each in enumerate(updates) if each.name == scores), None)
        if step is None or product is None or update is None:
            return None
        return Chain(layer, source, step, product, update, self.calls[step].value.values.astype(np.int8), source.mask())


class Pulled:
    """A pullback that is written down when the engine calls it."""

    def __init__(self, pencil: Pencil, index: int, pullback: Callable[[Array], Any]):
        self.pencil, self.index, self.pullback = pencil, index, pullback

    def __call__(self, g: Array) -> Any:
        pencil, call = self.pencil, self.pencil.calls[self.index]
        call.order, pencil.pulled = pencil.pulled, pencil.pulled + 1
        call.arrived = pencil.keep(g, call.value.of_image)
        entries = self.pullback(g)
        if type(entries) is not tuple or len(entries) != len(call.inputs) or call.number is None:
            return entries  # the engine says what is wrong with it
        wanted = [number is not None for number in pencil.tape[call.number].inputs]
        entries = tuple(entry() if want and callable(entry) else entry for want, entry in zip(wanted, entries))
        call.leaving = [pencil.keep(unbroadcast(call.op, entry, input.shape), input.of_image)
                        if want and entry is not None else None
                        for want, entry, input in zip(wanted, entries, call.inputs)]
        return entries
