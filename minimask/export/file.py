r"""A trained net as one small file, ``.mmk``: what it takes to classify images, and no more.

With frozen weights of one magnitude c, as the paper's signed constants are, a layer's effective weight is c t with t in
{-1, 0, +1}: one number and a ternary tensor (ternary.py). Other frozen weights are drawn again when the file is read:
it holds the state of the generator, the rule and the mask, and a digest that what was drawn must have. Weights that
were trained themselves, of a dense baseline, lie there plainly. Beside them are the layers, the input's shape, its
standardisation, the names of the classes, and batch norm where there is one. No data set is needed to read it.

The file, numbers little-endian::

    "minimask", 1 byte version, 3 bytes length of the header, the header (JSON), the layers' bytes in order,
    32 bytes sha256 of all that comes before

All of it is checked (digest, every key, every shape from layer to layer, every size, the work that the net takes)
before memory is taken for a weight. These lines read the Dense layers of an FCN, in Rice's code; a test runs them::

    import hashlib, itertools, json
    import numpy as np

    def number(digits):                                        # the next binary digits of the code
        return int("0" + "".join(itertools.islice(row, digits)), 2)

    content, weights = open("tiny.mmk", "rb").read(), []
    assert content[:9] == b"minimask\1" and content[-32:] == hashlib.sha256(content[:-32]).digest()
    at = 12 + int.from_bytes(content[9:12], "little")
    header = json.loads(content[12:at])
    for w in (layer["weight"] for layer in header["layers"] if layer["kind"] == "Dense"):
        row, left = iter("".join(f"{byte:08b}" for byte in content[at:at + w["bytes"]])), w["plus"] + w["minus"]
        ks = [number(4) for _ in range(0, left, 16)]           # low digits of 16 gaps each; signs, low digits
        signs, low = [1 - 2 * number(1) for _ in range(left)], [number(ks[i // 16]) for i in range(left)]
        t, at, place = np.zeros(w["shape"]).reshape(-1), at + w["bytes"], -1
        for i in range(left):                                  # and steps of 2^k, each a 0, up to a 1
            place += 1 + low[i] + (sum(1 for _ in iter(lambda: number(1), 1)) << ks[i // 16])
            t[place] = signs[i]
        t = t.reshape(w["shape"]) if w["by"] == "input" else t.reshape(w["shape"][::-1]).T
        weights.append(w["magnitude"] * t)                     # (in, out): x @ weight, ELU after all but the last
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import cost, fields, files, init, nn, resnet
from .. import layers as kinds
from ..backend import Array, to_host
from ..backend import load as load_library
from ..data import Preprocess
from ..data.preprocess import IMAGE, restored
from ..engine import Tensor, no_grad
from ..errors import MinimaskError, OutOfMemory, UsageError, unknown
from ..fields import is_integer, is_line
from ..losses import ANSWERS, CLASS, Answers
from ..mask import Supermask, WeightSource
from ..prune import Fixed
from . import ternary
from .header import BY, FLOATS, KINDS, MOST_NUMBERS, MOST_WORK, Spec, Stored, kind_of

MAGIC, VERSION, DIGEST = b"minimask", 1, 32
START = len(MAGIC) + 4  # bytes before the header: magic, version, its length
HEADER_LIMIT = 1 << 20  # bytes
#: Bytes of a layer, beside a tenth, that a code must save which takes a hundred times as long to be read.
WORTH = 1000
#: How images are preprocessed before they come in, by the name in minimask.data.PREPROCESSINGS; own code by its own.
STANDARDISED = {"image": "per image", "feature": "per feature", "none": "none"}
#: Arrays that a preprocessing may have learned, at most, and what they hold.
MOST_ARRAYS, LEARNED = 16, ("float64", "float32", "int64", "uint8")


class ExportError(MinimaskError):
    """A net cannot be exported, or a file is no exported net; the message says why, and what to do."""


@dataclass(frozen=True)
class Exported:
    """A net as it was read from a file.

    Attributes:
        net: (n, *input_shape) preprocessed images -> (n, classes) logits; nothing in it can be trained.
        classes: their names. about: one line on where it comes from.
        stored: how the weights lie in the file, by layer name. size: of the file, in bytes.
        prepare: raw images -> what the net takes. One of own code is named, and must be given to be used.
        answers: what the outputs say (:meth:`minimask.losses.Loss.answers`), as long as `classes` in all.
    """

    net: nn.Sequential
    classes: tuple[str, ...]
    about: str
    stored: dict[str, Stored]
    size: int
    prepare: Preprocess = IMAGE
    answers: Answers = ()

    @property
    def header_size(self) -> int:
        """Bytes of the file that are no weights: the header, batch norm, what a preprocessing learned, the digest."""
        return self.size - sum(stored.bytes for stored in self.stored.values())


def dense_weights(net: nn.Sequential) -> dict[str, np.ndarray]:
    """The weight that each layer multiplies with, by layer name, on the host: masked where it is masked."""
    with no_grad():
        return {name: to_host(source.effective().data) for name, source in net.weights().items()}


# ---- writing ---------------------------------------------------------------------------------------------------------


def save(path: str | Path, net: nn.Sequential, classes: Sequence[str], about: str = "", codec: str | None = None,
         seed: int | None = None, prepare: Preprocess | None = None, answers: Answers = ()) -> Exported:
    """Writes a trained net into a file, and returns it as it is read from there.

    Args:
        net: of any weight source, on any backend.
        classes: names of the classes, in the order of the logits. about: one line on where the net comes from.
        codec: 'rice', 'base243' or 'arithmetic' for every masked layer; None takes for each, of the two that are read
            quickly, the one that needs fewer bytes, unless 'arithmetic' saves much more (WORTH).
        seed: of the generator that the net was built with; needed where frozen weights have several magnitudes.
        prepare: what was done to raw images, `dataset.prepare`; every image was standardised by itself unless given.
        answers: what the outputs say (:meth:`minimask.losses.Loss.answers`); one class of all unless given.

    Raises:
        ExportError: the net holds a layer, a padding or a class name that the file cannot hold, too many weights,
            NaN or infinity, or frozen weights that the seed does not give.
        UsageError: an unknown codec, or no seed where one is needed. WriteError: the file cannot be written.
    """
    if codec is not None and codec not in ternary.CODECS:
        raise unknown("codec", codec, ternary.CODECS)
    content = encoded(net, classes, about, codec, seed, prepare, answers)
    try:
        exported = decoded(io.BytesIO(content), len(content))
    except ValueError as error:
        raise ExportError(f"this net cannot be exported: {error}") from error
    for name, weight in dense_weights(net).items():
        if not np.array_equal(exported.net.weights()[name].effective().data, weight):
            raise ExportError(f"layer {name} does not come back from the file as it is: this is a bug in minimask")
    files.write(Path(path), content)
    return exported


def encoded(net: nn.Sequential, classes: Sequence[str], about: str = "", codec: str | None = None,
            seed: int | None = None, prepare: Preprocess | None = None, answers: Answers = ()) -> bytes:
    """The content of the file; arguments and errors as for save, but that nothing is written."""
    weights, blobs = dense_weights(net), []
    names = {id(layer): name for name, layer in net.walk()}
    dtypes = {weight.dtype.name for weight in weights.values()}
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise ExportError(f"the net's weights are {', '.join(sorted(dtypes)) or 'none'}; needed are layers of float32, "
                          "or all of float64")

    def layer(each: nn.Layer) -> dict[str, Any]:
        kind = kind_of(each)
        if kind is None:
            raise ExportError(f"a layer of kind {type(each).__name__} cannot be exported; there are "
                              f"{', '.join(sorted(KINDS))}; minimask.export.header.KINDS takes in another")
        settings = KINDS[kind].write(each, weight, layers)
        if type(each) in FLOATS:
            blobs.append(b"".join(files.raw(_little(to_host(array))) for array in _floats(each)))
        return {"kind": kind, **settings}

    def layers(inside: dict[str, nn.Layer]) -> list[dict[str, Any]]:
        return [layer(each) for each in inside.values()]

    def weight(each: Any) -> dict[str, Any]:
        name = names[id(each)]
        spec, blob = _stored(each.weight, weights[name], codec, lambda: _generator_before(net, name, seed))
        blobs.append(blob)
        return spec

    prepare = prepare or IMAGE
    header = {"dtype": dtypes.pop(), "input": list(net.input_shape),
              "standardise": STANDARDISED.get(prepare.name, prepare.name), **_learned(prepare),
              "classes": list(map(str, classes)),
              **({"answers": [list(answer) for answer in answers]} if answers else {}), "about": about,
              "layers": layers(net.layers)}
    blobs += [bytes(files.raw(_little(array))) for _, array in sorted(prepare.arrays.items())]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content = MAGIC + bytes([VERSION]) + len(text).to_bytes(3, "little") + text + b"".join(blobs)
    return content + hashlib.sha256(content).digest()


def _learned(prepare: Preprocess) -> dict[str, Any]:
    """What a preprocessing has learned, for the header: name, dtype and shape of every array, in order."""
    for name, array in prepare.arrays.items():
        if array.dtype.name not in LEARNED or len(prepare.arrays) > MOST_ARRAYS:
            raise ExportError(f"the preprocessing {prepare.name!r} has learned {len(prepare.arrays)} arrays, {name} of "
                              f"{array.dtype}; a file holds up to {MOST_ARRAYS}, of {', '.join(LEARNED)}")
    return {"preprocess": [{"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
                           for name, array in sorted(prepare.arrays.items())]} if prepare.arrays else {}


def _stored(source: WeightSource, effective: np.ndarray, codec: str | None,
            generator: Callable[[], list[int]]) -> tuple[dict[str, Any], bytes]:
    """A weight as JSON, and its bytes."""
    magnitudes = np.unique(np.abs(effective[effective != 0]))
    more: dict[str, Any]
    if len(magnitudes) <= 1:
        trits, more = np.sign(effective).astype(np.int8), {"magnitude": float(magnitudes.sum())}
    elif isinstance(source, Supermask):
        frozen = to_host(source.frozen)
        trits, more = source.mask(), {"frozen": {**source.settings["frozen"], "generator": generator(),
                                                 "sha256": _sha256(frozen)}}
    else:
        return {"shape": list(effective.shape), "codec": "plain", "bytes": effective.nbytes,
                **_signs(effective)}, bytes(files.raw(_little(effective)))
    codes = {(name, by): ternary.CODECS[name].encode(trits.reshape(-1) if by == "input" else _by_output(trits))
             for name in (ternary.QUICK if codec is None else (codec,)) for by in (BY if name == "rice" else BY[:1])}
    name, by = min(codes, key=lambda each: len(codes[each]))
    if codec is None:
        slow = ternary.CODECS["arithmetic"].encode(trits.reshape(-1))
        if len(slow) + WORTH < 0.9 * len(codes[name, by]):  # of many signs without gaps, say
            name, by = "arithmetic", "input"
            codes[name, by] = slow
    return {"shape": list(effective.shape), "codec": name, "bytes": len(codes[name, by]), **_signs(trits),
            **({"by": by} if name == "rice" else {}), **more}, codes[name, by]


def _by_output(trits: np.ndarray) -> np.ndarray:
    """(..., outputs) -> (n,): all of the first output, then all of the second ..."""
    return np.moveaxis(trits, -1, 0).reshape(-1)


def _floats(layer: nn.Layer) -> list[Array]:
    """The arrays of a layer in FLOATS, in the order in which they lie in a file."""
    found = (getattr(layer, name) for name in FLOATS[type(layer)])
    return [each.data if isinstance(each, Tensor) else each for each in found]


def _signs(array: np.ndarray) -> dict[str, int]:
    return {"plus": int(np.count_nonzero(array > 0)), "minus": int(np.count_nonzero(array < 0))}


def _little(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"))


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(files.raw(_little(array))).hexdigest()


def _generator_before(net: nn.Sequential, wanted: str, seed: int | None) -> list[int]:
    """The state of the generator before layer `wanted` was drawn, found by drawing the net's weights once more."""
    if seed is None:
        raise UsageError(f"the frozen weights of {wanted} have several magnitudes, so the file holds the seed and the "
                         "rule that give them: say with seed= which seed the net was built with")
    rng = np.random.default_rng(seed)
    for name, layer in net.walk():
        state: Any = rng.bit_generator.state
        if layer.weight is not None:
            again = layer.weight.draw(layer.shape, rng, layer.weight.effective().dtype.name)
            if name == wanted and isinstance(layer.weight, Supermask) and isinstance(again, Supermask) and (
                    np.array_equal(again.frozen, to_host(layer.weight.frozen))):
                return [state["state"]["state"], state["state"]["inc"], state["has_uint32"], state["uinteger"]]
    raise ExportError(f"seed {seed} does not give the frozen weights of {wanted}, drawn layer by layer as the models' "
                      "builders do, so a file could not say where they come from; give the seed of this net")


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(path: str | Path, backend: str = "numpy") -> Exported:
    """The net in a file, on `backend`.

    Raises:
        ExportError: the file is no exported net, of a later version, damaged, or does not hold what it promises.
        UsageError: there is no such file. OutOfMemory: there is no room for its weights.
    """
    try:
        with _sentences(path), files.to_read(path) as file:
            return decoded(file, os.fstat(file.fileno()).st_size, backend)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {path}; `minimask export RUN -o {path}` makes one of a trained run") from error
    except OSError as error:
        if os.path.exists(os.path.join(path, "record.json")):
            raise UsageError(f"{path} is a run's folder, and no file of a net: `minimask export {path} -o FILE.mmk` "
                             "makes one of it") from error
        raise ExportError(f"{path} cannot be read ({error.strerror or error})") from error


def read(content: bytes, path: str | Path, backend: str = "numpy") -> Exported:
    """The net in the content of a file; `path`, where it lies, is for the sentence. Errors as of :func:`load`."""
    with _sentences(path):
        return decoded(io.BytesIO(content), len(content), backend)


@contextlib.contextmanager
def _sentences(path: str | Path) -> Iterator[None]:
    """What is wrong with a file's content, as ExportError; no memory for it, as OutOfMemory."""
    try:
        yield
    except ValueError as error:
        raise ExportError(f"{path} is no exported net, or a damaged one: {error}; export it anew with "
                          "`minimask export RUN -o FILE`") from error
    except MemoryError as error:
        raise OutOfMemory(f"{path}: memory ran out while its net was read ({error}); close what needs memory, or take "
                          "a machine with more") from error


def decoded(file: IO[bytes], size: int, backend: str = "numpy") -> Exported:
    """The net in an open file of `size` bytes. ValueError where it is not what it should be."""
    header = _header(file, size)
    try:
        spec = Spec(header, "the header")
        dtype, classes, about = spec.choice("dtype", ("float32", "float64")), spec.texts("classes"), spec.text("about")
        answers = _answers(spec, len(classes))
        prepared, learned = _prepared(spec)
        spec.dtype, shape = dtype, spec.sizes("input")
        net = nn.Sequential(spec.layers("layers"), shape)
        spec.end()
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    outputs = list(net.shapes.values())[-1:] or [shape]
    if outputs[0] != (len(classes),):
        raise ValueError(f"the net ends in {outputs[0]}, but there are {len(classes)} classes")
    if not net.weights():
        raise ValueError("it holds no layer with weights")
    refuse_too_much(net)
    stored: dict[str, Any] = net.weights()  # what stands for them
    promised = [each.bytes if isinstance(each, Stored) else each for each in _with_bytes(net, np.dtype(dtype).itemsize)]
    promised += [math.prod(shape) * np.dtype(kind).itemsize for _, kind, shape in learned]
    left = size - DIGEST - file.tell()
    if sum(promised) != left:
        raise ValueError(f"its layers promise {sum(promised):,} bytes, but there are {left:,}")
    _fill(net, file, dtype, backend)
    arrays = {name: np.frombuffer(file.read(math.prod(shape) * np.dtype(kind).itemsize), np.dtype(
        kind).newbyteorder("<")).astype(kind).reshape(shape) for name, kind, shape in learned}
    try:
        prepare = restored(prepared, arrays, net.input_shape)
    except ValueError as error:
        raise ValueError(f"its preprocessing {error}") from error
    return Exported(net, classes, about, stored, size, prepare, answers)


def _answers(spec: Spec, outputs: int) -> Answers:
    """What the outputs say: of files that do not tell, one class."""
    if "answers" not in spec.left:
        return ((CLASS, outputs),)
    said = spec.take("answers", lambda value: isinstance(value, list) and all(
        isinstance(each, list) and len(each) == 2 and each[0] in ANSWERS and is_integer(each[1], 1, outputs)
        for each in value) and sum(count for _, count in value) == outputs,
        f"pairs of {', '.join(ANSWERS)} and a number of outputs, {outputs} in all")
    return tuple((kind, count) for kind, count in said)


def _prepared(spec: Spec) -> tuple[str, list[tuple[str, str, tuple[int, ...]]]]:
    """The name of the preprocessing, and name, dtype and shape of every array that it has learned."""
    names = {said: name for name, said in STANDARDISED.items()}
    said = spec.take("standardise", lambda value: is_line(value) and (value in names or ":" in value),
                     f"one of {', '.join(names)}, or module:object")
    learned = []
    for each in spec.take("preprocess", lambda value: isinstance(value, list) and len(value) <= MOST_ARRAYS,
                          f"a list of up to {MOST_ARRAYS} arrays") if "preprocess" in spec.left else ():
        part = Spec(each, "an array of 'preprocess'")
        learned.append((part.text("name"), part.choice("dtype", LEARNED), part.sizes("shape")))
        part.end()
    if len({name for name, *_ in learned}) < len(learned):
        raise ValueError("its preprocessing has two arrays of one name")
    return names.get(said, said), learned


def refuse_too_much(net: nn.Sequential) -> None:
    """ValueError for a net with more weights, or work for an image, than is taken on; before there is memory for it.

    And for a window larger than any image needs: work grows with its square, a file does not.
    """
    largest = 2 * max(net.input_shape) + 1  # covers the whole image from every place
    for name, layer in net.walk():
        if isinstance(layer, (nn.MaxPool2D, resnet.AvgPool2D)):
            window = layer.window
        elif isinstance(layer, (nn.Conv2D, kinds.GroupedConv2D)):
            window = layer.shape[0]
        else:
            continue
        if window > largest:
            raise ValueError(f"the window of {name} is {window} wide, and images are {net.input_shape}")
    if net.size() > MOST_NUMBERS:
        raise ValueError(f"it promises more than {MOST_NUMBERS:,} weights")
    work, numbers = cost.of(net)
    if work > MOST_WORK * cost.LARGEST or numbers > MOST_NUMBERS:
        raise ValueError(f"for one image its net takes {work / cost.LARGEST:,.1f} times the work of the paper's "
                         f"largest net and {numbers:,} numbers at a time, but {MOST_WORK} times and {MOST_NUMBERS:,} "
                         "are the most that is taken on")


def _header(file: IO[bytes], size: int) -> Any:
    """The JSON of the header; the file stands behind it, and its digest is right."""
    start = file.read(START)
    if start[:len(MAGIC)] != MAGIC:
        raise ValueError(f"it begins with {start[:len(MAGIC)]!r} where {MAGIC!r} is needed")
    if len(start) < START or start[len(MAGIC)] != VERSION:
        raise ValueError(f"it is of version {start[len(MAGIC):][:1].hex() or 'none'}, but this minimask reads "
                         f"version {VERSION}")
    length = int.from_bytes(start[-3:], "little")
    if length > HEADER_LIMIT or START + length + DIGEST > size:
        raise ValueError(f"its header promises {length:,} bytes; the whole file has {size:,}, and the header at most "
                         f"{HEADER_LIMIT:,}")
    found, left = hashlib.sha256(start), size - DIGEST - START
    while left and (piece := file.read(min(left, 1 << 20))):
        found.update(piece)
        left -= len(piece)
    if file.read() != found.digest():
        raise ValueError("its content does not have the sha256 that it ends with")
    file.seek(START)
    return fields.parse(file.read(length), "its header")


def _with_bytes(net: nn.Sequential, itemsize: int) -> Iterable[Any]:
    """What has bytes of its own in a file, in order: Stored weights, and the bytes of what is in FLOATS."""
    for _, layer in net.walk():
        if type(layer) in FLOATS:
            yield len(FLOATS[type(layer)]) * _floats(layer)[0].shape[0] * itemsize  # the first has them as promised
        elif layer.weight is not None:
            yield layer.weight


def _fill(net: nn.Sequential, file: IO[bytes], dtype: str, backend: str) -> None:
    """Reads the layers' bytes, and puts weights where their Stored stand."""
    xp, little = load_library(backend), np.dtype(dtype).newbyteorder("<")
    for name, layer in net.walk():
        if type(layer) in FLOATS:
            names, channels = FLOATS[type(layer)], _floats(layer)[0].shape[0]
            rows = np.frombuffer(file.read(len(names) * channels * little.itemsize), little).reshape(-1, channels)
            for part, row in zip(names, rows.astype(dtype)):
                if not np.isfinite(row).all() or (isinstance(layer, resnet.BatchNorm) and part == "variance" and (
                        row + layer.eps <= 0).any()):
                    raise ValueError(f"{name} holds NaN, infinity or a variance that is not positive")
                is_tensor = isinstance(getattr(layer, part), Tensor)
                setattr(layer, part, Tensor(xp.asarray(row)) if is_tensor else xp.asarray(row))
        elif layer.weight is not None:
            stored: Any = layer.weight
            layer.weight = Fixed(xp.asarray(_weight(name, stored, file.read(stored.bytes), dtype)))


def _weight(name: str, stored: Stored, code: bytes, dtype: str) -> np.ndarray:
    """A layer's weight out of its bytes."""
    if stored.codec == "plain":
        weight = np.frombuffer(code, np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(stored.shape)
        signs = _signs(weight)
        if not np.isfinite(weight).all():
            raise ValueError(f"{name} holds NaN or infinity")
    else:
        places, trits = ternary.CODECS[stored.codec].decode(code, stored.weights, stored.plus + stored.minus)
        signs = _signs(trits)
        if stored.by == "output":  # from output * inputs + input to input * outputs + output
            output, rest = np.divmod(places, stored.weights // stored.shape[-1]) if len(places) else (places, places)
            places = rest * stored.shape[-1] + output
        weight = np.zeros(stored.shape, dtype)
        weight.reshape(-1)[places] = trits * (
            np.asarray(stored.magnitude, dtype) if stored.frozen is None
            else _drawn_again(name, stored, dtype).reshape(-1)[places])
    if signs != {"plus": stored.plus, "minus": stored.minus}:
        raise ValueError(f"{name} has other counts of signs than it promises")
    return weight


def _drawn_again(name: str, stored: Stored, dtype: str) -> np.ndarray:
    """The frozen weights, drawn again."""
    rule = dict(stored.frozen or {})
    state, inc, has_uint32, uinteger = rule.pop("generator")
    promised, bits = rule.pop("sha256"), np.random.PCG64(0)
    bits.state = {"bit_generator": "PCG64", "state": {"state": state, "inc": inc}, "has_uint32": has_uint32,
                  "uinteger": uinteger}
    try:
        frozen = init.draw(stored.shape, np.random.Generator(bits), dtype=dtype, **rule)
    except UsageError as error:
        raise ValueError(str(error)) from error
    if _sha256(frozen) != promised:
        raise ValueError(f"the frozen weights of {name}, drawn again, do not have the sha256 that it promises: NumPy "
                         f"{np.__version__} draws other numbers than the one that it was made with")
    return frozen
