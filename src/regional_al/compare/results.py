"""The runs of a comparison as typed data: read from their folders, from archives, and merged.

`compare.json` is the archive of a grid: every run's records with its configuration, seed, machine
and versions. All tables and figures are computed from it alone, so archives of several machines or
days can be read together and drawn again. `compare.csv` has the same numbers for other tools.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..store import reading as check
from ..store import results as records
from ..store.images import replacing
from ..store.reading import Reader
from ..store.results import Record, Results
from ..store.work_dir import WorkDir
from ..types import JSON
from . import state
from .plan import START, rounds_of, run_dir

ARCHIVE, CSV = "compare.json", "compare.csv"
FORMAT = 1
KIND = "regional_al.compare"


@dataclass(frozen=True)
class Run:
    """One run. state: 'finished', 'under way' or 'failed' (why: its last error line)."""

    arm: str
    seed: int
    results: Results
    state: str = "finished"
    why: str = ""
    machine: JSON = field(default_factory=dict)

    @property
    def evaluated(self) -> tuple[Record, ...]:
        return tuple(record for record in self.results.records if record.miou is not None)

    @property
    def iterations(self) -> list[int]:
        """Optimizer iterations behind the weights of each round: of the round alone if every round
        starts anew ('scratch', 'pretrained'), of all rounds up to it if weights are kept
        ('continue', or one continuous run with `queries`)."""
        acquisition = self.results.acquisition
        keeps = acquisition.get("round_init") == "continue" or bool(acquisition.get("queries"))
        total, found = 0, []
        for record in self.results.records:
            total = total + record.iterations if keeps else record.iterations
            found.append(total)
        return found


@dataclass(frozen=True)
class Comparison:
    """Runs on one pool and one set of classes.

    Args:
        title: Of the page.
        arms: Definitions by name, in order (see `plan.Arm.definition`).
        runs: Every run that has results, except for the shared starts.
        options: `--cfg-options` of all runs.
        processes: Of each run.
        missing: Runs without results, in words.
    """

    title: str
    arms: Mapping[str, JSON]
    runs: tuple[Run, ...]
    options: tuple[str, ...] = ()
    processes: int = 1
    missing: tuple[str, ...] = ()

    @property
    def querying(self) -> tuple[str, ...]:
        """Arms that make queries: neither full supervision nor retrained on labels of another."""
        arms = self.arms.items()
        return tuple(n for n, a in arms if not n.startswith("_") and not a.get("labels_of"))

    @property
    def pool(self) -> Results:
        """Results of any run, for classes, palette and size of the pool."""
        return self.runs[0].results

    def label(self, arm: str) -> str:
        return str(self.arms[arm].get("label") or arm)

    def finished(self, arm: str) -> list[Run]:
        """The finished and evaluated runs of an arm, by seed."""
        found = (r for r in self.runs if r.arm == arm and r.state == "finished" and r.evaluated)
        return sorted(found, key=lambda run: run.seed)


def collect(out: Path) -> Comparison:
    """Read all runs in the output folder of a grid, finished or not.

    Args:
        out: The `--out` of a `regional-al compare`.

    Raises:
        WorkDirError: The folder holds no grid.
        DataError: No run has results, or a file is damaged.
    """
    grid = state.read(out)
    arms = {name: value for name, value in grid["arms"].items() if not name.startswith(START)}
    runs, missing = [], []
    for arm, definition in arms.items():
        for seed in definition["seeds"]:
            note = state.read_note(out, arm, seed)
            error = str((note.get("attempts") or [{}])[-1].get("error", ""))
            folder = run_dir(out, arm, seed)
            if not WorkDir(folder).results.is_file():
                missing.append(f"{arm} seed {seed}" + (error and f" ({error})"))
                continue
            found, wanted = records.load(folder), definition["acquisition"]
            done = state.complete(found, rounds_of(wanted), wanted.get("stop"))
            status = "finished" if done else "failed" if error else "under way"
            why = error if status == "failed" else ""
            runs.append(Run(arm, seed, found, status, why, dict(note.get("machine") or {})))
    how = grid["how"]
    options, processes = tuple(how.get("options", ())), int(how.get("processes", 1))
    whole = Comparison(grid["title"], arms, tuple(runs), options, processes, tuple(missing))
    return _checked(whole, str(out))


def merge(parts: Sequence[tuple[str, Comparison]]) -> Comparison:
    """Combine several comparisons into one, with the arms and runs of all.

    Args:
        parts: (name of the file, its content). If several contain the same run, the one with more
            rounds is used.

    Raises:
        DataError: Pools or classes differ, or the numbers of a run.
        WorkDirError: Arms of the same name differ.
    """
    (first_name, first), *_ = parts
    arms: dict[str, JSON] = {}
    runs: dict[tuple[str, int], tuple[str, Run]] = {}
    for where, part in parts:
        _check_same_data(where, first_name, part.pool, first.pool)
        for name, arm in part.arms.items():
            if name in arms:
                state.refuse_change(
                    f"{where}: arm {name!r} (defined in another file too)", arms[name], arm
                )
            arms.setdefault(name, arm)
        for run in part.runs:
            key = (run.arm, run.seed)
            other = runs.get(key)
            runs[key] = (where, _longer(other, (where, run)) if other else run)
    return replace(
        first,
        arms=arms,
        runs=tuple(run for _, run in runs.values()),
        title=" + ".join(dict.fromkeys(part.title for _, part in parts)),
        options=tuple(dict.fromkeys(option for _, part in parts for option in part.options)),
        missing=(),  # what one file lacks another may hold
    )


def _longer(old: tuple[str, Run], new: tuple[str, Run]) -> Run:
    """The longer of two versions of one run."""
    (there, a), (here, b) = old, new
    for r, s in zip(a.results.records, b.results.records, strict=False):
        if (r.round, r.costs, r.miou) != (s.round, s.costs, s.miou):
            raise DataError(
                f"{here} and {there} have different numbers for {a.arm} seed {a.seed} in round "
                f"{s.round}: leave one of the files out, or rename the arm in one"
            )
    return a if len(a.results.records) >= len(b.results.records) else b


def _checked(comparison: Comparison, where: str) -> Comparison:
    """Refuse runs of different pools or classes."""
    if not comparison.runs:
        raise DataError(f"{where}: no run has results yet")
    for run in comparison.runs:
        name = f"{where}: {run.arm} seed {run.seed}"
        _check_same_data(name, where, run.results, comparison.pool)
    return comparison


def _check_same_data(where: str, there: str, mine: Results, theirs: Results) -> None:
    if mine.classes != theirs.classes:
        counts = f"({len(mine.classes)}, {len(theirs.classes)})"
        raise DataError(f"{where} has other classes than {there} {counts}: not comparable")
    for what in ("images", "pixels"):
        a, b = (getattr(results, f"pool_{what}") for results in (mine, theirs))
        if a != b:
            raise DataError(
                f"{where} has another number of pool {what} than {there} ({a}, {b}): not comparable"
            )


def to_json(comparison: Comparison) -> JSON:
    """What `compare.json` holds, without the aggregates and without paths of this machine."""
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
    """An acquisition that can be published: no cache folder; a run that something is taken over
    from by its place in the grid's folder."""
    kept = {key: value for key, value in acquisition.items() if key != "cache_dir"}
    warm = kept.get("warm_start")
    for key in ("run", "labels"):
        if isinstance(warm, Mapping) and warm.get(key):
            kept["warm_start"] = {key: "/".join(Path(str(warm[key])).parts[-3:])}
    if isinstance(warm, Mapping) and warm.get("prelabels"):
        kept["warm_start"] = {**warm, "prelabels": Path(str(warm["prelabels"])).name}
    return kept


def write(path: Path, comparison: Comparison, aggregates: Mapping[str, Any]) -> None:
    """Write `compare.json`, one line per record, so that version control shows what changed.

    Args:
        path: The file.
        comparison: What `read` returns again.
        aggregates: The tables as plain data (`stats.to_json`); they are not read back.
    """
    data = to_json(comparison)
    runs = []
    for run in data.pop("runs"):
        rounds = ",\n".join(f"   {_dump(record)}" for record in run.pop("records"))
        runs.append(f'  {_dump(run)[:-1]}, "records": [\n{rounds}\n  ]}}')
    lines = [f" {json.dumps(key)}: {_dump(value)}," for key, value in data.items()]
    lines.append(' "runs": [\n' + ",\n".join(runs) + "\n ],")
    lines.append(f' "aggregates": {_dump(_rounded(dict(aggregates)))}')
    with replacing(path) as temporary:
        temporary.write_text("{\n" + "\n".join(lines) + "\n}\n", encoding="utf-8")


def read(path: Path) -> Comparison:
    """Read and check a `compare.json`.

    Raises:
        DataError: Not an archive, or damaged; names file and key.
    """
    data = check.read_json(path) if path.is_file() else None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        what = "is not a compare.json" if path.is_file() else "does not exist"
        raise DataError(f"{path} {what}: give a file written by `regional-al compare`")
    get = Reader(data, str(path))
    if get("format", check.integer) != FORMAT:
        raise DataError(f"{path}: format is {data['format']!r}, this version reads {FORMAT}")
    arms = get("arms", check.mapping)
    for name, arm in arms.items():
        state.check_arm(arm, f"{path}: arms: {name}")
    head = {key: data.get(key) for key in ("title", "classes", "palette", "pool")}
    runs = []
    for i, item in enumerate(get("runs", check.list_of(check.mapping))):
        where = f"{path}: runs[{i}]"
        inner = Reader(item, where)
        arm = inner("arm", check.text)
        if arm not in arms:
            raise DataError(f"{where}: arm {arm!r} is not among the arms of the file")
        own = {k: v for k, v in item.items() if k not in ("arm", "seed", "state", "why", "machine")}
        found = records.parse({"format": records.FORMAT, **head, **own}, where)
        status, why = inner("state", check.text, "finished"), inner("why", check.text, "")
        machine = inner("machine", check.mapping, {})
        runs.append(Run(arm, inner("seed", check.integer), found, status, why, machine))
    comparison = Comparison(
        get("title", check.text),
        arms,
        tuple(runs),
        tuple(get("options", check.list_of(check.text), [])),
        get("processes", check.integer, 1),
        tuple(get("missing", check.list_of(check.text), [])),
    )
    return _checked(comparison, str(path))


def _rounded(value: Any) -> Any:
    """Six significant digits: the rest is noise, and half of the file. Infinity becomes null."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return value


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def write_csv(path: Path, comparison: Comparison) -> None:
    """Write one row per arm, seed and round, of unfinished runs too. An unknown value is an empty
    field; IoU and shares are 0..1."""
    table = list(_csv_rows(comparison))
    columns = list(dict.fromkeys(key for row in table for key in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        out.writeheader()
        out.writerows(table)


def _csv_rows(comparison: Comparison) -> Iterator[JSON]:
    classes = comparison.pool.classes
    for run in comparison.runs:
        for record, iterations in zip(run.results.records, run.iterations, strict=True):
            yield {
                "arm": run.arm,
                "label": comparison.label(run.arm),
                "seed": run.seed,
                "state": run.state,
                "round": record.round,
                **record.costs._asdict(),
                "labelled_fraction": record.labelled_fraction,
                "mIoU": record.miou,
                "accuracy": record.accuracy,
                **records.label_quality(record),
                "iterations": record.iterations,
                "iterations_behind": iterations,
                "label_share": record.label_share,
                **{f"seconds_{name}": seconds for name, seconds in record.seconds.items()},
                **{
                    f"iou_{name}": iou
                    for name, iou in zip(classes, record.per_class_iou, strict=False)
                },
            }
