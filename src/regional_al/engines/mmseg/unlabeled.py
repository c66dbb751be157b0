"""Training on pixels without an answer: what is computed, in plain torch. No framework.

A teacher, the average of the student's weights over its training, labels an image as the training
pipeline gives it; the student is trained on strongly changed views of it, at the pixels of which
the teacher is sure.

Source: Yang, Zhao, Zhao, "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation",
TPAMI 2025. Their views also change hue and are blurred; their average of the losses has another
scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import nn

from ...config.unlabeled import Color, Unlabeled
from ...types import I64

IGNORED = -100
"""Label of pixels that stay out of a cross entropy."""
SHARE, RATIO = (0.02, 0.4), (0.3, 1 / 0.3)
"""Of a CutMix box: its share of the image, and its height / width."""


def ema_ratio(updates: int, most: float) -> float:
    """Share of itself that the teacher keeps: min(1 - 1 / (updates + 1), most).

    Args:
        updates: How often it has been updated before.
        most: Upper bound, [0, 1).

    Example:
        >>> ema_ratio(0, 0.996), ema_ratio(1, 0.996), ema_ratio(1000, 0.996)
        (0.0, 0.5, 0.996)
    """
    return min(1 - 1 / (updates + 1), most)


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, ratio: float) -> None:
    """teacher = ratio * teacher + (1 - ratio) * student, in place: parameters and buffers of
    floating point. Other buffers, such as counters, are copied. What the student has and the
    teacher has not is left out.

    Args:
        teacher: A copy of the student.
        student: Any module.
        ratio: [0, 1].

    Example:
        >>> teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = teacher.weight.fill_(1.0), student.weight.fill_(3.0)
        >>> ema_update(teacher, student, 0.75)
        >>> teacher.weight.item()
        1.5
    """
    news = dict(student.named_parameters()) | dict(student.named_buffers())
    averages, values = [], []
    for name, one in (*teacher.named_parameters(), *teacher.named_buffers()):
        if one.is_floating_point():
            averages.append(one)
            values.append(news[name].detach().to(one))
        else:
            one.copy_(news[name])
    if averages:
        torch._foreach_mul_(averages, ratio)
        torch._foreach_add_(averages, values, alpha=1 - ratio)


def pseudo_labels(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable class of each pixel, and its probability.

    Args:
        logits: [N, C, H, W].

    Returns:
        int64 [N, H, W] and float32 [N, H, W].

    Example:
        >>> labels, confidence = pseudo_labels(torch.tensor([[0.0, 3.0]]).view(1, 2, 1, 1).log())
        >>> labels.item(), confidence.item()
        (1, 1.0)
    """
    confidence, labels = logits.float().softmax(dim=1).max(dim=1)
    return labels, confidence


def class_thresholds(
    labels: torch.Tensor,
    confidence: torch.Tensor,
    valid: torch.Tensor,
    num_classes: int,
    threshold: float,
    share: float,
) -> torch.Tensor:
    """The confidence from which a pixel counts, by the class that the teacher gives it: lower than
    `threshold` where fewer than `share` of the pixels of a class would count.

    A class that is rare among the labels is predicted with little confidence, so that a single
    threshold leaves it out. Source: Zou et al., "Unsupervised Domain Adaptation for Semantic
    Segmentation via Class-Balanced Self-Training", ECCV 2018; their shares are of a whole data set
    and grow, these are of a batch.

    Args:
        labels: int64 [N, H, W].
        confidence: float32 [N, H, W].
        valid: bool [N, H, W]; other pixels are not looked at.
        num_classes: C, above every label.
        threshold: Upper bound, and that of classes without a pixel.
        share: [0, 1]; the number of pixels is rounded up.

    Returns:
        float32 [C].

    Example:
        >>> labels = torch.tensor([[[0, 0, 1, 1]]])
        >>> sure = torch.tensor([[[0.99, 0.98, 0.6, 0.5]]])
        >>> class_thresholds(labels, sure, labels >= 0, 3, 0.95, 0.5).tolist()
        [0.949999988079071, 0.6000000238418579, 0.949999988079071]
    """
    found = confidence.new_full((num_classes,), threshold)
    if share == 0:
        return found
    counted = valid & ~confidence.isnan()
    labels, confidence = labels[counted], confidence[counted]
    for c in torch.unique(labels).tolist():
        mine = confidence[labels == c]
        least = len(mine) + 1 - math.ceil(round(share * len(mine), 6))
        found[c] = torch.minimum(found[c], mine.kthvalue(least).values)
    return found


def consistency_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    confidence: torch.Tensor,
    valid: torch.Tensor,
    threshold: float | torch.Tensor,
    views: int = 1,
) -> torch.Tensor:
    """Cross entropy at valid pixels of which the teacher is sure, divided by the number of valid
    pixels of a view; the mean over views.

    Args:
        logits: [views * N, C, H, W] of the student, view after view.
        labels: int64 [views * N, H, W].
        confidence: float [views * N, H, W].
        valid: bool [views * N, H, W]; other pixels have no gradient.
        threshold: Least confidence of a pixel that counts; or float [C], that of each class.
        views: Number of views.

    Returns:
        A scalar. Where nothing counts it is 0 and all gradients are, so that it still reaches every
        parameter.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 4)
        >>> sure = torch.tensor([[[0.9, 0.9, 0.5, 0.9]]])
        >>> valid = torch.tensor([[[True, True, True, False]]])
        >>> loss = consistency_loss(logits, torch.zeros(1, 1, 4).long(), sure, valid, 0.8)
        >>> round(loss.item(), 4)  # 2 * ln 2 / 3
        0.4621
    """
    least = threshold[labels] if isinstance(threshold, torch.Tensor) else threshold
    counted = valid & (confidence >= least)
    losses = nnf.cross_entropy(
        logits.float(),
        labels.masked_fill(~counted, IGNORED),
        ignore_index=IGNORED,
        reduction="none",
    )
    sums = losses.reshape(views, -1).sum(dim=1)
    counts = valid.reshape(views, -1).sum(dim=1).clamp(min=1)
    return (sums / counts).mean()


def cutmix_boxes(
    shape: tuple[int, int], count: int, probability: float, rng: np.random.Generator
) -> I64:
    """A box in each of some images, empty in those that stay whole.

    Args:
        shape: (H, W).
        count: Number of images.
        probability: Of a box.
        rng: Drawn from.

    Returns:
        int64 [count, 4]: top, bottom, left, right. Area and shape of a box are drawn uniformly from
        `SHARE` of the image and from `RATIO`, its place uniformly from those inside the image.
        A box that would be higher or wider than the image is cut to it.

    Example:
        >>> cutmix_boxes((8, 8), 2, 0.0, np.random.default_rng(0)).tolist()
        [[0, 0, 0, 0], [0, 0, 0, 0]]
    """
    height, width = shape
    boxes = np.zeros((count, 4), np.int64)
    for box in boxes:
        chosen = rng.random() < probability
        area, ratio = rng.uniform(*SHARE) * height * width, rng.uniform(*RATIO)
        rows = min(int(np.sqrt(area * ratio)), height)
        columns = min(int(np.sqrt(area / ratio)), width)
        top = int(rng.integers(0, height - rows + 1))
        left = int(rng.integers(0, width - columns + 1))
        if chosen:
            box[:] = top, top + rows, left, left + columns
    return boxes


def inside(boxes: I64, shape: tuple[int, int], device: torch.device | None = None) -> torch.Tensor:
    """bool [N, H, W]: pixels within the boxes.

    Args:
        boxes: As of `cutmix_boxes`.
        shape: (H, W).
        device: Of the result.

    Example:
        >>> inside(np.array([[0, 1, 1, 3]]), (2, 4)).int().tolist()
        [[[0, 1, 1, 0], [0, 0, 0, 0]]]
    """
    top, bottom, left, right = torch.from_numpy(boxes).to(device)[:, :, None].unbind(dim=1)
    rows = torch.arange(shape[0], device=device)[None]
    columns = torch.arange(shape[1], device=device)[None]
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return in_rows[:, :, None] & in_columns[:, None, :]


@dataclass(frozen=True)
class Colors:
    """How the colours of some images are changed.

    Args:
        brightness: float [N], factors; 1 changes nothing.
        contrast: float [N], likewise.
        saturation: float [N], likewise.
    """

    brightness: np.ndarray
    contrast: np.ndarray
    saturation: np.ndarray


def draw_colors(color: Color, count: int, rng: np.random.Generator) -> Colors:
    """Draw the changes of `count` images; see `Color`. Without colour the saturation is 0.

    Example:
        >>> draws = draw_colors(Color(probability=0.0, gray=1.0), 2, np.random.default_rng(0))
        >>> draws.brightness.tolist(), draws.saturation.tolist()
        ([1.0, 1.0], [0.0, 0.0])
    """
    changed = rng.random(count) < color.probability
    factors = [
        np.where(changed, rng.uniform(max(0.0, 1 - strength), 1 + strength, count), 1.0)
        for strength in (color.brightness, color.contrast, color.saturation)
    ]
    factors[2] = np.where(rng.random(count) < color.gray, 0.0, factors[2])
    return Colors(*factors)


@dataclass(frozen=True)
class Norm:
    """How images were normalised: (value - mean) / std.

    Args:
        mean: float [C, 1, 1], of values as files have them.
        std: float [C, 1, 1].
    """

    mean: torch.Tensor
    std: torch.Tensor


def jitter(images: torch.Tensor, colors: Colors, norm: Norm | None) -> torch.Tensor:
    """Change brightness, then contrast, then saturation of normalised images.

    Args:
        images: float [N, C, H, W].
        colors: Factors of each image.
        norm: How they were normalised. None: not known; factors then work on the values as they
            are, and nothing is cut off.

    Returns:
        Like `images`. Values, as files have them, are cut off below 0 and above 255, or above the
        largest of the image where that is higher. Grey is the mean over channels.

    Example:
        >>> image = torch.tensor([[[[10.0, 30.0]]]])
        >>> twice = Colors(*np.array([[2.0], [1.0], [1.0]]))
        >>> jitter(image, twice, Norm(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))).tolist()
        [[[[20.0, 60.0]]]]
    """
    values = images if norm is None else images * norm.std + norm.mean
    brightness, contrast, saturation = (
        torch.as_tensor(one, dtype=values.dtype, device=values.device)[:, None, None, None]
        for one in (colors.brightness, colors.contrast, colors.saturation)
    )
    found = values * brightness
    middle = found.mean(dim=(1, 2, 3), keepdim=True)
    found = middle + contrast * (found - middle)
    grey = found.mean(dim=1, keepdim=True)
    found = grey + saturation * (found - grey)
    if norm is None:
        return found
    highest = values.amax(dim=(1, 2, 3), keepdim=True).clamp(min=255.0)
    found = torch.minimum(found.clamp(min=0.0), highest)
    return (found - norm.mean) / norm.std


def channel_masks(
    views: int, images: int, channels: int, probability: float, rng: np.random.Generator
) -> torch.Tensor:
    """Factors of feature channels: in two views of an image each channel is 0 in one and 2 in the
    other, in images that are chosen; elsewhere 1. Of an odd number of views the last one has a mask
    of its own.

    Args:
        views: Number of views.
        images: Number of images.
        channels: Number of channels.
        probability: Of choosing an image.
        rng: Drawn from.

    Returns:
        float32 [views * images, channels], view after view.

    Example:
        >>> masks = channel_masks(2, 1, 100, 1.0, np.random.default_rng(0))
        >>> sorted(set(masks.flatten().tolist())), masks.sum(dim=0).unique().tolist()
        ([0.0, 2.0], [2.0])
    """
    masks = np.ones((views, images, channels), np.float32)
    for first in range(0, views, 2):
        chosen = rng.random(images) < probability
        halves = 2.0 * rng.integers(0, 2, (images, channels)).astype(np.float32)
        for view, factors in ((first, halves), (first + 1, 2.0 - halves)):
            if view < views:
                masks[view] = np.where(chosen[:, None], factors, masks[view])
    return torch.from_numpy(masks.reshape(views * images, channels))


def drop_channels(features: Any, settings: Unlabeled, images: int, rng: np.random.Generator) -> Any:
    """Features with some of their channels dropped; see `channel_masks`.

    Args:
        features: A float tensor [views * images, D, h, w], or several in a list or tuple.
        settings: With `views` and `drop`.
        images: Number of images.
        rng: Drawn from.

    Raises:
        TypeError: They are something else.
    """
    if settings.drop == 0:
        return features
    if isinstance(features, (list, tuple)):
        return type(features)([drop_channels(one, settings, images, rng) for one in features])
    if not isinstance(features, torch.Tensor) or features.dim() != 4:
        raise TypeError("features are no maps [N, D, h, w]")
    masks = channel_masks(settings.views, images, features.shape[1], settings.drop, rng)
    return features * masks.to(features)[:, :, None, None]


@dataclass(frozen=True)
class Views:
    """Changed images and what the student is to predict there, view after view.

    Args:
        images: float [views * N, C, H, W].
        labels: int64 [views * N, H, W].
        confidence: float32 [views * N, H, W].
        valid: bool [views * N, H, W].
    """

    images: torch.Tensor
    labels: torch.Tensor
    confidence: torch.Tensor
    valid: torch.Tensor


def strong_views(
    images: torch.Tensor,
    labels: torch.Tensor,
    confidence: torch.Tensor,
    valid: torch.Tensor,
    settings: Unlabeled,
    norm: Norm | None,
    rng: np.random.Generator,
) -> Views:
    """Views of a batch: colours are changed, then a box of each image may be exchanged for that of
    another image of the batch, with its labels, confidences and valid pixels.

    Args:
        images: float [N, C, H, W].
        labels: int64 [N, H, W].
        confidence: float32 [N, H, W].
        valid: bool [N, H, W].
        settings: With `views`, `color` and `cutmix`.
        norm: How the images were normalised.
        rng: Drawn from.
    """
    count, shape = images.shape[0], (images.shape[2], images.shape[3])
    parts: list[tuple[torch.Tensor, ...]] = []
    for _ in range(settings.views):
        changed = jitter(images, draw_colors(settings.color, count, rng), norm)
        boxes = cutmix_boxes(shape, count, settings.cutmix, rng)
        if count == 1:  # there is no other image
            parts.append((changed, labels, confidence, valid))
            continue
        shift = int(rng.integers(1, count))
        box = inside(boxes, shape, images.device)
        parts.append(
            tuple(
                torch.where(box if one.dim() == 3 else box[:, None], one.roll(shift, 0), one)
                for one in (changed, labels, confidence, valid)
            )
        )
    return Views(*(torch.cat(found) for found in zip(*parts, strict=True)))


def pixel_logits(
    model: Any, images: torch.Tensor, change: Callable[[Any], Any] | None = None
) -> torch.Tensor:
    """Logits of a segmentor's decode head at the size of the images.

    Args:
        model: An EncoderDecoder or CascadeEncoderDecoder of MMSegmentation.
        images: float [N, 3, H, W].
        change: Applied to the features; None: nothing.

    Returns:
        float [N, C, H, W].

    Raises:
        TypeError: The head gives something else than one tensor [N, C, h, w].
    """
    features = model.extract_feat(images)
    if change is not None:
        features = change(features)
    heads: Sequence[Any] = (
        list(model.decode_head)
        if isinstance(model.decode_head, nn.ModuleList)
        else [model.decode_head]
    )
    found = heads[0](features)
    for head in heads[1:]:
        found = head(features, found)
    if not isinstance(found, torch.Tensor) or found.dim() != 4:
        kind = type(found).__name__
        raise TypeError(f"{type(heads[-1]).__name__} gives a {kind}, not one map [N, C, h, w]")
    return nnf.interpolate(
        found, images.shape[2:], mode="bilinear", align_corners=bool(model.align_corners)
    )
