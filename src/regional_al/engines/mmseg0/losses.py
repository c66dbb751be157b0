"""Losses and pixel samplers of MMSegmentation 0.x, as `engines.mmseg.loss_probe` tries them."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from mmseg.core import build_pixel_sampler
from mmseg.models.builder import LOSSES, build_loss
from mmseg.models.losses import CrossEntropyLoss

from ..mmseg import loss_probe
from ..specs import type_name


@LOSSES.register_module()
class LabelledCrossEntropyLoss(loss_probe.ZeroWithoutLabels, CrossEntropyLoss):  # type: ignore[misc]
    """mmseg's CrossEntropyLoss (same arguments) that is 0 on a batch without a labelled pixel."""


def average_over_labels(model: Any, refuse: bool) -> None:
    """Rewrite the losses of every head of a model config, in place; see `loss_probe`."""
    loss_probe.average_over_labels(model, refuse, build, reason_against)


def reason_against(head: Any) -> str | None:
    """Why a head cannot train on sparse labels whatever its loss is, or None."""
    name = type_name(head)
    if name == "STDCHead":
        return "learns the borders of label masks, and sparse labels have borders of their own"
    if name == "EncHead" and head.get("use_se_loss", True):
        return (
            "learns which classes an image lacks, which sparse labels do not say (use_se_loss="
            "False would do)"
        )
    return None


def build(head: Any, loss: Any) -> loss_probe.HeadLoss:
    """The loss of a head's config, as the head calls it."""
    spec = head.get("sampler")
    sampler = None if spec is None else partial(_sampler, dict(spec))
    return loss_probe.HeadLoss(build_loss(copy.deepcopy(loss)), sampler)


def _sampler(spec: dict[str, Any], context: Any) -> Any:
    return build_pixel_sampler(spec, context=context)
