"""What the loss of the labels averages over (`acquisition.loss_average`). Only torch.

An average over pixels lets one superpixel outweigh many scattered pixels, and frequent classes
outweigh rare ones. Heads of MMSegmentation hand their losses a weight for each pixel, which they
get from a pixel sampler; so an average over images, classes or answers is a sampler that returns
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...errors import UnsupportedError
from ...types import UNLABELED
from ..specs import first_line, heads, predicts_sets, type_name
from .answered_units import MAP
from .loss_probe import Probe, sample

KEY = "acquisition.loss_average"
SAMPLER = "LossAverage"
"""The name under which each generation registers `AverageWeights`."""


def image_weights(labels: torch.Tensor, ignore: int = UNLABELED) -> torch.Tensor:
    """Weights by which a mean over labelled pixels is the mean of the images' means.

    Args:
        labels: int64 [N, H, W].
        ignore: Label of pixels without one.

    Returns:
        float32 [N, H, W]: P / (M p) at the p labelled pixels of an image, of P in all M images that
        have labels, so that their mean is 1; 0 elsewhere.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1]], [[2, 255, 255]], [[255, 255, 255]]])
        >>> image_weights(labels).flatten(1)[:, 0].round(decimals=3).tolist()
        [0.667, 2.0, 0.0]
    """
    labelled = labels != ignore
    counts = labelled.flatten(1).sum(dim=1)
    images = (counts > 0).sum().clamp(min=1)
    weights = counts.sum() / (images * counts.clamp(min=1)).float()
    return labelled * weights[:, None, None]


def class_weights(labels: torch.Tensor, ignore: int = UNLABELED) -> torch.Tensor:
    """Weights by which a mean over labelled pixels is the mean of the classes' means.

    Args:
        labels: int64 [N, H, W], below 256.
        ignore: Label of pixels without one.

    Returns:
        float32 [N, H, W]: P / (C p) at the p pixels of a class, of P in all C classes that have
        labels in the batch, so that their mean is 1; 0 elsewhere.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1]], [[1, 255, 255]]])
        >>> class_weights(labels).flatten(1).round(decimals=3).tolist()
        [[2.0, 0.667, 0.667], [0.667, 0.0, 0.0]]
    """
    labelled = labels != ignore
    counts = torch.bincount(labels[labelled], minlength=256)
    classes = (counts > 0).sum().clamp(min=1)
    weights = counts.sum() / (classes * counts.clamp(min=1)).float()
    return labelled * weights[labels.masked_fill(~labelled, 0)]


def unit_weights(
    labels: torch.Tensor, units: torch.Tensor | None = None, ignore: int = UNLABELED
) -> torch.Tensor:
    """Weights by which a mean over labelled pixels is the mean of the means of what was asked:
    regions, windows, pixels or images.

    Args:
        labels: int64 [N, H, W].
        units: int [N, H, W], the number of what was asked; 0: not known, which is one unit of an
            image. None: 0 everywhere.
        ignore: Label of pixels without one.

    Returns:
        float32 [N, H, W]: P / (U p) at the p labelled pixels of a unit, of P in all U units that
        have labels in the batch, so that their mean is 1; 0 elsewhere.

    Example:
        >>> labels, units = torch.tensor([[[0, 1, 1, 255]]]), torch.tensor([[[3, 7, 7, 7]]])
        >>> unit_weights(labels, units).tolist()
        [[[1.5, 0.75, 0.75, 0.0]]]
    """
    labelled = labels != ignore
    found = torch.zeros(labels.shape, device=labels.device)
    units = torch.zeros_like(labels) if units is None else units.long()
    image = torch.arange(len(labels), device=labels.device).view(-1, 1, 1).expand_as(labels)
    numbers = image * (units.max() + 1 if units.numel() else 1) + units
    _, place, counts = torch.unique(numbers[labelled], return_inverse=True, return_counts=True)
    weights = counts.sum() / (len(counts) * counts).float()
    found[labelled] = weights[place]
    return found


WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "image": image_weights,
    "class": class_weights,
    "unit": unit_weights,
}
"""Of what `acquisition.loss_average` names, 'pixel' excepted, which needs none."""


class AverageWeights:
    """A pixel sampler: weights of the labels that a head compares with.

    Args:
        over: A key of `WEIGHTS`.
        context: The head; of those that know side maps, `MAP` of `answered_units` is read.

    Attributes:
        used: Whether a head has asked for weights.
    """

    def __init__(self, over: str, context: Any = None) -> None:
        self.over, self.context, self.used = over, context, False

    def sample(self, seg_logit: Any, seg_label: torch.Tensor) -> torch.Tensor:
        """seg_label int64 [N, 1, H, W] -> float32 [N, H, W]."""
        self.used = True
        labels = seg_label.squeeze(1)
        if self.over == "unit":
            return unit_weights(labels, getattr(self.context, "sides", {}).get(MAP))
        return WEIGHTS[self.over](labels)


def weigh_pixels(
    model: Any, acquisition: Mapping[str, Any], build: Callable[[Any, Any], Probe]
) -> None:
    """Make all heads of a model config average over what `acquisition` says, in place.

    Args:
        model: Of the config, its losses settled.
        acquisition: As written.
        build: See `loss_probe.Settling`.

    Raises:
        UnsupportedError: A head has a sampler of its own, or a loss does not weigh pixels.
    """
    over = acquisition.get("loss_average", "pixel")
    if over not in WEIGHTS:
        return
    for name, head in heads(model):
        if predicts_sets(head):
            raise UnsupportedError(
                f"{KEY}={over!r}: {name} ({type_name(head)}) computes losses of masks, not of "
                "pixels: use another head, or loss_average='pixel'"
            )
        if head.get("sampler"):
            raise UnsupportedError(
                f"{KEY}={over!r} and {name}.sampler={type_name(head['sampler'])!r} both weigh "
                "pixels: leave out one of them"
            )
        spec = head.get("loss_decode", {"type": "CrossEntropyLoss"})
        for loss in spec if isinstance(spec, (list, tuple)) else [spec]:
            reason = unweighted(head, loss, build, over)
            if reason is not None:
                raise UnsupportedError(
                    f"{KEY}={over!r} needs losses that weigh pixels, but {name}.loss_decode of "
                    f"type {type_name(loss)!r} {reason}: use a CrossEntropyLoss, or "
                    "loss_average='pixel'"
                )
        head["sampler"] = {"type": SAMPLER, "over": over}


def unweighted(head: Any, loss: Any, build: Callable[[Any, Any], Probe], over: str) -> str | None:
    """Why a loss does not weigh pixels, or None when it does: the gradient at each pixel must be
    its weight times that without weights."""
    logits, target = sample(head)
    target[1, 4:] = UNLABELED
    try:
        plain = _gradient(build(head, loss), logits, target)
        sampler = {"type": SAMPLER, "over": over}
        weighted = _gradient(build({**head, "sampler": sampler}, loss), logits, target)
    except Exception as error:  # losses raise all kinds
        return f"fails with weights ({first_line(error)})"
    if torch.allclose(weighted, WEIGHTS[over](target)[:, None] * plain, rtol=1e-3, atol=1e-7):
        return None
    return "does not multiply by them"


def _gradient(probe: Probe, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    leaf = logits.clone().requires_grad_(True)
    probe(leaf, target).backward()  # type: ignore[no-untyped-call]
    return torch.zeros_like(logits) if leaf.grad is None else leaf.grad


def check_used(model: nn.Module) -> None:
    """Raise UnsupportedError naming a head of a model that never asked for weights, though its loss
    has been computed."""
    for module in model.modules():
        sampler = getattr(module, "sampler", None)
        if isinstance(sampler, AverageWeights) and not sampler.used:
            raise UnsupportedError(
                f"{KEY}={sampler.over!r}: {type(module).__name__} computes its loss without "
                "weights for pixels: use another head, or loss_average='pixel'"
            )
