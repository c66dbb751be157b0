"""The oracle: simulated annotation. The only module that reads the ground truth of the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..runtime.progress import progress
from ..store.images import image_size
from ..store.query import Query
from ..types import (
    ANSWERS,
    I32,
    I64,
    U8,
    UNLABELED,
    Bool,
    ClassSets,
    ImageAnswer,
    LabelSpace,
    PoolItem,
)
from .base import ANNOTATORS, read_truth


@ANNOTATORS.register("oracle")
class OracleAnnotator:
    """Answers immediately, from the annotation files of the pool.

    A query for `answer='full'` gives every queried pixel its raw id and costs one click per
    connected class segment in each queried region. A query for `answer='dominant'` gives every
    pixel of a region, void ones too, the region's most frequent class (Cai et al., CVPR 2021) and
    costs one click per region. A query for `answer='multiclass'` gives each region the classes that
    occur in it (void does not count) and costs one click per class; a region of one class has its
    pixels labelled, void ones too. A query for `answer='correction'` is answered like one for
    'dominant'; a region costs one click where a machine's most frequent class there is the right
    one, or there is none, else two: no, and the class.

    Args:
        pool: Images that may be asked about.
        label_space: Meaning of the ids.

    Example:
        >>> from regional_al.types import LabelSpace, PoolItem
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> oracle = OracleAnnotator([PoolItem("a", Path("a.png"), None, (4, 6))], space)
        >>> try:
        ...     oracle.preflight()
        ... except DataError as error:
        ...     print(str(error)[:45])
        a.png: its annotation does not exist: the ora
    """

    takes_time = False
    answer_kinds = ANSWERS

    def __init__(self, pool: Sequence[PoolItem], label_space: LabelSpace) -> None:
        self._items = {item.key: item for item in pool}
        self._label_space = label_space

    def preflight(self) -> None:
        """Raise DataError for the first image of the pool whose annotation is missing, unreadable,
        of another size than the image, or contains an id that the label space does not allow."""
        with ThreadPoolExecutor(4) as threads:
            checks = threads.map(self._check, self._items.values())
            for _ in progress(checks, "Checking annotations", len(self._items)):
                pass

    def request(self, query: Query) -> None:
        """Nothing to publish."""

    def collect(self, query: Query, keys: Sequence[str]) -> Iterator[ImageAnswer]:
        """One complete answer per image, in the order of `keys`."""
        for key in keys:
            asked, truth = self.look(query, key)
            shown, kind = query.machine(key), query.info.answer
            yield true_answer(kind, key, asked, truth, self._label_space, shown)

    def look(self, query: Query, key: str) -> tuple[I32, U8]:
        """What is asked about an image, int32 [H, W], and its ground truth, uint8 [H, W] raw ids.

        Raises:
            DataError: The annotation cannot be read, or has another size than the query.
        """
        asked = query.asked(key)
        truth = self._truth(self._items[key])
        if truth.shape != asked.shape:
            raise DataError(
                f"{query.folder}: {key} was queried at size {asked.shape}, its annotation is"
                f" {truth.shape}: the data set has changed since"
            )
        return asked, truth

    def truth(self, key: str) -> U8:
        """Ground truth of an image, uint8 [H, W] raw ids: to measure labels by, never to select.

        Raises:
            DataError: It is missing or cannot be read.
        """
        return self._truth(self._items[key])

    @property
    def has_truth(self) -> bool:
        """Whether there is an annotation of every image."""
        found = [item.annotation for item in self._items.values()]
        return all(path is not None and path.is_file() for path in found)

    def sources(self) -> dict[str, Path]:
        """Key of an image -> the file that its answers come from."""
        return {k: i.annotation for k, i in self._items.items() if i.annotation is not None}

    def where(self, query: Query) -> str:
        """Where answers are expected, in one line."""
        return "the oracle answers from the annotation files of the pool"

    def _truth(self, item: PoolItem) -> U8:
        return read_truth(_annotation(item), item.shape, self._label_space)

    def _check(self, item: PoolItem) -> None:
        path, size = _annotation(item), image_size(item.image)
        if size != tuple(item.shape):
            raise DataError(
                f"{path} is {item.shape} (height, width), its image {item.image} is {size}"
            )
        self._truth(item)


def true_answer(
    kind: str,
    key: str,
    asked: I32,
    truth: U8,
    label_space: LabelSpace,
    machine: U8 | None = None,
) -> ImageAnswer:
    """The answer that follows from the ground truth of an image.

    Args:
        kind: 'full', 'dominant', 'multiclass' or 'correction'.
        key: Of the image.
        asked: int32 [H, W], 0 = not asked, i = item i.
        truth: uint8 [H, W], raw ids.
        label_space: Their meaning.
        machine: uint8 [H, W], raw ids of the labels that are to be corrected; None: there are none.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> asked = np.array([[1, 1, 1, 0]], np.int32)
        >>> answer = true_answer("dominant", "a", asked, np.array([[1, 0, 1, 1]], np.uint8), space)
        >>> answer.labels.tolist(), answer.clicks
        ([[1, 1, 1, 255]], 1)
    """
    sets = None
    if kind in ("dominant", "correction"):
        labels = dominant_labels(asked, truth, label_space)
        clicks = int(np.unique(asked[asked > 0]).size)
        if kind == "correction" and machine is not None:
            clicks += len(corrected_items(asked, labels, machine, label_space))
    elif kind == "multiclass":
        labels, sets, clicks = class_sets(asked, truth, label_space)
    else:
        labels = np.where(asked > 0, truth, np.uint8(UNLABELED))
        clicks = segment_clicks(asked, truth, label_space)
    return ImageAnswer(key, labels, asked > 0, clicks, sets=sets)


def whole_masks(pool: Sequence[PoolItem], label_space: LabelSpace) -> Callable[[int], U8]:
    """A function from an index into the pool to the raw ids uint8 [H, W] of its annotation, for
    `ActiveLearningDataset(oracle=...)`. It raises DataError as the oracle does."""
    return partial(_whole_mask, pool, label_space)


def _whole_mask(pool: Sequence[PoolItem], label_space: LabelSpace, index: int) -> U8:
    return read_truth(_annotation(pool[index]), pool[index].shape, label_space)


def _annotation(item: PoolItem) -> Path:
    if item.annotation is None or not item.annotation.exists():
        where = f"its annotation {item.annotation}" if item.annotation else "its annotation"
        raise DataError(
            f"{item.image}: {where} does not exist: the oracle needs one for every image of the "
            "pool (without ground truth: annotator='folder')"
        )
    return item.annotation


def dominant_labels(asked: I32, truth: U8, label_space: LabelSpace) -> U8:
    """Give each item the raw id of its most frequent class.

    Void pixels do not vote; an item of void alone becomes 255 (annotated void). Raw ids of one
    class vote together and are represented by their lowest; a tie goes to the lowest raw id.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.
        truth: uint8 [H, W], raw ids.
        label_space: Their meaning.

    Returns:
        uint8 [H, W], 255 where nothing was asked.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> asked = np.array([[1, 1, 1, 2]], np.int32)
        >>> dominant_labels(asked, np.array([[1, 0, 1, 255]], np.uint8), space).tolist()
        [[1, 1, 1, 255]]
    """
    labels = np.full(asked.shape, UNLABELED, dtype=np.uint8)
    items = asked[asked > 0].astype(np.int64)
    if items.size == 0:
        return labels
    votes = _lowest_raw_id(label_space)[truth[asked > 0]]
    valid = votes != UNLABELED
    pairs, counts = np.unique(items[valid] * 256 + votes[valid], return_counts=True)
    # Best pair of an item last (most votes, then lowest id): the last assignment below stays.
    order = np.lexsort((-pairs, counts, pairs >> 8))
    winner = np.full(int(items.max()) + 1, UNLABELED, dtype=np.uint8)
    winner[pairs[order] >> 8] = (pairs[order] & 255).astype(np.uint8)
    labels[asked > 0] = winner[items]
    return labels


def corrected_items(asked: I32, labels: U8, machine: U8, label_space: LabelSpace) -> I64:
    """int64 [n]: items whose label is not the most frequent class that a machine gives them.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.
        labels: uint8 [H, W], raw ids, one in each item.
        machine: uint8 [H, W], raw ids of the machine. Where an item has none, nobody is asked
            whether it is right.
        label_space: Their meaning.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> asked = np.array([[1, 1, 1, 2, 3]], np.int32)
        >>> right, said = [[1, 1, 1, 0, 0]], [[0, 0, 1, 0, 255]]
        >>> corrected_items(asked, np.array(right, np.uint8), np.array(said, np.uint8), space)
        array([1])
    """
    said = dominant_labels(asked, machine, label_space)
    wrong = (asked > 0) & (said != UNLABELED) & (said != labels)
    return np.unique(asked[wrong]).astype(np.int64)


def class_sets(asked: I32, truth: U8, label_space: LabelSpace) -> tuple[U8, ClassSets | None, int]:
    """Give each item the classes that occur in it.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.
        truth: uint8 [H, W], raw ids.
        label_space: Their meaning; of several raw ids of a class the lowest stands for it.

    Returns:
        Labels uint8 [H, W], the class of the items with one class, 255 elsewhere; the items with
        more than one; and clicks, one per class, one for an item of void alone.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> asked = np.array([[1, 1, 2, 2]], np.int32)
        >>> labels, sets, clicks = class_sets(asked, np.array([[0, 1, 1, 255]], np.uint8), space)
        >>> labels.tolist(), sets.regions.tolist(), sets.classes, clicks
        ([[255, 255, 1, 1]], [[1, 1, 0, 0]], ((0, 1),), 3)
    """
    labels = np.full(asked.shape, UNLABELED, dtype=np.uint8)
    regions = np.zeros(asked.shape, np.int32)
    items = asked[asked > 0].astype(np.int64)
    if items.size == 0:
        return labels, None, 0
    raw = _lowest_raw_id(label_space)[truth[asked > 0]]
    pairs = np.unique(items[raw != UNLABELED] * 256 + raw[raw != UNLABELED])
    numbers, first, counts = np.unique(pairs >> 8, return_index=True, return_counts=True)
    single = np.full(int(items.max()) + 1, UNLABELED, dtype=np.uint8)
    single[numbers[counts == 1]] = (pairs[first[counts == 1]] & 255).astype(np.uint8)
    several = np.zeros(single.size, np.int32)
    many = counts > 1
    several[numbers[many]] = np.arange(1, int(many.sum()) + 1)
    labels[asked > 0] = single[items]
    regions[asked > 0] = several[items]
    classes = tuple(
        tuple((pairs[start : start + count] & 255).tolist())
        for start, count in zip(first[many].tolist(), counts[many].tolist(), strict=True)
    )
    void_only = int(np.unique(items).size) - int(numbers.size)
    sets = ClassSets(regions, classes) if classes else None
    return labels, sets, int(pairs.size) + void_only


def segment_clicks(asked: I32, truth: U8, label_space: LabelSpace) -> int:
    """Clicks of a full answer: one per connected class segment in each item.

    Segments are 4-connected: two areas that touch at a corner count as two. Void segments cost
    nothing, but an item of void alone costs one click.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.
        truth: uint8 [H, W], raw ids.
        label_space: Their meaning.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> asked = np.ones((1, 4), np.int32)
        >>> segment_clicks(asked, np.array([[0, 1, 0, 255]], np.uint8), space)
        3
    """
    width = asked.shape[1]
    flat = np.flatnonzero(asked)
    if flat.size == 0:
        return 0
    items = asked.ravel()[flat].astype(np.int64)
    classes = label_space.raw_to_train[truth.ravel()[flat]].astype(np.int64)
    first, edges = _runs(flat, items * 512 + classes, width, asked.size)
    segment_items, segment_classes = items[first], classes[first]
    roots = _roots(first.size, edges) == np.arange(first.size)
    coloured = segment_classes != UNLABELED
    void_only = np.setdiff1d(segment_items, segment_items[coloured])
    return int(np.count_nonzero(roots & coloured)) + int(void_only.size)


def _runs(flat: I64, values: I64, width: int, size: int) -> tuple[I64, I64]:
    """Horizontal runs of equal value among the pixels `flat` (ascending row-major positions).

    Returns the index (into flat) of each run's first pixel, and edges int64 [E, 2] between runs of
    equal value that touch vertically, each pair of runs once per overlap.
    """
    starts = np.ones(flat.size, dtype=np.bool_)
    starts[1:] = (np.diff(flat) != 1) | (np.diff(values) != 0) | (flat[1:] % width == 0)
    run = np.cumsum(starts) - 1
    position = np.full(size + width, -1, dtype=np.int64)
    position[flat] = np.arange(flat.size)
    below = position[flat + width]
    upper = np.flatnonzero(below >= 0)
    lower = below[upper]
    # The overlap of two runs begins where one of them does: one edge per overlap, not per pixel.
    touch = (values[upper] == values[lower]) & (starts[upper] | starts[lower])
    return np.flatnonzero(starts), np.stack([run[upper[touch]], run[lower[touch]]], axis=1)


def _roots(count: int, edges: I64) -> I64:
    """int64 [count]: lowest node of each node's connected component (vectorised union-find)."""
    parent = np.arange(count, dtype=np.int64)
    while edges.size:
        ends = np.sort(parent[edges], axis=1)
        ends = ends[ends[:, 0] != ends[:, 1]]
        np.minimum.at(parent, ends[:, 1], ends[:, 0])
        while not np.array_equal(parent, shorter := parent[parent]):
            parent = shorter
        edges = ends
    return parent


def _lowest_raw_id(label_space: LabelSpace) -> U8:
    """uint8 [256]: the lowest raw id of the same class; 255 for ids that are void."""
    table = np.full(256, UNLABELED, dtype=np.uint8)
    trainable: Bool = label_space.trainable
    for raw in np.flatnonzero(trainable)[::-1]:
        table[label_space.raw_to_train == label_space.raw_to_train[raw]] = raw
    return table
