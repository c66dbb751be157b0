"""One round of a run as the server sees it: what is asked, what stands, and how far people are."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..annotators.replay import OPEN, Standing, replay
from ..errors import DataError
from ..store.answer_log import AnswerLog, Event
from ..store.image_paths import read_image_paths
from ..store.query import Query, query_hash
from ..store.work_dir import WorkDir
from ..types import JSON
from .images import AskedImage, asked_image, read_prediction

KEPT = 12
"""Images that a round keeps in memory."""


@dataclass
class Progress:
    """How far people are with one image.

    Args:
        items: That are asked.
        answered: Of them.
        unsure: Of those that are open.
        pixels: That are asked.
        pixels_done: Of them.
        skipped: Whether it was skipped.
        people: Who has answered, or given a second opinion.
        second: Who has given an opinion on every item.
    """

    items: int
    answered: int = 0
    unsure: int = 0
    pixels: int = 0
    pixels_done: int = 0
    skipped: bool = False
    people: tuple[str, ...] = ()
    second: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.pixels_done >= self.pixels


@dataclass
class Round:
    """What one round asks, and what has been answered.

    Args:
        files: Of the run.
        query: Of the round.
        log: Of the answers.
        classes: Number of classes.
        overlap: Share of the images that two people answer, 0..1.
    """

    files: WorkDir
    query: Query
    log: AnswerLog
    classes: int
    overlap: float = 0.0
    progress: dict[str, Progress] = field(default_factory=dict)
    _images: OrderedDict[str, AskedImage] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.number = self.query.info.round
        self.hash = query_hash(self.query)
        self.keys = self.query.image_keys()
        self.paths = read_image_paths(self.files.images(self.number))
        for key in self.keys:
            picks = self.query.items(key)
            self.progress[key] = Progress(len(picks), pixels=int(picks["pixels"].sum()))
        for key in {event.key for event in self.log.events(round=self.number)}:
            if key in self.progress:
                self.update(key)

    def check_key(self, key: str) -> str:
        """The key of an image of this round. Raises DataError for any other text."""
        if key not in self.progress:
            raise DataError(f"round {self.number} does not ask about {key[:200]!r}")
        return key

    def image(self, key: str) -> AskedImage:
        """What is asked in an image; the last few are kept."""
        self.check_key(key)
        found = self._images.pop(key, None)
        if found is None:
            asked = self.query.asked(key)
            path = self.files.predictions(self.number) / f"{key}.png"
            shape = (int(asked.shape[0]), int(asked.shape[1]))
            found = asked_image(key, asked, read_prediction(path, shape, self.classes))
        self._images[key] = found
        while len(self._images) > KEPT:
            self._images.popitem(last=False)
        return found

    def events(self, key: str) -> list[Event]:
        """Of one image, oldest first, of this query alone."""
        return [e for e in self.log.events(round=self.number, key=key) if e.query == self.hash]

    def standing(self, key: str) -> Standing:
        """What stands in one image."""
        return replay(self.image(key).asked, self.events(key))

    def update(self, key: str) -> Standing:
        """Look at an image again after an event."""
        image, standing = self.image(key), self.standing(key)
        open_ = standing.open_items(image.asked)
        unsure = sum(item in standing.unsure for item in open_)
        asked = image.asked > 0
        second = {person for given in standing.opinions.values() for person, _ in given}
        all_items = set(image.items.tolist())
        full = [
            person
            for person in sorted(second)
            if all_items
            <= {i for i, given in standing.opinions.items() if person in dict(given)}
            | {i for i, who in standing.item_person.items() if who == person}
        ]
        self.progress[key] = Progress(
            items=image.items.size,
            answered=image.items.size - len(open_),
            unsure=unsure,
            pixels=int(asked.sum()),
            pixels_done=int((asked & (standing.answer != OPEN)).sum()),
            skipped=standing.skipped,
            people=tuple(dict.fromkeys([*standing.people, *sorted(second)])),
            second=tuple(full),
        )
        return standing

    def twice(self, key: str) -> bool:
        """Whether two people answer an image: the same images after a restart."""
        digest = hashlib.blake2b(f"{self.hash} {key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 < self.overlap

    def wants(self, key: str, person: str) -> str | None:
        """Why an image is for a person: 'open', 'unsure' or 'second'; None: it is not."""
        now = self.progress[key]
        if now.skipped:
            return None
        if not now.complete:
            if now.answered + now.unsure < now.items:
                return "open"
            return "unsure"
        others = [name for name in now.people if name != person]
        if self.twice(key) and others and len(now.people) < 2:
            return "second"
        if self.twice(key) and others and person in now.people and person not in now.second:
            return None if self._mine(key, person) else "second"
        return None

    def _mine(self, key: str, person: str) -> bool:
        """Whether a person has answered everything in an image as the first one."""
        return set(self.standing(key).item_person.values()) <= {person}

    def order(self, person: str, after: str | None) -> Iterator[tuple[str, str]]:
        """(key, why) of the images for a person: open ones in the order of the query, beginning
        after one of them, then second opinions, then those that are only unsure."""
        start = self.keys.index(after) + 1 if after in self.progress else 0
        turned = [*self.keys[start:], *self.keys[:start]]
        wanted = [(key, why) for key in turned if (why := self.wants(key, person)) is not None]
        for which in ("open", "second", "unsure"):
            yield from ((key, why) for key, why in wanted if why == which)

    def totals(self) -> JSON:
        """How far people are with the round."""
        all_ = self.progress.values()
        return {
            "images": len(self.keys),
            "images_done": sum(one.complete for one in all_),
            "images_skipped": sum(one.skipped and not one.complete for one in all_),
            "items": sum(one.items for one in all_),
            "items_done": sum(one.answered for one in all_),
            "items_unsure": sum(one.unsure for one in all_),
            "pixels": sum(one.pixels for one in all_),
            "pixels_done": sum(one.pixels_done for one in all_),
        }

    def path(self, key: str) -> Path:
        """The file of an image. Raises DataError when it is not known or gone."""
        path = self.paths.get(self.check_key(key))
        if path is None or not path.is_file():
            raise DataError(
                f"the image of {key!r} is not at {path}: resume the run once, so that it says "
                "where its images are"
            )
        return path


def pace(events: list[Event], left: int, recent: int = 200) -> JSON:
    """How fast people answer, from the time that they have spent.

    Args:
        events: Of a round.
        left: Items that are open.
        recent: Events that count, the last ones.

    Returns:
        items_per_minute and seconds_left; None while nobody has answered.

    Example:
        >>> one = Event(1, 0, "q", "a", "ada", "class", (1, 2), (0,), ms=4000)
        >>> pace([one], left=30)
        {'items_per_minute': 30.0, 'seconds_left': 60.0}
    """
    counted = [e for e in events if e.items and e.kind != "clear" and e.ms > 0][-recent:]
    seconds = sum(event.ms for event in counted) / 1000
    items = sum(len(event.items) for event in counted)
    if not items or seconds <= 0:
        return {"items_per_minute": None, "seconds_left": None}
    return {
        "items_per_minute": round(60 * items / seconds, 1),
        "seconds_left": round(left * seconds / items, 1),
    }


def size_name(pixels: int) -> str:
    """The kind of a region by its size.

    Example:
        >>> size_name(1), size_name(9), size_name(2500)
        ('1 pixel', '2 to 99', '1000 or more')
    """
    for limit, name in ((2, "1 pixel"), (100, "2 to 99"), (1000, "100 to 999")):
        if pixels < limit:
            return name
    return "1000 or more"


def share(part: int, whole: int) -> float | None:
    """part / whole; None of nothing."""
    return None if not whole else float(np.round(part / whole, 4))
