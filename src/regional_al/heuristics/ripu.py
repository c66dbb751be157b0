"""RIPU: region impurity times prediction uncertainty (Xie et al., CVPR 2022, arXiv 2111.12940)."""

from __future__ import annotations

import math

import torch

from .. import functional, kernels
from ..checks import choice, integer
from ..errors import UnsupportedError
from .base import HEURISTICS, Observation, PixelHeuristic

PUBLISHED_EPS = 1e-6
PUBLISHED_SCALE = math.log(19)


@HEURISTICS.register("RIPU")
class RIPU(PixelHeuristic):
    """Impure and uncertain regions: many predicted classes side by side, none of them certain.

    With `region=dict(type='window', radius=k)` this is the published region mode: it labels
    (2k+1)^2 and suppresses centres within (4k+1)^2 (published: k = 1). At pixel level it labels the
    pixel and suppresses the (2 radius + 1)^2 window.

    Args:
        radius: Of the window at pixel level (published: 32); not used at other levels.
        compat: 'published': score and break ties (down the columns) as the published code does,
            for windows and pixels only. For comparisons of picks, not for use.

    Source:
        Xie et al., "Towards Fewer Annotations: Active Learning via Region Impurity and Prediction
        Uncertainty for Domain Adaptive Semantic Segmentation", CVPR 2022, arXiv 2111.12940.
    Score:
        P * U, 0..1, with P = entropy / ln C of the shares of the predicted classes in the region
        and U = mean of pixel entropy / ln C there. At pixel level the pixel's own entropy / ln C
        times P of the (2 radius + 1)^2 window around it.
    Cost:
        One pass over the logits and box sums: independent of the window's radius.
    Deviations:
        ln C and 0 ln 0 = 0 instead of the published code's ln 19 and 1e-6 inside the logarithm;
        over slic, grid cells and whole images the same product over the unit's pixels.
    Example:
        >>> import torch
        >>> from regional_al.heuristics import Observation, RIPU
        >>> seen = Observation(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
        >>> whole = torch.zeros(1, 2, dtype=torch.int32)
        >>> round(RIPU().unit_scores(seen, whole, 1).item(), 4)  # impurity 1, entropy 0.84 bits
        0.8399
    """

    def __init__(self, radius: int = 32, compat: str | None = None) -> None:
        self.radius = integer("heuristic RIPU: radius", radius, 0)
        self.pixel_suppress_radius = self.radius
        self.published = compat is not None
        if compat is not None:
            choice("heuristic RIPU: compat", compat, ("published",))
            self.levels, self.regions = ("region", "pixel"), ("windows",)
            self.column_major = True
            self.may_be_negative = True  # 1e-6 inside the logarithm: slightly, for uniform windows

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        if self.published:
            return published(seen.logits, self.radius, pixel=True)
        return functional.ripu_pixel(seen.logits, self.radius)

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        if self.published:
            raise UnsupportedError("heuristic RIPU: compat='published' scores windows and pixels")
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        scale = math.log(seen.logits.shape[0]) ** 2 or 1.0  # one class: both factors are 0
        # On the CPU: CUDA divides by a number by multiplying with its reciprocal.
        return stats.impurity.cpu() * stats.entropy.cpu() / scale

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        if self.published:
            return published(seen.logits, radius)
        return functional.ripu(seen.logits, radius)


def published(logits: torch.Tensor, radius: int, pixel: bool = False) -> torch.Tensor:
    """RIPU as its public code computes it: logits [C, H, W] -> float32 [H, W].

    1e-6 is added inside both logarithms and ln 19 divides, whatever C; shares are counted over the
    part of the window inside the image. pixel: the pixel's own entropy instead of the mean.
    """
    _, label = kernels.pixel_stats(logits)  # refuses NaN
    p = torch.softmax(logits.float(), dim=0)
    entropy = -(p * torch.log(p + PUBLISHED_EPS)).sum(0) / PUBLISHED_SCALE
    impurity = torch.zeros_like(entropy)
    for c in label.flatten().bincount().nonzero().flatten().tolist():  # absent: 0 ln(1e-6) = 0
        share = kernels.window_mean((label == c).float(), radius)
        impurity -= share * torch.log(share + PUBLISHED_EPS)
    uncertainty = entropy if pixel else kernels.window_mean(entropy, radius)
    return impurity / PUBLISHED_SCALE * uncertainty
