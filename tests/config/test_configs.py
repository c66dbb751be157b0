"""Every config under configs/: it parses, its acquisition is valid, its parts exist and fit."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT

pytest.importorskip("mmengine")

from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS, TRANSFORMS
from mmseg.utils import register_all_modules

from regional_al.config import grammar as acquisition_config
from regional_al.engines.mmseg1 import backbones, datasets  # noqa: F401
from regional_al.engines.mmseg1.config import heads
from regional_al.engines.mmseg1.config import read as read_config

pytestmark = pytest.mark.mmseg1

LEAVES = sorted(
    path
    for path in (ROOT / "configs").glob("*/*.py")
    if path.parent.name not in ("_base_", "mmseg0") and not path.name.startswith("_")
)
OUR_DATA = ("streets", "camvid", "plain_folder")
IDS = [f"{path.parent.name}/{path.stem}" for path in LEAVES]


@functools.cache
def parsed(path: Path) -> Any:
    return read_config(path, {})


def read(path: Path) -> Any:
    return copy.deepcopy(parsed(path))


@pytest.fixture(autouse=True)
def _scope() -> None:
    register_all_modules(init_default_scope=False)
    init_default_scope("mmseg")


def test_the_configs_that_are_promised_are_there() -> None:
    names = set(IDS)
    strategies = (
        "region_ripu_slic",
        "region_ripu_window",
        "pixel_margin",
        "image_entropy",
        "image_random",
        "region_random",
        "pixel_random",
    )
    for data in ("streets", "camvid"):
        assert {f"{data}/{strategy}" for strategy in strategies} <= names
    for data in ("cityscapes", "voc", "ade20k"):
        for model in ("fcn_r50", "deeplabv3plus_r50", "segformer_b0"):
            assert f"{data}/{model}_region_ripu" in names
    assert "plain_folder/region_ripu_slic" in names


@pytest.mark.parametrize("path", LEAVES, ids=IDS)
def test_config_parses_and_its_parts_fit(path: Path) -> None:
    cfg = read(path)
    acquisition = acquisition_config.parse(cfg.acquisition)
    last = cfg.train_cfg.max_iters
    assert acquisition.queries is None or max(acquisition.queries) < last
    # The schedule ends when the training does.
    assert [item.end for item in cfg.param_scheduler][-1] == last
    steps = cfg.train_dataloader.dataset.pipeline
    names = [step["type"] for step in steps]
    assert not {"Resize", "RandomResize", "RandomCrop"} & set(names), "loses sparse labels"
    for name in names:
        assert TRANSFORMS.get(name) is not None, name
    size = cfg.model.data_preprocessor.get("size")
    crops = [step["crop_size"] for step in steps if step["type"] == "LabelledRandomCrop"]
    assert all(tuple(crop) == tuple(size) for crop in crops)
    classes = class_count(cfg.train_dataloader.dataset)
    assert {head["num_classes"] for _, head in heads(cfg.model)} == {classes}
    assert class_count(cfg.val_dataloader.dataset) == classes


def class_count(dataset: Any) -> int:
    meta = dataset.get("metainfo") or DATASETS.get(dataset["type"]).METAINFO
    return len(meta["classes"])


@pytest.mark.parametrize(
    "folders", [OUR_DATA, pytest.param(("cityscapes", "voc", "ade20k"), marks=pytest.mark.slow)]
)
def test_every_model_builds(folders: tuple[str, ...]) -> None:
    """Built on the meta device where it can be: structure without memory, time or weights."""
    models = {}
    for path in LEAVES:
        if path.parent.name not in folders:
            continue
        cfg = read(path).model
        cfg.pop("pretrained", None)
        models.setdefault(str(cfg), (path, cfg))
    assert len(models) >= 3
    for path, cfg in models.values():
        # MixVisionTransformer reads numbers from tensors while it is built.
        meta = cfg.backbone.type != "MixVisionTransformer"
        with torch.device("meta" if meta else "cpu"):
            model = MODELS.build(cfg)
        assert sum(p.numel() for p in model.parameters()) > 1_000_000, path


@pytest.mark.parametrize("path", LEAVES, ids=IDS)
def test_leaf_is_short(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 32, "compose it from configs/_base_"


def test_strategies_of_a_level_share_data_model_schedule_and_warm_start() -> None:
    for data in ("streets", "camvid"):
        for level, group in {
            "region": ("region_ripu_slic", "region_ripu_window", "region_random"),
            "image": ("image_entropy", "image_random"),
            "pixel": ("pixel_margin", "pixel_random"),
        }.items():
            cfgs = [read(ROOT / "configs" / data / f"{name}.py") for name in group]
            asked = [acquisition_config.parse(cfg.acquisition) for cfg in cfgs]
            assert {a.level for a in asked} == {level}
            first = (asked[0].warm_start.budget, asked[0].budget, asked[0].rounds, asked[0].seed)
            for a, cfg in zip(asked, cfgs, strict=True):
                assert (a.warm_start.budget, a.budget, a.rounds, a.seed) == first
                for key in ("model", "train_dataloader", "train_cfg", "optim_wrapper"):
                    assert cfg[key] == cfgs[0][key]


def test_roots_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {
        "STREETS_ROOT": "streets/region_ripu_slic",
        "CAMVID180_ROOT": "camvid/region_ripu_slic",
        "CAMVID_ROOT": "camvid/region_ripu_slic_480x360",
        "PLAIN_FOLDER_ROOT": "plain_folder/region_ripu_slic",
    }
    for variable, name in places.items():
        monkeypatch.setenv(variable, f"/somewhere/{variable}")
        cfg = read_config(ROOT / "configs" / f"{name}.py", {})
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            assert loader.dataset.data_root == f"/somewhere/{variable}"
