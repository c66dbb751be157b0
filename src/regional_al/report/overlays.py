"""The overlays of a run: image, score map, what was queried, what is labelled, for a few images of
each round.

`groups` reads a run and makes them; the panels are pure array functions. All panels of an image
have the same display size. Picks smaller than a few points of the display are enlarged, since a
single pixel would be invisible.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import EnvironmentProblem, RegionalALError
from ..store.images import read_rgb, write_png
from ..store.query import Query, read_query
from ..store.results import Results
from ..store.work_dir import WorkDir
from ..types import F32, I32, JSON, U8, Bool
from . import data
from .data import Preview
from .table import full, percent

MAX_ROWS = 24
PER_ROUND = 4
LIMIT = 560
"""Longest side of a panel: sharp at 280 points, the width of four panels side by side."""
QUERIED = (255, 214, 10)
RIM = (20, 24, 30)
EDGE = (245, 247, 250)
_HATCH = np.array([[168, 174, 182], [112, 118, 128]], dtype=np.uint8)
_NO_SCORE = np.array([205, 209, 214], dtype=np.uint8)
_CROWDED = 0.2
_REACH = 8
_GAP = 12

Size = tuple[int, int]


class Panel(NamedTuple):
    """One embedded picture. width, height: display points."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int


def groups(run: WorkDir, results: Results, folder: Path) -> tuple[list[JSON], str]:
    """The overlays of every round that has a query and previews.

    Args:
        run: The folder of the run.
        results: Its `results.json`.
        folder: Where each row is also written as one PNG.

    Returns:
        Groups {head, rows} by round, a row being four panels; and a sentence on what was left out.
        A file that cannot be read costs its row, not the report.
    """
    rounds = run.rounds_with_query()
    kept = thinned(rounds, MAX_ROWS)
    per_round = max(1, min(PER_ROUND, MAX_ROWS // max(1, len(kept))))
    found: list[JSON] = []
    problems: list[str] = []
    for round_ in kept:
        try:
            query = read_query(run.query(round_))
            previews = data.read_previews(run, round_)
        except RegionalALError as error:
            problems.append(str(error))
            continue
        rows = []
        queried = set(query.keys.values())
        for preview in sorted(previews, key=lambda p: p.key not in queried)[:per_round]:
            try:
                rows.append(_row(run, results, query, preview, folder))
            except RegionalALError as error:
                problems.append(str(error))
        if rows:
            found.append({"head": _head(results, query), "rows": rows})
    left_out = f"{len(kept)} of {len(rounds)} rounds are shown." if len(kept) < len(rounds) else ""
    if problems:
        left_out += f" {len(problems)} could not be shown: {problems[0]}."
    return found, left_out.strip()


def strips(run: WorkDir, results: Results, round_: int, most: int = PER_ROUND) -> dict[str, U8]:
    """The overlays of one round for an experiment tracker.

    Args:
        run: The folder of the run.
        results: Its `results.json`.
        round_: That has a query and previews; another one has no overlays.
        most: How many.

    Returns:
        Key of an image -> image, score map, query and labels side by side, RGB uint8 [H, W, 3].

    Raises:
        RegionalALError: A file is damaged, or a package is missing.
    """
    if round_ not in run.rounds_with_query():
        return {}
    query = read_query(run.query(round_))
    queried = set(query.keys.values())
    previews = sorted(data.read_previews(run, round_), key=lambda p: p.key not in queried)
    return {p.key: _strip(_pictures(run, results, query, p)) for p in previews[:most]}


def thinned(rounds: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of the rounds, evenly spaced, the first and last among them."""
    if len(rounds) <= limit:
        return list(rounds)
    places = np.linspace(0, len(rounds) - 1, limit).round().astype(int)
    return [rounds[i] for i in places.tolist()]


def _head(results: Results, query: Query) -> str:
    """Round 3: 40 regions (12,345 pixels) in 12 images, 96 clicks."""
    info, picks = query.info, query.picks
    record = next((r for r in results.records if r.round == info.round), None)
    text = f"Round {info.round}: {_count(len(picks), info.level)}"
    if info.level != "pixel":
        text += f" ({full(int(picks['pixels'].sum()))} pixels)"
    if info.level != "image":
        text += f" in {_count(len(query.keys), 'image')}"
    if record is None:
        return text + " (not complete)"
    clicks = record.asked.clicks
    return text if clicks is None else f"{text}, {_count(clicks, 'click')}"


def _count(number: int, noun: str) -> str:
    return f"{full(number)} {noun}{'' if number == 1 else 's'}"


Picture = tuple[U8, str, str]
"""RGB [h, w, 3], what it shows, caption."""


def _row(
    run: WorkDir, results: Results, query: Query, preview: Preview, folder: Path
) -> list[Panel]:
    key, round_ = preview.key, query.info.round
    pictures = _pictures(run, results, query, preview)
    name = f"round_{round_:03d}_{key.replace('/', '__')}.png"
    write_png(folder / name, _strip(pictures))
    height, width = pictures[0][0].shape[:2]
    return [
        Panel(jpeg_uri(picture), f"{what} of {key}, round {round_}", text, width // 2, height // 2)
        for picture, what, text in pictures
    ]


def _strip(pictures: Sequence[Picture]) -> U8:
    """The pictures side by side."""
    gap = np.full((pictures[0][0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture, _, _ in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=1)


def _pictures(run: WorkDir, results: Results, query: Query, preview: Preview) -> list[Picture]:
    key, round_ = preview.key, query.info.round
    items = query.asked(key) if key in query.keys.values() else None
    score = None if preview.score is None else data.read_score(preview.score)
    pair = data.read_labels(run, key)
    shape = next(a.shape for a in (items, score, pair and pair[0]) if a is not None)
    size = display_size((shape[0], shape[1]))
    try:
        image, missing = image_panel(read_rgb(preview.image), size), ""
    except RegionalALError:
        image, missing = np.full((*size, 3), 150, dtype=np.uint8), " (image file not found)"
    items = np.zeros(shape[:2], dtype=np.int32) if items is None else items
    score = np.full(shape[:2], np.nan, dtype=np.float32) if score is None else score
    classes = labelled_classes(pair, results, round_, shape[:2])
    palette = np.array(results.palette, dtype=np.uint8).reshape(-1, 3)
    share = percent(float((classes > 0).mean()))
    return [
        (image, "image", key + missing),
        (score_panel(score, size), "score map", _score_caption(score, results, query)),
        (query_panel(image, items, size), "query", _query_caption(items)),
        (label_panel(image, classes, palette, size), "labels", f"labelled: {share} % of the image"),
    ]


def labelled_classes(pair: tuple[U8, U8] | None, results: Results, round_: int, shape: Size) -> I32:
    """int32 [H, W] after round `round_`: 0 unlabeled, 1 + c class c, 1 + C annotated void."""
    if pair is None:
        return np.zeros(shape, dtype=np.int32)
    labels, annotated = pair
    there = (annotated > 0) & (annotated <= round_ + 1)
    classes = data.class_table(results)[labels].astype(np.int32) + 1
    return np.where(there, classes, 0).astype(np.int32)


def _score_caption(score: F32, results: Results, query: Query) -> str:
    asked: Any = results.acquisition
    warm_start = asked.get("warm_start")
    heuristic = asked.get("heuristic")
    if query.info.round == 0 and warm_start is not None:
        heuristic = warm_start.get("heuristic", "Random")
    name = heuristic.get("type") if isinstance(heuristic, dict) else heuristic
    if name == "Random":
        return "score: random"
    if not np.isfinite(score).any():
        return "score: none kept"
    low, high = score_range(score)
    return f"score ({name}): {low:.3g}" + (f" to {high:.3g}" if high > low else "")


def _query_caption(items: I32) -> str:
    pixels = int((items > 0).sum())
    if not pixels:
        return "query: nothing in this round"
    count = len(np.unique(items[items > 0]))
    if pixels == items.size and count == 1:
        return "query: the whole image"
    if count == pixels:
        return f"query: {_count(pixels, 'pixel')}"
    return f"query: {_count(count, 'region')}, {full(pixels)} pixels"


def jpeg_uri(picture: U8) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=84, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


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
    """Score map [H, W] -> magma colours, the lowest and highest per cent clipped; grey where the
    score is NaN or infinite."""
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


def query_panel(image: U8, items: I32, size: Size) -> U8:
    """RGB [H, W, 3], item ids [H, W] (0 = not queried): what is queried keeps its colours inside a
    yellow outline, the rest is dimmed; single pixels and tiny windows become yellow marks."""
    picture = image_panel(image, size)
    ids = fit_ids(items, size)
    out = np.where((ids > 0)[..., None], picture, dim(picture))
    small = tiny(ids > 0)
    large = np.where(small, 0, ids)
    out[_thicken(_borders(large)) & ~small] = QUERIED
    colours = np.broadcast_to(np.array(QUERIED, dtype=np.uint8), out.shape)
    return paint_marks(out, small, colours)


def label_panel(image: U8, classes: I32, palette: U8, size: Size) -> U8:
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
    # Without an edge, grey classes would not stand out from the dimmed picture.
    out[_borders((there & ~small).astype(np.int32)) & ~small] = EDGE
    return paint_marks(out, small, colours, rim=EDGE)


def fit_ids(ids: I32, size: Size) -> I32:
    """Ids [H, W] at display size. Enlarged: nearest. Reduced: a non-zero id is never lost to its
    zero neighbours (the last one in row-major order is kept)."""
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
    """The part of a mask that is nowhere `least` points wide and not connected to such a part."""
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
    out[rows, cols] = values  # a point keeps its own colour, whatever lies beside it
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
