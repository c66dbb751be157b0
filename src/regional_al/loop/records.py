"""What a run records: the ledger, results.json, and the table line after each round.

Rank 0 reads and writes; every rank calls the same methods and gets the same answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ..config.changes import Change
from ..config.grammar import Acquisition
from ..engines.base import Engine
from ..report import table
from ..runtime import distributed as dist
from ..store import results as results_file
from ..store.check import refuse_differences
from ..store.files import no_collection
from ..store.keys import check_key
from ..store.labels import LabelStore
from ..store.ledger import COMMAND, HEAD, STOPPED, Ledger, pool_fingerprint
from ..store.listing import Listing
from ..store.lock import FolderLock
from ..store.repair import sweep
from ..store.results import Record, Results
from ..store.work_dir import WorkDir
from ..types import JSON
from .resume import Origin, check_files, check_resume
from .stopping import stop_reason


class RunRecords:
    """Ledger and results.json of one run.

    Args:
        work_dir: Where they are.
        config: The acquisition of the run.
        engine: Its pool and label space are described in results.json.
        text: What else determines the results, see `ActiveLearningLoop`.
        engine_name: Default: the name of the engine's class.
        title: Of the run.
        sources: Files that answers come from, see `Origin`.
    """

    def __init__(
        self,
        work_dir: WorkDir,
        config: Acquisition,
        engine: Engine,
        text: str = "",
        engine_name: str | None = None,
        title: str = "run",
        sources: Mapping[str, Path] | None = None,
    ) -> None:
        self.work_dir, self.config, self.engine = work_dir, config, engine
        self.engine_name, self.title = engine_name or type(engine).__name__, title
        self.origin = Origin(config.resolved, text, engine.pool, sources or {})
        self.pool_pixels = sum(h * w for h, w in (item.shape for item in engine.pool))
        self.lock = FolderLock(work_dir.root)
        self.command: JSON | None = None  # how the run was started, if from a command line
        self.listing: Listing | None = None  # of its files, begun under the lock
        self.ledger: Ledger | None = None  # of rank 0, while open
        self.opened = False
        self._printed = self._held = self._agreed = False
        self._keys_checked = False
        self._closed: Sequence[Record] = ()  # records of the rounds that were finished at `open`
        self._changes: list[Change] | None = None  # of the config, as `check` has found them
        self._left: list[Path] | None = None  # by killed processes, likewise

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep other processes out of the work dir. Raises WorkDirError when one is in it."""
        self._hold()
        try:
            yield
        finally:
            self.lock.release()

    def _hold(self) -> None:
        """Rank 0 takes the lock, for all."""

        def take() -> JSON:
            self.lock.acquire()
            return {}

        dist.on_main(take)

    def check(self, warm_start: Callable[[Ledger | None], None]) -> None:
        """Raise WorkDirError when the folder contains another run, when its files disagree with
        the ledger, or when what `warm_start` looks for is not there. `warm_start` gets the ledger
        of the run that is resumed, if any."""

        def look() -> JSON:
            store = LabelStore(self.work_dir.labels)
            listing = None
            if not self._agreed:
                listing, self.listing = self.listing or store.listing(), None
            try:
                self._compare(warm_start, store, listing)
            finally:
                if listing is not None:
                    listing.close()
            if not self._agreed:
                self._forget()
            return {}

        with no_collection():
            dist.on_main(look)

    def _compare(
        self,
        warm_start: Callable[[Ledger | None], None],
        store: LabelStore,
        listing: Listing | None,
    ) -> None:
        """`check`, on rank 0; but for `warm_start` nothing where it has been done under the lock
        (listing: None)."""
        root, pool = self.work_dir.root, self.engine.pool
        if not self._keys_checked:
            for item in pool:
                check_key(item.key)
            self._keys_checked = True
        with ExitStack() as stack:
            ledger = None
            if Ledger.exists(root):
                ledger = stack.enter_context(Ledger.open(root, readonly=True))
            if ledger is not None and listing is not None:
                self._changes = check_resume(ledger, self.origin)
            warm_start(ledger)
            if listing is None:
                return
            space, rounds = self.engine.label_space, self.config.rounds
            self._left = refuse_differences(root, space, pool, rounds, store, listing)
            self._agreed = self.lock.held  # nobody else changes them from now on
            if ledger is not None:
                unchanged = listing.unchanged_folders()
                self._changes = [
                    *(self._changes or ()),
                    *check_files(ledger, self.origin, unchanged),
                ]

    def lock_in(self) -> None:
        """Keep other processes out of the work dir until `close`."""
        if not self._held:
            self._hold()
            self._held = True

    def open(self) -> None:
        """Open the ledger, or create it, and write results.json as far as it is known."""

        def start() -> JSON:
            root, head = self.work_dir.root, self._head()
            sweep(root, known=self._left)
            if Ledger.exists(root):
                self.ledger = Ledger.open(root)
                self._record_changes(self.ledger)
                self._closed = results_file.records_of(self.ledger, self.pool_pixels)
            else:
                self.ledger = Ledger.create(
                    root,
                    config=self.origin.text,
                    pool=pool_fingerprint(self.engine.pool),
                    acquisition=self.config.resolved,
                )
                self.origin.record_files(self.ledger)
            records = results_file.load(root).records if self.work_dir.results.is_file() else ()
            changed = tuple(self.ledger.changes())
            self.ledger.note(HEAD, results_file.head_of(head))
            self.ledger.note(STOPPED, {"reason": None})
            if self.command is not None:
                self.ledger.note(COMMAND, self.command)
            results_file.write(root, replace(head, records=records, changes=changed))
            return {}

        dist.on_main(start)
        self.opened = True

    def close(self) -> None:
        """Close the ledger and let other processes in. `open` opens it again."""
        if self.ledger is not None:
            self.ledger.close()
        if self._held:
            self.lock.release()
        self.ledger, self.opened, self._held, self._agreed = None, False, False, False
        self._forget()

    def _forget(self) -> None:
        """Look at the config and the images anew at the next check."""
        self._changes = self._left = None
        self.origin.forget()

    def done(self, round_: int, stage: str) -> JSON | None:
        """What a finished stage has recorded, on every rank; None while it is not finished."""
        found = dist.on_main(lambda: {"payload": self._books.done(round_, stage)})
        payload: JSON | None = found["payload"]
        return payload

    def mark(self, round_: int, stage: str, payload: JSON, seconds: dict[str, float]) -> None:
        """Record that a stage is finished. seconds: spent on it, by activity."""

        def write() -> JSON:
            spent = sum(seconds.values())
            self._books.mark(round_, stage, {**payload, "seconds": seconds}, spent)
            return {}

        dist.on_main(write)

    def checkpoint(self, round_: int) -> Path | None:
        """Checkpoint that the fit of a round left; None: the config's own start."""
        if round_ < 0:
            return None
        name = (self.done(round_, "fit") or {}).get("checkpoint")
        return None if name is None else self.work_dir.root / name

    def trained(self, round_: int) -> list[int]:
        """Iterations of the trainings of all rounds before one. On rank 0."""
        return [
            int((self._books.done(r, "fit") or {}).get("iterations") or 0) for r in range(round_)
        ]

    def iterations(self, round_: int) -> int | None:
        """How long a round trains, by `acquisition.iterations`; None: by the engine's config."""
        rule = self.config.iterations
        if rule is None:
            return None
        spent = dist.on_main(lambda: {"count": rule.of(self._books.total_costs(round_))})
        return int(spent["count"])

    def close_round(self, round_: int) -> str | None:
        """Append the record of a finished round to results.json and print its line. Returns why
        the run ends after this round, None when it continues."""

        def close() -> JSON:
            if round_ < len(self._closed):
                record = self._closed[round_]
            else:
                record = results_file.record_of(self._books, round_, self.pool_pixels)
            results_file.append_record(self.work_dir.root, record)
            print(table.round_line(record, header=not self._printed))
            self._printed = True
            scores = [self._books.done(r, "evaluate") or {} for r in range(round_ + 1)]
            mious = [score.get("miou") for score in scores]
            return {"reason": stop_reason(self.config, round_, record.costs, mious)}

        reason: str | None = dist.on_main(close)["reason"]
        return reason

    def stopped(self, reason: str | None) -> None:
        """Note in results.json why the run ended; None: it has not, it waits for answers."""

        def write() -> JSON:
            root = self.work_dir.root
            self._books.note(STOPPED, {"reason": reason})
            results_file.write(root, replace(results_file.load(root), stopped=reason))
            return {}

        dist.on_main(write)

    def _record_changes(self, ledger: Ledger) -> None:
        """Record, and print, what of the config has changed since the run was last started."""
        found = self._changes or []
        for change in found:
            print(f"resumed with a change: {change}", file=sys.stderr, flush=True)
        ledger.record_changes(
            [(change.name, change.old, change.new) for change in found],
            config=self.origin.text,
            acquisition=self.config.resolved,
        )
        self.origin.record_files(ledger)

    @property
    def _books(self) -> Ledger:
        assert self.ledger is not None, "rank 0 has not opened the ledger"
        return self.ledger

    def _head(self) -> Results:
        space = self.engine.label_space
        return Results(
            title=self.title,
            acquisition=self.config.resolved,
            classes=space.class_names,
            palette=space.palette,
            raw_to_train=tuple(int(v) for v in space.raw_to_train),
            pool_images=len(self.engine.pool),
            pool_pixels=self.pool_pixels,
            engine=self.engine_name,
            world_size=dist.world_size(),
        )
