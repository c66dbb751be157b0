"""A training stretch that can be resumed in the middle, with the same result. No framework.

Its batches come in blocks: so many iterations, or an epoch. At the start of each block the loader's
workers are started anew, with seeds of their own, and the state of the training is saved (of epochs
at the start of some). So a resumed stretch continues with the same computation as one that was
never interrupted, whatever the number of workers.
"""

from __future__ import annotations

import ctypes
import io
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ...errors import DataError, TrainingStopped
from ...runtime import distributed as dist
from ...runtime import randomness, signals
from ...store import fit_state
from ...types import JSON
from ..base import FitRequest
from .training import LabelCount

INTERVAL = 1000
"""Iterations between two saved states where the config has no checkpoint interval."""
AGREE_EVERY = 10
"""Iterations after which several processes ask each other whether to stop."""


class Resumable:
    """State and batches of one stretch, on one rank.

    Args:
        request: Of the stretch; without `identity` nothing is saved, the batches are the same.
        interval: Iterations between two saved states.
        step: Iterations of one optimizer step (gradient accumulation); states are saved between
            such steps.
        count: Saved and restored with the state.
        epochs: Epochs between two saved states, in place of `interval`; for a training in epochs.

    Attributes:
        checkpoint: The state that the stretch resumes from, a checkpoint of the framework, or None.
        entry: Its entry in the meta data, with the iteration at which the stretch had begun as
            `first`, or None.
        save: Set by the engine: writes a checkpoint to a path, with an entry of its meta data.
        stop: Which signal asks to stop.
    """

    def __init__(
        self,
        request: FitRequest,
        interval: int,
        step: int,
        count: LabelCount,
        epochs: int | None = None,
    ) -> None:
        self.request, self.count, self.step = request, count, max(1, step)
        self.epochs, self._saved = epochs, 0
        self.interval = -(-max(1, interval) // self.step) * self.step
        self.save: Callable[[Path, JSON], None] | None = None
        self.stop = signals.StopRequest()
        self.checkpoint: Path | None = None
        self._sampler: JSON = {}  # state of the generators, for samplers that draw from them
        try:
            self.entry = fit_state.read(request.out_dir, request.identity)
        except fit_state.UnusableStateError:
            self.entry = None
        if self.entry is not None:
            self.checkpoint = request.out_dir / fit_state.FILE

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Inside, SIGTERM and SIGUSR1 stop the stretch when its state can be saved."""
        if self.save is None or self.request.identity is None:
            yield
            return
        with signals.noted() as self.stop:
            yield

    def batches(self, loader: Any, iteration: int, stop: int) -> Iterator[Any]:
        """Batches of the iterations from `iteration` to `stop`. The state is saved when the next
        batch is asked for, so the framework must then have counted the last one.

        Raises:
            TrainingStopped: A signal asked to stop; the state is saved.
        """
        start, end = iteration, min(self._save_point(iteration), stop)
        first, skipped, resumed = iteration, 0, None
        if self.entry is not None:
            first = int(self.entry["first"])
            resumed = self._own(self.entry)
            start, end = (int(place) for place in self.entry["block"])
            end, skipped = min(end, stop), iteration - start
        before = resumed["before"] if resumed else randomness.state()
        stream = endless(loader)
        self._sampler = before
        self._draw(stream, start - first)
        while iteration < stop:
            block = self._draw(stream, end - start)
            source = self._open(loader, block, start, None if start != first else before)
            for _ in range(skipped):
                next(source)
            if resumed is not None:
                randomness.restore(resumed["generators"])
                self.count.load(resumed["count"])
            skipped, resumed = 0, None
            for batch in source:
                yield batch
                iteration += 1
                if iteration < end and self._asked(iteration):
                    # Without workers nothing is loaded ahead: a new block may begin anywhere.
                    begun = start if loader.num_workers else iteration
                    self._save(iteration, first, begun, end, before)
                    self._end(iteration)
            start, end = end, min(self._save_point(end), stop)
            if iteration < stop:
                self._save(iteration, first, start, end, before)
                if self._asked(iteration):
                    self._end(iteration)

    def epoch(self, loader: Any, iteration: int) -> Iterator[tuple[int, Any]]:
        """Places in the epoch and batches of an epoch that begins with the next iteration; in a
        resumed stretch, of the rest of the epoch in which it was interrupted. The framework must
        have counted a batch when it asks for the next one.

        Raises:
            TrainingStopped: A signal asked to stop; the state is saved.
        """
        start, resumed = iteration, None
        if self.entry is not None:
            start, resumed = int(self.entry["block"][0]), self._own(self.entry)
            self.entry, self._saved = None, iteration
            randomness.restore(resumed["before"])
        before = randomness.state()
        block = list(loader.batch_sampler)
        end, skipped = start + len(block), iteration - start
        if not loader.num_workers:  # nothing is loaded ahead
            block, skipped = block[skipped:], 0
        source = self._open(loader, block, start, before if start == 0 else None)
        for _ in range(skipped):
            next(source)
        if resumed is not None:
            if iteration > start:
                randomness.restore(resumed["generators"])
            self.count.load(resumed["count"])
        for batch in source:
            yield iteration - start, batch
            iteration += 1
            if iteration < end and self._asked(iteration):
                self._save(iteration, 0, start, end, before)
                self._end(iteration)

    def after_epoch(self, epoch: int, iteration: int) -> None:
        """Save the state where it is due, when `epoch` epochs and all that follows them are done
        and another one comes.

        Raises:
            TrainingStopped: A signal asked to stop; the state is saved.
        """
        if iteration % self.step:
            return  # gradients of the next step are being gathered
        asked = self._asked(iteration, always=True)
        if self.epochs is not None:
            due = epoch % self.epochs == 0
        else:
            due = iteration // self.interval > self._saved // self.interval
        if due or asked:
            self._saved = iteration
            self._save(iteration, 0, iteration, iteration, randomness.state())
        if asked:
            self._end(iteration)

    def _save_point(self, iteration: int) -> int:
        """The first save point after an iteration."""
        return (iteration // self.interval + 1) * self.interval

    def _draw(self, stream: Iterator[Any], count: int) -> list[Any]:
        """The next batches of indices. A sampler that draws from the global generators sees them in
        a state of its own, and so draws the same when the stretch is resumed."""
        with randomness.kept():
            randomness.restore(self._sampler)
            drawn = list(itertools.islice(stream, count))
            self._sampler = randomness.state()
        return drawn

    def _open(
        self, loader: Any, block: list[Any], start: int, before: JSON | None
    ) -> Iterator[Any]:
        """An iterator over the samples of a block. before: state of the generators for the first
        block of a stretch, None for a later one."""
        if before is not None:
            # As the framework's own iterator: workers are seeded as the config says.
            if self.entry is not None:
                randomness.restore(before)
            return iter(over(loader, block, loader.worker_init_fn))
        numbers = (self.request.seed, dist.rank(), start)
        with randomness.kept():
            randomness.seed(*numbers)
            return iter(over(loader, block, SeededWorker(loader.worker_init_fn, numbers)))

    def _asked(self, iteration: int, always: bool = False) -> bool:
        """Whether to stop after this iteration; all ranks agree. always: of several ranks, too."""
        if self.save is None or self.request.identity is None or iteration % self.step:
            return False
        if not dist.active():
            return bool(self.stop.signal)
        if not always and (iteration // self.step) % AGREE_EVERY:
            return False
        found = dist.max_number(self.stop.signal)
        self.stop.signal = self.stop.signal or found
        return bool(found)

    def _end(self, iteration: int) -> None:
        self.stop.answered = True
        raise TrainingStopped(signals.stopped_line(self.stop.signal, iteration))

    def _save(self, iteration: int, first: int, start: int, end: int, before: JSON) -> None:
        """Rank 0 writes the state, with the generators and counts of all ranks."""
        save, identity = self.save, self.request.identity
        if save is None or identity is None:
            return
        generators = randomness.state()
        buffer = io.BytesIO()
        own = {"generators": generators, "before": before, "count": self.count.state()}
        torch.save(own, buffer)
        parts = dist.gather_arrays(np.frombuffer(buffer.getvalue(), dtype=np.uint8))
        entry = {
            "identity": identity,
            "iteration": iteration,
            "first": first,
            "block": [start, end],
            "ranks": [torch.from_numpy(part.copy()) for part in parts],
        }
        if dist.is_main():
            fit_state.write(self.request.out_dir, lambda path: save(path, entry))
        dist.barrier()
        randomness.restore(generators)

    def _own(self, entry: JSON) -> JSON:
        """What this rank has saved."""
        raw = io.BytesIO(entry["ranks"][dist.rank()].numpy().tobytes())
        found: JSON = torch.load(raw, weights_only=True)
        return found


class SeededWorker:
    """`worker_init_fn` of a later block: the loader's own, then seeds of the block.

    own: of the loader, or None; numbers: what the seeds depend on beside the worker.
    """

    def __init__(self, own: Callable[[int], None] | None, numbers: tuple[int, ...]) -> None:
        self.own, self.numbers = own, numbers

    def __call__(self, worker: int) -> None:
        if self.own is not None:
            self.own(worker)
        randomness.seed(*self.numbers, worker)


class EndsWithParent:
    """`worker_init_fn` of a loader: the worker ends with the process that starts it, even by
    SIGKILL, then the loader's own. torch's workers look at their parent themselves, but one whose
    parent is killed while it starts takes another process for it, and waits for ever.

    own: of the loader, or None.
    """

    def __init__(self, own: Callable[[int], None] | None) -> None:
        self.own, self.parent = own, os.getpid()

    def __call__(self, worker: int) -> None:
        if sys.platform == "linux":
            parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
            ctypes.CDLL(None).prctl(parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != self.parent:  # it has ended already
                os._exit(1)
        if self.own is not None:
            self.own(worker)


def can_resume(loader: Any) -> bool:
    """Whether a loader's batches can be given in blocks: its data set is indexed."""
    return isinstance(loader, DataLoader) and loader.batch_sampler is not None


def over(loader: Any, batches: list[Any], worker_init_fn: Callable[[int], None] | None) -> Any:
    """A loader like another one, over these batches of indices."""
    options: dict[str, Any] = {}
    if loader.num_workers:
        options["prefetch_factor"] = loader.prefetch_factor
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=EndsWithParent(worker_init_fn) if loader.num_workers else None,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        **options,
    )


def endless(loader: Any) -> Iterator[Any]:
    """Batches of indices of a loader, epoch after epoch. Raises DataError where there are none."""
    own = loader.sampler if hasattr(loader.sampler, "set_epoch") else None
    sampler: Any = own or getattr(loader.batch_sampler, "sampler", None)
    for epoch in itertools.count():
        if epoch and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        empty = True
        for batch in loader.batch_sampler:
            empty = False
            yield batch
        if empty:
            raise DataError(f"{type(loader.batch_sampler).__name__} draws no batch")
