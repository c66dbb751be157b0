"""Mistakes that only a 0.x config can hold, and what 0.x alone checks before a training; see
test_mmseg_engine_preflight.py for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import TINY, Tiny0
from mmseg_tiny import make_engine
from refusals import preflight, refused

from regional_al import engines
from regional_al.engines.mmseg0.checkpoints import url_of
from regional_al.errors import ConfigError, EnvironmentProblem, RegionalALError, UnsupportedError

pytestmark = pytest.mark.mmseg0


@pytest.fixture(scope="module")
def tiny() -> Tiny0:
    return TINY


@pytest.mark.parametrize(
    ("kind", "match", "options"),
    [
        (
            ConfigError,
            "no LoadAnnotations",
            {"data__train__pipeline": [{"type": "LoadImageFromFile"}]},
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
        (ConfigError, "source_dataloader has no key 'x'", {"source_dataloader": {"x": 1}}),
        (UnsupportedError, "data.source", {"data__source": {"type": "CustomDataset"}}),
        (UnsupportedError, "lr_config.by_epoch", {"lr_config__by_epoch": True}),
        (UnsupportedError, "checkpoint_config.out_dir", {"checkpoint_config__out_dir": "x"}),
        (UnsupportedError, "evaluation.out_dir", {"evaluation__out_dir": "x"}),
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


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("_base_ = 'mmseg::fcn/x.py'", "1.x, but 0.x is installed: make env"),
        ("import nothing_here", "nothing_here"),  # mmengine only imports what it builds
    ],
)
def test_config_files(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(text + "\n")
    refused(EnvironmentProblem, match, lambda: engines.load(path))


def test_auto_resume_resumes_the_run(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = {str(root / 'tiny.py')!r}\nauto_resume = True\n")
    assert engines.load(path).resume is True
    assert engines.load(root / "tiny.py").resume is False


def test_weights_are_fetched_once_into_torchs_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmcv finds there what we fetched; a second run asks nobody."""
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


def test_checkpoints_with_code_in_them_are_refused(root: Path, tmp_path: Path) -> None:
    """mmcv itself would run the code."""
    path = tmp_path / "old.pth"
    torch.save({"state_dict": {}, "meta": {"where": tmp_path}}, path)
    engine = make_engine(root, load_from=str(path))
    with pytest.raises(ConfigError, match="weights_only") as caught:
        engine.preflight()
    assert "\n" not in str(caught.value)
