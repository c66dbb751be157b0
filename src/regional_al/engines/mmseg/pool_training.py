"""What a training stretch with `acquisition.unlabeled` needs, in both generations of
MMSegmentation. No framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ...config.unlabeled import Unlabeled
from ..base import FitRequest
from .pool_stream import PoolStream, stream_of
from .self_training import SelfTraining, settings_of
from .training import LabelCount

Own = TypeVar("Own", bound="PoolTraining")


@dataclass(frozen=True)
class PoolTraining:
    """Settings, teacher and images of a stretch.

    Args:
        settings: `acquisition.unlabeled`.
        state: The teacher and what it counts.
        stream: The images; None where every pixel has an answer. The teacher follows the student
            then, too.
    """

    settings: Unlabeled
    state: SelfTraining
    stream: PoolStream | None

    @classmethod
    def of(
        cls: type[Own],
        cfg: Any,
        pool: Any,
        request: FitRequest,
        count: LabelCount,
        read: Callable[..., Any],
        mark: Callable[[Any], None],
    ) -> Own | None:
        """From the config; None where it is off.

        Args:
            cfg: Of the run.
            pool: With `dataset`, `items`, `label_space` and `mix`.
            request: Of the stretch.
            count: Of the stretch.
            read, mark: See `stream_of`.
        """
        settings = settings_of(cfg)
        if settings is None:
            return None
        stream = stream_of(pool, request, read, mark)
        never = np.flatnonzero(~pool.label_space.offered).tolist()
        state = SelfTraining(settings, pool.label_space.num_classes, request.seed, never)
        count.pseudo = state.count
        return cls(settings, state, stream)

    def images(self, batch: int) -> int:
        """Images of the pool in a batch of so many labelled ones."""
        return 0 if self.stream is None else self.settings.batch_size or batch
