"""Pascal VOC: one PNG with a palette per image and `labelmap.txt`, for editors of pixels.

0 = nothing, 1, 2, ... = the classes, then `__ask__`; 255 = void. Read by colour, so that an editor
may save RGB or number the palette anew; a grey PNG is read by number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from ...errors import DataError, UnsupportedError
from ...store.images import open_image
from ...types import U8
from ..archive import Source
from ..base import (
    EXCHANGE_FORMATS,
    Annotated,
    ExchangeFormat,
    Files,
    Package,
    Shape,
    cropped,
    paint,
)
from ..codecs import bitmap
from ..labels import ASK, VOID, Colour, Labels

FOLDER = "SegmentationClass"
VOID_ID = 255
_HEAD = "# label:color_rgb:parts:actions"
_UNKNOWN = 0xFFFF


@EXCHANGE_FORMATS.register("voc")
class Voc(ExchangeFormat):
    """At most 253 classes."""

    def export(self, package: Package) -> Files:
        labels = package.labels
        numbers = _numbers(labels)
        palette = np.zeros((256, 3), np.uint8)
        rows = [_HEAD, "background:0,0,0::"]
        for name, colour in zip(labels.names, labels.colours, strict=True):
            palette[numbers[name]] = colour
            rows.append(f"{name}:{','.join(map(str, colour))}::")
        files: Files = {"labelmap.txt": ("\n".join(rows) + "\n").encode()}
        names = []
        for picture in package.pictures:
            files[f"JPEGImages/{picture.file}"] = picture.content
            pixels = paint(picture.shapes(), numbers, picture.size, picture.file).astype(np.uint8)
            stem = PurePosixPath(picture.file).stem
            names.append(stem)
            png = bitmap.png_bytes(pixels, palette=palette.ravel().tolist())
            files[f"{FOLDER}/{stem}.png"] = png
        listed = "".join(f"{name}\n" for name in names)
        files["ImageSets/Segmentation/default.txt"] = listed.encode()
        return files

    def recognises(self, source: Source) -> bool:
        return bool(_masks(source))

    def read(self, source: Source, labels: Labels) -> Iterator[Annotated]:
        masks = _masks(source)
        if not masks:
            raise DataError(f"{source.title} has no PNG in {FOLDER}/")
        colours = _colours(source, labels)
        for name in masks:
            where = source.where(name)
            data = source.read(name)
            try:
                size = bitmap.png_size(data)
            except ValueError as error:
                raise DataError(f"{where} {error}") from None
            yield Annotated(name, size, _shapes(data, labels, colours, where), where)

    def pictures(self, source: Source) -> Iterable[str]:
        return set(source.names) - set(_masks(source))


def _numbers(labels: Labels) -> dict[str, int]:
    """Of each label in the PNG."""
    if labels.num_classes > 253:
        raise UnsupportedError(
            f"voc has room for 253 classes, the run has {labels.num_classes}: use another format"
        )
    numbers = {name: i + 1 for i, name in enumerate(labels.names[:-2])}
    return {**numbers, VOID: VOID_ID, ASK: labels.num_classes + 1}


def _masks(source: Source) -> list[str]:
    """The PNGs of a `SegmentationClass` folder; files without folders all are masks."""
    names = source.ending(".png")
    inside = [name for name in names if PurePosixPath(name).parent.name == FOLDER]
    return inside or [name for name in names if "/" not in name]


def _colours(source: Source, labels: Labels) -> dict[Colour, str | None]:
    """Label of each colour; None: nothing. By the labelmap.txt of the files, if there is one."""
    found: dict[Colour, str | None] = {(0, 0, 0): None}
    maps = [name for name in source.names if PurePosixPath(name).name == "labelmap.txt"]
    if not maps:
        return {**dict(zip(labels.colours, labels.names, strict=True)), **found}
    where = source.where(maps[0])
    try:
        lines = source.read(maps[0]).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8") from None
    for line in lines:
        parts = line.rsplit(":", 3)
        channels = parts[1].split(",") if len(parts) == 4 else []
        if len(channels) != 3 or not all(c.strip().isdecimal() for c in channels):
            if not line.strip() or line.startswith("#"):
                continue
            raise DataError(f"{where}: {line[:80]!r} is not NAME:R,G,B::")
        red, green, blue = (int(c) for c in channels)
        nothing = parts[0].strip() == "background" and "background" not in labels.ids
        if (red, green, blue) != (0, 0, 0):
            found[red, green, blue] = None if nothing else labels.find(parts[0], where)
    return found


def _shapes(
    data: bytes,
    labels: Labels,
    colours: Mapping[Colour, str | None],
    where: str,
) -> Iterator[Shape]:
    with open_image(Path(where), data) as image:
        if image.mode == "L":
            names: dict[int, str | None] = {n: name for name, n in _numbers(labels).items()}
            names[0] = None
            found = _by_number(np.array(image), names, labels, where)
        elif image.mode == "P" and "transparency" not in image.info:
            palette = image.getpalette("RGB") or []
            pixels = np.array(image)
            names = {}
            for number in np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist():
                triple = palette[3 * number : 3 * number + 3] or [-1, -1, -1]
                colour = (triple[0], triple[1], triple[2])
                if colour in colours:
                    names[number] = colours[colour]
            found = _by_number(pixels, names, labels, where)
        elif image.mode in ("P", "RGB", "RGBA"):
            found = _by_colour(np.array(image.convert("RGB")), colours, labels, where)
        else:
            raise DataError(f"{where} is a PNG of mode {image.mode}: save it with a palette")
    counts = np.bincount(found.ravel(), minlength=len(labels.names) + 1)
    for number in (np.flatnonzero(counts[1:]) + 1).tolist():
        shape = cropped(labels.names[number - 1], found == number)
        if shape is not None:
            yield shape


def _by_number(
    pixels: U8, names: Mapping[int, str | None], labels: Labels, where: str
) -> npt.NDArray[np.uint16]:
    table = np.full(256, _UNKNOWN, np.uint16)
    for number, name in names.items():
        table[number] = 0 if name is None else labels.ids[name]
    found = table[pixels]
    _refuse_unknown(found, pixels, where)
    return found


def _by_colour(
    pixels: U8, colours: Mapping[Colour, str | None], labels: Labels, where: str
) -> npt.NDArray[np.uint16]:
    table = np.full(1 << 24, _UNKNOWN, np.uint16)
    for (red, green, blue), name in colours.items():
        table[red << 16 | green << 8 | blue] = 0 if name is None else labels.ids[name]
    wide = pixels.astype(np.int32)
    found: npt.NDArray[np.uint16] = table[wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]]
    _refuse_unknown(found, pixels, where)
    return found


def _refuse_unknown(found: npt.NDArray[np.uint16], pixels: U8, where: str) -> None:
    wrong = np.argwhere(found == _UNKNOWN)
    if wrong.size:
        row, col = wrong[0].tolist()
        value = pixels[row, col].tolist()
        raise DataError(
            f"{where}: {value} at row {row}, column {col} is no label: paint without soft edges, "
            "in the colours of labelmap.txt"
        )
