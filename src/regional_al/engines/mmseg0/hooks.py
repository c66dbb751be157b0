"""What is registered with mmcv's runners: one that can stop midway, and a hook that counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mmcv.runner import RUNNERS, Hook, IterBasedRunner

from ... import dist
from ...types import UNLABELED


@RUNNERS.register_module()
class StretchRunner(IterBasedRunner):  # type: ignore[misc]
    """IterBasedRunner that ends at iteration `stop_at` of its schedule (`max_iters`).

    Hooks that ask the runner for `max_iters`, as those of the learning rate do, see the schedule's
    own length.
    """

    def __init__(self, *args: Any, stop_at: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._length: int = self._max_iters
        self._max_iters: int = min(int(stop_at), self._length)

    @property
    def max_iters(self) -> int:
        """Iterations of the whole schedule."""
        return int(self._length)


class LabelShareHook(Hook):  # type: ignore[misc]
    """Counts labelled pixels that reach the loss and labelled pixels of the samples drawn."""

    def __init__(self) -> None:
        self.reached = self.drawn = self.samples = self.empty = self.steps = 0

    def before_train_iter(self, runner: Any) -> None:
        """Count before the model sees the batch: host memory, no synchronisation with the GPU."""
        self.steps += 1
        batch = runner.data_batch
        if "gt_semantic_seg" not in batch or "img_metas" not in batch:
            return
        metas, masks = batch["img_metas"].data[0], batch["gt_semantic_seg"].data[0]
        for meta, mask in zip(metas, masks, strict=True):
            drawn = meta.get("labelled_pixels")
            if drawn is None:
                continue
            reached = int((mask != UNLABELED).sum())
            self.reached, self.drawn = self.reached + reached, self.drawn + int(drawn)
            self.samples, self.empty = self.samples + 1, self.empty + (reached == 0)

    def result(self) -> tuple[float, dict[str, int]]:
        """(share over all ranks, NaN when unknown; samples drawn and those without a label)."""
        counts = [self.reached, self.drawn, self.samples, self.empty]
        reached, drawn, samples, empty = dist.sum_array(np.array(counts, dtype=np.int64)).tolist()
        share = reached / drawn if drawn else math.nan
        return share, {"samples": samples, "samples_without_labels": empty}
