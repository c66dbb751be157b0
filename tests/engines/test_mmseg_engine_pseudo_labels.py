"""Pseudo labels in both generations of mmseg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmseg_tiny import Tiny, make_engine

from regional_al.engines.mmseg import side_training
from regional_al.engines.mmseg.region_classes import PROTOTYPE
from regional_al.errors import UnsupportedError
from regional_al.loop import runner
from regional_al.store import results
from regional_al.store.points import TRAIN, PointLog
from regional_al.store.prelabels import TrainingLabels
from regional_al.store.pseudo_labels import PseudoLabels
from regional_al.types import UNLABELED

ASKED = {
    "level": "region",
    "heuristic": "Random",
    "region": {"type": "grid", "cell": 24},
    "budget": {"amount": 16, "unit": "region"},
    "annotator": {"type": "oracle", "answer": "multiclass"},
    "rounds": 1,
    "previews": 0,
    "region_classes": {"pseudo": {"trim": 3}},
}


def engine_of(tiny: Tiny, root: Path, **more: Any) -> Any:
    changes = {"acquisition": {"_delete_": True, **ASKED}, tiny.iterations: 3}
    return make_engine(root, changes, **more)


def test_a_training_sees_them(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    """Their regions are not trained on as sets any more, others are."""
    engine = engine_of(tiny, root)
    loop = runner.run(engine, ASKED, tmp_path / "run", report=False)
    seen, pixels = TrainingLabels(loop.work_dir.training_labels), 0
    for item in engine.pool:
        found = PseudoLabels(loop.work_dir.pseudo(1)).read(item.key)
        if found is None:
            continue
        labels, there = seen.read(item.key), found != UNLABELED
        assert labels is not None
        assert np.array_equal(labels[there], found[there])
        left = seen.class_sets(item.key)
        assert left is None or not (left.regions[there] > 0).any()
        pixels += int(there.sum())
    first, last = results.load(tmp_path / "run").records
    assert last.pseudo_pixels == pixels > 0
    assert first.pseudo_pixels == 0
    with PointLog.open(tmp_path / "run", readonly=True) as log:
        sets = [
            value
            for point in log.of_round(TRAIN, 0)
            for key, value in point.scalars.items()
            if PROTOTYPE in key
        ]
    assert max(sets) > 0


def test_a_head_without_a_classifier_is_refused(
    tiny: Tiny, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody is asked: features of a model without training come from its backbone."""
    engine = engine_of(tiny, root)
    monkeypatch.setattr(side_training, "classifier", lambda model: None)
    with pytest.raises(UnsupportedError, match=r"region_classes\.pseudo .*classifier conv_seg"):
        engine.preflight()


def test_a_model_that_slides_is_refused(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    slide = {"mode": "slide", "crop_size": (48, 48), "stride": (32, 32)}
    engine = engine_of(tiny, root, model__test_cfg=slide)
    with pytest.raises(UnsupportedError, match=r"region_classes\.pseudo .*features.*slide"):
        runner.run(engine, ASKED, tmp_path / "run", report=False)
    assert not list((tmp_path / "run").rglob("query.json"))
