"""The logger hooks of a config as trackers of a whole run.

mmcv makes its hooks for each runner, and a run has one runner a round. Those that write to an
experiment tracker are left out of the runners: one hook reports to the run, which writes for them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcv import Config
from mmcv.runner import HOOKS, LoggerHook
from mmcv.utils import build_from_cfg

from ...errors import ConfigError
from ...store.points import ROUND, TRAIN, VAL, Point
from ...types import U8
from ..base import Memory, Tracker, TrainingLog
from ..mmseg.trackers import (
    WandbRows,
    begin_mlflow_run,
    by_axis,
    check_packages,
    log_mlflow,
    one_mlflow_run,
    picture_name,
    wandb_arguments,
)
from ..mmseg.training import LabelCount
from ..specs import first_line, type_name

KEY = "log_config.hooks"
INTERVAL = 50
"""Iterations between two reports where the config has no log_config."""


class TextTracker:
    """A log of the whole run in the format of TextLoggerHook, which keeps its own in each round.

    Args:
        path: Of the file.
    """

    name = "TextLoggerHook"

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """See `Tracker`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`. Lines of rounds have no epoch, by which mmseg's analyze_logs.py knows
        those of trainings."""
        line: dict[str, Any] = {"mode": point.kind, "round": point.round}
        if point.kind != ROUND:
            line |= {"epoch": point.round + 1, "iter": point.step}
        for name, value in point.scalars.items():
            plain = name.removeprefix(f"{point.kind}/")
            line["lr" if plain == "learning_rate" else plain] = value
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`. It has none."""

    def close(self) -> None:
        """See `Tracker`."""


class TensorboardTracker:
    """TensorBoard.

    Args:
        folder: Of its event files.
    """

    name = "TensorboardLoggerHook"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None

    def open(self) -> None:
        """See `Tracker`."""
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self.writer = SummaryWriter(str(self.folder))

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`."""
        for values, step in by_axis(point):
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)
        for key, picture in pictures.items():
            self.picture(picture_name(key), picture, point.round)
        self.writer.flush()

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`."""
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """See `Tracker`."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.close()


class WandbTracker:
    """Weights & Biases: one run, by an id that is kept in the work dir.

    Args:
        spec: Of the hook.
        folder: For its files, unless the hook names another.
        title: Of the run.
        memory: Of the run.
    """

    name = "WandbLoggerHook"

    def __init__(self, spec: Mapping[str, Any], folder: Path, title: str, memory: Memory) -> None:
        self.spec, self.folder, self.title, self.memory = spec, folder, title, memory
        self.rows: WandbRows | None = None

    def open(self) -> None:
        """See `Tracker`."""
        import wandb

        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = {"dir": str(self.folder), **(self.spec.get("init_kwargs") or {})}
        wandb.init(**wandb_arguments(arguments, self.title, self.memory))
        for metric, summary in (self.spec.get("define_metric_cfg") or {}).items():
            wandb.define_metric(metric, summary=summary)
        self.rows = WandbRows(wandb)

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`."""
        assert self.rows is not None
        self.rows.write(point, pictures)

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`."""
        assert self.rows is not None
        self.rows.picture(name, picture, step)

    def close(self) -> None:
        """See `Tracker`."""
        rows, self.rows = self.rows, None
        if rows is not None:
            rows.close()


class MlflowTracker:
    """MLflow: one run, by an id that is kept in the work dir.

    Args:
        spec: Of the hook.
        title: Of the run.
        memory: Of the run.
    """

    name = "MlflowLoggerHook"

    def __init__(self, spec: Mapping[str, Any], title: str, memory: Memory) -> None:
        self.spec, self.title, self.memory = spec, title, memory
        self.mlflow: Any = None

    def open(self) -> None:
        """See `Tracker`."""
        import mlflow

        self.close()
        with one_mlflow_run(self.memory):
            if self.spec.get("exp_name") is not None:
                mlflow.set_experiment(self.spec["exp_name"])
            begin_mlflow_run(mlflow, self.title, self.memory)
        self.mlflow = mlflow
        mlflow.set_tags(dict(self.spec.get("tags") or {}))
        mlflow.log_params(dict(self.spec.get("params") or {}))

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`."""
        log_mlflow(self.mlflow, point, pictures)

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`."""
        self.mlflow.log_image(picture, f"{name}_{step}.png")

    def close(self) -> None:
        """See `Tracker`."""
        mlflow, self.mlflow = self.mlflow, None
        if mlflow is not None:
            mlflow.end_run()


TRACKING = (TensorboardTracker.name, WandbTracker.name, MlflowTracker.name)
"""Hooks that write to an experiment tracker, and no file of the round."""


def specs(cfg: Config) -> list[Mapping[str, Any]]:
    """The hooks of `log_config`."""
    found = (cfg.get("log_config") or {}).get("hooks") or []
    return [spec for spec in found if isinstance(spec, Mapping)]


def trackers(cfg: Config, folder: Path, title: str, memory: Memory) -> list[Tracker]:
    """A tracker for each hook of `log_config` that writes to one.

    Args:
        cfg: Of the run.
        folder: Where those write that the config gives no folder.
        title: Of the run.
        memory: Of the run.
    """
    found: list[Tracker] = []
    for spec in specs(cfg):
        kind = type_name(spec)
        if kind == TextTracker.name:
            found.append(TextTracker(folder / "run.log.json"))
        elif kind == TensorboardTracker.name:
            found.append(TensorboardTracker(Path(spec.get("log_dir") or folder / "tf_logs")))
        elif kind == WandbTracker.name:
            found.append(WandbTracker(spec, folder, title, memory))
        elif kind == MlflowTracker.name:
            found.append(MlflowTracker(spec, title, memory))
    return found


def check(cfg: Config) -> None:
    """Check packages and arguments of the hooks that write to a tracker. Contacts no server.
    Raises ConfigError, EnvironmentProblem."""
    for spec in specs(cfg):
        check_packages(KEY, [type_name(spec)])
        if type_name(spec) in TRACKING:
            try:
                build_from_cfg(copy.deepcopy(dict(spec)), HOOKS)
            except Exception as error:
                raise ConfigError(f"{KEY}: {first_line(error)}") from None


def own_log(cfg: Config) -> Any:
    """`log_config` for the runner of a round: without the hooks that the run writes for."""
    found = cfg.get("log_config")
    if not isinstance(found, Mapping):
        return found
    hooks = [spec for spec in found.get("hooks") or [] if type_name(spec) not in TRACKING]
    return {**found, "hooks": hooks}


def round_hook(cfg: Config, track: TrainingLog, count: LabelCount) -> RoundLoggerHook:
    """The hook that reports for those hooks, as often as `log_config` says."""
    config = cfg.get("log_config") or {}
    first = next(iter(specs(cfg)), {})
    return RoundLoggerHook(
        track,
        count,
        interval=int(config.get("interval", INTERVAL)),
        by_epoch=bool(first.get("by_epoch", True)),
    )


class RoundLoggerHook(LoggerHook):  # type: ignore[misc]
    """Reports losses, learning rates and validations of one training to the run.

    Args:
        track: Of the training.
        count: Its iterations.
        interval: Iterations between two reports.
        by_epoch: As of mmcv's hooks.
    """

    def __init__(
        self, track: TrainingLog, count: LabelCount, interval: int, by_epoch: bool
    ) -> None:
        super().__init__(interval, True, False, by_epoch)
        self.track, self.count = track, count

    def log(self, runner: Any) -> None:
        """Report what the runner has gathered."""
        kind = VAL if self.get_mode(runner) == "val" else TRAIN
        values = self.get_loggable_tags(runner)
        if kind == VAL:  # the rates are reported with the training
            values = {name: v for name, v in values.items() if name.startswith("val/")}
            values.pop("val/eval_iter_num", None)
        length, end = None, runner._max_iters
        if end is not None and runner.mode == "train":
            length = int(end) - (runner.iter + 1 - self.count.steps)
        self.track.scalars(values, self.count.steps, length, kind)
