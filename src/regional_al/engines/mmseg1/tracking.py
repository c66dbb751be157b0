"""The visualization backends of a config as trackers of a whole run.

mmengine makes a Visualizer for each Runner, and a run has one Runner a round. Here the backends
outlive them: a round's Visualizer reports to the run, which hands everything on to the backends.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend

from ...errors import ConfigError
from ...store.points import ROUND, TRAIN, VAL, Point
from ...types import U8
from ..base import Memory, TrainingLog
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

log = logging.getLogger("regional_al")
KEY = "visualizer.vis_backends"
_LOCAL = [{"type": "LocalVisBackend"}]


class BackendTracker:
    """A `Tracker` that is a backend of mmengine, whichever.

    Args:
        spec: Of the backend, with its `save_dir`.
        cfg: Of the run, which the backend is told once.
        title: Of the run.
        memory: Of the run.
    """

    def __init__(self, spec: dict[str, Any], cfg: Config, title: str, memory: Memory) -> None:
        self.spec, self.cfg, self.title, self.memory = spec, cfg, title, memory
        self.name = str(spec.get("name") or type_name(spec))
        self.backend: Any = None

    def build(self) -> Any:
        """The backend; it does not connect before it is used."""
        spec = {key: value for key, value in self.spec.items() if key != "name"}
        return VISBACKENDS.build(copy.deepcopy(spec))

    def open(self) -> None:
        """See `Tracker`."""
        if self.backend is not None:
            self.close()
        self.backend = self.build()
        self.connect()
        note = f"config in {self.name}"
        if self.memory.noted(note) is None:
            try:
                self.backend.add_config(self.cfg)
            except Exception as error:  # such as a value that the tracker finds too long
                log.warning(f"{self.name} has not taken the config: {first_line(error)}")
            self.memory.note(note, {"done": True})

    def connect(self) -> None:
        """Connect, or open the files."""
        _ = self.backend.experiment

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`."""
        for values, step in by_axis(point):
            self.backend.add_scalars(values, step)
        for key, picture in pictures.items():
            self.picture(picture_name(key), picture, point.round)
        self.flush()

    def flush(self) -> None:
        """Let what was written outlive this process, where the library buffers it."""
        flush = getattr(self.backend.experiment, "flush", None)
        if flush is not None:
            flush()

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`."""
        self.backend.add_image(name, picture, step)

    def close(self) -> None:
        """See `Tracker`."""
        backend, self.backend = self.backend, None
        if backend is not None:
            backend.close()


class LocalTracker(BackendTracker):
    """mmengine's files: one `scalars.json` of the run. It makes no folders for names with '/'."""

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`. A line of a training has its iteration as `iter`, too, as in mmengine."""
        if point.kind != ROUND:
            point = point._replace(scalars={**point.scalars, "iter": point.step})
        super().write(point, pictures)

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`."""
        super().picture(name.replace("/", "_"), picture, step)


class WandbTracker(BackendTracker):
    """Weights & Biases: one run, by an id that is kept in the work dir."""

    rows: WandbRows

    def build(self) -> Any:
        """See `BackendTracker`."""
        arguments = wandb_arguments(self.spec.get("init_kwargs"), self.title, self.memory)
        self.spec = {**self.spec, "init_kwargs": arguments}
        return super().build()

    def open(self) -> None:
        """See `Tracker`."""
        super().open()
        self.rows = WandbRows(self.backend.experiment)

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`."""
        self.rows.write(point, pictures)

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`."""
        self.rows.picture(name, picture, step)

    def close(self) -> None:
        """See `Tracker`. mmengine's own way calls what newer versions of W&B do not have."""
        backend, self.backend = self.backend, None
        if backend is not None and hasattr(backend, "_wandb"):
            WandbRows(backend._wandb).close()


class MlflowTracker(BackendTracker):
    """MLflow: one run, by an id that is kept in the work dir."""

    def connect(self) -> None:
        """See `BackendTracker`."""
        with one_mlflow_run(self.memory):
            experiment = self.backend.experiment
            begin_mlflow_run(experiment, str(self.spec.get("run_name") or self.title), self.memory)

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """See `Tracker`."""
        log_mlflow(self.backend.experiment, point, pictures)

    def picture(self, name: str, picture: U8, step: int) -> None:
        """See `Tracker`."""
        self.backend.experiment.log_image(picture, f"{name}_{step}.png")

    def close(self) -> None:
        """See `Tracker`."""
        backend, self.backend = self.backend, None
        if backend is not None and hasattr(backend, "_mlflow"):
            backend._mlflow.end_run()


KINDS: dict[str, type[BackendTracker]] = {
    "LocalVisBackend": LocalTracker,
    "WandbVisBackend": WandbTracker,
    "MLflowVisBackend": MlflowTracker,
}


def specs(cfg: Config) -> list[dict[str, Any]]:
    """What the config names; without a visualizer, files, as in mmengine."""
    visualizer = cfg.get("visualizer")
    found = _LOCAL if not isinstance(visualizer, Mapping) else visualizer.get("vis_backends") or []
    listed = [found] if isinstance(found, Mapping) else found
    return [dict(spec) for spec in listed if isinstance(spec, Mapping)]


def trackers(cfg: Config, folder: Path, title: str, memory: Memory) -> list[BackendTracker]:
    """A tracker for each backend of the config.

    Args:
        cfg: Of the run.
        folder: Where those write that the config gives no `save_dir`.
        title: Of the run.
        memory: Of the run.
    """
    told = Config(copy.deepcopy(cfg._cfg_dict), filename=cfg.filename, format_python_code=False)
    told.work_dir = str(folder)
    found = []
    for spec in specs(cfg):
        spec.setdefault("save_dir", str(folder))
        kind = KINDS.get(type_name(spec).rpartition(".")[2], BackendTracker)
        found.append(kind(spec, told, title, memory))
    return found


def check(cfg: Config) -> None:
    """Check the packages and, of mmengine's own backends, the arguments. Contacts no server.
    Raises ConfigError, EnvironmentProblem."""
    for spec in specs(cfg):
        check_packages(KEY, [type_name(spec)])
        kind = spec.get("type")
        found = VISBACKENDS.get(kind) if isinstance(kind, str) else kind
        if not inspect.isclass(found) or not found.__module__.startswith("mmengine."):
            continue  # unknown ones are told elsewhere; those of others may connect at once
        arguments = {k: v for k, v in spec.items() if k not in ("type", "name")}
        try:
            found(**{"save_dir": "vis_data", **arguments})
        except Exception as error:
            raise ConfigError(f"{KEY}: {type_name(spec)}: {first_line(error)}") from None


class RoundBackend(BaseVisBackend):  # type: ignore[misc]
    """Stands for all backends in the Visualizer of one training, and reports to the run.

    Args:
        track: Of the training.
        count: Its iterations.
    """

    def __init__(self, track: TrainingLog, count: LabelCount) -> None:
        super().__init__("")
        self.track, self.count = track, count
        self.runner: Any = None
        self.validating = False

    @property
    def experiment(self) -> Any:
        """Itself."""
        return self

    def _init_env(self) -> None:
        """There is nothing to begin."""

    def length(self) -> int | None:
        """Iterations of this training."""
        loop = getattr(self.runner, "_train_loop", None)
        if loop is None or isinstance(loop, Mapping):
            return None
        end = getattr(loop, "stop_at", None) or loop.max_iters
        counted = self.runner.iter + (0 if self.validating else 1)
        length: int = int(end) - (counted - self.count.steps)
        return length

    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **_: Any
    ) -> None:
        """Report scalars at the iteration of the run. LoggerHook alone gives a `file_path`. The
        times of a validation get another name than those of the training."""
        values = {k: v for k, v in scalar_dict.items() if k not in ("step", "iter")}
        kind = VAL if self.validating else TRAIN
        if file_path is None:
            kind = f"scalars {' '.join(sorted(values))}"
        elif self.validating:
            for name in ("time", "data_time"):
                if name in values:
                    values[f"val/{name}"] = values.pop(name)
        self.track.scalars(values, self.count.steps, self.length(), kind)

    def add_scalar(self, name: str, value: Any, step: int = 0, **_: Any) -> None:
        """Report one scalar that a hook of the config shows."""
        self.add_scalars({name: value})

    def add_image(self, name: str, image: U8, step: int = 0, **_: Any) -> None:
        """Show a picture at the iteration of the run."""
        self.track.picture(name, image, self.count.steps)


class Shown(BaseVisBackend):  # type: ignore[misc]
    """A backend of the run as hooks of the config find it in the Visualizer; what the Visualizer
    writes goes by way of the run.

    Args:
        backend: Of the run.
    """

    def __init__(self, backend: Any) -> None:
        super().__init__("")
        self.backend = backend

    @property
    def experiment(self) -> Any:
        """That of the backend."""
        return self.backend.experiment

    def _init_env(self) -> None:
        """It has begun."""


class ValidationMark(Hook):  # type: ignore[misc]
    """Tells a `RoundBackend` what belongs to a validation.

    Args:
        backend: Of the training.
    """

    priority = "LOWEST"

    def __init__(self, backend: RoundBackend) -> None:
        self.backend = backend

    def before_val(self, runner: Any) -> None:
        """A validation begins."""
        self.backend.validating = True

    def after_val(self, runner: Any) -> None:
        """It has ended."""
        self.backend.validating = False


def visualizer_of(cfg: Config, backend: RoundBackend) -> dict[str, Any]:
    """The config's visualizer with the backend of a training in place of its own."""
    found = cfg.get("visualizer")
    spec = dict(found) if isinstance(found, Mapping) else {"type": "Visualizer"}
    return {**spec, "vis_backends": [backend]}


def show_backends(runner: Any, backend: RoundBackend, working: Sequence[Any]) -> None:
    """Let the hooks of a Runner find the backends of the run by their names."""
    backend.runner = runner
    for tracker in working:
        if isinstance(tracker, BackendTracker) and tracker.backend is not None:
            runner.visualizer._vis_backends.setdefault(tracker.name, Shown(tracker.backend))
