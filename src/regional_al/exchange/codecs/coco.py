"""COCO's run lengths: column-major, as a list of numbers or as the string of pycocotools.

The string holds each number in groups of 5 bits, lowest first, as characters from '0' on; bit 5
says that another group follows. From the fourth number on it is the difference to the number two
places before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...types import I64, JSON, Bool
from . import runs

_GROUPS = 13  # of 5 bits in 64


def encode(mask: Bool, compressed: bool = True) -> JSON:
    """bool [H, W] as `{'size': [H, W], 'counts': ...}`.

    Args:
        mask: The mask.
        compressed: counts as a string; else as a list of numbers.

    Returns:
        What stands under `segmentation`.

    Example:
        >>> encode(np.array([[0, 1], [1, 1]], bool), compressed=False)
        {'size': [2, 2], 'counts': [1, 3]}
        >>> encode(np.array([[0, 1], [1, 1]], bool))['counts']
        '13'
    """
    counts = runs.encode(np.ascontiguousarray(mask.T).ravel())
    written = compress(counts) if compressed else counts.tolist()
    return {"size": [int(n) for n in mask.shape], "counts": written}


def decode(counts: Any, shape: tuple[int, int]) -> Bool:
    """Counts of either kind as bool [H, W]. Raises ValueError for runs of another size.

    Example:
        >>> decode("13", (2, 2)).astype(int).tolist()
        [[0, 1], [1, 1]]
    """
    if isinstance(counts, (str, bytes)):
        counts = decompress(counts)
    flat = runs.decode(counts, shape[0] * shape[1])
    return np.ascontiguousarray(flat.reshape(shape[1], shape[0]).T)


def compress(counts: I64) -> str:
    """Run lengths as the string of pycocotools.

    Example:
        >>> compress(np.array([6, 1, 40, 4, 5, 1]))
        '61X13mNM'
    """
    rest = counts.astype(np.int64).copy()
    rest[3:] -= counts[1:-2]
    groups = np.zeros((rest.size, _GROUPS), np.uint8)
    used = np.zeros((rest.size, _GROUPS), bool)
    going = np.ones(rest.size, bool)
    for place in range(_GROUPS):
        if not going.any():
            break
        bits = rest & 31
        rest >>= 5
        used[:, place] = going
        more = np.where(bits & 16, rest != -1, rest != 0)
        groups[:, place] = (bits | np.where(more, 32, 0)) + 48
        going &= more
    return groups[used].tobytes().decode("ascii")


def decompress(text: str | bytes) -> I64:
    """Inverse of `compress`. Raises ValueError for a string that it does not write.

    Example:
        >>> decompress(compress(np.array([6, 1, 40, 4, 5, 1]))).tolist()
        [6, 1, 40, 4, 5, 1]
    """
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        raise ValueError("is not a run length string of COCO") from None
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        return codes
    last = (codes & 32) == 0
    if codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise ValueError("is not a run length string of COCO")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 12:  # 60 bits
        raise ValueError("is not a run length string of COCO")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    if np.abs(numbers).max() > 2**40:
        raise ValueError("is not a run length string of COCO")
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
