"""The largest score of a unit's pixels, instead of their mean."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..errors import UnsupportedError
from .base import HEURISTICS, Observation, PixelHeuristic
from .combine import build_inner, common_levels, name_of


@HEURISTICS.register("Maximum")
class Maximum(PixelHeuristic):
    """The largest score of the pixels of a unit, window or image, instead of their mean.

    One small thing that is uncertain counts as much as a large one. Region types and needed
    predictions are those of the inner heuristic.

    Args:
        heuristic: A name or dict(type=...), any that scores pixels.

    Source:
        Laielli et al., "Region-level Active Detector Learning", arXiv 2108.09186, whose objects
        have the score of their most uncertain part.
    Score:
        max of the inner pixel scores over the pixels.
    Cost:
        That of the inner heuristic.
    Deviations:
        The paper selects regions of detected objects; here it is the reduction alone, over any
        unit.
    Config:
        dict(level='region', heuristic=dict(type='Maximum', heuristic='Entropy'))
    Raises:
        ConfigError: The inner heuristic is unknown.
        UnsupportedError: It does not score pixels.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import Maximum, Observation
        >>> logits = torch.tensor([[[0.0, 9.0, 9.0]], [[0.0, 0.0, 0.0]]])
        >>> scores = Maximum("Margin").unit_scores(
        ...     Observation(logits), torch.tensor([[0, 0, 1]]), 2
        ... )
        >>> [round(score, 3) for score in scores.tolist()]
        [1.0, 0.0]
    """

    def __init__(self, heuristic: str | dict[str, Any]) -> None:
        where = "heuristic Maximum: heuristic"
        inner = build_inner(where, heuristic)
        if not isinstance(inner, PixelHeuristic):
            raise UnsupportedError(
                f"{where}={name_of(inner)!r} does not score pixels, of which the largest score "
                "could be taken: use one that does, such as 'Entropy'"
            )
        self.inner = inner
        self.levels = common_levels("heuristic Maximum", [self.inner], ("image", "region"))
        self.regions, self.needs = self.inner.regions, self.inner.needs
        self.draws, self.may_be_negative = self.inner.draws, self.inner.may_be_negative
        self.column_major = self.inner.column_major

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return self.inner.pixel_scores(seen)

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        scores = self.pixel_scores(seen).flatten()
        where = regions.to(scores.device).flatten().long()
        found = scores.new_full((num_regions,), -torch.inf)
        found = found.scatter_reduce(0, where, scores, "amax")
        empty = torch.bincount(where, minlength=num_regions) == 0
        return found.masked_fill(empty, torch.nan)

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        # padded with -inf, so that windows are clipped at the border
        scores = self.pixel_scores(seen)[None, None]
        return F.max_pool2d(scores, 2 * radius + 1, stride=1, padding=radius)[0, 0]
