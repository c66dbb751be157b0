"""Areas, ratios and positions of curves: worked by hand, and as properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.compare import curves
from regional_al.compare.curves import Ratio, Reach, Spread

LINE = [(100.0, 0.2), (1000.0, 0.4), (10000.0, 0.5)]


def test_mean_and_sample_deviation() -> None:
    assert curves.spread([]) is None
    assert curves.spread([0.5]) == Spread(0.5, None, 1)
    assert curves.spread([1.0, 3.0]) == Spread(2.0, pytest.approx(math.sqrt(2)), 2)


def test_of_equal_costs_the_last_point_counts() -> None:
    assert curves.tidy([(2, 0.1), (1, 0.3), (2, 0.2)]) == [(1.0, 0.3), (2.0, 0.2)]


def test_values_between_points_are_linear_in_log_cost() -> None:
    assert curves.interpolate(LINE, math.sqrt(100 * 1000)) == pytest.approx(0.3)
    assert curves.interpolate(LINE, 550, log=False) == pytest.approx(0.3)
    assert curves.interpolate(LINE, 1000) == 0.4
    assert curves.interpolate(LINE, 10000 * (1 + 1e-12)) == 0.5


@pytest.mark.parametrize("cost", [99.0, 10001.0])
def test_nothing_is_extrapolated(cost: float) -> None:
    assert curves.interpolate(LINE, cost) is None
    assert curves.interpolate([], cost) is None


def test_a_first_point_without_cost_is_joined_linearly() -> None:
    assert curves.interpolate([(0.0, 0.0), (10.0, 1.0)], 5.0) == pytest.approx(0.5)


def test_area_by_hand() -> None:
    # over log10: two decades, trapezoids 0.3 and 0.45; over cost: 900 * 0.3 + 9000 * 0.45
    assert curves.area(LINE, 100, 10000, log=True) == pytest.approx((0.3 + 0.45) / 2)
    assert curves.area(LINE, 100, 10000, log=False) == pytest.approx(4320 / 9900)
    # from the middle of a segment: values 0.3 to 0.4 over half a decade
    assert curves.area(LINE, math.sqrt(1e5), 1000, log=True) == pytest.approx(0.35)
    assert curves.area(LINE, 50, 1000, log=True) is None
    assert curves.area(LINE, 1000, 1000, log=True) is None
    assert curves.area([(0.0, 0.1), (10.0, 0.2)], 0, 10, log=True) is None


def test_the_range_that_all_cover() -> None:
    assert curves.common_range([LINE, [(200.0, 0.1), (5000.0, 0.2)]]) == (200.0, 5000.0)
    assert curves.common_range([LINE, [(20000.0, 0.1), (30000.0, 0.2)]]) is None
    assert curves.common_range([]) is None


def test_mean_curve_keeps_the_rounds_that_all_seeds_have() -> None:
    seeds = [[(100.0, 0.2), (200.0, 0.4), (300.0, 0.5)], [(120.0, 0.4), (220.0, 0.6)]]
    found = curves.mean_curve(seeds, [[0, 1, 2], [0, 1]])
    assert [p.round for p in found] == [0, 1]
    assert found[1].cost == 210
    assert found[1].mean == pytest.approx(0.5)
    assert found[1].std == pytest.approx(math.sqrt(0.02))
    assert found[1].n == 2


def test_the_first_crossing_of_a_level() -> None:
    dip = [(100.0, 0.2), (1000.0, 0.4), (2000.0, 0.3), (4000.0, 0.5)]
    assert curves.reach(dip, 0.3) == Reach("reached", pytest.approx(math.sqrt(1e5)), 10)
    assert curves.reach(dip, 0.4) == Reach("reached", pytest.approx(1000), 10)
    assert curves.reach(dip, 0.45) == Reach("reached", pytest.approx(2000 * 2**0.75), 2)
    assert curves.reach(dip, 0.2) == Reach("start", 100.0)
    assert curves.reach(dip, 0.51) == Reach("never", 4000.0)
    assert curves.reach([(0.0, 0.0), (10.0, 1.0)], 0.5) == Reach("reached", 5.0, math.inf)


def test_label_efficiency_by_hand() -> None:
    fast = [(100.0, 0.2), (500.0, 0.4), (5000.0, 0.5)]
    assert curves.efficiency(fast, LINE, 0.4) == Ratio("~", pytest.approx(2.0))
    assert curves.efficiency(LINE, fast, 0.4) == Ratio("~", pytest.approx(0.5))
    # 0.45: halfway in log cost: sqrt(1000 * 10000) / sqrt(500 * 5000) = 2
    assert curves.efficiency(fast, LINE, 0.45) == Ratio("~", pytest.approx(2.0))
    # between points whose costs differ less than threefold it is not the interpolation that decides
    dense = [(100.0, 0.2), (250.0, 0.3), (500.0, 0.4)]
    twice = [(2 * cost, value) for cost, value in dense]
    assert curves.efficiency(dense, twice, 0.35) == Ratio("=", pytest.approx(2.0))


def test_what_is_not_reached_is_said_and_never_guessed() -> None:
    better = [(100.0, 0.2), (1000.0, 0.6)]
    assert curves.efficiency(LINE, better, 0.55) == Ratio("", None, "not reached")
    assert curves.efficiency(LINE, LINE, 0.55) == Ratio("", None, "reached by neither")
    # random ends at 10000 below 0.6; the method is there at 1000: at least ten times cheaper
    assert curves.efficiency(better, LINE, 0.6) == Ratio(">=", pytest.approx(10.0))
    assert curves.efficiency(better, LINE, 0.2) == Ratio("", None, "reached at the start")
    early = [(150.0, 0.3), (1000.0, 0.6)]
    assert curves.efficiency(early, LINE, 0.3).sign == ">="
    assert curves.efficiency([], LINE, 0.3) == Ratio("", None, "no curve")


def test_positions_are_where_somebody_was_evaluated() -> None:
    a = [(100.0, 0.1), (200.0, 0.2), (400.0, 0.3)]
    b = [(100.0, 0.1), (204.0, 0.2), (300.0, 0.2), (390.0, 0.3)]
    # 400 is beyond b, 200 is with 204
    assert curves.positions([a, b]) == [100.0, 204.0, 300.0, 390.0]
    assert curves.positions([a, b[1:]]) == [204.0, 300.0, 390.0]
    assert curves.positions([a, [(390.0, 0.1), (600.0, 0.2)]]) == [400.0]
    assert curves.positions([a, [(402.0, 0.1), (600.0, 0.2)]]) == [400.0]
    assert curves.positions([a, [(500.0, 0.1), (600.0, 0.2)]]) == []


def test_curves_overlap_within_5_percent() -> None:
    a, b = [(100.0, 0.1), (200.0, 0.2)], [(209.0, 0.1), (300.0, 0.2)]
    assert curves.overlap([a, b])
    assert curves.overlap([b, a])
    assert not curves.overlap([a, [(211.0, 0.1)]])
    assert not curves.overlap([a, []])
    assert not curves.overlap([])


rising = st.lists(
    st.tuples(st.floats(1, 1e6), st.floats(0, 1)),
    min_size=2,
    max_size=8,
    unique_by=lambda point: round(math.log(point[0]), 3),
).map(sorted)


@given(rising, st.booleans())
def test_an_area_is_the_mean_of_a_fine_sampling(
    curve: list[tuple[float, float]], log: bool
) -> None:
    low, high = curve[0][0], curve[-1][0]
    found = curves.area(curve, low, high, log)
    scale = np.log10 if log else np.asarray
    xs = np.linspace(scale(low), scale(high), 20001)
    ys = np.interp(xs, scale([c for c, _ in curve]), [v for _, v in curve])
    assert found == pytest.approx(float(ys.mean()), abs=2e-3)


@given(rising, st.floats(0.01, 0.99))
def test_a_level_is_met_where_it_is_said_to_be(
    curve: list[tuple[float, float]], level: float
) -> None:
    found = curves.reach(curve, level)
    if found.how == "reached":
        assert curves.interpolate(curve, found.cost) == pytest.approx(level, abs=1e-6)
        assert all(v < level for c, v in curve if c < found.cost * (1 - 1e-9))
    elif found.how == "never":
        assert max(v for _, v in curve) < level


@given(rising, st.floats(0.01, 0.99), st.floats(1.01, 30))
def test_a_curve_that_is_k_times_cheaper_has_ratio_k(
    curve: list[tuple[float, float]], level: float, k: float
) -> None:
    cheaper = [(c / k, v) for c, v in curve]
    found = curves.efficiency(cheaper, curve, level)
    if found.sign in ("=", "~"):
        assert found.value == pytest.approx(k, rel=1e-6)
