"""tools/prepare_camvid.py: sizes, ids, repeats and one-line errors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

SCRIPT = ROOT / "tools" / "prepare_camvid.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_camvid", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for name in ("a", "b"):
            picture = rng.integers(0, 256, (36, 48, 3)).astype(np.uint8)
            Image.fromarray(picture).save(root / "images" / split / f"{name}.jpg")
            ids = rng.choice(np.array([0, 3, 10, 255], np.uint8), (36, 48))
            Image.fromarray(ids).save(root / "annotations" / split / f"{name}.png")
    return root


def test_copy_is_smaller_and_ids_stay_ids(tool: ModuleType, camvid: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    assert tool.main([str(camvid), str(out), "--size", "18", "24"]) == 0
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert files == [
        f"{kind}/{split}/{name}.png"
        for kind in ("annotations", "images")
        for split in ("train", "val")
        for name in ("a", "b")
    ]
    ids = np.array(Image.open(out / "annotations/train/a.png"))
    assert ids.shape == (18, 24)
    assert set(np.unique(ids)) <= {0, 3, 10, 255}
    picture = np.array(Image.open(out / "images/val/b.png"))
    source = np.array(Image.open(camvid / "images/val/b.jpg")).astype(float)
    means = source.reshape(18, 2, 24, 2, 3).mean(axis=(1, 3))
    assert np.abs(picture - means).max() <= 1.0  # the area's average
    # A second call keeps the files; another size is refused.
    before = (out / "images/train/a.png").stat().st_mtime_ns
    assert tool.main([str(camvid), str(out), "--size", "18", "24"]) == 0
    assert (out / "images/train/a.png").stat().st_mtime_ns == before


def test_mistakes_give_one_line(
    tool: ModuleType, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main([str(tmp_path / "nowhere"), str(tmp_path / "x")]) == 2
    assert tool.main([str(camvid), str(tmp_path / "y"), "--size", "18", "24"]) == 0
    assert tool.main([str(camvid), str(tmp_path / "y"), "--size", "9", "12"]) == 2
    (camvid / "annotations/train/a.png").unlink()
    assert tool.main([str(camvid), str(tmp_path / "z"), "--size", "9", "12"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "nowhere" in lines[0]
    assert "another size" in lines[1]
    assert "a.png" in lines[2]
