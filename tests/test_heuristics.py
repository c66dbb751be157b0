"""Contract of every registered heuristic at every level; hand-worked scores of the built-in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regional_al import config, run
from regional_al.budget import Budget
from regional_al.errors import ConfigError, ScoreError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.query import read_query
from regional_al.report import records
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
PLACES: dict[str, dict[str, Any]] = {
    "image": {"level": "image", "budget": {"amount": 2, "unit": "image"}},
    "grid": {"level": "region", "region": {"type": "grid", "cell": 8}, "budget": "4%"},
    "slic": {"level": "region", "region": {"type": "slic", "n_segments": 30}, "budget": "6%"},
    "window": {"level": "region", "region": "window"},
    "pixel": {"level": "pixel", "budget": 5},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=5, val=1, size=(40, 48), seed=4)
    return root


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", list(HEURISTICS))
def test_every_heuristic_works_at_every_level_within_its_budget(
    name: str, place: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heuristic = {"type": name, "radius": 3} if (name, place) == ("RIPU", "pixel") else name
    raw = {**PLACES[place], "heuristic": heuristic, "rounds": 2, "previews": 0}
    acquisition = config.parse(raw)
    monkeypatch.setattr(run, "finish", lambda *_: None)  # the report has its own tests
    asked: set[tuple[Any, ...]] = set()
    engine = toy_engine(data, SPACE, iterations=2)
    for folder in ("first", "second"):  # the same seed, the same picks
        (tmp_path / folder).mkdir()
        loop = run.run(engine, acquisition, tmp_path / folder)
    for record in records.load(tmp_path / "first").records:
        query = read_query(tmp_path / f"first/rounds/{record.round:03d}/query")
        again = read_query(tmp_path / f"second/rounds/{record.round:03d}/query")
        assert query.picks.tobytes() == again.picks.tobytes()
        budget: Budget = acquisition.budget
        assert 0 < budget.cost_of(query.picks).sum() <= loop.acquirer.limit(budget)
        assert (np.diff(query.picks["score"]) <= 0).all()  # best first
        places = {tuple(p)[:4] for p in query.picks}  # image, row, col, unit
        assert len(places) == len(query.picks)
        assert not places & asked  # never twice
        asked |= places


@pytest.mark.parametrize("name", sorted(set(HEURISTICS) - {"Random"}))
def test_scores_leave_their_input_alone_and_refuse_nan(name: str) -> None:
    heuristic = HEURISTICS.build(name)
    logits = torch.randn(4, 9, 11, generator=torch.Generator().manual_seed(1))
    before = logits.clone()
    regions = torch.arange(99).reshape(9, 11) // 33
    units = heuristic.unit_scores(Observation(logits), regions, 4)
    dense = heuristic.pixel_scores(Observation(logits))
    windows = heuristic.window_scores(Observation(logits), 1)
    assert torch.equal(logits, before)
    assert units.shape == (4,)
    assert torch.isfinite(units[:3]).all()
    assert torch.isnan(units[3])  # an empty region has no score
    assert dense.shape == windows.shape == (9, 11)
    logits[2, 3, 4] = float("nan")
    for call in (
        lambda: heuristic.unit_scores(Observation(logits), regions, 4),
        lambda: heuristic.pixel_scores(Observation(logits)),
        lambda: heuristic.window_scores(Observation(logits), 1),
    ):
        with pytest.raises(ScoreError):
            call()


@pytest.mark.parametrize(
    ("name", "sure", "unsure"),
    [("Entropy", 0.0, math.log(2)), ("Margin", 0.0, 1.0), ("LeastConfidence", 0.0, 0.5)],
)
def test_uncertainty_of_two_classes(name: str, sure: float, unsure: float) -> None:
    """One pixel with p = (1, 0), one with p = (1/2, 1/2); a region is their mean."""
    logits = torch.tensor([[[60.0, 1.0]], [[0.0, 1.0]]])
    heuristic = HEURISTICS.build(name)
    assert heuristic.pixel_scores(Observation(logits)).tolist() == [
        pytest.approx([sure, unsure], abs=1e-6)
    ]
    region = heuristic.unit_scores(Observation(logits), torch.zeros(1, 2, dtype=torch.int32), 1)
    assert region.tolist() == pytest.approx([(sure + unsure) / 2], abs=1e-6)


def test_ripu_of_a_region_is_impurity_times_uncertainty() -> None:
    """Four pixels, C = 2, all with p = (0.8, 0.2) or (0.2, 0.8): U = H(0.8)/ln 2. Three predicted
    as class 0 and one as 1: P = H(3/4)/ln 2."""
    gap = math.log(4.0)
    logits = torch.zeros(2, 2, 2)
    logits[0, 0, 0] = logits[0, 0, 1] = logits[0, 1, 0] = gap
    logits[1, 1, 1] = gap

    def entropy(p: float) -> float:
        return -(p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2)

    expected = entropy(0.8) * entropy(0.75)
    ripu = HEURISTICS.build("RIPU")
    unit = ripu.unit_scores(Observation(logits), torch.zeros(2, 2, dtype=torch.int32), 1)
    assert unit.tolist() == pytest.approx([expected], rel=1e-5)
    assert ripu.window_scores(Observation(logits), 1)[0, 0].item() == pytest.approx(
        expected, rel=1e-5
    )
    one_class = ripu.unit_scores(
        Observation(torch.zeros(1, 2, 2)), torch.zeros(2, 2, dtype=torch.int32), 1
    )
    assert one_class.tolist() == [0.0]


def test_wrong_arguments_name_the_heuristic() -> None:
    with pytest.raises(ConfigError, match=r"RIPU.*radius"):
        HEURISTICS.build({"type": "RIPU", "radius": -1})
    with pytest.raises(ConfigError, match="'Entropy'"):
        HEURISTICS.build({"type": "Entropy", "radius": 1})
