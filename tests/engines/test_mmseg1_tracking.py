"""Runs of MMSegmentation 1.x report to the backends of their visualizer, all rounds as one run."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import make_data

pytest.importorskip("mmengine")
pytest.importorskip("mmseg")

import mmseg1_tiny
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend
from tracked_run import killed_run, run

from regional_al import engines
from regional_al.engines.mmseg import trackers as shared
from regional_al.engines.mmseg1 import rehearsal, tracking
from regional_al.errors import ConfigError, EnvironmentProblem
from regional_al.store import results
from regional_al.store.points import ROUND, TRAIN, VAL, Point, PointLog

pytestmark = pytest.mark.mmseg1
MORE = """
acquisition = dict(level='pixel', heuristic='Margin', rounds=1, previews=1)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2)
param_scheduler[0]['end'] = 4
default_hooks['checkpoint']['interval'] = 2
custom_hooks = [dict(type='ShowingHook')]
visualizer['vis_backends'] = [dict(type='LocalVisBackend'), dict(type='KeptBackend')]
"""
ROUNDS = 2


class KeptBackend(BaseVisBackend):  # type: ignore[misc]
    """A backend of a user's own, which keeps what it gets."""

    kept: list[tuple[str, Any, int]] = []  # noqa: RUF012
    opened = closed = 0

    @property
    def experiment(self) -> Any:
        if not self._env_initialized:
            self._init_env()
        return self

    def _init_env(self) -> None:
        self._env_initialized = True
        KeptBackend.opened += 1

    def add_config(self, config: Config, **_: Any) -> None:
        self.kept.append(("config", config.work_dir, 0))

    def add_scalars(self, scalar_dict: Any, step: int = 0, *_: Any, **__: Any) -> None:
        self.kept += [(name, value, step) for name, value in scalar_dict.items()]

    def add_image(self, name: str, image: Any, step: int = 0, **_: Any) -> None:
        self.kept.append((name, image.shape, step))

    def close(self) -> None:
        KeptBackend.closed += 1


class ShowingHook(Hook):  # type: ignore[misc]
    """A hook of a user's own, which writes to the visualizer and looks for a backend there."""

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if runner.experiment_name.startswith("rehearsal"):  # it contacts no server
            return
        assert isinstance(runner.visualizer.get_backend("KeptBackend").experiment, KeptBackend)
        runner.visualizer.add_scalar("own", 0.5, step=runner.iter)
        runner.visualizer.add_image("picture", np.zeros((2, 3, 3), np.uint8), step=runner.iter)


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    VISBACKENDS.register_module(module=KeptBackend, force=True)
    HOOKS.register_module(module=ShowingHook, force=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    mmseg1_tiny.TINY.write_config(folder, MORE)
    return folder


def lines(work_dir: Path) -> list[dict[str, Any]]:
    text = (work_dir / "vis_data/scalars.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


def losses(work_dir: Path) -> dict[int, tuple[float, float]]:
    found = [line for line in lines(work_dir) if "loss" in line]
    steps = [line["step"] for line in found]
    assert steps == list(range(1, 4 * ROUNDS + 1))
    return {line["step"]: (line["loss"], line["lr"]) for line in found}


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    work_dir = tmp_path_factory.mktemp("whole") / "work"
    KeptBackend.kept = []
    options: dict[str, Any] = {}
    if importlib.util.find_spec("tensorboard"):
        names = ("LocalVisBackend", "KeptBackend", "TensorboardVisBackend")
        options = {"visualizer.vis_backends": [{"type": name} for name in names]}
    run(root, work_dir, options)
    return work_dir, KeptBackend.kept


def test_all_rounds_are_one_run_on_one_axis(whole: tuple[Path, list[Any]]) -> None:
    work_dir, kept = whole
    rates = [rate for _, rate in losses(work_dir).values()]
    assert rates[:4] == rates[4:]  # each round has its own schedule
    validated = [(line["step"], line["mIoU"]) for line in lines(work_dir) if "mIoU" in line]
    assert [step for step, _ in validated] == [2, 6]
    assert [line["iter"] for line in lines(work_dir) if "loss" in line] == list(range(1, 9))
    assert [step for name, _, step in kept if name == "loss"] == list(range(1, 9))
    assert [step for name, _, step in kept if name == "own"] == list(range(1, 9))
    assert [step for name, _, step in kept if name == "picture"] == list(range(1, 9))
    assert len([name for name, *_ in kept if name == "config"]) == 1
    assert not list(work_dir.glob("rounds/*/fit/**/scalars.json"))


def test_a_round_stands_over_rounds_clicks_and_labelled_pixels(
    whole: tuple[Path, list[Any]],
) -> None:
    work_dir, kept = whole
    found = results.load(work_dir)
    records = found.records
    assert len(records) == ROUNDS

    def column(name: str) -> dict[int, float]:
        return {step: value for key, value, step in kept if key == name}

    mious = [100 * (record.miou or 0) for record in records]
    assert column("al/mIoU") == pytest.approx(dict(enumerate(mious)))
    clicks = [record.costs.clicks for record in records]
    assert column("al_over_clicks/mIoU") == pytest.approx(dict(zip(clicks, mious, strict=True)))
    ppm = [round(1e6 * record.labelled_fraction) for record in records]
    assert column("al_over_labelled_ppm/mIoU") == pytest.approx(dict(zip(ppm, mious, strict=True)))
    assert column("al/clicks") == dict(enumerate(clicks))
    for number, name in enumerate(found.classes):
        ious = [100 * (record.per_class_iou[number] or 0) for record in records]
        expected = pytest.approx(dict(zip(clicks, ious, strict=True)))
        assert column(f"al_over_clicks/IoU/{name}") == expected
    shown = sorted(path.name for path in (work_dir / "vis_data/vis_image").glob("al_query_*"))
    assert len(shown) == ROUNDS
    assert all(name.startswith("al_query_town_") for name in shown)


def test_tensorboard_reads_it_back(whole: tuple[Path, list[Any]]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work_dir, kept = whole
    events = EventAccumulator(str(work_dir / "vis_data"), size_guidance={"scalars": 0})
    events.Reload()
    for name in ("loss", "lr", "al/mIoU", "al_over_clicks/mIoU", "al/IoU/left", "mIoU"):
        read = events.Scalars(name)
        sent = {step: value for key, value, step in kept if key == name}
        assert {event.step: event.value for event in read} == pytest.approx(sent, rel=1e-5)
        assert len(read) == len(sent)
    assert any(tag.startswith("al_query/") for tag in events.Tags()["images"])


def test_a_killed_training_goes_on_where_it_was(
    root: Path, tmp_path: Path, whole: tuple[Path, list[Any]]
) -> None:
    """At the last iteration, with the state of the second saved: the third comes again."""
    KeptBackend.kept, work_dir = [], tmp_path / "work"
    killed_run(root, work_dir, at=4)
    assert [step for name, _, step in KeptBackend.kept if name == "loss"] == [1, 2, 3]
    run(root, work_dir)
    assert losses(work_dir) == losses(whole[0])
    scalars = [(name, step) for name, _, step in KeptBackend.kept if name not in ("picture",)]
    assert len(scalars) == len(set(scalars))
    assert len([1 for name, *_ in KeptBackend.kept if name == "config"]) == 1


def config(*backends: Any) -> Config:
    return Config({"visualizer": {"type": "Visualizer", "vis_backends": list(backends)}})


def test_a_missing_package_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shared.PACKAGES, "WandbVisBackend", "no_such_package")
    cfg = config({"type": "WandbVisBackend"})
    with pytest.raises(EnvironmentProblem) as info:
        tracking.check(cfg)
    assert str(info.value) == (
        "visualizer.vis_backends: WandbVisBackend needs the package no_such_package: pip install "
        "no_such_package, or leave WandbVisBackend out"
    )


def test_a_wrong_argument_is_told_before_the_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PACKAGES", {})
    loaded = engines.load(root / "tiny.py", {}, root / "work")
    cfg = loaded.build().cfg  # type: ignore[attr-defined]
    cfg.visualizer.vis_backends = [{"type": "WandbVisBackend", "init_kwarg": {}}]
    with pytest.raises(ConfigError, match=r"^visualizer.vis_backends: WandbVisBackend: .*kwarg"):
        rehearsal.lightened(cfg)


class Wandb(types.ModuleType):
    """The part of W&B that is used."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.opened: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.axes: dict[str, str | None] = {}
        self.finished = 0
        self.config = types.SimpleNamespace(update=lambda *_, **__: None)
        self.run = types.SimpleNamespace(log_code=lambda **_: None)

    def init(self, **arguments: Any) -> None:
        self.opened.append(arguments)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes[name] = step_metric

    def log(self, row: dict[str, Any], **_: Any) -> None:
        self.rows.append(row)

    def Image(self, picture: Any) -> Any:
        return picture.shape

    def finish(self) -> None:
        self.finished += 1


TRAINED = Point(TRAIN, 1, 30, 10, 20, 0.0, {"loss": 0.5})
VALIDATED = TRAINED._replace(kind=VAL, scalars={"mIoU": 40.0})
FINISHED = Point(ROUND, 1, 1, 20, 20, 0.0, {"al/mIoU": 50.0, "al/clicks": 40, "al/round": 1})


def test_wandb_has_one_run_for_rounds_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    spec = {"type": "WandbVisBackend", "init_kwargs": {"project": "mine"}}
    for _ in range(2):
        with PointLog.open(tmp_path) as memory:
            (found,) = tracking.trackers(config(spec), tmp_path / "vis_data", "tiny", memory)
            found.open()
            found.write(TRAINED, {})
            found.write(FINISHED, {"town/a": np.zeros((4, 5, 3), np.uint8)})
            found.close()
            found.close()
    assert wandb.finished == 2
    one, two = wandb.opened
    assert one == two
    assert (one["project"], one["resume"], one["name"]) == ("mine", "allow", "tiny")
    assert one["dir"] == str(tmp_path / "vis_data")
    assert wandb.rows[0] == {"loss": 0.5, "iter": 30}
    assert wandb.rows[1] == {**FINISHED.scalars, "al_query/town_a": (4, 5, 3)}
    assert (wandb.axes["loss"], wandb.axes["al/mIoU"]) == ("iter", "al/round")
    with PointLog.open(tmp_path / "other") as memory:
        (found,) = tracking.trackers(config(spec), tmp_path, "tiny", memory)
        found.open()
    assert wandb.opened[2]["id"] != one["id"]


def test_an_id_of_the_config_is_kept(tmp_path: Path) -> None:
    with PointLog.open(tmp_path) as memory:
        given = shared.wandb_arguments({"id": "x", "resume": "must"}, "tiny", memory)
    assert (given["id"], given["resume"]) == ("x", "must")


class Mlflow(types.ModuleType):
    """The part of MLflow that is used."""

    MlflowException = RuntimeError

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.active: Any = None
        self.runs: list[str] = []
        self.metrics: list[tuple[dict[str, float], int]] = []
        self.images: list[str] = []

    def active_run(self) -> Any:
        return self.active

    def start_run(self, run_name: str | None = None) -> Any:
        number = os.environ.pop("MLFLOW_RUN_ID", None) or f"run {len(set(self.runs))}"
        self.runs.append(number)
        self.active = types.SimpleNamespace(info=types.SimpleNamespace(run_id=number))
        return self.active

    def end_run(self) -> None:
        self.active = None

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics.append((values, step))

    def log_image(self, picture: Any, name: str) -> None:
        self.images.append(name)

    def log_params(self, values: Any) -> None:
        raise RuntimeError("a value is too long")

    def get_experiment_by_name(self, name: str) -> Any:
        return name

    def set_tracking_uri(self, uri: str) -> None: ...
    def set_experiment(self, name: str) -> None: ...


def test_mlflow_has_one_run_for_rounds_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    for name, value in shared._MLFLOW.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        with PointLog.open(tmp_path) as memory:
            (found,) = tracking.trackers(
                config({"type": "MLflowVisBackend"}), tmp_path / "vis_data", "tiny", memory
            )
            found.open()
            for point in (TRAINED, VALIDATED, FINISHED):
                found.write(point, {"a": np.zeros((2, 2, 3))} if point is FINISHED else {})
            found.close()
    assert mlflow.runs == ["run 0", "run 0"]
    assert mlflow.active is None
    half = mlflow.metrics[: len(mlflow.metrics) // 2]
    assert [step for _, step in half] == [30, 30, 1, 40]
    assert half[-1][0] == {"al_over_clicks/mIoU": 50.0}
    assert mlflow.images == ["al_query/a_round_001.png"] * 2


def test_names_of_classes_may_have_any_letters() -> None:
    names = shared.mlflow_names({"al/IoU/Fußgänger (sitzend)": 1.0, "al/mIoU": 2.0})
    assert list(names) == ["al/IoU/Fu_g_nger _sitzend_", "al/mIoU"]


def test_a_single_value_of_a_tensor_is_a_number() -> None:
    from regional_al.loop.tracking import numbers

    values = {"a": torch.tensor([2.0]), "b": np.float32(0.5), "c": np.zeros(3), "d": float("nan")}
    found = numbers(values)
    assert (found["a"], found["b"], "c" in found) == (2.0, 0.5, False)
    assert found["d"] != found["d"]
