"""What ids in masks and in label files mean (`types.LabelSpace`)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.types import UNLABELED, VOID_ANSWER, LabelSpace


def table_of(ids: dict[int, int]) -> np.ndarray:
    table = np.full(256, -1, np.int16)
    table[list(ids)] = list(ids.values())
    return table


def space_of(ids: dict[int, int], count: int = 2) -> LabelSpace:
    names = tuple(f"class {i}" for i in range(count))
    return LabelSpace.of_masks(names, ((0, 0, 0),) * count, table_of(ids))


def test_masks_of_other_ids_are_label_files() -> None:
    space = space_of({0: 0, 7: 1, 255: 255})
    mask = np.array([[0, 7, 255]], np.uint8)
    assert space.mask_to_raw is None
    assert space.raw_of_mask(mask) is mask
    assert (space.mask_to_train == space.raw_to_train).all()


def test_a_class_at_255_is_written_by_another_id_of_it() -> None:
    space = space_of({0: 0, 4: 1, 9: 1, 255: 1})
    assert space.raw_of_mask(np.array([0, 9, 255], np.uint8)).tolist() == [0, 9, 4]
    assert space.mask_to_train[[0, 4, 9, 255]].tolist() == [0, 1, 1, 1]
    assert space.raw_to_train[[0, 4, 9, 255]].tolist() == [0, 1, 1, 255]


def test_an_id_that_masks_do_not_use_comes_next_but_not_that_of_void_answers() -> None:
    void = dict.fromkeys(range(1, 254), 255)
    with pytest.raises(ValueError, match="no id below 254 is left"):
        space_of({0: 0, **void, 255: 1})
    void.pop(77)
    space = space_of({0: 0, **void, 255: 1})
    assert space.raw_of_mask(np.array([255], np.uint8)).tolist() == [77]
    assert space.mask_to_train[77] == -1


def test_classes_without_an_id_are_not_offered() -> None:
    space = space_of({0: 255, 1: 1, 2: 2, 5: 2, 255: 255}, 3)
    assert space.offered.tolist() == [False, True, True]
    assert space.lowest_raw.tolist() == [UNLABELED, 1, 2]


@given(st.dictionaries(st.integers(0, 255), st.sampled_from([0, 1, 2, 255]), max_size=250))
def test_labels_mean_what_the_masks_mean(ids: dict[int, int]) -> None:
    """Whatever the table: the id that a label file gets has the class of the id in the mask, and
    255 stays the mark of pixels without one."""
    table = table_of({255: 255} | ids)
    try:
        space = LabelSpace.of_masks(("a", "b", "c"), ((0, 0, 0),) * 3, table)
    except ValueError:
        assert table[255] != 255
        assert not (table[:VOID_ANSWER] == -1).any()
        return
    known = np.flatnonzero(table >= 0).astype(np.uint8)
    assert space.raw_to_train[space.raw_of_mask(known)].tolist() == table[known].tolist()
    assert (space.mask_to_train == table).all()
    assert space.raw_to_train[UNLABELED] == UNLABELED
