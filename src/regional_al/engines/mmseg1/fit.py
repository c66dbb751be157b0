"""One training stretch with mmengine's Runner."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import ConcatDataset

from ...config.schedule import stretch_schedule
from ...errors import ConfigError, RegionalALError
from ...runtime import distributed as dist
from ..base import FitRequest, FitResult
from ..mmseg.training import Schedule, Start, labelled_dataset, starting_point
from ..specs import dicts, first_line, type_name, without_traceback
from .hooks import Console, LabelShareHook, PlainCheckpointHook, calm_console, quiet_warnings
from .pool import Pool, read_sample
from .source import Source

CHECKPOINT = "checkpoint.pth"
log = logging.getLogger("regional_al")
_stretches = itertools.count()  # experiment names must be unique within a process


def fit(cfg: Config, pool: Pool, request: FitRequest, source: Source | None = None) -> FitResult:
    """Train one stretch; see FitRequest. `cfg`: with its losses already settled. source: trained on
    beside the labels, or alone when there are none."""
    # mmengine writes the config down five times, and yapf needs 0.3 s for each of them
    cfg = Config(copy.deepcopy(cfg._cfg_dict), filename=cfg.filename, format_python_code=False)
    if request.iterations is not None:
        set_iterations(cfg, request.iterations)
    start = starting_point(request, cfg.get("load_from"))
    stop_at = schedule_of(cfg).stop(request)
    dataset = labelled_dataset(pool, request, read_sample, alone=source is not None)
    loader = loader_config(cfg, dataset)
    if source is not None:
        loader = source.loader(loader)
        source.rewrite(cfg)
    share = LabelShareHook()
    runner, console = build_runner(cfg, request, loader, start, stop_at, share)
    try:
        with contextlib.redirect_stdout(Console(sys.stdout)):
            runner.train()
        checkpoint = save(runner, request.out_dir)
    except RegionalALError as error:
        raise without_traceback(error) from None
    finally:
        close(runner, console)
    ratio, extra = share.count.result()
    return FitResult(checkpoint, share.count.steps, ratio, extra)


def schedule_of(cfg: Config) -> Schedule:
    """How long the config trains."""
    train_cfg = cfg.train_cfg
    return Schedule(
        int(train_cfg["max_iters"]) if "max_iters" in train_cfg else None,
        "train_cfg.max_iters",
        "train_cfg=dict(type='IterBasedTrainLoop', max_iters=...)",
        type_name(train_cfg) in ("IterBasedTrainLoop", "NoneType", "None"),
    )


def set_iterations(cfg: Config, iterations: int) -> None:
    """Train for `iterations` instead: schedules that count iterations are stretched with it."""
    last = schedule_of(cfg).iterations()
    cfg.train_cfg["max_iters"] = iterations
    cfg.train_cfg["val_interval"] = iterations
    found = cfg.get("param_scheduler") or []
    schedulers = found if isinstance(found, list) else [found]
    by_iter = [item for item in schedulers if not item.get("by_epoch", True)]
    by_epoch = [item for item in schedulers if item.get("by_epoch", True)]
    cfg.param_scheduler = [*stretch_schedule(by_iter, last, iterations), *by_epoch]


def loader_config(cfg: Config, dataset: Any) -> dict[str, Any]:
    """`train_dataloader` over the labelled images, made safe for a few of them.

    Iteration-based training draws from an InfiniteSampler (mmengine restarts any other with a
    pause), epochs from a finite one; an epoch shorter than one batch repeats the images, and a
    last batch of a single image, which batch norm cannot take, is dropped.
    """
    loader: dict[str, Any] = dict(cfg.train_dataloader)
    batch = loader.get("batch_size") or 1
    by_iter = "max_iters" in cfg.train_cfg
    sampler = loader.get("sampler")
    if isinstance(sampler, Mapping):
        name, wanted = type_name(sampler), "InfiniteSampler" if by_iter else "DefaultSampler"
        if name in ("DefaultSampler", "InfiniteSampler") and name != wanted:
            loader["sampler"] = {"type": wanted, "shuffle": sampler.get("shuffle", True)}
    if not by_iter:
        needed = batch * dist.world_size()
        if len(dataset) < needed:
            dataset = repeated(dataset, -(-needed // len(dataset)))
        own = -(-len(dataset) // dist.world_size())
        if batch > 1 and own % batch == 1 and own > batch:
            loader["drop_last"] = True
    if not loader.get("num_workers"):
        loader.pop("persistent_workers", None)
        loader.pop("prefetch_factor", None)
    loader["dataset"] = dataset
    return loader


def repeated(dataset: Any, times: int) -> Any:
    """The data set `times` over, with its metainfo."""
    many: Any = ConcatDataset([dataset] * times)
    many.metainfo = getattr(dataset, "metainfo", {})
    return many


class StretchRunner(Runner):  # type: ignore[misc]
    """mmengine's Runner; a part of the config that it cannot build is one line, a ConfigError."""

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        return built("optim_wrapper", optim_wrapper, super().build_optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        return built("param_scheduler", scheduler, super().build_param_scheduler)

    def register_custom_hooks(self, hooks: Any) -> None:
        built("custom_hooks", hooks, super().register_custom_hooks)


def built(key: str, spec: Any, build: Callable[[Any], Any]) -> Any:
    """`build(spec)`. Raises ConfigError naming the key of the config and the types in it."""
    names = ", ".join(type_name(part) for part in dicts(spec) if "type" in part)
    try:
        return build(spec)
    except RegionalALError:
        raise
    except Exception as error:  # whatever the classes named in a config raise
        kinds = f" ({names})" if names else ""
        raise ConfigError(f"{key}{kinds} cannot be built: {first_line(error)}") from None


def build_runner(
    cfg: Config,
    request: FitRequest,
    loader: dict[str, Any],
    start: Start,
    stop_at: int | None,
    share: LabelShareHook,
) -> tuple[Runner, list[logging.Handler]]:
    """A Runner of its own for this stretch, without validation and without CheckpointHook."""
    cfg.work_dir = str(request.out_dir)
    cfg.launcher = "pytorch" if dist.active() else "none"
    cfg.load_from, cfg.resume = start.load, start.resume
    for key in ("val", "test"):
        for part in ("dataloader", "cfg", "evaluator"):
            cfg.pop(f"{key}_{part}", None)
    if dist.active() and not torch.cuda.is_available():
        wrapper = dict(cfg.get("model_wrapper_cfg") or {})
        wrapper.setdefault("type", "MMDistributedDataParallel")
        wrapper.setdefault("find_unused_parameters", cfg.get("find_unused_parameters", False))
        wrapper.setdefault("broadcast_buffers", False)
        cfg.model_wrapper_cfg = {**wrapper, "device_ids": None}
    if stop_at is not None:
        cfg.train_cfg["type"] = "StretchTrainLoop"
        cfg.train_cfg.pop("by_epoch", None)
        cfg.train_cfg.pop("fast_forward_on_resume", None)
        cfg.train_cfg["stop_at"] = stop_at
    hooks = dict(cfg.get("default_hooks") or {})
    hooks["checkpoint"] = None  # a stretch leaves one checkpoint, its last
    cfg.default_hooks = hooks
    name = f"round-{request.round}-{next(_stretches)}"
    if isinstance(cfg.get("visualizer"), Mapping):
        cfg.visualizer.name = name  # else the first round's would be found again by its name
    randomness = {**(cfg.get("randomness") or {}), "seed": request.seed}
    screen, buffer = sys.stdout, io.StringIO()
    with quiet_warnings(), contextlib.redirect_stdout(buffer):
        runner = StretchRunner(
            model=cfg.model,
            work_dir=cfg.work_dir,
            train_dataloader=loader,
            train_cfg=cfg.train_cfg,
            auto_scale_lr=cfg.get("auto_scale_lr"),
            optim_wrapper=cfg.optim_wrapper,
            param_scheduler=cfg.get("param_scheduler"),
            default_hooks=cfg.default_hooks,
            custom_hooks=[*(cfg.get("custom_hooks") or []), share, PlainCheckpointHook()],
            data_preprocessor=cfg.get("data_preprocessor"),
            load_from=start.load,
            resume=start.resume,
            launcher=cfg.launcher,
            env_cfg=cfg.get("env_cfg", {}),
            log_processor=cfg.get("log_processor"),
            log_level=cfg.get("log_level", "INFO"),
            visualizer=cfg.get("visualizer"),
            default_scope=cfg.get("default_scope", "mmseg"),
            randomness=randomness,
            experiment_name=name,
            cfg=cfg,
        )
    return runner, calm_console(runner, screen)


def save(runner: Runner, out_dir: Path) -> Path:
    """Rank 0 writes the stretch's checkpoint, whole or not at all; the others wait for it."""
    final = out_dir / CHECKPOINT
    runner.save_checkpoint(
        str(out_dir),
        CHECKPOINT + ".tmp",
        meta={"epoch": runner.epoch, "iter": runner.iter},
        by_epoch=False,
        save_param_scheduler=runner.param_schedulers is not None,
    )
    if dist.is_main():
        os.replace(out_dir / (CHECKPOINT + ".tmp"), final)
    dist.barrier()
    return final


def close(runner: Runner, handlers: list[logging.Handler]) -> None:
    """Close log files, the visualizer's backends and the loader's workers (left to the garbage
    collector, these take seconds to end); a run has one Runner a round."""
    loop = runner.train_loop
    if hasattr(loop, "dataloader_iterator"):
        loop.dataloader_iterator = None
    loop.dataloader = None
    runner.visualizer.close()
    for handler in handlers:
        handler.close()
        runner.logger.removeHandler(handler)
