"""Diverse units, by distances over the whole pool: CoreSet, BADGE, ContextualDiversity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from .. import kernels
from ..checks import integer, percentage
from ..kernels import region_mean
from ..selection import Basket, best_first
from ..selection.diversity import (
    Reach,
    blocks,
    d2_sampling,
    from_row,
    k_centre,
    nearest_squared,
    squared_distances,
)
from ..selection.pool_table import PoolTable
from ..types import F32, I64, Bool, FeatureMap, PredictRequest
from .base import HEURISTICS, Observation, PoolHeuristic

LEAST = 1e-6
"""Smaller probabilities count as this, so that every divergence is finite."""


class EmbeddedUnits(PoolHeuristic):
    """Units by their mean features, 'vector'; the score is the mean entropy, which decides about
    `candidates` alone."""

    vectors = ("vector",)
    needs = PredictRequest(features=True)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        return {"score": stats.entropy, "vector": embed(seen, regions, num_regions)}


@HEURISTICS.register("CoreSet")
class CoreSet(EmbeddedUnits):
    """Greedy k-centre: always the unit farthest from everything labelled or selected.

    Args:
        candidates: Keep only so many units with the highest entropy, a number, or a share of the
            open units such as '5%'; None: all. Set it below image level.

    Source:
        Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
        Approach", ICLR 2018, algorithm 1 (the greedy one), arXiv 1708.00489.
    Score:
        Euclidean distance to the nearest labelled or selected unit, between mean features. None
        labelled: the first is the one nearest the mean of all. Shown and recorded: mean entropy,
        which decides about `candidates` alone.
    Cost:
        One pass over the logits; then O(N (L + B) D) for N units, L labelled, B picks and D
        features, without an N x N matrix; `candidates` bounds N.
    Deviations:
        Mean softmax where the model returns no features. A partly annotated unit is open.
    Config:
        dict(level='image', heuristic='CoreSet')
    Example:
        >>> import torch
        >>> from regional_al.heuristics import CoreSet, Observation
        >>> seen, regions = Observation(torch.zeros(2, 1, 4)), torch.tensor([[0, 0, 1, 1]])
        >>> CoreSet().describe(seen, regions, 2)["vector"].tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """

    def __init__(self, candidates: int | str | None = None) -> None:
        self.shortlist = Shortlist("CoreSet", candidates)

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        for rows in self.shortlist.lists(basket, table["score"]):
            points = table.rows("vector", rows)
            seeds = np.flatnonzero(~table.open).tolist() + basket.taken
            reach = Reach(basket, rows)
            if seeds:
                nearest = nearest_squared(points, table.rows("vector", seeds))
            else:
                middle = points.mean(axis=0, dtype=np.float64)
                first = int(np.argmin(squared_distances(points, middle)))
                reach.take(first)
                nearest = squared_distances(points, points[first])
            k_centre(reach, nearest, from_row(points))


@HEURISTICS.register("BADGE")
class BADGE(PoolHeuristic):
    """k-means++ seeding on gradients of the loss with respect to the predicted labels.

    Args:
        candidates: Keep only so many units with the highest entropy, a number, or a share of the
            open units such as '5%'; None: all. Set it below image level.

    Source:
        Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
        ICLR 2020, arXiv 1906.03671.
    Score:
        g = mean over the unit's pixels of p - onehot(argmax p), the gradient of the cross-entropy
        to the predicted label with respect to the logits. First the longest g, then drawn with
        probability proportional to the squared distance to the nearest pick; uniform where all
        distances are 0. Shown and recorded: the length of g.
    Cost:
        One pass over the logits; then O(N B C) for N units, B picks and C classes; `candidates`
        bounds N.
    Deviations:
        Gradients with respect to the logits [C], pooled over pixels, not to the last layer's
        weights [C x D]. Labelled units are not considered, as in the paper.
    Config:
        dict(level='region', heuristic=dict(type='BADGE', candidates='10%'))
    Example:
        >>> import torch
        >>> from regional_al.heuristics import BADGE, Observation
        >>> seen, regions = Observation(torch.zeros(2, 1, 4)), torch.tensor([[0, 0, 1, 1]])
        >>> BADGE().describe(seen, regions, 2)["gradient"].tolist()
        [[-0.5, 0.5], [-0.5, 0.5]]
    """

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
            points = table.rows("gradient", rows)
            reach = Reach(basket, rows)
            if basket.taken:
                seeds = table.rows("gradient", basket.taken)
                nearest = nearest_squared(points, seeds)
            else:
                first = int(np.argmax(table["score"][rows]))
                reach.take(first)
                nearest = squared_distances(points, points[first])
            d2_sampling(reach, nearest, from_row(points), rng)


@HEURISTICS.register("ContextualDiversity")
class ContextualDiversity(PoolHeuristic):
    """Greedy k-centre on what each predicted class is confused with (CDAL-CS).

    Args:
        candidates: Keep only so many units with the highest entropy, a number, or a share of the
            open units such as '5%'; None: all. Set it below image level.

    Source:
        Agarwal et al., "Contextual Diversity for Active Learning", ECCV 2020, arXiv 2008.05723.
    Score:
        For every class c that is predicted in a unit the mean softmax of the pixels predicted as c,
        weighted by their entropy. Distance of two units: the mean, over the classes that are
        predicted in both, of (KL(P, Q) + KL(Q, P)) / 2. Always the unit farthest from everything
        labelled or selected; equal distances by entropy. None labelled: the first is the one with
        the highest entropy. Shown and recorded: mean entropy.
    Cost:
        C passes over the probabilities; a table of N C^2 numbers; O(N (L + B) K C) for N units, L
        labelled, B picks, K classes predicted in one unit. `candidates` bounds N.
    Deviations:
        Units without a common class are infinitely far apart, so that one which shares no class
        with anything selected comes first; the sum of the paper and the public code make them equal
        (0). A mean over common classes as in the public code, a sum in the paper. Units need not be
        images. Where the entropies of a class are all 0 the mean is unweighted. Probabilities below
        1e-6 count as 1e-6. The first pick is not random.
    Config:
        dict(level='image', heuristic='ContextualDiversity')
    Example:
        >>> import torch
        >>> from regional_al.heuristics import ContextualDiversity, Observation
        >>> seen, regions = Observation(torch.zeros(2, 1, 4)), torch.tensor([[0, 0, 1, 1]])
        >>> ContextualDiversity().describe(seen, regions, 2)["present"].tolist()
        [[True, False], [True, False]]
    """

    vectors = ("mixtures",)

    def __init__(self, candidates: int | str | None = None) -> None:
        self.shortlist = Shortlist("ContextualDiversity", candidates)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        entropy, label = kernels.pixel_stats(seen.logits)
        mixtures = class_mixtures(seen.logits, entropy, label, regions, num_regions)
        present = ~torch.isnan(mixtures[:, :, 0])
        return {
            "score": kernels.region_mean(entropy, regions, num_regions),
            "mixtures": torch.nan_to_num(mixtures, nan=0.0),
            "present": present,
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        for positions in self.shortlist.lists(basket, table["score"]):
            # the first of equal distances is taken: let it be the most uncertain
            rows = positions[np.argsort(-table["score"][positions], kind="stable")]
            mixtures = table.rows("mixtures", rows)
            present = table["present"][rows]
            nearest = np.full(len(rows), np.inf, dtype=np.float32)
            for seed in np.flatnonzero(~table.open).tolist() + basket.taken:
                one, its = table.rows("mixtures", seed), table["present"][seed]
                np.minimum(nearest, divergences(mixtures, present, one, its), out=nearest)
            k_centre(Reach(basket, rows), nearest, divergence_from(mixtures, present))


def class_mixtures(
    logits: torch.Tensor,
    entropy: torch.Tensor,
    label: torch.Tensor,
    regions: torch.Tensor,
    num_regions: int,
) -> torch.Tensor:
    """float32 [R, C, C]: entropy-weighted mean softmax (last axis) of the pixels of each unit that
    are predicted as each class (middle axis); NaN where there is none.

    logits [C, H, W]; entropy float and label int [H, W], of the logits; regions int [H, W].
    """
    classes = logits.shape[0]
    p = torch.softmax(logits.float(), dim=0)
    pair = regions.long() * classes + label
    shape = (num_regions, classes, classes)
    number = num_regions * classes
    sums = [kernels.region_mean(q * entropy, pair, number) for q in p]
    mixtures = torch.stack(sums, dim=1).reshape(shape)
    total = mixtures.sum(dim=2, keepdim=True)
    if (total == 0).any():
        plain = torch.stack([kernels.region_mean(q, pair, number) for q in p], dim=1)
        mixtures = torch.where(total == 0, plain.reshape(shape), mixtures)
    return mixtures / mixtures.sum(dim=2, keepdim=True)


def divergence_from(mixtures: F32, present: Bool) -> Callable[[int], F32]:
    """`divergences` of all units to the one at a given place."""
    return lambda place: divergences(mixtures, present, mixtures[place], present[place])


def divergences(mixtures: F32, present: Bool, one: F32, its: Bool) -> F32:
    """float32 [n]: mean symmetric KL divergence, nats, of each unit to one over the classes that
    both hold; inf where they share none.

    mixtures float32 [n, C, C] and present bool [n, C]; one float32 [C, C] and its bool [C].
    """
    out = np.full(len(mixtures), np.inf, dtype=np.float32)
    held = np.flatnonzero(its)
    q = np.maximum(one[held], np.float32(LEAST))
    log_q = np.log(q)
    sharing = np.flatnonzero(present[:, held].any(axis=1))
    for block in blocks(len(sharing), len(held) * mixtures.shape[2]):
        rows = sharing[block]
        both = present[np.ix_(rows, held)]
        p = np.maximum(mixtures[np.ix_(rows, held)], np.float32(LEAST))
        each = 0.5 * ((p - q) * (np.log(p) - log_q)).sum(axis=2)
        out[rows] = (each * both).sum(axis=1) / both.sum(axis=1)
    return out


class Shortlist:
    """Keeps the units with the highest entropy before a step that costs units x picks x features.

    candidates: None, all of them; a whole number >= 1; or a share of the open units as text, such
    as '5%'. heuristic: the name, for messages. Raises ConfigError.
    """

    def __init__(self, heuristic: str, candidates: Any) -> None:
        where = f"heuristic {heuristic}: candidates"
        self.amount: int | Fraction | None = None
        if isinstance(candidates, str):
            self.amount = percentage(where, candidates)
        elif candidates is not None:
            self.amount = integer(where, candidates, 1)

    def count(self, units: int) -> int:
        """How many of so many open units are kept, at least 1."""
        if isinstance(self.amount, Fraction):
            return max(1, int(self.amount * units))
        return units if self.amount is None else self.amount

    def lists(self, basket: Basket, entropy: Any) -> Iterator[I64]:
        """Positions to choose among, ascending, all affordable; another list of what is left as
        long as the budget is not spent. The consumer takes one or more of each list."""
        size = self.count(int(basket.affordable.sum()))
        while True:
            best = best_first(np.where(basket.affordable, entropy, -np.inf))
            if not len(best):
                return
            yield np.sort(best[:size])


def embed(seen: Observation, regions: torch.Tensor, num_regions: int) -> torch.Tensor:
    """float32 [R, D]: mean feature of each unit's pixels, features repeated up to image size
    (nearest neighbour); without features (sliding windows, heads without a classifier to hook)
    mean softmax, D = C. Rows of empty units are NaN. regions: int [H, W]."""
    if seen.features is None:
        return mean_softmax(seen.logits, regions, num_regions)
    return region_features(seen.features, regions, num_regions)


def mean_softmax(logits: torch.Tensor, regions: torch.Tensor, num_regions: int) -> torch.Tensor:
    """float32 [R, C]: mean class probabilities of each unit; logits [C, H, W]."""
    p = torch.softmax(logits.float(), dim=0)
    return torch.stack([region_mean(channel, regions, num_regions) for channel in p], dim=1)


def region_features(
    features: torch.Tensor | FeatureMap, regions: torch.Tensor, num_regions: int
) -> torch.Tensor:
    """float32 [R, D] from features (see `Observation.features`): exactly the mean over a unit's
    pixels of the feature under each, without ever making [D, H, W]: units x cells are counted,
    then multiplied."""
    found = FeatureMap.of(features, (regions.shape[0], regions.shape[1]))
    values, cell = found.values, found.cells.to(regions.device)
    depth, h, w = values.shape
    pair = regions.long().reshape(-1) * (h * w) + cell.reshape(-1)
    pairs, counts = torch.unique(pair, return_counts=True)
    index = torch.stack([torch.div(pairs, h * w, rounding_mode="floor"), pairs % (h * w)])
    weights = torch.sparse_coo_tensor(
        index, counts.float(), (num_regions, h * w), check_invariants=False
    )
    sums: torch.Tensor = torch.sparse.mm(weights, values.float().reshape(depth, -1).T.contiguous())
    area = torch.bincount(regions.reshape(-1).long(), minlength=num_regions)
    return sums / area[:, None].float()
