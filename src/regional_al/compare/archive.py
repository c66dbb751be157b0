"""`compare.json`, the archive of a grid: every run's records with its configuration, seed, machine
and versions. What is drawn is computed from it and from nothing else, so that files of several
machines or days can be read together and drawn again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..store import reading as check
from ..store import results as records
from ..store.images import replacing
from ..store.reading import Reader
from ..types import JSON
from . import state
from .reading import Comparison, Run, checked

FILE = "compare.json"
FORMAT = 1
KIND = "regional_al.compare"


def to_json(comparison: Comparison) -> JSON:
    """What `compare.json` holds, without the aggregates. Paths of this machine are left out."""
    head = comparison.pool
    return {
        "kind": KIND,
        "format": FORMAT,
        "title": comparison.title,
        "processes": comparison.processes,
        "options": list(comparison.options),
        "missing": list(comparison.missing),
        "classes": list(head.classes),
        "palette": [list(colour) for colour in head.palette],
        "pool": {"images": head.pool_images, "pixels": head.pool_pixels},
        "arms": {
            name: {**arm, "acquisition": without_paths(arm["acquisition"])}
            for name, arm in comparison.arms.items()
        },
        "runs": [_run_to_json(run) for run in comparison.runs],
    }


def _run_to_json(run: Run) -> JSON:
    data = records.to_json(run.results)
    for key in ("format", "classes", "palette", "raw_to_train", "pool", "title"):
        data.pop(key)
    data["acquisition"] = without_paths(data["acquisition"])
    head = {"arm": run.arm, "seed": run.seed, "state": run.state, "why": run.why}
    return {**head, "machine": run.machine, **_rounded(data)}


def without_paths(acquisition: Mapping[str, Any]) -> JSON:
    """An acquisition as it may be shown to others: no cache folder; a run that something is taken
    over from by its place in the grid's folder."""
    kept = {key: value for key, value in acquisition.items() if key != "cache_dir"}
    warm = kept.get("warm_start")
    for key in ("run", "labels"):
        if isinstance(warm, Mapping) and warm.get(key):
            kept["warm_start"] = {key: "/".join(Path(str(warm[key])).parts[-3:])}
    return kept


def write(path: Path, comparison: Comparison, aggregates: Mapping[str, Any]) -> None:
    """Write `compare.json`: a line a record, so that versions of it can be told apart."""
    data = to_json(comparison)
    runs = [_run_text(run) for run in data.pop("runs")]
    lines = [f" {json.dumps(key)}: {_dump(value)}," for key, value in data.items()]
    lines.append(' "runs": [\n' + ",\n".join(runs) + "\n ],")
    lines.append(f' "aggregates": {_dump(_rounded(dict(aggregates)))}')
    with replacing(path) as temporary:
        temporary.write_text("{\n" + "\n".join(lines) + "\n}\n", encoding="utf-8")


def _run_text(run: JSON) -> str:
    rounds = ",\n".join(f"   {_dump(record)}" for record in run.pop("records"))
    head = _dump(run)[:-1]
    return f'  {head}, "records": [\n{rounds}\n  ]}}'


def read(path: Path) -> Comparison:
    """`compare.json`, checked. Raises DataError naming file and key."""
    data = state.read_json(path) if path.is_file() else None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        what = "is no compare.json" if path.is_file() else "does not exist"
        raise DataError(f"{path} {what}: give a file that `regional-al compare` has written")
    get = Reader(data, str(path))
    if get("format", check.integer) != FORMAT:
        raise DataError(f"{path}: format is {data['format']!r}, this version reads {FORMAT}")
    arms = get("arms", check.mapping)
    for name, arm in arms.items():
        inner = Reader(arm, f"{path}: arms: {name}")
        inner("acquisition", check.mapping)
        inner("recipe", check.text)
        inner("config", check.text)
        inner("start", check.text, None)
        inner("labels_of", check.text, None)
    head = {key: data.get(key) for key in ("title", "classes", "palette", "pool")}
    runs = []
    for i, item in enumerate(get("runs", check.list_of(check.mapping))):
        where = f"{path}: runs[{i}]"
        inner = Reader(item, where)
        arm = inner("arm", check.text)
        if arm not in arms:
            raise DataError(f"{where}: arm {arm!r} is not among the arms of the file")
        own = {k: v for k, v in item.items() if k not in ("arm", "seed", "state", "why", "machine")}
        results = records.parse({"format": records.FORMAT, **head, **own}, where)
        state_, why = inner("state", check.text, "finished"), inner("why", check.text, "")
        machine = inner("machine", check.mapping, {})
        runs.append(Run(arm, inner("seed", check.integer), results, state_, why, machine))
    found = Comparison(
        get("title", check.text),
        arms,
        tuple(runs),
        tuple(get("options", check.list_of(check.text), [])),
        get("processes", check.integer, 1),
        tuple(get("missing", check.list_of(check.text), [])),
    )
    return checked(found, str(path))


def _rounded(value: Any) -> Any:
    """Six significant digits: what is behind is noise, and half of the file. Strict JSON knows no
    infinity: null."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return value


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
