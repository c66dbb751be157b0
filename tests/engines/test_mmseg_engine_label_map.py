"""Data set classes with a label map of their own, 255 as a class among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_maps import buildings
from mmseg_tiny import Tiny, fit_once, make_engine
from refusals import refused

from regional_al.errors import DataError, UnsupportedError
from regional_al.loop import runner
from regional_al.store.check import check_run
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.results import load
from regional_al.store.work_dir import WorkDir
from regional_al.types import UNLABELED, ImageAnswer, PredictRequest

BUILDING = {0: 0, 255: 1}
RUN = {
    "level": "region",
    "heuristic": "RIPU",
    "region": {"type": "slic", "n_segments": 30},
    "budget": {"amount": "10%"},
    "warm_start": {"amount": "10%"},
    "previews": 1,
}


def counted(root: Path, tiny: Tiny, checkpoint: Path) -> np.ndarray:
    """The confusion matrix of the validation set, from predictions and raw masks of 0 and 255."""
    found = np.zeros((2, 2), np.int64)
    engine: Any = make_engine(root, {tiny.train_set: tiny.folders("img/val", "gt/val")})
    for seen in engine.predict(checkpoint, range(len(engine.pool)), PredictRequest()):
        truth = read_ids(engine.pool[seen.index].annotation) // 255
        np.add.at(found, (truth, seen.logits.argmax(0).cpu().numpy()), 1)
    return found


def test_a_run_on_masks_of_0_and_255(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label files have 1 for the class whose id in the masks is 255; the labels that a training
    gets, the confusion matrix, a resumed run and its check are those of the masks."""
    buildings(tmp_path, tiny, monkeypatch, BUILDING, 255)
    engine: Any = make_engine(tmp_path, {tiny.iterations: 2})
    work = tmp_path / "work"
    runner.run(engine, {**RUN, "rounds": 1}, work, report=False)
    assert check_run(work, thorough=True) == []
    engine = make_engine(tmp_path, {tiny.iterations: 2})
    runner.run(engine, {**RUN, "rounds": 2}, work, report=False)
    assert check_run(work, engine.label_space, engine.pool, thorough=True) == []
    store, seen = LabelStore(WorkDir(work).labels), set()
    for item in engine.pool:
        answered, label = store.annotated(item.key), store.read(item.key)
        if answered is None or label is None:
            continue
        truth = read_ids(item.annotation)
        assert (label == np.where(answered > 0, truth // 255, UNLABELED)).all()
        seen |= set(np.unique(label))
        sample = engine.read_sample(engine.dataset, engine.pool.index(item), store.path(item.key))
        mask = mask_of(sample)
        assert set(np.unique(mask)) <= {0, 1, UNLABELED}
        assert (mask == UNLABELED).any()
    assert seen == {0, 1, UNLABELED}
    results = load(work)
    assert results.records[-1].round == 2
    checkpoint = WorkDir(work).fit(2) / "checkpoint.pth"
    expected = counted(tmp_path, tiny, checkpoint)
    assert engine.evaluate(checkpoint).tolist() == expected.tolist()
    hits, sides = np.diag(expected), expected.sum(0) + expected.sum(1)
    assert results.records[-1].miou == pytest.approx(np.mean(hits / (sides - hits)))


def mask_of(sample: Any) -> np.ndarray:
    """The labels of a training sample."""
    if "data_samples" in sample:
        return np.asarray(sample["data_samples"].gt_sem_seg.data)
    return np.asarray(sample["gt_semantic_seg"].data)


def test_what_people_are_told(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of answers expects the id of label files, and refuses one of the masks as void."""
    buildings(tmp_path, tiny, monkeypatch, BUILDING, 255)
    engine: Any = make_engine(tmp_path, {tiny.iterations: 1})
    spec = {**RUN, "rounds": 1, "annotator": "folder"}
    loop = runner.run(engine, spec, tmp_path / "work", report=False)
    assert loop.status == "waiting"
    text = (WorkDir(tmp_path / "work").answers(0) / "README.txt").read_text().splitlines()
    assert "255: not answered yet" in text
    assert [line for line in text if "ground" in line or "building" in line] == [
        "0: ground",
        "1: building",
    ]


def test_no_id_is_left(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    full = {**dict.fromkeys(range(1, 254), 255), 254: 0, **BUILDING}
    buildings(tmp_path, tiny, monkeypatch, full, 255)
    refused(
        UnsupportedError,
        r"^Buildings makes 'building' of the id 255 of its masks, .*no id below 254 is left",
        lambda: make_engine(tmp_path),
    )


def test_masks_must_not_hold_the_id_that_stands_for_255(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    buildings(tmp_path, tiny, monkeypatch, {0: 0, 1: 9, 255: 1}, 255)
    engine: Any = make_engine(tmp_path)
    space = engine.label_space
    assert space.raw_to_train[[0, 1, 2, 255]].tolist() == [0, 1, -1, 255]
    assert space.mask_to_train[[0, 1, 2, 255]].tolist() == [0, -1, -1, 1]
    path = next(tmp_path.glob("gt/val/*/*.png"))
    write_png(path, np.minimum(read_ids(path), 1))
    refused(DataError, "holds id 1, which is no class", engine.preflight)


def test_another_label_map_is_applied(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool's truth, what a training sees of sparse labels, and what is evaluated."""
    buildings(tmp_path, tiny, monkeypatch, {0: 0, 200: 1}, 200)
    engine: Any = make_engine(tmp_path, {tiny.iterations: 2})
    space = engine.label_space
    assert space.raw_to_train[[0, 200, 255]].tolist() == [0, 1, 255]
    item = engine.pool[0]
    truth = read_ids(item.annotation)
    asked = np.zeros(truth.shape, bool)
    asked[40:60, 30:70] = True
    store = LabelStore(tmp_path / "labels")
    store.write(ImageAnswer(item.key, truth, asked), 0)
    engine.preflight()
    sample = engine.read_sample(engine.dataset, 0, store.path(item.key))
    assert set(np.unique(mask_of(sample))) <= {0, 1, 255}
    assert fit_once(engine, store, tmp_path / "fit").label_share > 0
    counts = engine.evaluate(tmp_path / "fit/checkpoint.pth")
    raw = [read_ids(path) for path in tmp_path.glob("gt/val/*/*.png")]
    assert counts.sum(1).tolist() == [sum(int((one == v).sum()) for one in raw) for v in (0, 200)]
