"""Label efficiency after equal training: against Random arms of several budgets, at their ends.

Along curves a strategy's early round is set against a later one of random, which has trained for
longer. Arms that ask at random alike but with more labels a round, and train as long, have no such
advantage: their ends are the curve that a strategy's end is measured with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import curves
from .curves import Ratio
from .findings import EndRatio
from .grid import BASELINE, heuristic_of, unit_of
from .measures import seed_curve, trained
from .reading import Comparison

Ends = Mapping[int, tuple[float, float]]
"""seed -> (cost, mIoU) of the last round."""


def end_ratios(
    comparison: Comparison, arms: Sequence[str], baselines: Mapping[str, str | None], cost: str
) -> dict[str, EndRatio]:
    """By arm, for those whose baseline has a like with another budget."""
    found = {}
    for arm in arms:
        head = baselines[arm]
        if head is None or heuristic_of(comparison.arms[arm]["acquisition"]) == BASELINE:
            continue
        rivals = [a for a in arms if _rival(comparison, a, head) and _trains_as(comparison, a, arm)]
        mine, own = ends(comparison, arm, cost), ends(comparison, head, cost)
        seeds = [s for s in mine if s in own]  # what has fewer is left out: it would cut all others
        rivals = [a for a in rivals if all(s in ends(comparison, a, cost) for s in seeds)]
        if len(rivals) < 2 or not seeds:
            continue
        theirs = [ends(comparison, rival, cost) for rival in rivals]
        by_seed = [ratio(mine[s], [their[s] for their in theirs]) for s in seeds]
        means = [mean([their[s] for s in seeds]) for their in theirs]
        whole = ratio(mean([mine[s] for s in seeds]), means)
        found[arm] = EndRatio(tuple(rivals), whole, tuple(by_seed))
    return found


def ratio(mine: tuple[float, float], rivals: Sequence[tuple[float, float]]) -> Ratio:
    """Cost that random needs for `mine`'s mIoU / `mine`'s cost, linear in log cost between the ends
    of the rivals ('~' between two that are far apart); a bound where even the dearest stays below,
    or the cheapest is above."""
    cost, miou = mine
    there = curves.reach(curves.tidy(rivals), miou)
    between = "~" if there.gap > curves.ROUGH else "="
    sign = {"never": ">=", "start": "<="}.get(there.how, between)
    return Ratio(sign, there.cost / cost) if cost > 0 else Ratio("", None, "no cost")


def ends(comparison: Comparison, arm: str, cost: str) -> Ends:
    lines = [line for run in comparison.finished(arm) if (line := seed_curve(run, cost))]
    return {line.seed: line.points[-1] for line in lines}


def mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    n = len(points)
    return sum(c for c, _ in points) / n, sum(v for _, v in points) / n


def _rival(comparison: Comparison, arm: str, head: str) -> bool:
    """Whether an arm asks at random, the same questions as `head`."""
    mine, theirs = (comparison.arms[name]["acquisition"] for name in (arm, head))
    return heuristic_of(mine) == BASELINE and unit_of(mine) == unit_of(theirs)


def _trains_as(comparison: Comparison, arm: str, other: str) -> bool:
    """The same recipe, and as many iterations behind the last rounds."""
    if comparison.arms[arm].get("recipe") != comparison.arms[other].get("recipe"):
        return False
    last = [{trained(run)[-1] for run in comparison.finished(name)} for name in (arm, other)]
    return len(last[0] | last[1]) == 1
