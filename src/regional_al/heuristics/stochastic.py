"""Stochastic batches: noise on the score, so that a batch is not one thing many times."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from .. import kernels
from ..checks import choice, flag, positive
from ..errors import ConfigError, UnsupportedError
from ..selection import Basket, best_first
from ..selection.pool_table import PoolTable
from ..types import F64, PredictRequest
from .base import HEURISTICS, Heuristic, Observation, PixelHeuristic, PoolHeuristic
from .combine import build_inner, common_levels, name_of, pixel_part


@HEURISTICS.register("Stochastic")
class Stochastic(Heuristic):
    """Another heuristic with Gumbel noise on its score, against batches of near-duplicates.

    Levels, region types and needed predictions are those of the inner heuristic; kind='rank' is for
    units of a partition and images alone. The noise depends on seed, round and image. With
    `per_class`, classes that are rare, or certain inside and uncertain only at their border, are
    not left out.

    Args:
        heuristic: A name or dict(type=...), any that scores each unit by itself and does not draw
            at random already, as PixelPick does.
        kind: 'power', 'softmax' or 'rank'.
        beta: Inverse scale of the noise, above 0.
        per_class: Every class that is predicted in an image gets an equal share of what is drawn
            there. For pixels and windows, kind='power'.

    Source:
        Kirsch et al., "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning",
        TMLR 2023, arXiv 2106.12059.
    Score:
        e ~ Gumbel(0, 1/beta) for each pixel, window or unit, added to the aggregated score s:
        kind='power' ln s + e (s <= 0: never), 'softmax' s + e, 'rank' -ln r + e, with r = 1, 2, ...
        the rank among all units of the pool without a label (ties by position). With `per_class`
        ln s - (1 / beta) ln sum s'^beta + e, the sum over the open pixels (window centres) of the
        image with the same predicted class; -inf in a class without any.
    Cost:
        That of the inner heuristic; 'rank' keeps one number per unit of the pool.
    Deviations:
        The paper draws images; here also units, and window centres and pixels, of which there are
        so many that the largest noise counts for more. `per_class` is ours.
    Config:
        dict(level='region', heuristic=dict(type='Stochastic', heuristic='Margin', beta=1.0))
    Raises:
        ConfigError: An argument is unknown or out of range.

    Example:
        >>> import numpy as np, torch
        >>> from regional_al.heuristics import Observation, Stochastic
        >>> noisy = Stochastic("Margin", kind="softmax", beta=1e9)  # hardly any noise
        >>> seen = Observation(torch.zeros(2, 1, 1), np.random.default_rng(0))
        >>> round(noisy.pixel_scores(seen).item(), 6)
        1.0
    """

    draws = True
    may_be_negative = True
    _argument: ClassVar[str] = ": per_class=True"
    """What asks for equal shares, in errors."""

    def __new__(
        cls,
        heuristic: str | dict[str, Any],
        kind: str = "power",
        beta: float = 1.0,
        per_class: bool = False,
    ) -> Stochastic:
        """One that adds noise to scores, or, for kind='rank', one that ranks over the pool."""
        return super().__new__(_StochasticRanks if kind == "rank" else _StochasticScores)

    def __init__(
        self,
        heuristic: str | dict[str, Any],
        kind: str = "power",
        beta: float = 1.0,
        per_class: bool = False,
    ) -> None:
        name = name_of(self)
        self.inner = build_inner(f"heuristic {name}: heuristic", heuristic)
        if self.inner.draws:
            raise UnsupportedError(
                f"heuristic {name}: heuristic={name_of(self.inner)!r} draws at random by "
                f"itself, which noise on its scores would undo: use it without {name}"
            )
        self.kind = choice(f"heuristic {name}: kind", kind, ("power", "softmax", "rank"))
        self.scale = 1.0 / positive(f"heuristic {name}: beta", beta)
        self.levels, self.regions = self.inner.levels, self.inner.regions
        self.needs, self.needs_prelabels = self.inner.needs, self.inner.needs_prelabels
        self.pixel_suppress_radius = self.inner.pixel_suppress_radius
        self.column_major = self.inner.column_major
        if kind == "rank":
            where = "heuristic Stochastic: kind='rank'"
            self.levels = common_levels(where, [self.inner], ("image", "region"))
            self.regions = ("units",)
        self.per_class = flag(f"heuristic {name}: per_class", per_class)
        if self.per_class:
            where = f"heuristic {name}{self._argument}"
            if kind != "power":
                raise ConfigError(f"{where} draws with kind='power', not {kind!r}: leave kind out")
            self.levels = common_levels(where, [self.inner], ("region", "pixel"))
            self.needs, self.regions = self.needs or PredictRequest(), ("windows",)


class _StochasticScores(Stochastic, PixelHeuristic):
    """kind='power' or 'softmax': the noise is added to scores."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return self._perturb(pixel_part(self.inner).pixel_scores(seen), seen).float()

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        return self._perturb(self.inner.unit_scores(seen, regions, num_regions), seen)

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return self._perturb(pixel_part(self.inner).window_scores(seen, radius), seen).float()

    def _perturb(self, scores: torch.Tensor, seen: Observation) -> torch.Tensor:
        noise = seen.rng.gumbel(0.0, self.scale, tuple(scores.shape))
        added = torch.from_numpy(noise).to(scores.device)
        if self.per_class:
            return log_shares(scores, seen, 1.0 / self.scale) + added
        return perturbed(scores, added, self.kind)


@HEURISTICS.register("ByClass")
class ByClass(_StochasticScores):
    """Equal shares for every predicted class, drawn by another heuristic's score.

    The best way to choose windows that was measured here (docs/results.md). The draw depends on
    seed, round and image. It is `Stochastic` with kind='power' and per_class=True.

    Args:
        heuristic: A name or dict(type=...), any that scores windows or pixels and does not draw at
            random already.
        beta: The larger, the closer a draw is to the best of its class; above 0.

    Source:
        This project; the noise is that of Kirsch et al., "Stochastic Batch Acquisition: A Simple
        Baseline for Deep Active Learning", TMLR 2023, arXiv 2106.12059.
    Score:
        ln s - (1 / beta) ln sum s'^beta + e, e ~ Gumbel(0, 1/beta), the sum over the open pixels
        (window centres) of the image with the same predicted class; -inf in a class without any.
    Cost:
        That of the inner heuristic.
    Deviations:
        None; there is no published version.
    Config:
        dict(level='region', region='window', heuristic='ByClass')
    Raises:
        ConfigError: An argument is unknown or out of range.

    Example:
        >>> import numpy as np, torch
        >>> from regional_al.heuristics import ByClass, Observation
        >>> logits = torch.tensor([[[2.0, 1.0, 1.0]], [[1.0, 1.5, 1.2]]])
        >>> drawn = ByClass("Margin", beta=1e9)  # no noise: the best of each class is at 0
        >>> scores = drawn.pixel_scores(Observation(logits, np.random.default_rng(0)))
        >>> [round(score, 3) + 0.0 for score in scores[0].tolist()]
        [0.0, -0.176, 0.0]
    """

    _argument = ""

    def __new__(cls, heuristic: str | dict[str, Any] = "RIPU", beta: float = 2.0) -> ByClass:
        """An instance, whatever the inner heuristic is."""
        return Heuristic.__new__(cls)

    def __init__(self, heuristic: str | dict[str, Any] = "RIPU", beta: float = 2.0) -> None:
        super().__init__(heuristic, "power", beta, per_class=True)


class _StochasticRanks(Stochastic, PoolHeuristic):
    """kind='rank': the noise is added to ranks among all units of the pool."""

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        return {"score": self.inner.unit_scores(seen, regions, num_regions)}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        scores = np.where(table.open, table["score"], -np.inf)
        basket.fill(best_first(soft_ranks(scores, rng.gumbel(0.0, self.scale, len(table)))))


def perturbed(scores: torch.Tensor, noise: torch.Tensor, kind: str) -> torch.Tensor:
    """float64: ln s + noise (kind 'power'; -inf where s <= 0) or s + noise ('softmax'). NaN stays
    NaN, -inf stays -inf."""
    values = scores.double()
    if kind == "softmax":
        return values + noise
    return torch.where(values <= 0, -torch.inf, values.log() + noise)


def log_shares(scores: torch.Tensor, seen: Observation, beta: float) -> torch.Tensor:
    """float64 [H, W]: ln s - (1 / beta) ln(sum s'^beta), the sum over the pixels of the same
    predicted class without an answer, so that s^beta of each class adds up to 1.

    Logarithms throughout: no power over- or underflows, whatever beta. -inf where s <= 0 and in
    classes without an open pixel of positive score; NaN stays NaN.
    """
    logs = scores.double().clamp_min(0.0).log().reshape(-1)
    labels = kernels.pixel_stats(seen.logits)[1].long().reshape(-1)
    counted = torch.isfinite(logs)
    if seen.annotated is not None:
        counted &= torch.from_numpy(seen.annotated == 0).to(logs.device).reshape(-1)
    of, terms = labels[counted], beta * logs[counted]
    none = torch.full((seen.logits.shape[0],), -torch.inf, dtype=torch.float64, device=logs.device)
    largest = none.scatter_reduce(0, of, terms, "amax")
    sums = torch.zeros_like(none).index_add_(0, of, torch.exp(terms - largest[of]))
    total = (largest + sums.log()) / beta  # -inf for a class without anything open
    shares = torch.where(torch.isneginf(total[labels]), -torch.inf, logs - total[labels])
    return torch.where(torch.isnan(logs), logs, shares).reshape(scores.shape)


def soft_ranks(scores: F64, noise: F64) -> F64:
    """float64 [n]: -ln r + noise, r = 1 for the best score, ties by position; -inf stays -inf."""
    order = best_first(scores)
    out = np.full(len(scores), -np.inf)
    out[order] = noise[order] - np.log(np.arange(1, len(order) + 1))
    return out
