"""What the values of masks mean: class ids, 0 and 255, entries of a palette, or colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import DataError
from ..runtime.progress import progress
from ..store.images import image_size, open_image
from ..types import I64, U8, UNLABELED

Kind = Literal["index", "binary", "grey", "rgb"]
RGB = tuple[int, int, int]
MOST_FILES = 1000
"""Masks that are looked at; of more, an even share."""
MOST_VALUES = 255
GREY = 0x10101
"""Code of a colour whose channels are 1."""
VOC_VOID = (224, 224, 192)
LOSSY = (".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Value:
    """A value that occurs in masks.

    Args:
        value: A grey value or palette index 0..65535, or RGB.
        pixels: How many have it.
        colour: RGB, of the palette or the value itself; None where there is none.

    Example:
        >>> Value(3, pixels=100, colour=(128, 0, 0)).value
        3
    """

    value: int | RGB
    pixels: int
    colour: RGB | None = None


@dataclass(frozen=True)
class Masks:
    """What masks contain.

    Args:
        kind: 'index': ids 0, 1, 2, ... as the library reads them (255: void); 'binary': 0 and 255;
            'grey': other numbers; 'rgb': colours.
        values: In ascending order.
        seen: Number of masks that were read, of `files`.
        files: Number of masks.
        indexed: They are palette images.
        coloured: The files have three channels.
        void: Values that are no class.

    Example:
        >>> Masks("index", (Value(0, 30), Value(1, 10)), seen=1, files=1).share(1)
        0.25
    """

    kind: Kind
    values: tuple[Value, ...]
    seen: int
    files: int
    indexed: bool = False
    coloured: bool = False
    void: tuple[int | RGB, ...] = ()

    def code(self, value: int | RGB) -> int:
        """The number by which `read_codes` gives a value."""
        if isinstance(value, int):
            return value * GREY if self.coloured else value
        return (value[0] << 16) + (value[1] << 8) + value[2]

    def share(self, place: int) -> float:
        """Share of the pixels, 0..1, that have the value at a place of `values`."""
        return self.values[place].pixels / max(1, sum(v.pixels for v in self.values))

    @property
    def what(self) -> str:
        """In a few words, for people."""
        words = {
            "index": "class ids",
            "binary": "0 and 255",
            "grey": "grey values that are no class ids",
            "rgb": "colours",
        }[self.kind]
        return f"palette images with {words}" if self.indexed else words


def read_codes(path: Path) -> tuple[I64, list[int] | None, bool]:
    """A mask as numbers: grey values or palette indices; of colours R * 65536 + G * 256 + B.

    Args:
        path: The file.

    Returns:
        int64 [H, W]; the palette [R, G, B, R, ...] or None; whether they are colours.

    Raises:
        DataError: It is missing, damaged, a lossy format, or of a kind that cannot hold a mask.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.store.images import write_png
        >>> with TemporaryDirectory() as folder:
        ...     write_png(Path(folder) / "a.png", np.array([[[0, 1, 2]]], np.uint8))
        ...     codes, palette, colours = read_codes(Path(folder) / "a.png")
        >>> codes.tolist(), palette, colours
        ([[258]], None, True)
    """
    if path.suffix.lower() in LOSSY:
        raise DataError(f"{path} is in a format that changes values: save the masks as PNG")
    with open_image(path) as image:
        mode = image.mode
        if mode in ("L", "1", "P") or mode.startswith("I"):
            ids = np.asarray(image).astype(np.int64)
            palette = image.getpalette() if mode == "P" else None
            return ids, palette, False
        if mode in ("LA", "PA"):
            return np.asarray(image)[..., 0].astype(np.int64), None, False
        if mode in ("RGB", "RGBA"):
            pixels = np.asarray(image).astype(np.int64)
            return (pixels[..., 0] << 16) + (pixels[..., 1] << 8) + pixels[..., 2], None, True
    raise DataError(f"{path} is an image of mode {mode}: save the masks as PNG, grey or RGB")


def recognise(paths: Sequence[Path], images: Sequence[Path] = ()) -> Masks:
    """Find out what the values of masks mean.

    Args:
        paths: The mask files, at least one.
        images: The image of each, whose size it must have; empty: sizes are not compared.

    Returns:
        The kind, and every value with its number of pixels.

    Raises:
        DataError: A mask cannot be read or has another size than its image, colours and ids are
            mixed, or there are too many or too few values.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.store.images import write_png
        >>> with TemporaryDirectory() as folder:
        ...     write_png(Path(folder) / "a.png", np.array([[0, 255, 255]], np.uint8))
        ...     masks = recognise([Path(folder) / "a.png"])
        >>> masks.kind, [value.pixels for value in masks.values]
        ('binary', [1, 2])
    """
    chosen = list(range(len(paths)))
    if len(paths) > MOST_FILES:
        chosen = [int(i) for i in np.linspace(0, len(paths) - 1, MOST_FILES)]
    counts: dict[int, int] = {}
    palette: list[int] | None = None
    coloured: tuple[bool, Path] | None = None
    for place in progress(chosen, "reading masks"):
        path = paths[place]
        codes, own, colours = read_codes(path)
        if images:
            _check_size(path, codes, images[place])
        if coloured is not None and coloured[0] != colours:
            raise DataError(
                f"{path} {'has colours' if colours else 'has grey values'}, unlike "
                f"{coloured[1]}: save all masks in the same way"
            )
        coloured, palette = coloured or (colours, path), palette or own
        found, many = np.unique(codes, return_counts=True)
        for value, number in zip(found.tolist(), many.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + number
        if len(counts) > MOST_VALUES + 1:
            raise DataError(
                f"{path}: the masks have more than {MOST_VALUES + 1} values, as images or softened "
                "edges have: save them with one value for each class, without antialiasing"
            )
    colours = bool(coloured and coloured[0])
    if colours and any(code % GREY for code in counts):
        kind: Kind = "rgb"
        split = {code: (code >> 16, code >> 8 & 255, code & 255) for code in sorted(counts)}
        values = tuple(Value(colour, counts[c], colour) for c, colour in split.items())
        void: tuple[int | RGB, ...] = (VOC_VOID,) if VOC_VOID in split.values() else ()
    else:
        grey = {code // GREY if colours else code: number for code, number in counts.items()}
        kind = _kind_of(set(grey))
        void = (UNLABELED,) if kind == "index" and UNLABELED in grey else ()
        kind = "grey" if colours and kind == "index" else kind  # which nobody reads as ids
        values = tuple(Value(v, grey[v], _entry(palette, v)) for v in sorted(grey))
    if len(values) - len(void) < 2:
        only = next(v.value for v in values if v.value not in void or len(values) == 1)
        raise DataError(
            f"all {len(chosen)} masks have the value {only} alone, such as {paths[0]}: there is "
            "nothing to tell apart"
        )
    return Masks(kind, values, len(chosen), len(paths), palette is not None, colours, void)


def _kind_of(values: set[int]) -> Kind:
    """Kind of masks of grey values or palette indices."""
    if values == {0, UNLABELED}:
        return "binary"
    ids = values - {UNLABELED}
    highest, many = max(ids, default=UNLABELED), len(ids)
    # A class that occurs nowhere leaves a gap; evenly spread grey values leave large ones.
    return "index" if highest < max(2 * many, 20) and highest < UNLABELED else "grey"


def _entry(palette: list[int] | None, index: int) -> RGB | None:
    entry = (palette or [])[3 * index : 3 * index + 3]
    return (entry[0], entry[1], entry[2]) if len(entry) == 3 else None


def _check_size(path: Path, codes: I64, image: Path) -> None:
    size = image_size(image)
    if codes.shape != size:
        raise DataError(
            f"{path} has {codes.shape[0]}x{codes.shape[1]} pixels, its image {image} "
            f"{size[0]}x{size[1]}: a mask needs the size of its image"
        )


def translated(codes: I64, table: dict[int, int], path: Any) -> U8:
    """The ids of a mask.

    Args:
        codes: int64 [H, W], as of `read_codes`.
        table: Code -> id 0..255.
        path: The file, for messages.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: A code that the table does not have.

    Example:
        >>> translated(np.array([[0, 255]]), {0: 0, 255: 1}, "a.png")
        array([[0, 1]], dtype=uint8)
    """
    found, inverse = np.unique(codes, return_inverse=True)
    unknown = [int(code) for code in found if int(code) not in table]
    if unknown:
        raise DataError(f"{path} has a value that no other mask has: {unknown[0]:#x}")
    ids = np.array([table[int(code)] for code in found], dtype=np.uint8)
    result: U8 = ids[inverse.reshape(codes.shape)]
    return result
