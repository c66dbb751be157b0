"""Parts of large images: the pixels that reading the whole gives, and no more work than needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regional_al.errors import DataError
from regional_al.store import windows
from regional_al.store.images import read_rgb
from regional_al.store.windows import Box, reading

tifffile = pytest.importorskip("tifffile")

BOXES = [Box(0, 70, 0, 150), Box(0, 1, 0, 1), Box(15, 33, 60, 150), Box(69, 70, 149, 150)]


def pixels(samples: int) -> np.ndarray:
    shape = (70, 150) if samples == 1 else (70, 150, samples)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def tiff(path: Path, samples: int = 3, **how: Any) -> Path:
    kind = "minisblack" if samples == 1 else "rgb"
    tifffile.imwrite(path, pixels(samples), photometric=kind, **how)
    return path


STORED: dict[str, dict[str, Any]] = {
    "tiles": {"tile": (16, 32), "compression": "zlib"},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one strip": {},
    "predictor": {"tile": (16, 16), "compression": "zlib", "predictor": True},
    "big": {"tile": (16, 16), "bigtiff": True},
}


@pytest.mark.parametrize("samples", [1, 3, 4])
@pytest.mark.parametrize("name", STORED)
def test_parts_of_a_tiff_are_those_of_the_image(name: str, samples: int, tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", samples, **STORED[name])
    whole = pixels(samples)[..., :3] if samples > 1 else pixels(1)
    with windows._tiff(path) as read:
        assert read is not None, "not by Pillow"
        for box in BOXES:
            found = read(box)
            assert (found == whole[box.top : box.bottom, box.left : box.right]).all()
            assert found.dtype == np.uint8
    with reading(path) as read:
        assert (read(BOXES[0]) == whole).all()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the segments that are decoded."""
    found: list[int] = []
    decode = windows._Segments._decode

    def counting(self: Any, index: int) -> Any:
        found.append(index)
        return decode(self, index)

    monkeypatch.setattr(windows._Segments, "_decode", counting)
    return found


def test_only_what_a_part_needs_is_decoded_and_once(tmp_path: Path, decoded: list[int]) -> None:
    path = tiff(tmp_path / "a.tif", tile=(16, 16))  # 10 across
    with reading(path) as read:
        decoded.clear()  # of the first, to see whether it can be
        read(Box(16, 33, 32, 48))
        assert decoded == [12, 22]
        read(Box(16, 17, 32, 49))
        assert decoded == [12, 22, 13]


def test_what_is_kept_is_limited(
    tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "CACHE_BYTES", 2 * 16 * 16 * 3)
    with reading(tiff(tmp_path / "a.tif", tile=(16, 16))) as read:
        decoded.clear()
        read(Box(0, 1, 0, 48))
        read(Box(0, 1, 32, 48))  # the last is still there, the first is not
        read(Box(0, 1, 0, 16))
    assert decoded == [0, 1, 2, 0]


def by_pillow(path: Path) -> bool:
    with windows._tiff(path) as read:
        return read is None


def test_other_tiffs_are_left_to_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    image = Image.fromarray(pixels(3))
    image.save(tmp_path / "lzw.tif", compression="tiff_lzw")
    image.quantize(9).save(tmp_path / "palette.tif")
    made["turned"] = tiff(tmp_path / "turned.tif", extratags=[(274, "H", 1, 6, True)])
    made["planes"] = tmp_path / "planes.tif"
    tifffile.imwrite(
        made["planes"], pixels(3).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    )
    tifffile.imwrite(tmp_path / "white.tif", pixels(1), photometric="miniswhite")
    for path in sorted(tmp_path.glob("*.tif")):
        assert by_pillow(path) or path.name == "lzw.tif"  # some installations know LZW
        expected = read_rgb(path)
        with reading(path) as read:
            found = read(Box(0, *[expected.shape[0], 0, expected.shape[1]]))
            assert (found == (expected if found.ndim == 3 else expected[..., 0])).all(), path
    monkeypatch.setitem(sys.modules, "tifffile", None)
    plain = tiff(tmp_path / "plain.tif")
    assert by_pillow(plain)
    with reading(plain) as read:
        assert (read(BOXES[0]) == pixels(3)).all()


def test_deep_and_damaged_tiffs_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", pixels(1).astype(np.uint16), photometric="minisblack")
    with (
        pytest.raises(DataError, match=r"deep\.tif has pixels of mode I"),
        reading(tmp_path / "deep.tif"),
    ):
        pass
    path = tiff(tmp_path / "half.tif", tile=(16, 16), compression="zlib")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with (
        pytest.raises(DataError, match=r"half\.tif cannot be read as an image"),
        reading(path) as read,
    ):
        read(BOXES[0])
    (tmp_path / "none.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(DataError, match=r"none\.tif"), reading(tmp_path / "none.tif"):
        pass
    with pytest.raises(DataError, match="does not exist"), reading(tmp_path / "missing.tif"):
        pass
    assert caplog.records == []  # tifffile says nothing beside
