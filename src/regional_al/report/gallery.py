"""The overlays of a run: which images of which rounds, their panels, captions and files."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import RegionalALError
from ..store.images import read_rgb, write_png
from ..store.query import Query, read_query
from ..store.results import Results
from ..types import F32, I32, JSON, U8
from . import overlays as draw
from . import stored
from .stored import Preview
from .table import full, percent

MAX_ROWS = 24
PER_ROUND = 4
_GAP = 12


class Panel(NamedTuple):
    """One embedded picture. width, height: display points."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int


def overlays(work_dir: Path, results: Results, folder: Path) -> tuple[list[JSON], str]:
    """Groups {head, rows} of each round that has previews and a query, and a sentence on what was
    left out. Each row is also written as one PNG to `folder`. A file that cannot be read costs
    its row, not the report."""
    rounds = stored.rounds_with_query(work_dir)
    kept = spread(rounds, MAX_ROWS)
    each = max(1, min(PER_ROUND, MAX_ROWS // max(1, len(kept))))
    groups: list[JSON] = []
    problems: list[str] = []
    for round_ in kept:
        try:
            query = read_query(stored.round_dir(work_dir, round_) / "query")
            previews = stored.read_previews(work_dir, round_)
        except RegionalALError as error:
            problems.append(str(error))
            continue
        rows = []
        for preview in _best(query, previews, each):
            try:
                rows.append(_row(work_dir, results, query, preview, folder))
            except RegionalALError as error:
                problems.append(str(error))
        if rows:
            groups.append({"head": head(results, query), "rows": rows})
    return groups, _left_out(len(rounds), len(kept), problems)


def spread(rounds: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of the rounds, evenly, the first and last among them."""
    if len(rounds) <= limit:
        return list(rounds)
    places = np.linspace(0, len(rounds) - 1, limit).round().astype(int)
    return [rounds[i] for i in places.tolist()]


def head(results: Results, query: Query) -> str:
    """Round 3: 40 regions, 12,345 pixels asked in 12 images, 96 clicks."""
    picks, round_ = query.picks, query.info.round
    record = next((r for r in results.records if r.round == round_), None)
    unit = {"image": "image", "region": "region", "pixel": "pixel"}[query.info.level]
    text = f"Round {round_}: {full(len(picks))} {unit}{'' if len(picks) == 1 else 's'}"
    if query.info.level != "pixel":
        text += f", {full(int(picks['pixels'].sum()))} pixels"
    if query.info.level != "image":
        text += f" asked in {full(len(query.keys))} images"
    if record is None:
        return text + " (not complete)"
    clicks = record.asked.clicks
    return text if clicks is None else f"{text}, {full(clicks)} clicks"


def _best(query: Query, previews: Sequence[Preview], limit: int) -> list[Preview]:
    """Previews in their own order, those that were asked about first."""
    asked = set(query.keys.values())
    return sorted(previews, key=lambda p: p.key not in asked)[:limit]


def _row(
    work_dir: Path, results: Results, query: Query, preview: Preview, folder: Path
) -> list[Panel]:
    key = preview.key
    asked = query.asked(key) if key in query.keys.values() else None
    score = None if preview.score is None else stored.read_score(preview.score)
    pair = stored.read_labels(stored.label_store(work_dir), key)
    shape = next(a.shape for a in (asked, score, pair and pair[0]) if a is not None)
    size = draw.display_size((shape[0], shape[1]))
    image, missing = _image(preview.image, size)
    nothing = np.zeros(shape[:2], dtype=np.int32)
    asked = nothing if asked is None else asked
    classes = labelled_classes(pair, results, query.info.round, nothing)
    palette = np.array(results.palette, dtype=np.uint8).reshape(-1, 3)
    if score is None:
        score = np.full(shape[:2], np.nan, dtype=np.float32)
    pictures = [
        (image, "image", key + (" (image file not found)" if missing else "")),
        (draw.score_panel(score, size), "score map", _score_caption(score, results, query)),
        (draw.asked_panel(image, asked, size), "what was asked", _asked_caption(asked)),
        (
            draw.labelled_panel(image, classes, palette, size),
            "what is labelled",
            f"labelled: {percent(float((classes > 0).mean()))} % of the image",
        ),
    ]
    name = f"round_{query.info.round:03d}_{key.replace('/', '__')}.png"
    write_png(folder / name, strip([picture for picture, _, _ in pictures]))
    alts = [f"{what} of {key}, round {query.info.round}" for _, what, _ in pictures]
    return [
        Panel(_jpeg(picture), alt, caption, size[1] // 2, size[0] // 2)
        for (picture, _, caption), alt in zip(pictures, alts, strict=True)
    ]


def labelled_classes(
    pair: tuple[U8, U8] | None, results: Results, round_: int, nothing: I32
) -> I32:
    """int32 [H, W] after round `round_`: 0 unlabeled, 1 + c class c, 1 + C annotated void."""
    if pair is None:
        return nothing
    labels, annotated = pair
    there = (annotated > 0) & (annotated <= round_ + 1)
    classes = stored.class_table(results)[labels].astype(np.int32) + 1
    return np.where(there, classes, 0).astype(np.int32)


def strip(pictures: Sequence[U8]) -> U8:
    """Pictures of one size side by side on white."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate(list(_between(pictures, gap)), axis=1)


def _between(pictures: Sequence[U8], gap: U8) -> Iterator[U8]:
    for i, picture in enumerate(pictures):
        if i:
            yield gap
        yield picture


def _image(path: Path, size: tuple[int, int]) -> tuple[U8, bool]:
    """The picture at display size; plain grey (and True) when its file is gone."""
    try:
        return draw.image_panel(read_rgb(path), size), False
    except RegionalALError:
        return np.full((*size, 3), 150, dtype=np.uint8), True


def _score_caption(score: F32, results: Results, query: Query) -> str:
    heuristic: Any = results.acquisition.get("heuristic")
    name = heuristic.get("type") if isinstance(heuristic, dict) else heuristic
    drawn = query.info.round == 0 and results.acquisition.get("warm_start") is not None
    if drawn or name == "Random":
        return "score: random draw"
    if not np.isfinite(score).any():
        return "score: none kept"
    low, high = draw.score_range(score)
    return f"score ({name}): {low:.3g}" + (f" to {high:.3g}" if high > low else "")


def _asked_caption(asked: I32) -> str:
    pixels = int((asked > 0).sum())
    if not pixels:
        return "asked: nothing in this round"
    items = len(np.unique(asked[asked > 0]))
    if pixels == asked.size and items == 1:
        return "asked: the whole image"
    if items == pixels:
        return f"asked: {full(pixels)} pixel{'' if pixels == 1 else 's'}"
    return f"asked: {full(items)} region{'' if items == 1 else 's'}, {full(pixels)} pixels"


def _left_out(rounds: int, kept: int, problems: Sequence[str]) -> str:
    parts = []
    if kept < rounds:
        parts.append(f"{kept} of {rounds} rounds are shown.")
    if problems:
        parts.append(f"{len(problems)} could not be shown: {problems[0]}.")
    return " ".join(parts)


def _jpeg(picture: U8) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=84, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
