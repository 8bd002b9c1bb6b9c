r"""Training without the units that are dead for ever: the same run up to rounding, in less work. Beside the path.

Which units can never come back is a theorem, not a guess. Let g = 0 be the gradient of a score m from some step on.
SGDW (optim.py) then does v <- mu v, m <- k m + mu v with k = 1 - wd_t, where |k| <= 1, so that for all time

    |m_T|  <=  |m| + sum_{j >= 0} mu^(2+j) |v|  =  |m| + mu^2 / (1 - mu) |v|.        (the bound)

Where it is at most tau, the mask stays 0 as long as the gradient does. Now take a hidden unit between two layers
without bias, with nothing between them but what keeps zeros (units.KEEP_ZEROS), and let the bound hold for *every*
score into it and *every* score out of it. All weights into it are 0, so it gives 0 for every image, and the scores out
of it get the gradient 0 * g = 0. All weights out of it are 0, so its cotangent is 0, and the scores into it get
x * 0 = 0. So no mask next to it changes in this step, and by induction in none: the unit is **dead for ever**. One side
is not enough: a unit without inputs that somebody still reads has a cotangent, and its inputs may come back.

These gradients are 0 as computed, too, not only on paper: a sum of products with 0 is 0 in any order, in floats as
well, and ELU(0) = 0. But 0 * infinity is NaN: where a cotangent is not finite, the whole net would write NaN into dead
scores. It then writes NaN or infinity into live ones as well, and training ends with an error either way. The bound is
computed with floats, which round; MARGIN takes that off tau.

What may not be left out: units next to a batch norm (its shift moves zeros), a shortcut, a bias, a layer of one's own,
or a layer, source or tensor that is used twice; all units where scores are trained by another optimizer than SGDW, or
the mask is another step than |m| > tau or m > tau. Whatever is not known to be safe stays.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import nn
from .backend import Array, asarray, to_host
from .engine import Tensor
from .errors import MinimaskError
from .loop import Listener
from .mask import BinarySupermask, SignedSupermask
from .optim import SGD, SGDW
from .tape import stand_in
from .units import KEEP_ZEROS, PRODUCTS, Chosen, origins, part, put, replaced, taken, ways

if TYPE_CHECKING:
    from .loop import Training

#: Share of tau that rounding may use up, in units of eps / (1 - mu). Written out: `m <- k m` never rounds upwards past
#: |m|; `m <- m + mu v` errs by eps tau / 2 at most, and only as long as mu v is not lost beside m, for less than
#: 37 / (1 - mu) steps; v itself errs by 1.5 eps a step, which adds 1.5 eps / (1 - mu) of tau. That is below 21.
MARGIN = 64.0
#: By the kind of mask, how much of a score and of its velocity speaks for the weight: those below 0 never keep one.
SPEAKS: dict[type, Callable[[np.ndarray], np.ndarray]] = {
    SignedSupermask: np.abs, BinarySupermask: lambda scores: np.maximum(scores, 0)}

#: Per layer, by name, whether each of its units is dead for ever: (units,) booleans.
Dead = dict[str, np.ndarray]


# ---- which units are dead for ever ---------------------------------------------------------------------------------


class Link(NamedTuple):
    """A place where units may be left out: the names of the layer that makes them and of the one that reads them."""

    made: str
    read: str


def links(net: nn.Sequential, optimizer: SGD) -> list[Link]:
    """The places of a net where the proof at the top of this file holds, in order."""
    parameters = net.parameters()
    if type(net) is not nn.Sequential or type(optimizer) is not SGDW or (
            Counter(map(id, parameters)) != Counter(map(id, optimizer.parameters))):
        return []
    uses = Counter(_used(net))
    found = []
    for way in ways(net):
        made = ""  # the last layer with a mask, if only KEEP_ZEROS came after it
        for name, layer in way.items():
            alone = uses[id(layer)] == uses[id(layer.weight)] == 1
            if alone and type(layer) in PRODUCTS and type(layer.weight) in SPEAKS:
                found += [Link(made, name)] if made else []
                made = name
            elif type(layer) not in KEEP_ZEROS:
                made = ""
    return found


def _used(layer: nn.Layer) -> Iterator[int]:
    """The ids of the layers and weight sources inside, as often as they are used."""
    for child in layer.children.values():
        yield from (id(child), *([id(child.weight)] if child.weight is not None else ()), *_used(child))


def dead(net: nn.Sequential, optimizer: SGD) -> Dead:
    """Which units are dead for ever, by the bound, in every layer whose units may be; between two steps.

    It holds as long as the schedule leaves wd_t between 0 and 2: see :func:`contracts`.
    """
    found, layers = links(net, optimizer), dict(net.walk())
    if not found or not isinstance(optimizer, SGDW):
        return {}
    velocities = {id(tensor): v for tensor, v in zip(optimizer.parameters, optimizer.velocity)}
    stays = {}
    for name in dict.fromkeys(name for link in found for name in link):
        source: Any = layers[name].weight
        stays[name] = stays_hidden(source, to_host(velocities[id(source.scores)]), optimizer.momentum)
    return {made: _both_sides(stays[made], stays[read]) for made, read in found}


def stays_hidden(source: Any, velocity: np.ndarray, momentum: float) -> np.ndarray:
    """Whether a weight stays hidden for ever, without gradients, by the bound: booleans of the scores' shape."""
    scores, speaks = to_host(source.scores.data), SPEAKS[type(source)]
    reach = speaks(scores) + momentum**2 / (1 - momentum) * speaks(velocity)
    return reach <= source.tau * (1 - MARGIN * float(np.finfo(scores.dtype).eps) / (1 - momentum))


def _both_sides(into: np.ndarray, out_of: np.ndarray) -> np.ndarray:
    """Units all of whose weights stay hidden: (..., in, units), (..., inputs, out) -> (units,), by origins()."""
    units = into.shape[-1]
    inputs = np.asarray(out_of.all(axis=(*range(out_of.ndim - 2), out_of.ndim - 1)))  # (inputs,)
    read = np.zeros(units, np.int64)
    np.add.at(read, origins(len(inputs), units)[~inputs], 1)
    return into.all(axis=tuple(range(into.ndim - 1))) & (read == 0)


def contracts(optimizer: SGDW, start: int, stop: int) -> bool:
    """Whether |1 - wd_t| <= 1 at every step from `start` to before `stop`: decay pulls scores to 0, or leaves them."""
    return all(0 <= optimizer.wd * float(optimizer.schedule(step)) <= 2 for step in range(start, stop))


def decay(optimizer: SGDW, start: int, stop: int, dtype: Any) -> tuple[float, float, float]:
    """What steps `start` to before `stop` do to a score without a gradient: m <- a m + b v, v <- c v; (a, b, c).

    Each step is the matrix [[1 - wd_t, mu^2], [0, mu]] on (m, v); this is their product, of constants as `dtype` has
    them. In float32 the result differs from that of step after step in its last digits, since it rounds once.
    """
    a, b, c = 1.0, 0.0, 1.0
    momentum = float(np.dtype(dtype).type(optimizer.momentum))
    for step in range(start, stop):
        keep = float(np.dtype(dtype).type(1.0 - optimizer.wd * float(optimizer.schedule(step))))
        c *= momentum
        a, b = keep * a, keep * b + momentum * c
    return a, b, c


# ---- a net and an optimizer without them ---------------------------------------------------------------------------


class Aside:
    """What of a whole layer's array is not at work: its values, in one row. The array itself may go meanwhile.

    Args:
        array: of a whole layer. chosen: what of it is at work, in an array of its own.
    """

    def __init__(self, array: Array, chosen: Chosen):
        self.shape, self.chosen = array.shape, chosen
        self.values = to_host(array)[self._outside()]

    def whole(self, small: Array, values: np.ndarray | None = None) -> np.ndarray:
        """The whole array, on the host: what is at work from `small`, all else as it was, or from `values`."""
        array = np.empty(self.shape, self.values.dtype)
        array[self._outside()] = self.values if values is None else values
        put(array, self.chosen, to_host(small))
        return array

    def _outside(self) -> np.ndarray:
        outside = np.ones(self.shape, bool)
        put(outside, self.chosen, np.zeros((), bool))
        return outside


class Gathered(nn.Sequential):
    """A net that computes without some of another's units, and answers for the whole of it.

    Its layers, parameters and state are small; arrays, masks, counts and sizes are those of the whole net. What is not
    gathered is shared with it, layer and all. Units that are left out stand in the whole net as :meth:`Shrunk.settle`
    left them, or are set aside; their masks are 0.

    Args:
        whole: the net. out: which units of which layers are left out. found: the whole net's links.

    Attributes:
        aside: by name, what is not at work of the whole net's arrays while zeros stand in for them; else empty.
    """

    def __init__(self, whole: nn.Sequential, out: Dead, found: list[Link]):
        self.whole, self.chosen, layers = whole, _chosen(whole, out, found), dict(whole.walk())
        self.sources: dict[str, tuple[Any, Any]] = {}  # by layer: the whole one, the small one
        self.aside: dict[str, Aside] = {}
        new = {}
        for name, chosen in self.chosen.items():
            source: Any = layers[name].weight
            small = copy.copy(source)
            small.scores = Tensor(_part(source.scores.data, chosen), requires_grad=True)
            small.frozen = _part(source.frozen, chosen)
            self.sources[name] = source, small
            new[name] = taken(layers[name], small, small.scores.shape)
        super().__init__([replaced(layer, name, new) for name, layer in whole.layers.items()], whole.input_shape)

    def arrays(self) -> dict[str, np.ndarray]:
        everything = self.whole.arrays()
        for name, (_, small) in self.sources.items():
            put(everything[f"{name}.scores"], self.chosen[name], to_host(small.scores.data))
            if self.aside:
                everything[f"{name}.scores"] = self.aside[f"{name}.scores"].whole(small.scores.data)
                everything[f"{name}.frozen"] = self.aside[f"{name}.frozen"].whole(small.frozen)
        return everything

    def set_aside(self) -> None:
        """Zeros that take no memory stand in for the whole net's arrays of which a part is at work here."""
        self.aside = {f"{name}.{part}": Aside(array, self.chosen[name]) for name, (source, _) in self.sources.items()
                      for part, array in (("scores", source.scores.data), ("frozen", source.frozen))}
        for source, _ in self.sources.values():
            source.scores.data, source.frozen = stand_in(source.scores.data), stand_in(source.frozen)

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        self.whole.load(arrays)
        self.aside = {}
        for name, (source, small) in self.sources.items():
            small.load_state({**source.state(), "frozen": _part(source.frozen, self.chosen[name])})
            small.scores.data = _part(source.scores.data, self.chosen[name])

    def masks(self) -> dict[str, np.ndarray]:
        found, sizes = super().masks(), {name: layer.shape for name, layer in self.whole.walk()}
        for name, chosen in self.chosen.items():
            mask = np.zeros(sizes[name], np.int8)
            put(mask, chosen, found[name])
            found[name] = mask
        return found

    def sizes(self) -> dict[str, int]:
        return self.whole.sizes()

    def counts(self) -> list[tuple[int, int, int]]:
        masked = {name for name, source in self.weights().items() if source.counts() is not None}
        return [(row["kept"], row["hidden"], row["inverted"]) for row in self.layer_counts() if row["name"] in masked]

    def layer_counts(self) -> list[dict[str, Any]]:
        return [{**row, "hidden": row["weights"] - row["kept"] - row["inverted"]} for row in super().layer_counts()]


def _chosen(net: nn.Sequential, out: Dead, found: list[Link]) -> dict[str, Chosen]:
    """By layer, which inputs and outputs stay where some do not; one of each at least: layers of nothing are none."""
    layers, gone = dict(net.walk()), dict[str, list[np.ndarray]]()
    for made, read in found:
        if made in out:
            units = out[made].copy()
            units[0] &= not units.all()
            for name, side, which in ((made, 1, units), (read, 0, units[origins(layers[read].shape[-2], len(units))])):
                gone.setdefault(name, [np.zeros(n, bool) for n in layers[name].shape[-2:]])[side] = which
    return {name: (np.flatnonzero(~inputs), np.flatnonzero(~outputs)) for name, (inputs, outputs) in gone.items()}


def _part(array: Array, chosen: Chosen) -> Array:
    return asarray(part(to_host(array), chosen), array)


class GatheredSGDW(SGDW):
    """SGDW on a gathered net, which answers for the whole optimizer: its settings are that one's, its slots whole."""

    def __init__(self, whole: SGDW, net: Gathered):
        self.whole, self.parameters, self.steps = whole, net.parameters(), whole.steps
        self.chosen = {i: net.chosen[layer] for i, name in enumerate(net.named_parameters())
                       if (layer := name.removesuffix(".scores")) in net.chosen}
        order = {id(tensor): i for i, tensor in enumerate(whole.parameters)}
        self.places = [order[id(tensor)] for tensor in net.whole.parameters()]  # of each of these in the whole one
        self.aside: dict[int, Aside] = {}
        self._gather()

    def _gather(self) -> None:
        self.velocity = [_part(self.whole.velocity[at], self.chosen[i]) if i in self.chosen else self.whole.velocity[at]
                         for i, at in enumerate(self.places)]

    def __getattr__(self, name: str) -> Any:
        """lr, wd, momentum, schedule: whoever changes them changes those of the optimizer that was given to fit."""
        return getattr(self.whole, name)

    def step(self) -> None:
        super().step()
        self.whole.steps = self.steps

    def settings(self) -> dict[str, Any]:
        return self.whole.settings()

    def slots(self) -> dict[str, Array]:
        slots = {name: np.array(to_host(v)) for name, v in self.whole.slots().items()}
        for i, chosen in self.chosen.items():
            name = f"velocity.{self.places[i]}"
            put(slots[name], chosen, to_host(self.velocity[i]))
            if self.aside:
                slots[name] = self.aside[i].whole(self.velocity[i])
        return slots

    def set_aside(self) -> None:
        """Zeros that take no memory stand in for the whole optimizer's velocities of which a part is at work here."""
        velocity = self.whole.velocity
        self.aside = {i: Aside(velocity[self.places[i]], chosen) for i, chosen in self.chosen.items()}
        for i in self.chosen:
            velocity[self.places[i]] = stand_in(velocity[self.places[i]])

    def load_slots(self, slots: dict[str, Array]) -> None:
        self.whole.load_slots(slots)
        self.aside = {}
        self._gather()


class Shrunk:
    """A net and its optimizer without the units that are `out`: both are whole again whenever settle() has been called.

    Args:
        net, optimizer: whole. out: the units. since: the step at which those left out stand as they are.
    """

    def __init__(self, net: nn.Sequential, optimizer: SGDW, out: Dead, since: int):
        self.whole, self.out, self.since = (net, optimizer), out, since
        self.net = Gathered(net, out, links(net, optimizer))
        self.optimizer = GatheredSGDW(optimizer, self.net)

    def set_aside(self) -> None:
        """Until they settle, the whole net and optimizer keep what is out alone, and not in their arrays."""
        for each in (self.net, self.optimizer):
            if not each.aside:
                each.set_aside()

    def settle(self) -> None:
        """Writes the live part into the whole net and optimizer, and what is left out as the update says by now.

        Stopped on its way, it may be called again.
        """
        self.set_aside()
        net, optimizer, now = self.net, self.optimizer, self.optimizer.steps
        back = []
        for i, name in enumerate(net.named_parameters()):
            layer = name.removesuffix(".scores")
            if layer not in net.sources:
                continue
            source, small = net.sources[layer]
            m, v, w = net.aside[name], optimizer.aside[i], net.aside[f"{layer}.frozen"]
            a, b, c = decay(optimizer.whole, self.since, now, m.values.dtype)
            back.append((source, optimizer.places[i], m.whole(small.scores.data, a * m.values + b * v.values),
                         v.whole(optimizer.velocity[i], c * v.values), w.whole(small.frozen)))
        for source, at, scores, velocity, frozen in back:
            source.scores.data, source.frozen = asarray(scores, source.scores.data), asarray(frozen, source.frozen)
            optimizer.whole.velocity[at] = asarray(velocity, optimizer.whole.velocity[at])
        net.aside, optimizer.aside, self.since = {}, {}, now


# ---- in training ---------------------------------------------------------------------------------------------------


class Shrinker(Listener):
    """Looks at every epoch's end which units are dead for ever, notes it in the record, and trains on without them.

    What it finds there is a function of the state alone, so a run that was stopped and taken up looks at the same
    places and finds the same. Within an epoch the units that are out stand still; at its end they are brought to where
    the update would have them. A checkpoint from the middle of an epoch says which they are, and since when they stand
    (:attr:`minimask.loop.Training.left_out`). It is the first of a run's listeners, so that the others find the net
    that was given to fit whole at the end of every epoch.
    """

    def __init__(self) -> None:
        self.shrunk: Shrunk | None = None

    def begin(self, training: Training) -> None:
        self.whole: tuple[nn.Sequential, Any] = training.net, training.optimizer
        if training.left_out:
            self._take_up(training)
        if training.step == 0:
            self.look(training)
        elif training.step == training.steps:
            self._settle(training)

    def step(self, training: Training, loss: float) -> None:
        if training.step == training.steps:
            self._settle(training)

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        self.look(training)

    def end(self, training: Training) -> None:
        """The run has its whole net and optimizer again, as whoever called fit has."""
        self._settle(training)
        training.net, training.optimizer = self.whole

    cut_short = end

    def look(self, training: Training) -> None:
        """Before the first step of an epoch: counts the dead for the last one's entry, and leaves them out."""
        self._settle(training)
        net, optimizer = self.whole
        found, epochs = dead(net, optimizer), training.record["epochs"]
        for row in epochs[-1]["layers"] if len(epochs) > training.epochs_before else ():
            if row["name"] in found:
                row |= {"units": len(found[row["name"]]), "dead": int(found[row["name"]].sum())}
        safe = found and contracts(optimizer, optimizer.steps, optimizer.steps + training.steps)
        self._leave_out(training, found if safe else {}, optimizer.steps)

    def _settle(self, training: Training) -> None:
        if self.shrunk:
            self.shrunk.settle()
            self._note(training)

    def _leave_out(self, training: Training, out: Dead, since: int) -> None:
        """Trains on without these units; with all of them where there is none."""
        out = {name: units for name, units in out.items() if units.any()}
        now = self.shrunk.out if self.shrunk else {}
        if out.keys() != now.keys() or any((out[name] != now[name]).any() for name in out):
            net, optimizer = self.whole
            self.shrunk = Shrunk(net, optimizer, out, since) if out else None
            training.net, training.optimizer = (self.shrunk.net, self.shrunk.optimizer) if self.shrunk else self.whole
        self._note(training)

    def _note(self, training: Training) -> None:
        """Which units are out, and since when they stand as they are, for checkpoints."""
        training.left_out = {} if self.shrunk is None else {
            "since": self.shrunk.since,
            "units": {name: np.flatnonzero(units).tolist() for name, units in self.shrunk.out.items()}}

    def _take_up(self, training: Training) -> None:
        """Leaves out what the checkpoint says. MinimaskError where that is not dead for ever."""
        found, out = dead(*self.whole), Dead()
        for name, numbers in training.left_out["units"].items():
            units = np.isin(np.arange(len(found.get(name, ()))), numbers)
            if units.sum() != len(numbers) or (units & ~found[name]).any():
                raise MinimaskError(f"the checkpoint leaves out units of {name} that are not dead for ever, so it is "
                                    "no state of this run; begin the run again")
            out[name] = units
        self._leave_out(training, out, training.left_out["since"])


class SetAside(Listener):
    """The last of a run's listeners: when all have seen the whole net, its arrays need no memory up to the next end."""

    def __init__(self, shrinker: Shrinker):
        self.shrinker = shrinker

    def begin(self, training: Training) -> None:
        if self.shrinker.shrunk:
            self.shrinker.shrunk.set_aside()

    def epoch(self, training: Training, entry: dict[str, Any], last: int) -> None:
        self.begin(training)
