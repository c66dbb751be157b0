"""The compiled CPU loops (numba) over pixels and regions; those over windows: `_jit_windows`.

Each works on rows r0..r1-1 and releases the GIL, so that plain Python threads run them side by
side: no threading layer, nothing that breaks after a fork.

Arithmetic: see `_fixed`. fastmath stays off, as it would change bits.
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
_MAX = F32(np.finfo(np.float32).max)
_TWO112 = F32(2.0**112)
ROUND64 = 1.5 * 2.0**52  # adding it rounds a float64 below 2^51 to an integer

FLOAT, HALF, BRAIN = 0, 1, 2  # how the logits are stored: float, float16 bits, bfloat16 bits


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
    """Copy one class of a block as float32; the number of values that are NaN or infinite."""
    bad = 0
    row = z[c, r]
    if storage == FLOAT:
        for i in range(n):
            v = F32(row[x0 + i])
            out[i] = v
            bad += 0 if abs(v) <= _MAX else 1
    elif storage == BRAIN:
        for i in range(n):
            b = I32(row[x0 + i])
            v = _from_bits(I32(b << I32(16)))
            out[i] = v
            bad += 0 if abs(v) <= _MAX else 1
    else:
        for i in range(n):
            b = I32(row[x0 + i])
            v = _from_bits(I32((b & I32(0x7FFF)) << I32(13))) * _TWO112
            out[i] = -v if b < I32(0) else v
            bad += 1 if (b & I32(0x7C00)) == I32(0x7C00) else 0
    return bad


@njit
def pixel_rows(
    z: Any, storage: Any, kind: Any, r0: Any, r1: Any, base: Any, score: Any, label: Any
) -> Any:
    """Score and argmax of rows r0..r1-1 of logits [C, H, W] into rows r - base of score, label.

    kind: index into `_fixed.KINDS`. Returns how many logits were NaN or infinite.
    """
    classes, width = z.shape[0], z.shape[2]
    block = np.empty((classes, BLOCK), np.float32)
    top = np.empty(BLOCK, np.float32)
    arg = np.empty(BLOCK, np.int32)
    total = np.empty(BLOCK, np.float32)
    weighted = np.empty(BLOCK, np.float32)
    second = np.empty(BLOCK, np.float32)
    bad = 0
    for r in range(r0, r1):
        for x0 in range(0, width, BLOCK):
            n = min(BLOCK, width - x0)
            bad += _load(z, storage, 0, r, x0, n, block[0])
            for i in range(n):
                top[i] = block[0, i]
                arg[i] = I32(0)
                total[i] = _ZERO
                weighted[i] = _ZERO
                second[i] = _ZERO
            for c in range(1, classes):
                values = block[c]
                bad += _load(z, storage, c, r, x0, n, values)
                cls = I32(c)
                for i in range(n):
                    larger = values[i] > top[i]
                    top[i] = values[i] if larger else top[i]
                    arg[i] = cls if larger else arg[i]
            for c in range(classes):
                values = block[c]
                cls = I32(c)
                for i in range(n):
                    d = values[i] - top[i]
                    d = d if d > _LOWEST else _LOWEST
                    e = _exp(d)
                    e = _ZERO if arg[i] == cls else e
                    total[i] += e
                    weighted[i] += e * d
                    second[i] = e if e > second[i] else second[i]
            out = score[r - base, x0 : x0 + n]
            if kind == 0:
                for i in range(n):
                    out[i] = _log1p(total[i]) - weighted[i] / (_ONE + total[i])
            elif kind == 1:
                for i in range(n):
                    out[i] = (total[i] + second[i]) / (_ONE + total[i])
            elif kind == 2:
                for i in range(n):
                    out[i] = total[i] / (_ONE + total[i])
            else:
                for i in range(n):
                    out[i] = second[i]
            for i in range(n):
                label[r - base, x0 + i] = arg[i]
    return bad


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
