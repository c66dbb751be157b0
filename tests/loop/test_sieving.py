"""`acquisition.sieve`: training on a part of the pixels of a region that has been answered by one
class."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import play, small_data

from regional_al.config import grammar
from regional_al.errors import ConfigError, WorkDirError
from regional_al.loop import sieving
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.loop.sieving import knee, sieve
from regional_al.runtime import distributed as dist
from regional_al.store import results as records
from regional_al.store.images import read_ids, write_png
from regional_al.store.prelabels import MACHINE, TrainingLabels
from regional_al.store.query import read_query
from regional_al.store.sieved import SievedPixels
from regional_al.testing.toy import toy_engine
from regional_al.types import UNLABELED, PredictRequest

SIZE = (40, 48)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=5, val=2, size=SIZE, seed=1)


def start(data: Path, run: Path, **more: Any) -> ActiveLearningLoop:
    raw = {
        "level": "region",
        "heuristic": "Entropy",
        "region": {"type": "grid", "cell": 16},
        "annotator": {"type": "oracle", "answer": "dominant"},
        "budget": {"amount": 6, "unit": "region"},
        "rounds": 2,
        "sieve": {"min_pixels": 200},
        **more,
    }
    return play(data, run, {k: v for k, v in raw.items() if v is not None}, iterations=3)


def masks(run: Path, round_: int) -> dict[str, np.ndarray]:
    return {path.name: read_ids(path) for path in (run / f"rounds/{round_:03d}/sieved").glob("*")}


def test_knees_worked_by_hand() -> None:
    # Heights 0, .5, .9, .95, 1 less 0, .25, .5, .75, 1: 0, .25, .4, .2, 0.
    assert knee(np.array([0.0, 0.5, 0.9, 0.95, 1.0])) == 2
    assert knee(np.array([2.0, 2.5, 2.9, 2.95, 3.0])) == 2  # whatever the scale
    assert knee(np.linspace(0, 1, 50)) is None
    assert knee(np.linspace(0, 1, 50) ** 3) is None
    assert knee(np.array([0.0, 1.0])) is None
    assert knee(np.array([0.3, 0.3, 0.3])) is None
    # 0, 1/3 + .1, 2/3 + .1, 1: above the diagonal by less than the spacing of two values.
    assert knee(np.array([0.0, 1 / 3 + 0.1, 2 / 3 + 0.1, 1.0])) is None


def kneedle(values: list[float]) -> int | None:
    """Kneedle step by step: maxima of the difference curve, and for each a threshold that the curve
    must fall below before it gets higher. The highest point of the curve alone may be a knee."""
    many = len(values)
    if many < 3 or values[0] == values[-1]:
        return None
    curve = [
        (value - values[0]) / (values[-1] - values[0]) - place / (many - 1)
        for place, value in enumerate(values)
    ]
    found = []
    for place in range(1, many - 1):
        if curve[place - 1] < curve[place] and curve[place] >= curve[place + 1]:
            for later in curve[place + 1 :]:
                if later > curve[place]:
                    break
                if later < curve[place] - 1 / (many - 1):
                    found.append((-curve[place], place))
                    break
    found = [(height, place) for height, place in found if -height == max(curve) > 0]
    return min(found)[1] if found else None


@given(st.lists(st.integers(0, 64), min_size=1, max_size=40))
def test_knees_are_those_of_kneedle(drawn: list[int]) -> None:
    values = np.sort(np.array(drawn)) / 64
    place, expected = knee(values), kneedle(values.tolist())
    if place != expected:  # rounding alone: of equal heights, or at the very threshold
        many = len(values)
        heights = (values - values[0]) / (values[-1] - values[0]) - np.arange(many) / (many - 1)
        at = place if expected is None else expected
        assert at is not None
        fall = heights[at] - heights[at:].min()
        assert heights[at] == pytest.approx(heights.max(), abs=1e-12)
        if None in (place, expected):
            assert fall == pytest.approx(1 / (many - 1), abs=1e-12) or abs(heights[at]) < 1e-12


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 30))
def test_regions_are_sieved_one_by_one(seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    regions = rng.integers(0, 5, (8, 9)).astype(np.int32)
    labels = np.array([0, 2, 255, 1, 3], np.uint8)[regions]
    labels[(regions == 4) & (rng.random((8, 9)) < 0.5)] = 0  # edited: two classes
    p = rng.random((8, 9)).astype(np.float32) ** 0.2
    expected = np.zeros((8, 9), bool)
    for number in range(1, 5):
        inside = regions == number
        classes = np.unique(labels[inside])
        if inside.sum() < least or len(classes) != 1 or classes[0] == UNLABELED:
            continue
        ascending = np.sort(p[inside].astype(np.float64))
        place = knee(ascending)
        if place is not None:
            expected |= inside & (p < ascending[place])
    assert np.array_equal(sieve(p, labels, regions, least), expected)


def test_a_training_sees_what_the_model_before_gives_the_class(data: Path, tmp_path: Path) -> None:
    loop = start(data, tmp_path / "run")
    assert not (tmp_path / "run/rounds/000/sieved").exists()  # there was no model yet
    assert not (tmp_path / "run/rounds/001/sieved").exists()  # of the round before
    seen, engine = TrainingLabels(loop.work_dir.training_labels), loop.engine
    sieved = SievedPixels(loop.work_dir.sieved(2))
    checkpoint = loop.work_dir.fit(1) / "checkpoint.pth"
    indices = range(len(engine.pool))
    outputs = [one.logits for one in engine.predict(checkpoint, indices, PredictRequest())]
    left, asked, quality = 0, set(), [0, 0]
    for number in range(3):
        query = read_query(loop.work_dir.query(number))
        for index, key in query.keys.items():
            asked.add(key)
            labels, rounds = loop.store.read(key), loop.store.annotated(key)
            p = torch.softmax(outputs[index], 0).numpy()
            found = sieved.read(key)
            assert labels is not None
            assert rounds is not None
            assert found is not None
            for unit in range(1, len(query.items(key)) + 1):
                inside = (query.asked(key) == unit) & (rounds == number + 1)
                (class_,) = np.unique(labels[inside])
                values = p[class_][inside] if class_ != UNLABELED else np.zeros(0)
                ascending = np.sort(values.astype(np.float64))
                place = knee(ascending) if len(values) >= 200 else None
                out = np.zeros(0) if place is None else values < ascending[place]
                assert found[inside].sum() == out.sum()
                left += int(out.sum())
    for item in engine.pool:
        labels, rounds, found = (
            loop.store.read(item.key),
            loop.store.annotated(item.key),
            sieved.read(item.key),
        )
        assert (found is not None) == (item.key in asked)
        if labels is None or rounds is None or found is None:
            assert seen.read(item.key) is None
            continue
        now, origin = seen.read(item.key), seen.annotated(item.key)
        assert np.array_equal(now, np.where(found, UNLABELED, labels))
        assert np.array_equal(origin, np.where(found, 0, rounds))
        truth = read_ids(item.annotation)
        known = (now != UNLABELED) & (truth != UNLABELED)
        quality[0] += int((now == truth)[known].sum())
        quality[1] += int(known.sum())
    assert left > 0
    *_, last = records.load(tmp_path / "run").records
    assert last.label_accuracy == pytest.approx(quality[0] / quality[1])
    plain = start(data, tmp_path / "plain", sieve=None, rounds=0)
    first = records.load(tmp_path / "run").records[0]
    assert records.load(tmp_path / "plain").records[0].miou == first.miou
    assert plain.training_store() is plain.store
    pixels = sum(int((loop.store.annotated(k) > 0).sum()) for k in asked)
    assert last.costs.pixels == pixels  # what is left out has been paid for


@pytest.mark.parametrize("where", ["mask", "masks", "refresh", "fit"])
def test_a_kill_changes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    more, calls = {"rounds": 1}, iter(range(100))
    owner, name, at = {
        "mask": (SievedPixels, "write", 0),
        "masks": (sieving, "prepare", 2),  # that of round 1
        "refresh": (TrainingLabels, "_put", 14),
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
            start(data, tmp_path / "a", **more)
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("sieved/*.png")}
    start(data, tmp_path / "a", **more)
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert made
    start(data, tmp_path / "b", **more)
    for part in ("training_labels", "labels", "rounds/001/sieved"):
        files = [
            {p.relative_to(tmp_path / run): p.read_bytes() for p in sorted(folder.rglob("*.png"))}
            for run in ("a", "b")
            for folder in [tmp_path / run / part]
        ]
        assert files[0] == files[1] != {}
    ours, theirs = (records.load(tmp_path / run).records for run in ("a", "b"))
    assert [(r.miou, r.label_miou) for r in ours] == [(r.miou, r.label_miou) for r in theirs]


def test_masks_are_made_again_where_they_are_gone_damaged_or_of_other_answers(
    data: Path, tmp_path: Path
) -> None:
    loop = start(data, tmp_path / "run", rounds=1)
    loop.round, before = 1, masks(tmp_path / "run", 1)
    loop.open()
    gone, damaged, other = sorted((tmp_path / "run/rounds/001/sieved").glob("*.png"))[:3]
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:60])
    sieved = SievedPixels(other.parent)
    sieved.write(other.stem, np.ones(SIZE, bool), "other answers")
    sieving.prepare(loop)
    loop.records.close()
    after = masks(tmp_path / "run", 1)
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_processes_share_the_images(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = start(data, tmp_path / "run", rounds=1)
    loop.round, whole = 1, masks(tmp_path / "run", 1)
    loop.open()
    folder = loop.work_dir.sieved(1)
    shutil.rmtree(folder)
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "world_size", lambda: 2)
        sieving.prepare(loop)
        seen.append(len(list(folder.glob("*"))))
    monkeypatch.undo()
    loop.records.close()
    assert 0 < seen[0] < seen[1] == len(whole)
    again = masks(tmp_path / "run", 1)
    assert all(np.array_equal(again[key], whole[key]) for key in whole)


def test_a_machine_does_not_label_what_is_left_out(data: Path, tmp_path: Path) -> None:
    for item in toy_engine(data).pool:
        write_png(tmp_path / "pre" / f"{item.key}.png", np.full(SIZE, 3, np.uint8))
    annotator = {"type": "oracle", "answer": "correction"}
    warm = {"prelabels": str(tmp_path / "pre")}
    loop = start(data, tmp_path / "run", annotator=annotator, warm_start=warm)
    seen, left = TrainingLabels(loop.work_dir.training_labels), 0
    for item in loop.engine.pool:
        labels, origin = seen.read(item.key), seen.annotated(item.key)
        out = SievedPixels(loop.work_dir.sieved(2)).read(item.key)
        rounds = loop.store.annotated(item.key)
        assert labels is not None
        assert origin is not None
        out = np.zeros(SIZE, bool) if out is None else out
        assert not (out & ((0 if rounds is None else rounds) == 0)).any()
        assert (labels[out] == UNLABELED).all()
        assert not origin[out].any()
        assert (
            (origin == MACHINE) == (np.zeros(SIZE) if rounds is None else rounds == 0)
        ).all() or rounds is None
        left += int(out.sum())
    assert left > 0


def test_one_continuous_run_is_sieved_between_its_stretches(data: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "run", queries=[1, 2], rounds=None)
    assert any(mask.any() for mask in masks(tmp_path / "run", 2).values())
    assert len(records.load(tmp_path / "run").records) == 3


def test_a_resumed_run_refuses_other_keys(data: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "run", rounds=0)
    with pytest.raises(WorkDirError, match=r"acquisition\.sieve\.min_pixels was 200, now it is 9"):
        start(data, tmp_path / "run", sieve={"min_pixels": 9})
    with pytest.raises(WorkDirError, match=r"acquisition\.sieve"):
        start(data, tmp_path / "run", sieve=None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"acquisition\.sieve=3 must be a dict\(min_pixels=512\), True, False or None"),
        ({"min_pixel": 3}, "Did you mean 'min_pixels'"),
        ({"min_pixels": 0}, r"sieve\.min_pixels=0 must be"),
    ],
)
def test_mistakes_in_the_config(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grammar.parse({"sieve": value, "annotator": {"type": "oracle", "answer": "dominant"}})


@pytest.mark.parametrize("answer", ["full", "multiclass"])
def test_other_answers_are_not_sieved(answer: str) -> None:
    with pytest.raises(ConfigError, match=r"acquisition\.sieve is about .*leave sieve out"):
        grammar.parse({"sieve": True, "annotator": {"type": "oracle", "answer": answer}})
    assert grammar.parse({"sieve": False}).sieve is None
