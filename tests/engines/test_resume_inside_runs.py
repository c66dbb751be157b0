"""Runs that are killed, or asked to stop, in the middle of a training, as a user starts them."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import leaves
from generation import mmseg_generation
from mmseg_tiny import make_data
from paths import ROOT

GENERATION = mmseg_generation()
if GENERATION is None:
    pytest.skip("MMSegmentation is not installed", allow_module_level=True)
pytest.importorskip("mmseg")
TINY = importlib.import_module(f"{GENERATION}_tiny").TINY

pytestmark = pytest.mark.slow
OPTIONS = {
    "mmseg1": (
        "train_cfg.max_iters=60",
        "default_hooks.checkpoint.interval=20",
        "train_dataloader.num_workers=",
    ),
    "mmseg0": ("runner.max_iters=60", "checkpoint_config.interval=20", "data.workers_per_gpu="),
}[GENERATION]
EPOCHS = {
    "mmseg1": (
        'train_cfg={"by_epoch": true, "max_epochs": 30, "_delete_": true}',
        "param_scheduler=[]",
        "default_hooks.checkpoint.by_epoch=True",
        "default_hooks.checkpoint.interval=10",
    ),
    "mmseg0": (
        'runner={"type": "EpochBasedRunner", "max_epochs": 30, "_delete_": true}',
        'lr_config={"policy": "step", "step": [30], "_delete_": true}',
        "checkpoint_config.by_epoch=True",
        "checkpoint_config.interval=10",
    ),
}[GENERATION]
ACQUISITION = """
acquisition = dict(level='pixel', heuristic='Margin', rounds=1, previews=0)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder, ACQUISITION)
    return folder


def start(
    root: Path, work_dir: Path, gpus: int, workers: int, epochs: bool = False
) -> subprocess.Popen[str]:
    """Start or resume a run."""
    *length, loading = OPTIONS
    length = [*EPOCHS] if epochs else length
    script, config = str(ROOT / "tools/dist_train.sh"), str(root / "tiny.py")
    more = ["--resume", "--no-report", "--cfg-options", *length, f"{loading}{workers}"]
    return subprocess.Popen(
        ["bash", script, config, str(gpus), "--work-dir", str(work_dir), *more],
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]
    return out


def interrupt(process: subprocess.Popen[str], fit: Path, number: int) -> tuple[int, str]:
    """Send a signal when the training in `fit` has saved a state. Returns exit code and stderr."""
    state = fit / "resume.pth"
    before = state.stat().st_mtime_ns if state.exists() else 0
    deadline = time.monotonic() + 300
    while not state.exists() or state.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    time.sleep(1)  # ranks follow a launcher that was killed
    assert not (fit / "checkpoint.pth").exists(), "too late"
    return process.returncode, err


def ending(work_dir: Path) -> dict[str, Any]:
    """Picks and checkpoints of a run."""
    files = [f for f in sorted(work_dir.glob("rounds/*/query/**/*")) if f.is_file()]
    found: dict[str, Any] = {str(f.relative_to(work_dir)): f.read_bytes() for f in files}
    for path in sorted(work_dir.glob("rounds/*/fit/checkpoint.pth")):
        content = torch.load(path, weights_only=True)
        for key in ("state_dict", "optimizer", "param_schedulers"):
            for name, value in leaves(content.get(key)):
                found[f"{path.parent.parent.name} {key}{name}"] = value
    assert not list(work_dir.glob("rounds/*/fit/resume*"))
    return found


VALIDATION = ("aAcc", "mAcc", "mIoU")


def reported(work_dir: Path) -> dict[tuple[str, str, int], float]:
    """What a run has reported: each value once. Times are of the machine, and mmcv averages over
    fewer iterations after a resume."""
    name = {"mmseg1": "scalars.json", "mmseg0": "run.log.json"}[str(GENERATION)]
    found: dict[tuple[str, str, int], float] = {}
    for text in (work_dir / "vis_data" / name).read_text().splitlines():
        line = json.loads(text)
        step = line.get("iter", line.get("step", line.get("round")))
        for key, value in line.items():
            named = key in ("mode", "epoch", "iter", "step", "round")
            if not named and "time" not in key and "seconds" not in key:
                place = (str(line.get("mode")), key, int(step))
                assert place not in found, place
                found[place] = value
    return found


FIRST, SECOND = (0, signal.SIGTERM), (1, signal.SIGKILL)
THIRD = (1, signal.SIGUSR1)


@pytest.mark.parametrize(
    ("gpus", "workers", "epochs", "moments"),
    [
        (1, 2, False, [FIRST, SECOND, THIRD]),
        (2, 0, True, [FIRST, SECOND]),
    ],
)
def test_interrupted_runs_end_as_the_whole_one(
    root: Path,
    tmp_path: Path,
    gpus: int,
    workers: int,
    epochs: bool,
    moments: list[tuple[int, signal.Signals]],
) -> None:
    """SIGTERM in the first training, SIGKILL and SIGUSR1 in the second. One process without
    workers: test_resume_inside.py."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(root, whole, gpus, workers, epochs))
    for round_, number in moments:
        process = start(root, broken, gpus, workers, epochs)
        code, err = interrupt(process, broken / f"rounds/{round_:03d}/fit", number)
        if number == signal.SIGKILL:
            assert code == -9
        else:
            assert code == 75
            last = err.strip().splitlines()[-1]
            assert last.startswith(f"stopped by {number.name}: state saved at iteration ")
            assert err.count("stopped by") == 1
    said = finish(start(root, broken, gpus, workers, epochs))
    assert "the training of round 1 resumes at iteration" in said
    one, two = ending(whole), ending(broken)
    assert [name for name in {*one, *two} if one.get(name) != two.get(name)] == []
    told, again = reported(whole), reported(broken)
    assert len(told) > 400
    assert set(told) == set(again)
    if (
        gpus > 1
    ):  # a checkpoint has the running means of rank 0, by which rank 1 then validates, too
        told = {place: value for place, value in told.items() if place[1] not in VALIDATION}
    assert [place for place in told if told[place] != again[place]] == []


def test_another_number_of_processes_starts_the_training_anew(root: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    process = start(root, work_dir, 2, 0)
    interrupt(process, work_dir / "rounds/000/fit", signal.SIGKILL)
    said = finish(start(root, work_dir, 1, 0))
    why = "the number of processes changed since it was interrupted"
    assert f"the training of round 0 starts anew: {why}\n" in said
