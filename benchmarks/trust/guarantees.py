"""What picks may depend on: neither labels that nobody gave, nor the number of processes."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jobs import Launcher, Setup, different, ending

from regional_al.heuristics import HEURISTICS
from regional_al.heuristics.catalogue import example_of
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.work_dir import WorkDir
from regional_al.testing import streets

Row = dict[str, Any]
_ITERATIONS = 6
_CLICKS = 40  # a round, of those documented in clicks, which are meant for larger pools
_BUDGETS: dict[str, Any] = {
    "image": {"amount": 1, "unit": "image"},
    "region": "4%",
    "pixel": 5,
}


def strategies() -> dict[str, dict[str, Any]]:
    """The documented `acquisition` of every heuristic, for two rounds over a small pool."""
    found = {}
    for name in HEURISTICS:
        example = example_of(name)
        region = (
            {"region": {"type": "slic", "n_segments": 40}} if example["level"] == "region" else {}
        )
        budget = _BUDGETS[example["level"]]
        if "budget" in example:
            budget = {**example["budget"], "amount": _CLICKS}
        found[name] = {**region, **example, "budget": budget, "rounds": 2, "previews": 0}
    return found


def leakage(launcher: Launcher, setup: Setup, folder: Path, names: list[str], seed: int) -> Row:
    """Every heuristic twice: with the true masks, and with masks in which all pixels that the
    first run did not query have another class. Picks, labels and weights must be the same."""

    def twice(name: str, spec: dict[str, Any]) -> str | None:
        one, other = folder / f"leak-{name}-true", folder / f"leak-{name}-false"
        first = replace(setup, acquisition=spec, iterations=_ITERATIONS)
        job = launcher.run(first, one)
        if job.processes[0].exitcode:
            return f"{name}: {job.said()[-300:]}"
        changed = _with_false_masks(setup.data, one, folder / f"leak-{name}-data", seed)
        second = replace(first, data=changed)
        job = launcher.run(second, other)
        if job.processes[0].exitcode:
            return f"{name}, false masks: {job.said()[-300:]}"
        wrong = different(ending(one), ending(other))
        for path in (one, other, changed):
            shutil.rmtree(path)
        return f"{name}: {wrong[:3]}" if wrong else None

    chosen = {name: spec for name, spec in strategies().items() if name in names or not names}
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda item: twice(*item), chosen.items()))
    failures = [failure for failure in found if failure is not None]
    return {
        "part": "leakage: masks changed where nobody was asked",
        "tried": len(chosen),
        "failures": failures,
    }


def _with_false_masks(data: Path, work_dir: Path, copy: Path, seed: int) -> Path:
    """A copy of the data whose masks have another class wherever the run did not ask."""
    rng = np.random.default_rng(seed)
    shutil.copytree(data, copy)
    store = LabelStore(WorkDir(work_dir).labels)
    classes = len(streets.CLASSES)
    for path in sorted((copy / "annotations/train").iterdir()):
        truth = read_ids(path)
        asked = store.annotated(path.stem)
        free = np.ones(truth.shape, bool) if asked is None else asked == 0
        shift = rng.integers(1, classes, truth.shape)
        false = np.where(truth < classes, (truth + shift) % classes, shift).astype(np.uint8)
        write_png(path, np.where(free, false, truth))
    return copy


def process_counts(
    launcher: Launcher, setup: Setup, folder: Path, names: list[str], counts: tuple[int, ...]
) -> Row:
    """Every heuristic with 1, 2 and 4 processes that train the same weights: the same end."""

    def each(name: str, spec: dict[str, Any]) -> tuple[int, list[str]]:
        ends = {}
        for ranks in counts:
            work_dir = folder / f"ranks-{name}-{ranks}"
            short = replace(setup, acquisition=spec, iterations=_ITERATIONS)
            job = launcher.run(short, work_dir, ranks)
            if job.processes[0].exitcode:
                return len(ends), [f"{name}, {ranks} processes: {job.said()[-300:]}"]
            ends[ranks] = ending(work_dir)
            shutil.rmtree(work_dir)
        wrong = {n: different(ends[counts[0]], ends[n])[:3] for n in ends}
        failures = [f"{name}, {n} processes: {what}" for n, what in wrong.items() if what]
        return len(ends) - 1, failures

    chosen = {name: spec for name, spec in strategies().items() if name in names or not names}
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda item: each(*item), chosen.items()))
    tried = sum(one for one, _ in found)
    failures = [failure for _, more in found for failure in more]
    name = ", ".join(map(str, counts))
    return {"part": f"the same with {name} processes", "tried": tried, "failures": failures}
