"""Crops that hold a label when the image holds one. Pure numpy, no framework."""

from __future__ import annotations

import numpy as np

Box = tuple[int, int, int, int]


class LabelledCrop:
    """A mixin for a framework's random crop.

    A draw is uniform over the offsets; one that shows no labelled pixel is replaced: a labelled
    pixel is drawn uniformly, then the offsets uniformly among those whose crop contains it.
    `cat_max_ratio` < 1 repeats draws up to ten times, until the crop shows two classes or more and
    none above that share of its labelled pixels. Where every crop holds a label, both the
    distribution and the random numbers are those of MMSegmentation's own RandomCrop.
    """

    crop_size: tuple[int, int]
    cat_max_ratio: float
    ignore_index: int

    def choose(self, shape: tuple[int, int], mask: np.ndarray | None) -> Box:
        """(y1, y2, x1, x2) of a crop of an image of this shape (H, W) with these labels."""
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
        counts = np.bincount(mask[box[0] : box[1], box[2] : box[3]].ravel(), minlength=256)
        if 0 <= self.ignore_index < counts.size:
            counts[self.ignore_index] = 0
        return counts

    def _uniform(self, shape: tuple[int, int]) -> Box:
        # np.random, because that is what the frameworks seed for each of their data workers.
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
