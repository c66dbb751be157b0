"""The ledger: what was asked, answered, spent and reached, in `work_dir/ledger.sqlite`.

A round is the stages query -> answers -> fit -> evaluate, each done or not done, never half: a
stage is written in one transaction when all its files are there. A run resumes at `position()`.
Rank 0 writes; anybody may read meanwhile (`open(..., readonly=True)`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import WorkDirError
from ..types import JSON, Costs

STAGES = ("query", "answers", "fit", "evaluate")
FILE = "ledger.sqlite"
FORMAT = 1
FREE_KEYS = frozenset({"rounds", "stop", "cache_dir"})
"""Keys of `acquisition` that a resumed run may change: they do not alter the rounds done so far."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE stages (round INTEGER, stage TEXT, seconds REAL NOT NULL, finished TEXT NOT NULL,
    payload TEXT NOT NULL, PRIMARY KEY (round, stage));
CREATE TABLE answers (round INTEGER, key TEXT, pixels INTEGER NOT NULL, clicks INTEGER,
    complete INTEGER NOT NULL, regions INTEGER NOT NULL, PRIMARY KEY (round, key));
"""


class Ledger:
    """An open ledger; make one with `create` or `open`. Usable as a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @staticmethod
    def exists(work_dir: Path) -> bool:
        """True when the folder holds a run."""
        return (work_dir / FILE).exists()

    @classmethod
    def create(cls, work_dir: Path, *, config: str, pool: str, acquisition: JSON) -> Ledger:
        """Start the ledger of a new run.

        config, pool: fingerprints (any strings); acquisition: the expanded key of the config, as
        JSON-able data. Raises WorkDirError when the folder already holds a run.
        """
        path = work_dir / FILE
        if path.exists():
            raise WorkDirError(f"{work_dir} holds a run already; add --resume or change work_dir")
        work_dir.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{FILE}.new")
        temporary.unlink(missing_ok=True)
        meta = {
            "format": str(FORMAT),
            "config": config,
            "pool": pool,
            "acquisition": _dump(acquisition),
        }
        db = sqlite3.connect(temporary)
        with db:
            db.executescript(_TABLES)
            db.executemany("INSERT INTO meta VALUES (?, ?)", sorted(meta.items()))
        db.close()
        temporary.replace(path)
        return cls.open(work_dir)

    @classmethod
    def open(cls, work_dir: Path, *, readonly: bool = False) -> Ledger:
        """Open the ledger of a run. Raises WorkDirError when there is none or it is damaged."""
        path = work_dir / FILE
        if not path.exists():
            raise WorkDirError(f"{work_dir} holds no run (no {FILE}); check --work-dir")
        # mode=rw also for readers: SQLite must be able to roll back what a killed writer left.
        uri = f"{path.resolve().as_uri()}?mode=rw"
        try:
            db = sqlite3.connect(uri, uri=True, timeout=60.0, isolation_level=None)
            if readonly:
                db.execute("PRAGMA query_only = ON")
            ledger = cls(path, db)
            version = ledger.meta()["format"]
        except (sqlite3.Error, KeyError) as error:
            raise WorkDirError(f"{path} is not a readable ledger: {error}") from None
        if version != str(FORMAT):
            raise WorkDirError(f"{path} has format {version}, this version reads {FORMAT}")
        return ledger

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen together or not at all; may be nested (the outermost counts)."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def meta(self) -> dict[str, str]:
        """format, config, pool, acquisition (JSON text), as stored."""
        return dict(self._db.execute("SELECT key, value FROM meta ORDER BY key").fetchall())

    def check_fingerprint(self, *, config: str, pool: str, acquisition: JSON) -> None:
        """Raise WorkDirError, naming what differs, unless the run was started with the same.

        `rounds`, `stop` and `cache_dir` of `acquisition` may differ (a run may be prolonged).
        """
        meta = self.meta()
        work_dir = self.path.parent
        hint = "use another work_dir, or the config that the run was started with"
        then, now = json.loads(meta["acquisition"]), json.loads(_dump(acquisition))
        for name, old, new in differences(then, now, "acquisition"):
            if name.split(".")[1] not in FREE_KEYS:
                raise WorkDirError(f"{work_dir}: {name} was {old}, now it is {new}; {hint}")
        if meta["pool"] != pool:
            raise WorkDirError(f"{work_dir} was started with other pool images; {hint}")
        if meta["config"] != config:
            raise WorkDirError(f"{work_dir} was started with another config; {hint}")

    def mark(self, round: int, stage: str, payload: JSON, seconds: float) -> None:
        """Record that a stage is done. Stages must come in order: RuntimeError otherwise."""
        with self.transaction():
            expected = self.position()
            if (round, stage) != expected:
                raise RuntimeError(f"stage {stage!r} of round {round} marked, expected {expected}")
            finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._db.execute(
                "INSERT INTO stages VALUES (?, ?, ?, ?, ?)",
                (round, stage, float(seconds), finished, _dump(payload)),
            )

    def done(self, round: int, stage: str) -> JSON | None:
        """The payload of a stage that is done, else None."""
        row = self._db.execute(
            "SELECT payload FROM stages WHERE round = ? AND stage = ?", (round, stage)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def position(self) -> tuple[int, str]:
        """(round, stage) that comes next; (0, 'query') at the start."""
        count = self._db.execute("SELECT COUNT(*) FROM stages").fetchone()[0]
        return count // len(STAGES), STAGES[count % len(STAGES)]

    def record_answer(
        self, round: int, key: str, pixels: int, clicks: int | None, complete: bool, regions: int
    ) -> None:
        """What round `round` has had answered in one image so far (totals: it replaces the last
        record of that image and round). regions: items with an answer; clicks None: not known.
        Many in one `transaction()` are much faster than one by one."""
        with self.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO answers (round, key, pixels, clicks, complete, regions)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (round, key, int(pixels), clicks, int(complete), int(regions)),
            )

    def answers(self) -> list[tuple[int, str, int | None, int]]:
        """(round, key of the image, clicks, regions) of all answers so far, by round and key."""
        return self._db.execute(
            "SELECT round, key, clicks, regions FROM answers WHERE pixels > 0 ORDER BY round, key"
        ).fetchall()

    def outstanding(self, round: int, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that the round has no complete answer for, in the given order."""
        rows = self._db.execute("SELECT key FROM answers WHERE round = ? AND complete", (round,))
        complete = {key for (key,) in rows}
        return [key for key in keys if key not in complete]

    def costs(self, round: int) -> Costs:
        """What one round has cost so far."""
        return self._costs("round = ?", round)

    def total_costs(self, up_to: int) -> Costs:
        """What rounds 0..up_to have cost together; an image asked about twice is one image."""
        return self._costs("round <= ?", up_to)

    def _costs(self, where: str, round: int) -> Costs:
        images, regions, pixels, clicks, known, rows = self._db.execute(
            "SELECT COUNT(DISTINCT key), TOTAL(regions), TOTAL(pixels), TOTAL(clicks),"
            f" COUNT(clicks), COUNT(*) FROM answers WHERE pixels > 0 AND {where}",
            (round,),
        ).fetchone()
        return Costs(images, int(regions), int(pixels), int(clicks) if known == rows else None)

    def records(self) -> list[JSON]:
        """One record a begun round, in order: round, costs and total (`Costs`), stages (name ->
        seconds, finished, payload), done (all stages are)."""
        records: list[JSON] = []
        rows = self._db.execute(
            "SELECT round, stage, seconds, finished, payload FROM stages ORDER BY round, rowid"
        ).fetchall()
        for round, stage, seconds, finished, payload in rows:
            if not records or records[-1]["round"] != round:
                totals = {"costs": self.costs(round), "total": self.total_costs(round)}
                records.append({"round": round, "done": False, "stages": {}, **totals})
            entry = {"seconds": seconds, "finished": finished, "payload": json.loads(payload)}
            records[-1]["stages"][stage] = entry
            records[-1]["done"] = len(records[-1]["stages"]) == len(STAGES)
        return records

    def rewind(self, round: int) -> None:
        """Forget everything from `round` on; `LabelStore.drop_rounds_from(round)` goes first."""
        with self.transaction():
            self._db.execute("DELETE FROM stages WHERE round >= ?", (round,))
            self._db.execute("DELETE FROM answers WHERE round >= ?", (round,))


def differences(then: Any, now: Any, name: str) -> Iterable[tuple[str, Any, Any]]:
    """(dotted name, old, new) of each leaf in which two JSON values differ, in name order."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted(then.keys() | now.keys()):
            yield from differences(then.get(key), now.get(key), f"{name}.{key}")
    elif then != now:
        yield name, _dump(then), _dump(now)


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
