"""The books of a run with 100,000 images: opening it, and what a round costs beyond its pixels.

A work dir with a pool of 100,000 images, all labelled over five rounds of 20,000 (label files of
16x16 pixels, so that decoding and compressing hardly count), one copy finished and one waiting for
half of its last round. What the index says is first compared with a count of every file. Then, in
one process: opening both runs as `train --resume` does, up to the engine's own loading of its data
set; `status`; the list of labelled images; the hash of the labels; recording a round of answers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
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
from regional_al.store.images import encode_png
from regional_al.store.label_index import LABEL, ROUNDS, scan, unpack
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.query import Query, QueryInfo, write_query
from regional_al.store.recording import AnswerRow, recording
from regional_al.store.repair import sweep
from regional_al.types import I64, PICK_DTYPE, ImageAnswer, LabelSpace, PoolItem

SIZE, CLASSES, ROUNDS_OF_RUN, SEED = 16, 19, 5, 0
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
    "seed": SEED,
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
    """Answers from memory; void where `labels` say so."""

    def request(self, query: Query) -> None:
        """Nothing to publish."""

    def collect(self, query: Query, keys: Sequence[str]) -> Iterator[ImageAnswer]:
        rng = np.random.default_rng([SEED, query.info.round])
        answered = np.ones((SIZE, SIZE), dtype=bool)
        for key in keys:
            labels = rng.integers(0, CLASSES + 1, (SIZE, SIZE), dtype=np.uint8)
            labels[labels == CLASSES] = 255
            yield ImageAnswer(key, labels, answered, clicks=4)

    def where(self, query: Query) -> str:
        return "answers come by themselves"


def make_pool(root: Path, images: int) -> list[PoolItem]:
    """Tiny image files in folders of 2000."""
    content, items = encode_png(np.zeros((SIZE, SIZE), np.uint8)), []
    for i in range(images):
        key = f"town{i // 2000:03d}/image_{i:06d}"
        path = root / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        items.append(PoolItem(key, path, None, (SIZE, SIZE)))
    return items


def ask(folder: Path, round_: int, pool: Sequence[PoolItem], chosen: Sequence[int]) -> Query:
    """A query of one round: 4 pixels of each chosen image."""
    picks = np.zeros(len(chosen) * 4, PICK_DTYPE)
    picks["image"], picks["pixels"] = np.repeat(chosen, 4), 1
    asked = np.zeros((SIZE, SIZE), np.int32)
    asked[0, :4] = np.arange(1, 5)
    info = QueryInfo(round_, "pixel", "pixel", label_radius=0, suppress_radius=0)
    return write_query(folder, info, picks, ((i, pool[i].key, asked) for i in chosen))


def make_run(
    work_dir: Path, pool: Sequence[PoolItem], waiting: bool, seconds: dict[str, list[float]]
) -> None:
    """All rounds of a run; each image is asked in one. `seconds` gets those of each part of a round."""
    loop = build(work_dir, pool)
    loop.open()
    books, each = loop.records.ledger, len(pool) // ROUNDS_OF_RUN
    assert books is not None
    for r in range(ROUNDS_OF_RUN):
        chosen = range(r * each, (r + 1) * each)
        query = ask(loop.work_dir.query(r), r, pool, chosen)
        books.mark(r, "query", {"picks": len(query.picks)}, 0.0)
        if waiting and r == ROUNDS_OF_RUN - 1:
            half = Query(query.folder, query.info, query.picks, dict(list(query.keys.items())[::2]))
            collect_answers(half, Quick(), loop.store, books)  # type: ignore[arg-type]
            loop.end("waiting", "half of the answers are missing")
            break
        times = [time.perf_counter()]

        def lap() -> None:
            times.append(time.perf_counter())

        with recording(loop.store, books, r) as rows:
            for answer in Quick().collect(query, query.image_keys()):
                pixels = loop.store.write(replace(answer, answered=query.asked(answer.key) > 0), r)
                rows.append(AnswerRow(answer.key, pixels, 4, complete=True, regions=4))
            lap()
        books.mark(r, "answers", {"seconds": {}}, 0.0)
        lap()
        loop.store.training_digest(SPACE.trainable)
        lap()
        loop.store.trainable_keys(SPACE.trainable)
        lap()
        for stage in ("fit", "evaluate"):
            books.mark(r, stage, {"seconds": {}}, 0.0)
        loop.records.close_round(r)
        lap()
        spent = np.diff(times).tolist()
        for name, value in zip(("files", *PARTS), spent, strict=True):
            seconds[name].append(value)
        seconds["books"].append(sum(spent[1:]))
    else:
        loop.end("finished", "all rounds are done")
    loop.records.close()


def build(work_dir: Path, pool: Sequence[PoolItem]) -> ActiveLearningLoop:
    """The loop as a new process has it."""
    annotator = Quick()
    return ActiveLearningLoop(Pool(pool), ACQUISITION, annotator, work_dir)  # type: ignore[arg-type]


def open_run(work_dir: Path, pool: Sequence[PoolItem]) -> None:
    """`train --resume` after the engine has been built, until a stage has something to do."""
    runner.run(Pool(pool), ACQUISITION, work_dir, report=False)  # type: ignore[arg-type]


def check_equal(work_dir: Path) -> None:
    """The index has the counts of every file."""
    known, fresh = LabelStore(work_dir / "labels"), LabelStore(work_dir / "labels")
    fresh.forget_index()
    for kind in (LABEL, ROUNDS):
        for key in scan(known.root, kind):
            one, other = known.entry(kind, key), fresh.entry(kind, key)
            assert one is not None
            assert other is not None
            assert (unpack(one.counts) == unpack(other.counts)).all()
            assert one.digest == other.digest


def row(what: str, seconds: Sequence[float], goal: float | None) -> dict[str, Any]:
    """The last round of a run, in which all images are labelled, is the longest one."""
    return {"what": what, "median_s": seconds[-1], "min_s": min(seconds), "max_s": max(seconds),
            "repeats": 1, "goal_s": goal}  # fmt: skip


def touch(folder: Path) -> None:
    """Give every file another time, as copying a folder does."""
    for where, _, names in os.walk(folder):
        for name in names:
            os.utime(os.path.join(where, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    images = 2000 if quick else 100_000
    repeats = 1 if quick else 3
    rows: list[dict[str, Any]] = []

    def measure(what: str, goal: float | None, fn: Any, repeats: int = repeats) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = timed(fn, repeats=repeats, warmup=0 if repeats == 1 else 1)
            memory = peak_extra_mb(fn)
        rows.append({"what": what, **found, "goal_s": goal, "peak_extra_mb": round(memory, 1)})
        print(f"{what}: {found['median_s']:.2f} s, {memory:.0f} MB", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pool = make_pool(root / "images", images)
        seconds: dict[str, list[float]] = defaultdict(list)
        finished, waiting = root / "finished", root / "waiting"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            make_run(finished, pool, False, seconds)
            make_run(waiting, pool, True, defaultdict(list))
        check_equal(finished)
        labels, trainable = finished / "labels", SPACE.trainable

        def look() -> None:
            scan(labels, LABEL)
            scan(labels, ROUNDS)
            scan(root / "images", LABEL)

        measure(f"floor: stat of {3 * images:,} files", None, look)
        measure("open a finished run", 2.0, lambda: open_run(finished, pool))
        measure("open a waiting run", 2.0, lambda: open_run(waiting, pool))
        measure("  of it: compare files and ledger", None, lambda: check_run(waiting, SPACE, pool))
        measure("  of it: remove temporary files", None, lambda: sweep(waiting))
        measure("Ledger.open", 2.0, lambda: Ledger.open(finished, readonly=True).close())
        measure("status of a finished run", 2.0, lambda: status.run(finished))
        measure("status of a waiting run", 2.0, lambda: status.run(waiting))
        store = LabelStore(labels)
        measure(
            "labelled images, another process",
            None,
            lambda: LabelStore(labels).trainable_keys(trainable),
        )
        measure("labelled images, again", None, lambda: store.trainable_keys(trainable))
        measure("images and hash of a training", None, lambda: store.training_digest(trainable))
        each = len(pool) // ROUNDS_OF_RUN
        rows.append(row("label files of one round's answers", seconds["files"], None))
        rows.append(row(f"books of a round of {each:,} answers", seconds["books"], 1.0))
        for name in ("record", "hash", "keys", "close"):
            rows.append(row(f"  of it: {PARTS[name]}", seconds[name], None))
        touch(labels)
        measure("open a finished copy, once", None, lambda: open_run(finished, pool), repeats=1)
        measure("labelled images without an index", None, lambda: recount(labels), repeats=1)
        size = (finished / "ledger.sqlite").stat().st_size / 2**20
    print_table(rows)
    path = write_result(
        "scale_quick" if quick else "scale",
        rows,
        images=images,
        label_files=2 * images,
        rounds=ROUNDS_OF_RUN,
        answers=images,
        image_size=[SIZE, SIZE],
        seed=SEED,
        ledger_mb=round(size, 1),
        note="on a machine shared with other work",
    )
    print(path)


def recount(labels: Path) -> None:
    """Every label file decoded."""
    store = LabelStore(labels)
    store.forget_index()
    store.trainable_keys(SPACE.trainable)


if __name__ == "__main__":
    main()
