# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
"""The Triton kernels. One program processes BLOCK pixels and goes over the classes twice: once for
the maximum, once for the sums. The logits are read from memory once.

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
_ROUND_BITS = tl.constexpr(0x4338000000000000)
_NINE_ROUND_BITS = tl.constexpr(9 * 0x4338000000000000 % 2**64)  # as it wraps around


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
def _larger(value, c, top, arg, low):
    """One class of the first pass: maximum, its class, and the minimum, which keeps a NaN."""
    larger = value > top
    low = tl.minimum(low, value, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(larger, value, top), tl.where(larger, c, arg), low


@triton.jit
def _summed(value, c, top, arg, total, weighted, second):
    """One class of the second pass."""
    d = tl.maximum(value - top, _LOWEST)
    e = tl.where(arg == c, 0.0, _exp(d))
    return total + e, weighted + e * d, tl.maximum(second, e)


@triton.jit
def _pixels(z, mask, classes, stride, KIND: tl.constexpr, HELD: tl.constexpr):
    """(score, argmax, whether all logits are finite) of pixels whose class 0 is at `z`.

    HELD: the number of classes, all of which are kept in registers between the passes; or 0: they
    are read again, from cache.
    """
    stride = tl.cast(stride, tl.int64)  # c * stride may not fit 32 bits
    top = tl.load(z, mask=mask, other=0.0).to(tl.float32)
    low = top
    arg = tl.zeros_like(top).to(tl.int32)
    total = tl.zeros_like(top)
    weighted = tl.zeros_like(top)
    second = tl.zeros_like(top)
    if HELD > 0:
        held = (top,)
        for c in tl.static_range(1, HELD):
            held = held + (tl.load(z + c * stride, mask=mask, other=0.0).to(tl.float32),)  # noqa: RUF005
        for c in tl.static_range(1, HELD):
            top, arg, low = _larger(held[c], c, top, arg, low)
        for c in tl.static_range(HELD):
            total, weighted, second = _summed(held[c], c, top, arg, total, weighted, second)
    else:
        at = z
        for c in range(1, classes):
            at += stride
            value = tl.load(at, mask=mask, other=0.0).to(tl.float32)
            top, arg, low = _larger(value, c, top, arg, low)
        at = z
        for c in range(classes):
            value = tl.load(at, mask=mask, other=0.0).to(tl.float32)
            total, weighted, second = _summed(value, c, top, arg, total, weighted, second)
            at += stride
    if KIND == 0:
        score = _log1p(total) - tl.div_rn(weighted, total + 1.0)
    elif KIND == 1:
        score = tl.div_rn(total + second, total + 1.0)
    elif KIND == 2:
        score = tl.div_rn(total, total + 1.0)
    else:
        score = second
    return score, arg, (tl.abs(low) <= _MAX) & (tl.abs(top) <= _MAX)


@triton.jit
def _first_class(logits, p, width, stride_y, stride_x, FLAT: tl.constexpr):
    """Address of class 0 of each pixel. FLAT: rows follow one another without a gap, so that
    neighbouring pixels are loaded together."""
    if FLAT:
        return logits + p * stride_x
    else:
        return logits + (p // width) * stride_y + (p % width) * stride_x


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
    FLAT: tl.constexpr,
    HELD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Score and argmax of every pixel; status[0] becomes 1 at a NaN or infinite logit."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = p < pixels
    z = _first_class(logits, p, width, stride_y, stride_x, FLAT)
    value, arg, finite = _pixels(z, mask, classes, stride_c, KIND, HELD)
    tl.store(score + p, value, mask=mask)
    tl.store(label + p, arg.to(label.dtype.element_ty), mask=mask)
    _raise(status, mask & (finite == 0))


@triton.jit
def _raise(status, where):
    """status = 1 if any of `where` is true."""
    one = where.to(tl.int32)
    tl.store(status + one - one, one, mask=where)


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
    FLAT: tl.constexpr,
    HELD: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Entropy and argmax straight into sums [R] and counts [R, C]; status[0] becomes 1 at a NaN or
    infinite logit, status[1] at an id outside 0..R-1.

    GROUP neighbouring pixels of one region (sums), of one region and class (counts), are added up
    first and cost one atomic addition.
    """
    # Two dimensions from the start: a group stays with its threads.
    group = tl.arange(0, BLOCK // GROUP)[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    p = tl.program_id(0).to(tl.int64) * BLOCK + group
    mask = p < pixels
    given = tl.load(regions + p, mask=mask, other=0)
    inside = (given >= 0) & (given < number)
    z = _first_class(logits, p, width, stride_y, stride_x, FLAT)
    entropy, arg, finite = _pixels(z, mask, classes, stride_c, 0, HELD)
    _raise(status, mask & (finite == 0))
    _raise(status + 1, mask & (inside == 0))
    fine = mask & inside & finite
    fixed = _fixed_point(tl.where(fine, entropy, 0.0), scale) - _ROUND_BITS
    region = tl.where(fine, given.to(tl.int32), -1)
    lowest = tl.min(region, axis=1)
    alike = ((lowest == tl.max(region, axis=1)) & (lowest >= 0))[:, None]
    leads = (group % GROUP) == 0  # adds for its group
    value = tl.where(alike, tl.sum(fixed, axis=1)[:, None], fixed)
    tl.atomic_add(sums + region, value, mask=fine & ((alike == 0) | leads), sem="relaxed")
    alike = alike & (tl.min(arg, axis=1) == tl.max(arg, axis=1))[:, None]
    value = tl.where(alike, GROUP, 1).to(tl.int64) + tl.zeros_like(fixed)
    at = region.to(tl.int64) * classes + arg
    tl.atomic_add(counts + at, value, mask=fine & ((alike == 0) | leads), sem="relaxed")


@triton.jit
def _fixed_point(value, scale):
    """Bits of 1.5 * 2^52 + value * scale in float64: the low ones are the rounded integer."""
    return (value.to(tl.float64) * scale + _ROUND64).to(tl.int64, bitcast=True)


@triton.jit
def _class_at(pointer, inside):
    return tl.where(inside, tl.load(pointer, mask=inside, other=0).to(tl.int32), -1)


@triton.jit
def _entropy_at(pointer, inside, scale):
    return _fixed_point(tl.load(pointer, mask=inside, other=0.0), scale)


@triton.jit
def _same(a, b):
    return (a == b).to(tl.int32)


@triton.jit
def _without(a, done):
    return tl.where(a == done, -1, a)


@triton.jit
def _nlogn(table, c0, c1, c2, c3, c4, c5, c6, c7, c8):
    """Sum over the classes >= 0 of table[number of times that it is among the nine]."""
    logs = tl.zeros_like(c0).to(tl.int64)
    for i in tl.static_range(9):  # count the first class, remove it, and move on to the next
        first = c0
        count = tl.zeros_like(c0) + 1
        if i < 8:
            count += _same(first, c1)
            c0 = _without(c1, first)
        if i < 7:
            count += _same(first, c2)
            c1 = _without(c2, first)
        if i < 6:
            count += _same(first, c3)
            c2 = _without(c3, first)
        if i < 5:
            count += _same(first, c4)
            c3 = _without(c4, first)
        if i < 4:
            count += _same(first, c5)
            c4 = _without(c5, first)
        if i < 3:
            count += _same(first, c6)
            c5 = _without(c6, first)
        if i < 2:
            count += _same(first, c7)
            c6 = _without(c7, first)
        if i < 1:
            count += _same(first, c8)
            c7 = _without(c8, first)
        logs += tl.load(table + count, mask=(first >= 0) & (count > 1), other=0)  # 1 ln 1 = 0
    return logs


@triton.jit
def _nlogn_of_bits(table, c0, c1, c2, c3, c4, c5, c6, c7, c8, BITS: tl.constexpr):
    """`_nlogn` for classes below BITS, all counted at once.

    A word has one bit a class. Nine words with one bit each are added by full adders, which leaves
    the counts' binary digits in four words.
    """
    a, a2 = _add3(_bit(c0, BITS), _bit(c1, BITS), _bit(c2, BITS))
    b, b2 = _add3(_bit(c3, BITS), _bit(c4, BITS), _bit(c5, BITS))
    c, c2 = _add3(_bit(c6, BITS), _bit(c7, BITS), _bit(c8, BITS))
    ones, d2 = _add3(a, b, c)
    e, e4 = _add3(a2, b2, c2)
    twos, f4 = e ^ d2, e & d2
    fours, eights = e4 ^ f4, e4 & f4
    few = twos & ~fours  # counts 2 and 3
    logs = tl.load(table + 2) * _ones(few & ~ones, BITS)
    logs += tl.load(table + 3) * _ones(few & ones, BITS)
    logs += tl.load(table + 4) * _ones(fours & ~twos & ~ones, BITS)
    most = (fours & (twos | ones)) | eights  # at most one class is there five times or more
    count = ((most & ones) != 0).to(tl.int32) + ((most & twos) != 0).to(tl.int32) * 2
    count += ((most & fours) != 0).to(tl.int32) * 4 + (eights != 0).to(tl.int32) * 8
    return logs + tl.load(table + count)  # table[0] is 0


@triton.jit
def _bit(c, BITS: tl.constexpr):
    one = tl.where(c >= 0, 1, 0)
    if BITS == 64:
        return one.to(tl.int64) << c.to(tl.int64)
    else:
        return one << c


@triton.jit
def _add3(a, b, c):
    """(sum, carry) of every bit."""
    return a ^ b ^ c, (a & b) | (c & (a ^ b))


@triton.jit
def _ones(word, BITS: tl.constexpr):
    """Number of bits that are set, int64."""
    if BITS == 64:
        word = word.to(tl.uint64, bitcast=True)
        word = word - ((word >> 1) & 0x5555555555555555)
        word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333)
        word = ((word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F) * 0x0101010101010101 >> 56
    else:
        word = word.to(tl.uint32, bitcast=True)
        word = word - ((word >> 1) & 0x55555555)
        word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
        word = ((word + (word >> 4)) & 0x0F0F0F0F) * 0x01010101 >> 24
    return word.to(tl.int64)


@triton.jit
def ripu3_kernel(
    entropy,
    label,
    out,
    table,
    constants,
    height,
    width,
    blocks,
    PIXEL: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """RIPU over 3 x 3 windows.

    BITS: 32 or 64, at least the number of classes, which are then counted as the bits of words; 0:
    the nine classes are compared with one another. blocks: programs per row. constants: float64
    scale, 1 / scale, unit of the table, 1 / ln C (as a tensor, since a float argument would arrive
    as float32).
    """
    scale, scale_back = tl.load(constants), tl.load(constants + 1)
    unit, inverse = tl.load(constants + 2), tl.load(constants + 3)
    y = tl.program_id(0) // blocks
    x = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    row = tl.cast(y, tl.int64) * width
    mask = x < width
    left, right = mask & (x > 0), x < width - 1
    ys = tl.zeros_like(x) + y
    up, down = ys > 0, ys < height - 1
    rows = 1 + up.to(tl.int32) + down.to(tl.int32)
    area = (1 + left.to(tl.int32) + right.to(tl.int32)) * rows
    # Classes of the nine pixels, row by row; -1 outside the image.
    at = label + row + x
    c0 = _class_at(at - width - 1, left & up)
    c1 = _class_at(at - width, mask & up)
    c2 = _class_at(at - width + 1, right & up)
    c3 = _class_at(at - 1, left)
    c4 = _class_at(at, mask)
    c5 = _class_at(at + 1, right)
    c6 = _class_at(at + width - 1, left & down)
    c7 = _class_at(at + width, mask & down)
    c8 = _class_at(at + width + 1, right & down)
    if BITS > 0:
        logs = _nlogn_of_bits(table, c0, c1, c2, c3, c4, c5, c6, c7, c8, BITS)
    else:
        logs = _nlogn(table, c0, c1, c2, c3, c4, c5, c6, c7, c8)
    size = area.to(tl.float64)
    impurity = (tl.load(table + area) - logs).to(tl.float64) * unit / size
    at = entropy + row + x
    if PIXEL:
        mean = tl.load(at, mask=mask, other=0.0).to(tl.float64)
    else:
        total = _entropy_at(at - width - 1, left & up, scale)
        total += _entropy_at(at - width, mask & up, scale)
        total += _entropy_at(at - width + 1, right & up, scale)
        total += _entropy_at(at - 1, left, scale)
        total += _entropy_at(at, mask, scale)
        total += _entropy_at(at + 1, right, scale)
        total += _entropy_at(at + width - 1, left & down, scale)
        total += _entropy_at(at + width, mask & down, scale)
        total += _entropy_at(at + width + 1, right & down, scale)
        mean = (total - _NINE_ROUND_BITS).to(tl.float64) * scale_back / size
    score = (impurity * inverse) * (mean * inverse)
    tl.store(out + row + x, score.to(tl.float32), mask=mask)
