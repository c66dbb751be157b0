"""Who is working on which image: so that two people never get the same one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Place = tuple[int, str]
"""Round and key of an image."""


@dataclass
class Leases:
    """Leases of images. Not kept over a restart: people ask again.

    Args:
        seconds: How long one lasts after the last sign of life.
        clock: Of the time, in seconds.

    Example:
        >>> now = [0.0]
        >>> leases = Leases(10, lambda: now[0])
        >>> leases.take((1, "a"), "ada"), leases.take((1, "a"), "bob")
        (True, False)
        >>> now[0] = 11
        >>> leases.take((1, "a"), "bob")
        True
    """

    seconds: float = 300.0
    clock: Callable[[], float] = time.monotonic
    _held: dict[Place, tuple[str, float]] = field(default_factory=dict)

    def holder(self, place: Place) -> str | None:
        """Who holds an image now."""
        held = self._held.get(place)
        if held is None:
            return None
        if held[1] <= self.clock():
            del self._held[place]
            return None
        return held[0]

    def expires_in(self, place: Place) -> float:
        """Seconds that a lease still lasts; 0: there is none."""
        return 0.0 if self.holder(place) is None else self._held[place][1] - self.clock()

    def take(self, place: Place, person: str) -> bool:
        """Take an image, or hold it for longer. False when somebody else has it."""
        if self.holder(place) not in (None, person):
            return False
        self._held[place] = (person, self.clock() + self.seconds)
        return True

    def release(self, place: Place, person: str) -> None:
        """Give an image back; that of somebody else stays."""
        if self.holder(place) == person:
            del self._held[place]
