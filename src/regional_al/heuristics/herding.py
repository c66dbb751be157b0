"""Units that cover the pool: MaxHerding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..checks import positive
from ..selection import Basket
from ..selection.diversity import Reach, herding, nearest_squared, squared_distances
from ..selection.pool_table import PoolTable
from ..types import F32
from .base import HEURISTICS
from .diversity import EmbeddedUnits, Shortlist


@HEURISTICS.register("MaxHerding")
class MaxHerding(EmbeddedUnits):
    """Always the unit that makes the pool most similar to what is labelled or selected.

    Unlike CoreSet it prefers what is common to what is far away, and is meant for small budgets. As
    `warm_start=dict(heuristic='MaxHerding', ...)` it chooses the first labels by the features of
    the pretrained backbone.

    Args:
        sigma: Bandwidth of the kernel, above 0; features have length 1, so distances are 0 to 2.
        candidates: Keep only so many units with the highest entropy, a number, or a share of the
            open units such as '5%'; None: all. Set it below image level.

    Source:
        Bae, Noh and Sutherland, "Generalized Coverage for More Robust Low-Budget Active Learning",
        ECCV 2024, arXiv 2407.12212.
    Score:
        The sum over units i of max(0, k(i, j) - max_s k(i, s)), s all that are labelled or
        selected, k(x, y) = exp(-|x - y|^2 / sigma^2) on mean features of length 1. Shown and
        recorded: mean entropy, which decides about `candidates` alone.
    Cost:
        One pass over the logits; then O(N^2 D) for N units and D features at first, and less for
        every pick, without an N x N matrix; `candidates` bounds N.
    Deviations:
        Features of the model that is trained, not of a self-supervised one; mean softmax where the
        model returns no features. With `candidates` the sum is over the candidates. A partly
        annotated unit is open.
    Config:
        dict(level='image', heuristic='MaxHerding')
    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import MaxHerding, Observation
        >>> seen, regions = Observation(torch.zeros(2, 1, 4)), torch.tensor([[0, 0, 1, 1]])
        >>> MaxHerding().describe(seen, regions, 2)["vector"].tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """

    def __init__(self, sigma: float = 1.0, candidates: int | str | None = None) -> None:
        self.sigma = positive("heuristic MaxHerding: sigma", sigma)
        self.shortlist = Shortlist("MaxHerding", candidates)

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        for rows in self.shortlist.lists(basket, table["score"]):
            points = unit_length(table.rows("vector", rows))
            seeds = np.flatnonzero(~table.open).tolist() + basket.taken
            covered = np.zeros(len(rows), dtype=np.float32)
            if seeds:
                chosen = unit_length(table.rows("vector", seeds))
                covered = similarity(nearest_squared(points, chosen), self.sigma)
            herding(Reach(basket, rows), covered, similar_to(points, self.sigma))


def unit_length(points: F32) -> F32:
    """Rows of points [n, d] divided by their Euclidean length; rows of zeros stay."""
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    out: F32 = np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0)
    return out


def similarity(squared: F32, sigma: float) -> F32:
    """float32 [n]: exp(-d / sigma^2) of squared distances d."""
    out: F32 = np.exp(squared * np.float32(-1.0 / sigma**2))
    return out


def similar_to(points: F32, sigma: float) -> Callable[[int], F32]:
    """`similarity` of all points [n, d] to the one at a given place."""
    return lambda place: similarity(squared_distances(points, points[place]), sigma)
