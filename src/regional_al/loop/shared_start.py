"""Round 0 taken over from another run (`warm_start=dict(run=WORK_DIR)`).

Strategies are compared from the same initial labels and the same first model: one run trains round
0, all others start from it. The answers are not copied; the annotator gives them again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import WorkDirError
from ..store.ledger import Ledger
from ..store.query import read_query
from ..types import JSON, PoolItem


def check(run: Path, config: str, pool: str) -> None:
    """Raise WorkDirError unless `run` has finished round 0 of the same config and pool images.

    config, pool: fingerprints as in the ledger.
    """
    where = f"acquisition.warm_start.run={run}"
    if not Ledger.exists(run):
        raise WorkDirError(f"{where} holds no run: give the work dir of a run, e.g. with rounds=0")
    with Ledger.open(run, readonly=True) as ledger:
        meta = ledger.meta()
        fit = ledger.done(0, "fit")
    if meta["pool"] != pool:
        raise WorkDirError(f"{where} was made with other pool images")
    if meta["config"] != config:
        raise WorkDirError(f"{where} was made with another config (acquisition apart)")
    if fit is None:
        raise WorkDirError(f"{where} has not finished round 0: run it to the end first")
    if fit.get("checkpoint") is None or not (run / "rounds/000/query").is_dir():
        raise WorkDirError(f"{where} has no labels of its own in round 0: give it a warm_start")
    if not (run / fit["checkpoint"]).is_file():
        raise WorkDirError(f"{where}: its checkpoint {run / fit['checkpoint']} is gone")


def copy_query(run: Path, target: Path, items: Sequence[PoolItem]) -> JSON:
    """Copy the query of round 0 to the folder `target`; it exists whole or not at all."""
    query = read_query(run / "rounds/000/query")
    for index, key in query.keys.items():
        if index >= len(items) or items[index].key != key:
            raise WorkDirError(f"{run} asks for image {key!r}, which is not in this pool")
    temporary = target.with_name(target.name + ".tmp")
    for folder in (temporary, target):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(query.folder, temporary)
    temporary.rename(target)
    return {"picks": len(query.picks)}


def copy_fit(run: Path, out_dir: Path, work_dir: Path) -> JSON:
    """Copy the checkpoint of round 0 into `out_dir`; what the stage 'fit' leaves."""
    with Ledger.open(run, readonly=True) as ledger:
        fit = ledger.done(0, "fit") or {}
    target = out_dir / Path(str(fit["checkpoint"])).name
    shutil.copyfile(run / fit["checkpoint"], target)
    return {
        "checkpoint": str(target.relative_to(work_dir)),
        "iterations": fit["iterations"],
        "label_share": fit["label_share"],
    }
