"""Test-time augmentation, which 0.x keeps in the test pipeline itself; see
test_mmseg_engine_predict.py for the rest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import TINY, Tiny0
from mmseg_tiny import make_engine

from regional_al.types import PredictRequest

pytestmark = pytest.mark.mmseg0


@pytest.fixture(scope="module")
def tiny() -> Tiny0:
    return TINY


def test_test_time_augmentation_is_left_out(engine: Any, trained: Path, root: Path) -> None:
    pipeline = copy.deepcopy(engine.cfg.data.test.pipeline)
    pipeline[1].update(flip=True, img_ratios=[1.5, 1.0], flip_direction=["vertical"])
    augmented = make_engine(root, data__test__pipeline=pipeline, data__val__pipeline=pipeline)
    one, two = (next(e.predict(trained, [0], PredictRequest())).logits for e in (engine, augmented))
    assert torch.equal(one, two)
    assert np.array_equal(engine.evaluate(trained), augmented.evaluate(trained))
