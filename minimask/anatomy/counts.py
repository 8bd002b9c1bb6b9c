"""What a trained mask is made of: shares, degrees, paths, patterns, and which part carries the information.

Everything here is counted on the host, from the *effective signs* t = sign(W s), which are what the net computes with
(-1, 0 or +1; with signed-constant weights the effective weight is c t and nothing is lost), or from the mask s itself
(+1 kept, 0 hidden, -1 inverted). `minimask inspect RUN` draws and explains it all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from .. import conv, init, layers, nn, ops, resnet, train
from ..backend import asarray, to_host
from ..data import Dataset
from ..engine import Tensor, no_grad
from ..errors import MinimaskError
from ..mask import Supermask, Trained

Masks = Mapping[str, np.ndarray]


def masks(net: nn.Sequential) -> dict[str, np.ndarray]:
    """The net's masks by layer name, int8: +1 kept, 0 hidden, -1 inverted; MinimaskError where it has none."""
    found = net.masks()
    if not found:
        raise MinimaskError("inspect: this net has no masked layer, every weight is trained; give a run of a supermask")
    return found


def signs(net: nn.Sequential) -> dict[str, np.ndarray]:
    """The effective signs t = sign(W s) of every layer with weights, by name: int8, in the weight's shape."""
    with no_grad():
        return {name: np.sign(to_host(source.effective().data)).astype(np.int8)
                for name, source in net.weights().items()}


# ---- shares against chance -----------------------------------------------------------------------------------------


def shares(masks: Masks) -> list[dict[str, Any]]:
    """Per layer: name, weights, kept, hidden, inverted, and how far from chance that is.

    - left_by_chance: how many would be left here if all that are left in the net were strewn evenly; left_deviation:
      how many standard deviations more there are (of the hypergeometric distribution).
    - kept_deviation: how many standard deviations more are kept than if each one left was kept or inverted by the toss
      of a coin. The frozen signs are random, so there is no reason to keep more than to invert.
    """
    total = sum(mask.size for mask in masks.values())
    all_left = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    rows = []
    for name, mask in masks.items():
        kept, inverted, n = int(np.count_nonzero(mask > 0)), int(np.count_nonzero(mask < 0)), mask.size
        left, share = kept + inverted, all_left / total
        spread = math.sqrt(n * share * (1 - share) * (total - n) / max(total - 1, 1))
        rows.append({"name": name, "weights": n, "kept": kept, "hidden": n - left, "inverted": inverted,
                     "left_by_chance": n * share, "left_deviation": _ratio(left - n * share, spread),
                     "kept_deviation": _ratio(kept - left / 2, math.sqrt(left) / 2)})
    return rows


def _ratio(distance: float, spread: float) -> float:
    return distance / spread if spread else 0.0


def groups(net: nn.Sequential) -> dict[str, int]:
    """In how many groups of channels the convolutions of a net fall, by name, where that is not one."""
    return {name: layer.groups for name, layer in net.walk() if isinstance(layer, layers.GroupedConv2D)}


def degrees(masks: Masks, groups: Mapping[str, int] = MappingProxyType({})) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """How many weights are left at each input and at each unit of every layer, by name: (inputs,) and (units,).

    The first is the out-degree of what feeds the layer (of a pixel, say), the second the in-degree of its units. In a
    convolution both are channels, and a weight counts once, not at every place of the image.

    Args:
        groups: of convolutions in groups, as :func:`groups` gives them.
    """
    found = {}
    for name, mask in masks.items():
        parts = mask.reshape(*mask.shape[:-1], groups.get(name, 1), -1)  # (..., inputs of a group, groups, its units)
        at_inputs = np.count_nonzero(parts, axis=(*range(mask.ndim - 2), mask.ndim)).T.ravel()
        found[name] = at_inputs, np.count_nonzero(mask, axis=tuple(range(mask.ndim - 1)))
    return found


def shuffled(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same entries in a random order: a mask with as many kept, hidden and inverted, and no other structure."""
    return rng.permutation(mask.ravel()).reshape(mask.shape)


# ---- paths ---------------------------------------------------------------------------------------------------------


def paths(net: nn.Sequential, signed: bool = False, after: str | None = None) -> np.ndarray:
    """How many paths of weights that are left lead to each class: -> (classes, *shape of one sample), float64.

    A path takes one weight from every layer it passes (a residual block may be passed on either way), and no hidden
    one. Their number is a gradient: that of the logits of the net whose weights are |t| and which has no
    nonlinearities, a pool adding up its window. Numbers over 2^53 are rounded.

    Args:
        signed: paths with an even number of negative weights less those with an odd number; a positive balance says
            that the input speaks for the class, as far as a net without its nonlinearities can say so.
        after: count from the output of this layer (a name in ``net.layers``); from the input unless given.
    """
    effective, weights = signs(net), {}  # by layer: one that is used twice has one name only
    for name, layer in net.walk():
        weight = np.sign(to_host(layer.scale.data)) if isinstance(layer, resnet.BatchNorm) else effective.get(name)
        if weight is not None:
            weights[id(layer)] = (weight if signed else np.abs(weight)).astype(np.float64)
    names = list(net.layers)
    rest = names if after is None else names[names.index(after) + 1:]
    shape, (classes,) = net.input_shape if after is None else net.shapes[after], net.shapes[names[-1]]
    blocks: list[np.ndarray] = []
    for start in range(0, classes, 10):  # ten classes at a time: a deep net's activations take memory
        cotangent = np.eye(classes)[start:start + 10]  # (10, classes)
        x = Tensor(np.zeros((len(cotangent), *shape)), requires_grad=True)
        y = x
        for name in rest:
            y = _linear(net.layers[name], y, name, weights)
        (y + 0.0).backward(cotangent)  # + 0.0: where there is no layer left, y is x
        blocks.append(to_host(x.grad))
    return np.concatenate(blocks)


def _linear(layer: nn.Layer, x: Tensor, name: str, weights: Mapping[int, np.ndarray]) -> Tensor:
    """What the layer does to numbers of paths. weights: by the layer's id."""
    if isinstance(layer, nn.Dense):
        return ops.matmul(x, weights[id(layer)])
    if isinstance(layer, nn.Conv2D):
        return conv.conv2d(x, weights[id(layer)], layer.stride, layer.padding)
    if isinstance(layer, layers.GroupedConv2D):
        return layers.grouped_conv2d(x, weights[id(layer)], layer.groups, layer.stride, layer.padding)
    if isinstance(layer, (nn.MaxPool2D, resnet.AvgPool2D)):  # any entry of the window may be the largest, or counts
        each = np.broadcast_to(np.eye(x.shape[3]), (layer.window, layer.window, x.shape[3], x.shape[3]))
        return conv.conv2d(x, np.ascontiguousarray(each), layer.stride, layer.padding)
    if isinstance(layer, resnet.GlobalAvgPool):
        return ops.sum(x, axis=(1, 2))
    if isinstance(layer, resnet.BatchNorm):
        return x * weights[id(layer)]
    if isinstance(layer, resnet.Residual):
        y = x
        for part, child in layer.main.items():
            y = _linear(child, y, f"{name}.{part}", weights)
        for part, child in layer.shortcut.items():
            x = _linear(child, x, f"{name}.shortcut_{part}", weights)
        return y + x
    if isinstance(layer, nn.Flatten):
        return layer(x)
    if isinstance(layer, (nn.ELU, nn.ReLU, layers.Tanh, layers.Sigmoid, layers.Bias, layers.Dropout)):
        return x  # a bias comes from no input
    raise MinimaskError(f"paths: {name} is {layer!r}, and how paths pass that is not known")


# ---- the first layer, over the image plane -------------------------------------------------------------------------


def over_the_image(net: nn.Sequential) -> str | None:
    """The name of the first layer with weights, if it is dense and sees the image's pixels; else None."""
    name, source = next(iter(net.weights().items()))
    dense = isinstance(net.layers.get(name), nn.Dense) and isinstance(source, Supermask)
    return name if dense and len(net.input_shape) == 3 else None


def pixels(net: nn.Sequential, dataset: Dataset) -> dict[str, np.ndarray]:
    """What the image plane looks like to the net; each (h, w), summed or averaged over the colours where there are any.

    - paths: from the pixel to any class. varies: standard deviation of the preprocessed pixel over the training set.
    - where the first layer is dense, too: seen, the share of its units that have a weight left there; balance, the
      share that keeps less the share that inverts (the mean of s over units); sign, the mean of the effective sign t.
    """
    found = {"paths": paths(net).sum(axis=(0, 3)),
             "varies": dataset.prepare(dataset.train_images).std(axis=0).mean(axis=2)}
    name = over_the_image(net)
    if name:
        for part, array in (("seen", masks(net)[name] != 0), ("balance", masks(net)[name]), ("sign", signs(net)[name])):
            found[part] = array.mean(axis=1).reshape(net.input_shape).mean(axis=2)
    return found


def class_means(dataset: Dataset) -> np.ndarray:
    """The mean preprocessed training image of each class: (classes, h, w, c), float64; zeros where there is none."""
    images = dataset.prepare(dataset.train_images)
    of = [images[dataset.train_labels == label] for label in range(len(dataset.classes))]
    return np.stack([each.mean(axis=0, dtype=np.float64) if len(each) else np.zeros(images.shape[1:]) for each in of])


# ---- filters -------------------------------------------------------------------------------------------------------


def patterns(weight: np.ndarray, most: int = 8) -> list[tuple[np.ndarray, int, float]]:
    """The most frequent filters of a convolution: (pattern, how often it occurs, how often it would by chance).

    A filter is what one output channel does with one input channel, a window (kh, kw) of signs; filters that are hidden
    as a whole are left out. By chance: if every weight was left with the layer's probability, and positive by a coin.

    Args:
        weight: effective signs (kh, kw, c_in, c_out).
    """
    kh, kw = weight.shape[:2]
    rows = weight.reshape(kh * kw, -1).T  # (c_in*c_out, kh*kw)
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    left = np.count_nonzero(unique, axis=1)
    share = np.count_nonzero(rows) / rows.size
    chance = len(rows) * (share / 2) ** left * (1 - share) ** (kh * kw - left)
    order = [i for i in np.argsort(-counts, kind="stable") if left[i]]
    return [(unique[i].reshape(kh, kw), int(counts[i]), float(chance[i])) for i in order[:most]]


# ---- which part carries the information? ---------------------------------------------------------------------------

#: A new effective weight from a layer's source, its mask and a generator.
Change = Callable[[Supermask, np.ndarray, np.random.Generator], np.ndarray]


def _signs_shuffled(source: Supermask, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    changed, left = mask.copy(), mask != 0
    changed[left] = rng.permutation(mask[left])
    return to_host(source.frozen) * changed


def _mask_shuffled(source: Supermask, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return to_host(source.frozen) * shuffled(mask, rng)


def _magnitudes(distribution: str) -> Change:
    def change(source: Supermask, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frozen = to_host(source.frozen)
        second_moment = float(np.mean(np.square(frozen, dtype=np.float64)))
        return np.sign(frozen) * mask * np.abs(init.DISTRIBUTIONS[distribution](mask.shape, second_moment, rng))

    return change


def _frozen_anew(source: Supermask, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return init.draw(mask.shape, rng, **source.settings["frozen"]) * mask


#: What is changed, in every masked layer, and how; the counts kept, hidden, inverted of each layer never change.
#: Signed-constant weights all have one magnitude, so a new draw from their own rule is either no change at all or one
#: of their signs. Hence two questions: new magnitudes of the same second moment from another distribution, under the
#: same signs; and new frozen weights from their own rule, signs and all.
CHANGES: dict[str, Change] = {
    "signs shuffled": _signs_shuffled,
    "mask shuffled": _mask_shuffled,
    "magnitudes uniform": _magnitudes("uniform"),
    "magnitudes normal": _magnitudes("normal"),
    "frozen weights anew": _frozen_anew,
}


def changed(net: nn.Sequential, change: Change, rng: np.random.Generator) -> nn.Sequential:
    """A copy of the net with plain weights, those of its masked layers changed; the net itself stays as it is."""
    other, layer_masks = copy.deepcopy(net), masks(net)
    layers = dict(other.walk())
    for name, mask in layer_masks.items():
        source, plain = layers[name].weight, Trained()
        assert isinstance(source, Supermask)
        plain.weight = Tensor(asarray(change(source, mask, rng), like=source.frozen))
        layers[name].weight = plain
    return other


def worth(net: nn.Sequential, dataset: Dataset, rng: np.random.Generator, repeats: int = 5) -> dict[str, list[float]]:
    """Held-out accuracy of the net as it is ('as trained') and under each of CHANGES, `repeats` times drawn anew."""
    def accuracy(some: nn.Sequential) -> float:
        return train.evaluate(some, dataset.test_images, dataset.test_labels, prepare=dataset.prepare)

    return {"as trained": [accuracy(net)],
            **{name: [accuracy(changed(net, change, rng)) for _ in range(repeats)] for name, change in CHANGES.items()}}
