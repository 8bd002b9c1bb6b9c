"""Writing the dense equivalent: a safetensors file, an ONNX file (extra ``export``), a PyTorch module."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import files, nn, resnet
from ..backend import to_host
from ..data import Preprocess
from ..errors import MinimaskError, UsageError
from ..losses import Answers
from ..windows import INTEGERS
from .about import about
from .dense import channels_first, flat, places, state_dict
from .layers import COUNTERPARTS, Place
from .outline import Places, digest, outline

# ---- safetensors ---------------------------------------------------------------------------------------------------

#: NumPy's letter and size of a dtype -> its name in the file.
DTYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64", "u1": "U8",
          "u2": "U16", "u4": "U32", "u8": "U64", "b1": "BOOL"}


def write_safetensors(net: nn.Sequential, path: str | Path, scores: bool = False, classes: Sequence[str] | None = None,
                      prepare: Preprocess | None = None, answers: Answers = ()) -> None:
    """Writes :func:`state_dict` as a safetensors file: ``module.load_state_dict(safetensors.torch.load_file(path))``.

    The same net gives the same bytes. Its metadata say "pt" under "format", as PyTorch's loaders want it, and under
    "minimask" what the layers are and what the input is. No package is needed. :func:`minimask.interchange.read` reads
    it back.

    Args:
        scores: write scores, frozen weights, mask and tau of every masked layer, too: 'dense1.scores' and so on, in the
            layout of 'dense1.weight'. PyTorch loads such a file under ``strict=False``.
        classes: their names, in the order of the logits. prepare: what is done to raw images (`dataset.prepare`).
            answers: what the logits say where they are not one class (:meth:`minimask.losses.Loss.answers`). All are
            among the metadata where they are given.

    Raises:
        MinimaskError: a layer has no counterpart. WriteError: the file cannot be written.
    """
    arrays = {**state_dict(net), **(_behind(net) if scores else {})}
    said = _about(net, arrays, about(classes, prepare, answers))
    files.write(Path(path), _safetensors(arrays, {"format": "pt", "minimask": said}))


def _behind(net: nn.Sequential) -> dict[str, np.ndarray]:
    """What is behind the weights of masked layers, in their layout: scores, frozen, mask (int8); and tau, by itself.

    Raises UsageError where there is no masked layer.
    """
    at, sources, found = Places(net), net.weights(), dict[str, np.ndarray]()
    for place, name in at.masked.items():
        source: Any = sources[name]
        parts = {**{part: t.data for part, t in source.parameters().items()}, **source.state(), "mask": source.mask()}
        for part, given in parts.items():
            array = np.asarray(to_host(given) if np.shape(given) else given)
            found[f"{place}.{part}"] = at.laid_out(place, array) if array.ndim else array
    if not found:
        raise UsageError("scores: no layer of this net is masked, so there are none; leave that out")
    return found


def _about(net: nn.Sequential, arrays: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> str:
    """What a file with these arrays says of itself, as JSON; "layers" in words, for people."""
    layers = {place.name: repr(place.layer) for place in flat(places(net))}
    said = {"producer": _producer(), **given, "layers": layers, "net": outline(net),
            "sha256": digest(arrays)}
    return json.dumps(said, separators=(",", ":"))


def _safetensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The length of a header in 8 bytes, the header (JSON, filled up to a multiple of 8), the arrays little-endian.

    The safetensors package puts several metadata in any order, and so varies from call to call; this does not.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    blobs, end = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):  # all are aligned so
        if (dtype := DTYPES.get(array.dtype.str[1:])) is None:
            raise MinimaskError(f"{name} is {array.dtype}, which safetensors has not; there are "
                                f"{', '.join(np.dtype(each).name for each in DTYPES)}")
        blobs.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        start, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *blobs])


# ---- ONNX ----------------------------------------------------------------------------------------------------------

#: Written unless another is asked for: old enough for runtimes of 2021. And the oldest that is written.
OPSET, OLDEST = 15, 13
#: How many bits an entry of -1, 0, +1 has in a compact file, from which opset on.
BITS = {25: 2, 21: 4, OLDEST: 8}


def write_onnx(net: nn.Sequential, path: str | Path, opset: int = OPSET, compact: bool = False,
               scores: bool = False, classes: Sequence[str] | None = None, prepare: Preprocess | None = None,
               answers: Answers = ()) -> None:
    """Writes the dense equivalent as an ONNX file: 'images' (n, c, h, w) float32 -> 'logits' (n, classes).

    float32 whatever the net's dtype is: onnxruntime has no ELU in float64. A Dense is a Gemm, which quantisers of
    MatMul alone (onnxruntime's 4-bit one) leave as it is.

    Args:
        opset: 13 or later, for runtimes of that age.
        compact: weights of one magnitude as that number and a tensor of -1, 0, +1, which DequantizeLinear multiplies:
            int8, from opset 21 on int4, from 25 on int2. Computed with are the same weights, to the bit.
        scores: as of :func:`write_safetensors`, as arrays that no node reads.
        classes, prepare, answers: as in :func:`write_safetensors`; its metadata_props have them as JSON in "minimask".

    Raises:
        UsageError: no such opset, or nothing to write compactly. MinimaskError: onnx is missing, or a layer has no
        counterpart. WriteError: the file cannot be written.
    """
    onnx = _import("onnx")
    newest = onnx.defs.onnx_opset_version()
    if not (isinstance(opset, INTEGERS) and OLDEST <= opset <= newest):
        raise UsageError(f"opset {opset}: the onnx that is installed ({onnx.__version__}) writes {OLDEST} to {newest}; "
                         "give one of these")
    make = onnx.helper
    given = about(classes, prepare, answers)
    nodes, inputs, outputs, arrays = _graph(make, net, given["input"])
    if compact:
        bits = next(bits for since, bits in BITS.items() if opset >= since)
        before, initializers = _compact(onnx, arrays, bits)
        nodes = [*before, *nodes]
    else:
        initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    behind = {}
    if scores:
        behind = {name: array.astype(np.float32) if array.ndim and array.dtype != np.int8 else array  # tau as it is
                  for name, array in _behind(net).items()}
        initializers += [onnx.numpy_helper.from_array(array, name) for name, array in behind.items()]
    opsets = [make.make_opsetid("", opset)]
    model = make.make_model(make.make_graph(nodes, "minimask", inputs, outputs, initializers), opset_imports=opsets,
                            ir_version=make.find_min_ir_version_for(opsets), producer_name=_producer())
    # Some tools drop the input's own text, others this.
    make.set_model_props(model, {"input": given["input"], "minimask": _about(net, {**arrays, **behind}, given)})
    onnx.checker.check_model(model, full_check=True)
    files.write(Path(path), model.SerializeToString(deterministic=True))


def _graph(make: Any, net: nn.Sequential, said: str) -> tuple[list[Any], list[Any], list[Any], dict[str, np.ndarray]]:
    """Nodes, inputs, outputs and arrays. make: onnx.helper. said: of the input."""
    nodes = graph_nodes(make.make_node, net)
    shapes = [[shape[axis] for axis in channels_first(shape)]
              for shape in (net.input_shape, list(net.shapes.values())[-1])]
    (image, logits), float32 = shapes, 1  # onnx.TensorProto.FLOAT
    arrays = {name: array.astype(np.float32) for name, array in state_dict(net).items()
              if not name.endswith("num_batches_tracked")}
    return (nodes, [make.make_tensor_value_info("images", float32, ["n", *image], said)],
            [make.make_tensor_value_info("logits", float32, ["n", *logits])], arrays)


def graph_nodes(node: Any, net: nn.Sequential) -> list[Any]:
    """The nodes of a net, from 'images' to 'logits'. node: ``onnx.helper.make_node``."""
    return _nodes(node, places(net), "images", "logits")[0]


def _nodes(node: Any, places: Sequence[Place], value: str, output: str | None = None) -> tuple[list[Any], str]:
    """The nodes of layers one after the other, from `value`, and the name of the last value: `output` if given."""
    nodes: list[Any] = []
    for place in places:
        y = output if output and place is places[-1] else place.name
        if place.activation:
            (main, after), (around, short) = (_nodes(node, way, value) for way in (place.main, place.shortcut))
            total = f"{place.name}.sum"
            nodes += [*main, *around, node("Add", [after, short], [total]),
                      *COUNTERPARTS[type(place.activation.layer)].onnx(node, place.activation, total, y)]
        else:
            nodes += COUNTERPARTS[type(place.layer)].onnx(node, place, value, y)
        value = y
    return nodes, value


def _compact(onnx: Any, arrays: Mapping[str, np.ndarray], bits: int) -> tuple[list[Any], list[Any]]:
    """Nodes that make weights out of signs and magnitudes, and the initializers."""
    make, nodes, initializers = onnx.helper, [], []
    kind = getattr(onnx.TensorProto, f"INT{bits}")
    for name, array in arrays.items():
        magnitude, signs, scale = np.abs(array).max(initial=0.0), f"{name}.signs", f"{name}.magnitude"
        if array.ndim < 2 or not ((array == 0) | (np.abs(array) == magnitude)).all():
            initializers.append(onnx.numpy_helper.from_array(array, name))
            continue
        packed = pack(np.sign(array).astype(np.int8), bits)
        initializers += [make.make_tensor(signs, kind, array.shape, packed, raw=True),
                         onnx.numpy_helper.from_array(np.array(magnitude), scale)]
        nodes.append(make.make_node("DequantizeLinear", [signs, scale], [name]))
    if not nodes:
        raise UsageError("compact: no layer has weights of one magnitude (a dense net, or frozen weights of another "
                         "distribution), so no file would be smaller; leave it out")
    return nodes, initializers


def pack(trits: np.ndarray, bits: int) -> bytes:
    """-1, 0, +1 -> so many bits each, as two's complement, the first in the lowest bits of a byte; 0 fills the last."""
    per_byte = 8 // bits
    fields = np.zeros(-(-trits.size // per_byte) * per_byte, np.uint8)
    fields[:trits.size] = trits.reshape(-1).astype(np.uint8) & ((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(fields.reshape(-1, per_byte) << shifts, axis=1).tobytes()


# ---- PyTorch -------------------------------------------------------------------------------------------------------


def torch_module(net: nn.Sequential, classes: Sequence[str] | None = None, prepare: Preprocess | None = None) -> Any:
    """The dense equivalent as a ``torch.nn.Module`` in evaluation mode: (n, c, h, w) -> (n, classes).

    Its ``state_dict()`` has the names of :func:`state_dict`, so that it loads what :func:`write_safetensors` wrote; its
    attribute ``minimask`` says what that file says of the input, and of `classes` and `prepare` where they are given.

    Raises MinimaskError: PyTorch is missing, a layer has no counterpart, or pads as PyTorch's layers cannot.
    """
    torch = _import("torch")
    arrays = state_dict(net)
    module = torch.nn.Sequential(OrderedDict((place.name, _module(torch, place)) for place in places(net)))
    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, assign=True)
    module.minimask = about(classes, prepare)
    return module.eval().requires_grad_(False)


def _module(torch: Any, place: Place) -> Any:
    """The torch module of one layer, its weights still to be loaded."""
    if isinstance(place.layer, resnet.Residual):
        return _residual(torch, place)
    return COUNTERPARTS[type(place.layer)].torch(torch, place)


def _residual(torch: Any, place: Place) -> Any:
    """activation(main(x) + shortcut(x)), its layers under the names of ours."""
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ways = [[each.name.removeprefix(f"{place.name}.") for each in way]
                         for way in (place.main, place.shortcut)]
            for each in (*place.main, *place.shortcut, *([place.activation] if place.activation else [])):
                self.add_module(each.name.removeprefix(f"{place.name}."), _module(torch, each))

        def forward(self, x: Any) -> Any:
            y, z = x, x
            for part in self.ways[0]:
                y = self.get_submodule(part)(y)
            for part in self.ways[1]:
                z = self.get_submodule(part)(z)
            return self.get_submodule("activation")(y + z)

    return Residual()


# ---- what they have in common --------------------------------------------------------------------------------------

#: Who writes a file of which ending.
WRITERS: dict[str, Callable[..., None]] = {".safetensors": write_safetensors, ".onnx": write_onnx}


def _import(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MinimaskError(f"this needs the package {name}: pip install {name}") from error


def _producer() -> str:
    from .. import __version__

    return f"minimask {__version__}"
