"""Losses and pixel samplers of MMSegmentation 1.x, as `engines.mmseg.loss_probe` tries them."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from mmseg.structures import build_pixel_sampler

from ..mmseg import loss_probe
from ..specs import type_name


@MODELS.register_module()
class LabelledCrossEntropyLoss(loss_probe.ZeroWithoutLabels, CrossEntropyLoss):  # type: ignore[misc]
    """mmseg's CrossEntropyLoss (same arguments) that is 0 on a batch without a labelled pixel."""


def average_over_labels(model: Any, refuse: bool) -> None:
    """Rewrite the losses of every head of a model config, in place; see `loss_probe`."""
    loss_probe.average_over_labels(model, refuse, build, reason_against)


def reason_against(head: Any) -> str | None:
    """Why a head cannot train on sparse labels whatever its loss is, or None."""
    if type_name(head) not in _OWN_LOSS:
        return None
    return "computes a loss over instance masks, which cannot leave unlabeled pixels out"


_OWN_LOSS = ("MaskFormerHead", "Mask2FormerHead", "SideAdapterCLIPHead", "VPDDepthHead")


def build(head: Any, loss: Any) -> loss_probe.HeadLoss:
    """The loss of a head's config, as the head calls it."""
    spec = head.get("sampler")
    sampler = None if spec is None else partial(_sampler, dict(spec))
    return loss_probe.HeadLoss(MODELS.build(copy.deepcopy(loss)), sampler)


def _sampler(spec: dict[str, Any], context: Any) -> Any:
    return build_pixel_sampler(spec, context=context)
