"""ClassBalance: uncertain superpixels of classes that are predicted seldom."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .. import functional, kernels
from ..selection import Basket, best_first
from ..selection.pool_table import PoolTable
from ..types import I64, Bool
from .base import HEURISTICS, Heuristic, Observation

Floats = npt.NDArray[np.float64]


@HEURISTICS.register("ClassBalance")
class ClassBalance(Heuristic):
    """Best-versus-second-best of superpixels, weighted towards classes that are predicted seldom.

    Source: Cai et al., "Revisiting Superpixels for Active Learning in Semantic Segmentation with
        Realistic Annotation Costs", CVPR 2021. Published with one click a superpixel: use
        annotator=dict(type='oracle', answer='dominant') and a budget in clicks.
    Score: exp(-share of D) * m, where D is the majority predicted class of the region, its share
        that of the open regions with the same D, and m the mean of p2 / p1 over the region, scaled
        to 0..1 over the open regions. Shown and recorded: the mean of p2 / p1.
    Cost: two passes over the logits; then O(N log N) for N regions.
    Deviations: labelled regions are left out (the public code scores them 0, so that they can be
        asked again). A region with some pixels answered is open. Where all open regions have the
        same mean, m is 1, so that the weight decides.
    Example: dict(level='region', heuristic='ClassBalance', budget=dict(amount=500, unit='click'),
        annotator=dict(type='oracle', answer='dominant'))
    """

    levels = ("region",)
    windows = False
    pooled = True

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        bvsb = functional.bvsb(seen.logits)
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        return {
            "score": kernels.region_mean(bvsb, regions, num_regions),
            "majority": stats.dominant,
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        scores = balanced(table["score"], table["majority"], table.open)
        basket.fill(best_first(scores))


def balanced(uncertainty: npt.ArrayLike, majority: I64, open_: Bool) -> Floats:
    """float64 [n]: class-balanced scores of the open units, -inf for the others.

    uncertainty: float [n]; majority: int [n], predicted majority class; open_: bool [n].
    """
    out = np.full(len(majority), -np.inf)
    if not open_.any():
        return out
    values = np.asarray(uncertainty, dtype=np.float64)[open_]
    low, span = values.min(), np.ptp(values)
    scaled = (values - low) / span if span > 0 else np.ones_like(values)
    counts = np.bincount(majority[open_])
    weight = np.exp(-counts / counts.sum())
    out[open_] = weight[majority[open_]] * scaled
    return out
