"""How a training stretch starts, which labels it sees and where it stops. No framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data import ActiveLearningDataset
from ...errors import ConfigError, DataError, UnsupportedError
from ...runtime import distributed as dist
from ..base import FitRequest
from .self_training import PseudoCount
from .side_training import SideTraining


class LabelCount:
    """Labelled pixels that reach the loss, and labelled pixels of the samples drawn, of one rank;
    steps: training iterations; pseudo: what is counted of pixels without an answer."""

    def __init__(self) -> None:
        self.pseudo: PseudoCount | None = None
        self.reached = self.drawn = self.samples = self.empty = self.steps = 0

    def add(self, drawn: int, reached: int) -> None:
        """One sample: its labelled pixels when loaded, and after the pipeline."""
        self.reached, self.drawn = self.reached + reached, self.drawn + drawn
        self.samples, self.empty = self.samples + 1, self.empty + (reached == 0)

    def state(self) -> list[int]:
        """The counts, for `load`."""
        own = [self.reached, self.drawn, self.samples, self.empty, self.steps]
        return own if self.pseudo is None else [*own, *self.pseudo.state()]

    def load(self, state: list[int]) -> None:
        """Continue from the counts of a stretch that was interrupted."""
        self.reached, self.drawn, self.samples, self.empty, self.steps = state[:5]
        if self.pseudo is not None:
            self.pseudo.load(state[5:])

    def result(self) -> tuple[float, dict[str, Any]]:
        """(share over all ranks, NaN when unknown; samples drawn and those without a label, and
        `PseudoCount.result` as `unlabeled`)."""
        counts = [self.reached, self.drawn, self.samples, self.empty]
        reached, drawn, samples, empty = dist.sum_array(np.array(counts, dtype=np.int64)).tolist()
        share = reached / drawn if drawn else math.nan
        extra: dict[str, Any] = {"samples": samples, "samples_without_labels": empty}
        if self.pseudo is not None:
            extra["unlabeled"] = self.pseudo.result()
        return share, extra


@dataclass(frozen=True)
class Schedule:
    """The length of the training that a config describes.

    Args:
        length: Iterations; None for a schedule in epochs.
        key: Where the config says so.
        fix: How to write a schedule in iterations.
        continuous: Whether the training loop can stop at an iteration and resume there.
    """

    length: int | None
    key: str
    fix: str
    continuous: bool = True

    def iterations(self) -> int:
        """The length. Raises UnsupportedError for a schedule in epochs."""
        if self.length is None:
            raise UnsupportedError(
                f"acquisition.iterations needs a schedule in iterations: use {self.fix}"
            )
        return self.length

    def check_query(self, iteration: int) -> None:
        """Raise ConfigError for a query after the end, UnsupportedError for epochs."""
        if self.length is None or not self.continuous:
            raise UnsupportedError(f"acquisition.queries counts iterations: use {self.fix}")
        if iteration > self.length:
            raise ConfigError(
                f"acquisition.queries holds {iteration}, but {self.key}={self.length}"
            )

    def stop(self, request: FitRequest) -> int | None:
        """Iteration at which a stretch of a continuous run ends; None for a training of its own."""
        if request.until is None:
            return None
        self.check_query(request.until)
        return self.length if request.until < 0 else request.until


@dataclass(frozen=True)
class Start:
    """Where weights come from.

    Args:
        load: Checkpoint, or None: as the config initialises them.
        resume: Restore optimizer, schedule and iteration as well.
    """

    load: str | None
    resume: bool = False


def starting_point(request: FitRequest, load_from: str | None, resume_from: Any = None) -> Start:
    """Where the weights of a stretch come from.

    Args:
        request: Of the stretch.
        load_from: Of the config.
        resume_from: Of the config (0.x): where the first stretch of a continuous run resumes.

    Raises:
        ConfigError: `round_init='pretrained'` without `load_from`.
    """
    if request.until is not None and (request.previous or resume_from):
        return Start(str(request.previous or resume_from), resume=True)
    if request.init == "pretrained":
        if not load_from:
            raise ConfigError("round_init='pretrained' needs load_from='checkpoint.pth'")
        return Start(load_from)
    if request.init == "continue":
        return Start(str(request.previous) if request.previous is not None else load_from)
    return Start(None)


def labelled_dataset(
    pool: Any,
    request: FitRequest,
    read_sample: Callable[..., Any],
    alone: bool = False,
    side: SideTraining | None = None,
) -> ActiveLearningDataset:
    """The labelled images of the pool.

    Args:
        pool: With `dataset`, `items` and `label_space`.
        request: Names the label store.
        read_sample: (data set, index, mask file) -> training sample.
        alone: Whether the training can do without labels (a source data set).
        side: What there is beside labels.

    Raises:
        DataError: There is no label of a class.
    """
    dataset = ActiveLearningDataset(
        pool.dataset,
        request.store,
        [item.key for item in pool.items],
        pool.label_space.trainable,
        inject=read_sample if side is None else side.reading(read_sample),
        class_sets=side is not None and side.sets,
    )
    if len(dataset) == 0 and not alone:
        raise DataError(
            f"{request.store.root} holds no label of a class to train on (void alone does not "
            "count): enlarge acquisition.warm_start or budget"
        )
    return dataset


def check_start(acquisition: Mapping[str, Any], load_from: Any, schedule: Schedule) -> None:
    """`load_from` is there when it is needed, and `queries` fit the schedule. Raises ConfigError,
    UnsupportedError."""
    if acquisition.get("round_init", "scratch") == "pretrained" and not load_from:
        raise ConfigError(
            "acquisition.round_init='pretrained' needs load_from='checkpoint.pth' in the config"
        )
    for iteration in acquisition.get("queries") or ():
        schedule.check_query(iteration)
