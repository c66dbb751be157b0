"""Mixtures: several heuristics as one, by a weighted sum or product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..checks import choice, positive, typed
from ..errors import ConfigError, ScoreError
from ..selection import Basket, best_first
from ..selection.pool_table import PoolTable
from ..types import F64
from .base import HEURISTICS, Heuristic, Observation
from .inner import build_inner, common_levels, joint_needs


@HEURISTICS.register("Combine")
class Combine(Heuristic):
    """Several heuristics together, by a weighted sum or product of their scores.

    Source: a common device; RIPU itself is a product of two scores.
    Score: how='sum': sum_i w_i s_i; how='product': prod_i s_i^w_i, of the parts' own scores of the
        pixel, window or unit. With `normalize` the s_i of all units of the pool without an answer
        are first put on one scale: 'minmax' (s - min) / (max - min), all equal: 0; 'rank' the share
        of the other units that score less, ties counting half.
    Cost: the sum of the parts'; `normalize` keeps one number a part and unit of the pool.
    Deviations: beside a part with dropout passes, the others see the first of these passes.
    Example: dict(level='region', heuristic=dict(type='Combine', how='product', parts=[
        dict(type='RIPU', weight=2.0), dict(type='BvSB')]))

    parts: list of dict(type=..., weight=1.0, ...), each one that scores a unit by itself; weights
    above 0. It works where all parts do; with `normalize`, on units of a partition and images
    alone. One part at most may need several predictions of an image (BALD, EquAL). A unit that any
    part refuses (-inf) is not asked for.
    """

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
        negative = [type(part).__name__ for part in self.parts if part.may_be_negative]
        if self.product and normalize is None and negative:
            raise ConfigError(
                f"{where}: how='product' needs scores of 0 or more, but those of {negative[0]} may "
                "be negative: use how='sum'"
            )
        self.may_be_negative = bool(negative)
        self.levels = common_levels(where, self.parts)
        self.needs = joint_needs(where, self.parts)
        self.windows = all(part.windows for part in self.parts)
        self.units = all(part.units for part in self.parts)
        self.pixel_suppress_radius = max(part.pixel_suppress_radius for part in self.parts)
        self.column_major = any(part.column_major for part in self.parts)
        self.scale = None
        if normalize is not None:
            self.scale = SCALES[choice(f"{where}: normalize", normalize, tuple(SCALES))]
            self.levels = common_levels(
                f"{where}: normalize={normalize!r}", self.parts, ("image", "region")
            )
            self.pooled, self.windows = True, False

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return self._mix([part.pixel_scores(seen) for part in self.parts]).float()

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        return self._mix([part.unit_scores(seen, regions, num_regions) for part in self.parts])

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return self._mix([part.window_scores(seen, radius) for part in self.parts]).float()

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        columns = [part.unit_scores(seen, regions, num_regions) for part in self.parts]
        names = [f"part{i}" for i in range(len(columns))]
        return {"score": mixed(columns, self.weights), **dict(zip(names, columns, strict=True))}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        assert self.scale is not None
        columns = [table[f"part{i}"] for i in range(len(self.parts))]
        can = table.open & np.all([column != -np.inf for column in columns], axis=0)
        scaled = [torch.from_numpy(self.scale(column[can])) for column in columns]
        scores = np.full(len(table), -np.inf)
        scores[can] = self._mix(scaled).numpy()
        basket.fill(best_first(scores))

    def _mix(self, scores: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.product:
            for part, values in zip(self.parts, scores, strict=True):
                low = values[torch.isfinite(values)]
                if low.numel() and low.min() < 0:
                    raise ScoreError(
                        f"heuristic Combine: how='product' needs scores of 0 or more, but "
                        f"{type(part).__name__} gave {float(low.min()):.3g}: use how='sum'"
                    )
        return mixed(scores, self.weights, self.product)


def mixed(
    scores: Sequence[torch.Tensor], weights: Sequence[float], product: bool = False
) -> torch.Tensor:
    """float64: sum of w s, or product of s^w; -inf where any of them is; NaN stays NaN."""
    terms = torch.stack([s.double() for s in scores])
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
