"""ClassAwareRandom: random, with every predicted class getting the same share."""

from __future__ import annotations

import numpy as np
import torch

from .. import kernels
from ..selection import Basket, best_first
from ..selection.diversity import in_turns
from ..selection.pool_table import PoolTable
from ..types import U8
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("ClassAwareRandom")
class ClassAwareRandom(Heuristic):
    """Random, stratified by predicted class: every class that is predicted gets an equal share.

    Source: a baseline, no published method; by *predicted* class, so that the ground truth is not
        looked at.
    Score: units of a partition and images: uniform in [0, 1). Over the pool, predicted majority
        classes take turns, the one with least spent so far is next, and each takes its unit with
        the highest number. Pixels and windows: n ln u, u uniform and n the number of open pixels
        of the image with the same predicted class: drawing without replacement with weight 1 / n
        (exponential keys, Efraimidis and Spirakis 2006), per image.
    Cost: one pass over the logits; then O(N log N) for N units.
    Deviations: shares are of the budget in its own unit, so that pixels are shared evenly where
        units differ in size. Pixels and windows are stratified within each image, windows by the
        class of their centre.
    Example: dict(level='pixel', heuristic='ClassAwareRandom')
    """

    pooled = True

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        classes = seen.logits.shape[0]
        labels = kernels.pixel_stats(seen.logits)[1]
        counts = open_counts(labels, classes, seen.annotated)
        drawn = 1.0 - seen.rng.random(tuple(labels.shape))  # in (0, 1]
        keys = torch.from_numpy(np.log(drawn)).to(labels.device)
        return (keys * counts[labels].double()).float()

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return self.pixel_scores(seen)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        drawn = torch.from_numpy(seen.rng.random(num_regions)).to(stats.area.device)
        score = drawn.masked_fill(stats.area == 0, float("nan"))
        return {"score": score, "majority": stats.dominant}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        classes = np.unique(table["majority"][basket.affordable])
        order = best_first(table["score"])
        of_class = table["majority"][order]
        in_turns(basket, [order[of_class == c] for c in rng.permutation(classes)])


def open_counts(labels: torch.Tensor, num_classes: int, annotated: U8 | None) -> torch.Tensor:
    """int64 [C]: pixels of each predicted class that have no answer yet; labels int [H, W]."""
    chosen = labels.reshape(-1)
    if annotated is not None:
        chosen = labels[torch.from_numpy(annotated == 0).to(labels.device)]
    return torch.bincount(chosen, minlength=num_classes)
