"""One training stretch with mmengine's Runner, as it is."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import ConcatDataset

from ...config.schedule import stretch_schedule
from ...errors import ConfigError, RegionalALError
from ...runtime import distributed as dist
from ...store import fit_state
from ...types import JSON
from ..base import FitRequest, FitResult
from ..mmseg.resumable import INTERVAL, Resumable
from ..mmseg.side_training import side_training
from ..mmseg.training import Schedule, Start, labelled_dataset, starting_point
from ..specs import without_traceback
from .checkpoints import safe_loading
from .config import type_name
from .hooks import (
    Console,
    LabelShareHook,
    LogHistory,
    PlainCheckpointHook,
    calm_console,
    log_history,
    patience,
    quiet_warnings,
    restore_patience,
)
from .pool import Pool, read_sample
from .side_maps import SideMapHook
from .source import Source
from .tracking import RoundBackend, ValidationMark, show_backends, visualizer_of
from .unlabeled import pool_training

CHECKPOINT = "checkpoint.pth"
log = logging.getLogger("regional_al")
_stretches = itertools.count()  # experiment names must be unique within a process


def fit(cfg: Config, pool: Pool, request: FitRequest, source: Source | None = None) -> FitResult:
    """Train one stretch; see FitRequest. `cfg`: with its losses already settled. source: trained on
    beside the labels, or alone when there are none."""
    share = LabelShareHook()
    count, epochs = share.count, epochs_between(cfg)
    stretch = Resumable(request, save_interval(cfg), accumulation(cfg), count, epochs)
    runner, console = prepare(cfg, pool, request, source, [share], stretch)
    try:
        with stretch.stoppable(), contextlib.redirect_stdout(Console(sys.stdout)), safe_loading():
            runner.train()
            checkpoint = save(runner, request.out_dir)
    except RegionalALError as error:
        raise without_traceback(error) from None
    finally:
        close(runner, console)
    ratio, extra = share.count.result()
    return FitResult(checkpoint, share.count.steps, ratio, extra)


def prepare(
    cfg: Config,
    pool: Pool,
    request: FitRequest,
    source: Source | None,
    hooks: list[Hook],
    stretch: Resumable,
    name: str | None = None,
) -> tuple[Runner, list[logging.Handler]]:
    """The Runner of a stretch, ready to train, and the handlers of its log. hooks: ours, beside
    those of the config; name: of the experiment."""
    # mmengine writes the config down five times, and yapf needs 0.3 s for each of them
    cfg = Config(copy.deepcopy(cfg._cfg_dict), filename=cfg.filename, format_python_code=False)
    if request.iterations is not None:
        set_iterations(cfg, request.iterations)
    start = starting_point(request, cfg.get("load_from"))
    schedule = schedule_of(cfg)
    stop_at = schedule.stop(request)
    if schedule.length is not None and schedule.continuous:
        stop_at = schedule.length if stop_at is None else stop_at
    side = side_training(cfg, pool, request.store)
    dataset = labelled_dataset(pool, request, read_sample, source is not None, side)
    if side is not None:
        hooks = [*hooks, SideMapHook(side.added)]
    loader = loader_config(cfg, pool.mix(dataset))
    if source is not None:
        loader = source.loader(loader)
        source.rewrite(cfg)
    more = pool_training(cfg, pool, request, stretch.count)
    if more is not None:
        loader, hooks = more.loader(loader), [*hooks, more.hook]
        more.rewrite(cfg)
    name = name or f"round-{request.round}-{next(_stretches)}"
    backend = None if request.track is None else RoundBackend(request.track, stretch.count)
    runner, console = build_runner(cfg, request, loader, start, stop_at, hooks, name, backend)
    if type_name(cfg.train_cfg) in ("StretchTrainLoop", "EpochStretchLoop"):
        runner.stretch = stretch
        if stretch.checkpoint is not None and stretch.entry is not None:
            runner._load_from, runner._resume = str(stretch.checkpoint), True
            restore_patience(runner, stretch.entry["patience"])
            runner.register_hook(LogHistory(stretch.entry.get("log") or {}))
        stretch.save = lambda path, entry: write_state(runner, path, entry)
    return runner, console


def write_state(runner: Runner, path: Path, entry: JSON) -> None:
    """Write a checkpoint of the runner as it is, with an entry of its meta data."""
    more = {"patience": patience(runner), "log": log_history(runner)}
    write(runner, path, {fit_state.KEY: {**entry, **more}})


def in_epochs(cfg: Config) -> bool:
    """Whether the config trains with mmengine's own loop over epochs."""
    train_cfg = cfg.train_cfg
    by_epoch = type_name(train_cfg) in ("NoneType", "None") and train_cfg.get("by_epoch", True)
    own = by_epoch or type_name(train_cfg) == "EpochBasedTrainLoop"
    return bool(own) and "max_epochs" in train_cfg


def epochs_between(cfg: Config) -> int | None:
    """Epochs between two saved states, where the config's CheckpointHook counts them."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint")
    if not in_epochs(cfg) or not isinstance(hook, Mapping) or not hook.get("by_epoch", True):
        return None
    interval = hook.get("interval", -1)
    return interval if isinstance(interval, int) and interval > 0 else None


def save_interval(cfg: Config) -> int:
    """Iterations between two saved states: the interval of the config's CheckpointHook."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint")
    if isinstance(hook, Mapping) and not hook.get("by_epoch", True):
        interval = hook.get("interval", -1)
        if isinstance(interval, int) and interval > 0:
            return interval
    return INTERVAL


def accumulation(cfg: Config) -> int:
    """Iterations of one optimizer step."""
    return int(cfg.optim_wrapper.get("accumulative_counts") or 1)


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


def keeper_of_best(hook: Any) -> dict[str, Any] | None:
    """The config's CheckpointHook, reduced to its `save_best`; None where it has none."""
    if not isinstance(hook, Mapping) or not hook.get("save_best"):
        return None
    return {**hook, "interval": -1, "save_last": False}


def validation_within(cfg: Config, stop_at: int | None) -> dict[str, Any]:
    """`val_dataloader`, `val_cfg` and `val_evaluator` of a stretch that validates as the config
    says; empty where it never does. stop_at: iteration at which it ends, None: an unknown one.

    What is measured at the end of a training in iterations is what the round measures anyway: only
    `save_best` needs it.
    """
    parts = {f"val_{part}": cfg.get(f"val_{part}") for part in ("dataloader", "cfg", "evaluator")}
    best = keeper_of_best((cfg.get("default_hooks") or {}).get("checkpoint"))
    missing = [key for key, value in parts.items() if value is None]
    if best is not None and missing:
        raise ConfigError(f"default_hooks.checkpoint.save_best needs {' and '.join(missing)}")
    if best is not None and best.get("out_dir"):
        raise ConfigError(
            "default_hooks.checkpoint.out_dir: each round saves its best model in its own folder, "
            "rounds/<round>/fit; delete out_dir"
        )
    interval = cfg.train_cfg.get("val_interval", 1000)
    never = stop_at is not None and not cfg.train_cfg.get("dynamic_intervals")
    if missing or (never and best is None and interval >= (stop_at or 0)):
        return {}
    loader = dict(parts["val_dataloader"])
    if not loader.get("num_workers"):
        loader.pop("persistent_workers", None)
        loader.pop("prefetch_factor", None)
    return {**parts, "val_dataloader": loader}


def repeated(dataset: Any, times: int) -> Any:
    """The data set `times` over, with its metainfo."""
    many: Any = ConcatDataset([dataset] * times)
    many.metainfo = getattr(dataset, "metainfo", {})
    return many


def build_runner(
    cfg: Config,
    request: FitRequest,
    loader: dict[str, Any],
    start: Start,
    stop_at: int | None,
    more_hooks: list[Hook],
    name: str,
    backend: RoundBackend | None = None,
) -> tuple[Runner, list[logging.Handler]]:
    """A Runner of its own for this stretch. Of the config's CheckpointHook it has `save_best`
    alone: a stretch leaves one other checkpoint, its last.
    stop_at: iteration at which it ends; None: as the config's own loop does; backend: in place of
    those of the config's visualizer."""
    validation = validation_within(cfg, stop_at)
    cfg.work_dir = str(request.out_dir)
    cfg.launcher = "pytorch" if dist.active() else "none"
    cfg.load_from, cfg.resume = start.load, start.resume
    for key in ("val", "test"):
        for part in ("dataloader", "cfg", "evaluator"):
            cfg.pop(f"{key}_{part}", None)
    cfg.update(validation)
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
    elif in_epochs(cfg):
        cfg.train_cfg["type"] = "EpochStretchLoop"
        cfg.train_cfg.pop("by_epoch", None)
    hooks = dict(cfg.get("default_hooks") or {})
    hooks["checkpoint"] = keeper_of_best(hooks.get("checkpoint"))
    cfg.default_hooks = hooks
    visualizer = cfg.get("visualizer")
    if backend is not None:
        visualizer = visualizer_of(cfg, backend)
        more_hooks = [*more_hooks, ValidationMark(backend)]
    if isinstance(visualizer, Mapping):
        visualizer = {
            **visualizer,
            "name": name,
        }  # else the first round's would be found by its name
    randomness = {**(cfg.get("randomness") or {}), "seed": request.seed}
    screen, buffer = sys.stdout, io.StringIO()
    with quiet_warnings(), contextlib.redirect_stdout(buffer):
        runner = Runner(
            model=cfg.model,
            work_dir=cfg.work_dir,
            train_dataloader=loader,
            train_cfg=cfg.train_cfg,
            **validation,
            auto_scale_lr=cfg.get("auto_scale_lr"),
            optim_wrapper=cfg.optim_wrapper,
            param_scheduler=cfg.get("param_scheduler"),
            default_hooks=cfg.default_hooks,
            custom_hooks=[*(cfg.get("custom_hooks") or []), *more_hooks, PlainCheckpointHook()],
            data_preprocessor=cfg.get("data_preprocessor"),
            load_from=start.load,
            resume=start.resume,
            launcher=cfg.launcher,
            env_cfg=cfg.get("env_cfg", {}),
            log_processor=cfg.get("log_processor"),
            log_level=cfg.get("log_level", "INFO"),
            visualizer=visualizer,
            default_scope=cfg.get("default_scope", "mmseg"),
            randomness=randomness,
            experiment_name=name,
            cfg=cfg,
        )
    if backend is not None and request.track is not None:
        show_backends(runner, backend, request.track.trackers)
    return runner, calm_console(runner, screen)


def save(runner: Runner, out_dir: Path) -> Path:
    """Rank 0 writes the stretch's checkpoint, whole or not at all; the others wait for it."""
    final = out_dir / CHECKPOINT
    write(runner, out_dir / (CHECKPOINT + ".tmp"), {})
    if dist.is_main():
        os.replace(out_dir / (CHECKPOINT + ".tmp"), final)
    dist.barrier()
    return final


def write(runner: Runner, path: Path, meta: Mapping[str, Any]) -> None:
    """Rank 0 writes a checkpoint of the runner as it is."""
    runner.save_checkpoint(
        str(path.parent),
        path.name,
        meta={"epoch": runner.epoch, "iter": runner.iter, **meta},
        by_epoch=False,
        save_param_scheduler=runner.param_schedulers is not None,
    )


def close(runner: Runner, handlers: list[logging.Handler]) -> None:
    """Close log files, the visualizer's backends and the loader's workers (left to the garbage
    collector, these take seconds to end); a run has one Runner a round."""
    loop: Any = runner._train_loop
    if not isinstance(loop, Mapping):  # else it could not be built
        if hasattr(loop, "dataloader_iterator"):
            loop.dataloader_iterator = None
        loop.dataloader = None
    validation: Any = runner._val_loop
    if validation is not None and not isinstance(validation, Mapping):
        validation.dataloader = None
    runner.visualizer.close()
    for handler in handlers:
        handler.close()
        runner.logger.removeHandler(handler)
