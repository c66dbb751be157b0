"""Balanced entropy: BalEnt."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .. import functional
from ..checks import integer
from ..types import Level, PredictRequest
from .base import HEURISTICS, Observation, PixelHeuristic

ROWS = 64
"""Rows of an image that are worked on at once, which bounds the memory."""
SMALLEST = 1e-6
"""Balanced entropies from 0 to this count as it, so that scores are finite."""


@HEURISTICS.register("BalEnt")
class BalEnt(PixelHeuristic):
    """Pixels whose label is expected to be as informative about the model as it is uncertain.

    The noise depends on image and pass alone, so it is the same on any number of processes.

    Args:
        passes: Number T of predictions, made with dropout layers switched on; a model without any
            is refused.

    Source:
        Didari et al., "Bayesian Active Learning for Semantic Segmentation", ECCV 2024, arXiv
        2408.01694; the score: Woo, "Active Learning in Bayesian Neural Networks with Balanced
        Entropy Learning Principle", ICLR 2023.
    Score:
        B = (sum_c p_c h(P_c+) + H(p)) / (H(p) + ln 2), p the mean of the passes, h(P_c+) the
        differential entropy of Beta(a + 1, b), where Beta(a, b) has the mean and variance of class
        c over the passes. 1 / B for B >= 0, else B: small positive values come first, and those
        below 0 last.
    Cost:
        T passes of the heads and one of the backbone (T of both where a backbone has dropout); two
        running sums of C H W double-precision numbers; 6 C gamma functions a pixel.
    Deviations:
        None known. Scores are not the same bit for bit on CPU and CUDA, as their gamma functions
        differ.
    Config:
        dict(level='pixel', heuristic=dict(type='BalEnt', passes=20))
    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import BalEnt, Observation
        >>> first = torch.tensor([[[2.0]], [[0.0]]])
        >>> seen = Observation(first, more=iter([-first]))
        >>> round(BalEnt(passes=2).pixel_scores(seen).item(), 3)
        -0.206
    """

    levels: tuple[Level, ...] = ("pixel",)
    may_be_negative = True

    def __init__(self, passes: int = 20) -> None:
        self.needs = PredictRequest(passes=integer("heuristic BalEnt: passes", passes, 2))

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        found = balanced_entropy(seen.views())
        return torch.where(found >= 0, 1 / found.clamp_min(SMALLEST), found)


def balanced_entropy(passes: Iterable[Tensor]) -> Tensor:
    """BalEnt: what a label is expected to tell about the model, over what it tells in all.

    The probability P_c of each class is taken to follow a Beta(a, b) distribution with the mean and
    variance of the passes. With h(P_c+) the differential entropy of Beta(a + 1, b), the posterior
    of P_c once the label is known to be c, and p = E[P]:

        BalEnt = (sum_c p_c h(P_c+) + H(p)) / (H(p) + ln 2)

    Source: Woo, "Active Learning in Bayesian Neural Networks with Balanced Entropy Learning
    Principle", ICLR 2023, equation of BalEnt; for pixels: Didari et al., "Bayesian Active Learning
    for Semantic Segmentation", ECCV 2024.

    Args:
        passes: logits, float [..., C, H, W], of each stochastic pass over the same image, at least
            two. They are consumed one at a time.

    Returns:
        float32 [..., H, W]; mostly negative where the passes agree. Variances below 1e-10 count as
        that, and means below 1e-6 or above 1 - 1e-6 as those.

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if there are fewer than two passes or the shapes of the passes differ.

    Example:
        >>> import torch
        >>> from regional_al.heuristics.balanced_entropy import balanced_entropy
        >>> agree = torch.tensor([2.0, 0.0]).reshape(2, 1, 1)
        >>> disagree = torch.tensor([0.0, 2.0]).reshape(2, 1, 1)
        >>> round(balanced_entropy([agree, disagree]).item(), 3)
        -0.206
        >>> bool(balanced_entropy([agree, agree]) < -1)
        True
    """
    total: Tensor | None = None
    squares: Tensor | None = None
    count = 0
    for logits in passes:
        if total is None or squares is None:
            total = torch.zeros(logits.shape, dtype=torch.float64, device=logits.device)
            squares = torch.zeros_like(total)
        if logits.shape != total.shape:
            raise ValueError(
                f"pass {count} has shape {list(logits.shape)}, expected {list(total.shape)}"
            )
        functional.entropy(logits)  # refuses what is not finite
        parts = (torch.split(one, ROWS, dim=-2) for one in (logits.detach(), total, squares))
        for z, sums, sums_of_squares in zip(*parts, strict=True):
            p = torch.softmax(z.double(), dim=-3)
            sums += p
            sums_of_squares += p * p
        count += 1
    if total is None or squares is None or count < 2:
        raise ValueError("balanced_entropy needs the logits of at least two passes")
    out = torch.empty(total.shape[:-3] + total.shape[-2:], dtype=torch.float32, device=total.device)
    parts = (torch.split(one, ROWS, dim=-2) for one in (total, squares, out))
    for sums, sums_of_squares, found in zip(*parts, strict=True):
        mean = sums / count
        variance = (sums_of_squares / count - mean * mean).clamp_(min=1e-10)
        entropy_ = -torch.xlogy(mean, mean).sum(dim=-3)
        mean = mean.clamp(1e-6, 1 - 1e-6)
        a = mean * (mean * (1 - mean) / variance - 1).clamp_(min=1e-10)
        b = a * (1 - mean) / mean
        known = (mean * beta_entropy(a + 1, b)).sum(dim=-3)
        found.copy_((known + entropy_) / (entropy_ + math.log(2)))
    return out


def beta_entropy(a: Tensor, b: Tensor) -> Tensor:
    """Differential entropy of Beta(a, b), nats."""
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return (
        log_beta
        - (a - 1) * torch.digamma(a)
        - (b - 1) * torch.digamma(b)
        + (a + b - 2) * torch.digamma(a + b)
    )
