"""Adaptive superpixels: neighbouring units of alike predictions are merged before each query."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import functional, kernels
from ..checks import typed, within
from ..errors import UnsupportedError
from ..selection import Basket
from ..selection.pool_table import PoolTable
from ..types import F64, I32, I64, Bool, Level, PredictRequest
from .base import (
    HEURISTICS,
    GroupsUnits,
    Heuristic,
    MergesUnits,
    Observation,
    PixelHeuristic,
    PoolHeuristic,
    RegionKind,
    UnitHeuristic,
)
from .combine import common_levels, name_of
from .diversity import mean_softmax
from .real import neighbours

WHERE = "heuristic AdaptiveSuperpixels"


@HEURISTICS.register("AdaptiveSuperpixels")
class AdaptiveSuperpixels(Heuristic):
    """Neighbouring units of alike predictions are merged, then scored by another heuristic.

    The units of the partition are merged anew in every round, each merged region is selected and
    annotated as a whole. A region that the model takes for one thing costs one click with
    `answer='dominant'`. Budgets in pixels are less suited: regions may be large.

    Args:
        heuristic: A name or dict(type=...), any that supports the units of a partition, those that
            compare over the pool included.
        threshold: Jensen-Shannon distance to the first unit of a region, 0..1, below which units
            are merged; 0: nothing is merged.

    Source:
        Kim et al., "Adaptive Superpixel for Active Learning in Semantic Segmentation", ICCV 2023,
        arXiv 2303.16817.
    Score:
        That of the inner heuristic for the merged regions. Units are visited by their mean
        p_2 / p_1, highest first; one that is not merged yet starts a region, which grows to
        4-connected units not merged yet whose mean softmax q has a distance to the first unit's p
        of sqrt(KL(p|m)/2 + KL(q|m)/2) < threshold, m = (p + q) / 2, in nats, 0..sqrt(ln 2) = 0.83.
    Cost:
        One pass over the logits besides that of the inner heuristic; then O(E C) for E pairs of
        adjacent units.
    Deviations:
        Units without an open pixel are not merged, those that are partly annotated are. The share
        of a class in `ClassBalance` counts regions, that of the authors' code pixels. Answers are
        sieved with `acquisition.sieve` alone. Beside an inner heuristic with dropout passes, units
        are merged by the first of these passes.
    Config:
        dict(level='region', heuristic=dict(type='AdaptiveSuperpixels', heuristic='ClassBalance'),
             annotator=dict(type='oracle', answer='dominant'),
             budget=dict(amount='1%', unit='click'))
    Raises:
        ConfigError: An argument is unknown or out of range.
        UnsupportedError: The inner heuristic does not score units, or joins them by itself.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import AdaptiveSuperpixels, Observation
        >>> logits = torch.tensor([[[1.0, 1.1, 9.0, 0.9]], [[0.0, 0.0, 0.0, 0.0]]])
        >>> adaptive = AdaptiveSuperpixels("BvSB")
        >>> adaptive.merge_units(Observation(logits), torch.tensor([[0, 1, 2, 3]]), 4).tolist()
        [0, 0, 1, 2]
    """

    levels: tuple[Level, ...] = ("region",)
    regions: tuple[RegionKind, ...] = ("units",)
    inner: PixelHeuristic | UnitHeuristic | PoolHeuristic

    def __new__(
        cls, heuristic: str | dict[str, Any] = "ClassBalance", threshold: float = 0.1
    ) -> AdaptiveSuperpixels:
        """One that scores regions one by one, or, like its inner heuristic, over the pool."""
        inner = build_any(heuristic)
        made = super().__new__(
            _AdaptivePool if isinstance(inner, PoolHeuristic) else _AdaptiveUnits
        )
        made.inner = inner
        return made

    def __init__(
        self, heuristic: str | dict[str, Any] = "ClassBalance", threshold: float = 0.1
    ) -> None:
        del heuristic  # built by __new__
        self.threshold = within(f"{WHERE}: threshold", threshold, 0, 1)
        self.needs = self.inner.needs or PredictRequest()
        self.needs_prelabels = self.inner.needs_prelabels
        self.draws, self.may_be_negative = self.inner.draws, self.inner.may_be_negative

    def merge_units(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        """See `MergesUnits.merge_units`."""
        p = mean_softmax(seen.logits, regions, num_regions)
        ratio = kernels.region_mean(functional.bvsb(seen.logits), regions, num_regions)
        ids = regions.cpu().numpy().astype(np.int32)
        fresh = ids if seen.annotated is None else ids[seen.annotated == 0]
        groups = merge_similar(
            p.to("cpu", torch.float64).numpy(),
            ratio.to("cpu", torch.float64).numpy(),
            neighbours(ids, num_regions),
            np.bincount(fresh.ravel(), minlength=num_regions) > 0,
            self.threshold,
        )
        return torch.from_numpy(groups)


class _AdaptiveUnits(AdaptiveSuperpixels, UnitHeuristic):
    """Each region is scored by itself."""

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        assert isinstance(self.inner, (PixelHeuristic, UnitHeuristic))
        return self.inner.unit_scores(seen, regions, num_regions)


class _AdaptivePool(AdaptiveSuperpixels, PoolHeuristic):
    """The regions of the whole pool are compared with one another."""

    def __init__(
        self, heuristic: str | dict[str, Any] = "ClassBalance", threshold: float = 0.1
    ) -> None:
        super().__init__(heuristic, threshold)
        self.vectors = self._pool.vectors

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        return self._pool.describe(seen, regions, num_regions)

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        self._pool.choose(table, basket, rng)

    @property
    def _pool(self) -> PoolHeuristic:
        assert isinstance(self.inner, PoolHeuristic)
        return self.inner


def build_any(spec: Any) -> PixelHeuristic | UnitHeuristic | PoolHeuristic:
    """The heuristic of a name or dict(type=name, ...), of any kind that supports units of a
    partition. Raises ConfigError; UnsupportedError, naming it, for others."""
    spec = typed(f"{WHERE}: heuristic", spec)
    inner = HEURISTICS.build(spec)
    if isinstance(inner, (GroupsUnits, MergesUnits)):
        raise UnsupportedError(
            f"{WHERE}: heuristic: {spec['type']!r} joins units into groups by itself; use another"
        )
    common_levels(WHERE, [inner], ("region",))
    if "units" not in inner.regions:
        raise UnsupportedError(
            f"{WHERE}: heuristic={name_of(inner)!r} does not support units of a partition, which "
            "are merged here: use one that does, such as 'BvSB'"
        )
    assert isinstance(inner, (PixelHeuristic, UnitHeuristic, PoolHeuristic))
    return inner


def merge_similar(
    p: F64, uncertainty: F64, adjacent: list[I64], takes_part: Bool, threshold: float
) -> I32:
    """Group of each unit: adjacent units of similar class probabilities are merged.

    Which units a region grows to does not depend on the order in which they are reached: all of
    them are compared with its first unit.

    Args:
        p: float64 [R, C], mean class probabilities of each unit.
        uncertainty: float64 [R]; the highest are visited first, ties by unit.
        adjacent: Neighbours int64 of each unit, without repetition.
        takes_part: bool [R]; other units are groups of their own.
        threshold: Distances below it are merged, see `jensen_shannon`.

    Returns:
        int32 [R], 0..G-1, numbered by the lowest unit of each group.

    Example:
        >>> p = np.array([[0.5, 0.5], [0.6, 0.4], [0.9, 0.1]])
        >>> line = [np.array([1]), np.array([0, 2]), np.array([1])]
        >>> merge_similar(p, np.array([1.0, 0.7, 0.1]), line, np.ones(3, bool), 0.1).tolist()
        [0, 0, 1]
    """
    free = takes_part.copy()
    lowest = np.arange(len(p))
    compared = np.full(len(p), -1)  # with which first unit
    entropies = -plogp(p).sum(axis=1)
    visited = np.flatnonzero(takes_part)
    for first in visited[np.argsort(-uncertainty[visited], kind="stable")].tolist():
        if not free[first]:
            continue
        free[first] = False
        members = [first]
        reached = adjacent[first]
        while len(reached):
            reached = reached[free[reached] & (compared[reached] != first)]
            compared[reached] = first
            near = reached[
                jensen_shannon(p[first], p[reached], entropies[first], entropies[reached])
                < threshold
            ]
            free[near] = False
            members.extend(near.tolist())
            reached = np.unique(np.concatenate([reached[:0], *(adjacent[i] for i in near)]))
        lowest[members] = min(members)
    return np.unique(lowest, return_inverse=True)[1].astype(np.int32)


def jensen_shannon(
    p: F64, q: F64, entropy_p: float | np.float64 | F64, entropy_q: float | np.float64 | F64
) -> F64:
    """Jensen-Shannon distance, the square root of the divergence in nats, 0..sqrt(ln 2).

    Args:
        p: float64 [C], probabilities.
        q: float64 [n, C].
        entropy_p: Of p, in nats.
        entropy_q: float64 [n], of each row of q.

    Returns:
        float64 [n].

    Example:
        >>> one, other = np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> jensen_shannon(one, other, 0.0, np.zeros(2)).round(4).tolist()
        [0.0, 0.8326]
    """
    divergence = -plogp((p + q) / 2).sum(axis=-1) - (entropy_p + entropy_q) / 2
    return np.asarray(np.sqrt(np.maximum(divergence, 0.0)))


def plogp(p: npt.NDArray[np.float64]) -> F64:
    """p ln p, 0 at 0."""
    return np.asarray(p * np.log(np.where(p > 0, p, 1.0)))
