"""Losses, heads and pixel samplers of MMSegmentation 1.x: those over labelled pixels, and how they
are tried (`engines.mmseg.loss_probe`, `engines.mmseg.head_probe`)."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models import losses as stock_losses
from mmseg.models.decode_heads import EncHead, FCNHead, STDCHead
from mmseg.registry import MODELS, TASK_UTILS
from mmseg.structures import SegDataSample, build_pixel_sampler

from ...types import UNLABELED
from ..mmseg import head_probe, loss_average, loss_probe, masked_heads, masked_losses


@MODELS.register_module()
class LabelledCrossEntropyLoss(
    masked_losses.ZeroWithoutLabels,
    stock_losses.CrossEntropyLoss,  # type: ignore[misc]
):
    """mmseg's CrossEntropyLoss (same arguments) that is 0 on a batch without a labelled pixel."""


@MODELS.register_module()
class LabelledDiceLoss(
    masked_losses.PixelsOfEachImage,
    stock_losses.DiceLoss,  # type: ignore[misc]
):
    """mmseg's DiceLoss (same arguments) over labelled pixels."""


@MODELS.register_module()
class LabelledTverskyLoss(
    masked_losses.PixelsOfEachImage,
    stock_losses.TverskyLoss,  # type: ignore[misc]
):
    """mmseg's TverskyLoss (same arguments) over labelled pixels."""


@MODELS.register_module()
class LabelledLovaszLoss(
    masked_losses.PixelsUnnamed,
    stock_losses.LovaszLoss,  # type: ignore[misc]
):
    """mmseg's LovaszLoss (same arguments) over labelled pixels."""


@MODELS.register_module()
class LabelledOhemCrossEntropy(
    masked_losses.LabelledOhem,
    stock_losses.OhemCrossEntropy,  # type: ignore[misc]
):
    """mmseg's OhemCrossEntropy (same arguments) over labelled pixels."""


@MODELS.register_module()
class LabelledBoundaryLoss(
    masked_losses.LabelledBoundary,
    stock_losses.BoundaryLoss,  # type: ignore[misc]
):
    """mmseg's BoundaryLoss (same arguments) over pixels that are known to be on a border or not."""


@MODELS.register_module()
class LabelledFocalLoss(masked_losses.LabelledFocal):
    """mmseg's FocalLoss (same arguments) over labelled pixels."""


@MODELS.register_module()
class LabelledEncHead(masked_heads.PresentClasses, EncHead):  # type: ignore[misc]
    """mmseg's EncHead (same arguments) that leaves out classes which an image may hold unseen."""


class KnownDetails(FCNHead):  # type: ignore[misc]
    """What STDCHead hands its borders on to: those that are unknown become 255."""

    unknown: torch.Tensor

    def loss_by_feat(self, seg_logits: Any, batch_data_samples: Any) -> Any:
        """The losses on borders that are known."""
        for sample, unknown in zip(batch_data_samples, self.unknown, strict=True):
            sample.gt_sem_seg.data[unknown] = UNLABELED
        return super().loss_by_feat(seg_logits, batch_data_samples)


@MODELS.register_module()
class LabelledSTDCHead(STDCHead, KnownDetails):  # type: ignore[misc]
    """mmseg's STDCHead (same arguments), to which the end of a label is no border of an object."""

    def loss_by_feat(self, seg_logits: Any, batch_data_samples: Any) -> Any:
        """The losses on the borders of classes."""
        self.unknown = masked_heads.unknown_details(self._stack_batch_gt(batch_data_samples))
        return super().loss_by_feat(seg_logits, batch_data_samples)


TASK_UTILS.register_module(name=loss_average.SAMPLER, module=loss_average.AverageWeights)


def build(head: Any, loss: Any) -> loss_probe.HeadLoss:
    """The loss of a head's config, as the head calls it."""
    spec = head.get("sampler")
    sampler = None if spec is None else partial(_sampler, dict(spec))
    return loss_probe.HeadLoss(MODELS.build(copy.deepcopy(loss)), sampler)


def _sampler(spec: dict[str, Any], context: Any) -> Any:
    return build_pixel_sampler(spec, context=context)


def is_stock(kind: Any) -> bool:
    """Whether a `type` is a class of mmseg itself."""
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return str(getattr(found, "__module__", "")).startswith("mmseg.")


_SET_LOSS = "computes a loss over masks of classes, which cannot leave unlabeled pixels out"
SETTLING = loss_probe.Settling(
    build,
    is_stock,
    losses={
        "DiceLoss": "LabelledDiceLoss",
        "TverskyLoss": "LabelledTverskyLoss",
        "LovaszLoss": "LabelledLovaszLoss",
        "FocalLoss": "LabelledFocalLoss",
        "OhemCrossEntropy": "LabelledOhemCrossEntropy",
        "BoundaryLoss": "LabelledBoundaryLoss",
    },
    heads={"EncHead": "LabelledEncHead", "STDCHead": "LabelledSTDCHead"},
    sets={"MaskFormerHead": "LabelledMaskFormerHead", "Mask2FormerHead": "LabelledMask2FormerHead"},
    against={
        "SideAdapterCLIPHead": _SET_LOSS,
    },
    other_tasks={"VPDDepthHead": "depths"},
)


def average_over_labels(model: Any, refuse: bool) -> None:
    """Rewrite the heads of a model config and their losses, in place; see `loss_probe`."""
    loss_probe.average_over_labels(model, refuse, SETTLING)


def weigh_pixels(model: Any, acquisition: Any) -> None:
    """Rewrite the heads of a model config, in place; see `loss_average`."""
    loss_average.weigh_pixels(model, acquisition, build)


class Generation1(head_probe.Generation):
    """How heads of MMSegmentation 1.x take labels: a list of SegDataSample."""

    method = "loss_by_feat"

    def losses(self, model: Any, features: Any, truth: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict(model._decode_head_forward_train(features, truth))
        if model.with_auxiliary_head:
            found.update(model._auxiliary_head_forward_train(features, truth))
        return found

    def mask(self, truth: Any) -> torch.Tensor:
        return torch.cat([sample.gt_sem_seg.data for sample in truth])

    def window(self, truth: Any, rows: slice, columns: slice) -> Any:
        parts = []
        for sample in truth:
            part = SegDataSample(metainfo=sample.metainfo)
            for key, field in sample.items():
                if isinstance(field, PixelData):
                    part.set_data({key: PixelData(data=field.data[:, rows, columns].clone())})
            parts.append(part)
        return parts

    def at_points(self, arguments: tuple[Any, ...], truth: Any) -> head_probe.PointCall | None:
        if len(arguments) != 3:
            return None
        logits, points, _ = arguments
        if not (torch.is_tensor(logits) and torch.is_tensor(points)):
            return None
        if logits.dim() != 3 or points.shape != (logits.shape[0], logits.shape[2], 2):
            return None
        mask = self.mask(truth)
        height, width = mask.shape[1:]
        chosen = head_probe.places(mask, logits.shape[2])
        # (x, y) of the pixels' centres, as shares of the image
        centres = torch.stack([chosen % width + 0.5, chosen // width + 0.5], dim=1)
        centres = (centres / centres.new_tensor([width, height])).to(points)
        return head_probe.PointCall((centres.expand_as(points), truth), mask.flatten(1)[:, chosen])
