"""Every config under configs/mmseg0: it parses, its acquisition is valid, its parts fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

pytest.importorskip("mmcv.runner")
from mmcv.utils import build_from_cfg
from mmseg.datasets import DATASETS, PIPELINES
from mmseg.models import build_segmentor

from regional_al import engines
from regional_al.config import grammar as acquisition_config
from regional_al.engines.mmseg0 import datasets  # noqa: F401
from regional_al.engines.mmseg0.config import check_keys
from regional_al.engines.mmseg0.config import read as read_config
from regional_al.engines.specs import heads

pytestmark = pytest.mark.mmseg0
FOLDER = ROOT / "configs" / "mmseg0"
LEAVES = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
IDS = [path.stem for path in LEAVES]


def test_the_configs_that_are_promised_are_there() -> None:
    assert {
        "streets_region_ripu",
        "streets_region_random",
        "streets_image_entropy",
        "streets_pixel_margin",
        "fcn_d6_r50-d16_cityscapes_region_ripu",
        "fcn_d6_r50-d16_cityscapes_pixel_margin",
        "fcn_d6_r50-d16_cityscapes_ripu_published",
    } <= set(IDS)


@pytest.mark.parametrize("path", LEAVES, ids=IDS)
def test_config_parses_and_its_parts_fit(path: Path) -> None:
    cfg: Any = read_config(path, {})
    assert engines.dialect(cfg, path) == "mmseg0"
    check_keys(cfg)
    acquisition = acquisition_config.parse(cfg.acquisition)
    assert acquisition.queries is None or max(acquisition.queries) < cfg.runner.max_iters
    classes = len(DATASETS.get(cfg.data.train.type).CLASSES)
    assert cfg.data.train.type == cfg.data.val.type == cfg.data.test.type
    assert {head["num_classes"] for _, head in heads(cfg.model)} == {classes}
    for part in (cfg.data.train, cfg.data.val, cfg.data.test):
        for step in part.pipeline:
            build_from_cfg(step, PIPELINES)


def test_only_the_untouched_config_loses_labels() -> None:
    for path in LEAVES:
        steps = [step["type"] for step in read_config(path, {}).data.train.pipeline]
        lossy = bool({"Resize", "RandomCrop"} & set(steps))
        assert lossy == (path.stem == "fcn_d6_r50-d16_cityscapes_region_ripu")


def test_every_model_builds() -> None:
    models = {str(read_config(path, {}).model): path for path in LEAVES}
    assert len(models) == 2
    for path in models.values():
        model = build_segmentor(read_config(path, {}).model)
        assert sum(p.numel() for p in model.parameters()) > 100_000, path


def test_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREETS_ROOT", "/somewhere")
    cfg = read_config(FOLDER / "streets_region_ripu.py", {})
    assert cfg.data.train.data_root == cfg.data.val.data_root == "/somewhere"
