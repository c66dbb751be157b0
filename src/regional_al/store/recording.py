"""Labels on disk, then their answers, corrections and index rows in the ledger, in one transaction.

The ledger notes first that label files of a round are being written. A process that is killed
before the transaction leaves the note, by which a check tells its files from files edited by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..types import U8, Bool, Revision, Source
from .label_index import hash_pixels
from .labels import LabelStore, merge_answer
from .ledger import Ledger
from .people import Correction
from .schema import REVISED, REVISING, WRITING


class AnswerRow(NamedTuple):
    """What one round has had answered in one image so far, see `Ledger.record_answer`."""

    key: str
    pixels: int
    clicks: int | None
    complete: bool
    regions: int
    seconds: float | None = None


@contextmanager
def recording(store: LabelStore, ledger: Ledger, round: int) -> Iterator[list[AnswerRow]]:
    """Inside, write answers of a round to the store and append a row for each; they are recorded
    on leaving, all or, after an exception, none.

    Args:
        store: Of the run.
        ledger: Of the run.
        round: That the answers belong to.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.types import ImageAnswer
        >>> labels = np.zeros((2, 2), np.uint8)
        >>> with TemporaryDirectory() as folder:
        ...     store = LabelStore(Path(folder) / "labels")
        ...     with Ledger.create(Path(folder), config="", pool="", acquisition={}) as ledger:
        ...         with recording(store, ledger, 0) as rows:
        ...             pixels = store.write(ImageAnswer("a", labels, labels == 0), 0)
        ...             rows.append(AnswerRow("a", pixels, clicks=1, complete=True, regions=1))
        ...         ledger.costs(0).pixels, list(ledger.labels("label"))
        (4, ['a'])
    """
    ledger.note(WRITING, {"round": round})
    rows: list[AnswerRow] = []
    yield rows
    with ledger.transaction():
        ledger.record_answers(round, rows)
        ledger.record_labels(store.unsaved())
        ledger.record_files(store.unsaved_sets())
        ledger.forget(WRITING)
    store.saved()


def apply_revisions(
    store: LabelStore,
    ledger: Ledger,
    round: int,
    revisions: Sequence[Revision],
    numbers: Mapping[Source, int],
    last: int,
) -> None:
    """Correct labels of earlier rounds, then record it in one transaction. Safe to repeat.

    The ledger notes first which pixels the files are to have, by which a check tells what a killed
    process has left from files edited by hand.

    Args:
        store: Of the run.
        ledger: Of the run.
        round: In which it happens, and to whose costs it belongs.
        revisions: What is corrected, oldest first.
        numbers: Of the sources of the answers.
        last: Number of the last event in the log that has been looked at.
    """
    if revisions:
        note = ledger.noted(REVISING) or {}  # of a process that was killed
        note = {"files": note.get("files", {}), "changed": note.get("changed", {})}
        labels: dict[str, U8] = {}
        for one in revisions:
            key = one.answer.key
            before, after = store.corrected(one.answer, one.round)
            if key in labels:  # answers of another round, which this one leaves as they are
                sidecar = store.annotated(key)
                before = labels[key]
                after = merge_answer(before, sidecar, one.answer, one.round)[0]
            labels[key] = after
            note["files"].setdefault(key, []).append(hash_pixels(after).hex())
            note["changed"].setdefault(_name(one), _changed(before, after, one.answer.answered))
        ledger.note(REVISING, note)
        for one in revisions:
            store.correct(one.answer, one.round, numbers)
    with ledger.transaction():
        ledger.record_corrections(
            Correction(
                event=one.event,
                asked_in=one.round,
                key=one.answer.key,
                round=round,
                people=one.people,
                time=one.time,
                clicks=one.answer.clicks,
                seconds=one.answer.seconds,
                changed=tuple(tuple(c) for c in note["changed"][_name(one)]),
            )
            for one in revisions
        )
        ledger.record_labels(store.unsaved())
        ledger.record_files(store.unsaved_sets())
        ledger.note(REVISED, {"event": last})
        ledger.forget(REVISING)
    store.saved()


def _name(revision: Revision) -> str:
    return f"{revision.event} {revision.round} {revision.answer.key}"


def _changed(before: U8, after: U8, where: Bool) -> list[list[int]]:
    """[id before, id after, pixels] of each pair of ids that differ."""
    changed = where & (before != after)
    pairs = before[changed].astype(np.int64) * 256 + after[changed]
    found, counts = np.unique(pairs, return_counts=True)
    return [
        [int(pair) >> 8, int(pair) & 255, int(count)]
        for pair, count in zip(found, counts, strict=True)
    ]
