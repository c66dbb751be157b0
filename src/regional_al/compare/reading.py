"""The runs of a grid as typed data, read from their folders; several of them merged into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..store import results as records
from ..store.results import Record, Results
from ..types import JSON
from . import state
from .grid import START, cell_dir


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


@dataclass(frozen=True)
class Comparison:
    """Runs of one pool and one set of classes. arms: definitions by name, in order (see
    `state.definition`); runs: every one that has left something, the starts' left out; missing:
    in words, those that have left nothing."""

    title: str
    arms: Mapping[str, JSON]
    runs: tuple[Run, ...]
    options: tuple[str, ...] = ()
    processes: int = 1
    missing: tuple[str, ...] = ()

    @property
    def asking(self) -> tuple[str, ...]:
        """Arms that ask: neither full supervision nor trained on the labels of another."""
        arms = self.arms.items()
        return tuple(n for n, a in arms if not n.startswith("_") and not a.get("labels_of"))

    @property
    def pool(self) -> Results:
        """Any run's head: classes, palette, size of the pool."""
        return self.runs[0].results

    def finished(self, arm: str) -> list[Run]:
        """The runs of an arm that are drawn, by seed."""
        found = (r for r in self.runs if r.arm == arm and r.state == "finished" and r.evaluated)
        return sorted(found, key=lambda run: run.seed)


def collect(out: Path) -> Comparison:
    """Everything that lies in the folder of a grid. Raises WorkDirError when it is none."""
    grid = state.read(out)
    arms = {name: value for name, value in grid["arms"].items() if not name.startswith(START)}
    runs, missing = [], []
    for arm, definition in arms.items():
        for seed in definition["seeds"]:
            run = _run_of(out, arm, seed, definition)
            if run is not None:
                runs.append(run)
                continue
            error = _last_error(state.read_note(out, arm, seed))
            missing.append(f"{arm} seed {seed}" + (error and f" ({error})"))
    how = grid["how"]
    return checked(
        Comparison(
            grid["title"],
            arms,
            tuple(runs),
            tuple(how.get("options", ())),
            int(how.get("processes", 1)),
            tuple(missing),
        ),
        str(out),
    )


def _run_of(out: Path, arm: str, seed: int, definition: Mapping[str, Any]) -> Run | None:
    folder = cell_dir(out, arm, seed)
    if not (folder / records.FILE).is_file():
        return None
    results = records.load(folder)
    note = state.read_note(out, arm, seed)
    error = _last_error(note)
    wanted = definition["acquisition"]
    queries = wanted.get("queries")
    rounds = int(wanted.get("rounds", len(queries) if queries else 5))
    status, why = "under way", ""
    if state.complete(results, rounds, wanted.get("stop")):
        status = "finished"
    elif error:
        status, why = "failed", error
    return Run(arm, seed, results, status, why, dict(note.get("machine") or {}))


def _last_error(note: Mapping[str, Any]) -> str:
    """What the last attempt failed with, '' when it did not."""
    return str((note.get("attempts") or [{}])[-1].get("error", ""))


def merge(parts: Sequence[tuple[str, Comparison]]) -> Comparison:
    """Several comparisons as one: arms of all, runs of all. (name of the file, its content).

    The same run may be in several; the one with more rounds is taken. Raises DataError when what
    has one name is not one thing: arms, classes, pool, or the numbers of a run.
    """
    (_, first), *_ = parts
    arms: dict[str, JSON] = {}
    runs: dict[tuple[str, int], tuple[str, Run]] = {}
    for where, part in parts:
        _same_data(where, parts[0][0], part.pool, first.pool)
        for name, arm in part.arms.items():
            if name in arms:
                state.refuse_change(
                    f"{where}: arm {name!r} (elsewhere the same name)", arms[name], arm
                )
            arms.setdefault(name, arm)
        for run in part.runs:
            place = (run.arm, run.seed)
            if place in runs:
                run = _one_of(runs[place], (where, run))
            runs[place] = (where, run)
    whole = replace(first, arms=arms, runs=tuple(run for _, run in runs.values()))
    return replace(
        whole,
        title=" + ".join(dict.fromkeys(part.title for _, part in parts)),
        options=tuple(dict.fromkeys(option for _, part in parts for option in part.options)),
        missing=(),  # what one file lacks another may hold
    )


def _one_of(old: tuple[str, Run], new: tuple[str, Run]) -> Run:
    """The longer of two versions of one run."""
    (there, a), (here, b) = old, new
    for r, s in zip(a.results.records, b.results.records, strict=False):
        if (r.round, r.costs, r.miou) != (s.round, s.costs, s.miou):
            raise DataError(
                f"{here} and {there} hold different numbers of {a.arm} seed {a.seed} in round "
                f"{s.round}: leave one of the files out, or rename the arm in one"
            )
    return a if len(a.results.records) >= len(b.results.records) else b


def checked(comparison: Comparison, where: str) -> Comparison:
    """Refuse runs of different pools or classes. Raises DataError."""
    if not comparison.runs:
        raise DataError(f"{where}: no run has left results yet")
    for run in comparison.runs:
        _same_data(f"{where}: {run.arm} seed {run.seed}", where, run.results, comparison.pool)
    return comparison


def _same_data(where: str, there: str, mine: Results, theirs: Results) -> None:
    what = (
        ("classes", mine.classes, theirs.classes),
        ("images in the pool", mine.pool_images, theirs.pool_images),
        ("pixels in the pool", mine.pool_pixels, theirs.pool_pixels),
    )
    for name, a, b in what:
        if a != b:
            here, other = (
                (len(a), len(b)) if isinstance(a, tuple) and isinstance(b, tuple) else (a, b)
            )
            raise DataError(
                f"{where} has other {name} than {there} ({here}, {other}): not comparable"
            )


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know before trusting the curves."""
    found = []
    named = {name: comparison.arms[name] for name in comparison.asking}
    recipes = {arm.get("recipe") for arm in named.values()}
    if len(recipes) > 1:
        found.append(
            f"The arms were trained under {len(recipes)} different training configs; differences "
            "between them are not due to the labels alone."
        )
    own = [name for name, arm in named.items() if not arm.get("start")]
    if own and len(own) < len(named):
        found.append(f"With a round 0 of their own, not the shared one: {', '.join(own)}.")
    for status in ("under way", "failed"):
        runs = [r for r in comparison.runs if r.state == status]
        if runs:
            names = ", ".join(f"{r.arm} seed {r.seed}" + (r.why and f" ({r.why})") for r in runs)
            found.append(f"Not drawn, {status}: {names}.")
    if comparison.missing:
        found.append(f"Not there yet: {', '.join(comparison.missing)}.")
    return found
