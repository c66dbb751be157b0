"""Entropy, Margin, LeastConfidence: pixel uncertainty, averaged over a region, window or image."""

from __future__ import annotations

import torch

from .. import functional
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("Entropy")
class Entropy(Heuristic):
    """H = -sum_c p_c ln p_c in nats, 0..ln C; one pass over the logits."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.entropy(seen.logits)


@HEURISTICS.register("Margin")
class Margin(Heuristic):
    """1 - (p_1 - p_2) of the two most probable classes, 0..1."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.margin(seen.logits)


@HEURISTICS.register("LeastConfidence")
class LeastConfidence(Heuristic):
    """1 - p_1, 0..1-1/C."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.least_confidence(seen.logits)
