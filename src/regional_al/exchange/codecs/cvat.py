"""CVAT's masks: run lengths, row by row inside a box whose right and bottom belong to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...types import I64, Bool
from . import runs


def encode(mask: Bool) -> list[int]:
    """bool [h, w] that fills its box as run lengths.

    Example:
        >>> encode(np.array([[1, 0], [1, 1]], bool))
        [0, 1, 1, 2]
    """
    return [int(n) for n in runs.encode(np.ascontiguousarray(mask).ravel())]


def decode(lengths: Sequence[int] | I64, shape: tuple[int, int]) -> Bool:
    """Run lengths as bool [h, w]; runs that end early are followed by zeros. Raises ValueError
    for runs that are longer than the box.

    Example:
        >>> decode([0, 1], (1, 3)).tolist()
        [[True, False, False]]
    """
    return runs.decode(lengths, shape[0] * shape[1], padded=True).reshape(shape)


def points(mask: Bool, top: int, left: int) -> list[int]:
    """`points` of CVAT's REST interface and SDK: the run lengths, then left, top, right, bottom.

    Example:
        >>> points(np.ones((1, 2), bool), top=5, left=3)
        [0, 2, 3, 5, 4, 5]
    """
    height, width = mask.shape
    return [*encode(mask), left, top, left + width - 1, top + height - 1]


def from_points(values: Sequence[int], size: tuple[int, int]) -> tuple[Bool, int, int]:
    """Inverse of `points` on an image of size (H, W): (mask, top, left). Raises ValueError.

    Example:
        >>> mask, top, left = from_points([0, 2, 3, 5, 4, 5], (6, 8))
        >>> mask.tolist(), top, left
        ([[True, True]], 5, 3)
    """
    numbers = runs.integers(values)
    if numbers.size < 4:
        raise ValueError("has fewer than four numbers, which give its box")
    left, top, right, bottom = (int(n) for n in numbers[-4:])
    if not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
        raise ValueError(
            f"has left {left}, top {top}, right {right}, bottom {bottom}, which is no box in an"
            f" image of {size[0]} rows and {size[1]} columns"
        )
    return decode(numbers[:-4], (bottom - top + 1, right - left + 1)), top, left
