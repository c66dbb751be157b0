"""Pixel uncertainty from one prediction, averaged over a region, window or image."""

from __future__ import annotations

import torch

from .. import functional
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("Entropy")
class Entropy(Heuristic):
    """High entropy of the class probabilities.

    Source: Shannon 1948; as an acquisition score e.g. Settles, "Active Learning Literature Survey",
        2009, section 3.1.
    Score: H = -sum_c p_c ln p_c of a pixel, in nats, 0..ln C; mean over a region, window or image.
    Cost: one pass over the logits, O(C H W).
    Deviations: none.
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.entropy(seen.logits)


@HEURISTICS.register("Margin")
class Margin(Heuristic):
    """A small gap between the two most probable classes.

    Source: Scheffer et al., IDA 2001; see Settles 2009, section 3.1.
    Score: 1 - (p_1 - p_2) of a pixel, 0..1; mean over a region, window or image.
    Cost: one pass over the logits, O(C H W).
    Deviations: turned round, so that higher means: ask.
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.margin(seen.logits)


@HEURISTICS.register("LeastConfidence")
class LeastConfidence(Heuristic):
    """A low probability of the most probable class.

    Source: Lewis and Gale, SIGIR 1994; see Settles 2009, section 3.1.
    Score: 1 - p_1 of a pixel, 0..1 - 1/C; mean over a region, window or image.
    Cost: one pass over the logits, O(C H W).
    Deviations: none.
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.least_confidence(seen.logits)


@HEURISTICS.register("BvSB")
class BvSB(Heuristic):
    """Best versus second best: the ratio of the two highest probabilities.

    Source: Cai et al., "Revisiting Superpixels for Active Learning in Semantic Segmentation with
        Realistic Annotation Costs", CVPR 2021, without their class balance.
    Score: p_2 / p_1 of a pixel, 0..1; mean over a region, window or image.
    Cost: one pass over the logits, O(C H W).
    Deviations: the paper also weights superpixels by the rarity of their predicted class.
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.bvsb(seen.logits)
