"""Backend 'torch': the reference implementation in plain torch, for any device.

Rows are processed in slabs that fit the cache, class by class; no C x H x W tensor is allocated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from . import _fixed

NAME = "torch"
T = TypeVar("T")
SMALL = 1 << 17  # number of values below which a second thread costs more than it saves


def _f32(value: float) -> float:
    return float(np.float32(value))


_LOG2E, _LN2_HIGH, _LN2_LOW = (_f32(v) for v in (_fixed.LOG2E, _fixed.LN2_HIGH, _fixed.LN2_LOW))
_EXP_POLY = tuple(_f32(v) for v in _fixed.EXP_POLY)
_LOG_POLY = tuple(_f32(v) for v in _fixed.LOG_POLY)


def run_bands(work: Callable[[int, int], T], height: int, rows: int, size: int) -> list[T]:
    """[work(r0, r1)] over bands of `rows` rows, on threads; size: number of values read in total.

    The work must release the GIL. Uses up to `torch.get_num_threads()` threads, and thereby honours
    OMP_NUM_THREADS, which launchers set per rank. No thread outlives the call, so a later fork is
    safe.
    """
    bands = [(r, min(height, r + rows)) for r in range(0, height, rows)]
    threads = min(torch.get_num_threads(), len(bands))
    if threads <= 1 or size < SMALL:
        return [work(r0, r1) for r0, r1 in bands]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda band: work(*band), bands))


def on_slabs(
    work: Callable[[slice], T], height: int, width: int, device: torch.device, least: int = 1
) -> list[T]:
    """[work(rows)] over slabs of rows.

    On the CPU a slab has 2^15 pixels: it stays in the cache, and below the size at which torch
    starts threads of its own, which would synchronise after each of thousands of small steps;
    slabs run in parallel instead. On other devices slabs of 2^22 pixels run one after another.
    """
    cpu = device.type == "cpu"
    rows = max(least, 1, (1 << (15 if cpu else 22)) // max(1, width))
    if not cpu:
        return [work(slice(r, min(height, r + rows))) for r in range(0, height, rows)]
    return run_bands(lambda r0, r1: work(slice(r0, r1)), height, rows, height * width * 8)


def pixel(logits: Tensor, kind: _fixed.Kind, score: Tensor, label: Tensor) -> bool:
    """Write score (float32) and argmax of logits [C, H, W] to score, label [H, W].

    Returns False if a logit is NaN or infinite.
    """

    def work(rows: slice) -> Tensor:
        return _pixel_slab(logits[:, rows], kind, score[rows], label[rows])

    probes = on_slabs(work, logits.shape[1], logits.shape[2], logits.device)
    return bool(torch.isfinite(torch.stack(probes)).all())


def _pixel_slab(z: Tensor, kind: _fixed.Kind, score: Tensor, label: Tensor) -> Tensor:
    """One slab; the returned scalar is 0, or NaN if a logit is NaN or infinite."""
    top = z[0].to(torch.float32, copy=True)
    arg = torch.zeros_like(label)
    low, high = torch.aminmax(top)
    probe = low * 0 + high * 0
    for c in range(1, z.shape[0]):
        value = z[c].to(torch.float32)
        low, high = torch.aminmax(value)
        probe = probe + low * 0 + high * 0
        arg.masked_fill_(value > top, c)
        torch.maximum(top, value, out=top)
    total, weighted, second = (torch.zeros_like(top) for _ in range(3))
    for c in range(z.shape[0]):
        d = torch.sub(z[c].to(torch.float32), top).clamp_(min=_fixed.EXP_LOWEST)
        e = exp(d).masked_fill_(arg == c, 0.0)
        total.add_(e)
        if kind == "entropy":
            weighted.add_(e.mul_(d))
        elif kind != "least_confidence":
            torch.maximum(second, e, out=second)
    label.copy_(arg)
    if kind == "entropy":
        score.copy_(log1p(total).sub_(weighted.div_(total.add_(1.0))))
    elif kind == "margin":
        score.copy_(second.add_(total).div_(total.add_(1.0)))
    elif kind == "least_confidence":
        score.copy_(total.div(total + 1.0))
    else:
        score.copy_(second)
    return probe


def exp(d: Tensor) -> Tensor:
    """e^d for float32 -88 <= d <= 0, by the shared polynomial."""
    magic = d.mul(_LOG2E).add_(_fixed.ROUND_MAGIC)
    n = magic - _fixed.ROUND_MAGIC
    r = d - n * _LN2_HIGH
    r.sub_(n.mul_(_LN2_LOW))
    p = r.mul(_EXP_POLY[0])
    for coefficient in _EXP_POLY[1:-1]:
        p.add_(coefficient).mul_(r)
    p.add_(_EXP_POLY[-1]).mul_(r * r).add_(r).add_(1.0)
    power = magic.view(torch.int32)
    power.bitwise_left_shift_(23).add_(127 << 23)
    return p.mul_(power.view(torch.float32))


def log1p(s: Tensor) -> Tensor:
    """ln(1 + s) for float32 s >= 0, by the shared polynomial."""
    u = s + 1.0
    bits = u.view(torch.int32)
    exponent = (bits - _fixed.LOG_SPLIT) >> 23
    f = (bits - (exponent << 23)).view(torch.float32) - 1.0
    n = exponent.to(torch.float32)
    p = f * _LOG_POLY[0]
    for coefficient in _LOG_POLY[1:-1]:
        p.add_(coefficient).mul_(f)
    square = f * f
    p.add_(_LOG_POLY[-1]).mul_(f).mul_(square)
    log = p.add_(n * _LN2_LOW).sub_(square.mul_(0.5)).add_(f).add_(n.mul_(_LN2_HIGH))
    return log.add_((s - (u - 1.0)).div_(u))


def quantise(values: Tensor, shift: int) -> Tensor:
    """round(v 2^shift) as int64, ties to even as in all backends."""
    return values.double().mul_(2.0**shift).round_().to(torch.int64)


def accumulate(
    logits: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor
) -> tuple[bool, bool]:
    """Add entropy (fixed point) and argmax of logits [C, H, W] to sums [R], counts [R, C].

    Returns (all logits finite, all ids in 0..R-1).
    """
    if not ids_inside(regions, sums.shape[0]):
        return True, False
    lock = threading.Lock()

    def work(rows: slice) -> Tensor:
        tile = logits[:, rows]
        score = torch.empty(tile.shape[1:], device=logits.device)
        label = _fixed.new_label(tile)
        probe = _pixel_slab(tile, "entropy", score, label)
        with lock:
            add(quantise(score, shift), label, regions[rows], sums, counts)
        return probe

    probes = on_slabs(work, logits.shape[1], logits.shape[2], logits.device)
    return bool(torch.isfinite(torch.stack(probes)).all()), True


def add_values(values: Tensor, regions: Tensor, shift: int, sums: Tensor, counts: Tensor) -> bool:
    """Add values [H, W] (fixed point) to sums [R] and their number to counts [R, 1].

    Returns False if an id is outside 0..R-1.
    """
    if not ids_inside(regions, sums.shape[0]):
        return False
    lock = threading.Lock()

    def work(rows: slice) -> None:
        fixed = quantise(values[rows], shift)
        with lock:
            add(fixed, None, regions[rows], sums, counts)

    on_slabs(work, values.shape[0], values.shape[1], values.device)
    return True


def add(fixed: Tensor, label: Tensor | None, regions: Tensor, sums: Tensor, counts: Tensor) -> None:
    """Scatter one slab of integers: exact and independent of order on every device."""
    index = regions.to(torch.int64).flatten()
    sums.index_add_(0, index, fixed.flatten())
    if label is not None:
        index = index * counts.shape[1] + label.flatten()
    counts.view(-1).index_add_(0, index, torch.ones_like(index))


def ids_inside(ids: Tensor, number: int) -> bool:
    """Whether all ids are in 0..number-1."""
    if ids.numel() == 0:
        return True
    low, high = torch.aminmax(ids if ids.dtype in _ORDERED else ids.to(torch.int64))
    return int(low) >= 0 and int(high) < number


_ORDERED = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


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

    mode: 'mean', 'impurity', 'ripu' or 'ripu_pixel'. area: pixels of the largest window. Returns
    False if a class is outside 0..C-1.
    """
    if label is not None and not ids_inside(label, num_classes):
        return False
    height, width = out.shape
    inverse = _fixed.inverse_log(num_classes)

    def work(rows: slice) -> None:
        box = _Box(rows, height, width, radius, out.device)
        mean = impurity = None
        if values is not None and mode != "ripu_pixel":
            mean = box.sums(quantise(values[box.source], shift)).double().mul_(2.0**-shift)
            mean.div_(box.area)
        if label is not None:
            impurity = _impurity(label[box.source], num_classes, box, area)
        if mode == "ripu_pixel":
            assert values is not None
            mean = values[rows].double()
        if mean is not None and impurity is not None:
            impurity.mul_(inverse).mul_(mean.mul_(inverse))
        result = impurity if impurity is not None else mean
        assert result is not None
        out[rows].copy_(result)

    on_slabs(work, height, width, out.device, least=min(radius, height))
    return True


class _Box:
    """Clipped box sums for the rows of one slab, by prefix sums (int64: overflow is harmless)."""

    def __init__(
        self, rows: slice, height: int, width: int, radius: int, device: torch.device
    ) -> None:
        first, last = max(0, rows.start - radius), min(height, rows.stop + radius)
        self.source = slice(first, last)
        y = torch.arange(rows.start, rows.stop, device=device)
        x = torch.arange(width, device=device)
        self._low, self._high = (y - radius).clamp_(min=0), (y + radius + 1).clamp_(max=height)
        self._left, self._right = (x - radius).clamp_(min=0), (x + radius + 1).clamp_(max=width)
        self.pixels = (self._high - self._low)[:, None] * (self._right - self._left)
        self.area = self.pixels.double()
        self._low, self._high = self._low - first, self._high - first

    def sums(self, fixed: Tensor) -> Tensor:
        """int64 [source rows, W] -> int64 [rows, W]."""
        prefix = fixed.new_zeros((fixed.shape[0] + 1, fixed.shape[1]))
        torch.cumsum(fixed, 0, out=prefix[1:])
        down = prefix.index_select(0, self._high).sub_(prefix.index_select(0, self._low))
        prefix = fixed.new_zeros((down.shape[0], down.shape[1] + 1))
        prefix[:, 1:] = torch.cumsum(down, 1)
        return prefix.index_select(1, self._right).sub_(prefix.index_select(1, self._left))


def _impurity(label: Tensor, num_classes: int, box: _Box, area: int) -> Tensor:
    """float64 [rows, W]: entropy of class shares.

    The counts of several classes are packed into one int64 word, as many counters of `bits` bits
    as fit, so that one box sum counts them all.
    """
    table, shift = _fixed.xlogx_table(area)
    lookup = torch.tensor(table, device=label.device)
    bits = area.bit_length()
    slots = max(1, 62 // bits)
    index = label.to(torch.int64)
    present = torch.bincount(index.flatten(), minlength=num_classes).nonzero().flatten().tolist()
    total = lookup[box.pixels]
    for start in range(0, len(present), slots):
        group = present[start : start + slots]
        one = torch.zeros(num_classes, dtype=torch.int64)
        for slot, c in enumerate(group):
            one[c] = 1 << (bits * slot)
        words = box.sums(one.to(label.device)[index])
        for slot in range(len(group)):
            count = (words >> (bits * slot)).bitwise_and_((1 << bits) - 1)
            total.sub_(lookup[count])
    return total.double().mul_(2.0**-shift).div_(box.area)
