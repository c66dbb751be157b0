"""Curves of mIoU over annotation cost: arithmetic on points, and the curves of a run.

A curve is a list of (cost, value) points with rising costs; `tidy` makes one. Nothing is ever
extrapolated: outside the costs that a curve covers the answer is None.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..store.results import Record
from .results import Run

Curve = Sequence[tuple[float, float]]

COSTS = ("pixels", "clicks", "regions", "annotation_seconds")
"""Costs that curves are drawn over; regions are annotation visits."""
WIDE_GAP = 3.0  # ratio of costs from which a value between two points is only a rough estimate
SAME_COST = 0.05  # costs that differ by less than this share count as one position
_ROUNDING = 1e-9  # relative; costs that are equal except for rounding


class Spread(NamedTuple):
    """mean and sample standard deviation (divisor n - 1; None for n = 1) of n values."""

    mean: float
    std: float | None
    n: int

    @property
    def clear(self) -> bool:
        """Whether the mean is further from 0 than one deviation; never for a single value."""
        return self.std is not None and abs(self.mean) > self.std


class Point(NamedTuple):
    """One round of an arm: mean cost, and mean and spread of the value over its seeds."""

    round: int
    cost: float
    mean: float
    std: float | None
    n: int

    @property
    def spread(self) -> Spread:
        return Spread(self.mean, self.std, self.n)


class Reach(NamedTuple):
    """Where a curve first reaches a level. how: 'reached' between two points (cost is exact up to
    interpolation); 'start' by the first point (cost is its cost, an upper bound); 'never' within
    the curve (cost is its last cost: the true one is higher, or there is none). gap: ratio of the
    costs of the two points."""

    how: str
    cost: float
    gap: float = 1.0


class Ratio(NamedTuple):
    """Label efficiency: cost of the baseline / cost of the method for the same level.

    sign: '=' between points; '~' likewise, but the points are more than `WIDE_GAP` apart, so the
    interpolation decides; '>=' a lower bound, since the baseline never gets there, or the method
    starts there; '<=' an upper bound, since the baseline starts there; '' not defined: value is
    None, for the reason `why`.
    """

    sign: str
    value: float | None
    why: str = ""


class SeedCurve(NamedTuple):
    """One run over one cost. points: (cost, mIoU) of the evaluated rounds, in their order."""

    seed: int
    rounds: tuple[int, ...]
    points: tuple[tuple[float, float], ...]

    @property
    def tidy(self) -> list[tuple[float, float]]:
        return tidy(self.points)

    @property
    def selected(self) -> list[tuple[float, float]]:
        """Without round 0, which no strategy has selected."""
        return tidy(p for r, p in zip(self.rounds, self.points, strict=True) if r > 0)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean, sample standard deviation and count of the values that are not None, if any.

    Example:
        >>> spread([1.0, None, 3.0])
        Spread(mean=2.0, std=1.4142135623730951, n=2)
    """
    kept = [value for value in values if value is not None]
    if not kept:
        return None
    n, mean = len(kept), math.fsum(kept) / len(kept)
    if n == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in kept) / (n - 1)), n)


def paired(mine: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> Spread | None:
    """Spread of the differences between values of the same seed."""
    pairs = [(value, theirs.get(seed)) for seed, value in mine.items()]
    return spread(None if a is None or b is None else a - b for a, b in pairs)


def difference(a: Spread | None, b: Spread | None) -> float | None:
    """Difference of the means."""
    return None if a is None or b is None else a.mean - b.mean


def tidy(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorted by cost; of equal costs the last point is kept (a round without new labels)."""
    return sorted({float(cost): float(value) for cost, value in points}.items())


def wide(low: float, high: float) -> bool:
    """Whether costs from low to high are better shown on a logarithmic scale."""
    return low > 0 and high > 10 * low


def interpolate(curve: Curve, cost: float, log: bool = True) -> float | None:
    """Value at a cost, linear between points (in log cost if `log` and both costs are above 0).
    None outside the curve."""
    if not curve:
        return None
    low, high = curve[0][0], curve[-1][0]
    for end in (low, high):
        if math.isclose(cost, end, rel_tol=_ROUNDING, abs_tol=0.0):
            cost = end
            break
    if not low <= cost <= high:
        return None
    for (c0, v0), (c1, v1) in itertools.pairwise(curve):
        if cost <= c1:
            if log and c0 > 0:
                return v0 + (v1 - v0) * (math.log(cost / c0) / math.log(c1 / c0))
            return v0 + (v1 - v0) * ((cost - c0) / (c1 - c0))
    return curve[-1][1]


def area(curve: Curve, low: float, high: float, log: bool) -> float | None:
    """Mean value of a curve between two costs: the trapezoidal area divided by its width.

    Args:
        curve: (cost, value) points with rising costs.
        low: Where the area begins.
        high: Where it ends.
        log: Integrate over log10(cost) instead of the cost.

    Returns:
        None unless the curve covers low..high and low < high (and low > 0 for `log`).

    Example:
        >>> area([(100, 0.2), (1000, 0.4), (10000, 0.5)], 100, 10000, log=True)
        0.375
    """
    if low >= high or (log and low <= 0):
        return None
    ends = [interpolate(curve, cost, log) for cost in (low, high)]
    if ends[0] is None or ends[1] is None:
        return None
    inner = [(c, v) for c, v in curve if low < c < high]
    knots = [(low, ends[0]), *inner, (high, ends[1])]
    scaled = [(math.log10(c) if log else c, v) for c, v in knots]
    parts = ((x1 - x0) * (v0 + v1) / 2 for (x0, v0), (x1, v1) in itertools.pairwise(scaled))
    return math.fsum(parts) / (scaled[-1][0] - scaled[0][0])


def common_range(curves: Iterable[Curve]) -> tuple[float, float] | None:
    """The costs that every curve covers, if any."""
    kept = list(curves)
    if not kept or not all(kept):
        return None
    low, high = max(c[0][0] for c in kept), min(c[-1][0] for c in kept)
    return (low, high) if low < high else None


def mean_curve(curves: Sequence[Curve], rounds: Sequence[Sequence[int]]) -> list[Point]:
    """Mean over seeds of cost and value, for the rounds that all seeds have.

    curves[i][j] is the (cost, value) of seed i in round rounds[i][j].
    """
    tables = [dict(zip(r, c, strict=True)) for r, c in zip(rounds, curves, strict=True)]
    points = []
    for round_ in sorted(set.intersection(*(set(table) for table in tables)) if tables else ()):
        values = spread(table[round_][1] for table in tables)
        assert values is not None
        cost = math.fsum(table[round_][0] for table in tables) / len(tables)
        points.append(Point(round_, cost, *values))
    return points


def reach(curve: Curve, level: float) -> Reach:
    """Cost at which the curve first reaches `level`, linear between points in log cost."""
    if curve[0][1] >= level:
        return Reach("start", curve[0][0])
    for (c0, v0), (c1, v1) in itertools.pairwise(curve):
        if v1 >= level:
            share = (level - v0) / (v1 - v0)
            if c0 <= 0:
                return Reach("reached", c0 + share * (c1 - c0), math.inf)
            return Reach("reached", c0 * (c1 / c0) ** share, c1 / c0)
    return Reach("never", curve[-1][0])


def efficiency(method: Curve, baseline: Curve, level: float) -> Ratio:
    """Cost the baseline needs / cost the method needs to first reach `level`."""
    if not method or not baseline:
        return Ratio("", None, "no curve")
    ours, theirs = reach(method, level), reach(baseline, level)
    if ours.how == "never":
        both = theirs.how == "never"
        return Ratio("", None, "reached by neither" if both else "not reached")
    if theirs.how == "start":
        return Ratio("", None, "reached at the start")
    if ours.cost <= 0:
        return Ratio("", None, "reached at no cost")
    sign = ">="
    if ours.how == theirs.how == "reached":
        sign = "~" if max(ours.gap, theirs.gap) > WIDE_GAP else "="
    return Ratio(sign, theirs.cost / ours.cost)


def overlap(curves: Sequence[Curve]) -> bool:
    """Whether there is a cost that every curve covers, or is within 5 % of covering."""
    if not curves or not all(curves):
        return False
    return max(c[0][0] for c in curves) <= (1 + SAME_COST) * min(c[-1][0] for c in curves)


def positions(curves: Sequence[Curve]) -> list[float]:
    """Costs at which curves are compared: every cost at which one of them was evaluated, within
    the range that all cover; costs closer than 5 % count once."""
    if not overlap(curves):
        return []
    high = min(c[-1][0] for c in curves)
    low = min(high, max(c[0][0] for c in curves))
    least, most = low * (1 - _ROUNDING), high * (1 + _ROUNDING)
    groups: list[list[float]] = []
    for cost in sorted(c for curve in curves for c, _ in curve if least <= c <= most):
        if groups and cost <= groups[-1][0] * (1 + SAME_COST):
            groups[-1].append(cost)
        else:
            groups.append([cost])
    return [max(low, min(group[len(group) // 2], high)) for group in groups]


def spent(record: Record, cost: str) -> float | None:
    """A cost up to a round; before anything has been answered it is 0, not unknown.

    Example:
        >>> from regional_al.types import Costs
        >>> start = Record(0, Costs(), Costs(), 0.0)
        >>> spent(start, "annotation_seconds"), start.costs.annotation_seconds
        (0.0, None)
    """
    value = getattr(record.costs, cost)
    if value is None and record.costs.pixels:
        return None
    return float(value or 0)


def seed_curve(run: Run, cost: str) -> SeedCurve | None:
    """mIoU over a cost; None when the cost is unknown in some round (clicks of answers from files,
    seconds of an oracle)."""
    values = [spent(record, cost) for record in run.evaluated]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    points = tuple((v, float(r.miou or 0.0)) for v, r in zip(known, run.evaluated, strict=True))
    return SeedCurve(run.seed, tuple(r.round for r in run.evaluated), points)


def classes_at(run: Run, cost: str, at: float) -> list[float | None]:
    """IoU of each class at a cost, linear in log cost between rounds; None for a class that is
    absent from the validation set, or outside the costs of the run."""
    found: list[float | None] = []
    for c in range(len(run.results.classes)):
        points = []
        for record in run.evaluated:
            value, paid = class_iou(record, c), spent(record, cost)
            if value is not None and paid is not None:
                points.append((paid, value))
        found.append(interpolate(tidy(points), at))
    return found


def class_iou(record: Record, c: int) -> float | None:
    return record.per_class_iou[c] if c < len(record.per_class_iou) else None
