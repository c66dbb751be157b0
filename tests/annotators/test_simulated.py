"""The simulated person: times by hand, no error is the oracle, how often errors happen, seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regional_al.annotators import build_annotator
from regional_al.annotators.effort import Seconds, Work, outline_vertices, work_of
from regional_al.annotators.noise import Errors, draws, slipped, with_errors
from regional_al.annotators.oracle import true_answer
from regional_al.errors import ConfigError
from regional_al.store.images import write_png
from regional_al.store.query import Query, QueryInfo, write_query
from regional_al.types import ANSWERS, PICK_DTYPE, ImageAnswer, LabelSpace, PoolItem

SPACE = LabelSpace.plain(("road", "car", "pole"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
ZERO_VOID = LabelSpace(  # reduce_zero_label
    SPACE.class_names,
    SPACE.palette,
    np.array([255, 0, 1, 2, *[-1] * 251, 255], dtype=np.int16),
)
MERGED = LabelSpace(  # raw 0 and 2 are both 'road', raw 1 'car', raw 3 void
    ("road", "car"), SPACE.palette[:2], np.array([0, 1, 0, 255, *[-1] * 251, 255], dtype=np.int16)
)
SPACES = {"plain": SPACE, "zero void": ZERO_VOID, "merged": MERGED}


def grid(height: int, width: int, cell: int) -> np.ndarray:
    """int32 [H, W]: square items, numbered from 1."""
    rows, cols = np.arange(height) // cell, np.arange(width) // cell
    return (rows[:, None] * (cols[-1] + 1) + cols + 1).astype(np.int32)


def right(
    kind: str, asked: np.ndarray, truth: np.ndarray, space: LabelSpace = SPACE
) -> ImageAnswer:
    return true_answer(kind, "a", asked, truth.astype(np.uint8), space)


def work(kind: str, asked: Any, truth: Any, space: LabelSpace = SPACE) -> Work:
    asked, truth = np.array(asked, np.int32), np.array(truth, np.uint8)
    clicks = true_answer(kind, "a", asked, truth, space).clicks
    return work_of(kind, asked, truth, clicks or 0, space)


def erring(
    kind: str,
    asked: np.ndarray,
    truth: np.ndarray,
    errors: Errors,
    space: LabelSpace = SPACE,
    seed: int = 0,
) -> ImageAnswer:
    truth = truth.astype(np.uint8)
    answer = right(kind, asked, truth, space)
    return with_errors(answer, kind, asked, truth, space, errors, draws(seed, 1, "a"))


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "vertices"),
    [
        (np.ones((1, 1)), 1),
        (np.ones((1, 9)), 2),
        (np.ones((20, 30)), 4),
        (np.tri(30), 3),  # the staircase of a diagonal is one straight line
        (np.kron([[1, 0], [1, 1]], np.ones((10, 10))), 6),
        (np.pad(np.zeros((10, 10)), 5, constant_values=1), 8),  # a hole is outlined, too
    ],
)
def test_vertices_of_known_shapes(mask: np.ndarray, vertices: int) -> None:
    assert outline_vertices(mask.astype(bool)) == vertices


ROAD_CAR = [[0] * 12] * 8 + [[0] * 2 + [1] * 6 + [0] * 4] * 6  # a car at the lower border
TIMES: list[tuple[str, str, Any, Any, Work]] = [
    ("pixels", "full", [[1, 0, 2]], [[0, 1, 255]], Work(2, 2)),
    ("one class, and void alone", "full", [[1, 1, 2, 2]], [[2, 2, 255, 255]], Work(2, 2)),
    # a look and a key for the road; a look, a key, four vertices and a key for the car
    ("a car is outlined", "full", np.ones((14, 12)), ROAD_CAR, Work(2, 3, 4)),
    ("the larger class is not", "full", [[1, 1, 1]], [[1, 0, 1]], Work(2, 3, 1)),
    ("a tie: the first class", "full", [[1, 1, 1, 1]], [[1, 0, 0, 1]], Work(3, 5, 2)),
    ("void is outlined", "full", [[1, 1, 1]], [[1, 255, 1]], Work(2, 3, 1)),
    (
        "corners do not connect",
        "full",
        np.ones((3, 3)),
        [[0, 0, 1], [0, 1, 0], [0] * 3],
        Work(3, 5, 2),
    ),
    ("items are apart", "full", [[1, 1, 1, 2, 2, 2]], [[0, 0, 1, 1, 0, 0]], Work(4, 6, 2)),
    ("dominant", "dominant", [[1, 1, 1, 2]], [[1, 0, 1, 255]], Work(2, 2)),
    # road, car, Enter; pole, Enter; void, Enter
    ("classes", "multiclass", [[1, 1, 2, 2, 3]], [[0, 1, 2, 2, 255]], Work(3, 7)),
    ("nothing asked", "full", [[0, 0]], [[0, 1]], Work(0, 0)),
]


@pytest.mark.parametrize(
    ("kind", "asked", "truth", "found"), [t[1:] for t in TIMES], ids=[t[0] for t in TIMES]
)
def test_work_by_hand(kind: str, asked: Any, truth: Any, found: Work) -> None:
    assert work(kind, asked, truth) == found


def test_seconds_by_hand() -> None:
    assert Seconds().of(Work(2, 3, 4)) == pytest.approx(2 * 1.35 + 3 * 0.28 + 4 * 1.3)
    assert Seconds(image=10, look=1, key=0.5, vertex=2).of(Work(2, 3, 4)) == 10 + 2 + 1.5 + 8
    assert Seconds(look=0.00049, key=0, vertex=0).of(Work(1, 1)) == 0.0  # milliseconds


def test_several_raw_ids_of_a_class_are_one() -> None:
    assert work("full", [[1, 1, 1]], [[0, 2, 0]], MERGED) == Work(1, 1)
    assert work("full", [[1, 1, 1]], [[3, 255, 3]], MERGED) == Work(1, 1)  # both void


# --- errors -------------------------------------------------------------------------------------

TRUTHS = arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, 255]))
ASKED = arrays(np.int32, (7, 9), elements=st.integers(0, 4))


@given(asked=ASKED, truth=TRUTHS, kind=st.sampled_from(ANSWERS), name=st.sampled_from([*SPACES]))
@settings(max_examples=150, deadline=None)
def test_no_error_is_the_oracle(asked: np.ndarray, truth: np.ndarray, kind: str, name: str) -> None:
    """Byte for byte; also where something is drawn, but no class can be taken for another."""
    answer = right(kind, asked, truth, SPACES[name])
    classes = SPACES[name].num_classes
    never = Errors(
        boundary=0.0 if kind == "full" else 1.0,
        wrong_class=1.0,
        confusion=((0.0,) * classes,) * classes,
    )
    for errors in (Errors(), never):
        found = erring(kind, asked, truth, errors, SPACES[name])
        assert found.labels.tobytes() == answer.labels.tobytes()
        assert found.labels.dtype == np.uint8
        assert (found.answered == answer.answered).all()
        assert found.clicks == answer.clicks
        assert (found.sets is None) == (answer.sets is None)
        if found.sets is not None and answer.sets is not None:
            assert found.sets.classes == answer.sets.classes
            assert (found.sets.regions == answer.sets.regions).all()


@given(asked=ASKED, truth=TRUTHS, kind=st.sampled_from(ANSWERS), name=st.sampled_from([*SPACES]))
@settings(max_examples=150, deadline=None)
def test_what_errors_never_do(asked: np.ndarray, truth: np.ndarray, kind: str, name: str) -> None:
    """Nothing outside of what is asked, no unknown id, no class for void; cost stays."""
    space = SPACES[name]
    answer = right(kind, asked, truth, space)
    errors = Errors(boundary=0.5, radius=3, wrong_class=0.5, void=0.2)
    found = erring(kind, asked, truth, errors, space)
    assert (found.labels[asked == 0] == 255).all()
    assert (space.raw_to_train[found.labels] >= 0).all()
    assert found.clicks == answer.clicks
    assert (found.answered == answer.answered).all()
    known = np.zeros(asked.shape, bool) if answer.sets is None else answer.sets.regions > 0
    void = (space.raw_to_train[answer.labels] == 255) & ~known
    assert (space.raw_to_train[found.labels[void]] == 255).all()
    if found.sets is not None:
        assert (found.labels[found.sets.regions > 0] == 255).all()
        assert found.sets.regions.max() == len(found.sets.classes)
        assert all(len(s) > 1 and list(s) == sorted(set(s)) for s in found.sets.classes)


@pytest.mark.parametrize("share", [0.05, 0.4])
@pytest.mark.parametrize("kind", ANSWERS)
def test_share_of_wrong_items(kind: str, share: float) -> None:
    """Items of one class: as many as said get another, each of the others as often."""
    asked = grid(400, 400, 4)  # 10,000 items
    truth = np.full(asked.shape, 1, np.uint8)
    whole = erring(kind, asked, truth, Errors(wrong_class=share)).labels
    labels = whole[::4, ::4]
    assert (whole == np.kron(labels, np.ones((4, 4)))).all()
    n = labels.size
    for raw, expected in ((0, share / 2), (1, 1 - share), (2, share / 2)):
        assert abs((labels == raw).mean() - expected) < 4.5 * (expected / n) ** 0.5


def test_a_confusion_says_which_class() -> None:
    asked = grid(300, 300, 3)
    confusion = ((9.0, 1.0, 3.0), (0.0, 5.0, 0.0), (0.0, 2.0, 0.0))
    errors = Errors(wrong_class=0.5, confusion=confusion)
    for raw, expected in ((0, (0.5, 0.125, 0.375)), (1, (0, 1, 0)), (2, (0, 0.5, 0.5))):
        labels = erring("dominant", asked, np.full(asked.shape, raw), errors).labels[::3, ::3]
        shares = np.bincount(labels.ravel(), minlength=3) / labels.size
        assert np.abs(shares - expected).max() < 0.025, raw


def test_raw_ids_of_reduce_zero_label() -> None:
    asked, truth = grid(60, 60, 2), np.full((60, 60), 3, np.uint8)
    labels = erring("full", asked, truth, Errors(wrong_class=1.0), ZERO_VOID).labels
    assert set(np.unique(labels).tolist()) == {1, 2}


def test_an_item_errs_class_by_class() -> None:
    """In an image of two classes the one may be taken for another, the other not."""
    asked, truth = np.ones((2, 60), np.int32), np.repeat([[0], [1]], 60, axis=1)
    seen = set()
    for seed in range(60):
        labels = erring("full", asked, truth, Errors(wrong_class=0.5), seed=seed).labels
        assert [len(set(row)) for row in labels.tolist()] == [1, 1]
        seen.add((labels[0, 0], labels[1, 0]))
    assert len(seen) == 9  # every pair of classes


def test_sets_of_classes() -> None:
    """A wrong class may make two of a set one; then the region has a label."""
    asked, truth = grid(2, 2000, 2), np.tile(np.array([[0, 1]], np.uint8), (2, 1000))
    found = erring("multiclass", asked, truth, Errors(wrong_class=0.5))
    assert found.sets is not None
    item_sets = [
        found.sets.classes[n - 1] if n else (int(raw),)
        for n, raw in zip(found.sets.regions[0, ::2], found.labels[0, ::2], strict=True)
    ]
    shares = {s: item_sets.count(s) / 1000 for s in set(item_sets)}
    # road is taken for car, pole by 1/4 each; car for road, pole likewise
    expected = {(0, 1): 5 / 16, (0, 2): 1 / 8 + 1 / 16, (1, 2): 1 / 8 + 1 / 16}
    expected |= {(0,): 1 / 8, (1,): 1 / 8, (2,): 1 / 16}
    assert shares.keys() == expected.keys()
    assert all(abs(shares[s] - expected[s]) < 0.06 for s in expected)


def test_void_items() -> None:
    asked, truth = grid(300, 300, 3), np.ones((300, 300), np.uint8)
    for kind in ANSWERS:
        found = erring(kind, asked, truth, Errors(void=0.2))
        labels = found.labels[::3, ::3]
        assert set(np.unique(labels)) == {1, 255}
        assert abs((labels == 255).mean() - 0.2) < 0.02
        assert found.answered.all()
    truth[:, ::3] = 0
    sets = erring("multiclass", asked, truth, Errors(void=0.2)).sets
    assert sets is not None
    assert abs(len(sets.classes) / 10000 - 0.8) < 0.02


# --- boundaries ---------------------------------------------------------------------------------


def brute_slip(classes: np.ndarray, hit: np.ndarray, radius: int) -> np.ndarray:
    """Pixel by pixel, in plain Python."""
    found = classes.copy()
    for r, c in np.argwhere(hit):
        others = [
            ((y - r) ** 2 + (x - c) ** 2, y - r, x - c, classes[y, x])
            for y, x in np.ndindex(*classes.shape)
            if classes[y, x] not in (255, classes[r, c])
        ]
        if others and min(others)[0] <= radius**2:
            found[r, c] = min(others)[3]
    return found


@given(
    classes=arrays(np.int64, (6, 8), elements=st.sampled_from([0, 0, 0, 1, 2, 255])),
    hit=arrays(np.bool_, (6, 8)),
    radius=st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_slips_pixel_by_pixel(classes: np.ndarray, hit: np.ndarray, radius: int) -> None:
    hit &= classes != 255
    assert (slipped(classes, classes, hit, radius) == brute_slip(classes, hit, radius)).all()


def test_slips_happen_at_boundaries_as_often_as_said() -> None:
    truth = np.zeros((400, 400), np.uint8)
    truth[:, 200:] = 1
    asked = np.arange(1, truth.size + 1, dtype=np.int32).reshape(truth.shape)  # pixels
    wrong = erring("full", asked, truth, Errors(boundary=0.3, radius=3)).labels != truth
    assert np.flatnonzero(wrong.any(axis=0)).tolist() == list(range(197, 203))
    assert abs(wrong[:, 197:203].mean() - 0.3) < 0.045  # 2,400 pixels
    # the boundary counts where the other side has not been asked, too
    left = np.where(truth == 0, asked, 0).astype(np.int32)
    alone = erring("full", left, truth, Errors(boundary=0.3, radius=3)).labels
    assert ((alone != truth) == wrong)[:, :200].all()


def test_slips_are_about_classes_of_pixels() -> None:
    truth = np.kron(np.array([[0, 1], [2, 0]], np.uint8), np.ones((6, 6), np.uint8))
    asked = grid(12, 12, 3)
    for kind in ("dominant", "multiclass"):
        found = erring(kind, asked, truth, Errors(boundary=1.0, radius=4))
        assert (found.labels == right(kind, asked, truth).labels).all()


# --- seeds --------------------------------------------------------------------------------------


def pool_and_query(
    root: Path, kind: str = "full", keys: str = "abc", round_: int = 1
) -> tuple[list[PoolItem], Query]:
    rng = np.random.default_rng(5)
    pool = []
    for key in keys:
        truth = np.kron(rng.integers(0, 3, (5, 6)), np.ones((4, 4))).astype(np.uint8)
        for name, pixels in (("images", np.zeros((*truth.shape, 3), np.uint8)), ("truth", truth)):
            (root / name).mkdir(parents=True, exist_ok=True)
            write_png(root / name / f"{key}.png", pixels)
        paths = root / f"images/{key}.png", root / f"truth/{key}.png"
        pool.append(PoolItem(key, *paths, truth.shape))
    folder = root / f"rounds/{round_:03d}/query"
    folder.parent.mkdir(parents=True)
    info = QueryInfo(round_, "region", "grid", kind)
    maps = ((i, key, grid(20, 24, 5)) for i, key in enumerate(keys))
    return pool, write_query(folder, info, np.zeros(0, PICK_DTYPE), maps)


ERRORS = {"boundary": 0.3, "wrong_class": 0.3, "void": 0.1}


def ask(
    pool: list[PoolItem], query: Query, keys: str = "abc", run_seed: int = 0, **more: Any
) -> Mapping[str, ImageAnswer]:
    spec = {"type": "simulated", "errors": ERRORS, **more}
    annotator = build_annotator(spec, pool, SPACE, run_seed)
    return {answer.key: answer for answer in annotator.collect(query, list(keys))}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_do_not_depend_on_order_or_repetition(tmp_path: Path, kind: str) -> None:
    pool, query = pool_and_query(tmp_path, kind)
    first = ask(pool, query)
    for keys in ("abc", "cab", "b"):
        for key, answer in ask(pool, query, keys).items():
            assert answer.labels.tobytes() == first[key].labels.tobytes()
            assert answer.seconds == first[key].seconds > 0
    assert first["a"].labels.tobytes() != first["b"].labels.tobytes()


def test_answers_depend_on_seed_and_round(tmp_path: Path) -> None:
    pool, query = pool_and_query(tmp_path / "1")
    _, later = pool_and_query(tmp_path / "2", round_=2)
    first = ask(pool, query)["a"].labels
    others = {
        "seed": ask(pool, query, seed=1)["a"].labels,
        "run": ask(pool, query, run_seed=2)["a"].labels,
        "round": ask(pool, later)["a"].labels,
    }
    assert all((first != labels).any() for labels in others.values())
    assert len({labels.tobytes() for labels in others.values()}) == 3
    same = ask(pool, query, seed=0, run_seed=7)["a"].labels  # its own seed counts more
    assert (same == first).all()


def test_an_item_errs_the_same_whatever_else_is_asked() -> None:
    truth = np.kron(np.random.default_rng(0).integers(0, 3, (8, 8)), np.ones((3, 3)))
    asked = grid(24, 24, 3)
    errors = Errors(boundary=0.4, wrong_class=0.4, void=0.2)
    whole = erring("full", asked, truth, errors).labels
    few = np.where(asked % 5 == 1, asked, 0).astype(np.int32)
    assert (erring("full", few, truth, errors).labels[few > 0] == whole[few > 0]).all()


@pytest.mark.parametrize("kind", ANSWERS)
def test_errors_cost_nothing_and_no_error_is_the_oracle(tmp_path: Path, kind: str) -> None:
    pool, query = pool_and_query(tmp_path, kind)
    oracle = build_annotator("oracle", pool, SPACE)
    true = {answer.key: answer for answer in oracle.collect(query, list("abc"))}
    noisy, exact = ask(pool, query), ask(pool, query, errors=None)
    for key, answer in true.items():
        assert exact[key].labels.tobytes() == answer.labels.tobytes()
        assert (noisy[key].clicks, noisy[key].seconds) == (answer.clicks, exact[key].seconds)
        asked, truth = query.asked(key), oracle.look(query, key)[1]  # type: ignore[attr-defined]
        found = work_of(kind, asked, truth, answer.clicks or 0, SPACE)
        assert exact[key].seconds == Seconds().of(found)
    slow = ask(pool, query, seconds={"image": 100})
    assert slow["a"].seconds == pytest.approx(100 + (noisy["a"].seconds or 0))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"seconds": 3}, "annotator.seconds must be a dict, not 3"),
        ({"seconds": {"click": 1}}, "annotator.seconds has no key 'click'"),
        ({"seconds": {"key": -1}}, "annotator.seconds.key=-1 must be a number from 0 to 86400"),
        ({"seconds": {"look": float("nan")}}, "annotator.seconds.look=nan must be"),
        ({"errors": 0.1}, "annotator.errors must be a dict, not 0.1"),
        ({"errors": {"bondary": 0.1}}, "no key 'bondary'. Did you mean 'boundary'?"),
        ({"errors": {"boundary": 1.5}}, "annotator.errors.boundary=1.5 must be a number from 0"),
        ({"errors": {"boundary": True}}, "annotator.errors.boundary=True must"),
        ({"errors": {"radius": 0}}, "annotator.errors.radius=0 must be a whole number"),
        ({"errors": {"radius": 1000}}, "annotator.errors.radius=1000 must be at most 32 pixels"),
        ({"errors": {"confusion": [[1]]}}, "confusion must be 3 rows of 3 numbers"),
        ({"errors": {"confusion": [[0] * 3] * 2 + [[0]]}}, "confusion[2] must be one of 3 rows"),
        ({"errors": {"confusion": [[0, -1, 0]] * 3}}, "confusion[0]=-1 must be a number from 0"),
        ({"seed": -1}, "annotator.seed=-1 must be a whole number of at least 0"),
        ({"run_seed": 3}, "acquisition.annotator has no key 'run_seed': leave it out"),
        ({"noise": 3}, "no argument 'noise': it takes seconds, errors, seed"),
    ],
)
def test_wrong_values_are_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        build_annotator({"type": "simulated", **spec}, [], SPACE)
    assert "\n" not in str(caught.value)


def test_one_class_cannot_be_taken_for_another() -> None:
    one = LabelSpace.plain(("road",), ((0, 0, 0),))
    with pytest.raises(ConfigError, match="the data set has one class"):
        build_annotator({"type": "simulated", "errors": {"wrong_class": 0.1}}, [], one)
    build_annotator({"type": "simulated", "errors": {"wrong_class": 0.0}}, [], one)


def test_nobody_takes_a_class_for_one_that_cannot_be_named() -> None:
    """Such as that of an ignore_index: its raw id is void."""
    table = np.full(256, -1, np.int16)
    table[[0, 1, 2, 255]] = 255, 1, 2, 255
    space = LabelSpace(("a", "b", "c"), ((0, 0, 0),) * 3, table)
    asked = np.arange(1, 65, dtype=np.int32).reshape(8, 8)
    truth = np.full((8, 8), 1, np.uint8)
    right = ImageAnswer("a", truth, asked > 0, 64)
    always = Errors(wrong_class=1.0)
    found = with_errors(right, "full", asked, truth, space, always, draws(0, 1, "a"))
    assert set(np.unique(found.labels)) == {2}
