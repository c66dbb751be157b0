"""Who is working on which image: so that two people never get the same one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

Place = tuple[int, str]
"""Round and key of an image."""


class Lease(NamedTuple):
    """Who has an image.

    Args:
        person: Who.
        tab: The page that shows it; '': not known.
        until: When it ends, on the clock of `Leases`.
        reserved: It has only been loaded in advance.
    """

    person: str
    tab: str
    until: float
    reserved: bool


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
    _held: dict[Place, Lease] = field(default_factory=dict)

    def _lease(self, place: Place) -> Lease | None:
        held = self._held.get(place)
        if held is not None and held.until <= self.clock():
            del self._held[place]
            return None
        return held

    def holder(self, place: Place) -> str | None:
        """Who holds an image now."""
        held = self._lease(place)
        return None if held is None else held.person

    def expires_in(self, place: Place) -> float:
        """Seconds that a lease still lasts; 0: there is none."""
        held = self._lease(place)
        return 0.0 if held is None else held.until - self.clock()

    def reserved(self, place: Place) -> bool:
        """Whether its holder has only loaded an image in advance."""
        held = self._lease(place)
        return held is not None and held.reserved

    def elsewhere(self, place: Place, person: str, tab: str) -> bool:
        """Whether a person has an image in another tab."""
        held = self._lease(place)
        return held is not None and held.person == person and held.tab not in ("", tab)

    def take(
        self,
        place: Place,
        person: str,
        tab: str = "",
        reserve: bool = False,
        over: bool = False,
    ) -> bool:
        """Take an image, or hold it for longer.

        Args:
            place: Of the image.
            person: Who.
            tab: The page that shows it; '': not known.
            reserve: It is only loaded in advance.
            over: Take it over from somebody who has only reserved it.

        Returns:
            False when somebody else has it.
        """
        held = self._lease(place)
        if held is not None and held.person != person:
            if not (over and held.reserved):
                return False
            held = None
        # What is worked on does not become a reservation, nor loses its tab.
        reserve = reserve and (held is None or held.reserved)
        tab = tab or ("" if held is None else held.tab)
        self._held[place] = Lease(person, tab, self.clock() + self.seconds, reserve)
        return True

    def release(self, place: Place, person: str, tab: str = "") -> None:
        """Give an image back; that of somebody else, or of another tab, stays."""
        if self.holder(place) == person and not (tab and self.elsewhere(place, person, tab)):
            del self._held[place]
