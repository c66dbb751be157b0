"""Run lengths of a mask: the alternating numbers of zeros and ones, zeros first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...types import I64, Bool


def encode(flat: Bool) -> I64:
    """Run lengths of bool [n]; the first one, of zeros, may be 0.

    Example:
        >>> encode(np.array([True, True, False])).tolist()
        [0, 2, 1]
    """
    if flat.size == 0:
        return np.zeros(0, np.int64)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate(([0], edges, [flat.size]))
    lengths = np.diff(bounds)
    return np.concatenate(([0], lengths)) if flat[0] else lengths


def decode(lengths: Sequence[int] | I64, size: int, padded: bool = False) -> Bool:
    """Inverse of `encode`.

    Args:
        lengths: Runs, zeros first.
        size: n.
        padded: Accept runs that end early; zeros follow.

    Returns:
        bool [n].

    Raises:
        ValueError: The runs are no numbers of at least 0, or do not add up to the size.

    Example:
        >>> decode([1, 2], 4, padded=True).tolist()
        [False, True, True, False]
    """
    counts = integers(lengths)
    if counts.size and (int(counts.min()) < 0 or int(counts.max()) > size):
        raise ValueError(f"has a run that is not in 0..{size}")
    total = int(counts.sum())
    if total > size or (total < size and not padded):
        raise ValueError(f"has runs of {total} pixels in all, for {size}")
    if total < size:
        counts = np.append(counts, [0, size - total] if counts.size % 2 else [size - total])
    return np.repeat(np.arange(counts.size) % 2 == 1, counts)


def integers(values: Any) -> I64:
    """A list of whole numbers as int64 [n]. Raises ValueError for anything else.

    Example:
        >>> integers([3, 4.0]).tolist()
        [3, 4]
    """
    try:
        found = np.asarray(values if len(values) else np.zeros(0, np.int64))
    except (ValueError, TypeError, OverflowError):
        raise ValueError("is not a list of whole numbers") from None
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        raise ValueError("is not a list of whole numbers")
    if found.dtype.kind == "f" and not (
        np.isfinite(found).all() and (found == np.round(found)).all() and (abs(found) < 2**53).all()
    ):
        raise ValueError("is not a list of whole numbers")
    if found.dtype.kind == "u" and found.size and int(found.max()) >= 2**63:
        raise ValueError("is not a list of whole numbers")
    return found.astype(np.int64)
