"""Metrics of a whole data set from one confusion matrix, never as means of per-image values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .errors import DataError
from .types import F64, I64, UNLABELED

__all__ = ["accuracy", "class_accuracy", "confusion_matrix", "iou", "mean_iou"]


def confusion_matrix(
    preds: Any, target: Any, num_classes: int, ignore_index: int = UNLABELED
) -> I64:
    """Confusion matrix of predicted and true classes; add up over images.

    Args:
        preds: integer array or tensor of any shape, classes 0..num_classes-1. The counting takes
            place on its device.
        target: integer array or tensor of the same shape, classes 0..num_classes-1 or
            `ignore_index`.
        num_classes: number of classes C.
        ignore_index: pixels with this target are left out, whatever the prediction.

    Returns:
        int64 [C, C], pixels; rows are targets, columns are predictions.

    Raises:
        DataError: if `target` contains another class.
        ValueError: if `preds` contains another class, or if the shapes differ.

    Example:
        >>> import torch
        >>> from regional_al.metrics import confusion_matrix
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 255]), num_classes=2)
        array([[1, 1],
               [0, 0]])
    """
    predicted = torch.as_tensor(preds)
    true = torch.as_tensor(target).to(predicted.device)
    if predicted.shape != true.shape:
        raise ValueError(
            f"preds has shape {tuple(predicted.shape)}, target has shape {tuple(true.shape)}"
        )
    keep = true != ignore_index
    predicted, true = predicted[keep].long(), true[keep].long()
    for name, values in (("preds", predicted), ("target", true)):
        wrong = values[(values < 0) | (values >= num_classes)]
        if wrong.numel():
            kind = DataError if name == "target" else ValueError
            raise kind(f"{name} contains class {int(wrong[0])}, expected 0..{num_classes - 1}")
    counts = torch.bincount(true * num_classes + predicted, minlength=num_classes**2)
    matrix: I64 = counts.reshape(num_classes, num_classes).cpu().numpy()
    return matrix


def iou(confusion: I64) -> F64:
    """Intersection over union of each class, TP / (TP + FP + FN).

    Args:
        confusion: int64 [C, C] of `confusion_matrix`.

    Returns:
        float64 [C], in [0, 1]; NaN for a class in neither targets nor predictions.

    Example:
        >>> import numpy as np
        >>> from regional_al.metrics import iou
        >>> iou(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).round(3)
        array([0.5  , 0.667,   nan])
    """
    hits = np.diagonal(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diagonal(confusion)
    return _ratio(hits, union.astype(np.float64))


def mean_iou(confusion: I64) -> float:
    """Mean intersection over union (mIoU) of the classes that occur.

    Args:
        confusion: int64 [C, C] of `confusion_matrix`.

    Returns:
        Mean of `iou` without NaN, in [0, 1]; NaN if no class occurs.

    Example:
        >>> import numpy as np
        >>> from regional_al.metrics import mean_iou
        >>> mean_iou(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]]))
        0.5
    """
    values = iou(confusion)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def class_accuracy(confusion: I64) -> F64:
    """Accuracy (recall) of each class, TP / (TP + FN).

    Args:
        confusion: int64 [C, C] of `confusion_matrix`.

    Returns:
        float64 [C], in [0, 1]; NaN for a class that is not in the targets.

    Example:
        >>> import numpy as np
        >>> from regional_al.metrics import class_accuracy
        >>> class_accuracy(np.array([[1, 1], [0, 0]]))
        array([0.5, nan])
    """
    hits = np.diagonal(confusion).astype(np.float64)
    return _ratio(hits, confusion.sum(axis=1).astype(np.float64))


def accuracy(confusion: I64) -> float:
    """Share of pixels that are predicted correctly.

    Args:
        confusion: int64 [C, C] of `confusion_matrix`.

    Returns:
        Value in [0, 1]; NaN for an empty matrix.

    Example:
        >>> import numpy as np
        >>> from regional_al.metrics import accuracy
        >>> accuracy(np.array([[1, 1], [0, 2]]))
        0.75
    """
    total = int(confusion.sum())
    return float(np.trace(confusion)) / total if total else float("nan")


def _ratio(part: F64, whole: F64) -> F64:
    ratio: F64 = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
