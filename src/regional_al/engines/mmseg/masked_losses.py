"""Losses that see labelled pixels alone, for both generations of MMSegmentation. Only torch.

Each takes the arguments of the mmseg loss that it replaces and has its value where every pixel is
labelled. Elsewhere it is the value that the labelled pixels would have as a mask of their own, so
pixels of 255 neither enter it nor receive a gradient. A batch without labels gives 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...types import UNLABELED


def nothing(logits: torch.Tensor) -> torch.Tensor:
    """A loss of 0 that keeps the graph, whatever the logits hold.

    Example:
        >>> float(nothing(torch.tensor([1.0, float("inf")])))
        0.0
    """
    return logits.flatten()[:0].sum()


def pixels(logits: torch.Tensor, label: torch.Tensor, kept: torch.Tensor) -> tuple[Any, Any]:
    """The kept pixels as one image of a single column.

    Args:
        logits: [N, C, ...].
        label: [N, ...].
        kept: bool, as label.

    Returns:
        logits [1, C, P, 1] and label [1, P, 1], the pixels in row-major order.

    Example:
        >>> label = torch.tensor([[[0, 255], [1, 255]]])
        >>> logits, found = pixels(torch.rand(1, 3, 2, 2), label, label != 255)
        >>> logits.shape, found.flatten().tolist()
        (torch.Size([1, 3, 2, 1]), [0, 1])
    """
    return logits.transpose(0, 1)[:, kept][None, ..., None], label[kept][None, :, None]


def reduced(values: Sequence[torch.Tensor], reduction: str) -> torch.Tensor:
    """Values of several images, by 'mean', 'sum' or 'none'."""
    stacked = torch.stack(list(values))
    if reduction == "none":
        return stacked
    return stacked.mean() if reduction == "mean" else stacked.sum()


class LabelledPixels:
    """Mixin for a loss of mmseg, (cls_score [N, C, H, W], label [N, H, W]) -> value, that counts
    pixels without regard to their places.

    Where the loss is a mean over images, those without a label are left out of it.
    """

    reduction: str = "mean"
    every_image: bool = False
    """Whether the loss is one value an image, reduced at the end."""
    without_ignoring: bool = False
    """Whether the loss fails on few pixels when it is told what to ignore, of which none are left.
    """

    def forward(
        self,
        cls_score: torch.Tensor,
        label: torch.Tensor,
        weight: torch.Tensor | None = None,
        avg_factor: Any = None,
        reduction_override: str | None = None,
        ignore_index: int = UNLABELED,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The loss of the pixels whose label is not `ignore_index`."""
        kept = label != ignore_index
        if not bool(kept.any()):
            return nothing(cls_score)
        kwargs["ignore_index"] = None if self.without_ignoring else ignore_index
        if weight is not None:
            kwargs["weight"] = weight
        forward: Callable[..., torch.Tensor] = super().forward  # type: ignore[misc]
        if not (self.every_image or getattr(self, "per_image", False)):
            kwargs.update(avg_factor=avg_factor, reduction_override=reduction_override)
            return forward(*pixels(cls_score, label, kept), **kwargs)
        parts = [
            pixels(cls_score[i : i + 1], label[i : i + 1], kept[i : i + 1])
            for i, one in enumerate(kept)
            if bool(one.any())
        ]
        values = [forward(*part, reduction_override="mean", **kwargs) for part in parts]
        return reduced(values, reduction_override or self.reduction)


class PixelsOfEachImage(LabelledPixels):
    """`LabelledPixels` for a loss that is a mean over images, such as Dice and Tversky."""

    every_image = True


class PixelsUnnamed(LabelledPixels):
    """`LabelledPixels` for Lovász, which drops a dimension where it keeps a single pixel."""

    without_ignoring = True


class LabelledFocal(nn.Module):
    """Sigmoid focal loss over labelled pixels (Lin et al., 2017, https://arxiv.org/abs/1708.02002),
    on every device; mmseg's own needs a compiled op on GPUs and fails on CPUs in some releases.

    Args:
        use_sigmoid: Must be True, as in mmseg.
        gamma: Exponent of the modulating factor, >= 0.
        alpha: Weight of the foreground, 0..1, of every class or of each; the background's is
            1 - alpha.
        reduction: 'mean' over labelled pixels and classes, 'sum', or 'none': [N, C, H, W].
        class_weight: A factor for each class; None: 1.
        loss_weight: A factor.
        loss_name: As in mmseg.

    Raises:
        ValueError: use_sigmoid is False or reduction is not one of the three.

    Example:
        >>> loss = LabelledFocal()
        >>> label = torch.tensor([[[0, 255]]])
        >>> some, other = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
        >>> other[..., 1] = 9.0
        >>> bool(loss(some, label) == loss(other, label))
        True
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: float | Sequence[float] = 0.5,
        reduction: str = "mean",
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = "loss_focal",
    ) -> None:
        super().__init__()
        if use_sigmoid is not True:
            raise ValueError("use_sigmoid must be True: there is no softmax focal loss")
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"reduction={reduction!r} must be 'none', 'mean' or 'sum'")
        self.gamma, self.alpha, self.class_weight = gamma, alpha, class_weight
        self.reduction, self.loss_weight, self.loss_name = reduction, loss_weight, loss_name

    def forward(
        self,
        pred: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        ignore_index: int = UNLABELED,
        **kwargs: Any,
    ) -> torch.Tensor:
        """pred [N, C, ...], target int64 [N, ...], weight as target -> the loss."""
        reduction = reduction_override or self.reduction
        kept, classes = target != ignore_index, pred.shape[1]
        labels = torch.where(kept, target, 0)
        if classes == 1:
            foreground = labels[..., None].to(pred)
        else:
            foreground = F.one_hot(labels, classes).to(pred)
        logits = pred.movedim(1, -1)
        probability = logits.sigmoid()
        missed = (1 - probability) * foreground + probability * (1 - foreground)
        alpha = torch.as_tensor(self.alpha).to(pred)
        balance = alpha * foreground + (1 - alpha) * (1 - foreground)
        losses = F.binary_cross_entropy_with_logits(logits, foreground, reduction="none")
        losses = losses * balance * missed.pow(self.gamma)
        if weight is not None:
            losses = losses * weight[..., None]
        if self.class_weight is not None:
            losses = losses * torch.as_tensor(self.class_weight).to(pred)
        if reduction == "none":
            return self.loss_weight * torch.where(kept[..., None], losses, 0.0).movedim(-1, 1)
        losses = losses[kept]
        if not losses.numel():
            return nothing(pred)
        total = self.loss_weight * losses.sum()
        if reduction == "sum":
            return total
        return total / (losses.numel() if avg_factor is None else avg_factor)


class LabelledOhem:
    """Mixin for mmseg's OhemCrossEntropy: over labelled pixels, called with or without a weight,
    and 0 where no pixel is hard (of one pixel that is sure mmseg's own makes NaN)."""

    thresh: float
    min_kept: int
    loss_weight: float
    class_weight: Sequence[float] | None
    ignore_label: int

    def forward(
        self,
        score: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """score [N, C, H, W], target int64 [N, H, W] -> the mean over hard pixels."""
        ignored = self.ignore_label if ignore_index is None else ignore_index
        kept = target != ignored
        if not bool(kept.any()):
            return nothing(score)
        logits, label = pixels(score, target, kept)
        classes = None if self.class_weight is None else score.new_tensor(self.class_weight)
        losses = F.cross_entropy(logits, label, weight=classes, reduction="none").flatten()
        if weight is not None:
            losses = losses * weight[kept]
        probability = logits.detach().softmax(1).gather(1, label[:, None]).flatten()
        ordered = probability.sort().values
        threshold = max(float(ordered[min(self.min_kept, len(ordered) - 1)]), self.thresh)
        hard = losses[probability < threshold]
        return self.loss_weight * hard.mean() if hard.numel() else nothing(score)


class LabelledBoundary:
    """Mixin for mmseg's BoundaryLoss: over the pixels of which it is known whether they are on a
    border."""

    def forward(
        self, bd_pre: torch.Tensor, bd_gt: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        """bd_pre [N, 1, H, W], bd_gt [N, H, W] of 0, 1 and 255 -> the loss."""
        known = bd_gt != UNLABELED
        if not bool(known.any()):
            return nothing(bd_pre)
        value: torch.Tensor = super().forward(  # type: ignore[misc]
            *pixels(bd_pre, bd_gt, known)
        )
        return value


class ZeroWithoutLabels:
    """Mixin for mmseg's CrossEntropyLoss: 0 on a batch without a labelled pixel, where one-channel
    sigmoid losses raise an error; 255 is ignored also by heads that do not say so."""

    reduction: str

    def forward(
        self,
        cls_score: torch.Tensor,
        label: torch.Tensor,
        *args: Any,
        ignore_index: int = UNLABELED,
        **kwargs: Any,
    ) -> torch.Tensor:
        """As the loss; a zero that keeps the graph when every label is `ignore_index`."""
        reduction = kwargs.get("reduction_override") or self.reduction
        if reduction != "none" and bool((label == ignore_index).all()):
            return nothing(cls_score)
        loss: torch.Tensor = super().forward(  # type: ignore[misc]
            cls_score, label, *args, ignore_index=ignore_index, **kwargs
        )
        return loss
