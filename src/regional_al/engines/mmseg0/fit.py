"""One training stretch with mmcv's runners and hooks, as mmseg's `train_segmentor` sets them up."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmcv.runner import (
    HOOKS,
    BaseRunner,
    CheckpointHook,
    DistSamplerSeedHook,
    EpochBasedRunner,
    Hook,
    IterBasedRunner,
    LoggerHook,
    OptimizerHook,
    build_optimizer,
    build_runner,
)
from mmcv.runner.hooks.lr_updater import LrUpdaterHook
from mmcv.runner.hooks.momentum_updater import MomentumUpdaterHook
from mmcv.utils import build_from_cfg
from mmseg.apis import set_random_seed
from mmseg.core import EvalHook
from mmseg.utils import setup_multi_processes

from ...config.schedule import stretch_policy
from ...errors import ConfigError, RegionalALError, UnsupportedError
from ...runtime import distributed as dist
from ...store import fit_state
from ...types import JSON
from ..base import FitRequest, FitResult
from ..mmseg.checkpoints import strip
from ..mmseg.mixing import MIX, unwrapped
from ..mmseg.rehearsal import Blame
from ..mmseg.resumable import INTERVAL, Resumable, can_resume
from ..mmseg.side_training import SideTraining, side_training
from ..mmseg.training import LabelCount, Start, labelled_dataset, starting_point
from ..quiet import quiet_warnings
from ..specs import dicts, type_name, without_traceback
from .checkpoints import safe_loading
from .config import length_of, phases, schedule
from .hooks import (
    AsideDistEvalHook,
    AsideEvalHook,
    EpochStretchRunner,
    LabelShareHook,
    LateState,
    close_logger,
    plain_model,
    stretch_logger,
)
from .loaders import InBlocks, loader_options, train_loader, val_loader
from .parallel import wrapped
from .pool import Pool, build_dataset, read_sample
from .predict import build_trainable
from .side_maps import with_sides
from .source import Source, with_source
from .tracking import own_log, round_hook
from .unlabeled import PoolTraining, TeacherHook, pool_training, with_pool

CHECKPOINT = "checkpoint.pth"
BLAME = Blame(
    BaseRunner,
    {
        "register_lr_hook": "lr_config",
        "register_momentum_hook": "momentum_config",
        "register_optimizer_hook": "optimizer_config",
        "register_checkpoint_hook": "checkpoint_config",
        "register_logger_hooks": "log_config",
        "load_checkpoint": "load_from",
        "resume": "resume_from",
    },
    (
        (torch.optim.Optimizer, "optimizer"),
        (LrUpdaterHook, "lr_config"),
        (MomentumUpdaterHook, "momentum_config"),
        (OptimizerHook, "optimizer_config"),
        (CheckpointHook, "checkpoint_config"),
        (LoggerHook, "log_config"),
        (EvalHook, "evaluation"),
        (Hook, "custom_hooks ({})"),
        (torch.nn.Module, "model ({})"),
        (torch.utils.data.Sampler, "data.train_dataloader"),
        (torch.utils.data.DataLoader, "data.train_dataloader"),
        (BaseRunner, "runner"),
    ),
)


def fit(cfg: Config, pool: Pool, request: FitRequest, source: Source | None = None) -> FitResult:
    """Train one stretch; see FitRequest. `cfg`: with its losses already settled. source: trained on
    beside the labels, or alone when there are none."""
    share = LabelShareHook()
    count, epochs = share.count, epochs_between(cfg)
    stretch = Resumable(request, save_interval(cfg), accumulation(cfg), count, epochs)
    more = pool_training(cfg, pool, request, count)
    runner, loaders = prepare(cfg, pool, request, source, share, stretch, more)
    try:
        with stretch.stoppable(), quiet_warnings(), safe_loading():
            runner.run(loaders, phases(cfg))
            checkpoint = save(runner, request.out_dir, more)
    except RegionalALError as error:
        raise without_traceback(error) from None
    finally:
        close(runner)
    ratio, extra = share.count.result()
    return FitResult(checkpoint, share.count.steps, ratio, extra)


def prepare(
    cfg: Config,
    pool: Pool,
    request: FitRequest,
    source: Source | None,
    hook: Any,
    stretch: Resumable,
    more: PoolTraining | None = None,
) -> tuple[Any, list[Any]]:
    """The runner of a stretch, ready to run, and its loaders. hook: ours, beside those of the
    config; more: images of the pool beside the labelled ones. Raises ConfigError naming the config
    key."""
    cfg = copy.deepcopy(cfg)  # registering hooks takes it apart
    if request.iterations is not None:
        set_iterations(cfg, request.iterations)
    start = starting_point(request, cfg.get("load_from"), cfg.get("resume_from"))
    length = length_of(cfg)
    stop_at = length.stop(request)
    in_blocks = length.length is not None and length.continuous and len(phases(cfg)) == 1
    side = side_training(cfg, pool, request.store)
    labelled = labelled_dataset(pool, request, read_sample, source is not None, side)
    dataset = pool.mix(labelled) if len(labelled) else labelled
    prepare_process(cfg, request.seed)
    with quiet_warnings(), safe_loading(), BLAME.named("the training cannot be set up"):
        runner = make_runner(cfg, request, stop_at, pool, source, more, side)
        try:
            register_hooks(runner, cfg, request, hook, stretch.count)
            begin(runner, start)
            first, checkpoint = runner.iter, start.load if start.resume else None
            epochs = isinstance(runner, EpochStretchRunner)
            if (in_blocks or epochs) and stretch.entry is not None:
                first, checkpoint = resume(runner, stretch), str(stretch.checkpoint)
            if more is not None:
                teacher = TeacherHook(more.state, checkpoint, accumulation(cfg))
                teacher.begin(runner)
                runner.register_hook(teacher, priority="VERY_LOW")
            loaders = make_loaders(cfg, runner, dataset, request, first, source, more)
            if (in_blocks or epochs) and can_resume(loaders[0]):
                stretch.save = lambda path, entry: write_state(runner, path, entry, more)
                if epochs:
                    runner.stretch = stretch
                else:
                    loaders[0] = InBlocks(loaders[0], runner, stretch)
            return runner, loaders
        except BaseException:
            close(runner)
            raise


def close(runner: Any) -> None:
    """Let go of the loader's workers and close the log file."""
    runner.data_loader = None
    close_logger(runner.logger)


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


def make_runner(
    cfg: Config,
    request: FitRequest,
    stop_at: int | None,
    pool: Pool,
    source: Source | None,
    more: PoolTraining | None = None,
    side: SideTraining | None = None,
) -> Any:
    """A runner of its own for this stretch: fresh model, optimizer and logger."""
    model = build_trainable(cfg)
    model.init_weights()
    model.CLASSES = pool.label_space.class_names
    model.PALETTE = [list(colour) for colour in pool.label_space.palette]
    unused, again = bool(cfg.get("find_unused_parameters", False)), False
    if side is not None:
        with_sides(model, side.added)
    if source is not None:
        with_source(model, source.weight)
    if more is not None:
        with_pool(model)
    if source is not None or more is not None:
        again = any(spec.get("with_cp") for spec in dicts(cfg.model))
    model = wrapped(model, unused, static_graph=again)
    spec = schedule(cfg)
    if stop_at is not None:
        spec = {**spec, "type": "StretchRunner", "stop_at": stop_at}
    elif in_epochs(cfg):
        spec = {**spec, "type": "EpochStretchRunner"}
    stamp = time.strftime("%Y%m%d_%H%M%S")
    with BLAME.named("optimizer"):
        optimizer = build_optimizer(model, cfg.optimizer)
    logger = stretch_logger(request.out_dir, stamp, cfg.get("log_level", "INFO"))
    arguments = {
        "model": model,
        "batch_processor": None,
        "optimizer": optimizer,
        "work_dir": str(request.out_dir),
        "logger": logger,
        "meta": {"CLASSES": model.module.CLASSES, "PALETTE": model.module.PALETTE},
    }
    try:
        with BLAME.named("runner"):
            runner = build_runner(spec, default_args=arguments)
    except BaseException:
        close_logger(logger)
        raise
    runner.timestamp = stamp  # so that .log and .log.json have one name
    return runner


def register_hooks(
    runner: Any, cfg: Config, request: FitRequest, ours: Any, count: LabelCount
) -> None:
    """The config's hooks in mmseg's order, and ours. count: of the training."""
    track = request.track
    runner.register_training_hooks(
        cfg.get("lr_config"),
        cfg.get("optimizer_config", {}),
        cfg.get("checkpoint_config"),
        cfg.get("log_config") if track is None else own_log(cfg),
        cfg.get("momentum_config"),
    )
    if track is not None:
        runner.register_hook(round_hook(cfg, track, count), priority="VERY_LOW")
    if dist.active() and isinstance(runner, EpochBasedRunner):
        runner.register_hook(DistSamplerSeedHook())
    evaluation = cfg.get("evaluation")
    if evaluation:
        images = build_dataset(cfg.data.val, "data.val", limit_of(cfg, "val"), test_mode=True)
        kind = AsideDistEvalHook if dist.active() else AsideEvalHook
        with BLAME.named("evaluation"):
            arguments = {**evaluation, "by_epoch": not isinstance(runner, IterBasedRunner)}
            hook = kind(val_loader(cfg, images, request.seed), **arguments)
        runner.register_hook(hook, priority="LOW")
    for spec in cfg.get("custom_hooks") or []:
        if not isinstance(spec, Mapping):
            raise ConfigError(f"custom_hooks holds {spec!r}, not a dict(type=...)")
        arguments = dict(spec)
        priority = arguments.pop("priority", "NORMAL")
        with BLAME.named("custom_hooks"):
            runner.register_hook(build_from_cfg(arguments, HOOKS), priority=priority)
    runner.register_hook(ours, priority="VERY_LOW")


def limit_of(cfg: Config, part: str) -> int | None:
    """How many images a smoke run takes of 'train' or 'val'; None: all."""
    found = (cfg.get("smoke") or {}).get(f"{part}_images")
    return None if found is None else int(found)


def begin(runner: Any, start: Start) -> None:
    """Weights, and for a resumed stretch optimizer and iteration, into the runner."""
    if start.load is None:
        return
    if start.resume:
        resume_from(runner, start.load)
    else:
        runner.load_checkpoint(start.load, map_location="cpu")


def resume(runner: Any, stretch: Resumable) -> int:
    """Restore the state of a stretch that was interrupted. Returns the iteration at which it had
    begun."""
    entry = stretch.entry or {}
    resume_from(runner, str(stretch.checkpoint))
    if isinstance(runner, EpochStretchRunner):
        runner._epoch = int(entry["epoch"])  # in its checkpoint mmcv counts the one that runs, too
        if entry["block"][0] < entry["iteration"]:
            runner.resumed = LateState(str(stretch.checkpoint))
    runner.meta = entry["runner"]  # such as the loss scale of Fp16OptimizerHook
    return int(entry["first"])


def resume_from(runner: Any, checkpoint: str) -> None:
    """`runner.resume`; what hooks add to the model when the run begins is restored then."""
    late = LateState(checkpoint)
    late.note(plain_model(runner.model))
    runner.resume(checkpoint, map_location="cpu")
    runner.register_hook(late, priority="LOWEST")


def write_state(runner: Any, path: Path, entry: JSON, more: PoolTraining | None = None) -> None:
    """Write a checkpoint of the runner as it is, with an entry of its meta data."""
    entry = {**entry, "runner": strip(runner.meta), "epoch": runner.epoch}
    meta = {fit_state.KEY: entry, **(more.entry(runner.model, False) if more else {})}
    runner.save_checkpoint(str(path.parent), path.name, meta=meta, create_symlink=False)


def in_epochs(cfg: Config) -> bool:
    """Whether the config trains with mmcv's own runner of epochs, in one phase."""
    return schedule(cfg).get("type") == "EpochBasedRunner" and len(phases(cfg)) == 1


def epochs_between(cfg: Config) -> int | None:
    """Epochs between two saved states, where the config's checkpoints count them."""
    found = cfg.get("checkpoint_config") or {}
    interval = found.get("interval", -1)
    by_epoch = in_epochs(cfg) and found.get("by_epoch", True)
    return interval if isinstance(interval, int) and interval > 0 and by_epoch else None


def save_interval(cfg: Config) -> int:
    """Iterations between two saved states: the interval of the config's checkpoints."""
    found = cfg.get("checkpoint_config") or {}
    interval = found.get("interval", -1)
    by_iteration = not found.get("by_epoch", False)
    return interval if isinstance(interval, int) and interval > 0 and by_iteration else INTERVAL


def accumulation(cfg: Config) -> int:
    """Iterations of one optimizer step."""
    return int((cfg.get("optimizer_config") or {}).get("cumulative_iters") or 1)


def make_loaders(
    cfg: Config,
    runner: Any,
    dataset: Any,
    request: FitRequest,
    first: int,
    source: Source | None,
    more: PoolTraining | None = None,
) -> list[Any]:
    """A loader for each phase of `workflow`; 'val' sees data.val by the training pipeline, as in
    mmseg's tools/train.py. first: iteration at which the stretch began; more: images of the pool
    beside the labelled ones."""
    iterations = None
    if isinstance(runner, IterBasedRunner):
        iterations = runner._max_iters - first
    if source is not None:
        return [source_loader(cfg, dataset, request.seed, source, iterations or 1)]
    loaders = [train_loader(cfg, dataset, request.seed, iterations, more)]
    if len(phases(cfg)) > 1:
        train, mixtures = unwrapped(cfg.data.train, "data.train", quiet=True)
        if any(type_name(spec) == MIX for spec in mixtures):
            raise UnsupportedError(
                f"workflow with 'val' needs one pipeline in data.train, but {MIX} has two: use "
                "workflow=[('train', 1)]"
            )
        pipeline = (train[0] if isinstance(train, (list, tuple)) else train)["pipeline"]
        images = build_dataset(cfg.data.val, "data.val", limit_of(cfg, "val"), pipeline=pipeline)
        loaders.append(train_loader(cfg, images, request.seed, None))
    return loaders


def source_loader(cfg: Config, dataset: Any, seed: int, source: Source, iterations: int) -> Any:
    """The loader of the labelled images, if there are any, and the source."""
    target = train_loader(cfg, dataset, seed, iterations) if len(dataset) else None
    return source.loader(target, loader_options(cfg, "train_dataloader", seed), iterations)


def save(runner: Any, out_dir: Path, more: PoolTraining | None = None) -> Path:
    """Rank 0 writes the stretch's checkpoint, whole or not at all; the others wait for it."""
    final = out_dir / CHECKPOINT
    if dist.is_main():
        runner.meta = strip(runner.meta)
        meta = more.entry(runner.model, True) if more else {}
        with more.state.exchanged(plain_model(runner.model)) if more else nullcontext():
            name = CHECKPOINT + ".tmp"
            runner.save_checkpoint(str(out_dir), name, meta=meta, create_symlink=False)
        os.replace(out_dir / (CHECKPOINT + ".tmp"), final)
    dist.barrier()
    return final
