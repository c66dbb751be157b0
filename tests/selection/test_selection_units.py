"""Units under a budget, at once and streamed: against the greedy definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regional_al.errors import BudgetError, ConfigError, DataError, ScoreError
from regional_al.selection import CandidateStream, _order, select_units, stream, units
from regional_al.types import PICK_DTYPE, Picks

Array = npt.NDArray[Any]


def greedy(
    scores: Array, costs: Array, budget: int, excluded: Array | None = None, slack: int = 1
) -> list[int]:
    """The definition: best first, what does not fit is passed over."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    taken, left = [], budget
    for i in order:
        if scores[i] == -np.inf or (excluded is not None and excluded[i]):
            continue
        if left < min(slack, budget):
            break
        if costs[i] <= left:
            taken.append(i)
            left -= int(costs[i])
    return taken


@st.composite
def pools(draw: st.DrawFn) -> tuple[Array, Array, int]:
    """Scores with ties and -inf, costs alike or not, budgets from nothing to more than all."""
    n = draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.integers(0, draw(st.sampled_from([1, 4, 1000])), n) / 4 - 1
    scores[rng.random(n) < draw(st.sampled_from([0, 0.2, 1]))] = -np.inf
    kind = draw(st.sampled_from(["one", "two", "alike", "spread"]))
    costs = {
        "one": np.ones(n, dtype=np.int64),
        "two": rng.choice([3, 9], n, p=[0.1, 0.9]),
        "alike": rng.integers(5, 16, n),
        "spread": np.maximum(1, rng.pareto(0.7, n)).astype(np.int64),
    }[kind]
    total = int(costs.sum())
    budget = draw(st.one_of(st.integers(0, 40), st.integers(0, total + 5)))
    return scores, costs, budget


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lazy path on a few candidates."""
    monkeypatch.setattr(_order, "SMALL", 0)
    monkeypatch.setattr(_order, "SAMPLE", 20)
    monkeypatch.setattr(_order, "MARGIN", 0)
    monkeypatch.setattr(units, "BLOCK", 4)
    monkeypatch.setattr(stream, "BUFFER", 3)
    monkeypatch.setattr(stream, "LEVELS", 3)


@pytest.fixture(params=["usual", "tiny"])
def blocks(request: pytest.FixtureRequest) -> None:
    if request.param == "tiny":
        request.getfixturevalue("tiny_blocks")


def as_picks(scores: Array, seed: int = 0) -> Picks:
    """Candidates whose total order is that of their positions: image, row, col, unit all used."""
    picks = np.zeros(len(scores), dtype=PICK_DTYPE)
    place = np.arange(len(scores))
    picks["image"], picks["row"] = place // 27, place // 9 % 3
    picks["col"], picks["unit"] = place // 3 % 3, place % 3
    picks["score"] = scores
    return picks


def position(picks: Picks) -> list[int]:
    place = picks["image"] * 27 + picks["row"] * 9 + picks["col"] * 3 + picks["unit"]
    return [int(i) for i in place]


@pytest.mark.usefixtures("blocks")
class TestSelectUnits:
    @settings(deadline=None, max_examples=120)
    @given(pools(), st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 12), st.booleans())
    def test_is_the_greedy_definition(
        self, pool: tuple[Array, Array, int], share: float, slack: int, short: bool
    ) -> None:
        scores, costs, budget = pool
        if short:
            scores = scores.astype(np.float32)
        excluded = np.random.default_rng(len(scores)).random(len(scores)) < share
        before = scores.copy(), costs.copy(), excluded.copy()
        got = select_units(scores, costs, budget, excluded, slack=slack)
        assert got.tolist() == greedy(scores, costs, budget, excluded, slack)
        assert got.dtype == np.int64
        assert costs[got].sum() <= budget
        for now, then in zip((scores, costs, excluded), before, strict=True):
            np.testing.assert_array_equal(now, then)

    def test_alternating_misfits(self) -> None:
        """1 fits, the next is one too dear, and so on: the case that is slow when vectorised."""
        costs = np.stack([np.ones(500, dtype=np.int64), np.arange(500, 0, -1)], axis=1).ravel()
        scores = -np.arange(1000.0)
        assert select_units(scores, costs, 500).tolist() == greedy(scores, costs, 500)


def test_units_worked_by_hand() -> None:
    scores, costs = [0.5, 0.9, 0.9, 0.1, 0.7], [2, 4, 3, 1, 9]
    assert select_units(scores, costs, 10).tolist() == [1, 2, 0, 3]  # 9 is passed over
    assert select_units(scores, costs, 8).tolist() == [1, 2, 3]
    assert select_units(scores, costs, 8, slack=2).tolist() == [1, 2]
    assert select_units(scores, costs, 100).tolist() == [1, 2, 4, 0, 3]
    assert select_units(scores, costs, 100, min_score=0.5).tolist() == [1, 2, 4, 0]
    assert select_units(scores, [5, 5, 5, 5, 5], 4).tolist() == []
    assert select_units(scores, costs, 0).tolist() == []
    assert select_units(torch.tensor(scores), torch.tensor(costs), 4).tolist() == [1]


def test_empty_units_are_left_out_by_exclusion() -> None:
    """A partition with gaps: NaN and cost 0 where nothing is."""
    scores, costs = np.array([np.nan, 0.5, np.inf]), np.array([0, 3, 0])
    assert select_units(scores, costs, 9, costs == 0).tolist() == [1]
    with pytest.raises(BudgetError, match=r"costs\[0\] is 0"):
        select_units(scores, costs, 9)
    with pytest.raises(ScoreError, match="aachen: 2 value"):
        select_units(scores, costs + 1, 9, name="aachen")


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(BudgetError, match="whole numbers"):
        select_units([1.0], [1.5], 3)
    with pytest.raises(BudgetError, match="one per score"):
        select_units([1.0], [1, 2], 3)
    with pytest.raises(ConfigError, match="budget=-1"):
        select_units([1.0], [1], -1)


@pytest.mark.usefixtures("blocks")
class TestStream:
    @settings(deadline=None, max_examples=150)
    @given(
        pools(),
        st.integers(1, 12),
        st.integers(1, 4),
        st.integers(0, 2**32 - 1),
        st.booleans(),
    )
    def test_any_order_and_any_split_over_ranks_is_the_same(
        self, pool: tuple[Array, Array, int], slack: int, ranks: int, seed: int, ask: bool
    ) -> None:
        scores, costs, budget = pool
        picks = as_picks(scores)
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(scores))
        merged = CandidateStream(budget, slack)
        for share in np.array_split(order, ranks):
            mine = CandidateStream(budget, slack)
            for chunk in np.array_split(share, rng.integers(1, 12)):
                if ask:
                    chunk = chunk[scores[chunk] >= mine.threshold()]
                    cheap = costs[chunk] < 7
                    keep = cheap | (scores[chunk] >= mine.threshold(7))
                    chunk = chunk[keep]
                mine.add(picks[chunk], costs[chunk])
            kept, price = mine.candidates()
            shuffled = rng.permutation(len(kept))
            merged.add(kept[shuffled], price[shuffled])
        want = greedy(scores, costs, budget, slack=slack)
        assert position(merged.result()) == want
        np.testing.assert_array_equal(merged.result(), picks[want])
        np.testing.assert_array_equal(picks, as_picks(scores))

    @settings(deadline=None, max_examples=100)
    @given(pools(), st.integers(1, 12), st.integers(0, 2**32 - 1))
    def test_nothing_that_could_win_later_is_forgotten(
        self, pool: tuple[Array, Array, int], slack: int, seed: int
    ) -> None:
        """Whatever comes after pruning: here large costs that leave odd remainders."""
        scores, costs, budget = pool
        rng = np.random.default_rng(seed)
        more = int(rng.integers(0, 5))
        late_costs = rng.integers(1, max(2, budget), more)
        all_scores = np.concatenate([scores, rng.random(more) * 3 - 1])
        all_costs = np.concatenate([costs, late_costs])
        picks = as_picks(all_scores)
        one = CandidateStream(budget, slack)
        one.add(picks[: len(scores)], costs)
        one.candidates()
        one.threshold()
        one.add(picks[len(scores) :], late_costs)
        assert position(one.result()) == greedy(all_scores, all_costs, budget, slack=slack)


@pytest.mark.parametrize("kind", ["one", "two", "spread"])
def test_memory_follows_the_budget_not_the_pool(kind: str) -> None:
    rng = np.random.default_rng(3)
    kept = []
    for images in (40, 400):
        total, most = CandidateStream(100_000), 0
        for image in range(images):
            picks = as_picks(rng.random(500))
            picks["image"] = image
            costs = {
                "one": np.full(500, 100),
                "two": rng.choice([40, 100], 500),
                "spread": rng.integers(50, 150, 500),
            }[kind]
            total.add(picks, costs)
            most = max(most, len(total))
        assert most <= stream.BUFFER + 500
        kept.append(len(total.candidates()[0]))
        assert len(total.result()) <= kept[-1] <= len(total.result()) + 40
    assert kept[1] <= 1.5 * kept[0]


def test_a_newcomer_that_fits_to_the_last_is_not_turned_away() -> None:
    """It can win only because something later, ranked first, changes what is left over."""
    picks = as_picks(np.array([10.0, 9, 8, 7, 1]))
    pool = CandidateStream(10)
    pool.add(picks[1:4], [4, 5, 5])
    assert pool.threshold() == -np.inf
    pool.add(picks[4:], [4])
    pool.add(picks[:1], [2])
    assert position(pool.result()) == [0, 1, 4]


def test_slack_keeps_hardly_more_than_the_picks() -> None:
    rng = np.random.default_rng(4)
    pool = CandidateStream(10_000, slack=150)
    for image in range(30):
        picks = as_picks(rng.random(500))
        picks["image"] = image
        pool.add(picks, rng.integers(50, 150, 500))
    assert len(pool.candidates()[0]) <= len(pool.result()) + 4


def test_what_can_never_be_picked_is_not_held() -> None:
    pool = CandidateStream(5)
    pool.add(as_picks(np.array([1.0, -np.inf, 0.5])), [6, 1, 5])
    assert len(pool) == 1
    assert position(pool.result()) == [2]


def test_threshold_is_sharp_for_equal_costs_and_with_slack() -> None:
    scores = np.arange(1000.0)
    for costs, budget, slack in ((np.ones(1000), 10, 1), (np.full(1000, 7), 70, 7)):
        pool = CandidateStream(budget, slack)
        assert pool.threshold() == -np.inf
        pool.add(as_picks(scores), costs.astype(np.int64))
        assert pool.threshold() == 990
        assert len(pool) == 10
    cheap = CandidateStream(70)
    cheap.add(as_picks(scores), np.full(1000, 7))
    assert cheap.threshold() == -np.inf  # a cost of 1 could still follow
    assert cheap.threshold(7) == 990


def test_stream_refuses_what_it_cannot_rank() -> None:
    pool, picks = CandidateStream(5), as_picks(np.zeros(3))
    picks["image"] = 8
    for bad in (np.nan, np.inf):
        picks["score"][1] = bad
        with pytest.raises(ScoreError, match="pool image 8"):
            pool.add(picks, np.ones(3, dtype=np.int64))
    with pytest.raises(BudgetError, match=r"costs\[0\] is 0"):
        pool.add(as_picks(np.zeros(1)), np.zeros(1, dtype=np.int64))
    with pytest.raises(DataError, match="PICK_DTYPE"):
        pool.add(np.zeros(3), np.ones(3, dtype=np.int64))
    with pytest.raises(ConfigError, match="budget"):
        CandidateStream(-1)
    assert len(pool.result()) == 0
    assert pool.result().dtype == PICK_DTYPE


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), max_size=60))
def test_smaller_above_by_brute_force(rows: list[tuple[int, int]]) -> None:
    level = np.array([a for a, _ in rows], dtype=np.int64)
    costs = np.array([b for _, b in rows], dtype=np.int64)
    want = [sum(costs[j] for j in range(i) if level[j] <= level[i]) for i in range(len(rows))]
    assert stream.smaller_above(level, costs).tolist() == want
