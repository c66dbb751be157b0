"""MMSegmentation 1.x behind the engine protocol. Thin: the work is in the modules beside."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules

from ...types import I64
from ..base import FitRequest, FitResult, Memory
from ..mmseg.engine import MMSegEngine, sparse_labels
from ..mmseg.ignored import ignored_by_metrics, tell
from ..mmseg.side_training import check_config as check_sides
from ..mmseg.tiled import tiling_of
from . import backbones, datasets, fit, ops, preflight, set_heads  # noqa: F401
from .config import check_packages, fit_to_cpu
from .hooks import quiet_warnings
from .losses import average_over_labels, weigh_pixels
from .pool import build_dataset, build_pool, read_sample
from .predict import Predictor, confusion
from .source import build_source
from .tracking import BackendTracker, trackers
from .unlabeled import check as check_unlabeled

QUIET, EVALUATOR = "regional_al.mmseg1", "val_evaluator"


class MMSeg1Engine(MMSegEngine):
    """Engine over a config of MMSegmentation 1.x (`train_dataloader`, `train_cfg`, ...).

    cfg: as `engines.load` reads it; it is not changed. Building it builds the training data set
    (not the model), and the source data set if the config has one. Attributes: `label_space`,
    `pool`, `max_iterations` (None for epochs), `has_source`.
    Raises ConfigError, DataError, UnsupportedError.
    """

    def __init__(self, cfg: Config) -> None:
        register_all_modules(init_default_scope=False)
        ops.provide()
        if not MMLogger.check_instance_created(QUIET):  # until a Runner brings its own
            MMLogger.get_instance(QUIET, log_level="WARNING")
        scope = cfg.get("default_scope") or "mmseg"
        init_default_scope(scope)
        self.cfg = copy.deepcopy(cfg)
        self.cfg.default_scope = scope
        preflight.check_keys(self.cfg)
        if not preflight.cuda():
            fit_to_cpu(self.cfg)
        self.sparse = sparse_labels(self.cfg.get("acquisition") or {})
        check_unlabeled(self.cfg)
        check_sides(self.cfg)
        spec, key = self.cfg.train_dataloader.dataset, "train_dataloader.dataset"
        self.keep_sparse_labels(spec, key, datasets.SUBSTITUTES, datasets.is_stock)
        with quiet_warnings():
            self.tiling = tiling_of(self.cfg)
            ignored, told = self.make_void([spec, self.cfg.get("data_preprocessor")])
            average_over_labels(self.cfg.model, refuse=self.sparse)
            weigh_pixels(self.cfg.model, self.cfg.get("acquisition") or {})
            self._pool = build_pool(spec, self.tiling, ignored)
        check_packages(self.cfg.model)
        self.dataset, self.read_sample = self._pool.dataset, read_sample
        self.pool, self.label_space = self._pool.items, self._pool.label_space
        self.unscored = unscored(self.cfg, ignored)
        tell(self.label_space, ignored, told, self.unscored, f"{EVALUATOR}.ignore_index")
        with quiet_warnings():
            self._source = build_source(self.cfg, self.label_space, ignored)
        self.has_source = self._source is not None
        self.max_iterations = fit.schedule_of(self.cfg).length
        self.predictor = Predictor(self.cfg)

    def preflight(self) -> None:
        preflight.check(
            self.cfg, self._pool, self.validation, self.sparse, self._source, self.unscored
        )

    def train(self, request: FitRequest) -> FitResult:
        return fit.fit(self.cfg, self._pool, request, self._source)

    def trackers(self, folder: Path, title: str, memory: Memory) -> list[BackendTracker]:
        """The backends of the config's visualizer, see `Engine`."""
        return trackers(self.cfg, folder, title, memory)

    def evaluate(self, checkpoint: Path | None) -> I64:
        return confusion(self.validation, self.predictor, checkpoint, ignored=self.unscored)

    def build_validation(self) -> Any:
        spec, key = self.cfg.val_dataloader.dataset, "val_dataloader.dataset"
        return build_dataset(spec, key, self.tiling)


def unscored(cfg: Config, ignored: int) -> int:
    """The train id that the evaluation leaves out: that of `val_evaluator`; without one, that of
    the heads."""
    found = ignored_by_metrics(cfg.get(EVALUATOR), EVALUATOR)
    return ignored if found is None else found
