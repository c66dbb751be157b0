"""Pixel scores of logits, as pure functions; a higher score is queried first.

All functions take logits [..., C, H, W] (floating point, never probabilities), apply the softmax
over C and use the natural logarithm. The number of classes C is taken from the input; for a single
class every score is 0. Results are float32 [..., H, W] on the device of the input, with identical
bits on every device. NaN or infinite logits raise ScoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .kernels import maps

__all__ = [
    "bald",
    "bvsb",
    "edald",
    "entropy",
    "least_confidence",
    "margin",
    "region_impurity",
    "ripu",
    "ripu_pixel",
]


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the predicted class distribution, -sum_c p_c ln p_c.

    Args:
        logits: float [..., C, H, W].

    Returns:
        float32 [..., H, W], nats, in [0, ln C].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if `logits` has a wrong shape or dtype.

    Example:
        >>> import torch
        >>> from regional_al.functional import entropy
        >>> entropy(torch.tensor([[[0.0, -100.0]], [[0.0, 100.0]]]))  # undecided, certain
        tensor([[0.6931, 0.0000]])
    """
    return _each(lambda z: maps.pixel_scores(z, "entropy"), logits, 3)


def margin(logits: Tensor) -> Tensor:
    """Smallness of the margin between the two most probable classes, 1 - (p1 - p2).

    Args:
        logits: float [..., C, H, W].

    Returns:
        float32 [..., H, W], in [0, 1].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if `logits` has a wrong shape or dtype.

    Example:
        >>> import torch
        >>> from regional_al.functional import margin
        >>> p = torch.tensor([0.5, 0.25, 0.25])
        >>> margin(p.log().reshape(3, 1, 1))
        tensor([[0.7500]])
    """
    return _each(lambda z: maps.pixel_scores(z, "margin"), logits, 3)


def least_confidence(logits: Tensor) -> Tensor:
    """Missing probability of the most probable class, 1 - p1.

    Args:
        logits: float [..., C, H, W].

    Returns:
        float32 [..., H, W], in [0, 1 - 1/C].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if `logits` has a wrong shape or dtype.

    Example:
        >>> import torch
        >>> from regional_al.functional import least_confidence
        >>> p = torch.tensor([0.5, 0.25, 0.25])
        >>> least_confidence(p.log().reshape(3, 1, 1))
        tensor([[0.5000]])
    """
    return _each(lambda z: maps.pixel_scores(z, "least_confidence"), logits, 3)


def bvsb(logits: Tensor) -> Tensor:
    """Best versus second best, p2 / p1.

    Source: Cai et al., "Revisiting Superpixels for Active Learning in Semantic Segmentation With
    Realistic Annotation Costs", CVPR 2021.

    Args:
        logits: float [..., C, H, W].

    Returns:
        float32 [..., H, W], in [0, 1].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if `logits` has a wrong shape or dtype.

    Example:
        >>> import torch
        >>> from regional_al.functional import bvsb
        >>> p = torch.tensor([0.5, 0.25, 0.25])
        >>> bvsb(p.log().reshape(3, 1, 1))
        tensor([[0.5000]])
    """
    return _each(lambda z: maps.pixel_scores(z, "bvsb"), logits, 3)


def region_impurity(labels: Tensor, num_classes: int, radius: int) -> Tensor:
    """Entropy of the class shares in the window around each pixel, clipped to the image.

    The window has (2 radius + 1)^2 pixels. This is the region impurity of RIPU before division by
    ln C. Source: Xie et al., CVPR 2022 (arXiv 2111.12940), eq. 4.

    Args:
        labels: int [..., H, W], classes 0..num_classes-1.
        num_classes: number of classes C.
        radius: window radius in pixels, >= 0.

    Returns:
        float32 [..., H, W], nats, in [0, ln C]; exactly 0 for windows of one class.

    Raises:
        ValueError: if a label is out of range, or for a wrong shape or dtype or a negative radius.

    Example:
        >>> import torch
        >>> from regional_al.functional import region_impurity
        >>> region_impurity(torch.tensor([[0, 0, 0, 1]]), num_classes=2, radius=1)
        tensor([[0.0000, 0.0000, 0.6365, 0.6931]])
    """
    return _each(lambda y: maps.region_impurity(y, num_classes, radius), labels, 2)


def ripu(logits: Tensor, radius: int) -> Tensor:
    """RIPU, region mode: region impurity times prediction uncertainty of the window.

    Impurity / ln C of the predicted classes, times mean entropy / ln C, both over the
    (2 radius + 1)^2 window clipped to the image. The cost does not depend on the radius. Source:
    Xie et al., "Towards Fewer Annotations: Active Learning via Region Impurity and Prediction
    Uncertainty for Domain Adaptive Semantic Segmentation", CVPR 2022 (arXiv 2111.12940).

    Args:
        logits: float [..., C, H, W].
        radius: window radius in pixels, >= 0.

    Returns:
        float32 [..., H, W], in [0, 1].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: for a wrong shape or dtype, or a negative radius.

    Example:
        >>> import torch
        >>> from regional_al.functional import ripu
        >>> logits = torch.tensor([[[0.0, 0.0, 0.0]], [[-1.0, -1.0, 1.0]]])
        >>> ripu(logits, radius=1)  # the predicted class changes between the last two pixels
        tensor([[0.0000, 0.7713, 0.8399]])
    """
    return _each(lambda z: maps.ripu(z, radius), logits, 3)


def ripu_pixel(logits: Tensor, radius: int) -> Tensor:
    """RIPU, pixel mode: region impurity of the window times uncertainty of the pixel itself.

    As `ripu`, with the entropy / ln C of the pixel in place of the mean over the window.

    Args:
        logits: float [..., C, H, W].
        radius: window radius in pixels, >= 0.

    Returns:
        float32 [..., H, W], in [0, 1].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: for a wrong shape or dtype, or a negative radius.

    Example:
        >>> import torch
        >>> from regional_al.functional import ripu_pixel
        >>> logits = torch.tensor([[[0.0, 0.0, 0.0]], [[-1.0, -2.0, 1.0]]])
        >>> ripu_pixel(logits, radius=1)
        tensor([[0.0000, 0.4840, 0.8399]])
    """
    return _each(lambda z: maps.ripu(z, radius, pixel=True), logits, 3)


def bald(passes: Iterable[Tensor]) -> Tensor:
    """BALD: mutual information between prediction and model, H[mean p] - mean H[p].

    The passes are consumed one at a time, so memory use (one sum of probabilities and one of
    entropies) does not grow with their number. Source: Houlsby et al., "Bayesian Active Learning
    for Classification and Preference Learning", 2011.

    Args:
        passes: logits, float [..., C, H, W], of each stochastic pass over the same image.

    Returns:
        float32 [..., H, W], nats, in [0, ln C].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if there is no pass or the shapes of the passes differ.

    Example:
        >>> import torch
        >>> from regional_al.functional import bald
        >>> agree = torch.tensor([100.0, 0.0]).reshape(2, 1, 1)
        >>> disagree = torch.tensor([0.0, 100.0]).reshape(2, 1, 1)
        >>> bald([agree, agree]).round(decimals=4), bald([agree, disagree]).round(decimals=4)
        (tensor([[0.]]), tensor([[0.6931]]))
    """
    of_mean, mean = _entropies(passes, "bald")
    return of_mean.sub_(mean).clamp_(min=0.0)


def edald(passes: Iterable[Tensor]) -> Tensor:
    """eDALD: `bald` plus the entropy of the mean prediction, 2 H[mean p] - mean H[p].

    High where the passes contradict one another and where they are undecided alike. Source: Kim et
    al., "Diffusion-Driven Two-Stage Active Learning for Low-Budget Semantic Segmentation", NeurIPS
    2025 (arXiv 2510.22229).

    Args:
        passes: as for `bald`.

    Returns:
        float32 [..., H, W], nats, in [0, 2 ln C].

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if there is no pass or the shapes of the passes differ.

    Example:
        >>> import torch
        >>> from regional_al.functional import edald
        >>> unsure = torch.zeros(2, 1, 1)
        >>> one, other = torch.tensor([[[[99.0]], [[0.0]]], [[[0.0]], [[99.0]]]])
        >>> edald([unsure, unsure]).round(decimals=4), edald([one, other]).round(decimals=4)
        (tensor([[0.6931]]), tensor([[1.3863]]))
    """
    of_mean, mean = _entropies(passes, "edald")
    return (of_mean - mean).clamp_(min=0.0).add_(of_mean)


def _entropies(passes: Iterable[Tensor], name: str) -> tuple[Tensor, Tensor]:
    """H[mean p] and mean H[p], float32 [..., H, W], of passes that are consumed one at a time."""
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
                f"pass {count} has shape {list(logits.shape)}, expected {list(total.shape)}"
            )
        entropies += entropy(logits)
        for rows in _row_slices(logits):
            total[..., rows, :] += torch.softmax(logits[..., rows, :].detach().float(), dim=-3)
        count += 1
    if total is None or entropies is None:
        raise ValueError(f"{name} needs the logits of at least one pass")
    return _entropy_of_mean(total.div_(count)), entropies.div_(count)


def _entropy_of_mean(probabilities: Tensor) -> Tensor:
    out = torch.empty(
        probabilities.shape[:-3] + probabilities.shape[-2:], device=probabilities.device
    )
    for rows in _row_slices(probabilities):
        p = probabilities[..., rows, :].double()
        out[..., rows, :] = -torch.xlogy(p, p).sum(dim=-3)
    return out


def _row_slices(x: Tensor, values: int = 1 << 20) -> list[slice]:
    """Slices of rows that together cover x, each of about `values` values."""
    height = x.shape[-2]
    rows = max(1, values * height // max(1, x.numel()))
    return [slice(r, min(height, r + rows)) for r in range(0, height, rows)]


def _each(function: Callable[[Tensor], Tensor], x: Tensor, dims: int) -> Tensor:
    """Apply `function` to each item of the leading dimensions; items have `dims` dimensions."""
    if x.ndim <= dims:
        return function(x)
    if x.shape[0] == 0:
        shape = x.shape[:-dims] + x.shape[-2:]
        return torch.empty(shape, dtype=torch.float32, device=x.device)
    return torch.stack([_each(function, item, dims) for item in x])
