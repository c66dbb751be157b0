"""The confusion matrix of the validation set, its images shared by the ranks without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ... import metrics
from ...errors import DataError, RegionalALError
from ...runtime import distributed as dist
from ...runtime.progress import progress
from ...types import I64
from .predict import Predictor, View, decided

Samples = Callable[[range], Iterable[tuple[int, Any, Any, str]]]
"""Indices of a rank -> (index, sample, target int [H, W], annotation file) of each image."""


def confusion(
    predictor: Predictor,
    checkpoint: Path | None,
    num_images: int,
    num_classes: int,
    samples: Samples,
    hint: str = "",
) -> I64:
    """Equal to what mmseg's own metric counts, one-channel heads and thresholds included.

    Args:
        predictor: Predicts the samples.
        checkpoint: Of the model; None: the config's own start.
        num_images: Size of the validation set.
        num_classes: C.
        samples: Reads a rank's share.
        hint: How to fix a prediction of another size than its annotation.

    Returns:
        int64 [C, C], rows = target; the sum over ranks, on every rank.

    Raises:
        DataError: A file is missing, of another size, or holds unknown ids; on every rank.
    """
    total: I64 = np.zeros((num_classes, num_classes), dtype=np.int64)
    error: RegionalALError | None = None
    try:
        model = predictor.model(checkpoint)
        mine = range(dist.rank(), num_images, dist.world_size())
        for index, sample, target, path in progress(samples(mine), "evaluating", len(mine)):
            logits, _ = View(predictor, model, sample, index, stochastic=False).logits(0, False)
            if logits.shape[-2:] != target.shape:
                raise DataError(
                    f"{path} is {tuple(target.shape)}, its prediction {tuple(logits.shape[-2:])} "
                    f"(HxW){hint}"
                )
            try:
                total += metrics.confusion_matrix(decided(model, logits), target, num_classes)
            except DataError as caught:
                raise DataError(f"{path}: {caught}") from None
    except RegionalALError as caught:  # raised on every rank together
        error = caught
    dist.raise_together(error)
    return dist.sum_array(total)
