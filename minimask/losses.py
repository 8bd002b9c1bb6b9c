r"""What is minimised, when an answer is right, and what else is told of the held-out images. Beside the path.

A loss is called with a net's outputs (n, k), a Tensor, and with targets, an array on the host: class labels (n,) of
integers, or floats (n,) or (n, k). It gives their mean over the batch, a scalar Tensor. LOSSES has those with a name;
:func:`of` makes one of a function of one's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np

from . import ops
from .backend import Array, asarray
from .engine import Pullback, Tensor, no_grad, op
from .errors import UsageError, unknown

#: A number for a whole data set from all outputs (n, k) and targets: of one's own, or of METRICS.
Metric = Callable[[np.ndarray, np.ndarray], float]
#: What outputs side by side can say together, and how many of them there are: one class of all, or of each a number, or
#: yes or no.
Answers = Sequence[tuple[str, int]]
CLASS, NUMBER, YES = ANSWERS = "class", "number", "yes"


class Loss:
    """What is minimised. A subclass says it in ``__call__``, and in `hits` when an answer is right."""

    def __call__(self, outputs: Tensor, targets: np.ndarray) -> Tensor:
        """The mean over a batch: (n, k), targets -> scalar."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it minimises")

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """Which answers are right: (n,) booleans; None where there is no right and wrong, as of floats.

        Here: the largest output is that of the label.
        """
        return outputs.argmax(axis=1) == targets if _are_labels(targets) else None

    def right(self, outputs: np.ndarray, targets: np.ndarray) -> int:
        """How many answers are right."""
        hits = self.hits(outputs, targets)
        return 0 if hits is None else int(np.count_nonzero(hits))

    def check(self, targets: np.ndarray, outputs: int) -> None:
        """UsageError where these targets are none for it and so many outputs. Here: labels, or floats for each."""
        if not _are_labels(targets) and outputs != _width(targets):
            raise UsageError(f"{self.name}: targets of shape {targets.shape} are {_width(targets)} numbers a sample, "
                             f"but the net has {outputs} outputs; give the net as many")

    def answers(self, targets: np.ndarray, outputs: int) -> Answers:
        """What so many outputs say that were trained on such targets. Here: a class; of floats, as many numbers."""
        return [(CLASS if _are_labels(targets) else NUMBER, outputs)]

    @property
    def name(self) -> str:
        """As recipes and sentences call it."""
        return next((name for name, kind in LOSSES.items() if kind is type(self)), type(self).__name__)

    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, plain data; nothing of plain cross-entropy, which is what was always meant."""
        given: dict[str, Any] = asdict(self) if is_dataclass(self) else {}
        return {} if self == CrossEntropy() else {"loss": {"name": self.name, **given}}


@dataclass(frozen=True)
class CrossEntropy(Loss):
    r"""-sum_j q_j log softmax(outputs)_j, with q = 1 at the label; floats (n, k), rows of shares, are q itself.

    Args:
        smoothing: s in [0, 1), label smoothing: q becomes (1 - s) q + s/k (Szegedy et al. 2016, arXiv:1512.00567).
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "smoothing", float(self.smoothing) + 0.0)
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"cross-entropy: smoothing is {self.smoothing}, but must lie in [0, 1)")

    def __call__(self, outputs: Tensor, targets: np.ndarray) -> Tensor:
        if not self.smoothing and _are_labels(targets):
            return ops.cross_entropy(outputs, targets)
        n, k = outputs.shape
        shares = (1 - self.smoothing) * spread(targets, k) + self.smoothing / k  # (n, k)
        return -ops.sum(ops.log_softmax(outputs) * asarray(shares, outputs.data)) / n

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        return outputs.argmax(axis=1) == (targets if _are_labels(targets) else targets.argmax(axis=1))

    def answers(self, targets: np.ndarray, outputs: int) -> Answers:
        return [(CLASS, outputs)]

    def check(self, targets: np.ndarray, outputs: int) -> None:
        if targets.ndim == 1 and not _are_labels(targets):
            raise UsageError(f"cross-entropy: labels are {targets.dtype}, but must be integers, numbers of classes: "
                             "give labels.astype(int), or for other numbers loss='mse'")
        super().check(targets, outputs)
        if not _are_labels(targets) and ((targets < 0).any() or not np.allclose(
                targets.sum(axis=1, dtype=float), 1, atol=1e-3)):
            raise UsageError("cross-entropy: targets that are no integer labels must be rows of shares, (n, classes), "
                             "each 0 or more and 1 in sum; for other numbers give loss='mse'")


@dataclass(frozen=True)
class MeanSquare(Loss):
    """(outputs - targets)^2, mean over all outputs, as PyTorch's MSELoss; labels become rows of 0 and a 1."""

    def __call__(self, outputs: Tensor, targets: np.ndarray) -> Tensor:
        return ops.mean((outputs - asarray(spread(targets, outputs.shape[1]), outputs.data)) ** 2)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """A yes or no for each output, mean over all, as PyTorch's BCEWithLogitsLoss; labels become rows of 0 and a 1.

    An answer is right where every output is on its target's side: above 0 for yes. Of labels it is the largest one.
    """

    def __call__(self, outputs: Tensor, targets: np.ndarray) -> Tensor:
        return binary_cross_entropy(outputs, asarray(spread(targets, outputs.shape[1]), outputs.data))

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        if _are_labels(targets):
            return super().hits(outputs, targets)
        return ((outputs > 0) == (spread(targets, outputs.shape[1]) > 0.5)).all(axis=1)

    def answers(self, targets: np.ndarray, outputs: int) -> Answers:
        return [(CLASS if _are_labels(targets) else YES, outputs)]

    def check(self, targets: np.ndarray, outputs: int) -> None:
        super().check(targets, outputs)
        if not _are_labels(targets) and ((targets < 0) | (targets > 1)).any():
            raise UsageError(f"binary-cross-entropy: targets from {targets.min():g} to {targets.max():g}, but must lie "
                             "in 0..1: 1 for yes, 0 for no")


class Own(Loss):
    """A function of one's own as a loss: (outputs, targets) -> scalar Tensor. Of labels accuracy is told."""

    def __init__(self, function: Callable[[Tensor, Any], Tensor]):
        self.function = function

    def __call__(self, outputs: Tensor, targets: np.ndarray) -> Tensor:
        loss = self.function(outputs, _to_read(targets))
        if not isinstance(loss, Tensor) or loss.shape != ():
            what = f"a Tensor of shape {loss.shape}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UsageError(f"{self.name}: a loss gives one number, a scalar Tensor, but this gave {what}; "
                             "take ops.mean of it")
        if outputs.requires_grad and not loss.requires_grad:
            raise UsageError(f"{self.name}: the number that it gives was not made from the outputs by ops, so nothing "
                             "can be learned from it; compute it with Tensors, from minimask.ops")
        return loss

    def check(self, targets: np.ndarray, outputs: int) -> None:
        pass

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


class Heads(Loss):
    """Losses side by side, for a net of several heads: each takes the next outputs and the next columns of targets.

    ``Heads([(CrossEntropy(), 10), (MeanSquare(), 1)])`` is of a net with 11 outputs and targets (n, 2): a class, and a
    number. Cross-entropy takes one column, of whole numbers; the others take as many as they have outputs. An answer is
    right where it is right in all heads that know right and wrong.

    Args:
        heads: each head's loss and its number of outputs. weights: what each counts in the sum, 1 unless given.
    """

    def __init__(self, heads: Sequence[tuple[Loss, int]], weights: Sequence[float] | None = None):
        self.heads = [(of(loss), int(outputs)) for loss, outputs in heads]
        self.weights = [1.0] * len(self.heads) if weights is None else [float(weight) for weight in weights]
        if not self.heads or len(self.weights) != len(self.heads) or min(n for _, n in self.heads) < 1:
            raise UsageError(f"Heads: {len(self.heads)} heads and {len(self.weights)} weights; give a loss and 1 or "
                             "more outputs for each head, and a weight for each")
        if not all(0 <= weight < math.inf for weight in self.weights):
            raise UsageError(f"Heads: weights {self.weights}, but each must be 0 or more")

    def __call__(self, outputs: Tensor, targets: np.ndarray) -> Tensor:
        losses = [loss(outputs[:, columns], part) * weight
                  for weight, (loss, columns, part) in zip(self.weights, self._parts(targets))]
        total = losses[0]
        for each in losses[1:]:
            total = total + each
        return total

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        found = [loss.hits(outputs[:, columns], part) for loss, columns, part in self._parts(targets)]
        known = [hits for hits in found if hits is not None]
        return np.all(known, axis=0) if known else None

    def answers(self, targets: np.ndarray, outputs: int) -> Answers:
        return [answer for loss, columns, part in self._parts(targets)
                for answer in loss.answers(part, columns.stop - columns.start)]

    def check(self, targets: np.ndarray, outputs: int) -> None:
        needed = [sum(n for _, n in self.heads), sum(map(self._columns, self.heads))]
        if [outputs, _width(targets)] != needed or targets.ndim != 2:
            raise UsageError(f"Heads: {needed[0]} outputs and targets (n, {needed[1]}) are needed, but the net has "
                             f"{outputs} and the targets are {targets.shape}")
        for loss, columns, part in self._parts(targets):
            width = columns.stop - columns.start
            if _are_labels(part) and not (0 <= part.min() and part.max() < width):
                raise UsageError(f"Heads: classes from {part.min()} to {part.max()}, but the head has {width} outputs")
            loss.check(part, width)

    def settings(self) -> dict[str, Any]:
        return {"loss": {"name": "Heads", "weights": self.weights,
                         "heads": [[loss.settings(), outputs] for loss, outputs in self.heads]}}

    @staticmethod
    def _columns(head: tuple[Loss, int]) -> int:
        return 1 if isinstance(head[0], CrossEntropy) else head[1]

    def _parts(self, targets: np.ndarray) -> Iterable[tuple[Loss, slice, np.ndarray]]:
        """Each head's loss, its outputs, and its targets: a column of whole numbers becomes labels."""
        first, column = 0, 0
        for loss, outputs in self.heads:
            columns = self._columns((loss, outputs))
            part = targets[:, column:column + columns]
            yield loss, slice(first, first + outputs), _labels(part) if isinstance(loss, CrossEntropy) else part
            first, column = first + outputs, column + columns


#: By name, as recipes have them.
LOSSES: dict[str, Any] = {"cross-entropy": CrossEntropy, "mse": MeanSquare, "binary-cross-entropy": BinaryCrossEntropy}


def of(loss: str | Loss | Callable[[Tensor, Any], Tensor]) -> Loss:
    """A loss by its name, of a function of one's own, or as it is."""
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise UsageError(unknown("loss", loss, LOSSES))
        return LOSSES[loss]()
    if isinstance(loss, type) or not callable(loss):
        raise UsageError(f"loss is {loss!r}, but must be one of {', '.join(LOSSES)}, a Loss such as "
                         "losses.CrossEntropy(smoothing=0.1), or a function of outputs and targets")
    return loss if isinstance(loss, Loss) else Own(loss)


def takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with outputs and targets; a class cannot: what it makes can."""
    import inspect

    try:
        inspect.signature(function).bind(0, 0)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        pass
    return not isinstance(function, type)


@op
def binary_cross_entropy(xp: Any, logits: Array, targets: Array, /) -> tuple[Array, Pullback]:
    r"""Mean of -(t log sigma(x) + (1 - t) log(1 - sigma(x))): twice the same shape -> scalar. dx = (sigma(x) - t)/n.

    It is max(x, 0) - x t + log(1 + e^-|x|), in which nothing overflows; its slope (1 - t) sigma(x) - t sigma(-x), in
    which nothing cancels where t is 0 or 1.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"binary_cross_entropy: logits {logits.shape} and targets {targets.shape}; give one each")
    n, small = math.prod(logits.shape), xp.exp(-xp.abs(logits))
    value = xp.sum(xp.where(logits > 0, logits, logits * 0) - logits * targets + xp.log1p(small)) / n
    large = 1 / (1 + small)
    yes, no = (xp.where(side, large, small * large) for side in (logits > 0, logits <= 0))  # sigma(x), sigma(-x)
    return value, lambda g: (lambda: (yes * (1 - targets) - no * targets) * (g / n), lambda: -logits * (g / n))


# ---- targets -------------------------------------------------------------------------------------------------------


def spread(targets: np.ndarray, width: int) -> np.ndarray:
    """Targets as numbers for each output, (n, width): labels become rows of 0 and a 1, (n,) floats a column."""
    if _are_labels(targets):
        return (targets[:, None] == np.arange(width)).astype(np.float64)
    return targets[:, None] if targets.ndim == 1 else targets


def has_classes(dataset: Any) -> bool:
    """Whether a data set's labels are classes, whole numbers (n,), and no other targets."""
    return _are_labels(dataset.test_labels)


def refuse_targets(name: str, dataset: Any) -> None:
    """UsageError where a data set's labels are no classes, which is what `name` is about."""
    if not has_classes(dataset):
        raise UsageError(f"{name}: it is about classes, but the targets of data set {dataset.name!r} are "
                         f"{dataset.test_labels.dtype} of shape (n{', k' * (dataset.test_labels.ndim - 1)})")


def _to_read(targets: np.ndarray) -> np.ndarray:
    """The same numbers, not to be written into: they are the data set's, and the next epoch's too."""
    shown = targets.view()
    shown.flags.writeable = False
    return shown


def _are_labels(targets: np.ndarray) -> bool:
    return targets.ndim == 1 and targets.dtype.kind in "iu"


def _labels(column: np.ndarray) -> np.ndarray:
    """(n, 1) of whole numbers, of any dtype, as labels (n,)."""
    if column.dtype.kind == "f" and (column != np.floor(column)).any():
        raise UsageError("Heads: a column of classes holds a fraction; give whole numbers, or another loss")
    return column[:, 0].astype(np.int64)


def _width(targets: np.ndarray) -> int:
    return 1 if targets.ndim == 1 else targets.shape[1]


# ---- what an entry tells -------------------------------------------------------------------------------------------


def accuracy(outputs: Iterable[np.ndarray], labels: np.ndarray) -> float:
    """The share of samples whose largest output is at their label, 0 to 1; outputs come batch by batch."""
    if not _are_labels(labels):
        raise UsageError(f"accuracy: labels are {labels.dtype} of shape {labels.shape}, but must be integers (n,), the "
                         "numbers of classes; of other targets a loss or a metric is told")
    return Judge()(outputs, labels, 0.0)["test_accuracy"]


@dataclass(frozen=True)
class Judge:
    """What is minimised, and what is told of the held-out images at the end of an epoch.

    Args:
        loss: what is minimised. It also says when an answer is right: the accuracy, where it knows.
        test_loss: whether it is told, too; it always is where there is no accuracy.
        metric: another number, of all outputs and targets; the entry calls it "test_metric". None tells none.
    """

    loss: Loss = CrossEntropy()
    test_loss: bool = False
    metric: Metric | None = None

    def __call__(self, outputs: Iterable[np.ndarray], targets: np.ndarray, trained: float) -> dict[str, float]:
        """The numbers by their names in an entry, from outputs batch by batch and all their targets.

        Args:
            trained: the share that was right while the epoch was trained: told where the loss knows right and wrong.
        """
        right, loss, done, kept, knows, wanted = 0, 0.0, 0, [], True, self.test_loss
        for some in outputs:
            y = targets[done:done + len(some)]
            hits = self.loss.hits(some, y)
            knows = hits is not None
            right += int(np.count_nonzero(hits)) if hits is not None else 0
            if wanted := self.test_loss or not knows:
                with no_grad():
                    loss += self.loss(Tensor(some), y).item() * len(some)
            if self.metric is not None:
                kept.append(some)
            done += len(some)
        told = {"train_accuracy": trained, "test_accuracy": right / done} if knows else {}
        told |= {"test_loss": loss / done} if wanted else {}
        if self.metric is not None:
            told["test_metric"] = self._measured(np.concatenate(kept), targets)
        return told

    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, plain data; nothing where it is as it always was."""
        return {**self.loss.settings(), **({"test_loss": True} if self.test_loss else {}),
                **({"metric": metric_name(self.metric)} if self.metric is not None else {})}

    def _measured(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        assert self.metric is not None
        found = self.metric(outputs, _to_read(targets))
        try:
            value = float(found)
        except (TypeError, ValueError):
            raise UsageError(f"metric {metric_name(self.metric)} gave a {type(found).__name__}, but must give one "
                             "number") from None
        if not math.isfinite(value):
            raise UsageError(f"metric {metric_name(self.metric)} gave {value}, but a record holds finite numbers; "
                             "let it say what it means then")
        return value


def _mean_absolute_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean of |output - target| over all outputs."""
    return float(np.abs(outputs - spread(targets, outputs.shape[1])).mean(dtype=float))


def _r2(outputs: np.ndarray, targets: np.ndarray) -> float:
    """1 - sum (output - target)^2 / sum (target - mean)^2, mean over outputs; 0 for those whose target is constant."""
    y = spread(targets, outputs.shape[1]).astype(float)
    rest, all_of_it = ((each**2).sum(axis=0) for each in (outputs - y, y - y.mean(axis=0)))
    return float(np.where(all_of_it > 0, 1 - rest / np.where(all_of_it > 0, all_of_it, 1), 0).mean())


def _top5(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The share of samples whose label is among the five largest outputs."""
    if not _are_labels(targets):
        raise UsageError(f"top5: targets are {targets.dtype} of shape {targets.shape}, but must be the numbers of "
                         "classes, integers (n,); take 'mae' or 'r2'")
    of_label = np.take_along_axis(outputs, targets[:, None], axis=1)
    return float(((outputs > of_label).sum(axis=1) < 5).mean())


#: By name, as recipes have them.
METRICS: dict[str, Metric] = {"mae": _mean_absolute_error, "r2": _r2, "top5": _top5}


def metric_of(metric: str | Metric | None) -> Metric | None:
    """A metric by its name, or as it is."""
    if isinstance(metric, str):
        if metric not in METRICS:
            raise UsageError(unknown("metric", metric, METRICS))
        return METRICS[metric]
    if metric is not None and not callable(metric):
        raise UsageError(f"metric is {metric!r}, but must be one of {', '.join(METRICS)}, or a function of outputs and "
                         "targets")
    return metric


def metric_name(metric: Metric) -> str:
    """As a record calls it."""
    return next((name for name, each in METRICS.items() if each is metric), getattr(metric, "__name__", "metric"))


def settings_types() -> Mapping[str, Mapping[str, type]]:
    """The settings of every loss with a name, and their types."""
    return {"cross-entropy": {"smoothing": float}, "mse": {}, "binary-cross-entropy": {}}
