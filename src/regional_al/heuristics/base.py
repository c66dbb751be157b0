"""What a heuristic is: a score for every pixel, unit or window; higher = ask for it.

A subclass gives `pixel_scores`; means over regions and windows follow from it through the kernels.
One whose score is not a mean of pixel scores (RIPU: a product of two means) overrides
`unit_scores` and `window_scores`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from .. import kernels
from ..engines.base import PredictRequest
from ..registry import Registry
from ..types import LEVELS, Level

HEURISTICS: Registry[Heuristic] = Registry("heuristic")


class Heuristic:
    """Base class. levels: where it makes sense; needs: what the engine must predict for it
    (None: nothing, as for Random, and then no prediction is made at all)."""

    levels: ClassVar[tuple[Level, ...]] = LEVELS
    needs: PredictRequest | None = PredictRequest()
    pixel_suppress_radius: int = 0
    """Pixel level: no second pick within this Chebyshev distance of a pick, in any round."""

    def pixel_scores(self, logits: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Logits [C, H, W] -> scores float32 [H, W]. rng is seeded by (seed, round, image)."""
        raise NotImplementedError

    def unit_scores(
        self,
        logits: torch.Tensor,
        regions: torch.Tensor,
        num_regions: int,
        rng: np.random.Generator,
    ) -> torch.Tensor:
        """Logits [C, H, W], region ids int [H, W] -> float [R]; NaN for an empty region."""
        return kernels.region_mean(self.pixel_scores(logits, rng), regions, num_regions)

    def window_scores(
        self, logits: torch.Tensor, radius: int, rng: np.random.Generator
    ) -> torch.Tensor:
        """Mean score of the clipped (2 radius + 1)^2 window around each pixel, float32 [H, W]."""
        return kernels.window_mean(self.pixel_scores(logits, rng), radius)
