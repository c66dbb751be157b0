"""What is known of each file of a label store without reading it: a table in a SQLite file.

In a run it is a table of the ledger, written in the same transaction as the answers, and a row is
two things at once. `digest` is a *record* of the pixels that the run itself wrote, by which an edit
by hand is noticed; the other columns are a *cache*: a file with the size, time and inode of the
row, or with its bytes, has these pixels, and so these counts. A file that differs from its row has
been changed by somebody else, or was being written when a process was killed.

A store without a ledger keeps the same table in a file of its own, a cache alone.

To keep more: another file per image is a further kind, with a folder in `listing.FOLDERS` and rows
of its own. A further column must allow NULL; older ledgers get it in `schema.upgrade`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from ..types import I64, JSON, U8
from .listing import Stamp, reading

T = TypeVar("T")

TABLE = """
CREATE TABLE IF NOT EXISTS labels (kind TEXT, key TEXT, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, inode INTEGER NOT NULL, file BLOB NOT NULL, digest BLOB NOT NULL,
    counts BLOB NOT NULL, round INTEGER NOT NULL, before BLOB, PRIMARY KEY (kind, key))
    WITHOUT ROWID;
"""
_COLUMNS = "key, size, mtime, inode, file, digest, counts, round, before"

Name = tuple[str, str]
"""(kind, key) of a file."""


class Entry(NamedTuple):
    """One row.

    Args:
        size: Of the file in bytes.
        mtime: Of its last modification, in nanoseconds.
        inode: Of the file.
        file: Hash of its bytes.
        digest: Hash of its pixels.
        counts: Pixels of each value, see `unpack`.
        round: In which the pixels were last written.
        before: `digest` as it was before that round; None: there was no file.
    """

    size: int
    mtime: int
    inode: int
    file: bytes
    digest: bytes
    counts: bytes
    round: int = 0
    before: bytes | None = None

    @property
    def stamp(self) -> Stamp:
        """Size, time and inode."""
        return self[:3]

    def summary(self) -> JSON:
        """The hash of the pixels, and how many have each value, as JSON."""
        pixels = {str(value): many for value, many in occurring(self.counts).items()}
        return {"digest": self.digest.hex(), "pixels": pixels}


def entry_of(pixels: U8, data: bytes, stamp: Stamp) -> Entry:
    """The row of a file, from its pixels and bytes."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    return Entry(*stamp, hash_bytes(data), hash_pixels(pixels), pack(counts))


def hash_bytes(data: bytes) -> bytes:
    """Hash of the bytes of a file."""
    return hashlib.blake2b(data, digest_size=16).digest()


def hash_pixels(pixels: U8) -> bytes:
    """Hash of uint8 [H, W], the same however a file is compressed."""
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def pack(counts: I64) -> bytes:
    """Counts [256] as bytes: the values that occur, then how often as little-endian uint32.

    Example:
        >>> counts = np.bincount([7, 255, 255], minlength=256)
        >>> pack(counts), bool((unpack(pack(counts)) == counts).all())
        (b'\\x07\\xff\\x01\\x00\\x00\\x00\\x02\\x00\\x00\\x00', True)
    """
    values = np.flatnonzero(counts)
    return values.astype(np.uint8).tobytes() + counts[values].astype("<u4").tobytes()


def unpack(packed: bytes) -> I64:
    """Inverse of `pack`: int64 [256]."""
    counts: I64 = np.zeros(256, dtype=np.int64)
    values = np.frombuffer(packed, np.uint8, len(packed) // 5)
    counts[values] = np.frombuffer(packed, "<u4", offset=values.size)
    return counts


def occurring(packed: bytes) -> dict[int, int]:
    """Value -> pixels, of the values that occur."""
    many = len(packed) // 5
    return dict(zip(packed, struct.unpack_from(f"<{many}I", packed, many), strict=False))


def stamp_of(path: Path) -> Stamp:
    """Size, time and inode of a file. Raises FileNotFoundError."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def read_rows(db: sqlite3.Connection, kind: str) -> dict[str, Entry]:
    """All rows of a kind, by key."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM labels WHERE kind = ? ORDER BY key", (kind,))
    entry = partial(tuple.__new__, Entry)
    return {row[0]: entry(row[1:]) for row in rows}


def read_counts(db: sqlite3.Connection, kind: str) -> dict[str, bytes]:
    """`counts` of all rows of a kind, by key: several times faster than whole rows."""
    rows = db.execute("SELECT key, counts FROM labels WHERE kind = ? ORDER BY key", (kind,))
    return dict(rows.fetchall())


def row_values(rows: Mapping[Name, Entry | None]) -> Iterator[tuple[object, ...]]:
    """Values for `INSERT`, in the order of the table, which is faster; a row that is None is not
    among them."""
    return (
        (*name, *entry)
        for name, entry in sorted(rows.items(), key=itemgetter(0))
        if entry is not None
    )


INSERT = f"INSERT OR REPLACE INTO labels (kind, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DELETE = "DELETE FROM labels WHERE kind = ? AND key = ?"


def removed(rows: Mapping[Name, Entry | None]) -> Iterable[Name]:
    """The rows that `DELETE` is for."""
    return [name for name, entry in rows.items() if entry is None]


def load(path: Path, kind: str) -> dict[str, Entry] | None:
    """The rows of a kind in a SQLite file; None when there is no file or it cannot be read."""
    return _read(path, lambda db: read_rows(db, kind))


def load_counts(path: Path, kind: str) -> dict[str, bytes] | None:
    """`read_counts` of a SQLite file; None when there is no file or it cannot be read."""
    return _read(path, lambda db: read_counts(db, kind))


def _read(path: Path, read: Callable[[sqlite3.Connection], T]) -> T | None:
    if not path.is_file():
        return None
    try:
        with reading(path) as db:
            return read(db)
    except (sqlite3.Error, TypeError, ValueError):
        return None


def save(path: Path, rows: Mapping[Name, Entry | None]) -> bool:
    """Write some rows (None: remove it) to a file of its own, made anew if it is damaged. Returns
    whether it could be written."""
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=60.0)) as db, db:
                db.execute(TABLE)
                db.executemany(DELETE, removed(rows))
                db.executemany(INSERT, row_values(rows))
            return True
        except sqlite3.OperationalError:
            return False  # a full disk, or a folder that must not be written
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # the latter of a damaged name
            path.unlink(missing_ok=True)
        except OSError:
            return False
    return False
