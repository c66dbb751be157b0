"""Mend what a kill or a damaged disk has left in a work dir, as far as nothing is lost by it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import RegionalALError
from . import results as results_file
from .check_labels import settled_pixels
from .findings import Finding, leftovers
from .label_index import Entry, hash_pixels, pack
from .labels import LabelStore
from .ledger import HEAD, STOPPED, Ledger
from .listing import FOLDERS, LABEL, scan
from .results import parse
from .schema import WRITING
from .work_dir import WorkDir


def sweep(
    work_dir: Path, everywhere: bool = False, known: Sequence[Path] | None = None
) -> list[Path]:
    """Remove temporary files that killed processes have left; see `findings.leftovers`. The caller
    holds the lock of the work dir.

    Args:
        work_dir: Of the run.
        everywhere: Also those of other commands.
        known: All of them, if somebody has looked already.

    Returns:
        What has been removed.
    """
    removed = leftovers(WorkDir(Path(work_dir)), everywhere) if known is None else list(known)
    for path in removed:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return removed


def repair(work_dir: Path, findings: Sequence[Finding]) -> list[str]:
    """Mend the findings that are `repairable`. The caller holds the lock of the work dir.

    Args:
        work_dir: Of the run.
        findings: Of a thorough `check_run`.

    Returns:
        What has been done, one line each.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.store.check import check_run
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / ".ledger.sqlite.new").write_bytes(b"half")
        ...     done = repair(Path(folder), check_run(Path(folder), thorough=True))
        ...     len(done), check_run(Path(folder), thorough=True)
        (1, [])
    """
    files, done = WorkDir(Path(work_dir)), []
    todo = [finding for finding in findings if finding.repairable]
    if any(finding.kind == "temporary" for finding in todo):
        done += [f"removed {path}" for path in sweep(files.root, everywhere=True)]
    store = LabelStore(files.labels)
    for finding in todo:
        if finding.kind == "unanswered":
            cleared = store.clear_unanswered(finding.key)
            done.append(f"{finding.path}: cleared {cleared} labels that were never answered")
    if any(finding.kind == "index" for finding in todo):
        store.forget_index()
        for kind in FOLDERS:
            for key in scan(store.root, kind):
                store.entry(kind, key)
        with Ledger.open(files.root) as ledger:
            ledger.record_labels(store.unsaved())
        done.append(f"{files.ledger}: counted the pixels of all label files anew")
    if any(finding.kind == "results" for finding in todo):
        done.append(_rewrite_results(files))
    return done


def accept_labels(work_dir: Path, findings: Sequence[Finding]) -> list[str]:
    """Take label files that were edited as the labels of the run. The caller holds the lock.

    The ledger records it among the changes of the run, which the report lists. Labels that a
    process was writing when it was killed are not meant: the resumed run writes them again.

    Args:
        work_dir: Of the run.
        findings: Of a thorough `check_run`.

    Returns:
        What has been done, one line each.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     accept_labels(Path(folder), [])
        []
    """
    files = WorkDir(Path(work_dir))
    keys = [finding.key for finding in findings if finding.kind == "edited"]
    if not keys:
        return []
    store, rows = LabelStore(files.labels), {}
    with Ledger.open(files.root) as ledger:
        round_, stage = ledger.position()
        interrupted = stage == "answers" and ledger.noted(WRITING) == {"round": round_}
        for key in keys:
            rows[LABEL, key] = _accepted(store, key, round_, interrupted)
        ledger.accept_labels(rows)
        changes = tuple(ledger.changes())
    with suppress(RegionalALError):  # a results.json that cannot be read is a finding of its own
        results_file.write(files.root, replace(results_file.load(files.root), changes=changes))
    return [f"{store.path(key)}" for key in keys]


def _accepted(store: LabelStore, key: str, round_: int, interrupted: bool) -> Entry:
    """The row of the index for an edited label file."""
    row, now = store.recorded(LABEL, key), store.entry(LABEL, key)
    settled = settled_pixels(store, LABEL, key, round_)
    assert row is not None
    assert now is not None
    assert settled is not None
    if interrupted and row.round < round_:  # the file contains more, and is to be read again
        counts = pack(np.bincount(settled.ravel(), minlength=256))
        return row._replace(digest=hash_pixels(settled), counts=counts, file=b"", inode=0)
    before = row.before
    if row.round == round_ and before is not None:
        before = hash_pixels(settled)
    if interrupted:
        return row._replace(before=before)
    return now._replace(round=row.round, before=before)


def _rewrite_results(files: WorkDir) -> str:
    """Write results.json from the ledger; what was there is kept under another name."""
    with Ledger.open(files.root, readonly=True) as ledger:
        head, stopped = ledger.noted(HEAD), (ledger.noted(STOPPED) or {}).get("reason")
        results = parse(head, str(files.ledger))
        records = results_file.records_of(ledger, results.pool_pixels)
        results = replace(results, changes=tuple(ledger.changes()))
    kept = ""
    if files.results.exists():
        aside = files.results.with_name(f"{files.results.name}.damaged")
        files.results.replace(aside)
        kept = f"; what was there is in {aside.name}"
    results_file.write(files.root, replace(results, records=records, stopped=stopped))
    return f"{files.results}: wrote it again from the ledger{kept}"
