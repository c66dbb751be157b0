"""Errors of a person: slips at the boundaries of classes, wrong classes, "I do not know"."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..types import F64, I32, I64, U8, UNLABELED, Bool, ClassSets, ImageAnswer, LabelSpace
from .logged import raw_ids

Draw = Callable[[str, tuple[int, ...]], F64]
"""(what for, shape) -> uniform numbers in [0, 1)."""
_PURPOSES = ("void", "wrong", "which", "slip")


@dataclass(frozen=True)
class Errors:
    """How often a person errs.

    Args:
        boundary: Probability that a pixel of a full answer within `radius` of another class gets
            the class that is nearest, each pixel for itself.
        radius: In pixels.
        wrong_class: Probability that a class of an item is taken for another one; all its pixels
            in the item are, then.
        void: Probability that an item is answered without a class.
        confusion: [C][C], how often class c (row) is taken for each of the others, relative to each
            other; the diagonal does not count, and a class whose row has nothing else is always
            recognised. None: each of the others alike.

    Example:
        >>> Errors(wrong_class=0.1).any, Errors().any
        (True, False)
    """

    boundary: float = 0.0
    radius: int = 2
    wrong_class: float = 0.0
    void: float = 0.0
    confusion: tuple[tuple[float, ...], ...] | None = None

    @property
    def any(self) -> bool:
        """Whether there are errors at all."""
        return max(self.boundary, self.wrong_class, self.void) > 0


def draws(seed: int, round: int, key: str) -> Draw:
    """Random numbers of one image in one round. Those for an item (row i) or a pixel are the same
    whatever else is asked, in which order, and how often.

    Example:
        >>> draw = draws(0, 1, "a")
        >>> bool((draw("wrong", (5, 2))[:3] == draw("wrong", (3, 2))).all())
        True
    """
    start = [seed, round, zlib.crc32(key.encode())]

    def draw(purpose: str, shape: tuple[int, ...]) -> F64:
        return np.random.default_rng([*start, _PURPOSES.index(purpose)]).random(shape)

    return draw


def with_errors(
    answer: ImageAnswer,
    kind: str,
    asked: I32,
    truth: U8,
    space: LabelSpace,
    errors: Errors,
    draw: Draw,
) -> ImageAnswer:
    """The answer as a person gives it who errs; clicks and seconds stay what they are.

    Void stays void, and raw ids stay where the class does.

    Args:
        answer: The right one.
        kind: 'full', 'dominant', 'multiclass' or 'correction'.
        asked: int32 [H, W], 0 = not asked, i = item i.
        truth: uint8 [H, W], raw ids.
        space: Their meaning.
        errors: How often.
        draw: Where random numbers come from.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> asked, truth = np.ones((1, 3), np.int32), np.array([[0, 0, 1]], np.uint8)
        >>> right = ImageAnswer("a", truth, asked > 0, 2)
        >>> always = Errors(wrong_class=1.0)
        >>> with_errors(right, "full", asked, truth, space, always, draws(0, 1, "a")).labels
        array([[1, 1, 0]], dtype=uint8)
    """
    if not errors.any or not answer.answered.any():
        return answer
    count = int(asked.max()) + 1
    classes = space.raw_to_train[answer.labels].astype(np.int64)
    meant = classes.copy()
    if kind == "full" and errors.boundary:
        hit = answer.answered & (classes != UNLABELED)
        hit[hit] = draw("slip", asked.shape)[hit] < errors.boundary
        meant = slipped(space.raw_to_train[truth].astype(np.int64), meant, hit, errors.radius)
    taken = taken_for(count, space.num_classes, errors, draw, space.offered)
    coloured = answer.answered & (meant != UNLABELED)
    meant[coloured] = taken[asked[coloured], meant[coloured]]
    table = raw_ids(space)
    labels = np.where(answer.answered & (meant != classes), table[meant], answer.labels)
    sets = answer.sets
    gone = np.zeros(count, bool)
    if errors.void:
        gone = draw("void", (count,)) < errors.void
        labels[answer.answered & gone[asked]] = UNLABELED
    if sets is not None:
        labels, sets = _taken_sets(labels, sets, asked, space, taken, gone)
    return replace(answer, labels=labels, sets=sets)


def slipped(classes: I64, meant: I64, hit: Bool, radius: int) -> I64:
    """`meant` with the class of the nearest pixel of another class at the pixels `hit`.

    Void does not count as a class. Of several at the same distance the first in row-major order is
    taken; where there is none within `radius` nothing changes.

    Args:
        classes: int64 [H, W], classes of the image, 255 = void.
        meant: int64 [H, W], classes before.
        hit: bool [H, W].
        radius: Euclidean distance in pixels.

    Example:
        >>> classes = np.array([[0, 0, 0, 1]])
        >>> slipped(classes, classes, np.array([[True, True, True, False]]), 2).tolist()
        [[0, 1, 1, 1]]
    """
    meant = meant.copy()
    rows, cols = np.nonzero(hit)
    span = range(-radius, radius + 1)
    near = [(dr * dr + dc * dc, dr, dc) for dr in span for dc in span]
    padded = np.pad(classes, radius, constant_values=UNLABELED)
    for square, dr, dc in sorted(near):
        if not 0 < square <= radius * radius:
            continue
        other = padded[rows + dr + radius, cols + dc + radius]
        found = (other != UNLABELED) & (other != classes[rows, cols])
        meant[rows[found], cols[found]] = other[found]
        rows, cols = rows[~found], cols[~found]
    return meant


def taken_for(
    count: int, num_classes: int, errors: Errors, draw: Draw, offered: Bool | None = None
) -> I64:
    """int64 [count, C]: what each class of each item is taken for.

    Args:
        count: Of the items.
        num_classes: C.
        errors: How often.
        draw: Where random numbers come from.
        offered: bool [C], the classes that people can name; None: all.

    Example:
        >>> taken_for(1, 3, Errors(), draws(0, 1, "a")).tolist()
        [[0, 1, 2]]
    """
    taken = np.tile(np.arange(num_classes, dtype=np.int64), (count, 1))
    if not errors.wrong_class:
        return taken
    wrong = draw("wrong", taken.shape) < errors.wrong_class
    which = draw("which", taken.shape)
    weights = np.ones((num_classes, num_classes))
    if errors.confusion is not None:
        weights = np.array(errors.confusion, dtype=np.float64)
    np.fill_diagonal(weights, 0.0)
    if offered is not None:
        weights[:, ~offered] = 0.0
    for c in np.flatnonzero(weights.any(axis=1) & wrong.any(axis=0)).tolist():
        shares = np.cumsum(weights[c])
        at = which[wrong[:, c], c]
        taken[wrong[:, c], c] = np.searchsorted(shares / shares[-1], at, side="right")
    return taken


def _taken_sets(
    labels: U8, sets: ClassSets, asked: I32, space: LabelSpace, taken: I64, gone: Bool
) -> tuple[U8, ClassSets | None]:
    """Labels and sets of classes after errors: a set of which one class is left is a label."""
    table = raw_ids(space)
    numbers, first = np.unique(sets.regions, return_index=True)
    renumbered = np.zeros(len(sets.classes) + 1, np.int32)
    single = np.full(len(sets.classes) + 1, UNLABELED, np.uint8)
    kept: list[tuple[int, ...]] = []
    for number, position in zip(numbers.tolist(), first.tolist(), strict=True):
        item = int(asked.ravel()[position])
        if not number or gone[item]:
            continue
        indices = space.raw_to_train[list(sets.classes[number - 1])]
        found = tuple(sorted({int(raw) for raw in table[taken[item, indices]]}))
        if len(found) == 1:
            single[number] = found[0]
        else:
            kept.append(found)
            renumbered[number] = len(kept)
    regions = renumbered[sets.regions]
    labels = np.where(sets.regions > 0, single[sets.regions], labels)
    return labels, ClassSets(regions, tuple(kept)) if kept else None
