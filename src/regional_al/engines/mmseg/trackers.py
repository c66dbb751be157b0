"""What the experiment trackers of both generations get, and how their libraries are used."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...errors import EnvironmentProblem
from ...store.points import ROUND, Point
from ...types import U8
from ..base import Memory

PACKAGES = {
    "WandbVisBackend": "wandb",
    "WandbLoggerHook": "wandb",
    "TensorboardVisBackend": "tensorboard",
    "TensorboardLoggerHook": "tensorboard",
    "MLflowVisBackend": "mlflow",
    "MlflowLoggerHook": "mlflow",
    "ClearMLVisBackend": "clearml",
    "NeptuneVisBackend": "neptune",
    "DVCLiveVisBackend": "dvclive",
    "AimVisBackend": "aim",
}
"""Class of mmengine or mmcv -> package that it needs."""
OVER_CLICKS, OVER_LABELLED = "al_over_clicks", "al_over_labelled_ppm"
"""What a metric of a round is called where its step is no round: clicks, or labelled pixels of a
million pixels of the pool."""
_METRICS = re.compile(r"al/(mIoU|accuracy|IoU/.*)")
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
WANDB_ID, MLFLOW_ID = "wandb run", "mlflow run"
"""Notes with the id of the run."""


def check_packages(key: str, names: Iterable[str]) -> None:
    """Raise EnvironmentProblem for a tracker whose package is not installed.

    Args:
        key: Of the config, that holds them.
        names: Of their classes.

    Example:
        >>> check_packages("visualizer.vis_backends", ["LocalVisBackend"])
    """
    for name in names:
        package = PACKAGES.get(name.rpartition(".")[2])
        if package is not None and importlib.util.find_spec(package) is None:
            raise EnvironmentProblem(
                f"{key}: {name} needs the package {package}: pip install {package}, or leave "
                f"{name} out"
            )


def by_axis(point: Point) -> list[tuple[dict[str, float], int]]:
    """The scalars of a point with the steps at which they stand, for a tracker with one whole step
    a scalar: those of a round at its number, and its metrics over clicks and labelled pixels, too.

    Example:
        >>> scalars = {"al/mIoU": 50.0, "al/clicks": 40, "al/labelled_percent": 0.5}
        >>> for values, step in by_axis(Point(ROUND, 2, 2, 0, None, 0.0, scalars)):
        ...     print(step, values)
        2 {'al/mIoU': 50.0, 'al/clicks': 40, 'al/labelled_percent': 0.5}
        40 {'al_over_clicks/mIoU': 50.0}
        5000 {'al_over_labelled_ppm/mIoU': 50.0}
    """
    found = [(dict(point.scalars), point.step)]
    if point.kind != ROUND:
        return found
    metrics = {name: v for name, v in point.scalars.items() if _METRICS.fullmatch(name)}
    for prefix, cost, scale in (
        (OVER_CLICKS, "al/clicks", 1.0),
        (OVER_LABELLED, "al/labelled_percent", 1e4),
    ):
        spent = point.scalars.get(cost)
        if spent is not None and metrics:
            moved = {prefix + name.removeprefix("al"): v for name, v in metrics.items()}
            found.append((moved, round(spent * scale)))
    return found


def picture_name(key: str) -> str:
    """What the overlay of an image is called.

    Example:
        >>> picture_name("town/a_01")
        'al_query/town_a_01'
    """
    return f"al_query/{key.replace('/', '_')}"


def mlflow_names(values: Mapping[str, float]) -> dict[str, float]:
    """Metrics by names that MLflow allows.

    Example:
        >>> mlflow_names({"al/IoU/car (parked)": 1.0})
        {'al/IoU/car _parked_': 1.0}
    """
    return {re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII): v for name, v in values.items()}


def wandb_arguments(arguments: Mapping[str, Any] | None, title: str, memory: Memory) -> Any:
    """Arguments of `wandb.init` by which all rounds, resumes and processes are one run: an id that
    is kept in the work dir. What the config says comes first."""
    found = dict(arguments or {})
    if "id" not in found:
        known = memory.noted(WANDB_ID)
        if known is None:
            known = {"id": os.environ.get("WANDB_RUN_ID") or secrets.token_hex(8)}
            memory.note(WANDB_ID, known)
        found["id"] = known["id"]
    found.setdefault("resume", "allow")
    found.setdefault("name", title)
    return found


class WandbRows:
    """What is logged with W&B: each point a row, drawn over iterations or rounds.

    Args:
        wandb: The module, with a run that is open.
    """

    def __init__(self, wandb: Any) -> None:
        self.wandb = wandb
        self._known: set[str] = set()

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """Log a point. Numbers of a round may be drawn over clicks or labelled per cent as well:
        they are in its row."""
        axis = "al/round" if point.kind == ROUND else "iter"
        row: dict[str, Any] = dict(point.scalars)
        row[axis] = point.step
        for name in row:
            if name not in self._known:
                self._known.add(name)
                self.wandb.define_metric(name, **({} if name == axis else {"step_metric": axis}))
        for key, picture in pictures.items():
            row[picture_name(key)] = self.wandb.Image(picture)
        self.wandb.log(row)

    def picture(self, name: str, picture: U8, step: int) -> None:
        """Log a picture."""
        self.wandb.log({name: self.wandb.Image(picture), "iter": step})

    def close(self) -> None:
        """End the run in this process."""
        self.wandb.finish()


@contextmanager
def one_mlflow_run(memory: Memory) -> Iterator[None]:
    """Inside, the first use of MLflow goes on with the run whose id is kept in the work dir. It
    gives up on a server soon, since a training waits for it, and writes files where the config
    names no server, which newer versions do only when they are told to."""
    for name, value in _MLFLOW.items():
        os.environ.setdefault(name, value)
    name, known = "MLFLOW_RUN_ID", memory.noted(MLFLOW_ID)
    given = os.environ.get(name)
    if known is not None and given is None:
        os.environ[name] = str(known["id"])
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(name, None)


def begin_mlflow_run(mlflow: Any, title: str, memory: Memory) -> None:
    """Begin the run, or go on with it, unless it is open; and keep its id."""
    run = mlflow.active_run()
    if run is None:
        fresh = memory.noted(MLFLOW_ID) is None
        run = mlflow.start_run(**({"run_name": title} if fresh else {}))
    memory.note(MLFLOW_ID, {"id": run.info.run_id})


def log_mlflow(mlflow: Any, point: Point, pictures: Mapping[str, U8]) -> None:
    """Log a point with MLflow; pictures as artifacts of the round."""
    for values, step in by_axis(point):
        mlflow.log_metrics(mlflow_names(values), step=step)
    for key, picture in pictures.items():
        mlflow.log_image(picture, f"{picture_name(key)}_round_{point.round:03d}.png")
