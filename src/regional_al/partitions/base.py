"""What a partition is: every pixel of an image belongs to exactly one unit, ids 0..R-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..registry import Registry
from ..types import I32, PoolItem


class Partition(Protocol):
    """Divides images into units. Same image and parameters, same ids, in every round."""

    def ids(self, item: PoolItem) -> I32:
        """int32 [H, W], ids >= 0; a precomputed map may have gaps (units without a pixel)."""

    def count(self, item: PoolItem) -> int:
        """Number of units that have a pixel, which is what budgets refer to; it may be smaller
        than the largest id + 1. Without computing the map where it is known beforehand."""

    def prepare(self, items: Sequence[PoolItem]) -> None:
        """Compute and cache what is expensive (SLIC), in parallel, with a progress bar; cheap when
        all is cached. Called by every rank with its own share of the images."""


PARTITIONS: Registry[Partition] = Registry("region type")
