"""What the loss of the labels averages over (`acquisition.loss_average`), and what the labels of a
machine count in it (`acquisition.warm_start.machine_weight`). Only torch.

An average over pixels lets one superpixel outweigh many scattered pixels, and frequent classes
outweigh rare ones. Heads of MMSegmentation hand their losses a weight for each pixel, which they
get from a pixel sampler; so an average over images, classes or answers, or a weighted one, is a
sampler that returns weights. Which labels are a machine's it finds in a side map
(`engines.mmseg.label_source`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...checks import within
from ...config.warm_start import MACHINE_WEIGHTS
from ...errors import UnsupportedError
from ...types import UNLABELED
from ..specs import first_line, heads, predicts_sets, type_name
from .answered_units import MAP
from .label_source import BY_MACHINE
from .label_source import MAP as SOURCE
from .loss_probe import Probe, sample

KEY = "acquisition.loss_average"
MACHINE_KEY = "acquisition.warm_start.machine_weight"
SAMPLER = "LossAverage"
"""The name under which each generation registers `AverageWeights`."""


def pixel_weights(
    labels: torch.Tensor, ignore: int = UNLABELED, relative: torch.Tensor | None = None
) -> torch.Tensor:
    """Weights by which a mean over labelled pixels is a weighted mean.

    Args:
        labels: int64 [N, H, W].
        ignore: Label of pixels without one.
        relative: float [N, H, W], what pixels count relative to one another, above 0; None: 1.

    Returns:
        float32 [N, H, W]: proportional to `relative` at labelled pixels, where their mean is 1; 0
        elsewhere.

    Example:
        >>> labels = torch.tensor([[[0, 1, 255]]])
        >>> pixel_weights(labels, relative=torch.tensor([[[1.0, 0.25, 1.0]]])).tolist()
        [[[1.600000023841858, 0.4000000059604645, 0.0]]]
    """
    shares, labelled = _shares(labels, ignore, relative), labels != ignore
    return shares * (labelled.sum() / shares.sum().clamp(min=SMALLEST))


def image_weights(
    labels: torch.Tensor, ignore: int = UNLABELED, relative: torch.Tensor | None = None
) -> torch.Tensor:
    """Weights by which a mean over labelled pixels is the mean of the images' means.

    Args:
        labels: int64 [N, H, W].
        ignore: Label of pixels without one.
        relative: See `pixel_weights`; the means of images are weighted ones then.

    Returns:
        float32 [N, H, W]: P / (M p) at the p labelled pixels of an image, of P in all M images that
        have labels, so that their mean is 1; 0 elsewhere.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1]], [[2, 255, 255]], [[255, 255, 255]]])
        >>> image_weights(labels).flatten(1)[:, 0].round(decimals=3).tolist()
        [0.667, 2.0, 0.0]
    """
    shares, labelled = _shares(labels, ignore, relative), labels != ignore
    counts, sums = labelled.flatten(1).sum(dim=1), shares.flatten(1).sum(dim=1)
    images = (counts > 0).sum().clamp(min=1)
    weights = counts.sum() / (images * sums.clamp(min=SMALLEST))
    return shares * weights[:, None, None]


def class_weights(
    labels: torch.Tensor, ignore: int = UNLABELED, relative: torch.Tensor | None = None
) -> torch.Tensor:
    """Weights by which a mean over labelled pixels is the mean of the classes' means.

    Args:
        labels: int64 [N, H, W], below 256.
        ignore: Label of pixels without one.
        relative: See `pixel_weights`; the means of classes are weighted ones then.

    Returns:
        float32 [N, H, W]: P / (C p) at the p pixels of a class, of P in all C classes that have
        labels in the batch, so that their mean is 1; 0 elsewhere.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1]], [[1, 255, 255]]])
        >>> class_weights(labels).flatten(1).round(decimals=3).tolist()
        [[2.0, 0.667, 0.667], [0.667, 0.0, 0.0]]
    """
    shares, labelled = _shares(labels, ignore, relative), labels != ignore
    counts = torch.bincount(labels[labelled], minlength=256)
    sums = counts.float()
    if relative is not None:
        sums = torch.bincount(labels[labelled], shares[labelled], minlength=256)
    classes = (counts > 0).sum().clamp(min=1)
    weights = counts.sum() / (classes * sums.clamp(min=SMALLEST))
    return shares * weights[labels.masked_fill(~labelled, 0)]


def unit_weights(
    labels: torch.Tensor,
    units: torch.Tensor | None = None,
    ignore: int = UNLABELED,
    relative: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weights by which a mean over labelled pixels is the mean of the means of what was asked:
    regions, windows, pixels or images.

    Args:
        labels: int64 [N, H, W].
        units: int [N, H, W], the number of what was asked; 0: not known, which is one unit of an
            image. None: 0 everywhere.
        ignore: Label of pixels without one.
        relative: See `pixel_weights`; the means of units are weighted ones then.

    Returns:
        float32 [N, H, W]: P / (U p) at the p labelled pixels of a unit, of P in all U units that
        have labels in the batch, so that their mean is 1; 0 elsewhere.

    Example:
        >>> labels, units = torch.tensor([[[0, 1, 1, 255]]]), torch.tensor([[[3, 7, 7, 7]]])
        >>> unit_weights(labels, units).tolist()
        [[[1.5, 0.75, 0.75, 0.0]]]
    """
    shares, labelled = _shares(labels, ignore, relative), labels != ignore
    found = torch.zeros(labels.shape, device=labels.device)
    units = torch.zeros_like(labels) if units is None else units.long()
    image = torch.arange(len(labels), device=labels.device).view(-1, 1, 1).expand_as(labels)
    numbers = image * (units.max() + 1 if units.numel() else 1) + units
    _, place, counts = torch.unique(numbers[labelled], return_inverse=True, return_counts=True)
    sums = counts.float()
    if relative is not None:
        sums = torch.bincount(place, shares[labelled], minlength=len(counts))
    weights = counts.sum() / (len(counts) * sums.clamp(min=SMALLEST))
    found[labelled] = weights[place]
    return found * shares


def _shares(labels: torch.Tensor, ignore: int, relative: torch.Tensor | None) -> torch.Tensor:
    """float32 [N, H, W]: what labelled pixels count relative to one another, 0 elsewhere."""
    labelled = (labels != ignore).float()
    return labelled if relative is None else labelled * relative.float()


SMALLEST = 1e-12
"""Least sum of what pixels count; below it there are none."""
WEIGHTS: dict[str, Callable[..., torch.Tensor]] = {
    "image": image_weights,
    "class": class_weights,
    "unit": unit_weights,
}
"""Of what `acquisition.loss_average` names, 'pixel' excepted, which needs none."""
WEIGHED: dict[str, Callable[..., torch.Tensor]] = {"pixel": pixel_weights, **WEIGHTS}
"""Of all that it names, where labels count differently."""


class AverageWeights:
    """A pixel sampler: weights of the labels that a head compares with.

    Args:
        over: A key of `WEIGHED`.
        context: The head; of those that know side maps, `MAP` of `answered_units` and of
            `label_source` are read.
        machine: What a label of a machine counts, relative to others, above 0.

    Attributes:
        used: Whether a head has asked for weights.
    """

    def __init__(self, over: str, context: Any = None, machine: float = 1.0) -> None:
        self.over, self.context, self.machine, self.used = over, context, machine, False

    def sample(self, seg_logit: Any, seg_label: torch.Tensor) -> torch.Tensor:
        """seg_label int64 [N, 1, H, W] -> float32 [N, H, W]."""
        self.used, labels = True, seg_label.squeeze(1)
        sides = getattr(self.context, "sides", {})
        side, relative = None if self.machine == 1 else sides.get(SOURCE), None
        if side is not None:
            relative = torch.where(side == BY_MACHINE, self.machine, 1.0)
        if self.over == "unit":
            return unit_weights(labels, sides.get(MAP), relative=relative)
        return WEIGHED[self.over](labels, relative=relative)

    @property
    def named(self) -> str:
        """The key that asks for it, with its value."""
        return named(self.over, self.machine)


def named(over: str, machine: float) -> str:
    """The key that asks for weights, with its value."""
    return f"{KEY}={over!r}" if over in WEIGHTS else f"{MACHINE_KEY}={machine:g}"


def machine_weight(acquisition: Mapping[str, Any]) -> float:
    """`warm_start.machine_weight` of an acquisition as written. Raises ConfigError."""
    warm = acquisition.get("warm_start")
    given = warm.get("machine_weight", 1.0) if isinstance(warm, Mapping) else 1.0
    return within(MACHINE_KEY, given, *MACHINE_WEIGHTS)


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
    over, machine = acquisition.get("loss_average", "pixel"), machine_weight(acquisition)
    if over not in WEIGHTS and (over != "pixel" or machine == 1):
        return
    what, other = named(over, machine), "loss_average='pixel'"
    if over not in WEIGHTS:
        other = "machine_weight=1"
    spec = {"type": SAMPLER, "over": over, **({} if machine == 1 else {"machine": machine})}
    for name, head in heads(model):
        if predicts_sets(head):
            raise UnsupportedError(
                f"{what}: {name} ({type_name(head)}) computes losses of masks, not of pixels: use "
                f"another head, or {other}"
            )
        if head.get("sampler"):
            raise UnsupportedError(
                f"{what} and {name}.sampler={type_name(head['sampler'])!r} both weigh "
                "pixels: leave out one of them"
            )
        losses = head.get("loss_decode", {"type": "CrossEntropyLoss"})
        for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
            reason = unweighted(head, loss, build, over if over in WEIGHTS else "image")
            if reason is not None:
                raise UnsupportedError(
                    f"{what} needs losses that weigh pixels, but {name}.loss_decode of type "
                    f"{type_name(loss)!r} {reason}: use a CrossEntropyLoss, or {other}"
                )
        head["sampler"] = dict(spec)


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
                f"{sampler.named}: {type(module).__name__} computes its loss without weights for "
                "pixels: use another head, or leave it out"
            )
