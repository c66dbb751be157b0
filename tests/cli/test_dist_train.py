"""`tools/dist_train.sh` on MMSegmentation as a user runs it: processes, SIGKILL and --resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import ROOT

from regional_al.testing import streets

pytestmark = [pytest.mark.slow, pytest.mark.mmseg1]
pytest.importorskip("mmseg")
BASE = f"_base_ = {str(ROOT / 'configs/streets/_base.py')!r}\n"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "streets"
    streets.generate(root, train=7, val=2, size=(64, 64), seed=2)
    return root


def command(config: Path, gpus: int, work_dir: Path, *more: str) -> list[str]:
    script = str(ROOT / "tools/dist_train.sh")
    return ["bash", script, str(config), str(gpus), "--work-dir", str(work_dir), *more]


def environment(scenes: Path) -> dict[str, str]:
    return {**os.environ, "STREETS_ROOT": str(scenes), "PYTHON": sys.executable}


def dist_train(scenes: Path, *arguments: object) -> None:
    subprocess.run(
        command(*arguments), env=environment(scenes), check=True, timeout=600, capture_output=True
    )  # type: ignore[call-overload]


def picks(work_dir: Path) -> dict[str, bytes]:
    files = [f for f in sorted(work_dir.glob("rounds/*/query/**/*")) if f.is_file()]
    assert files
    return {str(f.relative_to(work_dir)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short training, to be scored by different numbers of processes."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "start.py"
    config.write_text(
        BASE + "acquisition = dict(level='image', heuristic='Random', rounds=0,\n"
        "    warm_start=dict(amount=4, unit='image'), budget=dict(amount=1, unit='image'))\n"
        "train_cfg = dict(max_iters=4)\n"
    )
    dist_train(scenes, config, 1, folder / "w")
    return folder / "w/rounds/000/fit/checkpoint.pth"


def test_one_and_two_processes_pick_the_same_bytes(
    scenes: Path, trained: Path, tmp_path: Path
) -> None:
    """Source-free: the first query is the given checkpoint's, before any training. Other regions
    and levels: tests/loop."""
    config = tmp_path / "free.py"
    config.write_text(
        BASE + f"acquisition = dict(level='region', heuristic='RIPU', \n"
        "    region=dict(type='slic', n_segments=40), warm_start=None, queries=[0], rounds=1)\n"
        f"load_from = {str(trained)!r}\ntrain_cfg = dict(max_iters=1)\n"
        # what does not go with `queries` in the inherited grammar
        "acquisition['round_init'] = 'pretrained'\n"
    )
    dist_train(scenes, config, 1, tmp_path / "one")
    dist_train(scenes, config, 2, tmp_path / "two")
    assert picks(tmp_path / "one") == picks(tmp_path / "two")


def test_sigkill_in_training_then_resume_ends_with_the_same_picks(
    scenes: Path, tmp_path: Path
) -> None:
    config = tmp_path / "run.py"
    config.write_text(
        BASE + "acquisition = dict(level='region', heuristic='RIPU', rounds=2,\n"
        "    region=dict(type='slic', n_segments=40))\ntrain_cfg = dict(max_iters=6)\n"
    )
    dist_train(scenes, config, 1, tmp_path / "whole")
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        command(config, 1, broken),
        env=environment(scenes),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not list(broken.glob("rounds/001/fit/*")):  # the second training is under way
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)  # the rank, in a session of its own, follows its launcher
    assert not (broken / "rounds/002").exists()
    dist_train(scenes, config, 1, broken, "--resume")
    assert picks(broken) == picks(tmp_path / "whole")
