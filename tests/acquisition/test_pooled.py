"""Picking from a table of the whole pool: the basket, the table's files, groups, shared starts."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as settings_
from hypothesis import strategies as st

from regional_al.acquisition.candidates import make_picks
from regional_al.config import grammar as config
from regional_al.config.grammar import Acquisition, parse
from regional_al.errors import BudgetError, ConfigError, ScoreError, WorkDirError
from regional_al.heuristics import HEURISTICS, Observation, PoolHeuristic, UnitHeuristic
from regional_al.loop import runner
from regional_al.loop.stopping import stop_reason
from regional_al.selection import Basket, best_first, pool_table
from regional_al.selection.pool_table import PoolTable, TableWriter, read_table
from regional_al.store import results as records
from regional_al.store.labels import LabelStore
from regional_al.store.query import read_query
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import Costs, LabelSpace

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)


class Farthest(PoolHeuristic):
    """Picks the units with the largest and smallest score in turn (an order no score gives)."""

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        score = torch.from_numpy(seen.rng.random(num_regions))
        vector = torch.arange(num_regions)[:, None] + torch.tensor([0.25, 0.5])
        return {"score": score, "vector": vector}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        order = best_first(table["score"])
        assert (table["vector"][:, 0] == table.units["unit"] + 0.25).all()
        while not basket.full:
            can = [i for i in order.tolist() if basket.affordable[i]]
            basket.take(can[0])
            if can[1:]:
                basket.take(can[-1])


class Pairs(UnitHeuristic):
    """Joins units 2i and 2i+1; asks for the pair with the highest number first, never the last."""

    def regroup(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        of_unit = torch.arange(num_regions) // 2
        scores = torch.arange(int(of_unit.max()) + 1, dtype=torch.float32)
        scores[-1] = -torch.inf
        return scores, of_unit


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEURISTICS._items, "Farthest", Farthest)
    monkeypatch.setitem(HEURISTICS._items, "Pairs", Pairs)
    monkeypatch.setattr(runner, "finish", lambda *_: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool") / "streets"
    streets.generate(root, train=4, val=1, size=(40, 48), seed=4)
    return root


def settings(**more: Any) -> Acquisition:
    raw = {
        "level": "region",
        "region": {"type": "grid", "cell": 8},
        "heuristic": "Farthest",
        "budget": "4%",
        "rounds": 2,
        "previews": 1,
        **more,
    }
    return parse(raw)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.integers(0, 30),
    st.randoms(use_true_random=False),
)
def test_basket_takes_like_a_walk_with_a_purse(
    costs: list[int], open_: list[bool], budget: int, random: Any
) -> None:
    order = list(range(len(costs)))
    random.shuffle(order)
    basket = Basket(costs, open_[: len(costs)], budget)
    basket.fill(order)
    left, expected = budget, []
    for i in order:
        if open_[i] and costs[i] <= left:
            left -= costs[i]
            expected.append(i)
    assert basket.taken == expected
    assert basket.left.tolist() == [left]
    assert basket.full == (not any(open_[i] and costs[i] <= left for i in set(order) - {*expected}))
    assert not any(basket.take(i) for i in expected)  # never twice


def test_basket_keeps_a_purse_for_each_image() -> None:
    basket = Basket([2, 2, 2, 3], [True] * 4, [3, 5], [0, 0, 1, 1])
    assert basket.fill([0, 1, 2, 3]) == 3
    assert basket.taken == [0, 2, 3]
    assert basket.full
    limited = Basket([1, 1, 1], [True] * 3, 3)
    assert limited.fill([2, 1, 0], limit=2) == 2
    assert limited.taken == [2, 1]
    with pytest.raises(BudgetError, match="costs 1 or more"):
        Basket([0], [True], 1)


def test_best_first_leaves_out_what_must_not_be_asked() -> None:
    assert best_first([1.0, -np.inf, 3.0, np.nan, 1.0]).tolist() == [2, 0, 4]


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_table_is_the_same_however_many_ranks_wrote_it(ranks: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    images = [(rng.random(5), rng.random((5, 3)).astype(np.float32)) for _ in range(7)]
    for rank in range(ranks):
        writer = TableWriter(tmp_path, rank)
        for index in range(rank, 7, ranks):
            score, vector = images[index]
            units = make_picks(index, np.zeros(4), [3, 0, 2, 9], unit=[0, 1, 3, 4])
            columns = {"score": torch.from_numpy(score), "vector": torch.from_numpy(vector)}
            writer.add(units, columns, "k")
        writer.close()
    table = read_table(tmp_path, 2, 5)
    assert table is not None
    assert len(table) == 28
    assert (table.round, table.rounds) == (2, 5)
    assert table.image.tolist() == [i for i in range(7) for _ in range(4)]
    assert table.open.tolist() == [True, False, True, True] * 7
    assert table["score"].tolist() == [s for score, _ in images for s in score[[0, 1, 3, 4]]]
    assert np.array_equal(table["vector"], np.concatenate([v[[0, 1, 3, 4]] for _, v in images]))
    assert table["vector"].dtype == np.float32


def test_large_columns_are_kept_in_half_precision_and_nan_names_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_table, "LARGE", 4 * 2 * 3 - 1)
    writer = TableWriter(tmp_path, 0)
    units = make_picks(0, np.zeros(2), [1, 1], unit=[0, 1])
    vector = torch.tensor([[1.0, 2.0, 1e6], [4.0, 5.0, -1e6]])
    writer.add(units, {"score": torch.ones(2), "vector": vector}, "k")
    with pytest.raises(ScoreError, match="image 'bad': score holds NaN"):
        writer.add(units, {"score": torch.tensor([1.0, torch.nan])}, "bad")
    writer.close()
    table = read_table(tmp_path, vectors=("vector",))
    assert table is not None
    assert table.columns["vector"].dtype == np.float16
    # the scale follows the largest: nothing is clipped, or infinite
    assert table.rows("vector", [0, 1])[:, 2].tolist() == pytest.approx([1e6, -1e6], rel=2**-11)
    assert np.allclose(table["vector"][:, :2], [[1, 2], [4, 5]], rtol=2**-11, atol=0)
    exact = read_table(tmp_path)
    assert exact is not None
    assert exact["vector"].tolist() == vector.tolist()  # only `points` are ever rounded


def stored(values: Any, points: tuple[str, ...]) -> Any:
    """A column [n, 1] that went through the files of two ranks, as float64 [n]."""
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(2):
            writer = TableWriter(Path(folder), rank)
            for image in range(rank, len(values), 2):
                units = make_picks(image, np.zeros(1), [1], unit=[0])
                column = torch.tensor([[values[image]]], dtype=torch.float32)
                writer.add(units, {"column": column}, "k")
            writer.close()
        table = read_table(Path(folder), vectors=points)
        assert table is not None
        return table.rows("column", slice(None))[:, 0].astype(np.float64)


@settings_(deadline=None, max_examples=60)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False, width=32)
        | st.floats(2.0**-33, 2.0**-22, width=32)
        | st.floats(-(2.0**-100), 2.0**-100, width=32),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_ranked_keeps_its_bits_and_points_their_order_and_sign(values: list[float]) -> None:
    """In a table above the limit. Half precision by itself makes most of 1e-10..3e-7 zero."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_table, "LARGE", 0)
        ranked, points = stored(values, ()), stored(values, ("column",))
    assert ranked.tolist() == values
    assert np.isfinite(points).all()
    given_ = np.array(values)
    assert (points * given_ >= 0).all()
    order = np.argsort(given_, kind="stable")
    assert (np.diff(points[order]) >= 0).all()
    error, largest = np.abs(points - given_), np.abs(given_).max()
    assert (error <= np.maximum(np.abs(given_) * 2.0**-11, largest * 2.0**-39)).all()


def test_small_positive_scores_stay_positive_in_a_large_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_table, "LARGE", 0)
    values = np.geomspace(1e-10, 3e-7, 2000).astype(np.float32)
    assert (values.astype(np.float16) > 0).sum() < 601  # what a bare conversion would keep
    writer = TableWriter(tmp_path, 0)
    units = make_picks(0, np.zeros(2000), np.ones(2000), unit=range(2000))
    columns = {"by_class": torch.from_numpy(values)[:, None].repeat(1, 2)}
    writer.add(units, columns, "k")
    writer.close()
    for points in ((), ("by_class",)):
        table = read_table(tmp_path, vectors=points)
        assert table is not None
        found = table["by_class"][:, 0]
        assert (found > 0).all()
        assert (np.diff(found) >= 0).all()
    assert HEURISTICS.build("ClaSPPE").vectors == ()  # it ranks by them: never rounded


def test_an_empty_table_is_none(tmp_path: Path) -> None:
    TableWriter(tmp_path, 0).close()
    assert read_table(tmp_path) is None


@pytest.mark.parametrize("scope", ["pool", "image"])
def test_a_pooled_heuristic_picks_in_its_own_order_within_the_budget(
    scope: str, data: Path, tmp_path: Path
) -> None:
    acquisition = settings(budget={"amount": "6%", "unit": "pixel", "scope": scope})
    loop = runner.run(toy_engine(data, SPACE, iterations=1), acquisition, tmp_path)
    query = read_query(tmp_path / "rounds/002/query")
    scores = query.picks["score"].tolist()
    assert loop.acquirer.limit(acquisition.budget) >= query.picks["pixels"].sum() > 0
    if scope == "pool":  # high, low, high, low, ...
        assert all((a > b) == (i % 2 == 0) for i, (a, b) in enumerate(itertools.pairwise(scores)))
    else:
        assert len(query.keys) == 4
    assert not (tmp_path / "rounds/002/scores").exists()


def test_groups_of_units_are_asked_for_as_one(data: Path, tmp_path: Path) -> None:
    acquisition = settings(heuristic="Pairs", budget={"amount": 3, "unit": "region"}, rounds=1)
    runner.run(toy_engine(data, SPACE, iterations=1), acquisition, tmp_path)
    query = read_query(tmp_path / "rounds/001/query")
    assert query.picks["unit"].tolist() == [13, 13, 13]  # 30 cells, 15 pairs, the last one never
    assert query.picks["pixels"].max() == 128
    asked = query.asked(query.image_keys()[0])
    taken = LabelStore(tmp_path / "labels").annotated(query.image_keys()[0])
    assert taken is not None
    assert (asked[32:40, 16:32] > 0).sum() == query.items(query.image_keys()[0])["pixels"][0]
    assert not (tmp_path / "rounds/001/scores").exists()
    costs = records.load(tmp_path).records[1].asked
    assert costs.regions == 3


@pytest.mark.parametrize(
    ("warm", "regions", "pixels"),
    [
        ({"level": "image", "amount": 2}, 2, 2 * 40 * 48),
        ({"level": "pixel", "amount": 3}, 12, 12),
        ({"level": "region", "region": "window", "amount": "1%"}, 8, 72),
    ],
)
def test_a_warm_start_may_be_of_another_level(
    warm: dict[str, Any], regions: int, pixels: int, data: Path, tmp_path: Path
) -> None:
    acquisition = settings(heuristic="Entropy", warm_start=warm, rounds=1)
    runner.run(toy_engine(data, SPACE, iterations=1), acquisition, tmp_path)
    first, second = records.load(tmp_path).records
    assert first.asked.regions == regions
    assert pixels - 9 < first.asked.pixels <= pixels
    assert read_query(tmp_path / "rounds/000/query").info.level == warm["level"]
    assert read_query(tmp_path / "rounds/001/query").info.partition == "grid"
    assert second.asked.pixels > 0


def test_a_dominant_run_may_start_from_scattered_pixels(data: Path, tmp_path: Path) -> None:
    raw = {
        "annotator": {"type": "oracle", "answer": "dominant"},
        "heuristic": "Random",
        "budget": {"amount": 2, "unit": "click"},
        "rounds": 1,
    }
    acquisition = settings(warm_start={"level": "pixel", "amount": 3}, **raw)
    runner.run(toy_engine(data, SPACE, iterations=1), acquisition, tmp_path)
    infos = [read_query(tmp_path / f"rounds/00{r}/query").info for r in (0, 1)]
    assert [info.answer for info in infos] == ["full", "dominant"]
    assert [r.asked.clicks for r in records.load(tmp_path).records] == [12, 2]


def test_round_0_can_be_taken_over_from_another_run(data: Path, tmp_path: Path) -> None:
    warm = {"level": "pixel", "amount": 20}
    engine = toy_engine(data, SPACE, iterations=3)
    runner.run(engine, settings(rounds=0, warm_start=warm), tmp_path / "start")
    for heuristic in ("Entropy", "Random"):
        shared = settings(heuristic=heuristic, warm_start={"run": str(tmp_path / "start")})
        runner.run(engine, shared, tmp_path / heuristic)
        mine, given_ = (records.load(tmp_path / n).records[0] for n in (heuristic, "start"))
        assert mine.costs == given_.costs
        assert (mine.miou, mine.iterations) == (given_.miou, given_.iterations)
        files = [tmp_path / n / "rounds/000/fit/checkpoint.pth" for n in (heuristic, "start")]
        assert files[0].read_bytes() == files[1].read_bytes()
    picks = [read_query(tmp_path / n / "rounds/001/query").picks for n in ("Entropy", "Random")]
    assert picks[0].tobytes() != picks[1].tobytes()


def test_a_start_that_cannot_be_taken_over_is_refused(data: Path, tmp_path: Path) -> None:
    engine = toy_engine(data, SPACE, iterations=1)
    shared = settings(warm_start={"run": str(tmp_path / "start")})
    with pytest.raises(WorkDirError, match="contains no run"):
        runner.run(engine, shared, tmp_path / "a")
    runner.run(engine, settings(rounds=0), tmp_path / "start", text="one config")
    with pytest.raises(WorkDirError, match="another config"):
        runner.run(engine, shared, tmp_path / "b", text="another config")
    (tmp_path / "start/rounds/000/fit/checkpoint.pth").unlink()
    with pytest.raises(WorkDirError, match="is gone"):
        runner.run(engine, shared, tmp_path / "c", text="one config")
    for folder in "abc":
        assert not (tmp_path / folder / "ledger.sqlite").exists()


@pytest.mark.parametrize(
    ("warm", "message"),
    [
        ({"run": ""}, "must be a work dir"),
        ({"run": "x", "amount": 3}, "'amount'"),
        ({"level": "pixels", "amount": 3}, "'pixel'"),
        ({"level": "image", "region": "slic", "amount": 3}, "is not supported at level='image'"),
        ({"level": "image", "amount": 3, "unit": "region"}, "is not supported at level='image'"),
    ],
)
def test_wrong_warm_starts_name_the_key(warm: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"acquisition\.warm_start") as caught:
        settings(warm_start=warm)
    assert message in str(caught.value)


def test_queries_and_a_shared_start_exclude_one_another() -> None:
    with pytest.raises(ConfigError, match="continuous run"):
        config.parse({"queries": [1, 2], "warm_start": {"run": "x"}})


@pytest.mark.parametrize(
    ("mious", "ends"),
    [
        ([0.1, 0.2, 0.2, 0.2], True),
        ([0.1, 0.2, 0.2, 0.21], False),
        ([0.3, 0.2, None, 0.3], True),
        ([0.3, 0.2], False),
        ([None, None, None], False),
    ],
)
def test_plateau(mious: list[float | None], ends: bool) -> None:
    a = settings(rounds=9, stop={"plateau": 2})
    reason = stop_reason(a, len(mious) - 1, Costs(), mious)
    assert (reason is not None and reason.startswith("plateau")) == ends
    small = settings(rounds=9, stop={"plateau": 1, "plateau_gain": 0.05})
    assert stop_reason(small, 1, Costs(), [0.1, 0.14]) is not None
    assert stop_reason(small, 1, Costs(), [0.1, 0.16]) is None
