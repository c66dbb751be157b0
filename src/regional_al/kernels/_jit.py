"""The compiled CPU loops (numba) over pixels, regions and windows.

Each loop processes rows r0..r1-1 and releases the GIL, so plain Python threads can run several
bands in parallel: no numba threading layer, hence nothing that breaks after a fork.

The arithmetic is defined in `_fixed`. fastmath stays off because it would change the results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

from . import _fixed

BLOCK = 512  # pixels worked on at a time: C x 512 floats stay in the L1/L2 cache

F32 = np.float32
I32 = np.int32
_LOWEST = F32(_fixed.EXP_LOWEST)
_LOG2E = F32(_fixed.LOG2E)
_MAGIC = F32(_fixed.ROUND_MAGIC)
_LN2_HIGH = F32(_fixed.LN2_HIGH)
_LN2_LOW = F32(_fixed.LN2_LOW)
_E0, _E1, _E2, _E3, _E4, _E5 = (F32(v) for v in _fixed.EXP_POLY)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (F32(v) for v in _fixed.LOG_POLY)
_SPLIT = I32(_fixed.LOG_SPLIT)
_ZERO, _ONE, _HALF = F32(0.0), F32(1.0), F32(0.5)
_TWO112 = F32(2.0**112)
_SIGN = I32(-(2**31))
ROUND64 = 1.5 * 2.0**52  # adding it rounds a float64 below 2^51 to an integer

FLOAT, HALF, BRAIN = 0, 1, 2  # how the logits are stored: float, float16 bits, bfloat16 bits
WINDOW_MODES = ("mean", "impurity", "ripu", "ripu_pixel")


def njit(function: Callable[..., Any]) -> Any:
    """Compile without the GIL, cached on disk where a cache folder can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": neither the package nor the home is writable
        return numba.njit(**options)(function)


def _power_of_two_code(context: Any, magic: Any) -> Any:
    """2^n for a float32 that holds n + ROUND_MAGIC; 0 for n = -127."""

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.bitcast(args[0], word)
        shifted = builder.shl(bits, ir.Constant(word, 23))
        biased = builder.add(shifted, ir.Constant(word, 127 << 23))
        return builder.bitcast(biased, ir.FloatType())

    return types.float32(types.float32), generate


def _bits_code(context: Any, value: Any) -> Any:
    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), generate


def _from_bits_code(context: Any, value: Any) -> Any:
    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


# typed as Any: a checker cannot know that the typing context is not passed by the caller
_power_of_two: Any = intrinsic(_power_of_two_code)
_bits: Any = intrinsic(_bits_code)
_from_bits: Any = intrinsic(_from_bits_code)


@njit
def _exp(d: Any) -> Any:
    magic = d * _LOG2E + _MAGIC
    n = magic - _MAGIC
    r = d - n * _LN2_HIGH - n * _LN2_LOW
    p = (((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5) * (r * r) + r + _ONE
    return p * _power_of_two(magic)


@njit
def _log1p(s: Any) -> Any:
    u = _ONE + s
    bits = _bits(u)
    e = I32(I32(bits - _SPLIT) >> I32(23))
    f = _from_bits(I32(bits - I32(e << I32(23)))) - _ONE
    n = F32(e)
    p = ((((((_L0 * f + _L1) * f + _L2) * f + _L3) * f + _L4) * f + _L5) * f + _L6) * f
    p = ((p + _L7) * f + _L8) * f * (f * f)
    log = (p + n * _LN2_LOW - _HALF * (f * f)) + f + n * _LN2_HIGH
    return log + (s - (u - _ONE)) / u


@njit
def _load(z: Any, storage: Any, c: Any, r: Any, x0: Any, n: Any, out: Any) -> Any:
    """Copy one class of a block as float32; whether all values are finite.

    The largest magnitude is found in the bits, since LLVM vectorises a maximum of integers but,
    without fastmath, none of floats. Slices, since an index that may be negative is not vectorised.
    """
    row, largest = z[c, r, x0 : x0 + n], I32(0)
    if storage == HALF:
        for i in range(n):
            b = I32(row[i])
            size = I32(b & I32(0x7FFF))
            out[i] = _from_bits(I32(I32(size << I32(13)) | I32(b & _SIGN))) * _TWO112
            largest = size if size > largest else largest
        return largest < I32(0x7C00)
    if storage == FLOAT:
        for i in range(n):
            v = F32(row[i])
            out[i] = v
            size = I32(_bits(v) & I32(0x7FFFFFFF))
            largest = size if size > largest else largest
    else:
        for i in range(n):
            b = I32(I32(row[i]) << I32(16))
            out[i] = _from_bits(b)
            size = I32(b & I32(0x7FFFFFFF))
            largest = size if size > largest else largest
    return largest < I32(0x7F800000)


@njit
def _add_exp(values: Any, cls: Any, top: Any, arg: Any, n: Any, total: Any, weighted: Any) -> Any:
    """Add e = exp(z - top) of one class, except where it is the predicted one, and e (z - top)."""
    for i in range(n):
        d = values[i] - top[i]
        d = d if d > _LOWEST else _LOWEST
        e = _exp(d)
        e = _ZERO if arg[i] == cls else e
        total[i] += e
        weighted[i] += e * d


@njit
def _add_largest(values: Any, cls: Any, top: Any, arg: Any, n: Any, total: Any, second: Any) -> Any:
    """Add e = exp(z - top) of one class, except where it is the predicted one; keep the largest."""
    for i in range(n):
        d = values[i] - top[i]
        d = d if d > _LOWEST else _LOWEST
        e = _exp(d)
        e = _ZERO if arg[i] == cls else e
        total[i] += e
        second[i] = e if e > second[i] else second[i]


@njit
def pixel_rows(
    z: Any, storage: Any, kind: Any, r0: Any, r1: Any, base: Any, score: Any, label: Any
) -> Any:
    """Score and argmax of rows r0..r1-1 of logits [C, H, W] into rows r - base of score, label.

    kind: index into `_fixed.KINDS`. Returns whether all logits are finite.
    """
    classes, width = z.shape[0], z.shape[2]
    block = np.empty((classes, BLOCK), np.float32)
    top = np.empty(BLOCK, np.float32)
    arg = np.empty(BLOCK, np.int32)
    total = np.empty(BLOCK, np.float32)
    more = np.empty(BLOCK, np.float32)  # weighted by z - top, or the second largest
    finite = True
    for r in range(r0, r1):
        for x0 in range(0, width, BLOCK):
            n = min(BLOCK, width - x0)
            finite &= _load(z, storage, 0, r, x0, n, block[0])
            for i in range(n):
                top[i] = block[0, i]
                arg[i] = I32(0)
                total[i] = _ZERO
                more[i] = _ZERO
            for c in range(1, classes):
                values = block[c]
                finite &= _load(z, storage, c, r, x0, n, values)
                cls = I32(c)
                for i in range(n):
                    larger = values[i] > top[i]
                    top[i] = values[i] if larger else top[i]
                    arg[i] = cls if larger else arg[i]
            for c in range(classes):
                if kind == 0:
                    _add_exp(block[c], I32(c), top, arg, n, total, more)
                else:
                    _add_largest(block[c], I32(c), top, arg, n, total, more)
            out, labels = score[r - base, x0 : x0 + n], label[r - base, x0 : x0 + n]
            if kind == 0:
                for i in range(n):
                    out[i] = _log1p(total[i]) - more[i] / (_ONE + total[i])
            elif kind == 1:
                for i in range(n):
                    out[i] = (total[i] + more[i]) / (_ONE + total[i])
            elif kind == 2:
                for i in range(n):
                    out[i] = total[i] / (_ONE + total[i])
            else:
                for i in range(n):
                    out[i] = more[i]
            for i in range(n):
                labels[i] = arg[i]
    return finite


@njit
def add_rows(score: Any, label: Any, regions: Any, scale: Any, sums: Any, counts: Any) -> Any:
    """Add score, label [h, W] to sums [R] (fixed point) and counts [R, C] (or [R, 1]).

    False on an id outside 0..R-1. Runs of one region are added up before they are written.
    """
    number, classes, width = sums.shape[0], counts.shape[1], score.shape[1]
    for r in range(score.shape[0]):
        x = 0
        while x < width:
            region = regions[r, x]
            if region < 0 or region >= number:
                return False
            total = np.int64(0)
            while x < width and regions[r, x] == region:
                total += np.int64((np.float64(score[r, x]) * scale + ROUND64) - ROUND64)
                if classes > 1:
                    counts[region, label[r, x]] += 1
                else:
                    counts[region, 0] += 1
                x += 1
            sums[region] += total
    return True


@njit
def present_classes(label: Any, num_classes: Any) -> Any:
    """(int32 [C] rank of each class among those that occur, their number); (.., -1) on a bad id."""
    rank = np.zeros(num_classes, np.int32)
    for r in range(label.shape[0]):
        for x in range(label.shape[1]):
            c = label[r, x]
            if c < 0 or c >= num_classes:
                return rank, -1
            rank[c] = 1
    number = 0
    for c in range(num_classes):
        if rank[c]:
            rank[c] = number
            number += 1
    return rank, number


@njit
def window_rows(
    values: Any,
    label: Any,
    rank: Any,
    number: Any,
    radius: Any,
    r0: Any,
    r1: Any,
    scale: Any,
    table: Any,
    unit: Any,
    inverse_log: Any,
    mode: Any,
    out: Any,
) -> Any:
    """Write rows r0..r1-1 of a statistic over clipped windows to out [H, W].

    mode: index into `WINDOW_MODES`. values [H, W] are summed as round(v scale); `rank` numbers the
    classes that occur, `table` and `unit` give n ln n. Column sums (and one histogram per column)
    slide down, then right.
    """
    height, width = out.shape
    needs_values, needs_label = mode == 0 or mode == 2, mode != 0
    sums = np.zeros(width, np.int64)
    column = np.zeros((width, number), np.uint32)
    pure = np.empty(width, np.int32)
    logs = np.empty(width, np.int64)
    means = np.empty(width, np.float64)
    for y in range(max(0, r0 - radius), min(height, r0 + radius)):
        if needs_values:
            _add_row(values, y, scale, np.int64(1), sums)
        if needs_label:
            for x in range(width):
                column[x, rank[label[y, x]]] += 1
    for y in range(r0, r1):
        low, high = max(0, y - radius), min(height, y + radius + 1)
        leave = y - radius - 1 if y > r0 else -1
        if needs_values:
            if y + radius < height:
                _add_row(values, y + radius, scale, np.int64(1), sums)
            if leave >= 0:
                _add_row(values, leave, scale, np.int64(-1), sums)
            _mean_row(sums, radius, high - low, 1.0 / scale, means)
        if needs_label:
            _slide_down(label, rank, y, y + radius, leave, high - low, column, pure)
            _slide_right(label, rank, low, high, radius, table, column, pure, logs)
        for x in range(width):
            area = (high - low) * (min(width, x + radius + 1) - max(0, x - radius))
            impurity = np.float64(table[area] - logs[x]) * unit / np.float64(area)
            if mode == 0:
                out[y, x] = means[x]
            elif mode == 1:
                out[y, x] = impurity
            elif mode == 2:
                out[y, x] = (impurity * inverse_log) * (means[x] * inverse_log)
            else:
                value = np.float64(values[y, x])
                out[y, x] = (impurity * inverse_log) * (value * inverse_log)


@njit
def _add_row(values: Any, y: Any, scale: Any, sign: Any, sums: Any) -> Any:
    row = values[y]
    for x in range(row.shape[0]):
        rounded = (np.float64(row[x]) * scale + ROUND64) - ROUND64
        sums[x] += sign * np.int64(rounded)


@njit
def _mean_row(sums: Any, radius: Any, rows: Any, unit: Any, out: Any) -> Any:
    width = sums.shape[0]
    total = np.int64(0)
    for x in range(min(radius, width)):
        total += sums[x]
    for x in range(width):
        if x + radius < width:
            total += sums[x + radius]
        if x - radius - 1 >= 0:
            total -= sums[x - radius - 1]
        area = rows * (min(width, x + radius + 1) - max(0, x - radius))
        out[x] = np.float64(total) * unit / np.float64(area)


@njit
def _slide_down(
    label: Any, rank: Any, y: Any, enter: Any, leave: Any, rows: Any, column: Any, pure: Any
) -> Any:
    height, width = label.shape
    for x in range(width):
        if enter < height:
            column[x, rank[label[enter, x]]] += 1
        if leave >= 0:
            column[x, rank[label[leave, x]]] -= 1
        c = rank[label[y, x]]
        pure[x] = c if column[x, c] == rows else -1


@njit
def _slide_right(
    label: Any,
    rank: Any,
    low: Any,
    high: Any,
    radius: Any,
    table: Any,
    column: Any,
    pure: Any,
    out: Any,
) -> Any:
    """out[x] = sum over classes of n ln n (fixed point) of the window around x.

    A column of one class (`pure`) costs one update, the same class on both sides nothing, any
    other min(C, pixels of the column).
    """
    width, number = column.shape
    rows = high - low
    by_pixel = 2 * rows < number
    hist = np.zeros(number, np.uint32)
    nothing = np.zeros(number, np.uint32)
    total = np.int64(0)
    radius = min(radius, width)  # a wider window holds no more columns
    for x in range(-radius, width):
        enter, leave = x + radius, x - radius - 1
        came = -2 if enter >= width else pure[enter]
        went = -2 if leave < 0 else pure[leave]
        if came == went and came != -1:
            pass
        elif came != -1 and went != -1:
            if came >= 0:
                total += _change(hist, came, rows, table)
            if went >= 0:
                total += _change(hist, went, -rows, table)
        elif by_pixel:
            if came != -2:
                for y in range(low, high):
                    total += _change(hist, rank[label[y, enter]], 1, table)
            if went != -2:
                for y in range(low, high):
                    total += _change(hist, rank[label[y, leave]], -1, table)
        else:
            entering = nothing if came == -2 else column[enter]
            leaving = nothing if went == -2 else column[leave]
            total = np.int64(0)
            for c in range(number):
                n = hist[c] + entering[c] - leaving[c]  # unsigned: no test for a negative index
                hist[c] = n
                total += table[n]
        if x >= 0:
            out[x] = total


@njit
def _change(hist: Any, c: Any, by: Any, table: Any) -> Any:
    """Add `by` pixels of class c to the histogram; the change of the sum of n ln n."""
    before = np.int64(hist[c])
    hist[c] = before + by
    return table[before + by] - table[before]
