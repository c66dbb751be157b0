"""Random: uniform over what can be selected, at every level; the baseline at equal cost."""

from __future__ import annotations

import numpy as np
import torch

from ..types import PredictRequest
from .base import HEURISTICS, Observation, PixelHeuristic


@HEURISTICS.register("Random")
class Random(PixelHeuristic):
    """Anything that can be selected, with equal chances: the baseline to beat at equal cost.

    The draw depends on (seed, round, image), so the number of processes does not change the picks.

    Source:
        The baseline of every paper.
    Score:
        Uniform in [0, 1) for each pixel, unit or window centre.
    Cost:
        No model is run.
    Deviations:
        None.
    Example:
        >>> import torch
        >>> from regional_al.heuristics import Observation, Random
        >>> seen = Observation(torch.zeros(1, 2, 3))
        >>> Random().pixel_scores(seen).shape
        torch.Size([2, 3])
    """

    needs: PredictRequest | None = None

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return torch.from_numpy(seen.rng.random(tuple(seen.logits.shape[-2:]), dtype=np.float32))

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        return torch.from_numpy(seen.rng.random(num_regions))

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return self.pixel_scores(seen)
