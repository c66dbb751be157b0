"""Seconds by stage of a round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


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
