"""Fixed-point sums and the definitions of exp and ln shared by all backends.

Picks must not depend on the backend, the number of threads or the order of summation. Values are
therefore never summed over pixels in floating point: a value v becomes the integer
round(v * 2^shift), integer sums are exact in any order, and the result is divided once in float64.
The per-pixel part (over the C classes of one pixel) is a fixed sequence of float32 additions and
multiplications, classes ascending, without fused multiply-add; exp and ln are the polynomials
below. IEEE arithmetic then gives the same bits in numba, torch and Triton.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Kind = Literal["entropy", "margin", "least_confidence", "bvsb"]
KINDS: tuple[Kind, ...] = ("entropy", "margin", "least_confidence", "bvsb")

# exp(d), -88 <= d <= 0: d = n ln 2 + r; polynomial in r (minimax, after Cephes expf). At n = -127
# the factor 2^n is built as 0, so that what is below float32's range is exactly 0.
EXP_LOWEST = -88.0
LOG2E = 1.44269504088896341
LN2_HIGH = 0.693359375
LN2_LOW = -2.12194440e-4
EXP_POLY = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
ROUND_MAGIC = 12582912.0  # 1.5 * 2^23: adding it rounds a float32 below 2^22 to an integer

# ln(u), 1 <= u: u = 2^e x, sqrt(1/2) <= x < sqrt(2); polynomial in x - 1 (after Cephes logf).
LOG_SPLIT = 0x3F3504F3  # bits of sqrt(1/2)
LOG_POLY = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)

VALUE_BITS = 50  # a fixed-point value stays below 2^50, so that float64 holds and rounds it exactly
SUM_BITS = 62  # a sum of them stays below 2^62
MAX_WINDOW = 1 << 24  # pixels of one window: bounds the table of n ln n to 128 MiB


def fixed_shift(count: int, largest: float) -> int:
    """Shift s such that `count` values of magnitude <= `largest` can be summed as round(v 2^s)."""
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    return min(VALUE_BITS - exponent, SUM_BITS - int(count).bit_length() - exponent)


def entropy_shift(count: int, num_classes: int) -> int:
    """The shift for sums of up to `count` pixel entropies of `num_classes` classes."""
    return fixed_shift(count, max(1.0, 1.001 * float(np.log(num_classes))))


def inverse_log(num_classes: int) -> float:
    """1 / ln C, or 0 for one class, whose entropy is always 0."""
    return 1.0 / float(np.log(num_classes)) if num_classes > 1 else 0.0


def window_area(height: int, width: int, radius: int) -> int:
    """Pixels of the largest clipped window. Raises ValueError above `MAX_WINDOW`."""
    if radius < 0:
        raise ValueError(f"radius={radius} must be 0 or more")
    area = min(2 * radius + 1, height) * min(2 * radius + 1, width)
    if area > MAX_WINDOW:
        raise ValueError(
            f"radius={radius} gives windows of {area} pixels; the maximum is {MAX_WINDOW}"
        )
    return area


@lru_cache(maxsize=4)
def xlogx_table(area: int) -> tuple[npt.NDArray[np.int64], int]:
    """Table t = round(n ln n 2^s), int64 [area + 1], and its shift s.

    The entropy of class shares with counts n_c is (t[n] - sum_c t[n_c]) 2^-s / n: exactly 0 for
    one class, and the same bits for the same counts in any order.
    """
    count = np.arange(area + 1, dtype=np.float64)
    value = count * np.log(np.maximum(count, 1.0))
    shift = fixed_shift(2, float(max(value[-1], 1.0)))
    table = np.rint(np.ldexp(value, shift)).astype(np.int64)
    table.setflags(write=False)
    return table, shift


def new_label(logits: Tensor) -> Tensor:
    """An empty [H, W] for the argmax of logits [C, H, W]: uint8 where C fits."""
    dtype = torch.uint8 if logits.shape[0] <= 256 else torch.int32
    return torch.empty(logits.shape[1:], dtype=dtype, device=logits.device)
