"""Pixel scores from logits: pure functions, higher = ask for it.

Everywhere: logits [..., C, H, W] (float, never probabilities), softmax over C, natural logarithm,
C from the input, one class scores 0. Results are float32 [..., H, W] on the input's device. NaN
or infinite logits raise ScoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from . import kernels


def entropy(logits: Tensor) -> Tensor:
    """-sum p ln p, nats, in [0, ln C]."""
    return _each(lambda z: kernels.pixel_scores(z, "entropy"), logits, 3)


def margin(logits: Tensor) -> Tensor:
    """1 - (p1 - p2) of the two most probable classes, in [0, 1]. One class: 0."""
    return _each(lambda z: kernels.pixel_scores(z, "margin"), logits, 3)


def least_confidence(logits: Tensor) -> Tensor:
    """1 - p1, in [0, 1 - 1/C]."""
    return _each(lambda z: kernels.pixel_scores(z, "least_confidence"), logits, 3)


def bvsb(logits: Tensor) -> Tensor:
    """Best versus second best, p2 / p1, in [0, 1] (Cai et al., CVPR 2021). One class: 0."""
    return _each(lambda z: kernels.pixel_scores(z, "bvsb"), logits, 3)


def region_impurity(labels: Tensor, num_classes: int, radius: int) -> Tensor:
    """Entropy (nats) of the class shares in the (2 radius + 1)^2 window, clipped at the border.

    labels int [..., H, W], 0..num_classes-1 (else ValueError). RIPU's P before division by ln C
    (Xie et al., CVPR 2022, eq. 4).
    """
    return _each(lambda y: kernels.window_impurity(y, num_classes, radius), labels, 2)


def ripu(logits: Tensor, radius: int) -> Tensor:
    """RIPU, region mode: impurity / ln C x mean entropy / ln C over the clipped window, in [0, 1].

    Xie et al., CVPR 2022 (arXiv 2111.12940).
    """
    return _each(lambda z: kernels.ripu_map(z, radius), logits, 3)


def ripu_pixel(logits: Tensor, radius: int) -> Tensor:
    """RIPU, pixel mode: the pixel's entropy / ln C x impurity / ln C of its window, in [0, 1]."""
    return _each(lambda z: kernels.ripu_map(z, radius, pixel=True), logits, 3)


def bald(passes: Iterable[Tensor]) -> Tensor:
    """H[mean p] - mean H[p] over stochastic passes, nats, >= 0 (Houlsby et al. 2011).

    passes: logits [..., C, H, W] of one image, pass after pass; taken one at a time, so memory
    (one sum of probabilities, one of entropies) does not grow with their number. Raises ValueError
    when there is none or when shapes differ.
    """
    total: Tensor | None = None
    entropies: Tensor | None = None
    count = 0
    for logits in passes:
        if total is None or entropies is None:
            total = torch.zeros(logits.shape, dtype=torch.float32, device=logits.device)
            shape = logits.shape[:-3] + logits.shape[-2:]
            entropies = torch.zeros(shape, dtype=torch.float32, device=logits.device)
        if logits.shape != total.shape:
            raise ValueError(
                f"pass {count} has shape {list(logits.shape)}, not {list(total.shape)}"
            )
        entropies += entropy(logits)
        _add_probabilities(logits.detach(), total)
        count += 1
    if total is None or entropies is None:
        raise ValueError("bald needs at least one pass of logits")
    return _entropy_of_mean(total.div_(count)).sub_(entropies.div_(count)).clamp_(min=0.0)


def _add_probabilities(logits: Tensor, total: Tensor) -> None:
    """total += softmax(logits), a few rows at a time."""
    for rows in _row_slices(logits):
        total[..., rows, :] += torch.softmax(logits[..., rows, :].float(), dim=-3)


def _entropy_of_mean(probabilities: Tensor) -> Tensor:
    out = torch.empty(
        probabilities.shape[:-3] + probabilities.shape[-2:], device=probabilities.device
    )
    for rows in _row_slices(probabilities):
        p = probabilities[..., rows, :].double()
        out[..., rows, :] = -torch.xlogy(p, p).sum(dim=-3)
    return out


def _row_slices(x: Tensor, values: int = 1 << 20) -> list[slice]:
    height = x.shape[-2]
    rows = max(1, values * height // max(1, x.numel()))
    return [slice(r, min(height, r + rows)) for r in range(0, height, rows)]


def _each(function: Callable[[Tensor], Tensor], x: Tensor, dims: int) -> Tensor:
    """Apply to each of the leading dimensions' items; `dims` trailing ones belong to one item."""
    if x.ndim <= dims:
        return function(x)
    if x.shape[0] == 0:
        shape = x.shape[:-dims] + x.shape[-2:]
        return torch.empty(shape, dtype=torch.float32, device=x.device)
    return torch.stack([_each(function, item, dims) for item in x])
