"""Progress and time of long stages: a rich bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

_LINES = 4  # lines a stage may print where there is no terminal, its last line included
_INTERVAL = 10.0  # seconds between two of them


class Progress(Generic[T]):
    """Made by `progress`. Iterate over it, or use it as a context manager and call `advance`."""

    def __init__(self, items: Iterable[T], description: str, total: int | None) -> None:
        self.items, self.description, self.total = items, description, total
        self.done = 0
        self._silent = os.environ.get("RANK", "0") not in ("", "0")
        self._bar: Any = None

    def __enter__(self) -> Progress[T]:
        self._start = self._printed_at = time.monotonic()
        self._printed = 0
        if not self._silent and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._bar, self._task = _rich_bar(self.description, self.total)
        return self

    def advance(self, count: int = 1) -> None:
        """Count `count` more items as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done)
        elif not self._silent and self.total and self.done < self.total:
            due = (self._printed + 1) * self.total <= self.done * _LINES
            if due and time.monotonic() - self._printed_at >= _INTERVAL:
                self._printed = self.done * _LINES // self.total
                self._print()

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        of = f"/{self.total}" if self.total is not None else ""
        print(
            f"{self.description}: {self.done}{of} ({self._printed_at - self._start:.1f} s)",
            file=sys.stderr,
            flush=True,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._silent:
            self._print()

    def __iter__(self) -> Iterator[T]:
        with self:
            for item in self.items:
                yield item
                self.advance()


def _rich_bar(description: str, total: int | None) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.start()
    return bar, bar.add_task(description, total=total)


@overload
def progress(work: int, description: str) -> Progress[int]: ...
@overload
def progress(work: Iterable[T], description: str, total: int | None = None) -> Progress[T]: ...
def progress(work: Any, description: str, total: int | None = None) -> Progress[Any]:
    """A progress bar on stderr: `for x in progress(items, "Scoring")`, or, for work that reports
    its own progress, `with progress(48, "SLIC") as bar: bar.advance()`.

    On a terminal this is a rich bar; elsewhere at most four plain lines without control
    characters, the last one with the time. Ranks other than 0 print nothing.

    Args:
        work: What to iterate over, or the number of items.
        description: What is done.
        total: Number of items, where `work` has no length.
    """
    if isinstance(work, int):
        return Progress(range(work), description, work)
    if total is None and isinstance(work, Sized):
        total = len(work)
    return Progress(work, description, total)


class Stopwatch:
    """Wall-clock seconds by stage.

    Example:
        >>> watch = Stopwatch()
        >>> with watch("score"):
        ...     pass
        >>> sorted(watch.take()), watch.take()
        (['score'], {})
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + passed

    def take(self) -> dict[str, float]:
        """Seconds by stage since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken
