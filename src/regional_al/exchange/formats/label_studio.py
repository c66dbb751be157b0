"""Label Studio: `tasks.json` with predictions to import there; reads its JSON export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from urllib.parse import quote
from xml.etree import ElementTree

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
    Picture,
    Shape,
    cropped,
    mask_of,
    rectangle,
    refuse,
    tags_in,
)
from ..codecs import label_studio
from ..labels import Labels

CONTROL, IMAGE = "label", "image"
"""Names of the two tags of the labelling interface, and of the data key."""
MODEL_VERSION = "regional_al"
_WITHOUT_AREA = {"choices", "textarea", "rating", "number", "taxonomy", "datetime", "relation"}


@EXCHANGE_FORMATS.register("label-studio")
class LabelStudio(ExchangeFormat):
    """Regions lie in the order of the file; predictions are not read, annotations are."""

    def export(self, package: Package) -> Files:
        files: Files = {"label_config.xml": label_config(package.labels)}
        tasks = []
        for number, picture in enumerate(package.pictures, 1):
            files[f"images/{picture.file}"] = picture.content
            url = f"/data/local-files/?d=images/{quote(picture.file)}"
            tasks.append(
                {"id": number, "data": {IMAGE: url}, "predictions": [predictions(picture)]}
            )
        files["tasks.json"] = json.dumps(tasks, ensure_ascii=False).encode()
        return files

    def recognises(self, source: Source) -> bool:
        return any(
            all(isinstance(task, dict) for task in content)
            if isinstance(content, list)
            else isinstance(content, dict) and {"data", "annotations"} <= set(content)
            for content in source.peek()
        )

    def read(self, source: Source, labels: Labels) -> Iterator[Annotated]:
        for name, content in source.jsons():
            where = source.where(name)
            for task in reading_tasks(content, where):
                yield from _read_task(task, labels, where)


def label_config(labels: Labels) -> bytes:
    """The labelling interface: an image and a brush with all labels.

    Example:
        >>> b'<Label value="car"' in label_config(Labels.of(["car"], [(1, 2, 3)]))
        True
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true")
    brush = ElementTree.SubElement(view, "BrushLabels", name=CONTROL, toName=IMAGE)
    for name, colour in zip(labels.names, labels.colours, strict=True):
        value = "#{:02x}{:02x}{:02x}".format(*colour)
        ElementTree.SubElement(brush, "Label", value=name, background=value)
    ElementTree.indent(view)
    return bytes(ElementTree.tostring(view, encoding="utf-8"))


def predictions(picture: Picture, model_version: str = MODEL_VERSION, score: float = 0.0) -> JSON:
    """One prediction of Label Studio, as an import of tasks and an ML backend give it.

    Args:
        picture: The image and its shapes.
        model_version: Shown there.
        score: Shown there, too.

    Returns:
        `{'model_version', 'score', 'result': [...]}`.

    Example:
        >>> import numpy as np
        >>> shapes = lambda: [Shape("car", np.ones((1, 1), bool))]
        >>> found = predictions(Picture("a.png", (1, 2), b"", shapes))
        >>> found["result"][0]["value"]["brushlabels"], found["result"][0]["original_width"]
        (['car'], 2)
    """
    height, width = picture.size
    result = [
        {
            "id": f"{picture.file[-24:]}-{number}",
            "type": "brushlabels",
            "from_name": CONTROL,
            "to_name": IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": label_studio.encode(shape.full(picture.size)),
                "brushlabels": [shape.label],
            },
        }
        for number, shape in enumerate(picture.shapes())
    ]
    return {"model_version": model_version, "score": score, "result": result}


def reading_tasks(content: object, where: str) -> Sequence[JSON]:
    """The tasks of an export; a single one may stand alone. Raises DataError."""
    tasks: list[JSON] = []
    for task in content if isinstance(content, list) else [content]:
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise DataError(
                f"{where} is not the export of Label Studio that is called JSON (not JSON-MIN, COCO"
                " or PNG, which lose pixels): export again as JSON"
            )
        tasks.append(task)
    return tasks


def _read_task(task: JSON, labels: Labels, where: str) -> Iterator[Annotated]:
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    file = next((text for text in texts if tags_in(text)), texts[0] if texts else "")
    here = f"{where}: task {task.get('id')} ({file[-80:]!r})"
    given = task.get("annotations", task.get("completions"))
    if given is None:
        given = []
    for annotation in given if isinstance(given, list) else [given]:
        get = Reader(annotation, here)
        if annotation.get("was_cancelled"):
            continue
        areas = [
            one
            for one in get("result", reading.list_of(reading.mapping))
            if one.get("type") not in _WITHOUT_AREA
        ]
        if areas:
            one = Reader(areas[0], here)
            size = (
                one("original_height", reading.integer),
                one("original_width", reading.integer),
            )
            yield Annotated(file, size, _shapes(areas, labels, size, here), here)


def _shapes(
    results: Sequence[JSON], labels: Labels, size: tuple[int, int], where: str
) -> Iterator[Shape]:
    for result in results:
        get = Reader(result, where)
        kind, value = str(result.get("type")), get("value", reading.mapping)
        if (
            get("original_height", reading.integer),
            get("original_width", reading.integer),
        ) != size:
            raise DataError(f"{where}: its regions are of images of different sizes")
        if get("image_rotation", reading.number, 0):
            raise DataError(f"{where}: the image was rotated: turn it back before labelling")
        names = value.get(kind, value.get("brushlabels", value.get("labels")))
        if names is None and kind in ("brush", "rectangle"):
            continue  # the same region comes again, with its label
        if not isinstance(names, list) or len(names) != 1:
            raise DataError(f"{where}: a region has labels {names!r:.80}: give it one label")
        label = labels.find(names[0], where)
        shape = None
        if "rle" in value:
            with mask_of(label, where):
                if value.get("format", "rle") != "rle":
                    raise ValueError(f"has format {value['format']!r}, not 'rle'")
                shape = cropped(label, label_studio.decode(value["rle"], size))
            if shape is None:
                continue
        elif kind == "rectanglelabels" and not value.get("rotation"):
            box = Reader(value, where)
            x, y, width, height = (
                box(key, reading.number) for key in ("x", "y", "width", "height")
            )
            across, down = size[1] / 100, size[0] / 100
            edges = (x * across, y * down, (x + width) * across, (y + height) * down)
            shape = rectangle(label, edges, size)
        if shape is None:
            raise refuse(where, kind.removesuffix("labels"), label)
        yield shape
