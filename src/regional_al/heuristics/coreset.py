"""CoreSet: units that are far, in the model's features, from all that is labelled."""

from __future__ import annotations

import numpy as np
import torch

from .. import kernels
from ..selection import Basket
from ..selection.diversity import Reach, from_row, k_centre, nearest_squared, squared_distances
from ..selection.pool_table import PoolTable
from ..types import PredictRequest
from .base import HEURISTICS, Heuristic, Observation
from .embedding import embed
from .shortlist import Shortlist


@HEURISTICS.register("CoreSet")
class CoreSet(Heuristic):
    """Greedy k-centre: always the unit farthest from everything labelled or picked.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
        Approach", ICLR 2018, algorithm 1 (the greedy one), arXiv 1708.00489.
    Score: Euclidean distance to the nearest labelled or picked unit, between mean features. None
        labelled: the first is the one nearest the mean of all. Shown and recorded: mean entropy,
        which decides about `candidates` alone.
    Cost: one pass over the logits; then O(N (L + B) D) for N units, L labelled, B picks and D
        features, without an N x N matrix. Below image level set `candidates` (a number, or a
        share such as '5%', of the open units with the highest entropy) to bound N.
    Deviations: mean softmax where the model offers no features. A unit answered in part is open.
    Example: dict(level='image', heuristic='CoreSet')
    """

    levels = ("image", "region")
    windows = False
    pooled = True
    vectors = ("vector",)
    needs = PredictRequest(features=True)

    def __init__(self, candidates: int | str | None = None) -> None:
        self.shortlist = Shortlist("CoreSet", candidates)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        return {"score": stats.entropy, "vector": embed(seen, regions, num_regions)}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        vectors = table["vector"]
        for rows in self.shortlist.lists(basket, table["score"]):
            points = vectors[rows].astype(np.float32)
            seeds = np.flatnonzero(~table.open).tolist() + basket.taken
            reach = Reach(basket, rows)
            if seeds:
                nearest = nearest_squared(points, vectors[seeds].astype(np.float32))
            else:
                middle = points.mean(axis=0, dtype=np.float64)
                first = int(np.argmin(squared_distances(points, middle)))
                reach.take(first)
                nearest = squared_distances(points, points[first])
            k_centre(reach, nearest, from_row(points))
