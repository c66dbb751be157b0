"""Label maps that keep sparse labels when they shrink. Pure numpy, no framework.

Plain nearest-neighbour shrinking looks at one source pixel per target cell and drops the others:
at half size three of four isolated labels are gone. Here a labelled pixel wins over unlabeled
neighbours of its own cell; where nearest already finds a label, nothing changes.
"""

from __future__ import annotations

import numpy as np

from ...types import I64, U8, UNLABELED


def shrink_labels(mask: U8, size: tuple[int, int], ignore: int = UNLABELED) -> U8:
    """Resize a label map so that labelled pixels survive shrinking.

    Args:
        mask: uint8 [H, W] label ids; `ignore` = unlabeled or void.
        size: (h, w) of the result, both >= 1.
        ignore: the id that gives way to any other.

    Returns:
        uint8 [h, w]. Target cell (i, j) covers source rows [iH//h, (i+1)H//h) and columns
        likewise (one pixel when growing). Its value is the one that plain nearest takes
        (row iH//h, column jW//w) if that is labelled; else the labelled pixel of the cell that
        is closest to the cell's centre, ties row-major; else `ignore`. A mask without `ignore`
        therefore equals plain nearest exactly, and so does every mask that only grows.

    Raises:
        ValueError: mask is not uint8 [H, W] or size has an entry below 1.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8 or min(size) < 1 or mask.size == 0:
        raise ValueError(f"needs a uint8 [H, W] mask and a size >= 1, got {mask.shape} -> {size}")
    rows = cell_starts(mask.shape[0], size[0])[:-1]
    cols = cell_starts(mask.shape[1], size[1])[:-1]
    return keep_labels(mask, np.take(mask[rows], cols, axis=1), ignore)


def keep_labels(mask: U8, resized: U8, ignore: int = UNLABELED) -> U8:
    """`resized` (any resize of `mask`) with the labels that it lost put back where it has none.

    Args:
        mask: uint8 [H, W], before. resized: uint8 [h, w], after; it is not changed.
        ignore: the id of unlabeled pixels.

    Returns:
        uint8 [h, w]: `resized` where that is labelled, else as in `shrink_labels`. `resized`
        itself when nothing can be put back.
    """
    (height, width), (rows, cols) = mask.shape, resized.shape
    if rows >= height and cols >= width:
        return resized  # growing loses nothing
    free = resized == ignore
    if not free.any():
        return resized
    small = (min(rows, height), min(cols, width))
    best = _closest_to_centre(mask, _any_over_grown(free, small), ignore)
    if small != (rows, cols):  # one side shrinks, the other grows
        best = np.take(best[cell_starts(small[0], rows)[:-1]], cell_starts(small[1], cols)[:-1], 1)
    return np.where(free, best, resized)


def cell_starts(source: int, target: int) -> I64:
    """int64 [target + 1]: first source index of each target cell, and `source` at the end."""
    return np.arange(target + 1, dtype=np.int64) * source // target


def _any_over_grown(free: np.ndarray, small: tuple[int, int]) -> np.ndarray:
    """bool `small`: cells of which at least one grown copy is still unlabeled."""
    for axis in (0, 1):
        if free.shape[axis] != small[axis]:
            free = np.logical_or.reduceat(
                free, _first_copies(small[axis], free.shape[axis]), axis=axis
            )
    return free


def _first_copies(source: int, target: int) -> I64:
    """int64 [source]: first target index that shows each source index when growing."""
    return np.searchsorted(cell_starts(source, target)[:-1], np.arange(source)).astype(np.int64)


def _closest_to_centre(mask: U8, wanted: np.ndarray, ignore: int) -> U8:
    """uint8 like `wanted`: per wanted cell its labelled pixel closest to the centre, or ignore."""
    row_starts = cell_starts(mask.shape[0], wanted.shape[0])
    col_starts = cell_starts(mask.shape[1], wanted.shape[1])
    row_cell = np.repeat(np.arange(wanted.shape[0]), np.diff(row_starts))
    col_cell = np.repeat(np.arange(wanted.shape[1]), np.diff(col_starts))
    labelled = np.take(wanted, col_cell, axis=1)[row_cell]
    labelled &= mask != ignore
    flat = np.flatnonzero(labelled)
    ys, xs = np.divmod(flat, mask.shape[1])
    # Twice the distance to the centre, so that it stays an integer.
    up = 2 * np.arange(mask.shape[0]) - (row_starts[:-1] + row_starts[1:] - 1)[row_cell]
    left = 2 * np.arange(mask.shape[1]) - (col_starts[:-1] + col_starts[1:] - 1)[col_cell]
    distance = (up * up)[ys] + (left * left)[xs]
    # 16-bit keys sort by radix; the worst goes first and is overwritten by better ones.
    key = (distance.max(initial=0) - distance)[::-1]
    if key.size and key.max() < 65536:
        key = key.astype(np.uint16)
    order = flat.size - 1 - np.argsort(key, kind="stable")
    best = np.full(wanted.shape, ignore, dtype=np.uint8)
    best[row_cell[ys[order]], col_cell[xs[order]]] = mask.reshape(-1)[flat[order]]
    return best
