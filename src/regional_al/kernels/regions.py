"""Statistics of image regions from one pass over the logits, whole or tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import _fixed
from .backends import backend_for, check_ids, check_logits, not_finite, outside
from .maps import float_map, largest_of


@dataclass(frozen=True)
class RegionStats:
    """Statistics of the R regions of one image.

    An empty region has area 0 and NaN statistics, never 0.

    Args:
        area: int64 [R], number of pixels.
        entropy: float32 [R], mean pixel entropy in nats, in [0, ln C].
        class_counts: int64 [R, C], number of pixels per predicted class.

    Example:
        >>> import torch
        >>> from regional_al.kernels import RegionStats
        >>> stats = RegionStats(
        ...     area=torch.tensor([4, 0]),
        ...     entropy=torch.tensor([0.5, float('nan')]),
        ...     class_counts=torch.tensor([[2, 2], [0, 0]]),
        ... )
        >>> stats.impurity  # ln 2 for equal shares of two classes
        tensor([0.6931,    nan])
        >>> stats.dominant
        tensor([ 0, -1])
    """

    area: Tensor
    entropy: Tensor
    class_counts: Tensor

    @property
    def impurity(self) -> Tensor:
        """Entropy of the shares of predicted classes: float32 [R], nats; NaN for empty regions.

        Computed from integers: a single class gives exactly 0, and the same counts in any order
        give the same bits.
        """
        shift = _fixed.fixed_shift(
            2, _xlogx(self.area.cpu()).amax().item() if len(self.area) else 0.0
        )
        result = torch.empty(self.area.shape, dtype=torch.float32)
        step = max(1, (1 << 20) // max(1, self.class_counts.shape[1]))
        for start in range(0, len(result), step):
            area = self.area[start : start + step].cpu()
            counts = self.class_counts[start : start + step].cpu()
            fixed = _fixed_xlogx(area, shift) - _fixed_xlogx(counts, shift).sum(dim=1)
            result[start : start + step] = fixed.double() * 2.0**-shift / area.double()
        return result.to(self.area.device)

    @property
    def dominant(self) -> Tensor:
        """Most frequent predicted class: int64 [R]; ties go to the lowest class, -1 if empty."""
        best = self.class_counts.argmax(dim=1)
        return best.masked_fill(self.area == 0, -1)


class TiledRegionStats:
    """`region_stats` accumulated over tiles, for images whose logits do not fit in memory.

    Sums are integers, so the result is bit-identical to that of the whole image. Memory use is
    8 (C + 1) bytes per region plus the current tile.

    Args:
        num_regions: number of regions R, >= 0.
        num_classes: number of classes C.
        shape: (H, W) of the whole image. Tiles must not overlap.
        device: device of the tiles and of the result.
        backend: backend name; None selects one by device.

    Raises:
        ValueError: if `num_regions` is negative.

    Example:
        >>> import torch
        >>> from regional_al.kernels import TiledRegionStats
        >>> logits, regions = torch.zeros(2, 4, 6), torch.arange(4)[:, None].repeat(1, 6) // 2
        >>> stats = TiledRegionStats(num_regions=2, num_classes=2, shape=(4, 6))
        >>> stats.add(logits[:, :, :4], regions[:, :4])
        >>> stats.add(logits[:, :, 4:], regions[:, 4:])
        >>> stats.result().area
        tensor([12, 12])
    """

    def __init__(
        self,
        num_regions: int,
        num_classes: int,
        shape: tuple[int, int],
        *,
        device: torch.device | str = "cpu",
        backend: str | None = None,
    ) -> None:
        if num_regions < 0:
            raise ValueError(f"num_regions={num_regions} must be 0 or more")
        self._device = torch.device(device)
        self._backend = backend
        self._pixels_left = shape[0] * shape[1]
        self._shift = _fixed.entropy_shift(self._pixels_left, num_classes)
        self._sums = torch.zeros(num_regions, dtype=torch.int64, device=self._device)
        self._counts = torch.zeros(num_regions, num_classes, dtype=torch.int64, device=self._device)

    def add(self, logits: Tensor, regions: Tensor, *, name: str | None = None) -> None:
        """Add one tile.

        Args:
            logits: float [C, h, w].
            regions: int [h, w], region ids 0..R-1.
            name: image name for error messages.

        Raises:
            ScoreError: if a logit is NaN or infinite.
            ValueError: for a shape mismatch, a region id out of range, or more pixels than the
                image has. The accumulated sums are invalid after an error.
        """
        logits = check_logits(logits)
        num_regions, classes = self._counts.shape
        if logits.shape[0] != classes:
            raise ValueError(f"tile has {logits.shape[0]} classes, expected {classes}")
        regions = check_ids(regions, "regions", (logits.shape[1], logits.shape[2]))
        self._pixels_left -= regions.numel()
        if self._pixels_left < 0:
            raise ValueError("the tiles contain more pixels than the image; do they overlap?")
        if regions.numel() == 0:
            return
        regions = regions.to(logits.device)
        finite, inside = backend_for(self._device, self._backend).accumulate(
            logits, regions, self._shift, self._sums, self._counts
        )
        if not inside:
            raise outside(regions, num_regions, "region ids")
        if not finite:
            raise not_finite(name)

    def result(self) -> RegionStats:
        """Return the statistics of all tiles added so far.

        Returns:
            RegionStats on `device`.
        """
        area = self._counts.sum(dim=1)
        return RegionStats(area, _divided(self._sums, area, self._shift), self._counts)


def region_stats(
    logits: Tensor,
    regions: Tensor,
    num_regions: int,
    *,
    backend: str | None = None,
    name: str | None = None,
) -> RegionStats:
    """Area, mean entropy and predicted-class counts of each region, in one pass over the logits.

    Args:
        logits: float [C, H, W].
        regions: int [H, W], region ids 0..num_regions-1; ids may be unused.
        num_regions: number of regions R, >= 0.
        backend: backend name; None selects one by device.
        name: image name for error messages.

    Returns:
        RegionStats of R regions; an unused id has area 0 and NaN statistics.

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: for a wrong shape or dtype, or a region id out of range.

    Example:
        >>> import torch
        >>> from regional_al.kernels import region_stats
        >>> logits = torch.zeros(2, 1, 4)
        >>> logits[1, 0, 1] = 100.0  # one pixel is certain, the others are undecided
        >>> stats = region_stats(logits, torch.tensor([[0, 0, 2, 2]]), num_regions=3)
        >>> stats.area
        tensor([2, 0, 2])
        >>> stats.entropy
        tensor([0.3466,    nan, 0.6931])
        >>> stats.class_counts.tolist()
        [[1, 1], [0, 0], [2, 0]]
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
    """Mean of a map over each region.

    The sums are exact integers; each value is rounded to within 2^-40 of the largest magnitude.

    Args:
        values: float [H, W].
        regions: int [H, W], region ids 0..num_regions-1; ids may be unused.
        num_regions: number of regions R, >= 0.
        backend: backend name; None selects one by device.
        name: image name for error messages.

    Returns:
        float32 [R]; NaN for an unused id.

    Raises:
        ScoreError: if a value is NaN or infinite.
        ValueError: for a wrong shape or dtype, or a region id out of range.

    Example:
        >>> import torch
        >>> from regional_al.kernels import region_mean
        >>> region_mean(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 0, 2]]), num_regions=3)
        tensor([2., nan, 5.])
    """
    regions = check_ids(regions, "regions")
    values = float_map(values, (regions.shape[0], regions.shape[1]))
    shift = _fixed.fixed_shift(values.numel(), largest_of(values, name))
    sums = torch.zeros(num_regions, dtype=torch.int64, device=values.device)
    area = torch.zeros(num_regions, 1, dtype=torch.int64, device=values.device)
    regions = regions.to(values.device)
    if not backend_for(values.device, backend).add_values(values, regions, shift, sums, area):
        raise outside(regions, num_regions, "region ids")
    return _divided(sums, area[:, 0], shift)


def _divided(sums: Tensor, area: Tensor, shift: int) -> Tensor:
    """float32 [R]: fixed-point sums / area; 0 / 0 is NaN."""
    return (sums.double() * 2.0**-shift / area.double()).float()


def _xlogx(count: Tensor) -> Tensor:
    """n ln n in float64, by numpy on the CPU: the same bits whatever device the counts are on."""
    value = count.numpy().astype(np.float64)
    return torch.from_numpy(value * np.log(np.maximum(value, 1.0)))


def _fixed_xlogx(count: Tensor, shift: int) -> Tensor:
    return torch.round(_xlogx(count) * 2.0**shift).to(torch.int64)
