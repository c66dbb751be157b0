"""Losses that average over labelled pixels only: set where possible, probed, or refused by name.

A sparse mask is mostly 255. A loss that divides by all pixels would shrink with every unlabeled
one, and some losses break on a batch without labels. So nothing is believed: every built loss is
tried on random logits, with its head's pixel sampler, and takes the first variant that passes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError, UnsupportedError
from ...types import UNLABELED
from ..specs import first_line, heads, type_name

Probe = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits [N, C, H, W], target int64 [N, H, W]) -> the scalar loss."""
Build = Callable[[Any, Any], Probe]
"""(config of a head, config of one loss) -> that loss as the head would call it."""


def average_over_labels(
    model: Any, refuse: bool, build: Build, reason_against: Callable[[Any], str | None]
) -> None:
    """Rewrite the losses of every head of a model config, in place.

    Cross entropy gets `avg_non_ignore=True` (or the variant that passes the probe). refuse: raise
    UnsupportedError for a loss that cannot take sparse labels (below image level); otherwise it
    is left as it is. reason_against: why a head (its config) cannot train on sparse labels
    whatever its loss is, or None.
    """
    for name, head in heads(model):
        spec = head.get("loss_decode", {"type": "CrossEntropyLoss"})
        several = isinstance(spec, (list, tuple))
        losses = [
            settled(head, loss, f"{name}.loss_decode", refuse, build)
            for loss in (spec if several else [spec])
        ]
        against = reason_against(head) if refuse else None
        if against is not None:
            raise UnsupportedError(
                f"{name}.type={type_name(head)!r} {against}; use a head with a pixel-wise loss"
            )
        if head.get("ignore_index", UNLABELED) != UNLABELED:
            raise UnsupportedError(
                f"{name}.ignore_index={head['ignore_index']!r} must be {UNLABELED}: that is what "
                "unlabeled pixels hold"
            )
        head["loss_decode"] = losses if several else losses[0]


def settled(head: Any, loss: Any, key: str, refuse: bool, build: Build) -> Any:
    """The first variant of a loss config that averages over labelled pixels only."""
    if not isinstance(loss, Mapping):
        raise ConfigError(f"{key}={loss!r} must be a dict(type=...)")
    reasons = []
    for variant in variants(loss):
        reason = problem(head, variant, key, build)
        if reason is None:
            return variant
        reasons.append(reason)
    if refuse:
        with_sampler = (
            f" with sampler {type_name(head['sampler'])!r}" if head.get("sampler") else ""
        )
        raise UnsupportedError(
            f"{key}.type={type_name(loss)!r}{with_sampler} cannot train on sparse labels: "
            f"{reasons[0]}; use a plain CrossEntropyLoss"
        )
    return loss


def variants(loss: Any) -> Iterator[Any]:
    """What may be tried for a loss, best first."""
    if type_name(loss) == "CrossEntropyLoss":
        averaged = copy.deepcopy(loss)
        averaged["avg_non_ignore"] = True
        yield averaged
        yield copy.deepcopy(loss)  # class weights: this one already divides by labelled weight
        guarded = copy.deepcopy(averaged)
        guarded["type"] = "LabelledCrossEntropyLoss"
        yield guarded
    else:
        yield copy.deepcopy(loss)


def problem(head: Any, loss: Any, key: str, build: Build) -> str | None:
    """Why a loss cannot take sparse labels, or None when it can.

    Tried on random logits [2, C, 12, 10]: unlabeled pixels added below (each with logits of its
    own) must not change the loss; a target of 255 alone must give a finite loss and gradients.
    """
    channels = head.get("out_channels") or head["num_classes"]
    classes = 2 if channels == 1 else channels
    try:
        probe = build(head, loss)
    except Exception as error:
        raise ConfigError(f"{key}: {first_line(error)}") from None
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 12, 10, generator=generator)
    target = torch.randint(0, classes, (2, 12, 10), generator=generator)
    target[:, ::3] = UNLABELED
    more = torch.cat([logits, torch.randn(2, channels, 30, 10, generator=generator)], dim=2)
    padded = torch.cat([target, torch.full((2, 30, 10), UNLABELED)], dim=1)
    try:
        value, grown = float(probe(logits, target)), float(probe(more, padded))
        if not math.isclose(value, grown, rel_tol=1e-4, abs_tol=1e-6):
            return f"adding unlabeled pixels changes it from {value:.4f} to {grown:.4f}"
        logits.requires_grad_(True)
        empty = probe(logits, torch.full_like(target, UNLABELED))
        if empty.requires_grad:
            empty.backward()  # type: ignore[no-untyped-call]
        gradient = logits.grad if logits.grad is not None else torch.zeros(1)
        if not (torch.isfinite(empty) and torch.isfinite(gradient).all()):
            return "it is not finite on a batch without labels"
    except Exception as error:
        return f"it fails on unlabeled pixels ({first_line(error)})"
    return None


class ZeroWithoutLabels:
    """Mixin for mmseg's CrossEntropyLoss: 0 on a batch without a labelled pixel, where one-channel
    sigmoid losses raise an error."""

    reduction: str

    def forward(
        self,
        cls_score: torch.Tensor,
        label: torch.Tensor,
        *args: Any,
        ignore_index: int = -100,
        **kwargs: Any,
    ) -> torch.Tensor:
        """As the loss; a zero that keeps the graph when every label is `ignore_index`."""
        reduction = kwargs.get("reduction_override") or self.reduction
        if reduction != "none" and bool((label == ignore_index).all()):
            return cls_score.sum() * 0.0
        loss: torch.Tensor = super().forward(  # type: ignore[misc]
            cls_score, label, *args, ignore_index=ignore_index, **kwargs
        )
        return loss


class HeadLoss(nn.Module):
    """One loss with its head's pixel sampler, called as mmseg's decode heads call it.

    Args:
        loss: The loss.
        sampler: Builds the pixel sampler of a head; called with this module. None: no sampler.
    """

    def __init__(self, loss: nn.Module, sampler: Callable[[Any], Any] | None) -> None:
        super().__init__()
        self.ignore_index = UNLABELED
        self.loss_decode = loss
        self.sampler = None if sampler is None else sampler(self)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, H, W], target int64 [N, H, W] -> the scalar loss."""
        weight = None
        if self.sampler is not None:
            weight = self.sampler.sample(logits, target[:, None])
        loss: torch.Tensor = self.loss_decode(
            logits, target, weight=weight, ignore_index=self.ignore_index
        )
        return loss.mean()  # as mmseg adds losses up
