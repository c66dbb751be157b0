"""The label store: provenance, idempotency, kills between writes, the index."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from regional_al.errors import DataError
from regional_al.store import indexed as labels_module
from regional_al.store.labels import LabelStore
from regional_al.types import UNLABELED, ImageAnswer

CLASSES = np.arange(256) < 3


def answer(key, labels, answered):
    return ImageAnswer(key, np.array(labels, dtype=np.uint8), np.array(answered, dtype=bool))


def file_bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.png"))}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def kill_at(monkeypatch, count):
    """Let os.replace die at its count-th call (0 = the first)."""
    real, calls = os.replace, []

    def replace(source, target):
        if len(calls) == count:
            raise Killed
        calls.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_write_keeps_void_apart_from_unlabeled(tmp_path):
    store = LabelStore(tmp_path / "labels")
    assert store.read("a/b") is None
    assert store.annotated("a/b") is None
    count = store.write(answer("a/b", [[2, 255, 7]], [[True, True, False]]), round=3)
    assert count == 2
    assert store.read("a/b").tolist() == [[2, UNLABELED, UNLABELED]]  # 7 was not answered
    assert store.annotated("a/b").tolist() == [[4, 4, 0]]
    assert store.path("a/b") == tmp_path / "labels/a/b.png"
    with Image.open(store.path("a/b")) as image:
        assert image.mode == "L"
    assert store.labelled_pixels("a/b", CLASSES) == 1
    assert store.rounds_of("a/b") == [3]
    assert not store.is_complete("a/b")
    assert not store.is_complete("unknown")
    store.write(answer("a/b", [[0, 0, 1]], [[False, False, True]]), round=4)
    assert store.is_complete("a/b")
    assert store.rounds_of("a/b") == [3, 4]
    assert store.annotated("a/b").tolist() == [[4, 4, 5]]
    assert store.keys() == ["a/b"]


def test_first_answer_wins_over_rounds_and_last_within_one(tmp_path):
    store = LabelStore(tmp_path)
    store.write(answer("k", [[1, 1, 1]], [[True, True, False]]), round=0)
    assert store.write(answer("k", [[2, 255, 2]], [[True, True, True]]), round=1) == 1
    assert store.read("k").tolist() == [[1, 1, 2]]
    assert store.annotated("k").tolist() == [[1, 1, 2]]
    assert store.write(answer("k", [[0, 0, 0]], [[False, False, True]]), round=1) == 1
    assert store.read("k").tolist() == [[1, 1, 0]]


def test_same_answer_again_touches_nothing(tmp_path):
    store = LabelStore(tmp_path)
    given_ = answer("k", [[1, 255], [0, 2]], [[True, True], [False, True]])
    assert store.write(given_, 0) == 3
    before = file_bytes(tmp_path), store.path("k").stat().st_mtime_ns
    assert LabelStore(tmp_path).write(given_, 0) == 3
    assert (file_bytes(tmp_path), store.path("k").stat().st_mtime_ns) == before


@pytest.mark.parametrize("at", [0, 1])
def test_kill_between_the_writes_heals_when_applied_again(tmp_path, monkeypatch, at):
    clean = LabelStore(tmp_path / "clean")
    torn = LabelStore(tmp_path / "torn")
    first = answer("k", [[1, 1, 1, 1]], [[True, False, False, False]])
    second = answer("k", [[0, 2, 255, 2]], [[True, True, True, False]])
    for store in (clean, torn):
        store.write(first, 0)
    expected = clean.write(second, 1)
    with monkeypatch.context() as patch:
        kill_at(patch, at)
        with pytest.raises(Killed):
            torn.write(second, 1)
    again = LabelStore(tmp_path / "torn")
    # Nothing unanswered may pass for answered, and the first round is untouched.
    assert again.rounds_of("k") == [0]
    assert again.annotated("k").tolist() == [[1, 0, 0, 0]]
    assert again.read("k")[0, 0] == 1
    assert again.write(second, 1) == expected == 2
    assert file_bytes(tmp_path / "torn") == file_bytes(tmp_path / "clean")
    assert not list(tmp_path.rglob("*.tmp"))


def test_kill_then_a_smaller_answer_leaves_no_stray_labels(tmp_path, monkeypatch):
    store = LabelStore(tmp_path)
    with monkeypatch.context() as patch:
        kill_at(patch, 1)
        with pytest.raises(Killed):
            store.write(answer("k", [[1, 1]], [[True, True]]), 0)
    assert store.read("k").tolist() == [[1, 1]]
    store = LabelStore(tmp_path)
    store.write(answer("k", [[0, 2]], [[False, True]]), 0)
    assert store.read("k").tolist() == [[255, 2]]


def test_drop_rounds_replays_exactly(tmp_path):
    store = LabelStore(tmp_path)
    store.write(answer("old", [[1, 2]], [[True, False]]), 0)
    store.write(answer("kept", [[1]], [[True]]), 0)
    after_first = file_bytes(tmp_path)
    store.write(answer("old", [[0, 2]], [[False, True]]), 1)
    after_second = file_bytes(tmp_path)
    store.write(answer("new", [[255, 2]], [[True, True]]), 2)
    full = file_bytes(tmp_path)
    assert store.drop_rounds_from(2) == 2
    assert file_bytes(tmp_path) == after_second
    assert store.drop_rounds_from(1) == 1
    assert file_bytes(tmp_path) == after_first
    assert store.keys() == store.trainable_keys(CLASSES) == ["kept", "old"]
    assert store.drop_rounds_from(1) == 0
    store.write(answer("old", [[0, 2]], [[False, True]]), 1)
    store.write(answer("new", [[255, 2]], [[True, True]]), 2)
    assert file_bytes(tmp_path) == full


@pytest.mark.parametrize("at", [0, 1])
def test_drop_rounds_heals_after_a_kill(tmp_path, monkeypatch, at):
    store = LabelStore(tmp_path)
    store.write(answer("k", [[1, 2]], [[True, False]]), 0)
    after_first = file_bytes(tmp_path)
    store.write(answer("k", [[0, 2]], [[False, True]]), 1)
    with monkeypatch.context() as patch:
        kill_at(patch, at)
        with pytest.raises(Killed):
            store.drop_rounds_from(1)
    LabelStore(tmp_path).drop_rounds_from(1)
    assert file_bytes(tmp_path) == after_first


def test_drop_removes_labels_without_a_sidecar(tmp_path, monkeypatch):
    store = LabelStore(tmp_path)
    with monkeypatch.context() as patch:
        kill_at(patch, 1)
        with pytest.raises(Killed):
            store.write(answer("k", [[1]], [[True]]), 0)
    store.drop_rounds_from(0)
    assert store.keys() == []


def test_index_is_only_a_cache(tmp_path, monkeypatch):
    store = LabelStore(tmp_path)
    for i in range(5):
        store.write(answer(f"s/{i}", [[i, 255]], [[True, True]]), 0)
    store.write(answer("void", [[255, 255]], [[True, True]]), 0)
    expected = ["s/0", "s/1", "s/2"]
    assert store.trainable_keys(CLASSES) == expected
    index = tmp_path / "_annotated/index.sqlite"
    assert index.exists()

    def no_decoding(path, data):
        raise AssertionError(f"{path} decoded in spite of the index")

    with monkeypatch.context() as patch:
        patch.setattr(labels_module, "read_ids", no_decoding)
        assert LabelStore(tmp_path).trainable_keys(CLASSES) == expected
    whole = index.read_bytes()
    for damage in (b"", b"no database", whole[:5000], whole[:1000] + b"?" * (len(whole) - 1000)):
        index.write_bytes(damage)
        assert LabelStore(tmp_path).trainable_keys(CLASSES) == expected
    index.unlink()
    assert LabelStore(tmp_path).trainable_keys(CLASSES) == expected


def test_the_images_of_a_training_are_listed_once(tmp_path, monkeypatch):
    """Its hash and its list are of the same look at the files; anything else looks again."""
    store, looks = LabelStore(tmp_path), []
    walk = labels_module.walk
    monkeypatch.setattr(labels_module, "walk", lambda *a: looks.append(a) or walk(*a))
    store.write(answer("a", [[1]], [[True]]), 0)
    first = store.training_digest(CLASSES)
    assert first[0] == 1
    assert store.trainable_keys(CLASSES) == ["a"]
    assert len(looks) == 1
    assert store.trainable_keys(CLASSES) == ["a"]
    assert len(looks) == 2
    store.training_digest(CLASSES)
    assert store.trainable_keys(np.arange(256) == 9) == []
    store.training_digest(CLASSES)
    store.write(answer("b", [[2]], [[True]]), 1)
    assert store.trainable_keys(CLASSES) == ["a", "b"]
    second = store.training_digest(CLASSES)
    assert second == LabelStore(tmp_path).training_digest(CLASSES) != first
    Image.fromarray(np.full((1, 1), 1, np.uint8)).save(store.path("b"))
    assert store.training_digest(CLASSES)[1] != second[1]


def test_index_sees_a_file_changed_from_outside(tmp_path):
    store = LabelStore(tmp_path)
    store.write(answer("k", [[1, 2]], [[True, True]]), 0)
    assert store.labelled_pixels("k", CLASSES) == 2
    Image.fromarray(np.full((1, 2), 255, np.uint8)).save(store.path("k"))
    assert store.labelled_pixels("k", CLASSES) == 0
    assert store.trainable_keys(CLASSES) == []


def test_255_is_never_trainable(tmp_path):
    store = LabelStore(tmp_path)
    store.write(answer("k", [[255]], [[True]]), 0)
    assert store.trainable_keys(np.ones(256, dtype=bool)) == []


def test_refusals(tmp_path):
    store = LabelStore(tmp_path)
    good = answer("k", [[1, 2]], [[True, True]])
    for round_ in (-1, 254):
        with pytest.raises(DataError, match=r"0\.\.253"):
            store.write(good, round_)
    store.write(good, 253)
    assert store.annotated("k").tolist() == [[254, 254]]
    with pytest.raises(DataError, match=r"k\.png is 1x2, the answer is 2x1"):
        store.write(answer("k", [[1], [2]], [[True], [True]]), 1)
    with pytest.raises(DataError, match="answered"):
        store.write(answer("k", [[1, 2]], [[True]]), 1)
    with pytest.raises(TypeError):
        store.write(ImageAnswer("k", np.array([[300]]), np.array([[True]])), 1)
    for key in ("", "../k", "a//b", "/k", "_annotated/k", "a/./b"):
        with pytest.raises(DataError, match="key"):
            store.path(key)


def test_an_answer_without_pixels_makes_no_file(tmp_path):
    store = LabelStore(tmp_path / "labels")
    assert store.write(answer("k", [[1]], [[False]]), 0) == 0
    assert store.keys() == []
    assert store.trainable_keys(CLASSES) == []


def test_pickles_without_its_cache(tmp_path):
    store = LabelStore(tmp_path)
    store.write(answer("k", [[1]], [[True]]), 0)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.trainable_keys(CLASSES) == ["k"]
    assert len(pickle.dumps(store)) < 500


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sequence_of_answers_matches_a_plain_model(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    draws = st.tuples(
        arrays(np.uint8, shape), arrays(np.bool_, shape), st.integers(0, 3), st.booleans()
    )
    label = np.full(shape, 255, np.uint8)
    rounds = np.full(shape, -1)
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(folder)
        for values, answered, round_, reopen in data.draw(st.lists(draws, min_size=1, max_size=5)):
            store = LabelStore(folder) if reopen else store
            count = store.write(ImageAnswer("k", values, answered), round_)
            for place in np.ndindex(shape):
                if answered[place] and rounds[place] in (-1, round_):
                    label[place], rounds[place] = values[place], round_
            assert count == (rounds == round_).sum()
        if (rounds >= 0).any():
            assert np.array_equal(store.read("k"), label)
            assert np.array_equal(store.annotated("k"), rounds + 1)
        assert store.rounds_of("k") == np.unique(rounds[rounds >= 0]).tolist()
        assert store.is_complete("k") == bool((rounds >= 0).all())
        assert store.labelled_pixels("k", CLASSES) == (label < 3).sum()


@pytest.mark.parametrize("name", ["n" * 251, "é" * 125, "town/" + "n" * 251, "ünïcode", "a b"])
def test_names_as_long_as_a_file_name_may_be(tmp_path: Path, name: str) -> None:
    store = LabelStore(tmp_path)
    labels = np.zeros((2, 2), np.uint8)
    assert store.write(ImageAnswer(name, labels, labels == 0), 0) == 4
    assert store.keys() == [name]
    assert LabelStore(tmp_path).labelled_pixels(name, labels.ravel()[:1].repeat(256) == 0) == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n" * 252, "has 256 bytes, more than 255"),
        ("é" * 126, "has 256 bytes"),
        ("x" * 300 + "/a", "has 304 bytes"),
        ("a\0b", "null character in it"),
        ("bad\udcff", "is not valid UTF-8"),
    ],
)
def test_names_that_no_file_can_have(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        LabelStore(tmp_path).path(name)
    str(caught.value).encode()  # can be printed
