"""What a round has cost: by class and by kind of region, and where people and model differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ..annotators.replay import VOID
from ..types import JSON
from .images import classes_of
from .rounds import Round, share, size_name

SLOWEST = 20


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
        return {"items": self.items, "seconds": round(self.seconds, 3), "seconds_per_item": each}


@dataclass
class _Sums:
    classes: dict[int, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    sizes: dict[str, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    slowest: list[tuple[float, str, int]] = field(default_factory=list)


def summary(round_: Round, names: Sequence[str], lock: AbstractContextManager[Any]) -> JSON:
    """Seconds, agreement with the model and between people, by class and by size of region.

    An item counts for the class that stands in most of it. Two people agree on an item when they
    have given the same classes.

    Args:
        round_: A round.
        names: Of the classes.
        lock: Held while one image is looked at, so that answers do not wait for all of them.

    Returns:
        classes, sizes and slowest, JSON-able.
    """
    sums = _Sums()
    for key in round_.keys:
        with lock:
            if round_.progress[key].people:
                _add_image(sums, round_, key)
    classes = []
    for index, tally in sorted(sums.classes.items()):
        name = "void" if index == VOID else names[index]
        more = {
            "agree_with_model": share(tally.same_as_model, tally.predicted),
            "agreement": share(tally.same, tally.pairs),
            "pairs": tally.pairs,
        }
        classes.append({"index": index, "name": name, **tally.json(), **more})
    slowest = sorted(sums.slowest, key=lambda one: (-one[0], one[1:]))[:SLOWEST]
    return {
        "round": round_.number,
        "classes": classes,
        "sizes": [{"name": name, **tally.json()} for name, tally in sums.sizes.items()],
        "slowest": [{"key": key, "i": i, "seconds": round(s, 3)} for s, key, i in slowest],
    }


def _add_image(sums: _Sums, round_: Round, key: str) -> None:
    image, standing = round_.image(key), round_.standing(key)
    for row in range(image.items.size):
        item = int(image.items[row])
        stands = classes_of(image, standing, row)
        if not stands:
            continue
        seconds = standing.item_seconds.get(item, 0.0)
        tally = sums.classes[stands[0]]
        for one in (tally, sums.sizes[size_name(int(image.pixels[row]))]):
            one.items += 1
            one.seconds += seconds
        guess = int(image.guesses[row])
        if guess >= 0:
            tally.predicted += 1
            tally.same_as_model += guess in stands
        for _, classes in standing.opinions.get(item, ()):
            tally.pairs += 1
            tally.same += sorted(classes) == sorted(stands)
        if seconds:
            sums.slowest.append((seconds, key, item))
    sums.slowest.sort(reverse=True)
    del sums.slowest[SLOWEST:]
