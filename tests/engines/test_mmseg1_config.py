"""Configs of MMSegmentation 1.x as people write them: test-time augmentation, lazy configs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmengine")
pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from regional_al.engines.mmseg1.config import (
    check_packages,
    inference_pipeline,
    reason_of,
    use_amp,
)
from regional_al.engines.mmseg1.pool import build_dataset
from regional_al.engines.mmseg1.preflight import start_of
from regional_al.engines.specs import type_name
from regional_al.errors import ConfigError, DataError, EnvironmentProblem

pytestmark = pytest.mark.mmseg1

LOAD, PACK = {"type": "LoadImageFromFile"}, {"type": "PackSegInputs"}


def tta(*resizes: dict[str, Any]) -> list[dict[str, Any]]:
    """A test pipeline as mmseg's `tta_pipeline` is."""
    flips = [{"type": "RandomFlip", "prob": prob} for prob in (0.0, 1.0)]
    views = [list(resizes), flips, [{"type": "LoadAnnotations"}], [PACK]]
    return [LOAD, {"type": "TestTimeAug", "transforms": views}]


def test_one_view_of_test_time_augmentation() -> None:
    """Scale 1, not flipped, without labels."""
    resizes = [
        {"type": "Resize", "scale_factor": factor, "keep_ratio": True} for factor in (0.5, 1.0, 1.5)
    ]
    cfg = Config({"test_dataloader": {"dataset": {"pipeline": tta(*resizes)}}})
    found = inference_pipeline(cfg)
    assert [type_name(step) for step in found] == ["LoadImageFromFile", "Resize", "PackSegInputs"]
    assert found[1]["scale_factor"] == 1.0
    cfg.test_dataloader.dataset.pipeline = tta({"type": "Resize", "scale": (64, 32)})
    assert inference_pipeline(cfg)[1]["scale"] == (64, 32)


@pytest.mark.parametrize("kind", ["OptimWrapper", OptimWrapper, AmpOptimWrapper])
def test_mixed_precision_of_lazy_configs(kind: Any) -> None:
    """Where types are classes."""
    cfg = Config({"optim_wrapper": {"type": kind, "optimizer": {}}})
    use_amp(cfg)
    assert type_name(cfg.optim_wrapper) == "AmpOptimWrapper"
    cfg.optim_wrapper.type = dict
    with pytest.raises(ConfigError, match="--amp cannot wrap"):
        use_amp(cfg)


@pytest.mark.parametrize("kind", ["MaskFormerHead", "Mask2FormerHead"])
def test_heads_of_mmdet_without_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmdet.models", None)
    with pytest.raises(EnvironmentProblem, match=rf"decode_head.type='{kind}' needs mmdet: pip"):
        check_packages({"decode_head": {"type": kind}})
    check_packages({"decode_head": {"type": "FCNHead"}})


def test_data_sets_of_dsdl_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the package, and what its import raises where it is there."""
    from mmseg.datasets import dsdl

    monkeypatch.setattr(dsdl, "DSDLDataset", None)
    monkeypatch.setitem(sys.modules, "dsdl.dataset", None)
    spec = {"type": "DSDLSegDataset", "ann_file": "train.yaml", "pipeline": []}
    told = r"^train\.type='DSDLSegDataset' needs dsdl, which .*: pip install dsdl==[\d.]+$"
    with pytest.raises(EnvironmentProblem, match=told):
        build_dataset(spec, "train")

    def absent(**_: object) -> None:
        raise FileNotFoundError(2, "No such file", "set-train/train.yaml")

    monkeypatch.setattr(dsdl, "DSDLDataset", absent)
    with pytest.raises(DataError, match=r"set-train/train.yaml does not exist; .* in DSDL form"):
        build_dataset(spec, "train")


def test_why_a_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_there.py").write_text("import not_installed_here")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert reason_of("not_installed_here.part") == "which is not installed"
    assert reason_of("half_there").startswith("which cannot be imported (ModuleNotFoundError: ")


def test_what_a_model_starts_from() -> None:
    """SAN cannot be initialised without CLIP weights."""
    plain = start_of({"backbone": {}}, "model.backbone.init_cfg", " that is there")
    assert plain == (
        "give a file that is there, or random weights by --cfg-options model.backbone.init_cfg=None"
    )
    assert start_of({"text_encoder": {}}, "model.pretrained") == (
        "give a file of CLIP weights by --cfg-options model.pretrained=FILE"
    )
