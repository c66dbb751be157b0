"""labelme: one JSON beside each image, with masks as PNG in base64."""

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

VERSION = "5.5.0"
"""Of labelme, whose files these are like."""


@EXCHANGE_FORMATS.register("labelme")
class Labelme(ExchangeFormat):
    """Later shapes lie on top. The corners of a mask belong to it."""

    def export(self, package: Package) -> Files:
        files: Files = {"labels.txt": "".join(f"{n}\n" for n in package.labels.names).encode()}
        for picture in package.pictures:
            files[picture.file] = picture.content
            height, width = picture.size
            content: JSON = {
                "version": VERSION,
                "flags": {},
                "shapes": [_written(shape) for shape in picture.shapes()],
                "imagePath": picture.file,
                "imageData": None,
                "imageHeight": height,
                "imageWidth": width,
            }
            name = str(PurePosixPath(picture.file).with_suffix(".json"))
            files[name] = json.dumps(content, indent=1, ensure_ascii=False).encode()
        return files

    def recognises(self, source: Source) -> bool:
        return any(_is_labelme(content) for content in source.peek())

    def read(self, source: Source, labels: Labels) -> Iterator[Annotated]:
        for name, content in source.jsons():
            where = source.where(name)
            if not _is_labelme(content):
                raise DataError(f"{where} is not of labelme: it has no shapes and imagePath")
            get = Reader(content, where)
            size = (get("imageHeight", reading.integer), get("imageWidth", reading.integer))
            shapes = get("shapes", reading.list_of(reading.mapping))
            file = get("imagePath", reading.text)
            yield Annotated(file, size, _shapes(shapes, labels, size, where), where)


def _is_labelme(content: object) -> bool:
    return isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)


def _written(shape: Shape) -> JSON:
    top, left, bottom, right = shape.box
    return {
        "label": shape.label,
        "points": [[float(left), float(top)], [float(right - 1), float(bottom - 1)]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": bitmap.encode_labelme(shape.mask),
    }


def _shapes(
    shapes: Sequence[JSON], labels: Labels, size: tuple[int, int], where: str
) -> Iterator[Shape]:
    for shape in shapes:
        get = Reader(shape, where)
        label = labels.find(shape.get("label"), where)
        kind = get("shape_type", reading.text, "polygon")
        if kind != "mask":
            raise refuse(where, kind, label)
        corners = get("points", reading.list_of(reading.list_of(reading.number)))
        with mask_of(label, where):
            if [len(corner) for corner in corners] != [2, 2] or any(
                value != round(value) for corner in corners for value in corner
            ):
                raise ValueError(f"has corners {corners!s:.80}, not two of whole numbers")
            (left, top), (right, bottom) = ((int(x), int(y)) for x, y in corners)
            mask = bitmap.decode_labelme(get("mask", reading.text), size)
            if mask.shape != (bottom - top + 1, right - left + 1):
                raise ValueError(
                    f"has {mask.shape[0]} rows and {mask.shape[1]} columns, its corners "
                    f"{bottom - top + 1} and {right - left + 1}"
                )
        yield Shape(label, mask, top, left)
