"""Partitions: every pixel in one unit, ids without gaps, wrong maps refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regional_al import partitions
from regional_al.errors import ConfigError, DataError, EnvironmentProblem
from regional_al.partitions import PARTITIONS, grid, pixel, precomputed, whole
from regional_al.store.query import write_id_png
from regional_al.types import PoolItem

sides = st.integers(1, 40)
shapes = st.tuples(sides, sides)


def item(key: str = "a", shape: tuple[int, int] = (5, 7)) -> PoolItem:
    return PoolItem(key, Path("none.png"), None, shape)


def without_gaps(ids: np.ndarray) -> bool:
    return np.array_equal(np.unique(ids), np.arange(ids.max() + 1))


def test_grid_by_hand() -> None:
    ids = grid((3, 5), 2)
    assert ids.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert ids.dtype == np.int32
    assert grid((2, 4), (1, 3)).tolist() == [[0, 0, 0, 1], [2, 2, 2, 3]]
    assert grid((2, 3), [5, 1]).tolist() == [[0, 1, 2], [0, 1, 2]]


@given(shape=shapes, cell=st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_grid_is_the_definition(shape: tuple[int, int], cell: tuple[int, int]) -> None:
    ids = grid(shape, cell)
    columns = (shape[1] + cell[1] - 1) // cell[1]
    for row in range(shape[0]):
        for column in range(shape[1]):
            assert ids[row, column] == row // cell[0] * columns + column // cell[1]
    assert without_gaps(ids)
    built = PARTITIONS.build({"type": "grid", "cell": cell}, cache_dir=None)
    assert built.count(item(shape=shape)) == ids.max() + 1
    np.testing.assert_array_equal(built.ids(item(shape=shape)), ids)


@given(shape=shapes)
def test_whole_and_pixel(shape: tuple[int, int]) -> None:
    assert whole(shape).tolist() == [[0] * shape[1]] * shape[0]
    assert pixel(shape).ravel().tolist() == list(range(shape[0] * shape[1]))
    for name, count in (("whole", 1),):
        built = PARTITIONS.build(name, cache_dir="unused")
        built.prepare([item(shape=shape)])
        ids = built.ids(item(shape=shape))
        assert ids.dtype == np.int32
        assert ids.shape == shape
        assert built.count(item(shape=shape)) == count == ids.max() + 1


@pytest.mark.parametrize("cell", [0, -1, (4, 0), (1, 2, 3), 2.5, "32", (1.0, 2), True])
def test_bad_cells(cell: object) -> None:
    with pytest.raises(ConfigError, match="cell="):
        PARTITIONS.build({"type": "grid", "cell": cell})


def test_window_is_no_partition() -> None:
    with pytest.raises(ConfigError, match="unknown region type 'window'"):
        PARTITIONS.build({"type": "window", "radius": 1})
    with pytest.raises(ConfigError, match="Did you mean 'slic'"):
        PARTITIONS.build("slick")


# --- slic -----------------------------------------------------------------------------------------


def test_slic_finds_two_halves() -> None:
    pytest.importorskip("skimage")
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[:, 23:] = (250, 20, 20)
    ids = partitions.slic(image, 8, compactness=1.0)
    assert not set(ids[:, :23].ravel()) & set(ids[:, 23:].ravel())


def test_slic_works_in_cielab_and_renumbers_nothing_else() -> None:
    segmentation = pytest.importorskip("skimage.segmentation")
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    image = np.kron(image, np.ones((5, 5, 1), np.uint8)).astype(np.uint8)
    theirs = segmentation.slic(
        image, 30, compactness=7.0, max_num_iter=10, convert2lab=True, start_label=0
    )
    np.testing.assert_array_equal(partitions.slic(image, 30, 7.0), theirs)


@settings(max_examples=40)
@given(shape=shapes, segments=st.integers(1, 60), seed=st.integers(0, 99), grey=st.booleans())
def test_slic_properties(shape: tuple[int, int], segments: int, seed: int, grey: bool) -> None:
    measure = pytest.importorskip("skimage.measure")
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if grey:
        image[:] = image[..., :1]
    ids = partitions.slic(image, segments)
    assert ids.dtype == np.int32
    assert ids.shape == shape
    assert without_gaps(ids)
    assert measure.label(ids + 1, connectivity=1).max() == ids.max() + 1  # each unit connected
    np.testing.assert_array_equal(partitions.slic(image, segments), ids)


@pytest.mark.parametrize("segments", [1, 5, 5000])
def test_slic_of_one_pixel(segments: int) -> None:
    pytest.importorskip("skimage")
    assert partitions.slic(np.full((1, 1, 3), 9, dtype=np.uint8), segments).tolist() == [[0]]


def test_slic_refuses_bad_input() -> None:
    pytest.importorskip("skimage")
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    for segments, compactness in ((0, 10.0), (4, 0.0), (4, float("nan"))):
        with pytest.raises(ConfigError, match="slic needs"):
            partitions.slic(image, segments, compactness)
    for wrong in (image.astype(np.float32), image[..., 0], np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(TypeError, match="uint8"):
            partitions.slic(wrong, 4)


def test_missing_scikit_image_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(EnvironmentProblem, match="pip install scikit-image"):
        partitions.slic(np.zeros((4, 4, 3), dtype=np.uint8), 2)
    with pytest.raises(EnvironmentProblem, match="pip install scikit-image"):
        PARTITIONS.build("slic")


# --- precomputed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u1.png", "u2.png", "rgb.png", "i4.npy", "i8.npy", "u1.npy"])
def test_precomputed_formats(tmp_path: Path, kind: str) -> None:
    ids = np.random.default_rng(0).integers(0, 34, (5, 7))
    path = tmp_path / "deep" / f"a_{kind}"
    path.parent.mkdir()
    if kind == "rgb.png":
        write_id_png(path, ids.astype(np.int32))
    elif kind.endswith("png"):
        Image.fromarray(ids.astype(kind[:2])).save(path)
    else:
        np.save(path, ids.astype(kind[:2]))
    out = precomputed(path, (5, 7))
    assert out.dtype == np.int32
    np.testing.assert_array_equal(out, ids)
    built = PARTITIONS.build({"type": "precomputed", "folder": tmp_path, "suffix": f"_{kind}"})
    built.prepare([item("deep/a")])
    np.testing.assert_array_equal(built.ids(item("deep/a")), ids)
    assert built.count(item("deep/a")) == len(np.unique(ids)) < ids.max() + 1


def test_ids_beyond_eight_bits_keep_their_value(tmp_path: Path) -> None:
    ids = np.zeros((30, 40), dtype=np.int32)
    ids[3] = 1199
    ids[4] = 300
    for name in ("rgb.png", "deep.png"):
        if name == "rgb.png":
            write_id_png(tmp_path / name, ids)
        else:
            Image.fromarray(ids.astype(np.uint16)).save(tmp_path / name)
        np.testing.assert_array_equal(precomputed(tmp_path / name, (30, 40)), ids)


@pytest.mark.parametrize("top", [6, 20, 70000, 16_000_000])
def test_ids_too_large_to_count_are_renumbered_in_order(tmp_path: Path, top: int) -> None:
    ids = np.array([[top, top, 3], [0, 3, 5]], dtype=np.int32)
    write_id_png(tmp_path / "a.png", ids)
    assert precomputed(tmp_path / "a.png", (2, 3)).tolist() == [[3, 3, 1], [0, 1, 2]]
    np.save(tmp_path / "a.npy", ids.astype(np.int64) * 1000)
    assert precomputed(tmp_path / "a.npy", (2, 3)).tolist() == [[3, 3, 1], [0, 1, 2]]


def test_precomputed_errors(tmp_path: Path) -> None:
    good = np.zeros((5, 7), dtype=np.uint8)

    def refuse(name: str, match: str) -> None:
        with pytest.raises(DataError, match=match) as caught:
            precomputed(tmp_path / name, (5, 7))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)

    Image.fromarray(good.T.copy()).save(tmp_path / "turned.png")
    refuse("turned.png", "map of 7x5 .* its image is 5x7")
    np.save(tmp_path / "float.npy", good.astype(np.float64))
    refuse("float.npy", "float64; ids must be integers")
    np.save(tmp_path / "negative.npy", good.astype(np.int64) - 1)
    refuse("negative.npy", "negative id -1")
    np.save(tmp_path / "stack.npy", np.zeros((5, 7, 1), np.int32))
    refuse("stack.npy", "map of 5x7x1")
    np.savez(tmp_path / "many.npz", good)
    (tmp_path / "many.npz").rename(tmp_path / "many.npy")
    refuse("many.npy", "no array|integers")
    (tmp_path / "text.npy").write_text("x")
    refuse("text.npy", "cannot be read")
    refuse("gone.npy", "does not exist")
    refuse("gone.png", "does not exist")
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (5, 7), np.uint8)).save(
        tmp_path / "whole.png"
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:50])
    refuse("cut.png", "cannot be read")
    Image.fromarray(good).save(tmp_path / "lossy.jpg")
    refuse("lossy.jpg", "JPEG")
    Image.fromarray(np.zeros((5, 7, 4), np.uint8)).save(tmp_path / "alpha.png")
    refuse("alpha.png", "mode RGBA")
    Image.fromarray(np.zeros((5, 7), np.float32)).save(tmp_path / "float.tif")
    refuse("float.tif", "mode F")


def test_precomputed_prepare_finds_a_missing_map_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        PARTITIONS.build({"type": "precomputed", "folder": tmp_path / "none"})
    built = PARTITIONS.build({"type": "precomputed", "folder": tmp_path})
    with pytest.raises(DataError, match=r"city/b\.png does not exist"):
        built.prepare([item("city/b")])
