"""Supervisely: a project with `meta.json` and one JSON per image, with bitmaps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

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
    refuse,
)
from ..codecs import bitmap
from ..labels import Labels

DATASET = "images"


@EXCHANGE_FORMATS.register("supervisely")
class Supervisely(ExchangeFormat):
    """Later objects lie on top."""

    def export(self, package: Package) -> Files:
        labels = package.labels
        classes = [
            {"title": name, "shape": "bitmap", "color": "#{:02X}{:02X}{:02X}".format(*colour)}
            for name, colour in zip(labels.names, labels.colours, strict=True)
        ]
        meta = {"classes": classes, "tags": [], "projectType": "images"}
        files: Files = {"meta.json": json.dumps(meta, indent=1, ensure_ascii=False).encode()}
        for picture in package.pictures:
            files[f"{DATASET}/img/{picture.file}"] = picture.content
            height, width = picture.size
            content = {
                "description": "",
                "tags": [],
                "size": {"height": height, "width": width},
                "objects": [_written(shape) for shape in picture.shapes()],
            }
            name = f"{DATASET}/ann/{picture.file}.json"
            files[name] = json.dumps(content, indent=1, ensure_ascii=False).encode()
        return files

    def recognises(self, source: Source) -> bool:
        return any(_is_annotation(content) for content in source.peek())

    def read(self, source: Source, labels: Labels) -> Iterator[Annotated]:
        empty = True
        for name, content in source.jsons():
            if not _is_annotation(content):
                continue
            empty, where = False, source.where(name)
            get = Reader(content, where)
            box = Reader(get("size", reading.mapping), where)
            size = (box("height", reading.integer), box("width", reading.integer))
            objects = get("objects", reading.list_of(reading.mapping))
            file = PurePosixPath(name).name.removesuffix(".json")
            yield Annotated(file, size, _shapes(objects, labels, size, where), where)
        if empty:
            raise DataError(f"{source.title} has no JSON with size and objects of an image")


def _is_annotation(content: object) -> bool:
    return isinstance(content, dict) and {"size", "objects"} <= set(content)


def _written(shape: Shape) -> JSON:
    return {
        "classTitle": shape.label,
        "description": "",
        "tags": [],
        "geometryType": "bitmap",
        "bitmap": {
            "data": bitmap.encode_supervisely(shape.mask),
            "origin": [shape.left, shape.top],
        },
    }


def _shapes(
    objects: Sequence[JSON], labels: Labels, size: tuple[int, int], where: str
) -> Iterator[Shape]:
    for one in objects:
        get = Reader(one, where)
        label = labels.find(one.get("classTitle"), where)
        kind = get("geometryType", reading.text, "bitmap")
        if kind != "bitmap" or "bitmap" not in one:
            raise refuse(where, kind, label)
        inner = Reader(get("bitmap", reading.mapping), where)
        with mask_of(label, where):
            origin = inner("origin", reading.list_of(reading.integer))
            if len(origin) != 2:
                raise ValueError(f"has origin {origin!s:.80}, not two numbers")
            mask = bitmap.decode_supervisely(inner("data", reading.text), size)
        yield Shape(label, mask, origin[1], origin[0])
