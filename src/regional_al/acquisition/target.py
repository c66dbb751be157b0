"""What is selected: the target of a level, and the request of one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.budget import Budget
from ..config.grammar import Acquisition
from ..config.warm_start import WarmStart
from ..errors import BudgetError, UnsupportedError
from ..heuristics import Heuristic, PixelHeuristic, PoolHeuristic, ProposesPixels, UnitHeuristic
from ..partitions import PARTITIONS
from ..partitions.base import Partition
from ..store.work_dir import WorkDir
from ..types import JSON, Level, PoolItem


@dataclass(frozen=True)
class Target:
    """What a level selects: units of a partition, or windows or pixels of a dense score map.

    Args:
        level: 'image', 'region' or 'pixel'.
        region_type: Type of the region: 'whole', 'slic', 'grid', ..., 'window' or 'pixel'.
        partition: Divides each image into units; None for windows and pixels.
        label_radius: Radius of the labelled square; 0 for pixels, None for units.

    Example:
        >>> target = Target.build("region", {"type": "window", "radius": 1}, Path("unused"))
        >>> target.partition is None, target.window_area
        (True, 9)
    """

    level: Level
    region_type: str
    partition: Partition | None
    label_radius: int | None

    @staticmethod
    def build(level: Level, region: JSON, cache: Path) -> Target:
        """From `acquisition.level` and `acquisition.region`; `cache` is where a partition may
        keep maps."""
        if region["type"] in ("window", "pixel"):
            return Target(level, region["type"], None, int(region.get("radius", 0)))
        return Target(level, region["type"], PARTITIONS.build(region, cache_dir=cache), None)

    @property
    def radius(self) -> int:
        """Radius of the labelled square; 0 for units too."""
        return self.label_radius or 0

    @property
    def window_area(self) -> int:
        """Pixels of a labelled square that is not clipped at the border; 1 for pixels and units."""
        return (2 * self.radius + 1) ** 2

    def available(self, items: Sequence[PoolItem], budget: Budget) -> int:
        """How many of the budget's unit these images hold: what a percentage refers to."""
        if budget.unit == "image":
            return len(items)
        if budget.unit == "pixel" or self.level == "pixel":
            return sum(h * w for h, w in (item.shape for item in items))
        if self.partition is not None:
            return sum(self.partition.count(item) for item in items)
        return sum(max(1, h * w // self.window_area) for h, w in (item.shape for item in items))

    def limit(self, pool: Sequence[PoolItem], budget: Budget) -> int:
        """The budget of one round over the pool in its own unit. Raises BudgetError if it exceeds
        the pool."""
        if budget.scope == "image":
            return sum(self.image_limits(pool, budget))
        return budget.resolve(self.available(pool, budget))

    def image_limits(self, pool: Sequence[PoolItem], budget: Budget) -> list[int]:
        """`image_limit` of each image. Without a partition it depends on the size alone."""
        if self.partition is not None:
            return [self.image_limit(item, budget) for item in pool]
        of_size: dict[tuple[int, int], int] = {}
        for item in pool:
            if item.shape not in of_size:
                of_size[item.shape] = self.image_limit(item, budget)
        return [of_size[item.shape] for item in pool]

    def image_limit(self, item: PoolItem, budget: Budget) -> int:
        """The budget of one round for one image (scope='image')."""
        return budget.resolve(self.available([item], budget))


@dataclass(frozen=True)
class SelectionRequest:
    """Select from `pool`, at `target`, by `heuristic`, within `budget`, in one round.

    Args:
        pool: All images.
        target: What is selected.
        heuristic: Scores or chooses.
        budget: Of this round.
        answer: 'full', 'dominant', 'multiclass' or 'correction', what the annotator is asked
            about each unit.
        round: 0 is the warm start.
        rounds: Number of rounds of the run.
        checkpoint: Of the model; None: the config's own start.
        work_dir: Of the run.
        extra: What the round before has handed on, in the unit of a budget over the pool.

    Example:
        >>> from regional_al.heuristics import Margin
        >>> pixels = Target.build("pixel", {"type": "pixel"}, Path("unused"))
        >>> budget, run = Budget(10, "pixel", "image"), WorkDir(Path("run"))
        >>> request = SelectionRequest([], pixels, Margin(), budget, "full", 1, 5, None, run)
        >>> request.suppress_radius, request.table.as_posix()
        (0, 'run/rounds/001/scores/table')
    """

    pool: Sequence[PoolItem]
    target: Target
    heuristic: Heuristic
    budget: Budget
    answer: str
    round: int
    rounds: int
    checkpoint: Path | None
    work_dir: WorkDir
    extra: int = 0

    @property
    def limit(self) -> int:
        """What the round may spend over the pool, in the unit of the budget."""
        return self.target.limit(self.pool, self.budget) + self.extra

    @property
    def suppress_radius(self) -> int:
        """Windows: twice the labelled radius (RIPU); pixels: the heuristic's own."""
        if self.target.level == "pixel":
            return self.heuristic.pixel_suppress_radius
        return 2 * self.target.radius

    @property
    def groups(self) -> Path:
        """Folder that maps units to the groups that a heuristic joined them into, by image."""
        return self.work_dir.scores(self.round) / "groups"

    @property
    def table(self) -> Path:
        """Folder of the pool table."""
        return self.work_dir.scores(self.round) / "table"


def check_supported(config: Acquisition | WarmStart, heuristic: Heuristic) -> None:
    """Raise UnsupportedError where a heuristic does not support the level or the region type, or
    needs labels of a machine that the config does not give."""
    name, region = config.heuristic["type"], config.region["type"]
    if not isinstance(heuristic, (PixelHeuristic, UnitHeuristic, PoolHeuristic)):
        raise UnsupportedError(
            f"heuristic {name!r} must derive from PixelHeuristic, UnitHeuristic or PoolHeuristic "
            f"of regional_al.heuristics"
        )
    if heuristic.needs_prelabels and config.prelabels is None:
        raise UnsupportedError(
            f"heuristic {name!r} looks for errors in the labels of a machine: give them, "
            "acquisition.warm_start=dict(prelabels=FOLDER), or use another heuristic"
        )
    if config.level not in heuristic.levels:
        raise UnsupportedError(
            f"heuristic {name!r} is not supported at level={config.level!r}; "
            f"it supports: {', '.join(heuristic.levels)}"
        )
    if region == "window" and "windows" not in heuristic.regions:
        raise UnsupportedError(
            f"heuristic {name!r} compares disjoint units: use region=dict(type='slic'), 'grid' or "
            "'precomputed' instead of type 'window'"
        )
    if region not in ("window", "pixel") and "units" not in heuristic.regions:
        raise UnsupportedError(
            f"heuristic {name!r} scores windows and pixels only: use region='window' or "
            f"level='pixel', not {region!r}"
        )


def check_proposals(
    heuristic: Heuristic, target: Target, pool: Sequence[PoolItem], budget: Budget
) -> None:
    """Raise BudgetError where a heuristic proposes fewer pixels than a round may spend."""
    if target.partition is not None or not isinstance(heuristic, ProposesPixels):
        return
    if budget.scope == "image":
        needed = max(target.image_limits(pool, budget))
    else:
        needed = -(-target.limit(pool, budget) // len(pool))
    if needed > heuristic.per_image:
        raise BudgetError(
            f"{budget} per round is {needed} pixels an image, but heuristic "
            f"{type(heuristic).__name__} chooses among per_image={heuristic.per_image}: "
            f"set per_image={needed} or more in acquisition.heuristic, or reduce amount"
        )
