"""Units and pixels that cover the pool: MaxHerding."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch

from .. import functional
from ..checks import integer, positive
from ..selection import Basket
from ..selection.diversity import Reach, herding, nearest_squared, squared_distances
from ..selection.pool_table import PoolTable
from ..types import F32, I64
from .base import HEURISTICS, Observation, PixelHeuristic, pixel_units
from .diversity import EmbeddedUnits, Shortlist, embed

SAMPLE = 1024
"""Pixels or units of an image among which its representatives are chosen."""
LABELLED = 256
"""Labelled pixels of an image, at most, from which similarities are measured."""


class HerdedPixels(PixelHeuristic, EmbeddedUnits):
    """At level 'pixel' the candidates of an image are its representatives by MaxHerding.

    sigma, per_image: see `MaxHerding`. name: for messages. Raises ConfigError.
    """

    regions = ("units",)

    def __init__(self, name: str, sigma: float, per_image: int) -> None:
        self.sigma = positive(f"heuristic {name}: sigma", sigma)
        self.per_image = integer(f"heuristic {name}: per_image", per_image, 1)

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.entropy(seen.logits)

    def propose_pixels(self, seen: Observation) -> I64:
        """See `ProposesPixels`."""
        return propose(seen, self.per_image, self.sigma)


@HEURISTICS.register("MaxHerding")
class MaxHerding(HerdedPixels):
    """Always the unit that makes the pool most similar to what is labelled or selected.

    Unlike CoreSet it prefers what is common to what is far away, and is meant for small budgets. As
    `warm_start=dict(heuristic='MaxHerding', ...)` it chooses the first labels by the features of
    the pretrained backbone.

    Args:
        sigma: Bandwidth of the kernel, above 0; features have length 1, so distances are 0 to 2.
        candidates: Keep only so many units with the highest entropy, a number, or a share of the
            open units such as '5%'; None: all. Set it below image level.
        per_image: At pixel level so many pixels of each image are compared with those of others.

    Source:
        Bae, Noh and Sutherland, "Generalized Coverage for More Robust Low-Budget Active Learning",
        ECCV 2024, arXiv 2407.12212. Pixels of each image first, as in Kim et al., "Diffusion-Driven
        Two-Stage Active Learning for Low-Budget Semantic Segmentation", NeurIPS 2025, arXiv
        2510.22229.
    Score:
        The sum over units i of max(0, k(i, j) - max_s k(i, s)), s all that are labelled or
        selected, k(x, y) = exp(-|x - y|^2 / sigma^2) on mean features of length 1. Pixels: the
        `per_image` best of each image by the sum over that image, then over these of all images.
        Shown and recorded: mean entropy, which decides about `candidates` alone.
    Cost:
        One pass over the logits; then O(N^2 D) for N units and D features at first, and less for
        every pick, without an N x N matrix; `candidates` bounds N. Pixels: O(1024^2 D) for each
        image before that.
    Deviations:
        Features of the model that is trained, not of a self-supervised one; mean softmax where the
        model returns no features. With `candidates` the sum is over the candidates. A partly
        annotated unit is open. The `per_image` pixels are chosen among 1,024 that are drawn from
        the open ones of the image; of its labelled pixels 256 count, drawn as well.
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

    def __init__(
        self, sigma: float = 1.0, candidates: int | str | None = None, per_image: int = 50
    ) -> None:
        super().__init__("MaxHerding", sigma, per_image)
        self.shortlist = Shortlist("MaxHerding", candidates)

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        labelled = np.flatnonzero(~table.open).tolist()
        for rows in self.shortlist.lists(basket, table["score"]):
            seeds = np.array(labelled + basket.taken, dtype=np.int64)
            points, chosen = table.rows("vector", rows), table.rows("vector", seeds)
            herd(basket, rows, points, chosen, self.sigma)


def propose(seen: Observation, count: int, sigma: float) -> I64:
    """int64 [m], ascending row-major positions in an image: up to `count` open pixels that
    represent it, and the labelled ones (up to LABELLED) that they add to."""
    answered = np.zeros(seen.logits[0].numel(), dtype=bool)
    if seen.annotated is not None:
        answered = seen.annotated.ravel() > 0
    open_ = drawn(np.flatnonzero(~answered), max(SAMPLE, count), seen.rng)
    labelled = drawn(np.flatnonzero(answered), LABELLED, seen.rng)
    pixels = np.concatenate([open_, labelled])
    units = pixel_units(pixels, seen)
    vectors = embed(seen, units, len(pixels) + 1)[:-1].cpu().numpy()
    found = representatives(vectors[: len(open_)], vectors[len(open_) :], count, sigma)
    return np.sort(np.concatenate([open_[found], labelled]))


def drawn(positions: I64, count: int, rng: np.random.Generator) -> I64:
    """`count` of these positions, ascending, drawn without replacement; all if they are fewer."""
    if len(positions) <= count:
        return positions
    return np.sort(rng.choice(positions, count, replace=False, shuffle=False))


def representatives(points: F32, chosen: F32, count: int, sigma: float) -> I64:
    """int64 [count], ascending: the rows of points [n, d] that herding takes first, all of them if
    they are fewer. chosen [s, d]: what is labelled. All n^2 similarities are kept."""
    if len(points) <= count:
        return np.arange(len(points))
    every = np.ones(len(points), dtype=np.int64)
    basket = Basket(every, every, count)
    herd(basket, np.arange(len(points)), points, chosen, sigma, remember=True)
    return np.sort(basket.taken)


def herd(
    basket: Basket, rows: I64, points: F32, chosen: F32, sigma: float, remember: bool = False
) -> None:
    """Take rows into the basket by `herding`, on features of any length.

    rows: int64 [n], positions in the basket; points: float32 [n, d], their features; chosen:
    float32 [s, d], those of what is labelled or selected already; remember: compute each similarity
    once, which takes 4 n^2 bytes.
    """
    points = unit_length(points)
    covered = np.zeros(len(rows), dtype=np.float32)
    if len(chosen):
        covered = similarity(nearest_squared(points, unit_length(chosen)), sigma)
    to = similar_to(points, sigma)
    herding(Reach(basket, rows), covered, functools.cache(to) if remember else to)


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
