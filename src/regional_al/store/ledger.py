"""The ledger: what was asked, answered, spent and reached, in `work_dir/ledger.sqlite`.

A round consists of the stages query -> answers -> fit -> evaluate. A stage is recorded in one
transaction when all its files exist, so it is either done or not. A run resumes at `position()`.
Rank 0 writes; others may read at the same time (`open(..., readonly=True)`).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import WorkDirError
from ..types import JSON, Costs, PoolItem
from . import label_index
from .database import HINTS, dump, explained
from .files import FileStamp
from .images import creating
from .label_index import Entry, Name
from .listing import LABEL, RECORDED
from .people import People
from .schema import FORMAT, READABLE, RESUMABLE, STAGES, TABLES, upgrade
from .work_dir import WorkDir

HEAD, STOPPED = "head", "stopped"
"""Notes: the head of results.json, to write it again; and why the run ended."""
COMMAND = "command"
"""Note: how the run was started last: config, cwd, cfg_options (as typed), amp, smoke,
processes and no_report."""
EDITED = "label of "
"""How the names of the changes begin that `accept_labels` records; the key of the image follows."""
_INSERT_ANSWER = (
    "INSERT OR REPLACE INTO answers (round, key, pixels, clicks, complete, regions, seconds)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SPENT = """(
    SELECT round, key, regions, pixels, clicks, seconds FROM answers WHERE pixels > 0
    UNION ALL SELECT round, NULL, 0, 0, clicks, seconds FROM corrections)"""
"""What has been spent in which round; a correction costs time and clicks, no pixels."""
_SUMS = (
    "COUNT(DISTINCT key), TOTAL(regions), TOTAL(pixels), TOTAL(clicks), COUNT(clicks) = COUNT(*),"
    " TOTAL(seconds), COUNT(seconds) = COUNT(*) AND COUNT(*) > 0"
)
_SUMS_OF_ROUND = _SUMS.replace("DISTINCT ", "")  # there each key occurs once; a third faster
_INSERT_CHANGE = "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)"


AnswerTuple = tuple[int, str, int, int, int]
"""What is recorded of an answer: round, key of the image, pixels, regions, completeness."""


class Ledger(People):
    """An open ledger; make one with `Ledger.create` or `Ledger.open`. A context manager.

    Args:
        path: The SQLite file.
        connection: To that file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pathlib import Path
        >>> with TemporaryDirectory() as folder:
        ...     with Ledger.create(Path(folder), config="", pool="", acquisition={}) as ledger:
        ...         ledger.mark(0, "query", {"picks": 1}, seconds=0.5)
        ...         ledger.record_answer(0, "a", pixels=64, clicks=2, complete=True, regions=1)
        ...         ledger.position(), ledger.costs(0)[:4]
        ((0, 'answers'), (1, 1, 64, 2))
    """

    @staticmethod
    def exists(work_dir: Path) -> bool:
        """True when the folder contains a run."""
        return WorkDir(work_dir).ledger.exists()

    @classmethod
    def create(cls, work_dir: Path, *, config: str, pool: str, acquisition: JSON) -> Ledger:
        """Start the ledger of a new run.

        Args:
            work_dir: Folder of the run; created if necessary.
            config: What else determines the results: the engine's config as text.
            pool: Fingerprint of the pool, see `pool_fingerprint`.
            acquisition: The resolved `acquisition`, JSON-able.

        Raises:
            WorkDirError: The folder already contains a run.
        """
        path = WorkDir(work_dir).ledger
        meta = {
            "format": FORMAT,
            "config": config,
            "pool": pool,
            "acquisition": dump(acquisition),
        }
        with (
            creating(path) as temporary,
            explained(path),
            closing(sqlite3.connect(temporary)) as db,
            db,
        ):
            db.executescript(TABLES)
            db.executemany("INSERT INTO meta VALUES (?, ?)", sorted(meta.items()))
        return cls.open(work_dir)

    @classmethod
    def open(cls, work_dir: Path, *, readonly: bool = False) -> Ledger:
        """Open the ledger of a run. One of an earlier format gets the tables that it lacks, empty;
        what has been written to the others stays as it is.

        Raises:
            WorkDirError: There is none, it is damaged, or another version wrote it: a later one,
                or, unless `readonly`, one whose runs cannot be resumed.
        """
        path = WorkDir(work_dir).ledger
        if not path.exists():
            raise WorkDirError(f"{work_dir} contains no run (no {path.name}): check --work-dir")
        # mode=rw also for readers: SQLite must be able to roll back what a killed writer left.
        uri = f"{path.resolve().as_uri()}?mode=rw"
        try:
            db = sqlite3.connect(uri, uri=True, timeout=60.0, isolation_level=None)
            ledger = cls(path, db)
            version = ledger.meta()["format"]
        except (sqlite3.Error, KeyError, UnicodeDecodeError, WorkDirError) as error:
            why = str(error).removeprefix(f"{path}: ")
            raise WorkDirError(f"{path} is not a readable ledger: {why}") from None
        try:
            if not readonly or version not in READABLE:
                ledger.check_resumable()
            with explained(path):
                if version != FORMAT:
                    upgrade(db, readonly)
                if readonly:
                    db.execute("PRAGMA query_only = ON")
        except WorkDirError:
            ledger.close()
            raise
        return ledger

    def check_resumable(self) -> None:
        """Raise WorkDirError when a version wrote this ledger whose runs cannot be resumed."""
        version = self.meta()["format"]
        if version not in RESUMABLE:
            raise WorkDirError(
                f"{self.path} was written by another version of regional_al (format {version}, "
                f"this version resumes formats {' and '.join(RESUMABLE)}): choose another work_dir,"
                " or resume the run with the version that started it"
            )

    def meta(self) -> dict[str, str]:
        """What `create` stored: format, config, pool, acquisition (as JSON text)."""
        return dict(self._execute("SELECT key, value FROM meta ORDER BY key"))

    def record_changes(
        self, changes: Iterable[tuple[str, Any, Any]], *, config: str, acquisition: JSON
    ) -> None:
        """Record, in one transaction, that the run continues with another config.

        Args:
            changes: (name, old, new) of each key; the values JSON-able.
            config: The text that is compared from now on.
            acquisition: The resolved `acquisition`, likewise.
        """
        with self.transaction():
            self._insert_changes(changes)
            self._execute_many(
                "UPDATE meta SET value = ? WHERE key = ?",
                [(config, "config"), (dump(acquisition), "acquisition")],
            )

    def _insert_changes(self, changes: Iterable[tuple[str, Any, Any]]) -> None:
        place, now = self.position(), datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._execute_many(
            _INSERT_CHANGE,
            [(*place, now, name, dump(old), dump(new)) for name, old, new in changes],
        )

    def accept_labels(self, rows: Mapping[Name, Entry]) -> None:
        """Record label files that somebody has edited as the labels of the run from now on, and
        that they were edited, among the `changes`."""
        with self.transaction():
            before = self.labels(LABEL)
            self._insert_changes(
                (f"{EDITED}{key}", before[key].summary(), entry.summary())
                for (_, key), entry in sorted(rows.items())
            )
            self.record_labels(rows)

    def changes(self) -> list[JSON]:
        """What `record_changes` and `accept_labels` have recorded, oldest first: round and stage
        (that the run had reached), time, name, old, new."""
        rows = self._execute(
            "SELECT round, stage, time, name, old, new FROM changes ORDER BY rowid"
        )
        names = ("round", "stage", "time", "name", "old", "new")
        return [
            dict(zip(names, (*row[:4], *map(self._value, row[4:])), strict=True)) for row in rows
        ]

    def record_files(self, stamps: Mapping[tuple[str, str], FileStamp]) -> None:
        """Record stamps of files that have no index; they replace earlier ones.

        Args:
            stamps: (name, kind) -> stamp; only those that are new or have changed, if there are
                many.
        """
        if stamps:
            with self.transaction():
                self._execute_many(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                    [(*key, *one) for key, one in stamps.items()],
                )

    def record_folders(self, digests: Mapping[str, str]) -> None:
        """Record `listing.folder_digest` of folders whose files `record_files` has recorded."""
        self.note(RECORDED, {**digests})

    def folders(self) -> dict[str, str]:
        """What `record_folders` has recorded."""
        return self.noted(RECORDED) or {}

    def files(self, kind: str | None = None) -> dict[tuple[str, str], FileStamp]:
        """What `record_files` has recorded, of one kind or of all."""
        rows = self._execute(
            "SELECT name, kind, size, mtime, digest FROM files WHERE ?1 IS NULL OR kind = ?1",
            (kind,),
        )
        new = partial(tuple.__new__, FileStamp)
        return {row[:2]: new(row[2:]) for row in rows}

    def record_labels(self, rows: Mapping[Name, Entry | None]) -> None:
        """Change some rows of the index of the label store (None: remove it), see `label_index`."""
        if rows:
            with self.transaction():
                self._execute_many(label_index.DELETE, label_index.removed(rows))
                self._execute_many(label_index.INSERT, label_index.row_values(rows))

    def labels(self, kind: str) -> dict[str, Entry]:
        """The index of the label store: the rows of a kind of file, by key of the image."""
        with explained(self.path):
            return label_index.read_rows(self._db, kind)

    def mark(self, round: int, stage: str, payload: JSON, seconds: float) -> None:
        """Record that a stage is done. Stages must come in order: RuntimeError otherwise."""
        with self.transaction():
            expected = self.position()
            if (round, stage) != expected:
                raise RuntimeError(f"stage {stage!r} of round {round} marked, expected {expected}")
            finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._execute(
                "INSERT INTO stages VALUES (?, ?, ?, ?, ?)",
                (round, stage, float(seconds), finished, dump(payload)),
            )

    def done(self, round: int, stage: str) -> JSON | None:
        """The payload of a stage that is done, else None."""
        rows = self._execute(
            "SELECT payload FROM stages WHERE round = ? AND stage = ?", (round, stage)
        )
        return self._load(rows[0][0]) if rows else None

    def payloads(self) -> dict[tuple[int, str], JSON]:
        """(round, stage) -> payload of all stages that are done."""
        rows = self._execute("SELECT round, stage, payload FROM stages ORDER BY rowid")
        return {(round, stage): self._load(payload) for round, stage, payload in rows}

    def finished(self, round: int, stage: str) -> str | None:
        """When a stage was marked, ISO 8601 in UTC; None: it is not done."""
        rows = self._execute(
            "SELECT finished FROM stages WHERE round = ? AND stage = ?", (round, stage)
        )
        return str(rows[0][0]) if rows else None

    def position(self) -> tuple[int, str]:
        """(round, stage) that comes next; (0, 'query') at the start."""
        ((count,),) = self._execute("SELECT COUNT(*) FROM stages")
        return count // len(STAGES), STAGES[count % len(STAGES)]

    def record_answer(
        self,
        round: int,
        key: str,
        pixels: int,
        clicks: int | None,
        complete: bool,
        regions: int,
        seconds: float | None = None,
    ) -> None:
        """Record what one round has had answered in one image so far.

        The numbers are totals: they replace an earlier record of the same image and round. Many
        records in one `transaction()` are much faster than one by one.

        Args:
            round: The round.
            key: Of the image.
            pixels: Answered pixels, void included.
            clicks: None when not known.
            complete: Whether everything that was asked has been answered.
            regions: Items of the query with an answer.
            seconds: Spent on them by people; None when not known.
        """
        self.record_answers(round, [(key, pixels, clicks, complete, regions, seconds)])

    def record_answers(
        self, round: int, rows: Iterable[tuple[str, int, int | None, bool, int, float | None]]
    ) -> None:
        """`record_answer` for each of many rows: key, pixels, clicks, complete, regions,
        seconds."""
        with self.transaction():
            self._execute_many(
                _INSERT_ANSWER,
                [
                    (round, key, int(pixels), clicks, int(complete), int(regions), seconds)
                    for key, pixels, clicks, complete, regions, seconds in rows
                ],
            )

    def answers(self) -> list[tuple[int, str, int | None, int, float | None]]:
        """(round, key of the image, clicks, regions, seconds) of all answers, by round and key."""
        return self._execute(
            "SELECT round, key, clicks, regions, seconds FROM answers WHERE pixels > 0"
            " ORDER BY round, key"
        )

    def outstanding(self, round: int, keys: Sequence[str]) -> list[str]:
        """The keys without a complete answer in this round, in the given order."""
        rows = self._execute("SELECT key FROM answers WHERE round = ? AND complete", (round,))
        complete = {key for (key,) in rows}
        return [key for key in keys if key not in complete]

    def costs(self, round: int) -> Costs:
        """Costs of one round so far."""
        return self._costs("round = ?", round)

    def total_costs(self, up_to: int) -> Costs:
        """Costs of rounds 0..up_to together; an image queried in two rounds counts once."""
        return self._costs("round <= ?", up_to)

    def all_costs(self, last: int) -> list[tuple[Costs, Costs]]:
        """`costs` and `total_costs` of each round 0..last, in one pass over the answers."""
        sums = {
            row[0]: row[1:]
            for row in self._execute(f"SELECT round, {_SUMS_OF_ROUND} FROM {_SPENT} GROUP BY round")
        }
        new = dict(
            self._execute(
                "SELECT first, COUNT(*) FROM (SELECT MIN(round) AS first FROM answers"
                " WHERE pixels > 0 GROUP BY key) GROUP BY first"
            )
        )
        found: list[tuple[Costs, Costs]] = []
        total: Costs | None = None  # of the rounds in which anything has been answered
        for round in range(last + 1):
            one = _costs_of(sums[round]) if round in sums else Costs()
            if round in sums:
                more = one._replace(images=new.get(round, 0))
                total = more if total is None else _plus(total, more)
            found.append((one, total or Costs()))
        return found

    def _costs(self, where: str, round: int) -> Costs:
        (row,) = self._execute(f"SELECT {_SUMS} FROM {_SPENT} WHERE {where}", (round,))
        return _costs_of(row)

    def records(self) -> list[JSON]:
        """One record per round that has begun, in order: round, costs and total (`Costs`), stages
        (name -> seconds, finished, payload) and done (whether all stages are)."""
        records: list[JSON] = []
        rows = self._execute(
            "SELECT round, stage, seconds, finished, payload FROM stages ORDER BY round, rowid"
        )
        costs = self.all_costs(rows[-1][0] if rows else -1)
        for round, stage, seconds, finished, payload in rows:
            if not records or records[-1]["round"] != round:
                totals = dict(zip(("costs", "total"), costs[round], strict=True))
                records.append({"round": round, "done": False, "stages": {}, **totals})
            entry = {"seconds": seconds, "finished": finished, "payload": self._load(payload)}
            records[-1]["stages"][stage] = entry
            records[-1]["done"] = len(records[-1]["stages"]) == len(STAGES)
        return records

    def answer_rows(self) -> list[AnswerTuple]:
        """All that is recorded of answers, in no order. Raises WorkDirError for other types."""
        wrong = self._execute(
            "SELECT key FROM answers WHERE typeof(round) != 'integer' OR typeof(key) != 'text' OR"
            " typeof(pixels) != 'integer' OR typeof(regions) != 'integer' OR"
            " typeof(complete) != 'integer' LIMIT 1"
        )
        if wrong:
            raise WorkDirError(
                f"{self.path} is damaged: the answer of {wrong[0][0]!r} has no number where one "
                f"belongs; {HINTS['malformed']}"
            )
        return self._execute("SELECT round, key, pixels, regions, complete FROM answers")

    def faults(self, thorough: bool = False) -> list[str]:
        """What is wrong with the file itself: its pages, and the order of the stages."""
        pragma = "integrity_check" if thorough else "quick_check"
        wrong = [str(row[0]) for row in self._execute(f"PRAGMA {pragma}") if row[0] != "ok"]
        stages = self._execute("SELECT round, stage FROM stages ORDER BY rowid")
        due = [(i // len(STAGES), STAGES[i % len(STAGES)]) for i in range(len(stages))]
        for there, expected in zip(stages, due, strict=True):
            if tuple(there) != expected:
                wrong.append(f"stage {there[1]!r} of round {there[0]} stands where {expected[1]!r}"
                             f" of round {expected[0]} belongs")  # fmt: skip
                break
        return wrong

    def note(self, key: str, value: JSON) -> None:
        """Keep a fact about the run in `meta`, replacing an earlier one."""
        text = dump(value)
        if self.meta().get(key) != text:
            self._execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def forget(self, key: str) -> None:
        """Remove what `note` has kept."""
        self._execute("DELETE FROM meta WHERE key = ?", (key,))

    def noted(self, key: str) -> JSON | None:
        """What `note` has kept; None: nothing."""
        text = self.meta().get(key)
        return None if text is None else self._load(text)

    def acquisition(self) -> JSON:
        """The resolved `acquisition` of the run."""
        return self._load(self.meta()["acquisition"])


class Answered(NamedTuple):
    """What a round has had answered in one image."""

    pixels: int
    regions: int
    complete: int


def _costs_of(sums: Sequence[Any]) -> Costs:
    """Costs from `_SUMS`."""
    images, regions, pixels, clicks, clicks_known, seconds, seconds_known = sums
    return Costs(
        images,
        int(regions),
        int(pixels),
        int(clicks) if clicks_known else None,
        round(seconds, 3) if seconds_known else None,  # of milliseconds
    )


def _plus(one: Costs, other: Costs) -> Costs:
    """The sum; unknown where either is."""
    return Costs(
        one.images + other.images,
        one.regions + other.regions,
        one.pixels + other.pixels,
        None if one.clicks is None or other.clicks is None else one.clicks + other.clicks,
        None
        if one.annotation_seconds is None or other.annotation_seconds is None
        else round(one.annotation_seconds + other.annotation_seconds, 3),
    )


def pool_fingerprint(items: Sequence[PoolItem]) -> str:
    """Hash of the images' keys and sizes, in their order."""
    pool = "\n".join(f"{item.key} {item.shape[0]}x{item.shape[1]}" for item in items)
    return hashlib.sha256(pool.encode()).hexdigest()
