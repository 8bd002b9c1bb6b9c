"""What may go into an op, and what is said of anything else: arrays, axes, indices, settings. Beside the path.

Everything here takes arrays and plain values, never a Tensor. Checks of a net's arrays and of an optimizer's leaves are
at the end.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .backend import Array, asarray, is_floating, namespace, on_device_of, place
from .errors import MinimaskError, UsageError, out_of_memory, ran_out

Axis = int | tuple[int, ...] | None

# ---- what becomes a Tensor -----------------------------------------------------------------------------------------


def real_array(given: Any, requires_grad: bool) -> Array:
    """What a Tensor holds: an array as it is, or what numpy.asarray makes; TypeError where it holds no real numbers."""
    if type(given) is np.ndarray and given.dtype.kind == "f" and given.dtype.isnative:
        return given
    if not hasattr(given, "shape") or isinstance(given, np.generic):
        try:
            given = np.asarray(given)
        except ValueError:
            raise TypeError("Tensor: rows of different lengths; give real numbers in a rectangular array") from None
    if isinstance(given, np.ndarray):
        if given.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: {given.dtype} data; give real numbers in a rectangular array")
        if not given.dtype.isnative:
            raise TypeError(f"Tensor: {given.dtype.str} data has its bytes in another order than this machine's; give "
                            "array.astype(array.dtype.newbyteorder('='))")
    if requires_grad and not is_floating(given):
        raise TypeError(f"Tensor: requires_grad needs a floating dtype, not {given.dtype}; convert it first")
    return given


# ---- arrays of one library and one dtype ---------------------------------------------------------------------------


def refuse_mixed(name: str, first: Array, second: Array) -> None:
    """TypeError, naming op `name` and both places, where two arrays are of two libraries or on two devices."""
    xp = namespace(first)
    if xp is not namespace(second) or (xp is not np and first.device != second.device):
        raise TypeError(f"{name}: mixes arrays of {place(first)} and {place(second)}; move one first: "
                        "minimask.backend.asarray(minimask.backend.to_host(x), like=y)")


def of_one_kind(name: str, arrays: list[Any], is_discrete: tuple[bool, ...]) -> tuple[Any, list[Array]]:
    """The array library of an op's inputs, and the inputs as its arrays in one floating dtype; or a TypeError."""
    first = arrays[0] if arrays else None
    if isinstance(first, np.ndarray) and first.dtype.kind == "f" and not any(is_discrete) and all(
            isinstance(x, np.ndarray) and x.dtype == first.dtype for x in arrays):
        return np, arrays  # most calls, and nothing to convert
    like = None  # the first floating array: it decides library, device and dtype
    flags = is_discrete if len(is_discrete) == len(arrays) else (False,) * len(arrays)
    for x, discrete in zip(arrays, flags):
        if discrete or not hasattr(x, "shape") or isinstance(x, np.generic):
            continue
        if not is_floating(x):
            raise TypeError(f"{name}: {x.dtype} array of shape {x.shape} in floating-point arithmetic; "
                            "convert it first, for example x.astype(np.float32)")
        if like is None:
            like = x
        else:
            refuse_mixed(name, like, x)
            if x.dtype != like.dtype:
                raise TypeError(f"{name}: mixes {like.dtype} and {x.dtype}; convert one, so that nothing grows unseen")
    if like is None:  # no array at all: a NumPy scalar will do, it has a dtype
        like = next((np.asarray(x) for x in arrays if isinstance(x, np.floating)), None)
    if like is None:
        raise TypeError(f"{name}: needs a Tensor or a floating-point array, "
                        f"got {', '.join(type(x).__name__ for x in arrays) or 'nothing'}")
    for i, (x, discrete) in enumerate(zip(arrays, flags)):
        if discrete:
            arrays[i] = _discrete(name, x, like)
        elif not hasattr(x, "shape") or isinstance(x, np.generic):
            arrays[i] = _scalar(name, x, like)
    return namespace(like), arrays


def _scalar(name: str, x: Any, like: Array) -> Array:
    """A Python number or NumPy scalar in the dtype of the arrays beside it, so that it never promotes them."""
    if isinstance(x, (int, float, np.integer, np.floating)):
        try:
            return asarray(float(x), like)
        except OverflowError:
            raise ValueError(
                f"{name}: an integer too large for a float stands beside an array; give a smaller one") from None
    raise TypeError(f"{name}: {type(x).__name__} is neither a Tensor, an array nor a number; wrap it in Tensor(...)")


def _discrete(name: str, x: Any, like: Array) -> Array:
    """Labels, a condition or indices as an array of `like`'s library: integers or booleans."""
    if not hasattr(x, "shape") or isinstance(x, np.generic):
        x = np.asarray(x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        x = x.astype(np.int64)  # so that counting up to n classes cannot overflow uint8 labels
    if isinstance(x, np.ndarray) and not isinstance(like, np.ndarray):
        x = namespace(like).asarray(x, **on_device_of(like))
    refuse_mixed(name, like, x)
    if not isinstance(x, np.ndarray) and namespace(x).isdtype(x.dtype, "integral"):
        x = namespace(x).astype(x, namespace(x).int64)
    if is_floating(x) or (isinstance(x, np.ndarray) and x.dtype.kind not in "iub"):
        raise TypeError(f"{name}: labels, conditions and indices are integers or booleans, not {x.dtype}")
    return x


def explained(name: str, error: Exception, arrays: list[Array], signature: inspect.Signature, args: Any,
           settings: Any) -> Exception:
    """The library's error with the op's name and the shapes that met; ops word their own errors themselves."""
    if ran_out(error):
        taken = ", ".join(f"{x.shape} {x.dtype}" for x in arrays)
        return out_of_memory(f"{name} of {taken}", error, budget="budget" in signature.parameters)
    if str(error).startswith(f"{name}: ") or isinstance(error, NotImplementedError):  # an op that is yet to be written
        return error
    try:
        signature.bind(*args, **settings)
    except TypeError as wrong_call:
        return TypeError(f"{name}: {wrong_call}; it takes {', '.join(signature.parameters)}")
    shapes = [x.shape for x in arrays if hasattr(x, "shape")]
    if "broadcast" in str(error):
        text = (f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast; "
                "counted from the right, axes must be equal or 1")
    else:
        text = f"{name}: {error} (shapes {', '.join(map(str, shapes))})"
    kind = next((k for k in (IndexError, ValueError, TypeError, RuntimeError) if isinstance(error, k)), ValueError)
    return kind(text)


def check_replacement(new: Any, old: Array) -> None:
    """TypeError or ValueError unless an array can take the place of another in a Tensor."""
    if not hasattr(new, "dtype"):
        raise TypeError(f"Tensor.data: {type(new).__name__} is no array; give one of shape {old.shape}")
    refuse_mixed("Tensor.data", old, new)
    if new.shape != old.shape or new.dtype != old.dtype:
        raise ValueError(f"Tensor.data: {new.shape} {new.dtype} cannot replace {old.shape} {old.dtype}; "
                         "shape and dtype stay as they were, make a new Tensor instead")


def cotangent_of(given: Any, data: Array) -> Array:
    """The cotangent that backward() starts from, for a tensor with this data: 1 unless given, if it has one entry."""
    if given is None:
        if math.prod(data.shape) != 1:
            raise ValueError(f"backward: a tensor of shape {data.shape} needs a cotangent of that shape; "
                             "backward(cotangent), or reduce it to one number with .sum() or .mean()")
        return namespace(data).ones_like(data)
    try:
        g = given if hasattr(given, "dtype") else asarray(given, like=data)
    except (ValueError, TypeError, OverflowError):
        raise TypeError(f"backward: the cotangent is {given!r:.40}; give an array of shape {data.shape}") from None
    refuse_mixed("backward", data, g)
    if g.shape != data.shape or g.dtype != data.dtype:
        raise ValueError(f"backward: the cotangent is {g.shape} {g.dtype}, the tensor {data.shape} {data.dtype}; "
                         "both must agree")
    return g


def freed(name: str) -> RuntimeError:
    """The error for a tape that backward() has been along, at an op."""
    return RuntimeError(f"backward: the tape through {name} was freed by an earlier backward(); "
                        "compute the loss again (to look at its tape, before backward()), or add the losses "
                        "and call backward() once")


# ---- axes, indices, settings ---------------------------------------------------------------------------------------

#: What to write where a setting is to have a gradient: setting by setting, in ops that take arrays.
INSTEAD = {"power": "exp(exponent * log(x))", "clip": "maximum(minimum(x, high), low)",
           "elu": "relu(x) + alpha * expm1(minimum(x, 0.0))"}


def check_op(name: str, function: Any, there: Any) -> None:
    """ValueError where an op of that name is another module's; the same cell run again, or a reload, renews its own."""
    if there is not None and there.__module__ != function.__module__:
        raise ValueError(f"op: {name!r} is registered already, by {there.__module__}; "
                         "choose another name or register=False")


def refuse_tensors(name: str, names: Sequence[str], static: tuple[Any, ...], settings: Mapping[str, Any]) -> None:
    """TypeError for a Tensor among an op's settings, by position or by name: no gradient flows there."""
    for value in (*static, *settings.values()):
        if hasattr(value, "requires_grad"):
            setting = next(k for k, given in (*zip(names, static), *settings.items()) if given is value)
            raise TypeError(f"{name}: {setting} is a Tensor, but settings have no gradient; give {setting}.data or "
                            f"{setting}.item()" + (f", or write {INSTEAD[name]}" if name in INSTEAD else ""))


def integers(name: str, what: str, given: Any) -> tuple[int, ...]:
    """A shape, or axes, as a tuple of integers; TypeError for anything else."""
    try:
        return tuple(map(operator.index, (given,) if isinstance(given, (int, np.integer)) else given))
    except TypeError:
        raise TypeError(f"{name}: {what} is {given!r:.40}; give a tuple of integers") from None


def filled_shape(old: tuple[int, ...], given: Any) -> tuple[int, ...]:
    """The shape that reshape makes of `old`: one -1 is worked out; ValueError where the entries do not fill it."""
    shape, size = integers("reshape", "shape", given), math.prod(old)
    if math.prod(shape) == size and (not shape or min(shape) >= 0):
        return shape
    known = math.prod(n for n in shape if n != -1)
    worked_out = tuple(size // known if n == -1 and known else n for n in shape)
    if min(worked_out, default=0) < 0 or shape.count(-1) > 1 or math.prod(worked_out) != size:
        raise ValueError(f"reshape: {old} has {size} entries and does not fill {shape}; "
                         "the products of both shapes must agree (one length may be -1)")
    return worked_out


def broadcast_shape(old: tuple[int, ...], given: Any) -> tuple[int, ...]:
    """The shape that broadcast_to makes of `old`; ValueError where it does not broadcast to it."""
    shape = integers("broadcast_to", "shape", given)
    if len(old) > len(shape) or any(n not in (1, m) or m < 0 for n, m in zip(old[::-1], shape[::-1])):
        raise ValueError(f"broadcast_to: {old} does not broadcast to {shape}; "
                         "counted from the right, its axes must be 1 or equal")
    return shape


def positive(name: str, what: str, value: Any) -> float:
    """A setting above 0, as a Python float: a NumPy scalar would promote float32."""
    if not value > 0:
        raise ValueError(f"{name}: {what} is {value}, but must be positive")
    return float(value)


def check_bounds(low: float | None, high: float | None) -> None:
    """ValueError where clip's bounds are the wrong way round."""
    if low is not None and high is not None and low > high:
        raise ValueError(f"clip: low {low} lies above high {high}; swap them")


def axes_of(name: str, axis: Axis, x: Array) -> tuple[int, ...]:
    """The axes as distinct non-negative integers; None means all."""
    rank = len(x.shape)
    if axis is None:
        return tuple(range(rank))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if not isinstance(a, (int, np.integer)):
            raise TypeError(f"{name}: axis {a!r} is no integer; give an integer, a tuple of them, or None for all")
        if not -rank <= a < rank:
            raise IndexError(f"{name}: axis {a} does not exist in shape {x.shape}; "
                             + (f"give {-rank} to {rank - 1}" if rank else "it is 0-d and has no axes"))
    axes = tuple(int(a) % rank for a in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: axis {axis} names an axis twice")
    return axes


def count_of(name: str, x: Array, axes: tuple[int, ...]) -> int:
    """How many entries one result is made of; ValueError where there are none."""
    count = 1
    for a in axes:
        count *= x.shape[a]
    if count == 0:
        raise ValueError(f"{name}: no entries to reduce in shape {x.shape}; give at least one")
    return count


def basic_index(index: Any, rank: int) -> tuple[Any, ...]:
    """A basic index that names every axis, as the array API asks: '...' is added where axes are left out.

    TypeError for what is no basic index: arrays, lists, booleans.
    """
    index = index if isinstance(index, tuple) else (index,)
    for i in index:
        if not (i is None or i is ... or (isinstance(i, (slice, int, np.integer)) and not isinstance(i, bool))):
            raise TypeError(f"getitem: index of type {type(i).__name__}; use integers, slices, ... and None, "
                            "ops.take for integer arrays and ops.where for conditions")
    index = tuple(int(i) if isinstance(i, np.integer) else i for i in index)
    named = len([i for i in index if i is not None and i is not ...])
    return index if named >= rank or ... in index else (*index, ...)


def indices_of(xp: Any, x: Array, indices: Array, axis: int) -> tuple[int, Array]:
    """The axis that take goes along, from 0, and its indices, from 0; TypeError or IndexError where they are none."""
    axis, = axes_of("take", axis, x)
    n = x.shape[axis]
    if len(indices.shape) != 1 or xp.isdtype(indices.dtype, "bool"):
        raise TypeError(f"take: indices are {indices.dtype} of shape {indices.shape}, but must be integers, 1-D")
    if indices.shape[0] and not -n <= int(xp.min(indices)) <= int(xp.max(indices)) < n:
        raise IndexError(f"take: indices from {int(xp.min(indices))} to {int(xp.max(indices))} "
                         f"on an axis of length {n}; give {-n} to {n - 1}")
    return axis, xp.where(indices < 0, indices + n, indices)


def check_factors(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    """ValueError where matmul cannot multiply arrays of these shapes."""
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"matmul: shapes {x} and {y}; both need two axes or more, "
                         "reshape a vector to (1, k) or (k, 1)")
    if x[-1] != y[-2]:
        raise ValueError(f"matmul: {x} @ {y}: the last axis of the first ({x[-1]}) must equal "
                         f"the second to last of the second ({y[-2]})")


def python_number(value: object) -> float:
    """The exponent of power, a Python number; TypeError for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, np.generic):
        raise TypeError(f"power: the exponent is a {type(value).__name__}, but must be a Python number; "
                        "use float(exponent)")
    try:
        float(value)
    except OverflowError:
        raise ValueError("power: the exponent is an integer too large for a float; give a smaller one") from None
    return value


def check_labels(xp: Any, logits: Array, given: Array) -> None:
    """ValueError or TypeError unless `given` holds a label for every row of logits (n, k): integers 0..k-1.

    Their range is looked at for NumPy arrays; on a device that would wait for it.
    """
    if len(logits.shape) != 2 or given.shape != logits.shape[:1]:
        raise ValueError(f"cross_entropy: logits {logits.shape} and labels {given.shape}; "
                         "needed are (n, k) and (n,), one integer label per row")
    n, k = logits.shape
    if n == 0:
        raise ValueError("cross_entropy: the batch is empty; give at least one row")
    if xp.isdtype(given.dtype, "bool"):
        raise TypeError("cross_entropy: labels are booleans; give integers 0..k-1")
    if xp is np and not 0 <= given.min() <= given.max() < k:
        raise ValueError(f"cross_entropy: labels from {given.min()} to {given.max()} but {k} logits a row; "
                         f"labels must lie in 0..{k - 1}")


def threshold(name: str, tau: object) -> float:
    """tau as a Python float (a NumPy scalar would compare float32 scores in float64); TypeError, ValueError."""
    if not isinstance(tau, (int, float)):
        raise TypeError(f"{name}: tau is a {type(tau).__name__}, but must be one Python number, 0 or more")
    if not tau >= 0:
        raise ValueError(f"{name}: tau is {tau}, but a threshold on |m| must be 0 or more")
    return float(tau)


def kept_count(share: object, m: Array) -> int:
    """k of keep_largest; ValueError where the share is none."""
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise ValueError(f"keep_largest: share is {share!r}, but must be a Python number from 0 to 1")
    return round(float(share) * math.prod(m.shape))


def setting(value: float | None) -> float | None:
    """A setting as it is kept: 1 is 1.0 and -0.0 is 0.0, so that one setting has one digest; None stays."""
    return None if value is None else float(value) + 0.0


def check_rule(kind: str, tau: float | None, tau_ratio: float | None) -> None:
    """UsageError unless one of both is given at most, and it is a threshold on |score|, or a ratio."""
    if tau is not None and tau_ratio is not None:
        raise UsageError(f"{kind}: tau={tau} and tau_ratio={tau_ratio} are two rules; give one of them")
    if tau is not None and not tau >= 0:
        raise UsageError(f"{kind}: tau is {tau}, but a threshold on |score| must be 0 or more")
    if tau_ratio is not None and not 0 <= tau_ratio < 1:
        raise UsageError(f"{kind}: tau_ratio is {tau_ratio}, but must lie in [0, 1); at 1 all is hidden")


# ---- an optimizer's parameters, a net's arrays and sources ---------------------------------------------------------


def check_optimizer(kind: str, parameters: Sequence[Any], lr: float, schedule: Any) -> None:
    """UsageError unless an optimizer of this kind can train these, leaf Tensors, with such a rate and schedule."""
    if not parameters:
        raise UsageError(f"{kind}: no parameters to train; give net.parameters(), or a list of leaf Tensors")
    for i, p in enumerate(parameters):
        is_tensor = hasattr(p, "is_leaf") and hasattr(p, "requires_grad")
        if not is_tensor or not p.requires_grad or not p.is_leaf:
            what = repr(p) if not is_tensor else "without a gradient" if p.is_leaf else "made by an op"
            raise UsageError(f"{kind}: parameter {i} is {what}, but must be a leaf Tensor with requires_grad=True; "
                             "give net.parameters()")
        first = next(j for j, other in enumerate(parameters) if other is p)
        if first != i:
            raise UsageError(f"{kind}: parameter {i}, of shape {p.shape}, is parameter {first} again and would be "
                             "stepped twice; give every leaf once")
        if isinstance(p.data, np.ndarray) and not p.data.flags.writeable:
            raise UsageError(f"{kind}: parameter {i}, of shape {p.shape}, is a read-only array, which no step can "
                             "change; make its leaf of array.copy()")
    if not callable(schedule):
        raise UsageError(f"{kind}: schedule is {schedule!r}, but must be a function of the step, such as "
                         "exponential(0.9, every=1000)")
    if not 0 < lr < math.inf:
        raise UsageError(f"{kind}: lr is {lr}, but must be above 0")


def check_gradients(kind: str, parameters: Sequence[Any]) -> None:
    """UsageError where a parameter has no gradient."""
    for i, p in enumerate(parameters):
        if p.grad is None:
            raise UsageError(f"{kind}: parameter {i} of shape {p.shape} has no gradient; "
                             "call loss.backward() before step(), and check that the loss depends on it")


def check_arrays(given: Mapping[str, np.ndarray], needed: Mapping[str, np.ndarray]) -> None:
    """MinimaskError unless a net that has the arrays `needed` can take those that are given: names, shapes, dtypes."""
    if set(needed) != set(given):
        missing, foreign = sorted(set(needed) - set(given)), sorted(set(given) - set(needed))
        raise MinimaskError(f"load: these arrays are not this net's: missing {missing or 'none'}, "
                            f"unknown {foreign or 'none'}")
    for name, array in given.items():
        if array.shape != needed[name].shape or array.dtype != needed[name].dtype:
            raise MinimaskError(f"load: {name} is {array.shape} {array.dtype}, "
                                f"but {needed[name].shape} {needed[name].dtype} is needed")


def check_source(name: str, weights: Any) -> None:
    """UsageError unless a layer called `name` can draw its weight from this."""
    if isinstance(weights, type) or not hasattr(weights, "draw"):
        raise UsageError(f"{name}: weights is {weights!r}, but must be a weight source such as "
                         "SignedSupermask(tau=0.01) or Trained(), with its brackets")
