"""What a stretch adds to mmengine's Runner: a train loop that can stop midway, hooks, a quiet
console (the log file keeps everything)."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from ...runtime import randomness
from ...types import JSON, UNLABELED
from ..mmseg.checkpoints import strip
from ..mmseg.resumable import Resumable, can_resume
from ..mmseg.training import LabelCount
from ..quiet import quiet_warnings as quiet_warnings

HISTORY = 100
"""Iterations of which a saved state has the logged values."""


class ProgressOnly(logging.Filter):
    """Lets the lines of LoggerHook and warnings through; the log file keeps everything."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what a person wants to see while training."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            return "deprecated" not in text and not text.startswith("The dataset metainfo")
        return record.module == "logger_hook" and not text.startswith("Exp name")


class Console(io.TextIOBase):
    """Standard output without the line that mmengine prints, on every rank, when it loads."""

    def __init__(self, screen: Any) -> None:
        self.screen = screen
        self.dropped = False

    def write(self, text: str) -> int:
        """Pass text on, except that line and its end."""
        if text.startswith("Loads checkpoint by"):
            self.dropped = True
        elif not (self.dropped and text == "\n"):
            self.screen.write(text)
        self.dropped = self.dropped and text != "\n"
        return len(text)

    def flush(self) -> None:
        """Flush the screen."""
        self.screen.flush()


def calm_console(runner: Runner, screen: Any) -> list[logging.Handler]:
    """Point the runner's console handlers back to the screen, progress lines only."""
    handlers: list[logging.Handler] = []
    for handler in list(runner.logger.handlers):
        if isinstance(handler, logging.FileHandler):
            handlers.append(handler)
        elif isinstance(handler, logging.StreamHandler):
            handler.setStream(screen)
            handler.addFilter(ProgressOnly())
    return handlers


@LOOPS.register_module()
class StretchTrainLoop(IterBasedTrainLoop):  # type: ignore[misc]
    """IterBasedTrainLoop that ends at iteration `stop_at` of its schedule (`max_iters`).

    When it resumes from a checkpoint it does not skip what was drawn before: the images differ
    after each query, so each stretch draws afresh. Epoch hooks run once, at the schedule's end.
    The runner's `stretch`, a `Resumable`, saves its state while it runs.
    """

    def __init__(self, *args: Any, stop_at: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stop_at = min(int(stop_at), self._max_iters)

    def run(self) -> Any:
        """Train up to `stop_at`."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        for batch in self.batches():
            self.runner.model.train()
            self.run_iter(batch)
            self.validate()
            if self.stop_training:
                break
        if self._iter >= self._max_iters or self.stop_training:
            self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def validate(self) -> None:
        """Validate where the config says so. At the schedule's end only for `save_best`: the round
        is measured then anyway. What validation draws at random changes nothing in training."""
        self._decide_current_val_interval()
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return
        if self._iter >= self._max_iters:
            hooks = self.runner.hooks
            due = any(isinstance(h, CheckpointHook) and h.save_best for h in hooks)
        else:
            due = self._iter % self.val_interval == 0
        if due:
            with randomness.kept():
                self.runner.val_loop.run()

    def batches(self) -> Iterator[Any]:
        """The batches up to `stop_at`."""
        if can_resume(self.dataloader):
            self.dataloader_iterator: Any = None
            stretch: Resumable = self.runner.stretch
            yield from stretch.batches(self.dataloader, self._iter, self.stop_at)
        else:
            yield from itertools.islice(self.dataloader_iterator, max(0, self.stop_at - self._iter))


@LOOPS.register_module()
class EpochStretchLoop(EpochBasedTrainLoop):  # type: ignore[misc]
    """EpochBasedTrainLoop that can be resumed in the middle: the runner's `stretch`, a `Resumable`,
    gives its batches and saves its state. What a validation draws at random changes nothing."""

    def run(self) -> Any:
        """Train all epochs."""
        stretch: Resumable = self.runner.stretch
        self.runner.call_hook("before_train")
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.validate()
            more = self._epoch < self._max_epochs and not self.stop_training
            if more and can_resume(self.dataloader):
                stretch.after_epoch(self._epoch, self._iter)
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train an epoch, or the rest of it."""
        if not can_resume(self.dataloader):
            super().run_epoch()
            return
        stretch: Resumable = self.runner.stretch
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for place, batch in stretch.epoch(self.dataloader, self._iter):
            self.run_iter(place, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def validate(self) -> None:
        """Validate where the config says so."""
        self._decide_current_val_interval()
        if self.runner.val_loop is None or self._epoch < self.val_begin:
            return
        if self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs:
            with randomness.kept():
                self.runner.val_loop.run()


def patience(runner: Runner) -> list[JSON]:
    """What each EarlyStoppingHook has counted; mmengine leaves it out of checkpoints."""
    return [
        {"wait_count": int(hook.wait_count), "best_score": float(hook.best_score)}
        for hook in runner.hooks
        if isinstance(hook, EarlyStoppingHook)
    ]


def restore_patience(runner: Runner, saved: list[JSON]) -> None:
    """Let each EarlyStoppingHook go on from what `patience` gave."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
    for hook, state in zip(hooks, saved, strict=True):
        hook.wait_count, hook.best_score = state["wait_count"], state["best_score"]


def log_history(runner: Runner) -> JSON:
    """The values of the latest iterations over which LoggerHook averages; mmengine's own checkpoint
    of them is a pickle."""
    return {
        name: [[float(v) for v in part[-HISTORY:]] for part in buffer.data]
        for name, buffer in runner.message_hub.log_scalars.items()
    }


class LogHistory(Hook):  # type: ignore[misc]
    """Lets LoggerHook go on from what `log_history` gave.

    Args:
        saved: What it gave.
    """

    def __init__(self, saved: JSON) -> None:
        self.saved = saved

    def before_train(self, runner: Runner) -> None:
        """Put the values back. The runner has loaded its checkpoint, which has none."""
        for name, (values, counts) in self.saved.items():
            for value, count in zip(values, counts, strict=True):
                runner.message_hub.update_scalar(name, value, int(count))


class LabelShareHook(Hook):  # type: ignore[misc]
    """Counts labelled pixels that reach the loss and labelled pixels of the samples drawn."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.count = LabelCount()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Count before the model sees the batch: host memory, no synchronisation with the GPU."""
        self.count.steps += 1
        samples = data_batch.get("data_samples", ()) if isinstance(data_batch, Mapping) else ()
        for sample in samples:
            drawn = sample.get("labelled_pixels") if hasattr(sample, "gt_sem_seg") else None
            if drawn is not None:
                reached = int((sample.gt_sem_seg.data != UNLABELED).sum())
                self.count.add(int(drawn), reached)


class PlainCheckpointHook(Hook):  # type: ignore[misc]
    """Leaves in a checkpoint only what `torch.load(weights_only=True)` reads, and no seed (a
    stretch that resumes from it has a seed of its own). Runs after every other hook."""

    priority = 100

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Strip `checkpoint` in place."""
        hub = checkpoint.get("message_hub")
        if isinstance(hub, Mapping):
            kept = strip(dict(hub.get("runtime_info", {})))
            checkpoint["message_hub"] = {
                "log_scalars": {},
                "runtime_info": kept,
                "resumed_keys": {key: True for key in hub["resumed_keys"] if key in kept},
            }
        checkpoint["meta"].pop("seed", None)
        for key in list(checkpoint):
            if key != "state_dict":  # tensors alone, and its _metadata must stay
                checkpoint[key] = strip(checkpoint[key])
