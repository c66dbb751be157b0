"""What a run reports of its trainings and rounds, in `work_dir/tracking.sqlite`.

A point is a set of scalars at a step of one axis: iterations of all trainings of the run, or
rounds. It is written here first and then sent to the experiment trackers, each of which has a note
of the last point that it has got. A training that is resumed reports some iterations again: they
are ignored, so every point has one value. The live report reads the file while the run goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import WorkDirError
from ..types import JSON
from .database import Database, dump, explained
from .images import creating
from .work_dir import WorkDir

FORMAT = 1
TRAIN, VAL, ROUND = "train", "val", "round"
"""Kinds of points: of a training, of a validation within one, of a finished round. Hooks of a
config may report others, of trainings."""

_TABLES = """
CREATE TABLE points (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, round INTEGER NOT NULL,
    step INTEGER NOT NULL, iteration INTEGER NOT NULL, length INTEGER, time REAL NOT NULL,
    scalars TEXT NOT NULL, UNIQUE (kind, step));
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_COLUMNS = "number, kind, round, step, iteration, length, time, scalars"


class Point(NamedTuple):
    """Scalars at one step.

    Args:
        kind: `TRAIN`, `VAL`, `ROUND` or another name; a step has one point of a kind.
        round: Of the run.
        step: Of a training: iterations of all trainings so far. Of a round: its number.
        iteration: Of this training.
        length: Iterations of this training; None: not known.
        time: When it was reported, in seconds since 1970.
        scalars: Name -> value.
        number: In the order of reports, from 1; 0: not yet reported.
    """

    kind: str
    round: int
    step: int
    iteration: int
    length: int | None
    time: float
    scalars: Mapping[str, float]
    number: int = 0


class PointLog(Database):
    """The open file; make one with `PointLog.open`. A context manager.

    Args:
        path: The SQLite file.
        connection: To that file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> point = Point(TRAIN, 0, 20, 20, 600, 0.0, {"loss": 1.5})
        >>> with TemporaryDirectory() as folder, PointLog.open(Path(folder)) as log:
        ...     log.add(point), log.add(point._replace(scalars={"loss": 1.4}))
        ...     [(found.number, dict(found.scalars)) for found in log.after(0)]
        (True, False)
        [(1, {'loss': 1.5})]
    """

    @classmethod
    def open(cls, work_dir: Path, *, readonly: bool = False) -> PointLog:
        """Open the file of a run, or, unless `readonly`, create it.

        Raises:
            WorkDirError: There is none, it cannot be created, or it is damaged.
        """
        path = WorkDir(work_dir).points
        if not path.exists():
            if readonly:
                raise WorkDirError(f"{work_dir} has no {path.name}: nothing was reported yet")
            with (
                creating(path) as temporary,
                explained(path),
                closing(sqlite3.connect(temporary)) as db,
                db,
            ):
                db.executescript(_TABLES)
                db.execute("INSERT INTO notes VALUES ('format', ?)", (dump({"format": FORMAT}),))
        # mode=rw also for readers: SQLite must be able to roll back what a killed writer left.
        uri = f"{path.resolve().as_uri()}?mode=rw"
        with explained(path):
            db = sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)
        log = cls(path, db)
        try:
            with explained(path):
                db.execute("PRAGMA query_only = ON" if readonly else "PRAGMA synchronous = NORMAL")
            found = (log.noted("format") or {}).get("format")
            if found != FORMAT:
                raise log._damaged(f"format {found!r}, this version reads {FORMAT}")
        except BaseException:
            log.close()
            raise
        return log

    def add(self, point: Point) -> bool:
        """Add a point. False when the step has one of its kind already, which stays."""
        self._execute(
            "INSERT OR IGNORE INTO points (kind, round, step, iteration, length, time, scalars)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*point[:6], dump(dict(point.scalars))),
        )
        return bool(self._execute("SELECT changes()")[0][0])

    def has(self, kind: str, step: int) -> bool:
        """Whether a step has a point."""
        return bool(self._execute("SELECT 1 FROM points WHERE kind = ? AND step = ?", (kind, step)))

    def after(self, number: int, most: int = 1000) -> list[Point]:
        """The next points after one, at most so many."""
        return self._points("number > ? ORDER BY number LIMIT ?", number, most)

    def last(self, kind: str, round: int | None = None) -> Point | None:
        """The point of a kind with the largest step, of one round or of all."""
        found = self._points(
            "kind = ?1 AND (?2 IS NULL OR round = ?2) ORDER BY step DESC LIMIT 1", kind, round
        )
        return found[0] if found else None

    def last_step(self) -> int:
        """The largest step of the trainings; 0 before the first."""
        rows = self._execute("SELECT MAX(step) FROM points WHERE kind != ?", (ROUND,))
        return int(rows[0][0] or 0)

    def of_round(self, kind: str, round: int, since: int = -1) -> list[Point]:
        """All points of a kind of a round after a step, by step."""
        return self._points("kind = ? AND round = ? AND step > ? ORDER BY step", kind, round, since)

    def note(self, name: str, value: JSON) -> None:
        """Remember an object under a name; it replaces an earlier one."""
        self._execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, dump(value)))

    def noted(self, name: str) -> JSON | None:
        """What `note` has remembered; None: nothing."""
        rows = self._execute("SELECT value FROM notes WHERE name = ?", (name,))
        return self._load(rows[0][0]) if rows else None

    def _points(self, where: str, *values: Any) -> list[Point]:
        rows = self._execute(f"SELECT {_COLUMNS} FROM points WHERE {where}", values)
        return [self._point(row) for row in rows]

    def _point(self, row: tuple[Any, ...]) -> Point:
        number, kind, round_, step, iteration, length, when, text = row
        scalars = self._load(text)
        numbers = (round_, step, iteration, number)
        whole = all(isinstance(value, int) for value in numbers)
        floats = all(isinstance(value, (int, float)) for value in (when, *scalars.values()))
        if not whole or not floats or not isinstance(length, (int, type(None))):
            raise self._damaged(f"point {number!r} has values of a wrong kind")
        return Point(str(kind), round_, step, iteration, length, float(when), scalars, number)

    def _damaged(self, why: object) -> WorkDirError:
        return WorkDirError(f"{self.path} is damaged: {why}; delete it, no label depends on it")
