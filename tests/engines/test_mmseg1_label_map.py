"""Data set classes with a label map of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmseg")
from mmseg1_tiny import TINY
from mmseg_tiny import fit_once, make_data, make_engine
from refusals import refused

from regional_al.errors import UnsupportedError
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer

pytestmark = pytest.mark.mmseg1
MODULE = """
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

@DATASETS.register_module(force=True)
class Buildings(BaseSegDataset):
    METAINFO = dict(classes=('ground', 'building'), palette=[[0, 0, 0], [255, 255, 255]])

    @classmethod
    def get_label_map(cls, new_classes=None):
        return {0: 0, 255: 1}
"""
CONFIG = """
custom_imports = dict(imports=['buildings'], allow_failed_imports=False)
model['decode_head'].update(num_classes=2)
model['auxiliary_head'].update(num_classes=2)
for part in (train_dataloader, val_dataloader, test_dataloader):
    part['dataset'].update(type='Buildings')
    part['dataset'].pop('metainfo', None)
"""


def test_a_label_map_that_makes_a_class_of_255_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """255 marks pixels without a label in label files, so they would all become buildings."""
    make_data(tmp_path, train=2, val=1)
    (tmp_path / "buildings.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    TINY.write_config(tmp_path, CONFIG)
    refused(
        UnsupportedError,
        r"^Buildings makes 'building' of the id 255 of its masks, .*regional-al init FOLDER",
        lambda: make_engine(tmp_path),
    )


def test_another_label_map_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool's truth, what a training sees of sparse labels, and what is evaluated."""
    make_data(tmp_path, train=2, val=1)
    for path in tmp_path.glob("gt/*/*/*.png"):
        write_png(path, np.where(read_ids(path) == 2, 200, 0).astype(np.uint8))
    (tmp_path / "buildings.py").write_text(MODULE.replace("255: 1", "200: 1"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "buildings", raising=False)
    TINY.write_config(tmp_path, CONFIG)
    engine: Any = make_engine(tmp_path, train_cfg__max_iters=2)
    space = engine.label_space
    assert space.raw_to_train[[0, 200, 255]].tolist() == [0, 1, 255]
    item = engine.pool[0]
    truth = read_ids(item.annotation)
    asked = np.zeros(truth.shape, bool)
    asked[40:60, 30:70] = True
    store = LabelStore(tmp_path / "labels")
    store.write(ImageAnswer(item.key, truth, asked), 0)
    engine.preflight()
    sample = engine.read_sample(engine._pool.dataset, 0, store.path(item.key))
    assert set(sample["data_samples"].gt_sem_seg.data.unique().tolist()) <= {0, 1, 255}
    assert fit_once(engine, store, tmp_path / "fit").label_share > 0
    counts = engine.evaluate(tmp_path / "fit/checkpoint.pth")
    (mask,) = tmp_path.glob("gt/val/*/*.png")
    raw = read_ids(mask)
    assert counts.sum(1).tolist() == [int((raw == 0).sum()), int((raw == 200).sum())]
