"""Losses, heads and pixel samplers of MMSegmentation 0.x: those over labelled pixels, and how they
are tried (`engines.mmseg.loss_probe`, `engines.mmseg.head_probe`)."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from mmseg.core import build_pixel_sampler
from mmseg.core.seg.builder import PIXEL_SAMPLERS
from mmseg.models import losses as stock_losses
from mmseg.models.builder import HEADS, LOSSES, build_loss
from mmseg.models.decode_heads import EncHead, FCNHead, STDCHead

from ...types import UNLABELED
from ..mmseg import head_probe, loss_average, loss_probe, masked_heads, masked_losses


@LOSSES.register_module()
class LabelledCrossEntropyLoss(
    masked_losses.ZeroWithoutLabels,
    stock_losses.CrossEntropyLoss,  # type: ignore[misc]
):
    """mmseg's CrossEntropyLoss (same arguments) that is 0 on a batch without a labelled pixel."""


@LOSSES.register_module()
class LabelledDiceLoss(
    masked_losses.PixelsOfEachImage,
    stock_losses.DiceLoss,  # type: ignore[misc]
):
    """mmseg's DiceLoss (same arguments) over labelled pixels."""


@LOSSES.register_module()
class LabelledTverskyLoss(
    masked_losses.PixelsOfEachImage,
    stock_losses.TverskyLoss,  # type: ignore[misc]
):
    """mmseg's TverskyLoss (same arguments) over labelled pixels."""


@LOSSES.register_module()
class LabelledLovaszLoss(
    masked_losses.PixelsUnnamed,
    stock_losses.LovaszLoss,  # type: ignore[misc]
):
    """mmseg's LovaszLoss (same arguments) over labelled pixels."""


@LOSSES.register_module()
class LabelledFocalLoss(masked_losses.LabelledFocal):
    """mmseg's FocalLoss (same arguments) over labelled pixels."""


@HEADS.register_module()
class LabelledEncHead(masked_heads.PresentClasses, EncHead):  # type: ignore[misc]
    """mmseg's EncHead (same arguments) that leaves out classes which an image may hold unseen."""


class KnownDetails(FCNHead):  # type: ignore[misc]
    """What STDCHead hands its borders on to: those that are unknown become 255."""

    unknown: torch.Tensor

    def losses(self, seg_logit: Any, seg_label: Any) -> Any:
        """The losses on borders that are known."""
        return super().losses(seg_logit, seg_label.masked_fill(self.unknown, UNLABELED))


@HEADS.register_module()
class LabelledSTDCHead(STDCHead, KnownDetails):  # type: ignore[misc]
    """mmseg's STDCHead (same arguments), to which the end of a label is no border of an object."""

    def losses(self, seg_logit: Any, seg_label: Any) -> Any:
        """The losses on the borders of classes."""
        self.unknown = masked_heads.unknown_details(seg_label)
        return super().losses(seg_logit, seg_label)


PIXEL_SAMPLERS.register_module(name=loss_average.SAMPLER, module=loss_average.AverageWeights)


def build(head: Any, loss: Any) -> loss_probe.HeadLoss:
    """The loss of a head's config, as the head calls it."""
    spec = head.get("sampler")
    sampler = None if spec is None else partial(_sampler, dict(spec))
    return loss_probe.HeadLoss(build_loss(copy.deepcopy(loss)), sampler)


def _sampler(spec: dict[str, Any], context: Any) -> Any:
    return build_pixel_sampler(spec, context=context)


def is_stock(kind: Any) -> bool:
    """Whether a `type` is a class of mmseg itself."""
    found = (LOSSES.get(kind) or HEADS.get(kind)) if isinstance(kind, str) else kind
    return str(getattr(found, "__module__", "")).startswith("mmseg.")


SETTLING = loss_probe.Settling(
    build,
    is_stock,
    losses={
        "DiceLoss": "LabelledDiceLoss",
        "TverskyLoss": "LabelledTverskyLoss",
        "LovaszLoss": "LabelledLovaszLoss",
        "FocalLoss": "LabelledFocalLoss",
    },
    heads={"EncHead": "LabelledEncHead", "STDCHead": "LabelledSTDCHead"},
)


def average_over_labels(model: Any, refuse: bool) -> None:
    """Rewrite the heads of a model config and their losses, in place; see `loss_probe`."""
    loss_probe.average_over_labels(model, refuse, SETTLING)


def weigh_pixels(model: Any, acquisition: Any) -> None:
    """Rewrite the heads of a model config, in place; see `loss_average`."""
    loss_average.weigh_pixels(model, acquisition, build)


class Generation0(head_probe.Generation):
    """How heads of MMSegmentation 0.x take labels: int64 [N, 1, H, W].

    Args:
        img_metas: Of the batch, which some heads are handed beside them.
    """

    method = "losses"

    def __init__(self, img_metas: Any) -> None:
        self.img_metas = img_metas

    def losses(self, model: Any, features: Any, truth: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict(
            model._decode_head_forward_train(features, self.img_metas, truth)
        )
        if model.with_auxiliary_head:
            more = model._auxiliary_head_forward_train(features, self.img_metas, truth)
            found.update(more)
        return found

    def mask(self, truth: Any) -> torch.Tensor:
        found: torch.Tensor = truth[:, 0]
        return found

    def window(self, truth: Any, rows: slice, columns: slice) -> Any:
        return truth[:, :, rows, columns].clone()

    def at_points(self, arguments: tuple[Any, ...], truth: Any) -> head_probe.PointCall | None:
        if len(arguments) != 2:
            return None
        logits, labels = arguments
        if not (torch.is_tensor(logits) and torch.is_tensor(labels)):
            return None
        if logits.dim() != 3 or labels.shape != (logits.shape[0], logits.shape[2]):
            return None
        mask = self.mask(truth)
        found = mask.flatten(1)[:, head_probe.places(mask, logits.shape[2])]
        return head_probe.PointCall((found,), found)
