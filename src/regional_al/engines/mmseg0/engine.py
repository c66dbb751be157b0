"""MMSegmentation 0.x behind the engine protocol. Thin: the work is in the modules beside."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmcv import Config

from ...types import I64, UNLABELED
from ..base import FitRequest, FitResult, Memory, Tracker
from ..mmseg.engine import MMSegEngine, sparse_labels
from ..mmseg.ignored import KEY, ignored_by_metrics, tell
from ..mmseg.side_training import check_config as check_sides
from ..mmseg.tiled import tiling_of
from ..quiet import quiet_warnings
from . import datasets, fit, preflight
from .config import check_keys, fit_to_cpu, length_of
from .hooks import calm_loggers
from .losses import average_over_labels, weigh_pixels
from .pool import build_dataset, build_pool, read_sample, single
from .predict import Predictor, confusion
from .source import build_source
from .tracking import trackers
from .unlabeled import check as check_unlabeled


class MMSeg0Engine(MMSegEngine):
    """Engine over a config of MMSegmentation 0.x (`data=dict(samples_per_gpu=...)`, `runner`, ...).

    cfg: as `engines.load` reads it; it is not changed. Building it builds the training data set
    (not the model), and the source data set if the config has one. Attributes: `label_space`,
    `pool`, `max_iterations` (None for epochs), `has_source`.
    Raises ConfigError, DataError, UnsupportedError.
    """

    def __init__(self, cfg: Config) -> None:
        calm_loggers()
        self.cfg = copy.deepcopy(cfg)
        check_keys(self.cfg)
        if not torch.cuda.is_available():
            fit_to_cpu(self.cfg)
        self.sparse = sparse_labels(self.cfg.get("acquisition") or {})
        check_unlabeled(self.cfg)
        check_sides(self.cfg)
        spec = self.cfg.data.train
        self.keep_sparse_labels(spec, "data.train", datasets.SUBSTITUTES, datasets.is_stock)
        with quiet_warnings():
            self.tiling = tiling_of(self.cfg)
            limit = fit.limit_of(self.cfg, "train")
            self.ignored, told = self.make_void([spec])
            self._pool = build_pool(spec, limit, self.tiling, self.ignored)
            average_over_labels(self.cfg.model, refuse=self.sparse)
            weigh_pixels(self.cfg.model, self.cfg.get("acquisition") or {})
        self.dataset, self.read_sample = self._pool.dataset, read_sample
        self.pool, self.label_space = self._pool.items, self._pool.label_space
        self.unscored = unscored(self.cfg)
        tell(self.label_space, self.ignored, told, self.unscored, "data.val.ignore_index")
        with quiet_warnings():
            self._source = build_source(self.cfg, self.label_space, limit, self.ignored)
        self.has_source = self._source is not None
        self.max_iterations = length_of(self.cfg).length
        self.predictor = Predictor(self.cfg)

    def preflight(self) -> None:
        preflight.check(
            self.cfg,
            self._pool,
            self.validation,
            self.sparse,
            self._source,
            self.ignored,
            self.unscored,
        )

    def train(self, request: FitRequest) -> FitResult:
        return fit.fit(self.cfg, self._pool, request, self._source)

    def trackers(self, folder: Path, title: str, memory: Memory) -> list[Tracker]:
        """Those that hooks of `log_config` write to, see `Engine`."""
        return trackers(self.cfg, folder, title, memory)

    def evaluate(self, checkpoint: Path | None) -> I64:
        return confusion(self.validation, self.predictor, checkpoint)

    def build_validation(self) -> Any:
        limit = fit.limit_of(self.cfg, "val")
        spec = self.cfg.data.val
        return build_dataset(spec, "data.val", limit, self.tiling, test_mode=True)


def unscored(cfg: Config) -> int:
    """The train id that the evaluation leaves out, by `data.val.ignore_index`."""
    said = [{KEY: part[KEY]} for part in single(cfg.data.val, "data.val") if KEY in part]
    found = ignored_by_metrics(said, "data.val")
    return UNLABELED if found is None else found
