"""Tables of the ledger, and what is missing from those that earlier versions have written."""

from __future__ import annotations

import json
import sqlite3

from . import label_index

FORMAT = "5"
"""Changes with the tables. 1: regional_al 0.1.0; 2: the same tables; 3: with changes and files; 4:
with an index of the label files, see `label_index`; 5: with the time of answers, corrections, and
who has answered."""
RESUMABLE = ("3", "4", FORMAT)
WITHOUT_INDEX = ("1", "2", "3")
"""Formats without an index of the label files."""
READABLE = ("1", "2", *RESUMABLE)
"""Of the config of a run, formats 1 and 2 have a hash alone, so it cannot be compared."""

STAGES = ("query", "answers", "fit", "evaluate")
WRITING = "writing"
"""Note of the round whose label files a process is writing, or was when it was killed, before it
records their answers."""

REVISING = "revising"
"""Note of the label files that a process is correcting, or was when it was killed: key of the image
-> hashes of the pixels, as hexadecimal digits, of which the file may have any."""
REVISED = "revised"
"""Note of the last correction that has been applied: its number in the log of answers."""

TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stages (round INTEGER, stage TEXT, seconds REAL NOT NULL,
    finished TEXT NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (round, stage));
CREATE TABLE IF NOT EXISTS answers (round INTEGER, key TEXT, pixels INTEGER NOT NULL,
    clicks INTEGER, complete INTEGER NOT NULL, regions INTEGER NOT NULL, seconds REAL,
    PRIMARY KEY (round, key));
CREATE TABLE IF NOT EXISTS corrections (event INTEGER, asked_in INTEGER, key TEXT,
    round INTEGER NOT NULL, people TEXT NOT NULL, time TEXT NOT NULL, clicks INTEGER, seconds REAL,
    changed TEXT NOT NULL, PRIMARY KEY (event, asked_in, key));
CREATE TABLE IF NOT EXISTS sources (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL,
    UNIQUE (kind, name));
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
    ((version,),) = db.execute("SELECT value FROM meta WHERE key = 'format'")
    columns = {row[1] for row in db.execute("PRAGMA table_info(answers)")}
    if not readonly:
        db.execute("BEGIN IMMEDIATE")
        for statement in statements():
            db.execute(statement)
        if "seconds" not in columns:
            db.execute("ALTER TABLE answers ADD COLUMN seconds REAL")
        if version in WITHOUT_INDEX:
            ((stages,),) = db.execute("SELECT COUNT(*) FROM stages")
            note = json.dumps({"round": stages // len(STAGES)})  # they did not say so
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (WRITING, note))
        db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (FORMAT,))
        db.execute("COMMIT")
        return
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for statement in statements(temporary=True):
        if statement.split("EXISTS ")[1].split()[0] not in there:
            db.execute(statement)
    if columns and "seconds" not in columns:
        db.execute("CREATE TEMPORARY TABLE answers AS SELECT *, NULL AS seconds FROM main.answers")
