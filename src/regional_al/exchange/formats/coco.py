"""COCO: `annotations.json` with run lengths, one annotation per label and image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

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
    cropped,
    mask_of,
    refuse,
)
from ..codecs import coco
from ..labels import Labels


@EXCHANGE_FORMATS.register("coco")
class Coco(ExchangeFormat):
    """Read and written with `iscrowd` 1, as COCO marks run lengths; later annotations on top."""

    def export(self, package: Package) -> Files:
        files: Files = {}
        images: list[JSON] = []
        annotations: list[JSON] = []
        for number, picture in enumerate(package.pictures, 1):
            files[f"images/{picture.file}"] = picture.content
            height, width = picture.size
            images.append(
                {"id": number, "file_name": picture.file, "width": width, "height": height}
            )
            for shape in picture.shapes():
                top, left, bottom, right = shape.box
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": package.labels.ids[shape.label],
                        "segmentation": coco.encode(shape.full(picture.size)),
                        "area": int(shape.mask.sum()),
                        "bbox": [left, top, right - left, bottom - top],
                        "iscrowd": 1,
                    }
                )
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for name, number in package.labels.ids.items()
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        files["annotations.json"] = json.dumps(content, ensure_ascii=False).encode()
        return files

    def recognises(self, source: Source) -> bool:
        return any(_is_coco(content) for content in source.peek())

    def read(self, source: Source, labels: Labels) -> Iterator[Annotated]:
        found = [(name, content) for name, content in source.jsons() if _is_coco(content)]
        if not found:
            raise DataError(f"{source.title} has no JSON with images, annotations and categories")
        for name, content in found:
            where = source.where(name)
            names: dict[int, str] = {}
            for category in Reader(content, where)("categories", reading.list_of(reading.mapping)):
                get = Reader(category, f"{where}: categories")
                names[get("id", reading.integer)] = get("name", reading.text)
            by_image: dict[int, list[JSON]] = {}
            for annotation in Reader(content, where)(
                "annotations", reading.list_of(reading.mapping)
            ):
                number = Reader(annotation, f"{where}: annotations")("image_id", reading.integer)
                by_image.setdefault(number, []).append(annotation)
            for image in Reader(content, where)("images", reading.list_of(reading.mapping)):
                get = Reader(image, f"{where}: images")
                size = (get("height", reading.integer), get("width", reading.integer))
                file = get("file_name", reading.text)
                here = f"{where}: image {file!r}"
                mine = by_image.pop(get("id", reading.integer), [])
                yield Annotated(file, size, _shapes(mine, names, labels, size, here), here)
            if by_image:
                raise DataError(f"{where}: an annotation is of image {min(by_image)}, which is not"
                                " among its images")  # fmt: skip


def _is_coco(content: object) -> bool:
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)


def _shapes(
    annotations: Sequence[JSON],
    names: dict[int, str],
    labels: Labels,
    size: tuple[int, int],
    where: str,
) -> Iterator[Shape]:
    for annotation in annotations:
        get = Reader(annotation, where)
        category = get("category_id", reading.integer)
        if category not in names:
            raise DataError(f"{where}: category {category} is not among its categories")
        label = labels.find(names[category], where)
        segmentation = annotation.get("segmentation")
        if not isinstance(segmentation, dict):
            raise refuse(where, "polygon" if segmentation else "box", label)
        with mask_of(label, where):
            if segmentation.get("size") != list(size):
                raise ValueError(
                    f"has size {segmentation.get('size')!s:.40}, its image {list(size)}"
                    " (height, width)"
                )
            shape = cropped(label, coco.decode(segmentation.get("counts", ()), size))
        if shape is not None:
            yield shape
