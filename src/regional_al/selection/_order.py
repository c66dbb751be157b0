"""Descending order of scores with ties by position, made lazily: only as much as is walked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, ScoreError
from ..types import I64, Bool, Picks

Scores = npt.NDArray[np.floating[Any]]

SMALL = 32768  # below this many scores one sort beats any search for a threshold
SAMPLE = 16384  # scores looked at to guess the threshold of a chunk
MARGIN = 8  # sampled scores beyond the wanted ones, against an unlucky sample
GROWTH = 4  # each further chunk is this much larger, so that there are few of them


def as_scores(scores: Any, ndim: int, name: str) -> Scores:
    """A contiguous float32 or float64 array (no copy where it is one already); tensors too."""
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu()
        scores = (scores.float() if scores.dtype.itemsize < 4 else scores).numpy()
    array = np.ascontiguousarray(scores)
    if array.ndim != ndim:
        raise ScoreError(f"{name} must have {ndim} dimension(s), not shape {array.shape}")
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float32 if array.dtype == np.float16 else np.float64)


def as_excluded(excluded: Any, shape: tuple[int, ...], name: str) -> Bool | None:
    """bool array of the scores' shape, or None."""
    if excluded is None:
        return None
    if hasattr(excluded, "detach"):
        excluded = excluded.detach().cpu().numpy()
    array = np.ascontiguousarray(excluded, dtype=bool)
    if array.shape != shape:
        raise ScoreError(f"excluded has shape {array.shape} but {name} has {shape}")
    return array


def whole_number(value: Any, name: str) -> int:
    """An int >= 0; numpy integers too."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ConfigError(f"{name}={value!r} must be a whole number, 0 or more")
    return int(value)


def refuse_unrankable(scores: Scores, excluded: Bool | None, name: str) -> None:
    """Raise ScoreError for NaN or +inf that is not excluded (-inf means: never pick)."""
    if not scores.size or bool(scores.max() < np.inf):  # a NaN makes max NaN: one pass suffices
        return
    bad = ~(scores < np.inf)
    if excluded is not None:
        bad &= ~excluded
    places = np.argwhere(bad)
    if len(places):
        where = tuple(places[0].tolist())
        raise ScoreError(
            f"{name}: {len(places)} value(s) are NaN or +inf, the first ({scores[where]}) at "
            f"{where}; the model diverged or the score is broken: lower the learning rate or check "
            "the checkpoint"
        )


def order_descending(values: Scores) -> I64:
    """Positions of 1-d `values` from high to low, equal ones in order of position (-0.0 == 0.0)."""
    if values.dtype != np.float32 or values.size >= 2**32:
        return np.argsort(-values, kind="stable")
    # Value and position in one integer: numpy sorts those with SIMD, several times faster than a
    # stable argsort. IEEE bits sort like the values once negative ones are mirrored.
    bits = (values + np.float32(0)).view(np.uint32)
    rising = np.where(bits >> 31 != 0, ~bits, bits | np.uint32(1 << 31))
    keys = (~rising).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(values.size, dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def descending(
    values: Scores, wanted: int, keep: Callable[[I64], Bool] | None, floor: float = -np.inf
) -> Iterator[I64]:
    """Positions of 1-d `values` in descending order, ties by position, chunk by chunk.

    A first chunk of about `wanted` is made, further ones only when asked for. A position at which
    `keep` is False when its chunk is made is left out, as are -inf and anything below `floor`.
    The threshold of a chunk is guessed from a sample; a bad guess costs time, never exactness.
    """
    rank, step = max(1, wanted), 1
    sample = values[:0]
    if values.size > SMALL:
        step = (values.size // SAMPLE) | 1  # odd: does not stay in a few columns of the map
        at = np.arange(0, values.size, step)
        sample = values[at if keep is None else at[keep(at)]]
        sample = np.sort(sample[sample >= floor])[::-1]
    upper: float | None = None
    while True:
        index = rank // step + MARGIN
        last = index >= sample.size
        lower = floor if last else max(float(sample[index]), floor)
        if upper is None or lower < upper:
            chosen = values > lower if lower == -np.inf else values >= lower
            if upper is not None:
                chosen &= values < upper
            ids = np.flatnonzero(chosen)
            if keep is not None:
                ids = ids[keep(ids)]
            if ids.size:
                yield ids[order_descending(values[ids])]
            upper = lower
        if last or lower == -np.inf:
            return
        rank *= GROWTH


def order_picks(picks: Picks) -> I64:
    """The total order of picks: score descending, then image, row, column, unit ascending."""
    scores = picks["score"]
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    tie = ranked[1:] == ranked[:-1]
    if tie.any():  # only tied runs need the other keys
        tied = np.zeros(len(order), dtype=bool)
        tied[1:] |= tie
        tied[:-1] |= tie
        some = order[tied]
        sub = picks[some]
        keys = (sub["unit"], sub["col"], sub["row"], sub["image"], -sub["score"])
        order[tied] = some[np.lexsort(keys)]
    return order
