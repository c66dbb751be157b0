"""Pipeline transforms that keep sparse labels: drop-ins for Resize and RandomCrop of mmseg 0.x.

Both take the arguments of the transform they replace and draw the same random numbers, so on a
mask in which every pixel is labelled they give the same bytes.
"""

from __future__ import annotations

from typing import Any

from mmseg.datasets import PIPELINES
from mmseg.datasets.pipelines import RandomCrop, Resize

from ...types import UNLABELED
from ..mmseg.label_crop import LabelledCrop
from ..mmseg.sparse_resize import keep_labels


@PIPELINES.register_module()
class SparseResize(Resize):  # type: ignore[misc]
    """mmseg's Resize (same arguments) in which a labelled pixel wins over unlabeled ones.

    The parent resizes image and label maps; labels that its nearest-neighbour shrinking dropped
    are put back into cells that it left unlabeled (see `sparse_resize.shrink_labels`).

    Args:
        ignore_index: the id of unlabeled pixels after LoadAnnotations. Default: 255.
    """

    def __init__(self, *args: Any, ignore_index: int = UNLABELED, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignore_index = ignore_index

    def _resize_seg(self, results: dict[str, Any]) -> None:
        before = {key: results[key] for key in results.get("seg_fields", [])}
        super()._resize_seg(results)
        for key, mask in before.items():
            results[key] = keep_labels(mask, results[key], self.ignore_index)


@PIPELINES.register_module()
class LabelledRandomCrop(LabelledCrop, RandomCrop):  # type: ignore[misc]
    """mmseg's RandomCrop (same arguments) whose crop holds a label when the image holds one: see
    `label_crop.LabelledCrop`."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop image and label maps of `results`, in place."""
        box = self.choose(results["img"].shape[:2], results.get("gt_semantic_seg"))
        for key in ("img", *results.get("seg_fields", [])):
            results[key] = self.crop(results[key], box)
        results["img_shape"] = results["img"].shape
        return results
