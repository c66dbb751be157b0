"""Training on pixels without an answer (`acquisition.unlabeled`), with mmcv's runners.

Each batch holds the labelled images that it would hold anyway, and after them images of the pool.
The segmentor's `forward_train` sees both: everything stays one forward pass of the model that mmcv
wraps, and parameters keep their names.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv import Config
from mmcv.runner import CheckpointLoader, Hook
from torch.utils.data import Dataset

from ...config.unlabeled import KEY, Unlabeled
from ...errors import UnsupportedError
from ...runtime import distributed as dist
from ...types import JSON, UNLABELED
from ..base import FitRequest
from ..mmseg import pool_training as shared
from ..mmseg.domains import mixed
from ..mmseg.pool_stream import PoolStream
from ..mmseg.self_training import ENTRY, SelfTraining, check_config, on_cpu, settings_of
from ..mmseg.training import LabelCount
from ..mmseg.unlabeled import Norm
from .config import length_of, phases
from .hooks import plain_model
from .pool import Pool, read_sample

OF_POOL = "of_pool"
"""Key of a sample's img_metas; absent: a labelled image."""


def check(cfg: Config) -> Unlabeled | None:
    """`acquisition.unlabeled`; None when it is off. Raises ConfigError, UnsupportedError for what
    it cannot be combined with."""
    settings = settings_of(cfg)
    if settings is None:
        return None
    length = length_of(cfg)
    if length.length is None or not length.continuous:
        raise UnsupportedError(
            f"{KEY} needs training in iterations, because an epoch over a few labelled images "
            f"hardly sees the pool: use {length.fix}"
        )
    if len(phases(cfg)) > 1:
        raise UnsupportedError(f"{KEY} needs one phase: use workflow=[('train', 1)]")
    check_config(cfg, settings, cfg.get("custom_hooks"))
    return settings


class WithPool:
    """Mixin of a segmentor: the parent's losses of the labelled images, and what `self_training`
    makes of the images of the pool, which stand behind them in the batch."""

    self_training: SelfTraining | None = None

    def forward_train(self, img: Any, img_metas: Any, gt_semantic_seg: Any, **more: Any) -> Any:
        """Losses of a batch."""
        parent: Any = super()
        count = sum(OF_POOL not in meta for meta in img_metas)
        if count == len(img_metas) or self.self_training is None:
            return parent.forward_train(img, img_metas, gt_semantic_seg, **more)
        own = {key: value[:count] for key, value in more.items()}
        losses: dict[str, Any] = dict(
            parent.forward_train(img[:count], img_metas[:count], gt_semantic_seg[:count], **own)
        )
        valid = gt_semantic_seg[count:, 0] != UNLABELED
        images = img[count:]
        norm = norm_of(img_metas[count], images)
        losses.update(self.self_training.losses(self, images, valid, norm))
        return losses


def norm_of(meta: Any, images: torch.Tensor) -> Norm | None:
    """How the pipeline's Normalize has normalised; None without it."""
    found = meta.get("img_norm_cfg") or {}
    if "mean" not in found or "std" not in found:
        return None
    mean, std = (
        torch.as_tensor(found[key], dtype=images.dtype, device=images.device).flatten()
        for key in ("mean", "std")
    )
    if len(mean) != len(std) or len(mean) not in (1, images.shape[1]):
        return None
    return Norm(mean[:, None, None], std[:, None, None])


def with_pool(model: Any) -> None:
    """Make a segmentor train on images of the pool, too, in place."""
    model.__class__ = mixed(WithPool, type(model))


class Both(Dataset[Any]):
    """The samples of a loader that goes through them once, in order: in each batch of each rank
    first the labelled images, then those of the pool.

    labelled, stream: by number of the draw; batch, more: images of each in a batch; length: samples
    in all.
    """

    def __init__(self, labelled: Any, stream: PoolStream, batch: int, more: int) -> None:
        self.labelled, self.stream, self.batch, self.more = labelled, stream, batch, more
        self.ranks = dist.world_size()
        self.length = len(labelled) // batch * (batch + more)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Any:
        position, rank = divmod(item, self.ranks)
        number, place = divmod(position, self.batch + self.more)
        if place < self.batch:
            return self.labelled[(number * self.batch + place) * self.ranks + rank]
        return self.stream[(number * self.more + place - self.batch) * self.ranks + rank]


class PoolTraining(shared.PoolTraining):
    """What a stretch of mmcv's runner needs."""

    def both(self, labelled: Any, batch: int) -> Any:
        """The labelled images, with those of the pool in each batch."""
        more = self.images(batch)
        return labelled if self.stream is None else Both(labelled, self.stream, batch, more)

    def entry(self, model: Any, final: bool) -> JSON:
        """For the meta data of a checkpoint of the runner. final: its weights are those of what is
        kept; otherwise the student's."""
        entry = self.state.saved()
        if final and self.state.keeps_teacher:
            del entry["teacher"]
            entry["student"] = on_cpu(plain_model(model).state_dict())
        return {ENTRY: entry}


def pool_training(
    cfg: Config, pool: Pool, request: FitRequest, count: LabelCount
) -> PoolTraining | None:
    """From `acquisition.unlabeled`; None when it is off. count: of the stretch."""
    return PoolTraining.of(cfg, pool, request, count, read_sample, mark)


def mark(sample: Any) -> None:
    """Note in a collected sample that it is one of the pool's."""
    sample["img_metas"].data[OF_POOL] = True


class TeacherHook(Hook):  # type: ignore[misc]
    """Lets the teacher follow the student.

    checkpoint: that the model was resumed from, with a teacher if it has one; step: iterations of
    an optimizer step.
    """

    def __init__(self, state: SelfTraining, checkpoint: str | None, step: int) -> None:
        self.state, self.checkpoint, self.step = state, checkpoint, step

    def begin(self, runner: Any) -> None:
        """Begin with a copy of the student, or go on; the student of a checkpoint whose weights are
        the teacher's is put into the model."""
        model, saved = plain_model(runner.model), None
        if self.checkpoint is not None:
            # as `runner.resume` reads it; within `safe_loading`
            content = CheckpointLoader.load_checkpoint(self.checkpoint, map_location="cpu")
            saved = content["meta"].get(ENTRY)
            if saved is not None and "student" in saved:
                saved = {**saved, "teacher": content["state_dict"]}
                model.load_state_dict(saved["student"], strict=False)
        self.state.begin(model, saved)

    def before_train_iter(self, runner: Any) -> None:
        """Tell the number of the iteration, from which views are drawn."""
        self.state.iteration = int(runner.iter)

    def after_train_iter(self, runner: Any) -> None:
        """Follow an optimizer step."""
        if self.every_n_iters(runner, self.step) or self.is_last_iter(runner):
            self.state.update(plain_model(runner.model))
