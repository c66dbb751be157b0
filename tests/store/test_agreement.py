"""Counts of label files against the answers of the ledger: all at once, and one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional_al.store.agreement import disagreeing, tally
from regional_al.store.label_index import occurring, pack, unpack
from regional_al.types import UNLABELED

FOREIGN = bytes([7, 200])
Counts = dict[int, int]


def packed(counts: Counts) -> bytes:
    found = np.zeros(256, dtype=np.int64)
    for value, many in counts.items():
        found[value] = many
    return pack(found)


def agrees(label: Counts, side: Counts, said: Counts, area: int | None) -> bool:
    """The definition, for one image. said: round -> pixels."""
    pixels = sum(label.values())
    return (
        pixels == sum(side.values())
        and (area is None or pixels == area)
        and not any(label.get(value) for value in FOREIGN)
        and pixels - label.get(UNLABELED, 0) <= pixels - side.get(0, 0)
        and {r - 1: n for r, n in side.items() if r and n} == {r: n for r, n in said.items() if n}
    )


@st.composite
def images(draw: st.DrawFn) -> tuple[Counts, Counts, Counts, int]:
    """An image that agrees, and perhaps one change."""
    said = draw(st.dictionaries(st.integers(0, 253), st.integers(1, 9), max_size=3))
    answered = sum(said.values())
    area = answered + draw(st.integers(0, 5))
    classes = draw(st.integers(0, answered))
    label = {3: classes, UNLABELED: area - classes}
    side = {0: area - answered, **{r + 1: n for r, n in said.items()}}
    where = draw(st.sampled_from(["", "label", "side", "said", "foreign", "area", "moved"]))
    if where == "foreign":
        label[7] = 1
        label[UNLABELED] -= 1 if label[UNLABELED] else 0
    elif where == "area":
        area += 1
    elif where == "moved":
        side = {(r + 1 if r else 0): n for r, n in side.items()}
    elif where:
        changed = {"label": label, "side": side, "said": said}[where]
        key = draw(st.sampled_from([*changed, 1]))
        changed[key] = max(0, changed.get(key, 0) + draw(st.sampled_from([-1, 1, 2])))
    return label, side, said, area


@settings(max_examples=200)
@given(many=st.lists(images(), max_size=6), sized=st.booleans())
def test_all_at_once_is_as_one_by_one(
    many: list[tuple[Counts, Counts, Counts, int]], sized: bool
) -> None:
    keys = [f"image {i}" for i in range(len(many))]
    answers = [(r, key, n, 1, 1) for key, one in zip(keys, many, strict=True)
               for r, n in one[2].items()]  # fmt: skip
    answers.append((0, "another", 5, 1, 1))  # of an image that is not looked at
    areas = [area for *_, area in many] if sized else None
    labels, sides = ([packed(one[i]) for one in many] for i in (0, 1))
    expected = [
        i
        for i, (label, side, said, area) in enumerate(many)
        if not agrees(label, side, said, area if sized else None)
    ]
    assert disagreeing(keys, labels, sides, answers, areas, FOREIGN) == expected


@pytest.mark.parametrize(("round_", "pixels"), [(-1, 4), (255, 4), (0, -4), (0, 2**32 + 4)])
def test_answers_that_no_file_can_have(round_: int, pixels: int) -> None:
    label, side = packed({3: 4}), packed({1: 4})
    assert disagreeing(["a"], [label], [side], [(0, "a", 4, 1, 1)], None, b"") == []
    answers = [(0, "a", 4, 1, 1), (round_, "a", pixels, 1, 1)]
    assert disagreeing(["a"], [label], [side], answers, None, b"") == [0]


def test_counts_of_large_files_are_exact() -> None:
    big = 2**32 - 1
    found = tally([packed({0: big, 9: 1}), b"", packed({255: big})])
    assert found.sums(3).tolist() == [2**32, 0, big]
    assert unpack(packed({0: big, 9: 1}))[[0, 9]].tolist() == [big, 1]
    assert occurring(packed({0: big, 9: 1})) == {0: big, 9: 1}
