"""The validation set's confusion matrix, its images shared by the ranks without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ... import metrics
from ...errors import DataError, RegionalALError
from ...runtime import distributed as dist
from ...runtime.progress import progress
from ...types import I64
from ..views import sample_or_reason
from .predict import Predictor, View


class ValidationImages(Dataset[Any]):
    """(index, sample with ground truth) of some validation images, by their own pipeline."""

    def __init__(self, dataset: Any, indices: range) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        index = self.indices[place]
        path = self.dataset.get_data_info(index).get("img_path", f"validation image {index}")
        return index, sample_or_reason(lambda: self.dataset[index], path)


def confusion(dataset: Any, predictor: Predictor, checkpoint: Path | None) -> I64:
    """int64 [C, C], rows = truth; the sum over ranks, on every rank. Equal to what mmseg's
    IoUMetric counts, heads with one channel and a threshold included."""
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
    classes = len(dataset.metainfo["classes"])
    model = predictor.model(checkpoint)
    total: I64 = np.zeros((classes, classes), dtype=np.int64)
    images = ValidationImages(dataset, range(dist.rank(), len(dataset), dist.world_size()))
    for index, sample in progress(predictor.load(images), "evaluating", len(images)):
        path = dataset.get_data_info(index)["seg_map_path"]
        truth = sample["data_samples"].gt_sem_seg.data[0]
        logits, _ = View(predictor, model, sample, index, stochastic=False).logits(0, False)
        if logits.shape[-2:] != truth.shape:
            raise DataError(
                f"{path} is {tuple(truth.shape)}, the prediction {tuple(logits.shape[-2:])}: in "
                "val_dataloader's pipeline LoadAnnotations must come after Resize"
            )
        try:
            total += metrics.confusion_matrix(decided(model, logits), truth, classes)
        except DataError as caught:
            raise DataError(f"{path}: {caught}") from None
    return total


def decided(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Class of each pixel: argmax, or for a one-channel head its own threshold on sigmoid."""
    if model.out_channels == 1:
        threshold = float(model.decode_head.threshold)
        return (logits[1].sigmoid() > threshold).long()
    return logits.argmax(dim=0)
