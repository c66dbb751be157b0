"""`regional-al check WORK_DIR [--repair] [--accept-labels]`: do files and ledger of a run agree?"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from ..errors import WorkDirError
from ..store.check import check_run
from ..store.findings import Finding
from ..store.lock import FolderLock
from ..store.repair import accept_labels, repair
from ..store.work_dir import WorkDir


def run(work_dir: Path, mend: bool = False, accept: bool = False) -> int:
    """Print every difference between the ledger of a run and its files.

    Args:
        work_dir: Of a run that is not going on.
        mend: First repair what can be repaired without losing anything.
        accept: First take label files that were edited by hand as the labels of the run.

    Returns:
        0 when all is well in the end, else 1.

    Raises:
        WorkDirError: The folder contains no run, or a process is working in it.
    """
    files = WorkDir(Path(work_dir))
    if not files.root.is_dir():
        what = "is not a folder" if files.root.exists() else "does not exist"
        raise WorkDirError(f"{work_dir} {what}: give the --work-dir of a training")
    parts = (files.ledger, files.results, files.labels, files.root / "rounds")
    if not any(part.exists() for part in parts):
        raise WorkDirError(f"{work_dir} does not contain a run: give the --work-dir of a training")
    lock = FolderLock(files.root, hint="wait until it has ended")
    readable_only = not mend and not accept and not os.access(files.root, os.W_OK)
    with nullcontext() if readable_only else lock.holding():
        found = check_run(files.root, thorough=True)
        done = repair(files.root, found) if mend else []
        accepted = accept_labels(files.root, found) if accept else []
        if done or accepted:
            found = check_run(files.root, thorough=True)
    for line in done:
        print(f"repaired: {line}")
    for line in accepted:
        print(f"accepted: {line}")
    for finding in found:
        print(finding)
    print(_summary(work_dir, found))
    return 1 if found else 0


def _summary(work_dir: Path, found: list[Finding]) -> str:
    """How it stands, and what to do next."""
    if not found:
        return f"{work_dir}: the files agree with the ledger"
    count = "1 finding" if len(found) == 1 else f"{len(found)} findings"
    mendable = sum(finding.repairable for finding in found)
    if not any(finding.blocks for finding in found):
        advice = "none keeps the run from being resumed"
        return f"{work_dir}: {count}; {advice}, and `--repair` removes what is left over"
    if mendable == len(found):
        return f"{work_dir}: {count}; run `regional-al check {work_dir} --repair`"
    if all(finding.repairable or finding.kind == "edited" for finding in found):
        both = " --repair" if mendable else ""
        accept = f"`regional-al check {work_dir}{both} --accept-labels`"
        return f"{work_dir}: {count}; restore the edited files, or accept them with {accept}"
    some = f"`--repair` mends {mendable} of them; " if mendable else ""
    return f"{work_dir}: {count}; {some}restore the other files from a backup before resuming"
