"""Replay against the rules pixel by pixel, and event by event."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regional_al.annotators.replay import OPEN, SEVERAL, VOID, Replay, replay
from regional_al.store.answer_log import Event

SHAPE = (3, 4)
ASKED = st.lists(st.integers(0, 4), min_size=12, max_size=12).map(
    lambda ids: np.array(ids, np.int32).reshape(SHAPE)
)
PAINT = st.lists(st.sampled_from([0, 1, 7, VOID, OPEN]), min_size=12, max_size=12)


def event(person, kind, items=(), classes=(), **more):
    return Event(0, 1, "q", "a", person, kind, tuple(items), tuple(classes), **more)


def png(values):
    data = io.BytesIO()
    Image.fromarray(np.array(values, np.uint8).reshape(SHAPE)).save(data, "PNG")
    return data.getvalue()


@st.composite
def events(draw):
    kind = draw(st.sampled_from(["class", "classes", "void", "paint", "accept", "unsure", "clear"]))
    items = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True))
    classes, paint = (), None
    if kind in ("class", "classes"):
        most = 1 if kind == "class" else 3
        classes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=most, unique=True))
    if kind == "paint":
        items = []
    if kind in ("paint", "accept"):
        paint = png(draw(PAINT))
    person, review = draw(st.sampled_from("abc")), draw(st.booleans())
    ms = 1000 * draw(st.integers(0, 3))
    return event(person, kind, items, classes, paint=paint, review=review, ms=ms)


@dataclass
class ByHand:
    """The rules as they are written down, with dictionaries of pixels and items."""

    asked: np.ndarray
    stands: dict = field(default_factory=dict)  # pixel -> (value, person)
    opinions: dict = field(default_factory=dict)  # (item, person) -> classes
    sets: dict = field(default_factory=dict)
    unsure: set = field(default_factory=set)

    def add(self, one: Event) -> None:
        for item in np.unique(self.asked[self.asked > 0]).tolist():
            if one.items and item not in one.items:
                continue
            pixels = [tuple(p) for p in np.argwhere(self.asked == item).tolist()]
            said = {pixel: self.value(one, pixel) for pixel in pixels}
            said = {pixel: value for pixel, value in said.items() if value != OPEN}
            if not said:
                continue
            others = {self.stands[p][1] for p in said if p in self.stands} - {one.person}
            opening = one.kind in ("unsure", "clear")
            if others and not one.review:
                if opening:
                    self.opinions.pop((item, one.person), None)
                else:
                    self.opinions[item, one.person] = self.opinion(one, list(said.values()))
                continue
            self.sets.pop(item, None)
            self.opinions.pop((item, one.person), None)
            for pixel, value in said.items():
                if opening:
                    self.stands.pop(pixel, None)
                else:
                    self.stands[pixel] = (value, one.person)
            self.unsure.discard(item)
            if one.kind == "unsure":
                self.unsure.add(item)
            if one.kind == "classes" and len(one.classes) > 1:
                self.sets[item] = tuple(sorted(one.classes))

    @staticmethod
    def value(one: Event, pixel: tuple[int, int]) -> int:
        if one.paint is not None:
            return int(np.array(Image.open(io.BytesIO(one.paint)))[pixel])
        if one.kind == "void":
            return VOID
        if one.kind in ("unsure", "clear"):
            return -1
        return one.classes[0] if len(one.classes) == 1 else SEVERAL

    @staticmethod
    def opinion(one: Event, values: list[int]) -> tuple[int, ...]:
        if one.paint is not None:
            return (min(values, key=lambda value: (-values.count(value), value)),)
        return (VOID,) if one.kind == "void" else tuple(sorted(one.classes))


@given(ASKED, st.lists(events(), max_size=10))
@settings(max_examples=300, deadline=None)
def test_replay_follows_the_rules_pixel_by_pixel(asked, given):
    hand = ByHand(asked)
    for one in given:
        hand.add(one)
    now = replay(asked, given)
    for pixel in np.ndindex(SHAPE):
        value, person = hand.stands.get(pixel, (OPEN, None))
        assert now.answer[pixel] == value
        assert (now.people[now.source[pixel]] if now.source[pixel] >= 0 else None) == person
    assert set(now.people) == {person for _, person in hand.stands.values()}
    assert now.sets == hand.sets
    assert now.unsure == hand.unsure
    said = {(i, who): what for i, all_ in now.opinions.items() for who, what in all_}
    assert said == hand.opinions
    assert now.seconds == sum(one.ms for one in given) / 1000


@given(ASKED, st.lists(events(), max_size=8))
@settings(max_examples=100, deadline=None)
def test_adding_events_is_the_same_as_beginning_anew(asked, given):
    """And what was said earlier of the image stays as it was."""
    state, seen = Replay(asked), []
    for count in range(len(given) + 1):
        seen.append(state.standing())
        if count < len(given):
            state.add(given[count])
    for count, then in enumerate(seen):
        now = replay(asked, given[:count])
        for name in vars(now):
            one, other = getattr(then, name), getattr(now, name)
            assert (one == other).all() if isinstance(one, np.ndarray) else one == other, name
        open_ = {int(i): int(((asked == i) & (now.answer == OPEN)).sum()) for i in state.items}
    assert dict(zip(state.items.tolist(), state.open_pixels().tolist(), strict=True)) == open_


def test_a_second_opinion_can_be_taken_back():
    asked = np.array([[1, 1]], np.int32)
    first, second = event("a", "class", [1], [0]), event("b", "class", [1], [2])
    assert replay(asked, [first, second]).opinions == {1: (("b", (2,)),)}
    assert replay(asked, [first, second, event("b", "clear", [1])]).opinions == {}
    # What b says stands once a has taken the answer back: b does not disagree with b.
    now = replay(asked, [first, second, event("a", "clear", [1]), event("b", "class", [1], [3])])
    assert (now.answer.tolist(), now.opinions) == ([[3, 3]], {})


def test_the_time_of_a_painted_map_is_that_of_the_items_in_it():
    asked = np.array([[1, 2, 3, 0]] * 3, np.int32)
    painted = png([[4, OPEN, 5, 6]] * 3)
    now = replay(asked, [event("a", "paint", paint=painted, ms=3000)])
    assert now.item_seconds == {1: 1.5, 3: 1.5}
    assert now.seconds == 3.0
