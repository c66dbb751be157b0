"""Pipeline transforms that keep sparse labels: drop-ins for Resize, RandomResize and RandomCrop.

All take the arguments of the transform they replace and draw the same random numbers, so on a
mask in which every pixel is labelled they give the same bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import RandomResize
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomCrop
from mmseg.datasets.transforms.transforms import Resize
from mmseg.registry import TRANSFORMS

from ...types import UNLABELED
from ..sparse_resize import keep_labels

Box = tuple[int, int, int, int]


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
class LabelledRandomCrop(RandomCrop):  # type: ignore[misc]
    """mmseg's RandomCrop (same arguments) whose crop holds a label when the image holds one.

    A draw is uniform over the offsets, as in the parent; one that shows no labelled pixel is
    replaced: a labelled pixel is drawn uniformly, then the offsets uniformly among those whose
    crop contains it. `cat_max_ratio` < 1 repeats draws up to ten times, as in the parent, until
    the crop shows two classes or more and none above that share of its labelled pixels. Where
    every crop holds a label, both the distribution and the random numbers are the parent's.
    """

    @cache_randomness  # type: ignore[untyped-decorator]
    def crop_bbox(self, results: dict[str, Any]) -> Box:
        """(y1, y2, x1, x2) of the crop."""
        shape = results["img"].shape[:2]
        mask = results.get("gt_seg_map")
        if mask is None:
            return self._uniform(shape)
        labelled: np.ndarray | None = None  # flat indices, found when first needed
        box = self._uniform(shape)
        for attempt in range(11 if self.cat_max_ratio < 1 else 1):
            if attempt:
                box = self._uniform(shape)
            counts = self._class_counts(mask, box)
            if not counts.any():
                if labelled is None:
                    labelled = np.flatnonzero(mask != self.ignore_index)
                if not labelled.size:
                    return box
                box = self._around(labelled, shape)
                counts = self._class_counts(mask, box)
            if counts.max() < self.cat_max_ratio * counts.sum():  # so two classes or more
                break
        return box

    def _class_counts(self, mask: np.ndarray, box: Box) -> np.ndarray:
        """int64 [256]: labelled pixels of each id inside the box."""
        counts = np.bincount(self.crop(mask, box).ravel(), minlength=256)
        if 0 <= self.ignore_index < counts.size:
            counts[self.ignore_index] = 0
        return counts

    def _uniform(self, shape: tuple[int, int]) -> Box:
        # np.random, because mmengine seeds that one for each dataloader worker.
        top = np.random.randint(0, max(shape[0] - self.crop_size[0], 0) + 1)  # noqa: NPY002
        left = np.random.randint(0, max(shape[1] - self.crop_size[1], 0) + 1)  # noqa: NPY002
        return self._box(top, left)

    def _around(self, labelled: np.ndarray, shape: tuple[int, int]) -> Box:
        """A crop inside the image that contains a random one of the flat indices `labelled`."""
        pixel = int(labelled[np.random.randint(labelled.size)])  # noqa: NPY002
        offsets = []
        for place, extent, size in zip(divmod(pixel, shape[1]), shape, self.crop_size, strict=True):
            first = max(place - size + 1, 0)
            last = min(place, max(extent - size, 0))
            offsets.append(np.random.randint(first, last + 1))  # noqa: NPY002
        return self._box(*offsets)

    def _box(self, top: int, left: int) -> Box:
        return top, top + self.crop_size[0], left, left + self.crop_size[1]
