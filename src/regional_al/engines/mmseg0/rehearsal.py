"""The first training of a run, rehearsed: an iteration and an evaluation with mmcv's runner."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from mmcv import Config
from mmcv.runner import HOOKS, Hook

from ...errors import ConfigError
from ..mmseg.rehearsal import RehearsedError, local_only, rehearsal
from ..mmseg.resumable import INTERVAL, Resumable
from ..mmseg.training import LabelCount
from .checkpoints import safe_loading
from .config import phases
from .fit import BLAME, close, prepare
from .pool import Pool
from .predict import Predictor, confusion
from .source import Source
from .tracking import check as check_trackers
from .unlabeled import pool_training


class OneIteration(Hook):  # type: ignore[misc]
    """Ends a training after its first iteration; the rest of an epoch is cut off."""

    def __init__(self) -> None:
        self.done = 0

    def after_train_iter(self, runner: Any) -> None:
        """Let the runner end here, and insist after the second iteration."""
        self.done += 1
        if runner._max_epochs is None:
            runner._max_iters = runner.iter + 1
        elif self.done > 1:
            raise RehearsedError
        else:
            runner._max_epochs = runner.epoch + 1


def rehearse(cfg: Config, pool: Pool, validation: Any, source: Source | None = None) -> None:
    """Build all that the first training builds, train one iteration on invented labels and evaluate
    one validation image. Raises RegionalALError naming the config key. No collectives."""
    cfg = lightened(cfg)
    source = source and dataclasses.replace(source, num_workers=0)
    with rehearsal(cfg.get("acquisition") or {}, pool.items, pool.label_space) as request:
        stretch = Resumable(request, INTERVAL, 1, LabelCount())
        more = pool_training(cfg, pool, request, stretch.count)
        runner, loaders = prepare(cfg, pool, request, source, OneIteration(), stretch, more)
        try:
            # mmcv pauses for the sake of worker processes, of which there are none
            pauses = patch.object(time, "sleep", lambda _: None)
            with BLAME.named("a training iteration fails"), safe_loading(), pauses:
                runner.run(loaders, phases(cfg))
        except RehearsedError:
            pass
        finally:
            close(runner)
        del runner
        predictor = Predictor(cfg)
        with BLAME.named("the first validation image cannot be evaluated"):
            confusion(validation, predictor, None, limit=1)
        predictor.forget()


def lightened(cfg: Config) -> Config:
    """A copy that starts no worker processes, contacts no server and evaluates one image."""
    cfg = copy.deepcopy(cfg)
    for key in ("train_dataloader", "val_dataloader"):
        if key in cfg.data:
            cfg.data[key].workers_per_gpu = 0
    cfg.data.workers_per_gpu = 0
    cfg.smoke = {**(cfg.get("smoke") or {}), "val_images": 1}
    found = cfg.get("log_config")
    if isinstance(found, Mapping):
        if "hooks" not in found or "interval" not in found:
            raise ConfigError("log_config needs interval=... and hooks=[dict(type=...)]")
        check_trackers(cfg)
        cfg.log_config.hooks = local_only(found["hooks"], "log_config.hooks", HOOKS.get)
    return cfg
