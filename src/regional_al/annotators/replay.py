"""What stands about an image after the events of the annotation page; pure functions.

Later events of a person replace earlier ones. An event of somebody else about what has an answer is
a second opinion: it is counted and compared, and changes nothing, unless it is a review.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError
from ..store.answer_log import Event
from ..types import I32, U8, Bool

OPEN = 255
"""Not answered, in a map of class indices."""
VOID = 254
"""Answered: no class."""
SEVERAL = 253
"""Answered with the classes of the whole item, of which there is more than one."""


@dataclass(frozen=True)
class Standing:
    """What stands about one image.

    Args:
        answer: uint8 [H, W], class indices, or `OPEN`, `VOID`, `SEVERAL`; `OPEN` where nothing is
            asked.
        source: int32 [H, W], index into `people`, -1 where nothing stands.
        people: Whose answers stand, in the order of their first one.
        sets: Item -> its classes, ascending, of items answered with more than one.
        unsure: Items that somebody was unsure about, which are open.
        skipped: Whether the image was skipped.
        seconds: Spent on the image, second opinions too.
        clicks: Likewise.
        keys: Likewise.
        item_seconds: Seconds spent on each item.
        item_person: Who has answered each item last.
        opinions: Item -> (person, classes) of second opinions; void as (254,).
    """

    answer: U8
    source: I32
    people: tuple[str, ...] = ()
    sets: dict[int, tuple[int, ...]] = field(default_factory=dict)
    unsure: frozenset[int] = frozenset()
    skipped: bool = False
    seconds: float = 0.0
    clicks: int = 0
    keys: int = 0
    item_seconds: dict[int, float] = field(default_factory=dict)
    item_person: dict[int, str] = field(default_factory=dict)
    opinions: dict[int, tuple[tuple[str, tuple[int, ...]], ...]] = field(default_factory=dict)

    def complete(self, asked: I32) -> bool:
        """Whether everything that is asked has an answer."""
        return not bool(((asked > 0) & (self.answer == OPEN)).any())

    def open_items(self, asked: I32) -> list[int]:
        """Items with a pixel without an answer, ascending."""
        return [int(i) for i in np.unique(asked[(asked > 0) & (self.answer == OPEN)])]


def replay(asked: I32, events: Sequence[Event]) -> Standing:
    """What stands after some events.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.
        events: About this image in this round, oldest first.

    Returns:
        The state of the image. The time of an event about n items counts 1/n for each.

    Raises:
        DataError: A painted map that cannot be read, or of another size.

    Example:
        >>> asked = np.array([[1, 1, 2]], np.int32)
        >>> ada = Event(1, 1, "q", "a", "ada", "class", (1,), (7,), ms=500)
        >>> bob = Event(2, 1, "q", "a", "bob", "class", (1,), (3,))
        >>> now = replay(asked, [ada, bob])
        >>> now.answer.tolist(), now.people, now.opinions
        ([[7, 7, 255]], ('ada',), {1: (('bob', (3,)),)})
    """
    return _Replay(asked).run(events)


class _Replay:
    """The state while events are applied."""

    def __init__(self, asked: I32) -> None:
        self.asked = asked
        self.answer: U8 = np.full(asked.shape, OPEN, np.uint8)
        self.source: I32 = np.full(asked.shape, -1, np.int32)
        self.people: list[str] = []
        self.sets: dict[int, tuple[int, ...]] = {}
        self.unsure: set[int] = set()
        self.item_seconds: dict[int, float] = {}
        self.item_person: dict[int, str] = {}
        self.opinions: dict[int, dict[str, tuple[int, ...]]] = {}
        self.skipped = False

    def run(self, events: Sequence[Event]) -> Standing:
        for event in events:
            self._time(event)
            if event.kind in ("skip", "unskip"):
                self.skipped = event.kind == "skip"
            else:
                self._apply(event)
        there = [i for i in range(len(self.people)) if (self.source == i).any()]
        table = np.full(len(self.people) + 1, -1, np.int32)  # the last one for -1
        table[there] = np.arange(len(there))
        return Standing(
            answer=self.answer,
            source=table[self.source],
            people=tuple(self.people[i] for i in there),
            sets=dict(sorted(self.sets.items())),
            unsure=frozenset(self.unsure),
            skipped=self.skipped,
            seconds=sum(event.ms for event in events) / 1000,
            clicks=sum(event.clicks for event in events),
            keys=sum(event.keys for event in events),
            item_seconds=self.item_seconds,
            item_person=self.item_person,
            opinions={item: tuple(given.items()) for item, given in sorted(self.opinions.items())},
        )

    def _time(self, event: Event) -> None:
        for item in event.items:
            spent = event.ms / 1000 / len(event.items)
            self.item_seconds[item] = self.item_seconds.get(item, 0.0) + spent

    def _apply(self, event: Event) -> None:
        values = self._values(event)
        about = (self.asked > 0) & (values != OPEN)
        if event.kind in ("unsure", "clear"):
            about = np.isin(self.asked, event.items) & (self.asked > 0)
        mine = self._free_for(event, about)
        if event.kind in ("unsure", "clear"):
            self._open(event, mine)
            return
        self._second_opinions(event, values, about & ~mine)
        if not mine.any():
            return
        if event.person not in self.people:
            self.people.append(event.person)
        self.answer[mine] = values[mine]
        self.source[mine] = self.people.index(event.person)
        several = event.kind == "classes" and len(set(event.classes)) > 1
        for item in np.unique(self.asked[mine]).tolist():
            self.sets.pop(item, None)
            if several:
                self.sets[item] = tuple(sorted(set(event.classes)))
            self.unsure.discard(item)
            self.item_person[item] = event.person

    def _values(self, event: Event) -> U8:
        """uint8 [H, W]: what an event answers, `OPEN` elsewhere."""
        if event.paint is not None:
            values = decode(event.paint, self.asked.shape)
            if event.items:
                values = np.where(np.isin(self.asked, event.items), values, np.uint8(OPEN))
            return values
        value = OPEN
        if event.kind == "void":
            value = VOID
        elif event.kind in ("class", "accept", "classes") and event.classes:
            value = event.classes[0] if len(set(event.classes)) == 1 else SEVERAL
        here = np.isin(self.asked, event.items) & (self.asked > 0)
        return np.where(here, np.uint8(value), np.uint8(OPEN))

    def _free_for(self, event: Event, about: Bool) -> Bool:
        """Pixels that the event may change: a review all, else those without somebody else's
        answer. An item of which somebody else has answered a part is theirs as a whole."""
        if event.review or not about.any():
            return about
        me = self.people.index(event.person) if event.person in self.people else -1
        theirs = (self.source >= 0) & (self.source != me)
        return about & ~np.isin(self.asked, np.unique(self.asked[theirs & about]))

    def _open(self, event: Event, mine: Bool) -> None:
        self.answer[mine], self.source[mine] = OPEN, -1
        for item in np.unique(self.asked[mine]).tolist():
            self.sets.pop(item, None)
            self.item_person.pop(item, None)
            if event.kind == "unsure":
                self.unsure.add(item)
            else:
                self.unsure.discard(item)

    def _second_opinions(self, event: Event, values: U8, theirs: Bool) -> None:
        for item in np.unique(self.asked[theirs]).tolist():
            classes = tuple(sorted(set(event.classes)))
            if event.kind == "void":
                classes = (VOID,)
            elif event.paint is not None:
                classes = (int(np.bincount(values[theirs & (self.asked == item)]).argmax()),)
            self.opinions.setdefault(item, {})[event.person] = classes


def decode(data: bytes, shape: tuple[int, ...]) -> U8:
    """A painted map: uint8 [H, W] from an 8-bit grey PNG.

    Args:
        data: The file.
        shape: (H, W) that it must have.

    Raises:
        DataError: It is no such PNG, or has another size.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if (image.height, image.width) != tuple(shape):
                raise DataError(
                    f"a painted map is {image.height}x{image.width} (height x width), its image "
                    f"{shape[0]}x{shape[1]}"
                )
            if image.mode not in ("L", "P"):
                raise DataError(f"a painted map has mode {image.mode!r}, not 8 bits of grey")
            return np.array(image, dtype=np.uint8)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"a painted map cannot be read: {error}") from None
