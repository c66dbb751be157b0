"""What the values of masks are taken for, and masks of ids written from other ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_folders import COLOURS, IDS, folder, mask, picture, save

from regional_al.errors import ConfigError, DataError
from regional_al.scaffold import Masks, convert, labels_of, look, recognise
from regional_al.scaffold.convert import new_folders
from regional_al.store.images import read_ids


def seen(path: Path) -> Masks:
    return recognise([path])


@pytest.mark.parametrize(
    ("kind", "recognised", "values"),
    [
        ("index", "index", [0, 1, 2]),
        ("palette", "index", [0, 1, 2]),
        ("binary", "binary", [0, 255]),
        ("grey", "grey", [0, 100, 200]),
        ("grey as rgb", "grey", [0, 1, 2]),
        ("rgb", "rgb", [(0, 0, 0), (0, 90, 250), (200, 10, 30)]),
    ],
)
def test_kinds(tmp_path: Path, kind: str, recognised: str, values: list[object]) -> None:
    found = seen(mask(tmp_path / "a.png", kind))
    assert found.kind == recognised
    assert [value.value for value in found.values] == values
    shares = [found.share(i) for i in range(len(values))]
    expected = {"binary": [3, 3], "rgb": [3, 2, 1]}.get(kind, [3, 1, 2])
    assert shares == pytest.approx([part / 6 for part in expected])
    if kind == "palette":
        assert [value.colour for value in found.values] == list(COLOURS)
        assert "palette" in found.what


@pytest.mark.parametrize(
    ("values", "kind", "void"),
    [
        ([0, 1, 255], "index", (255,)),
        ([1, 2, 3], "index", ()),
        ([0, 4, 5], "index", ()),  # 1 to 3 occur in no mask
        ([0, 7, 18, 255], "index", (255,)),
        ([0, 33], "grey", ()),
        ([0, 128, 255], "grey", ()),
        ([0, 300], "grey", ()),
    ],
)
def test_ids_with_gaps_and_grey_values(
    tmp_path: Path, values: list[int], kind: str, void: tuple[int, ...]
) -> None:
    dtype = np.uint8 if max(values) < 256 else np.uint16
    found = seen(save(tmp_path / "a.png", np.array([values], dtype)))
    assert (found.kind, found.void) == (kind, void)


def test_the_void_colour_of_voc_is_no_class(tmp_path: Path) -> None:
    pixels = np.array([[(0, 0, 0), (128, 0, 0), (224, 224, 192)]], np.uint8)
    found = seen(save(tmp_path / "a.png", pixels))
    labels = labels_of(found)
    assert labels.classes == ("background", "foreground")
    assert labels.table == {(0, 0, 0): 0, (128, 0, 0): 1, (224, 224, 192): 255}


def test_mistakes_in_masks(tmp_path: Path) -> None:
    index, rgb = mask(tmp_path / "a.png", "index"), mask(tmp_path / "b.png", "rgb")
    with pytest.raises(DataError, match=r"b\.png has colours, unlike .*a\.png"):
        recognise([index, rgb])
    with pytest.raises(DataError, match=r"a\.jpg is in a format that changes values"):
        seen(picture(tmp_path / "a.jpg"))
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"noise\.png: the masks have more than 256 values"):
        seen(save(tmp_path / "noise.png", noise))
    with pytest.raises(DataError, match="have the value 7 alone"):
        seen(save(tmp_path / "one.png", np.full((2, 2), 7, np.uint8)))
    with pytest.raises(DataError, match="have the value 255 alone"):
        seen(save(tmp_path / "one.png", np.full((2, 2), 255, np.uint8)))
    (tmp_path / "cut.png").write_bytes(index.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cut\.png cannot be read"):
        seen(tmp_path / "cut.png")
    with pytest.raises(DataError, match=r"a\.png has 32x48 pixels, its image .*big\.jpg 64x80"):
        recognise([index], [picture(tmp_path / "big.jpg", (4, 5))])


@pytest.mark.parametrize(
    ("values", "ignore", "classes", "table", "reduced"),
    [
        ([0, 1, 255], [], 2, None, False),
        ([0, 1, 2, 255], [0], 2, None, True),  # mmseg's reduce_zero_label reads these
        ([1, 2], [], 2, None, True),
        ([0, 2, 5], [], 6, None, False),
        ([0, 1, 2], [2], 2, {0: 0, 1: 1, 2: 255}, False),
        ([0, 100, 200], [200], 2, {0: 0, 100: 1, 200: 255}, False),
    ],
)
def test_classes_of_values(
    tmp_path: Path,
    values: list[int],
    ignore: list[int],
    classes: int,
    table: dict[int, int] | None,
    reduced: bool,
) -> None:
    found = seen(save(tmp_path / "a.png", np.array([values], np.uint8)))
    labels = labels_of(found, None, ignore)
    assert (len(labels.classes), labels.table, labels.reduce_zero) == (classes, table, reduced)
    assert len(set(labels.palette)) == len(labels.palette) == classes


@pytest.mark.parametrize(
    ("names", "ignore", "match"),
    [
        (["a"], (), "has 1 names, but the masks have 3 classes"),
        (["a", "b", "b"], (), "names 'b' twice"),
        (["a", "", "b"], (), "empty name"),
        (None, (9,), "--ignore 9: no mask has this value"),
    ],
)
def test_names_that_do_not_fit(
    tmp_path: Path, names: list[str] | None, ignore: tuple[int, ...], match: str
) -> None:
    found = seen(mask(tmp_path / "a.png", "index"))
    with pytest.raises(ConfigError, match=match):
        labels_of(found, names, ignore)


def test_names_are_needed_without_masks() -> None:
    with pytest.raises(ConfigError, match="--classes road,car,sky"):
        labels_of(None)
    with pytest.raises(ConfigError, match="at least two classes"):
        labels_of(None, ["road"])
    assert labels_of(None, ["road", "car"]).classes == ("road", "car")


@pytest.mark.parametrize("kind", ["binary", "rgb", "grey", "grey as rgb"])
def test_masks_of_ids_are_written_beside_and_nothing_is_overwritten(
    tmp_path: Path, kind: str
) -> None:
    root = folder(tmp_path / "d", kind)
    layout = look(root)
    masks = recognise(layout.all_masks())
    labels = labels_of(masks)
    assert labels.table is not None
    before = {path: path.read_bytes() for path in root.rglob("*.*")}
    new = convert(layout, masks, labels.table)
    expected = IDS if kind in ("grey", "grey as rgb") else np.minimum(IDS, 1)
    if kind == "rgb":  # in the order of the colours: (0, 90, 250) before (200, 10, 30)
        expected = np.array([0, 2, 1], np.uint8)[IDS]
    for path in new.all_masks():
        assert path.parent == root / "masks_ids"
        assert np.array_equal(read_ids(path)[::16, ::16], expected)
    assert all(path.read_bytes() == data for path, data in before.items())
    assert convert(layout, masks, labels.table) == new  # again: the same files are there
    (root / "masks_ids/0.png").write_bytes(b"mine")
    with pytest.raises(DataError, match="masks_ids is there already, with other files"):
        convert(layout, masks, labels.table)
    assert (root / "masks_ids/0.png").read_bytes() == b"mine"
    assert sorted(p.name for p in root.iterdir()) == ["images", "masks", "masks_ids"]


def test_a_value_that_was_not_seen_leaves_no_folder(tmp_path: Path) -> None:
    layout = look(folder(tmp_path / "d", "grey"))
    masks = recognise(layout.all_masks())
    with pytest.raises(DataError, match=r"0\.png has a value that no other mask has: 0xc8"):
        convert(layout, masks, {0: 0, 100: 1})
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["images", "masks"]


def test_splits_are_kept_below_one_new_folder(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(2):
            picture(tmp_path / "images" / split / f"{i}.jpg")
            mask(tmp_path / "masks" / split / f"{i}.png", "binary")
    new = new_folders(look(tmp_path))
    assert {old.name: str(path.relative_to(tmp_path)) for old, path in new.items()} == {
        "train": "masks_ids/train",
        "val": "masks_ids/val",
    }
