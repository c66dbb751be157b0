"""results.json: what is written is read back; every mistake names file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regional_al.errors import DataError, WorkDirError
from regional_al.store import results as records
from regional_al.store.results import Record, Results
from regional_al.types import Costs

RESULTS = Results(
    title="t",
    acquisition={"level": "region", "heuristic": {"type": "RIPU"}},
    classes=("a", "b"),
    palette=((0, 0, 0), (255, 1, 2)),
    raw_to_train=(0, 1, *[-1] * 253, 255),
    pool_images=3,
    pool_pixels=300,
    engine="torch",
    world_size=2,
)


def record(round_: int, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "round": round_,
        "costs": Costs(2, 4, 30, None),
        "asked": Costs(1, 2, 15, 7),
        "labelled_fraction": 0.1,
        "miou": 0.5,
        "per_class_iou": (0.25, None),
        "accuracy": 0.75,
        "label_share": 0.9,
        "iterations": 40,
        "seconds": {"fit": 2.5, "score": 1.0},
    }
    return Record(**{**values, **changes})


def strict(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_round_trip(tmp_path: Path) -> None:
    records.write(tmp_path, RESULTS)
    assert records.load(tmp_path) == RESULTS
    written = records.append_record(tmp_path, record(0))
    assert written.records == (record(0),)
    assert records.load(tmp_path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]  # no temporary name is left


def test_the_file_has_the_documented_keys(tmp_path: Path) -> None:
    records.write(tmp_path, RESULTS)
    records.append_record(tmp_path, record(0))
    data = strict(tmp_path / "results.json")
    assert data["pool"] == {"images": 3, "pixels": 300}
    assert data["stopped"] is None
    assert data["records"] == [
        {
            "round": 0,
            "images": 2,
            "regions": 4,
            "pixels": 30,
            "clicks": None,
            "annotation_seconds": None,
            "asked": {
                "images": 1,
                "regions": 2,
                "pixels": 15,
                "clicks": 7,
                "annotation_seconds": None,
            },
            "labelled_fraction": 0.1,
            "mIoU": 0.5,
            "per_class_iou": [0.25, None],
            "accuracy": 0.75,
            "label_share": 0.9,
            "iterations": 40,
            "seconds": {"fit": 2.5, "score": 1.0},
        }
    ]


def test_the_quality_of_labels_is_written_where_it_is_known(tmp_path: Path) -> None:
    records.write(tmp_path, RESULTS)
    records.append_record(tmp_path, record(0, label_miou=0.8, label_accuracy=0.9))
    data = strict(tmp_path / "results.json")["records"][0]
    assert (data["label_mIoU"], data["label_accuracy"]) == (0.8, 0.9)
    (found,) = records.load(tmp_path).records
    assert (found.label_miou, found.label_accuracy) == (0.8, 0.9)


def test_a_resumed_round_replaces_its_record_and_rounds_stay_in_order(tmp_path: Path) -> None:
    records.write(tmp_path, RESULTS)
    for round_ in (0, 2, 1):
        records.append_record(tmp_path, record(round_))
    records.append_record(tmp_path, record(1, miou=0.75))
    found = records.load(tmp_path).records
    assert [(r.round, r.miou) for r in found] == [(0, 0.5), (1, 0.75), (2, 0.5)]


def test_nan_becomes_null_and_none(tmp_path: Path) -> None:
    nan = float("nan")
    made = record(0, miou=nan, accuracy=nan, label_share=nan, per_class_iou=(nan, 0.5))
    assert (made.miou, made.accuracy, made.label_share) == (None, None, None)
    assert made.per_class_iou == (None, 0.5)
    records.write(tmp_path, RESULTS)
    records.append_record(tmp_path, record(0, seconds={"fit": nan, "score": 1.0}))
    data = strict(tmp_path / "results.json")
    assert data["records"][0]["seconds"] == {"fit": None, "score": 1.0}
    assert records.load(tmp_path).records[0].seconds == {"score": 1.0}


def test_keys_of_others_are_kept(tmp_path: Path) -> None:
    records.write(tmp_path, RESULTS)
    data = strict(tmp_path / "results.json")
    data["commit"] = "abc"
    (tmp_path / "results.json").write_text(json.dumps(data))
    records.append_record(tmp_path, record(0, extra={"lr": 0.1}))
    data = strict(tmp_path / "results.json")
    assert data["commit"] == "abc"
    assert data["records"][0]["lr"] == 0.1


def test_old_files_without_a_table_map_raw_ids_to_themselves(tmp_path: Path) -> None:
    data = records.to_json(RESULTS)
    del data["raw_to_train"]
    table = records.parse(data, "x").raw_to_train
    assert table == (0, 1, *[-1] * 253, 255)


def set_key(data: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        data = data[int(name)] if name.isdigit() else data[name]
    if value is KeyError:
        del data[last]
    else:
        data[last] = value


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("format", 2, "format is 2"),
        ("title", KeyError, "key 'title' is missing"),
        ("classes", "a", "classes must be a list"),
        ("palette", [[0, 0, 0]], "palette has 1 colours, classes 2"),
        ("palette", [[0, 0, 0], [0, 0, 256]], "palette must be three numbers of 0..255"),
        ("raw_to_train", [0] * 255, "raw_to_train has 255 entries"),
        ("raw_to_train", [2] * 256, "raw_to_train names class 2"),
        ("pool", 3, "pool must be an object"),
        ("pool.images", "3", "pool: images must be an integer"),
        ("records.0.mIoU", 41.0, "records[0]: mIoU must lie in 0..1"),
        ("records.0.asked.pixels", KeyError, "records[0]: asked: key 'pixels' is missing"),
        ("records.0.pixels", 1.5, "records[0]: pixels must be an integer"),
        ("records.0.per_class_iou", [1.5], "records[0]: per_class_iou must lie in 0..1"),
        ("records.0.seconds", [], "records[0]: seconds must be an object"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, key: str, value: Any, says: str) -> None:
    records.write(tmp_path, RESULTS)
    records.append_record(tmp_path, record(0))
    path = tmp_path / "results.json"
    data = strict(path)
    set_key(data, key, value)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError) as caught:
        records.load(tmp_path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rounds_out_of_order_are_refused() -> None:
    data = records.to_json(RESULTS)
    data["records"] = [records._record_to_json(record(r)) for r in (1, 0)]
    with pytest.raises(DataError, match=r"order of their rounds, not \[1, 0\]"):
        records.parse(data, "x")


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(WorkDirError, match=r"contains no results\.json"):
        records.load(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results\.json cannot be read"):
        records.load(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(DataError, match="must be an object, not list"):
        records.load(tmp_path)


def test_label_share_may_exceed_one_where_the_pipeline_enlarges(tmp_path: Path) -> None:
    """A random scale of up to 2 quadruples a labelled pixel: seen on a folder of mixed sizes."""
    records.write(tmp_path, RESULTS)
    records.append_record(tmp_path, record(0, label_share=2.004))
    assert records.load(tmp_path).records[0].label_share == 2.004
    records.append_record(tmp_path, record(1, label_share=-0.1))
    with pytest.raises(DataError, match="label_share"):
        records.load(tmp_path)
