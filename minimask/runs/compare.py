r"""`minimask compare A B`: how far two masks are the same, beside what chance would give.

Per layer of n weights, of which A leaves a and B leaves b: if both masks were drawn at random with these densities,
the number that both leave would be hypergeometric, so

    expected = a b / n
    variance = a b (n - a) (n - b) / (n^2 (n - 1))
    z = (both - expected) / sqrt(variance)

Layers are independent of each other: over the whole net expectations and variances add up. (Densities are held per
layer: over all weights at once, even unrelated masks overlap, because both leave more in the same layers.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import escape, files
from ..display import MARK, columns, result
from ..errors import MinimaskError, UsageError
from ..mask import Supermask
from .folder import called, load, read_record


@dataclass(frozen=True)
class Overlap:
    """Two masks of one layer, or of all; numbers of weights, all but the expected ones whole.

    Attributes:
        layer: its name. weights: how many it has. left_a, left_b: not hidden in A, in B.
        both: not hidden in either. neither: hidden in both.
        same_sign: of `both`, those kept in both or inverted in both. same_weight: those whose effective weights, with
            the frozen weights of each, have the same sign; None where these are not known.
        expected, variance: of `both`, by chance. expected_same_sign: of `same_sign`, by chance, given `both`.
    """

    layer: str
    weights: int
    left_a: int
    left_b: int
    both: int
    neither: int
    same_sign: int
    same_weight: int | None
    expected: float
    variance: float
    expected_same_sign: float

    @property
    def z(self) -> float | None:
        """How many standard deviations `both` is from chance; None where chance leaves no choice."""
        return (self.both - self.expected) / math.sqrt(self.variance) if self.variance > 0 else None

    @property
    def jaccard(self) -> float | None:
        """both / (left in A or in B), 0 to 1; None where nothing is left."""
        return _share(self.both, self.left_a + self.left_b - self.both)

    @property
    def expected_jaccard(self) -> float | None:
        """The same for the expected overlap."""
        return _share(self.expected, self.left_a + self.left_b - self.expected)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "z": self.z, "jaccard": self.jaccard, "expected_jaccard": self.expected_jaccard}


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


Arrays = Mapping[str, np.ndarray]


def overlaps(a: Arrays, b: Arrays, frozen: tuple[Arrays, Arrays] | None = None) -> list[Overlap]:
    """Layer by layer how far two nets' masks agree.

    Args:
        a, b: layer -> mask of -1, 0, +1, as ``net.masks()`` gives them; the same names and shapes in both.
        frozen: the frozen weights of both, by layer, where they are known.

    Raises:
        UsageError: layers or shapes differ; the sentence names both.
    """
    if not a or not b:
        raise UsageError("compare: there is no mask; give nets with masked layers")
    if list(a) != list(b):
        raise UsageError(f"compare: A has the layers {', '.join(a)}, but B has {', '.join(b)}; only masks of one net "
                         "can be compared")
    for name in a:
        if a[name].shape != b[name].shape:
            raise UsageError(f"compare: {name} is {a[name].shape} in A, but {b[name].shape} in B; only masks of one "
                             "net can be compared")
    return [_overlap(name, a[name], b[name], tuple(each[name] for each in frozen) if frozen else ()) for name in a]


def _overlap(name: str, a: np.ndarray, b: np.ndarray, frozen: Sequence[np.ndarray]) -> Overlap:
    n, both = a.size, (a != 0) & (b != 0)
    left_a, left_b, count = (int(np.count_nonzero(mask)) for mask in (a, b, both))
    inverted_a, inverted_b = (np.count_nonzero(mask < 0) / max(left, 1) for mask, left in ((a, left_a), (b, left_b)))
    same_weight = None
    if frozen:
        same_weight = int(np.count_nonzero(both & (np.sign(frozen[0]) * a == np.sign(frozen[1]) * b)))
    return Overlap(name, n, left_a, left_b, count, int(np.count_nonzero((a == 0) & (b == 0))),
                   int(np.count_nonzero(both & (a == b))), same_weight, left_a * left_b / n,
                   left_a * left_b * (n - left_a) * (n - left_b) / (n * n * max(n - 1, 1)),
                   count * (inverted_a * inverted_b + (1 - inverted_a) * (1 - inverted_b)))


def total(layers: Sequence[Overlap]) -> Overlap:
    """The layers taken together, as layer 'all'."""
    sums: dict[str, Any] = {name: sum(getattr(layer, name) for layer in layers)
                            for name in asdict(layers[0]) if name not in ("layer", "same_weight")}
    known = [layer.same_weight for layer in layers if layer.same_weight is not None]
    return Overlap(layer="all", same_weight=sum(known) if known else None, **sums)


# ---- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """What is compared: where it is from, in words, its masks, and its frozen weights where they are known."""

    about: str
    masks: Arrays
    frozen: Arrays | None


def read(path: str | Path) -> Side:
    """The masks of a run (its folder), or of an ``.npz`` with an array of -1, 0, +1 per layer.

    Raises:
        UsageError: there is nothing, or nothing with a mask. MinimaskError: it is damaged, or its parts disagree.
    """
    path = Path(path)
    if path.is_dir():
        return _read_run(path)
    if not path.exists():
        raise UsageError(f"there is no {path}; give a run's folder, or masks as numpy.savez(FILE, **net.masks()) "
                         "writes them")
    return Side(f"{path}: masks", _read_masks(path), None)


def _read_run(folder: Path) -> Side:
    """A run's masks, which must be those that its record counts."""
    record = read_record(folder)
    if not record["epochs"]:
        raise MinimaskError(f"{folder} holds no whole run: it has no whole epoch, so its mask is as it "
                            "was drawn, untrained; give a run that has trained")
    if "unknown" in record.get("net", {}):
        masks, frozen = _kept(folder, record)
    else:
        net, record = load(folder)
        masks = net.masks()
        frozen = {name: np.asarray(source.frozen) for name, source in net.weights().items()
                  if isinstance(source, Supermask)}
    name = called(record)
    if not masks:
        raise UsageError(f"{folder} holds a dense net ({name}): every weight is trained, so there is no mask to "
                         "compare")
    try:
        end = record["epochs"][-1]
        mark = MARK * bool(record.get("unverified"))
        seed = "unknown" if record["seed"] is None else record["seed"]
        about = (f"{folder}: {name}, seed {seed}, {record['dataset'] or 'unknown data'}, {end['epoch']} epochs, "
                 f"{result(end, record['dataset'], mark)}, "
                 f"{end['weights_left']:.2%} left")
    except (LookupError, TypeError, ValueError) as error:
        raise MinimaskError(f"{folder} holds no whole run: its record lacks {error}") from error
    return Side(about, masks, frozen)


def _kept(folder: Path, record: dict[str, Any]) -> tuple[Arrays, Arrays]:
    """Masks and frozen weights of a net with layers that no table knows: they lie in its network.npz."""
    layers = record["epochs"][-1]["layers"] if record["epochs"] else []
    found = files.some_arrays(folder / "network.npz", [f"{layer['name']}.{part}" for layer in layers
                                                       for part in ("mask", "frozen")], MOST_BYTES)
    masks = {name.removesuffix(".mask"): array for name, array in found.items() if name.endswith(".mask")}
    for layer in layers:
        mask, frozen = masks.get(layer["name"]), found.get(f"{layer['name']}.frozen")
        if mask is None:
            continue
        counts = {"kept": int((mask > 0).sum()), "hidden": int((mask == 0).sum()), "inverted": int((mask < 0).sum())}
        if frozen is None or frozen.shape != mask.shape or not np.isin(mask, (-1, 0, 1)).all() or any(
                layer[part] != count for part, count in counts.items()):
            raise MinimaskError(f"{folder} disagrees with itself: of layer {layer['name']} record.json counts other "
                                "weights than network.npz holds; one of them is from another run")
    return masks, {name: found[f"{name}.frozen"] for name in masks}


#: Masks of more entries than this are not read from a file: no net of the paper comes near.
MOST_BYTES = 200_000_000


def _read_masks(path: Path) -> Arrays:
    """Arrays of -1, 0, +1 by name from an .npz, which is not believed before it is checked."""
    with files.opened(path) as (archive, _):
        found = files.members(archive, None)
        if sum(info.file_size for info in found.values()) > MOST_BYTES:
            raise ValueError(f"it promises more than {MOST_BYTES:,} bytes")
        masks = {name.removesuffix(".npy"): files.read_any_array(archive, info) for name, info in found.items()}
    if any(name.endswith(".scores") for name in masks):
        raise UsageError(f"{path} is a net, not masks; give the folder of its run, which says what net it is")
    for name, mask in masks.items():
        if mask.dtype.kind not in "iu" or not mask.size or not np.isin(mask, (-1, 0, 1)).all():
            raise MinimaskError(f"{path}: {name} is no mask: needed are whole numbers -1, 0 and +1, as "
                                "numpy.savez(FILE, **net.masks()) writes them")
    return masks


# ---- in words -------------------------------------------------------------------------------------------------------


def table(layers: Sequence[Overlap]) -> str:
    """The layers and all together, as text of equal columns."""
    def percent(share: float | None) -> str:
        return "-" if share is None else f"{share:.1%}"

    rows = [("layer", "weights", "left A", "left B", "both", "chance", "z", "Jaccard", "chance", "same sign", "chance",
             "both hidden")]
    for each in (*layers, total(layers)):
        rows.append((escape.line(each.layer), f"{each.weights:,}", percent(each.left_a / each.weights),
                     percent(each.left_b / each.weights), f"{each.both:,}", f"{each.expected:,.1f}",
                     "-" if each.z is None else f"{each.z:+.1f}", percent(each.jaccard), percent(each.expected_jaccard),
                     percent(_share(each.same_sign, each.both)), percent(_share(each.expected_same_sign, each.both)),
                     f"{each.neither:,}"))
    return "\n".join(columns(rows))


def of_the_frozen(a: Side, b: Side, layers: Sequence[Overlap]) -> tuple[str, str]:
    """Whether both nets froze the same weights ('same', 'different', 'unknown'), and what same signs then mean."""
    if a.frozen is None or b.frozen is None:
        return "unknown", ("Masks alone: whether their frozen weights are the same is not known, and so neither "
                           "whether the same sign is the same weight.")
    differ = [name for name in a.frozen if not np.array_equal(a.frozen[name], b.frozen[name])]
    if not differ:
        return "same", ("The frozen weights are the same (same seed and initialisation): where the signs agree, both "
                        "nets hold the same weight, elsewhere its negative.")
    everything = total(layers)
    share = _share(everything.same_weight or 0, everything.both)
    effect = "" if share is None else f" Of the weights that both leave, {share:.1%} have the same sign in effect."
    return "different", (f"The frozen weights differ in {len(differ)} of {len(a.frozen)} layers (another seed or "
                         "initialisation): a mask's sign is that of its own frozen weight, so the same sign is not the "
                         f"same weight.{effect}")
