"""Losses of heads that predict a set of masks (MaskFormer, Mask2Former), as far as sparse labels
say. Only torch.

Such a head gives every query a class and a mask; each class of an image is matched to one query.
What a sparse label map says: a labelled pixel belongs to the mask of its class and to no other,
whichever query has it; which classes the other pixels hold, and so whether a query that is matched
to none has a segment somewhere else, it does not say.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F


class Points(NamedTuple):
    """Labelled pixels of an image.

    Args:
        xy: float32 [P, 2], (x, y) of their centres as shares of width and height, in (0, 1).
        masks: float32 [G, P], 1 where a pixel belongs to a mask.
    """

    xy: torch.Tensor
    masks: torch.Tensor


class Targets(NamedTuple):
    """What the queries of an image should say.

    Args:
        labels: int64 [Q], a class, or `no_object`.
        weights: float32 [Q], 0 where the labels do not say whether a query has an object.
        matched: int64 [M], the queries that have a mask of the image.
        masks: int64 [M], which one.
    """

    labels: torch.Tensor
    weights: torch.Tensor
    matched: torch.Tensor
    masks: torch.Tensor


def known(masks: torch.Tensor) -> torch.Tensor:
    """Which pixels are labelled: those that belong to the mask of a class.

    Args:
        masks: int or bool [G, H, W], one for each class that is labelled in an image.

    Returns:
        bool [H, W].

    Example:
        >>> known(torch.tensor([[[1, 0, 0]], [[0, 0, 1]]])).tolist()
        [[True, False, True]]
    """
    return masks.bool().any(0)


def labelled_points(masks: torch.Tensor) -> Points:
    """The labelled pixels of an image, row by row.

    Args:
        masks: int or bool [G, H, W], one for each class that is labelled in the image.

    Example:
        >>> points = labelled_points(torch.tensor([[[1, 0, 0, 0]], [[0, 0, 0, 1]]]))
        >>> points.xy.tolist(), points.masks.tolist()
        ([[0.125, 0.5], [0.875, 0.5]], [[1.0, 0.0], [0.0, 1.0]])
    """
    rows, columns = torch.nonzero(known(masks), as_tuple=True)
    height, width = masks.shape[1:]
    xy = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=1)
    return Points(xy.float(), masks[:, rows, columns].float())


def some(points: Points, count: int) -> Points:
    """At most `count` of the points, drawn without replacement by torch's generator; all of them,
    in their order and without a draw, where there are no more."""
    total = len(points.xy)
    if total <= count:
        return points
    chosen = torch.randperm(total, device=points.xy.device)[:count]
    return Points(points.xy[chosen], points.masks[:, chosen])


def at_points(maps: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """Values of maps at points, bilinear between the centres of their pixels and constant beyond
    the outermost: what `interpolate(..., align_corners=False)` gives at these places.

    Args:
        maps: float [Q, h, w].
        xy: float [P, 2], or [Q, P, 2] with points of their own for each map; shares of width and
            height.

    Returns:
        float [Q, P].

    Example:
        >>> xy = torch.tensor([[0.25, 0.5], [0.5, 0.5]])
        >>> at_points(torch.tensor([[[1.0, 3.0]]]), xy).tolist()
        [[1.0, 2.0]]
    """
    grid = (2 * xy - 1).to(maps.dtype)
    if grid.dim() == 2:
        found = F.grid_sample(
            maps[None], grid[None, None], padding_mode="border", align_corners=False
        )
        return found[0, :, 0]
    found = F.grid_sample(maps[:, None], grid[:, None], padding_mode="border", align_corners=False)
    return found[:, 0, 0]


def uncertain(logits: torch.Tensor, count: int, share: float) -> torch.Tensor:
    """Of candidates drawn at random, those nearest to a border of a mask, and random ones
    (PointRend, Kirillov et al., CVPR 2020, section 3.1).

    Args:
        logits: float [M, P], of masks at P candidates in random order, P >= count.
        count: How many of them, K >= 1.
        share: Share of them that is taken for |logit| being least, in [0, 1].

    Returns:
        int64 [M, K]: indices without repetition, for each mask.

    Example:
        >>> uncertain(torch.tensor([[5.0, 4.0, -0.1, 0.2]]), 3, 0.7).tolist()
        [[2, 3, 0]]
    """
    order = logits.abs().argsort(dim=1, stable=True)
    least = int(share * count)
    rest = order[:, least:].sort(dim=1).values  # candidates in their random order
    return torch.cat([order[:, :least], rest[:, : count - least]], dim=1)


def targets(
    assigned: torch.Tensor, classes: torch.Tensor, no_object: int, complete: bool
) -> Targets:
    """What queries should say after they were matched with the masks of an image.

    Args:
        assigned: int64 [Q], 0 = matched to none, g + 1 = to mask g.
        classes: int64 [G], the class of each mask.
        no_object: What queries say that have none.
        complete: Whether every pixel of the image is labelled, so that queries that are matched to
            none have no object.

    Example:
        >>> targets(torch.tensor([0, 2, 1]), torch.tensor([7, 4]), 19, complete=False)
        Targets(labels=tensor([19,  4,  7]), weights=tensor([0., 1., 1.]), \
matched=tensor([1, 2]), masks=tensor([1, 0]))
    """
    matched = torch.nonzero(assigned > 0).flatten()
    masks = assigned[matched] - 1
    labels = torch.full_like(assigned, no_object)
    labels[matched] = classes[masks]
    weights = torch.full(assigned.shape, float(complete), device=assigned.device)
    weights[matched] = 1.0
    return Targets(labels, weights, matched, masks)
