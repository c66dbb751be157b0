"""The embedded data set: the same from the same seed, all classes, rare ones rare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regional_al.errors import ConfigError, DataError
from regional_al.store.images import read_ids, read_rgb
from regional_al.testing import streets
from regional_al.testing.streets import CLASSES, PALETTE, RARE, generate, make_scene


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_same_parameters_same_bytes(tmp_path: Path) -> None:
    one = files(generate(tmp_path / "one", train=3, val=2, seed=4))
    assert one == files(generate(tmp_path / "two", train=3, val=2, seed=4))
    assert sorted(one) == sorted(
        [f"images/{s}/{s}_{i:04d}.jpg" for s, n in (("train", 3), ("val", 2)) for i in range(n)]
        + [
            f"annotations/{s}/{s}_{i:04d}.png"
            for s, n in (("train", 3), ("val", 2))
            for i in range(n)
        ]
        + ["streets.json"]
    )
    more = files(generate(tmp_path / "more", train=5, val=2, seed=4))
    shared = [name for name in one if name != "streets.json"]
    assert all(more[name] == one[name] for name in shared)  # a larger set begins the same


def test_seed_style_split_and_index_all_matter() -> None:
    masks = [
        make_scene(split, index, seed=seed, style=style)[1].tobytes()
        for split in ("train", "val")
        for index in (0, 1)
        for seed in (0, 1)
        for style in streets.STYLE_NAMES
    ]
    assert len(set(masks)) == len(masks)  # other streets, not only another light


@pytest.mark.parametrize("style", streets.STYLE_NAMES)
def test_all_classes_occur_and_rare_ones_are_rare(style: str) -> None:
    counts = np.zeros(256)
    for index in range(32):
        picture, labels = make_scene("train", index, style=style)
        assert picture.shape == (96, 128, 3)
        assert picture.dtype == labels.dtype == np.uint8
        counts += np.bincount(labels.ravel(), minlength=256)
        assert picture.std() > 15  # neither black nor white
    assert len(CLASSES) == len(PALETTE) == 11
    assert counts[:11].sum() + counts[255] == counts.sum()
    share = dict(zip(CLASSES, counts[:11] / counts[:11].sum(), strict=True))
    assert all(0.001 < share[name] < 0.02 for name in RARE), share
    assert all(share[name] > 0.005 for name in CLASSES if name not in RARE), share
    assert share["road"] < 0.5
    assert 0.01 < counts[255] / counts.sum() < 0.1


def test_surfaces_are_not_flat() -> None:
    picture, labels = make_scene("train", 0)
    for name in ("road", "building", "vegetation"):
        pixels = picture[labels == CLASSES.index(name)].astype(float)
        assert pixels.std(axis=0).min() > 5, name


def test_void_can_be_left_out() -> None:
    for index in range(12):
        assert make_scene("train", index, void=False)[1].max() < len(CLASSES)


def test_sizes(tmp_path: Path) -> None:
    root = generate(tmp_path / "mixed", train=6, val=2, mixed_sizes=True)
    shapes = set()
    for path in sorted((root / "images").rglob("*.jpg")):
        labels = read_ids(root / "annotations" / path.parent.name / f"{path.stem}.png")
        assert read_rgb(path).shape[:2] == labels.shape
        shapes.add(labels.shape)
    assert len(shapes) > 4
    for size in ((32, 32), (33, 101), (120, 60)):
        picture, labels = make_scene("val", 0, size)
        assert picture.shape == (*size, 3)
        assert labels.shape == size
        assert (labels[-1] != CLASSES.index("sky")).all()  # the ground reaches the lower edge


def test_cityscapes_layout(tmp_path: Path) -> None:
    root = generate(tmp_path / "c", train=3, val=1, layout="cityscapes")
    pictures = sorted((root / "leftImg8bit" / "train").rglob("*_leftImg8bit.png"))
    assert [p.parent.name for p in pictures] == ["northham", "northham", "southham"]
    for path in pictures:
        stem = path.name.removesuffix("_leftImg8bit.png")
        labels = root / "gtFine" / "train" / path.parent.name / f"{stem}_gtFine_labelTrainIds.png"
        assert set(np.unique(read_ids(labels))) <= {*streets.CITYSCAPES_TRAIN_IDS, 255}
    plain = make_scene("train", 0)[1]
    first = read_ids(next((root / "gtFine/train/northham").glob("*000000_000019*")))
    assert (first[plain == 9] == 13).all()  # car
    assert (first == 255).sum() == (plain == 255).sum()


def test_a_second_call_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = generate(tmp_path / "a", train=1, val=1)
    monkeypatch.setattr(streets, "make_scene", lambda *_: pytest.fail("generated again"))
    assert generate(tmp_path / "a", train=1, val=1) == root


def test_a_killed_call_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = files(generate(tmp_path / "whole", train=3, val=0))
    real = make_scene

    def dies(split: str, index: int, *rest: object) -> object:
        if index == 2:
            raise KeyboardInterrupt
        return real(split, index, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(streets, "make_scene", dies)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "killed", train=3, val=0)
    monkeypatch.undo()
    assert files(generate(tmp_path / "killed", train=3, val=0)) == whole


def test_other_parameters_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    generate(tmp_path / "a", train=1, val=1)
    with pytest.raises(DataError, match="was generated with seed=0, not 1"):
        generate(tmp_path / "a", train=1, val=1, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(DataError, match="is not empty"):
        generate(tmp_path / "mine")
    (tmp_path / "a" / "streets.json").write_text("{")
    with pytest.raises(DataError, match=r"streets\.json cannot be read"):
        generate(tmp_path / "a", train=1, val=1)
    for arguments, match in (
        ({"style": "days"}, "Did you mean 'day'"),
        ({"layout": "city"}, "Did you mean 'cityscapes'"),
        ({"train": -1}, "train=-1"),
        ({"size": (20, 40)}, "32 or more"),
    ):
        with pytest.raises(ConfigError, match=match):
            generate(tmp_path / "b", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a")
    arguments = [
        out,
        "--train",
        "1",
        "--val",
        "1",
        "--size",
        "40",
        "50",
        "--no-void",
        "--seed",
        "3",
    ]
    assert streets.main(arguments) == 0
    assert capsys.readouterr().out.strip() == out
    with Image.open(tmp_path / "a/images/train/train_0000.jpg") as image:
        assert image.size == (50, 40)
    assert json.loads((tmp_path / "a/streets.json").read_text())["void"] is False
    assert streets.main([out, "--seed", "4"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
