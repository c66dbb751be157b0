"""Pixels chosen over the pool (EDALD, MaxHerding) against the definitions, pixel by pixel."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_tables import picks, random_table, table

from regional_al import functional
from regional_al.acquisition.acquirer import Acquirer
from regional_al.acquisition.candidates import pixel_rows
from regional_al.config.grammar import parse
from regional_al.engines.base import predictions
from regional_al.errors import BudgetError, ConfigError, ScoreError
from regional_al.heuristics import HEURISTICS, Observation, edald, herding, pixel_units
from regional_al.runtime.progress import Stopwatch
from regional_al.selection import Basket
from regional_al.selection.pool_table import PoolTable
from regional_al.store.labels import LabelStore
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import F32, FeatureMap, LabelSpace, PredictRequest

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
EDALD = {"type": "EDALD", "passes": 2, "per_image": 12}


def first(points: Any, seeds: Any, count: int, sigma: float = 1.0) -> list[int]:
    """What greedy herding takes, by the formula, all of it computed anew for every pick; in single
    precision, so that sums that differ by rounding alone are ordered alike."""

    def similar(one: F32) -> F32:
        difference = x - one
        squared = np.einsum("nd,nd->n", difference, difference)
        return np.exp(squared * np.float32(-1 / sigma**2))

    x = normed(points)
    chosen = list(normed(seeds)) if len(seeds) else []
    taken: list[int] = []
    for _ in range(min(count, len(x))):
        covered = np.zeros(len(x), dtype=np.float32)
        for one in chosen:
            covered = np.maximum(covered, similar(one))
        gains = {
            j: np.maximum(similar(x[j]) - covered, 0).sum(dtype=np.float64)
            for j in range(len(x))
            if j not in taken
        }
        taken.append(max(gains, key=lambda j: gains[j]))
        chosen.append(x[taken[-1]])
    return taken


def normed(vectors: Any) -> F32:
    x = np.asarray(vectors, dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def observed(seed: int, annotated: Any = None) -> Observation:
    """6 x 8 pixels over 3 x 4 cells of features."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(5, 3, 4, generator=generator)
    logits = torch.randn(4, 6, 8, generator=generator)
    return Observation(logits, np.random.default_rng(seed), None, features, annotated)


def under(features: torch.Tensor) -> F32:
    """The feature under each of the 6 x 8 pixels, row by row."""
    pixels = [features[:, r // 2, c // 2].numpy() for r in range(6) for c in range(8)]
    return np.array(pixels)


def test_edald_by_hand() -> None:
    """Two passes, p = (1/2, 1/2) and (1/4, 3/4), of the mean (3/8, 5/8)."""
    views = [torch.zeros(2, 1, 1), torch.tensor([[[0.0]], [[math.log(3)]]])]
    of_mean = -(3 / 8 * math.log(3 / 8) + 5 / 8 * math.log(5 / 8))
    mean = (math.log(2) - (math.log(1 / 4) / 4 + 3 * math.log(3 / 4) / 4)) / 2
    assert functional.edald(views).item() == pytest.approx(2 * of_mean - mean, abs=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_edald_is_entropy_and_bald(seed: int, passes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    views = [3 * torch.randn(3, 2, 4, generator=generator) for _ in range(passes)]
    mean = torch.stack(views).double().softmax(1).mean(0)
    wanted = functional.bald(views).double() - (mean * mean.log()).sum(0)
    assert functional.edald(views).numpy() == pytest.approx(wanted.numpy(), abs=1e-5)
    with pytest.raises(ScoreError):
        functional.edald([*views, torch.full((3, 2, 4), math.nan)])
    with pytest.raises(ValueError, match="edald needs"):
        functional.edald([])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([0.3, 1.0]))
def test_proposed_pixels_represent_the_image_beside_what_is_labelled(
    seed: int, count: int, sigma: float
) -> None:
    answered = np.random.default_rng(seed).random((6, 8)) < seed % 3 / 4
    seen = observed(seed, answered.astype(np.uint8))
    found = herding.propose(seen, count, sigma)
    assert found.tolist() == sorted(set(found.tolist()))
    points, done = under(seen.features), np.flatnonzero(answered)
    open_ = np.flatnonzero(~answered)
    assert set(done) <= set(found)
    mine = [p for p in found.tolist() if not answered.flat[p]]
    assert len(mine) == min(count, len(open_))
    assert mine == sorted(open_[first(points[open_], points[done], count, sigma)])


def test_large_images_are_sampled_by_the_seed_of_image_and_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(herding, "SAMPLE", 9)
    monkeypatch.setattr(herding, "LABELLED", 3)
    answered = np.arange(48).reshape(6, 8) < 20
    scenes = [observed(1, answered) for _ in range(3)]
    scenes[2] = dataclasses.replace(scenes[2], rng=np.random.default_rng(2))
    found = [herding.propose(seen, 4, 1.0) for seen in scenes]
    assert found[0].tolist() == found[1].tolist() != found[2].tolist()
    assert [int((f < 20).sum()) for f in found] == [3, 3, 3]
    assert [len(f) for f in found] == [7, 7, 7]
    assert len(herding.propose(observed(1, answered), 12, 1.0)) == 15  # as many as are asked for


def test_pixels_are_described_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the cells of the features do not cover the image evenly."""
    seen = observed(3)
    pixels = np.array([0, 9, 47])
    units = pixel_units(pixels, seen)
    assert [int(units.flatten()[p]) for p in pixels] == [0, 1, 2]
    assert int((units == 3).sum()) == 45
    even = HEURISTICS.build("MaxHerding").describe(seen, units, 4)
    assert even["vector"][:3].numpy() == pytest.approx(under(seen.features)[pixels], abs=1e-6)
    entropy = functional.entropy(seen.logits).flatten()[pixels]
    assert even["score"][:3].tolist() == pytest.approx(entropy.tolist(), abs=1e-6)
    rows, cols = torch.tensor([0, 0, 0, 0, 1, 2]), torch.tensor([3, 3, 2, 2, 1, 1, 0, 0])
    uneven = Observation(seen.logits, features=FeatureMap(seen.features, rows, cols))
    found = HEURISTICS.build("MaxHerding").describe(uneven, units, 4)["vector"]
    wanted = [seen.features[:, rows[p // 8], cols[p % 8]].tolist() for p in pixels]
    assert found[:3].numpy() == pytest.approx(np.array(wanted), abs=1e-6)


def test_rows_of_a_table_of_pixels() -> None:
    annotated = np.zeros((2, 3), dtype=np.uint8)
    annotated[1, 0] = 1
    found = pixel_rows(7, np.array([2, 3, 4]), (2, 3), annotated)
    assert found["image"].tolist() == [7, 7, 7]
    assert list(zip(found["row"].tolist(), found["col"].tolist(), strict=True)) == [
        (0, 2),
        (1, 0),
        (1, 1),
    ]
    assert (found["unit"].tolist(), found["pixels"].tolist()) == ([0, 1, 2], [1, 0, 1])
    assert pixel_rows(7, np.array([3]), (2, 3), None)["pixels"].tolist() == [1]


def pool_of(seed: int, images: int, units: int) -> PoolTable:
    """Some units of some images, some of them labelled."""
    rng = np.random.default_rng(seed)
    made = random_table(rng, images * units)
    made.units["image"] = np.repeat(np.arange(images), units)
    made.units["unit"] = np.tile(np.arange(units), images)
    return made


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 30))
def test_picks_are_those_of_the_two_stages(seed: int, per_image: int, budget: int) -> None:
    pool = pool_of(seed, 3, 9)
    keep = (0.5, 0.2, 1.0)[seed % 3]
    points, scores, open_ = pool["vector"], pool["score"], pool.open
    candidates: list[int] = []
    for image in range(3):
        here = np.flatnonzero((pool.image == image) & open_)
        done = np.flatnonzero((pool.image == image) & ~open_)
        candidates += here[first(points[here], points[done], per_image)].tolist()
    candidates.sort()
    count = max(1, int(keep * len(candidates)))
    kept = [candidates[i] for i in first(points[candidates], points[~open_], count)]
    wanted: list[int] = []
    for group in (kept, candidates, np.flatnonzero(open_).tolist()):
        wanted += sorted(set(group) - set(wanted), key=lambda i: -scores[i])
    heuristic = HEURISTICS.build(
        {"type": "EDALD", "passes": 2, "per_image": per_image, "keep": keep}
    )
    assert picks(heuristic, pool, budget) == wanted[:budget]


def test_equal_scores_are_taken_by_position() -> None:
    same = table([1] * 6, score=np.ones(6), vector=np.ones((6, 3)))
    heuristic = HEURISTICS.build({"type": "EDALD", "keep": 1.0})
    assert picks(heuristic, same, 6) == [0, 1, 2, 3, 4, 5]


def test_units_that_cost_too_much_are_no_candidates() -> None:
    """The most central unit and the most uncertain one cost more than the budget."""
    points = np.array([[1, 0.1], [1, 0], [1, -0.1], [-1, 0]], dtype=np.float32)
    pool = table([1, 9, 1, 1], score=[0.1, 0.9, 0.3, 0.2], vector=points)
    heuristic = HEURISTICS.build({"type": "EDALD", "per_image": 1})
    basket = Basket([1, 9, 1, 1], pool.open, 2)
    heuristic.choose(pool, basket, np.random.default_rng(0))
    assert basket.taken == [0, 2]  # the representative of what can be paid, then by score


def test_a_large_pool_keeps_its_share_in_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edald, "PART", 10)
    pool = pool_of(5, 5, 9)
    rows = np.flatnonzero(pool.open)
    parts = math.ceil(len(rows) / 10)
    assert parts > 2
    kept = edald.of_pool(pool, rows, 0.4, 1.0)
    labelled = pool["vector"][~pool.open]
    wanted: list[int] = []
    for part in range(parts):
        mine = rows[part::parts]
        found = first(pool["vector"][mine], labelled, int(0.4 * len(mine)))
        wanted += mine[found].tolist()
    assert kept.tolist() == sorted(wanted)
    assert len(edald.of_pool(pool, rows[:0], 0.4, 1.0)) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("edald") / "streets"
    streets.generate(root, train=2, val=1, size=(32, 32), seed=4)
    return root


def acquirer(data: Path, work_dir: Path, **raw: Any) -> Acquirer:
    store = LabelStore(work_dir / "labels")
    config = parse({"level": "pixel", "previews": 1, **raw})
    return Acquirer(toy_engine(data, SPACE, 1), config, store, work_dir)


def asked(mine: Acquirer) -> Any:
    query = mine.query(1, None, Stopwatch(), warm=False)
    assert query is not None
    return query.picks


@pytest.mark.parametrize("scope", ["pool", "image"])
def test_a_query_of_pixels_is_that_of_the_definition(
    scope: str, data: Path, tmp_path: Path
) -> None:
    budget = {"amount": 3, "unit": "pixel", "scope": scope}
    heuristic = {"type": "MaxHerding", "sigma": 0.2, "per_image": 3}
    mine = acquirer(data, tmp_path, heuristic=heuristic, budget=budget)
    found = asked(mine)
    points, places, scores = [], [], []
    for seen in predictions(mine.engine, None, range(2), PredictRequest(features=True)):
        size = seen.logits.shape[1:]
        assert seen.features is not None
        h, w = seen.features.shape[1:]
        rows, cols = np.arange(size[0]) * h // size[0], np.arange(size[1]) * w // size[1]
        every = seen.features.numpy()[:, rows][:, :, cols].reshape(len(seen.features), -1).T
        chosen = first(every, [], 3, 0.2)
        points += every[chosen].tolist()
        places += [(seen.index, *divmod(p, size[1])) for p in chosen]
        scores += functional.entropy(seen.logits).flatten()[chosen].tolist()
    order = np.lexsort(np.array(places).T[::-1])  # the table is row-major
    points, places = [points[i] for i in order], [places[i] for i in order]
    wanted = [places[i] for i in first(points, [], 3 if scope == "pool" else 6, 0.2)]
    assert [(p["image"], p["row"], p["col"]) for p in found] == wanted
    entropies = dict(zip(places, np.array(scores)[order], strict=True))
    assert found["score"].tolist() == pytest.approx([entropies[p] for p in wanted], abs=1e-6)
    assert (found["unit"] == -1).all()
    assert (found["pixels"] == 1).all()


def test_pixels_may_be_proposed_in_any_order(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = acquirer(data, tmp_path, heuristic="MaxHerding").selector(1, None).scorer
    heuristic = HEURISTICS.build("MaxHerding")
    found = []
    for order in ([4, 1, 30], [1, 4, 30]):
        monkeypatch.setattr(heuristic, "propose_pixels", lambda seen, at=order: np.array(at))
        found.append(scorer.describe_pixels(observed(1), heuristic))
    assert found[0][1].tolist() == found[1][1].tolist() == [1, 4, 30]
    assert torch.equal(found[0][0]["vector"], found[1][0]["vector"])


def test_a_budget_above_what_is_proposed_is_refused_before_anything_is_asked(
    data: Path, tmp_path: Path
) -> None:
    few = {**EDALD, "per_image": 4}
    for budget, needed in (
        ({"amount": 5, "unit": "pixel", "scope": "image"}, 5),
        ({"amount": 9, "unit": "click", "scope": "pool"}, 5),
        ({"amount": "10%", "unit": "pixel", "scope": "image"}, 102),
    ):
        mine = acquirer(data, tmp_path, heuristic=few, budget=budget)
        with pytest.raises(BudgetError, match=f"EDALD chooses .* set per_image={needed} or more"):
            mine.limit(mine.config.budget)
    fits = acquirer(data, tmp_path, heuristic=few, budget={"amount": 8, "scope": "pool"})
    assert fits.limit(fits.config.budget) == 8
    start = {"level": "pixel", "amount": 51, "heuristic": "MaxHerding"}
    warm = acquirer(data, tmp_path, heuristic="Margin", budget=60, warm_start=start)
    assert warm.limit(warm.config.budget) == 120  # Margin scores every pixel
    assert warm.config.warm_start is not None
    assert warm.config.warm_start.budget is not None
    with pytest.raises(BudgetError, match="set per_image=51"):
        warm.limit(warm.config.warm_start.budget, warm=True)


def test_mistakes() -> None:
    for wrong in ({"passes": 1}, {"per_image": 0}, {"keep": 0}, {"keep": 1.5}, {"sigma": 0}):
        (name, value), *_ = wrong.items()
        with pytest.raises(ConfigError, match=f"heuristic EDALD: {name}={value}"):
            HEURISTICS.build({"type": "EDALD", **wrong})
    with pytest.raises(ConfigError, match="heuristic MaxHerding: per_image='5'"):
        HEURISTICS.build({"type": "MaxHerding", "per_image": "5"})
