"""Who has answered, and class sets, beside the labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from regional_al.errors import DataError
from regional_al.store.label_maps import CLASSES, SOURCES, merge_sets, read_sets, write_sets
from regional_al.store.labels import LabelStore
from regional_al.types import ClassSets, ImageAnswer, Source

ADA, BOB = Source("person", "ada"), Source("person", "bob")
NUMBERS = {ADA: 1, BOB: 7}


def answer(labels, answered, **more):
    return ImageAnswer("t/a", np.array(labels, np.uint8), np.array(answered, bool), **more)


def test_who_answers_is_kept_for_each_pixel(tmp_path):
    store = LabelStore(tmp_path)
    store.write(answer([[3, 3, 0]], [[1, 1, 0]], sources=(ADA, BOB),
                       source=np.array([[0, 1, -1]], np.int32)), 0, NUMBERS)  # fmt: skip
    assert store.source("t/a").tolist() == [[1, 7, 0]]
    store.write(answer([[0, 0, 5]], [[1, 0, 1]], sources=(BOB,)), 1, NUMBERS)
    assert store.source("t/a").tolist() == [[1, 7, 7]]  # an earlier answer stays
    store.write(answer([[0, 0, 5]], [[0, 0, 1]]), 1)  # by somebody who is not known
    assert store.source("t/a").tolist() == [[1, 7, 0]]
    assert store.keys() == ["t/a"]
    assert store.drop_rounds_from(0) == 3
    assert store.source("t/a") is None
    assert not list((tmp_path / SOURCES).rglob("*.png"))


def test_sets_are_kept_and_replaced(tmp_path):
    store, sets = LabelStore(tmp_path), ClassSets(np.array([[1, 1, 2]], np.int32), ((0, 4), (2, 9)))
    one = answer([[255, 255, 255]], [[1, 1, 1]], sets=sets)
    store.write(one, 0)
    before = (tmp_path / CLASSES / "t/a.png").read_bytes()
    store.write(one, 0)  # as a resumed run does
    assert (tmp_path / CLASSES / "t/a.png").read_bytes() == before
    found = store.class_sets("t/a")
    assert (found.regions.tolist(), found.classes) == ([[1, 1, 2]], ((0, 4), (2, 9)))
    store.write(answer([[4, 0, 0]], [[1, 0, 0]]), 0)
    found = store.class_sets("t/a")
    assert (found.regions.tolist(), found.classes) == ([[0, 1, 2]], ((0, 4), (2, 9)))
    store.write(answer([[4, 4, 4]], [[1, 1, 1]]), 0)
    assert store.class_sets("t/a") is None


def test_regions_are_numbered_by_place_whatever_their_order():
    all_ = np.ones((1, 4), bool)
    left = ClassSets(np.array([[1, 1, 0, 0]], np.int32), ((0, 1),))
    right = ClassSets(np.array([[0, 0, 0, 1]], np.int32), ((2, 3),))
    one = merge_sets(merge_sets(None, left.regions > 0, left, all_), right.regions > 0, right, all_)
    two = merge_sets(merge_sets(None, right.regions > 0, right, all_), left.regions > 0, left, all_)
    assert one.regions.tolist() == two.regions.tolist() == [[1, 1, 0, 2]]
    assert one.classes == two.classes == ((0, 1), (2, 3))


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.png"
    write_sets(path, ClassSets(np.array([[1, 2]], np.int32), ((0, 1), (3, 5))))
    assert read_sets(path).classes == ((0, 1), (3, 5))
    for rgb in ([[[1, 0, 0]]], [[[9, 0, 0]]]):
        Image.fromarray(np.array(rgb, np.uint8)).save(path)  # without its text
        with pytest.raises(DataError, match=r"a\.png is damaged"):
            read_sets(path)
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.png"):
        read_sets(path)


def test_a_correction_changes_what_its_round_has_answered_alone(tmp_path):
    store = LabelStore(tmp_path)
    store.write(answer([[3, 3, 0, 0]], [[1, 1, 0, 0]]), 0)
    store.write(answer([[5, 5, 5, 0]], [[0, 0, 1, 0]]), 1)
    store.correct(answer([[8, 8, 8, 8]], [[1, 0, 1, 1]], replaces=True, sources=(ADA,)), 0, NUMBERS)
    assert store.read("t/a").tolist() == [[8, 3, 5, 255]]
    assert store.annotated("t/a").tolist() == [[1, 1, 2, 0]]
    assert store.source("t/a").tolist() == [[1, 0, 0, 0]]
    with pytest.raises(DataError, match="nothing can be corrected"):
        store.correct(ImageAnswer("b", np.zeros((1, 1), np.uint8), np.ones((1, 1), bool)), 0)
