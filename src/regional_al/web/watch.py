"""How far a run has come, read from its ledger again only when that has changed."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import NamedTuple

from ..store.ledger import STOPPED, Ledger
from ..store.schema import REVISED
from ..store.work_dir import WorkDir

_SETTLED = 100_000_000
"""Nanoseconds after which a change shows in the time of a file, on every file system."""


class Position(NamedTuple):
    """How far a run has come.

    Args:
        round: That comes next or is under way.
        stage: Likewise.
        stopped: Why the run has ended; None: it has not.
        collected: Number of the last event of the log of answers that the run has taken over.
    """

    round: int
    stage: str
    stopped: str | None
    collected: int


class Watch:
    """The ledger of a run, watched.

    Args:
        files: Of the run.
    """

    def __init__(self, files: WorkDir) -> None:
        self.files = files
        self.position = self._read()
        self._seen: tuple[int, ...] = ()

    def look(self) -> bool:
        """Whether the run may have gone on since the last look; `position` is up to date.

        Raises:
            WorkDirError: The ledger cannot be read.
        """
        stamp = self._stamp(self.position.round)
        if stamp and stamp == self._seen:
            return False
        self.position = self._read()
        # A change right after this one may have the same time: look once more.
        fresh = not stamp or time.time_ns() - max(stamp) < _SETTLED
        self._seen = () if fresh else stamp
        return True

    def _stamp(self, round: int) -> tuple[int, ...]:
        """Changes with the ledger, and with the query of a round; () when there is no ledger."""
        found: list[int] = []
        with suppress(OSError):
            for path in (self.files.ledger, self.files.query(round) / "query.json"):
                status = path.stat()
                found += [status.st_mtime_ns, status.st_size, status.st_ino]
        return tuple(found)

    def _read(self) -> Position:
        with Ledger.open(self.files.root, readonly=True) as ledger:
            number, stage = ledger.position()
            reason = (ledger.noted(STOPPED) or {}).get("reason")
            event = (ledger.noted(REVISED) or {}).get("event", 0)
        return Position(number, stage, None if reason is None else str(reason), int(event))
