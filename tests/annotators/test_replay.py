"""What stands after the events of the annotation page."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regional_al.annotators.replay import OPEN, SEVERAL, VOID, decode, replay
from regional_al.errors import DataError
from regional_al.store.answer_log import Event

ASKED = np.array([[1, 1, 2, 2], [0, 3, 3, 0]], np.int32)
_ = OPEN


def event(person, kind, items=(), classes=(), **more):
    return Event(0, 1, "q", "a", person, kind, tuple(items), tuple(classes), **more)


def png(rows):
    data = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).save(data, "PNG")
    return data.getvalue()


PAINT = png([[4, VOID, 5, _], [9, 6, _, 9]])

# events -> answer by row, and what else stands
TABLE = [
    ([], [[_, _, _, _], [_, _, _, _]], {}),
    (
        [event("a", "class", [1], [7]), event("a", "void", [3])],
        [[7, 7, _, _], [_, VOID, VOID, _]],
        {"people": ("a",), "item_person": {1: "a", 3: "a"}},
    ),
    (  # the later one of a person replaces the earlier one
        [event("a", "class", [1, 2], [7]), event("a", "class", [2], [0])],
        [[7, 7, 0, 0], [_, _, _, _]],
        {},
    ),
    (  # somebody else's is a second opinion
        [event("a", "class", [1], [7]), event("b", "class", [1, 2], [3])],
        [[7, 7, 3, 3], [_, _, _, _]],
        {"people": ("a", "b"), "opinions": {1: (("b", (3,)),)}, "item_person": {1: "a", 2: "b"}},
    ),
    (  # unless it is a review
        [event("a", "class", [1], [7]), event("b", "class", [1], [3], review=True)],
        [[3, 3, _, _], [_, _, _, _]],
        {"people": ("b",), "opinions": {}, "item_person": {1: "b"}},
    ),
    (  # several classes
        [event("a", "classes", [1], [5, 2]), event("a", "classes", [2], [4])],
        [[SEVERAL, SEVERAL, 4, 4], [_, _, _, _]],
        {"sets": {1: (2, 5)}},
    ),
    (
        [event("a", "classes", [1], [5, 2]), event("a", "class", [1], [5])],
        [[5, 5, _, _], [_, _, _, _]],
        {"sets": {}},
    ),
    (
        [event("a", "class", [1], [7]), event("a", "unsure", [1])],
        [[_, _, _, _], [_, _, _, _]],
        {"unsure": frozenset({1}), "people": ()},
    ),
    (
        [event("a", "unsure", [1]), event("b", "class", [1], [2])],
        [[2, 2, _, _], [_, _, _, _]],
        {"unsure": frozenset()},
    ),
    (  # nobody opens what somebody else has answered, but for a review
        [event("a", "class", [1, 2], [7]), event("b", "clear", [1]),
         event("b", "clear", [2], review=True)],
        [[7, 7, _, _], [_, _, _, _]],
        {},
    ),
    (  # only what is asked is painted
        [event("a", "paint", paint=PAINT)],
        [[4, VOID, 5, _], [_, 6, _, _]],
        {"item_person": {1: "a", 2: "a", 3: "a"}},
    ),
    (  # an item of which somebody else has painted a part is theirs
        [event("a", "paint", paint=PAINT), event("b", "class", [2], [1])],
        [[4, VOID, 5, 1], [_, 6, _, _]],
        {"opinions": {2: (("b", (1,)),)}},
    ),
    (
        [event("a", "accept", [2, 3], paint=PAINT)],
        [[_, _, 5, _], [_, 6, _, _]],
        {},
    ),
    ([event("a", "accept", [2], [8])], [[_, _, 8, 8], [_, _, _, _]], {}),
    ([event("a", "skip")], [[_, _, _, _], [_, _, _, _]], {"skipped": True}),
    ([event("a", "skip"), event("a", "unskip")], [[_] * 4, [_] * 4], {"skipped": False}),
]  # fmt: skip
# The part of an item that is open may be answered by somebody else.
TABLE[11] = (TABLE[11][0], [[4, VOID, 5, _], [_, 6, _, _]], TABLE[11][2])


@pytest.mark.parametrize(("events", "answer", "more"), TABLE)
def test_what_stands(events, answer, more):
    now = replay(ASKED, events)
    assert now.answer.tolist() == answer
    assert {name: getattr(now, name) for name in more} == more
    assert ((now.source >= 0) == (now.answer != OPEN)).all()


def test_costs_are_those_of_all_events():
    now = replay(
        ASKED,
        [
            event("a", "class", [1, 2], [7], ms=3000, keys=1, clicks=2),
            event("b", "class", [2], [7], ms=500, keys=1, clicks=0),
        ],
    )
    assert (now.seconds, now.keys, now.clicks) == (3.5, 2, 2)
    assert now.item_seconds == {1: 1.5, 2: 2.0}
    assert not now.complete(ASKED)
    assert now.open_items(ASKED) == [3]


PEOPLE = st.sampled_from(["a", "b", "c"])
EVENTS = st.builds(
    lambda person, kind, items, c, review: event(
        person, kind, items, [c] if kind == "class" else (), review=review
    ),
    PEOPLE,
    st.sampled_from(["class", "void", "unsure", "clear"]),
    st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
    st.integers(0, 9),
    st.booleans(),
)


def by_hand(events):
    """Item by item, with the rules as they are written down."""
    stands: dict[int, tuple[int, str]] = {}
    for one in events:
        for i in one.items:
            if i in stands and stands[i][1] != one.person and not one.review:
                continue
            if one.kind in ("unsure", "clear"):
                stands.pop(i, None)
            else:
                stands[i] = (one.classes[0] if one.kind == "class" else VOID, one.person)
    return stands


@given(st.lists(EVENTS, max_size=12))
@settings(max_examples=200, deadline=None)
def test_replay_follows_the_rules_item_by_item(events):
    now, stands = replay(ASKED, events), by_hand(events)
    expected = np.full(ASKED.shape, OPEN)
    for i, (value, _person) in stands.items():
        expected[i == ASKED] = value
    assert (now.answer == expected).all()
    assert now.item_person == {i: person for i, (_value, person) in sorted(stands.items())}
    for i, (_value, person) in stands.items():
        assert {now.people[s] for s in now.source[i == ASKED]} == {person}


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"no png", "cannot be read"), (png([[1]]), "1x1"), (png(np.zeros((2, 4, 3))), "mode 'RGB'")],
)
def test_a_painted_map_that_is_none_is_refused(data, line):
    with pytest.raises(DataError, match=line):
        decode(data, (2, 4))
