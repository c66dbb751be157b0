"""Interrupted stretches that train on more than labels: pixels without an answer, regions of which
only the classes are known. Labels alone: test_resume_inside.py."""

from __future__ import annotations

import importlib
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation import mmseg_generation
from interrupted import assert_same, engine_of, fit, iteration_of, killed, signalled
from mmseg_tiny import label_some, make_data, make_engine

from regional_al.annotators.oracle import class_sets
from regional_al.engines.mmseg.self_training import PseudoCount, SelfTraining
from regional_al.partitions import grid
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer

GENERATION = mmseg_generation()
if GENERATION is None:
    pytest.skip("MMSegmentation is not installed", allow_module_level=True)
pytest.importorskip("mmseg")

TINY = importlib.import_module(f"{GENERATION}_tiny").TINY


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    return folder


@pytest.fixture(scope="module")
def store(root: Path) -> LabelStore:
    store = LabelStore(root / "labels")
    label_some(store, make_engine(root), 5)
    return store


def with_teacher(root: Path, keep: str = "student", **values: Any) -> Any:
    """Trains on pixels without an answer, too."""
    unlabeled = {"threshold": 0.4, "keep": keep}
    return engine_of(root, {"acquisition.unlabeled": unlabeled}, **values)


@pytest.mark.parametrize(
    ("keep", "workers"),
    [("student", 0), ("teacher", 0), pytest.param("teacher", 2, marks=pytest.mark.slow)],
)
def test_a_teacher_is_resumed(
    root: Path, store: LabelStore, tmp_path: Path, keep: str, workers: int
) -> None:
    """Its weights, its updates, the views, and what it was sure of."""
    engine = with_teacher(root, keep, interval=3, workers=workers)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    signalled(2, signal.SIGTERM, engine, store, broken)
    killed(5, engine, store, broken)
    killed(8, engine, store, broken)
    assert_same(whole, fit(engine, store, broken))
    assert whole.extra["unlabeled"]["pixels"] > 0


def test_a_teacher_is_resumed_in_a_stretch_with_accumulated_gradients(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    engine = with_teacher(root, "teacher", interval=2, accumulate=2)
    first = fit(engine, store, tmp_path / "first", until=4)
    more: Any = {"until": -1, "previous": first.checkpoint}
    whole = fit(engine, store, tmp_path / "whole", **more)
    broken = tmp_path / "broken"
    killed(4, engine, store, broken, **more)
    assert iteration_of(broken) == 6
    assert_same(whole, fit(engine, store, broken, **more))


@pytest.mark.parametrize("fault", ["teacher", "updates", "iteration", "count"])
def test_each_part_of_a_teacher_counts(
    root: Path, store: LabelStore, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = with_teacher(root, interval=4)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    killed(6, engine, store, broken)
    begin = SelfTraining.begin
    if fault == "teacher":
        monkeypatch.setattr(SelfTraining, "begin", lambda self, model, saved: begin(self, model))
    elif fault == "updates":

        def anew(self: Any, model: Any, saved: Any) -> None:
            begin(self, model, saved)
            self.updates = 0

        monkeypatch.setattr(SelfTraining, "begin", anew)
    elif fault == "iteration":
        zero = property(lambda self: 0, lambda self, value: None)
        monkeypatch.setattr(SelfTraining, "iteration", zero, raising=False)
    else:
        monkeypatch.setattr(PseudoCount, "load", lambda self, state: None)
    with pytest.raises(AssertionError):
        assert_same(whole, fit(engine, store, broken))


def test_regions_of_which_only_the_classes_are_known(root: Path, tmp_path: Path) -> None:
    engine = engine_of(
        root, {"acquisition.annotator": {"type": "oracle", "answer": "multiclass"}}, interval=3
    )
    store = LabelStore(tmp_path / "labels")
    for item in engine.pool:
        asked = grid(item.shape, 24).astype(np.int32) + 1
        labels, sets, _ = class_sets(asked, read_ids(item.annotation), engine.label_space)
        store.write(ImageAnswer(item.key, labels, asked > 0, sets=sets), 0)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    killed(5, engine, store, broken)
    assert iteration_of(broken) == 3
    assert_same(whole, fit(engine, store, broken))
