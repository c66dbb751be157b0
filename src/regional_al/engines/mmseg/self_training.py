"""The teacher of a training stretch, its state, and what it counts. No framework."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from ...config.unlabeled import KEY, Unlabeled
from ...errors import UnsupportedError
from ...runtime import distributed as dist
from ...types import JSON
from ..specs import type_name
from .dense_heads import check_dense, check_logits
from .domains import KEY as SOURCE_KEY
from .unlabeled import (
    Norm,
    class_thresholds,
    consistency_loss,
    drop_channels,
    ema_ratio,
    ema_update,
    pixel_logits,
    pseudo_labels,
    strong_views,
)

ENTRY = "self_training"
"""Of a checkpoint (0.x: of its meta data): what `SelfTraining.saved` gives."""
LOSS, CONFIDENT = "unlabeled.loss_ce", "unlabeled.confident"
"""Names of what a model logs."""


def settings_of(cfg: Any) -> Unlabeled | None:
    """`acquisition.unlabeled` of a config; None when it is off. Raises ConfigError."""
    return Unlabeled.parse((cfg.get("acquisition") or {}).get("unlabeled"))


class PseudoCount:
    """Pixels without an answer that a stretch has seen on one rank, and those of which the teacher
    was sure, by class.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.found = torch.zeros(num_classes + 1, dtype=torch.int64)

    def add(self, labels: torch.Tensor, confident: torch.Tensor, valid: torch.Tensor) -> None:
        """Count a batch.

        Args:
            labels: int64 [N, H, W], of the teacher.
            confident: bool [N, H, W].
            valid: bool [N, H, W], pixels without an answer.
        """
        classes = len(self.found) - 1
        chosen = labels.masked_fill(~(confident & valid), classes).flatten()
        counts = torch.bincount(chosen, minlength=classes + 1)
        counts[classes] = valid.sum()
        self.found = self.found.to(counts.device) + counts

    def state(self) -> list[int]:
        """The counts, for `load`."""
        found: list[int] = self.found.tolist()
        return found

    def load(self, state: list[int]) -> None:
        """Continue from the counts of a stretch that was interrupted."""
        self.found = torch.tensor(state, dtype=torch.int64)

    def result(self) -> JSON:
        """Over all ranks: pixels without an answer, and confident ones of each class."""
        *confident, pixels = dist.sum_array(np.array(self.state(), dtype=np.int64)).tolist()
        return {"pixels": pixels, "confident": confident}


class SelfTraining:
    """Training on pixels without an answer, in one stretch on one rank.

    Args:
        settings: `acquisition.unlabeled`.
        num_classes: Number of classes.
        seed: Of the stretch; views are drawn from it, the rank and the iteration.
        never: Classes that are not trained on; pixels where the teacher sees one are left out.

    Attributes:
        teacher: The average of the student, or None before `begin`.
        updates: How often it has been updated.
        iteration: Of the training; set by the engine before each batch.
        count: See `PseudoCount`.
    """

    def __init__(
        self, settings: Unlabeled, num_classes: int, seed: int, never: Sequence[int] = ()
    ) -> None:
        self.settings, self.seed, self.never = settings, seed, tuple(never)
        self.count = PseudoCount(num_classes)
        self.teacher: Any = None
        self.updates = self.iteration = 0

    def begin(self, student: nn.Module, saved: Mapping[str, Any] | None = None) -> None:
        """Make the teacher a copy of the student, or what `saved` gave, and let the student train
        by it.

        Args:
            student: A segmentor whose class has a mixin that asks `self_training` for a loss.
            saved: Of a stretch that goes on; None: the teacher begins here.
        """
        student.__dict__.pop("self_training", None)
        self.teacher = copy.deepcopy(student).eval().requires_grad_(False)
        student.__dict__["self_training"] = self
        if saved is not None:
            self.teacher.load_state_dict(saved["teacher"])
            self.updates = int(saved["updates"])

    def update(self, student: nn.Module) -> None:
        """Follow an optimizer step. Buffers, which may differ between ranks, are those of rank 0:
        the teacher is the same on all of them."""
        ema_update(self.teacher, student, ema_ratio(self.updates, self.settings.ema))
        self.updates += 1
        dist.broadcast_tensors([one for one in self.teacher.buffers() if one.is_floating_point()])

    def losses(
        self, student: Any, images: torch.Tensor, valid: torch.Tensor, norm: Norm | None
    ) -> dict[str, torch.Tensor]:
        """What the images add to the loss, and the share of confident pixels, by name.

        Args:
            student: The segmentor.
            images: float [N, C, H, W], normalised.
            valid: bool [N, H, W]: pixels without an answer, inside an image.
            norm: How the images were normalised.
        """
        settings = self.settings
        with torch.no_grad():
            logits = pixel_logits(self.teacher, images)
            labels, confidence = pseudo_labels(logits)
            every = valid
            for index in self.never:
                valid = valid & (labels != index)
            classes, share = logits.shape[1], settings.class_share
            least = class_thresholds(labels, confidence, valid, classes, settings.threshold, share)
            confident = confidence >= least[labels]
            self.count.add(labels, confident, every)
            counted = (confident & valid).sum() / valid.sum().clamp(min=1)
        if settings.weight == 0:
            return {LOSS: images.new_zeros(()), CONFIDENT: counted}
        rng = np.random.default_rng([self.seed, dist.rank(), self.iteration])
        with torch.no_grad():
            views = strong_views(images, labels, confidence, valid, settings, norm, rng)
        count = images.shape[0]
        logits = pixel_logits(
            student, views.images, lambda found: drop_channels(found, settings, count, rng)
        )
        loss = consistency_loss(
            logits,
            views.labels,
            views.confidence,
            views.valid,
            least,
            settings.views,
        )
        return {LOSS: settings.weight * loss, CONFIDENT: counted}

    def saved(self) -> JSON:
        """The state, for `begin`: tensors on the CPU and plain values."""
        return {"teacher": on_cpu(self.teacher.state_dict()), "updates": self.updates}

    @property
    def keeps_teacher(self) -> bool:
        """Whether the teacher is scored, evaluated and kept."""
        return self.settings.keep == "teacher"

    @torch.no_grad()
    def exchange(self, student: nn.Module) -> None:
        """Exchange the values of student and teacher."""
        theirs = dict(student.named_parameters()) | dict(student.named_buffers())
        for name, one in (*self.teacher.named_parameters(), *self.teacher.named_buffers()):
            before = one.clone()
            one.copy_(theirs[name])
            theirs[name].copy_(before)

    @contextmanager
    def exchanged(self, student: nn.Module) -> Iterator[None]:
        """Inside, the student has the teacher's values if that is what is kept."""
        if not self.keeps_teacher:
            yield
            return
        self.exchange(student)
        try:
            yield
        finally:
            self.exchange(student)


def on_cpu(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of tensors, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def check_config(cfg: Any, settings: Unlabeled, hooks: Any) -> None:
    """Raise UnsupportedError for a model or hooks that cannot train on pixels without an answer.

    Args:
        cfg: With `model`.
        settings: `acquisition.unlabeled`.
        hooks: `custom_hooks` of the config.
    """
    if cfg.get(SOURCE_KEY) is not None:
        raise UnsupportedError(f"{KEY} and {SOURCE_KEY} cannot be combined: leave out one of them")
    check_dense(cfg["model"], KEY, "leave out unlabeled")
    names = [type_name(spec) for spec in hooks or () if isinstance(spec, Mapping)]
    if settings.keep == "teacher" and "EMAHook" in names:
        raise UnsupportedError(
            f"{KEY}.keep='teacher' and EMAHook in custom_hooks are two averages, of which one can "
            "be kept: leave out the hook, or give keep='student'"
        )


def check_model(model: Any, images: torch.Tensor, settings: Unlabeled, num_classes: int) -> None:
    """Raise UnsupportedError when a segmentor gives no logits of classes for each pixel, or no
    features whose channels can be dropped.

    Args:
        model: The segmentor, in training mode.
        images: float [N, 3, H, W], at least 2 of them.
        settings: `acquisition.unlabeled`.
        num_classes: Number of classes.
    """
    rng, views = np.random.default_rng(0), images.repeat(settings.views, 1, 1, 1)

    def logits() -> torch.Tensor:
        return pixel_logits(
            model, views, lambda found: drop_channels(found, settings, len(images), rng)
        )

    check_logits(model, logits, num_classes, KEY, "leave out unlabeled")
