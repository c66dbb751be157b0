"""EquAL: uncertainty of the image and of its mirror image."""

from __future__ import annotations

import torch

from .. import functional
from ..types import PredictRequest
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("EquAL")
class EquAL(Heuristic):
    """Entropy of the prediction and of the mirrored prediction: what is unsure either way round.

    Source: Golestaneh and Kitani, "Importance of Self-Consistency in Active Learning for Semantic
        Segmentation", BMVC 2020.
    Score: (H(p) + H(p')) / 2 of a pixel, nats, 0..ln C, with p' the prediction for the horizontally
        flipped image, flipped back before padding or crops are undone; mean over a region, window
        or image.
    Cost: two forward passes and one pass over each one's logits.
    Deviations: the paper also trains with a loss that draws p and p' together; only the acquisition
        is here.
    """

    needs = PredictRequest(flip=True)

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        entropies = [functional.entropy(view) for view in seen.views()]
        return torch.stack(entropies).mean(0)
