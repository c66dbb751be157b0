"""One image of a query, item by item: what is asked, what stands, and what the model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..store.images import read_ids
from ..types import I32, I64, U8
from .replay import OPEN, SEVERAL, ItemPixels, Standing, item_pixels


@dataclass(frozen=True)
class AskedImage:
    """What a query asks in one image. Items are in reading order.

    Args:
        key: Of the image.
        asked: int32 [H, W], 0 = not asked, i = item i.
        predicted: uint8 [H, W], class indices; None: there is no model yet.
        items: int64 [n], numbers of the items.
        boxes: int64 [n, 4], top, left, bottom, right; the last two exclusive.
        centres: int64 [n, 2], a pixel of each item, near its middle.
        pixels: int64 [n].
        guesses: int64 [n], the most frequent predicted class of each item, -1 without a prediction.
    """

    key: str
    asked: I32
    predicted: U8 | None
    items: I64
    boxes: I64
    centres: I64
    pixels: I64
    guesses: I64

    def rows(self, items: Sequence[int]) -> I64:
        """Positions of some items; those that are not asked are left out."""
        return np.flatnonzero(np.isin(self.items, np.asarray(items, np.int64)))


def read_prediction(path: Path, shape: tuple[int, int], classes: int) -> U8 | None:
    """A predicted map, uint8 [H, W]; None: there is none of this size and with these classes."""
    if not path.is_file():
        return None
    predicted = read_ids(path)
    return predicted if predicted.shape == shape and predicted.max(initial=0) < classes else None


def asked_image(
    key: str, asked: I32, predicted: U8 | None, found: ItemPixels | None = None
) -> AskedImage:
    """Measure the items of an image.

    Args:
        key: Of the image.
        asked: int32 [H, W], 0 = not asked.
        predicted: uint8 [H, W], class indices; or None.
        found: The pixels of its items, if they are known already.

    Example:
        >>> asked = np.array([[0, 2, 2], [1, 0, 0]], np.int32)
        >>> image = asked_image("a", asked, np.array([[0, 3, 3], [1, 0, 0]], np.uint8))
        >>> image.items.tolist(), image.boxes.tolist(), image.guesses.tolist()
        ([2, 1], [[0, 1, 1, 3], [1, 0, 2, 1]], [3, 1])
    """
    items, starts, places = item_pixels(asked) if found is None else found
    n = items.size
    counts = np.diff(np.append(starts, places.size))
    boxes = np.zeros((n, 4), np.int64)
    centres = np.zeros((n, 2), np.int64)
    if n:
        rows, cols = np.divmod(places.astype(np.int32), np.int32(asked.shape[1]))
        for axis, values in enumerate((rows, cols)):
            boxes[:, axis] = np.minimum.reduceat(values, starts)
            boxes[:, axis + 2] = np.maximum.reduceat(values, starts) + 1
        middle = (boxes[:, :2] + boxes[:, 2:] - 1) / 2
        away = (rows - np.repeat(middle[:, 0], counts)) ** 2
        away += (cols - np.repeat(middle[:, 1], counts)) ** 2
        nearest = np.flatnonzero(away == np.repeat(np.minimum.reduceat(away, starts), counts))
        first = nearest[np.searchsorted(nearest, starts)]
        centres = np.stack([rows[first], cols[first]], axis=1).astype(np.int64)
    guesses = np.full(n, -1, np.int64)
    if predicted is not None and n:
        index = np.repeat(np.arange(n), counts)
        votes = np.bincount(index * 256 + predicted.ravel()[places], minlength=n * 256)
        guesses = votes.reshape(n, 256).argmax(1)
    order = reading_order(boxes, asked.shape)
    return AskedImage(
        key,
        asked,
        predicted,
        items[order],
        boxes[order],
        centres[order],
        counts[order],
        guesses[order],
    )


def reading_order(boxes: I64, shape: Sequence[int]) -> I64:
    """int64 [n]: boxes in lines of a tenth of the image's height, each from left to right.

    Example:
        >>> boxes = np.array([[0, 9, 1, 10], [1, 0, 2, 1], [90, 0, 91, 1]])
        >>> reading_order(boxes, (100, 10)).tolist()
        [1, 0, 2]
    """
    line = (boxes[:, 0] + boxes[:, 2]) // 2 // max(1, shape[0] // 10)
    return np.lexsort((boxes[:, 1] + boxes[:, 3], line))


def classes_of(image: AskedImage, standing: Standing, row: int) -> list[int]:
    """Class indices that stand in an item, the most frequent first; `VOID` among them, without
    what is open."""
    item = int(image.items[row])
    if item in standing.sets:
        return list(standing.sets[item])
    top, left, bottom, right = image.boxes[row]
    here = image.asked[top:bottom, left:right] == item
    votes = np.bincount(standing.answer[top:bottom, left:right][here], minlength=256)
    votes[[OPEN, SEVERAL]] = 0
    return [int(c) for c in np.argsort(-votes, kind="stable") if votes[c]]
