"""Resizing and cropping that keep sparse labels. Pure numpy, no framework.

Plain nearest-neighbour shrinking looks at one source pixel per target cell and drops the others:
at half size three of four isolated labels are gone. Here a labelled pixel wins over unlabeled
neighbours of its own cell; where nearest already finds a label, nothing changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...types import I64, U8, UNLABELED

GIVES_WAY = "gives_way"
"""Key of a sample in a pipeline: the id of its label maps that gives way to any other when they
shrink, in place of a transform's own `ignore_index`."""


def shrink_labels(mask: U8, size: tuple[int, int], ignore: int = UNLABELED) -> U8:
    """Resize a label map so that labelled pixels survive shrinking.

    Args:
        mask: uint8 [H, W] label ids; `ignore` = unlabeled or void.
        size: (h, w) of the result, both >= 1.
        ignore: the id that gives way to any other.

    Returns:
        uint8 [h, w]. Target cell (i, j) covers source rows [iH//h, (i+1)H//h) and columns
        likewise (one pixel when growing). Its value is the one that plain nearest takes
        (row iH//h, column jW//w) if that is labelled; else the labelled pixel of the cell that
        is closest to the cell's centre, ties row-major; else `ignore`. A mask without `ignore`
        therefore equals plain nearest exactly, and so does every mask that only grows.

    Raises:
        ValueError: mask is not uint8 [H, W] or size has an entry below 1.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8 or min(size) < 1 or mask.size == 0:
        raise ValueError(f"needs a uint8 [H, W] mask and a size >= 1, got {mask.shape} -> {size}")
    rows = cell_starts(mask.shape[0], size[0])[:-1]
    cols = cell_starts(mask.shape[1], size[1])[:-1]
    return keep_labels(mask, np.take(mask[rows], cols, axis=1), ignore)


def keep_labels(mask: U8, resized: U8, ignore: int = UNLABELED) -> U8:
    """`resized` (any resize of `mask`) with the labels that it lost put back where it has none.

    Args:
        mask: uint8 [H, W], before. resized: uint8 [h, w], after; it is not changed.
        ignore: the id of unlabeled pixels.

    Returns:
        uint8 [h, w]: `resized` where that is labelled, else as in `shrink_labels`. `resized`
        itself when nothing can be put back.
    """
    (height, width), (rows, cols) = mask.shape, resized.shape
    if rows >= height and cols >= width:
        return resized  # growing loses nothing
    free = resized == ignore
    if not free.any():
        return resized
    small = (min(rows, height), min(cols, width))
    best = _closest_to_centre(mask, _any_over_grown(free, small), ignore)
    if small != (rows, cols):  # one side shrinks, the other grows
        best = np.take(best[cell_starts(small[0], rows)[:-1]], cell_starts(small[1], cols)[:-1], 1)
    return np.where(free, best, resized)


def survive_nearest(mask: U8, size: tuple[int, int], ignore: int = UNLABELED) -> U8:
    """Write labels where nearest-neighbour shrinking looks.

    Args:
        mask: uint8 [H, W] label ids.
        size: (h, w) that it will be shrunk to.
        ignore: the id of unlabeled pixels.

    Returns:
        uint8 [H, W]: a mask that plain nearest shrinks to `shrink_labels(mask, size)`; `mask`
        itself when it does not shrink.
    """
    if size[0] >= mask.shape[0] and size[1] >= mask.shape[1]:
        return mask
    rows, cols = (cell_starts(mask.shape[i], size[i])[:-1] for i in (0, 1))
    kept = mask.copy()
    kept[np.ix_(rows, cols)] = shrink_labels(mask, size, ignore)
    return kept


def cell_starts(source: int, target: int) -> I64:
    """int64 [target + 1]: first source index of each target cell, and `source` at the end."""
    return np.arange(target + 1, dtype=np.int64) * source // target


def _any_over_grown(free: np.ndarray, small: tuple[int, int]) -> np.ndarray:
    """bool `small`: cells of which at least one grown copy is still unlabeled."""
    for axis in (0, 1):
        if free.shape[axis] != small[axis]:
            free = np.logical_or.reduceat(
                free, _first_copies(small[axis], free.shape[axis]), axis=axis
            )
    return free


def _first_copies(source: int, target: int) -> I64:
    """int64 [source]: first target index that shows each source index when growing."""
    return np.searchsorted(cell_starts(source, target)[:-1], np.arange(source)).astype(np.int64)


def _closest_to_centre(mask: U8, wanted: np.ndarray, ignore: int) -> U8:
    """uint8 like `wanted`: per wanted cell its labelled pixel closest to the centre, or ignore."""
    row_starts = cell_starts(mask.shape[0], wanted.shape[0])
    col_starts = cell_starts(mask.shape[1], wanted.shape[1])
    row_cell = np.repeat(np.arange(wanted.shape[0]), np.diff(row_starts))
    col_cell = np.repeat(np.arange(wanted.shape[1]), np.diff(col_starts))
    labelled = np.take(wanted, col_cell, axis=1)[row_cell]
    labelled &= mask != ignore
    flat = np.flatnonzero(labelled)
    ys, xs = np.divmod(flat, mask.shape[1])
    # Twice the distance to the centre, so that it stays an integer.
    up = 2 * np.arange(mask.shape[0]) - (row_starts[:-1] + row_starts[1:] - 1)[row_cell]
    left = 2 * np.arange(mask.shape[1]) - (col_starts[:-1] + col_starts[1:] - 1)[col_cell]
    distance = (up * up)[ys] + (left * left)[xs]
    # 16-bit keys sort by radix; the worst goes first and is overwritten by better ones.
    key = (distance.max(initial=0) - distance)[::-1]
    if key.size and key.max() < 65536:
        key = key.astype(np.uint16)
    order = flat.size - 1 - np.argsort(key, kind="stable")
    best = np.full(wanted.shape, ignore, dtype=np.uint8)
    best[row_cell[ys[order]], col_cell[xs[order]]] = mask.reshape(-1)[flat[order]]
    return best


class SparseMosaic:
    """A mixin for a framework's mosaic in which labels survive the shrinking of its images."""

    img_scale: tuple[int, int]

    def _mosaic_transform_seg(self, results: dict[str, Any]) -> dict[str, Any]:
        for patch in (results, *results["mix_results"]):
            for key in results.get("seg_fields", []):
                height, width = patch[key].shape[:2]
                scale = min(self.img_scale[0] / height, self.img_scale[1] / width)
                size = (int(height * scale), int(width * scale))
                ignore = patch.get(GIVES_WAY, UNLABELED)
                patch[key] = survive_nearest(patch[key], size, ignore)
        return super()._mosaic_transform_seg(results)  # type: ignore[misc,no-any-return]


Box = tuple[int, int, int, int]


DRAWS = 8
"""Windows of which a crop is chosen by how many labels they hold."""


class LabelledCrop:
    """A mixin for a framework's random crop that prefers windows with labels.

    Eight windows are drawn uniformly over the offsets, and one of them is chosen with a probability
    proportional to the labelled pixels that it holds; the first, if all of it is labelled. If none
    holds a label, a labelled pixel is drawn uniformly, then the offsets uniformly among those whose
    crop contains it. `cat_max_ratio` < 1 repeats draws up to ten times, until the crop shows two
    classes or more and none above that share of its labelled pixels. Where every pixel is labelled,
    both the distribution and the random numbers are those of MMSegmentation's own RandomCrop.
    """

    crop_size: tuple[int, int]
    cat_max_ratio: float
    ignore_index: int

    def choose(
        self, shape: tuple[int, int], mask: np.ndarray | None, more: np.ndarray | None = None
    ) -> Box:
        """(y1, y2, x1, x2) of a crop of an image of this shape (H, W) with these labels. more: bool
        [H, W], further pixels that count as labelled."""
        if mask is None:
            return self._uniform(shape)
        labelled: np.ndarray = mask != self.ignore_index
        if more is not None:
            labelled |= more
        box = (0, 0, 0, 0)
        for _ in range(11 if self.cat_max_ratio < 1 else 1):
            box = self._draw(shape, labelled)
            counts = self._class_counts(mask, box)
            if not counts.any() or counts.max() < self.cat_max_ratio * counts.sum():
                break  # no labels to be had; or two classes or more
        return box

    def _draw(self, shape: tuple[int, int], labelled: np.ndarray) -> Box:
        """A window, by the labels that it holds."""
        boxes = [self._uniform(shape)]
        inside = labelled[boxes[0][0] : boxes[0][1], boxes[0][2] : boxes[0][3]]
        held = [int(np.count_nonzero(inside))]
        if held[0] == inside.size:
            return boxes[0]
        for _ in range(DRAWS - 1):
            boxes.append(box := self._uniform(shape))
            held.append(int(np.count_nonzero(labelled[box[0] : box[1], box[2] : box[3]])))
        if not any(held):
            places = np.flatnonzero(labelled)
            return self._around(places, shape) if places.size else boxes[0]
        place = np.random.randint(sum(held))  # noqa: NPY002
        return boxes[int(np.searchsorted(np.cumsum(held), place, side="right"))]

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
