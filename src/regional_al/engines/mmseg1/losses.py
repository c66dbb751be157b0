"""mmseg's losses and pixel samplers, as `loss_probe` tries them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from mmseg.structures import build_pixel_sampler
from torch import nn

from ...types import UNLABELED
from ..mmseg import loss_probe
from ..specs import type_name


@MODELS.register_module()
class LabelledCrossEntropyLoss(CrossEntropyLoss):  # type: ignore[misc]
    """mmseg's CrossEntropyLoss (same arguments) that is 0 on a batch without a labelled pixel,
    where one-channel sigmoid losses raise an error."""

    def forward(
        self,
        cls_score: torch.Tensor,
        label: torch.Tensor,
        *args: Any,
        ignore_index: int = -100,
        **kwargs: Any,
    ) -> torch.Tensor:
        """As the parent; a zero that keeps the graph when every label is `ignore_index`."""
        reduction = kwargs.get("reduction_override") or self.reduction
        if reduction != "none" and bool((label == ignore_index).all()):
            return cls_score.sum() * 0.0
        loss: torch.Tensor = super().forward(
            cls_score, label, *args, ignore_index=ignore_index, **kwargs
        )
        return loss


def average_over_labels(model: Any, refuse: bool) -> None:
    """Rewrite the losses of every head of a model config, in place; see `loss_probe`."""
    loss_probe.average_over_labels(model, refuse, Probe, reason_against)


def reason_against(head: Any) -> str | None:
    """Why a head cannot train on sparse labels whatever its loss is, or None."""
    if type_name(head) not in _OWN_LOSS:
        return None
    return "computes a loss over instance masks, which cannot leave unlabeled pixels out"


_OWN_LOSS = ("MaskFormerHead", "Mask2FormerHead", "SideAdapterCLIPHead", "VPDDepthHead")


class Probe(nn.Module):
    """One loss with its head's pixel sampler, called as mmseg's decode heads call it."""

    def __init__(self, head: Any, loss: Any) -> None:
        super().__init__()
        self.ignore_index = UNLABELED
        self.loss_decode = MODELS.build(copy.deepcopy(loss))
        sampler = head.get("sampler")
        self.sampler = None if sampler is None else build_pixel_sampler(dict(sampler), context=self)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, H, W], target int64 [N, H, W] -> the scalar loss."""
        weight = None
        if self.sampler is not None:
            weight = self.sampler.sample(logits, target[:, None])
        loss: torch.Tensor = self.loss_decode(
            logits, target, weight=weight, ignore_index=self.ignore_index
        )
        return loss.mean()  # as mmengine's parse_losses
