"""Image files: every kind of picture comes out as uint8 RGB, damaged ones name themselves."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regional_al.errors import DataError
from regional_al.store import images
from regional_al.store.images import image_size, read_ids, read_rgb, replacing, write_png


def gradient(height: int = 5, width: int = 7) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_rgb_png_round_trip_and_size(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.png"
    write_png(path, gradient())
    np.testing.assert_array_equal(read_rgb(path), gradient())
    assert read_rgb(path).flags.writeable
    assert image_size(path) == (5, 7)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(gradient()).convert(mode).save(path)
    out = read_rgb(path)
    assert out.shape == (5, 7, 3)
    assert out.dtype == np.uint8
    if mode in ("L", "1", "LA"):
        assert (out[..., 0] == out[..., 1]).all()
        assert (out[..., 0] == out[..., 2]).all()


def test_sixteen_bit_grey_is_cut_to_its_high_byte(tmp_path: Path) -> None:
    deep = np.array([[0, 255, 256], [4660, 65280, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    expected = np.array([[0, 0, 1], [18, 255, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png")[..., 1], expected)


def test_exif_orientation_is_obeyed_by_picture_and_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    picture = np.zeros((16, 32, 3), dtype=np.uint8)
    picture[:, :16] = 255  # the left half becomes the upper half
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
    out = read_rgb(tmp_path / "a.jpg")
    assert out.shape == (32, 16, 3)
    assert image_size(tmp_path / "a.jpg") == (32, 16)
    assert out[4].mean() > 240
    assert out[-4].mean() < 15


def test_size_needs_the_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:200])
    assert image_size(path) == (64, 48)
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image"):
        read_rgb(path)


def test_missing_empty_and_foreign_files_name_themselves(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    for name in ("empty.png", "text.png", "folder.png"):
        for read in (read_rgb, image_size, read_ids):
            with pytest.raises(DataError, match=name):
                read(tmp_path / name)
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        read_rgb(tmp_path / "gone.png")


def test_ids_of_grey_palette_and_sixteen_bit_files(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [250, 254, 255]], dtype=np.uint8)
    write_png(tmp_path / "grey.png", ids)
    palette = Image.fromarray(ids)
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("grey", "palette", "deep"):
        out = read_ids(tmp_path / f"{name}.png")
        assert out.dtype == np.uint8
        np.testing.assert_array_equal(out, ids)


def test_ids_refuse_colour_and_large_values(tmp_path: Path) -> None:
    write_png(tmp_path / "colour.png", gradient())
    with pytest.raises(DataError, match=r"colour\.png has colours"):
        read_ids(tmp_path / "colour.png")
    Image.fromarray(np.array([[7, 300]], dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png contains id 300"):
        read_ids(tmp_path / "deep.png")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_png_refuses_other_types(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="int64"):
        write_png(tmp_path / "a.png", np.zeros((2, 2), dtype=np.int64))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM"])
def test_any_damage_is_a_data_error_of_one_line(kind: str) -> None:
    rng = np.random.default_rng(0)
    file = BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(file, kind)
    messages = []
    for trial in range(150):
        data = bytearray(file.getvalue())
        for _ in range(3):
            data[rng.integers(0, min(len(data), 20 if trial % 2 else 200))] = rng.integers(256)
        if trial % 5 == 0:
            del data[rng.integers(0, len(data)) :]
        try:
            assert read_rgb(Path("harmed.img"), bytes(data)).ndim == 3  # harmed, yet readable
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all(m.startswith("harmed.img cannot be read") for m in messages)
    assert not any("\n" in m for m in messages)


def test_bytes_read_before_are_used(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", gradient())
    data = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(images.read_rgb(tmp_path / "gone.png", data), gradient())
