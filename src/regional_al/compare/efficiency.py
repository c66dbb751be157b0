"""What labels are worth: label efficiency along curves and after equal training, and retraining.

Along curves an early round of a strategy is compared with a later one of random, which has trained
for longer. Two measures do without that: Random arms of several budgets that train equally long
(`equal_training`), and one training of full length on an arm's final labels (`retrained`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import curves
from .curves import Point, Ratio, Reach, SeedCurve, Spread
from .plan import BASELINE, FULL, heuristic_of, query_type
from .results import Comparison, Run

Curves = Mapping[str, Mapping[int, SeedCurve]]
"""arm -> seed -> curve over one cost."""
Baselines = Mapping[str, str | None]

HALFWAY, LAST = "random, halfway", "random, last round"
SHARES = (0.90, 0.95, 1.0)  # of full supervision


class Efficiency(NamedTuple):
    """Label efficiency at a level: of the mean curves, and over the seeds in which both reach it
    (`reached` of `seeds`). reach: where the arm's own mean curve gets there. A baseline has no
    ratio to itself."""

    name: str
    level: float
    reach: Reach
    ratio: Ratio | None
    seeds: int
    over_seeds: Spread | None

    @property
    def reached(self) -> int:
        return self.over_seeds.n if self.over_seeds else 0


class EndRatio(NamedTuple):
    """Label efficiency after equal training: of the mean ends, and of each seed; baselines: the
    Random arms whose ends it is measured against."""

    baselines: tuple[str, ...]
    ratio: Ratio
    seeds: tuple[Ratio, ...]


class Retrained(NamedTuple):
    """One training on all labels of the arm `source`. pixels, clicks: cost of these; iterations:
    of each seed's training. mIoU, and its difference in the same seed from the source's last round
    (if that has the same labels), from the same training on the labels of its baseline, and from
    full supervision; IoU by class, and its mean minus that of full supervision."""

    source: str
    pixels: Spread | None
    clicks: Spread | None
    iterations: tuple[int, ...]
    miou: Spread | None
    over_rounds: Spread | None
    over_baseline: Spread | None
    over_full: Spread | None
    classes: tuple[Spread | None, ...]
    classes_over_full: tuple[float | None, ...]


def along_curves(
    by_arm: Curves,
    means: Mapping[str, Sequence[Point]],
    baselines: Baselines,
    full: Spread | None,
    levels: Sequence[float],
) -> dict[str, list[Efficiency]]:
    """For every arm with a baseline and every level: the cost that the arm needs, and the cost
    that the baseline needs divided by it. full: mIoU of full supervision."""
    found: dict[str, list[Efficiency]] = {}
    for arm, seeds in by_arm.items():
        head = baselines[arm]
        if head is None or head not in by_arm or not means[head]:
            continue
        mine, theirs = (
            curves.tidy((point.cost, point.mean) for point in means[name]) for name in (arm, head)
        )
        found[arm] = []
        for name, level in _levels(means[head], full, levels):
            there = curves.reach(mine, level)
            if head == arm:
                found[arm].append(Efficiency(name, level, there, None, 0, None))
                continue
            pairs = [
                curves.efficiency(curve.tidy, by_arm[head][seed].tidy, level)
                for seed, curve in seeds.items()
                if seed in by_arm[head]
            ]
            exact = curves.spread(r.value for r in pairs if r.sign in ("=", "~"))
            ratio = curves.efficiency(mine, theirs, level)
            found[arm].append(Efficiency(name, level, there, ratio, len(pairs), exact))
    return found


def _levels(
    baseline: Sequence[Point], full: Spread | None, levels: Sequence[float]
) -> list[tuple[str, float]]:
    """(name, mIoU) of the levels at which label efficiency is measured."""
    if levels:
        return [("as given", level) for level in levels]
    first, last = baseline[0].mean, baseline[-1].mean
    found = [(HALFWAY, (first + last) / 2), (LAST, last)] if last > first else []
    if full is not None:
        found += [(f"{100 * share:.0f} % of full", share * full.mean) for share in SHARES]
    return found


def equal_training(
    comparison: Comparison, arms: Sequence[str], baselines: Baselines, cost: str
) -> dict[str, EndRatio]:
    """By arm, for those whose baseline has counterparts with other budgets: the ends of these are
    the curve that the arm's end is measured against."""

    def ends(arm: str) -> dict[int, tuple[float, float]]:
        """seed -> (cost, mIoU) of the last round."""
        lines = [line for run in comparison.finished(arm) if (line := curves.seed_curve(run, cost))]
        return {line.seed: line.points[-1] for line in lines}

    def is_rival(rival: str, arm: str, head: str) -> bool:
        """A Random arm with the queries of the baseline and the training of the arm."""
        given, theirs, mine = (comparison.arms[name] for name in (rival, head, arm))
        if heuristic_of(given["acquisition"]) != BASELINE:
            return False
        if query_type(given["acquisition"]) != query_type(theirs["acquisition"]):
            return False
        if given.get("recipe") != mine.get("recipe"):
            return False
        runs = (*comparison.finished(rival), *comparison.finished(arm))
        return len({run.iterations[-1] for run in runs}) == 1

    found = {}
    for arm in arms:
        head = baselines[arm]
        if head is None or heuristic_of(comparison.arms[arm]["acquisition"]) == BASELINE:
            continue
        mine, own = ends(arm), ends(head)
        seeds = [seed for seed in mine if seed in own]
        theirs = {rival: ends(rival) for rival in arms if is_rival(rival, arm, head)}
        # A rival with fewer seeds is left out: it would cut all others.
        theirs = {r: by_seed for r, by_seed in theirs.items() if all(s in by_seed for s in seeds)}
        if len(theirs) < 2 or not seeds:
            continue
        by_seed = [_end_ratio(mine[s], [rival[s] for rival in theirs.values()]) for s in seeds]
        means = [_mean([rival[s] for s in seeds]) for rival in theirs.values()]
        ratio = _end_ratio(_mean([mine[s] for s in seeds]), means)
        found[arm] = EndRatio(tuple(theirs), ratio, tuple(by_seed))
    return found


def _end_ratio(mine: tuple[float, float], rivals: Sequence[tuple[float, float]]) -> Ratio:
    """Cost that random needs for `mine`'s mIoU / `mine`'s cost, linear in log cost between the ends
    of the rivals ('~' between two that are far apart); a bound if even the most expensive stays
    below, or the cheapest is above."""
    cost, miou = mine
    there = curves.reach(curves.tidy(rivals), miou)
    between = "~" if there.gap > curves.WIDE_GAP else "="
    sign = {"never": ">=", "start": "<="}.get(there.how, between)
    return Ratio(sign, there.cost / cost) if cost > 0 else Ratio("", None, "no cost")


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    n = len(points)
    return sum(c for c, _ in points) / n, sum(v for _, v in points) / n


def retrained(comparison: Comparison, baselines: Baselines) -> dict[str, Retrained]:
    """The arms with `labels_of`, in their order. baselines: of the arms that make queries."""

    def last(runs: Sequence[Run]) -> dict[int, Run]:
        return {run.seed: run for run in runs}

    def miou(runs: Mapping[int, Run]) -> dict[int, float | None]:
        return {seed: run.evaluated[-1].miou for seed, run in runs.items()}

    def classes(runs: Mapping[int, Run]) -> list[Spread | None]:
        every = range(len(comparison.pool.classes))
        ends = [run.evaluated[-1] for run in runs.values()]
        return [curves.spread(curves.class_iou(record, c) for record in ends) for c in every]

    arms = comparison.arms
    sources = {
        name: str(arm["labels_of"])
        for name, arm in arms.items()
        if arm.get("labels_of") and comparison.finished(name)
    }
    full = last(comparison.finished(FULL))
    found = {}
    for name, source in sources.items():
        mine, rounds = last(comparison.finished(name)), last(comparison.finished(source))
        ends = {seed: run.evaluated[-1] for seed, run in mine.items()}
        same_labels = {
            seed: run
            for seed, run in rounds.items()
            if seed in ends and run.evaluated[-1].costs == ends[seed].costs
        }
        random = next(  # the same training on the labels of the baseline
            (
                other
                for other, labels in sources.items()
                if labels == baselines.get(source) and arms[other]["recipe"] == arms[name]["recipe"]
            ),
            name,
        )
        theirs = {} if random == name else last(comparison.finished(random))
        clicks = [record.costs.clicks for record in ends.values()]
        by_class, tops = classes(mine), classes(full)
        found[name] = Retrained(
            source,
            curves.spread(record.costs.pixels for record in ends.values()),
            None if None in clicks else curves.spread(clicks),
            tuple(record.iterations for record in ends.values()),
            curves.spread(miou(mine).values()),
            curves.paired(miou(mine), miou(same_labels)),
            curves.paired(miou(mine), miou(theirs)),
            curves.paired(miou(mine), miou(full)),
            tuple(by_class),
            tuple(map(curves.difference, by_class, tops)),
        )
    return found
