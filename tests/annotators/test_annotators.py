"""The oracle and the folder annotator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from regional_al.annotators import ANNOTATORS, build_annotator
from regional_al.annotators.effort import Work, work_of
from regional_al.annotators.oracle import (
    OracleAnnotator,
    corrected_items,
    dominant_labels,
    segment_clicks,
    true_answer,
)
from regional_al.annotators.simulated import SimulatedAnnotator
from regional_al.errors import ConfigError, DataError
from regional_al.store.labels import LabelStore
from regional_al.store.query import QueryInfo, query_hash, read_query, write_query
from regional_al.types import PICK_DTYPE, LabelSpace, PoolItem

SPACE = LabelSpace.plain(("road", "car", "pole"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
ZERO_VOID = LabelSpace(
    SPACE.class_names,
    SPACE.palette,
    np.array([255, 0, 1, 2, *[-1] * 251, 255], dtype=np.int16),  # reduce_zero_label
)
MERGED = LabelSpace(  # raw 0 and 2 are both 'road', raw 1 'car', raw 3 void
    ("road", "car"), SPACE.palette[:2], np.array([0, 1, 0, 255, *[-1] * 251, 255], dtype=np.int16)
)


def save(path: Path, pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)
    return path


def make_item(root: Path, key: str, truth) -> PoolItem:
    truth = np.array(truth, dtype=np.uint8)
    picture = save(root / f"images/{key}.png", np.zeros((*truth.shape, 3)))
    return PoolItem(key, picture, save(root / f"truth/{key}.png", truth), truth.shape)


def make_query(
    root: Path, asked: dict[str, list[list[int]]], round_: int = 1, answer: str = "full"
):
    info = QueryInfo(round_, "region", "grid", answer)
    maps = ((i, key, np.array(ids, dtype=np.int32)) for i, (key, ids) in enumerate(asked.items()))
    folder = root / f"rounds/{round_:03d}/query"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return write_query(folder, info, np.zeros(0, PICK_DTYPE), maps)


def test_a_correction_by_hand(tmp_path):
    """Items: confirmed, corrected, void of the truth, nothing said by the machine, a tie."""
    asked = np.array([[1, 1, 1, 2, 2, 3, 4, 5, 5, 0]], np.int32)
    truth = np.array([[0, 0, 1, 1, 1, 255, 1, 0, 0, 0]], np.uint8)
    machine = np.array([[0, 1, 0, 0, 0, 0, 255, 1, 0, 1]], np.uint8)
    answer = true_answer("correction", "a", asked, truth, SPACE, machine)
    assert answer.labels.tolist() == [[0, 0, 0, 1, 1, 255, 1, 0, 0, 255]]
    assert answer.clicks == 1 + 2 + 2 + 1 + 1  # the lower class of a tie is the machine's
    assert corrected_items(asked, answer.labels, machine, SPACE).tolist() == [2, 3]
    plain = true_answer("dominant", "a", asked, truth, SPACE)
    assert (plain.labels == answer.labels).all()
    assert (plain.answered == answer.answered).all()
    assert work_of("correction", asked, truth, answer.clicks, SPACE) == Work(5, 7)
    item = make_item(tmp_path, "a", truth)
    folder = tmp_path / "rounds/001/query"
    folder.parent.mkdir(parents=True)
    picks, info = np.zeros(0, PICK_DTYPE), QueryInfo(1, "region", "grid", "correction")
    query = write_query(folder, info, picks, iter([(0, "a", asked)]), lambda key: machine)
    assert read_query(folder).machine("a").tolist() == np.where(asked > 0, machine, 255).tolist()
    (said,) = OracleAnnotator([item], SPACE).collect(query, ["a"])
    assert said.clicks == 7
    seconds = {"look": 1.0, "key": 0.1}
    (said,) = SimulatedAnnotator([item], SPACE, seconds=seconds).collect(query, ["a"])
    assert (said.labels == answer.labels).all()
    assert said.seconds == 5.7
    before = query_hash(query)
    write_query(folder, info, picks, iter([(0, "a", asked)]), lambda key: truth)
    assert query_hash(read_query(folder)) != before


# --- the oracle's arithmetic -------------------------------------------------------------------


def brute_clicks(asked, truth, space):
    """Flood fill, item by item, in plain Python."""
    classes = space.raw_to_train[truth]
    total = 0
    for item in set(asked[asked > 0].tolist()):
        left = {(int(r), int(c)) for r, c in np.argwhere(asked == item)}
        segments = 0
        while left:
            stack = [left.pop()]
            kind = classes[stack[0]]
            while stack:
                r, c = stack.pop()
                for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                    if near in left and classes[near] == kind:
                        left.remove(near)
                        stack.append(near)
            segments += kind != 255
        total += max(segments, 1)
    return total


def brute_dominant(asked, truth, space):
    out = np.full(asked.shape, 255, np.uint8)
    for item in set(asked[asked > 0].tolist()):
        inside = truth[asked == item]
        votes = {}
        for raw in inside[space.trainable[inside]].tolist():
            lowest = min(np.flatnonzero(space.raw_to_train == space.raw_to_train[raw]).tolist())
            votes[lowest] = votes.get(lowest, 0) + 1
        if votes:
            out[asked == item] = min(votes, key=lambda raw: (-votes[raw], raw))
    return out


def test_clicks_by_hand():
    truth = np.array([[0, 0, 1, 255], [1, 0, 1, 255], [0, 1, 1, 255]], np.uint8)
    one = np.ones((3, 4), np.int32)
    assert segment_clicks(one, truth, SPACE) == 4  # road, road (corner), car + car: 4-connected
    assert segment_clicks(np.zeros((3, 4), np.int32), truth, SPACE) == 0
    columns = np.array([[1, 1, 2, 3]] * 3, np.int32)
    # item 1: road, car, road, car; item 2: car; item 3: void only
    assert segment_clicks(columns, truth, SPACE) == 4 + 1 + 1
    pixels = np.arange(1, 13, dtype=np.int32).reshape(3, 4)
    assert segment_clicks(pixels, truth, SPACE) == 12  # a pixel costs one, void or not


def test_clicks_do_not_connect_over_the_image_border():
    truth = np.array([[1, 0, 1], [0, 1, 0]], np.uint8)
    assert segment_clicks(np.ones((2, 3), np.int32), truth, SPACE) == 6
    truth = np.array([[1, 0, 0], [0, 0, 1]], np.uint8)
    assert segment_clicks(np.ones((2, 3), np.int32), truth, SPACE) == 3


def test_clicks_of_a_spiral():
    """A long snake of one class: many merges between runs."""
    truth = np.zeros((41, 41), np.uint8)
    truth[::2] = 1
    truth[1::4, -1] = 1
    truth[3::4, 0] = 1
    asked = np.ones(truth.shape, np.int32)
    assert segment_clicks(asked, truth, SPACE) == brute_clicks(asked, truth, SPACE) == 21


def test_dominant_by_hand():
    truth = np.array([[1, 1, 0, 255], [2, 0, 255, 255], [0, 2, 255, 1]], np.uint8)
    asked = np.array([[1, 1, 1, 4], [2, 2, 4, 4], [0, 2, 4, 5]], np.int32)
    got = dominant_labels(asked, truth, SPACE)
    # item 1: car 2:1; item 2: pole 2:1; item 4: void alone; item 5: car; (2, 0) was not asked
    assert got.tolist() == [[1, 1, 1, 255], [2, 2, 255, 255], [255, 2, 255, 1]]


def test_dominant_ties_void_votes_and_merged_ids():
    asked = np.ones((1, 4), np.int32)
    tie = np.array([[2, 1, 1, 2]], np.uint8)
    assert dominant_labels(asked, tie, SPACE).tolist() == [[1] * 4]
    void = np.array([[255, 255, 255, 2]], np.uint8)
    assert dominant_labels(asked, void, SPACE).tolist() == [[2] * 4]
    zero_void = np.array([[0, 0, 0, 3]], np.uint8)
    assert dominant_labels(asked, zero_void, ZERO_VOID).tolist() == [[3] * 4]
    both_roads = np.array([[0, 2, 2, 1], [1, 1, 3, 3]], np.uint8)  # road 3, car 3: lowest id
    assert dominant_labels(np.ones((2, 4), np.int32), both_roads, MERGED).tolist() == [[0] * 4] * 2


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([SPACE, ZERO_VOID, MERGED]))
def test_oracle_arithmetic_matches_brute_force(data, space):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    allowed = np.flatnonzero(space.raw_to_train >= 0).tolist()
    truth = data.draw(arrays(np.uint8, shape, elements=st.sampled_from(allowed)))
    asked = data.draw(arrays(np.int32, shape, elements=st.integers(0, 3)))
    assert segment_clicks(asked, truth, space) == brute_clicks(asked, truth, space)
    assert np.array_equal(dominant_labels(asked, truth, space), brute_dominant(asked, truth, space))


def test_many_single_pixels_are_fast():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, (400, 500)).astype(np.uint8)
    asked = np.zeros(truth.shape, np.int32)
    asked.flat[rng.choice(truth.size, 100_000, replace=False)] = np.arange(1, 100_001)
    assert segment_clicks(asked, truth, SPACE) == 100_000
    assert np.array_equal(dominant_labels(asked, truth, SPACE)[asked > 0], truth[asked > 0])


# --- the oracle as an annotator ----------------------------------------------------------------


def test_oracle_answers_what_is_asked_only(tmp_path):
    pool = [make_item(tmp_path, "a/x", [[0, 1], [255, 2]]), make_item(tmp_path, "y", [[2, 2]])]
    query = make_query(tmp_path, {"a/x": [[1, 0], [2, 2]], "y": [[1, 1]]})
    oracle = ANNOTATORS.build("oracle", pool=pool, label_space=SPACE)
    oracle.preflight()
    oracle.request(query)
    first, second = oracle.collect(read_query(query.folder), ["a/x", "y"])
    assert first.labels.tolist() == [[0, 255], [255, 2]]
    assert first.answered.tolist() == [[True, False], [True, True]]
    assert (first.clicks, second.clicks) == (2, 1)
    store = LabelStore(tmp_path / "labels")
    assert store.write(first, 1) == 3
    assert store.annotated("a/x").tolist() == [[2, 0], [2, 2]]  # annotated void, not unlabeled
    assert [a.key for a in oracle.collect(query, ["y"])] == ["y"]


def test_oracle_keeps_raw_ids(tmp_path):
    pool = [make_item(tmp_path, "k", [[0, 3, 2, 1]])]
    query = make_query(tmp_path, {"k": [[1, 1, 1, 1]]})
    oracle = ANNOTATORS.build("oracle", pool=pool, label_space=MERGED)
    (answer,) = oracle.collect(query, ["k"])
    assert answer.labels.tolist() == [[0, 3, 2, 1]]
    assert answer.clicks == 3


def test_oracle_dominant(tmp_path):
    pool = [make_item(tmp_path, "k", [[1, 1, 0, 255, 2, 2]])]
    query = make_query(tmp_path, {"k": [[1, 1, 1, 1, 0, 2]]}, answer="dominant")
    spec = {"type": "oracle", "answer": "dominant"}
    (answer,) = build_annotator(spec, pool, SPACE).collect(query, ["k"])
    assert answer.labels.tolist() == [[1, 1, 1, 1, 255, 2]]
    assert answer.clicks == 2


def test_oracle_refusals(tmp_path):
    def build(*items, **more):
        return ANNOTATORS.build({"type": "oracle", **more}, pool=items, label_space=SPACE)

    good = make_item(tmp_path, "good", [[0, 1]])
    build(good).preflight()
    bad = make_item(tmp_path, "bad", [[0, 23]])
    with pytest.raises(DataError, match=r"bad\.png contains id 23 \(row 0, column 1\).*0-2, 255"):
        build(good, bad).preflight()
    with pytest.raises(DataError, match=r"nothing\.png does not exist"):
        build(PoolItem("n", good.image, tmp_path / "nothing.png", (1, 2))).preflight()
    with pytest.raises(DataError, match="folder"):
        build(PoolItem("n", good.image, None, (1, 2))).preflight()
    small = save(tmp_path / "small.png", [[0]])
    with pytest.raises(DataError, match=r"small\.png is 1x1 .*1x2"):
        build(PoolItem("n", good.image, small, (1, 2))).preflight()
    with pytest.raises(DataError, match="its image"):
        build(PoolItem("n", good.image, small, (1, 1))).preflight()
    (tmp_path / "torn.png").write_bytes(small.read_bytes()[:40])
    with pytest.raises(DataError, match=r"torn\.png cannot be read"):
        build(PoolItem("n", good.image, tmp_path / "torn.png", (1, 2))).preflight()


def test_255_is_always_allowed(tmp_path):
    table = SPACE.raw_to_train.copy()
    table[255] = -1
    space = LabelSpace(SPACE.class_names, SPACE.palette, table)
    pool = [make_item(tmp_path, "k", [[0, 255]])]
    ANNOTATORS.build("oracle", pool=pool, label_space=space).preflight()


def test_the_first_bad_file_is_named_whatever_the_threads_do(tmp_path):
    pool = [make_item(tmp_path, f"{i:02d}", [[0 if i < 5 else 99]]) for i in range(30)]
    with pytest.raises(DataError, match=r"05\.png contains id 99"):
        ANNOTATORS.build("oracle", pool=pool, label_space=SPACE).preflight()


# --- the folder --------------------------------------------------------------------------------


def make_folder(tmp_path, space=SPACE, **more):
    """Pool, query and annotator; the pool has no annotation files."""
    pool = [PoolItem(k, tmp_path / f"{k}.jpg", None, (2, 3)) for k in ("a/x", "y")]
    query = make_query(tmp_path, {"a/x": [[1, 1, 0], [2, 2, 0]], "y": [[1, 1, 1]] * 2})
    spec = {"type": "folder", **more}
    return query, ANNOTATORS.build(spec, pool=pool, label_space=space)


def test_folder_takes_partial_answers_at_any_time(tmp_path):
    query, folder = make_folder(tmp_path)
    folder.preflight()
    folder.request(query)
    where = tmp_path / "rounds/001/answers"
    assert str(where) in folder.where(query)
    text = (where / "README.txt").read_text()
    for part in ("1: car", "254: answered, but no class", "a/x.png"):
        assert part in text
    assert list(folder.collect(query, ["a/x", "y"])) == []
    save(where / "a/x.png", [[1, 255, 2], [254, 255, 0]])
    (answer,) = folder.collect(query, ["a/x", "y"])
    assert answer.answered.tolist() == [[True, False, False], [True, False, False]]
    assert answer.labels.tolist() == [[1, 255, 255], [255, 255, 255]]
    assert answer.clicks is None
    store = LabelStore(tmp_path / "labels")
    assert store.write(answer, 1) == 2
    save(where / "a/x.png", [[1, 0, 2], [254, 2, 0]])
    save(where / "y.png", np.full((2, 3), 255))
    (answer,) = folder.collect(query, ["a/x", "y"])  # y: a file, but nothing in it yet
    assert store.write(answer, 1) == 4
    assert store.read("a/x").tolist() == [[1, 0, 255], [255, 2, 255]]
    assert store.annotated("a/x").tolist() == [[2, 2, 0], [2, 2, 0]]
    folder.request(query)
    assert len(list(folder.collect(query, ["a/x", "y"]))) == 1  # publishing again loses nothing


def test_folder_of_ones_own_and_void_ids(tmp_path):
    query, folder = make_folder(tmp_path, ZERO_VOID, answers=str(tmp_path / "mine"), void=7)
    folder.request(query)
    save(tmp_path / "mine/y.png", [[0, 1, 7], [255, 3, 2]])
    (answer,) = folder.collect(query, ["y"])
    assert answer.answered.tolist() == [[True, True, True], [False, True, True]]
    assert answer.labels.tolist() == [[0, 1, 255], [255, 3, 2]]
    assert not ZERO_VOID.trainable[answer.labels[0, [0, 2]]].any()


def test_folder_refusals(tmp_path):
    query, folder = make_folder(tmp_path)
    where = tmp_path / "rounds/001/answers"
    save(where / "y.png", [[0, 1, 2], [3, 0, 0]])
    with pytest.raises(DataError, match=r"y\.png contains id 3 \(row 1, column 0\).*0-2, 254-255"):
        list(folder.collect(query, ["y"]))
    save(where / "y.png", [[0, 1], [0, 0]])
    with pytest.raises(DataError, match=r"y\.png is 2x2 .*2x3"):
        list(folder.collect(query, ["y"]))
    save(where / "y.png", np.zeros((2, 3, 3)))
    with pytest.raises(DataError, match="colours"):
        list(folder.collect(query, ["y"]))
    for void in (255, -1, 300):
        with pytest.raises(ConfigError, match="void"):
            make_folder(tmp_path, void=void)
    with pytest.raises(ConfigError, match="'car'"):
        make_folder(tmp_path, void=1)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not a folder"):
        make_folder(tmp_path, answers=tmp_path / "file")[1].preflight()
    with pytest.raises(ConfigError, match="folder"):
        make_folder(tmp_path, nonsense=1)


def test_round_trip_is_pixel_equal(tmp_path):
    """What a person saves is what training reads, pixel for pixel."""
    rng = np.random.default_rng(5)
    drawn = rng.choice([0, 1, 2, 254, 255], (37, 53)).astype(np.uint8)
    asked = rng.integers(0, 2, drawn.shape)
    pool = [PoolItem("k", tmp_path / "k.jpg", None, drawn.shape)]
    query = make_query(tmp_path, {"k": asked})
    folder = ANNOTATORS.build("folder", pool=pool, label_space=SPACE)
    save(tmp_path / "rounds/001/answers/k.png", drawn)
    (answer,) = folder.collect(query, ["k"])
    store = LabelStore(tmp_path / "labels")
    given_ = (asked > 0) & (drawn != 255)
    assert store.write(answer, 1) == given_.sum()
    expected = np.where(given_ & (drawn != 254), drawn, 255)
    assert np.array_equal(store.read("k"), expected)
    assert np.array_equal(store.annotated("k") > 0, given_)
