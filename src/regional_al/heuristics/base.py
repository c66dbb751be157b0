"""What a heuristic is: a score for every pixel, unit or window; higher = ask for it.

A subclass gives `pixel_scores`; means over regions and windows follow from it through the kernels.
One whose score is not a mean of pixel scores (RIPU: a product of two means) overrides
`unit_scores` and `window_scores`. One that ranks units against one another over the pool sets
`pooled` and gives `describe` and `choose`; one that asks for groups of units gives `regroup`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .. import kernels
from ..registry import Registry
from ..selection import Basket
from ..selection.pool_table import PoolTable
from ..types import LEVELS, U8, FeatureMap, Level, PredictRequest

HEURISTICS: Registry[Heuristic] = Registry("heuristic")
NO_NUMBERS = np.random.default_rng(0)


@dataclass(frozen=True)
class Observation:
    """All that may be known about one image when it is scored; never its ground truth.

    logits: float [C, H, W]; with several passes the first one's. rng: seeded by (seed, round,
    image), so the same on every rank. more: logits of further passes, of flipped views, of an
    ensemble's other members, to be taken once (see `views`). features: when asked
    for and the model offers them, float [D, h, w] whose cells cover the image evenly, or a
    FeatureMap. annotated: uint8 [H, W], > 0 where an
    answer is there already, or None. image: the image file.
    """

    logits: torch.Tensor
    rng: np.random.Generator = NO_NUMBERS
    more: Iterator[torch.Tensor] | None = None
    features: torch.Tensor | FeatureMap | None = None
    annotated: U8 | None = None
    image: Path | None = None

    def views(self) -> Iterator[torch.Tensor]:
        """Every view's logits, one after another: all passes, then all passes of the flip, then
        the ensemble."""
        yield self.logits
        yield from self.more or ()


class Heuristic:
    """Base class. levels: where it makes sense; needs: what the engine must predict for it
    (None: nothing, as for Random, and then no prediction is made at all)."""

    levels: tuple[Level, ...] = LEVELS
    windows: bool = True
    """False: region type 'window' is refused; it needs the disjoint units of a partition."""
    units: bool = True
    """False: the units of a partition are refused; it scores windows and pixels only."""
    pooled: bool = False
    """True: units of a partition are picked by `choose` from a table of the whole pool."""
    groups: bool = False
    """True: `regroup` joins units of a partition into larger ones, each asked for as one."""
    vectors: tuple[str, ...] = ()
    """Columns of `describe` that are only compared by distances: in a large pool they are rounded
    to float16. All other columns are kept exactly (float32; float64 for one number a unit)."""
    draws: bool = False
    """True: the scores are a random draw already, which noise on top would undo."""
    may_be_negative: bool = False
    """True: scores may be below 0, so that a product of scores has no meaning."""
    needs: PredictRequest | None = PredictRequest()
    pixel_suppress_radius: int = 0
    """Pixel level: no second pick within this Chebyshev distance of a pick, in any round."""
    column_major: bool = False
    """Windows and pixels: ties go down the columns (published code) instead of along the rows."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        """Scores float32 [H, W] of the pixels; -inf = never ask."""
        raise NotImplementedError

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        """Region ids int [H, W] -> float [R]; NaN for an empty region, -inf = never ask."""
        if self.pooled:
            return self.describe(seen, regions, num_regions)["score"]
        return kernels.region_mean(self.pixel_scores(seen), regions, num_regions)

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        """Mean score of the clipped (2 radius + 1)^2 window around each pixel, float32 [H, W]."""
        return kernels.window_mean(self.pixel_scores(seen), radius)

    def regroup(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(scores float [G], group int [R] of each unit, 0..G-1); score -inf: not asked for."""
        raise NotImplementedError

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        """Columns of the pool table, each with first dimension R; 'score' float [R] among them
        (shown in previews, recorded with the picks). Rows of empty units are dropped."""
        raise NotImplementedError

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        """Take units into the basket, best first, until it is full. Runs on one rank."""
        raise NotImplementedError
