"""Stochastic batches: noise on the score, so that a batch is not one thing many times."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .. import kernels
from ..checks import choice, flag, positive
from ..errors import ConfigError
from ..selection import Basket, best_first
from ..selection.pool_table import PoolTable
from ..types import F64, PredictRequest
from .base import HEURISTICS, Heuristic, Observation
from .inner import build_inner, common_levels


@HEURISTICS.register("Stochastic")
class Stochastic(Heuristic):
    """Another heuristic with Gumbel noise on its score, against batches of near-duplicates.

    Source: Kirsch et al., "Stochastic Batch Acquisition: A Simple Baseline for Deep Active
        Learning", TMLR 2023, arXiv 2106.12059.
    Score: e ~ Gumbel(0, 1/beta) for each pixel, window or unit, added to the aggregated score s:
        kind='power' ln s + e (s <= 0: never), 'softmax' s + e, 'rank' -ln r + e, with r = 1, 2, ...
        the rank among all units of the pool without an answer (ties by position). With `per_class`
        ln s - (1 / beta) ln sum s'^beta + e, the sum over the open pixels (window centres) of the
        image with the same predicted class.
    Cost: that of the inner heuristic; 'rank' keeps one number a unit of the pool.
    Deviations: the paper draws images; here also units, and window centres and pixels, of which
        there are so many that the largest noise counts for more. `per_class` is ours.
    Example: dict(level='region', heuristic=dict(type='Stochastic', heuristic='Margin', beta=1.0))

    heuristic: a name or dict(type=...), any that scores each unit by itself. Levels, region types
    and needed predictions are its own; 'rank' is for units of a partition and images alone. The
    noise depends on seed, round and image.

    per_class: every class that is predicted in an image gets an equal share of what is drawn there,
    so that classes that are rare, or certain inside and unsure at their border alone, are not left
    out. For pixels and windows, kind='power'.
    """

    draws = True
    may_be_negative = True

    def __init__(
        self,
        heuristic: str | dict[str, Any],
        kind: str = "power",
        beta: float = 1.0,
        per_class: bool = False,
    ) -> None:
        self.inner = build_inner("heuristic Stochastic: heuristic", heuristic)
        if self.inner.draws:
            raise ConfigError(
                f"heuristic Stochastic: heuristic={type(self.inner).__name__!r} draws at random by "
                "itself, and noise on top would undo that: use it alone"
            )
        self.kind = choice("heuristic Stochastic: kind", kind, ("power", "softmax", "rank"))
        self.scale = 1.0 / positive("heuristic Stochastic: beta", beta)
        self.levels, self.needs = self.inner.levels, self.inner.needs
        self.windows, self.units = self.inner.windows, self.inner.units
        self.pixel_suppress_radius = self.inner.pixel_suppress_radius
        self.column_major = self.inner.column_major
        if kind == "rank":
            where = "heuristic Stochastic: kind='rank'"
            self.levels = common_levels(where, [self.inner], ("image", "region"))
            self.windows, self.pooled = False, True
        self.per_class = flag("heuristic Stochastic: per_class", per_class)
        if self.per_class:
            where = "heuristic Stochastic: per_class=True"
            if kind != "power":
                raise ConfigError(f"{where} draws with kind='power', not {kind!r}: leave kind out")
            self.levels = common_levels(where, [self.inner], ("region", "pixel"))
            self.needs, self.units = self.needs or PredictRequest(), False

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return self._perturb(self.inner.pixel_scores(seen), seen).float()

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        scores = self.inner.unit_scores(seen, regions, num_regions)
        return scores if self.pooled else self._perturb(scores, seen)

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return self._perturb(self.inner.window_scores(seen, radius), seen).float()

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        return {"score": self.inner.unit_scores(seen, regions, num_regions)}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        scores = np.where(table.open, table["score"], -np.inf)
        basket.fill(best_first(soft_ranks(scores, rng.gumbel(0.0, self.scale, len(table)))))

    def _perturb(self, scores: torch.Tensor, seen: Observation) -> torch.Tensor:
        noise = torch.from_numpy(seen.rng.gumbel(0.0, self.scale, tuple(scores.shape)))
        noise = noise.to(scores.device)
        if self.per_class:
            return log_shares(scores, seen, 1.0 / self.scale) + noise
        return perturbed(scores, noise, self.kind)


def perturbed(scores: torch.Tensor, noise: torch.Tensor, kind: str) -> torch.Tensor:
    """float64: ln s + noise (kind 'power'; -inf where s <= 0) or s + noise ('softmax'). NaN stays
    NaN, -inf stays -inf."""
    values = scores.double()
    if kind == "softmax":
        return values + noise
    return torch.where(values <= 0, -torch.inf, values.log() + noise)


def log_shares(scores: torch.Tensor, seen: Observation, beta: float) -> torch.Tensor:
    """float64 [H, W]: ln s - (1 / beta) ln sum s'^beta, the sum over the pixels of the same
    predicted class that have no answer: s^beta of each class sums up to 1.

    NaN stays NaN; -inf for s <= 0, and for all pixels of a class that has no open pixel with a
    score above 0. In logarithms throughout: neither s^beta nor its sum can overflow or vanish.
    """
    logs = scores.double().clamp_min(0.0).log()
    labels = kernels.pixel_stats(seen.logits)[1].long().reshape(-1)
    powers = (beta * logs).nan_to_num(nan=-torch.inf, neginf=-torch.inf).reshape(-1)
    if seen.annotated is not None:
        answered = torch.from_numpy(seen.annotated > 0).to(powers.device).reshape(-1)
        powers = powers.masked_fill(answered, -torch.inf)
    classes = seen.logits.shape[0]
    highest = torch.full((classes,), -torch.inf, dtype=torch.float64, device=powers.device)
    highest.scatter_reduce_(0, labels, powers, "amax")
    sums = torch.zeros(classes, dtype=torch.float64, device=powers.device)
    sums.index_add_(0, labels, (powers - highest.nan_to_num(neginf=0.0)[labels]).exp())
    totals = (highest + sums.log()).nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    shares = logs - (totals / beta)[labels].reshape(logs.shape)
    nothing_open = torch.isneginf(totals)[labels].reshape(logs.shape) & ~logs.isnan()
    # An answered pixel may score above all open ones; it is not asked for, but must stay finite.
    return shares.masked_fill(nothing_open | torch.isneginf(logs), -torch.inf).clamp_max(0.0)


def soft_ranks(scores: F64, noise: F64) -> F64:
    """float64 [n]: -ln r + noise, r = 1 for the best score, ties by position; -inf stays -inf."""
    order = best_first(scores)
    out = np.full(len(scores), -np.inf)
    out[order] = noise[order] - np.log(np.arange(1, len(order) + 1))
    return out
