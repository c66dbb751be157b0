"""Pictures of a round: image, score map, what was asked, what is labelled. Pure array functions.

All panels of an image have the same display size. Picks that would be smaller than a few points of
the display are drawn larger than they are, or nobody would see a single pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EnvironmentProblem
from ..types import F32, I32, U8, Bool

LIMIT = 560
"""Longest side of a panel: sharp at 280 points, the width of four panels side by side."""
ASKED = (255, 214, 10)
RIM = (20, 24, 30)
EDGE = (245, 247, 250)
_HATCH = np.array([[168, 174, 182], [112, 118, 128]], dtype=np.uint8)
_NO_SCORE = np.array([205, 209, 214], dtype=np.uint8)
_CROWDED = 0.2
_REACH = 8

Size = tuple[int, int]


def display_size(shape: Size, limit: int = LIMIT) -> Size:
    """(h, w) of a panel for an image of (H, W): the longer side becomes `limit`."""
    scale = limit / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def image_panel(image: U8, size: Size) -> U8:
    """RGB [H, W, 3] -> [h, w, 3]."""
    pil = _pillow()
    height, width = size
    filter_ = pil.Resampling.LANCZOS if image.shape[0] > height else pil.Resampling.BICUBIC
    return np.asarray(pil.fromarray(image).resize((width, height), filter_, reducing_gap=3.0))


def score_panel(score: F32, size: Size) -> U8:
    """Score map [H, W] -> magma colours, the darkest and brightest per cent clipped; grey where
    the score is NaN or infinite."""
    finite = np.isfinite(score)
    if not finite.any():
        return np.broadcast_to(_NO_SCORE, (*size, 3)).copy()
    low, high = score_range(score)
    unit = np.clip((np.where(finite, score, low) - low) / max(high - low, 1e-12), 0, 1)
    if high <= low:
        unit = np.full_like(unit, 0.5)
    pil = _pillow()
    small = score.shape[0] <= size[0]
    filter_ = pil.Resampling.NEAREST if small else pil.Resampling.BOX
    fitted = pil.fromarray(unit.astype(np.float32)).resize(size[::-1], filter_)
    out = _magma()[np.clip(np.asarray(fitted) * 255 + 0.5, 0, 255).astype(np.uint8)]
    out[~_nearest(finite, size)] = _NO_SCORE
    return out


def score_range(score: F32) -> tuple[float, float]:
    """First and 99th percentile of the finite scores: the ends of the colour scale."""
    values = score[np.isfinite(score)]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, (1, 99))
    return float(low), float(high)


def asked_panel(image: U8, asked: I32, size: Size) -> U8:
    """RGB [H, W, 3], item ids [H, W] (0 = not asked): what is asked keeps its colours inside a
    yellow outline, the rest is dimmed; single pixels and tiny windows become yellow marks."""
    picture = image_panel(image, size)
    ids = fit_ids(asked, size)
    out = np.where((ids > 0)[..., None], picture, dim(picture))
    small = tiny(ids > 0)
    large = np.where(small, 0, ids)
    out[_thicken(_borders(large)) & ~small] = ASKED
    colours = np.broadcast_to(np.array(ASKED, dtype=np.uint8), out.shape)
    return paint_marks(out, small, colours)


def labelled_panel(image: U8, classes: I32, palette: U8, size: Size) -> U8:
    """RGB [H, W, 3] and classes [H, W] (0 = unlabeled, 1 + c = class c, 1 + C = annotated void):
    class colours on the dimmed picture, void hatched in grey. palette: uint8 [C, 3]."""
    base = dim(image_panel(image, size))
    ids = fit_ids(classes, size)
    void = len(palette) + 1
    table = np.concatenate([np.zeros((1, 3), np.uint8), palette, _HATCH[:1]])
    colours = table[np.clip(ids, 0, void)]
    rows, cols = np.indices(size)
    stripes = _HATCH[((rows + cols) // 5) % 2]
    colours = np.where((ids == void)[..., None], stripes, colours)
    there = ids > 0
    out = np.where(there[..., None], colours, base)
    small = tiny(there)
    # Grey classes would drown in the dimmed picture without an edge.
    out[_borders((there & ~small).astype(np.int32)) & ~small] = EDGE
    return paint_marks(out, small, colours, rim=EDGE)


def fit_ids(ids: I32, size: Size) -> I32:
    """Ids [H, W] at display size. Enlarged: nearest. Reduced: a non-zero id is never lost to its
    zero neighbours (the last one in row-major order wins a place)."""
    height, width = ids.shape
    if size[0] >= height and size[1] >= width:
        return _nearest(ids, size)
    out = np.zeros(size, dtype=ids.dtype)
    rows, cols = np.nonzero(ids)
    out[rows * size[0] // height, cols * size[1] // width] = ids[rows, cols]
    return out


def dim(picture: U8) -> U8:
    """Dark grey version of an RGB picture, so that colours stand out on it."""
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.repeat((34 + 0.48 * grey).astype(np.uint8)[..., None], 3, axis=-1)


def tiny(mask: Bool, least: int = 7) -> Bool:
    """The part of a mask that is nowhere `least` points wide and hangs on nothing that is."""
    large = _grow(_shrink(mask, least), least) & mask
    for _ in range(_REACH):  # along the spurs of a ragged outline, a few points a step
        wider = _grow(large, least) & mask
        if np.array_equal(wider, large):
            break
        large = wider
    return mask & ~large


def paint_marks(picture: U8, mask: Bool, colours: U8, rim: tuple[int, int, int] = RIM) -> U8:
    """Draw each point of `mask` as a small square of its own colour with a rim. The squares
    shrink when there are many, so that they never hide the picture."""
    if not mask.any():
        return picture
    radius = next((r for r in (4, 3, 2) if _grow(mask, 2 * r + 3).mean() < _CROWDED), 1)
    out = picture.copy()
    if radius > 1:
        out[_grow(mask, 2 * radius + 3)] = rim
    rows, cols = np.nonzero(mask)
    values = colours[rows, cols]
    for dr in range(-radius, radius + 1):
        for dc in range(-radius, radius + 1):
            r, c = rows + dr, cols + dc
            inside = (r >= 0) & (r < mask.shape[0]) & (c >= 0) & (c < mask.shape[1])
            out[r[inside], c[inside]] = values[inside]
    out[rows, cols] = values  # a point's own place is its own colour, whatever lies beside it
    return out


def _nearest(array: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    rows = np.arange(size[0]) * array.shape[0] // size[0]
    cols = np.arange(size[1]) * array.shape[1] // size[1]
    out: npt.NDArray[Any] = array[rows[:, None], cols]
    return out


def _borders(ids: I32) -> Bool:
    """Points whose lower or right neighbour has another id, and the frame of the picture."""
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    frame = np.zeros_like(edge)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    return edge | (frame & (ids > 0))


def _thicken(edge: Bool) -> Bool:
    out = edge.copy()
    out[1:] |= edge[:-1]
    out[:, 1:] |= out[:, :-1]
    return out


def _grow(mask: Bool, width: int) -> Bool:
    """Dilation by a square of odd side `width`, by running sums."""
    return np.greater(_window_sum(mask, width), 0)


def _shrink(mask: Bool, width: int) -> Bool:
    return np.logical_not(_grow(~mask, width))


def _window_sum(mask: Bool, width: int) -> I32:
    half = width // 2
    total = mask.astype(np.int32)
    for axis in (0, 1):
        padding = [(half + 1, half) if a == axis else (0, 0) for a in (0, 1)]
        running = np.cumsum(np.pad(total, padding), axis=axis, dtype=np.int32)
        upper = np.take(running, np.arange(width, running.shape[axis]), axis=axis)
        lower = np.take(running, np.arange(0, running.shape[axis] - width), axis=axis)
        total = upper - lower
    return total


def _magma() -> U8:
    """uint8 [256, 3]."""
    try:
        from matplotlib import colormaps
    except ImportError:
        raise EnvironmentProblem("the report needs matplotlib: pip install matplotlib") from None
    return np.asarray(colormaps["magma"](np.arange(256))[:, :3] * 255 + 0.5).astype(np.uint8)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise EnvironmentProblem("the report needs Pillow: pip install pillow") from None
    return Image
