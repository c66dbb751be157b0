"""MMSegmentation 1.x behind the engine protocol. Thin: the work is in the modules beside."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.utils import register_all_modules

from ...data import ActiveLearningDataset
from ...store.labels import LabelStore
from ...types import I64, LabelSpace, PoolItem, PredictRequest
from ..base import FitRequest, FitResult, Prediction
from ..mmseg.sparse_labels import sparse_labels
from . import backbones, datasets, evaluate, fit, preflight, transforms  # noqa: F401
from .config import fit_to_cpu
from .console import quiet_warnings
from .losses import average_over_labels
from .pool import build_dataset, build_pool, read_sample
from .predict import Predictor
from .source import build_source

QUIET = "regional_al.mmseg1"


class MMSeg1Engine:
    """Engine over a config of MMSegmentation 1.x (`train_dataloader`, `train_cfg`, ...).

    cfg: as `engines.load` reads it; it is not changed. Building it builds the training data set
    (not the model), and the source data set if the config has one. Attributes: `label_space`,
    `pool`, `max_iterations` (None for epochs), `has_source`.
    Raises ConfigError, DataError, UnsupportedError.
    """

    def __init__(self, cfg: Config) -> None:
        register_all_modules(init_default_scope=False)
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
        with quiet_warnings():
            self._pool = build_pool(self.cfg.train_dataloader.dataset)
            average_over_labels(self.cfg.model, refuse=self.sparse)
        self.pool: Sequence[PoolItem] = self._pool.items
        self.label_space: LabelSpace = self._pool.label_space
        with quiet_warnings():
            self._source = build_source(self.cfg, self.label_space)
        self.has_source = self._source is not None
        self.max_iterations = fit.max_iterations(self.cfg)
        self._predictor = Predictor(self.cfg)

    def preflight(self) -> None:
        """Check model, losses, schedule, validation data and one training batch."""
        preflight.check(self.cfg, self._pool, self._validation, self._source)

    def fit(self, request: FitRequest) -> FitResult:
        """One training stretch; its checkpoint is `request.out_dir/checkpoint.pth`."""
        self._predictor.forget()  # make room for the training
        return fit.fit(self.cfg, self._pool, request, self._source)

    def predict(
        self, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        """Logits at the images' own size, one image at a time, in the order of `indices`."""
        return self._predictor.predict(self._pool.dataset, checkpoint, indices, request)

    def evaluate(self, checkpoint: Path | None) -> I64:
        """Confusion matrix int64 [C, C] over the validation set; ranks share its images."""
        return evaluate.confusion(self._validation, self._predictor, checkpoint)

    def network(self, checkpoint: Path | None) -> Any:
        """The segmentor in eval mode, with a checkpoint's weights or the config's own start."""
        return self._predictor.model(checkpoint)

    def active_dataset(self, store: LabelStore, **arguments: Any) -> ActiveLearningDataset:
        """The training data set seen through the labels of `store`."""
        keys, trainable = [item.key for item in self.pool], self.label_space.trainable
        return ActiveLearningDataset(
            self._pool.dataset, store, keys, trainable, inject=read_sample, **arguments
        )

    @cached_property
    def _validation(self) -> Any:
        """The validation data set, built when it is first needed."""
        return build_dataset(self.cfg.val_dataloader.dataset, "val_dataloader.dataset")
