"""Who has answered, and who has corrected what: two tables of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..errors import WorkDirError
from ..types import Source
from .database import Database, dump

MAX_SOURCES = 254
"""Sources of answers that a run may have: label files have one byte for them."""


class Correction(NamedTuple):
    """A correction of one image that a run has applied.

    Args:
        event: Its number in the log of answers.
        asked_in: Round whose answer it changes.
        key: Of the image.
        round: In which it was applied, and to whose costs it belongs.
        people: Who has made it.
        time: When, ISO 8601.
        clicks: None when not known.
        seconds: Likewise.
        changed: (id before, id after, pixels) of each pair of ids; 255: no class.
    """

    event: int
    asked_in: int
    key: str
    round: int
    people: tuple[str, ...]
    time: str
    clicks: int | None
    seconds: float | None
    changed: tuple[tuple[int, int, int], ...]


class People(Database):
    """The part of the ledger about people."""

    def record_corrections(self, rows: Iterable[Correction]) -> None:
        """Record corrections that have been applied; once more for the same event replaces it."""
        with self.transaction():
            self._execute_many(
                "INSERT OR REPLACE INTO corrections VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*row[:4], dump(row.people), *row[5:8], dump(row.changed)) for row in rows],
            )

    def corrections(self) -> list[Correction]:
        """What `record_corrections` has recorded, by event."""
        rows = self._execute("SELECT * FROM corrections ORDER BY event, asked_in, key")
        return [
            Correction(
                *(event, asked_in, key, round),
                people=tuple(self._value(people)),
                time=time,
                clicks=clicks,
                seconds=seconds,
                changed=tuple(tuple(one) for one in self._value(changed)),
            )
            for event, asked_in, key, round, people, time, clicks, seconds, changed in rows
        ]

    def source_id(self, source: Source) -> int:
        """Number of a source of answers, 1..254: the same for the same source in a run.

        Raises:
            WorkDirError: The run has 254 others.
        """
        find = "SELECT id FROM sources WHERE kind = ? AND name = ?"
        with self.transaction():
            found = self._execute(find, source)
            if not found:
                self._execute("INSERT INTO sources (kind, name) VALUES (?, ?)", source)
                found = self._execute(find, source)
            number = int(found[0][0])
            if number > MAX_SOURCES:
                raise WorkDirError(
                    f"{self.path} knows {MAX_SOURCES} annotators, and {source.name!r} is one more:"
                    " label files have one byte for who has answered"
                )
        return number

    def sources(self) -> dict[int, Source]:
        """Who has answered, by the number in the label store, see `label_maps`."""
        rows = self._execute("SELECT id, kind, name FROM sources ORDER BY id")
        return {number: Source(kind, name) for number, kind, name in rows}
