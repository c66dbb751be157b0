"""What is known about the regions of an image after one pass over its logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._fixed import fixed_shift


@dataclass(frozen=True)
class RegionStats:
    """Statistics of R regions; an empty region has area 0 and NaN, never 0.

    area int64 [R], pixels; entropy float32 [R], mean pixel entropy, nats; class_counts int64
    [R, C], pixels by predicted class.
    """

    area: Tensor
    entropy: Tensor
    class_counts: Tensor

    @property
    def impurity(self) -> Tensor:
        """float32 [R], nats: entropy of the shares of predicted classes; NaN when empty.

        From integers: one class gives exactly 0, the same counts in any order the same bits.
        """
        shift = fixed_shift(2, _xlogx(self.area.cpu()).amax().item() if len(self.area) else 0.0)
        result = torch.empty(self.area.shape, dtype=torch.float32)
        step = max(1, (1 << 20) // max(1, self.class_counts.shape[1]))
        for start in range(0, len(result), step):
            area = self.area[start : start + step].cpu()
            counts = self.class_counts[start : start + step].cpu()
            fixed = _fixed(area, shift) - _fixed(counts, shift).sum(dim=1)
            result[start : start + step] = fixed.double() * 2.0**-shift / area.double()
        return result.to(self.area.device)

    @property
    def dominant(self) -> Tensor:
        """int64 [R]: the most frequent predicted class, ties the lowest; -1 when empty."""
        best = self.class_counts.argmax(dim=1)
        return best.masked_fill(self.area == 0, -1)


def finish(sums: Tensor, counts: Tensor, shift: int) -> RegionStats:
    """RegionStats from fixed-point entropy sums int64 [R] and class counts int64 [R, C]."""
    area = counts.sum(dim=1)
    return RegionStats(area, divided(sums, area, shift), counts)


def divided(sums: Tensor, area: Tensor, shift: int) -> Tensor:
    """float32 [R]: fixed-point sums / area; 0 / 0 is NaN."""
    return (sums.double() * 2.0**-shift / area.double()).float()


def _xlogx(count: Tensor) -> Tensor:
    """n ln n in float64, by numpy on the CPU: the same bits whatever device the counts are on."""
    value = count.numpy().astype(np.float64)
    return torch.from_numpy(value * np.log(np.maximum(value, 1.0)))


def _fixed(count: Tensor, shift: int) -> Tensor:
    return torch.round(_xlogx(count) * 2.0**shift).to(torch.int64)
