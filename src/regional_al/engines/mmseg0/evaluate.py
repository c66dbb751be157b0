"""Evaluation of MMSegmentation 0.x (see `engines.mmseg.evaluate`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmseg.datasets.pipelines import Compose
from torch.utils.data import Dataset

from ...types import I64
from ..mmseg import evaluate
from ..mmseg.predict import Predictor
from ..views import sample_or_reason
from .config import inference_pipeline
from .pool import locate, mask_path, truth
from .predict import test_sample


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
    """int64 [C, C] over the validation set, rows = target, on every rank."""
    pipeline = Compose(inference_pipeline(predictor.cfg, "val"))

    def samples(mine: range) -> Iterator[tuple[int, Any, Any, str]]:
        images = ValidationImages(dataset, mine, pipeline)
        for index, (sample, target) in predictor.load(images):
            yield index, sample, target, str(mask_path(*locate(dataset, index)))

    return evaluate.confusion(predictor, checkpoint, len(dataset), len(dataset.CLASSES), samples)
