"""Random: uniform over what can be selected, at every level; the baseline at equal cost."""

from __future__ import annotations

import numpy as np
import torch

from ..types import PredictRequest
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("Random")
class Random(Heuristic):
    """Anything that can be asked for, with equal chances: the baseline to beat at equal cost.

    Source: the baseline of every paper.
    Score: uniform in [0, 1) for each pixel, unit or window centre.
    Cost: no model is run.
    Deviations: none.

    The draw depends on (seed, round, image), so the number of processes does not change the picks.
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
