"""A run folder made up from a seed, for the tests of the report: no model, no training.

`python tests/helpers/report_run.py FOLDER [level]` writes one to look at.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from regional_al.store import results as records
from regional_al.store.images import write_png
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.query import QueryInfo, write_query
from regional_al.store.results import Record, Results
from regional_al.types import PICK_DTYPE, UNLABELED, Costs, ImageAnswer

CLASSES = ("road", "pavement", "house", "tree", "sky", "sign")
PALETTE = (
    (128, 64, 128),
    (244, 35, 232),
    (90, 90, 90),
    (107, 142, 35),
    (70, 130, 180),
    (220, 220, 0),
)
SHAPE = (90, 120)
SECONDS = {
    "score": 8.4,
    "select": 0.31,
    "preview": 0.6,
    "annotate": 0.9,
    "fit": 61.0,
    "evaluate": 4.2,
}


def scene(seed: int, shape: tuple[int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """(RGB uint8 [H, W, 3] with texture, raw ids uint8 [H, W] with a void strip)."""
    rng = np.random.default_rng([7, seed])
    h, w = shape
    rows, cols = np.indices(shape)
    labels = np.full(shape, 4, dtype=np.uint8)
    horizon = int(h * rng.uniform(0.5, 0.6))
    labels[horizon:] = 1
    labels[(rows > horizon) & (abs(cols - w / 2) < (rows - horizon) * 1.6 + 6)] = 0
    for _ in range(3):
        left, top = rng.integers(0, w - 20), rng.integers(h // 6, horizon - 8)
        labels[top:horizon, left : left + rng.integers(14, 34)] = 2
    for _ in range(4):
        r, c = rng.integers(horizon - 16, horizon), rng.integers(0, w)
        labels[(rows - r) ** 2 + (cols - c) ** 2 < rng.integers(30, 120)] = 3
    for _ in range(2):
        r, c = rng.integers(horizon - 14, horizon), rng.integers(4, w - 4)
        labels[r : r + 5, c : c + 4] = 5
    base = np.array(
        [
            [92, 90, 95],
            [150, 140, 132],
            [165, 110, 84],
            [74, 112, 58],
            [168, 198, 226],
            [222, 190, 40],
        ]
    )[labels]
    texture = rng.normal(0, 11, (*shape, 1)) + 10 * np.sin(cols / 2 + rows / 5)[..., None]
    labels[:, : w // 40] = UNLABELED
    return np.clip(base + texture, 0, 255).astype(np.uint8), labels


def cells(seed: int, shape: tuple[int, int] = SHAPE, step: int = 12) -> np.ndarray:
    """int32 [H, W]: nearest of jittered centres, so irregular like superpixels."""
    rng = np.random.default_rng([11, seed])
    centres = np.stack(np.indices((shape[0] // step, shape[1] // step)), -1).reshape(-1, 2)
    centres = (centres + rng.uniform(0.1, 0.9, centres.shape)) * step
    grid = np.stack(np.indices(shape), -1)
    return ((grid[:, :, None] - centres) ** 2).sum(-1).argmin(-1).astype(np.int32)


def make_run(
    work_dir: Path,
    level: str = "region",
    rounds: int = 5,
    images: int = 6,
    waiting: bool = False,
    evaluated: bool = True,
    clicks: bool = True,
    shape: tuple[int, int] = SHAPE,
    title: str = "synthetic_region_ripu",
    per_round: int = 8,
) -> Results:
    """Write a run of rounds 0..rounds-1; `waiting` adds a round without answers.

    evaluated False: no mIoU. clicks False: costs without clicks, as with a human annotator.
    """
    keys = [f"town/{i:04d}" for i in range(images)]
    truth = []
    for i, key in enumerate(keys):
        picture, labels = scene(i, shape)
        write_png(work_dir / "data" / f"{key}.png", picture)
        truth.append(labels)
    acquisition = {
        "level": level,
        "heuristic": {"type": "RIPU" if level == "region" else "Margin"},
        "region": {"type": {"region": "slic", "pixel": "pixel", "image": "whole"}[level]},
        "budget": {
            "amount": "1%",
            "unit": "image" if level == "image" else "pixel",
            "scope": "pool",
        },
        "rounds": 4,
        "warm_start": {"amount": "1%", "unit": "pixel", "scope": "pool"},
        "round_init": "scratch",
        "queries": None,
        "annotator": {"type": "folder" if waiting else "oracle"},
        "seed": 0,
    }
    results = Results(
        title=title,
        acquisition=acquisition,
        classes=CLASSES,
        palette=PALETTE,
        raw_to_train=(*range(6), *[-1] * 249, 255),
        pool_images=images,
        pool_pixels=images * shape[0] * shape[1],
        engine="mmseg1",
        world_size=2,
    )
    records.write(work_dir, results)
    store = LabelStore(work_dir / "labels")
    with Ledger.create(work_dir, config="c", pool="p", acquisition=acquisition) as ledger:
        for r in range(rounds + waiting):
            _query(work_dir, r, level, keys, shape, store, per_round)
            ledger.mark(r, "query", {"picks": per_round}, 1.0)
            if r == rounds:
                break
            _answer(work_dir, r, store, truth, keys, ledger, clicks)
            for stage in ("answers", "fit", "evaluate"):
                ledger.mark(r, stage, {}, 1.0)
            record = _record(ledger, results, r, evaluated)
            results = records.append_record(work_dir, record)
    if not waiting:
        results = records.Results(**{**vars(results), "stopped": f"all {rounds} rounds are done"})
        records.write(work_dir, results)
    return results


def _query(
    work_dir: Path,
    r: int,
    level: str,
    keys: list[str],
    shape: tuple[int, int],
    store: LabelStore,
    per_round: int,
) -> None:
    rng = np.random.default_rng([3, r])
    picks, asked, index = [], [], []
    chosen = [r % len(keys)] if level == "image" else range(min(3, len(keys)))
    for image in chosen:
        items = np.zeros(shape, dtype=np.int32)
        units = cells(image, shape) if level == "region" else np.zeros(shape, dtype=np.int32)
        score = _score(rng, units, shape, level)
        done = store.annotated(keys[image])
        open_ = np.ones(shape, dtype=bool) if done is None else done == 0
        if level == "pixel":
            flat = rng.choice(np.flatnonzero(open_.ravel()), per_round, replace=False)
            items.ravel()[flat] = np.arange(1, per_round + 1)
            picks += [(image, f // shape[1], f % shape[1], -1, 0.5, 1) for f in flat]
        else:
            names = np.unique(units[open_])
            best = names[np.argsort(-score.ravel()[np.unique(units, return_index=True)[1]][names])]
            for item, unit in enumerate(best[:per_round], start=1):
                where = (units == unit) & open_
                items[where] = item
                picks.append((image, -1, -1, unit, float(score[where].max()), where.sum()))
        asked.append((image, keys[image], items))
        path = work_dir / "rounds" / f"{r:03d}" / "preview" / f"{keys[image]}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, score.astype(np.float16), allow_pickle=False)
        picture = str(work_dir / "data" / f"{keys[image]}.png")
        index.append({"key": keys[image], "image": picture, "score": f"{keys[image]}.npy"})
    info = QueryInfo(r, level, "slic" if level == "region" else level)  # type: ignore[arg-type]
    folder = work_dir / "rounds" / f"{r:03d}"
    write_query(folder / "query", info, np.array(picks, dtype=PICK_DTYPE), iter(asked))
    (folder / "preview" / "index.json").write_text(json.dumps(index))


def _score(
    rng: np.random.Generator, units: np.ndarray, shape: tuple[int, int], level: str
) -> np.ndarray:
    if level != "pixel":
        return rng.random(int(units.max()) + 1)[units]
    rows, cols = np.indices(shape)
    waves = np.sin(rows / 9 + rng.uniform(0, 6)) * np.sin(cols / 13 + rng.uniform(0, 6))
    return np.clip(0.5 + 0.4 * waves + rng.normal(0, 0.06, shape), 0, 1)


def _answer(
    work_dir: Path,
    r: int,
    store: LabelStore,
    truth: list[np.ndarray],
    keys: list[str],
    ledger: Ledger,
    clicks: bool,
) -> None:
    from regional_al.store.query import read_query

    query = read_query(work_dir / "rounds" / f"{r:03d}" / "query")
    for key in query.image_keys():
        asked = query.asked(key)
        answer = ImageAnswer(key, truth[keys.index(key)], asked > 0)
        store.write(answer, r)
        spent = int(asked.max()) * 2 if clicks else None
        ledger.record_answer(r, key, int((asked > 0).sum()), spent, True, int(asked.max()))


def _record(ledger: Ledger, results: Results, r: int, evaluated: bool) -> Record:
    total: Costs = ledger.total_costs(r)
    rng = np.random.default_rng([5, r])
    iou = 0.72 - np.linspace(0.08, 0.6, 6) / (r + 1) ** 0.6 + rng.normal(0, 0.012, 6)
    values: list[float | None] = np.clip(iou, 0, 1).round(4).tolist()
    values[5] = None if r == 0 else values[5]
    known = [v for v in values if v is not None]
    seconds = {**({"prepare": 6.1} if r == 0 else {}), **SECONDS, "fit": 58.0 + 2.5 * r}
    return Record(
        round=r,
        costs=total,
        asked=ledger.costs(r),
        labelled_fraction=total.pixels / results.pool_pixels,
        miou=sum(known) / len(known) if evaluated else None,
        per_class_iou=tuple(values) if evaluated else (),
        accuracy=min(0.99, 0.7 + 0.05 * r) if evaluated else None,
        label_share=0.97,
        iterations=400,
        seconds=seconds,
    )


if __name__ == "__main__":
    from regional_al.report.html import write_report

    make_run(
        Path(sys.argv[1]), level=sys.argv[2] if len(sys.argv) > 2 else "region", shape=(180, 240)
    )
    print(write_report(Path(sys.argv[1])))
