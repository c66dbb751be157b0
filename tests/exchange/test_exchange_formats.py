"""Each format returns what was put in, pixel by pixel, and refuses what it cannot read exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_tools import FORMATS, png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regional_al import cli
from regional_al.errors import DataError, UnsupportedError
from regional_al.exchange import EXCHANGE_FORMATS, Labels, Package, Picture, Shape
from regional_al.exchange.archive import Source, write_zip
from regional_al.exchange.base import paint
from regional_al.exchange.formats.label_studio import predictions
from regional_al.exchange.intake import _recognised
from regional_al.exchange.labels import ASK, VOID, plain
from regional_al.exchange.manifest import file_name
from regional_al.exchange.package import shapes_of_map

NAMES = ("road", "traffic light", "Straße 車 \N{PILE OF POO}", "a:b,#1<&>\"'", "road", "background")
TAG = "0123456789ab"


def labels_of(count: int = len(NAMES)) -> Labels:
    names = [*NAMES, *(f"class {i}" for i in range(count))][:count]
    return Labels.of(names, [(i % 7, 0, 0) for i in range(count)])


def picture(numbers: np.ndarray, labels: Labels, key: str = "town/01") -> Picture:
    file = file_name(key, TAG, ".png")
    content = png(np.zeros((*numbers.shape, 3), np.uint8))
    shapes = lambda: shapes_of_map(numbers.astype(np.uint16), labels.names)  # noqa: E731
    return Picture(file, numbers.shape, content, shapes)


def source_of(files: dict[str, Any], folder: Path) -> Source:
    write_zip(folder / "x.zip", files)
    return Source.open([folder / "x.zip"])[0]


def round_trip(to: str, numbers: np.ndarray, labels: Labels, folder: Path) -> np.ndarray:
    """What is read from an export whose shapes are the answers."""
    form = EXCHANGE_FORMATS.build(to)
    files = form.export(Package(labels, [picture(numbers, labels)]))
    if to == "label-studio":  # what it predicts becomes an annotation when a person submits it
        tasks = json.loads(files["tasks.json"])
        for task in tasks:
            task["annotations"] = task.pop("predictions")
        files["tasks.json"] = json.dumps(tasks).encode()
    source = source_of(files, folder)
    assert _recognised(source) == to
    found = list(form.read(source, labels))
    assert len(found) <= 1
    if not found:
        return np.zeros_like(numbers)
    assert found[0].size == numbers.shape
    assert TAG in found[0].file
    return paint(found[0].shapes, labels.ids, found[0].size, found[0].where)


def hard_maps() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    pixels, windows, ring, touching = (np.zeros((23, 31), np.int64) for _ in range(4))
    pixels[rng.integers(0, 23, 40), rng.integers(0, 31, 40)] = rng.integers(1, 9, 40)
    for i, (row, col) in enumerate(((0, 0), (20, 28), (5, 7), (8, 7), (8, 10))):
        windows[row : row + 3, col : col + 3] = i + 1
    ring[2:20, 3:28] = 1
    ring[6:15, 8:20] = 0
    ring[9:12, 10:13] = 2
    touching[:, :15], touching[:, 15:], touching[10] = 1, 2, 3
    return {
        "pixels": pixels,
        "windows": windows,
        "ring": ring,
        "touching": touching,
        "whole": np.ones((23, 31), np.int64),
        "empty": np.zeros((23, 31), np.int64),
        "one pixel": np.full((1, 1), 2),
        "row": np.arange(9)[None],
        "noise": rng.integers(0, 9, (23, 31)),
    }


HARD = hard_maps()


@pytest.mark.parametrize("numbers", HARD.values(), ids=HARD)
@pytest.mark.parametrize("to", FORMATS)
def test_hard_maps_come_back(to: str, numbers: np.ndarray, tmp_path: Path) -> None:
    found = round_trip(to, numbers, labels_of(), tmp_path)
    assert np.array_equal(found, numbers)


@pytest.mark.parametrize("to", FORMATS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
        lambda shape: arrays(np.int64, shape, elements=st.integers(0, 8))
    )
)
def test_any_map_comes_back(to: str, numbers: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(round_trip(to, numbers, labels_of(), tmp_path), numbers)


@pytest.mark.parametrize("to", FORMATS)
def test_150_classes_come_back(to: str, tmp_path: Path) -> None:
    labels = labels_of(150)
    numbers = np.random.default_rng(0).integers(0, 153, (40, 50))
    assert np.array_equal(round_trip(to, numbers, labels, tmp_path), numbers)


def test_voc_says_when_the_classes_do_not_fit(tmp_path: Path) -> None:
    labels = labels_of(253)
    numbers = np.arange(256).reshape(16, 16)
    assert np.array_equal(round_trip("voc", numbers, labels, tmp_path), numbers)
    with pytest.raises(UnsupportedError, match="253 classes, the run has 254"):
        round_trip("voc", numbers, labels_of(254), tmp_path)
    numbers[0, 0] = 256
    assert np.array_equal(round_trip("coco", numbers, labels_of(254), tmp_path), numbers)


# Labels


def test_each_class_has_a_name_and_a_colour_of_its_own() -> None:
    classes = ["a", "a", "a (2)", " a", "", "", VOID, "x\ny", "cafe\u0301", "caf\xe9"]
    labels = Labels.of(classes, [(0, 0, 0)] * 10)
    assert labels.names[:10] == (
        *("a", "a (3)", "a (2)", "a (4)", "unnamed", "unnamed (2)", "__void__ (2)"),
        *("x y", "caf\xe9", "caf\xe9 (2)"),
    )
    assert labels.names[10:] == (VOID, ASK)
    assert len({*labels.colours, (0, 0, 0)}) == 13
    assert [labels.find(f"  {name} ", "here") for name in labels.names] == list(labels.names)
    with pytest.raises(DataError, match=r"x.zip: label 'trafic light' .* mean 'traffic light'\?"):
        labels_of().find("trafic light", "x.zip")
    with pytest.raises(DataError, match="label 'None'"):
        labels_of().find(None, "here")
    many = Labels.of(["c"] * 300, [(1, 2, 3)] * 300)
    assert len(set(many.names)) == len(set(many.colours)) == 302
    assert all(plain(name) == name for name in many.names)


def test_the_command_line_names_the_formats() -> None:
    assert sorted(cli.EXCHANGE) == list(EXCHANGE_FORMATS) == sorted(FORMATS)


# What the tools do


def read_one(to: str, files: dict[str, Any], folder: Path, size=(4, 6)) -> np.ndarray:
    labels = labels_of()
    source = source_of(files, folder)
    (found,) = EXCHANGE_FORMATS.build(to).read(source, labels)
    return paint(found.shapes, labels.ids, size, found.where)


def cvat_xml(*shapes: str) -> dict[str, bytes]:
    image = f'<image id="0" name="x-{TAG}.png" width="6" height="4">{"".join(shapes)}</image>'
    return {"annotations.xml": f"<annotations>{image}</annotations>".encode()}


def cvat_mask(label: str, z: int, rle: str = "0, 24", box=(0, 0, 6, 4)) -> str:
    left, top, width, height = box
    return (
        f'<mask label="{label}" rle="{rle}" left="{left}" top="{top}" width="{width}" '
        f'height="{height}" z_order="{z}"/>'
    )


def test_cvat_paints_by_z_order_then_by_place(tmp_path: Path) -> None:
    found = read_one(
        "cvat",
        cvat_xml(
            cvat_mask("traffic light", 2, "0, 2", (1, 1, 2, 1)),
            cvat_mask("road", 0),
            '<box label="background" xtl="0" ytl="3.0" xbr="6" ybr="4" z_order="1"/>',
            cvat_mask(ASK, 1, "0, 1, 1, 1", (0, 0, 3, 1)),
            '<tag label="anything"/>',
        ),
        tmp_path,
    )
    assert found.tolist() == [[8, 1, 8, 1, 1, 1], [1, 2, 2, 1, 1, 1], [1] * 6, [6] * 6]


def test_cvat_reads_the_shapes_of_its_rest_interface(tmp_path: Path) -> None:
    shapes = [
        {"type": "mask", "frame": 1, "label_id": 71, "z_order": 1, "points": [0, 1, 2, 1, 2, 1]},
        {"type": "rectangle", "frame": 1, "label_id": 70, "z_order": 0, "points": [0, 0, 6.0, 2]},
    ]
    files = {
        "annotations.json": json.dumps({"version": 0, "shapes": shapes, "tracks": []}).encode(),
        "labels.json": b'{"results": [{"id": 70, "name": "road"}, {"id": 71, "name": "__void__"}]}',
    }
    with pytest.raises(DataError, match="add the JSON of data/meta"):
        read_one("cvat", files, tmp_path)
    frame = {"name": f"x-{TAG}.png", "width": 6, "height": 4}
    files["meta.json"] = json.dumps({"frames": [frame, frame]}).encode()
    found = read_one("cvat", files, tmp_path)
    assert found.tolist() == [[1] * 6, [1, 1, 7, 1, 1, 1], [0] * 6, [0] * 6]
    del files["labels.json"]
    with pytest.raises(DataError, match="label_id 70 has no name"):
        read_one("cvat", files, tmp_path)


def ls_task(*results: dict[str, Any], **more: Any) -> dict[str, bytes]:
    frame = {"original_width": 6, "original_height": 4, "image_rotation": 0}
    done = [{**frame, **result} for result in results]
    data = {"id": 12, "text": "unrelated", "image": f"/data/upload/2/ab12cd34-x-{TAG}.png"}
    task = {"id": 1, "data": data, "annotations": [{"result": done}], **more}
    return {"project-1.json": json.dumps([task]).encode()}


def test_label_studio_rectangles_are_read_where_they_are_exact(tmp_path: Path) -> None:
    value = {"x": 100 / 6, "y": 25, "width": 50, "height": 50, "rotation": 0}
    one = {"type": "rectanglelabels", "value": {**value, "rectanglelabels": ["road"]}}
    found = read_one("label-studio", ls_task(one), tmp_path)
    assert found.tolist() == [[0] * 6, [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0] * 6]
    one["value"]["width"] = 51
    with pytest.raises(DataError, match=r"a rectangle of 'road' is no mask.*save it as a mask"):
        read_one("label-studio", ls_task(one), tmp_path)


def test_label_studio_reads_neither_predictions_nor_what_was_cancelled(tmp_path: Path) -> None:
    labels = labels_of()
    prediction = predictions(picture(np.ones((4, 6), int), labels))
    assert prediction["result"][0]["value"]["brushlabels"] == ["road"]
    for files in (
        ls_task(annotations=[], predictions=[prediction]),
        ls_task(annotations=[{**prediction, "was_cancelled": True}]),
        ls_task({"type": "choices", "value": {"choices": ["a"]}}),
    ):
        source = source_of(files, tmp_path)
        assert list(EXCHANGE_FORMATS.build("label-studio").read(source, labels)) == []


def test_voc_is_read_by_colour_or_by_number(tmp_path: Path) -> None:
    labels = labels_of()
    numbers = HARD["noise"]
    files = EXCHANGE_FORMATS.build("voc").export(Package(labels, [picture(numbers, labels)]))
    (name,) = (n for n in files if n.startswith("SegmentationClass/"))
    palette = np.zeros((256, 3), np.uint8)
    palette[40 : 40 + len(labels.names)] = labels.colours[::-1]
    moved = np.where(numbers > 0, 40 + len(labels.names) - numbers, 0).astype(np.uint8)
    stored = np.select([numbers == 7, numbers == 8], [255, 7], numbers).astype(np.uint8)
    rgb = np.array([(0, 0, 0), *labels.colours], np.uint8)[numbers]
    alpha = np.dstack([rgb, np.full(numbers.shape, 255, np.uint8)])
    for data in (png(moved, palette=palette.ravel().tolist()), png(stored), png(rgb), png(alpha)):
        found = read_one("voc", {**files, name: data}, tmp_path, numbers.shape)
        assert np.array_equal(found, numbers)
    del files["labelmap.txt"]
    assert np.array_equal(read_one("voc", files, tmp_path, numbers.shape), numbers)
    rgb[4, 5] = (1, 2, 3)
    with pytest.raises(DataError, match=r"\[1, 2, 3\] at row 4, column 5 is no label"):
        read_one("voc", {**files, name: png(rgb)}, tmp_path, numbers.shape)


def labelme(**shape: Any) -> dict[str, bytes]:
    content = {"imagePath": f"x-{TAG}.png", "imageHeight": 4, "imageWidth": 6, "shapes": [shape]}
    return {"x.json": json.dumps(content).encode()}


def coco(**annotation: Any) -> dict[str, bytes]:
    image = {"id": 3, "file_name": f"x-{TAG}.png", "height": 4, "width": 6}
    done = {"image_id": 3, "category_id": 1, **annotation}
    content = {"images": [image], "annotations": [done], "categories": [{"id": 1, "name": "road"}]}
    return {"x.json": json.dumps(content).encode()}


def supervisely(**one: Any) -> dict[str, bytes]:
    content = {"size": {"height": 4, "width": 6}, "objects": [{"classTitle": "road", **one}]}
    return {f"ds/ann/x-{TAG}.png.json": json.dumps(content).encode()}


POLYGON = [[0, 0], [5, 0], [5, 3]]
WRONG = [
    ("cvat", cvat_xml('<polygon label="road" points="0,0;5,0;5,3"/>'), "a polygon of 'road'"),
    ("cvat", cvat_xml('<box label="road" xtl="0.5" ytl="0" xbr="2" ybr="2"/>'), "a box of 'road'"),
    ("cvat", cvat_xml(cvat_mask("bus", 0)), "label 'bus' is no class"),
    ("cvat", cvat_xml(cvat_mask("road", 0, "1, 24")), "25 pixels in all, for 24"),
    ("cvat", cvat_xml(cvat_mask("road", 0, "0, x")), "no numbers"),
    (
        "cvat",
        cvat_xml(cvat_mask("road", 0, "0, 6", (3, 0, 6, 1))),
        "columns 3 to 8.*not lie",
    ),
    ("cvat", cvat_xml(cvat_mask("road", 0, "0", (0, 0, 10**9, 10**9))), "has a box of"),
    ("cvat", {"annotations.xml": b"<annotations><image"}, "cannot be read"),
    ("cvat", {"annotations.xml": b"<a/>"}, "not of CVAT"),
    ("cvat", {"annotations.xml": b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>"}, "entities"),
    ("cvat", {"annotations.xml": b"<annotations><track/></annotations>"}, "of a video"),
    ("coco", coco(segmentation=[[0, 0, 5, 0, 5, 3]]), "a polygon of 'road'"),
    ("coco", coco(bbox=[0, 0, 1, 1]), "a box of 'road'"),
    ("coco", coco(category_id=7), "category 7"),
    ("coco", coco(image_id=7), "an annotation is of image 7"),
    (
        "coco",
        coco(segmentation={"size": [6, 4], "counts": [24]}),
        r"\[6, 4\], its image \[4, 6",
    ),
    ("coco", coco(segmentation={"size": [4, 6], "counts": [23]}), "23 pixels in all, for 24"),
    ("coco", {"x.json": b"[1, 2"}, "x.json is not JSON"),
    ("coco", {"x.json": b"[" * 100_000}, "nested too deeply|not JSON"),
    ("labelme", labelme(label="road", points=POLYGON, shape_type="polygon"), "a polygon of 'road'"),
    ("labelme", labelme(label="road", points=POLYGON), "a polygon of 'road'"),
    ("labelme", labelme(label="road", points=POLYGON, shape_type="mask", mask=""), "has corners"),
    (
        "labelme",
        labelme(
            label="road",
            points=[[0, 0], [2, 2]],
            shape_type="mask",
            mask="iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5E"
            "rkJggg==",
        ),
        "has 1 rows and 1 columns, its corners 3 and 3",
    ),
    ("supervisely", supervisely(geometryType="polygon", points={}), "a polygon of 'road'"),
    ("supervisely", supervisely(bitmap={"data": "?", "origin": [0, 0]}), "is not base64"),
    (
        "label-studio",
        ls_task({"type": "polygonlabels", "value": {"points": POLYGON, "polygonlabels": ["road"]}}),
        "a polygon of 'road'",
    ),
    (
        "label-studio",
        ls_task({"type": "brushlabels", "image_rotation": 90, "value": {}}),
        "the image was rotated",
    ),
    (
        "label-studio",
        ls_task({"type": "brushlabels", "value": {"rle": [], "brushlabels": ["road", "a"]}}),
        "give it one label",
    ),
    (
        "label-studio",
        ls_task({"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["road"]}}),
        "the mask of 'road' ends early",
    ),
    ("label-studio", {"x.json": b'[{"image": "x.png", "label": []}]'}, "not JSON-MIN"),
    ("voc", {"SegmentationClass/x.png": b"GIF89a"}, "is not a PNG"),
    ("voc", {"SegmentationClass/x.png": png(np.full((4, 6), 99, np.uint8))}, "99 at row 0"),
    ("voc", {"labelmap.txt": b"road", "x.png": b""}, "'road' is not NAME:R,G,B::"),
]


@pytest.mark.parametrize(("to", "files", "message"), WRONG, ids=[f"{w[0]}: {w[2]}" for w in WRONG])
def test_what_cannot_be_exact_or_is_damaged_is_refused_in_one_line(
    to: str, files: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_one(to, files, tmp_path)
    assert "\n" not in str(caught.value)
    assert "x.zip" in str(caught.value)


def test_shapes_paint_over_each_other_in_their_order() -> None:
    one, two = np.ones((2, 2), bool), np.array([[True, False]])
    shapes = [Shape("road", one), Shape("background", two, top=1)]
    assert paint(shapes, labels_of().ids, (2, 3), "x").tolist() == [[1, 1, 0], [6, 1, 0]]
    assert paint(shapes[::-1], labels_of().ids, (2, 3), "x").tolist() == [[1, 1, 0], [1, 1, 0]]
