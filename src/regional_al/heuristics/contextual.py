"""ContextualDiversity: units whose classes are confused in other ways than in what is labelled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .. import kernels
from ..selection import Basket
from ..selection.diversity import Reach, blocks, k_centre
from ..selection.pool_table import PoolTable
from ..types import F32, Bool
from .base import HEURISTICS, Heuristic, Observation
from .shortlist import Shortlist

LEAST = 1e-6
"""Smaller probabilities count as this, so that every divergence is finite (also in float16)."""


@HEURISTICS.register("ContextualDiversity")
class ContextualDiversity(Heuristic):
    """Greedy k-centre on what each predicted class is confused with (CDAL-CS).

    Source: Agarwal et al., "Contextual Diversity for Active Learning", ECCV 2020,
        arXiv 2008.05723.
    Score: for every class c that is predicted in a unit the mean softmax of the pixels predicted
        as c, weighted by their entropy. Distance of two units: the mean, over the classes that
        are predicted in both, of (KL(P, Q) + KL(Q, P)) / 2. Always the unit farthest from
        everything labelled or picked; equal distances by entropy. None labelled: the first is the
        one with the highest entropy. Shown and recorded: mean entropy.
    Cost: C passes over the probabilities; a table of N C^2 numbers; O(N (L + B) K C) for N units,
        L labelled, B picks, K classes predicted in one unit. `candidates` (a number, or a share
        such as '5%', of the open units with the highest entropy) bounds N: set it below image
        level.
    Deviations: units without a common class are infinitely far apart, so that one which shares no
        class with anything chosen comes first; the sum of the paper and the public code make them
        equal (0). A mean over common classes as in the public code, a sum in the paper. Units
        need not be images. Where the entropies of a class are all 0 the mean is unweighted.
        Probabilities below 1e-6 count as 1e-6. The first pick is not random.
    Example: dict(level='image', heuristic='ContextualDiversity')
    """

    levels = ("image", "region")
    windows = False
    pooled = True
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
            mixtures = table["mixtures"][rows].astype(np.float32)
            present = table["present"][rows]
            nearest = np.full(len(rows), np.inf, dtype=np.float32)
            for seed in np.flatnonzero(~table.open).tolist() + basket.taken:
                one, its = table["mixtures"][seed].astype(np.float32), table["present"][seed]
                np.minimum(nearest, divergences(mixtures, present, one, its), out=nearest)
            k_centre(Reach(basket, rows), nearest, from_row(mixtures, present))


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


def from_row(mixtures: F32, present: Bool) -> Callable[[int], F32]:
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
