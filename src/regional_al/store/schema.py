"""Tables of the ledger, and what is missing from those that earlier versions have written."""

from __future__ import annotations

import json
import sqlite3

from . import label_index

FORMAT = "4"
"""Changes with the tables. 1: regional_al 0.1.0; 2: the same tables; 3: with changes and files; 4:
with an index of the label files, see `label_index`."""
RESUMABLE = ("3", FORMAT)
READABLE = ("1", "2", *RESUMABLE)
"""Of the config of a run, formats 1 and 2 have a hash alone, so it cannot be compared."""

STAGES = ("query", "answers", "fit", "evaluate")
WRITING = "writing"
"""Note of the round whose label files a process is writing, or was when it was killed, before it
records their answers."""

TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stages (round INTEGER, stage TEXT, seconds REAL NOT NULL,
    finished TEXT NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (round, stage));
CREATE TABLE IF NOT EXISTS answers (round INTEGER, key TEXT, pixels INTEGER NOT NULL,
    clicks INTEGER, complete INTEGER NOT NULL, regions INTEGER NOT NULL, PRIMARY KEY (round, key));
CREATE TABLE IF NOT EXISTS changes (round INTEGER, stage TEXT, time TEXT NOT NULL,
    name TEXT NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (name TEXT, kind TEXT, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (name, kind));
{label_index.TABLE}"""


def statements(temporary: bool = False) -> list[str]:
    """The tables as single statements; `temporary`: of this connection, which are not written."""
    create = "CREATE TEMPORARY TABLE" if temporary else "CREATE TABLE"
    return [
        part.strip().replace("CREATE TABLE", create) for part in TABLES.split(";") if part.strip()
    ]


def upgrade(db: sqlite3.Connection, readonly: bool) -> None:
    """Give an open ledger of an earlier format the tables that it lacks, empty: in its file, or,
    for a reader, in memory. The next start of the run fills the index from the label files.

    Args:
        db: Of the ledger, in autocommit mode.
        readonly: Leave the file as it is.
    """
    if not readonly:
        db.execute("BEGIN IMMEDIATE")
        for statement in statements():
            db.execute(statement)
        ((stages,),) = db.execute("SELECT COUNT(*) FROM stages")
        note = json.dumps({"round": stages // len(STAGES)})  # earlier versions did not say so
        db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (WRITING, note))
        db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (FORMAT,))
        db.execute("COMMIT")
        return
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for statement in statements(temporary=True):
        if statement.split("EXISTS ")[1].split()[0] not in there:
            db.execute(statement)
