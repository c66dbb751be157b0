"""Training stretches of the tiny engine that are interrupted at a step, and their comparison."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from generation import mmseg_generation
from mmseg_tiny import make_engine

from regional_al.engines.base import FitRequest
from regional_al.engines.mmseg.training import LabelCount
from regional_al.errors import TrainingStopped
from regional_al.store import fit_state
from regional_al.store.labels import LabelStore

GENERATION = mmseg_generation()
KEYS = {
    "mmseg1": {
        "interval": "default_hooks.checkpoint.interval",
        "workers": "train_dataloader.num_workers",
        "batch": "train_dataloader.batch_size",
        "accumulate": "optim_wrapper.accumulative_counts",
    },
    "mmseg0": {
        "interval": "checkpoint_config.interval",
        "workers": "data.workers_per_gpu",
        "batch": "data.samples_per_gpu",
        "accumulate": "optimizer_config.cumulative_iters",
    },
}.get(str(GENERATION), {})
IDENTITY = {"round": 0, "labels": "a", "processes": 1}


class Killed(BaseException):
    """In place of SIGKILL, which takes a process of its own (see the slow tests)."""


def engine_of(root: Path, changes: Any = None, /, **values: Any) -> Any:
    options = {KEYS[key].replace(".", "__"): value for key, value in values.items()}
    if GENERATION == "mmseg0" and "accumulate" in values:
        options["optimizer_config__type"] = "GradientCumulativeOptimizerHook"
    return make_engine(root, changes, **options)


def fit(engine: Any, store: LabelStore, out: Path, identity: Any = IDENTITY, **more: Any) -> Any:
    out.mkdir(parents=True, exist_ok=True)
    request = FitRequest(round=0, seed=3, store=store, out_dir=out, identity=identity, **more)
    return engine.fit(request)


@contextmanager
def at_step(step: int, action: Callable[[], None]) -> Iterator[None]:
    """Do something before the step-th iteration of a stretch, counted over all its runs."""
    steps = LabelCount.__dict__.get("steps")
    assert steps is None

    def get(self: Any) -> int:
        return int(self.__dict__.get("steps", 0))

    def put(self: Any, value: int) -> None:
        self.__dict__["steps"] = value
        if value == step:
            action()

    LabelCount.steps = property(get, put)  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        del LabelCount.steps


def killed(step: int, *arguments: Any, **more: Any) -> None:
    def kill() -> None:
        raise Killed

    with at_step(step, kill), pytest.raises(Killed):
        fit(*arguments, **more)


def signalled(step: int, number: int, *arguments: Any, **more: Any) -> str:
    with (
        at_step(step, lambda: os.kill(os.getpid(), number)),
        pytest.raises(TrainingStopped) as info,
    ):
        fit(*arguments, **more)
    return str(info.value)


def content(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(result.checkpoint, weights_only=True)
    with_paths = ("time", "experiment_name", "cfg", "hook_msgs", "best_ckpt")
    for part in (found["meta"], found.get("message_hub", {}).get("runtime_info", {})):
        for key in with_paths:
            part.pop(key, None)
    return found


def differences(one: Any, two: Any, name: str = "") -> list[str]:
    """Where two checkpoints differ."""
    if isinstance(one, torch.Tensor):
        same = isinstance(two, torch.Tensor) and torch.equal(one, two) and one.dtype == two.dtype
        return [] if same else [name]
    if isinstance(one, Mapping) and isinstance(two, Mapping) and set(one) == set(two):
        return [d for key in one for d in differences(one[key], two[key], f"{name}.{key}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{name}.{i}")]
    return [] if one == two else [name]


def assert_same(one: Any, two: Any) -> None:
    assert differences(content(one), content(two)) == []
    assert (one.iterations, one.label_share, one.extra) == (
        two.iterations,
        two.label_share,
        two.extra,
    )


def iteration_of(out: Path) -> int:
    state = fit_state.read(out, IDENTITY)
    assert state is not None
    return int(state["iteration"])
