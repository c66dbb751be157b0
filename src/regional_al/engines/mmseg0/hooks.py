"""What a stretch adds to mmcv: a runner that can stop midway, a hook that counts labels, and a
logger (everything into its file, progress and warnings to the screen)."""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path
from typing import Any

from mmcv.parallel import is_module_wrapper
from mmcv.runner import RUNNERS, CheckpointLoader, EpochBasedRunner, Hook, IterBasedRunner
from mmcv.utils import get_logger
from mmseg.core import DistEvalHook, EvalHook

from ...runtime import distributed as dist
from ...runtime import randomness
from ...types import UNLABELED
from ..mmseg.checkpoints import strip
from ..mmseg.resumable import Resumable
from ..mmseg.training import LabelCount

FORMAT = "%(asctime)s - mmseg - %(levelname)s - %(message)s"
_numbers = itertools.count()


def calm_loggers() -> None:
    """The loggers that mmseg and mmcv share, at WARNING: until now they had not been asked for, and
    their first user decides. A stretch has a logger of its own."""
    for name in ("mmseg", "mmcv"):
        get_logger(name, log_level=logging.WARNING)


class ProgressOnly(logging.Filter):
    """Lets the lines of TextLoggerHook and warnings through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what a person wants to see while training."""
        return record.levelno >= logging.WARNING or record.module == "text"


def stretch_logger(out_dir: Path, stamp: str, level: str | int) -> logging.Logger:
    """A logger for one runner: `<stamp>.log` on rank 0, progress on the screen. Known to nobody
    else, so it is gone with the runner; `close_logger` closes its file."""
    logger = logging.Logger(f"regional_al.mmseg0.{next(_numbers)}", level)
    if not dist.is_main():
        logger.setLevel(logging.ERROR)
    screen = logging.StreamHandler(sys.stdout)
    screen.addFilter(ProgressOnly())
    handlers: list[logging.Handler] = [screen]
    if dist.is_main():
        handlers.append(logging.FileHandler(out_dir / f"{stamp}.log", "w"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
    return logger


def close_logger(logger: logging.Logger) -> None:
    """Close the log file."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        if isinstance(handler, logging.FileHandler):
            handler.close()


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


@RUNNERS.register_module()
class EpochStretchRunner(EpochBasedRunner):  # type: ignore[misc]
    """EpochBasedRunner that can be resumed in the middle: its `stretch` gives the batches and saves
    its state. Without mmcv's pause of two seconds in each epoch.

    resumed: restores the model when the hooks have begun the epoch in which it was interrupted
    (mmcv's EMAHook exchanges weights and averages there).
    """

    stretch: Resumable
    resumed: LateState | None = None

    def train(self, data_loader: Any, **kwargs: Any) -> None:
        """Train an epoch, or the rest of it."""
        self.model.train()
        self.mode = "train"
        self.data_loader = data_loader
        self._max_iters = self._max_epochs * len(data_loader)
        self.call_hook("before_train_epoch")
        if self.resumed is not None:
            self.resumed.fill(self)
            self.resumed = None
        for place, batch in self.stretch.epoch(data_loader, self._iter):
            self.data_batch = batch
            self._inner_iter = place
            self.call_hook("before_train_iter")
            self.run_iter(batch, train_mode=True, **kwargs)
            self.call_hook("after_train_iter")
            del self.data_batch
            self._iter += 1
        self.call_hook("after_train_epoch")
        self._epoch += 1
        if self._epoch < self._max_epochs:
            self.stretch.after_epoch(self._epoch, self._iter)


class LabelShareHook(Hook):  # type: ignore[misc]
    """Counts labelled pixels that reach the loss and labelled pixels of the samples drawn."""

    def __init__(self) -> None:
        self.count = LabelCount()

    def before_train_iter(self, runner: Any) -> None:
        """Count before the model sees the batch: host memory, no synchronisation with the GPU."""
        self.count.steps += 1
        batch = runner.data_batch
        if "gt_semantic_seg" not in batch or "img_metas" not in batch:
            return  # samples of the source, if there are any, are not counted: they have no number
        metas, masks = batch["img_metas"].data[0], batch["gt_semantic_seg"].data[0]
        for meta, mask in zip(metas, masks, strict=True):
            if meta.get("labelled_pixels") is not None:
                self.count.add(int(meta["labelled_pixels"]), int((mask != UNLABELED).sum()))


class Aside:
    """Mixin of mmseg's evaluation hooks: what an evaluation draws at random changes nothing in the
    training, and the best score is a plain number, so that `torch.load(weights_only=True)` reads
    the checkpoint of the best model, too."""

    def _do_evaluate(self, runner: Any) -> None:
        parent: Any = super()
        with randomness.kept():
            parent._do_evaluate(runner)

    def _save_ckpt(self, runner: Any, key_score: Any) -> None:
        parent: Any = super()
        parent._save_ckpt(runner, strip(key_score))


class AsideEvalHook(Aside, EvalHook):  # type: ignore[misc]
    """For one process."""


class AsideDistEvalHook(Aside, DistEvalHook):  # type: ignore[misc]
    """For several processes."""


class LateState(Hook):  # type: ignore[misc]
    """Restores what other hooks add to the model when a run begins, which is after the model was
    resumed: the averages of mmcv's EMAHook, for example.

    checkpoint: that the model was resumed from.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self.known: set[str] = set()

    def note(self, model: Any) -> None:
        """Remember what has been resumed already."""
        self.known = set(model.state_dict())

    def before_run(self, runner: Any) -> None:
        """Fill what was added since. Runs after the other hooks."""
        self.fill(runner)

    def fill(self, runner: Any) -> None:
        """Restore what is not known."""
        own = plain_model(runner.model).state_dict()  # its tensors are those of the model
        late = [key for key in own if key not in self.known]
        if not late:
            return
        # as `runner.resume` reads it, URLs included; within `safe_loading`
        saved = CheckpointLoader.load_checkpoint(self.checkpoint, map_location="cpu")["state_dict"]
        for key in late:
            if key in saved and saved[key].shape == own[key].shape:
                own[key].copy_(saved[key])


def plain_model(model: Any) -> Any:
    """The model without mmcv's wrapper."""
    return model.module if is_module_wrapper(model) else model
