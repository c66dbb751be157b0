"""The log of what people have answered on the annotation page: `work_dir/answers.sqlite`.

Append only: an answer, its correction and its undoing are events one after another. What stands
follows from them (`annotators.replay`). An event is on disk before the page hears of it. One
process writes (the server of the page); others may read at the same time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, WorkDirError
from .database import Database, dump, explained
from .images import creating

FORMAT = 1
KINDS = ("class", "accept", "classes", "paint", "void", "unsure", "clear", "skip", "unskip")
MAX_PERSON = 64
_TABLES = """
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, round INTEGER NOT NULL,
    query TEXT NOT NULL, key TEXT NOT NULL, person TEXT NOT NULL, kind TEXT NOT NULL,
    items TEXT NOT NULL, classes TEXT NOT NULL, paint BLOB, ms INTEGER NOT NULL,
    keys INTEGER NOT NULL, clicks INTEGER NOT NULL, review INTEGER NOT NULL, time TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE, undone INTEGER);
CREATE INDEX by_image ON events (round, key);
CREATE TABLE undoings (id INTEGER PRIMARY KEY AUTOINCREMENT, event INTEGER NOT NULL,
    time TEXT NOT NULL);
"""
_COLUMNS = (
    "id, round, query, key, person, kind, items, classes, paint, ms, keys, clicks, review, time, "
    "token"
)


class Event(NamedTuple):
    """Something that a person has done about one image.

    Args:
        id: Ascending, from 1; 0: not in a log yet.
        round: That asked.
        query: Hash of its query, see `store.query.query_hash`.
        key: Of the image.
        person: Who, 1..64 printable characters.
        kind: 'class', 'accept' (the prediction), 'classes' (all that occur in a region), 'paint',
            'void', 'unsure', 'clear' (open again), 'skip' or 'unskip' (the image).
        items: Numbers of the items that it is about; () for 'paint', 'skip' and 'unskip'.
        classes: Class indices: one for 'class', one or more for 'classes'.
        paint: PNG, uint8 [H, W], class indices, 254 = void, 255 = not answered; for 'paint', and
            for 'accept' where classes differ within an item.
        ms: Time that the person has spent on it, in milliseconds.
        keys: Keys pressed.
        clicks: Clicks and strokes.
        review: It is meant to change an answer, also somebody else's.
        time: ISO 8601, UTC; '': now.
        token: Given by the page: the same token again is the same event.
    """

    id: int
    round: int
    query: str
    key: str
    person: str
    kind: str
    items: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()
    paint: bytes | None = None
    ms: int = 0
    keys: int = 0
    clicks: int = 0
    review: bool = False
    time: str = ""
    token: str = ""


class AnswerLog(Database):
    """An open log; make one with `AnswerLog.open`. A context manager.

    Args:
        path: The SQLite file.
        connection: To that file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, AnswerLog.open(Path(folder) / "a") as log:
        ...     one = log.append(Event(0, 1, "q", "town/01", "ada", "void", (3,), token="t1"))
        ...     again = log.append(Event(0, 1, "q", "town/01", "ada", "void", (3,), token="t1"))
        ...     one.id, again == one, [event.items for event in log.events(round=1)]
        (1, True, [(3,)])
    """

    @classmethod
    def open(cls, path: Path, readonly: bool = False) -> AnswerLog:
        """Open a log; create it unless `readonly`.

        Raises:
            WorkDirError: It is missing, damaged, or of a later version.
        """
        path = Path(path)
        if not path.exists():
            if readonly:
                raise WorkDirError(f"{path} does not exist: nobody has answered on the page yet")
            with (
                creating(path) as temporary,
                explained(path),
                closing(sqlite3.connect(temporary)) as db,
                db,
            ):
                db.executescript(f"{_TABLES} PRAGMA user_version = {FORMAT};")
        uri = f"{path.resolve().as_uri()}?mode=rw"
        log = None
        try:
            db = sqlite3.connect(
                uri, uri=True, timeout=60.0, isolation_level=None, check_same_thread=False
            )
            log = cls(path, db)
            ((version,),) = log._execute("PRAGMA user_version")
            if version != FORMAT:
                raise WorkDirError(
                    f"{path} was written by another version of regional_al (format {version}, this "
                    f"version reads {FORMAT}): use that version"
                )
            log._execute(f"SELECT {_COLUMNS}, undone FROM events LIMIT 1")
            log._execute("PRAGMA query_only = ON" if readonly else "PRAGMA synchronous = EXTRA")
        except (sqlite3.Error, WorkDirError) as error:
            if log is not None:
                log.close()
            if isinstance(error, WorkDirError):
                raise
            raise WorkDirError(f"{path} is not a readable log of answers: {error}") from None
        return log

    def append(self, event: Event) -> Event:
        """Add an event; `id` is given by the log, and `time` if it is empty.

        Returns:
            What is in the log; for a token that is there already, the event that has it.

        Raises:
            DataError: A kind or person that cannot be.
        """
        if event.kind not in KINDS:
            raise DataError(f"{event.kind!r} is no kind of event; kinds: {', '.join(KINDS)}")
        check_person(event.person)
        now = event.time or datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with self.transaction():
            known = self.find(event.token) if event.token else None
            if known is not None:
                return known
            values = (
                *event[1:6],
                dump(list(event.items)),
                dump(list(event.classes)),
                event.paint,
                *event[9:12],
                int(event.review),
                now,
                event.token or f"{now} {self.last()}",
            )
            places = ", ".join("?" * len(values))
            names = _COLUMNS.removeprefix("id, ")
            self._execute(f"INSERT INTO events ({names}) VALUES ({places})", values)
            ((number,),) = self._execute("SELECT MAX(id) FROM events")
        return event._replace(id=int(number), time=now, token=str(values[-1]))

    def undo(self, person: str, round: int, query: str, after: int = 0) -> Event | None:
        """Undo the latest event of a person in a round.

        Args:
            person: Whose.
            round: That asked.
            query: Hash of its query.
            after: Leave events up to this one: they have been collected.

        Returns:
            The event, which no longer counts; None: there is none.
        """
        with self.transaction():
            rows = self._execute(
                f"SELECT {_COLUMNS} FROM events WHERE person = ? AND round = ? AND query = ? AND "
                "undone IS NULL AND id > ? ORDER BY id DESC LIMIT 1",
                (person, round, query, after),
            )
            if not rows:
                return None
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            self._execute("INSERT INTO undoings (event, time) VALUES (?, ?)", (rows[0][0], now))
            self._execute(
                "UPDATE events SET undone = (SELECT MAX(id) FROM undoings) WHERE id = ?",
                (rows[0][0],),
            )
        return self._event(rows[0])

    def events(
        self, round: int | None = None, key: str | None = None, after: int = 0
    ) -> list[Event]:
        """Events that have not been undone, oldest first.

        Args:
            round: That asked; None: any.
            key: Of the image; None: any.
            after: Only those with a higher number.
        """
        where, values = "undone IS NULL AND id > ?", [after]
        for name, value in (("round", round), ("key", key)):
            if value is not None:
                where += f" AND {name} = ?"
                values.append(value)  # type: ignore[arg-type]
        rows = self._execute(f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY id", values)
        return [self._event(row) for row in rows]

    def recent(
        self,
        limit: int,
        round: int | None = None,
        person: str | None = None,
        kinds: Sequence[str] = KINDS,
        classes: tuple[int, ...] | None = None,
    ) -> list[Event]:
        """The last events that have not been undone, newest first, without what was painted.

        Args:
            limit: How many at most.
            round: That asked; None: any.
            person: Whose; None: anybody's.
            kinds: That count.
            classes: Exactly these; None: any.
        """
        where = f"undone IS NULL AND kind IN ({', '.join('?' * len(kinds))})"
        values: list[Any] = [*kinds]
        given = None if classes is None else dump(list(classes))
        for name, value in (("round", round), ("person", person), ("classes", given)):
            if value is not None:
                where += f" AND {name} = ?"
                values.append(value)
        columns = _COLUMNS.replace("paint", "NULL")
        rows = self._execute(
            f"SELECT {columns} FROM events WHERE {where} ORDER BY id DESC LIMIT ?",
            [*values, limit],
        )
        return [self._event(row) for row in rows]

    def keys(self, round: int) -> set[str]:
        """Images with an event that has not been undone."""
        rows = self._execute(
            "SELECT DISTINCT key FROM events WHERE round = ? AND undone IS NULL", (round,)
        )
        return {str(key) for (key,) in rows}

    def find(self, token: str) -> Event | None:
        """The event that has a token, also one that was undone; None: there is none."""
        rows = self._execute(f"SELECT {_COLUMNS} FROM events WHERE token = ?", (token,))
        return self._event(rows[0]) if rows else None

    def last(self) -> int:
        """Number of the last event; 0: there is none."""
        ((number,),) = self._execute("SELECT COALESCE(MAX(id), 0) FROM events")
        return int(number)

    def changes(self) -> tuple[int, int]:
        """Numbers of the last event and of the last undoing: they grow with every change."""
        ((undone,),) = self._execute("SELECT COALESCE(MAX(id), 0) FROM undoings")
        return self.last(), int(undone)

    def _event(self, row: Sequence[Any]) -> Event:
        try:
            items, classes = (tuple(int(i) for i in self._value(text)) for text in row[6:8])
            numbers = [int(value) for value in (row[0], row[1], *row[9:12])]
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from None
        id_, round_, ms, keys, clicks = numbers
        query, key, person, kind = (str(value) for value in row[2:6])
        paint = row[8]
        if paint is not None and not isinstance(paint, bytes):
            raise self._damaged(f"event {id_} has no map where one belongs")
        review, time, token = bool(row[12]), str(row[13]), str(row[14])
        return Event(
            id_, round_, query, key, person, kind, items, classes, paint, ms, keys, clicks,
            review, time, token,
        )  # fmt: skip


def check_person(person: str) -> str:
    """The name of a person, as it is. Raises DataError for one that cannot be.

    The joiners that names in Persian or Hindi are written with count as printable.
    """
    shown = person.replace("\u200c", "").replace("\u200d", "")
    if not 0 < len(person) <= MAX_PERSON or not shown.isprintable() or shown != shown.strip():
        raise DataError(f"{person[:MAX_PERSON]!r} cannot be a name: 1 to {MAX_PERSON} characters")
    return person
