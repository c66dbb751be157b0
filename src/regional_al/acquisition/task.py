"""One round's acquisition as plain data: what is asked for, by which heuristic, within what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..config.budget import Budget
from ..config.grammar import Acquisition
from ..errors import RegionalALError, UnsupportedError
from ..heuristics import Heuristic
from ..store.labels import LabelStore
from ..types import PoolItem
from .place import Place
from .scorer import Scorer


@dataclass(frozen=True)
class Task:
    """Pick from `pool`, at `place`, by `heuristic`, within `budget`, with the model of
    `checkpoint` (None: the config's own start). round 0 is the warm start."""

    pool: Sequence[PoolItem]
    store: LabelStore
    place: Place
    heuristic: Heuristic
    budget: Budget
    answer: str
    round: int
    rounds: int
    checkpoint: Path | None
    work_dir: Path
    scorer: Scorer

    @property
    def pooled(self) -> bool:
        """Units of a partition that are ranked against one another over the pool."""
        return self.heuristic.pooled and self.place.partition is not None

    @property
    def suppress_radius(self) -> int:
        """Windows: twice the labelled radius (RIPU); pixels: the heuristic's own, 0 by default."""
        if self.place.level == "pixel":
            return self.heuristic.pixel_suppress_radius
        return 2 * self.place.radius

    @property
    def round_dir(self) -> Path:
        return self.work_dir / "rounds" / f"{self.round:03d}"

    @property
    def groups_dir(self) -> Path:
        """Where groups of units are kept between scoring and the query (heuristics with groups)."""
        return self.round_dir / "groups"


def refuse_senseless(config: Acquisition, heuristic: Heuristic) -> None:
    """Refuse a heuristic at a level or region type where it makes no sense, by name."""
    name = config.heuristic["type"]
    if config.level not in heuristic.levels:
        raise UnsupportedError(
            f"heuristic {name!r} makes no sense at level={config.level!r}; "
            f"it works at: {', '.join(heuristic.levels)}"
        )
    if config.region["type"] == "window" and not heuristic.windows:
        raise UnsupportedError(
            f"heuristic {name!r} compares disjoint units: use region=dict(type='slic'), 'grid' or "
            "'precomputed' instead of type 'window'"
        )
    if config.region["type"] not in ("window", "pixel") and not heuristic.units:
        raise UnsupportedError(
            f"heuristic {name!r} scores windows and pixels only: use region='window' or "
            f"level='pixel', not {config.region['type']!r}"
        )


@contextmanager
def naming(item: PoolItem) -> Iterator[None]:
    """Name the image in an error raised inside that does not."""
    try:
        yield
    except RegionalALError as error:
        if item.key in str(error):
            raise
        raise type(error)(f"image {item.key!r}: {error}") from None
