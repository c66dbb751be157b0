"""Data sets as 0.x alone writes them: lists of folders and splits, `reduce_zero_label` in two
places; see test_mmseg_engine_losses.py for the rest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import TINY, Tiny0
from mmseg_tiny import make_engine

from regional_al.engines.mmseg0.pool import build_dataset, build_pool
from regional_al.errors import ConfigError, UnsupportedError

pytestmark = pytest.mark.mmseg0


@pytest.fixture(scope="module")
def tiny() -> Tiny0:
    return TINY


def test_lists_of_splits_and_folders(engine: Any, root: Path) -> None:
    (root / "a.txt").write_text("town/01\ntown/03\n")
    (root / "b.txt").write_text("town/00\n")
    split = make_engine(root, data__train__split=["a.txt", "b.txt"])
    assert [item.key for item in split.pool] == ["town/01", "town/03", "town/00"]
    one = TINY.train_spec(engine)
    folders = {"img_dir": ["img/train/town", "img/val"], "ann_dir": ["gt/train/town", "gt/val"]}
    two: Any = make_engine(root, data__train={**one, **folders, "_delete_": True})
    assert [item.key for item in two.pool] == [
        *(f"{i:02d}" for i in range(5)),
        *(f"town/{i:02d}" for i in range(3)),
    ]
    two.preflight()
    with pytest.raises(ConfigError, match="one length"):
        make_engine(root, data__train={**one, **folders, "ann_dir": ["gt/train"], "_delete_": True})


def test_a_limit_takes_the_first_images_of_each_part(engine: Any) -> None:
    one = TINY.train_spec(engine)
    other = {**one, **TINY.folders("img/val", "gt/val"), "img_suffix": "2_img.png"}
    assert [item.key for item in build_pool([one, other], limit=1).items] == ["town/00", "town/0"]


def test_reduce_zero_label_must_agree(root: Path) -> None:
    engine: Any = make_engine(
        root, data__train__reduce_zero_label=True, data__val__reduce_zero_label=True
    )
    with pytest.raises(ConfigError, match="reduce_zero_label"):
        engine.preflight()
    pipeline = copy.deepcopy(engine.cfg.data.train.pipeline)
    pipeline[1].reduce_zero_label = True
    agreeing: Any = make_engine(
        root,
        data__train__reduce_zero_label=True,
        data__val__reduce_zero_label=True,
        data__train__pipeline=pipeline,
    )
    agreeing.preflight()


def test_a_mixture_is_around_all_training_data(engine: Any, root: Path) -> None:
    one = TINY.train_spec(engine)
    mixed = {"type": "MultiImageMixDataset", "dataset": one, "pipeline": []}
    assert len(build_pool({"type": "RepeatDataset", "times": 2, "dataset": mixed}).mixtures) == 1
    with pytest.raises(UnsupportedError, match=r"MultiImageMixDataset' must be around all"):
        build_pool([mixed, one])
    with pytest.raises(UnsupportedError, match=r"data\.val.*must be around all training data"):
        build_dataset(mixed, "data.val")
