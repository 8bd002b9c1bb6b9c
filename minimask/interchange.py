"""A net in other systems' files: safetensors for PyTorch, and ONNX (extra ``export``).

What is written is the dense equivalent: every weight as the net multiplies with it, 0 where it is hidden. Images are
NHWC here and NCHW there, so the layouts change with them::

    here                                     there
    dense weight (in, out)                   (out, in)
    kernel (kh, kw, c_in, c_out)             (c_out, c_in, kh, kw)
    after Flatten: row, column, channel      channel, row, column: the next dense weight's columns are reordered

Names are those of the net's layers: 'dense1.weight', 'residual2.shortcut_conv2d1.weight', 'batchnorm1.running_mean'.
Both files take what the net takes, images that are standardised one by one (:func:`minimask.data.standardise`).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import files, nn, resnet
from .backend import to_host
from .engine import no_grad
from .errors import MinimaskError
from .windows import geometry

#: Layers that have a counterpart in PyTorch and in ONNX.
KNOWN = (nn.Dense, nn.Conv2D, nn.MaxPool2D, resnet.GlobalAvgPool, resnet.BatchNorm, resnet.Residual, nn.Flatten,
         nn.ELU, nn.ReLU)
#: Of the ONNX file. Old enough for runtimes of 2021.
OPSET, IR_VERSION = 15, 8
#: What both files say of their input.
INPUT = "images NCHW, float, each standardised by itself: (x - mean) / max(std, 1 / sqrt(number of values))"


def state_dict(net: nn.Sequential) -> dict[str, np.ndarray]:
    """The dense equivalent's arrays under PyTorch's names and in its layouts, on the host, in the net's dtype.

    Raises MinimaskError for a layer that has no counterpart there.
    """
    arrays: dict[str, np.ndarray] = {}
    order = None  # between Flatten and the next dense layer: where each entry of PyTorch's order is in ours
    for name, layer, before in _steps(net):
        if isinstance(layer, nn.Flatten):
            order = np.arange(np.prod(before)).reshape(before).transpose(_channels_first(before)).ravel()
        for inner_name, inner in layer.walk(name):
            arrays |= {f"{inner_name}.{part}": np.ascontiguousarray(array)
                       for part, array in _arrays(inner, order).items()}
        if isinstance(layer, nn.Dense):
            order = None
    return arrays


def write_safetensors(net: nn.Sequential, path: str | Path) -> None:
    """Writes :func:`state_dict` as a safetensors file: ``module.load_state_dict(safetensors.torch.load_file(path))``.

    Its metadata, one text under "minimask", name the layers and say what the input is.

    Raises:
        MinimaskError: safetensors is missing, or a layer has no counterpart. WriteError: the file cannot be written.
    """
    library = _import("safetensors.numpy", "safetensors")
    layers = {name: repr(layer) for name, layer in net.walk() if name}
    about = json.dumps({"producer": _producer(), "input": INPUT, "layers": layers})
    files.write(Path(path), library.save(state_dict(net), {"minimask": about}))  # one entry: several come in any order


def write_onnx(net: nn.Sequential, path: str | Path) -> None:
    """Writes the dense equivalent as an ONNX file: 'images' (n, c, h, w) float32 -> 'logits' (n, classes).

    float32 whatever the net's dtype is: onnxruntime has no ELU in float64.

    Raises:
        MinimaskError: onnx is missing, or a layer has no counterpart. WriteError: the file cannot be written.
    """
    onnx = _import("onnx")
    make, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes, value = [], "images"
    for name, layer, before in _steps(net):
        output = "logits" if name == list(net.layers)[-1] else name
        nodes += _nodes(make.make_node, name, layer, before, value, output)
        value = output
    shape = [net.input_shape[axis] for axis in _channels_first(net.input_shape)]
    arrays = {name: array.astype(np.float32) for name, array in state_dict(net).items()
              if not name.endswith("num_batches_tracked")}
    graph = make.make_graph(
        nodes, "minimask", [make.make_tensor_value_info("images", float32, ["n", *shape], INPUT)],
        [make.make_tensor_value_info("logits", float32, ["n", *list(net.shapes.values())[-1]])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                            producer_name=_producer())
    onnx.checker.check_model(model, full_check=True)
    files.write(Path(path), model.SerializeToString(deterministic=True))


def torch_module(net: nn.Sequential) -> Any:
    """The dense equivalent as a ``torch.nn.Module`` in evaluation mode: (n, c, h, w) -> (n, classes).

    Its ``state_dict()`` has the names of :func:`state_dict`, so that it loads what :func:`write_safetensors` wrote.

    Raises MinimaskError: PyTorch is missing, or a layer has no counterpart.
    """
    torch = _import("torch")
    arrays = state_dict(net)
    module = torch.nn.Sequential(OrderedDict((name, _module(torch, name, layer, before))
                                             for name, layer, before in _steps(net)))
    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, assign=True)
    return module.eval().requires_grad_(False)


#: Who writes a file of which ending.
WRITERS: dict[str, Callable[[nn.Sequential, str | Path], None]] = {
    ".safetensors": write_safetensors, ".onnx": write_onnx}


# ---- what the three have in common ---------------------------------------------------------------------------------


def _steps(net: nn.Sequential) -> list[tuple[str, nn.Layer, tuple[int, ...]]]:
    """(name, layer, the shape of one sample before it), in order; MinimaskError where it has no counterpart."""
    steps, shape = [], net.input_shape
    for name, layer in net.layers.items():
        for inner_name, inner in layer.walk(name):
            if type(inner) not in KNOWN or (isinstance(inner, nn.Flatten) and inner is not layer):
                inside = f" inside {layer!r}" if inner is not layer else ""
                raise MinimaskError(f"{inner_name} is {inner!r}{inside}, which has no counterpart in other systems; "
                                    f"known are {', '.join(kind.__name__ for kind in KNOWN)}")
        steps.append((name, layer, shape))
        shape = net.shapes[name]
    if [type(layer) for _, layer, _ in steps if isinstance(layer, (nn.Flatten, nn.Dense))][-1:] == [nn.Flatten]:
        raise MinimaskError("the net ends in Flatten: its outputs would come in another order there; put Dense after")
    return steps


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of one sample in the order of other systems: (h, w, c) -> (c, h, w); a vector stays as it is."""
    return (2, 0, 1) if len(shape) == 3 else tuple(range(len(shape)))


def _arrays(layer: nn.Layer, order: np.ndarray | None) -> dict[str, np.ndarray]:
    """The layer's own arrays as PyTorch names and lays them out. order: of its inputs, None where it is ours."""
    chosen: Any = slice(None) if order is None else order
    if isinstance(layer, resnet.BatchNorm):
        arrays = {"weight": layer.scale.data, "bias": layer.shift.data, "running_mean": layer.mean,
                  "running_var": layer.variance}
        return {**{part: to_host(array)[chosen] for part, array in arrays.items()},
                "num_batches_tracked": np.array(0, np.int64)}
    if layer.weight is None:
        return {}
    with no_grad():
        weight = to_host(layer.weight.effective().data) + 0.0  # a hidden weight is 0, never -0
    return {"weight": weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight[chosen].T}


def _window(name: str, layer: nn.Conv2D | nn.MaxPool2D, before: tuple[int, ...]) -> Any:
    """The geometry of a layer that has a window, on images of one sample's shape `before`."""
    kernel = layer.shape[:2] if isinstance(layer, nn.Conv2D) else layer.window
    return geometry(name, (1, *before), kernel, layer.stride, layer.padding)


def _import(name: str, package: str | None = None) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = package or name
        raise MinimaskError(f"this needs the package {package}: pip install {package}") from error


def _producer() -> str:
    from . import __version__

    return f"minimask {__version__}"


# ---- ONNX ----------------------------------------------------------------------------------------------------------


def _nodes(node: Any, name: str, layer: nn.Layer, before: tuple[int, ...], x: str, y: str) -> list[Any]:
    """The ONNX nodes that compute value y from value x as `layer` does. node: onnx.helper.make_node."""
    if isinstance(layer, resnet.Residual):
        main, after = _chain(node, name, "", layer.main, before, x)
        around, short = _chain(node, name, "shortcut_", layer.shortcut, before, x)
        return [*main, *around, node("Add", [after, short], [f"{name}.sum"]), node("Elu", [f"{name}.sum"], [y])]
    if isinstance(layer, resnet.GlobalAvgPool):  # ONNX keeps the image's axes, (n, c, 1, 1)
        return [node("GlobalAveragePool", [x], [f"{name}.mean"]), node("Flatten", [f"{name}.mean"], [y])]
    weights: list[str] = []
    settings: Mapping[str, Any] = {}
    if isinstance(layer, nn.Dense):
        kind, weights, settings = "Gemm", ["weight"], {"transB": 1}
    elif isinstance(layer, (nn.Conv2D, nn.MaxPool2D)):
        at = _window(name, layer, before)
        (top, bottom), (left, right) = at.padding
        kind, weights = ("Conv", ["weight"]) if isinstance(layer, nn.Conv2D) else ("MaxPool", [])
        settings = {"kernel_shape": at.kernel, "strides": at.stride, "pads": (top, left, bottom, right)}
    elif isinstance(layer, resnet.BatchNorm):
        kind, weights = "BatchNormalization", ["weight", "bias", "running_mean", "running_var"]
        settings = {"epsilon": layer.eps}
    else:
        kind = {nn.Flatten: "Flatten", nn.ReLU: "Relu", nn.ELU: "Elu"}[type(layer)]
        settings = {"alpha": layer.alpha} if isinstance(layer, nn.ELU) else {}
    return [node(kind, [x, *(f"{name}.{weight}" for weight in weights)], [y], name=name, **settings)]


def _chain(node: Any, name: str, prefix: str, layers: Mapping[str, nn.Layer], shape: tuple[int, ...],
           value: str) -> tuple[list[Any], str]:
    """The nodes of layers one after the other, from `value`, and the name of the last value."""
    nodes: list[Any] = []
    for part, layer in layers.items():
        output = f"{name}.{prefix}{part}"
        nodes += _nodes(node, output, layer, shape, value, output)
        shape, value = layer.output_shape(shape), output
    return nodes, value


# ---- PyTorch -------------------------------------------------------------------------------------------------------


def _module(torch: Any, name: str, layer: nn.Layer, before: tuple[int, ...]) -> Any:
    """The torch module of one layer, its weights still to be loaded."""
    if isinstance(layer, resnet.Residual):
        return _residual(torch, name, layer, before)
    if isinstance(layer, nn.Dense):
        return torch.nn.Linear(*layer.shape, bias=False)
    if isinstance(layer, (nn.Conv2D, nn.MaxPool2D)):
        at = _window(name, layer, before)
        (top, bottom), (left, right) = at.padding
        if (top, left) != (bottom, right):
            raise MinimaskError(f"{name} is {layer!r} on images of {before[:2]}, which pads {at.padding}; PyTorch's "
                                "layers pad both sides alike: write ONNX, or pad in a layer of your own")
        if isinstance(layer, nn.MaxPool2D):
            return torch.nn.MaxPool2d(at.kernel, at.stride, (top, left))
        return torch.nn.Conv2d(*layer.shape[2:], at.kernel, at.stride, (top, left), bias=False)
    if isinstance(layer, resnet.BatchNorm):
        kind = torch.nn.BatchNorm2d if len(before) == 3 else torch.nn.BatchNorm1d
        return kind(before[-1], eps=layer.eps, momentum=1 - layer.momentum)
    if isinstance(layer, nn.ELU):
        return torch.nn.ELU(layer.alpha)
    if isinstance(layer, resnet.GlobalAvgPool):
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return {nn.Flatten: torch.nn.Flatten, nn.ReLU: torch.nn.ReLU}[type(layer)]()


def _residual(torch: Any, name: str, layer: resnet.Residual, before: tuple[int, ...]) -> Any:
    """ELU(main(x) + shortcut(x)), its layers under the names of ours."""
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for prefix, layers in (("", layer.main), ("shortcut_", layer.shortcut)):
                shape = before
                for part, child in layers.items():
                    self.add_module(prefix + part, _module(torch, f"{name}.{prefix}{part}", child, shape))
                    shape = child.output_shape(shape)

        def forward(self, x: Any) -> Any:
            y = x
            for part in layer.main:
                y = self.get_submodule(part)(y)
            for part in layer.shortcut:
                x = self.get_submodule(f"shortcut_{part}")(x)
            return torch.nn.functional.elu(y + x)

    return Residual()
