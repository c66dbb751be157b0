"""Training on regions of which only the classes are known: their side map and the losses.

Source: Hwang, Lee, Kim, Ok, Kwak, "Active Learning for Semantic Segmentation with Multi-class Label
Query", NeurIPS 2023. Its classifier compares directions (cosines), hence its temperature of 0.1;
here logits are as the head gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...config.region_classes import KEY, RegionClasses
from ...errors import DataError
from ...store.labels import LabelStore
from ...types import I32, Bool, LabelSpace, PoolItem
from .dense_heads import check_dense
from .masked_losses import nothing
from .side_losses import Sides, without_labels
from .side_maps import BASE, SideMap

MAP = "regions"
DIGITS = 3
MERGED, PROTOTYPE = "loss_merged", "loss_prototype"
"""Names of the losses, below that of the head."""
OFF = "region_classes=False, which trains on regions of one class alone"


def settings_of(cfg: Any) -> RegionClasses | None:
    """`acquisition.region_classes` of a config; None when it is off. Raises ConfigError."""
    return RegionClasses.of(cfg.get("acquisition") or {})


def check_config(cfg: Any) -> None:
    """Raise UnsupportedError for a model without a logit of each class and pixel, where such logits
    are trained on; ConfigError for the settings."""
    if settings_of(cfg) is not None:
        check_dense(cfg["model"], KEY, OFF)


def log_probabilities(
    logits: torch.Tensor, regions: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the pixels in regions, in row-major order.

    Args:
        logits: [N, C, H, W].
        regions: int [N, H, W], 0 = none.
        temperature: Above 0.

    Returns:
        Log probabilities float32 [P, C], and the regions int64 [P].
    """
    there = regions != 0
    values = logits.movedim(1, -1)[there].float() / temperature
    return values.log_softmax(dim=1), regions[there].long()


def merged_positive(
    logits: torch.Tensor, regions: torch.Tensor, members: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Merged positive loss: the mean over pixels in regions of -ln of the sum of the probabilities
    of the region's classes.

    Args:
        logits: [N, C, H, W].
        regions: int [N, H, W]; 0: none, r or -r: region r.
        members: bool [R + 1, C], the classes of each region; pixels of one without are left out.
        temperature: Of the softmax.

    Returns:
        A scalar; 0, with a graph, without such pixels.

    Example:
        >>> logits = torch.tensor([2.0, 1.0, 1.0]).log().view(1, 3, 1, 1)
        >>> members = torch.tensor([[False] * 3, [True, True, False]])
        >>> loss = merged_positive(logits, torch.ones(1, 1, 1).int(), members)
        >>> round(loss.exp().item(), 4)  # 4 / (2 + 1)
        1.3333
    """
    found, ids = log_probabilities(logits, regions, temperature)
    own = members[ids.abs()]
    counted = own.any(dim=1)
    if not bool(counted.any()):
        return nothing(logits)
    inside = found[counted].masked_fill(~own[counted], -torch.inf)
    return -inside.logsumexp(dim=1).mean()


def prototypical(
    logits: torch.Tensor, regions: torch.Tensor, members: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Prototypical loss: the mean, over whole regions and each of their classes, of -ln of the
    highest probability that a pixel of the region gives to the class.

    Args:
        logits: [N, C, H, W].
        regions: int [N, H, W]; 0: none, r: region r, which is whole, -r: one of which a part is
            missing, which is left out since a class may be in that part.
        members: bool [R + 1, C], the classes of each region; regions of one class are left out.
        temperature: Of the softmax.

    Returns:
        A scalar; 0, with a graph, without such regions.

    Example:
        >>> logits = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log().view(1, 2, 1, 2)
        >>> members = torch.tensor([[False] * 2, [True, True]])
        >>> loss = prototypical(logits, torch.ones(1, 1, 2).int(), members)
        >>> round((2 * loss).exp().item(), 4)  # 1 / (3/4) * 1 / (1/2)
        2.6667
    """
    found, ids = log_probabilities(logits, regions.clamp(min=0), temperature)
    several = members.sum(dim=1) > 1
    counted = several[ids]
    if not bool(counted.any()):
        return nothing(logits)
    images = torch.arange(len(regions), device=regions.device).view(-1, 1, 1).expand_as(regions)
    ids, found = ids[counted], found[counted]
    image = images[regions > 0][counted]  # the same region may be in a batch twice
    groups, place = torch.unique(image * len(members) + ids, return_inverse=True)
    start = found.new_full((len(groups), found.shape[1]), -torch.inf)
    best = start.scatter_reduce(0, place[:, None].expand_as(found), found, "amax")
    return -best[members[groups % len(members)]].mean()


class RegionLosses:
    """What is added to the losses of a decode head, see `side_losses.AddedLoss`.

    Args:
        settings: `acquisition.region_classes`.
        members: bool [R + 1, C], the classes of each region.
    """

    def __init__(self, settings: RegionClasses, members: torch.Tensor) -> None:
        self.settings, self.members = settings, members

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, sides: Sides
    ) -> dict[str, torch.Tensor]:
        given, found = self.settings, {}
        self.members = self.members.to(logits.device)
        side = sides.get(MAP)
        regions = None if side is None else without_labels(side, labels)
        losses = {
            MERGED: (merged_positive, given.merged),
            PROTOTYPE: (prototypical, given.prototype),
        }
        for name, (loss, weight) in losses.items():
            if regions is None or weight == 0:
                found[name] = nothing(logits)
            else:
                found[name] = weight * loss(logits, regions, self.members, given.temperature)
        return found


@dataclass(frozen=True)
class RegionNumbers:
    """Regions of all images, numbered one after another: what a `SideMap` reads.

    Args:
        store: The answers.
        items: The pool.
        first: Index of an image -> number before that of its first region.
    """

    store: LabelStore
    items: Sequence[PoolItem]
    first: dict[int, int]

    def __call__(self, index: int) -> I32 | None:
        """int32 [H, W], 0 = no region; None: none in this image."""
        if index not in self.first:
            return None
        sets = self.store.class_sets(self.items[index].key)
        if sets is None:
            return None
        return np.where(sets.regions > 0, sets.regions + self.first[index], 0).astype(np.int32)


def region_map(
    store: LabelStore, items: Sequence[PoolItem], space: LabelSpace
) -> tuple[SideMap, torch.Tensor]:
    """The side map of regions of which only the classes are known, and the classes.

    Args:
        store: The answers.
        items: The pool.
        space: Meaning of their raw ids.

    Returns:
        The map, and bool [R + 1, C]: the classes of each region.

    Raises:
        DataError: There are more regions than a map can number.
    """
    there, first = set(store.class_set_keys()), {}
    rows: list[Bool] = [np.zeros(space.num_classes, np.bool_)]
    for index, item in enumerate(items):
        if item.key not in there:
            continue
        first[index] = len(rows) - 1
        for one in store.class_set_classes(item.key):
            ids = space.raw_to_train[list(one)]
            row = np.zeros(space.num_classes, np.bool_)
            row[ids[(ids >= 0) & (ids < space.num_classes)]] = True
            rows.append(row)
    if len(rows) > BASE**DIGITS:
        raise DataError(f"{store.root} has more than {BASE**DIGITS} regions with a set of classes")
    numbers = RegionNumbers(store, items, first)
    side = SideMap(MAP, numbers, DIGITS, parts=True, trained=True)
    return side, torch.from_numpy(np.stack(rows))
