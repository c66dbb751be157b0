"""What a round may ask for: budgets over the units that exist, and why nothing can be selected."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regional_al.acquisition import scorer
from regional_al.acquisition.acquirer import Acquirer
from regional_al.acquisition.candidates import make_picks
from regional_al.config.grammar import parse
from regional_al.errors import BudgetError, RegionalALError
from regional_al.heuristics import HEURISTICS, Observation, PixelHeuristic, PoolHeuristic
from regional_al.runtime.progress import Stopwatch
from regional_al.selection import Basket
from regional_al.selection.pool_table import PoolTable, TableWriter
from regional_al.store.labels import LabelStore
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace, PredictRequest

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("acquirer") / "streets"
    streets.generate(root, train=2, val=1, size=(40, 48), seed=4)
    return root


def acquirer(data: Path, work_dir: Path, **raw: Any) -> Acquirer:
    store = LabelStore(work_dir / "labels")
    return Acquirer(toy_engine(data, SPACE, 1), parse({"previews": 0, **raw}), store, work_dir)


def sparse_maps(data: Path, folder: Path) -> dict[str, Any]:
    """20 stripes in each of the two images, with the ids 0, 19, 38, ..., 361."""
    folder.mkdir()
    for path in (data / "images/train").iterdir():
        ids = np.arange(40) // 2 * 19
        np.save(folder / f"{path.stem}.npy", np.repeat(ids[:, None], 48, axis=1))
    return {"type": "precomputed", "folder": str(folder), "suffix": ".npy"}


@pytest.mark.parametrize("heuristic", ["Entropy", "ClassAwareRandom"])
def test_a_percentage_of_regions_is_of_those_that_have_a_pixel(
    heuristic: str, data: Path, tmp_path: Path
) -> None:
    mine = acquirer(
        data,
        tmp_path,
        region=sparse_maps(data, tmp_path / "maps"),
        heuristic=heuristic,
        budget={"amount": "10%", "unit": "region"},
    )
    mine.prepare()
    assert mine.limit(mine.config.budget) == 4
    query = mine.query(1, None, Stopwatch(), warm=False)
    assert query is not None
    assert len(query.picks) == 4
    assert (query.picks["unit"] % 19 == 0).all()
    assert (query.picks["pixels"] == 96).all()


def test_an_amount_above_the_regions_that_have_a_pixel_is_refused(
    data: Path, tmp_path: Path
) -> None:
    mine = acquirer(
        data,
        tmp_path,
        region=sparse_maps(data, tmp_path / "maps"),
        heuristic="Random",
        budget={"amount": 41, "unit": "region"},
    )
    with pytest.raises(BudgetError, match="40"):
        mine.limit(mine.config.budget)


class Never(PixelHeuristic):
    """Scores everything -inf."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return torch.full(seen.logits.shape[-2:], -torch.inf)

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        return torch.full((num_regions,), -torch.inf)

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return self.pixel_scores(seen)


class NoneOfThem(PoolHeuristic):
    """Describes units and selects none."""

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        return {"score": torch.zeros(num_regions)}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        return


GRID = {"region": {"type": "grid", "cell": 8}}


@pytest.mark.parametrize(
    ("raw", "budget", "message"),
    [
        (GRID, 9, "9 pixels per round is less than the cheapest region (64 pixels)"),
        (GRID | {"heuristic": "ClassAwareRandom"}, 63, "the cheapest region (64 pixels)"),
        ({"region": "window"}, 3, "3 pixels per round is less than one window (9 pixels)"),
        (
            {"region": {"type": "window", "radius": 2}},
            {"amount": 5, "unit": "pixel", "scope": "image"},
            "is less than one window (25 pixels)",
        ),
    ],
)
def test_a_first_query_that_the_budget_cannot_pay_names_what_is_true(
    raw: dict[str, Any], budget: Any, message: str, data: Path, tmp_path: Path
) -> None:
    """A window in a corner covers less than a whole one, so no cheapest region is quoted there."""
    amount = budget if isinstance(budget, dict) else {"amount": budget, "unit": "pixel"}
    raw = {"heuristic": "Entropy", **raw, "budget": amount, "warm_start": None}
    mine = acquirer(data, tmp_path, **raw)
    mine.prepare()
    with pytest.raises(BudgetError) as caught:
        mine.query(1, None, Stopwatch(), warm=False)
    assert "acquisition.budget: " in str(caught.value)
    assert message in str(caught.value)
    assert "cheapest" not in str(caught.value) or "window" not in str(caught.value)


@pytest.mark.parametrize("name", ["Never", "NoneOfThem"])
@pytest.mark.parametrize("region", ["grid", "window"])
def test_scores_that_allow_nothing_are_not_called_a_budget_that_is_too_low(
    name: str, region: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (name, region) == ("NoneOfThem", "window"):
        return  # units only
    monkeypatch.setitem(HEURISTICS._items, "Never", Never)
    monkeypatch.setitem(HEURISTICS._items, "NoneOfThem", NoneOfThem)
    raw = {"region": GRID["region"] if region == "grid" else "window", "heuristic": name}
    mine = acquirer(data, tmp_path, **raw, budget="50%", warm_start=None)
    mine.prepare()
    assert mine.query(1, None, Stopwatch(), warm=False) is None
    assert "the heuristic would select" in mine.nothing_left
    assert "less than" not in mine.nothing_left


def test_tables_of_ranks_that_are_gone_are_not_read(data: Path, tmp_path: Path) -> None:
    """A run that was stopped while four ranks scored goes on with one."""
    mine = acquirer(data, tmp_path, **GRID, heuristic="ClassAwareRandom", budget="100%")
    mine.prepare()
    selector = mine.selector(1, None)
    stale = TableWriter(selector.request.table, 3)
    units = make_picks(0, np.zeros(1), [64], unit=[0])
    columns = {"score": torch.ones(1), "majority": torch.zeros(1, dtype=torch.int64)}
    stale.add(units, columns, "old")
    stale.close()
    query = mine.query(1, None, Stopwatch(), warm=False)
    assert query is not None
    assert len({tuple(p)[:4] for p in query.picks}) == len(query.picks)
    assert not (tmp_path / "rounds/001/scores").exists()


GRID = {"region": {"type": "grid", "cell": 8}}
WAYS = {
    "units of the pool": {**GRID, "heuristic": "RIPU", "budget": {"amount": 7, "unit": "region"}},
    "windows": {"heuristic": "RIPU", "region": {"type": "window", "radius": 1}, "budget": "3%"},
    "pixels": {"level": "pixel", "heuristic": "Margin", "budget": 9},
    "images": {"level": "image", "heuristic": "Entropy", "budget": 2},
    "dropout passes": {**GRID, "heuristic": {"type": "BALD", "passes": 3}, "budget": "5%"},
    "a table of pixels": {"level": "pixel", "heuristic": "MaxHerding", "budget": 9},
    "a table of the pool": {**GRID, "heuristic": "CoreSet", "budget": "5%"},
    "no model": {**GRID, "heuristic": "Random", "budget": "5%"},
}


@pytest.mark.parametrize("way", WAYS)
def test_scoring_beside_the_next_forward_pass_changes_no_pick(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; here with predictions on the CPU."""
    streets.generate(tmp_path / "data", train=6, val=1, size=(40, 48), seed=4)
    threads = set()
    observation = scorer.Scorer._observation

    def noted(self: Any, *args: Any) -> Observation:
        threads.add(threading.current_thread() is threading.main_thread())
        return observation(self, *args)

    monkeypatch.setattr(scorer.Scorer, "_observation", noted)
    found = []
    for number, beside in enumerate((False, True)):
        monkeypatch.setattr(scorer, "apart", lambda p, on=beside: on and p.more is None)
        mine = acquirer(tmp_path / "data", tmp_path / str(number), **WAYS[way])
        mine.prepare()
        query = mine.query(1, None, Stopwatch(), warm=False)
        assert query is not None
        found.append(query.picks)
    assert found[0].tobytes() == found[1].tobytes()
    assert threads == ({True} if way == "dropout passes" else {True, False})


def warm(acquirer: Acquirer) -> list[tuple[int, int]]:
    """(image, unit) of the picks of round 0."""
    query = acquirer.query(0, None, Stopwatch(), warm=True)
    assert query is not None
    return list(zip(query.picks["image"].tolist(), query.picks["unit"].tolist(), strict=True))


def test_a_warm_start_is_chosen_by_its_own_heuristic(data: Path, tmp_path: Path) -> None:
    amount = {"amount": 3, "unit": "region"}
    grid = {"region": {"type": "grid", "cell": 8}, "heuristic": "Random", "budget": amount}
    by_entropy = acquirer(
        data, tmp_path / "e", **grid, warm_start={**amount, "heuristic": "Entropy"}
    )
    taken = warm(by_entropy)
    # the mean entropies of the cells by the start of the model, computed here
    engine, scores = by_entropy.engine, {}
    for seen in engine.predict(None, range(2), PredictRequest()):
        p = seen.logits.double().softmax(0)
        entropy = -(p * p.clamp_min(1e-30).log()).sum(0).reshape(5, 8, 6, 8).mean((1, 3))
        scores |= {(seen.index, i): v for i, v in enumerate(entropy.reshape(-1).tolist())}
    assert taken == sorted(scores, key=lambda unit: -scores[unit])[:3]
    at_random = warm(acquirer(data, tmp_path / "r", **grid, warm_start=amount))
    assert at_random != taken
    named = acquirer(data, tmp_path / "n", **grid, warm_start={**amount, "heuristic": "Random"})
    assert warm(named) == at_random


def test_a_warm_start_of_a_pool_heuristic_at_another_level(data: Path, tmp_path: Path) -> None:
    start = {"level": "image", "amount": 1, "heuristic": {"type": "MaxHerding", "sigma": 0.5}}
    mine = acquirer(data, tmp_path, level="pixel", heuristic="Margin", budget=2, warm_start=start)
    assert mine.config.resolved["warm_start"]["heuristic"] == start["heuristic"]
    assert len(warm(mine)) == 1
    later = mine.query(1, None, Stopwatch(), warm=False)
    assert later is not None
    assert len(later.picks) == 4  # two pixels an image, by Margin


def test_a_heuristic_that_a_warm_start_cannot_have_is_refused(data: Path, tmp_path: Path) -> None:
    for start, message in (
        ({"level": "pixel", "amount": 5, "heuristic": "CoreSet"}, "'CoreSet' is not supported"),
        ({"amount": 5, "heuristic": "Entrpy"}, "warm_start.heuristic: unknown heuristic 'Entrpy'"),
        ({"amount": 5, "heuristic": {"type": "MaxHerding", "sigma": 0}}, "sigma=0"),
    ):
        with pytest.raises(RegionalALError, match=message):
            acquirer(data, tmp_path, warm_start=start)


def test_a_random_warm_start_is_recorded_as_before() -> None:
    assert "heuristic" not in parse({"warm_start": {"amount": 5}}).resolved["warm_start"]
    assert "heuristic" not in parse({}).resolved["warm_start"]
