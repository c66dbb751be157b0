"""One vector a unit: mean features, or mean class probabilities where a model offers none."""

from __future__ import annotations

import torch

from ..kernels import region_mean
from ..types import FeatureMap
from .base import Observation


def embed(seen: Observation, regions: torch.Tensor, num_regions: int) -> torch.Tensor:
    """float32 [R, D]: mean feature of each unit's pixels, features repeated up to image size
    (nearest neighbour); without features (sliding windows, heads without a classifier to hook)
    mean softmax, D = C. Rows of empty units are NaN. regions: int [H, W]."""
    if seen.features is None:
        return mean_softmax(seen.logits, regions, num_regions)
    return region_features(seen.features, regions, num_regions)


def mean_softmax(logits: torch.Tensor, regions: torch.Tensor, num_regions: int) -> torch.Tensor:
    """float32 [R, C]: mean class probabilities of each unit; logits [C, H, W]."""
    p = torch.softmax(logits.float(), dim=0)
    return torch.stack([region_mean(channel, regions, num_regions) for channel in p], dim=1)


def region_features(
    features: torch.Tensor | FeatureMap, regions: torch.Tensor, num_regions: int
) -> torch.Tensor:
    """float32 [R, D] from features (see `Observation.features`): exactly the mean over a unit's
    pixels of the feature under each, without ever making [D, H, W]: units x cells are counted,
    then multiplied."""
    values = features.values if isinstance(features, FeatureMap) else features
    depth, h, w = values.shape
    height, width = regions.shape
    device = regions.device
    if isinstance(features, FeatureMap):
        rows, cols = features.rows.to(device), features.cols.to(device)
    else:
        rows = torch.div(torch.arange(height, device=device) * h, height, rounding_mode="floor")
        cols = torch.div(torch.arange(width, device=device) * w, width, rounding_mode="floor")
    cell = rows[:, None] * w + cols[None, :]
    pair = regions.long().reshape(-1) * (h * w) + cell.reshape(-1)
    pairs, counts = torch.unique(pair, return_counts=True)
    index = torch.stack([torch.div(pairs, h * w, rounding_mode="floor"), pairs % (h * w)])
    weights = torch.sparse_coo_tensor(
        index, counts.float(), (num_regions, h * w), check_invariants=False
    )
    sums: torch.Tensor = torch.sparse.mm(weights, values.float().reshape(depth, -1).T.contiguous())
    area = torch.bincount(regions.reshape(-1).long(), minlength=num_regions)
    return sums / area[:, None].float()
