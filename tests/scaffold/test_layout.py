"""Which files are taken for images, masks and splits, by their names alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regional_al.errors import DataError
from regional_al.scaffold import Layout, look


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def shown(layout: Layout, root: Path) -> dict[str, object]:
    return {
        name: (
            split.images.relative_to(root).as_posix(),
            None if split.masks is None else split.masks.relative_to(root).as_posix(),
            split.names,
            split.bare,
        )
        for name, split in (("train", layout.train), ("val", layout.val))
        if split is not None
    } | {"suffixes": (layout.image_suffix, layout.mask_suffix)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (  # images/ beside masks/, without a split
            ["images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b.png"],
            {"train": ("images", "masks", ("a", "b"), ()), "suffixes": (".jpg", ".png")},
        ),
        (  # the split below, another name for masks, one mask missing, folders below
            [
                *("Images/train/x/a.JPG", "Images/train/b.JPG", "Images/val/c.JPG"),
                *("annotations/train/x/a.png", "annotations/val/c.png"),
            ],
            {
                "train": ("Images/train", "annotations/train", ("x/a",), ("b",)),
                "val": ("Images/val", "annotations/val", ("c",), ()),
                "suffixes": (".JPG", ".png"),
            },
        ),
        (  # the split above
            [
                *("train/images/a.png", "train/labels/a.png"),
                *("valid/images/b.png", "valid/labels/b.png"),
            ],
            {
                "train": ("train/images", "train/labels", ("a",), ()),
                "val": ("valid/images", "valid/labels", ("b",), ()),
                "suffixes": (".png", ".png"),
            },
        ),
        (  # one flat folder, images and masks with the same suffix
            ["a.png", "a_mask.png", "b.png", "b_mask.png", "c.png"],
            {"train": (".", ".", ("a", "b"), ("c",)), "suffixes": (".png", "_mask.png")},
        ),
        (  # images at the top, masks in a folder with an ending
            ["a.jpg", "b.jpg", "gt/a_Mask.png", "gt/b_Mask.png"],
            {"train": (".", "gt", ("a", "b"), ()), "suffixes": (".jpg", "_Mask.png")},
        ),
        (  # Cityscapes
            [
                *(f"leftImg8bit/train/{name}_leftImg8bit.png" for name in ("ulm/u_1", "bonn/b_2")),
                *(f"gtFine/train/{n}_gtFine_labelTrainIds.png" for n in ("ulm/u_1", "bonn/b_2")),
            ],
            {
                "train": ("leftImg8bit/train", "gtFine/train", ("bonn/b_2", "ulm/u_1"), ()),
                "suffixes": ("_leftImg8bit.png", "_gtFine_labelTrainIds.png"),
            },
        ),
        (["b.jpg", "a.jpg"], {"train": (".", None, (), ("a", "b")), "suffixes": (".jpg", "")}),
        (  # what convert has written is not looked at again
            ["a.png", "masks/a.png", "masks_ids/a.png"],
            {"train": (".", "masks", ("a",), ()), "suffixes": (".png", ".png")},
        ),
    ],
)  # fmt: skip
def test_the_usual_layouts(tmp_path: Path, files: list[str], expected: dict[str, object]) -> None:
    assert shown(look(put(tmp_path, *files)), tmp_path) == expected


def test_masks_elsewhere_are_given(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "photos/b.jpg", "truth/a.png", "photos/notes.txt")
    layout = look(tmp_path / "photos", tmp_path / "truth")
    assert shown(layout, tmp_path)["train"] == ("photos", "truth", ("a",), ("b",))
    with pytest.raises(DataError, match="no mask belongs to an image"):
        look(tmp_path, tmp_path / "truth")  # photos/a is not a


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (["a.jpg", "b.jpg", "c.png"], r"1 images do not end in \.jpg.*c\.png"),
        (["images/a.jpg", "masks/a.png", "preview.jpg"], r"1 files are left out.*preview\.jpg"),
        (["test/images/a.jpg", "test/masks/a.png", "train/images/b.jpg"], "no val/.*on test/"),
        (["train/a.jpg", "val/b.jpg"], "val has no masks, so nothing can be measured"),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, files: list[str], note: str) -> None:
    notes = look(put(tmp_path, *files)).notes
    assert any(re.search(note, said) for said in notes), notes


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ([], "contains no images"),
        (["readme.txt"], "contains no images"),
        (["images/a.jpg", "masks/b.png"], r"no mask belongs to an image: .*b\.png has no image"),
        (["test/a.jpg"], "no images to learn from"),
        (["x/images/a.jpg", "y/images/b.jpg", "masks/a.png"], "are in several folders"),
    ],
)
def test_mistakes_name_the_folder(tmp_path: Path, files: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        look(put(tmp_path, *files))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "gone", "does not exist"), (tmp_path / "file", "not a folder")):
        with pytest.raises(DataError, match=why):
            look(path)
    put(tmp_path, "images/a.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"--masks .* contains no images"):
        look(tmp_path / "images", tmp_path / "empty")
