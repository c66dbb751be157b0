"""A SQLite file with one line for every error: the base of the ledger and of the log of answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..errors import WorkDirError
from ..types import JSON

HINTS = {
    "readonly": "make the file and its folder writable",
    "full": "free some space, then resume",
    "disk I/O": "free some space or check the disk, then resume",
    "locked": "another process is using it: wait until it has ended",
    "unable to open": "make the file and its folder readable and writable",
    "malformed": "restore it from a backup",
    "not a database": "restore it from a backup",
}
"""What helps against an error of SQLite, by a word of its message."""

_Self = TypeVar("_Self", bound="Database")


class Database:
    """An open SQLite file in autocommit mode. A context manager.

    Args:
        path: The file.
        connection: To that file.

    Example:
        >>> import sqlite3
        >>> from pathlib import Path
        >>> with Database(Path("a.sqlite"), sqlite3.connect(":memory:")) as database:
        ...     database.path.name
        'a.sqlite'
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a statement. Raises WorkDirError when the file cannot be read or written."""
        with explained(self.path):
            return self._db.execute(sql, values).fetchall()

    def _execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """A statement for each row; errors as in `_execute`."""
        with explained(self.path):
            self._db.executemany(sql, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen together or not at all; may be nested (the outermost counts)."""
        if self._db.in_transaction:
            yield
            return
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite may have rolled back already, e.g. on a full disk
                self._execute("ROLLBACK")
            raise

    def _load(self, text: str) -> JSON:
        value: JSON = self._value(text)
        if not isinstance(value, dict):
            raise self._damaged(f"{text[:40]!r} is not an object")
        return value

    def _value(self, text: str) -> Any:
        try:
            return json.loads(text)
        except RecursionError:
            raise self._damaged("a value is nested too deeply") from None
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from None

    def _damaged(self, why: object) -> WorkDirError:
        return WorkDirError(f"{self.path} is damaged: {why}; {HINTS['malformed']}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of SQLite about a file into one line that names it and what helps."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a bug
    except (sqlite3.Error, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        hint = next((hint for word, hint in HINTS.items() if word in text), "")
        raise WorkDirError(f"{path}: {text}{hint and '; '}{hint}") from None


def dump(value: Any) -> str:
    """A value as JSON text, the same text for the same value."""
    return json.dumps(value, sort_keys=True)
