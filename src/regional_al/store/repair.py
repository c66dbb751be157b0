"""Mend what a kill or a damaged disk has left in a work dir, as far as nothing is lost by it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import results as results_file
from .findings import Finding, leftovers
from .labels import LabelStore
from .ledger import HEAD, STOPPED, Ledger
from .results import parse
from .work_dir import WorkDir


def sweep(work_dir: Path, everywhere: bool = False) -> list[Path]:
    """Remove temporary files that killed processes have left; see `findings.leftovers`. The caller
    holds the lock of the work dir. Returns what has been removed."""
    removed = leftovers(WorkDir(Path(work_dir)), everywhere)
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
    if any(finding.kind in ("unanswered", "index") for finding in todo):
        store.forget_index()
        for key in {*store.keys(), *store.annotated_keys()}:
            store.counts(key)
        store.save_index()
        done.append(f"{files.labels}: counted the pixels of all files anew")
    if any(finding.kind == "results" for finding in todo):
        done.append(_rewrite_results(files))
    return done


def _rewrite_results(files: WorkDir) -> str:
    """Write results.json from the ledger; what was there is kept under another name."""
    with Ledger.open(files.root, readonly=True) as ledger:
        head, stopped = ledger.noted(HEAD), (ledger.noted(STOPPED) or {}).get("reason")
        results = parse(head, str(files.ledger))
        rounds = ledger.position()[0]
        pixels = results.pool_pixels
        records = tuple(results_file.record_of(ledger, r, pixels) for r in range(rounds))
        results = replace(results, changes=tuple(ledger.changes()))
    kept = ""
    if files.results.exists():
        aside = files.results.with_name(f"{files.results.name}.damaged")
        files.results.replace(aside)
        kept = f"; what was there is in {aside.name}"
    results_file.write(files.root, replace(results, records=records, stopped=stopped))
    return f"{files.results}: wrote it again from the ledger{kept}"
