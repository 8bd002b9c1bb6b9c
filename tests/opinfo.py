"""PyTorch's own operator samples, through ops with a counterpart: python tests/opinfo.py [SECONDS PER OP]

torch.testing's OpInfo holds, for every operator of PyTorch, the inputs that its own tests use: all ranks, empty and 0-d
arrays, odd layouts, extreme values, every setting. Each sample that says something to an op of ours is one case, and
ends as

- equal: value and gradients agree to 1e-10 (float64) or 2e-5 (float32) of the largest entry,
- coarser: they agree to 1e-6 or 1e-3,
- refused: ours raises one of its errors, with a sentence (empty arrays, settings that it does not have),
- not finite: they differ, and an input or PyTorch's result holds NaN or infinities, where conventions differ,
- different: everything else. There should be none.

A sample that uses what our op has not (an exponent that is an array, ceil_mode, ...) is counted as elsewhere.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minimask import Tensor, ops
from minimask.backend import MinimaskError

DTYPES = {"float64": (1e-10, 1e-6), "float32": (2e-5, 1e-3)}
OUTCOMES = ("equal", "coarser", "refused", "not finite", "different")


class Elsewhere(Exception):
    """The sample uses a setting of PyTorch's that our op has not: no case."""


@dataclass(frozen=True)
class Row:
    """A counterpart: its name among the OpInfos, variant included, and how our op takes (input, *args, **kwargs)."""

    name: str
    call: Callable[..., Tensor]
    variant: str = ""
    instead: Callable[..., Any] | None = None  # the same in PyTorch, where the gradient of its own op loses digits


def sigmoid(x: Any) -> Any:
    """PyTorch's, with the slope s(x) s(-x): its own, s (1 - s), is 0 in float64 from x = 36.75 on."""
    import torch

    return torch.exp(torch.nn.functional.logsigmoid(x))


def only(kwargs: dict[str, Any], *known: str) -> None:
    """Elsewhere for keyword arguments that say something and are not among the known."""
    unknown = {key for key, value in kwargs.items() if key not in known and value is not None}
    if unknown:
        raise Elsewhere(", ".join(sorted(unknown)))


def plain(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The arrays in their order, and no setting."""
    def call(*args: Any, **kwargs: Any) -> Tensor:
        only(kwargs)
        return op(*args)
    return call


def scaled(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """PyTorch's add and sub: x + alpha y."""
    def call(x: Any, y: Any, alpha: float | None = None) -> Tensor:
        return op(x, y if alpha is None else ops.multiply(y, float(alpha)) if isinstance(y, Tensor) else alpha * y)
    return call


def divide(x: Any, y: Any, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode is not None:
        raise Elsewhere("rounding_mode")
    return ops.divide(x, y)


def power(x: Any, y: Any) -> Tensor:
    if not isinstance(y, (int, float)) or isinstance(y, bool):
        raise Elsewhere("an exponent that is an array")
    return ops.power(x, y)


def reduction(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """dim and keepdim; an empty dim means all axes to PyTorch and none to NumPy."""
    def call(x: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
        only(kwargs)
        return op(x, None if dim is None or dim in ([], ()) else tuple(dim) if isinstance(dim, list) else dim, keepdim)
    return call


def along(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(x: Any, dim: Any = None, **kwargs: Any) -> Tensor:
        only(kwargs)
        if dim is None:
            raise Elsewhere("an axis that PyTorch chooses")
        return op(x, dim)
    return call


def where(condition: Any, x: Any, y: Any) -> Tensor:
    return ops.where(condition, x, y)


def where_sample(x: Any, condition: Any, y: Any, **kwargs: Any) -> Tensor:
    """The samples' order is that of the method x.where(condition, y)."""
    only(kwargs)
    return ops.where(condition, x, y)


def clamp(x: Any, low: Any = None, high: Any = None, **kwargs: Any) -> Tensor:
    low, high = kwargs.get("min", low), kwargs.get("max", high)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise Elsewhere("bounds that are arrays")
    return ops.clip(x, low, high)


def shaped(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(x: Any, *shape: Any, **kwargs: Any) -> Tensor:
        only(kwargs)
        return op(x, tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else shape)
    return call


def cat(parts: Any, dim: int = 0, **kwargs: Any) -> Tensor:
    only(kwargs)
    return ops.concat(list(parts), axis=dim)


def index_select(x: Any, dim: int, index: Any) -> Tensor:
    return ops.take(x, index, dim)


def getitem(x: Any, index: Any) -> Tensor:
    def basic(part: Any) -> bool:
        return part is None or part is ... or isinstance(part, slice) or (isinstance(part, int) and part is not True)

    index = index if isinstance(index, tuple) else (index,)
    if not all(map(basic, index)):
        raise Elsewhere("an index that is an array")
    return x[index]


def elu(x: Any, alpha: float = 1.0, inplace: bool = False, **kwargs: Any) -> Tensor:
    only(kwargs)
    return ops.elu(x, alpha)


def relu(x: Any, inplace: bool = False) -> Tensor:
    return ops.relu(x)


def binary_cross_entropy(x: Any, target: Any, **kwargs: Any) -> Tensor:
    only({k: v for k, v in kwargs.items() if (k, v) != ("reduction", "mean")})
    return ops.binary_cross_entropy(x, target)


def cross_entropy(x: Any, target: Any, **kwargs: Any) -> Tensor:
    only({k: v for k, v in kwargs.items() if (k, v) not in (("reduction", "mean"), ("ignore_index", -100))})
    if isinstance(target, Tensor) or x.ndim != 2 or np.any(np.asarray(target) < 0):
        raise Elsewhere("targets that are shares or images")
    return ops.cross_entropy(x, target)


def images(x: Any) -> Any:
    if x.ndim != 4:
        raise Elsewhere("an image without a batch")
    return ops.permute_dims(x, (0, 2, 3, 1))


def channels_first(y: Tensor) -> Tensor:
    return ops.permute_dims(y, (0, 3, 1, 2))


def pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else tuple(value) if len(value) == 2 else tuple(value) * 2


def one(value: Any) -> bool:
    return value in (1, True, False, None, (1, 1), [1, 1], (1,), [1])


def conv2d(x: Any, w: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
           ) -> Tensor:
    if not one(dilation) or groups != 1:
        raise Elsewhere("dilation or groups")
    if padding == "same" and not one(stride):
        raise Elsewhere("padding 'same' with a stride")
    if padding == "same" and any(n % 2 == 0 for n in w.shape[2:]):
        raise Elsewhere("padding 'same' of an even kernel, whose odd pixel lies on the other side")
    y = ops.conv2d(images(x), ops.permute_dims(w, (2, 3, 1, 0)), stride=pair(stride),
                   padding=padding if isinstance(padding, str) else pair(padding))
    return channels_first(y if bias is None else y + bias)


def grouped_conv2d(x: Any, w: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                   groups: int = 1) -> Tensor:
    if not one(dilation):
        raise Elsewhere("dilation")
    if isinstance(padding, str):
        raise Elsewhere("paddings by name, which conv2d's row has")
    y = ops.grouped_conv2d(images(x), ops.permute_dims(w, (2, 3, 1, 0)), groups, pair(stride), pair(padding))
    return channels_first(y if bias is None else y + bias)


def pooled(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, *more: Any, **kwargs: Any) -> Tensor:
        padded = pair(padding) != (0, 0)
        counted = op is ops.avg_pool2d and padded and kwargs.get("count_include_pad", True)
        if more or counted or kwargs.get("ceil_mode") or not one(kwargs.get("dilation")) or kwargs.get(
                "divisor_override") or kwargs.get("return_indices"):
            raise Elsewhere("ceil_mode, dilation, padding that is counted")
        return channels_first(op(images(x), pair(kernel_size), None if not stride else pair(stride), pair(padding)))
    return call


ROWS: dict[str, Row] = {
    "add": Row("add", scaled(ops.add)), "subtract": Row("sub", scaled(ops.subtract)),
    "multiply": Row("mul", plain(ops.multiply)), "divide": Row("div", divide, "no_rounding_mode"),
    "negative": Row("neg", plain(ops.negative)), "power": Row("pow", power), "abs": Row("abs", plain(ops.abs)),
    "maximum": Row("maximum", plain(ops.maximum)), "minimum": Row("minimum", plain(ops.minimum)),
    "clip": Row("clamp", clamp), "where": Row("where", where_sample), "exp": Row("exp", plain(ops.exp)),
    "expm1": Row("expm1", plain(ops.expm1)), "log": Row("log", plain(ops.log)), "sqrt": Row("sqrt", plain(ops.sqrt)),
    "tanh": Row("tanh", plain(ops.tanh)), "sigmoid": Row("sigmoid", plain(ops.sigmoid), instead=sigmoid),
    "relu": Row("nn.functional.relu", relu), "elu": Row("nn.functional.elu", elu),
    "sum": Row("sum", reduction(ops.sum)), "mean": Row("mean", reduction(ops.mean)),
    "max": Row("amax", reduction(ops.max)), "reshape": Row("reshape", shaped(ops.reshape)),
    "permute_dims": Row("permute", shaped(ops.permute_dims)),
    "broadcast_to": Row("broadcast_to", shaped(ops.broadcast_to)), "concat": Row("cat", cat),
    "getitem": Row("__getitem__", getitem), "take": Row("index_select", index_select),
    "matmul": Row("matmul", plain(ops.matmul)), "softmax": Row("softmax", along(ops.softmax)),
    "log_softmax": Row("log_softmax", along(ops.log_softmax)),
    "cross_entropy": Row("nn.functional.cross_entropy", cross_entropy),
    "binary_cross_entropy": Row("nn.functional.binary_cross_entropy_with_logits", binary_cross_entropy),
    "conv2d": Row("nn.functional.conv2d", conv2d), "max_pool2d": Row("nn.functional.max_pool2d", pooled(ops.max_pool2d)),
    "grouped_conv2d": Row("nn.functional.conv2d", grouped_conv2d),
    "avg_pool2d": Row("nn.functional.avg_pool2d", pooled(ops.avg_pool2d)),
}
#: Ops of ours for which PyTorch has no operator that takes the same: batch statistics given, a mean over two axes,
#: and the masks of this package.
WITHOUT = {"batch_norm", "global_avg_pool", "keep_hide_invert", "keep_hide", "keep_largest"}


def samples(name: str, dtype: str) -> Iterator[tuple[Any, Any]]:
    """(OpInfo, SampleInput) of a row: ordinary samples, then those that PyTorch's own reference tests draw."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    row = ROWS[name]
    info = next(i for i in op_db if i.name == row.name and i.variant_test_name == row.variant)
    kind = getattr(torch, dtype)
    for draw in (info.sample_inputs, info.reference_inputs):
        torch.manual_seed(0)
        for sample in draw("cpu", kind, requires_grad=False):
            yield info, sample


def outcome(name: str, info: Any, sample: Any, dtype: str) -> tuple[str, str]:
    """What became of one case, and why; Elsewhere where it is none."""
    import torch

    pairs: list[tuple[Any, Tensor]] = []

    def both(x: Any) -> tuple[Any, Any]:
        """An argument for PyTorch and for us: floating tensors become leaves on both sides, others arrays on ours."""
        if isinstance(x, (list, tuple)) and not isinstance(x, torch.Size):
            mine = [both(part) for part in x]
            return type(x)(m[0] for m in mine), type(x)(m[1] for m in mine)
        if not isinstance(x, torch.Tensor):
            return x, x
        if x.is_complex():
            raise Elsewhere("complex numbers")
        array = x.detach().resolve_neg().numpy()
        if not x.is_floating_point():
            return x, array
        pairs.append((x.detach().requires_grad_(), Tensor(array.copy(), requires_grad=True)))
        return pairs[-1]

    arguments = [both(x) for x in (sample.input, *sample.args)]
    settings = {key: both(x) for key, x in sample.kwargs.items()}
    try:
        compute = ROWS[name].instead or info.op
        theirs = compute(*(t for t, _ in arguments), **{key: t for key, (t, _) in settings.items()})
    except RuntimeError as error:  # weights of classes, which it takes, but not with a gradient
        raise Elsewhere(str(error)) from error
    try:
        with np.errstate(all="ignore"):
            ours = ROWS[name].call(*(m for _, m in arguments), **{key: m for key, (_, m) in settings.items()})
            if str(theirs.dtype) != f"torch.{ours.dtype}" or tuple(theirs.shape) != ours.shape:
                return "different", f"{tuple(theirs.shape)} {theirs.dtype} beside {ours.shape} {ours.dtype}"
            g = np.random.default_rng(0).standard_normal(ours.shape).astype(dtype)
            if ours.requires_grad:
                ours.backward(g)
    except (MinimaskError, ValueError, TypeError, IndexError, RuntimeError) as error:
        return "refused", f"{type(error).__name__}: {error}"
    slopes = torch.autograd.grad(theirs, [t for t, _ in pairs], torch.tensor(g), allow_unused=True)
    compared = [(ours.data, theirs), *((m.grad, slope) for (_, m), slope in zip(pairs, slopes))]
    worst = max((distance(a, b) for a, b in compared), default=0.0)
    fine, coarse = DTYPES[dtype]
    tensors = [theirs, *(t for t, _ in pairs), *(slope for slope in slopes if slope is not None)]
    word = "different" if all(bool(torch.isfinite(t).all()) for t in tensors) else "not finite"
    return "equal" if worst <= fine else "coarser" if worst <= coarse else word, f"off by {worst:.2g}"


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference beside the largest finite entry; NaN and infinities must stand in the same places."""
    if theirs is None or ours is None:
        other = theirs if ours is None else ours
        return 0.0 if other is None or not np.any(np.asarray(other.detach() if hasattr(other, "detach") else other)) else np.inf
    a, b = np.asarray(ours), theirs.detach().resolve_neg().numpy()
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not (np.isfinite(a) | same).all() or not (np.isfinite(b) | same).all():
        return float("inf")
    finite = np.isfinite(a) & np.isfinite(b)
    return float(np.max(np.abs(a - b)[finite]) / max(float(np.max(np.abs(b[finite]))), np.finfo(b.dtype).tiny))


def table(seconds: float, say: Callable[[str], None] = print) -> tuple[dict[str, Counter], dict[str, list[str]]]:
    """Runs every row, for `seconds` each at most; -> counts by op, and what was different."""
    import torch

    torch.backends.mkldnn.set_flags(False)  # its float32 convolution is wrong for some small shapes: see conftest.py
    counts: dict[str, Counter] = {}
    different: dict[str, list[str]] = {}
    say(f"{'op':14}" + "".join(f"{word:>12}" for word in (*OUTCOMES, "elsewhere")))
    for name in ROWS:
        count, end, cut = Counter(), time.monotonic() + seconds, ""
        for number, dtype in enumerate(DTYPES):
            for info, sample in samples(name, dtype):
                if time.monotonic() > end - seconds * (1 - number) / 2:
                    cut = "  cut short"
                    break
                try:
                    word, why = outcome(name, info, sample, dtype)
                except Elsewhere:
                    word, why = "elsewhere", ""
                count[word] += 1
                if word == "different":
                    different.setdefault(name, []).append(f"{dtype} {sample.summary()}: {why}"[:400])
        counts[name] = count
        say(f"{name:14}" + "".join(f"{count[word]:12}" for word in (*OUTCOMES, "elsewhere")) + cut)
    total = sum(counts.values(), Counter())
    say(f"{'all':14}" + "".join(f"{total[word]:12}" for word in (*OUTCOMES, "elsewhere")))
    return counts, different


if __name__ == "__main__":
    _, found = table(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
    for op, cases in found.items():
        print(f"{op}: {len(cases)} different, the first: {cases[0]}")
