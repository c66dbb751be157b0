"""Whole runs with noise, draws and several predictions: processes, ground truth, resuming."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_loop import SPACE, picks
from warm_ranks import launch

from regional_al.config import grammar as config
from regional_al.loop import runner
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine

GRID = {"level": "region", "region": {"type": "grid", "cell": 8}, "budget": "3%"}
PIXEL = {"level": "pixel", "budget": 6}
BALD = {"type": "BALD", "passes": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "bald": {**GRID, "heuristic": BALD},
    "equal": {**PIXEL, "heuristic": "EquAL"},
    "pixelpick": {**PIXEL, "heuristic": "PixelPick"},
    "edald": {**PIXEL, "heuristic": {"type": "EDALD", "passes": 2, "per_image": 12}},
    "power": {
        "level": "region",
        "region": "window",
        "heuristic": {"type": "Stochastic", "heuristic": BALD},
    },
    "rank": {**GRID, "heuristic": {"type": "Stochastic", "heuristic": "RIPU", "kind": "rank"}},
    "mixture": {
        **GRID,
        "heuristic": {
            "type": "Combine",
            "normalize": "minmax",
            "parts": ["Margin", {**BALD, "weight": 3.0}],
        },
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=5, val=1, size=(40, 48), seed=6)
    return root


def settings(name: str) -> dict[str, Any]:
    return {"rounds": 2, "seed": 5, "previews": 1, **SETTINGS[name]}


def start(data: Path, work_dir: Path, acquisition: dict[str, Any]) -> None:
    work_dir.mkdir(parents=True, exist_ok=True)
    runner.run(toy_engine(data, SPACE, 3), config.parse(acquisition), work_dir, report=False)


@pytest.mark.parametrize("name", SETTINGS)
def test_corrupting_unqueried_ground_truth_changes_no_pick(
    name: str, data: Path, tmp_path: Path
) -> None:
    start(data, tmp_path / "honest", settings(name))
    other = tmp_path / "data"
    shutil.copytree(data, other)
    store = LabelStore(tmp_path / "honest" / "labels")
    for path in (other / "annotations" / "train").iterdir():
        truth, said = read_ids(path), store.annotated(path.stem)
        unseen = np.ones(truth.shape, bool) if said is None else said == 0
        truth[unseen] = 255  # void must not be known either
        write_png(path, truth)
    start(other, tmp_path / "corrupt", settings(name))
    assert picks(tmp_path / "corrupt") == picks(tmp_path / "honest")


@pytest.mark.slow
def test_same_picks_on_1_and_2_processes(data: Path, tmp_path: Path) -> None:
    runs = [settings(name) for name in ("power", "pixelpick", "mixture", "edald")]
    for processes in (1, 2):
        launch(processes, data, tmp_path / str(processes), runs)
    for run in ("0", "1", "2", "3"):
        assert picks(tmp_path / "1" / run) == picks(tmp_path / "2" / run)
