"""Metrics of a whole data set from one confusion matrix (never means of per-image values)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .errors import DataError
from .types import I64, UNLABELED

F64 = npt.NDArray[np.float64]


def confusion_matrix(pred: Any, truth: Any, num_classes: int, ignore: int = UNLABELED) -> I64:
    """int64 [C, C], rows = truth, columns = prediction; add up over images.

    pred, truth: integer arrays or tensors of one shape (any device; counted where `pred` lies).
    Pixels with truth == ignore are left out, whatever is predicted there. Raises DataError for a
    truth outside 0..C-1, ValueError for such a prediction or for different shapes.
    """
    predicted = torch.as_tensor(pred)
    true = torch.as_tensor(truth).to(predicted.device)
    if predicted.shape != true.shape:
        raise ValueError(f"prediction {tuple(predicted.shape)}, truth {tuple(true.shape)}")
    keep = true != ignore
    predicted, true = predicted[keep].long(), true[keep].long()
    for name, values in (("prediction", predicted), ("truth", true)):
        wrong = values[(values < 0) | (values >= num_classes)]
        if wrong.numel():
            kind = DataError if name == "truth" else ValueError
            raise kind(f"the {name} holds class {int(wrong[0])}, there are 0..{num_classes - 1}")
    counts = torch.bincount(true * num_classes + predicted, minlength=num_classes**2)
    matrix: I64 = counts.reshape(num_classes, num_classes).cpu().numpy()
    return matrix


def iou(confusion: I64) -> F64:
    """float64 [C]: TP / (TP + FP + FN); NaN for a class in neither truth nor prediction."""
    hits = np.diagonal(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diagonal(confusion)
    return _ratio(hits, union.astype(np.float64))


def mean_iou(confusion: I64) -> float:
    """Mean of `iou` over the classes that are not NaN; NaN when all are."""
    return _mean(iou(confusion))


def class_accuracy(confusion: I64) -> F64:
    """float64 [C]: recall TP / (TP + FN); NaN for a class that is not in the truth."""
    hits = np.diagonal(confusion).astype(np.float64)
    return _ratio(hits, confusion.sum(axis=1).astype(np.float64))


def accuracy(confusion: I64) -> float:
    """Share of pixels predicted right, 0..1; NaN for an empty matrix."""
    total = int(confusion.sum())
    return float(np.trace(confusion)) / total if total else float("nan")


def _ratio(part: F64, whole: F64) -> F64:
    ratio: F64 = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: F64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
