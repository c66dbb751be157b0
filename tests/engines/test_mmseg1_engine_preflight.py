"""Mistakes in configs and data: one line that names the file or key, before any training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmseg")
from mmseg1_tiny import TINY
from mmseg_tiny import make_data, make_engine

from regional_al import engines
from regional_al.errors import (
    ConfigError,
    DataError,
    EnvironmentProblem,
    RegionalALError,
    UnsupportedError,
)
from regional_al.store.images import write_png

pytestmark = pytest.mark.mmseg1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    return folder


def refused(kind: type[RegionalALError], match: str, make: Callable[[], Any]) -> None:
    """`make()` raises exactly that kind of error, with one line that matches."""
    with pytest.raises(kind, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def preflight(root: Path, **options: Any) -> Callable[[], None]:
    return lambda: make_engine(root, **options).preflight()


def test_a_good_config_passes(root: Path) -> None:
    preflight(root)()


@pytest.mark.parametrize(
    ("kind", "match", "options"),
    [
        (
            ConfigError,
            r"decode_head.num_classes=19.*3 classes",
            {"model__decode_head__num_classes": 19},
        ),
        (ConfigError, r"auxiliary_head.num_classes=4", {"model__auxiliary_head__num_classes": 4}),
        (
            ConfigError,
            "a training batch of .* fails",
            {
                "train_dataloader__dataset__pipeline": [
                    {"type": "LoadImageFromFile"},
                    {"type": "LoadAnnotations"},
                    {"type": "RandomCrop", "crop_size": (64, 64)},
                ]
            },
        ),
        (ConfigError, "cannot predict .*divisible", {"model__data_preprocessor__test_cfg": None}),
        (ConfigError, "NoBackbone", {"model__backbone__type": "NoBackbone"}),
        (ConfigError, "UNet.*depths", {"model__backbone__depths": 3}),
        (ConfigError, r"load_from='none\.pth' does not exist", {"load_from": "none.pth"}),
        (
            ConfigError,
            "round_init='pretrained' needs load_from",
            {"acquisition__round_init": "pretrained"},
        ),
        (ConfigError, "queries holds 9, but .*max_iters=8", {"acquisition__queries": [2, 9]}),
        (
            UnsupportedError,
            "queries counts iterations",
            {
                "acquisition__queries": [2],
                "train_cfg": {"_delete_": True, "by_epoch": True, "max_epochs": 2},
            },
        ),
        (
            UnsupportedError,
            "DiceLoss",
            {"model__decode_head__loss_decode": {"_delete_": True, "type": "DiceLoss"}},
        ),
        (
            ConfigError,
            "pretrained weights .*none",
            {"model__backbone__init_cfg": {"type": "Pretrained", "checkpoint": "none.pth"}},
        ),
        (
            ConfigError,
            "NoTransform",
            {"train_dataloader__dataset__pipeline": [{"type": "NoTransform"}]},
        ),
        (ConfigError, "train_cfg needs", {"train_cfg": {"_delete_": True, "by_epoch": True}}),
        (
            DataError,
            "img/nowhere.*does not exist",
            {"train_dataloader__dataset__data_prefix__img_path": "img/nowhere"},
        ),
        (
            DataError,
            "gt/nowhere/town/00_gt.png does not exist",
            {"val_dataloader__dataset__data_prefix__seg_map_path": "gt/nowhere"},
        ),
        (
            DataError,
            "val_dataloader.*holds no image",
            {"val_dataloader__dataset__img_suffix": ".gif"},
        ),
        (
            ConfigError,
            "no classes: add metainfo",
            {"train_dataloader__dataset__metainfo": {"_delete_": True}},
        ),
        (
            ConfigError,
            "must be the same",
            {"val_dataloader__dataset__metainfo__classes": ("left", "right", "up")},
        ),
        (ConfigError, "NoDataset", {"train_dataloader__dataset__type": "NoDataset"}),
    ],
)
def test_config_mistakes(
    root: Path, kind: type[RegionalALError], match: str, options: dict[str, Any]
) -> None:
    refused(kind, match, preflight(root, **options))


@pytest.mark.parametrize("key", ["model", "val_dataloader", "optim_wrapper"])
def test_missing_keys(root: Path, tmp_path: Path, key: str) -> None:
    text = (root / "tiny.py").read_text() + f"\n{key} = None\n"
    (tmp_path / "tiny.py").write_text(text)
    refused(ConfigError, f"no {key}", preflight(tmp_path))


def broken(root: Path, tmp_path: Path, name: str, change: Callable[[Path], None]) -> Path:
    """A copy of the data with one file changed."""
    shutil.copytree(root / "img", tmp_path / "img")
    shutil.copytree(root / "gt", tmp_path / "gt")
    change(tmp_path / name)
    TINY.write_config(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        (
            "gt/val/town/01_gt.png",
            lambda p: write_png(p, np.zeros((5, 7), np.uint8)),
            r"01_gt\.png is 5x7, its image 96x128",
        ),
        (
            "gt/val/town/01_gt.png",
            lambda p: write_png(p, np.full((96, 128), 77, np.uint8)),
            r"01_gt\.png holds id 77",
        ),
        (
            "gt/val/town/01_gt.png",
            lambda p: write_png(p, np.zeros((96, 128, 3), np.uint8)),
            r"01_gt\.png has colours",
        ),
        ("gt/val/town/01_gt.png", lambda p: p.write_bytes(b"no image"), r"01_gt\.png cannot be"),
        ("img/train/town/02_img.png", lambda p: p.write_bytes(b""), r"02_img\.png cannot be"),
    ],
)
def test_broken_files_are_named(
    root: Path, tmp_path: Path, name: str, change: Callable[[Path], None], match: str
) -> None:
    refused(DataError, match, preflight(broken(root, tmp_path, name, change)))


def test_pool_annotations_stay_shut(root: Path, tmp_path: Path) -> None:
    folder = broken(root, tmp_path, "gt/train/town/00_gt.png", lambda p: p.write_bytes(b"secret"))
    preflight(folder)()


@pytest.mark.parametrize(
    ("kind", "text", "match"),
    [
        (ConfigError, "x = = 1", "not valid Python"),
        (ConfigError, "x = 1 / 0", "ZeroDivisionError"),
        (ConfigError, "_base_ = 'none.py'", r"none\.py"),
        (ConfigError, "_base_ = 'mmseg::fcn/none.py'", r"fcn/none\.py"),
        (ConfigError, "x = 1", "no train_dataloader"),
        (ConfigError, "train_dataloader = dict()\ntrain_cfg = dict()", "no acquisition"),
        (EnvironmentProblem, "data = dict(samples_per_gpu=2)\nrunner = dict()", "0.x config.*make"),
        (ConfigError, "engine = 'mmseg2'", "mmseg1"),
        (UnsupportedError, "engine = 'torch'", "TorchEngine"),
        (
            EnvironmentProblem,
            "train_dataloader = dict()\ntrain_cfg = dict()\nacquisition = dict()\n"
            "custom_imports = dict(imports=['nothing_here'])",
            "nothing_here",
        ),
    ],
)
def test_config_files(tmp_path: Path, kind: type[RegionalALError], text: str, match: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(text + "\n")
    refused(kind, match, lambda: engines.load(path))


def test_config_file_missing(tmp_path: Path) -> None:
    refused(ConfigError, r"none\.py does not exist", lambda: engines.load(tmp_path / "none.py"))


def test_base_from_mmseg_and_options(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "_base_ = 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'\n"
        "acquisition = dict(level='pixel', budget=dict(amount='1%'))\n"
    )
    loaded = engines.load(path, {"acquisition.rounds": 3, "work_dir": "there"})
    assert loaded.name == "mmseg1"
    assert loaded.acquisition == {"level": "pixel", "budget": {"amount": "1%"}, "rounds": 3}
    assert type(loaded.acquisition["budget"]) is dict
    assert loaded.work_dir == Path("there")
    assert engines.load(path).work_dir == Path("work_dirs/mine")
    assert engines.load(path, work_dir=tmp_path).work_dir == tmp_path


def test_text_is_what_determines_results(root: Path) -> None:
    text = engines.load(root / "tiny.py").text
    assert engines.load(root / "tiny.py", {"resume": True}, root / "other").text == text
    assert engines.load(root / "tiny.py", {"train_cfg.max_iters": 9}).text != text


def test_amp_falls_back_without_cuda(root: Path) -> None:
    import torch

    engine: Any = engines.load(root / "tiny.py", {}, root / "work", amp=True).build()
    wanted = "AmpOptimWrapper" if torch.cuda.is_available() else "OptimWrapper"
    assert engine.cfg.optim_wrapper.type == wanted
