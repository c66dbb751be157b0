"""Pipeline transforms that keep sparse labels: drop-ins for Resize, RandomResize and RandomCrop.

All take the arguments of the transform they replace and draw the same random numbers, so on a
mask in which every pixel is labelled they give the same bytes.
"""

from __future__ import annotations

from typing import Any

from mmcv.transforms import RandomResize
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomCrop
from mmseg.datasets.transforms.transforms import Resize
from mmseg.registry import TRANSFORMS

from ...types import UNLABELED
from ..mmseg.label_crop import Box, LabelledCrop
from ..mmseg.sparse_resize import keep_labels


@TRANSFORMS.register_module()
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
        before = {key: results.get(key) for key in results.get("seg_fields", [])}
        super()._resize_seg(results)
        for key, mask in before.items():
            if mask is not None:
                results[key] = keep_labels(mask, results[key], self.ignore_index)


@TRANSFORMS.register_module()
class SparseRandomResize(RandomResize):  # type: ignore[misc]
    """mmcv's RandomResize (same arguments), resizing with `SparseResize` unless told otherwise."""

    def __init__(self, scale: Any, ratio_range: Any = None, **kwargs: Any) -> None:
        # The class, not its name: the name is found in mmseg's scope only.
        super().__init__(scale, ratio_range, **{"resize_type": SparseResize, **kwargs})


@TRANSFORMS.register_module()
class LabelledRandomCrop(LabelledCrop, RandomCrop):  # type: ignore[misc]
    """mmseg's RandomCrop (same arguments) whose crop holds a label when the image holds one: see
    `label_crop.LabelledCrop`."""

    @cache_randomness  # type: ignore[untyped-decorator]
    def crop_bbox(self, results: dict[str, Any]) -> Box:
        """(y1, y2, x1, x2) of the crop."""
        return self.choose(results["img"].shape[:2], results.get("gt_seg_map"))
