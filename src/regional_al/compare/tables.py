"""From runs to what is reported: curves, areas, label efficiency, wins, gains by class.

Everything is computed from finished runs; the definitions are in the docstrings here, in
docs/compare.md and at the foot of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import curves
from .afresh import afresh_of
from .curves import Point, Spread, known, paired
from .equal_training import end_ratios
from .findings import Analysis, Area, Efficiency, Full, Gain, Win
from .grid import FULL, baseline_of
from .measures import COSTS, SeedCurve, class_at, class_iou, seed_curve, stage_seconds, trained
from .reading import Comparison, Run

Curves = Mapping[str, Mapping[int, SeedCurve]]
"""arm -> seed -> curve over one cost."""

HALFWAY, LAST = "halfway of random", "last of random"
SHARES = (0.90, 0.95, 1.0)  # of full supervision


def analyse(comparison: Comparison, levels: Sequence[float] = (), scale: str = "auto") -> Analysis:
    """All tables. levels: mIoU levels (0..1) of the efficiency table, () = halfway and last mIoU of
    random, and shares of full supervision. scale: 'auto' | 'log' | 'linear' of the areas."""
    arms = tuple(arm for arm in comparison.asking if comparison.finished(arm))
    asked = {
        a: (comparison.arms[a]["acquisition"], comparison.arms[a].get("baseline")) for a in arms
    }
    baselines = {arm: found if (found := baseline_of(arm, asked)) in arms else None for arm in arms}
    full = full_of(comparison.finished(FULL)) if FULL in comparison.arms else None
    by_cost = {cost: curves_of(comparison, arms, cost) for cost in COSTS}
    same = equal_costs(by_cost)
    costs = tuple(cost for cost in COSTS if cost not in same and by_cost[cost])
    used = {cost: by_cost[cost] for cost in costs}
    means = {cost: {a: mean_of(s.values()) for a, s in used[cost].items()} for cost in costs}
    areas = {cost: areas_of(used[cost], baselines, scale) for cost in costs}
    return Analysis(
        comparison,
        arms,
        baselines,
        full,
        costs,
        same,
        {cost: tuple(a for a in arms if a not in by_cost[cost]) for cost in costs},
        means,
        areas,
        {c: efficiencies(used[c], means[c], baselines, full, levels) for c in costs},
        {c: end_ratios(comparison, tuple(used[c]), baselines, c) for c in costs},
        {cost: wins_of(used[cost]) for cost in costs},
        {cost: gains_of(comparison, cost, used[cost], baselines, full) for cost in costs},
        {arm: tuple(tuple(trained(run)) for run in comparison.finished(arm)) for arm in arms},
        {arm: stage_seconds(comparison.finished(arm)) for arm in arms},
        afresh_of(comparison, baselines),
    )


def curves_of(comparison: Comparison, arms: Iterable[str], cost: str) -> dict[str, Any]:
    """Curves over a cost; an arm that does not know it in one of its runs is left out."""
    found = {}
    for arm in arms:
        seeds = {run.seed: seed_curve(run, cost) for run in comparison.finished(arm)}
        if all(curve is not None for curve in seeds.values()):
            found[arm] = seeds
    return found


def equal_costs(by_cost: Mapping[str, Curves]) -> dict[str, str]:
    """Costs whose curves are those of an earlier one (at pixel level all three are)."""
    same: dict[str, str] = {}
    for i, cost in enumerate(COSTS):
        for earlier in COSTS[:i]:
            if by_cost[cost] and earlier not in same and by_cost[cost] == by_cost[earlier]:
                same[cost] = earlier
                break
    return same


def mean_of(seeds: Iterable[SeedCurve]) -> list[Point]:
    kept = list(seeds)
    return curves.mean_curve([s.points for s in kept], [s.rounds for s in kept])


def family(arm: str, baselines: Mapping[str, str | None]) -> str:
    """The baseline that an arm is measured against; without one, the arm itself."""
    return baselines[arm] or arm


def families(arms: Iterable[str], baselines: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Arms by what they are measured against, the baseline among them."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        found.setdefault(family(arm, baselines), []).append(arm)
    return found


def areas_of(by_arm: Curves, baselines: Mapping[str, str | None], scale: str) -> dict[str, Area]:
    """Area of each arm over the costs that its runs and those of its baseline cover, so that no
    other arm of a grid changes it; no entry when there are none."""
    found: dict[str, Area] = {}
    for arm, seeds in by_arm.items():
        head = family(arm, baselines)
        others = {s: c for s, c in by_arm.get(head, {}).items() if s in seeds}
        shared = shared_range([*seeds.values(), *others.values()])
        if shared is None:
            continue
        low, high = shared
        log = low > 0 and (scale == "log" or (scale == "auto" and curves.wide(low, high)))
        both = {s: c for s, c in seeds.items() if s in others} or seeds
        mine = {s: curves.area(c.tidy, low, high, log) for s, c in both.items()}
        theirs = {s: curves.area(c.tidy, low, high, log) for s, c in others.items()}
        found[arm] = Area(
            low, high, log, known(mine.values()), known(theirs.values()), paired(mine, theirs)
        )
    return found


def shared_range(lines: Sequence[SeedCurve]) -> tuple[float, float] | None:
    """The costs that all curves cover after round 0, which no strategy has chosen: None when one
    has spent less than another's first round costs, since between that and round 0 there is only
    interpolation. With round 0 where all have a single round after it, at the same cost."""
    chosen = [c.chosen for c in lines]
    if curves.touch(chosen) and all(len(line) == 1 for line in chosen):
        return curves.common_range([c.tidy for c in lines])
    return curves.common_range(chosen)


def efficiencies(
    by_arm: Curves,
    means: Mapping[str, Sequence[Point]],
    baselines: Mapping[str, str | None],
    full: Full | None,
    levels: Sequence[float],
) -> dict[str, list[Efficiency]]:
    """What every arm with a baseline needs for each level, and what the baseline needs / that."""
    found: dict[str, list[Efficiency]] = {}
    for arm, seeds in by_arm.items():
        head = baselines[arm]
        if head is None or head not in by_arm or not means[head]:
            continue
        mine, theirs = _line(means[arm]), _line(means[head])
        rows = []
        for name, level in levels_of(means[head], full, levels):
            if head == arm:
                rows.append(Efficiency(name, level, curves.reach(mine, level), None, 0, None))
                continue
            pairs = [
                curves.efficiency(curve.tidy, by_arm[head][seed].tidy, level)
                for seed, curve in seeds.items()
                if seed in by_arm[head]
            ]
            exact = [r.value for r in pairs if r.sign in ("=", "~") and r.value is not None]
            ratio = curves.efficiency(mine, theirs, level)
            there = curves.reach(mine, level)
            rows.append(Efficiency(name, level, there, ratio, len(pairs), curves.spread(exact)))
        found[arm] = rows
    return found


def levels_of(
    baseline: Sequence[Point], full: Full | None, levels: Sequence[float]
) -> list[tuple[str, float]]:
    """(name, mIoU) of the levels of the efficiency table."""
    if levels:
        return [("as given", level) for level in levels]
    first, last = baseline[0].mean, baseline[-1].mean
    found = [(HALFWAY, (first + last) / 2), (LAST, last)] if last > first else []
    if full is not None:
        found += [(f"{100 * share:.0f} % of full", share * full.miou.mean) for share in SHARES]
    return found


def wins_of(by_arm: Curves) -> dict[str, dict[str, Win]]:
    """Every arm against every other, at equal cost and equal seed (see `curves.positions`)."""
    return {
        row: {col: win for col in by_arm if col != row and (win := _win(by_arm[row], by_arm[col]))}
        for row in by_arm
    }


def _win(row: Mapping[int, SeedCurve], col: Mapping[int, SeedCurve]) -> Win | None:
    seeds = sorted(row.keys() & col.keys())
    places = curves.positions([by[seed].chosen for by in (row, col) for seed in seeds])
    wins = ties = 0
    means = []
    for seed in seeds:
        mine, theirs = row[seed].tidy, col[seed].tidy
        pairs = [(curves.interpolate(mine, at), curves.interpolate(theirs, at)) for at in places]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        wins += sum(v > 0 for v in values)
        ties += sum(v == 0 for v in values)
        means += [sum(values) / len(values)] if values else []
    difference = curves.spread(means)
    return difference and Win(wins, ties, len(seeds) * len(places), difference)


def gains_of(
    comparison: Comparison,
    cost: str,
    by_arm: Curves,
    baselines: Mapping[str, str | None],
    full: Full | None,
) -> dict[str, Gain]:
    """IoU by class at the last cost that an arm shares with its baseline."""
    runs = {arm: comparison.finished(arm) for arm in by_arm}
    every = range(len(comparison.pool.classes))
    found = {}
    for arm, seeds in by_arm.items():
        head = family(arm, baselines)
        chosen = [c.chosen for c in (*seeds.values(), *by_arm.get(head, {}).values())]
        if not curves.touch(chosen):
            continue
        at = min(line[-1][0] for line in chosen)
        by_class, miou = [], []
        for a in (arm, head):
            by_class.append({r.seed: class_at(r, cost, at) for r in runs.get(a, ())})
            lines = {r.seed: seed_curve(r, cost) for r in runs.get(a, ())}
            miou.append({s: c and curves.interpolate(c.tidy, at) for s, c in lines.items()})
        mine, theirs = by_class
        classes = tuple(known(v[c] for v in mine.values()) for c in every)
        over = tuple(
            paired({s: v[c] for s, v in mine.items()}, {s: v[c] for s, v in theirs.items()})
            for c in every
        )
        above = (
            tuple(_above(a, b) for a, b in zip(classes, full.classes, strict=True)) if full else ()
        )
        found[arm] = Gain(at, known(miou[0].values()), paired(*miou), classes, over, above)
    return found


def full_of(runs: Sequence[Run]) -> Full | None:
    """Full supervision: the last evaluated round of its runs."""
    last = [run.evaluated[-1] for run in runs]
    miou = curves.spread(record.miou for record in last if record.miou is not None)
    if miou is None:
        return None
    every = range(len(runs[0].results.classes))
    classes = tuple(known(class_iou(record, c) for record in last) for c in every)
    return Full(miou, classes, tuple(trained(run)[-1] for run in runs))


def _line(points: Sequence[Point]) -> list[tuple[float, float]]:
    return curves.tidy((point.cost, point.mean) for point in points)


def _above(a: Spread | None, b: Spread | None) -> float | None:
    return None if a is None or b is None else a.mean - b.mean
