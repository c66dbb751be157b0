"""The three kinds of heuristic: higher scores are selected first.

- `PixelHeuristic` scores pixels. Units of a partition, images and windows take the mean of their
  pixels, unless it overrides `unit_scores` and `window_scores`.
- `UnitHeuristic` scores the units of a partition one by one, or joins them into larger ones.
- `PoolHeuristic` describes every unit and then chooses among all units of the pool.

Units are joined in two ways: `GroupsUnits` by a search whose result has scores of its own,
`MergesUnits` before anything is scored, so that a heuristic of any kind scores what is merged.
`ProposesPixels` lets a `PoolHeuristic` choose among some pixels of each image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from .. import kernels
from ..registry import Registry
from ..selection import Basket
from ..selection.pool_table import PoolTable
from ..types import I64, LEVELS, U8, FeatureMap, Level, PredictRequest

HEURISTICS: Registry[Heuristic] = Registry("heuristic")
RegionKind = Literal["units", "windows"]
_NO_NUMBERS = np.random.default_rng(0)


@dataclass(frozen=True)
class Observation:
    """All that may be known about one image when it is scored; never its ground truth.

    Args:
        logits: float [C, H, W]; with several passes, those of the first one.
        rng: Seeded by (seed, round, image), so it is the same on every rank.
        more: Logits of the further views, to be taken once (see `views`).
        features: Where they are requested and the model returns them, float [D, h, w] whose cells
            cover the image evenly, or a `FeatureMap`; else None.
        annotated: uint8 [H, W], > 0 where a pixel is annotated already; None: nowhere.
        image: The image file.
        prelabels: uint8 [H, W], the class that a machine has given each pixel, 255: none; None:
            nowhere, or the heuristic does not ask for it (`needs_prelabels`).
        prelabel_counts: int64 [C], pixels of each class in the machine's labels of the whole pool;
            None: likewise.

    Example:
        >>> import torch
        >>> seen = Observation(torch.zeros(3, 4, 5))
        >>> [tuple(view.shape) for view in seen.views()]
        [(3, 4, 5)]
    """

    logits: torch.Tensor
    rng: np.random.Generator = _NO_NUMBERS
    more: Iterator[torch.Tensor] | None = None
    features: torch.Tensor | FeatureMap | None = None
    annotated: U8 | None = None
    image: Path | None = None
    prelabels: U8 | None = None
    prelabel_counts: I64 | None = None

    def views(self) -> Iterator[torch.Tensor]:
        """Logits of every view, one after another: all passes, then all passes of the flipped
        image, then the other members of the ensemble."""
        yield self.logits
        yield from self.more or ()


class Heuristic:
    """What all heuristics have in common; derive from one of the three kinds below.

    Example:
        >>> Heuristic().levels
        ('image', 'region', 'pixel')
    """

    levels: tuple[Level, ...] = LEVELS
    """Supported values of `acquisition.level`; others raise UnsupportedError."""
    regions: tuple[RegionKind, ...] = ("units", "windows")
    """What is supported at level 'region': units of a partition, floating windows, or both."""
    needs: PredictRequest | None = PredictRequest()
    """What the engine must predict; None: no model is run."""
    needs_prelabels: bool = False
    """True: it compares with the labels of a machine, without which it is refused."""
    draws: bool = False
    """True: scores are a random draw already, which `Stochastic` would undo."""
    may_be_negative: bool = False
    """True: scores may be below 0, which `Combine(how='product')` does not support."""
    pixel_suppress_radius: int = 0
    """Level 'pixel': no second pick within this Chebyshev distance of a pick, in any round."""
    column_major: bool = False
    """Windows and pixels: equal scores are taken down the columns instead of along the rows."""


class PixelHeuristic(Heuristic):
    """Scores pixels; images, units and windows take the mean of their pixels.

    Example:
        >>> import torch
        >>> class Blue(PixelHeuristic):
        ...     def pixel_scores(self, seen):
        ...         return torch.softmax(seen.logits, dim=0)[2]
        >>> seen = Observation(torch.zeros(3, 2, 4))
        >>> regions = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
        >>> [round(score, 4) for score in Blue().unit_scores(seen, regions, 2).tolist()]
        [0.3333, 0.3333]
    """

    levels: tuple[Level, ...] = LEVELS
    regions: tuple[RegionKind, ...] = ("units", "windows")

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        """Score of each pixel.

        Args:
            seen: The image.

        Returns:
            float32 [H, W]; -inf: never select.
        """
        raise NotImplementedError

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        """Score of each unit; by default the mean of its pixels.

        Args:
            seen: The image.
            regions: int [H, W], the unit of each pixel.
            num_regions: R, above every id.

        Returns:
            float [R]; NaN for units without a pixel, -inf: never select.
        """
        return kernels.region_mean(self.pixel_scores(seen), regions, num_regions)

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        """Score of the window around each pixel; by default the mean of its pixels.

        Args:
            seen: The image.
            radius: Windows are (2 radius + 1)^2, clipped at the border.

        Returns:
            float32 [H, W]; -inf: never select.
        """
        return kernels.window_mean(self.pixel_scores(seen), radius)


class UnitHeuristic(Heuristic):
    """Scores the units of a partition one by one.

    With a method `regroup` (see `GroupsUnits`) it joins them into larger ones, each of which is
    selected and annotated as a whole.

    Example:
        >>> import torch
        >>> class Largest(UnitHeuristic):
        ...     def unit_scores(self, seen, regions, num_regions):
        ...         return torch.bincount(regions.reshape(-1), minlength=num_regions).float()
        >>> seen = Observation(torch.zeros(3, 1, 4))
        >>> Largest().unit_scores(seen, torch.tensor([[0, 1, 1, 1]]), 2).tolist()
        [1.0, 3.0]
    """

    levels: tuple[Level, ...] = ("image", "region")
    regions: tuple[RegionKind, ...] = ("units",)

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        """See `PixelHeuristic.unit_scores`."""
        raise NotImplementedError


@runtime_checkable
class GroupsUnits(Protocol):
    """A heuristic that joins units of a partition into larger ones.

    Example:
        >>> from regional_al.heuristics import ReAL, Random
        >>> hasattr(ReAL, "regroup"), hasattr(Random, "regroup")
        (True, False)
    """

    def regroup(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Groups of units and their scores.

        Args:
            seen: The image.
            regions: int [H, W], the unit of each pixel.
            num_regions: R, above every id.

        Returns:
            Scores float [G], -inf: never select; and the group int [R] of each unit, 0..G-1.
        """


@runtime_checkable
class MergesUnits(Protocol):
    """A heuristic that merges units of a partition first, and then scores what it has merged.

    Its `unit_scores` or `describe` is called with the merged units.

    Example:
        >>> from regional_al.heuristics import AdaptiveSuperpixels, Random
        >>> hasattr(AdaptiveSuperpixels, "merge_units"), hasattr(Random, "merge_units")
        (True, False)
    """

    def merge_units(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        """The merged unit of each unit.

        Args:
            seen: The image.
            regions: int [H, W], the unit of each pixel.
            num_regions: R, above every id.

        Returns:
            int [R], 0..G-1. Units without an open pixel must not be merged with others.
        """


class PoolHeuristic(Heuristic):
    """Compares units with one another: describes each, then chooses from a table of the pool.

    Example:
        >>> import numpy as np, torch
        >>> from regional_al.selection import best_first
        >>> class Smallest(PoolHeuristic):
        ...     def describe(self, seen, regions, num_regions):
        ...         return {"score": torch.bincount(regions.flatten(), minlength=num_regions)}
        ...     def choose(self, table, basket, rng):
        ...         basket.fill(best_first(-table["score"]))
        >>> columns = Smallest().describe(
        ...     Observation(torch.zeros(2, 1, 3)), torch.tensor([[0, 1, 1]]), 2
        ... )
        >>> columns["score"].tolist()
        [1, 2]
    """

    levels: tuple[Level, ...] = ("image", "region")
    regions: tuple[RegionKind, ...] = ("units",)
    vectors: tuple[str, ...] = ()
    """Columns of `describe` that are only compared by distances: they may be kept in half
    precision in a very large table (see `selection.pool_table`). All others are exact."""

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        """Columns of the pool table for one image.

        Args:
            seen: The image.
            regions: int [H, W], the unit of each pixel.
            num_regions: R, above every id.

        Returns:
            Tensors with first dimension R, 'score' float [R] among them (shown in previews and
            recorded with the picks). Rows of units without a pixel are dropped.
        """
        raise NotImplementedError

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        """Take units into the basket, best first, until it is full. Runs on one rank.

        Args:
            table: All units of the pool.
            basket: Enforces the budget.
            rng: Seeded by (seed, round).
        """
        raise NotImplementedError


@runtime_checkable
class ProposesPixels(Protocol):
    """A `PoolHeuristic` that works at level 'pixel', where the pool is too large for its table.

    It proposes some pixels of each image. Its `describe` gets each of them as a unit (see
    `pixel_units`), and its `choose` a table of those of the pool. Derive from `PixelHeuristic` as
    well: `pixel_scores` are shown in previews.

    Attributes:
        per_image: At most so many open pixels are proposed of an image. A budget that asks for more
            is refused.

    Example:
        >>> from regional_al.heuristics import CoreSet, MaxHerding
        >>> hasattr(MaxHerding, "propose_pixels"), hasattr(CoreSet, "propose_pixels")
        (True, False)
    """

    per_image: int

    def propose_pixels(self, seen: Observation) -> I64:
        """The pixels of an image that are compared with those of others.

        Args:
            seen: The image; its further views must not be read, `describe` needs them.

        Returns:
            int64 [m], row-major positions, each once: open pixels, and labelled ones from which
            distances are measured.
        """


def pixel_units(pixels: I64, seen: Observation) -> torch.Tensor:
    """Pixels of an image as units of one pixel each, for `PoolHeuristic.describe`.

    Args:
        pixels: int64 [m], row-major positions in the image, each once.
        seen: The image.

    Returns:
        int64 [H, W], i at the i-th of the pixels and m at all others.

    Example:
        >>> import numpy as np
        >>> pixel_units(np.array([4, 1]), Observation(torch.zeros(3, 2, 3))).tolist()
        [[2, 1, 2], [2, 0, 2]]
    """
    height, width = seen.logits.shape[-2:]
    units = torch.full((height * width,), len(pixels), device=seen.logits.device)
    units[torch.from_numpy(pixels).to(units.device)] = torch.arange(len(pixels)).to(units.device)
    return units.reshape(height, width)
