"""Closing a round early: it goes on with the answers that are there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..checks import choice
from ..config.budget import Budget
from ..errors import DataError, WorkDirError
from ..store.images import replacing
from ..store.labels import LabelStore
from ..store.ledger import Ledger
from ..store.lock import FolderLock
from ..store.query import Query
from ..store.reading import read_json
from ..store.work_dir import WorkDir

UNSPENT = ("keep", "drop")
"""What happens to the budget of a round that was not spent."""


def close_round(work_dir: Path | str, unspent: str = "keep") -> str:
    """Let the round that waits for answers go on with those that are there, once it is resumed.

    What has not been answered returns to the pool, and may be asked again. Only a budget over the
    pool can be kept: the next round then has what this one has left, in the same unit.

    Args:
        work_dir: Of a run that waits, and that no process is working in.
        unspent: 'keep' or 'drop' the budget that was not spent.

    Returns:
        What will happen, in one line.

    Raises:
        WorkDirError: There is no run, it does not wait, or a process is working in it.
        ConfigError: Another `unspent`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     try:
        ...         close_round(folder)
        ...     except WorkDirError as error:
        ...         print(str(error)[-38:])
        n (no ledger.sqlite): check --work-dir
    """
    choice("unspent", unspent, UNSPENT)
    files = WorkDir(Path(work_dir))
    if not files.root.is_dir():
        raise WorkDirError(f"{work_dir} does not exist: give the --work-dir of a training")
    with Ledger.open(files.root, readonly=True) as ledger:
        _waiting_round(ledger, work_dir)
    with FolderLock(files.root, hint="wait until it waits for answers again").holding():
        with Ledger.open(files.root, readonly=True) as ledger:
            round_ = _waiting_round(ledger, work_dir)
            scope = (ledger.acquisition().get("budget") or {}).get("scope")
        with replacing(files.closed(round_)) as temporary:
            temporary.write_text(json.dumps({"unspent": unspent}) + "\n", encoding="utf-8")
    kept = "is dropped"
    if unspent == "keep":
        kept = "is added to the next round"
        if scope == "image":
            kept = "is dropped, since each image has a budget of its own"
    return (
        f"round {round_} of {work_dir} goes on with the answers that are there when the run is "
        f"resumed; the budget that was not spent {kept}"
    )


def _waiting_round(ledger: Ledger, work_dir: Path | str) -> int:
    round_, stage = ledger.position()
    if stage != "answers" or not (ledger.done(round_, "query") or {}).get("picks"):
        raise WorkDirError(
            f"{work_dir} is not waiting for answers (next: {stage} of round {round_}): only a "
            "round that asks can be closed"
        )
    return round_


def closed(files: WorkDir, round: int) -> str | None:
    """How a round was closed: 'keep' or 'drop'; None: it was not. Raises DataError for a damaged
    file."""
    path = files.closed(round)
    if not path.exists():
        return None
    data = read_json(path)
    unspent = data.get("unspent") if isinstance(data, dict) else None
    if unspent not in UNSPENT:
        raise DataError(f"{path} is damaged: close the round again (`regional-al close-round`)")
    return str(unspent)


def unanswered(query: Query, store: LabelStore, unit: str) -> int:
    """What a query asked and nobody answered, in a unit of a budget.

    Args:
        query: Of the round.
        store: With its answers.
        unit: 'image' (without any answer), 'region' or 'click' (items without any answer) or
            'pixel'.

    Returns:
        How many.
    """
    left = 0
    for key in query.image_keys():
        asked = query.asked(key)
        sidecar = store.annotated(key)
        said = np.zeros(asked.shape, np.bool_) if sidecar is None else sidecar > query.info.round
        said &= asked > 0
        if unit == "pixel":
            left += int(np.count_nonzero((asked > 0) & ~said))
        elif unit == "image":
            left += not said.any()
        else:
            left += np.setdiff1d(asked[asked > 0], asked[said]).size
    return left


def carried(query: Query, store: LabelStore, asked: Budget | None, following: Budget) -> int:
    """The budget that a closed round hands on to the next one.

    Args:
        query: Of the round.
        store: With its answers.
        asked: Budget of the round.
        following: Budget of each later round.

    Returns:
        In the unit of both; 0 where the units differ, or a budget is not over the pool.
    """
    pool = asked is not None and asked.scope == following.scope == "pool"
    if asked is None or not pool or asked.unit != following.unit:
        return 0
    return unanswered(query, store, following.unit)
