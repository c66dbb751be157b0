"""Pixel uncertainty from one prediction: Entropy, Margin, LeastConfidence, BvSB, PixelPick."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from .. import functional
from ..checks import choice, percentage
from ..selection import top_pixels
from ..types import F32, U8
from .base import HEURISTICS, Observation, PixelHeuristic


@HEURISTICS.register("Entropy")
class Entropy(PixelHeuristic):
    """High entropy of the class probabilities.

    Source:
        Shannon 1948; as an acquisition score e.g. Settles, "Active Learning Literature Survey",
        2009, section 3.1.
    Score:
        H = -sum_c p_c ln p_c of a pixel, in nats, 0..ln C; mean over a region, window or image.
    Cost:
        One pass over the logits, O(C H W).
    Deviations:
        None.
    Example:
        >>> import torch
        >>> from regional_al.heuristics import Entropy, Observation
        >>> scores = Entropy().pixel_scores(Observation(torch.zeros(2, 1, 3)))
        >>> [round(score, 4) for score in scores[0].tolist()]
        [0.6931, 0.6931, 0.6931]
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.entropy(seen.logits)


@HEURISTICS.register("Margin")
class Margin(PixelHeuristic):
    """A small gap between the two most probable classes.

    Source:
        Scheffer et al., IDA 2001; see Settles 2009, section 3.1.
    Score:
        1 - (p_1 - p_2) of a pixel, 0..1; mean over a region, window or image.
    Cost:
        One pass over the logits, O(C H W).
    Deviations:
        The sign is reversed, so that higher scores are selected first.
    Example:
        >>> import torch
        >>> from regional_al.heuristics import Margin, Observation
        >>> Margin().pixel_scores(Observation(torch.zeros(2, 1, 3)))[0].tolist()
        [1.0, 1.0, 1.0]
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.margin(seen.logits)


@HEURISTICS.register("LeastConfidence")
class LeastConfidence(PixelHeuristic):
    """A low probability of the most probable class.

    Source:
        Lewis and Gale, SIGIR 1994; see Settles 2009, section 3.1.
    Score:
        1 - p_1 of a pixel, 0..1 - 1/C; mean over a region, window or image.
    Cost:
        One pass over the logits, O(C H W).
    Deviations:
        None.
    Example:
        >>> import torch
        >>> from regional_al.heuristics import LeastConfidence, Observation
        >>> LeastConfidence().pixel_scores(Observation(torch.zeros(2, 1, 3)))[0].tolist()
        [0.5, 0.5, 0.5]
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.least_confidence(seen.logits)


@HEURISTICS.register("BvSB")
class BvSB(PixelHeuristic):
    """Best versus second best: the ratio of the two highest probabilities.

    Source:
        Cai et al., "Revisiting Superpixels for Active Learning in Semantic Segmentation with
        Realistic Annotation Costs", CVPR 2021, without their class balance.
    Score:
        p_2 / p_1 of a pixel, 0..1; mean over a region, window or image.
    Cost:
        One pass over the logits, O(C H W).
    Deviations:
        The paper also weights superpixels by the rarity of their predicted class, as `ClassBalance`
        does.
    Example:
        >>> import torch
        >>> from regional_al.heuristics import BvSB, Observation
        >>> BvSB().pixel_scores(Observation(torch.zeros(2, 1, 3)))[0].tolist()
        [1.0, 1.0, 1.0]
    """

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.bvsb(seen.logits)


SCORES = {
    "margin": functional.margin,
    "entropy": functional.entropy,
    "least_confidence": functional.least_confidence,
}


@HEURISTICS.register("PixelPick")
class PixelPick(PixelHeuristic):
    """Pixels drawn at random from the most uncertain ones of each image.

    With the default budget of the level, 10 pixels per image and round, this is the published
    method. With a budget over the pool, pixels are drawn from the top shares of all images alike.

    Args:
        score: 'margin', 'entropy' or 'least_confidence'.
        top: Percentage of an image's pixels without a label that are drawn from.

    Source:
        Shin et al., "All you need are a few pixels: semantic segmentation with PixelPick",
        ICCVW 2021, arXiv 2104.06394.
    Score:
        Of the pixels of an image without a label, the `top` share by `score` gets random values in
        [b + 1, b + 2), where b is the largest value that `score` can take; the others keep theirs.
    Cost:
        One pass over the logits and a partial sort of one map.
    Deviations:
        Void is not known before it is annotated (published code leaves it out by looking at the
        ground truth); the share is of the pixels without a label, not of all.
    Config:
        dict(level='pixel', heuristic='PixelPick', rounds=10)
    Example:
        >>> import torch
        >>> from regional_al.heuristics import Observation, PixelPick
        >>> scores = PixelPick(top="50%").pixel_scores(Observation(torch.zeros(2, 1, 4)))
        >>> (scores > 2.0).sum().item()
        2
    """

    levels = ("pixel",)
    draws = True

    def __init__(self, score: str = "margin", top: str = "5%") -> None:
        self.score = choice("heuristic PixelPick: score", score, tuple(SCORES))
        self.top = percentage("heuristic PixelPick: top", top)

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        values = SCORES[self.score](seen.logits)
        bound = math.log(seen.logits.shape[0]) if self.score == "entropy" else 1.0
        drawn = draw(values.cpu().numpy(), seen.annotated, self.top, bound, seen.rng)
        return torch.from_numpy(drawn).to(values.device)


def draw(
    values: F32, annotated: U8 | None, top: Fraction, bound: float, rng: np.random.Generator
) -> F32:
    """float32 [H, W]: `values` (at most `bound`), but random in [bound + 1, bound + 2) at the top
    share of the pixels without a label (rounded down, at least one; ties row-major)."""
    answered = None if annotated is None else annotated > 0
    open_ = values.size if answered is None else int((~answered).sum())
    rows, cols, _ = top_pixels(values, max(1, math.floor(top * open_)), answered)
    out = np.minimum(values, np.float32(bound))
    out[rows, cols] = np.float32(bound + 1) + rng.random(len(rows), dtype=np.float32)
    return np.asarray(out, dtype=np.float32)
