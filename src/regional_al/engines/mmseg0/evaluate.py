"""The validation set's confusion matrix, its images shared by the ranks without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.datasets.pipelines import Compose
from torch.utils.data import Dataset

from ... import metrics
from ...errors import DataError, RegionalALError
from ...runtime import distributed as dist
from ...runtime.progress import progress
from ...types import I64
from ..views import sample_or_reason
from .config import inference_pipeline
from .pool import locate, mask_path, truth
from .predict import Predictor, View, test_sample


class ValidationImages(Dataset[Any]):
    """(index, (sample, train ids)) of some validation images, or a str saying what is wrong."""

    def __init__(self, dataset: Any, indices: range, pipeline: Any) -> None:
        self.dataset, self.indices, self.pipeline = dataset, indices, pipeline

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        index = self.indices[place]
        leaf, inner = locate(self.dataset, index)
        return index, sample_or_reason(
            lambda: (test_sample(leaf, inner, self.pipeline), truth(leaf, inner)),
            f"{leaf.img_infos[inner]['filename']} or its annotation",
        )


def confusion(dataset: Any, predictor: Predictor, checkpoint: Path | None) -> I64:
    """int64 [C, C], rows = truth; the sum over ranks, on every rank. Equal to what mmseg's
    `pre_eval` counts, heads with one channel and a threshold included."""
    total: I64 = np.zeros(0, dtype=np.int64)
    error: RegionalALError | None = None
    try:
        total = own_share(dataset, predictor, checkpoint)
    except RegionalALError as caught:  # raised on every rank together
        error = caught
    dist.raise_together(error)
    return dist.sum_array(total)


def own_share(dataset: Any, predictor: Predictor, checkpoint: Path | None) -> I64:
    """The confusion matrix of this rank's images."""
    classes = len(dataset.CLASSES)
    model = predictor.model(checkpoint)
    total: I64 = np.zeros((classes, classes), dtype=np.int64)
    mine = range(dist.rank(), len(dataset), dist.world_size())
    images = ValidationImages(dataset, mine, Compose(inference_pipeline(predictor.cfg, "val")))
    for index, (sample, ids) in progress(predictor.load(images), "evaluating", len(images)):
        logits, _ = View(predictor, model, sample, index, stochastic=False).logits(0, False)
        path = mask_path(*locate(dataset, index))
        if logits.shape[-2:] != ids.shape:
            raise DataError(f"{path} is {ids.shape}, its image {tuple(logits.shape[-2:])} (HxW)")
        try:
            total += metrics.confusion_matrix(decided(model, logits), ids, classes)
        except DataError as caught:
            raise DataError(f"{path}: {caught}") from None
    return total


def decided(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Class of each pixel: argmax, or for a one-channel head its own threshold on sigmoid."""
    if model.out_channels == 1:
        return (logits[1].sigmoid() > float(model.decode_head.threshold)).long()
    return logits.argmax(dim=0)
