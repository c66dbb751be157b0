"""What answers have cost: by class and by kind of region, and where people and model differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..types import JSON
from .asked import AskedImage, classes_of
from .replay import VOID, Standing

SLOWEST = 20
SIZES = ((2, "1 pixel"), (100, "2 to 99"), (1000, "100 to 999"))
"""Below how many pixels a region is of a kind."""
LARGE = "1000 or more"


@dataclass
class _Tally:
    items: int = 0
    seconds: float = 0.0
    same_as_model: int = 0
    predicted: int = 0
    same: int = 0
    pairs: int = 0

    def json(self) -> JSON:
        each = round(self.seconds / self.items, 3) if self.items else None
        return {
            "items": self.items,
            "seconds": round(self.seconds, 3),
            "seconds_per_item": each,
            "agree_with_model": share(self.same_as_model, self.predicted),
            "agreement": share(self.same, self.pairs),
            "pairs": self.pairs,
        }


@dataclass
class Summary:
    """Seconds, agreement with the model and between people, by class and by size of region.

    An item counts for the class that stands in most of it. Two people agree on an item when they
    have given the same classes.

    Example:
        >>> from regional_al.annotators.asked import asked_image
        >>> from regional_al.annotators.replay import Replay
        >>> from regional_al.store.answer_log import Event
        >>> asked = np.array([[1, 1, 0]], np.int32)
        >>> replay = Replay(asked)
        >>> replay.add(Event(1, 0, "q", "a", "ada", "class", (1,), (0,), ms=1500))
        >>> found = Summary()
        >>> found.add(asked_image("a", asked, None), replay.standing())
        >>> [(one["name"], one["seconds"]) for one in found.json(["road"])["classes"]]
        [('road', 1.5)]
    """

    classes: dict[int, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    sizes: dict[str, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    slowest: list[tuple[float, str, int]] = field(default_factory=list)

    def add(self, image: AskedImage, standing: Standing) -> None:
        """Count the items of one image.

        Args:
            image: What is asked in it.
            standing: What has been answered.
        """
        for row in range(image.items.size):
            item = int(image.items[row])
            stands = classes_of(image, standing, row)
            if not stands:
                continue
            seconds, guess = standing.item_seconds.get(item, 0.0), int(image.guesses[row])
            others = [sorted(given) for _, given in standing.opinions.get(item, ())]
            for tally in (
                self.classes[stands[0]],
                self.sizes[size_name(int(image.pixels[row]))],
            ):
                tally.items += 1
                tally.seconds += seconds
                tally.predicted += guess >= 0
                tally.same_as_model += guess in stands
                tally.pairs += len(others)
                tally.same += others.count(sorted(stands))
            if seconds:
                self.slowest.append((seconds, image.key, item))
        self.slowest.sort(key=lambda one: (-one[0], one[1:]))
        del self.slowest[SLOWEST:]

    def json(self, names: Sequence[str]) -> JSON:
        """classes (void last), sizes (ascending) and slowest, JSON-able.

        Args:
            names: Of the classes.
        """
        classes = [
            {"index": index, "name": "void" if index == VOID else names[index], **tally.json()}
            for index, tally in sorted(self.classes.items())
        ]
        order = [*(name for _, name in SIZES), LARGE]
        sizes = [{"name": n, **self.sizes[n].json()} for n in order if n in self.sizes]
        slowest = [{"key": key, "i": i, "seconds": round(s, 3)} for s, key, i in self.slowest]
        return {"classes": classes, "sizes": sizes, "slowest": slowest}


def size_name(pixels: int) -> str:
    """The kind of a region by its size.

    Example:
        >>> size_name(1), size_name(9), size_name(2500)
        ('1 pixel', '2 to 99', '1000 or more')
    """
    return next((name for limit, name in SIZES if pixels < limit), LARGE)


def share(part: int, whole: int) -> float | None:
    """part / whole; None of nothing."""
    return None if not whole else float(np.round(part / whole, 4))
