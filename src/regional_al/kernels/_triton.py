# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""The Triton kernels. One program processes BLOCK pixels and loops over the classes twice: once for
the maximum (from memory), once for the sums (from cache), so the logits are read from memory once.

Arithmetic as in `_fixed`; launch with enable_fp_fusion=False, since a fused multiply-add would
change the results. All sums are atomic additions of integers and hence deterministic.
"""

from __future__ import annotations

import triton
import triton.language as tl

from . import _fixed

_LOWEST = tl.constexpr(_fixed.EXP_LOWEST)
_LOG2E = tl.constexpr(_fixed.LOG2E)
_MAGIC = tl.constexpr(_fixed.ROUND_MAGIC)
_LN2_HIGH = tl.constexpr(_fixed.LN2_HIGH)
_LN2_LOW = tl.constexpr(_fixed.LN2_LOW)
_E0, _E1, _E2, _E3, _E4, _E5 = (tl.constexpr(v) for v in _fixed.EXP_POLY)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (tl.constexpr(v) for v in _fixed.LOG_POLY)
_SPLIT = tl.constexpr(_fixed.LOG_SPLIT)
_MAX = tl.constexpr(3.4028234663852886e38)
_ROUND64 = tl.constexpr(1.5 * 2.0**52)


@triton.jit
def _exp(d):
    magic = d * _LOG2E + _MAGIC
    n = magic - _MAGIC
    r = d - n * _LN2_HIGH - n * _LN2_LOW
    p = (((((r * _E0 + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5) * (r * r) + r + 1.0
    power = (magic.to(tl.int32, bitcast=True) << 23) + (127 << 23)
    return p * power.to(tl.float32, bitcast=True)


@triton.jit
def _log1p(s):
    u = s + 1.0
    bits = u.to(tl.int32, bitcast=True)
    e = (bits - _SPLIT) >> 23
    f = (bits - (e << 23)).to(tl.float32, bitcast=True) - 1.0
    n = e.to(tl.float32)
    p = ((((((f * _L0 + _L1) * f + _L2) * f + _L3) * f + _L4) * f + _L5) * f + _L6) * f
    p = ((p + _L7) * f + _L8) * f * (f * f)
    log = (p + n * _LN2_LOW - f * f * 0.5) + f + n * _LN2_HIGH
    return log + tl.div_rn(s - (u - 1.0), u)


@triton.jit
def _pixels(z, mask, classes, stride, KIND: tl.constexpr):
    """(score, argmax, number of NaN or infinite logits) of pixels whose class 0 is at `z`."""
    top = tl.load(z, mask=mask, other=0.0).to(tl.float32)
    arg = tl.zeros_like(top).to(tl.int32)
    bad = (tl.abs(top) <= _MAX).to(tl.int32) ^ 1
    at = z  # walks from plane to plane: c * stride may not fit 32 bits
    for c in range(1, classes):
        at += stride
        value = tl.load(at, mask=mask, other=0.0).to(tl.float32)
        bad += (tl.abs(value) <= _MAX).to(tl.int32) ^ 1
        larger = value > top
        top = tl.where(larger, value, top)
        arg = tl.where(larger, c, arg)
    total = tl.zeros_like(top)
    weighted = tl.zeros_like(top)
    second = tl.zeros_like(top)
    at = z
    for c in range(classes):
        value = tl.load(at, mask=mask, other=0.0).to(tl.float32)
        d = value - top
        d = tl.where(d > _LOWEST, d, _LOWEST)
        e = tl.where(arg == c, 0.0, _exp(d))
        total += e
        weighted += e * d
        second = tl.where(e > second, e, second)
        at += stride
    if KIND == 0:
        score = _log1p(total) - tl.div_rn(weighted, total + 1.0)
    elif KIND == 1:
        score = tl.div_rn(total + second, total + 1.0)
    elif KIND == 2:
        score = tl.div_rn(total, total + 1.0)
    else:
        score = second
    return score, arg, bad


@triton.jit
def pixel_kernel(
    logits,
    score,
    label,
    status,
    classes,
    width,
    pixels,
    stride_c,
    stride_y,
    stride_x,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Score and argmax of every pixel; status[0] counts NaN or infinite logits."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = p < pixels
    z = logits + (p // width) * stride_y + (p % width) * stride_x
    value, arg, bad = _pixels(z, mask, classes, stride_c, KIND)
    tl.store(score + p, value, mask=mask)
    tl.store(label + p, arg.to(label.dtype.element_ty), mask=mask)
    wrong = tl.sum(bad, axis=0)
    tl.atomic_add(status, wrong, mask=wrong > 0)


@triton.jit
def region_kernel(
    logits,
    regions,
    sums,
    counts,
    status,
    classes,
    number,
    width,
    pixels,
    stride_c,
    stride_y,
    stride_x,
    scale,
    BLOCK: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Entropy and argmax straight into sums [R] and counts [R, C]; status[1] counts bad ids.

    GROUP neighbouring pixels of one region are added up first and cost one atomic addition.
    """
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = p < pixels
    region = tl.load(regions + p, mask=mask, other=0).to(tl.int64)
    inside = (region >= 0) & (region < number)
    z = logits + (p // width) * stride_y + (p % width) * stride_x
    entropy, arg, bad = _pixels(z, mask, classes, stride_c, 0)
    wrong = tl.sum(bad, axis=0)
    tl.atomic_add(status, wrong, mask=wrong > 0)
    wrong = tl.sum((mask & (inside == 0)).to(tl.int32), axis=0)
    tl.atomic_add(status + 1, wrong, mask=wrong > 0)
    fine = mask & inside & (tl.abs(entropy) <= _MAX)
    value = tl.where(fine, entropy, 0.0).to(tl.float64)
    fixed = ((value * scale + _ROUND64) - _ROUND64).to(tl.int64)
    tl.atomic_add(counts + region * classes + arg, tl.full((BLOCK,), 1, tl.int64), mask=fine)
    shape: tl.constexpr = (BLOCK // GROUP, GROUP)
    by_group = tl.reshape(region, shape)
    lowest, highest = tl.min(by_group, axis=1), tl.max(by_group, axis=1)
    all_fine = tl.min(tl.reshape(fine.to(tl.int32), shape), axis=1)
    alone = (lowest == highest) & (all_fine == 1)
    tl.atomic_add(sums + lowest, tl.sum(tl.reshape(fixed, shape), axis=1), mask=alone)
    mixed = (alone == 0)[:, None] & (tl.reshape(fine.to(tl.int32), shape) == 1)
    tl.atomic_add(sums + by_group, tl.reshape(fixed, shape), mask=mixed)


@triton.jit
def ripu3_kernel(
    entropy,
    label,
    out,
    table,
    constants,
    height,
    width,
    PIXEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """RIPU over 3 x 3 windows: counts by comparing the nine classes, each class counted where it
    occurs first. constants: float64 scale, 1 / scale, unit of the table, 1 / ln C (as a tensor,
    since a float argument would arrive as float32)."""
    scale, scale_back = tl.load(constants), tl.load(constants + 1)
    unit, inverse = tl.load(constants + 2), tl.load(constants + 3)
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    pixels = tl.cast(height, tl.int64) * width
    mask = p < pixels
    y, x = p // width, p % width
    area = tl.zeros((BLOCK,), tl.int32)
    total = tl.zeros((BLOCK,), tl.int64)
    logs = tl.zeros((BLOCK,), tl.int64)
    for i in tl.static_range(9):
        yi, xi = y + (i // 3 - 1), x + (i % 3 - 1)
        here = mask & (yi >= 0) & (yi < height) & (xi >= 0) & (xi < width)
        area += here.to(tl.int32)
        at = yi * width + xi
        if not PIXEL:
            h = tl.load(entropy + at, mask=here, other=0.0).to(tl.float64)
            total += ((h * scale + _ROUND64) - _ROUND64).to(tl.int64)
        mine = tl.load(label + at, mask=here, other=0).to(tl.int32)
        same = tl.zeros((BLOCK,), tl.int32)
        earlier = tl.zeros((BLOCK,), tl.int32)
        for j in tl.static_range(9):
            yj, xj = y + (j // 3 - 1), x + (j % 3 - 1)
            there = here & (yj >= 0) & (yj < height) & (xj >= 0) & (xj < width)
            other = tl.load(label + yj * width + xj, mask=there, other=0).to(tl.int32)
            equal = (there & (other == mine)).to(tl.int32)
            same += equal
            if j < i:
                earlier += equal
        first = here & (earlier == 0)
        logs += tl.load(table + same, mask=first, other=0)
    area = tl.where(mask, area, 1)
    size = area.to(tl.float64)
    impurity = (tl.load(table + area) - logs).to(tl.float64) * unit / size
    if PIXEL:
        mean = tl.load(entropy + p, mask=mask, other=0.0).to(tl.float64)
    else:
        mean = total.to(tl.float64) * scale_back / size
    score = (impurity * inverse) * (mean * inverse)
    tl.store(out + p, score.to(tl.float32), mask=mask)
