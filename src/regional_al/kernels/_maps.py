"""Dense maps from logits: pixel scores, window means, window impurity, RIPU."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _fixed
from ._backends import Backend, backend_for, check_ids, check_logits, check_map, not_finite, outside
from ._fixed import Kind


def window_mean(
    values: Tensor, radius: int, *, backend: str | None = None, name: str | None = None
) -> Tensor:
    """Mean over the (2 radius + 1)^2 window clipped to the map: float [H, W] -> float32 [H, W].

    Cost independent of the radius.
    """
    values = float_map(values)
    area = _fixed.window_area(values.shape[0], values.shape[1], radius)
    shift = _fixed.fixed_shift(area, largest_of(values, name))
    out = torch.empty(values.shape, device=values.device)
    if out.numel():
        backend_for(values.device, backend).windows(
            values, None, radius, 1, "mean", area, shift, out
        )
    return out


def window_impurity(
    labels: Tensor, num_classes: int, radius: int, *, backend: str | None = None
) -> Tensor:
    """Entropy of the class shares in the clipped window: int [H, W] -> float32 [H, W], nats.

    Cost independent of the radius. From integer counts: exactly 0 where there is one class, and
    the same bits for the same counts in any order.
    """
    labels = check_ids(labels, "labels")
    area = _fixed.window_area(labels.shape[0], labels.shape[1], radius)
    out = torch.empty(labels.shape, device=labels.device)
    chosen = backend_for(labels.device, backend)
    if out.numel() and not chosen.windows(
        None, labels, radius, num_classes, "impurity", area, 0, out
    ):
        raise outside(labels, num_classes, "labels")
    return out


def pixel_scores(
    logits: Tensor,
    kind: Kind = "entropy",
    *,
    backend: str | None = None,
    name: str | None = None,
) -> Tensor:
    """A pixel score of logits [C, H, W] -> float32 [H, W]; kind: 'entropy' (nats), 'margin'
    1 - (p1 - p2), 'least_confidence' 1 - p1, 'bvsb' p2 / p1. One class: 0."""
    return pixels(check_logits(logits), kind, backend_for(logits.device, backend), name)[0]


def pixel_stats(
    logits: Tensor, *, backend: str | None = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Entropy (float32, nats) and argmax (int64, ties the lowest) of logits [C, H, W], fused."""
    entropy, label = pixels(
        check_logits(logits), "entropy", backend_for(logits.device, backend), name
    )
    return entropy, label.to(torch.int64)


def ripu_map(
    logits: Tensor,
    radius: int,
    *,
    pixel: bool = False,
    backend: str | None = None,
    name: str | None = None,
) -> Tensor:
    """RIPU (Xie et al., CVPR 2022): logits [C, H, W] -> float32 [H, W] in [0, 1].

    Region mode: impurity / ln C of the clipped window times its mean entropy / ln C. pixel=True:
    the pixel's own entropy / ln C in place of the mean. One class: 0.
    """
    logits = check_logits(logits)
    classes, height, width = logits.shape
    area = _fixed.window_area(height, width, radius)
    chosen = backend_for(logits.device, backend)
    entropy, label = pixels(logits, "entropy", chosen, name)
    return ripu_of(chosen, entropy, label, classes, radius, pixel, area)


def ripu_of(
    backend: Backend,
    entropy: Tensor,
    label: Tensor,
    classes: int,
    radius: int,
    pixel: bool,
    area: int,
) -> Tensor:
    """RIPU from pixel entropy and argmax [H, W]."""
    out = torch.empty_like(entropy)
    if out.numel():
        mode = "ripu_pixel" if pixel else "ripu"
        shift = _fixed.entropy_shift(area, classes)
        backend.windows(entropy, label, radius, classes, mode, area, shift, out)
    return out


def pixels(logits: Tensor, kind: Kind, backend: Backend, name: str | None) -> tuple[Tensor, Tensor]:
    """Pixel score and argmax (uint8 where C fits) of logits. Raises ScoreError."""
    score = torch.empty(logits.shape[1:], device=logits.device)
    label = _fixed.new_label(logits)
    if score.numel() and not backend.pixel(logits, kind, score, label):
        raise not_finite(name)
    return score, label


def float_map(values: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
    """values [H, W] as float32, or float64 as they are."""
    values = check_map(values, "values", shape)
    return values if values.dtype == torch.float64 else values.float()


def largest_of(values: Tensor, name: str | None) -> float:
    """Largest magnitude. Raises ScoreError on NaN or infinity."""
    if values.numel() == 0:
        return 0.0
    low, high = (float(v) for v in torch.aminmax(values))
    largest = max(-low, high)
    if not largest < float("inf"):  # NaN too
        raise not_finite(name, "scores")
    return largest
