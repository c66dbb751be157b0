"""From runs to what is reported: curves, areas, label efficiency, wins, gains by class.

Everything is computed from finished runs. The definitions are in the docstrings here, in
docs/compare.md and at the end of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import curves, efficiency
from .curves import COSTS, Point, SeedCurve, Spread, paired, spread
from .efficiency import Baselines, Curves, Efficiency, EndRatio, Retrained
from .plan import FULL, baseline_of
from .results import Comparison, Run


class Area(NamedTuple):
    """Area under the curve of an arm over low..high, the costs that it and its baseline share.
    value: over seeds; baseline: of the baseline; gain: over the baseline of the same seed."""

    low: float
    high: float
    log: bool
    value: Spread | None
    baseline: Spread | None
    gain: Spread | None


class Win(NamedTuple):
    """Row against column: in how many of `total` = seeds x positions the row is better; mean
    difference over the positions, and its spread over seeds."""

    wins: int
    ties: int
    total: int
    difference: Spread


class Gain(NamedTuple):
    """An arm at one cost: mIoU and IoU by class, and the difference of each from the baseline of
    the same seed and from the mean of full supervision."""

    cost: float
    miou: Spread | None
    miou_over_baseline: Spread | None
    classes: tuple[Spread | None, ...]
    over_baseline: tuple[Spread | None, ...]
    over_full: tuple[float | None, ...]


class Full(NamedTuple):
    """Full supervision: mIoU and IoU by class over seeds; iterations of a training."""

    miou: Spread
    classes: tuple[Spread | None, ...]
    iterations: tuple[int, ...]


@dataclass(frozen=True)
class Analysis:
    """What a comparison has found. Inner keys: cost, then arm.

    Args:
        comparison: The runs.
        arms: Those with finished runs that make queries, in order.
        baselines: By arm; a Random arm is its own, None: there is none.
        full: Full supervision, if it was trained.
        costs: Those that differ.
        same: Costs that are left out -> the cost whose curves are the same.
        unknown: By cost, arms that are left out since their cost is not known.
        means: Mean curves.
        areas: Areas under the curves.
        efficiency: Label efficiency along the curves, a list by level.
        ends: Label efficiency after equal training.
        wins: By cost, row and column.
        gains: By class.
        training: By arm: for each seed, the iterations behind each round.
        seconds: By arm: mean seconds per stage.
        retrained: By arm, those trained on the labels of another.
    """

    comparison: Comparison
    arms: tuple[str, ...]
    baselines: Baselines
    full: Full | None
    costs: tuple[str, ...]
    same: Mapping[str, str]
    unknown: Mapping[str, tuple[str, ...]]
    means: Mapping[str, Mapping[str, list[Point]]]
    areas: Mapping[str, Mapping[str, Area]]
    efficiency: Mapping[str, Mapping[str, list[Efficiency]]]
    ends: Mapping[str, Mapping[str, EndRatio]]
    wins: Mapping[str, Mapping[str, Mapping[str, Win]]]
    gains: Mapping[str, Mapping[str, Gain]]
    training: Mapping[str, tuple[tuple[int, ...], ...]]
    seconds: Mapping[str, dict[str, float]]
    retrained: Mapping[str, Retrained]

    def label(self, arm: str) -> str:
        return self.comparison.label(arm)

    def has_baseline(self, arm: str) -> bool:
        """Whether an arm is measured against another."""
        return self.baselines[arm] not in (None, arm)


def analyse(comparison: Comparison, levels: Sequence[float] = (), scale: str = "auto") -> Analysis:
    """Compute everything that a comparison reports.

    Args:
        comparison: Runs, finished or not; only finished ones are used.
        levels: mIoU levels (0..1) of the label efficiency; empty: halfway and last mIoU of random,
            and shares of full supervision.
        scale: Of the cost axis of the areas: 'auto' (logarithmic if costs span more than a factor
            of ten), 'log' or 'linear'.

    Returns:
        The numbers behind every table and figure.
    """
    arms = tuple(arm for arm in comparison.querying if comparison.finished(arm))
    given = {
        a: (comparison.arms[a]["acquisition"], comparison.arms[a].get("baseline")) for a in arms
    }
    baselines = {arm: found if (found := baseline_of(arm, given)) in arms else None for arm in arms}
    runs = {arm: comparison.finished(arm) for arm in (*arms, FULL)}
    full = _full_of(runs[FULL])
    by_cost = {cost: _curves_of(runs, arms, cost) for cost in COSTS}
    same = _same_costs(by_cost)
    costs = tuple(cost for cost in COSTS if cost not in same and by_cost[cost])
    used = {cost: by_cost[cost] for cost in costs}
    means = {
        cost: {
            arm: curves.mean_curve(
                [curve.points for curve in seeds.values()],
                [curve.rounds for curve in seeds.values()],
            )
            for arm, seeds in used[cost].items()
        }
        for cost in costs
    }
    top = full and full.miou
    return Analysis(
        comparison,
        arms,
        baselines,
        full,
        costs,
        same,
        unknown={cost: tuple(a for a in arms if a not in by_cost[cost]) for cost in costs},
        means=means,
        areas={cost: _areas(used[cost], baselines, scale) for cost in costs},
        efficiency={
            cost: efficiency.along_curves(used[cost], means[cost], baselines, top, levels)
            for cost in costs
        },
        ends={
            cost: efficiency.equal_training(comparison, tuple(used[cost]), baselines, cost)
            for cost in costs
        },
        wins={cost: _wins(used[cost]) for cost in costs},
        gains={cost: _gains(runs, cost, used[cost], baselines, full) for cost in costs},
        training={arm: tuple(tuple(run.iterations) for run in runs[arm]) for arm in arms},
        seconds={arm: _stage_seconds(runs[arm]) for arm in arms},
        retrained=efficiency.retrained(comparison, baselines),
    )


def to_json(analysis: Analysis) -> dict[str, Any]:
    """The tables as plain data, for the archive; nothing is read back from it."""
    names = {"curves": "means", "afresh": "retrained"}  # key of format 1 -> attribute
    keys = (
        "baselines costs same full curves areas efficiency ends wins gains training seconds afresh"
    )
    return {key: _plain(getattr(analysis, names.get(key, key))) for key in keys.split()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(item) for key, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def family(arm: str, baselines: Baselines) -> str:
    """The baseline that an arm is measured against; without one, the arm itself."""
    return baselines[arm] or arm


def families(arms: Iterable[str], baselines: Baselines) -> dict[str, list[str]]:
    """Arms by what they are measured against, including the baseline itself."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        found.setdefault(family(arm, baselines), []).append(arm)
    return found


def _curves_of(
    runs: Mapping[str, Sequence[Run]], arms: Iterable[str], cost: str
) -> dict[str, dict[int, SeedCurve]]:
    """Curves over a cost; an arm whose cost is unknown in one of its runs is left out."""
    found = {}
    for arm in arms:
        seeds = {r.seed: line for r in runs[arm] if (line := curves.seed_curve(r, cost))}
        if len(seeds) == len(runs[arm]):
            found[arm] = seeds
    return found


def _same_costs(by_cost: Mapping[str, Curves]) -> dict[str, str]:
    """Costs whose curves are those of an earlier one (at pixel level all three are)."""
    same: dict[str, str] = {}
    for i, cost in enumerate(COSTS):
        for earlier in COSTS[:i]:
            if by_cost[cost] and earlier not in same and by_cost[cost] == by_cost[earlier]:
                same[cost] = earlier
                break
    return same


def _areas(by_arm: Curves, baselines: Baselines, scale: str) -> dict[str, Area]:
    """Area of each arm over the costs that its runs and those of its baseline cover, so that no
    other arm of a grid changes it; no entry when there are none."""
    found: dict[str, Area] = {}
    for arm, seeds in by_arm.items():
        head = family(arm, baselines)
        others = {s: c for s, c in by_arm.get(head, {}).items() if s in seeds}
        shared = _shared_range([*seeds.values(), *others.values()])
        if shared is None:
            continue
        low, high = shared
        log = low > 0 and (scale == "log" or (scale == "auto" and curves.wide(low, high)))
        both = {s: c for s, c in seeds.items() if s in others} or seeds
        mine = {s: curves.area(c.tidy, low, high, log) for s, c in both.items()}
        theirs = {s: curves.area(c.tidy, low, high, log) for s, c in others.items()}
        found[arm] = Area(
            low, high, log, spread(mine.values()), spread(theirs.values()), paired(mine, theirs)
        )
    return found


def _shared_range(lines: Sequence[SeedCurve]) -> tuple[float, float] | None:
    """The costs that all curves cover after round 0, which no strategy has selected: None when one
    has spent less than another's first round costs, since between that and round 0 there is only
    interpolation. Includes round 0 if all have a single round after it, at the same cost."""
    selected = [c.selected for c in lines]
    if curves.overlap(selected) and all(len(line) == 1 for line in selected):
        return curves.common_range([c.tidy for c in lines])
    return curves.common_range(selected)


def _wins(by_arm: Curves) -> dict[str, dict[str, Win]]:
    """Every arm against every other, at equal cost and equal seed (see `curves.positions`)."""
    return {
        row: {col: win for col in by_arm if col != row and (win := _win(by_arm[row], by_arm[col]))}
        for row in by_arm
    }


def _win(row: Mapping[int, SeedCurve], col: Mapping[int, SeedCurve]) -> Win | None:
    seeds = sorted(row.keys() & col.keys())
    costs = curves.positions([by[seed].selected for by in (row, col) for seed in seeds])
    wins = ties = 0
    means = []
    for seed in seeds:
        mine, theirs = row[seed].tidy, col[seed].tidy
        pairs = [(curves.interpolate(mine, at), curves.interpolate(theirs, at)) for at in costs]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        wins += sum(v > 0 for v in values)
        ties += sum(v == 0 for v in values)
        means += [sum(values) / len(values)] if values else []
    difference = spread(means)
    return difference and Win(wins, ties, len(seeds) * len(costs), difference)


def _gains(
    runs: Mapping[str, Sequence[Run]],
    cost: str,
    by_arm: Curves,
    baselines: Baselines,
    full: Full | None,
) -> dict[str, Gain]:
    """IoU by class at the last cost that an arm shares with its baseline."""
    found = {}
    for arm, seeds in by_arm.items():
        head = family(arm, baselines)
        selected = [c.selected for c in (*seeds.values(), *by_arm.get(head, {}).values())]
        if not curves.overlap(selected):
            continue
        at = min(line[-1][0] for line in selected)
        mine, theirs = (
            {r.seed: curves.classes_at(r, cost, at) for r in runs[a]} for a in (arm, head)
        )
        miou = [
            {s: curves.interpolate(c.tidy, at) for s, c in by_arm.get(a, {}).items()}
            for a in (arm, head)
        ]
        every = range(len(runs[arm][0].results.classes))
        classes = tuple(spread(v[c] for v in mine.values()) for c in every)
        over = tuple(
            paired({s: v[c] for s, v in mine.items()}, {s: v[c] for s, v in theirs.items()})
            for c in every
        )
        above = tuple(map(curves.difference, classes, full.classes)) if full else ()
        found[arm] = Gain(at, spread(miou[0].values()), paired(*miou), classes, over, above)
    return found


def _full_of(runs: Sequence[Run]) -> Full | None:
    """Full supervision: the last evaluated round of its runs."""
    last = [run.evaluated[-1] for run in runs]
    miou = spread(record.miou for record in last)
    if miou is None:
        return None
    every = range(len(runs[0].results.classes))
    classes = tuple(spread(curves.class_iou(record, c) for record in last) for c in every)
    return Full(miou, classes, tuple(run.iterations[-1] for run in runs))


def _stage_seconds(runs: Sequence[Run]) -> dict[str, float]:
    """Mean wall-clock seconds of each stage, over all rounds after the (shared) round 0."""
    records = [r for run in runs for r in run.results.records if r.round > 0 and r.seconds]
    names = dict.fromkeys(name for record in records for name in record.seconds)
    return {n: sum(r.seconds.get(n, 0.0) for r in records) / len(records) for n in names}
