"""Images that Pillow does not read: sizes, and RGB pixels for superpixels, report and page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from regional_al import register_image_reader
from regional_al.errors import ConfigError, DataError
from regional_al.partitions import SlicPartition
from regional_al.store import images, readers
from regional_al.store.images import image_size, is_plain, read_rgb
from regional_al.types import PoolItem

RNG = np.random.default_rng(0)
BANDS = RNG.integers(0, 256, (7, 9, 5), dtype=np.uint8)


def test_an_array_of_five_bands(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, BANDS)
    assert image_size(path) == (7, 9)
    assert (read_rgb(path) == BANDS[..., :3]).all()
    assert not is_plain(path)
    item = PoolItem("a", path, None, (7, 9))
    ids = SlicPartition(n_segments=4, cache_dir=tmp_path).ids(item)
    Image.fromarray(BANDS[..., :3]).save(tmp_path / "b.png")
    same = PoolItem("b", tmp_path / "b.png", None, (7, 9))
    assert (ids == SlicPartition(n_segments=4, cache_dir=tmp_path).ids(same)).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_file_of_five_bands(tmp_path: Path, planar: Any, dtype: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    path, values = tmp_path / "a.TIF", BANDS.astype(dtype)
    shown = values if planar == "contig" else np.moveaxis(values, -1, 0)
    tifffile.imwrite(path, shown, planarconfig=planar, photometric="minisblack")
    assert image_size(path) == (7, 9)
    expected = BANDS[..., :3] if dtype == "uint8" else readers.rgb_of(values)
    assert (read_rgb(path) == expected).all()


def test_without_tifffile_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", BANDS, photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    for read in (image_size, read_rgb):
        with pytest.raises(DataError, match=r"a\.tif cannot be read .*pip install tifffile"):
            read(tmp_path / "a.tif")


def test_a_damaged_tiff_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + b"x" * 40)
    for read in (image_size, read_rgb):
        with pytest.raises(DataError, match=r"a\.tif cannot be read as an image") as caught:
            read(tmp_path / "a.tif")
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match=r"b\.tif does not exist"):
            read(tmp_path / "b.tif")


def test_a_format_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "a.RAW"
    path.write_bytes(BANDS.tobytes())
    calls: list[str] = []

    def read(path: Path) -> Any:
        calls.append("read")
        return np.frombuffer(path.read_bytes(), np.uint8).reshape(7, 9, 5)[..., [4, 3, 1]]

    register_image_reader(".raw", read)
    assert image_size(path) == (7, 9)
    assert (read_rgb(path) == BANDS[..., [4, 3, 1]]).all()
    register_image_reader(".raw", read, lambda path: (np.int64(7), 9))
    calls.clear()
    assert image_size(path) == (7, 9)
    assert calls == []
    with pytest.raises(DataError, match=r"b\.raw does not exist"):
        image_size(tmp_path / "b.raw")
    with pytest.raises(ConfigError, match="must begin with a dot"):
        register_image_reader("raw", read)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (np.zeros(3), r"is \[3\] of float64; an image is \[height, width\]"),
        (np.zeros((0, 2)), r"\[0, 2\]"),
        (np.zeros((2, 2), "O"), "of object"),
        (ZeroDivisionError("a\nb"), "cannot be read as an image: a b$"),
    ],
)
def test_what_a_reader_must_not_return(tmp_path: Path, found: Any, words: str) -> None:
    (tmp_path / "a.raw").touch()

    def read(path: Path) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    register_image_reader(".raw", read)
    for ask in (image_size, read_rgb):
        with pytest.raises(DataError, match=words):
            ask(tmp_path / "a.raw")


def test_arrays_that_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "deep.npy", np.zeros((1, 2, 3, 4)))
    np.save(tmp_path / "any.npy", np.array([[{}]]), allow_pickle=True)
    (tmp_path / "half.npy").write_bytes((tmp_path / "deep.npy").read_bytes()[:130])
    for name in ("flat", "deep", "any", "half"):
        for ask in (image_size, read_rgb):
            with pytest.raises(DataError, match=rf"{name}\.npy"):
                ask(tmp_path / f"{name}.npy")


@given(
    npst.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int16, np.float32, np.bool_]),
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6)),
    )
)
def test_any_pixels_have_a_picture(pixels: Any) -> None:
    shown = readers.rgb_of(pixels)
    assert shown.dtype == np.uint8
    assert shown.shape == (*pixels.shape[:2], 3)
    if pixels.dtype == np.uint8 and pixels.shape[2] >= 3:
        assert (shown == pixels[..., :3]).all()
    if pixels.shape[2] < 3:
        assert (shown == shown[..., :1]).all()
        assert (readers.rgb_of(pixels[..., 0]) == shown).all()


def test_pillow_reads_what_it_did(tmp_path: Path) -> None:
    Image.fromarray(BANDS[..., :3]).save(tmp_path / "a.png")
    assert is_plain(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (7, 9)
    assert (images.read_rgb(tmp_path / "a.png") == BANDS[..., :3]).all()
