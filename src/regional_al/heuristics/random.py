"""Random: uniform over what can be selected, at every level; the baseline at equal cost."""

from __future__ import annotations

import numpy as np
import torch

from ..engines.base import PredictRequest
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("Random")
class Random(Heuristic):
    """Uniform scores in [0, 1) for pixels, units and window centres; nothing is predicted.

    Deterministic in (seed, round, image), so the number of processes does not change the picks.
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
