"""Pooled heuristics through the loop on the toy engine, on one and several ranks; embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from warm_ranks import launch

from regional_al.acquisition.candidates import make_picks
from regional_al.config import grammar as config
from regional_al.errors import ScoreError, UnsupportedError
from regional_al.heuristics import Observation
from regional_al.heuristics.diversity import embed, region_features
from regional_al.loop import runner
from regional_al.runtime import distributed as dist
from regional_al.selection.pool_table import TableWriter, read_table
from regional_al.store import results as records
from regional_al.store.labels import LabelStore
from regional_al.store.query import read_query
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
HEURISTICS: dict[str, Any] = {
    "balance": "ClassBalance",
    "clasp": {"type": "ClaSPPE", "exclude": [0]},
    "random": "ClassAwareRandom",
    "redal": {"type": "ReDAL", "candidates": "50%"},
    "coreset": "CoreSet",
    "badge": {"type": "BADGE", "candidates": 40},
    "contextual": "ContextualDiversity",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=7, val=1, size=(40, 56), seed=3)
    return root


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "finish", lambda *_: None)


def settings(name: str, **more: Any) -> dict[str, Any]:
    region = {"type": "slic", "n_segments": 30} if name == "redal" else {"type": "grid", "cell": 8}
    return {
        "level": "region",
        "region": region,
        "heuristic": HEURISTICS[name],
        "rounds": 2,
        "budget": "4%",
        "warm_start": {"level": "pixel", "amount": 30},
        "seed": 5,
        "previews": 1,
        **more,
    }


def start(data: Path, work_dir: Path, acquisition: dict[str, Any], iterations: int = 6) -> Any:
    work_dir.mkdir(parents=True, exist_ok=True)
    return runner.run(toy_engine(data, SPACE, iterations), config.parse(acquisition), work_dir)


@pytest.mark.parametrize("name", HEURISTICS)
def test_picks_within_budget_and_the_same_whatever_the_number_of_ranks(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "redal":
        pytest.importorskip("skimage")
    acquisition = config.parse(settings(name))
    loop = start(data, tmp_path, settings(name))
    for round_ in (1, 2):
        query = read_query(tmp_path / f"rounds/00{round_}/query")
        assert 0 < query.picks["pixels"].sum() <= loop.acquirer.limit(acquisition.budget)
        assert np.isfinite(query.picks["score"]).all()
        preview = json.loads((tmp_path / f"rounds/00{round_}/preview/index.json").read_text())
        shown = np.load(tmp_path / f"rounds/00{round_}/preview" / preview[0]["score"])
        assert np.isfinite(shown).all()
    # what would be picked next, the images shared among 1, 2 and 3 ranks
    selector = loop.acquirer.selector(3, tmp_path / "rounds/002/fit/checkpoint.pth")
    task = selector.request
    found = []
    for ranks in (1, 2, 3):
        for rank in reversed(range(ranks)):
            monkeypatch.setattr(dist, "rank", lambda r=rank: r)
            selector.candidates(range(rank, len(task.pool), ranks))
        found.append(selector.merge([]))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    assert 0 < found[0]["pixels"].sum() <= loop.acquirer.limit(acquisition.budget)
    store = LabelStore(tmp_path / "labels")
    for index in range(len(task.pool)):  # `pixels` is what has no answer yet
        item = task.pool[index]
        ids = task.target.partition.ids(item)
        done = store.annotated(item.key)
        for pick in found[0][found[0]["image"] == index]:
            inside = ids == pick["unit"]
            fresh = inside if done is None else inside & (done == 0)
            assert fresh.sum() == pick["pixels"]


@pytest.mark.parametrize("name", ["balance", "random"])
def test_one_click_a_superpixel(name: str, data: Path, tmp_path: Path) -> None:
    start(
        data,
        tmp_path,
        settings(
            name,
            annotator={"type": "oracle", "answer": "dominant"},
            budget={"amount": 9, "unit": "click"},
        ),
    )
    assert [r.asked.clicks for r in records.load(tmp_path).records[1:]] == [9, 9]
    assert [r.asked.regions for r in records.load(tmp_path).records[1:]] == [9, 9]


@pytest.mark.parametrize("name", ["clasp", "random", "redal", "coreset", "badge", "contextual"])
def test_whole_images_until_none_is_left(name: str, data: Path, tmp_path: Path) -> None:
    if name == "redal":
        pytest.importorskip("skimage")
    budget = {"amount": 3, "unit": "image"}
    acquisition = {
        "level": "image",
        "heuristic": HEURISTICS[name],
        "rounds": 4,
        "budget": budget,
        "warm_start": {"amount": 2, "unit": "image"},
        "previews": 0,
    }
    loop = start(data, tmp_path, acquisition, iterations=1)
    assert [r.asked.images for r in records.load(tmp_path).records] == [2, 3, 2]
    assert "no unlabelled unit is left" in loop.reason


def test_levels_that_make_no_sense_are_refused_by_name(data: Path, tmp_path: Path) -> None:
    for level, name in (("image", "balance"), ("pixel", "coreset"), ("pixel", "clasp")):
        heuristic = HEURISTICS[name]
        with pytest.raises(UnsupportedError, match="is not supported"):
            start(data, tmp_path / "a", {"level": level, "heuristic": heuristic})
    for name in set(HEURISTICS) - {"random"}:
        raw = {"level": "region", "region": "window", "heuristic": HEURISTICS[name]}
        with pytest.raises(UnsupportedError, match="disjoint units"):
            start(data, tmp_path / "b", raw)


@pytest.mark.parametrize(
    "where", [{"level": "pixel", "budget": 5}, {"level": "region", "region": "window"}]
)
def test_class_aware_random_works_on_pixels_and_windows(
    where: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    raw = {"heuristic": "ClassAwareRandom", "rounds": 1, "previews": 0, **where}
    loop = start(data, tmp_path, raw, iterations=1)
    query = read_query(tmp_path / "rounds/001/query")
    budget = config.parse(raw).budget
    assert 0 < budget.cost_of(query.picks).sum() <= loop.acquirer.limit(budget)


@pytest.mark.slow
def test_same_picks_on_1_and_2_processes(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    found = []
    for processes in (1, 2):
        work_dir = tmp_path / str(processes)
        launch(processes, data, work_dir, [settings(n) for n in ("redal", "clasp", "contextual")])
        files = sorted(f for f in work_dir.glob("*/rounds/*/query/**/*") if f.is_file())
        assert len(files) > 18
        found.append({str(f.relative_to(work_dir)): f.read_bytes() for f in files})
    assert found[0] == found[1]


def test_features_of_some_images_only_are_refused(tmp_path: Path) -> None:
    units = make_picks(0, np.zeros(2), [1, 1], unit=[0, 1])
    writer = TableWriter(tmp_path, 0)
    writer.add(units, {"vector": torch.zeros(2, 3)}, "a")
    with pytest.raises(ScoreError, match=r"image 'b': vector has \[5\] .* per unit.*mode='whole'"):
        writer.add(units, {"vector": torch.zeros(2, 5)}, "b")
    writer.close()
    other = TableWriter(tmp_path, 1)
    other.add(units, {"vector": torch.zeros(2, 5)}, "b")
    other.close()
    with pytest.raises(ScoreError, match=r"an image: vector has \[5\] .* per unit.*mode='whole'"):
        read_table(tmp_path)


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 15), st.integers(1, 15)),
    st.integers(1, 6),
    st.integers(0, 10**6),
)
def test_features_of_a_unit_are_the_mean_over_its_pixels_of_the_nearest_feature(
    small: tuple[int, int], size: tuple[int, int], units: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3, *small)).astype(np.float32)
    regions = rng.integers(0, units, size)
    mine = region_features(torch.from_numpy(features), torch.from_numpy(regions), units + 1)
    for r in range(units + 1):
        found = [
            features[:, i * small[0] // size[0], j * small[1] // size[1]]
            for i, j in zip(*np.nonzero(regions == r), strict=True)
        ]
        if found:
            assert mine[r].tolist() == pytest.approx(np.mean(found, axis=0).tolist(), abs=1e-5)
        else:
            assert torch.isnan(mine[r]).all()


def test_without_features_the_embedding_is_mean_softmax() -> None:
    logits = torch.tensor([[[0.0, 0.0, 2.0]], [[0.0, np.log(3.0), 2.0]]])
    regions = torch.tensor([[0, 0, 2]])
    found = embed(Observation(logits), regions, 3)
    assert found[0].tolist() == pytest.approx([(0.5 + 0.25) / 2, (0.5 + 0.75) / 2])
    assert torch.isnan(found[1]).all()
    assert found[2].tolist() == pytest.approx([0.5, 0.5])
    features = torch.arange(2.0).reshape(1, 1, 2)
    assert embed(Observation(logits, features=features), regions, 3)[0].tolist() == [0.0]
    half = embed(Observation(logits, features=features.half()), regions, 3)
    assert half[2].tolist() == [1.0]
