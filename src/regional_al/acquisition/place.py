"""Where labels are asked for: a level with its partition, or with the radius of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.budget import Budget
from ..partitions import PARTITIONS
from ..partitions.base import Partition
from ..types import JSON, Level, PoolItem


@dataclass(frozen=True)
class Place:
    """level, and what it is asked about. partition: None for windows and pixels; label_radius: of
    the labelled square, 0 for pixels, None for the units of a partition."""

    level: Level
    kind: str
    partition: Partition | None
    label_radius: int | None

    @staticmethod
    def build(level: Level, region: JSON, cache: Path) -> Place:
        """From `acquisition.level` and `acquisition.region` (with its type)."""
        if region["type"] in ("window", "pixel"):
            return Place(level, region["type"], None, int(region.get("radius", 0)))
        return Place(level, region["type"], PARTITIONS.build(region, cache_dir=cache), None)

    @property
    def radius(self) -> int:
        return self.label_radius or 0

    def available(self, items: Sequence[PoolItem], budget: Budget) -> int:
        """How many of the budget's unit these images hold in all (what a percentage refers to)."""
        if budget.unit == "image":
            return len(items)
        if budget.unit == "pixel" or self.level == "pixel":
            return sum(h * w for h, w in (item.shape for item in items))
        if self.partition is not None:
            return sum(self.partition.count(item) for item in items)
        side = 2 * self.radius + 1
        return sum(max(1, h * w // side**2) for h, w in (item.shape for item in items))

    def limit(self, pool: Sequence[PoolItem], budget: Budget) -> int:
        """The pool-wide budget of one round in its own unit. Raises BudgetError above the pool."""
        if budget.scope == "image":
            return sum(self.image_limit(item, budget) for item in pool)
        return budget.resolve(self.available(pool, budget))

    def image_limit(self, item: PoolItem, budget: Budget) -> int:
        return budget.resolve(self.available([item], budget))
