"""`acquisition.region_classes.pseudo`: labels of a model for pixels of regions of which people know
the classes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import play, small_data

from regional_al.errors import UnsupportedError, WorkDirError
from regional_al.loop import pseudo_labels as module
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.loop.pseudo_labels import Look, near_border, pseudo_labels
from regional_al.runtime import distributed as dist
from regional_al.store import results as records
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.store.prelabels import MACHINE, TrainingLabels
from regional_al.store.pseudo_labels import PseudoLabels
from regional_al.testing.toy import toy_engine
from regional_al.types import UNLABELED

SIZE = (40, 48)
NONE = UNLABELED


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=4, val=1, size=SIZE, seed=1)


def start(data: Path, run: Path, pseudo: Any = True, **more: Any) -> ActiveLearningLoop:
    raw = {
        "level": "region",
        "heuristic": "Entropy",
        "region": {"type": "grid", "cell": 16},
        "annotator": {"type": "oracle", "answer": "multiclass"},
        "budget": {"amount": 6, "unit": "region"},
        "rounds": 1,
        "region_classes": {"pseudo": pseudo},
        **more,
    }
    return play(data, run, raw, iterations=3)


def look_of(p: list[list[float]], vectors: list[list[float]]) -> Look:
    """Of one row of pixels, each with a feature of its own."""
    given = np.array(vectors, np.float32)
    given /= np.maximum(np.linalg.norm(given, axis=1, keepdims=True), 1e-12)
    return Look(np.log(np.array(p, np.float32))[:, None], given, np.arange(len(given))[None])


def test_an_example_worked_by_hand() -> None:
    """Region 1 (pixels 0 to 3) has classes 0 and 2, region 2 (pixel 4) class 1; unit 2 is open."""
    p = [
        [0.8, 0.6, 0.3, 0.1, 0.3, 0.3, 0.3, 0.3],
        [0.1, 0.1, 0.4, 0.2, 0.5, 0.4, 0.4, 0.4],
        [0.1, 0.3, 0.3, 0.7, 0.2, 0.3, 0.3, 0.3],
    ]
    # Prototypes: (1, 0) of class 0 from pixel 0, (0, 1) of class 2 from pixel 3, (-1, 0) of 1.
    # Cosines to (1, 0): 1, 0.8, 0.6, 0; to (0, 1): 0, 0.6, 0.8, 1. Medians: 0.9, 0.9 and 1.
    vectors = [[1, 0], [4, 3], [3, 4], [0, 1], [-1, 0], [-9, 1], [-1, 0], [-2, 0]]
    members = np.array([[0, 0, 0], [1, 0, 1], [0, 1, 0]], bool)
    regions = np.array([[1, 1, 1, 1, 2, 0, 0, 0]], np.int32)
    units = np.array([[0, 0, 0, 0, 1, 2, 2, 3]], np.int32)
    look, answered = look_of(p, vectors), regions > 0
    alone = pseudo_labels(look, regions, members, None, answered)
    assert alone.tolist() == [[0, 0, 2, 2, 1, NONE, NONE, NONE]]
    # Of unit 2 no pixel is more similar to (-1, 0) than that prototype's own pixel is.
    assert pseudo_labels(look, regions, members, units, answered).tolist() == alone.tolist()
    # Beside region 1 they would: cosines 0.99 to (0, 1) and (1, 0), and 0.6 to either.
    vectors[5:] = [[1, 9], [3, 4], [1, 9]]
    near = np.array([[1, 1, 1, 1, 0, 0, 0, 0]], np.int32)
    beside = np.array([[0, 0, 0, 0, 2, 2, 2, 3]], np.int32)
    found = pseudo_labels(look_of(p, vectors), near, members, beside, near > 0)
    assert found.tolist() == [[0, 0, 2, 2, NONE, 2, NONE, NONE]]  # unit 3 is not a neighbour
    trimmed = pseudo_labels(look_of(p, vectors), near, members, beside, near > 0, trim=5)
    assert trimmed.tolist() == [[0, 0, NONE, NONE, NONE, NONE, NONE, NONE]]
    partly = near > 0
    partly[0, 6] = True  # unit 2 has an answer now
    assert (pseudo_labels(look_of(p, vectors), near, members, beside, partly)[0, 4:] == NONE).all()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return round(float(a.astype(np.float64) @ b.astype(np.float64)), 9)


def by_pixels(
    look: Look,
    regions: np.ndarray,
    members: np.ndarray,
    units: np.ndarray | None,
    answered: np.ndarray,
    trim: int,
) -> np.ndarray:
    """`pseudo_labels` pixel by pixel."""
    height, width = regions.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    out = np.full(regions.shape, NONE, np.uint8)

    def feature(place: tuple[int, int]) -> np.ndarray:
        return look.vectors[look.cells[place]]

    def choose(place: tuple[int, int], able: list[tuple[float, float, int, int]]) -> None:
        """Of (similarity, -region, log p, -class) the highest."""
        if able:
            out[place] = -max(able, key=lambda one: (one[0], one[1], one[2], one[3]))[3]

    prototypes: dict[int, list[tuple[int, np.ndarray]]] = {}
    least: dict[tuple[int, int], float] = {}
    for r in range(1, len(members)):
        own = [one for one in places if regions[one] == r]
        if not own:
            continue
        for c in np.flatnonzero(members[r]).tolist():
            best = max(own, key=lambda one: (look.log_p[c][one], -one[0], -one[1]))
            prototypes.setdefault(r, []).append((c, feature(best)))
        for one in own:
            able = [
                (cosine(vector, feature(one)), 0.0, float(look.log_p[c][one]), -c)
                for c, vector in prototypes.get(r, [])
            ]
            choose(one, able)
        for c, vector in prototypes.get(r, []):
            theirs = [cosine(vector, feature(one)) for one in own if out[one] == c]
            least[r, c] = float(np.median(theirs)) if theirs else np.inf
    if units is not None:
        for unit in np.unique(units).tolist():
            inside = [one for one in places if units[one] == unit]
            if any(answered[one] for one in inside):
                continue
            around = {
                int(regions[y + dy, x + dx])
                for y, x in inside
                for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
                if 0 <= y + dy < height and 0 <= x + dx < width
            }
            for one in inside:
                able = [
                    (cosine(vector, feature(one)), -float(r), float(look.log_p[c][one]), -c)
                    for r in around
                    for c, vector in prototypes.get(r, [])
                    if cosine(vector, feature(one)) > least[r, c]
                ]
                choose(one, able)
    ids = regions if units is None else np.where(regions > 0, regions, -1 - units)
    half = trim // 2
    for y, x in places:
        square = ids[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
        if (square != ids[y, x]).any():
            out[y, x] = NONE
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([0, 1, 3, 5]))
def test_every_pixel_is_as_the_definition_says(seed: int, spread: bool, trim: int) -> None:
    """Few different features and probabilities, so that many are equal."""
    rng = np.random.default_rng(seed)
    height, width, classes = 6, 7, 3
    units = rng.integers(0, 3, (3, 4)).repeat(2, 0).repeat(2, 1)[:height, :width].astype(np.int32)
    units = units + 3 * (np.arange(width) > 3)
    asked = rng.random(6) < 0.5
    regions = np.where(asked[units], units + 1, 0).astype(np.int32)
    members = rng.random((7, classes)) < 0.6
    members[0] = False
    vectors = rng.integers(-2, 3, (12, 2)).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    p = rng.integers(1, 4, (classes, height, width)).astype(np.float32)
    look = Look(np.log(p / p.sum(0)), vectors, rng.integers(0, 12, (height, width)))
    given = (look, regions, members, units.astype(np.int32) if spread else None, regions > 0, trim)
    assert np.array_equal(pseudo_labels(*given), by_pixels(*given))


def test_pixels_near_a_border() -> None:
    ids = np.zeros((5, 7), np.int32)
    ids[:, 4:] = 1
    assert np.flatnonzero(near_border(ids, 3)[0]).tolist() == [3, 4]
    assert np.flatnonzero(near_border(ids, 5)[0]).tolist() == [2, 3, 4, 5]
    assert not near_border(ids, 1).any()
    assert not near_border(np.zeros((3, 3), np.int32), 5).any()  # nor at the edge of the image


@pytest.mark.parametrize("spread", [True, False])
def test_a_training_sees_them_and_answers_stay(data: Path, tmp_path: Path, spread: bool) -> None:
    run = tmp_path / "run"
    loop = start(data, run, {"spread": spread, "trim": 3})
    assert not (run / "rounds/000/pseudo").exists()  # there was no model yet
    seen, pseudo = (
        TrainingLabels(loop.work_dir.training_labels),
        PseudoLabels(run / "rounds/001/pseudo"),
    )
    inside = outside = 0
    for item in loop.engine.pool:
        found, sets = pseudo.read(item.key), loop.store.class_sets(item.key)
        assert (found is None) == (sets is None)
        if found is None or sets is None:
            continue
        labels, rounds = loop.store.read(item.key), loop.store.annotated(item.key)
        assert labels is not None
        assert rounds is not None
        there = found != UNLABELED
        assert (labels[there] == UNLABELED).all()
        assert np.array_equal(seen.read(item.key), np.where(there, found, labels))
        assert np.array_equal(seen.annotated(item.key), np.where(there, MACHINE, rounds))
        for number, classes in enumerate(sets.classes, 1):
            own = found[(sets.regions == number) & there]
            assert set(own.tolist()) <= set(classes)
        left = seen.class_sets(item.key)
        touched = set(sets.regions[there].tolist())
        for number in range(1, len(sets.classes) + 1):
            kept = left is not None and bool((left.regions[sets.regions == number] > 0).all())
            assert kept == (number not in touched)
        inside += int((there & (sets.regions > 0)).sum())
        outside += int((there & (rounds == 0)).sum())
        assert not (there & (rounds > 0) & (sets.regions == 0)).any()
    assert inside > 0
    assert (outside > 0) == spread
    first, last = records.load(run).records
    assert (first.pseudo_pixels, last.pseudo_pixels) == (0, inside + outside)
    plain = start(data, tmp_path / "plain", None)
    assert plain.training_store() is plain.store
    before, after = records.load(tmp_path / "plain").records
    assert (before.miou, before.pseudo_pixels) == (first.miou, None)
    assert after.costs == last.costs
    for item in loop.engine.pool:
        for read in (LabelStore.read, LabelStore.annotated):
            ours, theirs = read(loop.store, item.key), read(plain.store, item.key)
            assert ours is theirs is None or np.array_equal(ours, theirs)


@pytest.mark.parametrize("where", ["map", "refresh", "fit"])
def test_a_kill_changes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    calls = iter(range(1000))
    owner, name, at = {
        "map": (PseudoLabels, "write", 0),
        "refresh": (TrainingLabels, "_put", 10),
        "fit": (type(toy_engine(data)), "fit", 1),
    }[where]
    work = getattr(owner, name)

    def dies(*args: Any, **kwargs: Any) -> Any:
        found = work(*args, **kwargs)
        if next(calls) == at:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(Killed):
            start(data, tmp_path / "a")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("pseudo/*.png")}
    start(data, tmp_path / "a")
    assert made
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    start(data, tmp_path / "b")
    for part in ("training_labels", "labels", "rounds/001/pseudo"):
        files = [
            {p.relative_to(tmp_path / run): p.read_bytes() for p in folder.rglob("*.png")}
            for run in ("a", "b")
            for folder in [tmp_path / run / part]
        ]
        assert files[0] == files[1] != {}
    ours, theirs = (records.load(tmp_path / run).records for run in ("a", "b"))
    assert [(r.miou, r.pseudo_pixels) for r in ours] == [(r.miou, r.pseudo_pixels) for r in theirs]


def test_they_are_made_again_where_they_are_gone_and_shared_by_processes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = start(data, tmp_path / "run")
    folder = tmp_path / "run/rounds/001/pseudo"
    whole = {path.name: read_ids(path) for path in folder.glob("*")}
    for path in folder.glob("*"):
        path.unlink()
    loop.round = 1
    loop.open()
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "world_size", lambda: 2)
        module.prepare(loop)
        seen.append(len(list(folder.glob("*"))))
    monkeypatch.undo()
    loop.records.close()
    assert 0 < seen[0] < seen[1] == len(whole)
    assert all(np.array_equal(read_ids(folder / name), mask) for name, mask in whole.items())


def test_a_model_without_features_is_refused_before_anybody_is_asked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regional_al.engines.views.classifier", lambda model: None)
    with pytest.raises(UnsupportedError, match=r"region_classes\.pseudo .*pseudo=False"):
        start(data, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("query.json"))


def test_a_resumed_run_refuses_other_keys(data: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "run", rounds=0)
    with pytest.raises(WorkDirError, match=r"region_classes\.pseudo\.trim was 5, now it is 3"):
        start(data, tmp_path / "run", {"trim": 3})
