"""RIPU: region impurity times prediction uncertainty (Xie et al., CVPR 2022, arXiv 2111.12940)."""

from __future__ import annotations

import math

import torch

from .. import functional, kernels
from ..config_checks import integer
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("RIPU")
class RIPU(Heuristic):
    """Score = P * U with P = class-share entropy / ln C of the predicted labels in the region and
    U = mean of pixel entropy / ln C there; 0..1. Cost independent of the window's radius.

    Region mode with windows is the published method: label (2k+1)^2, suppress (4k+1)^2, k the
    region's radius (published: 1). Over SLIC, grid cells and whole images the same product is
    taken over the unit's pixels. Pixel mode: the pixel's own entropy times the impurity of its
    (2 radius + 1)^2 window; labels the pixel and suppresses the window (published radius 32).
    """

    def __init__(self, radius: int = 32) -> None:
        self.radius = integer("heuristic RIPU: radius", radius, 0)
        self.pixel_suppress_radius = self.radius

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.ripu_pixel(seen.logits, self.radius)

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        scale = math.log(seen.logits.shape[0]) ** 2 or 1.0  # one class: both factors are 0
        return stats.impurity * stats.entropy / scale

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return kernels.ripu_map(seen.logits, radius)
