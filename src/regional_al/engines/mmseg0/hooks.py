"""What is registered with mmcv's runners: one that can stop midway, and a hook that counts."""

from __future__ import annotations

from typing import Any

from mmcv.runner import RUNNERS, Hook, IterBasedRunner

from ...types import UNLABELED
from ..mmseg.label_share import LabelCount


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
        self.count = LabelCount()

    def before_train_iter(self, runner: Any) -> None:
        """Count before the model sees the batch: host memory, no synchronisation with the GPU."""
        self.count.steps += 1
        batch = runner.data_batch
        if "gt_semantic_seg" not in batch or "img_metas" not in batch:
            return
        metas, masks = batch["img_metas"].data[0], batch["gt_semantic_seg"].data[0]
        for meta, mask in zip(metas, masks, strict=True):
            if meta.get("labelled_pixels") is not None:
                self.count.add(int(meta["labelled_pixels"]), int((mask != UNLABELED).sum()))
