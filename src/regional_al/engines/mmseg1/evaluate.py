"""Evaluation of MMSegmentation 1.x (see `engines.mmseg.evaluate`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ...types import I64
from ..mmseg import evaluate
from ..mmseg.predict import Predictor
from ..views import sample_or_reason


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
    """int64 [C, C] over the validation set, rows = target, on every rank."""

    def samples(mine: range) -> Iterator[tuple[int, Any, Any, str]]:
        for index, sample in predictor.load(ValidationImages(dataset, mine)):
            path = dataset.get_data_info(index)["seg_map_path"]
            yield index, sample, sample["data_samples"].gt_sem_seg.data[0], path

    return evaluate.confusion(
        predictor,
        checkpoint,
        len(dataset),
        len(dataset.metainfo["classes"]),
        samples,
        hint=": in val_dataloader's pipeline LoadAnnotations must come after Resize",
    )
