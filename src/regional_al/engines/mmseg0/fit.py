"""One training stretch with mmcv's runners and hooks, as mmseg's `train_segmentor` sets them up."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmcv.runner import (
    HOOKS,
    DistSamplerSeedHook,
    EpochBasedRunner,
    IterBasedRunner,
    build_optimizer,
    build_runner,
)
from mmcv.utils import build_from_cfg
from mmseg.apis import set_random_seed
from mmseg.core import DistEvalHook, EvalHook
from mmseg.utils import setup_multi_processes

from ...config.schedule import stretch_policy
from ...errors import ConfigError, RegionalALError
from ...runtime import distributed as dist
from ..base import FitRequest, FitResult
from ..mmseg.checkpoints import strip
from ..mmseg.training import Start, labelled_dataset, starting_point
from ..quiet import quiet_warnings
from ..specs import first_line, without_traceback
from . import hooks  # noqa: F401 - registers StretchRunner
from .checkpoints import safe_loading
from .config import length_of, phases, schedule
from .hooks import LabelShareHook, close_logger, stretch_logger
from .loaders import train_loader, val_loader
from .parallel import wrapped
from .pool import Pool, build_dataset, read_sample
from .predict import build_trainable

CHECKPOINT = "checkpoint.pth"


def fit(cfg: Config, pool: Pool, request: FitRequest) -> FitResult:
    """Train one stretch; see FitRequest. `cfg`: with its losses already settled."""
    cfg = copy.deepcopy(cfg)  # registering hooks takes it apart
    if request.iterations is not None:
        set_iterations(cfg, request.iterations)
    start = starting_point(request, cfg.get("load_from"), cfg.get("resume_from"))
    stop_at = length_of(cfg).stop(request)
    dataset = labelled_dataset(pool, request, read_sample)
    prepare_process(cfg, request.seed)
    share = LabelShareHook()
    with quiet_warnings(), safe_loading():
        runner = make_runner(cfg, request, stop_at, pool)
    try:
        with quiet_warnings(), safe_loading():
            register_hooks(runner, cfg, request, share)
            begin(runner, start)
            loaders = make_loaders(cfg, runner, dataset, request)
            runner.run(loaders, phases(cfg))
        checkpoint = save(runner, request.out_dir)
    except RegionalALError as error:
        raise without_traceback(error) from None
    finally:
        runner.data_loader = None
        close_logger(runner.logger)
    ratio, extra = share.count.result()
    return FitResult(checkpoint, share.count.steps, ratio, extra)


def set_iterations(cfg: Config, iterations: int) -> None:
    """Train for `iterations` instead: learning rate and momentum policies are stretched with it."""
    last, runner = length_of(cfg).iterations(), schedule(cfg)
    cfg.runner = {**runner, "max_iters": iterations}
    for key in ("lr_config", "momentum_config"):
        if cfg.get(key):
            cfg[key] = stretch_policy(cfg[key], last, iterations)


def prepare_process(cfg: Config, seed: int) -> None:
    """Seeds and process settings, as mmseg's tools/train.py makes them."""
    if "workers_per_gpu" in cfg.data:
        setup_multi_processes(cfg)
    torch.backends.cudnn.benchmark = bool(cfg.get("cudnn_benchmark", False))
    set_random_seed(seed, deterministic=bool(cfg.get("deterministic", False)))


def make_runner(cfg: Config, request: FitRequest, stop_at: int | None, pool: Pool) -> Any:
    """A runner of its own for this stretch: fresh model, optimizer and logger."""
    model = build_trainable(cfg)
    model.init_weights()
    model.CLASSES = pool.label_space.class_names
    model.PALETTE = [list(colour) for colour in pool.label_space.palette]
    model = wrapped(model, bool(cfg.get("find_unused_parameters", False)))
    spec = schedule(cfg)
    if stop_at is not None:
        spec = {**spec, "type": "StretchRunner", "stop_at": stop_at}
    stamp = time.strftime("%Y%m%d_%H%M%S")
    try:
        optimizer = build_optimizer(model, cfg.optimizer)
        runner = build_runner(
            spec,
            default_args={
                "model": model,
                "batch_processor": None,
                "optimizer": optimizer,
                "work_dir": str(request.out_dir),
                "logger": stretch_logger(request.out_dir, stamp, cfg.get("log_level", "INFO")),
                "meta": {"CLASSES": model.module.CLASSES, "PALETTE": model.module.PALETTE},
            },
        )
    except Exception as error:  # whatever the classes named in a config raise
        raise ConfigError(f"optimizer or runner: {first_line(error)}") from None
    runner.timestamp = stamp  # so that .log and .log.json have one name
    return runner


def register_hooks(runner: Any, cfg: Config, request: FitRequest, share: LabelShareHook) -> None:
    """The config's hooks in mmseg's order, and ours, which counts labels."""
    try:
        runner.register_training_hooks(
            cfg.get("lr_config"),
            cfg.get("optimizer_config", {}),
            cfg.get("checkpoint_config"),
            cfg.get("log_config"),
            cfg.get("momentum_config"),
        )
    except Exception as error:  # unknown policies and hooks
        raise ConfigError(
            f"lr_config, optimizer_config, checkpoint_config, log_config or momentum_config: "
            f"{first_line(error)}"
        ) from None
    if dist.active() and isinstance(runner, EpochBasedRunner):
        runner.register_hook(DistSamplerSeedHook())
    evaluation = cfg.get("evaluation")
    if evaluation:
        images = build_dataset(cfg.data.val, "data.val", limit_of(cfg, "val"), test_mode=True)
        arguments = {**evaluation, "by_epoch": not isinstance(runner, IterBasedRunner)}
        kind = DistEvalHook if dist.active() else EvalHook
        hook = kind(val_loader(cfg, images, request.seed), **arguments)
        runner.register_hook(hook, priority="LOW")
    for spec in cfg.get("custom_hooks") or []:
        if not isinstance(spec, Mapping):
            raise ConfigError(f"custom_hooks holds {spec!r}, not a dict(type=...)")
        arguments = dict(spec)
        priority = arguments.pop("priority", "NORMAL")
        runner.register_hook(build_from_cfg(arguments, HOOKS), priority=priority)
    runner.register_hook(share, priority="VERY_LOW")


def limit_of(cfg: Config, part: str) -> int | None:
    """How many images a smoke run takes of 'train' or 'val'; None: all."""
    found = (cfg.get("smoke") or {}).get(f"{part}_images")
    return None if found is None else int(found)


def begin(runner: Any, start: Start) -> None:
    """Weights, and for a resumed stretch optimizer and iteration, into the runner."""
    if start.load is None:
        return
    if start.resume:
        runner.resume(start.load, map_location="cpu")
    else:
        runner.load_checkpoint(start.load, map_location="cpu")


def make_loaders(cfg: Config, runner: Any, dataset: Any, request: FitRequest) -> list[Any]:
    """A loader for each phase of `workflow`; 'val' sees data.val by the training pipeline, as in
    mmseg's tools/train.py."""
    iterations = None
    if isinstance(runner, IterBasedRunner):
        iterations = runner._max_iters - runner.iter
    loaders = [train_loader(cfg, dataset, request.seed, iterations)]
    if len(phases(cfg)) > 1:
        train = cfg.data.train
        pipeline = (train[0] if isinstance(train, (list, tuple)) else train)["pipeline"]
        images = build_dataset(cfg.data.val, "data.val", limit_of(cfg, "val"), pipeline=pipeline)
        loaders.append(train_loader(cfg, images, request.seed, None))
    return loaders


def save(runner: Any, out_dir: Path) -> Path:
    """Rank 0 writes the stretch's checkpoint, whole or not at all; the others wait for it."""
    final = out_dir / CHECKPOINT
    if dist.is_main():
        runner.meta = strip(runner.meta)
        runner.save_checkpoint(str(out_dir), CHECKPOINT + ".tmp", create_symlink=False)
        os.replace(out_dir / (CHECKPOINT + ".tmp"), final)
    dist.barrier()
    return final
