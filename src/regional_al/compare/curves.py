"""Arithmetic on curves of mIoU over cost: pure functions of (cost, value) points.

A curve is a list of points with rising costs; `tidy` makes one. Nothing is ever extrapolated:
outside the costs that a curve covers the answer is None.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Curve = Sequence[tuple[float, float]]

_SLACK = 1e-9  # relative; costs that are equal but for rounding
ROUGH = 3.0
SAME_COST = 0.05  # costs that differ by less than this share count as one position


class Spread(NamedTuple):
    """mean and sample standard deviation (divisor n - 1; None for n = 1) of n values."""

    mean: float
    std: float | None
    n: int

    @property
    def clear(self) -> bool:
        """Whether the mean is further from 0 than the deviation; never of a single value."""
        return self.std is not None and abs(self.mean) > self.std


class Point(NamedTuple):
    """One round of an arm: mean cost and mean value over its seeds, and the values' spread."""

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
    the curve (cost is its last cost: the true one is higher, or there is none). gap: costs of the
    two points, the later / the earlier."""

    how: str
    cost: float
    gap: float = 1.0


class Ratio(NamedTuple):
    """Label efficiency: cost of the baseline / cost of the method for the same level.

    sign: '=' between points; '~' the same, but between points further apart than a factor of
    `ROUGH`, so that the interpolation decides; '>=' a bound, since the baseline never gets there,
    or the method had it at the start; '<=' a bound, since the baseline has it at its first point;
    '' not known: value is None and why says so.
    """

    sign: str
    value: float | None
    why: str = ""


def spread(values: Iterable[float]) -> Spread | None:
    """Mean, sample standard deviation and count; None of nothing."""
    kept = list(values)
    if not kept:
        return None
    n, mean = len(kept), math.fsum(kept) / len(kept)
    if n == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in kept) / (n - 1)), n)


def known(values: Iterable[float | None]) -> Spread | None:
    """`spread` of those that are not None."""
    return spread(value for value in values if value is not None)


def paired(mine: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> Spread | None:
    """Spread of the differences of what both have of the same seed."""
    return spread(
        a - b for seed, a in mine.items() if a is not None and (b := theirs.get(seed)) is not None
    )


def tidy(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorted by cost; of equal costs the last one stays (a round that bought nothing)."""
    return sorted({float(cost): float(value) for cost, value in points}.items())


def wide(low: float, high: float) -> bool:
    """Whether costs from low to high are better shown on a logarithmic scale."""
    return low > 0 and high > 10 * low


def interpolate(curve: Curve, cost: float, log: bool = True) -> float | None:
    """Value at a cost, linear between points (in log cost where `log` and both costs are above 0).
    None outside the curve."""
    if not curve:
        return None
    cost = _snapped(cost, curve[0][0], curve[-1][0])
    if not curve[0][0] <= cost <= curve[-1][0]:
        return None
    for (c0, v0), (c1, v1) in itertools.pairwise(curve):
        if cost <= c1:
            return v0 + (v1 - v0) * _part(c0, c1, cost, log)
    return curve[-1][1]


def area(curve: Curve, low: float, high: float, log: bool) -> float | None:
    """Mean value of the curve between two costs: the trapezoid area over g(cost), divided by
    g(high) - g(low); g is log10 if `log`, else the cost itself. None unless the curve covers
    low..high and low < high (and low > 0 for `log`)."""
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
    """The costs that every curve covers; None when there are none, no curves, or an empty one."""
    kept = list(curves)
    if not kept or not all(kept):
        return None
    low, high = max(c[0][0] for c in kept), min(c[-1][0] for c in kept)
    return (low, high) if low < high else None


def mean_curve(costs: Sequence[Curve], rounds: Sequence[Sequence[int]]) -> list[Point]:
    """Mean over seeds of cost and value, round by round, for the rounds that all seeds have.

    costs[i][j] is the (cost, value) of seed i in round rounds[i][j].
    """
    tables = [dict(zip(r, c, strict=True)) for r, c in zip(rounds, costs, strict=True)]
    if not tables:
        return []
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    points = []
    for round_ in shared:
        values = spread(table[round_][1] for table in tables)
        cost = math.fsum(table[round_][0] for table in tables) / len(tables)
        assert values is not None
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
        return Ratio("", None, "neither reaches it" if both else "not reached")
    if theirs.how == "start":
        return Ratio("", None, "reached at the start")
    if ours.cost <= 0:
        return Ratio("", None, "reached at no cost")
    sign = ">="
    if ours.how == theirs.how == "reached":
        sign = "~" if max(ours.gap, theirs.gap) > ROUGH else "="
    return Ratio(sign, theirs.cost / ours.cost)


def touch(curves: Sequence[Curve]) -> bool:
    """Whether there is a cost that every curve covers, or is within 5 % of covering."""
    if not curves or not all(curves):
        return False
    return max(c[0][0] for c in curves) <= (1 + SAME_COST) * min(c[-1][0] for c in curves)


def positions(curves: Sequence[Curve]) -> list[float]:
    """Costs at which curves are compared: every cost at which one of them was evaluated, within
    the range that all cover; costs closer than 5 % count once."""
    if not touch(curves):
        return []
    high = min(c[-1][0] for c in curves)
    low = min(high, max(c[0][0] for c in curves))
    inside = sorted(
        c for curve in curves for c, _ in curve if low * (1 - _SLACK) <= c <= high * (1 + _SLACK)
    )
    groups: list[list[float]] = []
    for cost in inside:
        if groups and cost <= groups[-1][0] * (1 + SAME_COST):
            groups[-1].append(cost)
        else:
            groups.append([cost])
    return [max(low, min(group[len(group) // 2], high)) for group in groups]


def _part(c0: float, c1: float, cost: float, log: bool) -> float:
    """How far `cost` lies on the way from c0 to c1, 0..1."""
    if log and c0 > 0:
        return math.log(cost / c0) / math.log(c1 / c0)
    return (cost - c0) / (c1 - c0)


def _snapped(cost: float, low: float, high: float) -> float:
    """The nearest end of a range, if `cost` is that but for rounding."""
    for end in (low, high):
        if math.isclose(cost, end, rel_tol=_SLACK, abs_tol=0.0):
            return end
    return cost
