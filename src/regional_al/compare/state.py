"""What a grid keeps in its folder besides the runs: `grid.json`, a lock, a note per run.

`OUT/grid.json` holds the definition of every arm that was ever run there. A definition that has
changed under the same name is refused, since its runs would belong to another experiment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import differences
from ..config.changes import Rule, rule_of
from ..errors import DataError, WorkDirError
from ..store import reading as check
from ..store import results as records
from ..store.images import replacing
from ..store.lock import FolderLock
from ..store.reading import Reader, read_json
from ..store.results import Results
from ..store.work_dir import WorkDir
from ..types import JSON, Costs
from .plan import Grid, PlannedRun, rounds_of, run_dir

FILE = "grid.json"
FORMAT = 1


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with the process, however that ends.

    Raises WorkDirError when another process holds it.
    """
    lock = FolderLock(
        out, "another `regional-al compare`", "wait until it has ended, or give another --out"
    )
    with lock.holding():
        yield


def remember(out: Path, grid: Grid, title: str, how: Mapping[str, Any]) -> JSON:
    """Add a grid to `out/grid.json`, keeping the arms and seeds of earlier calls.

    Args:
        out: Output folder of the grid.
        grid: What is to be run now.
        title: Of the page.
        how: {'processes', 'options'}, which must be the same in every call.

    Returns:
        The content of the file.

    Raises:
        WorkDirError: Something has changed; the message names it.
    """
    known = read(out) if (out / FILE).is_file() else None
    arms: JSON = dict(known["arms"]) if known else {}
    for arm in (*grid.extra, *grid.arms):
        new = json.loads(json.dumps(arm.definition()))
        old = arms.get(arm.name)
        if old:
            refuse_change(f"{out}: arm {arm.name!r}", old, new)
        arms[arm.name] = {**new, "seeds": sorted({*(old["seeds"] if old else ()), *grid.seeds})}
    now = {"format": FORMAT, "title": title, "how": dict(how), "arms": arms}
    if known:
        for name, old, new in differences(known["how"], json.loads(json.dumps(dict(how))), "how"):
            what, (was, now_) = name.removeprefix("how."), map(json.dumps, (old, new))
            raise WorkDirError(f"{out}: {what} was {was}, now it is {now_}; use another --out")
    write_json(out / FILE, now)
    return now


def refuse_change(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise WorkDirError unless two definitions of an arm mean the same runs; `rounds`, `stop` and
    `cache_dir` may change, as when a run is resumed."""
    hint = "use another name for the arm, or another --out"
    for name, before, after in differences(old["acquisition"], new["acquisition"], "acquisition"):
        if rule_of(name) is not Rule.FREE:
            was, now = json.dumps(before), json.dumps(after)
            raise WorkDirError(f"{where}: {name} was {was}, now it is {now}; {hint}")
    for key, what in (("start", "its shared start"), ("labels_of", "labels_of")):
        before, after = old.get(key), new.get(key)
        if before != after:
            raise WorkDirError(f"{where}: {what} was {before}, now it is {after}; {hint}")
    if old["recipe"] != new["recipe"]:
        raise WorkDirError(
            f"{where}: the training config has changed ({old['config']} {old['recipe']}, now "
            f"{new['config']} {new['recipe']}); {hint}"
        )


def read(out: Path) -> JSON:
    """`out/grid.json`. Raises WorkDirError when there is none, DataError when it is damaged."""
    path = out / FILE
    if not path.is_file():
        raise WorkDirError(f"{out} has no {FILE}: it is not the --out of a `regional-al compare`")
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DataError(f"{path} is not a grid of format {FORMAT}")
    get = Reader(data, str(path))
    get("title", check.text)
    how = Reader(get("how", check.mapping), f"{path}: how")
    how("options", check.list_of(check.text), [])
    how("processes", check.integer, 1)
    for name, arm in get("arms", check.mapping).items():
        check_arm(arm, f"{path}: arms: {name}")("seeds", check.list_of(check.integer))
    return data


def check_arm(arm: Any, where: str) -> Reader:
    """Check the definition of an arm (see `plan.Arm.definition`). Raises DataError."""
    get = Reader(arm, where)
    get("acquisition", check.acquisition)
    for key in ("recipe", "config"):
        get(key, check.text)
    for key in ("label", "baseline", "start", "labels_of"):
        get(key, check.text, None)
    return get


def finished(run: PlannedRun) -> bool:
    """Whether a run has ended and has all the rounds that are planned now. Raises WorkDirError for
    one that was trained on labels of a run that has more now."""
    if not WorkDir(run.work_dir).results.is_file():
        return False
    if run.arm.labels_of is not None and run.depends_on is not None:
        mine, theirs = _last_costs(run.work_dir), _last_costs(run.depends_on)
        if None not in (mine, theirs) and mine != theirs:
            raise WorkDirError(
                f"{run.work_dir} was trained on fewer labels than {run.arm.labels_of} has now: "
                "delete that folder to train on all of them"
            )
    acquisition = run.acquisition()
    return complete(records.load(run.work_dir), rounds_of(acquisition), acquisition.get("stop"))


def _last_costs(work_dir: Path) -> Costs | None:
    """What a run has spent; None when it has no results."""
    if not WorkDir(work_dir).results.is_file():
        return None
    found = records.load(work_dir).records
    return found[-1].costs if found else None


def complete(results: Results, rounds: int, stop: Any) -> bool:
    """Whether a run has ended with all its rounds. One that stopped early (target reached, pool
    exhausted) is complete if it was given as many rounds under the same `stop`."""
    if results.stopped is None or not results.records:
        return False
    if results.records[-1].round >= rounds:
        return True
    before = {k: v for k, v in (results.acquisition.get("stop") or {}).items() if v is not None}
    now = {k: v for k, v in (stop or {}).items() if v is not None}
    given = int(results.acquisition.get("rounds") or 0)
    return given >= rounds and all(before.get(k) == v for k, v in now.items())


def prune(run: PlannedRun) -> None:
    """Delete the checkpoints of a finished run except that of its last round, from which it could
    be extended. A shared start has no other."""
    rounds = [record.round for record in records.load(run.work_dir).records]
    folders = [WorkDir(run.work_dir).fit(round_) for round_ in rounds]
    for folder in [folder for folder in folders if folder.is_dir()][:-1]:
        for checkpoint in folder.glob("*.pth"):
            checkpoint.unlink()


def note_path(out: Path, arm: str, seed: int) -> Path:
    """How a run went: its machine and its attempts."""
    return run_dir(out, arm, seed).with_suffix(".json")


def read_note(out: Path, arm: str, seed: int) -> JSON:
    """Machine and attempts of a run, empty before the first. Raises DataError for a damaged one."""
    path = note_path(out, arm, seed)
    if not path.is_file():
        return {}
    get = Reader(read_json(path), str(path))
    machine = get("machine", check.mapping, {})
    return {"machine": machine, "attempts": get("attempts", check.list_of(check.mapping), [])}


def write_json(path: Path, data: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
