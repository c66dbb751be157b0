"""The protocol of partitions: every pixel of an image belongs to exactly one unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..registry import Registry
from ..types import I32, PoolItem


class Partition(Protocol):
    """Divides images into units. Same image and parameters, same ids, in every round.

    Example:
        >>> from regional_al.partitions import GridPartition
        >>> item = PoolItem("a", None, None, (4, 6))
        >>> partition: Partition = GridPartition(cell=2)
        >>> partition.count(item), partition.ids(item)[0].tolist()
        (6, [0, 0, 1, 1, 2, 2])
    """

    def ids(self, item: PoolItem) -> I32:
        """The unit of each pixel: int32 [H, W], ids >= 0. There may be gaps: ids without a pixel.

        Args:
            item: The image; `item.shape` is (H, W), `item.image` its file.
        """

    def count(self, item: PoolItem) -> int:
        """Number of units that have a pixel, which is what budgets refer to; smaller than the
        largest id + 1 where ids have gaps. Does not compute the map where that is avoidable."""

    def prepare(self, items: Sequence[PoolItem]) -> None:
        """Compute and cache what is expensive, such as SLIC. Called before the first training, on
        every rank with its own share of the images."""


PARTITIONS: Registry[Partition] = Registry("region type")
