"""What a layer is called elsewhere: its arrays, its ONNX nodes and its PyTorch module, kind by kind, in one table.

A layer of one's own enters the table with :func:`register`. Noise, which does nothing once a net is trained::

    interchange.register(Noise, interchange.IDENTITY)

and one that doubles what comes in::

    interchange.register(Doubled, interchange.Counterpart(
        onnx=lambda node, place, x, y: [node("Add", [x, x], [y], name=place.name)],
        torch=lambda torch, place: DoubledModule(),
        entrywise=True))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import layers as kinds
from .. import nn, resnet
from ..backend import to_host
from ..engine import no_grad
from ..errors import MinimaskError, UsageError
from ..windows import geometry


@dataclass(frozen=True)
class Place:
    """A layer where it stands in a net.

    Attributes:
        name: 'dense1', 'residual2.shortcut_conv2d1'. layer: itself. shape: of one sample before it, as it is here.
        order: where each entry of a vector is there, for vectors: entry i of theirs is entry order[i] of ours. None for
            images, (h, w, c) here and (c, h, w) there.
        after: the same for what comes out.
        main, shortcut, activation: the two ways through a Residual, and what follows where they meet.
    """

    name: str
    layer: Any
    shape: tuple[int, ...]
    order: np.ndarray | None
    after: np.ndarray | None
    main: Sequence[Place] = ()
    shortcut: Sequence[Place] = ()
    activation: Place | None = None


@dataclass(frozen=True)
class Counterpart:
    """How layers of one kind are written.

    Attributes:
        onnx: (node, place, x, y) -> the nodes that compute value y from value x; node is ``onnx.helper.make_node``.
            Images are (n, c, h, w) there. An array of the layer is the value f"{place.name}.{part}".
        torch: (torch, place) -> the ``torch.nn.Module``; its ``state_dict()`` has the names of `arrays`.
        arrays: place -> part -> array, laid out as PyTorch lays it out.
        entrywise: whether entry i of a vector that comes out depends on entry i alone of what comes in, in the same way
            for every i. Behind Flatten entries stand in another order there, and only such layers can be written.
    """

    onnx: Callable[[Any, Place, str, str], Sequence[Any]]
    torch: Callable[[Any, Place], Any]
    arrays: Callable[[Place], dict[str, np.ndarray]] = lambda place: {}
    entrywise: bool = False


def register(kind: type[nn.Layer], counterpart: Counterpart) -> None:
    """From now on layers of class `kind` (no subclasses) are written as `counterpart` says.

    Raises UsageError for what is no class of layers or no Counterpart.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Layer)):
        raise UsageError(f"register: {kind!r} is no class of layers; give the class itself, derived from nn.Layer")
    if not isinstance(counterpart, Counterpart):
        raise UsageError(f"register: {counterpart!r} is no Counterpart; give interchange.Counterpart(onnx=, torch=), "
                         "or interchange.IDENTITY for a layer that does nothing once a net is trained")
    COUNTERPARTS[kind] = counterpart


# ---- ours ----------------------------------------------------------------------------------------------------------


def _node(kind: str, *parts: str, settings: Callable[[Place], dict[str, Any]] = lambda place: {}) -> Any:
    """For Counterpart.onnx: one node of that kind, which also takes these arrays of the layer."""
    return lambda node, place, x, y: [node(kind, [x, *(f"{place.name}.{part}" for part in parts)], [y],
                                           name=place.name, **settings(place))]


def _module(name: str) -> Any:
    """For Counterpart.torch: ``torch.nn.NAME()``."""
    return lambda torch, place: getattr(torch.nn, name)()


def _effective(layer: nn.Layer) -> np.ndarray:
    assert layer.weight is not None
    with no_grad():
        return to_host(layer.weight.effective().data) + 0.0  # a hidden weight is 0, never -0


def _dense(place: Place) -> dict[str, np.ndarray]:
    return {"weight": _effective(place.layer)[place.order][:, place.after].T}  # (out, in)


def _conv(place: Place) -> dict[str, np.ndarray]:
    return {"weight": _effective(place.layer).transpose(3, 2, 0, 1)}  # (c_out, c_in, kh, kw)


def _norm(place: Place) -> dict[str, np.ndarray]:
    norm: resnet.BatchNorm = place.layer
    chosen: Any = slice(None) if place.order is None else place.order
    arrays = {"weight": norm.scale.data, "bias": norm.shift.data, "running_mean": norm.mean,
              "running_var": norm.variance}
    return {**{part: to_host(array)[chosen] for part, array in arrays.items()},
            "num_batches_tracked": np.array(0, np.int64)}


def _window(place: Place) -> Any:
    """The geometry of a layer that has a window."""
    layer = place.layer
    kernel = layer.window if layer.weight is None else layer.shape[:2]
    return geometry(place.name, (1, *place.shape), kernel, layer.stride, layer.padding)


def _onnx_window(place: Place) -> dict[str, Any]:
    at = _window(place)
    (top, bottom), (left, right) = at.padding
    return {"kernel_shape": at.kernel, "strides": at.stride, "pads": (top, left, bottom, right)}


def _torch_window(place: Place) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride, and padding, which PyTorch's layers have alike on both sides."""
    at = _window(place)
    (top, bottom), (left, right) = at.padding
    where = f"{place.name} is {place.layer!r} on images of {place.shape[:2]}, which pads {at.padding}"
    if (top, left) != (bottom, right):
        raise MinimaskError(f"{where}; PyTorch's layers pad both sides alike: write ONNX, or pad in a layer of your "
                            "own")
    if place.layer.weight is None and (2 * top > at.kernel[0] or 2 * left > at.kernel[1]):
        raise MinimaskError(f"{where}; PyTorch's pools pad at most half of the window {at.kernel}: write ONNX, or pad "
                            "less")
    return at.kernel, at.stride, (top, left)


def _bias(place: Place) -> dict[str, np.ndarray]:
    bias = to_host(place.layer.bias.data)
    if len(place.shape) == 3:
        return {"bias": bias.reshape(-1, 1, 1)}  # (c, 1, 1), beside images
    return {"bias": bias if place.order is None else bias[place.order]}


def _torch_bias(torch: Any, place: Place) -> Any:
    """PyTorch has no layer that only adds: one with a parameter `bias`."""
    class Bias(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(_bias(place)["bias"].shape))

        def forward(self, x: Any) -> Any:
            return x + self.bias

    return Bias()


def _onnx_mean(node: Any, place: Place, x: str, y: str) -> list[Any]:
    mean = f"{place.name}.mean"  # ONNX keeps the image's axes, (n, c, 1, 1)
    return [node("GlobalAveragePool", [x], [mean]), node("Flatten", [mean], [y])]


def _torch_conv(torch: Any, place: Place) -> Any:
    kernel, stride, padding = _torch_window(place)
    return torch.nn.Conv2d(*place.layer.shape[2:], kernel, stride, padding, bias=False)


def _torch_grouped(torch: Any, place: Place) -> Any:
    kernel, stride, padding = _torch_window(place)
    _, _, inputs, outputs = place.layer.shape
    groups = place.layer.groups
    return torch.nn.Conv2d(inputs * groups, outputs, kernel, stride, padding, groups=groups, bias=False)


def _torch_norm(torch: Any, place: Place) -> Any:
    kind = torch.nn.BatchNorm2d if len(place.shape) == 3 else torch.nn.BatchNorm1d
    return kind(place.shape[-1], eps=place.layer.eps, momentum=1 - place.layer.momentum)


#: For a layer that hands on what comes in once a net is trained.
IDENTITY = Counterpart(_node("Identity"), _module("Identity"), entrywise=True)

#: Kind of layer -> how it is written. Residual, which holds others, is not among them: see dense.py.
COUNTERPARTS: dict[type, Counterpart] = {
    nn.Dense: Counterpart(_node("Gemm", "weight", settings=lambda place: {"transB": 1}),
                          lambda torch, place: torch.nn.Linear(*place.layer.shape, bias=False), _dense),
    nn.Conv2D: Counterpart(_node("Conv", "weight", settings=_onnx_window), _torch_conv, _conv),
    nn.MaxPool2D: Counterpart(_node("MaxPool", settings=_onnx_window),
                              lambda torch, place: torch.nn.MaxPool2d(*_torch_window(place))),
    kinds.GroupedConv2D: Counterpart(
        _node("Conv", "weight", settings=lambda place: {"group": place.layer.groups, **_onnx_window(place)}),
        _torch_grouped, _conv),
    resnet.AvgPool2D: Counterpart(
        _node("AveragePool", settings=_onnx_window),  # of what lies inside the image, unless told otherwise
        lambda torch, place: torch.nn.AvgPool2d(*_torch_window(place), count_include_pad=False)),
    resnet.GlobalAvgPool: Counterpart(_onnx_mean, lambda torch, place: torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())),
    resnet.BatchNorm: Counterpart(_node("BatchNormalization", "weight", "bias", "running_mean", "running_var",
                                    settings=lambda place: {"epsilon": place.layer.eps}),
                              _torch_norm, _norm, entrywise=True),  # each entry with its own numbers, put in order too
    nn.Flatten: Counterpart(_node("Flatten"), _module("Flatten")),
    nn.ELU: Counterpart(_node("Elu", settings=lambda place: {"alpha": place.layer.alpha}),
                        lambda torch, place: torch.nn.ELU(place.layer.alpha), entrywise=True),
    nn.ReLU: Counterpart(_node("Relu"), _module("ReLU"), entrywise=True),
    kinds.Tanh: Counterpart(_node("Tanh"), _module("Tanh"), entrywise=True),
    kinds.Sigmoid: Counterpart(_node("Sigmoid"), _module("Sigmoid"), entrywise=True),
    kinds.Bias: Counterpart(_node("Add", "bias"), _torch_bias, _bias, entrywise=True),  # as batch norm, in order too
    kinds.Dropout: Counterpart(_node("Identity"), lambda torch, place: torch.nn.Dropout(place.layer.share),
                               entrywise=True),  # evaluated it does nothing there either
}
