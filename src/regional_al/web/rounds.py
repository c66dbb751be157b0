"""One round of a run as the server sees it: what is asked, what stands, and how far people are."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..annotators.asked import AskedImage, asked_image, read_prediction
from ..annotators.replay import Replay, Standing
from ..errors import DataError
from ..store.answer_log import KINDS, AnswerLog, Event
from ..store.image_paths import read_image_paths
from ..store.query import Query, query_hash
from ..store.work_dir import WorkDir
from ..types import I32, I64, JSON

KEPT_BYTES = 256 << 20
"""Memory for images that a round has looked at; one is kept in any case."""
RECENT = 200
"""Events that tell how fast people are."""
COUNTED = tuple(kind for kind in KINDS if kind not in ("clear", "skip", "unskip"))


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
        alone: Who has answered items about which nobody else has said anything.
    """

    items: int
    answered: int = 0
    unsure: int = 0
    pixels: int = 0
    pixels_done: int = 0
    skipped: bool = False
    people: tuple[str, ...] = ()
    alone: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        return self.pixels_done >= self.pixels

    def totals(self) -> JSON:
        """What it adds to the totals of the round."""
        return {
            "images": 1,
            "images_done": int(self.complete),
            "images_skipped": int(self.skipped and not self.complete),
            "items": self.items,
            "items_done": self.answered,
            "items_unsure": self.unsure,
            "pixels": self.pixels,
            "pixels_done": self.pixels_done,
        }


@dataclass
class _Seen:
    """An image in memory, with the events up to `last`; what is not needed yet is None."""

    asked: I32
    replay: Replay
    last: int = 0
    standing: Standing | None = None
    image: AskedImage | None = None

    @property
    def nbytes(self) -> int:
        """At most, with what is not needed yet: 4 bytes a pixel asked, 5 what stands, 1
        predicted."""
        return 10 * self.asked.size + self.replay.nbytes


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
    _totals: Counter[str] = field(default_factory=Counter)
    _seen: OrderedDict[str, _Seen] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.number = self.query.info.round
        self.hash = query_hash(self.query)
        self.keys = self.query.image_keys()
        self.paths = read_image_paths(self.files.images(self.number))
        for key in self.keys:
            picks = self.query.items(key)
            self._set_progress(key, Progress(len(picks), pixels=int(picks["pixels"].sum())))
        for key in sorted(self.log.keys(self.number)):
            if key in self.progress:
                self._count_again(key)
        self.recent: deque[tuple[int, int]] = deque(maxlen=RECENT)
        self.look_at_pace()

    def check_key(self, key: str) -> str:
        """The key of an image of this round. Raises DataError for any other text."""
        if key not in self.progress:
            raise DataError(f"round {self.number} does not ask about {key[:200]!r}")
        return key

    def image(self, key: str) -> AskedImage:
        """What is asked in an image."""
        seen = self._look(key)
        if seen.image is None:
            path = self.files.predictions(self.number) / f"{key}.png"
            shape = (int(seen.asked.shape[0]), int(seen.asked.shape[1]))
            predicted = read_prediction(path, shape, self.classes)
            seen.image = asked_image(key, seen.asked, predicted, seen.replay.found)
        return seen.image

    def _look(self, key: str) -> _Seen:
        """An image; the last few stay in memory."""
        seen = self._seen.pop(self.check_key(key), None)
        if seen is None:
            asked = self.query.asked(key)
            seen = _Seen(asked, Replay(asked))
        self._seen[key] = seen
        while len(self._seen) > 1 and sum(one.nbytes for one in self._seen.values()) > KEPT_BYTES:
            self._seen.popitem(last=False)
        return seen

    def standing(self, key: str) -> Standing:
        """What stands in one image, after the events of this query."""
        seen = self._look(key)
        for event in self.log.events(round=self.number, key=key, after=seen.last):
            if event.query == self.hash:
                seen.replay.add(event)
            seen.last, seen.standing = event.id, None
        if seen.standing is None:
            seen.standing = seen.replay.standing()
        return seen.standing

    def last_event(self, key: str) -> int:
        """Number of the last event about an image; 0: there is none."""
        self.standing(key)
        return self._look(key).last

    def forget(self, key: str) -> None:
        """Begin an image anew: an event of it was undone."""
        self._seen.pop(key, None)
        self.look_at_pace()

    def update(self, key: str) -> Standing:
        """Look at an image again after an event."""
        standing = self.standing(key)
        replay = self._look(key).replay
        self._set_progress(key, progress_of(replay, standing, replay.open_pixels(), replay.pixels))
        return standing

    def _count_again(self, key: str) -> None:
        """The progress of an image after a restart. The map of what is asked is read for painted
        answers alone: any other is about whole items, and the query knows how large they are."""
        events = [e for e in self.log.events(self.number, key) if e.query == self.hash]
        if any(event.paint is not None for event in events):
            self.update(key)
            return
        sizes = self.query.items(key)["pixels"].astype(np.int64)
        there = np.flatnonzero(sizes > 0)
        replay = Replay((there[None] + 1).astype(np.int32))  # a pixel for each item
        for event in events:
            replay.add(event)
        left = replay.open_pixels() * sizes[there]
        self._set_progress(key, progress_of(replay, replay.standing(), left, int(sizes.sum())))

    def _set_progress(self, key: str, now: Progress) -> None:
        before = self.progress.get(key)
        if before is not None:
            self._totals.subtract(before.totals())
        self._totals.update(now.totals())
        self.progress[key] = now

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
            return "open" if now.answered + now.unsure < now.items else "unsure"
        return "second" if self.twice(key) and now.alone - {person} else None

    def order(self, person: str, after: str | None) -> Iterator[tuple[str, str]]:
        """(key, why) of the images for a person: open ones in the order of the query, beginning
        after one of them, then second opinions, then those that are only unsure."""
        start = self.keys.index(after) + 1 if after in self.progress else 0
        turned = [*self.keys[start:], *self.keys[:start]]
        wanted = [(key, why) for key in turned if (why := self.wants(key, person)) is not None]
        for which in ("open", "second", "unsure"):
            yield from ((key, why) for key, why in wanted if why == which)

    def opinions_due(self) -> bool:
        """Whether a second opinion that was asked for is missing."""
        return self.overlap > 0 and any(
            now.alone and not now.skipped and self.twice(key) for key, now in self.progress.items()
        )

    def totals(self) -> JSON:
        """How far people are with the round."""
        return {name: int(self._totals[name]) for name in Progress(0).totals()}

    def count(self, event: Event) -> None:
        """Take an event into the pace."""
        if event.kind in COUNTED and event.ms > 0:
            items = len(event.items) or self.progress[event.key].items
            self.recent.append((items, event.ms))

    def look_at_pace(self) -> None:
        """Read the last events again."""
        self.recent.clear()
        for event in reversed(self.log.recent(RECENT, round=self.number, kinds=COUNTED)):
            if event.query == self.hash and event.key in self.progress:
                self.count(event)

    def path(self, key: str) -> Path:
        """The file of an image. Raises DataError when it is not known or gone."""
        path = self.paths.get(self.check_key(key))
        if path is None or not path.is_file():
            raise DataError(
                f"the image of {key!r} is not at {path}: resume the run once, so that it says "
                "where its images are"
            )
        return path


def progress_of(replay: Replay, standing: Standing, left: I64, pixels: int) -> Progress:
    """How far people are with one image.

    Args:
        replay: Of its events.
        standing: What stands after them.
        left: int64 [n], pixels of each of `replay.items` without an answer.
        pixels: That are asked.
    """
    open_ = set(replay.items[left > 0].tolist())
    alone = {who for i, who in standing.item_person.items() if i not in standing.opinions}
    second = {who for given in standing.opinions.values() for who, _ in given}
    return Progress(
        items=replay.items.size,
        answered=replay.items.size - len(open_),
        unsure=len(open_ & standing.unsure),
        pixels=pixels,
        pixels_done=pixels - int(left.sum()),
        skipped=standing.skipped,
        people=tuple(dict.fromkeys([*standing.people, *sorted(second)])),
        alone=frozenset(alone),
    )


def pace(recent: Iterable[tuple[int, int]], left: int) -> JSON:
    """How fast people answer, from the time that they have spent.

    Args:
        recent: Items and milliseconds of the last answers.
        left: Items that are open.

    Returns:
        items_per_minute and seconds_left; None while nobody has answered.

    Example:
        >>> pace([(2, 4000)], left=30)
        {'items_per_minute': 30.0, 'seconds_left': 60.0}
    """
    counted = list(recent)
    seconds = sum(ms for _, ms in counted) / 1000
    items = sum(number for number, _ in counted)
    if not items or seconds <= 0:
        return {"items_per_minute": None, "seconds_left": None}
    return {
        "items_per_minute": round(60 * items / seconds, 1),
        "seconds_left": round(left * seconds / items, 1),
    }
