"""What a run reports while it goes on, and the experiment trackers that get it.

Nothing here may stop a run: what fails is told in one line and tried again after the round.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..engines.base import Engine, Tracker
from ..report import overlays
from ..runtime import distributed as dist
from ..runtime import randomness
from ..store import results as results_file
from ..store.database import dump
from ..store.points import ROUND, TRAIN, Point, PointLog
from ..store.results import Record, Results, label_quality
from ..store.work_dir import WorkDir
from ..types import JSON, U8

STRETCH = "stretch"
"""Note: round, identity and first step of the training that was reported last."""


class Tracking:
    """The points of a run and its trackers. Every rank makes one; that of rank 0 writes.

    Args:
        work_dir: Of the run.
        engine: Whose config names the trackers.
        title: Of the run.
    """

    def __init__(self, work_dir: WorkDir, engine: Engine, title: str) -> None:
        self.work_dir, self.engine, self.title = work_dir, engine, title
        self.log: PointLog | None = None
        self.trackers: list[Tracker] = []
        self._failed: list[Tracker] = []
        self._told: set[str] = set()

    def open(self) -> None:
        """Open the file and the trackers, on rank 0."""
        if self.log is not None or not dist.is_main():
            return
        with self._guarded("the report of trainings"):
            self.log = PointLog.open(self.work_dir.root)
        make: Callable[..., Sequence[Tracker]] | None = getattr(self.engine, "trackers", None)
        if self.log is None or make is None:
            return
        with self._guarded("the trackers of the config"), randomness.kept():
            self._failed = list(make(self.work_dir.trackers, self.title, self.log))
        self._revive()

    def close(self) -> None:
        """Let go of file and trackers. `open` opens them again."""
        for tracker in (*self.trackers, *self._failed):
            with self._guarded(tracker.name), randomness.kept():
                tracker.close()
        if self.log is not None:
            self.log.close()
        self.log, self.trackers, self._failed = None, [], []

    def training(
        self, round: int, identity: JSON | None, before: Callable[[], Sequence[int]]
    ) -> Training:
        """Where the training of a round reports to.

        Args:
            round: Of the run.
            identity: What determines the training; another one in the same round goes on behind
                the points of the first.
            before: Gives the iterations of the trainings of all rounds before.
        """
        first = 0
        if self.log is not None:
            with self._guarded("the report of trainings"):
                first = self._first_step(self.log, round, identity, before())
        return Training(self, round, first)

    def _first_step(
        self, log: PointLog, round: int, identity: JSON | None, before: Sequence[int]
    ) -> int:
        """The step at which the training of a round begins."""
        digest = hashlib.sha256(dump(identity).encode()).hexdigest()[:16]
        stretch = log.noted(STRETCH) or {}
        first = sum(before)
        if stretch.get("round") == round:
            first = max(first, int(stretch["first"]))
            if stretch.get("identity") != digest:
                first = max(first, log.last_step())
        elif stretch.get("round") == round - 1:
            first = max(first, int(stretch["first"]) + before[-1])
        log.note(STRETCH, {"round": round, "identity": digest, "first": first})
        return first

    def close_round(self, round: int) -> None:
        """Report a finished round, on rank 0, unless it was reported before."""
        if self.log is None:
            return
        with self._guarded("the report of rounds"):
            if not self.log.has(ROUND, round):
                results = results_file.load(self.work_dir.root)
                record = next(one for one in results.records if one.round == round)
                stretch = self.log.noted(STRETCH) or {}
                spent = sum(one.iterations for one in results.records if one.round <= round)
                if stretch.get("round") == round:
                    spent = max(spent, int(stretch["first"]) + record.iterations)
                values = numbers(round_scalars(record, results, spent))
                iteration = record.iterations
                self.add(Point(ROUND, round, round, iteration, iteration, time.time(), values))
        self._revive()

    def add(self, point: Point) -> None:
        """Write a point, and send it to the trackers."""
        if self.log is not None and self.log.add(point):
            self.send()

    def send(self) -> None:
        """Send to each tracker what it has not got."""
        for tracker in list(self.trackers):
            self._attempt(tracker, partial(self._catch_up, tracker))

    def _revive(self) -> None:
        """Open those that are not open, or have failed, and send what they have missed."""
        for tracker in list(self._failed):

            def begin(tracker: Tracker = tracker) -> None:
                tracker.open()
                self._catch_up(tracker)

            self._failed.remove(tracker)
            self.trackers.append(tracker)
            self._attempt(tracker, begin)
        self._told.clear()

    def _attempt(self, tracker: Tracker, work: Callable[[], None]) -> None:
        """Do something with a tracker, which is left alone until the round ends if it fails."""
        fine = False
        with self._guarded(tracker.name, " It gets what it misses when it works again."):
            with randomness.kept():
                work()
            fine = True
        if not fine:
            self.trackers.remove(tracker)
            self._failed.append(tracker)

    def _catch_up(self, tracker: Tracker) -> None:
        assert self.log is not None
        note = f"sent to {tracker.name}"
        sent = int((self.log.noted(note) or {}).get("number", 0))
        while points := self.log.after(sent):
            for point in points:
                tracker.write(point, self._pictures(point))
                sent = point.number
                self.log.note(note, {"number": sent})

    def _pictures(self, point: Point) -> Mapping[str, U8]:
        if point.kind != ROUND:
            return {}
        found: dict[str, U8] = {}
        with self._guarded("the overlays for the trackers"):
            results = results_file.load(self.work_dir.root)
            found = overlays.strips(self.work_dir, results, point.round)
        return found

    @contextmanager
    def _guarded(self, what: str, more: str = "") -> Iterator[None]:
        """Turn whatever is raised inside into a line on stderr, once until a round has ended."""
        try:
            yield
        except Exception as error:  # whatever libraries of trackers, networks and disks raise
            text = " ".join(str(error).split()) or type(error).__name__
            line = f"warning: {what}: {text[:300]}; the run goes on without.{more}"
            if line not in self._told:
                self._told.add(line)
                print(line, file=sys.stderr, flush=True)


class Training:
    """A `TrainingLog`.

    Args:
        tracking: Of the run.
        round: Of the training.
        first: Step at which it begins.
    """

    def __init__(self, tracking: Tracking, round: int, first: int) -> None:
        self.tracking, self.round, self.first = tracking, round, first

    @property
    def trackers(self) -> Sequence[Tracker]:
        """Those that work."""
        return tuple(self.tracking.trackers)

    def scalars(
        self,
        values: Mapping[str, Any],
        iteration: int,
        length: int | None = None,
        kind: str = TRAIN,
    ) -> None:
        """See `TrainingLog`."""
        found = numbers(values)
        if self.tracking.log is None or not found:
            return
        step = self.first + iteration
        point = Point(kind, self.round, step, iteration, length, time.time(), found)
        with self.tracking._guarded("the report of trainings"):
            self.tracking.add(point)

    def picture(self, name: str, picture: U8, iteration: int) -> None:
        """See `TrainingLog`."""
        for tracker in self.trackers:
            with self.tracking._guarded(tracker.name), randomness.kept():
                tracker.picture(name, picture, self.first + iteration)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers among some values, as plain int and float.

    Example:
        >>> import torch
        >>> numbers({"loss": torch.tensor(0.5), "iter": 3, "note": "x", "none": None})
        {'loss': 0.5, 'iter': 3}
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        plain = value.item() if getattr(value, "ndim", None) == 0 else value
        if getattr(value, "shape", None) == (1,):
            plain = value.reshape(()).item()
        if isinstance(plain, (bool, str, bytes)) or plain is None:
            continue
        if isinstance(plain, int):
            found[str(name)] = plain
        elif isinstance(plain, float) or hasattr(plain, "__float__"):
            try:
                found[str(name)] = float(plain)
            except (TypeError, ValueError):
                continue
    return found


def round_scalars(record: Record, results: Results, iterations: int) -> dict[str, float | None]:
    """What the trackers are told about a finished round; None for what is not known.

    Args:
        record: Of the round; its costs are totals up to and including it.
        results: Of the run.
        iterations: Of all trainings up to the end of this round.

    Returns:
        Name -> value. mIoU, accuracy and IoU in per cent, as MMSegmentation 1.x logs them.
    """

    def hundred(value: float | None) -> float | None:
        return None if value is None else 100 * value

    costs = record.costs
    found: dict[str, float | None] = {
        "al/round": record.round,
        "al/iteration": iterations,
        "al/mIoU": hundred(record.miou),
        "al/accuracy": hundred(record.accuracy),
        **{f"al/{name}": hundred(value) for name, value in label_quality(record).items()},
        "al/images": costs.images,
        "al/regions": costs.regions,
        "al/labelled_pixels": costs.pixels,
        "al/labelled_percent": 100 * record.labelled_fraction,
        "al/clicks": costs.clicks,
        "al/annotation_seconds": costs.annotation_seconds,
        "al/label_share": record.label_share,
    }
    for name, value in zip(results.classes, record.per_class_iou, strict=False):
        found[f"al/IoU/{name}"] = hundred(value)
    for stage, seconds in record.seconds.items():
        found[f"al/seconds/{stage}"] = seconds
    return {name: value for name, value in found.items() if value is None or math.isfinite(value)}
