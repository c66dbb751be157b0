"""BADGE: diverse and uncertain units, by the gradient that the predicted label would give."""

from __future__ import annotations

import numpy as np
import torch

from .. import kernels
from ..selection import Basket
from ..selection.diversity import Reach, d2_sampling, from_row, nearest_squared, squared_distances
from ..selection.pool_table import PoolTable
from .base import HEURISTICS, Heuristic, Observation
from .embedding import mean_softmax
from .shortlist import Shortlist


@HEURISTICS.register("BADGE")
class BADGE(Heuristic):
    """k-means++ seeding on gradients of the loss to the predicted labels.

    Source: Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
        ICLR 2020, arXiv 1906.03671.
    Score: g = mean over the unit's pixels of p - onehot(argmax p), the gradient of the
        cross-entropy to the predicted label with respect to the logits. First the longest g, then
        drawn with probability proportional to the squared distance to the nearest pick; uniform
        where all distances are 0. Shown and recorded: the length of g.
    Cost: one pass over the logits; then O(N B C) for N units, B picks and C classes;
        `candidates` (a number, or a share such as '5%', of the open units with the highest
        entropy) bounds N.
    Deviations: gradients with respect to the logits [C], pooled over pixels, not to the last
        layer's weights [C x D]. Labelled units take no part, as in the paper.
    Example: dict(level='region', heuristic=dict(type='BADGE', candidates='10%'))
    """

    levels = ("image", "region")
    windows = False
    pooled = True
    vectors = ("gradient",)

    def __init__(self, candidates: int | str | None = None) -> None:
        self.shortlist = Shortlist("BADGE", candidates)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        shares = stats.class_counts / stats.area[:, None]
        gradient = mean_softmax(seen.logits, regions, num_regions) - shares.float()
        return {
            "score": torch.linalg.vector_norm(gradient, dim=1),
            "entropy": stats.entropy,
            "gradient": gradient,
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        for rows in self.shortlist.lists(basket, table["entropy"]):
            points = table["gradient"][rows].astype(np.float32)
            reach = Reach(basket, rows)
            if basket.taken:
                seeds = table["gradient"][basket.taken].astype(np.float32)
                nearest = nearest_squared(points, seeds)
            else:
                first = int(np.argmax(table["score"][rows]))
                reach.take(first)
                nearest = squared_distances(points, points[first])
            d2_sampling(reach, nearest, from_row(points), rng)
