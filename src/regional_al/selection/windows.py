"""Windows: greedy picks on a dense score map, exactly as defined, without an argmax per pick."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..types import I64, Bool
from ._order import Scores, as_excluded, as_scores, descending, refuse_unrankable, whole_number

WALK = 512  # candidates walked in Python at least before the suppressed ones are dropped in bulk

CROWD = 64  # candidates per pick asked for at once, at most


def select_windows(
    score: Any,
    radius: int,
    suppress_radius: int,
    count: int,
    excluded: Any = None,
    *,
    min_score: float = -np.inf,
    name: str = "score",
) -> I64:
    """Select centres of windows greedily on a dense score map.

    Definition (RIPU, Xie et al., CVPR 2022, arXiv 2111.12940): take the highest score that is
    neither suppressed nor excluded (ties: row-major), label the (2 radius + 1)^2 window around it,
    suppress the clipped (2 suppress_radius + 1)^2 square, repeat. The labelled square has no
    influence of its own; windows do not overlap if suppress_radius >= 2 radius.

    Args:
        score: float [H, W], array or tensor; -inf is never selected.
        radius: Of the labelled square, in pixels.
        suppress_radius: Of the square in which no further centre is selected, in pixels.
        count: Most windows.
        excluded: bool [H, W], True: never a centre (the score may have any value there).
        min_score: Windows below are left out; the others are the same as without it.
        name: What error messages call the map (the image's key).

    Returns:
        int64 [m, 2] of (row, col), best first; m < count when no centre is left.

    Raises:
        ScoreError: A score that is not excluded is NaN or +inf.
        ConfigError: A number is negative.

    Example:
        >>> import numpy as np
        >>> score = np.array([[0.9, 0.8, 0.1, 0.7]])
        >>> select_windows(score, radius=0, suppress_radius=1, count=2).tolist()
        [[0, 0], [0, 3]]
    """
    whole_number(radius, "radius")
    suppress = whole_number(suppress_radius, "suppress_radius")
    count = whole_number(count, "count")
    values = as_scores(score, 2, name)
    taken = as_excluded(excluded, values.shape, name)
    if suppress == 0:
        flat = _top(values, count, taken, min_score, name)
    else:
        flat = _greedy(values, suppress, count, taken, min_score, name)
    return np.stack(np.divmod(flat, max(1, values.shape[1])), axis=1)


def top_pixels(
    score: Any,
    count: int,
    excluded: Any = None,
    min_score: float = -np.inf,
    *,
    name: str = "score",
) -> tuple[I64, I64, Scores]:
    """Select the best pixels of a map: `select_windows` without suppression.

    Only the top of the map is sorted.

    Args:
        score: float [H, W], array or tensor; -inf is never selected.
        count: Most pixels.
        excluded: bool [H, W], True: never selected.
        min_score: Pixels below are left out.
        name: What error messages call the map.

    Returns:
        Rows int64 [m], columns int64 [m] and scores [m], best first; ties row-major.

    Raises:
        ScoreError: A score that is not excluded is NaN or +inf.
        ConfigError: A number is negative.

    Example:
        >>> import numpy as np
        >>> rows, cols, scores = top_pixels(np.array([[0.1, 0.9], [0.8, 0.2]]), 2)
        >>> rows.tolist(), cols.tolist(), scores.tolist()
        ([0, 1], [1, 0], [0.9, 0.8])
    """
    values = as_scores(score, 2, name)
    taken = as_excluded(excluded, values.shape, name)
    flat = _top(values, whole_number(count, "count"), taken, min_score, name)
    rows, cols = np.divmod(flat, max(1, values.shape[1]))
    return rows, cols, values.ravel()[flat]


def _top(values: Scores, count: int, excluded: Bool | None, min_score: float, name: str) -> I64:
    refuse_unrankable(values, excluded, name)
    parts: list[I64] = []
    if count:
        out = None if excluded is None else excluded.ravel()
        keep = None if out is None else (lambda ids: ~out[ids])
        left = count
        for ids in descending(values.ravel(), count + count // 8, keep, min_score):
            parts.append(ids[:left])
            left -= len(parts[-1])
            if not left:
                break
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _greedy(
    values: Scores, radius: int, count: int, excluded: Bool | None, min_score: float, name: str
) -> I64:
    refuse_unrankable(values, excluded, name)
    # A bytearray: reading one element from Python costs a third of reading it from an array. The
    # array over it is for bulk tests and for painting squares.
    blocked = bytearray(values.size) if excluded is None else bytearray(excluded)
    closed = np.frombuffer(blocked, dtype=np.bool_)
    picked: list[int] = []
    if count:
        # Neighbours score alike. Where all of an area is wanted, greedy squares pack such that
        # one candidate in about 0.6 of a square is picked.
        wanted = count * min(1 + 3 * (2 * radius + 1) ** 2 // 5, CROWD)
        for ids in descending(values.ravel(), wanted, lambda at: ~closed[at], min_score):
            _walk(ids, radius, count, blocked, closed.reshape(values.shape), picked)
            if len(picked) >= count:
                break
    return np.array(picked, dtype=np.int64)


def _walk(
    ids: I64, radius: int, count: int, blocked: bytearray, closed: Bool, picked: list[int]
) -> None:
    """Take the candidates `ids` in order unless blocked; each one taken blocks its square.

    A square is painted once per pick, and picks lie further apart than its radius: all painting
    together touches each pixel a few times at most, whatever the radius.
    """
    width = closed.shape[1]
    flat = closed.ravel()
    while ids.size:
        size = max(WALK, ids.size // 8)
        for i in ids[:size].tolist():
            if not blocked[i]:
                picked.append(i)
                if len(picked) >= count:
                    return
                row, col = divmod(i, width)
                closed[
                    max(0, row - radius) : row + radius + 1, max(0, col - radius) : col + radius + 1
                ] = True
        ids = ids[size:]
        ids = ids[~flat[ids]]
