"""Reading back what writers.py wrote: safetensors and ONNX files, into a net. Files of others are refused.

Nothing in a file is believed before it is checked: sizes before there is memory for them, arrays against a digest,
their names, shapes and dtypes against the net's, and an ONNX graph, node by node, against the one that this net is
written as. So a file that another tool has changed, fused or quantised is not taken for the net that it came from.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import fields, nn
from ..backend import asarray, to_host
from ..data import Preprocess
from ..data.preprocess import IMAGE
from ..engine import Tensor
from ..errors import MinimaskError, UsageError
from ..export.file import refuse_too_much
from ..export.header import FLOATS
from ..fields import Fields, brief, is_integer
from ..losses import ANSWERS, CLASS, Answers
from ..mask import Trained
from ..prune import Fixed
from .about import prepare_of
from .outline import Places, digest, net_of
from .writers import DTYPES, _import, graph_nodes

#: Bytes of a file; of the header of a safetensors file; arrays in one.
MOST_BYTES, MOST_HEADER, MOST_ARRAYS = 1 << 29, 1 << 22, 20_000
#: What is behind a masked weight, in a file with scores.
BEHIND = ("scores", "frozen", "mask", "tau")


class ReadError(MinimaskError):
    """A file is no net that minimask wrote, or damaged, or of another net; the message says why, and what to do."""


class Content(NamedTuple):
    """What a file holds: arrays by name, what it says of itself, and an ONNX file's nodes."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    nodes: Any = None


@dataclass(frozen=True)
class Read:
    """A net as it was read.

    Attributes:
        net: (n, *input_shape) -> (n, classes) logits. arrays: all that the file holds, by name, in its own layout:
            'dense1.weight', and with scores 'dense1.scores', 'dense1.frozen', 'dense1.mask'.
        about: what the file says of itself: "producer", "input", "layers", and whatever else was written.
        prepare: raw images (n, h, w, c) -> what the net takes. classes: their names, where the file says them.
        answers: what the outputs say (:meth:`minimask.losses.Loss.answers`), as many as there are.
    """

    net: nn.Sequential
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    prepare: Preprocess = IMAGE
    classes: tuple[str, ...] | None = None
    answers: Answers = ()


def read(path: str | Path, net: nn.Sequential | None = None, scores: bool = False) -> Read:
    """The net in a .safetensors or .onnx file that minimask wrote.

    Args:
        net: one that is built as that one was; it takes the numbers in, all of them or none. Without it the file says
            which layers there are, and the net is one to use and not to train, its weights :class:`Fixed`.
        scores: take in scores and frozen weights, too: a masked net needs them, since the weights that it computes with
            do not tell its scores. The file must have been written with ``scores=True``, and `net` be given.

    Raises:
        ReadError: the file is foreign, damaged or larger than any that is written, or is of another net.
        UsageError: there is no such file, its name says neither kind, or `net` and `scores` do not fit together.
        MinimaskError: onnx is missing.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise UsageError(f"{path}: the name says what to read, and must end in {' or '.join(READERS)}")
    if scores and net is None:
        raise UsageError("scores: they are read into a net that was built as the one they came from; give net=")
    try:
        content = READERS[path.suffix](fields.content(path, MOST_BYTES))
        arrays = content.arrays
        if content.about.get("sha256") != digest(arrays):
            raise ValueError("its arrays do not have the sha256 that it promises")
        target = copy.deepcopy(net) if net is not None else _outlined(content)
        prepare, classes = prepare_of(content.about, target.input_shape), _classes(content.about, target)
        answers = _answers(content.about, target)
        _fill(target, arrays, scores)
        if content.nodes is not None:
            _refuse_other_nodes(target, content)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {path}; `minimask export RUN -o {path}` makes one of a trained run") from error
    except OSError as error:
        raise ReadError(f"{path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ReadError(f"{path} is no file that minimask wrote of this net, or a damaged one: {error}; write it anew "
                        "with `minimask export RUN -o FILE`") from error
    if net is None:
        for tensor in target.parameters():
            tensor.requires_grad = False
    else:
        net.load(target.arrays())
        target = net
    return Read(target, arrays, content.about, prepare, classes, answers)


def _classes(said: Mapping[str, Any], net: nn.Sequential) -> tuple[str, ...] | None:
    """The names of the classes, where a file says them; ValueError unless there are as many as logits."""
    if "classes" not in said:
        return None
    names = Fields(said, "what it says of itself").texts("classes")
    if (len(names),) != list(net.shapes.values())[-1]:
        raise ValueError(f"it names {len(names)} classes, but the net ends in {list(net.shapes.values())[-1]}")
    return names


def _answers(said: Mapping[str, Any], net: nn.Sequential) -> Answers:
    """What the outputs say, one class unless a file says otherwise; ValueError unless that is of all of them."""
    outputs = list(net.shapes.values())[-1][0]
    found = said.get("answers", [[CLASS, outputs]])
    if not isinstance(found, list) or not all(
            isinstance(each, list) and len(each) == 2 and each[0] in ANSWERS and is_integer(each[1], 1, outputs)
            for each in found) or sum(count for _, count in found) != outputs:
        raise ValueError(f"its answers are {brief(found, 60)}, but the net has {outputs} outputs")
    return [(kind, count) for kind, count in found]


# ---- into a net ----------------------------------------------------------------------------------------------------


def _outlined(content: Content) -> nn.Sequential:
    """The net that a file says it holds, its weights still to come."""
    if content.about.get("net") is None:
        raise ValueError("it does not say which layers there are; give net=, built as the one that was written")
    dtypes = {array.dtype.name for array in content.arrays.values() if array.dtype.kind == "f"}
    net = net_of(content.about["net"], "float64" if dtypes == {"float64"} else "float32")
    refuse_too_much(net)
    promised = net.size() + sum(len(parts) * int(getattr(layer, parts[0]).size) for _, layer in net.walk()
                                if (parts := FLOATS.get(type(layer), ())))
    if promised > sum(array.size for array in content.arrays.values()):
        raise ValueError(f"its layers promise {promised:,} numbers, which the file has not")
    return net


def _fill(net: nn.Sequential, arrays: Mapping[str, np.ndarray], scores: bool) -> None:
    """Puts a file's numbers into a net, whose weights may be Stored. ValueError where they are not this net's."""
    at = Places(net)
    if at.masked and not scores:
        raise UsageError(f"{min(at.masked)} is masked, and a file's weights do not tell its scores: give scores=True "
                         "and a file that was written so, or read the file without net=")
    if scores and not at.masked:
        raise UsageError("scores: no layer of the net that was given is masked; leave that out")
    dtype = _refuse_other_arrays(net, at, arrays, scores)
    weights = at.taken(arrays, dtype)
    behind = {part: at.taken({f"{place}.weight": arrays[f"{place}.{part}"] for place in at.masked},
                             np.int8 if part == "mask" else dtype) for part in BEHIND[:3]} if scores else {}
    for name, layer in net.walk():
        if name in at.masked.values():
            _put_behind(name, layer, behind, arrays, weights(name, "weight"))
        elif isinstance(layer.weight, Trained):
            tensor = layer.weight.effective()
            tensor.data = asarray(weights(name, "weight"), like=tensor.data)
        elif layer.weight is not None:
            layer.weight = Fixed(weights(name, "weight"))
        for part in FLOATS.get(type(layer), ()):
            old, new = getattr(layer, part), weights(name, part)
            if part == "variance" and (new < 0).any():
                raise ValueError(f"{name} has a variance below 0")
            if isinstance(old, Tensor):
                setattr(layer, part, Tensor(asarray(new, like=old.data), requires_grad=old.requires_grad))
            else:
                setattr(layer, part, asarray(new, like=old))


def _refuse_other_arrays(net: nn.Sequential, at: Places, arrays: Mapping[str, np.ndarray], scores: bool) -> Any:
    """ValueError unless these arrays, and no others, are those of the net; the dtype of their floats."""
    needed = {name: numbers.shape for name, numbers in at.arrays.items()}
    dtype = next((arrays[name].dtype for name in needed if name in arrays), np.dtype("float32"))
    if dtype.name not in ("float32", "float64"):
        raise ValueError(f"its weights are {dtype}; needed are float32 or float64")
    for place, name in at.masked.items():
        source: Any = net.weights()[name]
        needed |= {f"{place}.{part}": () if part == "tau" else needed[f"{place}.weight"] for part in BEHIND
                   if part != "tau" or "tau" in source.state()}
    beside = {f"{name.removesuffix('.weight')}.{part}" for name in at.arrays for part in BEHIND}
    for name in sorted({*needed, *arrays} - at.counters - (set() if scores else beside)):
        found, kind = arrays.get(name), np.dtype("int8") if name.endswith(".mask") else dtype
        if name not in needed:
            raise ValueError(f"it holds an array {name!r:.60} that the net has not")
        if found is None:
            also = " (it was not written with scores)" if name.endswith(BEHIND) else ""
            raise ValueError(f"it holds no {name}{also}")
        if found.shape != needed[name] or (found.dtype != kind and not name.endswith(".tau")):
            raise ValueError(f"{name} is {found.dtype} {found.shape}, but {kind} {needed[name]} is needed")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")
    return dtype


def _put_behind(name: str, layer: nn.Layer, behind: Mapping[str, Any], arrays: Mapping[str, np.ndarray],
                weight: np.ndarray) -> None:
    """Scores, frozen weights and tau of a masked layer; ValueError where mask or weight do not come of them."""
    source: Any = layer.weight
    scores = behind["scores"](name, "weight")
    if scores.dtype.name != str(source.scores.dtype).rpartition(".")[2]:
        raise ValueError(f"{name} holds {scores.dtype}, but the net given has {source.scores.dtype}")
    state = {"frozen": asarray(behind["frozen"](name, "weight"), like=source.frozen)}
    if "tau" in source.state():
        state["tau"] = float(arrays[f"{name}.tau"])
    source.scores.data = asarray(scores, like=source.scores.data)
    source.load_state(state)
    if not np.array_equal(source.mask(), behind["mask"](name, "weight")) or not np.array_equal(
            to_host(source.effective().data), weight):
        raise ValueError(f"the scores of {name} do not give the mask and the weights beside them; was the net given "
                         "built with the same tau?")


# ---- safetensors ---------------------------------------------------------------------------------------------------

_NUMPY = {name: np.dtype(f"<{letter}") for letter, name in DTYPES.items()}


def _safetensors(content: bytes) -> Content:
    """The arrays of a safetensors file, and what it says of itself."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(MOST_HEADER, len(content) - 8):
        raise ValueError(f"its header promises {length:,} bytes, but the file has {len(content):,}, and a header at "
                         f"most {MOST_HEADER:,}")
    header, data = fields.parse(content[8:8 + length], "its header"), content[8 + length:]
    if not isinstance(header, dict) or len(header) > MOST_ARRAYS:
        raise ValueError("its header is no list of arrays")
    about = _about(Fields(header.pop("__metadata__", {}), "its metadata").left.get("minimask"))
    arrays, end = {}, 0
    specs = {name: Fields(value, f"the array {name!r:.60}") for name, value in header.items()}
    spans = {name: spec.take("data_offsets", lambda value: isinstance(value, list) and len(value) == 2 and all(
        is_integer(each, 0, len(data)) for each in value), "two places in the file") for name, spec in specs.items()}
    for name, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        dtype, shape = _NUMPY[specs[name].choice("dtype", _NUMPY)], _shape(specs[name].left.pop("shape", None), name)
        specs[name].end()
        if start != end or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"the array {name!r:.60} lies from {start} to {stop}, where {end} to "
                             f"{end + math.prod(shape) * dtype.itemsize} is needed")
        arrays[name] = np.frombuffer(data[start:stop], dtype).astype(dtype.newbyteorder("=")).reshape(shape)
        end = stop
    if end != len(data):
        raise ValueError(f"its arrays end at {end:,}, but the file has {len(data):,} bytes of them")
    return Content(arrays, about)


def _shape(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > 8 or not all(is_integer(each, 0, MOST_BYTES) for each in value):
        raise ValueError(f"the array {name!r:.60} has no shape")
    return tuple(value)


def _about(text: Any) -> dict[str, Any]:
    """What a file says of itself. ValueError where that is not of minimask."""
    about = fields.parse(text, "what it says of itself") if isinstance(text, str) else None
    if not isinstance(about, dict) or not str(about.get("producer", "")).startswith("minimask "):
        raise ValueError("it does not say that minimask wrote it")
    return about


# ---- ONNX ----------------------------------------------------------------------------------------------------------


def _onnx(content: bytes) -> Content:
    """The arrays of an ONNX file, what it says of itself, and its nodes; nothing outside the file is looked at."""
    onnx = _import("onnx")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own, which has no base but this
        raise ValueError("it is no ONNX") from error
    graph = model.graph
    about = _about({each.key: each.value for each in model.metadata_props}.get("minimask"))
    if model.functions or graph.sparse_initializer or len(graph.initializer) > MOST_ARRAYS:
        raise ValueError("it holds functions, sparse arrays or too many of them, which minimask does not write")
    arrays = {tensor.name: _tensor(onnx, tensor) for tensor in graph.initializer}
    if len(arrays) != len(graph.initializer):
        raise ValueError("two of its arrays have one name")
    nodes = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 2 and len(node.output) == 1:
            signs, magnitude = (arrays.pop(name, None) for name in node.input)
            if signs is None or signs.dtype != np.int8 or magnitude is None or magnitude.shape != ():
                raise ValueError("it dequantises other arrays than signs and a number")
            arrays[node.output[0]] = signs * magnitude
        else:
            nodes.append(node)
    if not all(isinstance(name, str) for name in arrays):
        raise ValueError("the name of an array is no text")  # protobuf gives bytes then
    return Content(arrays, about, nodes)


def _tensor(onnx: Any, tensor: Any) -> np.ndarray:
    """An initializer as an array, from its raw bytes and from nowhere else."""
    kinds = onnx.TensorProto
    dtype = {kinds.FLOAT: "<f4", kinds.INT8: "|i1", kinds.DOUBLE: "<f8"}.get(tensor.data_type)
    bits = {getattr(kinds, f"INT{n}", None): n for n in (2, 4)}.get(tensor.data_type)
    shape, raw = tuple(tensor.dims), tensor.raw_data
    if tensor.data_location != kinds.DEFAULT or tensor.external_data or (dtype is None and bits is None) or (
            len(shape) > 8 or any(n < 0 for n in shape)):
        raise ValueError(f"its array {tensor.name!r:.60} is of a kind that minimask does not write")
    size = math.prod(shape)
    needed = size * np.dtype(dtype).itemsize if dtype else -(-size * (bits or 8) // 8)
    if len(raw) != needed:
        raise ValueError(f"its array {tensor.name!r:.60} has {len(raw):,} bytes, but {needed:,} are needed")
    if dtype:
        return np.frombuffer(raw, dtype).astype(np.dtype(dtype).newbyteorder("=")).reshape(shape)
    return unpack(raw, bits or 8, size).reshape(shape)


def unpack(content: bytes, bits: int, size: int) -> np.ndarray:
    """What writers.pack() packed: (size,) int8."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = np.frombuffer(content, np.uint8)[:, None].astype(np.int16) >> shifts & ((1 << bits) - 1)
    values = values.reshape(-1)[:size]
    return np.where(values >= 1 << (bits - 1), values - (1 << bits), values).astype(np.int8)


def _refuse_other_nodes(net: nn.Sequential, content: Content) -> None:
    """ValueError unless the nodes are those that this net is written as: then the file computes what the net does."""
    def said(node: Any) -> Any:
        attributes = sorted(each.SerializeToString(deterministic=True) for each in node.attribute)
        return node.op_type, node.domain, list(node.input), list(node.output), attributes

    written = graph_nodes(_import("onnx").helper.make_node, net)
    if [said(node) for node in content.nodes] != [said(node) for node in written]:
        raise ValueError("its graph is not the one that minimask writes of this net: another tool, or version, made it")


#: Who reads a file of which ending.
READERS: dict[str, Any] = {".safetensors": _safetensors, ".onnx": _onnx}
