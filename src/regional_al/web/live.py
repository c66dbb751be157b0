"""The live report: where a run is, read from its files while it goes on. Nothing is written."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ..errors import DataError, RegionalALError, WorkDirError
from ..report import html
from ..report.status import Position, read_position, two_keys
from ..report.table import spell
from ..store import results as results_file
from ..store.ledger import Ledger
from ..store.lock import holder
from ..store.points import TRAIN, Point, PointLog
from ..store.reading import read_json
from ..store.results import Results
from ..store.work_dir import WorkDir
from ..types import JSON
from .session import LOCK

LOSSES, RATES = ("loss", "train/loss"), ("lr", "learning_rate")
"""What the loss and the learning rate are called, in MMSegmentation 1.x and 0.x."""
SHOWN = 400
"""Points of the chart."""
RECENT = 12
"""Points from which the speed of a training is taken."""
DOING = {
    "query": "scoring the pool and selecting",
    "answers": "collecting answers",
    "fit": "training",
    "evaluate": "evaluating",
}


class Loss(NamedTuple):
    """A point of the chart: step of the run, round, loss."""

    step: int
    round: int
    loss: float


class Live:
    """A run as it is now. All methods may be called from several threads.

    Args:
        work_dir: Of the run, which may begin later.

    Raises:
        WorkDirError: There cannot be a run in it.
    """

    def __init__(self, work_dir: Path) -> None:
        self.files = WorkDir(Path(work_dir))
        root = self.files.root
        if root.exists() and not root.is_dir():
            raise WorkDirError(f"{root} is a file: give the --work-dir of a training")
        if not root.exists() and not root.absolute().parent.is_dir():
            raise WorkDirError(
                f"{root} does not exist, nor does {root.absolute().parent}: give the --work-dir of "
                "a training"
            )
        self.lock, self._drawing = threading.Lock(), threading.Lock()
        self._folder = TemporaryDirectory()
        self._losses: list[Loss] = []
        self._recent: list[Point] = []
        self._read, self._file = 0, 0  # number of the last point, inode of their file
        self._page: tuple[str, str] = ("", "")
        self._place: tuple[tuple[int, ...], Results | None, Position | None, str | None] | None
        self._place = None

    def close(self) -> None:
        """Remove the figures that were drawn."""
        self._folder.cleanup()

    def now(self) -> JSON:
        """All that the page shows beside the report; a file that cannot be read is told in
        `sentence`."""
        with self.lock:
            try:
                return self._now()
            except RegionalALError as problem:
                return {"state": "unreadable", "sentence": str(problem), "version": ""}

    def _now(self) -> JSON:
        held = holder(self.files.root)
        if not self.files.ledger.exists() and not self.files.results.exists():
            doing = "The run is being checked before it begins." if held else ""
            there = "There is no run in this folder yet; this page follows it when it begins."
            state = "running" if held else "none"
            return {"state": state, "sentence": doing or there, "version": "", "process": held}
        results, position, since = self._position()
        self._take_points()
        waiting = position.waiting and not held
        if position.stopped is not None and not held:
            state = "finished"
        elif held:
            state = "running"
        else:
            state = "waiting" if waiting else "stopped"
        training = position.stage == "fit" and state in ("running", "stopped")
        rounds = None if results is None else results.acquisition.get("rounds")
        return {
            "state": state,
            "sentence": sentence(position, state),
            "title": "" if results is None else results.title,
            "keys": "" if results is None else two_keys(results.acquisition),
            "round": position.round,
            "rounds": rounds if isinstance(rounds, int) else None,
            "process": held,
            "seen": self._seen(),
            "waits": waits(since) if waiting else None,
            "training": self._training(position.round, state) if training else None,
            "losses": thinned(self._losses),
            "annotate": self._annotate(),
            "version": self._version(),
        }

    def report(self) -> str:
        """The page of `regional-al report`, drawn again when there is something new. Raises
        RegionalALError when there is no report yet."""
        with self._drawing:
            version = self._version()
            if self._page[0] != version or not version:
                results = results_file.load(self.files.root)
                self._page = (version, html.render(results, self.files, Path(self._folder.name)))
            return self._page[1]

    def _version(self) -> str:
        """Changes when the report would be another one."""
        return "-".join(f"{n:x}" for n in stamp(self.files.results, self.files.ledger))

    def _position(self) -> tuple[Results | None, Position, str | None]:
        """Results, position, and when the query that it may wait for was written; read again when
        ledger or results have changed."""
        seen = stamp(self.files.ledger, self.files.results)
        if self._place is None or self._place[0] != seen:
            there = self.files.results.is_file()
            results = results_file.load(self.files.root) if there else None
            position, since = read_position(self.files, results), None
            if self.files.ledger.is_file() and position.stage == "answers":
                with Ledger.open(self.files.root, readonly=True) as ledger:
                    since = ledger.finished(position.round, "query")
            self._place = (seen, results, position, since)
        _, results, place, since = self._place
        assert place is not None
        return results, place, since

    def _take_points(self) -> None:
        """Read the points that are new. Without them the page has no losses."""
        with suppress(OSError, WorkDirError):
            inode = self.files.points.stat().st_ino
            if inode != self._file:
                self._losses, self._recent, self._read, self._file = [], [], 0, inode
            with PointLog.open(self.files.root, readonly=True) as log:
                while points := log.after(self._read):
                    self._read = points[-1].number
                    trained = [point for point in points if point.kind == TRAIN]
                    self._recent = [*self._recent, *trained][-RECENT:]
                    found = ((p, first_of(p, LOSSES)) for p in trained)
                    self._losses += [
                        Loss(p.step, p.round, loss) for p, loss in found if loss is not None
                    ]

    def _training(self, round: int, state: str) -> JSON | None:
        """The training of a round as far as it was reported; None: not at all."""
        recent = [point for point in self._recent if point.round == round]
        if not recent:
            return None
        last = recent[-1]
        speed = pace(recent) if state == "running" else None
        left = None if last.length is None else last.length - last.iteration
        return {
            "iteration": last.iteration,
            "length": last.length,
            "loss": first_of(last, LOSSES),
            "rate": first_of(last, RATES),
            "left": None if speed is None or left is None else spell(left / speed),
        }

    def _seen(self) -> str:
        """How long ago the files of the run have changed."""
        files = (self.files.ledger, self.files.points, self.files.results)
        times = [path.stat().st_mtime for path in files if path.exists()]
        return spell(max(0.0, time.time() - max(times))) if times else ""

    def _annotate(self) -> JSON | None:
        """Where the annotation page is served, if it is."""
        path = self.files.annotate_address
        if not path.is_file() or not holder(self.files.root, LOCK):
            return None
        with suppress(DataError, WorkDirError):
            found = read_json(path)
            if isinstance(found, dict) and str(found.get("url")).startswith("http://"):
                url, machine = str(found["url"]), str(found.get("machine", ""))
                loopback = url.startswith(("http://127.", "http://localhost:", "http://[::1]:"))
                here = not loopback or machine == socket.gethostname()
                return {"url": url, "machine": machine, "here": here}
        return None


def sentence(position: Position, state: str) -> str:
    """What a run does now, for a person.

    Example:
        >>> sentence(Position(2, "fit"), "running")
        'Round 2: training.'
        >>> sentence(Position(2, "fit"), "stopped")
        'The run has stopped. Next: training of round 2. Run the same command again with --resume.'
    """
    if state == "running" and position.stage is not None and position.stopped is None:
        return f"Round {position.round}: {DOING[position.stage]}."
    said = position.sentence()[1]
    if state == "stopped":
        said = said.replace("Not finished.", "The run has stopped.")
        return f"{said} Run the same command again with --resume."
    return said


def waits(since: str | None) -> str | None:
    """How long ago a time of the ledger was.

    Example:
        >>> waits("2000-01-01T00:00:00+00:00").endswith("d"), waits("yesterday")
        (True, None)
    """
    try:
        return spell(max(0.0, time.time() - datetime.fromisoformat(since or "").timestamp()))
    except ValueError:
        return None


def pace(points: Sequence[Point]) -> float | None:
    """Iterations a second, by the median of the times between reports, so that a pause of the run
    does not count; None: not known.

    Example:
        >>> points = [Point(TRAIN, 0, n, n, 99, t, {}) for n, t in ((10, 1.), (20, 2.), (30, 3.))]
        >>> pace(points), pace(points[:1])
        (10.0, None)
    """
    found = []
    for one, two in pairwise(points):
        if two.iteration > one.iteration and two.time > one.time:
            found.append((two.iteration - one.iteration) / (two.time - one.time))
    return sorted(found)[len(found) // 2] if found else None


def first_of(point: Point, names: Sequence[str]) -> float | None:
    """The first of some scalars that a point has and that is finite."""
    for name in names:
        value = point.scalars.get(name)
        if value is not None and math.isfinite(value):
            return float(value)
    return None


def thinned(losses: Sequence[Loss], most: int = SHOWN) -> list[list[float]]:
    """Losses as [step, round, loss], means of neighbours of a round where they are many.

    Example:
        >>> thinned([Loss(n, 0, float(n)) for n in (1, 2, 3, 4)], most=2)
        [[2, 0, 1.5], [4, 0, 3.5]]
    """
    each = -(-len(losses) // most) or 1
    found: list[list[float]] = []
    group: list[Loss] = []
    for one in losses:
        if group and (len(group) == each or group[-1].round != one.round):
            found.append(_mean(group))
            group = []
        group.append(one)
    return [*found, _mean(group)] if group else found


def _mean(group: Sequence[Loss]) -> list[float]:
    return [group[-1].step, group[-1].round, sum(one.loss for one in group) / len(group)]


def stamp(*paths: Path) -> tuple[int, ...]:
    """Changes with files; that of one which is missing is 0."""
    found: list[int] = []
    for path in paths:
        try:
            status = path.stat()
            found += [status.st_mtime_ns, status.st_size, status.st_ino]
        except OSError:
            found.append(0)
    return tuple(found)
