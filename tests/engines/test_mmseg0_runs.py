"""0.x configs through `tools/dist_train.sh` as a user runs them: --smoke on Cityscapes' own layout,
processes, SIGKILL and --resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from regional_al.testing import streets

pytestmark = [pytest.mark.slow, pytest.mark.mmseg0]
pytest.importorskip("mmcv.runner")
CITYSCAPES = ROOT / "configs/mmseg0/_fcn_d6_r50-d16_cityscapes.py"
STREETS = f"""
_base_ = {str(ROOT / "configs/mmseg0/_streets.py")!r}
data = dict(samples_per_gpu=2)
model = dict(backbone=dict(base_channels=4), decode_head=dict(in_channels=4, channels=4))
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/cityscapes and data/streets in a folder to start from."""
    root = tmp_path_factory.mktemp("scenes")
    streets.generate(root / "data/cityscapes", train=10, val=5, size=(64, 128), layout="cityscapes")
    streets.generate(root / "data/streets", train=7, val=2, size=(64, 64), seed=2)
    return root


def command(config: Path, gpus: int, work_dir: Path, *more: str) -> list[str]:
    script = str(ROOT / "tools/dist_train.sh")
    return ["bash", script, str(config), str(gpus), "--work-dir", str(work_dir), *more]


def dist_train(scenes: Path, *arguments: Any) -> str:
    done = subprocess.run(
        command(*arguments),
        env={**os.environ, "PYTHON": sys.executable},
        cwd=scenes,
        timeout=600,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def picks(work_dir: Path) -> dict[str, bytes]:
    files = [f for f in sorted(work_dir.glob("rounds/*/query/**/*")) if f.is_file()]
    assert files
    return {str(f.relative_to(work_dir)): f.read_bytes() for f in files}


@pytest.mark.parametrize(("level", "gpus"), [("region", 2), ("image", 1), ("pixel", 1)])
def test_a_users_config_and_one_key(scenes: Path, tmp_path: Path, level: str, gpus: int) -> None:
    """SyncBN without GPU, weights from the network, 512x1024 crops, 40000 iterations: --smoke."""
    config = tmp_path / "mine.py"
    config.write_text(
        f"_base_ = {str(CITYSCAPES)!r}\nacquisition = dict(level={level!r}, heuristic='RIPU')\n"
    )
    options = ["--smoke", "--cfg-options", "runner.max_iters=2", "acquisition.rounds=1"]
    said = dist_train(scenes, config, gpus, tmp_path / "w", *options)
    assert "SMOKE RUN of mine" in said
    assert "open-mmlab://resnet50_v1c" in said
    results = json.loads((tmp_path / "w/results.json").read_text())
    assert results["title"].startswith("SMOKE RUN of mine")
    assert results["engine"] == "mmseg0"
    assert results["pool"]["images"] == 8
    assert [record["iterations"] for record in results["records"]] == [2, 2]
    assert (tmp_path / "w/report.html").is_file()


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short training, to be scored by different numbers of processes."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "start.py"
    config.write_text(
        STREETS + "acquisition = dict(level='image', heuristic='Random', rounds=0,\n"
        "    warm_start=dict(amount=4, unit='image'), budget=dict(amount=1, unit='image'))\n"
        "runner = dict(max_iters=4)\n"
    )
    dist_train(scenes, config, 1, folder / "w")
    return folder / "w/rounds/000/fit/checkpoint.pth"


@pytest.mark.parametrize("region", ["dict(type='slic', n_segments=40)", "'window'"])
def test_one_and_two_processes_pick_the_same_bytes(
    region: str, scenes: Path, trained: Path, tmp_path: Path
) -> None:
    """Source-free: the first query is the given checkpoint's, before any training."""
    config = tmp_path / "free.py"
    config.write_text(
        STREETS + f"acquisition = dict(level='region', heuristic='RIPU', region={region},\n"
        "    warm_start=None, queries=[0], rounds=1, round_init='pretrained')\n"
        f"load_from = {str(trained)!r}\nrunner = dict(max_iters=1)\n"
    )
    dist_train(scenes, config, 1, tmp_path / "one")
    dist_train(scenes, config, 2, tmp_path / "two")
    assert picks(tmp_path / "one") == picks(tmp_path / "two")


def test_sigkill_in_training_then_auto_resume_ends_with_the_same_picks(
    scenes: Path, tmp_path: Path
) -> None:
    """One continuous run with queries; the config's own `auto_resume` is --resume."""
    config = tmp_path / "run.py"
    config.write_text(
        STREETS + "acquisition = dict(level='region', heuristic='RIPU', queries=[6, 12],\n"
        "    rounds=2, region=dict(type='slic', n_segments=40), round_init='scratch')\n"
        "runner = dict(max_iters=16)\nauto_resume = True\n"
    )
    dist_train(scenes, config, 1, tmp_path / "whole")
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        command(config, 1, broken),
        env={**os.environ, "PYTHON": sys.executable},
        cwd=scenes,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not list(broken.glob("rounds/001/fit/*")):  # the second stretch is under way
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)  # the rank, in a session of its own, follows its launcher
    assert not (broken / "rounds/002").exists()
    dist_train(scenes, config, 1, broken)
    assert picks(broken) == picks(tmp_path / "whole")
