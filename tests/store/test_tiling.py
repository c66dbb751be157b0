"""Tiles of large images: they cover the image, hold its pixels, and are cut once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from regional_al.errors import DataError
from regional_al.store.images import read_ids, read_rgb, write_png
from regional_al.store.tiling import Tile, boxes, cut, cut_all
from regional_al.types import Tiles

SHAPE = (70, 150)
TILES = Tiles(64, 16)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 1024))
def test_boxes_cover_an_image_once(height: int, width: int, size: int) -> None:
    found = boxes((height, width), size)
    assert sum(box.shape[0] * box.shape[1] for box in found) == height * width
    corners = [(box.top, box.left) for box in found]
    assert corners == sorted(set(corners))
    for box in found:
        assert 0 <= box.top < box.bottom <= height
        assert 0 <= box.left < box.right <= width
        assert max(box.shape) <= size


@pytest.mark.parametrize("length", [257, 513, 1025, 20000])
def test_no_tile_is_a_sliver(length: int) -> None:
    heights = [box.shape[0] for box in boxes((length, 10), 256)]
    assert min(heights) >= 96
    assert all(box.top % 32 == 0 for box in boxes((length, 10), 256))


def picture(folder: Path, name: str = "a.png", mode: str = "RGB") -> Path:
    rng = np.random.default_rng(0)
    shape = SHAPE if mode in ("L", "P") else (*SHAPE, len(mode))
    path = folder / name
    Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8), None).save(path)
    return path


def joined(made: list[Tile], part: str, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The image that tiles make."""
    read = read_ids if part == "annotation" else read_rgb
    whole = np.zeros((*shape, 3) if part == "image" else shape, np.uint8)
    for tile in made:
        box = tile.box
        whole[box.top : box.bottom, box.left : box.right] = read(getattr(tile, part))
    return whole


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGB"), ("a.png", "L"), ("a.png", "RGBA"), ("a.tif", "RGB"), ("a.jpg", "RGB")],
)
def test_tiles_are_the_image(name: str, mode: str, tmp_path: Path) -> None:
    path = picture(tmp_path, name, mode)
    made = cut(tmp_path / "tiles", path, None, TILES)
    assert [tile.name for tile in made] == [
        f"r{row}_c{col}" for row in (0, 32) for col in (0, 48, 96)
    ]
    whole = read_rgb(path)
    assert (joined(made, "image") == whole).all()
    for tile in made:
        assert tile.annotation is None
        assert tile.around is not None
        outer = tile.box.grown(16, SHAPE)
        around = read_rgb(tile.around)
        assert (around == whole[outer.top : outer.bottom, outer.left : outer.right]).all()
        inner = around[tile.inner.top : tile.inner.bottom, tile.inner.left : tile.inner.right]
        assert (inner == read_rgb(tile.image)).all()


def test_a_photo_is_cut_as_it_is_looked_at(tmp_path: Path) -> None:
    """Rotated by its EXIF orientation, as pipelines read it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (*SHAPE[::-1], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    whole = read_rgb(tmp_path / "a.jpg")
    assert whole.shape[:2] == SHAPE
    made = cut(tmp_path / "tiles", tmp_path / "a.jpg", None, TILES)
    assert (joined(made, "image") == whole).all()


def test_annotations_are_cut_alike(tmp_path: Path) -> None:
    """Grey, palette and 16-bit masks; ids as they are."""
    ids = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    grey = Image.fromarray(ids)
    palette = grey.copy()
    palette.putpalette([7] * 768)
    for name, mask in (
        ("grey", grey),
        ("palette", palette),
        ("deep", Image.fromarray(ids.astype(np.uint16))),
    ):
        mask.save(tmp_path / f"{name}.png")
        made = cut(tmp_path / "tiles", picture(tmp_path), tmp_path / f"{name}.png", TILES)
        assert (joined(made, "annotation") == ids).all()


def test_small_images_stay_and_context_is_optional(tmp_path: Path) -> None:
    path = picture(tmp_path)
    assert cut_all(tmp_path / "tiles", [(path, None)], Tiles(150, 10)) == [[]]
    assert not (tmp_path / "tiles").exists()
    (made,) = cut_all(tmp_path / "tiles", [(path, None)], Tiles(149, 0))
    assert [tile.around for tile in made] == [None, None]


def test_tiles_are_cut_once_and_anew_when_the_image_changes(tmp_path: Path) -> None:
    path, folder = picture(tmp_path), tmp_path / "tiles"
    first = cut(folder, path, None, TILES)
    times = {tile.image: tile.image.stat().st_mtime_ns for tile in first}
    first[1].image.unlink()  # as if killed before
    assert cut(folder, path, None, TILES) == first
    again = {tile.image: tile.image.stat().st_mtime_ns for tile in first}
    assert [times[t.image] == again[t.image] for t in first] == [True, False] + [True] * 4
    write_png(path, 255 - read_rgb(path))
    assert (joined(cut(folder, path, None, TILES), "image") == read_rgb(path)).all()


def test_what_cannot_be_cut_is_named(tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros(SHAPE, np.uint16)).save(deep)
    with pytest.raises(DataError, match=r"deep\.png has pixels of mode I.*8-bit"):
        cut_all(tmp_path / "tiles", [(deep, None)], TILES)
    write_png(tmp_path / "mask.png", np.zeros((70, 149), np.uint8))
    with pytest.raises(DataError, match=r"mask\.png is 70x149 .* its image .* is 70x150"):
        cut_all(tmp_path / "tiles", [(picture(tmp_path), tmp_path / "mask.png")], TILES)
    (tmp_path / "half.png").write_bytes(picture(tmp_path).read_bytes()[:900])
    with pytest.raises(DataError, match=r"half\.png cannot be read"):
        cut_all(tmp_path / "tiles", [(tmp_path / "half.png", None)], TILES)


def test_images_that_pillow_refuses_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"set acquisition\.tiles, or cut it into tiles"):
        read_rgb(path)
    assert len(cut(tmp_path / "tiles", path, None, TILES)) == 6
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr("regional_al.store.windows.MAX_PIXELS", 100)
    with pytest.raises(DataError, match="10,500 pixels, more than 100"):
        cut(tmp_path / "other", path, None, TILES)


def test_a_file_that_one_process_cannot_read_stops_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others hear of it, and do not wait for a process that has ended."""
    (tmp_path / "b.png").write_bytes(b"no image")
    files: list[tuple[Path, Path | None]] = [
        (picture(tmp_path, "a.png"), None),
        (tmp_path / "b.png", None),
    ]
    told: list[Exception | None] = []

    def raise_together(error: Exception | None) -> None:
        told.append(error)
        if error is not None:
            raise error

    monkeypatch.setattr("regional_al.runtime.distributed.world_size", lambda: 2)
    monkeypatch.setattr("regional_al.runtime.distributed.rank", lambda: 1)
    monkeypatch.setattr("regional_al.runtime.distributed.raise_together", raise_together)
    with pytest.raises(DataError, match=r"b\.png"):
        cut_all(tmp_path / "tiles", files, TILES)
    assert [type(error) for error in told] == [DataError]


def test_processes_share_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image is cut by one of them, and all name the same tiles."""
    files: list[tuple[Path, Path | None]] = [
        (picture(tmp_path, f"{name}.png"), None) for name in "abc"
    ]
    monkeypatch.setattr("regional_al.runtime.distributed.world_size", lambda: 2)
    monkeypatch.setattr("regional_al.runtime.distributed.raise_together", lambda error: None)
    made = []
    for rank in (1, 0):
        monkeypatch.setattr("regional_al.runtime.distributed.rank", lambda rank=rank: rank)
        made.append(cut_all(tmp_path / "tiles", files, TILES))
        there = [all(tile.image.exists() for tile in tiles) for tiles in made[-1]]
        assert there == ([False, True, False] if rank else [True] * 3)
    assert made[0] == made[1]
