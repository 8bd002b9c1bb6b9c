"""The dense equivalent of a net, laid out as PyTorch and ONNX have it.

Every weight is as the net multiplies with it, 0 where it is hidden. Images are NHWC here and NCHW there, so the layouts
change with them::

    here                                     there
    dense weight (in, out)                   (out, in)
    kernel (kh, kw, c_in, c_out)             (c_out, c_in, kh, kw)
    after Flatten: row, column, channel      channel, row, column: the next dense weight's columns are reordered

Names are those of the net's layers: 'dense1.weight', 'residual2.shortcut_conv2d1.weight', 'batchnorm1.running_mean'.
Everything takes what the net takes, images that are preprocessed (about.py says how).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from .. import nn, resnet
from ..errors import MinimaskError
from .layers import COUNTERPARTS, Place

Order = np.ndarray | None
#: Places one after the other, and the shape and order of what comes out.
Chain = tuple[list[Place], tuple[int, ...], Order]


def state_dict(net: nn.Sequential) -> dict[str, np.ndarray]:
    """The dense equivalent's arrays under PyTorch's names and in its layouts, on the host, in the net's dtype.

    A layer that the net uses twice is written twice, under both names.

    Raises MinimaskError for a layer that has no counterpart there.
    """
    return {f"{place.name}.{part}": np.asarray(array, order="C") for place in flat(places(net))
            for part, array in COUNTERPARTS[type(place.layer)].arrays(place).items()}


def places(net: nn.Sequential) -> list[Place]:
    """The net's layers where they stand, in order; MinimaskError where one has no counterpart."""
    if not net.layers:
        raise MinimaskError("the net has no layer, so there is nothing to write; give it one")
    found, _, order = _chain("", net.layers, net.input_shape, _as_here(net.input_shape), None)
    if not _is_as_here(order):
        raise MinimaskError(f"the net ends in {found[-1].layer!r} behind Flatten: its outputs would come in another "
                            "order there; put Dense after")
    return found


def flat(places: Iterable[Place]) -> Iterator[Place]:
    """The same with the layers inside Residuals in their place."""
    for place in places:
        if isinstance(place.layer, resnet.Residual):
            yield from flat([*place.main, *place.shortcut, *([place.activation] if place.activation else [])])
        else:
            yield place


def channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of one sample in the order of other systems: (h, w, c) -> (c, h, w); others stay as they are."""
    return (2, 0, 1) if len(shape) == 3 else tuple(range(len(shape)))


# ---- where every entry of a vector is ------------------------------------------------------------------------------


def _as_here(shape: tuple[int, ...]) -> Order:
    """The order of a vector whose entries are where ours are; None for images."""
    return np.arange(shape[0]) if len(shape) == 1 else None


def _is_as_here(order: Order) -> bool:
    return order is None or bool((order[:-1] < order[1:]).all())


def _same(one: Order, other: Order) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _chain(prefix: str, layers: Mapping[str, nn.Layer], shape: tuple[int, ...], order: Order, wish: Order) -> Chain:
    """The Places of layers one after the other. wish: every Dense with as many outputs puts them in this order."""
    found = []
    for part, layer in layers.items():
        name = prefix + part
        if isinstance(layer, resnet.Residual):
            place = _residual(name, layer, shape, order, wish)
        else:
            place = Place(name, layer, shape, order, _after(name, layer, shape, order, wish))
        found.append(place)
        shape, order = layer.output_shape(shape), place.after
    return found, shape, order


def _after(name: str, layer: nn.Layer, shape: tuple[int, ...], order: Order, wish: Order) -> Order:
    """The order of what comes out of a layer; MinimaskError where it cannot be written."""
    kind, after = type(layer), layer.output_shape(shape)
    if kind not in COUNTERPARTS:
        raise MinimaskError(f"{name} is {layer!r}, which has no counterpart in other systems; known are "
                            f"{', '.join(each.__name__ for each in (*COUNTERPARTS, resnet.Residual))}; "
                            "minimask.interchange.register makes another one known")
    if kind is resnet.BatchNorm and len(shape) not in (1, 3):
        raise MinimaskError(f"{name} is {layer!r} on samples of shape {shape}: other systems take the first axis for "
                            "its channels; normalise vectors or images (h, w, c)")
    if kind is nn.Flatten:
        return order if len(shape) == 1 else np.arange(np.prod(shape)).reshape(shape).transpose(
            channels_first(shape)).ravel()
    if kind is nn.Dense:
        return wish if wish is not None and after == wish.shape else _as_here(after)
    if _is_as_here(order):
        return _as_here(after)
    if not (COUNTERPARTS[kind].entrywise and after == shape):
        raise MinimaskError(f"{name} is {layer!r} behind Flatten, where entries come in another order there; put Dense "
                            "before it, or register it as entrywise if it is")
    return order


def _residual(name: str, layer: resnet.Residual, shape: tuple[int, ...], order: Order, wish: Order) -> Place:
    """Both ways must end in one order: where they do not, a Dense in one of them writes its outputs in the other's."""
    def way(prefix: str, layers: Mapping[str, nn.Layer], wish: Order) -> Chain:
        return _chain(f"{name}.{prefix}", layers, shape, order, wish)

    main, around = way("", layer.main, wish), way("shortcut_", layer.shortcut, wish)
    if not _same(main[-1], around[-1]):
        asked = way("", layer.main, around[-1])
        if _same(asked[-1], around[-1]):
            main = asked
        else:
            around = way("shortcut_", layer.shortcut, main[-1])
    if not _same(main[-1], around[-1]):
        raise MinimaskError(f"{name} is {layer!r}: behind Flatten its two ways end in two orders there; put Dense into "
                            "one of them, after Flatten")
    last, inside = f"{name}.activation", main[1]
    activation = Place(last, layer.activation, inside, main[-1], _after(last, layer.activation, inside, main[-1], None))
    return Place(name, layer, shape, order, activation.after, main[0], around[0], activation)
