"""Combinations of heuristics, and what all heuristics that contain others share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..checks import choice, positive, typed
from ..errors import ConfigError, ScoreError, UnsupportedError
from ..selection import Basket, best_first
from ..selection.pool_table import PoolTable
from ..types import F64, LEVELS, Level, PredictRequest
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


def build_inner(where: str, spec: Any) -> PixelHeuristic | UnitHeuristic:
    """The heuristic of a name or dict(type=name, ...), one that scores each unit by itself.

    Raises ConfigError; UnsupportedError, naming it, for one that picks from the pool or joins
    units into groups.
    """
    spec = typed(where, spec)
    inner = HEURISTICS.build(spec)
    groups = isinstance(inner, (GroupsUnits, MergesUnits))
    if groups or isinstance(inner, PoolHeuristic):
        why = "joins units into groups" if groups else "picks from the whole pool by itself"
        raise UnsupportedError(
            f"{where}: {spec['type']!r} {why}; use a heuristic that scores each unit by itself"
        )
    assert isinstance(inner, (PixelHeuristic, UnitHeuristic))
    return inner


def name_of(heuristic: Heuristic) -> str:
    """What a config calls it."""
    given = getattr(heuristic, "name", None)
    public = (c.__name__ for c in type(heuristic).__mro__ if not c.__name__.startswith("_"))
    return str(given or next(public))


def common_levels(
    where: str, inner: Sequence[Heuristic], of: Sequence[Level] = LEVELS
) -> tuple[Level, ...]:
    """Levels that all support. Raises UnsupportedError when there is none."""
    levels = tuple(level for level in of if all(level in h.levels for h in inner))
    if not levels:
        names = ", ".join(name_of(h) for h in inner)
        raise UnsupportedError(f"{where}: {names} is not supported at any of: {', '.join(of)}")
    return levels


def joint_needs(where: str, inner: Sequence[Heuristic]) -> PredictRequest | None:
    """One prediction that serves all; None when none needs any. Further views (passes, flip,
    ensemble) are streamed once, so that one heuristic at most may need them: else ConfigError."""
    needs = [(name_of(h), h.needs) for h in inner if h.needs is not None]
    several = [(name, request) for name, request in needs if request.views > 1]
    if len(several) > 1:
        names = " and ".join(name for name, _ in several)
        raise ConfigError(
            f"{where}: {names} each need several predictions of an image; one of them at most"
        )
    if not needs:
        return None
    most = several[0][1] if several else PredictRequest()
    return PredictRequest(
        most.passes, most.flip, any(request.features for _, request in needs), most.ensemble
    )


def common_regions(inner: Sequence[Heuristic]) -> tuple[RegionKind, ...]:
    """What all support at level 'region'."""
    kinds: tuple[RegionKind, ...] = ("units", "windows")
    return tuple(kind for kind in kinds if all(kind in h.regions for h in inner))


def pixel_part(heuristic: Heuristic) -> PixelHeuristic:
    """The same, known to score pixels: others do not support windows or level 'pixel'."""
    assert isinstance(heuristic, PixelHeuristic)
    return heuristic


@HEURISTICS.register("Combine")
class Combine(Heuristic):
    """Several heuristics together, by a weighted sum or product of their scores.

    It supports what all parts support; with `normalize`, units of a partition and images alone. One
    part at most may need several predictions of an image (BALD, EquAL). A unit that any part scores
    -inf is not selected.

    Args:
        parts: List of dict(type=..., weight=1.0, ...), each a heuristic that scores a unit by
            itself; weights above 0.
        how: 'sum' or 'product'.
        normalize: 'minmax' or 'rank': put the scores of each part on one scale first.

    Source:
        A common device; RIPU itself is a product of two scores.
    Score:
        how='sum': sum_i w_i s_i; how='product': prod_i s_i^w_i, of the parts' own scores of the
        pixel, window or unit. With `normalize` the s_i of all units of the pool without a label are
        first put on one scale: 'minmax' (s - min) / (max - min), all equal: 0; 'rank' the share of
        the other units that score less, ties counting half.
    Cost:
        The sum of the parts'; `normalize` keeps one number per part and unit of the pool.
    Deviations:
        Beside a part with dropout passes, the others see the first of these passes.
    Config:
        dict(level='region', heuristic=dict(type='Combine', how='product', parts=[
            dict(type='RIPU', weight=2.0), dict(type='BvSB')]))
    Raises:
        ConfigError: An argument is unknown or out of range.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import Combine, Observation
        >>> both = Combine([dict(type="Margin"), dict(type="LeastConfidence", weight=2.0)])
        >>> both.pixel_scores(Observation(torch.zeros(2, 1, 1))).tolist()  # 1 + 2 * 0.5
        [[2.0]]
    """

    def __new__(
        cls, parts: Sequence[Mapping[str, Any]], how: str = "sum", normalize: str | None = None
    ) -> Combine:
        """One that scores directly, or, with `normalize`, one that compares over the pool."""
        return super().__new__(_CombineScores if normalize is None else _CombineOverPool)

    def __init__(
        self, parts: Sequence[Mapping[str, Any]], how: str = "sum", normalize: str | None = None
    ) -> None:
        where = "heuristic Combine"
        if isinstance(parts, (str, Mapping)) or not parts:
            raise ConfigError(f"{where}: parts={parts!r} must be a list of dict(type=...)")
        self.product = choice(f"{where}: how", how, ("sum", "product")) == "product"
        self.parts, self.weights = [], []
        for i, part in enumerate(parts):
            spec = typed(f"{where}: parts[{i}]", part)
            self.weights.append(positive(f"{where}: parts[{i}].weight", spec.pop("weight", 1.0)))
            self.parts.append(build_inner(f"{where}: parts[{i}]", spec))
        negative = [name_of(inner) for inner in self.parts if inner.may_be_negative]
        if self.product and normalize is None and negative:
            raise UnsupportedError(
                f"{where}: how='product' needs scores of 0 or more, but those of {negative[0]!r} "
                "may be negative: use how='sum', or normalize='minmax' or 'rank'"
            )
        self.may_be_negative = bool(negative)
        self.draws = any(inner.draws for inner in self.parts)
        self.levels = common_levels(where, self.parts)
        self.regions = common_regions(self.parts)
        self.needs = joint_needs(where, self.parts)
        self.needs_prelabels = any(inner.needs_prelabels for inner in self.parts)
        self.pixel_suppress_radius = max(inner.pixel_suppress_radius for inner in self.parts)
        self.column_major = any(inner.column_major for inner in self.parts)
        if normalize is not None:
            self.scale = SCALES[choice(f"{where}: normalize", normalize, tuple(SCALES))]
            self.levels = common_levels(
                f"{where}: normalize={normalize!r}", self.parts, ("image", "region")
            )
            self.regions = ("units",)

    def _mix(self, scores: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.product:
            for part, values in zip(self.parts, scores, strict=True):
                low = values[torch.isfinite(values)]
                if low.numel() and low.min() < 0:
                    raise ScoreError(
                        f"heuristic Combine: how='product' needs scores of 0 or more, but "
                        f"{name_of(part)} gave {float(low.min()):.3g}: use how='sum'"
                    )
        return mixed(scores, self.weights, self.product)


class _CombineScores(Combine, PixelHeuristic):
    """Without `normalize`: a unit's score depends on its own image alone."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return self._mix([pixel_part(part).pixel_scores(seen) for part in self.parts]).float()

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        return self._mix([part.unit_scores(seen, regions, num_regions) for part in self.parts])

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        maps = [pixel_part(part).window_scores(seen, radius) for part in self.parts]
        return self._mix(maps).float()


class _CombineOverPool(Combine, PoolHeuristic):
    """With `normalize`: the scale of each part is that of the whole pool."""

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        columns = [part.unit_scores(seen, regions, num_regions) for part in self.parts]
        names = [f"part{i}" for i in range(len(columns))]
        return {"score": mixed(columns, self.weights), **dict(zip(names, columns, strict=True))}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        columns = [table[f"part{i}"] for i in range(len(self.parts))]
        can = table.open & np.all([column != -np.inf for column in columns], axis=0)
        scaled = [torch.from_numpy(self.scale(column[can])) for column in columns]
        scores = np.full(len(table), -np.inf)
        scores[can] = self._mix(scaled).numpy()
        basket.fill(best_first(scores))


def mixed(
    scores: Sequence[torch.Tensor], weights: Sequence[float], product: bool = False
) -> torch.Tensor:
    """float64: sum of w s, or product of s^w; -inf where any of them is; NaN stays NaN."""
    # Parts that need no model score on the CPU.
    terms = torch.stack([s.to(scores[0].device, torch.float64) for s in scores])
    factors = torch.tensor(weights, dtype=torch.float64, device=terms.device)
    factors = factors.reshape(-1, *[1] * (terms.ndim - 1))
    out = (terms**factors).prod(0) if product else (terms * factors).sum(0)
    return torch.where((terms == -torch.inf).any(0), -torch.inf, out)


def minmax(scores: F64) -> F64:
    """(s - min) / (max - min), in [0, 1]; 0 where all are equal."""
    if not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return np.asarray((scores - low) / ((high - low) or 1.0))


def rank_share(scores: F64) -> F64:
    """Share of the other scores that are lower, ties counting half; 0 for a single one."""
    ordered = np.sort(scores)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    return np.asarray((below + upto - 1) / 2 / max(1, len(scores) - 1))


SCALES: dict[str, Callable[[F64], F64]] = {"minmax": minmax, "rank": rank_share}
