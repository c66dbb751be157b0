"""Folders of grids made up from numbers: no model, no training.

`python tests/helpers/compare_runs.py OUT` writes one to look at, six arms of three seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regional_al.compare import state
from regional_al.compare.plan import Arm, Grid, run_dir
from regional_al.config import grammar
from regional_al.store import results as records
from regional_al.store.results import Record, Results
from regional_al.types import Costs

CLASSES = ("road", "pavement", "house", "tree", "sky", "sign")
PALETTE = tuple((40 * c, 90, 200 - 30 * c) for c in range(6))
PIXELS, IMAGES = 1_000_000, 50
SECONDS = {"score": 8.4, "select": 0.31, "annotate": 0.9, "fit": 61.0, "evaluate": 4.2}


def arm(name: str, start: str | None = "_start", **acquisition: Any) -> Arm:
    """An arm of a config that does not exist. A key that is not given is the grammar's default."""
    given = {"heuristic": name.split("_")[0], **acquisition}
    return Arm(name, name, Path("config.py"), "abc", given, start)


def retrained(name: str, labels_of: str, label: str = "") -> Arm:
    """A training on the labels of another arm."""
    idle = {"level": "image", "heuristic": "Random", "rounds": 0}
    return Arm(name, label or name, Path("full.py"), "full", idle, labels_of=labels_of)


def record(
    round_: int,
    pixels: int,
    miou: float | None,
    clicks: int | None = 0,
    regions: int = 0,
    per_class: Sequence[float | None] = (),
    iterations: int = 300,
    **more: Any,
) -> Record:
    """A round whose classes all have its mIoU unless they are given."""
    costs = Costs(min(IMAGES, 1 + round_), regions, pixels, clicks)
    classes = tuple(per_class) or (miou,) * len(CLASSES)
    seconds = more.pop("seconds", {"fit": 10.0 * round_, "score": 2.0})
    return Record(
        round_,
        costs,
        costs,
        pixels / PIXELS,
        miou,
        classes,
        iterations=iterations,
        seconds=seconds,
        **more,
    )


def write_run(
    out: Path,
    made: Arm,
    seed: int,
    rounds: Sequence[Record],
    stopped: str | None = "all done",
) -> None:
    """A run's results.json where the grid puts it."""
    given = {**made.acquisition, "seed": seed}
    for key, other in (("run", made.start), ("labels", made.labels_of)):
        if other:
            given["warm_start"] = {key: str(run_dir(out, other, seed).resolve())}
    results = Results(
        "config",
        grammar.parse(given).resolved,
        CLASSES,
        PALETTE,
        (*range(6), *[-1] * 249, 255),
        IMAGES,
        PIXELS,
        "mmseg1",
        1,
        tuple(rounds),
        stopped,
    )
    records.write(run_dir(out, made.name, seed), results)


def write_grid(
    out: Path,
    runs: Mapping[Arm, Mapping[int, Sequence[Record]]] | list[Any],
    extra: Sequence[Arm] = (),
    **how: Any,
) -> None:
    """grid.json and the runs of (arm, {seed: records}) pairs."""
    pairs = list(runs.items()) if isinstance(runs, Mapping) else runs
    seeds = tuple(sorted({seed for _, by_seed in pairs for seed in by_seed}))
    arms = tuple(a for a, _ in pairs if not a.name.startswith("_"))
    extra = (*extra, *(a for a, _ in pairs if a.name.startswith("_")))
    state.remember(out, Grid(arms, extra, seeds), "made_up", {"processes": 1, "options": [], **how})
    for made, by_seed in pairs:
        for seed, rounds in by_seed.items():
            write_run(out, made, seed, rounds)


COSTS = (100, 200, 400)
RANDOM = {0: (0.20, 0.30, 0.40), 1: (0.22, 0.32, 0.42)}
BETTER = {0: (0.20, 0.40, 0.44), 1: (0.22, 0.38, 0.46)}
FULL = {0: 0.45, 1: 0.47}


def rounds(mious: Any, clicks: float | None = 2, **more: Any) -> list[Any]:
    """Rounds of 100, 200 and 400 pixels, as many visits, `clicks` times as many clicks."""
    return [
        record(r, c, m, None if clicks is None else int(clicks * c), c, **more)
        for r, (c, m) in enumerate(zip(COSTS, mious, strict=True))
    ]


def two(out: Path, **more: Any) -> None:
    """Random, RIPU and full supervision, two seeds."""
    write_grid(
        out,
        [
            (arm("Random"), {s: rounds(m) for s, m in RANDOM.items()}),
            (arm("RIPU", **more), {s: rounds(m, 3) for s, m in BETTER.items()}),
            (
                arm("_full", None, heuristic="Random", level="image", rounds=0),
                {s: [record(0, 1000, m, 50, 50)] for s, m in FULL.items()},
            ),
        ],
    )


def plausible(
    seed: int, gain: float, tag: int, rounds: int = 5, step: int = 10_000
) -> list[Record]:
    """A saturating curve: `gain` points of mIoU (0..1) above random in the middle."""
    rng = np.random.default_rng([seed, tag])
    first = np.random.default_rng([seed, 99])
    made = []
    for r in range(rounds + 1):
        source = first if r == 0 else rng
        level = 0.50 - 0.22 * 0.62**r + gain * min(r, 3) / 3 + source.normal(0, 0.006)
        offsets = np.array([0.35, 0.2, 0.1, 0.05, 0.3, -0.3]) - 0.117
        lift = gain * min(r, 3) / 3 * np.array([-1, 0, 0, 1, -0.5, 4])
        classes = np.clip(level + offsets + lift + source.normal(0, 0.01, 6), 0, 1)
        pixels = (step * (r + 1)) - int(source.integers(0, 60))
        clicks = int(pixels * (0.012 + 0.05 * max(gain, 0)))
        seconds = SECONDS if gain else {**SECONDS, "score": 0.1}
        made.append(
            record(
                r,
                pixels,
                float(classes.mean()),
                clicks,
                pixels // 130,
                classes.tolist(),
                seconds=seconds,
            )
        )
    return made


def example(out: Path) -> None:
    """Six arms, full supervision, one run under way, one that failed."""
    window = {"region": {"type": "window", "radius": 1}}
    gains = [
        (arm("Random"), 0.0),
        (arm("Random_window", **window), 0.015),
        (arm("Margin"), 0.02),
        (arm("RIPU"), 0.035),
        (arm("RIPU_window", **window), 0.05),
        (arm("Entropy"), -0.02),
    ]
    pairs: list[Any] = [
        (made, {seed: plausible(seed, gain, i) for seed in range(3)})
        for i, (made, gain) in enumerate(gains)
    ]
    everything = arm("_full", None, heuristic="Random", level="image", rounds=0)
    tops = {s: [record(0, PIXELS, 0.53 + 0.004 * s, 9000, 50)] for s in range(3)}
    ends = [
        (
            retrained(f"{name}_retrained", name),
            {s: [record(0, 59_960, gain + 0.005 * s, 744, 461)] for s in range(3)},
        )
        for name, gain in (("Random", 0.5), ("RIPU", 0.545))
    ]
    write_grid(out, [*pairs, (everything, tops), *ends])
    write_run(out, gains[5][0], 2, plausible(2, -0.02, 5)[:3], None)
    note = {"machine": {}, "attempts": [{"exit_code": 2, "error": "no space left"}]}
    state.write_json(state.note_path(out, "Entropy", 2), note)


if __name__ == "__main__":
    example(Path(sys.argv[1]))
