"""What stands about an image after the events of the annotation page; pure functions.

Later events of a person replace earlier ones. An event of somebody else about what has an answer is
a second opinion: it is counted and compared, and changes nothing, unless it is a review.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..store.answer_log import Event
from ..store.images import open_image
from ..types import I32, I64, U8, Bool

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


class ItemPixels(NamedTuple):
    """The pixels of each item of an image.

    Args:
        items: int64 [k], numbers of the items, ascending.
        starts: int64 [k], where the pixels of each begin in `places`.
        places: int64 [n], flat positions of all pixels that are asked, item by item, ascending.
    """

    items: I64
    starts: I64
    places: I64


def item_pixels(asked: I32) -> ItemPixels:
    """Find the pixels of each item.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.

    Example:
        >>> found = item_pixels(np.array([[2, 1], [0, 2]], np.int32))
        >>> found.items.tolist(), found.starts.tolist(), found.places.tolist()
        ([1, 2], [0, 1], [1, 0, 3])
    """
    flat = asked.ravel()
    places = np.flatnonzero(flat > 0)
    numbers = flat[places]
    if numbers.max(initial=0) < 1 << 16:
        numbers = numbers.astype(np.uint16)  # sorted by radix, several times faster
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    first = np.ones(numbers.size, np.bool_)
    first[1:] = numbers[1:] != numbers[:-1]
    starts = np.flatnonzero(first)
    return ItemPixels(numbers[starts].astype(np.int64), starts, places[order])


def replay(asked: I32, events: Iterable[Event]) -> Standing:
    """What stands after some events.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.
        events: About this image in this round, oldest first.

    Returns:
        The state of the image. The time of an event about n items counts 1/n for each; a painted
        map is about the items that it answers a pixel of.

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
    state = Replay(asked)
    for event in events:
        state.add(event)
    return state.standing()


class Replay:
    """What stands about one image while events are added. An event costs as much time as what it
    is about has pixels, however many came before it.

    Args:
        asked: int32 [H, W], 0 = not asked, i = item i.

    Example:
        >>> state = Replay(np.array([[1, 1, 2]], np.int32))
        >>> state.add(Event(1, 1, "q", "a", "ada", "class", (1,), (7,)))
        >>> state.open_pixels().tolist(), state.standing().answer.tolist()
        ([0, 1], [[7, 7, 255]])
    """

    def __init__(self, asked: I32) -> None:
        self.shape = asked.shape
        self.found = item_pixels(asked)
        # What is said of the pixels has the order of `found.places`.
        self.items, self._starts, self._places = self.found
        starts = self._starts.tolist()
        ends = [*starts, self._places.size][1:]
        self._parts = {
            item: slice(first, end)
            for item, first, end in zip(self.items.tolist(), starts, ends, strict=True)
        }
        self._answer: U8 = np.full(self._places.size, OPEN, np.uint8)
        self._source: I32 = np.full(self._places.size, -1, np.int32)
        self._people: list[str] = []
        self._sets: dict[int, tuple[int, ...]] = {}
        self._item_person: dict[int, str] = {}
        self._opinions: dict[int, dict[str, tuple[int, ...]]] = {}
        self._item_seconds: dict[int, float] = {}
        self._ms = self._clicks = self._keys = 0
        self.unsure: set[int] = set()
        """Items that somebody was unsure about, which are open."""
        self.skipped = False
        """Whether the image was skipped."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        arrays = (self.items, self._places, self._starts, self._answer, self._source)
        return sum(array.nbytes for array in arrays)

    @property
    def pixels(self) -> int:
        """Pixels that are asked."""
        return int(self._places.size)

    def open_pixels(self) -> I64:
        """int64 [n]: pixels of each of `items` without an answer."""
        return self._counts(self._answer == OPEN)

    def _counts(self, where: Bool) -> I64:
        """int64 [n]: how many pixels of each item are set."""
        if not self.items.size:
            return np.zeros(0, np.int64)
        return np.add.reduceat(where.astype(np.int64), self._starts)

    def add(self, event: Event) -> None:
        """Apply the next event. Raises DataError for a painted map that cannot be."""
        if event.kind in ("skip", "unskip"):
            self.skipped = event.kind == "skip"
            items: Sequence[int] = ()
        else:
            items = self._apply(event)
        self._ms += event.ms
        self._clicks += event.clicks
        self._keys += event.keys
        for item in items:
            spent = event.ms / 1000 / len(items)
            self._item_seconds[item] = self._item_seconds.get(item, 0.0) + spent

    def standing(self) -> Standing:
        """What stands now; later events do not change it."""
        there = np.unique(self._source[self._source >= 0])
        table = np.full(len(self._people) + 1, -1, np.int32)  # the last one for -1
        table[there] = np.arange(there.size)
        answer = np.full(self.shape, OPEN, np.uint8)
        answer.ravel()[self._places] = self._answer
        source = np.full(self.shape, -1, np.int32)
        source.ravel()[self._places] = table[self._source]
        return Standing(
            answer=answer,
            source=source,
            people=tuple(self._people[i] for i in there.tolist()),
            sets=dict(sorted(self._sets.items())),
            unsure=frozenset(self.unsure),
            skipped=self.skipped,
            seconds=self._ms / 1000,
            clicks=self._clicks,
            keys=self._keys,
            item_seconds=dict(self._item_seconds),
            item_person=dict(self._item_person),
            opinions={item: tuple(said.items()) for item, said in sorted(self._opinions.items())},
        )

    def _apply(self, event: Event) -> Sequence[int]:
        """Change what an event is about. Returns the items."""
        painted = None
        if event.paint is not None:
            painted = decode(event.paint, self.shape).ravel()[self._places]
        items: Sequence[int] = tuple(dict.fromkeys(i for i in event.items if i in self._parts))
        if painted is not None and not event.items:
            items = self.items[self._counts(painted != OPEN) > 0].tolist()
        me = self._people.index(event.person) if event.person in self._people else -1
        opening = event.kind in ("unsure", "clear")
        for item in items:
            part = self._parts[item]
            values = np.uint8(_value(event)) if painted is None else painted[part]
            about: Bool = np.broadcast_to(values != OPEN, (part.stop - part.start,))
            if opening:
                about = np.ones_like(about)
            if not about.any():
                continue
            source = self._source[part]
            # An item of which somebody else has answered a part that this is about is theirs.
            theirs = not event.review and bool(((source >= 0) & (source != me) & about).any())
            if opening:
                self._open(item, event, theirs)
            elif theirs:
                self._opinions.setdefault(item, {})[event.person] = _opinion(event, values, about)
            else:
                if me < 0:
                    me = len(self._people)
                    self._people.append(event.person)
                self._answer[part][about] = np.broadcast_to(values, about.shape)[about]
                self._source[part][about] = me
                self._settle(item, event)
        return items

    def _settle(self, item: int, event: Event) -> None:
        """An event stands in an item now."""
        self._sets.pop(item, None)
        if event.kind == "classes" and len(set(event.classes)) > 1:
            self._sets[item] = tuple(sorted(set(event.classes)))
        self.unsure.discard(item)
        self._item_person[item] = event.person
        self._withdraw(item, event.person)

    def _open(self, item: int, event: Event, theirs: bool) -> None:
        self._withdraw(item, event.person)
        if theirs:
            return
        self._answer[self._parts[item]], self._source[self._parts[item]] = OPEN, -1
        self._sets.pop(item, None)
        self._item_person.pop(item, None)
        if event.kind == "unsure":
            self.unsure.add(item)
        else:
            self.unsure.discard(item)

    def _withdraw(self, item: int, person: str) -> None:
        """Forget the second opinion of a person."""
        said = self._opinions.get(item)
        if said is not None and said.pop(person, None) is not None and not said:
            del self._opinions[item]


def _value(event: Event) -> int:
    """The class index, or `OPEN`, `VOID`, `SEVERAL`, that an event without a map gives items."""
    if event.kind == "void":
        return VOID
    if event.kind in ("class", "accept", "classes") and event.classes:
        return event.classes[0] if len(set(event.classes)) == 1 else SEVERAL
    return OPEN


def _opinion(event: Event, values: U8 | np.uint8, about: Bool) -> tuple[int, ...]:
    """The classes of a second opinion: of a painted map the one that covers most."""
    if event.paint is not None:
        return (int(np.bincount(np.broadcast_to(values, about.shape)[about]).argmax()),)
    return (VOID,) if event.kind == "void" else tuple(sorted(set(event.classes)))


def decode(data: bytes, shape: tuple[int, ...]) -> U8:
    """A painted map: uint8 [H, W] from an 8-bit grey PNG.

    Args:
        data: The file.
        shape: (H, W) that it must have.

    Raises:
        DataError: It is no such PNG, or has another size.
    """
    with open_image(Path("a painted map"), data) as image:
        if image.format != "PNG":
            raise DataError(f"a painted map is a {image.format}, not a PNG")
        if (image.height, image.width) != tuple(shape):
            raise DataError(
                f"a painted map is {image.height}x{image.width} (height x width), its image "
                f"{shape[0]}x{shape[1]}"
            )
        if image.mode not in ("L", "P"):
            raise DataError(f"a painted map has mode {image.mode!r}, not 8 bits of grey")
        return np.array(image, dtype=np.uint8)
