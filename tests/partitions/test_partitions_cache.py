"""The SLIC cache: computed once, found by content, mended when damaged, the same in parallel."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage")

from regional_al.errors import ConfigError, DataError, RegionalALError, WorkDirError
from regional_al.partitions import SlicPartition, functions, precomputed, slic, superpixels
from regional_al.store.images import write_png
from regional_al.types import PoolItem

SHAPES = [(48, 64), (37, 53), (64, 48), (1, 1), (48, 64), (33, 200)]


@pytest.fixture
def items(tmp_path: Path) -> list[PoolItem]:
    rng = np.random.default_rng(0)
    out = []
    for index, shape in enumerate(SHAPES):
        coarse = rng.integers(0, 256, (-(-shape[0] // 8), -(-shape[1] // 8), 3), dtype=np.uint8)
        image = np.kron(coarse, np.ones((8, 8, 1), np.uint8))[: shape[0], : shape[1]]
        path = tmp_path / "images" / "town" / f"{index}.png"
        write_png(path, image.astype(np.uint8))
        out.append(PoolItem(f"town/{index}", path, None, shape))
    return out


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that SLIC was called for."""
    seen: list[tuple[int, ...]] = []

    def counted(image: np.ndarray, n_segments: int, compactness: float) -> np.ndarray:
        seen.append(image.shape[:2])
        return slic(image, n_segments, compactness)

    monkeypatch.setattr(functions, "slic", counted)
    return seen


def maps(folder: Path) -> list[Path]:
    return sorted((folder / "slic").iterdir())


def test_second_round_and_second_process_make_no_call(
    items: list[PoolItem], calls: list[tuple[int, ...]], tmp_path: Path
) -> None:
    first = SlicPartition(n_segments=12, cache_dir=tmp_path)
    first.prepare(items)
    assert len(calls) == len(items)
    before = [first.ids(item) for item in items]
    first.prepare(items)  # the next round
    again = SlicPartition(n_segments=12, cache_dir=tmp_path)  # the next process
    again.prepare(items)
    for item, ids in zip(items, before, strict=True):
        np.testing.assert_array_equal(again.ids(item), ids)
        assert again.count(item) == ids.max() + 1
        assert ids.dtype == np.int32
        assert ids.shape == item.shape
    assert len(calls) == len(items)
    assert len(maps(tmp_path)) == len(items)  # and no temporary file is left


def test_next_round_reads_no_image(items: list[PoolItem], tmp_path: Path) -> None:
    partition = SlicPartition(cache_dir=tmp_path)
    partition.prepare(items)
    for item in items:
        item.image.unlink()
    partition.prepare(items)
    assert [partition.ids(item).shape for item in items] == SHAPES


def test_parallel_equals_serial_equals_plain(items: list[PoolItem], tmp_path: Path) -> None:
    serial = SlicPartition(n_segments=9, cache_dir=tmp_path / "serial", workers=1)
    parallel = SlicPartition(n_segments=9, cache_dir=tmp_path / "parallel", workers=4)
    serial.prepare(items)
    parallel.prepare(items)
    one, four = maps(tmp_path / "serial"), maps(tmp_path / "parallel")
    assert [p.name for p in one] == [p.name for p in four]
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in four]
    lazy = SlicPartition(n_segments=9, cache_dir=tmp_path / "lazy")  # without prepare
    for item in items:
        expected = slic(superpixels.read_rgb(item.image), 9)
        np.testing.assert_array_equal(lazy.ids(item), expected)
        np.testing.assert_array_equal(parallel.ids(item), expected)


@pytest.mark.parametrize("harm", ["cut", "empty", "gone", "text", "other"])
def test_damaged_maps_are_computed_again(
    items: list[PoolItem], calls: list[tuple[int, ...]], tmp_path: Path, harm: str
) -> None:
    item = items[0]
    partition = SlicPartition(n_segments=12, cache_dir=tmp_path)
    expected = partition.ids(item)
    (path,) = maps(tmp_path)
    whole_file = path.read_bytes()
    for living in (True, False):  # the object that has seen it, and one that has not
        if harm == "cut":
            path.write_bytes(whole_file[:-40])
        elif harm == "empty":
            path.write_bytes(b"")
        elif harm == "gone":
            path.unlink()
        elif harm == "text":
            path.write_text("no picture")
        else:
            superpixels.write_map(path, np.zeros((3, 3), dtype=np.int32))
        calls.clear()
        reader = partition if living else SlicPartition(n_segments=12, cache_dir=tmp_path)
        np.testing.assert_array_equal(reader.ids(item), expected)
        assert len(calls) == 1
        assert path.read_bytes() == whole_file


def test_a_map_with_changed_pixels_is_noticed(items: list[PoolItem], tmp_path: Path) -> None:
    partition = SlicPartition(n_segments=12, cache_dir=tmp_path)
    expected = partition.ids(items[0])
    superpixels.write_map(maps(tmp_path)[0], np.zeros(items[0].shape, dtype=np.int32))
    np.testing.assert_array_equal(partition.ids(items[0]), expected)


def test_key_follows_image_parameters_and_version(
    items: list[PoolItem],
    calls: list[tuple[int, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = items[0]
    for count, arguments in enumerate(
        [{}, {"n_segments": 5}, {"n_segments": 6}, {"compactness": 5.0}, {"compactness": 10}], 1
    ):
        SlicPartition(**arguments, cache_dir=tmp_path).ids(item)  # type: ignore[arg-type]
        assert len(maps(tmp_path)) == min(count, 4)  # the last one is the default
    monkeypatch.setattr(functions, "slic_version", lambda: "another library")
    SlicPartition(cache_dir=tmp_path).ids(item)
    assert len(maps(tmp_path)) == 5
    monkeypatch.undo()
    image = superpixels.read_rgb(item.image)
    image[0, 0] ^= 1
    write_png(item.image, image)
    SlicPartition(cache_dir=tmp_path).ids(item)
    assert len(maps(tmp_path)) == 6


def test_same_bytes_under_two_names_share_a_map(
    items: list[PoolItem], calls: list[tuple[int, ...]], tmp_path: Path
) -> None:
    twin = PoolItem("other/name", items[0].image, None, items[0].shape)
    partition = SlicPartition(cache_dir=tmp_path)
    np.testing.assert_array_equal(partition.ids(items[0]), partition.ids(twin))
    assert len(calls) == 1


def test_writers_of_one_file_do_no_harm(items: list[PoolItem], tmp_path: Path) -> None:
    item = items[0]
    expected = slic(superpixels.read_rgb(item.image), 12)
    SlicPartition(n_segments=12, cache_dir=tmp_path).ids(item)
    (path,) = maps(tmp_path)
    path.unlink()
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(5):
                ids = SlicPartition(n_segments=12, cache_dir=tmp_path).ids(item)
                if not np.array_equal(ids, expected):
                    wrong.append(ids)
                superpixels.write_map(path, expected)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert maps(tmp_path) == [path]


def test_a_failed_write_keeps_the_old_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    superpixels.write_map(path, np.zeros((4, 4), dtype=np.int32))
    before = path.read_bytes()

    def full(self: Image.Image, where: Path, **_: object) -> None:
        Path(where).write_bytes(b"half a fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(WorkDirError, match=r"a\.png cannot be written: No space"):
        superpixels.write_map(path, np.ones((4, 4), dtype=np.int32))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [1, 255, 65536, 65537, 70000])
def test_maps_of_any_count_round_trip(tmp_path: Path, count: int) -> None:
    ids = (np.arange(300 * 300, dtype=np.int32) % count).reshape(300, 300)
    superpixels.write_map(tmp_path / "a.png", ids)
    np.testing.assert_array_equal(precomputed(tmp_path / "a.png", (300, 300)), ids)
    assert superpixels.map_count(tmp_path / "a.png", (300, 300)) == count
    assert superpixels.map_count(tmp_path / "a.png", (300, 301)) is None


def test_default_is_about_one_segment_per_32_by_32(items: list[PoolItem], tmp_path: Path) -> None:
    assert superpixels.default_segments((480, 640)) == 300
    assert superpixels.default_segments((1, 1)) == 1
    assert SlicPartition(cache_dir=tmp_path).ids(items[3]).tolist() == [[0]]


def test_user_mistakes(items: list[PoolItem], tmp_path: Path) -> None:
    for arguments in (
        {"n_segments": 0},
        {"n_segments": 2.5},
        {"compactness": 0},
        {"compactness": "high"},
    ):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            SlicPartition(**arguments, cache_dir=tmp_path)  # type: ignore[arg-type]
    partition = SlicPartition(cache_dir=tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(items[0].image.read_bytes()[:80])
    gone = tmp_path / "gone.png"
    for image, shape, match in (
        (broken, (48, 64), "broken.png cannot be read"),
        (gone, (48, 64), "gone.png cannot be read: No such file"),
        (items[0].image, (48, 65), r"0\.png is 48x64 .* annotation is 48x65"),
    ):
        with pytest.raises(DataError, match=match):
            partition.prepare([*items[1:], PoolItem("bad", image, None, shape)])
    (tmp_path / "file").touch()
    with pytest.raises(RegionalALError, match=r"set acquisition\.cache_dir"):
        SlicPartition(cache_dir=tmp_path / "file").ids(items[0])


def test_default_folder_and_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGIONAL_AL_CACHE", str(tmp_path / "named"))
    assert SlicPartition().folder == tmp_path / "named" / "slic"
    monkeypatch.delenv("REGIONAL_AL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert SlicPartition().folder == tmp_path / "xdg" / "regional_al" / "slic"
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert superpixels.default_workers() == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert superpixels.default_workers() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert superpixels.default_workers() == 1
