"""Losses that average over labelled pixels only: set, substituted by name, or refused.

A sparse mask is mostly 255. A loss that divides by all pixels would shrink with every unlabeled
one, and some losses break on a batch without labels. So nothing is believed: every built loss is
tried on random logits, with its head's pixel sampler, and takes the first variant that passes.
What heads make of it, and losses of their own, are tried by `head_probe` on the built model.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError, UnsupportedError
from ...runtime import distributed as dist
from ...types import UNLABELED
from ..specs import first_line, heads, type_name

log = logging.getLogger("regional_al")
Probe = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits [N, C, H, W], target int64 [N, H, W]) -> the scalar loss."""

LABELLED_CE = "LabelledCrossEntropyLoss"
CALLING_BARE = ("DDRHead", "PIDHead")
"""Heads that call their losses without weight and ignore_index, and each for something else."""


@dataclass(frozen=True)
class Settling:
    """What a generation of MMSegmentation offers.

    Args:
        build: (config of a head, config of one loss) -> that loss as the head would call it.
        is_stock: Whether a `type` of a config is mmseg's own class of that name.
        losses: Name of a loss of mmseg -> name of the one over labelled pixels.
        heads: The same of heads with losses of their own.
        sets: The same of heads that predict a set of masks and have no `loss_decode`.
        against: Name of a head -> why it cannot train on sparse labels whatever its loss is.
        other_tasks: Name of a head that does not predict classes -> what it predicts.
    """

    build: Callable[[Any, Any], Probe]
    is_stock: Callable[[Any], bool]
    losses: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)
    other_tasks: Mapping[str, str] = field(default_factory=dict)


def average_over_labels(model: Any, refuse: bool, settling: Settling) -> None:
    """Rewrite the heads of a model config and their losses, in place.

    Cross entropy gets `avg_non_ignore=True` (or the variant that passes the probe); other losses
    and heads of mmseg are substituted by those over labelled pixels, which one line tells. refuse:
    raise UnsupportedError for a loss that cannot take sparse labels (below image level); otherwise
    only what fails on whole masks, too, is substituted.
    """
    told: list[str] = []
    for name, head in heads(model):
        predicted = settling.other_tasks.get(type_name(head))
        if predicted is not None:
            raise UnsupportedError(
                f"{name}.type={type_name(head)!r} predicts {predicted}, not classes: use a config "
                "of semantic segmentation"
            )
        against = settling.against.get(type_name(head))
        if against is not None:
            if refuse:
                raise UnsupportedError(
                    f"{name}.type={type_name(head)!r} {against}; use a head with a pixel-wise loss,"
                    " or label whole images with acquisition.level='image'"
                )
            continue
        check_ignored(name, head)
        if type_name(head) in settling.sets.keys() | settling.sets.values():
            other = settling.sets.get(type_name(head))
            if refuse and other is not None and settling.is_stock(head["type"]):
                told.append(f"{name}: {type_name(head)} by {other}")
                head["type"] = other
            continue
        spec = head.get("loss_decode", {"type": "CrossEntropyLoss"})
        several = isinstance(spec, (list, tuple))
        losses = [
            settled(head, loss, f"{name}.loss_decode", refuse, settling)
            for loss in (spec if several else [spec])
        ]
        for old, new in zip(spec if several else [spec], losses, strict=True):
            if type_name(new) not in (type_name(old), LABELLED_CE):
                told.append(f"{name}.loss_decode: {type_name(old)} by {type_name(new)}")
        head["loss_decode"] = losses if several else losses[0]
        other = settling.heads.get(type_name(head))
        if refuse and other is not None and settling.is_stock(head["type"]):
            told.append(f"{name}: {type_name(head)} by {other}")
            head["type"] = other
            if "loss_se_decode" in head or other == "LabelledEncHead":
                head["loss_se_decode"] = of_classes(head.get("loss_se_decode"))
    if told and dist.is_main():
        log.warning("replaced, so that unlabelled pixels stay out of the loss: %s", "; ".join(told))


def check_ignored(name: str, head: Any) -> None:
    """Raise UnsupportedError when a head ignores another id than that of unlabelled pixels."""
    if head.get("ignore_index", UNLABELED) != UNLABELED:
        raise UnsupportedError(
            f"{name}.ignore_index={head['ignore_index']!r} must be {UNLABELED}: that is what "
            "unlabeled pixels hold"
        )


def of_classes(loss: Any) -> Any:
    """EncHead's loss over classes, averaging over those of which it is known whether an image has
    them."""
    spec = copy.deepcopy(loss) or {
        "type": "CrossEntropyLoss",
        "use_sigmoid": True,
        "loss_weight": 0.2,
    }
    if type_name(spec) == "CrossEntropyLoss":
        spec["type"], spec["avg_non_ignore"] = LABELLED_CE, True
    return spec


def settled(head: Any, loss: Any, key: str, refuse: bool, settling: Settling) -> Any:
    """The first variant of a loss config that averages over labelled pixels only."""
    if not isinstance(loss, Mapping):
        raise ConfigError(f"{key}={loss!r} must be a dict(type=...)")
    named = type_name(loss)
    other = settling.losses.get(named)
    if other is not None and settling.is_stock(loss["type"]):
        masked = {**copy.deepcopy(dict(loss)), "type": other}
        if not refuse:
            return masked if fails_whole(head, loss, settling.build) else loss
        loss = masked
    if type_name(head) in CALLING_BARE:
        if type_name(loss) != "CrossEntropyLoss":
            return loss
        loss = {**copy.deepcopy(dict(loss)), "type": LABELLED_CE}
    reasons, shrinking = [], None
    for variant in variants(loss):
        reason = problem(head, variant, key, settling.build)
        if reason is None:
            diluted = shrinks(head, variant, settling.build)
            if diluted is None:
                return variant
            shrinking = shrinking or (variant, diluted)
        else:
            reasons.append(reason)
    if shrinking is not None:
        variant, diluted = shrinking
        if refuse and dist.is_main():
            log.warning(
                f"{key}.type={type_name(loss)!r} divides by all pixels ({diluted}), so it weakens "
                "as labels get sparser: raise its loss_weight, or use a CrossEntropyLoss"
            )
        return variant
    if refuse:
        with_sampler = (
            f" with sampler {type_name(head['sampler'])!r}" if head.get("sampler") else ""
        )
        raise UnsupportedError(
            f"{key}.type={named!r}{with_sampler} cannot train on sparse labels: "
            f"{reasons[0]}; use a plain CrossEntropyLoss"
        )
    return loss


def variants(loss: Any) -> Iterator[Any]:
    """What may be tried for a loss, best first."""
    if type_name(loss) in ("CrossEntropyLoss", LABELLED_CE):
        averaged = copy.deepcopy(loss)
        averaged["avg_non_ignore"] = True
        yield averaged
        yield copy.deepcopy(loss)  # class weights: this one already divides by labelled weight
        guarded = copy.deepcopy(averaged)
        guarded["type"] = LABELLED_CE
        yield guarded
    else:
        yield copy.deepcopy(loss)


def sample(head: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits [2, C, 12, 10] for a head, and a target of which a third is 255."""
    channels = head.get("out_channels") or head["num_classes"]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 12, 10, generator=generator)
    classes = 2 if channels == 1 else channels
    target = torch.randint(0, classes, (2, 12, 10), generator=generator)
    target[:, ::3] = UNLABELED
    return logits, target


def built(head: Any, loss: Any, key: str, build: Callable[[Any, Any], Probe]) -> Probe:
    """The loss. Raises ConfigError naming its key when it cannot be built."""
    try:
        return build(head, loss)
    except Exception as error:
        raise ConfigError(f"{key}: {first_line(error)}") from None


def problem(head: Any, loss: Any, key: str, build: Callable[[Any, Any], Probe]) -> str | None:
    """Why a loss cannot take sparse labels, or None when it can: it must be finite, have no
    gradient at pixels of 255, and none at all where a target is 255 alone."""
    probe = built(head, loss, key, build)
    logits, target = sample(head)
    for labels, where in (
        (torch.full_like(target, UNLABELED), "on a batch without labels"),
        (target, "at unlabelled pixels"),
    ):
        logits.requires_grad_(True)
        logits.grad = None
        try:
            value = probe(logits, labels)
            if value.requires_grad:
                value.backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            if fails_whole(head, loss, build):
                return f"it fails on fully labelled masks, too ({first_line(error)})"
            return f"it fails on unlabeled pixels ({first_line(error)})"
        gradient = logits.grad if logits.grad is not None else torch.zeros_like(logits)
        if not (torch.isfinite(value) and torch.isfinite(gradient).all()):
            return "it is not finite " + ("on sparse labels" if labels is target else where)
        size = float((gradient.abs().sum(1) * (labels == UNLABELED)).sum())
        if size > 0:
            return f"its gradient is {size:.3g} {where}"
    return None


def fails_whole(head: Any, loss: Any, build: Callable[[Any, Any], Probe]) -> bool:
    """Whether a loss fails even where every pixel is labelled."""
    logits, target = sample(head)
    try:
        return not bool(torch.isfinite(build(head, loss)(logits, target % UNLABELED)))
    except Exception:
        return True


def shrinks(head: Any, loss: Any, build: Callable[[Any, Any], Probe]) -> str | None:
    """How adding unlabeled pixels, each with logits of its own, changes the gradient at labelled
    ones, or None when it does not."""
    logits, target = sample(head)
    generator = torch.Generator().manual_seed(1)
    extra = torch.randn(2, logits.shape[1], 30, 10, generator=generator)
    found = []
    for more in (0, 30):
        grown = torch.cat([logits, extra[:, :, :more]], dim=2).requires_grad_(True)
        labels = torch.cat([target, torch.full((2, more, 10), UNLABELED)], dim=1)
        value = build(head, loss)(grown, labels)
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        found.append(torch.zeros_like(logits) if grown.grad is None else grown.grad[:, :, :12])
    before, after = found
    if torch.allclose(before, after, rtol=1e-3, atol=1e-7):
        return None
    share = float(after.abs().sum() / before.abs().sum().clamp(min=1e-12))
    return f"2.5 times as many of them unlabelled leave {100 * share:.0f} % of its gradient"


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
