"""Backend 'numba': compiled CPU loops on row bands, which run on plain Python threads.

Memory: a few rows per thread besides the outputs.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _fixed, _jit, reference
from .reference import run_bands

NAME = "numba"
CHUNK = 1 << 16  # pixels per work item


def pixel(logits: Tensor, kind: _fixed.Kind, score: Tensor, label: Tensor) -> bool:
    """Write score (float32) and argmax of logits [C, H, W] to score, label [H, W].

    Returns False if a logit is NaN or infinite.
    """
    array, storage = _stored(logits)
    score_out, label_out, code = score.numpy(), label.numpy(), _fixed.KINDS.index(kind)

    def work(r0: int, r1: int) -> bool:
        return bool(_jit.pixel_rows(array, storage, code, r0, r1, 0, score_out, label_out))

    return all(run_bands(work, logits.shape[1], _chunk_rows(logits), logits.numel()))


def accumulate(
    logits: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor
) -> tuple[bool, bool]:
    """Add entropy (fixed point) and argmax of logits [C, H, W] to sums [R], counts [R, C].

    Returns (all logits finite, all ids in 0..R-1). Each thread scores its rows into a small buffer
    and adds them under a lock; integer sums do not depend on the order.
    """
    array, storage = _stored(logits)
    ids, sums_out, counts_out = _ids(regions), sums.numpy(), counts.numpy()
    lock, scale, width = threading.Lock(), 2.0**shift, logits.shape[2]
    dtype = np.uint8 if logits.shape[0] <= 256 else np.int32

    def work(r0: int, r1: int) -> tuple[bool, bool]:
        score = np.empty((r1 - r0, width), np.float32)
        label = np.empty((r1 - r0, width), dtype)
        if not _jit.pixel_rows(array, storage, 0, r0, r1, r0, score, label):
            return False, True
        with lock:
            inside = _jit.add_rows(score, label, ids[r0:r1], scale, sums_out, counts_out)
        return True, bool(inside)

    done = run_bands(work, logits.shape[1], _chunk_rows(logits), logits.numel())
    return all(finite for finite, _ in done), all(inside for _, inside in done)


def add_values(values: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor) -> bool:
    """Add values [H, W] (fixed point) to sums [R] and their number to counts [R, 1].

    Returns False if an id is outside 0..R-1.
    """
    unused = np.zeros((1, 1), np.uint8)
    array = values.contiguous().numpy()
    return bool(
        _jit.add_rows(array, unused, _ids(regions), 2.0**shift, sums.numpy(), counts.numpy())
    )


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
    """Write a statistic over clipped windows to out [H, W] (float32).

    mode: see `_jit.WINDOW_MODES`. area: pixels of the largest window. shift: for sums of values.
    Returns False if a class is outside 0..C-1.
    """
    rank, number = np.zeros(num_classes, np.int32), 1
    labels = np.zeros((1, 1), np.uint8)
    if label is not None:
        if label.dtype != torch.uint8:
            if not reference.ids_inside(label, num_classes):
                return False
            label = label.to(torch.uint8 if num_classes <= 256 else torch.int32)
        labels = label.contiguous().numpy()
        rank, number = _jit.present_classes(labels, num_classes)
        if number < 0:
            return False
    array = np.zeros((1, 1), np.float32) if values is None else values.contiguous().numpy()
    table, table_shift = _fixed.xlogx_table(area if label is not None else 1)
    code, result = _jit.WINDOW_MODES.index(mode), out.numpy()
    if label is None:
        table = np.zeros(area + 1, np.int64)

    def work(r0: int, r1: int) -> None:
        _jit.window_rows(
            array,
            labels,
            rank,
            number,
            radius,
            r0,
            r1,
            2.0**shift,
            table,
            2.0**-table_shift,
            _fixed.inverse_log(num_classes),
            code,
            result,
        )

    # one band per thread, since every band first sums the rows of its first window
    rows = -(-out.shape[0] // max(1, torch.get_num_threads()))
    run_bands(work, out.shape[0], max(1, rows), out.numel() * 8)
    return True


def _chunk_rows(logits: Tensor) -> int:
    return max(1, CHUNK // max(1, logits.shape[2]))


def _stored(logits: Tensor) -> tuple[Any, int]:
    """The logits as a numpy array, without a copy, and how they are stored."""
    if logits.dtype == torch.bfloat16:
        return logits.view(torch.int16).numpy(), _jit.BRAIN
    if logits.dtype == torch.float16:
        return logits.view(torch.int16).numpy(), _jit.HALF
    return logits.numpy(), _jit.FLOAT


def _ids(regions: Tensor) -> Any:
    # By size, since torch before 2.3 has no torch.uint32 to compare with.
    wide = regions.element_size() >= 4 and regions.dtype != torch.int32
    return regions.to(torch.int64 if wide else torch.int32).contiguous().numpy()
