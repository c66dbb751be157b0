"""The books of a run with 100,000 images: opening it, and what a round costs beyond its pixels.

A work dir with a pool of 100,000 images, all labelled over five rounds of 20,000 (label files of
16x16 pixels, so that decoding and compressing hardly count), first waiting for half of its last
round, then finished; what the index says is then compared with a count of every file. In one
process: opening it both times as `train --resume` does, up to the engine's own loading of its data
set, and as it is after an engine has been built, when its files have been looked up meanwhile;
`status`; the list of labelled images; the hash of the labels; recording a round of answers.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import peak_extra_mb, print_table, timed, write_result

from regional_al.annotators.collect import collect_answers
from regional_al.cli import status
from regional_al.loop import runner
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store.check import check_run
from regional_al.store.images import encode_png, read_ids
from regional_al.store.label_index import hash_pixels, unpack
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.listing import LABEL, ROUNDS, scan
from regional_al.store.lock import FolderLock
from regional_al.store.query import Query, QueryInfo, read_query, write_query
from regional_al.store.recording import AnswerRow, recording
from regional_al.store.repair import sweep
from regional_al.types import I64, PICK_DTYPE, UNLABELED, ImageAnswer, LabelSpace, PoolItem

SIZE, CLASSES, ROUNDS_OF_RUN = 16, 19, 5
SECONDS = "seconds.json"
BUILD_S = 3.0
"""What building the MMSegmentation engine of a small pool takes on the machine of the figures."""
Seconds = dict[str, list[float]]
SPACE = LabelSpace.plain(
    tuple(f"class {c}" for c in range(CLASSES)), tuple((c, c, c) for c in range(CLASSES))
)
PARTS = {
    "record": "record the answers",
    "hash": "images and hash of the training",
    "keys": "the engine's list of images",
    "close": "record of the round",
}
ACQUISITION = {
    "level": "pixel",
    "heuristic": "Random",
    "budget": {"amount": 4, "unit": "pixel", "scope": "image"},
    "rounds": ROUNDS_OF_RUN - 1,
    "annotator": "folder",
    "previews": 0,
    "seed": 0,
}


class Pool:
    """An engine that is never asked to train or predict."""

    label_space = SPACE

    def __init__(self, pool: Sequence[PoolItem]) -> None:
        self.pool = pool

    def preflight(self) -> None:
        """Nothing to check."""

    def fit(self, request: Any) -> Any:
        raise NotImplementedError

    def predict(self, checkpoint: Any, indices: Sequence[int], request: Any) -> Any:
        raise NotImplementedError

    def evaluate(self, checkpoint: Any) -> I64:
        raise NotImplementedError


class Quick:
    """Answers from memory; one label of 20 is void."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def request(self, query: Query) -> None:
        """Nothing to publish."""

    def collect(self, query: Query, keys: Sequence[str]) -> Iterator[ImageAnswer]:
        rng = np.random.default_rng([self.seed, query.info.round])
        answered = np.ones((SIZE, SIZE), dtype=bool)
        for key in keys:
            labels = rng.integers(0, CLASSES + 1, (SIZE, SIZE), dtype=np.uint8)
            labels[labels == CLASSES] = 255
            yield ImageAnswer(key, labels, answered, clicks=4)

    def where(self, query: Query) -> str:
        return "answers come by themselves"


def pool_of(root: Path, images: int) -> list[PoolItem]:
    """The images of a pool, in folders of 2000; their files are not touched."""
    keys = [f"town{i // 2000:03d}/image_{i:06d}" for i in range(images)]
    return [PoolItem(key, root / f"{key}.png", None, (SIZE, SIZE)) for key in keys]


def make_pool(root: Path, images: int) -> list[PoolItem]:
    """Such a pool with its files, each a tiny image."""
    content, pool = encode_png(np.zeros((SIZE, SIZE), np.uint8)), pool_of(root, images)
    for folder in sorted({item.image.parent for item in pool}):
        folder.mkdir(parents=True, exist_ok=True)
    for item in pool:
        item.image.write_bytes(content)
    return pool


def prepare(root: Path, images: int, seed: int) -> None:
    """Make a pool and a run that waits for half of its last round below `root`, and keep the
    seconds of its rounds: what `measure` then finds there."""
    with silent():
        seconds = make_run(root / "run", make_pool(root / "images", images), seed)
    (root / SECONDS).write_text(json.dumps(seconds), encoding="utf-8")


def ask(folder: Path, round_: int, pool: Sequence[PoolItem], chosen: Sequence[int]) -> Query:
    """A query of one round: 4 pixels of each chosen image."""
    picks = np.zeros(len(chosen) * 4, PICK_DTYPE)
    picks["image"], picks["pixels"] = np.repeat(chosen, 4), 1
    asked = np.zeros((SIZE, SIZE), np.int32)
    asked[0, :4] = np.arange(1, 5)
    info = QueryInfo(round_, "pixel", "pixel", label_radius=0, suppress_radius=0)
    return write_query(folder, info, picks, ((i, pool[i].key, asked) for i in chosen))


def make_run(work_dir: Path, pool: Sequence[PoolItem], seed: int) -> Seconds:
    """A run that waits for half of the answers of its last round; each image is asked in one.
    Returns the seconds of each part, by round.

    Args:
        work_dir: Of the run.
        pool: Its images.
        seed: Of the labels.
    """
    seconds: Seconds = defaultdict(list)
    loop, annotator = build(work_dir, pool, seed), Quick(seed)
    loop.open()
    books, each = loop.records.ledger, len(pool) // ROUNDS_OF_RUN
    assert books is not None
    for r in range(ROUNDS_OF_RUN):
        query = ask(loop.work_dir.query(r), r, pool, range(r * each, (r + 1) * each))
        books.mark(r, "query", {"picks": len(query.picks)}, 0.0)
        if r < ROUNDS_OF_RUN - 1:
            for name, spent in play_round(loop, books, query, annotator):
                seconds[name].append(spent)
    half = Query(query.folder, query.info, query.picks, dict(list(query.keys.items())[::2]))
    collect_answers(half, annotator, loop.store, books)  # type: ignore[arg-type]
    loop.end("waiting", "half of the answers are missing")
    loop.records.close()
    return seconds


def finish_run(work_dir: Path, pool: Sequence[PoolItem], seed: int, seconds: Seconds) -> None:
    """The last round of such a run, all of its answers at once; adds to the seconds."""
    loop = build(work_dir, pool, seed)
    loop.open()
    books = loop.records.ledger
    assert books is not None
    query = read_query(loop.work_dir.query(ROUNDS_OF_RUN - 1))
    for name, spent in play_round(loop, books, query, Quick(seed)):
        seconds[name].append(spent)
    loop.end("finished", "all rounds are done")
    loop.records.close()


def play_round(
    loop: ActiveLearningLoop, books: Ledger, query: Query, annotator: Quick
) -> Iterator[tuple[str, float]]:
    """What a round does after its query, without a model: (part, seconds) of each."""
    r, start = query.info.round, time.perf_counter()
    with recording(loop.store, books, r) as rows:
        for answer in annotator.collect(query, query.image_keys()):
            pixels = loop.store.write(replace(answer, answered=query.asked(answer.key) > 0), r)
            rows.append(AnswerRow(answer.key, pixels, 4, complete=True, regions=4))
        yield "files", time.perf_counter() - start
        start = time.perf_counter()
    books.mark(r, "answers", {"seconds": {}}, 0.0)
    yield "record", time.perf_counter() - start
    start = time.perf_counter()
    loop.store.training_digest(SPACE.trainable)
    yield "hash", time.perf_counter() - start
    start = time.perf_counter()
    loop.store.trainable_keys(SPACE.trainable)
    yield "keys", time.perf_counter() - start
    start = time.perf_counter()
    for stage in ("fit", "evaluate"):
        books.mark(r, stage, {"seconds": {}}, 0.0)
    loop.records.close_round(r)
    yield "close", time.perf_counter() - start


def build(work_dir: Path, pool: Sequence[PoolItem], seed: int) -> ActiveLearningLoop:
    """The loop as a new process has it."""
    how: Any = (Pool(pool), ACQUISITION, Quick(seed), work_dir)
    return ActiveLearningLoop(*how)


def open_run(work_dir: Path, pool: Sequence[PoolItem]) -> None:
    """`train --resume` after the engine has been built, until a stage has something to do."""
    runner.run(Pool(pool), ACQUISITION, work_dir, report=False)  # type: ignore[arg-type]


def open_built(work_dir: Path, pool: Sequence[PoolItem]) -> float:
    """Seconds of `open_run` after an engine has been built, which takes `BUILD_S` at least: as
    `runner.run_training` does it."""
    listing = LabelStore(work_dir / "labels").listing()
    try:
        time.sleep(BUILD_S)
        start = time.perf_counter()
        how: Any = (Pool(pool), ACQUISITION, work_dir, "", None, "run", False)
        runner._run(FolderLock(work_dir), listing, *how)
        return time.perf_counter() - start
    finally:
        listing.close()


def check_equal(work_dir: Path, pool: Sequence[PoolItem]) -> None:
    """What the index says is what a count of every file finds, and so are the books."""
    store, found = LabelStore(work_dir / "labels"), []
    digest = hashlib.blake2b(digest_size=16)
    rounds: dict[int, list[int]] = defaultdict(list)
    for key in sorted(item.key for item in pool):
        if not store.path(key).exists():
            continue
        label, sidecar = read_ids(store.path(key)), read_ids(store.sidecar_path(key))
        for kind, pixels in ((LABEL, label), (ROUNDS, sidecar)):
            entry = store.entry(kind, key)
            assert entry is not None
            assert (unpack(entry.counts) == np.bincount(pixels.ravel(), minlength=256)).all()
            assert entry.digest == hash_pixels(pixels)
        for r in np.unique(sidecar[sidecar > 0]).tolist():
            rounds[r - 1].append(int((sidecar == r).sum()))
        if SPACE.trainable[label[label != UNLABELED]].any():
            found.append(key)
            digest.update(key.encode() + b"\0" + hash_pixels(label))
    assert store.trainable_keys(SPACE.trainable) == found
    assert store.training_digest(SPACE.trainable) == (len(found), digest.hexdigest())
    with Ledger.open(work_dir, readonly=True) as ledger:
        for r, pixels in rounds.items():
            costs = ledger.costs(r)
            assert (costs.images, costs.pixels) == (len(pixels), sum(pixels))


def touch(folder: Path) -> None:
    """Give every file another time, as copying a folder does."""
    for where, _, names in os.walk(folder):
        for name in names:
            os.utime(os.path.join(where, name))


def recount(labels: Path) -> None:
    """Every label file decoded."""
    store = LabelStore(labels)
    store.forget_index()
    store.trainable_keys(SPACE.trainable)


def measure(
    images: int, seed: int, brief: bool = False, prepared: Path | None = None
) -> dict[str, object]:
    """Simulate a run and time its books, after comparing them with a count of all files.

    Args:
        images: Of the pool; all are labelled in the end.
        seed: Of the labels.
        brief: Only what has a goal, once.
        prepared: Folder in which `prepare` has made the run, with the same images and seed; None:
            made here.

    Returns:
        `rows` (what, seconds, goal) and what they are about.
    """
    rows: list[dict[str, Any]] = []
    repeats, each = (3 if images >= 50_000 and not brief else 1), images // ROUNDS_OF_RUN

    def clock(what: str, goal: float | None, fn: Any, repeats: int = repeats) -> None:
        if brief and goal is None:
            return
        with silent():
            found = timed(fn, repeats=repeats, warmup=0 if repeats == 1 else 1)
            memory = None if repeats == 1 else round(peak_extra_mb(fn), 1)
        rows.append({"what": what, **found, "goal_s": goal, "peak_extra_mb": memory})
        print(f"{what}: {found['median_s']:.2f} s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        root = prepared or Path(folder)
        if prepared is None:
            prepare(root, images, seed)
        pool, run = pool_of(root / "images", images), root / "run"
        labels, trainable = run / "labels", SPACE.trainable
        seconds = defaultdict(list, json.loads((root / SECONDS).read_text(encoding="utf-8")))

        def built(what: str) -> None:
            with silent():
                found = [open_built(run, pool) for _ in range(repeats)]
            rows.append(row(what, found, 2.0) | {"median_s": float(np.median(found))})
            print(f"{what}: {rows[-1]['median_s']:.2f} s", flush=True)

        clock("open a waiting run", 2.0, lambda: open_run(run, pool))
        built("open a waiting run, its engine built meanwhile")
        clock("  of it: compare files and ledger", None, lambda: check_run(run, SPACE, pool))
        clock("  of it: remove temporary files", None, lambda: sweep(run))
        clock("status of a waiting run", 2.0, lambda: status.run(run))
        with silent():
            finish_run(run, pool, seed, seconds)
        check_equal(run, pool)
        print("index and books agree with all files", flush=True)

        def look() -> None:
            for where, kind in ((labels, LABEL), (labels, ROUNDS), (root / "images", LABEL)):
                scan(where, kind)

        clock(f"floor: stat of {3 * images:,} files", None, look)
        clock("open a finished run", 2.0, lambda: open_run(run, pool))
        built("open a finished run, its engine built meanwhile")
        clock("status of a finished run", 2.0, lambda: status.run(run))
        store = LabelStore(labels)
        other = "labelled images, another process"
        clock(other, None, lambda: LabelStore(labels).trainable_keys(trainable))
        clock("labelled images, again", None, lambda: store.trainable_keys(trainable))
        clock("images and hash of a training", None, lambda: store.training_digest(trainable))
        books = [sum(parts) for parts in zip(*(seconds[name] for name in PARTS), strict=True)]
        rows.append(row("label files of one round's answers", seconds["files"], None))
        rows.append(row(f"books of a round of {each:,} answers", books, 1.0))
        for name, what in PARTS.items():
            rows.append(row(f"  of it: {what}", seconds[name], None))
        if not brief:
            touch(labels)
        clock("open a copy for the first time", None, lambda: open_run(run, pool), repeats=1)
        clock("labelled images without an index", None, lambda: recount(labels), repeats=1)
        ledger_mb = round((run / "ledger.sqlite").stat().st_size / 2**20, 1)
    return {"images": images, "label_files": 2 * images, "rounds": ROUNDS_OF_RUN,
            "answers_a_round": each, "image_size": [SIZE, SIZE], "seed": seed,
            "ledger_mb": ledger_mb, "rows": rows}  # fmt: skip


def row(what: str, seconds: Sequence[float], goal: float | None) -> dict[str, Any]:
    """A part of a round. The last round of a run, in which all images are labelled, counts."""
    return {"what": what, "median_s": seconds[-1], "min_s": min(seconds), "max_s": max(seconds),
            "repeats": 1, "goal_s": goal}  # fmt: skip


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Nothing is printed inside."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 images; no file is written")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER",
                        help="only make the run there, to be measured later")  # fmt: skip
    args = parser.parse_args()
    if args.prepare is not None:
        prepare(args.prepare, args.images, args.seed)
        return
    found: dict[str, Any] = measure(2000 if args.quick else args.images, args.seed)
    rows = found.pop("rows")
    print_table(rows)
    if not args.quick:
        print(write_result("scale", rows, note="on a machine shared with other work", **found))


if __name__ == "__main__":
    main()
