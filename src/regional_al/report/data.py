"""What the report reads from the folder of a run: labels, when they were given, score previews.

Only files of the run itself: the ground truth of the pool is never opened here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..store.labels import LabelStore
from ..store.reading import read_array, read_json
from ..store.results import Results
from ..store.work_dir import WorkDir
from ..types import F32, I64, U8

_THREADS = 4


class Preview(NamedTuple):
    """One image of a round's preview: the picture, and its float16 [H, W] score map if there is
    one."""

    key: str
    image: Path
    score: Path | None


def read_previews(run: WorkDir, round_: int) -> list[Preview]:
    """The previews of a round; none when it has no index. Raises DataError for a damaged one."""
    folder = run.previews(round_)
    path = folder / "index.json"
    if not path.is_file():
        return []

    def located(image: Path) -> Path:
        """As written, or below the work dir (a run that was moved together with its images)."""
        return image if image.is_absolute() or image.is_file() else run.root / image

    entries = read_json(path)
    try:
        return [
            Preview(
                str(entry["key"]),
                located(Path(entry["image"])),
                folder / entry["score"] if entry.get("score") else None,
            )
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a readable preview index: {error!r}") from None


def read_score(path: Path) -> F32:
    """A score map float32 [H, W]; NaN or infinite where nothing could be queried."""
    score = read_array(path)
    if score.ndim != 2 or score.dtype.kind not in "fiub":
        raise DataError(f"{path} is {list(score.shape)} of {score.dtype}; a score map is [H, W]")
    return np.asarray(score, dtype=np.float32)


def read_labels(run: WorkDir, key: str) -> tuple[U8, U8] | None:
    """(raw ids, round + 1 of the answer or 0), both uint8 [H, W]; None when nothing is labelled."""
    store = LabelStore(run.labels)
    labels, annotated = store.read(key), store.annotated(key)
    if labels is None or annotated is None:
        return None
    if labels.shape != annotated.shape:
        raise DataError(f"{store.path(key)} and {store.sidecar_path(key)} differ in size")
    return labels, annotated


def class_table(results: Results) -> U8:
    """uint8 [256]: raw id -> class 0..C-1, or C for void."""
    table = np.asarray(results.raw_to_train, dtype=np.int64)
    void = len(results.classes)
    return np.where((table < 0) | (table >= void), void, table).astype(np.uint8)


def class_counts(run: WorkDir, results: Results) -> I64:
    """int64 [rounds, C + 1]: pixels annotated in each round by class, the last column void."""
    table = class_table(results)
    width = len(results.classes) + 1
    counts = np.zeros((256, width), dtype=np.int64)

    def of_image(key: str) -> I64:
        pair = read_labels(run, key)
        if pair is None:
            return np.zeros_like(counts)
        labels, annotated = pair
        there = annotated > 0
        codes = (annotated[there].astype(np.int64) - 1) * width + table[labels[there]]
        return np.bincount(codes, minlength=256 * width).reshape(256, width)

    with ThreadPoolExecutor(_THREADS) as threads:
        for part in threads.map(of_image, LabelStore(run.labels).keys()):
            counts += part
    used = np.flatnonzero(counts.any(axis=1))
    return counts[: int(used[-1]) + 1 if used.size else 0]
