"""Configs of MMSegmentation 1.x as people write them: test-time augmentation, lazy configs."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("mmengine")

from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from regional_al.engines.mmseg1.config import check_packages, inference_pipeline, use_amp
from regional_al.engines.specs import type_name
from regional_al.errors import ConfigError, EnvironmentProblem

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
