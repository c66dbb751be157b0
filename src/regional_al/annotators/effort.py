"""How long a person needs for an answer: looks, keys and vertices, and the seconds of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import EnvironmentProblem
from ..types import I32, I64, U8, Bool, LabelSpace

TOLERANCE = 1.0
"""How far a polygon may be from the outline of what it encloses, in pixels."""
_SMALL = 256


@dataclass(frozen=True)
class Seconds:
    """Seconds of the steps of an answer.

    The defaults are operators of the keystroke-level model (Card, Moran and Newell, "The
    keystroke-level model for user performance time with interactive systems", Communications of
    the ACM 23(7), 1980).

    Args:
        image: Once for each image; there is no published figure.
        look: To recognise an item or a segment and decide; M, to prepare mentally.
        key: To press a key; K of an average non-secretary typist.
        vertex: To set a vertex of a polygon; P, pointing with the mouse (1.1), and pressing its
            button (0.2).

    Example:
        >>> Seconds().of(Work(looks=2, keys=3, vertices=4))
        8.74
    """

    image: float = 0.0
    look: float = 1.35
    key: float = 0.28
    vertex: float = 1.30

    def of(self, work: Work) -> float:
        """Seconds for the work on one image, to the millisecond."""
        steps = self.look * work.looks + self.key * work.keys + self.vertex * work.vertices
        return round(self.image + steps, 3)


class Work(NamedTuple):
    """What a person does to answer.

    Args:
        looks: Items, and segments that are outlined.
        keys: Keys pressed.
        vertices: Of the polygons drawn.
    """

    looks: int
    keys: int
    vertices: int = 0


def work_of(kind: str, asked: I32, truth: U8, clicks: int, label_space: LabelSpace) -> Work:
    """What a person does to give the right answer about one image, on the annotation page.

    A dominant class is one key; to confirm a machine's label is one, too, and to correct it is two:
    no, and the class. The classes of an item are one key each, and one to confirm. A full
    answer is one key where an item has one class (void is one, too); else its most frequent class
    gets the item by a key, and each 4-connected segment of another class is outlined by a polygon
    (holes, too), with a key for the class and one to close it.

    Args:
        kind: 'full', 'dominant', 'multiclass' or 'correction'.
        asked: int32 [H, W], 0 = not asked, i = item i.
        truth: uint8 [H, W], raw ids.
        clicks: Of the oracle's answer.
        label_space: Meaning of the ids.

    Raises:
        EnvironmentProblem: A segment is to be outlined, and scikit-image is missing.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> asked = np.array([[1, 1, 1, 2]], np.int32)
        >>> truth = np.array([[1, 0, 1, 0]], np.uint8)
        >>> work_of("full", asked, truth, 4, space)  # one pixel is outlined
        Work(looks=3, keys=4, vertices=1)
    """
    items = int(np.unique(asked[asked > 0]).size)
    if kind == "dominant":
        return Work(items, items)
    if kind == "correction":
        return Work(items, clicks)
    if kind == "multiclass":
        return Work(items, clicks + items)
    minor = _minor_segments(asked, label_space.raw_to_train[truth].astype(np.int64))
    if not minor.any():
        return Work(items, items)
    vertices = [outline_vertices(mask) for mask in _segments(minor)]
    return Work(items + len(vertices), items + 2 * len(vertices), sum(vertices))


def outline_vertices(mask: Bool) -> int:
    """Vertices of the polygons that outline an area, holes included, at least one each.

    The contours between pixels are simplified by the algorithm of Ramer, Douglas and Peucker with
    `TOLERANCE`.

    Args:
        mask: bool [H, W].

    Raises:
        EnvironmentProblem: scikit-image is missing.

    Example:
        >>> outline_vertices(np.ones((20, 30), bool))
        4
    """
    if mask.size <= _SMALL:  # windows have few shapes, and there are many of them
        return _of_shape(mask.shape, mask.tobytes())
    return _vertices(mask)


@lru_cache(maxsize=65536)
def _of_shape(shape: tuple[int, ...], content: bytes) -> int:
    return _vertices(np.frombuffer(content, np.bool_).reshape(shape))


def _vertices(mask: Bool) -> int:
    measure = skimage_measure()
    contours = measure.find_contours(np.pad(mask.astype(np.float64), 1), 0.5)
    return sum(max(1, len(measure.approximate_polygon(c, TOLERANCE)) - 1) for c in contours)


def skimage_measure() -> Any:
    """scikit-image's `measure`. Raises EnvironmentProblem when it is missing."""
    try:
        import skimage.measure
    except ImportError:
        raise EnvironmentProblem(
            "annotator 'simulated' needs scikit-image: pip install scikit-image"
        ) from None
    return skimage.measure


def _minor_segments(asked: I32, classes: I64) -> I64:
    """int64 [H, W]: a number above 0 for each pair of item and class where the class is not the
    item's most frequent one (of equal ones the first), 0 elsewhere."""
    codes = np.where(asked > 0, asked.astype(np.int64) * 256 + classes, 0)
    pairs, counts = np.unique(codes[asked > 0], return_counts=True)
    order = np.lexsort((-pairs, counts, pairs >> 8))  # the best pair of an item is its last
    items = pairs[order] >> 8
    last = np.append(items[1:] != items[:-1], True) if items.size else np.zeros(0, bool)
    return np.where(np.isin(codes, pairs[order][last]), 0, codes)


def _segments(codes: I64) -> list[Bool]:
    """The 4-connected segments of equal value above 0, each cut to its bounding box."""
    measure = skimage_measure()
    labels = measure.label(codes, background=0, connectivity=1)
    return [region.image for region in measure.regionprops(labels)]
