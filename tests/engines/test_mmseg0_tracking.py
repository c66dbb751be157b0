"""Runs of MMSegmentation 0.x report to the trackers of log_config, all rounds as one run."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmseg_tiny import make_data

pytest.importorskip("mmcv.runner")
pytest.importorskip("mmseg")

import mmseg0_tiny
from mmcv import Config
from tracked_run import killed_run, run

from regional_al import engines
from regional_al.engines.mmseg import trackers as shared
from regional_al.engines.mmseg0 import rehearsal, tracking
from regional_al.errors import ConfigError, EnvironmentProblem
from regional_al.store import results
from regional_al.store.points import ROUND, TRAIN, Point, PointLog

pytestmark = pytest.mark.mmseg0
HOOKS = [{"type": "TextLoggerHook", "by_epoch": False}]
MORE = f"""
acquisition = dict(level='pixel', heuristic='Margin', rounds=1, previews=1)
runner = dict(type='IterBasedRunner', max_iters=4)
checkpoint_config['interval'] = 2
evaluation['interval'] = 2
log_config = dict(interval=1, hooks={HOOKS})
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    mmseg0_tiny.TINY.write_config(folder, MORE)
    return folder


def lines(work_dir: Path, mode: str) -> list[dict[str, Any]]:
    text = (work_dir / "vis_data/run.log.json").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["mode"] == mode]


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("whole") / "work"
    more = []
    if importlib.util.find_spec("tensorboard"):
        more = [{"type": "TensorboardLoggerHook", "by_epoch": False}]
    run(root, work_dir, {"log_config.hooks": [*HOOKS, *more]})
    return work_dir


def test_all_rounds_are_one_run_on_one_axis(whole: Path) -> None:
    train, rounds = lines(whole, "train"), lines(whole, "round")
    assert [line["iter"] for line in train] == list(range(1, 9))
    assert [line["lr"] for line in train[:4]] == [line["lr"] for line in train[4:]]
    assert [line["iter"] for line in lines(whole, "val")] == [2, 4, 6, 8]
    records = results.load(whole).records
    assert [line["al/mIoU"] for line in rounds] == pytest.approx(
        [100 * (record.miou or 0) for record in records]
    )
    assert [line["al/iteration"] for line in rounds] == [4, 8]
    (own,) = (whole / "rounds/001/fit").glob("*.log.json")  # as ever
    found = [line for line in map(json.loads, own.read_text().splitlines()) if "mode" in line]
    losses = [line["loss"] for line in found if line["mode"] == "train"]
    assert losses == pytest.approx([line["loss"] for line in train[4:]], abs=1e-4)
    assert not (whole / "rounds/001/fit/tf_logs").exists()


def test_tensorboard_reads_it_back(whole: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole / "vis_data/tf_logs"), size_guidance={"scalars": 0})
    events.Reload()

    def read(name: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in events.Scalars(name)]

    train = lines(whole, "train")
    assert dict(read("train/loss")) == pytest.approx({x["iter"]: x["loss"] for x in train})
    assert [step for step, _ in read("learning_rate")] == list(range(1, 9))
    assert [step for step, _ in read("val/mIoU")] == [2, 4, 6, 8]
    rounds = lines(whole, "round")
    assert dict(read("al_over_clicks/mIoU")) == pytest.approx(
        {x["al/clicks"]: x["al/mIoU"] for x in rounds}, rel=1e-5
    )
    assert any(tag.startswith("al_query/") for tag in events.Tags()["images"])


def test_a_killed_training_goes_on_where_it_was(root: Path, tmp_path: Path, whole: Path) -> None:
    """At the last iteration, with the state of the second saved: the third comes again."""
    work_dir = tmp_path / "work"
    killed_run(root, work_dir, at=4)
    assert [line["iter"] for line in lines(work_dir, "train")] == [1, 2, 3]
    run(root, work_dir)
    assert lines(work_dir, "train") == lines(whole, "train")
    assert lines(work_dir, "val") == lines(whole, "val")


def config(*hooks: Any) -> Config:
    return Config({"log_config": {"interval": 5, "hooks": list(hooks)}})


def test_mistakes_are_told_before_the_run(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setitem(shared.PACKAGES, "WandbLoggerHook", "no_such_package")
    with pytest.raises(EnvironmentProblem, match=r"^log_config.hooks: WandbLoggerHook needs the"):
        tracking.check(config({"type": "WandbLoggerHook"}))
    monkeypatch.setattr(shared, "PACKAGES", {})
    loaded = engines.load(root / "tiny.py", {}, root / "work")
    cfg = loaded.build().cfg  # type: ignore[attr-defined]
    cfg.log_config.hooks = [{"type": "TensorboardLoggerHook", "logdir": "x"}]
    with pytest.raises(ConfigError, match=r"^log_config.hooks: .*logdir"):
        rehearsal.lightened(cfg)


TRAINED = Point(TRAIN, 1, 30, 10, 20, 0.0, {"train/loss": 0.5})
FINISHED = Point(ROUND, 1, 1, 20, 20, 0.0, {"al/mIoU": 50.0, "al/clicks": 40, "al/round": 1})


def test_wandb_has_one_run_for_rounds_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    rows: list[Any] = []
    wandb: Any = types.ModuleType("wandb")
    wandb.init = lambda **arguments: opened.append(arguments)
    wandb.define_metric = lambda *_, **__: None
    wandb.log = rows.append
    wandb.Image = np.shape
    wandb.finish = lambda: None
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    spec = {"type": "WandbLoggerHook", "init_kwargs": {"project": "mine"}}
    for _ in range(2):
        with PointLog.open(tmp_path) as memory:
            (found,) = tracking.trackers(config(spec), tmp_path / "vis_data", "tiny", memory)
            found.open()
            found.write(TRAINED, {})
            found.write(FINISHED, {"a": np.zeros((4, 5, 3), np.uint8)})
            found.picture("b", np.zeros((4, 5, 3), np.uint8), 3)
            found.close()
    assert opened[0] == opened[1]
    assert (opened[0]["project"], opened[0]["resume"]) == ("mine", "allow")
    assert rows[:2] == [
        {"train/loss": 0.5, "iter": 30},
        {**FINISHED.scalars, "al_query/a": (4, 5, 3)},
    ]


def test_mlflow_has_one_run_for_rounds_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    metrics: list[Any] = []
    begun: list[str] = []
    mlflow: Any = types.ModuleType("mlflow")
    mlflow.active_run = lambda: None
    mlflow.log_metrics = lambda values, step: metrics.append((values, step))
    mlflow.set_experiment = mlflow.set_tags = mlflow.log_params = lambda _: None
    mlflow.log_image = lambda *_: None
    mlflow.end_run = lambda: None

    def start_run(**_: Any) -> Any:
        begun.append(os.environ.pop("MLFLOW_RUN_ID", "fresh"))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="one"))

    mlflow.start_run = start_run
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    for name, value in shared._MLFLOW.items():
        monkeypatch.setenv(name, value)
    spec = {"type": "MlflowLoggerHook", "exp_name": "mine"}
    for _ in range(2):
        with PointLog.open(tmp_path) as memory:
            (found,) = tracking.trackers(config(spec), tmp_path / "vis_data", "tiny", memory)
            found.open()
            found.write(TRAINED, {})
            found.write(FINISHED, {"a": np.zeros((4, 5, 3), np.uint8)})
            found.close()
    assert begun == ["fresh", "one"]
    assert [step for _, step in metrics] == [30, 1, 40] * 2
