"""`regional-al compare` on MMSegmentation: two arms and a shared start. Several seeds are tried by
test_compare_runner.py, where a run takes no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmseg_tiny import weights_hash
from paths import ROOT

from regional_al.testing import streets

pytestmark = [pytest.mark.slow, pytest.mark.mmseg1]
pytest.importorskip("mmseg")


def compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [
        sys.executable,
        "-m",
        "regional_al",
        "compare",
        str(ROOT / "configs/streets/region_ripu_slic.py"),
        "--out",
        str(folder / "out"),
        *arguments,
    ]
    environment = {**os.environ, "STREETS_ROOT": str(folder / "streets")}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=900)


def test_two_arms_on_the_streets(tmp_path: Path) -> None:
    streets.generate(tmp_path / "streets", train=5, val=2, size=(64, 64), seed=2)
    (tmp_path / "grid.py").write_text(
        "start = dict(level='pixel', warm_start=dict(amount=9, unit='pixel', scope='image'))\n"
        "arms = dict(Random=dict(acquisition=dict(heuristic='Random')),\n"
        "            RIPU=dict(acquisition=dict(region=dict(type='window', radius=2))),\n"
        "            final=dict(labels_of='RIPU'))\n"
    )
    arguments = (
        "--grid",
        str(tmp_path / "grid.py"),
        "--seeds",
        "1",
        "--cfg-options",
        "train_cfg.max_iters=2",
        "param_scheduler.0.end=2",
        "acquisition.rounds=1",
        "acquisition.region.n_segments=30",
    )
    done = compare(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[4/4] final seed 1: done after" in done.stdout
    runs = tmp_path / "out/runs"
    # the same first labels and the same first model for every arm
    places = [runs / arm / "seed1" for arm in ("_start", "Random", "RIPU")]
    hashes = {weights_hash(p / "rounds/000/fit/checkpoint.pth") for p in places}
    assert len(hashes) == 1
    picks = {(p / "rounds/000/query/picks.npy").read_bytes() for p in places}
    assert len(picks) == 1
    assert not (places[1] / "report.html").exists()
    found = json.loads((tmp_path / "out/compare.json").read_text())
    assert [(r["arm"], r["seed"], len(r["records"])) for r in found["runs"]] == [
        ("Random", 1, 2),
        ("RIPU", 1, 2),
        ("final", 1, 1),
    ]
    random, ripu, final = found["runs"]
    spent = [
        [one["records"][-1][cost] for cost in ("images", "regions", "pixels", "clicks")]
        for one in (ripu, final)
    ]
    assert spent[0] == spent[1]
    assert final["records"][0]["iterations"] == 2
    assert list(found["aggregates"]["afresh"]) == ["final"]
    starts = [random["records"][0], ripu["records"][0]]
    assert {one["pixels"] for one in starts} == {45}
    assert starts[0]["mIoU"] == starts[1]["mIoU"]
    assert ripu["acquisition"]["region"] == {"type": "window", "radius": 2}
    assert str(tmp_path) not in json.dumps(found["runs"])
    again = compare(tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already done") == 4
    other = compare(tmp_path, *arguments, "train_cfg.max_iters=3")
    assert other.returncode == 2
    assert "the training config has changed" in other.stderr
    assert other.stderr.count("\n") == 1
