"""MMSegmentation 0.x behind the engine protocol. Thin: the work is in the modules beside."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmcv import Config

from ...data import ActiveLearningDataset
from ...store.labels import LabelStore
from ...types import I64, LabelSpace, PoolItem, PredictRequest
from ..base import FitRequest, FitResult, Prediction
from ..mmseg.sparse_labels import sparse_labels
from ..quiet import quiet_warnings
from . import datasets, evaluate, fit, preflight, transforms  # noqa: F401
from .config import check_keys, fit_to_cpu, max_iterations
from .console import calm_loggers
from .losses import average_over_labels
from .pool import build_dataset, build_pool, read_sample
from .predict import Predictor


class MMSeg0Engine:
    """Engine over a config of MMSegmentation 0.x (`data=dict(samples_per_gpu=...)`, `runner`, ...).

    cfg: as `engines.load` reads it; it is not changed. Building it builds the training data set
    (not the model). Attributes: `label_space`, `pool`, `max_iterations` (None for epochs).
    Raises ConfigError, DataError, UnsupportedError.
    """

    def __init__(self, cfg: Config) -> None:
        calm_loggers()
        self.cfg = copy.deepcopy(cfg)
        check_keys(self.cfg)
        if not torch.cuda.is_available():
            fit_to_cpu(self.cfg)
        self.sparse = sparse_labels(self.cfg.get("acquisition") or {})
        with quiet_warnings():
            self._pool = build_pool(self.cfg.data.train, fit.limit_of(self.cfg, "train"))
            average_over_labels(self.cfg.model, refuse=self.sparse)
        self.pool: Sequence[PoolItem] = self._pool.items
        self.label_space: LabelSpace = self._pool.label_space
        self.max_iterations = max_iterations(self.cfg)
        self._predictor = Predictor(self.cfg)

    def preflight(self) -> None:
        """Check model, losses, schedule, validation data and one training batch."""
        preflight.check(self.cfg, self._pool, self._validation, self.sparse)

    def fit(self, request: FitRequest) -> FitResult:
        """One training stretch; its checkpoint is `request.out_dir/checkpoint.pth`."""
        self._predictor.forget()  # make room for the training
        return fit.fit(self.cfg, self._pool, request)

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
        limit = fit.limit_of(self.cfg, "val")
        return build_dataset(self.cfg.data.val, "data.val", limit, test_mode=True)
