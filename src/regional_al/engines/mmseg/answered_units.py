"""Which answer each labelled pixel belongs to: the side map of `loss_average='unit'`. No
framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from ...store.labels import LabelStore
from ...store.query import read_asked, read_query
from ...store.work_dir import WorkDir
from ...types import I32, PoolItem
from .side_maps import BASE, SideMap

MAP = "units"
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class UnitNumbers:
    """Answers about all images, numbered one after another: what a `SideMap` reads.

    Args:
        store: The answers.
        items: The pool.
        work_dir: Of the run.
        before: Key of an image -> round -> number before that of its first item in the round.
    """

    store: LabelStore
    items: Sequence[PoolItem]
    work_dir: WorkDir
    before: Mapping[str, Mapping[int, int]]

    def __call__(self, index: int) -> I32 | None:
        """int32 [H, W]: 0 where nothing was asked or it is not known what; None: nowhere known."""
        key = self.items[index].key
        answered = self.store.annotated(key) if key in self.before else None
        if answered is None:
            return None
        values = np.zeros(answered.shape, np.int32)
        for number, before in self.before[key].items():
            here = answered == number + 1
            if here.any():
                asked = read_asked(self.work_dir.query(number), key)[here]
                values[here] = np.where(asked > 0, asked + before, 0)
        return values


def unit_map(store: LabelStore, items: Sequence[PoolItem]) -> SideMap:
    """The side map of answers: each region, window, pixel or image that was asked about has a
    number of its own.

    Args:
        store: The answers, of a run.
        items: The pool.

    Raises:
        DataError: There are more than a map can number, or a query is damaged.
    """
    work_dir = WorkDir(store.root.parent)
    before: dict[str, dict[int, int]] = {}
    total = 0
    for number in work_dir.rounds_with_query():
        query = read_query(work_dir.query(number))
        places, counts = np.unique(query.picks["image"], return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            before.setdefault(query.keys[place], {})[number] = total
            total += count
    if total > _LARGEST:
        raise DataError(f"{work_dir.root} has more than {_LARGEST} answers: loss_average='pixel'")
    digits = next(digits for digits in (1, 2, 3, 4) if BASE**digits >= total)
    return SideMap(MAP, UnitNumbers(store, items, work_dir, before), digits)
