"""MaxHerding against the definition, computed anew for every pick."""

from __future__ import annotations

import numpy as np
import pytest
from pool_tables import picks, random_table, table

from regional_al.errors import ConfigError
from regional_al.heuristics import HEURISTICS
from regional_al.selection import diversity
from regional_al.types import F32


def shortfalls(
    points: F32, open_: list[int], seeds: list[int], taken: list[int], sigma: float
) -> list[float]:
    """How much less each pick adds than the best one does, by the formula in float64."""
    x = points.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / sigma**2)[open_]
    chosen, found = list(seeds), []
    for pick in taken:
        covered = rows[:, chosen].max(axis=1) if chosen else np.zeros(len(open_))
        gains = {j: np.maximum(0, rows[:, j] - covered).sum() for j in open_ if j not in chosen}
        found.append(max(gains.values()) - gains[pick])
        chosen.append(pick)
    return found


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_picks_are_those_of_the_definition(sigma: float) -> None:
    herding = HEURISTICS.build({"type": "MaxHerding", "sigma": sigma})
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pool = random_table(rng, 15)
        open_ = np.flatnonzero(pool.open).tolist()
        seeds = np.flatnonzero(~pool.open).tolist()
        taken = picks(herding, pool, 5)
        assert max(shortfalls(pool["vector"], open_, seeds, taken, sigma)) < 1e-5, seed


def test_what_is_common_comes_before_what_is_far_away() -> None:
    # directions: three alike, one apart; MaxHerding takes the crowd first, CoreSet the outlier
    points = np.array([[1, 0.1], [1, 0], [1, -0.1], [-1, 0]], dtype=np.float32)
    crowd = table([1] * 4, score=np.ones(4), vector=points)
    assert picks(HEURISTICS.build("MaxHerding"), crowd, 2) == [1, 3]
    labelled = table([1, 0, 1, 1], score=np.ones(4), vector=points)
    assert picks(HEURISTICS.build("MaxHerding"), labelled, 1) == [3]


def test_equal_units_are_taken_by_position_and_zeros_are_no_problem() -> None:
    same = table([1] * 5, score=np.ones(5), vector=np.zeros((5, 3)))
    assert picks(HEURISTICS.build("MaxHerding"), same, 5) == [0, 1, 2, 3, 4]


def test_gains_are_computed_again_only_where_they_may_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    whole = diversity.squared_distances
    monkeypatch.setattr(
        "regional_al.heuristics.herding.squared_distances",
        lambda points, centre: calls.append(1) or whole(points, centre),
    )
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 8)).astype(np.float32)
    pool = table([1] * 200, score=np.ones(200), vector=points)
    taken = picks(HEURISTICS.build({"type": "MaxHerding", "sigma": 0.5}), pool, 20)
    assert max(shortfalls(points, list(range(200)), [], taken, 0.5)) < 1e-4
    assert len(calls) < 200 + 20 * 200 / 2  # each pick over all would be 4,200


def test_a_wrong_bandwidth_is_refused() -> None:
    for wrong in (0, -1, "1", True, float("nan")):
        with pytest.raises(ConfigError, match="heuristic MaxHerding: sigma="):
            HEURISTICS.build({"type": "MaxHerding", "sigma": wrong})
