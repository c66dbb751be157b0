"""Training on pixels without an answer (`acquisition.unlabeled`), with mmengine's Runner.

Each batch holds the labelled images that it would hold anyway, and after them images of the pool.
The segmentor's `loss` sees both: everything stays one forward pass of the model that mmengine
wraps, as with a source data set (`engines.mmseg1.source`), and parameters keep their names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS

from ...config.unlabeled import KEY, Unlabeled
from ...errors import UnsupportedError
from ...types import UNLABELED
from ..base import FitRequest
from ..mmseg import pool_training as shared
from ..mmseg.domains import TARGET, mixed
from ..mmseg.pool_stream import Draws
from ..mmseg.self_training import ENTRY, SelfTraining, check_config, on_cpu, settings_of
from ..mmseg.training import LabelCount
from ..mmseg.unlabeled import Norm
from .pool import Pool, read_sample
from .source import DOMAIN, SHUFFLED, Domains, DomainSampler, SplitByDomain, static_graph

POOL = "pool"


def check(cfg: Config) -> Unlabeled | None:
    """`acquisition.unlabeled`; None when it is off. Raises ConfigError, UnsupportedError for what
    it cannot be combined with."""
    settings = settings_of(cfg)
    if settings is None:
        return None
    if "max_iters" not in cfg.train_cfg:
        raise UnsupportedError(
            f"{KEY} needs training in iterations, because an epoch over a few labelled images "
            "hardly sees the pool: train_cfg=dict(type='IterBasedTrainLoop', max_iters=...)"
        )
    if cfg.train_dataloader.get("batch_sampler") is not None:
        raise UnsupportedError(f"{KEY} and train_dataloader.batch_sampler: leave the latter out")
    check_config(cfg, settings, cfg.get("custom_hooks"))
    return settings


class WithPool:
    """Mixin of a segmentor: the parent's `loss` of the labelled images, and what `self_training`
    makes of the images of the pool."""

    self_training: SelfTraining | None = None

    def loss(self, inputs: Any, data_samples: Any) -> dict[str, Any]:
        """Losses of a batch."""
        parent: Any = super()
        if not isinstance(inputs, Mapping):
            whole: dict[str, Any] = parent.loss(inputs, data_samples)
            return whole
        losses: dict[str, Any] = dict(parent.loss(inputs[TARGET], data_samples[TARGET]))
        if POOL in inputs and self.self_training is not None:
            masks = [sample.gt_sem_seg.data for sample in data_samples[POOL]]
            valid = torch.cat(masks) != UNLABELED
            norm = norm_of(getattr(self, "data_preprocessor", None))
            losses.update(self.self_training.losses(self, inputs[POOL], valid, norm))
        return losses


def norm_of(preprocessor: Any) -> Norm | None:
    """How a data preprocessor normalises; None where it does not."""
    if not getattr(preprocessor, "_enable_normalize", False):
        return None
    return Norm(preprocessor.mean, preprocessor.std)


@MODELS.register_module(name="WithPool")  # type: ignore[untyped-decorator]
def with_pool(segmentor: Any, data_preprocessor: Any = None) -> Any:
    """Build a segmentor from its config and make it train on images of the pool, too.

    data_preprocessor: of the config's top level, for a segmentor that has none of its own.
    """
    spec = copy.deepcopy(segmentor)
    if data_preprocessor is not None:
        spec.setdefault("data_preprocessor", data_preprocessor)
    model = MODELS.build(spec)
    model.__class__ = mixed(WithPool, type(model))
    preprocessor = model.data_preprocessor
    preprocessor.__class__ = mixed(SplitByDomain, type(preprocessor))
    return model


class PoolTraining(shared.PoolTraining):
    """What a stretch of mmengine's Runner needs."""

    def loader(self, loader: dict[str, Any]) -> dict[str, Any]:
        """`loader` (of the labelled images) with images of the pool in every batch."""
        if self.stream is None:
            return loader
        batch = int(loader.get("batch_size") or 1)
        more = self.images(batch)
        return {
            **loader,
            "dataset": Domains(loader["dataset"], self.stream),
            "batch_size": batch + more,
            "sampler": {
                "type": DomainSampler,
                "counts": (batch, more),
                "samplers": (loader.get("sampler") or SHUFFLED, {"type": Draws}),
            },
        }

    def rewrite(self, cfg: Config) -> None:
        """Make the segmentor of a config one that trains on both, in place."""
        static_graph(cfg)
        cfg.model = {"type": "mmseg.WithPool", "segmentor": cfg.model}

    @property
    def hook(self) -> Hook:
        """Lets the teacher follow the student."""
        return TeacherHook(self.state)


def pool_training(
    cfg: Config, pool: Pool, request: FitRequest, count: LabelCount
) -> PoolTraining | None:
    """From `acquisition.unlabeled`; None when it is off. count: of the stretch."""
    return PoolTraining.of(cfg, pool, request, count, read_sample, mark)


def mark(sample: Any) -> None:
    """Note in a packed sample that it is one of the pool's."""
    sample["data_samples"].set_metainfo({DOMAIN: POOL})


class TeacherHook(Hook):  # type: ignore[misc]
    """Lets the teacher follow the student, and keeps it in checkpoints.

    A checkpoint has the weights of what is kept as `state_dict`, and under `ENTRY` the others.
    """

    def __init__(self, state: SelfTraining) -> None:
        self.state = state
        self.saved: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Take the teacher out of a checkpoint from which the runner goes on."""
        entry = checkpoint.get(ENTRY)
        if not runner._resume or entry is None:
            return
        self.saved = dict(entry)
        if "student" in entry:
            self.saved["teacher"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = entry["student"]

    def before_train(self, runner: Any) -> None:
        """Begin with a copy of the student, or go on."""
        self.state.begin(student(runner), self.saved)

    def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Tell the number of the iteration, from which views are drawn."""
        self.state.iteration = int(runner.iter)

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Follow an optimizer step."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
            self.state.update(student(runner))

    def before_val_epoch(self, runner: Any) -> None:
        """A validation measures what is kept."""
        if self.state.keeps_teacher and self.state.teacher is not None:
            self.state.exchange(student(runner))

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Train on."""
        self.before_val_epoch(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the state into a checkpoint."""
        entry = self.state.saved()
        if self.state.keeps_teacher:
            own = on_cpu(checkpoint["state_dict"])
            for name, value in entry.pop("teacher").items():
                checkpoint["state_dict"][name] = value
            entry["student"] = own
        checkpoint[ENTRY] = entry


def student(runner: Any) -> Any:
    """The segmentor of a runner."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
