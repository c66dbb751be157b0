"""CVAT: `annotations.xml` of "CVAT for images 1.1"; reads the JSON of its REST interface, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...errors import DataError
from ...store import reading
from ...store.reading import Reader
from ...types import JSON
from ..archive import Source
from ..base import (
    EXCHANGE_FORMATS,
    Annotated,
    ExchangeFormat,
    Files,
    Package,
    Shape,
    mask_of,
    rectangle,
    refuse,
)
from ..codecs import cvat
from ..labels import ASK, Labels

_NO_SHAPES = {"tag", "attribute"}


@EXCHANGE_FORMATS.register("cvat")
class Cvat(ExchangeFormat):
    """Shapes lie in the order of `z_order`, then of the file."""

    def export(self, package: Package) -> Files:
        labels = package.labels
        root = ElementTree.Element("annotations")
        ElementTree.SubElement(root, "version").text = "1.1"
        files: Files = {}
        for number, picture in enumerate(package.pictures):
            files[f"images/{picture.file}"] = picture.content
            height, width = picture.size
            image = ElementTree.SubElement(
                root,
                "image",
                id=str(number),
                name=picture.file,
                width=str(width),
                height=str(height),
            )
            for shape in picture.shapes():
                top, left, bottom, right = shape.box
                ElementTree.SubElement(
                    image,
                    "mask",
                    label=shape.label,
                    source="file",
                    occluded="0",
                    rle=", ".join(map(str, cvat.encode(shape.mask))),
                    left=str(left),
                    top=str(top),
                    width=str(right - left),
                    height=str(bottom - top),
                    z_order="1" if shape.label == ASK else "0",
                )
        ElementTree.indent(root)
        files["annotations.xml"] = ElementTree.tostring(
            root, encoding="utf-8", xml_declaration=True
        )
        described = [
            {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour), "attributes": []}
            for name, colour in zip(labels.names, labels.colours, strict=True)
        ]
        files["labels.json"] = json.dumps(described, indent=1, ensure_ascii=False).encode()
        return files

    def recognises(self, source: Source) -> bool:
        if any(b"<annotations" in source.head(name) for name in source.ending(".xml")):
            return True
        return any(list(_batches(content)) for content in source.peek())

    def read(self, source: Source, labels: Labels) -> Iterator[Annotated]:
        files = source.ending(".xml")
        for name in files:
            yield from _read_xml(source.read(name), source.where(name), labels)
        if not files:
            yield from _read_rest(source, labels)


def _read_xml(data: bytes, where: str, labels: Labels) -> Iterator[Annotated]:
    try:
        text = data.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it declares entities")
        root = ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError, RecursionError) as error:
        raise DataError(f"{where} cannot be read: {error}") from None
    if root.tag != "annotations":
        raise DataError(f"{where} is not of CVAT: its root is <{root.tag}>, not <annotations>")
    if root.find("track") is not None:
        raise DataError(f"{where} is of a video: export the format 'CVAT for images 1.1'")
    for image in root.iter("image"):
        file = image.get("name", "")
        here = f"{where}: image {file!r}"
        size = (_whole(image, "height", here), _whole(image, "width", here))
        elements = [child for child in image if child.tag not in _NO_SHAPES]
        elements.sort(key=lambda element: _whole(element, "z_order", here, 0))
        yield Annotated(file, size, _xml_shapes(elements, labels, size, here), here)


def _xml_shapes(
    elements: Sequence[ElementTree.Element], labels: Labels, size: tuple[int, int], where: str
) -> Iterator[Shape]:
    for element in elements:
        label = labels.find(element.get("label"), where)
        if element.tag == "mask":
            left, top, width, height = (
                _whole(element, key, where) for key in ("left", "top", "width", "height")
            )
            with mask_of(label, where):
                if not (0 <= width <= size[1] and 0 <= height <= size[0]):
                    raise ValueError(f"has a box of {height} rows and {width} columns")
                runs = _numbers(element.get("rle", ""))
                mask = cvat.decode(runs, (height, width))
            yield Shape(label, mask, top, left)
            continue
        shape = None
        if element.tag == "box" and _float(element, "rotation", where, 0.0) == 0:
            edges = [_float(element, key, where) for key in ("xtl", "ytl", "xbr", "ybr")]
            shape = rectangle(label, edges, size)
        if shape is None:
            raise refuse(where, element.tag, label)
        yield shape


def _numbers(text: str) -> Any:
    parts = text.split(",") if text.strip() else []
    try:
        return np.array(parts, dtype=np.float64)
    except ValueError:
        raise ValueError("has run lengths that are no numbers") from None


def _float(
    element: ElementTree.Element, key: str, where: str, default: float | None = None
) -> float:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
        if not np.isfinite(value):
            raise ValueError
    except ValueError:
        raise DataError(f"{where}: {key}={text!r} of a <{element.tag}> is no number") from None
    return value


def _whole(element: ElementTree.Element, key: str, where: str, default: int | None = None) -> int:
    value = _float(element, key, where, default)
    if value != round(value):
        raise DataError(f"{where}: {key}={value} of a <{element.tag}> is no whole number")
    return int(value)


# The REST interface and the SDK: annotations, frames (.../data/meta) and labels, in any files.


def _batches(content: object) -> Iterator[JSON]:
    """Collections of shapes in a JSON file."""
    for one in content if isinstance(content, list) else [content]:
        if not isinstance(one, dict) or "imagePath" in one:
            continue
        shapes = one.get("shapes")
        if isinstance(shapes, list) and all(isinstance(s, dict) and "frame" in s for s in shapes):
            yield one


def _read_rest(source: Source, labels: Labels) -> Iterator[Annotated]:
    frames: list[JSON] = []
    names: dict[int, str] = {}
    shapes: dict[int, list[JSON]] = {}
    for file, content in source.jsons():
        where = source.where(file)
        for batch in _batches(content):
            if batch.get("tracks"):
                raise DataError(f"{where} has tracks of a video, which are no masks of images")
            for shape in batch["shapes"]:
                number = Reader(shape, where)("frame", reading.integer)
                shapes.setdefault(number, []).append(shape)
        if not isinstance(content, dict):
            continue
        if isinstance(content.get("frames"), list):
            frames = Reader(content, where)("frames", reading.list_of(reading.mapping))
        for label in content.get("results") or content.get("labels") or ():
            if isinstance(label, dict) and isinstance(label.get("id"), int):
                names[label["id"]] = str(label.get("name"))
    if not shapes:
        raise DataError(f"{source.title} has neither annotations.xml nor shapes in JSON")
    if not frames:
        raise DataError(
            f"{source.title} does not say which image a frame is: add the JSON of data/meta, with"
            " its 'frames'"
        )
    for number in sorted(shapes):
        if not 0 <= number < len(frames):
            raise DataError(
                f"{source.title}: a shape is on frame {number}, there are {len(frames)}"
            )
        get = Reader(frames[number], f"{source.title}: frame {number}")
        size = (get("height", reading.integer), get("width", reading.integer))
        file = get("name", reading.text)
        where = f"{source.title}: image {file!r}"
        ordered = sorted(shapes[number], key=lambda shape: _z_order(shape, where))
        yield Annotated(file, size, _rest_shapes(ordered, names, labels, size, where), where)


def _z_order(shape: Mapping[str, Any], where: str) -> int:
    return int(Reader(shape, where)("z_order", reading.integer, 0))


def _rest_shapes(
    shapes: Sequence[JSON],
    names: Mapping[int, str],
    labels: Labels,
    size: tuple[int, int],
    where: str,
) -> Iterator[Shape]:
    for shape in shapes:
        get = Reader(shape, where)
        number = shape.get("label_id")
        if "label" not in shape and number not in names:
            raise DataError(
                f"{where}: label_id {number!r} has no name: add the JSON of the labels, with 'id' "
                "and 'name'"
            )
        label = labels.find(shape.get("label", names.get(number or 0)), where)
        kind = get("type", reading.text)
        found = None
        if kind == "mask":
            with mask_of(label, where):
                mask, top, left = cvat.from_points(shape.get("points") or (), size)
            found = Shape(label, mask, top, left)
        elif kind == "rectangle" and not shape.get("rotation"):
            edges = get("points", reading.list_of(reading.number))
            found = rectangle(label, edges, size) if len(edges) == 4 else None
        if found is None:
            raise refuse(where, kind, label)
        yield found
