"""One image: from logits to candidates (what could be asked, its score and its cost), and back from
picks to the map of what is asked. Pure functions; the same on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from .. import selection
from ..errors import ScoreError
from ..types import I32, PICK_DTYPE, U8, Picks

NO_LIMIT = -np.inf
NOTHING = int(np.iinfo(np.int64).max)
"""Cost of the cheapest candidate where there is none: above any budget."""


def make_picks(
    image: int,
    scores: npt.ArrayLike,
    pixels: npt.ArrayLike,
    *,
    row: npt.ArrayLike = -1,
    col: npt.ArrayLike = -1,
    unit: npt.ArrayLike = -1,
) -> Picks:
    """PICK_DTYPE array of one image's candidates."""
    scores = np.asarray(scores, dtype=np.float64)
    out = np.zeros(len(scores), dtype=PICK_DTYPE)
    out["image"], out["score"], out["pixels"] = image, scores, pixels
    out["row"], out["col"], out["unit"] = row, col, unit
    return out


def fresh_pixels(ids: I32, num_units: int, annotated: U8 | None) -> npt.NDArray[np.int64]:
    """int64 [R]: pixels of each unit that have no answer yet (what an answer would cost)."""
    chosen = ids.ravel() if annotated is None else ids[annotated == 0]
    return np.bincount(chosen, minlength=num_units).astype(np.int64)


def unit_candidates(
    image: int,
    key: str,
    scores: torch.Tensor,
    ids: I32,
    annotated: U8 | None,
    min_score: float = NO_LIMIT,
) -> Picks:
    """Candidates among the units of a partition: those with a pixel left to annotate.

    scores: float [R], NaN allowed for empty units only, -inf = never. Raises ScoreError naming the
    image.
    """
    values = scores.detach().to("cpu", torch.float64).numpy()
    pixels = fresh_pixels(ids, len(values), annotated)
    open_ = pixels > 0
    _rankable(values[open_], key)
    units = np.flatnonzero(open_ & (values >= min_score) & (values != -np.inf))
    return make_picks(image, values[units], pixels[units], unit=units)


def window_candidates(
    image: int,
    key: str,
    score: torch.Tensor,
    label_radius: int,
    suppress_radius: int,
    annotated: U8 | None,
    taken: Sequence[tuple[int, int]],
    budget: int,
    by_pixel: bool,
    min_score: float = NO_LIMIT,
    column_major: bool = False,
) -> Picks:
    """Greedy windows (or, with label_radius 0, pixels) of a dense score map, best first.

    A centre is excluded where a pixel has an answer or within `suppress_radius` of a centre taken
    in an earlier round. The sequence ends with the first window at which this image alone would
    have overspent `budget`, so it is a function of the image only, not of how ranks share the pool.
    """
    values = score.detach().to("cpu", torch.float32).numpy()
    if column_major:
        turned = window_candidates(
            image,
            key,
            score.T,
            label_radius,
            suppress_radius,
            None if annotated is None else annotated.T,
            [(c, r) for r, c in taken],
            budget,
            by_pixel,
            min_score,
        )
        turned["row"], turned["col"] = turned["col"].copy(), turned["row"].copy()
        return turned
    _rankable(values, key)
    excluded = np.zeros(values.shape, bool) if annotated is None else annotated > 0
    for row, col in taken:
        excluded[square(row, col, suppress_radius)] = True
    if label_radius == 0 and suppress_radius == 0:
        rows, cols, top = selection.top_pixels(values, budget, excluded, min_score)
        return make_picks(image, top, np.ones(len(top)), row=rows, col=cols)
    side = 2 * label_radius + 1
    count = budget // side**2 + 1 if by_pixel else budget
    if by_pixel and annotated is not None:  # their windows cost about as much less
        left = int(np.count_nonzero(annotated == 0))
        count = 1 + int(count * 1.1 * annotated.size / max(1, left))
    while True:
        centres = selection.select_windows(
            values, label_radius, suppress_radius, count, excluded, min_score=min_score
        )
        pixels = _window_pixels(centres, label_radius, values.shape, annotated)
        spent = np.cumsum(pixels if by_pixel else np.ones_like(pixels))
        if len(centres) < count or (len(spent) and spent[-1] >= budget):
            break
        count *= 2  # clipped or partly annotated windows cost less: the budget holds more of them
    keep = int(np.searchsorted(spent, budget)) + 1
    centres, pixels = centres[:keep], pixels[:keep]
    best = values[centres[:, 0], centres[:, 1]]
    return make_picks(image, best, pixels, row=centres[:, 0], col=centres[:, 1])


def pixel_rows(
    image: int, pixels: npt.NDArray[np.int64], shape: tuple[int, int], annotated: U8 | None
) -> Picks:
    """Units of one pixel each, numbered in the order of pixels int64 [m], their row-major
    positions; `pixels` of those that are annotated is 0."""
    answered = np.zeros(len(pixels), np.bool_)
    if annotated is not None:
        answered = annotated.ravel()[pixels] > 0
    rows, cols = np.divmod(pixels, shape[1])
    count = len(pixels)
    return make_picks(image, np.zeros(count), ~answered, row=rows, col=cols, unit=np.arange(count))


def asked_map(
    picks: Picks,
    shape: tuple[int, int],
    ids: I32 | None,
    label_radius: int | None,
    annotated: U8 | None,
) -> I32:
    """int32 [H, W]: 0 = not asked, i = the image's i-th pick; answered pixels are never asked.

    picks: of one image, in pick order; ids: the image's partition, or None for windows and pixels.
    """
    items = np.arange(1, len(picks) + 1, dtype=np.int32)
    if ids is not None:
        table = np.zeros(max(int(ids.max()), int(picks["unit"].max())) + 1, dtype=np.int32)
        table[picks["unit"]] = items
        out = table[ids]
    else:
        out = np.zeros(shape, dtype=np.int32)
        if label_radius == 0:
            out[picks["row"], picks["col"]] = items
        else:
            for item, pick in zip(items, picks, strict=True):
                where = square(int(pick["row"]), int(pick["col"]), label_radius or 0)
                out[where] = np.where(out[where] == 0, item, out[where])
    if annotated is not None:
        out[annotated > 0] = 0
    return out


def square(row: int, col: int, radius: int) -> tuple[slice, slice]:
    """The (2 radius + 1)^2 square around a pixel, clipped at the top and left by max(0, .)."""
    return (
        slice(max(0, row - radius), row + radius + 1),
        slice(max(0, col - radius), col + radius + 1),
    )


def _window_pixels(
    centres: npt.NDArray[np.int64], radius: int, shape: tuple[int, int], annotated: U8 | None
) -> npt.NDArray[np.int64]:
    """int64 [m]: pixels without an answer in each clipped window; by a summed-area table where the
    windows together have more pixels than the image."""
    height, width = shape
    r0, c0 = np.maximum(centres - radius, 0).T
    r1 = np.minimum(centres[:, 0] + radius + 1, height)
    c1 = np.minimum(centres[:, 1] + radius + 1, width)
    whole: npt.NDArray[np.int64] = (r1 - r0) * (c1 - c0)
    if annotated is None:
        return whole
    if len(centres) * (2 * radius + 1) ** 2 <= annotated.size:
        along = np.arange(2 * radius + 1)
        # A position beyond the window's end is its last one again, and is not counted.
        rows, cols = r0[:, None] + along, c0[:, None] + along
        inside = (rows < r1[:, None])[:, :, None] & (cols < c1[:, None])[:, None, :]
        rows, cols = np.minimum(rows, height - 1), np.minimum(cols, width - 1)
        taken = (annotated[rows[:, :, None], cols[:, None, :]] > 0) & inside
        return np.asarray(whole - taken.sum(axis=(1, 2), dtype=np.int64))
    table = np.zeros((height + 1, width + 1), dtype=np.int64)
    np.cumsum(np.cumsum(annotated == 0, axis=0, dtype=np.int64), axis=1, out=table[1:, 1:])
    return np.asarray(table[r1, c1] - table[r0, c1] - table[r1, c0] + table[r0, c0])


def _rankable(values: npt.NDArray[np.floating], key: str) -> None:
    if np.isnan(values).any() or (values == np.inf).any():
        raise ScoreError(
            f"image {key!r}: scores hold NaN or infinite values; the model diverged or the "
            "heuristic is broken: lower the learning rate or check the checkpoint"
        )
