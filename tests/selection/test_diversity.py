"""Picks that spread out, against versions that recompute everything at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.selection import Basket
from regional_al.selection.diversity import (
    Reach,
    d2_sampling,
    draw,
    from_row,
    in_turns,
    k_centre,
    nearest_squared,
    squared_distances,
)


def naive_distances(points: Any, chosen: list[int]) -> Any:
    """Squared distance of every row to the nearest chosen one, all recomputed in float64."""
    rows = np.asarray(points, dtype=np.float64)
    return np.min([((rows - rows[j]) ** 2).sum(axis=1) for j in chosen], axis=0)


@given(st.integers(0, 10**6), st.integers(1, 25), st.integers(1, 4), st.booleans())
def test_k_centre_is_the_naive_one_and_goes_on_past_what_it_cannot_pay(
    seed: int, n: int, seeds: int, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    # whole numbers: many equal distances, exact in float32, so that ties are tested
    points = (rng.integers(0, 3, (n + seeds, 2)) if coarse else rng.random((n + seeds, 3))) * 1.0
    points = points.astype(np.float32)
    costs = rng.integers(1, 6, n + seeds)
    budget = int(rng.integers(1, 20))
    open_ = np.arange(n + seeds) < n
    basket = Basket(costs, open_, budget)
    rows = np.flatnonzero(basket.affordable)
    mine = points[rows]
    k_centre(Reach(basket, rows), nearest_squared(mine, points[n:]), from_row(mine))

    chosen, left, taken = list(range(n, n + seeds)), budget, []
    while True:
        can = [i for i in range(n) if i not in taken and costs[i] <= left]
        if not can:
            break
        far = naive_distances(points, chosen)
        best = max(can, key=lambda i: (far[i], -i))
        taken.append(best)
        chosen.append(best)
        left -= costs[best]
    assert basket.taken == taken
    assert basket.left[0] == left >= 0


def test_k_centre_by_hand() -> None:
    """0 is labelled; 10 is farthest, then 4 (4 from 0, 6 from 10) and not 8 or 9."""
    points = np.array([[0], [4], [8], [9], [10]], dtype=np.float32)
    basket = Basket([1] * 5, [False, True, True, True, True], 3)
    rows = np.array([1, 2, 3, 4])
    k_centre(Reach(basket, rows), nearest_squared(points[rows], points[:1]), from_row(points[rows]))
    assert basket.taken == [4, 1, 2]


@given(st.integers(0, 10**6), st.integers(2, 20))
def test_d2_sampling_makes_the_draws_of_naive_k_means_plus_plus(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((n, 3)).astype(np.float32)
    costs = rng.integers(1, 4, n)
    budget = int(rng.integers(1, 3 * n))
    basket = Basket(costs, np.ones(n, dtype=bool), budget)
    rows = np.arange(n)
    reach = Reach(basket, rows)
    first = int(np.flatnonzero(reach.usable)[0]) if reach.usable.any() else None
    if first is None:
        return
    reach.take(first)
    nearest = squared_distances(points, points[first])
    d2_sampling(reach, nearest, from_row(points), np.random.default_rng([seed, 1]))

    again, taken, left = np.random.default_rng([seed, 1]), [first], budget - costs[first]
    while True:
        can = np.array([i not in taken and costs[i] <= left for i in range(n)])
        if not can.any():
            break
        weight = np.where(can, naive_distances(points, taken), 0.0)
        pick = int(again.choice(n, p=weight / weight.sum()))
        taken.append(pick)
        left -= costs[pick]
    assert basket.taken == taken


def test_draw_follows_the_weights_and_is_uniform_when_all_are_0() -> None:
    rng = np.random.default_rng(0)
    usable = np.array([True, False, True, True])
    counts = np.bincount([draw([1.0, 0.0, 0.0, 3.0], usable, rng) for _ in range(4000)])
    assert counts[[1, 2]].tolist() == [0, 0]
    assert counts[3] / 4000 == pytest.approx(0.75, abs=0.03)
    counts = np.bincount([draw(np.zeros(4), usable, rng) for _ in range(3000)], minlength=4)
    assert counts[1] == 0
    assert (np.abs(counts[[0, 2, 3]] / 3000 - 1 / 3) < 0.04).all()


def test_draw_at_the_ends_of_the_unit_interval() -> None:
    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    usable = np.array([False, True, True, False])
    weights = [0.0, 0.1, 0.2, 0.0]
    assert draw(weights, usable, Fixed(0.0)) == 1  # type: ignore[arg-type]
    assert draw(weights, usable, Fixed(np.nextafter(1.0, 0.0))) == 2  # type: ignore[arg-type]


def test_equal_rows_are_exactly_0_apart() -> None:
    rng = np.random.default_rng(1)
    points = (rng.random((50, 70)) + 1000).astype(np.float32)
    points[7] = points[33]
    assert squared_distances(points, points[33])[7] == 0
    near = nearest_squared(points, points[[33, 4, 10]])
    assert near[[7, 33, 4, 10]].tolist() == [0, 0, 0, 0]
    exact = ((points[:, None].astype(np.float64) - points[None, [33, 4, 10]]) ** 2).sum(-1).min(1)
    assert np.allclose(near, exact, rtol=1e-4)


def test_lists_in_turn_are_a_round_robin_at_one_price() -> None:
    basket = Basket([1] * 7, [True] * 7, 6)
    lists = [np.array([0, 1, 2]), np.array([3]), np.array([2, 4, 5, 6])]
    assert in_turns(basket, lists) == 6
    assert basket.taken == [0, 3, 2, 1, 4, 5]  # 2 is taken once, by the third list; 3 was all


def test_lists_in_turn_share_pixels_and_stay_below_the_limit() -> None:
    costs = [10, 10, 10, 3, 3, 3, 3, 3]
    basket = Basket(costs, [True] * 8, 100)
    spent = in_turns(basket, [np.array([0, 1, 2]), np.array([3, 4, 5, 6, 7])], 28)
    # 10 | 3 3 3 3 (12 > 10) | 28 - 22 = 6 left: no 10 fits, so the second goes on: 3 | 3
    assert basket.taken == [0, 3, 4, 5, 6, 7]
    assert spent == 25
    assert basket.left.tolist() == [75]
