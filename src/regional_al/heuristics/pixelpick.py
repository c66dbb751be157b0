"""PixelPick: a few pixels an image, drawn from its most uncertain ones."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from .. import functional
from ..checks import choice, percentage
from ..selection import top_pixels
from ..types import F32, U8
from .base import HEURISTICS, Heuristic, Observation

SCORES = {
    "margin": functional.margin,
    "entropy": functional.entropy,
    "least_confidence": functional.least_confidence,
}


@HEURISTICS.register("PixelPick")
class PixelPick(Heuristic):
    """Draws pixels at random from each image's most uncertain ones.

    Source: Shin et al., "All you need are a few pixels: semantic segmentation with PixelPick",
        ICCVW 2021, arXiv 2104.06394.
    Score: of the pixels of an image without an answer, the `top` share by `score` gets random
        values in [b + 1, b + 2), b the largest value that `score` can take; the others keep theirs.
    Cost: one pass over the logits and a partial sort of one map.
    Deviations: void is not known before it is asked for (published code leaves it out by a look at
        the ground truth); the share is of the pixels without an answer, not of all.
    Example: dict(level='pixel', heuristic='PixelPick', rounds=10)

    With the default budget of the level, 10 pixels an image and round, this is the published
    method. With a budget over the pool, pixels are drawn from the top shares of all images alike.
    score: 'margin', 'entropy' or 'least_confidence'; top: a percentage.
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
    share of the pixels without an answer (rounded down, at least one; ties row-major)."""
    answered = None if annotated is None else annotated > 0
    open_ = values.size if answered is None else int((~answered).sum())
    rows, cols, _ = top_pixels(values, max(1, math.floor(top * open_)), answered)
    out = np.minimum(values, np.float32(bound))
    out[rows, cols] = np.float32(bound + 1) + rng.random(len(rows), dtype=np.float32)
    return np.asarray(out, dtype=np.float32)
