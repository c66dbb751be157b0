"""What a new config says, and its text."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_folders import folder, mask, picture

from regional_al.cli import INIT_MODELS
from regional_al.config import grammar
from regional_al.errors import ConfigError, DataError
from regional_al.scaffold import (
    MODELS,
    Labels,
    Machine,
    Plan,
    Sizes,
    config,
    labels_of,
    lists_of,
    look,
    model_for,
    propose,
    recognise,
    sizes_of,
)
from regional_al.scaffold.classes import names_from
from regional_al.scaffold.proposal import budget_of, held_out

TWO = Labels(("a", "b"), ((0, 0, 0), (9, 9, 9)))
SMALL = Sizes((96, 128), 96, 128, mixed=False)


def plan(root: Path, kind: str = "index", **more: Any) -> Plan:
    layout = look(root)
    labels = labels_of(recognise(layout.all_masks())) if layout.all_masks() else TWO
    sizes = sizes_of(layout.all_images())
    return propose(layout, sizes, labels, **{"model": "effnet_lite0", **more})


def executed(text: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(compile(text, "config.py", "exec"), scope)
    return scope


@pytest.mark.parametrize(
    ("level", "text", "budget"),
    [
        ("region", None, ("1%", "region", "pool")),
        ("region", "2 %", ("2%", "region", "pool")),
        ("region", "1% of the pixels", ("1%", "pixel", "pool")),
        ("region", "500 Regions", (500, "region", "pool")),
        ("pixel", None, (10, "pixel", "image")),
        ("pixel", "20", (20, "pixel", "image")),
        ("pixel", "0.5%", ("0.5%", "pixel", "pool")),
        ("pixel", "300 clicks", (300, "click", "pool")),
        ("image", "5", (5, "image", "pool")),
    ],
)
def test_budgets_as_they_are_typed(level: str, text: str | None, budget: tuple[Any, ...]) -> None:
    assert tuple(budget_of(level, text).values()) == budget


@pytest.mark.parametrize(
    ("level", "text", "match"),
    [
        ("region", "lots", "'lots' is no amount"),
        ("region", "-3", "'-3' is no amount"),
        ("region", "3 fields", "unknown unit"),
        ("region", "0", "budget"),
        ("region", "200%", "budget"),
        ("image", "3 clicks", "click"),
    ],
)
def test_what_is_no_budget(level: str, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        budget_of(level, text)


def test_few_images_or_people_get_a_number_of_regions() -> None:
    assert budget_of("region", None, images=30)["amount"] == 30
    assert budget_of("region", None, images=4)["amount"] == 12
    assert budget_of("region", None, images=500, people=True)["amount"] == 500
    assert budget_of("image", None, images=4)["amount"] == "5%"


def test_an_even_share_is_held_out_once() -> None:
    names = [f"{i:02}" for i in range(23)]
    chosen = held_out(names, 4)
    places = [names.index(name) for name in chosen]
    assert len(set(chosen)) == 4
    assert max(b - a for a, b in itertools.pairwise(places)) <= 6
    assert held_out(names, 4) == chosen


def test_models_by_memory_and_their_names() -> None:
    assert tuple(MODELS) == INIT_MODELS
    assert [model_for(Machine(g)) for g in (None, 4.0, 6.0, 15.9, 16.0)] == [
        *("effnet_lite0", "effnet_lite0", "segformer_b0", "segformer_b0", "deeplabv3plus_r50")
    ]


@pytest.mark.parametrize(
    ("median", "most", "crop"),
    [
        ((96, 128), 256, (96, 128)),
        ((66, 92), 256, (64, 64)),
        ((20, 500), 256, (32, 256)),
        ((1024, 2048), 512, (512, 512)),
    ],
)
def test_crops(median: tuple[int, int], most: int, crop: tuple[int, int]) -> None:
    assert Sizes(median, min(median), max(median), False).crop(most) == crop


def test_images_are_held_out_where_nothing_is_split(tmp_path: Path) -> None:
    made = plan(folder(tmp_path / "d", "index", count=7))
    assert made.lists == {"train": ("0", "1", "2", "4", "5", "6"), "val": ("3",)}
    files = lists_of(made, tmp_path / "c.py")
    assert files["val"] == tmp_path / "c_lists/val.txt"
    cfg = executed(config(made, tmp_path / "c.py"))
    assert cfg["val_dataloader"]["dataset"]["ann_file"] == str(files["val"])
    assert grammar.parse(cfg["acquisition"]).budget.unit == "region"


def test_folders_that_say_the_split_need_no_list(tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / "a.jpg")
        mask(tmp_path / "labels" / split / "a.png", "palette")
    made = plan(tmp_path)
    assert made.lists == {}
    data = executed(config(made, tmp_path / "c.py"))["train_dataloader"]["dataset"]
    assert data["data_prefix"] == {
        "img_path": str(tmp_path / "images/train"),
        "seg_map_path": str(tmp_path / "labels/train"),
    }
    assert "ann_file" not in data
    assert data["metainfo"]["palette"] == [[0, 0, 0], [200, 10, 30], [0, 90, 250]]
    picture(tmp_path / "images/train/b.jpg")  # without a mask
    assert plan(tmp_path).lists == {"train": ("a",)}


def test_people_label_what_has_no_mask(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", "index", count=3)
    for name in ("x", "y"):
        picture(root / "images" / f"{name}.jpg")
    assert plan(root).lists["train"] == ("0", "2")
    people = plan(root, annotator="web")
    assert people.lists == {"train": ("x", "y"), "val": ("0", "1", "2")}
    assert people.measured
    assert people.acquisition["annotator"] == {"type": "web", "answer": "dominant"}


def test_without_any_mask_nothing_is_measured(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.jpg")
    made = plan(tmp_path, annotator="web", level="pixel")
    assert not made.measured
    assert made.lists == {"train": ("0", "2"), "val": ("1",)}
    text = config(made, tmp_path / "c.py")
    assert "rounds have no\n# mIoU" in text
    assert "regional-al annotate" in text
    cfg = executed(text)
    prefix = cfg["val_dataloader"]["dataset"]["data_prefix"]
    assert prefix["seg_map_path"] == str(tmp_path / "c_val_masks")
    assert "seg_map_path" not in cfg["train_dataloader"]["dataset"]["data_prefix"]
    with pytest.raises(DataError, match="--annotator web"):
        plan(tmp_path)


def test_too_few_images(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    mask(tmp_path / "a_mask.png", "index")
    with pytest.raises(DataError, match="too few images"):
        plan(tmp_path)


def test_huge_images_are_cut_and_grids_replace_superpixels(tmp_path: Path) -> None:
    layout = look(folder(tmp_path, "index"))
    huge = Sizes((5000, 9000), 5000, 9000, mixed=False)
    made = propose(layout, huge, TWO, "segformer_b0", superpixels=False)
    assert (made.acquisition["tiles"], made.acquisition["region"]) == (1024, "grid")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_python_and_fits_the_classes(tmp_path: Path, name: str) -> None:
    made = plan(folder(tmp_path / "d", "index"), model=name)
    cfg = executed(config(made, tmp_path / "c.py"))
    assert cfg["model"]["decode_head"]["num_classes"] == 3
    assert cfg["model"]["data_preprocessor"]["size"] == cfg["crop_size"] == (32, 32)
    assert cfg["train_cfg"]["max_iters"] == cfg["param_scheduler"][0]["end"]
    assert ("_base_" in cfg) == (name != "effnet_lite0")


def test_names_of_files_are_quoted(tmp_path: Path) -> None:
    root = folder(tmp_path / 'it\'s "new" \\ ü', "index")
    made = plan(root)
    labels = replace(made.labels, classes=('a"b', "c'd", "e\\f"))
    cfg = executed(config(replace(made, labels=labels), tmp_path / "c.py"))
    assert cfg["classes"] == labels.classes
    assert cfg["train_dataloader"]["dataset"]["data_prefix"]["img_path"] == str(root / "images")


def test_zero_as_void_is_said_to_the_data_set(tmp_path: Path) -> None:
    layout = look(folder(tmp_path / "d", "index"))
    labels = labels_of(recognise(layout.all_masks()), ignore=[0])
    made = propose(layout, SMALL, labels, "effnet_lite0")
    cfg = executed(config(made, tmp_path / "c.py"))
    assert cfg["dataset"]["reduce_zero_label"] is True
    assert len(cfg["classes"]) == 2


def test_names_of_a_text_file(tmp_path: Path) -> None:
    assert names_from(tmp_path) is None
    (tmp_path / "classes.txt").write_text("road\n\n  car \n", encoding="utf-8-sig")
    assert names_from(tmp_path) == ["road", "car"]
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"classes\.txt cannot be read"):
        names_from(tmp_path)
