"""The first training of a run, rehearsed: an iteration and an evaluation with mmengine's Runner."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import _ParamScheduler
from mmengine.registry import FUNCTIONS, OPTIMIZERS, VISBACKENDS
from mmengine.runner import BaseLoop, LogProcessor, Runner, ValLoop
from mmengine.utils import ManagerMixin
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend

from ...errors import ConfigError
from ...types import UNLABELED
from ..mmseg.rehearsal import Blame, RehearsedError, local_only, rehearsal
from ..mmseg.resumable import INTERVAL, Resumable
from ..mmseg.training import LabelCount
from .checkpoints import safe_loading
from .fit import close, prepare
from .pool import Pool
from .predict import Predictor, confusion
from .source import Source
from .tracking import check as check_trackers

NAME = "rehearsal"


class RunnerBlame(Blame):
    """Tells the loader of the validation from that of the training; one method builds both."""

    def key(self, error: BaseException) -> str | None:
        """The config key, or None."""
        found, validation = super().key(error), Runner.build_val_loop.__code__
        if found == "train_dataloader" and validation in {
            frame.f_code for frame in self.frames(error)
        }:
            return "val_dataloader"
        return found


BLAME = RunnerBlame(
    Runner,
    {
        "build_dataloader": "train_dataloader",
        "build_train_loop": "train_cfg",
        "build_val_loop": "val_cfg",
        "build_evaluator": "val_evaluator",
        "build_optim_wrapper": "optim_wrapper",
        "build_param_scheduler": "param_scheduler",
        "_check_scheduler_cfg": "param_scheduler",
        "register_default_hooks": "default_hooks",
        "register_custom_hooks": "custom_hooks",
        "build_visualizer": "visualizer",
        "build_log_processor": "log_processor",
        "build_logger": "log_level",
        "scale_lr": "auto_scale_lr",
        "set_randomness": "randomness",
        "setup_env": "env_cfg",
        "wrap_model": "model_wrapper_cfg",
        "load_or_resume": "load_from",
    },
    (
        (_ParamScheduler, "param_scheduler"),
        (torch.optim.Optimizer, "optim_wrapper"),
        (OptimWrapper, "optim_wrapper"),
        (LogProcessor, "log_processor"),
        (BaseVisBackend, "visualizer"),
        (Visualizer, "visualizer"),
        (CheckpointHook, "default_hooks.checkpoint"),
        (Hook, "default_hooks or custom_hooks ({})"),
        (torch.nn.Module, "model ({})"),
        (torch.utils.data.Sampler, "train_dataloader.sampler"),
        (torch.utils.data.DataLoader, "train_dataloader"),
        (Evaluator, "val_evaluator"),
        (ValLoop, "val_cfg"),
        (BaseLoop, "train_cfg"),
    ),
)


class FirstBatch:
    """A loader of which only the first batch is given."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.loader, 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


class OneIteration(Hook):  # type: ignore[misc]
    """Ends a training after its first iteration; the rest of an epoch is cut off. A training that
    validates does so once, on the first batch."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.done = 0

    def before_train(self, runner: Any) -> None:
        """Let the validation come after the first iteration, and end after its first batch."""
        if runner.val_loop is not None:
            runner.val_loop.dataloader = FirstBatch(runner.val_loop.dataloader)
            loop = runner.train_loop
            loop.val_begin, loop.dynamic_milestones, loop.dynamic_intervals = 1, [0], [1]

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Ask the loop to stop, and insist after the second iteration."""
        self.done += 1
        runner.train_loop.stop_training = True
        if self.done > 1:
            raise RehearsedError


def rehearse(
    cfg: Config,
    pool: Pool,
    validation: Any,
    source: Source | None = None,
    unscored: int = UNLABELED,
) -> None:
    """Build all that the first training builds, train one iteration on invented labels and evaluate
    one validation image, without the train id `unscored`. Raises RegionalALError naming the config
    key. No collectives."""
    cfg = lightened(cfg)
    with rehearsal(cfg.get("acquisition") or {}, pool.items, pool.label_space) as request:
        stretch = Resumable(request, INTERVAL, 1, LabelCount())
        try:
            with BLAME.named("the training cannot be set up"), safe_loading():
                runner, console = prepare(
                    cfg, pool, request, source, [OneIteration()], stretch, NAME
                )
                try:
                    runner.train()
                finally:
                    close(runner, console)
                    del runner
        except RehearsedError:
            pass
        finally:
            forget()
        predictor = Predictor(cfg)
        with BLAME.named("the first validation image cannot be evaluated"):
            confusion(validation, predictor, None, limit=1, ignored=unscored)
        predictor.forget()


def lightened(cfg: Config) -> Config:
    """A copy that starts no worker processes and contacts no server. Raises ConfigError for names
    that are in no registry where mmengine would not tell them."""
    cfg = copy.deepcopy(cfg)
    for key in ("train_dataloader", "val_dataloader"):
        cfg[key].num_workers = 0
    for key, name, registry in (
        ("optim_wrapper", "optimizer", OPTIMIZERS),
        ("train_dataloader", "collate_fn", FUNCTIONS),
    ):
        spec = cfg[key].get(name)
        kind = spec.get("type") if isinstance(spec, Mapping) else None
        if isinstance(kind, str) and registry.get(kind) is None:
            raise ConfigError(f"{key}.{name}: {kind!r} is not registered")
    check_trackers(cfg)
    if isinstance(cfg.get("visualizer"), Mapping) and cfg.visualizer.get("vis_backends"):
        cfg.visualizer.vis_backends = local_only(
            cfg.visualizer.vis_backends, "visualizer.vis_backends", VISBACKENDS.get
        )
    return cfg


def forget() -> None:
    """Take the rehearsal out of mmengine's global instances: the last one made is what others log
    to."""
    for kind in subclasses(ManagerMixin):
        instances = kind._instance_dict
        for name in [name for name in instances if name.startswith(f"{NAME}_") or name == NAME]:
            instance = instances.pop(name)
            for handler in getattr(instance, "handlers", ()):
                if isinstance(handler, logging.FileHandler):
                    handler.close()


def subclasses(kind: Any) -> Iterator[Any]:
    """All classes below `kind`."""
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)
