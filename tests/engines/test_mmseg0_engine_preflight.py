"""Mistakes in 0.x configs and data: one line that names the file or key, before any training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import TINY
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

pytestmark = pytest.mark.mmseg0


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


EPOCHS = {"_delete_": True, "type": "EpochBasedRunner", "max_epochs": 2}
LOADING = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]


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
            {"data__train__pipeline": [*LOADING, {"type": "RandomCrop", "crop_size": (64, 64)}]},
        ),
        (ConfigError, "no LoadAnnotations", {"data__train__pipeline": LOADING[:1]}),
        (
            ConfigError,
            "cannot predict ",
            {
                "model__backbone__in_channels": 3,
                "data__test__pipeline": [
                    {"type": "LoadImageFromFile"},
                    {
                        "type": "MultiScaleFlipAug",
                        "img_scale": (101, 75),
                        "transforms": [
                            {"type": "Resize", "keep_ratio": False},
                            {"type": "RandomFlip"},
                            {"type": "ImageToTensor", "keys": ["img"]},
                            {"type": "Collect", "keys": ["img"]},
                        ],
                    },
                ],
            },
        ),
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
            {"acquisition__queries": [2], "runner": EPOCHS},
        ),
        (
            UnsupportedError,
            "DiceLoss",
            {"model__decode_head__loss_decode": {"_delete_": True, "type": "DiceLoss"}},
        ),
        (
            ConfigError,
            r"pretrained weights .*none\.pth",
            {"model__backbone__init_cfg": {"type": "Pretrained", "checkpoint": "none.pth"}},
        ),
        (
            ConfigError,
            r"model.pretrained='open-mmlab://none' cannot be fetched .*pretrained=None",
            {"model__pretrained": "open-mmlab://none"},
        ),
        (
            ConfigError,
            "init_cfg.checkpoint='http://127.0.0.1:9/x.pth' .*init_cfg=None",
            {
                "model__backbone__init_cfg": {
                    "type": "Pretrained",
                    "checkpoint": "http://127.0.0.1:9/x.pth",
                }
            },
        ),
        (ConfigError, "NoTransform", {"data__train__pipeline": [{"type": "NoTransform"}]}),
        (ConfigError, "no runner", {"runner": {"_delete_": True, "type": "IterBasedRunner"}}),
        (DataError, "img/nowhere does not exist", {"data__train__img_dir": "img/nowhere"}),
        (DataError, r"nowhere.txt does not exist", {"data__train__split": "nowhere.txt"}),
        (
            DataError,
            "gt/nowhere/town/00_gt.png does not exist",
            {"data__val__ann_dir": "gt/nowhere"},
        ),
        (DataError, "data.val holds no image", {"data__val__img_suffix": ".gif"}),
        (ConfigError, "no classes: add classes", {"data__train__classes": None}),
        (ConfigError, "must be the same", {"data__val__classes": ("left", "right", "up")}),
        (ConfigError, "NoDataset", {"data__train__type": "NoDataset"}),
        (
            UnsupportedError,
            r"workflow phase 'query'.*acquisition",
            {"workflow": [("train", 2), ("query", 1)]},
        ),
        (
            UnsupportedError,
            "workflow phase .*acquisition",
            {"workflow": [(("train", 3), ("query", 1)), (("train", 10),)]},
        ),
        (UnsupportedError, "workflow=", {"workflow": [("val", 1)]}),
        (UnsupportedError, "source_dataloader.*mmseg1", {"source_dataloader": {"x": 1}}),
        (UnsupportedError, "data.source", {"data__source": {"type": "CustomDataset"}}),
        (UnsupportedError, "lr_config.by_epoch", {"lr_config__by_epoch": True}),
        (UnsupportedError, "checkpoint_config.out_dir", {"checkpoint_config__out_dir": "x"}),
        (UnsupportedError, "evaluation.out_dir", {"evaluation__out_dir": "x"}),
        (ConfigError, "test_cfg.mode='hole'", {"model__test_cfg__mode": "hole"}),
        (
            ConfigError,
            "no data.workers_per_gpu",
            {"data": {"_delete_": True, "samples_per_gpu": 1, "train": {"a": 1}, "val": {"a": 1}}},
        ),
    ],
)
def test_config_mistakes(
    root: Path, kind: type[RegionalALError], match: str, options: dict[str, Any]
) -> None:
    refused(kind, match, preflight(root, **options))


@pytest.mark.parametrize("key", ["model", "data", "optimizer", "runner"])
def test_missing_keys(root: Path, tmp_path: Path, key: str) -> None:
    text = (root / "tiny.py").read_text() + f"\n{key} = None\n"
    (tmp_path / "tiny.py").write_text(text)
    refused(ConfigError, f"no {key}", preflight(tmp_path))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("optimizer = dict(type='NoOptimizer')", "NoOptimizer"),
        ("lr_config = dict(policy='nothing')", "lr_config.*Nothing"),
        ("custom_hooks = ['x']", "custom_hooks holds 'x'"),
    ],
)
def test_training_mistakes(root: Path, tmp_path: Path, text: str, match: str) -> None:
    from mmseg_tiny import fit_once, label_some

    from regional_al.store.labels import LabelStore

    (tmp_path / "tiny.py").write_text((root / "tiny.py").read_text() + f"\n{text}\n")
    engine = make_engine(tmp_path)
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 2)
    refused(ConfigError, match, lambda: fit_once(engine, store, tmp_path / "fit"))


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


ONE_X = "train_dataloader = dict()\ntrain_cfg = dict()\nacquisition = dict()\n"
ZERO_X = "data = dict(samples_per_gpu=2)\nrunner = dict()\n"


@pytest.mark.parametrize(
    ("kind", "text", "match"),
    [
        (ConfigError, "a = (", r"config\.py is not valid Python"),
        (ConfigError, "raise ValueError('mine')", "mine"),
        (ConfigError, "_base_ = 'none.py'", r"none\.py"),
        (EnvironmentProblem, "_base_ = 'mmseg::fcn/x.py'", "1.x, but 0.x is installed: make env"),
        (EnvironmentProblem, ONE_X, "1.x config .*0.x is installed: make env"),
        (ConfigError, "x = 1", "no train_dataloader"),
        (ConfigError, ZERO_X, "no acquisition"),
        (EnvironmentProblem, "import nothing_here", "nothing_here"),
        (
            EnvironmentProblem,
            ZERO_X + "acquisition = dict()\ncustom_imports = dict(imports=['nothing_here'])",
            "nothing_here",
        ),
        (ConfigError, "engine = 'mmseg2'", "mmseg1"),
    ],
)
def test_config_files(tmp_path: Path, kind: type[RegionalALError], text: str, match: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(text + "\n")
    refused(kind, match, lambda: engines.load(path))


def test_inherited_config_and_options(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f"_base_ = {str(root / 'tiny.py')!r}\nauto_resume = True\n"
        "acquisition = dict(level='pixel', budget=dict(amount='1%'), heuristic='Entropy')\n"
    )
    loaded = engines.load(path, {"acquisition.rounds": 3, "work_dir": "there"})
    assert loaded.name == "mmseg0"
    assert loaded.acquisition == {
        "level": "pixel",
        "heuristic": "Entropy",
        "budget": {"amount": "1%"},
        "rounds": 3,
    }
    assert type(loaded.acquisition["budget"]) is dict
    assert loaded.work_dir == Path("there")
    assert loaded.resume is True
    assert engines.load(path).work_dir == Path("work_dirs/mine")
    assert engines.load(path, work_dir=tmp_path).work_dir == tmp_path


def test_text_is_what_determines_results(root: Path) -> None:
    text = engines.load(root / "tiny.py").text
    assert engines.load(root / "tiny.py", {"auto_resume": True}, root / "other").text == text
    assert engines.load(root / "tiny.py", {"runner.max_iters": 9}).text != text


def test_without_cuda_sync_bn_and_half_precision_are_left_out(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    path = root / "tiny.py"
    engine: Any = engines.load(path, {}, root / "work", amp=True).build()
    assert engine.cfg.optimizer_config.type == "OptimizerHook"
    assert engine.cfg.fp16 is None
    assert engine.cfg.model.backbone.norm_cfg.type == "BN"
    assert caplog.text.count("SyncBN") == 1
    assert caplog.text.count("fp16") == 1


def test_weights_are_fetched_once_into_torchs_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmcv finds there what we fetched; a second run asks nobody."""
    import torch

    from regional_al.engines.mmseg0.checkpoints import url_of

    asked = []

    def download(url: str, path: str, **_: Any) -> None:
        asked.append(url)
        torch.save({"none.of.it.fits": torch.zeros(1)}, path)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    backbone = {"type": "Pretrained", "checkpoint": "open-mmlab://resnet50_v1c"}
    preflight(root, model__backbone__init_cfg=backbone)()
    preflight(root, model__backbone__init_cfg=backbone)()
    assert asked == [url_of("open-mmlab://resnet50_v1c")]
    assert asked[0].startswith("https://")


def test_lossy_transforms_are_named_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_engine(root).preflight()
    assert "Resize and RandomCrop may lose sparse labels" in caplog.text
    caplog.clear()
    make_engine(root, acquisition__level="image").preflight()
    assert "may lose" not in caplog.text
