"""ReDAL: informative regions, discounted where many of a kind are informative. In 2-D."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import functional, kernels
from ..checks import integer, within
from ..errors import DataError, EnvironmentProblem
from ..selection import Basket, best_first
from ..selection.diversity import draw, squared_distances
from ..selection.pool_table import PoolTable
from ..store.images import read_rgb
from ..types import F32, F64, I64, PredictRequest
from .base import HEURISTICS, Observation, PoolHeuristic
from .diversity import Shortlist, embed


@HEURISTICS.register("ReDAL")
class ReDAL(PoolHeuristic):
    """Entropy and edges of a region, discounted by how many similar regions rank above it.

    Args:
        clusters: Number of k-means clusters; at most N / 10 are used.
        decay: Factor on the weight of a cluster for each of its regions that ranks above.
        edge: Weight of edges against entropy.
        candidates: Keep only so many regions with the highest score, a number, or a share of the
            open regions such as '5%'; None: all.

    Source:
        Wu et al., "ReDAL: Region-based and Diversity-aware Active Learning for Point Cloud
        Semantic Segmentation", ICCV 2021, arXiv 2107.11769; here in two dimensions.
    Score:
        Mean over the region of sum_c -p_c log2 p_c / C + `edge` * strength of the grey image's
        edges (Sobel, 0..1). The first term, bits averaged over the classes, is at most log2(C) / C:
        0.22 at C = 19. K-means (`clusters`) on mean features of the open regions; then, down the
        list sorted by that score, each region is multiplied by the weight of its cluster, which
        starts at 1 and is multiplied by `decay` afterwards; sorted again. Shown and recorded:
        before the discount.
    Cost:
        One pass over the logits and a Sobel filter; then O(N K D) per iteration of k-means, at most
        20, for N regions of D features; `candidates` bounds N.
    Deviations:
        Colour gradient and surface curvature of point clouds (0.1 and 0.05 in the public code)
        become edge strength (0.05; 0 where no image file is known). At most N / 10 clusters. The
        decay follows the sorted order (the public code indexes the unsorted scores). K-means runs
        once, from k-means++ seeds.
    Config:
        dict(level='region', heuristic=dict(type='ReDAL', clusters=150))
    Example:
        >>> import torch
        >>> from regional_al.heuristics import Observation, ReDAL
        >>> seen = Observation(torch.zeros(4, 1, 2))  # 2 bits, averaged over 4 classes
        >>> ReDAL(edge=0.0).describe(seen, torch.zeros(1, 2, dtype=torch.int64), 1)["score"].item()
        0.5
    """

    vectors = ("vector",)
    needs = PredictRequest(features=True)

    def __init__(
        self,
        clusters: int = 400,
        decay: float = 0.95,
        edge: float = 0.05,
        candidates: int | str | None = None,
    ) -> None:
        self.clusters = integer("heuristic ReDAL: clusters", clusters, 1)
        self.decay = within("heuristic ReDAL: decay", decay, 1e-3, 1)
        self.edge = within("heuristic ReDAL: edge", edge, 0, 1e3)
        self.shortlist = Shortlist("ReDAL", candidates)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        classes, height, width = seen.logits.shape
        information = functional.entropy(seen.logits) / (classes * math.log(2))
        if self.edge and seen.image is not None:
            edges = edge_strength(read_rgb(seen.image))
            if edges.shape != (height, width):
                raise DataError(f"{seen.image} is {edges.shape}, its prediction {(height, width)}")
            information += self.edge * torch.from_numpy(edges).to(information.device)
        return {
            "score": kernels.region_mean(information, regions, num_regions),
            "vector": embed(seen, regions, num_regions),
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        for rows in self.shortlist.lists(basket, table["score"]):
            vectors = table.rows("vector", rows)
            count = min(self.clusters, max(1, len(rows) // 10))
            scores = discounted(table["score"][rows], k_means(vectors, count, rng), self.decay)
            basket.fill(rows[best_first(scores)])


def discounted(scores: npt.ArrayLike, clusters: I64, decay: float) -> F64:
    """float64 [n]: score * decay^r, r = how many units of the same cluster score higher (ties: come
    first). scores: float [n], finite; clusters: int [n]."""
    out = np.array(scores, dtype=np.float64)
    order = best_first(out)
    of_rank = clusters[order]
    grouped = np.argsort(of_rank, kind="stable")
    starts = np.searchsorted(of_rank[grouped], of_rank[grouped], side="left")
    nth = np.empty(len(order), dtype=np.int64)
    nth[grouped] = np.arange(len(order)) - starts
    weights = np.full(len(order) + 1, decay)
    weights[0] = 1.0
    out[order] *= np.cumprod(weights)[nth]
    return out


def k_means(vectors: F32, count: int, rng: np.random.Generator, iterations: int = 20) -> I64:
    """int64 [n]: cluster 0..count-1 of each row of vectors [n, d]; some may be empty. Seeds as in
    k-means++, drawn here because SciPy's own fails where rows repeat."""
    vq = _needed("scipy.cluster.vq")
    usable = np.ones(len(vectors), dtype=np.bool_)
    seeds = [int(rng.integers(len(vectors)))]
    nearest = squared_distances(vectors, vectors[seeds[0]])
    for _ in range(count - 1):
        seeds.append(draw(nearest, usable, rng))
        np.minimum(nearest, squared_distances(vectors, vectors[seeds[-1]]), out=nearest)
    rows = vectors.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty cluster keeps its place
        labels = vq.kmeans2(rows, rows[seeds], iter=iterations, minit="matrix")[1]
    return np.asarray(labels, dtype=np.int64)


def edge_strength(rgb: npt.NDArray[np.uint8]) -> F32:
    """float32 [H, W], 0..1: magnitude of the Sobel gradient of the grey image; rgb uint8
    [H, W, 3]."""
    grey = _needed("skimage.color").rgb2gray(rgb)
    return np.asarray(_needed("skimage.filters").sobel(grey), dtype=np.float32)


def _needed(name: str) -> Any:
    """A module of scikit-image or SciPy, imported on first use."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise EnvironmentProblem(
            "heuristic 'ReDAL' needs scikit-image, and SciPy, which comes with it: "
            "pip install scikit-image"
        ) from None
