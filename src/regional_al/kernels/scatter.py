"""Backend 'torch_scatter': the torch backend with sums computed by that package, if installed.

The sums are integers, so the results are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _fixed, reference

NAME = "torch_scatter"
pixel = reference.pixel
windows = reference.windows


def _add(
    fixed: Tensor, label: Tensor | None, regions: Tensor, sums: Tensor, counts: Tensor
) -> None:
    from torch_scatter import scatter_add

    index = regions.to(torch.int64).flatten()
    scatter_add(fixed.flatten(), index, dim=0, out=sums)
    if label is not None:
        index = index * counts.shape[1] + label.flatten()
    scatter_add(torch.ones_like(index), index, dim=0, out=counts.view(-1))


def accumulate(
    logits: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor
) -> tuple[bool, bool]:
    """See `reference.accumulate`."""
    if not reference.ids_inside(regions, sums.shape[0]):
        return True, False
    score = torch.empty(logits.shape[1:], device=logits.device)
    label = _fixed.new_label(logits)
    if not pixel(logits, "entropy", score, label):
        return False, True
    _add(reference.quantise(score, shift), label, regions, sums, counts)
    return True, True


def add_values(values: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor) -> bool:
    """See `reference.add_values`."""
    if not reference.ids_inside(regions, sums.shape[0]):
        return False
    _add(reference.quantise(values, shift), None, regions, sums, counts)
    return True
