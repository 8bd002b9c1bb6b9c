"""What a trained net gets right and wrong: confusion matrix, numbers per class, the most confident mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .data import Preprocess
from .data.preprocess import IMAGE
from .engine import Tensor, no_grad
from .errors import UsageError
from .loop import outputs
from .losses import LOSSES, Loss, of
from .nn import Sequential


@dataclass(frozen=True)
class Mistake:
    """An image that the net takes for another class: its index, label and class given, how sure the net was, 0 to 1,
    and how sure it was of the label."""

    index: int
    label: int
    given: int
    confidence: float
    of_label: float


@dataclass(frozen=True)
class Evaluation:
    """How a net classifies labelled images.

    Attributes:
        confusion: (classes, classes), a row per label, a column per class given: images.
        loss: the mean of what the net was trained on; None where that is not known. mistakes: the most confident first.
        loss_name: what it is called.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    loss: float | None
    mistakes: tuple[Mistake, ...]
    loss_name: str = "cross-entropy"

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the images that get their label, 0 to 1."""
        return int(np.trace(self.confusion)) / self.images

    def per_class(self) -> list[dict[str, Any]]:
        """Of each class: images of it, how often it was given, precision, recall and F1, 0 to 1; None where of none.

        Precision: of the images that it was given to, those of it. Recall: of the images of it, those it was given to.
        F1: their harmonic mean.
        """
        right = np.diag(self.confusion)
        rows = []
        for name, images, given, hit in zip(self.classes, self.confusion.sum(1), self.confusion.sum(0), right):
            rows.append({"class": name, "images": int(images), "given": int(given),
                         "precision": _share(hit, given), "recall": _share(hit, images),
                         "f1": _share(2 * hit, images + given)})
        return rows

    def confused(self, most: int) -> list[tuple[int, int, int]]:
        """(label, class given, images) of the most frequent mistakes, the most frequent first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, wrong.shape))]
        return [(i, j, int(wrong[i, j])) for i, j in pairs if wrong[i, j]]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        mistakes = [{"image": each.index, "label": self.classes[each.label], "given": self.classes[each.given],
                     "confidence": each.confidence, "confidence_of_label": each.of_label} for each in self.mistakes]
        return {"images": self.images, "accuracy": self.accuracy, "loss": self.loss,
                "loss_name": self.loss_name, "classes": list(self.classes),
                "confusion": self.confusion.tolist(), "per_class": self.per_class(), "mistakes": mistakes}


def _share(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None


def logits(net: Sequential, images: np.ndarray, batch: int = 200, prepare: Preprocess = IMAGE) -> np.ndarray:
    """Raw images (n, H, W, C) on the host -> (n, classes) float64 logits on the host.

    prepare: what is done to raw images, `dataset.prepare`.

    Raises TrainingError: the net gives NaN or infinity for an image, or there is no image.
    """
    return np.concatenate([some.astype(np.float64) for some in outputs(net, images, prepare, batch)])


def log_softmax(given: np.ndarray) -> np.ndarray:
    """(n, classes) logits -> (n, classes) logarithms of the softmax."""
    given = given - given.max(axis=1, keepdims=True)
    return given - np.log(np.exp(given).sum(axis=1, keepdims=True))


def evaluate(net: Sequential, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...],
             most: int = 10, prepare: Preprocess = IMAGE, loss: Loss | str = "cross-entropy") -> Evaluation:
    """How the net classifies raw images (n, H, W, C); with its `most` most confident mistakes.

    loss: that it was trained on, or its name; that of one's own is only told, for it cannot be asked.

    Raises UsageError: the net has another number of classes. TrainingError as logits.
    """
    given = logits(net, images, prepare=prepare)
    if given.shape[1] != len(classes):
        raise UsageError(f"evaluate: the net tells {given.shape[1]} classes apart, but the data has {len(classes)}")
    log_p = log_softmax(given)  # (n, classes)
    chosen, every = given.argmax(axis=1), np.arange(len(labels))
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, chosen), 1)
    sure = log_p[every, chosen]
    wrong = np.flatnonzero(chosen != labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    mistakes = tuple(Mistake(int(i), int(labels[i]), int(chosen[i]), float(np.exp(sure[i])),
                             float(np.exp(log_p[i, labels[i]]))) for i in wrong)
    if isinstance(loss, str) and loss not in LOSSES:
        return Evaluation(classes, confusion, None, mistakes, loss)
    loss = of(loss)
    with no_grad():
        return Evaluation(classes, confusion, loss(Tensor(given), labels).item(), mistakes, loss.name)
