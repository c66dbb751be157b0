"""Pseudo labels: pixels of a region of which only the classes are known get that of the most
similar prototype (Hwang et al., "Active Learning for Semantic Segmentation with Multi-class Label
Query", NeurIPS 2023, the second stage).

Before a training every rank predicts its share of the images with such regions and writes the
labels of their pixels, see `store.pseudo_labels`. Answers, and what counts as annotated, stay as
they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..config.region_classes import NO_FEATURES, Pseudo
from ..engines.base import Prediction
from ..errors import RegionalALError, UnsupportedError
from ..runtime import distributed as dist
from ..store.prelabels import Prelabels
from ..store.pseudo_labels import PseudoLabels
from ..types import (
    F32,
    F64,
    I32,
    I64,
    JSON,
    U8,
    UNLABELED,
    Bool,
    ClassSets,
    FeatureMap,
    PredictRequest,
)
from . import made_masks
from .made_masks import Making

if TYPE_CHECKING:
    from .loop import ActiveLearningLoop

NEEDS = PredictRequest(features=True)
_DIGITS = 9
"""Of similarities: vectors that are alike are equally similar, however their products round."""


class Look(NamedTuple):
    """What a model says of an image.

    Args:
        log_p: float32 [C, H, W], log probabilities.
        vectors: float32 [N, D], features of length 1 (or 0).
        cells: int64 [H, W], which of them lies under a pixel.
    """

    log_p: F32
    vectors: F32
    cells: I64


class Matches(NamedTuple):
    """Prototypes of one region and what they give its pixels.

    Args:
        classes: int64 [K], ascending.
        prototypes: float64 [K, D], of length 1.
        nearest: int64 [P], the place of the most similar one for each pixel of the region.
        least: float64 [K], the median similarity of the pixels of each; infinity without pixels.
    """

    classes: I64
    prototypes: F64
    nearest: I64
    least: F64


def match(look: Look, pixels: I64, classes: I64) -> Matches:
    """The prototypes of a region and the nearest one of each of its pixels.

    The prototype of a class is the feature of the pixel that is most probably of it (the first of
    several). Where prototypes are equally similar, the more probable class wins, then the first.

    Args:
        look: Of the image.
        pixels: int64 [P], row * W + column, ascending.
        classes: int64 [K], those of the region, ascending, at least one.

    Example:
        >>> p = np.array([[[0.9, 0.6, 0.2]], [[0.1, 0.4, 0.8]]], np.float32)
        >>> look = Look(np.log(p), np.eye(2, dtype=np.float32), np.array([[0, 1, 1]]))
        >>> found = match(look, np.arange(3), np.array([0, 1]))
        >>> found.nearest.tolist(), found.least.tolist()
        ([0, 1, 1], [1.0, 1.0])
    """
    log_p = look.log_p.reshape(len(look.log_p), -1)[classes][:, pixels]
    cells = look.cells.ravel()[pixels]
    prototypes = look.vectors[cells[log_p.argmax(axis=1)]].astype(np.float64)
    similar = similarities(look, pixels, prototypes)
    nearest = most_similar(similar, log_p)
    least = [
        float(np.median(row[nearest == k])) if (nearest == k).any() else np.inf
        for k, row in enumerate(similar)
    ]
    return Matches(classes, prototypes, nearest, np.array(least))


def similarities(look: Look, pixels: I64, prototypes: F64) -> F64:
    """Cosine of each prototype [K, D] and the feature of each pixel, float64 [K, P]."""
    cells, place = np.unique(look.cells.ravel()[pixels], return_inverse=True)
    own = look.vectors[cells].astype(np.float64)
    return np.asarray(np.round(prototypes @ own.T, _DIGITS)[:, place.ravel()])


def most_similar(similar: F64, log_p: F32) -> I64:
    """Place of the highest value of each column of `similar` [K, P]; of several, that of the
    highest `log_p` [K, P], then the first. int64 [P]."""
    tied = similar == similar.max(axis=0)
    return np.asarray(np.where(tied, log_p, -np.inf).argmax(axis=0), np.int64)


def near_border(ids: I32, size: int) -> Bool:
    """Pixels of which the square around them has pixels of another region.

    Args:
        ids: int32 [H, W].
        size: Side of the square, odd; outside the image there are no regions. 0: no pixel.

    Returns:
        bool [H, W].

    Example:
        >>> near_border(np.array([[1, 1, 1, 2]], np.int32), 3).tolist()
        [[False, False, True, True]]
    """
    low, high = ids, ids
    for axis in (0, 1):
        before_low, before_high = low, high
        for step in range(1, min(size // 2, ids.shape[axis] - 1) + 1):
            ahead = [slice(None)] * 2
            behind = [slice(None)] * 2
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            low, high = low.copy(), high.copy()
            for here, there in ((ahead, behind), (behind, ahead)):
                one, other = tuple(here), tuple(there)
                np.minimum(low[one], before_low[other], out=low[one])
                np.maximum(high[one], before_high[other], out=high[one])
    return np.asarray(low != high)


def pseudo_labels(
    look: Look,
    regions: I32,
    members: Bool,
    units: I32 | None,
    answered: Bool,
    trim: int = 0,
) -> U8:
    """Classes of the pixels of an image by the prototypes of its regions.

    Args:
        look: What the model says of it.
        regions: int32 [H, W], 0 = none, r = region r, of which only the classes are known.
        members: bool [R + 1, C], the classes of each region; one without gets nothing.
        units: int32 [H, W], the partition over which labels spread; None: they do not.
        answered: bool [H, W]. Labels spread to 4-connected units without an answered pixel, from
            each prototype to pixels that are more similar to it than the median of its own; of
            several such prototypes the most similar one counts, then the first region.
        trim: See `near_border`; pixels near a border of regions or units get nothing.

    Returns:
        uint8 [H, W], 255 = no label.

    Example:
        >>> p = np.array([[[0.9, 0.6, 0.2]], [[0.1, 0.4, 0.8]]], np.float32)
        >>> look = Look(np.log(p), np.eye(2, dtype=np.float32), np.array([[0, 1, 1]]))
        >>> members = np.array([[False, False], [True, True]])
        >>> ones = np.ones((1, 3), np.int32)
        >>> pseudo_labels(look, ones, members, None, ones > 0).tolist()
        [[0, 1, 1]]
    """
    out = np.full(regions.size, UNLABELED, np.uint8)
    best = np.full(regions.size, -np.inf)
    neighbours = {} if units is None else open_neighbours(regions, units, answered)
    of_unit = {} if units is None else grouped(units)
    log_p = look.log_p.reshape(len(look.log_p), -1)
    for number, pixels in grouped(regions).items():
        classes = np.flatnonzero(members[number])
        if number == 0 or not len(classes):
            continue
        found = match(look, pixels, classes)
        out[pixels] = classes[found.nearest]
        for unit in neighbours.get(number, ()):
            there = of_unit[unit]
            similar = similarities(look, there, found.prototypes)
            similar[similar <= found.least[:, None]] = -np.inf
            nearest = most_similar(similar, log_p[classes][:, there])
            highest = similar.max(axis=0)
            better = highest > best[there]
            best[there[better]] = highest[better]
            out[there[better]] = classes[nearest[better]]
    ids = regions if units is None else np.where(regions > 0, regions, -1 - units)
    out[near_border(ids.astype(np.int32), trim).ravel()] = UNLABELED
    return out.reshape(regions.shape)


def grouped(ids: I32) -> dict[int, I64]:
    """Id -> its pixels, row * W + column, ascending."""
    order = np.argsort(ids, axis=None, kind="stable")
    numbers, starts = np.unique(ids.ravel()[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def open_neighbours(regions: I32, units: I32, answered: Bool) -> dict[int, list[int]]:
    """Region above 0 -> units without an answered pixel that are 4-connected to it, ascending."""
    open_ = np.bincount(units[answered], minlength=int(units.max()) + 1) == 0
    pairs: set[tuple[int, int]] = set()
    for a, b in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        for here, there in ((a, b), (b, a)):
            use = (regions[here] > 0) & open_[units[there]]
            both = np.stack([regions[here][use], units[there][use]], axis=1)
            pairs.update(map(tuple, np.unique(both, axis=0).tolist()))
    found: dict[int, list[int]] = {}
    for region, unit in sorted(pairs):
        found.setdefault(region, []).append(unit)
    return found


def look_of(seen: Prediction, temperature: float) -> Look:
    """What a prediction with features says of its image. Raises UnsupportedError without them."""
    if seen.features is None:
        raise UnsupportedError(NO_FEATURES)
    height, width = seen.logits.shape[-2:]
    given = FeatureMap.of(seen.features, (height, width))
    flat = given.values.float().flatten(1).T
    vectors = torch.nn.functional.normalize(flat, dim=1).cpu().numpy()
    log_p = (seen.logits.float() / temperature).log_softmax(0).cpu().numpy()
    return Look(log_p, vectors, given.cells.cpu().numpy())


def check(loop: ActiveLearningLoop) -> None:
    """Raise UnsupportedError, on all ranks, where pseudo labels are wanted and the model gives no
    features: it predicts one image."""
    if loop.config.pseudo is None or not loop.engine.pool:
        return
    error: RegionalALError | None = None
    try:
        if next(loop.engine.predict(None, [0], NEEDS)).features is None:
            error = UnsupportedError(NO_FEATURES)
    except RegionalALError as caught:
        error = caught
    dist.raise_together(error)


def prepare(loop: ActiveLearningLoop) -> PseudoLabels | None:
    """Make the pseudo labels of the current round, every rank its share; those that are there are
    kept.

    Returns:
        The labels; None: there are none, since the config does not say so or there is no model yet.

    Raises:
        DataError: A label file is damaged, or the engine predicts at another size.
        UnsupportedError: The model gives no features.
    """
    settings, previous = loop.config.pseudo, loop.records.checkpoint(loop.round - 1)
    if settings is None or previous is None:
        return None
    pseudo, model = PseudoLabels(loop.work_dir.pseudo(loop.round)), made_masks.model_of(previous)
    made_masks.prepare(loop, previous, lambda: _plan(loop, pseudo, settings, model))
    return pseudo


def counted(loop: ActiveLearningLoop) -> JSON:
    """Rank 0: `pseudo_pixels`, how many pixels have a pseudo label in this round; empty without."""
    if loop.config.pseudo is None:
        return {}
    pseudo = PseudoLabels(loop.work_dir.pseudo(loop.round))
    return {"pseudo_pixels": pseudo.pixels(item.key for item in loop.engine.pool)}


def _plan(loop: ActiveLearningLoop, pseudo: PseudoLabels, settings: Pseudo, model: str) -> Making:
    """How the labels of the current round are made."""
    pool, space, regions = loop.engine.pool, loop.engine.label_space, loop.config.region_classes
    assert regions is not None
    classes = np.where(space.trainable, space.raw_to_train, UNLABELED).astype(np.int64)
    raw_ids = np.full(256, UNLABELED, np.uint8)  # class -> its first raw id
    for class_ in range(space.num_classes):
        raw_ids[class_] = np.append(np.flatnonzero(classes == class_), UNLABELED)[0]
    prelabels, partition = Prelabels(loop.work_dir.prelabels), loop.acquirer.target.partition
    there = set(loop.store.class_set_keys())

    def origin(index: int) -> str | None:
        found, sets = made_masks.answers(loop, index), loop.store.class_sets(pool[index].key)
        if found is None or sets is None:
            return None
        behind: list[U8 | I32] = [*found, sets.regions]
        return made_masks.made_from(behind, sets.classes, model, settings, regions.temperature)

    def make(seen: Prediction, origin: str) -> None:
        item = pool[seen.index]
        answers, sets = made_masks.answers(loop, seen.index), loop.store.class_sets(item.key)
        assert answers is not None
        assert sets is not None
        answered, machine = answers[1] > 0, prelabels.read(item.key)
        classes_only = np.where(answered & (answers[0] == UNLABELED), sets.regions, 0)
        found = pseudo_labels(
            look_of(seen, regions.temperature),
            classes_only.astype(np.int32),
            members_of(sets, classes, space.num_classes),
            partition.ids(item) if settings.spread and partition is not None else None,
            answered,
            settings.trim,
        )
        labels = raw_ids[found]
        if machine is not None:  # where nobody has answered, it stays
            labels[~answered & (machine != UNLABELED)] = UNLABELED
        pseudo.write(item.key, labels, origin)

    images = [index for index, item in enumerate(pool) if item.key in there]
    folder = loop.work_dir.pseudo
    return Making("Pseudo labels", folder, pseudo, NEEDS, images, origin, make)


def members_of(sets: ClassSets, classes: I64, num_classes: int) -> Bool:
    """The classes of each region.

    Args:
        sets: Of an image, in raw ids.
        classes: int64 [256], raw id -> class, 255 where it has none.
        num_classes: C.

    Returns:
        bool [R + 1, C]; row 0 is empty.

    Example:
        >>> sets = ClassSets(np.array([[1]], np.int32), ((2, 7),))
        >>> members_of(sets, np.where(np.arange(256) == 7, 1, 255), 2).tolist()
        [[False, False], [False, True]]
    """
    found = np.zeros((len(sets.classes) + 1, num_classes), np.bool_)
    for number, raw in enumerate(sets.classes, 1):
        named = classes[list(raw)]
        found[number, named[(named >= 0) & (named < num_classes)]] = True
    return found
