"""Statistics of regions from one pass over logits, or of any map."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _fixed
from ._backends import backend_for, check_ids, check_logits, outside
from ._maps import float_map, largest_of
from ._stats import RegionStats, divided
from .tiled import TiledRegionStats


def region_stats(
    logits: Tensor,
    regions: Tensor,
    num_regions: int,
    *,
    backend: str | None = None,
    name: str | None = None,
) -> RegionStats:
    """Area, mean entropy and predicted-class counts of each region, in one pass over the logits.

    logits [C, H, W]; regions int [H, W], ids 0..num_regions-1, gaps allowed (an empty region has
    area 0 and NaN).
    """
    logits = check_logits(logits)
    stats = TiledRegionStats(
        num_regions,
        logits.shape[0],
        (logits.shape[1], logits.shape[2]),
        device=logits.device,
        backend=backend,
    )
    stats.add(logits, regions, name=name)
    return stats.result()


def region_mean(
    values: Tensor,
    regions: Tensor,
    num_regions: int,
    *,
    backend: str | None = None,
    name: str | None = None,
) -> Tensor:
    """Mean of a map over each region: values float [H, W] -> float32 [R]; NaN when empty.

    Sums are exact integers; a value is rounded at 2^-40 or less of the largest one.
    """
    regions = check_ids(regions, "regions")
    values = float_map(values, (regions.shape[0], regions.shape[1]))
    shift = _fixed.fixed_shift(values.numel(), largest_of(values, name))
    sums = torch.zeros(num_regions, dtype=torch.int64, device=values.device)
    area = torch.zeros(num_regions, 1, dtype=torch.int64, device=values.device)
    regions = regions.to(values.device)
    if not backend_for(values.device, backend).add_values(values, regions, shift, sums, area):
        raise outside(regions, num_regions, "region ids")
    return divided(sums, area[:, 0], shift)
