"""All labels of another run as round 0 of this one (`warm_start=dict(labels=WORK_DIR)`).

To train another model on what has been labelled, or to go on labelling with it: the config may
differ, and so may the pool, as long as it holds every image that has labels. Labels and what they
have cost are copied; nobody is asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..annotators.checks import allowed_ids, checked_ids
from ..errors import DataError, WorkDirError
from ..runtime.progress import progress
from ..store.labels import LabelStore
from ..store.ledger import Ledger
from ..types import JSON, ImageAnswer, LabelSpace, PoolItem


def check(run: Path, items: Sequence[PoolItem]) -> None:
    """Raise WorkDirError unless `run` is a run with labels, all of images of this pool."""
    where = f"acquisition.warm_start.labels={run}"
    if not Ledger.exists(run):
        raise WorkDirError(f"{where} holds no run: give the work dir of a run")
    with Ledger.open(run, readonly=True) as ledger:
        keys = {key for _, key, _, _ in ledger.answers()}
    if not keys:
        raise WorkDirError(f"{where} has no labels yet")
    foreign = sorted(keys - {item.key for item in items})
    if foreign:
        raise WorkDirError(
            f"{where} has labels of {len(foreign)} images that are not in this pool, such as "
            f"{foreign[0]!r}: give a config whose training images include them"
        )


def copy(
    run: Path, store: LabelStore, ledger: Ledger, items: Sequence[PoolItem], space: LabelSpace
) -> JSON:
    """Store the labels of `run` as answers of round 0, with their costs; what the stage 'answers'
    leaves. Safe to repeat. Raises DataError for a label file of another size than its image or
    with an id that this data set does not know."""
    shapes, allowed = {item.key: item.shape for item in items}, allowed_ids(space)
    theirs = LabelStore(run / "labels")
    with Ledger.open(run, readonly=True) as other:
        rows = other.answers()
    spent: dict[str, list[tuple[int, int | None, int]]] = {}
    for round_, key, clicks, regions in rows:
        spent.setdefault(key, []).append((round_, clicks, regions))
    with ledger.transaction():
        for key, costs in progress(spent.items(), "taking labels over", len(spent)):
            path = theirs.path(key)
            if not path.is_file():
                raise DataError(f"{path} is gone: {run} has lost its labels of {key!r}")
            labels, rounds = checked_ids(path, shapes[key], allowed), theirs.annotated(key)
            # What the ledger does not know of was being written when that run ended.
            known = np.array([round_ + 1 for round_, _, _ in costs], dtype=np.uint8)
            answered = np.isin(0 if rounds is None else rounds, known)
            counts = [clicks for _, clicks, _ in costs if clicks is not None]
            ledger.record_answer(
                0,
                key,
                pixels=store.write(ImageAnswer(key, labels, answered), 0),
                clicks=sum(counts) if len(counts) == len(costs) else None,
                complete=True,
                regions=sum(regions for _, _, regions in costs),
            )
    store.save_index()
    return {"outstanding": 0, "images": len(spent)}
