"""ReAL: regions grown from dissimilar neighbouring units, asked for in one visit."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..checks import choice, integer, within
from ..errors import ConfigError
from ..types import F32, I32, I64, Bool, PredictRequest
from .base import HEURISTICS, Observation, UnitHeuristic
from .combine import build_inner
from .diversity import embed

Floats = npt.NDArray[np.floating]


@HEURISTICS.register("ReAL")
class ReAL(UnitHeuristic):
    """Regions of uncertain, mutually dissimilar neighbouring units; one annotation visit each.

    Args:
        tau: Largest cosine similarity, -1..1, of two members of a region; 1: no limit.
        max_units: Most units of a region.
        max_pixels: Most pixels of a region without a label; None: no limit.
        score: Heuristic that scores a unit by itself, a name or dict(type=...).
        reduce: 'sum' or 'mean' of the members' scores.

    Source:
        Laielli et al., "Region-level Active Detector Learning", arXiv 2108.09186. An object
        detection method: this is an adaptation to segmentation, not the published algorithm.
    Score:
        Sum over the members of their mean `score` (reduce='mean': the mean of that). A region
        starts at the best unit left and takes, up to `max_units` units (and `max_pixels` pixels
        still without a label), the best neighbour whose cosine similarity to every member is at
        most `tau`. Neighbours more similar than `tau` to a member are redundant and not selected
        in this round.
    Cost:
        One pass over the logits; then O(R D) per accepted unit, R units with D features.
    Deviations:
        Detections become the units of a partition (slic, grid); the embedding is the mean
        decode-head feature, or mean softmax where the model returns none.
    Raises:
        ConfigError: An argument is unknown or out of range.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import Observation, ReAL
        >>> seen = Observation(torch.zeros(2, 1, 4), features=torch.eye(2)[:, None])
        >>> scores, groups = ReAL().regroup(seen, torch.tensor([[0, 0, 1, 1]]), 2)
        >>> groups.tolist()  # one region of both units
        [0, 0]
    """

    levels = ("region",)
    needs = PredictRequest(features=True)

    def __init__(
        self,
        tau: float = 0.8,
        max_units: int = 4,
        max_pixels: int | None = None,
        score: str | dict[str, Any] = "Entropy",
        reduce: str = "sum",
    ) -> None:
        self.tau = within("heuristic ReAL: tau", tau, -1, 1)
        self.max_units = integer("heuristic ReAL: max_units", max_units, 1)
        self.max_pixels = (
            None if max_pixels is None else integer("heuristic ReAL: max_pixels", max_pixels, 1)
        )
        self.mean = choice("heuristic ReAL: reduce", reduce, ("sum", "mean")) == "mean"
        self.score = build_inner("heuristic ReAL: score", score)
        if "units" not in self.score.regions:
            raise ConfigError(f"heuristic ReAL: score={score!r} does not support units")
        self.needs = replace(self.score.needs or PredictRequest(), features=True)

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        return self.score.unit_scores(seen, regions, num_regions)

    def regroup(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Regions grown in one image; see `GroupsUnits.regroup`."""
        vectors = embed(seen, regions, num_regions).cpu().numpy()
        scores = self.score.unit_scores(seen, regions, num_regions)
        ids = regions.cpu().numpy().astype(np.int32)
        fresh = ids if seen.annotated is None else ids[seen.annotated == 0]
        pixels = np.bincount(fresh.ravel(), minlength=num_regions).astype(np.int64)
        values = scores.to("cpu", torch.float64).numpy()
        of_unit, count = grow(
            values,
            unit_length(vectors),
            neighbours(ids, num_regions),
            pixels,
            self.tau,
            self.max_units,
            self.max_pixels,
        )
        kept = of_unit < count
        sums = np.zeros(count + 1)
        np.add.at(sums, of_unit[kept], values[kept])
        if self.mean:
            sums = sums / np.maximum(1, np.bincount(of_unit[kept], minlength=count + 1))
        sums[count] = -np.inf
        return torch.from_numpy(sums), torch.from_numpy(of_unit)


def grow(
    scores: Floats,
    vectors: F32,
    adjacent: list[I64],
    pixels: I64,
    tau: float,
    max_units: int,
    max_pixels: int | None = None,
) -> tuple[I32, int]:
    """(region int32 [R] of each unit, number of regions n); n itself = not asked for this round.

    scores: float [R]; vectors: float32 [R, D], unit length; adjacent: neighbours of each unit;
    pixels: int64 [R], what an answer would cover, 0 = answered or empty (takes no part). Regions
    are numbered in the order in which they were started: best seed first, ties by unit id.
    """
    total = len(scores)
    of_unit = np.full(total, -1, dtype=np.int32)
    free: Bool = pixels > 0
    count = 0
    for seed in sorted(np.flatnonzero(free).tolist(), key=lambda i: (-scores[i], i)):
        if not free[seed]:
            continue
        likeness = np.full(total, -np.inf, dtype=np.float32)  # to the most similar member
        frontier: list[tuple[float, int]] = []
        reached: set[int] = set()
        size, covered, unit = 0, 0, seed
        while True:
            of_unit[unit], free[unit] = count, False
            size, covered = size + 1, covered + int(pixels[unit])
            # rounding may put the cosine of equal vectors above 1, and so above tau=1.0
            np.maximum(likeness, np.minimum(vectors @ vectors[unit], 1.0), out=likeness)
            for other in adjacent[unit].tolist():
                if free[other] and other not in reached:
                    reached.add(other)
                    heapq.heappush(frontier, (-float(scores[other]), other))
            following = -1
            while frontier and size < max_units:
                _, other = heapq.heappop(frontier)
                fits = max_pixels is None or covered + int(pixels[other]) <= max_pixels
                if likeness[other] <= tau and fits:
                    following = other
                    break
            if following < 0:
                break
            unit = following
        redundant = [i for i in reached if free[i] and likeness[i] > tau]
        free[redundant] = False
        count += 1
    of_unit[of_unit < 0] = count
    return of_unit, count


def neighbours(ids: I32, num_regions: int) -> list[I64]:
    """Units that share an edge (4-connected) with each unit, ascending; ids int32 [H, W]."""
    codes = []
    for a, b in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        border = a != b
        one, other = a[border].astype(np.int64), b[border].astype(np.int64)
        codes += [one * num_regions + other, other * num_regions + one]
    unit, other = np.divmod(np.unique(np.concatenate(codes)), num_regions)
    ends = np.searchsorted(unit, np.arange(num_regions + 1))
    return [other[ends[i] : ends[i + 1]] for i in range(num_regions)]


def unit_length(vectors: F32) -> F32:
    """Rows divided by their L2 norm; zero and NaN rows (empty units) become 0."""
    clean = np.nan_to_num(vectors.astype(np.float32), nan=0.0)
    norm = np.linalg.norm(clean, axis=1, keepdims=True)
    return np.asarray(clean / np.where(norm > 0, norm, 1.0), dtype=np.float32)
