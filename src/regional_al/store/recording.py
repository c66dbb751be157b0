"""Labels on disk, then their answers and index rows in the ledger, in one transaction.

The ledger notes first that label files of a round are being written. A process that is killed
before the transaction leaves the note, by which a check tells its files from files edited by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .labels import LabelStore
from .ledger import Ledger
from .schema import WRITING


class AnswerRow(NamedTuple):
    """What one round has had answered in one image so far, see `Ledger.record_answer`."""

    key: str
    pixels: int
    clicks: int | None
    complete: bool
    regions: int


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
        ledger.forget(WRITING)
    store.saved()
