"""Representative first, then uncertain: EDALD."""

from __future__ import annotations

import numpy as np
import torch

from .. import functional
from ..checks import integer, within
from ..kernels import region_mean
from ..selection import Basket, best_first
from ..selection.pool_table import PoolTable
from ..types import F32, I64, PredictRequest
from .base import HEURISTICS, Observation
from .diversity import embed
from .herding import SAMPLE, HerdedPixels, drawn, representatives

PART = 2048
"""Units among which representatives of the pool are chosen at a time."""


@HEURISTICS.register("EDALD")
class EDALD(HerdedPixels):
    """Pixels or regions that represent the pool; of these, the ones that the model is unsure of.

    Args:
        passes: Number T of predictions, made with dropout layers switched on; a model without any
            is refused.
        per_image: So many pixels or regions of each image are candidates.
        keep: Share of the candidates of the pool that are ranked, above 0, at most 1.
        sigma: Bandwidth of the kernel of `MaxHerding`, above 0.

    Source:
        Kim et al., "Diffusion-Driven Two-Stage Active Learning for Low-Budget Semantic
        Segmentation", NeurIPS 2025, arXiv 2510.22229.
    Score:
        First `MaxHerding` takes `per_image` candidates in each image, then the share `keep` of
        the candidates of the pool. These are ranked by H[mean_t p_t] + BALD = 2 H[mean_t p_t] -
        mean_t H[p_t] of a pixel over T predictions, in nats, 0..2 ln C; mean over a region or
        image. What they leave of the budget goes to the other candidates, then to other regions.
        Shown and recorded: that sum.
    Cost:
        That of `BALD`; O(1024^2 D) for each image, and O(2048 N D) for N candidates and D features.
    Deviations:
        Features and passes are those of the model that is trained (features of its first pass),
        those of the paper come from a diffusion model with noise on its input. Representatives are
        chosen among 1,024 pixels or regions that are drawn in each image, and among 2,048
        candidates of the pool at a time: of more, the same share is kept in each of several equal
        parts that all reach over the whole pool. Of labelled pixels 256 an image count. Regions and
        images, too.
    Config:
        dict(level='pixel', heuristic='EDALD')
    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import EDALD, Observation
        >>> first = torch.tensor([[[9.0]], [[-9.0]]])
        >>> seen = Observation(first, more=iter([-first]))
        >>> round(EDALD(passes=2).pixel_scores(seen).item(), 3)
        1.386
    """

    def __init__(
        self, passes: int = 10, per_image: int = 50, keep: float = 0.5, sigma: float = 1.0
    ) -> None:
        super().__init__("EDALD", sigma, per_image)
        passes = integer("heuristic EDALD: passes", passes, 2)
        self.needs = PredictRequest(passes=passes, features=True)
        self.keep = within("heuristic EDALD: keep", keep, 1e-6, 1)

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.edald(seen.views())

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        return {
            "score": region_mean(self.pixel_scores(seen), regions, num_regions),
            "vector": embed(seen, regions, num_regions),
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        open_ = np.flatnonzero(basket.affordable)
        candidates = of_images(table, open_, self.per_image, self.sigma, rng)
        kept = of_pool(table, candidates, self.keep, self.sigma)
        for rows in (kept, candidates, open_):
            basket.fill(rows[best_first(table["score"][rows])])


def of_images(
    table: PoolTable, rows: I64, count: int, sigma: float, rng: np.random.Generator
) -> I64:
    """int64 [m], ascending: up to `count` of the given rows of each image that represent it, by
    their similarity to the others and to what is labelled there."""
    image, open_ = table.image, table.open
    found = [rows[:0]]
    for own in np.split(rows, np.flatnonzero(np.diff(image[rows])) + 1):
        if len(own) <= count:
            found.append(own)
            continue
        sample = drawn(own, max(SAMPLE, count), rng)
        first, last = np.searchsorted(image, image[own[0]] + np.array([0, 1]))
        labelled = np.flatnonzero(~open_[first:last]) + first
        vectors, chosen = table.rows("vector", sample), table.rows("vector", labelled)
        found.append(sample[representatives(vectors, chosen, count, sigma)])
    return np.concatenate(found)


def of_pool(table: PoolTable, rows: I64, keep: float, sigma: float) -> I64:
    """int64 [m], ascending: the share `keep` of the given rows, at least one, that represents all
    of them. More than PART rows are dealt out to equal parts, each of which keeps its share."""
    parts = -(-len(rows) // PART)
    chosen: F32 = table.rows("vector", np.flatnonzero(~table.open))
    found = [rows[:0]]
    for part in (rows[first::parts] for first in range(parts)):
        count = max(1, int(keep * len(part)))
        vectors = table.rows("vector", part)
        found.append(part[representatives(vectors, chosen, count, sigma)])
    return np.sort(np.concatenate(found))
