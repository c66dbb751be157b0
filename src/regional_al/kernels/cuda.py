"""Backend 'triton': fused kernels for CUDA; on the CPU under TRITON_INTERPRET=1 (for tests).

Windows other than 3 x 3 use the box sums of the torch backend on the device, whose cost does not
depend on the radius either.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache

import torch
import triton
from torch import Tensor

from . import _fixed, _triton, reference

NAME = "triton"
_TUPLES = tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 6)
"""Whether Triton knows tuples of tensors, which hold the classes: tried with 3.6 and newer."""
BLOCK = 256
REGION_BLOCK = 128  # one pixel a thread: what a group adds up stays in registers
GROUP = 8
WARPS = 4
HELD = 32  # up to so many classes are kept in registers


def pixel(logits: Tensor, kind: _fixed.Kind, score: Tensor, label: Tensor) -> bool:
    """Write score (float32) and argmax of logits [C, H, W] to contiguous score, label [H, W].

    Returns False if a logit is NaN or infinite.
    """
    classes, height, width = logits.shape
    status = torch.zeros(2, dtype=torch.int32, device=logits.device)
    with _on(logits):
        _triton.pixel_kernel[_grid(height * width, BLOCK)](
            logits,
            score,
            label,
            status,
            classes,
            width,
            height * width,
            *_strides(logits),
            KIND=_fixed.KINDS.index(kind),
            FLAT=_flat(logits),
            HELD=_held(logits),
            BLOCK=BLOCK,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )
    return int(status[0]) == 0


def accumulate(
    logits: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor
) -> tuple[bool, bool]:
    """Add entropy (fixed point) and argmax of logits [C, H, W] to sums [R], counts [R, C].

    Returns (all logits finite, all ids in 0..R-1).
    """
    classes, height, width = logits.shape
    if sums.shape[0] == 0:
        return True, regions.numel() == 0
    status = torch.zeros(2, dtype=torch.int32, device=logits.device)
    if regions.dtype not in (torch.int32, torch.int64):
        regions = regions.to(torch.int64)
    with _on(logits):
        _triton.region_kernel[_grid(height * width, REGION_BLOCK)](
            logits,
            regions.contiguous(),
            sums,
            counts,
            status,
            classes,
            sums.shape[0],
            width,
            height * width,
            *_strides(logits),
            2.0**shift,
            FLAT=_flat(logits),
            HELD=_held(logits),
            BLOCK=REGION_BLOCK,
            GROUP=GROUP,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )
    bad, outside = status.tolist()
    return bad == 0, outside == 0


add_values = reference.add_values


def windows(
    values: Tensor | None,
    label: Tensor | None,
    radius: int,
    num_classes: int,
    mode: str,
    area: int,
    shift: int,
    out: Tensor,
) -> bool:
    """As `reference.windows`; RIPU over 3 x 3 windows is one fused kernel."""
    if radius != 1 or values is None or label is None or mode not in ("ripu", "ripu_pixel"):
        return reference.windows(values, label, radius, num_classes, mode, area, shift, out)
    table, constants = _constants(area, shift, num_classes, out.device)
    height, width = out.shape
    with _on(out):
        blocks = triton.cdiv(width, BLOCK)
        _triton.ripu3_kernel[(height * blocks,)](
            values.contiguous(),
            label.contiguous(),
            out,
            table,
            constants,
            height,
            width,
            blocks,
            PIXEL=mode == "ripu_pixel",
            BITS=32 if num_classes <= 32 else 64 if num_classes <= 64 else 0,
            BLOCK=BLOCK,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )
    return True


@lru_cache(maxsize=16)
def _constants(area: int, shift: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What `ripu3_kernel` reads besides the maps, on the device: copied there once."""
    table, table_shift = _fixed.xlogx_table(area)
    factors = (2.0**shift, 2.0**-shift, 2.0**-table_shift, _fixed.inverse_log(classes))
    constants = torch.tensor(factors, dtype=torch.float64, device=device)
    return torch.tensor(table, device=device), constants


def _flat(logits: Tensor) -> bool:
    """Whether the rows of each class follow one another without a gap."""
    return logits.stride(1) == logits.shape[2] * logits.stride(2)


def _held(logits: Tensor) -> int:
    """Number of classes, if the kernel is to keep them in registers, else 0."""
    return logits.shape[0] if _TUPLES and logits.shape[0] <= HELD else 0


def _grid(pixels: int, block: int) -> tuple[int]:
    return (triton.cdiv(pixels, block),)


def _strides(logits: Tensor) -> tuple[int, int, int]:
    stride = logits.stride()
    return stride[0], stride[1], stride[2]


def _on(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Make the tensor's device the current one, on which Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
